// SPDX-License-Identifier: BSD-3-Clause
// file.c: open files. Reads are the kernel's own (passthrough); what is written comes here, so that it can be
// counted before it is there, and goes into the same file (FOPEN_PASSTHROUGH | FOPEN_DIRECT_IO).
//
// Invariants
//  1. While a file is open all its handles have one mode and one backing id, which is closed with the last.
//  2. A file grows, and shrinks, under its inode's lock only.
//  3. Write requests say where they write; O_APPEND is the kernel's, under its own lock of the file. So one that
//     comes again writes the same bytes to the same place.
//  4. The handles of a file without a name come and go under its inode's lock only: who closes one knows whether it was
//     the last.
#include <errno.h>
#include <unistd.h>

#include "base/crash.h"
#include "base/log.h"
#include "base/metric.h"
#include "fs/parking.h"
#include "fs/space/home/charge.h"
#include "fs/space/home/lock.h"

#define COPY_BYTES_MAX ((size_t)16 << 20) // of one request: a worker and an inode's lock are held as long

// ---- opening ------------------------------------------------------------------------------------

struct opening {
    struct op *op;
    int fd;
    enum open_mode mode; // out
    int32_t backing_id;  // out
};

static int opening_update(struct home_node *n, void *context)
{
    struct opening *o = context;
    struct fs *fs = o->op->fs;
    if (o->fd < 0 && (n->opens == 0 || n->mode != OPEN_PASSTHROUGH || n->is_orphan))
        return -EAGAIN; // is_orphan: invariant 4
    if (n->opens == 0) {
        if (!n->backing_id && atomic_load(&fs->is_passthrough)) {
            int id = session_backing_open(fs->session, o->fd);
            n->backing_id = id > 0 ? id : 0;
            if (id <= 0)
                log_debug("passthrough refused for this file: %s", strerror(-id));
        }
        n->mode = n->backing_id ? OPEN_PASSTHROUGH : OPEN_CACHED;
    }
    o->mode = (enum open_mode)n->mode;
    o->backing_id = n->backing_id;
    return 0;
}

static int last_close(struct home_node *n, void *context)
{
    struct fs *fs = context;
    if (n->backing_id)
        session_backing_close(fs->session, n->backing_id);
    n->backing_id = 0;
    n->mode = OPEN_NONE;
    return 0;
}

static void handle_drop(struct op *op, uint64_t fh)
{
    struct handle was;
    struct local_handle local;
    bool is_local = fs_local_take(op->fs, fh, &local); // before its number may be another's
    state_close_home(op->fs->state, fh, &was, last_close, op->fs);
    if (is_local && local.fd >= 0)
        close(local.fd);
}

// With the last handle of a file without a name goes what the file costs. Under the inode's lock: a file that is
// unlinked meanwhile is one or the other. The request may be answered already.
static void handle_drop_charged(struct op *op, uint64_t node, uint64_t fh, const struct home_node *n)
{
    struct charged c = {.node = node, .tree = n->tree};
    struct ledger_charge none;
    struct charging charging = {0};
    cleanup(cleanup_close) int fd = -1;
    if (n->is_orphan && n->opens == 1)
        fd = home_handle_open(home_of(op), &n->handle, O_PATH | O_NOFOLLOW);
    c.fd = fd;
    if (fd >= 0 && fstat(fd, &c.st) == 0 && c.st.st_nlink == 0) {
        charge_of(op, &c, &none);
        none.files = none.bytes = 0;
        int r = charge_begin(op, &c, &none, LEDGER_EXEMPT, &charging);
        if (r < 0)
            log_error("an unlinked file's charge stays: %s", strerror(-r));
    }
    crash_point("home-release-charging");
    handle_drop(op, fh);
    crash_point("home-release-dropped");
    if (n->is_orphan && n->opens == 1) {
        home_forget(op->space, node);
        if (n->mode != OPEN_PASSTHROUGH)
            parking_remove(op->fs->parking, node);
    }
    charge_settle_none(&charging);
}

