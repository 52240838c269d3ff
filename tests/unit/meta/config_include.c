// SPDX-License-Identifier: BSD-3-Clause
// A butler.yaml in pieces. What is expected here is what the client (30.2026.4300) made of the same files.
#include "tests/unit/base/harness.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "meta/config.h"

static char folder[64];

static int make_folder(void **state)
{
    snprintf(folder, sizeof folder, "/tmp/config-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    char sub[96];
    snprintf(sub, sizeof sub, "%s/sub", folder);
    return mkdir(sub, 0755);
}

static int remove_folder(void **state)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static void write_file(const char *name, const char *content)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(content, f);
    fclose(f);
}

// The datastore's root, its table and the database that this butler.yaml leads to.
static void assert_read(const char *yaml, const char *root, const char *table, const char *database)
{
    struct repository_config *c = NULL;
    char *why = NULL;
    write_file("butler.yaml", yaml);
    if (repository_config_read(folder, NULL, &c, &why) < 0)
        fail_msg("%s: %s", yaml, why);
    assert_int_equal(c->datastore_count, 1);
    assert_string_equal(c->datastores[0].root, root);
    if (table)
        assert_string_equal(c->datastores[0].records_table, table);
    if (database)
        assert_string_equal(c->database_path, database);
    repository_config_free(c);
}

static void assert_refused(const char *yaml, int wanted, const char *words)
{
    struct repository_config *c = NULL;
    char *why = NULL;
    write_file("butler.yaml", yaml);
    int r = repository_config_read(folder, NULL, &c, &why);
    if (r != wanted || !why || strchr(why, '\n') || !strstr(why, words))
        fail_msg("%d is not %d, or \"%s\" is not a line with \"%s\"", r, wanted, why, words);
    free(why);
}

static void a_value_may_be_what_a_file_holds(void **state)
{
    write_file("inc.yaml", "root: /inc\nrecords: {table: t1}\n");
    assert_read("datastore: !include inc.yaml\n", "/inc", "t1", NULL);
    // The file may begin with the name of the part.
    write_file("both.yaml", "datastore: {root: /both}\nregistry: {db: 'sqlite:////a/b'}\n");
    assert_read("datastore: !include both.yaml\nregistry: !include both.yaml\n", "/both", NULL, "/a/b");
    write_file("text.yaml", "/scalar\n");
    assert_read("datastore: {root: !include text.yaml}\n", "/scalar", NULL, NULL);
    write_file("inc.json", "{\"root\": \"/json\"}");
    assert_read("datastore: !include inc.json\n", "/json", NULL, NULL);
    write_file("tables.yaml", "t2\n");
    assert_read("datastore: {root: /a, records: !include {table: tables.yaml}}\n", "/a", "t2", NULL);
}

static void a_file_is_relative_to_the_one_that_includes_it(void **state)
{
    write_file("sub/a.yaml", "datastore: !include b.yaml\n");
    write_file("sub/b.yaml", "root: /sub/b\n");
    write_file("b.yaml", "root: /top/b\n");
    assert_read("includeConfigs: sub/a.yaml\n", "/sub/b", NULL, NULL);
    write_file("sub/d.yaml", "datastore: {includeConfigs: b.yaml}\n");
    assert_read("includeConfigs: sub/d.yaml\n", "/sub/b", NULL, NULL);
    // But includeConfigs in what came by !include is the whole configuration's.
    write_file("sub/c.yaml", "includeConfigs: b.yaml\n");
    assert_read("datastore: !include sub/c.yaml\n", "/top/b", NULL, NULL);
    char yaml[256];
    snprintf(yaml, sizeof yaml, "datastore: !include %s/sub/b.yaml\n", folder);
    assert_read(yaml, "/sub/b", NULL, NULL);
    snprintf(yaml, sizeof yaml, "datastore: {includeConfigs: 'file://%s/sub/b.yaml'}\n", folder);
    assert_read(yaml, "/sub/b", NULL, NULL);
}

static void included_configurations_lie_under_the_maps_own_keys(void **state)
{
    write_file("inc.yaml", "root: /inc\nrecords: {table: t1, other: 3}\n");
    write_file("last.yaml", "root: /last\n");
    write_file("all.yaml", "datastore: {root: /all}\nregistry: {db: 'sqlite:////a/b'}\n");
    write_file("empty.yaml", "");
    assert_read("includeConfigs: all.yaml\n", "/all", NULL, "/a/b");
    assert_read("includeConfigs: [all.yaml]\ndatastore: {root: /own}\n", "/own", NULL, "/a/b");
    assert_read("datastore: {includeConfigs: inc.yaml, root: /own}\n", "/own", "t1", NULL);
    assert_read("datastore: {includeConfigs: [inc.yaml, last.yaml]}\n", "/last", "t1", NULL);
    assert_read("datastore: {includeConfigs: [last.yaml, inc.yaml]}\n", "/inc", "t1", NULL);
    assert_read("datastore: {includeConfigs: [empty.yaml, inc.yaml]}\n", "/inc", NULL, NULL);
    assert_read("datastore: {includeConfigs: inc.yaml, records: {table: own}}\n", "/inc", "own", NULL);
    assert_read("datastore: {includeConfigs: inc.yaml, records: null}\n", "/inc", "file_datastore_records", NULL);
    // The earlier key's files are the later one's own.
    assert_read("includeConfigs: all.yaml\ndatastore: {includeConfigs: inc.yaml}\n", "/all", "t1", "/a/b");
    assert_read("datastore: {includeConfigs: inc.yaml}\nincludeConfigs: all.yaml\n", "/inc", "t1", "/a/b");
}

