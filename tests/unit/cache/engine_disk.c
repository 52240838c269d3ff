// SPDX-License-Identifier: BSD-3-Clause
// The engine and its disk: what survives, what is repaired, whole objects, folders.
#include "tests/unit/cache/world.h"

#include "cache/entry.h"

#include <openssl/evp.h>

// ---- what stays

static void what_was_read_is_not_fetched_again_in_another_life(void **state)
{
    struct world *w = *state;
    world_put(w, "object", 1, 8 * MIB);
    struct cached *h = opened(w, "object");
    assert_true(reads_right(w, h, 1, 3 * MIB, 512 * KIB));
    cached_close(h);
    world_restart(w);
    uint64_t before = counted(w).bytes;
    h = opened(w, "object");
    assert_true(reads_right(w, h, 1, 3 * MIB, 512 * KIB));
    assert_int_equal(counted(w).bytes, before);
    assert_true(reads_right(w, h, 1, 6 * MIB, 4096));
    assert_int_equal(counted(w).bytes, before + BLOCK);
    cached_close(h);
}

static bool descriptor_is_right(struct cached *h, uint64_t seed, size_t size_bytes)
{
    int fd = -1;
    if (cached_descriptor(h, &fd) < 0)
        return false;
    unsigned char *bytes = memory_new(size_bytes);
    bool is_right = pread(fd, bytes, size_bytes, 0) == (ssize_t)size_bytes;
    for (size_t i = 0; i < size_bytes && is_right; i++)
        is_right = bytes[i] == byte_of(seed, i);
    free(bytes);
    close(fd);
    return is_right;
}

static void a_complete_object_has_a_descriptor(void **state)
{
    struct world *w = *state;
    world_put(w, "object", 1, 3 * MIB + 17);
    struct cached *h = opened(w, "object");
    int fd;
    assert_int_equal(cached_descriptor(h, &fd), -ENODATA);
    read_through(w, h, 1, 3 * MIB + 17, 256 * KIB);
    assert_soon(descriptor_is_right(h, 1, 3 * MIB + 17));
    struct cache_attr a;
    cached_attr(h, &a);
    assert_true(a.is_complete);
    assert_int_equal(a.present_bytes, 3 * MIB + 17);
    cached_close(h);
}

static void in_another_life_it_has_one_when_it_was_checked_by_reading(void **state)
{
    struct world *w = *state;
    world_put(w, "object", 1, 3 * MIB);
    struct cached *h = opened(w, "object");
    read_through(w, h, 1, 3 * MIB, 256 * KIB);
    cached_close(h);
    world_restart(w);
    h = opened(w, "object");
    int fd;
    assert_int_equal(cached_descriptor(h, &fd), -ENODATA);
    read_through(w, h, 1, 3 * MIB, 256 * KIB);
    cached_close(h);
    int64_t before = metric_get(METRIC_STORE_CHECKED_BYTES);
    h = opened(w, "object"); // nobody had it open meanwhile
    assert_true(descriptor_is_right(h, 1, 3 * MIB));
    cached_close(h);
    assert_int_equal(metric_get(METRIC_STORE_CHECKED_BYTES), before);
    assert_int_equal(counted(w).bytes, 3 * MIB);
}

static bool has_descriptor(struct world *w, const char *key)
{
    struct cached *h = opened(w, key);
    int fd = -1;
    bool has = cached_descriptor(h, &fd) == 0;
    if (has)
        close(fd);
    cached_close(h);
    return has;
}

static void what_was_not_read_is_checked_for_the_next_one(void **state)
{
    struct world *w = *state;
    world_put(w, "object", 1, 3 * MIB);
    struct cached *h = opened(w, "object");
    read_through(w, h, 1, 3 * MIB, 256 * KIB);
    cached_close(h);
    world_restart(w);
    assert_false(has_descriptor(w, "object"));
    assert_soon(has_descriptor(w, "object"));
}

// ---- a disk that fails

// Flips a byte of the object's file, which has `size_bytes`.
static int flip_one(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
    if (kind != FTW_F || st->st_size != 3 * (off_t)MIB + 5)
        return 0;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    unsigned char byte;
    assert_int_equal(pread(fd, &byte, 1, MIB + 77), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, MIB + 77), 1);
    close(fd);
    return 0;
}

