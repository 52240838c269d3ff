// SPDX-License-Identifier: BSD-3-Clause
#include "tests/unit/cache/zip.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "cache/archive_format.h"
#include "cache/archive_reader.h"

#define FOR_EVER INT64_MAX
#define MIB ((size_t)1 << 20)

// One member "m" of an archive, open.
struct setting {
    struct buffer data;
    struct zip zip;
    int fd;
    struct archives *all;
    struct archive_member member;
    struct archive_reader *reader;
};

static void setting_open(struct setting *s, const struct archives_limits *limits)
{
    struct archive *a;
    const char *why;
    zip_finish(&s->zip, false, "", 0);
    s->fd = zip_file(&s->zip);
    s->all = archives_new(limits);
    assert_int_equal(archives_get(s->all, s->fd, FOR_EVER, &a, &why), 0);
    assert_int_equal(archive_find(a, s->fd, TEXT("m"), &s->member, &why), 0);
    archive_unref(a);
    s->reader = archive_reader_open(s->all, s->fd, &s->member);
}

static void setting_make(struct setting *s, size_t size_bytes, uint16_t method)
{
    some_data(&s->data, size_bytes, size_bytes);
    zip_store(&s->zip, "first", TEXT("something before it"));
    zip_add(&s->zip, &(struct zip_member){
                         .name = TEXT("m"), .data = buffer_text(&s->data), .method = method});
    setting_open(s, &ARCHIVES_LIMITS_STANDARD);
}

static void setting_release(struct setting *s)
{
    if (s->reader)
        archive_reader_close(s->reader);
    if (s->all)
        archives_free(s->all);
    cleanup_close(&s->fd);
    zip_release(&s->zip);
    buffer_release(&s->data);
}
#define SETTING_CLEANUP cleanup(setting_release) struct setting

static ssize_t read_some(struct archive_reader *r, void *to, size_t size_bytes, uint64_t offset)
{
    const char *why = NULL;
    ssize_t n = archive_reader_read(r, to, size_bytes, offset, FOR_EVER, &why);
    assert_true(n >= 0 || why);
    return n;
}

static void assert_read(struct archive_reader *r, struct text data, size_t size_bytes,
                        size_t offset)
{
    cleanup(cleanup_free) char *to = memory_new(size_bytes + 1);
    size_t there = offset < data.size_bytes ? data.size_bytes - offset : 0;
    if (there > size_bytes)
        there = size_bytes;
    assert_int_equal(read_some(r, to, size_bytes, offset), there);
    if (there > 0 && memcmp(to, data.data + offset, there) != 0)
        fail_msg("%zu bytes from %zu are wrong", size_bytes, offset);
}

static void assert_broken(struct archive_reader *r, size_t size_bytes, uint64_t offset,
                          const char *part)
{
    cleanup(cleanup_free) char *to = memory_new(size_bytes + 1);
    const char *why = "nothing";
    assert_int_equal(archive_reader_read(r, to, size_bytes, offset, FOR_EVER, &why), -EBADMSG);
    if (!strstr(why, part))
        fail_msg("\"%s\" does not say \"%s\"", why, part);
}

static void overwrite(int fd, size_t size_bytes, uint64_t at)
{
    BUFFER_CLEANUP junk = {0};
    some_data(&junk, size_bytes, 99);
    assert_int_equal(pwrite(fd, junk.data, size_bytes, (off_t)at), size_bytes);
}

// ---- good members

static void reading_from_beginning_to_end_gives_the_data(void **state)
{
    static const size_t sizes[] = {1, 100, 65536, 3 * MIB + 17};
    for (size_t i = 0; i < 8; i++) {
        SETTING_CLEANUP s = {0};
        setting_make(&s, sizes[i / 2], i % 2 ? 8 : 0);
        for (size_t at = 0; at < s.data.size_bytes + 1; at += 100000)
            assert_read(s.reader, buffer_text(&s.data), 100000, at);
    }
}

