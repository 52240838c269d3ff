// SPDX-License-Identifier: BSD-3-Clause
// xattr: answering getxattr and listxattr from a function that gives all attributes of a thing.
#pragma once
#include "base/buffer.h"
#include "fs/op.h"

// The attributes of one thing, collected or searched for one name.
struct xattrs {
    struct text prefix;  // of all names: "user.butler."
    struct text wanted;  // without the prefix; empty: list all names
    bool is_found;
    struct buffer value; // of the wanted one
    struct buffer names; // NUL-separated
};

void xattr_add(struct xattrs *x, const char *name, struct text value);
static inline bool xattr_is_wanted(const struct xattrs *x, const char *name)
{
    return x->wanted.size_bytes == 0 || text_equal(x->wanted, text_of(name));
}

// Gives all attributes, or at least the wanted one. -EINPROGRESS, -errno.
typedef int xattr_collect(struct op *op, struct xattrs *x);
int xattr_get(struct op *op, struct text prefix, xattr_collect *collect); // op->name, size
int xattr_list(struct op *op, struct text prefix, xattr_collect *collect);
