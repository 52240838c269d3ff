// SPDX-License-Identifier: BSD-3-Clause
// identity: what a thread makes in a home belongs to the caller from the first instant: it makes it with the
// caller's ids and umask. Rights are the daemon's throughout: the kernel has decided already.
#pragma once
#include <stdbool.h>
#include <sys/types.h>

// Once for each thread that serves homes: its rights, and a umask of its own. Later calls are free.
void identity_prepare(void);
// -EPERM: the ids could not be taken; then nothing is changed. Between the two nothing waits for anybody.
int identity_take(uid_t uid, gid_t gid, mode_t umask);
void identity_leave(void);
// As identity_take, with the groups `pid` has, and without the right to give set-group-id bits away.
int identity_take_all(uid_t uid, gid_t gid, const gid_t *groups, int group_count);
void identity_leave_all(void);
