// SPDX-License-Identifier: BSD-3-Clause
// bucket: opening one, and how its origin is asked: a page of keys, a HEAD; by librarians, who may wait.
// 1. What a page holds is checked here: keys begin with what was asked for, and none is longer than the
//    protocol allows.
#include "meta/bucket_library.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/metric.h"
#include "cache/origin/origin.h"

// ---- pages

struct packed_entry {
    uint32_t key_bytes, etag_bytes, class_bytes, version_bytes;
    uint32_t is_prefix;
    int64_t size_bytes, mtime_unix_ns;
};

static int page_each(struct origin_request *r, const struct origin_entry *entry)
{
    struct bucket_page_ask *a = r->context;
    bool is_below = text_begins(entry->key, a->prefix) && entry->key.size_bytes <= ORIGIN_KEY_BYTES_MAX;
    bool is_prefix = entry->is_prefix && entry->key.size_bytes > a->prefix.size_bytes &&
                     entry->key.data[entry->key.size_bytes - 1] == '/';
    if (!is_below || is_prefix != entry->is_prefix)
        return -EBADMSG;
    a->page->is_unordered |= !key_order_take(is_prefix ? &a->prefixes : &a->keys, entry->key);
    if (!is_prefix && text_compare(entry->key, buffer_text(&a->page->last)) > 0) {
        buffer_clear(&a->page->last);
        buffer_append_text(&a->page->last, entry->key);
    }
    if (entry->is_absent)
        return 0;
    struct packed_entry p = {
        .key_bytes = (uint32_t)entry->key.size_bytes,
        .etag_bytes = (uint32_t)entry->validator.size_bytes,
        .class_bytes = (uint32_t)entry->storage_class.size_bytes,
        .version_bytes = (uint32_t)entry->version.size_bytes,
        .is_prefix = is_prefix,
        .size_bytes = entry->size_bytes,
        .mtime_unix_ns = entry->mtime_unix_ns == ORIGIN_TIME_UNKNOWN ? 0 : entry->mtime_unix_ns,
    };
    buffer_append(&a->page->entries, &p, sizeof p);
    buffer_append_text(&a->page->entries, entry->key);
    buffer_append_text(&a->page->entries, entry->validator);
    buffer_append_text(&a->page->entries, entry->storage_class);
    buffer_append_text(&a->page->entries, entry->version);
    return 0;
}

static void page_done(struct origin_request *r, const struct origin_answer *answer)
{
    struct bucket_page_ask *a = r->context;
    buffer_append_text(&a->page->token, answer->token);
    key_order_release(&a->keys);
    key_order_release(&a->prefixes);
}

bool bucket_page_next(const struct bucket_page *page, size_t *at, struct bucket_page_entry *ret_entry)
{
    struct packed_entry p;
    if (*at + sizeof p > page->entries.size_bytes)
        return false;
    memcpy(&p, page->entries.data + *at, sizeof p);
    const char *texts = page->entries.data + *at + sizeof p;
    *ret_entry = (struct bucket_page_entry){
        .is_prefix = p.is_prefix,
        .key = {texts, p.key_bytes},
        .etag = {texts + p.key_bytes, p.etag_bytes},
        .storage_class = {texts + p.key_bytes + p.etag_bytes, p.class_bytes},
        .version = {texts + p.key_bytes + p.etag_bytes + p.class_bytes, p.version_bytes},
        .size_bytes = p.size_bytes,
        .mtime_unix_ns = p.mtime_unix_ns,
    };
    *at += sizeof p + p.key_bytes + p.etag_bytes + p.class_bytes + p.version_bytes;
    return true;
}

void bucket_page_release(struct bucket_page *p)
{
    buffer_release(&p->entries);
    buffer_release(&p->token);
    buffer_release(&p->last);
}

// Whose pages, from when, and how long to wait for one.
struct page_source {
    struct origin *origin;
    int64_t at_unix_ns;
    int64_t limit_ns;
};

static void page_ask_init(struct bucket_page_ask *a, const struct page_source *from, struct text prefix,
                          struct text token, struct bucket_page *page)
{
    *a = (struct bucket_page_ask){.page = page, .prefix = prefix};
    a->request = (struct origin_request){
        .verb = ORIGIN_LIST,
        .priority = ORIGIN_READER_WAITS,
        .key = prefix,
        .token = token,
        .at_unix_ns = from->at_unix_ns,
        .deadline_ns = clock_ns() + from->limit_ns,
        .each = page_each,
        .done = page_done,
        .context = a,
    };
}

