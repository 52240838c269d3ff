// SPDX-License-Identifier: BSD-3-Clause
#include "tests/unit/cache/stores.h"

// ---- blocks come and go

static void a_block_is_there_when_its_last_byte_is(void **state)
{
    struct block_store *b = opened();
    struct stored *s = created(b, artifact(1, 1, 3 * BLOCK + 5));
    char bytes[BLOCK];
    fill(stored_version(s), BLOCK, bytes, BLOCK);
    struct stored_writer w;
    stored_write_begin(s, 1, &w);
    assert_int_equal(stored_write(&w, bytes, BLOCK - 1), 0);
    assert_false(stored_has(s, 1));
    assert_int_equal(get(s, BLOCK, 10), -ENODATA);
    assert_int_equal(stored_write(&w, bytes + BLOCK - 1, 1), 1);
    assert_true(stored_has(s, 1));
    stored_write_end(&w);
    assert_int_equal(get(s, BLOCK, BLOCK), BLOCK);
    assert_int_equal(get(s, BLOCK + 77, 1000), 1000);
    assert_int_equal(get(s, BLOCK + 77, BLOCK), -ENODATA);
    stored_unref(s);
    block_store_close(b);
}

static void an_object_is_complete_with_its_last_block(void **state)
{
    struct block_store *b = opened();
    struct stored *s = created(b, artifact(1, 1, 3 * BLOCK + 5));
    assert_int_equal(stored_block_count(s), 4);
    assert_int_equal(put_blocks(s, 2, 2, 1000), 2);
    assert_int_equal(stored_state(s), STORED_PARTIAL);
    assert_int_equal(stored_next_missing(s, 0, 4), 0);
    assert_int_equal(stored_next_present(s, 0, 4), 2);
    assert_int_equal(put_blocks(s, 0, 2, BLOCK), 2);
    assert_int_equal(stored_state(s), STORED_COMPLETE);
    assert_int_equal(stored_next_missing(s, 0, 4), 4);
    assert_whole(s);
    assert_int_equal(get(s, 3 * BLOCK + 5, 10), 0);
    stored_unref(s);
    block_store_close(b);
}

static void blocks_that_come_together_are_right_in_this_life_and_the_next(void **state)
{
    struct block_store *b = opened();
    struct stored *s = created(b, artifact(1, 1, 19 * BLOCK + 5));
    assert_int_equal(put_run(s, 4, 8), 8);
    assert_int_equal(get(s, 4 * BLOCK, 8 * BLOCK), 8 * BLOCK);
    assert_int_equal(put_run(s, 12, 8), 8); // the last one is short
    assert_int_equal(put_run(s, 0, 3), 3);
    assert_int_equal(put_run(s, 0, 8), 1); // those that are there stay
    assert_int_equal(stored_state(s), STORED_COMPLETE);
    assert_whole(s);
    stored_unref(s);
    block_store_close(b);
    b = opened();
    s = created(b, artifact(1, 1, 19 * BLOCK + 5));
    assert_int_equal(stored_state(s), STORED_COMPLETE);
    assert_whole(s);
    stored_unref(s);
    block_store_close(b);
}

static void blocks_that_come_together_pass_over_one_that_is_being_written(void **state)
{
    struct block_store *b = opened();
    struct stored *s = created(b, artifact(1, 1, 8 * BLOCK));
    char bytes[BLOCK];
    fill(stored_version(s), 6 * BLOCK, bytes, BLOCK);
    struct stored_writer other;
    stored_write_begin(s, 6, &other);
    assert_int_equal(stored_write(&other, bytes, 10), 0);
    assert_int_equal(put_run(s, 0, 8), 7);
    assert_int_equal(stored_next_missing(s, 0, 8), 6);
    assert_int_equal(stored_write(&other, bytes + 10, BLOCK - 10), 1);
    stored_write_end(&other);
    assert_whole(s);
    stored_unref(s);
    block_store_close(b);
}

static void blocks_that_cannot_pass_the_page_cache_by_go_through_it(void **state)
{
    struct block_store *b = opened();
    struct stored *s = created(b, artifact(1, 1, 8 * BLOCK));
    atomic_store(&store_faults.countdown, 0);
    store_faults.effects = STORE_EFFECT_WRITE;
    store_faults.error = -EIO;
    assert_int_equal(put_run(s, 0, 8), 8);
    assert_true(atomic_load(&store_faults.countdown) < 0);
    assert_whole(s);
    stored_unref(s);
    block_store_close(b);
}

