// SPDX-License-Identifier: BSD-3-Clause
// mount_table: see proc(5), /proc/PID/mountinfo:
//     36 35 98:0 /root /mountpoint rw,noatime master:1 - ext3 source rw,errors=continue
// White space and backslashes in its words are octal escapes.
#include "fs/mount_table.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/sysmacros.h>

#include "base/buffer.h"
#include "fs/path.h"

static struct text take_word(struct text *line)
{
    size_t n = 0;
    while (n < line->size_bytes && line->data[n] != ' ')
        n++;
    struct text word = text_slice(*line, 0, n);
    *line = text_slice(*line, n < line->size_bytes ? n + 1 : n, line->size_bytes);
    return word;
}

static bool is_octal(const char *p)
{
    return p[0] >= '0' && p[0] <= '3' && p[1] >= '0' && p[1] <= '7' && p[2] >= '0' && p[2] <= '7';
}

static char *unescape(struct text word)
{
    struct buffer plain = {};
    for (size_t i = 0; i < word.size_bytes; i++) {
        const char *p = word.data + i;
        if (*p == '\\' && i + 3 < word.size_bytes && is_octal(p + 1)) {
            buffer_append_byte(&plain, (char)((p[1] - '0') << 6 | (p[2] - '0') << 3 | (p[3] - '0')));
            i += 3;
        } else
            buffer_append_byte(&plain, *p);
    }
    return buffer_steal(&plain);
}

static uid_t find_owner(struct text options)
{
    const struct text name = TEXT("user_id=");
    while (options.size_bytes > 0) {
        size_t n = 0;
        while (n < options.size_bytes && options.data[n] != ',')
            n++;
        struct text option = text_slice(options, 0, n);
        if (text_begins(option, name) && option.size_bytes < 24) {
            cleanup(cleanup_free) char *number = memory_copy(option.data + name.size_bytes,
                                                             option.size_bytes - name.size_bytes);
            return (uid_t)strtoul(number, NULL, 10);
        }
        options = text_slice(options, n < options.size_bytes ? n + 1 : n, options.size_bytes);
    }
    return (uid_t)-1;
}

static bool parse_line(struct text line, struct mount_entry *e)
{
    BUFFER_CLEANUP head = {};
    unsigned major_, minor_;
    for (int i = 0; i < 3; i++) {
        buffer_append_text(&head, take_word(&line));
        buffer_append_byte(&head, ' ');
    }
    if (sscanf(head.data, "%d %d %u:%u", &e->id, &e->parent, &major_, &minor_) != 4)
        return false;
    e->dev = makedev(major_, minor_);
    take_word(&line); // root
    struct text mountpoint = take_word(&line), flags = take_word(&line);
    for (struct text word; !text_equal(word = take_word(&line), TEXT("-"));) {
        if (line.size_bytes == 0)
            return false;
        e->is_shared = e->is_shared || text_begins(word, TEXT("shared:"));
    }
    struct text type = take_word(&line), source = take_word(&line);
    if (mountpoint.size_bytes == 0 || type.size_bytes == 0)
        return false;
    e->owner = find_owner(line);
    e->mountpoint = unescape(mountpoint);
    e->flags = unescape(flags);
    e->type = unescape(type);
    e->source = unescape(source);
    return true;
}

void mount_table_parse(struct text mountinfo, struct mount_table *ret_table)
{
    struct mount_table t = {};
    while (mountinfo.size_bytes > 0) {
        const char *end = memchr(mountinfo.data, '\n', mountinfo.size_bytes);
        size_t n = end ? (size_t)(end - mountinfo.data) : mountinfo.size_bytes;
        struct mount_entry e = {};
        if (parse_line(text_slice(mountinfo, 0, n), &e)) {
            t.entries = memory_grow(t.entries, t.count + 1, sizeof *t.entries);
            t.entries[t.count++] = e;
        }
        mountinfo = text_slice(mountinfo, end ? n + 1 : n, mountinfo.size_bytes);
    }
    *ret_table = t;
}

int mount_table_read(struct mount_table *ret_table)
{
    cleanup(cleanup_close) int fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    BUFFER_CLEANUP all = {};
    for (;;) {
        buffer_reserve(&all, 65536);
        ssize_t n = read(fd, all.data + all.size_bytes, 65536);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n == 0)
            break;
        if (n > 0)
            all.size_bytes += (size_t)n;
    }
    mount_table_parse(buffer_text(&all), ret_table);
    return 0;
}

void mount_table_release(struct mount_table *t)
{
    for (uint32_t i = 0; i < t->count; i++) {
        free(t->entries[i].mountpoint);
        free(t->entries[i].flags);
        free(t->entries[i].type);
        free(t->entries[i].source);
    }
    free(t->entries);
    *t = (struct mount_table){};
}

// Of two mounts at one place the upper one has the lower one as its parent; the order of lines says
// nothing.
static bool is_covered(const struct mount_table *t, const struct mount_entry *lower)
{
    for (uint32_t i = 0; i < t->count; i++) {
        const struct mount_entry *e = &t->entries[i];
        if (e->parent == lower->id && e != lower && strcmp(e->mountpoint, lower->mountpoint) == 0)
            return true;
    }
    return false;
}

const struct mount_entry *mount_table_at(const struct mount_table *t, const char *mountpoint)
{
    const struct mount_entry *top = NULL;
    for (uint32_t i = 0; i < t->count; i++) {
        const struct mount_entry *e = &t->entries[i];
        if (strcmp(e->mountpoint, mountpoint) == 0 && !is_covered(t, e))
            top = e;
    }
    return top;
}

const struct mount_entry *mount_table_holding(const struct mount_table *t, const char *path)
{
    const char *deepest = NULL;
    for (uint32_t i = 0; i < t->count; i++) {
        const char *place = t->entries[i].mountpoint;
        if (path_is_within(path, place) && (!deepest || strlen(place) > strlen(deepest)))
            deepest = place;
    }
    return deepest ? mount_table_at(t, deepest) : NULL;
}
