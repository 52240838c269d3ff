// SPDX-License-Identifier: BSD-3-Clause
// fetcher_head: the fields of an answer, kept as they came and read when they are asked for.
// 1. `fields` is "name\0value\0" repeated; a name isn't empty and has no byte that a field's name may not have.
// 2. No more than FETCH_HEAD_BYTES_MAX are kept: more is no answer that is taken.
#include "cache/fetcher_head.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

static bool is_name_byte(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static struct text text_trim(struct text t)
{
    while (t.size_bytes && is_space(t.data[0]))
        t = text_slice(t, 1, t.size_bytes);
    while (t.size_bytes && is_space(t.data[t.size_bytes - 1]))
        t.size_bytes--;
    return t;
}

// "HTTP/1.1 200 OK", "HTTP/2 200"
static int head_status(struct text line)
{
    const char *space = memchr(line.data, ' ', line.size_bytes);
    if (!space)
        return -EPROTO;
    struct text rest = text_slice(line, (size_t)(space - line.data) + 1, line.size_bytes);
    if (rest.size_bytes < 3)
        return -EPROTO;
    int status = 0;
    for (int i = 0; i < 3; i++) {
        if (rest.data[i] < '0' || rest.data[i] > '9')
            return -EPROTO;
        status = status * 10 + (rest.data[i] - '0');
    }
    return status >= 100 ? status : -EPROTO;
}

int fetch_head_line(struct fetch_head *h, struct text line)
{
    if (text_begins(line, TEXT("HTTP/"))) {
        buffer_clear(&h->fields);
        int status = head_status(line);
        h->status = status > 0 ? status : 0;
        return status > 0 ? 0 : status;
    }
    if (h->fields.size_bytes + line.size_bytes + 2 > FETCH_HEAD_BYTES_MAX)
        return -E2BIG;
    const char *colon = line.size_bytes ? memchr(line.data, ':', line.size_bytes) : NULL;
    if (!colon || colon == line.data)
        return 0; // the empty line at the end, or what was folded: nobody sends that any more
    size_t start = h->fields.size_bytes;
    for (const char *c = line.data; c < colon; c++) {
        char lower = *c >= 'A' && *c <= 'Z' ? (char)(*c + ('a' - 'A')) : *c;
        if (!is_name_byte(lower)) {
            buffer_truncate(&h->fields, start);
            return 0;
        }
        buffer_append_byte(&h->fields, lower);
    }
    buffer_append_byte(&h->fields, 0);
    struct text value = text_trim(text_slice(line, (size_t)(colon - line.data) + 1, line.size_bytes));
    if (value.size_bytes && memchr(value.data, 0, value.size_bytes)) {
        buffer_truncate(&h->fields, start);
        return 0;
    }
    buffer_append_text(&h->fields, value);
    buffer_append_byte(&h->fields, 0);
    return 0;
}

bool fetch_head_next(const struct fetch_head *h, size_t *position, struct text *ret_name,
                     struct text *ret_value)
{
    if (*position >= h->fields.size_bytes)
        return false;
    *ret_name = text_of(h->fields.data + *position);
    *position += ret_name->size_bytes + 1;
    *ret_value = text_of(h->fields.data + *position);
    *position += ret_value->size_bytes + 1;
    return true;
}

struct text fetch_head_get(const struct fetch_head *h, const char *wanted)
{
    struct text name, value;
    for (size_t at = 0; fetch_head_next(h, &at, &name, &value);) {
        if (text_equal(name, text_of(wanted)))
            return value;
    }
    return TEXT("");
}

// Digits only, at least one; the rest of the text is left in *t.
static int64_t take_number(struct text *t)
{
    int64_t number = -1;
    while (t->size_bytes && t->data[0] >= '0' && t->data[0] <= '9') {
        int64_t digit = t->data[0] - '0';
        if (number < 0)
            number = 0;
        if (__builtin_mul_overflow(number, 10, &number) || __builtin_add_overflow(number, digit, &number))
            return -1;
        *t = text_slice(*t, 1, t->size_bytes);
    }
    return number;
}

int64_t fetch_head_integer(const struct fetch_head *h, const char *name)
{
    struct text value = fetch_head_get(h, name);
    int64_t number = take_number(&value);
    return value.size_bytes ? -1 : number;
}

int64_t fetch_head_date(const struct fetch_head *h, const char *name)
{
    return http_date(fetch_head_get(h, name));
}

int64_t http_date(struct text text)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    char date[64], month[4] = "", zone[4] = "";
    struct tm tm = {0};
    if (text.size_bytes == 0 || text.size_bytes >= sizeof(date))
        return INT64_MIN;
    memcpy(date, text.data, text.size_bytes);
    date[text.size_bytes] = 0;
    // "Sun, 06 Nov 1994 08:49:37 GMT": the form that servers must send; older ones are not read.
    int end = 0;
    if (sscanf(date, "%*3[A-Za-z], %2d %3[A-Za-z] %4d %2d:%2d:%2d %3[A-Z]%n", &tm.tm_mday, month, &tm.tm_year,
               &tm.tm_hour, &tm.tm_min, &tm.tm_sec, zone, &end) != 7 || date[end] || strcmp(zone, "GMT") != 0)
        return INT64_MIN;
    const char *found = strlen(month) == 3 ? strstr(months, month) : NULL;
    if (!found || (found - months) % 3)
        return INT64_MIN;
    tm.tm_mon = (int)((found - months) / 3);
    if (tm.tm_mday < 1 || tm.tm_mday > 31 || tm.tm_year < 1600 || tm.tm_hour > 23 || tm.tm_min > 59 ||
        tm.tm_sec > 60 || tm.tm_hour < 0 || tm.tm_min < 0 || tm.tm_sec < 0)
        return INT64_MIN;
    tm.tm_year -= 1900;
    return timegm(&tm);
}

int fetch_head_range(const struct fetch_head *h, struct fetch_range *ret_range)
{
    struct text t = fetch_head_get(h, "content-range");
    struct fetch_range range = {-1, -1, -1};
    if (!text_begins(t, TEXT("bytes ")))
        return -EINVAL;
    t = text_trim(text_slice(t, 6, t.size_bytes));
    if (text_begins(t, TEXT("*"))) {
        t = text_slice(t, 1, t.size_bytes);
    } else {
        range.first = take_number(&t);
        if (range.first < 0 || !text_begins(t, TEXT("-")))
            return -EINVAL;
        t = text_slice(t, 1, t.size_bytes);
        range.last = take_number(&t);
        if (range.last < range.first)
            return -EINVAL;
    }
    if (!text_begins(t, TEXT("/")))
        return -EINVAL;
    t = text_slice(t, 1, t.size_bytes);
    if (!text_equal(t, TEXT("*"))) {
        range.size_bytes = take_number(&t);
        if (range.size_bytes < 0 || t.size_bytes || range.last >= range.size_bytes)
            return -EINVAL;
    }
    *ret_range = range;
    return 0;
}

int64_t fetch_head_retry_after_ns(const struct fetch_head *h, int64_t unix_ns)
{
    int64_t seconds = fetch_head_integer(h, "retry-after");
    if (seconds < 0) {
        int64_t date = fetch_head_date(h, "retry-after");
        seconds = date == INT64_MIN ? 0 : date - unix_ns / NS_PER_S;
    }
    const int64_t most = 24 * 3600;
    return seconds <= 0 ? 0 : (seconds < most ? seconds : most) * NS_PER_S;
}
