// SPDX-License-Identifier: BSD-3-Clause
// Buckets, at a server that says what S3 servers say when something is not as it should be.
#include "tests/unit/cache/liar.h"

#define SIZE 1000

struct world {
    struct fetchers *fetchers;
    struct liar *liar;
    struct origin *origin;
};

static struct fetchers *quick_fetchers(void)
{
    struct fetchers_options o = FETCHERS_OPTIONS_STANDARD;
    o.retry_ns = 5 * NS_PER_MS;
    o.retry_max_ns = 20 * NS_PER_MS;
    return fetchers_of(&o);
}

static struct world world_of(bool (*answer)(struct liar *l, int fd, const char *head, uint32_t number))
{
    struct world w = {.fetchers = quick_fetchers(), .liar = liar_begin(answer)};
    w.origin = opened(w.fetchers, "s3://bucket/",
                      &(struct origin_options){.endpoint = w.liar->url, .access_key_id = "ID", .secret_access_key = "SECRET"});
    return w;
}

static void world_end(struct world *w)
{
    origin_unref(w->origin);
    fetchers_free(w->fetchers);
    liar_end(w->liar);
}
#define WORLD_CLEANUP cleanup(world_end) struct world

static void say_error(int fd, int status, const char *fields, const char *code, bool is_head)
{
    char body[200] = "";
    if (!is_head)
        snprintf(body, sizeof(body), "<Error><Code>%s</Code><Message>because</Message></Error>", code);
    liar_print(fd, "HTTP/1.1 %d Error\r\n%sContent-Length: %zu\r\n\r\n%s", status, fields, strlen(body), body);
}

static bool is_head_request(const char *head)
{
    return strncmp(head, "HEAD ", 5) == 0;
}

static struct asked *get(const char *key)
{
    struct asked *k = asked_new(ORIGIN_GET, key);
    k->request.size_bytes = 100;
    return k;
}

// ---- asking

static bool honest(struct liar *l, int fd, const char *head, uint32_t number)
{
    return liar_object(fd, head, SIZE, "\"one\"", UINT64_MAX);
}

static void requests_are_signed_and_paths_are_the_buckets(void **state)
{
    WORLD_CLEANUP w = world_of(honest);
    ASKED_CLEANUP *k = get("a b/c+d");
    assert_int_equal(asked_of(w.origin, k), 0);
    const char *head = w.liar->heads[0];
    assert_true(liar_has_field(head, "GET /bucket/a%20b/c%2Bd HTTP/1.1\r\n"));
    assert_true(liar_has_field(head, "Authorization: AWS4-HMAC-SHA256 Credential=ID/"));
    assert_true(liar_has_field(head, "/us-east-1/s3/aws4_request, SignedHeaders=host;x-amz-checksum-mode;x-amz-content-sha256;x-amz-date"));
    assert_false(liar_has_field(head, "SECRET"));
}

static void anonymous_requests_are_not_signed(void **state)
{
    WORLD_CLEANUP w = world_of(honest);
    struct origin *o = opened(w.fetchers, "s3://bucket", &(struct origin_options){.endpoint = w.liar->url, .is_anonymous = true});
    ASKED_CLEANUP *k = get("k");
    assert_int_equal(asked_of(o, k), 0);
    assert_false(liar_has_field(w.liar->heads[0], "Authorization"));
    assert_false(liar_has_field(w.liar->heads[0], "x-amz-date"));
    origin_unref(o);
}

