// SPDX-License-Identifier: BSD-3-Clause
// A bucket as folders and files, on an origin in memory.
#include "tests/unit/base/harness.h"

#include "tests/unit/meta/bucket_world.h"

// ---- names

static void a_keys_parts_are_folders(void **state)
{
    (void)state;
    put("top", "x");
    put("raw/2024/a.fits", "abc");
    put("raw/2024/b.fits", "abcd");
    assert_lists("", "raw/\ntop\n");
    assert_lists("raw/2024", "a.fits\nb.fits\n");
    int64_t size = 0;
    assert_int_equal(look_up("raw/2024", TEXT("b.fits"), &size), 'o');
    assert_int_equal(size, 4);
    assert_int_equal(look_up("raw", TEXT("2024"), NULL), 'f');
    assert_int_equal(look_up("raw", TEXT("2025"), NULL), '-');
    assert_int_equal(look_up("", TEXT("raw/2024"), NULL), '-');
}

static void a_prefix_is_the_root(void **state)
{
    (void)state;
    put("raw/2024/a.fits", "abc");
    put("rawer", "abc");
    open_bucket("raw/", 60 * NS_PER_S);
    assert_lists("", "2024/\n");
    assert_lists("2024", "a.fits\n");
}

static void an_object_beside_a_folder_of_its_name_has_a_percent_sign(void **state)
{
    (void)state;
    put("a", "object");
    put("a-b", "between");
    put("a/b", "in it");
    put("c%", "not it");
    assert_lists("", "a/\na%\na-b\nc%25\n");
    assert_int_equal(look_up("", TEXT("a"), NULL), 'f');
    assert_int_equal(look_up("", TEXT("a%"), NULL), 'o');
    assert_int_equal(look_up("", TEXT("a-b%"), NULL), '-');
    assert_int_equal(look_up("", TEXT("c%"), NULL), '-');
    assert_int_equal(look_up("", TEXT("c%25"), NULL), 'o');
}

static void an_empty_part_is_a_percent_sign(void **state)
{
    (void)state;
    put("a//b", "x");
    put("a//", "");  // the marker of the folder `a//`
    put("c/", "has bytes");
    put("/d", "x");
    assert_lists("a", "%/\n");
    assert_lists("a/%", "b\n");
    assert_lists("c", "%\n");
    assert_lists("%", "d\n");
    assert_int_equal(look_up("c", TEXT("%"), NULL), 'o');
    assert_int_equal(look_up("a", TEXT("%"), NULL), 'f');
}

static void a_marker_is_a_folder_and_no_file(void **state)
{
    (void)state;
    put("empty/", "");
    put("full/", "");
    put("full/x", "x");
    assert_lists("", "empty/\nfull/\n");
    assert_lists("empty", "");
    assert_lists("full", "x\n");
    assert_int_equal(look_up("full", TEXT("%"), NULL), '-');
}

static void names_are_escaped_and_lead_back(void **state)
{
    static const char *const keys[] = {".", "..", ".zarray", "a%b", "tab\there", "\x7f", "d~0123456789abcdef"};
    (void)state;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        put(keys[i], "x");
    BUFFER_CLEANUP names = {0};
    assert_int_equal(list("", 100, &names), sizeof keys / sizeof *keys);
    assert_non_null(strstr(names.data, "%2E\n"));
    assert_non_null(strstr(names.data, ".zarray\n"));
    for (const char *at = names.data; *at; at += strcspn(at, "\n") + 1)
        assert_int_equal(look_up("", (struct text){at, strcspn(at, "\n")}, NULL), 'o');
    assert_int_equal(look_up("", TEXT("%2e"), NULL), '-');
    assert_int_equal(look_up("", TEXT("%2Ezarray"), NULL), '-');
}

static void a_name_that_is_too_long_is_cut_and_found(void **state)
{
    char key[700];
    (void)state;
    memset(key, 'k', sizeof key);
    memcpy(key + 300, "/", 1);
    strcpy(key + 680, ".fits");
    put(key, "long");
    BUFFER_CLEANUP top = {0}, below = {0};
    assert_int_equal(list("", 10, &top), 1);
    size_t n = strcspn(top.data, "/");
    assert_int_equal(n, 255);
    top.data[n] = 0;
    assert_int_equal(list(top.data, 10, &below), 1);
    assert_int_equal(strcspn(below.data, "\n"), 255);
    assert_memory_equal(below.data + 250, ".fits", 5);
    assert_int_equal(look_up(top.data, (struct text){below.data, 255}, NULL), 'o');
    assert_int_equal(look_up("", (struct text){top.data, 255}, NULL), 'f');
}

