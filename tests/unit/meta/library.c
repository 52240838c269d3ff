// SPDX-License-Identifier: BSD-3-Clause
// The librarians over an in-memory registry: what is asked, when, and what becomes of it while the
// repository changes, fails, or is held up.
#include "tests/unit/base/harness.h"

#include "tests/unit/meta/world.h"

static void a_change_is_seen_after_the_refresh_and_told_once(void **state)
{
    const char *winner =
        "collections/chain/calexp/instrument=Cam/day_obs=20240101/visit=10/calexp_Cam_10_1.fits";
    assert_int_equal(size_of(winner), 400);
    assert_lists("collections/chain/calexp/instrument=Cam/day_obs=20240102/visit=20",
                 "calexp_Cam_20_1.fits/");
    change(&after);
    assert_int_equal(atomic_load(&changes), 1);
    assert_int_equal(size_of(winner), 100);
    assert_lists("collections/chain/calexp/instrument=Cam/day_obs=20240102/visit=20",
                 "calexp_Cam_20_1.fits/calexp_Cam_20_2.fits/");
    assert_lists("collections/u/top", "");
    change(&before);
    assert_int_equal(size_of(winner), 400);
}

static void a_change_that_a_librarian_meets_first_counts_too(void **state)
{
    memory_world_change(&world, &after);
    uint64_t epoch = repository_epoch(repo);
    list("collections/u/base/calexp/instrument=Cam"); // reads a set, whose mark is new
    assert_int_equal(repository_epoch(repo), epoch + 1);
    assert_int_equal(atomic_load(&changes), 1);
    repository_refresh(repo);
    usleep(50000);
    assert_int_equal(repository_epoch(repo), epoch + 1);
}

static void a_listing_keeps_its_generation_while_the_repository_changes(void **state)
{
    struct place p;
    struct listing l, again;
    struct listed got = {.room = 1};
    const char *path = "collections/u/base/calexp/instrument=Cam/day_obs=20240101/visit=10";
    assert_int_equal(place_at(repo, path, &p), 0);
    assert_int_equal(asking(repo, place_list_open(&p, &l, &want_)), 0);
    assert_int_equal(asking(repo, place_list(&p, &l, 0, note, &got, &want_)), 1);
    place_release(&p);
    change(
        &(struct memory_description){types, collections, records, (struct memory_dataset[]){{}}});
    change(&before); // new generations
    list(path);
    catalogue->opened_ns -= 3600 * NS_PER_S;
    while (catalogue_tidy(catalogue, 1000) == 1)
        ;
    // Another life goes on with what was kept: generation and cookie.
    listing_reopen(repo, &again, l.generation);
    got.room = -1;
    assert_int_equal(place_at(repo, path, &p), 0);
    assert_int_equal(asking(repo, place_list(&p, &again, got.last, note, &got, &want_)), 0);
    assert_string_equal(got.names.data, "calexp_Cam_10_1.fits/calexp_Cam_10_2.fits.fz/");
    listing_close(repo, &again);
    listing_close(repo, &l);
    place_release(&p);
    buffer_release(&got.names);
}

static void a_listing_whose_generation_is_gone_goes_on_by_count(void **state)
{
    struct place p;
    struct listing l;
    struct listed got = {.room = 1};
    const char *path = "collections/u/base/calexp/instrument=Cam/day_obs=20240101/visit=10";
    assert_int_equal(place_at(repo, path, &p), 0);
    assert_int_equal(asking(repo, place_list_open(&p, &l, &want_)), 0);
    assert_int_equal(asking(repo, place_list(&p, &l, 0, note, &got, &want_)), 1);
    assert_int_equal(catalogue_give_up_disk(catalogue, ENOSPC), 0);
    got.room = -1;
    assert_int_equal(asking(repo, place_list(&p, &l, got.last, note, &got, &want_)), 0);
    assert_string_equal(got.names.data, "calexp_Cam_10_1.fits/calexp_Cam_10_2.fits.fz/");
    listing_close(repo, &l);
    place_release(&p);
    buffer_release(&got.names);
}

static void a_request_is_content_with_what_was_true_when_it_came(void **state)
{
    struct place p;
    struct entry e;
    BUFFER_CLEANUP scratch = {0};
    assert_int_equal(place_at(repo, CALEXP "day_obs=20240101/visit=10", &p), 0);
    struct text name = TEXT("calexp_Cam_10_1.fits");
    assert_int_equal(asking(repo, place_lookup(&p, name, &e, &scratch, NULL, &want_)), 0);
    change(&after);
    uint64_t asked = verbs();
    assert_int_equal(asking(repo, place_lookup(&p, name, &e, &scratch, NULL, &want_)), 0);
    assert_int_equal(verbs(), asked);
    place_release(&p);
}