static void reading_anywhere_gives_the_data(void **state)
{
    unsigned seed = 3;
    for (int method = 0; method <= 8; method += 8) {
        SETTING_CLEANUP s = {0};
        setting_make(&s, 7 * MIB + 4711, (uint16_t)method);
        for (int i = 0; i < 150; i++) {
            size_t offset = (size_t)rand_r(&seed) % (s.data.size_bytes + 10);
            size_t size = (size_t)rand_r(&seed) % (i % 10 ? 5000 : 3 * MIB);
            assert_read(s.reader, buffer_text(&s.data), size, offset);
        }
    }
}

static void there_is_nothing_at_and_after_the_end(void **state)
{
    for (int method = 0; method <= 8; method += 8) {
        SETTING_CLEANUP s = {0};
        setting_make(&s, 5000, (uint16_t)method);
        assert_read(s.reader, buffer_text(&s.data), 10, 5000);
        assert_read(s.reader, buffer_text(&s.data), 10, UINT64_MAX);
        assert_read(s.reader, buffer_text(&s.data), 0, 0);
        assert_read(s.reader, buffer_text(&s.data), 10, 4995);
    }
}

static void an_empty_member_gives_nothing(void **state)
{
    for (int method = 0; method <= 8; method += 8) {
        SETTING_CLEANUP s = {0};
        setting_make(&s, 0, (uint16_t)method);
        assert_read(s.reader, TEXT(""), 100, 0);
    }
}

// Shown by taking the archive's bytes away meanwhile.
static void reading_a_little_back_reads_no_more_of_the_archive(void **state)
{
    SETTING_CLEANUP s = {0};
    setting_make(&s, 4 * MIB, 8);
    assert_read(s.reader, buffer_text(&s.data), MIB, 2 * MIB);
    assert_int_equal(ftruncate(s.fd, 0), 0);
    assert_read(s.reader, buffer_text(&s.data), 100000, 2 * MIB + 7);
    assert_broken(s.reader, 1, 100, "ends too early");
}

static void a_jump_back_goes_on_from_a_mark(void **state)
{
    SETTING_CLEANUP s = {0};
    setting_make(&s, 8 * MIB, 8);
    assert_read(s.reader, buffer_text(&s.data), 1, 6 * MIB);
    overwrite(s.fd, 1000, s.member.data_offset);
    assert_read(s.reader, buffer_text(&s.data), 100, 3 * MIB + 5);
    assert_read(s.reader, buffer_text(&s.data), 2 * MIB, 6 * MIB); // through the checked end
    assert_broken(s.reader, 1, 0, "damaged");
}

static void a_jump_ahead_goes_on_from_a_mark(void **state)
{
    SETTING_CLEANUP s = {0};
    setting_make(&s, 8 * MIB, 8);
    assert_read(s.reader, buffer_text(&s.data), 1, 7 * MIB);
    assert_read(s.reader, buffer_text(&s.data), 1, 0);
    overwrite(s.fd, 100000, s.member.data_offset + s.member.packed_bytes / 2);
    assert_read(s.reader, buffer_text(&s.data), 100, 7 * MIB + 5);
}

static void a_jump_that_takes_too_long_is_told_and_goes_on_when_asked_again(void **state)
{
    SETTING_CLEANUP s = {0};
    char byte;
    const char *why = NULL;
    setting_make(&s, 16 * MIB, 8);
    assert_int_equal(archive_reader_read(s.reader, &byte, 1, 15 * MIB, 0, &why), -ETIMEDOUT);
    assert_non_null(why);
    int tries = 0;
    ssize_t n;
    do {
        int64_t deadline = clock_ns() + NS_PER_MS / 2;
        n = archive_reader_read(s.reader, &byte, 1, 15 * MIB, deadline, &why);
        tries++;
    } while (n == -ETIMEDOUT && tries < 100000);
    assert_int_equal(n, 1);
    assert_int_equal(byte, s.data.data[15 * MIB]);
}

// ---- members that lie

static void patch_sizes(struct setting *s, size_t local, size_t central, uint64_t value)
{
    zip_patch(&s->zip, s->zip.local[0] + local, 4, value);
    memcpy(s->zip.directory.data + central, &value, 4);
}

