// SPDX-License-Identifier: BSD-3-Clause
// verb_object.c: users' verbs about the object behind an opened file: url, warm, evict (control.h, run_at).
#include "fs/verb_object.h"

#include <errno.h>
#include <unistd.h>

#include "base/clock.h"
#include "cache/origin/origin.h"
#include "fs/opened.h"
#include "fs/space/space.h"

#define URL_SECONDS 3600 // where nobody says how long

void found_object_release(struct found_object *f)
{
    buffer_release(&f->key);
    buffer_release(&f->version);
    buffer_release(&f->validator);
    buffer_release(&f->checksum);
}

static int refuse(struct doc *reply, int error, const char *text)
{
    doc_put_text(reply, "error", text);
    return error;
}

__attribute__((format(printf, 3, 4))) static int refuse_format(struct doc *reply, int error, const char *format, ...)
{
    BUFFER_CLEANUP text = {0};
    va_list args;
    va_start(args, format);
    buffer_vformat(&text, format, args);
    va_end(args);
    return refuse(reply, error, text.data);
}

static int find_object(struct op *op, struct doc *reply, struct found_object *ret_found)
{
    struct file_node n;
    if (!state_get_file(op->fs->state, op->node, &n))
        return refuse(reply, -EISDIR, "that is no file");
    int r = op->space->ops->object ? op->space->ops->object(op, &n, ret_found) : -EOPNOTSUPP;
    if (r == -EOPNOTSUPP)
        return refuse(reply, r, "it is a local file: there is no origin to ask, and nothing to keep");
    return r;
}

// What a PUT to the URL would make: an object of that name in the folder that is open.
static int find_new(struct op *op, struct text name, struct doc *reply, struct found_object *ret_found)
{
    if (state_kind(op->fs->state, op->node) != NODE_FOLDER || !op->space->ops->new_object)
        return refuse(reply, -EROFS, "nothing can be written there (option write)");
    int r = op->space->ops->new_object(op, name, ret_found);
    if (r == -EACCES)
        return refuse(reply, r, "you may not write into this folder");
    if (r == -EEXIST)
        return refuse(reply, r, "there is something of that name already");
    return r == -EINVAL ? refuse(reply, r, "a file can't be called that here") : r;
}

// A presigned URL, for who has it open: he may read it; or (put) may make it, in the folder that he has open.
int verb_url(struct op *op, const struct doc *request, struct doc *reply)
{
    cleanup(found_object_release) struct found_object found = {0};
    cleanup(cleanup_free) char *why = NULL;
    BUFFER_CLEANUP url = {0};
    struct text new_name = doc_text(doc_get(request, "put"), (struct text){0});
    int r = new_name.data ? find_new(op, new_name, reply, &found) : find_object(op, reply, &found);
    if (r < 0)
        return r;
    int64_t longest = op->space->options->url_time_ns / NS_PER_S;
    int64_t seconds = doc_integer(doc_get(request, "expires_s"), longest < URL_SECONDS ? longest : URL_SECONDS);
    if (longest < 1)
        return refuse(reply, -EPERM, "no URLs are given here (url_time)");
    if (seconds < 1 || seconds > longest)
        return refuse_format(reply, -EINVAL, "a URL is good for 1 to %lld seconds here (url_time)", (long long)longest);
    r = origin_presign(found.object.origin, new_name.data ? ORIGIN_METHOD_PUT : ORIGIN_METHOD_GET, found.object.key,
                       found.object.version, seconds * NS_PER_S, &url, &why);
    if (r < 0)
        return refuse(reply, r, why ? why : strerror(-r));
    doc_put(reply, "url", doc_new_text(buffer_text(&url)));
    doc_put_bool(reply, "is_archive", found.is_member);
    return 0;
}

static void put_progress(const struct cache_attr *attr, struct doc *reply)
{
    doc_put_integer(reply, "size_bytes", attr->size_bytes);
    doc_put_integer(reply, "present_bytes", (int64_t)attr->present_bytes);
    doc_put_bool(reply, "is_complete", attr->is_complete);
    doc_put_bool(reply, "is_pinned", attr->is_pinned);
}

bool verb_is_from_administrator(const struct op *op)
{
    uid_t uid = fuse_req_ctx(op->req)->uid;
    return uid == 0 || uid == geteuid();
}

// Brings in what the caller has open: it goes on as long as he has, and he asks again to see how far it is.
int verb_warm(struct op *op, const struct doc *request, struct doc *reply)
{
    struct local_handle local;
    struct cache_attr attr;
    struct cache_want want = {0};
    struct file_node n;
    bool pin = doc_bool(doc_get(request, "pin"), false);
    if (!state_get_file(op->fs->state, op->node, &n))
        return refuse(reply, -EISDIR, "that is no file");
    // Who has pinned takes room from everybody until an administrator evicts it.
    if (pin && !verb_is_from_administrator(op))
        return refuse(reply, -EPERM, "only root, or who mounted it, may pin");
    if (!fs_local_get(op->fs, op->fh, &local) || !local.cached) {
        attr = (struct cache_attr){.size_bytes = n.size_bytes, .present_bytes = (uint64_t)n.size_bytes, .is_complete = true};
        put_progress(&attr, reply);
        doc_put_bool(reply, "is_local", true);
        return 0;
    }
    int r = cached_warm(local.cached, pin, &want);
    cache_want_release(&want);
    if (r == -EDQUOT)
        return refuse(reply, r, pin ? "more than may be pinned (cache_pinned)" : "more than the cache may hold (cache_size)");
    if (r == -EAGAIN)
        return refuse(reply, r, "it is nearline: butlerfsctl recall brings it back");
    if (r < 0 && r != -EINPROGRESS)
        return r;
    cached_attr(local.cached, &attr);
    attr.is_complete = r == 0;
    put_progress(&attr, reply);
    return 0;
}

int verb_evict(struct op *op, const struct doc *request, struct doc *reply)
{
    cleanup(found_object_release) struct found_object found = {0};
    (void)request;
    int r = find_object(op, reply, &found);
    if (r < 0)
        return r;
    r = cache_evict(op->fs->cache, &found.object);
    doc_put_bool(reply, "was_there", r == 0);
    return r == -ENOENT ? 0 : r;
}
