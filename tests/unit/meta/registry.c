// SPDX-License-Identifier: BSD-3-Clause
// Opening a registry, its marks and its snapshots; its rows are in registry_rows.c.
#include "tests/unit/meta/seen.h"

#include <sys/stat.h>

#include "base/clock.h"
#include "base/metric.h"

// ---------------------------------------------------------------------------------------------
// Opening.

static void assert_not_opened(const struct repository_config *c, int wanted, const char *words)
{
    struct registry *r = NULL;
    char *why = NULL;
    int result = registry_open(c, NS_PER_S, &r, &why);
    if (result != wanted || !why || strchr(why, '\n') || !strstr(why, words))
        fail_msg("%d is not %d, or \"%s\" is not a line with \"%s\"", result, wanted, why, words);
    assert_null(r);
    free(why);
}

static void assert_database_refused(int wanted, const char *words)
{
    struct repository_config c = database_config();
    assert_not_opened(&c, wanted, words);
}

static void a_registry_that_cannot_be_opened_is_refused_with_a_line(void **state)
{
    struct repository_config c = database_config();
    char path[256];
    c.database_path = path;
    snprintf(path, sizeof path, "%s/nothing", database_folder);
    assert_not_opened(&c, -ENOENT, "a file that is not there");
    snprintf(path, sizeof path, "%s", database_folder);
    assert_not_opened(&c, -EINVAL, "not a regular file");
    snprintf(path, sizeof path, "%s/fifo", database_folder);
    mkfifo(path, 0600);
    assert_not_opened(&c, -EINVAL, "not a regular file");
    snprintf(path, sizeof path, "%s/empty", database_folder);
    fclose(fopen(path, "w"));
    assert_not_opened(&c, -EBADMSG, "not a Butler registry");
    snprintf(path, sizeof path, "%s/text", database_folder);
    FILE *f = fopen(path, "w");
    for (int i = 0; i < 1000; i++)
        fprintf(f, "this is not a database\n");
    fclose(f);
    assert_not_opened(&c, -EBADMSG, "not an SQLite database");
    c.database = DATABASE_POSTGRESQL;
    char host[] = "127.0.0.1", port[] = "1";
    c.database_parts = (struct database_url){.host = host, .port = port};
    assert_not_opened(&c, -ETIMEDOUT, "postgresql://127.0.0.1:1 can't be reached: connection to server");
}

static void a_registry_without_permission_is_refused(void **state)
{
    bool is_root = geteuid() == 0; // who may read everything
    assert_int_equal(chmod(database_folder, 0755), 0);
    assert_int_equal(chmod(database_path(), 0), 0);
    if (is_root)
        assert_int_equal(seteuid(65534), 0);
    struct repository_config c = database_config();
    struct registry *r = NULL;
    char *why = NULL;
    int result = registry_open(&c, NS_PER_S, &r, &why);
    if (is_root)
        assert_int_equal(seteuid(0), 0);
    assert_int_equal(result, -EACCES);
    assert_non_null(strstr(why, "ask its owner for read permission"));
    free(why);
}

// What a writer leaves that died while it wrote: pages of the file changed, and a journal.
static void a_change_that_was_cut_off_is_refused(void **state)
{
    char command[256];
    sqlite3 *writer;
    assert_int_equal(sqlite3_open(database_path(), &writer), SQLITE_OK);
    assert_int_equal(sqlite3_exec(writer, "PRAGMA cache_size=1; BEGIN; UPDATE collection SET doc = hex(randomblob(100000));"
                                          "UPDATE dataset_type SET storage_class = hex(randomblob(100000))",
                                  NULL, NULL, NULL), SQLITE_OK);
    snprintf(command, sizeof command, "cd %s && mkdir cut && cp gen3.sqlite3* cut", database_folder);
    assert_int_equal(system(command), 0);
    sqlite3_exec(writer, "ROLLBACK", NULL, NULL, NULL);
    sqlite3_close(writer);
    struct repository_config c = database_config();
    char path[256];
    snprintf(path, sizeof path, "%s/cut/gen3.sqlite3", database_folder);
    c.database_path = path;
    assert_not_opened(&c, -EACCES, "a writer died");
}

static void a_damaged_registry_is_refused(void **state)
{
    struct stat st;
    assert_int_equal(stat(database_path(), &st), 0);
    assert_int_equal(truncate(database_path(), 3 * 4096), 0);
    assert_database_refused(-EBADMSG, "damaged");
}

static void another_database_is_not_a_registry(void **state)
{
    run_sql("DROP TABLE butler_attributes");
    assert_database_refused(-EBADMSG, "not a Butler registry");
}

