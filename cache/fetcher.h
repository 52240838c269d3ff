// SPDX-License-Identifier: BSD-3-Clause
// fetcher: exchanges with servers, by threads `fetcher/N` that wait for all of them at once. It knows HTTP,
// endpoints and their health; what is asked and what an answer means its user says (struct fetch_ops; the
// users are the origins in origin/, everybody else uses origin/origin.h). A daemon has one `struct fetchers`.
//
//             a slot is free           prepare                 judge: END, or cancelled, or the deadline
//   QUEUED ──────────────────▶ FLYING ─────────▶ (on the wire) ─────────────────────────────▶ DONE
//     ▲  ▲                       │  │ prepare: -EINPROGRESS          │ judge: RETRY
//     │  └──────── AWAITING ◀────│──┘                                ▼
//     └───────────────────────── │ ◀───────────────────────────── SLEEPING
//
// An endpoint (scheme, host, port, and how it is reached) has a bounded number of slots, a bounded queue by
// priority, and a health: failures in a row close it for a while (all its requests wait, one tries), a
// server that says SlowDown gets fewer at once. Endpoints share nothing, so that none starves another.
//
// Any function from any thread, under any lock of a rank below LOCK_RANK_FETCHERS; none waits (but new and
// free). Callbacks come from the one thread that has the fetch, with no lock held, and must not wait.
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/doc.h"
#include "base/text.h"

struct fetchers;
struct endpoint;
struct fetch;
struct transfer;

// ---- the threads

struct fetchers_options {
    uint32_t threads;       // 1 to 16
    uint32_t connections;   // slots of an endpoint, where its origin doesn't say
    uint32_t waiting;       // requests that may wait for one endpoint; more are answered -EBUSY
    uint32_t buffer_bytes;  // of one connection, read at once
    int64_t connect_ns;     // for name, TCP and TLS
    int64_t stall_ns;       // without a byte: another connection is tried beside the first
    int64_t dead_ns;        // without a byte: the connection is dropped
    int64_t retry_ns;       // the first pause before a retry; doubles, with jitter
    int64_t retry_max_ns;   // the longest
    uint32_t retries;       // of one request that is answered by errors; unanswered ones go on until their deadline
};
#define FETCHERS_OPTIONS_STANDARD                                                                  \
    ((struct fetchers_options){.threads = 2,                                                       \
                               .connections = 64,                                                  \
                               .waiting = 8192,                                                    \
                               .buffer_bytes = 256 << 10,                                          \
                               .connect_ns = INT64_C(10000000000),                                 \
                               .stall_ns = INT64_C(2000000000),                                    \
                               .dead_ns = INT64_C(8000000000),                                     \
                               .retry_ns = INT64_C(50000000),                                      \
                               .retry_max_ns = INT64_C(5000000000),                                \
                               .retries = 8})

// -errno when the threads can't be started.
int fetchers_new(const struct fetchers_options *options, struct fetchers **ret_fetchers);
// Cancels what is in work and waits for its `done` calls. No origin or endpoint of it may be used any more.
void fetchers_free(struct fetchers *all);
define_cleanup(struct fetchers *, fetchers_free);
// A thread that may still use them is waited for, until it lets go.
void fetchers_hold(struct fetchers *all);
void fetchers_let_go(struct fetchers *all);
// Puts threads and, for each endpoint, its limits, what flies, waits and sleeps, its health and its last trouble.
void fetchers_status(struct fetchers *all, struct doc *map);

// ---- endpoints

struct endpoint_options {
    const char *ca_bundle;  // NULL: the system's
    const char *proxy;      // NULL: none
    uint32_t connections;   // 0: as fetchers_options
    bool is_plain;          // no connection to be made: a thread runs the fetch (fetch_ops.run)
};

// The endpoint of that URL (its scheme, host and port; a plain one: the whole text), the same for the same
// ca_bundle and proxy. It lives as long as `all`; there are at most 1024 (-EMFILE). -EINVAL: not http(s)://host[:port].
int endpoint_get(struct fetchers *all, const char *url, const struct endpoint_options *options,
                 struct endpoint **ret_endpoint);
struct text endpoint_name(const struct endpoint *e); // "https://host:port"
// From asking until an answer began, connecting included where that was needed: the best of late. 0: unknown.
int64_t endpoint_latency_ns(const struct endpoint *e);

// ---- what came back

#define FETCH_HEAD_BYTES_MAX ((size_t)64 << 10)
#define FETCH_BODY_BYTES_MAX ((size_t)16 << 10) // of an answer that is an error

struct fetch_head { // of the last answer (1xx left out)
    int status;
    struct buffer fields; // "name\0value\0", names in lower case, spaces around values cut off
};

// The first field of that name (in lower case); empty: none.
struct text fetch_head_get(const struct fetch_head *h, const char *name);
int64_t fetch_head_integer(const struct fetch_head *h, const char *name);   // -1: none, or no number >= 0
// Unix seconds of an HTTP date; INT64_MIN: none, or none that can be read.
int64_t fetch_head_date(const struct fetch_head *h, const char *name);
// Content-Range: "bytes 0-9/100", "bytes */100": what isn't said is -1. -EINVAL: not there or malformed.
struct fetch_range {
    int64_t first, last, size_bytes;
};
int fetch_head_range(const struct fetch_head *h, struct fetch_range *ret_range);

