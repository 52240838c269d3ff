// SPDX-License-Identifier: BSD-3-Clause
// file.c: finding the artifact behind a file node, and opening it. A local artifact is opened as the
// caller at every open: rights count at open. What becomes of it then is fs/opened.c's.
#include <errno.h>

#include "base/hash.h"
#include "base/log.h"
#include "base/metric.h"
#include "fs/opened.h"
#include "fs/recall.h"
#include "fs/space/butler/butler.h"
#include "meta/artifact.h"

// ---- finding the artifact -------------------------------------------------------------------

static int local_open(const struct butler *b, const char *path, const struct asking *asking,
                      int *ret_fd, struct stat *ret_stat, const char **ret_why)
{
    bool is_root = asking->caller.uid == 0 && b->access.can_change_ids && !b->access.as_owner;
    if (!is_root || asking->is_granted || b->writer_is_trusted)
        return object_open_local(path, &b->access, &asking->caller, ret_fd, ret_stat, ret_why);
    struct object_access beneath = b->access;
    beneath.as_owner = true;
    int r = object_open_local(path, &beneath, &asking->caller, ret_fd, ret_stat, ret_why);
    if (r != -EACCES)
        return r;
    return object_open_local(path, &b->access, &b->writer, ret_fd, ret_stat, ret_why);
}

// What is wrong with an archive or a member is for the log; the reader learns that it can't be had.
static int member_find(struct op *op, struct text name, struct opened *o, const char **ret_why)
{
    cleanup(cleanup_archive_unref) struct archive *archive = NULL;
    int r = archives_get(op->fs->archives, o->fd, op->deadline_ns, &archive, ret_why);
    if (r == 0)
        r = archive_find(archive, o->fd, name, &o->member, ret_why);
    if (r == -ENOENT)
        *ret_why = "the archive has no such member";
    if (r < 0) {
        opened_release(o);
        return r == -ETIMEDOUT || r == -ESTALE ? r : -EREMOTEIO;
    }
    o->is_member = true;
    o->can_pass = false;
    o->size_bytes = (int64_t)o->member.size_bytes;
    return 0;
}

static int artifact_try(struct op *op, const struct artifact *artifact, const struct asking *asking,
                        struct opened *o, const char **ret_why)
{
    struct stat st;
    int r = local_open(butler_of(op), artifact->path.data, asking, &o->fd, &st, ret_why);
    if (r < 0)
        return r;
    o->can_pass = true;
    o->size_bytes = st.st_size;
    if (artifact->member.size_bytes)
        r = member_find(op, buffer_text(&artifact->member), o, ret_why);
    if (r == 0)
        opened_identify(o, &st);
    return r;
}

static int bring_archive(struct op *op, struct cached *cached)
{
    int r = cached_warm(cached, false, &op->cache_want);
    if (r != -EAGAIN)
        return r;
    r = recall_for_reader(op, cached);
    return r == 0 ? cached_warm(cached, false, &op->cache_want) : r;
}

// A member of an archive that is all in the cache, by its file there.
static int remote_member(struct op *op, struct text name, struct opened *o, const char **ret_why)
{
    struct stat st;
    if (!o->can_pass) {
        int r = bring_archive(op, o->cached);
        opened_release(o);
        if (r == 0) {
            *ret_why = "its archive can't be kept in the cache as a whole";
            r = -EREMOTEIO;
        }
        return r;
    }
    if (fstat(o->fd, &st) < 0) {
        opened_release(o);
        return -EREMOTEIO;
    }
    uint64_t artifact = o->artifact;
    int r = member_find(op, name, o, ret_why);
    if (r == 0)
        o->artifact = o->pages = hash64_seed(name.data, name.size_bytes, artifact) | 1;
    return r;
}

static int remote_open(struct op *op, const struct dataset_file *file, bool passes_nearline, struct opened *o,
                       struct buffer *why)
{
    struct object object;
    BUFFER_CLEANUP key = {0}, checksum = {0}, member = {0};
    cleanup(cleanup_free) char *reason = NULL;
    const char *text = NULL;
    int r = butler_object(butler_of(op), file, &key, &checksum, &object, &member, &text);
    if (r == 0)
        r = opened_cached(op, &object, o, &reason);
    if (r == 0 && passes_nearline && cached_is_nearline(o->cached)) {
        opened_release(o);
        text = "it is nearline";
        r = -EREMCHG;
    }
    if (r == 0 && member.size_bytes)
        r = remote_member(op, buffer_text(&member), o, &text);
    if (r < 0)
        buffer_append_string(why, reason ? reason : text ? text : "no reason was given");
    return r;
}

static const struct datastore_config *datastore_of(struct op *op, const struct dataset_file *file)
{
    return &repository_config(butler_of(op)->repository)->datastores[file->datastore];
}

