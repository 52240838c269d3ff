// SPDX-License-Identifier: BSD-3-Clause
// provision_make.c: a home made.
//
// Invariants
//  1. All is made by descriptors of folders that nobody else can enter: below a folder of root's with a name of its own
//     (mode 0700) until everything in it is its owner's. No name of a user's choosing is followed or replaced.
//  2. It is renamed into place with RENAME_NOREPLACE: who else made one first keeps his.
//  3. Each inode is told to the ledger when it is made, and again when it is given away or removed. Making a home isn't
//     refused by a limit.
#include <dirent.h>
#include <errno.h>
#include <linux/limits.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/log.h"
#include "fs/space/home/charge.h"
#include "fs/space/home/provision.h"

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#endif

#define PRIVATE_PREFIX ".butlerfs-new-"
#define DEPTH_MAX 16
#define PIECE_BYTES 65536

// ---- one inode ----------------------------------------------------------------------------------

// A change told to the ledger (charge.h's are told for a request).
struct telling {
    struct ledger *ledger; // NULL: nothing is counted
    uint32_t slot;
    struct ledger_file file;
    struct ledger_charge before;
};

static int tell(struct home *h, struct ledger_change *c, uint32_t whose, const struct home_handle *handle, unsigned flags,
                struct telling *ret_telling)
{
    struct telling t = {.ledger = h->space.fs->ledger, .file = c->file, .before = c->before};
    c->what = whose | (uint32_t)handle->type << 8;
    c->space = h->space.number;
    c->handle = (struct text){(const char *)handle->data, handle->size_bytes};
    int r = ledger_begin(t.ledger, c, LEDGER_EXEMPT | flags, &t.slot);
    if (r == 0)
        *ret_telling = t;
    return r;
}

// An inode is made under a name that is free; it is root's at first.
static int tell_new(struct home *h, int folder_fd, const char *name, int64_t bytes, struct telling *ret_telling)
{
    struct ledger_change c = {.after = {.owner.tree = charge_root_tree(h), .bytes = bytes, .files = 1}, .name = text_of(name)};
    struct home_handle folder;
    *ret_telling = (struct telling){0};
    if (!h->space.fs->ledger)
        return 0;
    int r = home_handle_of(folder_fd, &folder);
    return r < 0 ? r : tell(h, &c, CHARGE_MADE, &folder, 0, ret_telling);
}

// An inode that is there gets an owner, or goes (`owner` NULL and is_removed).
static int tell_old(struct home *h, int fd, const struct ledger_owner *owner, bool is_removed, struct telling *ret_telling)
{
    struct ledger_change c = {0};
    struct home_handle handle;
    *ret_telling = (struct telling){0};
    if (!h->space.fs->ledger)
        return 0;
    int r = charge_look_at(h, fd, charge_root_tree(h), &c.file, &c.before);
    if (r == 0)
        r = home_handle_of(fd, &handle);
    if (r < 0)
        return r;
    c.after = c.before;
    if (owner)
        c.after.owner = *owner;
    if (is_removed)
        c.after = (struct ledger_charge){.owner = c.before.owner};
    return tell(h, &c, CHARGE_INODE, &handle, 0, ret_telling);
}

// It is over; fd < 0: there is nothing, or nothing any more.
static void told(struct home *h, struct telling *t, int fd)
{
    struct ledger_charge present = {.owner = t->before.owner};
    if (!t->ledger)
        return;
    if (fd >= 0 && charge_look_at(h, fd, charge_root_tree(h), &t->file, &present) < 0)
        present = t->before;
    ledger_settle(t->ledger, t->slot, t->file, &present);
    t->ledger = NULL;
}

static int give_away(const struct provision_plan *p, int fd, mode_t mode)
{
    struct ledger_owner owner = {p->uid, p->gid, charge_root_tree(p->home)};
    struct telling t;
    int r = tell_old(p->home, fd, &owner, false, &t);
    if (r < 0)
        return r;
    if (fchown(fd, p->uid, p->gid) < 0 || fchmod(fd, mode) < 0)
        r = -errno;
    told(p->home, &t, fd);
    return r;
}

