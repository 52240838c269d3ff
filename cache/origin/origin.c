// SPDX-License-Identifier: BSD-3-Clause
// origin: the door: which kind a URI is of, a request's way from its start to its answer.
// 1. A request has one flight from origin_start until its `done`; the flight holds the origin.
// 2. Errors from below become the few of origin.h in one place (answer_error).
#include "cache/origin/origin.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>

#include "base/clock.h"
#include "base/log.h"
#include "cache/origin/internal.h"
#include "cache/origin/listing.h"

#define ANSWER_TEXT_BYTES_MAX 2048
#define SILENCES_MAX 4    // then a server is taken to have no checksums
#define SILENCES_EACH 256 // and is asked once in so many times

// ---- opening

static const struct origin_kind origin_kinds[] = {
    {"s3", s3_open},     {"http", http_open}, {"https", http_open},   {"dav", http_open},
    {"davs", http_open}, {"file", file_open}, {"memory", memory_open},
};

int origin_fail(int error, char **ret_why, const char *format, ...)
{
    if (!ret_why)
        return error;
    BUFFER_CLEANUP why = {0};
    va_list args;
    va_start(args, format);
    buffer_vformat(&why, format, args);
    va_end(args);
    *ret_why = buffer_steal(&why);
    return error;
}

void origin_init(struct origin *o, const struct origin_ops *ops, struct endpoint *e, char *identity)
{
    o->ops = ops;
    atomic_init(&o->endpoint, e);
    o->identity = identity;
    atomic_init(&o->references, 1);
    atomic_init(&o->silences, 0);
}

void origin_release(struct origin *o)
{
    free(o->identity);
}

static const struct origin_kind *kind_of(struct text scheme)
{
    for (size_t i = 0; i < sizeof(origin_kinds) / sizeof(*origin_kinds); i++) {
        const char *known = origin_kinds[i].scheme;
        if (strlen(known) == scheme.size_bytes && strncasecmp(known, scheme.data, scheme.size_bytes) == 0)
            return &origin_kinds[i];
    }
    return NULL;
}

int origin_open(struct fetchers *fetchers, const char *uri, const struct origin_options *options,
                struct origin **ret_origin, char **ret_key, char **ret_why)
{
    struct url url;
    if (uri[0] == '/')
        url = (struct url){.scheme = TEXT("file"), .path = text_of(uri)};
    else if (url_parse(text_of(uri), &url) < 0)
        return origin_fail(-EINVAL, ret_why, "this is no URI of the form scheme://host/path, and no absolute path");
    const struct origin_kind *kind = kind_of(url.scheme);
    if (kind && url.has_odd_port && kind->open != s3_open)
        return origin_fail(-EINVAL, ret_why, "the port is no number");
    if (!kind)
        return origin_fail(-EOPNOTSUPP, ret_why, "%.*s:// is no kind of place that can be read",
                           (int)url.scheme.size_bytes, url.scheme.data);
    BUFFER_CLEANUP key = {0};
    int error = kind->open(fetchers, &url, options, ret_origin, &key, ret_why);
    if (error)
        return error;
    check(strlen((*ret_origin)->identity) <= 512);
    if (ret_key)
        *ret_key = buffer_steal(&key);
    return 0;
}

struct origin *origin_ref(struct origin *o)
{
    atomic_fetch_add_explicit(&o->references, 1, memory_order_relaxed);
    return o;
}

void origin_unref(struct origin *o)
{
    if (!o || atomic_fetch_sub_explicit(&o->references, 1, memory_order_acq_rel) > 1)
        return;
    o->ops->close(o);
}

struct text origin_identity(const struct origin *o)
{
    return text_of(o->identity);
}

bool origin_can_list(const struct origin *o)
{
    return o->ops->can_list;
}

bool origin_can_write(const struct origin *o)
{
    return o->ops->can_write;
}

bool origin_can_restore(const struct origin *o)
{
    return o->ops->can_restore;
}

bool origin_is_local(const struct origin *o)
{
    return o->ops->is_local;
}

const struct endpoint *origin_endpoint(const struct origin *o)
{
    return atomic_load_explicit(&o->endpoint, memory_order_acquire);
}

bool origin_may_tell_checksum(struct origin *o)
{
    if (!o->ops->tells_checksums)
        return false;
    unsigned silences = atomic_fetch_add(&o->silences, 1); // until an answer says otherwise
    return silences < SILENCES_MAX || silences % SILENCES_EACH == 0;
}

int64_t origin_latency_ns(const struct origin *o)
{
    return endpoint_latency_ns(origin_endpoint(o));
}

// ---- one request

static void flight_free(struct origin_flight *flight)
{
    if (flight->state_free)
        flight->state_free(flight->state);
    listing_free(flight->listing);
    buffer_release(&flight->texts);
    buffer_release(&flight->redirect);
    buffer_release(&flight->body);
    fetch_release(&flight->fetch);
    origin_unref(flight->origin);
    free(flight);
}

