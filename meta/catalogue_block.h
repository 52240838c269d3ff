// SPDX-License-Identifier: BSD-3-Clause
// catalogue_block: rows packed into one record, sorted by key. Each row's key is written as what
// differs from the row's before, every 16th (a restart) whole, so that a block can be searched.
// Blocks come back from disk: block_open checks frame and checksum, block_next every row; a block
// or row that is not well-formed ends the reading with -EBADMSG and is treated as absent.
//
//   magic 2 | version 1 | 0 | checksum 4 (of what follows) | length 4 | rows 2 | restarts 2
//   rows: shared varint, more varint, key bytes, flags 1 (hidden, same suffix, extra, double, ambiguous), and unless
//         hidden: uuid 16, mtime zigzag
//         varint (difference to the row's before, whole at a restart), size + 1 varint,
//         suffix (varint length, bytes) unless the same as before, extra (varint length, bytes)
//   restarts: offsets, 2 each
#pragma once
#include "base/buffer.h"
#include "meta/catalogue.h"

// A block in a page of its own has 16 bytes less than a page.
#define BLOCK_BYTES_TARGET 4080
#define BLOCK_HEADER_BYTES 16
#define BLOCK_ROW_BYTES_MAX (1 << 20)

// A row as blocks keep it. Texts are borrowed.
struct block_row {
    bool is_hidden;
    bool is_ambiguous; // hidden because of that
    bool is_double;    // it stands for several rows that are alike
    struct uuid uuid;
    int64_t mtime_unix_ns;
    int64_t size_bytes; // of the first file
    struct text suffix; // of the first file
    struct text extra;  // what simple rows don't have: see catalogue_row.c
};

struct block_writer {
    struct buffer bytes;
    uint16_t restarts[256];
    uint32_t restart_count;
    uint32_t row_count;
    size_t limit_bytes;
    struct key first, last;
    int64_t mtime;
    struct buffer suffix; // of the visible row before, in this restart's run
    bool has_suffix;
};

void block_writer_init(struct block_writer *w, size_t limit_bytes);
void block_writer_release(struct block_writer *w);
// Keys must rise. false: it is full (or the row doesn't fit beside others): finish it and begin
// anew.
bool block_add(struct block_writer *w, struct text key, const struct block_row *row);
// The whole record, valid until the next block_add; block_restart empties it.
struct text block_finish(struct block_writer *w);
void block_restart(struct block_writer *w);

struct block_reader {
    const uint8_t *data;
    size_t size_bytes; // without the restarts
    size_t offset;     // of the next row
    uint32_t row_count, restart_count;
    uint32_t next_row; // its number
    struct key key;    // of the row that was read last
    int64_t mtime;
    struct text suffix;
    bool has_suffix;
};

int block_open(struct block_reader *r, struct text record);
// 1: *ret_row and r->key are the next row; 0: the end; -EBADMSG.
int block_next(struct block_reader *r, struct block_row *ret_row);
// Goes to the first row whose key is >= `key` (only forward from here if that is nearer) and reads
// it as block_next.
int block_seek(struct block_reader *r, struct text key, struct block_row *ret_row);

void key_set(struct key *k, struct text bytes); // at most KEY_BYTES_MAX

// Varints, little-endian base 128. Reading: false where the bytes end or the number doesn't fit.
void varint_append(struct buffer *b, uint64_t value);
bool varint_read(const uint8_t **at, const uint8_t *end, uint64_t *ret_value);

// A block's row from a row, with `extra` written to *store; and back, with the values read from the
// key: its texts are appended to scratch or those of `b`. -EBADMSG.
void row_to_block(const struct key *k, const struct row *row, enum row_kind kind,
                  struct block_row *ret_row, struct buffer *store);
int row_from_block(struct text key, const struct block_row *b, struct row *ret_row,
                   struct buffer *scratch);

// One row as a block by itself, appended; and back, copied to *scratch (cleared). -EMSGSIZE;
// -EBADMSG.
int row_pack(const struct key *k, enum row_kind kind, const struct row *row, struct buffer *to);
int row_unpack(struct text record, enum row_kind *ret_kind, struct row *ret_row,
               struct buffer *scratch);
// The same of a block's row, which points elsewhere: everything goes to *scratch.
int row_copy(struct text key, const struct block_row *b, struct row *ret_row,
             struct buffer *scratch);
