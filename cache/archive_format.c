// SPDX-License-Identifier: BSD-3-Clause
// archive_format: see the header.
// 1. Every offset is compared with what is left before it is used; sums of values from the archive
//    are only made where both were bounded.
// 2. Where two records say the same thing they must agree: what one reader takes from the first and
//    another from the second is how archives show different things to different readers.
#include "cache/archive_format.h"

#include <endian.h>
#include <errno.h>

#define SIGNATURE_LOCAL 0x04034b50
#define SIGNATURE_CENTRAL 0x02014b50
#define SIGNATURE_END 0x06054b50
#define SIGNATURE_END64 0x06064b50
#define SIGNATURE_LOCATOR 0x07064b50
#define END_BYTES 22
#define END64_BYTES 56
#define LOCATOR_BYTES 20
#define EXTRA_ZIP64 0x0001

static uint16_t get16(const char *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof(v));
    return le16toh(v);
}

static uint32_t get32(const char *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return le32toh(v);
}

static uint64_t get64(const char *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return le64toh(v);
}

static int refuse(const char *why, const char **ret_why)
{
    *ret_why = why;
    return -EBADMSG;
}

// ---- the end

// The last end record there is, whose comment then must end the file: a second one inside its
// comment would be another archive to other readers.
static const char *find_end(struct text tail)
{
    for (size_t rest = 0; tail.size_bytes >= END_BYTES + rest; rest++) {
        const char *p = tail.data + (tail.size_bytes - END_BYTES - rest);
        if (get32(p) == SIGNATURE_END)
            return get16(p + 20) == rest ? p : NULL;
    }
    return NULL;
}

static bool is_end64(struct text before, size_t at)
{
    return at <= before.size_bytes && before.size_bytes - at >= END64_BYTES &&
           get32(before.data + at) == SIGNATURE_END64 &&
           get64(before.data + at + 4) == before.size_bytes - at - 12;
}

// The zip64 end record is what ends where its locator begins. It is where the locator says, unless
// something stands before the archive; then it is one without additions. NULL: not there.
static const char *find_end64(struct text tail, const char *locator, uint64_t file_bytes)
{
    struct text before = {tail.data, (size_t)(locator - tail.data)};
    uint64_t tail_offset = file_bytes - tail.size_bytes, said = get64(locator + 8);
    if (said >= tail_offset && said - tail_offset <= before.size_bytes &&
        is_end64(before, (size_t)(said - tail_offset)))
        return tail.data + (said - tail_offset);
    if (before.size_bytes >= END64_BYTES && is_end64(before, before.size_bytes - END64_BYTES))
        return locator - END64_BYTES;
    return NULL;
}

// A field of the end record: what the zip64 record says, or all ones.
static bool agree(uint64_t small, uint64_t ones, uint64_t large)
{
    return small == ones || small == large;
}

static int parse_end64(const char *end, const char *end64, struct archive_end *e,
                       uint64_t *ret_offset, const char **ret_why)
{
    uint64_t on_disk = get64(end64 + 24);
    e->is_zip64 = true;
    e->count = get64(end64 + 32);
    e->directory_bytes = get64(end64 + 40);
    *ret_offset = get64(end64 + 48);
    if (get32(end64 + 16) != 0 || get32(end64 + 20) != 0 || on_disk != e->count ||
        get32(end - LOCATOR_BYTES + 4) != 0 || get32(end - LOCATOR_BYTES + 16) > 1)
        return refuse("the archive is in several parts", ret_why);
    if (!agree(get16(end + 10), UINT16_MAX, e->count) ||
        !agree(get32(end + 12), UINT32_MAX, e->directory_bytes) ||
        !agree(get32(end + 16), UINT32_MAX, *ret_offset))
        return refuse("the archive's two end records do not agree", ret_why);
    return 0;
}

static int parse_end32(const char *end, struct archive_end *e, uint64_t *ret_offset,
                       const char **ret_why)
{
    uint16_t disk = get16(end + 4), start = get16(end + 6);
    e->count = get16(end + 10);
    e->directory_bytes = get32(end + 12);
    *ret_offset = get32(end + 16);
    if (disk != 0 || start != 0 || get16(end + 8) != e->count)
        return refuse("the archive is in several parts", ret_why);
    return 0;
}

int archive_parse_end(struct text tail, uint64_t file_bytes, struct archive_end *ret_end,
                      const char **ret_why)
{
    struct archive_end e = {0};
    const char *end = find_end(tail), *first = end;
    uint64_t offset;
    int r;
    if (!end)
        return refuse("it is not a zip archive", ret_why);
    if (end - tail.data >= LOCATOR_BYTES && get32(end - LOCATOR_BYTES) == SIGNATURE_LOCATOR) {
        first = find_end64(tail, end - LOCATOR_BYTES, file_bytes);
        if (!first)
            return refuse("the archive's zip64 end record is not where it must be", ret_why);
        r = parse_end64(end, first, &e, &offset, ret_why);
    } else {
        r = parse_end32(end, &e, &offset, ret_why);
    }
    if (r < 0)
        return r;
    uint64_t until = file_bytes - tail.size_bytes + (uint64_t)(first - tail.data);
    if (e.directory_bytes > until || offset > until - e.directory_bytes)
        return refuse("the archive's directory lies outside of it", ret_why);
    e.directory_offset = until - e.directory_bytes;
    e.shift = e.directory_offset - offset;
    *ret_end = e;
    return 0;
}

