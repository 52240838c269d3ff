// SPDX-License-Identifier: BSD-3-Clause
// Datasets by their data ID or their id. Only by indexes.
#include "meta/registry/sqlite_internal.h"

// ---------------------------------------------------------------------------------------------
// One data ID.

enum { AT_TYPE = 1, AT_COLLECTION, AT_BEGIN, AT_END, AT_VALUES };

struct finding {
    struct sql_source source;
    const struct registry_search *search;
};

// What is empty is found by any spelling of it, and by who asks for all time (timespan_finds).
static void add_span(struct sql *q, const struct registry_search *search)
{
    if (search->how == SEARCH_AT && !timespan_equal(&search->span, &TIMESPAN_ALWAYS))
        buffer_format(&q->text, " AND t.timespan_end > ?%d AND t.timespan_begin < ?%d", AT_BEGIN, AT_END);
    else if (search->how == SEARCH_RANGE && timespan_is_empty(&search->span))
        sql_add(q, " AND t.timespan_begin >= t.timespan_end");
    else if (search->how == SEARCH_RANGE)
        buffer_format(&q->text, " AND t.timespan_begin = ?%d AND t.timespan_end = ?%d", AT_BEGIN, AT_END);
}

static void write_search(const struct finding *f)
{
    const struct sql_source *o = &f->source;
    sqlite_select(o);
    buffer_format(&o->q->text, " WHERE t.dataset_type_id = ?%d AND t.%s = ?%d", AT_TYPE,
                  sql_collection_column(o->q), AT_COLLECTION);
    for (uint32_t i = 0; i < o->t->required_count; i++) {
        sql_add(o->q, " AND t.");
        sql_name(o->q, sql_column(o, i));
        sql_add(o->q, " = ");
        sql_parameter(o->q, i + AT_VALUES);
    }
    if (o->is_calibs)
        add_span(o->q, f->search);
}

static int run_search(const struct finding *f, const struct value *key, struct sql_rows **ret_rows)
{
    const struct dataset_type *t = f->source.t;
    struct value values[LEVELS_MAX + AT_VALUES] = {
        value_integer(t->id), *key, value_integer(f->search->span.begin_tai_ns),
        value_integer(f->search->span.end_tai_ns)};
    for (uint32_t i = 0; i < t->required_count; i++)
        values[i + AT_VALUES - 1] = f->search->values[t->columns[i]];
    write_search(f);
    return sql_run(f->source.q, values, t->required_count + AT_VALUES - 1, ret_rows);
}

// How many rows of the collection were handed out; those that are refused are none.
static int find_in(struct finding *f, int64_t collection_id)
{
    struct sql_source *o = &f->source;
    struct sql_rows *rows = NULL;
    struct value key;
    o->is_calibs = sql_is_calibs(o->s, collection_id);
    if (!sql_search_wants(f->search, o->t, o->is_calibs) ||
        !sql_collection_key(o->q, o->s, collection_id, &key))
        return 0;
    int r = run_search(f, &key, &rows), count = 0;
    while (r == 0 && (r = sql_step(o->q, rows)) > 0) {
        r = sql_hand_out(o, rows);
        count += r > 0;
        r = r < 0 ? r : 0;
    }
    sql_done(o->q, &rows);
    return r < 0 ? r : count;
}

int sqlite_row(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
               const struct registry_search *search, registry_each *each, void *context)
{
    struct finding f = {{sql_of(r), s, t, false, each, context}, search};
    bool is_found = false;
    int result = sql_begin_verb(f.source.q);
    if (result < 0)
        return result;
    for (uint32_t i = 0; result >= 0 && i < search->count; i++) {
        result = find_in(&f, search->collections[i]);
        is_found = is_found || result > 0;
        if (is_found && search->how != SEARCH_RANGE)
            break;
    }
    sqlite_end(f.source.q);
    return result < 0 ? result : is_found ? 0 : -ENOENT;
}

// ---------------------------------------------------------------------------------------------
// One dataset.

int sqlite_run_dataset(const struct sql_source *o, const struct value *id, const struct value *run,
                       struct sql_rows **ret_rows)
{
    struct value values[] = {*id, *run};
    sqlite_select(o);
    buffer_format(&o->q->text, " WHERE t.dataset_id = ?1 AND t.%s = ?2", sql_collection_column(o->q));
    return sql_run(o->q, values, 2, ret_rows);
}
