// SPDX-License-Identifier: BSD-3-Clause
// ledger_set.c: see ledger_set.h.
#include "meta/ledger_set.h"

#include "base/buffer.h"
#include "base/hash.h"

#define CHUNK_BITS 9 // inodes in a piece

struct chunk {
    uint64_t device, first;
    uint64_t bits[(1 << CHUNK_BITS) / 64];
};

static bool same_chunk(uint64_t value, const void *key, void *context)
{
    const struct chunk *c = (const void *)(uintptr_t)value, *k = key;
    (void)context;
    return c->device == k->device && c->first == k->first;
}

static uint64_t hash_of(const struct chunk *key)
{
    return hash64((const uint64_t[]){key->device, key->first}, 16);
}

static struct chunk key_of(struct ledger_file f)
{
    return (struct chunk){.device = f.device, .first = f.inode >> CHUNK_BITS};
}

static struct chunk *find(const struct ledger_set *s, struct ledger_file f)
{
    struct chunk key = key_of(f);
    return (void *)(uintptr_t)table_find(&s->chunks, hash_of(&key), same_chunk, &key, NULL);
}

static uint64_t *word_of(struct chunk *c, struct ledger_file f)
{
    return &c->bits[(f.inode & ((1 << CHUNK_BITS) - 1)) / 64];
}

static uint64_t bit_of(struct ledger_file f)
{
    return 1ULL << (f.inode % 64);
}

bool ledger_set_add(struct ledger_set *s, struct ledger_file f)
{
    struct chunk *c = find(s, f);
    if (!c) {
        c = new_struct(struct chunk);
        *c = key_of(f);
        table_add(&s->chunks, hash_of(c), (uint64_t)(uintptr_t)c);
    }
    uint64_t *word = word_of(c, f);
    bool was_in = *word & bit_of(f);
    *word |= bit_of(f);
    return was_in;
}

bool ledger_set_has(const struct ledger_set *s, struct ledger_file f)
{
    struct chunk *c = find(s, f);
    return c && *word_of(c, f) & bit_of(f);
}

void ledger_set_remove(struct ledger_set *s, struct ledger_file f)
{
    struct chunk *c = find(s, f);
    if (c)
        *word_of(c, f) &= ~bit_of(f);
}

void ledger_set_release(struct ledger_set *s)
{
    size_t at = 0;
    uint64_t value;
    while ((value = table_next(&s->chunks, &at)))
        free((void *)(uintptr_t)value);
    table_release(&s->chunks);
}
