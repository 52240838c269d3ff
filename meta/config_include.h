// SPDX-License-Identifier: BSD-3-Clause
// config_include: a butler.yaml with the files that it includes, put together as the client does.
// For config.c only.
#pragma once
#include <sys/types.h>

#include "base/doc.h"

// Puts what `doc` (read from `yaml_path`, whose owner is `owner`) includes where it is included.
// Blocks on the file system. -errno with *ret_why: one line, allocated; begins with `source`.
int config_include(struct doc *doc, const char *source, const char *yaml_path, uid_t owner,
                   char **ret_why);