static void the_butlers_variables_say_endpoint_and_keys(void **state)
{
    WORLD_CLEANUP w = world_of(honest);
    char general[100], profile[100];
    snprintf(general, sizeof(general), "S3_ENDPOINT_URL=http://general:p%%2Fw@127.0.0.1:%d", w.liar->port);
    snprintf(profile, sizeof(profile), "LSST_RESOURCES_S3_PROFILE_mine=http://special:pw@127.0.0.1:%d/", w.liar->port);
    const char *environment[] = {general, profile, NULL};
    struct origin_options options = {.environment = environment};
    struct origin *o;
    char *key;
    ASKED_CLEANUP *k = get("k");
    assert_int_equal(origin_open(w.fetchers, "s3://bucket//a%20b", &options, &o, &key, NULL), 0);
    assert_string_equal(key, "a b");
    assert_int_equal(asked_of(o, k), 0);
    assert_true(liar_has_field(w.liar->heads[0], "Credential=general/"));
    assert_null(strstr(origin_identity(o).data, "general"));
    origin_unref(o);
    free(key);
    o = opened(w.fetchers, "s3://mine@tenant:bucket/x", &options);
    ASKED_CLEANUP *other = get("k");
    assert_int_equal(asked_of(o, other), 0);
    assert_true(liar_has_field(w.liar->heads[1], "GET /tenant%3Abucket/k HTTP"));
    assert_true(liar_has_field(w.liar->heads[1], "Credential=special/"));
    origin_unref(o);
}

