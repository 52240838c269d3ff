// SPDX-License-Identifier: BSD-3-Clause
// What lies there keeps its file open: seen at the other end of a pipe.
#include "tests/unit/base/harness.h"

#include <errno.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "fs/parking.h"

static int sockets[2];
static int readers[PARKING_MAX + 1];

static struct parking *open_parking(void)
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sockets), 0);
    struct parking *p = parking_new(sockets[0], sockets[1]);
    assert_non_null(p);
    return p;
}

static int park(struct parking *p, int number)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    int r = parking_put(p, 1000 + (uint64_t)number, ends[1]);
    close(ends[1]);
    readers[number] = ends[0];
    return r;
}

static bool is_kept(int number)
{
    struct pollfd f = {readers[number], POLLIN, 0};
    assert_true(poll(&f, 1, 0) >= 0);
    return !(f.revents & POLLHUP);
}

static void close_all(int count)
{
    for (int i = 0; i < count; i++)
        close(readers[i]);
    close(sockets[0]);
    close(sockets[1]);
}

static void what_is_parked_is_kept_until_it_is_removed(void **state)
{
    struct parking *p = open_parking();
    for (int i = 0; i < 3; i++)
        assert_int_equal(park(p, i), 0);
    assert_true(is_kept(0) && is_kept(1) && is_kept(2));
    parking_remove(p, 1001);
    parking_remove(p, 7);
    assert_true(is_kept(0) && !is_kept(1) && is_kept(2));
    parking_remove(p, 1000);
    parking_remove(p, 1002);
    assert_false(is_kept(0) || is_kept(2));
    free(p);
    close_all(3);
}

static bool is_even(uint64_t node, void *context)
{
    ++*(int *)context;
    return node % 2 == 0;
}

static void the_next_life_keeps_what_it_wants(void **state)
{
    struct parking *p = open_parking();
    int asked = 0;
    for (int i = 0; i < 5; i++)
        assert_int_equal(park(p, i), 0);
    free(p); // a death
    p = parking_new(sockets[0], sockets[1]);
    parking_sort_out(p, is_even, &asked);
    assert_int_equal(asked, 5);
    for (int i = 0; i < 5; i++)
        assert_int_equal(is_kept(i), i % 2 == 0);
    parking_remove(p, 1002);
    assert_true(is_kept(0) && !is_kept(2) && is_kept(4));
    free(p);
    close_all(5);
}

static void more_than_its_room_is_refused_and_what_lies_there_can_still_be_removed(void **state)
{
    struct parking *p = open_parking();
    log_level_set(LOG_LEVEL_ERROR);
    for (int i = 0; i < PARKING_MAX; i++)
        assert_int_equal(park(p, i), 0);
    assert_int_equal(park(p, PARKING_MAX), -EAGAIN);
    parking_remove(p, 1000 + 5);
    assert_true(is_kept(4) && !is_kept(5) && is_kept(PARKING_MAX - 1) && !is_kept(PARKING_MAX));
    free(p);
    close_all(PARKING_MAX + 1);
}

// Where a death came between putting the end of a looking-through in and taking it out.
static void what_a_death_left_of_a_looking_through_hides_nothing(void **state)
{
    uint64_t end = 0;
    struct parking *p = open_parking();
    assert_int_equal(park(p, 0), 0);
    assert_int_equal(send(sockets[0], &end, sizeof end, 0), sizeof end);
    assert_int_equal(park(p, 1), 0);
    assert_int_equal(send(sockets[0], "?", 1, 0), 1);
    assert_int_equal(park(p, 2), 0);
    free(p);
    int asked = 0;
    p = parking_new(sockets[0], sockets[1]);
    parking_sort_out(p, is_even, &asked);
    assert_int_equal(asked, 3);
    assert_true(is_kept(0) && !is_kept(1) && is_kept(2));
    parking_remove(p, 1000);
    parking_remove(p, 1002);
    assert_false(is_kept(0) || is_kept(2));
    assert_int_equal(recv(sockets[1], &end, sizeof end, MSG_DONTWAIT), -1); // nor is anything left
    free(p);
    close_all(3);
}

// What lies there comes without its descriptor then.
static void a_full_table_of_descriptors_costs_nobody_what_lies_there(void **state)
{
    struct parking *p = open_parking();
    struct rlimit was, full;
    for (int i = 0; i < 3; i++)
        assert_int_equal(park(p, i), 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
    int first_free = dup(0);
    close(first_free);
    full = (struct rlimit){(rlim_t)first_free, was.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &full), 0);
    parking_remove(p, 1001);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
    assert_true(is_kept(0) && is_kept(2));
    parking_remove(p, 1001);
    assert_true(is_kept(0) && !is_kept(1) && is_kept(2));
    free(p);
    close_all(3);
}

static void without_sockets_nothing_is_parked(void **state)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_null(parking_new(ends[0], ends[1]));
    assert_null(parking_new(-1, -1));
    assert_int_equal(parking_put(NULL, 1, ends[0]), -EOPNOTSUPP);
    parking_remove(NULL, 1);
    close(ends[0]);
    close(ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_parked_is_kept_until_it_is_removed),
        cmocka_unit_test(the_next_life_keeps_what_it_wants),
        cmocka_unit_test(more_than_its_room_is_refused_and_what_lies_there_can_still_be_removed),
        cmocka_unit_test(what_a_death_left_of_a_looking_through_hides_nothing),
        cmocka_unit_test(a_full_table_of_descriptors_costs_nobody_what_lies_there),
        cmocka_unit_test(without_sockets_nothing_is_parked),
    };
    return run_group(tests);
}
