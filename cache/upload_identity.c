// SPDX-License-Identifier: BSD-3-Clause
#include "cache/upload_identity.h"

#include <openssl/evp.h>
#include <stdio.h>

#include "base/log.h"

#define MD5_BYTES 16
#define CRC32_KIND "crc32:" // of the answer's checksum, base64 behind it

static void md5(const void *data, size_t size_bytes, uint8_t ret_hash[EVP_MAX_MD_SIZE])
{
    int ok = EVP_Digest(data, size_bytes, ret_hash, NULL, EVP_md5(), NULL);
    check(ok);
}

static bool has_crc32(struct text checksum, uint32_t crc32)
{
    uint8_t bytes[4] = {(uint8_t)(crc32 >> 24), (uint8_t)(crc32 >> 16), (uint8_t)(crc32 >> 8), (uint8_t)crc32};
    char text[16] = CRC32_KIND;
    EVP_EncodeBlock((unsigned char *)text + strlen(CRC32_KIND), bytes, sizeof(bytes));
    return text_equal(checksum, text_of(text));
}

// `"<32 hex digits>"`: the ETag of a part, unless the server encrypts it with a key of its own.
static bool part_md5(const struct origin_part *p, uint8_t ret_hash[MD5_BYTES])
{
    int end = 0;
    sscanf(p->validator, "\"%*32[0-9a-f]\"%n", &end);
    for (size_t i = 0; end == 2 * MD5_BYTES + 2 && i < MD5_BYTES; i++)
        sscanf(p->validator + 1 + 2 * i, "%2hhx", &ret_hash[i]);
    return end == 2 * MD5_BYTES + 2;
}

// What S3 calls it: the MD5 of its bytes, or of its parts' MD5s and how many there are. false: can't be known.
static bool own_etag(const struct upload_identity *i, struct buffer *etag)
{
    BUFFER_CLEANUP hashes = {0};
    uint8_t hash[EVP_MAX_MD_SIZE];
    for (uint32_t n = 0; n < i->part_count; n++) {
        if (!part_md5(&i->parts[n], hash))
            return false;
        buffer_append(&hashes, hash, MD5_BYTES);
    }
    struct text hashed = i->part_count ? buffer_text(&hashes) : i->body;
    md5(hashed.data, hashed.size_bytes, hash);
    buffer_append_byte(etag, '"');
    for (size_t n = 0; n < MD5_BYTES; n++)
        buffer_format(etag, "%02x", hash[n]);
    if (i->part_count)
        buffer_format(etag, "-%u", i->part_count);
    buffer_append_byte(etag, '"');
    return true;
}

bool upload_identity_is(const struct upload_identity *i, const struct origin_answer *a)
{
    BUFFER_CLEANUP etag = {0};
    if (a->error || a->size_bytes != (int64_t)i->size_bytes)
        return false;
    if (i->validator.size_bytes)
        return text_equal(a->validator, i->validator);
    if (text_begins(a->checksum, TEXT(CRC32_KIND)))
        return has_crc32(a->checksum, i->crc32);
    return own_etag(i, &etag) && text_equal(a->validator, buffer_text(&etag));
}
