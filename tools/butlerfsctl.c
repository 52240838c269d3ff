// SPDX-License-Identifier: BSD-3-Clause
// butlerfsctl: the operator's hand. Exit status: 0 done, 1 not done, 2 wrong use.
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "config.h"
#include "fs/why.h"
#include "tools/ask.h"
#include "tools/print.h"

#define EXIT_NOT_DONE 1
#define EXIT_WRONG_USE 2
#define UPGRADE_LIMIT (40 * NS_PER_S)
#define ANSWER_CLEANUP cleanup(cleanup_doc_free) struct doc

struct command {
    const char *name, *arguments, *help;
    int count;     // of arguments
    bool has_json; // takes --json
    int (*run)(char **arguments, bool is_json, char **ret_why); // -errno with the line
};

// Asks, and takes an answer that isn't "ok" for the error it is.
static int ask_well(const struct target *t, struct doc *request, struct doc **ret_answer, char **ret_why)
{
    ANSWER_CLEANUP *answer = NULL;
    int r = ask(t, request, &answer, ret_why);
    doc_free(request);
    if (r < 0)
        return r;
    if (!doc_bool(doc_get(answer, "ok"), false)) {
        struct text error = doc_text(doc_get(answer, "error"), TEXT("refused"));
        return why(ret_why, -EPERM, "%s: %.*s", t->mountpoint, (int)error.size_bytes, error.data);
    }
    *ret_answer = take(answer);
    return 0;
}

static struct doc *new_request(const char *verb)
{
    struct doc *request = doc_new(DOC_MAP);
    doc_put_text(request, "verb", verb);
    return request;
}

static int ask_at(const char *path, struct doc *request, struct doc **ret_answer, char **ret_why)
{
    cleanup(target_release) struct target t = {};
    int r = target_find(path, &t, ret_why);
    if (r < 0) {
        doc_free(request);
        return r;
    }
    return ask_well(&t, request, ret_answer, ret_why);
}

static int say(const struct buffer *text)
{
    fwrite(text->data, 1, text->size_bytes, stdout);
    return fflush(stdout) == 0 ? 0 : -errno;
}

static int run_status(char **arguments, bool is_json, char **ret_why)
{
    ANSWER_CLEANUP *answer = NULL;
    int r = ask_at(arguments[0], new_request("status"), &answer, ret_why);
    if (r < 0)
        return r;
    BUFFER_CLEANUP text = {};
    if (is_json) {
        doc_write_json(answer, true, &text);
        buffer_append_byte(&text, '\n');
    } else
        print_status(answer, &text);
    return say(&text);
}

static int run_log_level(char **arguments, bool is_json, char **ret_why)
{
    ANSWER_CLEANUP *answer = NULL;
    struct doc *request = new_request("log-level");
    (void)is_json;
    doc_put_text(request, "level", arguments[1]);
    return ask_at(arguments[0], request, &answer, ret_why);
}

static int run_refresh(char **arguments, bool is_json, char **ret_why)
{
    ANSWER_CLEANUP *answer = NULL;
    cleanup(target_release) struct target t = {};
    (void)is_json;
    int r = target_find(arguments[0], &t, ret_why);
    if (r < 0)
        return r;
    struct doc *request = new_request("refresh");
    const char *below = t.path + (strcmp(t.mountpoint, "/") == 0 ? 0 : strlen(t.mountpoint));
    doc_put_text(request, "path", below[0] ? below : "/");
    return ask_well(&t, request, &answer, ret_why);
}

// Waits until another process answers than the one that was asked.
static int wait_for_next(const struct target *t, const struct doc *before, struct doc **ret_after,
                         char **ret_why)
{
    int64_t old = doc_integer(doc_get(before, "pid"), 0);
    int64_t deadline_ns = clock_ns() + UPGRADE_LIMIT;
    while (clock_ns() < deadline_ns) {
        ANSWER_CLEANUP *after = NULL;
        int r = ask_well(t, new_request("status"), &after, ret_why);
        if (r < 0)
            return r;
        if (doc_integer(doc_get(after, "pid"), 0) != old) {
            *ret_after = take(after);
            return 0;
        }
        usleep(50000);
    }
    return why(ret_why, -ETIMEDOUT, "%s: still served by process %lld: the supervisor refused the new program "
               "(the system's log says why)", t->mountpoint, (long long)old);
}

