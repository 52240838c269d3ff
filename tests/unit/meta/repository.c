// SPDX-License-Identifier: BSD-3-Clause
// The repository over an in-memory registry: what a request sees.
#include "tests/unit/base/harness.h"

#include "tests/unit/meta/world.h"

static void the_root_has_four_entries(void **state)
{
    assert_lists("", "README.txt/collections/by-uuid/calibs-at/");
    assert_lists("by-uuid", "");
    BUFFER_CLEANUP text = {0};
    repository_readme(repo, &text);
    assert_non_null(strstr(text.data, "collections/"));
}

static bool has(const char *path, const char *name)
{
    char *names = list(path), wanted[64];
    snprintf(wanted, sizeof(wanted), "/%s/", name);
    BUFFER_CLEANUP with = {0};
    buffer_format(&with, "/%s", names);
    return strstr(with.data, wanted) != NULL;
}

static void collections_and_dataset_types_share_folders(void **state)
{
    assert_true(has("collections", "u"));
    assert_true(has("collections", "chain"));
    assert_true(has("collections", "empty"));
    // u is a collection with raws, and u/raw is one too: one folder that is both.
    assert_true(has("collections/u", "raw"));
    assert_true(has("collections/u", "base"));
    assert_null(strstr(strstr(list("collections/u"), "raw") + 1, "raw"));
    assert_true(has("collections/u/raw", "coadd"));
    assert_true(has("collections/u/raw", "instrument=Cam"));
    assert_int_equal(
        size_of("collections/u/raw/instrument=Cam/day_obs=20240101/exposure=10/raw_Cam_10_1.fits"),
        0);
    assert_int_equal(size_of("collections/u/raw/cfg"), -ENOENT);
}

static void levels_and_files_are_listed_in_order(void **state)
{
    assert_lists("collections/u/base/calexp", "instrument=Cam/");
    assert_lists("collections/u/base/calexp/instrument=Cam", "day_obs=20240101/day_obs=20240102/");
    assert_lists("collections/u/base/calexp/instrument=Cam/day_obs=20240101", "visit=10/");
    assert_lists("collections/u/base/calexp/instrument=Cam/day_obs=20240101/visit=10",
                 "calexp_Cam_10_1.fits/calexp_Cam_10_2.fits.fz/");
    assert_lists("collections/u/base/cfg", "cfg.py/");
    assert_lists("collections/u/raw/coadd/skymap=sky/tract=3/patch=4", "coadd_sky_3_4_r.fits/");
    assert_lists("collections/tagged/calexp/instrument=Cam/day_obs=20240101/visit=10",
                 "calexp_Cam_10_1.fits/");
}

static void a_type_whose_datasets_are_all_unstored_is_an_empty_folder(void **state)
{
    assert_int_equal(size_of("collections/u/base/deleted"), 0);
    assert_true(has("collections/u/base", "deleted"));
    assert_lists("collections/u/base/deleted", "");
    assert_int_equal(size_of("collections/u/base/deleted/deleted_Cam.data"), -ENOENT);
}

static void a_chain_shows_the_first_and_an_unstored_winner_hides(void **state)
{
    assert_int_equal(size_of("collections/chain/calexp/instrument=Cam/day_obs=20240101/visit=10/"
                             "calexp_Cam_10_1.fits"),
                     400);
    assert_int_equal(size_of("collections/chain/calexp/instrument=Cam/day_obs=20240101/visit=10/"
                             "calexp_Cam_10_2.fits.fz"),
                     -ENOENT);
    assert_int_equal(size_of("collections/chain/calexp/instrument=Cam/day_obs=20240102/visit=20/"
                             "calexp_Cam_20_1.fits"),
                     300);
    for (int i = 0; i < 2; i++) { // first by points, then from the sets
        assert_lists("collections/chain/calexp/instrument=Cam/day_obs=20240101/visit=10",
                     "calexp_Cam_10_1.fits/");
        assert_lists("collections/outer/calexp/instrument=Cam",
                     "day_obs=20240101/day_obs=20240102/");
        assert_int_equal(size_of("collections/outer/calexp/instrument=Cam/day_obs=20240101/"
                                 "visit=11/calexp_Cam_11_1.fits"),
                         600);
        assert_int_equal(size_of("collections/chain/calexp/instrument=Cam/day_obs=20240101/"
                                 "visit=10/calexp_Cam_10_2.fits.fz"),
                         -ENOENT);
    }
}

