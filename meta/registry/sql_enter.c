// SPDX-License-Identifier: BSD-3-Clause
// Questions about folders: is there a row at all, may a `key=value` folder be entered, and what a
// data ID implies. Only point queries: by a dimension table's primary key, by its index on day_obs,
// or by a beginning of the tags table's unique index.
#include <stdlib.h>

#include "base/log.h"
#include "meta/registry/sql.h"

#define GIVEN_MAX 256

// ---------------------------------------------------------------------------------------------
// Entering.

struct entering {
    struct sql *q;
    const struct snapshot *s;
    const struct dataset_type *t;
    const int64_t *collections;
    uint32_t count;
    const struct value *values;
    uint32_t depth;
    struct value given[GIVEN_MAX]; // the parameters of q->text
    uint32_t given_count;
};

// " = $n" for a value.
static void add_given(struct entering *n, const char *before, struct value v)
{
    check(n->given_count < GIVEN_MAX);
    n->given[n->given_count++] = v;
    sql_add(n->q, before);
    sql_parameter(n->q, n->given_count);
}

// The level of an element, if it is among those entered.
static uint32_t entered_level(const struct entering *n, uint32_t element)
{
    for (uint32_t i = 0; i < n->depth; i++)
        if (n->t->levels[i].element == element && !n->t->levels[i].is_implied)
            return i;
    return INDEX_NONE;
}

static uint32_t day_obs_level(const struct entering *n)
{
    for (uint32_t i = 0; i < n->depth; i++)
        if (n->t->levels[i].is_implied)
            return i;
    return INDEX_NONE;
}

// "EXISTS (...)": the element's table has a row with what is known of its key and, where it is what
// implies the day_obs, with that.
static void add_element(struct entering *n, uint32_t index)
{
    const struct element *e = &n->s->elements[index];
    uint32_t level, day_obs = day_obs_level(n);
    sql_add(n->q, "EXISTS (SELECT 1 FROM ");
    sql_table(n->q, e->table);
    sql_add(n->q, " WHERE 1 = 1");
    for (uint32_t i = 0; i < e->required_count; i++) {
        if ((level = entered_level(n, e->required[i])) == INDEX_NONE)
            continue;
        sql_add(n->q, " AND ");
        sql_name(n->q, sql_key_column(n->s, e, e->required[i]));
        add_given(n, " = ", n->values[level]);
    }
    if (index == n->t->day_obs_source && day_obs != INDEX_NONE) {
        struct value v = n->values[day_obs];
        bool is_unknown = v.kind == VALUE_INTEGER ? v.integer == 0 : v.text.size_bytes == 0;
        // Apart, as the OR would keep the index from being used.
        add_given(n, is_unknown ? " AND (day_obs = " : " AND day_obs = ", v);
        sql_add(n->q, is_unknown ? " OR day_obs IS NULL)" : "");
    }
    sql_add(n->q, ")");
}

// Whether all that have a table are there: one statement. >0, 0, -errno.
static int has_elements(struct entering *n)
{
    uint32_t count = 0;
    n->given_count = 0;
    sql_start(n->q, "SELECT 1 WHERE ");
    for (uint32_t i = 0; i < n->depth; i++) {
        const struct level *level = &n->t->levels[i];
        uint32_t element = level->element;
        // Once the exposure or visit is known its own look-up compares the day_obs too.
        if (level->is_implied)
            element = entered_level(n, n->t->day_obs_source) == INDEX_NONE ? n->t->day_obs_source : INDEX_NONE;
        else if (!n->s->elements[element].has_table)
            element = INDEX_NONE;
        if (element == INDEX_NONE)
            continue;
        sql_add(n->q, count++ ? " AND " : "");
        add_element(n, element);
    }
    return count ? sql_has_row(n->q, n->given, n->given_count) : 1;
}

// With the collection, or all of them, as the second parameter.
static int ask_collections(struct entering *n, bool is_calibs)
{
    struct sql *q = n->q;
    BUFFER_CLEANUP array = {0};
    if (q->dialect->has_arrays) {
        if (!sql_collections(q, n->s, n->collections, n->count, is_calibs, &array))
            return 0;
        n->given[1] = value_text(buffer_text(&array));
        return sql_has_row(q, n->given, n->given_count);
    }
    int r = 0;
    for (uint32_t c = 0; r == 0 && c < n->count; c++)
        if (sql_is_calibs(n->s, n->collections[c]) == is_calibs &&
            sql_collection_key(q, n->s, n->collections[c], &n->given[1]))
            r = sql_has_row(q, n->given, n->given_count);
    return r;
}

// Whether any of the collections, those kept in the one or the other table, has a row that begins with the
// level's value and those of the columns that stand before it in the index (INDEX_NONE: has a row);
// yes, where one of these isn't known.
static int has_beginning_in(struct entering *n, uint32_t level, bool is_calibs)
{
    const struct dataset_type *t = n->t;
    n->given_count = 0;
    sql_start(n->q, "SELECT 1 FROM ");
    sql_table(n->q, is_calibs ? t->calibs_table : t->tags_table);
    add_given(n, " WHERE dataset_type_id = ", value_integer(t->id));
    buffer_format(&n->q->text, " AND %s", sql_collection_column(n->q));
    add_given(n, n->q->dialect->has_arrays ? " = ANY(" : " = ", value_integer(0));
    sql_add(n->q, n->q->dialect->has_arrays ? ")" : "");
    for (uint32_t i = 0; level != INDEX_NONE && i < t->required_count; i++) {
        uint32_t at = t->columns[i];
        if (at >= n->depth)
            return 1;
        sql_add(n->q, " AND ");
        sql_name(n->q, n->s->elements[t->levels[at].element].name);
        add_given(n, " = ", n->values[at]);
        if (at == level)
            break;
    }
    sql_add(n->q, " LIMIT 1");
    return ask_collections(n, is_calibs);
}

