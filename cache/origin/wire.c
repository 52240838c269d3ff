// SPDX-License-Identifier: BSD-3-Clause
// wire: what all origins that speak HTTP have in common.
// 1. A server is believed about an object once, at the first answer; a later one that says otherwise (another ETag,
//    another size) is another version's, and ends the request (-ESTALE).
// 2. Bytes are taken only where they were asked for: a range that isn't the one asked for is refused, what is too much
//    is cut off, what is too little is asked for again from where it broke off.
// 3. An answer without a range is used as far as it reaches without reading much that isn't wanted.
#include "cache/origin/wire.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "cache/fetcher_head.h"
#include "cache/origin/listing.h"
#include "cache/origin/s3_restore.h"

#define WIRE_SKIP_BYTES_MAX ((uint64_t)8 << 20) // read and thrown away, where a server knows no ranges
#define WIRE_REDIRECTS_MAX 5

static const char *host_of(const struct origin_flight *flight)
{
    return endpoint_name(flight->fetch.endpoint).data;
}

// ---- asking

// Strong: what If-Match compares. A weak ETag never matches there.
static bool is_strong(struct text validator)
{
    return validator.size_bytes && validator.data[0] == '"';
}

// Whether a text can stand in a field: nothing that ends it.
static bool is_field_value(struct text t)
{
    for (size_t i = 0; i < t.size_bytes; i++) {
        if ((unsigned char)t.data[i] < ' ' || t.data[i] == 0x7f)
            return false;
    }
    return true;
}

static void append_field(struct fetch_message *m, const char *name, struct text value)
{
    if (value.size_bytes == 0 || !is_field_value(value))
        return;
    buffer_format(&m->fields, "%s: ", name);
    buffer_append_text(&m->fields, value);
    buffer_append_byte(&m->fields, 0);
}

void wire_ask(struct origin_flight *flight, struct fetch_message *m)
{
    const struct origin_request *r = flight->request;
    bool is_get = r->verb == ORIGIN_GET && !flight->asks_head;
    bool is_head = !flight->asks_why && (r->verb == ORIGIN_HEAD || flight->asks_head);
    m->method = is_head ? FETCH_METHOD_HEAD : FETCH_METHOD_GET;
    if (r->verb != ORIGIN_GET && r->verb != ORIGIN_HEAD)
        return;
    m->expected_bytes = is_get ? r->size_bytes - flight->given_bytes : 0;
    if (flight->asks_why) {
        append_field(m, "Range", TEXT("bytes=0-0"));
        return;
    }
    uint64_t from = r->offset + flight->given_bytes;
    if (is_get && (from > 0 || !(r->is_all || r->size_bytes == ORIGIN_TO_THE_END))) { // else all of it: no range
        buffer_format(&m->fields, "Range: bytes=%llu-", (unsigned long long)from);
        uint64_t end;
        if (!__builtin_add_overflow(r->offset, r->size_bytes, &end))
            buffer_format(&m->fields, "%llu", (unsigned long long)(end - 1));
        buffer_append_byte(&m->fields, 0);
    }
    struct text validator = flight->has_begun ? flight->answer.validator : r->if_match;
    if (is_strong(validator))
        append_field(m, "If-Match", validator);
    if (!flight->has_begun)
        append_field(m, "If-None-Match", r->if_none_match);
}

static int wire_prepare(struct fetch *f, struct fetch_message *m)
{
    struct origin_flight *flight = flight_of(f);
    const struct origin_request *r = flight->request;
    int error = flight_check(flight);
    if (error)
        return error;
    if (verb_lists(r->verb)) {
        listing_free(flight->listing);
        flight->listing = listing_new(r->key, r->token);
        if (r->at_unix_ns)
            listing_set_past(flight->listing, r->at_unix_ns);
    }
    buffer_clear(&flight->body);
    flight->skip_bytes = 0;
    flight->is_enough = false;
    return flight->origin->ops->ask(flight, m);
}

// ---- what an answer says of the object

static void wire_read_metadata(struct origin_flight *flight, const struct fetch_head *h)
{
    static const char prefix[] = "x-amz-meta-";
    BUFFER_CLEANUP all = {0};
    struct text name, value;
    for (size_t at = 0; fetch_head_next(h, &at, &name, &value);) {
        if (!text_begins(name, TEXT(prefix)))
            continue;
        buffer_append_text(&all, text_slice(name, sizeof(prefix) - 1, name.size_bytes));
        buffer_append_byte(&all, 0);
        buffer_append_text(&all, value);
        buffer_append_byte(&all, 0);
    }
    answer_set(flight, &flight->answer.metadata, buffer_text(&all));
}

