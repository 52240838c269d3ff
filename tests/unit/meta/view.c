// SPDX-License-Identifier: BSD-3-Clause
// Views in folders of collections' names, over an in-memory registry.
#include "tests/unit/base/harness.h"

#include "tests/unit/meta/world.h"

// clang-format off
static const char *const runs_members[] = {"u/runs/20240102T000000Z", ".a/b%", "u/runs", NULL};
static const char *const none[] = {NULL};
static const struct memory_collection dated[] = {
    {"u/runs", COLLECTION_RUN},
    {"u/runs/20240102T000000Z", COLLECTION_RUN},
    {"u/runs/20231231T235959Z", COLLECTION_RUN},
    {"u/runs/99999999T000000Z", COLLECTION_RUN},
    {"u/runs/20240103T000000Z/below", COLLECTION_RUN},
    {"u/runs/20240104T000000Z.old", COLLECTION_RUN},
    {"u/runs/120240105T000000Z", COLLECTION_RUN},
    {"u/runs/all", COLLECTION_CHAINED, runs_members},
    {"u/none", COLLECTION_CHAINED, none},
    {"w/step1-20240101T000000Z", COLLECTION_RUN},
    {"w/step2_20240101T000000Z", COLLECTION_RUN},
    {".a/b%", COLLECTION_RUN},
    {}};
static const struct memory_collection dated_later[] = {
    {"u/runs", COLLECTION_RUN},
    {"u/runs/20240102T000000Z", COLLECTION_RUN},
    {"u/runs/20250102T000000Z", COLLECTION_RUN},
    {}};
static const struct memory_dataset nothing[] = {{}};
// clang-format on
static const struct memory_description now = {types, dated, records, nothing};
static const struct memory_description later = {types, dated_later, records, nothing};

static void assert_link(const char *path, const char *wanted)
{
    struct entry e;
    BUFFER_CLEANUP target = {0};
    assert_int_equal(look_up(path, &e, &target), 0);
    assert_int_equal(e.kind, ENTRY_LINK);
    assert_string_equal(target.data, wanted);
    assert_int_equal(e.size_bytes, target.size_bytes);
}

static void a_chain_has_its_members_as_links_in_order(void **state)
{
    change(&now);
    assert_lists("collections/u/runs/all/@members",
                 "000-u%2Fruns%2F20240102T000000Z/001-%2Ea%2Fb%25/002-u%2Fruns/");
    assert_link("collections/u/runs/all/@members/000-u%2Fruns%2F20240102T000000Z",
                "../../../../u/runs/20240102T000000Z");
    assert_link("collections/u/runs/all/@members/001-%2Ea%2Fb%25", "../../../../%2Ea/b%25");
    assert_link("collections/u/runs/all/@members/002-u%2Fruns", "../../../../u/runs");
    assert_lists("collections/u/none/@members", "");
}

static void a_member_has_one_name(void **state)
{
    static const char *const names[] = {"0-u%2Fruns", "00-u", "000", "003-u%2Fruns", "001-u%2Fruns", "-",
                                        "02-u%2Fruns", "0002-u%2Fruns", "99999999999999999999-x", "002-u/x"};
    struct entry e;
    change(&now);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char path[256];
        snprintf(path, sizeof(path), "collections/u/runs/all/@members/%s", names[i]);
        assert_true(look_up(path, &e, NULL) < 0);
    }
}

static void only_a_chain_has_members(void **state)
{
    struct entry e;
    struct place p;
    change(&now);
    assert_int_equal(look_up("collections/u/runs/@members", &e, NULL), -ENOENT);
    assert_int_equal(look_up("collections/@members", &e, NULL), -ENOENT);
    assert_int_equal(place_at(repo, "collections/u/@members", &p), -ENOENT);
    assert_int_equal(place_at(repo, "collections/u/runs/all/@members/002-u%2Fruns", &p), -ENOTDIR);
    assert_int_equal(place_at(repo, "collections/u/runs/all/@members/002-x", &p), -ENOENT);
}

static void the_latest_of_dated_collections_has_a_link(void **state)
{
    struct place p;
    struct entry e;
    change(&now);
    assert_link("collections/u/runs/@latest", "20240102T000000Z");
    assert_int_equal(place_at(repo, "collections/u/runs/@latest", &p), -ENOTDIR);
    // Of equal times the last name; and the folder need be no collection.
    assert_link("collections/w/@latest", "step2_20240101T000000Z");
    assert_int_equal(look_up("collections/u/@latest", &e, NULL), -ENOENT);
    assert_int_equal(place_at(repo, "collections/u/@latest", &p), -ENOENT);
}

static void views_are_listed_after_the_names_where_they_are(void **state)
{
    change(&now);
    assert_lists("collections/u/none", "@members/");
    assert_lists("collections/u/runs/all", "@members/");
    assert_null(strchr(list("collections/u"), '@'));
    const char *names = list("collections/u/runs"), *at = strstr(names, "@latest");
    assert_non_null(at);
    assert_string_equal(at, "@latest/");
    assert_null(strstr(names, "@members"));
}

static void another_latest_is_another_version(void **state)
{
    struct entry one, other;
    change(&now);
    assert_int_equal(look_up("collections/u/runs/@latest", &one, NULL), 0);
    change(&later);
    assert_int_equal(look_up("collections/u/runs/@latest", &other, NULL), 0);
    assert_link("collections/u/runs/@latest", "20250102T000000Z");
    assert_true(one.version != other.version && one.version && other.version);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(a_chain_has_its_members_as_links_in_order),
        T(a_member_has_one_name),
        T(only_a_chain_has_members),
        T(the_latest_of_dated_collections_has_a_link),
        T(views_are_listed_after_the_names_where_they_are),
        T(another_latest_is_another_version),
    };
    return run_group(tests);
}