static void blocks_that_come_together_and_cannot_be_written_are_missing(void **state)
{
    struct block_store *b = opened();
    struct stored *s = created(b, artifact(1, 1, 16 * BLOCK));
    store_faults.effects = STORE_EFFECT_WRITE;
    store_faults.error = -EIO;
    store_faults.is_lasting = true;
    atomic_store(&store_faults.countdown, 0);
    assert_int_equal(put_run(s, 0, 8), -EIO);
    atomic_store(&store_faults.countdown, -2);
    store_faults.is_lasting = false;
    assert_int_equal(stored_next_present(s, 0, 16), 16);
    assert_true(LIST_EMPTY(&s->claims));
    stored_unref(s);
    block_store_close(b);
}

static void bytes_past_the_end_are_refused(void **state)
{
    struct block_store *b = opened();
    struct stored *s = created(b, artifact(1, 1, 100));
    struct stored_writer w;
    stored_write_begin(s, 0, &w);
    char bytes[200];
    fill(stored_version(s), 0, bytes, sizeof(bytes));
    assert_int_equal(stored_write(&w, bytes, 200), 1);
    assert_int_equal(stored_write(&w, bytes, 1), -EINVAL);
    stored_write_end(&w);
    assert_whole(s);
    stored_unref(s);
    block_store_close(b);
}

static void an_empty_object_is_complete_at_once(void **state)
{
    struct block_store *b = opened();
    struct stored *s = created(b, artifact(1, 1, 0));
    assert_int_equal(stored_state(s), STORED_COMPLETE);
    assert_int_equal(get(s, 0, 10), 0);
    int fd = -1;
    assert_int_equal(stored_passthrough_fd(s, &fd), 0);
    close(fd);
    stored_unref(s);
    block_store_close(b);
}

static void two_writers_of_a_block_do_no_harm(void **state)
{
    struct block_store *b = opened();
    struct stored *s = created(b, artifact(1, 1, 2 * BLOCK));
    char bytes[2 * BLOCK];
    fill(stored_version(s), 0, bytes, sizeof(bytes));
    struct stored_writer first, second;
    stored_write_begin(s, 0, &first);
    stored_write_begin(s, 0, &second);
    assert_int_equal(stored_write(&first, bytes, 10), 0);
    assert_int_equal(stored_write(&second, bytes, BLOCK), 0); // passes over it
    assert_false(stored_has(s, 0));
    assert_int_equal(stored_write(&second, bytes + BLOCK, BLOCK), 1);
    assert_int_equal(stored_write(&first, bytes + 10, BLOCK - 10), 1);
    assert_int_equal(stored_write(&first, bytes + BLOCK, BLOCK), 0);
    stored_write_end(&first);
    stored_write_end(&second);
    assert_int_equal(stored_state(s), STORED_COMPLETE);
    assert_whole(s);
    stored_unref(s);
    block_store_close(b);
}

static void a_writer_that_ends_early_leaves_the_block_to_another(void **state)
{
    struct block_store *b = opened();
    struct stored *s = created(b, artifact(1, 1, BLOCK));
    struct stored_writer w;
    stored_write_begin(s, 0, &w);
    assert_int_equal(stored_write(&w, "other bytes", 11), 0);
    stored_write_end(&w);
    put_all(s);
    assert_whole(s);
    stored_unref(s);
    block_store_close(b);
}

// ---- versions

static void all_that_open_a_version_have_one_handle(void **state)
{
    struct block_store *b = opened();
    struct artifact *a = artifact(1, 1, BLOCK);
    struct stored *s = created(b, a), *t = created(b, a), *u = NULL;
    assert_ptr_equal(s, t);
    assert_int_equal(block_store_find(b, a->version.identity, &u), 0);
    assert_ptr_equal(s, u);
    assert_int_equal(block_store_find(b, artifact(2, 1, 1)->version.identity, &u), -ENOENT);
    stored_unref(s);
    stored_unref(t);
    stored_unref(u);
    block_store_close(b);
}

