// SPDX-License-Identifier: BSD-3-Clause
// op.c: parking and answering (see op.h's drawing).
//
// Invariants
//  1. A reply is made by whoever moved `phase` out of PARKED, or by the thread that runs it.
//  2. References: one for the parked list, one for the waiter the library holds. The interrupt
//     function of libfuse is taken back (which waits for one that is running) before the list's
//     reference goes, so it never sees a freed op.
//  3. No lock is held over a reply or a call into meta.
#include "fs/op.h"

#include <errno.h>

#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/queue.h"
#include "fs/fs.h"
#include "fs/session.h"
#include "fs/state.h"

enum phase { PHASE_RUNNING, PHASE_PARKED, PHASE_CLAIMED };

struct park {
    struct lock lock;
    struct op *first;   // under lock
    pthread_cond_t parked; // there is one to watch
    pthread_t keeper;
};

#define KEEPER_PERIOD_NS (50 * NS_PER_MS)

static void op_unref(struct op *op)
{
    if (atomic_fetch_sub(&op->references, 1) != 1)
        return;
    want_release(&op->want);
    free(op->name_copy);
    free(op);
}

static void park_remove(struct park *p, struct op *op)
{
    lock_acquire(&p->lock);
    if (op->previous)
        op->previous->next = op->next;
    else
        p->first = op->next;
    if (op->next)
        op->next->previous = op->previous;
    lock_release(&p->lock);
    metric_add(METRIC_WAITERS, -1);
    state_wait_end(op->fs->state, op->wait_slot);
    op_unref(op);
}

static bool op_claim(struct op *op, int to)
{
    int parked = PHASE_PARKED;
    return atomic_compare_exchange_strong(&op->phase, &parked, to);
}

static void op_reply_error(struct op *op, int error)
{
    if (error == -ETIMEDOUT)
        metric_add(METRIC_REQUESTS_TIMED_OUT, 1);
    fuse_reply_err(op->req, -error);
}

// Takes the op out after its deadline: the library may still call `ready`, which then finds it claimed.
static void op_give_up(struct park *p, struct op *op)
{
    if (!op_claim(op, PHASE_CLAIMED))
        return;
    fuse_req_interrupt_func(op->req, NULL, NULL);
    log_request_set(op->unique);
    log_warn("request timed out: the registry did not answer in time");
    op_reply_error(op, -ETIMEDOUT);
    if (repository_cancel(op->repository, &op->waiter))
        op_unref(op);
    park_remove(p, op);
}

static void *keeper_run(void *argument)
{
    struct park *p = argument;
    lock_acquire(&p->lock);
    for (;;) {
        condition_wait(&p->parked, &p->lock, p->first ? clock_ns() + KEEPER_PERIOD_NS : INT64_MAX);
        int64_t now = clock_ns();
        for (struct op *op = p->first; op; op = op ? op->next : NULL) {
            if (op->deadline_ns > now || atomic_load(&op->phase) != PHASE_PARKED)
                continue;
            atomic_fetch_add(&op->references, 1);
            lock_release(&p->lock);
            op_give_up(p, op);
            op_unref(op);
            lock_acquire(&p->lock);
            op = p->first; // the list may have changed: from the start
        }
    }
    return NULL;
}

// FUSE_INTERRUPT, called by libfuse with the request's own lock held.
static void op_interrupted(fuse_req_t req, void *argument)
{
    struct op *op = argument;
    atomic_store(&op->is_interrupted, true);
    if (!op_claim(op, PHASE_CLAIMED))
        return; // it is being run or about to be parked: op_ask looks at the flag
    fuse_reply_err(req, EINTR);
    struct park *p = op->fs->park;
    if (repository_cancel(op->repository, &op->waiter))
        op_unref(op);
    park_remove(p, op);
}

static void op_ready(struct waiter *w, int error);

static void op_ask(struct op *op)
{
    op->waiter = (struct waiter){.ready = op_ready};
    fuse_req_interrupt_func(op->req, op_interrupted, op);
    atomic_store(&op->phase, PHASE_PARKED);
    if (atomic_load(&op->is_interrupted) && op_claim(op, PHASE_CLAIMED)) {
        fuse_req_interrupt_func(op->req, NULL, NULL);
        op_reply_error(op, -EINTR);
        park_remove(op->fs->park, op);
        op_unref(op); // the waiter was not handed over
        return;
    }
    // From here on it may be answered by others at any time; the waiter's reference keeps it.
    repository_ask(op->repository, &op->want, &op->waiter);
}

// The library has let go of the waiter; its reference is ours now.
static void op_ready(struct waiter *w, int error)
{
    struct op *op = (struct op *)w;
    struct park *p = op->fs->park;
    if (!op_claim(op, PHASE_RUNNING)) {
        op_unref(op);
        return;
    }
    // Waits for an interrupt function that is running; after it none can, so that `run` may answer.
    fuse_req_interrupt_func(op->req, NULL, NULL);
    log_request_set(op->unique);
    state_work_begin(op->fs->state, op->unique);
    session_request_set(op->unique, op->is_resent);
    int r = error;
    if (r == 0 && clock_ns() > op->deadline_ns)
        r = -ETIMEDOUT;
    if (r == 0) {
        want_release(&op->want);
        op->want = (struct want){0};
        r = op->run(op);
    }
    state_work_end(op->fs->state);
    if (r == -EINPROGRESS) {
        op_ask(op);
        return;
    }
    if (r < 0)
        op_reply_error(op, r);
    park_remove(p, op);
    op_unref(op);
}

static struct op *op_keep(const struct op *from)
{
    struct op *op = new_struct(struct op);
    *op = *from;
    op->name_copy = memory_copy(from->name.data, from->name.size_bytes);
    op->name.data = op->name_copy;
    op->wait_slot = state_wait_begin(from->fs->state, from->unique);
    atomic_init(&op->phase, PHASE_RUNNING);
    atomic_init(&op->is_interrupted, false);
    atomic_init(&op->references, 2);
    return op;
}

static void park_add(struct park *p, struct op *op)
{
    lock_acquire(&p->lock);
    op->previous = NULL;
    op->next = p->first;
    if (p->first)
        p->first->previous = op;
    p->first = op;
    pthread_cond_signal(&p->parked);
    lock_release(&p->lock);
    metric_add(METRIC_WAITERS, 1);
    metric_add(METRIC_REQUESTS_PARKED, 1);
}

void op_start(struct park *p, struct op *op)
{
    int r = op->run(op);
    if (r != -EINPROGRESS) {
        want_release(&op->want);
        if (r < 0)
            op_reply_error(op, r);
        return;
    }
    struct op *kept = op_keep(op);
    park_add(p, kept);
    op_ask(kept);
}

struct park *park_new(void)
{
    struct park *p = new_struct(struct park);
    lock_init(&p->lock, LOCK_RANK_PARKED, "parked");
    condition_init(&p->parked);
    if (thread_start(&p->keeper, "keeper", keeper_run, p) < 0)
        log_check_failed("the keeper thread can't be started", __FILE__, __LINE__);
    return p;
}