static void a_chain_with_one_member_of_a_type_uses_its_set(void **state)
{
    assert_lists("collections/chain/cfg", "cfg.py/");
    struct set_state s;
    struct set_id chain = set_id_of(repo, 4, 3), member = set_id_of(repo, 1, 3);
    assert_int_equal(catalogue_set(catalogue, &chain, &s), -ENOENT);
    assert_int_equal(catalogue_set(catalogue, &member, &s), 0);
}

static void a_deep_path_is_found_without_reading_a_set(void **state)
{
    int64_t loads = metric_get(METRIC_SET_LOADS);
    const char *path = "collections/u/base/calexp/instrument=Cam/day_obs=20240101/visit=10/"
                       "calexp_Cam_10_2.fits.fz";
    char part[256];
    for (const char *at = strchr(path, '/'); at; at = strchr(at + 1, '/')) {
        snprintf(part, sizeof(part), "%.*s", (int)(at - path), path);
        assert_true(size_of(part) >= 0);
    }
    assert_int_equal(size_of(path), 200);
    assert_int_equal(metric_get(METRIC_SET_LOADS), loads);
}

static void an_answer_is_asked_once(void **state)
{
    static const char *const paths[] = {
        "collections/u/base/calexp/instrument=Cam/day_obs=20240101/visit=10/calexp_Cam_10_1.fits",
        "collections/u/base/calexp/instrument=Cam/day_obs=20240101/visit=10/calexp_Cam_10_9.fits",
        "collections/u/base/calexp/instrument=Cam/day_obs=20240101/visit=10",
        "collections/u/base/calexp/instrument=Cam/day_obs=20991231",
        "collections/u/base/calexp",
        "by-uuid/00000000-0000-4000-8000-000000000000",
        "by-uuid/00000000-0000-4000-8000-0000000fffff",
    };
    int64_t first[7];
    for (int i = 0; i < 7; i++)
        first[i] = size_of(paths[i]);
    uint64_t asked = verbs();
    for (int i = 0; i < 7; i++)
        assert_int_equal(size_of(paths[i]), first[i]);
    assert_int_equal(verbs(), asked);
    // A new life of the process knows them too (but for presence, which snapshots hold).
    repository_close(repo);
    open_repository(3600 * NS_PER_S);
    asked = verbs();
    assert_int_equal(size_of(paths[0]), first[0]);
    assert_int_equal(size_of(paths[5]), first[5]);
    assert_int_equal(verbs(), asked);
}

static void a_wrong_day_above_a_visit_is_not_there(void **state)
{
    for (int i = 0; i < 2; i++) {
        assert_int_equal(size_of(CALEXP "day_obs=20240102/visit=10/calexp_Cam_10_1.fits"), -ENOENT);
        assert_int_equal(size_of(CALEXP "day_obs=20240102/visit=10"), -ENOENT);
        assert_int_equal(size_of(CALEXP "day_obs=20240101/visit=10/calexp_Cam_10_1.fits"), 100);
        list("collections/u/base/calexp"); // and the same from the whole set
    }
}

