// SPDX-License-Identifier: BSD-3-Clause
// options_daemon: from resolved options to the daemon's arguments and back; options.c's own.
//     --daemon [--life=N --last-signal=N] [--foreground] {--set NAME[=VALUE]} {--space NAME
//     {--set NAME=VALUE}} -- SOURCE MOUNTPOINT
// Arguments hold any bytes, so nothing is escaped. The space with the empty name is the root.
#pragma once
#include "fs/options.h"

int options_parse_daemon(int argc, char **argv, struct options **ret_options, char **ret_why);
