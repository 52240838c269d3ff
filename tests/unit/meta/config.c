// SPDX-License-Identifier: BSD-3-Clause
#include "tests/unit/base/harness.h"

#include <errno.h>
#include <sys/stat.h>

#include "base/buffer.h"
#include "meta/config.h"
#include "meta/uri.h"

static char folder[64];

static int make_folder(void **state)
{
    snprintf(folder, sizeof folder, "/tmp/config-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

// Writes a file below the folder; the name may be in a folder that isn't there yet.
static const char *write_file(const char *name, const char *content)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    for (char *slash = path + strlen(folder) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = 0;
        mkdir(path, 0777);
        *slash = '/';
    }
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(content, f);
    fclose(f);
    return path;
}

static const char *below(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static struct repository_config *config_with(const char *source, const char *uri, const char *text)
{
    struct repository_index index = {uri, text};
    struct repository_config *c = NULL;
    char *why = NULL;
    int r = repository_config_read(source, &index, &c, &why);
    if (r < 0)
        fail_msg("%s: %d: %s", source, r, why);
    return c;
}

static struct repository_config *config_of(const char *source)
{
    return config_with(source, NULL, NULL);
}

static struct repository_config *parsed(const char *yaml)
{
    struct repository_config *c = NULL;
    char *why = NULL;
    if (repository_config_parse("/repo/butler.yaml", text_of(yaml), &c, &why) < 0)
        fail_msg("%s: %s", yaml, why);
    return c;
}

// Refused with one line that has these words.
static void assert_line(int r, int wanted, char *why, const char *words)
{
    if (r != wanted || !why || strchr(why, '\n') || !strstr(why, words))
        fail_msg("%d is not %d, or \"%s\" is not a line with \"%s\"", r, wanted, why, words);
    free(why);
}

static void assert_refused_with(const char *source, const char *uri, const char *text, int wanted,
                                const char *words)
{
    struct repository_index index = {uri, text};
    struct repository_config *c = NULL;
    char *why = NULL;
    int r = repository_config_read(source, &index, &c, &why);
    assert_null(c);
    assert_line(r, wanted, why, words);
}

static void assert_refused(const char *source, int wanted, const char *words)
{
    assert_refused_with(source, NULL, NULL, wanted, words);
}

static void assert_unparsed(const char *yaml, int wanted, const char *words)
{
    struct repository_config *c = NULL;
    char *why = NULL;
    int r = repository_config_parse("/repo/butler.yaml", text_of(yaml), &c, &why);
    assert_null(c);
    assert_line(r, wanted, why, words);
}

static const char usual[] = "datastore:\n"
                            "  cls: lsst.daf.butler.datastores.fileDatastore.FileDatastore\n"
                            "  records:\n"
                            "    table: file_datastore_records\n"
                            "  root: <butlerRoot>\n"
                            "registry:\n"
                            "  db: sqlite:///<butlerRoot>/gen3.sqlite3\n";

// ---------------------------------------------------------------------------------------------

static void a_folder_is_its_butler_yaml(void **state)
{
    write_file("repo/butler.yaml", usual);
    assert_int_equal(chmod(below("repo/butler.yaml"), 0640), 0);
    struct repository_config *c = config_of(below("repo/"));
    char wanted[128];
    assert_string_equal(c->yaml_path, below("repo/butler.yaml"));
    assert_string_equal(c->root, below("repo"));
    assert_string_equal(c->database_path, below("repo/gen3.sqlite3"));
    snprintf(wanted, sizeof wanted, "sqlite:///%s/repo/gen3.sqlite3", folder);
    assert_string_equal(c->database_url, wanted);
    assert_int_equal(c->database, DATABASE_SQLITE);
    assert_int_equal(c->datastore_count, 1);
    assert_string_equal(c->datastores[0].root, below("repo"));
    assert_string_equal(c->datastores[0].name, "FileDatastore@<butlerRoot>");
    assert_string_equal(c->datastores[0].records_table, "file_datastore_records");
    assert_true(c->datastores[0].is_local);
    assert_int_equal(c->owner, getuid());
    assert_int_equal(c->mode, 0640);
    repository_config_free(c);
}

static void a_repository_may_be_named_in_many_ways(void **state)
{
    write_file("in many ways/butler.yaml", usual);
    char uri[256], here[512];
    assert_non_null(getcwd(here, sizeof here));
    const char *const forms[] = {"file://%s/in%%20many%%20ways", "file://localhost%s/in%%20many%%20ways/butler.yaml",
                                 "file:%s/in%%20many%%20ways/", "%s/in many ways/butler.yaml",
                                 "%s/./x/..//in many ways/."};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(uri, sizeof uri, forms[i], folder);
#pragma GCC diagnostic pop
        struct repository_config *c = config_of(uri);
        assert_string_equal(c->root, below("in many ways"));
        repository_config_free(c);
    }
    assert_int_equal(chdir(folder), 0);
    struct repository_config *c = config_of("in many ways");
    assert_string_equal(c->yaml_path, below("in many ways/butler.yaml"));
    assert_string_equal(c->source, "in many ways");
    repository_config_free(c);
    assert_int_equal(chdir(here), 0);
}

static void a_label_is_looked_up_first(void **state)
{
    char text[512], index[512];
    write_file("labelled/butler.yaml", usual);
    snprintf(text, sizeof text, "{\"dp1\": \"%s/labelled\", \"far\": \"https://x/y\"}", folder);
    struct repository_config *c = config_with("dp1", NULL, text);
    assert_string_equal(c->root, below("labelled"));
    assert_string_equal(c->source, "dp1");
    repository_config_free(c);
    snprintf(index, sizeof index, "%s", write_file("index.yaml", text));
    c = config_with("dp1", index, NULL);
    repository_config_free(c);
    snprintf(text, sizeof text, "file://%s/index.yaml", folder);
    c = config_with("dp1", text, NULL);
    repository_config_free(c);
    assert_refused_with("far", index, NULL, -EOPNOTSUPP, "remote repositories (https://x/y)");
    assert_refused_with("dp2", index, NULL, -ENOENT, "no such label");
    assert_refused_with("dp1", index, "a: b", -EINVAL, "give one");
    assert_refused_with("dp1", "/nowhere", NULL, -ENOENT, "index can't be read");
    assert_refused_with("dp1", NULL, "a: [", -ENOENT, "index can't be read");
    assert_refused_with("dp1", NULL, NULL, -ENOENT, "no repository index is given");
    // A plain path needs no index.
    c = config_with(below("labelled"), "/nowhere", NULL);
    repository_config_free(c);
}

static void what_is_not_a_repository_is_refused_with_a_line(void **state)
{
    write_file("empty/file", "");
    write_file("list/butler.yaml", "- 1\n");
    write_file("broken/butler.yaml", "a: [\n");
    mkfifo(below("fifo"), 0600);
    assert_refused("", -EINVAL, "empty");
    assert_refused("/nowhere/at/all", -ENOENT, "no such folder or file");
    assert_refused(below("empty"), -ENOENT, "not a Butler repository");
    assert_refused(below("empty/file/x"), -ENOTDIR, "no such folder or file");
    assert_refused(below("fifo"), -EINVAL, "not a regular file");
    assert_refused(below("list"), -EINVAL, "isn't a map");
    assert_refused(below("broken"), -EINVAL, "can't be read");
    assert_refused("s3://bucket/butler.yaml", -EOPNOTSUPP, "remote repositories");
    assert_refused("gs://bucket/butler.yaml", -EOPNOTSUPP, "s3, http(s) and dav(s) only");
    assert_refused("file://elsewhere/repo", -EINVAL, "not a path or a file: URI");
    assert_refused("file:///repo%00x", -EINVAL, "not a path or a file: URI");
}

static int read_far(void *context, const char *uri, struct buffer *to, char **ret_why)
{
    (void)context;
    if (strcmp(uri, "s3://bucket/repo/butler.yaml") != 0) {
        *ret_why = strdup("there is no such object");
        return -ENOENT;
    }
    buffer_append_string(to, "registry: {db: 'sqlite:////db.sqlite3'}\n");
    return 0;
}

static void a_remote_butler_yaml_is_read_by_who_can(void **state)
{
    static const struct remote_reader reader = {read_far, NULL};
    struct repository_index index = {.remote = &reader};
    static const char *const sources[] = {"s3://bucket/repo/butler.yaml", "s3://bucket/repo", "s3://bucket/repo/"};
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++) {
        struct repository_config *c = NULL;
        char *why = NULL;
        assert_int_equal(repository_config_read(sources[i], &index, &c, &why), 0);
        assert_string_equal(c->root, "s3://bucket/repo");
        assert_string_equal(c->datastores[0].root, "s3://bucket/repo/datastore");
        assert_false(c->datastores[0].is_local);
        assert_string_equal(c->database_path, "/db.sqlite3");
        assert_int_equal(c->owner, geteuid());
        repository_config_free(c);
    }
    struct repository_config *c = NULL;
    char *why = NULL;
    assert_int_equal(repository_config_read("s3://bucket/other", &index, &c, &why), -ENOENT);
    assert_non_null(strstr(why, "no such object"));
    free(why);
}

