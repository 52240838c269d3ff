// SPDX-License-Identifier: BSD-3-Clause
// upload_record: files that say which uploads were begun, one each; upload.c's own. What a process leaves when it dies is
// found by the next. They aren't synced: after a power cut one may be missing.
#pragma once
#include "base/buffer.h"

struct upload_record {
    struct text identity; // of the origin
    struct text key;
    struct text upload;   // empty: the answer to its beginning never came
    int64_t begun_unix_ns;
};

// Writes (replaces) the record of that number. -errno.
int upload_record_write(const char *folder, uint64_t number, const struct upload_record *r);
void upload_record_remove(const char *folder, uint64_t number);
// Calls `each` for every record that is there; what isn't one is removed, what can't be read stays. -errno of the folder.
int upload_records(const char *folder, void (*each)(void *context, uint64_t number, const struct upload_record *r),
                   void *context);
// From the bytes of a file. -EBADMSG. Texts are in `data`.
int upload_record_read(struct text data, struct upload_record *ret_record);
