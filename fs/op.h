// SPDX-License-Identifier: BSD-3-Clause
// op: one FUSE request on its way to its answer. A handler runs it where it was received; if it needs
// something that isn't known yet (-EINPROGRESS, with op->want filled and op->repository set), it is
// parked: copied to the heap, handed to the librarians as a waiter, and run again by the thread that
// finishes the work. A parked op has a deadline and may be interrupted; whoever claims it first
// (librarian, keeper, interrupt) answers it, exactly once.
//
//        run            ask              ready
//   NEW ────▶ RUNNING ────▶ PARKED ─────────────▶ RUNNING ──▶ (answered, freed)
//                             └─ deadline, interrupt ▶ CLAIMED ──▶ (answered, freed when the
//                                                                   library has let go of it)
#pragma once
#include <fuse_lowlevel.h>
#include <stdatomic.h>

#include "meta/repository.h"

struct fs;
struct space;
struct op;

// 0: answered. -EINPROGRESS: park it. Another -errno: answer that.
typedef int op_run(struct op *op);

struct op {
    struct waiter waiter; // the library's while PARKED
    struct want want;
    struct repository *repository; // whom to ask
    struct fs *fs;
    struct space *space;
    fuse_req_t req;
    op_run *run;
    uint64_t unique;     // of the request, without the resent bit
    bool is_resent;
    uint64_t fresh;      // repository_epoch() when it arrived
    int64_t deadline_ns;
    uint64_t node;
    uint64_t fh;
    off_t offset;
    size_t size_bytes;
    int flags;
    struct text name;    // owned when parked
    bool is_plus;        // readdirplus
    // parked ones only
    char *name_copy;
    uint32_t wait_slot; // in the state: which requests wait
    atomic_int phase;
    atomic_bool is_interrupted;
    atomic_uint references;
    struct op *previous, *next; // the parked list, under its lock
};

struct park; // all parked ops and the keeper thread that watches their deadlines

struct park *park_new(void);
// Runs it, answers or parks it. `op` may live on the stack.
void op_start(struct park *p, struct op *op);
