// SPDX-License-Identifier: BSD-3-Clause
// identity: who a thread is to the file system, for as long as it acts for somebody else.
// object.c's own; others use object.h. Any thread, each for itself only.
#pragma once
#include "cache/object.h"

struct identity {
    uid_t fsuid;
    gid_t fsgid;
    gid_t *groups;
    size_t group_count;
    uint64_t effective; // capabilities
};

// Makes this thread the caller: his fsuid, fsgid and supplementary groups (with `change_ids`; else
// its own are taken to be his), and, unless he is root, without the capabilities that open files.
// What it is already is left alone. *ret_groups_known: his groups could be found out. After success
// *ret_was must be given to identity_restore. -EACCES: can't be; then nothing is changed.
int identity_assume(const struct caller *caller, bool change_ids, struct identity *ret_was,
                    bool *ret_groups_known);
// Makes this thread what it was, exactly, or ends the process.
void identity_restore(struct identity *was);
