// SPDX-License-Identifier: BSD-3-Clause
// where_parse: from text to a tree, by descent. Words may be in either case; `not` binds stronger than
// `and`, that stronger than `or`. What can't be compared is refused here, as the client refuses it.
// 1. Depth, nodes, items and columns are bounded: the text may be anything.
// 2. The first thing that is wrong is told, with where it stands.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "base/log.h"
#include "meta/where_words.h"

#define DEPTH_MAX 64

// ---- columns --------------------------------------------------------------------------------

static bool is_known(const struct where_parser *p, uint32_t element)
{
    return where_level_of(p->t, element) != INDEX_NONE || where_source_of(p->s, p->t, element) != INDEX_NONE;
}

static const struct column *column_of(const struct element *e, struct text name)
{
    for (uint32_t i = 0; i < e->column_count; i++)
        if (text_equal(e->columns[i].name, name))
            return &e->columns[i];
    return NULL;
}

static void write_known(const struct where_parser *p, struct buffer *to)
{
    for (uint32_t i = 0; i < p->s->element_count; i++) {
        const struct element *e = &p->s->elements[i];
        if (!is_known(p, i))
            continue;
        buffer_format(to, "%s%.*s", to->size_bytes ? ", " : "", (int)e->name.size_bytes, e->name.data);
        for (uint32_t k = 0; e->has_table && k < e->column_count; k++)
            buffer_format(to, ", %.*s.%.*s", (int)e->name.size_bytes, e->name.data,
                          (int)e->columns[k].name.size_bytes, e->columns[k].name.data);
    }
}

static int refuse_key(struct where_parser *p, size_t at, struct text word)
{
    BUFFER_CLEANUP known = {0};
    write_known(p, &known);
    return where_refuse(p, at, "\"%.*s\" is no key of \"%.*s\"; its keys are %s", (int)word.size_bytes, word.data,
                  (int)p->t->name.size_bytes, p->t->name.data, known.size_bytes ? known.data : "none");
}

static int add_column(struct where_parser *p, size_t at, const struct where_column *c, uint32_t *ret_column)
{
    struct where *w = p->w;
    for (uint32_t i = 0; i < w->column_count; i++)
        if (w->columns[i].element == c->element && text_equal(w->columns[i].name, c->name)) {
            *ret_column = i;
            return 0;
        }
    if (w->column_count == WHERE_COLUMNS_MAX)
        return where_refuse(p, at, "more than %d keys", WHERE_COLUMNS_MAX);
    w->columns[w->column_count] = *c;
    *ret_column = w->column_count++;
    return 0;
}

// The value of a dimension itself: of a level, or what another's row implies.
static int add_dimension(struct where_parser *p, size_t at, uint32_t element, uint32_t *ret_column)
{
    const struct element *e = &p->s->elements[element];
    struct where_column c = {.element = element, .level = where_level_of(p->t, element), .name = e->name};
    c.kind = e->kind == VALUE_INTEGER ? COLUMN_INTEGER : COLUMN_TEXT;
    if (c.level == INDEX_NONE)
        c.element = where_source_of(p->s, p->t, element);
    return add_column(p, at, &c, ret_column);
}

static int add_of_element(struct where_parser *p, size_t at, struct text word, uint32_t element, struct text name,
                          uint32_t *ret_column)
{
    const struct element *e = &p->s->elements[element];
    const struct column *own = column_of(e, name);
    if (text_equal(name, e->key_column))
        return add_dimension(p, at, element, ret_column);
    for (uint32_t i = 0; i < e->required_count + e->implied_count; i++) {
        uint32_t other = i < e->required_count ? e->required[i] : e->implied[i - e->required_count];
        if (text_equal(p->s->elements[other].name, name))
            return is_known(p, other) ? add_dimension(p, at, other, ret_column) : refuse_key(p, at, word);
    }
    if (!e->has_table || !own)
        return refuse_key(p, at, word);
    struct where_column c = {.element = element, .level = INDEX_NONE, .name = own->name, .kind = own->kind};
    return add_column(p, at, &c, ret_column);
}

