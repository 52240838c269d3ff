// SPDX-License-Identifier: BSD-3-Clause
// bucket_place: folders and names of a bucket, from what the catalogue knows (bucket.h).
// 1. A name is found if listing would write it, and by no other.
// 2. Whether an object's name needs its `%` is known from the row before it, or from a look-up of the
//    folder: both are in the same set.
// 3. Cookies count the entries of one generation, which the handle pins.
#include "meta/bucket_library.h"
#include "meta/bucket_row.h"

#include "base/clock.h"
#include "base/hash.h"
#include "meta/catalogue_block.h"
#include "meta/name.h"

void bucket_want_release(struct bucket_want *w)
{
    buffer_release(&w->prefix);
    buffer_release(&w->name);
    buffer_release(&w->to);
}

void bucket_root(struct bucket *b, uint64_t fresh, uint64_t asked_unix_ns, struct bucket_place *ret_place)
{
    *ret_place = (struct bucket_place){.bucket = b, .fresh = fresh, .asked_unix_ns = asked_unix_ns};
    buffer_append_string(&ret_place->prefix, b->prefix);
}

void bucket_place_release(struct bucket_place *p)
{
    buffer_release(&p->prefix);
}

static struct set_id place_set(const struct bucket_place *p)
{
    return bucket_set(p->bucket->number, buffer_text(&p->prefix));
}

static uint64_t place_fresh(const struct bucket_place *p)
{
    return bucket_fresh_in(p->bucket, buffer_text(&p->prefix), p->fresh);
}

// The same of a listing: what this mount has changed is in it.
static uint64_t listing_fresh(const struct bucket_place *p)
{
    uint64_t fresh = place_fresh(p), changed = bucket_changed_ns(p->bucket, buffer_text(&p->prefix));
    if (changed > p->asked_unix_ns) // else a folder that is just being filled would be listed again and again
        changed = p->asked_unix_ns;
    return changed > fresh ? changed : fresh;
}

static int want(const struct bucket_place *p, enum bucket_want_kind kind, struct text name,
                struct bucket_want *ret_want)
{
    bucket_want_release(ret_want);
    *ret_want = (struct bucket_want){.kind = kind, .fresh = kind == BUCKET_FOLDER ? listing_fresh(p) : p->fresh};
    buffer_append_text(&ret_want->prefix, buffer_text(&p->prefix));
    buffer_append_text(&ret_want->name, name);
    return -EINPROGRESS;
}

// When at the latest what is known of the folder was said.
static int64_t place_seen(const struct bucket_place *p)
{
    struct set_id id = place_set(p);
    struct set_state state;
    uint64_t fresh = place_fresh(p);
    bool is_whole = catalogue_set(p->bucket->catalogue, &id, &state) == 0 && state.epoch >= fresh;
    return (int64_t)(is_whole ? state.epoch : fresh);
}

// ---- one name -------------------------------------------------------------------------------

// What is known of a folder or an object. 1: it is there; 0: it isn't; -ENOENT: unknown. *ret_changed_unix_ns: when this mount
// changed it; else 0.
static int find(const struct bucket_place *p, struct text raw, bool is_object, struct row *ret_row,
                struct buffer *scratch, int64_t *ret_changed_unix_ns)
{
    struct bucket *b = p->bucket;
    struct set_id id = place_set(p);
    struct want answer = {.kind = WANT_ROW, .fresh = place_fresh(p), .collection_id = id.collection_id,
                          .type_id = id.type_id};
    enum row_kind kind;
    bucket_row_key(raw, is_object, &answer.key);
    *ret_changed_unix_ns = 0;
    int changed = bucket_find_change(b, &answer, ret_row, scratch, ret_changed_unix_ns);
    if (changed >= 0)
        return changed;
    int r = catalogue_find_row(b->catalogue, &id, answer.fresh, &answer.key, &kind, ret_row, scratch);
    if (r == -ENOENT) {
        BUFFER_CLEANUP record = {0};
        if (!answers_get(&b->answers, &answer, &kind, &record))
            return -ENOENT;
        r = kind == ROW_VISIBLE ? row_unpack(buffer_text(&record), &kind, ret_row, scratch) : 0;
    }
    return r < 0 ? r : kind == ROW_VISIBLE;
}

static int folder_entry(struct text name, struct text raw, struct buffer *scratch,
                        struct bucket_entry *ret_entry)
{
    buffer_clear(scratch);
    buffer_append_text(scratch, raw);
    *ret_entry = (struct bucket_entry){.is_folder = true, .name = name, .raw = buffer_text(scratch)};
    return 0;
}

