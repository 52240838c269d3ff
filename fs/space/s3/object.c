// SPDX-License-Identifier: BSD-3-Clause
// object.c: opening and reading objects, through the cache. The mode bits of the space are the kernel's to
// check; who may read is decided there.
#include <errno.h>
#include <fcntl.h>

#include "base/log.h"
#include "base/metric.h"
#include "fs/opened.h"
#include "fs/space/s3/s3.h"

// What a folder said of an object that turned out to be another one is not believed any more.
static void doubt(struct op *op, const struct file_node *n)
{
    struct named_node name;
    struct bucket_place place;
    if (!state_get_named(op->fs->state, n->name, &name) || s3_space_place(op, name.parent, &place) < 0)
        return;
    bucket_doubt(s3_space_of(op)->bucket, buffer_text(&place.prefix));
    bucket_place_release(&place);
}

static int open_failed(const struct object *object, int error, const char *why)
{
    if (error >= 0 || error == -EINPROGRESS || error == -ENOENT)
        return error;
    log_write(error == -EACCES ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN, "object %.*s: %s (%s)",
              (int)object->key.size_bytes, object->key.data, strerror(-error), why ? why : "no reason given");
    return error;
}

static int object_open(struct op *op, const struct file_node *n, struct opened *ret_opened)
{
    struct bucket_place place;
    struct bucket_entry e;
    struct object object;
    BUFFER_CLEANUP scratch = {0}, key = {0};
    cleanup(cleanup_free) char *why = NULL;
    int r = s3_space_entry(op, n, &place, &e, &scratch);
    if (r < 0)
        return r;
    s3_space_object(s3_space_of(op), &place, &e, &key, &object);
    r = open_failed(&object, opened_cached(op, &object, ret_opened, &why), why);
    if (r == 0)
        s3_space_tell_place(op, &place, &e, ret_opened->cached);
    if (r == -ENOENT) { // it was listed: it is gone since
        bucket_doubt(s3_space_of(op)->bucket, buffer_text(&place.prefix));
        r = -ESTALE;
    }
    bucket_place_release(&place);
    return r;
}

int s3_space_open(struct op *op)
{
    struct file_node n;
    struct opened opened = {.fd = -1};
    if ((op->flags & O_ACCMODE) != O_RDONLY)
        return s3_space_open_to_write(op);
    if (!state_get_file(op->fs->state, op->node, &n))
        return -ESTALE;
    if (opened_reply_again(op))
        return 0;
    if (s3_space_is_writer_of(s3_space_of(op), op->node))
        return -EBUSY;
    int r = object_open(op, &n, &opened);
    if (r == 0)
        r = opened_reply(op, &opened);
    if (r < 0 && r != -EINPROGRESS)
        metric_add(r == -ESTALE ? METRIC_OPEN_STALE : METRIC_OPEN_FAILED, 1);
    return r;
}

int s3_space_read(struct op *op)
{
    struct file_node n;
    struct handle h;
    if (state_get_handle(op->fs->state, op->fh, &h) && (h.flags & O_ACCMODE) != O_RDONLY)
        return -EOPNOTSUPP; // of what is being written there is nothing yet
    int r = opened_read(op, object_open);
    if (r == -ESTALE && state_get_file(op->fs->state, op->node, &n))
        doubt(op, &n);
    return r;
}

int s3_space_find_object(struct op *op, const struct file_node *n, struct found_object *ret_found)
{
    struct bucket_place place;
    struct bucket_entry e;
    BUFFER_CLEANUP scratch = {0};
    int r = s3_space_entry(op, n, &place, &e, &scratch);
    if (r < 0)
        return r;
    *ret_found = (struct found_object){0};
    s3_space_object(s3_space_of(op), &place, &e, &ret_found->key, &ret_found->object);
    buffer_append_string(&ret_found->validator, e.etag);
    ret_found->object.validator = buffer_text(&ret_found->validator);
    buffer_append_text(&ret_found->version, e.version);
    ret_found->object.version = buffer_text(&ret_found->version);
    bucket_place_release(&place);
    return 0;
}
