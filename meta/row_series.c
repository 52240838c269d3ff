// SPDX-License-Identifier: BSD-3-Clause
// row_series.c
// 1. A position is relative: how many rows (or folders of a movie) lie between two that were opened. So
//    nothing is ever counted from a set's beginning, and at most NEAR steps are.
// 2. A series is of one generation of its set; with another one it begins anew, far from where it was.
#include "meta/row_series.h"

#include <errno.h>
#include <stdlib.h>

#include "base/hash.h"
#include "meta/place.h"

#define NEAR 256
#define ASKED_MAX 64
#define FAR (INT64_C(1) << 32)

struct count {
    const struct row_series *series;
    struct text from;   // the unit where it begins
    struct text to;     // the unit that is looked for; no data: the one after `most` steps
    int64_t most, steps;
    bool is_found;
    struct key at;      // the last unit that was seen
};

// What one step is made of: a row's key, or in a movie all but the last value.
static int unit_bytes(const struct row_series *s, struct text key)
{
    return s->outer_count ? key_values_size(key, s->outer_count) : (int)key.size_bytes;
}

static int count_row(const struct row *row, const struct key *k, size_t *skip_bytes, void *context)
{
    struct count *c = context;
    int size = unit_bytes(c->series, key_text(k));
    (void)row;
    if (size < 0)
        return size;
    struct text unit = text_slice(key_text(k), 0, (size_t)size);
    if (c->series->outer_count)
        *skip_bytes = (size_t)size;
    if (text_equal(unit, c->from))
        return ROW_GO_ON;
    c->steps++;
    c->at.size_bytes = (uint16_t)size;
    memcpy(c->at.bytes, unit.data, unit.size_bytes);
    c->is_found = c->to.data ? text_equal(unit, c->to) : c->steps == c->most;
    bool is_past = c->to.data && text_compare(unit, c->to) > 0;
    return c->is_found || is_past || c->steps == c->most ? ROW_STOP_AFTER : ROW_GO_ON;
}

// From the unit of key `from` on.
static int count_from(struct catalogue *catalogue, const struct row_series *s, const struct key *from,
                      struct count *c)
{
    struct key folder = {.size_bytes = s->folder_bytes};
    struct row_cursor cursor = {.key = *from, .is_begun = true};
    int size = unit_bytes(s, key_text(from));
    if (size < 0)
        return size;
    memcpy(folder.bytes, from->bytes, s->folder_bytes);
    c->series = s;
    c->from = text_slice(key_text(from), 0, (size_t)size);
    int r = catalogue_scan(catalogue, s->generation, &folder, &cursor, count_row, c);
    return r < 0 ? r : c->is_found ? 0 : -ENOENT;
}

static bool series_get(struct repository *r, uint64_t id, struct row_series *ret_copy)
{
    lock_scope(&r->series_lock);
    for (int i = 0; i < ROW_SERIES_KEPT; i++)
        if (r->series[i].id == id) {
            *ret_copy = r->series[i];
            return true;
        }
    return false;
}

static void series_put(struct repository *r, const struct row_series *now)
{
    lock_scope(&r->series_lock);
    struct row_series *to = &r->series[0];
    for (int i = 0; i < ROW_SERIES_KEPT && to->id != now->id; i++)
        if (r->series[i].id == now->id || r->series[i].used < to->used)
            to = &r->series[i];
    *to = *now;
    to->used = ++r->series_used;
}

static struct text series_unit(const struct row_series *s)
{
    int size = unit_bytes(s, key_text(&s->key));
    return text_slice(key_text(&s->key), 0, size < 0 ? 0 : (size_t)size);
}

// How far `now` is from where the series was.
static int64_t series_moved(struct repository *r, const struct row_series *was, const struct row_series *now)
{
    struct count on = {.most = NEAR, .to = series_unit(now)};
    struct count back = {.most = NEAR, .to = series_unit(was)};
    if (was->generation != now->generation)
        return FAR;
    if (text_equal(on.to, back.to))
        return 0;
    if (count_from(r->catalogue, was, &was->key, &on) == 0)
        return on.steps;
    return count_from(r->catalogue, now, &now->key, &back) == 0 ? -back.steps : FAR;
}

