// SPDX-License-Identifier: BSD-3-Clause
// charge: what changes in a home cost, told to the ledger (meta/ledger.h) before and after. Without a ledger
// (fs->ledger NULL) nothing is counted and every call is free.
//
// All is done under the lock of the inode that changes (home_inode_lock), so that each has one change in work.
#pragma once
#include "fs/space/home/home.h"
#include "meta/ledger.h"

// ledger_change.what: whose handle it has, the inode's or its folder's; the handle's type stands above (<< 8).
enum { CHARGE_INODE = 1, CHARGE_MADE = 2 };

struct charging {
    struct ledger *ledger;        // NULL: there is nothing to settle
    uint32_t slot;
    struct ledger_file file;
    struct ledger_charge before;  // what it costs if nothing comes of it
};

// An inode that is there, by an open descriptor (O_PATH will do).
struct charged {
    int fd;
    struct stat st;
    uint64_t node;                // 0: the kernel doesn't know it
    uint64_t tree;
    const struct home_node *known; // the node, looked up under the inode's lock, which is still held; NULL: it isn't
};

// What it costs now.
void charge_of(const struct op *op, const struct charged *c, struct ledger_charge *ret_charge);
// It will become this, at most. -EDQUOT.
int charge_begin(const struct op *op, const struct charged *c, const struct ledger_charge *after, unsigned flags,
                 struct charging *ret_charging);
// The same of a file's length.
int charge_begin_length(const struct op *op, const struct charged *c, int64_t length_bytes,
                        struct charging *ret_charging);
// The same of a truncation to its length or less, which ends a reservation, too.
int charge_begin_truncated(const struct op *op, const struct charged *c, int64_t length_bytes,
                           struct charging *ret_charging);
// Something is made by the caller in the folder, under op->name.
int charge_begin_made(const struct op *op, int folder_fd, uint64_t folder, struct charging *ret_charging);
// A file without a name was made, as c->st says.
int charge_begin_unnamed(const struct op *op, const struct charged *c, struct charging *ret_charging);
// It is over: what it costs now is asked of the descriptor.
void charge_settle(const struct op *op, struct charging *charging, const struct charged *c);
// The same where c->st says what it is now.
void charge_settle_known(const struct op *op, struct charging *charging, const struct charged *c);
// It is over, and there is nothing, or nothing any more.
void charge_settle_none(struct charging *charging);
// It is over, and all is as it was before.
void charge_settle_unchanged(struct charging *charging);

// What gets or loses a name at its old cost (meta/ledger.h): begun before, each entry told where it is then, ended in
// any case.
struct charge_move {
    struct ledger *ledger; // NULL: nobody counts
    uint32_t token;
    size_t count;
    struct ledger_moved moved[2];
};
void charge_move_begin(const struct op *op, struct charge_move *ret_move);
void charge_move_entry(const struct op *op, struct charge_move *move, uint64_t folder, int folder_fd, struct text name);
void charge_move_end(struct charge_move *move);
int charge_look_at_moved(const struct home *h, int fd, uint64_t tree, struct ledger_moved *ret_moved); // `tree`: around it

// The end of what fallocate reserved behind a file's length; kept with the file. `end` 0: nothing any more.
int64_t charge_reserved(const struct op *op, const struct charged *c);
void charge_nothing_reserved(const struct op *op, uint64_t node); // of a file that was just made
int charge_set_reserved(const struct op *op, const struct charged *c, int64_t end_bytes);

// The folder with a limit of its own that what is in `folder` belongs to; 0: none.
uint64_t charge_tree(const struct op *op, uint64_t folder);
void charge_name_root(struct home *h);               // once, with the tree open
uint64_t charge_root_tree(const struct home *h);     // of what is in the space's root
// Of an inode found in a folder of `tree`: its own, if it is such a folder.
uint64_t charge_tree_of(const struct home *h, const struct home_handle *handle, const struct stat *st, uint64_t tree);
// What an inode costs, by an O_PATH descriptor. A file without name or handle: nothing.
int charge_look_at(const struct home *h, int fd, uint64_t tree, struct ledger_file *ret_file,
                   struct ledger_charge *ret_charge);
int charge_tree_number(struct op *op, uint64_t *ret_tree); // of op->node as such a folder; -ENOTDIR
bool charge_tree_is_for(struct space *s, struct text path, uid_t uid, const gid_t *groups, int group_count); // space.h

// The ledger's own questions (space_ops).
int charge_look(struct space *s, const struct ledger_change *c, struct ledger_file *ret_file,
                struct ledger_charge *ret_charge);
int charge_walk(struct space *s, struct ledger_count *count);
int charge_sync(struct space *s);
