// SPDX-License-Identifier: BSD-3-Clause
// fs_change.c: libfuse's handlers of what changes something. Archive spaces have no such verbs: EROFS.
#include <errno.h>
#include <sys/file.h>

#include "fs/handlers.h"
#include "fs/space/space.h"

static void change_go(struct op *op, const char *verb, op_run *run)
{
    if (run)
        fs_op_go(op, verb, run);
    else
        fuse_reply_err(op->req, EROFS);
}

void fs_setattr(fuse_req_t req, fuse_ino_t node, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
    OP_OR_RETURN(op, req, node);
    op.change.attr = attr;
    op.change.to_set = to_set;
    op.change.has_fh = fi;
    op.fh = fi ? fi->fh : 0;
    op.change.kills_privileges = to_set & FUSE_SET_ATTR_KILL_SUID; // the kernel's FATTR_KILL_SUIDGID
    change_go(&op, "setattr", op.space->ops->setattr);
}

// A new entry of the folder op->node.
static void name_it(struct op *op, const char *name, mode_t mode)
{
    op->name = text_of(name);
    op->change.mode = mode;
    op->change.umask = fuse_req_ctx(op->req)->umask;
}

void fs_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t device)
{
    OP_OR_RETURN(op, req, parent);
    name_it(&op, name, mode);
    op.change.device = device;
    change_go(&op, "mknod", op.space->ops->mknod);
}

void fs_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    OP_OR_RETURN(op, req, parent);
    name_it(&op, name, mode);
    change_go(&op, "mkdir", op.space->ops->mkdir);
}

void fs_symlink(fuse_req_t req, const char *to, fuse_ino_t parent, const char *name)
{
    OP_OR_RETURN(op, req, parent);
    name_it(&op, name, 0777);
    op.change.to_name = text_of(to);
    change_go(&op, "symlink", op.space->ops->symlink);
}

void fs_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    OP_OR_RETURN(op, req, parent);
    op.name = text_of(name);
    change_go(&op, "unlink", op.space->ops->unlink);
}

void fs_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    OP_OR_RETURN(op, req, parent);
    op.name = text_of(name);
    change_go(&op, "rmdir", op.space->ops->rmdir);
}

// To another space is as to another file system.
static bool is_in_space(const struct op *op, fuse_ino_t to_node)
{
    if (state_space(op->fs->state, to_node) == op->space->number)
        return true;
    fuse_reply_err(op->req, EXDEV);
    return false;
}

void fs_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t to_parent, const char *to_name,
               unsigned flags)
{
    OP_OR_RETURN(op, req, parent);
    op.name = text_of(name);
    op.flags = (int)flags;
    op.change.to_node = to_parent;
    op.change.to_name = text_of(to_name);
    if (!op.space->ops->rename || is_in_space(&op, to_parent))
        change_go(&op, "rename", op.space->ops->rename);
}

void fs_link(fuse_req_t req, fuse_ino_t node, fuse_ino_t to_parent, const char *to_name)
{
    OP_OR_RETURN(op, req, node);
    op.change.to_node = to_parent;
    op.change.to_name = text_of(to_name);
    if (!op.space->ops->link || is_in_space(&op, to_parent))
        change_go(&op, "link", op.space->ops->link);
}

void fs_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
    OP_OR_RETURN(op, req, parent);
    name_it(&op, name, mode);
    op.flags = fi->flags;
    change_go(&op, "create", op.space->ops->create);
}

void fs_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode, struct fuse_file_info *fi)
{
    OP_OR_RETURN(op, req, parent);
    name_it(&op, "", mode);
    op.flags = fi->flags;
    change_go(&op, "tmpfile", op.space->ops->tmpfile);
}

void fs_write(fuse_req_t req, fuse_ino_t node, const char *data, size_t size, off_t offset,
              struct fuse_file_info *fi)
{
    OP_OR_RETURN(op, req, node);
    op.fh = fi->fh;
    op.change.data = data;
    op.change.kills_privileges = fi->kill_suidgid;
    op.size_bytes = size;
    op.offset = offset;
    change_go(&op, "write", op.space->ops->write);
}

static void sync_go(fuse_req_t req, fuse_ino_t node, int is_data_only, const struct fuse_file_info *fi,
                    bool is_folder)
{
    OP_OR_RETURN(op, req, node);
    op.fh = fi->fh;
    op.change.is_data_only = is_data_only;
    op_run *run = is_folder ? op.space->ops->fsyncdir : op.space->ops->fsync;
    if (run)
        fs_op_go(&op, "fsync", run);
    else
        fuse_reply_err(req, 0); // there is nothing that isn't written
}

void fs_fsync(fuse_req_t req, fuse_ino_t node, int is_data_only, struct fuse_file_info *fi)
{
    sync_go(req, node, is_data_only, fi, false);
}