static void a_missing_table_is_named(void **state)
{
    run_sql("DROP TABLE collection_chain");
    assert_database_refused(-EBADMSG, "no table collection_chain");
}

static void unknown_managers_are_refused(void **state)
{
    set_attribute("config:registry.managers.datasets", "a.b.Other");
    assert_database_refused(-EOPNOTSUPP, "a.b.Other, which is not known");
    set_attribute("config:registry.managers.datasets", "a.b.ByDimensionsDatasetRecordStorageManager");
    assert_database_refused(-EOPNOTSUPP, "which is not known");
    set_attribute("config:registry.managers.collections", "a.b.OtherCollectionManager");
    assert_database_refused(-EOPNOTSUPP,
                            "has its collections managed by a.b.OtherCollectionManager, which is not known here: migrate the"
                            " repository to SynthIntKeyCollectionManager or NameKeyCollectionManager, or use a newer butlerfs");
    set_attribute("config:registry.managers.collections", "");
    assert_database_refused(-EOPNOTSUPP, "managed by nothing");
    run_sql("DELETE FROM butler_attributes WHERE name = 'config:registry.managers.opaque'");
    set_attribute("config:registry.managers.collections", "a.b.SynthIntKeyCollectionManager");
    assert_database_refused(-EBADMSG, "in which version");
    set_attribute("version:a.b.SynthIntKeyCollectionManager", "2.0.0");
    set_attribute("config:registry.managers.datasets", "c.ByDimensionsDatasetRecordStorageManagerUUID");
    set_attribute("version:c.ByDimensionsDatasetRecordStorageManagerUUID", "2.3.4");
    assert_database_refused(-EBADMSG, "what manages its opaque");
}

static void versions_of_another_major_are_refused(void **state)
{
    const char *key = "version:lsst.daf.butler.registry.dimensions.static.StaticDimensionRecordStorageManager";
    set_attribute(key, "7.0.0");
    assert_database_refused(-EOPNOTSUPP, "a newer butlerfs is needed");
    set_attribute(key, "5.9.9");
    assert_database_refused(-EOPNOTSUPP, "older than any known");
    set_attribute(key, "six");
    assert_database_refused(-EBADMSG, "in which version");
    set_attribute(key, "6.99.0");
    registry_close(open_database());
}

static void a_registry_without_a_universe_has_no_snapshot(void **state)
{
    run_sql("DELETE FROM butler_attributes WHERE name = 'config:dimensions.json'");
    struct registry *r = open_database();
    struct snapshot *s = NULL;
    char *why = NULL;
    assert_int_equal(registry_snapshot(r, &s, &why), -EBADMSG);
    assert_non_null(strstr(why, "no dimension universe"));
    free(why);
    set_attribute("config:dimensions.json", "{}");
    assert_int_equal(registry_snapshot(r, &s, &why), -EBADMSG);
    assert_non_null(strstr(why, "elements"));
    free(why);
    registry_close(r);
}

static void a_locked_registry_times_out(void **state)
{
    struct registry *r = open_database();
    sqlite3 *writer;
    uint64_t mark;
    assert_int_equal(sqlite3_open(database_path(), &writer), SQLITE_OK);
    assert_int_equal(sqlite3_exec(writer, "BEGIN EXCLUSIVE", NULL, NULL, NULL), SQLITE_OK);
    assert_database_refused(-ETIMEDOUT, "locked by a writer");
    int64_t begin = clock_ns();
    assert_int_equal(registry_mark(r, &mark), -ETIMEDOUT);
    int64_t waited = clock_ns() - begin;
    assert_true(waited >= 190 * NS_PER_MS && waited < 5 * NS_PER_S);
    sqlite3_exec(writer, "COMMIT", NULL, NULL, NULL);
    sqlite3_close(writer);
    assert_int_equal(registry_mark(r, &mark), 0);
    registry_close(r);
}

