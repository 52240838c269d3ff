// SPDX-License-Identifier: BSD-3-Clause
// What is expected here is what lsst.resources 30 and daf_butler's Location answer.
#include "tests/unit/meta/bytes.h"

#include <errno.h>

#include "meta/artifact.h"

static char local_root[] = "/repo/r p", remote_root[] = "s3://bucket/prefix/";
static const struct datastore_config local = {.root = local_root, .is_local = true};
static const struct datastore_config s3 = {.root = remote_root};

static void assert_resolves(struct text recorded, enum artifact_scheme scheme, bool is_absolute,
                            struct text path, struct text member)
{
    const struct datastore_config *datastore = scheme == ARTIFACT_FILE ? &local : &s3;
    struct artifact a;
    assert_int_equal(artifact_resolve(datastore, recorded, &a), 0);
    assert_text_is(buffer_text(&a.path), path, __LINE__);
    assert_text_is(buffer_text(&a.member), member, __LINE__);
    assert_int_equal(a.scheme, scheme);
    assert_int_equal(a.is_absolute, is_absolute);
    artifact_release(&a);
}

#define below_root(recorded, path)                                                                 \
    assert_resolves(TEXT(recorded), ARTIFACT_FILE, false, TEXT("/repo/r p/" path), TEXT(""))
#define absolute(recorded, path)                                                                   \
    assert_resolves(TEXT(recorded), ARTIFACT_FILE, true, TEXT(path), TEXT(""))
#define refused(recorded, error)                                                                   \
    do {                                                                                           \
        struct artifact a_;                                                                        \
        assert_int_equal(artifact_resolve(&local, TEXT(recorded), &a_), error);                    \
    } while (0)

static void a_relative_path_is_below_its_datastores_root(void **state)
{
    below_root("a/b.fits", "a/b.fits");
    below_root("odd \xc3\xa9/x y z.fits", "odd \xc3\xa9/x y z.fits");
    below_root(" lead", " lead");
    below_root("a\tb\n", "a\tb\n");
    below_root("C:x", "C:x");
    below_root("FILE:a", "FILE:a");
}

static void a_root_with_a_slash_at_its_end_gets_no_second_one(void **state)
{
    char repo[] = "/repo//", slash[] = "/";
    struct datastore_config slashed = {.root = repo, .is_local = true};
    struct datastore_config top = {.root = slash, .is_local = true};
    struct artifact a;
    assert_int_equal(artifact_resolve(&slashed, TEXT("x"), &a), 0);
    assert_string_equal(a.path.data, "/repo/x");
    artifact_release(&a);
    assert_int_equal(artifact_resolve(&top, TEXT("x"), &a), 0);
    assert_string_equal(a.path.data, "/x");
    artifact_release(&a);
}

static void a_path_with_an_upper_case_escape_is_quoted(void **state)
{
    below_root("a%41/b", "aA/b");
    below_root("a%41/x#1", "aA/x");
    below_root("a%41/x#1/2", "aA/x");
    below_root("a%41/x?q.fits", "aA/x");
    below_root("a%41;b/c;d", "aA;b/c");
    below_root("a%41\tb\r\n", "aAb");
    below_root(" %41", "A");
    below_root("%41://x", "A:/x");
    below_root("a/x://y", "a/x:/y");
    below_root("a%zz%41", "a%zzA");
    below_root("a%FFb", "a\xff"
                        "b");
}

static void a_relative_path_is_decoded_once_more_when_it_is_joined(void **state)
{
    below_root("a%2fb", "a/b");
    below_root("a%252fb", "a/b");
    below_root("a%2525b", "a%b");
    below_root("a%2e", "a.");
    below_root("100%", "100%");
}

static void a_hash_begins_a_fragment_only_in_the_last_part(void **state)
{
    below_root("a#b/c", "a#b/c");
    below_root("a/x#1", "a/x");
    below_root("a/x#y#1", "a/x#y");
    below_root("odd/x#y z.fits", "odd/x");
}

