// SPDX-License-Identifier: BSD-3-Clause
// The verbs about datasets and folders of the registry in memory.
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "meta/registry/memory_internal.h"

// The levels' values of a dataset; the implied one from its record.
static void fill_values(const struct memory_description *d, const struct snapshot *s,
                        const struct dataset_type *t, const struct memory_dataset *e,
                        struct value *values)
{
    for (uint32_t i = 0; i < t->level_count; i++) {
        const struct element *level = &s->elements[t->levels[i].element];
        if (!t->levels[i].is_implied) {
            check(memory_value(e->data_id, level->name, level->kind, &values[i]));
            continue;
        }
        const struct memory_record *record =
            memory_find_record(d, s, &s->elements[t->day_obs_source], e->data_id, d->records);
        if (!record || !memory_value(record->values, level->name, level->kind, &values[i]))
            values[i] = value_integer(0);
    }
}

#define FILES_MAX 8

static uint32_t fill_files(const struct memory_dataset *e, struct registry_file *files)
{
    uint32_t count = 0;
    for (const char *const *c = e->components; c && *c; c++) {
        size_t size = strcspn(*c, "=");
        check(count < FILES_MAX - 2);
        files[count++] = (struct registry_file){
            .component = {*c, size}, .path = text_of(*c + size + 1),
            .storage_class = TEXT("Component"), .checksum = TEXT(""), .size_bytes = e->size_bytes};
    }
    for (uint32_t i = 0; i < 2; i++) {
        const char *path = i ? e->second_path : e->path;
        if (path)
            files[count++] = (struct registry_file){
                .datastore = i, .component = TEXT(""), .path = text_of(path),
                .storage_class = TEXT("StorageClass"), .checksum = TEXT(""),
                .size_bytes = e->size_bytes};
    }
    return count;
}

// How often a dataset is in a CALIBRATION collection, in just this range.
static uint32_t count_certified(const struct memory_dataset *e, const struct memory_certified *like)
{
    uint32_t count = 0;
    for (const struct memory_certified *c = e->certified; c && c->collection; c++)
        count += strcmp(c->collection, like->collection) == 0 && timespan_equal(&c->range, &like->range);
    return count;
}

static bool has_twin(const struct memory_description *d, const struct memory_dataset *e,
                     const struct memory_certified *like)
{
    for (const struct memory_dataset *o = d->datasets; o->type; o++)
        if (o != e && strcmp(o->type, e->type) == 0 && strcmp(o->data_id, e->data_id) == 0 &&
            count_certified(o, like))
            return true;
    return false;
}

static int hand_out_as(const struct memory_description *d, const struct snapshot *s,
                       const struct dataset_type *t, const struct memory_dataset *e,
                       int64_t collection_id, const struct memory_certified *certified,
                       registry_each *each, void *context)
{
    struct value values[LEVELS_MAX];
    struct registry_file files[FILES_MAX];
    fill_values(d, s, t, e, values);
    uint32_t count = fill_files(e, files);
    struct registry_row row = {
        .uuid = memory_uuid((uint32_t)(e - d->datasets)), .type_id = t->id,
        .run_id = memory_collection_id(d, e->run), .collection_id = collection_id,
        .ingest_tai_ns = e->ingest_tai_ns, .values = values, .value_count = t->level_count,
        .files = files, .file_count = count};
    if (certified) {
        row.has_range = true;
        row.range = certified->range;
        row.has_twin = has_twin(d, e, certified);
        row.is_double = count_certified(e, certified) > 1;
    }
    return each(&row, context);
}

// The dataset's rows in the collection, those that the search wants (NULL: all). 1: there was one.
static int hand_out(const struct memory_description *d, const struct snapshot *s,
                    const struct dataset_type *t, const struct memory_dataset *e,
                    int64_t collection_id, const struct registry_search *search,
                    registry_each *each, void *context)
{
    const char *name = memory_collection_name(d, collection_id);
    int result = 0;
    if (d->collections[collection_id - 1].kind != COLLECTION_CALIBRATION) {
        bool is_wanted = !search || search->how == SEARCH_FIRST ||
                         (search->how == SEARCH_AT &&
                          timespan_finds(&search->span, &TIMESPAN_ALWAYS));
        result = is_wanted ? hand_out_as(d, s, t, e, collection_id, NULL, each, context) : 0;
        return result < 0 ? result : is_wanted;
    }
    for (const struct memory_certified *c = e->certified; c && c->collection; c++) {
        bool is_wanted =
            !search || (search->how == SEARCH_RANGE && timespan_equal(&search->span, &c->range)) ||
            (search->how == SEARCH_AT && timespan_finds(&search->span, &c->range));
        if (!is_wanted || strcmp(c->collection, name) != 0)
            continue;
        int r = hand_out_as(d, s, t, e, collection_id, c, each, context);
        if (r < 0)
            return r;
        result = 1;
    }
    return result;
}

