// SPDX-License-Identifier: BSD-3-Clause
#include "tests/unit/base/harness.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/buffer.h"
#include "fs/state.h"
#include "fs/state_home.h"

static struct state *open_state(int fd)
{
    struct state *s = NULL;
    const char *why = NULL;
    assert_int_equal(state_open(fd, &s, &why), 0);
    return s;
}

static int make(void **state)
{
    int *fd = malloc(sizeof *fd);
    *fd = memfd_create("state", MFD_CLOEXEC);
    *state = fd;
    return *fd < 0;
}

static int unmake(void **state)
{
    close(*(int *)*state);
    free(*state);
    return 0;
}

static struct file_key key_of(int i)
{
    struct file_key k = {.space = 0};
    memcpy(k.uuid, &i, sizeof i);
    return k;
}

static uint64_t file_of(struct state *s, int i, uint64_t parent)
{
    struct file_node copy;
    struct file_key k = key_of(i);
    return state_file(s, &k, parent, 100, 5, &copy);
}

static void a_folder_asked_for_twice_is_one_node(void **state)
{
    struct state *s = open_state(*(int *)*state);
    state_root(s, 0, 1);
    uint64_t a = state_named(s, STATE_ROOT, TEXT("a"), NODE_FOLDER, 0);
    assert_int_equal(state_named(s, STATE_ROOT, TEXT("a"), NODE_FOLDER, 0), a);
    assert_int_not_equal(state_named(s, a, TEXT("a"), NODE_FOLDER, 0), a);
    state_forget(s, a, 1);
    assert_int_equal(state_kind(s, a), NODE_FOLDER);
    state_forget(s, a, 1);
    assert_int_equal(state_kind(s, a), NODE_FREE);
    state_close(s);
}

static void an_id_of_a_forgotten_node_never_means_a_later_one(void **state)
{
    struct state *s = open_state(*(int *)*state);
    state_root(s, 0, 1);
    uint64_t old = state_named(s, STATE_ROOT, TEXT("old"), NODE_FOLDER, 0);
    state_forget(s, old, 1);
    uint64_t new = state_named(s, STATE_ROOT, TEXT("new"), NODE_FOLDER, 0);
    assert_int_not_equal(old, new);
    assert_int_equal(state_kind(s, old), NODE_FREE);
    assert_int_equal(state_kind(s, new), NODE_FOLDER);
    state_close(s);
}

static int append_part(struct text name, void *context)
{
    buffer_append_byte(context, '/');
    buffer_append_text(context, name);
    return 0;
}

static void a_path_is_told_from_the_root_down(void **state)
{
    struct state *s = open_state(*(int *)*state);
    BUFFER_CLEANUP path = {0};
    state_root(s, 0, 1);
    uint64_t a = state_named(s, STATE_ROOT, TEXT("a"), NODE_FOLDER, 0);
    uint64_t b = state_named(s, a, TEXT("bb"), NODE_FOLDER, 0);
    uint64_t c = state_named(s, b, TEXT("c"), NODE_FOLDER, 0);
    assert_int_equal(state_path(s, c, 0, append_part, &path), 0);
    assert_string_equal(path.data, "/a/bb/c");
    buffer_clear(&path);
    assert_int_equal(state_path(s, STATE_ROOT, 0, append_part, &path), 0);
    assert_int_equal(path.size_bytes, 0);
    state_close(s);
}

static void a_spaces_own_root_is_not_part_of_its_paths(void **state)
{
    struct state *s = open_state(*(int *)*state);
    BUFFER_CLEANUP path = {0};
    state_root(s, 0, 1);
    uint64_t space = state_named(s, STATE_ROOT, TEXT("dp1"), NODE_FOLDER, 3);
    uint64_t c = state_named(s, space, TEXT("collections"), NODE_FOLDER, 3);
    assert_int_equal(state_path(s, space, 3, append_part, &path), 0);
    assert_int_equal(path.size_bytes, 0);
    assert_int_equal(state_path(s, c, 3, append_part, &path), 0);
    assert_string_equal(path.data, "/collections");
    state_close(s);
}

static int open_cached(struct file_node *n, void *context)
{
    n->mode = OPEN_CACHED;
    return 0;
}

