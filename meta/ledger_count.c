// SPDX-License-Identifier: BSD-3-Clause
// ledger_count: counting again what all inodes cost while they change. `sums` of the inodes seen so far are kept true:
// 1. An inode counts from when it was seen: by the walk, or by a change that was settled. From then on each settled
//    change of it is added. It is seen once.
// 2. The walk sees an inode only by a look that no change of it overlapped: none was in work when the look was over,
//    none settled since it began. Else it looks again. What is known of changes is kept by a hash of the inode: a
//    change of another one may cost a look more, never less.
// 3. An inode that gets a name may get it where the walk has been, and lose the one where it hasn't: the walk looks at it
//    once more by its handle, and at what is in it if it is a folder. Each folder that was there when the count began is
//    read once, from its beginning; what is made or named in it after that is told. So there is an end, however much is
//    moved: folders made meanwhile need no reading.
// 4. At the end, changes that were in work when the walk ended are waited for; then all inodes have been seen, and
//    usage = sums + orphans (which no walk meets; the map knows them exactly) + what changes in work have reserved.
// 5. Numbers of inodes are used again, at once: by one that is made before the change is settled that unlinked the
//    last. What was seen then is remembered with that change.
#include <errno.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/log.h"
#include "meta/ledger_local.h"
#include "meta/ledger_set.h"

#define BUCKETS 65536
#define SUM_MAX (MAP_AMOUNT_MAX / 4) // more than any disk holds
#define RETRY_US 50
#define QUIET_US 500

struct sum {
    struct ledger_id id;
    int64_t bytes, files;
};

struct ledger_count {
    struct ledger_local *l;
    atomic_bool is_cancelled;
    // Under l->lock:
    struct ledger_set seen;
    struct ledger_set entered; // folders that are read, or are to be; files that are in `moved`, or were
    struct buffer moved;       // struct ledger_moved
    struct table sums;  // struct sum
    uint64_t sequence;  // of settled changes
    uint64_t settled[BUCKETS];  // the last one's
    uint32_t in_work[BUCKETS];
    uint64_t trees;     // ledger_trees when it began
    uint32_t *busy, busy_count; // slots, at the end
    uint8_t *replaced;  // enum replaced, of each slot
};

enum replaced { REPLACED_SEEN = 1, REPLACED_UNSEEN };

static uint64_t hash_pair(uint64_t a, uint64_t b)
{
    return hash64((const uint64_t[]){a, b}, 16);
}

static uint32_t bucket_of(struct ledger_file f)
{
    return (uint32_t)hash_pair(f.device, f.inode) % BUCKETS;
}

// ---- sums --------------------------------------------------------------------------------------------------

static bool same_sum(uint64_t value, const void *key, void *context)
{
    const struct sum *s = (const void *)(uintptr_t)value;
    const struct ledger_id *id = key;
    (void)context;
    return s->id.kind == id->kind && s->id.id == id->id;
}

static struct sum *sum_of(struct ledger_count *c, struct ledger_id id)
{
    uint64_t hash = hash_pair(id.kind, id.id);
    struct sum *s = (void *)(uintptr_t)table_find(&c->sums, hash, same_sum, &id, NULL);
    if (!s) {
        s = new_struct(struct sum);
        s->id = id;
        table_add(&c->sums, hash, (uint64_t)(uintptr_t)s);
    }
    return s;
}

// Lengths that no disk holds are as good as SUM_MAX.
static int64_t bounded(int64_t sum)
{
    return sum > SUM_MAX ? SUM_MAX : sum < -SUM_MAX ? -SUM_MAX : sum;
}

static void add(struct ledger_count *c, const struct ledger_charge *charge, int sign)
{
    for (int kind = 0; kind < LEDGER_KINDS && !charge->is_orphan; kind++) {
        if (!ledger_id_counts(&charge->owner, kind))
            continue;
        struct sum *s = sum_of(c, (struct ledger_id){(enum ledger_kind)kind, ledger_id_of(&charge->owner, kind)});
        s->bytes = bounded(s->bytes + sign * charge->bytes);
        s->files += sign * charge->files;
    }
}

// ---- changes -----------------------------------------------------------------------------------------------

void count_note_begin(struct ledger_count *c, const struct map_slot *s)
{
    if (s->file.inode)
        c->in_work[bucket_of(s->file)]++;
}