static void variables_and_home_folders_are_characters(void **state)
{
    below_root("$HOME/${X}/x", "$HOME/${X}/x");
    below_root("$AFW_DIR/x", "$AFW_DIR/x");
    below_root("~/x", "~/x");
    below_root("~root/x", "~root/x");
}

static void a_path_is_normalised(void **state)
{
    below_root("a//b/./c", "a/b/c");
    below_root("./a/../b", "b");
    below_root("a/b/../../c", "c");
    below_root("x%2Fy%2E%2E/../z", "x/z");
}

static void a_path_that_leaves_its_root_is_refused(void **state)
{
    refused("../x", -EXDEV);
    refused("..", -EXDEV);
    refused("a/../../x", -EXDEV);
    refused("a/../../r p/x", -EXDEV);
    refused("%2E%2E/x", -EXDEV);
    refused("%2e%2e/x", -EXDEV);
    refused("%252E%252E%252Fx", -EXDEV);
    refused("a/%2e%2e/%2e%2e/x", -EXDEV);
    refused("%2fetc/passwd", -EXDEV);
    below_root("..x/...", "..x/...");
}

static void what_names_no_file_is_refused(void **state)
{
    refused("", -EINVAL);
    refused(".", -EINVAL);
    refused("a/..", -EINVAL);
    refused("x/", -EINVAL);
    refused("x%2F", -EINVAL);
    refused("x%2f", -EINVAL);
    refused("#zip-path=m", -EINVAL);
    refused("/", -EINVAL);
    refused("file:///", -EINVAL);
    refused("file:", -EINVAL);
    refused("file://host", -EINVAL);
}

static void a_nul_is_refused_wherever_it_comes_from(void **state)
{
    refused("a\0b", -EINVAL);
    refused("a%00b", -EINVAL);
    refused("a%2500b", -EINVAL);
    refused("file:///a%00b", -EINVAL);
    refused("file:///a\0b", -EINVAL);
    refused("s3://a\0b", -EINVAL);
    refused("x.zip#zip-path=a%00b", -EINVAL);
}

static void a_file_uri_is_an_absolute_path_in_quotes(void **state)
{
    absolute("file:///a/b%41c", "/a/bAc");
    absolute("file:/a/b", "/a/b");
    absolute("FILE:///a/b", "/a/b");
    absolute("file://localhost/a", "/a");
    absolute("file:///a/b%2Fc%2fd", "/a/b/c/d");
    absolute("file:///a/b%252Fc", "/a/b%2Fc");
    absolute("file:///a/x;p?q#f", "/a/x;p");
    absolute("file:///a/../b", "/a/../b");
    refused("file:a/b", -EINVAL);
    refused("file:%2Fa", -EINVAL);
}

static void an_absolute_path_needs_no_root(void **state)
{
    absolute("/abs/x", "/abs/x");
    absolute("/abs/x%41", "/abs/xA");
    absolute("/abs/x%2f", "/abs/x%2f");
    absolute("/abs//./../y", "/y");
    absolute("/../../y", "/y");
    absolute("%2Fabs/x", "/abs/x");
}

static void another_scheme_stays_a_uri_without_its_fragment(void **state)
{
    assert_resolves(TEXT("s3://b/k%41?v#x"), ARTIFACT_OTHER, true, TEXT("s3://b/k%41?v"), TEXT(""));
    assert_resolves(TEXT("https://h/x.zip#zip-path=a%20b"), ARTIFACT_OTHER, true,
                    TEXT("https://h/x.zip"), TEXT("a b"));
}

static void a_relative_path_below_a_remote_root_is_quoted_once(void **state)
{
    assert_resolves(TEXT("a b/\xc3\xa9+~.fits"), ARTIFACT_OTHER, false,
                    TEXT("s3://bucket/prefix/a%20b/%C3%A9%2B~.fits"), TEXT(""));
    assert_resolves(TEXT("a%20b"), ARTIFACT_OTHER, false, TEXT("s3://bucket/prefix/a%20b"),
                    TEXT(""));
}

