// SPDX-License-Identifier: BSD-3-Clause
// archive_find: one member, and all that may be wrong with it.
// 1. What is handed out was read just now from a file that has the identity of the one that was
//    indexed.
// 2. A member's data lies behind its own local header, before whatever comes next in the file (a
//    member or the directory), and nothing that begins before it reaches into it. Of two that
//    overlap at least the one that lies about its size is refused.
// 3. Its size can be what its data inflates to: equal if stored, at most 1032 times if deflated
//    (two bits for 258 bytes is the most that deflate can do).
#include "cache/archive.h"

#include "base/hash.h"
#include "cache/archive_index.h"

#define DEFLATE_RATIO_MAX 1032

static int refuse(int error, const char *why, const char **ret_why)
{
    *ret_why = why;
    return error;
}

// Reads the fixed part of a header, then all of it. `limit`: where what it belongs to ends.
static int read_header(int fd, uint64_t at, uint64_t limit, size_t fixed_bytes,
                       size_t (*whole_bytes)(struct text), struct buffer *to, const char **ret_why)
{
    if (at > limit || limit - at < fixed_bytes)
        return refuse(-EBADMSG, "its header lies outside of the archive", ret_why);
    buffer_reserve(to, fixed_bytes);
    int r = archive_read_at(fd, to->data, fixed_bytes, at, ret_why);
    if (r < 0)
        return r;
    size_t size = whole_bytes((struct text){to->data, fixed_bytes});
    if (size == 0)
        return refuse(-EBADMSG, "there is no header where its header must be", ret_why);
    if (size > limit - at)
        return refuse(-EBADMSG, "its header lies outside of the archive", ret_why);
    buffer_reserve(to, size);
    r = archive_read_at(fd, to->data + fixed_bytes, size - fixed_bytes, at + fixed_bytes, ret_why);
    if (r == 0)
        to->size_bytes = size;
    return r;
}

static int check_entry(const struct archive_entry *e, const char **ret_why)
{
    if (e->flags & (ARCHIVE_FLAG_ENCRYPTED | ARCHIVE_FLAG_STRONG | ARCHIVE_FLAG_MASKED))
        return refuse(-EBADMSG, "it is encrypted", ret_why);
    if (e->flags & ARCHIVE_FLAG_PATCH)
        return refuse(-EBADMSG, "it is a patch, not data", ret_why);
    if (e->method != ARCHIVE_STORED && e->method != ARCHIVE_DEFLATED)
        return refuse(-EBADMSG, "its compression method is not stored or deflate", ret_why);
    if (e->disk != 0)
        return refuse(-EBADMSG, "it is in another part of the archive", ret_why);
    if (e->size_bytes > INT64_MAX)
        return refuse(-EBADMSG, "its size is impossible", ret_why);
    if (e->method == ARCHIVE_STORED && e->packed_bytes != e->size_bytes)
        return refuse(-EBADMSG, "it is stored but has two sizes", ret_why);
    if (e->method == ARCHIVE_DEFLATED && e->size_bytes / DEFLATE_RATIO_MAX > e->packed_bytes)
        return refuse(-EBADMSG, "it is larger than its data can become", ret_why);
    if (e->size_bytes == 0 && e->crc32 != 0)
        return refuse(-EBADMSG, "it is empty but its checksum is not", ret_why);
    return 0;
}

// The first extent that begins at `from`; it is there if add_extent found it to lie inside.
static const struct archive_extent *find_extent(const struct archive *a, uint64_t from)
{
    size_t low = 0, high = a->extent_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (a->extents[middle].from < from)
            low = middle + 1;
        else
            high = middle;
    }
    return low < a->extent_count && a->extents[low].from == from ? &a->extents[low] : NULL;
}

static int check_place(const struct archive *a, const struct archive_entry *e, uint64_t data_offset,
                       const char **ret_why)
{
    const struct archive_extent *x = find_extent(a, e->header_offset + a->end.shift);
    if (!x || data_offset > a->end.directory_offset ||
        e->packed_bytes > a->end.directory_offset - data_offset)
        return refuse(-EBADMSG, "its data lies outside of the archive", ret_why);
    bool is_last = x == &a->extents[a->extent_count - 1];
    if (x->reached > x->from || (!is_last && data_offset + e->packed_bytes > x[1].from))
        return refuse(-EBADMSG, "it overlaps with another member", ret_why);
    return 0;
}

static int read_member(const struct archive *a, int fd, const struct archive_entry *e,
                       struct archive_member *ret_member, const char **ret_why)
{
    BUFFER_CLEANUP local = {0};
    uint64_t limit = a->end.directory_offset;
    int r = check_entry(e, ret_why);
    if (r < 0)
        return r;
    if (e->header_offset > limit - a->end.shift)
        return refuse(-EBADMSG, "its header lies outside of the archive", ret_why);
    uint64_t at = e->header_offset + a->end.shift;
    r = read_header(fd, at, limit, ARCHIVE_LOCAL_BYTES, archive_local_bytes, &local, ret_why);
    if (r == 0)
        r = archive_check_local(buffer_text(&local), e, ret_why);
    if (r == 0)
        r = check_place(a, e, at + local.size_bytes, ret_why);
    if (r < 0)
        return r;
    *ret_member = (struct archive_member){
        .method = (enum archive_method)e->method,
        .data_offset = at + local.size_bytes,
        .packed_bytes = e->packed_bytes,
        .size_bytes = e->size_bytes,
        .crc32 = e->crc32,
    };
    return 0;
}

static int check_identity(const struct archive *a, int fd, const char **ret_why)
{
    struct archive_identity now;
    int r = archive_identify(fd, &now, ret_why);
    if (r < 0)
        return r;
    if (!archive_identity_equal(&now, &a->identity))
        return refuse(-ESTALE, "the archive was changed or replaced", ret_why);
    return 0;
}

int archive_find(const struct archive *a, int fd, struct text name,
                 struct archive_member *ret_member, const char **ret_why)
{
    BUFFER_CLEANUP central = {0};
    BUFFER_CLEANUP scratch = {0};
    struct archive_entry e;
    bool is_cut;
    uint64_t place =
        table_find(&a->names, hash64_seed(name.data, name.size_bytes, a->seed), NULL, NULL, NULL);
    int r = check_identity(a, fd, ret_why);
    if (r < 0)
        return r;
    if (!place)
        return refuse(-ENOENT, "the archive has no member of this name", ret_why);
    uint64_t start = a->end.directory_offset;
    r = read_header(fd, start + archive_place_at(place), start + a->end.directory_bytes,
                    ARCHIVE_CENTRAL_BYTES, archive_central_bytes, &central, ret_why);
    if (r < 0)
        return r;
    r = archive_parse_central(buffer_text(&central), &e, ret_why);
    if (!text_equal(archive_name(&e, &scratch, &is_cut), name))
        return refuse(-ENOENT, "the archive has no member of this name", ret_why);
    if (archive_place_is_twice(place))
        return refuse(-EBADMSG, "the archive has two members of this name", ret_why);
    if (is_cut)
        return refuse(-EBADMSG, "its name holds a NUL", ret_why);
    if (r == 0)
        r = archive_check_name(name, ret_why);
    return r < 0 ? r : read_member(a, fd, &e, ret_member, ret_why);
}
