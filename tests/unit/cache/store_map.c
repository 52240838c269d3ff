// SPDX-License-Identifier: BSD-3-Clause
// The records and sums that the store is made of: headers of maps, bits, names, whole checksums.
#include "tests/unit/cache/stores.h"

// ---- headers

static struct store_map usual_map(void)
{
    struct store_map m = {
        .version = {.origin = TEXT("s3://bucket"),
                    .key = TEXT("a/key with \0 in it"),
                    .validator = TEXT("\"etag\""),
                    .checksum = TEXT("crc32:00000000"),
                    .size_bytes = 5 * BLOCK,
                    .mtime_ns = -5},
        .flags = STORE_MAP_SEALED | STORE_MAP_PINNED,
        .stamp = {1, 2, 3},
    };
    hash128("x", 1, m.version.identity);
    return m;
}

static void a_header_is_read_as_it_was_written(void **state)
{
    struct store_map m = usual_map(), back;
    uint8_t bytes[STORE_MAP_ROOM];
    size_t n = store_map_encode(&m, bytes);
    assert_int_equal(n % 8, 0);
    assert_int_equal(store_map_decode(bytes, n, &back), 0);
    assert_int_equal(back.header_bytes, n);
    assert_int_equal(back.flags, m.flags);
    assert_true(store_stamp_equal(&back.stamp, &m.stamp));
    assert_memory_equal(back.version.identity, m.version.identity, 16);
    assert_true(text_equal(back.version.origin, m.version.origin));
    assert_true(text_equal(back.version.key, m.version.key));
    assert_true(text_equal(back.version.validator, m.version.validator));
    assert_true(text_equal(back.version.checksum, m.version.checksum));
    assert_int_equal(back.version.size_bytes, m.version.size_bytes);
    assert_int_equal(back.version.mtime_ns, m.version.mtime_ns);
}

static void a_header_with_any_bit_flipped_or_cut_anywhere_is_refused(void **state)
{
    struct store_map m = usual_map(), back;
    uint8_t bytes[STORE_MAP_ROOM];
    size_t n = store_map_encode(&m, bytes);
    for (size_t i = 0; i < n * 8; i++) {
        bytes[i / 8] ^= (uint8_t)(1 << i % 8);
        assert_int_equal(store_map_decode(bytes, n, &back), -EBADMSG);
        bytes[i / 8] ^= (uint8_t)(1 << i % 8);
    }
    for (size_t i = 0; i < n; i++)
        assert_int_equal(store_map_decode(bytes, i, &back), -EBADMSG);
    assert_int_equal(store_map_decode(bytes, sizeof(bytes), &back), 0);
}

static void the_longest_texts_have_room(void **state)
{
    struct store_map m = usual_map(), back;
    char *text = memory_new(STORED_KEY_BYTES_MAX);
    m.version.origin = (struct text){text, STORED_ORIGIN_BYTES_MAX};
    m.version.key = (struct text){text, STORED_KEY_BYTES_MAX};
    m.version.validator = (struct text){text, STORED_VALIDATOR_BYTES_MAX};
    m.version.checksum = (struct text){text, STORED_CHECKSUM_BYTES_MAX};
    m.version.size_bytes = STORED_SIZE_MAX;
    assert_int_equal(store_map_check(&m.version), 0);
    uint8_t bytes[STORE_MAP_ROOM];
    size_t n = store_map_encode(&m, bytes);
    assert_int_equal(store_map_decode(bytes, n, &back), 0);
    assert_int_equal(back.version.key.size_bytes, STORED_KEY_BYTES_MAX);
    free(text);
}

static void blocks_are_counted_to_the_last_byte(void **state)
{
    assert_int_equal(store_block_count(0), 0);
    assert_int_equal(store_block_count(1), 1);
    assert_int_equal(store_block_count(BLOCK), 1);
    assert_int_equal(store_block_count(BLOCK + 1), 2);
    assert_int_equal(store_block_bytes(BLOCK + 1, 0), BLOCK);
    assert_int_equal(store_block_bytes(BLOCK + 1, 1), 1);
    assert_int_equal(store_block_count(STORED_SIZE_MAX), STORED_SIZE_MAX / BLOCK);
}

