// SPDX-License-Identifier: BSD-3-Clause
// timespan: instants as text.
// 1. Reading is by the calendar, not by a library's idea of it: a day that isn't in its month, a
//    leap second that never was, is no instant.
// 2. TAI has no leap seconds: its calendar is plain counting. UTC goes through base/clock.
#include "meta/timespan.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"

#define DAY_S 86400

struct timespan timespan_of_instant(int64_t tai_ns)
{
    int64_t at = tai_ns < TIMESPAN_FIRST ? TIMESPAN_FIRST : tai_ns;
    at = at > TIMESPAN_LAST ? TIMESPAN_LAST : at;
    return (struct timespan){at, at + 1};
}

// The calendar.

static bool is_leap_year(int year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static int days_in_month(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return days[month - 1] + (month == 2 && is_leap_year(year));
}

// From 1970-01-01 to the year's first day.
static int64_t days_to_year(int year)
{
    int64_t before = year - 1;
    return before * 365 + before / 4 - before / 100 + before / 400 - 719162;
}

static int64_t days_to_date(int year, int month, int day)
{
    int64_t days = days_to_year(year) + day - 1;
    for (int m = 1; m < month; m++)
        days += days_in_month(year, m);
    return days;
}

// 0: Monday.
static int weekday(int64_t days)
{
    return (int)(((days + 3) % 7 + 7) % 7);
}

// Reading: `t` is what is left.

static bool take(struct text *t, char c)
{
    if (t->size_bytes == 0 || t->data[0] != c)
        return false;
    *t = text_slice(*t, 1, t->size_bytes);
    return true;
}

static bool take_letter(struct text *t, char upper)
{
    return take(t, upper) || take(t, (char)(upper | 0x20));
}

static size_t count_digits(struct text t)
{
    size_t n = 0;
    while (n < t.size_bytes && t.data[n] >= '0' && t.data[n] <= '9')
        n++;
    return n;
}

static bool take_number(struct text *t, size_t digits, int *ret_number)
{
    if (count_digits(*t) < digits)
        return false;
    *ret_number = 0;
    for (size_t i = 0; i < digits; i++)
        *ret_number = *ret_number * 10 + (t->data[i] - '0');
    *t = text_slice(*t, digits, t->size_bytes);
    return true;
}

static int read_week(struct text *t, int year, bool is_extended, int64_t *ret_days)
{
    int week, day;
    if (!take_number(t, 2, &week) || take(t, '-') != is_extended || !take_number(t, 1, &day))
        return -EINVAL;
    int64_t fourth = days_to_date(year, 1, 4); // is always in the first week
    int64_t first = fourth - weekday(fourth);
    int64_t next = days_to_date(year + 1, 1, 4);
    next -= weekday(next);
    if (week < 1 || day < 1 || day > 7 || first + 7 * (week - 1) >= next)
        return -EINVAL;
    *ret_days = first + 7 * (week - 1) + day - 1;
    return 0;
}

static int read_date(struct text *t, int64_t *ret_days)
{
    int year, month, day;
    if (!take_number(t, 4, &year) || year < 1)
        return -EINVAL;
    bool is_extended = take(t, '-');
    if (take_letter(t, 'W'))
        return read_week(t, year, is_extended, ret_days);
    size_t digits = count_digits(*t);
    if (digits == 3) {
        if (!take_number(t, 3, &day) || day < 1 || day > 365 + is_leap_year(year))
            return -EINVAL;
        *ret_days = days_to_year(year) + day - 1;
        return 0;
    }
    if (digits != (is_extended ? 2 : 4) || !take_number(t, 2, &month) || month < 1 || month > 12 ||
        take(t, '-') != is_extended || count_digits(*t) != 2 || !take_number(t, 2, &day) ||
        day < 1 || day > days_in_month(year, month))
        return -EINVAL;
    *ret_days = days_to_date(year, month, day);
    return 0;
}

struct time_of_day {
    int hour, minute, second;
    int64_t fraction_ns; // of the last of them that was written, times its length
};

// `,5` or `.5` of a unit of so many seconds, in ns; none: 0.
static int read_fraction(struct text *t, int64_t unit_s, int64_t *ret_ns)
{
    if (!take(t, '.') && !take(t, ','))
        return 0;
    size_t digits = count_digits(*t);
    if (digits == 0)
        return -EINVAL;
    __int128 share = (__int128)unit_s * NS_PER_S * 1000000000, sum = 0;
    for (size_t i = 0; i < digits; i++)
        sum += (t->data[i] - '0') * (share /= 10);
    *t = text_slice(*t, digits, t->size_bytes);
    *ret_ns = (int64_t)(sum / 1000000000);
    return 0;
}

static int read_time(struct text *t, struct time_of_day *d)
{
    if (!take_number(t, 2, &d->hour))
        return -EINVAL;
    bool is_extended = take(t, ':');
    size_t digits = count_digits(*t);
    if (digits == 0 && !is_extended)
        return read_fraction(t, 3600, &d->fraction_ns);
    if (digits < 2 || !take_number(t, 2, &d->minute))
        return -EINVAL;
    bool has_second = is_extended ? take(t, ':') : count_digits(*t) > 0;
    if (!has_second)
        return read_fraction(t, 60, &d->fraction_ns);
    if (count_digits(*t) != 2 || !take_number(t, 2, &d->second))
        return -EINVAL;
    return read_fraction(t, 1, &d->fraction_ns);
}

static bool is_time_of_day(const struct time_of_day *d, bool is_tai)
{
    if (d->hour == 24)
        return d->minute == 0 && d->second == 0 && d->fraction_ns == 0;
    return d->hour < 24 && d->minute < 60 && d->second < (is_tai ? 60 : 61);
}

// What may follow: nothing, `Z`, an offset of zero, `TAI`.
static int read_scale(struct text *t, bool *ret_is_tai)
{
    struct text z = *t, tai = *t;
    *ret_is_tai = false;
    if (t->size_bytes == 0)
        return 0;
    if (take_letter(&z, 'Z') && z.size_bytes == 0)
        return 0;
    take(&tai, ' ');
    if (take_letter(&tai, 'T') && take_letter(&tai, 'A') && take_letter(&tai, 'I') &&
        tai.size_bytes == 0) {
        *ret_is_tai = true;
        return 0;
    }
    struct text offset = text_slice(*t, 1, t->size_bytes);
    bool is_zero = text_equal(offset, TEXT("00:00")) || text_equal(offset, TEXT("0000")) ||
                   text_equal(offset, TEXT("00"));
    return (t->data[0] == '+' || t->data[0] == '-') && is_zero ? 0 : -EINVAL;
}

// What no integer holds is out of the client's reach anyhow, and needs no better place.
static int64_t to_ns(int64_t seconds, int64_t more_ns)
{
    __int128 ns = (__int128)seconds * NS_PER_S + more_ns;
    return ns < INT64_MIN ? INT64_MIN : ns > INT64_MAX ? INT64_MAX : (int64_t)ns;
}

static int64_t second_of(int64_t days, const struct time_of_day *d)
{
    return days * DAY_S + d->hour * 3600 + d->minute * 60 + d->second;
}

// 23:59:60 is the second before the next midnight, if TAI counts one more than Unix time there.
static int tai_of_utc(int64_t days, const struct time_of_day *d, int64_t *ret_tai_ns)
{
    int64_t second = second_of(days, d);
    if (d->second < 60) {
        *ret_tai_ns = tai_from_unix_ns(to_ns(second, d->fraction_ns));
        return 0;
    }
    int64_t before = tai_from_unix_ns(to_ns(second - 1, 0));
    if (before > INT64_MAX - 2 * NS_PER_S ||
        tai_from_unix_ns(to_ns(second, 0)) != before + 2 * NS_PER_S)
        return -EINVAL;
    *ret_tai_ns = before + NS_PER_S + d->fraction_ns;
    return 0;
}

int timespan_parse_instant(struct text t, int64_t *ret_tai_ns)
{
    int64_t days;
    struct time_of_day d = {0};
    bool is_tai;
    if (read_date(&t, &days) < 0)
        return -EINVAL;
    struct text rest = t;
    bool has_time = (take_letter(&t, 'T') || take(&t, ' ')) && count_digits(t) > 0;
    if (!has_time)
        t = rest;
    if ((has_time && read_time(&t, &d) < 0) || read_scale(&t, &is_tai) < 0 ||
        !is_time_of_day(&d, is_tai))
        return -EINVAL;
    if (!is_tai)
        return tai_of_utc(days, &d, ret_tai_ns);
    *ret_tai_ns = to_ns(second_of(days, &d), d.fraction_ns);
    return 0;
}

// Writing.

void timespan_format_instant(int64_t tai_ns, char ret_text[TIMESPAN_TEXT_BYTES])
{
    char iso[CLOCK_ISO_BYTES]; // the calendar of counting without leap seconds is Unix time's
    clock_format_iso(tai_ns, iso);
    char *to = ret_text;
    for (const char *c = iso; *c && *c != 'Z'; c++)
        if (*c != '-' && *c != ':')
            *to++ = *c == '.' ? ',' : *c;
    *to = 0;
}