static int page_ask(const struct page_source *from, struct text prefix, bool by_folder, uint32_t max, struct text token,
                    struct bucket_page *ret_page, char **ret_why)
{
    struct bucket_page_ask a;
    page_ask_init(&a, from, prefix, token, ret_page);
    a.request.delimiter = by_folder ? TEXT("/") : (struct text){"", 0};
    a.request.max = max;
    return origin_wait(from->origin, &a.request, ret_why);
}

int bucket_page_get(struct bucket *b, struct text prefix, bool by_folder, uint32_t max, struct text token,
                    struct bucket_page *ret_page)
{
    const struct page_source from = {b->origin, b->at_unix_ns, b->limit_ns};
    char *why = NULL;
    bucket_keeps_wait(b, prefix);
    int r = page_ask(&from, prefix, by_folder, max, token, ret_page, &why);
    metric_add(METRIC_LIST_PAGES, 1);
    if (r < 0 && why)
        bucket_note_error(b, prefix, r, why);
    else
        free(why);
    if (ret_page->is_unordered)
        bucket_note_disorder(b);
    return r;
}

static void started_done(struct origin_request *r, const struct origin_answer *answer)
{
    struct bucket_page_ask *a = r->context;
    struct bucket *b = a->bucket;
    page_done(r, answer);
    if (answer->error < 0 && answer->error != -ECANCELED && answer->why)
        bucket_note_error(b, a->prefix, answer->error, memory_copy(answer->why, strlen(answer->why)));
    lock_scope(&b->library);
    a->error = answer->error;
    a->is_flying = false;
    pthread_cond_broadcast(&b->moved);
}

void bucket_page_start(struct bucket *b, struct text prefix, struct text token, struct text start_after,
                       struct bucket_page *page, struct bucket_page_ask *ret_ask)
{
    const struct page_source from = {b->origin, b->at_unix_ns, b->limit_ns};
    bucket_keeps_wait(b, prefix);
    page_ask_init(ret_ask, &from, prefix, token, page);
    ret_ask->request.max = ORIGIN_LIST_MAX;
    ret_ask->request.start_after = start_after;
    ret_ask->request.done = started_done;
    ret_ask->bucket = b;
    ret_ask->is_flying = true;
    metric_add(METRIC_LIST_PAGES, 1);
    origin_start(b->origin, &ret_ask->request);
}

int bucket_check(struct origin *origin, const char *prefix, int64_t at_unix_ns, int64_t limit_ns, char **ret_why)
{
    const struct page_source from = {origin, at_unix_ns, limit_ns};
    struct bucket_page page = {0};
    int r = page_ask(&from, text_of(prefix), true, 1, (struct text){0}, &page, ret_why);
    bucket_page_release(&page);
    return r;
}

// ---- what a HEAD tells

static void put(struct doc *map, const char *key, struct text value)
{
    if (value.size_bytes)
        doc_put(map, key, doc_new_text(value));
}

struct head_ask {
    struct origin_request request;
    struct doc *map;
};

static void head_done(struct origin_request *r, const struct origin_answer *answer)
{
    struct head_ask *a = r->context;
    if (answer->error < 0)
        return;
    struct doc *metadata = doc_new(DOC_MAP);
    put(a->map, "etag", answer->validator);
    put(a->map, "version_id", answer->version_id);
    put(a->map, "storage_class", answer->storage_class);
    put(a->map, "content_type", answer->content_type);
    const char *at = answer->metadata.data, *end = at + answer->metadata.size_bytes;
    while (at < end) {
        const char *value = at + strlen(at) + 1;
        if (value >= end)
            break;
        doc_put_text(metadata, at, value);
        at = value + strlen(value) + 1;
    }
    doc_put(a->map, "metadata", metadata);
}

void bucket_head_id(struct text key, struct text version, struct uuid *ret_id)
{
    BUFFER_CLEANUP name = {0};
    buffer_append_text(&name, key);
    if (version.size_bytes)
        buffer_append_byte(&name, 0);
    buffer_append_text(&name, version);
    hash128(name.data ? name.data : "", name.size_bytes, ret_id->bytes);
}

