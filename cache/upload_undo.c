// SPDX-License-Identifier: BSD-3-Clause
// upload_undo.c: what becomes of an upload that failed: parts are forgotten at the origin; where an object may have come of it,
// it is looked for, and deleted if it is this one. Invariants 5 to 7 of upload.c.
#include <errno.h>

#include "base/crash.h"
#include "base/log.h"
#include "cache/upload_identity.h"
#include "cache/upload_internal.h"
#include "cache/upload_record.h"

#define FORGET_TIMES_MAX 4

void upload_record_end(struct upload *u)
{
    if (u->record && u->has_unheard)
        uploads_forget_unheard(u->all, u->origin, upload_key(u), u->record, u->begun_unix_ns, u->answered_unix_ns);
    else if (u->record)
        upload_record_remove(u->all->folder, u->record);
    u->record = 0;
}

static bool is_same_key(const struct upload *u, const struct upload *other)
{
    return u != other && text_equal(upload_key(u), upload_key(other)) &&
           text_equal(origin_identity(u->origin), origin_identity(other->origin));
}

bool upload_must_wait(const struct upload *u)
{
    for (const struct upload *other = u->all->first; other; other = other->next)
        if (other->state == UPLOAD_FAILED && other->may_appear && is_same_key(u, other))
            return true;
    return false;
}

void upload_settle(struct upload *u)
{
    u->may_appear = false;
    for (struct upload *other = u->all->first; other; other = other->next)
        if (other->state == UPLOAD_ENDING && is_same_key(u, other))
            upload_step(other);
}

bool upload_is_own(const struct upload *u, const struct origin_answer *a)
{
    const struct upload_identity identity = {
        .validator = text_of(u->result.validator),
        .size_bytes = u->size_bytes,
        .crc32 = u->part_count ? u->crc32 : u->body_crc32,
        .body = {u->filling ? u->filling : "", u->filled_bytes},
        .parts = u->parts,
        .part_count = u->part_count,
    };
    return upload_identity_is(&identity, a);
}

static void undo_done(struct origin_request *r, const struct origin_answer *a)
{
    struct upload *u = upload_own_ended(r);
    crash_point("upload-undone");
    if (a->error && a->error != -ESTALE)
        log_warn("object %.*s: it is there, although it was reported as failed, and can't be deleted: %s",
                 (int)u->key_bytes, u->key, a->why);
    upload_settle(u);
    upload_request_end(u);
}

// What there is after its writer was told that it failed: if it is this, nothing of it stays.
static void look_back_done(struct origin_request *r, const struct origin_answer *a)
{
    struct upload *u = upload_own_ended(r);
    if (upload_is_own(u, a)) {
        crash_point("upload-found-to-undo");
        upload_take_validator(u, a->validator);
        upload_own_start(u, ORIGIN_DELETE, undo_done, FORGET_LIMIT_NS);
    } else {
        if (a->error && a->error != -ENOENT)
            log_warn("object %.*s: it was reported as failed, and whether it is there can't be seen: %s",
                     (int)u->key_bytes, u->key, a->why);
        upload_settle(u);
    }
    upload_request_end(u);
}

void upload_came_late(struct upload *u, const struct origin_answer *a)
{
    upload_take_validator(u, a->validator);
    u->is_in_parts = false;
    upload_record_end(u);
}

// A part that was under way when its upload was forgotten may have come to be after it: it is forgotten until the origin
// says that it knows of none.
static void forget_done(struct origin_request *r, const struct origin_answer *a)
{
    struct upload *u = upload_own_ended(r);
    crash_point("upload-forgotten");
    if (a->error == 0 && ++u->forgotten < FORGET_TIMES_MAX) {
        upload_own_start(u, ORIGIN_FORGET, forget_done, FORGET_LIMIT_NS);
        upload_request_end(u);
        return;
    }
    if (a->error == 0 || a->error == -ENOENT)
        upload_record_end(u);
    else
        log_warn("object %.*s: what was sent of it is still at the origin (%s); the next mount tries again",
                 (int)u->key_bytes, u->key, a->why);
    u->is_in_parts = false;
    upload_request_end(u);
}

void upload_undo(struct upload *u)
{
    if (u->is_in_parts && u->has_begun)
        upload_own_start(u, ORIGIN_FORGET, forget_done, FORGET_LIMIT_NS);
    else if (u->may_appear)
        upload_own_start(u, ORIGIN_HEAD, look_back_done, FORGET_LIMIT_NS);
}
