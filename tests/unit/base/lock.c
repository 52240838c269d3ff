// SPDX-License-Identifier: BSD-3-Clause
#include "tests/unit/base/harness.h"

#include <errno.h>

#include "base/clock.h"
#include "base/lock.h"
#include "base/queue.h"

struct two {
    struct lock low, high, high_too;
    pthread_cond_t changed;
    int value; // under low
};

static int begin(void **state)
{
    static struct two two;
    two = (struct two){0};
    lock_init(&two.low, LOCK_RANK_NODE, "low");
    lock_init(&two.high, LOCK_RANK_HANDLE, "high");
    lock_init(&two.high_too, LOCK_RANK_HANDLE, "high too");
    condition_init(&two.changed);
    *state = &two;
    return 0;
}

static int end(void **state)
{
    struct two *two = *state;
    lock_release_memory(&two->low);
    lock_release_memory(&two->high);
    lock_release_memory(&two->high_too);
    pthread_cond_destroy(&two->changed);
    return 0;
}

static void a_scope_holds_a_lock_until_its_end(void **state)
{
    struct two *two = *state;
    {
        lock_scope(&two->low);
        lock_scope(&two->high);
        assert_true(lock_is_held(&two->low));
        assert_true(lock_is_held(&two->high));
        assert_int_equal(pthread_mutex_trylock(&two->low.mutex), EBUSY);
    }
    assert_int_equal(pthread_mutex_trylock(&two->low.mutex), 0);
    pthread_mutex_unlock(&two->low.mutex);
}

static void locks_may_be_released_in_any_order(void **state)
{
    struct two *two = *state;
    lock_acquire(&two->low);
    lock_acquire(&two->high);
    lock_release(&two->low);
    lock_release(&two->high);
    lock_acquire(&two->low);
    lock_release(&two->low);
}

#ifndef NDEBUG
static void a_lock_of_lower_rank_under_a_higher_aborts(void **state)
{
    struct two *two = *state;
    lock_acquire(&two->high);
    assert_aborts(lock_acquire(&two->low));
    lock_release(&two->high);
}

static void a_second_lock_of_the_same_rank_aborts(void **state)
{
    struct two *two = *state;
    lock_acquire(&two->high);
    assert_aborts(lock_acquire(&two->high_too));
    assert_aborts(lock_acquire(&two->high));
    lock_release(&two->high);
}

static void releasing_what_is_not_held_aborts(void **state)
{
    struct two *two = *state;
    assert_aborts(lock_release(&two->low));
}

static void *ask_held(void *argument)
{
    struct two *two = argument;
    return (void *)(uintptr_t)lock_is_held(&two->low);
}

static void what_another_thread_holds_is_not_held_by_this_one(void **state)
{
    struct two *two = *state;
    pthread_t thread;
    void *held = NULL;
    lock_scope(&two->low);
    assert_int_equal(thread_start(&thread, "asker", ask_held, two), 0);
    pthread_join(thread, &held);
    assert_null(held);
    assert_true(lock_is_held(&two->low));
}
#endif

static void a_wait_ends_at_its_deadline(void **state)
{
    struct two *two = *state;
    lock_scope(&two->low);
    int64_t deadline = clock_ns() + 20 * NS_PER_MS;
    int result = 0;
    while (result == 0)
        result = condition_wait(&two->changed, &two->low, deadline);
    assert_int_equal(result, -ETIMEDOUT);
    assert_true(clock_ns() >= deadline);
    assert_int_equal(condition_wait(&two->changed, &two->low, -1), -ETIMEDOUT);
}

static void *change(void *argument)
{
    struct two *two = argument;
    lock_scope(&two->low);
    two->value = 1;
    pthread_cond_signal(&two->changed);
    return NULL;
}

static void a_wait_ends_when_it_is_signalled(void **state)
{
    struct two *two = *state;
    pthread_t thread;
    {
        lock_scope(&two->low);
        assert_int_equal(thread_start(&thread, "changer", change, two), 0);
        while (!two->value)
            assert_int_equal(condition_wait(&two->changed, &two->low, INT64_MAX), 0);
        assert_true(lock_is_held(&two->low));
    }
    pthread_join(thread, NULL);
}

static void *count_up(void *argument)
{
    struct two *two = argument;
    for (int i = 0; i < 10000; i++) {
        lock_scope(&two->low);
        two->value++;
    }
    return NULL;
}

static void only_one_thread_holds_a_lock(void **state)
{
    struct two *two = *state;
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        assert_int_equal(thread_start(&threads[i], "counter", count_up, two), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(two->value, 30000);
}

#define lock_test(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        lock_test(a_scope_holds_a_lock_until_its_end),
        lock_test(locks_may_be_released_in_any_order),
#ifndef NDEBUG
        lock_test(a_lock_of_lower_rank_under_a_higher_aborts),
        lock_test(a_second_lock_of_the_same_rank_aborts),
        lock_test(releasing_what_is_not_held_aborts),
        lock_test(what_another_thread_holds_is_not_held_by_this_one),
#endif
        lock_test(a_wait_ends_at_its_deadline),
        lock_test(a_wait_ends_when_it_is_signalled),
        lock_test(only_one_thread_holds_a_lock),
    };
    return run_group(tests);
}
