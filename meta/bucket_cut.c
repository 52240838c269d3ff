// SPDX-License-Identifier: BSD-3-Clause
// bucket_cut: see bucket_cut.h.
// 1. Folders that are begun stand in a stack, each inside the one before; what is stored is whole.
#include "meta/bucket_cut.h"

#include "meta/bucket_row.h"

static void level_push(struct cutter *c, struct text prefix, bool is_kept)
{
    buffer_clear(&c->prefix);
    buffer_append_text(&c->prefix, prefix);
    c->levels[c->depth++] = (struct cutter_level){prefix.size_bytes, c->epoch,
                                                  is_kept ? catalogue_load_new(c->b->catalogue) : NULL};
}

// The deepest level is whole.
static int level_pop(struct cutter *c)
{
    struct cutter_level *l = &c->levels[--c->depth];
    struct set_id id = bucket_set(c->b->number, text_slice(buffer_text(&c->prefix), 0, l->prefix_bytes));
    struct set_state state;
    int r = l->load ? catalogue_load_finish(l->load, &id, l->epoch, &state) : 0;
    catalogue_load_free(l->load);
    if (c->depth)
        buffer_truncate(&c->prefix, c->levels[c->depth - 1].prefix_bytes);
    return r;
}

static int level_add(struct cutter *c, const struct bucket_entry *e)
{
    struct catalogue_load *load = c->levels[c->depth - 1].load;
    return load ? bucket_entry_add(load, e) : 0;
}

void cutter_begin(struct cutter *c, struct bucket *b, struct text prefix, bool is_part, uint64_t epoch)
{
    *c = (struct cutter){.b = b, .epoch = epoch};
    level_push(c, prefix, !is_part);
}

void cutter_release(struct cutter *c)
{
    while (c->depth)
        catalogue_load_free(c->levels[--c->depth].load);
    buffer_release(&c->prefix);
    key_order_release(&c->order);
}

int cutter_end(struct cutter *c)
{
    int r = 0;
    while (r == 0 && c->depth)
        r = level_pop(c);
    return r;
}

// Goes down to the folder that holds the key.
static int cut_down(struct cutter *c, struct text key)
{
    for (;;) {
        size_t from = c->levels[c->depth - 1].prefix_bytes;
        struct text rest = text_slice(key, from, key.size_bytes);
        const char *slash = rest.size_bytes ? memchr(rest.data, '/', rest.size_bytes) : NULL;
        if (!slash)
            return 0;
        size_t part = (size_t)(slash - rest.data);
        struct bucket_entry e = {.is_folder = true, .raw = text_slice(rest, 0, part)};
        int r = c->depth == CUTTER_DEPTH_MAX ? -E2BIG : level_add(c, &e);
        if (r < 0)
            return r;
        c->folders += c->depth == 1;
        level_push(c, text_slice(key, 0, from + part + 1), true);
    }
}

static int cut_key(struct cutter *c, const struct bucket_page_entry *p)
{
    int r = 0;
    while (r == 0 && !text_begins(p->key, buffer_text(&c->prefix))) {
        if (c->depth == 1)
            return -EBADMSG;
        r = level_pop(c);
    }
    if (r == 0)
        r = cut_down(c, p->key);
    if (r < 0)
        return r;
    struct bucket_entry e;
    struct text raw = text_slice(p->key, c->levels[c->depth - 1].prefix_bytes, p->key.size_bytes);
    bucket_object_entry(p, raw, &e);
    c->keys++;
    if (raw.size_bytes == 0 && p->size_bytes == 0)
        return 0; // the folder's marker
    return level_add(c, &e);
}

// Looked at before any of it is stored.
static bool is_in_order(struct cutter *c, const struct bucket_page *page)
{
    struct bucket_page_entry p;
    bool is_good = true;
    for (size_t at = 0; is_good && bucket_page_next(page, &at, &p);)
        is_good = key_order_take(&c->order, p.key);
    return is_good;
}

int cutter_page(struct cutter *c, const struct bucket_page *page, uint64_t epoch, struct text begin, struct text end,
                bool *ret_is_past)
{
    struct bucket_page_entry p;
    int r = is_in_order(c, page) ? 0 : -EILSEQ;
    *ret_is_past = false;
    c->epoch = epoch;
    for (size_t at = 0; r == 0 && !*ret_is_past && bucket_page_next(page, &at, &p);) {
        *ret_is_past = end.size_bytes && text_compare(p.key, end) >= 0;
        if (!*ret_is_past && text_compare(p.key, begin) >= 0)
            r = cut_key(c, &p);
    }
    return r;
}
