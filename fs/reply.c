// SPDX-License-Identifier: BSD-3-Clause
// reply.c: answers that the spaces share, and what the process holds of handles (fs.h).
#include <errno.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/metric.h"
#include "fs/fs.h"
#include "fs/space/space.h"

#define CHUNK 64 // handles

void fs_stat(const struct fs_attr *a, struct stat *ret_stat)
{
    struct timespec t = {.tv_sec = a->mtime_unix_ns / NS_PER_S, .tv_nsec = a->mtime_unix_ns % NS_PER_S};
    if (t.tv_nsec < 0) {
        t.tv_sec--;
        t.tv_nsec += NS_PER_S;
    }
    *ret_stat = (struct stat){
        .st_ino = a->ino,
        .st_mode = a->mode,
        .st_nlink = S_ISDIR(a->mode) ? 2 : 1,
        .st_uid = a->uid,
        .st_gid = a->gid,
        .st_size = a->size_bytes > 0 ? a->size_bytes : 0,
        .st_blksize = 128 * 1024,
        .st_blocks = a->size_bytes > 0 ? (a->size_bytes + 511) / 512 : 0,
        .st_atim = t,
        .st_mtim = t,
        .st_ctim = t,
    };
}

static double timeout_of(const struct op *op)
{
    double left_s = (double)op->left_ns / NS_PER_S;
    return op->has_left && left_s < op->space->timeout_s ? left_s : op->space->timeout_s;
}

static void entry_fill(const struct op *op, uint64_t node, const struct fs_attr *a,
                       struct fuse_entry_param *ret_entry)
{
    *ret_entry = (struct fuse_entry_param){
        .ino = node,
        .attr_timeout = timeout_of(op),
        .entry_timeout = op->is_passing ? 0 : timeout_of(op),
    };
    fs_stat(a, &ret_entry->attr);
}

int fs_reply_entry(struct op *op, uint64_t node, const struct fs_attr *a)
{
    struct fuse_entry_param entry;
    if (!node)
        return -ENFILE;
    entry_fill(op, node, a, &entry);
    if (fuse_reply_entry(op->req, &entry) < 0)
        state_forget(op->fs->state, node, 1); // the caller was interrupted: the kernel doesn't count it
    return 0;
}

int fs_reply_create(struct op *op, uint64_t node, const struct fs_attr *a, const struct fuse_file_info *fi)
{
    struct fuse_entry_param entry;
    entry_fill(op, node, a, &entry);
    int r = fuse_reply_create(op->req, &entry, fi);
    if (r < 0)
        state_forget(op->fs->state, node, 1);
    return r == -ENOENT ? r : 0;
}

int fs_reply_negative(struct op *op)
{
    struct fuse_entry_param entry = {.entry_timeout = timeout_of(op)};
    fuse_reply_entry(op->req, &entry);
    return 0;
}

int fs_reply_attr(struct op *op, const struct fs_attr *a)
{
    struct stat st;
    fs_stat(a, &st);
    return fs_reply_stat(op, &st, NULL);
}

#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 18)
static struct statx_timestamp timestamp(struct timespec t)
{
    return (struct statx_timestamp){.tv_sec = t.tv_sec, .tv_nsec = (uint32_t)t.tv_nsec};
}

static void reply_statx(struct op *op, const struct stat *st, const struct timespec *birth)
{
    struct statx x = {
        .stx_mask = STATX_BASIC_STATS | (birth ? STATX_BTIME : 0),
        .stx_blksize = (uint32_t)st->st_blksize,
        .stx_nlink = (uint32_t)st->st_nlink,
        .stx_uid = st->st_uid,
        .stx_gid = st->st_gid,
        .stx_mode = (uint16_t)st->st_mode,
        .stx_ino = st->st_ino,
        .stx_size = (uint64_t)st->st_size,
        .stx_blocks = (uint64_t)st->st_blocks,
        .stx_atime = timestamp(st->st_atim),
        .stx_mtime = timestamp(st->st_mtim),
        .stx_ctime = timestamp(st->st_ctim),
        .stx_rdev_major = major(st->st_rdev),
        .stx_rdev_minor = minor(st->st_rdev),
    };
    if (birth)
        x.stx_btime = timestamp(*birth);
    fuse_reply_statx(op->req, 0, &x, op->space->timeout_s);
}
#endif

