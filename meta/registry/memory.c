// SPDX-License-Identifier: BSD-3-Clause
// A registry from a description in C. Everything is found by looking at everything: it is for tests,
// which have a handful of datasets, and its worth is that nothing clever can be wrong with it.
#include "meta/registry/memory.h"

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
    " \"implies\": [\"physical_filter\", \"day_obs\"]},"
    "\"exposure\": {\"keys\": [{\"name\": \"id\", \"type\": \"int\"}], \"requires\": [\"instrument\"],"
    " \"implies\": [\"physical_filter\", \"group\", \"day_obs\"]},"
    "\"tract\": {\"keys\": [{\"name\": \"id\", \"type\": \"int\"}], \"requires\": [\"skymap\"]},"
    "\"patch\": {\"keys\": [{\"name\": \"id\", \"type\": \"int\"}], \"requires\": [\"skymap\", \"tract\"]}}}";

struct memory {
    struct registry registry;
    struct memory_world *world;
};

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
static int look(struct registry *r, const struct memory_description **ret_description,
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

static bool find_value(const char *list, struct text key, struct text *ret_value)
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
static bool get_value(const char *list, struct text key, enum value_kind kind, struct value *ret_value)
{
    struct text t;
    if (!find_value(list, key, &t))
        return false;
    *ret_value = value_of(kind, t);
    return true;
}

static bool is_in(const struct memory_dataset *d, const char *collection)
{
    if (strcmp(d->run, collection) == 0)
        return true;
    for (const char *const *c = d->tagged; c && *c; c++)
        if (strcmp(*c, collection) == 0)
            return true;
    return false;
}

static const struct memory_type *type_of(const struct memory_description *d, int64_t id)
{
    return &d->types[id - 1];
}

static const char *collection_of(const struct memory_description *d, int64_t id)
{
    for (int64_t i = 1; d->collections[i - 1].name; i++)
        if (i == id)
            return d->collections[i - 1].name;
    return NULL;
}

static int64_t id_of(const struct memory_description *d, const char *collection)
{
    for (int64_t i = 0; d->collections[i].name; i++)
        if (strcmp(d->collections[i].name, collection) == 0)
            return i + 1;
    return 0;
}

// The record of an element whose required values are those of the data ID; `start` continues.
static const struct memory_record *find_record(const struct memory_description *d,
                                               const struct snapshot *s, const struct element *e,
                                               const char *data_id, const struct memory_record *start)
{
    for (const struct memory_record *r = start; r && r->element; r++) {
        bool is_same = text_equal(text_of(r->element), e->name);
        for (uint32_t i = 0; is_same && i < e->required_count; i++) {
            const struct element *q = &s->elements[e->required[i]];
            struct value wanted, has;
            if (!get_value(data_id, q->name, q->kind, &wanted))
                continue; // not known: free
            is_same = get_value(r->values, q == e ? e->key_column : q->name, q->kind, &has) &&
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
        struct text columns[LEVELS_MAX + 1];
        size_t count = 0;
        if (e->table.size_bytes == 0 || text_equal(e->name, TEXT("band")))
            continue;
        columns[count++] = e->key_column;
        for (uint32_t k = 0; k < e->required_count; k++)
            columns[count++] = s->elements[e->required[k]].name;
        for (uint32_t k = 0; k < e->implied_count; k++)
            columns[count++] = s->elements[e->implied[k]].name;
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
            check(snapshot_add_member(s, i + 1, id_of(d, *m)) == 0);
    for (const struct memory_dataset *e = d->datasets; e && e->type; e++)
        for (int64_t t = 0; d->types[t].name; t++)
            for (int64_t c = 0; d->collections[c].name; c++)
                if (strcmp(d->types[t].name, e->type) == 0 && is_in(e, d->collections[c].name))
                    check(snapshot_add_summary(s, c + 1, t + 1) == 0);
}

static int memory_snapshot(struct registry *r, struct snapshot *s, char **ret_why)
{
    const struct memory_description *d;
    int result = look(r, &d, NULL);
    if (result == 0)
        result = snapshot_add_universe(s, TEXT(universe), ret_why);
    if (result < 0)
        return result;
    add_tables(s);
    for (int64_t i = 0; d->types[i].name; i++) {
        struct text columns[LEVELS_MAX];
        size_t count = split(d->types[i].columns, columns, LEVELS_MAX);
        check(snapshot_add_type(s, i + 1, text_of(d->types[i].name), TEXT("StorageClass"),
                                text_of(d->types[i].name), TEXT(""), columns, count) == 0);
    }
    add_collections(d, s);
    return snapshot_seal(s, ret_why);
}

// ---------------------------------------------------------------------------------------------
// Rows.

// The levels' values of a dataset; the implied one from its record.
static void fill_values(const struct memory_description *d, const struct snapshot *s,
                        const struct dataset_type *t, const struct memory_dataset *e,
                        struct value *values)
{
    for (uint32_t i = 0; i < t->level_count; i++) {
        const struct element *level = &s->elements[t->levels[i].element];
        if (!t->levels[i].is_implied) {
            check(get_value(e->data_id, level->name, level->kind, &values[i]));
            continue;
        }
        const struct memory_record *record =
            find_record(d, s, &s->elements[t->day_obs_source], e->data_id, d->records);
        if (!record || !get_value(record->values, level->name, level->kind, &values[i]))
            values[i] = value_integer(0);
    }
}

static int hand_out(const struct memory_description *d, const struct snapshot *s,
                    const struct dataset_type *t, const struct memory_dataset *e,
                    int64_t collection_id, registry_each *each, void *context)
{
    struct value values[LEVELS_MAX];
    struct registry_file files[2];
    uint32_t count = 0;
    fill_values(d, s, t, e, values);
    for (uint32_t i = 0; i < 2; i++) {
        const char *path = i ? e->second_path : e->path;
        if (path)
            files[count++] = (struct registry_file){
                .datastore = i, .component = TEXT(""), .path = text_of(path),
                .storage_class = TEXT("StorageClass"), .checksum = TEXT(""),
                .size_bytes = e->size_bytes};
    }
    struct registry_row row = {
        .uuid = memory_uuid((uint32_t)(e - d->datasets)), .type_id = t->id,
        .run_id = id_of(d, e->run), .collection_id = collection_id,
        .ingest_tai_ns = e->ingest_tai_ns, .values = values, .value_count = t->level_count,
        .files = files, .file_count = count};
    return each(&row, context);
}

static bool is_of(const struct memory_description *d, const struct dataset_type *t,
                  int64_t collection_id, const struct memory_dataset *e)
{
    const char *collection = collection_of(d, collection_id);
    return collection && strcmp(type_of(d, t->id)->name, e->type) == 0 && is_in(e, collection);
}

static int memory_mark(struct registry *r, uint64_t *ret_mark)
{
    const struct memory_description *d;
    return look(r, &d, ret_mark);
}

static int memory_present(struct registry *r, const struct dataset_type *t, int64_t collection_id)
{
    const struct memory_description *d;
    int result = look(r, &d, NULL);
    for (const struct memory_dataset *e = result == 0 ? d->datasets : NULL; e && e->type; e++)
        if (is_of(d, t, collection_id, e))
            return 1;
    return result;
}

static int memory_page(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                       int64_t collection_id, struct buffer *cursor, uint32_t limit,
                       registry_each *each, void *context, bool *ret_end, uint64_t *ret_mark)
{
    const struct memory_description *d;
    uint32_t from = 0, seen = 0;
    uint64_t mark;
    int result = look(r, &d, &mark);
    if (result < 0)
        return result;
    if (cursor->size_bytes == sizeof from)
        memcpy(&from, cursor->data, sizeof from);
    uint32_t at = from;
    for (; d->datasets && d->datasets[at].type && seen < limit; at++) {
        if (!is_of(d, t, collection_id, &d->datasets[at]))
            continue;
        result = hand_out(d, s, t, &d->datasets[at], collection_id, each, context);
        if (result < 0)
            return result;
        seen++;
    }
    buffer_clear(cursor);
    buffer_append(cursor, &at, sizeof at);
    *ret_end = !d->datasets || !d->datasets[at].type;
    *ret_mark = mark;
    return 0;
}

static bool has_values(const struct snapshot *s, const struct dataset_type *t,
                       const struct memory_dataset *e, const struct value *values, uint32_t depth)
{
    for (uint32_t i = 0; i < depth; i++) {
        const struct element *level = &s->elements[t->levels[i].element];
        struct value has;
        if (!t->levels[i].is_implied && (!get_value(e->data_id, level->name, level->kind, &has) ||
                                         !value_equal(&has, &values[i])))
            return false;
    }
    return true;
}

static int memory_row(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                      const int64_t *collections, uint32_t count, const struct value *values,
                      registry_each *each, void *context)
{
    const struct memory_description *d;
    int result = look(r, &d, NULL);
    if (result < 0)
        return result;
    for (uint32_t i = 0; i < count; i++)
        for (const struct memory_dataset *e = d->datasets; e && e->type; e++)
            if (is_of(d, t, collections[i], e) && has_values(s, t, e, values, t->level_count))
                return hand_out(d, s, t, e, collections[i], each, context);
    return -ENOENT;
}

// Values as a data ID's text, so that the functions above can be asked.
static void write_data_id(const struct snapshot *s, const struct dataset_type *t,
                          const struct value *values, uint32_t depth, struct buffer *to)
{
    for (uint32_t i = 0; i < depth; i++) {
        if (t->levels[i].is_implied)
            continue;
        buffer_append_text(to, s->elements[t->levels[i].element].name);
        if (values[i].kind == VALUE_INTEGER)
            buffer_format(to, "=%lld,", (long long)values[i].integer);
        else
            buffer_format(to, "=%.*s,", (int)values[i].text.size_bytes, values[i].text.data);
    }
    buffer_append_string(to, "");
}

static bool day_obs_is(const struct memory_description *d, const struct snapshot *s,
                       const struct dataset_type *t, const char *data_id, const struct value *day)
{
    const struct element *e = &s->elements[t->day_obs_source];
    struct value has;
    for (const struct memory_record *r = d->records;
         (r = find_record(d, s, e, data_id, r)) != NULL; r++)
        if (get_value(r->values, TEXT("day_obs"), day->kind, &has) && value_equal(&has, day))
            return true;
    return false;
}

static bool any_begins(const struct memory_description *d, const struct snapshot *s,
                       const struct dataset_type *t, const int64_t *collections, uint32_t count,
                       const struct value *values, uint32_t depth)
{
    for (uint32_t i = 0; i < count; i++)
        for (const struct memory_dataset *e = d->datasets; e && e->type; e++)
            if (is_of(d, t, collections[i], e) && has_values(s, t, e, values, depth))
                return true;
    return false;
}

static int memory_enter(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                        const int64_t *collections, uint32_t count, const struct value *values,
                        uint32_t depth)
{
    const struct memory_description *d;
    BUFFER_CLEANUP data_id = {0};
    int result = look(r, &d, NULL);
    if (result < 0)
        return result;
    write_data_id(s, t, values, depth, &data_id);
    for (uint32_t i = 0; i < depth; i++) {
        const struct element *e = &s->elements[t->levels[i].element];
        bool may = t->levels[i].is_implied ? day_obs_is(d, s, t, data_id.data, &values[i])
                   : e->has_table ? find_record(d, s, e, data_id.data, d->records) != NULL
                                  : any_begins(d, s, t, collections, count, values, i + 1);
        if (!may)
            return 0;
    }
    return 1;
}

static int memory_dataset(struct registry *r, const struct snapshot *s, const struct uuid *uuid,
                          registry_each *each, void *context)
{
    const struct memory_description *d;
    int result = look(r, &d, NULL);
    if (result < 0)
        return result;
    for (uint32_t i = 0; d->datasets && d->datasets[i].type; i++) {
        struct uuid u = memory_uuid(i);
        if (memcmp(&u, uuid, sizeof u) != 0)
            continue;
        const struct memory_dataset *e = &d->datasets[i];
        const struct dataset_type *t = snapshot_type_by_name(s, text_of(e->type));
        return t ? hand_out(d, s, t, e, id_of(d, e->run), each, context) : -ENOENT;
    }
    return -ENOENT;
}

static int memory_implied(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                          const struct value *values,
                          int (*each)(const struct element *e, const struct value *v, void *context),
                          void *context)
{
    const struct memory_description *d;
    BUFFER_CLEANUP data_id = {0}; // grows by what is found: what it implies is then found too
    int result = look(r, &d, NULL);
    if (result < 0)
        return result;
    write_data_id(s, t, values, t->level_count, &data_id);
    for (uint32_t k = 0; k < s->element_count; k++) // dependencies may come late in the order
        for (uint32_t i = 0; i < s->element_count; i++) {
            const struct element *e = &s->elements[i];
            struct value own, v;
            const struct memory_record *record =
                e->has_table && get_value(data_id.data, e->name, e->kind, &own)
                    ? find_record(d, s, e, data_id.data, d->records)
                    : NULL;
            for (uint32_t m = 0; record && m < e->implied_count; m++) {
                const struct element *n = &s->elements[e->implied[m]];
                if (get_value(data_id.data, n->name, n->kind, &v) ||
                    !get_value(record->values, n->name, n->kind, &v))
                    continue;
                struct text spelled;
                find_value(record->values, n->name, &spelled);
                buffer_format(&data_id, "%.*s=%.*s,", (int)n->name.size_bytes, n->name.data,
                              (int)spelled.size_bytes, spelled.data);
                result = each(n, &v, context);
                if (result < 0)
                    return result;
            }
        }
    return 0;
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
    .present = memory_present,
    .page = memory_page,
    .row = memory_row,
    .enter = memory_enter,
    .dataset = memory_dataset,
    .implied = memory_implied,
};

struct registry *memory_world_connect(struct memory_world *w)
{
    struct memory *m = new_struct(struct memory);
    m->registry.ops = &memory_ops;
    m->world = w;
    return &m->registry;
}
