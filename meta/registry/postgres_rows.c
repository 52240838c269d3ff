// SPDX-License-Identifier: BSD-3-Clause
// Datasets in PostgreSQL: the statement that reads them with their files, and pages of a (collection,
// dataset type).
//
// 1. One statement has it all: a row for each file of a dataset, one after the other. First the rows of the
//    tags (or calibs) table, few of them and by its index, then for each of these a look into the indexes of the
//    others. LATERAL with OFFSET 0 leaves the planner no other way: with thousands of rows a page it would take a
//    large table's scan for cheaper, and the more so the older its statistics are. LEFT, so that a row comes out
//    for each that a page's limit counted, whatever is missing behind it.
// 2. Pages go on after the last row's data ID as the database gave it, compared by the database: the order is
//    its collation's. It is the order of the unique index, so nothing is sorted and nothing skipped.
// 3. A page has as many rows as the database gives in good time: fewer after a slow one, more after a fast one.
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "meta/registry/postgres_internal.h"

#define PAGE_ROWS_FIRST 1000
#define PAGE_ROWS_LEAST 100
#define PAGE_ROWS_MOST 5000
#define PAGE_FAST_NS (NS_PER_S / 4)
#define FILE_COLUMNS 6 // datastore, component, path, storage class, checksum, size: a row's last ones

// ---------------------------------------------------------------------------------------------
// Files.

// Whether the next row is of the same dataset, found in the same place.
static bool goes_on(const struct sql_rows *rows)
{
    static const int same[] = {COLUMN_PLACE, COLUMN_COLLECTION, COLUMN_ID};
    if (rows->row + 1 >= rows->count)
        return false;
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        if (strcmp(PQgetvalue(rows->result, rows->row, same[i]),
                   PQgetvalue(rows->result, rows->row + 1, same[i])) != 0)
            return false;
    return true;
}

int postgres_files(struct sql *q, struct sql_rows *rows, uint32_t *ret_count)
{
    int column = PQnfields(rows->result) - FILE_COLUMNS;
    uint32_t count = 0;
    bool is_more = true, has_room = true;
    while (is_more) {
        int64_t store = postgres_kind(rows, column) == FIELD_INTEGER ? postgres_integer(rows, column) : -1;
        int64_t least = count ? q->files[count - 1].datastore : 0;
        if (has_room && store >= least && store < (int64_t)q->datastore_count)
            has_room = sql_add_file(q, rows, column + 1, (uint32_t)store, &count);
        is_more = goes_on(rows);
        rows->row += is_more;
    }
    *ret_count = count;
    return 0;
}

// The client makes a datastore's table when it first writes: as long as it isn't there, each verb looks.
int postgres_look(struct sql *q)
{
    struct postgres *p = postgres_of(q);
    if (p->has_looked)
        return 0;
    p->has_looked = true;
    for (uint32_t i = 0; i < q->datastore_count; i++) {
        if (!q->records_missing[i])
            continue;
        sql_start(q, "");
        q->dialect->tables(q);
        sql_literal(q, text_of(q->records_tables[i]));
        sql_add(q, ")");
        int r = sql_has_row(q, NULL, 0);
        if (r < 0)
            return r;
        q->records_missing[i] = r == 0;
    }
    return 0;
}

// ---------------------------------------------------------------------------------------------
// The statement.

void postgres_add_columns(const struct sql_source *o, const char *before, const char *alias)
{
    for (uint32_t i = 0; i < o->t->required_count; i++) {
        sql_add(o->q, i ? ", " : before);
        sql_add(o->q, alias);
        sql_name(o->q, sql_column(o, i));
    }
}

bool postgres_has_records(const struct sql *q)
{
    for (uint32_t i = 0; i < q->datastore_count; i++)
        if (!q->records_missing[i])
            return true;
    return false;
}

void postgres_add_day_obs(const struct sql_source *o)
{
    if (o->t->day_obs_source == INDEX_NONE)
        return;
    sql_add(o->q, " LEFT JOIN LATERAL (SELECT x.day_obs FROM ");
    sql_table(o->q, o->s->elements[o->t->day_obs_source].table);
    sql_add(o->q, " AS x");
    sql_add_day_obs_key(o, " WHERE ");
    sql_add(o->q, " OFFSET 0) AS x ON true");
}

