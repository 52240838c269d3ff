// SPDX-License-Identifier: BSD-3-Clause
// verb_quota: quotas: limits set by administrators, usage told to everybody about himself (status.c's table has them).
#pragma once
#include "fs/control.h"

// {"kind", "id", limits as in meta/ledger_text.h}; "is_cleared": no limits of its own any more; of a tree "path".
int verb_quota_set(const struct doc *request, struct doc *reply, void *context);
// {"owners": [...]}: all for administrators; for others themselves, their groups and the defaults.
int verb_quota_report(const struct control_caller *caller, const struct doc *request, struct doc *reply, void *context);
// {"begin", "repair"}: begins to count again, or tells how far that is: "is_running", then "differences".
int verb_quota_check(const struct doc *request, struct doc *reply, void *context);
// The number of the opened folder as a tree.
int verb_quota_tree(struct op *op, const struct doc *request, struct doc *reply);
