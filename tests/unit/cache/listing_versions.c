// SPDX-License-Identifier: BSD-3-Clause
// What there was at a time, of pages of versions: as S3 writes them, as other servers do, and as nobody should.
#include "cache/origin/listing.h"

#include "tests/unit/cache/origin.h"

#define HEAD "<ListVersionsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
#define TAIL "</ListVersionsResult>"
#define MORE(key, version)                                                                         \
    "<IsTruncated>true</IsTruncated><NextKeyMarker>" key "</NextKeyMarker><NextVersionIdMarker>" version "</NextVersionIdMarker>"
#define AT(minute) "2024-11-11T03:" minute ":00.000Z" // what there was at 03:04 is looked for
#define OBJECT(key, id, time, latest)                                                              \
    "<Version><Key>" key "</Key><VersionId>" id "</VersionId><IsLatest>" latest "</IsLatest><LastModified>" time             \
    "</LastModified><ETag>\"e\"</ETag><Size>5</Size></Version>"
#define DELETED(key, id, time, latest)                                                             \
    "<DeleteMarker><Key>" key "</Key><VersionId>" id "</VersionId><IsLatest>" latest "</IsLatest><LastModified>" time         \
    "</LastModified></DeleteMarker>"

static struct listing *new_of(const char *token)
{
    struct listing *l = listing_new(TEXT("p/"), text_of(token));
    listing_set_past(l, INT64_C(1731294240) * NS_PER_S); // 2024-11-11T03:04:00Z
    return l;
}

static int read_whole(struct listing *l, const char *xml)
{
    const char *why;
    int error = listing_feed(l, xml, strlen(xml), &why);
    return error ? error : listing_end(l, &why);
}

static int write_entry(struct origin_request *r, const struct origin_entry *e)
{
    struct buffer *to = r->context;
    buffer_append_text(to, e->key);
    if (!e->is_prefix)
        buffer_format(to, "=%s%.*s", e->is_absent ? "!" : "", (int)e->version.size_bytes, e->version.data);
    buffer_append_byte(to, ' ');
    return 0;
}

// `token`: asked with.
static void assert_was(const char *token, const char *xml, const char *entries, const char *next)
{
    cleanup(cleanup_listing_free) struct listing *l = new_of(token);
    BUFFER_CLEANUP found = {0};
    BUFFER_CLEANUP further = {0};
    assert_int_equal(read_whole(l, xml), 0);
    struct origin_request r = {.each = write_entry, .context = &found};
    assert_int_equal(listing_give(l, &r), 0);
    buffer_append_byte(&found, 0);
    assert_string_equal(found.data, entries);
    buffer_append_text(&further, listing_token(l));
    buffer_append_byte(&further, 0);
    assert_string_equal(further.data, next);
}

static void each_key_is_what_it_was_then(void **state)
{
    assert_was("", HEAD OBJECT("p/a", "a3", AT("09"), "true") OBJECT("p/a", "a2", AT("04"), "false") OBJECT("p/a", "a1", AT("01"), "false")
                   DELETED("p/b", "b2", AT("03"), "true") OBJECT("p/b", "b1", AT("02"), "false")
                   OBJECT("p/c", "c1", AT("05"), "true") DELETED("p/d", "d2", AT("05"), "true") OBJECT("p/d", "d1", AT("02"), "false")
                   "<CommonPrefixes><Prefix>p/e/</Prefix></CommonPrefixes>" TAIL,
               "p/a=a2 p/b=! p/c=! p/d=d1 p/e/ ", "");
}

static void deletions_in_front_or_behind_mean_the_same_as_among_them(void **state)
{
    static const char objects[] = OBJECT("p/a", "a3", AT("03"), "true") OBJECT("p/a", "a1", AT("01"), "false")
        OBJECT("p/b", "b1", AT("01"), "false");
    static const char deletions[] = DELETED("p/a", "a2", AT("02"), "false") DELETED("p/b", "b2", AT("02"), "true");
    for (int is_behind = 0; is_behind < 2; is_behind++) {
        BUFFER_CLEANUP xml = {0};
        buffer_format(&xml, "%s%s%s%s", HEAD, is_behind ? objects : deletions, is_behind ? deletions : objects, TAIL);
        assert_was("", xml.data, "p/a=a3 p/b=! ", "");
    }
}

static void of_one_second_the_latest_is_the_younger_and_else_what_stands_first(void **state)
{
    assert_was("", HEAD OBJECT("p/a", "a2", AT("03"), "false") DELETED("p/a", "a1", AT("03"), "false") TAIL, "p/a=a2 ", "");
    assert_was("", HEAD DELETED("p/a", "a2", AT("03"), "false") OBJECT("p/a", "a1", AT("03"), "false") TAIL, "p/a=! ", "");
    // versitygw: deletions to the nanosecond, in front; objects to the second
    assert_was("", HEAD DELETED("p/a", "a1", "2024-11-11T03:03:00.700000001Z", "false") OBJECT("p/a", "a2", AT("03"), "true") TAIL,
               "p/a=a2 ", "");
}

static void what_has_no_version_of_its_own_is_the_object_as_long_as_none_is_newer(void **state)
{
    assert_was("", HEAD OBJECT("p/a", "null", AT("03"), "true") OBJECT("p/b", "b2", AT("09"), "true")
                   OBJECT("p/b", "null", AT("03"), "false") TAIL,
               "p/a= p/b=null ", "");
}

