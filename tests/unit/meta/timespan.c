// SPDX-License-Identifier: BSD-3-Clause
// Instants as people write them, timespans, and ranges in names.
#include "tests/unit/base/harness.h"

#include "base/clock.h"
#include "meta/name.h"

#define S NS_PER_S
#define TAI_20241111 (INT64_C(1731294245) * S) // 2024-11-11T03:04:05 on TAI's own calendar

static int64_t instant(const char *text)
{
    int64_t tai_ns = 1;
    if (timespan_parse_instant(text_of(text), &tai_ns) < 0) {
        assert_int_equal(tai_ns, 1);
        return -1;
    }
    return tai_ns;
}

static void an_instant_may_be_spelled_in_many_ways(void **state)
{
    static const char *const utc[] = {
        "2024-11-11T03:04:05", "20241111T030405", "2024-11-11T03:04:05Z", "2024-11-11t03:04:05z",
        "2024-11-11 03:04:05", "2024-11-11T030405", "20241111T03:04:05", "2024-11-11T03:04:05+00:00",
        "20241111T030405-0000", "20241111T030405+00", "2024-316T03:04:05", "2024316T030405",
        "2024-W46-1T03:04:05", "2024W461T030405"};
    for (size_t i = 0; i < sizeof(utc) / sizeof(utc[0]); i++)
        assert_int_equal(instant(utc[i]), TAI_20241111 + 37 * S);
    static const char *const tai[] = {
        "2024-11-11T03:04:05 TAI", "2024-11-11T03:04:05TAI", "20241111T030405 tai",
        "20241111T030405,000000000TAI", "2024-11-11 03:04:05.0 Tai"};
    for (size_t i = 0; i < sizeof(tai) / sizeof(tai[0]); i++)
        assert_int_equal(instant(tai[i]), TAI_20241111);
}

static void parts_may_be_left_out_and_the_last_may_have_a_fraction(void **state)
{
    int64_t day = TAI_20241111 - (3 * 3600 + 4 * 60 + 5) * S;
    assert_int_equal(instant("2024-11-11 TAI"), day);
    assert_int_equal(instant("20241111TAI"), day);
    assert_int_equal(instant("20241111"), day + 37 * S);
    assert_int_equal(instant("2024-11-11T03TAI"), day + 3 * 3600 * S);
    assert_int_equal(instant("2024-11-11T03:04TAI"), day + (3 * 60 + 4) * 60 * S);
    assert_int_equal(instant("2024-11-11T0304TAI"), day + (3 * 60 + 4) * 60 * S);
    assert_int_equal(instant("2024-11-11T03.5TAI"), day + 7 * 1800 * S);
    assert_int_equal(instant("2024-11-11T03:04,25TAI"), day + ((3 * 60 + 4) * 60 + 15) * S);
    assert_int_equal(instant("2024-11-11T03:04:05.123456789TAI"), TAI_20241111 + 123456789);
    assert_int_equal(instant("2024-11-11T03:04:05.1234567899TAI"), TAI_20241111 + 123456789);
    assert_int_equal(instant("2024-11-10T24:00TAI"), day);
    assert_int_equal(instant("2024-11-10T24TAI"), day);
}

static void leap_seconds_are_counted_where_there_were_some(void **state)
{
    int64_t midnight = INT64_C(1483228800) * S; // 2017-01-01
    assert_int_equal(instant("2017-01-01T00:00:00"), midnight + 37 * S);
    assert_int_equal(instant("2016-12-31T23:59:60"), midnight + 36 * S);
    assert_int_equal(instant("2016-12-31T23:59:60.5"), midnight + 36 * S + S / 2);
    assert_int_equal(instant("2016-12-31T23:59:59.5"), midnight + 35 * S + S / 2);
    assert_int_equal(instant("2017-12-31T23:59:60"), -1);
    assert_int_equal(instant("2016-12-31T23:58:60"), -1);
    assert_int_equal(instant("2016-12-31T23:59:60TAI"), -1);
    assert_int_equal(instant("2016-12-31T24:00:00"), midnight + 37 * S);
}

