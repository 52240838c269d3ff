// SPDX-License-Identifier: BSD-3-Clause
// upload: an object that is being written, from its first byte to its last, and appears at its origin when it is whole.
// What fits into one part is sent at the end, in one request; what is larger goes in parts, side by side, while it is
// being written.
//
//   upload_open ──▶ upload_write … (upload_wait ROOM) ──▶ upload_finish, upload_wait END ──▶ upload_result
//              └──▶ upload_close: what isn't whole by then is forgotten, at the origin too
//
//          finish                  all parts are there, the last request is answered
//   OPEN ─────────▶ ENDING ────────────────────────────────────────────────────────▶ WHOLE
//     │  ▲             │                                                               │ write: of one that was sent in
//     │  └─────────────│───────────────────────────────────────────────────────────────┘ one request, it is sent again
//     └────────────────┴──▶ FAILED   a request failed, bytes came out of order, closed before the end
//
// Memory is bounded for all together: `memory_bytes`, and for each object that is open for writing ORIGIN_PART_BYTES_MIN.
// Before an upload in parts begins it is recorded in a folder, so that a later life can have the origin forget it.
// Any thread; nothing waits, but uploads_free and the disk that has the folder.
#pragma once
#include "cache/origin/origin.h"

struct uploads;
struct upload;

struct uploads_options {
    const char *folder;    // for the records, made if it isn't there; NULL: none, and nothing is found by a later life
    uint64_t memory_bytes;
    uint64_t part_bytes;   // of an object in parts; no less than ORIGIN_PART_BYTES_MIN
};
struct uploads *uploads_new(const struct uploads_options *o);
// At the end of a life, when nobody writes any more. Waits for what is under way, a few seconds. true: it gets on and isn't
// over, to be called again; false: it is, or stands still: then each that is finished and not whole is given up, with a line.
bool uploads_drain(struct uploads *all);
// No upload may be open, and nothing under way after uploads_drain.
void uploads_free(struct uploads *all);
define_cleanup(struct uploads *, uploads_free);
// Has the origin forget what earlier lives began there and didn't end. In the background; what can't be reached is
// left for the next life.
void uploads_recover(struct uploads *all, struct origin *o);
void uploads_status(struct uploads *all, struct doc *map);

// The key is copied, the origin is referred to. `is_new`: an object that has appeared there meanwhile stays, and the upload
// fails with -EEXIST, where the origin knows how to.
struct upload *upload_open(struct uploads *all, struct origin *o, struct text key, bool is_new);
void upload_close(struct upload *u);
// It stays in memory until it is let go, whoever closes it.
struct upload *upload_hold(struct upload *u);
void upload_let_go(struct upload *u);

// Takes all of it. -EOPNOTSUPP: it doesn't go on where the object ends so far, or the object was finished and is too large to
// be sent again; -EBUSY: it is just being finished; -EFBIG: more than ORIGIN_PARTS_MAX parts; else why the upload failed. After
// an error, but for -EBUSY, nothing comes of it any more.
int upload_write(struct upload *u, uint64_t offset, const void *data, size_t size_bytes);
uint64_t upload_size_bytes(struct upload *u);
bool upload_has_room(struct upload *u); // there is memory for more: else who writes should wait
void upload_finish(struct upload *u); // no more bytes; what is whole already stays so
// It failed for a reason of the caller's: what he will be told from now on.
void upload_fail(struct upload *u, int error, const char *why);

enum upload_event {
    UPLOAD_ROOM, // there is memory for more, or a request of any of them ended, which may have made some
    UPLOAD_MOVE, // a request of it ended, or it is whole
};
struct upload_waiter {
    void (*ready)(struct upload_waiter *w); // called once, with no lock held
    struct upload *upload;                  // the upload's from here on
    enum upload_event event;
    struct upload_waiter *next;
};
// 0: it is so already, or it failed (ask for the result); -EINPROGRESS: `w` is called.
int upload_wait(struct upload *u, enum upload_event event, struct upload_waiter *w);
bool upload_cancel(struct upload_waiter *w); // true: it will not be called

struct upload_result {
    int64_t size_bytes, mtime_unix_ns;
    char validator[128];
};
// 0: it is whole; -EINPROGRESS: it isn't yet, and has not failed; -EACCES, -ETIMEDOUT, -EIO and others: it failed.
int upload_result(struct upload *u, struct upload_result *ret_result);
