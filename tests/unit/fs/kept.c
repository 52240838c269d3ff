// SPDX-License-Identifier: BSD-3-Clause
// What is kept of other origins for later lives, and what of it isn't believed.
#include "tests/unit/base/harness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "fs/kept.h"

#define NAME TEXT("s3://bucket/repo/butler.yaml")

static char place[64], folder[80], path[400];

static int begin(void **state)
{
    (void)state;
    snprintf(place, sizeof place, "/tmp/kept-XXXXXX");
    assert_non_null(mkdtemp(place));
    snprintf(folder, sizeof folder, "%s/kept", place);
    return 0;
}

static int end(void **state)
{
    (void)state;
    unlink(path);
    rmdir(folder);
    return rmdir(place);
}

// The one file that is there.
static void find_file(void)
{
    DIR *d = opendir(folder);
    assert_non_null(d);
    unsigned count = 0;
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        count++;
    }
    closedir(d);
    assert_int_equal(count, 1);
}

static void write_one(void)
{
    assert_int_equal(kept_write(folder, NAME, TEXT("datastore: {}")), 0);
    find_file();
}

static int read_one(void)
{
    BUFFER_CLEANUP to = {0};
    int64_t unix_ns = 0;
    int r = kept_read(folder, NAME, &to, &unix_ns);
    assert_true((r == 0) == (to.size_bytes > 0) && (r == 0) == (unix_ns > 0));
    return r;
}

static void what_was_kept_last_is_read(void **state)
{
    (void)state;
    BUFFER_CLEANUP to = {0};
    int64_t unix_ns = 0;
    assert_int_equal(kept_read(folder, NAME, &to, &unix_ns), -ENOENT);
    write_one();
    assert_int_equal(kept_write(folder, NAME, TEXT("registry: {}")), 0);
    find_file();
    assert_int_equal(kept_read(folder, NAME, &to, &unix_ns), 0);
    assert_true(text_equal(buffer_text(&to), TEXT("registry: {}")));
    assert_int_equal(kept_read(folder, TEXT("s3://bucket/other/butler.yaml"), &to, &unix_ns), -ENOENT);
}

static void only_its_owner_reads_it_or_it_is_not_believed(void **state)
{
    (void)state;
    struct stat st;
    write_one();
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(stat(folder, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(read_one(), -EPERM);
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(read_one(), 0);
}

static void a_byte_that_changed_is_not_believed(void **state)
{
    (void)state;
    struct stat st;
    write_one();
    assert_int_equal(stat(path, &st), 0);
    for (off_t at = 0; at < st.st_size; at++) {
        char byte;
        int fd = open(path, O_RDWR);
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        byte ^= 1;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        assert_int_equal(read_one(), -EBADMSG);
        byte ^= 1;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        close(fd);
    }
    assert_int_equal(truncate(path, st.st_size - 1), 0);
    assert_int_equal(read_one(), -EBADMSG);
    assert_int_equal(truncate(path, 3), 0);
    assert_int_equal(read_one(), -EBADMSG);
}

static void a_link_in_its_place_is_not_followed(void **state)
{
    (void)state;
    char other[500];
    write_one();
    snprintf(other, sizeof other, "%s/elsewhere", place);
    assert_int_equal(rename(path, other), 0);
    assert_int_equal(symlink(other, path), 0);
    assert_int_equal(read_one(), -ELOOP);
    unlink(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_kept_last_is_read, begin, end),
        cmocka_unit_test_setup_teardown(only_its_owner_reads_it_or_it_is_not_believed, begin, end),
        cmocka_unit_test_setup_teardown(a_byte_that_changed_is_not_believed, begin, end),
        cmocka_unit_test_setup_teardown(a_link_in_its_place_is_not_followed, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
