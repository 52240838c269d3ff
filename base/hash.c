// SPDX-License-Identifier: BSD-3-Clause
// hash: the thin door to xxHash, which no other file includes.
#include "base/hash.h"

#include <string.h>
#include <xxhash.h>

uint64_t hash64(const void *data, size_t size_bytes)
{
    return XXH3_64bits(data, size_bytes);
}

uint64_t hash64_seed(const void *data, size_t size_bytes, uint64_t seed)
{
    return XXH3_64bits_withSeed(data, size_bytes, seed);
}

void hash128(const void *data, size_t size_bytes, uint8_t ret_hash[16])
{
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(data, size_bytes));
    memcpy(ret_hash, canonical.digest, sizeof(canonical.digest));
}