static void a_wrong_checksum_is_told_before_the_last_bytes(void **state)
{
    for (int method = 0; method <= 8; method += 8) {
        SETTING_CLEANUP s = {0};
        some_data(&s.data, 4 * MIB, 5);
        struct zip_member m = {.name = TEXT("m"), .data = buffer_text(&s.data)};
        m.method = (uint16_t)method;
        zip_add(&s.zip, &m);
        patch_sizes(&s, 14, 16, 0x12345678);
        setting_open(&s, &ARCHIVES_LIMITS_STANDARD);
        assert_read(s.reader, buffer_text(&s.data), 2 * MIB, 0);
        assert_read(s.reader, buffer_text(&s.data), MIB, 2 * MIB);
        assert_broken(s.reader, 2 * MIB, 3 * MIB, "checksum");
        assert_broken(s.reader, 1, 0, "checksum");
    }
}

static void a_damaged_stored_member_is_noticed_in_any_order_of_reading(void **state)
{
    static const size_t order[] = {3, 1, 0, 7, 5, 6, 2, 4};
    SETTING_CLEANUP s = {0};
    setting_make(&s, 8000, 0);
    overwrite(s.fd, 1, s.member.data_offset + 4321);
    char to[1000];
    for (size_t i = 0; i < 7; i++) {
        assert_int_equal(read_some(s.reader, to, 1000, order[i] * 1000), 1000);
        assert_int_equal(read_some(s.reader, to, 900, order[i] * 1000 + 50), 900); // again: no harm
    }
    assert_broken(s.reader, 1000, 4000, "checksum");
}

static void a_read_that_overlaps_with_earlier_ones_loses_nothing(void **state)
{
    static const struct {
        size_t from, until;
    } reads[] = {{0, 1000}, {1500, 2500}, {1000, 2000}, {1000, 1500}, {2500, 7999}};
    SETTING_CLEANUP s = {0};
    char to[8000];
    setting_make(&s, 8000, 0);
    overwrite(s.fd, 1, s.member.data_offset + 4321);
    for (size_t i = 0; i < 5; i++) {
        size_t size = reads[i].until - reads[i].from;
        assert_int_equal(read_some(s.reader, to, size, reads[i].from), size);
    }
    assert_broken(s.reader, 1, 7999, "checksum");
}

static void a_good_stored_member_is_good_in_any_order_of_reading(void **state)
{
    unsigned seed = 11;
    for (int round = 0; round < 50; round++) {
        SETTING_CLEANUP s = {0};
        setting_make(&s, 40 * 256 + 77, 0);
        for (int i = 0; i < 200; i++)
            assert_read(s.reader, buffer_text(&s.data), 256, (size_t)rand_r(&seed) % 41 * 256);
        for (size_t i = 0; i < 41; i++)
            assert_read(s.reader, buffer_text(&s.data), 256, i * 256);
    }
}

// Data that deflate leaves as it is: a changed byte is only seen by the CRC.
static void the_checksum_is_compared_each_time_the_end_is_reached(void **state)
{
    SETTING_CLEANUP s = {0};
    uint64_t state_of = 1;
    for (size_t i = 0; i < 3 * MIB; i++) {
        state_of = state_of * 6364136223846793005 + 1442695040888963407;
        buffer_append_byte(&s.data, (char)(state_of >> 56));
    }
    struct zip_member m = {.name = TEXT("m"), .data = buffer_text(&s.data), .method = 8};
    zip_add(&s.zip, &m);
    setting_open(&s, &ARCHIVES_LIMITS_STANDARD);
    assert_true(s.member.packed_bytes > 3 * MIB);
    assert_read(s.reader, buffer_text(&s.data), 10, 3 * MIB - 10);
    assert_read(s.reader, buffer_text(&s.data), 10, 0);
    char byte = (char)~s.data.data[2 * MIB + MIB / 2];
    assert_int_equal(pwrite(s.fd, &byte, 1, (off_t)(s.member.data_offset + 2 * MIB + MIB / 2)), 1);
    assert_broken(s.reader, 10, 3 * MIB - 10, "checksum");
}

