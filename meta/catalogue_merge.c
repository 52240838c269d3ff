// SPDX-License-Identifier: BSD-3-Clause
// catalogue_merge: sorted streams into one generation, and the generation's blocks into LMDB.
// 1. The heap holds the streams that have a row at hand, the least (key, rank) at the top.
// 2. Between two transactions a generation's stream holds a copy of one block, no transaction: no
//    reader holds back free pages while the merge writes.
// 3. A flush can be run again: blocks are put under their keys.
#include "meta/catalogue_load.h"

#include "base/log.h"

// The generation.

void generation_begin(struct generation *g, struct catalogue *c, const struct set_id *id,
                      uint64_t epoch)
{
    *g = (struct generation){
        .c = c,
        .id = id,
        .state = {.generation = atomic_fetch_add(&c->next_generation, 1),
                  .epoch = epoch,
                  .is_whole = true},
        .incarnation = atomic_load(&c->incarnation),
    };
    block_writer_init(&g->visible, BLOCK_BYTES_TARGET);
    block_writer_init(&g->hidden, BLOCK_BYTES_TARGET);
    catalogue_pin(c, g->state.generation);
}

static int put_pending(struct write *w, struct generation *g)
{
    const char *at = g->pending.data, *end = at + g->pending.size_bytes;
    while (at < end) {
        uint32_t head[3]; // section, key's length, block's length
        memcpy(head, at, sizeof(head));
        at += sizeof(head);
        struct rows_key bytes;
        MDB_val key = rows_key(&bytes, g->state.generation, head[0], (struct text){at, head[1]});
        MDB_val data = {head[2], (void *)(at + head[1])};
        int rc = mdb_put(w->txn, w->store->rows, &key, &data, 0);
        if (rc)
            return rc;
        at += head[1] + head[2];
    }
    return 0;
}

static int flush_body(struct write *w, void *context)
{
    struct generation *g = context;
    if (atomic_load(&w->c->incarnation) != g->incarnation) {
        if (g->is_begun)
            return -ESTALE;
        g->incarnation = atomic_load(&w->c->incarnation);
    }
    int rc = g->is_begun ? 0 : dead_add(w, g->state.generation);
    return rc ? rc : put_pending(w, g);
}

static int generation_flush(struct generation *g)
{
    int r = catalogue_write(g->c, flush_body, g);
    g->is_begun = true;
    buffer_clear(&g->pending);
    return r;
}

static void pend(struct generation *g, struct block_writer *b, enum section section)
{
    struct text block = block_finish(b);
    uint32_t head[3] = {section, b->first.size_bytes, (uint32_t)block.size_bytes};
    buffer_append(&g->pending, head, sizeof(head));
    buffer_append_text(&g->pending, key_text(&b->first));
    buffer_append_text(&g->pending, block);
    block_restart(b);
}

int generation_put(struct generation *g, struct text key, const struct block_row *row)
{
    bool is_apart = row->is_hidden && !row->is_ambiguous;
    struct block_writer *b = is_apart ? &g->hidden : &g->visible;
    g->state.row_count += !row->is_hidden;
    if (block_add(b, key, row))
        return 0;
    pend(g, b, is_apart ? SECTION_HIDDEN : SECTION_ROWS);
    check(block_add(b, key, row));
    return g->pending.size_bytes >= g->c->flush_bytes ? generation_flush(g) : 0;
}

static int end_body(struct write *w, void *context)
{
    struct generation *g = context;
    int rc = flush_body(w, g);
    if (!rc)
        rc = header_write(w, g->state.generation, g->id);
    if (!rc)
        rc = set_write(w, g->id, &g->state);
    if (!rc && !timespan_is_none(&g->id->at))
        rc = set_limit_times(w, g->id);
    return rc ? rc : set_forget_answers(w, g->id, g->state.epoch);
}

int generation_end(struct generation *g, int error, struct set_state *ret_state)
{
    if (!error) {
        if (g->visible.row_count)
            pend(g, &g->visible, SECTION_ROWS);
        if (g->hidden.row_count)
            pend(g, &g->hidden, SECTION_HIDDEN);
        error = catalogue_write(g->c, end_body, g);
    }
    if (!error)
        *ret_state = g->state;
    catalogue_unpin(g->c, g->state.generation);
    block_writer_release(&g->visible);
    block_writer_release(&g->hidden);
    buffer_release(&g->pending);
    return error;
}

// Streams.

static int stream_next(struct stream *s)
{
    int got = s->block.size_bytes ? block_next(&s->reader, &s->row) : 0;
    if (got)
        return got;
    got = s->fetch(s);
    if (got <= 0)
        return got;
    int r = block_open(&s->reader, buffer_text(&s->block));
    return r < 0 ? r : block_next(&s->reader, &s->row);
}

