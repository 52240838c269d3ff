// SPDX-License-Identifier: BSD-3-Clause
// bucket_change: what this mount changes in a bucket, and how that is seen at once.
// 1. A change is noted after the origin has said that it is done; from then on it goes before whatever was listed earlier,
//    as long as a listing would count as true; a folder's listing is asked for anew if it is older.
// 2. Notes are bounded: when as many have come as are kept, all that was listed counts as old.
// 3. A folder is what is below it. One that this mount empties gets a marker (an object that is its key, with `/` at the end,
//    without bytes), so that it stays until somebody removes it.
// 4. Who takes something away is answered before it is known whether that emptied the folder: a librarian looks after that, one
//    for each folder. Until then the folder is noted to be there; who lists what is above it waits for that look, and who removes
//    it for its end.
#include "base/clock.h"
#include "base/log.h"
#include "cache/origin/origin.h"
#include "meta/bucket_library.h"
#include "meta/bucket_row.h"
#include "meta/catalogue_block.h"

#define S3_KEY_BYTES_MAX 1024
#define COPY_LIMIT_NS (600 * NS_PER_S)

// ---- what was done

uint64_t bucket_changed_ns(struct bucket *b, struct text prefix)
{
    if (atomic_load(&b->change_count) == 0)
        return 0;
    lock_scope(&b->library);
    return bucket_note(b, prefix)->changed_ns;
}

int bucket_find_change(struct bucket *b, const struct want *answer, struct row *ret_row, struct buffer *scratch,
                       int64_t *ret_when_unix_ns)
{
    BUFFER_CLEANUP record = {0};
    enum row_kind kind;
    if (atomic_load(&b->change_count) == 0 || !answers_get(&b->changes, answer, &kind, &record))
        return -ENOENT;
    memcpy(ret_when_unix_ns, record.data, sizeof *ret_when_unix_ns);
    if (kind != ROW_VISIBLE)
        return 0;
    struct text packed = text_slice(buffer_text(&record), sizeof *ret_when_unix_ns, record.size_bytes);
    int r = row_unpack(packed, &kind, ret_row, scratch);
    return r < 0 ? -ENOENT : 1;
}

// `e` NULL: it is gone.
static void note_name(struct bucket *b, struct text prefix, struct text raw, bool is_object,
                      const struct bucket_entry *e)
{
    struct set_id id = bucket_set(b->number, prefix);
    struct want answer = {.kind = WANT_ROW, .collection_id = id.collection_id, .type_id = id.type_id};
    BUFFER_CLEANUP record = {0};
    struct row row = {0};
    enum row_kind kind = e ? ROW_VISIBLE : ROW_HIDDEN;
    uint64_t now = (uint64_t)clock_steady_unix_ns();
    bucket_row_key(raw, is_object, &answer.key);
    buffer_append(&record, &now, sizeof now);
    if ((e && bucket_row_of(e, &row) < 0) || row_pack(&answer.key, kind, &row, &record) < 0) {
        bucket_doubt(b, prefix);
        return;
    }
    answers_put(&b->changes, &answer, now, kind, buffer_text(&record));
    if (atomic_fetch_add(&b->change_count, 1) % ANSWERS_KEPT == ANSWERS_KEPT - 1)
        bucket_refresh(b);
    lock_scope(&b->library);
    bucket_note(b, prefix)->changed_ns = now;
}

static void note_folder(struct bucket *b, struct text prefix, struct text raw, bool is_there)
{
    struct bucket_entry folder = {.is_folder = true, .raw = raw};
    note_name(b, prefix, raw, false, is_there ? &folder : NULL);
}

// The folder itself is there, in the one above it.
static void note_folder_itself(struct bucket *b, struct text prefix)
{
    struct text parent = bucket_parent(b, prefix);
    if (parent.data)
        note_folder(b, parent, text_slice(prefix, parent.size_bytes, prefix.size_bytes - 1), true);
}

void bucket_was_put(struct bucket *b, struct text prefix, const struct bucket_entry *e)
{
    note_name(b, prefix, e->raw, true, e);
    note_folder_itself(b, prefix);
}

// ---- names

