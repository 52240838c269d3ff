// SPDX-License-Identifier: BSD-3-Clause
// leap: the differences between TAI and UTC. base/clock.c's own; others use clock.h.
#pragma once
#include <stdint.h>

#include "base/text.h"

#define LEAP_ROWS_MAX 256

struct leap_row {
    int64_t unix_s;   // from this second of Unix time on
    int32_t offset_s; // TAI - UTC
};

struct leap_table {
    struct leap_row rows[LEAP_ROWS_MAX]; // rising
    int count;
};

// Reads the text of an IERS leap-seconds.list (seconds since 1900 and TAI - UTC, a pair a line, `#`
// begins a comment). -EINVAL when anything in it isn't as it must be; *ret_table is then untouched.
int leap_parse(struct text list, struct leap_table *ret_table);
// What was known when this was written: the last is 37 s since 2017-01-01.
void leap_builtin(struct leap_table *ret_table);
// The newer of the file at `path` and what is built in. A file that can't be used is logged.
void leap_load(const char *path, struct leap_table *ret_table);
