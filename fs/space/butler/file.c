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
#include "base/log.h"
#include "base/metric.h"
#include "fs/space/butler/butler.h"
#include "meta/artifact.h"

static int64_t mtime_of(const struct stat *st)
{
    return st->st_mtim.tv_sec * NS_PER_S + st->st_mtim.tv_nsec;
}

// ---- finding the artifact -------------------------------------------------------------------

// An artifact that was opened, or the archive that it is a member of; then st_size is the member's.
struct opened {
    int fd;
    struct stat st;
    bool is_member;
    struct archive_member member;
};

// Who asks. `is_granted`: he had this very file open before (the caller checks that it is), so that only
// the daemon's own rights count.
struct asking {
    struct caller caller;
    bool is_granted;
};

static int local_open(const struct butler *b, const char *path, const struct asking *asking,
                      struct opened *o, const char **ret_why)
{
    bool is_root = asking->caller.uid == 0 && b->access.can_change_ids && !b->access.as_owner;
    if (!is_root || asking->is_granted || b->writer_is_trusted)
        return object_open_local(path, &b->access, &asking->caller, &o->fd, &o->st, ret_why);
    struct object_access beneath = b->access;
    beneath.as_owner = true;
    int r = object_open_local(path, &beneath, &asking->caller, &o->fd, &o->st, ret_why);
    if (r != -EACCES)
        return r;
    return object_open_local(path, &b->access, &b->writer, &o->fd, &o->st, ret_why);
}

// What is wrong with an archive or a member is for the log; the reader learns that it can't be had.
static int member_find(struct op *op, struct text name, struct opened *o, const char **ret_why)
{
    cleanup(cleanup_archive_unref) struct archive *archive = NULL;
    int r = archives_get(op->fs->archives, o->fd, op->deadline_ns, &archive, ret_why);
    if (r == 0)
        r = archive_find(archive, o->fd, name, &o->member, ret_why);
    if (r == -ENOENT)
        *ret_why = "the archive has no such member";
    if (r < 0) {
        close(o->fd);
        return r == -ETIMEDOUT || r == -ESTALE ? r : -EREMOTEIO;
    }
    o->is_member = true;
    o->st.st_size = (off_t)o->member.size_bytes;
    return 0;
}

static int artifact_try(struct op *op, const struct artifact *artifact, const struct asking *asking,
                        struct opened *o, const char **ret_why)
{
    if (artifact->scheme != ARTIFACT_FILE) {
        *ret_why = "it is not a local file";
        return -EOPNOTSUPP;
    }
    int r = local_open(butler_of(op), artifact->path.data, asking, o, ret_why);
    if (r == 0 && artifact->member.size_bytes)
        r = member_find(op, buffer_text(&artifact->member), o, ret_why);
    return r;
}

// One file of a dataset. 0 with *ret_opened; -errno: why this replica can't be had.
static int replica_open(struct op *op, const struct dataset_file *file, const struct asking *asking,
                        struct opened *ret_opened)
{
    struct butler *b = butler_of(op);
    const struct datastore_config *store =
        &repository_config(b->repository)->datastores[file->datastore];
    struct opened o = {.fd = -1};
    struct artifact artifact = {0};
    const char *why = "its path is malformed";
    int r = artifact_resolve(store, file->path, &artifact);
    if (r == -EXDEV) {
        r = -EACCES;
        why = "its path leaves the datastore's root";
    } else if (r == 0) {
        r = artifact_try(op, &artifact, asking, &o, &why);
    }
    if (r == 0)
        *ret_opened = o;
    else // the caller's rights are his affair, everything else the administrator's
        log_write(r == -EACCES ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN, "artifact %.*s of %s: %s (%s)",
                  (int)file->path.size_bytes, file->path.data, store->root, strerror(-r), why);
    artifact_release(&artifact);
    return r;
}

