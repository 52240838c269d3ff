// SPDX-License-Identifier: BSD-3-Clause
#include "tests/unit/meta/universe.h"

#include <pthread.h>

#include "base/hash.h"

static void assert_name(struct text t, const char *wanted)
{
    if (!text_equal(t, text_of(wanted)))
        fail_msg("\"%.*s\" is not \"%s\"", (int)t.size_bytes, t.data, wanted);
}

// "instrument day_obs* visit detector": the levels of a type with these columns.
static void assert_levels(const char *columns, const char *wanted)
{
    struct snapshot *s = universe_with_tables();
    BUFFER_CLEANUP levels = {0};
    assert_int_equal(add_type(s, 1, "type", columns), 0);
    seal(s);
    const struct dataset_type *t = &s->types[0];
    assert_true(t->is_readable);
    for (uint32_t i = 0; i < t->level_count; i++) {
        buffer_append_string(&levels, i ? " " : "");
        buffer_append_text(&levels, s->elements[t->levels[i].element].name);
        buffer_append_string(&levels, t->levels[i].is_implied ? "*" : "");
    }
    assert_name(buffer_text(&levels), wanted);
    snapshot_unref(s);
}

// ---------------------------------------------------------------------------------------------

static void elements_stand_in_the_clients_order(void **state)
{
    static const char *const wanted[] = {
        "instrument", "skymap", "ssp_hypothesis_table", "day_obs",  "detector",
        "group",      "physical_filter", "ssp_balanced_index", "subfilter", "tract",
        "visit_system", "exposure", "patch", "visit", "visit_definition", "visit_detector_region",
    };
    struct snapshot *s = universe_with_tables();
    seal(s);
    assert_int_equal(s->element_count, 1 + 17 + 24 + 16);
    assert_name(s->elements[0].name, "band");
    assert_name(s->elements[1].name, "healpix1");
    assert_name(s->elements[17].name, "healpix17");
    assert_name(s->elements[18].name, "htm1");
    assert_name(s->elements[41].name, "htm24");
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        assert_name(s->elements[42 + i].name, wanted[i]);
    snapshot_unref(s);
}

static void an_element_knows_what_finds_its_row(void **state)
{
    struct snapshot *s = universe_with_tables();
    seal(s);
    const struct element *patch = snapshot_element_by_name(s, TEXT("patch"));
    assert_true(patch->has_table && patch->is_dimension);
    assert_int_equal(patch->kind, VALUE_INTEGER);
    assert_int_equal(patch->required_count, 3);
    assert_name(s->elements[patch->required[0]].name, "skymap");
    assert_name(s->elements[patch->required[1]].name, "tract");
    assert_name(s->elements[patch->required[2]].name, "patch");
    const struct element *visit = snapshot_element_by_name(s, TEXT("visit"));
    assert_true(visit->has_day_obs);
    assert_int_equal(visit->implied_count, 2);
    const struct element *region = snapshot_element_by_name(s, TEXT("visit_detector_region"));
    assert_false(region->is_dimension);
    assert_int_equal(region->required_count, 3);
    assert_false(snapshot_element_by_name(s, TEXT("band"))->has_table);
    assert_name(snapshot_element_by_name(s, TEXT("htm7"))->skypix_system, "htm");
    assert_null(snapshot_element_by_name(s, TEXT("htm25")));
    snapshot_unref(s);
}

static void a_table_without_the_universes_columns_is_refused(void **state)
{
    struct snapshot *s = universe_only(universe_quoted);
    assert_int_equal(add_table(s, "detector", "instrument full_name"), -EBADMSG);
    assert_int_equal(add_table(s, "patch", "skymap id"), -EBADMSG);
    assert_int_equal(add_table(s, "htm7", "id"), -EBADMSG);
    assert_int_equal(add_table(s, "nothing", "id"), -EBADMSG);
    assert_false(snapshot_element_by_name(s, TEXT("detector"))->has_table);
    snapshot_unref(s);
}

