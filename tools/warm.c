// SPDX-License-Identifier: BSD-3-Clause
// warm: brings files into the cache ahead of time. Files are held open, a few at a time: the daemon fetches
// what is held, and is asked now and then how far it is. Nothing is written down: what is there already is
// not fetched again, so that running it again goes on. Where somebody looks on, all of it is counted first.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "fs/why.h"
#include "tools/ask.h"
#include "tools/objects.h"
#include "tools/paths.h"
#include "tools/progress.h"

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
    struct progress progress;
    struct buffer names;   // that came by standard input, each with a NUL, where they are gone through twice
    bool is_counting;      // the first time
};

static struct progress_state state_of(const struct warm *w)
{
    struct progress_state s = {.files = w->files, .failed = w->failed, .bytes = w->done_bytes};
    for (int i = 0; i < AT_ONCE; i++)
        if (w->all[i].path)
            s.bytes += w->all[i].present_bytes;
    return s;
}

// A line beside the progress.
static void complain(struct warm *w, const char *path, const char *trouble)
{
    progress_clear(&w->progress);
    fprintf(stderr, "butlerfsctl: %s: %s\n", path, trouble);
    w->failed++;
}

static void end(struct warm *w, struct warming *f, const char *trouble)
{
    if (trouble) {
        complain(w, f->path, trouble);
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
        const struct progress_state now = state_of(w);
        progress_show(&w->progress, &now);
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
        complain(w, path, strerror(errno));
        return;
    }
    *f = (struct warming){.path = memory_copy(path, strlen(path)), .fd = fd};
    look(w, f);
}

static void warm_one(const char *path, const struct stat *st, void *context)
{
    struct warm *w = context;
    if (!w->is_counting) {
        warm_file(w, path);
        return;
    }
    w->progress.all_files++;
    w->progress.all_bytes += st ? st->st_size : 0;
}

static void warm_trouble(const char *path, int error, void *context)
{
    struct warm *w = context;
    if (!w->is_counting)
        complain(w, path, strerror(error));
}

static void warm_listed(const char *name, void *context)
{
    struct warm *w = context;
    if (w->is_counting)
        buffer_append(&w->names, name, strlen(name) + 1);
}

// Twice, if it is counted before: names that were read once are kept.
static void warm_all(struct warm *w, char **paths, int count, int delimiter)
{
    const struct paths all = {
        .delimiter = delimiter, .context = w, .file = warm_one, .trouble = warm_trouble, .listed = warm_listed};
    w->is_counting = w->progress.is_terminal && !w->progress.is_quiet;
    if (w->is_counting)
        paths_each(&all, paths, count);
    w->is_counting = false;
    paths_each(&all, paths, count); // standard input is at its end then
    for (size_t at = 0; at < w->names.size_bytes; at += strlen(w->names.data + at) + 1)
        paths_below(&all, w->names.data + at);
    buffer_release(&w->names);
}

int warm_run(char **words, int count, char **ret_why)
{
    ANSWER_CLEANUP *request = doc_new(DOC_MAP);
    struct warm w = {.request = request, .progress.what = "files here"};
    int delimiter = '\n', paths = 0;
    doc_put_text(request, "verb", "warm");
    for (int i = 0; i < count; i++) {
        if (strcmp(words[i], "--pin") == 0)
            doc_put_bool(request, "pin", true);
        else if (strcmp(words[i], "--quiet") == 0 || strcmp(words[i], "-q") == 0)
            w.progress.is_quiet = true;
        else if (strcmp(words[i], "-0") == 0)
            delimiter = 0;
        else if (words[i][0] == '-' && words[i][1])
            return -EINVAL;
        else
            words[paths++] = words[i];
    }
    progress_begin(&w.progress);
    warm_all(&w, words, paths, delimiter);
    settle(&w, 0);
    const struct progress_state at_end = state_of(&w);
    progress_end(&w.progress, &at_end);
    return w.failed ? why(ret_why, -EIO, "%" PRIu64 " files could not be brought in", w.failed) : 0;
}
