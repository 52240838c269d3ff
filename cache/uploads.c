// SPDX-License-Identifier: BSD-3-Clause
// uploads.c: all uploads together: who waits for them, their memory, their end.
#include <errno.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/metric.h"
#include "cache/upload_internal.h"
#include "cache/upload_record.h"

#define DRAIN_TURN_NS (2 * NS_PER_S)
#define STANDSTILL_NS (30 * NS_PER_S) // nothing is sent, begun or answered: nothing will be

// ---- who waits ------------------------------------------------------------------------------

static bool is_due(const struct upload_waiter *w, const struct upload *moved)
{
    const struct upload *u = w->upload;
    if (u->state == UPLOAD_FAILED || u->state == UPLOAD_WHOLE)
        return true;
    return w->event == UPLOAD_ROOM || u == moved;
}

struct upload_waiter *upload_take_due(struct uploads *all, const struct upload *moved)
{
    struct upload_waiter *due = NULL;
    for (struct upload_waiter **at = &all->waiters; *at;) {
        struct upload_waiter *w = *at;
        if (!is_due(w, moved)) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        w->next = due;
        due = w;
    }
    return due;
}

void upload_tell(struct upload_waiter *due)
{
    while (due) {
        struct upload_waiter *w = due;
        due = w->next;
        w->ready(w);
    }
}

bool upload_has_room(struct upload *u)
{
    lock_scope(&u->all->lock);
    return upload_memory_has_room(u);
}

int upload_wait(struct upload *u, enum upload_event event, struct upload_waiter *w)
{
    lock_scope(&u->all->lock);
    w->upload = u;
    w->event = event;
    if (u->state == UPLOAD_FAILED || u->state == UPLOAD_WHOLE || (event == UPLOAD_ROOM && upload_memory_has_room(u)))
        return 0;
    w->next = u->all->waiters;
    u->all->waiters = w;
    return -EINPROGRESS;
}

bool upload_cancel(struct upload_waiter *w)
{
    struct uploads *all = w->upload->all;
    lock_scope(&all->lock);
    for (struct upload_waiter **at = &all->waiters; *at; at = &(*at)->next) {
        if (*at == w) {
            *at = w->next;
            return true;
        }
    }
    return false;
}

// ---- all of them ----------------------------------------------------------------------------

static void note_number(void *context, uint64_t number, const struct upload_record *r)
{
    struct uploads *all = context;
    (void)r;
    if (number > all->last_record)
        all->last_record = number;
}

struct uploads *uploads_new(const struct uploads_options *o)
{
    struct uploads *all = new_struct(struct uploads);
    lock_init(&all->lock, LOCK_RANK_UPLOADS, "uploads");
    condition_init(&all->ended);
    all->started_unix_ns = clock_unix_ns();
    all->memory_bytes = o->memory_bytes;
    all->part_bytes = o->part_bytes > ORIGIN_PART_BYTES_MIN ? o->part_bytes : ORIGIN_PART_BYTES_MIN;
    if (!o->folder)
        return all;
    if (mkdir(o->folder, 0700) < 0 && errno != EEXIST) {
        log_warn("%s can't be made: %m; if this process dies, what it was sending stays at the origin", o->folder);
        return all;
    }
    all->folder = memory_copy(o->folder, strlen(o->folder));
    upload_records(all->folder, note_number, all);
    return all;
}

static bool moves(struct uploads *all)
{
    int64_t now_ns = clock_ns(), sent_bytes = metric_get(METRIC_SENT_BYTES), limit_ns = DRAIN_TURN_NS;
    if (sent_bytes != all->drained_bytes)
        all->moved_ns = now_ns;
    all->drained_bytes = sent_bytes;
    for (const struct upload *u = all->first; u; u = u->next)
        if (u->state == UPLOAD_ENDING) // whose writer may believe that it is written
            limit_ns = STANDSTILL_NS;
    return now_ns - all->moved_ns < limit_ns;
}

bool uploads_drain(struct uploads *all)
{
    int64_t until_ns = clock_ns() + DRAIN_TURN_NS;
    lock_scope(&all->lock);
    while (all->requests > 0 && clock_ns() < until_ns)
        condition_wait(&all->ended, &all->lock, until_ns);
    if (all->requests > 0 && moves(all))
        return true;
    for (const struct upload *u = all->first; u; u = u->next)
        if (u->state == UPLOAD_ENDING)
            log_error("object %.*s: it was closed, but not yet written at its origin, which does nothing any more: it is given up, "
                      "and has to be written again", (int)u->key_bytes, u->key);
    return false;
}

void uploads_free(struct uploads *all)
{
    while (uploads_drain(all))
        continue;
    check(all->requests == 0 && all->open_count == 0);
    pthread_cond_destroy(&all->ended);
    lock_release_memory(&all->lock);
    free(all->folder);
    free(all);
}

bool upload_is_used(struct uploads *all, struct text name)
{
    lock_scope(&all->lock);
    for (const struct upload *u = all->first; u; u = u->next)
        if (text_equal(buffer_text(&u->id), name))
            return true;
    return false;
}

void uploads_status(struct uploads *all, struct doc *map)
{
    lock_scope(&all->lock);
    doc_put_integer(map, "open", all->open_count);
    doc_put_integer(map, "memory_bytes", (int64_t)all->memory_bytes);
    doc_put_integer(map, "used_bytes", (int64_t)all->used_bytes);
    doc_put_integer(map, "kept_bytes", (int64_t)(all->kept_count * all->part_bytes));
    doc_put_integer(map, "requests", all->requests);
    doc_put_integer(map, "part_bytes", (int64_t)all->part_bytes);
}
