// SPDX-License-Identifier: BSD-3-Clause
// xattr.c: user.s3.* of objects (tree.md, "An S3 space"). What a listing doesn't say is asked by a HEAD,
// and only when it is wanted.
#include <errno.h>

#include "fs/recall.h"
#include "fs/space/s3/s3.h"
#include "fs/xattr.h"

#define PREFIX "user.s3."
#define METADATA "metadata."

static void head_xattrs(const struct doc *map, struct xattrs *x)
{
    static const char *const plain[] = {"etag", "version_id", "storage_class", "content_type"};
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        struct text value = doc_text(doc_get(map, plain[i]), (struct text){0});
        if (value.size_bytes)
            xattr_add(x, plain[i], value);
    }
    const struct doc *metadata = doc_get(map, "metadata");
    for (size_t i = 0; i < doc_count(metadata); i++) {
        BUFFER_CLEANUP name = {0};
        buffer_append_string(&name, METADATA);
        buffer_append_text(&name, doc_key(metadata, i));
        xattr_add(x, name.data, doc_text(doc_item(metadata, i), (struct text){0}));
    }
}

static void percent_xattr(struct op *op, const struct object *object, struct xattrs *x)
{
    struct cache_attr attr;
    BUFFER_CLEANUP text = {0};
    if (!xattr_is_wanted(x, "cached"))
        return;
    int r = cache_peek(op->fs->cache, object, &attr);
    bool is_there = r == 0 && attr.size_bytes > 0;
    unsigned percent = is_there ? (unsigned)(attr.present_bytes * 100 / (uint64_t)attr.size_bytes) : 0;
    buffer_format(&text, "%u", percent);
    xattr_add(x, "cached", buffer_text(&text));
}

// What a listing of versions has said already, as well: a server may leave it out of an answer about one.
static void version_xattr(const struct bucket_entry *e, const struct doc *map, struct xattrs *x)
{
    if (e->version.size_bytes && !doc_get(map, "version_id"))
        xattr_add(x, "version_id", e->version);
}

static int object_collect(struct op *op, const struct file_node *n, struct xattrs *x)
{
    struct bucket_place place;
    struct bucket_entry e;
    struct object object;
    BUFFER_CLEANUP scratch = {0}, key = {0};
    cleanup(cleanup_doc_free) struct doc *map = NULL;
    int r = s3_space_entry(op, n, &place, &e, &scratch);
    if (r < 0)
        return r;
    s3_space_object(s3_space_of(op), &place, &e, &key, &object);
    bool is_listed = text_equal(x->wanted, TEXT("etag")) && e.etag[0];
    bool is_version = text_equal(x->wanted, TEXT("version_id")) && e.version.size_bytes;
    bool is_here = text_equal(x->wanted, TEXT("cached")) || text_equal(x->wanted, TEXT("locality"));
    if (is_listed)
        xattr_add(x, "etag", text_of(e.etag));
    else if (!is_version && !is_here)
        r = bucket_head(&place, &e, &map, &op->bucket_want);
    if (r == 0) {
        head_xattrs(map, x);
        version_xattr(&e, map, x);
        percent_xattr(op, &object, x);
        r = recall_add_locality(op, &object, x);
    }
    bucket_place_release(&place);
    return r == -ENOENT ? -ESTALE : r;
}

static int collect(struct op *op, struct xattrs *x)
{
    struct file_node file;
    if (state_get_file(op->fs->state, op->node, &file))
        return object_collect(op, &file, x);
    return 0;
}

int s3_space_getxattr(struct op *op)
{
    return xattr_get(op, TEXT(PREFIX), collect);
}

int s3_space_listxattr(struct op *op)
{
    return xattr_list(op, TEXT(PREFIX), collect);
}
