// SPDX-License-Identifier: BSD-3-Clause
// hash: XXH3, the one hash of butlerfs (long names, inode numbers, record checks, tables). Its
// values stand in names and on disk: they never change.
#pragma once
#include <stddef.h>
#include <stdint.h>

uint64_t hash64(const void *data, size_t size_bytes);
uint64_t hash64_seed(const void *data, size_t size_bytes, uint64_t seed);
// 128 bits in canonical (big-endian) byte order.
void hash128(const void *data, size_t size_bytes, uint8_t ret_hash[16]);

// hash64 of bytes that come in pieces. The memory is the caller's, the fields are hash.c's.
struct hash_stream {
    _Alignas(64) unsigned char state[576];
};
void hash_stream_begin(struct hash_stream *h);
void hash_stream_add(struct hash_stream *h, const void *data, size_t size_bytes);
uint64_t hash_stream_end(const struct hash_stream *h); // of all so far; more may follow
