// SPDX-License-Identifier: BSD-3-Clause
// ledger_set: a set of inodes, a bit each in pieces of 512: in order they take little. Not thread-safe; zeroed is empty.
#pragma once
#include "base/table.h"
#include "meta/ledger.h"

struct ledger_set {
    struct table chunks;
};

bool ledger_set_add(struct ledger_set *s, struct ledger_file f); // whether it was in it before
bool ledger_set_has(const struct ledger_set *s, struct ledger_file f);
void ledger_set_remove(struct ledger_set *s, struct ledger_file f);
void ledger_set_release(struct ledger_set *s);
