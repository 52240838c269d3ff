// SPDX-License-Identifier: BSD-3-Clause
// bucket_list: one folder's listing, and one name of it.
// 1. A set's epoch is the time before its first page was asked for: it is never called newer than it is.
// 2. Memory is bounded by a page and the catalogue's load, whatever a server lists.
#include "meta/bucket_library.h"
#include "meta/bucket_row.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "meta/catalogue_block.h"

#define PAGE_KEYS 1000
#define NAMES_BEFORE_LISTING 3
#define NAME_KEYS 4                 // the object, its folder, and a little of what may stand between
#define NAME_VERSIONS 100           // the same, of a bucket at a time
#define PAGE_IS_SLOW_NS NS_PER_MS   // a page that is faster is not worth a thought
#define PAGE_NAMES 2                // names that may be asked for in its time
#define PACE_PAGES 8                // so many say what pages cost
#define PACE_LOOKS 16               // so often the other way is taken, to see what it costs by now
#define WALK_LIMIT_NS (5 * NS_PER_S)

int bucket_entry_add(struct catalogue_load *l, const struct bucket_entry *e)
{
    struct row row;
    struct key k;
    int r = bucket_row_of(e, &row);
    if (r < 0)
        return r;
    bucket_row_key(e->raw, !e->is_folder, &k);
    return catalogue_load_row(l, &k, ROW_VISIBLE, &row);
}

void bucket_object_entry(const struct bucket_page_entry *p, struct text raw, struct bucket_entry *ret_entry)
{
    *ret_entry = (struct bucket_entry){
        .raw = raw,
        .size_bytes = p->size_bytes,
        .mtime_unix_ns = p->mtime_unix_ns,
        .storage_class = p->storage_class,
        .version = p->version,
    };
    if (p->etag.size_bytes && p->etag.size_bytes < BUCKET_ETAG_BYTES)
        snprintf(ret_entry->etag, sizeof ret_entry->etag, "%.*s", (int)p->etag.size_bytes, p->etag.data);
}

// An object without a name and without bytes is its folder's marker.
static bool is_shown(const struct bucket_page_entry *p, struct text raw)
{
    return raw.size_bytes > 0 || p->size_bytes > 0;
}

// What one listed key is in the folder of `prefix`. false: nothing that is shown (the folder's marker).
static bool entry_of(const struct bucket_page_entry *p, struct text prefix, struct bucket_entry *ret_entry)
{
    struct text raw = text_slice(p->key, prefix.size_bytes, p->key.size_bytes);
    if (p->is_prefix) {
        raw.size_bytes--; // its '/'
        *ret_entry = (struct bucket_entry){.is_folder = true, .raw = raw};
        return true;
    }
    bucket_object_entry(p, raw, ret_entry);
    return is_shown(p, raw);
}

static bool is_below(const struct bucket_page_entry *p, struct text prefix)
{
    if (!text_begins(p->key, prefix))
        return false;
    struct text raw = text_slice(p->key, prefix.size_bytes, p->key.size_bytes);
    const char *slash = raw.size_bytes ? memchr(raw.data, '/', raw.size_bytes) : NULL;
    // A delimiter that the server didn't honour would show folders as files.
    return p->is_prefix ? slash == raw.data + raw.size_bytes - 1 && slash : !slash;
}

static int page_add(const struct bucket_page *page, struct text prefix, struct catalogue_load *l,
                    uint64_t *count)
{
    struct bucket_page_entry p;
    struct bucket_entry e;
    for (size_t at = 0; bucket_page_next(page, &at, &p);) {
        if (!is_below(&p, prefix))
            return -EBADMSG;
        if (!entry_of(&p, prefix, &e))
            continue;
        int r = bucket_entry_add(l, &e);
        if (r < 0)
            return r;
        ++*count;
    }
    return 0;
}

// The rest of a folder whose first page is there. The marker alone is a folder too; nothing at all is
// none, but for the bucket's own.
static int folder_load(struct bucket *b, struct text prefix, uint64_t epoch, struct bucket_page *page)
{
    cleanup(cleanup_catalogue_load_free) struct catalogue_load *l = catalogue_load_new(b->catalogue);
    struct set_id id = bucket_set(b->number, prefix);
    struct set_state state;
    uint64_t count = 0;
    int r = bucket_past_sift(b, page);
    if (r == 0)
        r = page_add(page, prefix, l, &count);
    while (r == 0 && page->token.size_bytes && !atomic_load(&b->is_closing)) {
        struct bucket_page next = {0};
        r = bucket_page_get(b, prefix, true, PAGE_KEYS, buffer_text(&page->token), &next);
        bucket_page_release(page);
        *page = next;
        if (r == 0)
            r = bucket_past_sift(b, page);
        if (r == 0)
            r = page_add(page, prefix, l, &count);
    }
    if (r == 0 && atomic_load(&b->is_closing))
        r = -ESHUTDOWN;
    return r < 0 ? r : catalogue_load_finish(l, &id, epoch, &state);
}