// ---- what it costs

static void what_a_listing_said_is_not_asked_again(void **state)
{
    (void)state;
    put("f/a", "x");
    put("f/b", "x");
    assert_lists("f", "a\nb\n");
    uint64_t before = lists();
    assert_lists("f", "a\nb\n");
    assert_int_equal(look_up("f", TEXT("a"), NULL), 'o');
    assert_int_equal(look_up("f", TEXT("none"), NULL), '-');
    assert_int_equal(lists(), before);
}

static void looking_up_a_name_of_a_small_folder_brings_all_its_names(void **state)
{
    (void)state;
    put("f/a", "x");
    put("f/b", "x");
    assert_int_equal(look_up("f", TEXT("a"), NULL), 'o');
    uint64_t before = lists();
    assert_int_equal(look_up("f", TEXT("b"), NULL), 'o');
    assert_lists("f", "a\nb\n");
    assert_int_equal(lists(), before);
}

static void a_folder_of_several_pages_is_listed_whole(void **state)
{
    (void)state;
    fill("big", 2500);
    BUFFER_CLEANUP names = {0};
    assert_int_equal(list("big", 999, &names), 2500);
    assert_int_equal(lists(), 3);
}

static void one_name_of_a_large_folder_does_not_wait_for_all_of_it(void **state)
{
    (void)state;
    fill("big", 20000);
    put("big/sub/x", "x");
    assert_int_equal(look_up("big", TEXT("019999"), NULL), 'o');
    assert_true(lists() <= 3); // the first page, the name, what is below it
    assert_int_equal(look_up("big", TEXT("sub"), NULL), 'f');
    assert_int_equal(look_up("big", TEXT("none"), NULL), '-');
    uint64_t before = lists();
    assert_int_equal(look_up("big", TEXT("none"), NULL), '-');
    assert_true(lists() - before <= 20); // only the listing that began meanwhile
}

static bool is_awake(struct sleeper *s)
{
    pthread_mutex_lock(&s->mutex);
    bool awake = s->is_awake;
    pthread_mutex_unlock(&s->mutex);
    return awake;
}

static void a_name_does_not_wait_for_a_listing_of_many_pages_that_has_begun(void **state)
{
    struct bucket_place p;
    struct bucket_want want = {0};
    struct bucket_listing l;
    struct sleeper s = {.waiter = {.ready = wake}, .mutex = PTHREAD_MUTEX_INITIALIZER, .woken = PTHREAD_COND_INITIALIZER};
    uint64_t epoch;
    (void)state;
    fill("big", 2500);
    origin_memory_fault(w.origin, &(struct origin_memory_fault){.countdown = 1, .times = 1, .delay_ns = 3 * NS_PER_S});
    assert_int_equal(enter("big", &p), 0);
    assert_int_equal(bucket_list_open(&p, &l, &epoch, &want), -EINPROGRESS);
    bucket_ask(w.bucket, &want, &s.waiter);
    while (lists() < 2)
        usleep(1000);
    assert_int_equal(look_up("big", TEXT("002499"), NULL), 'o');
    assert_false(is_awake(&s)); // its second page is still to come
    while (!is_awake(&s))
        usleep(1000);
    assert_int_equal(s.error, 0);
    bucket_want_release(&want);
    bucket_place_release(&p);
}

// As far as anybody can know.
static void make_pages_slow(void)
{
    char folder[16];
    origin_memory_fault(w.origin, &(struct origin_memory_fault){.times = 8, .delay_ns = 50 * NS_PER_MS});
    for (int i = 0; i < 8; i++) {
        snprintf(folder, sizeof folder, "slow%d", i);
        fill(folder, 1);
        assert_int_equal(look_up(folder, TEXT("000000"), NULL), 'o');
    }
}

static void where_a_page_is_slow_two_names_of_a_folder_are_asked_alone(void **state)
{
    static const uint64_t costs[] = {1, 2, 3, 3, 3};
    (void)state;
    fill("f", 5);
    put("f/000001/x", "x");
    put("f/000001-between", "x");
    make_pages_slow();
    uint64_t before = lists();
    static const char *const names[] = {"000000", "000001", "none", "000002", "000001%"};
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(look_up("f", text_of(names[i]), NULL), i == 1 ? 'f' : i == 2 ? '-' : 'o');
        assert_int_equal(lists() - before, costs[i]);
    }
}

