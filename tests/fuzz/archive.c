// SPDX-License-Identifier: BSD-3-Clause
// Any bytes as a zip archive, whose members are then looked for by every name in it and read; and,
// where the first byte is odd, the rest as the data of a deflated member, whose pieces, read in any
// order, must be what zlib makes of it in one go. Found when planted: an extra field that is longer
// than its header, a mark that remembers its place in the data wrongly, bytes behind the data that
// nobody minds.
#include <stdint.h>
#include <sys/mman.h>
#include <zlib.h>

#include "base/buffer.h"
#include "base/log.h"
#include "cache/archive.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define READ_BYTES_MAX ((size_t)3 << 20) // enough for marks in a stream

static int file_of(const uint8_t *data, size_t size)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    check(fd >= 0);
    ssize_t n = write(fd, data, size);
    check(n == (ssize_t)size);
    return fd;
}

// A member that was found lies in the file; what it gives is at most as long as it says, and twice
// the same.
static void read_member(struct archives *all, int fd, const struct archive_member *m, size_t size)
{
    check(m->data_offset <= size && m->packed_bytes <= size - m->data_offset);
    check(m->size_bytes <= m->packed_bytes * 1032 + 1032);
    cleanup(cleanup_archive_reader_close) struct archive_reader *r =
        archive_reader_open(all, fd, m);
    size_t room = m->size_bytes < READ_BYTES_MAX ? (size_t)m->size_bytes : READ_BYTES_MAX;
    cleanup(cleanup_free) char *first = memory_new(room + 1);
    cleanup(cleanup_free) char *second = memory_new(room + 1);
    const char *why = NULL;
    ssize_t n = archive_reader_read(r, first, room + 1, 0, INT64_MAX, &why);
    check(n >= 0 ? (uint64_t)n <= m->size_bytes : n == -EBADMSG && why);
    if (n <= 1)
        return;
    size_t from = (size_t)n / 2, rest = (size_t)n - from;
    ssize_t k = archive_reader_read(r, second, rest, from, INT64_MAX, &why);
    check(k == (ssize_t)rest || k == -EBADMSG);
    check(k < 0 || memcmp(first + from, second, rest) == 0);
}

static void fuzz_directory(struct archives *all, int fd, const uint8_t *data, size_t size)
{
    const char *why = NULL;
    struct archive *opened = NULL;
    int e = archives_get(all, fd, INT64_MAX, &opened, &why);
    check(e == 0 ? opened != NULL : (e == -EBADMSG || e == -EFBIG) && why);
    cleanup(cleanup_archive_unref) struct archive *a = opened;
    for (size_t at = 0; a && at + 46 <= size; at++) {
        if (memcmp(data + at, "PK\1\2", 4) != 0)
            continue;
        size_t name_bytes = data[at + 28] | (size_t)data[at + 29] << 8;
        if (name_bytes > size - at - 46)
            continue;
        struct text name = {(const char *)data + at + 46, name_bytes};
        struct archive_member m;
        e = archive_find(a, fd, name, &m, &why);
        check(e == 0 || e == -ENOENT || (e == -EBADMSG && why));
        if (e == 0)
            read_member(all, fd, &m, size);
    }
}

// What zlib makes of it: how many bytes, and whether it ends there with all of its input used.
static size_t inflate_all(const uint8_t *data, size_t size, char *to, size_t room,
                          bool *ret_is_whole)
{
    z_stream z = {0};
    int r = inflateInit2(&z, -15);
    check(r == Z_OK);
    z.next_in = (Bytef *)(uintptr_t)data;
    z.avail_in = (uInt)size;
    z.next_out = (Bytef *)to;
    z.avail_out = (uInt)room;
    r = inflate(&z, Z_FINISH);
    *ret_is_whole = r == Z_STREAM_END && z.avail_in == 0;
    inflateEnd(&z);
    return room - z.avail_out;
}

static void fuzz_data(struct archives *all, int fd, const uint8_t *data, size_t size)
{
    cleanup(cleanup_free) char *right = memory_new(READ_BYTES_MAX);
    cleanup(cleanup_free) char *to = memory_new(READ_BYTES_MAX);
    bool is_whole;
    size_t made = inflate_all(data + 4, size - 4, right, READ_BYTES_MAX, &is_whole);
    struct archive_member m = {
        .method = ARCHIVE_DEFLATED,
        .data_offset = 4,
        .packed_bytes = size - 4,
        .size_bytes = made,
        .crc32 = (uint32_t)crc32_z(0, (const Bytef *)right, made),
    };
    cleanup(cleanup_archive_reader_close) struct archive_reader *r =
        archive_reader_open(all, fd, &m);
    size_t at = data[1];
    for (int i = 0; i < 8 && made > 0; i++) {
        const char *why = NULL;
        at = (at * 251 + data[2]) % made;
        ssize_t n = archive_reader_read(r, to, (size_t)data[3] * 64 + 1, at, INT64_MAX, &why);
        check(n > 0 || (n == -EBADMSG && why && !is_whole));
        check(n < 0 || memcmp(to, right + at, (size_t)n) == 0);
    }
    const char *why = NULL;
    ssize_t n = archive_reader_read(r, to, READ_BYTES_MAX, 0, INT64_MAX, &why);
    check(made == 0 ? n == 0 : is_whole ? n == (ssize_t)made : n == -EBADMSG);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 4)
        return 0;
    const struct archives_limits limits = {
        .count = 2,
        .index_bytes = 1000,
        // Dropped after each read, or kept.
        .stream_bytes = data[1] % 4 == 0 ? 1000 : (size_t)64 << 20,
    };
    cleanup(cleanup_close) int fd = file_of(data, size);
    struct archives *all = archives_new(&limits);
    if (data[0] & 1)
        fuzz_data(all, fd, data, size);
    else
        fuzz_directory(all, fd, data, size);
    archives_free(all);
    return 0;
}
