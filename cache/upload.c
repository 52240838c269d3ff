// SPDX-License-Identifier: BSD-3-Clause
// upload.c: see upload.h.
//  1. What was written and isn't cut into a part yet is under the upload's lock; everything else of all uploads is under
//     one lock, held for steps only. Requests are started and cancelled under it; their ends take it.
//  2. A part's bytes live until its request has ended, whatever becomes of the upload.
//  3. An upload lives as long as its opener or a request of it does (`references`).
//  4. Nothing that failed is finished: the last request is sent only when every part has been taken and checked, and
//     whoever closes before the end has all of it forgotten. Parts under way end first, and aren't cut off: a server
//     that is just taking one may keep it beyond its upload's end.
//  5. What was reported as failed doesn't come to be: its request is not made again, and what may have come of it is
//     looked for and deleted. As long as that isn't over, no other upload of its key ends: nobody else's is deleted.
//  6. Ours is what is shown to be (upload_identity.h). Nothing else is reported as whole, and nothing else deleted.
//  7. A record is written before an upload in parts begins, and removed only when the origin has said that it is whole or
//     gone.
#include "cache/upload.h"

#include <errno.h>
#include <zlib.h>

#include "base/crash.h"
#include "base/log.h"
#include "base/metric.h"
#include "cache/upload_internal.h"
#include "cache/upload_record.h"

// ---- an end ---------------------------------------------------------------------------------

static void upload_free(struct upload *u)
{
    upload_memory_free(u->filling, u->room_bytes);
    free(u->parts);
    free(u->key);
    buffer_release(&u->id);
    lock_release_memory(&u->lock);
    origin_unref(u->origin);
    free(u);
}

// Under the lock of all. true: nobody has it any more; to be freed without the lock.
static bool upload_drop(struct upload *u)
{
    if (--u->references > 0)
        return false;
    *u->at = u->next;
    if (u->next)
        u->next->at = u->at;
    return true;
}

// What isn't made yet of its requests isn't made at all.
static void give_up(struct upload *u)
{
    enum origin_verb verb = u->request.verb;
    if (u->is_counted && (verb == ORIGIN_BEGIN || verb == ORIGIN_PUT || verb == ORIGIN_FINISH))
        origin_give_up(&u->request);
    for (struct part *p = u->flying; p; p = p->next)
        origin_give_up(&p->request);
}

// Under the lock of all. The first reason is the one that is told.
static void fail_held(struct upload *u, int error, const char *why)
{
    if (u->state == UPLOAD_FAILED || (u->state == UPLOAD_WHOLE && !u->is_closed))
        return;
    u->state = UPLOAD_FAILED;
    u->error = error == -EREMOTEIO || error == -ENOENT || error == -ESTALE ? -EIO : error;
    give_up(u);
    log_error("object %.*s was not written: %s", (int)u->key_bytes, u->key, why ? why : strerror(-u->error));
    metric_add(METRIC_UPLOADS_FAILED, 1);
}

// Under the lock of all.
static void part_free(struct part *p)
{
    upload_memory_give_back(p->upload->all, p->data, p->room_bytes);
    free(p);
}

// ---- requests -------------------------------------------------------------------------------

// Under the lock of all. `r` is the upload's own or a part's.
static void request_start(struct upload *u, struct origin_request *r, void (*done)(struct origin_request *,
                          const struct origin_answer *), int64_t limit_ns)
{
    r->key = upload_key(u);
    r->upload = buffer_text(&u->id);
    r->has_checksums = u->keeps_checksums;
    r->deadline_ns = clock_ns() + limit_ns;
    r->done = done;
    u->references++;
    u->all->requests++;
    u->all->moved_ns = clock_ns();
    origin_start(u->origin, r);
}

// After a request's end was taken in, under the lock, which is given back: what follows, and who is told. It is under way until
// they were.
void upload_request_end(struct upload *u)
{
    struct uploads *all = u->all;
    upload_step(u);
    struct upload_waiter *due = upload_take_due(all, u);
    bool is_last = upload_drop(u);
    lock_release(&all->lock);
    upload_tell(due);
    if (is_last)
        upload_free(u);
    lock_scope(&all->lock);
    all->requests--;
    upload_memory_tidy(all);
    all->moved_ns = clock_ns();
    pthread_cond_broadcast(&all->ended);
}

