// SPDX-License-Identifier: BSD-3-Clause
#include "tests/unit/meta/bytes.h"

#include <errno.h>

#include "meta/key.h"

static struct key key_of(const struct value *values, size_t count, size_t levels)
{
    struct key k = {0};
    for (size_t i = 0; i < count; i++)
        key_append(&k, &values[i], levels);
    return k;
}

static int sign(int n)
{
    return (n > 0) - (n < 0);
}

static int compare_values(const struct value *a, const struct value *b)
{
    if (a->kind == VALUE_TEXT)
        return sign(text_compare(a->text, b->text));
    return (a->integer > b->integer) - (a->integer < b->integer);
}

static int compare_keys(const struct key *a, const struct key *b)
{
    return text_compare(key_text(a), key_text(b));
}

static void integers_sort_by_value(void **state)
{
    int64_t sorted[64 * 6], v;
    size_t n = 0;
    sorted[n++] = INT64_MIN;
    sorted[n++] = INT64_MIN + 1;
    for (int bit = 62; bit >= 0; bit--)
        for (v = -1; v <= 1; v++)
            sorted[n++] = -(INT64_C(1) << bit) + v;
    for (int bit = 0; bit <= 62; bit++)
        for (v = -1; v <= 1; v++)
            sorted[n++] = (INT64_C(1) << bit) + v;
    sorted[n++] = INT64_MAX;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            struct value a = value_integer(sorted[i]), b = value_integer(sorted[j]);
            struct key ka = key_of(&a, 1, 1), kb = key_of(&b, 1, 1);
            assert_int_equal(sign(compare_keys(&ka, &kb)), compare_values(&a, &b));
        }
}

static void integers_take_few_bytes(void **state)
{
    static const struct {
        int64_t integer;
        size_t bytes;
    } cases[] = {{0, 1},    {255, 2},  {256, 3},       {-1, 2},
                 {-256, 2}, {-257, 3}, {INT64_MAX, 9}, {INT64_MIN, 9}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct value v = value_integer(cases[i].integer);
        assert_int_equal(key_of(&v, 1, 1).size_bytes, cases[i].bytes);
    }
}

// Short, and longer than what fits, with much in common at the beginning.
static void some_value(struct chance *c, struct buffer *text, struct value *ret_value)
{
    buffer_clear(text);
    if (chance_below(c, 3) == 0) {
        *ret_value = value_integer((int64_t)chance_next(c) >> chance_below(c, 64));
        return;
    }
    for (size_t n = chance_below(c, 4) * 20; n > 0; n--)
        buffer_append_byte(text, "aaaaaaa\1"[chance_below(c, 8)]);
    chance_text(c, 4, text);
    *ret_value = value_text(buffer_text(text));
}

static void texts_sort_bytewise_and_cut_ones_where_they_were_cut(void **state)
{
    struct chance c = {4};
    int cut_pairs = 0;
    for (int i = 0; i < 50000; i++) {
        BUFFER_CLEANUP a = {0}, b = {0};
        size_t levels = 1 + chance_below(&c, LEVELS_MAX);
        struct value va = {.kind = VALUE_INTEGER}, vb = va;
        while (va.kind == VALUE_INTEGER)
            some_value(&c, &a, &va);
        while (vb.kind == VALUE_INTEGER)
            some_value(&c, &b, &vb);
        struct key ka = {0}, kb = {0};
        bool both_cut = key_append(&ka, &va, levels) & key_append(&kb, &vb, levels);
        assert_int_equal(compare_keys(&ka, &kb) == 0, value_equal(&va, &vb));
        if (both_cut) {
            cut_pairs++;
            // Where they differ in what is kept, that decides.
            size_t kept = ka.size_bytes < kb.size_bytes ? ka.size_bytes : kb.size_bytes;
            if (memcmp(ka.bytes, kb.bytes, kept - 16) == 0)
                continue;
        }
        assert_int_equal(sign(compare_keys(&ka, &kb)), compare_values(&va, &vb));
    }
    assert_true(cut_pairs > 1000);
}

