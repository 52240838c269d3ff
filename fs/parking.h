// SPDX-License-Identifier: BSD-3-Clause
// parking: descriptors that must outlive this process: of files without a name that are open and that nobody but the daemon
// holds (without passthrough). They lie in a socket of the supervisor's, as messages that carry them (SCM_RIGHTS): what lies
// there keeps its file, so that the next life's open_by_handle_at finds it.
//
// Any thread. At most PARKING_MAX: a socket takes no more everywhere.
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define PARKING_MAX 256

struct parking;

// Over the two ends of a SOCK_SEQPACKET pair, which stay the caller's. NULL: they are none (an older supervisor's).
struct parking *parking_new(int in_fd, int out_fd);
// `node`: the state's number, by which it is removed. -EAGAIN: it is full, which is logged once. NULL: -EOPNOTSUPP.
int parking_put(struct parking *p, uint64_t node, int fd);
void parking_remove(struct parking *p, uint64_t node); // also if it isn't there; NULL is fine
// At the start, before anybody else: keeps of an earlier life's what is wanted still.
void parking_sort_out(struct parking *p, bool (*is_wanted)(uint64_t node, void *context), void *context);
