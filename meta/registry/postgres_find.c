// SPDX-License-Identifier: BSD-3-Clause
// Datasets by their data ID, in collections one after the other: one statement for all RUN and TAGGED ones,
// one for all CALIBRATION ones, each by its table's index once per collection.
#include <inttypes.h>

#include "meta/registry/postgres_internal.h"

#define AT_VALUES 3 // after the type and the collections

// The timespan of an entry; what is empty is found by any spelling of it, and by who asks for all time
// (timespan_finds).
static void add_span(struct sql *q, const struct registry_search *search)
{
    bool is_range = search->how == SEARCH_RANGE;
    const struct timespan *span = &search->span;
    if (is_range && timespan_is_empty(span)) {
        sql_add(q, " AND isempty(c.timespan)");
        return;
    }
    if (!is_range && timespan_equal(span, &TIMESPAN_ALWAYS))
        return;
    buffer_format(&q->text, " AND NOT isempty(c.timespan) AND " POSTGRES_BEGIN("c") " %s %" PRId64
                            " AND " POSTGRES_END("c") " %s %" PRId64,
                  is_range ? "=" : "<", is_range ? span->begin_tai_ns : span->end_tai_ns,
                  is_range ? "=" : ">", is_range ? span->end_tai_ns : span->begin_tai_ns);
}

void postgres_add_ranked(const struct sql_source *o)
{
    struct sql *q = o->q;
    const char *column = sql_collection_column(q);
    buffer_format(&q->text, "SELECT c.*, array_position($2::%s[], c.%s) AS rank FROM ",
                  q->is_keyed_by_name ? "text" : "bigint", column);
    sql_table(q, sql_source_table(o));
    buffer_format(&q->text, " AS c WHERE c.dataset_type_id = $1 AND c.%s = ANY($2)", column);
}

// The rows with the data ID.
static void add_found(const struct sql_source *o, const struct registry_search *search)
{
    struct sql *q = o->q;
    postgres_add_ranked(o);
    for (uint32_t i = 0; i < o->t->required_count; i++) {
        sql_add(q, " AND c.");
        sql_name(q, sql_column(o, i));
        sql_add(q, " = ");
        sql_parameter(q, AT_VALUES + i);
    }
    if (o->is_calibs)
        add_span(q, search);
}

// Of the first `count` collections, those of the one kind. *ret_rows stays NULL where there are none.
static int run_search(const struct sql_source *o, const struct registry_search *search, uint32_t count,
                      struct sql_rows **ret_rows)
{
    struct sql *q = o->q;
    BUFFER_CLEANUP array = {0};
    struct value values[LEVELS_MAX + AT_VALUES] = {value_integer(o->t->id)};
    if (!sql_search_wants(search, o->t, o->is_calibs) ||
        !sql_collections(q, o->s, search->collections, count, o->is_calibs, &array))
        return 0;
    values[1] = value_text(buffer_text(&array));
    for (uint32_t i = 0; i < o->t->required_count; i++)
        values[AT_VALUES - 1 + i] = search->values[o->t->columns[i]];
    int r = postgres_look(q);
    if (r < 0)
        return r;
    postgres_select(o);
    if (search->how == SEARCH_RANGE) {
        add_found(o, search);
    } else if (o->is_calibs) { // all of the first that has any
        sql_add(q, "SELECT r.* FROM (SELECT w.*, min(w.rank) OVER () AS first FROM (");
        add_found(o, search);
        sql_add(q, ") AS w) AS r WHERE r.rank = r.first");
    } else {
        add_found(o, search);
        sql_add(q, " ORDER BY rank LIMIT 1");
    }
    postgres_join(o, "t.rank");
    return sql_run(q, values, AT_VALUES - 1 + o->t->required_count, ret_rows);
}

// How many were handed out; those that are refused are none.
static int hand_out_all(const struct sql_source *o, struct sql_rows *rows)
{
    int count = 0, r = 0;
    while (rows && r >= 0 && (r = sql_step(o->q, rows)) > 0) {
        r = sql_hand_out(o, rows);
        count += r > 0;
    }
    return r < 0 ? r : count;
}

// How many collections stand before that of the first row; all, where there is none. The row is
// what the next step is at again.
static uint32_t before_first(const struct sql_source *o, const struct registry_search *search,
                             struct sql_rows *rows)
{
    int64_t id;
    uint32_t i = 0;
    if (!rows || sql_step(o->q, rows) <= 0)
        return search->count;
    if (sql_read_collection(o->q, rows, COLUMN_COLLECTION, &id))
        while (i < search->count && search->collections[i] != id)
            i++;
    rows->row--;
    return i;
}

int postgres_row(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                 const struct registry_search *search, registry_each *each, void *context)
{
    struct sql_source tags = {sql_of(r), s, t, false, each, context}, calibs = tags;
    struct sql_rows *rows = NULL, *entries = NULL;
    calibs.is_calibs = true;
    int result = sql_begin_verb(tags.q);
    if (result < 0)
        return result;
    result = run_search(&tags, search, search->count, &rows);
    if (result == 0)
        result = run_search(&calibs, search, before_first(&tags, search, rows), &entries);
    if (result == 0)
        result = hand_out_all(&calibs, entries);
    if (result == 0)
        result = hand_out_all(&tags, rows);
    sql_done(tags.q, &entries);
    sql_done(tags.q, &rows);
    postgres_end(tags.q);
    return result < 0 ? result : result > 0 ? 0 : -ENOENT;
}