static bool is_known(struct bucket *b, struct text prefix, uint64_t fresh)
{
    struct set_id id = bucket_set(b->number, prefix);
    struct set_state state;
    return catalogue_set(b->catalogue, &id, &state) == 0 && state.epoch >= bucket_fresh_in(b, prefix, fresh);
}

// How long the origin takes, lately.
static void pace_note(atomic_uint_fast64_t *pace_ns, int64_t begin_ns)
{
    uint64_t took = (uint64_t)(clock_ns() - begin_ns), before = atomic_load(pace_ns);
    atomic_store(pace_ns, before ? before - before / 4 + took / 4 : took);
}

// A page brings all names of a folder, and where the network is far it costs what one name costs. Servers
// that read a folder for each page are another matter.
static bool names_are_cheap(struct bucket *b)
{
    check(lock_is_held(&b->library));
    bool is_look = ++b->pace_looks % PACE_LOOKS == 0;
    if (b->pace_looks <= PACE_PAGES)
        return false;
    uint64_t page_ns = atomic_load(&b->page_pace_ns), name_ns = atomic_load(&b->name_pace_ns);
    if (page_ns < PAGE_IS_SLOW_NS)
        return false;
    return (page_ns > name_ns * PAGE_NAMES) != is_look; // name_ns 0: to be tried
}

static int first_page(struct bucket *b, struct text prefix, struct bucket_page *ret_page)
{
    int64_t begin_ns = clock_ns();
    int r = bucket_page_get(b, prefix, true, PAGE_KEYS, (struct text){0}, ret_page);
    if (r == 0)
        pace_note(&b->page_pace_ns, begin_ns);
    return r;
}

// One thread at a time lists a folder: who comes meanwhile waits for it, and looks again. Who wants a single name doesn't wait
// for the pages behind the first: there may be thousands, and every librarian would come to wait for them.
static bool folder_begin(struct bucket *b, struct text prefix, bool is_for_name)
{
    lock_scope(&b->library);
    bool is_others = false;
    while (bucket_note(b, prefix)->is_loading && !atomic_load(&b->is_closing)) {
        is_others = true;
        if (is_for_name && bucket_note(b, prefix)->is_large)
            break;
        condition_wait(&b->moved, &b->library, INT64_MAX);
    }
    if (!is_others)
        bucket_note(b, prefix)->is_loading = true;
    return !is_others;
}

// It goes on behind its first page.
static void folder_is_large(struct bucket *b, struct text prefix)
{
    lock_scope(&b->library);
    bucket_note(b, prefix)->is_large = true;
    pthread_cond_broadcast(&b->moved);
}

static void folder_end(struct bucket *b, struct text prefix, bool is_large)
{
    lock_scope(&b->library);
    struct bucket_note *n = bucket_note(b, prefix);
    n->is_loading = false;
    n->is_large = is_large;
    pthread_cond_broadcast(&b->moved);
}

int bucket_job_folder(struct bucket *b, const struct bucket_want *w)
{
    struct text prefix = buffer_text(&w->prefix);
    struct bucket_page page = {0};
    bucket_note_open(b, prefix);
    if (bucket_walk_wait(b, prefix, WALK_LIMIT_NS) && is_known(b, prefix, w->fresh))
        return 0;
    if (!folder_begin(b, prefix, false) && is_known(b, prefix, w->fresh))
        return 0;
    uint64_t epoch = (uint64_t)clock_steady_unix_ns();
    int r = first_page(b, prefix, &page);
    bool has_more = r == 0 && page.token.size_bytes;
    if (has_more)
        folder_is_large(b, prefix);
    if (r == 0)
        r = folder_load(b, prefix, epoch, &page);
    bucket_page_release(&page);
    folder_end(b, prefix, has_more);
    return r;
}

// ---- one name

static int answer_put(struct bucket *b, const struct bucket_want *w, uint64_t epoch, bool is_object,
                      const struct bucket_entry *e)
{
    struct set_id id = bucket_set(b->number, buffer_text(&w->prefix));
    struct want answer = {.kind = WANT_ROW, .collection_id = id.collection_id, .type_id = id.type_id};
    enum row_kind kind = e ? ROW_VISIBLE : ROW_HIDDEN;
    BUFFER_CLEANUP record = {0};
    struct row row = {0};
    bucket_row_key(buffer_text(&w->name), is_object, &answer.key);
    int r = e ? bucket_row_of(e, &row) : 0;
    if (r < 0)
        return r;
    r = catalogue_put_answer(b->catalogue, &id, epoch, &answer.key, kind, &row);
    if (r == 0)
        return 0;
    if (row_pack(&answer.key, kind, &row, &record) < 0)
        return r;
    answers_put(&b->answers, &answer, epoch, kind, buffer_text(&record));
    return 0;
}

// Both by listings, which say the same of an object as its folder's listing would. What begins with the name
// comes in order: the object, what is between, the folder. Mostly that is all in one answer.
struct found_name {
    bool is_object, is_folder;
    bool is_sure; // what comes behind the folder was seen, or there is no more
    bool is_behind; // the object's own key has been passed
    struct bucket_entry object;
};

