// SPDX-License-Identifier: BSD-3-Clause
// value: one value of a data ID. Butler's dimensions are keyed by text or by 64-bit integers
// (butler_attributes config:dimensions.json says which). The text is borrowed.
#pragma once
#include <stdint.h>

#include "base/text.h"

enum value_kind { VALUE_INTEGER, VALUE_TEXT };

struct value {
    enum value_kind kind;
    int64_t integer;
    struct text text;
};

static inline struct value value_integer(int64_t i)
{
    return (struct value){.kind = VALUE_INTEGER, .integer = i};
}

static inline struct value value_text(struct text t)
{
    return (struct value){.kind = VALUE_TEXT, .text = t};
}

static inline bool value_equal(const struct value *a, const struct value *b)
{
    return a->kind == b->kind &&
           (a->kind == VALUE_INTEGER ? a->integer == b->integer : text_equal(a->text, b->text));
}

// A value as a dimension's table has it; text is borrowed.
enum field_kind {
    FIELD_OPEN, // not looked up
    FIELD_NULL,
    FIELD_INTEGER,
    FIELD_REAL,
    FIELD_TEXT,
};

struct field {
    enum field_kind kind;
    int64_t integer;
    double real;
    struct text text;
};

static inline struct field field_of(const struct value *v)
{
    if (v->kind == VALUE_INTEGER)
        return (struct field){.kind = FIELD_INTEGER, .integer = v->integer};
    return (struct field){.kind = FIELD_TEXT, .text = v->text};
}

// The most levels a dataset type may have; a registry with more is refused.
#define LEVELS_MAX 24

struct uuid {
    uint8_t bytes[16];
};

#define UUID_TEXT_BYTES 37 // "6ba7b810-9dad-11d1-80b4-00c04fd430c8" and a NUL