static void keys_of_several_values_sort_by_the_first_that_differs(void **state)
{
    struct chance c = {5};
    for (int i = 0; i < 20000; i++) {
        BUFFER_CLEANUP a = {0}, b = {0};
        struct value one[2], other[2];
        int64_t few = (int64_t)chance_below(&c, 3) - 1;
        one[0] = other[0] = value_integer(few);
        if (chance_below(&c, 2))
            other[0].integer += 1;
        chance_text(&c, 3, &a);
        chance_text(&c, 3, &b);
        one[1] = value_text(buffer_text(&a));
        other[1] = value_text(buffer_text(&b));
        struct key ka = key_of(one, 2, 2), kb = key_of(other, 2, 2);
        int wanted = compare_values(&one[0], &other[0]);
        assert_int_equal(sign(compare_keys(&ka, &kb)),
                         wanted ? wanted : compare_values(&one[1], &other[1]));
    }
}

static void no_values_key_begins_anothers(void **state)
{
    struct chance c = {6};
    for (int i = 0; i < 50000; i++) {
        BUFFER_CLEANUP a = {0}, b = {0};
        struct value va, vb;
        some_value(&c, &a, &va);
        some_value(&c, &b, &vb);
        struct key ka = key_of(&va, 1, 12), kb = key_of(&vb, 1, 12);
        assert_int_equal(text_begins(key_text(&ka), key_text(&kb)), value_equal(&va, &vb));
    }
}

static void a_key_of_the_most_levels_leaves_room_for_a_range(void **state)
{
    char text[1000];
    for (size_t levels = 1; levels <= LEVELS_MAX; levels++)
        for (int byte = 0; byte < 4; byte++) {
            memset(text, byte, sizeof(text));
            struct key k = {0};
            for (size_t i = 0; i < levels; i++) {
                struct value v = value_text((struct text){text, sizeof(text) - i});
                assert_true(key_append(&k, &v, levels));
            }
            assert_true(k.size_bytes <= KEY_BYTES_MAX - KEY_RANGE_BYTES);
        }
}

static void a_text_that_fits_is_not_cut(void **state)
{
    char text[65];
    memset(text, 'x', sizeof(text));
    for (size_t levels = 1; levels <= LEVELS_MAX; levels++) {
        size_t most = key_text_max(levels);
        struct key k = {0};
        struct value v = value_text((struct text){text, most});
        assert_false(key_append(&k, &v, levels));
        v.text.size_bytes++;
        assert_true(key_append(&k, &v, levels));
    }
    assert_int_equal(key_text_max(5), KEY_TEXT_MAX);
    assert_true(key_text_max(9) >= 31);
}

static void what_was_appended_is_read_back(void **state)
{
    struct chance c = {7};
    for (int i = 0; i < 20000; i++) {
        struct buffer texts[LEVELS_MAX] = {{0}};
        struct value values[LEVELS_MAX], read[LEVELS_MAX];
        bool cut[LEVELS_MAX], read_cut;
        struct key k = {0};
        BUFFER_CLEANUP store = {0};
        size_t levels = 1 + chance_below(&c, LEVELS_MAX), offset = 0;
        for (size_t j = 0; j < levels; j++) {
            some_value(&c, &texts[j], &values[j]);
            cut[j] = key_append(&k, &values[j], levels);
        }
        buffer_reserve(&store, k.size_bytes);
        for (size_t j = 0; j < levels; j++) {
            size_t before = offset;
            assert_int_equal(key_read(key_text(&k), &offset, &read[j], &read_cut, &store), 0);
            assert_int_equal(key_value_size(key_text(&k), before), offset - before);
            assert_int_equal(read_cut, cut[j]);
        }
        assert_int_equal(offset, k.size_bytes);
        for (size_t j = 0; j < levels; j++) {
            if (cut[j])
                assert_true(text_begins(values[j].text, read[j].text));
            else
                assert_true(value_equal(&values[j], &read[j]));
            buffer_release(&texts[j]);
        }
    }
}