static void only_the_canonical_name_is_found(void **state)
{
    static const char *const names[] = {"calexp_Cam_10_01.fits",
                                        "calexp_Cam_10_1.fit",
                                        "calexp_Cam_10_1",
                                        "calexp_Cam_10_1.fits.fz",
                                        "calexp_Cam_10_1@x.fits",
                                        "calexp_Cam_11_1.fits",
                                        "calexp_Cam_10_%31.fits",
                                        "Calexp_Cam_10_1.fits",
                                        "calexp_Cam_10_+1.fits",
                                        "calexp_Cam_10_1.fits~",
                                        "",
                                        "calexp_Cam_10_1.fits/"};
    for (int pass_number = 0; pass_number < 2; pass_number++) {
        struct place p;
        BUFFER_CLEANUP scratch = {0};
        struct entry e;
        assert_int_equal(place_at(repo, CALEXP "day_obs=20240101/visit=10", &p), 0);
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
            assert_int_equal(
                asking(repo, place_lookup(&p, text_of(names[i]), &e, &scratch, NULL, &want_)),
                -ENOENT);
        place_release(&p);
        list("collections/u/base/calexp");
    }
    assert_int_equal(size_of("collections/u/base/calexp/instrument=Cam/day_obs=020240101"),
                     -ENOENT);
    assert_int_equal(size_of("collections/u/base/calexp/detector=1"), -ENOENT);
}

static void a_file_is_no_folder(void **state)
{
    struct place p;
    assert_int_equal(place_at(repo, CALEXP "day_obs=20240101/visit=10/calexp_Cam_10_1.fits", &p),
                     -ENOTDIR);
    assert_int_equal(place_at(repo, "README.txt", &p), -ENOTDIR);
    assert_int_equal(place_at(repo, "by-uuid/00000000-0000-4000-8000-000000000000", &p), -ENOTDIR);
    assert_int_equal(place_at(repo, "nothing", &p), -ENOENT);
    assert_int_equal(place_at(repo, "collections/nothing", &p), -ENOENT);
    assert_int_equal(place_at(repo, CALEXP "day_obs=20240101/visit=10/detector=1", &p), -ENOENT);
}

static void long_values_are_found_by_their_shortened_name(void **state)
{
    char names[1024], *slash;
    snprintf(names, sizeof(names), "%s", list("collections/u/raw/note/instrument=Cam"));
    assert_true(strncmp(names, "note_Cam_a%2Fb.json/note_Cam_ggg", 32) == 0);
    char path[1024];
    slash = strchr(names, '/');
    slash[1 + strcspn(slash + 1, "/")] = 0;
    assert_int_equal(strlen(slash + 1), 255);
    snprintf(path, sizeof(path), "collections/u/raw/note/instrument=Cam/%s", slash + 1);
    assert_int_equal(size_of(path), 901);
    path[strlen(path) - 6] ^= 1; // a digit of the hash
    assert_int_equal(size_of(path), -ENOENT);
    assert_int_equal(size_of("collections/u/raw/note/instrument=Cam/note_Cam_a%2Fb.json"), 900);
}

static void a_calibration_collection_without_datasets_is_an_empty_folder(void **state)
{
    assert_int_equal(size_of("collections/calib"), 0);
    assert_lists("collections/calib", "");
}

