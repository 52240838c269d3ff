// SPDX-License-Identifier: BSD-3-Clause
// Statements and transactions, by libpq's pipeline: a transaction's beginning goes out with its first
// statement, its end is sent and not waited for (postgres.c, 1 to 5).
//
//     BEGIN; set_config, mark; <statement> [flush] ... <statement> [flush] ... COMMIT [sync]
//     answers:                 ◀───────────────── waited for ────────────────▶ read at the next beginning
//
// An error makes the server skip all up to the next sync: then a sync is sent before the COMMIT.
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "meta/registry/postgres_internal.h"

#define OID_BOOL 16
#define OID_INT8 20
#define OID_INT2 21
#define OID_INT4 23
#define OID_FLOAT4 700
#define OID_FLOAT8 701
#define OID_NUMERIC 1700

// ---------------------------------------------------------------------------------------------
// Sending and receiving.

static int lost(struct postgres *p, const PGresult *result)
{
    p->is_broken = true;
    p->sql.registry.is_away = p->sql.registry.is_away || postgres_is_lost(p);
    return postgres_error(p, result);
}

// The next result; NULL: the end of one command's.
static int receive(struct postgres *p, PGresult **ret_result)
{
    for (;;) {
        int flushed = PQflush(p->connection);
        if (flushed < 0)
            return lost(p, NULL);
        if (!PQisBusy(p->connection)) {
            *ret_result = PQgetResult(p->connection);
            return 0;
        }
        int r = postgres_wait(p, flushed ? POLLIN | POLLOUT : POLLIN);
        if (r < 0) {
            postgres_disconnect(p); // what is still to come would be taken for another's
            return r;
        }
        if (!PQconsumeInput(p->connection))
            return lost(p, NULL);
    }
}

// Reads one command's results up to its end, handing over the one with rows (*ret_rows NULL: none is wanted).
static int receive_all(struct postgres *p, PGresult **ret_rows)
{
    int error = 0;
    for (;;) {
        PGresult *result = NULL;
        int r = receive(p, &result);
        if (r < 0)
            return r;
        if (!result)
            return error;
        ExecStatusType status = PQresultStatus(result);
        if (status == PGRES_TUPLES_OK && ret_rows && !*ret_rows) {
            *ret_rows = result;
            continue;
        }
        if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK && error == 0)
            error = lost(p, result);
        PQclear(result);
        if (postgres_is_lost(p))
            return error ? error : lost(p, NULL);
    }
}

// The answers to the ends of transactions.
static int receive_syncs(struct postgres *p)
{
    for (unsigned nothing = 0; p->syncs_due;) {
        PGresult *result = NULL;
        int r = receive(p, &result);
        if (r < 0)
            return r;
        nothing = result ? 0 : nothing + 1;
        if (postgres_is_lost(p) || nothing > 2) { // twice: there is nothing to wait for
            PQclear(result);
            r = lost(p, NULL);
            postgres_disconnect(p);
            return r;
        }
        if (result && PQresultStatus(result) == PGRES_PIPELINE_SYNC)
            p->syncs_due--;
        PQclear(result); // a COMMIT that failed has nothing to lose
    }
    return 0;
}

static int send(struct postgres *p, const char *sql, int count, const char *const *values,
                const int *sizes, const int *formats)
{
    if (PQsendQueryParams(p->connection, sql, count, NULL, values, sizes, formats, 0))
        return 0;
    return lost(p, NULL);
}

// ---------------------------------------------------------------------------------------------
// Transactions.

static int connect_again(struct postgres *p)
{
    cleanup(cleanup_free) char *why = NULL;
    bool is_alone = p->is_alone;
    p->is_alone = false; // its checks are a transaction
    int r = postgres_connect(p, &why);
    p->is_alone = is_alone;
    if (r < 0 && p->is_reached) // else it was logged
        sql_log_trouble(&p->sql, why);
    return r == -ENOENT ? -EIO : r; // to our caller ENOENT is an answer
}

int postgres_enter(struct sql *q)
{
    struct postgres *p = postgres_of(q);
    p->heard_ns = clock_ns();
    p->deadline_ns = p->heard_ns + q->registry.limit_ns;
    p->has_looked = p->is_cancelled = false;
    q->registry.is_away = q->registry.is_refused = false;
    if (!postgres_is_lost(p))
        return 0;
    return connect_again(p);
}

