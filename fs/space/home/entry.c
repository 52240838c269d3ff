// SPDX-License-Identifier: BSD-3-Clause
// entry.c: making, linking, moving and removing the entries of folders.
//
// Invariant: a change that was begun in an earlier life and finds itself done (EEXIST, ENOENT) is a success; done by
// somebody else, who works on the tree below, it isn't (is_own).
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "base/crash.h"
#include "base/metric.h"
#include "fs/parking.h"
#include "fs/space/home/charge.h"
#include "fs/space/home/identity.h"

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#define RENAME_EXCHANGE 2
#endif

static int error_of(int result)
{
    return result < 0 ? -errno : 0;
}

// ---- making -------------------------------------------------------------------------------------

typedef int make(const struct op *op, int folder_fd);

static int make_folder(const struct op *op, int folder_fd)
{
    return error_of(mkdirat(folder_fd, op->name.data, op->change.mode));
}

// Devices, too: the kernel lets only root make one, and with nodev nobody opens it.
static int make_special(const struct op *op, int folder_fd)
{
    return error_of(mknodat(folder_fd, op->name.data, op->change.mode, op->change.device));
}

static int make_symlink(const struct op *op, int folder_fd)
{
    return error_of(symlinkat(op->change.to_name.data, folder_fd, op->name.data));
}

static int make_as_caller(const struct op *op, int folder_fd, make *how)
{
    const struct fuse_ctx *ctx = fuse_req_ctx(op->req);
    int r = identity_take(ctx->uid, ctx->gid, op->change.umask);
    if (r < 0)
        return r;
    r = how(op, folder_fd);
    identity_leave();
    return r;
}

// The entry as it stands now.
static int entry_open(int folder_fd, struct text name, int *ret_fd, struct stat *ret_stat)
{
    int r = home_at(folder_fd, name, ret_fd);
    return r < 0 ? r : fstat(*ret_fd, ret_stat) < 0 ? -errno : 0;
}

// Whether what a change finds in its place is what an earlier life of it made: the kernel let the caller make it, and
// nobody asked whether he may open what another has put there.
static bool is_own(const struct op *op, const struct stat *st)
{
    return ((st->st_mode ^ op->change.mode) & S_IFMT) == 0 && st->st_uid == fuse_req_ctx(op->req)->uid;
}

static bool is_done(const struct op *op, int folder_fd, const struct once *once, int *ret_fd, struct stat *ret_stat)
{
    cleanup(cleanup_close) int fd = -1;
    struct stat st;
    if (!once->was_begun || entry_open(folder_fd, op->name, &fd, &st) < 0 || !is_own(op, &st))
        return false;
    *ret_fd = take_fd(&fd);
    *ret_stat = st;
    return true;
}

// What was begun by charge_begin_made is over. What was made is charged, also where it can't be opened (EMFILE).
static void settle_made(const struct op *op, struct charging *charging, struct charged *c, int folder_fd, bool is_made)
{
    if (is_made && c->fd >= 0)
        charge_settle(op, charging, c);
    else if (is_made && fstatat(folder_fd, op->name.data, &c->st, AT_SYMLINK_NOFOLLOW) == 0)
        charge_settle_known(op, charging, c);
    else
        charge_settle_none(charging);
}

// The folder's lock: while something is made in it, it stays in the tree that this is charged to (walk.c, tell_tree).
static struct lock *folder_lock(const struct op *op)
{
    struct home_node n;
    return home_inode_lock(op, state_get_home(op->fs->state, op->node, &n) ? n.ino : 0);
}

// What an earlier life began and finds done was charged when its ledger was opened.
static int make_charged(const struct op *op, int folder_fd, make *how, const struct once *once, int *ret_fd,
                        struct stat *ret_stat)
{
    lock_scope(folder_lock(op));
    struct charged c = {.fd = -1, .tree = charge_tree(op, op->node)};
    struct charging charging;
    if (is_done(op, folder_fd, once, ret_fd, ret_stat))
        return 0;
    int r = charge_begin_made(op, folder_fd, op->node, &charging);
    if (r < 0)
        return r;
    r = make_as_caller(op, folder_fd, how);
    bool is_made = r == 0;
    if (is_made)
        r = entry_open(folder_fd, op->name, ret_fd, ret_stat);
    c.fd = *ret_fd;
    settle_made(op, &charging, &c, folder_fd, is_made);
    return r;
}

