// SPDX-License-Identifier: BSD-3-Clause
// key: a data ID's values, in the tree's level order, as bytes whose memcmp order is the values'
// order (integers by value, text bytewise), and where the values of the first n levels are a byte
// prefix of the key that no other n values share: a folder is a range of keys. Long text (over
// KEY_TEXT_MAX bytes) is cut and ends with a hash of the whole; the whole is then kept with the row
// (`long_texts`). A key never exceeds KEY_BYTES_MAX. Keys are read back from disk: checked.
#pragma once
#include "base/buffer.h"
#include "meta/value.h"

#define KEY_BYTES_MAX 480   // LMDB's limit is 511; 16 for the prefix and some to spare
#define KEY_TEXT_MAX 64     // for up to 6 levels; key_append shrinks it where a type has more (levels)

struct key {
    uint16_t size_bytes;
    uint8_t bytes[KEY_BYTES_MAX];
};

// Appends one value of a type with `levels` levels. true: the text was cut and hashed.
bool key_append(struct key *k, const struct value *v, size_t levels);
// Reads the value at *offset of `bytes` and moves it. Text is appended (unescaped) to `store`, the
// value's text holds an OFFSET into store until key_fix_texts; *ret_cut: only the beginning is here.
// -EBADMSG: not a key.
int key_read(struct text bytes, size_t *offset, struct value *ret_value, bool *ret_cut,
             struct buffer *store);
// How many bytes the value at `offset` takes; -EBADMSG.
int key_value_size(struct text bytes, size_t offset);
