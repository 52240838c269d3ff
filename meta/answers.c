// SPDX-License-Identifier: BSD-3-Clause
// answers: a ring, with a table of what is in it, and a table of presences.
// 1. The newest answer of a want stands at most once: putting replaces.
// 2. What stands in the ring (epoch > 0) stands in the table, under its place + 1.
#include "meta/answers.h"

#include "base/hash.h"
#include "base/log.h"
#include "meta/repository.h"

static void want_hash(const struct want *w, uint8_t ret_hash[16])
{
    struct {
        int64_t collection_id, type_id;
        struct uuid uuid;
        struct timespan at;
        uint32_t kind, depth, key_size_bytes;
        uint8_t key[KEY_BYTES_MAX];
    } bytes;
    memset(&bytes, 0, sizeof(bytes));
    bytes.collection_id = w->collection_id;
    bytes.type_id = w->type_id;
    bytes.uuid = w->uuid;
    bytes.at = w->at;
    bytes.kind = w->kind;
    bytes.depth = w->depth;
    bytes.key_size_bytes = w->key.size_bytes;
    memcpy(bytes.key, w->key.bytes, w->key.size_bytes);
    hash128(&bytes, sizeof(bytes), ret_hash);
}

static void presences_clear(struct answers *a)
{
    size_t position = 0;
    for (uint64_t p; (p = table_next(&a->presences, &position));)
        free((struct presence_answer *)(uintptr_t)p);
    table_release(&a->presences);
    a->presences = (struct table){0};
}

void answers_init(struct answers *a)
{
    *a = (struct answers){0};
    lock_init(&a->lock, LOCK_RANK_LEAF, "answers");
}

void answers_release(struct answers *a)
{
    for (uint32_t i = 0; a->all && i < ANSWERS_KEPT; i++)
        buffer_release(&a->all[i].record);
    free(a->all);
    table_release(&a->places);
    presences_clear(a);
    lock_release_memory(&a->lock);
}

static uint64_t hash_of(const uint8_t of[16])
{
    uint64_t hash;
    memcpy(&hash, of, sizeof(hash));
    return hash;
}

static bool is_of(uint64_t place, const void *of, void *answers)
{
    return memcmp(((struct answers *)answers)->all[place - 1].of, of, 16) == 0;
}

static struct answer *answer_of(struct answers *a, const uint8_t of[16])
{
    uint64_t place = a->all ? table_find(&a->places, hash_of(of), is_of, of, a) : 0;
    return place ? &a->all[place - 1] : NULL;
}

// The place of the oldest, for another.
static struct answer *answer_new(struct answers *a, const uint8_t of[16])
{
    struct answer *at = &a->all[a->next];
    if (at->epoch)
        check(table_remove(&a->places, hash_of(at->of), a->next + 1));
    a->next = (a->next + 1) % ANSWERS_KEPT;
    memcpy(at->of, of, 16);
    table_add(&a->places, hash_of(of), (uint64_t)(at - a->all) + 1);
    return at;
}

void answers_put(struct answers *a, const struct want *w, uint64_t epoch, enum row_kind kind,
                 struct text record)
{
    uint8_t of[16];
    want_hash(w, of);
    lock_scope(&a->lock);
    if (!a->all)
        a->all = memory_new(ANSWERS_KEPT * sizeof(*a->all));
    struct answer *at = answer_of(a, of);
    if (!at)
        at = answer_new(a, of);
    at->epoch = epoch;
    at->kind = kind;
    buffer_clear(&at->record);
    buffer_append_text(&at->record, record);
}

bool answers_get(struct answers *a, const struct want *w, enum row_kind *ret_kind,
                 struct buffer *ret_record)
{
    uint8_t of[16];
    lock_scope(&a->lock);
    if (!a->all)
        return false;
    want_hash(w, of);
    struct answer *at = answer_of(a, of);
    if (!at || at->epoch < w->fresh)
        return false;
    *ret_kind = at->kind;
    buffer_append_text(ret_record, buffer_text(&at->record));
    return true;
}

// Presences.

#define PRESENCES_KEPT 100000

static uint64_t presence_hash(int64_t collection_id, int64_t type_id)
{
    return hash64_seed(&collection_id, sizeof(collection_id), (uint64_t)type_id);
}

static bool presence_same(uint64_t value, const void *key, void *context)
{
    const struct presence_answer *a = (const struct presence_answer *)(uintptr_t)value, *b = key;
    return a->collection_id == b->collection_id && a->type_id == b->type_id;
}

void answers_put_presence(struct answers *a, const struct presence_answer *p)
{
    uint64_t hash = presence_hash(p->collection_id, p->type_id);
    lock_scope(&a->lock);
    struct presence_answer *own = (struct presence_answer *)(uintptr_t)table_find(
        &a->presences, hash, presence_same, p, NULL);
    if (!own) {
        if (a->presences.count >= PRESENCES_KEPT)
            presences_clear(a);
        own = new_struct(struct presence_answer);
        table_add(&a->presences, hash, (uint64_t)(uintptr_t)own);
    }
    if (p->epoch >= own->epoch)
        *own = *p;
}

bool answers_get_presence(struct answers *a, int64_t collection_id, int64_t type_id, uint64_t fresh,
                          bool *ret_is_present)
{
    struct presence_answer key = {.collection_id = collection_id, .type_id = type_id};
    lock_scope(&a->lock);
    const struct presence_answer *p = (const struct presence_answer *)(uintptr_t)table_find(
        &a->presences, presence_hash(collection_id, type_id), presence_same, &key, NULL);
    if (!p || p->epoch < fresh)
        return false;
    *ret_is_present = p->is_present;
    return true;
}
