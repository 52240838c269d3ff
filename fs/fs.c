// SPDX-License-Identifier: BSD-3-Clause
// fs.c: libfuse's handlers. Each fills an op and starts it; what the verbs mean is the spaces'.
#include "fs/fs.h"

#include <errno.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "fs/control.h"
#include "fs/handlers.h"
#include "fs/privilege.h"
#include "fs/space/space.h"

// Reads that the kernel has under way at once, all files of the mount together; by itself it would have 12, and a few
// readers of a server that doesn't answer would hold up all others. Who waits is parked, and has a place in the state.
#define BACKGROUND_MAX 768

// The capabilities of the first life are kept for all: a feature that a later version would like
// needs a new mount. A configured mount may hold homes one day, whose ACLs need theirs from the start.
// Not ATOMIC_O_TRUNC: a truncation is a setattr of its own, which is charged. Without locks=backing the kernel keeps
// locks itself, over a take-over too.
static uint64_t wanted(const struct fs *fs, uint64_t capable)
{
    uint64_t want = FUSE_CAP_ASYNC_READ | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_READDIRPLUS |
                    FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_EXPLICIT_INVAL_DATA | FUSE_CAP_IOCTL_DIR |
                    FUSE_CAP_NO_EXPORT_SUPPORT | FUSE_CAP_HANDLE_KILLPRIV_V2 |
                    FUSE_CAP_DIRECT_IO_ALLOW_MMAP;
    if (fs->options->is_configured || options_can_write(fs->options))
        want |= FUSE_CAP_POSIX_ACL | FUSE_CAP_DONT_MASK;
    if (fs->options->locks_below)
        want |= FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS;
    if (fs->can_passthrough)
        want |= FUSE_CAP_PASSTHROUGH;
    return want & capable;
}

static void handle_init(void *userdata, struct fuse_conn_info *conn)
{
    struct fs *fs = userdata;
    uint64_t want = state_saved_want(fs->state);
    if (!want) {
        want = wanted(fs, conn->capable_ext);
        state_save_want(fs->state, want);
    }
    conn->want_ext = want;
    conn->max_backing_stack_depth = fs->options->stack_over ? 0 : 1;
    conn->max_background = BACKGROUND_MAX;
    if (want & FUSE_CAP_PASSTHROUGH) {
        atomic_store(&fs->is_passthrough, true);
    } else if (!fs->passthrough_why) {
        fs->passthrough_why = "the kernel does not offer it (Linux 6.9 or later does)";
    }
}

void fs_settle(struct fs *fs)
{
    const struct options *o = fs->options;
    int64_t refresh_ns = o->cache_time_ns;
    for (uint32_t i = 0; i < o->space_count; i++)
        if (o->spaces[i].kind == SPACE_BUTLER && o->spaces[i].refresh_ns < refresh_ns)
            refresh_ns = o->spaces[i].refresh_ns;
    bool can_tell = session_kernel(fs->session)->can_epoch;
    fs->timeout_s = (double)(can_tell ? o->cache_time_ns : refresh_ns) / 1e9;
    for (uint16_t i = 0; i < fs->space_count; i++) {
        struct space *s = fs->spaces[i];
        s->timeout_s = fs->timeout_s;
        if (s->ops->timeout_s && s->ops->timeout_s(s) < s->timeout_s)
            s->timeout_s = s->ops->timeout_s(s);
    }
}

// ---- ops ------------------------------------------------------------------------------------

bool fs_op_make(struct op *op, fuse_req_t req, fuse_ino_t node)
{
    struct fs *fs = fuse_req_userdata(req);
    uint16_t number = state_space(fs->state, node);
    *op = (struct op){.fs = fs, .req = req, .node = node};
    if (number >= fs->space_count) {
        fuse_reply_err(req, ESTALE);
        return false;
    }
    op->space = fs->spaces[number];
    if (op->space->ops->enter)
        op->space->ops->enter();
    op->unique = session_request_unique();
    op->is_resent = session_request_is_resent();
    op->fresh = op->space->ops->fresh(op->space);
    op->arrived_ns = clock_ns();
    op->deadline_ns = op->arrived_ns + fs->options->timeout_ns;
    return true;
}

void fs_op_go(struct op *op, const char *verb, op_run *run)
{
    log_debug("%s of node %llu %.*s by uid %u", verb, (unsigned long long)op->node,
              (int)op->name.size_bytes, op->name.data ? op->name.data : "",
              fuse_req_ctx(op->req)->uid);
    if (!run) {
        fuse_reply_err(op->req, EOPNOTSUPP);
        return;
    }
    op->run = run;
    op_start(op->fs->park, op);
}

