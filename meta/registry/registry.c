// SPDX-License-Identifier: BSD-3-Clause
// The dispatcher: what every implementation would otherwise have to check and count for itself.
// 1. A verb that is given a snapshot is given a sealed one, and a type of it that can be read.
// 2. A row has one value per level, of the level's kind, and its files in order.
// 3. Failures are counted, but not "there is none" (-ENOENT) and not the caller's own refusals.
#include "meta/registry/registry.h"

#include <stdio.h>
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
    if (result < 0 && result != -ENOENT)
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
    if (asprintf(ret_why, "%s: its registry is in PostgreSQL, which is not supported yet: only SQLite registries are",
                 config->source) < 0)
        *ret_why = NULL;
    return -EOPNOTSUPP;
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

int registry_present(struct registry *r, const struct dataset_type *t, int64_t collection_id)
{
    check(t && t->is_readable);
    return counted(r->ops->present(r, t, collection_id));
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
                 const int64_t *collections, uint32_t count, const struct value *values,
                 registry_each *each, void *context)
{
    struct watched w = {.snapshot = s, .type = t, .each = each, .context = context};
    check_type(s, t);
    check_values(s, t, values, t->level_count);
    return counted_rows(r->ops->row(r, s, t, collections, count, values, watch_row, &w), &w);
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