static int has_beginning(struct entering *n, uint32_t level)
{
    int r = has_beginning_in(n, level, false);
    return r || n->t->calibs_table.size_bytes == 0 ? r : has_beginning_in(n, level, true);
}

static int may_enter(struct entering *n)
{
    int r = n->depth ? has_elements(n) : has_beginning(n, INDEX_NONE);
    for (uint32_t i = 0; r > 0 && i < n->depth; i++) {
        const struct level *level = &n->t->levels[i];
        if (!level->is_implied && !n->s->elements[level->element].has_table)
            r = has_beginning(n, i);
    }
    return r;
}

int sql_enter(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
              const int64_t *collections, uint32_t count, const struct value *values,
              uint32_t depth)
{
    struct entering n = {.q = sql_of(r), .s = s, .t = t, .collections = collections, .count = count,
                         .values = values, .depth = depth};
    int result = sql_begin_verb(n.q);
    if (result < 0)
        return result;
    result = may_enter(&n);
    n.q->dialect->end(n.q);
    return result;
}

// ---------------------------------------------------------------------------------------------
// Implied values.

struct implying {
    struct sql *q;
    const struct snapshot *s;
    struct value *known;   // by element
    bool *is_known;
    char **texts;          // copies, by element
    uint32_t *waiting;     // elements whose rows are to be read; each gets there once
    uint32_t waiting_count;
    int (*each)(const struct element *e, const struct value *v, void *context);
    void *context;
};

static void wait_for_row(struct implying *m, uint32_t element)
{
    const struct element *e = &m->s->elements[element];
    if (e->has_table && e->implied_count > 0)
        m->waiting[m->waiting_count++] = element;
}

static int learn(struct implying *m, uint32_t element, struct sql_rows *rows, int column)
{
    const struct element *e = &m->s->elements[element];
    if (m->is_known[element] || sql_kind(m->q, rows, column) !=
                                    (e->kind == VALUE_INTEGER ? FIELD_INTEGER : FIELD_TEXT))
        return 0;
    struct value v;
    if (e->kind == VALUE_INTEGER) {
        v = value_integer(sql_integer(m->q, rows, column));
    } else {
        struct text t = sql_text(m->q, rows, column);
        m->texts[element] = memory_copy(t.data, t.size_bytes);
        v = value_text((struct text){m->texts[element], t.size_bytes});
    }
    m->known[element] = v;
    m->is_known[element] = true;
    wait_for_row(m, element);
    return m->each(e, &v, m->context);
}

static int read_implied(struct implying *m, const struct element *e)
{
    struct value values[LEVELS_MAX];
    struct sql_rows *rows = NULL;
    sql_start(m->q, "SELECT ");
    for (uint32_t i = 0; i < e->implied_count; i++) {
        sql_add(m->q, i ? ", " : "");
        sql_name(m->q, m->s->elements[e->implied[i]].name);
    }
    sql_add(m->q, " FROM ");
    sql_table(m->q, e->table);
    for (uint32_t i = 0; i < e->required_count; i++) {
        if (!m->is_known[e->required[i]] || i == LEVELS_MAX)
            return 0;
        values[i] = m->known[e->required[i]];
    }
    sql_where_key(m->q, m->s, e, 1);
    int r = sql_run(m->q, values, e->required_count, &rows);
    if (r == 0)
        r = sql_step(m->q, rows);
    for (uint32_t i = 0; r > 0 && i < e->implied_count; i++) {
        int answer = learn(m, e->implied[i], rows, (int)i);
        r = answer < 0 ? answer : 1;
    }
    sql_done(m->q, &rows);
    return r < 0 ? r : 0;
}

static int imply(struct implying *m, const struct dataset_type *t, const struct value *values)
{
    for (uint32_t i = 0; i < t->level_count; i++) {
        uint32_t element = t->levels[i].element;
        if (t->levels[i].is_implied)
            continue;
        m->known[element] = values[i];
        m->is_known[element] = true;
        wait_for_row(m, element);
    }
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < m->waiting_count; i++)
        r = read_implied(m, &m->s->elements[m->waiting[i]]);
    return r;
}

int sql_implied(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                   const struct value *values,
                   int (*each)(const struct element *e, const struct value *v, void *context),
                   void *context)
{
    uint32_t count = s->element_count;
    struct implying m = {.q = sql_of(r), .s = s, .each = each, .context = context};
    int result = sql_begin_verb(m.q);
    if (result < 0)
        return result;
    m.known = memory_new((count + 1) * sizeof *m.known);
    m.is_known = memory_new((count + 1) * sizeof *m.is_known);
    m.texts = memory_new((count + 1) * sizeof *m.texts);
    m.waiting = memory_new((count + 1) * sizeof *m.waiting);
    result = imply(&m, t, values);
    m.q->dialect->end(m.q);
    for (uint32_t i = 0; i < count; i++)
        free(m.texts[i]);
    free(m.known);
    free(m.is_known);
    free(m.texts);
    free(m.waiting);
    return result;
}
