// SPDX-License-Identifier: BSD-3-Clause
// Bounds, eviction, and disks that are full or fail.
#include "tests/unit/cache/stores.h"

#include <pthread.h>

static int64_t evicted(void)
{
    return metric_get(METRIC_STORE_EVICTED_OBJECTS);
}

static void put_object(struct block_store *b, int number, uint64_t size)
{
    struct stored *s = created(b, artifact(number, 1, size));
    put_all(s);
    stored_unref(s);
}

static bool is_there(struct block_store *b, int number)
{
    struct stored *s = NULL;
    if (block_store_find(b, artifact(number, 1, 0)->version.identity, &s) < 0)
        return false;
    stored_unref(s);
    return true;
}

static void use(struct block_store *b, int number)
{
    struct stored *s = NULL;
    assert_int_equal(block_store_find(b, artifact(number, 1, 0)->version.identity, &s), 0);
    stored_touch(s);
    stored_unref(s);
}

static uint64_t bytes_on_disk(void)
{
    char command[128], text[32] = "";
    snprintf(command, sizeof(command), "du -s --block-size=1 %s/blocks.%d/??", store_folder,
             STORE_FORMAT);
    uint64_t sum = 0;
    FILE *du = popen(command, "r");
    while (fgets(text, sizeof(text), du) || !feof(du))
        if (strstr(text, "/tmp") || strchr(text, '\t'))
            sum += strtoull(text, NULL, 10);
    pclose(du);
    return sum;
}

// ---- bounds

static void disk_use_stays_within_the_limit(void **state)
{
    struct block_store_options o = usual_options();
    o.limit_bytes = 8 * MIB;
    struct block_store *b = opened_with(&o);
    int64_t before = evicted();
    for (int i = 0; i < 60; i++) {
        put_object(b, i, (uint64_t)(i % 7 + 1) * 90000);
        assert_true(status_of(b).used_bytes <= 8 * MIB);
    }
    assert_true(evicted() > before);
    assert_true(bytes_on_disk() <= 8 * MIB + 256 * 4096);
    assert_true(status_of(b).used_bytes > 6 * MIB);
    block_store_close(b);
}

static void the_count_of_objects_is_bounded(void **state)
{
    struct block_store_options o = usual_options();
    o.limit_objects = 10;
    struct block_store *b = opened_with(&o);
    for (int i = 0; i < 30; i++)
        put_object(b, i, 100);
    assert_int_equal(status_of(b).objects, 10);
    block_store_close(b);
}

static void one_object_has_at_most_half(void **state)
{
    struct block_store_options o = usual_options();
    o.limit_bytes = 8 * MIB;
    struct block_store *b = opened_with(&o);
    put_object(b, 1, BLOCK);
    struct stored *s = created(b, artifact(2, 1, 16 * MIB));
    assert_int_equal(put_blocks(s, 0, 128, BLOCK), -ENOSPC);
    assert_in_range(stored_blocks_present(s), 30, 32);
    assert_true(is_there(b, 1));
    assert_int_equal(get(s, 0, 5 * BLOCK), 5 * BLOCK);
    stored_unref(s);
    block_store_close(b);
}

static void open_and_pinned_objects_stay(void **state)
{
    struct block_store_options o = usual_options();
    o.limit_bytes = 8 * MIB;
    struct block_store *b = opened_with(&o);
    struct stored *open = created(b, artifact(1000, 1, MIB)), *pinned;
    put_all(open);
    pinned = created(b, artifact(1001, 1, MIB));
    put_all(pinned);
    assert_int_equal(stored_pin(pinned, true), 0);
    stored_unref(pinned);
    for (int i = 0; i < 40; i++)
        put_object(b, i, MIB);
    assert_whole(open);
    assert_true(is_there(b, 1000));
    assert_true(is_there(b, 1001));
    stored_unref(open);
    block_store_close(b);
}

