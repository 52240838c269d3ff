// SPDX-License-Identifier: BSD-3-Clause
// archive_stream: a deflated member being inflated, and what is remembered so that reads near the
// last one and jumps are cheap; archive_reader.c's own. One thread at a time. It may be freed
// between any two reads: a new one gives the same bytes.
#pragma once
#include <stddef.h>

#include "cache/archive.h"

struct archive_stream;

struct archive_stream *archive_stream_new(int fd, const struct archive_member *member);
void archive_stream_free(struct archive_stream *s);
size_t archive_stream_memory_bytes(const struct archive_stream *s);
// `size_bytes` > 0 bytes from `offset`, all within the member. 0; -EBADMSG: the data is not what
// the directory says (for good); -ETIMEDOUT and errors of pread: the same may be asked again.
int archive_stream_read(struct archive_stream *s, void *to, size_t size_bytes, uint64_t offset,
                        int64_t deadline_ns, const char **ret_why);
