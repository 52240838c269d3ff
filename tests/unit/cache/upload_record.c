// SPDX-License-Identifier: BSD-3-Clause
// Records of uploads: what was written is found again, and nothing else is taken for one.
#include "cache/upload_record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>

#include "tests/unit/base/harness.h"

static char folder[64];

static int folder_make(void **state)
{
    snprintf(folder, sizeof(folder), "/tmp/upload-record-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int folder_remove(void **state)
{
    return rmdir(folder);
}

struct found {
    size_t count;
    uint64_t number;
    char key[32], upload[32];
    int64_t begun_unix_ns;
};

static void keep(void *context, uint64_t number, const struct upload_record *r)
{
    struct found *f = context;
    f->count++;
    f->number = number;
    f->begun_unix_ns = r->begun_unix_ns;
    snprintf(f->key, sizeof(f->key), "%.*s", (int)r->key.size_bytes, r->key.data);
    snprintf(f->upload, sizeof(f->upload), "%.*s", (int)r->upload.size_bytes, r->upload.data);
}

static void what_was_recorded_is_found_until_it_is_removed(void **state)
{
    struct found f = {0};
    struct upload_record r = {TEXT("s3://host/bucket"), TEXT("a/key"), TEXT(""), 1234567890123456789};
    assert_int_equal(upload_record_write(folder, 0xabc, &r), 0);
    assert_int_equal(upload_records(folder, keep, &f), 0);
    assert_int_equal(f.count, 1);
    assert_int_equal(f.number, 0xabc);
    assert_string_equal(f.key, "a/key");
    assert_string_equal(f.upload, "");
    r.upload = TEXT("its name");
    assert_int_equal(upload_record_write(folder, 0xabc, &r), 0);
    f.count = 0;
    assert_int_equal(upload_records(folder, keep, &f), 0);
    assert_int_equal(f.count, 1);
    assert_string_equal(f.upload, "its name");
    assert_true(f.begun_unix_ns == r.begun_unix_ns);
    upload_record_remove(folder, 0xabc);
    f.count = 0;
    assert_int_equal(upload_records(folder, keep, &f), 0);
    assert_int_equal(f.count, 0);
}

static void half_a_record_is_none_and_goes(void **state)
{
    char path[128], bytes[512];
    struct upload_record r = {TEXT("s3://host/bucket"), TEXT("key"), TEXT("upload"), 1}, read_back;
    struct found f = {0};
    snprintf(path, sizeof(path), "%s/%016x", folder, 7);
    assert_int_equal(upload_record_write(folder, 7, &r), 0);
    int fd = open(path, O_RDWR);
    ssize_t whole = read(fd, bytes, sizeof(bytes));
    for (ssize_t n = 0; n < whole; n++)
        assert_int_equal(upload_record_read((struct text){bytes, (size_t)n}, &read_back), -EBADMSG);
    assert_int_equal(upload_record_read((struct text){bytes, (size_t)whole}, &read_back), 0);
    assert_int_equal(ftruncate(fd, whole - 1), 0);
    close(fd);
    assert_int_equal(upload_records(folder, keep, &f), 0);
    assert_int_equal(f.count, 0);
    assert_int_equal(access(path, F_OK), -1);
}

static void a_record_that_can_not_be_read_stays_for_another_life(void **state)
{
    struct upload_record r = {TEXT("s3://host/bucket"), TEXT("key"), TEXT("upload"), 1};
    struct found f = {0};
    struct rlimit before, few;
    assert_int_equal(upload_record_write(folder, 7, &r), 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    int next = open("/dev/null", O_RDONLY);
    close(next);
    few = (struct rlimit){(rlim_t)next + 1, before.rlim_max}; // the folder can be opened, and nothing in it
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    assert_int_equal(upload_records(folder, keep, &f), 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(f.count, 0);
    assert_int_equal(upload_records(folder, keep, &f), 0);
    assert_int_equal(f.count, 1);
    upload_record_remove(folder, 7);
}

static void a_time_that_can_not_be_is_no_record(void **state)
{
    struct upload_record r = {TEXT("s3://host/bucket"), TEXT("key"), TEXT(""), INT64_MAX};
    struct found f = {0};
    assert_int_equal(upload_record_write(folder, 7, &r), 0);
    assert_int_equal(upload_records(folder, keep, &f), 0);
    assert_int_equal(f.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_recorded_is_found_until_it_is_removed, folder_make, folder_remove),
        cmocka_unit_test_setup_teardown(a_time_that_can_not_be_is_no_record, folder_make, folder_remove),
        cmocka_unit_test_setup_teardown(half_a_record_is_none_and_goes, folder_make, folder_remove),
        cmocka_unit_test_setup_teardown(a_record_that_can_not_be_read_stays_for_another_life, folder_make, folder_remove),
    };
    return run_group(tests);
}