static int entry_make(struct op *op, make *how)
{
    HELD_CLEANUP folder = {0};
    cleanup(cleanup_close) int fd = -1;
    struct once once;
    struct stat st;
    uint64_t node = 0;
    int r = home_is_name(op->name) ? home_hold(op, op->node, &folder) : -EINVAL;
    if (r < 0)
        return r;
    if (!once_begin(op, 0, &once))
        return once_answer(op, &once);
    r = make_charged(op, folder.fd, how, &once, &fd, &st);
    if (r == 0)
        r = home_node(op, &fd, &st, home_below(home_where(op, op->node), op->name), &node);
    once_end(&once, r, node);
    return r < 0 ? r : home_reply_entry(op, node, &st);
}

int home_mkdir(struct op *op)
{
    op->change.mode |= S_IFDIR;
    return entry_make(op, make_folder);
}

int home_mknod(struct op *op)
{
    if (!(op->change.mode & S_IFMT))
        op->change.mode |= S_IFREG;
    return entry_make(op, make_special);
}

int home_symlink(struct op *op)
{
    op->change.mode = S_IFLNK;
    return entry_make(op, make_symlink);
}

// ---- linking --------------------------------------------------------------------------------------

static int set_orphan(struct home_node *n, void *context)
{
    n->is_orphan = *(const bool *)context;
    return 0;
}

static void tell_orphan(const struct op *op, uint64_t node, bool is_orphan)
{
    state_update_home(op->fs->state, node, set_orphan, &is_orphan);
}

// A file made without a name gets one; under the inode's lock, as its cost is another's then.
static int link_charged(const struct op *op, int file_fd, int folder_fd)
{
    struct charged c = {.fd = file_fd, .node = op->node, .tree = charge_tree(op, op->node)};
    struct charging charging = {0};
    struct ledger_charge after;
    if (fstat(file_fd, &c.st) < 0)
        return -errno;
    bool was_orphan = c.st.st_nlink == 0;
    struct home_node n;
    if (was_orphan && op->fs->ledger && (!state_get_home(op->fs->state, op->node, &n) || n.opens == 0))
        return -ENOENT; // its last handle took its cost away (charge.c, 2): it has gone
    charge_of(op, &c, &after);
    after.is_orphan = false;
    int r = was_orphan ? charge_begin(op, &c, &after, 0, &charging) : 0;
    if (r < 0)
        return r;
    r = error_of(linkat(file_fd, "", folder_fd, op->change.to_name.data, AT_EMPTY_PATH));
    if (r == 0 && was_orphan) {
        parking_remove(op->fs->parking, op->node); // before it is none: its last close doesn't look there then
        tell_orphan(op, op->node, false);
    }
    charge_settle(op, &charging, &c);
    return r;
}

int home_link(struct op *op)
{
    HELD_CLEANUP file = {0}, folder = {0};
    cleanup(cleanup_close) int fd = -1;
    struct charge_move move;
    struct once once;
    struct home_node n;
    struct stat st;
    uint64_t node = 0, tree = charge_tree(op, op->change.to_node);
    if (!home_is_name(op->change.to_name))
        return -EINVAL;
    if (!state_get_home(op->fs->state, op->node, &n))
        return -ESTALE;
    if (n.tree != tree)
        return -EXDEV; // a file is in one tree with limits of its own, or in none
    int r = home_hold(op, op->node, &file);
    if (r == -ESTALE && n.is_orphan)
        return -ENOENT; // it has gone, and would if it were looked up again
    if (r == 0)
        r = home_hold(op, op->change.to_node, &folder);
    if (r < 0)
        return r;
    if (!once_begin(op, 0, &once))
        return once_answer(op, &once);
    charge_move_begin(op, &move);
    {
        lock_scope(home_inode_lock(op, n.ino));
        r = link_charged(op, file.fd, folder.fd);
    }
    if (r == 0)
        charge_move_entry(op, &move, op->change.to_node, folder.fd, op->change.to_name);
    charge_move_end(&move);
    bool exists = r == -EEXIST;
    if (exists && once.was_begun)
        r = 0;
    if (r == 0)
        r = entry_open(folder.fd, op->change.to_name, &fd, &st);
    if (r == 0 && exists && st.st_ino != n.ino)
        r = -EEXIST;
    if (r == 0)
        r = home_node(op, &fd, &st, home_below(home_where(op, op->change.to_node), op->change.to_name), &node);
    once_end(&once, r, node);
    return r < 0 ? r : home_reply_entry(op, node, &st);
}

