// SPDX-License-Identifier: BSD-3-Clause
// bucket_order: whether a server lists keys in an order in which those of a folder come together: that of their bytes, which S3
// promises, or that of a tree's walk (by parts, `a/z` before `a-b`), as servers over file systems have it.
#pragma once
#include "base/buffer.h"

struct key_order {
    struct buffer last;
    bool breaks_bytes, breaks_parts;
};

// As if '/' were the least of bytes.
static inline int order_by_parts(struct text a, struct text b)
{
    size_t n = a.size_bytes < b.size_bytes ? a.size_bytes : b.size_bytes, at = 0;
    while (at < n && a.data[at] == b.data[at])
        at++;
    if (at == n)
        return (a.size_bytes > b.size_bytes) - (a.size_bytes < b.size_bytes);
    if (a.data[at] == '/' || b.data[at] == '/')
        return a.data[at] == '/' ? -1 : 1;
    return (unsigned char)a.data[at] < (unsigned char)b.data[at] ? -1 : 1;
}

// false: there was no order in what came until now.
static inline bool key_order_take(struct key_order *o, struct text key)
{
    struct text last = buffer_text(&o->last);
    o->breaks_bytes |= text_compare(key, last) < 0;
    o->breaks_parts |= order_by_parts(key, last) < 0;
    buffer_clear(&o->last);
    buffer_append_text(&o->last, key);
    return !o->breaks_bytes || !o->breaks_parts;
}

static inline void key_order_release(struct key_order *o)
{
    buffer_release(&o->last);
}
