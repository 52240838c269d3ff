// SPDX-License-Identifier: BSD-3-Clause
// Datasets: pages of a (collection, dataset type), one data ID, one id.
//
// 1. All three read the same columns (select_columns), so that one function reads a row and checks it.
//    What a tags table says of a dataset is completed by its row in `dataset`, by the day_obs of its
//    exposure or visit, and by the records of each datastore.
// 2. Pages go by the tags table's rowid, along its index (collection_id, dataset_type_id), in which
//    the rowid comes next: no OFFSET, no sorting, no statement that stays open between pages, and no
//    trouble with a bad value in a key. It is the order in which rows were written, so that those of
//    `dataset` and of the records, written with them, lie side by side: in the order of the data IDs
//    each would be somewhere else in the file, which is slower by half on a large registry.
//    A VACUUM may give other rowids; but then the mark differs, and the pages don't make one set.
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "meta/registry/sqlite_internal.h"

#define UUID_DIGITS 32

enum { COLUMN_ROWID, COLUMN_ID, COLUMN_RUN, COLUMN_INGEST, COLUMN_DAY_OBS, COLUMN_FIRST };

struct source {
    struct sqlite *q;
    const struct snapshot *s;
    const struct dataset_type *t;
    registry_each *each;
    void *context;
};

// ---------------------------------------------------------------------------------------------
// Reading.

static int hex_value(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int read_uuid(struct text hex, struct uuid *ret_uuid)
{
    if (hex.size_bytes != UUID_DIGITS)
        return -EBADMSG;
    for (size_t i = 0; i < 16; i++) {
        int high = hex_value(hex.data[2 * i]), low = hex_value(hex.data[2 * i + 1]);
        if (high < 0 || low < 0)
            return -EBADMSG;
        ret_uuid->bytes[i] = (uint8_t)(high * 16 + low);
    }
    return 0;
}

static void write_uuid(const struct uuid *u, char ret_hex[UUID_DIGITS])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < 16; i++) {
        ret_hex[2 * i] = digits[u->bytes[i] >> 4];
        ret_hex[2 * i + 1] = digits[u->bytes[i] & 15];
    }
}

static bool read_digits(struct text t, size_t at, size_t count, int *ret_number)
{
    int number = 0;
    for (size_t i = at; i < at + count; i++) {
        if (i >= t.size_bytes || t.data[i] < '0' || t.data[i] > '9')
            return false;
        number = number * 10 + (t.data[i] - '0');
    }
    *ret_number = number;
    return true;
}

