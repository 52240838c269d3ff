// SPDX-License-Identifier: BSD-3-Clause
// desk.c: see desk.h. A place is given by who wakes, so that it can't be taken by another meanwhile.
#include "fs/desk.h"

struct desk_sleeper {
    pthread_cond_t woken;
    struct desk_sleeper *below;
    bool is_reader;
};

void desk_init(struct desk *d)
{
    *d = (struct desk){0};
    lock_init(&d->lock, LOCK_RANK_LEAF, "desk");
}

void desk_release(struct desk *d)
{
    lock_release_memory(&d->lock);
}

static void wake_last(struct desk *d)
{
    struct desk_sleeper *s = d->last;
    d->last = s->below;
    d->readers++;
    s->is_reader = true;
    pthread_cond_signal(&s->woken);
}

void desk_enter(struct desk *d)
{
    lock_scope(&d->lock);
    if (d->readers < DESK_READERS || d->is_closed) {
        d->readers++;
        return;
    }
    struct desk_sleeper self = {.below = d->last};
    condition_init(&self.woken);
    d->last = &self;
    while (!self.is_reader)
        condition_wait(&self.woken, &d->lock, INT64_MAX);
    pthread_cond_destroy(&self.woken);
}

void desk_leave(struct desk *d)
{
    lock_scope(&d->lock);
    if (--d->readers == 0 && d->last)
        wake_last(d);
}

void desk_close(struct desk *d)
{
    lock_scope(&d->lock);
    d->is_closed = true;
    while (d->last)
        wake_last(d);
}