static bool is_of(const struct memory_description *d, const struct dataset_type *t,
                  int64_t collection_id, const struct memory_dataset *e)
{
    const char *collection = memory_collection_name(d, collection_id);
    return collection && strcmp(memory_type_of(d, t->id)->name, e->type) == 0 && memory_is_in(e, collection);
}

static uint64_t hash_rows(const struct memory_description *d, const struct dataset_type *t, int64_t collection_id)
{
    uint64_t count = 0;
    for (const struct memory_dataset *e = d->datasets; e && e->type; e++)
        count += is_of(d, t, collection_id, e);
    return hash64_seed(&count, sizeof count, (uint64_t)collection_id);
}

// Names, kinds, members, and of each collection what it has of each type.
static uint64_t hash_small(const struct memory_description *d)
{
    uint64_t h = 1;
    for (int64_t i = 0; d->collections[i].name; i++) {
        const struct memory_collection *c = &d->collections[i];
        h = hash64_seed(c->name, strlen(c->name), h + (uint64_t)c->kind);
        for (const char *const *m = c->members; m && *m; m++)
            h = hash64_seed(*m, strlen(*m), h);
        for (const struct memory_type *t = d->types; t->name; t++)
            for (const struct memory_dataset *e = d->datasets; e && e->type; e++)
                if (strcmp(e->type, t->name) == 0 && memory_is_in(e, c->name)) {
                    h = hash64_seed(t->name, strlen(t->name), h);
                    break;
                }
    }
    return h;
}

int memory_digest(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                  const int64_t *collections, uint32_t count, uint64_t *ret_digest)
{
    const struct memory_description *d;
    *ret_digest = 0;
    if (!((struct memory *)r)->world->has_digest) // registry is the first field
        return 0;
    int result = memory_look(r, &d, NULL);
    if (result < 0)
        return result;
    uint64_t h = t ? 1 : hash_small(d);
    for (uint32_t i = 0; i < count; i++)
        h = hash64_seed(&h, sizeof h, hash_rows(d, t, collections[i]));
    *ret_digest = h | 1;
    return 0;
}

int memory_page(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                       int64_t collection_id, struct buffer *cursor, uint32_t limit,
                       registry_each *each, void *context, bool *ret_end, uint64_t *ret_mark)
{
    const struct memory_description *d;
    uint32_t from = 0, seen = 0;
    uint64_t mark;
    int result = memory_look(r, &d, &mark);
    if (result < 0)
        return result;
    if (cursor->size_bytes == sizeof from)
        memcpy(&from, cursor->data, sizeof from);
    uint32_t at = from;
    for (; d->datasets && d->datasets[at].type && seen < limit; at++) {
        if (!is_of(d, t, collection_id, &d->datasets[at]))
            continue;
        result = hand_out(d, s, t, &d->datasets[at], collection_id, NULL, each, context);
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
        if (!t->levels[i].is_implied && (!memory_value(e->data_id, level->name, level->kind, &has) ||
                                         !value_equal(&has, &values[i])))
            return false;
    }
    return true;
}

int memory_row(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                      const struct registry_search *search, registry_each *each, void *context)
{
    const struct memory_description *d;
    bool is_found = false;
    int result = memory_look(r, &d, NULL);
    for (uint32_t i = 0; result >= 0 && i < search->count; i++) {
        for (const struct memory_dataset *e = d->datasets; result >= 0 && e && e->type; e++) {
            if (!is_of(d, t, search->collections[i], e) ||
                !has_values(s, t, e, search->values, t->level_count))
                continue;
            result = hand_out(d, s, t, e, search->collections[i], search, each, context);
            is_found = is_found || result > 0;
        }
        if (is_found && search->how != SEARCH_RANGE)
            break;
    }
    return result < 0 ? result : is_found ? 0 : -ENOENT;
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
         (r = memory_find_record(d, s, e, data_id, r)) != NULL; r++)
        if (memory_value(r->values, TEXT("day_obs"), day->kind, &has) && value_equal(&has, day))
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

int memory_enter(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                        const int64_t *collections, uint32_t count, const struct value *values,
                        uint32_t depth)
{
    const struct memory_description *d;
    BUFFER_CLEANUP data_id = {0};
    int result = memory_look(r, &d, NULL);
    if (result < 0)
        return result;
    if (depth == 0)
        return any_begins(d, s, t, collections, count, values, 0);
    write_data_id(s, t, values, depth, &data_id);
    for (uint32_t i = 0; i < depth; i++) {
        const struct element *e = &s->elements[t->levels[i].element];
        bool may = t->levels[i].is_implied ? day_obs_is(d, s, t, data_id.data, &values[i])
                   : e->has_table ? memory_find_record(d, s, e, data_id.data, d->records) != NULL
                                  : any_begins(d, s, t, collections, count, values, i + 1);
        if (!may)
            return 0;
    }
    return 1;
}