static void request_check(const struct origin_request *r)
{
    check(r->done && r->priority < ORIGIN_PRIORITIES && r->deadline_ns > 0);
    switch (r->verb) {
    case ORIGIN_GET:
        check(r->sink && r->size_bytes > 0);
        break;
    case ORIGIN_HEAD:
        break;
    case ORIGIN_LIST:
    case ORIGIN_UPLOADS:
        check(r->each && r->max <= ORIGIN_LIST_MAX && !(r->at_unix_ns && r->start_after.size_bytes));
        break;
    case ORIGIN_PUT:
    case ORIGIN_DELETE:
    case ORIGIN_BEGIN:
    case ORIGIN_RESTORE:
        break;
    case ORIGIN_COPY:
        check(r->source.size_bytes);
        break;
    case ORIGIN_FINISH:
        check(r->parts);
        __attribute__((fallthrough));
    case ORIGIN_PART:
        check(r->part > 0 && r->part <= ORIGIN_PARTS_MAX);
        __attribute__((fallthrough));
    case ORIGIN_FORGET:
    case ORIGIN_PARTS:
        check(r->upload.size_bytes);
        break;
    }
}

void origin_start(struct origin *o, struct origin_request *r)
{
    request_check(r);
    struct origin_flight *flight = new_struct(struct origin_flight);
    flight->origin = origin_ref(o);
    flight->request = r;
    answer_forget(flight);
    r->flight = flight;
    flight->fetch.ops = o->ops->run ? &plain_ops : &wire_ops;
    flight->fetch.endpoint = atomic_load_explicit(&o->endpoint, memory_order_acquire);
    flight->fetch.priority = (uint8_t)r->priority;
    flight->fetch.deadline_ns = r->deadline_ns;
    flight->fetch.is_patient = verb_changes(r->verb);
    fetch_start(&flight->fetch);
}

void origin_cancel(struct origin_request *r)
{
    fetch_cancel(&r->flight->fetch);
}

void origin_give_up(struct origin_request *r)
{
    fetch_give_up(&r->flight->fetch);
}

void origin_raise(struct origin_request *r, enum origin_priority priority)
{
    fetch_raise(&r->flight->fetch, (uint8_t)priority);
}

void origin_unpause(struct origin_request *r)
{
    fetch_wake(&r->flight->fetch);
}

// ---- its answer

void etag_append(struct buffer *to, struct text etag)
{
    bool is_bare = etag.size_bytes && !memchr(etag.data, '"', etag.size_bytes);
    if (is_bare)
        buffer_append_byte(to, '"');
    buffer_append_text(to, etag);
    if (is_bare)
        buffer_append_byte(to, '"');
}

void answer_set(struct origin_flight *flight, struct text *place, struct text value)
{
    // The buffer moves when it grows, so every text in it is found again by its offset.
    struct text *all[] = {&flight->answer.validator,    &flight->answer.version_id, &flight->answer.storage_class,
                          &flight->answer.content_type, &flight->answer.checksum,   &flight->answer.metadata,
                          &flight->answer.token};
    size_t offsets[sizeof(all) / sizeof(*all)];
    bool is_bounded = place == &flight->answer.metadata || place == &flight->answer.token; // by who sets it
    if (!is_bounded && value.size_bytes > ANSWER_TEXT_BYTES_MAX)
        value.size_bytes = ANSWER_TEXT_BYTES_MAX;
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
        offsets[i] = all[i]->size_bytes ? (size_t)(all[i]->data - flight->texts.data) : 0;
    size_t start = flight->texts.size_bytes;
    buffer_append_text(&flight->texts, value);
    buffer_append_byte(&flight->texts, 0);
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
        if (all[i]->size_bytes)
            all[i]->data = flight->texts.data + offsets[i];
    }
    *place = (struct text){flight->texts.data + start, value.size_bytes};
}

void answer_forget(struct origin_flight *flight)
{
    struct text none = TEXT("");
    buffer_clear(&flight->texts);
    flight->answer = (struct origin_answer){
        .size_bytes = ORIGIN_SIZE_UNKNOWN,
        .mtime_unix_ns = ORIGIN_TIME_UNKNOWN,
        .server_unix_ns = ORIGIN_TIME_UNKNOWN,
        .restored_until_unix_ns = ORIGIN_TIME_UNKNOWN,
        .validator = none,
        .version_id = none,
        .storage_class = none,
        .content_type = none,
        .checksum = none,
        .metadata = none,
        .token = none,
    };
}

