// SPDX-License-Identifier: BSD-3-Clause
// op.c: parking and answering (see op.h's drawing).
//
// Invariants
//  1. A reply is made by whoever moved `phase` out of PARKED, or by the thread that runs it.
//  2. References: one for the parked list, one for the waiter the source holds. The interrupt
//     function of libfuse is taken back (which waits for one that is running) before the list's
//     reference goes, so it never sees a freed op.
//  3. No lock is held over a reply or a call into meta.
#include "fs/op.h"

#include <errno.h>
#include <stddef.h>

#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/queue.h"
#include "fs/fs.h"
#include "fs/session.h"
#include "fs/space/space.h"
#include "fs/state.h"

enum phase { PHASE_RUNNING, PHASE_PARKED, PHASE_CLAIMED };

struct park {
    struct fs *fs;
    struct lock lock;
    struct op *first;   // under lock
    pthread_cond_t parked; // there is one to watch
    bool is_asleep;        // the keeper, until there is; under lock
    pthread_t keeper;
};

#define KEEPER_PERIOD_NS (50 * NS_PER_MS)

// ---- sources --------------------------------------------------------------------------------

static void librarians_ready(struct waiter *w, int error)
{
    op_answered((struct op *)w, error);
}

static int librarians_ask(struct op *op)
{
    int64_t patience = op->want.has_old ? clock_ns() + PATIENCE_NS : 0;
    op->waiter = (struct waiter){.ready = librarians_ready, .patience_ns = patience};
    repository_ask(op->repository, &op->want, &op->waiter);
    return -EINPROGRESS;
}

static bool librarians_cancel(struct op *op)
{
    return repository_cancel(op->repository, &op->waiter);
}

static void librarians_release(struct op *op)
{
    want_release(&op->want);
    op->want = (struct want){0};
}

const struct op_source op_librarians = {
    .name = "the registry",
    .ask = librarians_ask,
    .cancel = librarians_cancel,
    .release = librarians_release,
};

static int bucket_source_ask(struct op *op)
{
    op->waiter = (struct waiter){.ready = librarians_ready};
    bucket_ask(op->bucket, &op->bucket_want, &op->waiter);
    return -EINPROGRESS;
}

static bool bucket_source_cancel(struct op *op)
{
    return bucket_cancel(op->bucket, &op->waiter);
}

static void bucket_source_release(struct op *op)
{
    bucket_want_release(&op->bucket_want);
    op->bucket_want = (struct bucket_want){0};
}

const struct op_source op_bucket = {
    .name = "the bucket",
    .ask = bucket_source_ask,
    .cancel = bucket_source_cancel,
    .release = bucket_source_release,
};

static void cache_ready(struct cache_waiter *w, int error)
{
    op_answered((struct op *)((char *)w - offsetof(struct op, cache_waiter)), error);
}

static int cache_source_ask(struct op *op)
{
    op->cache_waiter = (struct cache_waiter){.ready = cache_ready};
    return cache_ask(op->fs->cache, &op->cache_want, &op->cache_waiter);
}

static bool cache_source_cancel(struct op *op)
{
    return cache_cancel(op->fs->cache, &op->cache_want, &op->cache_waiter);
}

static void cache_source_release(struct op *op)
{
    cache_want_release(&op->cache_held);
    op->cache_held = op->cache_want;
    op->cache_want = (struct cache_want){0};
}

const struct op_source op_cache = {
    .name = "the origin",
    .ask = cache_source_ask,
    .cancel = cache_source_cancel,
    .release = cache_source_release,
};

static void uploads_ready(struct upload_waiter *w)
{
    op_answered((struct op *)((char *)w - offsetof(struct op, upload_waiter)), 0);
}

static int uploads_ask(struct op *op)
{
    op->upload_waiter = (struct upload_waiter){.ready = uploads_ready};
    return upload_wait(op->upload, op->upload_event, &op->upload_waiter);
}

static bool uploads_cancel(struct op *op)
{
    return upload_cancel(&op->upload_waiter);
}

static void uploads_release(struct op *op)
{
    if (op->upload)
        upload_let_go(take(op->upload));
}

const struct op_source op_uploads = {
    .name = "the bucket",
    .ask = uploads_ask,
    .cancel = uploads_cancel,
    .release = uploads_release,
};

// ---- parking --------------------------------------------------------------------------------

static void op_release(struct op *op)
{
    if (op->source)
        op->source->release(op);
    op->source = NULL;
}

