// SPDX-License-Identifier: BSD-3-Clause
// folder.c: reading folders of a Butler space. A handle lists one generation of a key set, which it
// pins; the generation stands in the state, so that a listing goes on after a take-over.
//
// Cookies given to the kernel: 1 and 2 follow "." and "..", an entry's is meta's cookie + 2.
#include <errno.h>

#include "base/log.h"
#include "fs/space/butler/butler.h"

#define DOT_COOKIES 2

static void folder_drop(struct op *op, uint64_t fh)
{
    struct handle was;
    struct local_handle local;
    if (state_close_handle(op->fs->state, fh, &was, NULL, NULL) && fs_local_take(op->fs, fh, &local) &&
        local.has_listing)
        listing_close(butler_of(op)->repository, &local.listing);
}

static int opendir_reply(struct op *op, uint64_t fh, uint64_t epoch)
{
    struct named_node n;
    struct fuse_file_info fi = {.fh = fh, .cache_readdir = 1};
    // What the kernel holds of this folder's entries may stay if it was read in the same epoch.
    fi.keep_cache = state_get_named(op->fs->state, op->node, &n) && n.cached_epoch == epoch;
    state_set_cached_epoch(op->fs->state, op->node, epoch);
    if (fuse_reply_open(op->req, &fi) < 0) // interrupted: the kernel will not release it
        folder_drop(op, fh);
    return 0;
}

int butler_opendir(struct op *op)
{
    struct butler *b = butler_of(op);
    struct handle had;
    uint64_t fh = op->is_resent ? state_find_handle(op->fs->state, op->unique) : 0;
    if (fh && state_get_handle(op->fs->state, fh, &had))
        return opendir_reply(op, fh, had.epoch);
    struct place place;
    struct local_handle local = {.fd = -1, .has_listing = true, .space = op->space->number};
    int r = butler_place(op, op->node, &place);
    if (r < 0)
        return r;
    r = place_list_open(&place, &local.listing, &op->want);
    uint64_t epoch = place.snapshot->epoch;
    place_release(&place);
    if (r < 0)
        return r;
    r = state_open_handle(op->fs->state, HANDLE_FOLDER, op->node, op->unique, NULL, NULL, &fh);
    if (r < 0) {
        listing_close(b->repository, &local.listing);
        return r;
    }
    state_set_listing(op->fs->state, fh, local.listing.generation, epoch);
    fs_local_put(op->fs, fh, &local);
    return opendir_reply(op, fh, epoch);
}

int butler_releasedir(struct op *op)
{
    folder_drop(op, op->fh);
    fuse_reply_err(op->req, 0);
    return 0;
}

void butler_adopt(struct space *s, uint64_t fh, const struct handle *h)
{
    struct butler *b = (struct butler *)s;
    struct local_handle local = {.fd = -1, .space = s->number};
    if (h->kind != HANDLE_FOLDER)
        return;
    local.has_listing = true;
    listing_reopen(b->repository, &local.listing, h->generation);
    fs_local_put(s->fs, fh, &local);
}

struct filling {
    struct dirent_buffer to;
    uint64_t folder_ino;
    struct buffer name; // NUL-terminated
    const struct entry *entry;
};

static uint64_t filling_node(void *context, struct fs_attr *attr)
{
    struct filling *f = context;
    return butler_node(f->to.op, f->to.op->node, f->entry, attr);
}

static int filling_add(const struct entry *e, uint64_t cookie, void *context)
{
    struct filling *f = context;
    struct fs_attr attr;
    const struct butler *b = butler_of(f->to.op);
    int64_t text_bytes = e->kind == ENTRY_README ? butler_readme_bytes(b) : 0;
    butler_attr(b, e, f->folder_ino, text_bytes, &attr);
    buffer_clear(&f->name);
    buffer_append_text(&f->name, e->name);
    f->entry = e;
    return !fs_dirent(&f->to, f->name.data, cookie + DOT_COOKIES, &attr, filling_node, f);
}

// "." and "..", whose nodes the kernel knows; false: no room.
static bool filling_dots(struct filling *f, off_t offset)
{
    struct named_node n = {0}, up = {0};
    struct fs_attr attr;
    struct op *op = f->to.op;
    state_get_named(op->fs->state, op->node, &n);
    if (!state_get_named(op->fs->state, n.parent, &up))
        up = n;
    butler_folder_attr(butler_of(op), n.ino, &attr);
    if (offset < 1 && !fs_dirent(&f->to, ".", 1, &attr, NULL, NULL))
        return false;
    attr.ino = up.ino;
    return offset >= 2 || fs_dirent(&f->to, "..", 2, &attr, NULL, NULL);
}

static int readdir_fill(struct op *op, struct filling *f, struct local_handle *local)
{
    struct place place;
    int r = butler_place(op, op->node, &place);
    if (r == -ENOENT) // the folder has gone meanwhile: so have its entries
        return 0;
    if (r < 0)
        return r;
    if (filling_dots(f, op->offset)) {
        uint64_t cookie = op->offset > DOT_COOKIES ? (uint64_t)op->offset - DOT_COOKIES : 0;
        r = place_list(&place, &local->listing, cookie, filling_add, f, &op->want);
    }
    place_release(&place);
    return r < 0 ? r : 0;
}

#define READDIR_BYTES_MAX (1u << 20)

int butler_readdir(struct op *op)
{
    struct local_handle local;
    struct named_node n;
    if (!fs_local_get(op->fs, op->fh, &local) || !local.has_listing)
        return -EBADF;
    if (!state_get_named(op->fs->state, op->node, &n))
        return -ESTALE;
    struct filling f = {.folder_ino = n.ino, .to = {.op = op}};
    f.to.room_bytes = op->size_bytes < READDIR_BYTES_MAX ? op->size_bytes : READDIR_BYTES_MAX;
    f.to.data = memory_new(f.to.room_bytes);
    int r = readdir_fill(op, &f, &local);
    if (r == 0) {
        fs_local_put(op->fs, op->fh, &local);
        fuse_reply_buf(op->req, f.to.data, f.to.size_bytes);
    }
    free(f.to.data);
    buffer_release(&f.name);
    return r;
}
