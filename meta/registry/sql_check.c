// SPDX-License-Identifier: BSD-3-Clause
// Whether this is a registry that we can read: which classes manage its tables and in which version
// they are (table butler_attributes), and whether the tables are there. Names of columns and of the
// dimensions' tables are not checked: they are found by introspection.
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/doc.h"
#include "meta/registry/sql.h"

struct manager {
    const char *kind;
    const char *class; // the last part of the class's full name
    int major_from, major_to;
};

static const struct manager managers[] = {
    {"attributes", "DefaultButlerAttributeManager", 1, 1},
    {"dimensions", "StaticDimensionRecordStorageManager", 6, 6},
    {"collections", "SynthIntKeyCollectionManager", 2, 2},
    {"collections", "NameKeyCollectionManager", 2, 2},
    {"datasets", "ByDimensionsDatasetRecordStorageManagerUUID", 1, 2},
    {"opaque", "ByNameOpaqueTableStorageManager", 0, 0},
    {"datastores", "MonolithicDatastoreRegistryBridgeManager", 0, 0},
};

static const size_t manager_count = sizeof managers / sizeof *managers;

static const char *const tables[] = {
    "collection", "collection_chain", "collection_summary_dataset_type", "dataset", "dataset_type",
};

static int refuse(struct sql *q, char **ret_why, int error, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static int refuse(struct sql *q, char **ret_why, int error, const char *format, ...)
{
    BUFFER_CLEANUP why = {0};
    va_list args;
    buffer_format(&why, "%s: the registry %s ", q->source, q->name);
    va_start(args, format);
    buffer_vformat(&why, format, args);
    va_end(args);
    buffer_make_line(&why);
    *ret_why = buffer_steal(&why);
    return error;
}

static int refuse_words(struct sql *q, char **ret_why, int error)
{
    return refuse(q, ret_why, error, "can't be read: %s",
                  q->words.size_bytes ? q->words.data : strerror(-error));
}

// What q->text finds, two texts a row (one, where `is_list`), as a map.
static int read_map(struct sql *q, bool is_list, struct doc **ret_map)
{
    struct sql_rows *rows = NULL;
    struct doc *map = doc_new(DOC_MAP);
    int r = sql_run(q, NULL, 0, &rows);
    while (r >= 0 && (r = sql_step(q, rows)) > 0) {
        BUFFER_CLEANUP key = {0};
        buffer_append_text(&key, sql_text(q, rows, 0));
        if (is_list)
            doc_put_bool(map, key.data, true);
        else
            doc_put(map, key.data, doc_new_text(sql_text(q, rows, 1)));
    }
    sql_done(q, &rows);
    if (r < 0) {
        doc_free(map);
        return r;
    }
    *ret_map = map;
    return 0;
}

// Which of the tables that may have to be there are.
static int read_tables(struct sql *q, struct doc **ret_tables)
{
    sql_start(q, "");
    q->dialect->tables(q);
    sql_add(q, "'butler_attributes', 'opaque_meta'");
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        sql_add(q, ", ");
        sql_literal(q, text_of(tables[i]));
    }
    for (uint32_t i = 0; i < q->datastore_count; i++) {
        sql_add(q, ", ");
        sql_literal(q, text_of(q->records_tables[i]));
    }
    sql_add(q, ")");
    return read_map(q, true, ret_tables);
}

static int read_attributes(struct sql *q, struct doc **ret_attributes)
{
    sql_start(q, "SELECT name, value FROM ");
    sql_table(q, TEXT("butler_attributes"));
    sql_add(q, " WHERE name LIKE 'config:registry.managers.%' OR name LIKE 'version:%'");
    return read_map(q, false, ret_attributes);
}

