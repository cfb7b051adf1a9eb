/*
 * The configuration promises: every mistake is reported with its line and column, every default is the
 * documented one, and docs/configuration.md says what the table says.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "config/config.h"
#include "config/schema.h"
#include "config/url.h"

static json_t *parse(const char *text, struct err *e)
{
    *e = (struct err)ERR_INIT;
    return config_parse(text, strlen(text), "f", e);
}

static const struct mistake {
    const char *text;
    const char *error; /* how the sentence starts */
} mistakes[] = {
    {"four_eyes: true\ncolour: red\n", "f:2:1: unknown key 'colour'"},
    {"api:\n  rate_per_minut: 5\n",
     "f:2:3: unknown key 'rate_per_minut' in 'api'; did you mean rate_per_minute"},
    {"host_env: {TZ: UTC}\n", "f:1:1: unknown key 'host_env'"},
    {"listen[]: {}\n", "f:1:1: unknown key 'listen[]'"},
    {"api.rate_per_minute: 4\n", "f:1:1: unknown key 'api.rate_per_minute'"},
    {"four_eyes: true\nfour_eyes: false\n", "f:2:1: the key 'four_eyes' is there twice"},
    {"four_eyes: yes\n", "f:1:12: 'four_eyes' must be true or false"},
    {"four_eyes: \"true\"\n", "f:1:12: 'four_eyes' must be true or false"},
    {"four_eyes: [true]\n", "f:1:12: 'four_eyes' must be a single value, not a list"},
    {"api: 5\n", "f:1:6: 'api' must be a map of keys"},
    {"api: {rate_per_minute: 0}\n", "f:1:24: 'api.rate_per_minute' must be between 1 and 1000000"},
    {"api: {rate_per_minute: 1.5}\n", "f:1:24: 'api.rate_per_minute' must be an integer"},
    {"api: {rate_per_minute: 99999999999999999999}\n", "f:1:24: this integer does not fit"},
    {"uid_base: -1\n", "f:1:11: 'uid_base' must be between"},
    {"limits_max:\n  memory: 12Q\n", "f:2:11: 'limits_max.memory' must be a size"},
    {"limits_max:\n  memory: 1K\n", "f:2:11: 'limits_max.memory' must be between"},
    {"limits_max:\n  cpus: 1e999\n", "f:2:9: this number is out of range"},
    {"limits_max:\n  cpus: .nan\n", "f:2:9: 'limits_max.cpus' must be a number"},
    {"limits_default:\n  pids: 1000\n", "f:2:9: limits_default.pids (1000) is above limits_max.pids (512)"},
    {"limits_max:\n  pids: 8\n", "f:2:9: limits_default.pids (64) is above limits_max.pids (8)"},
    {"wall_minimum: paper\n",
     "f:1:15: 'wall_minimum' must be one of container|cell|gvisor|microvm, not 'paper'"},
    {"wall_minimum: container|cell\n", "f:1:15: 'wall_minimum' must be one of"},
    {"wall_minimum: cont\n", "f:1:15: 'wall_minimum' must be one of"},
    {"state_dir: var/lib\n", "f:1:12: 'state_dir' must be an absolute path"},
    {"mounts_allowed: [/srv/../etc]\n", "f:1:18: 'mounts_allowed[0]' must be an absolute path"},
    {"mounts_allowed: ['']\n", "f:1:18: 'mounts_allowed[0]' must be an absolute path"},
    {"mounts_allowed: /srv\n", "f:1:17: 'mounts_allowed' must be a list"},
    {"env_allowed: [TZ, 'A=B']\n", "f:1:19: 'env_allowed[1]' must be the name of an environment variable"},
    {"listen:\n  - address: localhost\n    certificate: /c\n    key: /k\n",
     "f:2:14: 'listen[0].address' must be a numeric IP address"},
    {"listen:\n  - port: 8443\n    key: /k\n", "f:2:5: the key 'certificate' is missing here"},
    {"providers:\n  local: {kind: openai, url: 'http://10.0.0.1:80'}\n",
     "f:2:30: 'providers.local.url' must use https://"},
    {"providers:\n  local: {kind: openai}\n", "f:2:10: the key 'url' is missing here"},
    {"providers:\n  Local: {kind: openai, url: 'https://x'}\n", "f:2:10: 'Local' is not a name"},
    {"providers:\n  mock: {kind: openai, url: 'https://x'}\n", "f:2:9: the provider 'mock' is built in"},
    {"tenants:\n  a: {wall: cell}\n", "f:2:7: unknown key 'wall' in 'tenants.*'"},
    {"a: &x 1\nb: *x\n", "f:1:4: anchors"},
    {"four_eyes: *x\n", "f:1:"},
    {"four_eyes: !!bool true\n", "f:1:12: tags"},
    {"%YAML 1.2\n---\nfour_eyes: true\n", "f:1:1: directives"},
    {"four_eyes: true\nx: \xff\n", "f:2:1: this line is not valid UTF-8"},
    {"four_eyes: true\nx: \x01\n", "f:2:4: there is a control character"},
    {"{[a]: 1}\n", "f:1:2: a key must be plain text"},
    {"four_eyes: true\n---\nfour_eyes: true\n", "f:2:1: a second document"},
    {"[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]", "f:1:17: nested deeper than the 16 levels"},
    {"- a\n- b\n", "f:1:1: 'the configuration' must be a map"},
    {"api: {rate_per_minute: 5\n", "f:"},
    {"\"a\\0b\": 1\n", "f:1:"},
    {"a: b: c\n", "f:1:"},
    {"\tfour_eyes: true\n", "f:1:"},
};

