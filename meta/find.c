// SPDX-License-Identifier: BSD-3-Clause
// find: see find.h.
// 1. A page is one job of a librarian, bounded in rows, bytes and time; it goes on after a key, so that
//    what changes between pages neither repeats nor hides what stays.
// 2. No row of a dimension is looked up while the catalogue is read: rows that may be meant are put aside
//    first.
// 3. Each level's value is tried as soon as it is known: where it decides, all that share it are skipped;
//    where it is below all that can be meant, the scan goes on at the least of these.
#include "meta/find.h"

#include <errno.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "meta/name.h"
#include "meta/place.h"
#include "meta/where.h"

#define BATCH_ROWS 256
#define PAGE_BYTES 6000 // as JSON it fits into one page of an ioctl, mostly
#define PAGE_NS (50 * NS_PER_MS)
#define ROWS_MAX 20000 // looked at between two looks at the clock

// ---- rows of dimensions ---------------------------------------------------------------------

#define CACHED_RECORDS 512
#define NEEDS_MAX 16

struct record {
    uint8_t of[16]; // hash of the key
    bool is_there;
    struct field fields[WHERE_COLUMNS_MAX];
    struct buffer store;
};

// Columns of one element's rows.
struct need {
    uint32_t element;
    struct text columns[WHERE_COLUMNS_MAX];
    uint32_t count;
    struct record *cache; // CACHED_RECORDS
};

struct row_aside {
    struct key key;
    struct value values[LEVELS_MAX];
    struct buffer texts; // of the values; then the path
    struct text path;
};

struct finding {
    struct librarian *librarian;
    struct registry *registry;
    struct snapshot *snapshot;
    const struct dataset_type *type;
    struct where *where;
    const struct where_column *columns;
    uint32_t column_count;
    uint32_t column_of_level[LEVELS_MAX]; // INDEX_NONE
    int64_t low[LEVELS_MAX], high[LEVELS_MAX];
    struct need needs[NEEDS_MAX];
    uint32_t need_count;
    // the scan
    struct row_aside *aside;
    uint32_t aside_count, looked_at;
    struct key last; // that was looked at
    bool has_last;
    struct key seek;
    bool is_seek, is_end;
    // the page
    struct buffer paths;
    size_t json_bytes;
};

static struct need *need_of(struct finding *f, uint32_t element)
{
    for (uint32_t i = 0; i < f->need_count; i++)
        if (f->needs[i].element == element)
            return &f->needs[i];
    if (f->need_count == NEEDS_MAX)
        return NULL;
    struct need *n = &f->needs[f->need_count++];
    n->element = element;
    n->cache = memory_new(CACHED_RECORDS * sizeof(*n->cache));
    return n;
}

static int add_need(struct finding *f, uint32_t element, struct text column)
{
    struct need *n = need_of(f, element);
    if (!n)
        return -E2BIG;
    bool is_new = n->count == 0;
    for (uint32_t i = 0; i < n->count; i++)
        if (text_equal(n->columns[i], column))
            return 0;
    if (n->count == WHERE_COLUMNS_MAX)
        return -E2BIG;
    n->columns[n->count++] = column;
    const struct element *e = &f->snapshot->elements[element];
    int r = 0;
    for (uint32_t i = 0; is_new && r == 0 && i < e->required_count; i++)
        if (where_level_of(f->type, e->required[i]) == INDEX_NONE)
            r = add_need(f, where_source_of(f->snapshot, f->type, e->required[i]),
                         f->snapshot->elements[e->required[i]].name);
    return r;
}

static int get_field(struct finding *f, const struct row_aside *row, uint32_t element, struct text column,
                     struct field *ret_field);

// A dimension's value of this row.
static int get_key(struct finding *f, const struct row_aside *row, uint32_t dimension, struct value *ret_value)
{
    const struct element *e = &f->snapshot->elements[dimension];
    uint32_t level = where_level_of(f->type, dimension);
    struct field field;
    if (level != INDEX_NONE) {
        *ret_value = row->values[level];
        return 0;
    }
    int r = get_field(f, row, where_source_of(f->snapshot, f->type, dimension), e->name, &field);
    if (r < 0)
        return r;
    if (field.kind != (e->kind == VALUE_INTEGER ? FIELD_INTEGER : FIELD_TEXT))
        return -ENOENT;
    *ret_value = field.kind == FIELD_INTEGER ? value_integer(field.integer) : value_text(field.text);
    return 0;
}

