// SPDX-License-Identifier: BSD-3-Clause
// ledger_ops: what a ledger is to its dispatcher (ledger.c), which has checked the arguments. One kind: local, for
// one node. A kind that several nodes share answers the same verbs.
#pragma once
#include "meta/ledger.h"

struct ledger_ops {
    void (*close)(struct ledger *l);
    int (*begin)(struct ledger *l, const struct ledger_change *c, unsigned flags, uint32_t *ret_slot);
    void (*settle)(struct ledger *l, uint32_t slot, struct ledger_file file, const struct ledger_charge *present);
    uint32_t (*move_begin)(struct ledger *l);
    bool (*is_counted)(struct ledger *l);
    void (*move_end)(struct ledger *l, uint32_t token, const struct ledger_moved *moved, size_t count);
    void (*room)(struct ledger *l, const struct ledger_owner *owner, struct ledger_room *ret_room);
    int (*usage)(struct ledger *l, enum ledger_kind kind, uint64_t id, struct ledger_usage *ret_usage);
    void (*report)(struct ledger *l, ledger_usage_each *each, void *context);
    uint64_t (*trees)(struct ledger *l);
    int (*limit)(struct ledger *l, enum ledger_kind kind, uint64_t id, const struct ledger_limits *limits,
                 struct text path);
    int (*count_again)(struct ledger *l, bool repair, ledger_difference_each *each, void *context);
};

struct ledger {
    const struct ledger_ops *ops;
    uid_t *exempt; // besides root; never changed
    size_t exempt_count;
};