static void every_mistake_is_reported_where_it_is(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(mistakes); i++) {
        struct err e;
        json_t *conf = parse(mistakes[i].text, &e);
        if (conf || strncmp(e.text, mistakes[i].error, strlen(mistakes[i].error)) != 0)
            fail_msg("for:\n%s\nexpected: %s\ngot:      %s", mistakes[i].text, mistakes[i].error,
                     conf ? "(accepted)" : e.text);
    }
}

static void a_document_over_the_size_limit_is_refused(void **state)
{
    struct err e = ERR_INIT;
    size_t len = 256 * 1024 + 1;
    CLEANUP_FREE char *big = x_malloc(len);

    (void)state;
    memset(big, '#', len);
    assert_null(config_parse(big, len, "f", &e));
    assert_non_null(strstr(e.text, "larger than the 262144 bytes"));
    json_t *conf = config_parse(big, len - 1, "f", &e);
    assert_non_null(conf);
    json_decref(conf);
}

static void an_empty_file_gives_every_default_closed(void **state)
{
    static const char *const texts[] = {"", "\n", "# nothing\n", "{}", "api:\n", "providers:\n"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct err e;
        json_t *conf = parse(texts[i], &e);
        if (!conf)
            fail_msg("'%s': %s", texts[i], e.text);
        assert_int_equal(json_array_size(json_object_get(conf, "listen")), 0);
        assert_int_equal(json_array_size(json_object_get(conf, "mounts_allowed")), 0);
        assert_int_equal(json_array_size(json_object_get(conf, "env_allowed")), 0);
        assert_int_equal(json_integer_value(json_object_get(json_object_get(conf, "api"), "rate_per_minute")),
                         1200);
        assert_int_equal(json_object_size(json_object_get(conf, "providers")), 2);
        assert_true(json_is_false(json_object_get(conf, "four_eyes")));
        assert_non_null(json_object_get(json_object_get(conf, "tenants"), "default"));
        json_decref(conf);
    }
}

static void what_is_written_is_what_is_used(void **state)
{
    struct err e;
    json_t *conf =
        parse("state_dir: /srv/ironclaw\nlimits_max: {memory: 2G, cpus: 4}\nlimits_default: {memory: 64M}\n"
              "providers:\n  local: {kind: openai, url: 'http://127.0.0.1:11434'}\ntenants: {acme: {}}\n"
              "listen:\n  - {address: '::1', port: 9443, certificate: /c.pem, key: /k.pem}\n",
              &e);

    (void)state;
    if (!conf)
        fail_msg("%s", e.text);
    json_t *max = json_object_get(conf, "limits_max");
    assert_string_equal(json_string_value(json_object_get(conf, "state_dir")), "/srv/ironclaw");
    assert_int_equal(json_integer_value(json_object_get(max, "memory")), 2147483648);
    assert_true(json_real_value(json_object_get(max, "cpus")) == 4.0);
    assert_int_equal(json_integer_value(json_object_get(max, "pids")), 512);
    assert_int_equal(json_object_size(json_object_get(conf, "providers")), 3);
    assert_string_equal(json_string_value(json_object_get(
                            json_object_get(json_object_get(conf, "tenants"), "acme"), "wall_minimum")),
                        "container");
    assert_int_equal(
        json_integer_value(json_object_get(json_array_get(json_object_get(conf, "listen"), 0), "port")),
        9443);
    json_decref(conf);
}

