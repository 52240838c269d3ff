// SPDX-License-Identifier: BSD-3-Clause
// s3: buckets: requests made and signed, listings read.
// 1. Each attempt is signed anew: by the credentials, the region and the clock that are known then.
// 2. What the server refused for who asks is not asked again at once, whoever wants it: one tries, after a pause that
//    doubles (s3_judge.c), so that wrong keys make no storm.
#include "cache/origin/s3.h"

#include <errno.h>

#include "base/clock.h"
#include "base/log.h"
#include "cache/origin/listing.h"
#include "cache/origin/sigv4.h"

#define DAY_S 86400

// ---- a request's state

static void s3_state_free(void *state)
{
    struct s3_state *s = state;
    credentials_cancel(s->s3->credentials, &s->waiter);
    credential_set_unref(s->set);
    free(s);
}

static struct s3_state *s3_state(struct origin_flight *flight)
{
    if (flight->state)
        return flight->state;
    struct s3_state *s = new_struct(struct s3_state);
    s->s3 = s3_of(flight->origin);
    s->waiter.fetch = &flight->fetch;
    flight->state = s;
    flight->state_free = s3_state_free;
    return s;
}

// ---- signing

// Under the lock. The key of a day is derived once.
static void s3_derive(struct s3_origin *s3, struct credential_set *set, const struct s3_place *place, int64_t unix_s,
                      uint8_t ret_key[SIGV4_KEY_BYTES])
{
    int64_t day = unix_s / DAY_S;
    if (s3->derived != set || s3->derived_day != day || strcmp(s3->derived_region, place->region) != 0) {
        credential_set_unref(s3->derived);
        s3->derived = credential_set_ref(set);
        s3->derived_day = day;
        memcpy(s3->derived_region, place->region, sizeof(place->region));
        sigv4_derive(text_of(set->secret), unix_s, text_of(place->region), TEXT("s3"), s3->derived_key);
    }
    memcpy(ret_key, s3->derived_key, SIGV4_KEY_BYTES);
}

// Everything about now that a signature needs.
static const struct s3_place *s3_scope(struct s3_origin *s3, struct credential_set *set, struct sigv4_scope *ret_scope,
                                       int64_t *ret_unix_s)
{
    lock_scope(&s3->lock);
    const struct s3_place *place = s3->place;
    *ret_unix_s = clock_unix_ns() / NS_PER_S + s3->skew_s;
    *ret_scope = (struct sigv4_scope){
        .key_id = text_of(set->key_id),
        .token = text_of(set->token),
        .region = text_of(place->region),
        .service = TEXT("s3"),
    };
    if (set->key_id[0])
        s3_derive(s3, set, place, *ret_unix_s, ret_scope->key);
    return place;
}

// ---- asking

void s3_append_parameter(struct buffer *query, const char *name, struct text value)
{
    if (value.size_bytes == 0)
        return;
    buffer_format(query, "%s%s=", query->size_bytes ? "&" : "", name);
    url_quote(value, false, query);
}

// Of keys' versions. In order of the names, as a signature wants them.
static void s3_query_past(const struct origin_request *r, struct text max, struct buffer *query)
{
    struct listing_past from = {0};
    listing_read_past(r->token, &from);
    s3_append_parameter(query, "delimiter", r->delimiter);
    s3_append_parameter(query, "encoding-type", TEXT("url"));
    s3_append_parameter(query, "key-marker", from.key);
    s3_append_parameter(query, "max-keys", max);
    s3_append_parameter(query, "prefix", r->key);
    s3_append_parameter(query, "version-id-marker", from.version);
    buffer_append_string(query, "&versions=");
}

// Likewise.
static void s3_query(const struct origin_request *r, struct buffer *query)
{
    BUFFER_CLEANUP max = {0};
    if (r->verb != ORIGIN_LIST) {
        s3_write_query(r, query);
        s3_append_parameter(query, "versionId", r->version); // of what is read, or restored
        return;
    }
    buffer_format(&max, "%u", r->max ? r->max : ORIGIN_LIST_MAX);
    if (r->at_unix_ns) {
        s3_query_past(r, buffer_text(&max), query);
        return;
    }
    s3_append_parameter(query, "continuation-token", r->token);
    s3_append_parameter(query, "delimiter", r->delimiter);
    s3_append_parameter(query, "encoding-type", TEXT("url"));
    s3_append_parameter(query, "list-type", TEXT("2"));
    s3_append_parameter(query, "max-keys", buffer_text(&max));
    s3_append_parameter(query, "prefix", r->key);
    s3_append_parameter(query, "start-after", r->token.size_bytes ? TEXT("") : r->start_after);
}

