// SPDX-License-Identifier: BSD-3-Clause
// verb_quota.c: see verb_quota.h.
#include "fs/verb_quota.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/queue.h"
#include "fs/space/space.h"
#include "fs/status.h"
#include "meta/ledger_text.h"

#define GROUPS_MAX 256

static int refuse(struct doc *reply, int error, const char *text)
{
    doc_put_text(reply, "error", text);
    return error;
}

static int refuse_none(struct doc *reply)
{
    return refuse(reply, -EOPNOTSUPP, "this mount has no quotas: it has no home or group space, or quota=off");
}

// ---- set ----------------------------------------------------------------------------------------

int verb_quota_set(const struct doc *request, struct doc *reply, void *context)
{
    struct ledger *l = ((struct status_context *)context)->fs->ledger;
    enum ledger_kind kind;
    struct ledger_usage was;
    struct ledger_limits limits = {};
    uint64_t id;
    cleanup(cleanup_free) char *why = NULL;
    if (!l)
        return refuse_none(reply);
    if (ledger_kind_parse(doc_text(doc_get(request, "kind"), TEXT("")), &kind) < 0)
        return refuse(reply, -EINVAL, "whose limits: a user's, a group's or a tree's");
    if (ledger_id_parse(doc_get(request, "id"), kind, &id) < 0)
        return refuse(reply, -EINVAL, "not a number of a user, group or tree");
    bool is_cleared = doc_bool(doc_get(request, "is_cleared"), false);
    if (ledger_usage(l, kind, id, &was) == 0 && was.has_own)
        limits = was.limits; // what isn't said stays
    if (!is_cleared && ledger_limits_parse(request, &limits, &why) < 0)
        return refuse(reply, -EINVAL, why);
    struct text path = kind == LEDGER_TREE ? doc_text(doc_get(request, "path"), TEXT("")) : TEXT("");
    int r = ledger_limit(l, kind, id, is_cleared ? NULL : &limits, path);
    if (r < 0)
        return refuse(reply, r, "the ledger can't be written");
    struct text said = doc_text(doc_get(request, "id"), TEXT(""));
    log_info("quota: limits of %s %.*s set by an administrator", ledger_kind_name(kind), (int)said.size_bytes, said.data);
    return 0;
}

// ---- report -------------------------------------------------------------------------------------

struct report {
    struct fs *fs;
    struct doc *list;
    bool is_all;
    uid_t uid;
    gid_t groups[GROUPS_MAX];
    int group_count;
    int64_t now_unix_ns;
};

// By its path, as an administrator gave it.
static bool tree_is_for(const struct report *r, struct text path)
{
    struct text mountpoint = text_of(r->fs->options->mountpoint);
    if (!text_begins(path, mountpoint))
        return false;
    struct text below = text_slice(path, mountpoint.size_bytes, path.size_bytes);
    for (uint32_t i = 0; i < r->fs->space_count; i++) {
        struct space *s = r->fs->spaces[i];
        if (!s->ops->tree_is_for)
            continue; // the mount's root has no options
        struct text name = text_of(s->options->name ? s->options->name : "");
        size_t root = name.size_bytes ? 1 + name.size_bytes : 0; // "/homes" is the space's root, and so is ""
        if (root && !(text_begins(below, TEXT("/")) && text_begins(text_slice(below, 1, below.size_bytes), name)))
            continue;
        if (below.size_bytes == root || below.data[root] == '/')
            return s->ops->tree_is_for(s, text_slice(below, root + (below.size_bytes > root), below.size_bytes), r->uid, r->groups,
                                       r->group_count);
    }
    return false;
}

static bool is_for(const struct report *r, const struct ledger_usage *u)
{
    if (r->is_all || (u->id == LEDGER_DEFAULT && u->kind != LEDGER_TREE))
        return true;
    if (u->kind == LEDGER_USER)
        return u->id == r->uid;
    if (u->kind == LEDGER_TREE)
        return tree_is_for(r, u->path);
    for (int i = 0; i < r->group_count; i++)
        if (u->id == r->groups[i])
            return true;
    return false;
}

