// SPDX-License-Identifier: BSD-3-Clause
// What the store costs beside the bare disk: CPU and wall time a GiB written in pieces as they arrive,
// read with checksums, checked before passthrough; time to make and to find an object.
//   perf-store FOLDER [MIB [OBJECTS]]     the folder is made, and deleted with all in it
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"
#include "cache/store.h"

static const char *folder;
static char *bytes; // 4 MiB
static uint64_t size_bytes = (uint64_t)1 << 30;
static int object_count = 5000;

struct moment {
    int64_t wall_ns;
    double cpu_s;
};

static struct moment now(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (struct moment){clock_ns(), (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
                                           1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec)};
}

static void report_bytes(const char *what, struct moment from)
{
    struct moment to = now();
    double gib = (double)size_bytes / (double)((uint64_t)1 << 30);
    printf("%-44s %6.2f CPU s/GiB %8.2f s/GiB\n", what, (to.cpu_s - from.cpu_s) / gib,
           1e-9 * (double)(to.wall_ns - from.wall_ns) / gib);
}

static void report_objects(const char *what, struct moment from)
{
    struct moment to = now();
    printf("%-44s %6.1f us CPU %8.1f us each\n", what, 1e6 * (to.cpu_s - from.cpu_s) / object_count,
           1e-3 * (double)(to.wall_ns - from.wall_ns) / object_count);
}

static struct stored_version version_of(int number, uint64_t size)
{
    static char key[64];
    snprintf(key, sizeof(key), "some/folder/of/objects/number-%d.fits", number);
    struct stored_version v = {.origin = TEXT("s3://bucket"),
                               .key = text_of(key),
                               .validator = TEXT("\"0123456789abcdef0123456789abcdef\""),
                               .size_bytes = size};
    hash128(key, strlen(key), v.identity);
    return v;
}

static struct stored *create(struct block_store *b, int number, uint64_t size)
{
    struct stored_version v = version_of(number, size);
    struct stored *s = NULL;
    int r = block_store_create(b, &v, &s);
    check(r == 0);
    return s;
}

static void write_all(struct stored *s, size_t piece)
{
    struct stored_writer w;
    stored_write_begin(s, 0, &w);
    uint64_t size = stored_version(s)->size_bytes;
    for (uint64_t at = 0; at < size; at += piece) {
        size_t n = size - at < piece ? (size_t)(size - at) : piece;
        int r = stored_write(&w, bytes + at % (4 << 20), n);
        check(r >= 0);
    }
    stored_write_end(&w);
}

static void bare_write(size_t piece)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/bare", folder);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    check(fd >= 0);
    struct moment from = now();
    for (uint64_t at = 0; at < size_bytes; at += piece) {
        ssize_t n = pwrite(fd, bytes + at % (4 << 20), piece, (off_t)at);
        check(n == (ssize_t)piece);
    }
    char what[64];
    snprintf(what, sizeof(what), "bare pwrite by %zu KiB", piece >> 10);
    report_bytes(what, from);
    close(fd);
}

static void bare_read(size_t piece)
{
    char path[256], what[64];
    snprintf(path, sizeof(path), "%s/bare", folder);
    char *to = memory_new(piece);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct moment from = now();
    for (uint64_t at = 0; at < size_bytes; at += piece) {
        ssize_t n = pread(fd, to, piece, (off_t)at);
        check(n == (ssize_t)piece);
    }
    snprintf(what, sizeof(what), "bare pread by %zu KiB, in the page cache", piece >> 10);
    report_bytes(what, from);
    close(fd);
    free(to);
}

static void read_all(struct stored *s, size_t piece)
{
    char what[64];
    char *to = memory_new(piece), *scratch = memory_new(CACHE_BLOCK_BYTES);
    struct moment from = now();
    for (uint64_t at = 0; at < size_bytes; at += piece) {
        ssize_t n = stored_read(s, to, piece, at, scratch);
        check(n == (ssize_t)piece);
    }
    snprintf(what, sizeof(what), "stored_read by %zu KiB, in the page cache", piece >> 10);
    report_bytes(what, from);
    free(to);
    free(scratch);
}

