// SPDX-License-Identifier: BSD-3-Clause
// desk: where workers take the kernel's requests. The kernel hands them to readers in turn; so that one user's requests,
// one after the other, meet the same few buffers, which are in the processor's cache still, no more than DESK_READERS
// read at a time. The others sleep, and who fell asleep last is woken first. Somebody always reads or is on his way. Three: a
// caller asks again before the one that answered him is back from his answer, and with two each such turn woke a sleeper.
//
//     desk_enter ─▶ read(2) ─▶ desk_leave ─▶ answers ─▶ desk_enter ...
//
// Any thread; lives as long as any of them.
#pragma once
#include "base/lock.h"

#define DESK_READERS 3

struct desk {
    struct lock lock; // LOCK_RANK_LEAF; all below is under it
    struct desk_sleeper *last; // to fall asleep
    uint32_t readers;
    bool is_closed;
};

void desk_init(struct desk *d);
void desk_release(struct desk *d); // nobody is in it
void desk_enter(struct desk *d);   // waits for a place
void desk_leave(struct desk *d);
void desk_close(struct desk *d);   // wakes all; from then on nobody waits
