// SPDX-License-Identifier: BSD-3-Clause
// s3_restore: nearline objects of buckets: what a head says of them, how a copy is asked for, what the answer means.
// Pure functions of bytes, but for the judge. Origins' own.
#pragma once
#include "cache/origin/internal.h"

// x-amz-restore: ongoing-request="true", or ongoing-request="false", expiry-date="Fri, 21 Dec 2012 00:00:00 GMT".
// false: it says neither. *ret_until_unix_ns: ORIGIN_TIME_UNKNOWN where it isn't said.
bool s3_restore_parse(struct text value, bool *ret_is_ongoing, int64_t *ret_until_unix_ns);
// What the values of x-amz-storage-class, x-amz-archive-status and x-amz-restore come to.
enum origin_nearline s3_restore_read(struct text storage_class, struct text archive_status, struct text restore,
                                     int64_t *ret_until_unix_ns);
// What is sent to ask for a copy. days 0: nothing is said of how long.
void s3_restore_body(uint32_t days, enum origin_tier tier, struct buffer *to);
// Of an answer to RESTORE that isn't 2xx: whether its code is one of those that only it knows; then the flight's error or
// answer is set.
bool s3_restore_judge(struct origin_flight *flight, const char *code, const char *reason);
