// SPDX-License-Identifier: BSD-3-Clause
#include "tests/unit/base/harness.h"

#include <sys/mount.h>
#include <sys/stat.h>

#include "fs/options.h"
#include "fs/options_table.h"
#include "fs/why.h"

#define ARGUMENTS_MAX 16

struct parsed {
    struct options *o;
    char *why;
    int r;
};

static void release(struct parsed *p)
{
    options_free(p->o);
    free(p->why);
}

#define PARSED cleanup(release) struct parsed

static struct parsed parse_all(const char *const *argv)
{
    struct parsed p = {};
    int argc = 0;
    while (argv[argc])
        argc++;
    p.r = options_parse(argc, (char **)argv, &p.o, &p.why);
    assert_true((p.r < 0) == (p.why != NULL));
    assert_true((p.r == 0) == (p.o != NULL));
    return p;
}

#define parse(...) parse_all((const char *[]){"butlerfs", __VA_ARGS__, NULL})
#define parse_list(list) parse("/", "/", "-o", list)

static void assert_says(const struct parsed *p, const char *word)
{
    assert_true(p->r < 0);
    assert_null(strchr(p->why, '\n'));
    if (!strstr(p->why, word))
        fail_msg("\"%s\" is not in: %s", word, p->why);
}

static void each_option_stands_once_and_its_default_is_within_its_bounds(void **state)
{
    (void)state;
    for (const struct option_row *a = option_table; a->name; a++) {
        for (const struct option_row *b = a + 1; b->name; b++)
            assert_string_not_equal(a->name, b->name);
        struct options *o = calloc(1, sizeof *o);
        assert_non_null(o);
        o->space_count = 1;
        o->spaces = calloc(1, sizeof *o->spaces);
        assert_non_null(o->spaces);
        char *reason = NULL;
        if (a->standard)
            assert_int_equal(option_set(a, a->standard, "/", o, o->spaces, &reason), 0);
        if (a->min) {
            assert_int_equal(option_set(a, a->min, "/", o, o->spaces, &reason), 0);
            assert_int_equal(option_set(a, a->max, "/", o, o->spaces, &reason), 0);
        }
        assert_null(reason);
        options_free(o);
    }
}

static void without_options_the_defaults_of_the_table_hold(void **state)
{
    (void)state;
    PARSED p = parse("/a", "/b");
    assert_int_equal(p.r, 0);
    assert_int_equal(p.o->mount_flags, MS_RDONLY | MS_NOSUID | MS_NODEV);
    assert_int_equal(p.o->allow_other, geteuid() == 0);
    assert_int_equal(p.o->worker_count, 8);
    assert_int_equal(p.o->librarian_count, 2);
    assert_int_equal(p.o->catalogue_size_bytes, 8LL << 30);
    assert_int_equal(p.o->timeout_ns, 30000000000LL);
    assert_true(p.o->passthrough && p.o->stack_over && !p.o->foreground && !p.o->is_configured);
    assert_int_equal(p.o->space_count, 1);
    assert_null(p.o->spaces[0].name);
    assert_int_equal(p.o->spaces[0].refresh_ns, 1000000000);
    assert_false(p.o->spaces[0].has_uid || p.o->spaces[0].has_gid || p.o->spaces[0].has_umask);
    assert_string_equal(p.o->spaces[0].source, "/a");
    assert_string_equal(p.o->mountpoint, "/b");
}

static void an_archive_is_read_only_also_if_mount_says_rw(void **state)
{
    (void)state;
    PARSED p = parse_list("rw,suid,dev,noexec,noatime");
    assert_int_equal(p.r, 0);
    assert_int_equal(p.o->mount_flags, MS_RDONLY | MS_NOEXEC | MS_NOATIME);
}

static void what_mount_and_autofs_say_among_themselves_is_ignored(void **state)
{
    (void)state;
    PARSED p = parse("/a", "/b", "-n", "-v", "-t", "butlerfs", "-o",
                     "defaults,_netdev,nofail,auto,noauto,user=me,users,nouser,x-systemd.automount,"
                     "X-mount.mkdir=0755,comment=a\\,b,,relatime,async");
    assert_int_equal(p.r, 0);
}

