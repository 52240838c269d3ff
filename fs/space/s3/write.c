// SPDX-License-Identifier: BSD-3-Clause
// write.c: files that are being written: each is an upload (cache/upload.h), which becomes an object when its file is
// closed.
// 1. Until then its name is there on this mount only: it can't be read (EBUSY), isn't listed, and is gone with a writing that
//    failed (the kernel keeps such a name for no time). A look-up while the last close is being worked on waits for that.
//    Once it is whole (closed by its opener, or synced) it is an object like others, though the kernel's release may still
//    be on its way; somebody who has it open still may go on, until it is replaced, renamed or deleted.
// 2. Which close is the last to count only its opener knows: a close by another process (a child of a shell) finishes
//    nothing, nor does one before anything was written (a shell's, when it moves a descriptor); the kernel's release
//    finishes what is left. Who was killed finishes nothing.
// 3. Whoever was told of an error, by write, fsync or close, finds no object: one that appears all the same is deleted.
// 4. A writing lives in this process only: a handle of an earlier life has none, and whatever is written to it is EIO.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/metric.h"
#include "fs/opened.h"
#include "fs/space/s3/s3.h"
#include "fs/space/s3/writer.h"

// How long a close or a write waits without any part arriving; else it is as long as it takes.
#define STANDSTILL_TIMEOUTS 4

struct writing {
    struct writing *next;      // of the space, under its lock, as the next five
    bool is_released;          // by the kernel: finished in the background
    bool is_unlinked;          // nothing comes of it
    bool is_noted;             // what it has become was told, or is being told; until it is written to again
    bool is_whole;             // and was told
    uint32_t references;
    struct s3_space *space;
    uint64_t node;
    struct buffer prefix, raw; // of its key
    pid_t opener;              // process
    struct upload *upload;     // NULL: nothing may be written before it is truncated. Under the space's lock
    atomic_uint unanswered;    // requests that were begun, and whose answer was not given
    _Atomic int64_t unanswered_until_ns; // then, at the latest, they are told that it took too long
    struct upload_waiter waiter; // of the end, once it is released
};

static void writing_unref(struct writing *w)
{
    struct s3_space *s = w->space;
    {
        lock_scope(&s->writings_lock);
        if (--w->references > 0)
            return;
        for (struct writing **at = &s->writings; *at; at = &(*at)->next) {
            if (*at == w) {
                *at = w->next;
                break;
            }
        }
    }
    if (w->upload)
        upload_close(w->upload);
    buffer_release(&w->prefix);
    buffer_release(&w->raw);
    free(w);
}

static bool is_of(const struct writing *w, struct text prefix, struct text raw)
{
    return text_equal(buffer_text(&w->prefix), prefix) && text_equal(buffer_text(&w->raw), raw);
}

static void begin_upload(struct writing *w)
{
    BUFFER_CLEANUP key = {0};
    buffer_append_text(&key, buffer_text(&w->prefix));
    buffer_append_text(&key, buffer_text(&w->raw));
    struct upload *u = upload_open(w->space->space.fs->uploads, w->space->origin, buffer_text(&key),
                                   w->space->space.options->write != WRITE_REPLACE);
    lock_scope(&w->space->writings_lock);
    w->upload = u;
}

static struct upload *upload_of(struct writing *w)
{
    lock_scope(&w->space->writings_lock);
    return w->upload;
}

// ---- what others see ------------------------------------------------------------------------

int s3_space_wait_for_release(struct op *op, const struct bucket_place *p, struct text raw)
{
    struct s3_space *s = s3_space_of(op);
    struct upload_result result;
    lock_scope(&s->writings_lock);
    for (struct writing *w = s->writings; w; w = w->next) {
        bool is_it = text_equal(buffer_text(&w->prefix), buffer_text(&p->prefix)) &&
                     (!raw.data || text_equal(buffer_text(&w->raw), raw));
        if (!is_it || !w->is_released || upload_result(w->upload, &result) != -EINPROGRESS)
            continue;
        op->source = &op_uploads;
        op->upload = upload_hold(w->upload);
        op->upload_event = UPLOAD_MOVE;
        return -EINPROGRESS;
    }
    return 0;
}