static int note_last(struct file_node *n, void *context)
{
    (*(int *)context)++;
    n->mode = OPEN_NONE;
    return 0;
}

static void everything_is_found_again_by_the_next_life(void **state)
{
    int fd = *(int *)*state, last = 0;
    struct state *s = open_state(fd);
    struct file_node n;
    struct handle h;
    uint64_t fh;
    state_root(s, 0, 1);
    state_save_init(s, TEXT("an INIT request"));
    state_save_want(s, 77);
    uint64_t folder = state_named(s, STATE_ROOT, TEXT("f"), NODE_FOLDER, 0);
    uint64_t file = file_of(s, 1, folder);
    assert_int_equal(state_open_handle(s, HANDLE_FILE, file, 4242, open_cached, NULL, &fh), 0);
    state_close(s);

    s = open_state(fd);
    struct text init;
    assert_true(state_saved_init(s, &init));
    assert_true(text_equal(init, TEXT("an INIT request")));
    assert_int_equal(state_saved_want(s), 77);
    assert_int_equal(state_named(s, STATE_ROOT, TEXT("f"), NODE_FOLDER, 0), folder);
    assert_int_equal(file_of(s, 1, folder), file);
    assert_true(state_get_file(s, file, &n));
    assert_int_equal(n.opens, 1);
    assert_int_equal(n.mode, OPEN_CACHED);
    assert_int_equal(state_find_handle(s, 4242), fh);
    assert_true(state_close_handle(s, fh, &h, note_last, &last));
    assert_int_equal(last, 1);
    assert_false(state_close_handle(s, fh, &h, note_last, &last)); // a resent RELEASE
    assert_int_equal(last, 1);
    state_close(s);
}

static void a_file_forgotten_while_open_lives_until_its_release(void **state)
{
    int last = 0;
    struct state *s = open_state(*(int *)*state);
    struct handle h;
    uint64_t fh;
    state_root(s, 0, 1);
    uint64_t file = file_of(s, 1, STATE_ROOT);
    assert_int_equal(state_open_handle(s, HANDLE_FILE, file, 1, open_cached, NULL, &fh), 0);
    state_forget(s, file, 1);
    assert_int_equal(state_kind(s, file), NODE_FILE);
    assert_true(state_close_handle(s, fh, &h, note_last, &last));
    assert_int_equal(state_kind(s, file), NODE_FREE);
    state_close(s);
}

static int make_stale(struct file_node *n, void *context)
{
    n->is_stale = 1;
    return -ESTALE;
}

static void a_stale_file_node_gives_way_to_a_new_one(void **state)
{
    struct state *s = open_state(*(int *)*state);
    uint64_t fh, file = file_of(s, 1, STATE_ROOT);
    assert_int_equal(state_open_handle(s, HANDLE_FILE, file, 1, make_stale, NULL, &fh), -ESTALE);
    uint64_t next = file_of(s, 1, STATE_ROOT);
    assert_int_not_equal(next, file);
    assert_int_equal(state_kind(s, file), NODE_FILE);
    state_forget(s, file, 1);
    assert_int_equal(state_kind(s, file), NODE_FREE);
    assert_int_equal(file_of(s, 1, STATE_ROOT), next);
    state_close(s);
}

static uint64_t object_of(struct state *s, uint64_t parent, struct text name, uint64_t artifact)
{
    struct file_node copy;
    struct file_key k = key_of((int)name.size_bytes);
    struct object_name o = {parent, name, artifact, 100, 5};
    return state_object(s, &k, &o, &copy);
}

static void an_object_says_what_it_is_called_as_long_as_it_is_known(void **state)
{
    struct state *s = open_state(*(int *)*state);
    struct file_node n;
    BUFFER_CLEANUP path = {0};
    state_root(s, 0, 1);
    uint64_t folder = state_named(s, STATE_ROOT, TEXT("f"), NODE_FOLDER, 0);
    uint64_t file = object_of(s, folder, TEXT("a"), 7);
    assert_int_equal(object_of(s, folder, TEXT("a"), 7), file);
    assert_true(state_get_file(s, file, &n));
    uint64_t name = n.name;
    assert_int_equal(state_kind(s, name), NODE_NAME);
    assert_int_equal(state_path(s, name, 0, append_part, &path), 0);
    assert_string_equal(path.data, "/f/a");
    state_forget(s, file, 2);
    assert_int_equal(state_kind(s, file), NODE_FREE);
    assert_int_equal(state_kind(s, name), NODE_FREE);
    state_close(s);
}