static void a_place_is_found_without_being_read(void **state)
{
    struct repository_index index = {.text = "{far: 's3://bucket/repo'}"};
    char *location = NULL, *why = NULL;
    assert_int_equal(repository_locate("far", &index, &location, &why), 0);
    assert_string_equal(location, "s3://bucket/repo/butler.yaml");
    free(location);
}

static void missing_keys_have_the_clients_defaults(void **state)
{
    struct repository_config *c = parsed("{}");
    assert_string_equal(c->root, "/repo");
    assert_string_equal(c->database_path, "/repo/gen3.sqlite3");
    assert_int_equal(c->datastore_count, 1);
    assert_string_equal(c->datastores[0].root, "/repo/datastore");
    assert_string_equal(c->datastores[0].name, "FileDatastore@<butlerRoot>/datastore");
    assert_string_equal(c->datastores[0].records_table, "file_datastore_records");
    repository_config_free(c);
    c = parsed("{root: null, registry: {db: null}, datastore: {root: ~, name: here, records: {}}}");
    assert_string_equal(c->database_path, "/repo/gen3.sqlite3");
    assert_string_equal(c->datastores[0].name, "here");
    repository_config_free(c);
}

static void root_replaces_butlerRoot_everywhere(void **state)
{
    struct repository_config *c =
        parsed("root: /data/x/../repo/\nregistry: {db: 'sqlite:///<butlerRoot>/<butlerRoot>.db'}\n"
               "datastore: {root: 'file://<butlerRoot>/a%20b/'}");
    assert_string_equal(c->root, "/data/repo");
    assert_string_equal(c->database_path, "/data/repo/data/repo.db");
    assert_string_equal(c->datastores[0].root, "/data/repo/a b");
    assert_string_equal(c->datastores[0].name, "FileDatastore@file://<butlerRoot>/a%20b/");
    repository_config_free(c);
    c = parsed("root: file:///data/with%20blank\n");
    assert_string_equal(c->root, "/data/with blank");
    repository_config_free(c);
    c = parsed("root: /\n");
    assert_string_equal(c->root, "/");
    assert_string_equal(c->database_path, "/gen3.sqlite3");
    repository_config_free(c);
}