// A column's name alone: of the one element that has it.
static int add_unqualified(struct where_parser *p, size_t at, struct text word, uint32_t *ret_column)
{
    uint32_t found = INDEX_NONE;
    for (uint32_t i = 0; i < p->s->element_count; i++) {
        const struct element *e = &p->s->elements[i];
        if (!is_known(p, i) || !e->has_table || (!column_of(e, word) && !text_equal(e->key_column, word)))
            continue;
        if (found != INDEX_NONE)
            return where_refuse(p, at, "\"%.*s\" is of several dimensions: %.*s.%.*s or %.*s.%.*s?", (int)word.size_bytes,
                          word.data, (int)p->s->elements[found].name.size_bytes, p->s->elements[found].name.data,
                          (int)word.size_bytes, word.data, (int)e->name.size_bytes, e->name.data,
                          (int)word.size_bytes, word.data);
        found = i;
    }
    if (found == INDEX_NONE)
        return refuse_key(p, at, word);
    return add_of_element(p, at, word, found, word, ret_column);
}

static int add_key(struct where_parser *p, size_t at, struct text word, uint32_t *ret_column)
{
    const char *dot = memchr(word.data, '.', word.size_bytes);
    struct text first = dot ? text_slice(word, 0, (size_t)(dot - word.data)) : word;
    const struct element *e = snapshot_element_by_name(p->s, first);
    uint32_t index = e ? (uint32_t)(e - p->s->elements) : INDEX_NONE;
    bool is_known_ = e && is_known(p, index);
    if (!dot && e && (e->is_dimension || is_known_))
        return is_known_ ? add_dimension(p, at, index, ret_column) : refuse_key(p, at, word);
    if (!dot)
        return add_unqualified(p, at, word, ret_column);
    if (!is_known_)
        return refuse_key(p, at, word);
    return add_of_element(p, at, word, index, text_slice(word, first.size_bytes + 1, word.size_bytes), ret_column);
}

// ---- operands -------------------------------------------------------------------------------

static int take_operand(struct where_parser *p, struct where_operand *ret_operand)
{
    *ret_operand = (struct where_operand){.column = INDEX_NONE};
    int r = where_take_literal(p, &ret_operand->literal);
    if (r != 0)
        return r < 0 ? r : 0;
    struct text word = where_peek_word(p);
    if (word.size_bytes == 0 || where_is_word(word, "and") || where_is_word(word, "or") || where_is_word(word, "not") || where_is_word(word, "in"))
        return where_expected(p, "a key, a number or a 'string'");
    size_t at = p->at;
    p->at += word.size_bytes;
    return add_key(p, at, word, &ret_operand->column);
}

// ---- what can be compared -------------------------------------------------------------------

static enum column_kind kind_of(const struct where_parser *p, const struct where_operand *o)
{
    if (o->column != INDEX_NONE)
        return p->w->columns[o->column].kind;
    return o->literal.kind == FIELD_INTEGER ? COLUMN_INTEGER : o->literal.kind == FIELD_REAL ? COLUMN_REAL : COLUMN_TEXT;
}

static bool is_null_literal(const struct where_operand *o)
{
    return o->column == INDEX_NONE && o->literal.kind == FIELD_NULL;
}

static bool is_number(enum column_kind kind)
{
    return kind == COLUMN_INTEGER || kind == COLUMN_REAL;
}

static int check_kinds(struct where_parser *p, size_t at, enum column_kind a, enum column_kind b)
{
    static const char *const names[] = {
        [COLUMN_INTEGER] = "a whole number", [COLUMN_REAL] = "a number", [COLUMN_TEXT] = "a string", [COLUMN_BOOL] = "true or false"};
    if (a != COLUMN_BOOL && ((is_number(a) && is_number(b)) || a == b))
        return 0;
    return where_refuse(p, at, "%s can't be compared with %s", names[a], names[b]);
}

// ---- the tree -------------------------------------------------------------------------------

static int new_node(struct where_parser *p, const struct where_node *n, uint32_t *ret_node)
{
    if (p->w->node_count == WHERE_NODES_MAX)
        return where_refuse(p, p->at, "the expression is too long");
    p->w->nodes[p->w->node_count] = *n;
    *ret_node = p->w->node_count++;
    return 0;
}