// ---- removing -------------------------------------------------------------------------------------

// An inode that loses a name. Its lock is held from losing_begin to losing_end.
struct losing {
    struct charged c;
    struct charging charging;
    struct lock *lock;   // NULL: nothing loses one
    bool loses_last;
};

static int losing_begin_locked(const struct op *op, struct losing *l)
{
    struct ledger_charge after;
    if (fstat(l->c.fd, &l->c.st) < 0)
        return -errno;
    l->loses_last = S_ISDIR(l->c.st.st_mode) || l->c.st.st_nlink == 1;
    if (!l->loses_last)
        return 0;
    charge_of(op, &l->c, &after);
    after.is_orphan = true;
    int r = charge_begin(op, &l->c, &after, 0, &l->charging);
    if (r == 0 && l->c.node) {
        tell_orphan(op, l->c.node, true); // before it is one: who closes it looks
        home_park(op, l->c.node, l->c.fd);
    }
    return r;
}

// -ENOENT: there is no such entry.
static int losing_begin(const struct op *op, uint64_t folder, int folder_fd, struct text name,
                        struct losing *ret_losing)
{
    struct losing l = {.c.fd = -1};
    struct home_handle handle;
    *ret_losing = l;
    int r = entry_open(folder_fd, name, &l.c.fd, &l.c.st);
    if (r == 0)
        r = home_handle_of(l.c.fd, &handle);
    if (r == 0) {
        l.c.node = state_home_find(op->fs->state, op->space->number, &handle);
        l.c.tree = charge_tree_of(home_of(op), &handle, &l.c.st, charge_tree(op, folder));
        l.lock = home_inode_lock(op, l.c.st.st_ino);
        lock_acquire(l.lock);
        r = losing_begin_locked(op, &l);
        if (r < 0)
            lock_release(l.lock);
    }
    if (r < 0) {
        if (l.c.fd >= 0)
            close(l.c.fd);
        return r;
    }
    *ret_losing = l;
    return 0;
}

static void losing_end(const struct op *op, struct losing *l, int result)
{
    struct home_node n;
    if (!l->lock)
        return;
    bool is_open = l->c.node && state_get_home(op->fs->state, l->c.node, &n) && n.opens > 0;
    if (result < 0 || (l->loses_last && is_open))
        charge_settle(op, &l->charging, &l->c);
    else
        charge_settle_none(&l->charging);
    if (result < 0 && l->loses_last && l->c.node) {
        tell_orphan(op, l->c.node, false);
        parking_remove(op->fs->parking, l->c.node);
    } else if (l->loses_last && !is_open && S_ISREG(l->c.st.st_mode))
        home_forget(op->space, l->c.node);
    lock_release(l->lock);
    close(l->c.fd);
}

static int entry_remove(struct op *op, int flags)
{
    HELD_CLEANUP folder = {0};
    struct losing losing;
    struct once once;
    int r = home_is_name(op->name) ? home_hold(op, op->node, &folder) : -EINVAL;
    if (r < 0)
        return r;
    if (!once_begin(op, 0, &once))
        return once_answer(op, &once);
    r = losing_begin(op, op->node, folder.fd, op->name, &losing);
    if (r == 0) {
        r = error_of(unlinkat(folder.fd, op->name.data, flags));
        losing_end(op, &losing, r);
    }
    if (r == -ENOENT && once.was_begun)
        r = 0;
    return once_end_plain(&once, r);
}

int home_unlink(struct op *op)
{
    return entry_remove(op, 0);
}

