// SPDX-License-Identifier: BSD-3-Clause
#include "tests/unit/cache/zip.h"

#include <errno.h>
#include <pthread.h>
#include <sys/stat.h>
#include <time.h>

#include "cache/archive_reader.h"

#define FOR_EVER INT64_MAX

static int archive_file(const char *name, uint32_t count)
{
    ZIP_CLEANUP z = {0};
    char each[40];
    for (uint32_t i = 0; i < count; i++) {
        snprintf(each, sizeof(each), "%s%u", name, i);
        zip_store(&z, each, TEXT("some data"));
    }
    zip_finish(&z, true, "", 0);
    return zip_file(&z);
}

static struct archive *got(struct archives *all, int fd)
{
    struct archive *a = NULL;
    const char *why = NULL;
    if (archives_get(all, fd, FOR_EVER, &a, &why) < 0)
        fail_msg("not opened: %s", why);
    return a;
}

// Whether the archive is the one that was kept.
static bool is_kept(struct archives *all, int fd, const struct archive *before)
{
    struct archive *a = got(all, fd);
    bool is_same = a == before;
    archive_unref(a);
    return is_same;
}

static void an_archive_is_opened_once(void **state)
{
    struct archives *all = archives_new(&ARCHIVES_LIMITS_STANDARD);
    cleanup(cleanup_close) int fd = archive_file("a", 3);
    struct archive *a = got(all, fd);
    for (int i = 0; i < 10; i++)
        assert_true(is_kept(all, fd, a));
    archive_unref(a);
    archives_free(all);
}

static void a_changed_file_is_another_archive(void **state)
{
    struct archives *all = archives_new(&ARCHIVES_LIMITS_STANDARD);
    cleanup(cleanup_close) int fd = archive_file("a", 3);
    struct archive *a = got(all, fd);
    const struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    assert_int_equal(futimens(fd, times), 0);
    assert_false(is_kept(all, fd, a));
    archive_unref(a);
    archives_free(all);
}

static void the_one_used_longest_ago_goes_first(void **state)
{
    struct archives_limits limits = ARCHIVES_LIMITS_STANDARD;
    limits.count = 2;
    struct archives *all = archives_new(&limits);
    int fds[3];
    struct archive *archives[3]; // kept here too, so that no address is used twice
    for (int i = 0; i < 3; i++)
        fds[i] = archive_file("a", 3);
    archives[0] = got(all, fds[0]);
    archives[1] = got(all, fds[1]);
    assert_true(is_kept(all, fds[0], archives[0]));
    archives[2] = got(all, fds[2]);
    assert_true(is_kept(all, fds[0], archives[0]));
    assert_false(is_kept(all, fds[1], archives[1]));
    for (int i = 0; i < 3; i++) {
        archive_unref(archives[i]);
        close(fds[i]);
    }
    archives_free(all);
}

static void large_indices_push_out_others(void **state)
{
    struct archives_limits limits = ARCHIVES_LIMITS_STANDARD;
    limits.index_bytes = 100000;
    struct archives *all = archives_new(&limits);
    cleanup(cleanup_close) int small = archive_file("a", 3);
    cleanup(cleanup_close) int large = archive_file("a", 3000);
    struct archive *a = got(all, small), *b = got(all, large);
    assert_true(archive_memory_bytes(b) > limits.index_bytes);
    assert_false(is_kept(all, small, a));
    struct archive_member m;
    const char *why;
    assert_int_equal(archive_find(b, large, TEXT("a2999"), &m, &why), 0); // still the holder's
    archive_unref(a);
    archive_unref(b);
    archives_free(all);
}

static void what_is_no_archive_is_told_each_time(void **state)
{
    struct archives *all = archives_new(&ARCHIVES_LIMITS_STANDARD);
    cleanup(cleanup_close) int fd = file_of(TEXT("no archive"));
    const struct timespec wait = {.tv_sec = 2, .tv_nsec = 200000000};
    for (int i = 0; i < 4; i++) {
        struct archive *a = NULL;
        const char *why = NULL;
        assert_int_equal(archives_get(all, fd, FOR_EVER, &a, &why), -EBADMSG);
        assert_non_null(strstr(why, "not a zip archive"));
        assert_null(a);
        if (i == 1)
            nanosleep(&wait, NULL); // from now on it is remembered
    }
    archives_free(all);
}

struct work {
    struct archives *all;
    const int *fds;
    unsigned seed;
    bool is_good;
};

static void *use_archives(void *argument)
{
    struct work *w = argument;
    w->is_good = true;
    for (int i = 0; i < 100; i++) {
        int pick = rand_r(&w->seed) % 4;
        struct archive *a = NULL;
        struct archive_member m;
        const char *why;
        char name[20];
        snprintf(name, sizeof(name), "%c%d", 'a' + pick, rand_r(&w->seed) % 500);
        if (archives_get(w->all, w->fds[pick], FOR_EVER, &a, &why) < 0 ||
            archive_find(a, w->fds[pick], text_of(name), &m, &why) < 0)
            w->is_good = false;
        if (a)
            archive_unref(a);
    }
    return NULL;
}

static void threads_may_open_and_drop_at_the_same_time(void **state)
{
    struct archives_limits limits = ARCHIVES_LIMITS_STANDARD;
    limits.count = 2;
    struct archives *all = archives_new(&limits);
    int fds[4];
    struct work work[4];
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        fds[i] = archive_file((char[]){(char)('a' + i), 0}, 500);
    for (unsigned i = 0; i < 4; i++) {
        work[i] = (struct work){all, fds, i, false};
        assert_int_equal(pthread_create(&threads[i], NULL, use_archives, &work[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_true(work[i].is_good);
    }
    for (int i = 0; i < 4; i++)
        close(fds[i]);
    archives_free(all);
}

static void freeing_archives_with_an_open_member_aborts(void **state)
{
    struct archives *all = archives_new(&ARCHIVES_LIMITS_STANDARD);
    struct archive_member m = {0};
    struct archive_reader *r = archive_reader_open(all, -1, &m);
    assert_aborts(archives_free(all));
    archive_reader_close(r);
    archives_free(all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_archive_is_opened_once),
        cmocka_unit_test(a_changed_file_is_another_archive),
        cmocka_unit_test(the_one_used_longest_ago_goes_first),
        cmocka_unit_test(large_indices_push_out_others),
        cmocka_unit_test(what_is_no_archive_is_told_each_time),
        cmocka_unit_test(threads_may_open_and_drop_at_the_same_time),
        cmocka_unit_test(freeing_archives_with_an_open_member_aborts),
    };
    return run_group(tests);
}
