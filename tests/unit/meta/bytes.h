// SPDX-License-Identifier: BSD-3-Clause
// bytes: nasty texts for property tests: the same ones in every run.
#pragma once
#include "tests/unit/base/harness.h"

#include "base/buffer.h"

#define assert_text(t, literal) assert_text_is((t), TEXT(literal), __LINE__)

static inline void assert_text_is(struct text t, struct text wanted, int line)
{
    if (!text_equal(t, wanted))
        fail_msg("line %d: \"%.*s\" is not \"%.*s\"", line, (int)t.size_bytes, t.data,
                 (int)wanted.size_bytes, wanted.data);
}

struct chance {
    uint64_t state;
};

static inline uint64_t chance_next(struct chance *c)
{
    c->state += 0x9e3779b97f4a7c15;
    uint64_t z = c->state;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static inline size_t chance_below(struct chance *c, size_t n)
{
    return (size_t)(chance_next(c) % n);
}

// Fewer than `pieces` pieces: what names treat apart, some of UTF-8, any byte.
static inline void chance_text(struct chance *c, size_t pieces, struct buffer *to)
{
    static const struct text nasty[] = {
        TEXT("%"),
        TEXT("."),
        TEXT(".."),
        TEXT("@"),
        TEXT("="),
        TEXT("~"),
        TEXT("_"),
        TEXT("/"),
        TEXT("\0"),
        TEXT("\1"),
        TEXT("\2"),
        TEXT("\x7f"),
        TEXT("%2F"),
        TEXT("%2f"),
        TEXT("\xc3\xa9"),
        TEXT("\xff"),
        TEXT("a"),
        TEXT("raw"),
        TEXT("~0123456789abcdef"),
        TEXT("~0123456789ABCDEF"),
        TEXT("0"),
        TEXT("\xf0\x9f\x94\xad"),
    };
    for (size_t n = chance_below(c, pieces); n > 0; n--) {
        size_t pick = chance_below(c, sizeof(nasty) / sizeof(nasty[0]) + 2);
        if (pick < sizeof(nasty) / sizeof(nasty[0]))
            buffer_append_text(to, nasty[pick]);
        else
            buffer_append_byte(to, (char)chance_next(c));
    }
}
