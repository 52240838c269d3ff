// SPDX-License-Identifier: BSD-3-Clause
// What is in a folder. Of one of files: its datasets, those whose data ID begins, in the tree's order, with the
// folder's values. Of one of folders: for each value of the next level one dataset that is stored, so that there is
// a folder for it.
//
// 1. The tree's order isn't the index's: of a visit's folder the index (dataset type, collection, instrument, detector,
//    visit) knows all but the detectors, which stand before the visit. So where a column isn't known and a later one
//    is, the values that it may have come from its own small table, and each is one probe of the index (a condition
//    on the visit alone reads the visit's rows of all collections, or all visits of this one).
// 2. The values of the next level come from its table as well, and each is probed until a dataset is found. A day is
//    there if one of its visits is: first one of them is tried, which mostly tells; then the range of their numbers, one
//    probe per detector, each row found being looked at, as numbers needn't follow the days.
// 3. Rows that stand for folders are asked for no more than their data ID: what else a row has is made up, and a dataset's
//    own row and its files, which lie all over their tables, aren't read.
// 4. Scalar subqueries, as they are probes whatever the planner thinks of its tables: an EXISTS may become a hash of
//    all of one. OFFSET 0 around what comes first, and an order that an index has where one row will do: or the planner,
//    who takes a few rows of a table for a beginning of it, looks for them from its beginning to its end.
#include "base/log.h"
#include "meta/registry/postgres_internal.h"

// Of a (collection, type): reading them all is about as quick then, and much quicker than looking for days and visits
// that aren't there, as a small collection has most of them not.
#define FEW_ROWS 20000
#define LEVEL_LIMIT_PARTS 4 // of the time limit: how long a folder's names are looked for before all of it is read

struct folder {
    struct sql_source source;
    uint32_t depth;
    uint32_t wanted;  // the column whose values are, or whose element's days are; INDEX_NONE: datasets are
    bool is_of_days;
    bool is_chain;
    const struct value *values;
    struct value given[2 + LEVELS_MAX];
    uint32_t given_count;
    uint32_t given_as[LEVELS_MAX]; // parameters' numbers, by level; 0: not given yet
};

static void add_known(struct folder *f, uint32_t level)
{
    if (!f->given_as[level]) {
        f->given[f->given_count++] = f->values[level];
        f->given_as[level] = f->given_count;
    }
    sql_add(f->source.q, " = ");
    sql_parameter(f->source.q, f->given_as[level]);
}

// What a day_obs that isn't known (NULL in old universes) is called in the tree.
static bool is_no_day(const struct value *v)
{
    return v->kind == VALUE_INTEGER ? v->integer == 0 : v->text.size_bytes == 0;
}

// "<before> <what is known of the key of e's table>", with the day where that is asked for.
static void add_key(struct folder *f, const struct element *e, bool has_day, const char *before)
{
    struct sql *q = f->source.q;
    const struct snapshot *s = f->source.s;
    for (uint32_t i = 0; i < f->depth; i++) {
        const struct level *level = &f->source.t->levels[i];
        bool is_key = false;
        for (uint32_t k = 0; k < e->required_count; k++)
            is_key = is_key || e->required[k] == level->element;
        if (level->is_implied ? !has_day : !is_key)
            continue;
        bool is_unknown = level->is_implied && is_no_day(&f->values[i]);
        sql_add(q, before);
        sql_add(q, is_unknown ? "(" : "");
        sql_name(q, level->is_implied ? TEXT("day_obs") : s->elements[level->element].name);
        add_known(f, i);
        sql_add(q, is_unknown ? " OR day_obs IS NULL)" : "");
        before = " AND ";
    }
}

// "SELECT <value> AS k FROM <its table> WHERE <what is known>": the values that the element may have.
static void add_values(struct folder *f, uint32_t element)
{
    struct sql *q = f->source.q;
    const struct element *e = &f->source.s->elements[element];
    const struct element *table = registry_values_table(f->source.s, element);
    sql_add(q, table == e ? "SELECT " : "SELECT DISTINCT ");
    sql_name(q, table == e ? e->key_column : e->name);
    sql_add(q, " AS k FROM ");
    sql_table(q, table->table);
    add_key(f, table, element == f->source.t->day_obs_source, " WHERE ");
}

// "SELECT id, day_obs FROM <visits> WHERE day_obs <which> v.k ...".
static void add_day(struct folder *f, const struct element *e, const char *which, const char *end)
{
    struct sql *q = f->source.q;
    sql_add(q, "SELECT ");
    sql_name(q, e->key_column);
    sql_add(q, " AS id, day_obs FROM ");
    sql_table(q, e->table);
    buffer_format(&q->text, " WHERE day_obs %s v.k", which);
    add_key(f, e, false, " AND ");
    sql_add(q, end);
}

