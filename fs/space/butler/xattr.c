// SPDX-License-Identifier: BSD-3-Clause
// xattr.c: user.butler.* of files and folders (tree.md, "Extended attributes"). Only what is true of
// the thing itself; what nothing implements yet is ENODATA.
#include <errno.h>

#include "base/clock.h"
#include "fs/recall.h"
#include "fs/space/butler/butler.h"
#include "fs/xattr.h"
#include "meta/name.h"

#define PREFIX "user.butler."

// ---- folders --------------------------------------------------------------------------------

static void value_put(struct doc *map, const char *key, const struct value *v)
{
    doc_put(map, key, v->kind == VALUE_INTEGER ? doc_new_integer(v->integer) : doc_new_text(v->text));
}

static void place_data_id(const struct place *p, struct buffer *to)
{
    struct doc *map = doc_new(DOC_MAP);
    for (uint32_t i = 0; i < p->depth; i++) {
        struct text name = p->snapshot->elements[p->type->levels[i].element].name;
        char *key = memory_copy(name.data, name.size_bytes);
        value_put(map, key, &p->values[i]);
        free(key);
    }
    doc_write_json(map, false, to);
    doc_free(map);
}

static void folder_xattrs(const struct place *p, struct xattrs *x)
{
    const struct collection *c = p->collection;
    if (!c && p->kind == PLACE_COLLECTIONS && p->branch && p->branch->collection != INDEX_NONE)
        c = &p->snapshot->collections[p->branch->collection];
    if (c) {
        xattr_add(x, "collection", c->name);
        xattr_add(x, "collection_type", text_of(collection_kind_name(c->kind)));
        if (c->doc.size_bytes)
            xattr_add(x, "doc", c->doc);
    }
    if (!p->type)
        return;
    xattr_add(x, "dataset_type", p->type->name);
    cleanup(buffer_release) struct buffer json = {0};
    place_data_id(p, &json);
    xattr_add(x, "data_id", buffer_text(&json));
}

static int folder_collect(struct op *op, struct xattrs *x)
{
    struct place place;
    int r = butler_place(op, op->node, &place);
    if (r < 0)
        return r == -ENOENT ? -ESTALE : r;
    folder_xattrs(&place, x);
    place_release(&place);
    return 0;
}

// ---- files ----------------------------------------------------------------------------------

static void size_xattr(const struct dataset_file *f, const struct file_node *n, struct xattrs *x)
{
    cleanup(buffer_release) struct buffer text = {0};
    buffer_format(&text, "%lld", (long long)(f->size_bytes == SIZE_UNKNOWN ? n->size_bytes : f->size_bytes));
    xattr_add(x, "size", buffer_text(&text));
}

static void checksum_xattr(const struct dataset_file *f, struct xattrs *x)
{
    if (f->checksum.size_bytes == 0)
        return;
    cleanup(buffer_release) struct buffer text = {0};
    buffer_append_string(&text, "blake2b:");
    buffer_append_text(&text, f->checksum);
    xattr_add(x, "checksum", buffer_text(&text));
}

// Where its bytes are. A local artifact is where it is; nothing of it is kept.
static int place_xattrs(struct op *op, const struct dataset_file *f, struct xattrs *x)
{
    struct object object;
    struct cache_attr attr;
    const char *why;
    BUFFER_CLEANUP key = {0}, checksum = {0}, member = {0}, percent = {0};
    if (!xattr_is_wanted(x, "cached") && !xattr_is_wanted(x, "locality"))
        return 0;
    if (butler_object(butler_of(op), f, &key, &checksum, &object, &member, &why) < 0) {
        xattr_add(x, "locality", TEXT("online"));
        return 0;
    }
    bool is_there = cache_peek(op->fs->cache, &object, &attr) == 0 && attr.size_bytes > 0;
    buffer_format(&percent, "%u", is_there ? (unsigned)(attr.present_bytes * 100 / (uint64_t)attr.size_bytes) : 0);
    xattr_add(x, "cached", buffer_text(&percent));
    return recall_add_locality(op, &object, x);
}

static int dataset_xattrs(struct op *op, const struct dataset *d, const struct file_node *n, struct xattrs *x)
{
    char uuid[UUID_TEXT_BYTES], date[CLOCK_ISO_BYTES];
    uuid_format(&d->uuid, uuid);
    xattr_add(x, "uuid", text_of(uuid));
    xattr_add(x, "dataset_type", d->type);
    xattr_add(x, "run", d->run);
    if (d->ingest_tai_ns != INT64_MIN) {
        clock_format_iso(tai_to_unix_ns(d->ingest_tai_ns), date);
        xattr_add(x, "ingest_date", text_of(date));
    }
    for (uint32_t i = 0; i < d->file_count; i++) {
        const struct dataset_file *f = &d->files[i];
        if (butler_component(f->component) != n->component)
            continue;
        xattr_add(x, "storage_class", f->storage_class.size_bytes ? f->storage_class : d->storage_class);
        if (f->component.size_bytes)
            xattr_add(x, "component", f->component);
        size_xattr(f, n, x);
        checksum_xattr(f, x);
        return place_xattrs(op, f, x);
    }
    return 0;
}

static int data_id_xattr(struct op *op, const struct uuid *uuid, struct xattrs *x)
{
    if (x->wanted.size_bytes && !text_equal(x->wanted, TEXT("data_id")))
        return 0;
    cleanup(buffer_release) struct buffer json = {0};
    if (x->wanted.size_bytes) {
        int r = repository_data_id(butler_of(op)->repository, op->fresh, uuid, &json, &op->want);
        if (r < 0)
            return r;
    }
    xattr_add(x, "data_id", buffer_text(&json));
    return 0;
}

static int file_collect(struct op *op, const struct file_node *n, struct xattrs *x)
{
    struct dataset *d;
    int r = butler_dataset(op, n, &d);
    if (r < 0)
        return r;
    struct uuid uuid = d->uuid;
    r = dataset_xattrs(op, d, n, x);
    dataset_free(d);
    return r < 0 ? r : data_id_xattr(op, &uuid, x);
}

// ---- verbs ----------------------------------------------------------------------------------

static int collect(struct op *op, struct xattrs *x)
{
    struct file_node file;
    if (state_get_file(op->fs->state, op->node, &file))
        return file_collect(op, &file, x);
    if (state_kind(op->fs->state, op->node) == NODE_FOLDER)
        return folder_collect(op, x);
    return 0;
}

int butler_getxattr(struct op *op)
{
    return xattr_get(op, TEXT(PREFIX), collect);
}

int butler_listxattr(struct op *op)
{
    return xattr_list(op, TEXT(PREFIX), collect);
}
