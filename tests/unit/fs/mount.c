// SPDX-License-Identifier: BSD-3-Clause
#include "tests/unit/base/harness.h"

#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/buffer.h"
#include "fs/fusermount.h"
#include "fs/mount.h"
#include "fs/mount_table.h"
#include "fs/path.h"

#define TABLE cleanup(mount_table_release) struct mount_table
#define OWNED cleanup(cleanup_free) char *

static struct mount_table table_of(const char *text)
{
    struct mount_table t;
    mount_table_parse(text_of(text), &t);
    return t;
}

static void a_line_of_mountinfo_is_read(void **state)
{
    (void)state;
    TABLE t = table_of("36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue\n"
                       "40 36 0:51 / /mnt/a\\040b\\134c ro - fuse.butlerfs my\\043repo ro,user_id=1000,group_id=5\n");
    assert_int_equal(t.count, 2);
    assert_int_equal(t.entries[0].dev, makedev(98, 0));
    assert_int_equal(t.entries[0].owner, (uid_t)-1);
    assert_string_equal(t.entries[0].mountpoint, "/mnt2");
    assert_string_equal(t.entries[0].flags, "rw,noatime");
    assert_int_equal(t.entries[1].id, 40);
    assert_int_equal(t.entries[1].parent, 36);
    assert_string_equal(t.entries[1].mountpoint, "/mnt/a b\\c");
    assert_string_equal(t.entries[1].type, "fuse.butlerfs");
    assert_string_equal(t.entries[1].source, "my#repo");
    assert_int_equal(t.entries[1].owner, 1000);
}

static void lines_that_are_not_well_formed_are_left_out(void **state)
{
    (void)state;
    TABLE t = table_of("\nrubbish\n36 35 98:0 /mnt1 /mnt2 rw,noatime\n36 35 98 / /m rw - a b c\n1 2 3:4 / /m rw -\n"
                       "1 2 3:4 / /good rw - type source");
    assert_int_equal(t.count, 1);
    assert_string_equal(t.entries[0].mountpoint, "/good");
}

static void of_mounts_at_one_place_the_topmost_is_found_whatever_their_order(void **state)
{
    (void)state;
    static const char *const orders[] = {
        "10 1 0:1 / /m rw - a a rw\n20 10 0:2 / /m rw - b b rw\n30 20 0:3 / /m rw - c c rw\n",
        "30 20 0:3 / /m rw - c c rw\n20 10 0:2 / /m rw - b b rw\n10 1 0:1 / /m rw - a a rw\n",
    };
    for (int i = 0; i < 2; i++) {
        TABLE t = table_of(orders[i]);
        assert_string_equal(mount_table_at(&t, "/m")->type, "c");
        assert_null(mount_table_at(&t, "/"));
    }
}

static void the_mount_that_shows_a_path_is_the_deepest(void **state)
{
    (void)state;
    TABLE t = table_of("1 0 0:1 / / rw - a a rw\n2 1 0:2 / /mnt rw - b b rw\n3 2 0:3 / /mnt/x rw - c c rw\n");
    assert_string_equal(mount_table_holding(&t, "/mnt/x/y")->type, "c");
    assert_string_equal(mount_table_holding(&t, "/mnt/xy")->type, "b");
    assert_string_equal(mount_table_holding(&t, "/mnt")->type, "b");
    assert_string_equal(mount_table_holding(&t, "/mn")->type, "a");
}

static void the_mounts_of_this_machine_can_be_read(void **state)
{
    (void)state;
    dev_t dev;
    OWNED type = NULL;
    assert_int_equal(mount_find("/proc", &dev, NULL, &type), 0);
    assert_string_equal(type, "proc");
    assert_int_equal(mount_find("/no/such/place", &dev, NULL, NULL), -ENOENT);
}

