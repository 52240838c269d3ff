// SPDX-License-Identifier: BSD-3-Clause
// A dataset by its id: its type and run first, which say where its data ID is.
#include "meta/registry/sql.h"

bool sql_search_wants(const struct registry_search *search, const struct dataset_type *t,
                      bool is_calibs)
{
    if (is_calibs && t->calibs_table.size_bytes == 0)
        return false;
    // What is in a RUN holds always, as far as there is a time (timespan_finds).
    if (search->how == SEARCH_AT)
        return is_calibs || timespan_finds(&search->span, &TIMESPAN_ALWAYS);
    return is_calibs == (search->how == SEARCH_RANGE);
}

// Its type and run, from `dataset`. 1: found.
static int find_dataset(struct sql *q, const struct value *id, int64_t *ret_type, int64_t *ret_run)
{
    struct sql_rows *rows = NULL;
    sql_start(q, "SELECT dataset_type_id, ");
    buffer_format(&q->text, "%s FROM ", sql_run_column(q));
    sql_table(q, TEXT("dataset"));
    sql_add(q, " WHERE id = ");
    sql_parameter(q, 1);
    int r = sql_run(q, id, 1, &rows);
    if (r == 0)
        r = sql_step(q, rows);
    if (r > 0 && !sql_read_collection(q, rows, 1, ret_run))
        r = 0; // refused with its row, where that is read
    if (r > 0)
        *ret_type = sql_integer(q, rows, 0);
    sql_done(q, &rows);
    return r;
}

// 1: found and handed out.
static int find_in_run(const struct sql_source *o, const struct value *id, int64_t run)
{
    struct sql_rows *rows = NULL;
    struct value key;
    if (!sql_collection_key(o->q, o->s, run, &key))
        return 0;
    int r = o->q->dialect->run_dataset(o, id, &key, &rows);
    if (r == 0)
        r = sql_step(o->q, rows);
    if (r > 0)
        r = sql_hand_out(o, rows);
    sql_done(o->q, &rows);
    return r;
}

int sql_dataset(struct registry *r, const struct snapshot *s, const struct uuid *uuid,
                registry_each *each, void *context)
{
    struct sql_source o = {sql_of(r), s, NULL, false, each, context};
    int64_t type = 0, run = 0;
    char hex[UUID_DIGITS];
    struct value id = value_text((struct text){hex, sizeof hex});
    sql_write_uuid(uuid, hex);
    int result = sql_begin_verb(o.q);
    if (result < 0)
        return result;
    result = find_dataset(o.q, &id, &type, &run);
    o.t = result > 0 ? snapshot_type_by_id(s, type) : NULL;
    if (o.t && o.t->is_readable)
        result = find_in_run(&o, &id, run);
    else if (result > 0)
        result = 0; // of a type that isn't known (yet)
    o.q->dialect->end(o.q);
    return result < 0 ? result : result > 0 ? 0 : -ENOENT;
}
