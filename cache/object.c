// SPDX-License-Identifier: BSD-3-Clause
// object: opens a local artifact without trusting its path.
// 1. A path is first opened with O_PATH, which starts nothing (a FIFO's writer, a device, a tape);
//    what it turns out to be is then opened through its descriptor, so that what was checked is
//    what is read.
// 2. Every open is the caller's, the second one too: the kernel decides on every folder, link and
//    mode.
// 3. As owner nothing is decided by a path alone: a path may change between being resolved and
//    being opened, so what was resolved is opened again from the root's descriptor with
//    RESOLVE_BENEATH.
#include "cache/object.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#include "base/cleanup.h"
#include "cache/identity.h"

// What is no storage: reading it has effects, or shows the reader (then the daemon) to himself.
// linux/magic.h doesn't have all of them.
static const uint32_t not_storage[] = {
    ANON_INODE_FS_MAGIC,  BINFMTFS_MAGIC,       BPF_FS_MAGIC,
    CGROUP2_SUPER_MAGIC,  CGROUP_SUPER_MAGIC,   DEBUGFS_MAGIC,
    DEVPTS_SUPER_MAGIC,   EFIVARFS_MAGIC,       NSFS_MAGIC,
    OPENPROM_SUPER_MAGIC, PIPEFS_MAGIC,         PROC_SUPER_MAGIC,
    PSTOREFS_MAGIC,       RDTGROUP_SUPER_MAGIC, SECURITYFS_MAGIC,
    SELINUX_MAGIC,        SMACK_MAGIC,          SOCKFS_MAGIC,
    SYSFS_MAGIC,          TRACEFS_MAGIC,        USBDEVICE_SUPER_MAGIC,
    XENFS_SUPER_MAGIC,
    0x19800202, // mqueue
    0x5a3c69f0, // apparmorfs
    0x62656570, // configfs
    0x65735543, // fusectl
    0x67596969, // rpc_pipefs
    0x6e667364, // nfsd
};

static int open_path(int folder, const char *path, uint64_t flags, uint64_t resolve)
{
    struct open_how how = {
        .flags = O_PATH | O_CLOEXEC | flags,
        .resolve = RESOLVE_NO_MAGICLINKS | resolve,
    };
    return (int)syscall(SYS_openat2, folder, path, &how, sizeof(how));
}

static const char not_allowed[] = "the caller may not read it";

// What an errno of opening means to who asked; the one place where it does.
static int failure(int error, const char **ret_why)
{
    switch (error) {
    case ENOENT:
    case ENOTDIR:
    case ENAMETOOLONG:
        *ret_why = "it is not there";
        return -ENOENT;
    case EACCES:
    case EPERM:
        *ret_why = not_allowed;
        return -EACCES;
    case ELOOP:
        *ret_why = "its symbolic links go round or lead through /proc";
        return -EACCES;
    case EAGAIN:
        *ret_why = "another process holds a lease on it, or its bytes are not there yet";
        return -EAGAIN;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
        *ret_why = "the daemon has no descriptors or memory left";
        return -error;
    case ENOSYS:
        *ret_why = "the kernel has no openat2 (before 5.6, or it is filtered)";
        return -EREMOTEIO;
    default:
        *ret_why = "its file system failed";
        return -EREMOTEIO;
    }
}

static int refuse(const char *why, const char **ret_why)
{
    *ret_why = why;
    return -EACCES;
}

static int check_kind(int fd, struct stat *ret_stat, const char **ret_why)
{
    struct statfs fs;
    if (fstatfs(fd, &fs) < 0 || fstat(fd, ret_stat) < 0)
        return failure(errno, ret_why);
    for (size_t i = 0; i < sizeof(not_storage) / sizeof(not_storage[0]); i++)
        if ((uint32_t)fs.f_type == not_storage[i])
            return refuse("its file system holds no files (proc, sys and the like)", ret_why);
    return S_ISREG(ret_stat->st_mode) ? 0 : refuse("it is not a regular file", ret_why);
}

// Through the descriptor, which is neither followed nor resolved by anybody's path. Whether the
// owner's O_NOATIME is allowed is known when it was tried.
static int reopen(int path_fd, int *ret_fd, struct stat *ret_stat, const char **ret_why)
{
    char path[40];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", path_fd);
    int flags = O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, more = O_NOATIME;
    cleanup(cleanup_close) int fd = open(path, flags | more);
    if (fd < 0 && errno == EPERM)
        fd = open(path, flags | (more = 0));
    if (fd < 0 && errno == ENOENT) {
        *ret_why = "/proc is not mounted where the daemon runs";
        return -EREMOTEIO;
    }
    // Not blocking was for opening only.
    if (fd < 0 || fcntl(fd, F_SETFL, more) < 0 || fstat(fd, ret_stat) < 0)
        return failure(errno, ret_why);
    *ret_fd = take_fd(&fd);
    return 0;
}