static void make_lying(struct setting *s, int64_t size_change, int64_t packed_change)
{
    BUFFER_CLEANUP packed = {0};
    some_data(&s->data, 100000, 6);
    zip_deflate(buffer_text(&s->data), &packed);
    size_t right = packed.size_bytes;
    if (packed_change > 0)
        some_data(&packed, right + (size_t)packed_change, 8);
    else
        buffer_truncate(&packed, right - (size_t)-packed_change);
    zip_add(&s->zip, &(struct zip_member){.name = TEXT("m"),
                                          .data = buffer_text(&s->data),
                                          .packed = buffer_text(&packed),
                                          .method = 8});
    patch_sizes(s, 22, 24, 100000 + (uint64_t)size_change);
    setting_open(s, &ARCHIVES_LIMITS_STANDARD);
}

static void data_that_is_longer_than_said_is_refused(void **state)
{
    SETTING_CLEANUP s = {0};
    make_lying(&s, -1, 0);
    assert_broken(s.reader, 10, 0, "longer");
}

static void data_that_is_shorter_than_said_is_refused(void **state)
{
    SETTING_CLEANUP s = {0};
    make_lying(&s, 1, 0);
    assert_broken(s.reader, 10, 0, "shorter");
}

static void compressed_data_that_ends_early_is_refused(void **state)
{
    SETTING_CLEANUP s = {0};
    make_lying(&s, 0, -1);
    assert_broken(s.reader, 10, 99000, "ends too early");
}

static void compressed_data_with_more_behind_it_is_refused(void **state)
{
    SETTING_CLEANUP s = {0};
    make_lying(&s, 0, 10);
    assert_broken(s.reader, 10, 0, "shorter than the directory says");
}

static void compressed_data_that_is_damaged_is_refused(void **state)
{
    unsigned seed = 5;
    for (int i = 0; i < 200; i++) {
        SETTING_CLEANUP s = {0};
        char to[100000];
        setting_make(&s, 100000, 8);
        overwrite(s.fd, 3,
                  s.member.data_offset + (size_t)rand_r(&seed) % (s.member.packed_bytes - 3));
        assert_int_equal(read_some(s.reader, to, 100000, 0), -EBADMSG);
    }
}

static void an_archive_that_shrinks_while_it_is_read_is_noticed(void **state)
{
    for (int method = 0; method <= 8; method += 8) {
        SETTING_CLEANUP s = {0};
        setting_make(&s, 3 * MIB, (uint16_t)method);
        assert_int_equal(ftruncate(s.fd, (off_t)(s.member.data_offset + 1000)), 0);
        assert_broken(s.reader, 3 * MIB, 0, "ends too early");
    }
}

// ---- many at once

struct thread_work {
    struct setting *s;
    unsigned seed;
    bool is_good;
};

static void *read_at_random(void *argument)
{
    struct thread_work *w = argument;
    cleanup(cleanup_free) char *to = memory_new(200000);
    w->is_good = true;
    for (int i = 0; i < 60; i++) {
        size_t offset = (size_t)rand_r(&w->seed) % w->s->data.size_bytes;
        size_t size = (size_t)rand_r(&w->seed) % 200000;
        const char *why;
        ssize_t n = archive_reader_read(w->s->reader, to, size, offset, FOR_EVER, &why);
        if (n < 0 || memcmp(to, w->s->data.data + offset, (size_t)n) != 0)
            w->is_good = false;
    }
    return NULL;
}

static void threads_may_read_one_member(void **state)
{
    for (int method = 0; method <= 8; method += 8) {
        SETTING_CLEANUP s = {0};
        struct thread_work work[4];
        pthread_t threads[4];
        setting_make(&s, 3 * MIB, (uint16_t)method);
        for (unsigned i = 0; i < 4; i++) {
            work[i] = (struct thread_work){&s, i, false};
            assert_int_equal(pthread_create(&threads[i], NULL, read_at_random, &work[i]), 0);
        }
        for (int i = 0; i < 4; i++) {
            pthread_join(threads[i], NULL);
            assert_true(work[i].is_good);
        }
    }
}

