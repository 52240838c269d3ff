// SPDX-License-Identifier: BSD-3-Clause
// open: a repository over a registry of the caller's making, for tests; meta's own.
#pragma once
#include "meta/library.h"

// As repository_open; takes `config`, whatever it answers. `opener` is called once per librarian.
int repository_open_with(const struct repository_options *o, struct repository_config *config,
                         registry_opener *opener, struct repository **ret_repository,
                         char **ret_why);