// Takes its name from one. false: none has it (any more). *ret_upload: held, or NULL.
static bool unlink_one(struct s3_space *s, const struct bucket_place *p, struct text raw, struct upload **ret_upload)
{
    lock_scope(&s->writings_lock);
    for (struct writing *w = s->writings; w; w = w->next) {
        if (w->is_unlinked || !is_of(w, buffer_text(&p->prefix), raw))
            continue;
        w->is_unlinked = true;
        *ret_upload = w->upload ? upload_hold(w->upload) : NULL;
        return true;
    }
    return false;
}

bool s3_space_give_up_writing(struct s3_space *s, const struct bucket_place *p, struct text raw)
{
    struct upload *u;
    struct upload_result result;
    bool is_under_way = false;
    while (unlink_one(s, p, raw, &u)) {
        if (!u)
            continue;
        is_under_way |= upload_result(u, &result) == -EINPROGRESS;
        upload_fail(u, -ECANCELED, "its name was deleted meanwhile"); // one that is whole stays so
        upload_let_go(u);
    }
    return is_under_way;
}

// Under the space's lock.
static bool is_under_way(const struct writing *w)
{
    return !w->is_released && !w->is_unlinked && !w->is_whole;
}

int s3_space_end_writing(struct s3_space *s, const struct bucket_place *p, struct text raw)
{
    lock_scope(&s->writings_lock);
    for (struct writing *w = s->writings; w; w = w->next) {
        if (!is_of(w, buffer_text(&p->prefix), raw))
            continue;
        if (is_under_way(w))
            return -EBUSY;
        w->is_unlinked |= w->is_whole;
    }
    return 0;
}

bool s3_space_is_writer_of(struct s3_space *s, uint64_t node)
{
    lock_scope(&s->writings_lock);
    for (struct writing *w = s->writings; w; w = w->next)
        if (w->node == node && !w->is_released && !w->is_whole)
            return true;
    return false;
}

// As it is now, and one look-up counted.
uint64_t s3_space_lookup_writing(struct op *op, const struct bucket_place *p, struct text raw, struct file_node *ret_node)
{
    struct s3_space *s = s3_space_of(op);
    uint64_t node = 0;
    {
        lock_scope(&s->writings_lock);
        for (struct writing *w = s->writings; w && !node; w = w->next)
            if (is_under_way(w) && is_of(w, buffer_text(&p->prefix), raw))
                node = w->node;
    }
    if (!node || !state_get_file(op->fs->state, node, ret_node) || ret_node->is_stale)
        return 0;
    struct file_key id = {.space = op->space->number};
    memcpy(id.uuid, ret_node->uuid, sizeof id.uuid);
    struct object_name name = {.parent = op->node,
                               .name = op->name,
                               .artifact = ret_node->artifact,
                               .size_bytes = ret_node->size_bytes,
                               .mtime_unix_ns = ret_node->mtime_unix_ns};
    return state_object(op->fs->state, &id, &name, ret_node);
}

// ---- its end --------------------------------------------------------------------------------

// Runs again at the event; nobody is told that it took too long while parts arrive.
static int wait_for(struct op *op, struct writing *w, struct upload *u, enum upload_event event)
{
    op->change.is_begun = true;
    op->ignores_interrupts = true;
    op->deadline_ns = clock_ns() + op->fs->options->timeout_ns * STANDSTILL_TIMEOUTS;
    op->source = &op_uploads;
    op->upload = upload_hold(u);
    op->upload_event = event;
    atomic_store(&w->unanswered_until_ns, op->deadline_ns);
    atomic_fetch_add(&w->unanswered, 1);
    return -EINPROGRESS;
}

