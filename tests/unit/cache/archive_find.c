// SPDX-License-Identifier: BSD-3-Clause
// Members that lie, each beside good ones.
#include "tests/unit/cache/zip.h"

#include <errno.h>

#include "cache/archive_format.h"

static void assert_victim_refused(const struct zip *z, const char *part)
{
    struct archive_member m = {.crc32 = 1};
    const char *why = NULL;
    cleanup(cleanup_close) int fd = zip_file(z);
    cleanup(cleanup_archive_unref) struct archive *a = opened(fd);
    assert_int_equal(archive_find(a, fd, TEXT("victim"), &m, &why), -EBADMSG);
    assert_why(why, part);
    assert_int_equal(m.crc32, 1); // untouched
    found(a, fd, TEXT("before"));
    found(a, fd, TEXT("after"));
}

// In both headers: `central` and `local` are the places in each.
static void patch_both(struct zip *z, size_t central, size_t local, int width, uint64_t value)
{
    zip_patch(z, z->central[1] + central, width, value);
    zip_patch(z, z->local[1] + local, width, value);
}

static void an_encrypted_member_is_refused(void **state)
{
    static const uint16_t flags[] = {0x0001, 0x0040, 0x2000};
    for (size_t i = 0; i < 3; i++) {
        ZIP_CLEANUP z = {0};
        make_three(&z, 0);
        patch_both(&z, 8, 6, 2, flags[i]);
        assert_victim_refused(&z, "encrypted");
    }
}

static void an_unknown_method_is_refused(void **state)
{
    static const uint16_t methods[] = {1, 9, 12, 14, 93, 99, 0x108};
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        ZIP_CLEANUP z = {0};
        make_three(&z, 8);
        patch_both(&z, 10, 8, 2, methods[i]);
        assert_victim_refused(&z, "compression method");
    }
}

static void a_patch_and_another_part_are_refused(void **state)
{
    ZIP_CLEANUP z = {0};
    make_three(&z, 0);
    patch_both(&z, 8, 6, 2, 0x0020);
    assert_victim_refused(&z, "patch");
    patch_both(&z, 8, 6, 2, 0);
    zip_patch(&z, z.central[1] + 34, 2, 1);
    assert_victim_refused(&z, "another part");
}

static void a_stored_member_with_two_sizes_is_refused(void **state)
{
    ZIP_CLEANUP z = {0};
    make_three(&z, 0);
    patch_both(&z, 24, 22, 4, HELLO.size_bytes + 1);
    assert_victim_refused(&z, "two sizes");
}

static void a_size_that_deflate_can_not_make_is_refused(void **state)
{
    ZIP_CLEANUP z = {0};
    make_three(&z, 8);
    patch_both(&z, 24, 22, 4, 4000000000);
    assert_victim_refused(&z, "larger than its data can become");
}

static void an_impossible_size_is_refused(void **state)
{
    ZIP_CLEANUP z = {0};
    struct archive_member m;
    const char *why = NULL;
    zip_add(&z, &(struct zip_member){.name = TEXT("victim"), .data = HELLO, .is_zip64 = true});
    zip_finish(&z, false, "", 0);
    zip_patch(&z, z.central[0] + 46 + 6 + 8, 8, UINT64_MAX);
    cleanup(cleanup_close) int fd = zip_file(&z);
    cleanup(cleanup_archive_unref) struct archive *a = opened(fd);
    assert_int_equal(archive_find(a, fd, TEXT("victim"), &m, &why), -EBADMSG);
    assert_why(why, "impossible");
}

static void an_empty_member_with_a_checksum_is_refused(void **state)
{
    ZIP_CLEANUP z = {0};
    make_three(&z, 0);
    patch_both(&z, 20, 18, 8, 0);
    assert_victim_refused(&z, "empty");
}