static void a_page_that_ends_amid_a_keys_versions_gives_it_once(void **state)
{
    // not settled yet: the next page says
    assert_was("", HEAD MORE("p/b", "b9") OBJECT("p/a", "a1", AT("03"), "true") OBJECT("p/b", "b9", AT("09"), "true") TAIL,
               "p/a=a1 ", "u0003p/bb9");
    assert_was("u0003p/bb9", HEAD MORE("p/b", "b2") OBJECT("p/b", "b2", AT("03"), "false") TAIL, "p/b=b2 ", "s0003p/b");
    // settled: its older ones are passed over, also by who begins with it again
    assert_was("s0003p/b", HEAD OBJECT("p/b", "b1", AT("01"), "false") OBJECT("p/c", "c1", AT("01"), "true") TAIL, "p/c=c1 ", "");
    assert_was("s0003p/b", HEAD MORE("p/b", "b2") OBJECT("p/b", "b9", AT("09"), "true") OBJECT("p/b", "b2", AT("03"), "false") TAIL, "",
               "s0003p/bb2");
    assert_was("s0003p/bb2", HEAD OBJECT("p/b", "b1", AT("01"), "false") TAIL, "", "");
    // a deletion settles it as well
    assert_was("", HEAD MORE("p/b", "b2") DELETED("p/b", "b2", AT("03"), "true") TAIL, "p/b=! ", "s0003p/b");
    // it ends with a prefix
    assert_was("", HEAD MORE("p/d/", "") OBJECT("p/a", "a1", AT("03"), "true")
                   "<CommonPrefixes><Prefix>p/d/</Prefix></CommonPrefixes>" TAIL,
               "p/a=a1 p/d/ ", "u0004p/d/");
}

static void keys_and_markers_are_decoded(void **state)
{
    assert_was("", HEAD "<EncodingType>url</EncodingType>" MORE("p%2Fa+b", "v") OBJECT("p%2Fa+b", "v", AT("03"), "true") TAIL,
               "p/a b=v ", "s0005p/a b");
}

static void a_token_is_taken_apart_or_is_none(void **state)
{
    struct listing_past past;
    assert_true(listing_read_past(TEXT("u0003p/bb9"), &past));
    assert_false(past.is_settled);
    assert_true(text_equal(past.key, TEXT("p/b")) && text_equal(past.version, TEXT("b9")));
    assert_true(listing_read_past(TEXT("s0003p/b"), &past) && past.is_settled && past.version.size_bytes == 0);
    static const char *const none[] = {"", "u", "u000", "x0003p/b", "u00g3p/b", "u0004p/b", "uffffp/b", "u-003p/b"};
    for (size_t i = 0; i < sizeof(none) / sizeof(*none); i++)
        assert_false(listing_read_past(text_of(none[i]), &past));
}

static void assert_refused(const char *token, const char *xml, int error)
{
    cleanup(cleanup_listing_free) struct listing *l = new_of(token);
    assert_int_equal(read_whole(l, xml), error);
}

static void what_can_not_be_a_page_of_versions_is_refused(void **state)
{
    static const char plain[] = "<ListBucketResult><Contents><Key>p/a</Key><Size>5</Size></Contents></ListBucketResult>";
    assert_refused("", plain, -EOPNOTSUPP); // the server didn't understand
    assert_refused("", "<Other/>", -EBADMSG);
    assert_refused("nonsense", HEAD TAIL, -EBADMSG);
    assert_refused("", HEAD OBJECT("p/a", "a1", "yesterday", "true") TAIL, -EBADMSG);
    assert_refused("", HEAD OBJECT("q/a", "a1", AT("01"), "true") TAIL, -EBADMSG);
    assert_refused("", HEAD "<Version><Key>p/a</Key><LastModified>" AT("01") "</LastModified></Version>" TAIL, -EBADMSG);
    assert_refused("", HEAD "<IsTruncated>true</IsTruncated>" TAIL, -EBADMSG);
    assert_refused("", HEAD "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>" TAIL, -EBADMSG);
    assert_refused("u0003p/av", HEAD MORE("p/a", "v") OBJECT("p/a", "v", AT("09"), "true") TAIL, -EBADMSG); // its next page is itself
    BUFFER_CLEANUP xml = {0};
    buffer_append_string(&xml, HEAD "<Version><Key>p/a</Key><Size>1</Size><LastModified>" AT("01") "</LastModified><VersionId>");
    for (int i = 0; i < 1025; i++)
        buffer_append_byte(&xml, 'v');
    buffer_append_string(&xml, "</VersionId></Version>" TAIL);
    buffer_append_byte(&xml, 0);
    assert_refused("", xml.data, -EBADMSG);
    cleanup(cleanup_listing_free) struct listing *other = listing_new(TEXT("p/"), TEXT(""));
    assert_int_equal(read_whole(other, HEAD OBJECT("p/a", "a1", AT("01"), "true") TAIL), -EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_key_is_what_it_was_then),
        cmocka_unit_test(deletions_in_front_or_behind_mean_the_same_as_among_them),
        cmocka_unit_test(of_one_second_the_latest_is_the_younger_and_else_what_stands_first),
        cmocka_unit_test(what_has_no_version_of_its_own_is_the_object_as_long_as_none_is_newer),
        cmocka_unit_test(a_page_that_ends_amid_a_keys_versions_gives_it_once),
        cmocka_unit_test(keys_and_markers_are_decoded),
        cmocka_unit_test(a_token_is_taken_apart_or_is_none),
        cmocka_unit_test(what_can_not_be_a_page_of_versions_is_refused),
    };
    return run_group(tests);
}