int postgres_begin(struct sql *q)
{
    struct postgres *p = postgres_of(q);
    check(!p->is_begun);
    p->is_broken = p->is_marked = false;
    return 0; // with the first statement
}

#define LIMIT_BYTES 32
// On a standby the snapshot doesn't say which transactions run, so it may stay the same when one of them ends: there
// the place in the log counts. It is read after the statement's snapshot was taken and may be ahead of it: of what
// a transaction has read it is no mark.
#define MARK_COLUMNS \
    "pg_catalog.txid_current_snapshot()::text," \
    " (SELECT oid::text FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())," \
    " CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()::text ELSE '' END"

static uint64_t mark_of(struct text state, struct text database, struct text replayed)
{
    uint64_t mark = hash64_seed(state.data, state.size_bytes, hash64(database.data, database.size_bytes));
    mark = replayed.size_bytes ? hash64_seed(replayed.data, replayed.size_bytes, mark) : mark;
    return mark ? mark : 1;
}

// Before our own deadline, so that it is the server's answer that we get.
static void write_limit(struct postgres *p, char limit[LIMIT_BYTES])
{
    p->told_ns = p->deadline_ns - clock_ns();
    if (p->statement_ns && p->statement_ns < p->told_ns)
        p->told_ns = p->statement_ns;
    int64_t left_ms = p->told_ns / NS_PER_MS;
    snprintf(limit, LIMIT_BYTES, "%" PRId64, left_ms > 10 ? left_ms * 9 / 10 : 9);
}

// The statements before have used up some of what the transaction was told.
static bool limit_has_shrunk(const struct postgres *p)
{
    return p->deadline_ns - clock_ns() < p->told_ns - p->sql.registry.limit_ns / 8;
}

static int send_limit(struct postgres *p)
{
    char limit[LIMIT_BYTES];
    const char *values[] = {limit};
    write_limit(p, limit);
    return send(p, "SELECT pg_catalog.set_config('statement_timeout', $1, true)", 1, values, NULL, NULL);
}

