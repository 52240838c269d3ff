// SPDX-License-Identifier: BSD-3-Clause
// catalogue_load: writing whole generations. Rows come in the registry's order, the tree wants
// another: they are gathered in a bounded piece of memory, sorted, spilled to an unlinked file as
// blocks where there is more (a run), and merged into the generation at the end. Merging members of
// a chain is the same with their generations as runs.
// 1. Of equal keys the row that came first, of the run (generation) with the lower number, is kept.
// 2. The generation stands in `dead` from its first block until its set names it: a death between
//    leaves something to tidy, nothing wrong. It is pinned as long as it is being written.
// 3. If the environment is replaced meanwhile, what was written is gone: -ESTALE, begin anew.
#include "meta/catalogue_load.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/log.h"

#define GATHER_BYTES (6u << 20)
#define FLUSH_BYTES (2u << 20)

struct gathered {
    struct block_row row; // texts in `texts`: their data is an offset until it is sorted
    uint32_t key_at;
    uint16_t key_size_bytes;
    uint32_t suffix_at;
    uint32_t extra_at;
};

struct order {
    uint64_t next8; // the key's bytes behind what all keys share
    uint32_t index;
};

struct catalogue_load {
    struct catalogue *c;
    struct gathered *rows;
    size_t row_count, row_room;
    struct buffer texts; // keys, suffixes, extras
    size_t shared_bytes; // of all keys' beginning
    int spill_fd;        // -1: nothing was spilled
    off_t spill_bytes;
    struct run *runs;
    size_t run_count;
    int error; // of a spill: then there is nothing to finish
};

struct run {
    off_t begin, end;
};

struct catalogue_load *catalogue_load_new(struct catalogue *c)
{
    struct catalogue_load *l = new_struct(struct catalogue_load);
    l->c = c;
    l->spill_fd = -1;
    return l;
}

void catalogue_load_free(struct catalogue_load *l)
{
    if (!l)
        return;
    cleanup_close(&l->spill_fd);
    buffer_release(&l->texts);
    free(l->rows);
    free(l->runs);
    free(l);
}

// Gathering.

static struct text gathered_key(const struct catalogue_load *l, const struct gathered *g)
{
    return (struct text){l->texts.data + g->key_at, g->key_size_bytes};
}

static void note_shared(struct catalogue_load *l, const struct key *k)
{
    if (l->row_count == 0) {
        l->shared_bytes = k->size_bytes;
        return;
    }
    struct text first = gathered_key(l, &l->rows[0]);
    size_t i = 0, n = l->shared_bytes < k->size_bytes ? l->shared_bytes : k->size_bytes;
    while (i < n && (uint8_t)first.data[i] == k->bytes[i])
        i++;
    l->shared_bytes = i;
}

static void gather(struct catalogue_load *l, const struct key *k, const struct block_row *b)
{
    note_shared(l, k);
    if (l->row_count == l->row_room) {
        l->row_room = l->row_room ? 2 * l->row_room : 64;
        l->rows = memory_grow(l->rows, l->row_room, sizeof(*l->rows));
    }
    struct gathered *g = &l->rows[l->row_count];
    *g = (struct gathered){
        .row = *b, .key_at = (uint32_t)l->texts.size_bytes, .key_size_bytes = k->size_bytes};
    buffer_append_text(&l->texts, key_text(k));
    // Nearly always it is the suffix of the row before.
    struct gathered *before = l->row_count ? g - 1 : NULL;
    if (before && before->row.suffix.size_bytes == b->suffix.size_bytes &&
        (b->suffix.size_bytes == 0 ||
         memcmp(l->texts.data + before->suffix_at, b->suffix.data, b->suffix.size_bytes) == 0)) {
        g->suffix_at = before->suffix_at;
    } else {
        g->suffix_at = (uint32_t)l->texts.size_bytes;
        buffer_append_text(&l->texts, b->suffix);
    }
    g->extra_at = (uint32_t)l->texts.size_bytes;
    buffer_append_text(&l->texts, b->extra);
    l->row_count++;
}

static int order_compare(const void *a, const void *b, void *context)
{
    const struct catalogue_load *l = context;
    const struct order *x = a, *y = b;
    if (x->next8 != y->next8)
        return x->next8 < y->next8 ? -1 : 1;
    int order =
        text_compare(gathered_key(l, &l->rows[x->index]), gathered_key(l, &l->rows[y->index]));
    return order ? order : x->index < y->index ? -1 : 1;
}

static struct order *gathered_sort(struct catalogue_load *l)
{
    struct order *order = memory_grow(NULL, l->row_count, sizeof(*order));
    for (size_t i = 0; i < l->row_count; i++) {
        struct gathered *g = &l->rows[i];
        struct text key = gathered_key(l, g);
        order[i] = (struct order){.index = (uint32_t)i};
        for (size_t n = 0; n < 8; n++)
            order[i].next8 =
                order[i].next8 << 8 |
                (l->shared_bytes + n < key.size_bytes ? (uint8_t)key.data[l->shared_bytes + n] : 0);
        g->row.suffix.data = l->texts.data + g->suffix_at;
        g->row.extra.data = l->texts.data + g->extra_at;
    }
    qsort_r(order, l->row_count, sizeof(*order), order_compare, l);
    return order;
}

// Gives the gathered rows to `put` in order, and forgets them.
typedef int put_row(void *context, struct text key, const struct block_row *row);

