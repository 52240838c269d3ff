// SPDX-License-Identifier: BSD-3-Clause
// What the files of the SQLite registry share: the connection, its statements, transactions and how
// its errors become ours. A verb begins with sqlite_enter_verb, uses statements, leaves them reset,
// and ends its transaction: no lock on the database outlives a verb.
#pragma once
#include <sqlite3.h>
#include <sys/types.h>

#include "base/buffer.h"
#include "base/table.h"
#include "meta/registry/registry.h"

#define STATEMENTS_MAX 256

struct statement {
    uint64_t hash; // of its SQL
    char *sql;
    sqlite3_stmt *prepared;
};

struct sqlite {
    struct registry registry;
    char *source;                // for messages
    char *path;
    int64_t limit_ns;
    sqlite3 *db;                 // NULL: the file was replaced and not opened again yet
    dev_t device;                // of the file that is open
    ino_t inode;
    bool is_wal;                 // when its header was last read
    int64_t lock_deadline_ns;    // of the verb in work: waiting for locks
    int64_t work_deadline_ns;    // and all of it
    sqlite3_stmt *begin, *end, *version;
    struct statement statements[STATEMENTS_MAX];
    uint32_t statement_next;     // which one is dropped next when all are in use
    struct table by_sql;         // hash of SQL -> index + 1
    char **records_tables;       // by datastore
    sqlite3_stmt **records;      // this verb's statements for them, once used
    bool *records_missing;       // the table isn't there, in this verb
    uint32_t datastore_count;
    struct table refused;        // hashes of the tables whose bad rows were logged
    uint64_t last_trouble;       // hash of the last words logged
    int64_t last_trouble_ns;
    struct buffer sql;           // scratch: the statement that is being written
    struct buffer texts;         // scratch: texts of a row's files
    struct value values[LEVELS_MAX];
    struct registry_file files[ROW_FILES_MAX];
};

static inline struct sqlite *sqlite_of(struct registry *r)
{
    return (struct sqlite *)r; // registry is the first field
}

// Sets the verb's deadlines; opens the file again if another has taken its place.
int sqlite_enter_verb(struct sqlite *q);
// A read transaction, so that several statements see one state. *ret_mark (NULL: not wanted) is of
// exactly that state.
int sqlite_begin(struct sqlite *q, uint64_t *ret_mark);
void sqlite_end(struct sqlite *q);

// The mark of the state that the running read transaction sees; in sqlite_mark.c. `before` is what
// sqlite_wal_header said just before the transaction began.
#define WAL_HEADER_BYTES 48
struct wal_header {
    bool is_known;
    uint8_t bytes[WAL_HEADER_BYTES];
};
void sqlite_wal_header(struct sqlite *q, struct wal_header *ret_header);
// 0: tells; -EAGAIN: a writer committed meanwhile, begin again; *ret_mark 0: can't be told.
int sqlite_read_mark(struct sqlite *q, const struct wal_header *before, uint64_t *ret_mark);

// Writing SQL into q->sql.
void sql_start(struct sqlite *q, const char *text);
void sql_add(struct sqlite *q, const char *text);
void sql_name(struct sqlite *q, struct text name); // quoted
// The prepared statement of q->sql, kept for the next time. Bind, step until 0, sqlite_done.
// It stays valid for the verb: none uses nearly STATEMENTS_MAX of them.
int sqlite_prepare(struct sqlite *q, sqlite3_stmt **ret_statement);
bool sqlite_is_prepared(struct sqlite *q); // it would be found ready
int sqlite_step(struct sqlite *q, sqlite3_stmt *statement); // 1: a row, 0: no more, -errno
void sqlite_done(sqlite3_stmt **statement); // resets and forgets what was bound; NULL is fine
void sqlite_bind(sqlite3_stmt *statement, int at, const struct value *v); // borrowed until done
static inline struct text sqlite_text(sqlite3_stmt *statement, int column)
{
    const unsigned char *data = sqlite3_column_text(statement, column); // first: it may convert
    size_t size_bytes = (size_t)sqlite3_column_bytes(statement, column);
    return data ? (struct text){(const char *)data, size_bytes} : TEXT("");
}

// Maps a result code and logs SQLite's words, once as long as they stay the same.
int sqlite_error(struct sqlite *q, int code);
int sqlite_errno(int code);
// A row of `table` that is not as it must be: counted, and logged once per table.
void sqlite_refuse_row(struct sqlite *q, struct text table, const char *what);
bool sqlite_has_table(struct sqlite *q, const char *table);

// sqlite_check.c: whether this is a registry that can be read. *ret_why as in registry.h.
int sqlite_check_schema(struct sqlite *q, char **ret_why);

// The verbs.
int sqlite_mark(struct registry *r, uint64_t *ret_mark);
int sqlite_snapshot(struct registry *r, struct snapshot *s, char **ret_why);
int sqlite_present(struct registry *r, const struct dataset_type *t, int64_t collection_id);
int sqlite_page(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                int64_t collection_id, struct buffer *cursor, uint32_t limit, registry_each *each,
                void *context, bool *ret_end, uint64_t *ret_mark);
int sqlite_row(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
               const int64_t *collections, uint32_t count, const struct value *values,
               registry_each *each, void *context);
int sqlite_enter(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                 const int64_t *collections, uint32_t count, const struct value *values,
                 uint32_t depth);
int sqlite_dataset(struct registry *r, const struct snapshot *s, const struct uuid *uuid,
                   registry_each *each, void *context);
int sqlite_implied(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                   const struct value *values,
                   int (*each)(const struct element *e, const struct value *v, void *context),
                   void *context);
