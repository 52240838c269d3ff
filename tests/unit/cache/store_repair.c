// SPDX-License-Identifier: BSD-3-Clause
// What is wrong on disk is found, told, and made good; and what the kernel may read by itself is
// right. That the damage was seen is asserted by the count of bad blocks.
#include "tests/unit/cache/stores.h"

#include <openssl/evp.h>

static int64_t bad_blocks(void)
{
    return metric_get(METRIC_STORE_BAD_BLOCKS);
}

static int64_t checked_bytes(void)
{
    return metric_get(METRIC_STORE_CHECKED_BYTES);
}

// An object that an earlier life left complete.
static struct stored *left_complete(struct block_store **b, const struct artifact *a)
{
    *b = opened();
    struct stored *s = created(*b, a);
    put_all(s);
    stored_unref(s);
    block_store_close(*b);
    *b = opened();
    assert_int_equal(block_store_find(*b, a->version.identity, &s), 0);
    assert_int_equal(stored_state(s), STORED_COMPLETE);
    return s;
}

// ---- bad blocks

static void a_flipped_bit_is_not_given_out_and_its_block_is_missing_then(void **state)
{
    struct block_store *b = opened();
    struct artifact *a = artifact(1, 1, 10 * BLOCK);
    struct stored *s = created(b, a);
    assert_int_equal(put_blocks(s, 0, 9, BLOCK), 9);
    flip_byte(a, STORE_DATA, 5 * BLOCK + 1000);
    int64_t before = bad_blocks();
    assert_int_equal(get(s, 5 * BLOCK, 10), -EBADMSG);
    assert_int_equal(bad_blocks() - before, 1);
    assert_false(stored_has(s, 5));
    assert_int_equal(get(s, 5 * BLOCK, 10), -ENODATA);
    assert_int_equal(get(s, 0, 5 * BLOCK), 5 * BLOCK);
    assert_int_equal(put_blocks(s, 5, 1, BLOCK), 1);
    assert_int_equal(get(s, 0, 9 * BLOCK), 9 * BLOCK);
    assert_int_equal(bad_blocks() - before, 1);
    stored_unref(s);
    block_store_close(b);
}

static void a_flipped_mark_costs_its_block(void **state)
{
    struct block_store *b = opened();
    struct artifact *a = artifact(1, 1, 4 * BLOCK);
    struct stored *s = created(b, a);
    assert_int_equal(put_blocks(s, 0, 3, BLOCK), 3);
    flip_byte(a, STORE_MAP, (off_t)store_mark_offset(s->header_bytes, 2) + 3);
    assert_int_equal(get(s, 0, 3 * BLOCK), -EBADMSG);
    assert_int_equal(get(s, 0, 2 * BLOCK), 2 * BLOCK);
    assert_int_equal(stored_blocks_present(s), 2);
    stored_unref(s);
    block_store_close(b);
}

static void a_complete_object_with_a_bad_block_gets_another_file(void **state)
{
    struct artifact *a = artifact(1, 1, 10 * BLOCK + 9);
    struct block_store *b;
    struct stored *s = left_complete(&b, a);
    assert_int_equal(checked(s), 0);
    int old = -1;
    assert_int_equal(stored_passthrough_fd(s, &old), 0);
    flip_byte(a, STORE_DATA, 10 * BLOCK + 3);
    struct stat before, after;
    assert_int_equal(fstat(old, &before), 0);
    assert_int_equal(get(s, 9 * BLOCK, 2 * BLOCK), -EBADMSG);
    assert_int_equal(stored_state(s), STORED_PARTIAL);
    int fd = -1;
    assert_int_equal(stored_passthrough_fd(s, &fd), -ENODATA);
    assert_int_equal(get(s, 0, 10 * BLOCK), 10 * BLOCK);
    assert_int_equal(put_blocks(s, 10, 1, 4), 1);
    assert_int_equal(stored_state(s), STORED_COMPLETE);
    assert_whole(s);
    assert_int_equal(checked(s), 0);
    assert_int_equal(stored_passthrough_fd(s, &fd), 0);
    assert_int_equal(fstat(fd, &after), 0);
    assert_int_not_equal(before.st_ino, after.st_ino);
    assert_int_equal(fstat(old, &after), 0);
    assert_int_equal(after.st_nlink, 0);
    assert_int_equal(after.st_blocks, before.st_blocks); // as it was
    assert_int_equal(after.st_mtim.tv_nsec, before.st_mtim.tv_nsec);
    close(old);
    close(fd);
    stored_unref(s);
    block_store_close(b);
}

