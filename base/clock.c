// SPDX-License-Identifier: BSD-3-Clause
// clock: conversions between the times of files and the times of the registry.
// 1. Both conversions are total and never go backwards: times of rows sort as their files do.
// 2. tai_to_unix_ns(tai_from_unix_ns(t)) == t wherever neither is at the end of its range.
#include "base/clock.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/leap.h"
#include "base/log.h"

#define CLOCK_LEAP_FILE "/usr/share/zoneinfo/leap-seconds.list"

static struct leap_table clock_leaps; // written once, by clock_leaps_once
static pthread_once_t clock_leaps_once = PTHREAD_ONCE_INIT;

static void clock_leaps_load(void)
{
    leap_load(CLOCK_LEAP_FILE, &clock_leaps);
}

static int64_t clock_read(clockid_t id)
{
    struct timespec now;
    int error = clock_gettime(id, &now);
    check(error == 0);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

int64_t clock_ns(void)
{
    return clock_read(CLOCK_MONOTONIC);
}

int64_t clock_unix_ns(void)
{
    return clock_read(CLOCK_REALTIME);
}

static int64_t clock_steady_offset_ns; // written once, by clock_steady_once
static pthread_once_t clock_steady_once = PTHREAD_ONCE_INIT;

static void clock_steady_fix(void)
{
    clock_steady_offset_ns = clock_unix_ns() - clock_read(CLOCK_BOOTTIME);
}

int64_t clock_steady_unix_ns(void)
{
    pthread_once(&clock_steady_once, clock_steady_fix);
    return clock_steady_offset_ns + clock_read(CLOCK_BOOTTIME); // which goes on while the machine sleeps
}

static int64_t clock_add(int64_t a, int64_t b)
{
    int64_t sum;
    if (__builtin_add_overflow(a, b, &sum))
        return b < 0 ? INT64_MIN : INT64_MAX;
    return sum;
}

// INT64_MAX where the row lies beyond what nanoseconds can say (the year 2262).
static int64_t leap_row_unix_ns(const struct leap_row *row)
{
    int64_t ns;
    return __builtin_mul_overflow(row->unix_s, NS_PER_S, &ns) ? INT64_MAX : ns;
}

// Only around a row is there more to it than a sum. With offsets `old` before and `now` from it on,
// TAI instants [row + old, row + now) are a leap second: no Unix time is theirs. Were a second ever
// left out, Unix times [row + now - old, row) would be nobody's, and go to the instant at which
// they are skipped.
int64_t tai_to_unix_ns(int64_t tai_ns)
{
    pthread_once(&clock_leaps_once, clock_leaps_load);
    int i = clock_leaps.count - 1;
    for (; i > 0; i--) {
        const struct leap_row *row = &clock_leaps.rows[i];
        int64_t row_ns = leap_row_unix_ns(row);
        if (tai_ns >= clock_add(row_ns, row->offset_s * NS_PER_S))
            break;
        if (tai_ns >= clock_add(row_ns, row[-1].offset_s * NS_PER_S))
            return row_ns;
    }
    return clock_add(tai_ns, -clock_leaps.rows[i].offset_s * NS_PER_S);
}

int64_t tai_from_unix_ns(int64_t unix_ns)
{
    pthread_once(&clock_leaps_once, clock_leaps_load);
    int i = clock_leaps.count - 1;
    while (i > 0 && unix_ns < leap_row_unix_ns(&clock_leaps.rows[i]))
        i--;
    int64_t tai_ns = clock_add(unix_ns, clock_leaps.rows[i].offset_s * NS_PER_S);
    if (i + 1 == clock_leaps.count)
        return tai_ns;
    const struct leap_row *next = &clock_leaps.rows[i + 1];
    int64_t next_ns = clock_add(leap_row_unix_ns(next), next->offset_s * NS_PER_S);
    return tai_ns < next_ns ? tai_ns : next_ns;
}

void clock_format_iso(int64_t unix_ns, char ret_text[CLOCK_ISO_BYTES])
{
    int64_t seconds = unix_ns / NS_PER_S, fraction = unix_ns % NS_PER_S;
    if (fraction < 0) {
        fraction += NS_PER_S;
        seconds--;
    }
    time_t at = seconds;
    struct tm utc;
    gmtime_r(&at, &utc); // 64 bits of ns are the years 1677 to 2262: it can't fail
    size_t size = strftime(ret_text, CLOCK_ISO_BYTES, "%Y-%m-%dT%H:%M:%S", &utc);
    if (fraction) {
        size += (size_t)snprintf(ret_text + size, CLOCK_ISO_BYTES - size, ".%09d", (int)fraction);
        while (ret_text[size - 1] == '0')
            size--;
    }
    snprintf(ret_text + size, CLOCK_ISO_BYTES - size, "Z");
}

static int64_t fraction_ns(const char *digits)
{
    int64_t ns = 0;
    for (int i = 0; i < 9; i++) {
        ns = ns * 10 + (*digits ? *digits - '0' : 0);
        digits += *digits != 0;
    }
    return ns;
}

// Digits where `pattern` has a 9, else its own characters.
static bool text_is_like(const char *text, const char *pattern)
{
    for (; *pattern; text++, pattern++)
        if (*pattern == '9' ? *text < '0' || *text > '9' : *text != *pattern)
            return false;
    return true;
}

// "Z", or how far a place's time is ahead of UTC.
static int parse_offset(const char *text, int64_t *ret_s)
{
    int hours, minutes;
    *ret_s = 0;
    if (strcmp(text, "Z") == 0)
        return 0;
    bool is_ahead = text_is_like(text, "+99:99");
    if (strlen(text) != 6 || (!is_ahead && !text_is_like(text, "-99:99")) ||
        sscanf(text + 1, "%2d:%2d", &hours, &minutes) != 2)
        return -EINVAL;
    *ret_s = (is_ahead ? 1 : -1) * (hours * 3600 + minutes * 60);
    return 0;
}

static int64_t two_digits(const char *text)
{
    return (text[0] - '0') * 10 + (text[1] - '0');
}

// Days since 1970 of a day in the Gregorian calendar; a day beyond its month's end is one of the next. (timegm takes a
// lock and asks for the time zone: of a listing of many objects that was a tenth.)
static int64_t civil_days(int64_t year, int64_t month, int64_t day)
{
    year -= month <= 2;                                       // years begin in March: the leap day is their last
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5; // days before the month
    return year * 365 + year / 4 - year / 100 + year / 400 + of_year + day - 1 - 719468;
}

int clock_parse_iso(struct text text, int64_t *ret_unix_ns)
{
    char copy[CLOCK_ISO_BYTES], fraction[21] = "";
    int end = 19, more = 0;
    if (text.size_bytes >= sizeof(copy) || !text.size_bytes)
        return -EINVAL;
    memcpy(copy, text.data, text.size_bytes);
    copy[text.size_bytes] = 0;
    if (strlen(copy) != text.size_bytes || !text_is_like(copy, "9999-99-99T99:99:99"))
        return -EINVAL;
    while (copy[end] == '.' && more < 20 && copy[end + 1 + more] >= '0' && copy[end + 1 + more] <= '9') {
        fraction[more] = copy[end + 1 + more];
        more++;
    }
    end += more ? more + 1 : 0;
    int64_t offset_s, month = two_digits(copy + 5);
    if (parse_offset(copy + end, &offset_s) < 0 || month < 1 || month > 12)
        return -EINVAL;
    int64_t days = civil_days(two_digits(copy) * 100 + two_digits(copy + 2), month, two_digits(copy + 8));
    int64_t unix_s = days * 86400 + two_digits(copy + 11) * 3600 + two_digits(copy + 14) * 60 +
                     two_digits(copy + 17) - offset_s;
    if (unix_s > INT64_MAX / NS_PER_S - 1 || unix_s < INT64_MIN / NS_PER_S + 1)
        return -EINVAL;
    *ret_unix_ns = unix_s * NS_PER_S + fraction_ns(fraction);
    return 0;
}

struct clock_unit {
    const char *name;
    int64_t factor;
};

static const struct clock_unit *unit_find(const struct clock_unit *units, const char *name)
{
    while (units->name && strcmp(units->name, name) != 0)
        units++;
    return units->name ? units : NULL;
}

// Skips digits; false where there is none.
static bool digits_skip(const char **text)
{
    const char *from = *text;
    while (**text >= '0' && **text <= '9')
        ++*text;
    return *text > from;
}

// "12.5" and a unit of the table (its rows ended by a NULL), in whole numbers: a double would lose
// the last digits. A unit of 1 takes no fraction: there is no half byte.
static int unit_parse(const char *text, const struct clock_unit *units, int64_t *ret_value)
{
    const char *whole = text;
    if (!digits_skip(&text))
        return -EINVAL;
    const char *point = text;
    if (*point == '.' && (text++, !digits_skip(&text)))
        return -EINVAL;
    const struct clock_unit *unit = unit_find(units, text);
    if (!unit || (*point == '.' && unit->factor == 1))
        return -EINVAL;
    __int128 value = 0;
    for (const char *c = whole; c < point; c++) {
        value = value * 10 + (*c - '0') * (__int128)unit->factor;
        if (value > INT64_MAX)
            return -EINVAL;
    }
    __int128 share = unit->factor; // of the next digit, in millionths so that the sum stays exact
    share *= 1000000;
    __int128 fraction = 0;
    for (const char *c = point + 1; *point == '.' && c < text && share > 0; c++)
        fraction += (*c - '0') * (share /= 10);
    value += fraction / 1000000;
    if (value > INT64_MAX)
        return -EINVAL;
    *ret_value = (int64_t)value;
    return 0;
}

int clock_parse_duration(const char *text, int64_t *ret_ns)
{
    static const struct clock_unit units[] = {
        {"", NS_PER_S},          {"ns", 1},
        {"us", 1000},            {"ms", NS_PER_MS},
        {"s", NS_PER_S},         {"min", 60 * NS_PER_S},
        {"h", 3600 * NS_PER_S},  {"d", 86400 * NS_PER_S},
        {NULL, 0},
    };
    return unit_parse(text, units, ret_ns);
}

int clock_parse_size(const char *text, int64_t *ret_bytes)
{
    static const struct clock_unit units[] = {
        {"", 1},           {"B", 1},          {"K", 1LL << 10},   {"KiB", 1LL << 10},
        {"M", 1LL << 20},  {"MiB", 1LL << 20}, {"G", 1LL << 30},  {"GiB", 1LL << 30},
        {"T", 1LL << 40},  {"TiB", 1LL << 40}, {"P", 1LL << 50},  {"PiB", 1LL << 50},
        {NULL, 0},
    };
    return unit_parse(text, units, ret_bytes);
}