static void wait_ended(struct op *op, struct writing *w)
{
    if (op->change.is_begun)
        atomic_fetch_sub(&w->unanswered, 1);
    op->change.is_begun = false;
}

// Of a request that just came.
static void fail_after_timeout(struct writing *w, struct upload *u)
{
    if (atomic_load(&w->unanswered) > 0 && clock_ns() > atomic_load(&w->unanswered_until_ns))
        upload_fail(u, -ETIMEDOUT, "who wrote it was told that it took too long");
}

// Once for what it has become.
static bool is_to_be_noted(struct writing *w)
{
    lock_scope(&w->space->writings_lock);
    bool is_new = !w->is_noted && !w->is_unlinked;
    w->is_noted = true;
    return is_new;
}

// It is whole: names lead to it, and the node is the object's.
static void note(struct writing *w, const struct upload_result *result)
{
    struct s3_space *s = w->space;
    struct fs *fs = s->space.fs;
    struct bucket_entry e = {
        .raw = buffer_text(&w->raw), .size_bytes = result->size_bytes, .mtime_unix_ns = result->mtime_unix_ns};
    struct bucket_place place = {.prefix = w->prefix};
    struct object object;
    BUFFER_CLEANUP key = {0};
    if (!is_to_be_noted(w))
        return;
    snprintf(e.etag, sizeof e.etag, "%s", result->validator);
    bucket_was_put(s->bucket, buffer_text(&w->prefix), &e);
    s3_space_object(s, &place, &e, &key, &object);
    uint64_t artifact = object_artifact(&object, object.validator, result->size_bytes);
    state_wrote(fs->state, w->node, result->size_bytes, result->mtime_unix_ns, artifact);
    fuse_lowlevel_notify_inval_inode(session_fuse(fs->session), w->node, -1, 0);
    // Who looked at the name meanwhile, in a listing, may have been led to a node of the object that was there before.
    struct file_key id = {.space = s->space.number};
    s3_space_object_id(&place, &e, id.uuid);
    uint64_t other = state_replaced(fs->state, &id, result->size_bytes, result->mtime_unix_ns, artifact);
    if (other)
        fuse_lowlevel_notify_inval_inode(session_fuse(fs->session), other, -1, 0);
    lock_scope(&s->writings_lock);
    w->is_whole = w->is_noted;
}

static void released_ready(struct upload_waiter *waiter);

// Once the kernel has released it: until it is whole or failed, whoever may be waiting.
static void released_go_on(struct writing *w)
{
    struct upload_result result;
    int r;
    do {
        r = upload_result(w->upload, &result);
        if (r == 0)
            note(w, &result);
        else if (r != -EINPROGRESS)
            state_set_stale(w->space->space.fs->state, w->node);
        if (r != -EINPROGRESS) {
            writing_unref(w);
            return;
        }
        w->waiter = (struct upload_waiter){.ready = released_ready};
    } while (upload_wait(w->upload, UPLOAD_MOVE, &w->waiter) == 0);
}

static void released_ready(struct upload_waiter *waiter)
{
    released_go_on((struct writing *)((char *)waiter - offsetof(struct writing, waiter)));
}

// Answers when it is whole: with the error, or as `reply` does.
static int finish(struct op *op, struct writing *w)
{
    struct upload *u = upload_of(w);
    struct upload_result result;
    if (!u)
        return fuse_reply_err(op->req, 0), 0;
    if (op->change.is_begun)
        wait_ended(op, w);
    else
        fail_after_timeout(w, u);
    upload_finish(u);
    int r = upload_result(u, &result);
    if (r == 0) {
        note(w, &result);
        fuse_reply_err(op->req, 0);
    }
    return r == -EINPROGRESS ? wait_for(op, w, u, UPLOAD_MOVE) : r;
}

