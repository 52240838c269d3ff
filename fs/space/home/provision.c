// SPDX-License-Identifier: BSD-3-Clause
// provision.c: see provision.h.
//
// Invariants
//  1. Who may want a folder is decided by numbers that the kernel vouches for (the caller's user and groups) before the
//     name service is asked, and again by what it answers.
//  2. A name that was asked for in vain isn't asked of the name service again for a while; who looks has VAIN_NAMES
//     names in that time, so that nobody keeps the name service busy, or others waiting, by making names up.
#include "fs/space/home/provision.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/queue.h"
#include "fs/ranges.h"
#include "fs/space/home/identity.h"

#define GROUPS_MAX 256
#define VAIN_SLOTS 1024
#define VAIN_NAMES 32
#define SEEKER_WAYS 8
#define VAIN_NS (30 * NS_PER_S)
#define NSS_ROOM 65536
#define JOBS_MAX 1000

// Made for a look-up (op) or an order.
struct job {
    struct queue_item item;
    struct job *next; // in the list of jobs that may be cancelled
    struct op *op;    // NULL: by order, or its look-up has given up
    bool is_order;
    bool is_done;     // an order's, under lock
    bool is_left;     // nobody waits for the order any more: the thread frees it
    int result;
    char name[256];
    uid_t uid;        // of who looks
    gid_t groups[GROUPS_MAX];
    int group_count;
};

struct seeker {
    uid_t uid;
    uint32_t names; // he asked for
    int64_t until_ns; // 0: nobody's
};

struct provision {
    struct home *home;
    bool is_group;
    struct range ranges[RANGES_MAX];
    int range_count;
    const char *skeleton;
    mode_t mode;
    struct queue queue;
    pthread_t thread;
    struct lock lock;       // LOCK_RANK_LEAF: what follows
    pthread_cond_t done;
    struct job *waiting;    // of look-ups, not begun
    uint32_t job_count;
    struct {
        uint64_t hash;
        int64_t until_ns;
    } vain[VAIN_SLOTS];
    struct seeker seekers[VAIN_SLOTS]; // by user, each in one of SEEKER_WAYS slots
};

static bool is_allowed(const struct provision *p, uint32_t id)
{
    for (int i = 0; i < p->range_count; i++)
        if (id >= p->ranges[i].first && id <= p->ranges[i].last)
            return true;
    return false;
}

// What could be a user's or a group's name at all.
static bool may_be_name(struct text name)
{
    return home_is_name(name) && name.size_bytes < 256 && name.data[0] != '.' && name.data[0] != '-';
}

// ---- in vain ------------------------------------------------------------------------------------

// By name and by who looks: his user, and in a group space his groups.
static uint64_t vain_hash(const struct provision *p, const struct job *j)
{
    uint64_t who = p->is_group ? hash64_seed(j->groups, (size_t)j->group_count * sizeof *j->groups, j->uid) : j->uid;
    return hash64_seed(j->name, strlen(j->name), who);
}

// His own slot, else one whose time is over. Where others have them all, his names and another's are in common.
static struct seeker *seeker_of(struct provision *p, uid_t uid, int64_t now_ns)
{
    struct seeker *over = NULL;
    for (uint32_t way = 0; way < SEEKER_WAYS; way++) {
        struct seeker *s = &p->seekers[(uid + way) % VAIN_SLOTS];
        if (s->until_ns > now_ns && s->uid == uid)
            return s;
        if (s->until_ns <= now_ns && !over)
            over = s;
    }
    if (!over)
        return &p->seekers[uid % VAIN_SLOTS];
    *over = (struct seeker){.uid = uid, .until_ns = now_ns + VAIN_NS};
    return over;
}

// Whether the name service may be asked for this one.
static bool may_ask(struct provision *p, const struct job *j)
{
    uint64_t hash = vain_hash(p, j);
    int64_t now_ns = clock_ns();
    lock_scope(&p->lock);
    if (p->vain[hash % VAIN_SLOTS].hash == hash && p->vain[hash % VAIN_SLOTS].until_ns > now_ns)
        return false;
    return seeker_of(p, j->uid, now_ns)->names++ < VAIN_NAMES;
}

static void note_vain(struct provision *p, const struct job *j)
{
    uint64_t hash = vain_hash(p, j);
    lock_scope(&p->lock);
    p->vain[hash % VAIN_SLOTS].hash = hash;
    p->vain[hash % VAIN_SLOTS].until_ns = clock_ns() + VAIN_NS;
}

