// SPDX-License-Identifier: BSD-3-Clause
// queue: first-in-first-out work for a bounded set of named threads. An item is embedded in the
// work's own struct; the queue never copies or frees it. Any thread may put.
#pragma once
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/lock.h"

struct queue_item {
    struct queue_item *next; // the queue's, while the item is in it
};

struct queue {
    struct lock lock;
    pthread_cond_t filled;
    struct queue_item *first; // under lock
    struct queue_item **last; // under lock
    uint32_t count;           // under lock
    bool closed;              // under lock
};

void queue_init(struct queue *q, const char *name);
void queue_release(struct queue *q);                // empty and with no thread in it
bool queue_put(struct queue *q, struct queue_item *i); // false: closed, the item was not taken
// Waits until there is an item or the deadline (monotonic) passes. NULL: closed and empty, or late.
struct queue_item *queue_get(struct queue *q, int64_t deadline_ns);
void queue_close(struct queue *q);                  // wakes all getters
uint32_t queue_count(struct queue *q);

// Starts a thread whose name is shown by `ps -L` (15 bytes at most), with all signals blocked.
// -errno of pthread_create.
int thread_start(pthread_t *ret_thread, const char *name, void *(*run)(void *), void *argument);