static void an_object_that_is_open_in_an_older_version_gives_way_to_a_new_node(void **state)
{
    struct state *s = open_state(*(int *)*state);
    uint64_t fh;
    state_root(s, 0, 1);
    uint64_t file = object_of(s, STATE_ROOT, TEXT("a"), 7);
    assert_int_equal(object_of(s, STATE_ROOT, TEXT("a"), 8), file); // it was not open
    assert_int_equal(state_open_handle(s, HANDLE_FILE, file, 1, open_cached, NULL, &fh), 0);
    assert_int_equal(object_of(s, STATE_ROOT, TEXT("a"), 8), file);
    uint64_t next = object_of(s, STATE_ROOT, TEXT("a"), 9);
    assert_int_not_equal(next, file);
    state_set_stale(s, next);
    assert_int_not_equal(object_of(s, STATE_ROOT, TEXT("a"), 9), next);
    state_close(s);
}

static void what_was_replaced_leaves_nobody_at_a_node_of_what_was_before(void **state)
{
    struct state *s = open_state(*(int *)*state);
    struct file_key k = key_of(1); // as object_of has it
    struct file_node n;
    uint64_t fh;
    state_root(s, 0, 1);
    assert_int_equal(state_replaced(s, &k, 3, 4, 8), 0);
    uint64_t file = object_of(s, STATE_ROOT, TEXT("a"), 7);
    assert_int_equal(state_replaced(s, &k, 3, 4, 7), 0); // it is that one
    assert_int_equal(state_replaced(s, &k, 3, 4, 8), file);
    assert_true(state_get_file(s, file, &n) && n.size_bytes == 3 && n.artifact == 8);
    assert_int_equal(state_open_handle(s, HANDLE_FILE, file, 1, open_cached, NULL, &fh), 0);
    assert_int_equal(state_replaced(s, &k, 5, 6, 9), file);
    assert_true(state_get_file(s, file, &n) && n.size_bytes == 3 && n.is_stale); // whoever reads it goes on
    assert_int_not_equal(object_of(s, STATE_ROOT, TEXT("a"), 9), file);
    state_close(s);
}

static void a_folder_that_was_removed_is_another_node_when_it_is_there_again(void **state)
{
    struct state *s = open_state(*(int *)*state);
    state_root(s, 0, 1);
    uint64_t removed = state_named(s, STATE_ROOT, TEXT("d"), NODE_FOLDER, 0);
    state_leave_named(s, STATE_ROOT, TEXT("d"));
    state_leave_named(s, STATE_ROOT, TEXT("d")); // there is none
    uint64_t made = state_named(s, STATE_ROOT, TEXT("d"), NODE_FOLDER, 0);
    assert_int_not_equal(made, removed);
    assert_int_equal(state_kind(s, removed), NODE_FOLDER);
    state_close(s);
    s = open_state(*(int *)*state); // a take-over
    assert_int_equal(state_named(s, STATE_ROOT, TEXT("d"), NODE_FOLDER, 0), made);
    state_forget(s, removed, 1);
    assert_int_equal(state_kind(s, removed), NODE_FREE);
    assert_int_equal(state_named(s, STATE_ROOT, TEXT("d"), NODE_FOLDER, 0), made);
    state_close(s);
}

static void a_folder_and_an_object_of_one_name_do_not_free_each_other(void **state)
{
    struct state *s = open_state(*(int *)*state);
    state_root(s, 0, 1);
    uint64_t file = object_of(s, STATE_ROOT, TEXT("a"), 7);
    uint64_t folder = state_named(s, STATE_ROOT, TEXT("a"), NODE_FOLDER, 0);
    uint64_t other = object_of(s, folder, TEXT("bb"), 7);
    state_forget(s, file, 1);
    assert_int_equal(state_kind(s, folder), NODE_FOLDER);
    state_forget(s, folder, 1);
    assert_int_equal(state_kind(s, folder), NODE_FREE);
    state_forget(s, other, 1);
    state_close(s);
}

