// SPDX-License-Identifier: BSD-3-Clause
// opened.c: handles of files, and the modes they are open in (opened.h).
//
// Invariants
//  1. A node is open in one mode at a time, and by passthrough with one backing id.
//  2. An artifact that was replaced while its node is open makes the node stale: the open is answered
//     ESTALE once, the kernel looks the name up again and gets a new node for the new artifact; who has
//     the old one open keeps it.
//  3. The backing id is closed with the node's last handle, under the node's lock.
#include "fs/opened.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/metric.h"
#include "cache/origin/origin.h"
#include "fs/recall.h"
#include "fs/space/space.h"

void opened_release(struct opened *o)
{
    if (o->cached)
        cached_close(take(o->cached));
    if (o->fd >= 0)
        close(o->fd);
    o->fd = -1;
}

uint64_t object_artifact(const struct object *object, struct text validator, int64_t size_bytes)
{
    struct text identity = origin_identity(object->origin);
    uint64_t h = hash64_seed(identity.data, identity.size_bytes, (uint64_t)size_bytes);
    h = hash64_seed(object->key.data, object->key.size_bytes, h);
    if (validator.size_bytes == 0)
        return hash64_seed(&object->mtime_unix_ns, sizeof object->mtime_unix_ns, h) | 1;
    return hash64_seed(validator.data, validator.size_bytes, h) | 1; // not 0
}

int opened_cached(struct op *op, const struct object *object, struct opened *ret_opened, char **ret_why)
{
    struct opened o = {.fd = -1};
    struct cache_attr attr;
    // Nearline, where all of it is needed to open it: that is decided when it is missing again.
    if (op->source_error == -EAGAIN)
        op->source_error = 0;
    if (op->source_error) { // what was waited for could not be had: this object's open decides what that means
        int error = op->source_error;
        op->source_error = 0;
        return error;
    }
    op->source = &op_cache;
    op->takes_errors = true;
    int r = cache_open(op->fs->cache, object, op->arrived_ns, &o.cached, &op->cache_want, ret_why);
    if (r < 0)
        return r;
    cached_attr(o.cached, &attr);
    o.size_bytes = attr.size_bytes;
    // A listing that gives no validators is gone by where it stands, as it was at look-up.
    bool has_none = object->seen_unix_ns && object->validator.size_bytes == 0;
    struct text validator = has_none ? (struct text){0} : text_of(attr.validator);
    o.artifact = o.pages = object_artifact(object, validator, attr.size_bytes);
    o.can_pass = cached_descriptor(o.cached, &o.fd) == 0;
    *ret_opened = o;
    return 0;
}

void opened_identify(struct opened *o, const struct stat *st)
{
    uint64_t which[] = {st->st_dev, st->st_ino};
    uint64_t bytes[] = {(uint64_t)st->st_mtim.tv_sec, (uint64_t)st->st_mtim.tv_nsec,
                        (uint64_t)o->size_bytes};
    o->artifact = hash64(which, sizeof which) | 1; // not 0
    o->pages = hash64_seed(bytes, sizeof bytes, o->artifact) | 1;
}

// ---- modes ----------------------------------------------------------------------------------

struct opening {
    struct op *op;
    const struct opened *opened;
    bool keep_cache;   // out
    bool size_changed; // out
    int32_t backing_id; // out
    enum open_mode mode; // out
};

// Under the node's lock; the ioctl does not wait for anything.
static void backing_close(struct fs *fs, struct file_node *n)
{
    if (n->backing_id)
        session_backing_close(fs->session, n->backing_id);
    n->backing_id = 0;
}

static void choose_mode(struct opening *o, struct file_node *n)
{
    struct fs *fs = o->op->fs;
    o->keep_cache = n->pages == o->opened->pages;
    if (n->backing_id && n->artifact != o->opened->artifact)
        backing_close(fs, n);
    if (!n->backing_id && o->opened->can_pass && atomic_load(&fs->is_passthrough)) {
        int id = session_backing_open(fs->session, o->opened->fd);
        n->backing_id = id > 0 ? id : 0;
        if (id <= 0)
            log_debug("passthrough refused for this file: %s", strerror(-id));
    }
    n->mode = n->backing_id ? OPEN_PASSTHROUGH : OPEN_CACHED;
    n->artifact = o->opened->artifact;
}

