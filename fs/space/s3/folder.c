// SPDX-License-Identifier: BSD-3-Clause
// folder.c: reading folders of an S3 space. A handle lists one generation of a listing, which it pins; the
// generation stands in the state, so that reading goes on after a take-over.
#include <errno.h>

#include "fs/folder.h"
#include "fs/space/s3/s3.h"

static void listing_end(struct op *op, struct local_handle *local)
{
    bucket_listing_close(s3_space_of(op)->bucket, &local->bucket_listing);
}

int s3_space_opendir(struct op *op)
{
    struct bucket_place place;
    struct local_handle local = {.fd = -1, .has_listing = true, .space = op->space->number};
    uint64_t epoch;
    if (folder_open_again(op, listing_end))
        return 0;
    int r = s3_space_place(op, op->node, &place);
    if (r < 0)
        return r;
    r = s3_space_wait_for_release(op, &place, (struct text){0});
    if (r == 0)
        r = bucket_list_open(&place, &local.bucket_listing, &epoch, &op->bucket_want);
    bucket_place_release(&place);
    return r < 0 ? r : folder_open(op, &local, local.bucket_listing.generation, epoch, listing_end);
}

int s3_space_releasedir(struct op *op)
{
    folder_close(op, op->fh, listing_end);
    fuse_reply_err(op->req, 0);
    return 0;
}

void s3_space_adopt(struct space *space, uint64_t fh, const struct handle *h)
{
    struct s3_space *s = (struct s3_space *)space;
    struct local_handle local = {.fd = -1, .has_listing = true, .space = space->number};
    if (h->kind != HANDLE_FOLDER)
        return;
    bucket_listing_reopen(s->bucket, &local.bucket_listing, h->generation);
    fs_local_put(space->fs, fh, &local);
}

struct filling {
    struct dirent_buffer to;
    uint64_t folder_ino;
    const struct bucket_place *place;
    struct buffer name; // NUL-terminated
    const struct bucket_entry *entry;
};

static uint64_t filling_node(void *context, struct fs_attr *attr)
{
    struct filling *f = context;
    return s3_space_node(f->to.op, f->to.op->node, f->place, f->entry, attr);
}

static int filling_add(const struct bucket_entry *e, uint64_t cookie, void *context)
{
    struct filling *f = context;
    struct fs_attr attr;
    s3_space_attr(s3_space_of(f->to.op), f->place, e, f->folder_ino, &attr);
    buffer_clear(&f->name);
    buffer_append_text(&f->name, e->name);
    f->entry = e;
    return !fs_dirent(&f->to, f->name.data, cookie + FOLDER_DOTS, &attr, filling_node, f);
}

static int readdir_fill(struct op *op, struct filling *f, struct local_handle *local)
{
    struct bucket_place place;
    int r = s3_space_place(op, op->node, &place);
    if (r == -ENOENT) // the folder has gone meanwhile: so have its entries
        return 0;
    if (r < 0)
        return r;
    f->place = &place;
    struct fs_attr attr;
    uint64_t cookie;
    s3_space_folder_attr(s3_space_of(op), f->folder_ino, &attr);
    if (folder_dots(&f->to, &attr, &cookie))
        r = bucket_list(&place, &local->bucket_listing, cookie, filling_add, f, &op->bucket_want);
    bucket_place_release(&place);
    return r < 0 ? r : 0;
}

int s3_space_readdir(struct op *op)
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
