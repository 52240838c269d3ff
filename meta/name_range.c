// SPDX-License-Identifier: BSD-3-Clause
// name_range: validity ranges in files' names.
// 1. As in all names the reader decodes, writes again and compares.
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "meta/name.h"

#define EMPTY "empty"
#define SEPARATOR "--"

void name_write_range(const struct timespan *range, const struct uuid *twin, struct buffer *to)
{
    char text[TIMESPAN_TEXT_BYTES], uuid[UUID_TEXT_BYTES];
    buffer_append_byte(to, '@');
    if (timespan_is_empty(range)) {
        buffer_append_string(to, EMPTY);
    } else {
        if (range->begin_tai_ns != TIMESPAN_FIRST) {
            timespan_format_instant(range->begin_tai_ns, text);
            buffer_append_string(to, text);
        }
        buffer_append_string(to, SEPARATOR);
        if (range->end_tai_ns != TIMESPAN_LAST) {
            timespan_format_instant(range->end_tai_ns, text);
            buffer_append_string(to, text);
        }
    }
    if (!twin)
        return;
    uuid_format(twin, uuid);
    buffer_append_byte(to, '~');
    buffer_append_string(to, uuid);
}

// One end, "20240101T000000,5"; empty: open. In the form that is written, or at least no other time.
static int read_end(struct text t, int64_t open, int64_t *ret_tai_ns)
{
    BUFFER_CLEANUP tai = {0};
    *ret_tai_ns = open;
    if (t.size_bytes == 0)
        return 0;
    buffer_append_text(&tai, t);
    buffer_append_string(&tai, "TAI");
    return timespan_parse_instant(buffer_text(&tai), ret_tai_ns);
}

static int read_ends(struct text t, struct timespan *ret_range)
{
    if (text_equal(t, TEXT(EMPTY))) {
        *ret_range = TIMESPAN_EMPTY;
        return 0;
    }
    const char *separator = memmem(t.data, t.size_bytes, SEPARATOR, 2);
    if (!separator)
        return -ENOENT;
    size_t at = (size_t)(separator - t.data);
    if (read_end(text_slice(t, 0, at), TIMESPAN_FIRST, &ret_range->begin_tai_ns) < 0 ||
        read_end(text_slice(t, at + 2, t.size_bytes), TIMESPAN_LAST, &ret_range->end_tai_ns) < 0)
        return -ENOENT;
    return 0;
}

int name_read_range(struct text name, struct timespan *ret_range, struct uuid *ret_twin,
                    bool *ret_has_twin, struct text *ret_suffix)
{
    BUFFER_CLEANUP written = {0};
    const char *dot = name.size_bytes ? memchr(name.data, '.', name.size_bytes) : NULL;
    if (!dot || name.data[0] != '@')
        return -ENOENT;
    struct text whole = text_slice(name, 0, (size_t)(dot - name.data));
    struct text ends = text_slice(whole, 1, whole.size_bytes);
    const char *mark = memchr(whole.data, '~', whole.size_bytes);
    if (mark) {
        struct text uuid = text_slice(whole, (size_t)(mark + 1 - whole.data), whole.size_bytes);
        if (uuid_parse(uuid, true, ret_twin) < 0)
            return -ENOENT;
        ends = text_slice(whole, 1, (size_t)(mark - whole.data));
    }
    struct timespan range;
    if (read_ends(ends, &range) < 0)
        return -ENOENT;
    name_write_range(&range, mark ? ret_twin : NULL, &written);
    if (!text_equal(buffer_text(&written), whole))
        return -ENOENT;
    *ret_range = range;
    *ret_has_twin = mark;
    *ret_suffix = text_slice(name, whole.size_bytes, name.size_bytes);
    return 0;
}