void upload_own_start(struct upload *u, enum origin_verb verb, void (*done)(struct origin_request *,
                      const struct origin_answer *), int64_t limit_ns)
{
    check(!u->is_counted);
    u->is_counted = true;
    u->request = (struct origin_request){.verb = verb, .context = u};
    if (verb == ORIGIN_DELETE)
        u->request.if_match = text_of(u->result.validator);
    request_start(u, &u->request, done, limit_ns);
}

struct upload *upload_own_ended(struct origin_request *r)
{
    struct upload *u = r->context;
    lock_acquire(&u->all->lock);
    u->is_counted = false;
    return u;
}

void upload_take_validator(struct upload *u, struct text validator)
{
    if (validator.size_bytes >= sizeof(u->result.validator))
        validator.size_bytes = 0;
    memmove(u->result.validator, validator.data, validator.size_bytes);
    u->result.validator[validator.size_bytes] = 0;
}

static void whole(struct upload *u, const struct origin_answer *a)
{
    int64_t mtime = a->mtime_unix_ns != ORIGIN_TIME_UNKNOWN    ? a->mtime_unix_ns
                    : a->server_unix_ns != ORIGIN_TIME_UNKNOWN ? a->server_unix_ns
                                                               : clock_unix_ns();
    u->result.mtime_unix_ns = mtime;
    u->result.size_bytes = (int64_t)u->size_bytes;
    upload_take_validator(u, a->validator);
    u->is_new = false;
    u->state = UPLOAD_WHOLE;
    upload_settle(u);
    crash_point("upload-whole");
    upload_record_end(u);
    crash_point("upload-record-removed");
    metric_add(METRIC_UPLOADS_WHOLE, 1);
}

// The last request ended. What is refused at the first time of asking has not come to be.
static void last_failed(struct upload *u, const struct origin_answer *a)
{
    fail_held(u, a->error, a->why);
    if (a->status / 100 == 4 && !a->was_repeated)
        upload_settle(u);
}

// What the origin says it has now. Once it has said that it has made one of all parts, this is only how it calls it (some
// call it otherwise by now) and when it was made.
static void head_done(struct origin_request *r, const struct origin_answer *a)
{
    struct upload *u = upload_own_ended(r);
    bool is_made = u->result.validator[0];
    bool is_it = is_made ? !a->error && a->size_bytes == (int64_t)u->size_bytes : upload_is_own(u, a);
    if (u->state == UPLOAD_ENDING && is_it)
        whole(u, a);
    else if (u->state == UPLOAD_ENDING && is_made)
        whole(u, &(struct origin_answer){.mtime_unix_ns = ORIGIN_TIME_UNKNOWN,
                                         .server_unix_ns = ORIGIN_TIME_UNKNOWN,
                                         .validator = text_of(u->result.validator)});
    else
        fail_held(u, a->error ? a->error : -EIO,
                  a->error ? a->why : "what the origin has of that name is not known to be it, and may be another object");
    upload_request_end(u);
}

// There is an object already. It is this one, if it was sent more than once; else it is another's, and the upload has failed.
// true: it is to be looked at.
static bool is_taken(struct upload *u, const struct origin_answer *a)
{
    if (a->error != -ESTALE || !u->is_new)
        return false;
    if (!a->was_repeated)
        fail_held(u, -EEXIST, "somebody else has made an object of that name meanwhile");
    return a->was_repeated;
}

static void put_done(struct origin_request *r, const struct origin_answer *a)
{
    struct upload *u = upload_own_ended(r);
    crash_point("upload-put-answered");
    if (u->state == UPLOAD_ENDING && is_taken(u, a))
        upload_own_start(u, ORIGIN_HEAD, head_done, REQUEST_LIMIT_NS);
    else if (a->error)
        last_failed(u, a);
    else if (u->state == UPLOAD_ENDING)
        whole(u, a);
    else
        upload_came_late(u, a);
    upload_request_end(u);
}

