// SPDX-License-Identifier: BSD-3-Clause
// recall: what becomes of nearline objects, by what their space allows; the users' verb about it.
#pragma once
#include "base/doc.h"
#include "cache/recall.h"
#include "fs/op.h"
#include "fs/xattr.h"

// For a read (or an open that needs all bytes) that was answered -EAGAIN by the cache. 0: they are back, try again.
// -EINPROGRESS: to wait for, with op->source set; when it runs again, op->source_error may be -EAGAIN. Else the answer: -EAGAIN
// it is under way, or too many are; -EREMOTEIO it is nearline and must be asked for by name; -EACCES, ... the origin's.
int recall_for_reader(struct op *op, struct cached *cached);
// Adds `locality` of an object, if it is wanted. -EINPROGRESS, -errno.
int recall_add_locality(struct op *op, const struct object *object, struct xattrs *x);
// {"days"}: asks for what the caller has open, or tells how far that is.
int verb_recall(struct op *op, const struct doc *request, struct doc *reply);
