// SPDX-License-Identifier: BSD-3-Clause
// Everything small, read whole in one transaction. Columns come from the database itself: one
// statement asks for those of all tables, in order, and the tags and dimension tables are found in it.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "meta/registry/sql.h"

// The columns of all tables: `names` holds every name, one after the other.
struct schema_table {
    struct text name;
    uint32_t first, count; // of schema.columns
};

struct schema {
    struct buffer names;
    struct text *columns;   // data holds an offset until schema_fix
    size_t column_count, column_room;
    struct schema_table *tables; // by name
    size_t table_count, table_room;
};

struct reading {
    struct sql *q;
    struct snapshot *s;
    struct schema schema;
    char *why; // of the universe's trouble
};

static void schema_release(struct schema *c)
{
    buffer_release(&c->names);
    free(c->columns);
    free(c->tables);
}

// The text's place in `names`, kept as an offset while names may still move.
static struct text schema_keep(struct schema *c, struct text t)
{
    struct text kept = {(const char *)(uintptr_t)c->names.size_bytes, t.size_bytes};
    buffer_append_text(&c->names, t);
    buffer_append_byte(&c->names, 0);
    return kept;
}

static void schema_fix(struct schema *c)
{
    for (size_t i = 0; i < c->column_count; i++)
        c->columns[i].data = c->names.data + (uintptr_t)c->columns[i].data;
    for (size_t i = 0; i < c->table_count; i++)
        c->tables[i].name.data = c->names.data + (uintptr_t)c->tables[i].name.data;
}

static bool schema_is_last(const struct schema *c, struct text table)
{
    if (c->table_count == 0)
        return false;
    struct text last = c->tables[c->table_count - 1].name;
    last.data = c->names.data + (uintptr_t)last.data;
    return text_equal(last, table);
}

static void schema_add(struct schema *c, struct text table, struct text column)
{
    if (!schema_is_last(c, table)) {
        if (c->table_count == c->table_room) {
            c->table_room = c->table_room ? c->table_room * 2 : 128;
            c->tables = memory_grow(c->tables, c->table_room, sizeof *c->tables);
        }
        c->tables[c->table_count++] = (struct schema_table){
            .name = schema_keep(c, table),
            .first = (uint32_t)c->column_count,
        };
    }
    if (c->column_count == c->column_room) {
        c->column_room = c->column_room ? c->column_room * 2 : 1024;
        c->columns = memory_grow(c->columns, c->column_room, sizeof *c->columns);
    }
    c->columns[c->column_count++] = schema_keep(c, column);
    c->tables[c->table_count - 1].count++;
}

