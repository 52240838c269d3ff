// SPDX-License-Identifier: BSD-3-Clause
// where: what an expression is worth, and which dimensions a data ID has.
// 1. Three-valued as in SQL, and a fourth for what isn't looked up yet: an answer that isn't TRUTH_OPEN
//    stays, whatever the open fields turn out to be.
#include "meta/where.h"

#include "base/log.h"
#include "meta/where_tree.h"

uint32_t where_level_of(const struct dataset_type *t, uint32_t element)
{
    for (uint32_t i = 0; i < t->level_count; i++)
        if (t->levels[i].element == element)
            return i;
    return INDEX_NONE;
}

static bool has_row(const struct snapshot *s, const struct dataset_type *t, uint32_t element, uint32_t depth);

// Implications are few levels deep; the bound is for a universe that isn't.
#define IMPLIED_DEPTH 8

static uint32_t source_of(const struct snapshot *s, const struct dataset_type *t, uint32_t element, uint32_t depth)
{
    for (uint32_t i = 0; depth < IMPLIED_DEPTH && i < s->element_count; i++) {
        const struct element *e = &s->elements[i];
        for (uint32_t k = 0; e->has_table && k < e->implied_count; k++)
            if (e->implied[k] == element && has_row(s, t, i, depth + 1))
                return i;
    }
    return INDEX_NONE;
}

// Whether a data ID finds a row of the element's.
static bool has_row(const struct snapshot *s, const struct dataset_type *t, uint32_t element, uint32_t depth)
{
    const struct element *e = &s->elements[element];
    if (!e->is_dimension)
        return false;
    for (uint32_t i = 0; i < e->required_count; i++)
        if (where_level_of(t, e->required[i]) == INDEX_NONE && source_of(s, t, e->required[i], depth) == INDEX_NONE)
            return false;
    return true;
}

uint32_t where_source_of(const struct snapshot *s, const struct dataset_type *t, uint32_t element)
{
    return source_of(s, t, element, 0);
}

// Values.

static int order_numbers(const struct field *a, const struct field *b)
{
    if (a->kind == FIELD_INTEGER && b->kind == FIELD_INTEGER)
        return (a->integer > b->integer) - (a->integer < b->integer);
    long double x = a->kind == FIELD_INTEGER ? (long double)a->integer : (long double)a->real;
    long double y = b->kind == FIELD_INTEGER ? (long double)b->integer : (long double)b->real;
    return (x > y) - (x < y);
}

static enum truth compare(enum where_comparison how, const struct field *a, const struct field *b)
{
    if (a->kind == FIELD_NULL || b->kind == FIELD_NULL)
        return TRUTH_NULL;
    if (a->kind == FIELD_OPEN || b->kind == FIELD_OPEN)
        return TRUTH_OPEN;
    if ((a->kind == FIELD_TEXT) != (b->kind == FIELD_TEXT))
        return TRUTH_NULL; // a database may hold anything
    int order = a->kind == FIELD_TEXT ? text_compare(a->text, b->text) : order_numbers(a, b);
    bool is_so = (how == WHERE_EQ && order == 0) || (how == WHERE_NE && order != 0) || (how == WHERE_LT && order < 0) ||
                 (how == WHERE_LE && order <= 0) || (how == WHERE_GT && order > 0) || (how == WHERE_GE && order >= 0);
    return is_so ? TRUTH_TRUE : TRUTH_FALSE;
}

static const struct field *operand(const struct where_operand *o, const struct field *fields)
{
    return o->column == INDEX_NONE ? &o->literal : &fields[o->column];
}

static enum truth in_range(const struct field *f, const struct where_item *item)
{
    if (f->kind == FIELD_NULL)
        return TRUTH_NULL;
    if (f->kind == FIELD_OPEN)
        return TRUTH_OPEN;
    if (f->kind != FIELD_INTEGER)
        return TRUTH_FALSE;
    bool is_in = f->integer >= item->first && f->integer <= item->last &&
                 (uint64_t)(f->integer - item->first) % (uint64_t)item->step == 0;
    return is_in ? TRUTH_TRUE : TRUTH_FALSE;
}

static enum truth is_null(const struct field *f)
{
    return f->kind == FIELD_OPEN ? TRUTH_OPEN : f->kind == FIELD_NULL ? TRUTH_TRUE : TRUTH_FALSE;
}

static enum truth either(enum truth a, enum truth b)
{
    return a > b ? a : b; // true, open, null, false
}

static enum truth both(enum truth a, enum truth b)
{
    if (a == TRUTH_FALSE || b == TRUTH_FALSE)
        return TRUTH_FALSE;
    if (a == TRUTH_OPEN || b == TRUTH_OPEN)
        return TRUTH_OPEN;
    return a == TRUTH_NULL || b == TRUTH_NULL ? TRUTH_NULL : TRUTH_TRUE;
}

static enum truth negated(enum truth a)
{
    return a == TRUTH_TRUE ? TRUTH_FALSE : a == TRUTH_FALSE ? TRUTH_TRUE : a;
}

