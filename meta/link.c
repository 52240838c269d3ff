// SPDX-License-Identifier: BSD-3-Clause
// link: by-uuid/<uuid>, a symlink to the dataset's place in its RUN collection.
// 1. The target is written from the dataset's own record and the snapshot's names, the same way as
//    listing does it, so that it can be followed.
#include "base/clock.h"
#include "base/log.h"
#include "meta/name.h"
#include "meta/place.h"

// Whether the dataset is a folder: several files in the first datastore that has any, or one of a
// component.
static bool is_composite(const struct dataset *d)
{
    return d->files[0].component.size_bytes ||
           (d->file_count > 1 && d->files[1].datastore == d->files[0].datastore);
}

void place_write_branch(const struct snapshot *s, const struct branch *b, struct buffer *to)
{
    uint32_t depth = 0;
    for (const struct branch *up = b; up->parent != INDEX_NONE; up = &s->branches[up->parent])
        depth++;
    while (depth-- > 0) {
        const struct branch *at = b;
        for (uint32_t i = 0; i < depth; i++)
            at = &s->branches[at->parent];
        buffer_append_text(to, at->name);
        buffer_append_byte(to, '/');
    }
}

static void write_target(const struct place *p, const struct dataset *d,
                         const struct dataset_type *t, const struct collection *run,
                         struct buffer *to)
{
    const struct snapshot *s = p->snapshot;
    struct value values[LEVELS_MAX];
    BUFFER_CLEANUP store = {0};
    buffer_append_string(to, "../collections/");
    place_write_branch(s, &s->branches[run->branch], to);
    place_write_type(t, to);
    buffer_append_byte(to, '/');
    for (uint32_t i = 0; i + 1 < d->value_count; i++) {
        name_write_level(s->elements[t->levels[i].element].name, &d->values[i], to);
        buffer_append_byte(to, '/');
    }
    uint32_t n = place_required(t, d->values, d->value_count, values);
    struct text suffix = TEXT(".components");
    if (!is_composite(d))
        suffix = library_suffix(p->repository, d->files[0].datastore, d->files[0].path, &store);
    name_write_file(t->name, values, n, (struct text){0}, suffix, to);
}

static int link_of(struct place *p, const struct dataset *d, struct entry *ret_entry,
                   struct buffer *target)
{
    const struct dataset_type *t = snapshot_type_by_name(p->snapshot, d->type);
    const struct collection *run = snapshot_collection_by_name(p->snapshot, d->run);
    if (d->file_count == 0 || !t || !t->is_readable || t->level_count != d->value_count || !run)
        return -ENOENT;
    ret_entry->kind = ENTRY_LINK;
    ret_entry->mtime_unix_ns = d->ingest_tai_ns == INT64_MIN ? 0 : tai_to_unix_ns(d->ingest_tai_ns);
    BUFFER_CLEANUP own = {0};
    struct buffer *to = target ? target : &own;
    size_t from = to->size_bytes;
    write_target(p, d, t, run, to);
    ret_entry->size_bytes = (int64_t)(to->size_bytes - from);
    return 0;
}

int place_link(struct place *p, struct text name, struct entry *ret_entry, struct buffer *target,
               struct want *want)
{
    struct uuid uuid;
    struct dataset *d;
    if (name.size_bytes != UUID_TEXT_BYTES - 1 || uuid_parse(name, true, &uuid) < 0)
        return -ENOENT;
    int r = repository_dataset(p->repository, p->fresh, &uuid, &d, want);
    if (r < 0)
        return r;
    *ret_entry = (struct entry){.name = name, .uuid = uuid};
    r = link_of(p, d, ret_entry, target);
    dataset_free(d);
    return r;
}
