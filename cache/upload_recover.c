// SPDX-License-Identifier: BSD-3-Clause
// upload_recover.c: what earlier lives left at an origin, by their records, is forgotten there. Each record is one request: of an
// upload whose name is known, or, where the answer to its beginning never came, of a listing of those of its key.
// 1. Of an upload whose name was never heard no part was sent: one that has parts is somebody else's. So each of those that a
//    listing gives is asked for its parts first.
// 2. A record is removed when nothing of what it stands for can be left: else another life tries again.
#include <errno.h>

#include "base/crash.h"
#include "base/log.h"
#include "cache/upload_internal.h"
#include "cache/upload_record.h"

#define CLOCKS_DIFFER_NS (60 * NS_PER_S) // the origin's and ours, at most, where nothing better is known

struct recovery {
    struct origin_request request; // first
    struct uploads *all;
    struct origin *origin;
    struct recovery *next;
    uint64_t number;               // the record's; 0: of one among those that a listing gave
    char *key, *upload;
    int64_t from_unix_ns, until_unix_ns; // of a listing: which of them are meant
    struct recovery *listing;      // that gave it; NULL: none did
    uint32_t left;                 // it, and those that it gave, whose end is to come. Under the lock of all, as the next
    bool has_failed;               // it may have left something at the origin
};

static void recovery_start(struct recovery *y, enum origin_verb verb);

static void recovery_free(struct recovery *y)
{
    origin_unref(y->origin);
    free(y->key);
    free(y->upload);
    free(y);
}

static void recovery_end(struct recovery *y)
{
    struct uploads *all = y->all;
    struct recovery *listing = y->listing;
    lock_acquire(&all->lock);
    bool is_last = --y->left == 0, has_failed = y->has_failed;
    if (is_last && listing)
        listing->has_failed |= has_failed;
    lock_release(&all->lock);
    if (!is_last)
        return;
    if (y->number && !has_failed)
        upload_record_remove(all->folder, y->number);
    recovery_free(y);
    if (listing)
        recovery_end(listing);
    lock_acquire(&all->lock);
    all->requests--;
    pthread_cond_broadcast(&all->ended);
    lock_release(&all->lock);
}

// What it asked for is not known to be gone.
static void recovery_fail(struct recovery *y)
{
    lock_scope(&y->all->lock);
    y->has_failed = true;
}

// Under the lock of all.
static struct recovery *recovery_new(struct uploads *all, struct origin *o, struct text key, struct text upload,
                                     uint64_t number)
{
    struct recovery *y = new_struct(struct recovery);
    y->all = all;
    y->origin = origin_ref(o);
    y->number = number;
    y->left = 1;
    y->key = memory_copy(key.data, key.size_bytes);
    y->upload = memory_copy(upload.data, upload.size_bytes);
    y->request = (struct origin_request){.context = y};
    y->request.key = (struct text){y->key, key.size_bytes};
    y->request.upload = (struct text){y->upload, upload.size_bytes};
    all->requests++;
    return y;
}

static void recovery_forgotten(struct origin_request *r, const struct origin_answer *a)
{
    struct recovery *y = r->context;
    if (a->error && a->error != -ENOENT) {
        log_warn("object %s: what an earlier life sent of it is still at the origin: %s", y->key, a->why);
        recovery_fail(y);
    } else {
        log_info("object %s: what an earlier life sent of it and didn't finish was forgotten at the origin", y->key);
        crash_point("upload-recovered");
    }
    recovery_end(y);
}

// Of exactly that key, begun while it was being asked for, and not this life's.
static int recovery_each(struct origin_request *r, const struct origin_entry *e)
{
    struct recovery *y = r->context;
    bool is_meant = e->mtime_unix_ns >= y->from_unix_ns && e->mtime_unix_ns <= y->until_unix_ns;
    if (!text_equal(e->key, r->key) || !is_meant || upload_is_used(y->all, e->validator))
        return 0;
    lock_scope(&y->all->lock);
    struct recovery *one = recovery_new(y->all, y->origin, e->key, e->validator, 0);
    one->listing = y;
    y->left++;
    recovery_start(one, ORIGIN_PARTS);
    return 0;
}

// None: it can be the one that was meant.
static void recovery_counted(struct origin_request *r, const struct origin_answer *a)
{
    struct recovery *y = r->context;
    if (a->error && a->error != -ENOENT) {
        log_warn("object %s: whether an upload of it is an earlier life's can't be seen, it stays at the origin: %s", y->key,
                 a->why);
        recovery_fail(y);
    }
    if (a->error || a->token.size_bytes) {
        recovery_end(y);
        return;
    }
    lock_scope(&y->all->lock);
    recovery_start(y, ORIGIN_FORGET);
}

static void recovery_listed(struct origin_request *r, const struct origin_answer *a)
{
    struct recovery *y = r->context;
    if (a->error && a->error != -ENOENT) {
        log_warn("object %s: whether an earlier life left something of it at the origin can't be seen: %s", y->key, a->why);
        recovery_fail(y);
    }
    recovery_end(y);
}

static void recovery_start(struct recovery *y, enum origin_verb verb)
{
    y->request.verb = verb;
    y->request.each = recovery_each;
    y->request.done = verb == ORIGIN_FORGET ? recovery_forgotten : verb == ORIGIN_PARTS ? recovery_counted : recovery_listed;
    y->request.priority = ORIGIN_BACKGROUND;
    y->request.deadline_ns = clock_ns() + FORGET_LIMIT_NS;
    origin_start(y->origin, &y->request);
}

void uploads_forget_unheard(struct uploads *all, struct origin *o, struct text key, uint64_t record, int64_t from_unix_ns,
                            int64_t until_unix_ns)
{
    struct recovery *y = recovery_new(all, o, key, TEXT(""), record);
    y->from_unix_ns = from_unix_ns - CLOCKS_DIFFER_NS;
    y->until_unix_ns = until_unix_ns;
    recovery_start(y, ORIGIN_UPLOADS);
}

struct recovering {
    struct uploads *all;
    struct origin *origin;
};

static void recover_record(void *context, uint64_t number, const struct upload_record *record)
{
    const struct recovering *g = context;
    if (!text_equal(record->identity, origin_identity(g->origin)))
        return;
    lock_scope(&g->all->lock);
    if (record->upload.size_bytes) {
        recovery_start(recovery_new(g->all, g->origin, record->key, record->upload, number), ORIGIN_FORGET);
        return;
    }
    // It can have been begun only before the request's end, and before this life, whose own are younger.
    int64_t until = record->begun_unix_ns + REQUEST_LIMIT_NS + CLOCKS_DIFFER_NS;
    until = until < g->all->started_unix_ns ? until : g->all->started_unix_ns;
    uploads_forget_unheard(g->all, g->origin, record->key, number, record->begun_unix_ns, until);
}

void uploads_recover(struct uploads *all, struct origin *o)
{
    struct recovering g = {all, o};
    if (!all->folder)
        return;
    int error = upload_records(all->folder, recover_record, &g);
    if (error)
        log_warn("%s can't be read: %s; what earlier lives left at %s stays there", all->folder, strerror(-error),
                 origin_identity(o).data);
}
