// SPDX-License-Identifier: BSD-3-Clause
// control: questions and orders to a running daemon, by two ways into one table of verbs:
// the control socket (administrators; SO_PEERCRED says who) and an ioctl on any opened path of the
// mount (users; the kernel vouches for the caller, and it works where only the mount is seen).
// Verbs about a path are asked by the second way only: what was opened is what they are about, so that
// the kernel has seen to it that the caller may.
// A request is one JSON map {"verb": "...", ...}, the answer one JSON map with "ok" and, when it is
// false, "error". On the socket each is one line of at most 64 KiB / no bound, then the server closes.
#pragma once
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/types.h>

#include "base/buffer.h"
#include "base/doc.h"

struct op;
struct control_caller;

enum control_who { CONTROL_ANYONE, CONTROL_ADMIN }; // admin: root or whoever mounted

struct control_verb {
    const char *name;
    enum control_who who;
    const char *help;
    // Fills `reply`; -errno with an "error" text put by it (or the dispatcher puts strerror).
    // May block up to the daemon's time limit; runs on the control thread.
    int (*run)(const struct doc *request, struct doc *reply, void *context);
    // Instead of it, of a verb about a path: op->node is what was opened. Runs where requests run and
    // may not block; -EINPROGRESS parks the op (op.h) and runs the verb again, with an empty reply.
    int (*run_at)(struct op *op, const struct doc *request, struct doc *reply);
    // Instead of both: as `run`, of a verb whose answer depends on who asks.
    int (*run_for)(const struct control_caller *caller, const struct doc *request, struct doc *reply, void *context);
};

struct control;

// Who asks: by the socket `op` is NULL, by the ioctl it is the request.
struct control_caller {
    uid_t uid;
    uid_t owner; // of the mount
    struct op *op;
};

// Answers one request; what is wrong is in the answer. 0; -EINPROGRESS: there is none yet, park it.
int control_answer(const struct control_verb *verbs, void *context, const struct control_caller *caller,
                   struct text request, struct buffer *reply);
// Serves `listen_fd` on a thread named "control". `verbs` ends with a NULL name.
int control_start(int listen_fd, uid_t owner, const struct control_verb *verbs, void *context,
                  struct control **ret_control);
void control_stop(struct control *c);

// The ioctl: `size` bytes of request in `text` (JSON), the answer comes back in pages: the same
// request again with `offset` > 0 gives the rest of the answer made for offset 0's caller thread.
#define CONTROL_IOCTL_BYTES 8192
struct control_ioctl {
    uint32_t size_bytes;   // in: of the request; out: of this page
    uint32_t offset_bytes; // in: where the page begins
    uint32_t total_bytes;  // out: of the whole answer
    uint32_t reserved;
    char text[CONTROL_IOCTL_BYTES];
};
#define CONTROL_IOCTL _IOWR('b', 1, struct control_ioctl)

// control_socket.c, which needs nothing of the rest of fs:
// Path of the socket of the mount with device number `dev`, made by `owner`:
// /run/butlerfs/MAJOR:MINOR for root, /run/user/UID/butlerfs/... for others, where there is no such
// folder /tmp/butlerfs-UID/.... Not $XDG_RUNTIME_DIR: root has to find it too. Made by the command,
// inherited by supervisor and daemon; removed by the supervisor.
void control_socket_path(dev_t dev, uid_t owner, char *ret_path, size_t room_bytes);
// Makes the socket there (its folder too; 0600: administrators only) and listens. A folder that
// somebody else could write is refused. -errno with *ret_why.
int control_listen(const char *path, int *ret_fd, char **ret_why);
// For when there is no place for one: a socket that nobody reaches, to keep the daemon's numbers.
int control_listen_nowhere(void);
