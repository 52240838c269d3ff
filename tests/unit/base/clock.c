// SPDX-License-Identifier: BSD-3-Clause
#include "tests/unit/base/harness.h"

#include <errno.h>

#include "base/clock.h"

#define LEAP_2017_S INT64_C(1483228800) // 2017-01-01: 36 s before, 37 s from then on
#define S NS_PER_S

static void tai_is_37_seconds_ahead_since_2017(void **state)
{
    int64_t unix_ns = (LEAP_2017_S + 86400) * S + 5;
    assert_int_equal(tai_from_unix_ns(unix_ns), unix_ns + 37 * S);
    assert_int_equal(tai_to_unix_ns(unix_ns + 37 * S), unix_ns);
}

static void the_second_before_a_leap_second_has_the_old_difference(void **state)
{
    int64_t unix_ns = LEAP_2017_S * S - 1;
    assert_int_equal(tai_from_unix_ns(unix_ns), unix_ns + 36 * S);
    assert_int_equal(tai_to_unix_ns(unix_ns + 36 * S), unix_ns);
}

static void a_leap_second_is_the_midnight_that_ends_it(void **state)
{
    int64_t begin = (LEAP_2017_S + 36) * S;
    assert_int_equal(tai_to_unix_ns(begin), LEAP_2017_S * S);
    assert_int_equal(tai_to_unix_ns(begin + S / 2), LEAP_2017_S * S);
    assert_int_equal(tai_to_unix_ns(begin + S), LEAP_2017_S * S);
    assert_int_equal(tai_to_unix_ns(begin + S + 1), LEAP_2017_S * S + 1);
}

static void before_1972_the_difference_is_10_seconds(void **state)
{
    assert_int_equal(tai_from_unix_ns(0), 10 * S);
    assert_int_equal(tai_to_unix_ns(0), -10 * S);
    assert_int_equal(tai_from_unix_ns(63072000 * S - 1), 63072010 * S - 1);
}

static void every_unix_time_comes_back_and_the_order_is_kept(void **state)
{
    int64_t last = INT64_MIN, last_back = INT64_MIN;
    for (int64_t s = -100000000; s < 2000000000; s += 86400 / 2) {
        int64_t tai = tai_from_unix_ns(s * S);
        assert_true(tai > last);
        assert_int_equal(tai_to_unix_ns(tai), s * S);
        int64_t back = tai_to_unix_ns(s * S);
        assert_true(back >= last_back);
        last = tai;
        last_back = back;
    }
}

static void times_at_the_end_of_the_range_stay_within_it(void **state)
{
    assert_int_equal(tai_from_unix_ns(INT64_MAX), INT64_MAX);
    assert_int_equal(tai_to_unix_ns(INT64_MIN), INT64_MIN);
    assert_int_equal(tai_to_unix_ns(INT64_MAX), INT64_MAX - 37 * S);
    assert_int_equal(tai_from_unix_ns(INT64_MIN), INT64_MIN + 10 * S);
}

static void assert_iso(int64_t unix_ns, const char *expected)
{
    char text[CLOCK_ISO_BYTES];
    clock_format_iso(unix_ns, text);
    assert_string_equal(text, expected);
}

static void a_time_is_written_with_as_much_fraction_as_it_has(void **state)
{
    assert_iso(0, "1970-01-01T00:00:00Z");
    assert_iso(1731294245123456000, "2024-11-11T03:04:05.123456Z");
    assert_iso(1731294245000000001, "2024-11-11T03:04:05.000000001Z");
    assert_iso(1731294245500000000, "2024-11-11T03:04:05.5Z");
    assert_iso(-1, "1969-12-31T23:59:59.999999999Z");
    assert_iso(INT64_MAX, "2262-04-11T23:47:16.854775807Z");
    assert_iso(INT64_MIN, "1677-09-21T00:12:43.145224192Z");
}

static void assert_read(const char *text, int64_t expected)
{
    int64_t ns = -1;
    assert_int_equal(clock_parse_iso(text_of(text), &ns), 0);
    assert_int_equal(ns, expected);
}

static void a_time_is_read_as_it_is_written(void **state)
{
    assert_read("1970-01-01T00:00:00Z", 0);
    assert_read("2024-11-11T03:04:05.123456Z", 1731294245123456000);
    assert_read("2024-11-11T03:04:05.5Z", 1731294245500000000);
    assert_read("2024-11-11T03:04:05.0000000019Z", 1731294245000000001); // cut off
    assert_read("2024-11-11T03:04:05+00:00", 1731294245 * S);
    assert_read("2024-11-11T04:34:05.5+01:30", 1731294245500000000);
    assert_read("2024-11-11T02:04:05-01:00", 1731294245 * S);
    assert_read("1969-12-31T23:59:59.999999999Z", -1);
}

static void days_are_those_of_the_calendar(void **state)
{
    for (int64_t day = -106000; day < 106000; day++) { // 1679 to 2260
        char text[CLOCK_ISO_BYTES];
        clock_format_iso(day * 86400 * S, text);
        assert_read(text, day * 86400 * S);
    }
    assert_read("2023-02-29T24:60:60Z", 1677718860 * S); // as timegm(3) takes it
}

