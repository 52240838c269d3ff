// SPDX-License-Identifier: BSD-3-Clause
// store_bits: a bit for each block of an object. None and all cost no memory, whatever the size. The
// store's own; not thread-safe.
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct store_bits {
    uint64_t *words; // NULL: all or none, as `set` says
    uint32_t count;
    uint32_t set;
};

void store_bits_init(struct store_bits *b, uint32_t count, bool is_set);
void store_bits_release(struct store_bits *b);
void store_bits_fill(struct store_bits *b, bool is_set);
bool store_bits_get(const struct store_bits *b, uint32_t i);
bool store_bits_put(struct store_bits *b, uint32_t i, bool is_set); // whether that changed it
// The first of [from, to) that is as given; `to`: none. to <= count.
uint32_t store_bits_next(const struct store_bits *b, uint32_t from, uint32_t to, bool is_set);
static inline bool store_bits_all(const struct store_bits *b)
{
    return b->set == b->count;
}
