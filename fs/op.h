// SPDX-License-Identifier: BSD-3-Clause
// op: one FUSE request on its way to its answer. A handler runs it where it was received; if it needs
// something that isn't there yet (-EINPROGRESS, with op->source set to who can bring it, and what he
// is to be asked filled in), it is parked: copied to the heap, handed to the source as a waiter, and
// run again by the thread that finishes the work. It may wait for several sources one after the
// other. A parked op has a deadline and may be interrupted; whoever claims it first (the source,
// keeper, interrupt) answers it, exactly once.
//
//        run            ask              ready
//   NEW ────▶ RUNNING ────▶ PARKED ─────────────▶ RUNNING ──▶ (answered, freed)
//                             └─ deadline, interrupt ▶ CLAIMED ──▶ (answered, freed when the
//                                                                   source has let go of it)
#pragma once
#include <fuse_lowlevel.h>
#include <fcntl.h>
#include <stdatomic.h>

#include "cache/cache.h"
#include "cache/upload.h"
#include "meta/bucket.h"

struct fs;
struct space;
struct op;

// 0: answered. -EINPROGRESS: park it. Another -errno: answer that.
typedef int op_run(struct op *op);

// Who brings what an op waits for: a repository's librarians, a bucket's, the cache.
struct op_source {
    const char *name;              // for the log: "the registry"
    // -EINPROGRESS: handed over; op_answered(op) is called exactly once, by any thread with no lock
    // held, perhaps before this returns. 0, -errno: not handed over, that is the answer.
    int (*ask)(struct op *op);
    bool (*cancel)(struct op *op); // true: op_answered will not be called
    void (*release)(struct op *op); // what was filled in; the op may be asking again after it
};
extern const struct op_source op_librarians; // of op->repository, for op->want
extern const struct op_source op_bucket;     // of op->bucket, for op->bucket_want
extern const struct op_source op_cache;      // for op->cache_want
extern const struct op_source op_uploads;    // for op->upload_event of op->upload, which is held

// What a verb that changes something is asked for, beside name, flags, offset and size.
struct op_change {
    uint64_t to_node;    // rename, link: the folder; copy: the file
    struct text to_name; // rename, link; of a symlink what it says
    uint64_t to_fh;      // copy
    off_t to_offset;
    mode_t mode, umask;
    dev_t device;
    const struct stat *attr; // setattr: the fields of to_set (FUSE_SET_ATTR_*)
    int to_set;
    const char *data;    // write, setxattr: size_bytes
    bool has_fh;
    bool kills_privileges; // who writes isn't root: a set-user-id bit goes
    bool is_data_only;   // fsync
    bool is_begun;       // a part of it was done before the op was parked: it is run again for the rest
};

// fcntl's, OFD and flock locks.
struct op_lock {
    uint64_t owner;     // the kernel's word for who locks
    struct flock range; // l_type: what is wanted
    bool is_flock, is_test, waits;
};

struct op {
    struct waiter waiter; // the source's while PARKED
    const struct op_source *source; // whom to ask; NULL: nobody yet
    struct want want;
    struct repository *repository;
    struct bucket_want bucket_want;
    struct bucket *bucket;
    struct cache_waiter cache_waiter;
    struct cache_want cache_want;
    struct cache_want cache_held; // of the wait before: keeps what arrived until `run` has used it
    struct upload_waiter upload_waiter;
    struct upload *upload;
    enum upload_event upload_event;
    struct fs *fs;
    struct space *space;
    fuse_req_t req;
    op_run *run;
    bool takes_errors;   // `run` is called with what the source failed with, and says what it means
    int source_error;
    uint64_t unique;     // of the request, without the resent bit
    bool is_resent;
    uint64_t fresh;      // the space's word for what is new enough, when it arrived
    int64_t arrived_ns;
    int64_t deadline_ns;
    uint64_t node;
    uint64_t fh;
    off_t offset;
    size_t size_bytes;
    int flags;
    struct text name;    // owned when parked
    bool is_plus;        // readdirplus
    bool fills_pages;    // read: for the kernel's own pages of the file, not for a read(2)
    bool was_provisioned; // of a look-up: it has been tried to make what is looked for
    bool has_left;       // of entries: the kernel is to keep them no longer than
    int64_t left_ns;
    uint8_t recalls;     // of a read: times that its bytes turned out to be nearline
    bool is_passing;     // of an entry: the name may be gone at any time, the kernel is to keep it for none
    bool is_statx;       // getattr, answered by fs_reply_stat
    struct op_lock lock;
    struct op_change change; // of the verbs that change something; what it points to isn't kept when parked, but for to_name
    bool ignores_interrupts; // what was begun can't be given up
    // parked ones only
    char *name_copy, *to_name_copy;
    uint32_t wait_slot; // in the state: which requests wait
    atomic_int phase;
    atomic_bool is_interrupted;
    atomic_uint references;
    struct op *previous, *next; // the parked list, under its lock
};

struct park; // all parked ops and the keeper thread that watches their deadlines, and hurries spaces along

struct park *park_new(struct fs *fs);
// Runs it, answers or parks it. `op` may live on the stack.
void op_start(struct park *p, struct op *op);
// For sources: what `op` waits for is there (0) or can't be had (-errno).
void op_answered(struct op *op, int error);

// Whether the caller is of that group: his own, or one of the first `most` (at most OP_GROUPS_MAX) that he is in besides.
#define OP_GROUPS_MAX 1024
bool op_is_of_group(const struct op *op, gid_t gid, int most);
