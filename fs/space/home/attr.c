// SPDX-License-Identifier: BSD-3-Clause
// attr.c: names and attributes.
#include <errno.h>
#include <stdio.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "fs/space/home/charge.h"
#include "fs/space/home/provision.h"

int home_lookup(struct op *op)
{
    HELD_CLEANUP folder = {0};
    cleanup(cleanup_close) int fd = -1;
    struct stat st;
    uint64_t node;
    int r = home_hold(op, op->node, &folder);
    if (r == 0)
        r = home_at(folder.fd, op->name, &fd);
    if (r == -ENOENT && home_of(op)->provision && home_is_root(op, op->node))
        return provision_look(op); // nor may the kernel remember that it isn't there: for somebody else it may appear
    if (r == -ENOENT)
        return fs_reply_negative(op);
    if (r == 0 && fstat(fd, &st) < 0)
        r = -errno;
    if (r == 0)
        r = home_node(op, &fd, &st, home_below(home_where(op, op->node), op->name), &node);
    return r < 0 ? r : home_reply_entry(op, node, &st);
}

// The root of a space has the number under which the mount lists it.
static void show(const struct op *op, struct stat *st)
{
    struct named_node n;
    home_show(home_of(op), st);
    if (home_is_root(op, op->node) && state_get_named(op->fs->state, op->node, &n))
        st->st_ino = n.ino;
}

static struct timespec time_of(struct statx_timestamp t)
{
    return (struct timespec){.tv_sec = t.tv_sec, .tv_nsec = t.tv_nsec};
}

int home_getattr(struct op *op)
{
    HELD_CLEANUP held = {0};
    struct stat st;
    struct statx x = {0};
    int r = home_hold(op, op->node, &held);
    if (r < 0)
        return r;
    if (fstat(held.fd, &st) < 0)
        return -errno;
    bool has_birth = op->is_statx && statx(held.fd, "", AT_EMPTY_PATH, STATX_BTIME, &x) == 0 &&
                     x.stx_mask & STATX_BTIME;
    struct timespec birth = time_of(x.stx_btime);
    show(op, &st);
    return fs_reply_stat(op, &st, has_birth ? &birth : NULL);
}

int home_readlink(struct op *op)
{
    HELD_CLEANUP held = {0};
    char target[4096];
    int r = home_hold(op, op->node, &held);
    if (r < 0)
        return r;
    ssize_t n = readlinkat(held.fd, "", target, sizeof target - 1);
    if (n < 0)
        return -errno;
    target[n] = '\0';
    fuse_reply_readlink(op->req, target);
    return 0;
}

// A limit in place of the file system's size, where it leaves less. One that makes inodes as they are needed (btrfs) says that
// it has none of them.
static void limit(uint64_t limit, uint64_t used, fsblkcnt_t *all, fsblkcnt_t *free, fsblkcnt_t *available)
{
    uint64_t left = limit > used ? limit - used : 0;
    if (left > *available && *all)
        left = *available; // there is less on the disk than one may have
    *available = *free = left;
    *all = used + left;
}

// df in a folder shows what its owners may have.
static int show_limits(struct op *op, struct statvfs *st)
{
    HELD_CLEANUP held = {0};
    struct ledger_room room;
    struct stat folder;
    int r = home_hold(op, op->node, &held);
    if (r < 0)
        return r;
    if (fstat(held.fd, &folder) < 0)
        return -errno;
    struct ledger_owner owner = {folder.st_uid, folder.st_gid, charge_tree(op, op->node)};
    ledger_room(op->fs->ledger, &owner, &room);
    uint64_t unit = st->f_frsize;
    if (room.limit_bytes)
        limit((uint64_t)room.limit_bytes / unit, ((uint64_t)room.used_bytes + unit - 1) / unit, &st->f_blocks,
              &st->f_bfree, &st->f_bavail);
    if (room.limit_files)
        limit((uint64_t)room.limit_files, (uint64_t)room.used_files, &st->f_files, &st->f_ffree, &st->f_favail);
    return 0;
}

int home_statfs(struct op *op)
{
    struct statvfs st;
    if (fstatvfs(home_of(op)->root_fd, &st) < 0)
        return -errno;
    if (st.f_namemax > STATE_NAME_MAX)
        st.f_namemax = STATE_NAME_MAX;
    int r = op->fs->ledger && st.f_frsize ? show_limits(op, &st) : 0;
    if (r == 0)
        fuse_reply_statfs(op->req, &st);
    return r;
}

// ---- setting --------------------------------------------------------------------------------------

