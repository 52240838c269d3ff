// SPDX-License-Identifier: BSD-3-Clause
// The dispatcher: what every implementation would otherwise have to check and count for itself.
// 1. A verb that is given a snapshot is given a sealed one, and a type of it that can be read.
// 2. A row has one value per level, of the level's kind, and its files in order.
// 3. Failures are counted, but not "there is none" (-ENOENT), "ask otherwise" (-E2BIG) and the caller's own refusals.
#include "meta/registry/registry.h"

#include <string.h>

#include "base/log.h"
#include "base/metric.h"
#include "meta/config.h"

struct watched {
    const struct snapshot *snapshot;
    const struct dataset_type *type; // NULL: of any type
    registry_each *each;
    void *context;
    bool refused; // by the caller's each
};

static void check_values(const struct snapshot *s, const struct dataset_type *t,
                         const struct value *values, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        check(values[i].kind == s->elements[t->levels[i].element].kind);
}

static void check_files(const struct registry_row *row)
{
    check(row->file_count <= ROW_FILES_MAX);
    for (uint32_t i = 0; i < row->file_count; i++)
        check(row->files[i].size_bytes >= SIZE_UNKNOWN &&
              row->files[i].size_bytes <= SIZE_RECORDED_MAX);
    for (uint32_t i = 1; i < row->file_count; i++)
        check(row->files[i - 1].datastore <= row->files[i].datastore);
}

static int watch_row(const struct registry_row *row, void *context)
{
    struct watched *w = context;
    const struct dataset_type *t =
        w->type ? w->type : snapshot_type_by_id(w->snapshot, row->type_id);
    check(t && t->is_readable && row->type_id == t->id && row->value_count == t->level_count);
    check_values(w->snapshot, t, row->values, row->value_count);
    check_files(row);
    check(row->has_range || (!row->has_twin && !row->is_double));
    int r = w->each(row, w->context);
    w->refused = r < 0;
    return r;
}

static void check_type(const struct snapshot *s, const struct dataset_type *t)
{
    check(s && !s->builder && t && t->is_readable);
}

static int counted(int result)
{
    metric_add(METRIC_REGISTRY_STATEMENTS, 1);
    if (result < 0 && result != -ENOENT && result != -E2BIG)
        metric_add(METRIC_REGISTRY_FAILURES, 1);
    return result;
}

static int counted_rows(int result, const struct watched *w)
{
    if (!w->refused)
        return counted(result);
    metric_add(METRIC_REGISTRY_STATEMENTS, 1);
    return result;
}

int registry_open(const struct repository_config *config, int64_t limit_ns,
                  struct registry **ret_registry, char **ret_why)
{
    if (config->database == DATABASE_SQLITE)
        return registry_open_sqlite(config, limit_ns, ret_registry, ret_why);
    return registry_open_postgres(config, limit_ns, ret_registry, ret_why);
}

void registry_close(struct registry *r)
{
    if (r)
        r->ops->close(r);
}

int registry_mark(struct registry *r, uint64_t *ret_mark)
{
    return counted(r->ops->mark(r, ret_mark));
}

int registry_snapshot(struct registry *r, struct snapshot **ret_snapshot, char **ret_why)
{
    struct snapshot *s = snapshot_new();
    int result = counted(r->ops->snapshot(r, s, ret_why));
    if (result < 0) {
        snapshot_unref(s);
        return result;
    }
    check(!s->builder);
    *ret_snapshot = s;
    return 0;
}

int registry_digest(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                    const int64_t *collections, uint32_t count, uint64_t *ret_digest)
{
    *ret_digest = 0;
    if (!r->ops->digest)
        return 0;
    if (t)
        check_type(s, t);
    return counted(r->ops->digest(r, s, t, collections, count, ret_digest));
}

int registry_page(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                  int64_t collection_id, struct buffer *cursor, uint32_t limit, registry_each *each,
                  void *context, bool *ret_end, uint64_t *ret_mark)
{
    struct watched w = {.snapshot = s, .type = t, .each = each, .context = context};
    check_type(s, t);
    check(limit > 0);
    return counted_rows(r->ops->page(r, s, t, collection_id, cursor, limit, watch_row, &w, ret_end,
                                     ret_mark),
                        &w);
}

int registry_row(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                 const struct registry_search *search, registry_each *each, void *context)
{
    struct watched w = {.snapshot = s, .type = t, .each = each, .context = context};
    check_type(s, t);
    check_values(s, t, search->values, t->level_count);
    return counted_rows(r->ops->row(r, s, t, search, watch_row, &w), &w);
}

int registry_present(struct registry *r, const struct snapshot *s, const int64_t *collections,
                     uint32_t count, const struct dataset_type *const *types, uint32_t type_count,
                     bool *ret_present)
{
    for (uint32_t i = 0; i < type_count; i++)
        check_type(s, types[i]);
    check(r->ops->present);
    return counted(r->ops->present(r, s, collections, count, types, type_count, ret_present));
}

