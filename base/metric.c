// SPDX-License-Identifier: BSD-3-Clause
// metric: the numbers behind the table in metric.h. They belong to the process, like its log: the
// only state of base besides the log's, so that counting needs no handle.
// 1. Each stands in a cache line of its own: threads that count different things don't meet.
#include "base/metric.h"

#include <stdalign.h>
#include <stdatomic.h>

#include "base/log.h"

static struct {
    alignas(64) _Atomic int64_t value;
} metric_values[METRIC_COUNT];

static const struct {
    const char *name;
    const char *help;
    enum metric_kind kind;
} metric_table[METRIC_COUNT] = {
#define METRIC_ROW(id, name, kind, help) [METRIC_##id] = {name, help, METRIC_##kind},
    METRICS(METRIC_ROW)
#undef METRIC_ROW
};

void metric_add(enum metric m, int64_t delta)
{
    check((unsigned)m < METRIC_COUNT);
    atomic_fetch_add_explicit(&metric_values[m].value, delta, memory_order_relaxed);
}

int64_t metric_get(enum metric m)
{
    check((unsigned)m < METRIC_COUNT);
    return atomic_load_explicit(&metric_values[m].value, memory_order_relaxed);
}

const char *metric_name(enum metric m)
{
    check((unsigned)m < METRIC_COUNT);
    return metric_table[m].name;
}

const char *metric_help(enum metric m)
{
    check((unsigned)m < METRIC_COUNT);
    return metric_table[m].help;
}

enum metric_kind metric_kind(enum metric m)
{
    check((unsigned)m < METRIC_COUNT);
    return metric_table[m].kind;
}