static void s3_path(const struct s3_place *place, const struct origin_request *r, struct buffer *path)
{
    buffer_append_string(path, place->path);
    if (verb_lists(r->verb) && path->size_bytes)
        return; // the bucket itself
    buffer_append_byte(path, '/');
    if (!verb_lists(r->verb))
        url_quote(r->key, true, path);
}

static const char *method_name(const struct fetch_message *m)
{
    static const char *const names[] = {
        [FETCH_METHOD_GET] = "GET",   [FETCH_METHOD_HEAD] = "HEAD",     [FETCH_METHOD_PUT] = "PUT",
        [FETCH_METHOD_POST] = "POST", [FETCH_METHOD_DELETE] = "DELETE",
    };
    return names[m->method];
}

// Fields that are signed: "name:value\0" each.
static void s3_fields(struct s3_origin *s3, struct origin_flight *flight, struct fetch_message *m, struct buffer *fields)
{
    static const char mode[] = "x-amz-checksum-mode:ENABLED", payer[] = "x-amz-request-payer:requester";
    if (flight->request->verb == ORIGIN_HEAD || (flight->request->verb == ORIGIN_GET && flight->request->offset == 0))
        buffer_append(fields, mode, sizeof(mode));
    if (s3->pays_requests)
        buffer_append(fields, payer, sizeof(payer));
    if (verb_changes(flight->request->verb))
        s3_write_ask(s3, flight, m, fields);
    buffer_append_text(&m->fields, buffer_text(fields));
}

// What was handed to be sent is checked by the server by its checksum; hashing it once more for the signature costs more
// than all else.
static struct text payload_of(const struct fetch_message *m)
{
    return m->payload.size_bytes || m->body.size_bytes ? SIGV4_UNSIGNED_PAYLOAD : SIGV4_NO_PAYLOAD;
}

static int s3_refused(struct s3_origin *s3, struct origin_flight *flight, const struct credential_set *set)
{
    lock_scope(&s3->lock);
    int64_t now_ns = clock_ns();
    if (s3->refused != set || !s3->refused)
        return 0;
    if (now_ns >= s3->refused_until_ns) {
        s3->refused_until_ns = now_ns + NS_PER_S; // this one tries; the next, if it doesn't come back
        return 0;
    }
    fetch_fail(&flight->fetch, -EACCES, "%s (not asked again for a moment)", s3->refused_why);
    return -EACCES;
}

static int s3_take_credentials(struct s3_origin *s3, struct origin_flight *flight, struct s3_state *s)
{
    struct credential_set *set = NULL;
    cleanup(cleanup_free) char *why = NULL;
    int error = credentials_get(s3->credentials, &s->waiter, &set, &why);
    if (error == -EINPROGRESS)
        return error;
    if (error) {
        fetch_fail(&flight->fetch, -EACCES, "%s: %s", flight->origin->identity, why);
        return -EACCES;
    }
    credential_set_unref(s->set);
    s->set = set;
    return s3_refused(s3, flight, set);
}

static int s3_ask(struct origin_flight *flight, struct fetch_message *m)
{
    struct s3_origin *s3 = s3_of(flight->origin);
    struct s3_state *s = s3_state(flight);
    int error = s3_take_credentials(s3, flight, s);
    if (error)
        return error;
    struct sigv4_scope scope;
    BUFFER_CLEANUP path = {0};
    BUFFER_CLEANUP query = {0};
    BUFFER_CLEANUP more = {0};
    s->place = s3_scope(s3, s->set, &scope, &s->signed_unix_s);
    wire_ask(flight, m);
    s3_path(s->place, flight->request, &path);
    s3_query(flight->request, &query);
    buffer_append_string(&m->url, s->place->base);
    buffer_append_text(&m->url, buffer_text(&path));
    if (query.size_bytes) {
        buffer_append_byte(&m->url, '?');
        buffer_append_text(&m->url, buffer_text(&query));
    }
    s3_fields(s3, flight, m, &more);
    if (!s->set->key_id[0])
        return 0;
    const struct sigv4_request request = {
        .method = method_name(m),
        .host = text_of(s->place->host),
        .path = buffer_text(&path),
        .query = buffer_text(&query),
        .payload = payload_of(m),
        .fields = buffer_text(&more),
        .unix_s = s->signed_unix_s,
    };
    sigv4_sign(&scope, &request, &m->fields);
    return 0;
}

