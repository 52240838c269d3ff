// SPDX-License-Identifier: BSD-3-Clause
// node.c: from nodes to descriptors and back.
//
// Invariants
//  1. A slot of the descriptor cache is closed by its last user, or when it is given to another node and has
//     none. A forgotten node's goes, and that of a file that lost its last name: it would keep blocks that nobody is
//     charged for any more (charge.c, 2), for as long as somebody holds the file by O_PATH.
//  2. A descriptor of a symlink or a device is O_PATH only: nothing is followed, nothing is opened by accident.
#include <errno.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/syscall.h>

#include "base/log.h"
#include "fs/space/home/charge.h"

bool home_is_name(struct text name)
{
    return name.size_bytes > 0 && name.size_bytes <= STATE_NAME_MAX && !text_equal(name, TEXT(".")) &&
           !text_equal(name, TEXT("..")) && !memchr(name.data, '/', name.size_bytes);
}

int home_at(int folder_fd, struct text name, int *ret_fd)
{
    struct open_how how = {
        .flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
    };
    if (name.size_bytes > STATE_NAME_MAX)
        return -ENAMETOOLONG;
    if (!home_is_name(name))
        return -EINVAL;
    long fd = syscall(SYS_openat2, folder_fd, name.data, &how, sizeof how);
    if (fd < 0)
        return -errno;
    *ret_fd = (int)fd;
    return 0;
}

// The kernel's form of a handle, with room for any.
union handle_room {
    struct file_handle handle;
    char room[sizeof(struct file_handle) + HOME_HANDLE_MAX];
};

int home_handle_of(int fd, struct home_handle *ret_handle)
{
    union handle_room room;
    struct file_handle *h = &room.handle;
    int mount_id;
    h->handle_bytes = HOME_HANDLE_MAX;
    if (name_to_handle_at(fd, "", h, &mount_id, AT_EMPTY_PATH) < 0)
        return -errno;
    ret_handle->type = h->handle_type;
    ret_handle->size_bytes = h->handle_bytes;
    memcpy(ret_handle->data, h->f_handle, h->handle_bytes);
    return 0;
}

