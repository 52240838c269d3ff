// SPDX-License-Identifier: BSD-3-Clause
// Patterns of reads as they arrive, and what is fetched ahead of them.
#include "tests/unit/base/harness.h"

#include "cache/reading.h"

#define KIB INT64_C(1024)
#define MIB (KIB * 1024)
#define BLOCK (128 * KIB)
#define OBJECT (1024 * MIB)

static const struct reading_limits standard = {
    .object_bytes = OBJECT, .first_window = 4 * MIB, .window = 64 * MIB, .part = 8 * MIB};

struct trace {
    struct reading reading;
    struct reading_plan plan; // of the last read
    int64_t planned;          // bytes in sum
    int64_t furthest;         // end of what was planned
};

static void note(struct trace *t, int64_t begin, int64_t size, bool had_to_wait)
{
    int64_t end = begin + size < OBJECT ? begin + size : OBJECT;
    reading_note(&t->reading, begin, end, had_to_wait, &standard, &t->plan);
    for (uint32_t i = 0; i < t->plan.count; i++) {
        const struct reading_range *r = &t->plan.ranges[i];
        assert_true(0 <= r->begin && r->begin < r->end && r->end <= OBJECT);
        t->planned += r->end - r->begin;
        if (r->end > t->furthest)
            t->furthest = r->end;
    }
}

static void a_head_that_is_read_is_all_that_is_fetched(void **state)
{
    struct trace t = {0};
    note(&t, 0, 128 * KIB, true);
    assert_int_equal(t.planned, 0);
}

static void random_reads_fetch_nothing_ahead(void **state)
{
    struct trace t = {0};
    uint64_t x = 88172645463325252u;
    for (int i = 0; i < 3000; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        note(&t, (int64_t)(x % (OBJECT / (4 * KIB))) * 4 * KIB, 4 * KIB, true);
    }
    assert_int_equal(t.planned, 0);
}

// As the kernel reads ahead for who reads a header of 64 KiB, and then goes on.
static void a_file_read_from_its_beginning_opens_a_window_at_the_second_read(void **state)
{
    struct trace t = {0};
    note(&t, 0, 128 * KIB, true);
    assert_int_equal(t.planned, 0);
    note(&t, 128 * KIB, 256 * KIB, true);
    assert_true(t.planned >= 4 * MIB);
    assert_int_equal(t.plan.ranges[0].begin, 384 * KIB);
}

static void a_large_first_read_at_the_beginning_opens_it_at_once(void **state)
{
    struct trace t = {0};
    note(&t, 0, MIB, true);
    assert_int_equal(t.plan.ranges[0].begin, MIB);
    assert_int_equal(t.plan.ranges[0].end, MIB + 4 * MIB);
}

static void a_reader_who_waits_gets_the_whole_window_in_a_few_reads(void **state)
{
    struct trace t = {0};
    int64_t at = 0;
    for (int i = 0; i < 5; i++, at += MIB)
        note(&t, at, MIB, true);
    assert_true(t.furthest >= at + 60 * MIB);
    assert_true(t.furthest <= at + 64 * MIB);
}

static void a_reader_who_never_waits_has_a_window_in_proportion_to_what_he_read(void **state)
{
    struct trace t = {0};
    for (int64_t at = 0; at < 32 * MIB; at += MIB)
        note(&t, at, MIB, at == 0);
    assert_in_range(t.furthest, 36 * MIB, 40 * MIB);
    for (int64_t at = 32 * MIB; at < 512 * MIB; at += MIB)
        note(&t, at, MIB, false);
    assert_in_range(t.furthest, 512 * MIB + 56 * MIB, 512 * MIB + 64 * MIB);
}

static void every_byte_is_planned_once_and_none_beyond_the_end(void **state)
{
    struct trace t = {0};
    for (int64_t at = 0; at < OBJECT; at += MIB)
        note(&t, at, MIB, at % (7 * MIB) == 0);
    assert_int_equal(t.furthest, OBJECT);
    assert_int_equal(t.planned, OBJECT - MIB); // all but the first read
}

// The kernel's requests of one read-ahead are handled by different workers.
static void requests_out_of_order_are_one_stream(void **state)
{
    struct trace t = {0};
    note(&t, 0, 256 * KIB, true);
    for (int64_t at = 256 * KIB; at < 100 * MIB; at += 512 * KIB) {
        note(&t, at + 256 * KIB, 256 * KIB, false);
        note(&t, at, 256 * KIB, false);
    }
    assert_in_range(t.furthest, 100 * MIB, 126 * MIB);
    assert_true(t.planned <= t.furthest);
}

static void a_read_made_again_says_nothing_new(void **state)
{
    struct trace t = {0}, again = {0};
    for (int64_t at = 0; at < 20 * MIB; at += MIB) {
        note(&t, at, MIB, true);
        note(&again, at, MIB, true);
        note(&again, at, MIB, false);
        note(&again, at, MIB, true);
    }
    assert_int_equal(again.planned, t.planned);
    assert_int_equal(again.reading.count, t.reading.count);
}

static void interleaved_streams_are_each_read_ahead(void **state)
{
    struct trace t = {0};
    int64_t starts[] = {0, 300 * MIB, 600 * MIB, 900 * MIB};
    for (int64_t at = 0; at < 16 * MIB; at += 256 * KIB)
        for (int i = 0; i < 4; i++)
            note(&t, starts[i] + at, 256 * KIB, false);
    for (int i = 0; i < 4; i++)
        assert_true(reading_wants(&t.reading, starts[i] + 17 * MIB, starts[i] + 18 * MIB));
    assert_true(t.planned >= 4 * 16 * MIB);
}

