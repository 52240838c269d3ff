// SPDX-License-Identifier: BSD-3-Clause
// ledger_text: limits and usage as people and programs say them. Maps of JSON; sizes "40G", "1.5T", numbers of files
// "100000", "200k" (thousands: k, M, G), times "7d"; "none" or 0 is no limit. What comes from outside is checked.
#pragma once
#include "base/doc.h"
#include "meta/ledger.h"

int ledger_kind_parse(struct text word, enum ledger_kind *ret_kind); // user group tree; -EINVAL
const char *ledger_kind_name(enum ledger_kind kind);
// A number or "default". -EINVAL, also of what is no id of that kind.
int ledger_id_parse(const struct doc *id, enum ledger_kind kind, uint64_t *ret_id);
// The keys that are there (soft_bytes hard_bytes soft_files hard_files grace, as text or numbers, grace's in seconds)
// change *limits; the others leave it. -EINVAL with one line; nothing is changed.
int ledger_limits_parse(const struct doc *from, struct ledger_limits *limits, char **ret_why);
// kind, id, limits, usage as a map that the above read.
struct doc *ledger_usage_doc(const struct ledger_usage *u, int64_t now_unix_ns);
struct doc *ledger_difference_doc(const struct ledger_difference *d);
