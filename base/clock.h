// SPDX-License-Identifier: BSD-3-Clause
// clock: the times butlerfs uses. Monotonic nanoseconds for deadlines and durations; TAI
// nanoseconds since 1970-01-01T00:00:00 TAI as the Butler registry stores them; Unix (UTC)
// nanoseconds for files. The leap-second table is the system's (tzdata's leap-seconds.list, the
// IERS bulletin) with a built-in copy where there is none.
// Any thread; tai_* read their table once, on first use.
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/text.h"

#define NS_PER_S 1000000000LL
#define NS_PER_MS 1000000LL

int64_t clock_ns(void);          // CLOCK_MONOTONIC
int64_t clock_unix_ns(void);     // CLOCK_REALTIME
// Unix time as it goes on from this process's first look at it, whatever is done to the clock: for comparing times with others
// of the same process, as how old something is. Times on disk that are greater are of a life whose clock was ahead.
int64_t clock_steady_unix_ns(void);

// Total and in order: a TAI instant inside a leap second is the midnight that ends it; before 1972
// the difference is that of 1972 (10 s); results that don't fit are the nearest that do.
int64_t tai_to_unix_ns(int64_t tai_ns);
int64_t tai_from_unix_ns(int64_t unix_ns);

// ISO 8601 in UTC, "2024-11-11T03:04:05.123456Z"; the fraction only where there is one, up to ns.
#define CLOCK_ISO_BYTES 40
void clock_format_iso(int64_t unix_ns, char ret_text[CLOCK_ISO_BYTES]);
// The same read, up to ns, the rest cut off; an offset ("+01:00") may stand for Z. -EINVAL for anything else, and for what
// 64 bits don't hold.
int clock_parse_iso(struct text text, int64_t *ret_unix_ns);

// A duration as people write it: "200ms", "1s", "5min", "2h", "1d" (also us, ns), a bare number is
// seconds; fractions allowed, what is below a nanosecond is cut off. -EINVAL for anything else,
// below 0 or too large.
int clock_parse_duration(const char *text, int64_t *ret_ns);
// A size: "4096", "8G", "512MiB", "1.5T" (K M G T P, each with or without "iB": powers of 1024;
// "KB" is refused as it is not clear which it means). -EINVAL otherwise.
int clock_parse_size(const char *text, int64_t *ret_bytes);
