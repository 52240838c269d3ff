// SPDX-License-Identifier: BSD-3-Clause
// dataset: what is known of a dataset by its id: as a record for the catalogue, as the struct that
// others see, and its data ID as JSON.
// 1. A record is texts and numbers with their lengths; reading checks each against what is left,
//    and the whole must be used up. The catalogue's frame says magic, version and length.
#include "meta/library.h"

#include <stdlib.h>

#include "base/log.h"
#include "meta/catalogue_block.h"

// Writing.

static void put_text(struct buffer *to, struct text t)
{
    varint_append(to, t.size_bytes);
    buffer_append_text(to, t);
}

static void put_integer(struct buffer *to, int64_t i)
{
    buffer_append(to, &i, sizeof(i));
}

static void put_value(struct buffer *to, const struct value *v)
{
    buffer_append_byte(to, v->kind == VALUE_TEXT);
    if (v->kind == VALUE_TEXT)
        put_text(to, v->text);
    else
        put_integer(to, v->integer);
}

void dataset_write(const struct snapshot *s, const struct dataset_type *t, const struct text run,
                   const struct registry_row *row, struct buffer *to)
{
    buffer_append(to, row->uuid.bytes, sizeof(row->uuid.bytes));
    put_text(to, t->name);
    put_text(to, t->storage_class);
    put_text(to, run);
    put_integer(to, row->ingest_tai_ns);
    varint_append(to, row->value_count);
    for (uint32_t i = 0; i < row->value_count; i++) {
        put_value(to, &row->values[i]);
        put_text(to, s->elements[t->levels[i].element].name);
        buffer_append_byte(to, t->levels[i].is_implied);
    }
    varint_append(to, row->file_count);
    for (uint32_t i = 0; i < row->file_count; i++) {
        const struct registry_file *f = &row->files[i];
        varint_append(to, f->datastore);
        put_text(to, f->component);
        put_text(to, f->path);
        put_text(to, f->storage_class);
        put_text(to, f->checksum);
        put_integer(to, f->size_bytes);
    }
}

// Reading.

struct reader {
    const uint8_t *at, *end;
    bool is_bad;
};

static uint64_t get_number(struct reader *r, uint64_t most)
{
    uint64_t n = 0;
    if (!varint_read(&r->at, r->end, &n) || n > most) {
        r->is_bad = true;
        return 0;
    }
    return n;
}

static void get_bytes(struct reader *r, void *to, size_t size_bytes)
{
    if ((size_t)(r->end - r->at) < size_bytes) {
        r->is_bad = true;
        memset(to, 0, size_bytes);
        return;
    }
    memcpy(to, r->at, size_bytes);
    r->at += size_bytes;
}

static struct text get_text(struct reader *r)
{
    uint64_t size = get_number(r, (uint64_t)(r->end - r->at));
    if (r->is_bad || size > (uint64_t)(r->end - r->at)) {
        r->is_bad = true;
        return (struct text){0};
    }
    struct text t = {(const char *)r->at, size};
    r->at += size;
    return t;
}

static int64_t get_integer(struct reader *r)
{
    int64_t i;
    get_bytes(r, &i, sizeof(i));
    return i;
}

static bool get_flag(struct reader *r)
{
    uint8_t byte;
    get_bytes(r, &byte, 1);
    r->is_bad = r->is_bad || byte > 1;
    return byte;
}

static struct value get_value(struct reader *r)
{
    return get_flag(r) ? value_text(get_text(r)) : value_integer(get_integer(r));
}

static void get_file(struct reader *r, struct dataset_file *f)
{
    f->datastore = (uint32_t)get_number(r, UINT32_MAX);
    f->component = get_text(r);
    f->path = get_text(r);
    f->storage_class = get_text(r);
    f->checksum = get_text(r);
    f->size_bytes = get_integer(r);
}

int dataset_read(struct text record, struct dataset **ret_dataset)
{
    if (record.size_bytes == 0)
        return -ENOENT;
    struct dataset *d = new_struct(struct dataset);
    buffer_append_text(&d->store, record);
    struct reader r = {.at = (const uint8_t *)d->store.data};
    r.end = r.at + record.size_bytes;
    get_bytes(&r, d->uuid.bytes, sizeof(d->uuid.bytes));
    d->type = get_text(&r);
    d->storage_class = get_text(&r);
    d->run = get_text(&r);
    d->ingest_tai_ns = get_integer(&r);
    d->value_count = (uint32_t)get_number(&r, LEVELS_MAX);
    for (uint32_t i = 0; i < d->value_count; i++) {
        d->values[i] = get_value(&r);
        d->level_names[i] = get_text(&r);
        d->level_is_implied[i] = get_flag(&r);
    }
    d->file_count = (uint32_t)get_number(&r, ROW_FILES_MAX);
    d->files = memory_new((d->file_count + 1) * sizeof(*d->files));
    for (uint32_t i = 0; i < d->file_count; i++)
        get_file(&r, &d->files[i]);
    if (r.is_bad || r.at != r.end) {
        dataset_free(d);
        return -EBADMSG;
    }
    *ret_dataset = d;
    return 0;
}

