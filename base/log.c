// SPDX-License-Identifier: BSD-3-Clause
// log: a line is put together on the stack and leaves in one write(2), so that threads need no lock
// and lines don't mix.
// 1. No memory is allocated and errno is kept: a line can be written from any error path.
// 2. What was formatted is cleaned afterwards, so that no argument can bring in a control byte.
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

#define LOG_LINE_BYTES 4096 // PIPE_BUF: a write of this size to a pipe is not torn

static _Atomic int log_level_now = LOG_LEVEL_INFO;
static _Atomic int log_target_now = LOG_TO_STDERR;
static char log_program[64] = "butlerfs"; // changed by log_open only, before there are threads
static _Thread_local uint64_t log_request;

static const struct {
    const char *name;
    int priority;
} log_levels[] = {
    [LOG_LEVEL_ERROR] = {"error", LOG_ERR},
    [LOG_LEVEL_WARN] = {"warn", LOG_WARNING},
    [LOG_LEVEL_INFO] = {"info", LOG_INFO},
    [LOG_LEVEL_DEBUG] = {"debug", LOG_DEBUG},
};

void log_open(enum log_target target, const char *program)
{
    snprintf(log_program, sizeof(log_program), "%s", program);
    if (target == LOG_TO_SYSTEM)
        openlog(log_program, LOG_PID, LOG_DAEMON); // keeps the pointer: log_program is static
    atomic_store(&log_target_now, target);
}

void log_level_set(enum log_level level)
{
    check((unsigned)level <= LOG_LEVEL_DEBUG);
    atomic_store_explicit(&log_level_now, level, memory_order_relaxed);
}

enum log_level log_level_get(void)
{
    return atomic_load_explicit(&log_level_now, memory_order_relaxed);
}

int log_level_parse(const char *name, enum log_level *ret_level)
{
    for (int level = LOG_LEVEL_ERROR; level <= LOG_LEVEL_DEBUG; level++)
        if (strcmp(name, log_levels[level].name) == 0) {
            *ret_level = level;
            return 0;
        }
    return -EINVAL;
}

const char *log_level_name(enum log_level level)
{
    check((unsigned)level <= LOG_LEVEL_DEBUG);
    return log_levels[level].name;
}

void log_request_set(uint64_t request_id)
{
    log_request = request_id;
}

uint64_t log_request_get(void)
{
    return log_request;
}

// Everything a terminal or a reader of lines could take for more than text: C0, DEL and C1 (which
// in UTF-8 is C2 80 .. C2 9F).
static void log_clean(char *message)
{
    for (unsigned char *c = (unsigned char *)message; *c; c++) {
        if (*c < 0x20 || *c == 0x7f)
            *c = '?';
        else if (*c == 0xc2 && c[1] >= 0x80 && c[1] <= 0x9f)
            c[0] = c[1] = '?';
    }
}

// "2026-11-24T22:49:08.123Z butlerfs[42] ": returns its length.
static size_t log_stamp(char *line, size_t room)
{
    int64_t now = clock_unix_ns();
    time_t seconds = now / NS_PER_S;
    struct tm utc;
    gmtime_r(&seconds, &utc);
    int n = snprintf(line, room, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ %s[%d] ", utc.tm_year + 1900,
                     utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec,
                     (int)(now % NS_PER_S / NS_PER_MS), log_program, (int)getpid());
    return n > 0 && (size_t)n < room ? (size_t)n : 0;
}

static size_t log_subject(char *line, size_t room, enum log_level level)
{
    int n = log_request ? snprintf(line, room, "%s r=%llu: ", log_levels[level].name,
                                   (unsigned long long)log_request)
                        : snprintf(line, room, "%s: ", log_levels[level].name);
    return n > 0 && (size_t)n < room ? (size_t)n : 0;
}

// errno must still be the caller's when the message is formatted (%m).
__attribute__((format(printf, 3, 0))) static size_t
log_message(char *line, size_t room, const char *format, va_list args)
{
    int n = vsnprintf(line, room, format, args);
    if (n < 0)
        n = snprintf(line, room, "(message that cannot be formatted)");
    size_t size = (size_t)n;
    if (size >= room) {
        size = room - 1;
        memcpy(line + size - 3, "...", 3);
    }
    log_clean(line);
    return size;
}

void log_write(enum log_level level, const char *format, ...)
{
    if ((int)level > atomic_load_explicit(&log_level_now, memory_order_relaxed))
        return;
    int saved = errno;
    bool to_system = atomic_load(&log_target_now) == LOG_TO_SYSTEM;
    char line[LOG_LINE_BYTES];
    size_t room = sizeof(line) - 1; // for the line's end
    size_t size = to_system ? 0 : log_stamp(line, room);
    size += log_subject(line + size, room - size, level);
    va_list args;
    va_start(args, format);
    errno = saved;
    size += log_message(line + size, room - size, format, args);
    va_end(args);
    if (to_system) {
        syslog(log_levels[level].priority, "%s", line);
    } else {
        line[size++] = '\n';
        ssize_t ignored = write(STDERR_FILENO, line, size); // nobody is left to be told
        (void)ignored;
    }
    errno = saved;
}

_Noreturn void log_check_failed(const char *condition, const char *file, int line)
{
    log_write(LOG_LEVEL_ERROR, "%s:%d: check failed: %s", file, line, condition);
    abort();
}