static void the_last_of_an_option_counts_and_o_may_stand_anywhere(void **state)
{
    (void)state;
    PARSED p = parse("-o", "workers=5", "/a", "-f", "/b", "-o", "workers=6,refresh=200ms");
    assert_int_equal(p.r, 0);
    assert_true(p.o->foreground);
    assert_int_equal(p.o->worker_count, 6);
    assert_int_equal(p.o->spaces[0].refresh_ns, 200000000);
}

static void a_time_of_a_bucket_is_an_instant_that_is_over(void **state)
{
    (void)state;
    static const struct {
        const char *said;
        int64_t unix_s;
    } good[] = {{"2024-11-11T03:04:05Z", 1731294245}, {"20241111T030405", 1731294245}, {"2024-11-11", 1731283200}};
    static const struct {
        const char *said, *why;
    } bad[] = {{"version_at=now", "2026-11-01T12:00:00Z"},
               {"version_at=", "2026-11-01T12:00:00Z"},
               {"version_at=1970-01-01", "after 1970"},
               {"version_at=2200-01-01", "still to come"},
               {"version_at=2024-11-11,write=new", "can't be written to"},
               {"write=replace,version_at=2024-11-11", "can't be written to"}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        char list[64];
        snprintf(list, sizeof list, "version_at=%s", good[i].said);
        PARSED p = parse("s3://b", "/b", "-o", list);
        assert_int_equal(p.r, 0);
        assert_int_equal(p.o->spaces[0].version_at_unix_ns, good[i].unix_s * 1000000000);
        assert_true(p.o->mount_flags & MS_RDONLY);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        PARSED p = parse("s3://b", "/b", "-o", bad[i].said);
        assert_says(&p, bad[i].why);
    }
}

static void what_means_nothing_to_a_kind_of_space_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *source, *said, *why;
    } bare[] = {{"/a", "version_at=2024-11-11", "option version_at: it is of S3 spaces only, and /a is a Butler space"},
                {"/a", "rw,write=new", "option write: it is of S3 spaces only"},
                {"home:/a", "write=new", "/a is a home space"},
                {"group:/a", "sse=AES256", "/a is a group space"},
                {"s3://b", "provision=1000-2000", "option provision: it is of home and group spaces only, and s3://b is an S3 space"},
                {"/a", "skeleton=/x", "home and group spaces"}};
    for (size_t i = 0; i < sizeof bare / sizeof *bare; i++) {
        PARSED p = parse(bare[i].source, "/b", "-o", bare[i].said);
        assert_says(&p, bare[i].why);
    }
}

static void a_remount_is_of_flags_only_and_the_last_word_of_each_counts(void **state)
{
    (void)state;
    PARSED p = parse("home:/x", "/mnt", "-o", "rw,suid,user_id=0,ledger_dir=/l,made-up=1,remount,ro,noatime");
    assert_int_equal(p.r, 0);
    assert_true(p.o->is_remount);
    assert_int_equal(p.o->mount_flags, MS_RDONLY | MS_NOATIME);
    assert_int_equal(p.o->cleared_flags, MS_NOSUID);
    assert_string_equal(p.o->mountpoint, "/mnt");
    assert_null(p.o->ledger_dir);
}

static void the_source_of_a_home_space_is_shown_as_it_was_said(void **state)
{
    (void)state;
    static const char *const sources[][3] = {{"home:/x", "ro", "home:/x"}, {"Group:/x", "ro", "Group:/x"},
                                             {"/x", "space=home", "/x"}, {"home:/x/../y", "ro", "home:/y"}};
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++) {
        PARSED p = parse(sources[i][0], "/mnt", "-o", sources[i][1]);
        assert_int_equal(p.r, 0);
        assert_string_equal(p.o->source, sources[i][2]);
    }
}

static void a_comma_may_be_escaped_or_quoted(void **state)
{
    (void)state;
    PARSED p = parse_list("cache_dir=/a\\,b\\\\c,artifact_roots=\"/x,y:/z\",config=");
    assert_says(&p, "config");
    PARSED q = parse_list("cache_dir=/a\\,b\\\\c,artifact_roots=\"/x,y:/z\",workers=9");
    assert_int_equal(q.r, 0);
    assert_string_equal(q.o->cache_dir, "/a,b\\c");
    assert_string_equal(q.o->spaces[0].artifact_roots[0], "/x,y");
    assert_string_equal(q.o->spaces[0].artifact_roots[1], "/z");
    assert_null(q.o->spaces[0].artifact_roots[2]);
    assert_int_equal(q.o->worker_count, 9);
    PARSED u = parse_list("cache_dir=\"/a,workers=9");
    assert_says(&u, "quote");
}

