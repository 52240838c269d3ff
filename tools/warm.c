// SPDX-License-Identifier: BSD-3-Clause
// warm: brings files into the cache ahead of time. Files are held open, a few at a time: the daemon fetches
// what is held, and is asked now and then how far it is. Nothing is written down: what is there already is
// not fetched again, so that running it again goes on.
#include <fcntl.h>
#include <fts.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "fs/why.h"
#include "tools/ask.h"
#include "tools/objects.h"
#include "tools/print.h"

#define AT_ONCE 8
#define ASK_EVERY_US 100000
#define ANSWER_CLEANUP cleanup(cleanup_doc_free) struct doc

struct warming {
    char *path; // NULL: free
    int fd;
    int64_t present_bytes;
};

struct warm {
    struct doc *request;
    struct warming all[AT_ONCE];
    uint64_t files, failed;
    int64_t done_bytes;
    int64_t begun_ns, shown_ns;
    bool is_quiet;
};

static void show(struct warm *w, bool is_end)
{
    BUFFER_CLEANUP bytes = {}, rate = {};
    int64_t now = clock_ns(), sum = w->done_bytes, busy = 0;
    if (w->is_quiet || (!is_end && (!isatty(STDERR_FILENO) || now < w->shown_ns + NS_PER_S / 5)))
        return;
    for (int i = 0; i < AT_ONCE; i++)
        if (w->all[i].path) {
            sum += w->all[i].present_bytes;
            busy++;
        }
    w->shown_ns = now;
    print_bytes(sum, &bytes);
    double seconds = (double)(now - w->begun_ns) / 1e9;
    print_bytes((int64_t)((double)sum / (seconds > 0.001 ? seconds : 0.001)), &rate);
    fprintf(stderr, "%s%" PRIu64 " files here, %" PRIi64 " on their way, %s, %s/s, %" PRIu64 " failed%s",
            isatty(STDERR_FILENO) ? "\r\33[K" : "", w->files, busy, bytes.data, rate.data, w->failed,
            is_end ? "\n" : "");
}

static void end(struct warm *w, struct warming *f, const char *trouble)
{
    if (trouble) {
        fprintf(stderr, "%sbutlerfsctl: %s: %s\n", isatty(STDERR_FILENO) ? "\r\33[K" : "", f->path, trouble);
        w->failed++;
    } else {
        w->files++;
        w->done_bytes += f->present_bytes;
    }
    close(f->fd);
    free(take(f->path));
}

static void look(struct warm *w, struct warming *f)
{
    ANSWER_CLEANUP *answer = NULL;
    cleanup(cleanup_free) char *reason = NULL;
    if (ask_open(f->fd, w->request, &answer, &reason) < 0) {
        end(w, f, reason);
        return;
    }
    if (!doc_bool(doc_get(answer, "ok"), false)) {
        struct text error = doc_text(doc_get(answer, "error"), TEXT("refused"));
        cleanup(cleanup_free) char *line = memory_copy(error.data, error.size_bytes);
        end(w, f, line);
        return;
    }
    f->present_bytes = doc_integer(doc_get(answer, "present_bytes"), 0);
    if (doc_bool(doc_get(answer, "is_complete"), false))
        end(w, f, NULL);
}

// Looks at all that are on their way until at most `most` are.
static void settle(struct warm *w, int most)
{
    for (bool is_first = true;; is_first = false) {
        int busy = 0;
        for (int i = 0; i < AT_ONCE; i++) {
            if (w->all[i].path)
                look(w, &w->all[i]);
            busy += w->all[i].path != NULL;
        }
        show(w, false);
        if (busy <= most)
            return;
        usleep(is_first ? ASK_EVERY_US / 10 : ASK_EVERY_US);
    }
}

static struct warming *free_place(struct warm *w)
{
    for (;;) {
        for (int i = 0; i < AT_ONCE; i++)
            if (!w->all[i].path)
                return &w->all[i];
        settle(w, AT_ONCE - 1);
    }
}

static void warm_file(struct warm *w, const char *path)
{
    struct warming *f = free_place(w);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        fprintf(stderr, "butlerfsctl: %s: %m\n", path);
        w->failed++;
        return;
    }
    *f = (struct warming){.path = memory_copy(path, strlen(path)), .fd = fd};
    look(w, f);
}

static void warm_path(struct warm *w, const char *path)
{
    struct stat st;
    if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode)) {
        warm_file(w, path);
        return;
    }
    cleanup(cleanup_free) char *copy = memory_copy(path, strlen(path));
    char *roots[] = {copy, NULL};
    FTS *tree = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    for (FTSENT *e; tree && (e = fts_read(tree));)
        if (e->fts_info == FTS_F)
            warm_file(w, e->fts_path);
        else if (e->fts_info == FTS_DNR || e->fts_info == FTS_ERR || e->fts_info == FTS_NS) {
            fprintf(stderr, "butlerfsctl: %s: %s\n", e->fts_path, strerror(e->fts_errno));
            w->failed++;
        }
    if (tree)
        fts_close(tree);
}

static void warm_list(struct warm *w, int delimiter)
{
    cleanup(cleanup_free) char *line = NULL;
    size_t room = 0;
    for (ssize_t n; (n = getdelim(&line, &room, delimiter, stdin)) > 0;) {
        if (line[n - 1] == delimiter)
            line[n - 1] = 0;
        if (line[0])
            warm_path(w, line);
    }
}

int warm_run(char **words, int count, char **ret_why)
{
    ANSWER_CLEANUP *request = doc_new(DOC_MAP);
    struct warm w = {.request = request, .begun_ns = clock_ns()};
    int delimiter = '\n', paths = 0;
    doc_put_text(request, "verb", "warm");
    for (int i = 0; i < count; i++) {
        if (strcmp(words[i], "--pin") == 0)
            doc_put_bool(request, "pin", true);
        else if (strcmp(words[i], "--quiet") == 0 || strcmp(words[i], "-q") == 0)
            w.is_quiet = true;
        else if (strcmp(words[i], "-0") == 0)
            delimiter = 0;
        else if (words[i][0] == '-' && words[i][1])
            return -EINVAL;
        else
            words[paths++] = words[i];
    }
    for (int i = 0; i < paths; i++)
        if (strcmp(words[i], "-") == 0)
            warm_list(&w, delimiter);
        else
            warm_path(&w, words[i]);
    if (paths == 0)
        warm_list(&w, delimiter);
    settle(&w, 0);
    show(&w, true);
    return w.failed ? why(ret_why, -EIO, "%" PRIu64 " files could not be brought in", w.failed) : 0;
}