static void finish_done(struct origin_request *r, const struct origin_answer *a)
{
    struct upload *u = upload_own_ended(r);
    crash_point("upload-finish-answered");
    // It may have been answered before, and the answer was lost: then there is no such upload any more, but the object.
    bool may_be_whole = a->error == 0 || a->error == -ENOENT;
    if (u->state == UPLOAD_ENDING && (is_taken(u, a) || may_be_whole)) {
        upload_take_validator(u, a->error ? TEXT("") : a->validator);
        upload_own_start(u, ORIGIN_HEAD, head_done, REQUEST_LIMIT_NS);
    } else if (a->error == 0) {
        upload_came_late(u, a);
    } else {
        last_failed(u, a);
    }
    upload_request_end(u);
}

static void begin_done(struct origin_request *r, const struct origin_answer *a)
{
    struct upload *u = upload_own_ended(r);
    u->answered_unix_ns = clock_unix_ns();
    u->has_unheard = a->was_repeated;
    if (a->error == 0) {
        buffer_append_text(&u->id, a->token);
        u->has_begun = true;
        u->keeps_checksums = a->keeps_checksums;
        crash_point("upload-begun");
        if (u->record && !u->has_unheard) // else a later life has to look for all of them
            upload_record_write(u->all->folder, u->record,
                                &(struct upload_record){origin_identity(u->origin), upload_key(u), buffer_text(&u->id),
                                                        u->begun_unix_ns});
        crash_point("upload-named");
    } else {
        fail_held(u, a->error, a->why);
        if (!a->is_unanswered && a->error != -ETIMEDOUT && a->error != -ECANCELED)
            upload_record_end(u); // it said no: there is nothing
        u->is_in_parts = false;
    }
    upload_request_end(u);
}

static void part_done(struct origin_request *r, const struct origin_answer *a)
{
    struct part *p = (struct part *)r;
    struct upload *u = p->upload;
    struct uploads *all = u->all;
    crash_point("upload-part-answered");
    lock_acquire(&all->lock);
    for (struct part **at = &u->flying; *at; at = &(*at)->next) {
        if (*at == p) {
            *at = p->next;
            break;
        }
    }
    struct origin_part *to = &u->parts[p->number - 1];
    if (a->error == 0 && (a->validator.size_bytes == 0 || a->validator.size_bytes >= sizeof(to->validator)))
        fail_held(u, -EIO, "the origin took a part and didn't say which (no ETag)");
    else if (a->error == 0)
        memcpy(to->validator, a->validator.data, a->validator.size_bytes);
    else
        fail_held(u, a->error, a->why);
    part_free(p);
    upload_request_end(u);
}

static void parts_start(struct upload *u)
{
    while (u->queued) {
        struct part *p = u->queued;
        u->queued = p->next;
        p->next = u->flying;
        u->flying = p;
        p->request = (struct origin_request){
            .verb = ORIGIN_PART,
            .priority = ORIGIN_AHEAD,
            .body = {p->data, p->size_bytes},
            .crc32 = u->parts[p->number - 1].crc32,
            .part = p->number,
        };
        request_start(u, &p->request, part_done, REQUEST_LIMIT_NS);
    }
    u->queued_last = &u->queued;
}

static void parts_drop(struct upload *u)
{
    while (u->queued) {
        struct part *p = u->queued;
        u->queued = p->next;
        part_free(p);
    }
    u->queued_last = &u->queued;
}

static void begin_start(struct upload *u)
{
    struct uploads *all = u->all;
    u->is_in_parts = true;
    u->begun_unix_ns = clock_unix_ns();
    if (all->folder) {
        u->record = ++all->last_record;
        struct upload_record record = {origin_identity(u->origin), upload_key(u), TEXT(""), u->begun_unix_ns};
        int error = upload_record_write(all->folder, u->record, &record);
        if (error)
            log_warn("an upload can't be recorded in %s: %s; if this process dies, its parts stay at the origin",
                     all->folder, strerror(-error));
    }
    crash_point("upload-recorded");
    upload_own_start(u, ORIGIN_BEGIN, begin_done, REQUEST_LIMIT_NS);
}