static void a_universe_that_is_not_as_it_must_be_is_refused_with_a_reason(void **state)
{
    static const char *const bad[] = {
        "", "[]", "{}", "{'elements': {}}", "{'elements': {'a': 1}}",
        "{'elements': {'a': {'keys': [{'name': '', 'type': 'int'}]}}}",
        "{'elements': {'a': {'requires': ['b']}}}",
        "{'elements': {'a': {'requires': ['a']}}}",
        "{'elements': {'a': {'requires': ['b']}, 'b': {'implies': ['a']}}}",
        "{'elements': {'htm3': {'keys': [{'name': 'id', 'type': 'int'}]}}, 'skypix': {'htm': {'max_level': 3}}}",
        "{'elements': {'a': {}}, 'skypix': {'htm': {'max_level': 1000000}}}",
        "{'elements': {'a': {}}, 'skypix': {'htm': {'min_level': 3, 'max_level': 2}}}",
        "{'elements': {'a': {}}, 'skypix': {'htm': 3}}",
        "{'elements': {'a\\u0000b': {}}}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct snapshot *s = snapshot_new();
        char *json = unquoted(bad[i]), *why = NULL;
        assert_int_equal(snapshot_add_universe(s, text_of(json), &why), -EBADMSG);
        assert_non_null(why);
        assert_null(strchr(why, '\n'));
        free(json);
        free(why);
        snapshot_unref(s);
    }
}

static void levels_stand_in_the_trees_order(void **state)
{
    assert_levels("", "");
    assert_levels("band skymap subfilter tract patch", "skymap tract patch band subfilter");
    assert_levels("instrument detector physical_filter", "instrument physical_filter detector");
    assert_levels("instrument group", "instrument group");
    assert_levels("htm7", "htm7");
    assert_levels("healpix3 htm7 instrument", "instrument healpix3 htm7");
    assert_levels("ssp_hypothesis_table ssp_balanced_index", "ssp_hypothesis_table ssp_balanced_index");
}

static void day_obs_is_a_level_above_exposure_and_visit(void **state)
{
    assert_levels("instrument detector exposure", "instrument day_obs* exposure detector");
    assert_levels("instrument detector visit", "instrument day_obs* visit detector");
    assert_levels("instrument visit", "instrument day_obs* visit");
    assert_levels("instrument exposure visit", "instrument day_obs* exposure visit");
    assert_levels("instrument group exposure", "instrument group day_obs* exposure");
    assert_levels("instrument skymap tract patch visit", "instrument skymap tract patch day_obs* visit");
    assert_levels("instrument day_obs", "instrument day_obs");
    assert_levels("instrument day_obs detector", "instrument day_obs detector");
}

static void a_types_columns_are_level_numbers_in_the_tables_order(void **state)
{
    struct snapshot *s = universe_with_tables();
    add_type(s, 1, "raw", "instrument detector exposure");
    seal(s);
    const struct dataset_type *t = &s->types[0];
    assert_int_equal(t->required_count, 3);
    assert_int_equal(t->level_count, 4);
    assert_int_equal(t->columns[0], 0);
    assert_int_equal(t->columns[1], 3);
    assert_int_equal(t->columns[2], 2);
    assert_name(s->elements[t->day_obs_source].name, "exposure");
    snapshot_unref(s);
}

static void an_old_universe_has_day_obs_in_its_exposure_table(void **state)
{
    struct snapshot *s = universe_only(
        "{'elements': {'instrument': {'keys': [{'name': 'name', 'type': 'string'}]},"
        "'exposure': {'keys': [{'name': 'id', 'type': 'int'}], 'requires': ['instrument']},"
        "'visit': {'keys': [{'name': 'id', 'type': 'int'}], 'requires': ['instrument']}}}");
    assert_int_equal(add_table(s, "exposure", "instrument id day_obs group_name"), 0);
    assert_int_equal(add_table(s, "visit", "instrument id name"), 0);
    add_type(s, 1, "raw", "instrument exposure");
    add_type(s, 2, "src", "instrument visit");
    add_type(s, 3, "both", "instrument exposure visit");
    seal(s);
    const struct dataset_type *raw = snapshot_type_by_id(s, 1);
    assert_int_equal(raw->level_count, 3);
    assert_true(raw->levels[1].is_implied);
    const struct element *day = &s->elements[raw->levels[1].element];
    assert_name(day->name, "day_obs");
    assert_false(day->is_dimension || day->has_table);
    assert_int_equal(snapshot_type_by_id(s, 2)->level_count, 2); // its table doesn't say
    assert_int_equal(snapshot_type_by_id(s, 2)->day_obs_source, INDEX_NONE);
    assert_int_equal(snapshot_type_by_id(s, 3)->level_count, 4);
    snapshot_unref(s);
}

