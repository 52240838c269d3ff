// SPDX-License-Identifier: BSD-3-Clause
// path: see path.h. realpath(3) is not used, as it fails for what doesn't exist and looks into a
// mount that may not be answering.
// 1. What is built up in `done` is absolute, clean and never ends in '/' ("" is the root).
// 2. At most LINKS_MAX symlinks are followed; the rest is then taken as written.
#include "fs/path.h"

#include <limits.h>

#include "base/buffer.h"

#define LINKS_MAX 40

// Takes the next part off *rest; empty at the end.
static struct text next_part(const char **rest)
{
    while (**rest == '/')
        (*rest)++;
    struct text part = {*rest, strcspn(*rest, "/")};
    *rest += part.size_bytes;
    return part;
}

static void part_up(struct buffer *done)
{
    size_t size = done->size_bytes;
    while (size > 0 && done->data[size - 1] != '/')
        size--;
    buffer_truncate(done, size > 0 ? size - 1 : 0);
}

static char *finish(struct buffer *done)
{
    if (done->size_bytes == 0)
        buffer_append_byte(done, '/');
    return buffer_steal(done);
}

static bool part_is_special(struct buffer *done, struct text part)
{
    if (text_equal(part, TEXT(".")))
        return true;
    if (!text_equal(part, TEXT("..")))
        return false;
    part_up(done);
    return true;
}

char *path_absolute(const char *base, const char *path)
{
    struct buffer done = {};
    BUFFER_CLEANUP whole = {};
    if (path[0] != '/')
        buffer_format(&whole, "%s/", base);
    buffer_append_string(&whole, path);
    const char *rest = whole.data ? whole.data : "";
    for (struct text part; (part = next_part(&rest)).size_bytes > 0;) {
        if (part_is_special(&done, part))
            continue;
        buffer_append_byte(&done, '/');
        buffer_append_text(&done, part);
    }
    return finish(&done);
}

// The target of the link at `path`, or NULL.
static char *read_link(const char *path)
{
    char target[PATH_MAX];
    ssize_t n = readlink(path, target, sizeof target - 1);
    return n > 0 ? memory_copy(target, (size_t)n) : NULL;
}

char *path_resolve(const char *base, const char *path, const char *stop)
{
    struct buffer done = {};
    int links = 0;
    cleanup(cleanup_free) char *left = NULL;
    {
        struct buffer whole = {};
        if (path[0] != '/')
            buffer_format(&whole, "%s/", base);
        buffer_append_string(&whole, path);
        left = buffer_steal(&whole);
    }
    const char *rest = left;
    for (struct text part; (part = next_part(&rest)).size_bytes > 0;) {
        if (part_is_special(&done, part))
            continue;
        size_t parent_bytes = done.size_bytes;
        buffer_append_byte(&done, '/');
        buffer_append_text(&done, part);
        if ((stop && path_is_within(done.data, stop)) || links >= LINKS_MAX)
            continue;
        cleanup(cleanup_free) char *target = read_link(done.data);
        if (!target)
            continue;
        links++;
        buffer_truncate(&done, target[0] == '/' ? 0 : parent_bytes);
        struct buffer whole = {};
        buffer_format(&whole, "%s/%s", target, rest);
        free(left);
        rest = left = buffer_steal(&whole);
    }
    return finish(&done);
}

bool path_is_within(const char *path, const char *folder)
{
    size_t n = strlen(folder);
    if (n > 0 && folder[n - 1] == '/')
        n--; // the root
    return strncmp(path, folder, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

bool path_is_uri(const char *source)
{
    size_t n = strspn(source, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-");
    if (n == 0 || source[n] != ':')
        return false;
    return strncmp(source + n, "://", 3) == 0 || (n == 4 && strncasecmp(source, "file", 4) == 0);
}
