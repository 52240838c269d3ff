// SPDX-License-Identifier: BSD-3-Clause
// place: what place.c, listing.c and link.c share about folders. meta's own; the door is
// repository.h.
#pragma once
#include "meta/library.h"

// In a dataset type's folder or below it, and something may hold it.
bool place_has_set(const struct place *p);
// Its entries are files, not folders of a further level. Of a place with a type.
bool place_is_last(const struct place *p);
struct text
place_level_name(const struct place *p); // the next level's dimension; not if it is the last
struct set_id place_set_id(const struct place *p);
int place_want_set(const struct place *p, struct want *want); // -EINPROGRESS
int place_want_types(const struct place *p, const struct collection *c,
                     const struct dataset_type *t,
                     struct want *want); // t NULL: all; -EINPROGRESS
// The collection that the folder is as a part of names; NULL.
const struct collection *place_collection(const struct place *p);
enum presence place_presence(const struct place *p, const struct collection *c,
                             const struct dataset_type *t);
// The required ones of the first `count` levels' values; how many.
uint32_t place_required(const struct dataset_type *t, const struct value *values, uint32_t count,
                        struct value ret_values[LEVELS_MAX]);
void place_write_type(const struct dataset_type *t, struct buffer *to); // its folder's name
void place_write_file(const struct dataset_type *t, const struct row *row, struct buffer *to);
void place_file_entry(const struct row *row, struct text name, struct entry *ret_entry);
// The entries of a space's root, in order; false: there are no more.
bool place_root_entry(uint64_t i, struct entry *ret_entry);
// by-uuid/<name> (link.c).
int place_link(struct place *p, struct text name, struct entry *ret_entry, struct buffer *target,
               struct want *want);