static void a_new_version_replaces_the_old_one_which_its_readers_keep(void **state)
{
    struct block_store *b = opened();
    struct stored *old = created(b, artifact(1, 1, 2 * BLOCK));
    put_all(old);
    struct stored *s = created(b, artifact(1, 2, 3 * BLOCK)), *found = NULL;
    assert_ptr_not_equal(s, old);
    assert_int_equal(stored_state(old), STORED_DYING);
    assert_int_equal(stored_blocks_present(s), 0);
    assert_int_equal(block_store_find(b, old->version.identity, &found), 0);
    assert_ptr_equal(found, s);
    put_all(s);
    assert_whole(old);
    assert_whole(s);
    assert_true(status_of(b).dying_bytes >= 2 * BLOCK);
    stored_unref(old);
    assert_int_equal(status_of(b).dying_bytes, 0);
    assert_whole(s);
    stored_unref(s);
    stored_unref(found);
    block_store_close(b);
}

static void a_dropped_object_is_gone_but_for_who_has_it(void **state)
{
    struct block_store *b = opened();
    struct artifact *a = artifact(1, 1, 2 * BLOCK);
    struct stored *s = created(b, a), *t;
    put_all(s);
    assert_true(is_on_disk(a));
    assert_int_equal(block_store_drop(b, a->version.identity), 0);
    assert_false(is_on_disk(a));
    assert_int_equal(block_store_drop(b, a->version.identity), -ENOENT);
    assert_int_equal(block_store_find(b, a->version.identity, &t), -ENOENT);
    assert_whole(s);
    stored_unref(s);
    assert_int_equal(status_of(b).objects, 0);
    assert_int_equal(status_of(b).used_bytes, 0);
    block_store_close(b);
}

static void a_dying_object_can_still_be_written_and_read(void **state)
{
    struct block_store *b = opened();
    struct stored *s = created(b, artifact(1, 1, 2 * BLOCK));
    stored_drop(s);
    put_all(s);
    assert_whole(s);
    assert_int_equal(checked(s), -ESTALE);
    assert_int_equal(stored_state(s), STORED_DYING);
    stored_unref(s);
    block_store_close(b);
}

// ---- lives

static void the_next_life_finds_what_was_there(void **state)
{
    struct artifact *whole = artifact(1, 1, 3 * BLOCK + 1), *part = artifact(2, 1, 90 * BLOCK);
    struct block_store *b = opened();
    struct stored *s = created(b, whole), *t = created(b, part);
    put_all(s);
    assert_int_equal(put_blocks(t, 70, 3, 777), 3);
    stored_unref(s);
    stored_unref(t);
    uint64_t used = status_of(b).used_bytes;
    wait_until_counted(b);
    block_store_close(b);
    b = opened();
    wait_until_counted(b);
    assert_int_equal(status_of(b).objects, 2);
    assert_int_equal(status_of(b).used_bytes, used);
    assert_int_equal(block_store_find(b, whole->version.identity, &s), 0);
    assert_int_equal(block_store_find(b, part->version.identity, &t), 0);
    assert_int_equal(stored_state(s), STORED_COMPLETE);
    assert_whole(s);
    assert_true(text_equal(stored_version(s)->key, whole->version.key));
    assert_true(text_equal(stored_version(s)->origin, whole->version.origin));
    assert_true(text_equal(stored_version(s)->validator, whole->version.validator));
    assert_int_equal(stored_version(s)->mtime_ns, 1);
    assert_int_equal(stored_state(t), STORED_PARTIAL);
    assert_int_equal(stored_blocks_present(t), 3);
    assert_int_equal(stored_next_present(t, 0, 90), 70);
    assert_int_equal(get(t, 70 * BLOCK + 5, 2 * BLOCK), 2 * BLOCK);
    stored_unref(s);
    stored_unref(t);
    block_store_close(b);
}

static void without_a_summary_all_files_are_counted(void **state)
{
    struct block_store *b = opened();
    for (int i = 0; i < 20; i++) {
        struct stored *s = created(b, artifact(i, 1, (uint64_t)i * BLOCK / 2));
        put_all(s);
        stored_unref(s);
    }
    uint64_t used = status_of(b).used_bytes;
    wait_until_counted(b);
    block_store_close(b);
    char path[128];
    snprintf(path, sizeof(path), "%s/blocks.%d/summary", store_folder, STORE_FORMAT);
    assert_int_equal(unlink(path), 0);
    b = opened();
    wait_until_counted(b);
    assert_int_equal(status_of(b).objects, 20);
    assert_int_equal(status_of(b).used_bytes, used);
    assert_int_equal(access(path, F_OK), -1);
    block_store_close(b);
}

