// SPDX-License-Identifier: BSD-3-Clause
// Questions about folders: is there a row at all, may a `key=value` folder be entered, and what a
// data ID implies. Only point queries: by a dimension table's primary key, by its index on day_obs,
// or by a beginning of the tags table's unique index.
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "meta/registry/sqlite_internal.h"

static int begin_verb(struct sqlite *q)
{
    int r = sqlite_enter_verb(q);
    return r < 0 ? r : sqlite_begin(q, NULL);
}

// Whether q->sql, with these values for ?1, ?2, ..., has a row. >0, 0, -errno.
static int has_row(struct sqlite *q, const struct value *values, uint32_t count)
{
    sqlite3_stmt *statement = NULL;
    int r = sqlite_prepare(q, &statement);
    if (r == 0) {
        for (uint32_t i = 0; i < count; i++)
            sqlite_bind(statement, (int)i + 1, &values[i]);
        r = sqlite_step(q, statement);
    }
    sqlite_done(&statement);
    return r;
}

int sqlite_present(struct registry *r, const struct dataset_type *t, int64_t collection_id)
{
    struct sqlite *q = sqlite_of(r);
    struct value values[2] = {value_integer(t->id), value_integer(collection_id)};
    int result = sqlite_enter_verb(q);
    if (result < 0)
        return result;
    sql_start(q, "SELECT 1 FROM ");
    sql_name(q, t->tags_table);
    sql_add(q, " WHERE dataset_type_id = ?1 AND collection_id = ?2 LIMIT 1");
    return has_row(q, values, 2);
}

// ---------------------------------------------------------------------------------------------
// Entering.

struct entering {
    struct sqlite *q;
    const struct snapshot *s;
    const struct dataset_type *t;
    const int64_t *collections;
    uint32_t count;
    const struct value *values;
    uint32_t depth;
};

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

// Whether the element's table has a row with what is known of its key and, where it is what implies
// the day_obs, with that.
static int has_element(const struct entering *n, uint32_t index)
{
    const struct element *e = &n->s->elements[index];
    struct value values[LEVELS_MAX + 1];
    uint32_t count = 0, level, day_obs = day_obs_level(n);
    sql_start(n->q, "SELECT 1 FROM ");
    sql_name(n->q, e->table);
    sql_add(n->q, " WHERE 1");
    for (uint32_t i = 0; i < e->required_count; i++) {
        if ((level = entered_level(n, e->required[i])) == INDEX_NONE)
            continue;
        sql_add(n->q, " AND ");
        sql_name(n->q, e->required[i] == index ? e->key_column
                                               : n->s->elements[e->required[i]].name);
        values[count++] = n->values[level];
        buffer_format(&n->q->sql, " = ?%u", count);
    }
    if (index == n->t->day_obs_source && day_obs != INDEX_NONE) {
        struct value v = n->values[day_obs];
        bool is_unknown = v.kind == VALUE_INTEGER ? v.integer == 0 : v.text.size_bytes == 0;
        values[count++] = v;
        // Apart, as the OR would keep the index from being used.
        buffer_format(&n->q->sql, is_unknown ? " AND (day_obs = ?%u OR day_obs IS NULL)"
                                             : " AND day_obs = ?%u", count);
    }
    sql_add(n->q, " LIMIT 1");
    return has_row(n->q, values, count);
}

// Whether any of the collections has a row that begins with the level's value and those of the
// columns that stand before it in the index; yes, where one of these isn't known.
static int has_beginning(const struct entering *n, uint32_t level)
{
    const struct dataset_type *t = n->t;
    struct value values[LEVELS_MAX + 2] = {value_integer(t->id)};
    uint32_t count = 2, i = 0;
    sql_start(n->q, "SELECT 1 FROM ");
    sql_name(n->q, t->tags_table);
    sql_add(n->q, " WHERE dataset_type_id = ?1 AND collection_id = ?2");
    for (; i < t->required_count; i++) {
        uint32_t at = t->columns[i];
        if (at >= n->depth)
            return 1;
        sql_add(n->q, " AND ");
        sql_name(n->q, n->s->elements[t->levels[at].element].name);
        values[count++] = n->values[at];
        buffer_format(&n->q->sql, " = ?%u", count);
        if (at == level)
            break;
    }
    sql_add(n->q, " LIMIT 1");
    int r = 0;
    for (uint32_t c = 0; r == 0 && c < n->count; c++) {
        values[1] = value_integer(n->collections[c]);
        r = has_row(n->q, values, count);
    }
    return r;
}

