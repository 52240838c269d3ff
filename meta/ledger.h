// SPDX-License-Identifier: BSD-3-Clause
// ledger: who has used how much of homes and group spaces, and how much each may. Owners are users, groups
// and trees (a folder with a limit of its own); what counts is bytes and files.
//
// Whoever changes what an inode costs, or under which names it stands, says so before and after:
//     ledger_begin: room is reserved with all owners at once, or -EDQUOT; what is about to happen is written down
//     ... the change itself, by the caller ...
//     ledger_settle: what the inode costs now; what was reserved and is not used is given back
// A death in between is settled at the next ledger_open, by looking at the inode (`look`). So usage is exact
// as long as each inode has one change in work at a time: the caller serialises those of one inode.
//
// Any thread, under any lock of a rank below LOCK_RANK_LEDGER. Begin and settle take about 0.2 µs; an owner's
// first change after it was idle waits for the disk (a mark, so that a power cut is known to have hit it).
// Usage survives the process exactly (a shared mapping), the machine by checkpoints and a recount, on a thread
// of the ledger's own, of the owners that wrote since.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/text.h"

struct ledger;

enum ledger_kind { LEDGER_USER, LEDGER_GROUP, LEDGER_TREE };
#define LEDGER_KINDS 3

struct ledger_owner {
    uid_t uid;
    gid_t gid;
    uint64_t tree; // 0: in none. Else the caller's number for the folder, never another's (a hash of its handle)
};

struct ledger_file {
    uint64_t device, inode; // inode 0: not made yet
};

// What one inode costs, and whom. A regular file's bytes are its length, or the end of what fallocate reserved
// behind it; all else has 0. `files` is 1 however many names it has, and 0: there is no such inode.
#define LEDGER_BYTES_MAX (1LL << 54) // of one inode: what is longer, without a disk for it, costs this
struct ledger_charge {
    struct ledger_owner owner;
    int64_t bytes, files;
    bool is_orphan; // without a name: unlinked and open, or made by O_TMPFILE
};

// ---- changes -----------------------------------------------------------------------------------------------

#define LEDGER_HANDLE_MAX 136
#define LEDGER_NAME_MAX 255

struct ledger_change {
    uint32_t what;         // the caller's word for it; the ledger doesn't look
    uint32_t space;        // the same
    struct ledger_file file;
    struct ledger_charge before; // files 0: it is to be made
    struct ledger_charge after;  // the most it can become; its owner is one of `before` and `after` at the end
    struct text handle, name;    // how `look` finds it again: copied; at most ..._MAX bytes
};

enum ledger_flags {
    LEDGER_EXEMPT = 1,       // who asks may go beyond any limit; it is counted all the same
    LEDGER_MAKES_FOLDER = 2, // what is made is a folder
    LEDGER_RESERVE = 4,      // the reserve (ledger_options) may be used, beyond limits of users and groups
};

// -EDQUOT: an owner has no room, nothing is reserved; -ENOBUFS: more changes in work than `slots`; -EFBIG: more than
// LEDGER_BYTES_MAX, of the inode or of all of a user's; -EINVAL: no such numbers. *ret_slot is the caller's until ledger_settle. Less or the same is always allowed.
int ledger_begin(struct ledger *l, const struct ledger_change *c, unsigned flags, uint32_t *ret_slot);
// The change is over, well or not: `present` is what the inode costs now (files 0: it is not there, or never
// came to be), `file` which it is. Never fails.
void ledger_settle(struct ledger *l, uint32_t slot, struct ledger_file file, const struct ledger_charge *present);

// ---- names -------------------------------------------------------------------------------------------------

// What gets or loses a name at its old cost (rename, link) is told, too, for a count that is under way: ledger_move_begin,
// the move itself, then, if ledger_is_counted says that it matters, what moved, and ledger_move_end in any case.
struct ledger_moved {
    uint32_t space, what;  // as in a change
    struct ledger_file file;
    uint64_t tree;
    bool is_folder;
    uint32_t handle_bytes;
    char handle[LEDGER_HANDLE_MAX];
};
uint32_t ledger_move_begin(struct ledger *l); // a token for ledger_move_end
bool ledger_is_counted(struct ledger *l);
void ledger_move_end(struct ledger *l, uint32_t token, const struct ledger_moved *moved, size_t count);

// ---- room --------------------------------------------------------------------------------------------------

// For df: of the owners' limits the one that leaves least, of bytes and of files each. A limit of 0: there is
// none.
struct ledger_room {
    int64_t limit_bytes, used_bytes;
    int64_t limit_files, used_files;
};
void ledger_room(struct ledger *l, const struct ledger_owner *owner, struct ledger_room *ret_room);
bool ledger_is_exempt(const struct ledger *l, uid_t caller); // root, and who is listed
// A folder is a tree's root if its number has a limit; an inode is in the tree of the nearest such folder above it,
// or none. As cheap as a change. ledger_trees is another number whenever a tree came or went, so that what was
// remembered can be looked up again.
bool ledger_has_tree(struct ledger *l, uint64_t tree);
uint64_t ledger_trees(struct ledger *l);