// Invariant 5: the change in work that unlinks the inode whose number a new one already has.
static uint32_t slot_of_last(const struct ledger_count *c, const struct map_slot *but, struct ledger_file f)
{
    for (uint32_t i = 0; c->in_work[bucket_of(f)] && i < c->l->slot_count; i++) {
        const struct map_slot *s = &c->l->map.slots[i];
        if (s != but && s->state == SLOT_BUSY && s->file.inode == f.inode && s->file.device == f.device)
            return i;
    }
    return UINT32_MAX;
}

static void note_made(struct ledger_count *c, const struct map_slot *s, struct ledger_file file,
                      const struct ledger_charge *present)
{
    if (s->flags & LEDGER_MAKES_FOLDER)
        ledger_set_add(&c->entered, file); // invariant 3
    uint32_t last = slot_of_last(c, s, file);
    if (last != UINT32_MAX)
        c->replaced[last] = ledger_set_add(&c->seen, file) ? REPLACED_SEEN : REPLACED_UNSEEN;
    else if (ledger_set_add(&c->seen, file))
        return; // the walk met it when it had just been made
    add(c, present, 1);
}

static void note_changed(struct ledger_count *c, const struct map_slot *s, const struct ledger_charge *present)
{
    uint8_t *replaced = &c->replaced[s - c->l->map.slots];
    bool is_seen = *replaced ? *replaced == REPLACED_SEEN : ledger_set_add(&c->seen, s->file);
    if (is_seen)
        add(c, &s->before, -1);
    add(c, present, 1);
    if (present->files == 0 && !*replaced)
        ledger_set_remove(&c->seen, s->file);
    *replaced = 0;
}

void count_note_settle(struct ledger_count *c, const struct map_slot *s, struct ledger_file file,
                       const struct ledger_charge *present)
{
    c->sequence++;
    if (s->file.inode) {
        c->in_work[bucket_of(s->file)]--;
        c->settled[bucket_of(s->file)] = c->sequence;
        note_changed(c, s, present);
    } else if (present->files) {
        c->settled[bucket_of(file)] = c->sequence;
        note_made(c, s, file, present);
    } // else it never came to be
}

// ---- names -------------------------------------------------------------------------------------------------

void count_note_moved(struct ledger_count *c, const struct ledger_moved *m)
{
    if (!m->is_folder && ledger_set_has(&c->seen, m->file))
        return;
    if (!ledger_set_add(&c->entered, m->file))
        buffer_append(&c->moved, (const char *)m, sizeof(*m));
}

bool ledger_count_enter(struct ledger_count *c, struct ledger_file folder)
{
    lock_scope(&c->l->lock);
    return !ledger_set_add(&c->entered, folder);
}

bool ledger_count_moved(struct ledger_count *c, uint32_t space, struct ledger_moved *ret_moved)
{
    lock_scope(&c->l->lock);
    struct ledger_moved *all = (struct ledger_moved *)c->moved.data;
    size_t count = c->moved.size_bytes / sizeof(*all);
    for (size_t i = count; i-- > 0;)
        if (all[i].space == space) {
            *ret_moved = all[i];
            all[i] = all[count - 1];
            buffer_truncate(&c->moved, (count - 1) * sizeof(*all));
            return true;
        }
    return false;
}

// ---- looking -----------------------------------------------------------------------------------------------

void count_cancel(struct ledger_local *l)
{
    if (l->count)
        atomic_store(&l->count->is_cancelled, true);
}

bool ledger_count_is_cancelled(struct ledger_count *c)
{
    return atomic_load(&c->is_cancelled);
}

int ledger_count_see(struct ledger_count *c, ledger_look_at *look, void *inode)
{
    struct lock *lock = &c->l->lock;
    for (;;) {
        struct ledger_file f;
        struct ledger_charge charge;
        lock_acquire(lock);
        uint64_t begun = c->sequence;
        lock_release(lock);
        int r = look(inode, &f, &charge);
        if (r < 0)
            return r;
        lock_acquire(lock);
        bool is_seen = ledger_set_has(&c->seen, f), is_true = !c->in_work[bucket_of(f)] && c->settled[bucket_of(f)] <= begun;
        if (!is_seen && is_true) {
            ledger_set_add(&c->seen, f);
            add(c, &charge, 1);
        }
        lock_release(lock);
        if (is_seen || is_true)
            return 0;
        if (ledger_count_is_cancelled(c))
            return -ECANCELED;
        usleep(RETRY_US);
    }
}

