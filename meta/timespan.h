// SPDX-License-Identifier: BSD-3-Clause
// timespan: when something holds: [begin, end) in nanoseconds of TAI since 1970-01-01T00:00:00 TAI,
// as the Butler client has it: what is open begins at TIMESPAN_FIRST and ends at TIMESPAN_LAST, what
// is empty is TIMESPAN_EMPTY. And the instants that people write.
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/text.h"

#define TIMESPAN_FIRST INT64_C(0)
#define TIMESPAN_LAST INT64_C(4102444800000000000) // 2100-01-01T00:00:00 TAI

struct timespan {
    int64_t begin_tai_ns;
    int64_t end_tai_ns;
};

#define TIMESPAN_ALWAYS ((struct timespan){TIMESPAN_FIRST, TIMESPAN_LAST})
// Where none is given at all; no timespan is this.
#define TIMESPAN_NONE ((struct timespan){0, 0})
#define TIMESPAN_EMPTY ((struct timespan){TIMESPAN_LAST, TIMESPAN_FIRST})

static inline bool timespan_is_empty(const struct timespan *t)
{
    return t->begin_tai_ns >= t->end_tai_ns;
}

static inline bool timespan_is_none(const struct timespan *t)
{
    return t->begin_tai_ns == 0 && t->end_tai_ns == 0;
}

static inline bool timespan_equal(const struct timespan *a, const struct timespan *b)
{
    return a->begin_tai_ns == b->begin_tai_ns && a->end_tai_ns == b->end_tai_ns;
}

// Whether what holds in `range` is found when one asks for `at`: they overlap; who asks for all time
// is answered with everything, empty ranges too. What holds always is not found at an empty time.
static inline bool timespan_finds(const struct timespan *at, const struct timespan *range)
{
    return timespan_equal(at, &TIMESPAN_ALWAYS) ||
           (range->end_tai_ns > at->begin_tai_ns && at->end_tai_ns > range->begin_tai_ns);
}

// The nanosecond that begins at an instant, as the client makes it: what lies outside of first and
// last is moved there.
struct timespan timespan_of_instant(int64_t tai_ns);

// Reads an instant, any spelling of ISO 8601: a date (2024-11-11, 20241111, 2024-316, 2024-W46-1),
// and if there is one a time after `T` or a blank (03:04:05.5, 030405,5, 03:04, 03), in UTC (`Z`,
// `+00:00` or nothing) or in TAI (` TAI` or `TAI` at its end); 24:00 ends a day, :60 is a leap
// second where there was one. Letters in either case. What is below a nanosecond is cut off.
// -EINVAL.
int timespan_parse_instant(struct text t, int64_t *ret_tai_ns);

// A TAI instant as ISO 8601 basic, "20240101T000000,5": as many digits of a fraction as it needs.
// The calendar's years are 1677 to 2262.
#define TIMESPAN_TEXT_BYTES 32
void timespan_format_instant(int64_t tai_ns, char ret_text[TIMESPAN_TEXT_BYTES]);
