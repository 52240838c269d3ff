// SPDX-License-Identifier: BSD-3-Clause
// upload_internal: what uploads.c, upload.c, upload_memory.c, upload_undo.c and upload_recover.c share; others use upload.h.
#pragma once
#include "base/clock.h"
#include "base/lock.h"
#include "cache/upload.h"

#define REQUEST_LIMIT_NS (600 * NS_PER_S) // of one request; who waits for it gives up earlier
#define FORGET_LIMIT_NS (60 * NS_PER_S) // of the request

struct uploads {
    struct lock lock;              // everything below
    pthread_cond_t ended;          // a request has
    char *folder;                  // does not change, as the next three
    uint64_t memory_bytes, part_bytes;
    int64_t started_unix_ns;       // this life of it
    uint64_t used_bytes;
    char *kept;                    // rooms of whole parts that nobody has, chained through their first bytes
    uint32_t kept_count;
    uint32_t requests;             // under way
    int64_t moved_ns;              // one began or ended, or bytes were seen to be sent
    int64_t drained_bytes;         // sent, when that was looked at
    uint32_t open_count;
    uint64_t last_record;          // number
    struct upload_waiter *waiters;
    struct upload *first;          // of all that somebody has
};

enum upload_state { UPLOAD_OPEN, UPLOAD_ENDING, UPLOAD_WHOLE, UPLOAD_FAILED };

struct part {
    struct origin_request request; // first
    struct upload *upload;
    struct part *next;             // in `queued` or `flying`
    char *data;
    size_t size_bytes, room_bytes;
    uint32_t number;               // from 1
};

struct upload {
    struct uploads *all;
    struct origin *origin;
    char *key;
    size_t key_bytes;
    struct lock lock;              // rank UPLOAD: the next five
    char *filling;                 // bytes that are in no part yet
    size_t filled_bytes, room_bytes; // room_bytes changes under both locks
    uint32_t filled_crc32;
    uint64_t size_bytes;
    uint32_t crc32;                // of all parts
    // Under the lock of all.
    struct upload *next, **at;     // among all
    enum upload_state state;
    int error;                     // FAILED: what the caller is told
    uint32_t references;
    bool is_closed;
    bool is_in_parts, has_begun;   // BEGIN was sent; answered
    bool keeps_checksums;
    bool is_new;                   // there must be no such object yet; false once there is its own
    uint32_t forgotten;            // times
    bool is_counted;               // among the requests: its own one below
    bool may_appear;               // PUT or FINISH was sent, and what came of it isn't known
    uint32_t body_crc32;           // of what is sent in one request
    struct buffer id;              // the origin's name for it
    struct origin_part *parts;
    uint32_t part_count, parts_room;
    struct part *queued, **queued_last;
    struct part *flying;
    uint64_t record;               // number; 0: none
    int64_t begun_unix_ns, answered_unix_ns;
    bool has_unheard;              // BEGIN was sent more than once: there may be others of it
    struct origin_request request; // one at a time: BEGIN, PUT, FINISH, HEAD, FORGET
    struct upload_result result;
};

// ---- uploads.c, under the lock of all

// Who waits for something that is so now; to be told without the lock.
struct upload_waiter *upload_take_due(struct uploads *all, const struct upload *moved);
void upload_tell(struct upload_waiter *due);

// ---- upload_memory.c

// Under the upload's lock: room for that many bytes of what is filling.
void upload_memory_grow(struct upload *u, size_t wanted_bytes);
void upload_memory_free(char *data, size_t room_bytes); // of what doesn't count as used any more
// Under the lock of all.
void upload_memory_give_back(struct uploads *all, char *data, size_t room_bytes);
bool upload_memory_has_room(const struct upload *u); // for more of it: else who writes should wait
void upload_memory_tidy(struct uploads *all); // keeps less where there isn't enough, or nothing is under way

// ---- upload.c, under the lock of all

static inline struct text upload_key(const struct upload *u)
{
    return (struct text){u->key, u->key_bytes};
}
void upload_step(struct upload *u); // whatever is to be done next
// Of the upload's own request, one at a time. `done` begins with upload_own_ended, which takes the lock, and ends with
// upload_request_end, which gives it back.
void upload_own_start(struct upload *u, enum origin_verb verb,
                      void (*done)(struct origin_request *, const struct origin_answer *), int64_t limit_ns);
struct upload *upload_own_ended(struct origin_request *r);
void upload_request_end(struct upload *u);
void upload_take_validator(struct upload *u, struct text validator); // may be the result's own text

// ---- upload_undo.c, under the lock of all

// What the origin has, by its answer to a HEAD, is what was written.
bool upload_is_own(const struct upload *u, const struct origin_answer *a);
// Another upload of the same key that failed may still come to be, or is just being deleted.
bool upload_must_wait(const struct upload *u);
// What came of its last request is known, or can't be: those that had to wait for that go on.
void upload_settle(struct upload *u);
// It was taken, but after its writer was told that it failed: what it is called is known.
void upload_came_late(struct upload *u, const struct origin_answer *a);
void upload_record_end(struct upload *u); // nothing of it is at the origin, or all
// It failed, and none of its requests is under way: the next step until nothing of it is at the origin.
void upload_undo(struct upload *u);

// ---- upload_recover.c

// Whether an upload of that name is one of this life's. (uploads.c)
bool upload_is_used(struct uploads *all, struct text name);
// Has the origin forget the uploads of that key that were begun within that time and aren't used: their names were never
// heard. Then removes the record. Under the lock of all; in the background.
void uploads_forget_unheard(struct uploads *all, struct origin *o, struct text key, uint64_t record, int64_t from_unix_ns,
                            int64_t until_unix_ns);
