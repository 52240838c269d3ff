// SPDX-License-Identifier: BSD-3-Clause
// A registry in an SQLite file: the connection.
//
// 1. The file is opened by SQLite alone. POSIX locks belong to a process: were anything else in it to
//    open and close the file, SQLite's locks would be gone. What we look at ourselves we read through
//    SQLite's own handle (sqlite_mark.c), or by stat(2).
// 2. The connection can't write: mode=ro, query_only, defensive. It holds no lock between verbs, as a
//    reader that holds one blocks the writer.
// 3. What a verb may wait for locks is bounded by a deadline for all of it, not per lock; its work is
//    bounded too, by a much later one, as a damaged or hostile file may make any statement endless.
// 4. A path that leads to another file than the one that is open (a restored copy) is opened again,
//    and checked again, before anything is answered from it.
// 5. Nothing is mapped into memory: a file that is cut short must be an error, not a signal.
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/metric.h"
#include "meta/config.h"
#include "meta/registry/sqlite_internal.h"

#define WORK_EXTRA_NS (120 * NS_PER_S)
#define STEPS_PER_LOOK 200000 // virtual machine steps between two looks at the clock

// ---------------------------------------------------------------------------------------------
// Errors.

int sqlite_errno(int code)
{
    switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_INTERRUPT:
        return -ETIMEDOUT;
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return -EACCES;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return -EBADMSG;
    case SQLITE_NOMEM:
        return -ENOMEM;
    default:
        return -EIO;
    }
}

int sqlite_error(struct sqlite *q, int code)
{
    BUFFER_CLEANUP words = {0};
    buffer_format(&words, "%s (%s)", q->db ? sqlite3_errmsg(q->db) : sqlite3_errstr(code),
                  sqlite3_errstr(code));
    sql_log_trouble(&q->sql, words.data);
    return sqlite_errno(code);
}

// ---------------------------------------------------------------------------------------------
// Opening.

static int wait_for_lock(void *context, int tries)
{
    const struct sqlite *q = context;
    int64_t left = q->lock_deadline_ns - clock_ns();
    int64_t pause = tries < 4 ? NS_PER_MS : 5 * NS_PER_MS;
    if (left <= 0)
        return 0;
    struct timespec t = {.tv_nsec = pause < left ? pause : left};
    nanosleep(&t, NULL);
    return 1;
}

static int look_at_clock(void *context)
{
    const struct sqlite *q = context;
    return clock_ns() > q->work_deadline_ns;
}

static void write_uri(const char *path, struct buffer *to)
{
    buffer_append_string(to, "file:");
    for (const char *p = path; *p; p++) {
        bool is_plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
                        (*p >= '0' && *p <= '9') || strchr("/-._~", *p);
        if (is_plain)
            buffer_append_byte(to, *p);
        else
            buffer_format(to, "%%%02X", (unsigned char)*p);
    }
    buffer_append_string(to, "?mode=ro");
}

static int run(struct sqlite *q, const char *sql)
{
    return sqlite3_exec(q->db, sql, NULL, NULL, NULL);
}