void dataset_free(struct dataset *d)
{
    if (!d)
        return;
    buffer_release(&d->store);
    free(d->files);
    free(d);
}

// The data ID.

struct data_id_entry {
    struct text name; // of the snapshot or the dataset
    struct value value;
};

#define DATA_ID_MAX 64

struct data_id {
    struct data_id_entry entries[DATA_ID_MAX];
    size_t count;
    struct buffer texts[DATA_ID_MAX]; // copies
};

void data_id_add(struct data_id *id, struct text name, const struct value *v)
{
    for (size_t i = 0; i < id->count; i++)
        if (text_equal(id->entries[i].name, name))
            return;
    if (id->count == DATA_ID_MAX)
        return;
    struct buffer *copy = &id->texts[id->count];
    struct data_id_entry *e = &id->entries[id->count++];
    *e = (struct data_id_entry){.name = name, .value = *v};
    buffer_append_text(copy, name);
    e->name = buffer_text(copy);
    if (v->kind == VALUE_TEXT) {
        buffer_reserve(copy, v->text.size_bytes);
        size_t from = copy->size_bytes;
        buffer_append_text(copy, v->text);
        e->name = text_slice(buffer_text(copy), 0, from);
        e->value.text = text_slice(buffer_text(copy), from, copy->size_bytes);
    }
}

struct data_id *data_id_new(const struct dataset *d)
{
    struct data_id *id = new_struct(struct data_id);
    // An implied level's value is the dimension tables' to tell: it may be unknown, or no dimension.
    for (uint32_t i = 0; i < d->value_count; i++)
        if (!d->level_is_implied[i])
            data_id_add(id, d->level_names[i], &d->values[i]);
    return id;
}

void data_id_free(struct data_id *id)
{
    for (size_t i = 0; i < id->count; i++)
        buffer_release(&id->texts[i]);
    free(id);
}

static int compare_entries(const void *a, const void *b)
{
    return text_compare(((const struct data_id_entry *)a)->name,
                        ((const struct data_id_entry *)b)->name);
}

void data_id_write(struct data_id *id, struct buffer *to)
{
    cleanup(cleanup_doc_free) struct doc *map = doc_new(DOC_MAP);
    qsort(id->entries, id->count, sizeof(*id->entries), compare_entries);
    for (size_t i = 0; i < id->count; i++) {
        const struct data_id_entry *e = &id->entries[i];
        cleanup(cleanup_free) char *name = memory_copy(e->name.data, e->name.size_bytes);
        doc_put(map, name,
                e->value.kind == VALUE_TEXT ? doc_new_text(e->value.text)
                                            : doc_new_integer(e->value.integer));
    }
    doc_write_json(map, false, to);
}

// Asking.

static enum want_kind want_of(enum dataset_record which)
{
    static const enum want_kind kinds[] = {[DATASET_FILES] = WANT_DATASET,
                                           [DATASET_DATA_ID] = WANT_DATA_ID,
                                           [DATASET_TIMESPAN] = WANT_TIMESPAN};
    return kinds[which];
}

// 1: from the catalogue, 2: from the recent answers, where `from` says at the earliest.
int dataset_record_of(struct repository *r, uint64_t fresh, const struct uuid *uuid,
                             enum dataset_record which, int from, struct buffer *record,
                             struct want *want)
{
    uint64_t epoch;
    enum row_kind kind;
    *want = (struct want){.kind = want_of(which), .fresh = fresh, .uuid = *uuid};
    buffer_clear(record);
    int e = from <= 1 ? catalogue_dataset(r->catalogue, r->number, uuid, which, &epoch, record)
                      : -ENOENT;
    if (e == 0 && epoch >= fresh)
        return 1;
    if (e < 0 && e != -ENOENT)
        return e;
    buffer_clear(record);
    return answers_get(&r->answers, want, &kind, record) ? 2 : -EINPROGRESS;
}

int repository_dataset(struct repository *r, uint64_t fresh, const struct uuid *uuid,
                       struct dataset **ret_dataset, struct want *want)
{
    BUFFER_CLEANUP record = {0};
    int from = 1, e;
    do { // a record that is not well-formed counts as absent
        from = dataset_record_of(r, fresh, uuid, DATASET_FILES, from, &record, want);
        if (from < 0)
            return from;
        e = dataset_read(buffer_text(&record), ret_dataset);
    } while (e == -EBADMSG && ++from <= 2);
    return e == -EBADMSG ? -EIO : e;
}

int repository_data_id(struct repository *r, uint64_t fresh, const struct uuid *uuid,
                       struct buffer *to, struct want *want)
{
    BUFFER_CLEANUP record = {0};
    int e = dataset_record_of(r, fresh, uuid, DATASET_DATA_ID, 1, &record, want);
    if (e < 0)
        return e;
    if (record.size_bytes == 0)
        return -ENOENT;
    buffer_append_text(to, buffer_text(&record));
    return 0;
}
