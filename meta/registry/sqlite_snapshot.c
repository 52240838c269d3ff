// SPDX-License-Identifier: BSD-3-Clause
// Everything small, read whole in one transaction. Columns come from the database itself: one
// statement asks for those of all tables, in order, and the tags and dimension tables are found in it.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "meta/registry/sqlite_internal.h"

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
    struct sqlite *q;
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

// Calls `row` for each row of q->sql. Rows it answers -EBADMSG or -EEXIST to are refused, by `table`.
static int each_row(struct reading *g, struct text table,
                    int (*row)(struct reading *g, sqlite3_stmt *statement))
{
    sqlite3_stmt *statement = NULL;
    int r = sqlite_prepare(g->q, &statement);
    while (r >= 0 && (r = sqlite_step(g->q, statement)) > 0) {
        r = row(g, statement);
        if (r == -EBADMSG || r == -EEXIST) {
            sqlite_refuse_row(g->q, table,
                              r == -EEXIST ? "its id or name stands already"
                                           : "it is not well-formed or names what is not there");
            r = 0;
        }
    }
    sqlite_done(&statement);
    return r;
}

static bool is_integer(sqlite3_stmt *statement, int column)
{
    return sqlite3_column_type(statement, column) == SQLITE_INTEGER;
}

static bool is_text(sqlite3_stmt *statement, int column)
{
    return sqlite3_column_type(statement, column) == SQLITE_TEXT;
}

// The text of a column that may be NULL (empty then). The type is asked first: reading may change it.
static bool optional_text(sqlite3_stmt *statement, int column, struct text *ret_text)
{
    int type = sqlite3_column_type(statement, column);
    *ret_text = type == SQLITE_TEXT ? sqlite_text(statement, column) : TEXT("");
    return type == SQLITE_TEXT || type == SQLITE_NULL;
}

static int column_row(struct reading *g, sqlite3_stmt *statement)
{
    schema_add(&g->schema, sqlite_text(statement, 0), sqlite_text(statement, 1));
    return 0;
}

static int read_schema(struct reading *g)
{
    sql_start(g->q, "SELECT m.name, c.name FROM sqlite_schema AS m CROSS JOIN pragma_table_info(m.name) AS c"
                    " WHERE m.type = 'table' ORDER BY m.name, c.cid");
    int r = each_row(g, TEXT("sqlite_schema"), column_row);
    schema_fix(&g->schema);
    return r;
}

static int universe_row(struct reading *g, sqlite3_stmt *statement)
{
    int r = snapshot_add_universe(g->s, sqlite_text(statement, 0), &g->why);
    return r == -EBADMSG ? -EPROTO : r; // not just this row's trouble
}

static int read_universe(struct reading *g)
{
    struct snapshot *s = g->s;
    sql_start(g->q, "SELECT value FROM butler_attributes WHERE name = 'config:dimensions.json'");
    int r = each_row(g, TEXT("butler_attributes"), universe_row);
    if (r == 0 && s->element_count == 0) {
        g->why = strdup("it has no dimension universe (config:dimensions.json)");
        return -EPROTO;
    }
    for (uint32_t i = 0; r == 0 && i < s->element_count; i++) {
        struct text name = s->elements[i].table;
        const struct schema_table *t = name.size_bytes ? schema_find(&g->schema, name) : NULL;
        if (t && snapshot_add_element_table(s, name, g->schema.columns + t->first, t->count) < 0)
            sqlite_refuse_row(g->q, name, "its columns are not those of the universe");
    }
    return r;
}

static bool is_own_column(struct text name)
{
    return text_equal(name, TEXT("dataset_type_id")) || text_equal(name, TEXT("dataset_id")) ||
           text_equal(name, TEXT("collection_id"));
}