static void every_default_passes_its_own_check(void **state)
{
    (void)state;
    for (size_t i = 0; i < config_nkeys; i++) {
        json_t *v;
        if (!config_keys[i].def)
            continue;
        v = json_loads(config_keys[i].def, JSON_DECODE_ANY, NULL);
        if (!v)
            fail_msg("the default of %s is not JSON", config_keys[i].path);
        json_decref(v);
    }
    struct err e;
    json_t *conf = parse("", &e), *again;
    CLEANUP_FREE char *text = NULL;
    assert_non_null(conf);
    (void)json_object_del(conf, "host_env");
    text = json_dumps(conf, 0);
    again = parse(text, &e);
    if (!again)
        fail_msg("%s", e.text);
    (void)json_object_del(again, "host_env");
    assert_true(json_equal(conf, again));
    json_decref(conf);
    json_decref(again);
}

static void plain_http_is_for_loopback_only(void **state)
{
    static const char *const good[] = {"https://api.example.com", "https://h:8443/v1",
                                       "http://127.0.0.1:1",      "http://[::1]:8080",
                                       "http://localhost/x",      "https://[2001:db8::1]/"};
    static const char *const bad[] = {"",
                                      "ftp://x",
                                      "https://",
                                      "http://example.com",
                                      "http://127.0.0.1.example.com",
                                      "http://localhost@example.com",
                                      "https://u:p@h",
                                      "https://h?x",
                                      "https://h#x",
                                      "https://h:0",
                                      "https://h:65536",
                                      "https://h:",
                                      "https://h h",
                                      "http://[::2]",
                                      "https://h/../x",
                                      "http://2130706433",
                                      "HTTP://127.0.0.1",
                                      "https://[::1",
                                      "http://0.0.0.0"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        if (url_check(good[i]))
            fail_msg("%s %s", good[i], url_check(good[i]));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (!url_check(bad[i]))
            fail_msg("%s was accepted", bad[i]);
}

static void yaml_becomes_json_without_surprises(void **state)
{
    struct err e = ERR_INIT;
    const char *text =
        "a: [1, -2, 1.5, yes, '7', 0x10, ~, null, true, \"x\\ny\"]\nb:\n  - c: |\n      two\n      lines\n";
    json_t *got = config_yaml_to_json(text, strlen(text), "f", &e);
    json_t *want = json_loads("{\"a\":[1,-2,1.5,\"yes\",\"7\",\"0x10\",null,null,true,\"x\\ny\"],"
                              "\"b\":[{\"c\":\"two\\nlines\\n\"}]}",
                              0, NULL);

    (void)state;
    if (!got)
        fail_msg("%s", e.text);
    assert_true(json_equal(got, want));
    json_decref(got);
    json_decref(want);
}

/* IRONCLAW_SOURCE is the source directory (set by meson). */
static void the_page_has_exactly_the_rows_of_the_table(void **state)
{
    struct err e = ERR_INIT;
    CLEANUP_FREE char *path = x_asprintf("%s/docs/configuration.md", getenv("IRONCLAW_SOURCE"));
    CLEANUP_FREE char *page = NULL;
    size_t rows = 0, expected = 0;

    (void)state;
    if (io_read_file(AT_FDCWD, path, 1 << 20, &page, NULL, &e) < 0)
        fail_msg("%s", e.text);
    for (size_t i = 0; i < config_nkeys; i++) {
        CLEANUP_FREE char *row = config_key_row(&config_keys[i]);
        if (!*config_keys[i].path)
            continue;
        expected++;
        if (!strstr(page, row))
            fail_msg(
                "docs/configuration.md lacks this row (paste the output of 'ironclaw config reference'):\n%s",
                row);
    }
    for (const char *p = page; (p = strstr(p, "\n| `")); p++)
        rows++;
    assert_int_equal(rows, expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_mistake_is_reported_where_it_is),
        cmocka_unit_test(a_document_over_the_size_limit_is_refused),
        cmocka_unit_test(an_empty_file_gives_every_default_closed),
        cmocka_unit_test(what_is_written_is_what_is_used),
        cmocka_unit_test(every_default_passes_its_own_check),
        cmocka_unit_test(plain_http_is_for_loopback_only),
        cmocka_unit_test(yaml_becomes_json_without_surprises),
        cmocka_unit_test(the_page_has_exactly_the_rows_of_the_table),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
