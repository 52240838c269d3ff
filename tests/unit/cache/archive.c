// SPDX-License-Identifier: BSD-3-Clause
#include "tests/unit/cache/zip.h"

#include <errno.h>
#include <sys/stat.h>

#include "cache/archive_format.h"

static void assert_stored_at(int fd, const struct archive_member *m, struct text data)
{
    cleanup(cleanup_free) char *there = memory_new(data.size_bytes + 1);
    assert_int_equal(m->method, ARCHIVE_STORED);
    assert_int_equal(m->size_bytes, data.size_bytes);
    assert_int_equal(pread(fd, there, data.size_bytes, (off_t)m->data_offset), data.size_bytes);
    assert_memory_equal(there, data.data, data.size_bytes);
}

// ---- what is read

static void a_stored_member_is_where_its_bytes_are(void **state)
{
    ZIP_CLEANUP z = {0};
    zip_store(&z, "first", TEXT("1"));
    zip_store(&z, "folder/second.txt", HELLO);
    zip_finish(&z, false, "", 0);
    cleanup(cleanup_close) int fd = zip_file(&z);
    cleanup(cleanup_archive_unref) struct archive *a = opened(fd);
    struct archive_member m = found(a, fd, TEXT("folder/second.txt"));
    assert_int_equal(archive_member_count(a), 2);
    assert_int_equal(m.data_offset, z.data[1]);
    assert_int_equal(m.packed_bytes, HELLO.size_bytes);
    assert_int_equal(m.crc32, crc32(0, (const Bytef *)HELLO.data, (uInt)HELLO.size_bytes));
    assert_stored_at(fd, &m, HELLO);
}

static void a_deflated_member_has_two_sizes(void **state)
{
    ZIP_CLEANUP z = {0};
    zip_add(&z, &(struct zip_member){.name = TEXT("d"), .data = HELLO, .method = 8});
    zip_finish(&z, false, "", 0);
    cleanup(cleanup_close) int fd = zip_file(&z);
    cleanup(cleanup_archive_unref) struct archive *a = opened(fd);
    struct archive_member m = found(a, fd, TEXT("d"));
    assert_int_equal(m.method, ARCHIVE_DEFLATED);
    assert_int_equal(m.size_bytes, HELLO.size_bytes);
    assert_true(m.packed_bytes < m.size_bytes);
}

static void an_archive_may_be_empty(void **state)
{
    ZIP_CLEANUP z = {0};
    zip_finish(&z, false, "", 0);
    cleanup(cleanup_close) int fd = zip_file(&z);
    cleanup(cleanup_archive_unref) struct archive *a = opened(fd);
    struct archive_member m;
    const char *why;
    assert_int_equal(archive_member_count(a), 0);
    assert_int_equal(archive_find(a, fd, TEXT("x"), &m, &why), -ENOENT);
}

static void members_may_be_empty(void **state)
{
    ZIP_CLEANUP z = {0};
    zip_store(&z, "stored", TEXT(""));
    zip_add(&z, &(struct zip_member){.name = TEXT("deflated"), .data = TEXT(""), .method = 8});
    zip_add(&z, &(struct zip_member){
                    .name = TEXT("nothing"), .data = TEXT(""), .packed = TEXT(""), .method = 8});
    zip_finish(&z, false, "", 0);
    cleanup(cleanup_close) int fd = zip_file(&z);
    cleanup(cleanup_archive_unref) struct archive *a = opened(fd);
    assert_int_equal(found(a, fd, TEXT("stored")).size_bytes, 0);
    assert_int_equal(found(a, fd, TEXT("deflated")).size_bytes, 0);
    assert_int_equal(found(a, fd, TEXT("nothing")).size_bytes, 0);
}

