// SPDX-License-Identifier: BSD-3-Clause
// Walks through a bucket: a listing of all that is below a folder, cut into folders.
#include "tests/unit/meta/bucket_world.h"

static void a_walk_is_answered_by_one_listing(void **state)
{
    char folder[16];
    (void)state;
    for (unsigned i = 0; i < 100; i++) {
        snprintf(folder, sizeof folder, "d%02u", i);
        fill(folder, 20);
    }
    put("d50", "beside");
    BUFFER_CLEANUP top = {0};
    assert_int_equal(list("", 1000, &top), 101);
    for (unsigned i = 0; i < 100; i++) {
        BUFFER_CLEANUP names = {0};
        snprintf(folder, sizeof folder, "d%02u", i);
        assert_int_equal(list(folder, 7, &names), 20);
    }
    assert_true(lists() < 20);
    assert_int_equal(look_up("", TEXT("d50%"), NULL), 'o');
}

static uint64_t starts(void)
{
    struct origin_memory_count count;
    origin_memory_count(w.origin, &count);
    return count.starts;
}

// "d000" and so on, each of `objects`.
static void open_folders(const char *in, unsigned count, unsigned objects)
{
    char folder[32];
    for (unsigned i = 0; i < count; i++) {
        BUFFER_CLEANUP names = {0};
        snprintf(folder, sizeof folder, "%sd%03u", in, i);
        assert_int_equal(list(folder, 100, &names), objects);
    }
}

static void fill_folders(const char *in, unsigned count, unsigned objects)
{
    char folder[32];
    for (unsigned i = 0; i < count; i++) {
        snprintf(folder, sizeof folder, "%sd%03u", in, i);
        fill(folder, objects);
    }
}

static void a_folder_that_was_listed_is_walked_in_several_parts(void **state)
{
    BUFFER_CLEANUP top = {0};
    (void)state;
    fill_folders("t/", 1000, 30);
    put("t/d500", "beside");
    put("t/between", "x");
    assert_int_equal(list("t", 1000, &top), 1002);
    open_folders("t/", 1000, 30);
    assert_true(starts() > 1);
    assert_true(lists() < 100);
    uint64_t before = lists();
    assert_int_equal(look_up("t", TEXT("d500%"), NULL), 'o');
    assert_int_equal(look_up("t/d999", TEXT("000029"), NULL), 'o');
    assert_int_equal(look_up("t/d999", TEXT("000030"), NULL), '-');
    assert_int_equal(lists(), before);
}

// Listings give `a` before `a-b`, keys come the other way round: `a-b/` before `a/`.
static void a_walk_cuts_no_folder_in_two_however_names_sort(void **state)
{
    static const char *const ends[] = {"", "!", "-b", ".", ".z", "/deep", "/deep/er", "0", "a"};
    char folder[32];
    BUFFER_CLEANUP top = {0};
    (void)state;
    for (unsigned i = 0; i < 60; i++) {
        for (size_t k = 0; k < sizeof ends / sizeof *ends; k++) {
            snprintf(folder, sizeof folder, "d%02u%s", i, ends[k]);
            fill(folder, 40);
        }
        snprintf(folder, sizeof folder, "d%02u/", i);
        put(folder, "has bytes");
    }
    assert_int_equal(list("", 1000, &top), 60 * 7);
    for (unsigned i = 0; i < 60; i++) {
        for (size_t k = 0; k < sizeof ends / sizeof *ends; k++) {
            BUFFER_CLEANUP names = {0};
            snprintf(folder, sizeof folder, "d%02u%s", i, ends[k]);
            if (strcmp(ends[k], ".") == 0 && i == 0)
                assert_int_equal(look_up("d00.", TEXT("000039"), NULL), 'o');
            // `deep` and the marker with bytes; `er`
            unsigned more = k == 0 ? 2 : k == 5 ? 1 : 0;
            assert_int_equal(list(folder, 100, &names), 40 + more);
        }
    }
    assert_true(starts() > 1);
    assert_true(lists() < 200);
}

static void a_server_that_lists_from_the_beginning_always_is_walked_in_one_part(void **state)
{
    BUFFER_CLEANUP top = {0};
    (void)state;
    origin_memory_start_anew(w.origin, true);
    fill_folders("", 300, 30);
    assert_int_equal(list("", 1000, &top), 300);
    open_folders("", 300, 30);
    assert_in_range(starts(), 1, 8);
    assert_true(lists() < 100);
}

