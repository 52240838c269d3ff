// SPDX-License-Identifier: BSD-3-Clause
// key: a data ID's values, in the tree's level order, as bytes whose memcmp order is the values'
// order (integers by value, then text bytewise), and where the values of the first n levels are a
// byte prefix of the key that no other n values share: a folder is a range of keys. Long text (over
// key_text_max bytes) is cut and ends with a hash of the whole, which orders texts that begin alike
// anyhow; the whole is then kept with the row (`long_texts`). Values never take more than
// KEY_BYTES_MAX - KEY_RANGE_BYTES. Keys are read back from disk: checked.
//
//   integer   0x18 + n, n bytes     n: bytes needed, 0 for 0; big-endian
//             0x18 - n, n bytes     negative: two's complement
//   text      0x30, bytes, 0x00     0x00 0x01 0x02 as 0x02 0x01, 0x02 0x02, 0x02 0x03
//   cut text  0x30, bytes, 0x01, XXH3-128 of the whole
//
// An entry of a CALIBRATION collection has its validity range behind the values, so that the key of
// the data ID is a prefix of those of its entries; and what else its name is made of, so that two
// entries have one key just if they have one name:
//   range     kind, begin and end as integers, 16 bytes
//   kind      0x40: the bytes are XXH3-128 of the suffix; 0x41: the uuid, of datasets that share
//             data ID and range; 0x42: the uuid, of what isn't stored and so has no name
#pragma once
#include "base/buffer.h"
#include "meta/timespan.h"
#include "meta/value.h"

#define KEY_BYTES_MAX 480  // LMDB's limit is 511; 16 for the prefix and some to spare
#define KEY_RANGE_BYTES 35 // kept free for the range
#define KEY_TEXT_MAX 64

struct key {
    uint16_t size_bytes;
    uint8_t bytes[KEY_BYTES_MAX];
};

static inline struct text key_text(const struct key *k)
{
    return (struct text){(const char *)k->bytes, k->size_bytes};
}

// How many bytes of text (0x00, 0x01, 0x02 counted twice) fit whole into the key of a type with
// `levels` levels, 1 to LEVELS_MAX: 64 for up to 5 levels, 56 for 6, 37 for 8, 19 for 12, 0 for 24.
size_t key_text_max(size_t levels);
// Appends one value of a type with `levels` levels. true: the text was cut and hashed.
bool key_append(struct key *k, const struct value *v, size_t levels);
// Reads the value at *offset of `bytes` and moves it. Text is appended (unescaped) to `store` and
// *ret_value points into it: reserve bytes.size_bytes in `store` before a key's first value, so
// that nothing moves (asserted). *ret_cut: only the beginning is here. -EBADMSG: not a key; nothing
// is changed.
int key_read(struct text bytes, size_t *offset, struct value *ret_value, bool *ret_cut,
             struct buffer *store);
// How many bytes the value at `offset` takes; -EBADMSG.
int key_value_size(struct text bytes, size_t offset);

// Where the first `count` values end; -EBADMSG: there are fewer.
int key_values_size(struct text bytes, size_t count);

enum key_range_kind { KEY_RANGE_SUFFIX = 0x40, KEY_RANGE_TWIN = 0x41, KEY_RANGE_HIDDEN = 0x42 };

struct key_range {
    enum key_range_kind kind;
    struct timespan span;
    uint8_t of[16]; // the suffix's hash or the uuid
};

// Of what has a name: `twin` is its uuid where datasets share data ID and range, else NULL.
struct key_range key_range_named(const struct timespan *span, const struct uuid *twin,
                                 struct text suffix);
void key_append_range(struct key *k, const struct key_range *range);
// Whether a range begins at `offset`, instead of a value.
bool key_has_range(struct text bytes, size_t offset);
// The range at `offset`, up to the end of the key. -EBADMSG.
int key_read_range(struct text bytes, size_t offset, struct key_range *ret_range);