static void a_place_of_an_older_snapshot_learns_which_types_there_are(void **state)
{
    struct place p;
    struct listing l;
    assert_int_equal(place_at(repo, "collections/u/base", &p), 0);
    change(&after);
    assert_int_equal(size_of("collections/u/base/calexp"), 0); // there is a newer snapshot now
    assert_int_equal(asking(repo, place_list_open(&p, &l, &want_)), 0);
    listing_close(repo, &l);
    place_release(&p);
}

static void a_silent_database_is_an_error_for_who_asks_and_nobody_else(void **state)
{
    const char *known = CALEXP "day_obs=20240101/visit=10/calexp_Cam_10_1.fits";
    const char *unknown = CALEXP "day_obs=20240101/visit=10/calexp_Cam_10_2.fits.fz";
    assert_int_equal(size_of(known), 100);
    memory_world_fail(&world, -ETIMEDOUT, 0, 1000000);
    assert_int_equal(size_of(unknown), -ETIMEDOUT);
    assert_int_equal(size_of(known), 100);
    cleanup(cleanup_doc_free) struct doc *map = doc_new(DOC_MAP);
    repository_status(repo, map);
    assert_false(doc_bool(doc_get(map, "registry_answers"), true));
    memory_world_fail(&world, 0, 0, 0);
    assert_int_equal(size_of(unknown), 200);
    cleanup(cleanup_doc_free) struct doc *again = doc_new(DOC_MAP);
    repository_status(repo, again);
    assert_true(doc_bool(doc_get(again, "registry_answers"), false));
}

static void a_second_life_goes_on_while_the_registry_is_silent(void **state)
{
    const char *known = CALEXP "day_obs=20240101/visit=10/calexp_Cam_10_1.fits";
    struct uuid u = memory_uuid(5);
    struct dataset *d;
    assert_int_equal(size_of(known), 100);
    assert_int_equal(asking(repo, repository_dataset(repo, repository_epoch(repo), &u, &d, &want_)),
                     0);
    dataset_free(d);
    uint64_t epoch = repository_epoch(repo);
    repository_close(repo);
    memory_world_fail(&world, -ETIMEDOUT, 0, 1000000);
    open_repository(3600 * NS_PER_S);
    assert_int_equal(repository_epoch(repo), epoch);
    assert_int_equal(asking(repo, repository_dataset(repo, epoch, &u, &d, &want_)), 0);
    dataset_free(d);
    assert_int_equal(size_of(known), -ETIMEDOUT); // snapshots aren't kept
    memory_world_fail(&world, 0, 0, 0);
    atomic_store(&changes, 0);
    uint64_t asked = verbs();
    assert_int_equal(size_of(known), 100);
    assert_int_equal(verbs(), asked + 2); // the mark and the snapshot; the row is still known
    assert_int_equal(repository_epoch(repo), epoch);
    change(&after);
    assert_int_equal(atomic_load(&changes), 1);
}

static void a_lost_connection_is_opened_again(void **state)
{
    memory_world_fail(&world, -EIO, 0, 1);
    assert_int_equal(size_of(CALEXP "day_obs=20240101/visit=10/calexp_Cam_10_1.fits"), -EIO);
    assert_int_equal(size_of(CALEXP "day_obs=20240101/visit=10/calexp_Cam_10_1.fits"), 100);
}

// A want for a file, as place_lookup makes it.
static void make_want(const char *path, struct want *want)
{
    struct place p;
    struct entry e;
    BUFFER_CLEANUP scratch = {0};
    char parent[256];
    const char *slash = strrchr(path, '/');
    snprintf(parent, sizeof(parent), "%.*s", (int)(slash - path), path);
    assert_int_equal(place_at(repo, parent, &p), 0);
    assert_int_equal(place_lookup(&p, text_of(slash + 1), &e, &scratch, NULL, want), -EINPROGRESS);
    place_release(&p);
}

static atomic_int calls;

static void count_call(struct waiter *w, int error)
{
    atomic_fetch_add(&calls, 1);
}

static void equal_wants_are_one_query(void **state)
{
    struct want want = {0};
    struct waiter waiters[5] = {0};
    make_want(CALEXP "day_obs=20240101/visit=10/calexp_Cam_10_1.fits", &want);
    uint64_t asked = verbs();
    atomic_store(&calls, 0);
    gate_set(1);
    for (int i = 0; i < 5; i++) {
        waiters[i].ready = count_call;
        repository_ask(repo, &want, &waiters[i]);
        if (i == 0)
            gate_await(1); // the others join a running job
    }
    gate_set(0);
    while (atomic_load(&calls) < 5)
        usleep(100);
    assert_int_equal(verbs(), asked + 1);
    want_release(&want);
}

