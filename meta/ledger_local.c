// SPDX-License-Identifier: BSD-3-Clause
// ledger_local: changes. The fast path of every write that makes a file longer: two look-ups under one lock at begin,
// two at settle, no system call.
// 1. All owners of a change are charged, or none: in one step of the map (ledger_map.h), together with the slot.
// 2. Reserved is charged: used + what others reserved can't pass a hard limit. Room that a change frees is given only
//    when it is settled.
// 3. An owner that is charged is marked in the store first. Marks are taken away under `writer` and `lock`
//    (ledger_keep.c), so one that is seen under `lock` is true.
#include "meta/ledger_local.h"

#include <errno.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"

#define WARN_AGAIN_NS (600 * NS_PER_S)

struct parts {
    uint32_t count;
    struct {
        struct map_entry *entry;
        struct map_sums delta;
    } all[MAP_STEP_ENTRIES];
};

// A limit that was met, to be told of when no lock is held.
struct met {
    enum ledger_kind kind;
    uint64_t id;
    bool is_hard, is_files, is_grace;
    int64_t limit;
};

// ---- limits ------------------------------------------------------------------------------------------------

const struct ledger_limits *local_limits(const struct ledger_local *l, const struct map_entry *e)
{
    static const struct ledger_limits none;
    if (e->flags & ENTRY_HAS_OWN)
        return &e->limits;
    bool is_exempt = e->kind == LEDGER_USER + 1 && ledger_is_exempt(&l->base, (uid_t)e->id);
    return is_exempt ? &none : &l->defaults[e->kind - 1];
}

int64_t local_grace_ns(const struct ledger_local *l, const struct map_entry *e)
{
    int64_t own = local_limits(l, e)->grace_ns, standard = l->defaults[e->kind - 1].grace_ns;
    return own ? own : standard ? standard : LEDGER_GRACE_STANDARD_NS;
}

void local_note_over(struct ledger_local *l, struct map_entry *e)
{
    const struct ledger_limits *lim = local_limits(l, e);
    const int64_t soft[] = {lim->soft_bytes, lim->soft_files};
    const int64_t used[] = {e->sums.used_bytes, e->sums.used_files};
    for (int i = 0; i < 2; i++) {
        if (!soft[i] || used[i] <= soft[i])
            e->over_unix_ns[i] = 0;
        else if (!e->over_unix_ns[i])
            e->over_unix_ns[i] = clock_unix_ns();
    }
}

// Whether so much more of bytes (i = 0) or files (1) may be used. The reserve is beyond the limit that counts: the hard one,
// and the soft one when its time of grace is over.
static bool allows(struct ledger_local *l, struct map_entry *e, int i, int64_t more, bool has_reserve, struct met *ret_met)
{
    const struct ledger_limits *lim = local_limits(l, e);
    int64_t hard = i ? lim->hard_files : lim->hard_bytes, soft = i ? lim->soft_files : lim->soft_bytes;
    int64_t used = i ? e->sums.used_files : e->sums.used_bytes;
    int64_t reserve = !has_reserve || e->kind == LEDGER_TREE + 1 ? 0
                      : i ? l->options.reserve_files : l->options.reserve_bytes;
    if (more <= 0 || (!hard && !soft))
        return true;
    struct met met = {(enum ledger_kind)(e->kind - 1), e->id, true, i, false, hard};
    if (hard && used + more > hard + reserve) {
        *ret_met = met;
        return false;
    }
    if (!soft || used + more <= soft)
        return true;
    met.limit = soft;
    met.is_hard = false;
    if (e->over_unix_ns[i] && clock_unix_ns() - e->over_unix_ns[i] > local_grace_ns(l, e) &&
        used + more > soft + reserve) {
        met.is_grace = true;
        *ret_met = met;
        return false;
    }
    if (!e->over_unix_ns[i])
        *ret_met = met;
    return true;
}

static int judge(struct ledger_local *l, const struct parts *p, unsigned flags, struct met *ret_met)
{
    bool has_reserve = flags & LEDGER_RESERVE;
    for (uint32_t i = 0; i < p->count; i++) {
        struct map_entry *e = p->all[i].entry;
        if (!allows(l, e, 0, p->all[i].delta.used_bytes, has_reserve, ret_met) ||
            !allows(l, e, 1, p->all[i].delta.used_files, has_reserve, ret_met))
            return -EDQUOT;
    }
    return 0;
}

