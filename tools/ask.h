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

// Asks about what is open in `fd`, in this process: who holds it holds what it asks for.
int ask_open(int fd, const struct doc *request, struct doc **ret_answer, char **ret_why);
// The answer, "ok" or not. -errno with one line if there is none.
int ask(const struct target *t, struct doc *request, struct doc **ret_answer, char **ret_why);
// As ask(), of the mount that shows `path`; an answer that isn't "ok" is the error it says.
int ask_mount(const char *path, struct doc *request, struct doc **ret_answer, char **ret_why);
// One question of many about an opened folder, in this process: who interrupts it ends it. -errno.
int ask_opened(int fd, const struct doc *request, struct doc **ret_answer);
// As ask(), of a verb about t->path, asked of the nearest folder that is there, whatever the path is: the
// request gets the `name` in that folder, and what is `below` the name.
int ask_about(const struct target *t, struct doc *request, struct doc **ret_answer, char **ret_why);