static void handle_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    OP_OR_RETURN(op, req, parent);
    op.name = text_of(name);
    fs_op_go(&op, "lookup", op.space->ops->lookup);
}

static void handle_getattr(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    OP_OR_RETURN(op, req, node);
    op.change.has_fh = fi;
    op.fh = fi ? fi->fh : 0;
    fs_op_go(&op, "getattr", op.space->ops->getattr);
}

static void handle_readlink(fuse_req_t req, fuse_ino_t node)
{
    OP_OR_RETURN(op, req, node);
    fs_op_go(&op, "readlink", op.space->ops->readlink);
}

static void handle_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    OP_OR_RETURN(op, req, node);
    op.change.kills_privileges = fi->kill_suidgid;
    if (!op.space->ops->write && ((fi->flags & O_ACCMODE) != O_RDONLY || fi->flags & O_TRUNC)) {
        fuse_reply_err(req, EROFS);
        return;
    }
    op.flags = fi->flags;
    fs_op_go(&op, "open", op.space->ops->open);
}

static void handle_read(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset,
                        struct fuse_file_info *fi)
{
    OP_OR_RETURN(op, req, node);
    op.fh = fi->fh;
    op.flags = fi->flags;
    op.size_bytes = size;
    op.offset = offset;
    op.fills_pages = !fi->lock_owner; // read(2) has one
    fs_op_go(&op, "read", op.space->ops->read);
}

static void handle_release(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    OP_OR_RETURN(op, req, node);
    op.fh = fi->fh;
    fs_op_go(&op, "release", op.space->ops->release);
}

static void handle_opendir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    (void)fi;
    OP_OR_RETURN(op, req, node);
    fs_op_go(&op, "opendir", op.space->ops->opendir);
}

static void readdir_go(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset,
                       struct fuse_file_info *fi, bool is_plus)
{
    OP_OR_RETURN(op, req, node);
    op.fh = fi->fh;
    op.size_bytes = size;
    op.offset = offset;
    op.is_plus = is_plus;
    fs_op_go(&op, "readdir", op.space->ops->readdir);
}

static void handle_readdir(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset,
                           struct fuse_file_info *fi)
{
    readdir_go(req, node, size, offset, fi, false);
}

static void handle_readdirplus(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset,
                               struct fuse_file_info *fi)
{
    readdir_go(req, node, size, offset, fi, true);
}

static void handle_releasedir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    OP_OR_RETURN(op, req, node);
    op.fh = fi->fh;
    fs_op_go(&op, "releasedir", op.space->ops->releasedir);
}

// Other namespaces than user.: "not supported" is remembered for the whole mount by ls and its like,
// an ENODATA would be asked again for every file. But where the kernel itself asks for ACLs (POSIX_ACL
// agreed on), only ENODATA means "there is none".
bool fs_xattr_refused(const struct op *op, const char *name)
{
    if (strncmp(name, "user.", 5) == 0)
        return false;
    bool is_acl = strncmp(name, "system.posix_acl_", 17) == 0;
    bool has_acls = state_saved_want(op->fs->state) & FUSE_CAP_POSIX_ACL;
    if (is_acl && has_acls && op->space->ops->has_acls)
        return false;
    fuse_reply_err(op->req, is_acl && has_acls ? ENODATA : EOPNOTSUPP);
    return true;
}

static void handle_getxattr(fuse_req_t req, fuse_ino_t node, const char *name, size_t size)
{
    OP_OR_RETURN(op, req, node);
    if (fs_xattr_refused(&op, name))
        return;
    op.name = text_of(name);
    op.size_bytes = size;
    fs_op_go(&op, "getxattr", op.space->ops->getxattr);
}

static void handle_listxattr(fuse_req_t req, fuse_ino_t node, size_t size)
{
    OP_OR_RETURN(op, req, node);
    op.size_bytes = size;
    fs_op_go(&op, "listxattr", op.space->ops->listxattr);
}

static void forget(struct fs *fs, fuse_ino_t node, uint64_t lookups)
{
    uint16_t number = state_space(fs->state, node);
    if (number < fs->space_count && fs->spaces[number]->ops->forget)
        fs->spaces[number]->ops->forget(fs->spaces[number], node);
    state_forget(fs->state, node, lookups);
}

