// SPDX-License-Identifier: BSD-3-Clause
// Any bytes as a key: refused or read, and what was read whole is written the same. And as two
// texts: their keys sort as they do.
// Found when planted: 0x02 not escaped; a hash read behind the key's end; a byte read there.
#include <stdint.h>

#include "base/log.h"
#include "meta/key.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_read(struct text bytes)
{
    BUFFER_CLEANUP store = {0};
    buffer_reserve(&store, bytes.size_bytes);
    for (size_t offset = 0;;) {
        struct value v;
        struct key again = {0};
        bool cut;
        size_t before = offset;
        int size_bytes = key_value_size(bytes, offset);
        int r = key_read(bytes, &offset, &v, &cut, &store);
        check((r < 0) == (size_bytes < 0));
        if (r < 0)
            return;
        check(offset == before + (size_t)size_bytes && offset <= bytes.size_bytes);
        if (cut)
            continue;
        check(!key_append(&again, &v, 1));
        check(text_equal(key_text(&again), text_slice(bytes, before, offset)));
    }
}

static void fuzz_order(struct text a, struct text b, size_t levels)
{
    struct value va = value_text(a), vb = value_text(b);
    struct key ka = {0}, kb = {0};
    bool cut_a = key_append(&ka, &va, levels), cut_b = key_append(&kb, &vb, levels);
    check(ka.size_bytes <= (KEY_BYTES_MAX - KEY_RANGE_BYTES) / levels);
    int order = text_compare(key_text(&ka), key_text(&kb)), wanted = text_compare(a, b);
    check((order == 0) == (wanted == 0));
    check(text_begins(key_text(&ka), key_text(&kb)) == (wanted == 0));
    if (!cut_a || !cut_b)
        check((order < 0) == (wanted < 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct text t = {(const char *)data + 2, size - 2};
    fuzz_read(t);
    size_t half = data[0] < t.size_bytes ? data[0] : t.size_bytes;
    fuzz_order(text_slice(t, 0, half), text_slice(t, half, t.size_bytes), 1 + data[1] % LEVELS_MAX);
    return 0;
}