static void a_large_one_is_repaired_in_the_background(void **state)
{
    struct artifact *a = artifact(1, 1, 100 * BLOCK);
    struct block_store *b;
    struct stored *s = left_complete(&b, a);
    flip_byte(a, STORE_DATA, 50 * BLOCK + 3);
    assert_int_equal(get(s, 50 * BLOCK, 1), -EBADMSG);
    int r = put_blocks(s, 50, 1, BLOCK);
    assert_int_equal(r, -EBUSY);
    for (int i = 0; i < 5000 && r == -EBUSY; i++) {
        usleep(1000);
        r = put_blocks(s, 50, 1, BLOCK);
    }
    assert_int_equal(r, 1);
    assert_int_equal(stored_state(s), STORED_COMPLETE);
    assert_whole(s);
    stored_unref(s);
    wait_until_counted(b);
    block_store_close(b);
}

static void a_hole_in_a_complete_file_is_remembered_by_the_next_life(void **state)
{
    struct artifact *a = artifact(1, 1, 6 * BLOCK);
    struct block_store *b;
    struct stored *s = left_complete(&b, a);
    flip_byte(a, STORE_DATA, 3 * BLOCK);
    assert_int_equal(get(s, 3 * BLOCK, 1), -EBADMSG);
    stored_unref(s);
    block_store_close(b);
    b = opened();
    assert_int_equal(block_store_find(b, a->version.identity, &s), 0);
    assert_int_equal(stored_state(s), STORED_PARTIAL);
    assert_int_equal(stored_next_missing(s, 0, 6), 3);
    assert_int_equal(stored_blocks_present(s), 5);
    assert_int_equal(put_blocks(s, 3, 1, BLOCK), 1);
    assert_whole(s);
    stored_unref(s);
    block_store_close(b);
}

static void a_shorter_file_is_as_bad_as_a_wrong_one(void **state)
{
    struct block_store *b = opened();
    struct artifact *a = artifact(1, 1, 4 * BLOCK);
    struct stored *s = created(b, a);
    put_all(s);
    assert_int_equal(truncate(file_of(a, STORE_DATA), BLOCK + 1), 0);
    assert_int_equal(get(s, BLOCK, 1), -EBADMSG);
    assert_int_equal(get(s, 3 * BLOCK, 1), -EBADMSG);
    assert_int_equal(get(s, 0, BLOCK), BLOCK);
    stored_unref(s);
    block_store_close(b);
}

static void blocks_that_can_not_be_read_are_bad(void **state)
{
    struct block_store *b = opened();
    struct stored *s = created(b, artifact(1, 1, 4 * BLOCK));
    assert_int_equal(put_blocks(s, 0, 2, BLOCK), 2);
    store_faults.effects = STORE_EFFECT_READ;
    store_faults.error = -EIO;
    store_faults.is_lasting = true;
    atomic_store(&store_faults.countdown, 0);
    assert_int_equal(get(s, 0, 1), -EBADMSG);
    atomic_store(&store_faults.countdown, -2);
    store_faults.is_lasting = false;
    assert_int_equal(get(s, BLOCK, 1), 1);
    assert_int_equal(get(s, 0, 1), -ENODATA);
    stored_unref(s);
    block_store_close(b);
}

// ---- before passthrough

static void what_was_written_in_this_life_needs_no_check(void **state)
{
    struct block_store *b = opened();
    struct stored *s = created(b, artifact(1, 1, 3 * BLOCK));
    int fd = -1;
    assert_int_equal(checked(s), -ENODATA);
    put_all(s);
    assert_int_equal(stored_unchecked_bytes(s), 0);
    int64_t before = checked_bytes();
    assert_int_equal(stored_passthrough_fd(s, &fd), 0);
    char byte;
    assert_int_equal(pwrite(fd, "x", 1, 0), -1); // for reading only
    assert_int_equal(pread(fd, &byte, 1, 0), 1);
    close(fd);
    assert_int_equal(checked(s), 0);
    assert_int_equal(checked_bytes(), before);
    stored_unref(s);
    block_store_close(b);
}

static void a_file_of_an_earlier_life_is_checked_once(void **state)
{
    struct artifact *a = artifact(1, 1, 30 * BLOCK);
    struct block_store *b;
    struct stored *s = left_complete(&b, a);
    int fd = -1;
    assert_int_equal(stored_passthrough_fd(s, &fd), -EINPROGRESS);
    assert_int_equal(stored_unchecked_bytes(s), 30 * BLOCK);
    int64_t before = checked_bytes();
    assert_int_equal(checked(s), 0);
    assert_int_equal(checked_bytes() - before, 30 * BLOCK);
    assert_int_equal(stored_passthrough_fd(s, &fd), 0);
    close(fd);
    stored_unref(s); // it is remembered although nobody has it open
    assert_int_equal(block_store_find(b, a->version.identity, &s), 0);
    assert_int_equal(stored_passthrough_fd(s, &fd), 0);
    close(fd);
    assert_int_equal(checked_bytes() - before, 30 * BLOCK);
    stored_unref(s);
    block_store_close(b);
}

