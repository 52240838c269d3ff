// SPDX-License-Identifier: BSD-3-Clause
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/log.h"
#include "meta/catalogue_block.h"
#include "meta/catalogue_store.h"
#include "tests/unit/base/harness.h"

static char folder[64];

static int make_folder(void **state)
{
    snprintf(folder, sizeof(folder), "/tmp/catalogue-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    return system(command);
}

static struct catalogue *open_sized(int64_t size_bytes)
{
    struct catalogue *c;
    char *why;
    assert_int_equal(catalogue_open(folder, size_bytes, &c, &why), 0);
    assert_null(why);
    c->opened_ns -= 3600 * NS_PER_S; // no grace
    return c;
}

static struct catalogue *open_catalogue(void)
{
    return open_sized(1 << 30);
}

#define LEVELS 4

// A visit_image's key.
static struct key key_of(const char *instrument, int64_t day, int64_t visit, int64_t detector)
{
    struct key k = {0};
    struct value v[LEVELS] = {value_text(text_of(instrument)), value_integer(day),
                              value_integer(visit), value_integer(detector)};
    for (int i = 0; i < LEVELS; i++)
        key_append(&k, &v[i], LEVELS);
    return k;
}

static struct key prefix_of(const char *instrument, int64_t day)
{
    struct key k = {0};
    struct value v[2] = {value_text(text_of(instrument)), value_integer(day)};
    for (int i = 0; i < 2; i++)
        key_append(&k, &v[i], LEVELS);
    return k;
}

static struct row row_of(int64_t n)
{
    struct row r = {.mtime_unix_ns = 1700000000000000000 + n * 1000003, .file_count = 1};
    memcpy(r.uuid.bytes, &n, sizeof(n));
    r.files[0] = (struct row_file){.suffix = TEXT(".fits"), .size_bytes = n * 7};
    return r;
}

static const struct set_id set_a = {1, 10, 100}, set_b = {1, 11, 100}, set_chain = {1, 12, 100};

static void load_row(struct catalogue_load *l, int64_t visit, int64_t detector, enum row_kind kind,
                     int64_t n)
{
    struct key k = key_of("LSSTComCam", 20240000 + visit / 100, visit, detector);
    struct row r = row_of(n);
    assert_int_equal(catalogue_load_row(l, &k, kind, &r), 0);
}

// Detectors first, as a registry gives them.
static struct set_state load_set(struct catalogue *c, const struct set_id *id, uint64_t epoch,
                                 int64_t visits, int64_t detectors)
{
    struct set_state state;
    struct catalogue_load *l = catalogue_load_new(c);
    for (int64_t d = 0; d < detectors; d++)
        for (int64_t v = 0; v < visits; v++)
            load_row(l, v, d, ROW_VISIBLE, v * detectors + d);
    assert_int_equal(catalogue_load_finish(l, id, epoch, &state), 0);
    catalogue_load_free(l);
    return state;
}

struct count {
    int64_t rows;
    struct key last;
    size_t skip_levels;
    int64_t stop_at;
    int answer;
};

static int count_row(const struct row *row, const struct key *k, size_t *skip_bytes, void *context)
{
    struct count *count = context;
    assert_true(text_compare(key_text(k), key_text(&count->last)) > 0);
    assert_int_equal(row->value_count, LEVELS);
    key_set(&count->last, key_text(k));
    if (count->skip_levels)
        for (size_t i = 0; i < count->skip_levels; i++)
            *skip_bytes += (size_t)key_value_size(key_text(k), *skip_bytes);
    if (count->answer == ROW_STOP_BEFORE && count->rows == count->stop_at)
        return ROW_STOP_BEFORE;
    count->rows++;
    return count->answer == ROW_STOP_AFTER && count->rows == count->stop_at;
}

static void a_whole_set_is_scanned_in_key_order(void **state)
{
    struct catalogue *c = open_catalogue();
    struct set_state s = load_set(c, &set_a, 5, 2000, 30), again;
    assert_int_equal(s.row_count, 60000);
    assert_int_equal(catalogue_set(c, &set_a, &again), 0);
    assert_int_equal(again.generation, s.generation);
    assert_int_equal(again.epoch, 5);
    assert_true(again.is_whole);
    assert_int_equal(again.row_count, 60000);
    struct count count = {0};
    struct row_cursor cursor = {0};
    assert_int_equal(catalogue_scan(c, s.generation, &(struct key){0}, &cursor, count_row, &count),
                     0);
    assert_int_equal(count.rows, 60000);
    catalogue_close(c);
}

static void every_row_of_a_whole_set_is_found_by_its_key(void **state)
{
    struct catalogue *c = open_catalogue();
    load_set(c, &set_a, 5, 2000, 30);
    BUFFER_CLEANUP scratch = {0};
    for (int64_t v = 0; v < 2000; v++)
        for (int64_t d = 0; d < 30; d++) {
            struct key k = key_of("LSSTComCam", 20240000 + v / 100, v, d);
            enum row_kind kind;
            struct row row, wanted = row_of(v * 30 + d);
            assert_int_equal(catalogue_find_row(c, &set_a, 5, &k, &kind, &row, &scratch), 0);
            assert_int_equal(kind, ROW_VISIBLE);
            assert_memory_equal(&row.uuid, &wanted.uuid, sizeof(row.uuid));
            assert_int_equal(row.mtime_unix_ns, wanted.mtime_unix_ns);
            assert_int_equal(row.files[0].size_bytes, wanted.files[0].size_bytes);
            assert_true(text_equal(row.files[0].suffix, TEXT(".fits")));
            assert_int_equal(row.values[2].integer, v);
            assert_true(text_equal(row.values[0].text, TEXT("LSSTComCam")));
        }
    catalogue_close(c);
}

static void what_a_whole_set_lacks_is_known_not_to_be(void **state)
{
    struct catalogue *c = open_catalogue();
    load_set(c, &set_a, 5, 200, 3);
    BUFFER_CLEANUP scratch = {0};
    enum row_kind kind;
    struct row row;
    struct key k = key_of("LSSTComCam", 20240000, 10, 3), early = key_of("A", 1, 1, 1),
               late = key_of("Z", 1, 1, 1);
    assert_int_equal(catalogue_find_row(c, &set_a, 5, &k, &kind, &row, &scratch), 0);
    assert_int_equal(kind, ROW_HIDDEN);
    assert_int_equal(catalogue_find_row(c, &set_a, 5, &early, &kind, &row, &scratch), 0);
    assert_int_equal(kind, ROW_HIDDEN);
    assert_int_equal(catalogue_find_row(c, &set_a, 5, &late, &kind, &row, &scratch), 0);
    assert_int_equal(kind, ROW_HIDDEN);
    catalogue_close(c);
}

static void a_set_of_an_older_epoch_says_nothing(void **state)
{
    struct catalogue *c = open_catalogue();
    load_set(c, &set_a, 5, 200, 3);
    BUFFER_CLEANUP scratch = {0};
    enum row_kind kind;
    struct row row;
    struct key k = key_of("LSSTComCam", 20240000, 10, 1);
    assert_int_equal(catalogue_find_row(c, &set_a, 6, &k, &kind, &row, &scratch), -ENOENT);
    assert_int_equal(catalogue_find_folder(c, &set_a, 6, &k, &kind), -ENOENT);
    catalogue_close(c);
}

static void a_folder_of_a_whole_set_is_there_if_a_visible_row_is_below(void **state)
{
    struct catalogue *c = open_catalogue();
    load_set(c, &set_a, 5, 2000, 30);
    for (int64_t day = -1; day <= 20; day++) {
        enum row_kind kind;
        struct key k = prefix_of("LSSTComCam", 20240000 + day);
        assert_int_equal(catalogue_find_folder(c, &set_a, 5, &k, &kind), 0);
        assert_int_equal(kind, day >= 0 && day < 20 ? ROW_ENTERED : ROW_REFUSED);
    }
    catalogue_close(c);
}

static void distinct_values_of_a_level_are_found_by_skipping(void **state)
{
    struct catalogue *c = open_catalogue();
    struct set_state s = load_set(c, &set_a, 5, 2000, 30);
    for (size_t levels = 1; levels <= LEVELS; levels++) {
        static const int64_t wanted[] = {0, 1, 20, 2000, 60000};
        struct count count = {.skip_levels = levels};
        struct row_cursor cursor = {0};
        assert_int_equal(
            catalogue_scan(c, s.generation, &(struct key){0}, &cursor, count_row, &count), 0);
        assert_int_equal(count.rows, wanted[levels]);
    }
    catalogue_close(c);
}

static void a_scan_goes_on_where_it_stopped(void **state)
{
    struct catalogue *c = open_catalogue();
    struct set_state s = load_set(c, &set_a, 5, 200, 30);
    struct key prefix = prefix_of("LSSTComCam", 20240001);
    for (int answer = ROW_STOP_AFTER; answer <= ROW_STOP_BEFORE; answer++)
        for (size_t levels = 0; levels <= LEVELS; levels += 3) {
            struct count count = {.answer = answer, .skip_levels = levels};
            struct row_cursor cursor = {0};
            int r;
            do {
                count.stop_at += 7;
                struct key last = count.last;
                r = catalogue_scan(c, s.generation, &prefix, &cursor, count_row, &count);
                if (answer == ROW_STOP_BEFORE && r == 1)
                    count.last = last; // that row comes again
                if (answer == ROW_STOP_BEFORE)
                    count.last.size_bytes = 0;
            } while (r == 1);
            assert_int_equal(r, 0);
            assert_int_equal(count.rows, levels == 3 ? 100 : 3000);
        }
    catalogue_close(c);
}

static void single_answers_are_kept_until_the_epoch_moves(void **state)
{
    struct catalogue *c = open_catalogue();
    BUFFER_CLEANUP scratch = {0};
    struct key k = key_of("LSSTComCam", 20240000, 10, 1),
               no = key_of("LSSTComCam", 20240000, 10, 2), day = prefix_of("LSSTComCam", 20240000),
               other = prefix_of("LSSTComCam", 20240001);
    struct row row = row_of(77);
    enum row_kind kind;
    assert_int_equal(catalogue_find_row(c, &set_a, 0, &k, &kind, &row, &scratch), -ENOENT);
    assert_int_equal(catalogue_put_answer(c, &set_a, 3, &k, ROW_VISIBLE, &row), 0);
    assert_int_equal(catalogue_put_answer(c, &set_a, 3, &no, ROW_HIDDEN, NULL), 0);
    assert_int_equal(catalogue_put_answer(c, &set_a, 3, &day, ROW_ENTERED, NULL), 0);
    assert_int_equal(catalogue_put_answer(c, &set_a, 3, &other, ROW_REFUSED, NULL), 0);
    assert_int_equal(catalogue_find_row(c, &set_a, 3, &k, &kind, &row, &scratch), 0);
    assert_int_equal(kind, ROW_VISIBLE);
    assert_int_equal(row.files[0].size_bytes, 77 * 7);
    assert_int_equal(catalogue_find_row(c, &set_a, 3, &no, &kind, &row, &scratch), 0);
    assert_int_equal(kind, ROW_HIDDEN);
    assert_int_equal(catalogue_find_folder(c, &set_a, 3, &day, &kind), 0);
    assert_int_equal(kind, ROW_ENTERED);
    assert_int_equal(catalogue_find_folder(c, &set_a, 3, &other, &kind), 0);
    assert_int_equal(kind, ROW_REFUSED);
    // A newer answer begins anew; an older one changes nothing.
    assert_int_equal(catalogue_put_answer(c, &set_a, 4, &no, ROW_HIDDEN, NULL), 0);
    assert_int_equal(catalogue_find_row(c, &set_a, 3, &k, &kind, &row, &scratch), -ENOENT);
    assert_int_equal(catalogue_put_answer(c, &set_a, 3, &k, ROW_VISIBLE, &row), 0);
    assert_int_equal(catalogue_find_row(c, &set_a, 3, &k, &kind, &row, &scratch), -ENOENT);
    catalogue_close(c);
}

static void newer_answers_leave_the_whole_set_to_who_came_before(void **state)
{
    struct catalogue *c = open_catalogue();
    struct set_state s = load_set(c, &set_a, 5, 20, 3), pinned;
    struct key k = key_of("LSSTComCam", 20240000, 10, 1), no = key_of("X", 1, 2, 3);
    struct row row = row_of(1);
    enum row_kind kind;
    BUFFER_CLEANUP scratch = {0};
    assert_int_equal(catalogue_put_answer(c, &set_a, 6, &no, ROW_HIDDEN, NULL), 0);
    assert_int_equal(catalogue_pin_set(c, &set_a, 5, &pinned), 0);
    assert_int_equal(pinned.generation, s.generation);
    catalogue_unpin(c, s.generation);
    assert_int_equal(catalogue_pin_set(c, &set_a, 6, &pinned), -ENOENT);
    assert_int_equal(catalogue_find_row(c, &set_a, 5, &k, &kind, &row, &scratch), 0);
    assert_int_equal(catalogue_find_row(c, &set_a, 6, &k, &kind, &row, &scratch), -ENOENT);
    assert_int_equal(catalogue_find_row(c, &set_a, 6, &no, &kind, &row, &scratch), 0);
    // A set that took long and is older than what is there changes nothing.
    s = load_set(c, &set_a, 7, 20, 3);
    load_set(c, &set_a, 4, 10, 3);
    assert_int_equal(catalogue_set(c, &set_a, &pinned), 0);
    assert_int_equal(pinned.generation, s.generation);
    while (catalogue_tidy(c, 10) == 1)
        ;
    struct count count = {0};
    struct row_cursor cursor = {0};
    assert_int_equal(catalogue_scan(c, s.generation, &(struct key){0}, &cursor, count_row, &count),
                     0);
    assert_int_equal(count.rows, 60);
    catalogue_close(c);
}

static void a_whole_set_is_not_replaced_by_an_answer_as_old(void **state)
{
    struct catalogue *c = open_catalogue();
    struct set_state s = load_set(c, &set_a, 5, 20, 3), after;
    struct key k = key_of("X", 1, 2, 3);
    assert_int_equal(catalogue_put_answer(c, &set_a, 5, &k, ROW_HIDDEN, NULL), 0);
    assert_int_equal(catalogue_set(c, &set_a, &after), 0);
    assert_int_equal(after.generation, s.generation);
    catalogue_close(c);
}

static void merging_keeps_the_first_and_hidden_rows_hide(void **state)
{
    struct catalogue *c = open_catalogue();
    struct set_state a, b, merged;
    struct catalogue_load *l = catalogue_load_new(c);
    for (int64_t v = 0; v < 1000; v += 2)
        load_row(l, v, 1, v % 10 == 0 ? ROW_HIDDEN : ROW_VISIBLE, v);
    assert_int_equal(catalogue_load_finish(l, &set_a, 5, &a), 0);
    catalogue_load_free(l);
    l = catalogue_load_new(c);
    for (int64_t v = 0; v < 1000; v++)
        load_row(l, v, 1, ROW_VISIBLE, 100000 + v);
    assert_int_equal(catalogue_load_finish(l, &set_b, 5, &b), 0);
    catalogue_load_free(l);
    uint64_t generations[] = {a.generation, b.generation};
    assert_int_equal(catalogue_merge(c, generations, 2, &set_chain, 5, &merged), 0);
    assert_int_equal(merged.row_count, 900);
    BUFFER_CLEANUP scratch = {0};
    for (int64_t v = 0; v < 1000; v++) {
        struct key k = key_of("LSSTComCam", 20240000 + v / 100, v, 1);
        enum row_kind kind;
        struct row row, wanted = row_of(v % 2 ? 100000 + v : v);
        assert_int_equal(catalogue_find_row(c, &set_chain, 5, &k, &kind, &row, &scratch), 0);
        assert_int_equal(kind, v % 10 == 0 ? ROW_HIDDEN : ROW_VISIBLE);
        if (kind == ROW_VISIBLE)
            assert_memory_equal(&row.uuid, &wanted.uuid, sizeof(row.uuid));
    }
    catalogue_close(c);
}

static void a_key_given_twice_counts_once(void **state)
{
    struct catalogue *c = open_catalogue();
    struct set_state s;
    struct catalogue_load *l = catalogue_load_new(c);
    for (int64_t n = 0; n < 100000; n++)
        load_row(l, n % 1000, 1, ROW_VISIBLE, n);
    assert_int_equal(catalogue_load_finish(l, &set_a, 5, &s), 0);
    catalogue_load_free(l);
    assert_int_equal(s.row_count, 1000);
    BUFFER_CLEANUP scratch = {0};
    struct key k = key_of("LSSTComCam", 20240000, 7, 1);
    struct row row, wanted = row_of(7);
    enum row_kind kind;
    assert_int_equal(catalogue_find_row(c, &set_a, 5, &k, &kind, &row, &scratch), 0);
    assert_memory_equal(&row.uuid, &wanted.uuid, sizeof(row.uuid));
    catalogue_close(c);
}

static void long_texts_and_several_files_come_back_whole(void **state)
{
    struct catalogue *c = open_catalogue();
    char group[1000];
    memset(group, 'g', sizeof(group));
    struct value v[2] = {value_text(TEXT("Cam")), value_text((struct text){group, sizeof(group)})};
    struct key k = {0};
    key_append(&k, &v[0], 2);
    assert_true(key_append(&k, &v[1], 2));
    struct row row = {.values = {v[0], v[1]}, .value_count = 2, .file_count = 6}, got;
    for (int i = 0; i < 6; i++)
        row.files[i] = (struct row_file){TEXT("wcs"), TEXT(".txt"), i ? i : SIZE_UNKNOWN};
    struct catalogue_load *l = catalogue_load_new(c);
    struct set_state s;
    assert_int_equal(catalogue_load_row(l, &k, ROW_VISIBLE, &row), 0);
    assert_int_equal(catalogue_load_finish(l, &set_a, 5, &s), 0);
    catalogue_load_free(l);
    BUFFER_CLEANUP scratch = {0};
    enum row_kind kind;
    assert_int_equal(catalogue_find_row(c, &set_a, 5, &k, &kind, &got, &scratch), 0);
    assert_int_equal(got.value_count, 2);
    assert_true(value_equal(&got.values[1], &v[1]));
    assert_int_equal(got.file_count, 6);
    assert_int_equal(got.files[0].size_bytes, SIZE_UNKNOWN);
    assert_int_equal(got.files[3].size_bytes, 3);
    assert_true(text_equal(got.files[2].component, TEXT("wcs")));
    catalogue_close(c);
}

static void what_was_committed_outlives_a_killed_process(void **state)
{
    int pid = fork();
    if (pid == 0) {
        struct catalogue *c = open_catalogue();
        int64_t since;
        uint32_t number = catalogue_repository(c, TEXT("repo"));
        uint64_t epoch = catalogue_epoch(c, number, 42, &since);
        load_set(c, &set_a, epoch, 2000, 30);
        kill(getpid(), SIGKILL);
    }
    int status;
    waitpid(pid, &status, 0);
    assert_true(WIFSIGNALED(status));
    struct catalogue *c = open_catalogue();
    struct set_state s;
    int64_t since;
    assert_int_equal(catalogue_set(c, &set_a, &s), 0);
    assert_int_equal(s.row_count, 60000);
    uint32_t number = catalogue_repository(c, TEXT("repo"));
    assert_int_equal(catalogue_epoch(c, number, 42, &since), s.epoch);
    assert_int_equal(catalogue_epoch(c, number, 43, &since), s.epoch + 1);
    assert_int_equal(catalogue_epoch(c, number, 0, &since), s.epoch + 2);
    assert_int_equal(catalogue_epoch(c, number, 0, &since), s.epoch + 3);
    assert_int_not_equal(catalogue_repository(c, TEXT("other")), number);
    catalogue_close(c);
}

static void another_process_is_refused(void **state)
{
    struct catalogue *c = open_catalogue(), *other;
    char *why;
    assert_int_equal(catalogue_open(folder, 1 << 20, &other, &why), -EBUSY);
    assert_non_null(strstr(why, "in use by another process"));
    free(why);
    catalogue_close(c);
}

static void write_file(const char *name, const char *data, size_t size)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    int fd = open(path, O_WRONLY | O_TRUNC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, size), (ssize_t)size);
    close(fd);
}

