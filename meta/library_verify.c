// SPDX-License-Identifier: BSD-3-Clause
// library_verify: what of an older epoch still counts. Any commit makes a new epoch, but hardly any is about what
// somebody is looking at.
// 1. A set of many rows all of which are stored has a digest, taken before the first of them was read. As long as the
//    registry says the same one the set counts as if it were read anew, for listings and single names, and nothing is asked.
//    What is compared is exact but for files that go or change of a row that stays: of these the database may tell LATE_NS
//    late. So a set that was compared sooner than that after its epoch began counts for `stale` only, and is compared again.
// 2. Comparing costs the database something for each row: it is done with nobody waiting, at most a fiftieth of the time,
//    and not for longer than KEPT_NS after it was read. A set that has changed is compared no more.
// 3. What is only listed may be of an older epoch, if what came after that was first noticed less than `stale` ago, and if
//    asking takes longer than who asks would wait (PATIENCE_NS). While the database is away, however long ago.
// 4. All that this life noticed itself: of what went on before it nothing is known.
#include <stdlib.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/metric.h"
#include "meta/library.h"

#define LATE_NS (12 * NS_PER_S)
#define KEPT_NS (600 * NS_PER_S)
#define COSTS_APART 50

// The history of epochs.

void library_note_epoch(struct repository *r, uint64_t epoch)
{
    check(lock_is_held(&r->lock));
    r->began[r->began_count % EPOCHS_KEPT] =
        (struct epoch_begin){epoch, r->began_count ? clock_ns() : INT64_MIN};
    r->began_count++;
}

// When it was first noticed; INT64_MIN: long ago.
static int64_t epoch_began(struct repository *r, uint64_t epoch)
{
    lock_scope(&r->lock);
    uint32_t kept = r->began_count < EPOCHS_KEPT ? r->began_count : EPOCHS_KEPT;
    for (uint32_t i = 0; i < kept; i++)
        if (r->began[i].epoch == epoch)
            return r->began[i].ns;
    return INT64_MIN;
}

// Since when what is of `epoch` is old: when the next one was noticed; INT64_MIN: long ago.
static int64_t old_since(struct repository *r, uint64_t epoch)
{
    return epoch_began(r, epoch + 1);
}

static int64_t left_since(const struct repository *r, int64_t since_ns)
{
    int64_t left = since_ns == INT64_MIN ? 0 : since_ns + r->stale_ns - clock_ns();
    return left > 0 ? left : 0;
}

uint64_t library_oldest(struct repository *r, uint64_t fresh)
{
    uint64_t forced = atomic_load(&r->forced_epoch), oldest = fresh;
    int64_t since = atomic_load(&r->is_away) ? INT64_MIN : clock_ns() - r->stale_ns;
    lock_scope(&r->lock);
    uint32_t kept = r->began_count < EPOCHS_KEPT ? r->began_count : EPOCHS_KEPT;
    for (uint32_t i = 0; r->stale_ns && i < kept; i++) {
        const struct epoch_begin *b = &r->began[i];
        if (b->ns > since && b->epoch - 1 < oldest && b->epoch - 1 >= forced)
            oldest = b->epoch - 1;
    }
    return oldest;
}

// What is known of sets.

static bool same_set(const struct set_id *a, const struct set_id *b)
{
    return a->repository == b->repository && a->collection_id == b->collection_id && a->type_id == b->type_id &&
           timespan_equal(&a->at, &b->at) && a->part == b->part;
}

static struct verified *find_verified(struct repository *r, const struct set_id *id)
{
    check(lock_is_held(&r->verified_lock));
    for (uint32_t i = 0; i < r->verified_count; i++)
        if (same_set(&r->verified[i].id, id))
            return &r->verified[i];
    return NULL;
}

// Whether it was compared so soon that the database may not have told all.
static bool is_early(struct repository *r, const struct verified *v)
{
    int64_t began = epoch_began(r, v->epoch);
    return began != INT64_MIN && v->checked_ns < began + LATE_NS;
}

