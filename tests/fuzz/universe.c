// SPDX-License-Identifier: BSD-3-Clause
// Any text as a dimension universe, any tables and any dataset types in it. Lines, after a first one
// that is the universe: "t TABLE COLUMN..." and "d NAME COLUMN...". What comes out keeps the
// snapshot's promises: dependencies stand before what needs them, levels differ, each column has one.
// Found when planted: an element placed before what it implies; a dimension that a table has twice; a
// day_obs level beside a required one; one level more than there is room for.
#include <stdint.h>

#include "base/log.h"
#include "meta/snapshot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define WORDS_MAX 40

static struct text next_line(struct text *rest)
{
    const char *end = rest->size_bytes ? memchr(rest->data, '\n', rest->size_bytes) : NULL;
    size_t size = end ? (size_t)(end - rest->data) : rest->size_bytes;
    struct text line = text_slice(*rest, 0, size);
    *rest = text_slice(*rest, end ? size + 1 : size, rest->size_bytes);
    return line;
}

static size_t split(struct text line, struct text *words)
{
    size_t count = 0, from = 0;
    for (size_t i = 0; i <= line.size_bytes && count < WORDS_MAX; i++)
        if (i == line.size_bytes || line.data[i] == ' ') {
            words[count++] = text_slice(line, from, i);
            from = i + 1;
        }
    return count;
}

static void check_elements(const struct snapshot *s)
{
    for (uint32_t i = 0; i < s->element_count; i++) {
        const struct element *e = &s->elements[i];
        check(snapshot_element_by_name(s, e->name) == e);
        for (uint32_t k = 0; k < e->required_count; k++)
            check(e->required[k] <= i && (k == 0 || e->required[k - 1] < e->required[k]));
        check(!e->is_dimension || e->required[e->required_count - 1] == i);
        for (uint32_t k = 0; k < e->implied_count; k++)
            check(e->implied[k] < i);
    }
}

static void check_type(const struct snapshot *s, const struct dataset_type *t)
{
    bool has_column[LEVELS_MAX] = {false};
    check(snapshot_type_by_name(s, t->name) == t);
    if (!t->is_readable)
        return;
    check(t->level_count <= LEVELS_MAX);
    for (uint32_t i = 0; i < t->required_count; i++) {
        check(t->columns[i] < t->level_count && !t->levels[t->columns[i]].is_implied);
        check(!has_column[t->columns[i]]);
        has_column[t->columns[i]] = true;
    }
    for (uint32_t i = 0; i < t->level_count; i++) {
        check(t->levels[i].element < s->element_count);
        check(has_column[i] != t->levels[i].is_implied);
        check(!t->levels[i].is_implied || (i + 1 < t->level_count && t->day_obs_source != INDEX_NONE));
        for (uint32_t k = 0; k < i; k++)
            check(t->levels[k].element != t->levels[i].element);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct text rest = {(const char *)data, size}, words[WORDS_MAX];
    struct snapshot *s = snapshot_new();
    char *why = NULL;
    if (snapshot_add_universe(s, next_line(&rest), &why) < 0) {
        check(why && *why);
        free(why);
        snapshot_unref(s);
        return 0;
    }
    for (int64_t id = 0; rest.size_bytes; id++) {
        size_t count = split(next_line(&rest), words);
        if (count >= 2 && text_equal(words[0], TEXT("t")))
            snapshot_add_element_table(s, words[1], words + 2, count - 2);
        else if (count >= 2)
            snapshot_add_type(s, id, words[1], TEXT(""), words[0], TEXT(""), words + 2, count - 2);
    }
    check(snapshot_seal(s, &why) == 0);
    check_elements(s);
    for (uint32_t i = 0; i < s->type_count; i++)
        check_type(s, &s->types[i]);
    snapshot_unref(s);
    return 0;
}
