// SPDX-License-Identifier: BSD-3-Clause
// universe: a dimension universe like the client's version 8, and a snapshot with its tables, for
// tests.
#pragma once
#include "tests/unit/base/harness.h"

#include <errno.h>

#include "meta/snapshot.h"
#include "tests/unit/meta/schema.h"

#define COLUMNS_MAX 32

// "a b c" as texts.
static inline size_t columns_of(const char *list, struct text *ret_columns)
{
    size_t count = 0;
    while (*list && count < COLUMNS_MAX) {
        size_t size = strcspn(list, " ");
        ret_columns[count++] = (struct text){list, size};
        list += size + (list[size] == ' ');
    }
    return count;
}

static inline int add_table(struct snapshot *s, const char *table, const char *list)
{
    struct text columns[COLUMNS_MAX];
    size_t count = columns_of(list, columns);
    return snapshot_add_element_table(s, text_of(table), columns, count);
}

static inline int add_type(struct snapshot *s, int64_t id, const char *name, const char *list)
{
    struct text columns[COLUMNS_MAX];
    size_t count = columns_of(list, columns);
    return snapshot_add_type(s, id, text_of(name), TEXT("ExposureF"), TEXT("dataset_tags_00000001"),
                             TEXT(""), columns, count);
}

static inline int add_collection(struct snapshot *s, int64_t id, const char *name, int kind)
{
    return snapshot_add_collection(s, id, text_of(name), kind, TEXT(""));
}

static inline struct snapshot *universe_only(const char *quoted)
{
    struct snapshot *s = snapshot_new();
    char *json = unquoted(quoted), *why = NULL;
    assert_int_equal(snapshot_add_universe(s, text_of(json), &why), 0);
    assert_null(why);
    free(json);
    return s;
}

static inline struct snapshot *universe_with_tables(void)
{
    struct snapshot *s = universe_only(universe_quoted);
    assert_int_equal(add_table(s, "instrument", "name visit_max"), 0);
    assert_int_equal(add_table(s, "physical_filter", "instrument name band"), 0);
    assert_int_equal(add_table(s, "subfilter", "band id"), 0);
    assert_int_equal(add_table(s, "detector", "instrument id full_name"), 0);
    assert_int_equal(add_table(s, "group", "instrument name"), 0);
    assert_int_equal(add_table(s, "day_obs", "instrument id"), 0);
    assert_int_equal(add_table(s, "visit", "instrument id day_obs physical_filter"), 0);
    assert_int_equal(add_table(s, "exposure", "instrument id day_obs group physical_filter"), 0);
    assert_int_equal(add_table(s, "skymap", "name"), 0);
    assert_int_equal(add_table(s, "tract", "skymap id"), 0);
    assert_int_equal(add_table(s, "patch", "skymap tract id"), 0);
    return s;
}

static inline void seal(struct snapshot *s)
{
    char *why = NULL;
    assert_int_equal(snapshot_seal(s, &why), 0);
    assert_null(why);
}