// Of the column that is wanted.
static void add_wanted(struct folder *f, const struct element *e, bool by_range)
{
    struct sql *q = f->source.q;
    if (!f->is_of_days) {
        sql_add(q, " = v.k");
    } else if (!by_range) {
        sql_add(q, " = (SELECT CASE WHEN w.day_obs = v.k THEN w.id END FROM (");
        add_day(f, e, ">=", " ORDER BY day_obs LIMIT 1) AS w)");
    } else {
        sql_add(q, " BETWEEN (SELECT min(id) FROM (");
        add_day(f, e, "=", " OFFSET 0) AS w) AND (SELECT max(id) FROM (");
        add_day(f, e, "=", " OFFSET 0) AS w) AND v.k = (SELECT w.day_obs FROM ");
        sql_table(q, e->table);
        sql_add(q, " AS w");
        for (uint32_t i = 0; i < e->required_count; i++) {
            sql_add(q, i ? " AND w." : " WHERE w.");
            sql_name(q, sql_key_column(f->source.s, e, e->required[i]));
            sql_add(q, " = c.");
            sql_name(q, f->source.s->elements[e->required[i]].name);
        }
        sql_add(q, ")");
    }
}

static void add_conditions(struct folder *f, bool by_range)
{
    const struct dataset_type *t = f->source.t;
    struct sql *q = f->source.q;
    uint32_t last = registry_folder_columns(f->source.s, t, f->depth);
    for (uint32_t i = 0; i < last; i++) {
        uint32_t at = t->columns[i], element = t->levels[at].element;
        sql_add(q, " AND c.");
        sql_name(q, sql_column(&f->source, i));
        if (i == f->wanted) {
            add_wanted(f, &f->source.s->elements[element], by_range);
        } else if (at < f->depth) {
            add_known(f, at);
        } else {
            sql_add(q, " = ANY(ARRAY(");
            add_values(f, element);
            sql_add(q, "))");
        }
    }
}

// c has a file in any datastore.
static void add_is_stored(struct folder *f)
{
    struct sql *q = f->source.q;
    const char *between = " AND coalesce(";
    for (uint32_t i = 0; i < q->datastore_count; i++) {
        if (q->records_missing[i])
            continue;
        sql_add(q, between);
        sql_add(q, "(SELECT 1 FROM ");
        sql_table(q, text_of(q->records_tables[i]));
        sql_add(q, " WHERE dataset_id = c.dataset_id LIMIT 1)");
        between = ", ";
    }
    sql_add(q, ") = 1");
}

// No collection before c's has its data ID.
static void add_is_first(struct folder *f)
{
    struct sql *q = f->source.q;
    const char *column = sql_collection_column(q), *type = q->is_keyed_by_name ? "text" : "bigint";
    sql_add(q, " AND (SELECT 1 FROM ");
    sql_table(q, f->source.t->tags_table);
    buffer_format(&q->text, " AS w WHERE w.dataset_type_id = $1 AND w.%s = ANY(($2::%s[])[1:array_position($2::%s[], c.%s) - 1])",
                  column, type, type, column);
    for (uint32_t i = 0; i < f->source.t->required_count; i++) {
        sql_add(q, " AND w.");
        sql_name(q, sql_column(&f->source, i));
        sql_add(q, " = c.");
        sql_name(q, sql_column(&f->source, i));
    }
    sql_add(q, " LIMIT 1) IS NULL");
}

// One that makes a folder of v.k.
static void add_probe(struct folder *f, bool by_range)
{
    postgres_add_ranked(&f->source);
    add_conditions(f, by_range);
    add_is_stored(f);
    if (f->is_chain)
        add_is_first(f);
    sql_add(f->source.q, " LIMIT 1");
}

// In the index's order, or the planner may look for them all over the table.
static void add_are_many(struct folder *f)
{
    struct sql *q = f->source.q;
    buffer_format(&q->text, "(SELECT 1 FROM unnest($2::%s[]) AS m(id) CROSS JOIN LATERAL (SELECT 1 FROM ",
                  q->is_keyed_by_name ? "text" : "bigint");
    sql_table(q, f->source.t->tags_table);
    buffer_format(&q->text, " WHERE dataset_type_id = $1 AND %s = m.id", sql_collection_column(q));
    postgres_add_columns(&f->source, " ORDER BY ", "");
    buffer_format(&q->text, " LIMIT %d) AS w OFFSET %d LIMIT 1) = 1", FEW_ROWS + 1, FEW_ROWS);
}

