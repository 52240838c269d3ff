// SPDX-License-Identifier: BSD-3-Clause
// fetcher_health: how an endpoint is treated by how it behaves: decisions only, of times that are given. The
// fetchers' own; under their lock.
//
//              6 failures in a row                 reopen_ns has come: one may try
//   OPEN ───────────────────────────▶ CLOSED ◀──────────────────────────▶ TRYING
//     ▲                                  the try failed: closed for longer    │
//     └───────────────────────────────────────────────────────────────────────┘ any success
//
// Beside that, a server that is asked too much is asked less: each SlowDown halves the slots (once within a
// while), successes add them one by one, and Retry-After holds all that has not begun.
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"

#define HEALTH_FAILURES_MAX 6
#define HEALTH_CLOSED_NS (250 * NS_PER_MS)   // at first; doubles
#define HEALTH_CLOSED_MAX_NS (5 * NS_PER_S)
#define HEALTH_SLOWER_NS (1 * NS_PER_S)      // between two halvings
#define HEALTH_HOLD_MAX_NS (60 * NS_PER_S)   // whatever Retry-After says

enum health_state { HEALTH_OPEN, HEALTH_CLOSED, HEALTH_TRYING };

struct health {
    enum health_state state;
    uint32_t slots_max;
    uint32_t slots;         // now
    uint32_t successes;     // since slots last changed
    uint32_t failures;      // in a row
    uint32_t closures;      // in a row, without a success between
    int64_t reopen_ns;      // CLOSED
    int64_t hold_ns;        // nothing begins before
    int64_t slower_ns;      // of the last halving
};

void health_init(struct health *h, uint32_t slots);
// May another begin, beside `flying`? If it is begun, health_began must be told.
bool health_may_begin(const struct health *h, uint32_t flying, int64_t now_ns);
// true: it is the one that tries; what becomes of it decides (succeeded, failed or given_up).
bool health_began(struct health *h);
// When health_may_begin may say otherwise without anything else happening; INT64_MAX: never.
int64_t health_due_ns(const struct health *h, int64_t now_ns);
void health_succeeded(struct health *h);
// `random`: any number, for jitter. true: that closed it (OPEN before).
bool health_failed(struct health *h, bool was_try, int64_t now_ns, uint32_t random);
void health_given_up(struct health *h, int64_t now_ns); // the one that tried was cancelled
// retry_after_ns: how long the server wants to be left alone; 0: it doesn't say.
void health_slower(struct health *h, int64_t now_ns, int64_t retry_after_ns);

// The pause before the attempt after the `failures`th failure (1 on): doubles from first_ns up to max_ns;
// anything between a half of that and all of it.
int64_t health_pause_ns(uint32_t failures, int64_t first_ns, int64_t max_ns, uint32_t random);
