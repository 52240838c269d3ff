// SPDX-License-Identifier: BSD-3-Clause
// Any text as an expression about data IDs. What is refused says why and where; what isn't has an answer,
// and one given with open fields stays when they are known (where.c's invariant 1): a folder that is
// passed by would have had nothing.
// Found when planted: an `or` in which null is stronger than what is open; bounds of a list by its last
// value alone; a quote's end that is looked for one byte too far.
#include <stdint.h>

#include "base/log.h"
#include "meta/registry/memory.h"
#include "meta/where.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct memory_type types[] = {{"calexp", "instrument detector visit"}, {}};
static const struct memory_collection collections[] = {{"run", COLLECTION_RUN}, {}};
static const struct memory_record records[] = {{}};
static const struct memory_dataset datasets[] = {{}};
static const struct memory_description description = {types, collections, records, datasets};

static struct snapshot *snapshot_once(void)
{
    static struct snapshot *s;
    struct memory_world world;
    char *why = NULL;
    if (s)
        return s;
    memory_world_init(&world, &description);
    struct registry *r = memory_world_connect(&world);
    check(registry_snapshot(r, &s, &why) == 0);
    registry_close(r);
    memory_world_release(&world);
    return s;
}

static struct field field_by(enum column_kind kind, uint32_t seed)
{
    if (seed % 5 == 0)
        return (struct field){.kind = FIELD_NULL};
    if (kind == COLUMN_TEXT)
        return (struct field){.kind = FIELD_TEXT, .text = seed % 2 ? TEXT("r") : TEXT("Cam")};
    if (kind == COLUMN_REAL)
        return (struct field){.kind = FIELD_REAL, .real = (double)seed / 4 - 3};
    return (struct field){.kind = FIELD_INTEGER, .integer = (int64_t)seed % 23 - 2};
}

static void check_bounds(const struct where *w, const struct field *fields, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        int64_t low, high;
        where_bounds(w, i, &low, &high);
        check(fields[i].kind != FIELD_INTEGER || (fields[i].integer >= low && fields[i].integer <= high));
    }
}

static void try_fields(const struct where *w, uint32_t seed)
{
    struct field known[WHERE_COLUMNS_MAX], some[WHERE_COLUMNS_MAX];
    uint32_t count;
    const struct where_column *columns = where_columns(w, &count);
    for (uint32_t i = 0; i < count; i++) {
        known[i] = field_by(columns[i].kind, seed * 2654435761u >> (i % 16));
        some[i] = (seed >> i % 32) & 1 ? known[i] : (struct field){.kind = FIELD_OPEN};
    }
    enum truth all = where_test(w, known), part = where_test(w, some);
    check(all != TRUTH_OPEN);
    check(part == TRUTH_OPEN || part == all);
    if (all == TRUTH_TRUE)
        check_bounds(w, known, count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct snapshot *s = snapshot_once();
    struct where *w = NULL;
    char *why = NULL;
    int r = where_parse(s, &s->types[0], (struct text){(const char *)data, size}, &w, &why);
    check(r == 0 || (r == -EINVAL && why && strncmp(why, "at character ", 13) == 0));
    free(why);
    for (uint32_t seed = 0; r == 0 && seed < 40; seed++)
        try_fields(w, seed * 977 + (uint32_t)size);
    where_free(w);
    return 0;
}