// A handle that an earlier life has closed already isn't another's.
void home_handle_close(struct op *op, uint64_t node, uint64_t fh)
{
    struct home_node n;
    struct handle h;
    if (!state_get_handle(op->fs->state, fh, &h) || !state_get_home(op->fs->state, node, &n)) {
        handle_drop(op, fh);
        return;
    }
    lock_scope(home_inode_lock(op, n.ino));
    if (state_get_home(op->fs->state, node, &n))
        handle_drop_charged(op, node, fh, &n);
    else
        handle_drop(op, fh); // a FORGET was faster
}

static void open_reply(struct op *op, uint64_t fh, const struct opening *o, uint64_t node, const struct stat *st)
{
    bool is_writer = (op->flags & O_ACCMODE) != O_RDONLY;
    bool passes = o->mode == OPEN_PASSTHROUGH;
    struct fuse_file_info fi = {
        .fh = fh,
        .flags = op->flags,
        .noflush = !home_of(op)->locking,
        .backing_id = passes ? o->backing_id : 0,
        .direct_io = !passes || is_writer,
        .parallel_direct_writes = !passes || is_writer,
    };
    int r;
    metric_add(passes ? METRIC_OPEN_PASSTHROUGH : METRIC_OPEN_CACHED, 1);
    if (st) {
        struct fuse_entry_param entry = home_entry(op, node, st);
        r = fuse_reply_create(op->req, &entry, &fi);
    } else {
        r = fuse_reply_open(op->req, &fi);
    }
    if (r != -ENOENT)
        return;
    home_handle_close(op, node, fh); // interrupted: the kernel will not release it
    if (st)
        state_forget(op->fs->state, node, 1);
}

bool home_opened_again(struct op *op, const struct stat *st, uint64_t node)
{
    struct handle h;
    struct home_node n;
    uint64_t fh = op->is_resent ? state_find_handle(op->fs->state, op->unique) : 0;
    if (!fh || !state_get_handle(op->fs->state, fh, &h) || !state_get_home(op->fs->state, h.node, &n))
        return false;
    struct opening o = {.mode = (enum open_mode)h.mode, .backing_id = n.backing_id};
    open_reply(op, fh, &o, node, st);
    return true;
}

void home_park(const struct op *op, uint64_t node, int fd)
{
    struct home_node n;
    if (state_get_home(op->fs->state, node, &n) && n.opens > 0 && n.mode != OPEN_PASSTHROUGH)
        parking_put(op->fs->parking, node, fd);
}

// Under the inode's lock, as it is unlinked: a file without a name that nobody has open has gone.
static int handle_make(struct op *op, uint64_t node, struct opening *o, bool is_made, struct stat *ret_stat,
                       uint64_t *ret_fh)
{
    struct home_node n;
    if (o->fd < 0)
        return state_open_home(op->fs->state, node, op->unique, (uint32_t)op->flags, opening_update, o, ret_fh);
    if (!state_get_home(op->fs->state, node, &n))
        return -ESTALE;
    lock_scope(home_inode_lock(op, n.ino));
    if (fstat(o->fd, ret_stat) < 0)
        return -errno;
    if (ret_stat->st_nlink == 0 && !is_made && (!state_get_home(op->fs->state, node, &n) || n.opens == 0))
        return -ESTALE;
    int r = state_open_home(op->fs->state, node, op->unique, (uint32_t)op->flags, opening_update, o, ret_fh);
    if (r == 0 && ret_stat->st_nlink == 0 && is_made)
        home_park(op, node, o->fd);
    return r;
}

int home_opened(struct op *op, uint64_t node, int *fd, const struct stat *st, struct charging *charging)
{
    cleanup(cleanup_close) int own = take_fd(fd);
    struct opening o = {.op = op, .fd = own};
    struct stat now;
    uint64_t fh = 0;
    int r = handle_make(op, node, &o, st != NULL, &now, &fh);
    crash_point("home-open-handle");
    if (charging && r == 0)
        charge_settle(op, charging, &(struct charged){.fd = own, .node = node, .tree = charge_tree(op, node)});
    else if (charging)
        charge_settle_none(charging);
    if (r < 0)
        return r;
    bool is_reader = (op->flags & O_ACCMODE) == O_RDONLY;
    if (own >= 0 && (o.mode != OPEN_PASSTHROUGH || !is_reader)) {
        struct local_handle local = {.fd = take_fd(&own), .inode = now.st_ino, .space = op->space->number};
        fs_local_put(op->fs, fh, &local);
    }
    crash_point("home-open-unanswered");
    open_reply(op, fh, &o, node, st);
    return 0;
}

