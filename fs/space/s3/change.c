// SPDX-License-Identifier: BSD-3-Clause
// change.c: entries of folders that are made, deleted and renamed (meta's bucket_change.c does it), and what can't be
// changed of an object.
#include <errno.h>
#include <linux/fs.h>

#include "fs/space/s3/s3.h"

// Has it done by a librarian, and runs again when it is, however late: each of its requests has a limit, and it would be done
// all the same if it were said before that it was not.
static int change(struct op *op, const struct bucket_place *p, enum bucket_want_kind kind, struct text raw, struct text to)
{
    op->change.is_begun = true;
    op->ignores_interrupts = true;
    op->deadline_ns = INT64_MAX;
    return bucket_change(p, kind, raw, to, &op->bucket_want);
}

static int done(struct op *op)
{
    fuse_reply_err(op->req, 0);
    return 0;
}

static int folder_is_gone(struct op *op)
{
    state_leave_named(op->fs->state, op->node, op->name);
    return done(op);
}

// The entry called `name` of the op's folder. One that is gone when the request comes again after a death was taken away by
// its first run: `ret_is_done`.
static int entry_of(struct op *op, struct bucket_place *ret_place, struct bucket_entry *ret_entry, struct buffer *scratch)
{
    int r = s3_space_place(op, op->node, ret_place);
    if (r < 0)
        return r == -ENOENT ? -ESTALE : r;
    r = bucket_lookup(ret_place, op->name, ret_entry, scratch, &op->bucket_want);
    if (r < 0)
        bucket_place_release(ret_place);
    return r;
}

int s3_space_new_entry(struct op *op, uint64_t folder, struct text name, struct bucket_place *ret_place,
                       struct buffer *raw, struct bucket_entry *ret_entry, struct buffer *scratch)
{
    int r = s3_space_place(op, folder, ret_place);
    if (r < 0)
        return r == -ENOENT ? -ESTALE : r;
    r = bucket_new_name(ret_place, name, raw);
    if (r == 0)
        r = bucket_lookup(ret_place, name, ret_entry, scratch, &op->bucket_want);
    if (r < 0 && r != -ENOENT)
        bucket_place_release(ret_place);
    return r;
}

// Of a name that listing doesn't know: it may be that of a file which is being written.
static int unlink_unknown(struct op *op)
{
    struct bucket_place place;
    BUFFER_CLEANUP raw = {0};
    int r = s3_space_place(op, op->node, &place);
    if (r < 0)
        return r;
    r = bucket_new_name(&place, op->name, &raw);
    bool was_written = r == 0 && s3_space_give_up_writing(s3_space_of(op), &place, buffer_text(&raw));
    bucket_place_release(&place);
    return was_written || op->is_resent ? done(op) : -ENOENT;
}

static int rmdir_unknown(struct op *op)
{
    return op->is_resent ? folder_is_gone(op) : -ENOENT;
}

static int take_away(struct op *op, bool is_folder, int (*unknown)(struct op *op))
{
    struct bucket_place place;
    struct bucket_entry e;
    BUFFER_CLEANUP scratch = {0};
    int r = entry_of(op, &place, &e, &scratch);
    if (r == -ENOENT)
        return unknown(op);
    if (r < 0)
        return r;
    if (e.is_folder != is_folder) {
        r = is_folder ? -ENOTDIR : -EISDIR;
    } else {
        if (!is_folder)
            s3_space_give_up_writing(s3_space_of(op), &place, e.raw);
        r = change(op, &place, is_folder ? BUCKET_REMOVE_FOLDER : BUCKET_DELETE, e.raw, (struct text){0});
    }
    bucket_place_release(&place);
    return r;
}

int s3_space_unlink(struct op *op)
{
    return op->change.is_begun ? done(op) : take_away(op, false, unlink_unknown);
}

int s3_space_rmdir(struct op *op)
{
    return op->change.is_begun ? folder_is_gone(op) : take_away(op, true, rmdir_unknown);
}

static int folder_reply(struct op *op)
{
    struct named_node n;
    struct fs_attr attr;
    uint64_t node = state_named(op->fs->state, op->node, op->name, NODE_FOLDER, op->space->number);
    if (!node || !state_get_named(op->fs->state, node, &n))
        return -ENFILE;
    s3_space_folder_attr(s3_space_of(op), n.ino, &attr);
    return fs_reply_entry(op, node, &attr);
}

int s3_space_mkdir(struct op *op)
{
    struct bucket_place place;
    struct bucket_entry e;
    BUFFER_CLEANUP raw = {0}, scratch = {0};
    if (op->change.is_begun)
        return folder_reply(op);
    int r = s3_space_new_entry(op, op->node, op->name, &place, &raw, &e, &scratch);
    if (r < 0 && r != -ENOENT)
        return r;
    if (r == -ENOENT)
        r = change(op, &place, BUCKET_MAKE_FOLDER, buffer_text(&raw), (struct text){0});
    else if (r == 0)
        r = op->is_resent && e.is_folder ? folder_reply(op) : -EEXIST;
    bucket_place_release(&place);
    return r;
}

// ---- renaming -------------------------------------------------------------------------------

