// SPDX-License-Identifier: BSD-3-Clause
// verb_home: the administrators' verb that makes a home or a group's folder (status.c's table has it).
#pragma once
#include "base/doc.h"

// {"name", "space"}: in the space of that name; without one, in the only one that makes folders.
int verb_home_create(const struct doc *request, struct doc *reply, void *context);
