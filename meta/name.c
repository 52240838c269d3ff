// SPDX-License-Identifier: BSD-3-Clause
// name: escapes, parts of collections' names, and names that are too long.
// 1. A reader takes exactly what the writer writes: it decodes, writes again and compares, so that
//    no rule stands twice and no thing has two names.
// 2. Escaping never makes a `~` with 16 hex digits and an end after it: what looks so in a name was
//    made by name_shorten or is no name at all.
#include "meta/name.h"

#include <inttypes.h>

#include "base/hash.h"

#define HASH_DIGITS 16
#define NO_INDEX SIZE_MAX

static bool is_upper_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F');
}

static bool is_lower_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

static unsigned upper_hex_value(char c)
{
    return (unsigned)(c <= '9' ? c - '0' : c - 'A' + 10);
}

// Whether a `~` at `at` is followed by 16 hex digits and then the end, a `.` or an `@`.
static bool is_hash_mark(struct text t, size_t at, bool lower_only)
{
    size_t end = at + 1 + HASH_DIGITS;
    if (t.data[at] != '~' || end > t.size_bytes)
        return false;
    for (size_t i = at + 1; i < end; i++)
        if (!is_lower_hex(t.data[i]) && (lower_only || !is_upper_hex(t.data[i])))
            return false;
    return end == t.size_bytes || t.data[end] == '.' || t.data[end] == '@';
}

static bool dot_is_escaped(enum name_place place, struct text raw, size_t at)
{
    if (place == NAME_LAST_VALUE || (at == 0 && place != NAME_S3))
        return true;
    return text_equal(raw, TEXT(".")) || text_equal(raw, TEXT(".."));
}

static bool is_escaped(enum name_place place, struct text raw, size_t at)
{
    unsigned char c = (unsigned char)raw.data[at];
    switch (c) {
    case '%':
    case '/':
    case 0x7f:
        return true;
    case '.':
        return dot_is_escaped(place, raw, at);
    case '@':
        return place == NAME_LAST_VALUE || (place == NAME_COLLECTION && at == 0);
    case '=':
        return place == NAME_COLLECTION;
    case '~':
        return is_hash_mark(raw, at, false);
    default:
        return c < 0x20;
    }
}

// `also`: the index of one more byte to escape, or NO_INDEX.
static void escape(enum name_place place, struct text raw, size_t also, struct buffer *to)
{
    static const char digits[] = "0123456789ABCDEF";
    if (raw.size_bytes == 0)
        buffer_append_byte(to, '%');
    size_t plain = 0; // from here on nothing was appended yet
    for (size_t i = 0; i < raw.size_bytes; i++) {
        if (i != also && !is_escaped(place, raw, i))
            continue;
        unsigned char c = (unsigned char)raw.data[i];
        buffer_append_text(to, text_slice(raw, plain, i));
        buffer_append(to, (char[]){'%', digits[c >> 4], digits[c & 15]}, 3);
        plain = i + 1;
    }
    buffer_append_text(to, text_slice(raw, plain, raw.size_bytes));
}

static int decode(struct text escaped, struct buffer *to)
{
    if (text_equal(escaped, TEXT("%")))
        return 0;
    if (escaped.size_bytes == 0)
        return -EINVAL;
    for (size_t i = 0; i < escaped.size_bytes; i++) {
        if (escaped.data[i] != '%') {
            buffer_append_byte(to, escaped.data[i]);
            continue;
        }
        if (escaped.size_bytes - i < 3 || !is_upper_hex(escaped.data[i + 1]) ||
            !is_upper_hex(escaped.data[i + 2]))
            return -EINVAL;
        buffer_append_byte(to, (char)(upper_hex_value(escaped.data[i + 1]) << 4 |
                                      upper_hex_value(escaped.data[i + 2])));
        i += 2;
    }
    return 0;
}

// Where `raw`, below `parent`, has the byte that would make it look like a dataset's file in there.
static size_t parent_mark(struct text parent, struct text raw)
{
    if (parent.size_bytes == 0 || raw.size_bytes <= parent.size_bytes || !text_begins(raw, parent))
        return NO_INDEX;
    char c = raw.data[parent.size_bytes];
    return c == '.' || c == '_' || c == '@' ? parent.size_bytes : NO_INDEX;
}