static void after_a_reboot_it_starts_empty(void **state)
{
    struct catalogue *c = open_catalogue();
    struct set_state s = load_set(c, &set_a, 5, 20, 3);
    catalogue_close(c);
    write_file("format", "butlerfs catalogue 1 boot another lmdb 0\n", 41);
    c = open_catalogue();
    assert_int_equal(catalogue_set(c, &set_a, &s), -ENOENT);
    load_set(c, &set_a, 5, 20, 3);
    catalogue_close(c);
    c = open_catalogue();
    assert_int_equal(catalogue_set(c, &set_a, &s), 0);
    catalogue_close(c);
}

static void a_damaged_file_is_thrown_away_with_a_word(void **state)
{
    for (size_t size = 0; size <= 4096; size += 4096) {
        struct catalogue *c = open_catalogue();
        struct set_state s = load_set(c, &set_a, 5, 20, 3);
        catalogue_close(c);
        char *why, page[4096];
        memset(page, 'x', sizeof(page));
        write_file("data.mdb", page, size ? size : 100);
        assert_int_equal(catalogue_open(folder, 1 << 30, &c, &why), 0);
        assert_non_null(strstr(why, "starting empty"));
        free(why);
        assert_int_equal(catalogue_set(c, &set_a, &s), -ENOENT);
        load_set(c, &set_a, 5, 20, 3);
        catalogue_close(c);
    }
}

