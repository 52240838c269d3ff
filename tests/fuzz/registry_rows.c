// SPDX-License-Identifier: BSD-3-Clause
// Any rows in a registry's tables: what a hostile or damaged repository may hold. An input is a byte for
// the schema (collections by number or by name, dates as numbers or as texts), then a list of rows: a
// byte for the table, one for its number, one for how often, then a byte a value, which
// says whether it is what it should be. They are put beside a few good ones, in tables without keys;
// then every verb is asked of everything. The judges: the dispatcher's checks, the sanitizers, and
// that a row which a page has is found by its data ID.
// Found when planted: a value taken without asking its type; a record without a path; a file past
// the last that a row may have; a chain of a collection that isn't there.
#include <sqlite3.h>
#include <stdint.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "meta/config.h"
#include "meta/registry/registry.h"
#include "tests/unit/meta/schema.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define COLUMNS_MAX 8
#define ROWS_MAX 400

// A column's usual value: `#` a dataset's id, `@` the row's number, a digit, `$` with a collection's
// number, `!` a date, or a text. `%`: a collection's number that only one of the schemas has.
static const struct {
    const char *name;
    const char *columns[COLUMNS_MAX];
} tables[] = {
    {"collection", {"%", "c@", "1", "doc"}},
    {"collection_chain", {"$5", "@", "$2"}},
    {"collection_summary_dataset_type", {"$1", "@"}},
    {"dataset_type", {"@", "t@", "X", "1", "dataset_tags_00000004", ""}},
    {"dataset", {"#", "1", "!", "$1"}},
    {"file_datastore_records", {"#", "a/b.fits", "f", "X", "__NULL_STRING__", "00ff", "7"}},
    {"dataset_tags_00000000", {"4", "#", "$2"}},
    {"dataset_tags_00000001", {"1", "#", "$1", "Cam", "@", "4"}},
    {"dataset_tags_00000003", {"3", "#", "$2", "r", "sky", "0", "1", "@"}},
    {"dataset_tags_00000004", {"5", "#", "$1", "Cam", "g@"}},
    {"dataset_tags_00000005", {"6", "#", "$1", "Cam", "@"}},
    {"dataset_calibs_00000005", {"@", "6", "#", "$6", "Cam", "1", "2", "@"}},
    {"exposure", {"Cam", "4", "@", "g1", "r/x"}},
    {"visit", {"Cam", "4", "@", "r/x"}},
    {"physical_filter", {"Cam", "r/x", "b@"}},
};
#define FILES_TABLE 5
#define TABLES (sizeof tables / sizeof *tables)

struct input {
    const uint8_t *data;
    size_t size;
    bool is_named;
};

static uint8_t next(struct input *in)
{
    if (in->size == 0)
        return 0;
    in->size--;
    return *in->data++;
}

static void run(sqlite3 *db, const char *sql)
{
    char *why = NULL;
    if (sqlite3_exec(db, sql, NULL, NULL, &why) != SQLITE_OK)
        log_error("%s: %s", why, sql);
    check(!why);
}

// The same content with collections that are kept by name.
static void key_by_name(sqlite3 *db)
{
    for (size_t i = 0; i < sizeof key_by_name_tables / sizeof *key_by_name_tables; i++) {
        char *sql = sqlite3_mprintf(key_by_name_format, key_by_name_tables[i], key_by_name_tables[i]);
        run(db, sql);
        sqlite3_free(sql);
    }
    run(db, key_by_name_sql);
    run(db, "UPDATE butler_attributes SET value = 'a.NameKeyCollectionManager' WHERE name = 'config:registry.managers.collections';"
            "INSERT INTO butler_attributes VALUES ('version:a.NameKeyCollectionManager', '2.0.0')");
}

