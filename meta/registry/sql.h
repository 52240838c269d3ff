// SPDX-License-Identifier: BSD-3-Clause
// sql: what registries in SQL databases share. The tables are the same in SQLite and in PostgreSQL, so
// what is read of them and how it is checked stands once, in sql_*.c; what differs (a connection, how
// a statement is run, a page's order, where a dataset's files come from) is a `struct sql_dialect`.
// A verb: enter, begin, statements (start, step until 0, done), end. One thread at a time.
// The registries' own; nobody else includes it.
#pragma once
#include "base/buffer.h"
#include "base/table.h"
#include "meta/registry/registry.h"
#include "meta/said.h"

struct sql;
struct sql_rows; // a running statement; the dialect's
struct sql_source;

struct sql_dialect {
    const char *name;   // for people
    char parameter;     // what stands before a parameter's number
    bool has_arrays;    // several collections are asked in one statement: column = ANY($n)
    const char *place_column;    // of a calibs table: what tells its rows apart
    const char *same_range;      // rows o and t of it have one range
    const char *range_columns[2]; // of it; the second may be NULL
    const char *span_columns;    // of a dimension's table x: when it begins and ends, as integers
    // A verb begins: its deadline runs; connects again if need be.
    int (*enter)(struct sql *q);
    // A read transaction, so that all statements see one state.
    int (*begin)(struct sql *q);
    void (*end)(struct sql *q);
    // The statement in q->text, with `values` for its parameters 1, 2, ...; borrowed until done.
    // `is_long`: more rows may come than should be in memory; then no other until it is done.
    int (*start)(struct sql *q, const struct value *values, uint32_t count, bool is_long,
                 struct sql_rows **ret_rows);
    int (*step)(struct sql *q, struct sql_rows *rows); // 1: a row, 0: no more, -errno
    void (*done)(struct sql *q, struct sql_rows *rows);
    // Columns of the row: FIELD_NULL, _INTEGER, _REAL or _TEXT; texts are valid until the next step.
    enum field_kind (*kind)(const struct sql_rows *rows, int column);
    int64_t (*integer)(const struct sql_rows *rows, int column);
    double (*real)(const struct sql_rows *rows, int column);
    struct text (*text)(const struct sql_rows *rows, int column);
    // Appended to q->text: a table's name as statements say it; the beginning of a statement for the
    // names of tables and views, up to "... IN ("; and one for (table, column) of all tables, by
    // table and place.
    void (*table)(struct sql *q, struct text name);
    void (*tables)(struct sql *q);
    void (*columns)(struct sql *q);
    // Starts the statement that reads the dataset `id` in its run.
    int (*run_dataset)(const struct sql_source *o, const struct value *id, const struct value *run,
                       struct sql_rows **ret_rows);
    // The files of the dataset that the statement stands at into q->files, q->texts.
    int (*files)(struct sql *q, struct sql_rows *rows, uint32_t *ret_count);
};

struct sql {
    struct registry registry;
    const struct sql_dialect *dialect;
    char *source;          // for messages: the repository
    char *name;            // and the database: a path, or a host and what is there; no password
    bool is_keyed_by_name; // collections have no number: see sql_collection.c
    char **records_tables; // by datastore
    bool *records_missing; // when the registry was checked: the client makes them when it first writes
    uint32_t datastore_count;
    struct table refused;  // hashes of the tables whose bad rows were logged
    struct buffer words;   // what the database said last, when something went wrong
    struct said *said;     // of its trouble: the repository's, as each librarian's connection has the same
    struct said own_said;  // where it has none
    struct buffer text;    // scratch: the statement that is being written
    struct buffer texts;   // scratch: texts of a row's files
    struct value values[LEVELS_MAX];
    struct registry_file files[ROW_FILES_MAX];
};

static inline struct sql *sql_of(struct registry *r)
{
    return (struct sql *)r; // registry is the first field
}

void sql_init(struct sql *q, const struct registry_ops *ops, const struct sql_dialect *dialect,
              const struct repository_config *config, const char *name, int64_t limit_ns);
void sql_release(struct sql *q);

// Writing statements into q->text. Names are quoted.
void sql_start(struct sql *q, const char *text);
void sql_add(struct sql *q, const char *text);
void sql_name(struct sql *q, struct text name);
void sql_table(struct sql *q, struct text name);
void sql_parameter(struct sql *q, uint32_t number);
void sql_literal(struct sql *q, struct text t); // a text; for what is known to be harmless, or small
// "<before><alias>.<column of the key> = <parameter>" for each required element of e, the first
// being `first`; sql_key_column names the column.
struct text sql_key_column(const struct snapshot *s, const struct element *e, uint32_t required);
void sql_where_key(struct sql *q, const struct snapshot *s, const struct element *e, uint32_t first);

// Running them: q->dialect's, with the scope's end.
int sql_run(struct sql *q, const struct value *values, uint32_t count, struct sql_rows **ret_rows);
int sql_run_long(struct sql *q, const struct value *values, uint32_t count,
                 struct sql_rows **ret_rows);