// A new one, or that which was used least lately.
static struct verified *make_room(struct repository *r)
{
    if (r->verified_count < VERIFIED_KEPT)
        return &r->verified[r->verified_count++];
    struct verified *v = &r->verified[0];
    for (uint32_t i = 1; i < VERIFIED_KEPT; i++)
        if (r->verified[i].used < v->used)
            v = &r->verified[i];
    return v;
}

static bool get_verified(struct repository *r, const struct set_id *id, struct verified *ret_copy)
{
    lock_scope(&r->verified_lock);
    struct verified *v = find_verified(r, id);
    if (!v)
        return false;
    v->used = ++r->verified_used;
    *ret_copy = *v;
    return true;
}

// At which epoch a set of `set_epoch` is known to be what it was, last.
static uint64_t known_epoch(struct repository *r, const struct verified *v, uint64_t set_epoch)
{
    bool is_compared = v->set_epoch == set_epoch && v->epoch > set_epoch;
    return is_compared && (!is_early(r, v) || left_since(r, epoch_began(r, v->epoch))) ? v->epoch : set_epoch;
}

int64_t library_old_left(struct repository *r, const struct set_id *id, uint64_t epoch, uint64_t fresh)
{
    struct verified v;
    if (epoch >= fresh)
        return INT64_MAX;
    if (epoch < atomic_load(&r->forced_epoch))
        return 0;
    bool is_late = get_verified(r, id, &v) && v.epoch == epoch && v.epoch > v.set_epoch && is_early(r, &v);
    return left_since(r, is_late ? epoch_began(r, epoch) : old_since(r, epoch));
}

bool library_old_set(struct repository *r, const struct set_id *id, uint64_t fresh, struct old_set *ret_set)
{
    struct verified v;
    struct set_state state;
    uint64_t oldest = library_oldest(r, fresh);
    if (oldest >= fresh || catalogue_set(r->catalogue, id, &state) < 0)
        return false;
    uint64_t known = get_verified(r, id, &v) ? known_epoch(r, &v, state.epoch) : state.epoch;
    *ret_set = (struct old_set){.id = *id, .set_epoch = state.epoch, .known_epoch = known};
    return known >= oldest;
}

bool library_is_compared(struct repository *r, const struct set_id *id)
{
    struct verified v;
    return get_verified(r, id, &v) && !v.is_changed;
}

void library_note_read(struct repository *r, const struct set_id *id, const struct set_state *state, uint64_t digest,
                       int64_t cost_ns)
{
    lock_scope(&r->verified_lock);
    struct verified *v = find_verified(r, id);
    if (!v && (digest == 0 || r->stale_ns == 0))
        return;
    if (!v)
        v = make_room(r);
    int64_t now = clock_ns();
    *v = (struct verified){.id = *id,
                           .set_epoch = state->epoch,
                           .epoch = state->epoch,
                           .digest = digest,
                           .checked_ns = now,
                           .read_ns = now,
                           .cost_ns = cost_ns,
                           .is_changed = digest == 0,
                           .used = ++r->verified_used};
}

void library_forget_verified(struct repository *r)
{
    lock_scope(&r->verified_lock);
    for (uint32_t i = 0; i < r->verified_count; i++)
        r->verified[i].is_changed = true;
}

// Invariant 1. How long it counts for `fresh`; 0: it doesn't; INT64_MAX: until the registry changes.
static int64_t good_left(struct repository *r, const struct verified *v, uint64_t fresh)
{
    if (v->is_changed || v->epoch < fresh || v->epoch == v->set_epoch)
        return 0; // of its own epoch it is by itself
    return is_early(r, v) ? left_since(r, epoch_began(r, v->epoch)) : INT64_MAX;
}

