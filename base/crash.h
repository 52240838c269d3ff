// SPDX-License-Identifier: BSD-3-Clause
// crash: named points at which a test has the process die, as by kill -9, so that what is left there can be looked at. In
// builds with sanitizers only; in others a point is nothing.
//
// The environment variable BUTLERFS_CRASH_POINTS names a folder. Whoever comes to a point of whose name there is a file in it
// removes that and dies: once for each file, whichever life, whichever thread.
#pragma once
#include "config.h"

#if HAS_CRASH_POINTS
void crash_point(const char *name); // any thread, under any lock
#else
static inline void crash_point(const char *name)
{
    (void)name;
}
#endif
