// SPDX-License-Identifier: BSD-3-Clause
// mount: see mount.h.
// 1. Nothing here waits for a mount without a limit: what may hang is done by a child.
// 2. The options are the same on both ways: default_permissions always (the kernel checks modes and
//    ids), allow_other where it was asked for.
#include "fs/mount.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include "base/log.h"
#include "fs/fusermount.h"
#include "fs/mount_table.h"
#include "fs/options_table.h"
#include "fs/path.h"
#include "fs/why.h"

#define PROBE_MS 3000
#define TABLE_CLEANUP cleanup(mount_table_release) struct mount_table

// Whether what is mounted there answers: 0, -ENOTCONN (dead), -ETIMEDOUT, other -errno.
static int probe(const char *mountpoint)
{
    pid_t child = fork();
    if (child == 0) {
        struct statfs unused;
        _exit(statfs(mountpoint, &unused) == 0 ? 0 : errno == ENOTCONN ? 1 : 2);
    }
    if (child < 0)
        return -errno;
    cleanup(cleanup_close) int fd = (int)syscall(SYS_pidfd_open, child, 0);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int status = 0;
    if (fd < 0 || poll(&p, 1, PROBE_MS) != 1) {
        kill(child, SIGKILL); // may stay until its request is answered; init takes it over
        return -ETIMEDOUT;
    }
    if (waitpid(child, &status, 0) < 0 || !WIFEXITED(status))
        return -EIO;
    return WEXITSTATUS(status) == 0 ? 0 : WEXITSTATUS(status) == 1 ? -ENOTCONN : -EIO;
}

// Takes away what a daemon that is no more has left behind.
static int clear_place(const char *mountpoint, char **ret_why)
{
    for (int i = 0; i < 16; i++) {
        TABLE_CLEANUP t = {};
        int r = mount_table_read(&t);
        const struct mount_entry *e = r < 0 ? NULL : mount_table_at(&t, mountpoint);
        if (!e || strcmp(e->type, MOUNT_TYPE) != 0)
            return 0;
        r = probe(mountpoint);
        if (r == -ETIMEDOUT)
            return why(ret_why, -EBUSY, "%s: a butlerfs that doesn't answer is mounted there; "
                       "`umount -l %s` takes it away", mountpoint, mountpoint);
        if (r != -ENOTCONN)
            return why(ret_why, -EBUSY, "%s: butlerfs is mounted there already (%s)", mountpoint, e->source);
        r = mount_remove(mountpoint);
        if (r < 0)
            return why(ret_why, r, "%s: a dead mount is there and can't be taken away: %s", mountpoint,
                       strerror(-r));
    }
    return why(ret_why, -EBUSY, "%s: too many dead mounts, one above the other", mountpoint);
}

static int open_device(int *ret_fd, char **ret_why)
{
    int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (fd >= 0) {
        *ret_fd = fd;
        return 0;
    }
    int r = -errno;
    const char *advice = r == -ENOENT || r == -ENODEV || r == -ENXIO
                             ? "load the module (modprobe fuse); a container has to be given the device"
                             : "the machine, or the container, doesn't allow it";
    return why(ret_why, r, "/dev/fuse: %s: %s", strerror(-r), advice);
}

static int mount_direct(const struct options *o, int *ret_fuse_fd, char **ret_why)
{
    cleanup(cleanup_close) int fd = -1;
    int r = open_device(&fd, ret_why);
    if (r < 0)
        return r;
    BUFFER_CLEANUP data = {};
    buffer_format(&data, "fd=%d,rootmode=40000,user_id=%u,group_id=%u,default_permissions%s", fd, getuid(),
                  getgid(), o->allow_other ? ",allow_other" : "");
    if (mount(o->source, o->mountpoint, MOUNT_TYPE, o->mount_flags, data.data) < 0) {
        r = -errno;
        const char *advice = r == -EPERM ? " (a container needs CAP_SYS_ADMIN for it)" : "";
        return why(ret_why, r, "%s: can't be mounted on: %s%s", o->mountpoint, strerror(-r), advice);
    }
    *ret_fuse_fd = take_fd(&fd);
    return 0;
}