static void what_is_no_instant_is_refused(void **state)
{
    static const char *const bad[] = {
        "", "2024", "2024-11", "202411", "2024-13-01", "2024-00-01", "2023-02-29", "20230229",
        "2024-02-30", "2024-1-1", "2024-11-1", "2024-1111", "202411-11", "2024-367", "2023-366",
        "2024-000", "2024-W54-1", "2024-W00-1", "2024-W46-8", "2024-W46-0", "2024-W46", "2024W46-1",
        "2024-W461", "2021-W53-1", "0000-01-01", "24-11-11", "2024-11-11T", "2024-11-11T24:00:01",
        "2024-11-11T25", "2024-11-11T3", "2024-11-11T03:", "2024-11-11T03:4", "2024-11-11T03:60",
        "2024-11-11T03:04:61", "2024-11-11T03:04:05.", "2024-11-11T03:04:05x", "2024-11-11T03040",
        "2024-11-11T03:04:05+01:00", "2024-11-11T03:04:05 UTC", "2024-11-11T03:04:05  TAI",
        "2024-11-11T03:04:05TAIs", "2024-11-11T03:04:05ZTAI", " 2024-11-11", "2024-11-11 ", "+2024-11-11",
        "visit,Cam,1", "TAI", "Z", "2024-11-11T03:04:05 "};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (instant(bad[i]) != -1)
            fail_msg("%s was taken", bad[i]);
    assert_int_equal(instant("2020-W53-7TAI"), instant("2021-01-03TAI"));
    assert_int_equal(instant("2021-W01-1TAI"), instant("2021-01-04TAI"));
    assert_int_equal(instant("2024-02-29TAI"), instant("2024-060TAI"));
    assert_int_equal(instant("2000-366TAI"), instant("2000-12-31TAI"));
    assert_int_equal(instant("1900-365TAI"), instant("1900-12-31TAI"));
}

static void times_that_no_integer_holds_are_moved_into_range(void **state)
{
    struct timespan t = timespan_of_instant(instant("9999-12-31T23:59:59.999999999TAI"));
    assert_int_equal(t.begin_tai_ns, TIMESPAN_LAST);
    t = timespan_of_instant(instant("9999-12-31T23:59:59.9"));
    assert_int_equal(t.begin_tai_ns, TIMESPAN_LAST);
    t = timespan_of_instant(instant("0001-01-01"));
    assert_int_equal(t.begin_tai_ns, 0);
    assert_int_equal(t.end_tai_ns, 1);
    assert_int_equal(instant("9999-12-31T23:59:60"), -1);
}

static void a_range_holds_its_begin_and_not_its_end(void **state)
{
    const struct timespan range = {100, 200}, always = TIMESPAN_ALWAYS, empty = TIMESPAN_EMPTY;
    const int64_t in[] = {100, 199}, out[] = {99, 200, 0, TIMESPAN_LAST};
    for (size_t i = 0; i < 2; i++) {
        struct timespan at = timespan_of_instant(in[i]);
        assert_true(timespan_finds(&at, &range));
        assert_true(timespan_finds(&at, &always));
        assert_false(timespan_finds(&at, &empty));
    }
    for (size_t i = 0; i < 4; i++) {
        struct timespan at = timespan_of_instant(out[i]);
        assert_false(timespan_finds(&at, &range));
    }
    // As the client: nothing holds in 2100, and all time finds even what is empty.
    struct timespan late = timespan_of_instant(TIMESPAN_LAST);
    assert_false(timespan_finds(&late, &always));
    assert_true(timespan_finds(&always, &empty));
    assert_false(timespan_finds(&empty, &always));
    const struct timespan wide = {50, 101}, touching = {50, 100}, inside = {120, 130};
    assert_true(timespan_finds(&wide, &range));
    assert_false(timespan_finds(&touching, &range));
    assert_true(timespan_finds(&inside, &range));
}

// Ranges in names.

static void write_range(const struct timespan *t, const struct uuid *twin, const char *wanted)
{
    BUFFER_CLEANUP name = {0};
    struct timespan got;
    struct uuid got_twin;
    bool has_twin;
    struct text suffix;
    name_write_range(t, twin, &name);
    assert_string_equal(name.data, wanted);
    buffer_append_string(&name, ".fits.gz");
    assert_int_equal(name_read_range(buffer_text(&name), &got, &got_twin, &has_twin, &suffix), 0);
    assert_true(timespan_equal(&got, t));
    assert_int_equal(has_twin, twin != NULL);
    assert_true(!twin || memcmp(twin, &got_twin, sizeof(got_twin)) == 0);
    assert_true(text_equal(suffix, TEXT(".fits.gz")));
}

