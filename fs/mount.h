// SPDX-License-Identifier: BSD-3-Clause
// mount: making, finding and leaving mounts.
#pragma once
#include "fs/options.h"

// Mounts type fuse.butlerfs at o->mountpoint and gives the /dev/fuse descriptor. As root by
// mount(2), else through fusermount3. -errno with one clear line. A dead butlerfs mount (ENOTCONN)
// at that place is taken away first.
int mount_make(const struct options *o, int *ret_fuse_fd, char **ret_why);
// Changes the flags of the mount at o->mountpoint, as o->is_remount says.
int mount_remount(const struct options *o, char **ret_why);
// Lazily.
int mount_remove(const char *mountpoint);
// Device number of the mount at `mountpoint` from /proc/self/mountinfo (touches no mount): the topmost.
int mount_find(const char *mountpoint, dev_t *ret_dev, char **ret_source, char **ret_type);
// Puts the process into a mount namespace of its own that follows the outer one but doesn't hold
// the mount itself, so that the daemon can't wait for itself. -EPERM: not possible (unprivileged).
// -EOPNOTSUPP: mounts here are private (as in many containers): a namespace would keep every mount of
// this moment for ever, ours of other daemons among them, and no unmount would end them.
int mount_hide(const char *mountpoint);
bool mount_can_hide(void); // whether mount_hide will work
// Whether `path` lies inside `mountpoint` (both resolved as far as they exist, without touching it).
bool mount_holds(const char *mountpoint, const char *path);