static void a_shortened_file_is_thrown_away(void **state)
{
    struct catalogue *c = open_catalogue();
    struct set_state s = load_set(c, &set_a, 5, 2000, 30);
    catalogue_close(c);
    char path[128], *why;
    snprintf(path, sizeof(path), "%s/data.mdb", folder);
    assert_int_equal(truncate(path, 5 * 4096), 0);
    assert_int_equal(catalogue_open(folder, 1 << 30, &c, &why), 0);
    assert_non_null(why);
    free(why);
    assert_int_equal(catalogue_set(c, &set_a, &s), -ENOENT);
    catalogue_close(c);
}

static void after_many_short_lives_it_is_not_trusted(void **state)
{
    struct set_state s;
    for (int life = 0; life <= 20; life++) {
        int pid = fork(), status;
        if (pid == 0) {
            struct catalogue *c;
            char *why;
            check(catalogue_open(folder, 1 << 26, &c, &why) == 0 && (why != NULL) == (life == 20));
            if (life == 0)
                load_set(c, &set_a, 5, 20, 3);
            check(catalogue_set(c, &set_a, &s) == (life < 20 ? 0 : -ENOENT));
            kill(getpid(), SIGKILL);
        }
        waitpid(pid, &status, 0);
        assert_int_equal(WTERMSIG(status), SIGKILL);
    }
}