static void a_uuid_leads_to_the_file_in_its_run(void **state)
{
    struct entry e;
    BUFFER_CLEANUP target = {0};
    char uuid[UUID_TEXT_BYTES], path[64];
    static const struct {
        uint32_t position;
        const char *target;
    } cases[] = {
        {1, "../collections/u/base/calexp/instrument=Cam/day_obs=20240101/visit=10/"
            "calexp_Cam_10_2.fits.fz"},
        {7, "../collections/u/base/cfg/cfg.py"},
        {8, "../collections/u/raw/coadd/skymap=sky/tract=3/patch=4/coadd_sky_3_4_r.fits"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct uuid u = memory_uuid(cases[i].position);
        uuid_format(&u, uuid);
        snprintf(path, sizeof(path), "by-uuid/%s", uuid);
        buffer_clear(&target);
        assert_int_equal(look_up(path, &e, &target), 0);
        assert_int_equal(e.kind, ENTRY_LINK);
        assert_string_equal(target.data, cases[i].target);
        assert_int_equal(e.size_bytes, target.size_bytes);
        assert_true(size_of(target.data + 3) > 0);
    }
    struct uuid unstored = memory_uuid(4);
    uuid_format(&unstored, uuid);
    snprintf(path, sizeof(path), "by-uuid/%s", uuid);
    assert_int_equal(size_of(path), -ENOENT);
    assert_int_equal(size_of("by-uuid/00000000000040008000000000000001"), -ENOENT);
    assert_int_equal(size_of("by-uuid/x"), -ENOENT);
}

static void a_dataset_is_known_by_its_id(void **state)
{
    struct uuid u = memory_uuid(5);
    struct dataset *d;
    BUFFER_CLEANUP json = {0};
    assert_int_equal(asking(repo, repository_dataset(repo, repository_epoch(repo), &u, &d, &want_)),
                     0);
    assert_true(text_equal(d->type, TEXT("calexp")));
    assert_true(text_equal(d->run, TEXT("u/top")));
    assert_int_equal(d->file_count, 2);
    assert_true(text_equal(d->files[1].path, TEXT("f.fits")));
    assert_int_equal(d->files[1].datastore, 1);
    assert_int_equal(d->value_count, 4);
    dataset_free(d);
    assert_int_equal(
        asking(repo, repository_data_id(repo, repository_epoch(repo), &u, &json, &want_)), 0);
    cleanup(cleanup_doc_free) struct doc *doc = NULL;
    char *why;
    assert_int_equal(doc_parse_json(buffer_text(&json), &doc, &why), 0);
    assert_int_equal(doc_integer(doc_get(doc, "visit"), 0), 11);
    assert_int_equal(doc_integer(doc_get(doc, "day_obs"), 0), 20240101);
    assert_true(text_equal(doc_text(doc_get(doc, "physical_filter"), TEXT("")), TEXT("r_1")));
    assert_true(text_equal(doc_text(doc_get(doc, "band"), TEXT("")), TEXT("r")));
    for (size_t i = 1; i < doc_count(doc); i++)
        assert_true(text_compare(doc_key(doc, i - 1), doc_key(doc, i)) < 0);
    struct uuid none = memory_uuid(1000);
    assert_int_equal(
        asking(repo, repository_dataset(repo, repository_epoch(repo), &none, &d, &want_)), -ENOENT);
    assert_int_equal(
        asking(repo, repository_data_id(repo, repository_epoch(repo), &none, &json, &want_)),
        -ENOENT);
}

static void a_size_that_is_not_recorded_is_asked_of_the_disk(void **state)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/raw.fits", folder);
    FILE *f = fopen(path, "w");
    fputs("123456", f);
    fclose(f);
    assert_int_equal(
        size_of("collections/u/raw/instrument=Cam/day_obs=20240101/exposure=10/raw_Cam_10_1.fits"),
        6);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(the_root_has_four_entries),
        T(collections_and_dataset_types_share_folders),
        T(levels_and_files_are_listed_in_order),
        T(a_type_whose_datasets_are_all_unstored_is_an_empty_folder),
        T(a_chain_shows_the_first_and_an_unstored_winner_hides),
        T(a_chain_with_one_member_of_a_type_uses_its_set),
        T(a_deep_path_is_found_without_reading_a_set),
        T(an_answer_is_asked_once),
        T(a_wrong_day_above_a_visit_is_not_there),
        T(only_the_canonical_name_is_found),
        T(a_file_is_no_folder),
        T(long_values_are_found_by_their_shortened_name),
        T(a_calibration_collection_without_datasets_is_an_empty_folder),
        T(a_uuid_leads_to_the_file_in_its_run),
        T(a_dataset_is_known_by_its_id),
        T(a_size_that_is_not_recorded_is_asked_of_the_disk),
    };
    return run_group(tests);
}
