// SPDX-License-Identifier: BSD-3-Clause
// writer.c: see writer.h.
#include "fs/space/s3/writer.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"

// Of the kernel's flags of a task, which /proc/PID/stat shows.
#define TASK_IS_EXITING 0x4UL
#define TASK_HAD_A_SIGNAL 0x400UL // that ends a process

#define STAT_FLAGS 9
#define STAT_EXIT_CODE 52

static bool read_proc(pid_t pid, const char *what, char *text, size_t room)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, what);
    cleanup(cleanup_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, room - 1);
    text[n > 0 ? n : 0] = 0;
    return n > 0;
}

pid_t writer_process(pid_t thread)
{
    char text[4096];
    const char *at = thread > 0 && read_proc(thread, "status", text, sizeof text) ? strstr(text, "\nTgid:") : NULL;
    return at ? (pid_t)strtol(at + strlen("\nTgid:"), NULL, 10) : thread;
}

// The exit code is shown only to who may look into the process (else it is 0): then the signal that it had must do, which
// the other threads of a process that ends by itself have, too.
bool writer_was_killed(pid_t thread)
{
    char text[4096];
    unsigned long flags = 0, exit_code = 0;
    if (thread <= 0 || !read_proc(thread, "stat", text, sizeof text))
        return false;
    char *at = strrchr(text, ')'), *next = NULL; // the name before it may hold anything
    if (!at)
        return false;
    int number = 3;
    for (char *word = strtok_r(at + 1, " ", &next); word; word = strtok_r(NULL, " ", &next), number++) {
        if (number == STAT_FLAGS)
            flags = strtoul(word, NULL, 10);
        if (number == STAT_EXIT_CODE)
            exit_code = strtoul(word, NULL, 10);
    }
    if (!(flags & TASK_IS_EXITING))
        return false;
    return exit_code ? exit_code & 0x7f : flags & TASK_HAD_A_SIGNAL;
}
