// SPDX-License-Identifier: BSD-3-Clause
// Signatures against those that AWS published (S3 API reference, "Signature calculations: examples") and, for what those
// don't have (odd keys, tokens, other ports), against what botocore computes.
#include "cache/origin/sigv4.h"

#include "tests/unit/cache/origin.h"

#include <sys/wait.h>

#define PUBLISHED_S 1369353600 // 2013-05-24T00:00:00Z
#define BOTOCORE_S 1795932304  // 2026-11-29T06:05:04Z

static struct sigv4_scope published(void)
{
    struct sigv4_scope s = {.key_id = TEXT("AKIAIOSFODNN7EXAMPLE"), .token = TEXT(""), .region = TEXT("us-east-1"),
                            .service = TEXT("s3")};
    sigv4_derive(TEXT("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"), PUBLISHED_S, s.region, s.service, s.key);
    return s;
}

static struct sigv4_scope botocore(const char *token)
{
    struct sigv4_scope s = {.key_id = TEXT("AKIDEXAMPLE"), .token = text_of(token), .region = TEXT("eu-west-2"),
                            .service = TEXT("s3")};
    sigv4_derive(TEXT("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"), BOTOCORE_S, s.region, s.service, s.key);
    return s;
}

static void assert_signed(const struct sigv4_scope *s, const struct sigv4_request *r, const char *names,
                          const char *signature)
{
    BUFFER_CLEANUP fields = {0};
    BUFFER_CLEANUP end = {0};
    sigv4_sign(s, r, &fields);
    buffer_format(&end, ", SignedHeaders=%s, Signature=%s", names, signature);
    buffer_append_byte(&end, 0);
    assert_true(fields.size_bytes > end.size_bytes);
    assert_string_equal(fields.data + fields.size_bytes - end.size_bytes, end.data);
}

