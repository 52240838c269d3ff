// SPDX-License-Identifier: BSD-3-Clause
// archive_stream: inflates a member.
// 1. Between two steps the inflater stands at `out` of the member, has used `packed` bytes of its
//    data and `crc` is the CRC-32 of all `out` bytes before, however it came there.
// 2. The last HISTORY_BYTES of output are kept (`kept` of them are there): several readers of one
//    file, or the kernel's read-ahead by many threads, ask a little out of order.
// 3. A mark is a copy of the inflater (zlib's inflateCopy, about 40 KiB) at a multiple of `stride`,
//    made when the inflater comes by. There are at most MARKS_MAX.
// 4. Whoever stands at the end hands out nothing before it is checked: the data ends there, all of
//    it was used, and its CRC is right. As marks carry their CRC, so is every end reached.
// 5. A step makes at most STEP_BYTES; the deadline is looked at between steps.
#include "cache/archive_stream.h"

#include <zlib.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"
#include "cache/archive_index.h"

#define HISTORY_BYTES ((size_t)1 << 20)
#define INPUT_BYTES ((size_t)64 << 10)
#define STEP_BYTES ((size_t)128 << 10)
#define STRIDE_MIN ((uint64_t)1 << 20)
#define MARKS_MAX 64

struct mark {
    z_stream z;
    bool is_set;
    uint64_t packed;
    uint32_t crc;
};

struct archive_stream {
    int fd;
    struct archive_member member;
    z_stream z; // between calls of inflate only counts and state are its own
    bool has_z;
    uint64_t out;
    uint64_t packed;
    uint32_t crc;
    bool is_checked; // stands at the end, which is as it must be
    char *input;     // what was read of the data and not yet used: from input_at
    size_t input_room;
    size_t input_at;
    size_t input_end;
    char *history; // byte n of the member is at n % history_room
    size_t history_room;
    size_t kept;
    uint64_t stride;
    struct mark marks[MARKS_MAX]; // [i] at (i + 1) * stride
    size_t memory_bytes;          // what zlib has and what is here
};

static int refuse(const char *why, const char **ret_why)
{
    *ret_why = why;
    return -EBADMSG;
}

// zlib doesn't say how much it gives back: each block knows.
#define BLOCK_HEAD_BYTES 16

static void *block_new(void *opaque, unsigned count, unsigned each_bytes)
{
    struct archive_stream *s = opaque;
    size_t size = (size_t)count * each_bytes + BLOCK_HEAD_BYTES;
    char *block = memory_new(size);
    memcpy(block, &size, sizeof(size));
    s->memory_bytes += size;
    return block + BLOCK_HEAD_BYTES;
}

static void block_free(void *opaque, void *data)
{
    struct archive_stream *s = opaque;
    char *block = (char *)data - BLOCK_HEAD_BYTES;
    size_t size;
    memcpy(&size, block, sizeof(size));
    s->memory_bytes -= size;
    free(block);
}

struct archive_stream *archive_stream_new(int fd, const struct archive_member *member)
{
    struct archive_stream *s = new_struct(struct archive_stream);
    s->fd = fd;
    s->member = *member;
    s->history_room =
        member->size_bytes < HISTORY_BYTES ? (size_t)member->size_bytes : HISTORY_BYTES;
    s->input_room = member->packed_bytes < INPUT_BYTES ? (size_t)member->packed_bytes : INPUT_BYTES;
    s->history = memory_new(s->history_room + 1);
    s->input = memory_new(s->input_room + 1);
    s->stride = member->size_bytes / MARKS_MAX + 1;
    if (s->stride < STRIDE_MIN)
        s->stride = STRIDE_MIN;
    s->memory_bytes = sizeof(*s) + s->history_room + s->input_room;
    return s;
}

void archive_stream_free(struct archive_stream *s)
{
    if (s->has_z)
        inflateEnd(&s->z);
    for (size_t i = 0; i < MARKS_MAX; i++)
        if (s->marks[i].is_set)
            inflateEnd(&s->marks[i].z);
    free(s->input);
    free(s->history);
    free(s);
}

size_t archive_stream_memory_bytes(const struct archive_stream *s)
{
    return s->memory_bytes;
}

// ---- where to go on from

static uint64_t mark_offset(const struct archive_stream *s, size_t i)
{
    return (i + 1) * s->stride;
}

// The number of marks' places at or before `offset`.
static size_t marks_before(const struct archive_stream *s, uint64_t offset)
{
    uint64_t n = offset / s->stride;
    return n < MARKS_MAX ? (size_t)n : MARKS_MAX;
}

static void set_mark(struct archive_stream *s)
{
    size_t n = marks_before(s, s->out);
    if (n == 0 || s->marks[n - 1].is_set || mark_offset(s, n - 1) != s->out)
        return;
    struct mark *m = &s->marks[n - 1];
    int r = inflateCopy(&m->z, &s->z);
    check(r == Z_OK);
    m->packed = s->packed;
    m->crc = s->crc;
    m->is_set = true;
}

// Puts the inflater at a mark, or (NULL) at the beginning.
static void move_to(struct archive_stream *s, struct mark *m, uint64_t offset)
{
    if (s->has_z)
        inflateEnd(&s->z);
    int r;
    if (m) {
        r = inflateCopy(&s->z, &m->z);
    } else {
        s->z = (z_stream){.zalloc = block_new, .zfree = block_free, .opaque = s};
        r = inflateInit2(&s->z, -MAX_WBITS);
    }
    check(r == Z_OK);
    s->has_z = true;
    s->is_checked = false;
    s->out = offset;
    s->packed = m ? m->packed : 0;
    s->crc = m ? m->crc : 0;
    s->kept = s->input_at = s->input_end = 0;
}

