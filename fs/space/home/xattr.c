// SPDX-License-Identifier: BSD-3-Clause
// xattr.c: extended attributes. Users see their own (user.*) and ACLs; what else the file system below keeps
// with a file (trusted.*, security.*) is neither shown nor set.
#include <errno.h>
#include <linux/limits.h>
#include <stdio.h>
#include <sys/xattr.h>

#include "base/buffer.h"
#include "fs/space/home/home.h"
#include "fs/space/home/identity.h"

#define GROUPS_MAX 1024

// An O_PATH descriptor's attributes are reached by this name of it, which leads to that very inode.
struct inode_path {
    char text[32];
};

static int path_of(struct op *op, struct held *held, struct inode_path *ret_path)
{
    int r = home_hold(op, op->node, held);
    if (r == 0)
        snprintf(ret_path->text, sizeof ret_path->text, "/proc/self/fd/%d", held->fd);
    return r;
}

static int reply(struct op *op, ssize_t n, const char *data)
{
    if (n < 0)
        return (int)n;
    if (op->size_bytes == 0)
        fuse_reply_xattr(op->req, (size_t)n);
    else if ((size_t)n > op->size_bytes)
        return -ERANGE;
    else
        fuse_reply_buf(op->req, data, (size_t)n);
    return 0;
}

int home_getxattr(struct op *op)
{
    HELD_CLEANUP held = {0};
    struct inode_path path;
    int r = path_of(op, &held, &path);
    if (r < 0)
        return r;
    char *data = op->size_bytes ? session_scratch(op->size_bytes) : NULL;
    ssize_t n = getxattr(path.text, op->name.data, data, op->size_bytes);
    return reply(op, n < 0 ? -errno : n, data);
}

static bool is_shown(const char *name)
{
    return strncmp(name, "user.", 5) == 0 || strncmp(name, "system.posix_acl_", 17) == 0;
}

int home_listxattr(struct op *op)
{
    HELD_CLEANUP held = {0};
    BUFFER_CLEANUP shown = {0};
    struct inode_path path;
    int r = path_of(op, &held, &path);
    if (r < 0)
        return r;
    char *all = session_scratch(XATTR_LIST_MAX);
    ssize_t n = listxattr(path.text, all, XATTR_LIST_MAX);
    if (n < 0)
        return -errno;
    for (char *name = all; name < all + n; name += strlen(name) + 1)
        if (is_shown(name))
            buffer_append(&shown, name, strlen(name) + 1);
    return reply(op, (ssize_t)shown.size_bytes, shown.data);
}

// Setting an ACL may take a set-group-id bit away, which depends on the caller's groups: the file system below
// is to see them.
static int set_acl(struct op *op, const char *path)
{
    const struct fuse_ctx *ctx = fuse_req_ctx(op->req);
    gid_t groups[GROUPS_MAX];
    int count = fuse_req_getgroups(op->req, GROUPS_MAX, groups);
    count = count < 0 ? 0 : count < GROUPS_MAX ? count : GROUPS_MAX;
    int r = identity_take_all(ctx->uid, ctx->gid, groups, count);
    if (r < 0)
        return r;
    r = setxattr(path, op->name.data, op->change.data, op->size_bytes, op->flags) < 0 ? -errno : 0;
    identity_leave_all();
    return r;
}

// What XATTR_CREATE finds there may be what an earlier life put there.
static bool is_there(const struct op *op, const char *path)
{
    char *data = session_scratch(op->size_bytes + 1);
    ssize_t n = getxattr(path, op->name.data, data, op->size_bytes + 1);
    return n == (ssize_t)op->size_bytes && memcmp(data, op->change.data, op->size_bytes) == 0;
}

// What users' attributes take is not counted, so it has a bound that any file system below could have: without one,
// some (xfs, btrfs) keep as much as anybody likes. `path`: of the inode. -ENOSPC, as ext4 says.
#define USER_BYTES_MAX ((ssize_t)64 << 10) // of one inode's values; and of its names, which listxattr(2) could not tell

static int check_room(const struct op *op, const char *path)
{
    ssize_t sum = (ssize_t)op->size_bytes;
    bool is_new = true;
    if (!text_begins(op->name, TEXT("user.")) || !op->fs->ledger)
        return 0;
    char *all = session_scratch(XATTR_LIST_MAX);
    ssize_t n = listxattr(path, all, XATTR_LIST_MAX);
    if (n < 0)
        return errno == E2BIG || errno == ERANGE ? -ENOSPC : errno == EOPNOTSUPP ? 0 : -errno;
    for (char *name = all; name < all + n; name += strlen(name) + 1) {
        bool is_this = text_equal(text_of(name), op->name);
        is_new = is_new && !is_this;
        if (!text_begins(text_of(name), TEXT("user.")) || is_this)
            continue;
        ssize_t size = getxattr(path, name, NULL, 0);
        sum += size > 0 ? size : 0;
    }
    bool is_full = is_new && n + (ssize_t)op->name.size_bytes >= XATTR_LIST_MAX;
    return sum > USER_BYTES_MAX || is_full ? -ENOSPC : 0;
}

int home_setxattr(struct op *op)
{
    HELD_CLEANUP held = {0};
    struct inode_path path;
    struct once once;
    int r = path_of(op, &held, &path);
    if (r < 0)
        return r;
    if (!once_begin(op, 0, &once))
        return once_answer(op, &once);
    r = check_room(op, path.text);
    if (r == 0 && text_begins(op->name, TEXT("system.posix_acl_")))
        r = set_acl(op, path.text);
    else if (r == 0 && setxattr(path.text, op->name.data, op->change.data, op->size_bytes, op->flags) < 0)
        r = -errno;
    if (r == -EEXIST && once.was_begun && is_there(op, path.text))
        r = 0;
    return once_end_plain(&once, r);
}

int home_removexattr(struct op *op)
{
    HELD_CLEANUP held = {0};
    struct inode_path path;
    struct once once;
    int r = path_of(op, &held, &path);
    if (r < 0)
        return r;
    if (!once_begin(op, 0, &once))
        return once_answer(op, &once);
    r = removexattr(path.text, op->name.data) < 0 ? -errno : 0;
    if (r == -ENODATA && once.was_begun)
        r = 0;
    return once_end_plain(&once, r);
}
