// SPDX-License-Identifier: BSD-3-Clause
#include "tests/unit/base/harness.h"

#include <pthread.h>

#include "cache/pool.h"

#define BLOCKS 4

static struct pool_block *put(struct pool *p, uint64_t owner, uint32_t number, bool was_read)
{
    struct pool_block *b = pool_take(p);
    memset(b->data, (int)(owner * 16 + number), CACHE_BLOCK_BYTES);
    pool_publish(p, b, owner, number, CACHE_BLOCK_BYTES);
    pool_drop(p, b, was_read);
    return b;
}

static uint64_t bytes_in(struct pool *p)
{
    uint64_t bytes, peak;
    pool_status(p, &bytes, &peak);
    return bytes;
}

static void a_published_block_is_found_by_its_owner_and_number(void **state)
{
    struct pool *p = pool_new(BLOCKS * CACHE_BLOCK_BYTES, true);
    put(p, 1, 7, false);
    assert_null(pool_find(p, 1, 8));
    assert_null(pool_find(p, 2, 7));
    struct pool_block *b = pool_find(p, 1, 7);
    assert_non_null(b);
    assert_int_equal(b->data[CACHE_BLOCK_BYTES - 1], 1 * 16 + 7);
    pool_drop(p, b, true);
    pool_free(p);
}

static void a_block_that_is_filled_is_not_found(void **state)
{
    struct pool *p = pool_new(BLOCKS * CACHE_BLOCK_BYTES, true);
    struct pool_block *b = pool_take(p);
    assert_false(pool_has(p, 0, 0));
    pool_drop(p, b, false);
    assert_int_equal(bytes_in(p), 0);
    pool_free(p);
}

static void room_is_made_by_the_oldest_block_that_was_read(void **state)
{
    struct pool *p = pool_new(BLOCKS * CACHE_BLOCK_BYTES, true);
    put(p, 1, 0, false);
    put(p, 1, 1, true);
    put(p, 1, 2, true);
    put(p, 1, 3, false);
    put(p, 1, 4, false);
    assert_false(pool_has(p, 1, 1));
    put(p, 1, 5, false);
    assert_false(pool_has(p, 1, 2));
    put(p, 1, 6, false);
    assert_false(pool_has(p, 1, 0)); // only unread ones are left: the oldest
    assert_true(pool_has(p, 1, 3));
    assert_int_equal(bytes_in(p), BLOCKS * CACHE_BLOCK_BYTES);
    pool_free(p);
}

static void what_is_held_stays_and_the_bound_is_kept_again_after_it(void **state)
{
    struct pool *p = pool_new(BLOCKS * CACHE_BLOCK_BYTES, true);
    struct pool_block *held[BLOCKS * 2];
    for (uint32_t i = 0; i < BLOCKS * 2; i++) {
        held[i] = pool_take(p);
        memset(held[i]->data, 16 + (int)i, CACHE_BLOCK_BYTES);
        pool_publish(p, held[i], 1, i, CACHE_BLOCK_BYTES);
    }
    assert_int_equal(bytes_in(p), 2 * BLOCKS * CACHE_BLOCK_BYTES);
    for (uint32_t i = 0; i < BLOCKS * 2; i++) {
        assert_int_equal(held[i]->data[0], 16 + i);
        pool_drop(p, held[i], true);
    }
    assert_int_equal(bytes_in(p), BLOCKS * CACHE_BLOCK_BYTES);
    pool_free(p);
}

