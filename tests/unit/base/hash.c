// SPDX-License-Identifier: BSD-3-Clause
// The values stand in names, records and inode numbers that outlive a version: they may not change.
#include "tests/unit/base/harness.h"

#include "base/hash.h"

static void the_hashes_are_those_of_xxh3(void **state)
{
    assert_true(hash64("", 0) == UINT64_C(0x2d06800538d394c2));
    assert_true(hash64("abc", 3) == UINT64_C(0x78af5f94892f3950));
    uint8_t hash[16];
    static const uint8_t of_nothing[16] = {0x99, 0xaa, 0x06, 0xd3, 0x01, 0x47, 0x98, 0xd8,
                                           0x60, 0x01, 0xc3, 0x24, 0x46, 0x8d, 0x49, 0x7f};
    hash128("", 0, hash);
    assert_memory_equal(hash, of_nothing, 16);
}

static void a_seed_changes_the_hash_and_none_does_not(void **state)
{
    assert_true(hash64_seed("abc", 3, 0) == hash64("abc", 3));
    assert_true(hash64_seed("abc", 3, 1) != hash64("abc", 3));
}

static void bytes_in_pieces_have_the_hash_of_the_whole(void **state)
{
    unsigned char bytes[5000];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)(i * 131 >> 3);
    struct hash_stream h;
    hash_stream_begin(&h);
    for (size_t at = 0, n = 1; at < sizeof(bytes); at += n, n = n * 3 % 701) {
        assert_true(hash_stream_end(&h) == hash64(bytes, at));
        n = n < sizeof(bytes) - at ? n : sizeof(bytes) - at;
        hash_stream_add(&h, bytes + at, n);
    }
    assert_true(hash_stream_end(&h) == hash64(bytes, sizeof(bytes)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_hashes_are_those_of_xxh3),
        cmocka_unit_test(a_seed_changes_the_hash_and_none_does_not),
        cmocka_unit_test(bytes_in_pieces_have_the_hash_of_the_whole),
    };
    return run_group(tests);
}
