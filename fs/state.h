// SPDX-License-Identifier: BSD-3-Clause
// state: what must outlive the daemon's process, in a memfd that the supervisor holds: the saved INIT
// request, which nodes the kernel knows, which handles are open, which backing ids are registered,
// which requests were in work. A new daemon maps it, checks it and goes on.
//
// The file is sparse: each table has its own wide range of it and takes memory only where it was
// used. Everything is written so that a kill between any two stores leaves a state that state_open
// can repair: counts of opens are derived from the handles, indexes live in the process only.
//
// A node id is a number: sequence, table, index. It is given to a stored thing, survives the process
// and is freed by FORGET; an id of an earlier sequence is known to be old.
//   named nodes (folders, links, README.txt): (parent, name), a folder's node belongs to its path;
//   file nodes: (space, dataset, component), one node whatever path leads to it; or (space, object),
//   which has a named node of its own that says what it is called and that the kernel never sees;
//   home nodes (state_home.h): (space, file handle), whatever path leads to it.
//
// Lost with a death: a FORGET that was read and not carried out leaks its node until the mount ends.
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/text.h"

#define STATE_ROOT 1 // FUSE_ROOT_ID
#define STATE_NAME_MAX 255
#define STATE_THREADS_MAX 128 // no more workers than that (options_table.c)
#define STATE_WAITS_MAX 896

enum node_kind { NODE_FREE, NODE_FOLDER, NODE_LINK, NODE_README, NODE_NAME, NODE_FILE, NODE_HOME };

// How a file node is open; the kernel allows no mixture on one inode:
//
//          open, passthrough possible          last release
//   NONE ──────────────────────────▶ PASSTHROUGH ──────────▶ NONE
//     └──────── open, otherwise ───▶ CACHED ───────────────▶ NONE
enum open_mode { OPEN_NONE, OPEN_CACHED, OPEN_PASSTHROUGH };

struct named_node {
    uint32_t sequence;
    uint8_t kind;          // enum node_kind
    uint8_t is_stale;      // it was removed: its name leads to another one, or nowhere
    uint16_t space;
    uint64_t lookups;      // the kernel's references; under the state's lock
    uint64_t parent;       // node id; 0 for the root
    uint64_t ino;
    uint64_t cached_epoch; // of the listing the kernel may hold in its cache; 0: none
    uint16_t name_bytes;
    char name[STATE_NAME_MAX + 1];
    uint8_t padding[22];
};

struct file_node {
    uint32_t sequence;
    uint8_t kind;          // NODE_FILE or NODE_FREE
    uint8_t mode;          // enum open_mode
    uint16_t space;
    uint64_t lookups;
    uint8_t uuid[16];      // of the dataset; of an object: hash128 of its key
    uint64_t component;    // hash64 of its name; 0: the whole dataset
    int64_t size_bytes;
    int64_t mtime_unix_ns;
    uint64_t parent;       // the folder it was last seen in
    uint32_t opens;        // derived from the handles
    int32_t backing_id;    // registered with the kernel; 0: none
    uint64_t artifact;     // a hash: which file, or version of an object, is or was last open; 0: none yet
    uint64_t pages;        // a hash: which bytes of it the kernel's pages were read from
    uint64_t name;         // of an object: its NODE_NAME; 0
    uint8_t is_stale;      // its artifact was replaced: no name leads here any more
    uint8_t reserved[7];
};

enum handle_kind { HANDLE_FREE, HANDLE_FILE, HANDLE_FOLDER, HANDLE_HOME };

struct handle {
    uint32_t sequence;
    uint8_t kind;          // enum handle_kind
    uint8_t mode;          // enum open_mode, of a file
    uint16_t reserved;
    uint64_t node;
    uint64_t unique;       // of the OPEN request that made it: a resent one finds it again
    uint64_t generation;   // of a folder's listing (meta); 0: none
    uint64_t epoch;        // of a folder's listing
    uint32_t flags;        // what it was opened with (open(2)): HANDLE_HOME, and a HANDLE_FILE for writing
    uint32_t more_reserved;
    uint64_t padding[2];
};

struct state;

// Maps the memfd; makes it on first use. Repairs what a death left half done. -EBADMSG: not a state
// of a version this program understands, *ret_why says so.
int state_open(int fd, struct state **ret_state, const char **ret_why);
void state_close(struct state *s);

// The INIT request and the capabilities that were agreed on, for the next life.
#define STATE_INIT_MAX 1024
void state_save_init(struct state *s, struct text request);
bool state_saved_init(const struct state *s, struct text *ret_request); // false: there was none yet
void state_save_want(struct state *s, uint64_t want);
uint64_t state_saved_want(const struct state *s);

// Requests in work: `unique` without the resent bit. state_suspect() after a crash counts one more
// death for each request that was in work; state_deaths tells how many a request has. One that waits for
// a librarian is in work too: it may be what he was doing that crashed.
void state_work_begin(struct state *s, uint64_t unique); // on this thread
void state_work_end(struct state *s);
uint32_t state_wait_begin(struct state *s, uint64_t unique); // a slot; STATE_WAITS_MAX: none was free
void state_wait_end(struct state *s, uint32_t slot);
void state_suspect(struct state *s, bool was_crash);
uint32_t state_deaths(const struct state *s, uint64_t unique);