static void when_all_is_in_use_writing_is_refused_and_reading_is_not(void **state)
{
    struct block_store_options o = usual_options();
    o.limit_bytes = 4 * MIB;
    struct block_store *b = opened_with(&o);
    struct stored *s[5];
    int64_t refused = metric_get(METRIC_STORE_REFUSED);
    for (int i = 0; i < 5; i++)
        s[i] = created(b, artifact(i, 1, MIB));
    for (int i = 0; i < 3; i++)
        put_all(s[i]);
    assert_int_equal(put_blocks(s[3], 0, 8, BLOCK), -ENOSPC);
    assert_true(metric_get(METRIC_STORE_REFUSED) > refused);
    assert_whole(s[0]);
    stored_unref(s[0]);
    assert_int_equal(put_blocks(s[4], 0, 4, BLOCK), 4); // there is something to evict now
    assert_false(is_there(b, 0));
    for (int i = 1; i < 5; i++)
        stored_unref(s[i]);
    block_store_close(b);
}

static void a_pass_over_everything_leaves_what_is_shared(void **state)
{
    struct block_store_options o = usual_options();
    o.limit_bytes = 8 * MIB;
    struct block_store *b = opened_with(&o);
    for (int i = 0; i < 4; i++)
        put_object(b, i, MIB);
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 4; i++)
            use(b, i);
    int64_t before = evicted();
    for (int i = 100; i < 200; i++) {
        put_object(b, i, MIB);
        use(b, i % 4); // the hundred go on with it
    }
    assert_true(evicted() - before >= 90);
    for (int i = 0; i < 4; i++)
        assert_true(is_there(b, i));
    block_store_close(b);
}

static void the_reserve_is_left_to_others(void **state)
{
    if (mount("none", store_folder, "tmpfs", 0, "size=32m") < 0)
        skip(); // only root may mount; elsewhere others use the disk too
    struct block_store_options o = usual_options();
    o.reserve_bytes = 10 * MIB;
    struct block_store *b = opened_with(&o);
    for (int i = 0; i < 40; i++)
        put_object(b, i, MIB);
    uint64_t free_bytes;
    assert_int_equal(store_disk_free_bytes(&b->disk, &free_bytes), 0);
    assert_true(free_bytes >= 10 * MIB);
    char path[96];
    snprintf(path, sizeof(path), "%s/others", store_folder);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(posix_fallocate(fd, 0, 8 * MIB), 0);
    close(fd);
    store_look_at_disk(b);
    store_evict_to_low_water(b);
    assert_int_equal(store_disk_free_bytes(&b->disk, &free_bytes), 0);
    assert_true(free_bytes >= 10 * MIB);
    assert_true(status_of(b).objects > 5);
    block_store_close(b);
    assert_int_equal(umount2(store_folder, MNT_DETACH), 0);
}

static void the_keeper_makes_room_before_writers_must(void **state)
{
    struct block_store_options o = usual_options();
    o.limit_bytes = 32 * MIB;
    struct block_store *b = opened_with(&o);
    wait_until_counted(b);
    uint64_t high = 32 * MIB - MIB;
    for (int i = 0; status_of(b).used_bytes <= high; i++)
        put_object(b, i, MIB);
    for (int i = 0; i < 5000 && status_of(b).used_bytes > high; i++)
        usleep(1000);
    assert_true(status_of(b).used_bytes <= high);
    block_store_close(b);
}

// ---- eviction in use

static void what_was_evicted_is_nowhere(void **state)
{
    struct block_store *b = opened();
    struct artifact *a = artifact(1, 1, MIB);
    put_object(b, 1, MIB);
    assert_int_equal(b->asked_count, 1);
    assert_true(store_evict_one(b));
    assert_int_equal(b->asked_count, 0); // no descriptor keeps its blocks
    assert_false(is_on_disk(a));
    assert_false(is_there(b, 1));
    assert_int_equal(status_of(b).used_bytes, 0);
    assert_false(store_evict_one(b));
    block_store_close(b);
}

// ---- a disk that fails

static void fail_from_now_on(unsigned effects, int error)
{
    store_faults.effects = effects;
    store_faults.error = error;
    store_faults.is_lasting = true;
    atomic_store(&store_faults.countdown, 0);
}