// Days from 1970-01-01 in the Gregorian calendar.
static int64_t days_of(int year, int month, int day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = y / 400, of_era = y % 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

// "2026-11-22 10:47:43.822225" in UTC: how version 1 of the datasets manager keeps it.
static int64_t read_ingest_text(struct text t)
{
    int year, month, day, hour, minute, second;
    int64_t fraction_ns = 0, unit_ns = NS_PER_S / 10;
    if (!read_digits(t, 0, 4, &year) || !read_digits(t, 5, 2, &month) ||
        !read_digits(t, 8, 2, &day) || !read_digits(t, 11, 2, &hour) ||
        !read_digits(t, 14, 2, &minute) || !read_digits(t, 17, 2, &second) || year < 1970 ||
        month < 1 || month > 12 || day < 1 || day > 31)
        return INT64_MIN;
    for (size_t i = 20; i < t.size_bytes && t.data[19] == '.' && unit_ns > 0; i++, unit_ns /= 10) {
        int digit;
        if (!read_digits(t, i, 1, &digit))
            break;
        fraction_ns += digit * unit_ns;
    }
    int64_t seconds = days_of(year, month, day) * 86400 + hour * 3600 + minute * 60 + second;
    if (seconds > INT64_MAX / NS_PER_S - 1)
        return INT64_MIN;
    return tai_from_unix_ns(seconds * NS_PER_S + fraction_ns);
}

static int64_t read_ingest(sqlite3_stmt *statement, int column)
{
    switch (sqlite3_column_type(statement, column)) {
    case SQLITE_INTEGER:
        return sqlite3_column_int64(statement, column);
    case SQLITE_TEXT:
        return read_ingest_text(sqlite_text(statement, column));
    default:
        return INT64_MIN;
    }
}

static int read_value(sqlite3_stmt *statement, int column, enum value_kind kind,
                      struct value *ret_value)
{
    int type = sqlite3_column_type(statement, column);
    if (type != (kind == VALUE_INTEGER ? SQLITE_INTEGER : SQLITE_TEXT))
        return -EBADMSG;
    *ret_value = kind == VALUE_INTEGER ? value_integer(sqlite3_column_int64(statement, column))
                                       : value_text(sqlite_text(statement, column));
    return 0;
}

static int read_values(const struct source *o, sqlite3_stmt *statement, struct value *values)
{
    const struct dataset_type *t = o->t;
    for (uint32_t i = 0; i < t->required_count; i++) {
        uint32_t level = t->columns[i];
        enum value_kind kind = o->s->elements[t->levels[level].element].kind;
        if (read_value(statement, COLUMN_FIRST + (int)i, kind, &values[level]) < 0)
            return -EBADMSG;
    }
    for (uint32_t i = 0; i < t->level_count; i++) {
        if (!t->levels[i].is_implied)
            continue;
        enum value_kind kind = o->s->elements[t->levels[i].element].kind;
        if (sqlite3_column_type(statement, COLUMN_DAY_OBS) == SQLITE_NULL)
            values[i] = kind == VALUE_INTEGER ? value_integer(0) : value_text(TEXT(""));
        else if (read_value(statement, COLUMN_DAY_OBS, kind, &values[i]) < 0)
            return -EBADMSG;
    }
    return 0;
}

// ---------------------------------------------------------------------------------------------
// Files.

static struct text keep_text(struct sqlite *q, struct text t)
{
    struct text kept = {(const char *)(uintptr_t)q->texts.size_bytes, t.size_bytes};
    buffer_append_text(&q->texts, t);
    return kept;
}

static bool is_hex(struct text t)
{
    for (size_t i = 0; i < t.size_bytes; i++)
        if (hex_value(t.data[i]) < 0)
            return false;
    return t.size_bytes <= 128;
}

static int read_file(struct sqlite *q, sqlite3_stmt *statement, struct registry_file *f)
{
    if (sqlite3_column_type(statement, 0) != SQLITE_TEXT ||
        sqlite3_column_type(statement, 1) != SQLITE_TEXT)
        return -EBADMSG;
    struct text component = sqlite_text(statement, 0), path = sqlite_text(statement, 1);
    if (path.size_bytes == 0)
        return -EBADMSG;
    if (text_equal(component, TEXT("__NULL_STRING__")))
        component = TEXT("");
    f->component = keep_text(q, component);
    f->path = keep_text(q, path);
    f->storage_class = keep_text(q, sqlite_text(statement, 2));
    struct text checksum = sqlite_text(statement, 3);
    f->checksum = keep_text(q, is_hex(checksum) ? checksum : TEXT(""));
    f->size_bytes = SIZE_UNKNOWN;
    if (sqlite3_column_type(statement, 4) == SQLITE_INTEGER &&
        sqlite3_column_int64(statement, 4) >= 0)
        f->size_bytes = sqlite3_column_int64(statement, 4);
    return 0;
}

// The records of one datastore; the table may not be there yet (the client makes it when it first
// writes), which is the same as empty.
static int records_statement(struct sqlite *q, uint32_t datastore)
{
    const char *table = q->records_tables[datastore];
    if (q->records[datastore] || q->records_missing[datastore])
        return 0;
    sql_start(q, "SELECT component, path, storage_class, checksum, file_size FROM ");
    sql_name(q, text_of(table));
    sql_add(q, " WHERE dataset_id = ?1 ORDER BY component");
    if (!sqlite_is_prepared(q) && !sqlite_has_table(q, table)) {
        q->records_missing[datastore] = true;
        return 0;
    }
    return sqlite_prepare(q, &q->records[datastore]);
}

static int read_records(struct sqlite *q, uint32_t datastore, sqlite3_stmt *statement,
                        struct text hex, uint32_t *count)
{
    int r;
    sqlite3_bind_text(statement, 1, hex.data, (int)hex.size_bytes, SQLITE_STATIC);
    while ((r = sqlite_step(q, statement)) > 0) {
        struct registry_file *f = &q->files[*count];
        if (*count == ROW_FILES_MAX || read_file(q, statement, f) < 0) {
            sqlite_refuse_row(q, text_of(q->records_tables[datastore]),
                              *count == ROW_FILES_MAX ? "its dataset has too many files"
                                                      : "it is not well-formed");
            if (*count == ROW_FILES_MAX)
                return 0;
            continue;
        }
        f->datastore = datastore;
        ++*count;
    }
    return r;
}

static int read_files(struct sqlite *q, struct text hex, uint32_t *ret_count)
{
    uint32_t count = 0;
    buffer_clear(&q->texts);
    for (uint32_t i = 0; i < q->datastore_count; i++) {
        int r = records_statement(q, i);
        sqlite3_stmt *statement = q->records[i];
        if (r == 0 && statement)
            r = read_records(q, i, statement, hex, &count);
        sqlite_done(&statement);
        if (r < 0)
            return r;
    }
    const char *base = buffer_text(&q->texts).data;
    for (uint32_t i = 0; i < count; i++) {
        struct registry_file *f = &q->files[i];
        f->component.data = base + (uintptr_t)f->component.data;
        f->path.data = base + (uintptr_t)f->path.data;
        f->storage_class.data = base + (uintptr_t)f->storage_class.data;
        f->checksum.data = base + (uintptr_t)f->checksum.data;
    }
    *ret_count = count;
    return 0;
}

// ---------------------------------------------------------------------------------------------
// Rows.

// "SELECT ... FROM <tags> AS t ...": ends before WHERE. CROSS JOIN keeps the order of the tables:
// from the tags table to the others, never the other way round.
static void select_columns(const struct source *o)
{
    struct sqlite *q = o->q;
    const struct dataset_type *t = o->t;
    bool has_day_obs = t->day_obs_source != INDEX_NONE;
    sql_start(q, "SELECT t.rowid, t.dataset_id, d.run_id, d.ingest_date, ");
    sql_add(q, has_day_obs ? "x.day_obs" : "NULL");
    for (uint32_t i = 0; i < t->required_count; i++) {
        sql_add(q, ", t.");
        sql_name(q, o->s->elements[t->levels[t->columns[i]].element].name);
    }
    sql_add(q, " FROM ");
    sql_name(q, t->tags_table);
    sql_add(q, " AS t CROSS JOIN dataset AS d ON d.id = t.dataset_id");
    if (!has_day_obs)
        return;
    const struct element *e = &o->s->elements[t->day_obs_source];
    sql_add(q, " LEFT JOIN ");
    sql_name(q, e->table);
    sql_add(q, " AS x ON 1");
    for (uint32_t i = 0; i < e->required_count; i++) {
        const struct element *required = &o->s->elements[e->required[i]];
        sql_add(q, " AND x.");
        sql_name(q, required == e ? e->key_column : required->name);
        sql_add(q, " = t.");
        sql_name(q, required->name);
    }
}

// The row the statement stands at; 1: it was handed out, 0: refused, or what `each` answered.
static int hand_out(const struct source *o, sqlite3_stmt *statement, int64_t collection_id)
{
    struct sqlite *q = o->q;
    struct registry_row row = {
        .type_id = o->t->id,
        .collection_id = collection_id,
        .run_id = sqlite3_column_int64(statement, COLUMN_RUN),
        .ingest_tai_ns = read_ingest(statement, COLUMN_INGEST),
        .values = q->values,
        .value_count = o->t->level_count,
        .files = q->files,
    };
    struct text hex = sqlite_text(statement, COLUMN_ID);
    if (sqlite3_column_type(statement, COLUMN_RUN) != SQLITE_INTEGER ||
        read_uuid(hex, &row.uuid) < 0 || read_values(o, statement, q->values) < 0) {
        sqlite_refuse_row(q, o->t->tags_table, "its dataset id or its data ID is not well-formed");
        return 0;
    }
    int r = read_files(q, hex, &row.file_count);
    if (r == 0)
        r = o->each(&row, o->context);
    return r < 0 ? r : 1;
}

// ---------------------------------------------------------------------------------------------
// Pages. The cursor is the last rowid.

static int64_t cursor_read(const struct buffer *cursor)
{
    int64_t rowid = INT64_MIN;
    if (cursor->size_bytes == 0)
        return rowid;
    check(cursor->size_bytes == sizeof rowid);
    memcpy(&rowid, cursor->data, sizeof rowid);
    return rowid;
}

static void cursor_write(struct buffer *cursor, int64_t rowid)
{
    buffer_clear(cursor);
    buffer_append(cursor, &rowid, sizeof rowid);
}

// Up to `limit` rows, refused ones counted.
static int read_page(const struct source *o, sqlite3_stmt *statement, int64_t collection_id,
                     struct buffer *cursor, uint32_t limit, bool *ret_end)
{
    uint32_t seen = 0;
    int r;
    while ((r = sqlite_step(o->q, statement)) > 0) {
        int64_t rowid = sqlite3_column_int64(statement, COLUMN_ROWID);
        r = hand_out(o, statement, collection_id);
        if (r < 0)
            return r;
        if (++seen < limit)
            continue;
        cursor_write(cursor, rowid);
        *ret_end = false;
        return 0;
    }
    *ret_end = r == 0;
    return r;
}

int sqlite_page(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                int64_t collection_id, struct buffer *cursor, uint32_t limit, registry_each *each,
                void *context, bool *ret_end, uint64_t *ret_mark)
{
    struct source o = {sqlite_of(r), s, t, each, context};
    sqlite3_stmt *statement = NULL;
    uint64_t mark;
    bool is_end = false;
    int result = sqlite_enter_verb(o.q);
    if (result == 0)
        result = sqlite_begin(o.q, &mark);
    if (result < 0)
        return result;
    select_columns(&o);
    sql_add(o.q, " WHERE t.dataset_type_id = ?1 AND t.collection_id = ?2 AND t.rowid > ?3 ORDER BY t.rowid");
    result = sqlite_prepare(o.q, &statement);
    if (result == 0) {
        sqlite3_bind_int64(statement, 1, t->id);
        sqlite3_bind_int64(statement, 2, collection_id);
        sqlite3_bind_int64(statement, 3, cursor_read(cursor));
        result = read_page(&o, statement, collection_id, cursor, limit, &is_end);
    }
    sqlite_done(&statement);
    sqlite_end(o.q);
    if (result == 0) {
        *ret_end = is_end;
        *ret_mark = mark;
    }
    return result;
}

// ---------------------------------------------------------------------------------------------
// One data ID, one dataset.

// 1: found and handed out.
static int find_in(const struct source *o, sqlite3_stmt *statement, int64_t collection_id)
{
    sqlite3_bind_int64(statement, 2, collection_id);
    int r = sqlite_step(o->q, statement);
    if (r > 0)
        r = hand_out(o, statement, collection_id);
    sqlite3_reset(statement);
    return r;
}

int sqlite_row(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
               const int64_t *collections, uint32_t count, const struct value *values,
               registry_each *each, void *context)
{
    struct source o = {sqlite_of(r), s, t, each, context};
    sqlite3_stmt *statement = NULL;
    int result = sqlite_enter_verb(o.q);
    if (result == 0)
        result = sqlite_begin(o.q, NULL);
    if (result < 0)
        return result;
    select_columns(&o);
    sql_add(o.q, " WHERE t.dataset_type_id = ?1 AND t.collection_id = ?2");
    for (uint32_t i = 0; i < t->required_count; i++) {
        sql_add(o.q, " AND t.");
        sql_name(o.q, s->elements[t->levels[t->columns[i]].element].name);
        buffer_format(&o.q->sql, " = ?%u", i + 3);
    }
    result = sqlite_prepare(o.q, &statement);
    if (result == 0) {
        sqlite3_bind_int64(statement, 1, t->id);
        for (uint32_t i = 0; i < t->required_count; i++)
            sqlite_bind(statement, (int)i + 3, &values[t->columns[i]]);
    }
    for (uint32_t i = 0; result == 0 && i < count; i++)
        result = find_in(&o, statement, collections[i]);
    sqlite_done(&statement);
    sqlite_end(o.q);
    return result < 0 ? result : result > 0 ? 0 : -ENOENT;
}

// Its type and run, from `dataset`. 1: found.
static int find_dataset(struct sqlite *q, struct text hex, int64_t *ret_type, int64_t *ret_run)
{
    sqlite3_stmt *statement = NULL;
    sql_start(q, "SELECT dataset_type_id, run_id FROM dataset WHERE id = ?1");
    int r = sqlite_prepare(q, &statement);
    if (r == 0) {
        sqlite3_bind_text(statement, 1, hex.data, (int)hex.size_bytes, SQLITE_STATIC);
        r = sqlite_step(q, statement);
    }
    if (r > 0) {
        *ret_type = sqlite3_column_int64(statement, 0);
        *ret_run = sqlite3_column_int64(statement, 1);
    }
    sqlite_done(&statement);
    return r;
}

int sqlite_dataset(struct registry *r, const struct snapshot *s, const struct uuid *uuid,
                   registry_each *each, void *context)
{
    struct source o = {sqlite_of(r), s, NULL, each, context};
    sqlite3_stmt *statement = NULL;
    int64_t type = 0, run = 0;
    char hex[UUID_DIGITS];
    write_uuid(uuid, hex);
    int result = sqlite_enter_verb(o.q);
    if (result == 0)
        result = sqlite_begin(o.q, NULL);
    if (result < 0)
        return result;
    result = find_dataset(o.q, (struct text){hex, sizeof hex}, &type, &run);
    o.t = result > 0 ? snapshot_type_by_id(s, type) : NULL;
    if (o.t && o.t->is_readable) {
        select_columns(&o);
        sql_add(o.q, " WHERE t.dataset_id = ?1 AND t.collection_id = ?2");
        result = sqlite_prepare(o.q, &statement);
        if (result == 0) {
            sqlite3_bind_text(statement, 1, hex, sizeof hex, SQLITE_STATIC);
            result = find_in(&o, statement, run);
        }
    } else if (result > 0) {
        result = 0; // of a type that isn't known (yet)
    }
    sqlite_done(&statement);
    sqlite_end(o.q);
    return result < 0 ? result : result > 0 ? 0 : -ENOENT;
}