// One line an owner in ten minutes.
static bool may_warn(struct ledger_local *l, const struct met *met)
{
    lock_scope(&l->lock);
    struct map_entry *e = map_find(&l->map, met->kind, met->id);
    int64_t now_ns = clock_unix_ns();
    if (!e || (e->warned_unix_ns && now_ns - e->warned_unix_ns < WARN_AGAIN_NS))
        return false;
    e->warned_unix_ns = now_ns;
    return true;
}

static void tell(struct ledger_local *l, const struct met *met, bool is_denied)
{
    static const char *const kinds[] = {"user", "group", "tree"};
    metric_add(is_denied ? METRIC_QUOTA_DENIED : METRIC_QUOTA_SOFT_MET, 1);
    if (!may_warn(l, met))
        return;
    log_warn("quota: %s %llu %s of %lld %s%s", kinds[met->kind], (unsigned long long)met->id,
             met->is_hard ? "is at the hard limit" : "is over the soft limit", (long long)met->limit,
             met->is_files ? "files" : "bytes", met->is_grace ? ", and its time of grace is over" : "");
}

// ---- parts -------------------------------------------------------------------------------------------------

void local_reserved(const struct ledger_charge *before, const struct ledger_charge *after, int kind,
                    int64_t *ret_bytes, int64_t *ret_files)
{
    bool is_same = ledger_id_of(&before->owner, kind) == ledger_id_of(&after->owner, kind);
    int64_t bytes = after->bytes - (is_same ? before->bytes : 0);
    int64_t files = after->files - (is_same ? before->files : 0);
    *ret_bytes = bytes > 0 ? bytes : 0;
    *ret_files = files > 0 ? files : 0;
}

// An owner is mostly the one that was looked up last.
static void add(struct ledger_local *l, struct parts *p, int kind, uint64_t id, int64_t bytes, int64_t files,
                bool is_orphan)
{
    uint32_t i = p->count;
    while (i > 0 && (p->all[i - 1].entry->id != id || p->all[i - 1].entry->kind != kind + 1U))
        i--;
    if (i == 0) {
        check(p->count < MAP_STEP_ENTRIES);
        i = ++p->count;
        p->all[i - 1].entry = map_entry(&l->map, (enum ledger_kind)kind, id);
        p->all[i - 1].delta = (struct map_sums){0};
    }
    struct map_sums *d = &p->all[i - 1].delta;
    d->used_bytes += bytes;
    d->used_files += files;
    d->orphan_bytes += is_orphan ? bytes : 0;
    d->orphan_files += is_orphan ? files : 0;
}

static void add_charge(struct ledger_local *l, struct parts *p, const struct ledger_charge *c, int kind, int sign)
{
    if (ledger_id_counts(&c->owner, kind))
        add(l, p, kind, ledger_id_of(&c->owner, kind), sign * c->bytes, sign * c->files, c->is_orphan);
}

static void add_reserved(struct ledger_local *l, struct parts *p, const struct ledger_charge *before,
                         const struct ledger_charge *after, int kind, int sign)
{
    int64_t bytes, files;
    if (!ledger_id_counts(&after->owner, kind))
        return;
    local_reserved(before, after, kind, &bytes, &files);
    add(l, p, kind, ledger_id_of(&after->owner, kind), sign * bytes, sign * files, false);
}

static void carry_out(struct ledger_local *l, const struct parts *p, uint32_t slot, enum map_slot_state state)
{
    struct map_step *s = map_step(&l->map);
    s->count = p->count;
    s->slot = slot;
    s->slot_state = state;
    for (uint32_t i = 0; i < p->count; i++) {
        const struct map_sums *was = &p->all[i].entry->sums, *d = &p->all[i].delta;
        s->entries[i].entry = (uint32_t)(p->all[i].entry - l->map.entries);
        s->entries[i].sums = (struct map_sums){was->used_bytes + d->used_bytes, was->used_files + d->used_files,
                                               was->orphan_bytes + d->orphan_bytes, was->orphan_files + d->orphan_files};
    }
    map_carry_out(&l->map);
    for (uint32_t i = 0; i < p->count; i++) {
        p->all[i].entry->changed_tick = l->tick;
        local_note_over(l, p->all[i].entry);
    }
}

