// SPDX-License-Identifier: BSD-3-Clause
// series.c: remote artifacts in the order of their folder, and visit after visit of one detector, told to the
// cache: who goes through them has the next ones fetched ahead of him. Each user goes his own way, whatever
// programs he does it with. Local artifacts, components and archives' members have no part in it.
#include <errno.h>

#include "base/hash.h"
#include "fs/opened.h"
#include "fs/space/butler/butler.h"

static void tell(struct butler *b, const struct place *p, const struct dataset *d, uint64_t who, struct cached *cached)
{
    struct cache_series series[CACHE_SERIES_MAX];
    uint32_t count = 0;
    for (int order = ROW_ORDER_FOLDER; order <= ROW_ORDER_MOVIE; order++)
        if (row_series_note(p, d, (enum row_order)order, who, &series[count].id, &series[count].position) == 0)
            count++;
    cached_opened_in(cached, series, count, &b->neighbours);
}

void butler_tell_place(struct op *op, const struct file_node *n, const struct opened *opened)
{
    struct butler *b = butler_of(op);
    struct place place;
    struct dataset *d;
    if (!opened->cached || opened->is_member || n->component || op->fs->options->folder_ahead_bytes == 0)
        return;
    if (butler_dataset(op, n, &d) == 0) {
        if (butler_place(op, n->parent, &place) == 0) {
            tell(b, &place, d, fuse_req_ctx(op->req)->uid + b->ino_seed, opened->cached);
            place_release(&place);
        }
        dataset_free(d);
    }
    want_release(&op->want); // what isn't known is left out
    op->want = (struct want){0};
}

int butler_neighbour(void *context, uint64_t series, int64_t position,
                     void (*give)(void *give_context, const struct object *object), void *give_context)
{
    const struct butler *b = context;
    struct dataset *d;
    int r = row_series_at(b->repository, series, position, &d);
    if (r < 0)
        return r;
    r = -EOPNOTSUPP;
    for (uint32_t i = 0; r == -EOPNOTSUPP && i < d->file_count; i++) {
        const char *why;
        struct object object;
        BUFFER_CLEANUP key = {0}, checksum = {0}, member = {0};
        if (d->files[i].component.size_bytes)
            continue;
        r = butler_object(b, &d->files[i], &key, &checksum, &object, &member, &why);
        if (r == 0 && member.size_bytes)
            r = -ENODATA;
        if (r == 0)
            give(give_context, &object);
    }
    dataset_free(d);
    return r;
}
