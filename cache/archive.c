// SPDX-License-Identifier: BSD-3-Clause
// archive: reads a central directory into an index.
// 1. The directory is read once from its beginning to its end through one buffer; what stays is a
//    hash and a place for each name and an extent for each member. Names and values are read again
//    when they are asked for (archive_find.c).
// 2. What is wrong with a member doesn't matter here: it gets a name, so that asking for it can say
//    what is wrong, and an extent where it has one. Only what makes the next header impossible to
//    find refuses the archive.
// 3. Two members of one name are both refused: readers differ in which one they take. (So are two
//    whose 64-bit hashes are the same; the seed makes that chance, one in 2^25 for a million
//    names.)
#include "cache/archive.h"

#include <sys/random.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "cache/archive_index.h"

#define CHUNK_BYTES ((size_t)256 << 10) // more than the longest central header (46 + 3 * 65535)

static int refuse(int error, const char *why, const char **ret_why)
{
    *ret_why = why;
    return error;
}

int archive_identify(int fd, struct archive_identity *ret_identity, const char **ret_why)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return refuse(-errno, "its state can't be read", ret_why);
    if (!S_ISREG(st.st_mode))
        return refuse(-EBADMSG, "the archive is not a regular file", ret_why);
    *ret_identity = (struct archive_identity){
        .dev = st.st_dev,
        .ino = st.st_ino,
        .size_bytes = st.st_size,
        .mtime = st.st_mtim,
        .ctime = st.st_ctim,
    };
    return 0;
}

static bool is_same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

bool archive_identity_equal(const struct archive_identity *a, const struct archive_identity *b)
{
    return a->dev == b->dev && a->ino == b->ino && a->size_bytes == b->size_bytes &&
           is_same_time(a->mtime, b->mtime) && is_same_time(a->ctime, b->ctime);
}

