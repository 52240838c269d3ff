// SPDX-License-Identifier: BSD-3-Clause
// privilege: what the daemon may do after start-up. Each capability it keeps says why.
#pragma once
#include <stdbool.h>

// Keeps only the list in privilege.c (effective, permitted; bounding set and no_new_privs too);
// core dumps off. Call before threads start. `for_writing`: what home and group spaces need stays
// permitted, for threads that call privilege_raise_thread. -errno.
int privilege_reduce(bool for_writing);
// All that is permitted becomes effective, on this thread. -errno.
int privilege_raise_thread(void);
// In the initial user namespace with CAP_SYS_ADMIN: passthrough is possible.
bool privilege_can_passthrough(void);
bool privilege_can_change_ids(void);