// Invariant 3: as postgres_select has them.
static void select_level(struct folder *f)
{
    struct sql *q = f->source.q;
    const char *column = sql_collection_column(q);
    buffer_format(&q->text, "SELECT 0, t.%s, t.dataset_id, t.%s, NULL, %s, NULL, NULL, NULL, NULL", column, column,
                  f->source.t->day_obs_source != INDEX_NONE ? "x.day_obs" : "NULL");
    postgres_add_columns(&f->source, ", ", "t.");
    sql_add(q, ", 0, '', 'x', '', NULL, 0 FROM (");
}

static void add_level(struct folder *f)
{
    struct sql *q = f->source.q;
    sql_add(q, "SELECT r.* FROM (");
    add_values(f, f->source.t->levels[f->depth].element);
    sql_add(q, " OFFSET 0) AS v CROSS JOIN LATERAL (");
    if (f->is_of_days) {
        sql_add(q, "SELECT * FROM ((");
        add_probe(f, false);
        sql_add(q, ") UNION ALL (");
        add_probe(f, true);
        sql_add(q, ")) AS w LIMIT 1");
    } else {
        add_probe(f, false);
    }
    sql_add(q, ") AS r WHERE ");
    add_are_many(f);
}

static int run_folder(struct folder *f, uint32_t limit, struct sql_rows **ret_rows)
{
    struct sql *q = f->source.q;
    int r = postgres_look(q);
    if (r < 0)
        return r;
    if (f->wanted != INDEX_NONE && !postgres_has_records(q))
        return -E2BIG;
    if (f->wanted != INDEX_NONE) {
        sql_start(q, "");
        select_level(f);
        add_level(f);
        buffer_format(&q->text, " LIMIT %u) AS t", limit + 1);
        postgres_add_day_obs(&f->source);
    } else {
        postgres_select(&f->source);
        postgres_add_ranked(&f->source);
        add_conditions(f, false);
        buffer_format(&q->text, " LIMIT %u", limit + 1);
        postgres_join(&f->source, "t.rank");
    }
    return sql_run(q, f->given, f->given_count, ret_rows);
}

// No row came: it is an empty folder, or they were too few to be looked for.
static int refuse_few(struct folder *f)
{
    sql_start(f->source.q, "SELECT 1 WHERE coalesce(");
    add_are_many(f);
    sql_add(f->source.q, ", false) = false");
    int r = sql_has_row(f->source.q, f->given, 2);
    return r > 0 ? -E2BIG : r;
}

static int hand_out_rows(struct folder *f, struct sql_rows *rows, uint32_t limit)
{
    bool is_level = f->wanted != INDEX_NONE;
    uint32_t seen = 0;
    int r;
    while ((r = sql_step(f->source.q, rows)) > 0) {
        r = ++seen > limit ? -E2BIG : sql_hand_out(&f->source, rows);
        if (r == 0 && is_level)
            r = -E2BIG; // refused: there may be a good one with this value
        if (r < 0)
            return r;
    }
    return r == 0 && is_level && seen == 0 ? refuse_few(f) : r;
}

int postgres_folder(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                    const int64_t *collections, uint32_t count, const struct value *values,
                    uint32_t depth, uint32_t limit, registry_each *each, void *context)
{
    struct folder f = {.source = {sql_of(r), s, t, false, each, context},
                       .depth = depth,
                       .wanted = registry_wanted_column(t, depth),
                       .values = values,
                       .given = {value_integer(t->id)},
                       .given_count = 2};
    struct sql *q = f.source.q;
    struct postgres *p = postgres_of(q);
    struct sql_rows *rows = NULL;
    BUFFER_CLEANUP array = {0};
    f.is_of_days = f.wanted != INDEX_NONE && t->levels[depth].is_implied;
    f.is_chain = count > 1;
    if (!sql_collections(q, s, collections, count, false, &array))
        return 0;
    f.given[1] = value_text(buffer_text(&array));
    int result = sql_begin_verb(q);
    if (result < 0)
        return result;
    p->statement_ns = f.wanted == INDEX_NONE ? 0 : r->limit_ns / LEVEL_LIMIT_PARTS;
    result = run_folder(&f, limit, &rows);
    if (result == 0)
        result = hand_out_rows(&f, rows, limit);
    if (result == -ETIMEDOUT && p->is_cancelled && p->statement_ns)
        result = -E2BIG;
    p->statement_ns = 0;
    sql_done(q, &rows);
    postgres_end(q);
    return result < 0 ? result : 0;
}
