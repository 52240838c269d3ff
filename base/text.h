// SPDX-License-Identifier: BSD-3-Clause
// text: counted bytes that somebody else owns. Names from a registry may hold any byte, NUL too, so
// nothing here stops at one. A `struct text` is passed by value and is valid as long as its owner.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct text {
    const char *data;
    size_t size_bytes;
};

#define TEXT(literal) ((struct text){(literal), sizeof(literal) - 1})

static inline struct text text_of(const char *string)
{
    return (struct text){string, string ? strlen(string) : 0};
}

// From byte `from` up to, not including, byte `to`; from <= to <= size_bytes.
static inline struct text text_slice(struct text t, size_t from, size_t to)
{
    return (struct text){from ? t.data + from : t.data, to - from};
}

// An empty text may have NULL data, which memcmp may not be given.
static inline bool text_equal(struct text a, struct text b)
{
    return a.size_bytes == b.size_bytes &&
           (a.size_bytes == 0 || memcmp(a.data, b.data, a.size_bytes) == 0);
}

// Bytewise order, the shorter first where one begins the other.
static inline int text_compare(struct text a, struct text b)
{
    size_t n = a.size_bytes < b.size_bytes ? a.size_bytes : b.size_bytes;
    int order = n ? memcmp(a.data, b.data, n) : 0;
    return order ? order : (a.size_bytes > b.size_bytes) - (a.size_bytes < b.size_bytes);
}

static inline bool text_begins(struct text t, struct text prefix)
{
    return t.size_bytes >= prefix.size_bytes &&
           text_equal(text_slice(t, 0, prefix.size_bytes), prefix);
}

static inline bool text_ends(struct text t, struct text suffix)
{
    return t.size_bytes >= suffix.size_bytes &&
           text_equal(text_slice(t, t.size_bytes - suffix.size_bytes, t.size_bytes), suffix);
}
