// SPDX-License-Identifier: BSD-3-Clause
// config_locate: which butler.yaml is meant; config*.c's own.
#pragma once
#include "meta/config.h"

// Finds its butler.yaml: fills source, yaml_path, owner, group and mode of `c`.
int config_locate(struct repository_config *c, const char *source, const struct repository_index *index,
                  char **ret_why);

// Puts the reason into *ret_why, as one line, and answers `error`.
int config_refuse(int error, char **ret_why, const char *format, ...) __attribute__((format(printf, 3, 4)));
bool config_has_nul(struct text t);