static void a_type_that_cannot_be_read_is_in_no_collection(void **state)
{
    struct snapshot *s = universe_with_tables();
    uint32_t count;
    assert_int_equal(add_type(s, 1, "known", "instrument"), 0);
    assert_int_equal(add_type(s, 2, "strange", "instrument constellation"), 0);
    assert_int_equal(add_type(s, 3, "twice", "instrument instrument"), 0);
    assert_int_equal(add_type(s, 4, "combination", "visit_definition"), 0);
    assert_int_equal(snapshot_add_type(s, 5, TEXT("gone"), TEXT(""), TEXT("t"), TEXT(""), NULL, 0), 0);
    assert_int_equal(add_collection(s, 1, "run", COLLECTION_RUN), 0);
    for (int id = 1; id <= 5; id++)
        assert_int_equal(snapshot_add_summary(s, 1, id), 0);
    seal(s);
    for (int id = 1; id <= 5; id++)
        assert_int_equal(snapshot_type_by_id(s, id)->is_readable, id == 1);
    const uint32_t *types = snapshot_types(s, &s->collections[0], &count);
    assert_int_equal(count, 1);
    assert_name(s->types[types[0]].name, "known");
    snapshot_unref(s);
}

// ---------------------------------------------------------------------------------------------

static void bad_rows_are_refused_and_the_rest_goes_on(void **state)
{
    struct snapshot *s = universe_with_tables();
    static char long_name[70000];
    memset(long_name, 'x', sizeof long_name - 1);
    assert_int_equal(add_type(s, 1, "good", ""), 0);
    assert_int_equal(add_type(s, 1, "other", ""), -EEXIST);
    assert_int_equal(add_type(s, 2, "good", ""), -EEXIST);
    const char *const names[] = {"", "a/b", "1a", "a=b", "a..b", ".a", "a.", "a b", "é", "%"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_int_equal(add_type(s, 3, names[i], ""), -EBADMSG);
    assert_int_equal(snapshot_add_type(s, 3, TEXT("a"), TEXT(""), TEXT("t\0t"), TEXT(""), NULL, 0), -EBADMSG);
    assert_int_equal(add_collection(s, 10, "run", COLLECTION_RUN), 0);
    assert_int_equal(add_collection(s, 10, "again", COLLECTION_RUN), -EEXIST);
    assert_int_equal(add_collection(s, 11, "run", COLLECTION_TAGGED), -EEXIST);
    assert_int_equal(add_collection(s, 12, "kind", 0), -EBADMSG);
    assert_int_equal(add_collection(s, 12, "kind", 5), -EBADMSG);
    assert_int_equal(add_collection(s, 12, long_name, COLLECTION_RUN), -EBADMSG);
    assert_int_equal(add_collection(s, 13, "chain", COLLECTION_CHAINED), 0);
    assert_int_equal(snapshot_add_member(s, 13, 99), -EBADMSG);
    assert_int_equal(snapshot_add_member(s, 99, 10), -EBADMSG);
    assert_int_equal(snapshot_add_member(s, 10, 13), -EBADMSG);
    assert_int_equal(snapshot_add_member(s, 13, 13), -EBADMSG);
    assert_int_equal(snapshot_add_member(s, 13, 10), 0);
    assert_int_equal(snapshot_add_summary(s, 99, 1), -EBADMSG);
    assert_int_equal(snapshot_add_summary(s, 10, 99), -EBADMSG);
    assert_int_equal(snapshot_add_summary(s, 13, 1), -EBADMSG);
    assert_int_equal(snapshot_add_summary(s, 10, 1), 0);
    assert_int_equal(snapshot_add_summary(s, 10, 1), 0); // said twice
    seal(s);
    assert_int_equal(s->collection_count, 2);
    assert_int_equal(s->type_count, 1);
    assert_int_equal(s->collections[1].own_types->count, 1);
    snapshot_unref(s);
}

static void a_snapshot_without_a_universe_cannot_be_sealed(void **state)
{
    struct snapshot *s = snapshot_new();
    char *why = NULL;
    assert_int_equal(snapshot_seal(s, &why), -EBADMSG);
    assert_non_null(why);
    free(why);
    snapshot_unref(s);
}

static void things_are_found_by_id_and_by_name(void **state)
{
    struct snapshot *s = universe_with_tables();
    const char *const names[] = {"m", "a", "z", "a/b", "", "a-b", "a//b", "u/alice"};
    for (int i = 0; i < 8; i++) {
        assert_int_equal(add_collection(s, 1000 - i, names[i], COLLECTION_RUN), 0);
        assert_int_equal(add_type(s, 500 - i, (const char *[]){"e", "c", "g", "a", "h", "b", "d", "f"}[i], ""), 0);
    }
    seal(s);
    for (int i = 0; i < 8; i++) {
        const struct collection *c = snapshot_collection_by_name(s, text_of(names[i]));
        assert_non_null(c);
        assert_int_equal(c->id, 1000 - i);
        assert_int_equal(c->index, c - s->collections);
        assert_ptr_equal(snapshot_collection_by_id(s, 1000 - i), c);
        assert_non_null(snapshot_type_by_id(s, 500 - i));
        assert_ptr_equal(snapshot_type_by_name(s, snapshot_type_by_id(s, 500 - i)->name),
                         snapshot_type_by_id(s, 500 - i));
    }
    assert_null(snapshot_collection_by_name(s, TEXT("b")));
    assert_null(snapshot_collection_by_id(s, 1001));
    assert_null(snapshot_type_by_id(s, 1));
    assert_null(snapshot_type_by_name(s, TEXT("x")));
    for (uint32_t i = 1; i < 8; i++) {
        assert_true(text_compare(s->collections[i - 1].name, s->collections[i].name) < 0);
        assert_true(text_compare(s->types[i - 1].name, s->types[i].name) < 0);
    }
    snapshot_unref(s);
}

// ---------------------------------------------------------------------------------------------
// The tree of names.

// The collection that a path of escaped names leads to; NULL.
static const struct collection *walk(const struct snapshot *s, const char *path)
{
    const struct branch *b = &s->branches[0];
    for (const char *at = path; b && *at;) {
        size_t size = strcspn(at, "/");
        b = snapshot_child(s, b, (struct text){at, size});
        at += size + (at[size] == '/');
    }
    return b && b->collection != INDEX_NONE ? &s->collections[b->collection] : NULL;
}

static void a_collections_name_may_begin_anothers(void **state)
{
    struct snapshot *s = universe_with_tables();
    const char *const names[] = {"u/alice", "u/alice/run1", "u/alice/run1/tagged", "a", "a-b", "a/c",
                                 "a.b/c", "a!", "a/b/c/d"};
    for (int i = 0; i < 9; i++)
        assert_int_equal(add_collection(s, i, names[i], COLLECTION_RUN), 0);
    seal(s);
    for (int i = 0; i < 9; i++) {
        const struct collection *c = walk(s, names[i]);
        assert_non_null(c);
        assert_int_equal(c->id, i);
        assert_int_equal(s->branches[c->branch].collection, c->index);
    }
    assert_null(walk(s, "u"));
    assert_null(walk(s, "a/b"));
    assert_null(walk(s, "b"));
    // u alice run1 tagged a a-b c a.b c a! b c d, and the root
    assert_int_equal(s->branch_count, 14);
    snapshot_unref(s);
}

static void empty_parts_have_a_name(void **state)
{
    struct snapshot *s = universe_with_tables();
    const char *const names[] = {"", "/lead", "trail/", "a//b", "/", "//"};
    const char *const paths[] = {"%", "%/lead", "trail/%", "a/%/b", "%/%", "%/%/%"};
    for (int i = 0; i < 6; i++)
        assert_int_equal(add_collection(s, i, names[i], COLLECTION_RUN), 0);
    seal(s);
    for (int i = 0; i < 6; i++) {
        const struct collection *c = walk(s, paths[i]);
        assert_non_null(c);
        assert_int_equal(c->id, i);
    }
    snapshot_unref(s);
}

static void parts_are_shown_escaped_and_shortened(void **state)
{
    struct snapshot *s = universe_with_tables();
    char long_name[600], shown[600];
    memset(long_name, 'x', sizeof long_name);
    long_name[300] = 0;
    assert_int_equal(add_collection(s, 1, "../a=b/\n", COLLECTION_RUN), 0);
    assert_int_equal(add_collection(s, 2, long_name, COLLECTION_RUN), 0);
    assert_int_equal(snapshot_add_collection(s, 3, TEXT("nul\0byte"), COLLECTION_RUN, TEXT("")), 0);
    seal(s);
    assert_int_equal(walk(s, "%2E%2E/a%3Db/%0A")->id, 1);
    snprintf(shown, sizeof shown, "%.238s~%016llx", long_name,
             (unsigned long long)hash64(long_name, 300));
    assert_int_equal(walk(s, shown)->id, 2);
    assert_null(walk(s, long_name));
    assert_int_equal(walk(s, "nul%00byte")->id, 3);
    snapshot_unref(s);
}

static void children_are_ordered_by_the_hash_of_their_name(void **state)
{
    struct snapshot *s = universe_with_tables();
    char name[32];
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "u/user%03d/run", i);
        assert_int_equal(add_collection(s, i, name, COLLECTION_RUN), 0);
    }
    seal(s);
    const struct branch *u = snapshot_child(s, &s->branches[0], TEXT("u"));
    assert_int_equal(u->child_count, 1000);
    for (uint32_t i = 0; i < u->child_count; i++) {
        const struct branch *b = &s->branches[u->children[i]];
        assert_true(b->name_hash == hash64(b->name.data, b->name.size_bytes) >> 2);
        assert_ptr_equal(&s->branches[b->parent], u);
        if (i > 0)
            assert_true(s->branches[u->children[i - 1]].name_hash < b->name_hash);
    }
    snapshot_unref(s);
}