// What settling comes to; in one where the owner stays the same, as nearly always.
static void add_settled(struct ledger_local *l, struct parts *p, const struct map_slot *s,
                        const struct ledger_charge *present, int kind)
{
    uint64_t id = ledger_id_of(&s->before.owner, kind);
    bool is_same = id == ledger_id_of(&s->after.owner, kind) && id == ledger_id_of(&present->owner, kind);
    int64_t bytes, files;
    if (!is_same || s->before.is_orphan || present->is_orphan) {
        add_reserved(l, p, &s->before, &s->after, kind, -1);
        add_charge(l, p, &s->before, kind, -1);
        add_charge(l, p, present, kind, 1);
    } else if (ledger_id_counts(&present->owner, kind)) {
        local_reserved(&s->before, &s->after, kind, &bytes, &files);
        add(l, p, kind, id, present->bytes - s->before.bytes - bytes, present->files - s->before.files - files, false);
    }
}

// Which of a change's owners the store doesn't know to be changing.
static size_t find_unmarked(const struct parts *p, struct ledger_id *ids)
{
    size_t count = 0;
    for (uint32_t i = 0; i < p->count; i++) {
        const struct map_entry *e = p->all[i].entry;
        if (!(e->flags & ENTRY_MARKED))
            ids[count++] = (struct ledger_id){(enum ledger_kind)(e->kind - 1), e->id};
    }
    return count;
}

void local_mark(struct ledger_local *l, const struct ledger_id *ids, size_t count)
{
    metric_add(METRIC_LEDGER_MARKS, 1);
    pthread_mutex_lock(&l->writer);
    int r = l->store ? ledger_store_mark(l->store, ids, count) : 0;
    lock_acquire(&l->lock);
    bool is_first = r < 0 && !l->marks_are_lost;
    if (r < 0)
        l->marks_are_lost = true; // users go on; the keeper tries again
    for (size_t i = 0; i < count; i++) {
        struct map_entry *e = map_find(&l->map, ids[i].kind, ids[i].id);
        if (e)
            e->flags |= ENTRY_MARKED;
    }
    lock_release(&l->lock);
    pthread_mutex_unlock(&l->writer);
    if (is_first)
        log_error("quota: the ledger can't be written: %s; a power cut now would leave usage inexact until it is "
                  "checked", strerror(-r));
}

// ---- begin -------------------------------------------------------------------------------------------------

static void write_slot(struct map_slot *s, const struct ledger_change *c, unsigned flags)
{
    s->flags = flags;
    s->what = c->what;
    s->space = c->space;
    s->file = c->file;
    s->before = c->before;
    s->after = c->after;
    s->handle_bytes = (uint32_t)c->handle.size_bytes;
    s->name_bytes = (uint32_t)c->name.size_bytes;
    if (s->handle_bytes)
        memcpy(s->handle, c->handle.data, s->handle_bytes);
    if (s->name_bytes)
        memcpy(s->name, c->name.data, s->name_bytes);
}

void local_slot_change(const struct map_slot *s, struct ledger_change *ret_change)
{
    *ret_change = (struct ledger_change){s->what, s->space, s->file, s->before, s->after,
                                         {s->handle, s->handle_bytes}, {s->name, s->name_bytes}};
}

// Lengths need no disk: sparse files must not take a sum to where it is no number. A user meets it first.
static bool is_countable(const struct parts *p)
{
    for (uint32_t i = 0; i < p->count; i++) {
        int64_t most = p->all[i].entry->kind == LEDGER_USER + 1 ? INT64_C(1) << 54 : MAP_AMOUNT_MAX / 2;
        int64_t more = p->all[i].delta.used_bytes;
        if (more > 0 && (more > most || p->all[i].entry->sums.used_bytes > most - more))
            return false;
    }
    return true;
}