static int look_up(struct bucket_place *p, struct text name, struct text raw, bool is_beside,
                   struct bucket_entry *ret_entry, struct buffer *scratch, struct bucket_want *w)
{
    struct row row;
    int64_t changed;
    int folder = find(p, raw, false, &row, scratch, &changed);
    if (folder < 0)
        return folder == -ENOENT ? want(p, BUCKET_NAME, raw, w) : folder;
    if (folder && !is_beside)
        return folder_entry(name, raw, scratch, ret_entry);
    if (!folder && is_beside)
        return -ENOENT;
    int object = find(p, raw, true, &row, scratch, &changed);
    if (object <= 0)
        return object == -ENOENT ? want(p, BUCKET_NAME, raw, w) : object < 0 ? object : -ENOENT;
    int r = bucket_row_entry(&row, ret_entry);
    ret_entry->name = name;
    ret_entry->seen_unix_ns = changed ? changed : place_seen(p);
    return r;
}

// ---- names that were shortened are looked for in the listing

struct search {
    struct text name;
    struct buffer written;
    uint64_t last_folder; // hash
    bool wants_folder;    // only
    int64_t seen_unix_ns;
    struct buffer *scratch;
    struct bucket_entry *entry;
};

static int search_row(const struct row *row, const struct key *k, size_t *skip_bytes, void *context)
{
    struct search *s = context;
    struct bucket_entry e;
    (void)k, (void)skip_bytes;
    int r = bucket_row_entry(row, &e);
    if (r < 0)
        return r;
    uint64_t hash = hash64(e.raw.data, e.raw.size_bytes);
    bool is_beside = !e.is_folder && hash == s->last_folder;
    if (e.is_folder)
        s->last_folder = hash;
    buffer_clear(&s->written);
    bucket_write_name(e.raw, !e.is_folder, is_beside, &s->written);
    if (!text_equal(buffer_text(&s->written), s->name) || (s->wants_folder && !e.is_folder))
        return ROW_GO_ON;
    buffer_clear(s->scratch);
    buffer_append_text(s->scratch, e.raw);
    buffer_append_text(s->scratch, e.storage_class);
    buffer_append_text(s->scratch, e.version);
    *s->entry = e;
    s->entry->name = s->name;
    s->entry->seen_unix_ns = s->seen_unix_ns;
    struct text texts = buffer_text(s->scratch);
    size_t class = e.raw.size_bytes, version = class + e.storage_class.size_bytes;
    s->entry->raw = text_slice(texts, 0, class);
    s->entry->storage_class = text_slice(texts, class, version);
    s->entry->version = text_slice(texts, version, texts.size_bytes);
    return ROW_STOP_AFTER;
}

static int search(struct bucket_place *p, struct text name, bool wants_folder,
                  struct bucket_entry *ret_entry, struct buffer *scratch, struct bucket_want *w)
{
    struct catalogue *c = p->bucket->catalogue;
    struct set_id id = place_set(p);
    struct set_state state;
    struct row_cursor cursor = {0};
    struct key all = {0};
    struct search s = {.name = name, .wants_folder = wants_folder, .scratch = scratch, .entry = ret_entry};
    int r = catalogue_pin_set(c, &id, listing_fresh(p), &state);
    if (r < 0)
        return r == -ENOENT ? want(p, BUCKET_FOLDER, (struct text){0}, w) : r;
    s.seen_unix_ns = (int64_t)state.epoch;
    r = catalogue_scan(c, state.generation, &all, &cursor, search_row, &s);
    catalogue_unpin(c, state.generation);
    buffer_release(&s.written);
    if (r == -EBADMSG)
        return want(p, BUCKET_FOLDER, (struct text){0}, w);
    return r < 0 ? r : r == 1 ? 0 : -ENOENT;
}

int bucket_lookup(struct bucket_place *p, struct text name, struct bucket_entry *ret_entry,
                  struct buffer *scratch, struct bucket_want *w)
{
    BUFFER_CLEANUP raw = {0};
    bool is_beside;
    int r = bucket_read_name(name, &raw, &is_beside);
    if (r == -E2BIG)
        return search(p, name, false, ret_entry, scratch, w);
    return r < 0 ? -ENOENT : look_up(p, name, buffer_text(&raw), is_beside, ret_entry, scratch, w);
}

int bucket_enter(struct bucket_place *p, struct text name, struct bucket_want *w)
{
    BUFFER_CLEANUP raw = {0}, scratch = {0};
    bool is_beside;
    int r = bucket_read_name(name, &raw, &is_beside);
    if (r == -E2BIG) {
        struct bucket_entry e;
        r = search(p, name, true, &e, &scratch, w);
        if (r == 0)
            buffer_append_text(&raw, e.raw);
    } else if (r < 0 || is_beside) {
        r = -ENOENT;
    }
    if (r < 0)
        return r;
    buffer_append_text(&p->prefix, buffer_text(&raw));
    buffer_append_byte(&p->prefix, '/');
    return 0;
}

// ---- listing --------------------------------------------------------------------------------