// A file that grows keeps what was reserved behind its end (ext4, xfs); one that doesn't gives it back.
static int truncate_locked(struct op *op, struct charged *c)
{
    struct charging charging;
    off_t size = op->change.attr->st_size;
    if (fstat(c->fd, &c->st) < 0)
        return -errno;
    bool grows = size > c->st.st_size;
    int r = grows ? charge_begin_length(op, c, size, &charging) : charge_begin_truncated(op, c, size, &charging);
    if (r == 0)
        r = home_begun(op, &charging, c, op->change.kills_privileges);
    if (r < 0)
        return r;
    r = ftruncate(c->fd, size) < 0 ? -errno : 0;
    if (r == 0 && !grows && charge_reserved(op, c))
        r = charge_set_reserved(op, c, 0);
    charge_settle(op, &charging, c);
    return r;
}

static int set_size(struct op *op)
{
    cleanup(cleanup_close) int own = -1;
    struct charged c = {.node = op->node, .tree = charge_tree(op, op->node)};
    struct stat st;
    uint64_t inode;
    int r;
    if (op->change.has_fh)
        r = home_handle_fd(op, op->fh, &c.fd, &inode);
    else
        r = home_open_node(op, op->node, O_WRONLY, &own), c.fd = own;
    if (r == 0 && !op->change.has_fh)
        r = fstat(c.fd, &st) < 0 ? -errno : 0, inode = st.st_ino;
    if (r < 0)
        return r;
    lock_scope(home_inode_lock(op, inode));
    return truncate_locked(op, &c);
}

// An O_PATH descriptor's mode is set by this name of it, which leads to that very inode.
static int set_mode(int fd, mode_t mode)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return chmod(path, mode & 07777) < 0 ? -errno : 0;
}

static int owner_locked(struct op *op, struct charged *c, uid_t uid, gid_t gid)
{
    struct charging charging = {0};
    struct ledger_charge after;
    if (fstat(c->fd, &c->st) < 0)
        return -errno;
    uid_t uid_after = uid == (uid_t)-1 ? c->st.st_uid : uid;
    gid_t gid_after = gid == (gid_t)-1 ? c->st.st_gid : gid;
    bool is_another = uid_after != c->st.st_uid || gid_after != c->st.st_gid;
    int r = 0;
    if (op->fs->ledger && is_another && !home_is_root(op, op->node)) {
        charge_of(op, c, &after);
        after.owner.uid = uid_after;
        after.owner.gid = gid_after;
        r = charge_begin(op, c, &after, 0, &charging);
    }
    if (r < 0)
        return r;
    // That takes the bits away which root's would lose.
    mode_t bits = fuse_req_ctx(op->req)->uid ? home_privileges(op, &c->st) : 0;
    r = fchownat(c->fd, "", uid, gid, AT_EMPTY_PATH) < 0 ? -errno : 0;
    if (r == 0 && bits & S_ISGID && !(c->st.st_mode & S_IXGRP))
        r = set_mode(c->fd, c->st.st_mode & ~bits);
    charge_settle(op, &charging, c);
    return r;
}

static int set_owner(struct op *op, int fd)
{
    const struct stat *to = op->change.attr;
    struct charged c = {.fd = fd, .node = op->node, .tree = charge_tree(op, op->node)};
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    lock_scope(home_inode_lock(op, st.st_ino));
    return owner_locked(op, &c, op->change.to_set & FUSE_SET_ATTR_UID ? to->st_uid : (uid_t)-1,
                        op->change.to_set & FUSE_SET_ATTR_GID ? to->st_gid : (gid_t)-1);
}

static struct timespec time_to_set(int to_set, int at, int now, struct timespec t)
{
    if (to_set & now)
        t.tv_nsec = UTIME_NOW;
    else if (!(to_set & at))
        t.tv_nsec = UTIME_OMIT;
    return t;
}

static int set_times(const struct op *op, int fd)
{
    int to_set = op->change.to_set;
    const struct stat *to = op->change.attr;
    struct timespec times[2] = {
        time_to_set(to_set, FUSE_SET_ATTR_ATIME, FUSE_SET_ATTR_ATIME_NOW, to->st_atim),
        time_to_set(to_set, FUSE_SET_ATTR_MTIME, FUSE_SET_ATTR_MTIME_NOW, to->st_mtim),
    };
    return utimensat(fd, "", times, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

// The order is notify_change's: an owner's change takes bits away that a mode given with it brings.
int home_setattr(struct op *op)
{
    HELD_CLEANUP held = {0};
    struct stat st;
    int to_set = op->change.to_set;
    int r = home_hold(op, op->node, &held);
    if (r == 0 && to_set & FUSE_SET_ATTR_SIZE)
        r = set_size(op);
    if (r == 0 && to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID))
        r = set_owner(op, held.fd);
    if (r == 0 && to_set & FUSE_SET_ATTR_MODE)
        r = set_mode(held.fd, op->change.attr->st_mode);
    if (r == 0 && to_set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_ATIME_NOW |
                            FUSE_SET_ATTR_MTIME_NOW))
        r = set_times(op, held.fd);
    if (r == 0 && fstat(held.fd, &st) < 0)
        r = -errno;
    if (r < 0)
        return r;
    show(op, &st);
    return fs_reply_stat(op, &st, NULL);
}
