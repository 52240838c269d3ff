// SPDX-License-Identifier: BSD-3-Clause
// progress: how far a long work is, for people: on a terminal one line that is written over, with a bar, the share, the
// rate and how long it will still take; else a plain line now and then; both on standard error, one line at the end.
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct progress {
    bool is_quiet;
    const char *what;        // "files here"
    uint64_t all_files;      // 0: unknown
    int64_t all_bytes;       // 0: unknown
    // Its own.
    bool is_terminal;
    int64_t begun_ns, shown_ns, shown_bytes;
    double rate;             // bytes/s of late
};

struct progress_state {
    uint64_t files, failed;
    int64_t bytes;
};

void progress_begin(struct progress *p);
// Shows it if it is time to.
void progress_show(struct progress *p, const struct progress_state *s);
// Before another line is written.
void progress_clear(const struct progress *p);
void progress_end(struct progress *p, const struct progress_state *s);