// ---- who it is --------------------------------------------------------------------------------------

// -ENOENT: nobody has that name; -EPERM: no rule allows it, or it isn't for who looks.
static int plan_home(const struct provision *p, const struct job *j, struct provision_plan *plan)
{
    cleanup(cleanup_free) char *room = memory_new(NSS_ROOM);
    struct passwd entry, *user = NULL;
    int e = getpwnam_r(j->name, &entry, room, NSS_ROOM, &user);
    if (!user)
        return e ? -EIO : -ENOENT;
    // Where names are the same in capitals, too, only one of them is a home's.
    if (strcmp(user->pw_name, j->name) != 0 || !is_allowed(p, user->pw_uid) ||
        (!j->is_order && user->pw_uid != j->uid))
        return -EPERM;
    plan->uid = user->pw_uid;
    plan->gid = user->pw_gid;
    return 0;
}

static bool is_member(const struct job *j, gid_t gid)
{
    for (int i = 0; i < j->group_count; i++)
        if (j->groups[i] == gid)
            return true;
    return j->is_order;
}

static int plan_group(const struct provision *p, const struct job *j, struct provision_plan *plan)
{
    cleanup(cleanup_free) char *room = memory_new(NSS_ROOM);
    struct group entry, *group = NULL;
    int e = getgrnam_r(j->name, &entry, room, NSS_ROOM, &group);
    if (!group && e != ERANGE)
        return e ? -EIO : -ENOENT;
    if (!group)
        return -EIO;
    if (strcmp(group->gr_name, j->name) != 0 || !is_allowed(p, group->gr_gid) ||
        !is_member(j, group->gr_gid))
        return -EPERM;
    plan->uid = 0;
    plan->gid = group->gr_gid;
    return 0;
}

// ---- the thread -------------------------------------------------------------------------------------

static int work(struct provision *p, struct job *j)
{
    struct provision_plan plan = {.home = p->home, .name = j->name, .mode = p->mode, .is_group = p->is_group,
                                  .skeleton = p->is_group ? NULL : p->skeleton};
    int r = p->is_group ? plan_group(p, j, &plan) : plan_home(p, j, &plan);
    if (r == 0)
        r = provision_make(&plan);
    if (r == 0) {
        metric_add(METRIC_HOMES_MADE, 1);
        log_info("%s/%s is made for %s %u", p->home->space.options->source, j->name, p->is_group ? "group" : "user",
                 p->is_group ? plan.gid : plan.uid);
    } else if (r != -ENOENT && r != -EPERM && r != -EEXIST)
        log_error("%s/%s can't be made: %s", p->home->space.options->source, j->name, strerror(-r));
    return r;
}

// The look-up that waits for it; NULL: it has given up.
static struct op *take_op(struct provision *p, struct job *j)
{
    lock_scope(&p->lock);
    for (struct job **at = &p->waiting; *at; at = &(*at)->next)
        if (*at == j) {
            *at = j->next;
            break;
        }
    return j->op;
}

static void finish_order(struct provision *p, struct job *j, int result)
{
    lock_acquire(&p->lock);
    bool is_left = j->is_left;
    j->result = result;
    j->is_done = true;
    pthread_cond_broadcast(&p->done);
    lock_release(&p->lock);
    if (is_left)
        free(j);
}

static void *run(void *argument)
{
    struct provision *p = argument;
    struct queue_item *item;
    identity_prepare();
    provision_clean(p->home);
    while ((item = queue_get(&p->queue, INT64_MAX))) {
        struct job *j = (struct job *)item;
        struct op *op = j->is_order ? NULL : take_op(p, j);
        int r = j->is_order || op ? work(p, j) : -ECANCELED;
        lock_acquire(&p->lock);
        p->job_count--;
        lock_release(&p->lock);
        if (j->is_order) {
            finish_order(p, j, r);
            continue;
        }
        bool is_vain = r == -ENOENT || r == -EPERM;
        if (is_vain)
            note_vain(p, j);
        if (op)
            op_answered(op, is_vain || r == -EEXIST ? 0 : r);
        free(j);
    }
    return NULL;
}

// ---- looking ----------------------------------------------------------------------------------------

