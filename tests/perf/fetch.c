// SPDX-License-Identifier: BSD-3-Clause
// perf-fetch: how fast an object comes through origin and fetchers into nothing, and what it costs: beside raw curl.
//   perf-fetch URI [range=8M] [flights=8] [threads=2] [buffer=256K] [connections=64] [count=1]     one object, whole
//   perf-fetch URI head=N flights=M      N HEADs of it
//   perf-fetch URI list                  every key below it; `keys` writes them
// Keys and endpoint as for any S3 client (AWS_*, S3_ENDPOINT_URL).
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/lock.h"
#include "base/metric.h"
#include "cache/fetcher.h"
#include "cache/origin/origin.h"

extern char **environ;

struct run {
    struct origin *origin;
    const char *key;
    enum origin_verb verb;
    bool writes_keys;
    int64_t range_bytes, size_bytes, head_count;
    struct lock lock;
    pthread_cond_t ended;
    int64_t next_offset;   // under lock, as the rest
    uint32_t flying;
    uint64_t bytes, pieces, requests, entries;
    int error;
    char *token;
    int64_t slowest_ns, sum_ns;
};

struct one {
    struct origin_request request; // the first
    struct run *run;
    uint64_t bytes, pieces;
    int64_t started_ns;
};

static bool next_range(struct one *o);

static int on_bytes(struct origin_request *r, const void *data, size_t size_bytes)
{
    struct one *o = (struct one *)r;
    o->bytes += size_bytes;
    o->pieces++;
    return 0;
}

static int on_entry(struct origin_request *r, const struct origin_entry *e)
{
    struct run *run = ((struct one *)r)->run;
    run->entries++;
    if (run->writes_keys)
        printf("%.*s\n", (int)e->key.size_bytes, e->key.data);
    return 0;
}

static void on_done(struct origin_request *r, const struct origin_answer *a)
{
    struct one *o = (struct one *)r;
    struct run *run = o->run;
    int64_t took_ns = clock_ns() - o->started_ns;
    if (a->error)
        fprintf(stderr, "%s (%s)\n", a->why, strerror(-a->error));
    lock_acquire(&run->lock);
    run->requests++;
    run->bytes += o->bytes;
    run->pieces += o->pieces;
    run->sum_ns += took_ns;
    if (took_ns > run->slowest_ns)
        run->slowest_ns = took_ns;
    if (a->error)
        run->error = a->error;
    free(run->token);
    run->token = memory_copy(a->token.data, a->token.size_bytes);
    bool goes_on = !run->error && next_range(o);
    if (!goes_on) {
        run->flying--;
        pthread_cond_broadcast(&run->ended);
    }
    lock_release(&run->lock);
    if (goes_on)
        origin_start(run->origin, r);
    else
        free(o);
}

// Under the lock: what this one asks next.
static bool next_range(struct one *o)
{
    struct run *run = o->run;
    o->bytes = o->pieces = 0;
    o->started_ns = clock_ns();
    o->request.deadline_ns = clock_ns() + 60 * NS_PER_S;
    if (run->verb == ORIGIN_LIST) {
        o->request.token = text_of(run->token);
        return run->token[0];
    }
    int64_t step = run->verb == ORIGIN_HEAD ? 1 : run->range_bytes;
    int64_t end = run->verb == ORIGIN_HEAD ? run->head_count : run->size_bytes;
    if (run->next_offset >= end)
        return false;
    o->request.offset = (uint64_t)run->next_offset;
    o->request.size_bytes = (uint64_t)step;
    run->next_offset += step;
    return true;
}

static void run_all(struct run *run, uint32_t flights)
{
    for (uint32_t i = 0; i < flights; i++) {
        struct one *o = new_struct(struct one);
        o->run = run;
        o->request = (struct origin_request){.verb = run->verb,
                                             .key = text_of(run->key),
                                             .sink = on_bytes,
                                             .each = on_entry,
                                             .done = on_done};
        lock_acquire(&run->lock);
        bool begins = run->verb == ORIGIN_LIST || next_range(o);
        o->started_ns = clock_ns();
        o->request.deadline_ns = clock_ns() + 60 * NS_PER_S;
        run->flying += begins;
        lock_release(&run->lock);
        if (begins)
            origin_start(run->origin, &o->request);
        else
            free(o);
    }
    lock_acquire(&run->lock);
    while (run->flying)
        condition_wait(&run->ended, &run->lock, INT64_MAX);
    lock_release(&run->lock);
}

