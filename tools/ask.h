// SPDX-License-Identifier: BSD-3-Clause
// ask: one question to the daemon of a mount, by whichever way gets an answer: the administrators'
// socket, or the ioctl on the mount itself (everybody else, and who sees only the mount). Each way is tried by a child process under a time
// limit: a request that the daemon never answers can't be called back, and must not hold the operator.
#pragma once
#include <sys/types.h>

#include "base/doc.h"

// The mount that shows a path, found without touching it.
struct target {
    char *path;       // absolute
    char *mountpoint;
    char *source;
    dev_t dev;
    uid_t owner;      // who mounted it
};

// -ENOENT with the line if no butlerfs is mounted there.
int target_find(const char *path, struct target *ret_target, char **ret_why);
void target_release(struct target *t);

// The answer, "ok" or not. -errno with one line if there is none.
int ask(const struct target *t, const struct doc *request, struct doc **ret_answer, char **ret_why);
