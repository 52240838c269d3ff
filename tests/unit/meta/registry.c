// SPDX-License-Identifier: BSD-3-Clause
#include "tests/unit/meta/database.h"

#include <pthread.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/metric.h"
#include "meta/registry/memory.h"

// ---------------------------------------------------------------------------------------------
// What was handed out, as text: "7 Cam 20240101 100 1 [0 path 17]" a row.

struct seen {
    struct buffer text;
    uint32_t count;
    uint32_t stop_after; // 0: never
};

static int see(const struct registry_row *row, void *context)
{
    struct seen *n = context;
    buffer_format(&n->text, n->count ? "; %u" : "%u",
                  (unsigned)row->uuid.bytes[15] + 256 * row->uuid.bytes[14]);
    for (uint32_t i = 0; i < row->value_count; i++)
        if (row->values[i].kind == VALUE_INTEGER)
            buffer_format(&n->text, " %lld", (long long)row->values[i].integer);
        else
            buffer_format(&n->text, " %.*s", (int)row->values[i].text.size_bytes, row->values[i].text.data);
    for (uint32_t i = 0; i < row->file_count; i++)
        buffer_format(&n->text, " [%u%s%.*s %.*s %lld]", row->files[i].datastore,
                      row->files[i].component.size_bytes ? " " : "",
                      (int)row->files[i].component.size_bytes, row->files[i].component.data,
                      (int)row->files[i].path.size_bytes, row->files[i].path.data,
                      (long long)row->files[i].size_bytes);
    n->count++;
    return n->stop_after && n->count >= n->stop_after ? -ECANCELED : 0;
}

static void seen_is(struct seen *n, const char *wanted)
{
    assert_string_equal(n->text.data ? n->text.data : "", wanted);
    buffer_release(&n->text);
    *n = (struct seen){0};
}

static struct snapshot *snapshot_of(struct registry *r)
{
    struct snapshot *s = NULL;
    char *why = NULL;
    if (registry_snapshot(r, &s, &why) < 0)
        fail_msg("%s", why);
    return s;
}

static const struct dataset_type *type(const struct snapshot *s, const char *name)
{
    const struct dataset_type *t = snapshot_type_by_name(s, text_of(name));
    assert_non_null(t);
    return t;
}

// All pages of `limit` rows.
static uint64_t read_set(struct registry *r, const struct snapshot *s, const char *name,
                         int64_t collection, uint32_t limit, struct seen *n)
{
    BUFFER_CLEANUP cursor = {0};
    bool is_end = false;
    uint64_t mark = 0;
    for (int pages = 0; !is_end; pages++) {
        assert_true(pages < 1000);
        assert_int_equal(registry_page(r, s, type(s, name), collection, &cursor, limit, see, n, &is_end, &mark), 0);
    }
    return mark;
}

static void assert_set(const char *name, int64_t collection, const char *wanted)
{
    struct registry *r = open_database();
    struct snapshot *s = snapshot_of(r);
    struct seen n = {0};
    read_set(r, s, name, collection, 2, &n);
    seen_is(&n, wanted);
    snapshot_unref(s);
    registry_close(r);
}

#define V(text) value_text(TEXT(text))
#define N(number) value_integer(number)

// ---------------------------------------------------------------------------------------------
// Opening.

