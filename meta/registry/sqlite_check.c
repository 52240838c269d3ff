// SPDX-License-Identifier: BSD-3-Clause
// Whether this is a registry that we can read: which classes manage its tables and in which version
// they are (table butler_attributes), and whether the tables are there. Names of columns and of the
// dimensions' tables are not checked: they are found by introspection.
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "meta/registry/sqlite_internal.h"

struct manager {
    const char *kind;
    const char *class; // the last part of the class's full name
    int major_from, major_to;
};

static const struct manager managers[] = {
    {"attributes", "DefaultButlerAttributeManager", 1, 1},
    {"dimensions", "StaticDimensionRecordStorageManager", 6, 6},
    {"collections", "SynthIntKeyCollectionManager", 2, 2},
    {"datasets", "ByDimensionsDatasetRecordStorageManagerUUID", 1, 2},
    {"opaque", "ByNameOpaqueTableStorageManager", 0, 0},
    {"datastores", "MonolithicDatastoreRegistryBridgeManager", 0, 0},
};

static const char *const tables[] = {
    "collection", "collection_chain", "collection_summary_dataset_type", "dataset", "dataset_type",
};

static int refuse(struct sqlite *q, char **ret_why, int error, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static int refuse(struct sqlite *q, char **ret_why, int error, const char *format, ...)
{
    BUFFER_CLEANUP why = {0};
    va_list args;
    buffer_format(&why, "%s: the registry %s ", q->source, q->path);
    va_start(args, format);
    buffer_vformat(&why, format, args);
    va_end(args);
    for (size_t i = 0; i < why.size_bytes; i++)
        if ((unsigned char)why.data[i] < ' ')
            why.data[i] = '?';
    *ret_why = buffer_steal(&why);
    return error;
}

// An attribute's value, appended. 1: there; 0: not; -errno.
static int attribute(struct sqlite *q, struct text name, struct buffer *to)
{
    sqlite3_stmt *statement = NULL;
    sql_start(q, "SELECT value FROM butler_attributes WHERE name = ?1");
    int r = sqlite_prepare(q, &statement);
    if (r < 0)
        return r;
    struct value v = value_text(name);
    sqlite_bind(statement, 1, &v);
    r = sqlite_step(q, statement);
    if (r > 0)
        buffer_append_text(to, sqlite_text(statement, 0));
    sqlite_done(&statement);
    return r;
}

static int check_version(struct sqlite *q, const struct manager *m, struct text class,
                         char **ret_why)
{
    BUFFER_CLEANUP key = {0};
    BUFFER_CLEANUP version = {0};
    char *end = NULL;
    buffer_append_string(&key, "version:");
    buffer_append_text(&key, class);
    int r = attribute(q, buffer_text(&key), &version);
    if (r < 0)
        return refuse(q, ret_why, r, "can't be read: %s", sqlite3_errmsg(q->db));
    long major = r > 0 ? strtol(version.data ? version.data : "", &end, 10) : -1;
    if (r == 0 || end == version.data || *end != '.')
        return refuse(q, ret_why, -EBADMSG, "doesn't say in which version its %s are (%s)", m->kind,
                      m->class);
    if (major < m->major_from || major > m->major_to)
        return refuse(q, ret_why, -EOPNOTSUPP,
                      "keeps its %s in version %s, which is %s than any known here (up to %d.x): %s",
                      m->kind, version.data, major > m->major_to ? "newer" : "older", m->major_to,
                      major > m->major_to ? "a newer butlerfs is needed"
                                          : "migrate the repository (butler migrate)");
    return 0;
}

static int check_manager(struct sqlite *q, const struct manager *m, char **ret_why)
{
    BUFFER_CLEANUP key = {0};
    BUFFER_CLEANUP class = {0};
    buffer_format(&key, "config:registry.managers.%s", m->kind);
    int r = attribute(q, buffer_text(&key), &class);
    if (r < 0)
        return refuse(q, ret_why, r, "can't be read: %s", sqlite3_errmsg(q->db));
    if (r == 0)
        return refuse(q, ret_why, -EBADMSG,
                      "doesn't say what manages its %s: it was not made by a Butler client, or by one too old",
                      m->kind);
    const char *name = class.data ? strrchr(class.data, '.') : NULL;
    name = name ? name + 1 : class.data ? class.data : "";
    if (strcmp(name, "NameKeyCollectionManager") == 0)
        return refuse(q, ret_why, -EOPNOTSUPP,
                      "keeps its collections by name (NameKeyCollectionManager), which is not supported yet: migrate it to SynthIntKeyCollectionManager");
    if (strcmp(name, m->class) != 0)
        return refuse(q, ret_why, -EOPNOTSUPP,
                      "has its %s managed by %s, which is not known here: only %s is", m->kind,
                      class.data, m->class);
    return check_version(q, m, buffer_text(&class), ret_why);
}

// Whether opaque_meta, the list of tables the client made for its datastores, has this one: 1, 0.
static int is_promised(struct sqlite *q, const char *table)
{
    sqlite3_stmt *statement = NULL;
    if (!sqlite_has_table(q, "opaque_meta"))
        return 0;
    sql_start(q, "SELECT 1 FROM opaque_meta WHERE table_name = ?1");
    int r = sqlite_prepare(q, &statement);
    if (r < 0)
        return r;
    struct value v = value_text(text_of(table));
    sqlite_bind(statement, 1, &v);
    r = sqlite_step(q, statement);
    sqlite_done(&statement);
    return r;
}

// A datastore without its records' table is empty (the client makes it when it first writes), but not
// where the registry says that it was made.
static int check_records(struct sqlite *q, char **ret_why)
{
    for (uint32_t i = 0; i < q->datastore_count; i++) {
        const char *table = q->records_tables[i];
        int r = sqlite_has_table(q, table) ? 0 : is_promised(q, table);
        if (r < 0)
            return refuse(q, ret_why, r, "can't be read: %s", sqlite3_errmsg(q->db));
        if (r > 0)
            return refuse(q, ret_why, -EBADMSG,
                          "has no table %s, but lists it: it is not whole, ask who keeps the repository",
                          table);
    }
    return 0;
}

int sqlite_check_schema(struct sqlite *q, char **ret_why)
{
    if (!sqlite_has_table(q, "butler_attributes"))
        return refuse(q, ret_why, -EBADMSG,
                      "has no table butler_attributes: it is a database, but not a Butler registry");
    for (size_t i = 0; i < sizeof managers / sizeof *managers; i++) {
        int r = check_manager(q, &managers[i], ret_why);
        if (r < 0)
            return r;
    }
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        if (!sqlite_has_table(q, tables[i]))
            return refuse(q, ret_why, -EBADMSG,
                          "has no table %s: it is not whole, ask who keeps the repository",
                          tables[i]);
    return check_records(q, ret_why);
}
