// SPDX-License-Identifier: BSD-3-Clause
// What a registry says of datasets and of folders; the registry in memory likewise.
#include "tests/unit/meta/seen.h"

#include "base/clock.h"
#include "base/metric.h"
#include "meta/registry/memory.h"

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

static void a_size_that_no_file_can_have_is_unknown(void **state)
{
    put(1, 2, 2, 2, ",'Cam',1,100", "a");
    put(2, 2, 2, 2, ",'Cam',2,100", "b");
    put(3, 2, 2, 2, ",'Cam',3,100", "c");
    run_sql("UPDATE file_datastore_records SET file_size = 9223372036854775807 WHERE path = 'a';"
            "UPDATE file_datastore_records SET file_size = 1152921504606846976 WHERE path = 'b';"
            "UPDATE file_datastore_records SET file_size = 'large' WHERE path = 'c';");
    assert_set("calexp", 2, "1 Cam 20240101 100 1 [0 a -1]; 2 Cam 20240101 100 2 [0 b 1152921504606846976];"
                            " 3 Cam 20240101 100 3 [0 c -1]");
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
    assert_int_equal(registry_row(r, s, t, FIRST(path, 3, values), see, &n), 0);
    seen_is(&n, "2 Cam 20240101 100 1");
    assert_int_equal(registry_row(r, s, t, FIRST(path + 1, 1, values), see, &n), 0);
    seen_is(&n, "1 Cam 20240101 100 1 [0 in run 2 17]");
    assert_int_equal(registry_row(r, s, t, FIRST(other, 3, values), see, &n), 0);
    seen_is(&n, "1 Cam 20240101 100 1 [0 in run 2 17]");
    assert_int_equal(registry_row(r, s, t, FIRST(path, 3, none), see, &n), -ENOENT);
    assert_int_equal(registry_row(r, s, t, FIRST(path, 3, twin), see, &n), -ENOENT);
    assert_int_equal(registry_row(r, s, t, FIRST(path, 0, values), see, &n), -ENOENT);
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
    assert_int_equal(present(r, s, type(s, "calexp"), 2), 0);
    put(1, 2, 2, 2, ",'Cam',1,100", NULL);
    assert_int_equal(present(r, s, type(s, "calexp"), 2), 1);
    assert_int_equal(present(r, s, type(s, "calexp"), 3), 0);
    assert_int_equal(present(r, s, type(s, "schema"), 2), 0);
    run_sql("DROP TABLE dataset_tags_00000002");
    assert_int_equal(present(r, s, type(s, "calexp"), 2), -EIO);
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
    assert_int_equal(registry_row(r, s, type(s, "calexp"), FIRST(&run, 1, values), see, &n), -ECANCELED);
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
    for (uint32_t depth = 1; depth <= 4; depth++)
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
    assert_int_equal(enter(&e, values, 0), 0); // there is no row
    for (uint32_t depth = 1; depth <= 3; depth++)
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
    assert_aborts(registry_row(r, s, type(s, "calexp"), FIRST(&run, 1, wrong), see, &n));
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
    assert_int_equal(registry_row(r, s, type(s, "calexp"), FIRST(path, 2, good), see, &n), 0);
    seen_is(&n, "1 Cam 20240101 100 1");
    assert_int_equal(registry_dataset(r, s, &third, see, &n), 0);
    seen_is(&n, "2 [0 s 3] [1 t 3]");
    assert_int_equal(present(r, s, type(s, "calexp"), 3), 1);
    assert_int_equal(present(r, s, type(s, "schema"), 3), 0);
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
        with_database(a_page_has_the_sets_rows_in_any_number_of_pages),
        with_database(a_row_has_its_implied_day),
        with_database(a_dimensionless_type_has_one_row),
        with_database(columns_with_reserved_names_are_read),
        with_database(a_dataset_without_records_has_no_files),
        with_database(components_are_listed_by_name),
        with_database(records_are_read_from_every_datastore_in_order),
        with_database(bad_rows_are_left_out_and_counted),
        with_database(what_a_record_says_is_checked),
        with_database(a_size_that_no_file_can_have_is_unknown),
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
