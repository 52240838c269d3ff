// SPDX-License-Identifier: BSD-3-Clause
// Headers and URLs, from bytes.
#include "cache/fetcher_head.h"

#include "cache/fetcher_url.h"
#include "tests/unit/cache/origin.h"

static struct fetch_head head_of(const char *const *lines)
{
    struct fetch_head h = {0};
    for (; *lines; lines++)
        assert_int_equal(fetch_head_line(&h, text_of(*lines)), 0);
    return h;
}

static void assert_field(const struct fetch_head *h, const char *name, const char *value)
{
    struct text t = fetch_head_get(h, name);
    assert_int_equal(t.size_bytes, strlen(value));
    assert_memory_equal(t.data, value, t.size_bytes);
}

static void fields_are_found_whatever_their_case_and_spaces(void **state)
{
    struct fetch_head h = head_of((const char *[]){"HTTP/1.1 206 Partial Content\r\n", "ETag:\t\"a b\" \r\n",
                                                   "CONTENT-LENGTH: 12\r\n", "X-Empty:\r\n", "etag: second\r\n",
                                                   "bad name: x\r\n", ": y\r\n", "no colon\r\n", "\r\n", NULL});
    assert_int_equal(h.status, 206);
    assert_field(&h, "etag", "\"a b\"");
    assert_field(&h, "x-empty", "");
    assert_field(&h, "bad name", "");
    assert_int_equal(fetch_head_integer(&h, "content-length"), 12);
    assert_int_equal(fetch_head_integer(&h, "etag"), -1);
    assert_int_equal(fetch_head_integer(&h, "missing"), -1);
    buffer_release(&h.fields);
}

static void the_last_status_line_counts(void **state)
{
    struct fetch_head h = head_of((const char *[]){"HTTP/1.1 100 Continue\r\n", "a: 1\r\n", "\r\n", "HTTP/2 404 \r\n", NULL});
    assert_int_equal(h.status, 404);
    assert_field(&h, "a", "");
    buffer_release(&h.fields);
    assert_int_equal(fetch_head_line(&h, TEXT("HTTP/1.1 abc")), -EPROTO);
    assert_int_equal(fetch_head_line(&h, TEXT("HTTP/1.1")), -EPROTO);
    assert_int_equal(h.status, 0);
}

static void a_head_without_an_end_is_refused(void **state)
{
    struct fetch_head h = {0};
    char line[1000];
    memset(line, 'x', sizeof(line));
    line[1] = ':';
    int error = 0, count = 0;
    while (!error && count++ < 1000)
        error = fetch_head_line(&h, (struct text){line, sizeof(line)});
    assert_int_equal(error, -E2BIG);
    assert_true(h.fields.size_bytes <= FETCH_HEAD_BYTES_MAX);
    buffer_release(&h.fields);
}

static void numbers_that_do_not_fit_are_none(void **state)
{
    struct fetch_head h = head_of((const char *[]){"HTTP/1.1 200\r\n", "a: 9223372036854775807\r\n",
                                                   "b: 9223372036854775808\r\n", "c: -1\r\n", "d: 1 2\r\n", NULL});
    assert_int_equal(fetch_head_integer(&h, "a"), INT64_MAX);
    assert_int_equal(fetch_head_integer(&h, "b"), -1);
    assert_int_equal(fetch_head_integer(&h, "c"), -1);
    assert_int_equal(fetch_head_integer(&h, "d"), -1);
    buffer_release(&h.fields);
}