static void a_clean_end_is_no_short_life(void **state)
{
    struct set_state s;
    struct catalogue *c = open_catalogue();
    load_set(c, &set_a, 5, 20, 3);
    for (int life = 0; life < 30; life++) {
        catalogue_close(c);
        c = open_catalogue();
    }
    assert_int_equal(catalogue_set(c, &set_a, &s), 0);
    catalogue_close(c);
}

static void without_its_folder_it_is_kept_in_memory(void **state)
{
    struct catalogue *c;
    char *why;
    assert_int_equal(catalogue_open("/proc/butlerfs", 1 << 24, &c, &why), 0);
    assert_non_null(strstr(why, "kept in memory"));
    free(why);
    assert_true(catalogue_in_memory(c));
    assert_int_equal(load_set(c, &set_a, 5, 2000, 30).row_count, 60000);
    catalogue_close(c);
}

static void a_full_catalogue_is_emptied_but_for_what_is_pinned(void **state)
{
    struct catalogue *c = open_sized(4 << 20);
    struct set_state pinned = load_set(c, &set_a, 5, 400, 30), s;
    assert_int_equal(catalogue_pin_set(c, &set_a, 5, &s), 0);
    for (int64_t i = 0; i < 30; i++) {
        struct set_id id = {1, 1000 + i, 100};
        assert_int_equal(load_set(c, &id, 5, 400, 30).row_count, 12000);
        assert_int_equal(catalogue_set(c, &id, &s), 0);
    }
    struct set_id first = {1, 1000, 100};
    assert_int_equal(catalogue_set(c, &first, &s), -ENOENT);
    assert_int_equal(catalogue_set(c, &set_a, &s), 0);
    struct count count = {0};
    struct row_cursor cursor = {0};
    assert_int_equal(
        catalogue_scan(c, pinned.generation, &(struct key){0}, &cursor, count_row, &count), 0);
    assert_int_equal(count.rows, 12000);
    struct stat st;
    char path[128];
    snprintf(path, sizeof(path), "%s/data.mdb", folder);
    assert_int_equal(stat(path, &st), 0);
    assert_true(st.st_size <= 4 << 20);
    catalogue_unpin(c, pinned.generation);
    catalogue_close(c);
}

