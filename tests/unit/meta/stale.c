// SPDX-License-Identifier: BSD-3-Clause
// What of an older epoch still counts: listings that are shown while they are read again, sets that are compared
// instead of being read.
#include "tests/unit/base/harness.h"

#include "tests/unit/meta/world.h"

#define FOLDER "collections/u/base/calexp/instrument=Cam/day_obs=20240102/visit=20"
#define OLD "calexp_Cam_20_1.fits/"
#define NEW "calexp_Cam_20_1.fits/calexp_Cam_20_2.fits/"

static void open_again(int64_t stale)
{
    repository_close(repo);
    stale_ns = stale;
    open_repository(3600 * NS_PER_S);
    stale_ns = 0;
}

// As `change`, but nobody asks for what is new.
static void let_change(const struct memory_description *d)
{
    uint64_t epoch = repository_epoch(repo);
    memory_world_change(&world, d);
    {
        lock_scope(&repo->library);
        repo->refresh_wanted = true;
        pthread_cond_signal(&repo->poll);
    }
    while (repository_epoch(repo) == epoch)
        usleep(1000);
}

static int set_up_stale(void **state)
{
    int r = set_up(state);
    open_again(3600 * NS_PER_S);
    return r;
}

static int set_up_compared(void **state)
{
    int r = set_up(state);
    world.has_digest = true;
    open_again(3600 * NS_PER_S);
    repo->large_rows = 0;
    return r;
}

// What is listed now by who takes an old listing, or an error; *ret_left: for how long it may be remembered.
static int list_old(const char *path, const char *names, int64_t *ret_left)
{
    struct place p;
    struct listing l;
    struct want want = {0};
    struct listed got = {.room = -1};
    assert_int_equal(place_at(repo, path, &p), 0);
    p.may_be_old = true;
    int r = place_list_open(&p, &l, &want);
    if (r == 0) {
        assert_int_equal(place_list(&p, &l, 0, note, &got, &want), 0);
        assert_string_equal(got.names.data, names);
        *ret_left = place_left_ns(&p, &l);
        listing_close(repo, &l);
    }
    buffer_release(&got.names);
    place_release(&p);
    want_release(&want);
    return r;
}

static void a_listing_is_shown_while_it_is_read_again(void **state)
{
    int64_t left;
    struct place p;
    struct listing l;
    struct want want = {0};
    assert_lists(FOLDER, OLD);
    int64_t shown = metric_get(METRIC_SETS_OLD);
    gate_set(1);
    let_change(&after);
    assert_int_equal(place_at(repo, FOLDER, &p), 0);
    assert_int_equal(place_list_open(&p, &l, &want), -EINPROGRESS); // who can wait a little should
    assert_true(want.has_old);
    want_release(&want);
    place_release(&p);
    assert_int_equal(list_old(FOLDER, OLD, &left), 0);
    assert_true(left > 3500 * NS_PER_S && left <= 3600 * NS_PER_S);
    assert_int_equal(metric_get(METRIC_SETS_OLD), shown + 1);
    gate_await(1); // it is being read, with nobody waiting
    gate_set(0);
    assert_lists(FOLDER, NEW);
    assert_int_equal(list_old(FOLDER, NEW, &left), 0);
    assert_true(left == INT64_MAX);
}

static void a_single_name_is_as_new_as_it_is_wanted_whatever_is_listed(void **state)
{
    int64_t left;
    assert_lists(FOLDER, OLD);
    let_change(&after);
    assert_int_equal(size_of(FOLDER "/calexp_Cam_20_2.fits"), 301);
    assert_int_equal(list_old(FOLDER, OLD, &left), 0);
}

static void a_listing_is_not_shown_for_longer_than_is_said(void **state)
{
    int64_t left;
    open_again(50 * NS_PER_MS);
    assert_lists(FOLDER, OLD);
    gate_set(1);
    let_change(&after);
    usleep(60000);
    assert_int_equal(list_old(FOLDER, "", &left), -EINPROGRESS);
    gate_set(0);
    assert_lists(FOLDER, NEW);
}

static void what_an_earlier_life_listed_is_not_shown_if_it_has_changed_since(void **state)
{
    int64_t left;
    assert_lists(FOLDER, OLD);
    memory_world_change(&world, &after);
    open_again(3600 * NS_PER_S);
    assert_int_equal(list_old(FOLDER, "", &left), -EINPROGRESS);
}

static void who_refreshes_sees_nothing_old(void **state)
{
    int64_t left;
    assert_lists(FOLDER, OLD);
    memory_world_change(&world, &after);
    repository_refresh(repo);
    while (atomic_load(&repo->forced_epoch) < 2)
        usleep(1000);
    assert_int_equal(list_old(FOLDER, "", &left), -EINPROGRESS);
    assert_lists(FOLDER, NEW);
}

