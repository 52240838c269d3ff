// SPDX-License-Identifier: BSD-3-Clause
#include "meta/registry/sql.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/metric.h"
#include "meta/config.h"

void sql_init(struct sql *q, const struct registry_ops *ops, const struct sql_dialect *dialect,
              const struct repository_config *config, const char *name, int64_t limit_ns)
{
    q->registry.ops = ops;
    q->dialect = dialect;
    q->source = memory_copy(config->source, strlen(config->source));
    q->name = memory_copy(name, strlen(name));
    q->registry.limit_ns = limit_ns;
    q->said = config->said;
    q->datastore_count = config->datastore_count;
    q->records_tables = memory_new((q->datastore_count + 1) * sizeof *q->records_tables);
    q->records_missing = memory_new((q->datastore_count + 1) * sizeof *q->records_missing);
    for (uint32_t i = 0; i < q->datastore_count; i++) {
        const char *table = config->datastores[i].records_table;
        q->records_tables[i] = memory_copy(table, strlen(table));
    }
}

void sql_release(struct sql *q)
{
    for (uint32_t i = 0; i < q->datastore_count; i++)
        free(q->records_tables[i]);
    free(q->records_tables);
    free(q->records_missing);
    table_release(&q->refused);
    buffer_release(&q->words);
    buffer_release(&q->text);
    buffer_release(&q->texts);
    free(q->source);
    free(q->name);
}

// ---------------------------------------------------------------------------------------------
// Writing.

void sql_start(struct sql *q, const char *text)
{
    buffer_clear(&q->text);
    buffer_append_string(&q->text, text);
}

void sql_add(struct sql *q, const char *text)
{
    buffer_append_string(&q->text, text);
}

static void add_quoted(struct sql *q, struct text t, char quote)
{
    buffer_append_byte(&q->text, quote);
    for (size_t i = 0; i < t.size_bytes; i++) {
        if (t.data[i] == quote)
            buffer_append_byte(&q->text, quote);
        buffer_append_byte(&q->text, t.data[i]);
    }
    buffer_append_byte(&q->text, quote);
}

void sql_name(struct sql *q, struct text name)
{
    add_quoted(q, name, '"');
}

void sql_literal(struct sql *q, struct text t)
{
    add_quoted(q, t, '\'');
}

void sql_table(struct sql *q, struct text name)
{
    q->dialect->table(q, name);
}

void sql_parameter(struct sql *q, uint32_t number)
{
    buffer_format(&q->text, "%c%u", q->dialect->parameter, number);
}

struct text sql_key_column(const struct snapshot *s, const struct element *e, uint32_t required)
{
    const struct element *r = &s->elements[required];
    return r == e ? e->key_column : r->name;
}

void sql_where_key(struct sql *q, const struct snapshot *s, const struct element *e, uint32_t first)
{
    for (uint32_t i = 0; i < e->required_count; i++) {
        sql_add(q, i ? " AND " : " WHERE ");
        sql_name(q, sql_key_column(s, e, e->required[i]));
        sql_add(q, " = ");
        sql_parameter(q, first + i);
    }
}

// ---------------------------------------------------------------------------------------------
// Running.

int sql_run(struct sql *q, const struct value *values, uint32_t count, struct sql_rows **ret_rows)
{
    return q->dialect->start(q, values, count, false, ret_rows);
}

int sql_run_long(struct sql *q, const struct value *values, uint32_t count,
                 struct sql_rows **ret_rows)
{
    return q->dialect->start(q, values, count, true, ret_rows);
}

int sql_step(struct sql *q, struct sql_rows *rows)
{
    return q->dialect->step(q, rows);
}

void sql_done(struct sql *q, struct sql_rows **rows)
{
    if (*rows)
        q->dialect->done(q, take(*rows));
}

int sql_has_row(struct sql *q, const struct value *values, uint32_t count)
{
    struct sql_rows *rows = NULL;
    int r = sql_run(q, values, count, &rows);
    if (r == 0)
        r = sql_step(q, rows);
    sql_done(q, &rows);
    return r;
}

int sql_begin_verb(struct sql *q)
{
    int r = q->dialect->enter(q);
    return r < 0 ? r : q->dialect->begin(q);
}

// ---------------------------------------------------------------------------------------------
// Trouble.

void sql_log_trouble(struct sql *q, const char *words)
{
    uint64_t hash = hash64(words, strlen(words));
    buffer_clear(&q->words);
    buffer_append_string(&q->words, words);
    if (said_is_news(q->said ? &q->said[hash % SAID_KINDS] : &q->own_said, hash, 0))
        log_warn("%s: %s answers: %s", q->name, q->dialect->name, words);
}

void sql_refuse_row(struct sql *q, struct text table, const char *what)
{
    uint64_t hash = hash64(table.data, table.size_bytes);
    metric_add(METRIC_ROWS_REFUSED, 1);
    if (table_find(&q->refused, hash, NULL, NULL, NULL))
        return;
    table_add(&q->refused, hash, 1);
    log_warn("%s: table %.*s: %s; more of this kind of this table are only counted", q->name,
             (int)table.size_bytes, table.data, what);
}
