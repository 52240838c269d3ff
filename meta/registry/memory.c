// SPDX-License-Identifier: BSD-3-Clause
// A registry from a description in C. Everything is found by looking at everything: it is for tests,
// which have a handful of datasets, and its worth is that nothing clever can be wrong with it.
#include "meta/registry/memory_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"

static const char universe[] =
    "{\"version\": 8, \"namespace\": \"daf_butler\","
    " \"skypix\": {\"common\": \"htm7\", \"htm\": {\"class\": \"\", \"max_level\": 9}}, \"elements\": {"
    "\"instrument\": {\"keys\": [{\"name\": \"name\", \"type\": \"string\"}]},"
    "\"skymap\": {\"keys\": [{\"name\": \"name\", \"type\": \"string\"}]},"
    "\"band\": {\"keys\": [{\"name\": \"name\", \"type\": \"string\"}]},"
    "\"physical_filter\": {\"keys\": [{\"name\": \"name\", \"type\": \"string\"}],"
    " \"requires\": [\"instrument\"], \"implies\": [\"band\"]},"
    "\"subfilter\": {\"keys\": [{\"name\": \"id\", \"type\": \"int\"}], \"requires\": [\"band\"]},"
    "\"detector\": {\"keys\": [{\"name\": \"id\", \"type\": \"int\"}], \"requires\": [\"instrument\"]},"
    "\"group\": {\"keys\": [{\"name\": \"name\", \"type\": \"string\"}], \"requires\": [\"instrument\"]},"
    "\"day_obs\": {\"keys\": [{\"name\": \"id\", \"type\": \"int\"}], \"requires\": [\"instrument\"]},"
    "\"visit\": {\"keys\": [{\"name\": \"id\", \"type\": \"int\"}], \"requires\": [\"instrument\"],"
    " \"implies\": [\"physical_filter\", \"day_obs\"], \"metadata\": ["
    "{\"name\": \"seq_num\", \"type\": \"int\"}, {\"name\": \"exposure_time\", \"type\": \"float\"},"
    "{\"name\": \"target\", \"type\": \"string\"}, {\"name\": \"is_good\", \"type\": \"bool\"}]},"
    "\"exposure\": {\"keys\": [{\"name\": \"id\", \"type\": \"int\"}], \"requires\": [\"instrument\"],"
    " \"implies\": [\"physical_filter\", \"group\", \"day_obs\"]},"
    "\"tract\": {\"keys\": [{\"name\": \"id\", \"type\": \"int\"}], \"requires\": [\"skymap\"]},"
    "\"patch\": {\"keys\": [{\"name\": \"id\", \"type\": \"int\"}], \"requires\": [\"skymap\", \"tract\"]}}}";

void memory_world_init(struct memory_world *w, const struct memory_description *d)
{
    *w = (struct memory_world){.description = d, .changes = 1};
    lock_init(&w->lock, LOCK_RANK_LEAF, "memory registry");
}

void memory_world_release(struct memory_world *w)
{
    lock_release_memory(&w->lock);
}

void memory_world_change(struct memory_world *w, const struct memory_description *d)
{
    lock_scope(&w->lock);
    w->description = d;
    w->changes++;
}

void memory_world_fail(struct memory_world *w, int error, uint32_t verbs_before, uint32_t count)
{
    lock_scope(&w->lock);
    w->error = error;
    w->verbs_before_failure = verbs_before;
    w->failures = count;
}

struct uuid memory_uuid(uint32_t position)
{
    struct uuid u = {{0, 0, 0, 0, 0, 0, 0x40, 0, 0x80, 0, 0, 0}};
    for (int i = 0; i < 4; i++)
        u.bytes[15 - i] = (uint8_t)(position >> 8 * i);
    return u;
}

// What every verb begins with: the state it works on, or the failure that was asked for.
int memory_look(struct registry *r, const struct memory_description **ret_description,
                uint64_t *ret_mark)
{
    struct memory_world *w = ((struct memory *)r)->world; // registry is the first field
    lock_scope(&w->lock);
    w->verbs++;
    if (w->failures && w->verbs_before_failure-- == 0) {
        w->verbs_before_failure = 0;
        w->failures--;
        return w->error;
    }
    *ret_description = w->description;
    if (ret_mark)
        *ret_mark = w->changes;
    return 0;
}

// ---------------------------------------------------------------------------------------------
// "key=value,key=value".

bool memory_find_value(const char *list, struct text key, struct text *ret_value)
{
    for (const char *at = list; at && *at;) {
        size_t size = strcspn(at, ",");
        if (size > key.size_bytes && at[key.size_bytes] == '=' &&
            memcmp(at, key.data, key.size_bytes) == 0) {
            *ret_value = (struct text){at + key.size_bytes + 1, size - key.size_bytes - 1};
            return true;
        }
        at += size + (at[size] == ',');
    }
    return false;
}

static struct value value_of(enum value_kind kind, struct text t)
{
    return kind == VALUE_INTEGER ? value_integer(strtoll(t.data, NULL, 10)) : value_text(t);
}

// The value of a dimension in a data ID or of a column in a record.
bool memory_value(const char *list, struct text key, enum value_kind kind, struct value *ret_value)
{
    struct text t;
    if (!memory_find_value(list, key, &t))
        return false;
    *ret_value = value_of(kind, t);
    return true;
}