static void a_waiter_without_patience_is_called_and_its_job_goes_on(void **state)
{
    struct asking a = {
        .waiter = {.ready = asking_ready, .patience_ns = clock_ns()}, .mutex = PTHREAD_MUTEX_INITIALIZER, .called = PTHREAD_COND_INITIALIZER};
    struct asking b = {.waiter = {.ready = asking_ready}, .mutex = PTHREAD_MUTEX_INITIALIZER, .called = PTHREAD_COND_INITIALIZER};
    struct want w = {.kind = WANT_SET, .fresh = repository_epoch(repo), .collection_id = 1, .type_id = 1};
    gate_set(1);
    repository_ask(repo, &w, &a.waiter);
    repository_ask(repo, &w, &b.waiter);
    gate_await(1);
    repository_hurry(repo);
    assert_true(a.is_called && !b.is_called);
    assert_int_equal(a.error, -EAGAIN);
    assert_false(repository_cancel(repo, &a.waiter));
    gate_set(0);
    pthread_mutex_lock(&b.mutex);
    while (!b.is_called)
        pthread_cond_wait(&b.called, &b.mutex);
    pthread_mutex_unlock(&b.mutex);
    assert_int_equal(b.error, 0);
}

// As `before`, elsewhere; of `replaced` a dataset has another file.
static struct memory_dataset same[sizeof datasets / sizeof *datasets], replaced[sizeof datasets / sizeof *datasets];
static const struct memory_description unchanged = {types, collections, records, same};
static const struct memory_description with_another_file = {types, collections, records, replaced};

static void copy_datasets(void)
{
    memcpy(same, datasets, sizeof same);
    memcpy(replaced, datasets, sizeof replaced);
    replaced[2].size_bytes = 333;
}

static void a_set_that_has_not_changed_is_compared_and_not_read(void **state)
{
    copy_datasets();
    struct snapshot *s = library_snapshot(repo, 0);
    assert_lists(FOLDER, OLD);
    int64_t loads = metric_get(METRIC_SET_LOADS), digests = metric_get(METRIC_SET_DIGESTS);
    for (int i = 0; i < 3; i++) {
        repo->verified[0].cost_ns = 0; // no pause after it
        let_change(i % 2 ? &before : &unchanged);
        assert_lists(FOLDER, OLD);
        uint64_t asked = verbs();
        assert_int_equal(size_of(FOLDER "/calexp_Cam_20_1.fits"), 300);
        assert_int_equal(size_of(FOLDER "/calexp_Cam_20_2.fits"), -ENOENT);
        assert_int_equal(verbs(), asked);
    }
    assert_int_equal(metric_get(METRIC_SET_LOADS), loads);
    assert_int_equal(metric_get(METRIC_SET_DIGESTS), digests + 3);
    struct snapshot *now = library_snapshot(repo, repository_epoch(repo));
    assert_ptr_equal(now, s); // nor was what is small
    snapshot_unref(now);
    snapshot_unref(s);
}

static void a_set_that_has_changed_is_read_again(void **state)
{
    assert_lists(FOLDER, OLD);
    int64_t loads = metric_get(METRIC_SET_LOADS);
    repo->verified[0].cost_ns = 0;
    let_change(&after);
    assert_lists(FOLDER, NEW);
    assert_int_equal(metric_get(METRIC_SET_LOADS), loads + 1);
    assert_lists("collections/u/top", ""); // its type went
}

static void what_was_compared_too_early_counts_for_a_while_only(void **state)
{
    int64_t left;
    copy_datasets();
    open_again(50 * NS_PER_MS);
    repo->large_rows = 0;
    assert_lists(FOLDER, OLD);
    int64_t loads = metric_get(METRIC_SET_LOADS);
    repo->verified[0].cost_ns = 0;
    let_change(&with_another_file);
    list(FOLDER);
    if (list_old(FOLDER, OLD, &left) == 0 && metric_get(METRIC_SET_LOADS) == loads) // soon enough?
        assert_true(left <= 50 * NS_PER_MS);
    usleep(60000);
    list(FOLDER);
    assert_int_equal(size_of(FOLDER "/calexp_Cam_20_1.fits"), 333);
    assert_int_equal(metric_get(METRIC_SET_LOADS), loads + 1);
}

static void a_chain_s_members_are_compared_exactly_or_read(void **state)
{
    const char *visit = "collections/chain/calexp/instrument=Cam/day_obs=20240101/visit=11";
    copy_datasets();
    assert_lists(visit, "calexp_Cam_11_1.fits/");
    let_change(&unchanged);
    assert_lists(visit, "calexp_Cam_11_1.fits/");
    let_change(&after);
    assert_lists(visit, "");
    assert_lists("collections/chain/calexp/instrument=Cam/day_obs=20240102/visit=20", NEW);
}

