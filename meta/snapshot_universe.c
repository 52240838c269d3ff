// SPDX-License-Identifier: BSD-3-Clause
// The dimension universe: read from config:dimensions.json, put in the client's order, completed by
// what introspection finds of the dimension tables; and from it the levels of a dataset type.
//
// The client orders a universe in rounds: all elements whose dependencies were placed in earlier
// rounds, sorted by name. A pixelization system ("htm") is one such element and then stands for its
// levels ("htm1", "htm2", ...).
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/doc.h"
#include "base/log.h"
#include "meta/snapshot_internal.h"

#define NODES_MAX 1024
#define SKYPIX_LEVEL_MAX 30

struct node {
    struct text name;
    const struct doc *doc;
    bool is_skypix;
    bool is_done;
    bool is_ready; // in this round
};

struct universe {
    struct snapshot *s;
    struct node *nodes;
    uint32_t node_count;
    uint32_t room; // of s->elements
    struct text bad; // the element that is not as it must be
};

static int refuse(struct universe *u, struct text name)
{
    u->bad = name;
    return -EBADMSG;
}

static int order_nodes(const void *a, const void *b)
{
    return text_compare(((const struct node *)a)->name, ((const struct node *)b)->name);
}

static int add_nodes(struct universe *u, const struct doc *map, bool is_skypix)
{
    for (size_t i = 0; i < doc_count(map); i++) {
        struct text name = doc_key(map, i);
        const struct doc *item = doc_item(map, i);
        if (is_skypix && text_equal(name, TEXT("common")))
            continue;
        if (is_skypix && text_equal(name, TEXT("systems"))) {
            int r = add_nodes(u, item, true);
            if (r < 0)
                return r;
            continue;
        }
        if (doc_kind(item) != DOC_MAP || name.size_bytes == 0 || name.size_bytes > 64 ||
            memchr(name.data, 0, name.size_bytes) || u->node_count == NODES_MAX)
            return refuse(u, name);
        u->nodes[u->node_count++] =
            (struct node){.name = name, .doc = item, .is_skypix = is_skypix};
    }
    return 0;
}

static bool waits_for(const struct universe *u, const struct doc *names)
{
    for (size_t i = 0; i < doc_count(names); i++) {
        struct text name = doc_text(doc_item(names, i), TEXT(""));
        for (uint32_t k = 0; k < u->node_count; k++)
            if (!u->nodes[k].is_done && text_equal(u->nodes[k].name, name))
                return true;
    }
    return false;
}

static struct element *element_new(struct universe *u, struct text name)
{
    struct snapshot *s = u->s;
    if (s->element_count == u->room) {
        u->room = u->room ? u->room * 2 : 64;
        s->elements = memory_grow(s->elements, u->room, sizeof *s->elements);
    }
    struct element *e = &s->elements[s->element_count++];
    *e = (struct element){.name = snapshot_text(s, name)};
    return e;
}

static uint32_t element_index(const struct snapshot *s, struct text name)
{
    const struct element *e = snapshot_element_by_name(s, name);
    return e ? (uint32_t)(e - s->elements) : INDEX_NONE;
}

// A list of the marked elements, in the universe's order.
static uint32_t *marked_list(struct snapshot *s, const uint8_t *marks, uint32_t *ret_count)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < s->element_count; i++)
        count += marks[i];
    uint32_t *list = snapshot_memory(s, (count + 1) * sizeof *list);
    count = 0;
    for (uint32_t i = 0; i < s->element_count; i++)
        if (marks[i])
            list[count++] = i;
    *ret_count = count;
    return list;
}

// Marks the elements that are named and, `with_required`, what they in turn require.
static int mark_names(struct universe *u, const struct doc *names, bool with_required,
                      uint8_t *marks)
{
    struct snapshot *s = u->s;
    for (size_t i = 0; i < doc_count(names); i++) {
        struct text name = doc_text(doc_item(names, i), TEXT(""));
        uint32_t index = element_index(s, name);
        if (index == INDEX_NONE)
            return refuse(u, name);
        marks[index] = 1;
        const struct element *e = &s->elements[index];
        for (uint32_t k = 0; with_required && k < e->required_count; k++)
            marks[e->required[k]] = 1;
    }
    return 0;
}

static void add_columns(struct universe *u, struct element *e, const struct doc *list, size_t from)
{
    static const struct {
        const char *name;
        enum column_kind kind;
    } kinds[] = {{"int", COLUMN_INTEGER}, {"long", COLUMN_INTEGER}, {"float", COLUMN_REAL},
                 {"string", COLUMN_TEXT}, {"bool", COLUMN_BOOL}};
    for (size_t i = from; i < doc_count(list); i++) {
        struct text name = doc_text(doc_get(doc_item(list, i), "name"), TEXT(""));
        struct text type = doc_text(doc_get(doc_item(list, i), "type"), TEXT(""));
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
            if (name.size_bytes && !memchr(name.data, 0, name.size_bytes) && text_equal(type, text_of(kinds[k].name)))
                e->columns[e->column_count++] = (struct column){snapshot_text(u->s, name), kinds[k].kind};
    }
}