int bucket_list_open(struct bucket_place *p, struct bucket_listing *ret_listing, uint64_t *ret_epoch,
                     struct bucket_want *w)
{
    struct set_id id = place_set(p);
    struct set_state state;
    int r = catalogue_pin_set(p->bucket->catalogue, &id, listing_fresh(p), &state);
    if (r < 0)
        return r == -ENOENT ? want(p, BUCKET_FOLDER, (struct text){0}, w) : r;
    bucket_note_known(p->bucket, buffer_text(&p->prefix));
    *ret_listing = (struct bucket_listing){.generation = state.generation};
    *ret_epoch = state.epoch;
    return 0;
}

void bucket_listing_reopen(struct bucket *b, struct bucket_listing *l, uint64_t generation)
{
    *l = (struct bucket_listing){.generation = generation};
    if (generation)
        catalogue_pin(b->catalogue, generation);
}

void bucket_listing_close(struct bucket *b, struct bucket_listing *l)
{
    if (l->generation)
        catalogue_unpin(b->catalogue, l->generation);
    l->generation = 0;
}

struct list_walk {
    bucket_each *each;
    void *context;
    uint64_t ordinal; // entries before the next one
    uint64_t skip;    // of them, still to be counted
    uint64_t last_folder;
    struct buffer name;
};

static int list_row(const struct row *row, const struct key *k, size_t *skip_bytes, void *context)
{
    struct list_walk *w = context;
    struct bucket_entry e;
    (void)k, (void)skip_bytes;
    int r = bucket_row_entry(row, &e);
    if (r < 0)
        return r;
    uint64_t hash = hash64(e.raw.data, e.raw.size_bytes);
    bool is_beside = !e.is_folder && hash == w->last_folder;
    if (!w->skip) {
        buffer_clear(&w->name);
        bucket_write_name(e.raw, !e.is_folder, is_beside, &w->name);
        e.name = buffer_text(&w->name);
        r = w->each(&e, w->ordinal + 1, w->context);
        if (r)
            return r < 0 ? r : ROW_STOP_BEFORE;
        w->ordinal++;
    } else {
        w->skip--;
    }
    if (e.is_folder)
        w->last_folder = hash;
    return ROW_GO_ON;
}

// The listing's own generation, or where that is gone another for this call; pinned.
static int usable_generation(struct bucket_place *p, struct bucket_listing *l, uint64_t *ret_generation,
                             struct bucket_want *w)
{
    struct catalogue *c = p->bucket->catalogue;
    struct set_id id = place_set(p);
    struct set_state state;
    if (l->generation && catalogue_has_generation(c, &id, l->generation)) {
        catalogue_pin(c, l->generation);
        *ret_generation = l->generation;
        return 0;
    }
    int r = catalogue_pin_set(c, &id, listing_fresh(p), &state);
    if (r < 0)
        return r == -ENOENT ? want(p, BUCKET_FOLDER, (struct text){0}, w) : r;
    l->hint_cookie = 0; // it is the other's
    *ret_generation = state.generation;
    return 0;
}

int bucket_list(struct bucket_place *p, struct bucket_listing *l, uint64_t cookie, bucket_each *each,
                void *context, struct bucket_want *w)
{
    struct list_walk walk = {.each = each, .context = context, .ordinal = cookie, .skip = cookie};
    struct row_cursor cursor = {0};
    struct key all = {0};
    uint64_t generation = 0;
    int r = usable_generation(p, l, &generation, w);
    if (r < 0)
        return r;
    if (l->hint_cookie == cookie && cookie) {
        cursor = l->hint;
        walk.skip = 0;
        walk.last_folder = l->hint_folder;
    }
    r = catalogue_scan(p->bucket->catalogue, generation, &all, &cursor, list_row, &walk);
    bool is_own = generation == l->generation;
    catalogue_unpin(p->bucket->catalogue, generation);
    buffer_release(&walk.name);
    if (r == -EBADMSG)
        return want(p, BUCKET_FOLDER, (struct text){0}, w);
    if (r < 0)
        return r;
    l->hint = cursor;
    l->hint_folder = walk.last_folder;
    l->hint_cookie = is_own ? walk.ordinal : 0;
    return r;
}

// ---- what a HEAD tells ----------------------------------------------------------------------

int bucket_head(struct bucket_place *p, const struct bucket_entry *e, struct doc **ret_map,
                struct bucket_want *w)
{
    BUFFER_CLEANUP key = {0}, record = {0};
    struct uuid id;
    uint64_t epoch = 0;
    cleanup(cleanup_free) char *why = NULL;
    buffer_append_text(&key, buffer_text(&p->prefix));
    buffer_append_text(&key, e->raw);
    bucket_head_id(buffer_text(&key), e->version, &id);
    int r = catalogue_dataset(p->bucket->catalogue, p->bucket->number, &id, DATASET_DATA_ID, &epoch, &record);
    if ((r < 0 && r != -ENOENT) || (r == 0 && epoch >= place_fresh(p) && epoch <= (uint64_t)clock_steady_unix_ns()))
        return r < 0 ? r : doc_parse_json(buffer_text(&record), ret_map, &why);
    r = want(p, BUCKET_HEAD, e->raw, w);
    buffer_append_text(&w->to, e->version);
    return r;
}
