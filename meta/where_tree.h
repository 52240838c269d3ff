// SPDX-License-Identifier: BSD-3-Clause
// where_tree: a parsed expression, as where.c and where_parse.c share it.
#pragma once
#include "meta/where.h"

#define WHERE_NODES_MAX 512
#define WHERE_ITEMS_MAX 4096

enum where_kind { WHERE_OR, WHERE_AND, WHERE_NOT, WHERE_COMPARE, WHERE_IN, WHERE_IS_NULL };
enum where_comparison { WHERE_EQ, WHERE_NE, WHERE_LT, WHERE_LE, WHERE_GT, WHERE_GE };

struct where_operand {
    uint32_t column;      // INDEX_NONE: the literal
    struct field literal; // its text is in `texts`
};

// Of `in`: a literal, or a range with a step.
struct where_item {
    int64_t first, last, step; // step 0: the literal
    struct field literal;
};

struct where_node {
    enum where_kind kind;
    uint32_t a, b;                     // OR, AND, NOT
    enum where_comparison how;         // COMPARE
    struct where_operand left, right;  // COMPARE; IN, IS_NULL: left
    uint32_t first_item, item_count;   // IN
};

struct where {
    uint32_t root, node_count;
    struct where_node nodes[WHERE_NODES_MAX];
    struct where_item *items;
    uint32_t item_count, item_room;
    struct where_column columns[WHERE_COLUMNS_MAX];
    uint32_t column_count;
    struct buffer texts; // reserved once
};
