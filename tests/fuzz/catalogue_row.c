// SPDX-License-Identifier: BSD-3-Clause
// Any bytes as a block of rows, under a checksum that is right: refused, or read to its end with
// keys that rise, all inside the block, and found again by seeking. As a dataset's record. And rows
// made of the bytes: they come back as they were written. Found when planted: `more` not held
// against the end; a suffix kept over a restart.
#include <stdint.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/log.h"
#include "meta/catalogue_block.h"
#include "meta/library.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_rows(struct text block)
{
    struct block_reader all, one;
    struct block_row b, found;
    struct key last = {0};
    BUFFER_CLEANUP scratch = {0};
    struct row row;
    if (block_open(&all, block) < 0)
        return;
    for (uint32_t n = 0;; n++) {
        int r = block_next(&all, &b);
        if (r <= 0)
            break;
        check(n == 0 || text_compare(key_text(&all.key), key_text(&last)) > 0);
        key_set(&last, key_text(&all.key));
        buffer_clear(&scratch);
        if (!b.is_hidden && row_from_block(key_text(&all.key), &b, &row, &scratch) == 0)
            for (uint32_t i = 0; i < row.value_count; i++)
                check(row.values[i].kind == VALUE_INTEGER ||
                      row.values[i].text.size_bytes <= block.size_bytes);
        if (n % 8) // one look at the checksum is dear enough
            continue;
        check(block_open(&one, block) == 0);
        r = block_seek(&one, key_text(&last), &found);
        check(r <= 0 || text_compare(key_text(&one.key), key_text(&last)) >= 0);
    }
}

// The bytes after a header that fits them.
static void fuzz_read(const uint8_t *data, size_t size)
{
    size_t length = BLOCK_HEADER_BYTES + size - 4;
    uint8_t *block = malloc(length);
    uint16_t head[2] = {0x6272, 2};
    uint32_t length32 = (uint32_t)length;
    memcpy(block, head, 4);
    memcpy(block + 8, &length32, 4);
    memcpy(block + 12, data, size);
    uint32_t sum = (uint32_t)hash64(block + 8, length - 8);
    memcpy(block + 4, &sum, 4);
    read_rows((struct text){(char *)block, length});
    free(block);
}

static void fuzz_dataset(const uint8_t *data, size_t size)
{
    struct dataset *d;
    if (dataset_read((struct text){(const char *)data, size}, &d) == 0)
        dataset_free(d);
}

// Rows of the bytes: each byte says how far the key rises and what kind of row it is.
static void fuzz_write(const uint8_t *data, size_t size)
{
    struct block_writer w;
    struct block_reader r;
    struct block_row b, got;
    uint64_t n = 0;
    uint32_t written = 0;
    char *end = (char *)data + size;
    block_writer_init(&w, BLOCK_BYTES_TARGET);
    for (size_t i = 0; i < size; i++, written++) {
        struct key k = {0};
        struct value v = value_integer((int64_t)(n += 1 + data[i]));
        key_append(&k, &v, 1);
        b = (struct block_row){.is_hidden = data[i] % 5 == 0,
                               .is_ambiguous = data[i] % 25 == 0,
                               .is_double = data[i] % 3 == 0,
                               .mtime_unix_ns = (int64_t)(n * n * n * data[i]),
                               .size_bytes = data[i] % 7 ? (int64_t)n : SIZE_UNKNOWN,
                               .suffix = {end - data[i] % 3 % (i + 1), data[i] % 3 % (i + 1)}};
        if (!block_add(&w, key_text(&k), &b))
            break;
    }
    if (written) {
        check(block_open(&r, block_finish(&w)) == 0 && r.row_count == written);
        n = 0;
        for (uint32_t i = 0; i < written; i++) {
            check(block_next(&r, &got) == 1);
            n += 1 + data[i];
            check(got.is_hidden == (data[i] % 5 == 0));
            check(got.is_ambiguous == (data[i] % 25 == 0));
            check(got.is_double == (data[i] % 3 == 0));
            check(got.is_hidden || got.mtime_unix_ns == (int64_t)(n * n * n * data[i]));
            check(got.is_hidden || got.suffix.size_bytes == data[i] % 3 % (i + 1));
        }
        check(block_next(&r, &got) == 0);
    }
    block_writer_release(&w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 8)
        return 0;
    fuzz_read(data, size);
    read_rows((struct text){(const char *)data, size});
    fuzz_dataset(data, size);
    fuzz_write(data, size);
    return 0;
}
