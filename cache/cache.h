// SPDX-License-Identifier: BSD-3-Clause
// cache: objects at other origins as if they were files here; the door of the engine. An object that is
// asked for is fetched in blocks, each once whoever asks, kept on the cache disk (store.h) and given from
// there. Local artifacts don't come through here (object.h opens them where they are).
//
// Nothing here waits for a network. What isn't here is *wanted*: the call starts fetching, answers
// -EINPROGRESS and fills a `struct cache_want`; the caller hands it to cache_ask() with a waiter and, when
// the waiter is called, makes the same call again, with the same `fresh_ns`. Calls may read and write the
// cache disk (microseconds as a rule).
//
//   cache_open ──▶ cached_read … ──▶ cached_close       one `struct cached` a file handle
//       └─ -EINPROGRESS ──▶ cache_ask ──▶ ready() ──▶ cache_open
//
// Versions: a handle is of one version of an object (one ETag), and gives that version's bytes or -ESTALE,
// never a mixture. An object that was replaced at its origin is found out by the next request for its
// bytes, by a listing that says so (struct object), or when what is known of it is older than fresh_for_ns;
// whoever opens it then gets the new version, with the new bytes.
//
// Any function from any thread, with no lock held above LOCK_RANK_CACHE. Waiters are called by fetchers'
// threads (and by the cache's own, "ahead"), with no lock held; they may call anything here but cache_free.
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/cleanup.h"
#include "base/doc.h"
#include "base/text.h"

struct origin; // origin/origin.h
struct cache;
struct cached;
struct cache_entry;
struct block_store;

#define OBJECT_SIZE_UNKNOWN INT64_C(-1)

// What a caller knows of one artifact. Texts are the caller's, valid during the call.
struct object {
    struct origin *origin;
    struct text key;
    struct text version;     // its id at the origin, where it is an object of its own besides the key's present one; or empty
    int64_t size_bytes;      // OBJECT_SIZE_UNKNOWN; a hint unless `validator` is given
    struct text validator;   // as a listing or HEAD of the origin said it (an ETag, with its quotes);
                             // empty: unknown
    int64_t seen_unix_ns;    // when a listing or HEAD said size, validator and mtime (clock_steady_unix_ns); 0: none did
    int64_t mtime_unix_ns;   // 0: unknown
    struct text checksum;    // of the whole object, as in store.h ("blake2b:<hex>"); empty: none
    int64_t fresh_for_ns;    // how long to go by what the origin said; INT64_MAX: for ever (artifacts
                             // are written once)
    bool is_exact;           // this validator's version or none: a handle of an earlier life
};

struct cache_options {
    // The cache disk. One that can't be used is said in the log, and everything is done without.
    const char *folder;         // NULL: none
    uint64_t limit_bytes;
    uint32_t limit_objects;
    uint64_t reserve_bytes;     // left free on its file system
    uint64_t pin_limit_bytes;
    uint64_t scrub_bytes_per_s; // 0: no slow check
    // Memory and network.
    uint64_t memory_bytes;      // blocks in memory, for all readers; at least 4 MiB
    uint64_t window_bytes;      // the most that is read ahead for one handle (64 MiB); 0: nothing
    uint64_t folder_bytes;      // the most that is fetched ahead of files not opened yet, for each of
                                // the series (see below); 0: nothing
    uint32_t flights;           // ranges asked of one endpoint at once (which has limits of its own)
    uint32_t idle_objects;      // kept in memory after their last close
    int64_t limit_ns;           // the most a request to an origin may take, with its retries
    int64_t recall_wait_ns;     // how long who reads what is nearline may wait for it (recall.h)
    uint32_t recalls;           // the most objects brought back at once because they were read
    bool refuse_mismatch;       // an object that isn't what its checksum says: -EREMOTEIO. Else it is
                                // said in the log, counted, and given (two datasets may share a file)
};
#define CACHE_OPTIONS_STANDARD                                                                     \
    ((struct cache_options){.limit_bytes = UINT64_C(32) << 30,                                     \
                            .limit_objects = 1000000,                                              \
                            .reserve_bytes = UINT64_C(1) << 30,                                    \
                            .pin_limit_bytes = UINT64_C(16) << 30,                                 \
                            .scrub_bytes_per_s = UINT64_C(8) << 20,                                \
                            .memory_bytes = UINT64_C(64) << 20,                                    \
                            .window_bytes = UINT64_C(64) << 20,                                    \
                            .folder_bytes = UINT64_C(256) << 20,                                   \
                            .flights = 64,                                                         \
                            .idle_objects = 4096,                                                  \
                            .recall_wait_ns = INT64_C(30) * 1000000000,                            \
                            .recalls = 16,                                                         \
                            .limit_ns = INT64_C(60) * 1000000000})

