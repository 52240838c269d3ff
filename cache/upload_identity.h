// SPDX-License-Identifier: BSD-3-Clause
// upload_identity: whether what is at an origin is what was sent there; upload.c's own. That it has the name and the size
// says nothing: it may be what was there before, or somebody else's.
#pragma once
#include "cache/origin/origin.h"

struct upload_identity {
    struct text validator;           // that the origin gave it when it took it; empty: that was never heard
    uint64_t size_bytes;
    uint32_t crc32;                  // of all of it
    struct text body;                // without parts: its bytes
    const struct origin_part *parts; // as they were taken
    uint32_t part_count;
};

// By the first that is known: what the origin called it, the checksum of its bytes, the ETag that S3 gives to such bytes,
// or parts. false: another object, or it can't be known. `a` answers a HEAD. May hash the body: a millisecond per megabyte.
bool upload_identity_is(const struct upload_identity *i, const struct origin_answer *a);