bool memory_is_in(const struct memory_dataset *d, const char *collection)
{
    if (strcmp(d->run, collection) == 0)
        return true;
    for (const char *const *c = d->tagged; c && *c; c++)
        if (strcmp(*c, collection) == 0)
            return true;
    for (const struct memory_certified *c = d->certified; c && c->collection; c++)
        if (strcmp(c->collection, collection) == 0)
            return true;
    return false;
}

const struct memory_type *memory_type_of(const struct memory_description *d, int64_t id)
{
    return &d->types[id - 1];
}

const char *memory_collection_name(const struct memory_description *d, int64_t id)
{
    for (int64_t i = 1; d->collections[i - 1].name; i++)
        if (i == id)
            return d->collections[i - 1].name;
    return NULL;
}

int64_t memory_collection_id(const struct memory_description *d, const char *collection)
{
    for (int64_t i = 0; d->collections[i].name; i++)
        if (strcmp(d->collections[i].name, collection) == 0)
            return i + 1;
    return 0;
}

// The record of an element whose required values are those of the data ID; `start` continues.
const struct memory_record *memory_find_record(const struct memory_description *d,
                                               const struct snapshot *s, const struct element *e,
                                               const char *data_id, const struct memory_record *start)
{
    for (const struct memory_record *r = start; r && r->element; r++) {
        bool is_same = text_equal(text_of(r->element), e->name);
        for (uint32_t i = 0; is_same && i < e->required_count; i++) {
            const struct element *q = &s->elements[e->required[i]];
            struct value wanted, has;
            if (!memory_value(data_id, q->name, q->kind, &wanted))
                continue; // not known: free
            is_same = memory_value(r->values, q == e ? e->key_column : q->name, q->kind, &has) &&
                      value_equal(&wanted, &has);
        }
        if (is_same)
            return r;
    }
    return NULL;
}

// ---------------------------------------------------------------------------------------------
// The snapshot.

static size_t split(const char *list, struct text *ret_parts, size_t room)
{
    size_t count = 0;
    while (*list && count < room) {
        size_t size = strcspn(list, " ");
        ret_parts[count++] = (struct text){list, size};
        list += size + (list[size] == ' ');
    }
    return count;
}

static void add_tables(struct snapshot *s)
{
    for (uint32_t i = 0; i < s->element_count; i++) {
        const struct element *e = &s->elements[i];
        struct text columns[2 * LEVELS_MAX];
        size_t count = 0;
        if (e->table.size_bytes == 0 || text_equal(e->name, TEXT("band")))
            continue;
        columns[count++] = e->key_column;
        for (uint32_t k = 0; k < e->required_count; k++)
            columns[count++] = s->elements[e->required[k]].name;
        for (uint32_t k = 0; k < e->implied_count; k++)
            columns[count++] = s->elements[e->implied[k]].name;
        for (uint32_t k = 0; k < e->column_count; k++)
            columns[count++] = e->columns[k].name;
        check(snapshot_add_element_table(s, e->table, columns, count) == 0);
    }
}

static void add_collections(const struct memory_description *d, struct snapshot *s)
{
    for (int64_t i = 0; d->collections[i].name; i++)
        check(snapshot_add_collection(s, i + 1, text_of(d->collections[i].name),
                                      (int)d->collections[i].kind, TEXT("")) == 0);
    for (int64_t i = 0; d->collections[i].name; i++)
        for (const char *const *m = d->collections[i].members; m && *m; m++)
            check(snapshot_add_member(s, i + 1, memory_collection_id(d, *m)) == 0);
    for (const struct memory_dataset *e = d->datasets; e && e->type; e++)
        for (int64_t t = 0; d->types[t].name; t++)
            for (int64_t c = 0; d->collections[c].name; c++)
                if (strcmp(d->types[t].name, e->type) == 0 && memory_is_in(e, d->collections[c].name))
                    check(snapshot_add_summary(s, c + 1, t + 1) == 0);
}

static int memory_snapshot(struct registry *r, struct snapshot *s, char **ret_why)
{
    const struct memory_description *d;
    int result = memory_look(r, &d, NULL);
    if (result == 0)
        result = snapshot_add_universe(s, TEXT(universe), ret_why);
    if (result < 0)
        return result;
    add_tables(s);
    for (int64_t i = 0; d->types[i].name; i++) {
        struct text columns[LEVELS_MAX];
        size_t count = split(d->types[i].columns, columns, LEVELS_MAX);
        check(snapshot_add_type(s, i + 1, text_of(d->types[i].name), TEXT("StorageClass"),
                                text_of(d->types[i].name),
                                d->types[i].is_calibration ? TEXT("calibs") : TEXT(""), columns,
                                count) == 0);
    }
    add_collections(d, s);
    return snapshot_seal(s, ret_why);
}

static int memory_mark(struct registry *r, uint64_t *ret_mark)
{
    const struct memory_description *d;
    return memory_look(r, &d, ret_mark);
}

static void memory_close(struct registry *r)
{
    free(r);
}

static const struct registry_ops memory_ops = {
    .name = "memory",
    .close = memory_close,
    .mark = memory_mark,
    .snapshot = memory_snapshot,
    .digest = memory_digest,
    .page = memory_page,
    .row = memory_row,
    .enter = memory_enter,
    .dataset = memory_dataset,
    .implied = memory_implied,
    .timespan = memory_timespan,
    .record = memory_record,
};

struct registry *memory_world_connect(struct memory_world *w)
{
    struct memory *m = new_struct(struct memory);
    m->registry.ops = &memory_ops;
    m->world = w;
    return &m->registry;
}