// Never fails: without its disk it is a cache in memory. Starts one thread ("ahead") and the store's.
struct cache *cache_new(const struct cache_options *options);
// Flights are cancelled and waited for. No handle, want or waiter of it may be left.
void cache_free(struct cache *c);

// ---- waiting

struct cache_waiter {
    // 0: ask again; -errno: it could not be had, answer that.
    void (*ready)(struct cache_waiter *w, int error);
    struct cache_waiter *next;  // the cache's until `ready`
    struct cache_want *want;    // likewise: the want it was given with
};

// What a call that answered -EINPROGRESS waits for. Zero-initialised is empty and valid. It holds its
// object in memory, so that what arrives is found when the call is made again: release it after that.
struct cache_want {
    struct cache_entry *entry; // a reference
    uint64_t serial;           // how often it had failed by then
    uint32_t first, count;     // blocks
    uint32_t missing;          // of them
    uint8_t kind;
};
void cache_want_release(struct cache_want *w);
// -EINPROGRESS: `waiter` will be called exactly once; `want` must stay where it is until then.
// 0: it isn't called, what was wanted is here: make the call again. -errno: not called, can't be had.
int cache_ask(struct cache *c, struct cache_want *want, struct cache_waiter *waiter);
// true: the waiter was taken out and is not called any more; what nobody else waits for, and nobody reads
// ahead, is not fetched.
bool cache_cancel(struct cache *c, struct cache_want *want, struct cache_waiter *waiter);

// ---- handles

// Opens it. `fresh_ns` (clock_ns() when the request arrived): what was learnt then or later is good enough,
// whatever fresh_for_ns says. 0: what is needed is known; cached_attr() says size and mtime at once. An
// object of which nothing is known is asked for with its first block: a small one costs one round trip.
// -EINPROGRESS. -ENOENT, -EACCES, -EREMOTEIO, -ETIMEDOUT: the origin's answer, *ret_why (if not NULL): text
// for the log, allocated. For a moment after such an answer it is given again without asking the origin.
int cache_open(struct cache *c, const struct object *object, int64_t fresh_ns,
               struct cached **ret_cached, struct cache_want *want, char **ret_why);
// What nobody else wants of what this handle was reading ahead is cancelled.
void cached_close(struct cached *h);
define_cleanup(struct cached *, cached_close);

struct cache_attr {
    int64_t size_bytes;      // the origin's own
    int64_t mtime_unix_ns;   // 0: unknown
    char validator[256];     // cut if longer; empty: the origin gives none
    uint64_t present_bytes;  // of it in the cache
    bool is_complete;
    bool is_pinned;
    bool is_stale;           // replaced at its origin (or evicted by hand): open it again
};
void cached_attr(struct cached *h, struct cache_attr *ret_attr);
// Size and mtime without opening, by a HEAD unless they are known: as cache_open.
int cache_attr(struct cache *c, const struct object *object, int64_t fresh_ns,
               struct cache_attr *ret_attr, struct cache_want *want, char **ret_why);