int bucket_new_name(const struct bucket_place *p, struct text name, struct buffer *ret_raw)
{
    bool is_beside;
    int r = bucket_read_name(name, ret_raw, &is_beside);
    struct text raw = buffer_text(ret_raw);
    if (r < 0 || is_beside || raw.size_bytes == 0 || memchr(raw.data, '/', raw.size_bytes) ||
        memchr(raw.data, 0, raw.size_bytes))
        return -EINVAL;
    return p->prefix.size_bytes + raw.size_bytes > S3_KEY_BYTES_MAX ? -ENAMETOOLONG : 0;
}

int bucket_change(const struct bucket_place *p, enum bucket_want_kind kind, struct text raw, struct text to,
                  struct bucket_want *ret_want)
{
    bucket_want_release(ret_want);
    *ret_want = (struct bucket_want){.kind = kind, .fresh = p->fresh};
    buffer_append_text(&ret_want->prefix, buffer_text(&p->prefix));
    buffer_append_text(&ret_want->name, raw);
    buffer_append_text(&ret_want->to, to);
    return -EINPROGRESS;
}

// ---- asking

struct ask {
    struct bucket_entry *entry; // of a HEAD or COPY, to be filled; else NULL
};

static void ask_done(struct origin_request *r, const struct origin_answer *a)
{
    struct ask *ask = r->context;
    if (a->error || !ask->entry)
        return;
    ask->entry->size_bytes = a->size_bytes;
    ask->entry->mtime_unix_ns = a->mtime_unix_ns == ORIGIN_TIME_UNKNOWN ? clock_unix_ns() : a->mtime_unix_ns;
    if (a->validator.size_bytes < BUCKET_ETAG_BYTES)
        memcpy(ask->entry->etag, a->validator.data, a->validator.size_bytes);
}

static int ask_for(struct bucket *b, struct origin_request r, struct bucket_entry *ret_entry)
{
    cleanup(cleanup_free) char *why = NULL;
    struct ask a = {ret_entry};
    r.deadline_ns = clock_ns() + (r.verb == ORIGIN_COPY ? COPY_LIMIT_NS : b->limit_ns);
    r.done = ask_done;
    r.context = &a;
    int error = origin_wait(b->origin, &r, &why);
    if (r.verb == ORIGIN_DELETE && error == -ENOENT)
        return 0;
    bool is_answer = (r.verb == ORIGIN_HEAD && error == -ENOENT) || (r.if_match.size_bytes && error == -ESTALE);
    if (error && !is_answer)
        log_warn("%.*s can't be changed: %s", (int)r.key.size_bytes, r.key.data, why);
    return error;
}

static int ask(struct bucket *b, enum origin_verb verb, struct text key, struct bucket_entry *ret_entry)
{
    return ask_for(b, (struct origin_request){.verb = verb, .key = key}, ret_entry);
}

// Whether anything but the marker is below the folder, and whether that is there.
static int look_below(struct bucket *b, struct text folder, bool *ret_has_marker, bool *ret_has_more)
{
    struct bucket_page page = {0};
    struct bucket_page_entry e;
    int r = bucket_page_get(b, folder, false, 2, (struct text){0}, &page);
    *ret_has_marker = *ret_has_more = false;
    for (size_t at = 0; r == 0 && bucket_page_next(&page, &at, &e);) {
        bool is_marker = text_equal(e.key, folder) && e.size_bytes == 0;
        *ret_has_marker |= is_marker;
        *ret_has_more |= !is_marker;
    }
    bucket_page_release(&page);
    return r;
}

// ---- folders

static int marker_put(struct bucket *b, struct text folder)
{
    bool has_marker, has_more;
    if (atomic_load(&b->has_no_markers))
        return 0;
    int r = ask(b, ORIGIN_PUT, folder, NULL);
    if (r == 0)
        r = look_below(b, folder, &has_marker, &has_more);
    if (r < 0 || has_marker)
        return r;
    log_info("this server keeps no empty folders: those that are made here are gone when nobody puts anything into them");
    atomic_store(&b->has_no_markers, true);
    return ask(b, ORIGIN_DELETE, folder, NULL);
}

// What fails here fails nothing: the change itself is done.
static void folder_look(struct bucket *b, struct text prefix)
{
    bool has_marker, has_more;
    if (look_below(b, prefix, &has_marker, &has_more) == 0 && !has_marker && !has_more)
        marker_put(b, prefix);
    note_folder_itself(b, prefix);
}