static void a_request_in_work_at_two_crashes_is_known(void **state)
{
    int fd = *(int *)*state;
    for (uint32_t deaths = 1; deaths <= 2; deaths++) {
        struct state *s = open_state(fd);
        state_work_begin(s, 99);
        assert_true(state_wait_begin(s, 99) < STATE_WAITS_MAX); // both: still one death
        state_close(s);
        s = open_state(fd);
        state_suspect(s, true);
        assert_int_equal(state_deaths(s, 99), deaths);
        state_close(s);
    }
    struct state *s = open_state(fd);
    state_work_begin(s, 98);
    state_suspect(s, false); // killed, not crashed
    assert_int_equal(state_deaths(s, 98), 0);
    state_close(s);
}

static void a_million_files_are_made_found_and_forgotten(void **state)
{
    struct state *s = open_state(*(int *)*state);
    enum { N = 1000000 };
    uint64_t *ids = malloc(N * sizeof *ids);
    for (int i = 0; i < N; i++)
        ids[i] = file_of(s, i, STATE_ROOT);
    for (int i = 0; i < N; i += 997)
        assert_int_equal(file_of(s, i, STATE_ROOT), ids[i]);
    for (int i = 0; i < N; i++)
        state_forget(s, ids[i], 2);
    for (int i = 0; i < N; i += 991)
        assert_int_equal(state_kind(s, ids[i]), NODE_FREE);
    free(ids);
    state_close(s);
}

static void another_versions_state_is_refused(void **state)
{
    int fd = *(int *)*state;
    state_close(open_state(fd));
    uint32_t version = 999;
    struct state *s;
    const char *why = NULL;
    assert_int_equal(pwrite(fd, &version, sizeof version, 8), sizeof version);
    assert_int_equal(state_open(fd, &s, &why), -EBADMSG);
    assert_non_null(strstr(why, "another version"));
}

#define T(name) cmocka_unit_test_setup_teardown(name, make, unmake)

static uint64_t home_of(struct state *s, uint8_t number)
{
    struct home_handle h = {.type = 1, .size_bytes = 8, .data = {number}};
    return state_home(s, 0, &h, number, 0100000, (struct home_where){0});
}

static int opening(struct home_node *n, void *context)
{
    n->mode = OPEN_PASSTHROUGH;
    n->backing_id = *(int *)context;
    return 0;
}

static int closing(struct home_node *n, void *context)
{
    *(int *)context = n->backing_id;
    n->backing_id = 0;
    return 0;
}

static void an_inode_of_a_home_is_one_node_until_it_is_forgotten_and_closed(void **state)
{
    struct state *s = open_state(*(int *)*state);
    struct home_node n;
    struct handle was;
    uint64_t fh;
    int id = 7;
    uint64_t a = home_of(s, 1);
    assert_int_equal(home_of(s, 1), a);
    assert_int_not_equal(home_of(s, 2), a);
    assert_int_equal(state_kind(s, a), NODE_HOME);
    assert_int_equal(state_space(s, a), 0);
    assert_int_equal(state_open_home(s, a, 40, 2, opening, &id, &fh), 0);
    state_forget(s, a, 2);
    assert_true(state_get_home(s, a, &n));
    assert_int_equal(n.opens, 1);
    id = 0;
    assert_true(state_close_home(s, fh, &was, closing, &id));
    assert_int_equal(id, 7);
    assert_int_equal(was.flags, 2);
    assert_false(state_get_home(s, a, &n));
    assert_false(state_close_home(s, fh, &was, closing, &id));
    assert_int_not_equal(home_of(s, 1), a);
    state_close(s);
}

static void a_home_s_open_files_are_known_to_the_next_life(void **state)
{
    struct state *s = open_state(*(int *)*state);
    struct home_node n;
    struct handle was;
    uint64_t fh;
    int id = 9;
    uint64_t a = home_of(s, 1);
    assert_int_equal(state_open_home(s, a, 40, 1, opening, &id, &fh), 0);
    state_close(s);
    s = open_state(*(int *)*state);
    assert_true(state_get_home(s, a, &n));
    assert_int_equal(n.opens, 1);
    assert_int_equal(n.mode, OPEN_PASSTHROUGH);
    assert_int_equal(n.backing_id, 9);
    assert_int_equal(state_find_handle(s, 40), fh);
    struct home_handle h = {.type = 1, .size_bytes = 8, .data = {1}};
    assert_int_equal(state_home_find(s, 0, &h), a);
    assert_true(state_close_home(s, fh, &was, closing, &id));
    state_close(s);
}