static void zip64_fields_give_sizes_and_offsets(void **state)
{
    ZIP_CLEANUP z = {0};
    zip_store(&z, "first", TEXT("1"));
    zip_add(&z, &(struct zip_member){.name = TEXT("big"), .data = HELLO, .is_zip64 = true});
    zip_add(&z, &(struct zip_member){
                    .name = TEXT("packed"), .data = HELLO, .method = 8, .is_zip64 = true});
    zip_finish(&z, true, "", 0);
    cleanup(cleanup_close) int fd = zip_file(&z);
    cleanup(cleanup_archive_unref) struct archive *a = opened(fd);
    struct archive_member m = found(a, fd, TEXT("big"));
    assert_stored_at(fd, &m, HELLO);
    assert_int_equal(found(a, fd, TEXT("packed")).size_bytes, HELLO.size_bytes);
}

static void sizes_may_follow_the_data(void **state)
{
    ZIP_CLEANUP z = {0};
    struct zip_member m = {.name = TEXT("a"), .data = HELLO, .flags = ARCHIVE_FLAG_DESCRIPTOR};
    zip_add(&z, &m);
    m.name = TEXT("b"), m.method = 8;
    zip_add(&z, &m);
    m.name = TEXT("c"), m.is_zip64 = true;
    zip_add(&z, &m);
    zip_finish(&z, false, "", 0);
    cleanup(cleanup_close) int fd = zip_file(&z);
    cleanup(cleanup_archive_unref) struct archive *a = opened(fd);
    struct archive_member stored = found(a, fd, TEXT("a"));
    assert_stored_at(fd, &stored, HELLO);
    assert_int_equal(found(a, fd, TEXT("b")).size_bytes, HELLO.size_bytes);
    assert_int_equal(found(a, fd, TEXT("c")).size_bytes, HELLO.size_bytes);
}

static void a_comment_may_follow_and_a_program_may_stand_before(void **state)
{
    for (int zip64 = 0; zip64 < 2; zip64++) {
        ZIP_CLEANUP z = {0};
        zip_store(&z, "a", HELLO);
        zip_finish(&z, zip64, "a comment", 0);
        BUFFER_CLEANUP whole = {0};
        buffer_append_string(&whole, "#!/bin/sh\nexec unzip\n");
        buffer_append_text(&whole, buffer_text(&z.bytes));
        cleanup(cleanup_close) int fd = file_of(buffer_text(&whole));
        cleanup(cleanup_archive_unref) struct archive *a = opened(fd);
        struct archive_member m = found(a, fd, TEXT("a"));
        assert_stored_at(fd, &m, HELLO);
    }
}

static void more_than_65535_members_take_little_memory_and_are_all_found(void **state)
{
    enum { COUNT = 70000 };
    ZIP_CLEANUP z = {0};
    char name[80];
    for (int i = 0; i < COUNT; i++) {
        snprintf(name, sizeof(name), "a folder with a long name/and/one/more/%d.fits", i);
        zip_store(&z, name, text_of(name));
    }
    zip_finish(&z, true, "", 0);
    cleanup(cleanup_close) int fd = zip_file(&z);
    cleanup(cleanup_archive_unref) struct archive *a = opened(fd);
    assert_int_equal(archive_member_count(a), COUNT);
    assert_true(archive_memory_bytes(a) < COUNT * 60);
    for (int i = 0; i < COUNT; i += 101) {
        snprintf(name, sizeof(name), "a folder with a long name/and/one/more/%d.fits", i);
        struct archive_member m = found(a, fd, text_of(name));
        assert_stored_at(fd, &m, text_of(name));
    }
}

// As old writers left it: the count is what fits into 16 bits.
static void more_than_65535_members_are_found_without_zip64_too(void **state)
{
    ZIP_CLEANUP z = {0};
    char name[20];
    for (int i = 0; i < 65540; i++) {
        snprintf(name, sizeof(name), "%d", i);
        zip_store(&z, name, TEXT("x"));
    }
    zip_finish(&z, false, "", 0);
    cleanup(cleanup_close) int fd = zip_file(&z);
    cleanup(cleanup_archive_unref) struct archive *a = opened(fd);
    assert_int_equal(archive_member_count(a), 65540);
    found(a, fd, TEXT("65539"));
}