// ---- names

static void a_name_leads_back_to_its_identity(void **state)
{
    uint8_t identity[16], back[16];
    char name[STORE_NAME_BYTES];
    enum store_file file;
    for (int i = 0; i < 1000; i++) {
        hash128(&i, sizeof(i), identity);
        store_disk_name(identity, i % 2 ? STORE_MAP : STORE_DATA, name);
        assert_int_equal(store_disk_identity(identity[0], name + 3, back, &file), 0);
        assert_memory_equal(back, identity, 16);
        assert_int_equal(file, i % 2 ? STORE_MAP : STORE_DATA);
    }
    static const char *const foreign[] = {
        "", ".", "..", "README", "0123456789abcdef0123456789abcd", "0123456789abcdef0123456789abcd.mapx",
        "0123456789abcdef0123456789abcD.map", "0123456789abcdef0123456789ab.map",
        "0123456789abcdef0123456789abcdef.map",
    };
    for (size_t i = 0; i < sizeof(foreign) / sizeof(*foreign); i++)
        assert_int_equal(store_disk_identity(0, foreign[i], back, &file), -EINVAL);
}

// ---- bits

static void bits_are_found_as_a_plain_array_has_them(void **state)
{
    enum { COUNT = 517 };
    bool plain[COUNT] = {0};
    struct store_bits bits;
    store_bits_init(&bits, COUNT, false);
    uint64_t x = 1;
    for (int step = 0; step < 20000; step++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        uint32_t from = (uint32_t)(x >> 33) % COUNT, to = (uint32_t)(x >> 13) % (COUNT + 1);
        bool is_set = step / 2000 % 2 ? x >> 60 == 0 : x >> 60 != 0; // filling up, emptying
        assert_int_equal(store_bits_put(&bits, from, is_set), plain[from] != is_set);
        plain[from] = is_set;
        uint32_t set = 0, found = from;
        for (int i = 0; i < COUNT; i++)
            set += plain[i];
        assert_int_equal(bits.set, set);
        assert_int_equal(bits.words != NULL, set > 0 && set < COUNT);
        while (found < to && plain[found] == (x >> 61 != 0))
            found++;
        assert_int_equal(store_bits_next(&bits, from, to, x >> 61 == 0), from < to ? found : to);
    }
    store_bits_fill(&bits, true);
    assert_true(store_bits_all(&bits) && !bits.words);
    assert_int_equal(store_bits_next(&bits, 3, COUNT, false), COUNT);
    store_bits_put(&bits, 516, false);
    assert_int_equal(store_bits_next(&bits, 3, COUNT, false), 516);
    store_bits_release(&bits);
}

// ---- whole checksums

static bool is_sum_of(const char *checksum, const char *data)
{
    struct store_digest *d = store_digest_new(text_of(checksum));
    assert_non_null(d);
    store_digest_add(d, "junk", 4);
    store_digest_reset(d);
    for (const char *at = data; *at; at++)
        store_digest_add(d, at, 1);
    bool is_bytewise = store_digest_is_right(d);
    store_digest_reset(d);
    store_digest_add(d, data, strlen(data));
    bool is_right = store_digest_is_right(d);
    assert_int_equal(is_right, is_bytewise);
    store_digest_free(d);
    return is_right;
}

#define FOX "The quick brown fox jumps over the lazy dog"