// A checksum of the whole object, not of its parts' checksums ("…-3"), nor of a part that is just the range asked for.
// Those that cost the least come first.
static void wire_read_checksum(struct origin_flight *flight, const struct fetch_head *h)
{
    static const char *const kinds[] = {"crc32", "crc32c", "crc64nvme", "sha1", "sha256"};
    bool is_part = flight->request->verb == ORIGIN_GET &&
                   fetch_head_integer(h, "content-length") != flight->answer.size_bytes;
    if (is_part || text_equal(fetch_head_get(h, "x-amz-checksum-type"), TEXT("COMPOSITE")))
        return;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
        BUFFER_CLEANUP text = {0};
        buffer_format(&text, "x-amz-checksum-%s", kinds[i]);
        struct text value = fetch_head_get(h, text.data);
        if (value.size_bytes == 0 || value.size_bytes > 64 || memchr(value.data, '-', value.size_bytes))
            continue;
        buffer_clear(&text);
        buffer_format(&text, "%s:%.*s", kinds[i], (int)value.size_bytes, value.data);
        answer_set(flight, &flight->answer.checksum, buffer_text(&text));
        atomic_store(&flight->origin->silences, 0);
        return;
    }
}

static void wire_etag(const struct fetch_head *h, struct buffer *to)
{
    etag_append(to, fetch_head_get(h, "etag"));
}

static void wire_read_attributes(struct origin_flight *flight, const struct fetch_head *h, int64_t size_bytes)
{
    struct origin_answer *a = &flight->answer;
    BUFFER_CLEANUP etag = {0};
    int64_t modified = fetch_head_date(h, "last-modified");
    answer_forget(flight);
    a->status = h->status;
    a->size_bytes = size_bytes < 0 ? ORIGIN_SIZE_UNKNOWN : size_bytes;
    a->mtime_unix_ns = modified == INT64_MIN || modified > INT64_MAX / NS_PER_S || modified < INT64_MIN / NS_PER_S
                           ? ORIGIN_TIME_UNKNOWN
                           : modified * NS_PER_S;
    wire_etag(h, &etag);
    answer_set(flight, &a->validator, buffer_text(&etag));
    answer_set(flight, &a->version_id, fetch_head_get(h, "x-amz-version-id"));
    answer_set(flight, &a->storage_class, fetch_head_get(h, "x-amz-storage-class"));
    answer_set(flight, &a->content_type, fetch_head_get(h, "content-type"));
    wire_read_checksum(flight, h);
    a->nearline = s3_restore_read(a->storage_class, fetch_head_get(h, "x-amz-archive-status"),
                                  fetch_head_get(h, "x-amz-restore"), &a->restored_until_unix_ns);
    if (flight->request->verb == ORIGIN_HEAD)
        wire_read_metadata(flight, h);
}

static int wire_refuse(struct origin_flight *flight, int error, const char *why)
{
    fetch_fail(&flight->fetch, error, "%s %s", host_of(flight), why);
    return error;
}

// A later answer of the same request must be of what the first one was of.
static int wire_compare(struct origin_flight *flight, const struct fetch_head *h, int64_t size_bytes)
{
    const struct origin_answer *a = &flight->answer;
    BUFFER_CLEANUP etag = {0};
    wire_etag(h, &etag);
    struct text validator = buffer_text(&etag);
    int64_t modified = fetch_head_date(h, "last-modified");
    bool is_same = text_equal(validator, a->validator) && (size_bytes < 0 || size_bytes == a->size_bytes);
    if (is_same && validator.size_bytes == 0 && modified != INT64_MIN)
        is_same = modified * NS_PER_S == a->mtime_unix_ns;
    return is_same ? 0 : wire_refuse(flight, -ESTALE, "has another version of the object by now");
}

// Where the body's first byte is, and how large the object is.
static int wire_read_range(struct origin_flight *flight, const struct fetch_head *h, int64_t *ret_size_bytes)
{
    const struct origin_request *r = flight->request;
    uint64_t from = r->offset + flight->given_bytes;
    struct fetch_range range;
    bool is_range = h->status == 206 || fetch_head_get(h, "content-range").size_bytes; // rclone says 200 to both
    if (!is_range) {
        *ret_size_bytes = fetch_head_integer(h, "content-length");
        if (r->verb == ORIGIN_HEAD || flight->asks_head || from == 0)
            return 0;
        if (*ret_size_bytes >= 0 && (uint64_t)*ret_size_bytes <= from)
            return wire_refuse(flight, -ERANGE, "has an object that ends before that");
        if (from > WIRE_SKIP_BYTES_MAX)
            return wire_refuse(flight, -EREMOTEIO, "doesn't give ranges of objects");
        flight->skip_bytes = from;
        return 0;
    }
    if (fetch_head_range(h, &range) < 0 || range.first < 0 || (uint64_t)range.first != from)
        return wire_refuse(flight, -EREMOTEIO, "gives another range than the one that was asked for");
    *ret_size_bytes = range.size_bytes;
    return 0;
}