struct fetch_outcome {
    int error;             // 0: answered, and completely; else how the wire failed: -ECONNREFUSED, -EHOSTUNREACH (no
                           // such name too), -ETIMEDOUT (connect, dead), -ECONNRESET, -EPROTO (TLS, not HTTP),
                           // or what begin or sink returned
    const char *why;       // of the error
    bool is_own;           // the error is begin's or sink's
    const struct fetch_head *head; // status 0: no answer
    struct text body;      // of a status other than 2xx, its beginning
    uint64_t given_bytes;  // that sink has taken
};

// ---- one exchange, with its retries

struct fetch_message { // what is asked, made anew for each attempt; the fetcher's memory
    struct buffer url;
    struct buffer fields;  // "Name: value\0" repeated
    enum { FETCH_METHOD_GET, FETCH_METHOD_HEAD, FETCH_METHOD_PUT, FETCH_METHOD_POST, FETCH_METHOD_DELETE } method;
    struct buffer body;    // PUT, POST: small ones only
    struct text payload;   // PUT, POST: instead of body (or the body itself, sent so); the user's memory, unchanged until `done`
    uint64_t expected_bytes; // of the answer's body, about; UINT64_MAX: who knows. For the size of its buffer
};

enum fetch_verdict {
    FETCH_END,      // f->error and f->why say how
    FETCH_RETRY,    // the server (or the way to it) is in trouble: later
    FETCH_SLOWER,   // it is asked too much: later, and fewer at once
    FETCH_LATER,    // it is well, did nothing, and wants to be asked again in a moment
    FETCH_AGAIN,    // at once, asked otherwise. Bounded
};

#define FETCH_PAUSE 1     // sink
#define FETCH_PAUSE_NS INT64_C(1000000000) // then it is given again without having been woken
#define FETCH_RUN_AGAIN 1 // run: has not ended, call again when others had their turn
#define FETCH_RUN_LATER 2 // run: not before f->wake_ns, or fetch_wake

struct fetch_ops {
    // What to ask now. -EINPROGRESS: can't be said yet; fetch_wake will be called, and then this again.
    // Below 0: ends with that error (f->why).
    int (*prepare)(struct fetch *f, struct fetch_message *m);
    // A 2xx answer, before its body, for each attempt. Below 0: this attempt failed so (and is judged).
    int (*begin)(struct fetch *f, const struct fetch_head *h);
    // Bytes of a 2xx answer's body. 0; FETCH_PAUSE: not taken, given again after fetch_wake, or FETCH_PAUSE_NS later;
    // below 0 as begin.
    int (*sink)(struct fetch *f, const void *data, size_t size_bytes);
    // How an attempt ended means what.
    enum fetch_verdict (*judge)(struct fetch *f, const struct fetch_outcome *outcome);
    // The last call: f->error and f->why. The fetch may be freed in it.
    void (*done)(struct fetch *f);
    // Of plain endpoints, instead of prepare, begin, sink and judge: some of the work. 0: done; below 0: failed.
    int (*run)(struct fetch *f);
};

enum fetch_state { FETCH_IDLE, FETCH_QUEUED, FETCH_FLYING, FETCH_AWAITING, FETCH_SLEEPING, FETCH_DONE };
#define FETCH_PRIORITIES 3 // 0 first; the last never has more than half of the slots

struct fetch {
    // The user's: set before fetch_start.
    const struct fetch_ops *ops;
    struct endpoint *endpoint; // the fetcher's after that
    uint8_t priority;          // likewise
    int64_t deadline_ns;
    bool is_patient;         // what changes something: sent once at a time, and once it was sent completely the answer
                             // may take until the deadline
    // The outcome: set by judge, prepare and run, or by the fetcher.
    int error;
    struct buffer why;
    bool is_unanswered;      // nothing was ever heard from the server
    bool is_repeated;        // its payload was sent more than once, perhaps by curl itself: a kept connection broke off
    struct endpoint *elsewhere; // judge's: where the next attempt goes; NULL: where this one went
    int64_t wake_ns;         // run's
    // The fetcher's; under its lock unless it says otherwise.
    struct fetchers *all;           // does not change
    enum fetch_state state;
    bool is_cancelled, is_woken, is_new, is_ended, is_in_inbox; // what its thread is to be told
    bool is_given_up;               // the attempt on the wire is the last
    bool has_slot, is_try;
    uint8_t slot_priority;
    int32_t thread;                 // that has it, or -1
    int64_t not_before_ns;          // SLEEPING
    struct fetch *next, *previous;  // in the list it is in
    struct fetch *next_message;     // in its thread's inbox
    uint32_t failures, answers, detours; // its thread's: attempts that failed, those of them that were answered
    bool is_owned, is_later;        // its thread's: in its list; run said FETCH_RUN_LATER
    struct transfer *transfers[2];  // its thread's: on the wire, the second only while the first is stalled
};

void fetch_start(struct fetch *f);                 // `done` will be called exactly once
void fetch_cancel(struct fetch *f);                // between fetch_start and `done` only, as the next three
void fetch_give_up(struct fetch *f);               // makes no further attempt; one that is on the wire ends by itself
void fetch_raise(struct fetch *f, uint8_t priority);
void fetch_wake(struct fetch *f);                  // paused, -EINPROGRESS or FETCH_RUN_LATER: go on
void fetch_release(struct fetch *f);               // its memory, after `done`
// For judge: sets f->error and f->why.
void fetch_fail(struct fetch *f, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));
// For judge: what is the same for all servers: 429, 503: SLOWER (Retry-After is honoured by the fetcher);
// 408, 500, 502, 504 and a wire that failed: RETRY; all else: END, with -EREMOTEIO where judge said nothing else.
enum fetch_verdict fetch_judge(struct fetch *f, const struct fetch_outcome *outcome);