static void what_open_members_keep_is_bounded_and_may_be_dropped(void **state)
{
    enum { READERS = 12 };
    SETTING_CLEANUP s = {0};
    struct archives_limits limits = ARCHIVES_LIMITS_STANDARD;
    struct archive_reader *readers[READERS];
    limits.stream_bytes = 3 * MIB;
    some_data(&s.data, 2 * MIB, 12);
    zip_add(&s.zip,
            &(struct zip_member){.name = TEXT("m"), .data = buffer_text(&s.data), .method = 8});
    setting_open(&s, &limits);
    for (int i = 0; i < READERS; i++)
        readers[i] = archive_reader_open(s.all, s.fd, &s.member);
    assert_int_equal(archive_pool_used_bytes(archives_pool(s.all)), 0);
    for (size_t at = 0; at < 2 * MIB; at += MIB / 4)
        for (int i = 0; i < READERS; i++) {
            assert_read(readers[i], buffer_text(&s.data), MIB / 4, at);
            assert_in_range(archive_pool_used_bytes(archives_pool(s.all)), MIB,
                            limits.stream_bytes);
        }
    for (int i = 0; i < READERS; i++)
        archive_reader_close(readers[i]);
    assert_int_equal(archive_pool_used_bytes(archives_pool(s.all)), 0);
}

static void *read_in_turn(void *argument)
{
    struct thread_work *w = argument;
    struct archive_reader *r = archive_reader_open(w->s->all, w->s->fd, &w->s->member);
    cleanup(cleanup_free) char *to = memory_new(50000);
    w->is_good = true;
    for (size_t at = 0; at < w->s->data.size_bytes; at += 50000) {
        const char *why;
        ssize_t n = archive_reader_read(r, to, 50000, at, FOR_EVER, &why);
        if (n <= 0 || memcmp(to, w->s->data.data + at, (size_t)n) != 0)
            w->is_good = false;
    }
    archive_reader_close(r);
    return NULL;
}

