// SPDX-License-Identifier: BSD-3-Clause
// parking.c: see parking.h.
//
// Invariants
//  1. A message is a node's number and one descriptor. One that stays is put in again before it is taken out, so that a
//     death loses none; at worst one lies there twice, and goes twice.
//  2. A looking-through ends at a message of its own, with a number that no other has. What else comes without a
//     descriptor is an earlier one's, left by a death, and goes; unless there was no room for the descriptor.
#include "fs/parking.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"

struct parking {
    struct lock lock; // LOCK_RANK_LEAF; all below, and the order of messages
    int in_fd, out_fd;
    uint32_t count;
    bool was_full;
};

union control_room {
    struct cmsghdr header;
    char room[CMSG_SPACE(sizeof(int))];
};

static bool is_socket(int fd)
{
    int type = 0;
    socklen_t size = sizeof type;
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_SEQPACKET;
}

struct parking *parking_new(int in_fd, int out_fd)
{
    if (!is_socket(in_fd) || !is_socket(out_fd))
        return NULL;
    struct parking *p = new_struct(struct parking);
    lock_init(&p->lock, LOCK_RANK_LEAF, "parking");
    p->in_fd = in_fd;
    p->out_fd = out_fd;
    return p;
}

static int put(struct parking *p, uint64_t node, int fd)
{
    union control_room control = {0};
    struct iovec bytes = {&node, sizeof node};
    struct msghdr m = {.msg_iov = &bytes, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof control.room};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    return sendmsg(p->in_fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

// The first message; `flags`: MSG_PEEK leaves it there. The descriptor is the caller's; -1: it has none. -EMFILE: it has one,
// for which this process has no room.
static int get(struct parking *p, int flags, uint64_t *ret_node, int *ret_fd)
{
    union control_room control = {0};
    struct iovec bytes = {ret_node, sizeof *ret_node};
    struct msghdr m = {.msg_iov = &bytes, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof control.room};
    ssize_t n = recvmsg(p->out_fd, &m, flags | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0)
        return -errno;
    const struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    *ret_fd = -1;
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int)))
        memcpy(ret_fd, CMSG_DATA(c), sizeof(int));
    return m.msg_flags & MSG_CTRUNC ? -EMFILE : n == sizeof *ret_node ? 0 : -EBADMSG;
}

// Looks at each message once. An error: it had to stop, and what it didn't look at lies there as before.
static int sort_out(struct parking *p, bool (*is_wanted)(uint64_t node, void *context), void *context)
{
    uint32_t kept = 0;
    uint64_t end = (uint64_t)clock_ns();
    if (send(p->in_fd, &end, sizeof end, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        return -errno;
    for (;;) {
        cleanup(cleanup_close) int fd = -1, again = -1;
        uint64_t node = 0;
        int r = get(p, MSG_PEEK, &node, &fd);
        if (r < 0 && r != -EBADMSG)
            return r;
        // Where there is no room to put it in again first, room is what taking it out makes.
        bool is_kept = r == 0 && fd >= 0 && is_wanted(node, context);
        bool is_in = is_kept && put(p, node, fd) == 0;
        get(p, 0, &(uint64_t){0}, &again);
        if (r == 0 && fd < 0 && node == end)
            break;
        if (is_kept && !is_in)
            is_in = put(p, node, fd) == 0;
        kept += is_in;
    }
    p->count = kept;
    return 0;
}

// The next life has a new table, and nobody there wants it.
static void tell_unsorted(int result)
{
    if (result < 0)
        log_warn("unlinked files that were open may keep their bytes until the daemon's next life: %s", strerror(-result));
}

int parking_put(struct parking *p, uint64_t node, int fd)
{
    if (!p)
        return -EOPNOTSUPP;
    lock_acquire(&p->lock);
    int r = p->count < PARKING_MAX ? put(p, node, fd) : -EAGAIN;
    p->count += r == 0;
    bool is_first = r < 0 && !p->was_full;
    p->was_full = p->was_full || r < 0;
    lock_release(&p->lock);
    if (is_first)
        log_warn("more than %d open files without a name: further ones don't outlive this daemon (without passthrough)",
                 PARKING_MAX);
    return r;
}

static bool is_another(uint64_t node, void *context)
{
    return node != *(const uint64_t *)context;
}

void parking_remove(struct parking *p, uint64_t node)
{
    if (!p)
        return;
    lock_acquire(&p->lock);
    int r = p->count ? sort_out(p, is_another, &node) : 0;
    lock_release(&p->lock);
    tell_unsorted(r);
}

void parking_sort_out(struct parking *p, bool (*is_wanted)(uint64_t node, void *context), void *context)
{
    if (p)
        tell_unsorted(sort_out(p, is_wanted, context));
}