static int read_record(struct finding *f, struct need *n, const struct value *values, struct record *record)
{
    buffer_clear(&record->store);
    int r = registry_record(f->registry, f->snapshot, &f->snapshot->elements[n->element], values, n->columns, n->count,
                            record->fields, &record->store);
    record->is_there = r == 0;
    if (r < 0)
        memset(record->of, 0, sizeof(record->of));
    return r == -ENOENT ? 0 : r;
}

static int get_record(struct finding *f, const struct row_aside *row, struct need *n, struct record **ret_record)
{
    const struct element *e = &f->snapshot->elements[n->element];
    struct value values[LEVELS_MAX];
    BUFFER_CLEANUP bytes = {0};
    uint8_t of[16];
    for (uint32_t i = 0; i < e->required_count; i++) {
        int r = i < LEVELS_MAX ? get_key(f, row, e->required[i], &values[i]) : -E2BIG;
        if (r < 0)
            return r;
        buffer_append(&bytes, &values[i].integer, sizeof(values[i].integer));
        if (values[i].kind == VALUE_TEXT) {
            buffer_append(&bytes, &values[i].text.size_bytes, sizeof(values[i].text.size_bytes));
            buffer_append_text(&bytes, values[i].text);
        }
    }
    hash128(bytes.data, bytes.size_bytes, of);
    struct record *record = &n->cache[(of[0] | of[1] << 8) % CACHED_RECORDS];
    *ret_record = record;
    if (memcmp(record->of, of, sizeof(of)) == 0)
        return 0;
    int r = read_record(f, n, values, record);
    if (r == 0)
        memcpy(record->of, of, sizeof(of));
    return r;
}

static int get_field(struct finding *f, const struct row_aside *row, uint32_t element, struct text column,
                     struct field *ret_field)
{
    struct need *n = need_of(f, element);
    struct record *record;
    *ret_field = (struct field){.kind = FIELD_NULL};
    int r = n ? get_record(f, row, n, &record) : -E2BIG;
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    for (uint32_t i = 0; record->is_there && i < n->count; i++)
        if (text_equal(n->columns[i], column))
            *ret_field = record->fields[i];
    return 0;
}

// ---- the scan -------------------------------------------------------------------------------

static void write_path(const struct finding *f, const struct row *row, struct buffer *to)
{
    place_write_type(f->type, to);
    for (uint32_t i = 0; i + 1 < f->type->level_count; i++) {
        buffer_append_byte(to, '/');
        name_write_level(f->snapshot->elements[f->type->levels[i].element].name, &row->values[i], to);
    }
    buffer_append_byte(to, '/');
    place_write_file(f->type, row, to);
}

static void put_aside(struct finding *f, const struct row *row, const struct key *k)
{
    struct row_aside *to = &f->aside[f->aside_count++];
    to->key = *k;
    buffer_clear(&to->texts);
    for (uint32_t i = 0; i < row->value_count; i++)
        if (row->values[i].kind == VALUE_TEXT)
            buffer_append_text(&to->texts, row->values[i].text);
    size_t from = to->texts.size_bytes, at = 0;
    write_path(f, row, &to->texts);
    to->path = text_slice(buffer_text(&to->texts), from, to->texts.size_bytes);
    for (uint32_t i = 0; i < row->value_count; i++) { // the texts stay where they are now
        to->values[i] = row->values[i];
        if (row->values[i].kind != VALUE_TEXT)
            continue;
        to->values[i].text = text_slice(buffer_text(&to->texts), at, at + row->values[i].text.size_bytes);
        at += row->values[i].text.size_bytes;
    }
}