int butler_replica_try(struct op *op, const struct dataset_file *file, const struct asking *asking,
                       struct opened *ret_opened, struct buffer *why)
{
    struct opened o = {.fd = -1};
    struct artifact artifact = {0};
    const char *text = "its path is malformed";
    int r = artifact_resolve(datastore_of(op, file), file->path, &artifact);
    if (r == -EXDEV) {
        r = -EACCES;
        text = "its path leaves the datastore's root";
    } else if (r == 0 && artifact.scheme == ARTIFACT_FILE) {
        r = artifact_try(op, &artifact, asking, &o, &text);
    } else if (r == 0) {
        r = remote_open(op, file, asking->passes_nearline, &o, why);
        text = "";
    }
    if (r == 0)
        *ret_opened = o;
    else
        buffer_append_string(why, text);
    artifact_release(&artifact);
    return r;
}

static int replica_open(struct op *op, const struct dataset_file *file, const struct asking *asking,
                        struct opened *ret_opened)
{
    BUFFER_CLEANUP why = {0};
    int r = butler_replica_try(op, file, asking, ret_opened, &why);
    if (r < 0 && r != -EINPROGRESS && r != -EREMCHG) // the caller's rights are his affair, everything else the administrator's
        log_write(r == -EACCES ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN, "artifact %.*s of %s: %s (%s)",
                  (int)file->path.size_bytes, file->path.data, datastore_of(op, file)->root, strerror(-r),
                  why.data ? why.data : "no reason was given");
    return r;
}

// The first replica that opens, in datastore order, those that are nearline last; if none does: EACCES if one was refused to
// this caller, EAGAIN if one must be recalled to be opened, ETIMEDOUT if one's origin did not answer, else EREMOTEIO.
// -EREMCHG: some were passed by, as they are nearline.
static int replicas_open(struct op *op, const struct dataset *d, uint64_t component,
                         const struct asking *asking, struct opened *ret_opened)
{
    int worst = -EREMOTEIO;
    for (uint32_t i = 0; i < d->file_count; i++) {
        if (butler_component(d->files[i].component) != component)
            continue;
        int r = replica_open(op, &d->files[i], asking, ret_opened);
        if (r == 0 || r == -EINPROGRESS || r == -EMFILE || r == -ENFILE)
            return r;
        if (r == -EACCES || r == -EAGAIN || r == -EREMCHG || (r == -ETIMEDOUT && worst == -EREMOTEIO))
            worst = worst == -EREMCHG ? worst : r;
    }
    return worst;
}

static int dataset_open(struct op *op, const struct dataset *d, uint64_t component,
                        const struct asking *asking, struct opened *ret_opened)
{
    struct asking first = *asking;
    first.passes_nearline = true;
    int r = replicas_open(op, d, component, &first, ret_opened);
    if (r == -EREMCHG)
        r = replicas_open(op, d, component, asking, ret_opened);
    if (r == -EREMOTEIO)
        log_error("%.*s: no replica of this dataset could be opened", (int)d->type.size_bytes,
                  d->type.data);
    return r;
}

static int artifact_open(struct op *op, const struct file_node *n, const struct asking *asking,
                         struct opened *ret_opened)
{
    struct dataset *d;
    int r = butler_dataset(op, n, &d);
    if (r < 0)
        return r;
    r = dataset_open(op, d, n->component, asking, ret_opened);
    dataset_free(d);
    return r;
}

// ---- verbs ----------------------------------------------------------------------------------

static int readme_open(struct op *op)
{
    struct fuse_file_info fi = {.keep_cache = 1, .noflush = 1};
    fuse_reply_open(op->req, &fi);
    return 0;
}

int butler_open_file(struct op *op)
{
    struct file_node n;
    const struct fuse_ctx *ctx = fuse_req_ctx(op->req);
    struct asking asking = {.caller = {ctx->uid, ctx->gid, ctx->pid}};
    if (state_kind(op->fs->state, op->node) == NODE_README)
        return readme_open(op);
    if (!state_get_file(op->fs->state, op->node, &n))
        return -ESTALE;
    if (opened_reply_again(op))
        return 0;
    struct opened opened = {.fd = -1};
    int r = artifact_open(op, &n, &asking, &opened);
    if (r == 0) {
        butler_tell_place(op, &n, &opened);
        r = opened_reply(op, &opened);
    }
    if (r < 0 && r != -EINPROGRESS)
        metric_add(r == -ESTALE ? METRIC_OPEN_STALE : METRIC_OPEN_FAILED, 1);
    return r;
}

int butler_release(struct op *op)
{
    return opened_drop(op);
}

static int butler_reopen(struct op *op, const struct file_node *n, struct opened *ret_opened)
{
    struct asking self = {.caller = {geteuid(), getegid(), gettid()}, .is_granted = true};
    return artifact_open(op, n, &self, ret_opened);
}

static int readme_read(struct op *op)
{
    cleanup(buffer_release) struct buffer text = {0};
    repository_readme(butler_of(op)->repository, &text);
    size_t from = (size_t)op->offset < text.size_bytes ? (size_t)op->offset : text.size_bytes;
    size_t left = text.size_bytes - from;
    fuse_reply_buf(op->req, text.data + from, left < op->size_bytes ? left : op->size_bytes);
    return 0;
}

int butler_read(struct op *op)
{
    return op->fh ? opened_read(op, butler_reopen) : readme_read(op);
}
