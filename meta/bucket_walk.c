// SPDX-License-Identifier: BSD-3-Clause
// bucket_walk: a listing without delimiter of all that is below a prefix, cut into its folders.
// 1. It goes on as long as somebody opens folders below its prefix, a number of pages ahead of him.
// 2. Where the folder's own listing is known it is parted at the names of folders in it, and as many parts as there are lanes are
//    listed at once: servers take their time for a page, and the next can't be asked for before it came. A part begins and ends
//    where a folder does, by the order of keys, so that none is cut in two; which names it is parted at is of no account else.
//    What is right in the folder isn't stored then: that is known.
// 3. A part is of about PART_PAGES pages, by what folders held until then: the next ones are near to who follows.
// 4. A folder is whole when the keys of another one come: of a server whose keys have no order there is no walk, and each folder is
//    listed by itself. What was stored before that was seen counts as old.
// 5. One thread starts the requests and cuts what they bring.
#include "meta/bucket_cut.h"
#include "meta/bucket_row.h"

#include "base/clock.h"
#include "base/log.h"

#define AHEAD_PAGES 32
#define IDLE_NS (2 * NS_PER_S)
#define PART_PAGES 8
#define PART_FOLDERS_FIRST 16 // while it isn't known what they hold
#define PART_FOLDERS_MAX 100000

struct lane {
    struct bucket_walk_part *part; // of the walk's
    struct cutter cutter;
    struct buffer token, start_after;
    struct bucket_page page;
    struct bucket_page_ask ask;
    uint64_t epoch;  // of the page
    bool is_first;   // the page is its part's first
    bool is_asked;   // its page came, or is on its way
};

struct walker {
    struct bucket *b;
    struct bucket_walk walk; // under `library`
    struct lane lanes[BUCKET_WALK_LANES];
    int lane_count;
    uint64_t generation;      // pinned: where it is parted; 0: it isn't
    struct row_cursor cursor; // in it
    uint64_t keys, folders;   // of parts that ended
};

// ---- where it is parted

struct counting {
    uint64_t left;
    struct buffer *name; // of the last one
};

static int count_folder(const struct row *row, const struct key *k, size_t *skip_bytes, void *context)
{
    struct counting *c = context;
    struct bucket_entry e;
    (void)k, (void)skip_bytes;
    int r = bucket_row_entry(row, &e);
    if (r < 0 || !e.is_folder)
        return r < 0 ? r : ROW_GO_ON;
    buffer_clear(c->name);
    buffer_append_text(c->name, e.raw);
    return --c->left ? ROW_GO_ON : ROW_STOP_AFTER;
}

// The name of the folder that is so many further on in the listing. false: there aren't so many. *ret_left: how many were missing.
static bool folder_after(struct walker *w, struct row_cursor *cursor, uint64_t count, struct buffer *name,
                         uint64_t *ret_left)
{
    struct key all = {0};
    struct counting c = {.left = count, .name = name};
    int r = catalogue_scan(w->b->catalogue, w->generation, &all, cursor, count_folder, &c);
    *ret_left = c.left;
    return r == 1;
}

static uint64_t part_folders(struct walker *w)
{
    if (w->keys == 0 || w->folders == 0) {
        struct row_cursor cursor = {0};
        BUFFER_CLEANUP name = {0};
        uint64_t most = PART_FOLDERS_FIRST * BUCKET_WALK_LANES, left;
        folder_after(w, &cursor, most, &name, &left);
        return (most - left) / BUCKET_WALK_LANES + 1;
    }
    uint64_t folders = PART_PAGES * ORIGIN_LIST_MAX * w->folders / w->keys;
    return folders < 1 ? 1 : folders < PART_FOLDERS_MAX ? folders : PART_FOLDERS_MAX;
}

// Where the part that begins there ends: at a name that is behind it in the order of keys, which isn't quite that of
// listings (`a/` is behind `a-b/`). Empty: with all the rest.
static void part_end(struct walker *w, struct text begin, struct buffer *ret_end)
{
    BUFFER_CLEANUP name = {0};
    uint64_t count = w->generation ? part_folders(w) : 0, left;
    while (count && folder_after(w, &w->cursor, count, &name, &left)) {
        buffer_clear(ret_end);
        buffer_append_text(ret_end, buffer_text(&w->walk.prefix));
        buffer_append_text(ret_end, buffer_text(&name));
        buffer_append_byte(ret_end, '/');
        if (text_compare(buffer_text(ret_end), begin) > 0)
            return;
        count = 1;
    }
    buffer_clear(ret_end);
}

