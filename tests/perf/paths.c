// SPDX-License-Identifier: BSD-3-Clause
// perf-paths: what a path costs whoever asks for it, without an interpreter's share. Paths come on the standard input,
// each ended by a NUL.
//   perf-paths stat       stat() of each
//   perf-paths BYTES      the first so many bytes of each: open, read, close
// Writes two numbers: seconds in all, and the median of one in seconds.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PATHS_MAX 1000000

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int stat_one(const char *path)
{
    struct stat st;
    return stat(path, &st);
}

static int read_one(const char *path, char *buffer, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t n = pread(fd, buffer, size, 0);
    close(fd);
    return n < 0 ? -1 : 0;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    static double took[PATHS_MAX];
    static char *paths[PATHS_MAX];
    size_t count = 0, room, size = argc == 2 ? strtoul(argv[1], NULL, 10) : 0;
    if (argc != 2 || (!size && strcmp(argv[1], "stat") != 0)) {
        fprintf(stderr, "usage: perf-paths stat|BYTES < NUL-TERMINATED-PATHS\n");
        return 2;
    }
    char *buffer = malloc(size + 1);
    while (count < PATHS_MAX && getdelim(&paths[count], (room = 0, &room), 0, stdin) > 0)
        count++;
    double begin = now(), last = begin;
    for (size_t i = 0; i < count; i++) {
        if ((size ? read_one(paths[i], buffer, size) : stat_one(paths[i])) < 0) {
            perror(paths[i]);
            return 1;
        }
        double at = now();
        took[i] = at - last;
        last = at;
    }
    if (count == 0)
        return 1;
    qsort(took, count, sizeof *took, by_size);
    printf("%.9f %.9f\n", last - begin, took[count / 2]);
    return 0;
}