static void assert_database(const char *url, const char *path)
{
    char yaml[512];
    snprintf(yaml, sizeof yaml, "registry: {db: \"%s\"}", url);
    struct repository_config *c = parsed(yaml);
    assert_string_equal(c->database_path, path);
    repository_config_free(c);
}

static void sqlite_urls_are_read_as_sqlalchemy_reads_them(void **state)
{
    assert_database("sqlite:////a/b.db", "/a/b.db");
    assert_database("sqlite+pysqlite:////a/b.db", "/a/b.db");
    assert_database("sqlite:////a%20b/%2541.db", "/a b/%41.db");
    assert_database("sqlite:////a/b%3Fc.db?timeout=3&x", "/a/b?c.db");
    assert_database("sqlite:////a/b%.db", "/a/b%.db");
    assert_database("sqlite:////a/b#c.db", "/a/b#c.db");
    assert_database("sqlite:////a//./b/../c.db", "/a/c.db");
    assert_unparsed("registry: {db: 'sqlite:///rel.db'}", -EINVAL, "relative to nothing");
    assert_unparsed("registry: {db: 'sqlite://'}", -EINVAL, "in memory");
    assert_unparsed("registry: {db: 'sqlite:///'}", -EINVAL, "in memory");
    assert_unparsed("registry: {db: 'sqlite:///:memory:'}", -EINVAL, "in memory");
    assert_unparsed("registry: {db: 'sqlite://host/a'}", -EINVAL, "names a host");
    assert_unparsed("registry: {db: 'sqlite:////a%00b'}", -EINVAL, "NUL");
    assert_unparsed("registry: {db: 'sqlite:/a/b'}", -EINVAL, "not a sqlite:// or postgresql:// URL");
    assert_unparsed("registry: {db: 'mysql://h/d'}", -EINVAL, "not a sqlite:// or postgresql:// URL");
    assert_unparsed("registry: {db: [1]}", -EINVAL, "not a plain value");
}