static int gathered_put(struct catalogue_load *l, put_row *put, void *context)
{
    cleanup(cleanup_free) struct order *order = gathered_sort(l);
    struct text last = {0};
    int r = 0;
    for (size_t i = 0; i < l->row_count && r == 0; i++) {
        const struct gathered *g = &l->rows[order[i].index];
        struct text key = gathered_key(l, g);
        if (i == 0 || !text_equal(key, last)) // invariant 1
            r = put(context, key, &g->row);
        last = key;
    }
    l->row_count = 0;
    buffer_clear(&l->texts);
    return r;
}

// Spilling: a run is blocks, each after its length.

struct spilling {
    struct catalogue_load *l;
    struct block_writer writer;
    struct buffer out;
};

static int spill_out(struct spilling *s)
{
    size_t done = 0;
    while (done < s->out.size_bytes) {
        ssize_t n =
            pwrite(s->l->spill_fd, s->out.data + done, s->out.size_bytes - done, s->l->spill_bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return catalogue_give_up_disk(s->l->c, n < 0 ? errno : ENOSPC) == 0 ? -ESTALE : -ENOSPC;
        done += (size_t)n;
        s->l->spill_bytes += n;
    }
    buffer_clear(&s->out);
    return 0;
}

static int spill_block(struct spilling *s)
{
    struct text block = block_finish(&s->writer);
    uint32_t length = (uint32_t)block.size_bytes;
    buffer_append(&s->out, &length, sizeof(length));
    buffer_append_text(&s->out, block);
    block_restart(&s->writer);
    return s->out.size_bytes >= FLUSH_BYTES ? spill_out(s) : 0;
}

static int spill_row(void *context, struct text key, const struct block_row *row)
{
    struct spilling *s = context;
    if (block_add(&s->writer, key, row))
        return 0;
    int r = spill_block(s);
    check(block_add(&s->writer, key, row));
    return r;
}

static int spill_open(struct catalogue *c)
{
    int fd = -1;
    if (!catalogue_in_memory(c))
        fd = open(catalogue_folder(c), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        fd = memfd_create("butlerfs-sort", MFD_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static int spill(struct catalogue_load *l)
{
    if (l->spill_fd < 0 && (l->spill_fd = spill_open(l->c)) < 0)
        return l->spill_fd;
    struct spilling s = {.l = l};
    struct run run = {.begin = l->spill_bytes};
    block_writer_init(&s.writer, 2 * BLOCK_BYTES_TARGET);
    int r = gathered_put(l, spill_row, &s);
    if (r == 0)
        r = spill_block(&s);
    if (r == 0)
        r = spill_out(&s);
    block_writer_release(&s.writer);
    buffer_release(&s.out);
    run.end = l->spill_bytes;
    l->runs = memory_grow(l->runs, l->run_count + 1, sizeof(*l->runs));
    l->runs[l->run_count++] = run;
    l->error = r;
    return r;
}

int catalogue_load_row(struct catalogue_load *l, const struct key *k, enum row_kind kind,
                       const struct row *row)
{
    struct block_row b;
    BUFFER_CLEANUP extra = {0};
    row_to_block(k, row, kind, &b, &extra);
    if (b.suffix.size_bytes + b.extra.size_bytes > BLOCK_ROW_BYTES_MAX)
        return -EMSGSIZE;
    gather(l, k, &b);
    size_t size =
        l->texts.size_bytes + l->row_count * (sizeof(struct gathered) + sizeof(struct order));
    return size >= GATHER_BYTES ? spill(l) : 0;
}

// Reading a run back.

static int run_fetch(struct stream *s)
{
    uint32_t length;
    if (s->run_at == s->run_end)
        return 0;
    if (pread(s->run_fd, &length, sizeof(length), s->run_at) != sizeof(length) ||
        length > BLOCK_ROW_BYTES_MAX * 2)
        return -EIO;
    buffer_clear(&s->block);
    buffer_reserve(&s->block, length);
    if (pread(s->run_fd, s->block.data, length, s->run_at + (off_t)sizeof(length)) !=
        (ssize_t)length)
        return -EIO;
    s->block.size_bytes = length;
    s->block.data[length] = 0;
    s->run_at += (off_t)sizeof(length) + (off_t)length;
    return 1;
}

static int put_generation_row(void *context, struct text key, const struct block_row *row)
{
    return generation_put(context, key, row);
}

int catalogue_load_finish(struct catalogue_load *l, const struct set_id *id, uint64_t epoch,
                          struct set_state *ret_state)
{
    struct generation g;
    int r = 0;
    if (l->error)
        return l->error;
    generation_begin(&g, l->c, id, epoch);
    if (l->run_count == 0) {
        r = gathered_put(l, put_generation_row, &g);
    } else if (l->row_count == 0 || (r = spill(l)) == 0) {
        cleanup(cleanup_free) struct stream *streams = memory_new(l->run_count * sizeof(*streams));
        for (size_t i = 0; i < l->run_count; i++)
            streams[i] = (struct stream){.fetch = run_fetch,
                                         .run_fd = l->spill_fd,
                                         .run_at = l->runs[i].begin,
                                         .run_end = l->runs[i].end};
        r = streams_merge(streams, l->run_count, sink_first, &g);
    }
    return generation_end(&g, r, ret_state);
}
