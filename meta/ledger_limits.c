// SPDX-License-Identifier: BSD-3-Clause
// ledger_limits: what is set and what is told: limits, usage, room.
// 1. A limit is in the store before it holds, and it holds when the call returns.
#include <errno.h>

#include "base/clock.h"
#include "meta/ledger_local.h"

void local_set_path(struct ledger_local *l, uint64_t tree, struct text path)
{
    struct tree_path *was = (struct tree_path *)(uintptr_t)table_find(&l->paths, tree, NULL, NULL, NULL);
    if (was) {
        table_remove(&l->paths, tree, (uint64_t)(uintptr_t)was);
        free((char *)was->path.data);
        free(was);
    }
    if (path.size_bytes == 0)
        return;
    struct tree_path *p = new_struct(struct tree_path);
    *p = (struct tree_path){tree, {memory_copy(path.data, path.size_bytes), path.size_bytes}};
    table_add(&l->paths, tree, (uint64_t)(uintptr_t)p);
}

// ---- limits ------------------------------------------------------------------------------------------------

static void hold_default(struct ledger_local *l, enum ledger_kind kind, const struct ledger_limits *limits)
{
    l->has_defaults[kind] = limits != NULL;
    l->defaults[kind] = limits ? *limits : (struct ledger_limits){0};
    for (uint32_t i = 0; i < l->map.entry_room; i++)
        if (l->map.entries[i].kind == kind + 1U)
            local_note_over(l, &l->map.entries[i]);
}

// 0; -errno: there is no room for it.
static int hold(struct ledger_local *l, enum ledger_kind kind, uint64_t id, const struct ledger_limits *limits,
                struct text path)
{
    int r = map_reserve(&l->map, 1);
    if (r < 0)
        return r;
    struct map_entry *e = map_entry(&l->map, kind, id);
    bool had_own = e->flags & ENTRY_HAS_OWN;
    e->limits = limits ? *limits : (struct ledger_limits){0};
    e->flags = limits ? e->flags | ENTRY_HAS_OWN : e->flags & ~(uint32_t)ENTRY_HAS_OWN;
    local_note_over(l, e);
    if (kind != LEDGER_TREE)
        return 0;
    local_set_path(l, id, limits ? path : (struct text){0});
    if (limits && !had_own)
        e->flags |= ENTRY_RECOUNT; // what is in it already
    if (!limits)
        e->flags &= ~(uint32_t)ENTRY_RECOUNT;
    atomic_fetch_add(&l->trees, 1);
    l->next_count_ns = 0;
    local_wake_keeper(l);
    return 0;
}

int local_limit(struct ledger *base, enum ledger_kind kind, uint64_t id, const struct ledger_limits *limits,
                struct text path)
{
    struct ledger_local *l = local_of(base);
    pthread_mutex_lock(&l->writer);
    int r = l->store ? ledger_store_limit(l->store, kind, id, limits, path) : 0;
    // A tree's mark, so that a power cut doesn't lose that it is to be counted.
    if (r == 0 && l->store && kind == LEDGER_TREE && limits && id != LEDGER_DEFAULT)
        r = ledger_store_mark(l->store, &(struct ledger_id){kind, id}, 1);
    lock_acquire(&l->lock);
    if (r == 0 && id == LEDGER_DEFAULT)
        hold_default(l, kind, limits);
    else if (r == 0)
        r = hold(l, kind, id, limits, path);
    lock_release(&l->lock);
    pthread_mutex_unlock(&l->writer);
    return r;
}

// ---- usage -------------------------------------------------------------------------------------------------

static struct ledger_usage usage_of(const struct ledger_local *l, const struct map_entry *e)
{
    struct ledger_usage u = {
        .kind = (enum ledger_kind)(e->kind - 1), .id = e->id,
        .used_bytes = e->sums.used_bytes > 0 ? e->sums.used_bytes : 0, // below 0 until it is counted
        .used_files = e->sums.used_files > 0 ? e->sums.used_files : 0,
        .limits = *local_limits(l, e), .has_own = e->flags & ENTRY_HAS_OWN,
        .bytes_over_unix_ns = e->over_unix_ns[0], .files_over_unix_ns = e->over_unix_ns[1],
        .is_recounting = l->is_uncounted || e->flags & ENTRY_RECOUNT,
    };
    u.grace_ns = local_grace_ns(l, e);
    return u;
}