int home_handle_open(const struct home *home, const struct home_handle *from, int flags)
{
    union handle_room room;
    struct file_handle *h = &room.handle;
    h->handle_bytes = from->size_bytes;
    h->handle_type = from->type;
    memcpy(h->f_handle, from->data, from->size_bytes);
    int fd = open_by_handle_at(home->mount_fd, h, flags | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

// ---- the cache of descriptors -----------------------------------------------------------------

static struct home_descriptor *slot_of(struct home *h, uint64_t node, struct lock **ret_lock)
{
    uint32_t index = (uint32_t)(node & 0xffffffff) % HOME_DESCRIPTORS;
    *ret_lock = &h->descriptor_locks[index % HOME_STRIPES];
    return &h->descriptors[index];
}

// Under its lock, without users.
static void slot_empty(struct home_descriptor *d)
{
    if (d->node)
        close(d->fd);
    *d = (struct home_descriptor){0};
}

static bool slot_take(struct home *h, uint64_t node, struct held *ret_held)
{
    struct lock *l;
    struct home_descriptor *d = slot_of(h, node, &l);
    lock_scope(l);
    if (d->node != node || d->is_doomed)
        return false;
    d->users++;
    *ret_held = (struct held){.home = h, .slot = d, .fd = d->fd};
    return true;
}

// Gives the descriptor to the cache where there is room, else it stays the caller's own.
static void slot_put(struct home *h, uint64_t node, int fd, struct held *ret_held)
{
    struct lock *l;
    struct home_descriptor *d = slot_of(h, node, &l);
    *ret_held = (struct held){.home = h, .fd = fd};
    lock_scope(l);
    if (d->users)
        return;
    slot_empty(d);
    *d = (struct home_descriptor){.node = node, .fd = fd, .users = 1};
    ret_held->slot = d;
}

void home_release(struct held *held)
{
    if (!held->home || held->fd == held->home->root_fd)
        return;
    if (!held->slot) {
        close(held->fd);
        return;
    }
    struct lock *l = &held->home->descriptor_locks[(held->slot - held->home->descriptors) % HOME_STRIPES];
    lock_scope(l);
    if (--held->slot->users == 0 && held->slot->is_doomed)
        slot_empty(held->slot);
}

void home_forget(struct space *s, uint64_t node)
{
    struct lock *l;
    struct home_descriptor *d = slot_of((struct home *)s, node, &l);
    lock_scope(l);
    if (d->node != node)
        return;
    if (d->users)
        d->is_doomed = true;
    else
        slot_empty(d);
}

// ---- nodes ------------------------------------------------------------------------------------

bool home_is_root(const struct op *op, uint64_t node)
{
    return node == STATE_ROOT || state_kind(op->fs->state, node) == NODE_FOLDER;
}

int home_hold(const struct op *op, uint64_t node, struct held *ret_held)
{
    struct home *h = home_of(op);
    struct home_node n;
    if (slot_take(h, node, ret_held))
        return 0;
    if (home_is_root(op, node)) {
        *ret_held = (struct held){.home = h, .fd = h->root_fd};
        return 0;
    }
    if (!state_get_home(op->fs->state, node, &n))
        return -ESTALE;
    int fd = home_handle_open(h, &n.handle, O_PATH | O_NOFOLLOW);
    if (fd < 0)
        return fd;
    slot_put(h, node, fd, ret_held);
    if (state_get_home(op->fs->state, node, &n) && n.is_orphan && n.type == S_IFREG)
        home_forget(op->space, node); // once this is over; looked at after the slot was filled (entry.c, losing_end)
    return 0;
}

int home_open_node(const struct op *op, uint64_t node, int flags, int *ret_fd)
{
    struct home *h = home_of(op);
    struct home_node n;
    int fd;
    if (home_is_root(op, node)) {
        fd = openat(h->root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        fd = fd < 0 ? -errno : fd;
    } else if (!state_get_home(op->fs->state, node, &n)) {
        fd = -ESTALE;
    } else if (n.type != (flags & O_DIRECTORY ? S_IFDIR : S_IFREG)) {
        fd = flags & O_DIRECTORY ? -ENOTDIR : -EINVAL;
    } else {
        fd = home_handle_open(h, &n.handle, flags | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    }
    if (fd < 0)
        return fd;
    *ret_fd = fd;
    return 0;
}

struct home_where home_where(const struct op *op, uint64_t folder)
{
    struct home_node n;
    if (home_is_root(op, folder) || !state_get_home(op->fs->state, folder, &n))
        return (struct home_where){charge_root_tree(home_of(op)), HOME_PLACE_ROOT};
    return (struct home_where){n.tree, (enum home_place)n.place};
}

struct home_where home_below(struct home_where folder, struct text name)
{
    bool is_dotted = folder.place == HOME_PLACE_HOME && name.size_bytes && name.data[0] == '.';
    enum home_place place = folder.place == HOME_PLACE_ROOT ? HOME_PLACE_HOME
                            : is_dotted || folder.place == HOME_PLACE_DOT ? HOME_PLACE_DOT : HOME_PLACE_OTHER;
    return (struct home_where){folder.tree, place};
}

int home_identify(const struct op *op, int fd, const struct stat *st, struct home_where where, uint64_t *ret_node)
{
    struct home_handle handle;
    int r = home_handle_of(fd, &handle);
    if (r < 0)
        return r;
    where.tree = charge_tree_of(home_of(op), &handle, st, where.tree);
    uint64_t node = state_home(op->fs->state, op->space->number, &handle, st->st_ino, st->st_mode & S_IFMT, where);
    if (!node)
        return -ENFILE;
    *ret_node = node;
    return 0;
}

int home_node(const struct op *op, int *fd, const struct stat *st, struct home_where where, uint64_t *ret_node)
{
    struct home *h = home_of(op);
    cleanup(cleanup_close) int own = take_fd(fd);
    int r = home_identify(op, own, st, where, ret_node);
    if (r < 0)
        return r;
    struct held held;
    if (!slot_take(h, *ret_node, &held))
        slot_put(h, *ret_node, take_fd(&own), &held);
    home_release(&held);
    return 0;
}

void home_show(const struct home *h, struct stat *st)
{
    st->st_ino ^= h->ino_seed;
}

struct fuse_entry_param home_entry(const struct op *op, uint64_t node, const struct stat *st)
{
    struct fuse_entry_param entry = {
        .ino = node,
        .attr = *st,
        .attr_timeout = op->space->timeout_s,
        .entry_timeout = op->space->timeout_s,
    };
    home_show(home_of(op), &entry.attr);
    return entry;
}

int home_reply_entry(struct op *op, uint64_t node, const struct stat *st)
{
    struct fuse_entry_param entry = home_entry(op, node, st);
    if (fuse_reply_entry(op->req, &entry) < 0)
        state_forget(op->fs->state, node, 1); // the caller was interrupted: the kernel doesn't count it
    return 0;
}

struct lock *home_inode_lock(const struct op *op, uint64_t inode)
{
    return &home_of(op)->inode_locks[inode % HOME_STRIPES];
}
