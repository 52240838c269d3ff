// SPDX-License-Identifier: BSD-3-Clause
// butlerfsctl: the operator's hand. Exit status: 0 done, 1 not done, 2 wrong use.
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "config.h"
#include "fs/why.h"
#include "tools/ask.h"
#include "tools/find.h"
#include "tools/home.h"
#include "tools/objects.h"
#include "tools/print.h"
#include "tools/quota.h"

#define EXIT_NOT_DONE 1
#define EXIT_WRONG_USE 2
#define UPGRADE_LIMIT (40 * NS_PER_S)
#define ANSWER_CLEANUP cleanup(cleanup_doc_free) struct doc

struct command {
    const char *name, *arguments, *help;
    int count;     // of arguments
    bool has_json; // takes --json
    int (*run)(char **arguments, bool is_json, char **ret_why); // -errno with the line
    // Instead: takes all its words, options too. -EINVAL: wrong use.
    int (*run_words)(char **words, int count, char **ret_why);
};

// Takes an answer that isn't "ok" for the error it is.
static int take_answer(const struct target *t, int r, struct doc **answer_, struct doc **ret_answer, char **ret_why)
{
    ANSWER_CLEANUP *answer = take(*answer_);
    if (r < 0)
        return r;
    if (!doc_bool(doc_get(answer, "ok"), false)) {
        struct text error = doc_text(doc_get(answer, "error"), TEXT("refused"));
        return why(ret_why, -EPERM, "%s: %.*s", t->mountpoint, (int)error.size_bytes, error.data);
    }
    *ret_answer = take(answer);
    return 0;
}

