// SPDX-License-Identifier: BSD-3-Clause
// S3's XML, as servers write it and as they should not.
#include "cache/origin/listing.h"

#include "tests/unit/cache/origin.h"

#define HEAD "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
#define TAIL "</ListBucketResult>"
#define ENTRY(key) "<Contents><Key>" key "</Key><Size>5</Size><ETag>\"e\"</ETag></Contents>"

// Reads it in pieces of that size; -errno of reading.
static int read_pieces(struct listing *l, const char *xml, size_t piece_bytes)
{
    const char *why;
    for (size_t at = 0, size = strlen(xml); at < size; at += piece_bytes) {
        int error = listing_feed(l, xml + at, piece_bytes < size - at ? piece_bytes : size - at, &why);
        if (error)
            return error;
    }
    return listing_end(l, &why);
}

static void assert_entries(const char *xml, const char *prefix, const char *expected)
{
    for (size_t piece = 1; piece < 100; piece = piece * 3 + 1) {
        cleanup(cleanup_listing_free) struct listing *l = listing_new(text_of(prefix), TEXT(""));
        ASKED_CLEANUP *k = asked_new(ORIGIN_LIST, prefix);
        assert_int_equal(read_pieces(l, xml, piece), 0);
        assert_int_equal(listing_give(l, &k->request), 0);
        buffer_append_byte(&k->entries, 0);
        assert_string_equal(k->entries.data, expected);
    }
}

static void assert_refused(const char *xml, int error)
{
    cleanup(cleanup_listing_free) struct listing *l = listing_new(TEXT("p/"), TEXT("asked"));
    assert_int_equal(read_pieces(l, xml, 7), error);
}

static void entries_and_prefixes_come_in_the_servers_order(void **state)
{
    assert_entries(HEAD "<Name>b</Name><IsTruncated>false</IsTruncated><Contents><Key>p/a</Key>"
                        "<LastModified>2024-11-11T03:04:05.000Z</LastModified><ETag>&quot;x&quot;</ETag><Size>12</Size>"
                        "<StorageClass>STANDARD</StorageClass></Contents>" ENTRY("p/b &amp; c") "<CommonPrefixes>"
                        "<Prefix>p/d/</Prefix></CommonPrefixes>" TAIL,
                   "p/", "p/a 12 \"x\"\np/b & c 5 \"e\"\np/d/\n");
}

static void an_etag_without_quotes_is_the_one_with_them(void **state)
{
    static const char entries[] = "<Contents><Key>p/a</Key><Size>5</Size><ETag>bare</ETag></Contents>"
                                  "<Contents><Key>p/b</Key><Size>5</Size><ETag>W/\"weak\"</ETag></Contents>"
                                  "<Contents><Key>p/c</Key><Size>5</Size><ETag></ETag></Contents>";
    BUFFER_CLEANUP xml = {0};
    buffer_format(&xml, "%s%s%s", HEAD, entries, TAIL);
    assert_entries(xml.data, "p/", "p/a 5 \"bare\"\np/b 5 W/\"weak\"\np/c 5 \n");
}

static void keys_are_decoded_wherever_the_encoding_is_said(void **state)
{
    static const char expected[] = "p/a b+c%20\xc3\xa9 5 \"e\"\n";
    static const char key[] = ENTRY("p%2Fa+b%2Bc%2520%C3%A9");
    BUFFER_CLEANUP before = {0};
    BUFFER_CLEANUP after = {0};
    buffer_format(&before, "%s<EncodingType>url</EncodingType>%s%s", HEAD, key, TAIL);
    buffer_format(&after, "%s%s<EncodingType>url</EncodingType>%s", HEAD, key, TAIL);
    assert_entries(before.data, "p/", expected);
    assert_entries(after.data, "p/", expected);
    assert_entries(HEAD ENTRY("p/a+b%20") TAIL, "p/", "p/a+b%20 5 \"e\"\n");
}

static void what_is_not_known_is_passed_over(void **state)
{
    assert_entries(HEAD "<Prefix>p/</Prefix><Other><Key>no</Key><Contents><Key>no</Key></Contents></Other>"
                        "<Contents><Owner><ID>x</ID><Key>no</Key></Owner><Key>p/a</Key><Size>1</Size></Contents>" TAIL,
                   "p/", "p/a 1 \n");
    assert_entries(HEAD TAIL, "p/", "");
}

static int keep(struct origin_request *request, const struct origin_entry *e)
{
    *(struct origin_entry *)request->context = *e;
    return 0;
}

static void times_are_kept_to_the_nanosecond(void **state)
{
    static const struct {
        const char *time;
        int64_t unix_ns;
    } cases[] = {{"2024-11-11T03:04:05.000Z", 1731294245 * NS_PER_S},
                 {"2024-11-11T03:04:05Z", 1731294245 * NS_PER_S},
                 {"2024-11-11T03:04:05.123456789Z", 1731294245 * NS_PER_S + 123456789},
                 {"2024-11-11T03:04:05.5Z", 1731294245 * NS_PER_S + 500000000},
                 {"2024-11-11", ORIGIN_TIME_UNKNOWN},
                 {"2024-11-11T03:04:05+01:00", (1731294245 - 3600) * NS_PER_S},
                 {"9999-12-31T23:59:59Z", ORIGIN_TIME_UNKNOWN}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        BUFFER_CLEANUP xml = {0};
        buffer_format(&xml, "%s<Contents><Key>k</Key><Size>1</Size><LastModified>%s</LastModified></Contents>%s", HEAD,
                      cases[i].time, TAIL);
        cleanup(cleanup_listing_free) struct listing *l = listing_new(TEXT(""), TEXT(""));
        assert_int_equal(read_pieces(l, xml.data, 1000), 0);
        struct origin_entry seen = {0};
        struct origin_request r = {.each = keep, .context = &seen};
        assert_int_equal(listing_give(l, &r), 0);
        assert_int_equal(seen.mtime_unix_ns, cases[i].unix_ns);
    }
}