static void parting_begin(struct walker *w, struct text prefix)
{
    struct bucket *b = w->b;
    struct set_id id = bucket_set(b->number, prefix);
    struct set_state state;
    w->lane_count = 1;
    if (b->at_unix_ns || atomic_load(&b->has_no_start) ||
        catalogue_pin_set(b->catalogue, &id, bucket_fresh(b), &state) < 0)
        return;
    w->generation = state.generation;
    w->lane_count = BUCKET_WALK_LANES;
}

// ---- its life, under `library`

static bool walk_begin(struct walker *w, struct text prefix)
{
    struct bucket *b = w->b;
    lock_scope(&b->library);
    if (b->walk)
        return false;
    buffer_append_text(&w->walk.prefix, prefix);
    w->walk.has_next = true;
    w->walk.wanted_ns = (uint64_t)clock_ns();
    w->walk.allowed_pages = AHEAD_PAGES;
    b->walk = &w->walk;
    return true;
}

static void walk_end(struct walker *w)
{
    struct bucket *b = w->b;
    lock_scope(&b->library);
    b->walk = NULL;
    pthread_cond_broadcast(&b->moved);
    buffer_release(&w->walk.prefix);
    buffer_release(&w->walk.next);
    for (int i = 0; i < BUCKET_WALK_LANES; i++) {
        buffer_release(&w->walk.parts[i].begin);
        buffer_release(&w->walk.parts[i].end);
        buffer_release(&w->walk.parts[i].reached);
    }
}

// The next part becomes the lane's.
static void part_open(struct walker *w, struct lane *l, struct text end)
{
    lock_scope(&w->b->library);
    struct bucket_walk_part *p = l->part;
    buffer_clear(&p->begin);
    buffer_append_text(&p->begin, buffer_text(&w->walk.next));
    buffer_clear(&p->end);
    buffer_append_text(&p->end, end);
    buffer_clear(&p->reached);
    buffer_clear(&w->walk.next);
    buffer_append_text(&w->walk.next, end);
    w->walk.has_next = end.size_bytes > 0;
    p->is_open = true;
}

static void part_close(struct walker *w, struct lane *l)
{
    lock_scope(&w->b->library);
    l->part->is_open = false;
    pthread_cond_broadcast(&w->b->moved);
}

static void part_reached(struct walker *w, struct lane *l)
{
    lock_scope(&w->b->library);
    if (l->page.last.size_bytes) {
        buffer_clear(&l->part->reached);
        buffer_append_text(&l->part->reached, buffer_text(&l->page.last));
    }
    pthread_cond_broadcast(&w->b->moved);
}

// ---- lanes

static void lane_begin(struct walker *w, struct lane *l)
{
    BUFFER_CLEANUP end = {0};
    struct text next = buffer_text(&w->walk.next); // only changed here
    part_end(w, next, &end);
    buffer_clear(&l->start_after);
    if (next.size_bytes) {
        buffer_append_text(&l->start_after, text_slice(next, 0, next.size_bytes - 1));
        buffer_append_byte(&l->start_after, '/' - 1); // the last key that has one byte in place of the '/', and is before it
    }
    part_open(w, l, buffer_text(&end));
    cutter_begin(&l->cutter, w->b, buffer_text(&w->walk.prefix), w->generation != 0, (uint64_t)clock_steady_unix_ns());
    buffer_clear(&l->token);
    l->is_first = true;
}

static void lane_ask(struct walker *w, struct lane *l)
{
    l->epoch = (uint64_t)clock_steady_unix_ns();
    l->page = (struct bucket_page){0};
    bucket_page_start(w->b, buffer_text(&w->walk.prefix), buffer_text(&l->token),
                      l->is_first ? buffer_text(&l->start_after) : (struct text){0}, &l->page, &l->ask);
    l->is_asked = true;
}

static int lane_end(struct walker *w, struct lane *l)
{
    int r = cutter_end(&l->cutter);
    w->keys += l->cutter.keys;
    w->folders += l->cutter.folders;
    cutter_release(&l->cutter);
    part_close(w, l);
    return r;
}

// A server that doesn't know where to begin would list all of it for each part.
static bool begins_right(const struct lane *l)
{
    struct bucket_page_entry p;
    size_t at = 0;
    return !l->is_first || l->start_after.size_bytes == 0 || !bucket_page_next(&l->page, &at, &p) ||
           text_compare(p.key, buffer_text(&l->start_after)) > 0;
}