static void a_set_that_is_larger_than_all_room_is_refused(void **state)
{
    struct catalogue *c = open_sized(2 << 20);
    struct set_state s;
    struct catalogue_load *l = catalogue_load_new(c);
    for (int64_t n = 0; n < 200000; n++) {
        struct key k = key_of("LSSTComCam", 20240000, n, 1);
        struct row r = row_of(n);
        assert_int_equal(catalogue_load_row(l, &k, ROW_VISIBLE, &r), 0);
    }
    assert_int_equal(catalogue_load_finish(l, &set_a, 5, &s), -ENOSPC);
    catalogue_load_free(l);
    assert_int_equal(load_set(c, &set_b, 5, 100, 10).row_count, 1000);
    catalogue_close(c);
}

static void what_no_set_names_is_tidied_unless_it_is_pinned(void **state)
{
    struct catalogue *c = open_catalogue();
    struct set_state old = load_set(c, &set_a, 5, 400, 30), s;
    assert_int_equal(catalogue_pin_set(c, &set_a, 5, &s), 0);
    load_set(c, &set_a, 6, 400, 30);
    while (catalogue_tidy(c, 10) == 1)
        ;
    assert_true(catalogue_has_generation(c, &set_a, old.generation));
    assert_false(catalogue_has_generation(c, &set_b, old.generation));
    catalogue_unpin(c, old.generation);
    int64_t before, after, max;
    catalogue_usage(c, &before, &max);
    while (catalogue_tidy(c, 10) == 1)
        ;
    catalogue_usage(c, &after, &max);
    assert_true(after < before);
    assert_false(catalogue_has_generation(c, &set_a, old.generation));
    struct count count = {0};
    struct row_cursor cursor = {0};
    assert_int_equal(
        catalogue_scan(c, old.generation, &(struct key){0}, &cursor, count_row, &count), 0);
    assert_int_equal(count.rows, 0);
    assert_int_equal(catalogue_set(c, &set_a, &s), 0);
    assert_int_equal(s.epoch, 6);
    catalogue_close(c);
}

