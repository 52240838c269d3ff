// SPDX-License-Identifier: BSD-3-Clause
// answers: a ring. It is only looked at when the catalogue knows nothing, and is empty as long as
// the catalogue can be written, so a search through all of it is cheap enough.
// 1. The newest answer of a want stands at most once: putting replaces.
#include "meta/answers.h"

#include "base/hash.h"
#include "meta/repository.h"

static void want_hash(const struct want *w, uint8_t ret_hash[16])
{
    struct {
        int64_t collection_id, type_id;
        struct uuid uuid;
        uint32_t kind, depth, key_size_bytes;
        uint8_t key[KEY_BYTES_MAX];
    } bytes;
    memset(&bytes, 0, sizeof(bytes));
    bytes.collection_id = w->collection_id;
    bytes.type_id = w->type_id;
    bytes.uuid = w->uuid;
    bytes.kind = w->kind;
    bytes.depth = w->depth;
    bytes.key_size_bytes = w->key.size_bytes;
    memcpy(bytes.key, w->key.bytes, w->key.size_bytes);
    hash128(&bytes, sizeof(bytes), ret_hash);
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
    lock_release_memory(&a->lock);
}

static struct answer *answer_of(struct answers *a, const uint8_t of[16])
{
    for (uint32_t i = 0; a->all && i < ANSWERS_KEPT; i++)
        if (a->all[i].epoch && memcmp(a->all[i].of, of, 16) == 0)
            return &a->all[i];
    return NULL;
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
    if (!at) {
        at = &a->all[a->next];
        a->next = (a->next + 1) % ANSWERS_KEPT;
    }
    memcpy(at->of, of, 16);
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