static int check_version(struct sql *q, const struct doc *attributes, const struct manager *m,
                         const char *class, char **ret_why)
{
    BUFFER_CLEANUP key = {0};
    BUFFER_CLEANUP version = {0};
    char *end = NULL;
    buffer_format(&key, "version:%s", class);
    buffer_append_text(&version, doc_text(doc_get(attributes, key.data), TEXT("")));
    buffer_append_string(&version, ""); // never NULL
    long major = strtol(version.data, &end, 10);
    if (end == version.data || *end != '.')
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

static bool is_same_kind(size_t a, size_t b)
{
    return strcmp(managers[a].kind, managers[b].kind) == 0;
}

static int refuse_class(struct sql *q, size_t first, const char *class, char **ret_why)
{
    BUFFER_CLEANUP known = {0};
    for (size_t i = first; i < manager_count && is_same_kind(i, first); i++)
        buffer_format(&known, "%s%s", i == first ? "" : " or ", managers[i].class);
    return refuse(q, ret_why, -EOPNOTSUPP,
                  "has its %s managed by %s, which is not known here: migrate the repository to %s, or use a newer butlerfs that knows it",
                  managers[first].kind, *class ? class : "nothing", known.data);
}

// `first`: where the managers of one kind begin.
static int check_manager(struct sql *q, const struct doc *attributes, size_t first, char **ret_why)
{
    const struct manager *m = &managers[first];
    BUFFER_CLEANUP key = {0};
    BUFFER_CLEANUP class = {0};
    buffer_format(&key, "config:registry.managers.%s", m->kind);
    if (!doc_get(attributes, key.data))
        return refuse(q, ret_why, -EBADMSG,
                      "doesn't say what manages its %s: it was not made by a Butler client, or by one too old",
                      m->kind);
    buffer_append_text(&class, doc_text(doc_get(attributes, key.data), TEXT("")));
    buffer_append_string(&class, ""); // never NULL
    const char *dot = strrchr(class.data, '.'), *name = dot ? dot + 1 : class.data;
    for (size_t i = first; i < manager_count && is_same_kind(i, first); i++)
        if (strcmp(name, managers[i].class) == 0) {
            if (strcmp(m->kind, "collections") == 0)
                q->is_keyed_by_name = strcmp(name, "NameKeyCollectionManager") == 0;
            return check_version(q, attributes, &managers[i], class.data, ret_why);
        }
    return refuse_class(q, first, class.data, ret_why);
}

// Whether opaque_meta, the list of tables the client made for its datastores, has this one: 1, 0.
static int is_promised(struct sql *q, const char *table)
{
    struct value v = value_text(text_of(table));
    sql_start(q, "SELECT 1 FROM ");
    sql_table(q, TEXT("opaque_meta"));
    sql_add(q, " WHERE table_name = ");
    sql_parameter(q, 1);
    return sql_has_row(q, &v, 1);
}

// A datastore without its records' table is empty (the client makes it when it first writes), but not
// where the registry says that it was made.
static int check_records(struct sql *q, const struct doc *there, char **ret_why)
{
    for (uint32_t i = 0; i < q->datastore_count; i++) {
        const char *table = q->records_tables[i];
        q->records_missing[i] = !doc_get(there, table);
        bool may_be_promised = q->records_missing[i] && doc_get(there, "opaque_meta");
        int r = may_be_promised ? is_promised(q, table) : 0;
        if (r < 0)
            return refuse_words(q, ret_why, r);
        if (r > 0)
            return refuse(q, ret_why, -EBADMSG,
                          "has no table %s, but lists it: it is not whole, ask who keeps the repository",
                          table);
    }
    return 0;
}

static int check_all(struct sql *q, char **ret_why)
{
    __attribute__((__cleanup__(cleanup_doc_free))) struct doc *there = NULL, *attributes = NULL;
    int r = read_tables(q, &there);
    if (r < 0)
        return refuse_words(q, ret_why, r);
    if (!doc_get(there, "butler_attributes"))
        return refuse(q, ret_why, -EBADMSG,
                      "has no table butler_attributes: it is a database, but not a Butler registry");
    r = read_attributes(q, &attributes);
    if (r < 0)
        return refuse_words(q, ret_why, r);
    for (size_t i = 0; r == 0 && i < manager_count; i++)
        if (i == 0 || !is_same_kind(i, i - 1))
            r = check_manager(q, attributes, i, ret_why);
    for (size_t i = 0; r == 0 && i < sizeof tables / sizeof *tables; i++)
        if (!doc_get(there, tables[i]))
            r = refuse(q, ret_why, -EBADMSG,
                       "has no table %s: it is not whole, ask who keeps the repository", tables[i]);
    return r < 0 ? r : check_records(q, there, ret_why);
}

int sql_check_schema(struct sql *q, char **ret_why)
{
    int r = q->dialect->begin(q);
    if (r < 0)
        return refuse_words(q, ret_why, r);
    r = check_all(q, ret_why);
    q->dialect->end(q);
    return r;
}