int bucket_job_head(struct bucket *b, const struct bucket_want *w)
{
    BUFFER_CLEANUP key = {0}, json = {0};
    cleanup(cleanup_doc_free) struct doc *map = doc_new(DOC_MAP);
    char *why = NULL;
    struct uuid id;
    buffer_append_text(&key, buffer_text(&w->prefix));
    buffer_append_text(&key, buffer_text(&w->name));
    struct head_ask a = {.map = map};
    a.request = (struct origin_request){
        .verb = ORIGIN_HEAD,
        .priority = ORIGIN_READER_WAITS,
        .key = buffer_text(&key),
        .version = buffer_text(&w->to),
        .deadline_ns = clock_ns() + b->limit_ns,
        .done = head_done,
        .context = &a,
    };
    uint64_t epoch = (uint64_t)clock_steady_unix_ns();
    int r = origin_wait(b->origin, &a.request, &why);
    if (r < 0 && why)
        bucket_note_error(b, buffer_text(&key), r, why);
    else
        free(why);
    if (r < 0)
        return r;
    doc_write_json(map, false, &json);
    bucket_head_id(buffer_text(&key), buffer_text(&w->to), &id);
    return catalogue_put_dataset(b->catalogue, b->number, &id, DATASET_DATA_ID, epoch, buffer_text(&json));
}

// ---- opening --------------------------------------------------------------------------------

int bucket_open(const struct bucket_options *o, struct bucket **ret_bucket, char **ret_why)
{
    struct bucket *b = new_struct(struct bucket);
    BUFFER_CLEANUP identity = {0};
    struct text place = origin_identity(o->origin);
    b->origin = origin_ref(o->origin);
    b->prefix = memory_copy(o->prefix, strlen(o->prefix));
    b->catalogue = o->catalogue;
    b->list_ns = o->list_ns;
    b->limit_ns = o->limit_ns;
    b->at_unix_ns = o->at_unix_ns;
    b->librarian_count = o->librarian_count < BUCKET_LIBRARIANS_MIN   ? BUCKET_LIBRARIANS_MIN
                         : o->librarian_count < BUCKET_LIBRARIANS_MAX ? o->librarian_count
                                                                      : BUCKET_LIBRARIANS_MAX;
    // Listings may be of keys below a prefix or of all: the same folder is the same set.
    buffer_append_string(&identity, "bucket ");
    buffer_append_text(&identity, place);
    if (b->at_unix_ns)
        buffer_format(&identity, " at %lld", (long long)b->at_unix_ns);
    b->number = catalogue_repository(b->catalogue, buffer_text(&identity));
    answers_init(&b->answers);
    answers_init(&b->changes);
    lock_init(&b->library, LOCK_RANK_LIBRARY, "bucket");
    lock_init(&b->series_lock, LOCK_RANK_LEAF, "series");
    jobs_init(&b->jobs, &b->library, bucket_job_free);
    condition_init(&b->moved);
    int r = bucket_library_start(b);
    if (r < 0) {
        const char *why = "the librarians' threads can't be started";
        *ret_why = memory_copy(why, strlen(why));
        bucket_close(b);
        return r;
    }
    *ret_bucket = b;
    return 0;
}

void bucket_close(struct bucket *b)
{
    bucket_library_stop(b);
    answers_release(&b->answers);
    answers_release(&b->changes);
    jobs_release(&b->jobs);
    pthread_cond_destroy(&b->moved);
    lock_release_memory(&b->library);
    lock_release_memory(&b->series_lock);
    for (int i = 0; i < BUCKET_SERIES_KEPT; i++)
        buffer_release(&b->series[i].prefix);
    origin_unref(b->origin);
    free(b->last_error);
    free(b->prefix);
    free(b);
}

void bucket_status(struct bucket *b, struct doc *map)
{
    doc_put(map, "prefix", doc_new_text(text_of(b->prefix)));
    {
        lock_scope(&b->library);
        doc_put_bool(map, "answers", b->trouble == 0);
        doc_put_text(map, "last_error", b->last_error);
        doc_put_integer(map, "folders_noted", (int64_t)b->notes.count);
    }
    struct doc *m = doc_new(DOC_MAP);
    origin_status(b->origin, m);
    doc_put(map, "origin", m);
}