static void the_checksums_are_those_of_their_standards(void **state)
{
    assert_true(is_sum_of("blake2b:a8add4bdddfd93e4877d2746e62817b116364a1fa7bc148d95090bc7333b3673"
                          "f82401cf7aa2e4cb1ecd90296e3f14cb5413f8ed77be73045b13914cdcd6a918", FOX));
    assert_true(is_sum_of("sha256:d7a8fbb307d7809469ca9abcb0082e4f8d5651e46d3cdb762d02d0bf37c9e592",
                          FOX));
    assert_true(is_sum_of("sha256:16j7swfXgJRpypq8sAguT41WUeRtPNt2LQLQvzfJ5ZI=", FOX));
    assert_true(is_sum_of("sha1:2FD4E1C67A2D28FCED849EE1BB76E7391B93EB12", FOX));
    assert_true(is_sum_of("crc32:414fa339", FOX));
    assert_true(is_sum_of("crc32:QU+jOQ==", FOX));
    assert_true(is_sum_of("crc32c:e3069283", "123456789"));
    assert_true(is_sum_of("crc64nvme:ae8b14860a799888", "123456789"));
    assert_true(is_sum_of("crc64nvme:rosUhgp5mIg=", "123456789"));
    assert_false(is_sum_of("crc32c:e3069284", "123456789"));
    assert_false(is_sum_of("blake2b:a8add4bdddfd93e4877d2746e62817b116364a1fa7bc148d95090bc7333b3673"
                           "f82401cf7aa2e4cb1ecd90296e3f14cb5413f8ed77be73045b13914cdcd6a919", FOX));
}

// Bit by bit, as the definition has it.
static uint64_t crc_of(uint64_t polynomial, uint64_t begin, const uint8_t *data, size_t n)
{
    uint64_t crc = begin;
    for (size_t i = 0; i < n; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ polynomial : crc >> 1;
    }
    return crc ^ begin;
}

static void long_ones_are_as_their_definition_has_them_however_they_come(void **state)
{
    static const struct {
        const char *name;
        int digits;
        uint64_t polynomial, begin;
    } kinds[] = {{"crc32", 8, UINT64_C(0xedb88320), UINT32_MAX},
                 {"crc32c", 8, UINT64_C(0x82f63b78), UINT32_MAX},
                 {"crc64nvme", 16, UINT64_C(0x9a6c9329ac4bc9b5), UINT64_MAX}};
    uint8_t data[3000];
    uint64_t x = 88172645463325252;
    for (size_t i = 0; i < sizeof(data); i++, x ^= x << 13, x ^= x >> 7, x ^= x << 17)
        data[i] = (uint8_t)x;
    for (size_t k = 0; k < sizeof(kinds) / sizeof(*kinds); k++)
        for (size_t n = 0; n < 600; n++) {
            const uint8_t *at = data + n % 16;
            size_t size = n < 400 ? n : sizeof(data) - n, cut = n * 7 % (size + 1);
            char text[64];
            snprintf(text, sizeof(text), "%s:%0*llx", kinds[k].name, kinds[k].digits,
                     (unsigned long long)crc_of(kinds[k].polynomial, kinds[k].begin, at, size));
            struct store_digest *d = store_digest_new(text_of(text));
            store_digest_add(d, at, cut);
            store_digest_add(d, at + cut, size - cut);
            assert_true(store_digest_is_right(d));
            store_digest_free(d);
        }
}

static void what_is_no_checksum_compares_nothing(void **state)
{
    static const char *const words[] = {
        "", ":", "blake2b", "blake2b:", "blake2b:00", "md5:d41d8cd98f00b204e9800998ecf8427e",
        "crc32:414fa33", "crc32:414fa33g", "crc32:QU+jOQ=", "crc32:QU+jOQ=!", "crc32:====",
        "sha256:16j7swfXgJRpypq8sAguT41WUeRtPNt2LQLQvzfJ5ZI=-3",
    };
    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
        assert_null(store_digest_new(text_of(words[i])));
    assert_null(store_digest_new((struct text){NULL, 0}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_header_is_read_as_it_was_written),
        cmocka_unit_test(a_header_with_any_bit_flipped_or_cut_anywhere_is_refused),
        cmocka_unit_test(the_longest_texts_have_room),
        cmocka_unit_test(blocks_are_counted_to_the_last_byte),
        cmocka_unit_test(a_name_leads_back_to_its_identity),
        cmocka_unit_test(bits_are_found_as_a_plain_array_has_them),
        cmocka_unit_test(the_checksums_are_those_of_their_standards),
        cmocka_unit_test(long_ones_are_as_their_definition_has_them_however_they_come),
        cmocka_unit_test(what_is_no_checksum_compares_nothing),
    };
    return run_group(tests);
}
