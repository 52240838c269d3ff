// SPDX-License-Identifier: BSD-3-Clause
// s3: what s3.c, s3_open.c and s3_judge.c share; others use origin.h.
#pragma once
#include "cache/origin/credentials.h"
#include "cache/origin/wire.h"

#define S3_REGION_BYTES 40
#define S3_PLACES_MAX 8

// Where a bucket is reached: made anew when the server says it is in another region. Never changed, and kept as long as
// the origin.
struct s3_place {
    struct s3_place *next;
    struct endpoint *endpoint;
    char *base;       // "https://host[:port]"
    char *host;       // as the Host field has it
    char *path;       // what stands before "/key", quoted: "", "/bucket", "/gateway/bucket"
    char region[S3_REGION_BYTES];
};

enum s3_checksums { S3_CHECKSUMS_UNKNOWN, S3_CHECKSUMS_KNOWN, S3_CHECKSUMS_NOT_KNOWN };

struct s3_origin {
    struct origin origin;
    // Does not change.
    struct fetchers *fetchers;
    char *bucket;
    char *endpoint_url;        // without keys; NULL: AWS's own of the region
    bool has_host_style;
    struct endpoint_options way;
    char *ca_bundle, *proxy;   // the way's
    struct credentials *credentials;
    bool pays_requests;
    char *storage_class, *encryption, *encryption_key; // or NULL
    // Whether the server checks and gives back CRCs: learnt from the first object it took.
    _Atomic(enum s3_checksums) checksums;
    atomic_bool has_no_conditions; // it refuses If-None-Match with what it is given
    atomic_bool has_no_conditional_deletes; // likewise If-Match with what it is to delete
    // Under the lock.
    struct lock lock;
    struct s3_place *place;    // the present one; the others behind it
    uint32_t place_count;
    int64_t skew_s;            // the server's clock minus ours
    int64_t skew_at_ns;        // when it was taken; 0: never
    struct credential_set *refused; // a reference: the server said no to it
    char *refused_why;
    int64_t refused_until_ns;
    uint32_t refusals;         // in a row
    struct credential_set *derived; // a reference: whose key `derived_key` is
    int64_t derived_day;
    char derived_region[S3_REGION_BYTES];
    uint8_t derived_key[32];
};

static inline struct s3_origin *s3_of(struct origin *o)
{
    return (struct s3_origin *)o;
}

// What one request remembers between its attempts.
struct s3_state {
    struct s3_origin *s3;
    struct credentials_waiter waiter;
    struct credential_set *set;    // of the last attempt: a reference
    const struct s3_place *place;  // likewise
    int64_t signed_unix_s;         // likewise: the time it said
    bool has_sent_crc32, has_sent_md5; // likewise: of a PUT's body
    uint32_t renewals;             // times that it was sent again with other credentials
};

extern const struct origin_ops s3_ops;
enum fetch_verdict s3_judge(struct origin_flight *flight, const struct fetch_outcome *outcome);
void s3_succeeded(struct origin_flight *flight);
// s3_write.c: of what changes something, the query; the method and what is sent; and the fields that go with it, which
// are signed ("name:value\0" each).
void s3_write_query(const struct origin_request *r, struct buffer *query);
void s3_write_ask(struct s3_origin *s3, struct origin_flight *flight, struct fetch_message *m, struct buffer *fields);
enum fetch_verdict s3_wrote(struct origin_flight *flight, const struct fetch_head *head);
void s3_append_parameter(struct buffer *query, const char *name, struct text value);
// The place for a region, made if it isn't there, and the present one from now on. -EINVAL, -EMFILE.
int s3_move(struct s3_origin *s3, const char *region, struct s3_place **ret_place);
