// SPDX-License-Identifier: BSD-3-Clause
// catalogue_resolve: what is found at a time, of collections that are searched one after the other.
// 1. Rows come in the order of keys, so those of one data ID one after the other: a group. Inside it
//    they are in the order of their ranges, not of their collections: a row of an earlier collection
//    takes the place of all that were found in later ones.
// 2. As the client counts: rows, not datasets. The same dataset that is valid twice is ambiguous.
// 3. What isn't stored counts like everything else: it wins, or makes the others ambiguous.
#include "meta/catalogue_load.h"

struct resolving {
    struct generation *g;
    size_t level_count;
    const struct timespan *at;
    struct key group;      // the data ID
    bool has_group;
    uint32_t rank;         // of the collection that decides so far
    uint32_t found;        // how many rows it has
    struct block_row row;  // the first of them; its texts are in `texts`
    struct buffer texts;
};

static int end_group(struct resolving *v)
{
    struct block_row ambiguous = {.is_hidden = true, .is_ambiguous = true};
    uint32_t found = v->found;
    v->found = 0;
    if (found == 0 || (found == 1 && v->row.is_hidden))
        return 0;
    return generation_put(v->g, key_text(&v->group), found == 1 ? &v->row : &ambiguous);
}

static void keep_row(struct resolving *v, const struct block_row *row)
{
    v->row = *row;
    buffer_clear(&v->texts);
    if (row->is_hidden)
        return;
    buffer_append_text(&v->texts, row->suffix);
    buffer_append_text(&v->texts, row->extra);
    struct text texts = buffer_text(&v->texts);
    v->row.suffix = text_slice(texts, 0, row->suffix.size_bytes);
    v->row.extra = text_slice(texts, row->suffix.size_bytes, texts.size_bytes);
}

static int sink_resolve(const struct stream *s, bool is_first, void *context)
{
    struct resolving *v = context;
    struct text key = key_text(&s->reader.key);
    struct key_range range = {.span = TIMESPAN_ALWAYS};
    uint32_t rank = s->rank / 2; // each has two streams
    int r = 0, size = key_values_size(key, v->level_count);
    if (size < 0 || ((size_t)size < key.size_bytes && key_read_range(key, (size_t)size, &range) < 0))
        return -EBADMSG;
    struct text group = text_slice(key, 0, (size_t)size);
    if (!v->has_group || !text_equal(group, key_text(&v->group))) {
        r = end_group(v);
        key_set(&v->group, group);
        v->has_group = true;
    }
    if (r < 0 || !timespan_finds(v->at, &range.span) || (v->found && rank > v->rank))
        return r;
    if (v->found && rank < v->rank) // invariant 1
        v->found = 0;
    if (v->found == 0)
        keep_row(v, &s->row);
    v->rank = rank;
    v->found += 1 + s->row.is_double;
    return 0;
}

int catalogue_resolve(struct catalogue *c, const uint64_t *generations, size_t count,
                      size_t level_count, const struct set_id *id, uint64_t epoch,
                      struct set_state *ret_state)
{
    struct generation g;
    struct resolving v = {.g = &g, .level_count = level_count, .at = &id->at};
    cleanup(cleanup_free) struct stream *streams = streams_of(c, generations, count);
    generation_begin(&g, c, id, epoch);
    int r = streams_merge(streams, 2 * count, sink_resolve, &v);
    if (r == 0)
        r = end_group(&v);
    streams_distrust(c, generations, count, r);
    buffer_release(&v.texts);
    return generation_end(&g, r, ret_state);
}
