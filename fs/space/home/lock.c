// SPDX-License-Identifier: BSD-3-Clause
// lock.c: see lock.h.
//
// Invariants
//  1. An owner's locks of a file are on one descriptor, flocks on another; `held` of a stripe is under the inode lock of
//     its inodes, and so is every call that takes or gives back.
//  2. No call waits for another's lock: who would wait is parked.
//  3. A descriptor that holds nothing may stay until its handle is closed, never longer.
#include "fs/space/home/lock.h"

#include <errno.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/queue.h"
#include "fs/space/home/identity.h"

#define LOCK_AGAIN_NS (50 * NS_PER_MS)

struct held_lock {
    struct held_lock *next;
    uint64_t node, owner, fh;
    bool is_flock;
    int fd;
};

struct waiting_op {
    struct waiting_op *next;
    struct op *op;
};

struct locking {
    struct held_lock *held[HOME_STRIPES]; // by inode, under home_inode_lock
    pthread_t thread;
    struct lock lock;       // LOCK_RANK_LEAF: what follows
    pthread_cond_t changed;
    struct waiting_op *waiting;
    bool is_given_back;     // since the thread looked
    bool is_closing;
};

// ---- who holds --------------------------------------------------------------------------------

static struct held_lock **stripe_of(const struct op *op, const struct home_node *n)
{
    return &home_of(op)->locking->held[n->ino % HOME_STRIPES];
}

static struct held_lock *find(const struct op *op, const struct home_node *n)
{
    for (struct held_lock *l = *stripe_of(op, n); l; l = l->next)
        if (l->node == op->node && l->owner == op->lock.owner && l->is_flock == op->lock.is_flock)
            return l;
    return NULL;
}

// A file that can't be opened for writing (it is being executed) can be locked for reading.
static int open_for_locks(const struct op *op, int *ret_fd)
{
    int r = home_open_node(op, op->node, O_RDWR, ret_fd);
    return r < 0 && r != -ESTALE ? home_open_node(op, op->node, O_RDONLY, ret_fd) : r;
}

static int find_or_add(const struct op *op, const struct home_node *n, struct held_lock **ret_held)
{
    struct held_lock *l = find(op, n);
    int fd;
    if (!l) {
        int r = open_for_locks(op, &fd);
        if (r < 0)
            return r;
        l = new_struct(struct held_lock);
        *l = (struct held_lock){*stripe_of(op, n), op->node, op->lock.owner, op->fh, op->lock.is_flock, fd};
        *stripe_of(op, n) = l;
    }
    *ret_held = l;
    return 0;
}

typedef bool is_meant(const struct held_lock *l, const struct op *op);

static bool is_owners(const struct held_lock *l, const struct op *op)
{
    return l->node == op->node && l->owner == op->lock.owner && l->is_flock == op->lock.is_flock;
}

static bool is_handles(const struct held_lock *l, const struct op *op)
{
    return l->fh == op->fh;
}

static bool drop(const struct op *op, const struct home_node *n, is_meant *meant)
{
    bool any = false;
    for (struct held_lock **at = stripe_of(op, n); *at;) {
        struct held_lock *l = *at;
        if (!meant(l, op)) {
            at = &l->next;
            continue;
        }
        *at = l->next;
        close(l->fd);
        free(l);
        any = true;
    }
    return any;
}

static void tell_given_back(struct locking *l)
{
    lock_scope(&l->lock);
    l->is_given_back = true;
    pthread_cond_signal(&l->changed);
}

// ---- waiting ----------------------------------------------------------------------------------

static struct locking *locking_of(const struct op *op)
{
    return home_of(op)->locking;
}

static int source_ask(struct op *op)
{
    struct locking *l = locking_of(op);
    struct waiting_op *w = new_struct(struct waiting_op);
    lock_scope(&l->lock);
    *w = (struct waiting_op){l->waiting, op};
    l->waiting = w;
    pthread_cond_signal(&l->changed);
    return -EINPROGRESS;
}

static bool source_cancel(struct op *op)
{
    struct locking *l = locking_of(op);
    lock_scope(&l->lock);
    for (struct waiting_op **at = &l->waiting; *at; at = &(*at)->next)
        if ((*at)->op == op) {
            struct waiting_op *w = *at;
            *at = w->next;
            free(w);
            return true;
        }
    return false;
}

static void source_release(struct op *op)
{
    (void)op;
}

static const struct op_source op_locks = {
    .name = "another's lock",
    .ask = source_ask,
    .cancel = source_cancel,
    .release = source_release,
};

// All who wait, to try again; NULL: it is the end.
static struct waiting_op *wait_for_turn(struct locking *l)
{
    lock_scope(&l->lock);
    int64_t until_ns = clock_ns() + LOCK_AGAIN_NS;
    while (!l->is_closing && !(l->waiting && (l->is_given_back || clock_ns() >= until_ns)))
        condition_wait(&l->changed, &l->lock, l->waiting ? until_ns : INT64_MAX);
    struct waiting_op *all = l->is_closing ? NULL : l->waiting;
    l->waiting = l->is_closing ? l->waiting : NULL;
    l->is_given_back = false;
    return all;
}

