// SPDX-License-Identifier: BSD-3-Clause
// origin: a place at which objects are, reached over a network or not: a bucket (s3), a web server (http),
// this machine's files (file), memory (tests). Objects have keys, sizes and validators (an ETag: another
// one, other bytes); bytes come in ranges, keys in pages.
//
//   origin_open ──▶ origin_start(request) ──▶ begin, sink …, each … ──▶ done        origin_cancel, origin_raise
//
// An origin is counted by references and may be used by any thread. A request is its owner's memory and
// stays where it is until `done` was called: exactly once for each start, never from within a call of this
// header. All callbacks of a request come from one thread at a time (a fetcher's), with no lock held; they
// may call anything here, but must not wait, nor take long: they hold up everything else on that thread.
// Retries, redirects, renewed credentials, stalled connections are dealt with beneath (fetcher.h).
//
// Nothing here reads the process's environment: what counts is handed in (origin_options). No text that
// comes out of here (identities, reasons, status) holds a credential or a signature, origin_presign's URL excepted.
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/doc.h"
#include "base/text.h"

struct fetchers; // fetcher.h
struct endpoint; // likewise
struct origin;
struct origin_flight;

// ---- origins

// NULL, 0 and false: not said; then what `environment` and the files it names say, then the kind's default.
struct origin_options {
    // NAME=value, NULL-terminated, as environ(7): looked into for AWS_*, S3_ENDPOINT_URL,
    // LSST_RESOURCES_S3_PROFILE_*, HOME. NULL: nothing is looked for, not even ~/.aws.
    const char *const *environment;
    const char *endpoint;      // s3: URL, may hold key:secret@; http: not used
    const char *region;
    const char *profile;       // s3: of the AWS files; a profile in the URI goes first
    const char *access_key_id;
    const char *secret_access_key;
    const char *session_token;
    const char *bearer_token;  // http: sent to the origin's own host only
    bool is_anonymous;         // s3: requests are not signed, no credentials are looked for
    enum { ORIGIN_STYLE_AUTO, ORIGIN_STYLE_PATH, ORIGIN_STYLE_HOST } style; // auto: host at AWS, else path
    const char *ca_bundle;     // file of certificates; else the system's
    const char *proxy;         // URL; none is taken from the environment
    uint32_t connections;      // at once to this endpoint (64); the first to name an endpoint decides
    // s3: what is said with each request, and of each object that is made.
    bool pays_requests;        // who asks pays, not the bucket's owner
    const char *storage_class;
    const char *encryption;    // at the server: "AES256", "aws:kms", ...
    const char *encryption_key; // which of its keys
};

// `s3://[profile@]bucket/key`, `http://`, `https://`, `dav://`, `davs://host[:port]/path`, `file:///path`,
// `/path`, `memory://name` (tests; empty at first, one for each open). *ret_origin is what the URI is in
// (the bucket, the server, this machine), *ret_key (may be NULL) the rest: percent-decoded, no slashes in
// front, allocated. A file's key is its path without the leading slash. Asks nothing of the origin, but
// may read configuration files: for start-up, not for workers.
// -EINVAL: not a URI that can be understood, or options that contradict; -EOPNOTSUPP: another scheme;
// -ENOENT, -EACCES: a profile or file that was named isn't there. *ret_why: allocated, for the user.
int origin_open(struct fetchers *fetchers, const char *uri, const struct origin_options *options,
                struct origin **ret_origin, char **ret_key, char **ret_why);
struct origin *origin_ref(struct origin *o);
void origin_unref(struct origin *o); // requests in work hold their own reference
define_cleanup(struct origin *, origin_unref);

// What it is, for people and for telling origins apart: "s3://host[:port]/bucket", "https://host[:port]",
// "file://". Objects of origins with the same identity and key are the same. At most 512 bytes; valid as
// long as the origin.
struct text origin_identity(const struct origin *o);
bool origin_can_list(const struct origin *o); // else LIST is -EOPNOTSUPP
bool origin_can_write(const struct origin *o); // else what changes something is
bool origin_can_restore(const struct origin *o); // objects may be nearline there; else RESTORE is -EOPNOTSUPP
bool origin_is_local(const struct origin *o); // bytes are had without a network
// Who answers for it, for telling whose trouble is whose: origins at one server have the same. Lives as long as the
// fetchers.
const struct endpoint *origin_endpoint(const struct origin *o);
// Whether a HEAD of an object is likely to say the checksum of the whole: what this server did lately. Counts.
bool origin_may_tell_checksum(struct origin *o);
// What it took lately until an answer began, at best; 0: unknown, or without a network.
int64_t origin_latency_ns(const struct origin *o);