static int flip_body(struct write *w, void *context)
{
    MDB_cursor *cursor;
    MDB_val key, data;
    assert_int_equal(mdb_cursor_open(w->txn, w->store->rows, &cursor), 0);
    struct text rest;
    while (mdb_cursor_get(cursor, &key, &data, MDB_NEXT) == 0)
        if (rows_key_is(&key, *(uint64_t *)context, SECTION_ROWS, &rest)) {
            char copy[8192];
            memcpy(copy, data.mv_data, data.mv_size);
            copy[data.mv_size / 2] ^= 1;
            MDB_val changed = {data.mv_size, copy};
            assert_int_equal(mdb_cursor_put(cursor, &key, &changed, MDB_CURRENT), 0);
        }
    mdb_cursor_close(cursor);
    return 0;
}

static void a_damaged_record_makes_its_set_absent(void **state)
{
    struct catalogue *c = open_catalogue();
    struct set_state s = load_set(c, &set_a, 5, 400, 30), after;
    assert_int_equal(catalogue_write(c, flip_body, &s.generation), 0);
    struct key k = key_of("LSSTComCam", 20240000, 10, 1);
    struct row row;
    enum row_kind kind;
    BUFFER_CLEANUP scratch = {0};
    assert_int_equal(catalogue_find_row(c, &set_a, 5, &k, &kind, &row, &scratch), -ENOENT);
    assert_int_equal(catalogue_set(c, &set_a, &after), -ENOENT);
    assert_false(catalogue_has_generation(c, &set_a, s.generation));
    load_set(c, &set_a, 5, 400, 30);
    assert_int_equal(catalogue_find_row(c, &set_a, 5, &k, &kind, &row, &scratch), 0);
    assert_int_equal(kind, ROW_VISIBLE);
    while (catalogue_tidy(c, 1000) == 1)
        ;
    assert_int_equal(atomic_load(&c->distrusted), 0);
    catalogue_close(c);
}

