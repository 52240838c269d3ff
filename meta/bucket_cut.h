// SPDX-License-Identifier: BSD-3-Clause
// bucket_cut: a listing without delimiter, cut into its folders; bucket_walk.c's own. Keys come in order, so the keys of a folder
// come one after the other, and it is whole when the first of another one comes.
//
//   cutter_begin ──▶ cutter_page … ──▶ cutter_end | cutter_release
#pragma once
#include "meta/bucket_library.h"
#include "meta/bucket_order.h"

#define CUTTER_DEPTH_MAX 64

struct cutter_level {
    size_t prefix_bytes; // of `prefix`, its '/' included
    uint64_t epoch;
    struct catalogue_load *load; // NULL: it is not kept
};

struct cutter {
    struct bucket *b;
    struct buffer prefix; // of the deepest level
    struct cutter_level levels[CUTTER_DEPTH_MAX];
    size_t depth;
    uint64_t epoch;         // of the page
    struct key_order order;
    uint64_t keys, folders; // seen, right below the first level
};

// `is_part`: not all that is below the prefix will come, and so what is right in it isn't kept; `epoch`: the first page's.
void cutter_begin(struct cutter *c, struct bucket *b, struct text prefix, bool is_part, uint64_t epoch);
// Takes the page's keys from `begin` to before `end` (empty: no bound). *ret_is_past: `end` was reached. Folders that became whole
// are stored. -EILSEQ: its keys, or those before it, have no order, and none of it is stored; -E2BIG: too deep to be cut; -EBADMSG: it isn't below what was asked for.
int cutter_page(struct cutter *c, const struct bucket_page *page, uint64_t epoch, struct text begin, struct text end,
                bool *ret_is_past);
int cutter_end(struct cutter *c); // all came: what is begun is whole
void cutter_release(struct cutter *c); // what is begun is forgotten. May be called at any time, and again
