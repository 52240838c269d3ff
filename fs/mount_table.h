// SPDX-License-Identifier: BSD-3-Clause
// mount_table: what is mounted where, from /proc/self/mountinfo. Reading it touches no mount, so it
// never waits for one.
#pragma once
#include <stdint.h>
#include <sys/types.h>

#include "base/text.h"

#define MOUNT_TYPE "fuse.butlerfs"

struct mount_entry {
    int id, parent;
    dev_t dev;
    uid_t owner;      // user_id= of a FUSE mount; (uid_t)-1: none
    bool is_shared;   // mounts and unmounts below it reach other namespaces
    char *mountpoint; // absolute
    char *flags;      // "rw,nosuid,relatime"
    char *type;
    char *source;
};

struct mount_table {
    struct mount_entry *entries;
    uint32_t count;
};

int mount_table_read(struct mount_table *ret_table); // -errno
// Lines that are not well-formed are left out.
void mount_table_parse(struct text mountinfo, struct mount_table *ret_table);
void mount_table_release(struct mount_table *t);
// The topmost mount at exactly this place; NULL.
const struct mount_entry *mount_table_at(const struct mount_table *t, const char *mountpoint);
// The mount that shows `path` (absolute, clean): the topmost of the deepest place; NULL.
const struct mount_entry *mount_table_holding(const struct mount_table *t, const char *path);