static struct ledger_usage default_of(const struct ledger_local *l, enum ledger_kind kind)
{
    return (struct ledger_usage){.kind = kind, .id = LEDGER_DEFAULT, .limits = l->defaults[kind], .has_own = true};
}

static bool is_worth_telling(const struct map_entry *e)
{
    return e->flags & ENTRY_HAS_OWN || (e->kind - 1 != LEDGER_TREE && (e->sums.used_bytes || e->sums.used_files));
}

int local_usage(struct ledger *base, enum ledger_kind kind, uint64_t id, struct ledger_usage *ret_usage)
{
    struct ledger_local *l = local_of(base);
    lock_scope(&l->lock);
    if (id == LEDGER_DEFAULT) {
        *ret_usage = default_of(l, kind);
        return l->has_defaults[kind] ? 0 : -ENOENT;
    }
    const struct map_entry *e = map_find(&l->map, kind, id);
    if (!e || !is_worth_telling(e))
        return -ENOENT;
    *ret_usage = usage_of(l, e);
    return 0;
}

// Copied first: `each` runs without the lock, as it may take long.
void local_report(struct ledger *base, ledger_usage_each *each, void *context)
{
    struct ledger_local *l = local_of(base);
    struct buffer all = {0}, paths = {0};
    lock_acquire(&l->lock);
    for (int kind = 0; kind < LEDGER_KINDS; kind++)
        if (l->has_defaults[kind]) {
            struct ledger_usage u = default_of(l, (enum ledger_kind)kind);
            buffer_append(&all, &u, sizeof(u));
        }
    for (uint32_t i = 0; i < l->map.entry_room; i++) {
        const struct map_entry *e = &l->map.entries[i];
        if (!e->kind || !is_worth_telling(e))
            continue;
        struct ledger_usage u = usage_of(l, e);
        const struct tree_path *p =
            u.kind == LEDGER_TREE ? (void *)(uintptr_t)table_find(&l->paths, u.id, NULL, NULL, NULL) : NULL;
        if (p) {
            u.path.size_bytes = p->path.size_bytes;
            buffer_append_text(&paths, p->path);
        }
        buffer_append(&all, &u, sizeof(u));
    }
    lock_release(&l->lock);
    const char *path = paths.data;
    for (size_t i = 0; i < all.size_bytes / sizeof(struct ledger_usage); i++) {
        struct ledger_usage u = ((struct ledger_usage *)all.data)[i];
        u.path.data = path;
        path = path ? path + u.path.size_bytes : path;
        each(&u, context);
    }
    buffer_release(&all);
    buffer_release(&paths);
}

// ---- room --------------------------------------------------------------------------------------------------

// The limit that is met first: over soft for too long that is the soft one.
static int64_t binding_limit(const struct ledger_local *l, const struct map_entry *e, int i, int64_t now_ns)
{
    const struct ledger_limits *lim = local_limits(l, e);
    int64_t hard = i ? lim->hard_files : lim->hard_bytes, soft = i ? lim->soft_files : lim->soft_bytes;
    bool is_late = soft && e->over_unix_ns[i] && now_ns - e->over_unix_ns[i] > local_grace_ns(l, e);
    return is_late || !hard ? soft : hard;
}

static void bind(int64_t limit, int64_t used, int64_t *limit_so_far, int64_t *used_so_far)
{
    used = used > 0 ? used : 0;
    if (!limit || (*limit_so_far && *limit_so_far - *used_so_far <= limit - used))
        return;
    *limit_so_far = limit;
    *used_so_far = used;
}

void local_room(struct ledger *base, const struct ledger_owner *owner, struct ledger_room *ret_room)
{
    struct ledger_local *l = local_of(base);
    struct ledger_room room = {0};
    int64_t now_ns = clock_unix_ns();
    lock_scope(&l->lock);
    for (int kind = 0; kind < LEDGER_KINDS; kind++) {
        uint64_t id = ledger_id_of(owner, kind);
        struct map_entry none = {.kind = kind + 1U, .id = id}; // who has used nothing yet has the default's limits
        const struct map_entry *e = map_find(&l->map, (enum ledger_kind)kind, id);
        if (!ledger_id_counts(owner, kind))
            continue;
        e = e ? e : &none;
        bind(binding_limit(l, e, 0, now_ns), e->sums.used_bytes, &room.limit_bytes, &room.used_bytes);
        bind(binding_limit(l, e, 1, now_ns), e->sums.used_files, &room.limit_files, &room.used_files);
    }
    *ret_room = room;
}