static void the_next_page_is_where_the_token_says(void **state)
{
    cleanup(cleanup_listing_free) struct listing *l = listing_new(TEXT("p/"), TEXT(""));
    assert_int_equal(read_pieces(l, HEAD "<IsTruncated>true</IsTruncated><NextContinuationToken>t&amp;1</NextContinuationToken>" TAIL, 9), 0);
    struct text token = listing_token(l);
    assert_int_equal(token.size_bytes, 3);
    assert_memory_equal(token.data, "t&1", 3);
    cleanup(cleanup_listing_free) struct listing *whole = listing_new(TEXT("p/"), TEXT(""));
    assert_int_equal(read_pieces(whole, HEAD "<IsTruncated>false</IsTruncated><NextContinuationToken>t</NextContinuationToken>" TAIL, 9), 0);
    assert_int_equal(listing_token(whole).size_bytes, 0);
}

static void what_can_not_be_a_page_is_refused(void **state)
{
    assert_refused("", -EBADMSG);
    assert_refused("not XML", -EBADMSG);
    assert_refused(HEAD, -EBADMSG);
    assert_refused(HEAD ENTRY("p/a"), -EBADMSG);
    assert_refused("<Other/>", -EBADMSG);
    assert_refused("<Error><Code>x</Code></Error>", -EBADMSG);
    assert_refused(HEAD ENTRY("q/a") TAIL, -EBADMSG);
    assert_refused(HEAD ENTRY("") TAIL, -EBADMSG);
    assert_refused(HEAD "<Contents><Key>p/a</Key></Contents>" TAIL, -EBADMSG);
    assert_refused(HEAD "<Contents><Key>p/a</Key><Size>-1</Size></Contents>" TAIL, -EBADMSG);
    assert_refused(HEAD "<Contents><Key>p/a</Key><Size>9999999999999999999</Size></Contents>" TAIL, -EBADMSG);
    assert_refused(HEAD "<IsTruncated>true</IsTruncated>" TAIL, -EBADMSG);
    assert_refused(HEAD "<IsTruncated>true</IsTruncated><NextContinuationToken>asked</NextContinuationToken>" TAIL, -EBADMSG);
    assert_refused("<!DOCTYPE a [<!ENTITY b \"c\">]>" HEAD TAIL, -EBADMSG);
    assert_refused(HEAD "<a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a>", -EBADMSG);
}

static void what_is_enormous_is_refused_before_it_is_kept(void **state)
{
    BUFFER_CLEANUP xml = {0};
    buffer_append_string(&xml, HEAD "<Contents><Key>");
    for (int i = 0; i < 10000; i++)
        buffer_append_byte(&xml, 'p');
    assert_refused(xml.data, -E2BIG);
    buffer_clear(&xml);
    buffer_append_string(&xml, HEAD);
    for (size_t i = 0; i <= LISTING_ENTRIES_MAX; i++)
        buffer_append_string(&xml, ENTRY("p/a"));
    assert_refused(xml.data, -E2BIG);
    buffer_clear(&xml);
    buffer_append_string(&xml, HEAD "<Padding>");
    buffer_reserve(&xml, LISTING_BYTES_MAX + 100);
    for (size_t i = 0; i < LISTING_BYTES_MAX / 16; i++)
        buffer_append_string(&xml, "0123456789abcdef");
    cleanup(cleanup_listing_free) struct listing *l = listing_new(TEXT("p/"), TEXT(""));
    assert_int_equal(read_pieces(l, xml.data, 100000), -E2BIG);
}

static void an_errors_reason_is_read_and_bounded(void **state)
{
    struct listing_error e;
    listing_read_error(TEXT("<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><Message>It is\nnot there.</Message>"
                            "<Region>eu-west-2</Region></Error>"),
                       &e);
    assert_string_equal(e.code, "NoSuchKey");
    assert_string_equal(e.message, "It is?not there.");
    assert_string_equal(e.region, "eu-west-2");
    listing_read_error(TEXT("<Error><Code>Half</Code><Message>of one"), &e);
    assert_string_equal(e.code, "Half");
    listing_read_error(TEXT("  \r\n<?xml version=\"1.0\"?><Error><Code>Late</Code></Error>"), &e);
    assert_string_equal(e.code, "Late");
    listing_read_error(TEXT("<html>404</html>"), &e);
    assert_string_equal(e.code, "");
    listing_read_error(TEXT(""), &e);
    assert_string_equal(e.code, "");
    BUFFER_CLEANUP xml = {0};
    buffer_append_string(&xml, "<Error><Message>");
    for (int i = 0; i < 5000; i++)
        buffer_append_byte(&xml, 'm');
    listing_read_error(buffer_text(&xml), &e);
    assert_int_equal(strlen(e.message), sizeof(e.message) - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_and_prefixes_come_in_the_servers_order),
        cmocka_unit_test(an_etag_without_quotes_is_the_one_with_them),
        cmocka_unit_test(keys_are_decoded_wherever_the_encoding_is_said),
        cmocka_unit_test(what_is_not_known_is_passed_over),
        cmocka_unit_test(times_are_kept_to_the_nanosecond),
        cmocka_unit_test(the_next_page_is_where_the_token_says),
        cmocka_unit_test(what_can_not_be_a_page_is_refused),
        cmocka_unit_test(what_is_enormous_is_refused_before_it_is_kept),
        cmocka_unit_test(an_errors_reason_is_read_and_bounded),
    };
    return run_group(tests);
}
