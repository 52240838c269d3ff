// SPDX-License-Identifier: BSD-3-Clause
// store_map: headers of maps, to and from bytes. In the machine's byte order: a cache is of one
// machine, and on another the magic is another.
#include "cache/store_map.h"

#include "base/log.h"

#define MAGIC UINT64_C(0x70616d736662c201) // "\001\302bfsmap"
#define VERSION 1

struct header {
    uint64_t magic;
    uint32_t version;
    uint32_t header_bytes; // with texts and hash; a multiple of 8
    uint8_t identity[16];
    uint64_t size_bytes;
    int64_t mtime_ns;
    uint32_t flags;
    uint16_t text_bytes[4]; // origin, key, validator, checksum, which follow
    uint32_t zero;
    uint64_t stamp_size_bytes;
    int64_t stamp_mtime_ns;
    int64_t stamp_ctime_ns;
};

_Static_assert(sizeof(struct header) == 88, "no gaps");
_Static_assert(sizeof(struct header) + STORED_ORIGIN_BYTES_MAX + STORED_KEY_BYTES_MAX +
                       STORED_VALIDATOR_BYTES_MAX + STORED_CHECKSUM_BYTES_MAX + 16 <=
                   STORE_MAP_HEADER_MAX,
               "whatever can be stored has a header that fits");

static const size_t text_bytes_max[4] = {STORED_ORIGIN_BYTES_MAX, STORED_KEY_BYTES_MAX,
                                         STORED_VALIDATOR_BYTES_MAX, STORED_CHECKSUM_BYTES_MAX};

static void texts_of(const struct stored_version *v, struct text ret_texts[4])
{
    ret_texts[0] = v->origin;
    ret_texts[1] = v->key;
    ret_texts[2] = v->validator;
    ret_texts[3] = v->checksum;
}

uint32_t store_block_count(uint64_t size_bytes)
{
    return (uint32_t)((size_bytes + CACHE_BLOCK_BYTES - 1) / CACHE_BLOCK_BYTES);
}

uint32_t store_block_bytes(uint64_t size_bytes, uint32_t block)
{
    uint64_t from = (uint64_t)block * CACHE_BLOCK_BYTES;
    check(from < size_bytes);
    uint64_t left = size_bytes - from;
    return (uint32_t)(left < CACHE_BLOCK_BYTES ? left : CACHE_BLOCK_BYTES);
}

int store_map_check(const struct stored_version *v)
{
    struct text texts[4];
    texts_of(v, texts);
    for (int i = 0; i < 4; i++)
        if (texts[i].size_bytes > text_bytes_max[i])
            return -ENAMETOOLONG;
    return v->size_bytes > STORED_SIZE_MAX ? -EFBIG : 0;
}

size_t store_map_encode(const struct store_map *m, uint8_t ret_bytes[STORE_MAP_ROOM])
{
    const struct stored_version *v = &m->version;
    struct text texts[4];
    texts_of(v, texts);
    struct header h = {
        .magic = MAGIC,
        .version = VERSION,
        .size_bytes = v->size_bytes,
        .mtime_ns = v->mtime_ns,
        .flags = m->flags,
        .stamp_size_bytes = m->stamp.size_bytes,
        .stamp_mtime_ns = m->stamp.mtime_ns,
        .stamp_ctime_ns = m->stamp.ctime_ns,
    };
    memcpy(h.identity, v->identity, sizeof(h.identity));
    memset(ret_bytes, 0, STORE_MAP_ROOM);
    size_t at = sizeof(h);
    for (int i = 0; i < 4; i++) {
        check(texts[i].size_bytes <= text_bytes_max[i]);
        h.text_bytes[i] = (uint16_t)texts[i].size_bytes;
        if (texts[i].size_bytes)
            memcpy(ret_bytes + at, texts[i].data, texts[i].size_bytes);
        at += texts[i].size_bytes;
    }
    at = (at + 7) / 8 * 8;
    h.header_bytes = (uint32_t)(at + sizeof(uint64_t));
    memcpy(ret_bytes, &h, sizeof(h));
    uint64_t hash = hash64(ret_bytes, at);
    memcpy(ret_bytes + at, &hash, sizeof(hash));
    return h.header_bytes;
}

static bool is_header(const struct header *h, const uint8_t *bytes, size_t size_bytes)
{
    if (h->magic != MAGIC || h->version != VERSION || h->header_bytes > size_bytes ||
        h->header_bytes > STORE_MAP_HEADER_MAX || h->header_bytes < sizeof(*h) + sizeof(uint64_t) ||
        h->header_bytes % 8 != 0 || h->zero != 0 || (h->flags & ~(uint32_t)STORE_MAP_FLAGS) ||
        h->size_bytes > STORED_SIZE_MAX)
        return false;
    size_t texts = 0;
    for (int i = 0; i < 4; i++) {
        if (h->text_bytes[i] > text_bytes_max[i])
            return false;
        texts += h->text_bytes[i];
    }
    size_t hashed = h->header_bytes - sizeof(uint64_t);
    if ((sizeof(*h) + texts + 7) / 8 * 8 != hashed)
        return false;
    uint64_t hash;
    memcpy(&hash, bytes + hashed, sizeof(hash));
    return hash == hash64(bytes, hashed);
}

int store_map_decode(const uint8_t *bytes, size_t size_bytes, struct store_map *ret_map)
{
    struct header h;
    if (size_bytes < sizeof(h))
        return -EBADMSG;
    memcpy(&h, bytes, sizeof(h));
    if (!is_header(&h, bytes, size_bytes))
        return -EBADMSG;
    struct store_map m = {
        .version = {.size_bytes = h.size_bytes, .mtime_ns = h.mtime_ns},
        .flags = h.flags,
        .stamp = {h.stamp_size_bytes, h.stamp_mtime_ns, h.stamp_ctime_ns},
        .header_bytes = h.header_bytes,
    };
    memcpy(m.version.identity, h.identity, sizeof(h.identity));
    struct text *texts[4] = {&m.version.origin, &m.version.key, &m.version.validator,
                             &m.version.checksum};
    const char *at = (const char *)bytes + sizeof(h);
    for (int i = 0; i < 4; at += h.text_bytes[i], i++)
        *texts[i] = (struct text){at, h.text_bytes[i]};
    *ret_map = m;
    return 0;
}
