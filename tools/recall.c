// SPDX-License-Identifier: BSD-3-Clause
// recall: asks for files that are nearline. The daemon answers at once, with how far a file is; it is asked again, of each
// at pauses that grow with its age, until the origin has said yes or (--wait) the file can be read. Files are open only
// while they are asked about. Nothing is written down: what is under way is not asked for again, so that running it
// again goes on.
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "fs/why.h"
#include "tools/ask.h"
#include "tools/objects.h"
#include "tools/paths.h"
#include "tools/print.h"

#define ASKING_AT_ONCE 64          // that the daemon has not yet been given an answer for
#define ASK_FIRST_NS (NS_PER_S / 20)
#define ASK_LAST_NS (60 * NS_PER_S)
#define ANSWER_CLEANUP cleanup(cleanup_doc_free) struct doc

enum stage { STAGE_ASKING, STAGE_UNDER_WAY, STAGE_OVER };

struct file {
    char *path;
    enum stage stage;
    int64_t begun_ns, due_ns;
};

struct recall {
    struct doc *request;
    struct file *files; // those that are looked at again
    size_t count;
    size_t asking;      // of them
    uint64_t ready, under_way, failed; // under_way: not waited for
    int64_t begun_ns, shown_ns;
    bool is_quiet, waits;
};

static volatile sig_atomic_t is_interrupted;

static void interrupt(int signal)
{
    (void)signal;
    is_interrupted = 1;
}

static const char *line_start(void)
{
    return isatty(STDERR_FILENO) ? "\r\33[K" : "";
}

static void show(struct recall *w, bool is_end)
{
    BUFFER_CLEANUP time = {};
    int64_t now = clock_ns();
    if (w->is_quiet || (!is_end && (!isatty(STDERR_FILENO) || now < w->shown_ns + NS_PER_S / 5)))
        return;
    w->shown_ns = now;
    print_seconds((double)(now - w->begun_ns) / 1e9, &time);
    fprintf(stderr, "%s%" PRIu64 " files can be read, %" PRIu64 " under way, %zu being asked for, %" PRIu64 " failed, after %s%s",
            line_start(), w->ready, w->under_way + w->count - w->asking, w->asking, w->failed, time.data, is_end ? "\n" : "");
}

static void complain(const char *path, int error, void *context)
{
    struct recall *w = context;
    fprintf(stderr, "%sbutlerfsctl: %s: %s\n", line_start(), path, strerror(error));
    w->failed++;
}

// What the daemon says of it. STAGE_OVER: it was counted.
static enum stage ask_file(struct recall *w, const char *path)
{
    ANSWER_CLEANUP *answer = NULL;
    cleanup(cleanup_free) char *reason = NULL;
    cleanup(cleanup_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno == EAGAIN) // a member of an archive that is nearline: opening it has asked for that
        return STAGE_UNDER_WAY;
    if (fd < 0) {
        complain(path, errno, w);
        return STAGE_OVER;
    }
    int r = ask_open(fd, w->request, &answer, &reason);
    if (r == 0 && doc_bool(doc_get(answer, "ok"), false)) {
        struct text state = doc_text(doc_get(answer, "state"), TEXT(""));
        if (text_equal(state, TEXT("asking")))
            return STAGE_ASKING;
        if (text_equal(state, TEXT("recalling")))
            return STAGE_UNDER_WAY;
        w->ready++;
        return STAGE_OVER;
    }
    struct text error = r < 0 ? text_of(reason) : doc_text(doc_get(answer, "error"), TEXT("refused"));
    fprintf(stderr, "%sbutlerfsctl: %s: %.*s\n", line_start(), path, (int)error.size_bytes, error.data);
    w->failed++;
    return STAGE_OVER;
}

