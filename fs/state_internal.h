// SPDX-License-Identifier: BSD-3-Clause
// state_internal: the inside of a state, for state*.c.
#pragma once
#include <stdatomic.h>

#include "base/lock.h"
#include "base/table.h"
#include "fs/state.h"
#include "fs/state_home.h"

enum { TABLE_NAMED, TABLE_FILE, TABLE_HANDLE, TABLE_HOME, TABLE_KINDS };

#define CHANGES_LEFT_MAX (4 * STATE_THREADS_MAX)
#define WORK_SLOTS (STATE_THREADS_MAX + STATE_WAITS_MAX)

struct suspect {
    uint64_t unique;
    uint32_t deaths;
    uint32_t reserved;
};

struct state_header {
    uint64_t magic;
    uint32_t version;
    uint32_t length;
    uint64_t want;
    uint32_t init_bytes;
    uint32_t high[TABLE_KINDS]; // slots below were used at some time
    uint8_t init[STATE_INIT_MAX];
    _Atomic uint64_t work[WORK_SLOTS]; // unique of the request in work; 0: none. Threads, then waits
    struct suspect suspects[WORK_SLOTS];
    struct change changes[STATE_THREADS_MAX]; // each thread's last
    struct change left[CHANGES_LEFT_MAX];     // of earlier lives, whose requests may come again
};

struct free_list {
    uint32_t *slots;
    size_t count, room;
};

struct state {
    struct lock lock;            // everything below
    uint8_t *map;
    struct state_header *header; // in the map
    struct free_list free[TABLE_KINDS];
    struct table named, files, homes; // hash -> node id
    _Atomic uint32_t threads, changers; // that have a slot
};

// state_map.c. An id is a sequence, a table's bit and an index.
#define ID_FILE_BIT (1ULL << 39)
#define ID_HOME_BIT (1ULL << 38)
#define ID_INDEX_MASK 0xffffffffULL
#define ID_SEQUENCE_SHIFT 40
#define ID_SEQUENCE_MASK 0x7fffffU // 23 bits: ids stay below 2^63
uint64_t state_id(int kind, uint32_t index, uint32_t sequence);
void *state_slot_at(const struct state *s, int kind, uint32_t index);
uint32_t state_slot_take(struct state *s, int kind); // 0: the table is full
void state_slot_free(struct state *s, int kind, uint32_t index);
struct named_node *state_named_at(const struct state *s, uint64_t id); // NULL: it isn't one, or was freed
struct file_node *state_file_at(const struct state *s, uint64_t id);
struct handle *state_handle_at(const struct state *s, uint64_t fh);

// state.c, under the state's lock. A node that is stale is in no index.
void state_named_index(struct state *s, uint64_t id, const struct named_node *n);
void state_file_index(struct state *s, uint64_t id, const struct file_node *n);
void state_file_unindex(struct state *s, uint64_t id, const struct file_node *n);
void state_file_free(struct state *s, uint64_t id, struct file_node *n);

// state_home.c, state_work.c: for state.c and state_map.c.
struct home_node *state_home_at(const struct state *s, uint64_t id);
void state_home_forget(struct state *s, uint64_t id, uint64_t lookups);
void state_home_repair(struct state *s);
bool state_home_repair_open(struct state *s, const struct handle *h); // false: its node isn't there
void state_changes_keep(struct state *s);
