// SPDX-License-Identifier: BSD-3-Clause
// fs.c: libfuse's handlers. Each fills an op and starts it; what the verbs mean is the spaces'.
#include "fs/fs.h"

#include <errno.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "fs/control.h"
#include "fs/privilege.h"
#include "fs/space/space.h"

// The capabilities of the first life are kept for all: a feature that a later version would like
// needs a new mount. A configured mount may hold homes one day, whose ACLs need theirs from the start.
static uint64_t wanted(const struct fs *fs, uint64_t capable)
{
    uint64_t want = FUSE_CAP_ASYNC_READ | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_READDIRPLUS |
                    FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_EXPLICIT_INVAL_DATA | FUSE_CAP_IOCTL_DIR |
                    FUSE_CAP_NO_EXPORT_SUPPORT | FUSE_CAP_HANDLE_KILLPRIV_V2 |
                    FUSE_CAP_DIRECT_IO_ALLOW_MMAP;
    if (fs->options->is_configured)
        want |= FUSE_CAP_POSIX_ACL | FUSE_CAP_DONT_MASK;
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
        if (o->spaces[i].refresh_ns < refresh_ns)
            refresh_ns = o->spaces[i].refresh_ns;
    bool can_tell = session_kernel(fs->session)->can_epoch;
    double seconds = (double)(can_tell ? o->cache_time_ns : refresh_ns) / 1e9;
    fs->entry_timeout_s = fs->negative_timeout_s = seconds;
    fs->attr_timeout_s = seconds;
}

// ---- ops ------------------------------------------------------------------------------------

static bool op_make(struct op *op, fuse_req_t req, fuse_ino_t node)
{
    struct fs *fs = fuse_req_userdata(req);
    uint16_t number = state_space(fs->state, node);
    *op = (struct op){.fs = fs, .req = req, .node = node};
    if (number >= fs->space_count) {
        fuse_reply_err(req, ESTALE);
        return false;
    }
    op->space = fs->spaces[number];
    op->unique = session_request_unique();
    op->is_resent = session_request_is_resent();
    op->fresh = op->space->ops->fresh(op->space);
    op->deadline_ns = clock_ns() + fs->options->timeout_ns;
    return true;
}

static void op_go(struct op *op, const char *verb, op_run *run)
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

#define OP_OR_RETURN(op, req, node)                                                                \
    struct op op;                                                                                  \
    if (!op_make(&op, req, node))                                                                  \
        return

static void handle_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    OP_OR_RETURN(op, req, parent);
    op.name = text_of(name);
    op_go(&op, "lookup", op.space->ops->lookup);
}

static void handle_getattr(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    (void)fi;
    OP_OR_RETURN(op, req, node);
    op_go(&op, "getattr", op.space->ops->getattr);
}

static void handle_readlink(fuse_req_t req, fuse_ino_t node)
{
    OP_OR_RETURN(op, req, node);
    op_go(&op, "readlink", op.space->ops->readlink);
}

static void handle_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    OP_OR_RETURN(op, req, node);
    if ((fi->flags & O_ACCMODE) != O_RDONLY || fi->flags & O_TRUNC) {
        fuse_reply_err(req, EROFS);
        return;
    }
    op.flags = fi->flags;
    op_go(&op, "open", op.space->ops->open);
}

static void handle_read(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset,
                        struct fuse_file_info *fi)
{
    OP_OR_RETURN(op, req, node);
    op.fh = fi->fh;
    op.size_bytes = size;
    op.offset = offset;
    op_go(&op, "read", op.space->ops->read);
}

static void handle_release(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    OP_OR_RETURN(op, req, node);
    op.fh = fi->fh;
    op_go(&op, "release", op.space->ops->release);
}

static void handle_opendir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    (void)fi;
    OP_OR_RETURN(op, req, node);
    op_go(&op, "opendir", op.space->ops->opendir);
}

static void readdir_go(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset,
                       struct fuse_file_info *fi, bool is_plus)
{
    OP_OR_RETURN(op, req, node);
    op.fh = fi->fh;
    op.size_bytes = size;
    op.offset = offset;
    op.is_plus = is_plus;
    op_go(&op, "readdir", op.space->ops->readdir);
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
    op_go(&op, "releasedir", op.space->ops->releasedir);
}

// Other namespaces than user.: "not supported" is remembered for the whole mount by ls and its like,
// an ENODATA would be asked again for every file. But where the kernel itself asks for ACLs (POSIX_ACL
// agreed on), only ENODATA means "there is none".
static bool xattr_refused(struct fs *fs, fuse_req_t req, const char *name)
{
    if (strncmp(name, "user.", 5) == 0)
        return false;
    bool is_acl = strncmp(name, "system.posix_acl_", 17) == 0;
    bool has_acls = state_saved_want(fs->state) & FUSE_CAP_POSIX_ACL;
    fuse_reply_err(req, is_acl && has_acls ? ENODATA : EOPNOTSUPP);
    return true;
}

static void handle_getxattr(fuse_req_t req, fuse_ino_t node, const char *name, size_t size)
{
    if (xattr_refused(fuse_req_userdata(req), req, name))
        return;
    OP_OR_RETURN(op, req, node);
    op.name = text_of(name);
    op.size_bytes = size;
    op_go(&op, "getxattr", op.space->ops->getxattr);
}

