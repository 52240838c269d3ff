// SPDX-License-Identifier: BSD-3-Clause
// A dimension's row, by its primary key: its columns, and when it was.
#include "meta/registry/sql.h"

static struct field read_field(struct sql *q, struct sql_rows *rows, int column,
                               struct buffer *store)
{
    struct field f = {.kind = sql_kind(q, rows, column)};
    if (f.kind == FIELD_INTEGER)
        f.integer = sql_integer(q, rows, column);
    else if (f.kind == FIELD_REAL)
        f.real = q->dialect->real(rows, column);
    if (f.kind != FIELD_TEXT)
        return f;
    size_t from = store->size_bytes;
    f.text = sql_text(q, rows, column);
    buffer_append_text(store, f.text);
    f.text.data = (const char *)(uintptr_t)from; // until the store stays where it is
    return f;
}

int sql_record(struct registry *r, const struct snapshot *s, const struct element *e,
               const struct value *values, const struct text *columns, uint32_t count,
               struct field *ret_fields, struct buffer *store)
{
    struct sql *q = sql_of(r);
    struct sql_rows *rows = NULL;
    int result = sql_begin_verb(q);
    if (result < 0)
        return result;
    sql_start(q, "SELECT 1");
    for (uint32_t i = 0; i < count; i++) {
        sql_add(q, ", ");
        sql_name(q, columns[i]);
    }
    sql_add(q, " FROM ");
    sql_table(q, e->table);
    sql_where_key(q, s, e, 1);
    result = sql_run(q, values, e->required_count, &rows);
    if (result == 0)
        result = sql_step(q, rows);
    for (uint32_t i = 0; result > 0 && i < count; i++)
        ret_fields[i] = read_field(q, rows, (int)i + 1, store);
    for (uint32_t i = 0; result > 0 && i < count; i++)
        if (ret_fields[i].kind == FIELD_TEXT)
            ret_fields[i].text.data = buffer_text(store).data + (uintptr_t)ret_fields[i].text.data;
    sql_done(q, &rows);
    q->dialect->end(q);
    return result < 0 ? result : result > 0 ? 0 : -ENOENT;
}

int sql_timespan(struct registry *r, const struct snapshot *s, const struct element *e,
                 const struct value *values, struct timespan *ret_span)
{
    struct sql *q = sql_of(r);
    struct sql_rows *rows = NULL;
    int result = e->has_timespan ? sql_begin_verb(q) : -ENOENT;
    if (result < 0)
        return result;
    sql_start(q, "SELECT ");
    sql_add(q, q->dialect->span_columns);
    sql_add(q, " FROM ");
    sql_table(q, e->table);
    sql_add(q, " AS x");
    sql_where_key(q, s, e, 1);
    result = sql_run(q, values, e->required_count, &rows);
    if (result == 0)
        result = sql_step(q, rows);
    if (result > 0 && sql_read_span(q, rows, 0, ret_span) < 0)
        result = 0;
    sql_done(q, &rows);
    q->dialect->end(q);
    return result < 0 ? result : result > 0 ? 0 : -ENOENT;
}
