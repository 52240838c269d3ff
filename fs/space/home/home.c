// SPDX-License-Identifier: BSD-3-Clause
// home.c: the space itself: opening its tree, and the table of its verbs.
#include "fs/space/home/charge.h"

#include <errno.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "fs/privilege.h"
#include "fs/space/home/identity.h"
#include "fs/space/home/lock.h"
#include "fs/space/home/provision.h"
#include "fs/why.h"

static void home_root_attr(struct space *s, struct fs_attr *ret_attr)
{
    struct stat st = {.st_mode = S_IFDIR | 0755};
    fstat(((struct home *)s)->root_fd, &st);
    *ret_attr = (struct fs_attr){
        .mode = st.st_mode,
        .uid = st.st_uid,
        .gid = st.st_gid,
        .mtime_unix_ns = st.st_mtim.tv_sec * NS_PER_S + st.st_mtim.tv_nsec,
    };
}

static uint64_t home_fresh(struct space *s)
{
    (void)s;
    return 0;
}

// What others than this mount do to the tree is seen after this time.
static double home_timeout_s(struct space *s)
{
    return (double)s->options->refresh_ns / 1e9;
}

static void home_status(struct space *space, struct doc *map)
{
    struct home *h = (struct home *)space;
    int64_t open_count = 0;
    for (size_t i = 0; i < HOME_DESCRIPTORS; i++) {
        lock_scope(&h->descriptor_locks[i % HOME_STRIPES]);
        open_count += h->descriptors[i].node != 0;
    }
    doc_put_integer(map, "descriptors", open_count);
    doc_put_integer(map, "descriptors_max", HOME_DESCRIPTORS);
}

static int home_provision(struct space *s, struct text name)
{
    struct provision *p = ((struct home *)s)->provision;
    return p ? provision_order(p, name, s->fs->options->timeout_ns) : -EOPNOTSUPP;
}

static int home_start(struct space *s)
{
    struct home *h = (struct home *)s;
    int r = lock_start(h);
    return r < 0 ? r : provision_start(h);
}

static void home_free(struct space *space)
{
    struct home *h = (struct home *)space;
    provision_stop(h->provision);
    lock_stop(h->locking);
    for (size_t i = 0; i < HOME_DESCRIPTORS; i++)
        if (h->descriptors[i].node)
            close(h->descriptors[i].fd);
    for (size_t i = 0; i < HOME_STRIPES; i++) {
        lock_release_memory(&h->descriptor_locks[i]);
        lock_release_memory(&h->inode_locks[i]);
    }
    if (h->root_fd >= 0)
        close(h->root_fd);
    if (h->mount_fd >= 0)
        close(h->mount_fd);
    free(h);
}

#define HOME_VERBS                                                                                 \
    .free = home_free, .lookup = home_lookup, .getattr = home_getattr, .readlink = home_readlink,  \
    .open = home_open, .read = home_read, .release = home_close, .opendir = home_opendir,          \
    .readdir = home_readdir, .releasedir = home_closedir, .getxattr = home_getxattr,               \
    .listxattr = home_listxattr, .setattr = home_setattr, .create = home_create,                   \
    .tmpfile = home_tmpfile, .mknod = home_mknod, .mkdir = home_mkdir, .symlink = home_symlink,    \
    .link = home_link, .unlink = home_unlink, .rmdir = home_rmdir, .rename = home_rename,          \
    .write = home_write, .fsync = home_fsync, .fsyncdir = home_fsyncdir,                           \
    .fallocate = home_fallocate, .copy = home_copy, .seek = home_seek, .setxattr = home_setxattr,  \
    .removexattr = home_removexattr, .lock = home_lock, .flush = home_flush, .statfs = home_statfs, .tree = charge_tree_number, .tree_is_for = charge_tree_is_for, \
    .ledger_look = charge_look, .ledger_walk = charge_walk, .ledger_sync = charge_sync,            \
    .provision = home_provision, .start = home_start, .has_acls = true,                            \
    .enter = identity_prepare, .forget = home_forget, .root_attr = home_root_attr,                 \
    .fresh = home_fresh, .status = home_status, .timeout_s = home_timeout_s

static const struct space_ops home_ops = {.kind = "home", HOME_VERBS};
static const struct space_ops group_ops = {.kind = "group", HOME_VERBS};

// ---- opening --------------------------------------------------------------------------------

// The folder, and whether its file system has what this space stands on. Both descriptors are the caller's.
static int tree_open(const struct space_options *s, int *ret_root_fd, int *ret_mount_fd, char **ret_why)
{
    cleanup(cleanup_close) int root = open(s->source, O_PATH | O_DIRECTORY | O_CLOEXEC);
    cleanup(cleanup_close) int mount = open(s->source, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct home_handle handle;
    if (root < 0 || mount < 0)
        return why(ret_why, -errno, "%s: %m", s->source);
    int r = home_handle_of(root, &handle);
    if (r < 0)
        return why(ret_why, r, "%s: its file system gives no file handles (%s): ext4, xfs, btrfs, tmpfs and NFS do",
                   s->source, strerror(-r));
    *ret_root_fd = take_fd(&root);
    *ret_mount_fd = take_fd(&mount);
    return 0;
}

int space_check_home(const struct space_options *s, char **ret_why)
{
    cleanup(cleanup_close) int root = -1, mount = -1;
    int r = tree_open(s, &root, &mount, ret_why);
    if (r < 0)
        return r;
    if (geteuid() != 0 || !privilege_can_change_ids())
        return why(ret_why, -EPERM, "%s: home and group spaces need root: files are made for their users", s->source);
    return 0;
}

int space_open_home(struct fs *fs, uint16_t number, const struct space_options *options,
                    struct space **ret_space, char **ret_why)
{
    struct home *h = new_struct(struct home);
    const struct space_ops *ops = options->kind == SPACE_HOME ? &home_ops : &group_ops;
    h->space = (struct space){.ops = ops, .number = number, .fs = fs, .options = options};
    h->root_fd = h->mount_fd = -1;
    for (size_t i = 0; i < HOME_STRIPES; i++) {
        lock_init(&h->descriptor_locks[i], LOCK_RANK_LEAF, "home descriptors");
        lock_init(&h->inode_locks[i], LOCK_RANK_INODE, "home inodes");
    }
    int r = tree_open(options, &h->root_fd, &h->mount_fd, ret_why);
    if (r < 0) {
        home_free(&h->space);
        return r;
    }
    home_room_start(h);
    charge_name_root(h);
    h->ino_seed = options->name ? hash64(options->name, strlen(options->name)) : 0;
    *ret_space = &h->space;
    return 0;
}