static struct writing *writing_of(struct op *op)
{
    struct local_handle local;
    return fs_local_get(op->fs, op->fh, &local) ? local.writing : NULL;
}

// Its upload was another process's, which ended: nothing of it came, or will come, to be.
static int lost(struct op *op)
{
    log_warn("a file of %s was being written when butlerfs was started again: it has to be written anew",
             op->space->options->source);
    return -EIO;
}

int s3_space_flush(struct op *op)
{
    struct writing *w = writing_of(op);
    pid_t pid = fuse_req_ctx(op->req)->pid;
    struct upload_result result;
    if (!w)
        return lost(op);
    struct upload *u = upload_of(w);
    if (op->change.is_begun)
        return finish(op, w);
    bool is_opener = pid == 0 || w->opener == 0 || writer_process(pid) == w->opener;
    if (u && is_opener && writer_was_killed(pid))
        upload_fail(u, -EIO, "its writer was killed");
    else if (u && is_opener && upload_size_bytes(u) > 0)
        return finish(op, w);
    int r = u ? upload_result(u, &result) : 0;
    if (r < 0 && r != -EINPROGRESS)
        return r;
    fuse_reply_err(op->req, 0);
    return 0;
}

int s3_space_fsync(struct op *op)
{
    struct writing *w = writing_of(op);
    struct handle h;
    if (w)
        return finish(op, w);
    if (state_get_handle(op->fs->state, op->fh, &h) && (h.flags & O_ACCMODE) != O_RDONLY)
        return lost(op);
    fuse_reply_err(op->req, 0);
    return 0;
}

static int last_close(struct file_node *n, void *context)
{
    (void)context;
    n->mode = OPEN_NONE;
    return 0;
}

int s3_space_release(struct op *op)
{
    struct local_handle local;
    struct handle was;
    struct writing *w = writing_of(op);
    if (!w)
        return opened_drop(op);
    struct upload *u = upload_of(w);
    if (u && atomic_load(&w->unanswered) > 0)
        upload_fail(u, -EIO, "who closed it was told that it took too long");
    if (u) {
        lock_scope(&w->space->writings_lock);
        w->is_released = true; // before the kernel knows: who looks for the name from now on waits
    }
    state_close_handle(op->fs->state, op->fh, &was, last_close, NULL);
    fs_local_take(op->fs, op->fh, &local);
    if (u) {
        upload_finish(u);
        released_go_on(w);
    } else {
        writing_unref(w);
    }
    fuse_reply_err(op->req, 0);
    return 0;
}

// ---- its beginning --------------------------------------------------------------------------

struct opening {
    bool is_new;       // the node was made for it
    uint64_t artifact;
};

// A node that others have open gets a new one: the kernel reads theirs by itself, and can't have both.
static int opening_update(struct file_node *n, void *context)
{
    const struct opening *o = context;
    if (n->opens > 0) {
        n->is_stale = 1;
        return -ESTALE;
    }
    n->artifact = o->artifact;
    n->mode = OPEN_NONE;
    return 0;
}

static struct writing *writing_new(struct op *op, const struct bucket_place *p, struct text raw, uint64_t node)
{
    struct s3_space *s = s3_space_of(op);
    struct writing *w = new_struct(struct writing);
    w->space = s;
    w->node = node;
    w->references = 1;
    w->opener = writer_process(fuse_req_ctx(op->req)->pid);
    buffer_append_text(&w->prefix, buffer_text(&p->prefix));
    buffer_append_text(&w->raw, raw);
    lock_scope(&s->writings_lock);
    w->next = s->writings;
    s->writings = w;
    return w;
}