static void a_range_is_written_as_short_as_it_can_be(void **state)
{
    struct uuid twin = {{0x01, 0x8f, [15] = 0x2a}};
    write_range(&TIMESPAN_ALWAYS, NULL, "@--");
    write_range(&TIMESPAN_EMPTY, NULL, "@empty");
    write_range(&(struct timespan){TAI_20241111, TIMESPAN_LAST}, NULL, "@20241111T030405--");
    write_range(&(struct timespan){0, TAI_20241111}, NULL, "@--20241111T030405");
    write_range(&(struct timespan){TAI_20241111 + S / 2, TAI_20241111 + S + 1}, NULL,
                "@20241111T030405,5--20241111T030406,000000001");
    write_range(&(struct timespan){1, 2}, NULL, "@19700101T000000,000000001--19700101T000000,000000002");
    write_range(&(struct timespan){-1, TIMESPAN_LAST + 1}, NULL,
                "@19691231T235959,999999999--21000101T000000,000000001");
    write_range(&(struct timespan){INT64_MIN, INT64_MAX}, NULL,
                "@16770921T001243,145224192--22620411T234716,854775807");
    write_range(&TIMESPAN_ALWAYS, &twin, "@--~018f0000-0000-0000-0000-00000000002a");
    write_range(&TIMESPAN_EMPTY, &twin, "@empty~018f0000-0000-0000-0000-00000000002a");
}

static void a_range_has_one_spelling(void **state)
{
    static const char *const bad[] = {
        "", "@", ".fits", "@.fits", "@-.fits", "@---.fits", "@--", "--.fits", "@empty", "@Empty.fits",
        "@20241111--.fits", "@20241111T0304--.fits", "@20241111T030405Z--.fits",
        "@20241111T030405TAI--.fits", "@2024-11-11T03:04:05--.fits", "@20241111T030405,50--.fits",
        "@20241111T030405,--.fits", "@20241111t030405--.fits", "@20241111T030405--20241111T030405.fits",
        "@20241111T030406--20241111T030405.fits", "@19700101T000000--.fits", "@--21000101T000000.fits",
        "@20241111T240000--.fits", "@20241110T240000--.fits", "@--~.fits", "@--~018F0000-0000-0000-0000-00000000002a.fits",
        "@--~018f000000000000000000000000002a.fits", "@20241111 030405--.fits", "@20241111T030405--x.fits"};
    struct timespan t;
    struct uuid twin;
    bool has_twin;
    struct text suffix;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (name_read_range(text_of(bad[i]), &t, &twin, &has_twin, &suffix) != -ENOENT)
            fail_msg("%s was taken", bad[i]);
}

static void any_range_comes_back(void **state)
{
    uint64_t random = 88172645463325252u;
    for (int i = 0; i < 20000; i++) {
        int64_t ends[2];
        for (int k = 0; k < 2; k++) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            ends[k] = (int64_t)(random >> (random % 40)) / (random & 1 ? 1 : S) * (random & 1 ? 1 : S);
        }
        struct timespan t = {ends[0], ends[1]}, got;
        struct uuid twin;
        bool has_twin;
        struct text suffix;
        BUFFER_CLEANUP name = {0};
        if (timespan_is_empty(&t))
            t = TIMESPAN_EMPTY;
        name_write_range(&t, NULL, &name);
        buffer_append_string(&name, ".x");
        assert_int_equal(name_read_range(buffer_text(&name), &got, &twin, &has_twin, &suffix), 0);
        assert_true(timespan_equal(&got, &t));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_instant_may_be_spelled_in_many_ways),
        cmocka_unit_test(parts_may_be_left_out_and_the_last_may_have_a_fraction),
        cmocka_unit_test(leap_seconds_are_counted_where_there_were_some),
        cmocka_unit_test(what_is_no_instant_is_refused),
        cmocka_unit_test(times_that_no_integer_holds_are_moved_into_range),
        cmocka_unit_test(a_range_holds_its_begin_and_not_its_end),
        cmocka_unit_test(a_range_is_written_as_short_as_it_can_be),
        cmocka_unit_test(a_range_has_one_spelling),
        cmocka_unit_test(any_range_comes_back),
    };
    return run_group(tests);
}
