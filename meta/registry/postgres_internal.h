// SPDX-License-Identifier: BSD-3-Clause
// What the files of the PostgreSQL registry share: the connection, its transactions, how statements are
// sent and their rows read. Invariants stand in postgres.c.
#pragma once
#include <libpq-fe.h>

#include "meta/registry/sql.h"

#define ROWS_MAX 8 // statements running at a time

// When a row x of a dimension's or a calibs table begins and ends, as SQLite's registries have it.
#define POSTGRES_BEGIN(x) \
    "CASE WHEN " x ".timespan IS NULL THEN NULL WHEN isempty(" x ".timespan) THEN 1" \
    " ELSE coalesce(lower(" x ".timespan), 0) END"
#define POSTGRES_END(x) \
    "CASE WHEN " x ".timespan IS NULL THEN NULL WHEN isempty(" x ".timespan) THEN 0" \
    " ELSE coalesce(upper(" x ".timespan), 4102444800000000000) END"

struct sql_rows {
    PGresult *result; // NULL: none (left)
    int row, count;   // row: -1 before the first
    bool is_long;     // row by row from the server
    bool is_empty;    // a parameter that no value in the database can equal: not asked
    bool is_used;
};

struct postgres {
    struct sql sql;
    const struct repository_config *config;
    PGconn *connection;          // NULL: none
    int64_t deadline_ns;         // of the verb in work
    int64_t heard_ns;            // when the server said something last, or the verb began
    int64_t told_ns;             // how long a statement may take, as the transaction was told
    int64_t statement_ns;        // the most that a statement may take at the server; 0: what the verb has left
    bool is_cancelled;           // the verb's last failure: the server ended a statement that took too long
    bool is_reached;             // the last time that it was to be connected it was, whatever it then said
    bool is_fresh;               // nothing was asked by this connection yet
    bool is_alone;               // the statement: no transaction is begun for it
    bool is_begun;               // a transaction runs, as far as this side knows
    bool is_broken;              // it failed: only its end will do
    bool is_marked;              // `mark` is of it
    bool has_looked;             // for tables of records that were missing, in this verb
    unsigned syncs_due;          // ends of transactions whose answers were not read yet
    uint64_t mark;
    bool has_no_digest;          // a digest was refused: of views, say
    uint32_t page_rows;          // how many a page has: fewer where the database is slow
    struct sql_rows rows[ROWS_MAX];
};

static inline struct postgres *postgres_of(struct sql *q)
{
    return (struct postgres *)q; // sql is the first field
}

// postgres_connect.c. Connected, checked and in pipeline mode; -errno with *ret_why.
int postgres_connect(struct postgres *p, char **ret_why);
void postgres_disconnect(struct postgres *p);
// Waits until the socket may be read (or written, where something is left to be sent). -ETIMEDOUT.
int postgres_wait(struct postgres *p, short events);
// What the server or the connection says, logged; as our errno. `result`: NULL: of the connection.
int postgres_error(struct postgres *p, const PGresult *result);
bool postgres_is_lost(const struct postgres *p); // the connection, not just the statement

// postgres_run.c: the dialect's.
int postgres_enter(struct sql *q);
int postgres_begin(struct sql *q);
void postgres_end(struct sql *q);
int postgres_start(struct sql *q, const struct value *values, uint32_t count, bool is_long,
                   struct sql_rows **ret_rows);
int postgres_step(struct sql *q, struct sql_rows *rows);
void postgres_done(struct sql *q, struct sql_rows *rows);
enum field_kind postgres_kind(const struct sql_rows *rows, int column);
int64_t postgres_integer(const struct sql_rows *rows, int column);
double postgres_real(const struct sql_rows *rows, int column);
struct text postgres_text(const struct sql_rows *rows, int column);
int postgres_mark(struct registry *r, uint64_t *ret_mark);
// The mark of the state that the running transaction sees, 0 on a standby; begins it at the server if need be.
int postgres_mark_of(struct postgres *p, uint64_t *ret_mark);

// postgres_rows.c.
int postgres_files(struct sql *q, struct sql_rows *rows, uint32_t *ret_count);
int postgres_run_dataset(const struct sql_source *o, const struct value *id, const struct value *run,
                         struct sql_rows **ret_rows);
int postgres_page(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                  int64_t collection_id, struct buffer *cursor, uint32_t limit, registry_each *each,
                  void *context, bool *ret_end, uint64_t *ret_mark);
// A statement about datasets: postgres_select, then in q->text the rows t ("SELECT * FROM <table> WHERE
// ..."), then postgres_join with the columns of t that order the rows (NULL: none). postgres_look
// before it.
int postgres_look(struct sql *q); // for records' tables that weren't there
bool postgres_has_records(const struct sql *q); // there is one
void postgres_select(const struct sql_source *o);
void postgres_join(const struct sql_source *o, const char *order);
void postgres_add_day_obs(const struct sql_source *o); // what postgres_join has of x
// "<separator><alias><column>..." of the data ID, the first after `before`.
void postgres_add_columns(const struct sql_source *o, const char *before, const char *alias);

// postgres_digest.c.
int postgres_digest(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                    const int64_t *collections, uint32_t count, uint64_t *ret_digest);

// postgres_present.c.
int postgres_present(struct registry *r, const struct snapshot *s, const int64_t *collections,
                     uint32_t count, const struct dataset_type *const *types, uint32_t type_count,
                     bool *ret_present);

// postgres_folder.c.
int postgres_folder(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                    const int64_t *collections, uint32_t count, const struct value *values,
                    uint32_t depth, uint32_t limit, registry_each *each, void *context);

// postgres_find.c. "SELECT ... WHERE ...": rows c of the source's table of the type $1 in the collections $2, each
// with the rank of its collection.
void postgres_add_ranked(const struct sql_source *o);
int postgres_row(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                 const struct registry_search *search, registry_each *each, void *context);
