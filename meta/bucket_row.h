// SPDX-License-Identifier: BSD-3-Clause
// bucket_row: a bucket's names as rows of the catalogue; bucket*.c's own. A folder is a set, known by a
// hash of its prefix; its epochs are Unix times in ns. A row's values are the part of the key and 0
// (folder) or 1 (object), so that a folder stands right before an object of its name.
#pragma once
#include "meta/bucket.h"

struct set_id bucket_set(uint32_t repository, struct text prefix);
void bucket_row_key(struct text raw, bool is_object, struct key *ret_key);
// Texts of `e` must live as long as the row. -EMSGSIZE: an ETag longer than any server's.
int bucket_row_of(const struct bucket_entry *e, struct row *ret_row);
// -EBADMSG. Texts are the row's.
int bucket_row_entry(const struct row *row, struct bucket_entry *ret_entry);
// The name in the tree, appended: `is_beside`: an object beside a folder of its name.
void bucket_write_name(struct text raw, bool is_object, bool is_beside, struct buffer *to);
// -EINVAL: no such name; -E2BIG: a shortened one. *ret_is_beside: it can only be an object's.
int bucket_read_name(struct text name, struct buffer *ret_raw, bool *ret_is_beside);