static void a_zip_members_name_is_the_decoded_fragment(void **state)
{
    struct text zip = TEXT("/repo/r p/zips/ab/x.zip");
    assert_resolves(TEXT("zips/ab/x.zip#zip-path=m.fits"), ARTIFACT_FILE, false, zip,
                    TEXT("m.fits"));
    assert_resolves(TEXT("zips/ab/x.zip#zip-path%3Dm%20n.fits"), ARTIFACT_FILE, false, zip,
                    TEXT("m n.fits"));
    assert_resolves(TEXT("zips/ab/x.zip#zip-path=a\tb"), ARTIFACT_FILE, false, zip, TEXT("ab"));
    assert_resolves(TEXT("zips/ab/x.zip#zip-path=a%2Fb#c"), ARTIFACT_FILE, false, zip,
                    TEXT("a/b#c"));
    assert_resolves(TEXT("zips/ab/x.zip#other=m"), ARTIFACT_FILE, false, zip, TEXT(""));
    refused("zips/ab/x.zip#zip-path=", -EINVAL);
}

static void nothing_resolves_to_a_place_outside(void **state)
{
    static const struct text pieces[] = {
        TEXT("."),   TEXT(".."),  TEXT("/"),     TEXT("%2E"), TEXT("%2e"), TEXT("%2F"), TEXT("%2f"),
        TEXT("%25"), TEXT("a"),   TEXT("#"),     TEXT("?"),   TEXT(";"),   TEXT("\n"),  TEXT("%"),
        TEXT("2E"),  TEXT("%00"), TEXT("file:"), TEXT("://"), TEXT("\0"),  TEXT(" "),
    };
    struct chance c = {9};
    int resolved = 0;
    for (int i = 0; i < 100000; i++) {
        BUFFER_CLEANUP recorded = {0};
        for (size_t n = chance_below(&c, 10); n > 0; n--)
            buffer_append_text(&recorded,
                               pieces[chance_below(&c, sizeof(pieces) / sizeof(pieces[0]))]);
        struct artifact a;
        if (artifact_resolve(&local, buffer_text(&recorded), &a) < 0)
            continue;
        resolved++;
        assert_int_equal(strlen(a.path.data), a.path.size_bytes);
        if (!a.is_absolute) {
            BUFFER_CLEANUP framed = {0};
            buffer_format(&framed, "%s/", a.path.data);
            assert_true(text_begins(buffer_text(&framed), TEXT("/repo/r p/")));
            assert_null(strstr(framed.data, "/../"));
            assert_null(strstr(framed.data, "//"));
        }
        artifact_release(&a);
    }
    assert_true(resolved > 10000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_relative_path_is_below_its_datastores_root),
        cmocka_unit_test(a_root_with_a_slash_at_its_end_gets_no_second_one),
        cmocka_unit_test(a_path_with_an_upper_case_escape_is_quoted),
        cmocka_unit_test(a_relative_path_is_decoded_once_more_when_it_is_joined),
        cmocka_unit_test(a_hash_begins_a_fragment_only_in_the_last_part),
        cmocka_unit_test(variables_and_home_folders_are_characters),
        cmocka_unit_test(a_path_is_normalised),
        cmocka_unit_test(a_path_that_leaves_its_root_is_refused),
        cmocka_unit_test(what_names_no_file_is_refused),
        cmocka_unit_test(a_nul_is_refused_wherever_it_comes_from),
        cmocka_unit_test(a_file_uri_is_an_absolute_path_in_quotes),
        cmocka_unit_test(an_absolute_path_needs_no_root),
        cmocka_unit_test(another_scheme_stays_a_uri_without_its_fragment),
        cmocka_unit_test(a_relative_path_below_a_remote_root_is_quoted_once),
        cmocka_unit_test(a_zip_members_name_is_the_decoded_fragment),
        cmocka_unit_test(nothing_resolves_to_a_place_outside),
    };
    return run_group(tests);
}
