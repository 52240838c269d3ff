// SPDX-License-Identifier: BSD-3-Clause
// doc_scalar: what a word of YAML means when it is not quoted. The rules are YAML 1.1's as PyYAML
// reads them, as Butler reads the same files with PyYAML and both must see the same: "1e5" is a
// string, 017 is 15, "on" is true. Left out: numbers to the base of 60 (12:30:00) and times, which
// stay the strings that they look like.
#include <errno.h>
#include <math.h>

#include "base/doc_tree.h"

#define NUMBER_BYTES 64 // longer numbers stay strings

static bool text_is_one_of(struct text t, const char *const *words)
{
    for (; *words; words++)
        if (text_equal(t, text_of(*words)))
            return true;
    return false;
}

// Copies without `_`, which YAML lets stand between digits; returns whether it fits.
static bool number_strip(struct text t, char to[NUMBER_BYTES])
{
    size_t n = 0;
    for (size_t i = 0; i < t.size_bytes; i++) {
        if (t.data[i] == '_')
            continue;
        if (n + 1 == NUMBER_BYTES)
            return false;
        to[n++] = t.data[i];
    }
    to[n] = 0;
    return true;
}

// Skips the bytes of `set` from `at` on.
static size_t text_span(struct text t, size_t at, const char *set)
{
    while (at < t.size_bytes && t.data[at] && strchr(set, t.data[at]))
        at++;
    return at;
}

static bool text_has_digit(struct text t, size_t from, size_t to)
{
    while (from < to && t.data[from] == '_')
        from++;
    return from < to;
}

// The base and where its digits begin, or 0 when it is not [-+]?(0b|0x|0|[1-9])digits.
static int integer_base(struct text t, size_t *ret_digits)
{
    static const struct {
        const char *prefix, *digits;
        int base;
    } forms[] = {
        {"0b", "01_", 2},
        {"0x", "0123456789abcdefABCDEF_", 16},
        {"0", "01234567_", 8},
        {"", "0123456789_", 10},
    };
    size_t at = t.size_bytes && (t.data[0] == '-' || t.data[0] == '+');
    struct text rest = text_slice(t, at, t.size_bytes);
    if (text_equal(rest, TEXT("0"))) {
        *ret_digits = at;
        return 10;
    }
    for (size_t i = 0; i < sizeof(forms) / sizeof(*forms); i++) {
        if (!text_begins(rest, text_of(forms[i].prefix)))
            continue;
        size_t digits = at + strlen(forms[i].prefix);
        if (forms[i].base == 10 && (digits == t.size_bytes || t.data[digits] == '0' ||
                                    t.data[digits] == '_'))
            return 0;
        if (text_span(t, digits, forms[i].digits) == t.size_bytes &&
            text_has_digit(t, digits, t.size_bytes)) {
            *ret_digits = digits;
            return forms[i].base;
        }
    }
    return 0;
}

static struct doc *new_integer(struct text spelling)
{
    size_t from;
    int base = integer_base(spelling, &from);
    char digits[NUMBER_BYTES];
    if (!base || !number_strip(text_slice(spelling, from, spelling.size_bytes), digits))
        return NULL;
    bool is_negative = spelling.data[0] == '-';
    errno = 0;
    unsigned long long size = strtoull(digits, NULL, base);
    bool is_too_long = errno == ERANGE;
    if (is_too_long || size > (unsigned long long)INT64_MAX + is_negative) {
        // Not an integer of ours; as a real it is at least near.
        struct doc *d = doc_new_scalar(DOC_REAL, spelling);
        double near = is_too_long && base == 10 ? strtod(digits, NULL)
                      : is_too_long             ? HUGE_VAL
                                                : (double)size;
        d->scalar.real = is_negative ? -near : near;
        return d;
    }
    struct doc *d = doc_new_scalar(DOC_INTEGER, spelling);
    d->scalar.integer = (int64_t)(is_negative ? 0 - size : size);
    return d;
}

// ([-+]?digits.digits?|.digits)([eE][-+]digits)?: the sign of the exponent is not optional in 1.1.
static bool is_real(struct text t)
{
    size_t from = t.size_bytes && (t.data[0] == '-' || t.data[0] == '+');
    size_t point = from;
    if (from < t.size_bytes && t.data[from] >= '0' && t.data[from] <= '9')
        point = text_span(t, from, "0123456789_");
    if (point == t.size_bytes || t.data[point] != '.')
        return false;
    size_t end = text_span(t, point + 1, "0123456789_");
    bool has_fraction = end > point + 1 && t.data[point + 1] != '_';
    if (point == from && (from || !has_fraction)) // nor may a sign stand before the point
        return false;
    if (end == t.size_bytes)
        return true;
    if (t.size_bytes - end < 3 || (t.data[end] | 0x20) != 'e' ||
        (t.data[end + 1] != '-' && t.data[end + 1] != '+'))
        return false;
    return text_span(t, end + 2, "0123456789") == t.size_bytes;
}

static struct doc *new_real(struct text spelling)
{
    static const char *const infinite[] = {".inf", ".Inf", ".INF", NULL};
    static const char *const no_number[] = {".nan", ".NaN", ".NAN", NULL};
    bool has_sign = spelling.size_bytes && (spelling.data[0] == '-' || spelling.data[0] == '+');
    struct text rest = text_slice(spelling, has_sign, spelling.size_bytes);
    char digits[NUMBER_BYTES];
    double value;
    if (text_is_one_of(rest, infinite))
        value = HUGE_VAL;
    else if (text_is_one_of(spelling, no_number))
        value = NAN;
    else if (is_real(spelling) && number_strip(rest, digits))
        value = strtod(digits, NULL);
    else
        return NULL;
    struct doc *d = doc_new_scalar(DOC_REAL, spelling);
    d->scalar.real = has_sign && spelling.data[0] == '-' ? -value : value;
    return d;
}

struct doc *doc_new_plain(struct text spelling)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const trues[] = {"true", "True", "TRUE", "yes", "Yes",
                                        "YES",  "on",   "On",   "ON",  NULL};
    static const char *const falses[] = {"false", "False", "FALSE", "no", "No",
                                         "NO",    "off",   "Off",   "OFF", NULL};
    if (text_is_one_of(spelling, nulls))
        return doc_new_scalar(DOC_NULL, spelling);
    bool is_true = text_is_one_of(spelling, trues);
    if (is_true || text_is_one_of(spelling, falses)) {
        struct doc *d = doc_new_scalar(DOC_BOOL, spelling);
        d->scalar.boolean = is_true;
        return d;
    }
    struct doc *d = new_integer(spelling);
    if (!d)
        d = new_real(spelling);
    return d ? d : doc_new_scalar(DOC_STRING, spelling);
}
