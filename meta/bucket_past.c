// SPDX-License-Identifier: BSD-3-Clause
// bucket_past: folders of a bucket at a time. A listing says that there is, or was, something below a prefix, not when: so
// each prefix is asked about.
// 1. Of a page's prefixes a number are asked about at once, each by a few versions: mostly the first one decides it.
// 2. Where those are all younger, or of what had been deleted, pages of them follow, up to a bound: a prefix that isn't
//    decided by then counts as a folder.
// 3. So does one that may not be listed: who enters it is told so, and what is beside it is shown.
#include "meta/bucket_library.h"

#include <errno.h>

#include "base/clock.h"
#include "base/metric.h"
#include "cache/origin/origin.h"

#define LOOK_VERSIONS 8
#define LOOKS_AT_ONCE 32
#define PAGE_VERSIONS 1000
#define PAST_LOOKS 32 // pages of one prefix

struct looks;

struct look {
    struct origin_request request;
    struct looks *all;
    size_t at;             // of the entry in its page
    struct buffer prefix, token;
    bool has;              // something was there
    int error;
    char *why;
};

struct looks {
    struct lock lock;      // LOCK_RANK_LEAF
    pthread_cond_t ended;
    size_t flying;         // under it
    struct look of[LOOKS_AT_ONCE];
};

static int look_each(struct origin_request *r, const struct origin_entry *entry)
{
    struct look *k = r->context;
    k->has |= !entry->is_absent;
    return 0;
}

static void look_done(struct origin_request *r, const struct origin_answer *answer)
{
    struct look *k = r->context;
    k->error = answer->error;
    if (answer->error < 0 && answer->why)
        k->why = memory_copy(answer->why, strlen(answer->why));
    buffer_append_text(&k->token, answer->token);
    lock_scope(&k->all->lock);
    k->all->flying--;
    pthread_cond_broadcast(&k->all->ended);
}

static void look_start(struct bucket *b, struct looks *all, struct look *k)
{
    k->all = all;
    k->request = (struct origin_request){
        .verb = ORIGIN_LIST,
        .priority = ORIGIN_READER_WAITS,
        .key = buffer_text(&k->prefix),
        .max = LOOK_VERSIONS,
        .at_unix_ns = b->at_unix_ns,
        .deadline_ns = clock_ns() + b->limit_ns,
        .each = look_each,
        .done = look_done,
        .context = k,
    };
    metric_add(METRIC_LIST_PAGES, 1);
    origin_start(b->origin, &k->request);
}

static void looks_wait(struct looks *all)
{
    lock_scope(&all->lock);
    while (all->flying)
        condition_wait(&all->ended, &all->lock, INT64_MAX); // each has a deadline
}

// The pages from a token on.
static int has_further(struct bucket *b, struct text prefix, struct text token, bool *ret_has)
{
    BUFFER_CLEANUP from = {0};
    buffer_append_text(&from, token);
    for (int i = 0; i < PAST_LOOKS; i++) {
        struct bucket_page page = {0};
        int r = bucket_page_get(b, prefix, false, PAGE_VERSIONS, buffer_text(&from), &page);
        bool is_decided = page.entries.size_bytes || !page.token.size_bytes;
        *ret_has = page.entries.size_bytes > 0;
        buffer_clear(&from);
        buffer_append_text(&from, buffer_text(&page.token));
        bucket_page_release(&page);
        if (r < 0 || is_decided)
            return r;
        if (atomic_load(&b->is_closing))
            return -ESHUTDOWN;
    }
    *ret_has = true;
    return 0;
}

static int or_closed(int error, bool *has)
{
    *has |= error == -EACCES;
    return error == -EACCES ? 0 : error;
}

int bucket_past_has(struct bucket *b, struct text prefix, bool *ret_has)
{
    return or_closed(has_further(b, prefix, (struct text){0}, ret_has), ret_has);
}

// What a look came to; released.
static int look_end(struct bucket *b, struct look *k, bool *ret_has)
{
    int r = k->error;
    *ret_has = k->has;
    if (k->why)
        bucket_note_error(b, buffer_text(&k->prefix), k->error, take(k->why));
    if (r == 0 && !k->has && k->token.size_bytes)
        r = has_further(b, buffer_text(&k->prefix), buffer_text(&k->token), ret_has);
    buffer_release(&k->prefix);
    buffer_release(&k->token);
    return or_closed(r, ret_has);
}

// The prefixes of a page from *at on, as many as are asked about at once. Where there was nothing, the entry's place in the page
// is appended to `empty`.
static int look_at_some(struct bucket *b, const struct bucket_page *page, size_t *at, struct buffer *empty)
{
    struct looks *all = new_struct(struct looks);
    struct bucket_page_entry p;
    size_t count = 0;
    int r = 0;
    lock_init(&all->lock, LOCK_RANK_LEAF, "looks");
    condition_init(&all->ended);
    for (size_t here = *at; count < LOOKS_AT_ONCE && bucket_page_next(page, at, &p); here = *at) {
        if (!p.is_prefix)
            continue;
        all->of[count].at = here;
        buffer_append_text(&all->of[count++].prefix, p.key);
    }
    all->flying = count;
    for (size_t i = 0; i < count; i++)
        look_start(b, all, &all->of[i]);
    looks_wait(all);
    for (size_t i = 0; i < count; i++) {
        bool has = true;
        int error = look_end(b, &all->of[i], &has);
        r = r < 0 ? r : error;
        if (!has)
            buffer_append(empty, &all->of[i].at, sizeof all->of[i].at);
    }
    pthread_cond_destroy(&all->ended);
    lock_release_memory(&all->lock);
    free(all);
    return r;
}

int bucket_past_sift(struct bucket *b, struct bucket_page *page)
{
    BUFFER_CLEANUP empty = {0};
    struct bucket_page_entry p;
    struct buffer kept = {0};
    int r = 0;
    if (!b->at_unix_ns)
        return 0;
    for (size_t at = 0; r == 0 && at < page->entries.size_bytes;)
        r = atomic_load(&b->is_closing) ? -ESHUTDOWN : look_at_some(b, page, &at, &empty);
    if (r < 0 || empty.size_bytes == 0)
        return r;
    size_t next = 0;
    for (size_t at = 0, from = 0; bucket_page_next(page, &at, &p); from = at) {
        size_t gone = SIZE_MAX;
        if (next < empty.size_bytes)
            memcpy(&gone, empty.data + next, sizeof gone);
        if (from == gone)
            next += sizeof gone;
        else
            buffer_append(&kept, page->entries.data + from, at - from);
    }
    buffer_release(&page->entries);
    page->entries = kept;
    return 0;
}