// 1: *ids have to be marked first.
static int try_begin(struct ledger_local *l, const struct ledger_change *c, unsigned flags, uint32_t *ret_slot,
                     struct ledger_id *ids, size_t *ret_count, struct met *met)
{
    struct parts p;
    p.count = 0;
    lock_scope(&l->lock);
    if (l->free_count == 0)
        return -ENOBUFS;
    int r = map_reserve(&l->map, MAP_STEP_ENTRIES);
    if (r < 0)
        return r;
    for (int kind = 0; kind < LEDGER_KINDS; kind++) {
        add_reserved(l, &p, &c->before, &c->after, kind, 1);
        if (ledger_id_of(&c->before.owner, kind) != ledger_id_of(&c->after.owner, kind)) // settling will change it
            add_charge(l, &p, &(struct ledger_charge){.owner = c->before.owner}, kind, 1);
    }
    if (!(flags & LEDGER_EXEMPT)) {
        r = judge(l, &p, flags, met);
        if (r < 0)
            return r;
    }
    if (!is_countable(&p))
        return -EFBIG;
    *ret_count = find_unmarked(&p, ids);
    if (*ret_count)
        return 1;
    uint32_t slot = l->free_slots[--l->free_count];
    write_slot(&l->map.slots[slot], c, flags);
    l->serials[slot] = ++l->serial;
    carry_out(l, &p, slot, SLOT_BUSY);
    if (l->count)
        count_note_begin(l->count, &l->map.slots[slot]);
    *ret_slot = slot;
    return 0;
}

int local_begin(struct ledger *base, const struct ledger_change *c, unsigned flags, uint32_t *ret_slot)
{
    struct ledger_local *l = local_of(base);
    struct ledger_id ids[MAP_STEP_ENTRIES];
    struct met met = {.limit = -1};
    size_t count = 0;
    int r;
    while ((r = try_begin(l, c, flags, ret_slot, ids, &count, &met)) == 1)
        local_mark(l, ids, count);
    if (met.limit >= 0)
        tell(l, &met, r == -EDQUOT);
    return r;
}

// ---- settle ------------------------------------------------------------------------------------------------

static bool has_entries(const struct ledger_local *l, const struct ledger_owner *o)
{
    for (int kind = 0; kind < LEDGER_KINDS; kind++)
        if (ledger_id_counts(o, kind) && !map_find(&l->map, (enum ledger_kind)kind, ledger_id_of(o, kind)))
            return false;
    return true;
}

// 0, or how many *ids have to be marked, after it was done: owners that the change didn't name.
static size_t settle(struct ledger_local *l, uint32_t slot, struct ledger_file file,
                     const struct ledger_charge *present, struct ledger_id *ids)
{
    struct parts p;
    p.count = 0;
    lock_scope(&l->lock);
    check(slot < l->map.slot_count && l->map.slots[slot].state == SLOT_BUSY);
    if (map_reserve(&l->map, MAP_STEP_ENTRIES) < 0 && !has_entries(l, &present->owner)) {
        l->is_uncounted = true; // there is no place for an owner: what it costs is found by counting
        present = &l->map.slots[slot].before;
        count_cancel(l);
    }
    struct map_slot *s = &l->map.slots[slot];
    for (int kind = 0; kind < LEDGER_KINDS; kind++)
        add_settled(l, &p, s, present, kind);
    if (l->count)
        count_note_settle(l->count, s, file, present);
    carry_out(l, &p, slot, SLOT_FREE);
    l->free_slots[l->free_count++] = slot;
    return find_unmarked(&p, ids);
}

void local_settle(struct ledger *base, uint32_t slot, struct ledger_file file,
                         const struct ledger_charge *present)
{
    struct ledger_local *l = local_of(base);
    struct ledger_id ids[MAP_STEP_ENTRIES];
    size_t count = settle(l, slot, file, present, ids);
    if (count)
        local_mark(l, ids, count);
}

// ---- names -------------------------------------------------------------------------------------------------

uint32_t local_move_begin(struct ledger *base)
{
    struct ledger_local *l = local_of(base);
    lock_scope(&l->lock);
    l->moves[l->move_phase]++;
    return l->move_phase;
}

bool local_is_counted(struct ledger *base)
{
    struct ledger_local *l = local_of(base);
    lock_scope(&l->lock);
    return l->count;
}

void local_move_end(struct ledger *base, uint32_t token, const struct ledger_moved *moved, size_t count)
{
    struct ledger_local *l = local_of(base);
    lock_scope(&l->lock);
    for (size_t i = 0; l->count && i < count; i++)
        count_note_moved(l->count, &moved[i]);
    check(l->moves[token]);
    l->moves[token]--;
}
