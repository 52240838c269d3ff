// SPDX-License-Identifier: BSD-3-Clause
#include "cache/store_bits.h"

#include <string.h>

#include "base/buffer.h"
#include "base/log.h"

static uint32_t words_of(uint32_t count)
{
    return (count + 63) / 64;
}

void store_bits_init(struct store_bits *b, uint32_t count, bool is_set)
{
    *b = (struct store_bits){.count = count, .set = is_set ? count : 0};
}

void store_bits_release(struct store_bits *b)
{
    free(b->words);
    b->words = NULL;
}

void store_bits_fill(struct store_bits *b, bool is_set)
{
    store_bits_release(b);
    store_bits_init(b, b->count, is_set);
}

bool store_bits_get(const struct store_bits *b, uint32_t i)
{
    check(i < b->count);
    return b->words ? b->words[i / 64] >> i % 64 & 1 : b->set > 0;
}

static void make_words(struct store_bits *b)
{
    uint32_t n = words_of(b->count);
    b->words = memory_new(n * sizeof(*b->words));
    if (b->set == 0)
        return;
    memset(b->words, 0xff, n * sizeof(*b->words));
    if (b->count % 64)
        b->words[n - 1] = (UINT64_C(1) << b->count % 64) - 1;
}

bool store_bits_put(struct store_bits *b, uint32_t i, bool is_set)
{
    if (store_bits_get(b, i) == is_set)
        return false;
    if (!b->words)
        make_words(b);
    b->words[i / 64] ^= UINT64_C(1) << i % 64;
    b->set += is_set ? 1 : -1;
    if (b->set == 0 || b->set == b->count)
        store_bits_release(b);
    return true;
}

uint32_t store_bits_next(const struct store_bits *b, uint32_t from, uint32_t to, bool is_set)
{
    check(to <= b->count);
    if (from >= to)
        return to;
    if (!b->words)
        return (b->set > 0) == is_set ? from : to;
    uint64_t flip = is_set ? 0 : UINT64_MAX;
    uint32_t i = from / 64;
    uint64_t word = (b->words[i] ^ flip) & (UINT64_MAX << from % 64);
    while (word == 0) {
        if (++i >= words_of(to))
            return to;
        word = b->words[i] ^ flip;
    }
    uint32_t found = i * 64 + (uint32_t)__builtin_ctzll(word);
    return found < to ? found : to;
}