static void a_flipped_bit_keeps_a_file_from_passthrough(void **state)
{
    struct artifact *a = artifact(1, 1, 30 * BLOCK);
    struct block_store *b = opened();
    struct stored *s = created(b, a);
    put_all(s);
    stored_unref(s);
    block_store_close(b);
    flip_byte(a, STORE_DATA, 29 * BLOCK);
    b = opened();
    assert_int_equal(block_store_find(b, a->version.identity, &s), 0);
    assert_int_equal(checked(s), -EBADMSG);
    int fd = -1;
    assert_int_equal(stored_passthrough_fd(s, &fd), -ENODATA);
    assert_int_equal(stored_next_missing(s, 0, 30), 29);
    stored_unref(s);
    block_store_close(b);
}

static void other_times_make_a_file_be_checked_again(void **state)
{
    struct artifact *a = artifact(1, 1, 3 * BLOCK);
    struct block_store *b = opened();
    struct stored *s = created(b, a);
    put_all(s);
    int fd = -1;
    assert_int_equal(stored_passthrough_fd(s, &fd), 0);
    close(fd);
    assert_int_equal(chmod(file_of(a, STORE_DATA), 0640), 0); // its ctime
    assert_int_equal(stored_passthrough_fd(s, &fd), -EINPROGRESS);
    int64_t before = checked_bytes();
    assert_int_equal(checked(s), 0);
    assert_int_equal(checked_bytes() - before, 3 * BLOCK);
    assert_int_equal(stored_passthrough_fd(s, &fd), 0);
    close(fd);
    stored_unref(s);
    assert_int_equal(block_store_find(b, a->version.identity, &s), 0);
    assert_int_equal(stored_passthrough_fd(s, &fd), 0); // as recorded since
    close(fd);
    flip_byte(a, STORE_DATA, 0);
    assert_int_equal(checked(s), -EBADMSG);
    stored_unref(s);
    block_store_close(b);
}

static void everybody_who_waits_for_a_check_is_told(void **state)
{
    struct artifact *a = artifact(1, 1, 300 * BLOCK);
    struct block_store_options o = usual_options();
    o.limit_bytes = 200 * MIB;
    struct block_store *b = opened_with(&o);
    struct stored *s = created(b, a);
    put_all(s);
    stored_unref(s);
    block_store_close(b);
    b = opened_with(&o);
    assert_int_equal(block_store_find(b, a->version.identity, &s), 0);
    struct check_waiter waiters[3];
    for (int i = 0; i < 3; i++) {
        waiters[i] = (struct check_waiter){.waiter = {.done = check_done}, .result = 1};
        stored_check(s, &waiters[i].waiter);
    }
    bool is_cancelled = stored_check_cancel(s, &waiters[1].waiter);
    assert_int_equal(checked(s), 0);
    for (int i = 0; i < 5000 && atomic_load(&waiters[0].result) == 1; i++)
        usleep(1000);
    assert_int_equal(atomic_load(&waiters[0].result), 0);
    assert_int_equal(atomic_load(&waiters[1].result), is_cancelled ? 1 : 0);
    assert_false(stored_check_cancel(s, &waiters[0].waiter));
    stored_unref(s);
    block_store_close(b);
}

// ---- the whole checksum

static struct artifact *summed(struct artifact *a, char checksum[160])
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    EVP_DigestInit_ex(md, EVP_blake2b512(), NULL);
    char bytes[1000];
    for (uint64_t at = 0; at < a->version.size_bytes; at += sizeof(bytes)) {
        uint64_t left = a->version.size_bytes - at;
        size_t n = left < sizeof(bytes) ? (size_t)left : sizeof(bytes);
        fill(&a->version, at, bytes, n);
        EVP_DigestUpdate(md, bytes, n);
    }
    uint8_t value[64];
    EVP_DigestFinal_ex(md, value, NULL);
    EVP_MD_CTX_free(md);
    char *to = checksum + sprintf(checksum, "blake2b:");
    for (int i = 0; i < 64; i++)
        to += sprintf(to, "%02x", value[i]);
    a->version.checksum = text_of(checksum);
    return a;
}

