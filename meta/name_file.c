// SPDX-License-Identifier: BSD-3-Clause
// name_file: names of `key=value` folders and of datasets' files.
// 1. In the last value of a file's name every `.` and `@` is escaped, so the first of them in what
//    follows the other values ends the value, and every file's name has one.
// 2. The other values are known to the reader (the folders above say them): they are written and
//    compared, never guessed from where a `_` stands.
#include <inttypes.h>

#include "meta/name.h"

static const char known_suffixes[][8] = {
    "fits", "fit",     "fz",     "gz",      "bz2", "xz",   "zst",     "lz4", "tar",  "zip",
    "parq", "parquet", "arrow",  "feather", "csv", "ecsv", "tsv",     "txt", "json", "yaml",
    "yml",  "xml",     "html",   "pickle",  "pkl", "npy",  "npz",     "h5",  "hdf5", "asdf",
    "avro", "jpg",     "jpeg",   "png",     "tif", "tiff", "svg",     "pdf", "log",  "cfg",
    "py",   "fig",     "qgraph", "sqlite3", "db",  "vot",  "votable",
};

static bool is_known_suffix(struct text word)
{
    if (word.size_bytes > sizeof(known_suffixes[0]))
        return false;
    for (size_t i = 0; i < sizeof(known_suffixes) / sizeof(known_suffixes[0]); i++) {
        size_t size = strnlen(known_suffixes[i], sizeof(known_suffixes[i]));
        if (size == word.size_bytes && memcmp(known_suffixes[i], word.data, size) == 0)
            return true;
    }
    return false;
}

