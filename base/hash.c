// SPDX-License-Identifier: BSD-3-Clause
// hash: the thin door to xxHash, which no other file includes.
#include "base/hash.h"

#include <string.h>
#define XXH_STATIC_LINKING_ONLY // the size of XXH3_state_t
#include <xxhash.h>

#include "config.h"

#if HAS_XXH_DISPATCH
#define LONG_BYTES 1024 // less isn't worth a look at which processor this is

// The library's own: the same values, with the widest vectors there are.
XXH64_hash_t XXH3_64bits_dispatch(const void *data, size_t size_bytes);
#endif

uint64_t hash64(const void *data, size_t size_bytes)
{
#if HAS_XXH_DISPATCH
    if (size_bytes >= LONG_BYTES)
        return XXH3_64bits_dispatch(data, size_bytes);
#endif
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

_Static_assert(sizeof(struct hash_stream) >= sizeof(XXH3_state_t) &&
                   _Alignof(struct hash_stream) >= _Alignof(XXH3_state_t),
               "a hash_stream is an XXH3_state_t");

void hash_stream_begin(struct hash_stream *h)
{
    XXH3_64bits_reset((XXH3_state_t *)h->state);
}

void hash_stream_add(struct hash_stream *h, const void *data, size_t size_bytes)
{
    XXH3_64bits_update((XXH3_state_t *)h->state, data, size_bytes);
}

uint64_t hash_stream_end(const struct hash_stream *h)
{
    return XXH3_64bits_digest((const XXH3_state_t *)h->state);
}
