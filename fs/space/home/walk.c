// SPDX-License-Identifier: BSD-3-Clause
// walk.c: all inodes of the tree, for the ledger to count. What is still to be entered is kept as file handles:
// a folder that is moved meanwhile is found where it is then.
#include <dirent.h>
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/buffer.h"
#include "fs/space/home/charge.h"
#include "fs/space/home/identity.h"

// A folder to be entered; its handle stands behind it.
struct pending {
    uint64_t tree;
    int32_t type;
    uint32_t size_bytes;
};

struct walk {
    struct home *home;
    struct ledger_count *count;
    struct buffer stack;
    char *raw;
};

struct item {
    const struct home *home;
    int fd;
    uint64_t tree;
};

static int item_look(void *context, struct ledger_file *ret_file, struct ledger_charge *ret_charge)
{
    const struct item *i = context;
    return charge_look_at(i->home, i->fd, i->tree, ret_file, ret_charge);
}

static void walk_push(struct walk *w, const struct home_handle *handle, uint64_t tree)
{
    struct pending p = {tree, handle->type, handle->size_bytes};
    buffer_append(&w->stack, (const char *)handle->data, handle->size_bytes);
    buffer_append(&w->stack, (const char *)&p, sizeof p);
}

static bool walk_pop(struct walk *w, struct home_handle *ret_handle, uint64_t *ret_tree)
{
    struct pending p;
    if (w->stack.size_bytes < sizeof p)
        return false;
    size_t at = w->stack.size_bytes - sizeof p;
    memcpy(&p, w->stack.data + at, sizeof p);
    at -= p.size_bytes;
    *ret_handle = (struct home_handle){.type = p.type, .size_bytes = p.size_bytes};
    memcpy(ret_handle->data, w->stack.data + at, p.size_bytes);
    *ret_tree = p.tree;
    buffer_truncate(&w->stack, at);
    return true;
}

static int set_tree(struct home_node *n, void *context)
{
    n->tree = *(const uint64_t *)context;
    return 0;
}

// What the kernel knows already isn't looked up again for a limit that its folder was given meanwhile. Under the inode's
// lock: a change of it, or a making in it, that went by the tree before is settled, and counted so, or begins after it.
static void tell_tree(const struct walk *w, const struct home_handle *handle, uint64_t inode, uint64_t tree)
{
    struct state *s = w->home->space.fs->state;
    lock_scope(&w->home->inode_locks[inode % HOME_STRIPES]);
    uint64_t node = state_home_find(s, w->home->space.number, handle);
    if (node)
        state_update_home(s, node, set_tree, &tree);
}

static bool is_gone(int error)
{
    return error == -ENOENT || error == -ESTALE || error == -EXDEV; // or of another file system
}

static int walk_entry(struct walk *w, int folder_fd, const char *name, uint64_t tree)
{
    cleanup(cleanup_close) int fd = -1;
    struct home_handle handle;
    struct stat st;
    int r = home_at(folder_fd, text_of(name), &fd);
    if (r < 0)
        return is_gone(r) ? 0 : r;
    if (fstat(fd, &st) < 0)
        return -errno;
    struct item item = {w->home, fd, tree};
    r = home_handle_of(fd, &handle);
    if (r < 0)
        return r;
    item.tree = charge_tree_of(w->home, &handle, &st, tree);
    tell_tree(w, &handle, st.st_ino, item.tree);
    if (S_ISDIR(st.st_mode) && ledger_count_enter(w->count, (struct ledger_file){st.st_dev, st.st_ino}))
        walk_push(w, &handle, item.tree);
    return ledger_count_see(w->count, item_look, &item);
}

static int walk_folder(struct walk *w, int fd, uint64_t tree)
{
    for (;;) {
        long n = syscall(SYS_getdents64, fd, w->raw, RAW_BYTES);
        if (n <= 0)
            return n < 0 && errno != ENOENT ? -errno : 0;
        for (long at = 0; at < n;) {
            const struct raw_entry *e = (const struct raw_entry *)(w->raw + at);
            at += e->size_bytes;
            if (strcmp(e->name, ".") == 0 || strcmp(e->name, "..") == 0)
                continue;
            if (ledger_count_is_cancelled(w->count))
                return -ECANCELED;
            int r = walk_entry(w, fd, e->name, tree);
            if (r < 0)
                return r;
        }
    }
}

static void orphan_push(const struct home_node *n, void *context)
{
    struct walk *w = context;
    if (n->space == w->home->space.number && n->is_orphan)
        walk_push(w, &n->handle, n->tree);
}

// Open files without a name: they have no folder to be found in.
static int walk_orphans(struct walk *w)
{
    struct home_handle handle;
    uint64_t tree;
    int r = 0;
    state_each_open_home(w->home->space.fs->state, orphan_push, w);
    while (r == 0 && walk_pop(w, &handle, &tree)) {
        cleanup(cleanup_close) int fd = home_handle_open(w->home, &handle, O_PATH | O_NOFOLLOW);
        struct item item = {w->home, fd, tree};
        if (fd >= 0)
            r = ledger_count_see(w->count, item_look, &item);
        else if (!is_gone(fd))
            r = fd;
    }
    return r;
}

// What got another name meanwhile may stand where the walk has been.
static int walk_moved(struct walk *w)
{
    struct ledger_moved m;
    int r = 0;
    while (r == 0 && ledger_count_moved(w->count, w->home->space.number, &m)) {
        struct home_handle handle = {.type = (int32_t)(m.what >> 8), .size_bytes = m.handle_bytes};
        memcpy(handle.data, m.handle, m.handle_bytes);
        cleanup(cleanup_close) int fd = home_handle_open(w->home, &handle, O_PATH | O_NOFOLLOW);
        struct item item = {w->home, fd, m.tree};
        if (fd < 0) {
            r = is_gone(fd) ? 0 : fd;
            continue;
        }
        if (m.is_folder)
            walk_push(w, &handle, m.tree);
        r = ledger_count_see(w->count, item_look, &item);
    }
    return r;
}

static int walk_folders(struct walk *w)
{
    struct home_handle handle;
    uint64_t tree;
    int r = 0;
    while (r == 0 && walk_pop(w, &handle, &tree)) {
        cleanup(cleanup_close) int fd = home_handle_open(w->home, &handle, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
        if (fd >= 0)
            r = walk_folder(w, fd, tree);
        else if (!is_gone(fd))
            r = fd;
        if (r == 0)
            r = walk_moved(w);
    }
    return r;
}

// As tell_tree, of the root, which has no node: what is being made in it may go by the tree before.
static void wait_for_root(struct home *h)
{
    lock_scope(&h->inode_locks[0]);
}

int charge_walk(struct space *s, struct ledger_count *count)
{
    struct walk w = {.home = (struct home *)s, .count = count};
    struct home_handle handle;
    struct stat st;
    identity_prepare();
    int r = home_handle_of(w.home->root_fd, &handle);
    if (r == 0 && fstat(w.home->root_fd, &st) < 0)
        r = -errno;
    if (r < 0)
        return r;
    w.raw = memory_new(RAW_BYTES);
    wait_for_root(w.home);
    if (ledger_count_enter(count, (struct ledger_file){st.st_dev, st.st_ino}))
        walk_push(&w, &handle, charge_root_tree(w.home));
    r = walk_moved(&w);
    if (r == 0)
        r = walk_folders(&w);
    if (r == 0)
        r = walk_orphans(&w);
    free(w.raw);
    buffer_release(&w.stack);
    return r;
}