// The level's value decides against the row: how to get past what shares it (invariant 3).
static int pass(struct finding *f, const struct row *row, const struct key *k, uint32_t level, size_t *skip_bytes)
{
    const struct value *v = &row->values[level];
    int size = key_values_size(key_text(k), level + 1);
    if (v->kind == VALUE_INTEGER && v->integer < f->low[level]) {
        f->seek.size_bytes = 0;
        for (uint32_t i = 0; i < level; i++)
            key_append(&f->seek, &row->values[i], f->type->level_count);
        struct value low = value_integer(f->low[level]);
        key_append(&f->seek, &low, f->type->level_count);
        f->is_seek = true;
        return ROW_STOP_AFTER;
    }
    if (v->kind == VALUE_INTEGER && v->integer > f->high[level]) {
        f->is_end = level == 0;
        size = key_values_size(key_text(k), level);
    }
    *skip_bytes = size > 0 ? (size_t)size : 0;
    return f->is_end ? ROW_STOP_AFTER : ROW_GO_ON;
}

static int look_at(const struct row *row, const struct key *k, size_t *skip_bytes, void *context)
{
    struct finding *f = context;
    struct field fields[WHERE_COLUMNS_MAX] = {0};
    enum truth truth = TRUTH_OPEN;
    if (row->value_count != f->type->level_count)
        return -EBADMSG;
    if (f->looked_at++ >= ROWS_MAX)
        return ROW_STOP_BEFORE;
    f->last = *k;
    f->has_last = true;
    for (uint32_t i = 0; i < row->value_count; i++) {
        if (f->column_of_level[i] == INDEX_NONE)
            continue;
        fields[f->column_of_level[i]] = field_of(&row->values[i]);
        truth = where_test(f->where, fields);
        if (truth == TRUTH_FALSE || truth == TRUTH_NULL)
            return pass(f, row, k, i, skip_bytes);
    }
    put_aside(f, row, k);
    return f->aside_count == BATCH_ROWS ? ROW_STOP_AFTER : ROW_GO_ON;
}

// Puts aside the next rows that may be meant. 0: there are no more; 1.
static int scan(struct finding *f, uint64_t generation, struct row_cursor *cursor)
{
    static const struct key everything = {0};
    int r = 1;
    f->aside_count = f->looked_at = 0;
    while (r > 0 && !f->is_end && f->aside_count < BATCH_ROWS && f->looked_at < ROWS_MAX) {
        r = catalogue_scan(f->librarian->repository->catalogue, generation, &everything, cursor, look_at, f);
        if (r > 0 && f->is_seek)
            *cursor = (struct row_cursor){.key = f->seek, .is_seek = true, .is_begun = true};
        f->is_seek = false;
    }
    return f->is_end && r > 0 ? 0 : r;
}

// ---- a page ---------------------------------------------------------------------------------

static int test_row(struct finding *f, const struct row_aside *row)
{
    struct field fields[WHERE_COLUMNS_MAX];
    for (uint32_t i = 0; i < f->column_count; i++) {
        const struct where_column *c = &f->columns[i];
        int r = 0;
        if (c->level != INDEX_NONE)
            fields[i] = field_of(&row->values[c->level]);
        else
            r = get_field(f, row, c->element, c->name, &fields[i]);
        if (r < 0)
            return r;
    }
    return where_test(f->where, fields) == TRUTH_TRUE;
}

static size_t json_bytes(struct text t)
{
    size_t n = t.size_bytes + 3;
    for (size_t i = 0; i < t.size_bytes; i++)
        n += t.data[i] == '"' || t.data[i] == '\\';
    return n;
}

// 1: the page is full, and *last is its last row.
static int keep_rows(struct finding *f, struct key *last, bool *has_last)
{
    for (uint32_t i = 0; i < f->aside_count; i++) {
        const struct row_aside *row = &f->aside[i];
        int r = test_row(f, row);
        if (r < 0)
            return r;
        size_t more = r ? json_bytes(row->path) : 0;
        if (f->json_bytes && f->json_bytes + more > PAGE_BYTES)
            return 1;
        if (r) {
            uint32_t size = (uint32_t)row->path.size_bytes;
            buffer_append(&f->paths, &size, sizeof(size));
            buffer_append_text(&f->paths, row->path);
            f->json_bytes += more;
        }
        *last = row->key;
        *has_last = true;
    }
    return 0;
}

