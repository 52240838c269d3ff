// SPDX-License-Identifier: BSD-3-Clause
// file.c: opening and reading artifacts. A local artifact is opened as the caller at every open (rights
// count at open), then handed to the kernel by passthrough where that is possible; else the daemon
// keeps the descriptor and reads for the kernel.
//
// Invariants
//  1. A node is open in one mode at a time, and by passthrough with one backing id .
//  2. An artifact that was replaced while its node is open makes the node stale: the open is answered
//     ESTALE once, the kernel looks the name up again and gets a new node for the new artifact; who has
//     the old one open keeps it.
//  3. The backing id is closed with the node's last handle, under the node's lock.
#include <errno.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/metric.h"
#include "fs/space/butler/butler.h"
#include "meta/artifact.h"

static int64_t mtime_of(const struct stat *st)
{
    return st->st_mtim.tv_sec * NS_PER_S + st->st_mtim.tv_nsec;
}

// ---- finding the artifact -------------------------------------------------------------------

// Who asks. `is_granted`: he had this very file open before (the caller checks that it is), so that only
// the daemon's own rights count.
struct asking {
    struct caller caller;
    bool is_granted;
};

static int local_open(const struct butler *b, const char *path, const struct asking *asking,
                      int *ret_fd, struct stat *ret_stat, const char **ret_why)
{
    bool is_root = asking->caller.uid == 0 && b->access.can_change_ids && !b->access.as_owner;
    if (!is_root || asking->is_granted || b->writer_is_trusted)
        return object_open_local(path, &b->access, &asking->caller, ret_fd, ret_stat, ret_why);
    struct object_access beneath = b->access;
    beneath.as_owner = true;
    int r = object_open_local(path, &beneath, &asking->caller, ret_fd, ret_stat, ret_why);
    if (r != -EACCES)
        return r;
    return object_open_local(path, &b->access, &b->writer, ret_fd, ret_stat, ret_why);
}

// One file of a dataset. 0 with *ret_fd; -errno: why this replica can't be had.
static int replica_open(struct op *op, const struct dataset_file *file, const struct asking *asking,
                        int *ret_fd, struct stat *ret_stat)
{
    struct butler *b = butler_of(op);
    const struct datastore_config *store =
        &repository_config(b->repository)->datastores[file->datastore];
    struct artifact artifact = {0};
    const char *why = "its path leaves the datastore's root";
    int r = artifact_resolve(store, file->path, &artifact);
    if (r == -EXDEV) {
        r = -EACCES;
    } else if (r == 0 && artifact.scheme != ARTIFACT_FILE) {
        r = -EOPNOTSUPP;
        why = "it is not a local file";
    } else if (r == 0 && artifact.member.size_bytes) {
        r = -EOPNOTSUPP;
        why = "members of archives can't be read yet";
    } else if (r == 0) {
        r = local_open(b, artifact.path.data, asking, ret_fd, ret_stat, &why);
    } else {
        why = "its path is malformed";
    }
    if (r < 0) // the caller's rights are his affair, everything else the administrator's
        log_write(r == -EACCES ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN, "artifact %.*s of %s: %s (%s)",
                  (int)file->path.size_bytes, file->path.data, store->root, strerror(-r), why);
    artifact_release(&artifact);
    return r;
}

static bool file_is(const struct dataset_file *f, uint64_t component)
{
    uint64_t own = f->component.size_bytes ? hash64(f->component.data, f->component.size_bytes) : 0;
    return own == component;
}

// The first replica that opens, in datastore order; if none does: EACCES if one was refused to this
// caller, EOPNOTSUPP if one is of a kind that isn't served yet, else EREMOTEIO.
static int dataset_open(struct op *op, const struct dataset *d, uint64_t component,
                        const struct asking *asking, int *ret_fd, struct stat *ret_stat)
{
    int worst = -EREMOTEIO;
    for (uint32_t i = 0; i < d->file_count; i++) {
        if (!file_is(&d->files[i], component))
            continue;
        int r = replica_open(op, &d->files[i], asking, ret_fd, ret_stat);
        if (r == 0)
            return 0;
        if (r == -EMFILE || r == -ENFILE)
            return r;
        if (r == -EACCES || (r == -EOPNOTSUPP && worst == -EREMOTEIO))
            worst = r;
    }
    if (worst == -EREMOTEIO)
        log_error("%.*s: no replica of this dataset could be opened", (int)d->type.size_bytes,
                  d->type.data);
    return worst;
}

static int artifact_open(struct op *op, const struct file_node *n, const struct asking *asking,
                         int *ret_fd, struct stat *ret_stat)
{
    struct butler *b = butler_of(op);
    struct uuid uuid;
    struct dataset *d;
    memcpy(uuid.bytes, n->uuid, sizeof uuid.bytes);
    op->repository = b->repository;
    int r = repository_dataset(b->repository, op->fresh, &uuid, &d, &op->want);
    if (r < 0)
        return r == -ENOENT ? -ESTALE : r;
    r = dataset_open(op, d, n->component, asking, ret_fd, ret_stat);
    dataset_free(d);
    return r;
}

// ---- modes ----------------------------------------------------------------------------------

struct opening {
    struct op *op;
    int fd;
    struct stat st;
    bool keep_cache;   // out
    bool size_changed; // out
    int32_t backing_id; // out
    enum open_mode mode; // out
};