// The member lies in a hole of the file, beyond what 32 bits can say.
static void a_member_may_be_beyond_and_larger_than_4_gib(void **state)
{
    ZIP_CLEANUP z = {0};
    const uint64_t size = (uint64_t)5 << 30;
    zip_add(&z, &(struct zip_member){.name = TEXT("hole"), .data = TEXT(""), .is_zip64 = true});
    size_t hole_at = z.bytes.size_bytes;
    zip_add(&z, &(struct zip_member){.name = TEXT("last"), .data = HELLO, .is_zip64 = true});
    // Its size in both headers; the offset of the member after it.
    for (int field = 0; field < 2; field++) {
        zip_patch(&z, 30 + 4 + 4 + 8 * (size_t)field, 8, size);
        memcpy(z.directory.data + 46 + 4 + 8 + 8 * field, &size, 8);
    }
    uint64_t moved = hole_at + size;
    memcpy(z.directory.data + z.directory.size_bytes - 8, &moved, 8);
    cleanup(cleanup_close) int fd = zip_file(&z);
    zip_finish(&z, true, "", 0);
    struct text last = text_slice(buffer_text(&z.bytes), hole_at, z.bytes.size_bytes);
    uint64_t directory = z.central[0] + size, end64 = z.end - 20 - 56 + size;
    zip_patch(&z, z.end - 20 - 56 + 48, 8, directory);
    zip_patch(&z, z.end - 20 + 8, 8, end64);
    assert_int_equal(ftruncate(fd, (off_t)hole_at), 0);
    assert_int_equal(pwrite(fd, last.data, last.size_bytes, (off_t)moved), last.size_bytes);
    cleanup(cleanup_archive_unref) struct archive *a = opened(fd);
    struct archive_member m = found(a, fd, TEXT("last"));
    assert_stored_at(fd, &m, HELLO);
    assert_true(m.data_offset > size);
}

// ---- names

static void a_name_is_utf8_or_code_page_437(void **state)
{
    ZIP_CLEANUP z = {0};
    zip_add(&z, &(struct zip_member){
                    .name = TEXT("caf\xc3\xa9"), .data = TEXT("8"), .flags = ARCHIVE_FLAG_UTF8});
    zip_add(&z, &(struct zip_member){.name = TEXT("caf\x82\xb0\x9c"), .data = TEXT("4")});
    zip_finish(&z, false, "", 0);
    cleanup(cleanup_close) int fd = zip_file(&z);
    cleanup(cleanup_archive_unref) struct archive *a = opened(fd);
    struct archive_member m = found(a, fd, TEXT("caf\xc3\xa9"));
    assert_stored_at(fd, &m, TEXT("8"));
    m = found(a, fd, TEXT("caf\xc3\xa9\xe2\x96\x91\xc2\xa3"));
    assert_stored_at(fd, &m, TEXT("4"));
}

static void assert_name_refused(struct text name, struct text asked, const char *part)
{
    ZIP_CLEANUP z = {0};
    struct archive_member m;
    const char *why = NULL;
    zip_add(&z, &(struct zip_member){.name = name, .data = HELLO});
    zip_store(&z, "good", TEXT("good"));
    zip_finish(&z, false, "", 0);
    cleanup(cleanup_close) int fd = zip_file(&z);
    cleanup(cleanup_archive_unref) struct archive *a = opened(fd);
    assert_int_equal(archive_find(a, fd, asked, &m, &why), -EBADMSG);
    assert_why(why, part);
    found(a, fd, TEXT("good"));
}

static void an_absolute_name_is_refused(void **state)
{
    assert_name_refused(TEXT("/etc/passwd"), TEXT("/etc/passwd"), "absolute");
}

static void a_name_that_leads_out_is_refused(void **state)
{
    assert_name_refused(TEXT(".."), TEXT(".."), "out of the archive");
    assert_name_refused(TEXT("../x"), TEXT("../x"), "out of the archive");
    assert_name_refused(TEXT("a/../../x"), TEXT("a/../../x"), "out of the archive");
    assert_name_refused(TEXT("a/.."), TEXT("a/.."), "out of the archive");
}