static void json_needs_only_its_commas_escaped(void **state)
{
    (void)state;
    PARSED p = parse("./a", "/b", "-o", "repositories={\"x\": \"/x\"\\, \"y\": \"/y\"}");
    assert_int_equal(p.r, 0);
    assert_string_equal(p.o->repositories, "{\"x\": \"/x\", \"y\": \"/y\"}");
}

static void a_wrong_value_is_refused_with_what_is_allowed(void **state)
{
    (void)state;
    static const struct {
        const char *list, *value, *allowed;
    } wrong[] = {
        {"refresh=abc", "abc", "10ms"},       {"refresh=9ms", "9ms", "10ms"},    {"refresh=2d", "2d", "1d"},
        {"refresh", "refresh", "10ms"},       {"workers=3", "3", "4"},           {"workers=-1", "-1", "4"},
        {"workers=4x", "4x", "4"},            {"catalogue_size=1K", "1K", "64M"}, {"umask=8", "8", "octal"},
        {"umask=1000", "1000", "777"},        {"uid=-1", "-1", "number"},        {"uid=4294967295", "4294967295", "number"},
        {"gid=no such", "no such", "group"},  {"stack=up", "up", "under|over"},  {"passthrough=1", "1", "off|on"},
        {"log_level=loud", "loud", "debug"},  {"space=disk", "disk", "butler|s3"}, {"ro=1", "1", "no value"},
        {"cache_dir=", "cache_dir", "DIR"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        PARSED p = parse_list(wrong[i].list);
        assert_says(&p, wrong[i].value);
        assert_says(&p, wrong[i].allowed);
    }
}

static void an_unknown_option_is_refused_with_the_nearest_name(void **state)
{
    (void)state;
    PARSED p = parse_list("refesh=1s");
    assert_says(&p, "refesh");
    assert_says(&p, "did you mean refresh");
    PARSED q = parse_list("quite_other");
    assert_says(&q, "quite_other");
    assert_null(strstr(q.why, "did you mean"));
    PARSED s = parse("/a", "/b", "-s", "-o", "quite_other");
    assert_int_equal(s.r, 0);
}

static void too_few_and_too_many_words_are_refused(void **state)
{
    (void)state;
    PARSED none = parse_all((const char *[]){"butlerfs", NULL});
    assert_says(&none, "SOURCE");
    PARSED one = parse("/a");
    assert_says(&one, "MOUNTPOINT");
    PARSED three = parse("/a", "/b", "/c");
    assert_says(&three, "/c");
    PARSED flag = parse("--wrong", "/a", "/b");
    assert_says(&flag, "--wrong");
    PARSED letter = parse("-z", "/a", "/b");
    assert_says(&letter, "-z");
}

static void f_is_the_foreground_and_for_mount_a_rehearsal(void **state)
{
    (void)state;
    PARSED p = parse("/a", "/b", "-f");
    assert_true(p.o->foreground && !p.o->fake);
    PARSED q = parse_all((const char *[]){"/sbin/mount.butlerfs", "/a", "/b", "-f", "-n", "-o", "rw", NULL});
    assert_true(q.o->fake && !q.o->foreground);
}

static void what_autofs_and_mount_fuse_put_before_a_source_is_taken_off(void **state)
{
    (void)state;
    const char *forms[] = {"/repo/dp2", ":/repo/dp2", "butlerfs#/repo/dp2", "butlerfs\\#/repo/dp2", ":butler#/repo/dp2"};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        PARSED p = parse(forms[i], "/b");
        assert_int_equal(p.r, 0);
        assert_string_equal(p.o->spaces[0].source, "/repo/dp2");
        assert_string_equal(p.o->source, "/repo/dp2");
    }
}