static void a_folder_has_one_store(void **state)
{
    struct block_store *b = opened(), *other = NULL;
    struct block_store_options o = usual_options();
    char *why = NULL;
    assert_int_equal(block_store_open(&o, &other, &why), -EBUSY);
    assert_non_null(strstr(why, "another process"));
    free(why);
    block_store_close(b);
}

static void another_format_is_deleted_and_begun_anew(void **state)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/blocks.0", store_folder);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof(path), "%s/blocks.0/ab", store_folder);
    assert_int_equal(mkdir(path, 0700), 0);
    struct block_store *b = opened();
    wait_until_counted(b);
    assert_int_equal(access(path, F_OK), -1);
    block_store_close(b);
}

static void files_that_are_not_ours_are_left_and_broken_ones_are_not(void **state)
{
    struct artifact *kept = artifact(1, 1, BLOCK), *torn = artifact(2, 1, BLOCK),
                    *orphan = artifact(3, 1, BLOCK), *resized = artifact(4, 1, BLOCK),
                    *flipped = artifact(5, 1, BLOCK), *moved = artifact(6, 1, BLOCK);
    struct artifact *all[] = {kept, torn, orphan, resized, flipped, moved};
    struct block_store *b = opened();
    for (int i = 0; i < 6; i++) {
        struct stored *s = created(b, all[i]);
        put_all(s);
        stored_unref(s);
    }
    wait_until_counted(b);
    block_store_close(b);
    char path[200], other[200];
    snprintf(path, sizeof(path), "%s/blocks.%d/summary", store_folder, STORE_FORMAT);
    unlink(path);
    assert_int_equal(truncate(file_of(torn, STORE_MAP), 50), 0);
    assert_int_equal(unlink(file_of(orphan, STORE_MAP)), 0);
    assert_int_equal(truncate(file_of(resized, STORE_DATA), BLOCK - 1), 0);
    flip_byte(flipped, STORE_MAP, 17);
    strcpy(other, file_of(artifact(7, 1, BLOCK), STORE_MAP));
    char *folder_end_at = strrchr(other, '/');
    *folder_end_at = 0;
    mkdir(other, 0700);
    *folder_end_at = '/';
    assert_int_equal(rename(file_of(moved, STORE_MAP), other), 0);
    snprintf(path, sizeof(path), "%s", file_of(kept, STORE_MAP));
    strcpy(strrchr(path, '/'), "/README");
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    close(fd);
    b = opened();
    wait_until_counted(b);
    assert_int_equal(status_of(b).objects, 1);
    assert_true(is_on_disk(kept));
    for (int i = 1; i < 6; i++)
        assert_false(is_on_disk(all[i]));
    assert_int_equal(access(other, F_OK), -1);
    assert_int_equal(access(path, F_OK), 0);
    block_store_close(b);
}

// ---- bounds of what can be stored

static void what_has_no_room_in_a_header_is_not_stored(void **state)
{
    struct block_store *b = opened();
    struct artifact *a = artifact(1, 1, BLOCK);
    struct stored *s = NULL;
    char *long_key = memory_new(STORED_KEY_BYTES_MAX + 2);
    memset(long_key, 'k', STORED_KEY_BYTES_MAX + 1);
    a->version.key = text_of(long_key);
    assert_int_equal(block_store_create(b, &a->version, &s), -ENAMETOOLONG);
    a->version.key.size_bytes--;
    assert_int_equal(block_store_create(b, &a->version, &s), 0);
    stored_unref(s);
    a->version.size_bytes = STORED_SIZE_MAX + 1;
    assert_int_equal(block_store_create(b, &a->version, &s), -EFBIG);
    free(long_key);
    block_store_close(b);
}

static void a_store_of_nothing_refuses_everything(void **state)
{
    struct block_store *b = block_store_open_none();
    struct artifact *a = artifact(1, 1, BLOCK);
    struct stored *s = NULL;
    assert_int_equal(block_store_find(b, a->version.identity, &s), -ENOENT);
    assert_int_equal(block_store_create(b, &a->version, &s), -ENOSPC);
    assert_int_equal(block_store_drop(b, a->version.identity), -ENOENT);
    struct block_store_verified sums;
    assert_int_equal(block_store_verify(b, NULL, NULL, &sums), 0);
    uint64_t cursor = 0;
    assert_int_equal(block_store_list(b, &cursor, 10, NULL, NULL), 0);
    assert_null(status_of(b).folder);
    block_store_close(b);
}

