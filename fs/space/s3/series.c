// SPDX-License-Identifier: BSD-3-Clause
// series.c: objects in the order of their folder, told to the cache: who goes through a folder has the next
// ones fetched ahead of him. Each user goes his own way, whatever programs he does it with.
#include "base/hash.h"
#include "fs/space/s3/s3.h"

void s3_space_tell_place(struct op *op, struct bucket_place *p, const struct bucket_entry *e, struct cached *cached)
{
    struct s3_space *s = s3_space_of(op);
    struct text prefix = buffer_text(&p->prefix);
    struct cache_series series = {
        .id = hash64_seed(prefix.data, prefix.size_bytes, fuse_req_ctx(op->req)->uid + s->ino_seed) | 1};
    if (op->fs->options->folder_ahead_bytes == 0)
        return;
    if (bucket_position(p, e->raw, series.id, &series.position) == 0)
        cached_opened_in(cached, &series, 1, &s->neighbours);
}

struct giving {
    const struct s3_space *space;
    void (*give)(void *give_context, const struct object *object);
    void *context;
};

static void give_entry(void *context, const struct bucket_place *p, const struct bucket_entry *e)
{
    const struct giving *g = context;
    struct object object;
    BUFFER_CLEANUP key = {0};
    s3_space_object(g->space, p, e, &key, &object);
    object.seen_unix_ns = (int64_t)p->fresh; // at least
    g->give(g->context, &object);
}

int s3_space_neighbour(void *context, uint64_t series, int64_t position,
                       void (*give)(void *give_context, const struct object *object), void *give_context)
{
    struct s3_space *s = context;
    struct giving g = {s, give, give_context};
    return bucket_at(s->bucket, series, position, give_entry, &g);
}