// Where reading from `offset` on costs least: here, if it is kept or ahead with no mark between.
static void approach(struct archive_stream *s, uint64_t offset)
{
    bool is_behind = !s->has_z || offset < s->out - s->kept;
    for (size_t n = marks_before(s, offset); n > 0; n--) {
        uint64_t at = mark_offset(s, n - 1);
        if (!is_behind && at <= s->out)
            return;
        if (s->marks[n - 1].is_set) {
            move_to(s, &s->marks[n - 1], at);
            return;
        }
    }
    if (is_behind)
        move_to(s, NULL, 0);
}

// ---- going on

static int fill_input(struct archive_stream *s, const char **ret_why)
{
    uint64_t left = s->member.packed_bytes - s->packed;
    if (s->input_at < s->input_end || left == 0)
        return 0;
    size_t size = left < s->input_room ? (size_t)left : s->input_room;
    int r = archive_read_at(s->fd, s->input, size, s->member.data_offset + s->packed, ret_why);
    if (r < 0)
        return r;
    s->input_at = 0;
    s->input_end = size;
    return 0;
}

// Inflates at most `room` bytes to `to`, from one filling of the input. Z_OK, Z_STREAM_END, or
// -errno.
static int inflate_some(struct archive_stream *s, char *to, size_t room, size_t *ret_made,
                        const char **ret_why)
{
    int r = fill_input(s, ret_why);
    if (r < 0)
        return r;
    size_t given = s->input_end - s->input_at;
    s->z.next_in = (Bytef *)s->input + s->input_at;
    s->z.avail_in = (uInt)given;
    s->z.next_out = (Bytef *)to;
    s->z.avail_out = (uInt)room;
    r = inflate(&s->z, Z_NO_FLUSH);
    check(r != Z_STREAM_ERROR && r != Z_MEM_ERROR);
    size_t used = given - s->z.avail_in, made = room - s->z.avail_out;
    s->input_at += used;
    s->packed += used;
    *ret_made = made;
    if (r == Z_STREAM_END)
        return Z_STREAM_END;
    if (r != Z_OK && r != Z_BUF_ERROR)
        return refuse("its compressed data is damaged", ret_why);
    if (used == 0 && made == 0)
        return refuse("its compressed data ends too early", ret_why);
    return Z_OK;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

// One step: to the end of what is free in the history at one go, the next mark or the end.
static int step(struct archive_stream *s, const char **ret_why)
{
    size_t at = (size_t)(s->out % s->history_room), made;
    uint64_t room = least(s->history_room - at, STEP_BYTES);
    room = least(room, s->stride - s->out % s->stride);
    room = least(room, s->member.size_bytes - s->out);
    int r = inflate_some(s, s->history + at, (size_t)room, &made, ret_why);
    if (r < 0)
        return r;
    s->crc = (uint32_t)crc32_z(s->crc, (const Bytef *)s->history + at, made);
    s->out += made;
    s->kept = (size_t)least(s->kept + made, s->history_room);
    if (r == Z_STREAM_END && s->out < s->member.size_bytes)
        return refuse("it is shorter than the directory says", ret_why);
    if (s->out < s->member.size_bytes)
        set_mark(s);
    return 0;
}

// One step beyond the last byte, until the data's own end.
static int step_end(struct archive_stream *s, const char **ret_why)
{
    char surplus;
    size_t made;
    int r = inflate_some(s, &surplus, 1, &made, ret_why);
    if (r < 0)
        return r;
    if (made > 0)
        return refuse("it is longer than the directory says", ret_why);
    if (r != Z_STREAM_END)
        return 0;
    if (s->packed != s->member.packed_bytes)
        return refuse("its compressed data is shorter than the directory says", ret_why);
    if (s->crc != s->member.crc32)
        return refuse("its checksum is not what the directory says", ret_why);
    s->is_checked = true;
    return 0;
}

// What is kept from `offset` on, at most `size_bytes`. How many bytes there were.
static size_t copy_kept(const struct archive_stream *s, char *to, size_t size_bytes,
                        uint64_t offset)
{
    size_t done = 0, all = (size_t)least(size_bytes, s->out > offset ? s->out - offset : 0);
    while (done < all) {
        size_t at = (size_t)((offset + done) % s->history_room);
        size_t n = (size_t)least(all - done, s->history_room - at);
        memcpy(to + done, s->history + at, n);
        done += n;
    }
    return all;
}

int archive_stream_read(struct archive_stream *s, void *to, size_t size_bytes, uint64_t offset,
                        int64_t deadline_ns, const char **ret_why)
{
    check(size_bytes > 0 && offset < s->member.size_bytes &&
          size_bytes <= s->member.size_bytes - offset);
    approach(s, offset);
    for (size_t done = 0;;) {
        bool is_at_end = s->out == s->member.size_bytes;
        if (!is_at_end || s->is_checked)
            done += copy_kept(s, (char *)to + done, size_bytes - done, offset + done);
        if (done == size_bytes)
            return 0;
        if (deadline_ns != INT64_MAX && clock_ns() >= deadline_ns) {
            *ret_why = "inflating what lies before takes too long";
            return -ETIMEDOUT;
        }
        int r = is_at_end ? step_end(s, ret_why) : step(s, ret_why);
        if (r < 0)
            return r;
    }
}
