// SPDX-License-Identifier: BSD-3-Clause
// What an SQLite registry says of CALIBRATION collections, and of when visits were.
#include "tests/unit/meta/seen.h"

#include "base/metric.h"

#define CALIB 6 // the collection; type 6 is camera, by instrument and detector

static void certify(unsigned number, unsigned detector, const char *begin, const char *end)
{
    run_sql_formatted("INSERT INTO dataset_calibs_00000005 (dataset_type_id, dataset_id, collection_id,"
                      " instrument, detector, timespan_begin, timespan_end)"
                      " VALUES (6, '%s', 6, 'Cam', %u, %s, %s)",
                      hex_of(number), detector, begin, end);
}

static int see_range(const struct registry_row *row, void *context)
{
    struct seen *n = context;
    int r = see(row, n);
    if (row->has_range)
        buffer_format(&n->text, " %lld-%lld%s%s", (long long)row->range.begin_tai_ns,
                      (long long)row->range.end_tai_ns, row->has_twin ? " twin" : "",
                      row->is_double ? " double" : "");
    return r;
}

#define LAST "4102444800000000000"

static int make_calibs(void **state)
{
    int r = make_database(state);
    char key[32];
    for (unsigned i = 1; i <= 5; i++) {
        snprintf(key, sizeof key, ",'Cam',%u", i);
        put(i, 6, 5, 2, key, "x.fits");
    }
    put(6, 6, 5, 3, ",'Cam',3", NULL);
    run_sql("INSERT INTO collection_summary_dataset_type VALUES (2,6),(3,6),(6,6);");
    certify(1, 1, "100", "200");
    certify(1, 1, "200", "300");
    certify(2, 2, "0", LAST);
    certify(3, 3, "100", "200");
    certify(6, 3, "100", "200");
    certify(4, 4, LAST, "0");
    certify(4, 4, "7", "5"); // empty, if not as the client writes it
    certify(5, 5, "100", "200");
    certify(5, 5, "100", "200");
    return r;
}

static void a_calibration_collection_has_a_row_per_range(void **state)
{
    struct registry *r = open_database();
    struct snapshot *s = snapshot_of(r);
    for (uint32_t limit = 1; limit < 11; limit++) {
        struct seen n = {0};
        BUFFER_CLEANUP cursor = {0};
        bool is_end = false;
        uint64_t mark;
        while (!is_end)
            assert_int_equal(registry_page(r, s, type(s, "camera"), CALIB, &cursor, limit,
                                           see_range, &n, &is_end, &mark), 0);
        seen_is(&n, "1 Cam 1 [0 x.fits 17] 100-200; 1 Cam 1 [0 x.fits 17] 200-300;"
                    " 2 Cam 2 [0 x.fits 17] 0-" LAST
                    "; 3 Cam 3 [0 x.fits 17] 100-200 twin; 6 Cam 3 100-200 twin;"
                    " 4 Cam 4 [0 x.fits 17] " LAST "-0; 4 Cam 4 [0 x.fits 17] " LAST "-0;"
                    " 5 Cam 5 [0 x.fits 17] 100-200 double; 5 Cam 5 [0 x.fits 17] 100-200 double");
    }
    snapshot_unref(s);
    registry_close(r);
}

static void search_is(struct registry *r, const struct snapshot *s, enum registry_how how,
                      const int64_t *path, uint32_t count, int64_t detector, struct timespan span,
                      const char *wanted)
{
    struct seen n = {0};
    const struct value values[] = {V("Cam"), N(detector)};
    const struct registry_search search = {how, span, path, count, values};
    int result = registry_row(r, s, type(s, "camera"), &search, see_range, &n);
    assert_int_equal(result, *wanted ? 0 : -ENOENT);
    seen_is(&n, wanted);
}

