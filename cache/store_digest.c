// SPDX-License-Identifier: BSD-3-Clause
// store_digest: OpenSSL does those that are cryptographic. CRCs are made here: by carry-less multiplication where the
// processor has it (0.1 s a GiB and less, in memory), else by tables, eight bytes at a time.
// 1. A run of bytes is folded into 16 that leave the same remainder; those go through the tables as any others.
#include "cache/store_digest.h"

#include <openssl/evp.h>
#include <stdint.h>

#ifdef __x86_64__
#include <immintrin.h>
#endif

#include "base/buffer.h"
#include "base/log.h"

#define VALUE_BYTES_MAX 64
#define CRC32_POLYNOMIAL UINT64_C(0xedb88320) // reflected, as the others
#define CRC32C_POLYNOMIAL UINT64_C(0x82f63b78)
#define CRC64NVME_POLYNOMIAL UINT64_C(0x9a6c9329ac4bc9b5)

struct kind {
    const char *name;
    size_t value_bytes;
    const EVP_MD *(*md)(void);
    uint64_t polynomial; // without md
};

static const struct kind kinds[] = {
    {.name = "blake2b", .value_bytes = 64, .md = EVP_blake2b512},
    {.name = "sha256", .value_bytes = 32, .md = EVP_sha256},
    {.name = "sha1", .value_bytes = 20, .md = EVP_sha1},
    {.name = "crc32", .value_bytes = 4, .polynomial = CRC32_POLYNOMIAL},
    {.name = "crc32c", .value_bytes = 4, .polynomial = CRC32C_POLYNOMIAL},
    {.name = "crc64nvme", .value_bytes = 8, .polynomial = CRC64NVME_POLYNOMIAL},
};

struct store_digest {
    const struct kind *kind;
    EVP_MD_CTX *md;
    uint64_t crc;           // as it stands, without the last inversion
    uint64_t (*tables)[256]; // 8 of them, where there is a polynomial
    uint64_t far[2], near[2]; // what folds by 64 bytes, and by 16; far[0] is 0: the processor can't
    uint8_t wanted[VALUE_BYTES_MAX];
};

// ---- CRCs, reflected

static void make_tables(uint64_t polynomial, uint64_t tables[8][256])
{
    for (uint32_t i = 0; i < 256; i++) {
        uint64_t crc = i;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ polynomial : crc >> 1;
        tables[0][i] = crc;
    }
    for (uint32_t i = 0; i < 256; i++)
        for (int t = 1; t < 8; t++)
            tables[t][i] = tables[t - 1][i] >> 8 ^ tables[0][tables[t - 1][i] & 255];
}

static uint64_t add_to_crc(uint64_t (*t)[256], uint64_t crc, const uint8_t *data, size_t n)
{
    for (; n >= 8; data += 8, n -= 8) {
        uint64_t x;
        memcpy(&x, data, 8);
        x ^= crc;
        crc = t[7][x & 255] ^ t[6][x >> 8 & 255] ^ t[5][x >> 16 & 255] ^ t[4][x >> 24 & 255] ^
              t[3][x >> 32 & 255] ^ t[2][x >> 40 & 255] ^ t[1][x >> 48 & 255] ^ t[0][x >> 56];
    }
    for (; n > 0; data++, n--)
        crc = crc >> 8 ^ t[0][(crc ^ *data) & 255];
    return crc;
}

// ---- CRCs, folded

#ifdef __x86_64__
#define FOLD_BYTES 64

// x^n modulo the polynomial, as the 64 bits that are multiplied with: the highest power in the lowest bit.
static uint64_t power(const struct kind *kind, unsigned n)
{
    unsigned bits = (unsigned)kind->value_bytes * 8;
    uint64_t x = UINT64_C(1) << (bits - 1);
    for (; n > 0; n--)
        x = x & 1 ? x >> 1 ^ kind->polynomial : x >> 1;
    return x << (64 - bits);
}

// A product of two such words stands one bit too high.
static void make_folds(const struct kind *kind, unsigned bytes, uint64_t ret_factors[2])
{
    ret_factors[0] = power(kind, bytes * 8 + 63);
    ret_factors[1] = power(kind, bytes * 8 - 1);
}

__attribute__((target("pclmul,sse2"))) static inline __m128i fold(__m128i x, __m128i by, __m128i next)
{
    return _mm_xor_si128(_mm_xor_si128(_mm_clmulepi64_si128(x, by, 0x00), _mm_clmulepi64_si128(x, by, 0x11)), next);
}

