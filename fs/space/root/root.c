// SPDX-License-Identifier: BSD-3-Clause
// root.c: the root of a configured mount: a folder whose entries are the other spaces, in the
// configuration's order. It knows everything it needs, so nothing here ever waits.
#include <errno.h>

#include "base/log.h"
#include "fs/space/space.h"

static void folder_attr(const struct fs *fs, uint64_t ino, struct fs_attr *ret_attr)
{
    *ret_attr = (struct fs_attr){
        .mode = S_IFDIR | 0555,
        .uid = geteuid(),
        .gid = getegid(),
        .ino = ino,
        .mtime_unix_ns = fs->start_ns,
    };
}

static void space_attr(struct space *s, uint64_t ino, struct fs_attr *ret_attr)
{
    s->ops->root_attr(s, ret_attr);
    ret_attr->ino = ino;
}

// The node of a space's root folder, counting one look-up.
static uint64_t space_node(struct space *s)
{
    return state_named(s->fs->state, STATE_ROOT, text_of(s->options->name), NODE_FOLDER, s->number);
}

static uint64_t space_ino(const struct space *s, uint64_t root_ino)
{
    return state_ino(root_ino, text_of(s->options->name));
}

static int root_lookup(struct op *op)
{
    struct fs *fs = op->fs;
    for (uint16_t i = 1; i < fs->space_count; i++) {
        struct space *s = fs->spaces[i];
        if (!text_equal(op->name, text_of(s->options->name)))
            continue;
        struct fs_attr attr;
        space_attr(s, space_ino(s, STATE_ROOT), &attr);
        return fs_reply_entry(op, space_node(s), &attr);
    }
    return fs_reply_negative(op);
}

static int root_getattr(struct op *op)
{
    struct fs_attr attr;
    folder_attr(op->fs, STATE_ROOT, &attr);
    return fs_reply_attr(op, &attr);
}

static int root_opendir(struct op *op)
{
    struct fuse_file_info fi = {.cache_readdir = 1, .keep_cache = 1};
    fuse_reply_open(op->req, &fi);
    return 0;
}

static uint64_t root_child_node(void *context, struct fs_attr *attr)
{
    (void)attr;
    return space_node(context);
}

// Cookies: 1 ".", 2 "..", 2 + number of the space.
static int root_readdir(struct op *op)
{
    struct fs *fs = op->fs;
    struct dirent_buffer b = {.op = op, .room_bytes = op->size_bytes < 65536 ? op->size_bytes : 65536};
    struct fs_attr attr;
    b.data = memory_new(b.room_bytes);
    folder_attr(fs, STATE_ROOT, &attr);
    bool has_room = true;
    for (uint64_t cookie = (uint64_t)op->offset + 1; has_room && cookie <= 2; cookie++)
        has_room = fs_dirent(&b, cookie == 1 ? "." : "..", cookie, &attr, NULL, NULL);
    uint64_t first = op->offset > 2 ? (uint64_t)op->offset - 1 : 1;
    for (uint64_t i = first; has_room && i < fs->space_count; i++) {
        struct space *s = fs->spaces[i];
        space_attr(s, space_ino(s, STATE_ROOT), &attr);
        has_room = fs_dirent(&b, s->options->name, i + 2, &attr, root_child_node, s);
    }
    fuse_reply_buf(op->req, b.data, b.size_bytes);
    free(b.data);
    return 0;
}

static int root_releasedir(struct op *op)
{
    fuse_reply_err(op->req, 0);
    return 0;
}

static int root_getxattr(struct op *op)
{
    (void)op;
    return -ENODATA;
}

static int root_listxattr(struct op *op)
{
    if (op->size_bytes)
        fuse_reply_buf(op->req, NULL, 0);
    else
        fuse_reply_xattr(op->req, 0);
    return 0;
}

static uint64_t root_fresh(struct space *s)
{
    (void)s;
    return 0;
}

static void root_free(struct space *s)
{
    free(s);
}

static const struct space_ops root_ops = {
    .kind = "root",
    .free = root_free,
    .lookup = root_lookup,
    .getattr = root_getattr,
    .opendir = root_opendir,
    .readdir = root_readdir,
    .releasedir = root_releasedir,
    .getxattr = root_getxattr,
    .listxattr = root_listxattr,
    .fresh = root_fresh,
};

struct space *space_new_root(struct fs *fs)
{
    struct space *s = new_struct(struct space);
    *s = (struct space){.ops = &root_ops, .fs = fs};
    return s;
}
