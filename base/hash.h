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