static int opening_update(struct file_node *n, void *context)
{
    struct opening *o = context;
    if (n->opens == 0) {
        choose_mode(o, n);
    } else if (n->artifact != o->opened->artifact) {
        // A second open of a node whose ESTALE did not lead to another (a reopen through /proc) gets
        // what the first ones have: by passthrough that needs nothing of ours.
        if (!n->is_stale || n->mode != OPEN_PASSTHROUGH) {
            n->is_stale = 1;
            return -ESTALE;
        }
    } else {
        o->keep_cache = true;
    }
    if (!n->is_stale) {
        o->size_changed = n->size_bytes != o->opened->size_bytes;
        n->size_bytes = o->opened->size_bytes;
        n->pages = o->opened->pages;
    }
    o->mode = n->mode;
    o->backing_id = n->backing_id;
    return 0;
}

static int last_close(struct file_node *n, void *context)
{
    backing_close(context, n);
    n->mode = OPEN_NONE;
    return 0;
}

// ---- handles --------------------------------------------------------------------------------

// What the process holds of a handle in cached mode.
static struct local_handle local_make(struct op *op, const struct opened *o)
{
    struct local_handle local = {.fd = o->fd, .cached = o->cached, .space = op->space->number};
    if (o->is_member)
        local.reader = archive_reader_open(op->fs->archives, o->fd, &o->member);
    return local;
}

static void local_release(struct local_handle *local)
{
    if (local->reader)
        archive_reader_close(local->reader);
    if (local->cached)
        cached_close(local->cached);
    if (local->fd >= 0)
        close(local->fd);
}

static void handle_drop(struct op *op, uint64_t fh)
{
    struct handle was;
    struct local_handle local;
    bool is_local = fs_local_take(op->fs, fh, &local); // before its number may be another's
    state_close_handle(op->fs->state, fh, &was, last_close, op->fs);
    if (is_local)
        local_release(&local);
}

static int open_reply(struct op *op, uint64_t fh, const struct opening *o)
{
    struct fuse_file_info fi = {.fh = fh, .flags = op->flags, .noflush = 1};
    if (o->mode == OPEN_PASSTHROUGH) {
        fi.backing_id = o->backing_id;
        metric_add(METRIC_OPEN_PASSTHROUGH, 1);
    } else {
        fi.keep_cache = o->keep_cache;
        metric_add(METRIC_OPEN_CACHED, 1);
    }
    // The opener's fstat must see the store's own size: before the answer, attributes only.
    if (o->size_changed)
        fuse_lowlevel_notify_inval_inode(session_fuse(op->fs->session), op->node, -1, 0);
    if (fuse_reply_open(op->req, &fi) == -ENOENT) // interrupted: the kernel will not release it
        handle_drop(op, fh);
    return 0;
}

bool opened_reply_again(struct op *op)
{
    struct handle h;
    struct file_node n;
    uint64_t fh = op->is_resent ? state_find_handle(op->fs->state, op->unique) : 0;
    if (!fh || !state_get_handle(op->fs->state, fh, &h) ||
        !state_get_file(op->fs->state, h.node, &n))
        return false;
    struct opening o = {.mode = h.mode, .backing_id = n.backing_id, .keep_cache = true};
    open_reply(op, fh, &o);
    return true;
}

int opened_reply(struct op *op, struct opened *opened)
{
    struct opening o = {.op = op, .opened = opened};
    uint64_t fh = 0;
    int r = state_open_handle(op->fs->state, HANDLE_FILE, op->node, op->unique, opening_update, &o, &fh);
    if (r < 0) {
        opened_release(opened);
        return r;
    }
    if (o.mode == OPEN_PASSTHROUGH && opened->fd >= 0)
        close(take_fd(&opened->fd)); // the kernel holds the file
    if (o.mode != OPEN_PASSTHROUGH || opened->cached) { // a handle tells the cache that it is in use
        struct local_handle local = local_make(op, opened);
        fs_local_put(op->fs, fh, &local);
    }
    return open_reply(op, fh, &o);
}