static int unescape(enum name_place place, struct text parent, struct text escaped,
                    struct buffer *to)
{
    size_t from = to->size_bytes;
    buffer_reserve(to, escaped.size_bytes);
    int r = decode(escaped, to);
    if (r == 0) {
        BUFFER_CLEANUP again = {0};
        struct text raw = text_slice(buffer_text(to), from, to->size_bytes);
        escape(place, raw, parent_mark(parent, raw), &again);
        if (!text_equal(buffer_text(&again), escaped))
            r = -EINVAL;
    }
    if (r < 0)
        buffer_truncate(to, from);
    return r;
}

void name_escape(enum name_place place, struct text raw, struct buffer *to)
{
    escape(place, raw, NO_INDEX, to);
}

int name_unescape(enum name_place place, struct text escaped, struct buffer *to)
{
    return unescape(place, (struct text){0}, escaped, to);
}

void name_write_part(struct text parent, struct text raw, struct buffer *to)
{
    size_t from = to->size_bytes;
    escape(NAME_COLLECTION, raw, parent_mark(parent, raw), to);
    name_shorten(to, from, (struct text){0});
}

int name_read_part(struct text parent, struct text escaped, struct buffer *to)
{
    if (escaped.size_bytes > NAME_BYTES_MAX)
        return -EINVAL;
    if (name_is_shortened(escaped))
        return -E2BIG;
    return unescape(NAME_COLLECTION, parent, escaped, to);
}

// How many bytes the UTF-8 character takes that begins with `lead`; 1 for what begins none.
static size_t character_bytes(unsigned char lead)
{
    if (lead >= 0xc2 && lead <= 0xdf)
        return 2;
    if (lead >= 0xe0 && lead <= 0xef)
        return 3;
    return lead >= 0xf0 && lead <= 0xf4 ? 4 : 1;
}

static bool is_continuation(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80;
}

// How many bytes before `at` a character begins that goes on at `at`; 0: none does.
static size_t character_before(struct text name, size_t at)
{
    for (size_t back = 1; back <= 3 && back <= at; back++) {
        if (is_continuation(name.data[at - back]))
            continue;
        size_t begin = at - back;
        size_t bytes = character_bytes((unsigned char)name.data[begin]);
        if (bytes <= back || name.size_bytes - begin < bytes)
            return 0;
        for (size_t i = begin + 1; i < begin + bytes; i++)
            if (!is_continuation(name.data[i]))
                return 0;
        return back;
    }
    return 0;
}

static bool is_escape(struct text name, size_t at)
{
    return name.data[at] == '%' && name.size_bytes - at >= 3 && is_upper_hex(name.data[at + 1]) &&
           is_upper_hex(name.data[at + 2]);
}

// The last place not after `at` where `name` may be cut.
static size_t cut_place(struct text name, size_t at)
{
    for (size_t back = 1; back <= 2 && back <= at; back++)
        if (is_escape(name, at - back))
            return at - back;
    return at - character_before(name, at);
}

void name_shorten(struct buffer *b, size_t from, struct text suffix)
{
    struct text name = text_slice(buffer_text(b), from, b->size_bytes);
    if (name.size_bytes <= NAME_BYTES_MAX)
        return;
    if (suffix.size_bytes > NAME_SUFFIX_MAX)
        suffix = TEXT(".data");
    char kept[NAME_SUFFIX_MAX]; // it may lie in what is cut off
    if (suffix.size_bytes)
        memcpy(kept, suffix.data, suffix.size_bytes);
    uint64_t hash = hash64(name.data, name.size_bytes);
    size_t room = NAME_BYTES_MAX - 1 - HASH_DIGITS - suffix.size_bytes;
    buffer_truncate(b, from + cut_place(name, room));
    buffer_format(b, "~%016" PRIx64, hash);
    buffer_append(b, kept, suffix.size_bytes);
}

bool name_is_shortened(struct text name)
{
    // A cut takes three bytes more than needed at most: four are a character's, three an escape's.
    if (name.size_bytes < NAME_BYTES_MAX - 3 || name.size_bytes > NAME_BYTES_MAX)
        return false;
    for (size_t i = 0; i < name.size_bytes; i++)
        if (is_hash_mark(name, i, true))
            return true;
    return false;
}