static void a_name_of_a_thousand_parts_is_a_deep_tree(void **state)
{
    struct snapshot *s = universe_with_tables();
    BUFFER_CLEANUP name = {0};
    for (int i = 0; i < 1000; i++)
        buffer_format(&name, i ? "/p%d" : "p%d", i);
    assert_int_equal(add_collection(s, 1, name.data, COLLECTION_RUN), 0);
    buffer_append_string(&name, "x");
    assert_int_equal(add_collection(s, 2, name.data, COLLECTION_RUN), 0);
    seal(s);
    assert_int_equal(s->branch_count, 1002);
    assert_int_equal(walk(s, name.data)->id, 2);
    snapshot_unref(s);
}

// ---------------------------------------------------------------------------------------------
// Chains.

static void assert_path(struct snapshot *s, const char *chain, const char *wanted)
{
    BUFFER_CLEANUP path = {0};
    uint32_t count;
    const uint32_t *indexes =
        snapshot_search_path(s, snapshot_collection_by_name(s, text_of(chain)), &count);
    for (uint32_t i = 0; i < count; i++) {
        buffer_append_string(&path, i ? " " : "");
        buffer_append_text(&path, s->collections[indexes[i]].name);
    }
    assert_name(buffer_text(&path), wanted);
}

static void a_search_path_is_depth_first_and_has_each_collection_once(void **state)
{
    struct snapshot *s = universe_with_tables();
    const char *const names[] = {"a", "b", "c", "d"};
    for (int i = 0; i < 4; i++)
        add_collection(s, i, names[i], i == 3 ? COLLECTION_CALIBRATION : COLLECTION_RUN);
    for (int i = 10; i < 15; i++)
        add_collection(s, i, (const char *[]){"inner", "outer", "empty", "diamond", "loop"}[i - 10],
                       COLLECTION_CHAINED);
    const int members[][2] = {{10, 2}, {10, 1}, {11, 0}, {11, 10}, {11, 2}, {11, 3}, {13, 11},
                              {13, 10}, {13, 12}, {14, 1}, {14, 13}};
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        assert_int_equal(snapshot_add_member(s, members[i][0], members[i][1]), 0);
    assert_int_equal(snapshot_add_member(s, 10, 14), 0); // what only a damaged registry has
    seal(s);
    assert_path(s, "a", "a");
    assert_path(s, "inner", "c b a d");
    assert_path(s, "outer", "a c b d");
    assert_path(s, "empty", "");
    assert_path(s, "diamond", "a c b d");
    assert_path(s, "loop", "b a c d");
    const struct collection *outer = snapshot_collection_by_name(s, TEXT("outer"));
    assert_int_equal(outer->child_count, 4);
    assert_name(s->collections[outer->children[1]].name, "inner");
    snapshot_unref(s);
}

