// SPDX-License-Identifier: BSD-3-Clause
// What a collection is called in the registry's tables.
//
// The client has two ways. SynthIntKeyCollectionManager numbers collections; NameKeyCollectionManager
// has their names as keys, in columns of other names, and no number. To everybody else a collection is a
// number that stays the same as long as the collection is there, in every process, as it stands in the
// catalogue; so where the registry has none it is a hash of the name. Should ever two names have one
// hash, the second is refused like any id that stands already.
#include <inttypes.h>

#include "base/hash.h"
#include "meta/registry/sql.h"

const char *sql_collection_column(const struct sql *q)
{
    return q->is_keyed_by_name ? "collection_name" : "collection_id";
}

const char *sql_run_column(const struct sql *q)
{
    return q->is_keyed_by_name ? "run_name" : "run_id";
}

bool sql_collection_key(const struct sql *q, const struct snapshot *s, int64_t id,
                           struct value *ret_key)
{
    if (!q->is_keyed_by_name) {
        *ret_key = value_integer(id);
        return true;
    }
    const struct collection *c = snapshot_collection_by_id(s, id);
    if (c)
        *ret_key = value_text(c->name);
    return c;
}

bool sql_read_collection(const struct sql *q, const struct sql_rows *rows, int column,
                         int64_t *ret_id)
{
    if (sql_kind(q, rows, column) != (q->is_keyed_by_name ? FIELD_TEXT : FIELD_INTEGER))
        return false;
    if (!q->is_keyed_by_name) {
        *ret_id = sql_integer(q, rows, column);
        return true;
    }
    struct text name = sql_text(q, rows, column);
    *ret_id = (int64_t)(hash64(name.data, name.size_bytes) >> 1);
    return true;
}

bool sql_is_calibs(const struct snapshot *s, int64_t collection_id)
{
    const struct collection *c = snapshot_collection_by_id(s, collection_id);
    return c && c->kind == COLLECTION_CALIBRATION;
}

// As PostgreSQL writes arrays.
static void add_item(const struct value *key, struct buffer *array)
{
    if (array->size_bytes > 1)
        buffer_append_byte(array, ',');
    if (key->kind == VALUE_INTEGER) {
        buffer_format(array, "%" PRId64, key->integer);
        return;
    }
    buffer_append_byte(array, '"');
    for (size_t i = 0; i < key->text.size_bytes; i++) {
        if (key->text.data[i] == '"' || key->text.data[i] == '\\')
            buffer_append_byte(array, '\\');
        buffer_append_byte(array, key->text.data[i]);
    }
    buffer_append_byte(array, '"');
}

uint32_t sql_collections(const struct sql *q, const struct snapshot *s, const int64_t *ids,
                         uint32_t count, bool is_calibs, struct buffer *array)
{
    struct value key;
    uint32_t added = 0;
    buffer_append_byte(array, '{');
    for (uint32_t i = 0; i < count; i++)
        if (sql_is_calibs(s, ids[i]) == is_calibs && sql_collection_key(q, s, ids[i], &key)) {
            add_item(&key, array);
            added++;
        }
    buffer_append_byte(array, '}');
    return added;
}