static void a_search_may_ask_for_a_range_or_a_time(void **state)
{
    struct registry *r = open_database();
    struct snapshot *s = snapshot_of(r);
    const int64_t calib[] = {CALIB}, path[] = {3, CALIB, 2}, chain[] = {1, 4, CALIB};
#define SPAN(a, b) ((struct timespan){a, b})
#define ONE " Cam 1 [0 x.fits 17]"
    search_is(r, s, SEARCH_RANGE, calib, 1, 1, SPAN(100, 200), "1" ONE " 100-200");
    search_is(r, s, SEARCH_RANGE, path, 3, 1, SPAN(200, 300), "1" ONE " 200-300");
    search_is(r, s, SEARCH_RANGE, path, 3, 1, SPAN(100, 300), "");
    search_is(r, s, SEARCH_RANGE, calib, 1, 4, TIMESPAN_EMPTY,
              "4 Cam 4 [0 x.fits 17] " LAST "-0; 4 Cam 4 [0 x.fits 17] " LAST "-0");
    search_is(r, s, SEARCH_AT, chain, 3, 1, SPAN(199, 200), "1" ONE " 100-200");
    search_is(r, s, SEARCH_AT, chain, 3, 1, SPAN(200, 201), "1" ONE " 200-300");
    search_is(r, s, SEARCH_AT, chain, 3, 1, SPAN(99, 100), "");
    search_is(r, s, SEARCH_AT, chain, 3, 1, SPAN(300, 301), "");
    search_is(r, s, SEARCH_AT, chain, 3, 1, SPAN(150, 250), "1" ONE " 100-200; 1" ONE " 200-300");
    search_is(r, s, SEARCH_AT, path, 3, 1, SPAN(300, 301), "1" ONE); // collection 2 has it always
    search_is(r, s, SEARCH_AT, path, 3, 3, SPAN(150, 151), "6 Cam 3");
    search_is(r, s, SEARCH_AT, calib, 1, 4, SPAN(6, 7), "");
    search_is(r, s, SEARCH_AT, calib, 1, 2, TIMESPAN_EMPTY, "");
    search_is(r, s, SEARCH_AT, path, 3, 2, TIMESPAN_EMPTY, "");
    search_is(r, s, SEARCH_FIRST, calib, 1, 1, SPAN(0, 0), "");
    search_is(r, s, SEARCH_FIRST, path, 3, 1, SPAN(0, 0), "1" ONE);
    snapshot_unref(s);
    registry_close(r);
}

static void a_calibration_collection_has_the_types_that_were_certified(void **state)
{
    struct registry *r = open_database();
    struct snapshot *s = snapshot_of(r);
    assert_int_equal(present(r, s, type(s, "camera"), CALIB), 1);
    assert_int_equal(present(r, s, type(s, "calexp"), CALIB), 0);
    assert_set("calexp", CALIB, ""); // not a calibration dataset type
    run_sql("DELETE FROM dataset_calibs_00000005");
    assert_int_equal(present(r, s, type(s, "camera"), CALIB), 0);
    run_sql("DROP TABLE dataset_calibs_00000005");
    struct snapshot *without = snapshot_of(r);
    assert_int_equal(type(without, "camera")->calibs_table.size_bytes, 0);
    assert_int_equal(present(r, without, type(without, "camera"), CALIB), 0);
    assert_int_equal(present(r, without, type(without, "camera"), 2), 1);
    snapshot_unref(without);
    snapshot_unref(s);
    registry_close(r);
}

static void rows_of_no_range_are_left_out_and_counted(void **state)
{
    certify(1, 9, "NULL", "1");
    certify(1, 9, "1", "'x'");
    certify(1, 9, "1.5", "3");
    int64_t before = metric_get(METRIC_ROWS_REFUSED);
    struct registry *r = open_database();
    struct snapshot *s = snapshot_of(r);
    const int64_t calib[] = {CALIB};
    search_is(r, s, SEARCH_AT, calib, 1, 9, SPAN(0, 5), "");
    struct seen n = {0};
    read_set(r, s, "camera", CALIB, 4, &n);
    assert_int_equal(n.count, 9);
    assert_true(metric_get(METRIC_ROWS_REFUSED) - before >= 3);
    buffer_release(&n.text);
    snapshot_unref(s);
    registry_close(r);
}

static void a_visit_says_when_it_was(void **state)
{
    run_sql("ALTER TABLE visit ADD timespan_begin BIGINT; ALTER TABLE visit ADD timespan_end BIGINT;"
            "UPDATE visit SET timespan_begin = 5, timespan_end = 9 WHERE id = 100;");
    struct registry *r = open_database();
    struct snapshot *s = snapshot_of(r);
    struct timespan span = {0};
    const struct element *visit = snapshot_element_by_name(s, TEXT("visit"));
    const struct element *exposure = snapshot_element_by_name(s, TEXT("exposure"));
    assert_int_equal(registry_timespan(r, s, visit, (struct value[]){V("Cam"), N(100)}, &span), 0);
    assert_int_equal(span.begin_tai_ns, 5);
    assert_int_equal(span.end_tai_ns, 9);
    assert_int_equal(registry_timespan(r, s, visit, (struct value[]){V("Cam"), N(101)}, &span), -ENOENT);
    assert_int_equal(registry_timespan(r, s, visit, (struct value[]){V("Cam"), N(7)}, &span), -ENOENT);
    assert_int_equal(span.begin_tai_ns, 5);
    // A table that has no such columns.
    assert_int_equal(registry_timespan(r, s, exposure, (struct value[]){V("Cam"), N(100)}, &span),
                     -ENOENT);
    snapshot_unref(s);
    registry_close(r);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, make_calibs, remove_database)
    const struct CMUnitTest tests[] = {
        T(a_calibration_collection_has_a_row_per_range),
        T(a_search_may_ask_for_a_range_or_a_time),
        T(a_calibration_collection_has_the_types_that_were_certified),
        T(rows_of_no_range_are_left_out_and_counted),
        T(a_visit_says_when_it_was),
    };
    return run_group(tests);
}