// As many whole pieces of 64 bytes as there are, two at least; moves on behind them.
__attribute__((target("pclmul,sse2"))) static uint64_t fold_into_crc(const struct store_digest *d, uint64_t crc,
                                                                     const uint8_t **data, size_t *n)
{
    const __m128i *at = (const __m128i *)*data;
    __m128i far = _mm_set_epi64x((long long)d->far[1], (long long)d->far[0]);
    __m128i near = _mm_set_epi64x((long long)d->near[1], (long long)d->near[0]);
    __m128i x[4];
    for (int i = 0; i < 4; i++)
        x[i] = _mm_loadu_si128(at + i);
    x[0] = _mm_xor_si128(x[0], _mm_set_epi64x(0, (long long)crc));
    for (at += 4, *n -= FOLD_BYTES; *n >= FOLD_BYTES; at += 4, *n -= FOLD_BYTES)
        for (int i = 0; i < 4; i++)
            x[i] = fold(x[i], far, _mm_loadu_si128(at + i));
    for (int i = 1; i < 4; i++)
        x[i] = fold(x[i - 1], near, x[i]);
    uint8_t rest[16];
    _mm_storeu_si128((__m128i *)rest, x[3]);
    *data = (const uint8_t *)at;
    return add_to_crc(d->tables, 0, rest, sizeof(rest));
}
#endif

static void folds_begin(struct store_digest *d)
{
#ifdef __x86_64__
    if (!__builtin_cpu_supports("pclmul"))
        return;
    make_folds(d->kind, FOLD_BYTES, d->far);
    make_folds(d->kind, 16, d->near);
#endif
}

static void crc_add(struct store_digest *d, const uint8_t *data, size_t n)
{
#ifdef __x86_64__
    if (d->far[0] && n >= 2 * (size_t)FOLD_BYTES)
        d->crc = fold_into_crc(d, d->crc, &data, &n);
#endif
    d->crc = add_to_crc(d->tables, d->crc, data, n);
}

// ---- values as text

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10
         : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool read_hex(struct text t, size_t value_bytes, uint8_t *ret_value)
{
    if (t.size_bytes != 2 * value_bytes)
        return false;
    for (size_t i = 0; i < value_bytes; i++) {
        int high = hex_digit(t.data[2 * i]), low = hex_digit(t.data[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        ret_value[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static bool read_base64(struct text t, size_t value_bytes, uint8_t *ret_value)
{
    uint8_t value[VALUE_BYTES_MAX + 3];
    if (t.size_bytes != (value_bytes + 2) / 3 * 4 || !text_ends(t, TEXT("=")))
        return false;
    int n = EVP_DecodeBlock(value, (const unsigned char *)t.data, (int)t.size_bytes);
    if (n < (int)value_bytes)
        return false;
    memcpy(ret_value, value, value_bytes);
    return true;
}

// ---- the door

struct store_digest *store_digest_new(struct text checksum)
{
    const char *colon = checksum.size_bytes ? memchr(checksum.data, ':', checksum.size_bytes) : NULL;
    if (!colon)
        return NULL;
    struct text name = {checksum.data, (size_t)(colon - checksum.data)};
    struct text value = text_slice(checksum, name.size_bytes + 1, checksum.size_bytes);
    const struct kind *kind = NULL;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
        if (text_equal(name, text_of(kinds[i].name)))
            kind = &kinds[i];
    uint8_t wanted[VALUE_BYTES_MAX];
    if (!kind || !(read_hex(value, kind->value_bytes, wanted) ||
                   read_base64(value, kind->value_bytes, wanted)))
        return NULL;
    struct store_digest *d = new_struct(struct store_digest);
    d->kind = kind;
    memcpy(d->wanted, wanted, kind->value_bytes);
    if (kind->md) {
        d->md = EVP_MD_CTX_new();
        if (!d->md || !EVP_DigestInit_ex(d->md, kind->md(), NULL)) { // a system of fewer algorithms
            store_digest_free(d);
            return NULL;
        }
    }
    if (kind->polynomial) {
        d->tables = memory_new(8 * sizeof(*d->tables));
        make_tables(kind->polynomial, d->tables);
        folds_begin(d);
    }
    store_digest_reset(d);
    return d;
}

void store_digest_free(struct store_digest *d)
{
    if (!d)
        return;
    EVP_MD_CTX_free(d->md);
    free(d->tables);
    free(d);
}

void store_digest_reset(struct store_digest *d)
{
    if (d->md) {
        int ok = EVP_DigestInit_ex(d->md, d->kind->md(), NULL);
        check(ok);
    }
    d->crc = d->kind->value_bytes == 8 ? UINT64_MAX : UINT32_MAX;
}

void store_digest_add(struct store_digest *d, const void *data, size_t size_bytes)
{
    if (d->md) {
        int ok = EVP_DigestUpdate(d->md, data, size_bytes);
        check(ok);
    } else {
        crc_add(d, data, size_bytes);
    }
}

bool store_digest_is_right(struct store_digest *d)
{
    uint8_t value[EVP_MAX_MD_SIZE];
    size_t n = d->kind->value_bytes;
    if (d->md) {
        unsigned size = 0;
        int ok = EVP_DigestFinal_ex(d->md, value, &size);
        check(ok && size == n);
    } else {
        uint64_t crc = ~d->crc;
        for (size_t i = 0; i < n; i++)
            value[i] = (uint8_t)(crc >> 8 * (n - 1 - i));
    }
    return memcmp(value, d->wanted, n) == 0;
}