static void chains_may_be_nested_as_deep_as_there_are_collections(void **state)
{
    struct snapshot *s = universe_with_tables();
    char name[32];
    const int deep = 50000;
    uint32_t count;
    for (int i = 0; i < deep; i++) {
        snprintf(name, sizeof name, "c%05d", i);
        add_collection(s, i, name, i ? COLLECTION_CHAINED : COLLECTION_RUN);
    }
    for (int i = 1; i < deep; i++)
        assert_int_equal(snapshot_add_member(s, i, i - 1), 0);
    seal(s);
    const uint32_t *path = snapshot_search_path(s, &s->collections[deep - 1], &count);
    assert_int_equal(count, 1);
    assert_int_equal(path[0], 0);
    snapshot_unref(s);
}

static struct snapshot *with_summaries(void)
{
    struct snapshot *s = universe_with_tables();
    add_type(s, 1, "zeta", "");
    add_type(s, 2, "alpha", "");
    add_type(s, 3, "mid", "");
    add_collection(s, 1, "run1", COLLECTION_RUN);
    add_collection(s, 2, "run2", COLLECTION_TAGGED);
    add_collection(s, 3, "none", COLLECTION_RUN);
    add_collection(s, 4, "chain", COLLECTION_CHAINED);
    for (int i = 1; i <= 3; i++)
        snapshot_add_member(s, 4, i);
    snapshot_add_summary(s, 2, 2);
    snapshot_add_summary(s, 1, 1);
    snapshot_add_summary(s, 1, 2);
    seal(s);
    return s;
}