static void finish_start(struct upload *u)
{
    u->is_counted = u->may_appear = true;
    u->request = (struct origin_request){.verb = ORIGIN_FINISH,
                                         .context = u,
                                         .parts = u->parts,
                                         .part = u->part_count,
                                         .is_new = u->is_new,
                                         .crc32 = u->crc32};
    request_start(u, &u->request, finish_done, REQUEST_LIMIT_NS);
}

static void put_start(struct upload *u)
{
    u->is_counted = u->may_appear = true;
    upload_take_validator(u, TEXT("")); // an earlier object's, of fewer bytes
    u->request = (struct origin_request){.verb = ORIGIN_PUT,
                                         .context = u,
                                         .body = {u->filling ? u->filling : "", u->filled_bytes},
                                         .is_new = u->is_new,
                                         .crc32 = u->body_crc32};
    request_start(u, &u->request, put_done, REQUEST_LIMIT_NS);
}

void upload_step(struct upload *u)
{
    bool is_in_work = u->is_counted || u->flying;
    if (u->state == UPLOAD_FAILED) {
        parts_drop(u);
        if (!is_in_work)
            upload_undo(u);
        return;
    }
    if (u->queued && !u->is_in_parts)
        begin_start(u);
    if (u->has_begun)
        parts_start(u);
    if (u->state == UPLOAD_ENDING && !u->is_counted && !u->flying && !u->queued && !upload_must_wait(u)) {
        if (u->is_in_parts)
            finish_start(u);
        else
            put_start(u);
    }
}

// ---- writing --------------------------------------------------------------------------------

struct upload *upload_open(struct uploads *all, struct origin *o, struct text key, bool is_new)
{
    struct upload *u = new_struct(struct upload);
    u->all = all;
    u->origin = origin_ref(o);
    u->key = memory_copy(key.data, key.size_bytes);
    u->key_bytes = key.size_bytes;
    u->is_new = is_new;
    u->references = 1;
    u->queued_last = &u->queued;
    u->crc32 = (uint32_t)crc32(0, NULL, 0);
    lock_init(&u->lock, LOCK_RANK_UPLOAD, "upload");
    lock_scope(&all->lock);
    all->open_count++;
    u->next = all->first;
    u->at = &all->first;
    all->first = u;
    if (u->next)
        u->next->at = &u->next;
    return u;
}

// Under the upload's lock: what is filled becomes a part.
static int part_cut(struct upload *u)
{
    struct part *p = new_struct(struct part);
    uint32_t crc32 = u->filled_crc32;
    p->upload = u;
    p->size_bytes = u->filled_bytes;
    p->room_bytes = u->room_bytes;
    p->data = take(u->filling);
    u->filled_bytes = u->filled_crc32 = 0;
    struct uploads *all = u->all;
    lock_acquire(&all->lock);
    u->room_bytes = 0;
    if (u->part_count == ORIGIN_PARTS_MAX)
        fail_held(u, -EFBIG, "it has more parts than an object may have: upload_part decides how large they are");
    int error = u->state == UPLOAD_FAILED ? u->error : 0;
    struct upload_waiter *due = NULL;
    if (error) {
        part_free(p);
    } else {
        if (u->part_count == u->parts_room) {
            u->parts_room = u->parts_room ? u->parts_room * 2 : 16;
            u->parts = memory_grow(u->parts, u->parts_room, sizeof(*u->parts));
        }
        p->number = ++u->part_count;
        u->parts[p->number - 1] = (struct origin_part){.crc32 = crc32};
        u->crc32 = (uint32_t)crc32_combine(u->crc32, crc32, (z_off_t)p->size_bytes);
        *u->queued_last = p;
        u->queued_last = &p->next;
        upload_step(u);
    }
    if (u->state == UPLOAD_FAILED) {
        upload_step(u);
        due = upload_take_due(all, u);
    }
    lock_release(&all->lock);
    upload_tell(due);
    return error;
}

static bool is_full(struct uploads *all)
{
    lock_scope(&all->lock);
    return all->used_bytes > all->memory_bytes;
}