int mount_make(const struct options *o, int *ret_fuse_fd, char **ret_why)
{
    int r = clear_place(o->mountpoint, ret_why);
    if (r < 0)
        return r;
    return geteuid() == 0 ? mount_direct(o, ret_fuse_fd, ret_why)
                          : fusermount_mount(o, ret_fuse_fd, ret_why);
}

static int add_flag(const char *name, const char *value, void *context, char **ret_why)
{
    (void)ret_why;
    const struct option_row *option = value ? NULL : option_find(text_of(name));
    if (option && option->type == OPTION_FLAG && option->on)
        *(unsigned long *)context |= option->bit;
    return 0;
}

int mount_remount(const struct options *o, char **ret_why)
{
    TABLE_CLEANUP t = {};
    unsigned long flags = 0;
    int r = mount_table_read(&t);
    const struct mount_entry *e = r < 0 ? NULL : mount_table_at(&t, o->mountpoint);
    if (!e || strcmp(e->type, MOUNT_TYPE) != 0)
        return why(ret_why, -EINVAL, "%s: can't be remounted: no butlerfs is mounted there", o->mountpoint);
    r = option_list_split(e->flags, add_flag, &flags, ret_why);
    if (r < 0)
        return r;
    flags = (flags & ~o->cleared_flags) | o->mount_flags;
    if (mount(NULL, o->mountpoint, NULL, MS_REMOUNT | flags, NULL) < 0) {
        r = -errno;
        return why(ret_why, r, "%s: can't be remounted: %s%s", o->mountpoint, strerror(-r),
                   r == -EPERM ? ": only root may" : r == -EBUSY ? ": something is open for writing there" : "");
    }
    return 0;
}

int mount_remove(const char *mountpoint)
{
    if (umount2(mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
        return 0;
    return errno == EPERM ? fusermount_remove(mountpoint) : -errno;
}

int mount_find(const char *mountpoint, dev_t *ret_dev, char **ret_source, char **ret_type)
{
    TABLE_CLEANUP t = {};
    int r = mount_table_read(&t);
    if (r < 0)
        return r;
    const struct mount_entry *e = mount_table_at(&t, mountpoint);
    if (!e)
        return -ENOENT;
    *ret_dev = e->dev;
    if (ret_source)
        *ret_source = memory_copy(e->source, strlen(e->source));
    if (ret_type)
        *ret_type = memory_copy(e->type, strlen(e->type));
    return 0;
}

// Every place where this device is mounted (bind mounts too), the last made first.
static void detach_device(const struct mount_table *t, dev_t dev)
{
    for (uint32_t i = t->count; i > 0; i--) {
        const struct mount_entry *e = &t->entries[i - 1];
        if (e->dev == dev && umount2(e->mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
            log_warn("%s: stays in sight of the daemon: %m", e->mountpoint);
    }
}

bool mount_can_hide(void)
{
    TABLE_CLEANUP t = {};
    if (geteuid() != 0 || mount_table_read(&t) < 0)
        return false;
    const struct mount_entry *root = mount_table_at(&t, "/");
    return root && root->is_shared;
}

int mount_hide(const char *mountpoint)
{
    TABLE_CLEANUP t = {};
    if (geteuid() == 0 && !mount_can_hide())
        return -EOPNOTSUPP;
    if (unshare(CLONE_NEWNS) < 0)
        return -errno;
    // Slave: what is mounted and unmounted outside happens here too, and nothing the other way round.
    if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
        return -errno;
    int r = mount_table_read(&t);
    if (r < 0)
        return r;
    const struct mount_entry *e = mount_table_at(&t, mountpoint);
    if (e && strcmp(e->type, MOUNT_TYPE) == 0)
        detach_device(&t, e->dev);
    return 0;
}

bool mount_holds(const char *mountpoint, const char *path)
{
    cleanup(cleanup_free) char *resolved = path_resolve("/", path, mountpoint);
    return path_is_within(resolved, mountpoint);
}
