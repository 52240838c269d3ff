// SPDX-License-Identifier: BSD-3-Clause
// privilege: what the daemon may do after start-up. Each capability it keeps says why.
#pragma once
#include <stdbool.h>

// Keeps only the list in privilege.c (effective, permitted; bounding set and no_new_privs too);
// core dumps off. Call before threads start. -errno.
int privilege_reduce(void);
// In the initial user namespace with CAP_SYS_ADMIN: passthrough is possible.
bool privilege_can_passthrough(void);
bool privilege_can_change_ids(void);