// How much of it is in the cache, without asking anything of an origin: -ENOENT: nothing. Disk.
int cache_peek(struct cache *c, const struct object *object, struct cache_attr *ret_attr);

// Bytes in the cache's memory, on loan.
#define CACHED_PIECES 10 // 1 MiB from anywhere, in blocks
struct cached_view {
    uint32_t count;
    struct iovec pieces[CACHED_PIECES]; // ready for writev
    size_t size_bytes;                  // in sum
    void *owner, *holds[CACHED_PIECES]; // the cache's
};
void cached_view_release(struct cached_view *v);

// Up to size_bytes (at most CACHED_READ_MAX) from `offset` on, less only where the object ends: pieces to be
// sent and released soon. Learns from it how this handle is read, and reads ahead accordingly.
// 0. -EINPROGRESS. -ESTALE: it was replaced, and these bytes of the old version are not here. -EAGAIN: they are nearline
// (recall.h). Other -errno as cache_open.
#define CACHED_READ_MAX ((size_t)1 << 20)
int cached_read(struct cached *h, int64_t offset, size_t size_bytes, struct cached_view *ret_view,
                struct cache_want *want);
// The same, copied: for archives' directories and the like, which no pattern is learnt from.
// >= 0: bytes.
ssize_t cached_copy(struct cached *h, int64_t offset, void *buffer, size_t size_bytes,
                    struct cache_want *want);

// A descriptor for passthrough, which the caller closes: the complete object's file, checked in this life, never
// changed again. Disk (an fstat).
// -ENODATA: not yet. If only the check is missing it is begun when the last handle is closed, for the next open.
int cached_descriptor(struct cached *h, int *ret_fd);

// Brings all of it in, at the lowest priority, and pins it if asked to. 0: it is all here, and cached_descriptor has
// it. -EINPROGRESS: on its way; the want's waiter is called when it is whole or has failed; progress is cached_attr's. It goes on when
// the handle is closed. -EAGAIN: it is nearline, and nothing is asked for. -EDQUOT: more than may be pinned. -ENOSPC: the cache disk doesn't take it.
int cached_warm(struct cached *h, bool pin, struct cache_want *want);
int cached_pin(struct cached *h, bool is_pinned);
// Forgets the object, pinned or not. Its open handles go on; what they miss is -ESTALE.
// -ENOENT: there was nothing.
int cache_evict(struct cache *c, const struct object *object);

// ---- the folder

// A file's places among others: in its folder, and (visit after visit of one detector) in whatever other
// order one goes through files. `position` counts the files of the series in listing order, from anywhere
// that stays; differences matter. Any number of steps may be asked for.
struct cache_series {
    uint64_t id;       // of the folder or other order and, if that is known, of who goes through it
    int64_t position;
};
#define CACHE_SERIES_MAX 2 // for one open

struct cache_neighbours {
    // Calls `give` with what is known of the file at that position, once, before it returns 0.
    // -ENOENT: there is none. -EINPROGRESS: not yet, it is asked for again when the next file is opened. Any other
    // error: it is left out. Called by the cache's own thread, never under a lock; must not wait for a network or a database.
    int (*at)(void *context, uint64_t series, int64_t position,
              void (*give)(void *give_context, const struct object *object), void *give_context);
    void *context;
};
// Tells that this handle's file was opened there: a reader who goes through a series, forwards or backwards,
// at a steady step, has the next ones fetched ahead of him. `neighbours` must live until cache_forget.
void cached_opened_in(struct cached *h, const struct cache_series *series, uint32_t count,
                      const struct cache_neighbours *neighbours);
// Afterwards `neighbours->at` is not called any more, nor running.
void cache_forget(struct cache *c, const struct cache_neighbours *neighbours);

// ---- the operator's hand

// The store, for block_store_list, _verify and _status; never NULL (it may be one that holds nothing).
struct block_store *cache_store(struct cache *c);
// Puts disk, memory, flights, objects in use, what they wait for.
void cache_status(struct cache *c, struct doc *map);