int sql_step(struct sql *q, struct sql_rows *rows);
void sql_done(struct sql *q, struct sql_rows **rows); // NULL is fine
// Whether the statement in q->text has a row. >0, 0, -errno.
int sql_has_row(struct sql *q, const struct value *values, uint32_t count);
// Enters and begins.
int sql_begin_verb(struct sql *q);

static inline enum field_kind sql_kind(const struct sql *q, const struct sql_rows *rows, int column)
{
    return q->dialect->kind(rows, column);
}

static inline int64_t sql_integer(const struct sql *q, const struct sql_rows *rows, int column)
{
    return q->dialect->integer(rows, column);
}

static inline struct text sql_text(const struct sql *q, const struct sql_rows *rows, int column)
{
    return q->dialect->text(rows, column);
}

// Keeps what the database says, and logs it, once as long as it stays the same.
void sql_log_trouble(struct sql *q, const char *words);
// A row of `table` that is not as it must be: counted, and logged once per table.
void sql_refuse_row(struct sql *q, struct text table, const char *what);

// How collections are named in SQL and told apart; in sql_collection.c.
const char *sql_collection_column(const struct sql *q); // of all tables but its own
const char *sql_run_column(const struct sql *q);        // of `dataset`
// What that column holds, borrowed from the snapshot. false: the snapshot has no such collection.
bool sql_collection_key(const struct sql *q, const struct snapshot *s, int64_t id,
                        struct value *ret_key);
// The id of the collection whose key stands in this column. false: it isn't one.
bool sql_read_collection(const struct sql *q, const struct sql_rows *rows, int column,
                         int64_t *ret_id);
// The keys of those of `ids` that are CALIBRATION collections, or aren't, in order, as an array for a
// dialect that has them; how many.
uint32_t sql_collections(const struct sql *q, const struct snapshot *s, const int64_t *ids,
                         uint32_t count, bool is_calibs, struct buffer *array);
// Whether a search looks into the type's tags tables, or its calibs tables.
bool sql_search_wants(const struct registry_search *search, const struct dataset_type *t,
                      bool is_calibs);
bool sql_is_calibs(const struct snapshot *s, int64_t collection_id);

// Rows of a tags table or a calibs table, in sql_rows.c: the columns that every dialect selects first.
enum {
    COLUMN_PLACE, // the dialect's: where a page goes on
    COLUMN_COLLECTION,
    COLUMN_ID,
    COLUMN_RUN,
    COLUMN_INGEST,
    COLUMN_DAY_OBS,
    COLUMN_BEGIN, // these four of a calibs table; NULL of a tags table
    COLUMN_END,
    COLUMN_TWIN,
    COLUMN_DOUBLE,
    COLUMN_FIRST // of the data ID, in the order of the table's
};

struct sql_source {
    struct sql *q;
    const struct snapshot *s;
    const struct dataset_type *t;
    bool is_calibs;
    registry_each *each;
    void *context;
};

static inline struct text sql_source_table(const struct sql_source *o)
{
    return o->is_calibs ? o->t->calibs_table : o->t->tags_table;
}

// The name of the data ID's i-th column in the table.
static inline struct text sql_column(const struct sql_source *o, uint32_t i)
{
    return o->s->elements[o->t->levels[o->t->columns[i]].element].name;
}

// ", <twin>, <double>" of a calibs table's row t.
void sql_add_twins(const struct sql_source *o);
// "<begin> x.<key> = t.<key> ..." for the element that implies the day_obs.
void sql_add_day_obs_key(const struct sql_source *o, const char *begin);
// The row the statement stands at. 1: it was handed out; 0: refused; or what `each` answered.
int sql_hand_out(const struct sql_source *o, struct sql_rows *rows);
// Adds one of a dataset's files to q->files, from five columns of a row: component, path, storage
// class, checksum, size. false: there are too many.
bool sql_add_file(struct sql *q, const struct sql_rows *rows, int column, uint32_t datastore,
                  uint32_t *count);
int sql_read_span(const struct sql *q, const struct sql_rows *rows, int column,
                  struct timespan *ret_span); // -EBADMSG

#define UUID_DIGITS 32
void sql_write_uuid(const struct uuid *u, char ret_hex[UUID_DIGITS]);
int sql_read_uuid(struct text hex, struct uuid *ret_uuid); // with hyphens or without; -EBADMSG

// sql_check.c: whether this is a registry that can be read. *ret_why as in registry.h.
int sql_check_schema(struct sql *q, char **ret_why);

// The verbs that are the same for all.
int sql_snapshot(struct registry *r, struct snapshot *s, char **ret_why);
int sql_enter(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
              const int64_t *collections, uint32_t count, const struct value *values,
              uint32_t depth);
int sql_implied(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                const struct value *values,
                int (*each)(const struct element *e, const struct value *v, void *context),
                void *context);
int sql_dataset(struct registry *r, const struct snapshot *s, const struct uuid *uuid,
                registry_each *each, void *context);
int sql_timespan(struct registry *r, const struct snapshot *s, const struct element *e,
                 const struct value *values, struct timespan *ret_span);
int sql_record(struct registry *r, const struct snapshot *s, const struct element *e,
               const struct value *values, const struct text *columns, uint32_t count,
               struct field *ret_fields, struct buffer *store);
