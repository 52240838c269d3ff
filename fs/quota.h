// SPDX-License-Identifier: BSD-3-Clause
// quota: the mount's ledger (meta/ledger.h) and its home and group spaces, which it asks what inodes cost. One ledger
// for all of them: a user's limit holds for his home and his groups' folders together.
#pragma once
#include "fs/fs.h"

// After the spaces are open; fs->ledger stays NULL where none of them counts, or with quota=off. -errno with a line.
int quota_open(struct fs *fs, char **ret_why);
// At the mount's end, when no request is in work.
void quota_close(struct fs *fs);