static void a_flipped_bit_is_fetched_again_and_never_given(void **state)
{
    struct world *w = *state;
    world_put(w, "object", 1, 3 * MIB + 5);
    struct cached *h = opened(w, "object");
    read_through(w, h, 1, 3 * MIB + 5, 256 * KIB);
    cached_close(h);
    cache_free(w->cache);
    assert_int_equal(nftw(w->folder, flip_one, 16, FTW_PHYS), 0);
    world_start(w);
    int64_t bad = metric_get(METRIC_STORE_BAD_BLOCKS);
    uint64_t before = counted(w).bytes;
    h = opened(w, "object");
    read_through(w, h, 1, 3 * MIB + 5, 256 * KIB);
    assert_int_equal(metric_get(METRIC_STORE_BAD_BLOCKS), bad + 1);
    assert_int_equal(counted(w).bytes - before, BLOCK);
    assert_soon(descriptor_is_right(h, 1, 3 * MIB + 5));
    cached_close(h);
}

static void a_disk_that_is_too_small_loses_no_byte_of_a_reader(void **state)
{
    struct world *w = *state;
    w->options.limit_bytes = MIB;
    world_restart(w);
    world_put(w, "large", 4, 20 * MIB);
    struct cached *h = opened(w, "large");
    read_through(w, h, 4, 20 * MIB, 512 * KIB);
    read_through(w, h, 4, 20 * MIB, 300 * KIB);
    cached_close(h);
}

static void objects_that_nobody_has_open_make_room_for_others(void **state)
{
    struct world *w = *state;
    w->options.limit_bytes = 8 * MIB;
    world_restart(w);
    int64_t refused = metric_get(METRIC_STORE_REFUSED);
    int64_t evicted = metric_get(METRIC_STORE_EVICTED_OBJECTS);
    for (uint64_t i = 0; i < 20; i++) {
        char key[24];
        snprintf(key, sizeof(key), "object%d", (int)i);
        world_put(w, key, i, MIB);
        struct cached *h = opened(w, key);
        read_through(w, h, i, MIB, 256 * KIB);
        cached_close(h);
    }
    assert_int_equal(metric_get(METRIC_STORE_REFUSED), refused);
    assert_soon(metric_get(METRIC_STORE_EVICTED_OBJECTS) >= evicted + 10);
    uint64_t before = counted(w).bytes;
    struct cached *h = opened(w, "object19");
    read_through(w, h, 19, MIB, 256 * KIB);
    assert_int_equal(counted(w).bytes, before);
    assert_soon(descriptor_is_right(h, 19, MIB));
    cached_close(h);
    world_restart(w);
}

// ---- whole objects

static int warm(struct world *w, struct cached *h, bool pin)
{
    struct cache_want want = {0};
    int r;
    while ((r = cached_warm(h, pin, &want)) == -EINPROGRESS)
        if ((r = wait_for(w, &want)) < 0)
            break;
    cache_want_release(&want);
    return r;
}

static void warming_brings_all_of_it_once_and_pins_it(void **state)
{
    struct world *w = *state;
    world_put(w, "object", 1, 30 * MIB + 1);
    struct cached *h = opened(w, "object");
    assert_int_equal(warm(w, h, true), 0);
    assert_int_equal(counted(w).bytes, 30 * MIB + 1);
    struct cache_attr a;
    cached_attr(h, &a);
    assert_true(a.is_complete && a.is_pinned);
    assert_true(descriptor_is_right(h, 1, 30 * MIB + 1));
    assert_int_equal(warm(w, h, true), 0);
    assert_int_equal(counted(w).bytes, 30 * MIB + 1);
    assert_int_equal(cached_pin(h, false), 0);
    cached_attr(h, &a);
    assert_false(a.is_pinned);
    cached_close(h);
}

static void warming_ends_when_the_descriptor_can_be_had(void **state)
{
    struct world *w = *state;
    world_put(w, "object", 1, 3 * MIB);
    struct cached *h = opened(w, "object");
    assert_int_equal(warm(w, h, false), 0);
    cached_close(h);
    world_restart(w);
    h = opened(w, "object");
    assert_int_equal(warm(w, h, false), 0);
    assert_true(descriptor_is_right(h, 1, 3 * MIB));
    assert_int_equal(counted(w).bytes, 3 * MIB);
    cached_close(h);
}