static void assert_not_a_key(struct text bytes)
{
    BUFFER_CLEANUP store = {0};
    struct value v;
    bool cut;
    size_t offset = 0;
    buffer_reserve(&store, KEY_BYTES_MAX);
    assert_int_equal(key_read(bytes, &offset, &v, &cut, &store), -EBADMSG);
    assert_int_equal(key_value_size(bytes, 0), -EBADMSG);
    assert_int_equal(offset, 0);
    assert_int_equal(store.size_bytes, 0);
}

static void what_is_not_a_key_is_refused(void **state)
{
    char long_text[70];
    memset(long_text, 'x', sizeof(long_text));
    long_text[0] = 0x30;
    long_text[69] = 0;
    assert_not_a_key((struct text){long_text, sizeof(long_text)});
    assert_not_a_key(TEXT(""));
    assert_not_a_key(TEXT("\x0f")); // no such beginning
    assert_not_a_key(TEXT("\x21"
                          "123456789")); // nine bytes of integer
    assert_not_a_key(TEXT("\x1a"
                          "1"));            // one byte missing
    assert_not_a_key(TEXT("\x19\0"));       // 0 has no bytes
    assert_not_a_key(TEXT("\x16\xff\xfe")); // two bytes where one is enough
    assert_not_a_key(TEXT("\x20\x80\0\0\0\0\0\0\0"));
    assert_not_a_key(TEXT("\x10\x7f\0\0\0\0\0\0\0"));
    assert_not_a_key(TEXT("\x30"
                          "abc")); // no end
    assert_not_a_key(TEXT("\x30"
                          "a\2")); // no escaped byte
    assert_not_a_key(TEXT("\x30"
                          "a\2\4\0")); // escapes what needs none
    assert_not_a_key(TEXT("\x30"
                          "a\2\0\0"));
    assert_not_a_key(TEXT("\x30"
                          "a\1"
                          "123456789012345")); // a hash of 15 bytes
}

static void any_bytes_are_a_key_or_refused(void **state)
{
    struct chance c = {8};
    static const char alphabet[] = "\0\1\2\3\x10\x17\x18\x19\x1f\x20\x30\x30"
                                   "abc\xff";
    for (int i = 0; i < 100000; i++) {
        char bytes[40];
        size_t size = chance_below(&c, sizeof(bytes)), offset = 0;
        for (size_t j = 0; j < size; j++)
            bytes[j] = alphabet[chance_below(&c, sizeof(alphabet) - 1)];
        BUFFER_CLEANUP store = {0};
        buffer_reserve(&store, size);
        struct value v;
        bool cut;
        struct key again = {0};
        while (key_read((struct text){bytes, size}, &offset, &v, &cut, &store) == 0)
            if (!cut) {
                size_t from = again.size_bytes;
                key_append(&again, &v, 1);
                assert_memory_equal(again.bytes + from, bytes + offset - (again.size_bytes - from),
                                    again.size_bytes - from);
            }
        assert_true(offset <= size);
    }
}

static void reading_without_reserved_memory_aborts(void **state)
{
    struct value v = value_text(TEXT("text"));
    struct key k = key_of(&v, 1, 1);
    assert_aborts({
        struct buffer store = {0};
        size_t offset = 0;
        bool cut;
        key_read(key_text(&k), &offset, &v, &cut, &store);
    });
}

// Ranges.