static void what_is_no_time_is_refused_and_changes_nothing(void **state)
{
    static const char *const texts[] = {
        "", "2024", "2024-11-11", "2024-11-11T03:04:05", "2024-11-11 03:04:05Z", "2024-13-11T03:04:05Z",
        "2024-00-11T03:04:05Z", "2024-11-11T03:04:05.Z", "2024-11-11T03:04:05z", "2024-11-11T03:04:05Zx",
        "2024-11-11T03:04:05+1:00", "2024-11-11T03:04:05+-1:00", "2024-11-11T03:04:05+01:00Z", "+024-11-11T03:04:05Z",
        "2024-11- 1T03:04:05Z", "9999-01-01T00:00:00Z", "0001-01-01T00:00:00Z",
        "2024-11-11T03:04:05.000000000000000000000000000000Z"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
        int64_t ns = 7;
        assert_int_equal(clock_parse_iso(text_of(texts[i]), &ns), -EINVAL);
        assert_int_equal(ns, 7);
    }
    int64_t ns;
    assert_int_equal(clock_parse_iso((struct text){"2024-11-11T03:04:05Z\0", 21}, &ns), -EINVAL);
}

static void assert_duration(const char *text, int64_t expected)
{
    int64_t ns = -1;
    assert_int_equal(clock_parse_duration(text, &ns), 0);
    assert_int_equal(ns, expected);
}

static void durations_are_read_in_every_unit(void **state)
{
    assert_duration("0", 0);
    assert_duration("15", 15 * S);
    assert_duration("0.25", S / 4);
    assert_duration("7ns", 7);
    assert_duration("7us", 7000);
    assert_duration("200ms", 200 * NS_PER_MS);
    assert_duration("1.5ms", 1500000);
    assert_duration("1s", S);
    assert_duration("5min", 300 * S);
    assert_duration("1.5h", 5400 * S);
    assert_duration("1d", 86400 * S);
    assert_duration("0.123456789s", 123456789);
    assert_duration("0.1234567899999999999999999999s", 123456789);
    assert_duration("9223372036.854775807", INT64_MAX);
}

static void what_is_no_duration_is_refused_and_changes_nothing(void **state)
{
    static const char *const wrong[] = {
        "",    " ",     "s",     "-1",  "+1", "1 s",   "1S",   "1m",     ".5",
        "1.",  "1.s",   "1..5s", "1e3", "1,5", "0x10", "1s ",  " 1s",    "inf",
        "nan", "1.5ns", "1sec",  "1d1", "9223372036.854775808", "99999999999999999999999999",
        "106752d",
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        int64_t ns = 42;
        assert_int_equal(clock_parse_duration(wrong[i], &ns), -EINVAL);
        assert_int_equal(ns, 42);
    }
}

static void assert_size(const char *text, int64_t expected)
{
    int64_t bytes = -1;
    assert_int_equal(clock_parse_size(text, &bytes), 0);
    assert_int_equal(bytes, expected);
}

static void sizes_are_powers_of_1024(void **state)
{
    assert_size("4096", 4096);
    assert_size("4096B", 4096);
    assert_size("1K", 1024);
    assert_size("512MiB", 512LL << 20);
    assert_size("8G", 8LL << 30);
    assert_size("1.5T", 3LL << 39);
    assert_size("2PiB", 2LL << 50);
    assert_size("0.1K", 102);
    assert_size("9223372036854775807", INT64_MAX);
}

static void what_is_no_size_is_refused(void **state)
{
    static const char *const wrong[] = {"",    "G",   "-1",  "1.5", "1.5B",  "1KB",  "1k",
                                        "1 G", "1GG", "1gb", "8192P", "9223372036854775808"};
    int64_t bytes;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
        assert_int_equal(clock_parse_size(wrong[i], &bytes), -EINVAL);
}

static void the_monotonic_clock_does_not_go_back(void **state)
{
    int64_t last = clock_ns();
    for (int i = 0; i < 1000; i++) {
        int64_t now = clock_ns();
        assert_true(now >= last);
        last = now;
    }
    assert_true(clock_unix_ns() > 1700000000 * S);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tai_is_37_seconds_ahead_since_2017),
        cmocka_unit_test(the_second_before_a_leap_second_has_the_old_difference),
        cmocka_unit_test(a_leap_second_is_the_midnight_that_ends_it),
        cmocka_unit_test(before_1972_the_difference_is_10_seconds),
        cmocka_unit_test(every_unix_time_comes_back_and_the_order_is_kept),
        cmocka_unit_test(times_at_the_end_of_the_range_stay_within_it),
        cmocka_unit_test(a_time_is_written_with_as_much_fraction_as_it_has),
        cmocka_unit_test(a_time_is_read_as_it_is_written),
        cmocka_unit_test(days_are_those_of_the_calendar),
        cmocka_unit_test(what_is_no_time_is_refused_and_changes_nothing),
        cmocka_unit_test(durations_are_read_in_every_unit),
        cmocka_unit_test(what_is_no_duration_is_refused_and_changes_nothing),
        cmocka_unit_test(sizes_are_powers_of_1024),
        cmocka_unit_test(what_is_no_size_is_refused),
        cmocka_unit_test(the_monotonic_clock_does_not_go_back),
    };
    return run_group(tests);
}
