// SPDX-License-Identifier: BSD-3-Clause
// answers: what is kept in memory so that who asked for it gets it and doesn't ask for ever: the
// last answers that the catalogue does not keep (what was found at a time: there would be no end of
// them) or could not (its disk is full), and presences. Any thread; its own lock.
#pragma once
#include "base/lock.h"
#include "base/table.h"
#include "meta/catalogue.h"

struct want;

#define ANSWERS_KEPT 4096

struct answer {
    uint8_t of[16]; // hash of what was wanted
    uint64_t epoch; // 0: none
    enum row_kind kind;
    struct buffer record;
};

#define ANSWERS_ALL_TYPES INT64_MIN

// Whether a collection has a dataset type, as a librarian found it.
struct presence_answer {
    int64_t collection_id;
    int64_t type_id; // ANSWERS_ALL_TYPES: all that it may hold were looked for
    uint64_t epoch;
    bool is_present;
};

struct answers {
    struct lock lock;
    struct answer *all; // ANSWERS_KEPT of them once there is one
    uint32_t next;
    struct table places; // in `all`, + 1, by `of`
    struct table presences; // struct presence_answer by its ids
};

void answers_init(struct answers *a);
void answers_release(struct answers *a);
// `record` is copied.
void answers_put(struct answers *a, const struct want *w, uint64_t epoch, enum row_kind kind,
                 struct text record);
// false: none of w->fresh or later. *ret_record is appended to.
bool answers_get(struct answers *a, const struct want *w, enum row_kind *ret_kind,
                 struct buffer *ret_record);

// Presence is found in a snapshot, but who asked may hold an older one, or be given a newer: so it
// is kept here with its epoch too. false: not known for `fresh`.
void answers_put_presence(struct answers *a, const struct presence_answer *p);
bool answers_get_presence(struct answers *a, int64_t collection_id, int64_t type_id, uint64_t fresh,
                          bool *ret_is_present);