static void fill(sqlite3 *db, bool is_named)
{
    char *json = unquoted(universe_quoted), *sql;
    run(db, schema_sql);
    run(db, tags_sql);
    run(db, content_sql);
    for (size_t i = 0; i < sizeof managers / sizeof *managers; i++) {
        sql = sqlite3_mprintf("INSERT INTO butler_attributes VALUES ('config:registry.managers.%q', %Q), ('version:%q', %Q)",
                              managers[i][0], managers[i][1], managers[i][1], managers[i][2]);
        run(db, sql);
        sqlite3_free(sql);
    }
    sql = sqlite3_mprintf("INSERT INTO butler_attributes VALUES ('config:dimensions.json', %Q)", json);
    run(db, sql);
    sqlite3_free(sql);
    free(json);
    run(db, "INSERT INTO collection_summary_dataset_type VALUES (6,6)");
    if (is_named)
        key_by_name(db);
    // "CREATE TABLE x AS" makes no keys. Which rows are the good ones is kept for write_rows.
    run(db, "CREATE TABLE good (name, last)");
    for (size_t i = 0; i < TABLES; i++) {
        sql = sqlite3_mprintf("CREATE TABLE copy AS SELECT * FROM %s; DROP TABLE %s; ALTER TABLE copy RENAME TO %s;"
                              "INSERT INTO good SELECT '%s', coalesce(max(rowid), 0) FROM %s",
                              tables[i].name, tables[i].name, tables[i].name, tables[i].name, tables[i].name);
        run(db, sql);
        sqlite3_free(sql);
    }
    // Without these SQLite makes its own for every query, which takes most of the time.
    run(db, "CREATE INDEX i1 ON dataset (id); CREATE INDEX i2 ON file_datastore_records (dataset_id, component);"
            "CREATE INDEX i3 ON visit (instrument, id); CREATE INDEX i4 ON exposure (instrument, id);"
            "CREATE INDEX i5 ON physical_filter (instrument, name)");
}

// Where a table's columns begin: by name a collection has no number.
static size_t column_first(size_t table, bool is_named)
{
    return is_named && tables[table].columns[0][0] == '%';
}

static size_t column_count(size_t table)
{
    size_t count = 0;
    while (count < COLUMNS_MAX && tables[table].columns[count])
        count++;
    return count;
}

static void bind_usual(sqlite3_stmt *statement, int at, const char *usual, unsigned number, bool is_named)
{
    static const char *const names[] = {"", "raws", "u/alice", "u/alice/run1", "tagged", "chain", "calib"};
    char text[64];
    if (*usual == '$' && !is_named) {
        sqlite3_bind_int64(statement, at, usual[1] - '0');
        return;
    }
    if (*usual == '$') {
        snprintf(text, sizeof text, "%s", names[usual[1] - '0']);
    } else if (*usual == '!' && is_named) {
        snprintf(text, sizeof text, "2024-01-%02u 10:47:43.%u", number, number);
    } else if (*usual == '!' || *usual == '%') {
        sqlite3_bind_int64(statement, at, number);
        return;
    } else if (*usual == '#') {
        snprintf(text, sizeof text, "018f000000007000800000000000%04x", number);
    } else if (usual[0] == '@' || (usual[0] >= '0' && usual[0] <= '9' && !usual[1])) {
        sqlite3_bind_int64(statement, at, usual[0] == '@' ? (int64_t)number : usual[0] - '0');
        return;
    } else {
        size_t size = strcspn(usual, "@");
        snprintf(text, sizeof text, usual[size] ? "%.*s%u" : "%.*s", (int)size, usual, number);
    }
    sqlite3_bind_text(statement, at, text, -1, SQLITE_TRANSIENT);
}

static void bind_value(sqlite3_stmt *statement, int at, const char *usual, unsigned number, struct input *in)
{
    uint8_t kind = next(in);
    char bytes[256];
    if (kind < 192) {
        bind_usual(statement, at, usual, number, in->is_named);
    } else if (kind < 208) {
        sqlite3_bind_int64(statement, at, kind - 200);
    } else if (kind < 212) {
        sqlite3_bind_int64(statement, at, kind % 2 ? INT64_MIN : INT64_MAX);
    } else if (kind < 220) {
        sqlite3_bind_double(statement, at, kind / 7.0);
    } else if (kind < 250) {
        int size = next(in);
        for (int i = 0; i < size; i++)
            bytes[i] = (char)next(in);
        if (kind < 240)
            sqlite3_bind_text(statement, at, bytes, size, SQLITE_TRANSIENT);
        else
            sqlite3_bind_blob(statement, at, bytes, size, SQLITE_TRANSIENT);
    } // else NULL
}