int opened_drop(struct op *op)
{
    if (op->fh)
        handle_drop(op, op->fh);
    fuse_reply_err(op->req, 0);
    return 0;
}

// ---- reading --------------------------------------------------------------------------------

// A handle of an earlier life, open through the daemon: it must be the same artifact.
static int handle_reopen(struct op *op, opened_reopen *reopen, struct local_handle *ret_local)
{
    struct handle h;
    struct file_node n;
    struct opened o = {.fd = -1};
    if (!state_get_handle(op->fs->state, op->fh, &h) || !state_get_file(op->fs->state, h.node, &n))
        return -EBADF;
    int r = reopen(op, &n, &o);
    if (r < 0)
        return r;
    if (n.artifact != o.artifact) {
        opened_release(&o);
        return -ESTALE;
    }
    *ret_local = local_make(op, &o);
    if (fs_local_put_first(op->fs, op->fh, ret_local))
        return 0;
    local_release(ret_local); // another reader of this handle was faster
    return fs_local_get(op->fs, op->fh, ret_local) ? 0 : -EBADF;
}

static int read_failed(int error, int fd, const char *why)
{
    if (why) {
        char link[64], path[PATH_MAX];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(link, path, sizeof path);
        log_error("a member of the archive %.*s can't be read: %s (%s)", n > 0 ? (int)n : 0, path,
                  strerror(-error), why);
    }
    return error == -EIO || error == -EBADMSG ? -EREMOTEIO : error;
}

// What is nearline is asked for, and read when it is back.
static int object_view(struct op *op, struct cached *cached, struct cached_view *ret_view)
{
    size_t size = op->size_bytes < CACHED_READ_MAX ? op->size_bytes : CACHED_READ_MAX;
    int error = op->source_error;
    op->source = &op_cache;
    op->takes_errors = true;
    if (error && error != -EAGAIN)
        return error;
    int r = error ? error : cached_read(cached, op->offset, size, ret_view, &op->cache_want);
    if (r != -EAGAIN)
        return r;
    r = recall_for_reader(op, cached);
    return r == 0 ? cached_read(cached, op->offset, size, ret_view, &op->cache_want) : r;
}

// Bytes of an object: from the cache's memory to the kernel.
static int object_read(struct op *op, struct cached *cached)
{
    struct cached_view view;
    int r = object_view(op, cached, &view);
    if (r == -ESTALE)
        state_set_stale(op->fs->state, op->node);
    if (r < 0)
        return r;
    metric_add(METRIC_READ_BYTES, (int64_t)view.size_bytes);
    fuse_reply_iov(op->req, view.pieces, (int)view.count);
    cached_view_release(&view);
    return 0;
}

int opened_read(struct op *op, opened_reopen *reopen)
{
    struct local_handle local;
    if (!fs_local_get(op->fs, op->fh, &local) || (local.fd < 0 && !local.cached)) {
        int r = handle_reopen(op, reopen, &local);
        if (r < 0)
            return r;
    }
    if (local.cached && !local.reader)
        return object_read(op, local.cached);
    const char *why = NULL;
    // pread and one copy are faster than splice here.
    char *data = session_scratch(op->size_bytes);
    ssize_t n = local.reader ? archive_reader_read(local.reader, data, op->size_bytes,
                                                   (uint64_t)op->offset, op->deadline_ns, &why)
                             : pread(local.fd, data, op->size_bytes, op->offset);
    if (n < 0)
        return read_failed(local.reader ? (int)n : -errno, local.fd, why);
    metric_add(METRIC_READ_BYTES, n);
    fuse_reply_buf(op->req, data, (size_t)n);
    return 0;
}