// ---- listings

static int s3_feed(struct origin_flight *flight, const void *data, size_t size_bytes)
{
    const char *why = NULL;
    int error = data ? listing_feed(flight->listing, data, size_bytes, &why) : listing_end(flight->listing, &why);
    if (error) {
        fetch_fail(&flight->fetch, error, "the listing that %s gives can't be taken: %s",
                   endpoint_name(flight->fetch.endpoint).data, why);
        return error;
    }
    if (!data)
        answer_set(flight, &flight->answer.token, listing_token(flight->listing));
    return 0;
}

// ---- signed URLs

static int s3_presign(struct origin *o, enum origin_method method, struct text key, struct text version,
                      int64_t expires_ns, struct buffer *url, char **ret_why)
{
    struct s3_origin *s3 = s3_of(o);
    cleanup(cleanup_credential_set_unref) struct credential_set *set = NULL;
    struct sigv4_scope scope;
    int64_t unix_s;
    int error = credentials_get(s3->credentials, NULL, &set, ret_why);
    if (error)
        return error == -EINPROGRESS ? origin_fail(-EAGAIN, ret_why, "credentials are being fetched") : error;
    if (!set->key_id[0])
        return origin_fail(-EACCES, ret_why, "%s is used without credentials, so nothing can be signed", o->identity);
    const struct s3_place *place = s3_scope(s3, set, &scope, &unix_s);
    BUFFER_CLEANUP path = {0};
    BUFFER_CLEANUP query = {0};
    buffer_append_string(&path, place->path);
    buffer_append_byte(&path, '/');
    url_quote(key, true, &path);
    s3_append_parameter(&query, "versionId", version);
    if (s3->pays_requests) // whoever uses it sends no fields of ours
        s3_append_parameter(&query, "x-amz-request-payer", TEXT("requester"));
    const struct sigv4_request request = {
        .method = method == ORIGIN_METHOD_PUT ? "PUT" : "GET",
        .host = text_of(place->host),
        .path = buffer_text(&path),
        .query = buffer_text(&query),
        .unix_s = unix_s,
    };
    buffer_append_string(url, place->base);
    buffer_append_text(url, buffer_text(&path));
    buffer_append_byte(url, '?');
    sigv4_presign(&scope, &request, expires_ns / NS_PER_S, url);
    return 0;
}

// ---- its life

static void s3_places_free(struct s3_place *place)
{
    while (place) {
        struct s3_place *next = place->next;
        free(place->base);
        free(place->host);
        free(place->path);
        free(place);
        place = next;
    }
}

static void s3_close(struct origin *o)
{
    struct s3_origin *s3 = s3_of(o);
    credentials_close(s3->credentials);
    credential_set_unref(s3->refused);
    credential_set_unref(s3->derived);
    explicit_bzero(s3->derived_key, sizeof(s3->derived_key));
    s3_places_free(s3->place);
    free(s3->refused_why);
    free(s3->bucket);
    free(s3->endpoint_url);
    free(s3->ca_bundle);
    free(s3->proxy);
    free(s3->storage_class);
    free(s3->encryption);
    free(s3->encryption_key);
    lock_release_memory(&s3->lock);
    origin_release(o);
    free(s3);
}

static void s3_status(struct origin *o, struct doc *map)
{
    struct s3_origin *s3 = s3_of(o);
    credentials_status(s3->credentials, map);
    lock_scope(&s3->lock);
    doc_put_text(map, "region", s3->place->region);
    if (s3->skew_s)
        doc_put_integer(map, "clock_differs_s", s3->skew_s);
    if (s3->refused_why)
        doc_put_text(map, "refused", s3->refused_why);
}

const struct origin_ops s3_ops = {
    .can_list = true,
    .tells_checksums = true,
    .can_write = true,
    .has_versions = true,
    .can_restore = true,
    .is_local = false,
    .close = s3_close,
    .ask = s3_ask,
    .judge = s3_judge,
    .succeeded = s3_succeeded,
    .wrote = s3_wrote,
    .feed = s3_feed,
    .presign = s3_presign,
    .status = s3_status,
};
