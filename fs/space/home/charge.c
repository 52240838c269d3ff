// SPDX-License-Identifier: BSD-3-Clause
// charge.c: see charge.h.
//
// Invariants
//  1. What an inode costs can be told by looking at it: its length, or the end of a reservation, which stands in an
//     attribute of the file from before it is made until the file is truncated.
//  2. A file without a name costs until its last handle is closed; without a handle it costs nothing.
#include "fs/space/home/charge.h"

#include <errno.h>
#include <stdio.h>
#include <sys/xattr.h>

#include "base/hash.h"
#include "base/log.h"

#define RESERVED_NAME "trusted.butlerfs.reserved" // never shown (xattr.c)

// ---- reservations -----------------------------------------------------------------------------

static int64_t reserved_at(int fd)
{
    char path[32];
    int64_t end = 0;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return getxattr(path, RESERVED_NAME, &end, sizeof end) == sizeof end && end > 0 ? end : 0;
}

static int remember_reserved(struct home_node *n, void *context)
{
    n->reserved_bytes = *(int64_t *)context;
    return 0;
}

int64_t charge_reserved(const struct op *op, const struct charged *c)
{
    struct home_node n;
    if (!op->fs->ledger || !S_ISREG(c->st.st_mode))
        return 0;
    if (c->known && c->known->reserved_bytes >= 0)
        return c->known->reserved_bytes;
    if (!c->node || !state_get_home(op->fs->state, c->node, &n))
        return reserved_at(c->fd);
    if (n.reserved_bytes >= 0)
        return n.reserved_bytes;
    int64_t end = reserved_at(c->fd);
    state_update_home(op->fs->state, c->node, remember_reserved, &end);
    return end;
}

void charge_nothing_reserved(const struct op *op, uint64_t node)
{
    state_update_home(op->fs->state, node, remember_reserved, &(int64_t){0});
}

int charge_set_reserved(const struct op *op, const struct charged *c, int64_t end_bytes)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", c->fd);
    int r = end_bytes ? setxattr(path, RESERVED_NAME, &end_bytes, sizeof end_bytes, 0) : removexattr(path, RESERVED_NAME);
    if (r < 0 && (end_bytes || errno != ENODATA))
        return -errno;
    if (c->node)
        state_update_home(op->fs->state, c->node, remember_reserved, &end_bytes);
    return 0;
}

// ---- what it costs ----------------------------------------------------------------------------

static void cost(const struct stat *st, uint64_t tree, int64_t reserved, struct ledger_charge *ret_charge)
{
    int64_t bytes = 0;
    if (S_ISREG(st->st_mode))
        bytes = st->st_size > reserved ? st->st_size : reserved;
    *ret_charge = (struct ledger_charge){
        .owner = {st->st_uid, st->st_gid, tree},
        .bytes = bytes < LEDGER_BYTES_MAX ? bytes : LEDGER_BYTES_MAX, // made behind our back: nobody gets there here
        .files = 1,
        .is_orphan = st->st_nlink == 0,
    };
}

void charge_of(const struct op *op, const struct charged *c, struct ledger_charge *ret_charge)
{
    cost(&c->st, c->tree, charge_reserved(op, c), ret_charge);
}

static struct ledger_file file_of(const struct stat *st)
{
    return (struct ledger_file){st->st_dev, st->st_ino};
}

// ---- changes ----------------------------------------------------------------------------------

// Only of homes: a group's folder has no dot-files that a session needs.
static unsigned reserve_of(const struct op *op, enum home_place place)
{
    return place == HOME_PLACE_DOT && op->space->options->kind == SPACE_HOME ? LEDGER_RESERVE : 0;
}

// Who is exempt by `flags` isn't asked for: his request may be answered already.
static unsigned flags_of(const struct op *op, unsigned flags)
{
    if (flags & LEDGER_EXEMPT)
        return flags;
    return flags | (ledger_is_exempt(op->fs->ledger, fuse_req_ctx(op->req)->uid) ? LEDGER_EXEMPT : 0);
}

static int begin(const struct op *op, const struct ledger_change *c, unsigned flags, struct charging *ret_charging)
{
    struct charging charging = {.ledger = op->fs->ledger, .file = c->file, .before = c->before};
    int r = ledger_begin(op->fs->ledger, c, flags_of(op, flags), &charging.slot);
    if (r < 0)
        return r;
    *ret_charging = charging;
    return 0;
}