static struct block_store *open_store(void)
{
    char path[256], *why = NULL;
    snprintf(path, sizeof(path), "%s/store", folder);
    struct block_store_options o = {
        .folder = path, .limit_bytes = 8 * size_bytes + ((uint64_t)64 << 30), .limit_objects = 1000000};
    struct block_store *b = NULL;
    int r = block_store_open(&o, &b, &why);
    if (r < 0)
        fprintf(stderr, "%s\n", why);
    check(r == 0);
    return b;
}

static void done(struct stored_waiter *w, int error)
{
    check(error == 0);
    w->done = NULL;
}

static void check_all(void)
{
    struct block_store *b = open_store();
    struct stored *s = create(b, 0, size_bytes);
    struct stored_waiter w = {.done = done};
    struct moment from = now();
    stored_check(s, &w);
    while (*(void *volatile *)&w.done)
        usleep(200);
    report_bytes("check before the first passthrough of a life", from);
    stored_unref(s);
    block_store_close(b);
}

static void small_objects(void)
{
    struct block_store *b = open_store();
    struct moment from = now();
    for (int i = 1; i <= object_count; i++) {
        struct stored *s = create(b, i, 65536);
        write_all(s, 65536);
        stored_unref(s);
    }
    report_objects("make an object of 64 KiB", from);
    from = now();
    for (int i = 1; i <= object_count; i++) {
        struct stored_version v = version_of(i, 0);
        struct stored *s = NULL;
        int r = block_store_find(b, v.identity, &s);
        check(r == 0);
        stored_unref(s);
    }
    report_objects("find it", from);
    from = now();
    for (int i = 1; i <= object_count; i++) {
        struct stored_version v = version_of(-i, 0);
        int r = block_store_find(b, v.identity, &(struct stored *){0});
        check(r == -ENOENT);
    }
    report_objects("find that there is none", from);
    block_store_close(b);
}

// How long until it can be used, and until all is counted; with and without a summary.
static void start(void)
{
    for (int has_summary = 1; has_summary >= 0; has_summary--) {
        char path[256];
        snprintf(path, sizeof(path), "%s/store/blocks.1/summary", folder);
        if (!has_summary && unlink(path) < 0)
            check(false);
        struct moment from = now();
        struct block_store *b = open_store();
        double open_ms = 1e-6 * (double)(clock_ns() - from.wall_ns);
        struct block_store_status status;
        do {
            usleep(500);
            block_store_status(b, &status);
        } while (!status.is_counted);
        struct moment to = now();
        printf("start with %u objects, %s: %.1f ms, counted after %.0f ms, %.2f CPU s\n",
               status.objects, has_summary ? "a summary" : "no summary", open_ms,
               1e-6 * (double)(to.wall_ns - from.wall_ns), to.cpu_s - from.cpu_s);
        block_store_close(b);
    }
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
    return remove(path);
}

int main(int argc, char **argv)
{
    if (argc < 2 || mkdir(argv[1], 0700) < 0) {
        fprintf(stderr, "usage: perf-store FOLDER [MIB [OBJECTS]]   (a folder that isn't there)\n");
        return 2;
    }
    folder = argv[1];
    size_bytes = argc > 2 ? strtoull(argv[2], NULL, 10) << 20 : size_bytes;
    object_count = argc > 3 ? atoi(argv[3]) : object_count;
    bytes = memory_new(4 << 20);
    for (size_t i = 0; i < 4 << 20; i++)
        bytes[i] = (char)(i * 2654435761u >> 13);
    static const size_t pieces[] = {16 << 10, 64 << 10, 128 << 10, 1 << 20};
    for (int i = 0; i < 4; i++) {
        bare_write(pieces[i]);
        struct block_store *b = open_store();
        struct stored_version v = version_of(0, 0);
        block_store_drop(b, v.identity);
        struct stored *s = create(b, 0, size_bytes);
        char what[64];
        snprintf(what, sizeof(what), "stored_write by %zu KiB", pieces[i] >> 10);
        struct moment from = now();
        write_all(s, pieces[i]);
        report_bytes(what, from);
        if (i > 1) {
            bare_read(pieces[i]);
            read_all(s, pieces[i]);
        }
        stored_unref(s);
        block_store_close(b);
    }
    check_all();
    small_objects();
    start();
    nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(bytes);
    return 0;
}