static int place_element(struct universe *u, const struct node *n)
{
    struct snapshot *s = u->s;
    const struct doc *key = doc_item(doc_get(n->doc, "keys"), 0);
    struct text type = doc_text(doc_get(key, "type"), TEXT(""));
    struct element *e = element_new(u, n->name);
    bool is_integer = text_equal(type, TEXT("int")) || text_equal(type, TEXT("long"));
    e->kind = is_integer ? VALUE_INTEGER : VALUE_TEXT;
    e->is_dimension = is_integer || text_equal(type, TEXT("string"));
    e->table = e->name;
    e->key_column = snapshot_text(s, doc_text(doc_get(key, "name"), TEXT("")));
    if (e->is_dimension &&
        (e->key_column.size_bytes == 0 || memchr(e->key_column.data, 0, e->key_column.size_bytes)))
        return refuse(u, n->name);
    e->columns = snapshot_memory(s, (doc_count(doc_get(n->doc, "keys")) + doc_count(doc_get(n->doc, "metadata")) + 1) *
                                        sizeof *e->columns);
    add_columns(u, e, doc_get(n->doc, "keys"), 1);
    add_columns(u, e, doc_get(n->doc, "metadata"), 0);
    uint8_t *marks = memory_new(s->element_count);
    int r = mark_names(u, doc_get(n->doc, "requires"), true, marks);
    marks[s->element_count - 1] = e->is_dimension;
    if (r == 0) {
        e->required = marked_list(s, marks, &e->required_count);
        memset(marks, 0, s->element_count);
        r = mark_names(u, doc_get(n->doc, "implies"), false, marks);
    }
    if (r == 0)
        e->implied = marked_list(s, marks, &e->implied_count);
    free(marks);
    return r;
}

static int place_skypix(struct universe *u, const struct node *n)
{
    struct snapshot *s = u->s;
    int64_t from = doc_integer(doc_get(n->doc, "min_level"), 1);
    int64_t to = doc_integer(doc_get(n->doc, "max_level"), 24);
    if (from < 0 || to < from || to > SKYPIX_LEVEL_MAX)
        return refuse(u, n->name);
    for (int64_t level = from; level <= to; level++) {
        char name[96];
        int size = snprintf(name, sizeof name, "%.*s%d", (int)n->name.size_bytes, n->name.data,
                            (int)level);
        struct element *e = element_new(u, (struct text){name, (size_t)size});
        e->is_dimension = true;
        e->kind = VALUE_INTEGER;
        e->table = TEXT("");
        e->key_column = TEXT("");
        e->skypix_system = snapshot_text(s, n->name);
        e->required = snapshot_memory(s, sizeof *e->required);
        e->required[0] = s->element_count - 1;
        e->required_count = 1;
    }
    return 0;
}

static int place_all(struct universe *u)
{
    qsort(u->nodes, u->node_count, sizeof *u->nodes, order_nodes);
    for (uint32_t left = u->node_count; left > 0;) {
        uint32_t placed = 0;
        for (uint32_t i = 0; i < u->node_count; i++) {
            struct node *n = &u->nodes[i];
            n->is_ready = !n->is_done && !waits_for(u, doc_get(n->doc, "requires")) &&
                          !waits_for(u, doc_get(n->doc, "implies"));
        }
        for (uint32_t i = 0; i < u->node_count; i++) {
            struct node *n = &u->nodes[i];
            if (!n->is_ready)
                continue;
            if (snapshot_element_by_name(u->s, n->name))
                return refuse(u, n->name);
            int r = n->is_skypix ? place_skypix(u, n) : place_element(u, n);
            if (r < 0)
                return r;
            n->is_done = true;
            placed++;
        }
        if (placed == 0)
            return refuse(u, TEXT("a cycle of dependencies"));
        left -= placed;
    }
    return 0;
}

static void add_day_obs(struct universe *u)
{
    if (element_index(u->s, TEXT("day_obs")) != INDEX_NONE)
        return;
    struct element *e = element_new(u, TEXT("day_obs"));
    e->kind = VALUE_INTEGER;
    e->table = TEXT("");
    e->key_column = TEXT("");
}

int snapshot_add_universe(struct snapshot *s, struct text dimensions_json, char **ret_why)
{
    check(s->builder && !s->builder->has_universe);
    __attribute__((__cleanup__(cleanup_doc_free))) struct doc *doc = NULL;
    cleanup(cleanup_free) char *why = NULL;
    if (doc_parse_json(dimensions_json, &doc, &why) < 0) {
        if (asprintf(ret_why, "its dimension universe is not JSON: %s", why ? why : "too large") < 0)
            abort();
        return -EBADMSG;
    }
    struct universe u = {.s = s, .nodes = memory_new(NODES_MAX * sizeof(struct node))};
    const struct doc *elements = doc_get(doc, "elements");
    int r = doc_count(elements) ? add_nodes(&u, elements, false) : refuse(&u, TEXT("elements"));
    if (r == 0)
        r = add_nodes(&u, doc_get(doc, "skypix"), true);
    if (r == 0)
        r = place_all(&u);
    if (r == 0) {
        add_day_obs(&u);
        s->builder->has_universe = true;
    } else if (asprintf(ret_why, "its dimension universe is not as it must be: %.*s",
                        (int)u.bad.size_bytes, u.bad.data) < 0) {
        abort();
    }
    free(u.nodes);
    return r;
}

