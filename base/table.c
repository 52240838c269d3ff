// SPDX-License-Identifier: BSD-3-Clause
// table: open addressing with linear steps.
// 1. A slot whose value is 0 is free. From an entry's home slot up to the entry none is free.
// 2. Removal moves later entries back (no tombstones), so that 1 holds and a table that lives as
//    long as the daemon doesn't slow down. It never shrinks: what was needed once is needed again.
// 3. count <= 3/4 room, so every search ends at a free slot.
#include "base/table.h"

#include <stdlib.h>

#include "base/buffer.h"
#include "base/log.h"

#define TABLE_FIRST_ROOM 16

// Callers' hashes may be plain counters: the multiplication spreads them over the upper half, which
// is then folded in.
static size_t table_home(size_t room, uint64_t hash)
{
    uint64_t spread = hash * UINT64_C(0x9E3779B97F4A7C15);
    return (size_t)(spread ^ spread >> 32) & (room - 1);
}

void table_release(struct table *t)
{
    free(t->slots);
    *t = (struct table){0};
}

uint64_t table_find(const struct table *t, uint64_t hash, table_same *same, const void *key,
                    void *context)
{
    if (!t->room)
        return 0;
    size_t i = table_home(t->room, hash);
    while (t->slots[i].value) {
        const struct table_slot *slot = &t->slots[i];
        if (slot->hash == hash && (!same || same(slot->value, key, context)))
            return slot->value;
        i = (i + 1) & (t->room - 1);
    }
    return 0;
}

static void table_place(struct table *t, struct table_slot entry)
{
    size_t i = table_home(t->room, entry.hash);
    while (t->slots[i].value)
        i = (i + 1) & (t->room - 1);
    t->slots[i] = entry;
}

static void table_widen(struct table *t)
{
    struct table old = *t;
    check(old.room <= SIZE_MAX / 2 / sizeof(struct table_slot));
    t->room = old.room ? old.room * 2 : TABLE_FIRST_ROOM;
    t->slots = memory_new(t->room * sizeof(struct table_slot));
    for (size_t i = 0; i < old.room; i++)
        if (old.slots[i].value)
            table_place(t, old.slots[i]);
    free(old.slots);
}

void table_add(struct table *t, uint64_t hash, uint64_t value)
{
    check(value != 0);
    if (t->count >= t->room / 4 * 3)
        table_widen(t);
    table_place(t, (struct table_slot){hash, value});
    t->count++;
}

// Fills the hole at `hole` from the entries after it.
static void table_close_gap(struct table *t, size_t hole)
{
    size_t mask = t->room - 1;
    for (size_t i = (hole + 1) & mask; t->slots[i].value; i = (i + 1) & mask) {
        size_t home = table_home(t->room, t->slots[i].hash);
        // The entry may move to the hole unless its home lies after the hole (cyclically).
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            t->slots[hole] = t->slots[i];
            hole = i;
        }
    }
    t->slots[hole] = (struct table_slot){0};
}

bool table_remove(struct table *t, uint64_t hash, uint64_t value)
{
    if (!t->room || !value)
        return false;
    size_t i = table_home(t->room, hash);
    while (t->slots[i].value) {
        if (t->slots[i].hash == hash && t->slots[i].value == value) {
            table_close_gap(t, i);
            t->count--;
            return true;
        }
        i = (i + 1) & (t->room - 1);
    }
    return false;
}

uint64_t table_next(const struct table *t, size_t *position)
{
    while (*position < t->room) {
        uint64_t value = t->slots[(*position)++].value;
        if (value)
            return value;
    }
    return 0;
}
