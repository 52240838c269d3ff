// SPDX-License-Identifier: BSD-3-Clause
// Other schemas of a registry: collections that are kept by name, universes before version 6.
#include "tests/unit/meta/seen.h"

// The same content as NameKeyCollectionManager keeps it, and a collection with a NUL in its name.
static int key_by_name(void **state)
{
    if (make_database(state) < 0)
        return -1;
    run_sql("INSERT INTO collection VALUES (7, x'6e756c0079', 1, NULL); UPDATE collection SET name = CAST(name AS TEXT);");
    for (size_t i = 0; i < sizeof key_by_name_tables / sizeof *key_by_name_tables; i++)
        run_sql_formatted(key_by_name_format, key_by_name_tables[i], key_by_name_tables[i]);
    run_sql(key_by_name_sql);
    set_attribute("config:registry.managers.collections", "a.nameKey.NameKeyCollectionManager");
    set_attribute("version:a.nameKey.NameKeyCollectionManager", "2.0.0");
    return 0;
}

static int64_t id_of(const struct snapshot *s, const char *name)
{
    const struct collection *c = snapshot_collection_by_name(s, text_of(name));
    assert_non_null(c);
    return c->id;
}

static void put_named(unsigned number, const char *run, const char *key, const char *path)
{
    run_sql_formatted("INSERT INTO dataset VALUES ('%s', 2, %u, '%s');"
                      "INSERT INTO dataset_tags_00000002 VALUES (2, '%s', '%s'%s);"
                      "INSERT INTO file_datastore_records VALUES ('%s', '%s', 'f', 'ExposureF', '__NULL_STRING__', NULL, 17);",
                      hex_of(number), 1000 + number, run, hex_of(number), run, key, hex_of(number), path);
}

static void collections_kept_by_name_have_numbers_that_stay(void **state)
{
    struct registry *r = open_database();
    struct snapshot *s = snapshot_of(r);
    uint32_t count;
    assert_int_equal(s->collection_count, 7);
    const struct collection *chain = snapshot_collection_by_name(s, TEXT("chain"));
    const uint32_t *path = snapshot_search_path(s, chain, &count);
    assert_int_equal(count, 3);
    assert_string_equal(s->collections[path[0]].name.data, "u/alice/run1");
    assert_string_equal(s->collections[path[1]].name.data, "u/alice");
    assert_string_equal(s->collections[path[2]].name.data, "tagged");
    assert_true(snapshot_may_hold(s, chain, type(s, "calexp")));
    assert_false(snapshot_may_hold(s, chain, type(s, "camera")));
    assert_non_null(snapshot_collection_by_name(s, (struct text){"nul\0y", 5}));
    // Another snapshot of a later state, with collections before and after it in any order.
    int64_t before = id_of(s, "u/alice");
    run_sql("INSERT INTO collection VALUES ('aaa', 1, NULL), ('zzz', 1, NULL); DELETE FROM collection WHERE name = 'raws'");
    struct snapshot *later = snapshot_of(r);
    assert_true(id_of(later, "u/alice") == before);
    assert_true(before >= 0);
    snapshot_unref(s);
    snapshot_unref(later);
    registry_close(r);
}

static void datasets_of_collections_kept_by_name_are_read(void **state)
{
    struct registry *r = open_database();
    struct snapshot *s = snapshot_of(r);
    struct seen n = {0};
    const struct dataset_type *t = type(s, "calexp");
    const int64_t alice = id_of(s, "u/alice"), run1 = id_of(s, "u/alice/run1"), tagged = id_of(s, "tagged");
    const int64_t path[] = {tagged, run1, alice};
    const struct value values[] = {V("Cam"), N(0), N(100), N(1)};
    struct uuid u = {{0x01, 0x8f, 0, 0, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, 2}};
    assert_int_equal(present(r, s, t, alice), 0);
    put_named(1, "u/alice", ",'Cam',1,100", "a.fits");
    put_named(2, "u/alice/run1", ",'Cam',1,100", "b.fits");
    put_named(3, "u/alice", ",'Cam',2,101", "c.fits");
    assert_int_equal(present(r, s, t, alice), 1);
    assert_int_equal(present(r, s, t, tagged), 0);
    read_set(r, s, "calexp", alice, 1, &n);
    seen_is(&n, "1 Cam 20240101 100 1 [0 a.fits 17]; 3 Cam 20240102 101 2 [0 c.fits 17]");
    assert_int_equal(registry_row(r, s, t, FIRST(path, 3, values), see, &n), 0);
    seen_is(&n, "2 Cam 20240101 100 1 [0 b.fits 17]");
    assert_int_equal(registry_row(r, s, t, FIRST(path + 2, 1, values), see, &n), 0);
    seen_is(&n, "1 Cam 20240101 100 1 [0 a.fits 17]");
    assert_int_equal(registry_dataset(r, s, &u, see, &n), 0);
    seen_is(&n, "2 Cam 20240101 100 1 [0 b.fits 17]");
    snapshot_unref(s);
    registry_close(r);
}