int charge_begin(const struct op *op, const struct charged *c, const struct ledger_charge *after, unsigned flags,
                 struct charging *ret_charging)
{
    struct home_node n;
    struct ledger_change change = {.what = CHARGE_INODE, .space = op->space->number, .file = file_of(&c->st)};
    *ret_charging = (struct charging){0};
    if (!op->fs->ledger)
        return 0;
    bool is_known = c->known || (c->node && state_get_home(op->fs->state, c->node, &n));
    if (c->known)
        n = *c->known;
    if (c->st.st_nlink == 0 && !(is_known && n.opens > 0))
        return 0; // it was unlinked under a request by its path: it costs nothing any more
    int r = is_known ? 0 : home_handle_of(c->fd, &n.handle);
    if (r < 0)
        return r;
    charge_of(op, c, &change.before);
    change.after = *after;
    change.handle = (struct text){(const char *)n.handle.data, n.handle.size_bytes};
    change.what |= (uint32_t)n.handle.type << 8;
    if (is_known)
        flags |= reserve_of(op, (enum home_place)n.place);
    return begin(op, &change, flags, ret_charging);
}

int charge_begin_length(const struct op *op, const struct charged *c, int64_t length_bytes,
                        struct charging *ret_charging)
{
    struct ledger_charge now, after;
    *ret_charging = (struct charging){0};
    if (!op->fs->ledger)
        return 0;
    int64_t reserved = charge_reserved(op, c);
    cost(&c->st, c->tree, reserved, &now);
    after = now;
    after.bytes = length_bytes > reserved ? length_bytes : reserved;
    return after.bytes == now.bytes ? 0 : charge_begin(op, c, &after, 0, ret_charging);
}

int charge_begin_truncated(const struct op *op, const struct charged *c, int64_t length_bytes,
                           struct charging *ret_charging)
{
    struct ledger_charge after;
    *ret_charging = (struct charging){0};
    if (!op->fs->ledger)
        return 0;
    charge_of(op, c, &after);
    if (after.bytes == length_bytes)
        return 0;
    after.bytes = length_bytes;
    return charge_begin(op, c, &after, 0, ret_charging);
}

int charge_begin_made(const struct op *op, int folder_fd, uint64_t folder, struct charging *ret_charging)
{
    const struct fuse_ctx *ctx = fuse_req_ctx(op->req);
    struct home_handle handle;
    struct stat st;
    *ret_charging = (struct charging){0};
    if (!op->fs->ledger)
        return 0;
    int r = home_handle_of(folder_fd, &handle);
    if (r == 0 && fstat(folder_fd, &st) < 0)
        r = -errno;
    if (r < 0)
        return r;
    unsigned flags = S_ISDIR(op->change.mode) ? LEDGER_MAKES_FOLDER : 0;
    flags |= reserve_of(op, home_below(home_where(op, folder), op->name).place);
    struct ledger_change change = {
        .what = CHARGE_MADE | (uint32_t)handle.type << 8,
        .space = op->space->number,
        .file.device = st.st_dev,
        .after = {.owner = {ctx->uid, st.st_mode & S_ISGID ? st.st_gid : ctx->gid, charge_tree(op, folder)},
                  .files = 1},
        .handle = {(const char *)handle.data, handle.size_bytes},
        .name = op->name,
    };
    r = begin(op, &change, flags, ret_charging);
    ret_charging->before = change.after; // whose it was thought to be (charge_settle)
    ret_charging->before.files = 0;
    return r;
}

// Of an inode that is there and isn't counted yet. Without a handle of it a death meanwhile counts all again.
static int begin_there(const struct op *op, const struct charged *c, const struct ledger_charge *after, unsigned flags,
                       struct charging *ret_charging)
{
    struct home_handle handle = {0};
    home_handle_of(c->fd, &handle);
    struct ledger_change change = {
        .what = CHARGE_INODE | (uint32_t)handle.type << 8,
        .space = op->space->number,
        .file = file_of(&c->st),
        .before = {.owner = after->owner},
        .after = *after,
        .handle = {(const char *)handle.data, handle.size_bytes},
    };
    return begin(op, &change, flags, ret_charging);
}

int charge_begin_unnamed(const struct op *op, const struct charged *c, struct charging *ret_charging)
{
    struct home_node n;
    struct ledger_charge after;
    *ret_charging = (struct charging){0};
    if (!op->fs->ledger)
        return 0;
    cost(&c->st, c->tree, 0, &after);
    bool is_known = state_get_home(op->fs->state, c->node, &n);
    return begin_there(op, c, &after, is_known ? reserve_of(op, (enum home_place)n.place) : 0, ret_charging);
}