static int add_item(struct where_parser *p, struct where_node *n, const struct where_item *item)
{
    struct where *w = p->w;
    if (w->item_count == WHERE_ITEMS_MAX)
        return where_refuse(p, p->at, "more than %d values", WHERE_ITEMS_MAX);
    if (w->item_count == w->item_room) {
        w->item_room = w->item_room ? 2 * w->item_room : 16;
        w->items = memory_grow(w->items, w->item_room, sizeof *w->items);
    }
    w->items[w->item_count++] = *item;
    n->item_count++;
    return 0;
}

// After the first number of a..b:step.
static int take_range(struct where_parser *p, size_t from, const struct where_node *n, struct where_item *item)
{
    struct field last, step = {.kind = FIELD_INTEGER, .integer = 1};
    int r = where_take_literal(p, &last);
    if (r > 0 && where_take_sign(p, ":"))
        r = where_take_literal(p, &step);
    if (r < 0)
        return r;
    if (r == 0 || last.kind != FIELD_INTEGER || step.kind != FIELD_INTEGER || item->literal.kind != FIELD_INTEGER)
        return where_refuse(p, from, "a range is of whole numbers: a..b or a..b:step");
    if (step.integer <= 0 || last.integer < item->literal.integer)
        return where_refuse(p, from, "a range goes up, by a step of 1 or more");
    if (kind_of(p, &n->left) != COLUMN_INTEGER)
        return where_refuse(p, from, "a range is of whole numbers, which this key is not");
    *item = (struct where_item){.first = item->literal.integer, .last = last.integer, .step = step.integer};
    return 0;
}

static int take_item(struct where_parser *p, struct where_node *n)
{
    struct where_item item = {0};
    where_skip_spaces(p);
    size_t from = p->at;
    int r = where_take_literal(p, &item.literal);
    if (r <= 0)
        return r < 0 ? r : where_expected(p, "a number, a range or a 'string'");
    struct where_operand o = {.column = INDEX_NONE, .literal = item.literal};
    if (where_take_sign(p, ".."))
        r = take_range(p, from, n, &item);
    else
        r = item.literal.kind == FIELD_NULL ? 0 : check_kinds(p, from, kind_of(p, &n->left), kind_of(p, &o));
    return r < 0 ? r : add_item(p, n, &item);
}

static int take_in(struct where_parser *p, const struct where_operand *left, bool is_not, uint32_t *ret_node)
{
    struct where_node n = {.kind = WHERE_IN, .left = *left, .first_item = p->w->item_count};
    if (!where_take_sign(p, "("))
        return where_expected(p, "( and a list");
    do {
        int r = take_item(p, &n);
        if (r < 0)
            return r;
    } while (where_take_sign(p, ","));
    if (!where_take_sign(p, ")"))
        return where_expected(p, ", or )");
    int r = new_node(p, &n, ret_node);
    if (r == 0 && is_not)
        r = new_node(p, &(struct where_node){.kind = WHERE_NOT, .a = *ret_node}, ret_node);
    return r;
}

static bool take_comparison(struct where_parser *p, enum where_comparison *ret_how)
{
    static const struct {
        const char *sign;
        enum where_comparison how;
    } signs[] = {{"!=", WHERE_NE}, {"<=", WHERE_LE}, {">=", WHERE_GE}, {"=", WHERE_EQ}, {"<", WHERE_LT}, {">", WHERE_GT}};
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++)
        if (where_take_sign(p, signs[i].sign)) {
            *ret_how = signs[i].how;
            return true;
        }
    return false;
}

static int add_null_test(struct where_parser *p, size_t at, const struct where_operand *o, enum where_comparison how,
                         uint32_t *ret_node)
{
    if (is_null_literal(o) || o->column == INDEX_NONE || (how != WHERE_EQ && how != WHERE_NE))
        return where_refuse(p, at, "null is only compared with a key, by = or !=");
    int r = new_node(p, &(struct where_node){.kind = WHERE_IS_NULL, .left = *o}, ret_node);
    if (r == 0 && how == WHERE_NE)
        r = new_node(p, &(struct where_node){.kind = WHERE_NOT, .a = *ret_node}, ret_node);
    return r;
}

