// SPDX-License-Identifier: BSD-3-Clause
// A registry in PostgreSQL: opening it, and its verbs. What is so everywhere here:
//
// 1. Nothing is kept in the server's session: a connection may lead to another server process from one
//    transaction to the next (pgbouncer, transaction pooling). So no named statements, no SET but in
//    a transaction, tables are named with their namespace.
// 2. All is read in transactions that are read only and see one state; they hold no lock that a writer would
//    wait for, and end with the verb, whatever became of it.
// 3. A verb's deadline bounds all of it: connecting, sending, waiting for rows. The server is told the same
//    limit, a little shorter, so that it stops working when nobody waits any more. (Looking up a host's name
//    is libc's, in this thread, and not bounded by it.)
// 4. What begins a transaction is sent with its first statement and what ends it isn't waited for: a verb with
//    one statement is one round trip.
// 5. A connection that was idle may be gone: what fails before anything was answered is tried once more, on
//    a new connection.
// 6. A value that no text in the database can equal (a NUL, bytes that are no UTF-8) finds nothing and isn't sent.
#include "meta/registry/postgres_internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "meta/config.h"

static void postgres_close(struct registry *r)
{
    struct postgres *p = postgres_of(sql_of(r));
    postgres_disconnect(p);
    sql_release(&p->sql);
    free(p);
}

static void postgres_table(struct sql *q, struct text name)
{
    const struct postgres *p = postgres_of(q);
    if (p->config->namespace_) {
        sql_name(q, text_of(p->config->namespace_));
        sql_add(q, ".");
    }
    sql_name(q, name);
}

// "<before> <c is a table of ours>".
static void add_is_ours(struct sql *q)
{
    const struct postgres *p = postgres_of(q);
    if (!p->config->namespace_) {
        sql_add(q, "pg_catalog.pg_table_is_visible(c.oid)");
        return;
    }
    sql_add(q, "c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = ");
    sql_literal(q, text_of(p->config->namespace_));
    sql_add(q, ")");
}

static void postgres_tables(struct sql *q)
{
    sql_add(q, "SELECT c.relname::text FROM pg_catalog.pg_class AS c WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND ");
    add_is_ours(q);
    sql_add(q, " AND c.relname IN (");
}

// A database may hold more than one registry, and other things: only what is ours is looked at.
static void postgres_columns(struct sql *q)
{
    sql_add(q, "SELECT c.relname::text, a.attname::text FROM pg_catalog.pg_class AS c"
               " JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
               " WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relnamespace <> 'pg_catalog'::pg_catalog.regnamespace AND ");
    add_is_ours(q);
    sql_add(q, " ORDER BY c.relname::text COLLATE \"C\", a.attnum");
}

static const struct sql_dialect postgres_dialect = {
    .name = "PostgreSQL",
    .parameter = '$',
    .has_arrays = true,
    .place_column = "id",
    .same_range = "o.timespan = t.timespan",
    .range_columns = {"timespan", NULL},
    .span_columns = POSTGRES_BEGIN("x") ", " POSTGRES_END("x"),
    .enter = postgres_enter,
    .begin = postgres_begin,
    .end = postgres_end,
    .start = postgres_start,
    .step = postgres_step,
    .done = postgres_done,
    .kind = postgres_kind,
    .integer = postgres_integer,
    .real = postgres_real,
    .text = postgres_text,
    .table = postgres_table,
    .tables = postgres_tables,
    .columns = postgres_columns,
    .run_dataset = postgres_run_dataset,
    .files = postgres_files,
};

static const struct registry_ops postgres_ops = {
    .name = "postgresql",
    .close = postgres_close,
    .mark = postgres_mark,
    .snapshot = sql_snapshot,
    .digest = postgres_digest,
    .page = postgres_page,
    .row = postgres_row,
    .folder = postgres_folder,
    .present = postgres_present,
    .enter = sql_enter,
    .dataset = sql_dataset,
    .implied = sql_implied,
    .timespan = sql_timespan,
    .record = sql_record,
};

int registry_open_postgres(const struct repository_config *config, int64_t limit_ns,
                           struct registry **ret_registry, char **ret_why)
{
    struct postgres *p = new_struct(struct postgres);
    BUFFER_CLEANUP name = {0};
    database_url_describe(&config->database_parts, &name);
    sql_init(&p->sql, &postgres_ops, &postgres_dialect, config, name.data, limit_ns);
    p->config = config;
    p->deadline_ns = clock_ns() + limit_ns;
    int r = postgres_connect(p, ret_why);
    if (r < 0) {
        bool is_full = r == -ETIMEDOUT && !p->sql.registry.is_away;
        postgres_close(&p->sql.registry);
        return is_full ? -EUSERS : r;
    }
    *ret_registry = &p->sql.registry;
    return 0;
}
