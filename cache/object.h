// SPDX-License-Identifier: BSD-3-Clause
// object: what is known of one artifact, and how its bytes are reached; cache's door. Today an
// artifact is a local file, opened where it is; objects at other origins follow.
//
// A local artifact is opened as the caller, with his uid and groups, and only if it is a regular
// file on a file system that holds files (not proc, sys and their like): a registry row must never
// open a door that was closed to the reader. With `as_owner` the daemon's own rights are used, and
// then only below one of `roots`, wherever symlinks lead.
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

struct caller {
    uid_t uid;
    gid_t gid;
    pid_t pid;            // for its supplementary groups; 0: from another pid namespace, unknown;
                          // the daemon itself: gettid()
};

struct object_access {
    bool as_owner;
    const char *const *roots; // absolute; NULL-terminated; only for as_owner
    bool can_change_ids;      // the daemon may act as others (CAP_SETUID, CAP_SETGID)
    uid_t own_uid;            // the daemon's
};

// Opens the file read-only, close-on-exec, not blocking on anything that isn't a regular file, nor
// for a lease, and gives its fstat. A caller whose groups are not known has none.
// -ENOENT: it is gone; -EACCES: not for this caller (also: a device, a folder, outside the roots);
// -EAGAIN: another process holds a lease on it, or its bytes must be fetched first: again in a
// moment; -EMFILE, -ENFILE, -ENOMEM; -EREMOTEIO: its file system failed. *ret_why: a static string
// for the log.
// Changes the calling thread's fsuid, fsgid, groups and effective capabilities for the time of the
// call, no other thread's; if they can't be put back, the process ends. (Changing them makes the
// kernel forget the thread's parent-death signal and the process undumpable.)
int object_open_local(const char *path, const struct object_access *access,
                      const struct caller *caller, int *ret_fd, struct stat *ret_stat,
                      const char **ret_why);
// Its size and mtime with the daemon's own rights (for records without a size). The same files, the
// same errors.
int object_stat_local(const char *path, struct stat *ret_stat);
