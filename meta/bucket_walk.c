// SPDX-License-Identifier: BSD-3-Clause
// bucket_walk: a listing without delimiter of all that is below a prefix, cut into its folders. Keys come
// in order, so the keys of a folder come one after the other, and it is whole when the first of another
// one comes.
// 1. Folders that are begun stand in a stack, each inside the one before; what is stored is whole.
// 2. It goes on as long as somebody opens folders below its prefix, a number of pages ahead of him.
#include "meta/bucket_library.h"
#include "meta/bucket_row.h"

#include "base/clock.h"
#include "base/log.h"

#define PAGE_KEYS 1000
#define DEPTH_MAX 64
#define IDLE_NS (2 * NS_PER_S)

struct walk_level {
    size_t prefix_bytes; // of `prefix`, its '/' included
    uint64_t epoch;
    struct catalogue_load *load;
};

struct cutter {
    struct bucket *b;
    struct buffer prefix; // of the deepest level
    struct walk_level levels[DEPTH_MAX];
    size_t depth;
    uint64_t epoch; // of the page
};

static void level_push(struct cutter *c, struct text prefix)
{
    buffer_clear(&c->prefix);
    buffer_append_text(&c->prefix, prefix);
    c->levels[c->depth++] =
        (struct walk_level){prefix.size_bytes, c->epoch, catalogue_load_new(c->b->catalogue)};
}

// The deepest level is whole.
static int level_pop(struct cutter *c)
{
    struct walk_level *l = &c->levels[--c->depth];
    struct set_id id = bucket_set(c->b->number, text_slice(buffer_text(&c->prefix), 0, l->prefix_bytes));
    struct set_state state;
    int r = catalogue_load_finish(l->load, &id, l->epoch, &state);
    catalogue_load_free(l->load);
    if (c->depth)
        buffer_truncate(&c->prefix, c->levels[c->depth - 1].prefix_bytes);
    return r;
}

static void cutter_release(struct cutter *c)
{
    while (c->depth)
        catalogue_load_free(c->levels[--c->depth].load);
    buffer_release(&c->prefix);
}

// Goes down to the folder that holds the key. -E2BIG: too deep to be cut.
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
        int r = c->depth == DEPTH_MAX ? -E2BIG : bucket_entry_add(c->levels[c->depth - 1].load, &e);
        if (r < 0)
            return r;
        level_push(c, text_slice(key, 0, from + part + 1));
    }
}

static int cut_key(struct cutter *c, const struct bucket_page_entry *p)
{
    int r = 0;
    while (r == 0 && !text_begins(p->key, buffer_text(&c->prefix))) {
        if (c->depth == 1)
            return -EBADMSG; // it isn't below what was asked for
        r = level_pop(c);
    }
    if (r == 0)
        r = cut_down(c, p->key);
    if (r < 0)
        return r;
    struct bucket_entry e;
    struct text raw = text_slice(p->key, c->levels[c->depth - 1].prefix_bytes, p->key.size_bytes);
    bucket_object_entry(p, raw, &e);
    if (raw.size_bytes == 0 && p->size_bytes == 0)
        return 0; // the folder's marker
    return bucket_entry_add(c->levels[c->depth - 1].load, &e);
}

static int cut_page(struct cutter *c, const struct bucket_page *page, struct buffer *last)
{
    struct bucket_page_entry p;
    int r = 0;
    for (size_t at = 0; r == 0 && bucket_page_next(page, &at, &p);)
        r = cut_key(c, &p);
    if (page->last.size_bytes) {
        buffer_clear(last);
        buffer_append_text(last, buffer_text(&page->last));
    }
    return r;
}

// ---- going on or not

static bool walk_begin(struct bucket *b, struct bucket_walk *w, struct text prefix)
{
    lock_scope(&b->library);
    if (b->walk)
        return false;
    buffer_append_text(&w->prefix, prefix);
    w->wanted_ns = (uint64_t)clock_ns();
    w->allowed_pages = 32;
    b->walk = w;
    return true;
}

static void walk_end(struct bucket *b, struct bucket_walk *w)
{
    lock_scope(&b->library);
    b->walk = NULL;
    pthread_cond_broadcast(&b->moved);
    buffer_release(&w->prefix);
    buffer_release(&w->reached);
}

// After a page: waits while it is far enough ahead. false: nobody follows.
static bool walk_reached(struct bucket *b, struct bucket_walk *w, struct text last)
{
    lock_scope(&b->library);
    w->pages++;
    buffer_clear(&w->reached);
    buffer_append_text(&w->reached, last);
    pthread_cond_broadcast(&b->moved);
    while (!atomic_load(&b->is_closing) && w->pages >= w->allowed_pages) {
        int64_t until = (int64_t)w->wanted_ns + IDLE_NS;
        if (clock_ns() >= until)
            return false;
        condition_wait(&b->moved, &b->library, until);
    }
    return !atomic_load(&b->is_closing);
}

int bucket_job_walk(struct bucket *b, struct text prefix)
{
    struct bucket_walk walk = {0};
    struct cutter c = {.b = b};
    BUFFER_CLEANUP token = {0}, last = {0};
    if (!walk_begin(b, &walk, prefix))
        return 0;
    log_debug("a walk below %.*s is followed by a listing of all of it", (int)prefix.size_bytes, prefix.data);
    bool goes_on = true;
    int r = 0;
    do {
        struct bucket_page page = {0};
        c.epoch = (uint64_t)clock_unix_ns();
        if (c.depth == 0)
            level_push(&c, prefix);
        r = bucket_page_get(b, prefix, false, PAGE_KEYS, buffer_text(&token), &page);
        if (r == 0)
            r = cut_page(&c, &page, &last);
        buffer_clear(&token);
        buffer_append_text(&token, buffer_text(&page.token));
        bucket_page_release(&page);
        if (r == 0 && token.size_bytes)
            goes_on = walk_reached(b, &walk, buffer_text(&last));
    } while (r == 0 && goes_on && token.size_bytes);
    while (r == 0 && goes_on && c.depth)
        r = level_pop(&c);
    cutter_release(&c);
    walk_end(b, &walk);
    return r;
}