static void a_postgresql_url_is_kept_for_the_registry(void **state)
{
    struct repository_config *c =
        parsed("registry: {db: 'postgresql+psycopg2://me@host:5432/lsst', namespace: dp1}");
    assert_int_equal(c->database, DATABASE_POSTGRESQL);
    assert_string_equal(c->database_url, "postgresql+psycopg2://me@host:5432/lsst");
    assert_string_equal(c->namespace_, "dp1");
    assert_null(c->database_path);
    assert_string_equal(c->database_parts.user, "me");
    assert_string_equal(c->database_parts.host, "host");
    repository_config_free(c);
}

static void what_a_postgresql_url_leaves_out_may_stand_beside_it(void **state)
{
    struct repository_config *c =
        parsed("registry: {db: 'postgresql://me@/', host: h, port: 5433, database: d, username: you, password: 'p%'}");
    assert_string_equal(c->database_parts.user, "me");
    assert_string_equal(c->database_parts.host, "h");
    assert_string_equal(c->database_parts.port, "5433");
    assert_string_equal(c->database_parts.database, "d");
    assert_string_equal(c->database_parts.password, "p%");
    repository_config_free(c);
    assert_unparsed("registry: {db: 'postgresql://me:secret@h:x/d'}", -EINVAL, "has a port that is no number");
}

static void a_password_is_in_no_refusal(void **state)
{
    struct repository_config *c = NULL;
    char *why = NULL;
    const char *yaml = "registry: {db: 'oracle://me:secret@host/db'}";
    assert_int_equal(repository_config_parse("/b.yaml", text_of(yaml), &c, &why), -EINVAL);
    assert_null(strstr(why, "secret"));
    free(why);
}

