// SPDX-License-Identifier: BSD-3-Clause
// ledger_store: what of a ledger survives the machine: limits, and usage as of each owner's checkpoint with a mark
// whether it may have changed since. An LMDB environment of its own; a call that writes is on the disk when it
// returns. One thread at a time: ledger_local's `writer`.
#pragma once
#include "base/buffer.h"
#include "meta/ledger.h"

struct ledger_store;

struct ledger_checkpoint {
    enum ledger_kind kind;
    uint64_t id;
    int64_t used_bytes, used_files;
    int64_t over_unix_ns[2];
    bool is_marked; // it may have changed since; or amounts that can't be were read, and are 0
};

// What is true of the whole: limits and usage aside.
struct ledger_state {
    bool is_uncounted;    // not all has been counted since it was made, or usage was lost
    uint8_t identity[16]; // of what is counted
};

// Locks the folder (-EBUSY). -errno with a line.
int ledger_store_open(const char *folder, struct ledger_store **ret_store, char **ret_why);
void ledger_store_close(struct ledger_store *s);
int ledger_store_folder(const struct ledger_store *s); // its descriptor, the store's

int ledger_store_state(struct ledger_store *s, struct ledger_state *ret_state); // -ENOENT: it is new
int ledger_store_set_state(struct ledger_store *s, const struct ledger_state *state);

typedef void ledger_checkpoint_each(const struct ledger_checkpoint *c, void *context);
typedef void ledger_limits_each(enum ledger_kind kind, uint64_t id, const struct ledger_limits *limits,
                                struct text path, void *context);
int ledger_store_checkpoints(struct ledger_store *s, ledger_checkpoint_each *each, void *context);
int ledger_store_limits(struct ledger_store *s, ledger_limits_each *each, void *context);

int ledger_store_write(struct ledger_store *s, const struct ledger_checkpoint *all, size_t count);
// Marks them and leaves their usage; of those that aren't known it is 0.
struct ledger_id {
    enum ledger_kind kind;
    uint64_t id;
};
int ledger_store_mark(struct ledger_store *s, const struct ledger_id *all, size_t count);
int ledger_store_limit(struct ledger_store *s, enum ledger_kind kind, uint64_t id, const struct ledger_limits *limits,
                       struct text path);

// Records, for tests: -EBADMSG if they aren't well-formed.
#define LEDGER_PATH_MAX 4096
int ledger_limits_decode(struct text key, struct text record, struct ledger_id *ret_id,
                         struct ledger_limits *ret_limits, struct text *ret_path);
int ledger_checkpoint_decode(struct text key, struct text record, struct ledger_checkpoint *ret_checkpoint);