static void warming_goes_on_where_it_was_interrupted(void **state)
{
    struct world *w = *state;
    world_put(w, "object", 1, 24 * MIB);
    struct cached *h = opened(w, "object");
    origin_memory_fault(w->origin,
                        &(struct origin_memory_fault){
                            .times = 1, .error = -EREMOTEIO, .after_bytes = 2 * MIB});
    assert_int_equal(warm(w, h, false), -EREMOTEIO);
    cached_close(h);
    assert_soon(metric_get(METRIC_FLIGHTS) == 0);
    uint64_t before = counted(w).bytes;
    assert_true(before > 2 * MIB);
    world_restart(w);
    h = opened(w, "object");
    assert_int_equal(warm(w, h, false), 0);
    assert_true(counted(w).bytes <= 24 * MIB + 4 * BLOCK);
    read_through(w, h, 1, 24 * MIB, MIB);
    assert_true(counted(w).bytes <= 24 * MIB + 4 * BLOCK);
    cached_close(h);
}

static void what_the_disk_does_not_hold_is_not_warmed(void **state)
{
    struct world *w = *state;
    w->options.limit_bytes = MIB;
    world_restart(w);
    world_put(w, "object", 1, 8 * MIB);
    struct cached *h = opened(w, "object");
    assert_int_equal(warm(w, h, false), -ENOSPC);
    cached_close(h);
}

static void an_evicted_object_is_fetched_anew(void **state)
{
    struct world *w = *state;
    unsigned char byte;
    world_put(w, "object", 1, 2 * MIB);
    struct object object = object_of(w, "object");
    assert_int_equal(cache_evict(w->cache, &object), -ENOENT);
    struct cached *h = opened(w, "object");
    assert_true(reads_right(w, h, 1, 0, 1000));
    assert_int_equal(cache_evict(w->cache, &object), 0);
    struct cache_attr a;
    assert_int_equal(cache_peek(w->cache, &object, &a), -ENOENT);
    assert_int_equal(read_at(w, h, MIB, &byte, 1), -ESTALE);
    uint64_t before = counted(w).bytes;
    struct cached *again = opened(w, "object");
    assert_true(reads_right(w, again, 1, 0, 1000));
    assert_int_equal(counted(w).bytes - before, BLOCK);
    assert_int_equal(cache_peek(w->cache, &object, &a), 0);
    cached_close(h);
    cached_close(again);
}

// ---- whole checksums

static void blake2b_of(uint64_t seed, size_t size_bytes, char ret_text[160])
{
    unsigned char digest[64], *bytes = memory_new(size_bytes);
    unsigned length = 0;
    bytes_fill(seed, 0, bytes, size_bytes);
    assert_int_equal(EVP_Digest(bytes, size_bytes, digest, &length, EVP_blake2b512(), NULL), 1);
    free(bytes);
    strcpy(ret_text, "blake2b:");
    for (unsigned i = 0; i < length; i++)
        sprintf(ret_text + 8 + 2 * i, "%02x", digest[i]);
}

static struct cached *opened_with_checksum(struct world *w, const char *checksum)
{
    struct object object = object_of(w, "object");
    struct cached *h = NULL;
    object.checksum = text_of(checksum);
    assert_int_equal(open_object(w, &object, &h), 0);
    return h;
}

static void the_checksum_of_the_whole_is_checked_before_passthrough(void **state)
{
    struct world *w = *state;
    char checksum[160];
    blake2b_of(1, 3 * MIB, checksum);
    world_put(w, "object", 1, 3 * MIB);
    struct cached *h = opened_with_checksum(w, checksum);
    read_through(w, h, 1, 3 * MIB, MIB);
    assert_soon(descriptor_is_right(h, 1, 3 * MIB));
    assert_int_equal(counted(w).bytes, 3 * MIB);
    cached_close(h);
}

static void bytes_that_were_wrong_once_are_fetched_again(void **state)
{
    struct world *w = *state;
    char checksum[160];
    int64_t bad = metric_get(METRIC_STORE_BAD_OBJECTS);
    blake2b_of(1, 3 * MIB, checksum);
    world_put(w, "object", 1, 3 * MIB);
    origin_memory_fault(w->origin, &(struct origin_memory_fault){.times = 1, .flips_a_byte = true});
    struct cached *h = opened_with_checksum(w, checksum);
    unsigned char *bytes = memory_new(MIB);
    for (int i = 0; i < 3; i++)
        assert_int_equal(read_at(w, h, i * (int64_t)MIB, bytes, MIB), MIB);
    free(bytes);
    assert_soon(descriptor_is_right(h, 1, 3 * MIB));
    assert_int_equal(metric_get(METRIC_STORE_BAD_OBJECTS), bad + 1);
    assert_int_equal(counted(w).bytes, 6 * MIB);
    read_through(w, h, 1, 3 * MIB, MIB);
    cached_close(h);
}

