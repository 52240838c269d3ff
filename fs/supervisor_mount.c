// SPDX-License-Identifier: BSD-3-Clause
// supervisor_mount: ending a mount, without ever waiting for it.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include "fs/supervisor.h"

int supervisor_wait_child(pid_t child, int limit_ms)
{
    int status = 0;
    int fd = (int)syscall(SYS_pidfd_open, child, 0);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    bool is_late = fd >= 0 && poll(&p, 1, limit_ms) == 0;
    if (is_late)
        kill(child, SIGKILL);
    if (fd >= 0)
        close(fd);
    // A killed child that is stuck in the kernel is left to whoever comes after.
    if (waitpid(child, &status, is_late ? WNOHANG : 0) != child || is_late)
        return -ETIMEDOUT;
    return status;
}

// Whether our own mount is what shows at the mount point. Asks nothing of the daemon: no field is
// wanted and what is cached will do.
static bool is_ours(const struct supervisor *s)
{
    struct statx x;
    if (statx(AT_FDCWD, s->mountpoint, AT_STATX_DONT_SYNC | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, 0, &x) < 0)
        return errno == ENOTCONN;
    return x.stx_dev_major == s->major_ && x.stx_dev_minor == s->minor_;
}

static int run_fusermount(const struct supervisor *s, const char *flag)
{
    const char *const argv[] = {"fusermount3", flag, "--", s->mountpoint, NULL};
    pid_t child = fork();
    if (child == 0) {
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        int null = open("/dev/null", O_RDWR);
        dup2(null, STDERR_FILENO);
        execvp(argv[0], (char *const *)argv);
        execv("/usr/bin/fusermount3", (char *const *)argv);
        _exit(127);
    }
    return child < 0 ? -errno : supervisor_wait_child(child, 5000);
}

int supervisor_unmount(struct supervisor *s)
{
    if (!is_ours(s))
        return 0;
    if (!s->is_privileged)
        return run_fusermount(s, "-u") == 0 || run_fusermount(s, "-uz") == 0 ? 0 : -EPERM;
    if (umount2(s->mountpoint, UMOUNT_NOFOLLOW) == 0)
        return 0;
    if (umount2(s->mountpoint, UMOUNT_NOFOLLOW | MNT_DETACH) == 0)
        return 0;
    return errno == EINVAL || errno == ENOENT ? 0 : -errno;
}

void supervisor_abort(struct supervisor *s)
{
    char path[64];
    snprintf(path, sizeof path, "/sys/fs/fuse/connections/%u/abort", s->minor_);
    int fd = open(path, O_WRONLY | O_CLOEXEC); // not there where fusectl isn't mounted
    if (fd >= 0) {
        if (write(fd, "1", 1) < 0)
            say(s, LOG_WARNING, "%s: %m", path);
        close(fd);
    }
    // The last of its descriptors, when there is no daemon: the same effect.
    if (s->fuse_fd >= 0)
        close(s->fuse_fd);
    s->fuse_fd = -1;
}

// The kernel asks 128 KiB ahead, and can only be told more here, after INIT; far away that is a round
// trip each. Not allowed to users, nor in most containers: then it stays so.
#define READ_AHEAD_KIB "1024"

void supervisor_raise_read_ahead(const struct supervisor *s)
{
    char path[64];
    snprintf(path, sizeof path, "/sys/class/bdi/%u:%u/read_ahead_kb", s->major_, s->minor_);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0 && write(fd, READ_AHEAD_KIB, sizeof READ_AHEAD_KIB - 1) < 0)
        syslog(LOG_DEBUG, "%s: %m", path);
    if (fd >= 0)
        close(fd);
}