static void a_range_of_an_object_is_signed_as_published(void **state)
{
    struct sigv4_scope s = published();
    static const char range[] = "range:bytes=0-9";
    struct sigv4_request r = {.method = "GET", .host = TEXT("examplebucket.s3.amazonaws.com"), .path = TEXT("/test.txt"),
                              .payload = SIGV4_NO_PAYLOAD, .fields = {range, sizeof(range)}, .unix_s = PUBLISHED_S};
    assert_signed(&s, &r, "host;range;x-amz-content-sha256;x-amz-date",
                  "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
}

static void a_listing_is_signed_as_published(void **state)
{
    struct sigv4_scope s = published();
    struct sigv4_request r = {.method = "GET", .host = TEXT("examplebucket.s3.amazonaws.com"), .path = TEXT("/"),
                              .query = TEXT("max-keys=2&prefix=J"), .payload = SIGV4_NO_PAYLOAD, .unix_s = PUBLISHED_S};
    assert_signed(&s, &r, "host;x-amz-content-sha256;x-amz-date",
                  "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
    r.query = TEXT("lifecycle=");
    assert_signed(&s, &r, "host;x-amz-content-sha256;x-amz-date",
                  "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
}

static void a_url_is_signed_as_published(void **state)
{
    struct sigv4_scope s = published();
    struct sigv4_request r = {.method = "GET", .host = TEXT("examplebucket.s3.amazonaws.com"), .path = TEXT("/test.txt"),
                              .unix_s = PUBLISHED_S};
    BUFFER_CLEANUP query = {0};
    sigv4_presign(&s, &r, 86400, &query);
    assert_string_equal(query.data,
                        "X-Amz-Algorithm=AWS4-HMAC-SHA256"
                        "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
                        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
                        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404");
}

static void odd_keys_and_ports_are_signed_as_botocore_does(void **state)
{
    struct sigv4_scope s = botocore("");
    struct sigv4_request r = {.method = "GET", .host = TEXT("host.example:8443"),
                              .path = TEXT("/bucket/a%20b%2Bc/%C3%A9%23%3F%26"), .payload = SIGV4_NO_PAYLOAD,
                              .unix_s = BOTOCORE_S};
    assert_signed(&s, &r, "host;x-amz-content-sha256;x-amz-date",
                  "fcee03a0f542f56c1a01ef7c0fb4b0bf40f585fb6fd09bb89ae5b922d57b8ed2");
}

static void tokens_and_further_fields_are_signed_as_botocore_does(void **state)
{
    struct sigv4_scope s = botocore("to/ken==");
    static const char mode[] = "x-amz-checksum-mode:ENABLED";
    struct sigv4_request r = {.method = "HEAD", .host = TEXT("host.example:8443"), .path = TEXT("/bucket/key"),
                              .payload = SIGV4_NO_PAYLOAD, .fields = {mode, sizeof(mode)}, .unix_s = BOTOCORE_S};
    assert_signed(&s, &r, "host;x-amz-checksum-mode;x-amz-content-sha256;x-amz-date;x-amz-security-token",
                  "d35b6d14601b5bbeeec36b3a2d83a4f0bd555e7d6322f821c789a05b675ea5a8");
}

static void queries_with_odd_values_are_signed_as_botocore_does(void **state)
{
    struct sigv4_scope s = botocore("");
    struct sigv4_request r = {.method = "GET", .host = TEXT("b.s3.amazonaws.com"), .path = TEXT("/"),
                              .query = TEXT("continuation-token=1%2F%2B%3D&delimiter=%2F&encoding-type=url&list-type=2"
                                            "&max-keys=1000&prefix=a%20b%2F"),
                              .payload = SIGV4_NO_PAYLOAD, .unix_s = BOTOCORE_S};
    assert_signed(&s, &r, "host;x-amz-content-sha256;x-amz-date",
                  "c3d80291080ca48dcef5b7bd7dc2212594937a5fbac3828e124d2599fabf5064");
}

static void fields_of_any_order_are_signed_as_botocore_does(void **state)
{
    struct sigv4_scope s = botocore("");
    static const char fields[] = "x-amz-storage-class:STANDARD_IA\0content-type:text/plain\0"
                                 "x-amz-server-side-encryption-aws-kms-key-id:k\0x-amz-server-side-encryption:aws:kms";
    struct sigv4_request r = {.method = "PUT", .host = TEXT("host.example"), .path = TEXT("/bucket/key"),
                              .query = TEXT("partNumber=1&uploadId=a%2Fb"), .payload = SIGV4_UNSIGNED_PAYLOAD,
                              .fields = {fields, sizeof(fields)}, .unix_s = BOTOCORE_S};
    assert_signed(&s, &r,
                  "content-type;host;x-amz-content-sha256;x-amz-date;x-amz-server-side-encryption;"
                  "x-amz-server-side-encryption-aws-kms-key-id;x-amz-storage-class",
                  "840a03c9a45353005cddcdddfd11cdd7d3de58aed2c9b401123b87b451297ad9");
}

static void assert_presigned(const char *method, const char *token, const char *own, int64_t expires_s,
                             const char *signature)
{
    struct sigv4_scope s = botocore(token);
    struct sigv4_request r = {.method = method, .host = TEXT("host.example"), .path = TEXT("/bucket/a%20b%2Bc"),
                              .query = text_of(own), .unix_s = BOTOCORE_S};
    BUFFER_CLEANUP query = {0};
    sigv4_presign(&s, &r, expires_s, &query);
    const char *found = strstr(query.data, "&X-Amz-Signature=");
    assert_non_null(found);
    assert_string_equal(found + strlen("&X-Amz-Signature="), signature);
    assert_int_equal(strstr(query.data, "&X-Amz-Security-Token=") != NULL, token[0] != 0);
}

static void urls_are_signed_as_botocore_does(void **state)
{
    assert_presigned("GET", "", "", 3600, "b07556b274b0013be9f4b84fdaff6713142d0daa88f83fdc38b624da52c48bb4");
    assert_presigned("PUT", "to/ken==", "", 60, "2b81617bf60c0ebe7bd15b40c9201da32d302c365154f08dbb952739be8f3bbd");
    assert_presigned("GET", "", "versionId=v%2F1", 3600, "99d8410546efb69d6a5c9fac7c25ee8372b37a028e38e789c7c68f34456d1358");
}

// Comes after what libraries do at the end, as it was told of before them.
static void sign_at_the_end(void)
{
    struct sigv4_scope s = published();
    _exit(s.key[0] == s.key[1] && s.key[1] == s.key[2]);
}

// A daemon ends while its fetchers go on.
static void requests_are_signed_as_long_as_the_process_lives(void **state)
{
    int status = -1;
    pid_t child = fork();
    if (child == 0) {
        atexit(sign_at_the_end);
        fetchers_of(&FETCHERS_OPTIONS_STANDARD);
        published();
        exit(2);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_signed_as_long_as_the_process_lives), // first: by it OpenSSL is set up
        cmocka_unit_test(a_range_of_an_object_is_signed_as_published),
        cmocka_unit_test(a_listing_is_signed_as_published),
        cmocka_unit_test(a_url_is_signed_as_published),
        cmocka_unit_test(odd_keys_and_ports_are_signed_as_botocore_does),
        cmocka_unit_test(tokens_and_further_fields_are_signed_as_botocore_does),
        cmocka_unit_test(fields_of_any_order_are_signed_as_botocore_does),
        cmocka_unit_test(queries_with_odd_values_are_signed_as_botocore_does),
        cmocka_unit_test(urls_are_signed_as_botocore_does),
    };
    return run_group(tests);
}
