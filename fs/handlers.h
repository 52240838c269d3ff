// SPDX-License-Identifier: BSD-3-Clause
// handlers: what fs.c and fs_change.c share, the files of libfuse's handlers.
#pragma once
#include "fs/fs.h"

// false: the node is nobody's, ESTALE was answered.
bool fs_op_make(struct op *op, fuse_req_t req, fuse_ino_t node);
void fs_op_go(struct op *op, const char *verb, op_run *run); // NULL: EOPNOTSUPP
#define OP_OR_RETURN(op, req, node)                                                                \
    struct op op;                                                                                  \
    if (!fs_op_make(&op, req, node))                                                               \
        return

// Whether the space has no attributes of such names; then it was answered.
bool fs_xattr_refused(const struct op *op, const char *name);

// fs_change.c: the handlers of what changes something, by libfuse's names.
void fs_setattr(fuse_req_t req, fuse_ino_t node, struct stat *attr, int to_set, struct fuse_file_info *fi);
void fs_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t device);
void fs_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void fs_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void fs_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void fs_symlink(fuse_req_t req, const char *to, fuse_ino_t parent, const char *name);
void fs_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t to_parent, const char *to_name,
               unsigned flags);
void fs_link(fuse_req_t req, fuse_ino_t node, fuse_ino_t to_parent, const char *to_name);
void fs_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi);
void fs_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode, struct fuse_file_info *fi);
void fs_write(fuse_req_t req, fuse_ino_t node, const char *data, size_t size, off_t offset,
              struct fuse_file_info *fi);
void fs_fsync(fuse_req_t req, fuse_ino_t node, int is_data_only, struct fuse_file_info *fi);
void fs_fsyncdir(fuse_req_t req, fuse_ino_t node, int is_data_only, struct fuse_file_info *fi);
void fs_fallocate(fuse_req_t req, fuse_ino_t node, int mode, off_t offset, off_t length,
                  struct fuse_file_info *fi);
void fs_lseek(fuse_req_t req, fuse_ino_t node, off_t offset, int whence, struct fuse_file_info *fi);
void fs_copy(fuse_req_t req, fuse_ino_t node, off_t offset, struct fuse_file_info *fi, fuse_ino_t to_node,
             off_t to_offset, struct fuse_file_info *to_fi, size_t size, int flags);
void fs_setxattr(fuse_req_t req, fuse_ino_t node, const char *name, const char *value, size_t size, int flags);
void fs_removexattr(fuse_req_t req, fuse_ino_t node, const char *name);

// Asked for only with locks=backing.
void fs_getlk(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, struct flock *range);
void fs_setlk(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, struct flock *range, int waits);
void fs_flock(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, int how);
void fs_flush(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);

#define FS_CHANGE_HANDLERS                                                                         \
    .setattr = fs_setattr, .mknod = fs_mknod, .mkdir = fs_mkdir, .unlink = fs_unlink,              \
    .rmdir = fs_rmdir, .symlink = fs_symlink, .rename = fs_rename, .link = fs_link,                \
    .create = fs_create, .tmpfile = fs_tmpfile, .write = fs_write, .fsync = fs_fsync,              \
    .fsyncdir = fs_fsyncdir, .fallocate = fs_fallocate, .lseek = fs_lseek,                         \
    .copy_file_range = fs_copy, .setxattr = fs_setxattr, .removexattr = fs_removexattr,          \
    .getlk = fs_getlk, .setlk = fs_setlk, .flock = fs_flock, .flush = fs_flush,