int fs_reply_stat(struct op *op, const struct stat *st, const struct timespec *birth)
{
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 18)
    if (op->is_statx) {
        reply_statx(op, st, birth);
        return 0;
    }
#else
    (void)birth;
#endif
    fuse_reply_attr(op->req, st, op->space->timeout_s);
    return 0;
}

bool fs_dirent(struct dirent_buffer *b, const char *name, uint64_t cookie, const struct fs_attr *a,
               uint64_t (*node)(void *context, struct fs_attr *a), void *context)
{
    size_t left = b->room_bytes - b->size_bytes;
    fuse_req_t req = b->op->req;
    size_t need = b->op->is_plus ? fuse_add_direntry_plus(req, NULL, 0, name, NULL, 0)
                                 : fuse_add_direntry(req, NULL, 0, name, NULL, 0);
    if (need > left)
        return false;
    struct fuse_entry_param entry;
    struct fs_attr own = *a; // the node may know better (an open file's size)
    uint64_t id = b->op->is_plus && node ? node(context, &own) : 0;
    entry_fill(b->op, id, &own, &entry);
    if (b->op->is_plus)
        fuse_add_direntry_plus(req, b->data + b->size_bytes, left, name, &entry, (off_t)cookie);
    else
        fuse_add_direntry(req, b->data + b->size_bytes, left, name, &entry.attr, (off_t)cookie);
    b->size_bytes += need;
    metric_add(METRIC_ENTRIES_LISTED, 1);
    return true;
}

// ---- the process's part of handles ------------------------------------------------------------

// Under the lock. NULL: never used.
static struct local_handle *local_at(struct fs *fs, uint64_t fh, bool make)
{
    uint32_t index = state_handle_index(fh), chunk = index / CHUNK;
    if (chunk >= fs->handle_chunks) {
        if (!make)
            return NULL;
        fs->handles = memory_grow(fs->handles, chunk + 1, sizeof *fs->handles);
        while (fs->handle_chunks <= chunk)
            fs->handles[fs->handle_chunks++] = NULL;
    }
    if (!fs->handles[chunk] && make)
        fs->handles[chunk] = memory_new(CHUNK * sizeof **fs->handles);
    return fs->handles[chunk] ? &fs->handles[chunk][index % CHUNK] : NULL;
}

bool fs_local_get(struct fs *fs, uint64_t fh, struct local_handle *ret_copy)
{
    lock_scope(&fs->handles_lock);
    const struct local_handle *l = local_at(fs, fh, false);
    if (!l || l->fh != fh)
        return false;
    *ret_copy = *l;
    return true;
}

void fs_local_put(struct fs *fs, uint64_t fh, const struct local_handle *local)
{
    lock_scope(&fs->handles_lock);
    struct local_handle *l = local_at(fs, fh, true);
    *l = *local;
    l->fh = fh;
}

bool fs_local_put_first(struct fs *fs, uint64_t fh, const struct local_handle *local)
{
    lock_scope(&fs->handles_lock);
    struct local_handle *l = local_at(fs, fh, true);
    if (l->fh == fh && (l->fd >= 0 || l->cached))
        return false;
    *l = *local;
    l->fh = fh;
    return true;
}

bool fs_local_take(struct fs *fs, uint64_t fh, struct local_handle *ret_was)
{
    lock_scope(&fs->handles_lock);
    struct local_handle *l = local_at(fs, fh, false);
    if (!l || l->fh != fh)
        return false;
    *ret_was = *l;
    l->fh = 0;
    return true;
}
