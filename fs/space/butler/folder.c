// SPDX-License-Identifier: BSD-3-Clause
// folder.c: reading folders of a Butler space. A handle lists one generation of a key set, which it
// pins; the generation stands in the state, so that a listing goes on after a take-over.
#include <errno.h>

#include "base/hash.h"
#include "base/log.h"
#include "fs/folder.h"
#include "fs/space/butler/butler.h"

static void listing_end(struct op *op, struct local_handle *local)
{
    listing_close(butler_of(op)->repository, &local->listing);
}

// What the kernel holds of a listing that is old is not what it holds of one that isn't.
static uint64_t listing_epoch(const struct place *p, const struct listing *l)
{
    uint64_t names = snapshot_epoch(p->snapshot), epochs[] = {names, l->epoch};
    bool is_old = l->generation && place_left_ns(p, l) != INT64_MAX;
    return is_old ? hash64(epochs, sizeof epochs) | UINT64_C(1) << 63 : names;
}

int butler_opendir(struct op *op)
{
    struct place place;
    struct local_handle local = {.fd = -1, .has_listing = true, .space = op->space->number};
    int error = op->source_error;
    if (folder_open_again(op, listing_end))
        return 0;
    int r = butler_place(op, op->node, &place);
    if (r < 0)
        return r;
    place.may_be_old = error;
    r = place_list_open(&place, &local.listing, &op->want);
    uint64_t epoch = r == 0 ? listing_epoch(&place, &local.listing) : 0;
    place_release(&place);
    if (r == -EINPROGRESS && error && error != -EAGAIN)
        return error; // there is no old one any more
    op->takes_errors = r == -EINPROGRESS && op->want.has_old;
    return r < 0 ? r : folder_open(op, &local, local.listing.generation, epoch, listing_end);
}

int butler_releasedir(struct op *op)
{
    folder_close(op, op->fh, listing_end);
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
    int64_t text_bytes = e->kind == ENTRY_README ? butler_readme_bytes(b) : e->size_bytes;
    butler_attr(b, e, f->folder_ino, text_bytes, &attr);
    buffer_clear(&f->name);
    buffer_append_text(&f->name, e->name);
    f->entry = e;
    return !fs_dirent(&f->to, f->name.data, cookie + FOLDER_DOTS, &attr, filling_node, f);
}

static int readdir_fill(struct op *op, struct filling *f, struct local_handle *local)
{
    struct place place;
    int r = butler_place(op, op->node, &place);
    if (r == -ENOENT) // the folder has gone meanwhile: so have its entries
        return 0;
    if (r < 0)
        return r;
    struct fs_attr attr;
    uint64_t cookie;
    butler_keep_for(op, place_left_ns(&place, &local->listing));
    butler_folder_attr(butler_of(op), f->folder_ino, &attr);
    if (folder_dots(&f->to, &attr, &cookie))
        r = place_list(&place, &local->listing, cookie, filling_add, f, &op->want);
    place_release(&place);
    return r < 0 ? r : 0;
}

int butler_readdir(struct op *op)
{
    struct local_handle local;
    struct named_node n;
    if (!fs_local_get(op->fs, op->fh, &local) || !local.has_listing)
        return -EBADF;
    if (!state_get_named(op->fs->state, op->node, &n))
        return -ESTALE;
    struct filling f = {.folder_ino = n.ino};
    folder_dirents(op, &f.to);
    int r = readdir_fill(op, &f, &local);
    if (r == 0) {
        fs_local_put(op->fs, op->fh, &local);
        fuse_reply_buf(op->req, f.to.data, f.to.size_bytes);
    }
    free(f.to.data);
    buffer_release(&f.name);
    return r;
}