// Blocks that are pieces of slabs go through the same, beside those that stand alone.
static void blocks_of_large_pages_are_kept_apart_and_their_bound_is_kept(void **state)
{
    enum { LIMIT = 40, ALL = 70 }; // two slabs, eight alone within the bound, thirty beyond it
    struct pool *p = pool_new(LIMIT * CACHE_BLOCK_BYTES, true);
    struct pool_block *held[ALL];
    for (int round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < ALL; i++) {
            held[i] = pool_take(p);
            assert_int_equal((uintptr_t)held[i]->data % 4096, 0);
            memset(held[i]->data, (int)(i + (uint32_t)round), CACHE_BLOCK_BYTES);
            pool_publish(p, held[i], (uint64_t)round + 1, i, CACHE_BLOCK_BYTES);
        }
        assert_int_equal(bytes_in(p), ALL * CACHE_BLOCK_BYTES);
        for (uint32_t i = 0; i < ALL; i++) {
            for (size_t at = 0; at < CACHE_BLOCK_BYTES; at += 4096)
                assert_int_equal(held[i]->data[at], (unsigned char)(i + (uint32_t)round));
            pool_drop(p, held[i], true);
        }
        assert_int_equal(bytes_in(p), LIMIT * CACHE_BLOCK_BYTES);
    }
    pool_free(p);
}

static void a_second_block_under_a_key_stays_unknown(void **state)
{
    struct pool *p = pool_new(BLOCKS * CACHE_BLOCK_BYTES, true);
    struct pool_block *first = pool_take(p), *second = pool_take(p);
    pool_publish(p, first, 1, 0, 10);
    pool_publish(p, second, 1, 0, 10);
    struct pool_block *found = pool_find(p, 1, 0);
    assert_ptr_equal(found, first);
    pool_drop(p, found, true);
    pool_drop(p, second, true);
    pool_drop(p, first, true);
    assert_int_equal(bytes_in(p), CACHE_BLOCK_BYTES);
    pool_free(p);
}

static void an_owner_is_forgotten_alone(void **state)
{
    struct pool *p = pool_new(BLOCKS * CACHE_BLOCK_BYTES, true);
    put(p, 1, 0, false);
    put(p, 2, 0, true);
    put(p, 1, 1, true);
    struct pool_block *held = pool_find(p, 1, 1);
    pool_forget(p, 1);
    assert_false(pool_has(p, 1, 0));
    assert_false(pool_has(p, 1, 1)); // also what is held
    assert_int_equal(held->data[0], 1 * 16 + 1);
    pool_drop(p, held, true);
    assert_true(pool_has(p, 2, 0));
    assert_int_equal(bytes_in(p), CACHE_BLOCK_BYTES);
    pool_free(p);
}

static void beside_a_disk_little_of_what_was_read_is_kept(void **state)
{
    struct pool *p = pool_new(16 * CACHE_BLOCK_BYTES, false);
    for (uint32_t i = 0; i < 10; i++)
        put(p, 1, i, true);
    put(p, 1, 10, false);
    assert_int_equal(bytes_in(p), 3 * CACHE_BLOCK_BYTES);
    assert_true(pool_has(p, 1, 8) && pool_has(p, 1, 9) && pool_has(p, 1, 10));
    pool_free(p);
}

static void *use_it(void *argument)
{
    struct pool *p = argument;
    for (uint32_t i = 0; i < 2000; i++) {
        uint32_t number = i * 7 % 9;
        struct pool_block *b = pool_find(p, 1, number);
        if (!b) {
            b = pool_take(p);
            memset(b->data, (int)number, 64);
            pool_publish(p, b, 1, number, 64);
        }
        assert_int_equal(b->data[63], number);
        pool_drop(p, b, i % 2);
    }
    return NULL;
}

static void many_threads_see_each_block_as_it_was_filled(void **state)
{
    struct pool *p = pool_new(BLOCKS * CACHE_BLOCK_BYTES, true);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, use_it, p), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    pool_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_published_block_is_found_by_its_owner_and_number),
        cmocka_unit_test(a_block_that_is_filled_is_not_found),
        cmocka_unit_test(room_is_made_by_the_oldest_block_that_was_read),
        cmocka_unit_test(what_is_held_stays_and_the_bound_is_kept_again_after_it),
        cmocka_unit_test(blocks_of_large_pages_are_kept_apart_and_their_bound_is_kept),
        cmocka_unit_test(a_second_block_under_a_key_stays_unknown),
        cmocka_unit_test(an_owner_is_forgotten_alone),
        cmocka_unit_test(beside_a_disk_little_of_what_was_read_is_kept),
        cmocka_unit_test(many_threads_see_each_block_as_it_was_filled),
    };
    return run_group(tests);
}