static int configure(struct sqlite *q)
{
    sqlite3_extended_result_codes(q->db, 1);
    sqlite3_busy_handler(q->db, wait_for_lock, q);
    sqlite3_progress_handler(q->db, STEPS_PER_LOOK, look_at_clock, q);
    sqlite3_db_config(q->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(q->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_limit(q->db, SQLITE_LIMIT_LENGTH, 64 * 1024 * 1024);
    sqlite3_limit(q->db, SQLITE_LIMIT_ATTACHED, 0);
    // None of these touches the file.
    int rc = run(q, "PRAGMA query_only=1; PRAGMA mmap_size=0; PRAGMA temp_store=2;"
                    "PRAGMA cache_size=-4096;");
    if (rc == SQLITE_OK)
        rc = sqlite3_prepare_v3(q->db, "BEGIN", -1, SQLITE_PREPARE_PERSISTENT, &q->begin, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_prepare_v3(q->db, "COMMIT", -1, SQLITE_PREPARE_PERSISTENT, &q->end, NULL);
    return rc;
}

static void set_deadlines(struct sqlite *q)
{
    int64_t now = clock_ns();
    q->lock_deadline_ns = now + q->sql.registry.limit_ns;
    q->work_deadline_ns = q->lock_deadline_ns + WORK_EXTRA_NS;
    for (uint32_t i = 0; i < q->sql.datastore_count; i++) {
        q->records[i] = NULL;
        q->is_absent[i] = false;
    }
}

static void disconnect(struct sqlite *q)
{
    for (uint32_t i = 0; i < STATEMENTS_MAX; i++) {
        sqlite3_finalize(q->statements[i].prepared);
        free(q->statements[i].sql);
        q->statements[i] = (struct statement){0};
    }
    table_release(&q->by_sql);
    sqlite3_finalize(take(q->begin));
    sqlite3_finalize(take(q->end));
    sqlite3_finalize(take(q->version));
    sqlite3_close(take(q->db));
}

// The line for a file that SQLite couldn't read at all.
static int refuse_code(struct sqlite *q, int code, char **ret_why)
{
    const char *words = q->db ? sqlite3_errmsg(q->db) : sqlite3_errstr(code);
    const char *what = words, *advice = "look at it with the sqlite3 program";
    int error = sqlite_errno(code);
    if ((code & 0xff) == SQLITE_NOTADB) {
        what = "it is not an SQLite database";
        advice = "give the repository's own butler.yaml";
    } else if ((code & 0xff) == SQLITE_CORRUPT) {
        what = "the database is damaged";
        advice = "PRAGMA integrity_check tells more";
    } else if (error == -ETIMEDOUT) {
        what = "it is locked by a writer";
        advice = "try again, or raise the time limit";
    } else if (code == SQLITE_READONLY_ROLLBACK || code == SQLITE_READONLY_RECOVERY ||
               code == SQLITE_READONLY_CANTINIT || (code & 0xff) == SQLITE_CANTOPEN) {
        what = "it needs its journal, and that can't be opened (a writer died, or WAL mode on a read-only folder)";
        advice = "open the repository once with write permission";
        error = -EACCES;
    }
    if (asprintf(ret_why, "%s: the registry %s can't be read: %s: %s", q->sql.source, q->sql.name, what,
                 advice) < 0)
        abort();
    return error;
}

static int refuse_path(struct sqlite *q, int error, char **ret_why)
{
    const char *advice = error == -EACCES   ? "ask its owner for read permission"
                         : error == -ENOENT ? "the repository's butler.yaml names a file that is not there"
                                            : "see `registry.db` in its butler.yaml";
    if (asprintf(ret_why, "%s: the registry %s can't be opened: %s: %s", q->sql.source, q->sql.name,
                 error == -EINVAL ? "not a regular file" : strerror(-error), advice) < 0)
        abort();
    return error;
}

static int connect_file(struct sqlite *q, char **ret_why)
{
    BUFFER_CLEANUP uri = {0};
    struct stat before, after;
    if (stat(q->sql.name, &before) < 0)
        return refuse_path(q, -errno, ret_why);
    if (!S_ISREG(before.st_mode)) // SQLite would wait for ever for a FIFO's writer
        return refuse_path(q, -EINVAL, ret_why);
    write_uri(q->sql.name, &uri);
    int rc = sqlite3_open_v2(uri.data, &q->db,
                             SQLITE_OPEN_READONLY | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc == SQLITE_CANTOPEN && sqlite3_system_errno(q->db))
        return refuse_path(q, -sqlite3_system_errno(q->db), ret_why);
    if (rc == SQLITE_OK)
        rc = configure(q);
    if (rc == SQLITE_OK) // the first that reads the file
        rc = run(q, "SELECT count(*) FROM sqlite_schema");
    if (rc != SQLITE_OK)
        return refuse_code(q, rc, ret_why);
    if (stat(q->sql.name, &after) < 0)
        return refuse_path(q, -errno, ret_why);
    if (before.st_dev != after.st_dev || before.st_ino != after.st_ino)
        return -EAGAIN; // it was replaced while it was opened
    q->device = after.st_dev;
    q->inode = after.st_ino;
    return 0;
}

static int connect_and_check(struct sqlite *q, char **ret_why)
{
    int r = -EAGAIN;
    for (int tries = 0; tries < 5 && r == -EAGAIN; tries++) {
        disconnect(q);
        r = connect_file(q, ret_why);
    }
    if (r == -EAGAIN && asprintf(ret_why, "%s: the registry %s is being replaced again and again",
                                 q->sql.source, q->sql.name) < 0)
        abort();
    if (r == 0)
        r = sql_check_schema(&q->sql, ret_why);
    if (r < 0)
        disconnect(q);
    return r;
}

static bool is_same_file(const struct sqlite *q)
{
    struct stat st;
    return stat(q->sql.name, &st) == 0 && st.st_dev == q->device && st.st_ino == q->inode;
}

int sqlite_enter_verb(struct sql *sql)
{
    struct sqlite *q = sqlite_of(sql);
    set_deadlines(q);
    if (q->db && is_same_file(q))
        return 0;
    cleanup(cleanup_free) char *why = NULL;
    int r = connect_and_check(q, &why);
    if (r < 0) {
        sql_log_trouble(sql, why);
        return r == -ENOENT ? -EIO : r; // to our caller ENOENT is an answer
    }
    log_info("%s: another file has taken the registry's place and was opened", q->sql.name);
    return 0;
}

// ---------------------------------------------------------------------------------------------
// Transactions.

int sqlite_begin_marked(struct sqlite *q, uint64_t *ret_mark)
{
    for (int tries = 0; tries < 8; tries++) {
        struct wal_header before = {0};
        if (ret_mark)
            sqlite_wal_header(q, &before);
        int r = sqlite_step(q, q->begin);
        sqlite3_reset(q->begin);
        if (r < 0 || !ret_mark)
            return r;
        r = sqlite_read_mark(q, &before, ret_mark);
        if (r == 0)
            return 0;
        sqlite_end(&q->sql);
        if (r != -EAGAIN)
            return r;
    }
    *ret_mark = 0; // writers never rest: read all the same
    int r = sqlite_step(q, q->begin);
    sqlite3_reset(q->begin);
    return r;
}

static int sqlite_begin(struct sql *q)
{
    return sqlite_begin_marked(sqlite_of(q), NULL);
}

void sqlite_end(struct sql *sql)
{
    struct sqlite *q = sqlite_of(sql);
    int r = sqlite_step(q, q->end); // of a reader it can't fail for lack of a lock
    sqlite3_reset(q->end);
    if (r < 0 && !sqlite3_get_autocommit(q->db))
        run(q, "ROLLBACK");
}

// ---------------------------------------------------------------------------------------------
// Statements.

static bool same_sql(uint64_t value, const void *key, void *context)
{
    const struct sqlite *q = context;
    return strcmp(q->statements[value - 1].sql, key) == 0;
}

// A free place, or that of one that isn't in use just now.
static struct statement *statement_place(struct sqlite *q)
{
    for (;;) {
        struct statement *s = &q->statements[q->statement_next];
        q->statement_next = (q->statement_next + 1) % STATEMENTS_MAX;
        if (s->prepared && sqlite3_stmt_busy(s->prepared))
            continue;
        if (s->prepared) {
            table_remove(&q->by_sql, s->hash, (uint64_t)(s - q->statements) + 1);
            sqlite3_finalize(s->prepared);
            free(s->sql);
            *s = (struct statement){0};
        }
        return s;
    }
}

bool sqlite_is_prepared(struct sqlite *q)
{
    uint64_t hash = hash64(q->sql.text.data, q->sql.text.size_bytes);
    return table_find(&q->by_sql, hash, same_sql, q->sql.text.data, q) != 0;
}

int sqlite_prepare(struct sqlite *q, sqlite3_stmt **ret_statement)
{
    uint64_t hash = hash64(q->sql.text.data, q->sql.text.size_bytes);
    uint64_t found = table_find(&q->by_sql, hash, same_sql, q->sql.text.data, q);
    if (found) {
        *ret_statement = q->statements[found - 1].prepared;
        return 0;
    }
    sqlite3_stmt *prepared = NULL;
    int rc = sqlite3_prepare_v3(q->db, q->sql.text.data, (int)q->sql.text.size_bytes + 1,
                                SQLITE_PREPARE_PERSISTENT, &prepared, NULL);
    if (rc != SQLITE_OK)
        return sqlite_error(q, rc);
    struct statement *s = statement_place(q);
    *s = (struct statement){.hash = hash,
                            .sql = memory_copy(q->sql.text.data, q->sql.text.size_bytes),
                            .prepared = prepared};
    table_add(&q->by_sql, hash, (uint64_t)(s - q->statements) + 1);
    *ret_statement = prepared;
    return 0;
}

int sqlite_step(struct sqlite *q, sqlite3_stmt *statement)
{
    int rc = sqlite3_step(statement);
    if (rc == SQLITE_ROW)
        return 1;
    if (rc == SQLITE_DONE)
        return 0;
    return sqlite_error(q, rc);
}

void sqlite_bind(sqlite3_stmt *statement, int at, const struct value *v)
{
    int rc = v->kind == VALUE_INTEGER
                 ? sqlite3_bind_int64(statement, at, v->integer)
                 : sqlite3_bind_text64(statement, at, v->text.data ? v->text.data : "",
                                       v->text.size_bytes, SQLITE_STATIC, SQLITE_UTF8);
    check(rc == SQLITE_OK || rc == SQLITE_TOOBIG); // too big: unbound is NULL, which equals nothing
}

bool sqlite_has_table(struct sqlite *q, const char *table)
{
    return sqlite3_table_column_metadata(q->db, "main", table, NULL, NULL, NULL, NULL, NULL,
                                         NULL) == SQLITE_OK;
}

static int sqlite_start(struct sql *sql, const struct value *values, uint32_t count, bool is_long,
                        struct sql_rows **ret_rows)
{
    sqlite3_stmt *statement = NULL;
    int r = sqlite_prepare(sqlite_of(sql), &statement);
    if (r < 0)
        return r;
    for (uint32_t i = 0; i < count; i++)
        if ((int)i < sqlite3_bind_parameter_count(statement))
            sqlite_bind(statement, (int)i + 1, &values[i]);
    *ret_rows = (struct sql_rows *)statement;
    return 0;
}

static sqlite3_stmt *statement_of(const struct sql_rows *rows)
{
    return (sqlite3_stmt *)(uintptr_t)rows;
}

static int sqlite_step_rows(struct sql *q, struct sql_rows *rows)
{
    return sqlite_step(sqlite_of(q), statement_of(rows));
}

static void sqlite_done(struct sql *q, struct sql_rows *rows)
{
    sqlite3_reset(statement_of(rows));
    sqlite3_clear_bindings(statement_of(rows));
}

// The type is to be asked first: reading may change it.
static enum field_kind sqlite_kind(const struct sql_rows *rows, int column)
{
    switch (sqlite3_column_type(statement_of(rows), column)) {
    case SQLITE_INTEGER:
        return FIELD_INTEGER;
    case SQLITE_FLOAT:
        return FIELD_REAL;
    case SQLITE_TEXT:
        return FIELD_TEXT;
    case SQLITE_NULL:
        return FIELD_NULL;
    default:
        return FIELD_OPEN; // a blob: nothing of ours
    }
}

static int64_t sqlite_integer(const struct sql_rows *rows, int column)
{
    return sqlite3_column_int64(statement_of(rows), column);
}

static double sqlite_real(const struct sql_rows *rows, int column)
{
    return sqlite3_column_double(statement_of(rows), column);
}

static struct text sqlite_text(const struct sql_rows *rows, int column)
{
    sqlite3_stmt *statement = statement_of(rows);
    const unsigned char *data = sqlite3_column_text(statement, column); // first: it may convert
    size_t size_bytes = (size_t)sqlite3_column_bytes(statement, column);
    return data ? (struct text){(const char *)data, size_bytes} : TEXT("");
}

static void sqlite_tables(struct sql *q)
{
    sql_add(q, "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name IN (");
}

static void sqlite_columns(struct sql *q)
{
    sql_add(q, "SELECT m.name, c.name FROM sqlite_schema AS m CROSS JOIN pragma_table_info(m.name) AS c"
               " WHERE m.type = 'table' ORDER BY m.name, c.cid");
}

// ---------------------------------------------------------------------------------------------

static void sqlite_close(struct registry *r)
{
    struct sqlite *q = sqlite_of_registry(r);
    disconnect(q);
    free(q->records);
    free(q->is_absent);
    sql_release(&q->sql);
    free(q);
}

static const struct sql_dialect sqlite_dialect = {
    .name = "SQLite",
    .parameter = '?',
    .place_column = "rowid",
    .same_range = "o.timespan_begin = t.timespan_begin AND o.timespan_end = t.timespan_end",
    .range_columns = {"timespan_begin", "timespan_end"},
    .span_columns = "x.timespan_begin, x.timespan_end",
    .enter = sqlite_enter_verb,
    .begin = sqlite_begin,
    .end = sqlite_end,
    .start = sqlite_start,
    .step = sqlite_step_rows,
    .done = sqlite_done,
    .kind = sqlite_kind,
    .integer = sqlite_integer,
    .real = sqlite_real,
    .text = sqlite_text,
    .table = sql_name,
    .tables = sqlite_tables,
    .columns = sqlite_columns,
    .run_dataset = sqlite_run_dataset,
    .files = sqlite_files,
};

static const struct registry_ops sqlite_ops = {
    .name = "sqlite",
    .close = sqlite_close,
    .mark = sqlite_mark,
    .snapshot = sql_snapshot,
    .page = sqlite_page,
    .row = sqlite_row,
    .enter = sql_enter,
    .dataset = sql_dataset,
    .implied = sql_implied,
    .timespan = sql_timespan,
    .record = sql_record,
};

int registry_open_sqlite(const struct repository_config *config, int64_t limit_ns,
                         struct registry **ret_registry, char **ret_why)
{
    struct sqlite *q = new_struct(struct sqlite);
    sql_init(&q->sql, &sqlite_ops, &sqlite_dialect, config, config->database_path, limit_ns);
    q->records = memory_new((q->sql.datastore_count + 1) * sizeof *q->records);
    q->is_absent = memory_new((q->sql.datastore_count + 1) * sizeof *q->is_absent);
    set_deadlines(q);
    int r = connect_and_check(q, ret_why);
    if (r < 0) {
        sqlite_close(&q->sql.registry);
        return r;
    }
    *ret_registry = &q->sql.registry;
    return 0;
}
