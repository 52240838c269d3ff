// SPDX-License-Identifier: BSD-3-Clause
// fetcher_internal: what the fetchers' files share; others use fetcher.h.
//   fetcher.c           the door: start, cancel, raise, wake; making and ending all of it; status
//   fetcher_endpoint.c  endpoints: who waits, who may fly, on which thread
//   fetcher_thread.c    one thread: its events, its inbox, its clock
//   fetcher_turn.c      one fetch on its thread: attempts, verdicts, races, plain ones
//   fetcher_judge.c     what is the same for all servers
//   fetcher_transfer.c  one attempt on the wire: curl's handle and what it calls
// Only the last and fetcher_thread.c know curl.
#pragma once
#include <pthread.h>
#include <stdatomic.h>

#include "base/lock.h"
#include "cache/fetcher.h"
#include "cache/fetcher_health.h"

#define FETCHER_THREADS_MAX 16
#define FETCHER_TICK_NS (50 * NS_PER_MS)
#define FETCH_DETOURS_MAX 8
#define ENDPOINTS_MAX 1024

// Fetches in order. A fetch is in one list at most: one of its endpoint's while QUEUED, `parked` while AWAITING
// or SLEEPING (under the lock), its thread's while FLYING (the thread's alone).
struct fetch_list {
    struct fetch *first, *last;
    uint32_t count;
};

void fetch_list_append(struct fetch_list *l, struct fetch *f);
void fetch_list_prepend(struct fetch_list *l, struct fetch *f);
void fetch_list_remove(struct fetch_list *l, struct fetch *f);

struct endpoint {
    struct fetchers *all;
    struct endpoint *next;
    char *name;
    char *ca_bundle;  // or NULL
    char *proxy;      // or NULL
    bool is_plain;
    uint32_t slots;
    atomic_int_fast64_t latency_ns; // see endpoint_latency_ns
    // Under the lock:
    struct fetch_list queued[FETCH_PRIORITIES];
    uint32_t flying;
    uint32_t flying_of[FETCH_PRIORITIES];
    uint32_t racing;  // second transfers, beyond the slots
    struct health health;
    char *trouble;    // the last, for status; NULL: none yet
    int64_t trouble_unix_ns;
    uint64_t answered, failed;
};

struct fetcher_thread {
    struct fetchers *all;
    int32_t number;
    pthread_t thread;
    bool is_started;
    int epoll_fd;
    int event_fd;
    // Under the lock:
    struct fetch *inbox, **inbox_last;
    uint32_t load;       // fetches it has
    bool is_signalled;   // its event_fd is, or it is about to look
    bool is_cancelling;  // everything it has
    bool is_ending;
    // The thread's alone:
    void *multi;         // CURLM
    struct fetch_list owned;
    struct transfer *spare;
    struct transfer *dropped; // to be taken from the multi handle when curl isn't running
    int64_t curl_ns;     // when curl wants to be called; INT64_MAX: no need
    int64_t tick_ns;     // of the last one
    uint32_t random;
};

struct fetchers {
    struct fetchers_options options;
    struct lock lock;
    pthread_cond_t emptied;      // fetches == 0
    // Under the lock:
    struct endpoint *endpoints;
    uint32_t endpoint_count;
    uint32_t fetches;            // started and not done; and holds
    bool is_ending;              // whatever would wait is cancelled
    struct fetch_list parked;    // AWAITING and SLEEPING
    uint32_t queued;             // of all endpoints
    bool is_time_kept;           // the first thread will look at what waits by itself
    struct fetcher_thread threads[FETCHER_THREADS_MAX]; // [options.threads]; the first keeps the time
};

// ---- endpoints: all under the lock

// Puts it into its endpoint's queue, in front or at the end, and lets fly what may. -EBUSY: the queue is full
// (not at the front: those had their place already).
int endpoint_queue(struct fetch *f, bool in_front);
void endpoint_dispatch(struct endpoint *e);
void endpoint_unqueue(struct fetch *f);          // from QUEUED
void endpoint_land(struct fetch *f);             // from FLYING: its slot is free
void endpoint_trouble(struct endpoint *e, const char *why);
bool endpoint_may_race(struct endpoint *e);
void endpoints_free(struct fetchers *all);

// ---- messages to threads: under the lock

// The thread that has it will look at it.
void thread_tell(struct fetch *f);
void thread_signal(struct fetcher_thread *t);
// Gives a fetch that is in no list to a thread, to end it there with f->error, or as cancelled.
void thread_end(struct fetch *f);
// Out of its thread's inbox, and no longer its load.
void thread_forget(struct fetch *f);
void thread_cancel_all(struct fetcher_thread *t);
void fetch_cancel_held(struct fetch *f);
// Somebody waits for a time, so the first thread must not sleep for ever.
void fetchers_keep_time(struct fetchers *all);

// ---- one thread

int thread_open(struct fetcher_thread *t, struct fetchers *all, int32_t number);
void thread_close(struct fetcher_thread *t);     // with no fetch left; joins it

// ---- one fetch, on its thread, without the lock

struct fetch_news { // taken from its flags
    bool is_cancelled, is_woken, is_new, is_ended;
};
void fetch_hear(struct fetcher_thread *t, struct fetch *f, struct fetch_news news);
// One of its transfers has ended so; it isn't used any more afterwards.
void fetch_landed(struct fetcher_thread *t, struct transfer *x, const struct fetch_outcome *o);
// Bytes have come by this one: it goes on alone.
void fetch_won(struct fetcher_thread *t, struct transfer *x);
void fetch_tick(struct fetcher_thread *t, struct fetch *f, int64_t now_ns);
void fetch_run(struct fetcher_thread *t, struct fetch *f); // one turn of a plain one
// What waits in queues and parked, and is due or too late; by the first thread. Takes the lock.
void fetchers_look_at_time(struct fetchers *all, int64_t now_ns);

// ---- one attempt on the wire, on its thread

struct transfer {
    struct fetcher_thread *thread;
    struct fetch *fetch;     // NULL: dropped
    struct transfer *next;   // spare, dropped
    void *easy;              // CURL
    void *fields;            // curl_slist
    struct fetch_message message;
    struct fetch_head head;
    struct buffer body;      // of an error
    uint64_t given_bytes;
    uint64_t sent_bytes;     // of the message's payload
    int64_t progress_ns;     // of the last byte either way, or the start
    int64_t started_ns;
    int own_error;           // of begin or sink
    bool has_begun;
    bool is_paused;
    bool is_answered;        // its head is complete
    char *error_text;        // curl's
};

// Asks f's user what to ask and sends that. -EINPROGRESS and others are prepare's.
int transfer_start(struct fetcher_thread *t, struct fetch *f, struct transfer **ret_transfer);
void transfer_unpause(struct transfer *x);
// Its fetch hears nothing more of it. May be called from within curl's callbacks.
void transfer_drop(struct transfer *x);
void transfers_collect(struct fetcher_thread *t);  // what was dropped, when curl isn't running
void transfers_landed(struct fetcher_thread *t);   // what curl says has ended
void transfers_free(struct fetcher_thread *t);