static void a_range_comes_back_from_behind_the_values(void **state)
{
    const struct value values[] = {value_text(TEXT("Cam")), value_integer(94)};
    const struct timespan spans[] = {
        TIMESPAN_ALWAYS, TIMESPAN_EMPTY, {1, 2}, {-1, 256}, {INT64_MIN, INT64_MAX}};
    const struct uuid twin = {{1, [15] = 0xff}};
    for (size_t i = 0; i < sizeof(spans) / sizeof(spans[0]); i++)
        for (int is_twin = 0; is_twin < 2; is_twin++) {
            struct key k = key_of(values, 2, 2), plain = k;
            struct key_range range = key_range_named(&spans[i], is_twin ? &twin : NULL, TEXT(".x")), got;
            key_append_range(&k, &range);
            int size = key_values_size(key_text(&k), 2);
            assert_int_equal(size, plain.size_bytes);
            assert_false(key_has_range(key_text(&plain), plain.size_bytes));
            assert_true(key_has_range(key_text(&k), (size_t)size));
            assert_int_equal(key_read_range(key_text(&k), (size_t)size, &got), 0);
            assert_true(timespan_equal(&got.span, &spans[i]));
            assert_int_equal(got.kind, range.kind);
            assert_memory_equal(got.of, range.of, sizeof(got.of));
            // The data ID's key is a prefix, and the next one's is behind all of its ranges.
            assert_true(text_begins(key_text(&k), key_text(&plain)));
            struct key next = key_of((struct value[]){values[0], value_integer(95)}, 2, 2);
            assert_true(compare_keys(&plain, &k) < 0 && compare_keys(&k, &next) < 0);
        }
}

static void equal_keys_are_equal_names(void **state)
{
    const struct timespan a = {1, 2}, b = {1, 3};
    const struct uuid one = {{1}}, two = {{2}};
    const struct key_range ranges[] = {
        key_range_named(&a, NULL, TEXT(".fits")), key_range_named(&a, NULL, TEXT(".fit")),
        key_range_named(&b, NULL, TEXT(".fits")), key_range_named(&a, &one, TEXT(".fits")),
        key_range_named(&a, &two, TEXT(".fits")),
        {.kind = KEY_RANGE_HIDDEN, .span = a, .of = {1}}};
    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
        for (size_t k = 0; k < sizeof(ranges) / sizeof(ranges[0]); k++) {
            struct key x = {0}, y = {0};
            key_append_range(&x, &ranges[i]);
            key_append_range(&y, &ranges[k]);
            assert_int_equal(compare_keys(&x, &y) == 0, i == k);
        }
}

static void what_is_no_range_is_refused(void **state)
{
    struct key_range range = key_range_named(&(struct timespan){1, 256}, NULL, TEXT(".x")), got = {0};
    struct key k = {0};
    key_append_range(&k, &range);
    for (size_t size = 0; size < k.size_bytes; size++)
        assert_int_equal(key_read_range((struct text){(char *)k.bytes, size}, 0, &got), -EBADMSG);
    assert_int_equal(key_read_range(key_text(&k), 1, &got), -EBADMSG);
    k.bytes[k.size_bytes++] = 0; // something behind it
    assert_int_equal(key_read_range(key_text(&k), 0, &got), -EBADMSG);
    k.size_bytes--;
    k.bytes[0] = 0x43; // a kind that isn't known
    assert_int_equal(key_read_range(key_text(&k), 0, &got), -EBADMSG);
    struct key text = key_of((struct value[]){value_text(TEXT("text"))}, 1, 1);
    assert_int_equal(key_read_range(key_text(&text), 0, &got), -EBADMSG);
    assert_int_equal(key_values_size(key_text(&text), 2), -EBADMSG);
    assert_int_equal(got.kind, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_sort_by_value),
        cmocka_unit_test(integers_take_few_bytes),
        cmocka_unit_test(texts_sort_bytewise_and_cut_ones_where_they_were_cut),
        cmocka_unit_test(keys_of_several_values_sort_by_the_first_that_differs),
        cmocka_unit_test(no_values_key_begins_anothers),
        cmocka_unit_test(a_key_of_the_most_levels_leaves_room_for_a_range),
        cmocka_unit_test(a_text_that_fits_is_not_cut),
        cmocka_unit_test(what_was_appended_is_read_back),
        cmocka_unit_test(what_is_not_a_key_is_refused),
        cmocka_unit_test(any_bytes_are_a_key_or_refused),
        cmocka_unit_test(reading_without_reserved_memory_aborts),
        cmocka_unit_test(a_range_comes_back_from_behind_the_values),
        cmocka_unit_test(equal_keys_are_equal_names),
        cmocka_unit_test(what_is_no_range_is_refused),
    };
    return run_group(tests);
}
