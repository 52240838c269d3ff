// SPDX-License-Identifier: BSD-3-Clause
// library_rows: from the registry's rows to the catalogue's, and from wants to values.
// 1. What a dataset is in the tree is decided here, once: stored (a file, or a composite's several),
//    or hidden. What isn't stored is known all the same, and so hides what is behind it in a chain.
#include "meta/library.h"

#include "base/clock.h"
#include "base/log.h"
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

// Suffixes that aren't a part of the path they are of are kept in `store`, which is reserved first:
// they are no longer than the paths.
static void fill_files(const struct repository *r, const struct registry_row *in, struct row *row,
                       struct buffer *store)
{
    size_t size = 0;
    row->file_count = library_files(in->files, in->file_count);
    for (uint32_t i = 0; i < row->file_count; i++)
        size += in->files[i].path.size_bytes;
    buffer_reserve(store, size);
    for (uint32_t i = 0; i < row->file_count; i++) {
        const struct registry_file *f = &in->files[i];
        row->files[i] = (struct row_file){
            .component = f->component,
            .suffix = library_suffix(r, f->datastore, f->path, store),
            .size_bytes = f->size_bytes < 0 ? library_size(r, f) : f->size_bytes,
        };
    }
}

static void append_range(const struct registry_row *in, const struct row *row, struct key *k)
{
    struct key_range range = {.kind = KEY_RANGE_HIDDEN, .span = in->range};
    memcpy(range.of, in->uuid.bytes, sizeof(range.of));
    if (in->file_count)
        range = key_range_named(&in->range, in->has_twin ? &in->uuid : NULL, row_suffix(row));
    key_append_range(k, &range);
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
    *ret_kind = in->file_count ? ROW_VISIBLE : ROW_HIDDEN;
    ret_row->is_double = in->is_double;
    if (in->file_count)
        fill_files(r, in, ret_row, store);
    if (in->has_range)
        append_range(in, ret_row, ret_key);
    if (in->file_count == 0)
        return 0;
    ret_row->uuid = in->uuid;
    ret_row->mtime_unix_ns = in->ingest_tai_ns == INT64_MIN ? 0 : tai_to_unix_ns(in->ingest_tai_ns);
    ret_row->value_count = in->value_count;
    memcpy(ret_row->values, in->values, in->value_count * sizeof(*in->values));
    ret_row->has_range = in->has_range;
    ret_row->has_twin = in->has_twin;
    ret_row->range = in->range;
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
    return offset == w->key.size_bytes || key_has_range(key_text(&w->key), offset) ? 0 : -ENOENT;
}