static void an_object_that_is_not_what_its_checksum_says_is_given_as_it_is(void **state)
{
    struct world *w = *state;
    char checksum[160];
    int64_t bad = metric_get(METRIC_STORE_BAD_OBJECTS);
    blake2b_of(2, 3 * MIB, checksum);
    world_put(w, "object", 1, 3 * MIB);
    struct cached *h = opened_with_checksum(w, checksum);
    read_through(w, h, 1, 3 * MIB, MIB);
    assert_soon(metric_get(METRIC_STORE_BAD_OBJECTS) == bad + 2);
    read_through(w, h, 1, 3 * MIB, MIB);
    assert_int_equal(warm(w, h, false), 0);
    assert_true(descriptor_is_right(h, 1, 3 * MIB));
    cached_close(h);
}

static void or_it_is_refused(void **state)
{
    struct world *w = *state;
    char checksum[160];
    unsigned char byte;
    struct cache_want want = {0};
    w->options.refuse_mismatch = true;
    world_restart(w);
    blake2b_of(2, 3 * MIB, checksum);
    world_put(w, "object", 1, 3 * MIB);
    struct cached *h = opened_with_checksum(w, checksum);
    while (cached_warm(h, false, &want) == -EINPROGRESS)
        wait_for(w, &want);
    cache_want_release(&want);
    assert_int_equal(read_at(w, h, 0, &byte, 1), -EREMOTEIO);
    cached_close(h);
    struct object object = object_of(w, "object");
    assert_int_equal(open_object(w, &object, &h), -EREMOTEIO);
}

static void what_is_dropped_from_the_disk_while_it_is_open_is_no_wrong_object(void **state)
{
    struct world *w = *state;
    char checksum[160];
    uint8_t identity[16];
    w->options.refuse_mismatch = true;
    world_restart(w);
    blake2b_of(1, 3 * MIB, checksum);
    world_put(w, "object", 1, 3 * MIB);
    struct object object = object_of(w, "object");
    object_identity(&object, identity);
    struct cached *h = opened_with_checksum(w, checksum);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(warm(w, h, false), 0);
        assert_true(descriptor_is_right(h, 1, 3 * MIB));
        assert_int_equal(block_store_drop(cache_store(w->cache), identity), 0);
    }
    cached_close(h);
}

// ---- folders

#define FRAMES 8

static int frame_at(void *context, uint64_t series, int64_t position,
                    void (*give)(void *give_context, const struct object *object),
                    void *give_context)
{
    struct world *w = context;
    char key[32];
    if (position < 0 || position >= FRAMES)
        return -ENOENT;
    snprintf(key, sizeof(key), "frame%d", (int)position);
    struct object object = object_of(w, key);
    give(give_context, &object);
    return 0;
}

static void frames_make(struct world *w)
{
    for (uint64_t i = 0; i < FRAMES; i++) {
        char key[32];
        snprintf(key, sizeof(key), "frame%d", (int)i);
        world_put(w, key, i, 2 * MIB);
    }
}

static void frame_read(struct world *w, const struct cache_neighbours *neighbours, int number,
                       size_t size_bytes)
{
    char key[32];
    snprintf(key, sizeof(key), "frame%d", number);
    struct cached *h = opened(w, key);
    cached_opened_in(h, &(struct cache_series){.id = 42, .position = number}, 1, neighbours);
    read_through(w, h, (uint64_t)number, size_bytes, 256 * KIB);
    cached_close(h);
}

static uint64_t frame_present(struct world *w, int number)
{
    char key[32];
    struct cache_attr a;
    snprintf(key, sizeof(key), "frame%d", number);
    struct object object = object_of(w, key);
    return cache_peek(w->cache, &object, &a) == 0 ? a.present_bytes : 0;
}