static void names_with_dots_elsewhere_are_good(void **state)
{
    ZIP_CLEANUP z = {0};
    zip_store(&z, "..a/b../...", HELLO);
    zip_finish(&z, false, "", 0);
    cleanup(cleanup_close) int fd = zip_file(&z);
    cleanup(cleanup_archive_unref) struct archive *a = opened(fd);
    found(a, fd, TEXT("..a/b../..."));
}

static void an_empty_name_and_a_folder_are_refused(void **state)
{
    assert_name_refused(TEXT(""), TEXT(""), "empty");
    assert_name_refused(TEXT("folder/"), TEXT("folder/"), "folder");
}

static void a_name_with_a_nul_is_refused(void **state)
{
    assert_name_refused(TEXT("good.fits\0.txt"), TEXT("good.fits"), "NUL");
}

static void a_name_that_stands_twice_is_refused(void **state)
{
    ZIP_CLEANUP z = {0};
    struct archive_member m;
    const char *why = NULL;
    for (int i = 0; i < 3; i++)
        zip_store(&z, "twice", TEXT("2"));
    zip_store(&z, "once\0hidden", TEXT("1"));
    zip_finish(&z, false, "", 0);
    cleanup(cleanup_close) int fd = zip_file(&z);
    cleanup(cleanup_archive_unref) struct archive *a = opened(fd);
    assert_int_equal(archive_find(a, fd, TEXT("twice"), &m, &why), -EBADMSG);
    assert_why(why, "two members of this name");
    found(a, fd, TEXT("once"));
}

// ---- what is no archive

static void assert_not_opened(int fd, int error, const char *part)
{
    struct archive *a = NULL;
    const char *why = NULL;
    assert_int_equal(archive_open(fd, &a, &why), error);
    assert_null(a);
    assert_why(why, part);
}

static void a_file_that_is_no_archive_is_not_opened(void **state)
{
    BUFFER_CLEANUP data = {0};
    cleanup(cleanup_close) int empty = file_of(TEXT(""));
    assert_not_opened(empty, -EBADMSG, "not a zip archive");
    some_data(&data, 300000, 1);
    cleanup(cleanup_close) int fd = file_of(buffer_text(&data));
    assert_not_opened(fd, -EBADMSG, "not a zip archive");
}