static void assert_not_opened(const struct repository_config *c, int wanted, const char *words)
{
    struct registry *r = NULL;
    char *why = NULL;
    int result = registry_open(c, 50 * NS_PER_MS, &r, &why);
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
    assert_not_opened(&c, -EOPNOTSUPP, "PostgreSQL, which is not supported yet");
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
    set_attribute("config:registry.managers.collections", "a.nameKey.NameKeyCollectionManager");
    assert_database_refused(-EOPNOTSUPP, "by name");
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

// ---------------------------------------------------------------------------------------------
// Rows.

static void a_page_has_the_sets_rows_in_any_number_of_pages(void **state)
{
    char key[64];
    for (unsigned i = 0; i < 9; i++) {
        snprintf(key, sizeof key, ",'Cam',%u,%u", i % 3, 100 + i / 3);
        put(i, 2, 2, 2, key, "a.fits");
    }
    put(20, 2, 2, 3, ",'Cam',0,100", "other collection");
    struct registry *r = open_database();
    struct snapshot *s = snapshot_of(r);
    struct seen whole = {0};
    read_set(r, s, "calexp", 2, 1000, &whole);
    assert_int_equal(whole.count, 9);
    for (uint32_t limit = 1; limit < 12; limit++) {
        struct seen n = {0};
        read_set(r, s, "calexp", 2, limit, &n);
        seen_is(&n, whole.text.data);
    }
    buffer_release(&whole.text);
    snapshot_unref(s);
    registry_close(r);
}

static void a_row_has_its_implied_day(void **state)
{
    put(1, 1, 1, 1, ",'Cam',1,100", "a");
    put(2, 1, 1, 1, ",'Cam',1,101", "b");
    put(3, 1, 1, 1, ",'Cam',1,102", "c"); // its exposure's day_obs is NULL
    put(4, 1, 1, 1, ",'Cam',1,103", "d"); // it has no exposure
    assert_set("raw", 1, "1 Cam 20240101 100 1 [0 a 17]; 2 Cam 20240102 101 1 [0 b 17];"
                         " 3 Cam 0 102 1 [0 c 17]; 4 Cam 0 103 1 [0 d 17]");
}

static void a_dimensionless_type_has_one_row(void **state)
{
    put(1, 4, 0, 2, "", "schema.fits");
    assert_set("schema", 2, "1 [0 schema.fits 17]");
}

static void columns_with_reserved_names_are_read(void **state)
{
    put(1, 5, 4, 1, ",'Cam','g\n1'", "a");
    assert_set("info", 1, "1 Cam g\n1 [0 a 17]");
}

static void a_dataset_without_records_has_no_files(void **state)
{
    put(1, 2, 2, 2, ",'Cam',1,100", NULL);
    assert_set("calexp", 2, "1 Cam 20240101 100 1");
}

static void components_are_listed_by_name(void **state)
{
    put(1, 2, 2, 2, ",'Cam',1,100", NULL);
    run_sql_formatted("INSERT INTO file_datastore_records VALUES ('%s','w.fits','f','Wcs','wcs',NULL,-1),"
                      "('%s','i.fits','f','Image','image','ab',NULL)", hex_of(1), hex_of(1));
    assert_set("calexp", 2, "1 Cam 20240101 100 1 [0 image i.fits -1] [0 wcs w.fits -1]");
}

static void records_are_read_from_every_datastore_in_order(void **state)
{
    struct datastore_config datastores[3] = {
        {(char[]){"a"}, (char[]){"/a"}, true, (char[]){"fast\"records"}},
        {(char[]){"b"}, (char[]){"/b"}, true, (char[]){"not_made_yet"}},
        {(char[]){"c"}, (char[]){"/c"}, true, (char[]){"file_datastore_records"}},
    };
    run_sql("CREATE TABLE \"fast\"\"records\" (dataset_id CHAR(32), path TEXT, storage_class TEXT, component TEXT, checksum TEXT, file_size BIGINT)");
    put(1, 2, 2, 2, ",'Cam',1,100", "bulk.fits");
    put(2, 2, 2, 2, ",'Cam',2,100", "bulk2.fits");
    run_sql_formatted("INSERT INTO \"fast\"\"records\" VALUES ('%s','fast.fits','X','',NULL,3)", hex_of(1));
    struct repository_config c = database_config();
    c.datastores = datastores;
    c.datastore_count = 3;
    struct registry *r = open_with(&c, NS_PER_S);
    struct snapshot *s = snapshot_of(r);
    struct seen n = {0};
    read_set(r, s, "calexp", 2, 10, &n);
    seen_is(&n, "1 Cam 20240101 100 1 [0 fast.fits 3] [2 bulk.fits 17]; 2 Cam 20240101 100 2 [2 bulk2.fits 17]");
    // The client makes the table when it first writes.
    run_sql("CREATE TABLE not_made_yet (dataset_id CHAR(32), path TEXT, storage_class TEXT, component TEXT, checksum TEXT, file_size BIGINT)");
    run_sql_formatted("INSERT INTO not_made_yet VALUES ('%s','new.fits','X','',NULL,4)", hex_of(2));
    read_set(r, s, "calexp", 2, 10, &n);
    seen_is(&n, "1 Cam 20240101 100 1 [0 fast.fits 3] [2 bulk.fits 17]; 2 Cam 20240101 100 2 [1 new.fits 4] [2 bulk2.fits 17]");
    snapshot_unref(s);
    registry_close(r);
}

static void bad_rows_are_left_out_and_counted(void **state)
{
    put(1, 6, 5, 1, ",'Cam',1", "a");
    put(2, 6, 5, 1, ",'Cam','text'", "b");
    put(3, 6, 5, 1, ",NULL,2", "c");
    put(4, 6, 5, 1, ",'Cam',NULL", "d");
    put(5, 6, 5, 1, ",x'43',3", "e");
    put(6, 6, 5, 1, ",'Cam',1.5", "f");
    put(7, 6, 5, 1, ",'Cam',7", "g");
    run_sql("INSERT INTO dataset VALUES ('short',6,1,1),('018F0000000070008000000000000009',6,1,1),('018f000000007000800000000000000a',6,1,'x');"
            "INSERT INTO dataset_tags_00000005 VALUES (6,'short',1,'Cam',10),(6,'018F0000000070008000000000000009',1,'Cam',11),"
            "(6,'018f000000007000800000000000000a',1,'Cam',12),(6,'018f000000007000800000000000000b',1,'Cam',13);");
    put(12, 6, 5, 1, ",'Cam',14", "");
    put(13, 6, 5, 1, ",'Cam',15", "z");
    int64_t before = metric_get(METRIC_ROWS_REFUSED);
    assert_set("camera", 1, "1 Cam 1 [0 a 17]; 7 Cam 7 [0 g 17]; 12 Cam 14; 13 Cam 15 [0 z 17]");
    // 2, 3, 4, 5, 6, short, upper case, its run's id; and the record without a path
    assert_int_equal(metric_get(METRIC_ROWS_REFUSED) - before, 9);
}

static void what_a_record_says_is_checked(void **state)
{
    put(1, 2, 2, 2, ",'Cam',1,100", NULL);
    run_sql_formatted("INSERT INTO file_datastore_records VALUES ('%s',CAST(x'610062' AS TEXT),'f',NULL,'','not hex',-5)", hex_of(1));
    struct registry *r = open_database();
    struct snapshot *s = snapshot_of(r);
    struct seen n = {0};
    read_set(r, s, "calexp", 2, 1, &n);
    assert_int_equal(n.count, 1); // the NUL ends what the text shows
    assert_non_null(memmem(n.text.data, n.text.size_bytes, "[0 a", 4));
    assert_non_null(memmem(n.text.data, n.text.size_bytes, " -1]", 4));
    buffer_release(&n.text);
    snapshot_unref(s);
    registry_close(r);
}

static void a_dataset_may_have_many_files_but_not_any_number(void **state)
{
    struct registry *r = open_database();
    struct snapshot *s = snapshot_of(r);
    struct uuid u = {{0x01, 0x8f, 0, 0, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, 1}};
    put(1, 2, 2, 2, ",'Cam',1,100", NULL);
    for (int i = 0; i < 300; i++)
        run_sql_formatted("INSERT INTO file_datastore_records VALUES ('%s','p','f','X','c%03d',NULL,1)", hex_of(1), i);
    struct seen n = {0};
    assert_int_equal(registry_dataset(r, s, &u, see, &n), 0);
    assert_non_null(strstr(n.text.data, "c255"));
    assert_null(strstr(n.text.data, "c256"));
    buffer_release(&n.text);
    snapshot_unref(s);
    registry_close(r);
}

static int see_ingest(const struct registry_row *row, void *context)
{
    *(int64_t *)context = row->ingest_tai_ns;
    return 0;
}

static void an_ingest_date_may_be_a_number_or_a_text(void **state)
{
    struct registry *r = open_database();
    struct snapshot *s = snapshot_of(r);
    struct uuid u = {{0x01, 0x8f, 0, 0, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, 1}};
    int64_t ingest;
    put(1, 4, 0, 2, "", "a");
    assert_int_equal(registry_dataset(r, s, &u, see_ingest, &ingest), 0);
    assert_true(ingest == 1001);
    const struct {
        const char *text;
        int64_t unix_ns;
    } dates[] = {{"2026-11-22 10:47:43.822225", 1795344463822225000}, {"2024-02-29 23:59:59", 1709251199000000000},
                 {"1970-01-01 00:00:00.000001", 1000}};
    for (size_t i = 0; i < 3; i++) {
        run_sql_formatted("UPDATE dataset SET ingest_date = CAST('%s' AS TEXT)", dates[i].text);
        assert_int_equal(registry_dataset(r, s, &u, see_ingest, &ingest), 0);
        assert_true(ingest == tai_from_unix_ns(dates[i].unix_ns));
    }
    static const char *const unknown[] = {"NULL", "'soon'", "'2024-13-01 00:00:00'", "x'00'", "'2024-01-01'"};
    for (size_t i = 0; i < 5; i++) {
        run_sql_formatted("UPDATE dataset SET ingest_date = %s", unknown[i]);
        assert_int_equal(registry_dataset(r, s, &u, see_ingest, &ingest), 0);
        assert_true(ingest == INT64_MIN);
    }
    snapshot_unref(s);
    registry_close(r);
}

static void the_first_collection_that_has_the_data_id_wins(void **state)
{
    struct registry *r = open_database();
    struct snapshot *s = snapshot_of(r);
    struct seen n = {0};
    put(1, 2, 2, 2, ",'Cam',1,100", "in run 2");
    put(2, 2, 2, 3, ",'Cam',1,100", NULL); // not stored: still the winner
    tag(1, 2, 2, 4, ",'Cam',1,100");
    const int64_t path[] = {3, 2, 4}, other[] = {6, 4, 2};
    const struct value values[] = {V("Cam"), N(0), N(100), N(1)};
    const struct value none[] = {V("Cam"), N(0), N(101), N(1)}, twin[] = {V("cam"), N(0), N(100), N(1)};
    const struct dataset_type *t = type(s, "calexp");
    assert_int_equal(registry_row(r, s, t, path, 3, values, see, &n), 0);
    seen_is(&n, "2 Cam 20240101 100 1");
    assert_int_equal(registry_row(r, s, t, path + 1, 1, values, see, &n), 0);
    seen_is(&n, "1 Cam 20240101 100 1 [0 in run 2 17]");
    assert_int_equal(registry_row(r, s, t, other, 3, values, see, &n), 0);
    seen_is(&n, "1 Cam 20240101 100 1 [0 in run 2 17]");
    assert_int_equal(registry_row(r, s, t, path, 3, none, see, &n), -ENOENT);
    assert_int_equal(registry_row(r, s, t, path, 3, twin, see, &n), -ENOENT);
    assert_int_equal(registry_row(r, s, t, path, 0, values, see, &n), -ENOENT);
    snapshot_unref(s);
    registry_close(r);
}

static void a_dataset_is_found_by_its_id_with_the_data_id_of_its_run(void **state)
{
    struct registry *r = open_database();
    struct snapshot *s = snapshot_of(r);
    struct seen n = {0};
    struct uuid u = {{0x01, 0x8f, 0, 0, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, 7}}, none = u;
    put(7, 2, 2, 3, ",'Cam',2,101", "x.fits");
    tag(7, 2, 2, 4, ",'Cam',2,101");
    none.bytes[15] = 8;
    assert_int_equal(registry_dataset(r, s, &u, see, &n), 0);
    seen_is(&n, "7 Cam 20240102 101 2 [0 x.fits 17]");
    assert_int_equal(registry_dataset(r, s, &none, see, &n), -ENOENT);
    run_sql("UPDATE dataset SET dataset_type_id = 77");
    assert_int_equal(registry_dataset(r, s, &u, see, &n), -ENOENT);
    snapshot_unref(s);
    registry_close(r);
}

static void presence_is_a_row_in_the_tags_table(void **state)
{
    struct registry *r = open_database();
    struct snapshot *s = snapshot_of(r);
    assert_int_equal(registry_present(r, type(s, "calexp"), 2), 0);
    put(1, 2, 2, 2, ",'Cam',1,100", NULL);
    assert_int_equal(registry_present(r, type(s, "calexp"), 2), 1);
    assert_int_equal(registry_present(r, type(s, "calexp"), 3), 0);
    assert_int_equal(registry_present(r, type(s, "schema"), 2), 0);
    run_sql("DROP TABLE dataset_tags_00000002");
    assert_int_equal(registry_present(r, type(s, "calexp"), 2), -EIO);
    snapshot_unref(s);
    registry_close(r);
}

static void the_callers_refusal_ends_the_verb(void **state)
{
    struct registry *r = open_database();
    struct snapshot *s = snapshot_of(r);
    struct seen n = {.stop_after = 1};
    const int64_t run = 2;
    const struct value values[] = {V("Cam"), N(0), N(100), N(1)};
    put(1, 2, 2, 2, ",'Cam',1,100", "a");
    int64_t failures = metric_get(METRIC_REGISTRY_FAILURES);
    assert_int_equal(registry_row(r, s, type(s, "calexp"), &run, 1, values, see, &n), -ECANCELED);
    assert_int_equal(metric_get(METRIC_REGISTRY_FAILURES), failures);
    buffer_release(&n.text);
    snapshot_unref(s);
    registry_close(r);
}

// ---------------------------------------------------------------------------------------------
// Entering.

struct entering {
    struct registry *r;
    struct snapshot *s;
    const char *type;
};

static int enter(const struct entering *e, const struct value *values, uint32_t depth)
{
    const int64_t collections[] = {3, 2};
    return registry_enter(e->r, e->s, type(e->s, e->type), collections, 2, values, depth);
}

static void a_folder_is_entered_on_the_dimension_tables_word(void **state)
{
    struct registry *r = open_database();
    struct snapshot *s = snapshot_of(r);
    struct entering e = {r, s, "calexp"};
    const struct value good[] = {V("Cam"), N(20240101), N(100), N(1)};
    for (uint32_t depth = 0; depth <= 4; depth++)
        assert_int_equal(enter(&e, good, depth), 1);
    assert_int_equal(enter(&e, (struct value[]){V("Other")}, 1), 0);
    assert_int_equal(enter(&e, (struct value[]){V("Cam"), N(20240103)}, 2), 0);
    assert_int_equal(enter(&e, (struct value[]){V("Cam"), N(20240102), N(100)}, 3), 0); // the other day's
    assert_int_equal(enter(&e, (struct value[]){V("Cam"), N(20240102), N(101)}, 3), 1);
    assert_int_equal(enter(&e, (struct value[]){V("Cam"), N(20240101), N(999)}, 3), 0);
    assert_int_equal(enter(&e, (struct value[]){V("Cam"), N(20240101), N(100), N(9)}, 4), 0);
    snapshot_unref(s);
    registry_close(r);
}

static void an_unknown_day_is_entered_as_0(void **state)
{
    struct registry *r = open_database();
    struct snapshot *s = snapshot_of(r);
    struct entering e = {r, s, "raw"};
    assert_int_equal(enter(&e, (struct value[]){V("Cam"), N(0)}, 2), 1);
    assert_int_equal(enter(&e, (struct value[]){V("Cam"), N(0), N(102)}, 3), 1);
    assert_int_equal(enter(&e, (struct value[]){V("Cam"), N(0), N(100)}, 3), 0);
    snapshot_unref(s);
    registry_close(r);
}

static void an_element_without_a_table_is_entered_where_rows_begin_so(void **state)
{
    struct registry *r = open_database();
    struct snapshot *s = snapshot_of(r);
    struct entering e = {r, s, "dcr"}; // skymap tract patch band subfilter
    const struct value values[] = {V("sky"), N(1), N(5), V("r"), N(0)};
    for (uint32_t depth = 0; depth <= 3; depth++)
        assert_int_equal(enter(&e, values, depth), 1);
    assert_int_equal(enter(&e, values, 4), 0);
    put(1, 3, 3, 2, ",'r','sky',0,1,0", "a");
    assert_int_equal(enter(&e, values, 4), 1); // of another patch: not asked
    assert_int_equal(enter(&e, values, 5), 1);
    assert_int_equal(enter(&e, (struct value[]){V("sky"), N(1), N(5), V("g")}, 4), 0);
    assert_int_equal(enter(&e, (struct value[]){V("sky"), N(1), N(7), V("r")}, 4), 0);
    assert_int_equal(enter(&e, (struct value[]){V("sky"), N(1), N(5), V("r"), N(7)}, 5), 0);
    snapshot_unref(s);
    registry_close(r);
}

static int see_implied(const struct element *e, const struct value *v, void *context)
{
    struct buffer *b = context;
    buffer_format(b, "%.*s=", (int)e->name.size_bytes, e->name.data);
    if (v->kind == VALUE_INTEGER)
        buffer_format(b, "%lld ", (long long)v->integer);
    else
        buffer_format(b, "%.*s ", (int)v->text.size_bytes, v->text.data);
    return 0;
}

static void assert_implied(struct registry *r, const struct snapshot *s, const char *name,
                           const struct value *values, const char *wanted)
{
    BUFFER_CLEANUP implied = {0};
    assert_int_equal(registry_implied(r, s, type(s, name), values, see_implied, &implied), 0);
    assert_string_equal(implied.data ? implied.data : "", wanted);
}

static void implied_values_are_told_once_each(void **state)
{
    struct registry *r = open_database();
    struct snapshot *s = snapshot_of(r);
    assert_implied(r, s, "raw", (struct value[]){V("Cam"), N(0), N(101), N(1)},
                   "day_obs=20240102 group=g1 physical_filter=r/x band=r ");
    assert_implied(r, s, "raw", (struct value[]){V("Cam"), N(0), N(102), N(1)}, "");
    assert_implied(r, s, "raw", (struct value[]){V("Cam"), N(0), N(999), N(1)}, "");
    assert_implied(r, s, "schema", NULL, "");
    snapshot_unref(s);
    registry_close(r);
}

// ---------------------------------------------------------------------------------------------

static void a_registry_may_have_many_dataset_types(void **state)
{
    char key[64];
    for (int i = 100; i < 500; i++)
        run_sql_formatted("INSERT INTO dataset_type VALUES (%d,'type%d','X',1,'tags_%d',NULL);"
                          "CREATE TABLE tags_%d (dataset_type_id BIGINT, dataset_id CHAR(32), collection_id BIGINT, instrument TEXT)",
                          i, i, i, i);
    put(1, 100, 5, 1, ",'Cam',1", "a");
    for (int i = 100; i < 500; i++) {
        snprintf(key, sizeof key, "INSERT INTO tags_%d VALUES (%d", i, i);
        run_sql_formatted("%s,'%s',1,'Cam')", key, hex_of(1));
    }
    struct registry *r = open_database();
    struct snapshot *s = snapshot_of(r);
    for (int round = 0; round < 2; round++)
        for (int i = 100; i < 500; i++) {
            struct seen n = {0};
            snprintf(key, sizeof key, "type%d", i);
            read_set(r, s, key, 1, 10, &n);
            seen_is(&n, "1 Cam [0 a 17]");
        }
    snapshot_unref(s);
    registry_close(r);
}

static void a_contract_that_is_broken_aborts(void **state)
{
    struct registry *r = open_database();
    struct snapshot *s = snapshot_of(r);
    struct seen n = {0};
    const int64_t run = 2;
    const struct value wrong[] = {N(1), N(0), N(100), N(1)};
    assert_aborts(registry_row(r, s, type(s, "calexp"), &run, 1, wrong, see, &n));
    assert_aborts(registry_enter(r, s, type(s, "calexp"), &run, 1, wrong, 5));
    snapshot_unref(s);
    registry_close(r);
}

// ---------------------------------------------------------------------------------------------
// The registry in memory gives the same answers.

static const struct memory_description small = {
    .types = (const struct memory_type[]){{"calexp", "instrument detector visit"}, {"schema", ""},
                                          {"dcr", "band skymap subfilter tract patch"}, {0}},
    .collections = (const struct memory_collection[]){{"run1", COLLECTION_RUN, NULL},
                                                      {"run2", COLLECTION_RUN, NULL},
                                                      {"tagged", COLLECTION_TAGGED, NULL},
                                                      {"chain", COLLECTION_CHAINED, (const char *const[]){"run2", "run1", NULL}},
                                                      {0}},
    .records = (const struct memory_record[]){
        {"instrument", "name=Cam"}, {"detector", "instrument=Cam,id=1"}, {"detector", "instrument=Cam,id=2"},
        {"physical_filter", "instrument=Cam,name=g DECam,band=g"},
        {"visit", "instrument=Cam,id=100,day_obs=20240101,physical_filter=g DECam"},
        {"visit", "instrument=Cam,id=101,day_obs=20240102"}, {0}},
    .datasets = (const struct memory_dataset[]){
        {.type = "calexp", .run = "run1", .data_id = "instrument=Cam,detector=1,visit=100", .path = "a", .size_bytes = 17,
         .tagged = (const char *const[]){"tagged", NULL}},
        {.type = "calexp", .run = "run2", .data_id = "instrument=Cam,detector=1,visit=100"},
        {.type = "schema", .run = "run1", .data_id = "", .path = "s", .second_path = "t", .size_bytes = 3}, {0}},
};

static void the_registry_in_memory_answers_likewise(void **state)
{
    struct memory_world world;
    struct seen n = {0};
    memory_world_init(&world, &small);
    struct registry *r = memory_world_connect(&world);
    struct snapshot *s = snapshot_of(r);
    const struct value good[] = {V("Cam"), N(20240101), N(100), N(1)};
    const int64_t path[] = {2, 1};
    const struct uuid third = memory_uuid(2);
    read_set(r, s, "calexp", 1, 1, &n);
    seen_is(&n, "0 Cam 20240101 100 1 [0 a 17]");
    assert_int_equal(registry_row(r, s, type(s, "calexp"), path, 2, good, see, &n), 0);
    seen_is(&n, "1 Cam 20240101 100 1");
    assert_int_equal(registry_dataset(r, s, &third, see, &n), 0);
    seen_is(&n, "2 [0 s 3] [1 t 3]");
    assert_int_equal(registry_present(r, type(s, "calexp"), 3), 1);
    assert_int_equal(registry_present(r, type(s, "schema"), 3), 0);
    for (uint32_t depth = 0; depth <= 4; depth++)
        assert_int_equal(registry_enter(r, s, type(s, "calexp"), path, 2, good, depth), 1);
    assert_int_equal(registry_enter(r, s, type(s, "calexp"), path, 2, (struct value[]){V("Cam"), N(20240102), N(100)}, 3), 0);
    assert_implied(r, s, "calexp", good, "day_obs=20240101 physical_filter=g DECam band=g ");
    snapshot_unref(s);
    registry_close(r);
    memory_world_release(&world);
}

static void the_registry_in_memory_fails_when_it_is_told(void **state)
{
    struct memory_world world;
    uint64_t first, mark;
    memory_world_init(&world, &small);
    struct registry *r = memory_world_connect(&world);
    assert_int_equal(registry_mark(r, &first), 0);
    memory_world_fail(&world, -ETIMEDOUT, 1, 2);
    assert_int_equal(registry_mark(r, &mark), 0);
    assert_true(mark == first);
    assert_int_equal(registry_mark(r, &mark), -ETIMEDOUT);
    assert_int_equal(registry_mark(r, &mark), -ETIMEDOUT);
    memory_world_change(&world, &small);
    assert_int_equal(registry_mark(r, &mark), 0);
    assert_true(mark != first);
    registry_close(r);
    memory_world_release(&world);
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
        with_database(a_page_has_the_sets_rows_in_any_number_of_pages),
        with_database(a_row_has_its_implied_day),
        with_database(a_dimensionless_type_has_one_row),
        with_database(columns_with_reserved_names_are_read),
        with_database(a_dataset_without_records_has_no_files),
        with_database(components_are_listed_by_name),
        with_database(records_are_read_from_every_datastore_in_order),
        with_database(bad_rows_are_left_out_and_counted),
        with_database(what_a_record_says_is_checked),
        with_database(a_dataset_may_have_many_files_but_not_any_number),
        with_database(an_ingest_date_may_be_a_number_or_a_text),
        with_database(the_first_collection_that_has_the_data_id_wins),
        with_database(a_dataset_is_found_by_its_id_with_the_data_id_of_its_run),
        with_database(presence_is_a_row_in_the_tags_table),
        with_database(the_callers_refusal_ends_the_verb),
        with_database(a_folder_is_entered_on_the_dimension_tables_word),
        with_database(an_unknown_day_is_entered_as_0),
        with_database(an_element_without_a_table_is_entered_where_rows_begin_so),
        with_database(implied_values_are_told_once_each),
        with_database(a_registry_may_have_many_dataset_types),
        with_database(a_contract_that_is_broken_aborts),
        cmocka_unit_test(the_registry_in_memory_answers_likewise),
        cmocka_unit_test(the_registry_in_memory_fails_when_it_is_told),
    };
    return run_group(tests);
}
