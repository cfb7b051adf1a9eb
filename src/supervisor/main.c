/*
 * `ironclaw up`.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/log.h"
#include "base/paths.h"
#include "config/config.h"
#include "supervisor/supervisor.h"

static const char help[] =
    "usage: ironclaw up [--state-dir DIR] [--config FILE] [--passphrase-file FILE]\n"
    "Starts the control plane in the foreground; ^C or SIGTERM stops it in order.\n"
    "\n"
    "  --state-dir DIR         everything it keeps (default /var/lib/ironclaw as root, else below "
    "~/.local/state)\n"
    "  --config FILE           YAML configuration (docs/configuration.md); default: all closed\n"
    "  --passphrase-file FILE  the passphrase that protects the master key\n"
    "\n"
    "The first start prints a one-time bootstrap token; exchange it with 'ironclaw token bootstrap TOKEN'.\n"
    "\n"
    "example: ironclaw up --state-dir /var/lib/ironclaw\n";

struct up_options {
    const char *state_dir, *config, *passphrase_file;
};

static int parse(int argc, char **argv, struct up_options *o, struct err *e)
{
    static const struct option options[] = {
        {"state-dir", 1, NULL, 's'}, {"config", 1, NULL, 'c'}, {"passphrase-file", 1, NULL, 'p'},
        {"help", 0, NULL, 'h'},      {NULL, 0, NULL, 0},
    };
    int id;

    opterr = 0;
    optind = argc > 1 && !strcmp(argv[1], "up") ? 2 : 1;
    while ((id = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (id == 's')
            o->state_dir = optarg;
        else if (id == 'c')
            o->config = optarg;
        else if (id == 'p')
            o->passphrase_file = optarg;
        else if (id == 'h') {
            (void)fputs(help, stdout);
            return 1;
        } else
            return err_set(e, EINVAL, "unknown option or missing value: '%s' (see 'ironclaw up --help')",
                           argv[optind - 1]);
    }
    return optind < argc
               ? err_set(e, EINVAL, "unexpected argument '%s' (see 'ironclaw up --help')", argv[optind])
               : 0;
}

static int read_passphrase(struct supervisor *s, const char *path, struct err *e)
{
    CLEANUP_FREE char *text = NULL;
    size_t len = 0;

    if (mlock(s->passphrase, sizeof(s->passphrase)) < 0)
        return err_sys(e, errno, "cannot lock memory for the passphrase");
    if (!path)
        return 0;
    if (io_read_file(AT_FDCWD, path, PASSPHRASE_MAX - 1, &text, &len, e) < 0)
        return -1;
    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r'))
        text[--len] = 0;
    memcpy(s->passphrase, text, len);
    s->passphrase_len = len;
    explicit_bzero(text, len);
    return len > 0 ? 0 : err_set(e, EINVAL, "%s is empty", path);
}

static int load_config(struct supervisor *s, const struct up_options *o, struct err *e)
{
    char dir[PATHS_MAX_LEN], cwd[PATHS_MAX_LEN / 2];
    const char *configured;

    s->config = config_load(o->config, e);
    if (!s->config)
        return -1;
    configured = json_string_value(json_object_get(s->config, "state_dir"));
    if (o->state_dir || !configured || !*configured) {
        if (!o->state_dir && paths_state_dir(dir, sizeof(dir), e) < 0)
            return -1;
        /* The processes run with other working directories. */
        if (o->state_dir && o->state_dir[0] != '/' && !getcwd(cwd, sizeof(cwd)))
            return err_sys(e, errno, "cannot find the current directory");
        if (o->state_dir &&
            !(o->state_dir[0] == '/' ? io_format(dir, sizeof(dir), "%s", o->state_dir)
                                     : io_format(dir, sizeof(dir), "%s/%s", cwd, o->state_dir)))
            return err_set(e, ENAMETOOLONG, "--state-dir: the path is too long");
        (void)json_object_set_new(s->config, "state_dir", json_string(dir));
    }
    s->state_dir = json_string_value(json_object_get(s->config, "state_dir"));
    return 0;
}

static void on_stop_signal(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    processes_stop(arg);
}

static int serve(struct supervisor *s, const struct up_options *o, struct err *e)
{
    static const int stop_signals[] = {SIGTERM, SIGINT, SIGHUP};

    if (load_config(s, o, e) < 0 || read_passphrase(s, o->passphrase_file, e) < 0 || state_open(s, e) < 0 ||
        sockets_open(s, e) < 0)
        return -1;
    s->base = event_base_new();
    if (!s->base)
        return err_set(e, ENOMEM, "cannot create the event loop");
    for (size_t i = 0; i < ARRAY_LEN(stop_signals); i++) {
        struct event *ev = evsignal_new(s->base, stop_signals[i], on_stop_signal, s);
        if (!ev || event_add(ev, NULL) < 0)
            return err_set(e, ENOMEM, "cannot watch for signals");
    }
    if (processes_start(s, e) < 0)
        return -1;
    return event_base_dispatch(s->base) < 0 ? err_set(e, EIO, "the event loop failed") : 0;
}

int main(int argc, char **argv)
{
    static struct supervisor s = {.api_socket = -1, .lock = -1};
    struct up_options o = {0};
    struct err e = ERR_INIT;
    struct rlimit files;
    int rc = parse(argc, argv, &o, &e);

    log_name("supervisor");
    if (rc > 0)
        return 0;
    if (rc < 0) {
        (void)fprintf(stderr, "ironclaw: %s\n", e.text);
        return 2;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    (void)umask(077);
    if (getrlimit(RLIMIT_NOFILE, &files) ==
        0) { /* inherited by the children, which hold several per session */
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    s.root = geteuid() == 0;
    s.notify_socket = getenv("NOTIFY_SOCKET");
    if (serve(&s, &o, &e) < 0) {
        (void)fprintf(stderr, "ironclaw: %s\n", e.text);
        s.status = 1;
    }
    sockets_close(&s);
    explicit_bzero(s.passphrase, sizeof(s.passphrase));
    return s.status;
}