// ---- counting ----------------------------------------------------------------------------------------------

static int begin(struct ledger_local *l, struct ledger_count **ret_count)
{
    lock_scope(&l->lock);
    if (l->count)
        return -EBUSY;
    if (l->is_closing)
        return -ECANCELED;
    struct ledger_count *c = new_struct(struct ledger_count);
    c->l = l;
    for (uint32_t i = 0; i < l->slot_count; i++)
        if (l->map.slots[i].state == SLOT_BUSY)
            count_note_begin(c, &l->map.slots[i]);
    c->trees = atomic_load(&l->trees);
    c->busy = memory_new(l->slot_count * sizeof(*c->busy));
    c->replaced = memory_new(l->slot_count);
    l->count = c;
    *ret_count = c;
    return 0;
}

static void end(struct ledger_local *l, struct ledger_count *c)
{
    size_t at = 0;
    uint64_t value;
    lock_acquire(&l->lock);
    l->count = NULL;
    lock_release(&l->lock);
    while ((value = table_next(&c->sums, &at)))
        free((void *)(uintptr_t)value);
    table_release(&c->sums);
    ledger_set_release(&c->seen);
    ledger_set_release(&c->entered);
    buffer_release(&c->moved);
    free(c->busy);
    free(c->replaced);
    free(c);
}

// Those that began before; from now on others are counted apart.
static int wait_for_moves(struct ledger_count *c)
{
    struct ledger_local *l = c->l;
    lock_acquire(&l->lock);
    uint32_t before = l->move_phase;
    l->move_phase = !before;
    while (l->moves[before]) {
        lock_release(&l->lock);
        if (ledger_count_is_cancelled(c))
            return -ECANCELED;
        usleep(QUIET_US);
        lock_acquire(&l->lock);
    }
    lock_release(&l->lock);
    return 0;
}

static bool has_moved(struct ledger_count *c)
{
    lock_scope(&c->l->lock);
    return c->moved.size_bytes > 0;
}

// Invariant 3.
static int walk(struct ledger_count *c)
{
    int r;
    do {
        r = c->l->options.walk(c, c->l->options.context);
        if (ledger_count_is_cancelled(c))
            return -ECANCELED;
        if (r == 0)
            r = wait_for_moves(c);
    } while (r == 0 && has_moved(c));
    return r;
}

static bool slot_is(struct ledger_local *l, uint32_t slot, uint64_t serial)
{
    lock_scope(&l->lock);
    return l->map.slots[slot].state == SLOT_BUSY && l->serials[slot] == serial;
}

// Invariant 4: the changes that are in work now.
static int wait_for_changes(struct ledger_count *c)
{
    struct ledger_local *l = c->l;
    cleanup(cleanup_free) uint64_t *serials = memory_new(l->slot_count * sizeof(*serials));
    lock_acquire(&l->lock);
    memcpy(serials, l->serials, l->slot_count * sizeof(*serials));
    lock_release(&l->lock);
    for (uint32_t i = 0; i < l->slot_count; i++)
        while (slot_is(l, i, serials[i])) {
            if (ledger_count_is_cancelled(c))
                return -ECANCELED;
            usleep(QUIET_US);
        }
    return 0;
}

// What changes in work have reserved of it.
static struct map_sums reserved_of(const struct ledger_count *c, const struct map_entry *e)
{
    struct map_sums sums = {0};
    int kind = (int)e->kind - 1;
    for (uint32_t i = 0; i < c->busy_count; i++) {
        const struct map_slot *s = &c->l->map.slots[c->busy[i]];
        int64_t bytes, files;
        if (!ledger_id_counts(&s->after.owner, kind) ||
            ledger_id_of(&s->after.owner, kind) != e->id)
            continue;
        local_reserved(&s->before, &s->after, kind, &bytes, &files);
        sums.used_bytes += bytes;
        sums.used_files += files;
    }
    return sums;
}