// ---- requests

enum origin_verb {
    ORIGIN_GET,  // bytes of an object
    ORIGIN_HEAD, // what there is to know of it
    ORIGIN_LIST, // one page of keys; or, with a time, of what there was then
    // What changes something. Sent once at a time, and repeated only where that does no harm.
    ORIGIN_PUT,    // an object: `body`
    ORIGIN_DELETE, // an object; that there is none is no error
    ORIGIN_COPY,   // the object `source` becomes `key`, by the server
    // An object in parts, which appears, whole, with the last step:
    ORIGIN_BEGIN,   // the answer's token is its `upload`
    ORIGIN_PART,    // `body`
    ORIGIN_FINISH,  // of `parts`
    ORIGIN_FORGET,  // all of it. -ENOENT: there is none any more
    ORIGIN_UPLOADS, // those begun and not ended of this key and what begins with it, a page: `each`, whose
                    // validator is the `upload` and whose time is that of its beginning
    ORIGIN_PARTS,   // whether any part of `upload` was taken: then the answer has a token. Changes nothing
    ORIGIN_RESTORE, // a copy that can be read is made of an object that is nearline, for `days`. 0: that goes on, or it
                    // can be read already (the answer's `nearline` says which). Where origin_can_restore
};

// What a HEAD or GET says of where an object's bytes are.
enum origin_nearline {
    ORIGIN_NEARLINE_UNSAID,    // nothing: they can be had, or it is for a GET to find out (a class of the server's own)
    ORIGIN_NEARLINE_AWAY,      // they must be restored first
    ORIGIN_NEARLINE_COMING,    // that goes on
    ORIGIN_NEARLINE_RESTORED,  // until `restored_until_unix_ns`
};

enum origin_tier { ORIGIN_TIER_STANDARD, ORIGIN_TIER_BULK, ORIGIN_TIER_EXPEDITED }; // slower is cheaper

#define ORIGIN_PARTS_MAX 10000
#define ORIGIN_PART_BYTES_MIN ((uint64_t)5 << 20) // of all but the last

struct origin_part {
    char validator[80]; // the answer's to ORIGIN_PART
    uint32_t crc32;
};

enum origin_priority { // who comes first where an endpoint's connections don't suffice
    ORIGIN_READER_WAITS,
    ORIGIN_AHEAD,
    ORIGIN_BACKGROUND, // never takes more than half of the connections
    ORIGIN_PRIORITIES,
};

#define ORIGIN_KEY_BYTES_MAX 2048 // longer ones are not there (-ENOENT)
#define ORIGIN_SIZE_UNKNOWN INT64_C(-1)
#define ORIGIN_TIME_UNKNOWN INT64_MIN
#define ORIGIN_LIST_MAX 1000
#define ORIGIN_TO_THE_END UINT64_MAX // as size_bytes of a GET

// Texts and the answer itself are valid during the call. Texts are empty where the origin didn't say.
struct origin_answer {
    // 0, or: -ENOENT there is no such object; -EACCES the origin refuses; -ESTALE the object is not the one
    // of `if_match`, or was replaced midway; -ETIMEDOUT no answer by the deadline; -ECANCELED by
    // origin_cancel; -EOPNOTSUPP this origin can't; -EBUSY too many requests wait already; -ERANGE the object
    // ends before `offset`; -EDQUOT, -ENOSPC what stores something has no room there; what the owner's own callback returned; -EREMOTEIO for all else.
    int error;
    const char *why;           // of an error: a sentence with the server's own reason; else NULL
    bool is_archived;          // -EREMOTEIO because it must be restored first (S3 Glacier)
    bool is_unchanged;         // 0 and no bytes: it still is the one of `if_none_match`
    bool was_repeated;         // it was sent more than once: what it is told of may be its own doing
    bool is_unanswered;        // nothing was heard from the origin at all (down, unreachable, stopped)
    int status;                // HTTP's; 0: none
    int64_t size_bytes;        // of the whole object
    struct text validator;     // ETag with its quotes, also where a server leaves them out; for files
                               // made of size and times
    struct text version_id;
    int64_t mtime_unix_ns;
    struct text storage_class; // "STANDARD" is left out by S3
    struct text content_type;
    struct text checksum;      // of the whole object, as store.h has it: "crc32c:<base64>". HEAD; GET of all of it, perhaps
    int64_t server_unix_ns;    // PUT, PART and so on: the server's clock; ORIGIN_TIME_UNKNOWN
    bool keeps_checksums;      // BEGIN: parts and the whole are checked by the server by their CRC-32
    struct text metadata;      // S3's x-amz-meta-*: "name\0value\0" repeated, names in lower case; HEAD only
    struct text token;         // LIST: of the next page; empty: this was the last. BEGIN: the upload. PARTS: of one of them
    enum origin_nearline nearline;
    int64_t restored_until_unix_ns; // ORIGIN_TIME_UNKNOWN
};

