// SPDX-License-Identifier: BSD-3-Clause
// lock: fcntl, OFD and flock locks taken on the file system below (locks=backing), so that others who have it, on this
// machine or on another, meet them. Without that option the kernel keeps them itself and nothing of this is called.
//
//     home_lock ─┬─▶ answered
//                └─▶ another has it, and the caller would wait: parked ─▶ the thread "locks/N" tries again, when one is
//                    given back here at once, else every LOCK_AGAIN_NS ─▶ answered; or interrupted, or killed
//
// Who holds is a lock owner of the kernel's; on the file system below he is a descriptor of his own (an OFD lock, or a
// flock), which is closed with his last lock. It goes with the daemon: a lock doesn't outlive it (butlerfs(8)).
#pragma once
#include "fs/space/home/home.h"

struct locking;

int lock_start(struct home *h);           // where the option says so; else h->locking stays NULL
void lock_stop(struct locking *l);        // NULL is fine
// A handle is closed: what was locked by it is given back.
void lock_close_handle(struct op *op);

int home_lock(struct op *op);             // op->lock
int home_flush(struct op *op);            // a descriptor of op->lock.owner is closed: his fcntl locks of the file go
