// SPDX-License-Identifier: BSD-3-Clause
// entry_wait.c: who waits for what of an entry, and whether anybody does.
#include "cache/entry.h"

#include "base/log.h"
#include "cache/store.h"

struct cache_entry *want_take(struct cache_want *want)
{
    struct cache_entry *e = want->entry;
    *want = (struct cache_want){0};
    return e;
}

void want_fill(struct cache_want *want, struct cache_entry *e, enum want_kind kind, uint32_t first,
               uint32_t count)
{
    check(lock_is_held(&e->lock) && !want->entry);
    *want = (struct cache_want){.entry = entry_ref(e), .kind = (uint8_t)kind, .first = first,
                                .count = count, .serial = e->failures};
}

void wake(struct wake_list *list, int error)
{
    while (list->first) {
        struct cache_waiter *w = list->first;
        list->first = w->next;
        w->next = NULL;
        w->ready(w, error); // it may be gone after this
    }
}

void entry_wait(struct cache_entry *e, struct cache_waiter *w)
{
    check(lock_is_held(&e->lock));
    w->next = e->waiters;
    e->waiters = w;
}

bool entry_unwait(struct cache_entry *e, struct cache_waiter *w)
{
    check(lock_is_held(&e->lock));
    for (struct cache_waiter **at = &e->waiters; *at; at = &(*at)->next)
        if (*at == w) {
            *at = w->next;
            return true;
        }
    return false;
}

static bool wants_one_of(const struct cache_want *want, uint32_t first, uint32_t count)
{
    uint64_t end = (uint64_t)first + count;
    return want->first < end && first < (uint64_t)want->first + want->count;
}

// Takes those out for whom `is_ready` holds.
static void waiters_take(struct cache_entry *e, struct wake_list *to,
                         bool (*is_ready)(struct cache_want *want, const void *context),
                         const void *context)
{
    check(lock_is_held(&e->lock));
    struct cache_waiter **at = &e->waiters, **end = &to->first;
    while (*end)
        end = &(*end)->next;
    while (*at) {
        struct cache_waiter *w = *at;
        if (!is_ready(w->want, context)) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        w->next = NULL;
        *end = w;
        end = &w->next;
    }
}

static bool was_last_one(struct cache_want *want, const void *context)
{
    uint32_t block = *(const uint32_t *)context;
    return want->kind == CACHE_WANT_BLOCKS && wants_one_of(want, block, 1) && --want->missing == 0;
}

void entry_block_came(struct cache_entry *e, uint32_t block, struct wake_list *to)
{
    waiters_take(e, to, was_last_one, &block);
}

struct taking {
    enum want_kind kind;
    uint32_t first, count;
};

static bool is_of_kind(struct cache_want *want, const void *context)
{
    const struct taking *t = context;
    return want->kind == t->kind &&
           (t->kind != CACHE_WANT_BLOCKS || wants_one_of(want, t->first, t->count));
}

void entry_take_waiters(struct cache_entry *e, enum want_kind kind, uint32_t first, uint32_t count,
                        struct wake_list *to)
{
    const struct taking t = {kind, first, count};
    waiters_take(e, to, is_of_kind, &t);
}

bool entry_is_waited_for(const struct cache_entry *e, uint32_t first, uint32_t count)
{
    for (const struct cache_waiter *w = e->waiters; w; w = w->next)
        if (w->want->kind == CACHE_WANT_BLOCKS && wants_one_of(w->want, first, count))
            return true;
    return false;
}

bool entry_is_wanted(const struct cache_entry *e, uint32_t first, uint32_t count)
{
    int64_t begin = (int64_t)first * (int64_t)CACHE_BLOCK_BYTES;
    int64_t end = begin + (int64_t)count * (int64_t)CACHE_BLOCK_BYTES;
    if (begin < e->wanted_bytes || entry_is_waited_for(e, first, count))
        return true;
    const struct cached *h;
    LIST_FOREACH(h, &e->handles, of_entry)
        if (reading_wants(&h->reading, begin, end))
            return true;
    return false;
}
