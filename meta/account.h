// SPDX-License-Identifier: BSD-3-Clause
// account: what the files of explain share. meta's own; the door is explain.h.
#pragma once
#include "meta/explain.h"
#include "meta/place.h"

#define T_(text) (int)(text).size_bytes, (text).data // for "%.*s"

void account_put(struct account *a, const char *key, struct text value);
// Where a dataset type's folder or what is below it stands: collection, type, data ID.
void explain_where(const struct place *p, struct account *a);
// The collections that are searched for the data ID that `p` has all levels of, which has it and which of
// these wins; *ret_winner stays as it is where none has it. 1: one has it; 0.
struct winner {
    struct uuid uuid;
    bool is_stored;
    struct value day_obs; // the implied level's, where it is another than the path says
    bool is_elsewhere;    // it is
};
int explain_members(const struct place *p, struct account *a, struct winner *ret_winner, struct want *want);
int explain_dataset(const struct place *p, const struct uuid *uuid, struct account *a, struct want *want);
// `name` isn't in the folder.
int explain_missing(struct place *p, struct text name, struct account *a, struct want *want);

// At a time several datasets have the name.
int explain_ambiguous(struct place *p, struct text name, struct account *a, struct want *want);

// What a librarian found of one member: a record of WANT_MEMBERS.
struct member_record {
    int64_t collection_id, run_id;
    struct uuid uuid;
    uint32_t file_count;
    bool has_range; // of a CALIBRATION collection, and valid in:
    struct timespan range;
    struct key key; // its data ID
};