static void a_waiter_that_was_cancelled_is_never_called(void **state)
{
    struct want want = {0};
    struct waiter waiters[3] = {
        {.ready = count_call}, {.ready = count_call}, {.ready = count_call}};
    make_want(CALEXP "day_obs=20240101/visit=10/calexp_Cam_10_1.fits", &want);
    atomic_store(&calls, 0);
    gate_set(1);
    for (int i = 0; i < 3; i++)
        repository_ask(repo, &want, &waiters[i]);
    gate_await(1);
    assert_true(repository_cancel(repo, &waiters[1]));
    assert_false(repository_cancel(repo, &waiters[1]));
    gate_set(0);
    while (atomic_load(&calls) < 2)
        usleep(100);
    usleep(10000);
    assert_int_equal(atomic_load(&calls), 2);
    assert_false(repository_cancel(repo, &waiters[0]));
    want_release(&want);
}

static void a_long_job_leaves_a_librarian_for_the_short_ones(void **state)
{
    struct waiter waiters[3] = {
        {.ready = count_call}, {.ready = count_call}, {.ready = count_call}};
    atomic_store(&calls, 0);
    gate_set(1);
    for (int i = 0; i < 3; i++) {
        struct want set = {.kind = WANT_SET, .collection_id = i + 1, .type_id = 1};
        repository_ask(repo, &set, &waiters[i]);
    }
    gate_await(1);
    assert_int_equal(size_of(CALEXP "day_obs=20240101/visit=10"), 0); // `enter` isn't gated
    gate_set(0);
    while (atomic_load(&calls) < 3)
        usleep(100);
}

static atomic_int folders_asked;

static int refuse_folder(struct registry *r, const struct snapshot *s, const struct dataset_type *t, const int64_t *ids,
                         uint32_t count, const struct value *values, uint32_t depth, uint32_t limit, registry_each *each,
                         void *context)
{
    atomic_fetch_add(&folders_asked, 1);
    return -E2BIG;
}

static void *open_listing(void *path)
{
    struct place p;
    struct listing l;
    check(place_at(repo, path, &p) == 0);
    check(asking(repo, place_list_open(&p, &l, &want_)) == 0);
    listing_close(repo, &l);
    place_release(&p);
    return NULL;
}

static void a_folder_that_is_read_with_its_whole_set_leaves_a_librarian_for_the_short_ones(void **state)
{
    const char *paths[] = {CALEXP "day_obs=20240101/visit=10", CALEXP "day_obs=20240102/visit=20"};
    static struct registry_ops ops;
    pthread_t threads[2];
    repository_close(repo);
    ops = gated_ops;
    ops.folder = refuse_folder;
    in_front = &ops;
    open_repository(3600 * NS_PER_S);
    int64_t loads = metric_get(METRIC_SET_LOADS);
    atomic_store(&folders_asked, 0);
    gate_set(1);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, open_listing, (void *)paths[i]), 0);
    gate_await(1);
    while (atomic_load(&folders_asked) < 2)
        usleep(100);
    assert_int_equal(size_of(CALEXP "day_obs=20240101/visit=10"), 0); // `enter` isn't gated
    gate_set(0);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&folders_asked), 2); // once each
    assert_int_equal(metric_get(METRIC_SET_LOADS), loads + 1);
    repository_close(repo); // registries are opened with `ops` as long as it runs
    in_front = &gated_ops;
    open_repository(3600 * NS_PER_S);
}

// Fills it with a set that is pinned, so that emptying gives no room; 0 or what stopped it.
static int fill(int64_t number)
{
    struct set_id id = {99, number, 1};
    struct set_state s;
    struct catalogue_load *l = catalogue_load_new(catalogue);
    for (int64_t i = 0; i < 1000; i++) {
        struct key k = {0};
        struct row row = {.file_count = 1};
        struct value v = value_integer(i);
        key_append(&k, &v, 1);
        assert_int_equal(catalogue_load_row(l, &k, ROW_VISIBLE, &row), 0);
    }
    int r = catalogue_load_finish(l, &id, 1, &s);
    catalogue_load_free(l);
    if (r == 0)
        catalogue_pin(catalogue, s.generation);
    return r;
}