static void name_read(const struct bucket_page *page, struct text key, struct text name,
                      struct found_name *found)
{
    BUFFER_CLEANUP folder = {0};
    struct bucket_page_entry p;
    found->is_sure = page->token.size_bytes == 0;
    found->is_behind = found->is_sure || page->last.size_bytes > 0; // that begins with the key, so it isn't less
    buffer_append_text(&folder, key);
    buffer_append_byte(&folder, '/');
    for (size_t at = 0; bucket_page_next(page, &at, &p);) {
        if (!p.is_prefix && text_equal(p.key, key) && is_shown(&p, name)) {
            found->is_object = true;
            bucket_object_entry(&p, name, &found->object);
        }
        int order = text_compare(p.key, buffer_text(&folder));
        found->is_folder |= order == 0;
        found->is_sure |= order >= 0;
        found->is_behind |= p.is_prefix;
    }
}

static int folder_ask(struct bucket *b, struct text key, bool *ret_is_folder)
{
    BUFFER_CLEANUP folder = {0};
    struct bucket_page below = {0};
    struct bucket_page_entry p;
    size_t at = 0;
    buffer_append_text(&folder, key);
    buffer_append_byte(&folder, '/');
    if (b->at_unix_ns)
        return bucket_past_has(b, buffer_text(&folder), ret_is_folder);
    int r = bucket_page_get(b, buffer_text(&folder), false, 1, (struct text){0}, &below);
    if (r == 0)
        *ret_is_folder = bucket_page_next(&below, &at, &p);
    bucket_page_release(&below);
    return r;
}

// One page; of a bucket at a time, whose younger versions may fill some, until the object's key has been passed. The texts
// that are found are the last page's.
static int name_pages(struct bucket *b, struct text key, struct text name, struct bucket_page *page,
                      struct found_name *found)
{
    BUFFER_CLEANUP token = {0};
    uint32_t max = b->at_unix_ns ? NAME_VERSIONS : NAME_KEYS;
    int r;
    do {
        buffer_clear(&token);
        buffer_append_text(&token, buffer_text(&page->token));
        bucket_page_release(page);
        *page = (struct bucket_page){0};
        r = bucket_page_get(b, key, true, max, buffer_text(&token), page);
        if (r == 0)
            name_read(page, key, name, found);
        max = PAGE_KEYS;
    } while (r == 0 && b->at_unix_ns && !found->is_behind);
    return r;
}

static int name_ask(struct bucket *b, const struct bucket_want *w)
{
    BUFFER_CLEANUP key = {0};
    struct bucket_page page = {0};
    struct text name = buffer_text(&w->name);
    struct bucket_entry folder = {.is_folder = true, .raw = name};
    struct found_name found = {0};
    uint64_t epoch = bucket_epoch_of_answer(b, (uint64_t)clock_steady_unix_ns());
    int64_t begin_ns = clock_ns();
    buffer_append_text(&key, buffer_text(&w->prefix));
    buffer_append_text(&key, name);
    int r = name_pages(b, buffer_text(&key), name, &page, &found);
    if (r == 0)
        pace_note(&b->name_pace_ns, begin_ns);
    // A prefix is listed whenever there was something below it.
    if (r == 0 && (!found.is_sure || (b->at_unix_ns && found.is_folder)))
        r = folder_ask(b, buffer_text(&key), &found.is_folder);
    if (r == 0)
        r = answer_put(b, w, epoch, false, found.is_folder ? &folder : NULL);
    if (r == 0)
        r = answer_put(b, w, epoch, true, found.is_object ? &found.object : NULL);
    bucket_page_release(&page);
    return r;
}

// Whether this one name is asked for, and not its folder's first page. Of a folder that is known not to fit
// into a page always; then all of it is worth listing at the third. Of others where a page takes much
// longer than a name, until the third.
static bool is_asked_alone(struct bucket *b, struct text prefix)
{
    bool is_third, is_large;
    {
        lock_scope(&b->library);
        struct bucket_note *n = bucket_note(b, prefix);
        is_large = n->is_large;
        if (!is_large && !names_are_cheap(b))
            return false;
        is_third = ++n->names % NAMES_BEFORE_LISTING == 0 && !n->is_loading;
    }
    if (is_third && is_large)
        bucket_list_later(b, prefix);
    return is_large || !is_third;
}

int bucket_job_name(struct bucket *b, const struct bucket_want *w)
{
    struct text prefix = buffer_text(&w->prefix);
    struct bucket_page page = {0};
    if (atomic_load(&b->has_no_order)) // what begins with the name may come on any page
        return bucket_job_folder(b, w);
    if (is_asked_alone(b, prefix))
        return name_ask(b, w);
    if (!folder_begin(b, prefix, true))
        return is_known(b, prefix, w->fresh) ? 0 : name_ask(b, w);
    uint64_t epoch = (uint64_t)clock_steady_unix_ns();
    int r = first_page(b, prefix, &page);
    bool is_all = r == 0 && (page.token.size_bytes == 0 || page.is_unordered);
    if (is_all)
        r = folder_load(b, prefix, epoch, &page);
    bucket_page_release(&page);
    folder_end(b, prefix, r == 0 && !is_all);
    return r < 0 || is_all ? r : name_ask(b, w);
}
