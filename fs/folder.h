// SPDX-License-Identifier: BSD-3-Clause
// folder: reading folders, as far as spaces do it alike. A handle lists one generation of a listing, which
// its space pins; the generation stands in the state, so that reading goes on after a take-over.
// Cookies given to the kernel: 1 and 2 follow "." and "..", an entry's is its listing's + FOLDER_DOTS.
#pragma once
#include "fs/fs.h"

#define FOLDER_DOTS 2

// Unpins what the handle listed.
typedef void folder_unpin(struct op *op, struct local_handle *local);

// A resent OPENDIR whose first run made a handle is answered with that one. true: it was.
bool folder_open_again(struct op *op, folder_unpin *unpin);
// Makes the handle of a listing of that generation and epoch, and answers. -errno: it is unpinned.
int folder_open(struct op *op, struct local_handle *local, uint64_t generation, uint64_t epoch,
                folder_unpin *unpin);
void folder_close(struct op *op, uint64_t fh, folder_unpin *unpin);

// An empty answer to a READDIR, as large as asked for and allowed; the caller frees its data.
void folder_dirents(struct op *op, struct dirent_buffer *ret_to);
// "." and "..", whose nodes the kernel knows; `attr`: the folder's. *ret_cookie: where its listing goes on.
// false: no room.
bool folder_dots(struct dirent_buffer *to, const struct fs_attr *attr, uint64_t *ret_cookie);