static void a_member_that_reaches_into_the_next_is_refused(void **state)
{
    ZIP_CLEANUP z = {0};
    struct archive_member m;
    const char *why = NULL;
    make_three(&z, 0);
    size_t size = HELLO.size_bytes + 1;
    patch_both(&z, 20, 18, 4, size);
    patch_both(&z, 24, 22, 4, size);
    cleanup(cleanup_close) int fd = zip_file(&z);
    cleanup(cleanup_archive_unref) struct archive *a = opened(fd);
    assert_int_equal(archive_find(a, fd, TEXT("victim"), &m, &why), -EBADMSG);
    assert_why(why, "overlaps");
    assert_int_equal(archive_find(a, fd, TEXT("after"), &m, &why), -EBADMSG);
    assert_why(why, "overlaps");
    found(a, fd, TEXT("before"));
}

static void a_member_that_reaches_over_many_refuses_them_all(void **state)
{
    static const char *const names[] = {"long", "short", "last"};
    ZIP_CLEANUP z = {0};
    struct archive_member m;
    const char *why = NULL;
    zip_store(&z, "good", HELLO);
    for (int i = 0; i < 3; i++)
        zip_store(&z, names[i], HELLO);
    zip_finish(&z, false, "", 0);
    uint64_t size = z.data[3] + 5 - z.data[1];
    patch_both(&z, 20, 18, 4, size);
    patch_both(&z, 24, 22, 4, size);
    cleanup(cleanup_close) int fd = zip_file(&z);
    cleanup(cleanup_archive_unref) struct archive *a = opened(fd);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(archive_find(a, fd, text_of(names[i]), &m, &why), -EBADMSG);
        assert_why(why, "overlaps");
    }
    found(a, fd, TEXT("good"));
}

static void a_member_that_reaches_beyond_everything_refuses_no_other(void **state)
{
    ZIP_CLEANUP z = {0};
    make_three(&z, 0);
    patch_both(&z, 20, 18, 4, 1000000000);
    patch_both(&z, 24, 22, 4, 1000000000);
    assert_victim_refused(&z, "outside");
}

// The central header knows nothing of the local extra field, which moves the data.
static void a_member_whose_local_extra_field_moves_it_into_the_next_is_refused(void **state)
{
    ZIP_CLEANUP z = {0};
    make_three(&z, 0);
    zip_patch(&z, z.local[1] + 28, 2, 7);
    assert_victim_refused(&z, "overlaps");
}

static void two_members_in_one_place_are_refused(void **state)
{
    ZIP_CLEANUP z = {0};
    struct archive_member m;
    const char *why = NULL;
    zip_store(&z, "one", HELLO);
    zip_store(&z, "two", HELLO);
    zip_finish(&z, false, "", 0);
    zip_patch(&z, z.central[1] + 42, 4, 0);
    zip_patch(&z, z.local[0] + 30, 3, 0x6f7774); // "two"
    cleanup(cleanup_close) int fd = zip_file(&z);
    cleanup(cleanup_archive_unref) struct archive *a = opened(fd);
    assert_int_equal(archive_find(a, fd, TEXT("two"), &m, &why), -EBADMSG);
    assert_why(why, "overlaps");
}

static void a_member_that_reaches_into_the_directory_is_refused(void **state)
{
    ZIP_CLEANUP z = {0};
    struct archive_member m;
    const char *why = NULL;
    zip_store(&z, "good", HELLO);
    zip_store(&z, "victim", HELLO);
    zip_finish(&z, false, "", 0);
    patch_both(&z, 20, 18, 4, HELLO.size_bytes + 1);
    patch_both(&z, 24, 22, 4, HELLO.size_bytes + 1);
    cleanup(cleanup_close) int fd = zip_file(&z);
    cleanup(cleanup_archive_unref) struct archive *a = opened(fd);
    assert_int_equal(archive_find(a, fd, TEXT("victim"), &m, &why), -EBADMSG);
    assert_why(why, "outside");
    found(a, fd, TEXT("good"));
}

static void a_local_extra_field_that_moves_data_into_the_directory_is_refused(void **state)
{
    ZIP_CLEANUP z = {0};
    struct archive_member m;
    const char *why = NULL;
    zip_store(&z, "victim", HELLO);
    zip_finish(&z, false, "", 0);
    zip_patch(&z, z.local[0] + 28, 2, 7);
    cleanup(cleanup_close) int fd = zip_file(&z);
    cleanup(cleanup_archive_unref) struct archive *a = opened(fd);
    assert_int_equal(archive_find(a, fd, TEXT("victim"), &m, &why), -EBADMSG);
    assert_why(why, "outside");
}