static void chained_datastores_are_listed_in_order(void **state)
{
    struct repository_config *c = parsed(
        "datastore:\n"
        "  cls: lsst.daf.butler.datastores.chainedDatastore.ChainedDatastore\n"
        "  datastores:\n"
        "    - datastore: {root: <butlerRoot>/fast, records: {table: fast_records}}\n"
        "    - datastore: {cls: a.InMemoryDatastore}\n"
        "    - cls: x.ChainedDatastore\n"
        "      datastores:\n"
        "        - datastore: {datastore: {cls: FileDatastore, root: /deep}}\n"
        "        - {root: /plain, name: n}\n"
        "    - datastore: {}\n");
    assert_int_equal(c->datastore_count, 4);
    assert_string_equal(c->datastores[0].root, "/repo/fast");
    assert_string_equal(c->datastores[0].records_table, "fast_records");
    assert_string_equal(c->datastores[1].root, "/deep");
    assert_string_equal(c->datastores[2].root, "/plain");
    assert_string_equal(c->datastores[2].name, "n");
    assert_string_equal(c->datastores[3].root, "/repo/datastore");
    repository_config_free(c);
}

static void datastores_may_be_remote(void **state)
{
    struct repository_config *c = parsed(
        "datastore:\n"
        "  cls: ChainedDatastore\n"
        "  datastores:\n"
        "    - datastore: {root: 's3://profile@bucket/x/'}\n"
        "    - datastore: {root: 'https://host/x'}\n"
        "    - datastore: {root: 'file:///here'}\n");
    assert_int_equal(c->datastore_count, 3);
    assert_string_equal(c->datastores[0].root, "s3://profile@bucket/x");
    assert_false(c->datastores[0].is_local);
    assert_false(c->datastores[1].is_local);
    assert_string_equal(c->datastores[2].root, "/here");
    assert_true(c->datastores[2].is_local);
    repository_config_free(c);
    c = parsed("root: 's3://bucket'\nregistry: {db: 'sqlite:////db'}");
    assert_string_equal(c->datastores[0].root, "s3://bucket/datastore");
    repository_config_free(c);
}

static void datastores_that_cannot_be_read_are_refused(void **state)
{
    assert_unparsed("datastore: {root: 'gs://bucket/x'}", -EOPNOTSUPP, "are supported");
    assert_unparsed("datastore: {root: here}", -EINVAL, "relative to nothing");
    assert_unparsed("datastore: {root: 'file://host/x'}", -EINVAL, "not a path or a file: URI");
    assert_unparsed("datastore: {root: \"/a\\0b\"}", -EINVAL, "NUL");
    assert_unparsed("datastore: {cls: my.OwnDatastore}", -EOPNOTSUPP, "is not known");
    assert_unparsed("datastore: {cls: a.InMemoryDatastore}", -EOPNOTSUPP, "no datastore with files");
    assert_unparsed("datastore: {cls: a.ChainedDatastore}", -EINVAL, "no list `datastores`");
    assert_unparsed("datastore: {cls: a.ChainedDatastore, datastores: [1]}", -EINVAL, "not a map");
    assert_unparsed("datastore: {cls: a.ChainedDatastore, datastores: []}", -EOPNOTSUPP, "no datastore with files");
    assert_unparsed("datastore: !include other.yaml", -EINVAL, "not a map");
    assert_unparsed("datastore: [1]", -EINVAL, "not a map");
}

static void chains_without_end_are_refused(void **state)
{
    BUFFER_CLEANUP yaml = {0};
    buffer_append_string(&yaml, "datastore: ");
    for (int i = 0; i < 12; i++)
        buffer_append_string(&yaml, "{cls: ChainedDatastore, datastores: [");
    buffer_append_string(&yaml, "{}");
    for (int i = 0; i < 12; i++)
        buffer_append_string(&yaml, "]}");
    assert_unparsed(yaml.data, -E2BIG, "deep");
    buffer_clear(&yaml);
    buffer_append_string(&yaml, "datastore: {cls: ChainedDatastore, datastores: [");
    for (int i = 0; i < 100; i++)
        buffer_append_string(&yaml, "{},");
    buffer_append_string(&yaml, "]}");
    assert_unparsed(yaml.data, -E2BIG, "more than 64");
}