static void the_next_life_knows_what_was_begun_and_what_was_done(void **state)
{
    struct state *s = open_state(*(int *)*state);
    struct change c;
    state_change_begin(s, 100, 5);
    assert_int_equal(state_change_find(s, 100, &c), CHANGE_NONE); // its own life needs no word of it
    state_close(s);
    s = open_state(*(int *)*state);
    assert_int_equal(state_change_find(s, 100, &c), CHANGE_BEGUN);
    assert_int_equal(c.detail, 5);
    state_change_begin(s, 100, 5);
    state_change_end(s, -17, 3);
    state_close(s);
    for (int life = 0; life < 2; life++) {
        s = open_state(*(int *)*state);
        assert_int_equal(state_change_find(s, 100, &c), CHANGE_DONE);
        assert_int_equal(c.result, -17);
        assert_int_equal(c.node, 3);
        assert_int_equal(state_change_find(s, 102, &c), CHANGE_NONE);
        state_close(s);
    }
}

static void *work(void *state)
{
    state_work_begin(state, 200);
    state_work_end(state);
    return NULL;
}

struct changing {
    struct state *state;
    pthread_barrier_t ready;
};

static void *change_long(void *argument)
{
    struct changing *c = argument;
    state_change_begin(c->state, 100, 5);
    pthread_barrier_wait(&c->ready);
    pthread_barrier_wait(&c->ready);
    state_change_end(c->state, 0, 3);
    return NULL;
}

static void *change_meanwhile(void *argument)
{
    state_change_begin(((struct changing *)argument)->state, 102, 6);
    return NULL;
}

static void run_thread(void *(*run)(void *), void *argument)
{
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, run, argument), 0);
    pthread_join(thread, NULL);
}

static void what_a_change_did_is_never_told_of_another_however_many_threads_there_are(void **state)
{
    struct changing c = {.state = open_state(*(int *)*state)};
    struct change found;
    pthread_t first;
    pthread_barrier_init(&c.ready, NULL, 2);
    assert_int_equal(pthread_create(&first, NULL, change_long, &c), 0);
    pthread_barrier_wait(&c.ready);
    for (int i = 0; i < STATE_THREADS_MAX - 1; i++)
        run_thread(work, c.state);
    run_thread(change_meanwhile, &c);
    pthread_barrier_wait(&c.ready);
    pthread_join(first, NULL);
    pthread_barrier_destroy(&c.ready);
    state_close(c.state);
    struct state *s = open_state(*(int *)*state);
    assert_int_equal(state_change_find(s, 100, &found), CHANGE_DONE);
    assert_int_equal(state_change_find(s, 102, &found), CHANGE_BEGUN);
    state_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_folder_asked_for_twice_is_one_node),
        T(an_id_of_a_forgotten_node_never_means_a_later_one),
        T(a_path_is_told_from_the_root_down),
        T(a_spaces_own_root_is_not_part_of_its_paths),
        T(everything_is_found_again_by_the_next_life),
        T(a_file_forgotten_while_open_lives_until_its_release),
        T(a_stale_file_node_gives_way_to_a_new_one),
        T(an_object_says_what_it_is_called_as_long_as_it_is_known),
        T(an_object_that_is_open_in_an_older_version_gives_way_to_a_new_node),
        T(what_was_replaced_leaves_nobody_at_a_node_of_what_was_before),
        T(a_folder_that_was_removed_is_another_node_when_it_is_there_again),
        T(a_folder_and_an_object_of_one_name_do_not_free_each_other),
        T(a_request_in_work_at_two_crashes_is_known),
        T(a_million_files_are_made_found_and_forgotten),
        T(another_versions_state_is_refused),
        T(an_inode_of_a_home_is_one_node_until_it_is_forgotten_and_closed),
        T(a_home_s_open_files_are_known_to_the_next_life),
        T(the_next_life_knows_what_was_begun_and_what_was_done),
        T(what_a_change_did_is_never_told_of_another_however_many_threads_there_are),
    };
    return run_group(tests);
}