// A file system may give another group than was thought (mounted with grpid): it is counted there then.
static void settle_other(const struct op *op, struct charging *charging, const struct charged *c,
                         const struct ledger_charge *present)
{
    struct charging again;
    ledger_settle(charging->ledger, charging->slot, charging->file, &charging->before);
    if (begin_there(op, c, present, LEDGER_EXEMPT, &again) == 0)
        ledger_settle(again.ledger, again.slot, again.file, present);
}

void charge_settle_known(const struct op *op, struct charging *charging, const struct charged *c)
{
    struct ledger_charge present;
    struct ledger *l = charging->ledger;
    if (!l)
        return;
    bool is_made = charging->before.files == 0;
    cost(&c->st, c->tree, is_made ? 0 : charge_reserved(op, c), &present);
    if (is_made && (present.owner.gid != charging->before.owner.gid || present.owner.uid != charging->before.owner.uid))
        settle_other(op, charging, c, &present);
    else
        ledger_settle(l, charging->slot, file_of(&c->st), &present);
    charging->ledger = NULL;
}

void charge_settle(const struct op *op, struct charging *charging, const struct charged *c)
{
    struct charged now = *c;
    if (!charging->ledger)
        return;
    if (fstat(c->fd, &now.st) == 0) {
        charge_settle_known(op, charging, &now);
        return;
    }
    log_error("an open file can't be looked at: %s", strerror(errno));
    charge_settle_unchanged(charging);
}

void charge_settle_unchanged(struct charging *charging)
{
    if (charging->ledger)
        ledger_settle(charging->ledger, charging->slot, charging->file, &charging->before);
    charging->ledger = NULL;
}

void charge_settle_none(struct charging *charging)
{
    charging->before.files = 0;
    charging->before.bytes = 0;
    charge_settle_unchanged(charging);
}

// ---- names ------------------------------------------------------------------------------------

void charge_move_begin(const struct op *op, struct charge_move *ret_move)
{
    *ret_move = (struct charge_move){.ledger = op->fs->ledger};
    if (ret_move->ledger)
        ret_move->token = ledger_move_begin(ret_move->ledger);
}

int charge_look_at_moved(const struct home *h, int fd, uint64_t tree, struct ledger_moved *ret_moved)
{
    struct home_handle handle;
    struct stat st;
    int r = home_handle_of(fd, &handle);
    if (r < 0 || fstat(fd, &st) < 0)
        return r < 0 ? r : -errno;
    *ret_moved = (struct ledger_moved){
        .space = h->space.number,
        .what = CHARGE_INODE | (uint32_t)handle.type << 8,
        .file = file_of(&st),
        .tree = charge_tree_of(h, &handle, &st, tree),
        .is_folder = S_ISDIR(st.st_mode),
        .handle_bytes = handle.size_bytes,
    };
    memcpy(ret_moved->handle, handle.data, handle.size_bytes);
    return 0;
}

void charge_move_entry(const struct op *op, struct charge_move *move, uint64_t folder, int folder_fd, struct text name)
{
    cleanup(cleanup_close) int fd = -1;
    if (move->ledger && ledger_is_counted(move->ledger) && home_at(folder_fd, name, &fd) == 0 &&
        charge_look_at_moved(home_of(op), fd, charge_tree(op, folder), &move->moved[move->count]) == 0)
        move->count++;
}

void charge_move_end(struct charge_move *move)
{
    if (move->ledger)
        ledger_move_end(move->ledger, move->token, move->moved, move->count);
}

// ---- trees ------------------------------------------------------------------------------------

static uint64_t tree_number(uint16_t space, const struct home_handle *handle)
{
    return hash64_seed(handle->data, handle->size_bytes, space) | 1; // not 0
}

void charge_name_root(struct home *h)
{
    struct home_handle handle;
    if (home_handle_of(h->root_fd, &handle) == 0)
        h->root_tree = tree_number(h->space.number, &handle);
}

uint64_t charge_root_tree(const struct home *h)
{
    struct ledger *ledger = h->space.fs->ledger;
    return ledger && ledger_has_tree(ledger, h->root_tree) ? h->root_tree : 0;
}

uint64_t charge_tree(const struct op *op, uint64_t folder)
{
    struct home_node n;
    if (!op->fs->ledger)
        return 0;
    if (state_get_home(op->fs->state, folder, &n))
        return n.tree;
    return home_is_root(op, folder) ? charge_root_tree(home_of(op)) : 0;
}

