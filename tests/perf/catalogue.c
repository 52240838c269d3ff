// SPDX-License-Identifier: BSD-3-Clause
// catalogue: rates of loading, scanning, skipping and looking up in the catalogue, and its bytes a
// dataset. `perf-catalogue [visits [detectors [folder]]]`; a release build, please.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/log.h"
#include "meta/catalogue.h"

#define LEVELS 4

static const struct set_id set = {1, 10, 100}, chain = {1, 11, 100};

static void report(const char *what, int64_t count, int64_t begin_ns)
{
    double seconds = (double)(clock_ns() - begin_ns) / NS_PER_S;
    printf("%-22s %10lld in %7.3f s  %8.2f M/s\n", what, (long long)count, seconds,
           (double)count / seconds / 1e6);
}

static struct key key_of(int64_t visit, int64_t detector)
{
    struct key k = {0};
    struct value v[LEVELS] = {value_text(TEXT("LSSTComCam")),
                              value_integer(20240000 + visit / 1000),
                              value_integer(2024000000000 + visit), value_integer(detector)};
    for (int i = 0; i < LEVELS; i++)
        key_append(&k, &v[i], LEVELS);
    return k;
}

static struct set_state load(struct catalogue *c, int64_t visits, int64_t detectors)
{
    struct set_state state;
    int64_t begin = clock_ns();
    uint64_t random = 1;
    struct catalogue_load *l = catalogue_load_new(c);
    for (int64_t d = 0; d < detectors; d++)
        for (int64_t v = 0; v < visits; v++) {
            struct key k = key_of(v, d);
            struct row row = {.mtime_unix_ns = 1732000000000000000 + v * 35000000000 + d * 999983,
                              .file_count = 1};
            for (int i = 0; i < 2; i++) {
                random = random * 6364136223846793005u + 1442695040888963407u;
                memcpy(row.uuid.bytes + 8 * i, &random, 8);
            }
            row.files[0] = (struct row_file){.suffix = TEXT(".fits"),
                                             .size_bytes = 70000000 + (int64_t)(random >> 40)};
            check(catalogue_load_row(l, &k, ROW_VISIBLE, &row) == 0);
        }
    check(catalogue_load_finish(l, &set, 1, &state) == 0);
    catalogue_load_free(l);
    report("load", visits * detectors, begin);
    return state;
}

struct walk {
    int64_t rows;
    size_t skip_levels;
};

static int walk_row(const struct row *row, const struct key *k, size_t *skip_bytes, void *context)
{
    struct walk *w = context;
    w->rows++;
    for (size_t i = 0; i < w->skip_levels; i++)
        *skip_bytes += (size_t)key_value_size(key_text(k), *skip_bytes);
    return 0;
}

static void scan(struct catalogue *c, uint64_t generation, const char *what, size_t skip_levels)
{
    struct walk w = {.skip_levels = skip_levels};
    struct row_cursor cursor = {0};
    int64_t begin = clock_ns();
    check(catalogue_scan(c, generation, &(struct key){0}, &cursor, walk_row, &w) == 0);
    report(what, w.rows, begin);
}

static void look_up(struct catalogue *c, int64_t visits, int64_t detectors)
{
    int64_t begin = clock_ns(), count = 500000;
    uint64_t random = 1;
    struct buffer scratch = {0};
    for (int64_t i = 0; i < count; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        struct key k =
            key_of((int64_t)(random >> 33) % visits, (int64_t)(random >> 20) % detectors);
        struct row row;
        enum row_kind kind;
        check(catalogue_find_row(c, &set, 1, &k, &kind, &row, &scratch) == 0 &&
              kind == ROW_VISIBLE);
    }
    buffer_release(&scratch);
    report("look up", count, begin);
}

static void keep_answers(struct catalogue *c)
{
    const struct set_id id = {1, 12, 100};
    int64_t begin = clock_ns(), count = 20000;
    for (int64_t i = 0; i < count; i++) {
        struct key k = key_of(i * 7919 % count, 1);
        check(catalogue_put_answer(c, &id, 1, &k, ROW_HIDDEN, NULL) == 0);
    }
    report("keep an answer", count, begin);
}

int main(int argc, char **argv)
{
    int64_t visits = argc > 1 ? atoll(argv[1]) : 10000, detectors = argc > 2 ? atoll(argv[2]) : 100;
    char folder[] = "/tmp/catalogue-XXXXXX", *why, command[64];
    const char *at = argc > 3 ? argv[3] : mkdtemp(folder);
    struct catalogue *c;
    struct set_state merged;
    check(catalogue_open(at, 64LL << 30, &c, &why) == 0);
    struct set_state s = load(c, visits, detectors);
    int64_t used, max;
    catalogue_usage(c, &used, &max);
    printf("%-22s %10.1f bytes\n", "a dataset", (double)used / (double)(visits * detectors));
    scan(c, s.generation, "scan", 0);
    scan(c, s.generation, "distinct visits", 3);
    scan(c, s.generation, "distinct days", 2);
    look_up(c, visits, detectors);
    keep_answers(c);
    int64_t begin = clock_ns();
    check(catalogue_merge(c, &s.generation, 1, &chain, 1, &merged) == 0);
    report("merge", (int64_t)merged.row_count, begin);
    catalogue_close(c);
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    return argc > 3 ? 0 : system(command);
}
