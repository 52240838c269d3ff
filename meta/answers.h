// SPDX-License-Identifier: BSD-3-Clause
// answers: the last few answers that the catalogue could not keep (its disk is full), in memory, so
// that who asked gets them and doesn't ask for ever. Any thread; its own lock.
#pragma once
#include "base/lock.h"
#include "meta/catalogue.h"

struct want;

#define ANSWERS_KEPT 1024

struct answer {
    uint8_t of[16]; // hash of what was wanted
    uint64_t epoch; // 0: none
    enum row_kind kind;
    struct buffer record;
};

struct answers {
    struct lock lock;
    struct answer *all; // ANSWERS_KEPT of them once there is one
    uint32_t next;
};

void answers_init(struct answers *a);
void answers_release(struct answers *a);
// `record` is copied.
void answers_put(struct answers *a, const struct want *w, uint64_t epoch, enum row_kind kind,
                 struct text record);
// false: none of w->fresh or later. *ret_record is appended to.
bool answers_get(struct answers *a, const struct want *w, enum row_kind *ret_kind,
                 struct buffer *ret_record);