static void handle_forget(fuse_req_t req, fuse_ino_t node, uint64_t lookups)
{
    forget(fuse_req_userdata(req), node, lookups);
    fuse_reply_none(req);
}

static void handle_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
    struct fs *fs = fuse_req_userdata(req);
    for (size_t i = 0; i < count; i++)
        forget(fs, forgets[i].ino, forgets[i].nlookup);
    fuse_reply_none(req);
}

static int statfs_reply(struct op *op)
{
    struct statvfs st = {.f_bsize = 4096, .f_frsize = 4096, .f_namemax = STATE_NAME_MAX};
    fuse_reply_statfs(op->req, &st);
    return 0;
}

static void handle_statfs(fuse_req_t req, fuse_ino_t node)
{
    OP_OR_RETURN(op, req, node);
    fs_op_go(&op, "statfs", op.space->ops->statfs ? op.space->ops->statfs : statfs_reply);
}

// A user's verb; op->name is the request. An answer that is longer than a page is made again for each
// page: most are small, and one that differs in between is seen by `total_bytes`.
static int ioctl_run(struct op *op)
{
    cleanup(buffer_release) struct buffer answer = {0};
    struct control_caller caller = {fuse_req_ctx(op->req)->uid, geteuid(), op};
    int r = control_answer(op->fs->verbs, op->fs->verbs_context, &caller, op->name, &answer);
    if (r < 0)
        return r;
    struct control_ioctl out = {.total_bytes = (uint32_t)answer.size_bytes,
                                .offset_bytes = (uint32_t)op->offset};
    if (out.offset_bytes < answer.size_bytes) {
        size_t left = answer.size_bytes - out.offset_bytes;
        out.size_bytes = (uint32_t)(left < sizeof out.text ? left : sizeof out.text);
        memcpy(out.text, answer.data + out.offset_bytes, out.size_bytes);
    }
    fuse_reply_ioctl(op->req, 0, &out, sizeof out);
    return 0;
}

static void handle_ioctl(fuse_req_t req, fuse_ino_t node, unsigned command, void *argument,
                         struct fuse_file_info *fi, unsigned flags, const void *in, size_t in_bytes,
                         size_t out_bytes)
{
    (void)argument, (void)flags;
    struct fs *fs = fuse_req_userdata(req);
    if (command != (unsigned)CONTROL_IOCTL || in_bytes < sizeof(struct control_ioctl) ||
        out_bytes < sizeof(struct control_ioctl) || !fs->verbs) {
        fuse_reply_err(req, ENOTTY);
        return;
    }
    uint32_t size_bytes, offset_bytes; // `in` need not be aligned
    memcpy(&size_bytes, (const char *)in + offsetof(struct control_ioctl, size_bytes), sizeof size_bytes);
    memcpy(&offset_bytes, (const char *)in + offsetof(struct control_ioctl, offset_bytes), sizeof offset_bytes);
    if (size_bytes > CONTROL_IOCTL_BYTES) {
        fuse_reply_err(req, EINVAL);
        return;
    }
    OP_OR_RETURN(op, req, node);
    op.name = (struct text){(const char *)in + offsetof(struct control_ioctl, text), size_bytes};
    op.offset = offset_bytes;
    op.fh = fi->fh;
    fs_op_go(&op, "ioctl", ioctl_run);
}

#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 18)
// Asked for times of birth; ENOSYS would be remembered by the kernel for the whole mount.
static void handle_statx(fuse_req_t req, fuse_ino_t node, int flags, int mask, struct fuse_file_info *fi)
{
    (void)flags, (void)mask, (void)fi;
    OP_OR_RETURN(op, req, node);
    op.is_statx = true;
    fs_op_go(&op, "statx", op.space->ops->getattr);
}
#endif

const struct fuse_lowlevel_ops fs_ops = {
    .init = handle_init,
    .lookup = handle_lookup,
    .forget = handle_forget,
    .forget_multi = handle_forget_multi,
    .getattr = handle_getattr,
    .readlink = handle_readlink,
    .open = handle_open,
    .read = handle_read,
    .release = handle_release,
    .opendir = handle_opendir,
    .readdir = handle_readdir,
    .readdirplus = handle_readdirplus,
    .releasedir = handle_releasedir,
    .statfs = handle_statfs,
    .getxattr = handle_getxattr,
    .listxattr = handle_listxattr,
    .ioctl = handle_ioctl,
    FS_CHANGE_HANDLERS
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 18)
    .statx = handle_statx,
#endif
};