static void a_stream_survives_random_reads_beside_it(void **state)
{
    struct trace t = {0};
    for (int64_t i = 0; i < 64; i++) {
        note(&t, i * MIB, MIB, false);
        for (int64_t k = 0; k < 5; k++)
            note(&t, 500 * MIB + (i * 37 + k * 101) % 400 * MIB, 4 * KIB, true);
    }
    assert_true(reading_wants(&t.reading, 65 * MIB, 66 * MIB));
    assert_true(t.planned <= 64 * MIB + 16 * MIB);
}

static void strided_reads_are_fetched_ahead_after_three(void **state)
{
    struct trace t = {0};
    note(&t, 10 * MIB, 64 * KIB, true);
    note(&t, 13 * MIB, 64 * KIB, true);
    assert_int_equal(t.planned, 0);
    note(&t, 16 * MIB, 64 * KIB, true);
    assert_int_equal(t.plan.ranges[0].begin, 19 * MIB);
    assert_int_equal(t.plan.ranges[0].end, 19 * MIB + 64 * KIB);
    assert_int_equal(t.plan.ranges[1].begin, 22 * MIB);
    note(&t, 19 * MIB, 64 * KIB, false);
    assert_int_equal(t.plan.count, 1);
}

static void strides_go_down_too(void **state)
{
    struct trace t = {0};
    for (int64_t at = 900 * MIB; at > 100 * MIB; at -= 10 * MIB)
        note(&t, at, 256 * KIB, true);
    assert_true(reading_wants(&t.reading, 100 * MIB, 100 * MIB + BLOCK));
    assert_false(reading_wants(&t.reading, 105 * MIB, 106 * MIB - BLOCK) &&
                 reading_wants(&t.reading, 905 * MIB, 906 * MIB));
}

static void backward_reads_are_fetched_ahead_towards_the_beginning(void **state)
{
    struct trace t = {0};
    int64_t lowest = OBJECT;
    for (int64_t at = 800 * MIB; at > 700 * MIB; at -= 256 * KIB) {
        note(&t, at, 256 * KIB, true);
        for (uint32_t i = 0; i < t.plan.count; i++) {
            assert_true(t.plan.ranges[i].end <= at);
            if (t.plan.ranges[i].begin < lowest)
                lowest = t.plan.ranges[i].begin;
        }
    }
    assert_true(lowest < 660 * MIB && lowest >= 700 * MIB - 65 * MIB);
}

static void a_reader_who_jumps_away_abandons_what_was_ahead(void **state)
{
    struct trace t = {0};
    bool was_abandoned = false;
    for (int64_t at = 0; at < 8 * MIB; at += MIB)
        note(&t, at, MIB, false);
    assert_true(reading_wants(&t.reading, 9 * MIB, 10 * MIB));
    for (int64_t run = 1; run <= READING_STREAMS; run++)
        for (int64_t at = run * 100 * MIB; at < run * 100 * MIB + 2 * MIB; at += 256 * KIB) {
            note(&t, at, 256 * KIB, false);
            was_abandoned |= t.plan.is_abandoned;
        }
    assert_true(was_abandoned);
    assert_false(reading_wants(&t.reading, 9 * MIB, 10 * MIB));
}

static void with_no_window_nothing_is_read_ahead(void **state)
{
    struct reading r = {0};
    struct reading_plan plan;
    struct reading_limits none = standard;
    none.window = none.first_window = 0;
    for (int64_t at = 0; at < 100 * MIB; at += MIB) {
        reading_note(&r, at, at + MIB, true, &none, &plan);
        assert_int_equal(plan.count, 0);
    }
}

static void the_extent_is_how_far_it_was_read(void **state)
{
    struct trace t = {0};
    note(&t, 0, 64 * KIB, true);
    assert_int_equal(t.reading.extent, 64 * KIB);
    note(&t, 5 * MIB, 4 * KIB, true);
    assert_int_equal(t.reading.extent, 5 * MIB + 4 * KIB);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_head_that_is_read_is_all_that_is_fetched),
        cmocka_unit_test(random_reads_fetch_nothing_ahead),
        cmocka_unit_test(a_file_read_from_its_beginning_opens_a_window_at_the_second_read),
        cmocka_unit_test(a_large_first_read_at_the_beginning_opens_it_at_once),
        cmocka_unit_test(a_reader_who_waits_gets_the_whole_window_in_a_few_reads),
        cmocka_unit_test(a_reader_who_never_waits_has_a_window_in_proportion_to_what_he_read),
        cmocka_unit_test(every_byte_is_planned_once_and_none_beyond_the_end),
        cmocka_unit_test(requests_out_of_order_are_one_stream),
        cmocka_unit_test(a_read_made_again_says_nothing_new),
        cmocka_unit_test(interleaved_streams_are_each_read_ahead),
        cmocka_unit_test(a_stream_survives_random_reads_beside_it),
        cmocka_unit_test(strided_reads_are_fetched_ahead_after_three),
        cmocka_unit_test(strides_go_down_too),
        cmocka_unit_test(backward_reads_are_fetched_ahead_towards_the_beginning),
        cmocka_unit_test(a_reader_who_jumps_away_abandons_what_was_ahead),
        cmocka_unit_test(with_no_window_nothing_is_read_ahead),
        cmocka_unit_test(the_extent_is_how_far_it_was_read),
    };
    return run_group(tests);
}
