// SPDX-License-Identifier: BSD-3-Clause
// key: values as bytes that sort.
// 1. No value's bytes are the beginning of another's: an integer's first byte says its length; in
//    text 0x00 and 0x01 stand only at its end, and sort before whatever goes on.
// 2. A text is cut where the next byte would make it longer than key_text_max, so a text that is
//    whole and one that is cut differ in the right order at the first byte that differs.
// 3. A value takes at most 1/levels of the room; an integer or a hash always fits.
// 4. One value has one form: a reader refuses an integer with bytes it does not need.
#include "meta/key.h"

#include "base/hash.h"
#include "base/log.h"

#define LEAD_INTEGER 0x18 // of 0
#define INTEGER_BYTES 8
#define LEAD_TEXT 0x30
#define END_WHOLE 0x00
#define END_CUT 0x01
#define ESCAPE 0x02
#define HASH_BYTES 16
#define CUT_BYTES (1 + 1 + HASH_BYTES) // what a cut text takes beside its bytes
#define VALUES_BYTES (KEY_BYTES_MAX - KEY_RANGE_BYTES)

_Static_assert(VALUES_BYTES / LEVELS_MAX >= CUT_BYTES, "a hash for every level must fit");
_Static_assert(KEY_RANGE_BYTES == 1 + 2 * (1 + INTEGER_BYTES) + HASH_BYTES, "a range must fit");
_Static_assert(VALUES_BYTES / LEVELS_MAX >= 1 + INTEGER_BYTES, "an integer must fit, too");

size_t key_text_max(size_t levels)
{
    check(levels > 0 && levels <= LEVELS_MAX);
    size_t room = VALUES_BYTES / levels - CUT_BYTES;
    return room < KEY_TEXT_MAX ? room : KEY_TEXT_MAX;
}

static void put(struct key *k, const void *data, size_t size_bytes)
{
    check(size_bytes <= (size_t)KEY_BYTES_MAX - k->size_bytes);
    memcpy(k->bytes + k->size_bytes, data, size_bytes);
    k->size_bytes = (uint16_t)(k->size_bytes + size_bytes);
}

static void put_byte(struct key *k, unsigned byte)
{
    put(k, &(uint8_t){(uint8_t)byte}, 1);
}

// How many bytes an integer needs; a negative one at least one, since 0 has none.
static unsigned integer_bytes(int64_t integer)
{
    uint64_t magnitude = integer < 0 ? ~(uint64_t)integer : (uint64_t)integer;
    unsigned n = integer < 0;
    while (n < INTEGER_BYTES && magnitude >> (8 * n) != 0)
        n++;
    return n;
}

static void put_integer(struct key *k, int64_t integer)
{
    unsigned n = integer_bytes(integer);
    put_byte(k, integer < 0 ? LEAD_INTEGER - n : LEAD_INTEGER + n);
    for (unsigned i = n; i-- > 0;)
        put_byte(k, (uint8_t)((uint64_t)integer >> (8 * i)));
}

static bool put_text(struct key *k, struct text t, size_t room)
{
    put_byte(k, LEAD_TEXT);
    size_t used = 0;
    for (size_t i = 0; i < t.size_bytes; i++) {
        uint8_t byte = (uint8_t)t.data[i];
        used += byte <= ESCAPE ? 2 : 1;
        if (used > room) {
            uint8_t hash[HASH_BYTES];
            hash128(t.data, t.size_bytes, hash);
            put_byte(k, END_CUT);
            put(k, hash, sizeof(hash));
            return true;
        }
        if (byte <= ESCAPE)
            put_byte(k, ESCAPE);
        put_byte(k, byte <= ESCAPE ? byte + 1U : byte);
    }
    put_byte(k, END_WHOLE);
    return false;
}

bool key_append(struct key *k, const struct value *v, size_t levels)
{
    if (v->kind == VALUE_TEXT)
        return put_text(k, v->text, key_text_max(levels));
    put_integer(k, v->integer);
    return false;
}

// Where a value stands in a key.
struct found {
    bool is_text;
    bool is_cut;
    size_t begin; // of its bytes
    size_t end;   // of its bytes
    size_t next;  // of the value
};

static int64_t get_integer(const uint8_t *bytes, size_t n, bool is_negative)
{
    uint64_t integer = is_negative ? UINT64_MAX : 0;
    for (size_t i = 0; i < n; i++)
        integer = integer << 8 | bytes[i];
    return (int64_t)integer;
}

static int find_integer(const uint8_t *bytes, size_t size_bytes, size_t at, struct found *f)
{
    bool is_negative = bytes[at] < LEAD_INTEGER;
    size_t n = (size_t)(is_negative ? LEAD_INTEGER - bytes[at] : bytes[at] - LEAD_INTEGER);
    if (n > INTEGER_BYTES || n > size_bytes - at - 1)
        return -EBADMSG;
    int64_t integer = get_integer(bytes + at + 1, n, is_negative);
    if (integer_bytes(integer) != n || (integer < 0) != is_negative)
        return -EBADMSG;
    *f = (struct found){.begin = at + 1, .end = at + 1 + n, .next = at + 1 + n};
    return 0;
}

