// SPDX-License-Identifier: BSD-3-Clause
// json: reads JSON through json-c, which no other file includes, and writes it. json-c builds its
// whole tree before it can be asked anything and cuts silently what it can't hold; so the text is
// looked over first:
// 1. What json-c is given has at most DOC_NODES_MAX values and DOC_DEPTH_MAX levels, and no string
//    or number that it would change: no NUL in a key (it ends there), no whole number beyond 64
//    bits (it becomes the bound).
// 2. The look-over also refuses what json-c reads, even told to be strict, though it is not JSON:
//    'a' as a key, 01, 1. and control bytes in strings. All else that is wrong is left to json-c.
#include <errno.h>
#include <json-c/json.h>
#include <math.h>

#include "base/doc_tree.h"
#include "base/log.h"

struct json_scan {
    struct text input;
    size_t at;
    size_t nodes;    // an upper bound
    int depth;
    int error;       // with why
    const char *why; // NULL: good so far
};

static size_t json_line(struct text input, size_t at)
{
    size_t line = 1;
    for (size_t i = 0; i < at && i < input.size_bytes; i++)
        line += input.data[i] == '\n';
    return line;
}

static int json_peek(const struct json_scan *s)
{
    return s->at < s->input.size_bytes ? (unsigned char)s->input.data[s->at] : -1;
}

