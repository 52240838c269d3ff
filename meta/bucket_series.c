// SPDX-License-Identifier: BSD-3-Clause
// bucket_series: objects by their place in their folder's listing.
// 1. Places are counted from the listing's beginning, so they stay as long as the listing does; a new
//    listing (another generation) is counted anew.
// 2. Who goes on from where he was is found a few rows further; all else counts at most COUNT_MAX rows.
// 3. Who jumps about has no next object, and is counted for now and then only, to see whether he still does.
#include "meta/bucket_library.h"
#include "meta/bucket_row.h"

#include <errno.h>

#include "base/hash.h"

#define COUNT_MAX 20000
#define NEAR 256
#define STEP_MAX 16      // farther is a jump, if it isn't as far as the one before
#define JUMPS_MAX 4
#define JUMPS_LOOK 16    // every so many

struct count {
    struct text raw;      // the object that is looked for; no data: the one at `target`
    int64_t target;
    int64_t position;     // of the last object that was seen
    int64_t limit;        // objects still to be seen
    bool is_found;
    void (*give)(void *context, const struct bucket_place *p, const struct bucket_entry *e);
    void *context;
    const struct bucket_place *place;
};

static int count_row(const struct row *row, const struct key *k, size_t *skip_bytes, void *context)
{
    struct count *c = context;
    struct bucket_entry e;
    (void)k, (void)skip_bytes;
    int r = bucket_row_entry(row, &e);
    if (r < 0 || e.is_folder)
        return r < 0 ? r : ROW_GO_ON;
    if (c->limit-- == 0)
        return ROW_STOP_BEFORE;
    c->position++;
    c->is_found = c->raw.data ? text_equal(e.raw, c->raw) : c->position == c->target;
    if (c->is_found && c->give)
        c->give(c->context, c->place, &e);
    return c->is_found ? ROW_STOP_AFTER : ROW_GO_ON;
}

// Under its lock: of that id, or NULL.
static struct bucket_series *series_find(struct bucket *b, uint64_t id)
{
    for (int i = 0; i < BUCKET_SERIES_KEPT; i++)
        if (b->series[i].id == id)
            return &b->series[i];
    return NULL;
}

// A copy; its prefix is the caller's to release.
static bool series_get(struct bucket *b, uint64_t id, struct bucket_series *ret_copy)
{
    lock_scope(&b->series_lock);
    const struct bucket_series *s = series_find(b, id);
    if (!s)
        return false;
    *ret_copy = *s;
    ret_copy->prefix = (struct buffer){0};
    buffer_append_text(&ret_copy->prefix, buffer_text(&s->prefix));
    return true;
}

static void series_put(struct bucket *b, const struct bucket_series *now)
{
    lock_scope(&b->series_lock);
    struct bucket_series *s = series_find(b, now->id), *oldest = &b->series[0];
    for (int i = 0; !s && i < BUCKET_SERIES_KEPT; i++)
        if (b->series[i].used < oldest->used)
            oldest = &b->series[i];
    s = s ? s : oldest;
    struct buffer prefix = s->prefix;
    *s = *now;
    s->prefix = prefix;
    s->used = ++b->series_used;
    buffer_clear(&s->prefix);
    buffer_append_text(&s->prefix, buffer_text(&now->prefix));
}

static bool jumps_about(const struct bucket_series *s)
{
    return s->jumps >= JUMPS_MAX && s->jumps % JUMPS_LOOK != 0;
}

static void step_note(struct bucket_series *s, int64_t step)
{
    bool is_jump = (step > STEP_MAX || step < -STEP_MAX) && step != s->step;
    s->jumps = is_jump ? s->jumps + 1 : 0;
    s->step = step;
}

// From where the series is, if that is of this generation and may be before what is looked for; then from
// the beginning. *s becomes where it was found.
static int count(struct bucket *b, struct bucket_series *s, uint64_t generation, struct count *c)
{
    struct key all = {0};
    int r = 0;
    bool may_be_near = s->generation == generation && (c->raw.data || c->target > s->position);
    if (may_be_near) {
        c->position = s->position;
        c->limit = NEAR;
        r = catalogue_scan(b->catalogue, generation, &all, &s->cursor, count_row, c);
    }
    if (r >= 0 && !c->is_found && c->raw.data && may_be_near && jumps_about(s))
        return -EAGAIN;
    if (r >= 0 && !c->is_found) {
        s->cursor = (struct row_cursor){0};
        c->position = -1;
        c->limit = COUNT_MAX;
        r = catalogue_scan(b->catalogue, generation, &all, &s->cursor, count_row, c);
    }
    s->generation = generation;
    s->position = c->position;
    return r < 0 ? r : c->is_found ? 0 : -ENOENT;
}

int bucket_position(struct bucket_place *p, struct text raw, uint64_t id, int64_t *ret_position)
{
    struct bucket *b = p->bucket;
    struct bucket_series s = {0};
    struct set_id set = bucket_set(b->number, buffer_text(&p->prefix));
    struct set_state state;
    struct count c = {.raw = {raw.data ? raw.data : "", raw.size_bytes}};
    int r = catalogue_pin_set(b->catalogue, &set, bucket_fresh_in(b, buffer_text(&p->prefix), p->fresh), &state);
    if (r < 0)
        return r;
    if (!series_get(b, id, &s) || !text_equal(buffer_text(&s.prefix), buffer_text(&p->prefix))) {
        s.generation = 0;
        buffer_clear(&s.prefix);
        buffer_append_text(&s.prefix, buffer_text(&p->prefix));
    }
    s.id = id;
    struct bucket_series before = s;
    r = count(b, &s, state.generation, &c);
    catalogue_unpin(b->catalogue, state.generation);
    if (r == -EAGAIN) {
        before.jumps++;
        series_put(b, &before);
        r = -ENOENT;
    } else if (r == 0) {
        if (before.generation == s.generation)
            step_note(&s, s.position - before.position);
        series_put(b, &s);
        *ret_position = s.position;
    }
    buffer_release(&s.prefix);
    return r;
}

int bucket_at(struct bucket *b, uint64_t id, int64_t position,
              void (*give)(void *context, const struct bucket_place *p, const struct bucket_entry *e), void *context)
{
    struct bucket_series s = {0};
    struct set_state state;
    if (position < 0 || position >= COUNT_MAX || !series_get(b, id, &s))
        return -ENOENT;
    struct bucket_place place = {.bucket = b, .fresh = bucket_fresh(b), .prefix = s.prefix};
    struct set_id set = bucket_set(b->number, buffer_text(&s.prefix));
    struct count c = {.target = position, .give = give, .context = context, .place = &place};
    int r = catalogue_pin_set(b->catalogue, &set, bucket_fresh_in(b, buffer_text(&s.prefix), place.fresh), &state);
    if (r == 0) {
        r = state.generation == s.generation ? count(b, &s, state.generation, &c) : -ENOENT;
        catalogue_unpin(b->catalogue, state.generation);
    }
    buffer_release(&s.prefix);
    return r;
}
