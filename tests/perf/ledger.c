// SPDX-License-Identifier: BSD-3-Clause
// ledger: what a change costs: begin and settle, on a ledger in a folder, by one thread and by several. CPU time a
// change, of all threads. `perf-ledger FOLDER [CHANGES]`
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "meta/ledger.h"

static int64_t changes = 2000000;

struct writer {
    struct ledger *l;
    uint64_t inode;
    uint64_t tree;
};

static void *lengthen(void *argument)
{
    const struct writer *w = argument;
    struct ledger_charge has = {{(uid_t)(1000 + w->inode), 2000, w->tree}, 0, 1, false};
    char handle[16] = "0123456789abcdef";
    for (int64_t i = 0; i < changes; i++) {
        struct ledger_change c = {.file = {1, w->inode}, .before = has, .after = has, .handle = {handle, sizeof(handle)}};
        uint32_t slot;
        c.after.bytes += 4096;
        int r = ledger_begin(w->l, &c, 0, &slot);
        check(r == 0);
        ledger_settle(w->l, slot, c.file, &c.after);
        has = c.after;
    }
    return NULL;
}

static double cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void measure(struct ledger *l, int threads, uint64_t tree)
{
    pthread_t running[8];
    struct writer writers[8];
    double begun = cpu_ns();
    for (int i = 0; i < threads; i++) {
        writers[i] = (struct writer){l, (uint64_t)i + 1, tree};
        pthread_create(&running[i], NULL, lengthen, &writers[i]);
    }
    for (int i = 0; i < threads; i++)
        pthread_join(running[i], NULL);
    printf("%d thread%s, user, group%s: %.0f ns of CPU a change\n", threads, threads == 1 ? "" : "s",
           tree ? " and tree" : "", (cpu_ns() - begun) / (double)(changes * threads));
}

int main(int argc, char **argv)
{
    struct ledger_options o = {.folder = argc > 1 ? argv[1] : NULL};
    struct ledger_limits limits = {.soft_bytes = 1LL << 58, .hard_bytes = 1LL << 59, .soft_files = 1000, .hard_files = 2000};
    struct ledger *l = NULL;
    char *why = NULL;
    changes = argc > 2 ? atoll(argv[2]) : changes;
    int r = ledger_open(&o, &l, &why);
    if (r < 0) {
        fprintf(stderr, "%s\n", why);
        return 1;
    }
    ledger_limit(l, LEDGER_USER, LEDGER_DEFAULT, &limits, (struct text){0});
    ledger_limit(l, LEDGER_GROUP, 2000, &limits, (struct text){0});
    ledger_limit(l, LEDGER_TREE, 7, &limits, (struct text){"/x", 2});
    measure(l, 1, 0);
    measure(l, 1, 7);
    measure(l, 4, 0);
    ledger_close(l);
    free(why);
    return 0;
}