static void an_offset_outside_is_refused(void **state)
{
    ZIP_CLEANUP z = {0};
    make_three(&z, 0);
    zip_patch(&z, z.central[1] + 42, 4, 0xfffffffe);
    assert_victim_refused(&z, "outside");
    zip_patch(&z, z.central[1] + 42, 4, z.central[0] - 10);
    assert_victim_refused(&z, "outside");
    zip_patch(&z, z.central[1] + 42, 4, UINT32_MAX); // and no zip64 field
    assert_victim_refused(&z, "zip64 field");
}

static void an_offset_to_no_header_is_refused(void **state)
{
    ZIP_CLEANUP z = {0};
    make_three(&z, 0);
    zip_patch(&z, z.local[1], 4, 0x04034b51);
    assert_victim_refused(&z, "no header");
}

static void headers_that_do_not_agree_are_refused(void **state)
{
    static const struct {
        size_t local;
        int width;
        const char *part;
    } cases[] = {
        {6, 2, "what it is"}, {8, 2, "what it is"}, {14, 4, "checksum"}, {18, 4, "size"},
        {22, 4, "size"},      {30, 1, "name"},      {26, 1, "name"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ZIP_CLEANUP z = {0};
        make_three(&z, 8);
        zip_patch(&z, z.local[1] + cases[i].local, cases[i].width, 1);
        assert_victim_refused(&z, cases[i].part);
    }
}

// Whatever is damaged: what is found lies in the archive, before the directory.
static void any_damage_is_refused_or_harmless(void **state)
{
    static const char *const names[] = {"before", "victim", "after"};
    unsigned seed = 7;
    for (int round = 0; round < 3000; round++) {
        ZIP_CLEANUP z = {0};
        struct archive *opened_one = NULL;
        const char *why;
        make_three(&z, round % 2 ? 8 : 0);
        for (int n = rand_r(&seed) % 3; n >= 0; n--)
            zip_patch(&z, (size_t)rand_r(&seed) % z.bytes.size_bytes, 1, (uint64_t)rand_r(&seed));
        cleanup(cleanup_close) int fd = zip_file(&z);
        int r = archive_open(fd, &opened_one, &why);
        cleanup(cleanup_archive_unref) struct archive *a = opened_one;
        assert_true(r == 0 || r == -EBADMSG || r == -EFBIG);
        for (int i = 0; a && i < 3; i++) {
            struct archive_member m;
            r = archive_find(a, fd, text_of(names[i]), &m, &why);
            assert_true(r == 0 || r == -EBADMSG || r == -ENOENT);
            if (r == 0)
                assert_true(m.data_offset + m.packed_bytes <= z.end);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_encrypted_member_is_refused),
        cmocka_unit_test(an_unknown_method_is_refused),
        cmocka_unit_test(a_patch_and_another_part_are_refused),
        cmocka_unit_test(a_stored_member_with_two_sizes_is_refused),
        cmocka_unit_test(a_size_that_deflate_can_not_make_is_refused),
        cmocka_unit_test(an_impossible_size_is_refused),
        cmocka_unit_test(an_empty_member_with_a_checksum_is_refused),
        cmocka_unit_test(a_member_that_reaches_into_the_next_is_refused),
        cmocka_unit_test(a_member_that_reaches_over_many_refuses_them_all),
        cmocka_unit_test(a_member_that_reaches_beyond_everything_refuses_no_other),
        cmocka_unit_test(a_member_whose_local_extra_field_moves_it_into_the_next_is_refused),
        cmocka_unit_test(two_members_in_one_place_are_refused),
        cmocka_unit_test(a_member_that_reaches_into_the_directory_is_refused),
        cmocka_unit_test(a_local_extra_field_that_moves_data_into_the_directory_is_refused),
        cmocka_unit_test(an_offset_outside_is_refused),
        cmocka_unit_test(an_offset_to_no_header_is_refused),
        cmocka_unit_test(headers_that_do_not_agree_are_refused),
        cmocka_unit_test(any_damage_is_refused_or_harmless),
    };
    return run_group(tests);
}
