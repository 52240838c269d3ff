// SPDX-License-Identifier: BSD-3-Clause
// Datasets in SQLite: the statement that reads them, their files, and pages of a (collection, dataset
// type); what looks for one data ID or one id is in sqlite_find.c.
//
// 1. Files are read by a statement of their own, dataset by dataset: in one process that costs less than
//    a join whose rows repeat the dataset.
// 2. Pages go by the tags table's rowid, along its index (collection, dataset_type_id), in which
//    the rowid comes next: no OFFSET, no sorting, no statement that stays open between pages, and no
//    trouble with a bad value in a key. It is the order in which rows were written, so that those of
//    `dataset` and of the records, written with them, lie side by side: in the order of the data IDs
//    each would be somewhere else in the file, which is slower by half on a large registry.
//    A VACUUM may give other rowids; but then the mark differs, and the pages don't make one set.
#include "base/log.h"
#include "meta/registry/sqlite_internal.h"

// ---------------------------------------------------------------------------------------------
// Files.

// The records of one datastore; the table may not be there yet (the client makes it when it first
// writes), which is the same as empty.
static int records_statement(struct sqlite *q, uint32_t datastore)
{
    const char *table = q->sql.records_tables[datastore];
    if (q->records[datastore] || q->is_absent[datastore])
        return 0;
    sql_start(&q->sql, "SELECT component, path, storage_class, checksum, file_size FROM ");
    sql_table(&q->sql, text_of(table));
    sql_add(&q->sql, " WHERE dataset_id = ?1 ORDER BY component");
    if (!sqlite_is_prepared(q) && !sqlite_has_table(q, table)) {
        q->is_absent[datastore] = true;
        return 0;
    }
    return sqlite_prepare(q, &q->records[datastore]);
}

int sqlite_files(struct sql *q, struct sql_rows *rows, uint32_t *ret_count)
{
    struct sqlite *l = sqlite_of(q);
    struct value id = value_text(sql_text(q, rows, COLUMN_ID));
    uint32_t count = 0;
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < q->datastore_count; i++) {
        r = records_statement(l, i);
        struct sql_rows *records = (struct sql_rows *)l->records[i];
        if (r < 0 || !records)
            continue;
        sqlite_bind(l->records[i], 1, &id);
        while ((r = sql_step(q, records)) > 0 && sql_add_file(q, records, 0, i, &count))
            ;
        r = r < 0 ? r : 0;
        sql_done(q, &records);
    }
    *ret_count = count;
    return r;
}

// ---------------------------------------------------------------------------------------------
// Rows.

// "SELECT ... FROM <tags> AS t ...": ends before WHERE. CROSS JOIN keeps the order of the tables:
// from the tags table to the others, never the other way round.
void sqlite_select(const struct sql_source *o)
{
    struct sql *q = o->q;
    const struct dataset_type *t = o->t;
    bool has_day_obs = t->day_obs_source != INDEX_NONE;
    sql_start(q, "SELECT t.rowid");
    buffer_format(&q->text, ", t.%s, t.dataset_id, d.%s, d.ingest_date, ", sql_collection_column(q),
                  sql_run_column(q));
    sql_add(q, has_day_obs ? "x.day_obs" : "NULL");
    if (o->is_calibs) {
        sql_add(q, ", t.timespan_begin, t.timespan_end");
        sql_add_twins(o);
    } else {
        sql_add(q, ", NULL, NULL, NULL, NULL");
    }
    for (uint32_t i = 0; i < t->required_count; i++) {
        sql_add(q, ", t.");
        sql_name(q, sql_column(o, i));
    }
    sql_add(q, " FROM ");
    sql_table(q, sql_source_table(o));
    sql_add(q, " AS t CROSS JOIN dataset AS d ON d.id = t.dataset_id");
    if (!has_day_obs)
        return;
    sql_add(q, " LEFT JOIN ");
    sql_table(q, o->s->elements[t->day_obs_source].table);
    sql_add(q, " AS x");
    sql_add_day_obs_key(o, " ON ");
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
static int read_page(const struct sql_source *o, struct sql_rows *rows, struct buffer *cursor,
                     uint32_t limit, bool *ret_end)
{
    uint32_t seen = 0;
    int r;
    while ((r = sql_step(o->q, rows)) > 0) {
        int64_t rowid = sql_integer(o->q, rows, COLUMN_PLACE);
        r = sql_hand_out(o, rows);
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

static int run_page(const struct sql_source *o, int64_t collection_id, const struct buffer *cursor,
                    struct sql_rows **ret_rows)
{
    struct value values[] = {value_integer(o->t->id), value_integer(0),
                             value_integer(cursor_read(cursor))};
    if (!sql_collection_key(o->q, o->s, collection_id, &values[1]))
        return 0;
    sqlite_select(o);
    buffer_format(&o->q->text,
                  " WHERE t.dataset_type_id = ?1 AND t.%s = ?2 AND t.rowid > ?3 ORDER BY t.rowid",
                  sql_collection_column(o->q));
    return sql_run(o->q, values, 3, ret_rows);
}

int sqlite_page(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                int64_t collection_id, struct buffer *cursor, uint32_t limit, registry_each *each,
                void *context, bool *ret_end, uint64_t *ret_mark)
{
    struct sqlite *q = sqlite_of_registry(r);
    struct sql_source o = {&q->sql, s, t, sql_is_calibs(s, collection_id), each, context};
    struct sql_rows *rows = NULL;
    uint64_t mark;
    bool is_end = true;
    int result = sqlite_enter_verb(&q->sql);
    if (result == 0)
        result = sqlite_begin_marked(q, &mark);
    if (result < 0)
        return result;
    if (!o.is_calibs || t->calibs_table.size_bytes)
        result = run_page(&o, collection_id, cursor, &rows);
    if (result == 0 && rows)
        result = read_page(&o, rows, cursor, limit, &is_end);
    sql_done(&q->sql, &rows);
    sqlite_end(&q->sql);
    if (result == 0) {
        *ret_end = is_end;
        *ret_mark = mark;
    }
    return result;
}