static int find_text(const uint8_t *bytes, size_t size_bytes, size_t at, struct found *f)
{
    size_t i = at + 1;
    while (i < size_bytes && bytes[i] > END_CUT) {
        if (bytes[i] == ESCAPE && (++i == size_bytes || bytes[i] < 1 || bytes[i] > ESCAPE + 1))
            return -EBADMSG;
        i++;
    }
    if (i == size_bytes || i - at - 1 > KEY_TEXT_MAX)
        return -EBADMSG;
    bool is_cut = bytes[i] == END_CUT;
    size_t next = i + 1 + (is_cut ? HASH_BYTES : 0);
    if (next > size_bytes)
        return -EBADMSG;
    *f = (struct found){.is_text = true, .is_cut = is_cut, .begin = at + 1, .end = i, .next = next};
    return 0;
}

static int find(struct text t, size_t at, struct found *f)
{
    const uint8_t *bytes = (const uint8_t *)t.data;
    if (at >= t.size_bytes || t.size_bytes > KEY_BYTES_MAX)
        return -EBADMSG;
    if (bytes[at] == LEAD_TEXT)
        return find_text(bytes, t.size_bytes, at, f);
    if (bytes[at] < LEAD_INTEGER - INTEGER_BYTES || bytes[at] > LEAD_INTEGER + INTEGER_BYTES)
        return -EBADMSG;
    return find_integer(bytes, t.size_bytes, at, f);
}

int key_read(struct text bytes, size_t *offset, struct value *ret_value, bool *ret_cut,
             struct buffer *store)
{
    struct found f;
    int r = find(bytes, *offset, &f);
    if (r < 0)
        return r;
    const uint8_t *data = (const uint8_t *)bytes.data;
    if (f.is_text) {
        check(store->room_bytes - store->size_bytes > f.end - f.begin);
        size_t from = store->size_bytes;
        for (size_t i = f.begin; i < f.end; i++)
            buffer_append_byte(store, (char)(data[i] == ESCAPE ? data[++i] - 1 : data[i]));
        *ret_value = value_text(text_slice(buffer_text(store), from, store->size_bytes));
    } else {
        *ret_value = value_integer(
            get_integer(data + f.begin, f.end - f.begin, data[*offset] < LEAD_INTEGER));
    }
    *ret_cut = f.is_cut;
    *offset = f.next;
    return 0;
}

int key_value_size(struct text bytes, size_t offset)
{
    struct found f;
    int r = find(bytes, offset, &f);
    return r < 0 ? r : (int)(f.next - offset);
}

int key_values_size(struct text bytes, size_t count)
{
    size_t offset = 0;
    for (size_t i = 0; i < count; i++) {
        int size = key_value_size(bytes, offset);
        if (size < 0)
            return size;
        offset += (size_t)size;
    }
    return (int)offset;
}

// Ranges.

struct key_range key_range_named(const struct timespan *span, const struct uuid *twin,
                                 struct text suffix)
{
    struct key_range range = {.kind = twin ? KEY_RANGE_TWIN : KEY_RANGE_SUFFIX, .span = *span};
    if (twin)
        memcpy(range.of, twin->bytes, sizeof(range.of));
    else
        hash128(suffix.data, suffix.size_bytes, range.of);
    return range;
}

void key_append_range(struct key *k, const struct key_range *range)
{
    put_byte(k, range->kind);
    put_integer(k, range->span.begin_tai_ns);
    put_integer(k, range->span.end_tai_ns);
    put(k, range->of, sizeof(range->of));
}

bool key_has_range(struct text bytes, size_t offset)
{
    return offset < bytes.size_bytes && (uint8_t)bytes.data[offset] >= KEY_RANGE_SUFFIX;
}

static int read_end(struct text bytes, size_t *offset, int64_t *ret_tai_ns)
{
    struct found f;
    int r = find(bytes, *offset, &f);
    if (r < 0 || f.is_text)
        return -EBADMSG;
    const uint8_t *data = (const uint8_t *)bytes.data;
    *ret_tai_ns = get_integer(data + f.begin, f.end - f.begin, data[*offset] < LEAD_INTEGER);
    *offset = f.next;
    return 0;
}

int key_read_range(struct text bytes, size_t offset, struct key_range *ret_range)
{
    struct key_range range;
    if (!key_has_range(bytes, offset) || (uint8_t)bytes.data[offset] > KEY_RANGE_HIDDEN)
        return -EBADMSG;
    range.kind = (uint8_t)bytes.data[offset++];
    if (read_end(bytes, &offset, &range.span.begin_tai_ns) < 0 ||
        read_end(bytes, &offset, &range.span.end_tai_ns) < 0 ||
        bytes.size_bytes - offset != sizeof(range.of))
        return -EBADMSG;
    memcpy(range.of, bytes.data + offset, sizeof(range.of));
    *ret_range = range;
    return 0;
}