// The path of what the descriptor stands for, without symbolic links.
static bool path_of(int fd, char ret_path[PATH_MAX])
{
    char link[40];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, ret_path, PATH_MAX);
    if (n <= 0 || n == PATH_MAX || ret_path[0] != '/')
        return false;
    ret_path[n] = 0;
    return true;
}

// What follows `root` and a `/` in `path`; NULL: it isn't below it.
static const char *below(const char *root, const char *path)
{
    size_t size = strcmp(root, "/") == 0 ? 0 : strlen(root);
    return strncmp(path, root, size) == 0 && path[size] == '/' && path[size + 1] ? path + size + 1
                                                                                 : NULL;
}

// Again, from the root's descriptor. -errno, -EXDEV: not below this root.
static int open_beneath(const char *root, const char *resolved)
{
    char resolved_root[PATH_MAX];
    cleanup(cleanup_close) int root_fd = open_path(AT_FDCWD, root, O_DIRECTORY, 0);
    if (root_fd < 0 || !path_of(root_fd, resolved_root))
        return -EXDEV;
    const char *rest = below(resolved_root, resolved);
    if (!rest)
        return -EXDEV;
    int fd = open_path(root_fd, rest, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
    return fd < 0 ? -errno : fd;
}

static int open_below_roots(const char *path, const char *const *roots, const char **ret_why)
{
    char resolved[PATH_MAX];
    cleanup(cleanup_close) int fd = open_path(AT_FDCWD, path, 0, 0);
    if (fd < 0)
        return failure(errno, ret_why);
    if (!path_of(fd, resolved))
        return refuse("its path can't be resolved", ret_why);
    for (; roots && *roots; roots++) {
        int r = open_beneath(*roots, resolved);
        if (r >= 0)
            return r;
        if (r != -EXDEV)
            return failure(-r, ret_why);
    }
    return refuse("it is outside the datastore's roots", ret_why);
}

static int open_checked(const char *path, const struct object_access *access, int *ret_fd,
                        struct stat *ret_stat, const char **ret_why)
{
    cleanup(cleanup_close) int path_fd = -1;
    if (access->as_owner) {
        path_fd = open_below_roots(path, access->roots, ret_why);
        if (path_fd < 0)
            return path_fd;
    } else {
        path_fd = open_path(AT_FDCWD, path, 0, 0);
        if (path_fd < 0)
            return failure(errno, ret_why);
    }
    int r = check_kind(path_fd, ret_stat, ret_why);
    return r < 0 ? r : reopen(path_fd, ret_fd, ret_stat, ret_why);
}

static int open_as_caller(const char *path, const struct object_access *access,
                          const struct caller *caller, int *ret_fd, struct stat *ret_stat,
                          const char **ret_why)
{
    if (!access->can_change_ids && caller->uid != access->own_uid)
        return refuse("the daemon can't act as another user", ret_why);
    struct identity was;
    bool groups_known;
    if (identity_assume(caller, access->can_change_ids, &was, &groups_known) < 0)
        return refuse("the daemon can't act as this user", ret_why);
    int r = open_checked(path, access, ret_fd, ret_stat, ret_why);
    identity_restore(&was);
    if (r == -EACCES && *ret_why == not_allowed && !groups_known)
        *ret_why = "the caller may not read it, or only as a member of a group: his are not known";
    return r;
}

int object_open_local(const char *path, const struct object_access *access,
                      const struct caller *caller, int *ret_fd, struct stat *ret_stat,
                      const char **ret_why)
{
    int fd;
    struct stat st;
    if (path[0] != '/')
        return refuse("its path is not absolute", ret_why);
    int r = access->as_owner ? open_checked(path, access, &fd, &st, ret_why)
                             : open_as_caller(path, access, caller, &fd, &st, ret_why);
    if (r < 0)
        return r;
    *ret_fd = fd;
    *ret_stat = st;
    return 0;
}

int object_stat_local(const char *path, struct stat *ret_stat)
{
    const char *why;
    struct stat st;
    if (path[0] != '/')
        return -EACCES;
    cleanup(cleanup_close) int fd = open_path(AT_FDCWD, path, 0, 0);
    if (fd < 0)
        return failure(errno, &why);
    int r = check_kind(fd, &st, &why);
    if (r < 0)
        return r;
    *ret_stat = st;
    return 0;
}