static int run_upgrade(char **arguments, bool is_json, char **ret_why)
{
    ANSWER_CLEANUP *before = NULL, *answer = NULL, *after = NULL;
    cleanup(target_release) struct target t = {};
    (void)is_json;
    int r = target_find(arguments[0], &t, ret_why);
    if (r >= 0)
        r = ask_well(&t, new_request("status"), &before, ret_why);
    if (r >= 0)
        r = ask_well(&t, new_request("upgrade"), &answer, ret_why);
    if (r >= 0)
        r = wait_for_next(&t, before, &after, ret_why);
    if (r < 0)
        return r;
    struct text from = doc_text(doc_get(before, "version"), TEXT("?"));
    struct text to = doc_text(doc_get(after, "version"), TEXT("?"));
    BUFFER_CLEANUP line = {};
    buffer_format(&line, "%s: version %.*s (pid %lld) -> %.*s (pid %lld)\n", t.mountpoint, (int)from.size_bytes,
                  from.data, (long long)doc_integer(doc_get(before, "pid"), 0), (int)to.size_bytes, to.data,
                  (long long)doc_integer(doc_get(after, "pid"), 0));
    return say(&line);
}

static const struct command commands[] = {
    {"status", "MOUNTPOINT [--json]",
     "What is mounted, in which modes, how fresh and how full.\n"
     "--json: the same as one JSON map, for programs.",
     1, true, run_status},
    {"log-level", "MOUNTPOINT error|warn|info|debug",
     "Changes what is logged, until the daemon starts again.\n"
     "For root and who mounted it.",
     2, false, run_log_level},
    {"upgrade", "MOUNTPOINT",
     "Puts the programs that are installed now in the place of the running ones;\n"
     "who uses the mount sees a pause. Returns when the new daemon answers.\n"
     "For root and who mounted it. Needs Linux 6.9.",
     1, false, run_upgrade},
    {"refresh", "PATH",
     "Looks now whether the repository changed, not only after `refresh=`.",
     1, false, run_refresh},
    {NULL, NULL, NULL, 0, false, NULL},
};

static void print_help(void)
{
    printf("Usage: butlerfsctl VERB ...\n\nAsks and steers a mounted butlerfs. Any path in the mount will do "
           "for MOUNTPOINT.\n\n");
    for (const struct command *c = commands; c->name; c++)
        printf("  butlerfsctl %s %s\n", c->name, c->arguments);
    printf("\nbutlerfsctl VERB --help says more; --version the version.\n");
}

static int wrong_use(const char *line)
{
    fprintf(stderr, "butlerfsctl: %s; butlerfsctl --help says more\n", line);
    return EXIT_WRONG_USE;
}

static int run_command(const struct command *c, char **arguments, int count)
{
    cleanup(cleanup_free) char *reason = NULL;
    bool is_json = false;
    int plain = 0;
    BUFFER_CLEANUP usage = {};
    buffer_format(&usage, "usage: butlerfsctl %s %s", c->name, c->arguments);
    for (int i = 0; i < count; i++) {
        if (strcmp(arguments[i], "--help") == 0 || strcmp(arguments[i], "-h") == 0) {
            printf("U%s\n\n%s\n", usage.data + 1, c->help);
            return 0;
        }
        if (c->has_json && strcmp(arguments[i], "--json") == 0)
            is_json = true;
        else if (arguments[i][0] == '-')
            return wrong_use(usage.data);
        else
            arguments[plain++] = arguments[i];
    }
    if (plain != c->count)
        return wrong_use(usage.data);
    int r = c->run(arguments, is_json, &reason);
    if (r < 0)
        fprintf(stderr, "butlerfsctl: %s\n", reason ? reason : strerror(-r));
    return r < 0 ? EXIT_NOT_DONE : 0;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return wrong_use("a verb is needed: status, log-level, upgrade or refresh");
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        return print_help(), 0;
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)
        return printf("butlerfsctl " BUTLERFS_VERSION "\n"), 0;
    for (const struct command *c = commands; c->name; c++)
        if (strcmp(argv[1], c->name) == 0)
            return run_command(c, argv + 2, argc - 2);
    BUFFER_CLEANUP line = {};
    buffer_format(&line, "no such verb: %s", argv[1]);
    return wrong_use(line.data);
}