static void where_keys_come_in_no_order_each_folder_is_listed_by_itself(void **state)
{
    BUFFER_CLEANUP top = {0};
    (void)state;
    fill_folders("", 60, 30);
    fill("large", 1100);
    origin_memory_shuffle(w.origin, true);
    for (unsigned i = 0; i < 1100; i += 50) {
        char name[16];
        snprintf(name, sizeof name, "%06u", i);
        assert_int_equal(look_up("large", text_of(name), NULL), 'o');
    }
    assert_int_equal(look_up("large", TEXT("001100"), NULL), '-');
    open_folders("", 60, 30);
    assert_int_equal(list("", 1000, &top), 61);
    assert_true(atomic_load(&w.bucket->has_no_order));
}

// Without a name having been asked for before: found out by the walk.
static void a_walk_that_finds_no_order_stores_nothing_of_it(void **state)
{
    BUFFER_CLEANUP top = {0};
    (void)state;
    fill_folders("", 60, 30);
    origin_memory_shuffle(w.origin, true);
    open_folders("", 60, 30);
    assert_int_equal(list("", 1000, &top), 60);
}

static void a_walk_in_the_order_of_a_tree_is_as_good(void **state)
{
    struct key_order o = {0};
    (void)state;
    assert_true(key_order_take(&o, TEXT("a")));
    assert_true(key_order_take(&o, TEXT("a/z")));
    assert_true(key_order_take(&o, TEXT("a-b/c")));
    assert_true(key_order_take(&o, TEXT("a-b/c")));
    assert_true(key_order_take(&o, TEXT("ab")));
    assert_false(key_order_take(&o, TEXT("a-c")));
    key_order_release(&o);
}

static void a_walk_that_nobody_follows_ends(void **state)
{
    BUFFER_CLEANUP top = {0};
    (void)state;
    fill_folders("", 400, 200);
    assert_int_equal(list("", 1000, &top), 400);
    open_folders("", 4, 200);
    for (bool walks = true; walks;) {
        usleep(10000);
        lock_acquire(&w.bucket->library);
        walks = w.bucket->walk != NULL;
        lock_release(&w.bucket->library);
    }
    assert_in_range(lists(), 32, 50); // of 80 pages
}

static int opened(const char *folder)
{
    struct bucket_place p;
    struct bucket_want want = {0};
    struct bucket_listing l = {0};
    uint64_t epoch;
    assert_int_equal(enter(folder, &p), 0);
    int r = ask(bucket_list_open(&p, &l, &epoch, &want));
    bucket_listing_close(w.bucket, &l);
    bucket_place_release(&p);
    return r;
}

static void a_walk_that_fails_leaves_its_folders_to_who_opens_them(void **state)
{
    BUFFER_CLEANUP top = {0};
    char folder[16];
    (void)state;
    fill_folders("", 300, 30);
    assert_int_equal(list("", 1000, &top), 300);
    open_folders("", 3, 30);
    origin_memory_fault(w.origin, &(struct origin_memory_fault){.countdown = 2, .times = 1, .error = -EREMOTEIO});
    for (unsigned i = 3; i < 300; i++) {
        snprintf(folder, sizeof folder, "d%03u", i);
        int r = opened(folder);
        assert_true(r == 0 || r == -EREMOTEIO); // his own listing's
    }
    open_folders("", 300, 30);
}


int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, make, unmake)
    const struct CMUnitTest tests[] = {
        T(a_walk_is_answered_by_one_listing),
        T(a_folder_that_was_listed_is_walked_in_several_parts),
        T(a_walk_cuts_no_folder_in_two_however_names_sort),
        T(a_server_that_lists_from_the_beginning_always_is_walked_in_one_part),
        T(where_keys_come_in_no_order_each_folder_is_listed_by_itself),
        T(a_walk_that_finds_no_order_stores_nothing_of_it),
        T(a_walk_in_the_order_of_a_tree_is_as_good),
        T(a_walk_that_nobody_follows_ends),
        T(a_walk_that_fails_leaves_its_folders_to_who_opens_them),
    };
    return run_group(tests);
}
