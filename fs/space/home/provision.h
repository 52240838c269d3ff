// SPDX-License-Identifier: BSD-3-Clause
// provision: homes and group folders that appear when they are first looked for: in a home space the folder of a user,
// by whom it is named, in a group space that of a group, by one of its members; only where a rule allows their number.
// Others find nothing, and nothing is made. Also by order of an administrator (butlerfsctl home create).
//
//     lookup ─▶ not there ─▶ may the caller want it? ─▶ a job: the thread "provision/N" asks who the name is (NSS, which
//     may take its time), makes the folder under a private name, fills it, gives it away, renames it into place
//
// One thread a space; a job at a time. Any thread may ask.
#pragma once
#include "fs/space/home/home.h"

struct provision;

// Where the space's options allow any; else h->provision stays NULL. Removes what a death left half made, on its thread.
int provision_start(struct home *h);
void provision_stop(struct provision *p); // NULL is fine
// A look-up below the space's root that found nothing: -ENOENT, or -EINPROGRESS: park it and look again.
int provision_look(struct op *op);
// By order: makes it, waits for at most `limit_ns`. -EEXIST, -ENOENT (no such user), -EPERM (no rule), -ETIMEDOUT.
int provision_order(struct provision *p, struct text name, int64_t limit_ns);

// ---- provision_make.c -------------------------------------------------------------------------

struct provision_plan {
    struct home *home;
    const char *name; // of the folder
    uid_t uid;
    gid_t gid;
    mode_t mode;
    const char *skeleton; // NULL: empty
    bool is_group;        // gets a default ACL by which its members may write what is made in it
};
// -EEXIST: it is there. What can't be finished is removed again.
int provision_make(const struct provision_plan *plan);
void provision_clean(struct home *h); // what was left half made
