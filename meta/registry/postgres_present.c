// SPDX-License-Identifier: BSD-3-Clause
// Which dataset types are there at all: one statement for many of them, each one probe of an index per
// collection until one has a row.
#include <inttypes.h>

#include "base/log.h"
#include "meta/registry/postgres_internal.h"

#define TYPES_MAX 100 // in one statement

static void add_table(struct sql *q, struct text table, int64_t type_id, const char *collections)
{
    sql_add(q, "EXISTS (SELECT 1 FROM ");
    sql_table(q, table);
    buffer_format(&q->text, " WHERE dataset_type_id = %" PRId64 " AND %s = ANY(%s))", type_id,
                  sql_collection_column(q), collections);
}

static int ask(struct sql *q, const struct dataset_type *const *types, uint32_t count, bool has_calibs,
               const struct value *arrays, bool *ret_present)
{
    struct sql_rows *rows = NULL;
    int r;
    sql_start(q, "");
    for (uint32_t i = 0; i < count; i++) {
        ret_present[i] = false;
        buffer_format(&q->text, "%sSELECT %u WHERE ", i ? " UNION ALL " : "", i);
        add_table(q, types[i]->tags_table, types[i]->id, "$1");
        if (!has_calibs || types[i]->calibs_table.size_bytes == 0)
            continue;
        sql_add(q, " OR ");
        add_table(q, types[i]->calibs_table, types[i]->id, "$2");
    }
    r = sql_run(q, arrays, has_calibs ? 2 : 1, &rows);
    while (r == 0 && (r = sql_step(q, rows)) > 0) {
        int64_t at = sql_integer(q, rows, 0);
        r = at >= 0 && at < (int64_t)count ? 0 : -EBADMSG;
        if (r == 0)
            ret_present[at] = true;
    }
    sql_done(q, &rows);
    return r;
}

int postgres_present(struct registry *r, const struct snapshot *s, const int64_t *collections,
                     uint32_t count, const struct dataset_type *const *types, uint32_t type_count,
                     bool *ret_present)
{
    struct sql *q = sql_of(r);
    BUFFER_CLEANUP plain = {0};
    BUFFER_CLEANUP calibs = {0};
    sql_collections(q, s, collections, count, false, &plain);
    bool has_calibs = sql_collections(q, s, collections, count, true, &calibs) > 0;
    const struct value arrays[] = {value_text(buffer_text(&plain)), value_text(buffer_text(&calibs))};
    int result = sql_begin_verb(q);
    if (result < 0)
        return result;
    for (uint32_t i = 0; result == 0 && i < type_count; i += TYPES_MAX) {
        uint32_t n = type_count - i < TYPES_MAX ? type_count - i : TYPES_MAX;
        bool any_calibs = false; // else there is no $2
        for (uint32_t k = i; k < i + n; k++)
            any_calibs = any_calibs || types[k]->calibs_table.size_bytes;
        result = ask(q, types + i, n, has_calibs && any_calibs, arrays, ret_present + i);
    }
    postgres_end(q);
    return result;
}