static void a_full_disk_moves_it_to_memory(void **state)
{
    struct catalogue *c = open_catalogue();
    int64_t since;
    uint32_t number = catalogue_repository(c, TEXT("repo"));
    uint64_t epoch = catalogue_epoch(c, number, 7, &since);
    assert_int_equal(catalogue_give_up_disk(c, ENOSPC), 0);
    assert_true(catalogue_in_memory(c));
    assert_int_equal(catalogue_epoch(c, number, 7, &since), epoch);
    assert_int_equal(load_set(c, &set_a, 5, 4000, 30).row_count, 120000);
    assert_int_equal(catalogue_give_up_disk(c, ENOSPC), -ENOSPC);
    catalogue_close(c);
}

static void a_disk_that_fills_up_moves_it_to_memory_in_the_middle(void **state)
{
    if (mount("none", folder, "tmpfs", 0, "size=3m") < 0)
        skip(); // needs root
    struct catalogue *c;
    char *why, path[128];
    struct set_state s;
    snprintf(path, sizeof(path), "%s/catalogue", folder);
    assert_int_equal(catalogue_open(path, 1 << 30, &c, &why), 0);
    assert_null(why);
    load_set(c, &set_b, 5, 100, 10);
    struct catalogue_load *l = catalogue_load_new(c);
    for (int64_t n = 0; n < 200000; n++) { // more than there is room for, spilled or not
        struct key k = key_of("LSSTComCam", 20240000, n, 1);
        struct row r = row_of(n);
        int e = catalogue_load_row(l, &k, ROW_VISIBLE, &r);
        if (e == -ESTALE)
            break;
        assert_int_equal(e, 0);
    }
    int e = catalogue_load_finish(l, &set_a, 5, &s);
    catalogue_load_free(l);
    assert_true(e == 0 || e == -ESTALE);
    assert_true(catalogue_in_memory(c));
    assert_int_equal(catalogue_set(c, &set_b, &s), -ENOENT);
    assert_int_equal(load_set(c, &set_a, 5, 4000, 30).row_count, 120000);
    catalogue_close(c);
    assert_int_equal(umount(folder), 0);
}