static int type_row(struct reading *g, sqlite3_stmt *statement)
{
    struct text calibs, columns[LEVELS_MAX + 1];
    size_t count = 0;
    if (!is_integer(statement, 0) || !is_text(statement, 1) || !is_text(statement, 2) ||
        !is_text(statement, 3) || !optional_text(statement, 4, &calibs))
        return -EBADMSG;
    struct text tags = sqlite_text(statement, 3);
    const struct schema_table *t = schema_find(&g->schema, tags);
    for (uint32_t i = 0; t && i < t->count; i++) {
        struct text column = g->schema.columns[t->first + i];
        if (!is_own_column(column) && count <= LEVELS_MAX) // one too many is seen by the snapshot
            columns[count++] = column;
    }
    int r = snapshot_add_type(g->s, sqlite3_column_int64(statement, 0), sqlite_text(statement, 1),
                              sqlite_text(statement, 2), tags, calibs, t ? columns : NULL, count);
    if (r == 0 && !g->s->types[g->s->type_count - 1].is_readable)
        sqlite_refuse_row(g->q, tags, t ? "the table has a dimension that is not known: its dataset types are left out"
                                        : "the table is not there: its dataset types are left out");
    return r;
}

static int collection_row(struct reading *g, sqlite3_stmt *statement)
{
    struct text doc;
    if (!is_integer(statement, 0) || !is_text(statement, 1) || !is_integer(statement, 2))
        return -EBADMSG;
    optional_text(statement, 3, &doc); // not worth refusing a collection for
    int64_t kind = sqlite3_column_int64(statement, 2);
    if (kind < 0 || kind > INT16_MAX)
        return -EBADMSG;
    return snapshot_add_collection(g->s, sqlite3_column_int64(statement, 0),
                                   sqlite_text(statement, 1), (int)kind, doc);
}

static int member_row(struct reading *g, sqlite3_stmt *statement)
{
    if (!is_integer(statement, 0) || !is_integer(statement, 1))
        return -EBADMSG;
    return snapshot_add_member(g->s, sqlite3_column_int64(statement, 0),
                               sqlite3_column_int64(statement, 1));
}

static int summary_row(struct reading *g, sqlite3_stmt *statement)
{
    if (!is_integer(statement, 0) || !is_integer(statement, 1))
        return -EBADMSG;
    return snapshot_add_summary(g->s, sqlite3_column_int64(statement, 0),
                                sqlite3_column_int64(statement, 1));
}

static int read_all(struct reading *g)
{
    static const struct {
        struct text table;
        const char *sql;
        int (*row)(struct reading *g, sqlite3_stmt *statement);
    } parts[] = {
        {{"dataset_type", 12},
         "SELECT id, name, storage_class, tag_association_table, calibration_association_table"
         " FROM dataset_type ORDER BY name",
         type_row},
        {{"collection", 10},
         "SELECT collection_id, name, type, doc FROM collection ORDER BY name",
         collection_row},
        {{"collection_chain", 16},
         "SELECT parent, child FROM collection_chain ORDER BY parent, position",
         member_row},
        {{"collection_summary_dataset_type", 31},
         "SELECT collection_id, dataset_type_id FROM collection_summary_dataset_type"
         " ORDER BY collection_id, dataset_type_id",
         summary_row},
    };
    int r = read_schema(g);
    if (r == 0)
        r = read_universe(g);
    for (size_t i = 0; r == 0 && i < sizeof parts / sizeof *parts; i++) {
        sql_start(g->q, parts[i].sql);
        r = each_row(g, parts[i].table, parts[i].row);
    }
    return r;
}

int sqlite_snapshot(struct registry *r, struct snapshot *s, char **ret_why)
{
    struct sqlite *q = sqlite_of(r);
    struct reading g = {.q = q, .s = s};
    int result = sqlite_enter_verb(q);
    if (result == 0)
        result = sqlite_begin(q, NULL);
    if (result == 0) {
        result = read_all(&g);
        sqlite_end(q);
    }
    schema_release(&g.schema);
    if (result == 0)
        result = snapshot_seal(s, &g.why);
    if (result < 0 && asprintf(ret_why, "%s: the registry %s can't be read: %s", q->source, q->path,
                               g.why ? g.why : strerror(-result)) < 0)
        abort();
    free(g.why);
    return result == -EPROTO ? -EBADMSG : result;
}