static void a_path_is_made_absolute_by_its_text(void **state)
{
    (void)state;
    static const struct {
        const char *base, *path, *expected;
    } cases[] = {
        {"/a", "b", "/a/b"},    {"/a", "/b//c/./", "/b/c"}, {"/a/b", "../c", "/a/c"}, {"/", "../..", "/"},
        {"/a", ".", "/a"},      {"/", "x", "/x"},           {"/a", "b/../../../c", "/c"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        OWNED made = path_absolute(cases[i].base, cases[i].path);
        assert_string_equal(made, cases[i].expected);
    }
}

static void a_path_is_within_a_folder_by_whole_parts(void **state)
{
    (void)state;
    assert_true(path_is_within("/a/b", "/a"));
    assert_true(path_is_within("/a", "/a"));
    assert_true(path_is_within("/a", "/"));
    assert_false(path_is_within("/ab", "/a"));
    assert_false(path_is_within("/", "/a"));
}

static void uris_are_told_from_paths(void **state)
{
    (void)state;
    assert_true(path_is_uri("s3://b/p"));
    assert_true(path_is_uri("file:///x"));
    assert_true(path_is_uri("file:/x"));
    assert_false(path_is_uri("/a://b"));
    assert_false(path_is_uri("a:b"));
    assert_false(path_is_uri("dp1"));
    assert_false(path_is_uri("://x"));
}

// ---- with links -------------------------------------------------------------------------------

static int make_links(void **state)
{
    char path[] = "/tmp/butlerfs-path-XXXXXX";
    assert_non_null(mkdtemp(path));
    assert_int_equal(chdir(path), 0);
    mkdir("real", 0755);
    mkdir("mnt", 0755);
    assert_int_equal(symlink("real", "link"), 0);
    assert_int_equal(symlink("../link", "real/up"), 0);
    assert_int_equal(symlink("loop", "loop"), 0);
    assert_int_equal(symlink("mnt/inside", "into"), 0);
    assert_int_equal(symlink("../real", "mnt/inside"), 0);
    *state = strdup(path);
    return 0;
}

static int remove_links(void **state)
{
    BUFFER_CLEANUP line = {};
    assert_int_equal(chdir("/"), 0);
    buffer_format(&line, "rm -rf %s", (char *)*state);
    free(*state);
    return system(line.data);
}

static void assert_resolves(const char *base, const char *path, const char *stop, const char *expected)
{
    OWNED whole = path_absolute(base, expected);
    OWNED at = stop ? path_absolute(base, stop) : NULL;
    OWNED made = path_resolve(base, path, at);
    assert_string_equal(made, whole);
}

static void links_are_followed_as_far_as_they_exist(void **state)
{
    assert_resolves(*state, "link", NULL, "real");
    assert_resolves(*state, "link/up/up/x", NULL, "real/x");
    assert_resolves(*state, "link/..", NULL, ".");
    assert_resolves(*state, "nowhere/./x/../y", NULL, "nowhere/y");
    assert_resolves(*state, "into/x", NULL, "real/x");
}

static void links_that_go_round_come_to_an_end(void **state)
{
    assert_resolves(*state, "loop/x", NULL, "loop/x");
}

static void nothing_below_the_mount_is_looked_at(void **state)
{
    assert_resolves(*state, "into/x", "mnt", "mnt/inside/x");
    OWNED mountpoint = path_absolute(*state, "mnt");
    OWNED path = path_absolute(*state, "into/x");
    assert_true(mount_holds(mountpoint, path));
    OWNED outside = path_absolute(*state, "link/x");
    assert_false(mount_holds(mountpoint, outside));
}

static void fusermount_is_given_the_options_it_knows_and_an_escaped_source(void **state)
{
    (void)state;
    char source[] = "/a,b\\c";
    struct options o = {.source = source, .allow_other = true, .mount_flags = MS_RDONLY | MS_NOSUID | MS_NODEV};
    BUFFER_CLEANUP list = {};
    fusermount_options(&o, &list);
    assert_string_equal(list.data,
                        "default_permissions,subtype=butlerfs,allow_other,ro,nosuid,nodev,fsname=/a\\,b\\\\c");
}

#define with_links(f) cmocka_unit_test_setup_teardown(f, make_links, remove_links)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_of_mountinfo_is_read),
        cmocka_unit_test(lines_that_are_not_well_formed_are_left_out),
        cmocka_unit_test(of_mounts_at_one_place_the_topmost_is_found_whatever_their_order),
        cmocka_unit_test(the_mount_that_shows_a_path_is_the_deepest),
        cmocka_unit_test(the_mounts_of_this_machine_can_be_read),
        cmocka_unit_test(a_path_is_made_absolute_by_its_text),
        cmocka_unit_test(a_path_is_within_a_folder_by_whole_parts),
        cmocka_unit_test(uris_are_told_from_paths),
        with_links(links_are_followed_as_far_as_they_exist),
        with_links(links_that_go_round_come_to_an_end),
        with_links(nothing_below_the_mount_is_looked_at),
        cmocka_unit_test(fusermount_is_given_the_options_it_knows_and_an_escaped_source),
    };
    return run_group(tests);
}