static void wait_for_state(struct stored *s, enum stored_state wanted)
{
    for (int i = 0; i < 5000 && stored_state(s) != wanted; i++)
        usleep(1000);
    assert_int_equal(stored_state(s), wanted);
}

static void bytes_in_order_are_summed_on_their_way(void **state)
{
    char checksum[160];
    struct block_store *b = opened();
    struct stored *s = created(b, summed(artifact(1, 1, 5 * BLOCK + 17), checksum));
    int64_t before = metric_get(METRIC_STORE_READ_BYTES);
    put_all(s);
    assert_int_equal(stored_state(s), STORED_COMPLETE); // at once
    assert_int_equal(metric_get(METRIC_STORE_READ_BYTES), before);
    stored_unref(s);
    block_store_close(b);
}

static void bytes_out_of_order_are_summed_afterwards(void **state)
{
    char checksum[160];
    struct block_store *b = opened();
    struct stored *s = created(b, summed(artifact(1, 1, 5 * BLOCK + 17), checksum));
    assert_int_equal(put_blocks(s, 3, 3, 1000), 3);
    assert_int_equal(put_blocks(s, 0, 3, 1000), 3);
    wait_for_state(s, STORED_COMPLETE);
    assert_int_equal(checked(s), 0);
    stored_unref(s);
    block_store_close(b);
}

static void a_block_begun_twice_is_summed_once(void **state)
{
    char checksum[160], bytes[BLOCK];
    struct block_store *b = opened();
    struct stored *s = created(b, summed(artifact(1, 1, 2 * BLOCK), checksum));
    struct stored_writer w;
    stored_write_begin(s, 0, &w);
    fill(stored_version(s), 0, bytes, sizeof(bytes));
    assert_int_equal(stored_write(&w, bytes, 1000), 0);
    stored_write_end(&w);
    assert_int_equal(put_blocks(s, 0, 2, 777), 2);
    assert_int_equal(stored_state(s), STORED_COMPLETE);
    stored_unref(s);
    block_store_close(b);
}

static void wrong_bytes_in_a_block_begun_twice_are_not_held_against_it(void **state)
{
    char checksum[160];
    struct block_store *b = opened();
    struct stored *s = created(b, summed(artifact(1, 1, 2 * BLOCK), checksum));
    struct stored_writer w;
    stored_write_begin(s, 0, &w);
    assert_int_equal(stored_write(&w, "wrong", 5), 0);
    stored_write_end(&w);
    put_all(s);
    wait_for_state(s, STORED_COMPLETE); // summed again, from the disk
    stored_unref(s);
    block_store_close(b);
}

static void an_object_of_another_checksum_is_dropped(void **state)
{
    char checksum[160];
    for (int is_in_order = 0; is_in_order < 2; is_in_order++) {
        struct block_store *b = opened();
        struct artifact *a = summed(artifact(1, 1, 3 * BLOCK), checksum);
        checksum[10] ^= 1;
        struct stored *s = created(b, a), *t;
        int64_t before = metric_get(METRIC_STORE_BAD_OBJECTS);
        if (is_in_order) {
            put_all(s);
        } else {
            put_blocks(s, 1, 2, BLOCK);
            put_blocks(s, 0, 1, BLOCK);
        }
        wait_for_state(s, STORED_DYING);
        assert_int_equal(metric_get(METRIC_STORE_BAD_OBJECTS) - before, 1);
        assert_int_equal(checked(s), -EILSEQ);
        assert_int_equal(block_store_find(b, a->version.identity, &t), -ENOENT);
        stored_unref(s);
        for (int i = 0; i < 5000 && status_of(b).open_objects; i++)
            usleep(1000);
        block_store_close(b);
    }
}

static void a_checksum_interrupted_by_the_end_is_looked_at_in_the_next_life(void **state)
{
    char checksum[160];
    struct artifact *a = summed(artifact(1, 1, 3 * BLOCK), checksum);
    struct block_store *b = opened();
    struct stored *s = created(b, a);
    assert_int_equal(put_blocks(s, 0, 2, BLOCK), 2);
    stored_unref(s);
    block_store_close(b);
    b = opened();
    s = created(b, a);
    assert_int_equal(put_blocks(s, 2, 1, BLOCK), 1);
    wait_for_state(s, STORED_COMPLETE);
    int fd = -1;
    assert_int_equal(checked(s), 0);
    assert_int_equal(stored_passthrough_fd(s, &fd), 0);
    close(fd);
    stored_unref(s);
    block_store_close(b);
}

// ---- looking for it