static void identities_tell_endpoints_and_buckets_apart_and_hold_no_credentials(void **state)
{
    struct fetchers *fetchers = quick_fetchers();
    static const struct {
        const char *uri, *endpoint, *identity;
    } cases[] = {{"s3://b/x", NULL, "s3://s3.amazonaws.com/b"},
                 {"s3://p@b", "https://u:p@Host:443/", "s3://host/b"},
                 {"s3://b", "http://h:9000/gateway/", "s3://h:9000/gateway/b"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct origin *o = opened(fetchers, cases[i].uri,
                                  &(struct origin_options){.endpoint = cases[i].endpoint, .access_key_id = "I", .secret_access_key = "S"});
        assert_string_equal(origin_identity(o).data, cases[i].identity);
        origin_unref(o);
    }
    fetchers_free(fetchers);
}

static void what_can_not_be_a_bucket_is_refused(void **state)
{
    struct fetchers *fetchers = quick_fetchers();
    static const struct {
        const char *uri, *endpoint, *region;
    } cases[] = {{"s3:///key", NULL, NULL},          {"s3://..", NULL, NULL},   {"s3://b%41/x", NULL, NULL},
                 {"s3://b:80/x", NULL, NULL},        {"s3://b", "host", NULL},  {"s3://b", "ftp://host", NULL},
                 {"s3://b", "http://key@host", NULL}, {"s3://b", NULL, "a/b"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct origin *o;
        char *why = NULL;
        struct origin_options options = {.endpoint = cases[i].endpoint, .region = cases[i].region, .access_key_id = "I",
                                         .secret_access_key = "S"};
        assert_int_equal(origin_open(fetchers, cases[i].uri, &options, &o, NULL, &why), -EINVAL);
        assert_non_null(why);
        free(why);
    }
    fetchers_free(fetchers);
}

static void signed_urls_name_the_object(void **state)
{
    WORLD_CLEANUP w = world_of(honest);
    BUFFER_CLEANUP url = {0};
    assert_int_equal(origin_presign(w.origin, ORIGIN_METHOD_GET, TEXT("a b"), TEXT(""), 3600 * NS_PER_S, &url, NULL), 0);
    assert_int_equal(strncmp(url.data, w.liar->url, strlen(w.liar->url)), 0);
    assert_non_null(strstr(url.data, "/bucket/a%20b?X-Amz-Algorithm=AWS4-HMAC-SHA256&"));
    assert_non_null(strstr(url.data, "&X-Amz-Expires=3600&"));
    assert_null(strstr(url.data, "SECRET"));
    assert_null(strstr(url.data, "versionId"));
    buffer_clear(&url);
    assert_int_equal(origin_presign(w.origin, ORIGIN_METHOD_GET, TEXT("a"), TEXT("v/1"), NS_PER_S, &url, NULL), 0);
    assert_non_null(strstr(url.data, "&X-Amz-SignedHeaders=host&versionId=v%2F1&X-Amz-Signature="));
    assert_int_equal(origin_presign(w.origin, ORIGIN_METHOD_GET, TEXT("a"), TEXT(""), 0, &url, NULL), -EINVAL);
    assert_int_equal(origin_presign(w.origin, ORIGIN_METHOD_GET, TEXT("a"), TEXT(""), 8 * 86400 * NS_PER_S, &url, NULL), -EINVAL);
    struct origin *o = opened(w.fetchers, "s3://bucket", &(struct origin_options){.endpoint = w.liar->url, .is_anonymous = true});
    assert_int_equal(origin_presign(o, ORIGIN_METHOD_GET, TEXT("a"), TEXT(""), NS_PER_S, &url, NULL), -EACCES);
    origin_unref(o);
}

static void signed_urls_say_that_who_made_them_pays_where_that_is_said(void **state)
{
    WORLD_CLEANUP w = world_of(honest);
    BUFFER_CLEANUP url = {0};
    struct origin *o = opened(w.fetchers, "s3://bucket",
                              &(struct origin_options){.endpoint = w.liar->url, .access_key_id = "ID",
                                                       .secret_access_key = "SECRET", .pays_requests = true});
    assert_int_equal(origin_presign(o, ORIGIN_METHOD_GET, TEXT("a"), TEXT("v"), NS_PER_S, &url, NULL), 0);
    assert_non_null(strstr(url.data, "&versionId=v&x-amz-request-payer=requester&X-Amz-Signature="));
    origin_unref(o);
}

// ---- listings

#define LISTING "<ListBucketResult><IsTruncated>%s</IsTruncated>%s<Contents><Key>p/%u</Key><Size>%u</Size><ETag>\"e\"</ETag></Contents></ListBucketResult>"

static bool lists(struct liar *l, int fd, const char *head, uint32_t number)
{
    char body[400];
    snprintf(body, sizeof(body), LISTING, number ? "false" : "true",
             number ? "" : "<NextContinuationToken>to/ken=</NextContinuationToken>", number, number);
    size_t give = l->context && number == 0 ? strlen(body) / 2 : strlen(body); // half of a page, and no more
    liar_print(fd, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%.*s", give, (int)give, body);
    return true;
}

static void a_listing_is_asked_for_by_pages(void **state)
{
    WORLD_CLEANUP w = world_of(lists);
    ASKED_CLEANUP *k = asked_new(ORIGIN_LIST, "p/");
    k->request.delimiter = TEXT("/");
    k->request.start_after = TEXT("p/a b");
    assert_int_equal(asked_of(w.origin, k), 0);
    assert_string_equal(k->entries.data, "p/0 0 \"e\"\n");
    assert_string_equal(k->token, "to/ken=");
    assert_true(liar_has_field(w.liar->heads[0], "GET /bucket?delimiter=%2F&encoding-type=url&list-type=2&max-keys=1000&prefix=p%2F"
                                                 "&start-after=p%2Fa%20b HTTP"));
    ASKED_CLEANUP *more = asked_new(ORIGIN_LIST, "p/");
    more->request.token = text_of(k->token);
    more->request.max = 7;
    assert_int_equal(asked_of(w.origin, more), 0);
    assert_string_equal(more->token, "");
    assert_true(liar_has_field(w.liar->heads[1], "?continuation-token=to%2Fken%3D&encoding-type=url&list-type=2&max-keys=7&prefix=p%2F HTTP"));
}

#define VERSIONS "<ListVersionsResult><IsTruncated>true</IsTruncated><NextKeyMarker>p/b c</NextKeyMarker><NextVersionIdMarker>v/2" \
                 "</NextVersionIdMarker><Version><Key>p/b c</Key><VersionId>v/2</VersionId><LastModified>%s</LastModified>"           \
                 "<Size>5</Size></Version></ListVersionsResult>"

static bool lists_versions(struct liar *l, int fd, const char *head, uint32_t number)
{
    char body[400];
    if (number == 2) {
        say_error(fd, 501, "", "NotImplemented", false);
        return true;
    }
    // of the first page the only version is too young
    snprintf(body, sizeof(body), VERSIONS, number ? "1970-01-01T00:00:01Z" : "1970-01-01T00:00:03Z");
    liar_print(fd, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", strlen(body), body);
    return true;
}

static void what_there_was_at_a_time_is_asked_for_by_pages_of_versions(void **state)
{
    WORLD_CLEANUP w = world_of(lists_versions);
    ASKED_CLEANUP *k = asked_new(ORIGIN_LIST, "p/");
    k->request.delimiter = TEXT("/");
    k->request.at_unix_ns = 2 * NS_PER_S;
    assert_int_equal(asked_of(w.origin, k), 0);
    assert_int_equal(k->entries.size_bytes, 0);
    assert_true(liar_has_field(w.liar->heads[0], "GET /bucket?delimiter=%2F&encoding-type=url&max-keys=1000&prefix=p%2F&versions= HTTP"));
    ASKED_CLEANUP *more = asked_new(ORIGIN_LIST, "p/");
    more->request.at_unix_ns = 2 * NS_PER_S;
    more->request.max = 7;
    more->request.token = text_of(k->token);
    assert_int_equal(asked_of(w.origin, more), 0);
    assert_true(liar_has_field(w.liar->heads[1], "?encoding-type=url&key-marker=p%2Fb%20c&max-keys=7&prefix=p%2F"
                                                 "&version-id-marker=v%2F2&versions= HTTP"));
    ASKED_CLEANUP *refused = asked_new(ORIGIN_LIST, "p/");
    refused->request.at_unix_ns = 2 * NS_PER_S;
    assert_true(asked_of(w.origin, refused) < 0);
    assert_non_null(strstr(refused->why, "NotImplemented"));
}

static void a_version_is_asked_for_by_its_id(void **state)
{
    WORLD_CLEANUP w = world_of(honest);
    ASKED_CLEANUP *k = get("k");
    k->request.version = TEXT("v/1");
    assert_int_equal(asked_of(w.origin, k), 0);
    assert_true(liar_has_field(w.liar->heads[0], "GET /bucket/k?versionId=v%2F1 HTTP"));
    struct origin *without;
    assert_int_equal(origin_open(w.fetchers, "memory://m", NULL, &without, NULL, NULL), 0);
    ASKED_CLEANUP *none = get("k");
    none->request.version = TEXT("v/1");
    assert_int_equal(asked_of(without, none), -EOPNOTSUPP);
    ASKED_CLEANUP *past = asked_new(ORIGIN_LIST, "");
    past->request.at_unix_ns = 1;
    assert_int_equal(asked_of(without, past), -EOPNOTSUPP);
    origin_unref(without);
}

static void half_a_page_is_asked_for_again_and_no_entry_comes_twice(void **state)
{
    WORLD_CLEANUP w = world_of(lists);
    w.liar->context = w.liar;
    ASKED_CLEANUP *k = asked_new(ORIGIN_LIST, "p/");
    assert_int_equal(asked_of(w.origin, k), 0);
    assert_string_equal(k->entries.data, "p/1 1 \"e\"\n");
}

// ---- errors

static bool answers_codes(struct liar *l, int fd, const char *head, uint32_t number)
{
    static const struct {
        int status;
        const char *code;
    } all[] = {{404, "NoSuchKey"}, {403, "AccessDenied"}, {403, "InvalidObjectState"}, {404, "NoSuchBucket"}};
    say_error(fd, all[number].status, "", all[number].code, false);
    return true;
}

static void a_code_is_an_errno_with_the_servers_reason(void **state)
{
    static const int errors[] = {-ENOENT, -EACCES, -EREMOTEIO, -ENOENT};
    static const char *const codes[] = {"NoSuchKey: because", "AccessDenied: because", "InvalidObjectState: because",
                                        "NoSuchBucket: because"};
    WORLD_CLEANUP w = world_of(answers_codes);
    for (int i = 0; i < 4; i++) {
        ASKED_CLEANUP *k = get("k");
        assert_int_equal(asked_of(w.origin, k), errors[i]);
        assert_non_null(strstr(k->why, codes[i]));
        assert_int_equal(k->answer.is_archived, i == 2);
    }
    assert_int_equal(w.liar->requests, 4);
}

static bool refuses_keys(struct liar *l, int fd, const char *head, uint32_t number)
{
    if (l->context && number >= 2)
        return liar_object(fd, head, SIZE, "\"one\"", UINT64_MAX);
    say_error(fd, 403, "", "InvalidAccessKeyId", is_head_request(head));
    return true;
}

static void refused_keys_make_no_storm(void **state)
{
    WORLD_CLEANUP w = world_of(refuses_keys);
    for (int i = 0; i < 200; i++) {
        ASKED_CLEANUP *k = get("k");
        assert_int_equal(asked_of(w.origin, k), -EACCES);
        assert_non_null(strstr(k->why, "InvalidAccessKeyId: because"));
    }
    assert_true(liar_requests(w.liar) <= 4);
}

static void a_head_that_is_refused_says_why_too_and_makes_no_storm(void **state)
{
    WORLD_CLEANUP w = world_of(refuses_keys);
    for (int i = 0; i < 100; i++) {
        ASKED_CLEANUP *k = asked_new(ORIGIN_HEAD, "k");
        assert_int_equal(asked_of(w.origin, k), -EACCES);
        assert_non_null(strstr(k->why, "InvalidAccessKeyId: because"));
    }
    assert_true(liar_requests(w.liar) <= 6);
}

static void keys_that_are_good_again_are_found_out(void **state)
{
    WORLD_CLEANUP w = world_of(refuses_keys);
    w.liar->context = w.liar;
    int64_t end_ns = clock_ns() + 30 * NS_PER_S;
    int error = -EACCES;
    while (error && clock_ns() < end_ns) {
        ASKED_CLEANUP *k = get("k");
        error = asked_of(w.origin, k);
        usleep(20000);
    }
    assert_int_equal(error, 0);
    for (int i = 0; i < 10; i++) {
        ASKED_CLEANUP *k = get("k");
        assert_int_equal(asked_of(w.origin, k), 0);
    }
}

static bool is_elsewhere(struct liar *l, int fd, const char *head, uint32_t number)
{
    if (liar_has_field(head, "/eu-west-2/s3/aws4_request"))
        return liar_object(fd, head, SIZE, "\"one\"", UINT64_MAX);
    say_error(fd, 301, "x-amz-bucket-region: eu-west-2\r\nLocation: http://127.0.0.1:1/\r\n", "PermanentRedirect",
              is_head_request(head));
    return true;
}

static void another_region_is_learnt_once(void **state)
{
    WORLD_CLEANUP w = world_of(is_elsewhere);
    for (int i = 0; i < 5; i++) {
        ASKED_CLEANUP *k = i % 2 ? asked_new(ORIGIN_HEAD, "k") : get("k");
        assert_int_equal(asked_of(w.origin, k), 0);
    }
    assert_int_equal(w.liar->requests, 6);
}

static bool redirects_away(struct liar *l, int fd, const char *head, uint32_t number)
{
    BUFFER_CLEANUP fields = {0};
    buffer_format(&fields, "Location: %s/k\r\n", (const char *)l->context);
    say_error(fd, 307, fields.data, "TemporaryRedirect", false);
    return true;
}

static void what_is_signed_goes_to_no_other_server(void **state)
{
    WORLD_CLEANUP w = world_of(redirects_away);
    cleanup(cleanup_liar_end) struct liar *other = liar_begin(honest);
    w.liar->context = other->url;
    ASKED_CLEANUP *k = get("k");
    assert_int_equal(asked_of(w.origin, k), -EREMOTEIO);
    assert_int_equal(other->requests, 0);
}

static bool has_another_clock(struct liar *l, int fd, const char *head, uint32_t number)
{
    if (liar_has_field(head, "x-amz-date: 20300101T"))
        return liar_object(fd, head, SIZE, "\"one\"", UINT64_MAX);
    say_error(fd, 403, "Date: Tue, 01 Jan 2030 12:00:00 GMT\r\n", "RequestTimeTooSkewed", is_head_request(head));
    return true;
}

static void the_servers_clock_is_taken_once(void **state)
{
    WORLD_CLEANUP w = world_of(has_another_clock);
    ASKED_CLEANUP *head = asked_new(ORIGIN_HEAD, "k");
    assert_int_equal(asked_of(w.origin, head), 0);
    ASKED_CLEANUP *k = get("k");
    assert_int_equal(asked_of(w.origin, k), 0);
    assert_int_equal(w.liar->requests, 3);
}

static bool has_no_clock(struct liar *l, int fd, const char *head, uint32_t number)
{
    char date[64];
    snprintf(date, sizeof(date), "Date: Tue, 01 Jan 20%02u 12:00:00 GMT\r\n", 30 + number % 60);
    say_error(fd, 403, date, "RequestTimeTooSkewed", false);
    return true;
}

static void a_clock_that_runs_wild_ends_in_an_error(void **state)
{
    WORLD_CLEANUP w = world_of(has_no_clock);
    ASKED_CLEANUP *k = get("k");
    assert_int_equal(asked_of(w.origin, k), -EACCES);
    assert_true(w.liar->requests <= 3);
}

static bool slows_down(struct liar *l, int fd, const char *head, uint32_t number)
{
    if (number >= 3)
        return liar_object(fd, head, SIZE, "\"one\"", UINT64_MAX);
    say_error(fd, number == 2 ? 400 : 503, "", number == 2 ? "RequestTimeout" : "SlowDown", false);
    return true;
}

static void slow_down_and_timeouts_are_tried_again(void **state)
{
    WORLD_CLEANUP w = world_of(slows_down);
    ASKED_CLEANUP *k = get("k");
    assert_int_equal(asked_of(w.origin, k), 0);
    assert_int_equal(w.liar->requests, 4);
}

// ---- credentials that are fetched

static bool is_an_instance(struct liar *l, int fd, const char *head, uint32_t number)
{
    char body[300] = "";
    bool has_token = liar_has_field(head, "X-aws-ec2-metadata-token: TOKEN\r\n");
    if (strncmp(head, "PUT /latest/api/token ", 22) == 0)
        strcpy(body, "TOKEN");
    else if (liar_has_field(head, "GET /latest/meta-data/iam/security-credentials/ ") && has_token)
        strcpy(body, "my-role\n");
    else if (liar_has_field(head, "GET /latest/meta-data/iam/security-credentials/my-role ") && has_token)
        snprintf(body, sizeof(body), "{\"AccessKeyId\":\"KEY%u\",\"SecretAccessKey\":\"s\",\"Token\":\"SESSION\","
                                     "\"Expiration\":\"2037-01-01T00:00:00Z\"}", number);
    else if (liar_has_field(head, "GET /container ") && liar_has_field(head, "Authorization: let-me\r\n"))
        strcpy(body, "{\"AccessKeyId\":\"FROMBOX\",\"SecretAccessKey\":\"s\",\"Token\":\"SESSION\"}");
    else
        return honest(l, fd, head, number);
    liar_print(fd, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", strlen(body), body);
    return true;
}

static void an_instances_credentials_are_fetched_once_for_all(void **state)
{
    WORLD_CLEANUP w = world_of(is_an_instance);
    char endpoint[100], service[100];
    snprintf(endpoint, sizeof(endpoint), "AWS_ENDPOINT_URL=%s", w.liar->url);
    snprintf(service, sizeof(service), "AWS_EC2_METADATA_SERVICE_ENDPOINT=%s/", w.liar->url);
    const char *environment[] = {endpoint, service, NULL};
    struct origin *o = opened(w.fetchers, "s3://bucket", &(struct origin_options){.environment = environment});
    struct asked *all[10];
    for (int i = 0; i < 10; i++) {
        all[i] = get("k");
        origin_start(o, &all[i]->request);
    }
    for (int i = 0; i < 10; i++) {
        asked_wait(all[i], 1);
        assert_int_equal(all[i]->answer.error, 0);
        asked_free(all[i]);
    }
    assert_int_equal(w.liar->requests, 13);
    assert_true(liar_has_field(w.liar->heads[12], "Credential=KEY2/"));
    assert_true(liar_has_field(w.liar->heads[12], "x-amz-security-token: SESSION\r\n"));
    BUFFER_CLEANUP url = {0};
    assert_int_equal(origin_presign(o, ORIGIN_METHOD_GET, TEXT("a"), TEXT(""), NS_PER_S, &url, NULL), 0);
    assert_non_null(strstr(url.data, "X-Amz-Security-Token=SESSION"));
    origin_unref(o);
}

static void a_containers_credentials_are_fetched_with_its_token(void **state)
{
    WORLD_CLEANUP w = world_of(is_an_instance);
    char endpoint[100], full[100];
    snprintf(endpoint, sizeof(endpoint), "AWS_ENDPOINT_URL=%s", w.liar->url);
    snprintf(full, sizeof(full), "AWS_CONTAINER_CREDENTIALS_FULL_URI=%s/container", w.liar->url);
    const char *environment[] = {endpoint, full, "AWS_CONTAINER_AUTHORIZATION_TOKEN=let-me", NULL};
    struct origin *o = opened(w.fetchers, "s3://bucket", &(struct origin_options){.environment = environment});
    ASKED_CLEANUP *k = get("k");
    assert_int_equal(asked_of(o, k), 0);
    assert_true(liar_has_field(w.liar->heads[1], "Credential=FROMBOX/"));
    origin_unref(o);
}

static bool never_answers(struct liar *l, int fd, const char *head, uint32_t number)
{
    return liar_stall(l, fd);
}

static void who_waits_for_credentials_may_be_cancelled_and_has_a_deadline(void **state)
{
    WORLD_CLEANUP w = world_of(never_answers);
    char full[100];
    snprintf(full, sizeof(full), "AWS_CONTAINER_CREDENTIALS_FULL_URI=%s/container", w.liar->url);
    const char *environment[] = {full, NULL};
    struct origin *o = opened(w.fetchers, "s3://bucket", &(struct origin_options){.environment = environment});
    ASKED_CLEANUP *k = get("k");
    ASKED_CLEANUP *late = get("k");
    late->request.deadline_ns = clock_ns() + 100 * NS_PER_MS;
    origin_start(o, &k->request);
    assert_int_equal(asked_of(o, late), -ETIMEDOUT);
    origin_cancel(&k->request);
    asked_wait(k, 1);
    assert_int_equal(k->answer.error, -ECANCELED);
    origin_unref(o);
}

// ---- what changes something

static bool copies_in_the_end(struct liar *l, int fd, const char *head, uint32_t number)
{
    static const char *const bodies[] = {"", "<CopyObjectResult><ETa", " \n<Error><Code>InternalError</Code></Error>",
                                         "\n<?xml version=\"1.0\"?><CopyObjectResult><ETag>e</ETag></CopyObjectResult>"};
    liar_print(fd, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", strlen(bodies[number]), bodies[number]);
    return true;
}

static void a_200_that_does_not_say_what_was_done_is_asked_again(void **state)
{
    WORLD_CLEANUP w = world_of(copies_in_the_end);
    ASKED_CLEANUP *k = asked_new(ORIGIN_COPY, "to");
    k->request.source = TEXT("from");
    assert_int_equal(asked_of(w.origin, k), 0);
    assert_string_equal(k->validator, "\"e\"");
    assert_int_equal(liar_requests(w.liar), 4);
}

// Gives CRCs back at first; then the next two are answered together, without.
static bool forgets_checksums(struct liar *l, int fd, const char *head, uint32_t number)
{
    while (number >= 1 && number <= 2 && liar_requests(l) < 3 && !atomic_load(&l->is_ending))
        usleep(1000);
    liar_print(fd, "HTTP/1.1 200 OK\r\nETag: e\r\n%sContent-Length: 0\r\n\r\n",
               number ? "" : "x-amz-checksum-crc32: AAAAAA==\r\n");
    return true;
}

static void nothing_is_taken_for_written_by_a_crc_that_nobody_compared(void **state)
{
    WORLD_CLEANUP w = world_of(forgets_checksums);
    ASKED_CLEANUP *first = asked_new(ORIGIN_PUT, "a");
    ASKED_CLEANUP *second = asked_new(ORIGIN_PUT, "b");
    ASKED_CLEANUP *third = asked_new(ORIGIN_PUT, "c");
    assert_int_equal(asked_of(w.origin, first), 0);
    origin_start(w.origin, &second->request);
    origin_start(w.origin, &third->request);
    asked_wait(second, 1);
    assert_int_equal(second->answer.error, 0);
    asked_wait(third, 1);
    assert_int_equal(third->answer.error, 0);
    assert_int_equal(liar_requests(w.liar), 5);
    for (int i = 3; i < 5; i++)
        assert_true(liar_has_field(w.liar->heads[i], "content-md5:"));
}

static bool deletes_without_conditions(struct liar *l, int fd, const char *head, uint32_t number)
{
    if (strncmp(head, "DELETE", 6) == 0 && strcasestr(head, "\r\nif-match:"))
        say_error(fd, 501, "", "NotImplemented", false);
    else
        liar_print(fd, "HTTP/1.1 200 OK\r\nETag: e\r\nContent-Length: 0\r\n\r\n");
    return true;
}

static void a_server_without_conditional_deletes_is_still_asked_to_replace_nothing(void **state)
{
    WORLD_CLEANUP w = world_of(deletes_without_conditions);
    ASKED_CLEANUP *gone = asked_new(ORIGIN_DELETE, "k");
    gone->request.if_match = TEXT("\"e\"");
    assert_int_equal(asked_of(w.origin, gone), 0);
    assert_int_equal(liar_requests(w.liar), 2);
    ASKED_CLEANUP *made = asked_new(ORIGIN_PUT, "k");
    made->request.is_new = true;
    assert_int_equal(asked_of(w.origin, made), 0);
    assert_true(liar_has_field(w.liar->heads[2], "if-none-match:*"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_signed_and_paths_are_the_buckets),
        cmocka_unit_test(anonymous_requests_are_not_signed),
        cmocka_unit_test(the_butlers_variables_say_endpoint_and_keys),
        cmocka_unit_test(identities_tell_endpoints_and_buckets_apart_and_hold_no_credentials),
        cmocka_unit_test(what_can_not_be_a_bucket_is_refused),
        cmocka_unit_test(signed_urls_name_the_object),
        cmocka_unit_test(signed_urls_say_that_who_made_them_pays_where_that_is_said),
        cmocka_unit_test(a_listing_is_asked_for_by_pages),
        cmocka_unit_test(half_a_page_is_asked_for_again_and_no_entry_comes_twice),
        cmocka_unit_test(what_there_was_at_a_time_is_asked_for_by_pages_of_versions),
        cmocka_unit_test(a_version_is_asked_for_by_its_id),
        cmocka_unit_test(a_code_is_an_errno_with_the_servers_reason),
        cmocka_unit_test(refused_keys_make_no_storm),
        cmocka_unit_test(a_head_that_is_refused_says_why_too_and_makes_no_storm),
        cmocka_unit_test(keys_that_are_good_again_are_found_out),
        cmocka_unit_test(another_region_is_learnt_once),
        cmocka_unit_test(a_server_without_conditional_deletes_is_still_asked_to_replace_nothing),
        cmocka_unit_test(what_is_signed_goes_to_no_other_server),
        cmocka_unit_test(the_servers_clock_is_taken_once),
        cmocka_unit_test(a_clock_that_runs_wild_ends_in_an_error),
        cmocka_unit_test(slow_down_and_timeouts_are_tried_again),
        cmocka_unit_test(an_instances_credentials_are_fetched_once_for_all),
        cmocka_unit_test(a_containers_credentials_are_fetched_with_its_token),
        cmocka_unit_test(who_waits_for_credentials_may_be_cancelled_and_has_a_deadline),
        cmocka_unit_test(a_200_that_does_not_say_what_was_done_is_asked_again),
        cmocka_unit_test(nothing_is_taken_for_written_by_a_crc_that_nobody_compared),
    };
    return run_group(tests);
}
