// SPDX-License-Identifier: BSD-3-Clause
// Datasets made of several files, over an in-memory registry.
#include "tests/unit/base/harness.h"

#include "tests/unit/meta/world.h"

#define PARTS "collections/u/parts/calexp/instrument=Cam/day_obs=20240101/visit=10"

static void a_composite_is_a_folder_with_a_file_per_component(void **state)
{
    assert_int_equal(size_of(PARTS "/calexp_Cam_10_1.components/image.fits.fz"), 7);
    assert_lists(PARTS, "calexp_Cam_10_1.components/calexp_Cam_10_2.components/");
    assert_lists(PARTS "/calexp_Cam_10_1.components", "image.fits.fz/v%2E1%40a%2Fb.data/wcs.fits/");
    struct entry e;
    assert_int_equal(look_up(PARTS "/calexp_Cam_10_1.components", &e, NULL), 0);
    assert_int_equal(e.kind, ENTRY_FOLDER);
    BUFFER_CLEANUP scratch = {0};
    struct place p;
    assert_int_equal(place_at(repo, PARTS "/calexp_Cam_10_1.components", &p), 0);
    assert_int_equal(
        asking(repo, place_lookup(&p, TEXT("wcs.fits"), &e, &scratch, NULL, &want_)), 0);
    assert_int_equal(e.kind, ENTRY_FILE);
    assert_true(text_equal(e.component, TEXT("wcs")));
    assert_int_equal(e.size_bytes, 7);
    place_release(&p);
}

static void a_component_has_one_name(void **state)
{
    static const char *const names[] = {"wcs", "wcs.fit", "wcs.fits.fz", "WCS.fits", "image.fits",
                                        "v.1@a/b.data", "%77cs.fits", ".", ""};
    for (int i = 0; i < 2; i++) {
        for (size_t n = 0; n < sizeof(names) / sizeof(names[0]); n++) {
            char path[256];
            snprintf(path, sizeof(path), PARTS "/calexp_Cam_10_1.components/%s", names[n]);
            assert_true(size_of(path) < 0);
        }
        assert_int_equal(size_of(PARTS "/calexp_Cam_10_1.components"), 0);
        assert_int_equal(size_of(PARTS "/calexp_Cam_10_1.fits"), -ENOENT);
        assert_int_equal(size_of(PARTS "/calexp_Cam_10_1.fits.components"), -ENOENT);
        assert_int_equal(size_of(PARTS "/calexp_Cam_10_3.components"), -ENOENT);
        list(PARTS);
    }
}

static void a_file_has_no_folder_of_components(void **state)
{
    // Whole in the first datastore that has it, whatever another has.
    assert_int_equal(size_of(PARTS "/calexp_Cam_10_2.components"), 0);
    assert_lists(PARTS "/calexp_Cam_10_2.components", "wcs.txt/");
    assert_int_equal(size_of(CALEXP "day_obs=20240101/visit=10/calexp_Cam_10_1.components"),
                     -ENOENT);
    assert_int_equal(
        size_of(CALEXP "day_obs=20240101/visit=10/calexp_Cam_10_1.components/wcs.txt"), -ENOENT);
    struct place p;
    assert_int_equal(place_at(repo, PARTS "/calexp_Cam_10_1.components/wcs.fits", &p), -ENOTDIR);
    assert_int_equal(place_at(repo, PARTS "/calexp_Cam_10_1.components/wcs", &p), -ENOENT);
}

static void a_composite_wins_in_a_chain_and_is_in_a_tagged_collection(void **state)
{
    static const char *const path = "collections/parts/calexp/instrument=Cam/day_obs=20240101/visit=10";
    char file[256];
    snprintf(file, sizeof(file), "%s/calexp_Cam_10_1.components/wcs.fits", path);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(size_of(file), 7);
        assert_lists(path, "calexp_Cam_10_1.components/calexp_Cam_10_2.components/");
    }
    assert_int_equal(size_of("collections/picked/calexp/instrument=Cam/day_obs=20240101/"
                             "visit=10/calexp_Cam_10_1.components/wcs.fits"),
                     7);
}

static void a_long_name_of_a_composite_keeps_its_end(void **state)
{
    char path[1024], names[512];
    snprintf(names, sizeof(names), "%s", list("collections/u/parts/note/instrument=Cam"));
    names[strlen(names) - 1] = 0;
    assert_int_equal(strlen(names), 255);
    snprintf(path, sizeof(path), "collections/u/parts/note/instrument=Cam/%s", names);
    assert_int_equal(size_of(path), 0);
    assert_lists(path, "wcs.txt/");
    strcat(path, "/wcs.txt");
    assert_int_equal(size_of(path), 9);
}

static void a_composite_without_dimensions_is_in_its_types_folder(void **state)
{
    assert_int_equal(size_of("collections/u/parts/cfg/cfg.components/wcs.txt"), 10);
    assert_lists("collections/u/parts/cfg", "cfg.components/");
    assert_lists("collections/u/parts/cfg/cfg.components", "wcs.txt/");
}

static void a_uuid_leads_to_the_folder(void **state)
{
    struct entry e;
    BUFFER_CLEANUP target = {0};
    struct uuid u = memory_uuid(12);
    char uuid[UUID_TEXT_BYTES], path[64];
    uuid_format(&u, uuid);
    snprintf(path, sizeof(path), "by-uuid/%s", uuid);
    assert_int_equal(look_up(path, &e, &target), 0);
    assert_string_equal(target.data, "../" PARTS "/calexp_Cam_10_1.components");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(a_composite_is_a_folder_with_a_file_per_component),
        T(a_component_has_one_name),
        T(a_file_has_no_folder_of_components),
        T(a_composite_wins_in_a_chain_and_is_in_a_tagged_collection),
        T(a_long_name_of_a_composite_keeps_its_end),
        T(a_composite_without_dimensions_is_in_its_types_folder),
        T(a_uuid_leads_to_the_folder),
    };
    return run_group(tests);
}
