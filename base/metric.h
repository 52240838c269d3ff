// SPDX-License-Identifier: BSD-3-Clause
// metric: what is counted. Every counter and gauge of the daemon stands once, in this table: name,
// kind, help. Any thread; relaxed atomics, cheap enough for every request.
#pragma once
#include <stdint.h>

#define METRICS(X)                                                                                 \
    X(REQUESTS, "requests", COUNTER, "FUSE requests received")                                     \
    X(REQUESTS_RESENT, "requests_resent", COUNTER, "requests the kernel sent again after a take-over") \
    X(REQUESTS_PARKED, "requests_parked", COUNTER, "requests that had to wait for a librarian")    \
    X(REQUESTS_TIMED_OUT, "requests_timed_out", COUNTER, "requests answered ETIMEDOUT")            \
    X(REQUESTS_POISONED, "requests_poisoned", COUNTER, "requests answered EIO after two deaths")   \
    X(WAITERS, "waiters", GAUGE, "requests waiting now")                                           \
    X(OPEN_PASSTHROUGH, "open_passthrough", COUNTER, "files opened by kernel passthrough")         \
    X(OPEN_CACHED, "open_cached", COUNTER, "files opened through the daemon")                      \
    X(OPEN_FAILED, "open_failed", COUNTER, "opens that failed")                                    \
    X(OPEN_STALE, "open_stale", COUNTER, "opens sent back to look the name up again (ESTALE)")     \
    X(OPEN_FILES, "open_files", GAUGE, "file handles open now")                                    \
    X(OPEN_FOLDERS, "open_folders", GAUGE, "folder handles open now")                              \
    X(NODES, "nodes", GAUGE, "files and folders the kernel knows")                                 \
    X(READ_BYTES, "read_bytes", COUNTER, "bytes read through the daemon (passthrough not seen)")   \
    X(ENTRIES_LISTED, "entries_listed", COUNTER, "folder entries given to the kernel")             \
    X(REGISTRY_STATEMENTS, "registry_statements", COUNTER, "statements asked of registries")       \
    X(REGISTRY_FAILURES, "registry_failures", COUNTER, "statements that failed")                   \
    X(REGISTRY_CHANGES, "registry_changes", COUNTER, "changes of a registry that were noticed")    \
    X(SET_LOADS, "set_loads", COUNTER, "key sets read whole from a registry")                      \
    X(SET_ROWS, "set_rows", COUNTER, "rows read into key sets")                                    \
    X(POINT_QUERIES, "point_queries", COUNTER, "single names asked of a registry")                 \
    X(ROWS_REFUSED, "rows_refused", COUNTER, "registry rows that were not well-formed")            \
    X(CATALOGUE_RESETS, "catalogue_resets", COUNTER, "times the catalogue was emptied")            \
    X(EPOCH_NOTICES, "epoch_notices", COUNTER, "invalidations sent to the kernel")

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE };

enum metric {
#define METRIC_ENUM(id, name, kind, help) METRIC_##id,
    METRICS(METRIC_ENUM)
#undef METRIC_ENUM
        METRIC_COUNT
};

void metric_add(enum metric m, int64_t delta);
int64_t metric_get(enum metric m);
const char *metric_name(enum metric m);
const char *metric_help(enum metric m);
enum metric_kind metric_kind(enum metric m);