static void take_caller(const struct op *op, struct job *j)
{
    const struct fuse_ctx *ctx = fuse_req_ctx(op->req);
    j->uid = ctx->uid;
    memcpy(j->name, op->name.data, op->name.size_bytes);
    int n = fuse_req_getgroups(op->req, GROUPS_MAX - 1, j->groups);
    j->group_count = n < 0 ? 0 : n < GROUPS_MAX - 1 ? n : GROUPS_MAX - 1;
    j->groups[j->group_count++] = ctx->gid;
}

// Its job is nobody's any more: true, if it was waiting.
static bool source_take_back(struct provision *p, const struct op *op)
{
    lock_scope(&p->lock);
    for (struct job **at = &p->waiting; *at; at = &(*at)->next)
        if ((*at)->op == op) {
            (*at)->op = NULL;
            *at = (*at)->next;
            return true;
        }
    return false;
}

static int source_ask(struct op *op)
{
    struct provision *p = ((struct home *)op->space)->provision;
    struct job *j = new_struct(struct job);
    take_caller(op, j);
    j->op = op;
    op->was_provisioned = true;
    lock_acquire(&p->lock);
    bool has_room = p->job_count < JOBS_MAX;
    if (has_room) {
        p->job_count++;
        j->next = p->waiting;
        p->waiting = j;
    }
    lock_release(&p->lock);
    if (!has_room || !queue_put(&p->queue, &j->item)) {
        if (has_room) { // the queue is closed
            source_take_back(p, op);
            lock_scope(&p->lock);
            p->job_count--;
        }
        free(j);
        return -EAGAIN;
    }
    return -EINPROGRESS;
}

static bool source_cancel(struct op *op)
{
    return source_take_back(((struct home *)op->space)->provision, op);
}

static void source_release(struct op *op)
{
    (void)op;
}

static const struct op_source op_provision = {
    .name = "the name service, for a home",
    .ask = source_ask,
    .cancel = source_cancel,
    .release = source_release,
};

int provision_look(struct op *op)
{
    struct provision *p = ((struct home *)op->space)->provision;
    if (!p || op->was_provisioned || !may_be_name(op->name))
        return -ENOENT;
    uid_t uid = fuse_req_ctx(op->req)->uid;
    if (uid == 0 || (!p->is_group && !is_allowed(p, uid)))
        return -ENOENT;
    struct job who = {0};
    take_caller(op, &who);
    if (!may_ask(p, &who))
        return -ENOENT;
    op->source = &op_provision;
    return -EINPROGRESS;
}

int provision_order(struct provision *p, struct text name, int64_t limit_ns)
{
    if (!may_be_name(name))
        return -EINVAL;
    int64_t deadline_ns = clock_ns() + limit_ns;
    struct job *j = new_struct(struct job);
    j->is_order = true;
    memcpy(j->name, name.data, name.size_bytes);
    lock_acquire(&p->lock);
    p->job_count++;
    lock_release(&p->lock);
    if (!queue_put(&p->queue, &j->item)) {
        free(j);
        return -ESHUTDOWN;
    }
    lock_acquire(&p->lock);
    while (!j->is_done && condition_wait(&p->done, &p->lock, deadline_ns) == 0)
        continue;
    int r = j->is_done ? j->result : -ETIMEDOUT;
    bool is_mine = j->is_done;
    j->is_left = !is_mine;
    lock_release(&p->lock);
    if (is_mine)
        free(j);
    return r;
}

// ---- life -------------------------------------------------------------------------------------------

int provision_start(struct home *h)
{
    const struct space_options *o = h->space.options;
    char name[16];
    if (!o->provision)
        return 0;
    struct provision *p = new_struct(struct provision);
    p->home = h;
    p->is_group = o->kind == SPACE_GROUP;
    p->range_count = ranges_parse(o->provision, p->ranges);
    p->skeleton = o->skeleton;
    p->mode = o->has_home_mode ? o->home_mode : p->is_group ? 02770 : 0700;
    queue_init(&p->queue, "provision");
    lock_init(&p->lock, LOCK_RANK_LEAF, "provision");
    condition_init(&p->done);
    snprintf(name, sizeof name, "provision/%u", h->space.number);
    int r = p->range_count < 0 ? p->range_count : thread_start(&p->thread, name, run, p);
    if (r < 0) {
        free(p);
        return r;
    }
    h->provision = p;
    return 0;
}

void provision_stop(struct provision *p)
{
    if (!p)
        return;
    queue_close(&p->queue);
    pthread_join(p->thread, NULL);
    queue_release(&p->queue);
    pthread_cond_destroy(&p->done);
    lock_release_memory(&p->lock);
    free(p);
}