int registry_folder(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                    const int64_t *collections, uint32_t count, const struct value *values,
                    uint32_t depth, uint32_t limit, registry_each *each, void *context)
{
    struct watched w = {.snapshot = s, .type = t, .each = each, .context = context};
    check_type(s, t);
    check(r->ops->folder && registry_folder_columns(s, t, depth));
    check_values(s, t, values, depth);
    return counted_rows(r->ops->folder(r, s, t, collections, count, values, depth, limit, watch_row, &w), &w);
}

static bool is_known(const struct dataset_type *t, uint32_t element, uint32_t depth)
{
    for (uint32_t i = 0; i < depth && i < t->level_count; i++)
        if (t->levels[i].element == element && !t->levels[i].is_implied)
            return true;
    return false;
}

const struct element *registry_values_table(const struct snapshot *s, uint32_t element)
{
    const struct element *e = &s->elements[element];
    if (e->has_table)
        return e;
    for (uint32_t i = 0; i < s->element_count; i++)
        for (uint32_t k = 0; s->elements[i].has_table && !s->elements[i].has_day_obs && k < s->elements[i].implied_count; k++)
            if (s->elements[i].implied[k] == element)
                return &s->elements[i];
    return NULL;
}

// Whether a table tells the element's values: all of its key but itself is known, or (bands) it is small.
static bool has_values(const struct snapshot *s, const struct dataset_type *t, uint32_t element,
                       uint32_t depth)
{
    const struct element *e = &s->elements[element], *table = registry_values_table(s, element);
    bool is_good = table;
    for (uint32_t i = 0; table == e && i < e->required_count; i++)
        is_good = is_good && (e->required[i] == element || is_known(t, e->required[i], depth));
    return is_good;
}

// Whether these are few enough to be gone through. Visits and exposures are millions: only those of a day will
// do; of groups nothing is known that would.
static bool has_few_values(const struct snapshot *s, const struct dataset_type *t, uint32_t element,
                           uint32_t depth, bool has_day)
{
    const struct element *e = &s->elements[element];
    bool is_few = e->has_day_obs ? has_day && element == t->day_obs_source : !text_equal(e->name, TEXT("group"));
    return is_few && has_values(s, t, element, depth);
}

uint32_t registry_wanted_column(const struct dataset_type *t, uint32_t depth)
{
    if (depth + 1 >= t->level_count)
        return INDEX_NONE;
    uint32_t element = t->levels[depth].is_implied ? t->day_obs_source : t->levels[depth].element;
    for (uint32_t i = 0; i < t->required_count; i++)
        if (t->levels[t->columns[i]].element == element)
            return i;
    return INDEX_NONE;
}

uint32_t registry_folder_columns(const struct snapshot *s, const struct dataset_type *t, uint32_t depth)
{
    uint32_t wanted = registry_wanted_column(t, depth), last = wanted == INDEX_NONE ? 0 : wanted + 1;
    bool has_day = false;
    for (uint32_t i = 0; i < depth; i++)
        has_day = has_day || t->levels[i].is_implied;
    for (uint32_t i = 0; i < t->required_count; i++) {
        uint32_t element = t->levels[t->columns[i]].element;
        bool is_said = t->columns[i] < depth || (has_day && element == t->day_obs_source);
        last = is_said && i + 1 > last ? i + 1 : last;
    }
    for (uint32_t i = 0; i < last; i++)
        if (t->columns[i] >= depth && i != wanted &&
            !has_few_values(s, t, t->levels[t->columns[i]].element, depth, has_day))
            return 0;
    return wanted == INDEX_NONE || has_few_values(s, t, t->levels[depth].element, depth, has_day) ? last : 0;
}

int registry_enter(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                   const int64_t *collections, uint32_t count, const struct value *values,
                   uint32_t depth)
{
    check_type(s, t);
    check(depth <= t->level_count);
    check_values(s, t, values, depth);
    return counted(r->ops->enter(r, s, t, collections, count, values, depth));
}

int registry_dataset(struct registry *r, const struct snapshot *s, const struct uuid *uuid,
                     registry_each *each, void *context)
{
    struct watched w = {.snapshot = s, .each = each, .context = context};
    check(s && !s->builder);
    return counted_rows(r->ops->dataset(r, s, uuid, watch_row, &w), &w);
}

int registry_implied(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                     const struct value *values,
                     int (*each)(const struct element *e, const struct value *v, void *context),
                     void *context)
{
    check_type(s, t);
    check_values(s, t, values, t->level_count);
    return counted(r->ops->implied(r, s, t, values, each, context));
}

int registry_timespan(struct registry *r, const struct snapshot *s, const struct element *e,
                      const struct value *values, struct timespan *ret_span)
{
    check(s && !s->builder && e->has_table);
    for (uint32_t i = 0; i < e->required_count; i++)
        check(values[i].kind == s->elements[e->required[i]].kind);
    return counted(r->ops->timespan(r, s, e, values, ret_span));
}

int registry_record(struct registry *r, const struct snapshot *s, const struct element *e,
                    const struct value *values, const struct text *columns, uint32_t count,
                    struct field *ret_fields, struct buffer *store)
{
    check(e->has_table);
    for (uint32_t i = 0; i < e->required_count; i++)
        check(values[i].kind == s->elements[e->required[i]].kind);
    return counted(r->ops->record(r, s, e, values, columns, count, ret_fields, store));
}