static int lane_take(struct walker *w, struct lane *l)
{
    bool is_past = false;
    int r = l->ask.error;
    l->is_asked = false;
    if (r == 0 && !begins_right(l)) {
        log_debug("the server takes no key to begin behind: walks are in one part");
        atomic_store(&w->b->has_no_start, true);
        r = -ECANCELED; // the next walk is another
    }
    if (r == 0)
        r = cutter_page(&l->cutter, &l->page, l->epoch, buffer_text(&l->part->begin), buffer_text(&l->part->end), &is_past);
    if (r == -EILSEQ) {
        bucket_note_disorder(w->b);
        r = -ECANCELED; // and no other begins
    }
    buffer_clear(&l->token);
    buffer_append_text(&l->token, buffer_text(&l->page.token));
    l->is_first = false;
    if (r == 0 && (is_past || l->token.size_bytes == 0))
        r = lane_end(w, l);
    else if (r == 0)
        part_reached(w, l);
    bucket_page_release(&l->page);
    return r;
}

static void lane_release(struct walker *w, struct lane *l)
{
    if (l->is_asked) {
        lock_scope(&w->b->library);
        if (l->ask.is_flying)
            origin_cancel(&l->ask.request);
        while (l->ask.is_flying)
            condition_wait(&w->b->moved, &w->b->library, INT64_MAX); // it ends soon
    }
    bucket_page_release(&l->page);
    cutter_release(&l->cutter);
    buffer_release(&l->token);
    buffer_release(&l->start_after);
}

// ---- going on or not

// A lane whose page came; NULL: none yet.
static struct lane *lane_that_came(struct walker *w, int *ret_flying)
{
    struct lane *came = NULL;
    *ret_flying = 0;
    for (int i = 0; i < w->lane_count; i++) {
        struct lane *l = &w->lanes[i];
        *ret_flying += l->is_asked && l->ask.is_flying;
        if (l->is_asked && !l->ask.is_flying && !came)
            came = l;
    }
    return came;
}

// Waits for a page, or for leave to ask for more of them. false: nobody follows.
static bool walk_wait(struct walker *w, struct lane **ret_came)
{
    struct bucket *b = w->b;
    lock_scope(&b->library);
    for (;;) {
        int flying;
        *ret_came = lane_that_came(w, &flying);
        if (*ret_came || atomic_load(&b->is_closing))
            return !atomic_load(&b->is_closing);
        if (flying == 0 && w->walk.pages < w->walk.allowed_pages)
            return true;
        int64_t until = flying ? INT64_MAX : (int64_t)w->walk.wanted_ns + IDLE_NS;
        if (clock_ns() >= until)
            return false;
        condition_wait(&b->moved, &b->library, until);
    }
}

// One page more, if who follows isn't far behind.
static bool walk_may_ask(struct walker *w)
{
    lock_scope(&w->b->library);
    if (w->walk.pages >= w->walk.allowed_pages)
        return false;
    w->walk.pages++;
    return true;
}

// Asks for what may be asked for. false: there is nothing more.
static bool walk_ask(struct walker *w)
{
    bool has_any = false;
    for (int i = 0; i < w->lane_count; i++) {
        struct lane *l = &w->lanes[i];
        bool has_work = l->part->is_open || w->walk.has_next;
        has_any |= has_work;
        if (!has_work || l->is_asked || !walk_may_ask(w))
            continue;
        if (!l->part->is_open)
            lane_begin(w, l);
        lane_ask(w, l);
    }
    return has_any;
}

int bucket_job_walk(struct bucket *b, struct text prefix)
{
    struct walker w = {.b = b};
    int r = 0;
    if (!walk_begin(&w, prefix))
        return 0;
    log_debug("a walk below %.*s is followed by a listing of all of it", (int)prefix.size_bytes, prefix.data);
    parting_begin(&w, prefix);
    for (int i = 0; i < w.lane_count; i++)
        w.lanes[i].part = &w.walk.parts[i];
    struct lane *came;
    while (r == 0 && walk_ask(&w) && walk_wait(&w, &came))
        r = came ? lane_take(&w, came) : 0;
    for (int i = 0; i < w.lane_count; i++)
        lane_release(&w, &w.lanes[i]);
    if (w.generation)
        catalogue_unpin(b->catalogue, w.generation);
    walk_end(&w);
    return r;
}
