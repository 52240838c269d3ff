// SPDX-License-Identifier: BSD-3-Clause
// space: one source as a part of the mount: a Butler repository, later a bucket, a home tree; and the
// root of a configured mount, whose entries are the others. The verbs are FUSE's own, each running an
// op (op.h): 0 when it replied, -EINPROGRESS to be run again when op->want is known, -errno.
// Verbs may be called by any worker or librarian at any time, several at once.
#pragma once
#include "base/doc.h"
#include "fs/fs.h"

struct space_ops {
    const char *kind;
    void (*free)(struct space *s);
    int (*lookup)(struct op *op);     // op->node, op->name
    int (*getattr)(struct op *op);    // op->node
    int (*readlink)(struct op *op);
    int (*open)(struct op *op);       // op->flags
    int (*read)(struct op *op);       // op->fh, offset, size
    int (*release)(struct op *op);    // op->fh
    int (*opendir)(struct op *op);
    int (*readdir)(struct op *op);    // op->fh, offset, size, is_plus
    int (*releasedir)(struct op *op);
    int (*getxattr)(struct op *op);   // op->name, size; "user." names only
    int (*listxattr)(struct op *op);  // op->size
    // The space's root as an entry of a configured mount.
    void (*root_attr)(struct space *s, struct fs_attr *ret_attr);
    uint64_t (*fresh)(struct space *s); // for op->fresh
    void (*status)(struct space *s, struct doc *map);
    void (*refresh)(struct space *s);
    // After a take-over: what the process must hold for a handle of an earlier life.
    void (*adopt)(struct space *s, uint64_t fh, const struct handle *h);
};

struct space {
    const struct space_ops *ops;
    uint16_t number;
    struct fs *fs;
    const struct space_options *options; // NULL: the root of a configured mount
};

// Opens a Butler space. -errno with *ret_why.
int space_open_butler(struct fs *fs, uint16_t number, const struct space_options *options,
                      struct catalogue *catalogue, struct space **ret_space, char **ret_why);
struct space *space_new_root(struct fs *fs);