// Sends what a transaction begins with.
static int send_begin(struct postgres *p)
{
    char limit[LIMIT_BYTES];
    const char *values[] = {limit};
    write_limit(p, limit);
    int r = send(p, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", 0, NULL, NULL, NULL);
    if (r == 0)
        r = send(p, "SELECT pg_catalog.set_config('statement_timeout', $1, true),"
                    " pg_catalog.set_config('datestyle', 'ISO', true),"
                    " pg_catalog.set_config('timezone', 'UTC', true),"
                    " pg_catalog.set_config('jit', 'off', true)," // it takes longer than any of ours
                    " " MARK_COLUMNS,
                 1, values, NULL, NULL);
    return r;
}

static int receive_begin(struct postgres *p)
{
    PGresult *result = NULL;
    int r = receive_all(p, NULL);
    if (r == 0)
        r = receive_all(p, &result);
    if (r == 0 && (!result || PQntuples(result) != 1))
        r = -EIO;
    if (r == 0) {
        bool is_standby = PQgetlength(result, 0, 6);
        p->mark = is_standby ? 0 : mark_of(text_of(PQgetvalue(result, 0, 4)), text_of(PQgetvalue(result, 0, 5)), TEXT(""));
        p->is_marked = true;
    }
    PQclear(result);
    return r;
}

void postgres_end(struct sql *q)
{
    struct postgres *p = postgres_of(q);
    for (size_t i = 0; i < ROWS_MAX; i++)
        if (p->rows[i].is_used)
            postgres_done(q, &p->rows[i]);
    if (!p->is_begun)
        return;
    p->is_begun = false;
    if (postgres_is_lost(p)) {
        postgres_disconnect(p);
        return;
    }
    bool is_sent = true;
    if (p->is_broken) {
        is_sent = PQpipelineSync(p->connection);
        p->syncs_due += is_sent;
    }
    is_sent = is_sent && PQsendQueryParams(p->connection, "COMMIT", 0, NULL, NULL, NULL, NULL, 0) &&
              PQpipelineSync(p->connection);
    p->syncs_due += is_sent;
    // What doesn't go out at once would hold the transaction open until the next verb.
    if (!is_sent || PQflush(p->connection) != 0)
        postgres_disconnect(p);
}

// ---------------------------------------------------------------------------------------------
// Statements.

// Whether the text can stand in the database at all: UTF-8 as the server takes it, without a NUL.
static bool is_storable(struct text t)
{
    const unsigned char *s = (const unsigned char *)t.data;
    for (size_t i = 0; i < t.size_bytes;) {
        unsigned char c = s[i];
        size_t more = c < 0x80 ? 0 : c >= 0xc2 && c <= 0xdf ? 1 : (c & 0xf0) == 0xe0 ? 2 : c >= 0xf0 && c <= 0xf4 ? 3 : 9;
        if (c == 0 || more == 9 || t.size_bytes - i <= more)
            return false;
        for (size_t k = 1; k <= more; k++)
            if ((s[i + k] & 0xc0) != 0x80)
                return false;
        if ((c == 0xe0 && s[i + 1] < 0xa0) || (c == 0xed && s[i + 1] > 0x9f) ||
            (c == 0xf0 && s[i + 1] < 0x90) || (c == 0xf4 && s[i + 1] > 0x8f))
            return false;
        i += more + 1;
    }
    return true;
}

// Texts for libpq, one after the other in a buffer.
struct parameters {
    const char **texts;
    struct buffer store;
    size_t *offsets;
};

static bool write_parameters(const struct value *values, uint32_t count, struct parameters *a)
{
    for (uint32_t i = 0; i < count; i++) {
        a->offsets[i] = a->store.size_bytes;
        if (values[i].kind == VALUE_INTEGER)
            buffer_format(&a->store, "%" PRId64, values[i].integer);
        else if (is_storable(values[i].text))
            buffer_append_text(&a->store, values[i].text);
        else
            return false;
        buffer_append_byte(&a->store, 0);
    }
    for (uint32_t i = 0; i < count; i++)
        a->texts[i] = a->store.data + a->offsets[i];
    return true;
}

static void parameters_release(struct parameters *a)
{
    free(a->texts);
    free(a->offsets);
    buffer_release(&a->store);
}

// Sends the statement, with the transaction's beginning if that wasn't, and waits for the first answer.
static int ask(struct postgres *p, const struct parameters *a, uint32_t count, struct sql_rows *rows)
{
    bool begins = !p->is_begun && !p->is_alone, limits = p->is_begun && limit_has_shrunk(p);
    int r = p->is_begun ? 0 : receive_syncs(p);
    if (r == 0 && (begins || limits))
        r = begins ? send_begin(p) : send_limit(p);
    if (r < 0)
        return r;
    p->is_begun = !p->is_alone;
    r = send(p, p->sql.text.data, (int)count, a->texts, NULL, NULL);
    bool is_sent = r == 0 && (p->is_alone ? PQpipelineSync(p->connection) : PQsendFlushRequest(p->connection));
    p->syncs_due += is_sent && p->is_alone;
    if (r == 0 && !is_sent)
        r = lost(p, NULL);
    if (r == 0 && (begins || limits))
        r = begins ? receive_begin(p) : receive_all(p, NULL);
    if (r < 0 || rows->is_long)
        return r < 0 ? r : PQsetSingleRowMode(p->connection) ? 0 : lost(p, NULL);
    r = receive_all(p, &rows->result);
    rows->count = rows->result ? PQntuples(rows->result) : 0;
    p->is_fresh = p->is_fresh && r < 0;
    return r;
}

// Invariant 5.
static int ask_again(struct postgres *p, const struct parameters *a, uint32_t count, struct sql_rows *rows)
{
    bool may_be_stale = !p->is_begun && !p->is_fresh;
    int r = ask(p, a, count, rows);
    if (r == 0 || !may_be_stale || !postgres_is_lost(p) || clock_ns() >= p->deadline_ns)
        return r;
    BUFFER_CLEANUP text = {0};
    buffer_append_text(&text, buffer_text(&p->sql.text)); // connecting asks, too
    PQclear(take(rows->result));
    bool is_long = rows->is_long;
    r = connect_again(p);
    if (r < 0)
        return r;
    p->is_broken = p->is_marked = false;
    *rows = (struct sql_rows){.row = -1, .is_used = true, .is_long = is_long}; // its checks ended all statements
    sql_start(&p->sql, text.data);
    return ask(p, a, count, rows);
}

int postgres_start(struct sql *q, const struct value *values, uint32_t count, bool is_long,
                   struct sql_rows **ret_rows)
{
    struct postgres *p = postgres_of(q);
    struct sql_rows *rows = p->rows;
    while (rows->is_used)
        check(++rows < p->rows + ROWS_MAX);
    *rows = (struct sql_rows){.row = -1, .is_used = true, .is_long = is_long};
    cleanup(parameters_release) struct parameters a = {
        .texts = memory_new((count + 1) * sizeof *a.texts),
        .offsets = memory_new((count + 1) * sizeof *a.offsets)};
    int r = p->is_broken ? -EIO : 0;
    if (r == 0 && !write_parameters(values, count, &a))
        rows->is_empty = true;
    else if (r == 0)
        r = ask_again(p, &a, count, rows);
    if (r < 0)
        postgres_done(q, rows);
    else
        *ret_rows = rows;
    return r;
}

// One row after the other.
static int step_long(struct postgres *p, struct sql_rows *rows)
{
    for (;;) {
        PQclear(take(rows->result));
        int r = receive(p, &rows->result);
        if (r < 0)
            return r;
        p->is_fresh = false;
        rows->row = 0;
        if (!rows->result) {
            rows->is_empty = true;
            return 0;
        }
        ExecStatusType status = PQresultStatus(rows->result);
        if (status == PGRES_SINGLE_TUPLE)
            return 1;
        if (status != PGRES_TUPLES_OK)
            return lost(p, rows->result);
    }
}

int postgres_step(struct sql *q, struct sql_rows *rows)
{
    if (rows->is_empty)
        return 0;
    if (rows->is_long)
        return step_long(postgres_of(q), rows);
    return ++rows->row < rows->count;
}

void postgres_done(struct sql *q, struct sql_rows *rows)
{
    struct postgres *p = postgres_of(q);
    // What was not read to its end is in the way of what follows.
    while (rows->is_long && !rows->is_empty && !p->is_broken && !postgres_is_lost(p) &&
           step_long(p, rows) > 0)
        ;
    PQclear(rows->result);
    *rows = (struct sql_rows){0};
}

int postgres_mark(struct registry *registry, uint64_t *ret_mark)
{
    struct sql *q = sql_of(registry);
    struct postgres *p = postgres_of(q);
    struct sql_rows *rows = NULL;
    int r = sql_begin_verb(q);
    if (r < 0)
        return r;
    p->is_alone = true; // one statement needs no transaction around it
    sql_start(q, "SELECT " MARK_COLUMNS);
    r = sql_run(q, NULL, 0, &rows);
    p->is_alone = false;
    if (r == 0)
        r = sql_step(q, rows);
    if (r > 0)
        *ret_mark = mark_of(sql_text(q, rows, 0), sql_text(q, rows, 1), sql_text(q, rows, 2));
    sql_done(q, &rows);
    postgres_end(q);
    return r < 0 ? r : r > 0 ? 0 : -EIO;
}

int postgres_mark_of(struct postgres *p, uint64_t *ret_mark)
{
    struct sql_rows *rows = NULL;
    int r = 0;
    if (!p->is_marked) {
        sql_start(&p->sql, "SELECT 1");
        r = sql_run(&p->sql, NULL, 0, &rows);
        sql_done(&p->sql, &rows);
    }
    if (r == 0)
        *ret_mark = p->mark;
    return r;
}

// ---------------------------------------------------------------------------------------------
// Columns. All results are in text format.

enum field_kind postgres_kind(const struct sql_rows *rows, int column)
{
    if (PQgetisnull(rows->result, rows->row, column))
        return FIELD_NULL;
    switch (PQftype(rows->result, column)) {
    case OID_BOOL:
    case OID_INT2:
    case OID_INT4:
    case OID_INT8:
        return FIELD_INTEGER;
    case OID_FLOAT4:
    case OID_FLOAT8:
    case OID_NUMERIC:
        return FIELD_REAL;
    default:
        return FIELD_TEXT;
    }
}

int64_t postgres_integer(const struct sql_rows *rows, int column)
{
    const char *text = PQgetvalue(rows->result, rows->row, column);
    if (PQftype(rows->result, column) == OID_BOOL)
        return text[0] == 't';
    return strtoll(text, NULL, 10);
}

double postgres_real(const struct sql_rows *rows, int column)
{
    return strtod(PQgetvalue(rows->result, rows->row, column), NULL);
}

struct text postgres_text(const struct sql_rows *rows, int column)
{
    return (struct text){PQgetvalue(rows->result, rows->row, column),
                         (size_t)PQgetlength(rows->result, rows->row, column)};
}