int home_open(struct op *op)
{
    cleanup(cleanup_close) int fd = -1;
    struct home_node n;
    if (home_opened_again(op, NULL, op->node))
        return 0;
    if (!state_get_home(op->fs->state, op->node, &n))
        return -ESTALE;
    bool is_reader = (op->flags & O_ACCMODE) == O_RDONLY;
    int r = -EAGAIN;
    if (is_reader && n.opens && n.mode == OPEN_PASSTHROUGH) // the kernel has it already
        r = home_opened(op, op->node, &fd, NULL, NULL);
    if (r != -EAGAIN)
        return r;
    r = home_open_node(op, op->node, op->flags & HOME_FLAGS_KEPT, &fd);
    if (r == 0)
        r = home_opened(op, op->node, &fd, NULL, NULL);
    if (r < 0)
        metric_add(METRIC_OPEN_FAILED, 1);
    return r;
}

static int local_fd(struct op *op, uint64_t fh, int *ret_fd, uint64_t *ret_inode)
{
    struct local_handle local;
    if (!fs_local_get(op->fs, fh, &local) || local.fd < 0)
        return -EBADF;
    *ret_fd = local.fd;
    *ret_inode = local.inode;
    return 0;
}

int home_handle_fd(struct op *op, uint64_t fh, int *ret_fd, uint64_t *ret_inode)
{
    struct handle h;
    struct home_node n;
    cleanup(cleanup_close) int fd = -1;
    if (local_fd(op, fh, ret_fd, ret_inode) == 0)
        return 0;
    if (!state_get_handle(op->fs->state, fh, &h) || !state_get_home(op->fs->state, h.node, &n))
        return -EBADF;
    int r = home_open_node(op, h.node, (int)h.flags & HOME_FLAGS_KEPT, &fd);
    if (r < 0)
        return r;
    struct local_handle local = {.fd = fd, .inode = n.ino, .space = op->space->number};
    if (fs_local_put_first(op->fs, fh, &local))
        take_fd(&fd); // else another request of this handle was faster
    return local_fd(op, fh, ret_fd, ret_inode);
}

int home_close(struct op *op)
{
    lock_close_handle(op);
    crash_point("home-release-begun");
    if (op->fh)
        home_handle_close(op, op->node, op->fh);
    crash_point("home-release-unanswered");
    fuse_reply_err(op->req, 0);
    return 0;
}

// ---- reading, writing ---------------------------------------------------------------------------

// A handle for writing sends (splice, sendfile) from pages of the kernel's that a memory map does not write to: it would
// send what was there before.
static bool may_fill_pages(struct op *op)
{
    struct handle h;
    return !state_get_handle(op->fs->state, op->fh, &h) || h.mode != OPEN_PASSTHROUGH;
}

int home_read(struct op *op)
{
    int fd;
    uint64_t inode;
    if (op->fills_pages && !may_fill_pages(op))
        return -EINVAL; // as where sendfile can't be; who sends reads instead
    int r = home_handle_fd(op, op->fh, &fd, &inode);
    if (r < 0)
        return r;
    char *data = session_scratch(op->size_bytes);
    ssize_t n = pread(fd, data, op->size_bytes, op->offset);
    if (n < 0)
        return -errno;
    metric_add(METRIC_READ_BYTES, n);
    fuse_reply_buf(op->req, data, (size_t)n);
    return 0;
}

mode_t home_privileges(const struct op *op, const struct stat *st)
{
    mode_t bits = st->st_mode & S_ISUID;
    if (st->st_mode & S_ISGID && (st->st_mode & S_IXGRP || !op_is_of_group(op, st->st_gid, OP_GROUPS_MAX)))
        bits |= S_ISGID;
    return S_ISREG(st->st_mode) ? bits : 0;
}

// What root's write would leave. The file's capabilities go with any write.
static int kill_privileges(const struct op *op, int fd, const struct stat *st)
{
    mode_t bits = home_privileges(op, st);
    return bits && fchmod(fd, st->st_mode & 07777 & ~bits) < 0 ? -errno : 0;
}

