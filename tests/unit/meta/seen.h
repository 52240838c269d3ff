// SPDX-License-Identifier: BSD-3-Clause
// seen: what a registry hands out, as text that a test can compare.
#pragma once
#include "tests/unit/meta/database.h"

// "7 Cam 20240101 100 1 [0 path 17]" a row.
struct seen {
    struct buffer text;
    uint32_t count;
    uint32_t stop_after; // 0: never
};

static inline int see(const struct registry_row *row, void *context)
{
    struct seen *n = context;
    buffer_format(&n->text, n->count ? "; %u" : "%u",
                  (unsigned)row->uuid.bytes[15] + 256 * row->uuid.bytes[14]);
    for (uint32_t i = 0; i < row->value_count; i++)
        if (row->values[i].kind == VALUE_INTEGER)
            buffer_format(&n->text, " %lld", (long long)row->values[i].integer);
        else
            buffer_format(&n->text, " %.*s", (int)row->values[i].text.size_bytes, row->values[i].text.data);
    for (uint32_t i = 0; i < row->file_count; i++)
        buffer_format(&n->text, " [%u%s%.*s %.*s %lld]", row->files[i].datastore,
                      row->files[i].component.size_bytes ? " " : "",
                      (int)row->files[i].component.size_bytes, row->files[i].component.data,
                      (int)row->files[i].path.size_bytes, row->files[i].path.data,
                      (long long)row->files[i].size_bytes);
    n->count++;
    return n->stop_after && n->count >= n->stop_after ? -ECANCELED : 0;
}

static inline void seen_is(struct seen *n, const char *wanted)
{
    assert_string_equal(n->text.data ? n->text.data : "", wanted);
    buffer_release(&n->text);
    *n = (struct seen){0};
}

static inline struct snapshot *snapshot_of(struct registry *r)
{
    struct snapshot *s = NULL;
    char *why = NULL;
    if (registry_snapshot(r, &s, &why) < 0)
        fail_msg("%s", why);
    return s;
}

static inline const struct dataset_type *type(const struct snapshot *s, const char *name)
{
    const struct dataset_type *t = snapshot_type_by_name(s, text_of(name));
    assert_non_null(t);
    return t;
}

// All pages of `limit` rows.
static inline uint64_t read_set(struct registry *r, const struct snapshot *s, const char *name,
                         int64_t collection, uint32_t limit, struct seen *n)
{
    BUFFER_CLEANUP cursor = {0};
    bool is_end = false;
    uint64_t mark = 0;
    for (int pages = 0; !is_end; pages++) {
        assert_true(pages < 1000);
        assert_int_equal(registry_page(r, s, type(s, name), collection, &cursor, limit, see, n, &is_end, &mark), 0);
    }
    return mark;
}

static inline void assert_set(const char *name, int64_t collection, const char *wanted)
{
    struct registry *r = open_database();
    struct snapshot *s = snapshot_of(r);
    struct seen n = {0};
    read_set(r, s, name, collection, 2, &n);
    seen_is(&n, wanted);
    snapshot_unref(s);
    registry_close(r);
}

#define V(text) value_text(TEXT(text))
#define N(number) value_integer(number)

// Searching as most tests do.
#define FIRST(ids, n, of)                                                                          \
    (&(struct registry_search){                                                                    \
        .how = SEARCH_FIRST, .collections = (ids), .count = (n), .values = (of)})

static inline int present(struct registry *r, const struct snapshot *s,
                          const struct dataset_type *t, int64_t collection_id)
{
    return registry_enter(r, s, t, &collection_id, 1, NULL, 0);
}
