// SPDX-License-Identifier: BSD-3-Clause
// status: the verbs of the control socket and ioctl: status, log-level, upgrade, refresh.
#pragma once
#include "cache/store.h"
#include "fs/control.h"
#include "fs/fs.h"
#include "meta/catalogue.h"

// A check of all that is kept, by a thread of its own.
struct cache_check {
    struct lock lock;                  // LOCK_RANK_LEAF
    struct block_store *store;
    bool is_running;                   // under lock, as the rest
    int result;
    struct block_store_verified sums;
};

// Counting again all that home and group spaces cost, by a thread of its own.
struct quota_check {
    struct lock lock;         // LOCK_RANK_LEAF
    struct ledger *ledger;
    bool is_repair;
    bool is_running;          // under lock, as the rest
    int result;
    struct doc *differences;  // of the last one, until it is told; or NULL
};

struct status_context {
    struct fs *fs;
    struct catalogue *catalogue;
    int supervisor_fd;
    struct cache_check check;
    struct quota_check quota_check;
};

extern const struct control_verb status_verbs[]; // context: struct status_context
