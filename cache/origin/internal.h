// SPDX-License-Identifier: BSD-3-Clause
// origin/internal: what the kinds of origins share; others use origin.h.
//   origin.c   the door: opening by scheme, starting and ending requests, answers
//   wire.c     what all that speak HTTP have in common: ranges, validators, resuming, redirects
//   http.c     web servers        s3.c (and s3_*.c)  buckets
//   file.c     this machine       memory.c           tests
//   listing.c  a page of keys     wait.c             requests for those who may wait
#pragma once
#include <stdatomic.h>

#include "base/lock.h"
#include "cache/fetcher.h"
#include "cache/fetcher_url.h"
#include "cache/origin/origin.h"

struct listing;
struct origin_flight;

struct origin_ops {
    bool can_list;
    bool can_write;
    bool has_versions; // it may know them; whether a bucket keeps any is asked
    bool can_restore;
    bool is_local;
    bool tells_checksums;                            // of whole objects, where the server has them
    void (*close)(struct origin *o);                 // frees it
    // Origins without a wire: some of the work, as fetch_ops.run.
    int (*run)(struct origin_flight *flight);
    // Origins with one: what to ask, from `given_bytes` on; as fetch_ops.prepare.
    int (*ask)(struct origin_flight *flight, struct fetch_message *m);
    // What a status other than 2xx means: its reasons in the server's language, or fetch_judge's.
    enum fetch_verdict (*judge)(struct origin_flight *flight, const struct fetch_outcome *outcome);
    // LIST: bytes of an answer's body (NULL: its end). Below 0: it is not well-formed.
    int (*feed)(struct origin_flight *flight, const void *data, size_t size_bytes);
    void (*succeeded)(struct origin_flight *flight);    // an answer with 2xx; or NULL
    // What a 2xx means that answers what changes something; its body is flight->body. Where can_write.
    enum fetch_verdict (*wrote)(struct origin_flight *flight, const struct fetch_head *head);
    int (*presign)(struct origin *o, enum origin_method method, struct text key, struct text version,
                   int64_t expires_ns, struct buffer *url, char **ret_why); // or NULL
    void (*status)(struct origin *o, struct doc *map);  // or NULL
};

struct origin {
    const struct origin_ops *ops;
    _Atomic(struct endpoint *) endpoint; // s3's may move to another region
    atomic_uint silences;                // HEADs in a row that said no checksum, or were not made for that
    char *identity;
    _Atomic uint32_t references;
};

// One request under way.
struct origin_flight {
    struct fetch fetch;
    struct origin *origin;           // a reference
    struct origin_request *request;
    struct origin_answer answer;     // as far as known; texts are in `texts`
    struct buffer texts;             // what answer's texts point into: answer_set only
    uint64_t given_bytes;            // to the sink
    bool has_begun;                  // the request's begin was called
    int own_error;                   // of the request's callbacks
    // wire
    uint64_t skip_bytes;             // of this attempt's answer, in front of what is wanted
    bool is_enough;                  // the rest of this attempt's answer isn't wanted
    bool asks_head;                  // a GET of an empty object: its attributes are asked for
    bool asks_why;                   // a HEAD that was refused, which has no body: the reason is asked for by a GET
    struct buffer redirect;          // where to, after a redirect; empty: the origin itself
    uint32_t redirects;
    struct listing *listing;         // LIST, UPLOADS
    struct buffer body;              // of an answer to what changes something; its beginning
    // what the kind needs to remember
    void *state;
    void (*state_free)(void *state);
};

static inline bool verb_lists(enum origin_verb verb)
{
    return verb == ORIGIN_LIST || verb == ORIGIN_UPLOADS;
}

// Takes room at the origin.
static inline bool verb_stores(enum origin_verb verb)
{
    return verb == ORIGIN_PUT || (verb >= ORIGIN_COPY && verb <= ORIGIN_FINISH);
}

static inline bool verb_changes(enum origin_verb verb)
{
    return verb > ORIGIN_LIST && verb != ORIGIN_UPLOADS;
}

#define flight_of(f) ((struct origin_flight *)((char *)(f) - offsetof(struct origin_flight, fetch)))

// ---- for the kinds

// Fills what all have. Takes the identity.
void origin_init(struct origin *o, const struct origin_ops *ops, struct endpoint *e, char *identity);
void origin_release(struct origin *o); // what origin_init took
// Sets *ret_why when there is a ret_why; returns `error`.
int origin_fail(int error, char **ret_why, const char *format, ...) __attribute__((format(printf, 3, 4)));
// Copies `value` into the flight and lets *place be it; cut off at 2048 bytes.
// An ETag as RFC 9110 (8.8.3) writes it, appended, in quotes: some servers leave them out in listings, some
// everywhere, and one thing must have one validator. Empty stays empty.
void etag_append(struct buffer *to, struct text etag);
void answer_set(struct origin_flight *flight, struct text *place, struct text value);
void answer_forget(struct origin_flight *flight);
// What can't be asked for at all. Below 0: the fetch's error, with its why.
int flight_check(struct origin_flight *flight);
// The object is there, and answer says what it is: compared with what is asked for, told to the request once.
// Below 0: the fetch's error, with its why.
int flight_begin(struct origin_flight *flight);
// As fetch_ops.sink: gives bytes on.
int flight_sink(struct origin_flight *flight, const void *data, size_t size_bytes);
void flight_done(struct fetch *f); // as fetch_ops.done

struct origin_kind {
    const char *scheme;
    int (*open)(struct fetchers *fetchers, const struct url *url, const struct origin_options *options,
                struct origin **ret_origin, struct buffer *key, char **ret_why);
};
int s3_open(struct fetchers *fetchers, const struct url *url, const struct origin_options *options,
            struct origin **ret_origin, struct buffer *key, char **ret_why);
int http_open(struct fetchers *fetchers, const struct url *url, const struct origin_options *options,
              struct origin **ret_origin, struct buffer *key, char **ret_why);
int file_open(struct fetchers *fetchers, const struct url *url, const struct origin_options *options,
              struct origin **ret_origin, struct buffer *key, char **ret_why);
int memory_open(struct fetchers *fetchers, const struct url *url, const struct origin_options *options,
                struct origin **ret_origin, struct buffer *key, char **ret_why);

extern const struct fetch_ops wire_ops;
extern const struct fetch_ops plain_ops;
