// SPDX-License-Identifier: BSD-3-Clause
// Explaining paths, over an in-memory registry.
#include "tests/unit/base/harness.h"

#include "meta/explain.h"
#include "tests/unit/meta/world.h"

// The account of the last path, as one JSON map with the sentences in it.
static char *told;
static struct explained found;

static int explain_in(const char *folder_path, const char *name)
{
    struct place p;
    BUFFER_CLEANUP json = {0};
    int r = -EINPROGRESS;
    for (int asks = 0; r == -EINPROGRESS; asks++) {
        struct account a = {doc_new(DOC_MAP), doc_new(DOC_LIST)};
        struct want want = {0};
        assert_true(asks < 20);
        buffer_release(&found.component);
        found = (struct explained){0};
        assert_int_equal(place_at(repo, folder_path, &p), 0);
        r = place_explain(&p, text_of(name), &a, &found, &want);
        place_release(&p);
        if (r == -EINPROGRESS)
            assert_int_equal(ask(repo, &want), 0);
        doc_put(a.facts, "sentences", a.sentences);
        buffer_clear(&json);
        doc_write_json(a.facts, false, &json);
        doc_free(a.facts);
    }
    free(told);
    told = buffer_steal(&json);
    return r;
}

static void assert_told(const char *folder_path, const char *name, const char *wanted)
{
    assert_int_equal(explain_in(folder_path, name), 0);
    if (!strstr(told, wanted))
        fail_msg("\"%s\" is not in: %s", wanted, told);
}

static int forget(void **state)
{
    buffer_release(&found.component);
    free(told);
    told = NULL;
    return tear_down(state);
}

#define CHAIN "collections/chain/calexp/instrument=Cam/"

static void the_winner_and_who_is_shadowed_are_told(void **state)
{
    assert_told(CHAIN "day_obs=20240101/visit=10", "calexp_Cam_10_1.fits", "\"state\":\"wins\"");
    assert_told(CHAIN "day_obs=20240101/visit=10", "calexp_Cam_10_1.fits",
                "\"collection\":\"u/base\",\"collection_type\":\"RUN\"");
    assert_non_null(strstr(told, "\"state\":\"shadowed\""));
    assert_true(found.is_dataset && found.uuid.bytes[15] == memory_uuid(3).bytes[15]);
    assert_told("collections/outer", "", "\"chain\":[\"chain\",\"other\"]");
}

static void a_winner_that_is_not_stored_is_told(void **state)
{
    assert_told(CHAIN "day_obs=20240101/visit=10", "calexp_Cam_10_2.fits", "\"reason\":\"not stored\"");
    assert_non_null(strstr(told, "\"state\":\"wins, not stored\""));
    assert_non_null(strstr(told, "hides those behind it"));
}

static void why_a_name_is_not_there_is_told(void **state)
{
    assert_told(CHAIN "day_obs=20240102/visit=10", "calexp_Cam_10_1.fits", "below day_obs=20240101");
    assert_told(CHAIN "day_obs=20240101/visit=10", "calexp_Cam_10_7.fits", "\"reason\":\"no dataset\"");
    assert_told(CHAIN "day_obs=20240101/visit=10", "calexp_Cam_10_1.txt", "\"reason\":\"another suffix\"");
    assert_told(CHAIN "day_obs=20240101/visit=10", "calexp_Cam", "calexp_<instrument>_<visit>_<detector>");
    assert_told("collections/chain/calexp", "visit=7", "\"reason\":\"another level\"");
    assert_told(CHAIN, "day_obs=x", "whole numbers");
    assert_told("collections/u", "bas%65", "\"canonical\":\"base\"");
    assert_told("collections/u", "bas", "\"known\":[\"base\"");
    assert_told("collections/u/base", "raw", "has no dataset of it");
    assert_told("", "collection", "collections");
    assert_told("by-uuid", "x", "ids of datasets");
    assert_told("by-uuid", "00000000-0000-0000-0000-00000000ffff", "\"reason\":\"no dataset\"");
}

static void known_names_are_told_once_the_set_is_at_hand(void **state)
{
    assert_told(CHAIN "day_obs=20240101", "visit=7", "Listing its folder shows");
    list(CHAIN "day_obs=20240101");
    assert_told(CHAIN "day_obs=20240101", "visit=7", "\"known\":[\"visit=10\",\"visit=11\"]");
}

static void a_composite_and_its_components_are_datasets(void **state)
{
    static const char *const in = "collections/u/parts/calexp/instrument=Cam/day_obs=20240101/visit=10";
    char path[256];
    assert_told(in, "calexp_Cam_10_1.components", "made of several files");
    assert_true(found.is_dataset && !found.is_component);
    snprintf(path, sizeof(path), "%s/calexp_Cam_10_1.components", in);
    assert_told(path, "wcs.fits", "\"component\":\"wcs\"");
    assert_true(found.is_component && text_equal(buffer_text(&found.component), TEXT("wcs")));
    assert_told(path, "psf.fits", "no such component");
}

static void a_uuid_is_explained(void **state)
{
    struct uuid u = memory_uuid(0), hidden = memory_uuid(4);
    char uuid[UUID_TEXT_BYTES];
    uuid_format(&u, uuid);
    assert_told("by-uuid", uuid, "\"kind\":\"link\"");
    assert_true(found.is_dataset);
    uuid_format(&hidden, uuid);
    assert_told("by-uuid", uuid, "\"reason\":\"not stored\"");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, forget)
    const struct CMUnitTest tests[] = {
        T(the_winner_and_who_is_shadowed_are_told),
        T(a_winner_that_is_not_stored_is_told),
        T(why_a_name_is_not_there_is_told),
        T(known_names_are_told_once_the_set_is_at_hand),
        T(a_composite_and_its_components_are_datasets),
        T(a_uuid_is_explained),
    };
    return run_group(tests);
}
