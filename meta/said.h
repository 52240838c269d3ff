// SPDX-License-Identifier: BSD-3-Clause
// said: what the log was told last of one trouble that comes with every request: the same again once a minute. Any thread; two at
// once may both say it.
#pragma once
#include <stdatomic.h>

#include "base/clock.h"

#define SAID_AGAIN_NS (60 * NS_PER_S)
#define SAID_KINDS 4 // where several are shared: of different ones that come in turn

struct said {
    atomic_uint_fast64_t hash; // of it
    atomic_int_fast64_t ns;    // when; 0: never
};

// Whether it is worth a line, which then counts as written. `pause_ns`: between two that differ.
static inline bool said_is_news(struct said *s, uint64_t hash, int64_t pause_ns)
{
    int64_t now_ns = clock_ns(), before_ns = atomic_load(&s->ns);
    if (before_ns && now_ns < before_ns + (atomic_load(&s->hash) == hash ? SAID_AGAIN_NS : pause_ns))
        return false;
    atomic_store(&s->hash, hash);
    atomic_store(&s->ns, now_ns);
    return true;
}