static void what_stands_between_a_name_and_its_folder_hides_neither(void **state)
{
    char key[32];
    (void)state;
    put("f/n", "object");
    put("f/n/x", "in it");
    for (int i = 0; i < 20; i++) {
        snprintf(key, sizeof key, "f/n-%02d", i);
        put(key, "between");
    }
    make_pages_slow();
    assert_int_equal(look_up("f", TEXT("n"), NULL), 'f');
    assert_int_equal(look_up("f", TEXT("n%"), NULL), 'o');
}

static void a_large_folders_marker_is_no_file(void **state)
{
    (void)state;
    fill("big", 1500);
    put("big/", "");
    assert_int_equal(look_up("big", TEXT("%"), NULL), '-');
    fill("full", 1500);
    put("full/", "data"); // that is more than a marker
    assert_int_equal(look_up("full", TEXT("%"), NULL), 'o');
}

// ---- places

static void note_raw(void *context, const struct bucket_place *p, const struct bucket_entry *e)
{
    struct buffer *to = context;
    (void)p;
    buffer_clear(to);
    buffer_append_text(to, e->raw);
}

static void an_object_is_found_by_its_place_in_the_folder(void **state)
{
    struct bucket_place p;
    struct bucket_want want = {0};
    struct bucket_listing l;
    uint64_t epoch;
    int64_t position;
    BUFFER_CLEANUP raw = {0};
    (void)state;
    fill("f", 1500);
    put("f/000700/in", "a folder is not counted");
    assert_int_equal(enter("f", &p), 0);
    assert_int_equal(bucket_position(&p, TEXT("000005"), 9, &position), -ENOENT); // nothing is known yet
    assert_int_equal(ask(bucket_list_open(&p, &l, &epoch, &want)), 0);
    bucket_listing_close(w.bucket, &l);
    static const int places[] = {5, 6, 7, 1499, 3, 700, 701, 1000};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        char name[16];
        snprintf(name, sizeof name, "%06d", places[i]);
        assert_int_equal(bucket_position(&p, text_of(name), 9, &position), 0);
        assert_int_equal(position, places[i]);
        for (int step = -2; step <= 3; step++) {
            int r = bucket_at(w.bucket, 9, position + step, note_raw, &raw);
            assert_int_equal(r, position + step < 1500 ? 0 : -ENOENT);
            snprintf(name, sizeof name, "%06d", places[i] + step);
            if (r == 0)
                assert_string_equal(raw.data, name);
        }
    }
    assert_int_equal(bucket_position(&p, TEXT("none"), 9, &position), -ENOENT);
    assert_int_equal(bucket_at(w.bucket, 10, 0, note_raw, &raw), -ENOENT);
    bucket_place_release(&p);
}

static void who_jumps_about_in_a_folder_is_counted_for_now_and_then_and_found_again(void **state)
{
    struct bucket_place p;
    struct bucket_want want = {0};
    struct bucket_listing l;
    uint64_t epoch;
    int64_t position;
    (void)state;
    fill("f", 1500);
    assert_int_equal(enter("f", &p), 0);
    assert_int_equal(ask(bucket_list_open(&p, &l, &epoch, &want)), 0);
    bucket_listing_close(w.bucket, &l);
    int counted = 0, first = -1;
    for (int i = 0; i < 100; i++) {
        char name[16];
        int place = i * i * 7 % 1200; // no two steps are alike
        snprintf(name, sizeof name, "%06d", place);
        int r = bucket_position(&p, text_of(name), 9, &position);
        assert_true(r == -ENOENT || (r == 0 && position == place));
        counted += r == 0;
    }
    assert_in_range(counted, 4, 60);
    for (int i = 1300; i < 1300 + 20; i++) {
        char name[16];
        snprintf(name, sizeof name, "%06d", i);
        int r = bucket_position(&p, text_of(name), 9, &position);
        if (r == 0 && first < 0)
            first = i;
        assert_int_equal(r, first < 0 ? -ENOENT : 0);
        assert_true(r < 0 || position == i);
    }
    assert_true(first >= 0);
    bucket_place_release(&p);
}

// ---- notes

static void a_folder_that_is_being_listed_is_not_forgotten_among_many(void **state)
{
    (void)state;
    lock_acquire(&w.bucket->library);
    bucket_note(w.bucket, TEXT("listed/"))->is_loading = true;
    bucket_note(w.bucket, TEXT("other/"))->is_large = true;
    for (int i = 0; i < 100000; i++) {
        char prefix[16];
        int n = snprintf(prefix, sizeof prefix, "%d/", i);
        bucket_note(w.bucket, (struct text){prefix, (size_t)n});
    }
    assert_false(bucket_note(w.bucket, TEXT("other/"))->is_large); // they were forgotten
    assert_true(bucket_note(w.bucket, TEXT("listed/"))->is_loading);
    bucket_note(w.bucket, TEXT("listed/"))->is_loading = false;
    lock_release(&w.bucket->library);
}

