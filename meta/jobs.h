// SPDX-License-Identifier: BSD-3-Clause
// jobs: what librarians are asked for and who waits for it; a repository's and a bucket's.
//
//   want ──ask──▶ queued ──▶ running ──▶ done: the waiters are called, "ask again"
//                   ▲ equal wants join, in either state
//
// A `struct job` is the first field of its owner's job, which holds the want. The lock is the owner's
// own. Any thread may ask and cancel; takers are the owner's threads.
// 1. A waiter's `job` is set, under the lock, as long as it stands in a job's list; whoever takes it out
//    clears it: the job's end, which then calls it without the lock, or jobs_cancel, which then answers
//    true. So it is called once or never, and never both.
// 2. A queued job that nobody waits for is dropped when its turn comes, unless it is the owner's own
//    idea. A running one ends: its answer is kept.
// 3. Long jobs never occupy all takers where there are more than one; slow ones, which are long, too, not all that long ones may
//    have.
// 4. No lock is held while a waiter is called.
// 5. Of the idle takers the one that worked last is woken: its connection is warm, and others needn't have one.
#pragma once
#include <pthread.h>

#include "base/lock.h"
#include "base/table.h"
#include "meta/repository.h"

struct job {
    struct job *next; // in its queue
    uint64_t hash;    // of its want
    struct waiter *first;
    int64_t asked_ns;  // the owner's: since when it is there
    bool is_running, is_long;
    bool is_slow;      // and long
    bool is_own;      // done though nobody waits for it
};

struct job_queue {
    struct job *first;
    struct job **last;
    uint32_t count;
};

struct idle_taker;

struct jobs {
    struct lock *lock;
    struct idle_taker *idle;             // who waits for a job, who came last first
    void (*free)(struct job *j);
    struct job_queue short_jobs, long_jobs, slow_jobs;
    uint32_t long_running, long_max;     // slow ones as well; long_max: the owner's, before the first is taken
    uint32_t slow_running, slow_max;     // likewise
    struct table by_hash;                // struct job, queued and running
    bool is_closing;
};

void jobs_init(struct jobs *all, struct lock *lock, void (*free)(struct job *j));
void jobs_release(struct jobs *all); // after jobs_close and jobs_end_all

// Under the lock: the job with an equal want, NULL if there is none; puts a new one into its queue,
// with `hash`, `is_long` and `is_slow` set; lets somebody wait for one.
struct job *jobs_find(const struct jobs *all, uint64_t hash, table_same *same, const void *want);
void jobs_add(struct jobs *all, struct job *j);
void jobs_wait(struct job *j, struct waiter *w);

// true: it isn't called any more.
bool jobs_cancel(struct jobs *all, struct waiter *w);
// Calls those whose patience is over with -EAGAIN; their job goes on.
void jobs_hurry(struct jobs *all);
// The next that may be begun, waiting for it; NULL: closing.
struct job *jobs_take(struct jobs *all);
// Calls its waiters and frees it.
void jobs_end(struct jobs *all, struct job *j, int error);

void jobs_close(struct jobs *all);              // under the lock: takers get NULL from now on
void jobs_end_all(struct jobs *all, int error); // what was not taken, when there are no takers left