static void a_catalogue_that_cannot_be_written_keeps_nobody_waiting(void **state)
{
    repository_close(repo);
    catalogue_close(catalogue);
    open_catalogue(1 << 20);
    open_repository(3600 * NS_PER_S);
    for (int64_t i = 0, r = 0; r == 0; i++)
        r = fill(i);
    struct set_id id = {99, 0, 1};
    int r = 0;
    for (int64_t i = 0; r == 0; i++) {
        struct key k = {0};
        struct value v = value_integer(i);
        key_append(&k, &v, 1);
        r = catalogue_put_answer(catalogue, &id, 2, &k, ROW_HIDDEN, NULL);
    }
    assert_int_equal(r, -ENOSPC);
    assert_int_equal(size_of(CALEXP "day_obs=20240101/visit=10/calexp_Cam_10_1.fits"), 100);
    assert_int_equal(size_of(CALEXP "day_obs=20240101/visit=10/calexp_Cam_10_7.fits"), -ENOENT);
    assert_int_equal(size_of(CALEXP "day_obs=20240101/visit=10"), 0);
    assert_int_equal(size_of(CALEXP "day_obs=20240107"), -ENOENT);
    assert_true(size_of("by-uuid/00000000-0000-4000-8000-000000000001") > 0);
    struct uuid u = memory_uuid(5);
    BUFFER_CLEANUP json = {0};
    assert_int_equal(
        asking(repo, repository_data_id(repo, repository_epoch(repo), &u, &json, &want_)), 0);
    struct place p;
    struct listing at;
    assert_int_equal(place_at(repo, "collections/u/base/calexp", &p), 0);
    assert_int_equal(asking(repo, place_list_open(&p, &at, &want_)), -ENOSPC);
    place_release(&p);
}

static void a_set_is_read_again_if_the_registry_changes_between_pages(void **state)
{
    // 45,000 datasets are three pages; the change comes while the second is held up.
    enum { COUNT = 45000 };
    struct memory_dataset *many = memory_new((COUNT + 1) * sizeof(*many));
    char(*ids)[48] = memory_new(COUNT * sizeof(*ids));
    for (int i = 0; i < COUNT; i++) {
        snprintf(ids[i], sizeof(ids[i]), "instrument=Cam,group=%d", i);
        many[i] = (struct memory_dataset){"note", "u/raw", ids[i], NULL, "x.json", NULL, i};
    }
    struct memory_description d = {types, collections, records, many};
    change(&d);
    struct want set = {.kind = WANT_SET, .collection_id = 7, .type_id = 5};
    struct waiter waiter = {.ready = count_call};
    int64_t loads = metric_get(METRIC_SET_LOADS);
    atomic_store(&calls, 0);
    gate_set(1);
    repository_ask(repo, &set, &waiter);
    gate_await(1);
    gate_set(0);
    usleep(200);
    memory_world_change(&world, &d);
    while (atomic_load(&calls) < 1)
        usleep(100);
    assert_in_range(metric_get(METRIC_SET_LOADS), loads + 1, loads + 3);
    struct set_state s;
    struct set_id id = set_id_of(repo, 7, 5);
    assert_int_equal(catalogue_set(catalogue, &id, &s), 0);
    assert_int_equal(s.row_count, COUNT);
    change(&before);
    free(many);
    free(ids);
}

// Many threads looking and listing while the repository changes all the time: nothing is lost that
// is in both states, nothing is shown that is in neither.

static atomic_bool is_over;

static void expect(const char *path, int64_t a, int64_t b)
{
    int64_t got = size_of(path);
    if (got != a && got != b)
        log_error("%s: %lld", path, (long long)got);
    check(got == a || got == b);
}

static void check_stable_paths(void)
{
#define DAY1 "calexp/instrument=Cam/day_obs=20240101/visit=10/"
#define DAY2 "calexp/instrument=Cam/day_obs=20240102/visit=20/"
    expect("collections/u/base/" DAY1 "calexp_Cam_10_1.fits", 100, 100);
    expect("collections/u/base/" DAY2 "calexp_Cam_20_1.fits", 300, 300);
    expect("collections/chain/" DAY2 "calexp_Cam_20_1.fits", 300, 300);
    expect("collections/chain/" DAY1 "calexp_Cam_10_1.fits", 400, 100);
    expect("collections/u/base/" DAY2 "calexp_Cam_20_2.fits", 301, -ENOENT);
    expect("collections/u/base/" DAY2 "calexp_Cam_20_3.fits", -ENOENT, -ENOENT);
    check(size_of("by-uuid/00000000-0000-4000-8000-000000000001") > 0);
}

