// SPDX-License-Identifier: BSD-3-Clause
// ahead: files of a series fetched before they are opened, by a thread of its own. The engine's own; without any
// lock of it.
#pragma once
#include "cache/entry.h"

struct ahead *ahead_new(struct cache *c);
void ahead_free(struct ahead *a); // ends the thread
void ahead_closed(struct ahead *a, const struct cached *h);