static bool is_word(struct text word)
{
    for (size_t i = 0; i < word.size_bytes; i++) {
        char c = word.data[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')))
            return false;
    }
    return word.size_bytes > 0;
}

// The last `.` of `name` before `end`, not its first byte; 0: there is none.
static size_t last_dot(struct text name, size_t end)
{
    while (end > 1)
        if (name.data[--end] == '.')
            return end;
    return 0;
}

struct text name_suffix(struct text path)
{
    size_t begin = path.size_bytes;
    while (begin > 0 && path.data[begin - 1] != '/')
        begin--;
    struct text name = text_slice(path, begin, path.size_bytes);
    size_t dot = last_dot(name, name.size_bytes);
    if (dot == 0 || !is_word(text_slice(name, dot + 1, name.size_bytes)))
        return TEXT(".data");
    for (;;) {
        size_t before = last_dot(name, dot);
        if (before == 0 || !is_known_suffix(text_slice(name, before + 1, dot)))
            return text_slice(name, dot, name.size_bytes);
        dot = before;
    }
}

static void write_value(enum name_place place, const struct value *v, struct buffer *to)
{
    if (v->kind == VALUE_INTEGER)
        buffer_format(to, "%" PRId64, v->integer);
    else
        name_escape(place, v->text, to);
}

static int parse_integer(struct text t, int64_t *ret_integer)
{
    bool is_negative = t.size_bytes > 0 && t.data[0] == '-';
    struct text digits = text_slice(t, is_negative, t.size_bytes);
    if (digits.size_bytes == 0 || (digits.data[0] == '0' && (is_negative || digits.size_bytes > 1)))
        return -ENOENT;
    int64_t integer = 0;
    for (size_t i = 0; i < digits.size_bytes; i++) {
        int digit = digits.data[i] - '0';
        if (digit < 0 || digit > 9 || __builtin_mul_overflow(integer, 10, &integer) ||
            __builtin_add_overflow(integer, is_negative ? -digit : digit, &integer))
            return -ENOENT;
    }
    *ret_integer = integer;
    return 0;
}

int name_read_integer(struct text t, struct value *ret_value)
{
    int64_t integer;
    int r = parse_integer(t, &integer);
    if (r == 0)
        *ret_value = value_integer(integer);
    return r;
}

static int read_value(enum name_place place, struct text t, enum value_kind kind,
                      struct value *ret_value, struct buffer *store)
{
    if (kind == VALUE_INTEGER)
        return name_read_integer(t, ret_value);
    size_t from = store->size_bytes;
    if (name_unescape(place, t, store) < 0)
        return -ENOENT;
    *ret_value = value_text(text_slice(buffer_text(store), from, store->size_bytes));
    return 0;
}

void name_write_level(struct text key, const struct value *v, struct buffer *to)
{
    size_t from = to->size_bytes;
    buffer_append_text(to, key);
    buffer_append_byte(to, '=');
    write_value(NAME_VALUE, v, to);
    name_shorten(to, from, (struct text){0});
}

int name_read_level(struct text name, struct text key, enum value_kind kind,
                    struct value *ret_value, struct buffer *store)
{
    if (name.size_bytes > NAME_BYTES_MAX || name.size_bytes <= key.size_bytes ||
        !text_begins(name, key) || name.data[key.size_bytes] != '=')
        return -ENOENT;
    if (kind == VALUE_TEXT && name_is_shortened(name))
        return -E2BIG;
    struct text rest = text_slice(name, key.size_bytes + 1, name.size_bytes);
    return read_value(NAME_VALUE, rest, kind, ret_value, store);
}

// `<type>_<value>_..._`: what stands before the last value; with no values the type alone.
static void write_head(struct text type, const struct value *values, size_t count,
                       struct buffer *to)
{
    name_escape(NAME_VALUE, type, to);
    for (size_t i = 0; i < count; i++) {
        buffer_append_byte(to, '_');
        if (i + 1 < count)
            write_value(NAME_VALUE, &values[i], to);
    }
}

void name_write_file(struct text type, const struct value *values, size_t count, struct text infix,
                     struct text suffix, struct buffer *to)
{
    size_t from = to->size_bytes;
    write_head(type, values, count, to);
    if (count > 0)
        write_value(NAME_LAST_VALUE, &values[count - 1], to);
    size_t end = to->size_bytes;
    buffer_append_text(to, infix);
    buffer_append_text(to, suffix);
    name_shorten(to, from, text_slice(buffer_text(to), end, to->size_bytes));
}

void name_write_component(struct text component, struct text suffix, struct buffer *to)
{
    size_t from = to->size_bytes;
    name_escape(NAME_LAST_VALUE, component, to);
    size_t end = to->size_bytes;
    buffer_append_text(to, suffix);
    name_shorten(to, from, text_slice(buffer_text(to), end, to->size_bytes));
}

// What a shortened name always keeps of its beginning.
#define KEPT_BYTES (NAME_BYTES_MAX - 1 - 16 - NAME_SUFFIX_MAX - 3)

// Whether a shortened name can be one of a file whose name begins with `head`.
static bool shortened_may_begin(struct text name, struct text head)
{
    if (head.size_bytes > KEPT_BYTES)
        head = text_slice(head, 0, KEPT_BYTES);
    return text_begins(name, head);
}

int name_read_file(struct text name, struct text type, const struct value *values, size_t count,
                   enum value_kind last_kind, struct value *ret_last, struct text *ret_suffix,
                   struct buffer *store)
{
    if (name.size_bytes > NAME_BYTES_MAX)
        return -ENOENT;
    BUFFER_CLEANUP written = {0};
    write_head(type, values, count, &written);
    struct text head = buffer_text(&written);
    if (name_is_shortened(name))
        return shortened_may_begin(name, head) ? -E2BIG : -ENOENT;
    if (!text_begins(name, head))
        return -ENOENT;
    size_t end = head.size_bytes;
    while (end < name.size_bytes && name.data[end] != '.' && name.data[end] != '@')
        end++;
    if (end == name.size_bytes)
        return -ENOENT;
    struct text last = text_slice(name, head.size_bytes, end);
    if (count == 0 && last.size_bytes > 0)
        return -ENOENT;
    if (count > 0) {
        int r = read_value(NAME_LAST_VALUE, last, last_kind, ret_last, store);
        if (r < 0)
            return r;
    }
    *ret_suffix = text_slice(name, end, name.size_bytes);
    return 0;
}

void uuid_format(const struct uuid *u, char ret_text[UUID_TEXT_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    char *at = ret_text;
    for (size_t i = 0; i < sizeof(u->bytes); i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *at++ = '-';
        *at++ = digits[u->bytes[i] >> 4];
        *at++ = digits[u->bytes[i] & 15];
    }
    *at = 0;
}

static int hex_digit(char c, bool strict)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return !strict && c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int uuid_parse(struct text t, bool strict, struct uuid *ret_uuid)
{
    bool has_hyphens = t.size_bytes == UUID_TEXT_BYTES - 1;
    if (!has_hyphens && t.size_bytes != 2 * sizeof(ret_uuid->bytes))
        return -EINVAL;
    struct uuid u;
    size_t at = 0;
    for (size_t i = 0; i < sizeof(u.bytes); i++) {
        if (has_hyphens && (i == 4 || i == 6 || i == 8 || i == 10) && t.data[at++] != '-')
            return -EINVAL;
        int high = hex_digit(t.data[at++], strict);
        int low = hex_digit(t.data[at++], strict);
        if (high < 0 || low < 0)
            return -EINVAL;
        u.bytes[i] = (uint8_t)(high << 4 | low);
    }
    *ret_uuid = u;
    return 0;
}