static int see_run(const struct registry_row *row, void *context)
{
    *(int64_t *)context = row->run_id;
    return 0;
}

static void a_datasets_run_is_the_number_of_its_name(void **state)
{
    struct registry *r = open_database();
    struct snapshot *s = snapshot_of(r);
    struct uuid u = {{0x01, 0x8f, 0, 0, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, 1}};
    int64_t run = 0;
    put_named(1, "u/alice", ",'Cam',1,100", "a.fits");
    assert_int_equal(registry_dataset(r, s, &u, see_run, &run), 0);
    assert_true(run == id_of(s, "u/alice"));
    // A run that the snapshot doesn't know yet: there is no such dataset yet, for this snapshot.
    run_sql_formatted("UPDATE dataset SET run_name = 'new'; UPDATE dataset_tags_00000002 SET collection_name = 'new'");
    assert_int_equal(registry_dataset(r, s, &u, see_run, &run), -ENOENT);
    snapshot_unref(s);
    registry_close(r);
}

static void a_collection_the_snapshot_does_not_know_has_nothing(void **state)
{
    struct registry *r = open_database();
    struct snapshot *s = snapshot_of(r);
    struct seen n = {0};
    const int64_t unknown = 123;
    // Not even where a collection is called so.
    run_sql("INSERT INTO collection VALUES ('123', 1, NULL)");
    put_named(1, "123", ",'Cam',1,100", "a.fits");
    const struct value values[] = {V("Cam"), N(0), N(100), N(1)};
    assert_int_equal(present(r, s, type(s, "calexp"), unknown), 0);
    read_set(r, s, "calexp", unknown, 1, &n);
    seen_is(&n, "");
    assert_int_equal(registry_row(r, s, type(s, "calexp"), FIRST(&unknown, 1, values), see, &n), -ENOENT);
    snapshot_unref(s);
    registry_close(r);
}

static void an_element_without_a_table_is_looked_for_by_collections_names(void **state)
{
    struct registry *r = open_database();
    struct snapshot *s = snapshot_of(r);
    const int64_t alice = id_of(s, "u/alice"), raws = id_of(s, "raws");
    const struct value values[] = {V("sky"), N(1), N(5), V("r"), N(0)};
    assert_int_equal(registry_enter(r, s, type(s, "dcr"), &alice, 1, values, 4), 0);
    run_sql_formatted("INSERT INTO dataset_tags_00000003 VALUES (3, '%s', 'u/alice', 'r', 'sky', 0, 1, 0)", hex_of(1));
    assert_int_equal(registry_enter(r, s, type(s, "dcr"), &alice, 1, values, 4), 1);
    assert_int_equal(registry_enter(r, s, type(s, "dcr"), &raws, 1, values, 4), 0);
    snapshot_unref(s);
    registry_close(r);
}

#define by_name(test) cmocka_unit_test_setup_teardown(test, key_by_name, remove_database)

int main(void)
{
    const struct CMUnitTest tests[] = {
        by_name(collections_kept_by_name_have_numbers_that_stay),
        by_name(datasets_of_collections_kept_by_name_are_read),
        by_name(a_datasets_run_is_the_number_of_its_name),
        by_name(a_collection_the_snapshot_does_not_know_has_nothing),
        by_name(an_element_without_a_table_is_looked_for_by_collections_names),
    };
    return run_group(tests);
}