static int handle_make(struct op *op, uint64_t node, struct writing *w, uint64_t *ret_fh)
{
    struct opening o = {.artifact = hash64_seed(&op->unique, sizeof op->unique, node) | 1};
    int r = state_open_handle(op->fs->state, HANDLE_FILE, node, op->unique, opening_update, &o, ret_fh);
    if (r < 0) {
        writing_unref(w);
        return r;
    }
    state_set_flags(op->fs->state, *ret_fh, (uint32_t)op->flags);
    struct local_handle local = {.fd = -1, .space = op->space->number, .writing = w};
    fs_local_put(op->fs, *ret_fh, &local);
    return 0;
}

// The kernel was told nothing of the handle.
static void handle_drop(struct op *op, uint64_t fh)
{
    struct local_handle local;
    struct handle was;
    bool is_local = fs_local_take(op->fs, fh, &local); // before its number may be another's
    state_close_handle(op->fs->state, fh, &was, last_close, NULL);
    if (is_local && local.writing)
        writing_unref(local.writing);
}

static struct fuse_file_info file_info(uint64_t fh, int flags)
{
    return (struct fuse_file_info){.fh = fh, .flags = flags, .direct_io = 1};
}

static int create_reply(struct op *op, uint64_t node, uint64_t fh)
{
    op->is_passing = true;
    struct fuse_file_info fi = file_info(fh, op->flags);
    struct file_node n;
    struct fs_attr attr;
    if (!state_get_file(op->fs->state, node, &n))
        return -ESTALE;
    s3_space_file_attr(s3_space_of(op), &n, &attr);
    if (fs_reply_create(op, node, &attr, &fi) < 0)
        handle_drop(op, fh);
    return 0;
}

static int create_new(struct op *op, const struct bucket_place *p, struct text raw)
{
    struct file_key id = {.space = op->space->number};
    struct file_node n;
    uint64_t fh = 0;
    s3_space_object_id(p, &(struct bucket_entry){.raw = raw}, id.uuid);
    struct object_name name = {.parent = op->node,
                               .name = op->name,
                               .artifact = hash64(&op->unique, sizeof op->unique) | 1,
                               .mtime_unix_ns = clock_unix_ns()};
    uint64_t node = state_object(op->fs->state, &id, &name, &n);
    if (!node)
        return -ENFILE;
    struct writing *w = writing_new(op, p, raw, node);
    begin_upload(w);
    int r = handle_make(op, node, w, &fh);
    if (r < 0) {
        state_forget(op->fs->state, node, 1);
        return r;
    }
    return create_reply(op, node, fh);
}

// One that came again after a death is answered with what its first run made; what is written to it is EIO.
static bool create_again(struct op *op)
{
    struct handle h;
    uint64_t fh = op->is_resent ? state_find_handle(op->fs->state, op->unique) : 0;
    return fh && state_get_handle(op->fs->state, fh, &h) && create_reply(op, h.node, fh) == 0;
}

int s3_space_create(struct op *op)
{
    struct bucket_place place;
    struct bucket_entry e;
    BUFFER_CLEANUP raw = {0}, scratch = {0};
    if (create_again(op))
        return 0;
    int r = s3_space_new_entry(op, op->node, op->name, &place, &raw, &e, &scratch);
    if (r < 0 && r != -ENOENT)
        return r;
    bool may_replace = op->space->options->write == WRITE_REPLACE && !(op->flags & O_EXCL);
    if (r == 0)
        r = !e.is_folder && may_replace ? -ENOENT : -EEXIST;
    // The kernel finds that one by looking it up, but not once another client has made an object of its name.
    if (r == -ENOENT && s3_space_end_writing(s3_space_of(op), &place, buffer_text(&raw)) < 0)
        r = -EBUSY;
    if (r == -ENOENT)
        r = create_new(op, &place, buffer_text(&raw));
    bucket_place_release(&place);
    return r;
}

