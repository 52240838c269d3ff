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
    X(WRITE_BYTES, "write_bytes", COUNTER, "bytes written through the daemon")                     \
    X(CHANGES_AGAIN, "changes_again", COUNTER, "changes asked for again after a take-over, and not done twice") \
    X(ENTRIES_LISTED, "entries_listed", COUNTER, "folder entries given to the kernel")             \
    X(REGISTRY_STATEMENTS, "registry_statements", COUNTER, "statements asked of registries")       \
    X(REGISTRY_FAILURES, "registry_failures", COUNTER, "statements that failed")                   \
    X(REGISTRY_AWAY, "registry_away", GAUGE, "registries that don't answer at the moment")            \
    X(REGISTRY_SPARED, "registry_spared", COUNTER, "questions not asked: it is away, or refuses us")     \
    X(REGISTRY_CHANGES, "registry_changes", COUNTER, "changes of a registry that were noticed")    \
    X(SET_LOADS, "set_loads", COUNTER, "key sets read whole from a registry")                      \
    X(SET_DIGESTS, "set_digests", COUNTER, "key sets compared with a registry instead of being read")   \
    X(SETS_OLD, "sets_old", COUNTER, "listings shown as they were while they are read again")          \
    X(SET_ROWS, "set_rows", COUNTER, "rows read into key sets")                                    \
    X(POINT_QUERIES, "point_queries", COUNTER, "single names asked of a registry")                 \
    X(LIST_PAGES, "list_pages", COUNTER, "pages of buckets' listings asked of origins")              \
    X(ROWS_REFUSED, "rows_refused", COUNTER, "registry rows that were not well-formed")            \
    X(CATALOGUE_RESETS, "catalogue_resets", COUNTER, "times the catalogue was emptied")            \
    X(HOMES_MADE, "homes_made", COUNTER, "homes and group folders made for whom they are named after") \
    X(QUOTA_DENIED, "quota_denied", COUNTER, "changes of files refused as over a limit (EDQUOT)")  \
    X(QUOTA_SOFT_MET, "quota_soft_met", COUNTER, "times that an owner went over a soft limit")     \
    X(LEDGER_CHECKPOINTS, "ledger_checkpoints", COUNTER, "times that usage was written down")      \
    X(LEDGER_MARKS, "ledger_marks", COUNTER, "first changes of idle owners, each a wait for the disk") \
    X(LEDGER_RECOUNTS, "ledger_recounts", COUNTER, "times that usage was counted again")           \
    X(LEDGER_SETTLED_LATE, "ledger_settled_late", COUNTER, "changes that were in work at a death and settled after it") \
    X(FLIGHTS, "flights", GAUGE, "ranges of objects on their way from their origins")              \
    X(FLIGHTS_STARTED, "flights_started", COUNTER, "ranges of objects asked of their origins")     \
    X(FLIGHTS_FAILED, "flights_failed", COUNTER, "ranges of objects that could not be had")        \
    X(FLIGHTS_CANCELLED, "flights_cancelled", COUNTER, "ranges of objects that nobody wanted any more") \
    X(BLOCKS_FROM_MEMORY, "blocks_from_memory", COUNTER, "blocks of objects given from memory")    \
    X(BLOCKS_FROM_DISK, "blocks_from_disk", COUNTER, "blocks of objects given from the cache disk") \
    X(BLOCKS_WAITED, "blocks_waited", COUNTER, "reads of objects that had to wait for an origin")  \
    X(OBJECTS_REPLACED, "objects_replaced", COUNTER, "objects that changed at their origin while in use") \
    X(OBJECTS_AHEAD, "objects_ahead", COUNTER, "objects fetched ahead of who goes through a folder") \
    X(RECALLS, "recalls", GAUGE, "nearline objects that are being brought back")                  \
    X(RECALLS_ASKED, "recalls_asked", COUNTER, "copies of nearline objects asked for")             \
    X(RECALLS_READY, "recalls_ready", COUNTER, "recalled objects that could be read")              \
    X(RECALLS_FAILED, "recalls_failed", COUNTER, "recalls that were refused or came to nothing")   \
    X(OPEN_OBJECTS, "open_objects", GAUGE, "handles of cached objects open now")                   \
    X(STORE_BYTES, "store_bytes", GAUGE, "disk used by cached blocks")                             \
    X(STORE_OBJECTS, "store_objects", GAUGE, "objects of which blocks are cached")                 \
    X(STORE_WRITTEN_BYTES, "store_written_bytes", COUNTER, "bytes of blocks added to the cache")   \
    X(STORE_READ_BYTES, "store_read_bytes", COUNTER, "bytes of blocks read from the cache and checked") \
    X(STORE_CHECKED_BYTES, "store_checked_bytes", COUNTER, "bytes checked before passthrough and by the scrub") \
    X(STORE_BAD_BLOCKS, "store_bad_blocks", COUNTER, "cached blocks that were not what was written") \
    X(STORE_BAD_OBJECTS, "store_bad_objects", COUNTER, "objects whose whole checksum was wrong")   \
    X(STORE_EVICTED_OBJECTS, "store_evicted_objects", COUNTER, "objects evicted from the cache")   \
    X(STORE_EVICTED_BYTES, "store_evicted_bytes", COUNTER, "disk freed by evicting")               \
    X(STORE_REFUSED, "store_refused", COUNTER, "times that something was not cached for lack of room or a failing disk") \
    X(EPOCH_NOTICES, "epoch_notices", COUNTER, "invalidations sent to the kernel")                 \
    X(FETCHES, "fetches", COUNTER, "requests sent to servers, retries counted")                    \
    X(UPLOADS_WHOLE, "uploads_whole", COUNTER, "objects that were written") \
    X(UPLOADS_FAILED, "uploads_failed", COUNTER, "objects that were begun and given up") \
    X(SENT_BYTES, "sent_bytes", COUNTER, "bytes of objects sent to servers") \
    X(FETCHED_BYTES, "fetched_bytes", COUNTER, "bytes of objects and listings received from servers") \
    X(FETCH_FAILURES, "fetch_failures", COUNTER, "requests to servers that failed or were answered by trouble") \
    X(FETCH_RETRIES, "fetch_retries", COUNTER, "requests that were sent again later")              \
    X(FETCH_RACES, "fetch_races", COUNTER, "second connections tried beside a stalled one")        \
    X(ENDPOINT_CLOSURES, "endpoint_closures", COUNTER, "times a server that failed was left in peace") \
    X(FETCHES_FLYING, "fetches_flying", GAUGE, "requests on the wire")                             \
    X(FETCHES_WAITING, "fetches_waiting", GAUGE, "requests that wait for a free connection")

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
