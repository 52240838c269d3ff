// SPDX-License-Identifier: BSD-3-Clause
// kept: small texts of other origins (a remote butler.yaml), as they were last read, in a folder of cache_dir: a later life of
// the daemon, which must not fail for want of them, begins with these while their origin is away.
//
// They may hold passwords: only this process's user reads them, and what isn't as it was written, or may have been written by
// somebody else, counts as not there. Any thread; one writer of a name at a time.
#pragma once
#include <stdint.h>

#include "base/buffer.h"

#define KEPT_BYTES_MAX (1u << 20)

// Replaces the text of that name (a URI). -errno: the one before stands as it was. The folder is made if need be.
int kept_write(const char *folder, struct text name, struct text text);
// 0 with the text put behind `to`, and when it was written. -ENOENT; -EBADMSG, -EPERM: it isn't to be trusted.
int kept_read(const char *folder, struct text name, struct buffer *to, int64_t *ret_unix_ns);
