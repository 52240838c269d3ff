// SPDX-License-Identifier: BSD-3-Clause
// s3_restore: see s3_restore.h.
// 1. Only what is said counts: a class that isn't known says nothing of where its bytes are, a header that can't be read
//    isn't there. What a GET answers is the truth, and is asked for where this doesn't suffice.
#include "cache/origin/s3_restore.h"

#include <errno.h>

#include "cache/fetcher_head.h"

// ---- x-amz-restore

static struct text skip_separators(struct text t)
{
    while (t.size_bytes && (t.data[0] == ' ' || t.data[0] == '\t' || t.data[0] == ','))
        t = text_slice(t, 1, t.size_bytes);
    return t;
}

// The next name="value" of a list; false: that was all, or the rest can't be read.
static bool next_pair(struct text *rest, struct text *ret_name, struct text *ret_value)
{
    struct text t = skip_separators(*rest);
    const char *equals = t.size_bytes ? memchr(t.data, '=', t.size_bytes) : NULL;
    if (!equals)
        return false;
    size_t name = (size_t)(equals - t.data);
    struct text value = text_slice(t, name + 1, t.size_bytes);
    if (!text_begins(value, TEXT("\"")))
        return false;
    value = text_slice(value, 1, value.size_bytes);
    const char *end = value.size_bytes ? memchr(value.data, '"', value.size_bytes) : NULL;
    if (!end)
        return false;
    size_t size = (size_t)(end - value.data);
    *ret_name = text_slice(t, 0, name);
    *ret_value = text_slice(value, 0, size);
    *rest = text_slice(value, size + 1, value.size_bytes);
    return true;
}

bool s3_restore_parse(struct text value, bool *ret_is_ongoing, int64_t *ret_until_unix_ns)
{
    struct text rest = value, name, said;
    bool has_said = false, is_ongoing = false;
    int64_t until = ORIGIN_TIME_UNKNOWN;
    while (next_pair(&rest, &name, &said)) {
        if (text_equal(name, TEXT("ongoing-request"))) {
            is_ongoing = text_equal(said, TEXT("true"));
            has_said = is_ongoing || text_equal(said, TEXT("false"));
        } else if (text_equal(name, TEXT("expiry-date"))) {
            int64_t seconds = http_date(said);
            bool fits = seconds > INT64_MIN / NS_PER_S && seconds < INT64_MAX / NS_PER_S;
            until = fits ? seconds * NS_PER_S : ORIGIN_TIME_UNKNOWN;
        }
    }
    if (!has_said)
        return false;
    *ret_is_ongoing = is_ongoing;
    *ret_until_unix_ns = is_ongoing ? ORIGIN_TIME_UNKNOWN : until;
    return true;
}

// ---- a head

// GLACIER_IR is read like any other.
static bool is_nearline_class(struct text storage_class)
{
    return text_equal(storage_class, TEXT("GLACIER")) || text_equal(storage_class, TEXT("DEEP_ARCHIVE"));
}

enum origin_nearline s3_restore_read(struct text storage_class, struct text archive_status, struct text restore,
                                     int64_t *ret_until_unix_ns)
{
    bool is_ongoing = false;
    *ret_until_unix_ns = ORIGIN_TIME_UNKNOWN;
    if (s3_restore_parse(restore, &is_ongoing, ret_until_unix_ns))
        return is_ongoing ? ORIGIN_NEARLINE_COMING : ORIGIN_NEARLINE_RESTORED;
    return archive_status.size_bytes || is_nearline_class(storage_class) ? ORIGIN_NEARLINE_AWAY : ORIGIN_NEARLINE_UNSAID;
}

// ---- asking, and the answer

void s3_restore_body(uint32_t days, enum origin_tier tier, struct buffer *to)
{
    static const char *const tiers[] = {
        [ORIGIN_TIER_STANDARD] = "Standard", [ORIGIN_TIER_BULK] = "Bulk", [ORIGIN_TIER_EXPEDITED] = "Expedited"};
    buffer_append_string(to, "<RestoreRequest xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    if (days)
        buffer_format(to, "<Days>%u</Days>", days);
    buffer_format(to, "<GlacierJobParameters><Tier>%s</Tier></GlacierJobParameters></RestoreRequest>", tiers[tier]);
}

bool s3_restore_judge(struct origin_flight *flight, const char *code, const char *reason)
{
    if (strcmp(code, "RestoreAlreadyInProgress") == 0) {
        flight->fetch.error = 0;
        flight->answer.nearline = ORIGIN_NEARLINE_COMING;
        return true;
    }
    if (strcmp(code, "InvalidObjectState") == 0) { // its class needs none
        flight->fetch.error = 0;
        flight->answer.nearline = ORIGIN_NEARLINE_UNSAID;
        return true;
    }
    if (strcmp(code, "GlacierExpeditedRetrievalNotAvailable") == 0) { // a 503 that says nothing of the endpoint's health
        fetch_fail(&flight->fetch, -EREMOTEIO, "no expedited recall at the moment: %s", reason);
        return true;
    }
    return false;
}