// ---- limits ------------------------------------------------------------------------------------------------

#define LEDGER_DEFAULT UINT64_MAX // as id: what owners of the kind have that have no limits of their own and aren't exempt

struct ledger_limits {
    int64_t soft_bytes, hard_bytes, soft_files, hard_files; // 0: none
    int64_t grace_ns;                                       // over soft for so long is over hard; 0: the default's
};

struct ledger_usage {
    enum ledger_kind kind;
    uint64_t id;
    int64_t used_bytes, used_files;
    struct ledger_limits limits; // those that hold
    bool has_own;                // limits, not the default's
    int64_t grace_ns;            // the one that holds
    int64_t bytes_over_unix_ns, files_over_unix_ns; // since when over soft; 0: it isn't
    bool is_recounting;                             // usage is what was known before a power cut
    struct text path;                               // of a tree, as it was given
};

// Durable when it returns. NULL: its own limits are taken away. `path`: of a tree, for reports. -EINVAL: a soft
// limit above its hard one, or negative. -errno of the disk. A tree that had none is counted first, in the background.
int ledger_limit(struct ledger *l, enum ledger_kind kind, uint64_t id, const struct ledger_limits *limits,
                 struct text path);
// -ENOENT: neither usage nor limits. `path` is not filled. The default: LEDGER_DEFAULT.
int ledger_usage(struct ledger *l, enum ledger_kind kind, uint64_t id, struct ledger_usage *ret_usage);
// All that have usage or limits, defaults too, in no order; `path` is valid inside. `each` may not call the ledger.
typedef void ledger_usage_each(const struct ledger_usage *u, void *context);
void ledger_report(struct ledger *l, ledger_usage_each *each, void *context);

// ---- counting again ----------------------------------------------------------------------------------------

struct ledger_count;
// The caller's walk over all inodes, on a thread of the ledger's or ledger_check's while changes go on: each at least once (one
// with several names more often). For each it calls ledger_count_see, whose `look` tells what the inode is and costs by looking at
// it then. A folder is read if ledger_count_enter says so, from its beginning; those at the top, too. Besides it asks
// ledger_count_moved, and sees and enters those. It is called until nothing moved any more. 0, or -errno: the count is given
// up. Ends soon with -ECANCELED once ledger_count_is_cancelled.
typedef int ledger_walk(struct ledger_count *count, void *context);
typedef int ledger_look_at(void *inode, struct ledger_file *ret_file, struct ledger_charge *ret_charge);
int ledger_count_see(struct ledger_count *count, ledger_look_at *look, void *inode); // 0, or what `look` answered
bool ledger_count_enter(struct ledger_count *count, struct ledger_file folder); // false: it was, or needn't be
// Of that space. A folder counts as entered already. false: none is left.
bool ledger_count_moved(struct ledger_count *count, uint32_t space, struct ledger_moved *ret_moved);
bool ledger_count_is_cancelled(struct ledger_count *count);

struct ledger_difference {
    enum ledger_kind kind;
    uint64_t id;
    int64_t used_bytes, used_files;       // by the ledger
    int64_t counted_bytes, counted_files; // by the walk
};
typedef void ledger_difference_each(const struct ledger_difference *d, void *context);
// Counts all and tells where usage differs; `repair`: usage is what was counted. Takes as long as a walk; one at
// a time (-EBUSY). -errno of the walk.
int ledger_check(struct ledger *l, bool repair, ledger_difference_each *each, void *context);

// ---- life --------------------------------------------------------------------------------------------------

struct ledger_options {
    const char *folder;       // made if missing (0700); NULL: in memory, for tests
    bool is_takeover;         // of a running mount: orphans are still open. Else they are gone
    struct text identity;     // of all that is walked: another than the last time, and all is counted again
    uint32_t slots;           // changes in work at once; 0: 1024
    int64_t checkpoint_ns;    // how often usage is written down; 0: 10 s
    int64_t idle_ns;          // an owner without a change for so long needs no recount; 0: 2 min
    int64_t reserve_bytes, reserve_files; // beyond hard limits, for changes that may use them (LEDGER_RESERVE)
    const uid_t *exempt;      // besides root
    size_t exempt_count;
    // Of the caller, each with `context`; called on the thread of ledger_open or of the ledger.
    // What the inode of a change in work at a death costs now, and which it is. -ENOENT: there is none.
    // Another -errno: it can't be told, and all is counted again.
    int (*look)(const struct ledger_change *c, struct ledger_file *ret_file, struct ledger_charge *ret_charge,
                void *context);
    int (*sync)(void *context); // what was written is on the disk then (syncfs); NULL: it is anyway
    ledger_walk *walk;          // NULL: nothing can be counted again
    void *context;
};

// -errno with a line to log or show; with 0 *ret_why is NULL or a line to log (what was found and done).
// -EBUSY: another process has it.
int ledger_open(const struct ledger_options *o, struct ledger **ret_ledger, char **ret_why);
// Writes all down, in order. A ledger that isn't closed is as after a kill -9; so is one with a change in work.
void ledger_close(struct ledger *l);