static void what_a_source_is_its_words_say_or_space(void **state)
{
    (void)state;
    PARSED s3 = parse("s3://bucket/prefix", "/b");
    assert_int_equal(s3.r, 0);
    assert_int_equal(s3.o->spaces[0].kind, SPACE_S3);
    assert_string_equal(s3.o->spaces[0].source, "s3://bucket/prefix");
    PARSED said = parse("s3://bucket/prefix", "/b", "-o", "space=butler");
    assert_int_equal(said.r, 0);
    PARSED yaml = parse("s3://bucket/butler.yaml", "/b");
    assert_int_equal(yaml.r, 0);
    PARSED file = parse("file:///repo", "/b");
    assert_int_equal(file.r, 0);
    PARSED unclear = parse("https://host/repo", "/b");
    assert_says(&unclear, "space=butler");
    PARSED bucket = parse("/repo", "/b", "-o", "space=s3");
    assert_says(&bucket, "s3://BUCKET");
}

static void artifact_roots_may_be_urls(void **state)
{
    (void)state;
    PARSED p = parse("/repo", "/b", "-o", "artifact_roots=/a:s3://bucket/x:http://host:80/y:b");
    assert_int_equal(p.r, 0);
    char **roots = p.o->spaces[0].artifact_roots;
    assert_string_equal(roots[0], "/a");
    assert_string_equal(roots[1], "s3://bucket/x");
    assert_string_equal(roots[2], "http://host:80/y");
    assert_int_equal(roots[3][0], '/');
    assert_null(roots[4]);
}

// ---- places -----------------------------------------------------------------------------------

struct place {
    char path[64];
};

