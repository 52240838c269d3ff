// SPDX-License-Identifier: BSD-3-Clause
// once.c: changes that the kernel asks for again, as the daemon died before it answered (state.h).
// The kernel holds the folder's (or file's) lock until its request is answered, so between the first run
// and the second no other request has touched the names it is about.
#include "base/log.h"
#include "base/metric.h"
#include "fs/space/home/home.h"

bool once_begin(struct op *op, uint64_t detail, struct once *ret_once)
{
    struct once o = {.op = op};
    enum change_phase phase = CHANGE_NONE;
    if (op->is_resent)
        phase = state_change_find(op->fs->state, op->unique, &o.done);
    o.was_begun = phase == CHANGE_BEGUN;
    o.detail = o.done.detail;
    *ret_once = o;
    if (phase == CHANGE_DONE) {
        metric_add(METRIC_CHANGES_AGAIN, 1);
        return false;
    }
    state_change_begin(op->fs->state, op->unique, o.was_begun ? o.detail : detail);
    return true;
}

void once_end(struct once *o, int result, uint64_t node)
{
    state_change_end(o->op->fs->state, result, node);
}

int once_end_plain(struct once *o, int result)
{
    once_end(o, result, 0);
    if (result == 0)
        fuse_reply_err(o->op->req, 0);
    return result;
}

int once_answer(struct op *op, const struct once *o)
{
    HELD_CLEANUP held = {0};
    struct stat st;
    if (o->done.result < 0)
        return o->done.result;
    if (!o->done.node) {
        fuse_reply_err(op->req, 0);
        return 0;
    }
    int r = home_hold(op, o->done.node, &held);
    if (r == 0 && fstat(held.fd, &st) < 0)
        r = -errno;
    return r < 0 ? r : home_reply_entry(op, o->done.node, &st);
}