uint64_t charge_tree_of(const struct home *h, const struct home_handle *handle, const struct stat *st, uint64_t tree)
{
    struct ledger *ledger = h->space.fs->ledger;
    if (!ledger || !S_ISDIR(st->st_mode))
        return tree;
    uint64_t own = tree_number(h->space.number, handle);
    return ledger_has_tree(ledger, own) ? own : tree;
}

int charge_tree_number(struct op *op, uint64_t *ret_tree)
{
    struct home_node n;
    if (home_is_root(op, op->node)) {
        *ret_tree = home_of(op)->root_tree;
        return 0;
    }
    if (!state_get_home(op->fs->state, op->node, &n) || n.type != S_IFDIR)
        return -ENOTDIR;
    *ret_tree = tree_number(op->space->number, &n.handle);
    return 0;
}

static bool is_his(const struct stat *st, uid_t uid, const gid_t *groups, int group_count)
{
    for (int i = 0; i < group_count && st->st_mode & S_IXGRP; i++)
        if (groups[i] == st->st_gid)
            return true;
    return st->st_uid == uid;
}

bool charge_tree_is_for(struct space *s, struct text path, uid_t uid, const gid_t *groups, int group_count)
{
    cleanup(cleanup_close) int folder = -1;
    struct stat st = {0};
    bool is_for_him = false;
    s->ops->enter();
    if (path.size_bytes == 0 && fstat(((struct home *)s)->root_fd, &st) == 0)
        is_for_him = is_his(&st, uid, groups, group_count);
    for (size_t at = 0, end; at < path.size_bytes && !is_for_him; at = end + 1) {
        cleanup(cleanup_close) int fd = -1;
        const char *slash = memchr(path.data + at, '/', path.size_bytes - at);
        end = slash ? (size_t)(slash - path.data) : path.size_bytes;
        cleanup(cleanup_free) char *name = memory_copy(path.data + at, end - at);
        if (home_at(folder < 0 ? ((struct home *)s)->root_fd : folder, text_of(name), &fd) < 0 || fstat(fd, &st) < 0)
            return false;
        is_for_him = is_his(&st, uid, groups, group_count);
        cleanup_close(&folder);
        folder = take_fd(&fd);
    }
    return is_for_him || (st.st_mode & (S_IWOTH | S_IXOTH)) == (S_IWOTH | S_IXOTH);
}

// ---- looking ----------------------------------------------------------------------------------

static bool is_open(struct state *s, uint16_t space, int fd)
{
    struct home_handle handle;
    struct home_node n;
    if (home_handle_of(fd, &handle) < 0)
        return false;
    uint64_t node = state_home_find(s, space, &handle);
    return node && state_get_home(s, node, &n) && n.opens > 0;
}

int charge_look_at(const struct home *h, int fd, uint64_t tree, struct ledger_file *ret_file,
                   struct ledger_charge *ret_charge)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    *ret_file = file_of(&st);
    cost(&st, tree, S_ISREG(st.st_mode) ? reserved_at(fd) : 0, ret_charge);
    if (st.st_nlink == 0 && !is_open(h->space.fs->state, h->space.number, fd))
        ret_charge->files = ret_charge->bytes = 0;
    return 0;
}

int charge_look(struct space *s, const struct ledger_change *c, struct ledger_file *ret_file,
                struct ledger_charge *ret_charge)
{
    struct home *h = (struct home *)s;
    cleanup(cleanup_close) int fd = -1, entry = -1;
    struct home_handle handle = {.type = (int32_t)(c->what >> 8), .size_bytes = (uint32_t)c->handle.size_bytes};
    if (c->handle.size_bytes > sizeof handle.data)
        return -EINVAL;
    memcpy(handle.data, c->handle.data, c->handle.size_bytes);
    fd = home_handle_open(h, &handle, O_PATH | O_NOFOLLOW);
    if (fd < 0)
        return fd == -ESTALE ? -ENOENT : fd;
    uint64_t tree = c->before.files ? c->before.owner.tree : c->after.owner.tree;
    if ((c->what & 0xff) == CHARGE_INODE)
        return charge_look_at(h, fd, tree, ret_file, ret_charge);
    if (c->name.size_bytes == 0)
        return -ENOENT; // nobody has a file that never had a name
    cleanup(cleanup_free) char *name = memory_copy(c->name.data, c->name.size_bytes);
    int r = home_at(fd, text_of(name), &entry);
    return r < 0 ? r : charge_look_at(h, entry, tree, ret_file, ret_charge);
}

int charge_sync(struct space *s)
{
    return syncfs(((struct home *)s)->mount_fd) < 0 ? -errno : 0;
}