static const struct schema_table *schema_find(const struct schema *c, struct text name)
{
    size_t low = 0, high = c->table_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = text_compare(c->tables[middle].name, name);
        if (order == 0)
            return &c->tables[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

// Calls `row` for each row of q->text. Rows it answers -EBADMSG or -EEXIST to are refused, by `table`.
static int each_row(struct reading *g, struct text table,
                    int (*row)(struct reading *g, struct sql_rows *rows))
{
    struct sql_rows *rows = NULL;
    int r = sql_run_long(g->q, NULL, 0, &rows);
    while (r >= 0 && (r = sql_step(g->q, rows)) > 0) {
        r = row(g, rows);
        if (r == -EBADMSG || r == -EEXIST) {
            sql_refuse_row(g->q, table,
                           r == -EEXIST ? "its id or name stands already"
                                        : "it is not well-formed or names what is not there");
            r = 0;
        }
    }
    sql_done(g->q, &rows);
    return r;
}

static bool is_integer(struct reading *g, struct sql_rows *rows, int column)
{
    return sql_kind(g->q, rows, column) == FIELD_INTEGER;
}

static bool is_text(struct reading *g, struct sql_rows *rows, int column)
{
    return sql_kind(g->q, rows, column) == FIELD_TEXT;
}

// The text of a column that may be NULL (empty then).
static bool optional_text(struct reading *g, struct sql_rows *rows, int column,
                          struct text *ret_text)
{
    enum field_kind kind = sql_kind(g->q, rows, column);
    *ret_text = kind == FIELD_TEXT ? sql_text(g->q, rows, column) : TEXT("");
    return kind == FIELD_TEXT || kind == FIELD_NULL;
}

static int column_row(struct reading *g, struct sql_rows *rows)
{
    schema_add(&g->schema, sql_text(g->q, rows, 0), sql_text(g->q, rows, 1));
    return 0;
}

static int read_schema(struct reading *g)
{
    sql_start(g->q, "");
    g->q->dialect->columns(g->q);
    int r = each_row(g, TEXT("(all)"), column_row);
    schema_fix(&g->schema);
    return r;
}

static int universe_row(struct reading *g, struct sql_rows *rows)
{
    int r = snapshot_add_universe(g->s, sql_text(g->q, rows, 0), &g->why);
    return r == -EBADMSG ? -EPROTO : r; // not just this row's trouble
}

static int read_universe(struct reading *g)
{
    struct snapshot *s = g->s;
    sql_start(g->q, "SELECT value FROM ");
    sql_table(g->q, TEXT("butler_attributes"));
    sql_add(g->q, " WHERE name = 'config:dimensions.json'");
    int r = each_row(g, TEXT("butler_attributes"), universe_row);
    if (r == 0 && s->element_count == 0) {
        g->why = strdup("it has no dimension universe (config:dimensions.json)");
        return -EPROTO;
    }
    for (uint32_t i = 0; r == 0 && i < s->element_count; i++) {
        struct text name = s->elements[i].table;
        const struct schema_table *t = name.size_bytes ? schema_find(&g->schema, name) : NULL;
        if (t && snapshot_add_element_table(s, name, g->schema.columns + t->first, t->count) < 0)
            sql_refuse_row(g->q, name, "its columns are not those of the universe");
    }
    return r;
}

static bool is_own_column(const struct sql *q, struct text name)
{
    return text_equal(name, TEXT("dataset_type_id")) || text_equal(name, TEXT("dataset_id")) ||
           text_equal(name, text_of(sql_collection_column(q)));
}

static bool has_column(const struct reading *g, const struct schema_table *t, struct text name)
{
    for (uint32_t i = 0; i < t->count; i++)
        if (text_equal(g->schema.columns[t->first + i], name))
            return true;
    return false;
}

// What a calibs table must have: the columns of the data ID, as the tags table, and those of its own.
static bool is_calibs_table(const struct reading *g, struct text name, const struct text *data_id,
                            size_t count)
{
    const char *const *range = g->q->dialect->range_columns;
    const struct text own[] = {TEXT("dataset_type_id"), TEXT("dataset_id"),
                               text_of(sql_collection_column(g->q)), text_of(range[0]),
                               text_of(range[1])};
    const struct schema_table *t = schema_find(&g->schema, name);
    for (size_t i = 0; t && i < sizeof own / sizeof *own; i++)
        if (own[i].size_bytes && !has_column(g, t, own[i]))
            return false;
    for (size_t i = 0; t && i < count; i++)
        if (!has_column(g, t, data_id[i]))
            return false;
    return t;
}

static int type_row(struct reading *g, struct sql_rows *rows)
{
    struct text calibs, columns[LEVELS_MAX + 1];
    size_t count = 0;
    if (!is_integer(g, rows, 0) || !is_text(g, rows, 1) || !is_text(g, rows, 2) ||
        !is_text(g, rows, 3) || !optional_text(g, rows, 4, &calibs))
        return -EBADMSG;
    struct text tags = sql_text(g->q, rows, 3);
    const struct schema_table *t = schema_find(&g->schema, tags);
    for (uint32_t i = 0; t && i < t->count; i++) {
        struct text column = g->schema.columns[t->first + i];
        if (!is_own_column(g->q, column) && count <= LEVELS_MAX) // one too many is seen by the snapshot
            columns[count++] = column;
    }
    if (calibs.size_bytes && !is_calibs_table(g, calibs, columns, count)) {
        sql_refuse_row(g->q, calibs, "it is not a table of calibrations: nothing is shown of it");
        calibs = TEXT("");
    }
    int r = snapshot_add_type(g->s, sql_integer(g->q, rows, 0), sql_text(g->q, rows, 1),
                              sql_text(g->q, rows, 2), tags, calibs, t ? columns : NULL, count);
    if (r == 0 && !g->s->types[g->s->type_count - 1].is_readable)
        sql_refuse_row(g->q, tags, t ? "the table has a dimension that is not known: its dataset types are left out"
                                        : "the table is not there: its dataset types are left out");
    return r;
}

static int collection_row(struct reading *g, struct sql_rows *rows)
{
    struct text doc;
    int64_t id;
    if (!sql_read_collection(g->q, rows, 0, &id) || !is_text(g, rows, 1) ||
        !is_integer(g, rows, 2))
        return -EBADMSG;
    optional_text(g, rows, 3, &doc); // not worth refusing a collection for
    int64_t kind = sql_integer(g->q, rows, 2);
    if (kind < 0 || kind > INT16_MAX)
        return -EBADMSG;
    return snapshot_add_collection(g->s, id, sql_text(g->q, rows, 1), (int)kind, doc);
}

static int member_row(struct reading *g, struct sql_rows *rows)
{
    int64_t chain, child;
    if (!sql_read_collection(g->q, rows, 0, &chain) ||
        !sql_read_collection(g->q, rows, 1, &child))
        return -EBADMSG;
    return snapshot_add_member(g->s, chain, child);
}

static int summary_row(struct reading *g, struct sql_rows *rows)
{
    int64_t collection;
    if (!sql_read_collection(g->q, rows, 0, &collection) || !is_integer(g, rows, 1))
        return -EBADMSG;
    return snapshot_add_summary(g->s, collection, sql_integer(g->q, rows, 1));
}

static int read_all(struct reading *g)
{
    const struct {
        struct text table;
        const char *key, *rest, *order; // of the SELECT
        int (*row)(struct reading *g, struct sql_rows *rows);
    } parts[] = {
        {{"dataset_type", 12}, "id",
         ", name, storage_class, tag_association_table, calibration_association_table", "name",
         type_row},
        {{"collection", 10}, g->q->is_keyed_by_name ? "name" : "collection_id",
         ", name, type, doc", "1", collection_row},
        {{"collection_chain", 16}, "parent", ", child", "parent, position", member_row},
        {{"collection_summary_dataset_type", 31}, sql_collection_column(g->q),
         ", dataset_type_id", "1, 2", summary_row},
    };
    int r = read_schema(g);
    if (r == 0)
        r = read_universe(g);
    for (size_t i = 0; r == 0 && i < sizeof parts / sizeof *parts; i++) {
        sql_start(g->q, "SELECT ");
        sql_add(g->q, parts[i].key);
        sql_add(g->q, parts[i].rest);
        sql_add(g->q, " FROM ");
        sql_table(g->q, parts[i].table);
        sql_add(g->q, " ORDER BY ");
        sql_add(g->q, parts[i].order);
        r = each_row(g, parts[i].table, parts[i].row);
    }
    return r;
}

int sql_snapshot(struct registry *r, struct snapshot *s, char **ret_why)
{
    struct sql *q = sql_of(r);
    struct reading g = {.q = q, .s = s};
    int result = sql_begin_verb(q);
    if (result == 0) {
        result = read_all(&g);
        q->dialect->end(q);
    }
    schema_release(&g.schema);
    if (result == 0)
        result = snapshot_seal(s, &g.why);
    if (result < 0 && asprintf(ret_why, "%s: the registry %s can't be read: %s", q->source, q->name,
                               g.why ? g.why : strerror(-result)) < 0)
        abort();
    free(g.why);
    return result == -EPROTO ? -EBADMSG : result;
}