static void put_owner(const struct ledger_usage *u, void *context)
{
    struct report *r = context;
    if (is_for(r, u))
        doc_append(r->list, ledger_usage_doc(u, r->now_unix_ns));
}

// The kernel vouches for the group; of the others the process says which they are, as the kernel shows it.
static void take_groups(struct report *r, fuse_req_t req)
{
    int n = fuse_req_getgroups(req, GROUPS_MAX - 1, r->groups);
    r->group_count = n < 0 ? 0 : n < GROUPS_MAX - 1 ? n : GROUPS_MAX - 1;
    r->groups[r->group_count++] = fuse_req_ctx(req)->gid;
}

int verb_quota_report(const struct control_caller *caller, const struct doc *request, struct doc *reply, void *context)
{
    struct fs *fs = ((struct status_context *)context)->fs;
    struct ledger *l = fs->ledger;
    struct report r = {.fs = fs, .uid = caller->uid, .now_unix_ns = clock_unix_ns()};
    (void)request;
    if (!l)
        return refuse_none(reply);
    r.is_all = caller->uid == 0 || caller->uid == caller->owner;
    if (caller->op)
        take_groups(&r, caller->op->req);
    r.list = doc_new(DOC_LIST);
    ledger_report(l, put_owner, &r);
    doc_put(reply, "owners", r.list);
    return 0;
}

// ---- check and repair: a thread of its own, one at a time ----------------------------------------

static void note_difference(const struct ledger_difference *d, void *context)
{
    doc_append(context, ledger_difference_doc(d));
}

static void *check_run(void *argument)
{
    struct quota_check *q = argument;
    struct doc *found = doc_new(DOC_LIST);
    int r = ledger_check(q->ledger, q->is_repair, note_difference, found);
    lock_scope(&q->lock);
    q->result = r;
    q->differences = found;
    q->is_running = false;
    return NULL;
}

// Under its lock.
static int check_begin(struct quota_check *q, struct ledger *ledger, bool is_repair)
{
    pthread_t thread;
    q->ledger = ledger;
    q->is_repair = is_repair;
    doc_free(q->differences);
    q->differences = NULL;
    int r = thread_start(&thread, "quota-check", check_run, q);
    if (r < 0)
        return r;
    pthread_detach(thread);
    q->is_running = true;
    return 0;
}

// The differences once: they are moved to the answer.
int verb_quota_check(const struct doc *request, struct doc *reply, void *context)
{
    struct status_context *c = context;
    struct quota_check *q = &c->quota_check;
    if (!c->fs->ledger)
        return refuse_none(reply);
    lock_scope(&q->lock);
    if (doc_bool(doc_get(request, "begin"), false)) {
        if (q->is_running)
            return refuse(reply, -EBUSY, "a check is running");
        int r = check_begin(q, c->fs->ledger, doc_bool(doc_get(request, "repair"), false));
        if (r < 0)
            return r;
    }
    doc_put_bool(reply, "is_running", q->is_running);
    if (q->is_running || !q->differences)
        return 0;
    doc_put(reply, "differences", take(q->differences));
    if (q->result == -EBUSY)
        return refuse(reply, q->result, "usage is being counted already: try again when that is over");
    if (q->result == -EAGAIN)
        return refuse(reply, q->result, "folders were moved again and again meanwhile: try again");
    return q->result;
}

// ---- trees --------------------------------------------------------------------------------------

int verb_quota_tree(struct op *op, const struct doc *request, struct doc *reply)
{
    uint64_t tree = 0;
    char digits[24];
    (void)request;
    if (!op->fs->ledger || !op->space->ops->tree)
        return refuse_none(reply);
    int r = op->space->ops->tree(op, &tree);
    if (r < 0)
        return refuse(reply, r, "only a folder can be a tree with a limit");
    snprintf(digits, sizeof digits, "%" PRIu64, tree);
    doc_put_text(reply, "tree", digits);
    return 0;
}