// Looks at it; false: no more.
static bool look(struct recall *w, struct file *f)
{
    enum stage stage = ask_file(w, f->path);
    int64_t now = clock_ns(), pause = (now - f->begun_ns) / 4;
    w->asking -= f->stage == STAGE_ASKING;
    w->asking += stage == STAGE_ASKING;
    w->under_way += stage == STAGE_UNDER_WAY && !w->waits;
    f->stage = stage;
    f->due_ns = now + (pause < ASK_FIRST_NS ? ASK_FIRST_NS : pause > ASK_LAST_NS ? ASK_LAST_NS : pause);
    return stage == STAGE_ASKING || (stage == STAGE_UNDER_WAY && w->waits);
}

// Looks at those that are due until at most `most` of them (`of_asking`: that are being asked for) are left.
static void settle(struct recall *w, bool of_asking, size_t most)
{
    while (!is_interrupted && (of_asking ? w->asking : w->count) > most) {
        int64_t now = clock_ns();
        size_t kept = 0;
        for (size_t i = 0; i < w->count; i++) {
            struct file f = w->files[i];
            if (is_interrupted || f.due_ns > now || look(w, &f))
                w->files[kept++] = f;
            else
                free(f.path);
        }
        w->count = kept;
        show(w, false);
        usleep(ASK_FIRST_NS / 1000 / 2);
    }
}

static void recall_file(const char *path, const struct stat *st, void *context)
{
    (void)st;
    struct recall *w = context;
    struct file f = {.path = memory_copy(path, strlen(path)), .stage = STAGE_OVER, .begun_ns = clock_ns()};
    if (look(w, &f)) {
        w->files = memory_grow(w->files, w->count + 1, sizeof *w->files);
        w->files[w->count++] = f;
    } else {
        free(f.path);
    }
    settle(w, true, ASKING_AT_ONCE);
    show(w, false);
}

static bool is_over(void *context)
{
    (void)context;
    return is_interrupted;
}

static int parse_days(const char *text, struct doc *request)
{
    char *end = NULL;
    errno = 0;
    unsigned long days = text[0] >= '0' && text[0] <= '9' ? strtoul(text, &end, 10) : 0;
    if (errno || days < 1 || days > 365 || *end)
        return -EINVAL;
    doc_put_integer(request, "days", (int64_t)days);
    return 0;
}

static int recall_all(struct recall *w, char **words, int count, int delimiter, char **ret_why)
{
    const struct paths all = {
        .delimiter = delimiter, .context = w, .file = recall_file, .trouble = complain, .is_over = is_over};
    struct sigaction action = {.sa_handler = interrupt}, before; // no SA_RESTART: what waits ends
    sigaction(SIGINT, &action, &before);
    paths_each(&all, words, count);
    settle(w, false, 0);
    sigaction(SIGINT, &before, NULL);
    show(w, true);
    for (size_t i = 0; i < w->count; i++)
        free(w->files[i].path);
    free(w->files);
    if (is_interrupted)
        return why(ret_why, -EINTR, "interrupted: what was asked for goes on");
    return w->failed ? why(ret_why, -EIO, "%" PRIu64 " files could not be recalled", w->failed) : 0;
}

int recall_run(char **words, int count, char **ret_why)
{
    ANSWER_CLEANUP *request = doc_new(DOC_MAP);
    struct recall w = {.request = request, .begun_ns = clock_ns()};
    int delimiter = '\n', paths = 0;
    doc_put_text(request, "verb", "recall");
    for (int i = 0; i < count; i++) {
        const char *days = NULL;
        if (strncmp(words[i], "--days=", 7) == 0)
            days = words[i] + 7;
        else if (strcmp(words[i], "--days") == 0 && i + 1 < count)
            days = words[++i];
        else if (strcmp(words[i], "--wait") == 0)
            w.waits = true;
        else if (strcmp(words[i], "--quiet") == 0 || strcmp(words[i], "-q") == 0)
            w.is_quiet = true;
        else if (strcmp(words[i], "-0") == 0)
            delimiter = 0;
        else if (words[i][0] == '-' && words[i][1])
            return -EINVAL;
        else
            words[paths++] = words[i];
        if (days && parse_days(days, request) < 0)
            return why(ret_why, -EINVAL, "--days %s: a number from 1 to 365", days);
    }
    return recall_all(&w, words, paths, delimiter, ret_why);
}