static int fill_page(struct finding *f, uint64_t generation, const struct want *w, struct key *last, bool *ret_more)
{
    struct row_cursor cursor = {0};
    int64_t deadline_ns = clock_ns() + PAGE_NS;
    bool has_last = w->depth > 0;
    if (has_last) {
        *last = w->key;
        cursor = (struct row_cursor){.key = w->key, .is_begun = true};
    }
    for (;;) {
        int r = scan(f, generation, &cursor);
        if (r < 0)
            return r;
        int kept = keep_rows(f, last, &has_last);
        if (kept != 0) {
            *ret_more = true;
            return kept < 0 ? kept : 0;
        }
        if (f->has_last)
            *last = f->last;
        *ret_more = r > 0;
        if (r == 0 || clock_ns() > deadline_ns || atomic_load(&f->librarian->repository->is_closing))
            return 0;
    }
}

// ---- the job --------------------------------------------------------------------------------

static void finding_release(struct finding *f)
{
    for (uint32_t i = 0; i < f->need_count; i++) {
        for (uint32_t k = 0; k < CACHED_RECORDS; k++)
            buffer_release(&f->needs[i].cache[k].store);
        free(f->needs[i].cache);
    }
    for (uint32_t i = 0; f->aside && i < BATCH_ROWS; i++)
        buffer_release(&f->aside[i].texts);
    free(f->aside);
    buffer_release(&f->paths);
    where_free(f->where);
    snapshot_unref(f->snapshot);
}

static int finding_begin(struct finding *f, const struct want *w)
{
    cleanup(cleanup_free) char *why = NULL;
    int r = librarian_registry(f->librarian, &f->registry);
    if (r == 0)
        r = librarian_snapshot(f->librarian, w->fresh, &f->snapshot);
    if (r < 0)
        return r;
    f->type = snapshot_type_by_id(f->snapshot, w->type_id);
    if (!f->type || !f->type->is_readable)
        return -ENOENT;
    r = where_parse(f->snapshot, f->type, buffer_text(&w->texts), &f->where, &why);
    if (r < 0)
        return r;
    f->columns = where_columns(f->where, &f->column_count);
    f->aside = memory_new(BATCH_ROWS * sizeof(*f->aside));
    for (uint32_t i = 0; i < LEVELS_MAX; i++) {
        f->column_of_level[i] = INDEX_NONE;
        f->low[i] = INT64_MIN;
        f->high[i] = INT64_MAX;
    }
    for (uint32_t i = 0; r == 0 && i < f->column_count; i++) {
        uint32_t level = f->columns[i].level;
        if (level == INDEX_NONE) {
            r = add_need(f, f->columns[i].element, f->columns[i].name);
            continue;
        }
        f->column_of_level[level] = i;
        where_bounds(f->where, i, &f->low[level], &f->high[level]);
    }
    return r;
}

int job_find(struct librarian *l, const struct want *w)
{
    cleanup(finding_release) struct finding f = {.librarian = l};
    struct repository *repository = l->repository;
    struct set_id id = set_id_of(repository, w->collection_id, w->type_id);
    struct set_state state;
    struct find_page page = {0};
    BUFFER_CLEANUP record = {0};
    uint64_t epoch = repository_epoch(repository);
    id.at = w->at;
    int r = finding_begin(&f, w);
    if (r < 0)
        return r;
    r = library_pin_set(repository, &id, w->fresh, &state);
    if (r < 0)
        return r == -ENOENT ? 0 : r; // gone meanwhile: who asked will want it again
    r = fill_page(&f, state.generation, w, &page.last, &page.has_more);
    catalogue_unpin(repository->catalogue, state.generation);
    if (r < 0)
        return r == -EBADMSG ? 0 : r; // distrusted by now
    buffer_append(&record, &page.has_more, sizeof(page.has_more));
    buffer_append(&record, &page.last, sizeof(page.last));
    buffer_append_text(&record, buffer_text(&f.paths));
    answers_put(&repository->answers, w, epoch, ROW_VISIBLE, buffer_text(&record));
    return 0;
}
