// SPDX-License-Identifier: BSD-3-Clause
// table: a hash table from a 64-bit hash to 64-bit values chosen by the caller (an index, an id, a
// pointer), open addressing, 16 bytes a slot at a load of at most 0.75. Several values may stand
// under one hash: the caller says which one it means (`same`), as only it knows the keys.
// Not thread-safe. Zero-initialised is empty and valid. Values must not be 0.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct table_slot {
    uint64_t hash;
    uint64_t value; // 0: free
};

struct table {
    struct table_slot *slots;
    size_t room; // a power of two, or 0
    size_t count;
};

typedef bool table_same(uint64_t value, const void *key, void *context);

void table_release(struct table *t);
// The first value under `hash` for which same(value, key, context) holds (same NULL: any); 0: none.
uint64_t table_find(const struct table *t, uint64_t hash, table_same *same, const void *key,
                    void *context);
void table_add(struct table *t, uint64_t hash, uint64_t value);
bool table_remove(struct table *t, uint64_t hash, uint64_t value); // that very pair
// Iteration: *position starts at 0; 0 when all were given. No change meanwhile.
uint64_t table_next(const struct table *t, size_t *position);