static void op_unref(struct op *op)
{
    if (atomic_fetch_sub(&op->references, 1) != 1)
        return;
    op_release(op);
    cache_want_release(&op->cache_held);
    free(op->name_copy);
    free(op->to_name_copy);
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

static int add_part(struct text name, void *context)
{
    buffer_append_byte(context, '/');
    buffer_append_text(context, name);
    return 0;
}

static void log_late(struct op *op)
{
    BUFFER_CLEANUP path = {0};
    struct file_node file;
    const struct space_options *of = op->space->options; // the mount's own root has none
    uint64_t node = op->node;
    if (state_get_file(op->fs->state, node, &file)) // of a dataset's its folder is known, of an object's its name
        node = file.name ? file.name : file.parent;
    state_path(op->fs->state, node, op->space->number, add_part, &path);
    if (op->name.size_bytes)
        add_part(op->name, &path);
    log_warn("request timed out: %s did not answer in time, or the limit is too short (option timeout): %s: %.*s",
             op->source->name, of ? of->source : "the mount", (int)path.size_bytes, path.data ? path.data : "");
}

// Takes the op out after its deadline: the source may still answer, and then finds it claimed.
static void op_give_up(struct park *p, struct op *op)
{
    if (!op_claim(op, PHASE_CLAIMED))
        return;
    fuse_req_interrupt_func(op->req, NULL, NULL);
    log_request_set(op->unique);
    log_late(op);
    op_reply_error(op, -ETIMEDOUT);
    if (op->source->cancel(op))
        op_unref(op);
    park_remove(p, op);
}

static void spaces_hurry(struct fs *fs)
{
    for (uint16_t i = 0; i < fs->space_count; i++)
        if (fs->spaces[i]->ops->hurry)
            fs->spaces[i]->ops->hurry(fs->spaces[i]);
}

static void *keeper_run(void *argument)
{
    struct park *p = argument;
    lock_acquire(&p->lock);
    for (;;) {
        p->is_asleep = !p->first;
        condition_wait(&p->parked, &p->lock, p->is_asleep ? INT64_MAX : clock_ns() + KEEPER_PERIOD_NS);
        lock_release(&p->lock);
        spaces_hurry(p->fs);
        lock_acquire(&p->lock);
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
    if (op->source->cancel(op))
        op_unref(op);
    park_remove(p, op);
}

// -EINPROGRESS: it may be answered by others at any time, or has been. Else it is this thread's again, to
// be run if 0.
static int op_ask(struct op *op)
{
    if (!op->ignores_interrupts)
        fuse_req_interrupt_func(op->req, op_interrupted, op);
    atomic_store(&op->phase, PHASE_PARKED);
    if (atomic_load(&op->is_interrupted) && op_claim(op, PHASE_CLAIMED)) {
        fuse_req_interrupt_func(op->req, NULL, NULL);
        op_reply_error(op, -EINTR);
        park_remove(op->fs->park, op);
        op_unref(op); // the waiter was not handed over
        return -EINPROGRESS;
    }
    // From here on it may be gone at any time, but for the waiter's reference while it isn't handed over.
    int r = op->source->ask(op);
    if (r == -EINPROGRESS)
        return r;
    if (!op_claim(op, PHASE_RUNNING)) {
        op_unref(op);
        return -EINPROGRESS;
    }
    fuse_req_interrupt_func(op->req, NULL, NULL); // waits for one that is running
    return r;
}

static int op_run_again(struct op *op)
{
    if (clock_ns() > op->deadline_ns)
        return -ETIMEDOUT;
    op->takes_errors = false;
    log_request_set(op->unique);
    state_work_begin(op->fs->state, op->unique);
    session_request_set(op->unique, op->is_resent);
    op_release(op);
    int r = op->run(op);
    state_work_end(op->fs->state);
    return r;
}

// Of an op that is this thread's: runs it until it is answered or somebody else's.
static void op_go_on(struct op *op, int r)
{
    struct park *p = op->fs->park;
    for (;;) {
        if (r < 0 && op->takes_errors) {
            op->source_error = r;
            r = 0;
        }
        if (r == 0)
            r = op_run_again(op);
        op->source_error = 0;
        if (r != -EINPROGRESS)
            break;
        r = op_ask(op);
        if (r == -EINPROGRESS)
            return;
    }
    if (r < 0)
        op_reply_error(op, r);
    park_remove(p, op);
    op_unref(op);
}

// The source has let go of the waiter; its reference is ours now.
void op_answered(struct op *op, int error)
{
    if (!op_claim(op, PHASE_RUNNING)) {
        op_unref(op);
        return;
    }
    // Waits for an interrupt function that is running; after it none can, so that `run` may answer.
    fuse_req_interrupt_func(op->req, NULL, NULL);
    op_go_on(op, error);
}

static struct op *op_keep(const struct op *from)
{
    struct op *op = new_struct(struct op);
    *op = *from;
    op->name_copy = memory_copy(from->name.data, from->name.size_bytes);
    op->name.data = op->name_copy;
    op->to_name_copy = memory_copy(from->change.to_name.data, from->change.to_name.size_bytes);
    op->change.to_name.data = op->to_name_copy;
    op->change.data = NULL;
    op->change.attr = NULL;
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
    if (p->is_asleep) {
        p->is_asleep = false;
        pthread_cond_signal(&p->parked);
    }
    lock_release(&p->lock);
    metric_add(METRIC_WAITERS, 1);
    metric_add(METRIC_REQUESTS_PARKED, 1);
}

void op_start(struct park *p, struct op *op)
{
    int r = op->run(op);
    if (r != -EINPROGRESS) {
        op_release(op);
        cache_want_release(&op->cache_held);
        if (r < 0)
            op_reply_error(op, r);
        return;
    }
    struct op *kept = op_keep(op);
    park_add(p, kept);
    r = op_ask(kept);
    if (r != -EINPROGRESS)
        op_go_on(kept, r);
}

struct park *park_new(struct fs *fs)
{
    struct park *p = new_struct(struct park);
    p->fs = fs;
    lock_init(&p->lock, LOCK_RANK_PARKED, "parked");
    condition_init(&p->parked);
    if (thread_start(&p->keeper, "keeper", keeper_run, p) < 0)
        log_check_failed("the keeper thread can't be started", __FILE__, __LINE__);
    return p;
}

// ---- who asks -------------------------------------------------------------------------------

bool op_is_of_group(const struct op *op, gid_t gid, int most)
{
    gid_t groups[OP_GROUPS_MAX];
    check(most <= OP_GROUPS_MAX);
    if (fuse_req_ctx(op->req)->gid == gid)
        return true;
    int count = fuse_req_getgroups(op->req, most, groups);
    for (int i = 0; i < count && i < most; i++)
        if (groups[i] == gid)
            return true;
    return false;
}