int home_rmdir(struct op *op)
{
    return entry_remove(op, AT_REMOVEDIR);
}

// ---- moving ---------------------------------------------------------------------------------------

static int move_entry(struct op *op, int from_fd, int to_fd, const struct once *once)
{
    struct stat st;
    struct losing losing = {0};
    struct charge_move move;
    bool exchanges = op->flags & RENAME_EXCHANGE;
    struct text to_name = op->change.to_name;
    if (once->was_begun && exchanges && fstatat(from_fd, op->name.data, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        st.st_ino != once->detail)
        return 0; // they have changed places already
    int r = exchanges ? 0 : losing_begin(op, op->change.to_node, to_fd, to_name, &losing);
    if (r == -ENOENT)
        r = 0;
    if (r < 0)
        return r;
    // Two names of one inode stay as they are.
    bool is_same = losing.lock && fstatat(from_fd, op->name.data, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
                   st.st_ino == losing.c.st.st_ino;
    charge_move_begin(op, &move);
    r = error_of(renameat2(from_fd, op->name.data, to_fd, to_name.data, (unsigned)op->flags));
    losing_end(op, &losing, is_same ? -EEXIST : r);
    if (r == 0)
        charge_move_entry(op, &move, op->change.to_node, to_fd, to_name);
    if (r == 0 && exchanges)
        charge_move_entry(op, &move, op->node, from_fd, op->name);
    charge_move_end(&move);
    return r == -ENOENT && once->was_begun ? 0 : r;
}

int home_rename(struct op *op)
{
    HELD_CLEANUP from = {0}, to = {0};
    struct once once;
    struct stat st = {0};
    if (op->flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE) || !home_is_name(op->name) ||
        !home_is_name(op->change.to_name))
        return -EINVAL;
    if (charge_tree(op, op->node) != charge_tree(op, op->change.to_node))
        return -EXDEV; // into or out of a folder with limits of its own: mv(1) copies then
    int r = home_hold(op, op->node, &from);
    if (r == 0)
        r = home_hold(op, op->change.to_node, &to);
    if (r == 0 && op->flags & RENAME_EXCHANGE && fstatat(from.fd, op->name.data, &st, AT_SYMLINK_NOFOLLOW) < 0)
        r = -errno;
    if (r < 0)
        return r;
    if (!once_begin(op, st.st_ino, &once))
        return once_answer(op, &once);
    r = move_entry(op, from.fd, to.fd, &once);
    return once_end_plain(&once, r);
}

// ---- files that are made open ---------------------------------------------------------------------

// As the caller. Returns a descriptor or -errno.
static int open_as_caller(const struct op *op, int folder_fd, const char *name, int flags)
{
    const struct fuse_ctx *ctx = fuse_req_ctx(op->req);
    int r = identity_take(ctx->uid, ctx->gid, op->change.umask);
    if (r < 0)
        return r;
    int fd = openat(folder_fd, name, flags | (op->flags & HOME_FLAGS_KEPT) | O_CLOEXEC, op->change.mode & ~(mode_t)S_IFMT);
    r = fd < 0 ? -errno : fd;
    identity_leave();
    return r;
}

static int create_again(struct op *op, const struct once *once)
{
    HELD_CLEANUP held = {0};
    cleanup(cleanup_close) int fd = -1;
    struct stat st;
    if (once->done.result < 0)
        return once->done.result;
    int r = home_hold(op, once->done.node, &held);
    if (r == 0 && fstat(held.fd, &st) < 0)
        r = -errno;
    if (r < 0)
        return r;
    if (home_opened_again(op, &st, once->done.node))
        return 0;
    r = home_open_node(op, once->done.node, op->flags & HOME_FLAGS_KEPT, &fd);
    return r < 0 ? r : home_opened(op, once->done.node, &fd, &st, NULL);
}

#define CREATE_FLAGS (O_NOFOLLOW | O_NONBLOCK | O_NOCTTY)

static int create_charged(const struct op *op, int folder_fd, const struct once *once, int *ret_fd, struct stat *ret_stat)
{
    lock_scope(folder_lock(op));
    struct charged c = {.fd = -1, .tree = charge_tree(op, op->node)};
    struct charging charging;
    cleanup(cleanup_close) int there = -1;
    if (is_done(op, folder_fd, once, &there, ret_stat)) { // and charged
        struct home_handle handle;
        int r = home_handle_of(there, &handle);
        if (r == 0)
            r = *ret_fd = home_handle_open(home_of(op), &handle, CREATE_FLAGS | (op->flags & HOME_FLAGS_KEPT));
        return r < 0 ? r : 0;
    }
    int r = charge_begin_made(op, folder_fd, op->node, &charging);
    if (r < 0)
        return r;
    r = c.fd = *ret_fd = open_as_caller(op, folder_fd, op->name.data, CREATE_FLAGS | O_CREAT | O_EXCL);
    crash_point("home-create-made");
    settle_made(op, &charging, &c, folder_fd, r >= 0);
    crash_point("home-create-charged");
    if (r >= 0)
        r = fstat(*ret_fd, ret_stat) < 0 ? -errno : 0;
    // The kernel thought there was none, and checked nobody's rights to it: it shall look again.
    return r == -EEXIST && !(op->flags & O_EXCL) ? -ESTALE : r;
}

int home_create(struct op *op)
{
    HELD_CLEANUP folder = {0};
    cleanup(cleanup_close) int fd = -1;
    struct once once;
    struct stat st;
    uint64_t node = 0;
    op->change.mode = S_IFREG | (op->change.mode & ~(mode_t)S_IFMT);
    int r = home_is_name(op->name) ? home_hold(op, op->node, &folder) : -EINVAL;
    if (r < 0)
        return r;
    if (!once_begin(op, 0, &once))
        return create_again(op, &once);
    r = create_charged(op, folder.fd, &once, &fd, &st);
    if (r == 0)
        r = home_identify(op, fd, &st, home_below(home_where(op, op->node), op->name), &node);
    if (r == 0 && !once.was_begun)
        charge_nothing_reserved(op, node);
    once_end(&once, r, node);
    crash_point("home-create-known");
    return r < 0 ? r : home_opened(op, node, &fd, &st, NULL);
}

// ---- files without a name -------------------------------------------------------------------------

// false: it isn't there any more, or never was.
static bool tmpfile_again(struct op *op)
{
    HELD_CLEANUP held = {0};
    struct handle h;
    struct stat st;
    uint64_t fh = op->is_resent ? state_find_handle(op->fs->state, op->unique) : 0;
    if (!fh || !state_get_handle(op->fs->state, fh, &h))
        return false;
    if (home_hold(op, h.node, &held) == 0 && fstat(held.fd, &st) == 0)
        return home_opened_again(op, &st, h.node);
    home_handle_close(op, h.node, fh);
    return false;
}

// Nobody but this request knows of it until it has a handle: a death before takes it away, and one that comes again makes
// another. So it is charged as what is there (charge.h), and for good when it has its handle.
int home_tmpfile(struct op *op)
{
    HELD_CLEANUP folder = {0};
    cleanup(cleanup_close) int fd = -1;
    struct charging charging;
    struct charged c = {0};
    if (tmpfile_again(op))
        return 0;
    int r = home_hold(op, op->node, &folder);
    if (r == 0)
        r = fd = open_as_caller(op, folder.fd, ".", O_TMPFILE | (op->flags & O_EXCL));
    crash_point("home-tmpfile-made");
    if (r >= 0)
        r = fstat(fd, &c.st) < 0 ? -errno : 0;
    if (r == 0)
        r = home_identify(op, fd, &c.st, home_below(home_where(op, op->node), op->name), &c.node);
    if (r < 0)
        return r;
    charge_nothing_reserved(op, c.node);
    tell_orphan(op, c.node, true);
    c.fd = fd;
    c.tree = charge_tree(op, c.node);
    r = charge_begin_unnamed(op, &c, &charging);
    crash_point("home-tmpfile-charging");
    if (r == 0)
        r = home_opened(op, c.node, &fd, &c.st, &charging);
    if (r < 0)
        state_forget(op->fs->state, c.node, 1);
    return r;
}