static bool has_column(const struct text *columns, size_t count, struct text name)
{
    for (size_t i = 0; i < count; i++)
        if (text_equal(columns[i], name))
            return true;
    return false;
}

int snapshot_add_element_table(struct snapshot *s, struct text table, const struct text *columns,
                               size_t count)
{
    check(s->builder && s->builder->has_universe);
    uint32_t index = element_index(s, table);
    if (index == INDEX_NONE || s->elements[index].table.size_bytes == 0)
        return -EBADMSG;
    struct element *e = &s->elements[index];
    if (e->is_dimension && !has_column(columns, count, e->key_column))
        return -EBADMSG;
    for (uint32_t i = 0; i < e->required_count; i++)
        if (e->required[i] != index &&
            !has_column(columns, count, s->elements[e->required[i]].name))
            return -EBADMSG;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < e->implied_count; i++)
        if (has_column(columns, count, s->elements[e->implied[i]].name))
            e->implied[kept++] = e->implied[i];
    e->implied_count = kept;
    uint32_t columns_kept = 0;
    for (uint32_t i = 0; i < e->column_count; i++)
        if (has_column(columns, count, e->columns[i].name))
            e->columns[columns_kept++] = e->columns[i];
    e->column_count = columns_kept;
    e->has_table = true;
    e->has_day_obs = (text_equal(table, TEXT("exposure")) || text_equal(table, TEXT("visit"))) &&
                     has_column(columns, count, TEXT("day_obs"));
    e->has_timespan = has_column(columns, count, TEXT("timespan")) || // PostgreSQL's
                      (has_column(columns, count, TEXT("timespan_begin")) &&
                       has_column(columns, count, TEXT("timespan_end")));
    return 0;
}

// ---------------------------------------------------------------------------------------------
// Levels: the tree's order (tree.md), then the universe's.

static uint32_t level_rank(const struct snapshot *s, uint32_t element)
{
    static const char *const order[] = {
        "instrument", "skymap",  "tract",    "patch", "band",     "physical_filter",
        "group",      "day_obs", "exposure", "visit", "detector", "subfilter",
    };
    const uint32_t count = sizeof order / sizeof *order;
    for (uint32_t i = 0; i < count; i++)
        if (text_equal(s->elements[element].name, text_of(order[i])))
            return i;
    return count + element;
}

// The dimension of the type that implies its day_obs: exposure or else visit, whose table says it.
static uint32_t find_day_obs_source(const struct snapshot *s, const struct dataset_type *t)
{
    static const char *const sources[] = {"exposure", "visit"};
    for (size_t k = 0; k < 2; k++)
        for (uint32_t i = 0; i < t->level_count; i++) {
            const struct element *e = &s->elements[t->levels[i].element];
            if (e->has_table && e->has_day_obs && text_equal(e->name, text_of(sources[k])))
                return t->levels[i].element;
        }
    return INDEX_NONE;
}

static bool has_level(const struct dataset_type *t, uint32_t element)
{
    for (uint32_t i = 0; i < t->level_count; i++)
        if (t->levels[i].element == element)
            return true;
    return false;
}

static void insert_level(const struct snapshot *s, struct dataset_type *t, struct level level)
{
    uint32_t rank = level_rank(s, level.element), at = t->level_count;
    while (at > 0 && level_rank(s, t->levels[at - 1].element) > rank)
        at--;
    memmove(&t->levels[at + 1], &t->levels[at], (t->level_count - at) * sizeof *t->levels);
    t->levels[at] = level;
    t->level_count++;
}

int snapshot_type_levels(struct snapshot *s, struct dataset_type *t, const struct text *columns,
                         size_t count)
{
    if (count >= LEVELS_MAX) // one is kept for day_obs
        return -EBADMSG;
    for (size_t i = 0; i < count; i++) {
        uint32_t element = element_index(s, columns[i]);
        if (element == INDEX_NONE || !s->elements[element].is_dimension || has_level(t, element))
            return -EBADMSG;
        insert_level(s, t, (struct level){element, false});
    }
    t->required_count = t->level_count;
    uint32_t day_obs = element_index(s, TEXT("day_obs"));
    if (day_obs != INDEX_NONE && !has_level(t, day_obs)) {
        t->day_obs_source = find_day_obs_source(s, t);
        if (t->day_obs_source != INDEX_NONE)
            insert_level(s, t, (struct level){day_obs, true});
    }
    for (size_t i = 0; i < count; i++)
        for (uint32_t k = 0; k < t->level_count; k++)
            if (text_equal(s->elements[t->levels[k].element].name, columns[i]))
                t->columns[i] = k;
    return 0;
}
