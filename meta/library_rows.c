// SPDX-License-Identifier: BSD-3-Clause
// library_rows: from the registry's rows to the catalogue's, and from wants to values.
// 1. What a dataset is in the tree is decided here, once: a file, or hidden. A composite (several
//    files, or one of a component) is hidden for now; it is known all the same, and so hides what
//    is behind it in a chain.
#include "meta/library.h"

#include <sys/stat.h>

#include "base/clock.h"
#include "base/log.h"
#include "cache/object.h"
#include "meta/artifact.h"
#include "meta/name.h"

uint32_t library_files(const struct registry_file *files, uint32_t count)
{
    uint32_t n = 0;
    while (n < count && files[n].datastore == files[0].datastore)
        n++;
    return n;
}

// Whether a recorded path is its artifact's name as it stands: no URI, nothing to decode.
static bool is_plain(struct text path)
{
    return path.size_bytes && !memchr(path.data, '%', path.size_bytes) &&
           !memchr(path.data, '#', path.size_bytes) && !memchr(path.data, ':', path.size_bytes);
}

static struct text keep_suffix(struct text path, struct buffer *store)
{
    struct text suffix = name_suffix(path);
    size_t from = store->size_bytes;
    buffer_append_text(store, suffix);
    return text_slice(buffer_text(store), from, store->size_bytes);
}

struct text library_suffix(const struct repository *r, uint32_t datastore, struct text path,
                           struct buffer *store)
{
    struct artifact a;
    if (is_plain(path))
        return name_suffix(path);
    if (datastore >= r->config->datastore_count ||
        artifact_resolve(&r->config->datastores[datastore], path, &a) < 0)
        return TEXT(".data");
    struct text suffix = keep_suffix(buffer_text(a.member.size_bytes ? &a.member : &a.path), store);
    artifact_release(&a);
    return suffix;
}

// What the disk says where the record doesn't; a missing artifact is shown with size 0.
static int64_t size_of_artifact(const struct repository *r, const struct registry_file *f)
{
    struct artifact a;
    struct stat st;
    if (f->datastore >= r->config->datastore_count ||
        artifact_resolve(&r->config->datastores[f->datastore], f->path, &a) < 0)
        return 0;
    int64_t size = SIZE_UNKNOWN;
    if (a.scheme == ARTIFACT_FILE && a.member.size_bytes == 0) {
        int e = object_stat_local(a.path.data, &st);
        size = e == 0 ? st.st_size : e == -ENOENT || e == -ENOTDIR ? 0 : SIZE_UNKNOWN;
    }
    artifact_release(&a);
    return size;
}

int library_row(const struct repository *r, const struct dataset_type *t,
                const struct registry_row *in, struct row *ret_row, struct key *ret_key,
                enum row_kind *ret_kind, struct buffer *store)
{
    if (in->value_count != t->level_count)
        return -EBADMSG;
    ret_key->size_bytes = 0;
    for (uint32_t i = 0; i < t->level_count; i++)
        key_append(ret_key, &in->values[i], t->level_count);
    uint32_t files = library_files(in->files, in->file_count);
    if (files != 1 || in->files[0].component.size_bytes) {
        *ret_kind = ROW_HIDDEN;
        return 0;
    }
    const struct registry_file *f = &in->files[0];
    *ret_kind = ROW_VISIBLE;
    ret_row->uuid = in->uuid;
    ret_row->mtime_unix_ns = in->ingest_tai_ns == INT64_MIN ? 0 : tai_to_unix_ns(in->ingest_tai_ns);
    ret_row->value_count = in->value_count;
    memcpy(ret_row->values, in->values, in->value_count * sizeof(*in->values));
    ret_row->file_count = 1;
    ret_row->files[0] = (struct row_file){
        .suffix = library_suffix(r, f->datastore, f->path, store),
        .size_bytes = f->size_bytes < 0 ? size_of_artifact(r, f) : f->size_bytes,
    };
    return 0;
}

int want_values(const struct want *w, const struct snapshot *s, const struct dataset_type *t,
                struct value *ret_values, struct buffer *store)
{
    size_t offset = 0;
    const char *at = w->texts.data, *end = at + w->texts.size_bytes;
    if (w->depth > t->level_count)
        return -ENOENT; // another dataset type by now
    buffer_reserve(store, w->key.size_bytes + w->texts.size_bytes);
    for (uint32_t i = 0; i < w->depth; i++) {
        bool is_cut;
        uint32_t size;
        if (key_read(key_text(&w->key), &offset, &ret_values[i], &is_cut, store) < 0 ||
            ret_values[i].kind != s->elements[t->levels[i].element].kind)
            return -ENOENT;
        if (!is_cut)
            continue;
        check((size_t)(end - at) >= sizeof(size));
        memcpy(&size, at, sizeof(size));
        at += sizeof(size);
        check((size_t)(end - at) >= size);
        size_t from = store->size_bytes;
        buffer_append(store, at, size);
        ret_values[i] = value_text(text_slice(buffer_text(store), from, store->size_bytes));
        at += size;
    }
    return offset == w->key.size_bytes ? 0 : -ENOENT;
}
