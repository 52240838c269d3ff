// SPDX-License-Identifier: BSD-3-Clause
// s3_judge: what S3's errors mean.
// 1. A region is learnt from who knows it (the server), and only a region: no other host gets what is signed.
// 2. The server's clock is taken when it differs by more than it takes, once a minute at most.
// 3. Keys that are refused are first renewed, where they can be; then nobody asks for a while.
#include <errno.h>

#include "base/clock.h"
#include "base/log.h"
#include "cache/origin/listing.h"
#include "cache/origin/s3.h"
#include "cache/origin/s3_restore.h"

#define SKEW_BOUND_S 300            // 15 min is what S3 takes
#define SKEW_AGAIN_NS (60 * NS_PER_S)
#define REFUSED_FIRST_NS (1 * NS_PER_S)
#define REFUSED_MAX_NS (60 * NS_PER_S)
#define RENEWALS_MAX 2

// ---- its reasons

static bool is_code(const struct listing_error *e, const char *const *codes)
{
    for (; *codes; codes++) {
        if (strcmp(e->code, *codes) == 0)
            return true;
    }
    return false;
}

static bool is_of_keys(int status, const struct listing_error *e)
{
    static const char *const codes[] = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken",
                                        "TokenRefreshRequired", "InvalidSecurity", "AccountProblem", "NotSignedUp",
                                        "ExpiredTokenException", NULL};
    return is_code(e, codes) || status == 401;
}

static bool is_of_speed(const struct listing_error *e)
{
    static const char *const codes[] = {"SlowDown", "RequestLimitExceeded", "Throttling", "ThrottlingException",
                                        "TooManyRequestsException", "ServiceUnavailable", NULL};
    return is_code(e, codes);
}

// Somebody else is just changing the same object.
static bool is_of_conflict(const struct listing_error *e)
{
    static const char *const codes[] = {"ConditionalRequestConflict", "OperationAborted", NULL};
    return is_code(e, codes);
}

// What has no room is told as a disk tells it. 0: it isn't that.
static int error_of_room(enum origin_verb verb, int status, const struct listing_error *e)
{
    static const char *const codes_of_quota[] = {"QuotaExceeded", "XMinioAdminBucketQuotaExceeded", NULL};
    static const char *const codes_of_space[] = {"XMinioStorageFull", "InsufficientStorage", NULL};
    if (!verb_stores(verb))
        return 0;
    if (is_code(e, codes_of_quota))
        return -EDQUOT;
    return is_code(e, codes_of_space) || status == 507 ? -ENOSPC : 0;
}

static void s3_reason(const struct listing_error *e, struct buffer *to)
{
    if (e->code[0])
        buffer_format(to, "%s%s%s", e->code, e->message[0] ? ": " : "", e->message);
}

// ---- another region

