// SPDX-License-Identifier: BSD-3-Clause
// where_words: the text of an expression while it is read, for where_parse.c. What is "taken" is behind
// `at` afterwards; spaces before it are skipped.
#pragma once
#include "meta/where_tree.h"

struct where_parser {
    const struct snapshot *s;
    const struct dataset_type *t;
    struct text in;
    size_t at;
    unsigned depth;
    struct where *w;
    char *why;
};

// Tells the first thing that is wrong, at this place. -EINVAL.
int where_refuse(struct where_parser *p, size_t at, const char *format, ...) __attribute__((format(printf, 3, 4)));
int where_expected(struct where_parser *p, const char *what);

void where_skip_spaces(struct where_parser *p);
char where_peek(const struct where_parser *p, size_t ahead);     // 0: the end
struct text where_peek_word(struct where_parser *p);             // with its dots, not taken
bool where_is_word(struct text word, const char *wanted);        // in either case
bool where_take_word(struct where_parser *p, const char *wanted);
bool where_take_sign(struct where_parser *p, const char *wanted);
// 1: there is one; 0: something else stands there; -EINVAL, told. Texts are in w->texts.
int where_take_literal(struct where_parser *p, struct field *ret_field);