void fs_fsyncdir(fuse_req_t req, fuse_ino_t node, int is_data_only, struct fuse_file_info *fi)
{
    sync_go(req, node, is_data_only, fi, true);
}

void fs_fallocate(fuse_req_t req, fuse_ino_t node, int mode, off_t offset, off_t length,
                  struct fuse_file_info *fi)
{
    OP_OR_RETURN(op, req, node);
    op.fh = fi->fh;
    op.flags = mode;
    op.offset = offset;
    op.size_bytes = (size_t)length;
    change_go(&op, "fallocate", op.space->ops->fallocate);
}

// An answer of ENOSYS would be remembered for the whole mount: who has no verb has no holes.
static int seek_without_holes(struct op *op)
{
    struct file_node n;
    if (!state_get_file(op->fs->state, op->node, &n) || op->offset >= n.size_bytes)
        return -ENXIO;
    fuse_reply_lseek(op->req, op->flags == SEEK_DATA ? op->offset : n.size_bytes);
    return 0;
}

void fs_lseek(fuse_req_t req, fuse_ino_t node, off_t offset, int whence, struct fuse_file_info *fi)
{
    OP_OR_RETURN(op, req, node);
    op.fh = fi->fh;
    op.flags = whence;
    op.offset = offset;
    fs_op_go(&op, "seek", op.space->ops->seek ? op.space->ops->seek : seek_without_holes);
}

void fs_copy(fuse_req_t req, fuse_ino_t node, off_t offset, struct fuse_file_info *fi, fuse_ino_t to_node,
             off_t to_offset, struct fuse_file_info *to_fi, size_t size, int flags)
{
    OP_OR_RETURN(op, req, node);
    op.fh = fi->fh;
    op.offset = offset;
    op.size_bytes = size;
    op.flags = flags;
    op.change.to_node = to_node;
    op.change.to_fh = to_fi->fh;
    op.change.to_offset = to_offset;
    // EXDEV makes the kernel copy by itself.
    if (!op.space->ops->copy)
        fuse_reply_err(req, EXDEV);
    else if (is_in_space(&op, to_node))
        fs_op_go(&op, "copy", op.space->ops->copy);
}

void fs_setxattr(fuse_req_t req, fuse_ino_t node, const char *name, const char *value, size_t size, int flags)
{
    OP_OR_RETURN(op, req, node);
    if (op.space->ops->setxattr && fs_xattr_refused(&op, name))
        return;
    op.name = text_of(name);
    op.change.data = value;
    op.size_bytes = size;
    op.flags = flags;
    change_go(&op, "setxattr", op.space->ops->setxattr);
}

void fs_removexattr(fuse_req_t req, fuse_ino_t node, const char *name)
{
    OP_OR_RETURN(op, req, node);
    if (op.space->ops->removexattr && fs_xattr_refused(&op, name))
        return;
    op.name = text_of(name);
    change_go(&op, "removexattr", op.space->ops->removexattr);
}

// ---- locks ------------------------------------------------------------------------------------

static void lock_go(fuse_req_t req, fuse_ino_t node, const struct fuse_file_info *fi, const struct op_lock *lock)
{
    OP_OR_RETURN(op, req, node);
    op.fh = fi->fh;
    op.lock = *lock;
    op.lock.owner = fi->lock_owner;
    if (lock->waits)
        op.deadline_ns = INT64_MAX; // another may have it for as long as he likes
    fs_op_go(&op, "lock", op.space->ops->lock);
}

void fs_getlk(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, struct flock *range)
{
    lock_go(req, node, fi, &(struct op_lock){.range = *range, .is_test = true});
}

void fs_setlk(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, struct flock *range, int waits)
{
    lock_go(req, node, fi, &(struct op_lock){.range = *range, .waits = waits});
}

void fs_flock(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, int how)
{
    int what = how & ~LOCK_NB;
    struct flock range = {.l_type = what == LOCK_UN ? F_UNLCK : what == LOCK_EX ? F_WRLCK : F_RDLCK};
    lock_go(req, node, fi, &(struct op_lock){.range = range, .is_flock = true, .waits = !(how & LOCK_NB)});
}

// Sent at each close() of files that weren't opened without (FOPEN_NOFLUSH). Where no space has a use for it the kernel is told
// to ask for none again.
void fs_flush(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    OP_OR_RETURN(op, req, node);
    op.fh = fi->fh;
    op.lock.owner = fi->lock_owner;
    const struct options *o = op.fs->options;
    bool is_object = op.space->options && op.space->options->kind == SPACE_S3;
    if (op.space->ops->flush && (is_object || o->locks_below))
        fs_op_go(&op, "flush", op.space->ops->flush);
    else
        fuse_reply_err(req, options_writes_objects(o) ? 0 : ENOSYS);
}