struct origin_entry { // of a listing; valid during the call
    struct text key;           // or prefix, with the delimiter at its end
    bool is_prefix;
    int64_t size_bytes;        // what follows is unknown or empty for a prefix
    int64_t mtime_unix_ns;
    struct text validator;     // ETag, as in origin_answer
    struct text storage_class;
    // With a time:
    struct text version;       // its id; empty: the object as it still is
    bool is_absent;            // there was no such object then; there may be, or have been, at other times
};

// What a sink may return.
#define ORIGIN_PAUSE 1
#define ORIGIN_ENOUGH 2

struct origin_request {
    // The owner's: set before origin_start, unchanged until `done`. Texts stay the owner's.
    enum origin_verb verb;
    enum origin_priority priority;
    struct text key;           // LIST: the prefix
    struct text version;       // GET, HEAD, RESTORE: this one of the object's; empty: the present one
    uint64_t offset;           // GET
    uint64_t size_bytes;       // GET: > 0; what lies behind the object's end isn't given, and no error
    bool is_all;               // GET from 0: that is all of the object, as far as is known: it needn't be called a range
    struct text if_match;      // GET, HEAD: only of this validator; empty: any. DELETE: where the server knows that
    struct text if_none_match; // GET, HEAD: only if it is another (then and only then error 0 with bytes)
    struct text delimiter;     // LIST: "" or "/"
    struct text token;         // LIST: from here on (an answer's), or empty
    struct text start_after;   // LIST: keys greater than this only; not with a time
    // LIST: Unix time; 0: now. What there was then, by the versions that the origin keeps; -EOPNOTSUPP where it keeps none.
    // `max` counts versions: a page may hold fewer keys, and none. A prefix is given if there was anything below it, ever.
    int64_t at_unix_ns;
    // What the server takes it must have checked: by the CRC-32 given here, or, where it doesn't know that, by an MD5.
    struct text body;          // PUT, PART
    bool is_new;               // PUT, FINISH: -ESTALE where there is such an object, as far as the server can be told so
    uint32_t crc32;            // of the body; FINISH: of the whole object
    struct text source;        // COPY
    struct text source_match;  // COPY: only of this validator; empty: any. A server may not know that
    struct text upload;        // PART, FINISH, FORGET, PARTS
    uint32_t part;             // PART: from 1 to ORIGIN_PARTS_MAX
    const struct origin_part *parts; // FINISH: `part` of them, in order
    bool has_checksums;        // PART, FINISH: keeps_checksums of BEGIN's answer
    uint32_t days;             // RESTORE: how long the copy is to be kept; 0: isn't said, it stays
    enum origin_tier tier;     // RESTORE
    uint32_t max;              // LIST: entries of the page, at most ORIGIN_LIST_MAX (0)
    int64_t deadline_ns;       // monotonic; always given

    // May be NULL: the object is there and these are its size, validator and so on; before the first byte,
    // once (`begin`'s answer has no error). GET only. Below 0: the request ends with that error.
    int (*begin)(struct origin_request *r, const struct origin_answer *answer);
    // GET: bytes in order, without gaps, from `offset` on, in pieces of any size (16 KiB as a rule): all of
    // one version of the object, whatever had to be asked again. 0: taken, all of them. ORIGIN_PAUSE: none
    // taken, the same come again after origin_unpause, or a second later. ORIGIN_ENOUGH: none taken, and the request ends
    // without an error. Below 0: it ends with that error.
    int (*sink)(struct origin_request *r, const void *data, size_t size_bytes);
    // LIST: called for the entries of a page that came whole and well-formed, in the server's order (keys
    // and prefixes each rise; S3 gives the prefixes last). Below 0: as sink.
    int (*each)(struct origin_request *r, const struct origin_entry *entry);
    // The last call. The request may be freed or started again in it.
    void (*done)(struct origin_request *r, const struct origin_answer *answer);
    void *context;