static bool is_region(struct text t)
{
    if (t.size_bytes == 0 || t.size_bytes >= S3_REGION_BYTES)
        return false;
    for (size_t i = 0; i < t.size_bytes; i++) {
        char c = t.data[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'))
            return false;
    }
    return true;
}

// Whether the answer says that the bucket is in another region than the one that was signed for.
static bool s3_other_region(const struct s3_state *s, const struct fetch_outcome *o, const struct listing_error *e,
                            char ret_region[S3_REGION_BYTES])
{
    int status = o->head->status;
    bool may_be = status == 301 || status == 307 || status == 400 ||
                  strcmp(e->code, "AuthorizationHeaderMalformed") == 0;
    struct text region = fetch_head_get(o->head, "x-amz-bucket-region");
    if (region.size_bytes == 0)
        region = text_of(e->region);
    if (!may_be || !is_region(region) || text_equal(region, text_of(s->place->region)))
        return false;
    memcpy(ret_region, region.data, region.size_bytes);
    ret_region[region.size_bytes] = 0;
    return true;
}

static enum fetch_verdict s3_go_elsewhere(struct origin_flight *flight, struct s3_origin *s3, const char *region)
{
    struct s3_place *place;
    if (s3_move(s3, region, &place) < 0) {
        fetch_fail(&flight->fetch, -EREMOTEIO, "%s is in region %s, which can't be reached", flight->origin->identity,
                   region);
        return FETCH_END;
    }
    flight->fetch.elsewhere = place->endpoint;
    return FETCH_AGAIN;
}

// ---- the clock

// false: it is right, or was put right a moment ago.
static bool s3_take_clock(struct s3_origin *s3, const struct s3_state *s, const struct fetch_outcome *o)
{
    int64_t date = fetch_head_date(o->head, "date");
    int64_t now_ns = clock_ns();
    if (date == INT64_MIN || (date - s->signed_unix_s < SKEW_BOUND_S && s->signed_unix_s - date < SKEW_BOUND_S))
        return false;
    lock_scope(&s3->lock);
    if (s3->skew_at_ns && now_ns - s3->skew_at_ns < SKEW_AGAIN_NS) {
        // By another request, perhaps since this one was signed.
        int64_t time = clock_unix_ns() / NS_PER_S + s3->skew_s;
        return date - time < SKEW_BOUND_S && time - date < SKEW_BOUND_S;
    }
    s3->skew_s = date - clock_unix_ns() / NS_PER_S;
    s3->skew_at_ns = now_ns;
    log_warn("the clock of %s differs from this one by %lld s; its requests go by its own", s3->origin.identity,
             (long long)s3->skew_s);
    return true;
}

// ---- keys

static void s3_refuse(struct s3_origin *s3, const struct s3_state *s, const char *why)
{
    lock_scope(&s3->lock);
    int64_t now_ns = clock_ns();
    if (s3->refused != s->set) {
        credential_set_unref(s3->refused);
        s3->refused = credential_set_ref(s->set);
        s3->refusals = 0;
        log_warn("%s refuses the credentials: %s", s3->origin.identity, why);
    }
    free(s3->refused_why);
    s3->refused_why = memory_copy(why, strlen(why));
    int64_t pause = REFUSED_FIRST_NS << (s3->refusals < 6 ? s3->refusals : 6);
    if (now_ns + pause / 2 > s3->refused_until_ns) { // not for each that was under way
        s3->refusals++;
        s3->refused_until_ns = now_ns + (pause < REFUSED_MAX_NS ? pause : REFUSED_MAX_NS);
    }
}

void s3_succeeded(struct origin_flight *flight)
{
    struct s3_origin *s3 = s3_of(flight->origin);
    lock_scope(&s3->lock);
    if (!s3->refused)
        return;
    credential_set_unref(s3->refused);
    s3->refused = NULL;
    s3->refusals = 0;
    free(s3->refused_why);
    s3->refused_why = NULL;
}

static enum fetch_verdict s3_judge_keys(struct origin_flight *flight, struct s3_origin *s3, struct s3_state *s,
                                        int status, const char *reason)
{
    if (s->set->key_id[0] && s->renewals < RENEWALS_MAX && credentials_refused(s3->credentials, s->set)) {
        s->renewals++;
        return FETCH_AGAIN;
    }
    fetch_fail(&flight->fetch, -EACCES, "%s refuses the credentials (%d): %s",
               endpoint_name(flight->fetch.endpoint).data, status, reason[0] ? reason : "no reason is given");
    s3_refuse(s3, s, flight->fetch.why.data);
    return FETCH_END;
}

// ---- all of it

// Of what a server doesn't know the condition may be it. Then without: what is there is looked for before, as far as it can
// be. false: it was without.
static bool s3_does_without(struct s3_origin *s3, const struct origin_request *r)
{
    bool is_delete = r->verb == ORIGIN_DELETE;
    bool had_one = is_delete ? r->if_match.size_bytes > 0 : r->is_new;
    return had_one && !atomic_exchange(is_delete ? &s3->has_no_conditional_deletes : &s3->has_no_conditions, true);
}

static enum fetch_verdict s3_judge_code(struct origin_flight *flight, const struct fetch_outcome *o,
                                        const struct listing_error *e, const char *reason)
{
    struct s3_origin *s3 = s3_of(flight->origin);
    struct s3_state *s = flight->state;
    int status = o->head->status;
    if (is_of_keys(status, e))
        return s3_judge_keys(flight, s3, s, status, reason);
    if (flight->request->verb == ORIGIN_RESTORE && s3_restore_judge(flight, e->code, reason))
        return FETCH_END;
    if (strcmp(e->code, "InvalidObjectState") == 0) {
        flight->answer.is_archived = true;
        fetch_fail(&flight->fetch, -EREMOTEIO, "the object is archived and must be restored first: %s", reason);
        return FETCH_END;
    }
    if (status == 501 && s3_does_without(s3, flight->request))
        return FETCH_AGAIN;
    int error = error_of_room(flight->request->verb, status, e);
    if (error) {
        fetch_fail(&flight->fetch, error, "%s has no room for it (%d): %s", endpoint_name(flight->fetch.endpoint).data,
                   status, reason[0] ? reason : "no reason is given");
        return FETCH_END;
    }
    if (is_of_speed(e) || is_of_conflict(e) || strcmp(e->code, "RequestTimeout") == 0) {
        fetch_fail(&flight->fetch, -EREMOTEIO, "%s answers %d: %s", endpoint_name(flight->fetch.endpoint).data,
                   status, reason);
        return is_of_speed(e) ? FETCH_SLOWER : is_of_conflict(e) ? FETCH_LATER : FETCH_RETRY;
    }
    if (status / 100 == 3) {
        fetch_fail(&flight->fetch, -EREMOTEIO, "%s redirects (%d) elsewhere, where nothing signed is sent: %s",
                   endpoint_name(flight->fetch.endpoint).data, status, reason);
        return FETCH_END;
    }
    return wire_judge_status(flight, o, reason);
}

enum fetch_verdict s3_judge(struct origin_flight *flight, const struct fetch_outcome *o)
{
    struct s3_origin *s3 = s3_of(flight->origin);
    struct s3_state *s = flight->state;
    struct listing_error e;
    char region[S3_REGION_BYTES];
    BUFFER_CLEANUP reason = {0};
    listing_read_error(o->body, &e);
    s3_reason(&e, &reason);
    buffer_append_byte(&reason, 0);
    if (s3_other_region(s, o, &e, region))
        return s3_go_elsewhere(flight, s3, region);
    if (o->head->status == 403 && s3_take_clock(s3, s, o))
        return FETCH_AGAIN;
    bool is_mute = o->body.size_bytes == 0 && o->head->status == 403;
    if (is_mute && flight->request->verb == ORIGIN_HEAD && !flight->asks_why) {
        flight->asks_why = true;
        return FETCH_AGAIN;
    }
    return s3_judge_code(flight, o, &e, reason.data);
}
