// SPDX-License-Identifier: BSD-3-Clause
// verb_object: users' verbs about the object behind an opened file (status.c's table has them). That it is
// open says that the caller may read it.
#pragma once
#include "base/doc.h"
#include "fs/op.h"

bool verb_is_from_administrator(const struct op *op); // root, or who mounted
// {"expires_s"}: a presigned URL.
int verb_url(struct op *op, const struct doc *request, struct doc *reply);
// {"pin"}: brings in what the caller has open, as long as he has; tells how far it is.
// To pin is for root and who mounted.
int verb_warm(struct op *op, const struct doc *request, struct doc *reply);
int verb_evict(struct op *op, const struct doc *request, struct doc *reply);