static void *run(void *argument)
{
    struct locking *l = argument;
    struct waiting_op *all;
    identity_prepare();
    while ((all = wait_for_turn(l)))
        while (all) {
            struct waiting_op *w = all;
            all = w->next;
            op_answered(w->op, 0); // runs home_lock again
            free(w);
        }
    return NULL;
}

// ---- the verbs --------------------------------------------------------------------------------

static int try_lock(const struct op *op, const struct home_node *n)
{
    struct held_lock *held;
    struct flock range = op->lock.range;
    int type = range.l_type;
    range.l_pid = 0;
    if (type == F_UNLCK && !find(op, n))
        return 0;
    int r = find_or_add(op, n, &held);
    if (r < 0)
        return r;
    if (op->lock.is_flock)
        r = flock(held->fd, (type == F_UNLCK ? LOCK_UN : type == F_WRLCK ? LOCK_EX : LOCK_SH) | LOCK_NB);
    else
        r = fcntl(held->fd, F_OFD_SETLK, &range);
    r = r < 0 ? -errno : 0;
    bool is_all = op->lock.is_flock || (range.l_start == 0 && range.l_len == 0);
    if (type == F_UNLCK && is_all)
        drop(op, n, is_owners);
    return r == -EACCES ? -EAGAIN : r;
}

// Who holds it can't be told in numbers of processes: it may be one of another machine.
static int test(struct op *op)
{
    cleanup(cleanup_close) int fd = -1;
    struct flock range = op->lock.range;
    struct home_node n;
    int r = state_get_home(op->fs->state, op->node, &n) ? 0 : -ESTALE;
    if (r < 0)
        return r;
    range.l_pid = 0;
    {
        lock_scope(home_inode_lock(op, n.ino));
        struct held_lock *held = find(op, &n);
        if (!held)
            r = open_for_locks(op, &fd);
        if (r == 0 && fcntl(held ? held->fd : fd, F_OFD_GETLK, &range) < 0)
            r = -errno;
    }
    if (r < 0)
        return r;
    range.l_pid = 0;
    fuse_reply_lock(op->req, &range);
    return 0;
}

int home_lock(struct op *op)
{
    struct home_node n;
    int r;
    if (!locking_of(op))
        return -EOPNOTSUPP;
    if (op->lock.is_test)
        return test(op);
    if (!state_get_home(op->fs->state, op->node, &n))
        return -ESTALE;
    {
        lock_scope(home_inode_lock(op, n.ino));
        r = try_lock(op, &n);
    }
    if (r == -EAGAIN && op->lock.waits) {
        op->source = &op_locks;
        return -EINPROGRESS;
    }
    if (r < 0)
        return r;
    if (op->lock.range.l_type != F_WRLCK) // given back, or made a shared one
        tell_given_back(locking_of(op));
    fuse_reply_err(op->req, 0);
    return 0;
}

static void give_back(struct op *op, is_meant *meant)
{
    struct home_node n;
    bool any;
    if (!locking_of(op) || !state_get_home(op->fs->state, op->node, &n))
        return;
    {
        lock_scope(home_inode_lock(op, n.ino));
        any = drop(op, &n, meant);
    }
    if (any)
        tell_given_back(locking_of(op));
}

int home_flush(struct op *op)
{
    give_back(op, is_owners);
    fuse_reply_err(op->req, 0);
    return 0;
}

void lock_close_handle(struct op *op)
{
    give_back(op, is_handles);
}

// ---- life -------------------------------------------------------------------------------------

int lock_start(struct home *h)
{
    char name[16];
    if (!h->space.fs->options->locks_below)
        return 0;
    struct locking *l = new_struct(struct locking);
    lock_init(&l->lock, LOCK_RANK_LEAF, "waiting for locks");
    condition_init(&l->changed);
    snprintf(name, sizeof name, "locks/%u", h->space.number);
    int r = thread_start(&l->thread, name, run, l);
    if (r < 0) {
        free(l);
        return r;
    }
    if (h->space.fs->options->life > 1)
        log_warn("%s: locks that were held on the file system below ended with the daemon before this one; who held them "
                 "isn't told (locks=backing)", h->space.options->source);
    h->locking = l;
    return 0;
}

void lock_stop(struct locking *l)
{
    if (!l)
        return;
    lock_acquire(&l->lock);
    l->is_closing = true;
    pthread_cond_signal(&l->changed);
    lock_release(&l->lock);
    pthread_join(l->thread, NULL);
    for (size_t i = 0; i < HOME_STRIPES; i++)
        while (l->held[i]) {
            struct held_lock *h = l->held[i];
            l->held[i] = h->next;
            close(h->fd);
            free(h);
        }
    pthread_cond_destroy(&l->changed);
    lock_release_memory(&l->lock);
    free(l);
}