int archive_read_at(int fd, void *to, size_t size_bytes, uint64_t offset, const char **ret_why)
{
    for (size_t done = 0; done < size_bytes;) {
        ssize_t n = pread(fd, (char *)to + done, size_bytes - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return refuse(-errno, "the archive can't be read", ret_why);
        if (n == 0)
            return refuse(-EBADMSG, "the archive ends too early", ret_why);
        done += (size_t)n;
    }
    return 0;
}

// ---- the end

static int read_end(int fd, struct archive *a, const char **ret_why)
{
    uint64_t size = (uint64_t)a->identity.size_bytes;
    size_t tail_bytes = size < ARCHIVE_TAIL_BYTES_MAX ? size : ARCHIVE_TAIL_BYTES_MAX;
    cleanup(cleanup_free) char *tail = memory_new(tail_bytes + 1);
    int r = archive_read_at(fd, tail, tail_bytes, size - tail_bytes, ret_why);
    if (r < 0)
        return r;
    r = archive_parse_end((struct text){tail, tail_bytes}, size, &a->end, ret_why);
    if (r < 0)
        return r;
    if (a->end.directory_bytes > ARCHIVE_DIRECTORY_BYTES_MAX)
        return refuse(-EFBIG, "the archive's directory is too large", ret_why);
    if (a->end.count > ARCHIVE_MEMBERS_MAX)
        return refuse(-EFBIG, "the archive has too many members", ret_why);
    return 0;
}

// ---- the directory

static void add_name(struct archive *a, const struct archive_entry *e, uint64_t at,
                     struct buffer *scratch)
{
    bool is_cut;
    struct text name = archive_name(e, scratch, &is_cut);
    uint64_t hash = hash64_seed(name.data, name.size_bytes, a->seed);
    uint64_t before = table_find(&a->names, hash, NULL, NULL, NULL);
    if (!before) {
        table_add(&a->names, hash, archive_place(at, false));
    } else if (!archive_place_is_twice(before)) {
        table_remove(&a->names, hash, before);
        table_add(&a->names, hash, archive_place(archive_place_at(before), true));
    }
}

// Until later, `reached` is the end of the member itself.
static void add_extent(struct archive *a, const struct archive_entry *e)
{
    uint64_t limit = a->end.directory_offset, head = ARCHIVE_LOCAL_BYTES + e->name.size_bytes;
    if (e->header_offset > limit - a->end.shift)
        return;
    uint64_t from = e->header_offset + a->end.shift;
    if (head > limit - from || e->packed_bytes > limit - from - head)
        return;
    a->extents[a->extent_count++] = (struct archive_extent){from, from + head + e->packed_bytes};
}

static int add_member(struct archive *a, struct text header, uint64_t at, size_t *room,
                      struct buffer *scratch, const char **ret_why)
{
    struct archive_entry e;
    const char *why;
    if (a->member_count == ARCHIVE_MEMBERS_MAX)
        return refuse(-EFBIG, "the archive has too many members", ret_why);
    if (a->extent_count == *room) {
        *room = *room ? *room * 2 : 64;
        a->extents = memory_grow(a->extents, *room, sizeof(*a->extents));
    }
    if (archive_parse_central(header, &e, &why) == 0)
        add_extent(a, &e);
    add_name(a, &e, at, scratch);
    a->member_count++;
    return 0;
}

// The members whose headers are whole in `bytes`, which begins at `at` in the directory.
static int add_members(struct archive *a, struct text bytes, uint64_t at, size_t *room,
                       struct buffer *scratch, size_t *ret_used, const char **ret_why)
{
    size_t used = 0;
    while (bytes.size_bytes - used >= ARCHIVE_CENTRAL_BYTES) {
        struct text rest = text_slice(bytes, used, bytes.size_bytes);
        size_t size = archive_central_bytes(rest);
        if (size == 0)
            return refuse(-EBADMSG, "the archive's directory is damaged", ret_why);
        if (size > rest.size_bytes)
            break;
        int r = add_member(a, text_slice(rest, 0, size), at + used, room, scratch, ret_why);
        if (r < 0)
            return r;
        used += size;
    }
    *ret_used = used;
    return 0;
}

static int read_directory(int fd, struct archive *a, const char **ret_why)
{
    uint64_t left = a->end.directory_bytes, at = 0; // not yet read; where the chunk begins
    size_t chunk_bytes = left < CHUNK_BYTES ? (size_t)left : CHUNK_BYTES;
    size_t held = 0, room = 0, used = 0;
    cleanup(cleanup_free) char *chunk = memory_new(chunk_bytes + 1);
    BUFFER_CLEANUP scratch = {0};
    while (left > 0) {
        size_t more = chunk_bytes - held < left ? chunk_bytes - held : (size_t)left;
        int r =
            archive_read_at(fd, chunk + held, more, a->end.directory_offset + at + held, ret_why);
        if (r < 0)
            return r;
        left -= more;
        held += more;
        r = add_members(a, (struct text){chunk, held}, at, &room, &scratch, &used, ret_why);
        if (r < 0)
            return r;
        held -= used;
        at += used;
        memmove(chunk, chunk + used, held);
    }
    uint64_t count = a->end.is_zip64 ? a->member_count : a->member_count & UINT16_MAX;
    if (held > 0 || count != a->end.count)
        return refuse(-EBADMSG, "the archive's directory is not as long as it says", ret_why);
    return 0;
}

// ---- extents

static int compare_extents(const void *a, const void *b)
{
    const struct archive_extent *x = a, *y = b;
    return (x->from > y->from) - (x->from < y->from);
}

static void finish_extents(struct archive *a)
{
    struct archive_extent *x = a->extents;
    bool is_sorted = true;
    for (size_t i = 1; i < a->extent_count && is_sorted; i++)
        is_sorted = x[i - 1].from <= x[i].from;
    if (!is_sorted)
        qsort(x, a->extent_count, sizeof(*x), compare_extents);
    uint64_t reached = 0;
    for (size_t i = 0; i < a->extent_count; i++) {
        uint64_t end = x[i].reached;
        x[i].reached = reached;
        if (end > reached)
            reached = end;
    }
    if (a->extent_count > 0)
        a->extents = memory_grow(x, a->extent_count, sizeof(*x)); // gives back what is left over
}

// ---- doors

int archive_open(int fd, struct archive **ret_archive, const char **ret_why)
{
    cleanup(cleanup_archive_unref) struct archive *a = new_struct(struct archive);
    atomic_init(&a->references, 1);
    if (getrandom(&a->seed, sizeof(a->seed), 0) != sizeof(a->seed))
        a->seed = (uint64_t)clock_ns();
    int r = archive_identify(fd, &a->identity, ret_why);
    if (r == 0)
        r = read_end(fd, a, ret_why);
    if (r == 0)
        r = read_directory(fd, a, ret_why);
    if (r < 0)
        return r;
    finish_extents(a);
    *ret_archive = take(a);
    return 0;
}

struct archive *archive_ref(struct archive *a)
{
    unsigned before = atomic_fetch_add_explicit(&a->references, 1, memory_order_relaxed);
    check(before > 0);
    return a;
}

void archive_unref(struct archive *a)
{
    unsigned before = atomic_fetch_sub_explicit(&a->references, 1, memory_order_acq_rel);
    check(before > 0);
    if (before > 1)
        return;
    table_release(&a->names);
    free(a->extents);
    free(a);
}

const struct archive_identity *archive_identity(const struct archive *a)
{
    return &a->identity;
}

size_t archive_member_count(const struct archive *a)
{
    return a->member_count;
}

size_t archive_memory_bytes(const struct archive *a)
{
    return sizeof(*a) + a->names.room * sizeof(struct table_slot) +
           a->extent_count * sizeof(struct archive_extent);
}
