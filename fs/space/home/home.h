// SPDX-License-Identifier: BSD-3-Clause
// home: a tree of the file system below as a space, to be read and written (private to fs/space/home). Homes
// and group spaces are the same here. The kernel decides who may do what (default_permissions); what it lets
// through is done with all rights, and what is made is made with its maker's ids (identity.h).
//
// An inode is reached by its file handle (state_home.h) or by one name below a folder's descriptor, never by a
// path: what a user renames or replaces meanwhile leads nowhere else.
#pragma once
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "fs/space/space.h"
#include "fs/state_home.h"

#define HOME_DESCRIPTORS 4096 // of nodes asked for last, kept open (O_PATH)
#define HOME_STRIPES 256
// What of open(2)'s flags the daemon's own descriptor needs. Not O_APPEND: the kernel says where, under its
// own lock, and pwrite(2) would not heed it.
#define HOME_FLAGS_KEPT (O_ACCMODE | O_SYNC | O_DSYNC)

struct home_descriptor {
    uint64_t node; // 0: none
    int fd;
    uint32_t users;
    bool is_doomed; // closed with its last user
};

struct home {
    struct space space;
    int root_fd;       // O_PATH of the tree's root; open for the process's life
    int mount_fd;      // the same folder, readable: what open_by_handle_at takes
    struct locking *locking;     // lock.h; NULL: the kernel keeps locks
    struct provision *provision; // provision.h; NULL: nothing appears by itself
    bool keeps_room;   // room.c
    _Atomic int64_t granted_bytes; // the same
    uint64_t root_tree; // the number that the root has, or would have, as a tree with a limit (charge.c)
    uint64_t ino_seed; // so that inode numbers of several spaces of a mount differ
    struct lock descriptor_locks[HOME_STRIPES]; // LOCK_RANK_LEAF, by slot
    struct home_descriptor descriptors[HOME_DESCRIPTORS];
    struct lock inode_locks[HOME_STRIPES];      // LOCK_RANK_INODE, by inode number
};

static inline struct home *home_of(const struct op *op)
{
    return (struct home *)op->space;
}

// ---- node.c: nodes and descriptors ------------------------------------------------------------

// A node's O_PATH descriptor. Released by scope: HELD_CLEANUP.
struct held {
    struct home *home;
    struct home_descriptor *slot; // NULL: fd is the root's, or its own
    int fd;
};
#define HELD_CLEANUP __attribute__((__cleanup__(home_release))) struct held
int home_hold(const struct op *op, uint64_t node, struct held *ret_held); // -ESTALE: it isn't there any more
void home_release(struct held *held);
void home_forget(struct space *s, uint64_t node);

// One name below a folder, as an O_PATH descriptor. Never follows a link, never leaves the file system.
int home_at(int folder_fd, struct text name, int *ret_fd);
bool home_is_name(struct text name);
// Opens the node's file for use. `flags`: access mode and O_SYNC, O_DSYNC, O_DIRECTORY.
int home_open_node(const struct op *op, uint64_t node, int flags, int *ret_fd);
int home_handle_of(int fd, struct home_handle *ret_handle);
int home_handle_open(const struct home *home, const struct home_handle *from, int flags); // a descriptor or -errno
// The node of an open inode, a look-up counted. Takes *fd (an O_PATH descriptor), also where it fails. `where`: it was
// found, by home_below.
int home_node(const struct op *op, int *fd, const struct stat *st, struct home_where where, uint64_t *ret_node);
// The same of a descriptor that stays the caller's.
int home_identify(const struct op *op, int fd, const struct stat *st, struct home_where where, uint64_t *ret_node);
struct home_where home_where(const struct op *op, uint64_t folder); // the folder itself
struct home_where home_below(struct home_where folder, struct text name); // what has that name in it
bool home_is_root(const struct op *op, uint64_t node);
// The kernel's view of a stat.
void home_show(const struct home *h, struct stat *st);
struct fuse_entry_param home_entry(const struct op *op, uint64_t node, const struct stat *st);
int home_reply_entry(struct op *op, uint64_t node, const struct stat *st);
struct lock *home_inode_lock(const struct op *op, uint64_t inode);