static int ask_well(const struct target *t, struct doc *request, struct doc **ret_answer, char **ret_why)
{
    struct doc *answer = NULL;
    int r = ask(t, request, &answer, ret_why);
    doc_free(request);
    return take_answer(t, r, &answer, ret_answer, ret_why);
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

static int say_answer(const struct doc *answer, bool is_json, void (*print)(const struct doc *, struct buffer *))
{
    BUFFER_CLEANUP text = {};
    if (is_json) {
        doc_write_json(answer, true, &text);
        buffer_append_byte(&text, '\n');
    } else
        print(answer, &text);
    return say(&text);
}

static int run_status(char **arguments, bool is_json, char **ret_why)
{
    ANSWER_CLEANUP *answer = NULL;
    int r = ask_at(arguments[0], new_request("status"), &answer, ret_why);
    if (r < 0)
        return r;
    return say_answer(answer, is_json, print_status);
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

static int run_explain(char **arguments, bool is_json, char **ret_why)
{
    struct doc *answer = NULL;
    ANSWER_CLEANUP *explained = NULL, *request = new_request("explain");
    cleanup(target_release) struct target t = {};
    int r = target_find(arguments[0], &t, ret_why);
    if (r < 0)
        return r;
    r = take_answer(&t, ask_about(&t, request, &answer, ret_why), &answer, &explained, ret_why);
    if (r < 0)
        return r;
    doc_put_text(explained, "path", t.path);
    return say_answer(explained, is_json, print_explanation);
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
     1, true, run_status, NULL},
    {"log-level", "MOUNTPOINT error|warn|info|debug",
     "Changes what is logged, until the daemon starts again.\n"
     "For root and who mounted it.",
     2, false, run_log_level, NULL},
    {"upgrade", "MOUNTPOINT",
     "Puts the programs that are installed now in the place of the running ones;\n"
     "who uses the mount sees a pause. Returns when the new daemon answers.\n"
     "For root and who mounted it. Needs Linux 6.9.",
     1, false, run_upgrade, NULL},
    {"refresh", "PATH",
     "Looks now whether the repository changed, not only after `refresh=`.",
     1, false, run_refresh, NULL},
    {"explain", "PATH [--json]",
     "What a path is: collection, data ID, dataset, artifact, which member of a chain won;\n"
     "why it can't be read; or why there is no such path.\n"
     "--json: the same as one JSON map, for programs.",
     1, true, run_explain, NULL},
    {"find", "[-0] [--limit N] COLLECTION TYPE [EXPRESSION]",
     "The paths of a collection's datasets of a type, those that the expression is true of:\n"
     "  'visit.day_obs = 20241111 and detector in (1..10)'\n"
     "COLLECTION is its folder. In the expression: dimensions and their columns, and, or, not,\n"
     "= != < <= > >=, in (1, 2, 10..20:2), null, 'strings', numbers; as the Butler client's `where`.\n"
     "-0: with a NUL after each, for xargs -0. --limit: no more than N.",
     0, false, NULL, find_run},
    {"url", "[--put] PATH... [--expires TIME]",
     "Prints a URL by which anybody can read the object behind PATH, for 1h or for\n"
     "TIME (at most 7d). For who may read the path. It is as good as the object:\n"
     "give it to whom it is for. --put: to which anybody can write an object of that name,\n"
     "where you may make one.",
     0, false, NULL, url_run},
    {"warm", "[PATH...] [--pin] [--quiet] [-0]",
     "Brings the bytes of files, and of all files in folders, into the cache. Without\n"
     "PATH, or for -, names are read from standard input, a line each (-0: with NULs\n"
     "between). What is there is not fetched again: run it again to go on.\n"
     "--pin: it then stays until it is evicted.",
     0, false, NULL, warm_run},
    {"recall", "[PATH...] [--days N] [--wait] [--quiet] [-0]",
     "Asks for what is nearline (GLACIER and the like) of files, and of all files in folders:\n"
     "for copies that can be read, kept for N days (default: the option recall_days). It costs.\n"
     "Names as for warm. --wait: until all can be read, which may take hours; interrupting it\n"
     "leaves what was asked for as it is, and running it again goes on.",
     0, false, NULL, recall_run},
    {"evict", "PATH...",
     "Forgets what the cache keeps of files, pinned or not. For root and who mounted it.",
     0, false, NULL, evict_run},
    {"cache", "ls|verify|stats MOUNTPOINT [--json]",
     "ls: what is kept. verify: reads and checks all of it; what is bad is forgotten.\n"
     "stats: how much of disk and memory is used, what is on its way.\n"
     "For root and who mounted it.",
     0, false, NULL, cache_run},
    {"home", "create MOUNTPOINT NAME [SPACE]",
     "Makes the home of a user, or the folder of a group, as when it is first looked for:\n"
     "filled from the skeleton and theirs, where the option `provision` allows it. SPACE:\n"
     "which, if several make folders. For root and who mounted it.",
     0, false, NULL, home_run},
    {"quota", "set|report|check|repair|export|import MOUNTPOINT ...",
     "set MOUNTPOINT user|group|tree NAME [--soft-bytes 40G] [--hard-bytes 1.5T] [--soft-files 200k]\n"
     "    [--hard-files N] [--grace 7d] | --clear\n"
     "  limits of a user or group, by name or number, or `default`: of all who have none of their\n"
     "  own; of a folder, by its path. What isn't said stays; none: no limit; --clear: none of its own.\n"
     "report MOUNTPOINT [--json]: limits and usage. Users see their own and their groups'.\n"
     "check MOUNTPOINT: counts again what all files cost, and tells what differs; repair: takes it.\n"
     "export MOUNTPOINT: all limits as JSON; import MOUNTPOINT FILE: sets them (-: standard input).\n"
     "But for report, for root and who mounted it.",
     0, false, NULL, quota_run},
    {NULL, NULL, NULL, 0, false, NULL, NULL},
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
        if (c->run_words)
            continue;
        if (c->has_json && strcmp(arguments[i], "--json") == 0)
            is_json = true;
        else if (arguments[i][0] == '-')
            return wrong_use(usage.data);
        else
            arguments[plain++] = arguments[i];
    }
    if (plain != c->count)
        return wrong_use(usage.data);
    int r = c->run_words ? c->run_words(arguments, count, &reason) : c->run(arguments, is_json, &reason);
    if (r == -EINVAL && c->run_words)
        return wrong_use(reason ? reason : usage.data);
    if (r < 0)
        fprintf(stderr, "butlerfsctl: %s\n", reason ? reason : strerror(-r));
    return r < 0 ? EXIT_NOT_DONE : 0;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return wrong_use("a verb is needed");
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
