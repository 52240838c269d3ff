// SPDX-License-Identifier: BSD-3-Clause
#include "tests/unit/base/harness.h"

#include <stdatomic.h>
#include <unistd.h>

#include "base/queue.h"
#include "fs/desk.h"

// One who comes to the desk, and leaves it when he is told.
struct comer {
    struct desk *desk;
    pthread_t thread;
    atomic_bool has_place, may_leave;
};

static void *come(void *argument)
{
    struct comer *c = argument;
    desk_enter(c->desk);
    atomic_store(&c->has_place, true);
    while (!atomic_load(&c->may_leave))
        usleep(100);
    desk_leave(c->desk);
    return NULL;
}

static bool is_asleep(struct desk *d, struct desk_sleeper *before)
{
    lock_scope(&d->lock);
    return d->last != before;
}

static void start(struct comer *c, struct desk *d)
{
    *c = (struct comer){.desk = d};
    assert_int_equal(thread_start(&c->thread, "comer", come, c), 0);
}

static void leave(struct comer *c)
{
    atomic_store(&c->may_leave, true);
    pthread_join(c->thread, NULL);
}

// All places are taken, then two more come, one after the other.
static void fill(struct desk *d, struct comer c[DESK_READERS + 2])
{
    desk_init(d);
    for (int i = 0; i < DESK_READERS + 2; i++) {
        struct desk_sleeper *before = d->last;
        start(&c[i], d);
        while (i < DESK_READERS ? !atomic_load(&c[i].has_place) : !is_asleep(d, before))
            usleep(100);
    }
}

static void who_fell_asleep_last_is_woken_when_nobody_reads_any_more(void **state)
{
    struct desk d;
    struct comer c[DESK_READERS + 2];
    fill(&d, c);
    for (int i = 0; i < DESK_READERS; i++) {
        assert_false(atomic_load(&c[DESK_READERS].has_place) || atomic_load(&c[DESK_READERS + 1].has_place));
        leave(&c[i]);
    }
    while (!atomic_load(&c[DESK_READERS + 1].has_place))
        usleep(100);
    assert_false(atomic_load(&c[DESK_READERS].has_place));
    leave(&c[DESK_READERS + 1]);
    leave(&c[DESK_READERS]);
    assert_int_equal(d.readers, 0);
    desk_release(&d);
}

static void closing_wakes_all_and_nobody_sleeps_after_it(void **state)
{
    struct desk d;
    struct comer c[DESK_READERS + 3];
    fill(&d, c);
    desk_close(&d);
    start(&c[DESK_READERS + 2], &d);
    for (int i = 0; i < DESK_READERS + 3; i++) {
        while (!atomic_load(&c[i].has_place))
            usleep(100);
        leave(&c[i]);
    }
    assert_int_equal(d.readers, 0);
    desk_release(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_fell_asleep_last_is_woken_when_nobody_reads_any_more),
        cmocka_unit_test(closing_wakes_all_and_nobody_sleeps_after_it),
    };
    return run_group(tests);
}