void postgres_select(const struct sql_source *o)
{
    struct sql *q = o->q;
    sql_start(q, o->is_calibs ? "SELECT t.id" : "SELECT 0");
    buffer_format(&q->text, ", t.%s, t.dataset_id, d.%s, d.ingest_date, ", sql_collection_column(q),
                  sql_run_column(q));
    sql_add(q, o->t->day_obs_source != INDEX_NONE ? "x.day_obs, " : "NULL, ");
    if (o->is_calibs) {
        sql_add(q, POSTGRES_BEGIN("t") ", " POSTGRES_END("t"));
        sql_add_twins(o);
    } else {
        sql_add(q, "NULL, NULL, NULL, NULL");
    }
    postgres_add_columns(o, ", ", "t.");
    sql_add(q, o->is_calibs ? ", t.timespan::text" : "");
    sql_add(q, postgres_has_records(q) ? ", f.*" : ", NULL, NULL, NULL, NULL, NULL, NULL");
    sql_add(q, " FROM (");
}

static void add_records(struct sql *q)
{
    const char *between = " LEFT JOIN LATERAL (";
    for (uint32_t i = 0; i < q->datastore_count; i++) {
        if (q->records_missing[i])
            continue;
        sql_add(q, between);
        buffer_format(&q->text, "SELECT %u AS datastore, component, path, storage_class, checksum, file_size FROM ", i);
        sql_table(q, text_of(q->records_tables[i]));
        sql_add(q, " WHERE dataset_id = t.dataset_id");
        between = " UNION ALL ";
    }
    sql_add(q, " OFFSET 0) AS f ON true");
}

void postgres_join(const struct sql_source *o, const char *order)
{
    struct sql *q = o->q;
    sql_add(q, ") AS t LEFT JOIN LATERAL (SELECT ");
    buffer_format(&q->text, "%s, ingest_date FROM ", sql_run_column(q));
    sql_table(q, TEXT("dataset"));
    sql_add(q, " WHERE id = t.dataset_id OFFSET 0) AS d ON true");
    postgres_add_day_obs(o);
    if (postgres_has_records(q))
        add_records(q);
    sql_add(q, " ORDER BY ");
    sql_add(q, order ? order : "");
    postgres_add_columns(o, order ? ", " : "", "t.");
    if (order || o->t->required_count)
        sql_add(q, ", ");
    sql_add(q, o->is_calibs ? "t.timespan, t.id" : "t.dataset_id");
    sql_add(q, postgres_has_records(q) ? ", f.datastore, f.component COLLATE \"C\"" : "");
}

// ---------------------------------------------------------------------------------------------
// Pages. The cursor: the last row's values in the page's order, each a text and a NUL.

static uint32_t cursor_columns(const struct sql_source *o)
{
    return o->t->required_count + (o->is_calibs ? 2 : 0);
}

static void cursor_write(const struct sql_source *o, const struct sql_rows *rows, struct buffer *cursor)
{
    uint32_t count = o->t->required_count;
    buffer_clear(cursor);
    for (uint32_t i = 0; i < cursor_columns(o); i++) {
        // Of a calibs table the timespan stands after the data ID; then comes its own number.
        int column = i > count ? COLUMN_PLACE : COLUMN_FIRST + (int)i;
        buffer_append_string(cursor, PQgetvalue(rows->result, rows->row, column));
        buffer_append_byte(cursor, 0);
    }
}

static void cursor_read(const struct sql_source *o, const struct buffer *cursor, struct value *values)
{
    const char *at = cursor->data;
    for (uint32_t i = 0; i < cursor_columns(o); i++) {
        check(at < cursor->data + cursor->size_bytes);
        values[i] = value_text(text_of(at));
        at += values[i].text.size_bytes + 1;
    }
}

static void add_order(const struct sql_source *o, const char *before)
{
    postgres_add_columns(o, before, "");
    if (o->is_calibs)
        sql_add(o->q, o->t->required_count ? ", timespan, id" : before);
    if (o->is_calibs && !o->t->required_count)
        sql_add(o->q, "timespan, id");
}

