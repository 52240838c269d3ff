// SPDX-License-Identifier: BSD-3-Clause
// catalogue_row: between a row as the tree needs it and as blocks keep it. The values stand in the
// key; what simple rows (one file of the whole dataset, no long text) don't have is `extra`:
//   files varint, per file: component text; but the first: suffix text, size + 1
//   long texts varint, each a text: the values that are cut in the key, in its order
// (a text: varint length, bytes).
#include "meta/catalogue_block.h"

#include "base/log.h"

static bool may_be_cut(const struct row *row)
{
    if (row->value_count == 0)
        return false;
    size_t room = key_text_max(row->value_count);
    for (uint32_t i = 0; i < row->value_count; i++)
        if (row->values[i].kind == VALUE_TEXT && row->values[i].text.size_bytes * 2 > room)
            return true;
    return false;
}

// Which values are cut in the key: a bit each.
static uint32_t cut_values(const struct key *k, uint32_t value_count)
{
    BUFFER_CLEANUP store = {0};
    buffer_reserve(&store, k->size_bytes);
    uint32_t cut = 0;
    size_t offset = 0;
    for (uint32_t i = 0; i < value_count; i++) {
        struct value v;
        bool is_cut;
        int r = key_read(key_text(k), &offset, &v, &is_cut, &store);
        check(r == 0);
        cut |= (uint32_t)is_cut << i;
    }
    return cut;
}

static void text_write(struct buffer *b, struct text t)
{
    varint_append(b, t.size_bytes);
    buffer_append_text(b, t);
}

void row_to_block(const struct key *k, const struct row *row, enum row_kind kind,
                  struct block_row *ret_row, struct buffer *store)
{
    *ret_row = (struct block_row){.is_hidden = kind == ROW_HIDDEN, .is_double = row && row->is_double};
    if (ret_row->is_hidden)
        return;
    check(kind == ROW_VISIBLE && row->file_count > 0 && row->file_count <= ROW_FILES_MAX);
    ret_row->uuid = row->uuid;
    ret_row->mtime_unix_ns = row->mtime_unix_ns;
    ret_row->size_bytes = row->files[0].size_bytes;
    ret_row->suffix = row->files[0].suffix;
    uint32_t cut = may_be_cut(row) ? cut_values(k, row->value_count) : 0;
    if (!cut && !row_is_composite(row))
        return;
    size_t from = store->size_bytes;
    varint_append(store, row->file_count);
    for (uint32_t i = 0; i < row->file_count; i++) {
        text_write(store, row->files[i].component);
        if (i == 0)
            continue;
        text_write(store, row->files[i].suffix);
        varint_append(store,
                      row->files[i].size_bytes < 0 ? 0 : (uint64_t)row->files[i].size_bytes + 1);
    }
    varint_append(store, (uint64_t)__builtin_popcount(cut));
    for (uint32_t i = 0; i < row->value_count; i++)
        if (cut >> i & 1)
            text_write(store, row->values[i].text);
    ret_row->extra = text_slice(buffer_text(store), from, store->size_bytes);
}

static bool text_read(const uint8_t **at, const uint8_t *end, struct text *ret_text)
{
    uint64_t size;
    if (!varint_read(at, end, &size) || size > (uint64_t)(end - *at))
        return false;
    *ret_text = (struct text){(const char *)*at, size};
    *at += size;
    return true;
}

static bool read_files(const uint8_t **at, const uint8_t *end, struct row *row)
{
    uint64_t files;
    if (!varint_read(at, end, &files) || files == 0 || files > ROW_FILES_MAX)
        return false;
    row->file_count = (uint32_t)files;
    for (uint32_t i = 0; i < files; i++) {
        if (!text_read(at, end, &row->files[i].component))
            return false;
        uint64_t size;
        if (i == 0)
            continue;
        if (!text_read(at, end, &row->files[i].suffix) || !varint_read(at, end, &size) ||
            size > INT64_MAX)
            return false;
        row->files[i].size_bytes = size ? (int64_t)(size - 1) : SIZE_UNKNOWN;
    }
    return true;
}