static void on_a_disk_that_is_full_from_the_start_it_is_kept_in_memory(void **state)
{
    if (mount("none", folder, "tmpfs", 0, "size=64k") < 0)
        skip(); // needs root
    struct catalogue *c;
    char *why, path[128];
    for (int size = 4; size <= 60; size += 4) { // however far it comes
        snprintf(path, sizeof(path), "%s/fill", folder);
        int fd = open(path, O_CREAT | O_WRONLY, 0600);
        if (posix_fallocate(fd, 0, size << 10) != 0)
            break;
        close(fd);
        snprintf(path, sizeof(path), "%s/catalogue", folder);
        assert_int_equal(catalogue_open(path, 1 << 30, &c, &why), 0);
        assert_int_equal(load_set(c, &set_a, 5, 400, 30).row_count, 12000);
        assert_true(catalogue_in_memory(c));
        free(why);
        catalogue_close(c);
    }
    assert_int_equal(umount2(folder, MNT_DETACH), 0);
}

static void datasets_are_kept_by_epoch(void **state)
{
    struct catalogue *c = open_catalogue();
    struct uuid u = {{1, 2, 3}};
    BUFFER_CLEANUP record = {0};
    uint64_t epoch;
    assert_int_equal(catalogue_dataset(c, 1, &u, DATASET_FILES, &epoch, &record), -ENOENT);
    assert_int_equal(catalogue_put_dataset(c, 1, &u, DATASET_FILES, 9, TEXT("what")), 0);
    assert_int_equal(catalogue_put_dataset(c, 1, &u, DATASET_DATA_ID, 9, TEXT("{}")), 0);
    assert_int_equal(catalogue_dataset(c, 1, &u, DATASET_FILES, &epoch, &record), 0);
    assert_int_equal(epoch, 9);
    assert_true(text_equal(buffer_text(&record), TEXT("what")));
    assert_int_equal(catalogue_dataset(c, 2, &u, DATASET_FILES, &epoch, &record), -ENOENT);
    catalogue_close(c);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        T(a_whole_set_is_scanned_in_key_order),
        T(every_row_of_a_whole_set_is_found_by_its_key),
        T(what_a_whole_set_lacks_is_known_not_to_be),
        T(a_set_of_an_older_epoch_says_nothing),
        T(a_folder_of_a_whole_set_is_there_if_a_visible_row_is_below),
        T(distinct_values_of_a_level_are_found_by_skipping),
        T(a_scan_goes_on_where_it_stopped),
        T(single_answers_are_kept_until_the_epoch_moves),
        T(newer_answers_leave_the_whole_set_to_who_came_before),
        T(a_whole_set_is_not_replaced_by_an_answer_as_old),
        T(merging_keeps_the_first_and_hidden_rows_hide),
        T(a_key_given_twice_counts_once),
        T(long_texts_and_several_files_come_back_whole),
        T(what_was_committed_outlives_a_killed_process),
        T(another_process_is_refused),
        T(after_a_reboot_it_starts_empty),
        T(a_damaged_file_is_thrown_away_with_a_word),
        T(a_shortened_file_is_thrown_away),
        T(after_many_short_lives_it_is_not_trusted),
        T(a_clean_end_is_no_short_life),
        T(without_its_folder_it_is_kept_in_memory),
        T(a_full_catalogue_is_emptied_but_for_what_is_pinned),
        T(a_set_that_is_larger_than_all_room_is_refused),
        T(what_no_set_names_is_tidied_unless_it_is_pinned),
        T(a_damaged_record_makes_its_set_absent),
        T(a_full_disk_moves_it_to_memory),
        T(a_disk_that_fills_up_moves_it_to_memory_in_the_middle),
        T(on_a_disk_that_is_full_from_the_start_it_is_kept_in_memory),
        T(datasets_are_kept_by_epoch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
