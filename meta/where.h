// SPDX-License-Identifier: BSD-3-Clause
// where: an expression about data IDs, a part of what the Butler client takes as `where`: and, or, not,
// = != < <= > >=, in (values and whole-number ranges a..b or a..b:step, ends included), null, 'strings',
// numbers; dimensions (visit), their columns (visit.exposure_time, exposure_time where that is
// unambiguous) and what they imply (band, physical_filter, visit.day_obs). It means what it means to the
// client, which asks a database: a comparison with what is not known (NULL) is neither true nor false.
// A parsed one is immutable; it borrows the snapshot. Its text is outside input.
#pragma once
#include "meta/snapshot.h"

// What an expression speaks of.
struct where_column {
    uint32_t element; // whose row has it
    uint32_t level;   // INDEX_NONE; else it is the value of this level and needs no row
    struct text name; // in the element's table
    enum column_kind kind;
};

#define WHERE_COLUMNS_MAX 32

struct where;
// -EINVAL with *ret_why: "at character 7: ...", allocated. An empty expression is always true.
int where_parse(const struct snapshot *s, const struct dataset_type *t, struct text expression,
                struct where **ret_where, char **ret_why);
void where_free(struct where *w); // NULL is fine
define_cleanup(struct where *, where_free);
// Its columns; those of levels first.
const struct where_column *where_columns(const struct where *w, uint32_t *ret_count);

enum truth { TRUTH_FALSE, TRUTH_NULL, TRUTH_OPEN, TRUTH_TRUE };
// `fields`: one per column. TRUTH_OPEN: that depends on fields that are open.
enum truth where_test(const struct where *w, const struct field *fields);
// The whole numbers that a column must be between for the expression to be true; all, if it says nothing.
void where_bounds(const struct where *w, uint32_t column, int64_t *ret_low, int64_t *ret_high);

// How a data ID of the type comes to a dimension's value: from one of its levels (INDEX_NONE: from
// none), or else from the row of another element (INDEX_NONE: not at all).
uint32_t where_level_of(const struct dataset_type *t, uint32_t element);
uint32_t where_source_of(const struct snapshot *s, const struct dataset_type *t, uint32_t element);