// The first replica that opens, in datastore order; if none does: EACCES if one was refused to this
// caller, EOPNOTSUPP if one is of a kind that isn't served yet, else EREMOTEIO.
static int dataset_open(struct op *op, const struct dataset *d, uint64_t component,
                        const struct asking *asking, struct opened *ret_opened)
{
    int worst = -EREMOTEIO;
    for (uint32_t i = 0; i < d->file_count; i++) {
        if (butler_component(d->files[i].component) != component)
            continue;
        int r = replica_open(op, &d->files[i], asking, ret_opened);
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
                         struct opened *ret_opened)
{
    struct dataset *d;
    int r = butler_dataset(op, n, &d);
    if (r < 0)
        return r;
    r = dataset_open(op, d, n->component, asking, ret_opened);
    dataset_free(d);
    return r;
}

// ---- modes ----------------------------------------------------------------------------------

struct opening {
    struct op *op;
    struct opened *opened;
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
    const struct stat *st = &o->opened->st;
    bool is_same = is_same_artifact(n, st);
    o->keep_cache = is_same && n->backing_mtime_ns == mtime_of(st) &&
                    n->size_bytes == st->st_size;
    if (n->backing_id && !is_same)
        backing_close(fs, n);
    if (!n->backing_id && !o->opened->is_member && atomic_load(&fs->is_passthrough)) {
        int id = session_backing_open(fs->session, o->opened->fd);
        n->backing_id = id > 0 ? id : 0;
        if (id <= 0)
            log_debug("passthrough refused for this file: %s", strerror(-id));
    }
    n->mode = n->backing_id ? OPEN_PASSTHROUGH : OPEN_CACHED;
    n->backing_dev = st->st_dev;
    n->backing_ino = st->st_ino;
}

static int opening_update(struct file_node *n, void *context)
{
    struct opening *o = context;
    const struct stat *st = &o->opened->st;
    if (n->opens == 0) {
        choose_mode(o, n);
    } else if (!is_same_artifact(n, st)) {
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
        o->size_changed = n->size_bytes != st->st_size;
        n->size_bytes = st->st_size;
        n->backing_mtime_ns = mtime_of(st);
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

// What the process holds of a handle in cached mode.
static struct local_handle local_make(struct op *op, const struct opened *o)
{
    struct local_handle local = {.fd = o->fd, .space = op->space->number};
    if (o->is_member)
        local.reader = archive_reader_open(op->fs->archives, o->fd, &o->member);
    return local;
}

static void local_release(struct local_handle *local)
{
    if (local->reader)
        archive_reader_close(local->reader);
    if (local->fd >= 0)
        close(local->fd);
}

static void handle_drop(struct op *op, uint64_t fh)
{
    struct handle was;
    struct local_handle local;
    state_close_handle(op->fs->state, fh, &was, last_close, op->fs);
    if (fs_local_take(op->fs, fh, &local))
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
    struct opened opened = {.fd = -1};
    struct opening o = {.op = op, .opened = &opened};
    int r = artifact_open(op, &n, &asking, &opened);
    if (r == -EINPROGRESS)
        return r;
    uint64_t fh = 0;
    if (r == 0)
        r = state_open_handle(op->fs->state, HANDLE_FILE, op->node, op->unique, opening_update, &o, &fh);
    if (r < 0) {
        metric_add(r == -ESTALE ? METRIC_OPEN_STALE : METRIC_OPEN_FAILED, 1);
        if (opened.fd >= 0)
            close(opened.fd);
        return r;
    }
    if (o.mode == OPEN_PASSTHROUGH) {
        close(opened.fd); // the kernel holds the file
    } else {
        struct local_handle local = local_make(op, &opened);
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
static int handle_reopen(struct op *op, struct local_handle *ret_local)
{
    struct handle h;
    struct file_node n;
    struct opened o = {.fd = -1};
    struct asking self = {.caller = {geteuid(), getegid(), gettid()}, .is_granted = true};
    if (!state_get_handle(op->fs->state, op->fh, &h) || !state_get_file(op->fs->state, h.node, &n))
        return -EBADF;
    int r = artifact_open(op, &n, &self, &o);
    if (r < 0)
        return r;
    if (!is_same_artifact(&n, &o.st)) {
        close(o.fd);
        return -ESTALE;
    }
    *ret_local = local_make(op, &o);
    if (fs_local_put_first(op->fs, op->fh, ret_local))
        return 0;
    local_release(ret_local); // another reader of this handle was faster
    return fs_local_get(op->fs, op->fh, ret_local) ? 0 : -EBADF;
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

static int read_failed(int error, const char *why)
{
    if (why)
        log_error("a member of an archive can't be read: %s (%s)", strerror(-error), why);
    return error == -EIO || error == -EBADMSG ? -EREMOTEIO : error;
}

int butler_read(struct op *op)
{
    struct local_handle local;
    if (op->fh == 0)
        return readme_read(op);
    if (!fs_local_get(op->fs, op->fh, &local) || local.fd < 0) {
        int r = handle_reopen(op, &local);
        if (r < 0)
            return r;
    }
    const char *why = NULL;
    // pread and one copy are faster than splice here.
    char *data = session_scratch(op->size_bytes);
    ssize_t n = local.reader ? archive_reader_read(local.reader, data, op->size_bytes,
                                                   (uint64_t)op->offset, op->deadline_ns, &why)
                             : pread(local.fd, data, op->size_bytes, op->offset);
    if (n < 0)
        return read_failed(local.reader ? (int)n : -errno, why);
    metric_add(METRIC_READ_BYTES, n);
    fuse_reply_buf(op->req, data, (size_t)n);
    return 0;
}