// ---- freshness

static void a_listing_is_believed_for_its_time_only(void **state)
{
    (void)state;
    open_bucket("", 200 * NS_PER_MS);
    put("f/a", "x");
    assert_lists("f", "a\n");
    put("f/b", "x");
    assert_lists("f", "a\n");
    usleep(250000);
    assert_lists("f", "a\nb\n");
}

static void a_folder_that_is_doubted_is_listed_again(void **state)
{
    (void)state;
    put("p/f/a", "x");
    put("q/g/a", "x");
    assert_lists("p/f", "a\n");
    assert_lists("q/g", "a\n");
    put("p/f/b", "x");
    put("q/g/b", "x");
    bucket_doubt(w.bucket, TEXT("p/f/"));
    assert_lists("p/f", "a\nb\n");
    assert_lists("q/g", "a\n");
    bucket_refresh(w.bucket);
    assert_lists("q/g", "a\nb\n");
}

static void a_listing_goes_on_in_the_generation_it_began(void **state)
{
    struct bucket_place p;
    struct bucket_want want = {0};
    struct bucket_listing l;
    struct listed listed = {.limit = 1};
    uint64_t epoch;
    (void)state;
    put("f/a", "x");
    put("f/b", "x");
    assert_int_equal(enter("f", &p), 0);
    assert_int_equal(ask(bucket_list_open(&p, &l, &epoch, &want)), 0);
    assert_int_equal(ask(bucket_list(&p, &l, 0, add_listed, &listed, &want)), 1);
    put("f/0", "new");
    bucket_refresh(w.bucket);
    assert_lists("f", "0\na\nb\n");
    listed.limit = 10;
    assert_int_equal(ask(bucket_list(&p, &l, listed.cookie, add_listed, &listed, &want)), 0);
    assert_string_equal(listed.names.data, "a\nb\n");
    bucket_listing_close(w.bucket, &l);
    bucket_place_release(&p);
    buffer_release(&listed.names);
}

static void an_origin_that_fails_is_the_answer_and_not_an_empty_folder(void **state)
{
    struct bucket_place p;
    struct bucket_want want = {0};
    struct bucket_listing l;
    uint64_t epoch;
    (void)state;
    put("f/a", "x");
    origin_memory_fault(w.origin, &(struct origin_memory_fault){.times = 1, .error = -EACCES, .why = "no"});
    assert_int_equal(enter("f", &p), 0);
    assert_int_equal(ask(bucket_list_open(&p, &l, &epoch, &want)), -EACCES);
    bucket_place_release(&p);
    assert_lists("f", "a\n");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, make, unmake)
    const struct CMUnitTest tests[] = {
        T(a_keys_parts_are_folders),
        T(a_prefix_is_the_root),
        T(an_object_beside_a_folder_of_its_name_has_a_percent_sign),
        T(an_empty_part_is_a_percent_sign),
        T(a_marker_is_a_folder_and_no_file),
        T(names_are_escaped_and_lead_back),
        T(a_name_that_is_too_long_is_cut_and_found),
        T(what_a_listing_said_is_not_asked_again),
        T(looking_up_a_name_of_a_small_folder_brings_all_its_names),
        T(a_folder_of_several_pages_is_listed_whole),
        T(one_name_of_a_large_folder_does_not_wait_for_all_of_it),
        T(a_name_does_not_wait_for_a_listing_of_many_pages_that_has_begun),
        T(where_a_page_is_slow_two_names_of_a_folder_are_asked_alone),
        T(what_stands_between_a_name_and_its_folder_hides_neither),
        T(a_large_folders_marker_is_no_file),
        T(an_object_is_found_by_its_place_in_the_folder),
        T(who_jumps_about_in_a_folder_is_counted_for_now_and_then_and_found_again),
        T(a_folder_that_is_being_listed_is_not_forgotten_among_many),
        T(a_listing_is_believed_for_its_time_only),
        T(a_folder_that_is_doubted_is_listed_again),
        T(a_listing_goes_on_in_the_generation_it_began),
        T(an_origin_that_fails_is_the_answer_and_not_an_empty_folder),
    };
    return run_group(tests);
}