// ---- pins, lists

static void a_pin_survives_and_is_bounded(void **state)
{
    struct artifact *a = artifact(1, 1, 3 * MIB), *large = artifact(2, 1, 30 * MIB);
    struct block_store *b = opened();
    struct stored *s = created(b, a), *t = created(b, large);
    assert_int_equal(stored_pin(s, true), 0);
    assert_int_equal(stored_pin(t, true), -EDQUOT);
    assert_int_equal(status_of(b).pinned_bytes, 3 * MIB);
    stored_unref(s);
    stored_unref(t);
    block_store_close(b);
    b = opened();
    assert_int_equal(block_store_find(b, a->version.identity, &s), 0);
    assert_true(stored_is_pinned(s));
    wait_until_counted(b);
    assert_int_equal(status_of(b).pinned_bytes, 3 * MIB);
    assert_int_equal(stored_pin(s, false), 0);
    assert_int_equal(status_of(b).pinned_bytes, 0);
    stored_unref(s);
    block_store_close(b);
}

static void note_listed(const struct stored_info *info, void *context)
{
    int number = (int)info->version->mtime_ns;
    int *seen = context;
    seen[number]++;
    assert_int_equal(info->block_count, number);
    assert_int_equal(info->blocks_present, number);
    assert_true(info->is_complete);
    assert_int_equal(info->is_open, number == 7);
}

static void a_list_gives_everything_once(void **state)
{
    struct block_store *b = opened();
    struct stored *kept = NULL;
    for (int i = 0; i < 10; i++) {
        struct stored *s = created(b, artifact(i, 1, (uint64_t)i * BLOCK));
        put_all(s);
        if (i == 7)
            kept = s;
        else
            stored_unref(s);
    }
    int seen[10] = {0};
    uint64_t cursor = 0;
    assert_int_equal(block_store_list(b, &cursor, 4, note_listed, seen), 4);
    assert_int_equal(block_store_list(b, &cursor, 4, note_listed, seen), 4);
    assert_int_equal(block_store_list(b, &cursor, 4, note_listed, seen), 2);
    assert_int_equal(block_store_list(b, &cursor, 4, note_listed, seen), 0);
    for (int i = 0; i < 10; i++)
        assert_int_equal(seen[i], 1);
    stored_unref(kept);
    block_store_close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_in_folder(a_block_is_there_when_its_last_byte_is),
        test_in_folder(an_object_is_complete_with_its_last_block),
        test_in_folder(blocks_that_come_together_are_right_in_this_life_and_the_next),
        test_in_folder(blocks_that_come_together_pass_over_one_that_is_being_written),
        test_in_folder(blocks_that_cannot_pass_the_page_cache_by_go_through_it),
        test_in_folder(blocks_that_come_together_and_cannot_be_written_are_missing),
        test_in_folder(bytes_past_the_end_are_refused),
        test_in_folder(an_empty_object_is_complete_at_once),
        test_in_folder(two_writers_of_a_block_do_no_harm),
        test_in_folder(a_writer_that_ends_early_leaves_the_block_to_another),
        test_in_folder(all_that_open_a_version_have_one_handle),
        test_in_folder(a_new_version_replaces_the_old_one_which_its_readers_keep),
        test_in_folder(a_dropped_object_is_gone_but_for_who_has_it),
        test_in_folder(a_dying_object_can_still_be_written_and_read),
        test_in_folder(the_next_life_finds_what_was_there),
        test_in_folder(without_a_summary_all_files_are_counted),
        test_in_folder(a_folder_has_one_store),
        test_in_folder(another_format_is_deleted_and_begun_anew),
        test_in_folder(files_that_are_not_ours_are_left_and_broken_ones_are_not),
        test_in_folder(what_has_no_room_in_a_header_is_not_stored),
        test_in_folder(a_store_of_nothing_refuses_everything),
        test_in_folder(a_pin_survives_and_is_bounded),
        test_in_folder(a_list_gives_everything_once),
    };
    return run_group(tests);
}