uint64_t library_good_epoch(struct repository *r, const struct set_id *id, uint64_t fresh, int64_t *ret_left_ns)
{
    struct verified v;
    int64_t left = get_verified(r, id, &v) ? good_left(r, &v, fresh) : 0;
    if (ret_left_ns)
        *ret_left_ns = left ? left : INT64_MAX;
    return left ? v.set_epoch : fresh;
}

int library_pin_set(struct repository *r, const struct set_id *id, uint64_t fresh, struct set_state *ret_state)
{
    int e = catalogue_pin_set(r->catalogue, id, fresh, ret_state);
    uint64_t good = e == -ENOENT ? library_good_epoch(r, id, fresh, NULL) : fresh;
    return good < fresh ? catalogue_pin_set(r->catalogue, id, good, ret_state) : e;
}

// Invariant 2.
static bool is_due(struct repository *r, const struct verified *v, uint64_t fresh)
{
    int64_t now = clock_ns();
    bool is_late = v->epoch != v->set_epoch && is_early(r, v) && now >= epoch_began(r, v->epoch) + LATE_NS;
    int64_t kept = KEPT_NS - v->read_ns % (KEPT_NS / 4); // not all sets at a time
    return !v->is_changed && (v->epoch < fresh || is_late) && now >= v->checked_ns + COSTS_APART * v->cost_ns &&
           now < v->read_ns + kept;
}

void library_verify_ahead(struct repository *r, const struct set_id *id, uint64_t fresh)
{
    struct verified v;
    if (!get_verified(r, id, &v) || !is_due(r, &v, fresh))
        return;
    struct want w = {.kind = WANT_VERIFY, .fresh = fresh, .collection_id = id->collection_id, .type_id = id->type_id};
    library_ask_ahead(r, &w);
}

// As of `epoch`, which was the newest before it was asked.
static void note_verified(struct repository *r, const struct verified *was, uint64_t digest, uint64_t epoch, int64_t begin_ns)
{
    lock_scope(&r->verified_lock);
    struct verified *v = find_verified(r, &was->id);
    if (!v || v->set_epoch != was->set_epoch || v->read_ns != was->read_ns)
        return; // it was read again meanwhile
    v->is_changed = v->is_changed || digest != v->digest;
    if (v->is_changed)
        return; // when it was the same last is still known, and it may be shown for a while (invariant 3)
    v->epoch = epoch > v->epoch ? epoch : v->epoch;
    v->checked_ns = begin_ns;
    v->cost_ns = clock_ns() - begin_ns;
}

int library_verify(struct librarian *l, struct snapshot *s, const struct collection *c, const struct dataset_type *t,
                   uint64_t fresh, int64_t *ret_left_ns)
{
    struct repository *r = l->repository;
    struct set_id id = set_id_of(r, c->id, t->id);
    struct verified v;
    struct registry *registry;
    uint64_t digest, epoch = repository_epoch(r);
    int64_t begin = clock_ns();
    *ret_left_ns = 0;
    if (!get_verified(r, &id, &v))
        return 0;
    if (is_due(r, &v, fresh)) {
        int e = librarian_registry(l, &registry);
        if (e == 0)
            e = registry_digest(registry, s, t, &c->id, 1, &digest);
        if (e < 0)
            return e;
        note_verified(r, &v, digest, epoch, begin);
        metric_add(METRIC_SET_DIGESTS, 1); // who sees it finds what it came to
    }
    if (get_verified(r, &id, &v))
        *ret_left_ns = good_left(r, &v, fresh);
    return 0;
}

int job_verify(struct librarian *l, const struct want *w)
{
    cleanup(subject_release) struct subject s = {0};
    int64_t left;
    int r = subject_find(l, w, &s);
    if (r < 0)
        return r;
    struct set_id id = set_id_of(l->repository, w->collection_id, w->type_id);
    struct errand errand = {.collection_id = id.collection_id, .type_id = id.type_id};
    errand_begin(l->repository, &errand);
    r = library_verify(l, s.snapshot, s.collection, s.type, w->fresh, &left);
    errand_end(l->repository, &errand);
    return r;
}