static enum truth test_in(const struct where *w, const struct where_node *n, const struct field *fields)
{
    enum truth found = TRUTH_FALSE;
    const struct field *f = operand(&n->left, fields);
    for (uint32_t i = n->first_item; i < n->first_item + n->item_count && found != TRUTH_TRUE; i++) {
        const struct where_item *item = &w->items[i];
        enum truth is_it = item->step ? in_range(f, item)
                           : item->literal.kind == FIELD_NULL ? is_null(f) : compare(WHERE_EQ, f, &item->literal);
        found = either(found, is_it);
    }
    return found;
}

static enum truth test_node(const struct where *w, uint32_t at, const struct field *fields)
{
    const struct where_node *n = &w->nodes[at];
    switch (n->kind) {
    case WHERE_OR:
        return either(test_node(w, n->a, fields), test_node(w, n->b, fields));
    case WHERE_AND:
        return both(test_node(w, n->a, fields), test_node(w, n->b, fields));
    case WHERE_NOT:
        return negated(test_node(w, n->a, fields));
    case WHERE_COMPARE:
        return compare(n->how, operand(&n->left, fields), operand(&n->right, fields));
    case WHERE_IS_NULL:
        return is_null(operand(&n->left, fields));
    case WHERE_IN:
        return test_in(w, n, fields);
    }
    return TRUTH_NULL;
}

enum truth where_test(const struct where *w, const struct field *fields)
{
    return w->node_count ? test_node(w, w->root, fields) : TRUTH_TRUE;
}

// Bounds.

static void narrow(int64_t low, int64_t high, int64_t *ret_low, int64_t *ret_high)
{
    *ret_low = low > *ret_low ? low : *ret_low;
    *ret_high = high < *ret_high ? high : *ret_high;
}

static void bound_compare(enum where_comparison how, int64_t n, int64_t *ret_low, int64_t *ret_high)
{
    if (how == WHERE_EQ)
        narrow(n, n, ret_low, ret_high);
    else if (how == WHERE_LT || how == WHERE_LE)
        narrow(INT64_MIN, n, ret_low, ret_high);
    else if (how == WHERE_GT || how == WHERE_GE)
        narrow(n, INT64_MAX, ret_low, ret_high);
}

static enum where_comparison turned(enum where_comparison how)
{
    static const enum where_comparison other[] = {[WHERE_EQ] = WHERE_EQ, [WHERE_NE] = WHERE_NE,
                                                  [WHERE_LT] = WHERE_GT, [WHERE_LE] = WHERE_GE,
                                                  [WHERE_GT] = WHERE_LT, [WHERE_GE] = WHERE_LE};
    return other[how];
}

static void bound_items(const struct where *w, const struct where_node *n, int64_t *ret_low, int64_t *ret_high)
{
    int64_t low = INT64_MAX, high = INT64_MIN;
    for (uint32_t i = n->first_item; i < n->first_item + n->item_count; i++) {
        const struct where_item *item = &w->items[i];
        if (!item->step && item->literal.kind != FIELD_INTEGER)
            return;
        int64_t first = item->step ? item->first : item->literal.integer;
        int64_t last = item->step ? item->last : item->literal.integer;
        low = first < low ? first : low;
        high = last > high ? last : high;
    }
    narrow(low, high, ret_low, ret_high);
}

static void bound_node(const struct where *w, uint32_t at, uint32_t column, int64_t *ret_low, int64_t *ret_high)
{
    const struct where_node *n = &w->nodes[at];
    if (n->kind == WHERE_AND) {
        bound_node(w, n->a, column, ret_low, ret_high);
        bound_node(w, n->b, column, ret_low, ret_high);
    } else if (n->kind == WHERE_COMPARE && n->left.column == column && n->right.column == INDEX_NONE &&
               n->right.literal.kind == FIELD_INTEGER) {
        bound_compare(n->how, n->right.literal.integer, ret_low, ret_high);
    } else if (n->kind == WHERE_COMPARE && n->right.column == column && n->left.column == INDEX_NONE &&
               n->left.literal.kind == FIELD_INTEGER) {
        bound_compare(turned(n->how), n->left.literal.integer, ret_low, ret_high);
    } else if (n->kind == WHERE_IN && n->left.column == column) {
        bound_items(w, n, ret_low, ret_high);
    }
}

void where_bounds(const struct where *w, uint32_t column, int64_t *ret_low, int64_t *ret_high)
{
    *ret_low = INT64_MIN;
    *ret_high = INT64_MAX;
    if (w->node_count)
        bound_node(w, w->root, column, ret_low, ret_high);
}

const struct where_column *where_columns(const struct where *w, uint32_t *ret_count)
{
    *ret_count = w->column_count;
    return w->columns;
}

void where_free(struct where *w)
{
    if (!w)
        return;
    buffer_release(&w->texts);
    free(w->items);
    free(w);
}