struct seen {
    int files, stable;
    uint64_t last;
};

static int see(const struct entry *e, uint64_t cookie, void *context)
{
    struct seen *s = context;
    check(cookie > s->last);
    s->last = cookie;
    s->files++;
    s->stable += text_equal(e->name, TEXT("calexp_Cam_20_1.fits"));
    return 0;
}

static void list_stable(const char *path)
{
    struct place p;
    struct listing l;
    struct seen s = {0};
    if (place_at(repo, path, &p) < 0)
        check(!"the folder is there in every state");
    check(asking(repo, place_list_open(&p, &l, &want_)) == 0);
    check(asking(repo, (s = (struct seen){0}, place_list(&p, &l, 0, see, &s, &want_))) == 0);
    check(s.stable == 1 && s.files <= 2);
    listing_close(repo, &l);
    place_release(&p);
}

static void *look_all_the_time(void *argument)
{
    while (!atomic_load(&is_over)) {
        check_stable_paths();
        list_stable("collections/u/base/calexp/instrument=Cam/day_obs=20240102/visit=20");
        list_stable("collections/chain/calexp/instrument=Cam/day_obs=20240102/visit=20");
        repository_refresh(repo);
    }
    return NULL;
}

static void *ask_and_cancel(void *argument)
{
    struct want want = {.kind = WANT_SET, .collection_id = 4, .type_id = 1};
    while (!atomic_load(&is_over)) {
        struct asking a = {.waiter.ready = asking_ready,
                           .mutex = PTHREAD_MUTEX_INITIALIZER,
                           .called = PTHREAD_COND_INITIALIZER};
        want.fresh = repository_epoch(repo);
        repository_ask(repo, &want, &a.waiter);
        usleep(50);
        if (repository_cancel(repo, &a.waiter))
            continue;
        pthread_mutex_lock(&a.mutex);
        while (!a.is_called)
            pthread_cond_wait(&a.called, &a.mutex);
        pthread_mutex_unlock(&a.mutex);
    }
    return NULL;
}

static void *tidy_all_the_time(void *argument)
{
    int64_t used, max;
    while (!atomic_load(&is_over)) {
        catalogue_tidy(catalogue, 10);
        catalogue_usage(catalogue, &used, &max);
        cleanup(cleanup_doc_free) struct doc *map = doc_new(DOC_MAP);
        repository_status(repo, map);
    }
    return NULL;
}

#define LOOKERS 4

static void many_threads_see_one_state_or_the_other(void **state)
{
    pthread_t threads[LOOKERS + 2];
    repository_close(repo);
    catalogue->opened_ns -= 3600 * NS_PER_S;
    open_repository(NS_PER_MS);
    atomic_store(&is_over, false);
    for (int i = 0; i < LOOKERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, look_all_the_time, NULL), 0);
    assert_int_equal(pthread_create(&threads[LOOKERS], NULL, ask_and_cancel, NULL), 0);
    assert_int_equal(pthread_create(&threads[LOOKERS + 1], NULL, tidy_all_the_time, NULL), 0);
    for (int i = 0; i < 150; i++) {
        memory_world_change(&world, i % 2 ? &before : &after);
        if (i % 10 == 9)
            memory_world_fail(&world, 0, 0, 0);
        usleep(10000);
    }
    atomic_store(&is_over, true);
    for (int i = 0; i < LOOKERS + 2; i++)
        pthread_join(threads[i], NULL);
    assert_true(atomic_load(&changes) > 10);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(a_change_is_seen_after_the_refresh_and_told_once),
        T(a_change_that_a_librarian_meets_first_counts_too),
        T(a_listing_keeps_its_generation_while_the_repository_changes),
        T(a_listing_whose_generation_is_gone_goes_on_by_count),
        T(a_request_is_content_with_what_was_true_when_it_came),
        T(a_place_of_an_older_snapshot_learns_which_types_there_are),
        T(a_silent_database_is_an_error_for_who_asks_and_nobody_else),
        T(a_second_life_goes_on_while_the_registry_is_silent),
        T(a_lost_connection_is_opened_again),
        T(equal_wants_are_one_query),
        T(a_waiter_that_was_cancelled_is_never_called),
        T(a_long_job_leaves_a_librarian_for_the_short_ones),
        T(a_folder_that_is_read_with_its_whole_set_leaves_a_librarian_for_the_short_ones),
        T(a_catalogue_that_cannot_be_written_keeps_nobody_waiting),
        T(a_set_is_read_again_if_the_registry_changes_between_pages),
        T(many_threads_see_one_state_or_the_other),
    };
    return run_group(tests);
}