static void who_opens_what_is_fetched_ahead_gets_the_blocks_that_have_come(void **state)
{
    struct world *w = *state;
    const struct cache_neighbours neighbours = {frame_at, w};
    frames_make(w);
    frame_read(w, &neighbours, 0, 2 * MIB);
    struct cached *h = opened(w, "frame1");
    read_through(w, h, 1, 2 * MIB, 256 * KIB);
    cached_close(h);
    origin_memory_hold_behind(w->origin, 3 * BLOCK);
    frame_read(w, &neighbours, 1, 2 * MIB);
    assert_soon(counted(w).bytes >= 4 * MIB + 3 * BLOCK);
    h = opened(w, "frame2");
    read_through(w, h, 2, 3 * BLOCK, BLOCK);
    origin_memory_hold(w->origin, false);
    read_through(w, h, 2, 2 * MIB, BLOCK);
    cached_close(h);
    cache_forget(w->cache, &neighbours);
}

static void the_next_files_of_a_folder_are_there_before_they_are_opened(void **state)
{
    struct world *w = *state;
    const struct cache_neighbours neighbours = {frame_at, w};
    frames_make(w);
    frame_read(w, &neighbours, 0, 2 * MIB);
    frame_read(w, &neighbours, 1, 2 * MIB);
    assert_soon(frame_present(w, 2) == 2 * MIB && frame_present(w, 3) == 2 * MIB);
    frame_read(w, &neighbours, 2, 2 * MIB);
    frame_read(w, &neighbours, 3, 2 * MIB);
    assert_soon(frame_present(w, FRAMES - 1) == 2 * MIB);
    assert_int_equal(counted(w).bytes, FRAMES * 2 * MIB);
    assert_true(has_descriptor(w, "frame7"));
    cache_forget(w->cache, &neighbours);
}

static void of_files_whose_heads_are_read_the_heads_are_fetched(void **state)
{
    struct world *w = *state;
    const struct cache_neighbours neighbours = {frame_at, w};
    frames_make(w);
    for (int i = 0; i < FRAMES; i++)
        frame_read(w, &neighbours, i, 64 * KIB);
    assert_soon(metric_get(METRIC_FLIGHTS) == 0);
    assert_int_equal(counted(w).bytes, FRAMES * BLOCK);
    assert_int_equal(counted(w).gets, FRAMES);
    cache_forget(w->cache, &neighbours);
}

static void who_turns_round_has_the_other_files_fetched(void **state)
{
    struct world *w = *state;
    const struct cache_neighbours neighbours = {frame_at, w};
    frames_make(w);
    frame_read(w, &neighbours, 5, 2 * MIB);
    frame_read(w, &neighbours, 4, 2 * MIB);
    assert_soon(frame_present(w, 3) == 2 * MIB);
    cache_forget(w->cache, &neighbours);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_in_world(what_was_read_is_not_fetched_again_in_another_life),
        test_in_world(a_complete_object_has_a_descriptor),
        test_in_world(in_another_life_it_has_one_when_it_was_checked_by_reading),
        test_in_world(what_was_not_read_is_checked_for_the_next_one),
        test_in_world(a_flipped_bit_is_fetched_again_and_never_given),
        test_in_world(a_disk_that_is_too_small_loses_no_byte_of_a_reader),
        test_in_world(objects_that_nobody_has_open_make_room_for_others),
        test_in_world(warming_brings_all_of_it_once_and_pins_it),
        test_in_world(warming_ends_when_the_descriptor_can_be_had),
        test_in_world(warming_goes_on_where_it_was_interrupted),
        test_in_world(what_the_disk_does_not_hold_is_not_warmed),
        test_in_world(an_evicted_object_is_fetched_anew),
        test_in_world(the_checksum_of_the_whole_is_checked_before_passthrough),
        test_in_world(bytes_that_were_wrong_once_are_fetched_again),
        test_in_world(an_object_that_is_not_what_its_checksum_says_is_given_as_it_is),
        test_in_world(or_it_is_refused),
        test_in_world(what_is_dropped_from_the_disk_while_it_is_open_is_no_wrong_object),
        test_in_world(who_opens_what_is_fetched_ahead_gets_the_blocks_that_have_come),
        test_in_world(the_next_files_of_a_folder_are_there_before_they_are_opened),
        test_in_world(of_files_whose_heads_are_read_the_heads_are_fetched),
        test_in_world(who_turns_round_has_the_other_files_fetched),
    };
    return run_group(tests);
}
