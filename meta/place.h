// SPDX-License-Identifier: BSD-3-Clause
// place: what place.c, listing.c and link.c share about folders. meta's own; the door is
// repository.h.
#pragma once
#include "meta/library.h"

// In a dataset type's folder or below it, and something may hold it.
bool place_has_set(const struct place *p);
// Its entries are files, not folders of a further level. Of a place with a type.
bool place_is_last(const struct place *p);
const struct element *place_level(const struct place *p); // the next level's dimension
struct text
place_level_name(const struct place *p); // the next level's dimension; not if it is the last
struct set_id place_set_id(const struct place *p);
// Goes down by a value of the next level.
void place_push(struct place *p, const struct value *v);
// To go down from while the place stays; it borrows the snapshot: only its texts are to be released.
void place_copy(const struct place *p, struct place *ret_place);
// Wants about what the place's key says; the texts that are cut in it are added last, as they are
// no part of what is looked for among the answers.
void place_want_point(const struct place *p, enum want_kind kind, struct want *want);
void place_want_texts(const struct place *p, struct want *want);
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
// The time that a folder of calibs-at/ is about (place_at.c). -ENOENT, -EINPROGRESS.
int place_time(const struct place *p, struct text name, struct timespan *ret_span,
               struct want *want);
// Scans the place's part of the whole set until `each` stops it. 0: it did; -ENOENT, -EINPROGRESS.
int place_search(const struct place *p, row_each *each, void *context, struct want *want);
// The place's rows, pinned: the whole set, or (place_part.c) a folder's part of it. -EINPROGRESS.
int place_pin_set(const struct place *p, struct set_state *ret_state, struct want *want);
// The same for a listing, where an old one may do; else the want has_old.
int place_pin_listing(const struct place *p, struct set_state *ret_state, struct want *want);
bool place_has_generation(const struct place *p, uint64_t generation); // of the one or the other
// Whether the folder that `p` now is was there a little while ago, and for how long that may be remembered. -ENOENT: it is to
// be asked for.
int place_find_old_folder(const struct place *p, int64_t *ret_left_ns);
// The id of the part that the folder of its first `depth` levels is asked as; false: it isn't.
bool place_part_id(const struct place *p, uint32_t depth, struct set_id *ret_id);
// Files and composites' folders, in a folder of files (place_file.c). Looking up and entering goes
// to the file's key: on a copy where the place is still needed.
int place_go_to_file(struct place *p, struct text name, struct want *want); // by its name alone
int place_enter_file(struct place *p, struct text name, struct want *want);
int place_look_up_file(struct place *p, struct text name, struct entry *ret_entry,
                       struct buffer *scratch, struct want *want);
// In a composite's folder; cookies count its files.
int place_look_up_component(const struct place *p, struct text name, struct entry *ret_entry,
                            struct buffer *scratch, struct want *want);
int place_list_components(const struct place *p, uint64_t cookie, place_each *each, void *context,
                          struct want *want);
void place_write_file(const struct dataset_type *t, const struct row *row, struct buffer *to);
void place_file_entry(const struct row *row, struct text name, struct entry *ret_entry);
// The entries of a space's root, in order; false: there are no more.
bool place_root_entry(uint64_t i, struct entry *ret_entry);
// Views in a folder of names (view.c), whose names begin with `@`; and what is in @members/, where
// cookies count. A view's number is its place in a listing; false: the folder doesn't have it.
#define PLACE_VIEW_COUNT 2
bool place_view_entry(const struct place *p, uint64_t number, struct entry *ret_entry);
int place_look_up_view(const struct place *p, struct text name, struct entry *ret_entry,
                       struct buffer *target);
int place_enter_view(struct place *p, struct text name);
int place_look_up_member(const struct place *p, struct text name, struct entry *ret_entry,
                         struct buffer *target);
int place_list_members(const struct place *p, uint64_t cookie, place_each *each, void *context);
// A part of collections' names as a path below collections/, with a slash at its end (link.c).
void place_write_branch(const struct snapshot *s, const struct branch *b, struct buffer *to);
// by-uuid/<name> (link.c).
int place_link(struct place *p, struct text name, struct entry *ret_entry, struct buffer *target,
               struct want *want);