int memory_dataset(struct registry *r, const struct snapshot *s, const struct uuid *uuid,
                          registry_each *each, void *context)
{
    const struct memory_description *d;
    int result = memory_look(r, &d, NULL);
    if (result < 0)
        return result;
    for (uint32_t i = 0; d->datasets && d->datasets[i].type; i++) {
        struct uuid u = memory_uuid(i);
        if (memcmp(&u, uuid, sizeof u) != 0)
            continue;
        const struct memory_dataset *e = &d->datasets[i];
        const struct dataset_type *t = snapshot_type_by_name(s, text_of(e->type));
        if (!t)
            return -ENOENT;
        return hand_out_as(d, s, t, e, memory_collection_id(d, e->run), NULL, each, context);
    }
    return -ENOENT;
}

int memory_implied(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                          const struct value *values,
                          int (*each)(const struct element *e, const struct value *v, void *context),
                          void *context)
{
    const struct memory_description *d;
    BUFFER_CLEANUP data_id = {0}; // grows by what is found: what it implies is then found too
    int result = memory_look(r, &d, NULL);
    if (result < 0)
        return result;
    write_data_id(s, t, values, t->level_count, &data_id);
    for (uint32_t k = 0; k < s->element_count; k++) // dependencies may come late in the order
        for (uint32_t i = 0; i < s->element_count; i++) {
            const struct element *e = &s->elements[i];
            struct value own, v;
            const struct memory_record *record =
                e->has_table && memory_value(data_id.data, e->name, e->kind, &own)
                    ? memory_find_record(d, s, e, data_id.data, d->records)
                    : NULL;
            for (uint32_t m = 0; record && m < e->implied_count; m++) {
                const struct element *n = &s->elements[e->implied[m]];
                if (memory_value(data_id.data, n->name, n->kind, &v) ||
                    !memory_value(record->values, n->name, n->kind, &v))
                    continue;
                struct text spelled;
                memory_find_value(record->values, n->name, &spelled);
                buffer_format(&data_id, "%.*s=%.*s,", (int)n->name.size_bytes, n->name.data,
                              (int)spelled.size_bytes, spelled.data);
                result = each(n, &v, context);
                if (result < 0)
                    return result;
            }
        }
    return 0;
}

int memory_timespan(struct registry *r, const struct snapshot *s, const struct element *e,
                           const struct value *values, struct timespan *ret_span)
{
    const struct memory_description *d;
    int result = memory_look(r, &d, NULL);
    for (const struct memory_record *m = result < 0 ? NULL : d->records; m && m->element; m++) {
        bool is_it = text_equal(text_of(m->element), e->name);
        struct value has;
        for (uint32_t i = 0; is_it && i < e->required_count; i++) {
            const struct element *q = &s->elements[e->required[i]];
            is_it = memory_value(m->values, q == e ? e->key_column : q->name, q->kind, &has) &&
                    value_equal(&has, &values[i]);
        }
        struct value begin, end;
        if (!is_it || !memory_value(m->values, TEXT("begin"), VALUE_INTEGER, &begin) ||
            !memory_value(m->values, TEXT("end"), VALUE_INTEGER, &end))
            continue;
        *ret_span = (struct timespan){begin.integer, end.integer};
        return 0;
    }
    return result < 0 ? result : -ENOENT;
}

static bool is_number(const char *values, struct text name)
{
    struct value v;
    size_t digits = 0;
    if (!memory_value(values, name, VALUE_TEXT, &v))
        return false;
    while (digits < v.text.size_bytes && v.text.data[digits] >= '0' && v.text.data[digits] <= '9')
        digits++;
    return digits > 0 && digits == v.text.size_bytes;
}

int memory_record(struct registry *r, const struct snapshot *s, const struct element *e,
                  const struct value *values, const struct text *columns, uint32_t count,
                  struct field *ret_fields, struct buffer *store)
{
    const struct memory_description *d;
    int result = memory_look(r, &d, NULL);
    (void)store; // its texts stay
    for (const struct memory_record *m = result < 0 ? NULL : d->records; m && m->element; m++) {
        bool is_it = text_equal(text_of(m->element), e->name);
        struct value has;
        for (uint32_t i = 0; is_it && i < e->required_count; i++) {
            const struct element *q = &s->elements[e->required[i]];
            is_it = memory_value(m->values, q == e ? e->key_column : q->name, q->kind, &has) &&
                    value_equal(&has, &values[i]);
        }
        for (uint32_t i = 0; is_it && i < count; i++) {
            enum value_kind kind = is_number(m->values, columns[i]) ? VALUE_INTEGER : VALUE_TEXT;
            ret_fields[i] = memory_value(m->values, columns[i], kind, &has) ? field_of(&has) : (struct field){.kind = FIELD_NULL};
        }
        if (is_it)
            return 0;
    }
    return result < 0 ? result : -ENOENT;
}