// A column that is true or false stands alone.
static int add_bool(struct where_parser *p, size_t at, const struct where_operand *o, uint32_t *ret_node)
{
    if (kind_of(p, o) != COLUMN_BOOL)
        return where_refuse(p, at, "a comparison was expected: =, !=, <, <=, >, >= or in");
    struct where_node n = {.kind = WHERE_COMPARE, .how = WHERE_NE, .left = *o,
                           .right = {.column = INDEX_NONE, .literal = {.kind = FIELD_INTEGER}}};
    return new_node(p, &n, ret_node);
}

static int take_comparing(struct where_parser *p, uint32_t *ret_node)
{
    struct where_node n = {.kind = WHERE_COMPARE};
    where_skip_spaces(p);
    size_t at = p->at;
    int r = take_operand(p, &n.left);
    if (r < 0)
        return r;
    where_skip_spaces(p);
    size_t sign = p->at;
    if (where_take_word(p, "in"))
        return take_in(p, &n.left, false, ret_node);
    if (where_take_word(p, "not"))
        return where_take_word(p, "in") ? take_in(p, &n.left, true, ret_node) : where_expected(p, "in");
    if (!take_comparison(p, &n.how))
        return n.left.column != INDEX_NONE ? add_bool(p, sign, &n.left, ret_node) : where_expected(p, "a comparison");
    r = take_operand(p, &n.right);
    if (r < 0)
        return r;
    if (is_null_literal(&n.right) || is_null_literal(&n.left))
        return add_null_test(p, at, is_null_literal(&n.right) ? &n.left : &n.right, n.how, ret_node);
    r = check_kinds(p, sign, kind_of(p, &n.left), kind_of(p, &n.right));
    return r < 0 ? r : new_node(p, &n, ret_node);
}

static int take_or(struct where_parser *p, uint32_t *ret_node);

static int take_not(struct where_parser *p, uint32_t *ret_node)
{
    int r;
    if (++p->depth > DEPTH_MAX)
        return where_refuse(p, p->at, "nested deeper than %d", DEPTH_MAX);
    if (where_take_word(p, "not")) {
        r = take_not(p, ret_node);
        if (r == 0)
            r = new_node(p, &(struct where_node){.kind = WHERE_NOT, .a = *ret_node}, ret_node);
    } else if (where_take_sign(p, "(")) {
        r = take_or(p, ret_node);
        if (r == 0 && !where_take_sign(p, ")"))
            r = where_expected(p, ")");
    } else {
        r = take_comparing(p, ret_node);
    }
    p->depth--;
    return r;
}

static int take_and(struct where_parser *p, uint32_t *ret_node)
{
    int r = take_not(p, ret_node);
    while (r == 0 && where_take_word(p, "and")) {
        struct where_node n = {.kind = WHERE_AND, .a = *ret_node};
        r = take_not(p, &n.b);
        if (r == 0)
            r = new_node(p, &n, ret_node);
    }
    return r;
}

static int take_or(struct where_parser *p, uint32_t *ret_node)
{
    int r = take_and(p, ret_node);
    while (r == 0 && where_take_word(p, "or")) {
        struct where_node n = {.kind = WHERE_OR, .a = *ret_node};
        r = take_and(p, &n.b);
        if (r == 0)
            r = new_node(p, &n, ret_node);
    }
    return r;
}

int where_parse(const struct snapshot *s, const struct dataset_type *t, struct text expression,
                struct where **ret_where, char **ret_why)
{
    struct where_parser p = {.s = s, .t = t, .in = expression, .w = new_struct(struct where)};
    buffer_reserve(&p.w->texts, expression.size_bytes);
    where_skip_spaces(&p);
    int r = p.at < p.in.size_bytes ? take_or(&p, &p.w->root) : 0;
    where_skip_spaces(&p);
    if (r == 0 && p.at < p.in.size_bytes)
        r = where_expected(&p, "and, or, or the end");
    if (r < 0) {
        where_free(p.w);
        *ret_why = p.why;
        return r;
    }
    *ret_where = p.w;
    return 0;
}