static bool json_is_blank(int c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

// At the byte after the first quote; leaves after the last.
static void json_scan_string(struct json_scan *s)
{
    bool has_nul = false;
    for (int c; (c = json_peek(s)) != '"'; s->at++) {
        if (c < 0)
            return; // json-c says so better
        if (c < 0x20) {
            s->why = "control byte in a string";
            return;
        }
        if (c != '\\')
            continue;
        has_nul |= text_begins(text_slice(s->input, s->at, s->input.size_bytes), TEXT("\\u0000"));
        s->at++;
        if (json_peek(s) < 0)
            return;
    }
    s->at++;
    if (!has_nul)
        return;
    while (json_is_blank(json_peek(s)))
        s->at++;
    if (json_peek(s) == ':')
        s->why = "a key with a NUL in it";
}

static size_t json_skip_digits(struct text t, size_t at)
{
    while (at < t.size_bytes && t.data[at] >= '0' && t.data[at] <= '9')
        at++;
    return at;
}

static bool json_has_byte(struct text t, size_t at, char a, char b)
{
    return at < t.size_bytes && (t.data[at] == a || t.data[at] == b);
}

// -?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?
static bool json_is_number(struct text t)
{
    size_t from = json_has_byte(t, 0, '-', '-');
    size_t at = json_skip_digits(t, from);
    if (at == from || (t.data[from] == '0' && at > from + 1))
        return false;
    if (json_has_byte(t, at, '.', '.')) {
        from = at + 1;
        at = json_skip_digits(t, from);
        if (at == from)
            return false;
    }
    if (json_has_byte(t, at, 'e', 'E')) {
        from = at + 1 + json_has_byte(t, at + 1, '-', '+');
        at = json_skip_digits(t, from);
        if (at == from)
            return false;
    }
    return at == t.size_bytes;
}

static bool json_is_number_byte(int c)
{
    return (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E';
}

static bool json_fits(struct text number)
{
    char digits[24];
    if (number.size_bytes < 19 || memchr(number.data, '.', number.size_bytes) ||
        memchr(number.data, 'e', number.size_bytes) || memchr(number.data, 'E', number.size_bytes))
        return true;
    if (number.size_bytes >= sizeof(digits))
        return false;
    memcpy(digits, number.data, number.size_bytes);
    digits[number.size_bytes] = 0;
    errno = 0;
    if (digits[0] == '-')
        strtoll(digits, NULL, 10);
    else
        strtoull(digits, NULL, 10);
    return errno == 0;
}

static void json_scan_number(struct json_scan *s)
{
    size_t from = s->at;
    while (json_is_number_byte(json_peek(s)))
        s->at++;
    struct text number = text_slice(s->input, from, s->at);
    if (text_equal(number, TEXT("-")) && json_peek(s) == 'I')
        return; // -Infinity
    if (!json_is_number(number))
        s->why = "not a number of JSON";
    else if (!json_fits(number))
        s->why = "a number that does not fit 64 bits";
}

// A byte outside of strings and numbers.
static void json_scan_mark(struct json_scan *s, int c)
{
    bool is_open = c == '[' || c == '{';
    if (is_open || c == ',')
        s->nodes++; // the first value of each, and the one after each comma
    s->depth += is_open;
    s->depth -= (c == ']' || c == '}') && s->depth;
    if (s->nodes > DOC_NODES_MAX || s->depth > DOC_DEPTH_MAX) {
        s->error = -E2BIG;
        s->why = s->depth > DOC_DEPTH_MAX ? "lists and maps within each other too deep"
                                          : "too many values";
    } else if (c == 0 || c == '\'') {
        s->why = "unexpected character";
    }
}

static int json_scan(struct text input, char **ret_why)
{
    struct json_scan s = {.input = input, .nodes = 1, .error = -EINVAL};
    while (!s.why && s.at < input.size_bytes) {
        int c = json_peek(&s);
        if (json_is_number_byte(c) && c != 'e' && c != 'E') {
            json_scan_number(&s);
            continue;
        }
        s.at++;
        if (c == '"')
            json_scan_string(&s);
        else
            json_scan_mark(&s, c);
    }
    if (s.why)
        return doc_fail(s.error, ret_why, "line %zu: %s", json_line(input, s.at), s.why);
    return 0;
}

static struct doc *json_take(json_object *o);

static struct doc *json_take_integer(json_object *o)
{
    uint64_t positive = json_object_get_uint64(o); // 0 for what is below it
    if (positive <= INT64_MAX)
        return doc_new_integer(json_object_get_int64(o));
    struct doc *d = doc_new_scalar(DOC_REAL, text_of(json_object_to_json_string(o)));
    d->scalar.real = (double)positive;
    return d;
}

static struct doc *json_take_map(json_object *o)
{
    struct doc *map = doc_new(DOC_MAP);
    json_object_object_foreach(o, key, value)
        doc_put(map, key, json_take(value));
    return map;
}

static struct doc *json_take_list(json_object *o)
{
    struct doc *list = doc_new(DOC_LIST);
    size_t count = json_object_array_length(o);
    for (size_t i = 0; i < count; i++)
        doc_append(list, json_take(json_object_array_get_idx(o, i)));
    return list;
}

// Its depth is bounded by the look-over.
static struct doc *json_take(json_object *o)
{
    switch (json_object_get_type(o)) {
    case json_type_null:
        return doc_new_scalar(DOC_NULL, TEXT("null"));
    case json_type_boolean:
        return doc_new_bool(json_object_get_boolean(o));
    case json_type_int:
        return json_take_integer(o);
    case json_type_double: {
        struct doc *d = doc_new_scalar(DOC_REAL, text_of(json_object_to_json_string(o)));
        d->scalar.real = json_object_get_double(o);
        return d;
    }
    case json_type_string: {
        size_t size = (size_t)json_object_get_string_len(o);
        return doc_new_text((struct text){json_object_get_string(o), size});
    }
    case json_type_object:
        return json_take_map(o);
    case json_type_array:
        return json_take_list(o);
    }
    check(!"a type that json-c has");
    return NULL;
}

static void json_free_tokener(json_tokener **t)
{
    json_tokener_free(*t);
}

static void json_free_object(json_object **o)
{
    json_object_put(*o);
}

int doc_parse_json(struct text input, struct doc **ret_doc, char **ret_why)
{
    if (input.size_bytes > DOC_BYTES_MAX)
        return doc_fail(-E2BIG, ret_why, "more than %zu bytes", DOC_BYTES_MAX);
    int error = json_scan(input, ret_why);
    if (error < 0)
        return error;
    // One more, as json-c counts the level of the scalars too.
    cleanup(json_free_tokener) json_tokener *t = json_tokener_new_ex(DOC_DEPTH_MAX + 1);
    check(t);
    json_tokener_set_flags(t, JSON_TOKENER_STRICT);
    const char *data = input.size_bytes ? input.data : "";
    cleanup(json_free_object) json_object *o =
        json_tokener_parse_ex(t, data, (int)input.size_bytes);
    size_t end = json_tokener_get_parse_end(t);
    // A number, or nothing, could go on: the NUL says that it doesn't.
    if (json_tokener_get_error(t) == json_tokener_continue)
        o = json_tokener_parse_ex(t, "", 1);
    enum json_tokener_error status = json_tokener_get_error(t);
    if (status == json_tokener_success) {
        *ret_doc = json_take(o);
        return 0;
    }
    const char *what = status == json_tokener_continue ? "unexpected end of data"
                                                       : json_tokener_error_desc(status);
    return doc_fail(-EINVAL, ret_why, "line %zu: %s", json_line(input, end), what);
}

// --- writing

// The length of the UTF-8 sequence at the beginning of t, 0 where there is none: no overlong forms,
// no surrogates, nothing above U+10FFFF.
static size_t utf8_length(struct text t)
{
    const unsigned char *c = (const unsigned char *)t.data;
    size_t length = c[0] < 0x80 ? 1 : c[0] < 0xc2 ? 0 : c[0] < 0xe0 ? 2 : c[0] < 0xf0 ? 3 : 4;
    if (!length || c[0] > 0xf4 || t.size_bytes < length)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((c[i] & 0xc0) != 0x80)
            return 0;
    if ((c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xed && c[1] > 0x9f) ||
        (c[0] == 0xf0 && c[1] < 0x90) || (c[0] == 0xf4 && c[1] > 0x8f))
        return 0;
    return length;
}

static void json_write_ascii(unsigned char c, struct buffer *to)
{
    static const char short_forms[] = "\bb\ff\nn\rr\tt\"\"\\\\";
    for (const char *form = short_forms; *form; form += 2)
        if (c == (unsigned char)form[0]) {
            buffer_append_byte(to, '\\');
            buffer_append_byte(to, form[1]);
            return;
        }
    if (c < 0x20)
        buffer_format(to, "\\u%04x", c);
    else
        buffer_append_byte(to, (char)c);
}

static void json_write_string(struct text t, struct buffer *to)
{
    buffer_reserve(to, t.size_bytes + 2);
    buffer_append_byte(to, '"');
    for (size_t i = 0; i < t.size_bytes;) {
        size_t length = utf8_length(text_slice(t, i, t.size_bytes));
        if (length == 1)
            json_write_ascii((unsigned char)t.data[i], to);
        else if (length)
            buffer_append(to, t.data + i, length);
        else
            buffer_append_string(to, "\xef\xbf\xbd");
        i += length ? length : 1;
    }
    buffer_append_byte(to, '"');
}

static void json_write_real(const struct doc *d, struct buffer *to)
{
    if (!isfinite(d->scalar.real)) {
        buffer_append_string(to, "null");
    } else if (json_is_number(doc_spelling(d))) {
        buffer_append_string(to, d->scalar.spelling);
    } else {
        cleanup(cleanup_doc_free) struct doc *plain = doc_new_real(d->scalar.real);
        buffer_append_text(to, doc_spelling(plain));
    }
}

static void json_write_break(bool pretty, int level, struct buffer *to)
{
    if (!pretty)
        return;
    buffer_append_byte(to, '\n');
    for (int i = 0; i < level; i++)
        buffer_append_string(to, "  ");
}

static void json_write(const struct doc *d, bool pretty, int level, struct buffer *to);

static void json_write_branch(const struct doc *d, bool pretty, int level, struct buffer *to)
{
    bool is_map = d->kind == DOC_MAP;
    size_t count = doc_count(d);
    buffer_append_byte(to, is_map ? '{' : '[');
    for (size_t i = 0; i < count; i++) {
        if (i)
            buffer_append_byte(to, ',');
        json_write_break(pretty, level + 1, to);
        if (is_map) {
            json_write_string(doc_key(d, i), to);
            buffer_append_string(to, pretty ? ": " : ":");
        }
        json_write(doc_item(d, i), pretty, level + 1, to);
    }
    if (count)
        json_write_break(pretty, level, to);
    buffer_append_byte(to, is_map ? '}' : ']');
}

static void json_write(const struct doc *d, bool pretty, int level, struct buffer *to)
{
    switch (doc_kind(d)) {
    case DOC_NULL:
        buffer_append_string(to, "null");
        break;
    case DOC_BOOL:
        buffer_append_string(to, d->scalar.boolean ? "true" : "false");
        break;
    case DOC_INTEGER:
        buffer_format(to, "%lld", (long long)d->scalar.integer);
        break;
    case DOC_REAL:
        json_write_real(d, to);
        break;
    case DOC_STRING:
        json_write_string(doc_spelling(d), to);
        break;
    case DOC_LIST:
    case DOC_MAP:
        json_write_branch(d, pretty, level, to);
        break;
    }
}

void doc_write_json(const struct doc *d, bool pretty, struct buffer *to)
{
    json_write(d, pretty, 0, to);
}