static void fail_no_more(void)
{
    store_faults.is_lasting = false;
    atomic_store(&store_faults.countdown, -2);
}

static void a_failing_disk_is_left_alone_for_a_while(void **state)
{
    struct block_store *b = opened();
    struct stored *s = created(b, artifact(1, 1, 10 * BLOCK)), *t = NULL;
    assert_int_equal(put_blocks(s, 0, 5, BLOCK), 5);
    fail_from_now_on(STORE_EFFECT_WRITE | STORE_EFFECT_NAME, -EIO);
    assert_int_equal(put_blocks(s, 5, 5, BLOCK), -EIO);
    assert_int_equal(status_of(b).trouble, -EIO);
    assert_int_equal(put_blocks(s, 5, 5, BLOCK), -ENOSPC); // not even tried
    assert_int_equal(block_store_create(b, &artifact(2, 1, 1)->version, &t), -ENOSPC);
    assert_int_equal(get(s, 0, 5 * BLOCK), 5 * BLOCK);
    fail_no_more();
    assert_int_equal(put_blocks(s, 5, 5, BLOCK), -ENOSPC); // for a while
    {
        lock_scope(&b->lock);
        b->trouble_until_ns = 0;
    }
    assert_int_equal(put_blocks(s, 5, 5, BLOCK), 5);
    assert_int_equal(status_of(b).trouble, 0);
    assert_whole(s);
    stored_unref(s);
    block_store_close(b);
}

static void each_effect_may_fail_once(void **state)
{
    for (int n = 0; n < 60; n++) {
        struct block_store *b = opened();
        wait_until_counted(b);
        struct artifact *a = artifact(n, 1, 3 * BLOCK);
        store_faults.effects = STORE_EFFECT_OPEN | STORE_EFFECT_READ | STORE_EFFECT_WRITE |
                               STORE_EFFECT_NAME;
        store_faults.error = n % 2 ? -EIO : -EROFS;
        atomic_store(&store_faults.countdown, n / 2);
        struct stored *s = NULL;
        if (block_store_create(b, &a->version, &s) == 0) {
            put_blocks(s, 0, 3, BLOCK / 2);
            get(s, 0, 3 * BLOCK);
            stored_pin(s, true);
            get(s, BLOCK / 2, 10);
            stored_drop(s);
            stored_unref(s);
        }
        atomic_store(&store_faults.countdown, -2);
        {
            lock_scope(&b->lock);
            b->trouble_until_ns = 0;
        }
        s = created(b, a);
        for (uint32_t i = 0; i < 3; i++)
            if (!stored_has(s, i))
                assert_int_equal(put_blocks(s, i, 1, BLOCK), 1);
        assert_whole(s);
        stored_unref(s);
        block_store_close(b);
    }
}

static void a_full_disk_is_made_room_on(void **state)
{
    struct block_store *b = opened();
    put_object(b, 1, MIB);
    struct stored *s = created(b, artifact(2, 1, MIB));
    store_faults.effects = STORE_EFFECT_WRITE;
    store_faults.error = -ENOSPC;
    store_faults.is_lasting = false;
    atomic_store(&store_faults.countdown, 0);
    put_all(s);
    assert_false(is_there(b, 1));
    assert_int_equal(status_of(b).trouble, 0);
    assert_whole(s);
    stored_unref(s);
    block_store_close(b);
}

static void a_file_system_that_is_full_costs_the_cache_only(void **state)
{
    if (mount("none", store_folder, "tmpfs", 0, "size=4m") < 0)
        skip(); // only root may mount
    struct block_store *b = opened();
    struct stored *s = created(b, artifact(1, 1, 16 * MIB));
    assert_int_equal(put_blocks(s, 0, 128, BLOCK), -ENOSPC);
    uint32_t kept = stored_blocks_present(s);
    assert_true(kept > 10);
    assert_int_equal(get(s, 0, (size_t)kept * BLOCK), (size_t)kept * BLOCK);
    stored_unref(s);
    {
        lock_scope(&b->lock);
        b->trouble_until_ns = 0;
    }
    put_object(b, 2, MIB); // by evicting
    assert_false(is_there(b, 1));
    assert_true(is_there(b, 2));
    block_store_close(b);
    assert_int_equal(umount2(store_folder, MNT_DETACH), 0);
}

