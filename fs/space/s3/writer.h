// SPDX-License-Identifier: BSD-3-Clause
// writer: what can be learnt of a process that writes, by /proc: fs/space/s3's own. Pids are as the kernel gives them with
// requests: of threads; 0: of a process that can't be seen from here, of which nothing is known.
#pragma once
#include <stdbool.h>
#include <sys/types.h>

pid_t writer_process(pid_t thread); // the process of a thread, or `thread` where that isn't known
// It is ending because of a signal: what it had open is not as it wanted it.
bool writer_was_killed(pid_t thread);
