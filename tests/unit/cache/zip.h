// SPDX-License-Identifier: BSD-3-Clause
// zip: makes archives for tests, good ones that can be damaged on purpose afterwards.
#pragma once
#include "tests/unit/base/harness.h"

#include <sys/mman.h>
#include <zlib.h>

#include "base/buffer.h"
#include "base/log.h"
#include "cache/archive.h"

#define ZIP_PLACES 8 // members whose places are remembered

struct zip_member {
    struct text name;
    struct text data;
    struct text packed; // instead of deflated `data`
    uint16_t method;
    uint16_t flags; // ARCHIVE_FLAG_DESCRIPTOR: sizes and CRC come after the data
    bool is_zip64;
};

struct zip {
    struct buffer bytes;
    struct buffer directory;
    uint32_t count;
    size_t local[ZIP_PLACES];
    size_t data[ZIP_PLACES];
    size_t central[ZIP_PLACES]; // in the file, once finished
    size_t end;
};

static inline void zip_release(struct zip *z)
{
    buffer_release(&z->bytes);
    buffer_release(&z->directory);
}
#define ZIP_CLEANUP cleanup(zip_release) struct zip

static inline void put(struct buffer *b, int width, uint64_t value)
{
    for (int i = 0; i < width; i++)
        buffer_append_byte(b, (char)(value >> 8 * i));
}

static inline void zip_patch(struct zip *z, size_t at, int width, uint64_t value)
{
    check(at + (size_t)width <= z->bytes.size_bytes);
    for (int i = 0; i < width; i++)
        z->bytes.data[at + (size_t)i] = (char)(value >> 8 * i);
}

static inline void zip_deflate(struct text data, struct buffer *to)
{
    z_stream s = {0};
    int r = deflateInit2(&s, 6, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY);
    check(r == Z_OK);
    size_t room = deflateBound(&s, data.size_bytes);
    buffer_reserve(to, room);
    s.next_in = (Bytef *)(uintptr_t)data.data;
    s.avail_in = (uInt)data.size_bytes;
    s.next_out = (Bytef *)to->data + to->size_bytes;
    s.avail_out = (uInt)room;
    r = deflate(&s, Z_FINISH);
    check(r == Z_STREAM_END);
    to->size_bytes += room - s.avail_out;
    deflateEnd(&s);
}

static inline void put_sizes(struct buffer *b, const struct zip_member *m, uint64_t packed)
{
    put(b, 4, m->is_zip64 ? UINT32_MAX : packed);
    put(b, 4, m->is_zip64 ? UINT32_MAX : m->data.size_bytes);
}

static inline void put_local(struct zip *z, const struct zip_member *m, uint32_t crc,
                             uint64_t packed)
{
    bool is_after = m->flags & 0x8;
    put(&z->bytes, 4, 0x04034b50);
    put(&z->bytes, 2, m->is_zip64 ? 45 : 20);
    put(&z->bytes, 2, m->flags);
    put(&z->bytes, 2, m->method);
    put(&z->bytes, 4, 0);
    put(&z->bytes, 4, is_after ? 0 : crc);
    if (is_after)
        put(&z->bytes, 8, m->is_zip64 ? UINT64_MAX : 0);
    else
        put_sizes(&z->bytes, m, packed);
    put(&z->bytes, 2, m->name.size_bytes);
    put(&z->bytes, 2, m->is_zip64 ? 20 : 0);
    buffer_append_text(&z->bytes, m->name);
    if (m->is_zip64) {
        put(&z->bytes, 2, 1);
        put(&z->bytes, 2, 16);
        put(&z->bytes, 8, is_after ? 0 : m->data.size_bytes);
        put(&z->bytes, 8, is_after ? 0 : packed);
    }
}

static inline void put_central(struct zip *z, const struct zip_member *m, uint32_t crc,
                               uint64_t packed, uint64_t local)
{
    put(&z->directory, 4, 0x02014b50);
    put(&z->directory, 2, 20);
    put(&z->directory, 2, m->is_zip64 ? 45 : 20);
    put(&z->directory, 2, m->flags);
    put(&z->directory, 2, m->method);
    put(&z->directory, 4, 0);
    put(&z->directory, 4, crc);
    put_sizes(&z->directory, m, packed);
    put(&z->directory, 2, m->name.size_bytes);
    put(&z->directory, 2, m->is_zip64 ? 32 : 0);
    put(&z->directory, 2, 0);
    put(&z->directory, 2, 0);
    put(&z->directory, 2, 0);
    put(&z->directory, 4, 0);
    put(&z->directory, 4, m->is_zip64 ? UINT32_MAX : local);
    buffer_append_text(&z->directory, m->name);
    if (m->is_zip64) {
        put(&z->directory, 4, 0xcafe); // another field before it
        put(&z->directory, 2, 1);
        put(&z->directory, 2, 24);
        put(&z->directory, 8, m->data.size_bytes);
        put(&z->directory, 8, packed);
        put(&z->directory, 8, local);
    }
}

