// SPDX-License-Identifier: BSD-3-Clause
// Any bytes as values and as names: what is written is a name a folder can hold, and reads back as
// the value; what is read is written the same. The first byte says how the rest is taken.
// Found when planted: `~` not escaped before a hash; a reader that doesn't compare with the writer;
// a name cut inside an escape.
#include <stdint.h>

#include "base/log.h"
#include "meta/name.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_name(const struct buffer *name, size_t size_max_bytes)
{
    struct text t = buffer_text(name);
    check(t.size_bytes > 0 && t.size_bytes <= size_max_bytes && strlen(name->data) == t.size_bytes);
    check(!strchr(name->data, '/') && !text_equal(t, TEXT(".")) && !text_equal(t, TEXT("..")));
}

static void fuzz_escape(enum name_place place, struct text t)
{
    BUFFER_CLEANUP name = {0}, raw = {0}, again = {0};
    name_escape(place, t, &name);
    check_name(&name, SIZE_MAX);
    check(!name_is_shortened(buffer_text(&name)));
    check(name_unescape(place, buffer_text(&name), &raw) == 0);
    check(text_equal(buffer_text(&raw), t));
    buffer_clear(&raw);
    if (name_unescape(place, t, &raw) < 0)
        return;
    name_escape(place, buffer_text(&raw), &again);
    check(text_equal(buffer_text(&again), t));
}

static void fuzz_part(struct text parent, struct text t)
{
    BUFFER_CLEANUP name = {0}, raw = {0}, again = {0};
    name_write_part(parent, t, &name);
    check_name(&name, NAME_BYTES_MAX);
    int r = name_read_part(parent, buffer_text(&name), &raw);
    check(r == 0 ? text_equal(buffer_text(&raw), t) : r == -E2BIG);
    check((r < 0) == name_is_shortened(buffer_text(&name)));
    buffer_clear(&raw);
    if (name_read_part(parent, t, &raw) < 0)
        return;
    name_write_part(parent, buffer_text(&raw), &again);
    check(text_equal(buffer_text(&again), t));
}

static void fuzz_level(enum value_kind kind, struct text t)
{
    BUFFER_CLEANUP name = {0}, store = {0}, again = {0};
    struct value v = value_text(t), read;
    name_write_level(TEXT("key"), &v, &name);
    check_name(&name, NAME_BYTES_MAX);
    int r = name_read_level(buffer_text(&name), TEXT("key"), VALUE_TEXT, &read, &store);
    check(r == 0 ? value_equal(&v, &read) : r == -E2BIG);
    if (r < 0) { // ~ and 16 digits, and what stands before them is not half an escape
        const char *kept = name.data + name.size_bytes - 17;
        check(kept[0] == '~' && kept[-1] != '%' && kept[-2] != '%');
    }
    if (name_read_level(t, TEXT("key"), kind, &read, &store) < 0)
        return;
    name_write_level(TEXT("key"), &read, &again);
    check(text_equal(buffer_text(&again), t));
}

static void fuzz_file(enum value_kind kind, struct text first, struct text t)
{
    BUFFER_CLEANUP name = {0}, store = {0}, again = {0};
    struct value v[2] = {value_text(first), value_text(t)}, read;
    struct text suffix;
    name_write_file(TEXT("type"), v, 2, TEXT("@--"), name_suffix(t), &name);
    check_name(&name, NAME_BYTES_MAX);
    check(memchr(name.data, '.', name.size_bytes));
    int r =
        name_read_file(buffer_text(&name), TEXT("type"), v, 2, VALUE_TEXT, &read, &suffix, &store);
    check(r == 0 ? value_equal(&v[1], &read) : r == -E2BIG);
    if (name_read_file(t, TEXT("type"), v, 2, kind, &read, &suffix, &store) < 0)
        return;
    v[1] = read;
    name_write_file(TEXT("type"), v, 2, TEXT(""), suffix, &again);
    check(text_equal(buffer_text(&again), t));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct text t = {(const char *)data + 1, size - 1};
    size_t half = data[0] >> 3 < t.size_bytes ? data[0] >> 3 : t.size_bytes;
    struct text first = text_slice(t, 0, half), rest = text_slice(t, half, t.size_bytes);
    enum value_kind kind = data[0] & 4 ? VALUE_TEXT : VALUE_INTEGER;
    fuzz_escape(data[0] & 3, t);
    fuzz_part(first, rest);
    fuzz_level(kind, t);
    fuzz_file(kind, first, rest);
    struct uuid u;
    uuid_parse(t, data[0] & 1, &u);
    return 0;
}
