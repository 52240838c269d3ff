// SPDX-License-Identifier: BSD-3-Clause
// ledger_map: usage and the changes in work, in a file that is mapped shared, so that a killed process leaves them
// as they are. Nothing here locks: the caller does (but for map_open and map_close, which nobody else can see yet).
//
//     header │ slots: changes in work │ entries: owners, open-addressed by (kind, id)
//
// All that must change together is one `struct map_step`: values are put into the header's redo record, the record is
// made valid, then carried out. Whoever opens the file carries out a valid record again. A thread's stores are seen
// in its program's order once it is dead, and the lock sees to it that no other's are among them.
// After a power cut the file may hold anything: it is only believed within one boot of the machine.
#pragma once
#include <stdatomic.h>

#include "base/buffer.h"
#include "meta/ledger.h"

#define MAP_MAGIC 0x31706d67646c6662ULL // "bfldgmp1"
#define MAP_VERSION 1
#define MAP_HEADER_BYTES 4096
#define MAP_BOOT_BYTES 40
#define MAP_STEP_ENTRIES (3 * LEDGER_KINDS) // owners before, reserved and at the end
#define MAP_AMOUNT_MAX (1LL << 62)
#define MAP_SLOTS_MAX 65536
#define MAP_ENTRIES_MIN 1024 // a power of two
#define MAP_ENTRIES_MAX (1 << 24)

struct map_sums {
    int64_t used_bytes, used_files;     // reserved ones too
    int64_t orphan_bytes, orphan_files; // of those, by inodes without a name
};

enum map_entry_flags {
    ENTRY_MARKED = 1,  // the store knows that it may have changed since its checkpoint
    ENTRY_RECOUNT = 2, // what is used is to be counted again
    ENTRY_HAS_OWN = 4, // limits
};

struct map_entry {
    _Alignas(128) uint32_t kind; // ledger_kind + 1; 0: free
    uint32_t flags;
    uint64_t id;
    struct map_sums sums; // changed by steps only
    struct ledger_limits limits;
    int64_t over_unix_ns[2];     // since when over a soft limit: bytes, files
    uint32_t changed_tick;       // of this process: the last change
    uint32_t written_tick;       // and when it was last written down
    int64_t warned_unix_ns;
};
_Static_assert(sizeof(struct map_entry) == 128, "entries are two cache lines");

enum map_slot_state { SLOT_FREE, SLOT_BUSY };

struct map_slot {
    uint32_t state; // changed by steps only
    uint32_t flags;
    uint32_t what, space;
    struct ledger_file file;
    struct ledger_charge before, after;
    uint32_t handle_bytes, name_bytes;
    char handle[LEDGER_HANDLE_MAX];
    char name[LEDGER_NAME_MAX + 1];
};
_Static_assert(sizeof(struct map_slot) <= 584, "a slot");

struct map_step {
    uint32_t count;
    uint32_t slot, slot_state; // slot UINT32_MAX: none
    struct {
        uint32_t entry, reserved;
        struct map_sums sums; // what they become
    } entries[MAP_STEP_ENTRIES];
};

struct map_header {
    uint64_t magic;
    uint32_t version, header_bytes;
    uint64_t length_bytes;
    uint32_t slot_count, entry_room;
    char boot[MAP_BOOT_BYTES];
    uint64_t hash; // of what is above
    _Atomic uint32_t redo_is_valid;
    struct map_step redo;
};
_Static_assert(sizeof(struct map_header) <= MAP_HEADER_BYTES, "the header");

struct ledger_map {
    struct map_header *header; // the mapping
    struct map_slot *slots;
    struct map_entry *entries;
    size_t length_bytes;
    uint32_t slot_count, entry_room;
    uint32_t entry_count; // in use
    int folder_fd;        // the caller's; -1: in memory
};

void map_boot_now(char ret_boot[MAP_BOOT_BYTES]);
// Opens `usage` in the folder and carries out what was left undone. -ENOENT: there is none; -ESTALE: of another boot;
// -EBADMSG: not well-formed. Other -errno: of the disk.
int map_open(struct ledger_map *m, int folder_fd);
// Makes an empty one in its place (folder_fd -1: in memory). At least so many entries have room.
int map_create(struct ledger_map *m, int folder_fd, uint32_t slot_count, uint32_t entries);
void map_close(struct ledger_map *m);
// Whether these bytes are a well-formed map of this boot: 0, -ESTALE, -EBADMSG.
int map_check(const void *bytes, size_t size_bytes);

struct map_entry *map_find(const struct ledger_map *m, enum ledger_kind kind, uint64_t id); // NULL
// Room for so many more. Moves all entries. -errno: the disk is full; nothing changed.
int map_reserve(struct ledger_map *m, uint32_t more);
// Finds or adds; there is room (map_reserve).
struct map_entry *map_entry(struct ledger_map *m, enum ledger_kind kind, uint64_t id);
// The step to be filled in, and carried out: it is in the file, and nothing until then.
struct map_step *map_step(struct ledger_map *m);
void map_carry_out(struct ledger_map *m);