static void a_chain_may_hold_what_its_members_may(void **state)
{
    struct snapshot *s = with_summaries();
    const struct collection *chain = snapshot_collection_by_name(s, TEXT("chain"));
    uint32_t count;
    const uint32_t *types = snapshot_types(s, chain, &count);
    assert_int_equal(count, 2);
    assert_name(s->types[types[0]].name, "alpha");
    assert_name(s->types[types[1]].name, "zeta");
    const struct dataset_type *mid = snapshot_type_by_name(s, TEXT("mid"));
    const struct dataset_type *zeta = snapshot_type_by_name(s, TEXT("zeta"));
    assert_true(snapshot_may_hold(s, chain, zeta));
    assert_false(snapshot_may_hold(s, chain, mid));
    assert_false(snapshot_may_hold(s, snapshot_collection_by_id(s, 2), zeta));
    snapshot_types(s, snapshot_collection_by_id(s, 3), &count);
    assert_int_equal(count, 0);
    snapshot_unref(s);
}

static void presence_is_what_was_asked_so_far(void **state)
{
    struct snapshot *s = with_summaries();
    const struct collection *chain = snapshot_collection_by_name(s, TEXT("chain"));
    const struct collection *run1 = snapshot_collection_by_id(s, 1);
    const struct collection *run2 = snapshot_collection_by_id(s, 2);
    const struct dataset_type *alpha = snapshot_type_by_name(s, TEXT("alpha"));
    const struct dataset_type *mid = snapshot_type_by_name(s, TEXT("mid"));
    assert_int_equal(snapshot_presence(s, run1, alpha), PRESENCE_UNKNOWN);
    assert_int_equal(snapshot_presence(s, run1, mid), PRESENCE_ABSENT);
    assert_int_equal(snapshot_presence(s, chain, mid), PRESENCE_ABSENT);
    snapshot_set_presence(s, run1, alpha, 0, false);
    assert_int_equal(snapshot_presence(s, run1, alpha), PRESENCE_ABSENT);
    assert_int_equal(snapshot_presence(s, chain, alpha), PRESENCE_UNKNOWN);
    snapshot_set_presence(s, run2, alpha, 0, true);
    assert_int_equal(snapshot_presence(s, chain, alpha), PRESENCE_PRESENT);
    snapshot_set_presence(s, run2, alpha, 0, false);
    assert_int_equal(snapshot_presence(s, chain, alpha), PRESENCE_ABSENT);
    snapshot_unref(s);
}

