// SPDX-License-Identifier: BSD-3-Clause
// state_home: nodes of inodes of a home tree, in the state (state.h): one for each inode, whatever names
// lead to it, known by the file handle that its file system gave it. Locking and lifetime are as in state.h.
#pragma once
#include "fs/state.h"

#define HOME_HANDLE_MAX 128

struct home_handle {
    int32_t type;
    uint32_t size_bytes;
    uint8_t data[HOME_HANDLE_MAX];
};

enum home_place {
    HOME_PLACE_OTHER, // below a home
    HOME_PLACE_ROOT,  // the tree's; no node has it
    HOME_PLACE_HOME,  // right below the tree's root
    HOME_PLACE_DOT,   // in a home under a name that begins with a dot, and all below that
};

// Where an inode was found.
struct home_where {
    uint64_t tree; // of home_node
    enum home_place place;
};

// How a file is open (mode, backing_id), for as long as it is open at all: all its handles by passthrough (what is
// written still comes through the daemon: FOPEN_DIRECT_IO) with one backing id, or, where that can't be
// (OPEN_CACHED), all through the daemon without the kernel's cache.
struct home_node {
    uint32_t sequence;
    uint8_t kind;          // NODE_HOME or NODE_FREE
    uint8_t mode;          // enum open_mode
    uint16_t space;
    uint64_t lookups;
    uint64_t ino;          // of the file system below
    uint64_t tree;         // at its last look-up: the folder with a limit of its own that it is in (meta/ledger.h); 0: none
    uint32_t opens;        // derived from the handles
    int32_t backing_id;    // registered with the kernel; 0: none
    uint32_t type;         // S_IFMT of its mode
    uint8_t is_orphan;     // its last name was taken away, or was about to be
    uint8_t place;         // enum home_place, at its last look-up
    uint8_t reserved[2];
    struct home_handle handle;
    int64_t reserved_bytes; // the end of what fallocate reserved behind its length; 0: nothing; -1: not looked at yet
};

// Finds or makes the node and counts one look-up of the kernel's. 0: the table is full.
uint64_t state_home(struct state *s, uint16_t space, const struct home_handle *handle, uint64_t ino,
                    uint32_t type, struct home_where where);
// The same, of one that the kernel knows, without counting. 0: it doesn't.
uint64_t state_home_find(struct state *s, uint16_t space, const struct home_handle *handle);
bool state_get_home(struct state *s, uint64_t node, struct home_node *ret_copy);

// Runs under the state's lock, as state_update; may change mode, backing_id, tree, is_orphan, reserved_bytes.
typedef int state_home_update(struct home_node *n, void *context);
int state_update_home(struct state *s, uint64_t node, state_home_update *update, void *context); // -ESTALE
int state_open_home(struct state *s, uint64_t node, uint64_t unique, uint32_t flags,
                    state_home_update *opening, void *context, uint64_t *ret_fh);
// As state_close_handle. `last` sees the node's last handle go.
bool state_close_home(struct state *s, uint64_t fh, struct handle *ret_was, state_home_update *last,
                      void *context);
void state_each_open_home(struct state *s, void (*each)(const struct home_node *n, void *context), void *context);
// Nodes that a death left with no handle.
void state_each_idle_home(struct state *s, state_home_update *each, void *context);