static void handle_listxattr(fuse_req_t req, fuse_ino_t node, size_t size)
{
    OP_OR_RETURN(op, req, node);
    op.size_bytes = size;
    op_go(&op, "listxattr", op.space->ops->listxattr);
}

static void handle_forget(fuse_req_t req, fuse_ino_t node, uint64_t lookups)
{
    struct fs *fs = fuse_req_userdata(req);
    state_forget(fs->state, node, lookups);
    fuse_reply_none(req);
}

static void handle_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
    struct fs *fs = fuse_req_userdata(req);
    for (size_t i = 0; i < count; i++)
        state_forget(fs->state, forgets[i].ino, forgets[i].nlookup);
    fuse_reply_none(req);
}

static void handle_statfs(fuse_req_t req, fuse_ino_t node)
{
    (void)node;
    struct statvfs st = {.f_bsize = 4096, .f_frsize = 4096, .f_namemax = STATE_NAME_MAX};
    fuse_reply_statfs(req, &st);
}

// Nothing is ever written in an archive space.
static void handle_setattr(fuse_req_t req, fuse_ino_t node, struct stat *attr, int to_set,
                           struct fuse_file_info *fi)
{
    (void)node, (void)attr, (void)to_set, (void)fi;
    fuse_reply_err(req, EROFS);
}

static void handle_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t dev)
{
    (void)parent, (void)name, (void)mode, (void)dev;
    fuse_reply_err(req, EROFS);
}

static void handle_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    (void)parent, (void)name, (void)mode;
    fuse_reply_err(req, EROFS);
}

static void handle_remove(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    (void)parent, (void)name;
    fuse_reply_err(req, EROFS);
}

static void handle_symlink(fuse_req_t req, const char *link, fuse_ino_t parent, const char *name)
{
    (void)link, (void)parent, (void)name;
    fuse_reply_err(req, EROFS);
}

static void handle_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
                          const char *new_name, unsigned flags)
{
    (void)parent, (void)name, (void)new_parent, (void)new_name, (void)flags;
    fuse_reply_err(req, EROFS);
}

static void handle_link(fuse_req_t req, fuse_ino_t node, fuse_ino_t parent, const char *name)
{
    (void)node, (void)parent, (void)name;
    fuse_reply_err(req, EROFS);
}

static void handle_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                          struct fuse_file_info *fi)
{
    (void)parent, (void)name, (void)mode, (void)fi;
    fuse_reply_err(req, EROFS);
}

static void handle_setxattr(fuse_req_t req, fuse_ino_t node, const char *name, const char *value,
                            size_t size, int flags)
{
    (void)node, (void)name, (void)value, (void)size, (void)flags;
    fuse_reply_err(req, EROFS);
}

static void handle_removexattr(fuse_req_t req, fuse_ino_t node, const char *name)
{
    (void)node, (void)name;
    fuse_reply_err(req, EROFS);
}

// A user's verb. The answer to one that is longer than a page is made again for each page: status
// and its like are small, and a page more or less is seen by `total_bytes`.
static void handle_ioctl(fuse_req_t req, fuse_ino_t node, unsigned command, void *argument,
                         struct fuse_file_info *fi, unsigned flags, const void *in, size_t in_bytes,
                         size_t out_bytes)
{
    (void)node, (void)argument, (void)fi, (void)flags;
    struct fs *fs = fuse_req_userdata(req);
    if (command != (unsigned)CONTROL_IOCTL || in_bytes < sizeof(struct control_ioctl) ||
        out_bytes < sizeof(struct control_ioctl) || !fs->verbs) {
        fuse_reply_err(req, ENOTTY);
        return;
    }
    struct control_ioctl page;
    memcpy(&page, in, sizeof page);
    if (page.size_bytes > sizeof page.text) {
        fuse_reply_err(req, EINVAL);
        return;
    }
    cleanup(buffer_release) struct buffer answer = {0};
    control_answer(fs->verbs, fs->verbs_context, fuse_req_ctx(req)->uid, geteuid(),
                   (struct text){page.text, page.size_bytes}, &answer);
    struct control_ioctl out = {.total_bytes = (uint32_t)answer.size_bytes,
                                .offset_bytes = page.offset_bytes};
    if (page.offset_bytes < answer.size_bytes) {
        size_t left = answer.size_bytes - page.offset_bytes;
        out.size_bytes = (uint32_t)(left < sizeof out.text ? left : sizeof out.text);
        memcpy(out.text, answer.data + page.offset_bytes, out.size_bytes);
    }
    fuse_reply_ioctl(req, 0, &out, sizeof out);
}

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
    .setattr = handle_setattr,
    .mknod = handle_mknod,
    .mkdir = handle_mkdir,
    .unlink = handle_remove,
    .rmdir = handle_remove,
    .symlink = handle_symlink,
    .rename = handle_rename,
    .link = handle_link,
    .create = handle_create,
    .setxattr = handle_setxattr,
    .removexattr = handle_removexattr,
};