    struct origin_flight *flight; // the origin's; NULL before the first start
};

// Never waits, never calls back; may be called under any lock of a lower rank than LOCK_RANK_ORIGIN.
void origin_start(struct origin *o, struct origin_request *r);
// Ends it soon, with -ECANCELED unless it ends by itself meanwhile. Between start and `done` only, from any
// thread, callbacks too. Under locks as origin_start.
void origin_cancel(struct origin_request *r);
// No further attempt is made: it ends with -ECANCELED where it waits, for its turn or for another attempt. One that is
// just being made ends by itself, as the server may do what it asks. As origin_cancel.
void origin_give_up(struct origin_request *r);
// Changes the priority of a request that is waiting for its turn. As origin_cancel.
void origin_raise(struct origin_request *r, enum origin_priority priority);
// The sink can take bytes again. As origin_cancel; without effect on one that isn't paused.
void origin_unpause(struct origin_request *r);

// ---- waiting for one: for start-up, librarians and tests, never for workers or callbacks

// Starts a copy of it and returns after `done` (which may be NULL): the answer's error. The callbacks get the
// copy, with the same context. *ret_why (may be NULL): allocated.
int origin_wait(struct origin *o, struct origin_request *r, char **ret_why);
// A whole small object, appended. -EFBIG: larger than max_bytes.
int origin_read_whole(struct origin *o, struct text key, size_t max_bytes, int64_t deadline_ns,
                      struct buffer *to, char **ret_why);

// ---- others

enum origin_method { ORIGIN_METHOD_GET, ORIGIN_METHOD_PUT };
// Appends a URL by which anybody may read (write) that object (of a GET: that version, if it isn't empty) for so long. It is a secret: to be given to
// who asked, never to a log. -EOPNOTSUPP: the origin has no such thing; -EACCES: without credentials;
// -EINVAL: longer than 7 days or less than a second; -EAGAIN: credentials are just being fetched, again in a
// moment. Doesn't wait.
int origin_presign(struct origin *o, enum origin_method method, struct text key, struct text version,
                   int64_t expires_ns, struct buffer *url, char **ret_why);
// Puts what it is, whose credentials (by kind and public id's last characters only) and until when.
void origin_status(struct origin *o, struct doc *map);

// ---- tests: the memory origin

// Puts an object (replaces one) with the validator "\"<n>\"", n counting up; or removes it.
void origin_memory_put(struct origin *o, struct text key, struct text data, int64_t mtime_unix_ns);
void origin_memory_remove(struct origin *o, struct text key);
// What goes wrong: after `countdown` more requests (0: the next), the `times` next ones do. One at a time.
struct origin_memory_fault {
    uint32_t countdown;
    uint32_t times;
    int error;             // the request's; 0: none
    const char *why;       // static
    uint64_t after_bytes;  // GET: gives so many bytes first, then `error`
    bool flips_a_byte;     // GET: the first byte is another
    int64_t delay_ns;      // before it begins
};
void origin_memory_fault(struct origin *o, const struct origin_memory_fault *fault);
void origin_memory_delay(struct origin *o, int64_t delay_ns); // before each request
void origin_memory_shuffle(struct origin *o, bool does);    // listings come in no order
void origin_memory_start_anew(struct origin *o, bool does); // listings take no heed of `start_after`
// While held, requests begin nothing (they can be cancelled, and time out).
void origin_memory_hold(struct origin *o, bool is_held);
// The same of those that have given so many bytes.
void origin_memory_hold_behind(struct origin *o, uint64_t bytes);
// Where its bytes are; while they are away or coming a GET is refused.
void origin_memory_nearline(struct origin *o, struct text key, enum origin_nearline nearline);
struct origin_memory_count {
    uint64_t gets, heads, lists, restores;
    uint64_t starts; // listings that were to begin behind a key
    uint64_t bytes;
};
void origin_memory_count(struct origin *o, struct origin_memory_count *ret_count);
