// SPDX-License-Identifier: BSD-3-Clause
// fetcher_health: a server in trouble is left in peace, and one that is well again is used again at once.
// 1. CLOSED and TRYING let at most one begin; whatever fails then is no news.
// 2. 1 <= slots <= slots_max.
#include "cache/fetcher_health.h"

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

void health_init(struct health *h, uint32_t slots)
{
    *h = (struct health){.slots_max = slots, .slots = slots};
}

bool health_may_begin(const struct health *h, uint32_t flying, int64_t now_ns)
{
    if (now_ns < h->hold_ns)
        return false;
    switch (h->state) {
    case HEALTH_OPEN:
        return flying < h->slots;
    case HEALTH_CLOSED:
        return now_ns >= h->reopen_ns;
    case HEALTH_TRYING:
        break;
    }
    return false;
}

bool health_began(struct health *h)
{
    if (h->state != HEALTH_CLOSED)
        return false;
    h->state = HEALTH_TRYING;
    return true;
}

int64_t health_due_ns(const struct health *h, int64_t now_ns)
{
    int64_t due = h->state == HEALTH_CLOSED ? most(h->reopen_ns, h->hold_ns) : h->hold_ns;
    return due > now_ns ? due : INT64_MAX;
}

void health_succeeded(struct health *h)
{
    h->state = HEALTH_OPEN;
    h->failures = 0;
    h->closures = 0;
    if (h->slots < h->slots_max && ++h->successes >= h->slots) {
        h->slots++;
        h->successes = 0;
    }
}

static void health_close(struct health *h, int64_t now_ns, uint32_t random)
{
    h->state = HEALTH_CLOSED;
    h->closures++;
    h->reopen_ns = now_ns + health_pause_ns(h->closures, HEALTH_CLOSED_NS, HEALTH_CLOSED_MAX_NS, random);
}

bool health_failed(struct health *h, bool was_try, int64_t now_ns, uint32_t random)
{
    switch (h->state) {
    case HEALTH_OPEN:
        if (++h->failures < HEALTH_FAILURES_MAX)
            return false;
        health_close(h, now_ns, random);
        return true;
    case HEALTH_TRYING:
        if (was_try)
            health_close(h, now_ns, random);
        break;
    case HEALTH_CLOSED:
        break;
    }
    return false;
}

void health_given_up(struct health *h, int64_t now_ns)
{
    if (h->state != HEALTH_TRYING)
        return;
    h->state = HEALTH_CLOSED;
    h->reopen_ns = now_ns;
}

void health_slower(struct health *h, int64_t now_ns, int64_t retry_after_ns)
{
    if (retry_after_ns > 0)
        h->hold_ns = most(h->hold_ns, now_ns + least(retry_after_ns, HEALTH_HOLD_MAX_NS));
    if (h->slower_ns && now_ns - h->slower_ns < HEALTH_SLOWER_NS)
        return; // what was under way when it was said says it too
    h->slower_ns = now_ns;
    h->slots = h->slots > 1 ? h->slots / 2 : 1;
    h->successes = 0;
}

int64_t health_pause_ns(uint32_t failures, int64_t first_ns, int64_t max_ns, uint32_t random)
{
    int64_t pause = first_ns;
    for (uint32_t i = 1; i < failures && pause < max_ns; i++)
        pause *= 2;
    pause = least(pause, max_ns);
    return pause - pause / 2 * (int64_t)(random % 1024) / 1024;
}