static void ranges_are_read_or_refused(void **state)
{
    static const struct {
        const char *value;
        int error;
        int64_t first, last, size_bytes;
    } cases[] = {
        {"bytes 0-9/100", 0, 0, 9, 100},     {"bytes 5-5/6", 0, 5, 5, 6},         {"bytes 0-9/*", 0, 0, 9, -1},
        {"bytes */100", 0, -1, -1, 100},     {"bytes 0-100/100", -EINVAL, 0, 0, 0}, {"bytes 9-0/100", -EINVAL, 0, 0, 0},
        {"bytes -9/100", -EINVAL, 0, 0, 0},  {"bytes 0-9", -EINVAL, 0, 0, 0},     {"items 0-9/100", -EINVAL, 0, 0, 0},
        {"bytes 0-9/100x", -EINVAL, 0, 0, 0}, {"", -EINVAL, 0, 0, 0},              {"bytes 0-/1", -EINVAL, 0, 0, 0},
        {"bytes 99999999999999999999-9/10", -EINVAL, 0, 0, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        BUFFER_CLEANUP line = {0};
        buffer_format(&line, "Content-Range: %s\r\n", cases[i].value);
        struct fetch_head h = head_of((const char *[]){"HTTP/1.1 206\r\n", line.data, NULL});
        struct fetch_range r;
        assert_int_equal(fetch_head_range(&h, &r), cases[i].error);
        if (!cases[i].error) {
            assert_int_equal(r.first, cases[i].first);
            assert_int_equal(r.last, cases[i].last);
            assert_int_equal(r.size_bytes, cases[i].size_bytes);
        }
        buffer_release(&h.fields);
    }
}

static void dates_are_read_or_none(void **state)
{
    assert_int_equal(http_date(TEXT("Sun, 06 Nov 1994 08:49:37 GMT")), 784111777);
    assert_int_equal(http_date(TEXT("Thu, 29 Feb 2024 23:59:60 GMT")), 1709251200);
    static const char *const none[] = {"", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 CET",
                                       "Sun, 06 Nop 1994 08:49:37 GMT", "Sun, 06 Nov 1994 25:49:37 GMT",
                                       "Sun, 00 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 GMT and more",
                                       "Sun, 06 anF 1994 08:49:37 GMT"};
    for (size_t i = 0; i < sizeof(none) / sizeof(*none); i++)
        assert_int_equal(http_date(text_of(none[i])), INT64_MIN);
}

static void retry_after_is_seconds_or_a_date(void **state)
{
    static const struct {
        const char *line;
        int64_t seconds;
    } cases[] = {{"Retry-After: 7", 7},
                 {"Retry-After: Sun, 06 Nov 1994 08:49:47 GMT", 10},
                 {"Retry-After: Sun, 06 Nov 1994 08:49:27 GMT", 0},
                 {"Retry-After: soon", 0},
                 {"Other: 7", 0},
                 {"Retry-After: 999999999999", 24 * 3600}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct fetch_head h = head_of((const char *[]){"HTTP/1.1 503", cases[i].line, NULL});
        assert_int_equal(fetch_head_retry_after_ns(&h, 784111777 * NS_PER_S), cases[i].seconds * NS_PER_S);
        buffer_release(&h.fields);
    }
}

// ---- URLs

static void assert_text(struct text t, const char *expected)
{
    assert_int_equal(t.size_bytes, strlen(expected));
    assert_memory_equal(t.data, expected, t.size_bytes);
}

static void urls_are_taken_apart(void **state)
{
    struct url u;
    assert_int_equal(url_parse(TEXT("https://me:pw@Host.example:8443/a b?c"), &u), 0);
    assert_text(u.scheme, "https");
    assert_text(u.user, "me:pw");
    assert_text(u.host, "Host.example");
    assert_text(u.port, "8443");
    assert_text(u.path, "/a b?c");
    assert_int_equal(url_parse(TEXT("s3://p@tenant:bucket/k"), &u), 0);
    assert_text(u.host, "tenant:bucket");
    assert_true(u.has_odd_port);
    assert_int_equal(url_parse(TEXT("http://[::1]:9000"), &u), 0);
    assert_text(u.host, "[::1]");
    assert_text(u.port, "9000");
    assert_text(u.path, "");
    static const char *const none[] = {"", "http", "http:/x", "://x", "1http://x", "http://a b/", "http://[::1/", "ht tp://x",
                                       "http://[::1]x/"};
    for (size_t i = 0; i < sizeof(none) / sizeof(*none); i++)
        assert_int_equal(url_parse(text_of(none[i]), &u), -EINVAL);
}

static void an_endpoint_is_scheme_host_and_port(void **state)
{
    static const struct {
        const char *url, *endpoint;
    } cases[] = {{"HTTP://Host/x", "http://host:80"}, {"https://h", "https://h:443"}, {"https://u:p@h:80?q", "https://h:80"},
                 {"http://[::1]:9000/", "http://[::1]:9000"}, {"ftp://h", NULL}, {"http:///x", NULL}, {"http://h:x", NULL}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        BUFFER_CLEANUP to = {0};
        assert_int_equal(url_endpoint(text_of(cases[i].url), &to), cases[i].endpoint ? 0 : -EINVAL);
        if (cases[i].endpoint)
            assert_string_equal(to.data, cases[i].endpoint);
    }
}

static void any_bytes_are_quoted_and_come_back(void **state)
{
    BUFFER_CLEANUP quoted = {0};
    BUFFER_CLEANUP back = {0};
    char all[256];
    for (int i = 0; i < 256; i++)
        all[i] = (char)i;
    url_quote((struct text){all, 256}, true, &quoted);
    for (size_t i = 0; i < quoted.size_bytes; i++)
        assert_true(quoted.data[i] > ' ' && quoted.data[i] < 0x7f && quoted.data[i] != '?' && quoted.data[i] != '#');
    url_unquote(buffer_text(&quoted), &back);
    assert_int_equal(back.size_bytes, 256);
    assert_memory_equal(back.data, all, 256);
    buffer_clear(&quoted);
    url_quote(TEXT("a/b c+d~e"), false, &quoted);
    assert_string_equal(quoted.data, "a%2Fb%20c%2Bd~e");
    buffer_clear(&back);
    url_unquote(TEXT("%4%zz%41%"), &back);
    assert_string_equal(back.data, "%4%zzA%");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_are_found_whatever_their_case_and_spaces),
        cmocka_unit_test(the_last_status_line_counts),
        cmocka_unit_test(a_head_without_an_end_is_refused),
        cmocka_unit_test(numbers_that_do_not_fit_are_none),
        cmocka_unit_test(ranges_are_read_or_refused),
        cmocka_unit_test(dates_are_read_or_none),
        cmocka_unit_test(retry_after_is_seconds_or_a_date),
        cmocka_unit_test(urls_are_taken_apart),
        cmocka_unit_test(an_endpoint_is_scheme_host_and_port),
        cmocka_unit_test(any_bytes_are_quoted_and_come_back),
    };
    return run_group(tests);
}