static int open_to_write(struct op *op, const struct file_node *n)
{
    struct bucket_place place;
    struct bucket_entry e;
    BUFFER_CLEANUP scratch = {0};
    uint64_t fh = 0;
    if (s3_space_is_writer_of(s3_space_of(op), op->node))
        return -EBUSY;
    int r = s3_space_entry(op, n, &place, &e, &scratch);
    if (r < 0)
        return r;
    r = s3_space_end_writing(s3_space_of(op), &place, e.raw);
    if (r == 0) {
        struct writing *w = writing_new(op, &place, e.raw, op->node);
        r = handle_make(op, op->node, w, &fh);
    }
    bucket_place_release(&place);
    if (r < 0)
        return r;
    struct fuse_file_info fi = file_info(fh, op->flags);
    if (fuse_reply_open(op->req, &fi) == -ENOENT)
        handle_drop(op, fh);
    return 0;
}

// Opening what is there. That it is truncated the kernel says later (s3_space_truncate): until then nothing is written.
int s3_space_open_to_write(struct op *op)
{
    struct file_node n;
    struct handle h;
    if (!state_get_file(op->fs->state, op->node, &n))
        return -ESTALE;
    uint64_t had = op->is_resent ? state_find_handle(op->fs->state, op->unique) : 0;
    if (had && state_get_handle(op->fs->state, had, &h)) {
        struct fuse_file_info fi = file_info(had, op->flags);
        fuse_reply_open(op->req, &fi);
        return 0;
    }
    if (op->flags & O_APPEND)
        return -EOPNOTSUPP;
    if (op->space->options->write != WRITE_REPLACE)
        return -EPERM;
    return open_to_write(op, &n);
}

// ---- writing --------------------------------------------------------------------------------

// false: its name was deleted.
static bool goes_on(struct writing *w)
{
    lock_scope(&w->space->writings_lock);
    w->is_noted = w->is_whole = false;
    return !w->is_unlinked;
}

// open(2) that truncates says so without its handle.
static struct writing *writing_to_truncate(struct op *op)
{
    struct s3_space *s = s3_space_of(op);
    struct writing *of_fh = op->change.has_fh ? writing_of(op) : NULL;
    lock_scope(&s->writings_lock);
    for (struct writing *w = s->writings; w; w = w->next) {
        bool is_it = op->change.has_fh ? w == of_fh : w->node == op->node;
        if (!is_it || w->upload || w->is_unlinked)
            continue;
        w->references++;
        return w;
    }
    return NULL;
}

int s3_space_truncate(struct op *op)
{
    struct writing *w = writing_to_truncate(op);
    if (!w)
        return -EOPNOTSUPP;
    begin_upload(w);
    state_wrote(op->fs->state, op->node, 0, clock_unix_ns(), 0);
    writing_unref(w);
    return 0;
}

static int write_answer(struct op *op, struct writing *w, struct upload *u)
{
    struct upload_result result;
    int r = upload_result(u, &result);
    if (r < 0 && r != -EINPROGRESS)
        return r;
    if (r == -EINPROGRESS && !upload_has_room(u))
        return wait_for(op, w, u, UPLOAD_ROOM);
    metric_add(METRIC_WRITE_BYTES, (int64_t)op->size_bytes);
    fuse_reply_write(op->req, op->size_bytes);
    return 0;
}

// The bytes are taken at once; who writes faster than they are sent is answered when there is room again.
int s3_space_write(struct op *op)
{
    struct writing *w = writing_of(op);
    if (!w)
        return lost(op);
    struct upload *u = upload_of(w);
    if (!u)
        return -EOPNOTSUPP; // into an object that is there
    if (op->change.is_begun) {
        wait_ended(op, w);
        return write_answer(op, w, u);
    }
    fail_after_timeout(w, u);
    if (!goes_on(w))
        return -ECANCELED; // as who is unlinked before his end is told
    int r = upload_write(u, (uint64_t)op->offset, op->change.data, op->size_bytes);
    if (r < 0)
        return r;
    state_wrote(op->fs->state, op->node, op->offset + (int64_t)op->size_bytes, clock_unix_ns(), 0);
    return write_answer(op, w, u);
}