static bool asks(struct block_store *b)
{
    lock_scope(&b->lock);
    return b->asked_count > 0 || b->handle_count > 0;
}

static void a_file_that_did_not_come_to_the_disk_is_dropped(void **state)
{
    for (int is_bad = 0; is_bad < 2; is_bad++) {
        struct block_store *b = opened();
        wait_until_counted(b);
        {
            lock_scope(&b->lock);
            b->ask_after_ns = 20 * NS_PER_MS;
        }
        store_faults.effects = STORE_EFFECT_SYNC;
        store_faults.error = -EIO;
        atomic_store(&store_faults.countdown, is_bad ? 0 : -2);
        put_object(b, 1 + is_bad, 3 * BLOCK);
        for (int i = 0; i < 60000 && asks(b); i++)
            usleep(1000);
        // It is taken from the list before it is asked after.
        for (int i = 0; i < 60000 && is_bad && is_there(b, 2); i++)
            usleep(1000);
        assert_int_equal(status_of(b).trouble, is_bad ? -EIO : 0);
        block_store_close(b); // waits for the keeper
        store_faults.effects = 0;
        b = opened();
        assert_int_equal(is_there(b, 1 + is_bad), !is_bad);
        block_store_close(b);
    }
}

static void what_is_large_is_closed_by_the_keeper(void **state)
{
    struct block_store *b = opened();
    wait_until_counted(b);
    struct stored *s = created(b, artifact(1, 1, 20 * MIB));
    put_all(s);
    stored_drop(s);
    int fd = s->data_fd;
    stored_unref(s);
    for (int i = 0; i < 5000 && fcntl(fd, F_GETFD) >= 0; i++)
        usleep(1000);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    block_store_close(b);
}

static void what_can_only_be_read_is_read(void **state)
{
    struct block_store *b = opened();
    wait_until_counted(b);
    struct stored *s = created(b, artifact(1, 1, 3 * BLOCK));
    assert_int_equal(put_blocks(s, 0, 2, BLOCK), 2);
    stored_unref(s);
    store_faults.effects = STORE_EFFECT_OPEN; // the map's, for writing
    store_faults.error = -EROFS;
    atomic_store(&store_faults.countdown, 0);
    assert_int_equal(block_store_find(b, artifact(1, 1, 0)->version.identity, &s), 0);
    assert_int_equal(get(s, 0, 2 * BLOCK), 2 * BLOCK);
    assert_int_equal(put_blocks(s, 2, 1, BLOCK), -EBADF);
    assert_int_equal(get(s, 0, 2 * BLOCK), 2 * BLOCK);
    stored_unref(s);
    block_store_close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_in_folder(disk_use_stays_within_the_limit),
        test_in_folder(the_count_of_objects_is_bounded),
        test_in_folder(one_object_has_at_most_half),
        test_in_folder(open_and_pinned_objects_stay),
        test_in_folder(when_all_is_in_use_writing_is_refused_and_reading_is_not),
        test_in_folder(a_pass_over_everything_leaves_what_is_shared),
        test_in_folder(the_reserve_is_left_to_others),
        test_in_folder(the_keeper_makes_room_before_writers_must),
        test_in_folder(what_was_evicted_is_nowhere),
        test_in_folder(a_failing_disk_is_left_alone_for_a_while),
        test_in_folder(each_effect_may_fail_once),
        test_in_folder(a_full_disk_is_made_room_on),
        test_in_folder(a_file_system_that_is_full_costs_the_cache_only),
        test_in_folder(a_file_that_did_not_come_to_the_disk_is_dropped),
        test_in_folder(what_is_large_is_closed_by_the_keeper),
        test_in_folder(what_can_only_be_read_is_read),
    };
    return run_group(tests);
}