static void other_kinds_of_butler_are_refused(void **state)
{
    assert_unparsed("cls: lsst.daf.butler.remote_butler.RemoteButler\nremote_butler: {url: <butlerRoot>}",
                    -EOPNOTSUPP, "Butler server");
    assert_unparsed("cls: my.Butler", -EOPNOTSUPP, "not a known kind");
    assert_unparsed("includeConfigs: other.yaml", -EOPNOTSUPP, "includeConfigs");
    assert_unparsed("registry: {includeConfigs: other.yaml}", -EOPNOTSUPP, "includeConfigs");
    assert_unparsed("root: 's3://bucket'", -EINVAL, "relative to nothing"); // its registry would be there
    assert_unparsed("root: relative", -EINVAL, "relative to nothing");
    assert_unparsed("root: {a: b}", -EINVAL, "not a plain value");
    struct repository_config *c = parsed("cls: lsst.daf.butler.direct_butler.DirectButler");
    repository_config_free(c);
}

static void what_only_writers_need_is_ignored(void **state)
{
    struct repository_config *c =
        parsed("datastore: {root: /a, templates: !include t.yaml, formatters: {x: {includeConfigs: y}}}\n"
               "storageClasses: !include s.yaml\nregistry: {managers: {datasets: a.b.C}}\n");
    assert_string_equal(c->datastores[0].root, "/a");
    repository_config_free(c);
}

static void paths_are_normalised_without_asking(void **state)
{
    static const char *const pairs[][2] = {
        {"/", "/"}, {"//", "/"}, {"/a/", "/a"}, {"/a/.", "/a"}, {"/a/..", "/"}, {"/..", "/"},
        {"/../../a", "/a"}, {"/a//b/./c/../d", "/a/b/d"}, {"/a/...", "/a/..."}, {"/a/.b", "/a/.b"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        BUFFER_CLEANUP path = {0};
        buffer_append_string(&path, pairs[i][0]);
        path_normalise(&path);
        assert_string_equal(path.data, pairs[i][1]);
    }
}

static void a_scheme_is_told_from_a_path(void **state)
{
    static const char *const uris[] = {"s3://b/k", "https://h", "file:/a", "file:///a", "a+b.c-1://x"};
    static const char *const paths[] = {"/a", "a", "", "a:b", "1s://x", "/s3://x", "a b://x", "://x", ":x"};
    for (size_t i = 0; i < sizeof uris / sizeof *uris; i++)
        assert_true(uri_has_scheme(text_of(uris[i])));
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        assert_false(uri_has_scheme(text_of(paths[i])));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_folder_is_its_butler_yaml, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(a_repository_may_be_named_in_many_ways, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(a_label_is_looked_up_first, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(what_is_not_a_repository_is_refused_with_a_line, make_folder,
                                        remove_folder),
        cmocka_unit_test(a_remote_butler_yaml_is_read_by_who_can),
        cmocka_unit_test(a_place_is_found_without_being_read),
        cmocka_unit_test(datastores_may_be_remote),
        cmocka_unit_test(missing_keys_have_the_clients_defaults),
        cmocka_unit_test(root_replaces_butlerRoot_everywhere),
        cmocka_unit_test(sqlite_urls_are_read_as_sqlalchemy_reads_them),
        cmocka_unit_test(a_postgresql_url_is_kept_for_the_registry),
        cmocka_unit_test(what_a_postgresql_url_leaves_out_may_stand_beside_it),
        cmocka_unit_test(a_password_is_in_no_refusal),
        cmocka_unit_test(chained_datastores_are_listed_in_order),
        cmocka_unit_test(datastores_that_cannot_be_read_are_refused),
        cmocka_unit_test(chains_without_end_are_refused),
        cmocka_unit_test(other_kinds_of_butler_are_refused),
        cmocka_unit_test(what_only_writers_need_is_ignored),
        cmocka_unit_test(paths_are_normalised_without_asking),
        cmocka_unit_test(a_scheme_is_told_from_a_path),
    };
    return run_group(tests);
}
