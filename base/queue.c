// SPDX-License-Identifier: BSD-3-Clause
// queue: a list of items under one lock, and the starting of the threads that empty it.
// 1. `last` points to the `next` of the last item, or to `first` when there is none.
// 2. After queue_close nothing is added; what was in it is still given out, so that the work of
//    those who put it is answered and not lost.
#include "base/queue.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/log.h"

void queue_init(struct queue *q, const char *name)
{
    *q = (struct queue){.last = &q->first};
    lock_init(&q->lock, LOCK_RANK_QUEUE, name);
    condition_init(&q->filled);
}

void queue_release(struct queue *q)
{
    check(!q->first);
    pthread_cond_destroy(&q->filled);
    lock_release_memory(&q->lock);
}

bool queue_put(struct queue *q, struct queue_item *i)
{
    lock_scope(&q->lock);
    if (q->closed)
        return false;
    i->next = NULL;
    *q->last = i;
    q->last = &i->next;
    q->count++;
    pthread_cond_signal(&q->filled);
    return true;
}

struct queue_item *queue_get(struct queue *q, int64_t deadline_ns)
{
    lock_scope(&q->lock);
    bool late = false;
    while (!q->first) {
        if (q->closed || late)
            return NULL;
        late = condition_wait(&q->filled, &q->lock, deadline_ns) == -ETIMEDOUT;
    }
    struct queue_item *item = q->first;
    q->first = item->next;
    if (!q->first)
        q->last = &q->first;
    q->count--;
    item->next = NULL;
    return item;
}

void queue_close(struct queue *q)
{
    lock_scope(&q->lock);
    q->closed = true;
    pthread_cond_broadcast(&q->filled);
}

uint32_t queue_count(struct queue *q)
{
    lock_scope(&q->lock);
    return q->count;
}

#define THREAD_NAME_BYTES 16 // the kernel's bound, with the NUL

struct thread_start {
    char name[THREAD_NAME_BYTES];
    void *(*run)(void *);
    void *argument;
};

// The thread names itself: only so is the name there before its work, and whoever started it may
// already have forgotten it.
static void *thread_run(void *started)
{
    struct thread_start start = *(struct thread_start *)started;
    free(started);
    pthread_setname_np(pthread_self(), start.name);
    return start.run(start.argument);
}

// All but those a thread sends itself by a fault: blocked, they'd kill without a trace.
static void thread_signals(sigset_t *ret_set)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};
    sigfillset(ret_set);
    for (size_t i = 0; i < sizeof(faults) / sizeof(*faults); i++)
        sigdelset(ret_set, faults[i]);
}

int thread_start(pthread_t *ret_thread, const char *name, void *(*run)(void *), void *argument)
{
    check(strlen(name) < THREAD_NAME_BYTES);
    struct thread_start *start = new_struct(struct thread_start);
    memcpy(start->name, name, strlen(name));
    start->run = run;
    start->argument = argument;
    // Blocked here and inherited: there is no moment in which the new thread could be signalled.
    sigset_t blocked, before;
    thread_signals(&blocked);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    pthread_t thread;
    int error = pthread_create(&thread, NULL, thread_run, start);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error) {
        free(start);
        return -error;
    }
    *ret_thread = thread;
    return 0;
}
