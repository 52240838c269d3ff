// SPDX-License-Identifier: BSD-3-Clause
// Whether something has changed since it was read, without reading it again.
//
// 1. Each row says which transaction wrote it (xmin, which freezing leaves as it is), and no two write the same row: what
//    is there is what it was if as many rows have the same sum of hashes of these. It is exact, on a standby too.
// 2. Rows of the records' tables are in no order that a set's rows could be found in. Of those only is asked how many
//    were ever deleted and changed, which the server counts for each table: backends tell it up to some ten seconds late,
//    a standby doesn't know it, and it may be switched off.
// 3. It never counts for longer than a listing of some folder: what is too large for that has no digest.
#include <stdlib.h>

#include "base/hash.h"
#include "base/log.h"
#include "meta/registry/postgres_internal.h"

#define ROWS_SUM "count(*)::text, coalesce(sum(pg_catalog.hashtext(xmin::text)), 0)::text"
#define LIMIT_PARTS 4 // of the time limit

static void add_small_tables(struct sql *q)
{
    static const char *const tables[] = {"butler_attributes", "dataset_type", "collection", "collection_chain",
                                         "collection_summary_dataset_type"};
    sql_start(q, "");
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        buffer_format(&q->text, "%sSELECT '%zu', " ROWS_SUM " FROM ", i ? " UNION ALL " : "", i);
        sql_table(q, text_of(tables[i]));
    }
    sql_add(q, " ORDER BY 1");
}

static void add_rows(struct sql *q, struct text table, const char *array)
{
    const char *column = sql_collection_column(q);
    buffer_format(&q->text, "SELECT %s::text AS c, " ROWS_SUM " FROM ", column);
    sql_table(q, table);
    buffer_format(&q->text, " WHERE dataset_type_id = $1 AND %s = ANY(%s) GROUP BY %s", column, array, column);
}

// "SELECT <which>, <deleted>, <changed> FROM ...": no row where it isn't counted.
static void add_records(struct sql *q)
{
    for (uint32_t i = 0; i < q->datastore_count; i++) {
        if (q->records_missing[i])
            continue;
        sql_add(q, " UNION ALL SELECT 'records', pg_catalog.pg_stat_get_tuples_deleted(c)::text,"
                   " pg_catalog.pg_stat_get_tuples_updated(c)::text FROM pg_catalog.to_regclass(");
        struct buffer statement = q->text;
        q->text = (struct buffer){0};
        sql_table(q, text_of(q->records_tables[i]));
        struct buffer name = q->text;
        q->text = statement;
        sql_literal(q, buffer_text(&name));
        buffer_release(&name);
        sql_add(q, ") AS c");
    }
}

// 0: it can't be told.
static int read_digest(struct sql *q, const struct value *values, uint32_t count, uint64_t digest, uint64_t *ret_digest)
{
    struct sql_rows *rows = NULL;
    bool is_told = true;
    int r = sql_run(q, values, count, &rows);
    while (r == 0 && (r = sql_step(q, rows)) > 0) {
        for (int i = 0; i < 3; i++) {
            struct text t = sql_text(q, rows, i);
            digest = hash64_seed(t.data, t.size_bytes, digest + (uint64_t)i);
            is_told = is_told && sql_kind(q, rows, i) == FIELD_TEXT;
        }
        r = 0;
    }
    sql_done(q, &rows);
    if (r == 0)
        *ret_digest = is_told ? digest | 1 : 0;
    return r;
}

static int rows_digest(struct sql *q, const struct snapshot *s, const struct dataset_type *t, const int64_t *collections,
                       uint32_t count, uint64_t *ret_digest)
{
    BUFFER_CLEANUP plain = {0};
    BUFFER_CLEANUP calibs = {0};
    uint32_t given = 2, plain_count = sql_collections(q, s, collections, count, false, &plain);
    bool has_calibs = sql_collections(q, s, collections, count, true, &calibs) > 0 && t->calibs_table.size_bytes;
    struct value values[] = {value_integer(t->id), value_text(buffer_text(plain_count ? &plain : &calibs)),
                             value_text(buffer_text(&calibs))};
    int r = postgres_look(q);
    if (r < 0 || (plain_count == 0 && !has_calibs))
        return r;
    sql_start(q, "SELECT * FROM (");
    if (plain_count)
        add_rows(q, t->tags_table, "$2");
    sql_add(q, plain_count && has_calibs ? " UNION ALL " : "");
    if (has_calibs)
        add_rows(q, t->calibs_table, plain_count ? "$3" : "$2");
    given += plain_count && has_calibs;
    add_records(q);
    sql_add(q, " UNION ALL SELECT 'counted', CASE WHEN pg_catalog.pg_is_in_recovery() THEN NULL ELSE ''::text END,"
               " nullif(pg_catalog.current_setting('track_counts'), 'off')) AS d ORDER BY 1, 2, 3");
    return read_digest(q, values, given, hash64(collections, count * sizeof *collections), ret_digest);
}

int postgres_digest(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                    const int64_t *collections, uint32_t count, uint64_t *ret_digest)
{
    struct sql *q = sql_of(r);
    struct postgres *p = postgres_of(q);
    *ret_digest = 0;
    if (p->has_no_digest)
        return 0;
    int result = sql_begin_verb(q);
    if (result < 0)
        return result;
    p->statement_ns = r->limit_ns / LIMIT_PARTS;
    if (t) {
        result = rows_digest(q, s, t, collections, count, ret_digest);
    } else {
        add_small_tables(q);
        result = read_digest(q, NULL, 0, 1, ret_digest);
    }
    p->statement_ns = 0;
    postgres_end(q);
    if (result == -ETIMEDOUT && p->is_cancelled)
        return 0; // invariant 3
    p->has_no_digest = result == -EIO && !postgres_is_lost(p);
    return p->has_no_digest ? 0 : result;
}
