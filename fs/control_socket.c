// SPDX-License-Identifier: BSD-3-Clause
// control_socket: where the administrators' socket is, and how it is made.
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#include "fs/control.h"
#include "fs/why.h"

void control_socket_path(dev_t dev, uid_t owner, char *ret_path, size_t room_bytes)
{
    char folder[64];
    struct stat st;
    if (owner == 0)
        snprintf(folder, sizeof folder, "/run/butlerfs");
    else {
        snprintf(folder, sizeof folder, "/run/user/%u", owner);
        if (stat(folder, &st) == 0 && st.st_uid == owner)
            snprintf(folder, sizeof folder, "/run/user/%u/butlerfs", owner);
        else
            snprintf(folder, sizeof folder, "/tmp/butlerfs-%u", owner);
    }
    snprintf(ret_path, room_bytes, "%s/%u:%u", folder, major(dev), minor(dev));
}

// In /tmp anybody may have been there first.
static int make_folder(const char *path, char **ret_why)
{
    const char *slash = strrchr(path, '/');
    cleanup(cleanup_free) char *folder = memory_copy(path, slash ? (size_t)(slash - path) : 0);
    struct stat st;
    if (mkdir(folder, 0700) < 0 && errno != EEXIST)
        return why(ret_why, -errno, "%s: %m", folder);
    if (lstat(folder, &st) < 0)
        return why(ret_why, -errno, "%s: %m", folder);
    if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 022))
        return why(ret_why, -EPERM, "%s: not a folder that only we can write", folder);
    return 0;
}

int control_listen(const char *path, int *ret_fd, char **ret_why)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int r = make_folder(path, ret_why);
    if (r < 0)
        return r;
    if (strlen(path) >= sizeof address.sun_path)
        return why(ret_why, -ENAMETOOLONG, "%s: too long for a socket", path);
    memcpy(address.sun_path, path, strlen(path) + 1);
    cleanup(cleanup_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return why(ret_why, -errno, "a socket: %m");
    unlink(path); // of an older mount whose number came again
    mode_t before = umask(0177);
    r = bind(fd, (struct sockaddr *)&address, sizeof address) < 0 ? -errno : 0;
    umask(before);
    if (r < 0 || listen(fd, 16) < 0)
        return why(ret_why, r < 0 ? r : -errno, "%s: %s", path, strerror(r < 0 ? -r : errno));
    *ret_fd = take_fd(&fd);
    return 0;
}

int control_listen_nowhere(void)
{
    // A name without bytes: the kernel gives it one of its own.
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    cleanup(cleanup_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address.sun_family) < 0 || listen(fd, 1) < 0)
        return -errno;
    return take_fd(&fd);
}