int home_begun(const struct op *op, struct charging *charging, const struct charged *c, bool kills_privileges)
{
    int r = kills_privileges ? kill_privileges(op, c->fd, &c->st) : 0;
    if (r < 0)
        charge_settle_unchanged(charging);
    return r;
}

static ssize_t write_all(int fd, const char *data, size_t size, off_t offset)
{
    size_t done = 0;
    while (done < size) {
        ssize_t n = pwrite(fd, data + done, size - done, offset + (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && done == 0)
            return -errno;
        if (n <= 0)
            break; // what was written counts; the next request meets the reason
        done += (size_t)n;
    }
    return (ssize_t)done;
}

// What a handle is of, as it stands now. Under the inode's lock.
static int charged_now(struct op *op, struct charged *c)
{
    c->node = op->node;
    c->tree = charge_tree(op, op->node);
    return fstat(c->fd, &c->st) < 0 ? -errno : 0;
}

static int64_t longer(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

// The path of every write: the node is looked up once, and what a whole write made of the file isn't asked.
static ssize_t write_locked(struct op *op, struct charged *c)
{
    struct charging charging;
    struct home_node n;
    c->node = op->node;
    c->known = op->fs->ledger && state_get_home(op->fs->state, op->node, &n) ? &n : NULL;
    c->tree = c->known ? n.tree : 0;
    int r = fstat(c->fd, &c->st) < 0 ? -errno : 0;
    if (r == 0)
        r = home_room(op, c->fd, &c->st, op->offset, (int64_t)op->size_bytes);
    if (r == 0)
        r = charge_begin_length(op, c, longer(op->offset + (off_t)op->size_bytes, c->st.st_size), &charging);
    if (r == 0)
        r = home_begun(op, &charging, c, op->change.kills_privileges);
    if (r < 0) {
        c->known = NULL;
        return r;
    }
    ssize_t done = write_all(c->fd, op->change.data, op->size_bytes, op->offset);
    if (done == (ssize_t)op->size_bytes) {
        c->st.st_size = longer(c->st.st_size, op->offset + done);
        charge_settle_known(op, &charging, c);
    } else {
        charge_settle(op, &charging, c);
    }
    c->known = NULL;
    return done;
}

int home_write(struct op *op)
{
    struct charged c = {0};
    uint64_t inode;
    int r = home_handle_fd(op, op->fh, &c.fd, &inode);
    if (r < 0)
        return r;
    ssize_t n;
    {
        lock_scope(home_inode_lock(op, inode));
        n = write_locked(op, &c);
    }
    if (n < 0)
        return (int)n;
    metric_add(METRIC_WRITE_BYTES, n);
    fuse_reply_write(op->req, (size_t)n);
    return 0;
}

int home_fsync(struct op *op)
{
    int fd;
    uint64_t inode;
    int r = home_handle_fd(op, op->fh, &fd, &inode);
    if (r < 0)
        return r;
    r = op->change.is_data_only ? fdatasync(fd) : fsync(fd);
    if (r < 0)
        return -errno;
    fuse_reply_err(op->req, 0);
    return 0;
}

// A file system may keep what it had found room for when the disk was full (ext4, xfs); behind the file's end that would
// be charged to nobody. It goes; where something was reserved before, which would go with it, it stays and is charged.
static void give_back(struct op *op, struct charged *c, int64_t reserved, int64_t end, int error)
{
    struct stat now;
    bool took_nothing = error == -EOPNOTSUPP || error == -EINVAL || error == -EFBIG;
    if (!op->fs->ledger || fstat(c->fd, &now) < 0)
        return;
    bool is_gone = took_nothing || (reserved <= now.st_size && ftruncate(c->fd, now.st_size) == 0);
    if (is_gone && reserved < end)
        charge_set_reserved(op, c, reserved);
    else if (!is_gone)
        charge_set_reserved(op, c, longer(reserved, end));
}

// These requests say nothing of their own about set-user-id bits.
static bool kills_silently(const struct op *op)
{
    return fuse_req_ctx(op->req)->uid != 0;
}

// What is reserved behind the file's end is charged, and written down with the file, before it is there.
static int reserve(struct op *op, struct charged *c, int64_t end)
{
    struct charging charging;
    struct ledger_charge after;
    int64_t before = charge_reserved(op, c);
    charge_of(op, c, &after);
    after.bytes = longer(after.bytes, end);
    int r = charge_begin(op, c, &after, 0, &charging);
    if (r == 0)
        r = home_begun(op, &charging, c, kills_silently(op));
    if (r < 0)
        return r;
    if (op->fs->ledger && end > before)
        r = charge_set_reserved(op, c, end);
    if (r == 0 && fallocate(c->fd, op->flags, op->offset, (off_t)op->size_bytes) < 0) {
        r = -errno;
        give_back(op, c, before, end, r);
    }
    charge_settle(op, &charging, c);
    return r;
}

static int fallocate_locked(struct op *op, struct charged *c)
{
    struct charging charging;
    off_t end = op->offset + (off_t)op->size_bytes;
    int r = charged_now(op, c);
    if (r == 0 && !(op->flags & FALLOC_FL_PUNCH_HOLE))
        r = home_room(op, c->fd, &c->st, op->offset, (int64_t)op->size_bytes);
    if (r < 0)
        return r;
    bool is_behind = end > c->st.st_size && !(op->flags & FALLOC_FL_PUNCH_HOLE);
    if (is_behind && op->flags & FALLOC_FL_KEEP_SIZE)
        return reserve(op, c, end);
    r = charge_begin_length(op, c, is_behind ? end : c->st.st_size, &charging);
    if (r == 0)
        r = home_begun(op, &charging, c, kills_silently(op));
    if (r < 0)
        return r;
    r = fallocate(c->fd, op->flags, op->offset, (off_t)op->size_bytes) < 0 ? -errno : 0;
    if (r < 0 && is_behind)
        give_back(op, c, charge_reserved(op, c), end, r);
    charge_settle(op, &charging, c);
    return r;
}

int home_fallocate(struct op *op)
{
    struct charged c = {0};
    uint64_t inode;
    int r = home_handle_fd(op, op->fh, &c.fd, &inode);
    if (r < 0)
        return r;
    {
        lock_scope(home_inode_lock(op, inode));
        r = fallocate_locked(op, &c);
    }
    if (r == 0)
        fuse_reply_err(op->req, 0);
    return r;
}

static ssize_t copy_locked(struct op *op, int from_fd, struct charged *c)
{
    struct charging charging;
    struct stat from_stat;
    off_t from = op->offset, to = op->change.to_offset;
    int r = charged_now(op, c);
    if (r == 0 && fstat(from_fd, &from_stat) < 0)
        r = -errno;
    if (r < 0)
        return r;
    int64_t left = longer(from_stat.st_size - from, 0);
    size_t size = op->size_bytes < COPY_BYTES_MAX ? op->size_bytes : COPY_BYTES_MAX;
    size = (uint64_t)left < size ? (size_t)left : size;
    r = home_room(op, c->fd, &c->st, to, (int64_t)size);
    if (r < 0)
        return r;
    r = charge_begin_length(op, c, longer(to + (off_t)size, c->st.st_size), &charging);
    if (r == 0)
        r = home_begun(op, &charging, c, kills_silently(op));
    if (r < 0)
        return r;
    ssize_t n = copy_file_range(from_fd, &from, c->fd, &to, size, 0);
    if (n < 0)
        n = -errno;
    charge_settle(op, &charging, c);
    return n;
}

int home_copy(struct op *op)
{
    struct charged c = {0};
    uint64_t from_inode, to_inode;
    int from_fd;
    int r = home_handle_fd(op, op->fh, &from_fd, &from_inode);
    if (r == 0)
        r = home_handle_fd(op, op->change.to_fh, &c.fd, &to_inode);
    if (r < 0)
        return r;
    op->node = op->change.to_node; // what changes
    ssize_t n;
    {
        lock_scope(home_inode_lock(op, to_inode));
        n = copy_locked(op, from_fd, &c);
    }
    if (n < 0)
        return (int)n;
    metric_add(METRIC_WRITE_BYTES, n);
    fuse_reply_write(op->req, (size_t)n);
    return 0;
}

int home_seek(struct op *op)
{
    int fd;
    uint64_t inode;
    int r = home_handle_fd(op, op->fh, &fd, &inode);
    if (r < 0)
        return r;
    off_t at = lseek(fd, op->offset, op->flags);
    if (at < 0)
        return -errno;
    fuse_reply_lseek(op->req, at);
    return 0;
}