static int section_find(struct stream *s, struct read_slot *slot, MDB_val *ret_data)
{
    struct rows_key bytes;
    struct text first;
    MDB_val key = rows_key(&bytes, s->generation, s->section,
                           s->has_last_block ? key_text(&s->last_block) : (struct text){0});
    int rc = mdb_cursor_get(slot->rows, &key, ret_data, MDB_SET_RANGE);
    if (!rc && s->has_last_block && rows_key_is(&key, s->generation, s->section, &first) &&
        text_equal(first, key_text(&s->last_block)))
        rc = mdb_cursor_get(slot->rows, &key, ret_data, MDB_NEXT);
    if (rc)
        return rc;
    if (!rows_key_is(&key, s->generation, s->section, &first))
        return MDB_NOTFOUND;
    key_set(&s->last_block, first);
    s->has_last_block = true;
    return 0;
}

// Invariant 2.
static int section_fetch(struct stream *s)
{
    struct read_slot *slot;
    MDB_val data;
    int r = read_begin(s->c, &slot);
    if (r < 0)
        return r;
    int rc = section_find(s, slot, &data);
    buffer_clear(&s->block);
    if (!rc)
        buffer_append_text(&s->block, text_of_val(&data));
    read_end(slot);
    return rc == MDB_NOTFOUND ? 0 : rc ? store_errno(rc) : 1;
}

// The heap.

static bool is_less(const struct stream *a, const struct stream *b)
{
    int order = text_compare(key_text(&a->reader.key), key_text(&b->reader.key));
    return order < 0 || (order == 0 && a->rank < b->rank);
}

static void sift_down(struct stream **heap, size_t count, size_t i)
{
    for (;;) {
        size_t least = i, left = 2 * i + 1;
        if (left < count && is_less(heap[left], heap[least]))
            least = left;
        if (left + 1 < count && is_less(heap[left + 1], heap[least]))
            least = left + 1;
        if (least == i)
            return;
        struct stream *t = heap[i];
        heap[i] = heap[least];
        heap[least] = t;
        i = least;
    }
}

static int heap_run(struct stream **heap, size_t count, stream_sink *sink, void *context)
{
    struct key last;
    bool has_last = false;
    while (count) {
        struct stream *top = heap[0];
        int order = has_last ? text_compare(key_text(&top->reader.key), key_text(&last)) : 1;
        // Blocks in a wrong order?
        int r = order < 0 ? -EBADMSG : sink(top, order > 0, context);
        if (r < 0)
            return r;
        key_set(&last, key_text(&top->reader.key));
        has_last = true;
        r = stream_next(top);
        if (r < 0)
            return r;
        if (r == 0) {
            buffer_release(&top->block);
            heap[0] = heap[--count];
        }
        sift_down(heap, count, 0);
    }
    return 0;
}

int streams_merge(struct stream *streams, size_t count, stream_sink *sink, void *context)
{
    cleanup(cleanup_free) struct stream **heap = memory_new(count * sizeof(*heap));
    size_t filled = 0;
    int r = 0;
    for (size_t i = 0; i < count && r >= 0; i++) {
        streams[i].rank = (uint32_t)i;
        r = stream_next(&streams[i]);
        if (r > 0)
            heap[filled++] = &streams[i];
    }
    for (size_t i = filled; i-- > 0;)
        sift_down(heap, filled, i);
    if (r >= 0)
        r = heap_run(heap, filled, sink, context);
    for (size_t i = 0; i < count; i++)
        buffer_release(&streams[i].block);
    return r < 0 ? r : 0;
}

int sink_first(const struct stream *s, bool is_first, void *generation)
{
    struct generation *g = generation;
    if (!is_first || (s->row.is_hidden && g->drops_hidden))
        return 0;
    return generation_put(g, key_text(&s->reader.key), &s->row);
}

struct stream *streams_of(struct catalogue *c, const uint64_t *generations, size_t count)
{
    struct stream *streams = memory_new((2 * count + 1) * sizeof(*streams));
    for (size_t i = 0; i < 2 * count; i++)
        streams[i] = (struct stream){.fetch = section_fetch,
                                     .c = c,
                                     .generation = generations[i / 2],
                                     .section = i % 2 ? SECTION_HIDDEN : SECTION_ROWS};
    return streams;
}

void streams_distrust(struct catalogue *c, const uint64_t *generations, size_t count, int error)
{
    for (size_t i = 0; error == -EBADMSG && i < count; i++)
        pin_distrust(c, generations[i]);
}

int catalogue_merge(struct catalogue *c, const uint64_t *generations, size_t count,
                    const struct set_id *id, uint64_t epoch, struct set_state *ret_state)
{
    struct generation g;
    cleanup(cleanup_free) struct stream *streams = streams_of(c, generations, count);
    generation_begin(&g, c, id, epoch);
    g.drops_hidden = true; // a chain's set is no member of another's merge
    int r = streams_merge(streams, 2 * count, sink_first, &g);
    streams_distrust(c, generations, count, r);
    return generation_end(&g, r, ret_state);
}