// Under `library`.
static struct bucket_keep *keep_of(const struct bucket *b, struct text prefix)
{
    for (struct bucket_keep *k = b->keeps; k; k = k->next)
        if (text_equal(buffer_text(&k->prefix), prefix))
            return k;
    return NULL;
}

// Something in it was taken away; it stays.
static void folder_keep(struct bucket *b, struct text prefix, struct bucket_keep *ret_keep)
{
    if (!bucket_parent(b, prefix).data)
        return;
    {
        lock_scope(&b->library);
        struct bucket_keep *k = keep_of(b, prefix);
        if (!k) {
            k = ret_keep;
            buffer_append_text(&k->prefix, prefix);
            k->next = b->keeps;
            b->keeps = k;
        }
        k->is_wanted = true;
    }
    note_folder_itself(b, prefix);
}

// Under `library`. false: nothing was taken away since it was looked at; it is nobody's any more.
static bool keep_goes_on(struct bucket *b, struct bucket_keep *keep)
{
    if (keep->is_wanted) {
        keep->is_wanted = false;
        return true;
    }
    struct bucket_keep **at = &b->keeps;
    while (*at != keep)
        at = &(*at)->next;
    *at = keep->next;
    return false;
}

void bucket_keep_end(struct bucket *b, struct bucket_keep *keep)
{
    if (keep->prefix.size_bytes == 0)
        return;
    lock_acquire(&b->library);
    while (keep_goes_on(b, keep)) {
        uint64_t began = ++b->keep_clock;
        lock_release(&b->library);
        folder_look(b, buffer_text(&keep->prefix));
        lock_acquire(&b->library);
        keep->settled = began;
        pthread_cond_broadcast(&b->moved);
    }
    pthread_cond_broadcast(&b->moved);
    lock_release(&b->library);
    buffer_release(&keep->prefix);
}

static bool keeps_any_below(const struct bucket *b, struct text prefix, uint64_t since)
{
    for (const struct bucket_keep *k = b->keeps; k; k = k->next)
        if (k->settled < since && k->prefix.size_bytes > prefix.size_bytes && text_begins(buffer_text(&k->prefix), prefix))
            return true;
    return false;
}

void bucket_keeps_wait(struct bucket *b, struct text prefix)
{
    int64_t until_ns = clock_ns() + b->limit_ns;
    lock_scope(&b->library);
    if (!b->keeps)
        return;
    uint64_t since = ++b->keep_clock;
    while (keeps_any_below(b, prefix, since) && clock_ns() < until_ns)
        condition_wait(&b->moved, &b->library, until_ns);
}

// Nobody puts a marker of it any more.
static void keep_wait(struct bucket *b, struct text prefix)
{
    lock_scope(&b->library);
    while (keep_of(b, prefix))
        condition_wait(&b->moved, &b->library, INT64_MAX);
}

static int make_folder(struct bucket *b, struct text prefix, struct text name, struct text key)
{
    int r = key.size_bytes > S3_KEY_BYTES_MAX ? -ENAMETOOLONG : marker_put(b, key); // with its slash
    if (r == 0)
        note_folder(b, prefix, name, true);
    return r;
}

static int remove_folder(struct bucket *b, struct text prefix, struct text name, struct text key,
                         struct bucket_keep *ret_keep)
{
    bool has_marker, has_more;
    keep_wait(b, key);
    int r = look_below(b, key, &has_marker, &has_more);
    if (r == 0 && has_more)
        r = -ENOTEMPTY;
    if (r == 0 && has_marker)
        r = ask(b, ORIGIN_DELETE, key, NULL);
    if (r < 0)
        return r;
    note_folder(b, prefix, name, false);
    folder_keep(b, prefix, ret_keep);
    return 0;
}

// ---- objects

// `etag`: of the only one that is meant, where the origin knows that condition; empty: whichever it is.
static int delete_object(struct bucket *b, struct text prefix, struct text name, struct text key, struct text etag,
                         struct bucket_keep *ret_keep)
{
    int r = ask_for(b, (struct origin_request){.verb = ORIGIN_DELETE, .key = key, .if_match = etag}, NULL);
    if (r < 0)
        return r;
    note_name(b, prefix, name, true, NULL);
    folder_keep(b, prefix, ret_keep);
    return 0;
}

