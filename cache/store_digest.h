// SPDX-License-Identifier: BSD-3-Clause
// store_digest: the checksum of a whole object, as its origin or the Butler registry gives it. The
// store's own. One thread at a time.
#pragma once
#include <stdbool.h>

#include "base/cleanup.h"
#include "base/text.h"

struct store_digest;

// "blake2b:", "sha256:", "sha1:", "crc32:", "crc32c:", "crc64nvme:", then the value in hex (either
// case) or base64 (S3's way; of values as long as these it always ends in `=`). NULL: none, unknown
// or malformed: nothing can be compared.
struct store_digest *store_digest_new(struct text checksum);
void store_digest_free(struct store_digest *d);
define_cleanup(struct store_digest *, store_digest_free);
void store_digest_reset(struct store_digest *d);
void store_digest_add(struct store_digest *d, const void *data, size_t size_bytes);
// Whether all that was added has the checksum. Then only reset or free.
bool store_digest_is_right(struct store_digest *d);