// The key that it is to have. -EEXIST: there is something that may not be replaced; -EBUSY: a file is being written there.
static int target_key(struct op *op, struct buffer *key)
{
    struct bucket_place place;
    struct bucket_entry e;
    BUFFER_CLEANUP raw = {0}, scratch = {0};
    int r = s3_space_new_entry(op, op->change.to_node, op->change.to_name, &place, &raw, &e, &scratch);
    if (r < 0 && r != -ENOENT)
        return r;
    if (r == 0)
        r = e.is_folder ? -EISDIR : op->flags & RENAME_NOREPLACE ? -EEXIST
            : op->space->options->write == WRITE_REPLACE ? 0 : -EEXIST;
    else if (r == -ENOENT)
        r = 0;
    if (r == 0)
        r = s3_space_end_writing(s3_space_of(op), &place, buffer_text(&raw));
    buffer_append_text(key, buffer_text(&place.prefix));
    buffer_append_text(key, buffer_text(&raw));
    bucket_place_release(&place);
    return r;
}

// What can't be done by the server in one request is left to who asks: mv copies by itself when told EXDEV.
#define COPY_BYTES_MAX (INT64_C(5) << 30)
#define COPY_BYTES_SLOW (INT64_C(64) << 20)

int s3_space_rename(struct op *op)
{
    struct bucket_place place;
    struct bucket_entry e;
    BUFFER_CLEANUP scratch = {0}, to = {0};
    if (op->change.is_begun)
        return done(op);
    if (op->flags & ~RENAME_NOREPLACE)
        return -EINVAL;
    if (!op->space->options->renames)
        return -EXDEV;
    int r = entry_of(op, &place, &e, &scratch);
    if (r == -ENOENT && op->is_resent)
        return done(op);
    if (r < 0)
        return r;
    if (e.is_folder || e.size_bytes > COPY_BYTES_MAX)
        r = -EXDEV;
    else
        r = target_key(op, &to);
    if (r == 0)
        r = s3_space_end_writing(s3_space_of(op), &place, e.raw);
    if (r == 0) {
        s3_space_leave_node(s3_space_of(op), &place, &e);
        r = change(op, &place, BUCKET_RENAME, e.raw, buffer_text(&to));
        op->bucket_want.is_slow = e.size_bytes >= COPY_BYTES_SLOW;
        op->bucket_want.may_replace = op->space->options->write == WRITE_REPLACE && !(op->flags & RENAME_NOREPLACE);
    }
    bucket_place_release(&place);
    return r;
}

// ---- made by others -------------------------------------------------------------------------

#define GROUPS_MAX 256

// As the kernel decides it who asks by creat(2).
static bool may_make(struct op *op)
{
    const struct s3_space *s = s3_space_of(op);
    uid_t uid = fuse_req_ctx(op->req)->uid;
    mode_t bits = uid == s->uid                             ? s->folder_mode >> 6
                  : op_is_of_group(op, s->gid, GROUPS_MAX) ? s->folder_mode >> 3
                                                           : s->folder_mode;
    return uid == 0 || (bits & 3) == 3;
}

int s3_space_new_object(struct op *op, struct text name, struct found_object *ret_found)
{
    struct bucket_place place;
    struct bucket_entry e;
    BUFFER_CLEANUP raw = {0}, scratch = {0};
    if (!may_make(op))
        return -EACCES;
    int r = s3_space_place(op, op->node, &place);
    if (r < 0)
        return r;
    r = bucket_new_name(&place, name, &raw);
    if (r == 0)
        r = bucket_lookup(&place, name, &e, &scratch, &op->bucket_want);
    if (r == 0 && (e.is_folder || op->space->options->write != WRITE_REPLACE))
        r = -EEXIST;
    if (r == -ENOENT)
        r = 0;
    if (r == 0) {
        e = (struct bucket_entry){.raw = buffer_text(&raw)};
        s3_space_object(s3_space_of(op), &place, &e, &ret_found->key, &ret_found->object);
    }
    bucket_place_release(&place);
    return r;
}

// ---- attributes -----------------------------------------------------------------------------

// Times are taken and not kept, as every program that copies sets them: an object's is when it was written. Modes and owners
// are the space's: setting what they are already is no error.
int s3_space_setattr(struct op *op)
{
    const struct op_change *c = &op->change;
    struct s3_space *s = s3_space_of(op);
    struct file_node file;
    struct named_node named;
    struct fs_attr attr;
    bool is_file = state_get_file(op->fs->state, op->node, &file);
    if (is_file)
        s3_space_file_attr(s, &file, &attr);
    else if (state_get_named(op->fs->state, op->node, &named))
        s3_space_folder_attr(s, named.ino, &attr);
    else
        return -ESTALE;
    if ((c->to_set & FUSE_SET_ATTR_MODE && (c->attr->st_mode ^ attr.mode) & 07777) ||
        (c->to_set & FUSE_SET_ATTR_UID && c->attr->st_uid != attr.uid) ||
        (c->to_set & FUSE_SET_ATTR_GID && c->attr->st_gid != attr.gid))
        return -EPERM;
    if (c->to_set & FUSE_SET_ATTR_SIZE && !(is_file && c->attr->st_size == attr.size_bytes && attr.size_bytes > 0)) {
        int r = c->attr->st_size == 0 && is_file ? s3_space_truncate(op) : -EOPNOTSUPP;
        if (r < 0 && !(c->has_fh && c->attr->st_size == attr.size_bytes))
            return r;
        attr.size_bytes = c->attr->st_size;
    }
    return fs_reply_attr(op, &attr);
}

int s3_space_refuse(struct op *op)
{
    (void)op;
    return -EOPNOTSUPP;
}

int s3_space_forbid(struct op *op)
{
    (void)op;
    return -EPERM;
}