// What was copied, if it still is that: a server that knows no such condition isn't asked in one step.
static int delete_source(struct bucket *b, struct text prefix, struct text name, struct text key, const char *etag,
                         struct bucket_keep *ret_keep)
{
    struct bucket_entry now = {0};
    int r = ask(b, ORIGIN_HEAD, key, &now);
    if (r < 0 && r != -ENOENT)
        return r;
    if (r == 0 && strcmp(now.etag, etag) == 0) {
        r = delete_object(b, prefix, name, key, text_of(etag), ret_keep);
        if (r != -ESTALE)
            return r;
    }
    log_info("%.*s was renamed, and somebody else has %s it meanwhile", (int)key.size_bytes, key.data,
             r == -ENOENT ? "deleted" : "written another one that stays");
    bucket_doubt(b, prefix);
    return 0;
}

// -ESTALE: the source was replaced meanwhile. *ret_copy: as it is at the origin, where it is what was copied.
static int copy_object(struct bucket *b, struct text key, const struct bucket_entry *source, struct text to,
                       struct bucket_entry *ret_copy)
{
    struct bucket_entry made = {0};
    int r = ask_for(b, (struct origin_request){.verb = ORIGIN_COPY,
                                               .key = to,
                                               .source = key,
                                               .source_match = text_of(source->etag)}, &made);
    if (r == 0)
        r = ask(b, ORIGIN_HEAD, to, ret_copy);
    if (r < 0)
        return r;
    if (ret_copy->size_bytes == source->size_bytes && (!made.etag[0] || strcmp(ret_copy->etag, made.etag) == 0))
        return 0;
    log_error("%.*s was copied to %.*s, and that is another object: nothing is deleted", (int)key.size_bytes, key.data,
              (int)to.size_bytes, to.data);
    return -EIO;
}

// Whether the key is free is asked, as another client may have made it since it was listed; between that and the copy it may
// still be made.
static int rename_object(struct bucket *b, struct text prefix, struct text name, struct text key, struct text to,
                         bool may_replace, struct bucket_keep *ret_keep)
{
    const char *slash = memrchr(to.data, '/', to.size_bytes);
    size_t at = slash ? (size_t)(slash - to.data) + 1 : 0;
    struct bucket_entry source = {0}, e = {.raw = text_slice(to, at, to.size_bytes)};
    int r = ask(b, ORIGIN_HEAD, key, &source);
    if (r == -ENOENT)
        bucket_doubt(b, prefix);
    if (r < 0)
        return r;
    r = may_replace ? -ENOENT : ask(b, ORIGIN_HEAD, to, &e);
    if (r != -ENOENT)
        return r < 0 ? r : -EEXIST;
    r = copy_object(b, key, &source, to, &e);
    if (r < 0) {
        bucket_doubt(b, text_slice(to, 0, at));
        return r;
    }
    bucket_was_put(b, text_slice(to, 0, at), &e);
    return delete_source(b, prefix, name, key, source.etag, ret_keep);
}

int bucket_job_change(struct bucket *b, const struct bucket_want *w, struct bucket_keep *ret_keep)
{
    BUFFER_CLEANUP key = {0};
    struct text prefix = buffer_text(&w->prefix), name = buffer_text(&w->name);
    buffer_append_text(&key, prefix);
    buffer_append_text(&key, name);
    switch (w->kind) {
    case BUCKET_DELETE:
        return delete_object(b, prefix, name, buffer_text(&key), TEXT(""), ret_keep);
    case BUCKET_RENAME:
        return rename_object(b, prefix, name, buffer_text(&key), buffer_text(&w->to), w->may_replace,
                             ret_keep);
    case BUCKET_MAKE_FOLDER:
        buffer_append_byte(&key, '/');
        return make_folder(b, prefix, name, buffer_text(&key));
    case BUCKET_REMOVE_FOLDER:
        buffer_append_byte(&key, '/');
        return remove_folder(b, prefix, name, buffer_text(&key), ret_keep);
    default:
        return -EINVAL;
    }
}
