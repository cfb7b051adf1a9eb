/*
 * How long a thread looks before it sleeps: what it learns from sleeps that took how long.
 */
#include "hosted.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "cell/proc/wait.h"

static void short_sleeps_make_it_look_longer(void **state)
{
    struct patience p = {0};
    u32 last = 0;

    (void)state;
    patience_learn(&p, PATIENCE_MAX / 2);
    assert_int_equal(p.window, PATIENCE_START);
    for (int i = 0; i < 10; i++) {
        assert_true(p.window >= last && p.window <= PATIENCE_MAX);
        last = p.window;
        if (p.window < PATIENCE_MAX)
            patience_learn(&p, PATIENCE_MAX);
    }
    assert_int_equal(p.window, PATIENCE_MAX);
}

static void a_long_sleep_makes_it_sleep_at_once(void **state)
{
    struct patience p = {0};

    (void)state;
    patience_learn(&p, PATIENCE_MAX + 1);
    assert_int_equal(p.window, 0);
    assert_int_equal(p.penalty, 0); /* it did not look, so nothing was in vain */
    patience_learn(&p, 1);
    patience_learn(&p, PATIENCE_MAX + 1);
    assert_int_equal(p.window, 0);
    assert_int_equal(p.skip, 1);
    patience_learn(&p, 1);
    assert_int_equal(p.window, 0); /* skipped */
    patience_learn(&p, 1);
    assert_int_equal(p.window, PATIENCE_START);
}

/* Who waits for somebody that needs this very processor looks in vain each time, though its sleeps are short:
 * what that costs has to vanish. */
static void patience_in_vain_becomes_rare(void **state)
{
    struct patience p = {0};
    u64 looked = 0, sleeps = 20000;

    (void)state;
    for (u64 i = 0; i < sleeps; i++) {
        looked += p.window;
        patience_learn(&p, p.window + 5000);
    }
    assert_true(looked / sleeps < 3000);
    assert_int_equal(p.penalty, PATIENCE_PENALTY_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(short_sleeps_make_it_look_longer),
        cmocka_unit_test(a_long_sleep_makes_it_sleep_at_once),
        cmocka_unit_test(patience_in_vain_becomes_rare),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