static void write_file(const struct place *place, const char *name, const char *text)
{
    BUFFER_CLEANUP path = {};
    buffer_format(&path, "%s/%s", place->path, name);
    FILE *f = fopen(path.data, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static int make_place(void **state)
{
    struct place *place = calloc(1, sizeof *place);
    strcpy(place->path, "/tmp/butlerfs-options-XXXXXX");
    assert_non_null(mkdtemp(place->path));
    assert_int_equal(chdir(place->path), 0);
    mkdir("repo", 0755);
    mkdir("mnt", 0755);
    assert_int_equal(symlink("repo", "link"), 0);
    write_file(place, "repo/butler.yaml", "registry: {db: 'sqlite:///<butlerRoot>/gen3.sqlite3'}\n");
    unsetenv("DAF_BUTLER_REPOSITORY_INDEX");
    unsetenv("DAF_BUTLER_REPOSITORIES");
    *state = place;
    return 0;
}

static int remove_place(void **state)
{
    struct place *place = *state;
    BUFFER_CLEANUP line = {};
    assert_int_equal(chdir("/"), 0);
    buffer_format(&line, "rm -rf %s", place->path);
    int r = system(line.data);
    unsetenv("DAF_BUTLER_REPOSITORY_INDEX");
    unsetenv("DAF_BUTLER_REPOSITORIES");
    free(place);
    return r;
}

static void assert_below(const struct place *place, const char *path, const char *name)
{
    BUFFER_CLEANUP expected = {};
    buffer_format(&expected, "%s/%s", place->path, name);
    assert_string_equal(path, expected.data);
}

static void relative_paths_and_links_are_resolved_at_once(void **state)
{
    PARSED p = parse("link", "mnt/../mnt", "-o", "cache_dir=c/../d,artifact_roots=x");
    assert_int_equal(p.r, 0);
    assert_below(*state, p.o->spaces[0].source, "repo");
    assert_below(*state, p.o->source, "link");
    assert_below(*state, p.o->mountpoint, "mnt");
    assert_below(*state, p.o->cache_dir, "d");
    assert_below(*state, p.o->spaces[0].artifact_roots[0], "x");
}

static void a_label_is_looked_up_and_o_wins_over_the_environment(void **state)
{
    struct place *place = *state;
    BUFFER_CLEANUP map = {};
    buffer_format(&map, "{\"dp1\": \"%s/repo\"}", place->path);
    setenv("DAF_BUTLER_REPOSITORIES", map.data, 1);
    PARSED p = parse("dp1", "mnt");
    if (p.r < 0)
        fail_msg("%s", p.why);
    assert_below(place, p.o->spaces[0].source, "repo");
    assert_string_equal(p.o->source, "dp1");
    setenv("DAF_BUTLER_REPOSITORY_INDEX", "/nowhere.yaml", 1);
    PARSED both = parse("dp1", "mnt");
    assert_true(both.r < 0);
    BUFFER_CLEANUP list = {};
    buffer_format(&list, "repositories=%s", map.data);
    PARSED said = parse("dp1", "mnt", "-o", list.data);
    assert_int_equal(said.r, 0);
    assert_null(said.o->repository_index);
}

static void a_file_describes_several_spaces(void **state)
{
    write_file(*state, "c.yaml",
               "options: {refresh: 5s, workers: 16, passthrough: off, allow_other: false, umask: '022'}\n"
               "spaces:\n"
               "  dp1: {source: link, refresh: 2s}\n"
               "  embargo: {kind: butler, source: /repo/e, uid: 7, gid: 8, umask: 0027, open_as: owner,\n"
               "            artifact_roots: [/x, y]}\n");
    PARSED p = parse("rubin", "mnt", "-o", "config=c.yaml,workers=12");
    if (p.r < 0)
        fail_msg("%s", p.why);
    assert_true(p.o->is_configured);
    assert_string_equal(p.o->source, "rubin");
    assert_int_equal(p.o->worker_count, 12);
    assert_false(p.o->passthrough || p.o->allow_other);
    assert_int_equal(p.o->space_count, 2);
    const struct space_options *a = &p.o->spaces[0], *b = &p.o->spaces[1];
    assert_string_equal(a->name, "dp1");
    assert_below(*state, a->source, "repo");
    assert_int_equal(a->refresh_ns, 2000000000);
    assert_int_equal(a->umask, 022);
    assert_string_equal(b->name, "embargo");
    assert_int_equal(b->refresh_ns, 5000000000);
    assert_true(b->open_as_owner && b->has_uid && b->has_gid && b->has_umask);
    assert_int_equal(b->uid, 7);
    assert_int_equal(b->gid, 8);
    assert_int_equal(b->umask, 027);
    assert_string_equal(b->artifact_roots[0], "/x");
    assert_below(*state, b->artifact_roots[1], "y");
}

static void a_file_with_options_only_leaves_a_bare_mount(void **state)
{
    write_file(*state, "c.yaml", "options: {workers: 16, refresh: 3s}\n");
    PARSED p = parse("repo", "mnt", "-o", "config=c.yaml");
    assert_int_equal(p.r, 0);
    assert_false(p.o->is_configured);
    assert_int_equal(p.o->worker_count, 16);
    assert_int_equal(p.o->spaces[0].refresh_ns, 3000000000);
}

static void rw_of_a_space_is_writing_new_objects(void **state)
{
    static const struct {
        const char *keys;
        unsigned write;
    } said[] = {
        {"", WRITE_OFF},
        {", rw: true", WRITE_NEW},
        {", rw: false", WRITE_OFF},
        {", rw: true, write: replace", WRITE_REPLACE},
        {", write: replace, rw: true", WRITE_REPLACE},
        {", write: replace, rw: false", WRITE_OFF},
    };
    for (size_t i = 0; i < sizeof said / sizeof *said; i++) {
        char yaml[128];
        snprintf(yaml, sizeof yaml, "spaces: {a: {source: 's3://b'%s}}\n", said[i].keys);
        write_file(*state, "c.yaml", yaml);
        PARSED p = parse("rubin", "mnt", "-o", "config=c.yaml");
        if (p.r < 0)
            fail_msg("%s: %s", yaml, p.why);
        assert_int_equal(p.o->spaces[0].write, said[i].write);
    }
}

static void what_a_file_has_wrong_is_refused_by_name(void **state)
{
    static const struct {
        const char *yaml, *word;
    } wrong[] = {
        {"spaces:\n  a:\n    source: /x\n    colour: 1\n", "c.yaml line 4: space a: unknown key \"colour\""},
        {"spaces: {a: {source: /x, refesh: 1s}}\n", "refresh"},
        {"spaces: {a: {source: /x, workers: 9}}\n", "options:"},
        {"spaces: {a: {source: /x, refresh: never}}\n", "10ms"},
        {"spaces: {a: {source: /x, rw: perhaps}}\n", "true or false"},
        {"options: {rw: true}\n", "-o"},
        {"spaces: {a: {kind: s3, source: /x}}\n", "s3://BUCKET"},
        {"spaces: {a: {source: /x, write: new}}\n", "space a: write: it is of S3 spaces only, and a is a Butler space"},
        {"spaces: {a: {source: /x, rw: true}}\n", "space a: rw: it is of S3 spaces only"},
        {"spaces: {a: {source: 'home:/x', rw: false}}\n", "a is a home space"},
        {"spaces: {a: {source: 's3://b', home_mode: 0750}}\n", "home and group"},
        {"spaces: {a: {source: /x}}\noptions: {rename: copy}\n", "option rename: it is of S3 spaces only, and there is none"},
        {"spaces: {a: {}}\n", "source"},
        {"spaces: {a: /x}\n", "source"},
        {"spaces: {a/b: {source: /x}}\n", "a/b"},
        {"spaces: {'..': {source: /x}}\n", ".."},
        {"spaces: {'': {source: /x}}\n", "empty"},
        {"options: {config: /x}\n", "-o"},
        {"options: {noexec: true}\n", "-o"},
        {"options: {allow_other: perhaps}\n", "true or false"},
        {"options: {workers: [1]}\n", "plain value"},
        {"option: {}\n", "spaces: and options:"},
        {"spaces: {}\n", "spaces"},
        {"spaces:\noptions: {workers: 9}\n", "c.yaml line 1: spaces"},
        {"spaces: [a]\n", "a map"},
        {"- a\n", "a map"},
        {"spaces: {\n", "c.yaml"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        write_file(*state, "c.yaml", wrong[i].yaml);
        PARSED p = parse("rubin", "mnt", "-o", "config=c.yaml");
        assert_says(&p, "c.yaml");
        assert_says(&p, wrong[i].word);
    }
    PARSED none = parse("rubin", "mnt", "-o", "config=none.yaml");
    assert_says(&none, "none.yaml");
    assert_says(&none, "No such file");
}

// ---- the daemon's arguments -----------------------------------------------------------------------

static char **daemon_words(const struct options *o)
{
    char **rest = options_daemon_arguments(o), **all;
    size_t count = 0;
    while (rest[count])
        count++;
    all = calloc(count + 2, sizeof *all);
    all[0] = strdup("butlerfs");
    memcpy(all + 1, rest, count * sizeof *all);
    free(rest);
    return all;
}

static void assert_same_words(char **a, char **b)
{
    size_t i = 0;
    for (; a[i] && b[i]; i++)
        assert_string_equal(a[i], b[i]);
    assert_true(!a[i] && !b[i]);
}

static void a_daemon_gets_all_that_was_said_and_looks_at_nothing_else(void **state)
{
    write_file(*state, "c.yaml",
               "options: {repository_index: i.yaml}\n"
               "spaces:\n"
               "  \"a = b\\n\": {source: 'file:///x', umask: 077, artifact_roots: ['/with, comma', '/=']}\n"
               "  other: {source: ./link, uid: 5}\n");
    PARSED p = parse("a name", "mnt", "-f", "-o", "config=c.yaml,noexec,stack=under,log_level=debug,noallow_other");
    if (p.r < 0)
        fail_msg("%s", p.why);
    char **words = daemon_words(p.o);
    setenv("DAF_BUTLER_REPOSITORIES", "{}", 1);
    unlink("c.yaml");
    unlink("link");
    PARSED q = parse_all((const char *const *)words);
    if (q.r < 0)
        fail_msg("%s", q.why);
    assert_true(q.o->is_daemon && q.o->foreground && q.o->is_configured && !q.o->stack_over);
    assert_int_equal(q.o->life, 1);
    assert_null(q.o->repositories);
    assert_string_equal(q.o->spaces[0].name, "a = b\n");
    assert_below(*state, q.o->spaces[1].source, "repo");
    assert_int_equal(q.o->mount_flags, p.o->mount_flags);
    char **again = daemon_words(q.o);
    assert_same_words(words, again);
    options_arguments_free(words);
    options_arguments_free(again);
}

static void a_secret_is_in_no_argument_and_reaches_the_daemon(void **state)
{
    write_file(*state, "c.yaml", "spaces:\n"
                                 "  a: {source: 's3://x/y', access_key: AKIA, secret_key: hidden}\n"
                                 "  b: {source: 's3://x/z', secret_key: \"o'ther\"}\n"
                                 "  c: {source: /repo}\n");
    PARSED p = parse("rubin", "mnt", "-o", "config=c.yaml");
    assert_int_equal(p.r, 0);
    char **words = daemon_words(p.o);
    for (int i = 0; words[i]; i++) {
        assert_null(strstr(words[i], "hidden"));
        assert_null(strstr(words[i], "o'ther"));
    }
    PARSED q = parse_all((const char *const *)words);
    assert_int_equal(q.r, 0);
    assert_string_equal(q.o->spaces[0].secret_key, "hidden");
    assert_string_equal(q.o->spaces[0].access_key, "AKIA");
    assert_string_equal(q.o->spaces[1].secret_key, "o'ther");
    assert_null(q.o->spaces[2].secret_key);
    options_arguments_free(words);
}

static void a_daemon_is_told_its_life_and_skips_what_it_does_not_know(void **state)
{
    (void)state;
    PARSED p = parse("--daemon", "--life=3", "--last-signal=11", "--from-the-future", "--set", "colour=red", "--set",
                     "workers=9", "--space", "", "--set", "taste=sweet", "--set", "source=/r", "--", "src", "/m");
    assert_int_equal(p.r, 0);
    assert_int_equal(p.o->life, 3);
    assert_int_equal(p.o->last_signal, 11);
    assert_int_equal(p.o->worker_count, 9);
    assert_false(p.o->is_configured);
    PARSED q = parse("--daemon", "/a", "/b");
    assert_says(&q, "supervisor");
}

static void help_fits_80_columns_and_names_every_option(void **state)
{
    (void)state;
    BUFFER_CLEANUP help = {};
    options_write_help(&help);
    for (const struct option_row *option = option_table; option->name; option++)
        if (option->help && option->type != OPTION_REFUSED)
            assert_non_null(strstr(help.data, option->name));
    for (const char *line = help.data; *line; line += strcspn(line, "\n") + 1)
        if (strcspn(line, "\n") > 80)
            fail_msg("%.*s", (int)strcspn(line, "\n"), line);
}

#define at_a_place(f) cmocka_unit_test_setup_teardown(f, make_place, remove_place)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_option_stands_once_and_its_default_is_within_its_bounds),
        at_a_place(without_options_the_defaults_of_the_table_hold),
        at_a_place(an_archive_is_read_only_also_if_mount_says_rw),
        at_a_place(what_mount_and_autofs_say_among_themselves_is_ignored),
        at_a_place(the_last_of_an_option_counts_and_o_may_stand_anywhere),
        at_a_place(a_time_of_a_bucket_is_an_instant_that_is_over),
        at_a_place(what_means_nothing_to_a_kind_of_space_is_refused),
        cmocka_unit_test(a_remount_is_of_flags_only_and_the_last_word_of_each_counts),
        cmocka_unit_test(the_source_of_a_home_space_is_shown_as_it_was_said),
        at_a_place(a_comma_may_be_escaped_or_quoted),
        at_a_place(json_needs_only_its_commas_escaped),
        at_a_place(a_wrong_value_is_refused_with_what_is_allowed),
        at_a_place(an_unknown_option_is_refused_with_the_nearest_name),
        at_a_place(too_few_and_too_many_words_are_refused),
        at_a_place(f_is_the_foreground_and_for_mount_a_rehearsal),
        at_a_place(what_autofs_and_mount_fuse_put_before_a_source_is_taken_off),
        at_a_place(what_a_source_is_its_words_say_or_space),
        at_a_place(artifact_roots_may_be_urls),
        at_a_place(relative_paths_and_links_are_resolved_at_once),
        at_a_place(a_label_is_looked_up_and_o_wins_over_the_environment),
        at_a_place(a_file_describes_several_spaces),
        at_a_place(a_file_with_options_only_leaves_a_bare_mount),
        at_a_place(rw_of_a_space_is_writing_new_objects),
        at_a_place(what_a_file_has_wrong_is_refused_by_name),
        at_a_place(a_daemon_gets_all_that_was_said_and_looks_at_nothing_else),
        at_a_place(a_secret_is_in_no_argument_and_reaches_the_daemon),
        at_a_place(a_daemon_is_told_its_life_and_skips_what_it_does_not_know),
        cmocka_unit_test(help_fits_80_columns_and_names_every_option),
    };
    return run_group(tests);
}