static int read_long_texts(const uint8_t *at, const uint8_t *end, uint32_t cut, struct row *row)
{
    uint64_t count;
    if (!varint_read(&at, end, &count) || count != (uint64_t)__builtin_popcount(cut))
        return -EBADMSG;
    for (uint32_t i = 0; i < row->value_count; i++)
        if (cut >> i & 1 && !text_read(&at, end, &row->values[i].text))
            return -EBADMSG;
    return at == end ? 0 : -EBADMSG;
}

static int read_range(struct text key, size_t offset, struct row *row)
{
    struct key_range range = {0};
    row->has_range = offset < key.size_bytes;
    if (row->has_range && key_read_range(key, offset, &range) < 0)
        return -EBADMSG;
    row->range = range.span;
    row->has_twin = row->has_range && range.kind == KEY_RANGE_TWIN;
    return 0;
}

int row_from_block(struct text key, const struct block_row *b, struct row *ret_row,
                   struct buffer *scratch)
{
    ret_row->uuid = b->uuid;
    ret_row->mtime_unix_ns = b->mtime_unix_ns;
    ret_row->value_count = 0;
    ret_row->file_count = 1;
    ret_row->files[0] = (struct row_file){.suffix = b->suffix, .size_bytes = b->size_bytes};
    buffer_reserve(scratch, key.size_bytes);
    uint32_t cut = 0, n = 0;
    size_t offset = 0;
    for (; offset < key.size_bytes && !key_has_range(key, offset); n++) {
        bool is_cut;
        if (n == LEVELS_MAX || key_read(key, &offset, &ret_row->values[n], &is_cut, scratch) < 0)
            return -EBADMSG;
        cut |= (uint32_t)is_cut << n;
    }
    ret_row->value_count = n;
    ret_row->is_double = b->is_double;
    if (read_range(key, offset, ret_row) < 0)
        return -EBADMSG;
    if (b->extra.size_bytes == 0)
        return cut ? -EBADMSG : 0;
    const uint8_t *at = (const uint8_t *)b->extra.data, *end = at + b->extra.size_bytes;
    if (!read_files(&at, end, ret_row))
        return -EBADMSG;
    return read_long_texts(at, end, cut, ret_row);
}

int row_copy(struct text key, const struct block_row *b, struct row *ret_row,
             struct buffer *scratch)
{
    struct block_row copy = *b;
    buffer_clear(scratch);
    buffer_reserve(scratch, b->suffix.size_bytes + b->extra.size_bytes + key.size_bytes);
    buffer_append_text(scratch, b->suffix);
    buffer_append_text(scratch, b->extra);
    copy.suffix = text_slice(buffer_text(scratch), 0, b->suffix.size_bytes);
    copy.extra = text_slice(buffer_text(scratch), b->suffix.size_bytes, scratch->size_bytes);
    return row_from_block(key, &copy, ret_row, scratch);
}

int row_pack(const struct key *k, enum row_kind kind, const struct row *row, struct buffer *to)
{
    struct block_writer w;
    struct block_row b;
    BUFFER_CLEANUP extra = {0};
    row_to_block(k, row, kind, &b, &extra);
    if (b.suffix.size_bytes + b.extra.size_bytes > BLOCK_ROW_BYTES_MAX)
        return -EMSGSIZE;
    block_writer_init(&w, BLOCK_BYTES_TARGET);
    block_add(&w, key_text(k), &b);
    buffer_append_text(to, block_finish(&w));
    block_writer_release(&w);
    return 0;
}

int row_unpack(struct text record, enum row_kind *ret_kind, struct row *ret_row,
               struct buffer *scratch)
{
    struct block_reader reader;
    struct block_row b;
    if (block_open(&reader, record) < 0 || block_next(&reader, &b) != 1)
        return -EBADMSG;
    *ret_kind = b.is_hidden ? ROW_HIDDEN : ROW_VISIBLE;
    return b.is_hidden ? 0 : row_copy(key_text(&reader.key), &b, ret_row, scratch);
}
