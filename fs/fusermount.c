// SPDX-License-Identifier: BSD-3-Clause
// fusermount: its protocol: it inherits one end of a socket pair, whose number stands in
// _FUSE_COMMFD, mounts, and sends the descriptor of /dev/fuse back through it (SCM_RIGHTS). What it
// says on stderr becomes the one line of the error.
#include "fs/fusermount.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "fs/why.h"

#define LIMIT_S 30

void fusermount_options(const struct options *o, struct buffer *to)
{
    static const struct {
        unsigned long bit;
        const char *set, *clear;
    } words[] = {
        // Those that every 3.x knows.
        {MS_RDONLY, "ro", "rw"},         {MS_NOSUID, "nosuid", NULL},     {MS_NODEV, "nodev", NULL},
        {MS_NOEXEC, "noexec", NULL},     {MS_NOATIME, "noatime", NULL},   {MS_SYNCHRONOUS, "sync", NULL},
        {MS_DIRSYNC, "dirsync", NULL},
    };
    buffer_append_string(to, "default_permissions,subtype=butlerfs");
    if (o->allow_other)
        buffer_append_string(to, ",allow_other");
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        const char *word = o->mount_flags & words[i].bit ? words[i].set : words[i].clear;
        if (word)
            buffer_format(to, ",%s", word);
    }
    buffer_append_string(to, ",fsname=");
    for (const char *p = o->source; *p; p++) {
        if (*p == ',' || *p == '\\')
            buffer_append_byte(to, '\\');
        buffer_append_byte(to, *p);
    }
}

// In the child.
static _Noreturn void execute(const char *const *argv, int comm_fd, int error_fd)
{
    char number[16];
    snprintf(number, sizeof number, "%d", comm_fd);
    if (comm_fd >= 0) {
        fcntl(comm_fd, F_SETFD, 0);
        setenv("_FUSE_COMMFD", number, 1);
    }
    dup2(error_fd, STDERR_FILENO);
    execvp(argv[0], (char *const *)argv);
    execv("/usr/bin/fusermount3", (char *const *)argv);
    execv("/bin/fusermount3", (char *const *)argv);
    dprintf(STDERR_FILENO, "fusermount3: %m: it mounts for those who are not root (package fuse3)\n");
    _exit(127);
}

static int receive_fd(int socket_fd, int *ret_fd)
{
    char byte;
    char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8))) = {};
    struct iovec io = {&byte, 1};
    struct msghdr message = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = control,
                             .msg_controllen = sizeof control};
    ssize_t n;
    do
        n = recvmsg(socket_fd, &message, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == EAGAIN ? -ETIMEDOUT : -errno;
    struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS || c->cmsg_len != CMSG_LEN(sizeof(int)))
        return -EPERM; // it ended, and has said why
    memcpy(ret_fd, CMSG_DATA(c), sizeof(int));
    return 0;
}

// The first line of what it said.
static void read_line(int fd, struct buffer *line)
{
    char text[512];
    ssize_t n = read(fd, text, sizeof text);
    if (n > 0)
        buffer_append(line, text, (size_t)n);
    buffer_append_byte(line, '\n');
    buffer_truncate(line, strcspn(line->data, "\n"));
}

int fusermount_mount(const struct options *o, int *ret_fuse_fd, char **ret_why)
{
    int pair[2] = {-1, -1}, errors[2] = {-1, -1}, status, r;
    BUFFER_CLEANUP list = {};
    fusermount_options(o, &list);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return why(ret_why, -errno, "a pair of sockets: %m");
    cleanup(cleanup_close) int ours = pair[0], theirs = pair[1];
    if (pipe2(errors, O_CLOEXEC | O_NONBLOCK) < 0)
        return why(ret_why, -errno, "a pipe: %m");
    cleanup(cleanup_close) int errors_out = errors[0], errors_in = errors[1];
    const char *const argv[] = {"fusermount3", "-o", list.data, "--", o->mountpoint, NULL};
    pid_t child = fork();
    if (child < 0)
        return why(ret_why, -errno, "a process for fusermount3: %m");
    if (child == 0)
        execute(argv, theirs, errors_in);
    close(take_fd(&theirs));
    setsockopt(ours, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){.tv_sec = LIMIT_S}, sizeof(struct timeval));
    r = receive_fd(ours, ret_fuse_fd);
    if (r >= 0) {
        waitpid(child, &status, 0);
        return 0;
    }
    if (r != -ETIMEDOUT)
        waitpid(child, &status, 0);
    BUFFER_CLEANUP line = {};
    read_line(errors_out, &line);
    return why(ret_why, r, "%s: %s", o->mountpoint, line.size_bytes ? line.data : "fusermount3 failed without a word");
}

int fusermount_remove(const char *mountpoint)
{
    int status = 0;
    const char *const argv[] = {"fusermount3", "-u", "-z", "--", mountpoint, NULL};
    pid_t child = fork();
    if (child < 0)
        return -errno;
    if (child == 0)
        execute(argv, -1, open("/dev/null", O_WRONLY | O_CLOEXEC));
    if (waitpid(child, &status, 0) < 0)
        return -errno;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EPERM;
}
