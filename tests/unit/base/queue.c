// SPDX-License-Identifier: BSD-3-Clause
#include "tests/unit/base/harness.h"

#include <errno.h>

#include "base/clock.h"
#include "base/queue.h"

static void items_come_out_in_the_order_they_were_put(void **state)
{
    struct queue q;
    struct queue_item items[10];
    queue_init(&q, "test");
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 10; i++)
            assert_true(queue_put(&q, &items[i]));
        assert_int_equal(queue_count(&q), 10);
        for (int i = 0; i < 10; i++)
            assert_ptr_equal(queue_get(&q, INT64_MAX), &items[i]);
    }
    assert_int_equal(queue_count(&q), 0);
    queue_release(&q);
}

static void an_empty_queue_answers_nothing_at_the_deadline(void **state)
{
    struct queue q;
    queue_init(&q, "test");
    assert_null(queue_get(&q, 0));
    int64_t deadline = clock_ns() + 10 * NS_PER_MS;
    assert_null(queue_get(&q, deadline));
    assert_true(clock_ns() >= deadline);
    queue_release(&q);
}

static void an_item_is_given_even_after_the_deadline(void **state)
{
    struct queue q;
    struct queue_item item;
    queue_init(&q, "test");
    queue_put(&q, &item);
    assert_ptr_equal(queue_get(&q, 0), &item);
    queue_release(&q);
}

static void a_closed_queue_takes_nothing_and_gives_what_it_has(void **state)
{
    struct queue q;
    struct queue_item item, late;
    queue_init(&q, "test");
    queue_put(&q, &item);
    queue_close(&q);
    assert_false(queue_put(&q, &late));
    assert_ptr_equal(queue_get(&q, INT64_MAX), &item);
    assert_null(queue_get(&q, INT64_MAX));
    queue_release(&q);
}

static void releasing_a_queue_with_items_aborts(void **state)
{
    struct queue q;
    struct queue_item item;
    queue_init(&q, "test");
    queue_put(&q, &item);
    assert_aborts(queue_release(&q));
    queue_get(&q, 0);
    queue_release(&q);
}

struct work {
    struct queue_item item;
    int done; // by the thread that got it, and no other
};

static void *empty_queue(void *argument)
{
    struct queue *q = argument;
    uintptr_t count = 0;
    for (struct queue_item *i; (i = queue_get(q, INT64_MAX)); count++)
        ((struct work *)i)->done++;
    return (void *)count;
}

static void every_item_is_got_once_and_closing_wakes_all(void **state)
{
    enum { ITEMS = 5000, THREADS = 4 };
    static struct work work[ITEMS];
    memset(work, 0, sizeof(work));
    struct queue q;
    pthread_t threads[THREADS];
    queue_init(&q, "test");
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(thread_start(&threads[i], "worker", empty_queue, &q), 0);
    for (int i = 0; i < ITEMS; i++)
        assert_true(queue_put(&q, &work[i].item));
    queue_close(&q);
    uintptr_t total = 0;
    for (int i = 0; i < THREADS; i++) {
        void *count;
        pthread_join(threads[i], &count);
        total += (uintptr_t)count;
    }
    assert_int_equal(total, ITEMS);
    for (int i = 0; i < ITEMS; i++)
        assert_int_equal(work[i].done, 1);
    queue_release(&q);
}

struct self {
    char name[16];
    sigset_t blocked;
};

static void *look_at_self(void *argument)
{
    struct self *self = argument;
    pthread_getname_np(pthread_self(), self->name, sizeof(self->name));
    pthread_sigmask(SIG_BLOCK, NULL, &self->blocked);
    return NULL;
}

static void a_thread_has_its_name_and_no_signals(void **state)
{
    struct self self;
    pthread_t thread;
    assert_int_equal(thread_start(&thread, "librarian/15678", look_at_self, &self), 0);
    pthread_join(thread, NULL);
    assert_string_equal(self.name, "librarian/15678");
    assert_true(sigismember(&self.blocked, SIGTERM));
    assert_true(sigismember(&self.blocked, SIGCHLD));
    assert_false(sigismember(&self.blocked, SIGSEGV)); // a fault must be seen
}

static void starting_a_thread_leaves_the_callers_signals(void **state)
{
    sigset_t before, after;
    struct self self;
    pthread_t thread;
    pthread_sigmask(SIG_BLOCK, NULL, &before);
    assert_int_equal(thread_start(&thread, "a", look_at_self, &self), 0);
    pthread_join(thread, NULL);
    pthread_sigmask(SIG_BLOCK, NULL, &after);
    for (int i = 1; i < 32; i++)
        assert_int_equal(sigismember(&before, i), sigismember(&after, i));
}

static void a_name_too_long_to_be_shown_aborts(void **state)
{
    pthread_t thread;
    assert_aborts(thread_start(&thread, "0123456789abcdef", look_at_self, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(items_come_out_in_the_order_they_were_put),
        cmocka_unit_test(an_empty_queue_answers_nothing_at_the_deadline),
        cmocka_unit_test(an_item_is_given_even_after_the_deadline),
        cmocka_unit_test(a_closed_queue_takes_nothing_and_gives_what_it_has),
        cmocka_unit_test(releasing_a_queue_with_items_aborts),
        cmocka_unit_test(every_item_is_got_once_and_closing_wakes_all),
        cmocka_unit_test(a_thread_has_its_name_and_no_signals),
        cmocka_unit_test(starting_a_thread_leaves_the_callers_signals),
        cmocka_unit_test(a_name_too_long_to_be_shown_aborts),
    };
    return run_group(tests);
}