// Requests that change something, so that one that comes again is not carried out twice. What a thread
// does is written down before it and, with its result, after it and before the reply: so a request that
// comes again was never begun, or is done with this result, or was cut off in between (then whoever
// carries it out looks at what there is).
enum change_phase { CHANGE_NONE, CHANGE_BEGUN, CHANGE_DONE };
struct change {
    uint64_t unique;   // 0: none
    uint64_t detail;   // the verb's own, of the time before
    uint64_t node;     // DONE: what it made, its look-up counted; 0
    int32_t result;    // DONE
    uint32_t phase;    // enum change_phase
};
void state_change_begin(struct state *s, uint64_t unique, uint64_t detail); // on this thread
void state_change_end(struct state *s, int result, uint64_t node);
// What an earlier life knew of it. CHANGE_NONE: nothing.
enum change_phase state_change_find(const struct state *s, uint64_t unique, struct change *ret_change);

// st_ino of anything that has a name: from its folder's and the name, or of another hash; never that of
// a mount's root, nor 0.
uint64_t state_ino(uint64_t parent_ino, struct text name);
uint64_t state_ino_of_hash(uint64_t hash);

// Nodes. All under one lock, held inside each call only; what a call gives out is a copy.
// Finds or makes the node and counts one look-up of the kernel's. 0: the table is full.
uint64_t state_named(struct state *s, uint64_t parent, struct text name, enum node_kind kind,
                     uint16_t space);
// The folder of that name was removed: the kernel takes its node for dead from then on, so the name, if it is there again,
// leads to a new one.
void state_leave_named(struct state *s, uint64_t parent, struct text name);
struct file_key {
    uint8_t uuid[16];
    uint64_t component;
    uint16_t space;
};
uint64_t state_file(struct state *s, const struct file_key *key, uint64_t parent,
                    int64_t size_bytes, int64_t mtime_unix_ns, struct file_node *ret_copy);
// The same of an object that is called `name` in `parent`. `artifact`: its version as it is now; a
// node that is open in another one becomes stale, and the name leads to a new one.
struct object_name {
    uint64_t parent;
    struct text name;
    uint64_t artifact;
    int64_t size_bytes;
    int64_t mtime_unix_ns;
};
uint64_t state_object(struct state *s, const struct file_key *key, const struct object_name *name,
                      struct file_node *ret_copy);
// It was written to by who has it open. `artifact` 0: as it was.
void state_wrote(struct state *s, uint64_t node, int64_t size_bytes, int64_t mtime_unix_ns, uint64_t artifact);
// The object of that key is this one now. Its node, where it was another's: that of the new one, or, while somebody has it
// open, one to which no name leads any more. 0: there is none, or it was this one's.
uint64_t state_replaced(struct state *s, const struct file_key *key, int64_t size_bytes, int64_t mtime_unix_ns,
                        uint64_t artifact);
// No name leads to it any more: who looks its name up gets another node.
void state_set_stale(struct state *s, uint64_t node);
void state_set_stale_key(struct state *s, const struct file_key *key); // the same of that key's, if it has one
void state_root(struct state *s, uint16_t space, uint64_t ino);
void state_forget(struct state *s, uint64_t node, uint64_t lookups);
enum node_kind state_kind(struct state *s, uint64_t node); // NODE_FREE: unknown or old
bool state_get_named(struct state *s, uint64_t node, struct named_node *ret_copy);
bool state_get_file(struct state *s, uint64_t node, struct file_node *ret_copy);
uint16_t state_space(struct state *s, uint64_t node); // UINT16_MAX: unknown
// The names from below the space's root down to the node: calls `each` top down. Bounded depth.
// -ESTALE: a parent is not known any more; -ENAMETOOLONG.
int state_path(struct state *s, uint64_t node, uint16_t space,
               int (*each)(struct text name, void *context), void *context);
void state_set_cached_epoch(struct state *s, uint64_t node, uint64_t epoch);

// What opening and closing do to a file node runs under the lock, in one step with the handle, so that
// no other open or release comes between. It may change mode, size_bytes, backing_id, artifact, pages and
// is_stale (which takes the node out of the index), and must not block beyond an ioctl on /dev/fuse.
typedef int state_update(struct file_node *n, void *context);

// Handles. fh: sequence and index. `opening` (NULL for folders) may refuse: its -errno is the answer.
int state_open_handle(struct state *s, enum handle_kind kind, uint64_t node, uint64_t unique,
                      state_update *opening, void *context, uint64_t *ret_fh);
uint64_t state_find_handle(struct state *s, uint64_t unique); // made by that request; 0: none
bool state_get_handle(struct state *s, uint64_t fh, struct handle *ret_copy);
void state_set_listing(struct state *s, uint64_t fh, uint64_t generation, uint64_t epoch);
// `last` is called when this was the node's last handle (NULL for folders).
// false: it was closed before (a resent RELEASE).
bool state_close_handle(struct state *s, uint64_t fh, struct handle *ret_was, state_update *last,
                        void *context);
void state_set_flags(struct state *s, uint64_t fh, uint32_t flags);
uint32_t state_handle_index(uint64_t fh); // for tables of the process beside it
// Calls `each` for every open handle (at start, to rebuild what the process holds).
void state_each_handle(struct state *s, void (*each)(uint64_t fh, const struct handle *h, void *context),
                       void *context);

// For file nodes whose backing id a death left behind with no handle: `each` sees every such node.
void state_each_idle_file(struct state *s, state_update *each, void *context);