static void equal_summaries_are_kept_once(void **state)
{
    struct snapshot *s = universe_with_tables();
    char name[32];
    for (int t = 0; t < 100; t++) {
        snprintf(name, sizeof name, "type%d", t);
        add_type(s, t, name, "");
    }
    for (int c = 0; c < 100; c++) {
        snprintf(name, sizeof name, "run%d", c);
        add_collection(s, c, name, COLLECTION_RUN);
        for (int t = 0; t < 100; t++)
            snapshot_add_summary(s, c, t);
    }
    seal(s);
    for (int c = 1; c < 100; c++) {
        assert_ptr_equal(s->collections[c].own_types, s->collections[0].own_types);
        assert_ptr_not_equal(s->collections[c].presence, s->collections[0].presence);
    }
    snapshot_unref(s);
}

#define READERS 4

static void *read_all_paths(void *argument)
{
    struct snapshot *s = argument;
    size_t all = 0;
    for (uint32_t i = 0; i < s->collection_count; i++) {
        uint32_t count;
        snapshot_search_path(s, &s->collections[i], &count);
        all += count;
        snapshot_types(s, &s->collections[i], &count);
        all += count;
        all += snapshot_presence(s, &s->collections[i], &s->types[0]) == PRESENCE_PRESENT;
        if (s->collections[i].kind != COLLECTION_CHAINED)
            snapshot_set_presence(s, &s->collections[i], &s->types[0], 0, false);
    }
    snapshot_unref(s);
    return (void *)all;
}

static void threads_read_a_snapshot_together(void **state)
{
    struct snapshot *s = universe_with_tables();
    pthread_t threads[READERS];
    void *all[READERS];
    char name[32];
    add_type(s, 1, "type", "");
    for (int i = 0; i < 200; i++) {
        snprintf(name, sizeof name, "c%03d", i);
        add_collection(s, i, name, i % 2 ? COLLECTION_CHAINED : COLLECTION_RUN);
    }
    for (int i = 1; i < 200; i += 2)
        for (int k = 0; k < i; k++)
            snapshot_add_member(s, i, k);
    for (int i = 0; i < 200; i += 2)
        snapshot_add_summary(s, i, 1);
    seal(s);
    for (int i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_all_paths, snapshot_ref(s)), 0);
    snapshot_unref(s);
    for (int i = 0; i < READERS; i++)
        pthread_join(threads[i], &all[i]);
    for (int i = 1; i < READERS; i++)
        assert_ptr_equal(all[i], all[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elements_stand_in_the_clients_order),
        cmocka_unit_test(an_element_knows_what_finds_its_row),
        cmocka_unit_test(a_table_without_the_universes_columns_is_refused),
        cmocka_unit_test(a_universe_that_is_not_as_it_must_be_is_refused_with_a_reason),
        cmocka_unit_test(levels_stand_in_the_trees_order),
        cmocka_unit_test(day_obs_is_a_level_above_exposure_and_visit),
        cmocka_unit_test(a_types_columns_are_level_numbers_in_the_tables_order),
        cmocka_unit_test(an_old_universe_has_day_obs_in_its_exposure_table),
        cmocka_unit_test(a_type_that_cannot_be_read_is_in_no_collection),
        cmocka_unit_test(bad_rows_are_refused_and_the_rest_goes_on),
        cmocka_unit_test(a_snapshot_without_a_universe_cannot_be_sealed),
        cmocka_unit_test(things_are_found_by_id_and_by_name),
        cmocka_unit_test(a_collections_name_may_begin_anothers),
        cmocka_unit_test(empty_parts_have_a_name),
        cmocka_unit_test(parts_are_shown_escaped_and_shortened),
        cmocka_unit_test(children_are_ordered_by_the_hash_of_their_name),
        cmocka_unit_test(a_name_of_a_thousand_parts_is_a_deep_tree),
        cmocka_unit_test(a_search_path_is_depth_first_and_has_each_collection_once),
        cmocka_unit_test(chains_may_be_nested_as_deep_as_there_are_collections),
        cmocka_unit_test(a_chain_may_hold_what_its_members_may),
        cmocka_unit_test(presence_is_what_was_asked_so_far),
        cmocka_unit_test(equal_summaries_are_kept_once),
        cmocka_unit_test(threads_read_a_snapshot_together),
    };
    return run_group(tests);
}
