// SPDX-License-Identifier: BSD-3-Clause
// session: our side of the FUSE connection: libfuse's session with a receive loop of our own, so that a
// later daemon can go on where an earlier one died: the INIT request of the
// first life is kept in the state and given to libfuse again, then the kernel is asked to send every
// unanswered request once more. Requests that come again are told apart (`is_resent`), and one that
// was in work at two crashes is answered EIO.
#pragma once
#include <fuse_lowlevel.h>

#include "fs/state.h"

struct session;

// What the kernel can do, from its INIT request.
struct session_kernel {
    uint32_t major, minor;  // of the protocol
    uint64_t flags;         // FUSE_* of the INIT request
    bool can_resend;        // FUSE_HAS_RESEND: deaths can be taken over
    bool can_epoch;         // FUSE_NOTIFY_INC_EPOCH is known
};

// Makes the session on the mounted descriptor `fuse_fd` and carries out INIT (`ops->init` runs in
// this call). -errno, said on the log.
int session_open(int fuse_fd, struct state *state, const struct fuse_lowlevel_ops *ops, void *context,
                 struct session **ret_session);
const struct session_kernel *session_kernel(const struct session *s);
struct fuse_session *session_fuse(struct session *s);

// Receives with `workers` threads until the mount is gone or session_stop(); returns when all have
// finished what they were answering. `is_written`: users may write. *ret_unmounted: the mount is gone.
int session_serve(struct session *s, uint32_t workers, bool is_written, bool *ret_unmounted);
void session_stop(struct session *s); // any thread; async-signal-safe

// Invalidates every entry the kernel holds. -EOPNOTSUPP.
int session_increment_epoch(struct session *s);

// Registers an open file with the kernel for passthrough: its id (> 0), or -errno (-EPERM without
// CAP_SYS_ADMIN in the first user namespace). The descriptor may be closed after it.
int session_backing_open(struct session *s, int fd);
void session_backing_close(struct session *s, int32_t backing_id);

// The request this thread works on.
void session_request_set(uint64_t unique, bool is_resent);
uint64_t session_request_unique(void);
bool session_request_is_resent(void);

// Memory of this thread for one answer: kept from request to request, freed when the worker ends.
char *session_scratch(size_t size_bytes);