static void write_row(sqlite3_stmt **statements, struct input *in, int *rows)
{
    size_t table = next(in) % TABLES;
    unsigned number = next(in) % 16;
    // Files only: other rows that stand twice give each other's product.
    int times = next(in) == 255 && table == FILES_TABLE ? 300 : 1;
    sqlite3_stmt *statement = statements[table];
    size_t first = column_first(table, in->is_named);
    for (size_t i = first; i < column_count(table); i++)
        bind_value(statement, (int)(i - first) + 1, tables[table].columns[i], number, in);
    for (; times > 0 && *rows < ROWS_MAX; times--, ++*rows) {
        sqlite3_step(statement);
        sqlite3_reset(statement);
    }
    sqlite3_clear_bindings(statement);
}

static void write_rows(sqlite3 *db, struct input *in)
{
    static sqlite3_stmt *both_inserts[2][TABLES], *both_deletes[2][TABLES];
    sqlite3_stmt **inserts = both_inserts[in->is_named], **deletes = both_deletes[in->is_named];
    for (size_t i = 0; i < TABLES && !inserts[i]; i++) {
        int columns = (int)(column_count(i) - column_first(i, in->is_named));
        char *sql = sqlite3_mprintf("INSERT INTO %s VALUES (?1%.*s)", tables[i].name, 3 * (columns - 1),
                                    ",?2,?3,?4,?5,?6,?7,?8");
        check(sqlite3_prepare_v2(db, sql, -1, &inserts[i], NULL) == SQLITE_OK);
        sqlite3_free(sql);
        sql = sqlite3_mprintf("DELETE FROM %s WHERE rowid > (SELECT last FROM good WHERE name = '%s')", tables[i].name,
                              tables[i].name);
        check(sqlite3_prepare_v2(db, sql, -1, &deletes[i], NULL) == SQLITE_OK);
        sqlite3_free(sql);
    }
    run(db, "BEGIN");
    for (size_t i = 0; i < TABLES; i++) {
        sqlite3_step(deletes[i]);
        sqlite3_reset(deletes[i]);
    }
    for (int rows = 0; in->size > 0 && rows < ROWS_MAX;)
        write_row(inserts, in, &rows);
    run(db, "COMMIT");
}

// ---------------------------------------------------------------------------------------------

struct asking {
    struct registry *r;
    struct snapshot *s;
    const struct dataset_type *t;
    struct uuid uuid;
    struct value values[LEVELS_MAX]; // of the last row; texts in `texts`
    struct buffer texts;
    bool has_range;
    struct timespan range;
    uint32_t rows;
};

// Every byte that was handed out is read.
static int take_row(const struct registry_row *row, void *context)
{
    struct asking *a = context;
    buffer_clear(&a->texts);
    buffer_reserve(&a->texts, 1 << 18);
    for (uint32_t i = 0; i < row->value_count; i++) {
        a->values[i] = row->values[i];
        if (a->values[i].kind == VALUE_TEXT) {
            a->values[i].text.data = a->texts.data + a->texts.size_bytes;
            buffer_append_text(&a->texts, row->values[i].text);
        }
    }
    for (uint32_t i = 0; i < row->file_count; i++) {
        const struct registry_file *f = &row->files[i];
        check(f->path.size_bytes > 0 && f->size_bytes >= SIZE_UNKNOWN && f->checksum.size_bytes <= 128);
        buffer_append_text(&a->texts, f->component);
        buffer_append_text(&a->texts, f->path);
        buffer_append_text(&a->texts, f->storage_class);
        buffer_append_text(&a->texts, f->checksum);
    }
    a->uuid = row->uuid;
    a->has_range = row->has_range;
    a->range = row->range;
    a->rows++;
    return 0;
}

static int ignore_row(const struct registry_row *row, void *context)
{
    return 0;
}

static int take_implied(const struct element *e, const struct value *v, void *context)
{
    check(v->kind == e->kind);
    return 0;
}