static void no_lock_is_left_between_verbs(void **state)
{
    struct registry *r = open_database();
    struct snapshot *s = snapshot_of(r);
    struct seen n = {.stop_after = 1};
    struct buffer cursor = {0};
    bool is_end;
    uint64_t mark;
    sqlite3 *writer;
    put(1, 2, 2, 2, ",'Cam',1,100", "a.fits");
    put(2, 2, 2, 2, ",'Cam',2,100", "b.fits");
    assert_int_equal(registry_page(r, s, type(s, "calexp"), 2, &cursor, 1, see, &n, &is_end, &mark), -ECANCELED);
    assert_int_equal(sqlite3_open(database_path(), &writer), SQLITE_OK);
    assert_int_equal(sqlite3_exec(writer, "BEGIN EXCLUSIVE; COMMIT", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(writer);
    buffer_release(&n.text);
    buffer_release(&cursor);
    snapshot_unref(s);
    registry_close(r);
}

// ---------------------------------------------------------------------------------------------
// Marks.

static void a_mark_changes_with_every_commit_and_not_else(void **state)
{
    struct registry *a = open_database(), *b = open_database();
    uint64_t first, mark, other;
    assert_int_equal(registry_mark(a, &first), 0);
    assert_true(first != 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(registry_mark(b, &mark), 0);
        assert_true(mark == first);
        snapshot_unref(snapshot_of(b));
    }
    for (int i = 0; i < 5; i++) {
        run_sql_formatted("UPDATE collection SET doc = 'v%d' WHERE collection_id = 1", i);
        assert_int_equal(registry_mark(a, &mark), 0);
        assert_int_equal(registry_mark(b, &other), 0);
        assert_true(mark != first && mark == other);
        first = mark;
    }
    registry_close(a);
    a = open_database();
    assert_int_equal(registry_mark(a, &mark), 0);
    assert_true(mark == first);
    registry_close(a);
    registry_close(b);
}

static void marks_in_wal_mode_agree_within_a_process(void **state)
{
    run_sql("PRAGMA journal_mode=wal");
    struct registry *a = open_database(), *b = open_database();
    uint64_t first, mark, other;
    assert_int_equal(registry_mark(a, &first), 0);
    assert_true(first != 0);
    assert_int_equal(registry_mark(b, &other), 0);
    assert_true(first == other);
    for (int i = 0; i < 5; i++) {
        run_sql_formatted("UPDATE collection SET doc = 'v%d' WHERE collection_id = 1; PRAGMA wal_checkpoint(%s)", i,
                          i % 2 ? "truncate" : "passive");
        assert_int_equal(registry_mark(a, &mark), 0);
        assert_int_equal(registry_mark(b, &other), 0);
        assert_true(mark != 0 && mark != first && mark == other);
        assert_int_equal(registry_mark(a, &other), 0);
        assert_true(mark == other);
        first = mark;
    }
    registry_close(a);
    registry_close(b);
}

static void a_page_has_the_mark_of_what_it_read(void **state)
{
    struct registry *r = open_database();
    struct snapshot *s = snapshot_of(r);
    struct seen n = {0};
    uint64_t before, after;
    assert_int_equal(registry_mark(r, &before), 0);
    assert_true(read_set(r, s, "calexp", 2, 10, &n) == before);
    put(1, 2, 2, 2, ",'Cam',1,100", "a.fits");
    uint64_t read = read_set(r, s, "calexp", 2, 10, &n);
    assert_int_equal(registry_mark(r, &after), 0);
    assert_true(read == after && after != before);
    seen_is(&n, "1 Cam 20240101 100 1 [0 a.fits 17]");
    snapshot_unref(s);
    registry_close(r);
}

static void a_file_that_takes_the_registrys_place_is_opened(void **state)
{
    char command[256];
    struct registry *r = open_database();
    struct snapshot *s = snapshot_of(r);
    struct seen n = {0};
    uint64_t before, after;
    put(1, 2, 2, 2, ",'Cam',1,100", "a.fits");
    assert_int_equal(registry_mark(r, &before), 0);
    snprintf(command, sizeof command, "cd %s && cp gen3.sqlite3 copy && mv copy gen3.sqlite3", database_folder);
    assert_int_equal(system(command), 0);
    assert_int_equal(registry_mark(r, &after), 0);
    assert_true(before != after);
    put(2, 2, 2, 2, ",'Cam',2,100", "b.fits");
    read_set(r, s, "calexp", 2, 10, &n);
    assert_int_equal(n.count, 2);
    buffer_release(&n.text);
    snprintf(command, sizeof command, "cd %s && mv gen3.sqlite3 away", database_folder);
    assert_int_equal(system(command), 0);
    assert_int_equal(registry_mark(r, &after), -EIO);
    snprintf(command, sizeof command, "cd %s && echo no > gen3.sqlite3", database_folder);
    assert_int_equal(system(command), 0);
    assert_int_equal(registry_mark(r, &after), -EBADMSG);
    snprintf(command, sizeof command, "cd %s && mv away gen3.sqlite3", database_folder);
    assert_int_equal(system(command), 0);
    assert_int_equal(registry_mark(r, &after), 0);
    snapshot_unref(s);
    registry_close(r);
}

// ---------------------------------------------------------------------------------------------
// Snapshots.

static void a_snapshot_has_what_the_tables_say(void **state)
{
    struct registry *r = open_database();
    struct snapshot *s = snapshot_of(r);
    uint32_t count;
    assert_int_equal(s->collection_count, 6);
    assert_int_equal(s->type_count, 6);
    const struct collection *chain = snapshot_collection_by_name(s, TEXT("chain"));
    const uint32_t *path = snapshot_search_path(s, chain, &count);
    assert_int_equal(count, 3);
    assert_int_equal(s->collections[path[0]].id, 3);
    assert_int_equal(s->collections[path[1]].id, 2);
    assert_int_equal(s->collections[path[2]].id, 4);
    assert_true(text_equal(snapshot_collection_by_id(s, 3)->doc, TEXT("mine")));
    assert_true(snapshot_element_by_name(s, TEXT("group"))->has_table);
    assert_false(snapshot_element_by_name(s, TEXT("visit_system"))->has_table);
    assert_true(text_equal(type(s, "camera")->calibs_table, TEXT("dataset_calibs_00000005")));
    assert_int_equal(type(s, "dcr")->level_count, 5);
    snapshot_unref(s);
    registry_close(r);
}

static void bad_rows_of_small_tables_are_left_out(void **state)
{
    run_sql("INSERT INTO collection VALUES (10,'strange',9,NULL),(11,x'00ff',1,NULL),(12,'good',1,x'00');"
            "INSERT INTO collection_chain VALUES (5,8,99),(1,0,2);"
            "INSERT INTO collection_summary_dataset_type VALUES (99,1),(1,99),('a','b');"
            "INSERT INTO dataset_type VALUES (20,'no/name','x',1,'dataset_tags_00000001',NULL),"
            "(21,'lost','x',1,'dataset_tags_00000099',NULL),(22,'odd','x',1,'butler_attributes',NULL);");
    int64_t before = metric_get(METRIC_ROWS_REFUSED);
    struct registry *r = open_database();
    struct snapshot *s = snapshot_of(r);
    assert_null(snapshot_collection_by_name(s, TEXT("strange")));
    assert_non_null(snapshot_collection_by_name(s, TEXT("good")));
    assert_int_equal(s->collection_count, 7);
    assert_null(snapshot_type_by_id(s, 20));
    assert_false(snapshot_type_by_id(s, 21)->is_readable);
    assert_false(snapshot_type_by_id(s, 22)->is_readable);
    assert_int_equal(metric_get(METRIC_ROWS_REFUSED) - before, 10);
    snapshot_unref(s);
    registry_close(r);
}

static void names_hold_any_byte(void **state)
{
    run_sql("INSERT INTO collection VALUES (10,CAST(x'6100622F63' AS TEXT),1,NULL),(11,'',1,NULL),(12,CAST(x'ff0a' AS TEXT),1,NULL)");
    struct registry *r = open_database();
    struct snapshot *s = snapshot_of(r);
    assert_int_equal(snapshot_collection_by_name(s, TEXT("a\0b/c"))->id, 10);
    assert_int_equal(snapshot_collection_by_name(s, TEXT(""))->id, 11);
    assert_int_equal(snapshot_collection_by_name(s, TEXT("\xff\n"))->id, 12);
    snapshot_unref(s);
    registry_close(r);
}

#define with_database(test) cmocka_unit_test_setup_teardown(test, make_database, remove_database)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_database(a_registry_that_cannot_be_opened_is_refused_with_a_line),
        with_database(a_registry_without_permission_is_refused),
        with_database(a_change_that_was_cut_off_is_refused),
        with_database(a_damaged_registry_is_refused),
        with_database(another_database_is_not_a_registry),
        with_database(a_missing_table_is_named),
        with_database(unknown_managers_are_refused),
        with_database(versions_of_another_major_are_refused),
        with_database(a_registry_without_a_universe_has_no_snapshot),
        with_database(a_locked_registry_times_out),
        with_database(no_lock_is_left_between_verbs),
        with_database(a_mark_changes_with_every_commit_and_not_else),
        with_database(marks_in_wal_mode_agree_within_a_process),
        with_database(a_page_has_the_mark_of_what_it_read),
        with_database(a_file_that_takes_the_registrys_place_is_opened),
        with_database(a_snapshot_has_what_the_tables_say),
        with_database(bad_rows_of_small_tables_are_left_out),
        with_database(names_hold_any_byte),
    };
    return run_group(tests);
}