static int make_folder(const struct provision_plan *p, int folder_fd, const char *name, int *ret_fd)
{
    struct telling t;
    int r = tell_new(p->home, folder_fd, name, 0, &t);
    if (r < 0)
        return r;
    cleanup(cleanup_close) int fd = -1;
    if (mkdirat(folder_fd, name, 0700) < 0)
        r = -errno;
    else if ((fd = openat(folder_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0)
        r = -errno;
    told(p->home, &t, fd);
    if (r == 0)
        *ret_fd = take_fd(&fd);
    return r;
}

// ---- the skeleton -----------------------------------------------------------------------------------

static int copy_bytes(int from, int to)
{
    char piece[PIECE_BYTES];
    ssize_t n;
    while ((n = read(from, piece, sizeof piece)) > 0)
        for (ssize_t done = 0, w; done < n; done += w)
            if ((w = write(to, piece + done, (size_t)(n - done))) < 0)
                return -errno;
    return n < 0 ? -errno : 0;
}

static int copy_file(const struct provision_plan *p, int from_folder, int to_folder, const char *name, const struct stat *st)
{
    struct telling t;
    cleanup(cleanup_close) int from = openat(from_folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (from < 0)
        return -errno;
    int r = tell_new(p->home, to_folder, name, st->st_size, &t);
    if (r < 0)
        return r;
    cleanup(cleanup_close) int to = openat(to_folder, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    r = to < 0 ? -errno : copy_bytes(from, to);
    told(p->home, &t, to);
    return r < 0 ? r : give_away(p, to, st->st_mode & 0777);
}

static int copy_link(const struct provision_plan *p, int from_folder, int to_folder, const char *name)
{
    char target[PATH_MAX];
    struct telling t;
    cleanup(cleanup_close) int fd = -1;
    ssize_t n = readlinkat(from_folder, name, target, sizeof target - 1);
    if (n < 0)
        return -errno;
    target[n] = '\0';
    int r = tell_new(p->home, to_folder, name, 0, &t);
    if (r < 0)
        return r;
    if (symlinkat(target, to_folder, name) < 0 || fchownat(to_folder, name, p->uid, p->gid, AT_SYMLINK_NOFOLLOW) < 0)
        r = -errno;
    fd = openat(to_folder, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    told(p->home, &t, fd);
    return r;
}

static int copy_tree(const struct provision_plan *p, int from_folder, int to_folder, int depth);

static int copy_folder(const struct provision_plan *p, int from_folder, int to_folder, const char *name,
                       const struct stat *st, int depth)
{
    cleanup(cleanup_close) int from = openat(from_folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    cleanup(cleanup_close) int to = -1;
    if (from < 0)
        return -errno;
    int r = make_folder(p, to_folder, name, &to);
    if (r == 0)
        r = copy_tree(p, from, to, depth + 1);
    return r < 0 ? r : give_away(p, to, st->st_mode & 0777);
}

// What is neither file, folder nor link is left out.
static int copy_entry(const struct provision_plan *p, int from_folder, int to_folder, const char *name, int depth)
{
    struct stat st;
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return 0;
    if (fstatat(from_folder, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    switch (st.st_mode & S_IFMT) {
    case S_IFREG:
        return copy_file(p, from_folder, to_folder, name, &st);
    case S_IFLNK:
        return copy_link(p, from_folder, to_folder, name);
    case S_IFDIR:
        return copy_folder(p, from_folder, to_folder, name, &st, depth);
    default:
        return 0;
    }
}

static int copy_tree(const struct provision_plan *p, int from_folder, int to_folder, int depth)
{
    const struct dirent *e;
    int r = depth < DEPTH_MAX ? 0 : -ELOOP, fd = r < 0 ? -1 : dup(from_folder);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        r = r < 0 ? r : -errno;
        cleanup_close(&fd);
        return r;
    }
    while (r == 0 && (errno = 0, e = readdir(d)))
        r = copy_entry(p, from_folder, to_folder, e->d_name, depth);
    if (r == 0 && errno)
        r = -errno;
    closedir(d);
    return r;
}

static int fill(const struct provision_plan *p, int folder_fd)
{
    cleanup(cleanup_close) int from = p->skeleton ? open(p->skeleton, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (p->skeleton && from < 0 && errno != ENOENT)
        return -errno;
    return from < 0 ? 0 : copy_tree(p, from, folder_fd, 0);
}

// ---- removing -----------------------------------------------------------------------------------------

static int remove_tree(struct home *h, int folder_fd, const char *name, int depth);

static int empty_folder(struct home *h, int fd, int depth)
{
    const struct dirent *e;
    int r = 0, own = dup(fd);
    DIR *d = own < 0 ? NULL : fdopendir(own);
    if (!d) {
        cleanup_close(&own);
        return -errno;
    }
    while (r == 0 && (errno = 0, e = readdir(d)))
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            r = remove_tree(h, fd, e->d_name, depth + 1);
    closedir(d);
    return r;
}

static int remove_tree(struct home *h, int folder_fd, const char *name, int depth)
{
    struct telling t;
    struct stat st;
    cleanup(cleanup_close) int fd = openat(folder_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    bool is_folder = S_ISDIR(st.st_mode);
    int r = 0;
    if (is_folder) {
        cleanup(cleanup_close) int opened = openat(folder_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        r = opened < 0 ? -errno : depth > DEPTH_MAX + 1 ? -ELOOP : empty_folder(h, opened, depth);
    }
    if (r == 0)
        r = tell_old(h, fd, NULL, true, &t);
    if (r < 0)
        return r;
    r = unlinkat(folder_fd, name, is_folder ? AT_REMOVEDIR : 0) < 0 ? -errno : 0;
    told(h, &t, r == 0 ? -1 : fd);
    return r;
}

void provision_clean(struct home *h)
{
    const struct dirent *e;
    int fd = openat(h->root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        cleanup_close(&fd);
        return;
    }
    while ((e = readdir(d))) {
        struct stat st;
        if (strncmp(e->d_name, PRIVATE_PREFIX, strlen(PRIVATE_PREFIX)) != 0 ||
            fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode))
            continue;
        int r = remove_tree(h, fd, e->d_name, 0);
        if (r < 0)
            log_warn("%s/%s, a folder that was being made, can't be removed: %s", h->space.options->source, e->d_name,
                     strerror(-r));
    }
    closedir(d);
}

// ---- all of it ----------------------------------------------------------------------------------------

// user::rwx, group::rwx, other::---: what is made in it is the group's to write, whatever the umask.
static int set_default_acl(int fd)
{
    static const struct {
        uint32_t version;
        struct {
            uint16_t tag, permissions;
            uint32_t id;
        } entries[3];
    } acl = {2, {{0x01, 7, UINT32_MAX}, {0x04, 7, UINT32_MAX}, {0x20, 0, UINT32_MAX}}};
    if (fsetxattr(fd, "system.posix_acl_default", &acl, sizeof acl, 0) < 0 && errno != EOPNOTSUPP)
        return -errno;
    return 0;
}

// A count that is under way has met it under the private name, or will under this one, or neither (meta/ledger.h).
static int move_into_place(const struct provision_plan *p, int fd, const char *private_name)
{
    struct ledger *ledger = p->home->space.fs->ledger;
    struct ledger_moved moved;
    uint32_t token = ledger ? ledger_move_begin(ledger) : 0;
    int r = renameat2(p->home->root_fd, private_name, p->home->root_fd, p->name, RENAME_NOREPLACE) < 0 ? -errno : 0;
    bool is_told = r == 0 && ledger && ledger_is_counted(ledger) && charge_look_at_moved(p->home, fd, charge_root_tree(p->home), &moved) == 0;
    if (ledger)
        ledger_move_end(ledger, token, &moved, is_told);
    return r;
}

int provision_make(const struct provision_plan *plan)
{
    char private_name[64];
    uint64_t random = 0;
    struct stat st;
    cleanup(cleanup_close) int fd = -1;
    if (fstatat(plan->home->root_fd, plan->name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return -EEXIST;
    if (getrandom(&random, sizeof random, 0) != sizeof random)
        return -EIO;
    snprintf(private_name, sizeof private_name, PRIVATE_PREFIX "%016llx", (unsigned long long)random);
    int r = make_folder(plan, plan->home->root_fd, private_name, &fd);
    if (r < 0)
        return r;
    r = fill(plan, fd);
    if (r == 0 && plan->is_group)
        r = set_default_acl(fd);
    if (r == 0)
        r = give_away(plan, fd, plan->mode);
    if (r == 0)
        r = move_into_place(plan, fd, private_name);
    if (r < 0)
        remove_tree(plan->home, plan->home->root_fd, private_name, 0);
    return r;
}