static bool is_same_artifact(const struct file_node *n, const struct stat *st)
{
    return n->backing_dev == st->st_dev && n->backing_ino == st->st_ino;
}

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
    bool is_same = is_same_artifact(n, &o->st);
    o->keep_cache = is_same && n->backing_mtime_ns == mtime_of(&o->st) &&
                    n->size_bytes == o->st.st_size;
    if (n->backing_id && !is_same)
        backing_close(fs, n);
    if (!n->backing_id && atomic_load(&fs->is_passthrough)) {
        int id = session_backing_open(fs->session, o->fd);
        n->backing_id = id > 0 ? id : 0;
        if (id <= 0)
            log_debug("passthrough refused for this file: %s", strerror(-id));
    }
    n->mode = n->backing_id ? OPEN_PASSTHROUGH : OPEN_CACHED;
    n->backing_dev = o->st.st_dev;
    n->backing_ino = o->st.st_ino;
}

static int opening_update(struct file_node *n, void *context)
{
    struct opening *o = context;
    if (n->opens == 0) {
        choose_mode(o, n);
    } else if (!is_same_artifact(n, &o->st)) {
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
        o->size_changed = n->size_bytes != o->st.st_size;
        n->size_bytes = o->st.st_size;
        n->backing_mtime_ns = mtime_of(&o->st);
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

// ---- verbs ----------------------------------------------------------------------------------

static void handle_drop(struct op *op, uint64_t fh)
{
    struct handle was;
    struct local_handle local;
    state_close_handle(op->fs->state, fh, &was, last_close, op->fs);
    if (fs_local_take(op->fs, fh, &local) && local.fd >= 0)
        close(local.fd);
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

// The request came again after a death: what its first run made is still there.
static bool open_again(struct op *op)
{
    struct handle h;
    struct file_node n;
    uint64_t fh = state_find_handle(op->fs->state, op->unique);
    if (!fh || !state_get_handle(op->fs->state, fh, &h) ||
        !state_get_file(op->fs->state, h.node, &n))
        return false;
    struct opening o = {.mode = h.mode, .backing_id = n.backing_id, .keep_cache = true};
    open_reply(op, fh, &o);
    return true;
}

static int readme_open(struct op *op)
{
    struct fuse_file_info fi = {.keep_cache = 1, .noflush = 1};
    fuse_reply_open(op->req, &fi);
    return 0;
}

int butler_open_file(struct op *op)
{
    struct file_node n;
    const struct fuse_ctx *ctx = fuse_req_ctx(op->req);
    struct asking asking = {.caller = {ctx->uid, ctx->gid, ctx->pid}};
    if (state_kind(op->fs->state, op->node) == NODE_README)
        return readme_open(op);
    if (!state_get_file(op->fs->state, op->node, &n))
        return -ESTALE;
    if (op->is_resent && open_again(op))
        return 0;
    struct opening o = {.op = op, .fd = -1};
    int r = artifact_open(op, &n, &asking, &o.fd, &o.st);
    if (r == -EINPROGRESS)
        return r;
    uint64_t fh = 0;
    if (r == 0)
        r = state_open_handle(op->fs->state, HANDLE_FILE, op->node, op->unique, opening_update, &o, &fh);
    if (r < 0) {
        metric_add(r == -ESTALE ? METRIC_OPEN_STALE : METRIC_OPEN_FAILED, 1);
        if (o.fd >= 0)
            close(o.fd);
        return r;
    }
    if (o.mode == OPEN_PASSTHROUGH) {
        close(o.fd); // the kernel holds the file
    } else {
        struct local_handle local = {.fd = o.fd, .space = op->space->number};
        fs_local_put(op->fs, fh, &local);
    }
    return open_reply(op, fh, &o);
}

int butler_release(struct op *op)
{
    if (op->fh)
        handle_drop(op, op->fh);
    fuse_reply_err(op->req, 0);
    return 0;
}

// A handle of an earlier life, open through the daemon: its artifact is opened again with the daemon's
// own rights (the caller's counted at open) and must be the same file.
static int handle_reopen(struct op *op, int *ret_fd)
{
    struct handle h;
    struct file_node n;
    struct stat st;
    struct asking self = {.caller = {geteuid(), getegid(), gettid()}, .is_granted = true};
    if (!state_get_handle(op->fs->state, op->fh, &h) || !state_get_file(op->fs->state, h.node, &n))
        return -EBADF;
    int r = artifact_open(op, &n, &self, ret_fd, &st);
    if (r < 0)
        return r;
    if (!is_same_artifact(&n, &st)) {
        close(*ret_fd);
        return -ESTALE;
    }
    struct local_handle local = {.fd = *ret_fd, .space = op->space->number}, other;
    if (fs_local_take(op->fs, op->fh, &other) && other.fd >= 0) {
        close(*ret_fd); // another reader of this handle was faster
        local = other;
    }
    *ret_fd = local.fd;
    fs_local_put(op->fs, op->fh, &local);
    return 0;
}

static int readme_read(struct op *op)
{
    cleanup(buffer_release) struct buffer text = {0};
    repository_readme(butler_of(op)->repository, &text);
    size_t from = (size_t)op->offset < text.size_bytes ? (size_t)op->offset : text.size_bytes;
    size_t left = text.size_bytes - from;
    fuse_reply_buf(op->req, text.data + from, left < op->size_bytes ? left : op->size_bytes);
    return 0;
}

int butler_read(struct op *op)
{
    struct local_handle local;
    if (op->fh == 0)
        return readme_read(op);
    if (!fs_local_get(op->fs, op->fh, &local) || local.fd < 0) {
        int r = handle_reopen(op, &local.fd);
        if (r < 0)
            return r;
    }
    // pread and one copy are faster than splice here.
    char *data = session_scratch(op->size_bytes);
    ssize_t n = pread(local.fd, data, op->size_bytes, op->offset);
    if (n < 0)
        return errno == EIO ? -EREMOTEIO : -errno;
    metric_add(METRIC_READ_BYTES, n);
    fuse_reply_buf(op->req, data, (size_t)n);
    return 0;
}
