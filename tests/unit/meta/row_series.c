// SPDX-License-Identifier: BSD-3-Clause
// Datasets one after the other, in their folder and as a movie, over an in-memory registry.
#include "tests/unit/base/harness.h"

#include "meta/row_series.h"
#include "tests/unit/meta/world.h"

// clang-format off
static const struct memory_dataset frames[] = {
    {"calexp", "u/base", CAM "detector=1,visit=10", NULL, "a.fits", NULL, 1},
    {"calexp", "u/base", CAM "detector=2,visit=10", NULL, "b.fits", NULL, 2},
    {"calexp", "u/base", CAM "detector=1,visit=11", NULL, "c.fits", NULL, 3},
    {"calexp", "u/base", CAM "detector=1,visit=20", NULL, "d.fits", NULL, 4},
    {"calexp", "u/base", CAM "detector=2,visit=20", NULL, "e.fits", NULL, 5},
    {}};
// clang-format on
static const struct memory_description movie = {types, collections, records, frames};

#define VISIT10 CALEXP "day_obs=20240101/visit=10"
#define VISIT11 CALEXP "day_obs=20240101/visit=11"
#define VISIT20 CALEXP "day_obs=20240102/visit=20"

// As when the file is opened.
static int opened(const char *in, const char *name, enum row_order order, uint64_t who, uint64_t *ret_id, int64_t *ret_at)
{
    BUFFER_CLEANUP scratch = {0};
    struct place p;
    struct entry e;
    struct dataset *d;
    assert_int_equal(place_at(repo, in, &p), 0);
    assert_int_equal(asking(repo, place_lookup(&p, text_of(name), &e, &scratch, NULL, &want_)), 0);
    assert_int_equal(asking(repo, repository_dataset(repo, p.fresh, &e.uuid, &d, &want_)), 0);
    int r = row_series_note(&p, d, order, who, ret_id, ret_at);
    dataset_free(d);
    place_release(&p);
    return r;
}

// The size of the file there, asked for until its record is known; -errno.
static int64_t at(uint64_t id, int64_t position)
{
    struct dataset *d;
    int r;
    while ((r = row_series_at(repo, id, position, &d)) == -EINPROGRESS)
        usleep(1000);
    if (r < 0)
        return r;
    int64_t size_bytes = d->files[0].size_bytes;
    dataset_free(d);
    return size_bytes;
}

static void what_is_not_listed_has_no_place(void **state)
{
    uint64_t id;
    int64_t position;
    change(&movie);
    assert_int_equal(opened(VISIT10, "calexp_Cam_10_1.fits", ROW_ORDER_FOLDER, 1, &id, &position), -ENOENT);
    assert_int_equal(opened(VISIT10, "calexp_Cam_10_1.fits", ROW_ORDER_MOVIE, 1, &id, &position), -ENOENT);
}

static void a_folder_is_gone_through_in_its_order(void **state)
{
    uint64_t id, other;
    int64_t first, second;
    change(&movie);
    list(VISIT10);
    assert_int_equal(opened(VISIT10, "calexp_Cam_10_1.fits", ROW_ORDER_FOLDER, 1, &id, &first), 0);
    assert_int_equal(at(id, first + 1), 2);
    assert_int_equal(at(id, first + 2), -ENOENT); // not the next folder's
    assert_int_equal(opened(VISIT10, "calexp_Cam_10_2.fits", ROW_ORDER_FOLDER, 1, &other, &second), 0);
    assert_true(other == id);
    assert_int_equal(second, first + 1);
    assert_int_equal(opened(VISIT10, "calexp_Cam_10_1.fits", ROW_ORDER_FOLDER, 1, &other, &second), 0);
    assert_int_equal(second, first);
    assert_int_equal(opened(VISIT11, "calexp_Cam_11_1.fits", ROW_ORDER_FOLDER, 1, &other, &second), 0);
    assert_true(other != id);
    assert_int_equal(opened(VISIT10, "calexp_Cam_10_1.fits", ROW_ORDER_FOLDER, 2, &other, &second), 0);
    assert_true(other != id); // somebody else
}

static void a_movie_is_one_detector_visit_after_visit_across_nights(void **state)
{
    uint64_t id, other;
    int64_t first, second;
    change(&movie);
    list(VISIT10);
    assert_int_equal(opened(VISIT10, "calexp_Cam_10_1.fits", ROW_ORDER_MOVIE, 1, &id, &first), 0);
    assert_int_equal(at(id, first + 1), 3);
    assert_int_equal(at(id, first + 2), 4);
    assert_int_equal(at(id, first + 3), -ENOENT);
    assert_int_equal(at(id, first - 1), -ENODATA);
    assert_int_equal(opened(VISIT20, "calexp_Cam_20_1.fits", ROW_ORDER_MOVIE, 1, &other, &second), 0);
    assert_true(other == id);
    assert_int_equal(second, first + 2);
    assert_int_equal(opened(VISIT11, "calexp_Cam_11_1.fits", ROW_ORDER_MOVIE, 1, &other, &second), 0);
    assert_int_equal(second, first + 1);
}

static void a_visit_without_that_detector_is_left_out(void **state)
{
    uint64_t id;
    int64_t first;
    change(&movie);
    list(VISIT10);
    assert_int_equal(opened(VISIT10, "calexp_Cam_10_2.fits", ROW_ORDER_MOVIE, 1, &id, &first), 0);
    assert_int_equal(at(id, first + 1), -ENODATA);
    assert_int_equal(at(id, first + 2), 5);
}

static void a_set_that_was_listed_anew_begins_far_away(void **state)
{
    uint64_t id, other;
    int64_t first, second;
    change(&movie);
    list(VISIT10);
    assert_int_equal(opened(VISIT10, "calexp_Cam_10_1.fits", ROW_ORDER_MOVIE, 1, &id, &first), 0);
    change(&before);
    list(VISIT10);
    assert_int_equal(at(id, first + 1), -ENOENT);
    assert_int_equal(opened(VISIT10, "calexp_Cam_10_1.fits", ROW_ORDER_MOVIE, 1, &other, &second), 0);
    assert_true(second - first > 1000);
    assert_int_equal(at(other, second + 1), 300);
}

#define test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(what_is_not_listed_has_no_place),
        test(a_folder_is_gone_through_in_its_order),
        test(a_movie_is_one_detector_visit_after_visit_across_nights),
        test(a_visit_without_that_detector_is_left_out),
        test(a_set_that_was_listed_anew_begins_far_away),
    };
    return run_group(tests);
}
