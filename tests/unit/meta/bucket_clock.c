// SPDX-License-Identifier: BSD-3-Clause
// A bucket's listings while the machine's clock is set back: this program's clock_gettime says what time it is.
#include "tests/unit/meta/bucket_world.h"

#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#define HOUR_S 3600

static _Atomic int64_t ahead_s;

int clock_gettime(clockid_t id, struct timespec *ret_time)
{
    int r = (int)syscall(SYS_clock_gettime, id, ret_time);
    if (id == CLOCK_REALTIME)
        ret_time->tv_sec += ahead_s;
    return r;
}

static void a_clock_that_is_set_back_keeps_no_listing_for_longer(void **state)
{
    (void)state;
    open_bucket("", 200 * NS_PER_MS);
    put("f/a", "x");
    assert_lists("f", "a\n");
    ahead_s = -HOUR_S;
    put("f/b", "x");
    usleep(250000);
    assert_lists("f", "a\nb\n");
    put("f/c", "x");
    usleep(250000);
    assert_int_equal(look_up("f", TEXT("c"), NULL), 'o');
    ahead_s = 0;
}

static int life_ahead(const char *folder)
{
    BUFFER_CLEANUP names = {0};
    ahead_s = HOUR_S;
    make_in(folder);
    put("f/a", "x");
    list("f", 10, &names);
    list("f", 10, &names);
    bool knows = strcmp(names.data, "a\na\n") == 0 && lists() == 1;
    bucket_close(w.bucket);
    catalogue_close(w.catalogue);
    return knows ? 0 : 1;
}

// The first of the tests, as what time it is at all is looked at once in a process.
static void a_listing_from_the_future_is_old(void **state)
{
    char folder[] = "/tmp/bucket-XXXXXX";
    int status;
    (void)state;
    assert_non_null(mkdtemp(folder));
    pid_t child = fork();
    if (child == 0)
        _exit(life_ahead(folder));
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    make_in(folder);
    put("f/b", "x");
    assert_lists("f", "b\n");
    assert_lists("f", "b\n");
    assert_int_equal(lists(), 1);
    unmake(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_listing_from_the_future_is_old),
        cmocka_unit_test_setup_teardown(a_clock_that_is_set_back_keeps_no_listing_for_longer, make, unmake),
    };
    return run_group(tests);
}
