// SPDX-License-Identifier: BSD-3-Clause
// catalogue_block: the bytes of a block.
// 1. Keys in a block rise strictly: block_add insists on it, block_next refuses a block without it,
//    so that a reader can't be led in circles.
// 2. A row at a restart depends on no row before it.
// 3. All lengths are checked against what is left before they are used; the checksum finds what
//    rots, the checks what is forged or of another program.
#include "meta/catalogue_block.h"

#include "base/hash.h"
#include "base/log.h"

#define BLOCK_MAGIC 0x6272
#define BLOCK_VERSION 2
#define RESTART_INTERVAL 16
#define RESTARTS_MAX 256

enum {
    FLAG_HIDDEN = 1,
    FLAG_SAME_SUFFIX = 2,
    FLAG_EXTRA = 4,
    FLAG_DOUBLE = 8,
    FLAG_AMBIGUOUS = 16,
    FLAGS_KNOWN = 31
};

void key_set(struct key *k, struct text bytes)
{
    check(bytes.size_bytes <= KEY_BYTES_MAX);
    k->size_bytes = (uint16_t)bytes.size_bytes;
    if (bytes.size_bytes)
        memcpy(k->bytes, bytes.data, bytes.size_bytes);
}

static size_t varint_write(uint8_t *to, uint64_t value)
{
    size_t n = 0;
    while (value >= 0x80) {
        to[n++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    to[n++] = (uint8_t)value;
    return n;
}

void varint_append(struct buffer *b, uint64_t value)
{
    uint8_t bytes[10];
    buffer_append(b, bytes, varint_write(bytes, value));
}

bool varint_read(const uint8_t **at, const uint8_t *end, uint64_t *ret_value)
{
    uint64_t value = 0;
    for (unsigned shift = 0; *at < end && shift < 64; shift += 7) {
        uint8_t byte = *(*at)++;
        if (shift == 63 && byte > 1)
            return false;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            *ret_value = value;
            return true;
        }
    }
    return false;
}

static uint64_t zigzag(int64_t value)
{
    return ((uint64_t)value << 1) ^ (uint64_t)(value >> 63);
}

static int64_t unzigzag(uint64_t value)
{
    return (int64_t)((value >> 1) ^ (0 - (value & 1)));
}

// Writing.

void block_writer_init(struct block_writer *w, size_t limit_bytes)
{
    *w = (struct block_writer){.limit_bytes = limit_bytes};
    block_restart(w);
}

void block_writer_release(struct block_writer *w)
{
    buffer_release(&w->bytes);
    buffer_release(&w->suffix);
}

void block_restart(struct block_writer *w)
{
    buffer_clear(&w->bytes);
    buffer_reserve(&w->bytes, BLOCK_BYTES_TARGET);
    static const char header[BLOCK_HEADER_BYTES];
    buffer_append(&w->bytes, header, sizeof(header));
    w->restart_count = 0;
    w->row_count = 0;
}

static size_t shared_bytes(struct text a, const struct key *b)
{
    size_t n = a.size_bytes < b->size_bytes ? a.size_bytes : b->size_bytes, i = 0;
    while (i < n && (uint8_t)a.data[i] == b->bytes[i])
        i++;
    return i;
}

static bool block_has_room(const struct block_writer *w, size_t more_bytes, bool is_restart)
{
    size_t size = w->bytes.size_bytes + more_bytes + 2 * (w->restart_count + is_restart);
    return size <= w->limit_bytes && size <= UINT16_MAX &&
           (!is_restart || w->restart_count < RESTARTS_MAX);
}

// What follows the key in a row that isn't hidden.
static void block_add_visible(struct block_writer *w, const struct block_row *row, bool same_suffix)
{
    uint8_t head[40];
    memcpy(head, row->uuid.bytes, 16);
    size_t n = 16;
    n += varint_write(head + n,
                      zigzag((int64_t)((uint64_t)row->mtime_unix_ns - (uint64_t)w->mtime)));
    n += varint_write(head + n, row->size_bytes < 0 ? 0 : (uint64_t)row->size_bytes + 1);
    buffer_append(&w->bytes, head, n);
    if (!same_suffix) {
        varint_append(&w->bytes, row->suffix.size_bytes);
        buffer_append_text(&w->bytes, row->suffix);
        buffer_clear(&w->suffix);
        buffer_append_text(&w->suffix, row->suffix);
        w->has_suffix = true;
    }
    if (row->extra.size_bytes) {
        varint_append(&w->bytes, row->extra.size_bytes);
        buffer_append_text(&w->bytes, row->extra);
    }
    w->mtime = row->mtime_unix_ns;
}

bool block_add(struct block_writer *w, struct text key, const struct block_row *row)
{
    bool is_restart = w->row_count % RESTART_INTERVAL == 0;
    size_t bound = key.size_bytes + row->suffix.size_bytes + row->extra.size_bytes + 64;
    if (w->row_count && !block_has_room(w, bound, is_restart))
        return false;
    check(!w->row_count || text_compare(key, key_text(&w->last)) > 0);
    if (is_restart) {
        w->restarts[w->restart_count++] = (uint16_t)w->bytes.size_bytes;
        w->mtime = 0;
        w->has_suffix = false;
    }
    size_t shared = is_restart ? 0 : shared_bytes(key, &w->last);
    bool same_suffix =
        !row->is_hidden && w->has_suffix && text_equal(row->suffix, buffer_text(&w->suffix));
    uint8_t head[4];
    size_t n = varint_write(head, shared);
    n += varint_write(head + n, key.size_bytes - shared);
    buffer_append(&w->bytes, head, n);
    buffer_append_text(&w->bytes, text_slice(key, shared, key.size_bytes));
    uint8_t flags = row->is_hidden ? FLAG_HIDDEN | (row->is_ambiguous ? FLAG_AMBIGUOUS : 0)
                                   : (same_suffix ? FLAG_SAME_SUFFIX : 0) |
                                         (row->extra.size_bytes ? FLAG_EXTRA : 0);
    flags |= row->is_double ? FLAG_DOUBLE : 0;
    buffer_append_byte(&w->bytes, (char)flags);
    if (!row->is_hidden)
        block_add_visible(w, row, same_suffix);
    key_set(&w->last, key);
    if (!w->row_count++)
        key_set(&w->first, key);
    return true;
}

struct text block_finish(struct block_writer *w)
{
    buffer_append(&w->bytes, w->restarts, 2 * w->restart_count);
    uint8_t *at = (uint8_t *)w->bytes.data;
    uint32_t length = (uint32_t)w->bytes.size_bytes;
    uint16_t head[2] = {BLOCK_MAGIC, BLOCK_VERSION};
    uint16_t counts[2] = {(uint16_t)w->row_count, (uint16_t)w->restart_count};
    memcpy(at, head, 4);
    memcpy(at + 8, &length, 4);
    memcpy(at + 12, counts, 4);
    uint32_t sum = (uint32_t)hash64(at + 8, length - 8);
    memcpy(at + 4, &sum, 4);
    return buffer_text(&w->bytes);
}

// Reading.

static uint16_t restart_at(const struct block_reader *r, uint32_t i)
{
    uint16_t offset;
    memcpy(&offset, r->data + r->size_bytes + 2 * (size_t)i, 2);
    return offset;
}

int block_open(struct block_reader *r, struct text record)
{
    if (record.size_bytes < BLOCK_HEADER_BYTES)
        return -EBADMSG;
    uint16_t head[2], counts[2];
    uint32_t sum, length;
    memcpy(head, record.data, 4);
    memcpy(&sum, record.data + 4, 4);
    memcpy(&length, record.data + 8, 4);
    memcpy(counts, record.data + 12, 4);
    if (head[0] != BLOCK_MAGIC || head[1] != BLOCK_VERSION || length != record.size_bytes)
        return -EBADMSG;
    if ((uint32_t)hash64(record.data + 8, length - 8) != sum)
        return -EBADMSG;
    uint32_t wanted = ((uint32_t)counts[0] + RESTART_INTERVAL - 1) / RESTART_INTERVAL;
    if (counts[0] == 0 || counts[1] != wanted || length < BLOCK_HEADER_BYTES + 2 * wanted)
        return -EBADMSG;
    r->data = (const uint8_t *)record.data;
    r->size_bytes = length - 2 * (size_t)wanted;
    r->row_count = counts[0];
    r->restart_count = wanted;
    r->offset = BLOCK_HEADER_BYTES;
    r->next_row = 0;
    r->key.size_bytes = 0;
    for (uint32_t i = 0; i < wanted; i++)
        if (restart_at(r, i) < BLOCK_HEADER_BYTES || restart_at(r, i) >= r->size_bytes)
            return -EBADMSG;
    return 0;
}

static bool read_text(const uint8_t **at, const uint8_t *end, struct text *ret_text)
{
    uint64_t size;
    if (!varint_read(at, end, &size) || size > (uint64_t)(end - *at))
        return false;
    *ret_text = (struct text){(const char *)*at, size};
    *at += size;
    return true;
}

static bool read_key(struct block_reader *r, const uint8_t **at, const uint8_t *end, bool is_first)
{
    uint64_t shared, more;
    if (!varint_read(at, end, &shared) || !varint_read(at, end, &more))
        return false;
    if (shared > r->key.size_bytes || (is_first && shared) || more > (uint64_t)(end - *at) ||
        shared + more > KEY_BYTES_MAX)
        return false;
    // Keys rise: the new end must be greater than what it replaces.
    size_t old = r->key.size_bytes - shared, common = more < old ? more : old;
    if (!is_first) {
        int order = common ? memcmp(*at, r->key.bytes + shared, common) : 0;
        if (order < 0 || (order == 0 && more <= old))
            return false;
    }
    if (more)
        memcpy(r->key.bytes + shared, *at, more);
    r->key.size_bytes = (uint16_t)(shared + more);
    *at += more;
    return true;
}

static bool read_visible(struct block_reader *r, const uint8_t **at, const uint8_t *end,
                         uint8_t flags, struct block_row *row)
{
    uint64_t mtime, size;
    if (end - *at < 16)
        return false;
    memcpy(row->uuid.bytes, *at, 16);
    *at += 16;
    if (!varint_read(at, end, &mtime) || !varint_read(at, end, &size) || size > INT64_MAX)
        return false;
    r->mtime = (int64_t)((uint64_t)r->mtime + (uint64_t)unzigzag(mtime));
    row->mtime_unix_ns = r->mtime;
    row->size_bytes = size ? (int64_t)(size - 1) : SIZE_UNKNOWN;
    if (flags & FLAG_SAME_SUFFIX) {
        if (!r->has_suffix)
            return false;
    } else if (!read_text(at, end, &r->suffix)) {
        return false;
    }
    r->has_suffix = true;
    row->suffix = r->suffix;
    row->extra = (struct text){0};
    return !(flags & FLAG_EXTRA) || read_text(at, end, &row->extra);
}

int block_next(struct block_reader *r, struct block_row *ret_row)
{
    if (r->next_row >= r->row_count)
        return 0;
    const uint8_t *at = r->data + r->offset, *end = r->data + r->size_bytes;
    bool is_restart = r->next_row % RESTART_INTERVAL == 0;
    if (is_restart) {
        r->mtime = 0;
        r->has_suffix = false;
    }
    if (!read_key(r, &at, end, r->next_row == 0) || at == end)
        return -EBADMSG;
    uint8_t flags = *at++;
    if (flags & ~FLAGS_KNOWN || (flags & FLAG_AMBIGUOUS && !(flags & FLAG_HIDDEN)))
        return -EBADMSG;
    ret_row->is_hidden = flags & FLAG_HIDDEN;
    ret_row->is_ambiguous = flags & FLAG_AMBIGUOUS;
    ret_row->is_double = flags & FLAG_DOUBLE;
    if (!ret_row->is_hidden && !read_visible(r, &at, end, flags, ret_row))
        return -EBADMSG;
    r->offset = (size_t)(at - r->data);
    r->next_row++;
    return 1;
}

// The key at a restart: stands there whole. -EBADMSG.
static int restart_key(const struct block_reader *r, uint32_t i, struct text *ret_key)
{
    const uint8_t *at = r->data + restart_at(r, i), *end = r->data + r->size_bytes;
    uint64_t shared;
    if (!varint_read(&at, end, &shared) || shared != 0 || !read_text(&at, end, ret_key))
        return -EBADMSG;
    return ret_key->size_bytes <= KEY_BYTES_MAX ? 0 : -EBADMSG;
}

int block_seek(struct block_reader *r, struct text key, struct block_row *ret_row)
{
    // The last restart whose key is <= `key`; not behind where we are.
    uint32_t low = r->next_row ? (r->next_row - 1) / RESTART_INTERVAL : 0, high = r->restart_count;
    while (low + 1 < high) {
        uint32_t middle = low + (high - low) / 2;
        struct text at;
        if (restart_key(r, middle, &at) < 0)
            return -EBADMSG;
        if (text_compare(at, key) <= 0)
            low = middle;
        else
            high = middle;
    }
    if (low * RESTART_INTERVAL >= r->next_row && low > 0) {
        r->next_row = low * RESTART_INTERVAL;
        r->offset = restart_at(r, low);
        r->key.size_bytes = 0;
    }
    for (;;) {
        int got = block_next(r, ret_row);
        if (got <= 0)
            return got;
        if (text_compare(key_text(&r->key), key) >= 0)
            return 1;
    }
}