static int wire_begin(struct fetch *f, const struct fetch_head *h)
{
    struct origin_flight *flight = flight_of(f);
    int64_t size_bytes = -1;
    if (verb_lists(flight->request->verb)) {
        flight->answer.status = h->status;
        return 0;
    }
    if (verb_changes(flight->request->verb)) {
        wire_read_attributes(flight, h, -1);
        int64_t date = fetch_head_date(h, "date");
        flight->answer.server_unix_ns = date == INT64_MIN ? ORIGIN_TIME_UNKNOWN : date * NS_PER_S;
        return 0;
    }
    if (flight->asks_why)
        return wire_refuse(flight, -EACCES, "refuses to say what the object is, but not its bytes");
    int error = wire_read_range(flight, h, &size_bytes);
    if (error)
        return error;
    if (flight->has_begun)
        return wire_compare(flight, h, size_bytes);
    wire_read_attributes(flight, h, size_bytes);
    if (flight->asks_head && size_bytes != 0)
        return wire_refuse(flight, -EREMOTEIO, "gives no bytes of an object that has some");
    return flight_begin(flight);
}

// ---- bytes

// How many are still wanted; UINT64_MAX: until its end, wherever that is.
static uint64_t wire_wanted(const struct origin_flight *flight)
{
    const struct origin_request *r = flight->request;
    uint64_t wanted = r->size_bytes;
    if (flight->answer.size_bytes >= 0) {
        uint64_t size = (uint64_t)flight->answer.size_bytes;
        uint64_t left = size > r->offset ? size - r->offset : 0;
        wanted = wanted < left ? wanted : left;
    }
    return wanted == UINT64_MAX ? wanted : wanted - flight->given_bytes;
}

static int wire_take(struct origin_flight *flight, const char *data, size_t size_bytes)
{
    uint64_t skip = flight->skip_bytes < size_bytes ? flight->skip_bytes : size_bytes;
    uint64_t wanted = wire_wanted(flight), there = size_bytes - skip;
    size_t taken_bytes = (size_t)(there < wanted ? there : wanted);
    if (taken_bytes > 0) {
        int taken = flight_sink(flight, data + skip, taken_bytes);
        if (taken != 0)
            return taken;
    }
    flight->skip_bytes -= skip;
    if (there <= wanted)
        return 0;
    flight->is_enough = true; // the rest is not read
    return -ECANCELED;
}

static int wire_sink(struct fetch *f, const void *data, size_t size_bytes)
{
    struct origin_flight *flight = flight_of(f);
    if (verb_lists(flight->request->verb)) {
        int error = flight->origin->ops->feed(flight, data, size_bytes);
        return error < 0 ? error : 0;
    }
    if (verb_changes(flight->request->verb)) {
        size_t room = FETCH_BODY_BYTES_MAX - flight->body.size_bytes;
        buffer_append(&flight->body, data, size_bytes < room ? size_bytes : room);
        return 0;
    }
    return wire_take(flight, data, size_bytes);
}

// ---- how it ended

static enum fetch_verdict judge_list_end(struct origin_flight *flight)
{
    int error = flight->origin->ops->feed(flight, NULL, 0);
    if (!error)
        return FETCH_END;
    return error == -EBADMSG ? FETCH_RETRY : FETCH_END; // half of one may be whole the next time
}

static enum fetch_verdict judge_good(struct origin_flight *flight, const struct fetch_head *h)
{
    if (verb_lists(flight->request->verb))
        return judge_list_end(flight);
    if (verb_changes(flight->request->verb))
        return flight->origin->ops->wrote(flight, h);
    if (flight->request->verb == ORIGIN_HEAD)
        return FETCH_END;
    uint64_t wanted = wire_wanted(flight);
    if (flight->asks_head || wanted == 0 || flight->answer.size_bytes < 0)
        return FETCH_END;
    wire_refuse(flight, -EREMOTEIO, "gives fewer bytes than it says");
    return FETCH_RETRY;
}

