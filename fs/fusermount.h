// SPDX-License-Identifier: BSD-3-Clause
// fusermount: mounting without privileges, by the set-uid fusermount3; mount.c's own.
#pragma once
#include "fs/options.h"

int fusermount_mount(const struct options *o, int *ret_fuse_fd, char **ret_why);
int fusermount_remove(const char *mountpoint); // lazily
// The -o list it is given; appended.
struct buffer;
void fusermount_options(const struct options *o, struct buffer *to);
