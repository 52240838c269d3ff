// SPDX-License-Identifier: BSD-3-Clause
// verb_cache: the administrators' verbs about what is kept (status.c's table has them).
#pragma once
#include "base/doc.h"

int verb_cache_stats(const struct doc *request, struct doc *reply, void *context);
// {"cursor", "max"}: what is kept, "next" is the cursor to go on with; 0: that was all.
int verb_cache_list(const struct doc *request, struct doc *reply, void *context);
// Begins to read and check everything, or tells how far it is.
int verb_cache_verify(const struct doc *request, struct doc *reply, void *context);
