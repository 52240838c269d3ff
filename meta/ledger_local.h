// SPDX-License-Identifier: BSD-3-Clause
// ledger_local: the ledger of one node; what its sources share.
//
//     ledger_local.c  changes: begin, settle; room, usage
//     ledger_limits.c limits and reports
//     ledger_keep.c   the keeper: checkpoints, marks, recounts
//     ledger_count.c  counting again
//     ledger_life.c   opening: what is believed, what was in work at a death; closing
//
// Two locks: `writer` is held over the store's disk writes, `lock` never. writer is taken first.
#pragma once
#include <pthread.h>

#include "base/clock.h"
#include "base/lock.h"
#include "base/table.h"
#include "meta/ledger_map.h"
#include "meta/ledger_ops.h"
#include "meta/ledger_store.h"

#define LEDGER_GRACE_STANDARD_NS (7 * 86400 * NS_PER_S)

struct ledger_local {
    struct ledger base;
    struct ledger_options options; // without folder and exempt; never changed
    pthread_mutex_t writer;
    struct ledger_store *store; // used under writer; NULL: in memory
    struct ledger_state state;  // as it is in the store; under writer
    struct lock lock;           // LOCK_RANK_LEDGER; all below
    struct ledger_map map;
    uint32_t slot_count; // the map's; never changed
    struct ledger_limits defaults[LEDGER_KINDS];
    bool has_defaults[LEDGER_KINDS];
    struct table paths; // struct tree_path by tree
    uint32_t *free_slots, free_count;
    uint64_t *serials, serial; // of each slot's change, so that a later one in it is another
    struct ledger_count *count; // under way, or NULL
    uint32_t moves[2], move_phase; // in work, by the phase they began in
    bool is_uncounted;          // all is to be counted again
    bool marks_are_lost;        // the store could not be written when an owner was to be marked
    uint32_t tick;              // counts checkpoints
    // The keeper.
    pthread_t keeper;
    bool has_keeper;
    pthread_cond_t wake;
    bool is_closing, is_woken;
    int64_t next_count_ns; // after one that failed
    _Atomic uint64_t trees;
};

struct tree_path {
    uint64_t tree;
    struct text path; // allocated
};

static inline struct ledger_local *local_of(struct ledger *l)
{
    return (struct ledger_local *)l;
}

static inline uint64_t ledger_id_of(const struct ledger_owner *o, int kind)
{
    return kind == LEDGER_USER ? o->uid : kind == LEDGER_GROUP ? o->gid : o->tree;
}

// A tree is only charged while it has a number; users and groups always.
static inline bool ledger_id_counts(const struct ledger_owner *o, int kind)
{
    return kind != LEDGER_TREE || o->tree != 0;
}

// Under lock.
const struct ledger_limits *local_limits(const struct ledger_local *l, const struct map_entry *e);
int64_t local_grace_ns(const struct ledger_local *l, const struct map_entry *e);
void local_note_over(struct ledger_local *l, struct map_entry *e); // since when it is over its soft limits
// What a change holds of an entry beyond what its inode cost before.
void local_reserved(const struct ledger_charge *before, const struct ledger_charge *after, int kind,
                    int64_t *ret_bytes, int64_t *ret_files);
void local_wake_keeper(struct ledger_local *l);

// Under neither lock: marks owners in the store, then in the map.
void local_mark(struct ledger_local *l, const struct ledger_id *ids, size_t count);
// Of a slot whose change was in work at a death.
void local_slot_change(const struct map_slot *s, struct ledger_change *ret_change);

// The verbs: ledger_local.c.
int local_begin(struct ledger *base, const struct ledger_change *c, unsigned flags, uint32_t *ret_slot);
void local_settle(struct ledger *base, uint32_t slot, struct ledger_file file, const struct ledger_charge *present);
uint32_t local_move_begin(struct ledger *base);
bool local_is_counted(struct ledger *base);
void local_move_end(struct ledger *base, uint32_t token, const struct ledger_moved *moved, size_t count);

// ledger_limits.c.
int local_limit(struct ledger *base, enum ledger_kind kind, uint64_t id, const struct ledger_limits *limits,
                struct text path);
int local_usage(struct ledger *base, enum ledger_kind kind, uint64_t id, struct ledger_usage *ret_usage);
void local_report(struct ledger *base, ledger_usage_each *each, void *context);
void local_room(struct ledger *base, const struct ledger_owner *owner, struct ledger_room *ret_room);
void local_set_path(struct ledger_local *l, uint64_t tree, struct text path); // empty: none; under lock

// ledger_keep.c.
int keeper_start(struct ledger_local *l);
void keeper_stop(struct ledger_local *l);
int keeper_checkpoint(struct ledger_local *l, bool is_last); // is_last: nothing is in work, all is in order

// ledger_count.c.
enum count_which { COUNT_FLAGGED, COUNT_ALL, COUNT_TO_TELL };
int count_run(struct ledger_local *l, enum count_which which, ledger_difference_each *each, void *context);
void count_note_begin(struct ledger_count *c, const struct map_slot *s);  // under lock
void count_note_settle(struct ledger_count *c, const struct map_slot *s, struct ledger_file file,
                       const struct ledger_charge *present); // under lock
void count_note_moved(struct ledger_count *c, const struct ledger_moved *m); // under lock
void count_cancel(struct ledger_local *l);                  // under lock
int local_check(struct ledger *base, bool repair, ledger_difference_each *each, void *context);

// ledger_life.c.
extern const struct ledger_ops local_ops;
// Under no lock: all is to be counted again, durably.
void local_set_uncounted(struct ledger_local *l, bool is_uncounted);
int local_open(const struct ledger_options *o, struct ledger_local **ret_ledger, char **ret_why);
