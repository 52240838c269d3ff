// SPDX-License-Identifier: BSD-3-Clause
// database: a Butler registry in an SQLite file, made by SQL as the client makes it (the tables that
// are read, with their indexes), for tests. One process both writes and reads it: the writer is a
// connection of its own, which SQLite knows to keep apart.
#pragma once
#include <sqlite3.h>

#include "meta/config.h"
#include "meta/registry/registry.h"
#include "tests/unit/meta/universe.h"

static char database_folder[64];

static inline const char *database_path(void)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/gen3.sqlite3", database_folder);
    return path;
}

// Runs SQL as another connection would.
static inline void run_sql(const char *sql)
{
    sqlite3 *db;
    char *why = NULL;
    assert_int_equal(sqlite3_open(database_path(), &db), SQLITE_OK);
    sqlite3_busy_timeout(db, 5000);
    sqlite3_exec(db, "PRAGMA synchronous=off", NULL, NULL, NULL);
    if (sqlite3_exec(db, sql, NULL, NULL, &why) != SQLITE_OK)
        fail_msg("%s: %s", why, sql);
    sqlite3_close(db);
}

static inline void run_sql_formatted(const char *format, ...) __attribute__((format(printf, 1, 2)));

static inline void run_sql_formatted(const char *format, ...)
{
    va_list args;
    char sql[4096];
    va_start(args, format);
    vsnprintf(sql, sizeof sql, format, args);
    va_end(args);
    run_sql(sql);
}

static inline void set_attribute(const char *name, const char *value)
{
    run_sql_formatted("INSERT OR REPLACE INTO butler_attributes VALUES ('%s', '%s')", name, value);
}

static inline void write_attributes(void)
{
    char name[256];
    for (size_t i = 0; i < sizeof managers / sizeof *managers; i++) {
        snprintf(name, sizeof name, "config:registry.managers.%s", managers[i][0]);
        set_attribute(name, managers[i][1]);
        snprintf(name, sizeof name, "version:%s", managers[i][1]);
        set_attribute(name, managers[i][2]);
    }
    sqlite3 *db;
    sqlite3_stmt *statement;
    char *json = unquoted(universe_quoted);
    assert_int_equal(sqlite3_open(database_path(), &db), SQLITE_OK);
    sqlite3_prepare_v2(db, "INSERT INTO butler_attributes VALUES ('config:dimensions.json', ?1)", -1, &statement, NULL);
    sqlite3_bind_text(statement, 1, json, -1, SQLITE_STATIC);
    assert_int_equal(sqlite3_step(statement), SQLITE_DONE);
    sqlite3_finalize(statement);
    sqlite3_close(db);
    free(json);
}

static inline int make_database(void **state)
{
    snprintf(database_folder, sizeof database_folder, "/tmp/registry-XXXXXX");
    if (!mkdtemp(database_folder))
        return -1;
    run_sql(schema_sql);
    run_sql(tags_sql);
    run_sql(content_sql);
    write_attributes();
    return 0;
}

static inline int remove_database(void **state)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", database_folder);
    return system(command);
}

// A uuid's 32 digits from a small number.
static inline const char *hex_of(unsigned number)
{
    static char hex[33];
    snprintf(hex, sizeof hex, "018f00000000700080000000%08x", number);
    return hex;
}

// A dataset in its run, with a file. `key`: the rest of its tags row, ", 'Cam', 1, 100" or "".
static inline void put(unsigned number, int type, int table, int run, const char *key, const char *path)
{
    run_sql_formatted("INSERT INTO dataset VALUES ('%s', %d, %u, %d);", hex_of(number), type, 1000 + number, run);
    run_sql_formatted("INSERT INTO dataset_tags_%08d VALUES (%d, '%s', %d%s);", table, type, hex_of(number), run, key);
    if (path)
        run_sql_formatted("INSERT INTO file_datastore_records VALUES ('%s', '%s', 'f', 'ExposureF', '__NULL_STRING__', NULL, 17);",
                          hex_of(number), path);
}

static inline void tag(unsigned number, int type, int table, int collection, const char *key)
{
    run_sql_formatted("INSERT INTO dataset_tags_%08d VALUES (%d, '%s', %d%s);", table, type, hex_of(number), collection, key);
}

static inline struct registry *open_with(const struct repository_config *c, int64_t limit_ns)
{
    struct registry *r = NULL;
    char *why = NULL;
    if (registry_open(c, limit_ns, &r, &why) < 0)
        fail_msg("%s", why);
    return r;
}

static struct datastore_config one_datastore = {(char[]){"FileDatastore@<butlerRoot>"}, (char[]){"/repo"}, true,
                                                (char[]){"file_datastore_records"}};

static inline struct repository_config database_config(void)
{
    static char path[128], source[] = "the-test";
    snprintf(path, sizeof path, "%s", database_path());
    return (struct repository_config){.source = source, .database = DATABASE_SQLITE, .database_path = path,
                                      .datastores = &one_datastore, .datastore_count = 1};
}

static inline struct registry *open_database(void)
{
    struct repository_config c = database_config();
    return open_with(&c, 200000000);
}