static void verify_finds_every_bad_block(void **state)
{
    struct block_store *b = opened();
    struct artifact all[5];
    for (int i = 0; i < 5; i++) {
        struct stored *s = created(b, artifact_of(&all[i], i, 1, 20 * BLOCK));
        if (i % 2)
            put_all(s);
        else
            put_blocks(s, 3, 10, BLOCK);
        stored_unref(s);
    }
    struct block_store_verified sums;
    assert_int_equal(block_store_verify(b, NULL, NULL, &sums), 0);
    assert_int_equal(sums.objects, 5);
    assert_int_equal(sums.blocks, 70);
    assert_int_equal(sums.bad_blocks, 0);
    for (int i = 0; i < 5; i++) {
        flip_byte(&all[i], STORE_DATA, 4 * BLOCK + i);
        flip_byte(&all[i], STORE_DATA, 12 * BLOCK - 1);
    }
    assert_int_equal(block_store_verify(b, NULL, NULL, &sums), 0);
    assert_int_equal(sums.blocks, 60);
    assert_int_equal(sums.bad_blocks, 10);
    assert_int_equal(block_store_verify(b, NULL, NULL, &sums), 0);
    assert_int_equal(sums.bad_blocks, 0);
    block_store_close(b);
}

static bool stop(const struct block_store_verified *sums, void *context)
{
    return false;
}

static void verify_ends_when_it_is_told_to(void **state)
{
    struct block_store *b = opened();
    struct stored *s = created(b, artifact(1, 1, BLOCK));
    put_all(s);
    stored_unref(s);
    struct block_store_verified sums;
    assert_int_equal(block_store_verify(b, stop, NULL, &sums), -ECANCELED);
    block_store_close(b);
}

static void the_scrub_reads_everything_once_a_round(void **state)
{
    struct block_store_options o = usual_options();
    o.scrub_bytes_per_s = 1 << 30; // its own thread begins later
    struct block_store *b = opened_with(&o);
    struct artifact bad;
    for (int i = 0; i < 5; i++) {
        struct stored *s = created(b, artifact_of(&bad, i, 1, 70 * BLOCK));
        put_blocks(s, 0, 69, BLOCK);
        stored_unref(s);
    }
    flip_byte(&bad, STORE_DATA, 68 * BLOCK);
    struct store_scrub scrub = {0};
    char *buffer = memory_new(STORE_RUN_BLOCKS * BLOCK);
    int64_t before = checked_bytes(), found = bad_blocks();
    int steps = 0;
    do {
        int64_t next = store_scrub_step(b, &scrub, buffer);
        assert_true(next > clock_ns() - NS_PER_S);
        assert_true(++steps < 100);
    } while (scrub.slot);
    assert_int_equal(checked_bytes() - before, 5 * 69 * BLOCK);
    assert_int_equal(bad_blocks() - found, 1);
    assert_true(steps >= 15);
    assert_true(status_of(b).scrubbed_unix_ns > 0);
    free(buffer);
    block_store_close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_in_folder(a_flipped_bit_is_not_given_out_and_its_block_is_missing_then),
        test_in_folder(a_flipped_mark_costs_its_block),
        test_in_folder(a_complete_object_with_a_bad_block_gets_another_file),
        test_in_folder(a_large_one_is_repaired_in_the_background),
        test_in_folder(a_hole_in_a_complete_file_is_remembered_by_the_next_life),
        test_in_folder(a_shorter_file_is_as_bad_as_a_wrong_one),
        test_in_folder(blocks_that_can_not_be_read_are_bad),
        test_in_folder(what_was_written_in_this_life_needs_no_check),
        test_in_folder(a_file_of_an_earlier_life_is_checked_once),
        test_in_folder(a_flipped_bit_keeps_a_file_from_passthrough),
        test_in_folder(other_times_make_a_file_be_checked_again),
        test_in_folder(everybody_who_waits_for_a_check_is_told),
        test_in_folder(bytes_in_order_are_summed_on_their_way),
        test_in_folder(bytes_out_of_order_are_summed_afterwards),
        test_in_folder(a_block_begun_twice_is_summed_once),
        test_in_folder(wrong_bytes_in_a_block_begun_twice_are_not_held_against_it),
        test_in_folder(an_object_of_another_checksum_is_dropped),
        test_in_folder(a_checksum_interrupted_by_the_end_is_looked_at_in_the_next_life),
        test_in_folder(verify_finds_every_bad_block),
        test_in_folder(verify_ends_when_it_is_told_to),
        test_in_folder(the_scrub_reads_everything_once_a_round),
    };
    return run_group(tests);
}