static void correct(struct ledger_local *l, struct map_entry *e, const struct map_sums *to)
{
    struct map_step *s = map_step(&l->map);
    s->count = 1;
    s->slot = UINT32_MAX;
    s->slot_state = SLOT_FREE;
    s->entries[0].entry = (uint32_t)(e - l->map.entries);
    s->entries[0].sums = *to;
    map_carry_out(&l->map);
    e->changed_tick = l->tick;
    local_note_over(l, e);
}

// One owner, under lock. What is told goes to *differences.
static void conclude_one(struct ledger_count *c, struct map_entry *e, enum count_which which, struct buffer *differences)
{
    struct ledger_local *l = c->l;
    const struct sum *s = sum_of(c, (struct ledger_id){(enum ledger_kind)(e->kind - 1), e->id});
    struct map_sums reserved = reserved_of(c, e), to = e->sums;
    to.used_bytes = s->bytes + e->sums.orphan_bytes + reserved.used_bytes;
    to.used_files = s->files + e->sums.orphan_files + reserved.used_files;
    bool is_wanted = which != COUNT_FLAGGED || e->flags & ENTRY_RECOUNT;
    bool differs = to.used_bytes != e->sums.used_bytes || to.used_files != e->sums.used_files;
    if (is_wanted && differs) {
        struct ledger_difference d = {(enum ledger_kind)(e->kind - 1), e->id,
                                      e->sums.used_bytes - reserved.used_bytes, e->sums.used_files - reserved.used_files,
                                      to.used_bytes - reserved.used_bytes, to.used_files - reserved.used_files};
        buffer_append(differences, &d, sizeof(d));
        if (which != COUNT_TO_TELL)
            correct(l, e, &to);
    }
    if (is_wanted && which != COUNT_TO_TELL)
        e->flags &= ~(uint32_t)ENTRY_RECOUNT;
}

// Owners that only the walk met have no entries yet.
static int conclude(struct ledger_count *c, enum count_which which, struct buffer *differences)
{
    struct ledger_local *l = c->l;
    size_t at = 0;
    uint64_t value;
    lock_scope(&l->lock);
    if (atomic_load(&l->trees) != c->trees)
        return -EAGAIN; // the walk may have gone by what isn't true any more
    int r = map_reserve(&l->map, (uint32_t)c->sums.count);
    if (r < 0)
        return r;
    for (uint32_t i = 0; i < l->slot_count; i++)
        if (l->map.slots[i].state == SLOT_BUSY)
            c->busy[c->busy_count++] = i;
    while ((value = table_next(&c->sums, &at))) {
        const struct sum *s = (const void *)(uintptr_t)value;
        struct map_entry *e = map_find(&l->map, s->id.kind, s->id.id);
        if (e || (!s->bytes && !s->files) || which == COUNT_FLAGGED)
            continue;
        map_entry(&l->map, s->id.kind, s->id.id)->flags = which == COUNT_ALL ? ENTRY_MARKED : 0;
    }
    for (uint32_t i = 0; i < l->map.entry_room; i++)
        if (l->map.entries[i].kind)
            conclude_one(c, &l->map.entries[i], which, differences);
    return 0;
}

static void tell_differences(const struct buffer *differences, ledger_difference_each *each, void *context)
{
    for (size_t i = 0; each && i < differences->size_bytes / sizeof(struct ledger_difference); i++)
        each(&((const struct ledger_difference *)differences->data)[i], context);
}

int count_run(struct ledger_local *l, enum count_which which, ledger_difference_each *each, void *context)
{
    BUFFER_CLEANUP differences = {0};
    struct ledger_count *c;
    int r = begin(l, &c);
    if (r < 0)
        return r;
    r = walk(c);
    if (r == 0)
        r = wait_for_changes(c);
    if (r == 0)
        r = conclude(c, which, &differences);
    end(l, c);
    if (r == 0 && which == COUNT_ALL)
        r = keeper_checkpoint(l, false);
    if (r == 0 && which == COUNT_ALL)
        local_set_uncounted(l, false);
    tell_differences(&differences, each, context);
    return r;
}

int local_check(struct ledger *base, bool repair, ledger_difference_each *each, void *context)
{
    struct ledger_local *l = local_of(base);
    return l->options.walk ? count_run(l, repair ? COUNT_ALL : COUNT_TO_TELL, each, context) : -EOPNOTSUPP;
}