static uint64_t series_id(const struct row_series *s, uint64_t who)
{
    struct text key = key_text(&s->key);
    size_t from = s->outer_count ? series_unit(s).size_bytes : 0;
    const int64_t set[] = {s->set.repository, s->set.collection_id, s->set.type_id, s->set.at.begin_tai_ns,
                           s->set.at.end_tai_ns};
    uint64_t id = hash64_seed(set, sizeof set, who + s->outer_count);
    return hash64_seed(key.data + from, s->outer_count ? key.size_bytes - from : s->folder_bytes, id) | 1;
}

static bool series_begin(const struct place *p, const struct dataset *d, enum row_order order,
                         struct row_series *s)
{
    const struct dataset_type *t = p->type;
    if (p->kind != PLACE_COLLECTIONS || !t || !p->holder || d->value_count != t->level_count ||
        t->level_count < (order == ROW_ORDER_MOVIE ? 2 : 1) || !text_equal(d->type, t->name))
        return false;
    s->set = place_set_id(p);
    s->fresh = p->fresh;
    s->outer_count = order == ROW_ORDER_MOVIE ? t->level_count - 1 : 0;
    for (uint32_t i = 0; i < d->value_count; i++) {
        if (i + 1 == t->level_count && order == ROW_ORDER_FOLDER)
            s->folder_bytes = s->key.size_bytes;
        key_append(&s->key, &d->values[i], t->level_count);
    }
    return true;
}

int row_series_note(const struct place *p, const struct dataset *d, enum row_order order, uint64_t who,
                    uint64_t *ret_id, int64_t *ret_position)
{
    struct repository *r = p->repository;
    struct row_series now = {0}, was;
    struct set_state state;
    struct row row;
    enum row_kind kind;
    BUFFER_CLEANUP scratch = {0};
    if (!series_begin(p, d, order, &now))
        return -ENOENT;
    int e = catalogue_pin_set(r->catalogue, &now.set, p->fresh, &state);
    if (e < 0)
        return e;
    now.generation = state.generation;
    now.id = series_id(&now, who);
    e = catalogue_find_row(r->catalogue, &now.set, p->fresh, &now.key, &kind, &row, &scratch);
    if (e == 0 && kind != ROW_VISIBLE)
        e = -ENOENT;
    if (e == 0 && series_get(r, now.id, &was))
        now.position = was.position + series_moved(r, &was, &now);
    catalogue_unpin(r->catalogue, state.generation);
    if (e < 0)
        return e;
    series_put(r, &now);
    *ret_id = now.id;
    *ret_position = now.position;
    return 0;
}

// The key of what is `steps` after the series' last one.
static int key_after(struct repository *r, const struct row_series *s, int64_t steps, struct key *ret_key)
{
    struct set_state state;
    struct count c = {.most = steps};
    int e = catalogue_pin_set(r->catalogue, &s->set, s->fresh, &state);
    if (e < 0)
        return e;
    e = state.generation == s->generation ? count_from(r->catalogue, s, &s->key, &c) : -ENOENT;
    catalogue_unpin(r->catalogue, state.generation);
    if (e < 0)
        return e;
    *ret_key = c.at;
    size_t from = c.from.size_bytes, more = s->key.size_bytes - from;
    if (c.at.size_bytes + more > KEY_BYTES_MAX)
        return -ENODATA;
    memcpy(ret_key->bytes + ret_key->size_bytes, s->key.bytes + from, more);
    ret_key->size_bytes = (uint16_t)(ret_key->size_bytes + more);
    return 0;
}

int row_series_at(struct repository *r, uint64_t id, int64_t position, struct dataset **ret_dataset)
{
    struct row_series s;
    struct key key;
    struct row row;
    enum row_kind kind;
    struct want want = {0};
    BUFFER_CLEANUP scratch = {0};
    if (!series_get(r, id, &s) || position <= s.position || position - s.position > NEAR)
        return -ENODATA;
    int e = key_after(r, &s, position - s.position, &key);
    if (e < 0)
        return e;
    e = catalogue_find_row(r->catalogue, &s.set, s.fresh, &key, &kind, &row, &scratch);
    if (e < 0 || kind != ROW_VISIBLE)
        return -ENODATA;
    e = repository_dataset(r, s.fresh, &row.uuid, ret_dataset, &want);
    if (e == -EINPROGRESS)
        library_ask_ahead(r, &want);
    want_release(&want);
    return e == -ENOENT ? -ENODATA : e;
}