static int run_page(const struct sql_source *o, int64_t collection_id, const struct buffer *cursor,
                    uint32_t limit, struct sql_rows **ret_rows)
{
    struct sql *q = o->q;
    struct value values[LEVELS_MAX + 4] = {value_integer(o->t->id)};
    uint32_t count = 2;
    if (!sql_collection_key(q, o->s, collection_id, &values[1]))
        return 0;
    int r = postgres_look(q);
    if (r < 0)
        return r;
    postgres_select(o);
    sql_add(q, "SELECT * FROM ");
    sql_table(q, sql_source_table(o));
    buffer_format(&q->text, " WHERE dataset_type_id = $1 AND %s = $2", sql_collection_column(q));
    if (cursor->size_bytes) {
        cursor_read(o, cursor, values + count);
        add_order(o, " AND (");
        sql_add(q, ") > (");
        for (uint32_t i = 0; i < cursor_columns(o); i++) {
            sql_add(q, i ? ", " : "");
            sql_parameter(q, ++count);
        }
        sql_add(q, ")");
    }
    add_order(o, " ORDER BY ");
    buffer_format(&q->text, " LIMIT %u", limit);
    postgres_join(o, NULL);
    return sql_run(q, values, count, ret_rows);
}

// Invariant 3.
static void learn_pace(struct postgres *p, int64_t took_ns, int result)
{
    bool is_slow = result == -ETIMEDOUT || took_ns > p->sql.registry.limit_ns / 4;
    if (is_slow && p->page_rows > PAGE_ROWS_LEAST)
        p->page_rows /= 2;
    else if (!is_slow && took_ns < PAGE_FAST_NS && p->page_rows < PAGE_ROWS_MOST)
        p->page_rows *= 2;
}

static int read_page(const struct sql_source *o, struct sql_rows *rows, struct buffer *cursor,
                     uint32_t limit, bool *ret_end)
{
    uint32_t seen = 0;
    int r;
    while ((r = sql_step(o->q, rows)) > 0) {
        r = sql_hand_out(o, rows); // and goes to the last of its rows
        if (r < 0)
            return r;
        if (++seen == limit)
            cursor_write(o, rows, cursor);
    }
    *ret_end = seen < limit || cursor->size_bytes == 0;
    return r;
}

int postgres_page(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                  int64_t collection_id, struct buffer *cursor, uint32_t limit, registry_each *each,
                  void *context, bool *ret_end, uint64_t *ret_mark)
{
    struct postgres *p = postgres_of(sql_of(r));
    struct sql_source o = {&p->sql, s, t, sql_is_calibs(s, collection_id), each, context};
    struct sql_rows *rows = NULL;
    int64_t begin = clock_ns();
    bool is_end = true;
    if (p->page_rows == 0)
        p->page_rows = PAGE_ROWS_FIRST;
    limit = limit < p->page_rows ? limit : p->page_rows;
    int result = sql_begin_verb(&p->sql);
    if (result < 0)
        return result;
    if (!o.is_calibs || t->calibs_table.size_bytes)
        result = run_page(&o, collection_id, cursor, limit, &rows);
    learn_pace(p, clock_ns() - begin, result);
    if (result == 0 && rows)
        result = read_page(&o, rows, cursor, limit, &is_end);
    sql_done(&p->sql, &rows);
    uint64_t mark = 0;
    if (result == 0)
        result = postgres_mark_of(p, &mark);
    postgres_end(&p->sql);
    if (result == 0) {
        *ret_end = is_end;
        *ret_mark = mark;
    }
    return result;
}

int postgres_run_dataset(const struct sql_source *o, const struct value *id, const struct value *run,
                         struct sql_rows **ret_rows)
{
    struct value values[] = {*id, *run};
    int r = postgres_look(o->q);
    if (r < 0)
        return r;
    postgres_select(o);
    sql_add(o->q, "SELECT * FROM ");
    sql_table(o->q, o->t->tags_table);
    buffer_format(&o->q->text, " WHERE dataset_id = $1 AND %s = $2", sql_collection_column(o->q));
    postgres_join(o, NULL);
    return sql_run(o->q, values, 2, ret_rows);
}
