// SPDX-License-Identifier: BSD-3-Clause
// folder.c: reading folders. A cookie is the file system's own (getdents64's d_off), so that reading goes on
// after a take-over where it was.
#include <dirent.h>
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/metric.h"
#include "fs/space/home/charge.h"

#define READDIR_BYTES_MAX (128u << 10)

struct filling {
    struct op *op;
    int fd;
    char *data;
    size_t size_bytes, room_bytes;
    struct home_where where;
};

static int folder_fd(struct op *op, int *ret_fd)
{
    struct local_handle local;
    cleanup(cleanup_close) int fd = -1;
    if (fs_local_get(op->fs, op->fh, &local) && local.fd >= 0) {
        *ret_fd = local.fd;
        return 0;
    }
    int r = home_open_node(op, op->node, O_RDONLY | O_DIRECTORY, &fd); // of an earlier life
    if (r < 0)
        return r;
    local = (struct local_handle){.fd = fd, .space = op->space->number};
    if (!fs_local_put_first(op->fs, op->fh, &local))
        return -EBADF;
    *ret_fd = take_fd(&fd);
    return 0;
}

static void folder_drop(struct op *op, uint64_t fh)
{
    struct handle was;
    struct local_handle local;
    bool is_local = fs_local_take(op->fs, fh, &local); // before its number may be another's
    state_close_handle(op->fs->state, fh, &was, NULL, NULL);
    if (is_local && local.fd >= 0)
        close(local.fd);
}

int home_opendir(struct op *op)
{
    cleanup(cleanup_close) int fd = -1;
    uint64_t fh = op->is_resent ? state_find_handle(op->fs->state, op->unique) : 0;
    int r = home_open_node(op, op->node, O_RDONLY | O_DIRECTORY, &fd);
    if (r == 0 && !fh)
        r = state_open_handle(op->fs->state, HANDLE_FOLDER, op->node, op->unique, NULL, NULL, &fh);
    if (r < 0)
        return r;
    struct local_handle local = {.fd = take_fd(&fd), .space = op->space->number};
    fs_local_put(op->fs, fh, &local);
    struct fuse_file_info fi = {.fh = fh};
    if (fuse_reply_open(op->req, &fi) == -ENOENT) // interrupted: the kernel will not release it
        folder_drop(op, fh);
    return 0;
}

int home_closedir(struct op *op)
{
    folder_drop(op, op->fh);
    fuse_reply_err(op->req, 0);
    return 0;
}

int home_fsyncdir(struct op *op)
{
    int fd;
    int r = folder_fd(op, &fd);
    if (r == 0 && (op->change.is_data_only ? fdatasync(fd) : fsync(fd)) < 0)
        r = -errno;
    if (r == 0)
        fuse_reply_err(op->req, 0);
    return r;
}

// The entry with its attributes; -errno: only its name can be told.
static int entry_stat(struct filling *f, const char *name, struct fuse_entry_param *ret_entry)
{
    cleanup(cleanup_close) int fd = -1;
    struct stat st;
    uint64_t node;
    int r = home_at(f->fd, text_of(name), &fd);
    if (r == 0 && fstat(fd, &st) < 0)
        r = -errno;
    if (r == 0)
        r = home_node(f->op, &fd, &st, home_below(f->where, text_of(name)), &node);
    if (r < 0)
        return r;
    *ret_entry = home_entry(f->op, node, &st);
    return 0;
}

static bool filling_add(struct filling *f, const struct raw_entry *e)
{
    fuse_req_t req = f->op->req;
    size_t left = f->room_bytes - f->size_bytes;
    bool is_dots = strcmp(e->name, ".") == 0 || strcmp(e->name, "..") == 0;
    size_t need = f->op->is_plus ? fuse_add_direntry_plus(req, NULL, 0, e->name, NULL, 0)
                                 : fuse_add_direntry(req, NULL, 0, e->name, NULL, 0);
    if (need > left)
        return false;
    struct fuse_entry_param entry = {.attr = {.st_ino = e->ino, .st_mode = DTTOIF(e->type)}};
    home_show(home_of(f->op), &entry.attr);
    int r = f->op->is_plus && !is_dots ? entry_stat(f, e->name, &entry) : 0;
    if (r == -ENOENT)
        return true; // it went meanwhile
    if (f->op->is_plus)
        fuse_add_direntry_plus(req, f->data + f->size_bytes, left, e->name, &entry, e->next);
    else
        fuse_add_direntry(req, f->data + f->size_bytes, left, e->name, &entry.attr, e->next);
    f->size_bytes += need;
    metric_add(METRIC_ENTRIES_LISTED, 1);
    return true;
}

static int filling_read(struct filling *f, char *raw)
{
    if (lseek(f->fd, f->op->offset, SEEK_SET) < 0)
        return -errno;
    for (;;) {
        long n = syscall(SYS_getdents64, f->fd, raw, RAW_BYTES);
        if (n <= 0)
            return n < 0 ? -errno : 0;
        for (long at = 0; at < n;) {
            const struct raw_entry *e = (const struct raw_entry *)(raw + at);
            if (!filling_add(f, e))
                return 0;
            at += e->size_bytes;
        }
    }
}

int home_readdir(struct op *op)
{
    struct filling f = {.op = op, .where = home_where(op, op->node)};
    int r = folder_fd(op, &f.fd);
    if (r < 0)
        return r;
    f.room_bytes = op->size_bytes < READDIR_BYTES_MAX ? op->size_bytes : READDIR_BYTES_MAX;
    char *scratch = session_scratch(READDIR_BYTES_MAX + RAW_BYTES); // aligned: it is malloc's
    f.data = scratch + RAW_BYTES;
    r = filling_read(&f, scratch);
    if (r < 0 && f.size_bytes == 0)
        return r;
    fuse_reply_buf(op->req, f.data, f.size_bytes);
    return 0;
}