static void compound_keys_are_no_keys_in_a_file(void **state)
{
    assert_read("datastore: {root: /own}\n.datastore.root: /dotted\ndatastore.root: /dotted\n", "/own", NULL, NULL);
}

static void what_only_writers_need_is_not_followed(void **state)
{
    assert_read("datastore: {root: /own, templates: !include nope.yaml, formatters: {includeConfigs: nope.yaml}}\n"
                "storageClasses: !include 'resource://lsst.daf.butler/configs/storageClasses.yaml'\n",
                "/own", NULL, NULL);
}

static void what_cannot_be_included_is_refused_with_a_line(void **state)
{
    write_file("list.yaml", "[1, 2]\n");
    write_file("bad.yaml", "a: [\n");
    assert_refused("datastore: !include nope.yaml\n", -ENOENT, "nope.yaml: No such file");
    assert_refused("includeConfigs: nope.yaml\n", -ENOENT, "nope.yaml: No such file");
    assert_refused("datastore: {includeConfigs: list.yaml}\n", -EINVAL, "list.yaml, which is not a map");
    assert_refused("datastore: !include bad.yaml\n", -EINVAL, "bad.yaml: line");
    assert_refused("datastore: !include $HERE/x.yaml\n", -EINVAL, "variables are not known");
    assert_refused("datastore: !include 's3://b/x.yaml'\n", -EOPNOTSUPP, "not a local file");
    assert_refused("datastore: !include \"a\\0b\"\n", -EINVAL, "not the name of a file");
    assert_refused("includeConfigs: {a: b}\n", -EINVAL, "not the name of a file");
    assert_refused("datastore: !include sub\n", -EINVAL, "not a regular file");
    assert_refused("datastore: {cls: a.ChainedDatastore, datastores: [{datastore: {includeConfigs: list.yaml}}]}\n",
                   -EOPNOTSUPP, "is not followed");
}

static void circles_and_too_many_files_are_refused(void **state)
{
    write_file("round.yaml", "datastore: !include round.yaml\n");
    assert_refused("datastore: !include round.yaml\n", -E2BIG, "too deep");
    write_file("round2.yaml", "includeConfigs: round2.yaml\n");
    assert_refused("includeConfigs: round2.yaml\n", -E2BIG, "too deep");
    write_file("wide.yaml", "{a: !include wide2.yaml, b: !include wide2.yaml, c: !include wide2.yaml, d: !include wide2.yaml}\n");
    write_file("wide2.yaml", "{a: !include e.yaml, b: !include e.yaml, c: !include e.yaml, d: !include e.yaml}\n");
    write_file("e.yaml", "{a: !include f.yaml, b: !include f.yaml, c: !include f.yaml, d: !include f.yaml}\n");
    write_file("f.yaml", "1\n");
    assert_refused("datastore: !include wide.yaml\n", -E2BIG, "too many files");
}

static void root_does_not_read_for_the_owner_what_he_could_not(void **state)
{
    char path[128];
    if (geteuid() != 0)
        skip();
    write_file("secret.yaml", "root: /secret\n");
    write_file("butler.yaml", "");
    snprintf(path, sizeof path, "%s/butler.yaml", folder);
    assert_int_equal(chown(path, 12345, 12345), 0);
    snprintf(path, sizeof path, "%s/secret.yaml", folder);
    assert_int_equal(chmod(path, 0600), 0);
    assert_refused("datastore: !include secret.yaml\n", -EACCES, "not readable by all");
    assert_int_equal(chown(path, 12345, 12345), 0);
    assert_read("datastore: !include secret.yaml\n", "/secret", NULL, NULL);
}

#define in_folder(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        in_folder(a_value_may_be_what_a_file_holds),
        in_folder(a_file_is_relative_to_the_one_that_includes_it),
        in_folder(included_configurations_lie_under_the_maps_own_keys),
        in_folder(compound_keys_are_no_keys_in_a_file),
        in_folder(what_only_writers_need_is_not_followed),
        in_folder(what_cannot_be_included_is_refused_with_a_line),
        in_folder(circles_and_too_many_files_are_refused),
        in_folder(root_does_not_read_for_the_owner_what_he_could_not),
    };
    return run_group(tests);
}