static enum fetch_verdict judge_own(struct origin_flight *flight, const struct fetch_outcome *o)
{
    struct fetch *f = &flight->fetch;
    f->error = flight->is_enough ? 0 : o->error;
    if (verb_lists(flight->request->verb) && o->error == -EBADMSG)
        return FETCH_RETRY;
    return FETCH_END;
}

// A range that isn't there. From the start on there is none only in an empty object: what is it otherwise?
static enum fetch_verdict judge_no_range(struct origin_flight *flight)
{
    const struct origin_request *r = flight->request;
    if (r->verb == ORIGIN_GET && r->offset == 0 && flight->given_bytes == 0 && !flight->asks_head) {
        flight->asks_head = true;
        return FETCH_AGAIN;
    }
    if (flight->given_bytes)
        wire_refuse(flight, -ESTALE, "has a shorter version of the object by now");
    else
        wire_refuse(flight, -ERANGE, "has an object that ends before that");
    return FETCH_END;
}

enum fetch_verdict wire_judge_status(struct origin_flight *flight, const struct fetch_outcome *o, const char *reason)
{
    struct fetch *f = &flight->fetch;
    int status = o->head->status;
    const char *says = reason && reason[0] ? reason : "no reason is given";
    switch (status) {
    case 401:
    case 403:
        fetch_fail(f, -EACCES, "%s refuses it (%d): %s", host_of(flight), status, says);
        return FETCH_END;
    case 404:
    case 410:
        fetch_fail(f, -ENOENT, "%s has no such object (%d): %s", host_of(flight), status, says);
        return FETCH_END;
    case 412:
        fetch_fail(f, -ESTALE, "%s has another version of the object (412)", host_of(flight));
        return FETCH_END;
    default:
        fetch_fail(f, -EREMOTEIO, "%s answers %d: %s", host_of(flight), status, says);
        return fetch_judge(f, o);
    }
}

static enum fetch_verdict wire_judge(struct fetch *f, const struct fetch_outcome *o)
{
    struct origin_flight *flight = flight_of(f);
    int status = o->head->status;
    if (o->is_own)
        return judge_own(flight, o);
    if (o->error)
        return fetch_judge(f, o);
    flight->answer.status = status;
    if (status / 100 == 2) {
        if (flight->origin->ops->succeeded)
            flight->origin->ops->succeeded(flight);
        return judge_good(flight, o->head);
    }
    if (status == 304) {
        wire_read_attributes(flight, o->head, -1);
        flight->answer.is_unchanged = true;
        return FETCH_END;
    }
    if (status == 416)
        return judge_no_range(flight);
    return flight->origin->ops->judge(flight, o);
}

// ---- redirects

// "https://h/x" + "/y" or "https://g/y"; what is relative otherwise isn't followed.
static int redirect_url(struct text from, struct text location, struct buffer *to)
{
    struct url base, url;
    if (text_begins(location, TEXT("/")) && !text_begins(location, TEXT("//"))) {
        if (url_parse(from, &base) < 0)
            return -EINVAL;
        buffer_append(to, from.data, (size_t)(base.host.data - from.data));
        url_append_host(&base, to);
        buffer_append_text(to, location);
        return 0;
    }
    if (url_parse(location, &url) < 0 || url.user.size_bytes)
        return -EINVAL;
    buffer_append_text(to, location);
    return 0;
}

enum fetch_verdict wire_redirect(struct origin_flight *flight, const struct fetch_outcome *o,
                                 const struct endpoint_options *options, struct text from)
{
    struct text location = fetch_head_get(o->head, "location");
    BUFFER_CLEANUP url = {0};
    struct endpoint *e;
    bool was_secure = text_begins(from, TEXT("https:"));
    if (++flight->redirects > WIRE_REDIRECTS_MAX) {
        wire_refuse(flight, -EREMOTEIO, "redirects in circles");
    } else if (!is_field_value(location) || redirect_url(from, location, &url) < 0 ||
               endpoint_get(flight->fetch.all, url.data, options, &e) < 0) {
        wire_refuse(flight, -EREMOTEIO, "redirects to where one can't go");
    } else if (was_secure && !text_begins(endpoint_name(e), TEXT("https:"))) {
        wire_refuse(flight, -EREMOTEIO, "redirects away from TLS, which isn't followed");
    } else {
        buffer_clear(&flight->redirect);
        buffer_append_text(&flight->redirect, buffer_text(&url));
        flight->fetch.elsewhere = e;
        return FETCH_AGAIN;
    }
    return FETCH_END;
}

const struct fetch_ops wire_ops = {
    .prepare = wire_prepare,
    .begin = wire_begin,
    .sink = wire_sink,
    .judge = wire_judge,
    .done = flight_done,
};