static inline void zip_add(struct zip *z, const struct zip_member *m)
{
    BUFFER_CLEANUP deflated = {0};
    struct text packed = m->method == 0 ? m->data : m->packed;
    uint32_t crc = (uint32_t)crc32_z(0, (const Bytef *)m->data.data, m->data.size_bytes);
    if (m->data.size_bytes == 0)
        crc = 0;
    if (m->method == 8 && !packed.data) {
        zip_deflate(m->data, &deflated);
        packed = buffer_text(&deflated);
    }
    size_t local = z->bytes.size_bytes, central = z->directory.size_bytes;
    put_local(z, m, crc, packed.size_bytes);
    if (z->count < ZIP_PLACES) {
        z->local[z->count] = local;
        z->data[z->count] = z->bytes.size_bytes;
        z->central[z->count] = central;
    }
    buffer_append_text(&z->bytes, packed);
    if (m->flags & 0x8) {
        put(&z->bytes, 4, 0x08074b50);
        put(&z->bytes, 4, crc);
        put(&z->bytes, m->is_zip64 ? 8 : 4, packed.size_bytes);
        put(&z->bytes, m->is_zip64 ? 8 : 4, m->data.size_bytes);
    }
    put_central(z, m, crc, packed.size_bytes, local);
    z->count++;
}

static inline void zip_store(struct zip *z, const char *name, struct text data)
{
    zip_add(z, &(struct zip_member){.name = text_of(name), .data = data});
}

static inline void put_end64(struct zip *z, uint64_t directory)
{
    uint64_t at = z->bytes.size_bytes;
    put(&z->bytes, 4, 0x06064b50);
    put(&z->bytes, 8, 44);
    put(&z->bytes, 2, 45);
    put(&z->bytes, 2, 45);
    put(&z->bytes, 4, 0);
    put(&z->bytes, 4, 0);
    put(&z->bytes, 8, z->count);
    put(&z->bytes, 8, z->count);
    put(&z->bytes, 8, z->directory.size_bytes);
    put(&z->bytes, 8, directory);
    put(&z->bytes, 4, 0x07064b50);
    put(&z->bytes, 4, 0);
    put(&z->bytes, 8, at);
    put(&z->bytes, 4, 1);
}

// Writes directory and end records; `before` bytes are taken to stand before the archive.
static inline void zip_finish(struct zip *z, bool is_zip64, const char *comment, size_t before)
{
    size_t directory = z->bytes.size_bytes - before;
    for (uint32_t i = 0; i < z->count && i < ZIP_PLACES; i++)
        z->central[i] += z->bytes.size_bytes;
    buffer_append_text(&z->bytes, buffer_text(&z->directory));
    if (is_zip64)
        put_end64(z, directory);
    z->end = z->bytes.size_bytes;
    put(&z->bytes, 4, 0x06054b50);
    put(&z->bytes, 4, 0);
    put(&z->bytes, 2, is_zip64 ? UINT16_MAX : z->count);
    put(&z->bytes, 2, is_zip64 ? UINT16_MAX : z->count);
    put(&z->bytes, 4, is_zip64 ? UINT32_MAX : z->directory.size_bytes);
    put(&z->bytes, 4, is_zip64 ? UINT32_MAX : directory);
    put(&z->bytes, 2, strlen(comment));
    buffer_append_string(&z->bytes, comment);
}

static inline int file_of(struct text bytes)
{
    int fd = memfd_create("archive", MFD_CLOEXEC);
    check(fd >= 0);
    for (size_t done = 0; done < bytes.size_bytes;) {
        ssize_t n = write(fd, bytes.data + done, bytes.size_bytes - done);
        check(n > 0);
        done += (size_t)n;
    }
    return fd;
}

static inline int zip_file(const struct zip *z)
{
    return file_of(buffer_text(&z->bytes));
}

// The same bytes for the same seed: runs of one byte, words, and what can't be compressed.
static inline void some_data(struct buffer *to, size_t size_bytes, uint64_t seed)
{
    uint64_t state = seed * 0x9e3779b97f4a7c15 + 1;
    while (to->size_bytes < size_bytes) {
        state = state * 6364136223846793005 + 1442695040888963407;
        unsigned pick = state >> 60, run = 16 + (state >> 40 & 0xff);
        for (unsigned i = 0; i < run; i++) {
            state = state * 6364136223846793005 + 1442695040888963407;
            char c = (char)(state >> 56);
            buffer_append_byte(to, pick < 6 ? (char)pick : pick < 13 ? "spectrum"[i & 7] : c);
        }
    }
    buffer_truncate(to, size_bytes);
}

#define HELLO TEXT("hello, hello, hello, hello, hello, hello")

static inline void assert_why(const char *why, const char *part)
{
    if (!why || !strstr(why, part))
        fail_msg("\"%s\" does not say \"%s\"", why ? why : "nothing", part);
}

static inline struct archive *opened(int fd)
{
    struct archive *a = NULL;
    const char *why = NULL;
    if (archive_open(fd, &a, &why) < 0)
        fail_msg("not opened: %s", why);
    return a;
}

static inline struct archive_member found(const struct archive *a, int fd, struct text name)
{
    struct archive_member m = {0};
    const char *why = NULL;
    int r = archive_find(a, fd, name, &m, &why);
    if (r < 0)
        fail_msg("%.*s: %s (%d)", (int)name.size_bytes, name.data, why, r);
    return m;
}

// A good archive of three members, of which the one in the middle is then damaged.
static inline void make_three(struct zip *z, uint16_t method)
{
    zip_store(z, "before", HELLO);
    zip_add(z, &(struct zip_member){.name = TEXT("victim"), .data = HELLO, .method = method});
    zip_store(z, "after", HELLO);
    zip_finish(z, false, "", 0);
}
