// SPDX-License-Identifier: BSD-3-Clause
// Any bytes as an instant: refused, or one that comes back from how it is written. As a validity
// range in a name: refused, or written again the same. Any 16 bytes as a range: comes back from its
// name, and from its key. Any bytes behind a key's values.
// Found planted: a month's table read with a month of 13; a fraction's digits not bounded.
#include <stdint.h>
#include <stdlib.h>

#include "base/log.h"
#include "meta/key.h"
#include "meta/name.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_instant(struct text t)
{
    int64_t tai_ns, again;
    char written[TIMESPAN_TEXT_BYTES];
    BUFFER_CLEANUP tai = {0};
    if (timespan_parse_instant(t, &tai_ns) < 0)
        return;
    timespan_format_instant(tai_ns, written);
    buffer_append_string(&tai, written);
    buffer_append_string(&tai, " TAI");
    check(timespan_parse_instant(buffer_text(&tai), &again) == 0 && again == tai_ns);
    struct timespan at = timespan_of_instant(tai_ns);
    check(at.begin_tai_ns >= TIMESPAN_FIRST && at.begin_tai_ns <= TIMESPAN_LAST &&
          at.end_tai_ns == at.begin_tai_ns + 1);
}

static void fuzz_name(struct text t)
{
    struct timespan range;
    struct uuid twin;
    bool has_twin;
    struct text suffix;
    BUFFER_CLEANUP again = {0};
    if (name_read_range(t, &range, &twin, &has_twin, &suffix) < 0)
        return;
    name_write_range(&range, has_twin ? &twin : NULL, &again);
    buffer_append_text(&again, suffix);
    check(text_equal(buffer_text(&again), t) && suffix.data[0] == '.');
}

static void fuzz_range(const uint8_t *data, size_t size)
{
    struct timespan range, got;
    struct uuid twin;
    bool has_twin;
    struct text suffix;
    BUFFER_CLEANUP name = {0};
    memcpy(&range, data, sizeof(range));
    name_write_range(timespan_is_empty(&range) ? &TIMESPAN_EMPTY : &range, NULL, &name);
    buffer_append_string(&name, ".x");
    check(name_read_range(buffer_text(&name), &got, &twin, &has_twin, &suffix) == 0);
    check(timespan_is_empty(&range) ? timespan_is_empty(&got) : timespan_equal(&got, &range));
    struct key k = {0};
    struct key_range of = {.kind = KEY_RANGE_TWIN, .span = range}, back;
    memcpy(of.of, data + size - sizeof(of.of), sizeof(of.of));
    key_append_range(&k, &of);
    check(k.size_bytes <= KEY_RANGE_BYTES && key_has_range(key_text(&k), 0));
    check(key_read_range(key_text(&k), 0, &back) == 0 && timespan_equal(&back.span, &range));
    check(memcmp(back.of, of.of, sizeof(of.of)) == 0);
}

static void fuzz_key(struct text bytes, size_t count)
{
    struct key_range range;
    struct key again = {0};
    int size = key_values_size(bytes, count);
    check(size < 0 || (size_t)size <= bytes.size_bytes);
    if (size < 0 || key_read_range(bytes, (size_t)size, &range) < 0)
        return;
    key_append_range(&again, &range);
    check(text_equal(key_text(&again), text_slice(bytes, (size_t)size, bytes.size_bytes)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    // Of its own size, so that a sanitizer sees what reads behind it.
    uint8_t *copy = malloc(size ? size : 1);
    memcpy(copy, data, size);
    struct text t = {(const char *)copy, size};
    fuzz_instant(t);
    fuzz_name(t);
    if (size > 0)
        fuzz_key(text_slice(t, 1, size), copy[0] % 5);
    if (size >= sizeof(struct timespan))
        fuzz_range(copy, size);
    free(copy);
    return 0;
}