// 0: bytes may come that go on where it ends.
static int may_write(struct upload *u, uint64_t offset)
{
    lock_scope(&u->all->lock);
    if (u->state == UPLOAD_FAILED)
        return u->error;
    if (u->state == UPLOAD_ENDING)
        return -EBUSY;
    if (u->state == UPLOAD_WHOLE && u->is_in_parts)
        return -EOPNOTSUPP;
    if (offset != u->size_bytes) {
        fail_held(u, -EOPNOTSUPP, "it was not written from its beginning to its end");
        upload_step(u);
        return -EOPNOTSUPP;
    }
    u->state = UPLOAD_OPEN;
    return 0;
}

int upload_write(struct upload *u, uint64_t offset, const void *data, size_t size_bytes)
{
    lock_scope(&u->lock);
    int error = may_write(u, offset);
    const char *from = data;
    while (!error && size_bytes > 0) {
        size_t left = (size_t)u->all->part_bytes - u->filled_bytes;
        size_t taken = size_bytes < left ? size_bytes : left;
        if (u->filled_bytes + taken > u->room_bytes)
            upload_memory_grow(u, u->filled_bytes + taken);
        memcpy(u->filling + u->filled_bytes, from, taken);
        u->filled_crc32 = (uint32_t)crc32_z(u->filled_crc32, (const unsigned char *)from, taken);
        u->filled_bytes += taken;
        u->size_bytes += taken;
        from += taken;
        size_bytes -= taken;
        if (u->filled_bytes == u->all->part_bytes)
            error = part_cut(u);
    }
    // Too much is used: what is enough for a part goes at once.
    if (!error && u->filled_bytes >= ORIGIN_PART_BYTES_MIN && is_full(u->all))
        error = part_cut(u);
    return error;
}

uint64_t upload_size_bytes(struct upload *u)
{
    lock_scope(&u->lock);
    return u->size_bytes;
}

static bool is_in_parts(struct upload *u)
{
    lock_scope(&u->all->lock);
    return u->part_count > 0;
}

void upload_finish(struct upload *u)
{
    lock_scope(&u->lock);
    bool has_parts = is_in_parts(u);
    if (has_parts && u->filled_bytes > 0)
        part_cut(u);
    lock_scope(&u->all->lock);
    if (u->state != UPLOAD_OPEN)
        return;
    u->body_crc32 = has_parts ? 0 : u->filled_crc32;
    u->state = UPLOAD_ENDING;
    upload_step(u);
}

void upload_fail(struct upload *u, int error, const char *why)
{
    struct uploads *all = u->all;
    lock_acquire(&all->lock);
    fail_held(u, error, why);
    upload_step(u);
    struct upload_waiter *due = upload_take_due(all, u);
    lock_release(&all->lock);
    upload_tell(due);
}

int upload_result(struct upload *u, struct upload_result *ret_result)
{
    lock_scope(&u->all->lock);
    if (u->state == UPLOAD_FAILED)
        return u->error;
    if (u->state != UPLOAD_WHOLE)
        return -EINPROGRESS;
    *ret_result = u->result;
    return 0;
}

struct upload *upload_hold(struct upload *u)
{
    lock_scope(&u->all->lock);
    u->references++;
    return u;
}

void upload_let_go(struct upload *u)
{
    lock_acquire(&u->all->lock);
    bool is_last = upload_drop(u);
    lock_release(&u->all->lock);
    if (is_last)
        upload_free(u);
}

void upload_close(struct upload *u)
{
    struct uploads *all = u->all;
    lock_acquire(&all->lock);
    u->is_closed = true;
    if (u->state != UPLOAD_WHOLE)
        fail_held(u, -ECANCELED, "it was closed before it was whole");
    upload_step(u);
    all->open_count--;
    all->used_bytes -= u->room_bytes;
    upload_memory_tidy(all);
    struct upload_waiter *due = upload_take_due(all, u);
    bool is_last = upload_drop(u);
    lock_release(&all->lock);
    upload_tell(due);
    if (is_last)
        upload_free(u);
}
