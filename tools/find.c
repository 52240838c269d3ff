// SPDX-License-Identifier: BSD-3-Clause
// find: see find.h. Nothing is kept but one page: a million paths take no more memory than one.
#include "tools/find.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "fs/why.h"
#include "tools/ask.h"

struct search {
    const char *folder, *type, *where;
    char separator;
    int64_t limit; // paths still to be printed
};

static bool read_limit(const char *text, int64_t *ret_limit)
{
    char *end;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    if (errno || end == text || *end || n < 0)
        return false;
    *ret_limit = n;
    return true;
}

static bool read_arguments(char **arguments, int count, struct search *s)
{
    const char **plain[] = {&s->folder, &s->type, &s->where};
    int at = 0;
    for (int i = 0; i < count; i++) {
        if (at < 2 && (strcmp(arguments[i], "-0") == 0 || strcmp(arguments[i], "--null") == 0))
            s->separator = 0;
        else if (at < 2 && strcmp(arguments[i], "--limit") == 0 && i + 1 < count) {
            if (!read_limit(arguments[++i], &s->limit))
                return false;
        } else if (at == 3 || (at < 2 && arguments[i][0] == '-'))
            return false;
        else
            *plain[at++] = arguments[i];
    }
    return at >= 2;
}

static void unhex(struct text hex, struct buffer *to)
{
    for (size_t i = 0; i + 1 < hex.size_bytes; i += 2) {
        char digits[3] = {hex.data[i], hex.data[i + 1], 0};
        buffer_append_byte(to, (char)strtol(digits, NULL, 16));
    }
}

static int print_paths(struct search *s, const struct doc *paths)
{
    BUFFER_CLEANUP line = {};
    size_t bytes = strlen(s->folder);
    while (bytes > 1 && s->folder[bytes - 1] == '/')
        bytes--;
    for (size_t i = 0; i < doc_count(paths) && s->limit > 0; i++, s->limit--) {
        const struct doc *path = doc_item(paths, i);
        buffer_clear(&line);
        buffer_append(&line, s->folder, bytes);
        buffer_append_byte(&line, '/');
        if (doc_kind(path) == DOC_MAP)
            unhex(doc_text(doc_get(path, "hex"), TEXT("")), &line);
        else
            buffer_append_text(&line, doc_text(path, TEXT("")));
        buffer_append_byte(&line, s->separator);
        if (fwrite(line.data, 1, line.size_bytes, stdout) != line.size_bytes)
            return -errno;
    }
    return 0;
}

static struct doc *new_question(const struct search *s, const struct doc *next)
{
    struct doc *request = doc_new(DOC_MAP);
    doc_put_text(request, "verb", "find");
    doc_put_text(request, "type", s->type);
    doc_put_text(request, "where", s->where);
    if (next)
        doc_put(request, "after", doc_new_text(doc_text(next, TEXT(""))));
    return request;
}

static int ask_page(int fd, const struct search *s, const struct doc *before, struct doc **ret_answer, char **ret_why)
{
    cleanup(cleanup_doc_free) struct doc *request = new_question(s, doc_get(before, "next")), *answer = NULL;
    int r = ask_opened(fd, request, &answer);
    if (r == -E2BIG)
        return why(ret_why, r, "the expression is too long");
    if (r < 0)
        return why(ret_why, r, "%s: %s", s->folder, strerror(-r));
    if (!doc_bool(doc_get(answer, "ok"), false)) {
        struct text error = doc_text(doc_get(answer, "error"), TEXT("refused"));
        return why(ret_why, -EBADMSG, "%.*s", (int)error.size_bytes, error.data);
    }
    *ret_answer = take(answer);
    return 0;
}

int find_run(char **arguments, int count, char **ret_why)
{
    struct search s = {.where = "", .separator = '\n', .limit = INT64_MAX};
    cleanup(target_release) struct target t = {};
    cleanup(cleanup_doc_free) struct doc *page = NULL;
    if (!read_arguments(arguments, count, &s))
        return -EINVAL;
    int r = target_find(s.folder, &t, ret_why);
    if (r < 0)
        return r;
    cleanup(cleanup_close) int fd = open(s.folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return why(ret_why, -errno, "%s: %m", s.folder);
    do {
        struct doc *next = NULL;
        r = ask_page(fd, &s, page, &next, ret_why);
        if (r < 0)
            return r;
        doc_free(page);
        page = next;
        r = print_paths(&s, doc_get(page, "paths"));
    } while (r == 0 && s.limit > 0 && doc_get(page, "next"));
    if (r == 0 && fflush(stdout) != 0)
        r = -errno;
    return r;
}