int flight_begin(struct origin_flight *flight)
{
    struct origin_request *r = flight->request;
    struct origin_answer *a = &flight->answer;
    if (r->if_match.size_bytes && a->validator.size_bytes && !text_equal(r->if_match, a->validator)) {
        fetch_fail(&flight->fetch, -ESTALE, "the object was replaced");
        return -ESTALE;
    }
    if (flight->has_begun || r->verb != ORIGIN_GET)
        return 0;
    flight->has_begun = true;
    int error = r->begin ? r->begin(r, a) : 0;
    if (error < 0) {
        flight->own_error = error;
        fetch_fail(&flight->fetch, error, "given up by who asked");
    }
    return error < 0 ? error : 0;
}

int flight_sink(struct origin_flight *flight, const void *data, size_t size_bytes)
{
    int taken = flight->request->sink(flight->request, data, size_bytes);
    if (taken == ORIGIN_PAUSE) {
        flight->fetch.wake_ns = clock_ns() + FETCH_PAUSE_NS; // of a plain one; else the fetcher's
        return FETCH_PAUSE;
    }
    if (taken == ORIGIN_ENOUGH) {
        flight->is_enough = true;
        return -ECANCELED;
    }
    if (taken < 0) {
        flight->own_error = taken;
        fetch_fail(&flight->fetch, taken, "given up by who asked");
        return taken;
    }
    flight->given_bytes += size_bytes;
    return 0;
}

static int answer_error(const struct origin_flight *flight)
{
    int error = flight->fetch.error;
    if (flight->own_error)
        return flight->own_error;
    if (flight->is_enough && error == -ECANCELED)
        return 0;
    switch (error) {
    case 0:
    case -ENOENT:
    case -EACCES:
    case -ESTALE:
    case -ETIMEDOUT:
    case -ECANCELED:
    case -EOPNOTSUPP:
    case -EBUSY:
    case -ERANGE:
    case -EDQUOT:
    case -ENOSPC:
        return error;
    default:
        return -EREMOTEIO;
    }
}

void flight_done(struct fetch *f)
{
    struct origin_flight *flight = flight_of(f);
    struct origin_request *r = flight->request;
    struct origin_answer *a = &flight->answer;
    if (!f->error && verb_lists(r->verb) && flight->listing)
        flight->own_error = listing_give(flight->listing, r);
    a->error = answer_error(flight);
    a->was_repeated = f->is_repeated;
    a->is_unanswered = a->error && f->is_unanswered;
    a->why = a->error ? (f->why.size_bytes ? f->why.data : "no reason is known") : NULL;
    r->done(r, a); // until it returns, origin_cancel may come from elsewhere and find the flight
    flight_free(flight);
}

int flight_check(struct origin_flight *flight)
{
    const struct origin_request *r = flight->request;
    if (r->key.size_bytes > ORIGIN_KEY_BYTES_MAX) {
        fetch_fail(&flight->fetch, -ENOENT, "a key of %zu bytes can't be asked for", r->key.size_bytes);
        return -ENOENT;
    }
    if (verb_lists(r->verb) && !flight->origin->ops->can_list) {
        fetch_fail(&flight->fetch, -EOPNOTSUPP, "%s has no listings", flight->origin->identity);
        return -EOPNOTSUPP;
    }
    if ((r->at_unix_ns || r->version.size_bytes) && !flight->origin->ops->has_versions) {
        fetch_fail(&flight->fetch, -EOPNOTSUPP, "%s has no versions", flight->origin->identity);
        return -EOPNOTSUPP;
    }
    bool may = r->verb == ORIGIN_RESTORE ? flight->origin->ops->can_restore : flight->origin->ops->can_write;
    if (r->verb > ORIGIN_LIST && !may) {
        fetch_fail(&flight->fetch, -EOPNOTSUPP, "%s can't be written to", flight->origin->identity);
        return -EOPNOTSUPP;
    }
    return 0;
}

static int flight_run(struct fetch *f)
{
    struct origin_flight *flight = flight_of(f);
    int error = flight_check(flight);
    return error ? error : flight->origin->ops->run(flight);
}

const struct fetch_ops plain_ops = {.run = flight_run, .done = flight_done};

// ---- others

int origin_presign(struct origin *o, enum origin_method method, struct text key, struct text version,
                   int64_t expires_ns, struct buffer *url, char **ret_why)
{
    if (!o->ops->presign)
        return origin_fail(-EOPNOTSUPP, ret_why, "%s has no signed URLs", o->identity);
    if (expires_ns < NS_PER_S || expires_ns > 7 * 24 * 3600 * NS_PER_S)
        return origin_fail(-EINVAL, ret_why, "a signed URL is good for 1 s to 7 days");
    return o->ops->presign(o, method, key, version, expires_ns, url, ret_why);
}

void origin_status(struct origin *o, struct doc *map)
{
    doc_put_text(map, "origin", o->identity);
    doc_put_text(map, "endpoint", endpoint_name(atomic_load(&o->endpoint)).data);
    if (o->ops->status)
        o->ops->status(o, map);
}