// With the registry out of reach.
static int enter_old(const char *path, const char *name, struct entry *ret_entry)
{
    struct place p;
    struct want want = {0};
    BUFFER_CLEANUP scratch = {0};
    gate_set(1);
    assert_int_equal(place_at(repo, path, &p), 0);
    int r = place_lookup(&p, text_of(name), ret_entry, &scratch, NULL, &want);
    place_release(&p);
    want_release(&want);
    gate_set(0);
    return r;
}

static void a_folder_of_a_set_that_is_old_may_be_entered_for_as_long_as_it_may_be_listed(void **state)
{
    struct entry e;
    const char *day = "collections/u/base/calexp/instrument=Cam/day_obs=20240102";
    assert_lists(FOLDER, OLD);
    assert_int_equal(enter_old(day, "visit=20", &e), 0);
    assert_int_equal(e.left_ns, 0);
    let_change(&after);
    assert_int_equal(enter_old(day, "visit=20", &e), 0);
    assert_true(e.left_ns > 3500 * NS_PER_S && e.left_ns <= 3600 * NS_PER_S);
    assert_int_equal(enter_old(day, "visit=9", &e), -EINPROGRESS); // that it isn't there is not taken from what is old
    assert_int_equal(enter_old(FOLDER, "calexp_Cam_20_1.fits", &e), -EINPROGRESS);
}

static void a_set_that_is_compared_is_as_old_as_its_last_comparison(void **state)
{
    int64_t left;
    copy_datasets();
    assert_lists(FOLDER, OLD);
    repo->verified[0].cost_ns = 0;
    let_change(&unchanged);
    assert_lists(FOLDER, OLD);
    assert_int_equal(repo->verified[0].epoch, repository_epoch(repo));
    repo->began[repo->began_count - 1].ns -= 4000 * NS_PER_S; // longer ago than is shown
    gate_set(1);
    let_change(&after);
    assert_int_equal(list_old(FOLDER, OLD, &left), 0);
    assert_true(left > 3500 * NS_PER_S && left <= 3600 * NS_PER_S);
    gate_set(0);
}

static void a_comparison_pauses_for_fifty_times_what_it_took(void **state)
{
    copy_datasets();
    assert_lists(FOLDER, OLD);
    int64_t loads = metric_get(METRIC_SET_LOADS), digests = metric_get(METRIC_SET_DIGESTS);
    repo->verified[0].cost_ns = 3600 * NS_PER_S;
    let_change(&unchanged);
    assert_lists(FOLDER, OLD);
    assert_int_equal(metric_get(METRIC_SET_DIGESTS), digests);
    assert_int_equal(metric_get(METRIC_SET_LOADS), loads + 1);
}

static atomic_bool is_over;

static void *look_all_the_time(void *argument)
{
    for (int64_t left; !atomic_load(&is_over);) {
        struct place p;
        struct listing l;
        struct listed got = {.room = -1};
        assert_int_equal(place_at(repo, FOLDER, &p), 0);
        p.may_be_old = true;
        assert_int_equal(asking(repo, place_list_open(&p, &l, &want_)), 0);
        assert_int_equal(asking(repo, place_list(&p, &l, 0, note, &got, &want_)), 0);
        assert_true(strcmp(got.names.data, OLD) == 0 || strcmp(got.names.data, NEW) == 0);
        left = place_left_ns(&p, &l);
        assert_true(left >= 0);
        listing_close(repo, &l);
        place_release(&p);
        buffer_release(&got.names);
        repository_hurry(repo);
    }
    return NULL;
}

static void many_threads_list_what_is_or_was(void **state)
{
    pthread_t threads[3];
    copy_datasets();
    atomic_store(&is_over, false);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, look_all_the_time, NULL), 0);
    static const struct memory_description *const all[] = {&after, &before, &unchanged};
    for (int i = 0; i < 100; i++) {
        let_change(all[i % 3]);
        usleep(2000);
    }
    atomic_store(&is_over, true);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up_stale, tear_down)
#define C(name) cmocka_unit_test_setup_teardown(name, set_up_compared, tear_down)
    const struct CMUnitTest tests[] = {
        T(a_listing_is_shown_while_it_is_read_again),
        T(a_single_name_is_as_new_as_it_is_wanted_whatever_is_listed),
        T(a_listing_is_not_shown_for_longer_than_is_said),
        T(what_an_earlier_life_listed_is_not_shown_if_it_has_changed_since),
        T(who_refreshes_sees_nothing_old),
        T(a_waiter_without_patience_is_called_and_its_job_goes_on),
        C(a_set_that_has_not_changed_is_compared_and_not_read),
        C(a_set_that_has_changed_is_read_again),
        C(what_was_compared_too_early_counts_for_a_while_only),
        C(a_chain_s_members_are_compared_exactly_or_read),
        T(a_folder_of_a_set_that_is_old_may_be_entered_for_as_long_as_it_may_be_listed),
        C(a_set_that_is_compared_is_as_old_as_its_last_comparison),
        C(a_comparison_pauses_for_fifty_times_what_it_took),
        C(many_threads_list_what_is_or_was),
    };
    return run_group(tests);
}