static void a_folder_and_a_pipe_are_not_opened(void **state)
{
    int pipe_fds[2];
    cleanup(cleanup_close) int folder = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
    assert_not_opened(folder, -EBADMSG, "not a regular file");
    assert_not_opened(pipe_fds[0], -EBADMSG, "not a regular file");
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

static void an_archive_that_was_cut_anywhere_is_not_opened(void **state)
{
    for (int zip64 = 0; zip64 < 2; zip64++) {
        ZIP_CLEANUP z = {0};
        zip_add(&z, &(struct zip_member){.name = TEXT("a"), .data = HELLO, .is_zip64 = zip64});
        zip_finish(&z, zip64, "comment", 0);
        for (size_t size = 0; size < z.bytes.size_bytes; size++) {
            struct archive *a;
            const char *why;
            cleanup(cleanup_close) int fd = file_of(text_slice(buffer_text(&z.bytes), 0, size));
            assert_int_equal(archive_open(fd, &a, &why), -EBADMSG);
        }
    }
}

static void bytes_cut_off_at_the_beginning_refuse_the_archive(void **state)
{
    ZIP_CLEANUP z = {0};
    make_three(&z, 0);
    struct text rest = text_slice(buffer_text(&z.bytes), 1, z.bytes.size_bytes);
    cleanup(cleanup_close) int fd = file_of(rest);
    assert_not_opened(fd, -EBADMSG, "outside");
}

static void an_end_record_inside_a_comment_refuses_the_archive(void **state)
{
    ZIP_CLEANUP z = {0};
    zip_store(&z, "a", HELLO);
    zip_finish(&z, false, "PK\5\6 that is another archive to some", 0);
    cleanup(cleanup_close) int fd = zip_file(&z);
    assert_not_opened(fd, -EBADMSG, "not a zip archive");
}

static void parts_of_an_archive_are_not_opened(void **state)
{
    for (size_t at = 4; at <= 8; at += 2) {
        ZIP_CLEANUP z = {0};
        make_three(&z, 0);
        zip_patch(&z, z.end + at, 2, 1);
        cleanup(cleanup_close) int fd = zip_file(&z);
        assert_not_opened(fd, -EBADMSG, "several parts");
    }
}

static void end_records_that_do_not_agree_refuse_the_archive(void **state)
{
    ZIP_CLEANUP z = {0};
    zip_store(&z, "a", HELLO);
    zip_finish(&z, true, "", 0);
    zip_patch(&z, z.end + 10, 2, 2);
    cleanup(cleanup_close) int fd = zip_file(&z);
    assert_not_opened(fd, -EBADMSG, "do not agree");
}

static void a_lost_zip64_record_refuses_the_archive(void **state)
{
    ZIP_CLEANUP z = {0};
    zip_store(&z, "a", HELLO);
    zip_finish(&z, true, "", 0);
    zip_patch(&z, z.end - 20 - 56, 1, 0);
    cleanup(cleanup_close) int fd = zip_file(&z);
    assert_not_opened(fd, -EBADMSG, "zip64 end record");
}

static void a_zip64_record_of_another_length_refuses_the_archive(void **state)
{
    ZIP_CLEANUP z = {0};
    zip_store(&z, "a", HELLO);
    zip_finish(&z, true, "", 0);
    zip_patch(&z, z.end - 20 - 56 + 4, 8, 43);
    cleanup(cleanup_close) int fd = zip_file(&z);
    assert_not_opened(fd, -EBADMSG, "zip64 end record");
}

static void a_damaged_directory_refuses_the_archive(void **state)
{
    ZIP_CLEANUP z = {0};
    make_three(&z, 0);
    zip_patch(&z, z.central[1], 1, 0);
    cleanup(cleanup_close) int fd = zip_file(&z);
    assert_not_opened(fd, -EBADMSG, "damaged");
}

static void a_wrong_count_refuses_the_archive(void **state)
{
    ZIP_CLEANUP z = {0};
    make_three(&z, 0);
    zip_patch(&z, z.end + 8, 4, 0x00020002);
    cleanup(cleanup_close) int fd = zip_file(&z);
    assert_not_opened(fd, -EBADMSG, "not as long as it says");
}

static void bytes_after_the_last_header_refuse_the_archive(void **state)
{
    ZIP_CLEANUP z = {0};
    zip_store(&z, "a", HELLO);
    put(&z.directory, 4, 0);
    zip_finish(&z, false, "", 0);
    cleanup(cleanup_close) int fd = zip_file(&z);
    assert_not_opened(fd, -EBADMSG, "not as long as it says");
}

static void a_last_header_that_leaves_the_directory_refuses_the_archive(void **state)
{
    ZIP_CLEANUP z = {0};
    make_three(&z, 0);
    zip_patch(&z, z.central[2] + 32, 2, 100);
    cleanup(cleanup_close) int fd = zip_file(&z);
    assert_not_opened(fd, -EBADMSG, "not as long as it says");
}

static void too_many_members_and_too_large_directories_are_not_opened(void **state)
{
    ZIP_CLEANUP z = {0};
    zip_store(&z, "a", HELLO);
    zip_finish(&z, true, "", 0);
    size_t end64 = z.end - 20 - 56;
    zip_patch(&z, end64 + 24, 8, ARCHIVE_MEMBERS_MAX + 1);
    zip_patch(&z, end64 + 32, 8, ARCHIVE_MEMBERS_MAX + 1);
    cleanup(cleanup_close) int many = zip_file(&z);
    assert_not_opened(many, -EFBIG, "too many members");
    zip_patch(&z, end64 + 40, 8, ARCHIVE_DIRECTORY_BYTES_MAX + 1);
    zip_patch(&z, end64 + 48, 8, 0);
    // The end moved behind a hole.
    cleanup(cleanup_close) int large = file_of(TEXT(""));
    struct text end = text_slice(buffer_text(&z.bytes), end64, z.bytes.size_bytes);
    off_t at = (off_t)ARCHIVE_DIRECTORY_BYTES_MAX + 1;
    zip_patch(&z, z.end - 20 + 8, 8, (uint64_t)at);
    assert_int_equal(pwrite(large, end.data, end.size_bytes, at), end.size_bytes);
    assert_not_opened(large, -EFBIG, "directory is too large");
}

static void a_changed_or_other_file_is_stale(void **state)
{
    ZIP_CLEANUP z = {0};
    struct archive_member m;
    const char *why;
    make_three(&z, 0);
    cleanup(cleanup_close) int fd = zip_file(&z);
    cleanup(cleanup_close) int other = zip_file(&z);
    cleanup(cleanup_archive_unref) struct archive *a = opened(fd);
    found(a, fd, TEXT("victim"));
    assert_int_equal(archive_find(a, other, TEXT("victim"), &m, &why), -ESTALE);
    assert_int_equal(ftruncate(fd, 10), 0);
    assert_int_equal(archive_find(a, fd, TEXT("victim"), &m, &why), -ESTALE);
    assert_int_equal(archive_find(a, fd, TEXT("none"), &m, &why), -ESTALE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stored_member_is_where_its_bytes_are),
        cmocka_unit_test(a_deflated_member_has_two_sizes),
        cmocka_unit_test(an_archive_may_be_empty),
        cmocka_unit_test(members_may_be_empty),
        cmocka_unit_test(zip64_fields_give_sizes_and_offsets),
        cmocka_unit_test(sizes_may_follow_the_data),
        cmocka_unit_test(a_comment_may_follow_and_a_program_may_stand_before),
        cmocka_unit_test(more_than_65535_members_take_little_memory_and_are_all_found),
        cmocka_unit_test(more_than_65535_members_are_found_without_zip64_too),
        cmocka_unit_test(a_member_may_be_beyond_and_larger_than_4_gib),
        cmocka_unit_test(a_name_is_utf8_or_code_page_437),
        cmocka_unit_test(an_absolute_name_is_refused),
        cmocka_unit_test(a_name_that_leads_out_is_refused),
        cmocka_unit_test(names_with_dots_elsewhere_are_good),
        cmocka_unit_test(an_empty_name_and_a_folder_are_refused),
        cmocka_unit_test(a_name_with_a_nul_is_refused),
        cmocka_unit_test(a_name_that_stands_twice_is_refused),
        cmocka_unit_test(a_file_that_is_no_archive_is_not_opened),
        cmocka_unit_test(a_folder_and_a_pipe_are_not_opened),
        cmocka_unit_test(an_archive_that_was_cut_anywhere_is_not_opened),
        cmocka_unit_test(bytes_cut_off_at_the_beginning_refuse_the_archive),
        cmocka_unit_test(an_end_record_inside_a_comment_refuses_the_archive),
        cmocka_unit_test(parts_of_an_archive_are_not_opened),
        cmocka_unit_test(end_records_that_do_not_agree_refuse_the_archive),
        cmocka_unit_test(a_lost_zip64_record_refuses_the_archive),
        cmocka_unit_test(a_zip64_record_of_another_length_refuses_the_archive),
        cmocka_unit_test(a_damaged_directory_refuses_the_archive),
        cmocka_unit_test(a_wrong_count_refuses_the_archive),
        cmocka_unit_test(bytes_after_the_last_header_refuse_the_archive),
        cmocka_unit_test(a_last_header_that_leaves_the_directory_refuses_the_archive),
        cmocka_unit_test(too_many_members_and_too_large_directories_are_not_opened),
        cmocka_unit_test(a_changed_or_other_file_is_stale),
    };
    return run_group(tests);
}
