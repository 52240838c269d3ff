// SPDX-License-Identifier: BSD-3-Clause
// What the files of the SQLite registry share: the connection, its statements, transactions and how
// its errors become ours. A verb begins with sqlite_enter_verb, uses statements, leaves them reset,
// and ends its transaction: no lock on the database outlives a verb.
#pragma once
#include <sqlite3.h>
#include <sys/types.h>

#include "meta/registry/sql.h"

#define STATEMENTS_MAX 256

struct statement {
    uint64_t hash; // of its SQL
    char *sql;
    sqlite3_stmt *prepared;
};

struct sqlite {
    struct sql sql;
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
    sqlite3_stmt **records;      // by datastore: this verb's statements for its records, once used
    bool *is_absent;             // by datastore: the table isn't there, in this verb
};

static inline struct sqlite *sqlite_of(struct sql *q)
{
    return (struct sqlite *)q; // sql is the first field
}

static inline struct sqlite *sqlite_of_registry(struct registry *r)
{
    return sqlite_of(sql_of(r));
}

// Sets the verb's deadlines; opens the file again if another has taken its place.
int sqlite_enter_verb(struct sql *q);
// A read transaction, so that several statements see one state. *ret_mark (NULL: not wanted) is of
// exactly that state.
int sqlite_begin_marked(struct sqlite *q, uint64_t *ret_mark);
void sqlite_end(struct sql *q);

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

// The prepared statement of q->sql.text, kept for the next time. Bind, step until 0, reset.
// It stays valid for the verb: none uses nearly STATEMENTS_MAX of them.
int sqlite_prepare(struct sqlite *q, sqlite3_stmt **ret_statement);
bool sqlite_is_prepared(struct sqlite *q); // it would be found ready
int sqlite_step(struct sqlite *q, sqlite3_stmt *statement); // 1: a row, 0: no more, -errno
void sqlite_bind(sqlite3_stmt *statement, int at, const struct value *v); // borrowed until reset

// Maps a result code and logs SQLite's words, once as long as they stay the same.
int sqlite_error(struct sqlite *q, int code);
int sqlite_errno(int code);
bool sqlite_has_table(struct sqlite *q, const char *table);

// Rows of a tags table or a calibs table, in sqlite_rows.c.
void sqlite_select(const struct sql_source *o); // "SELECT ... FROM ... AS t ...", without WHERE
int sqlite_files(struct sql *q, struct sql_rows *rows, uint32_t *ret_count);
int sqlite_run_dataset(const struct sql_source *o, const struct value *id, const struct value *run,
                       struct sql_rows **ret_rows);

// The verbs that aren't the same for all.
int sqlite_mark(struct registry *r, uint64_t *ret_mark);
int sqlite_page(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                int64_t collection_id, struct buffer *cursor, uint32_t limit, registry_each *each,
                void *context, bool *ret_end, uint64_t *ret_mark);
int sqlite_row(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
               const struct registry_search *search, registry_each *each, void *context);