static void ask_row(struct asking *a, int64_t collection)
{
    int64_t ids[2] = {collection, a->s->collections[0].id}, refused = metric_get(METRIC_ROWS_REFUSED);
    struct registry_search search = {
        .how = SEARCH_FIRST, .collections = ids, .count = 1, .values = a->values};
    if (a->has_range)
        search = (struct registry_search){SEARCH_RANGE, a->range, ids, 1, a->values};
    int r = registry_row(a->r, a->s, a->t, &search, ignore_row, a);
    // Unless a bad row has the same data ID.
    check(r == 0 || (r == -ENOENT && metric_get(METRIC_ROWS_REFUSED) > refused));
    search.how = SEARCH_AT;
    r = registry_row(a->r, a->s, a->t, &search, ignore_row, a);
    check(r == 0 || r == -ENOENT);
    r = registry_dataset(a->r, a->s, &a->uuid, ignore_row, a);
    check(r == 0 || r == -ENOENT);
    for (uint32_t depth = 0; depth <= a->t->level_count; depth++)
        check(registry_enter(a->r, a->s, a->t, ids, 2, a->values, depth) >= 0);
    check(registry_implied(a->r, a->s, a->t, a->values, take_implied, NULL) == 0);
}

static void ask_set(struct asking *a, const struct collection *c)
{
    BUFFER_CLEANUP cursor = {0};
    uint64_t mark;
    bool is_end = false;
    for (int pages = 0; !is_end; pages++) {
        check(pages <= ROWS_MAX);
        a->rows = 0;
        check(registry_page(a->r, a->s, a->t, c->id, &cursor, 3, take_row, a, &is_end, &mark) == 0);
        if (a->rows && pages < 8)
            ask_row(a, c->id);
    }
}

static void ask_all(struct asking *a)
{
    for (uint32_t i = 0; i < a->s->collection_count; i++) {
        const struct collection *c = &a->s->collections[i];
        uint32_t count;
        snapshot_search_path(a->s, c, &count);
        check(count <= a->s->collection_count);
        const uint32_t *types = snapshot_types(a->s, c, &count);
        for (uint32_t k = 0; c->kind != COLLECTION_CHAINED && k < count; k++) {
            a->t = &a->s->types[types[k]];
            check(registry_enter(a->r, a->s, a->t, &c->id, 1, NULL, 0) >= 0);
            ask_set(a, c);
        }
    }
}

static char paths[2][64];

static void remove_files(void)
{
    unlink(paths[0]);
    unlink(paths[1]);
}

struct world {
    sqlite3 *db;
    struct asking asking;
};

static void world_make(struct world *w, bool is_named)
{
    static char table[] = "file_datastore_records", name[] = "d", root[] = "/r", source[] = "fuzz";
    static struct datastore_config datastore = {name, root, true, table};
    char *path = paths[is_named], *why = NULL;
    log_level_set(LOG_LEVEL_ERROR);
    snprintf(path, sizeof paths[0], "/tmp/fuzz-rows-%d-%d.db", (int)getpid(), is_named);
    unlink(path);
    check(sqlite3_open(path, &w->db) == SQLITE_OK);
    run(w->db, "PRAGMA synchronous=off; PRAGMA journal_mode=memory; BEGIN");
    fill(w->db, is_named);
    run(w->db, "COMMIT");
    struct repository_config c = {
        .source = source, .database_path = path, .datastores = &datastore, .datastore_count = 1};
    check(registry_open(&c, NS_PER_S, &w->asking.r, &why) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct world worlds[2];
    struct input in = {.data = data, .size = size};
    char *why = NULL;
    in.is_named = next(&in) & 1;
    struct world *w = &worlds[in.is_named];
    if (!worlds[0].db && !worlds[1].db)
        atexit(remove_files);
    if (!w->db)
        world_make(w, in.is_named);
    write_rows(w->db, &in);
    check(registry_snapshot(w->asking.r, &w->asking.s, &why) == 0);
    ask_all(&w->asking);
    snapshot_unref(w->asking.s);
    return 0;
}