static int may_enter(const struct entering *n)
{
    int r = 1;
    for (uint32_t i = 0; r > 0 && i < n->depth; i++) {
        const struct level *level = &n->t->levels[i];
        const struct element *e = &n->s->elements[level->element];
        if (level->is_implied) {
            // Once the exposure or visit is known its own look-up compares the day_obs too.
            if (entered_level(n, n->t->day_obs_source) == INDEX_NONE)
                r = has_element(n, n->t->day_obs_source);
        } else if (e->has_table) {
            r = has_element(n, level->element);
        } else {
            r = has_beginning(n, i);
        }
    }
    return r;
}

int sqlite_enter(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                 const int64_t *collections, uint32_t count, const struct value *values,
                 uint32_t depth)
{
    struct entering n = {sqlite_of(r), s, t, collections, count, values, depth};
    int result = begin_verb(n.q);
    if (result < 0)
        return result;
    result = may_enter(&n);
    sqlite_end(n.q);
    return result;
}

// ---------------------------------------------------------------------------------------------
// Implied values.

struct implying {
    struct sqlite *q;
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

static int learn(struct implying *m, uint32_t element, sqlite3_stmt *statement, int column)
{
    const struct element *e = &m->s->elements[element];
    int type = sqlite3_column_type(statement, column);
    if (m->is_known[element] ||
        type != (e->kind == VALUE_INTEGER ? SQLITE_INTEGER : SQLITE_TEXT))
        return 0;
    struct value v = value_integer(sqlite3_column_int64(statement, column));
    if (e->kind == VALUE_TEXT) {
        struct text t = sqlite_text(statement, column);
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
    uint32_t count = 0;
    sqlite3_stmt *statement = NULL;
    sql_start(m->q, "SELECT ");
    for (uint32_t i = 0; i < e->implied_count; i++) {
        sql_add(m->q, i ? ", " : "");
        sql_name(m->q, m->s->elements[e->implied[i]].name);
    }
    sql_add(m->q, " FROM ");
    sql_name(m->q, e->table);
    for (uint32_t i = 0; i < e->required_count; i++) {
        const struct element *required = &m->s->elements[e->required[i]];
        if (!m->is_known[e->required[i]] || count == LEVELS_MAX)
            return 0;
        sql_add(m->q, i ? " AND " : " WHERE ");
        sql_name(m->q, required == e ? e->key_column : required->name);
        values[count++] = m->known[e->required[i]];
        buffer_format(&m->q->sql, " = ?%u", count);
    }
    int r = sqlite_prepare(m->q, &statement);
    for (uint32_t i = 0; r == 0 && i < count; i++)
        sqlite_bind(statement, (int)i + 1, &values[i]);
    if (r == 0)
        r = sqlite_step(m->q, statement);
    for (uint32_t i = 0; r > 0 && i < e->implied_count; i++) {
        int answer = learn(m, e->implied[i], statement, (int)i);
        r = answer < 0 ? answer : 1;
    }
    sqlite_done(&statement);
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

int sqlite_implied(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                   const struct value *values,
                   int (*each)(const struct element *e, const struct value *v, void *context),
                   void *context)
{
    uint32_t count = s->element_count;
    struct implying m = {.q = sqlite_of(r), .s = s, .each = each, .context = context};
    int result = begin_verb(m.q);
    if (result < 0)
        return result;
    m.known = memory_new((count + 1) * sizeof *m.known);
    m.is_known = memory_new((count + 1) * sizeof *m.is_known);
    m.texts = memory_new((count + 1) * sizeof *m.texts);
    m.waiting = memory_new((count + 1) * sizeof *m.waiting);
    result = imply(&m, t, values);
    sqlite_end(m.q);
    for (uint32_t i = 0; i < count; i++)
        free(m.texts[i]);
    free(m.known);
    free(m.is_known);
    free(m.texts);
    free(m.waiting);
    return result;
}
