// SPDX-License-Identifier: BSD-3-Clause
// xattr.c: see xattr.h.
#include "fs/xattr.h"

#include <errno.h>

static void xattrs_release(struct xattrs *x)
{
    buffer_release(&x->value);
    buffer_release(&x->names);
}

void xattr_add(struct xattrs *x, const char *name, struct text value)
{
    if (x->wanted.size_bytes == 0) {
        buffer_append_text(&x->names, x->prefix);
        buffer_append(&x->names, name, strlen(name) + 1);
    } else if (text_equal(x->wanted, text_of(name))) {
        x->is_found = true;
        buffer_append_text(&x->value, value);
    }
}

static int xattr_reply(struct op *op, const struct buffer *b)
{
    if (op->size_bytes == 0) {
        fuse_reply_xattr(op->req, b->size_bytes);
        return 0;
    }
    if (b->size_bytes > op->size_bytes)
        return -ERANGE;
    fuse_reply_buf(op->req, b->data, b->size_bytes);
    return 0;
}

int xattr_get(struct op *op, struct text prefix, xattr_collect *collect)
{
    if (!text_begins(op->name, prefix) || op->name.size_bytes == prefix.size_bytes)
        return -ENODATA;
    cleanup(xattrs_release) struct xattrs x = {
        .prefix = prefix, .wanted = text_slice(op->name, prefix.size_bytes, op->name.size_bytes)};
    int r = collect(op, &x);
    if (r < 0)
        return r;
    return x.is_found ? xattr_reply(op, &x.value) : -ENODATA;
}

int xattr_list(struct op *op, struct text prefix, xattr_collect *collect)
{
    cleanup(xattrs_release) struct xattrs x = {.prefix = prefix};
    int r = collect(op, &x);
    return r < 0 ? r : xattr_reply(op, &x.names);
}
