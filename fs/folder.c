// SPDX-License-Identifier: BSD-3-Clause
#include "fs/folder.h"

#include "base/buffer.h"
#include "fs/space/space.h"

#define READDIR_BYTES_MAX (1u << 20)

void folder_close(struct op *op, uint64_t fh, folder_unpin *unpin)
{
    struct handle was;
    struct local_handle local;
    bool is_local = fs_local_take(op->fs, fh, &local); // before its number may be another's
    state_close_handle(op->fs->state, fh, &was, NULL, NULL);
    if (is_local && local.has_listing)
        unpin(op, &local);
}

static void opendir_reply(struct op *op, uint64_t fh, uint64_t epoch, folder_unpin *unpin)
{
    struct named_node n;
    struct fuse_file_info fi = {.fh = fh, .cache_readdir = 1};
    // What the kernel holds of this folder's entries may stay if it was read in the same epoch.
    fi.keep_cache = state_get_named(op->fs->state, op->node, &n) && n.cached_epoch == epoch;
    state_set_cached_epoch(op->fs->state, op->node, epoch);
    if (fuse_reply_open(op->req, &fi) < 0) // interrupted: the kernel will not release it
        folder_close(op, fh, unpin);
}

bool folder_open_again(struct op *op, folder_unpin *unpin)
{
    struct handle had;
    uint64_t fh = op->is_resent ? state_find_handle(op->fs->state, op->unique) : 0;
    if (!fh || !state_get_handle(op->fs->state, fh, &had))
        return false;
    opendir_reply(op, fh, had.epoch, unpin);
    return true;
}

int folder_open(struct op *op, struct local_handle *local, uint64_t generation, uint64_t epoch,
                folder_unpin *unpin)
{
    uint64_t fh;
    int r = state_open_handle(op->fs->state, HANDLE_FOLDER, op->node, op->unique, NULL, NULL, &fh);
    if (r < 0) {
        unpin(op, local);
        return r;
    }
    state_set_listing(op->fs->state, fh, generation, epoch);
    fs_local_put(op->fs, fh, local);
    opendir_reply(op, fh, epoch, unpin);
    return 0;
}

void folder_dirents(struct op *op, struct dirent_buffer *ret_to)
{
    size_t room = op->size_bytes < READDIR_BYTES_MAX ? op->size_bytes : READDIR_BYTES_MAX;
    *ret_to = (struct dirent_buffer){.op = op, .data = memory_new(room), .room_bytes = room};
}

bool folder_dots(struct dirent_buffer *to, const struct fs_attr *attr, uint64_t *ret_cookie)
{
    struct named_node n = {0}, up = {0};
    const struct op *op = to->op;
    struct fs_attr parent = *attr;
    state_get_named(op->fs->state, op->node, &n);
    if (!state_get_named(op->fs->state, n.parent, &up))
        up = n;
    parent.ino = up.ino;
    *ret_cookie = op->offset > FOLDER_DOTS ? (uint64_t)op->offset - FOLDER_DOTS : 0;
    if (op->offset < 1 && !fs_dirent(to, ".", 1, attr, NULL, NULL))
        return false;
    return op->offset >= 2 || fs_dirent(to, "..", 2, &parent, NULL, NULL);
}
