// SPDX-License-Identifier: BSD-3-Clause
// Nearline objects of buckets: what heads say of them, how they are asked for, what servers answer.
#include "cache/origin/s3_restore.h"

#include "tests/unit/cache/liar.h"

// ---- x-amz-restore

#define CHRISTMAS (INT64_C(1356048000) * NS_PER_S) // 21 Dec 2012

static void a_restore_is_read_as_servers_say_it(void **state)
{
    static const struct {
        const char *value;
        bool is_said, is_ongoing;
        int64_t until;
    } cases[] = {
        {"ongoing-request=\"true\"", true, true, ORIGIN_TIME_UNKNOWN},
        {"ongoing-request=\"false\", expiry-date=\"Fri, 21 Dec 2012 00:00:00 GMT\"", true, false, CHRISTMAS},
        {"expiry-date=\"Fri, 21 Dec 2012 00:00:00 GMT\",ongoing-request=\"false\"", true, false, CHRISTMAS},
        {"ongoing-request=\"true\", expiry-date=\"Fri, 21 Dec 2012 00:00:00 GMT\"", true, true, ORIGIN_TIME_UNKNOWN},
        {"ongoing-request=\"false\"", true, false, ORIGIN_TIME_UNKNOWN},
        {"ongoing-request=\"false\", expiry-date=\"soon\"", true, false, ORIGIN_TIME_UNKNOWN},
        {"ongoing-request=\"false\", more=\"x\"", true, false, ORIGIN_TIME_UNKNOWN},
        {"", false, false, 0},
        {"true", false, false, 0},
        {"ongoing-request=true", false, false, 0},
        {"ongoing-request=\"true", false, false, 0},
        {"ongoing-request=\"maybe\"", false, false, 0},
        {"ongoing-request=", false, false, 0},
        {"=\"true\"", false, false, 0},
        {"expiry-date=\"Fri, 21 Dec 2012 00:00:00 GMT\"", false, false, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        bool is_ongoing = false;
        int64_t until = 0;
        assert_int_equal(s3_restore_parse(text_of(cases[i].value), &is_ongoing, &until), cases[i].is_said);
        assert_int_equal(is_ongoing, cases[i].is_ongoing);
        assert_int_equal(until, cases[i].until);
    }
}

static void only_what_is_known_to_be_nearline_is(void **state)
{
    static const struct {
        const char *storage_class, *status, *restore;
        enum origin_nearline is;
    } cases[] = {
        {"", "", "", ORIGIN_NEARLINE_UNSAID},
        {"STANDARD_IA", "", "", ORIGIN_NEARLINE_UNSAID},
        {"GLACIER_IR", "", "", ORIGIN_NEARLINE_UNSAID},
        {"CLOUDTIER", "", "", ORIGIN_NEARLINE_UNSAID},
        {"GLACIER", "", "", ORIGIN_NEARLINE_AWAY},
        {"DEEP_ARCHIVE", "", "", ORIGIN_NEARLINE_AWAY},
        {"INTELLIGENT_TIERING", "", "", ORIGIN_NEARLINE_UNSAID},
        {"INTELLIGENT_TIERING", "DEEP_ARCHIVE_ACCESS", "", ORIGIN_NEARLINE_AWAY},
        {"INTELLIGENT_TIERING", "ARCHIVE_ACCESS", "ongoing-request=\"true\"", ORIGIN_NEARLINE_COMING},
        {"GLACIER", "", "ongoing-request=\"true\"", ORIGIN_NEARLINE_COMING},
        {"GLACIER", "", "ongoing-request=\"false\", expiry-date=\"Fri, 21 Dec 2012 00:00:00 GMT\"", ORIGIN_NEARLINE_RESTORED},
        {"GLACIER", "", "nonsense", ORIGIN_NEARLINE_AWAY},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        int64_t until;
        assert_int_equal(s3_restore_read(text_of(cases[i].storage_class), text_of(cases[i].status),
                                         text_of(cases[i].restore), &until), cases[i].is);
        assert_true((until == CHRISTMAS) == (cases[i].is == ORIGIN_NEARLINE_RESTORED));
    }
}

static void days_are_said_where_a_copy_has_an_end(void **state)
{
    BUFFER_CLEANUP with = {0}, without = {0};
    s3_restore_body(7, ORIGIN_TIER_BULK, &with);
    s3_restore_body(0, ORIGIN_TIER_STANDARD, &without);
    assert_non_null(strstr(with.data, "<Days>7</Days><GlacierJobParameters><Tier>Bulk</Tier></GlacierJobParameters></RestoreRequest>"));
    assert_null(strstr(without.data, "Days"));
    assert_non_null(strstr(without.data, "<Tier>Standard</Tier>"));
}

// ---- what is sent, and what the answers mean

static const struct answer {
    int status;
    const char *code;
    int error;
    enum origin_nearline nearline;
} answers[] = {
    {202, NULL, 0, ORIGIN_NEARLINE_COMING},
    {200, NULL, 0, ORIGIN_NEARLINE_RESTORED},
    {409, "RestoreAlreadyInProgress", 0, ORIGIN_NEARLINE_COMING},
    {403, "InvalidObjectState", 0, ORIGIN_NEARLINE_UNSAID},
    {403, "AccessDenied", -EACCES, ORIGIN_NEARLINE_UNSAID},
    {503, "GlacierExpeditedRetrievalNotAvailable", -EREMOTEIO, ORIGIN_NEARLINE_UNSAID},
    {400, "MalformedXML", -EREMOTEIO, ORIGIN_NEARLINE_UNSAID},
    {404, "NoSuchKey", -ENOENT, ORIGIN_NEARLINE_UNSAID},
    {501, "NotImplemented", -EREMOTEIO, ORIGIN_NEARLINE_UNSAID},
};

static bool answers_in_order(struct liar *l, int fd, const char *head, uint32_t number)
{
    const struct answer *a = &answers[number % (sizeof(answers) / sizeof(*answers))];
    char body[200] = "";
    if (a->code)
        snprintf(body, sizeof(body), "<Error><Code>%s</Code><Message>because</Message></Error>", a->code);
    liar_print(fd, "HTTP/1.1 %d Answer\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s", a->status, strlen(body), body);
    return false; // the request's body was not read
}

static void each_answer_to_a_restore_means_what_it_means_and_is_asked_for_once(void **state)
{
    struct fetchers *fetchers = some_fetchers();
    struct liar *liar = liar_begin(answers_in_order);
    struct origin *o = opened(fetchers, "s3://bucket/", &(struct origin_options){
                                  .endpoint = liar->url, .access_key_id = "ID", .secret_access_key = "SECRET"});
    size_t i;
    for (i = 0; i < sizeof(answers) / sizeof(*answers); i++) {
        ASKED_CLEANUP *k = asked_new(ORIGIN_RESTORE, "a key");
        k->request.days = 3;
        assert_int_equal(asked_of(o, k), answers[i].error);
        assert_int_equal(k->answer.nearline, answers[i].nearline);
        assert_false(k->answer.is_archived);
        assert_int_equal(liar->requests, i + 1);
        if (answers[i].error)
            assert_non_null(strstr(k->why, answers[i].status == 503 ? "because" : answers[i].code));
    }
    ASKED_CLEANUP *of_version = asked_new(ORIGIN_RESTORE, "a key");
    of_version->request.version = TEXT("v1");
    assert_int_equal(asked_of(o, of_version), answers[0].error);
    assert_true(liar_has_field(liar->heads[0], "POST /bucket/a%20key?restore= HTTP/1.1\r\n"));
    assert_true(liar_has_field(liar->heads[i], "POST /bucket/a%20key?restore=&versionId=v1 HTTP/1.1\r\n"));
    assert_true(liar_has_field(liar->heads[0], "content-md5"));
    origin_unref(o);
    fetchers_free(fetchers);
    liar_end(liar);
}

static void web_servers_have_nothing_to_restore(void **state)
{
    struct fetchers *fetchers = some_fetchers();
    struct origin *o = opened(fetchers, "http://127.0.0.1:1/", NULL);
    ASKED_CLEANUP *k = asked_new(ORIGIN_RESTORE, "key");
    assert_false(origin_can_restore(o));
    assert_int_equal(asked_of(o, k), -EOPNOTSUPP);
    origin_unref(o);
    fetchers_free(fetchers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_restore_is_read_as_servers_say_it),
        cmocka_unit_test(only_what_is_known_to_be_nearline_is),
        cmocka_unit_test(days_are_said_where_a_copy_has_an_end),
        cmocka_unit_test(each_answer_to_a_restore_means_what_it_means_and_is_asked_for_once),
        cmocka_unit_test(web_servers_have_nothing_to_restore),
    };
    return run_group(tests);
}