// ---- headers

size_t archive_central_bytes(struct text bytes)
{
    const char *p = bytes.data;
    if (bytes.size_bytes < ARCHIVE_CENTRAL_BYTES || get32(p) != SIGNATURE_CENTRAL)
        return 0;
    return (size_t)ARCHIVE_CENTRAL_BYTES + get16(p + 28) + get16(p + 30) + get16(p + 32);
}

// The zip64 field among the extra fields. An empty text: none. What follows a field that doesn't
// fit is no field: some writers fill up with zeros.
static struct text find_zip64(struct text extra)
{
    while (extra.size_bytes >= 4) {
        size_t size = get16(extra.data + 2);
        if (size > extra.size_bytes - 4)
            break;
        if (get16(extra.data) == EXTRA_ZIP64)
            return text_slice(extra, 4, 4 + size);
        extra = text_slice(extra, 4 + size, extra.size_bytes);
    }
    return (struct text){0};
}

// Takes the next value of a zip64 field where `*value` is all ones in its header.
static bool take64(struct text *field, uint64_t *value)
{
    if (*value != UINT32_MAX)
        return true;
    if (field->size_bytes < 8)
        return false;
    *value = get64(field->data);
    *field = text_slice(*field, 8, field->size_bytes);
    return true;
}

int archive_parse_central(struct text bytes, struct archive_entry *ret_entry, const char **ret_why)
{
    const char *p = bytes.data;
    size_t name_bytes = get16(p + 28), extra_bytes = get16(p + 30), at = ARCHIVE_CENTRAL_BYTES;
    struct archive_entry e = {
        .flags = get16(p + 8),
        .method = get16(p + 10),
        .crc32 = get32(p + 16),
        .packed_bytes = get32(p + 20),
        .size_bytes = get32(p + 24),
        .disk = get16(p + 34),
        .header_offset = get32(p + 42),
        .name = text_slice(bytes, at, at + name_bytes),
    };
    struct text field =
        find_zip64(text_slice(bytes, at + name_bytes, at + name_bytes + extra_bytes));
    *ret_entry = e; // the name is good even where the rest isn't
    if (!take64(&field, &e.size_bytes) || !take64(&field, &e.packed_bytes) ||
        !take64(&field, &e.header_offset))
        return refuse("its zip64 field is too short", ret_why);
    if (e.disk == UINT16_MAX && field.size_bytes >= 4)
        e.disk = get32(field.data);
    *ret_entry = e;
    return 0;
}

size_t archive_local_bytes(struct text bytes)
{
    const char *p = bytes.data;
    if (bytes.size_bytes < ARCHIVE_LOCAL_BYTES || get32(p) != SIGNATURE_LOCAL)
        return 0;
    return (size_t)ARCHIVE_LOCAL_BYTES + get16(p + 26) + get16(p + 28);
}

// What stands after the data is left 0 in the local header, or all ones where the zip64 field, then
// zero as well, is only there to say that the descriptor is long.
static bool agree_local(uint64_t local, uint64_t central, bool is_after_data)
{
    return local == central || (is_after_data && (local == 0 || local == UINT32_MAX));
}

int archive_check_local(struct text bytes, const struct archive_entry *central,
                        const char **ret_why)
{
    const uint16_t decisive = ARCHIVE_FLAG_ENCRYPTED | ARCHIVE_FLAG_DESCRIPTOR |
                              ARCHIVE_FLAG_PATCH | ARCHIVE_FLAG_STRONG | ARCHIVE_FLAG_MASKED;
    const char *p = bytes.data;
    uint16_t flags = get16(p + 6);
    uint64_t packed = get32(p + 18), size = get32(p + 22);
    size_t at = ARCHIVE_LOCAL_BYTES, name_bytes = get16(p + 26);
    bool is_after_data = flags & ARCHIVE_FLAG_DESCRIPTOR;
    struct text field = find_zip64(text_slice(bytes, at + name_bytes, bytes.size_bytes));
    if (((flags ^ central->flags) & decisive) || get16(p + 8) != central->method)
        return refuse("its two headers do not agree on what it is", ret_why);
    if (!text_equal(text_slice(bytes, at, at + name_bytes), central->name))
        return refuse("its two headers do not agree on its name", ret_why);
    if (field.size_bytes >= 16) { // both, whichever is needed
        take64(&field, &size);
        take64(&field, &packed);
    }
    if (!agree_local(packed, central->packed_bytes, is_after_data) ||
        !agree_local(size, central->size_bytes, is_after_data))
        return refuse("its two headers do not agree on its size", ret_why);
    if (get32(p + 14) != central->crc32 && !(is_after_data && get32(p + 14) == 0))
        return refuse("its two headers do not agree on its checksum", ret_why);
    return 0;
}