static void streams_are_dropped_while_others_are_read(void **state)
{
    SETTING_CLEANUP s = {0};
    struct archives_limits limits = ARCHIVES_LIMITS_STANDARD;
    struct thread_work work[4];
    pthread_t threads[4];
    limits.stream_bytes = MIB;
    some_data(&s.data, 600000, 12);
    zip_add(&s.zip,
            &(struct zip_member){.name = TEXT("m"), .data = buffer_text(&s.data), .method = 8});
    setting_open(&s, &limits);
    for (unsigned i = 0; i < 4; i++) {
        work[i] = (struct thread_work){&s, i, false};
        assert_int_equal(pthread_create(&threads[i], NULL, read_in_turn, &work[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_true(work[i].is_good);
    }
}

// ---- what others write

static const char python_program[] =
    "import io, random, sys, zipfile\n"
    "folder = sys.argv[1]\n"
    "random.seed(4)\n"
    "class Pipe(io.RawIOBase):\n" // can't be sought: sizes go behind the data
    "    def __init__(self, path): self.file = open(path, 'wb')\n"
    "    def writable(self): return True\n"
    "    def write(self, data): return self.file.write(data)\n"
    "    def close(self): self.file.close()\n"
    "def content(n): return bytes(random.choice(b'abcd') for _ in range(n)) + random.randbytes(n)\n"
    "for stream in (0, 1):\n"
    "  for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):\n"
    "    for zip64 in (False, True):\n"
    "      name = f'{folder}/{stream}{method}{int(zip64)}'\n"
    "      out = Pipe(name + '.zip') if stream else open(name + '.zip', 'wb')\n"
    "      with zipfile.ZipFile(out, 'w', method) as z:\n"
    "        z.comment = b'a comment'\n"
    "        z.writestr('_butler_zip_index.json', '{}')\n"
    "        data = content(70000)\n"
    "        open(name + '.data', 'wb').write(data)\n"
    "        member = z.open('run/\\u00e9t\\u00e9 m.fits', 'w', force_zip64=zip64)\n"
    "        with member as m: m.write(data)\n"
    "        z.writestr('empty', '')\n"
    "      out.close()\n";

static void read_file(const char *folder, const char *name, const char *suffix, struct buffer *to)
{
    BUFFER_CLEANUP path = {0};
    buffer_format(&path, "%s/%.3s%s", folder, name, suffix);
    cleanup(cleanup_close) int fd = open(path.data, O_RDONLY | O_CLOEXEC);
    struct stat st;
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    buffer_reserve(to, (size_t)st.st_size);
    assert_int_equal(pread(fd, to->data, (size_t)st.st_size, 0), st.st_size);
    to->size_bytes = (size_t)st.st_size;
}

static void assert_python_archive(const char *folder, const char *name)
{
    SETTING_CLEANUP s = {0};
    struct archive_member empty;
    struct archive *a = NULL;
    const char *why;
    read_file(folder, name, ".zip", &s.zip.bytes);
    read_file(folder, name, ".data", &s.data);
    s.fd = zip_file(&s.zip);
    s.all = archives_new(&ARCHIVES_LIMITS_STANDARD);
    assert_int_equal(archives_get(s.all, s.fd, FOR_EVER, &a, &why), 0);
    struct text m = TEXT("run/\xc3\xa9t\xc3\xa9 m.fits");
    if (archive_find(a, s.fd, m, &s.member, &why) < 0)
        fail_msg("%s: %s", name, why);
    assert_int_equal(archive_find(a, s.fd, TEXT("empty"), &empty, &why), 0);
    archive_unref(a);
    s.reader = archive_reader_open(s.all, s.fd, &s.member);
    assert_read(s.reader, buffer_text(&s.data), 200000, 0);
}

static void what_python_writes_is_read(void **state)
{
    char folder[] = "/tmp/butlerfs-archive-XXXXXX";
    BUFFER_CLEANUP command = {0};
    int count = 0;
    if (system("python3 -c 'import random; random.randbytes' 2>/dev/null") != 0) {
        print_message("skipped: there is no python3 (3.9 or newer) here\n");
        skip();
    }
    assert_non_null(mkdtemp(folder));
    setenv("PROGRAM", python_program, 1);
    buffer_format(&command, "python3 -c \"$PROGRAM\" %s", folder);
    assert_int_equal(system(command.data), 0);
    DIR *d = opendir(folder);
    for (struct dirent *e; (e = readdir(d));)
        if (strstr(e->d_name, ".zip")) {
            assert_python_archive(folder, e->d_name);
            count++;
        }
    closedir(d);
    assert_int_equal(count, 8);
    buffer_clear(&command);
    buffer_format(&command, "rm -r %s", folder);
    assert_int_equal(system(command.data), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reading_from_beginning_to_end_gives_the_data),
        cmocka_unit_test(reading_anywhere_gives_the_data),
        cmocka_unit_test(there_is_nothing_at_and_after_the_end),
        cmocka_unit_test(an_empty_member_gives_nothing),
        cmocka_unit_test(reading_a_little_back_reads_no_more_of_the_archive),
        cmocka_unit_test(a_jump_back_goes_on_from_a_mark),
        cmocka_unit_test(a_jump_ahead_goes_on_from_a_mark),
        cmocka_unit_test(a_jump_that_takes_too_long_is_told_and_goes_on_when_asked_again),
        cmocka_unit_test(a_wrong_checksum_is_told_before_the_last_bytes),
        cmocka_unit_test(a_damaged_stored_member_is_noticed_in_any_order_of_reading),
        cmocka_unit_test(a_read_that_overlaps_with_earlier_ones_loses_nothing),
        cmocka_unit_test(a_good_stored_member_is_good_in_any_order_of_reading),
        cmocka_unit_test(the_checksum_is_compared_each_time_the_end_is_reached),
        cmocka_unit_test(data_that_is_longer_than_said_is_refused),
        cmocka_unit_test(data_that_is_shorter_than_said_is_refused),
        cmocka_unit_test(compressed_data_that_ends_early_is_refused),
        cmocka_unit_test(compressed_data_with_more_behind_it_is_refused),
        cmocka_unit_test(compressed_data_that_is_damaged_is_refused),
        cmocka_unit_test(an_archive_that_shrinks_while_it_is_read_is_noticed),
        cmocka_unit_test(threads_may_read_one_member),
        cmocka_unit_test(what_open_members_keep_is_bounded_and_may_be_dropped),
        cmocka_unit_test(streams_are_dropped_while_others_are_read),
        cmocka_unit_test(what_python_writes_is_read),
    };
    return run_group(tests);
}
