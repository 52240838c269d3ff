// SPDX-License-Identifier: BSD-3-Clause
// Any bytes as the head of an answer, line by line, with everything that is read of one; and as a URL.
// Found when planted: a range that ends before it begins (17 s).
#include <stdint.h>
#include <stdlib.h>

#include "base/log.h"
#include "cache/fetcher_head.h"
#include "cache/fetcher_url.h"
#include "cache/origin/s3_restore.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_restore(struct text value)
{
    bool is_ongoing = true;
    int64_t until = 1;
    enum origin_nearline said = s3_restore_read(TEXT("GLACIER"), TEXT(""), value, &until);
    check(said != ORIGIN_NEARLINE_UNSAID && (said == ORIGIN_NEARLINE_RESTORED || until == ORIGIN_TIME_UNKNOWN));
    bool is_said = s3_restore_parse(value, &is_ongoing, &until);
    check(is_said == (said != ORIGIN_NEARLINE_AWAY) && (!is_said || is_ongoing == (said == ORIGIN_NEARLINE_COMING)));
}

static void read_all(const struct fetch_head *h)
{
    struct text name, value;
    struct fetch_range range;
    size_t count = 0;
    for (size_t at = 0; fetch_head_next(h, &at, &name, &value); count++) {
        check(name.size_bytes > 0 && at <= h->fields.size_bytes);
        BUFFER_CLEANUP copy = {0};
        buffer_append_text(&copy, name);
        check(fetch_head_get(h, copy.data).data != NULL);
        check(fetch_head_integer(h, copy.data) >= -1);
        fetch_head_date(h, copy.data);
        read_restore(value);
    }
    if (fetch_head_range(h, &range) == 0 && range.first >= 0)
        check(range.last >= range.first && (range.size_bytes < 0 || range.last < range.size_bytes));
    int64_t after_ns = fetch_head_retry_after_ns(h, NS_PER_S);
    check(after_ns >= 0 && after_ns <= 24 * 3600 * NS_PER_S);
}

static void read_url(struct text given)
{
    struct url u;
    BUFFER_CLEANUP endpoint = {0};
    BUFFER_CLEANUP quoted = {0};
    BUFFER_CLEANUP back = {0};
    if (url_parse(given, &u) == 0) {
        check(u.scheme.size_bytes + u.user.size_bytes + u.host.size_bytes + u.port.size_bytes + u.path.size_bytes <=
              given.size_bytes);
        url_append_host(&u, &endpoint);
    }
    buffer_clear(&endpoint);
    if (url_endpoint(given, &endpoint) == 0) {
        BUFFER_CLEANUP again = {0};
        check(url_endpoint(buffer_text(&endpoint), &again) == 0); // an endpoint's own is itself
        check(text_equal(buffer_text(&endpoint), buffer_text(&again)));
    }
    url_quote(given, given.size_bytes % 2, &quoted);
    url_unquote(buffer_text(&quoted), &back);
    check(text_equal(given, buffer_text(&back)));
    buffer_clear(&back);
    url_unquote(given, &back);
    check(back.size_bytes <= given.size_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fetch_head h = {0};
    struct text rest = {(const char *)data, size};
    read_url(rest);
    while (rest.size_bytes) {
        const char *end = memchr(rest.data, '\n', rest.size_bytes);
        size_t line = end ? (size_t)(end - rest.data) + 1 : rest.size_bytes;
        if (fetch_head_line(&h, text_slice(rest, 0, line)) < 0)
            break;
        rest = text_slice(rest, line, rest.size_bytes);
    }
    check(h.status == 0 || (h.status >= 100 && h.status <= 999));
    check(h.fields.size_bytes <= FETCH_HEAD_BYTES_MAX);
    read_all(&h);
    buffer_release(&h.fields);
    return 0;
}