// ---- room.c: the disk's room for users ----------------------------------------------------------

void home_room_start(struct home *h); // once, with the tree open
// Whether the caller may fill those bytes of a file, which is as `st` says. -ENOSPC; -errno of the file system.
int home_room(const struct op *op, int fd, const struct stat *st, int64_t from, int64_t size);

// ---- folders, as getdents64(2) tells them -------------------------------------------------------

#define RAW_BYTES (32u << 10) // asked for at once
// The kernel's struct linux_dirent64; glibc's dirent64 is the same but for the name's length.
struct raw_entry {
    uint64_t ino;
    int64_t next;
    uint16_t size_bytes;
    uint8_t type;
    char name[];
};

// ---- once.c: a change that is asked for again -------------------------------------------------

struct once {
    struct op *op;
    bool was_begun;     // an earlier life began it; it may be done
    uint64_t detail;    // of that time
    struct change done;
};
// false: an earlier life did it, with the result in ret_once->done. Else it is to be done now, and once_end called.
bool once_begin(struct op *op, uint64_t detail, struct once *ret_once);
void once_end(struct once *o, int result, uint64_t node);
// The same of a change that makes nothing, answered where it was done. `result`, for the caller to answer with else.
int once_end_plain(struct once *o, int result);
// Answers what was done before: its error, success, or the entry it made.
int once_answer(struct op *op, const struct once *o);

// ---- file.c: open files -----------------------------------------------------------------------

// Makes a handle of the node's file and answers the op, an OPEN or (with `st`) a CREATE. Takes *fd, also where
// it fails; -1: none is needed if the kernel has the file open already, else -EAGAIN. `charging`: of a file that was made
// for this handle, over before the answer; NULL: none is in work.
struct charging;
int home_opened(struct op *op, uint64_t node, int *fd, const struct stat *st, struct charging *charging);
void home_handle_close(struct op *op, uint64_t node, uint64_t fh); // and what only it kept
// An open file is about to lose its last name, or never had one: where nobody else holds it, it is parked. Under the
// inode's lock.
void home_park(const struct op *op, uint64_t node, int fd);
bool home_opened_again(struct op *op, const struct stat *st, uint64_t node); // by the handle that its first run made
// What a handle has open, opened again after a take-over. It stays the handle's.
int home_handle_fd(struct op *op, uint64_t fh, int *ret_fd, uint64_t *ret_inode);
// Those of a file's set-user-id and set-group-id bits that go when others than root write to it or give it away: the latter
// also where nobody may run it, if the caller isn't of that group (Linux 6.2).
mode_t home_privileges(const struct op *op, const struct stat *st);
// What changes a file's bytes was charged and may be carried out: then they go, and not before it has room. An error: it is
// over, and all is as before.
struct charged;
int home_begun(const struct op *op, struct charging *charging, const struct charged *c, bool kills_privileges);

// ---- verbs --------------------------------------------------------------------------------------

int home_lookup(struct op *op);
int home_getattr(struct op *op);
int home_setattr(struct op *op);
int home_readlink(struct op *op);
int home_statfs(struct op *op);
int home_mkdir(struct op *op);
int home_mknod(struct op *op);
int home_symlink(struct op *op);
int home_link(struct op *op);
int home_unlink(struct op *op);
int home_rmdir(struct op *op);
int home_rename(struct op *op);
int home_create(struct op *op);
int home_tmpfile(struct op *op);
int home_open(struct op *op);
int home_read(struct op *op);
int home_write(struct op *op);
int home_fsync(struct op *op);
int home_fallocate(struct op *op);
int home_copy(struct op *op);
int home_seek(struct op *op);
int home_close(struct op *op);
int home_opendir(struct op *op);
int home_readdir(struct op *op);
int home_fsyncdir(struct op *op);
int home_closedir(struct op *op);
int home_getxattr(struct op *op);
int home_listxattr(struct op *op);
int home_setxattr(struct op *op);
int home_removexattr(struct op *op);
