// SPDX-License-Identifier: BSD-3-Clause
// where_words: what an expression is made of: words, signs, literals.
#include "meta/where_words.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

// ---- telling --------------------------------------------------------------------------------

__attribute__((format(printf, 3, 4))) int where_refuse(struct where_parser *p, size_t at, const char *format, ...)
{
    BUFFER_CLEANUP line = {0};
    va_list args;
    if (p->why)
        return -EINVAL;
    buffer_format(&line, "at character %zu: ", at + 1);
    va_start(args, format);
    buffer_vformat(&line, format, args);
    va_end(args);
    p->why = buffer_steal(&line);
    return -EINVAL;
}

// ---- words ----------------------------------------------------------------------------------

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

char where_peek(const struct where_parser *p, size_t ahead)
{
    return p->at + ahead < p->in.size_bytes ? p->in.data[p->at + ahead] : 0;
}

void where_skip_spaces(struct where_parser *p)
{
    while (p->at < p->in.size_bytes && is_space(p->in.data[p->at]))
        p->at++;
}

// A word with its dots, not taken.
struct text where_peek_word(struct where_parser *p)
{
    where_skip_spaces(p);
    size_t end = p->at;
    if (end < p->in.size_bytes && is_letter(p->in.data[end]))
        while (end < p->in.size_bytes && (is_letter(p->in.data[end]) || is_digit(p->in.data[end]) || p->in.data[end] == '.'))
            end++;
    return text_slice(p->in, p->at, end);
}

bool where_is_word(struct text word, const char *wanted)
{
    return word.size_bytes == strlen(wanted) && strncasecmp(word.data, wanted, word.size_bytes) == 0;
}

bool where_take_word(struct where_parser *p, const char *wanted)
{
    struct text word = where_peek_word(p);
    if (!where_is_word(word, wanted))
        return false;
    p->at += word.size_bytes;
    return true;
}

bool where_take_sign(struct where_parser *p, const char *wanted)
{
    where_skip_spaces(p);
    if (!text_begins(text_slice(p->in, p->at, p->in.size_bytes), text_of(wanted)))
        return false;
    p->at += strlen(wanted);
    return true;
}

int where_expected(struct where_parser *p, const char *what)
{
    where_skip_spaces(p);
    if (p->at >= p->in.size_bytes)
        return where_refuse(p, p->at, "it ends where %s was expected", what);
    int left = p->in.size_bytes - p->at < 10 ? (int)(p->in.size_bytes - p->at) : 10;
    return where_refuse(p, p->at, "%s was expected, not \"%.*s\"", what, left, p->in.data + p->at);
}

// ---- literals -------------------------------------------------------------------------------

static int take_string(struct where_parser *p, struct field *ret_field)
{
    size_t from = p->at;
    char quote = p->in.data[from];
    const char *end = memchr(p->in.data + from + 1, quote, p->in.size_bytes - from - 1);
    if (!end)
        return where_refuse(p, from, "this quote has no end");
    size_t begin = p->w->texts.size_bytes;
    buffer_append(&p->w->texts, p->in.data + from + 1, (size_t)(end - p->in.data) - from - 1);
    *ret_field = (struct field){.kind = FIELD_TEXT, .text = text_slice(buffer_text(&p->w->texts), begin, p->w->texts.size_bytes)};
    p->at = (size_t)(end - p->in.data) + 1;
    return 0;
}

// Digits, with what makes them a number of another kind; `..` is not a part of it.
static int take_number(struct where_parser *p, struct field *ret_field)
{
    size_t from = p->at, end = from;
    bool is_real = false;
    if (where_peek(p, 0) == '-' || where_peek(p, 0) == '+')
        end++;
    while (end < p->in.size_bytes && is_digit(p->in.data[end]))
        end++;
    if (end < p->in.size_bytes && p->in.data[end] == '.' && !(end + 1 < p->in.size_bytes && p->in.data[end + 1] == '.')) {
        is_real = true;
        for (end++; end < p->in.size_bytes && is_digit(p->in.data[end]);)
            end++;
    }
    size_t e = end + 1;
    if (end < p->in.size_bytes && (p->in.data[end] == 'e' || p->in.data[end] == 'E')) {
        e += e < p->in.size_bytes && (p->in.data[e] == '-' || p->in.data[e] == '+');
        if (e < p->in.size_bytes && is_digit(p->in.data[e])) {
            is_real = true;
            for (end = e; end < p->in.size_bytes && is_digit(p->in.data[end]);)
                end++;
        }
    }
    if (end - from > 300)
        return where_refuse(p, from, "a number of this length");
    char digits[301];
    memcpy(digits, p->in.data + from, end - from);
    digits[end - from] = 0;
    errno = 0;
    *ret_field = is_real ? (struct field){.kind = FIELD_REAL, .real = strtod(digits, NULL)}
                         : (struct field){.kind = FIELD_INTEGER, .integer = strtoll(digits, NULL, 10)};
    if (errno == ERANGE && !is_real)
        return where_refuse(p, from, "the number %.40s is too large", digits);
    p->at = end;
    if (is_letter(where_peek(p, 0)))
        return where_refuse(p, p->at, "a number ends in \"%c\"", where_peek(p, 0));
    return 0;
}

// 1: there is one; 0: something else stands there.
int where_take_literal(struct where_parser *p, struct field *ret_field)
{
    where_skip_spaces(p);
    char c = where_peek(p, 0), next = where_peek(p, 1);
    int r = 0;
    if (c == '\'' || c == '"')
        r = take_string(p, ret_field) ?: 1;
    else if (is_digit(c) || (c == '.' && is_digit(next)) ||
             ((c == '-' || c == '+') && (is_digit(next) || (next == '.' && is_digit(where_peek(p, 2))))))
        r = take_number(p, ret_field) ?: 1;
    else if (where_take_word(p, "null")) {
        *ret_field = (struct field){.kind = FIELD_NULL};
        r = 1;
    }
    return r;
}
