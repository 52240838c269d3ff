// SPDX-License-Identifier: BSD-3-Clause
// opened: a file node open in one of the kernel's modes; what the spaces share of opening and reading.
// A space finds what is behind a node (`struct opened`), with the rights that count; here it becomes a
// handle: by passthrough where the kernel can read it by itself, else through the daemon.
// Any worker or librarian; nothing here waits but for the disk.
#pragma once
#include "cache/archive.h"
#include "fs/fs.h"

// What was opened for one handle.
struct opened {
    int fd;                // of a local file (the archive's, of a member); -1
    struct cached *cached; // an object at another origin; NULL
    bool can_pass;         // the kernel may read fd by itself
    bool is_member;
    struct archive_member member;
    int64_t size_bytes;
    uint64_t artifact;     // hashes, as in struct file_node
    uint64_t pages;
};

void opened_release(struct opened *o);
// Opens an object by the cache. -EINPROGRESS with op->source set, -errno with *ret_why allocated.
int opened_cached(struct op *op, const struct object *object, struct opened *ret_opened, char **ret_why);
// The hash of a version of an object: the same in every life. Without a validator its time has to do.
uint64_t object_artifact(const struct object *object, struct text validator, int64_t size_bytes);
// Of a local file that was opened: which it is, and which bytes of it.
void opened_identify(struct opened *o, const struct stat *st);

// Makes a handle of it and answers the op. Takes what *o holds, also where it fails.
// -ESTALE: the node is open in another version.
int opened_reply(struct op *op, struct opened *o);
// A request that came again after a death: answers it if what its first run made is still there.
bool opened_reply_again(struct op *op);
int opened_drop(struct op *op);

// Opens again what a handle of an earlier life had open, with the daemon's own rights: they counted
// at open. -EINPROGRESS, -errno.
typedef int opened_reopen(struct op *op, const struct file_node *n, struct opened *ret_opened);
// -ESTALE: another version took its place; then no name leads to the node any more.
int opened_read(struct op *op, opened_reopen *reopen);