static double cpu_s(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)u.ru_utime.tv_sec + (double)u.ru_stime.tv_sec +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static int64_t option(int argc, char **argv, const char *name, int64_t otherwise)
{
    size_t size = strlen(name);
    for (int i = 2; i < argc; i++) {
        int64_t value;
        if (strncmp(argv[i], name, size) == 0 && argv[i][size] == '=' &&
            clock_parse_size(argv[i] + size + 1, &value) == 0)
            return value;
    }
    return otherwise;
}

static void size_on_done(struct origin_request *r, const struct origin_answer *a)
{
    *(int64_t *)r->context = a->size_bytes;
}

static void report(const struct run *run, double wall_s, double used_s)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    double gib = (double)run->bytes / (1 << 30);
    printf("%llu requests, %llu bytes in %llu pieces, %llu entries, %.3f s", (unsigned long long)run->requests,
           (unsigned long long)run->bytes, (unsigned long long)run->pieces, (unsigned long long)run->entries, wall_s);
    if (run->bytes)
        printf(": %.0f MB/s, %.3f CPU s per GiB", (double)run->bytes / 1e6 / wall_s, used_s / gib);
    else
        printf(": %.0f requests/s, %.0f us CPU each", (double)run->requests / wall_s,
               used_s * 1e6 / (double)run->requests);
    printf("; request mean %.2f ms, slowest %.2f ms; %ld KiB resident, %lld retries\n",
           (double)run->sum_ns / 1e6 / (double)run->requests, (double)run->slowest_ns / 1e6, u.ru_maxrss,
           (long long)metric_get(METRIC_FETCH_RETRIES));
}

int main(int argc, char **argv)
{
    struct fetchers_options options = FETCHERS_OPTIONS_STANDARD;
    struct fetchers *fetchers;
    char *key, *why = NULL;
    if (argc < 2)
        return 2;
    options.threads = (uint32_t)option(argc, argv, "threads", options.threads);
    options.connections = (uint32_t)option(argc, argv, "connections", options.connections);
    options.buffer_bytes = (uint32_t)option(argc, argv, "buffer", options.buffer_bytes);
    if (fetchers_new(&options, &fetchers) < 0)
        return 1;
    struct run run = {.range_bytes = option(argc, argv, "range", 8 << 20),
                      .head_count = option(argc, argv, "head", 0),
                      .token = memory_copy("", 0)};
    struct origin_options how = {.environment = (const char *const *)environ};
    if (origin_open(fetchers, argv[1], &how, &run.origin, &key, &why) < 0) {
        fprintf(stderr, "%s\n", why);
        return 1;
    }
    run.key = key;
    run.writes_keys = argc > 2 && strcmp(argv[2], "keys") == 0;
    bool lists = run.writes_keys || (argc > 2 && strcmp(argv[2], "list") == 0);
    run.verb = lists ? ORIGIN_LIST : (run.head_count ? ORIGIN_HEAD : ORIGIN_GET);
    lock_init(&run.lock, LOCK_RANK_HANDLE, "run");
    condition_init(&run.ended);
    struct origin_request head = {.verb = ORIGIN_HEAD, .key = text_of(key), .deadline_ns = clock_ns() + 10 * NS_PER_S,
                                  .done = size_on_done, .context = &run.size_bytes};
    if (run.verb == ORIGIN_GET && origin_wait(run.origin, &head, &why) < 0) {
        fprintf(stderr, "%s\n", why);
        exit(1);
    }
    int64_t count = option(argc, argv, "count", 1);
    for (int64_t i = 0; i < count; i++) {
        double used_s = cpu_s();
        int64_t start_ns = clock_ns();
        run.next_offset = 0;
        run.bytes = run.pieces = run.requests = run.entries = 0;
        run.sum_ns = run.slowest_ns = 0;
        run_all(&run, run.verb == ORIGIN_LIST ? 1 : (uint32_t)option(argc, argv, "flights", 8));
        report(&run, (double)(clock_ns() - start_ns) / 1e9, cpu_s() - used_s);
    }
    origin_unref(run.origin);
    fetchers_free(fetchers);
    free(run.token);
    free(key);
    return run.error ? 1 : 0;
}
