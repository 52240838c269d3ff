// SPDX-License-Identifier: BSD-3-Clause
// log: one line an event, to stderr (a process in the foreground) or to the system's log through
// syslog(3), which journald reads. Each line carries the id of the request it is about, when the
// thread has one (log_request_set), so that one user's trouble can be followed through threads.
// The level may be changed at any time by any thread. Control bytes in a message become `?`: what
// comes from outside can't forge a line. A line is one write(2) of at most 4096 bytes (a longer
// message is cut and ends in "..."). Any thread; errno is kept.
#pragma once
#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };
enum log_target { LOG_TO_STDERR, LOG_TO_SYSTEM };

void log_open(enum log_target target, const char *program); // default before: stderr
void log_level_set(enum log_level level);                    // default info
enum log_level log_level_get(void);
int log_level_parse(const char *name, enum log_level *ret_level); // error warn info debug; -EINVAL
const char *log_level_name(enum log_level level);

// The id of the request this thread works on; 0: none.
void log_request_set(uint64_t request_id);
uint64_t log_request_get(void);

void log_write(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)                                                                             \
    do {                                                                                           \
        if (log_level_get() >= LOG_LEVEL_DEBUG)                                                    \
            log_write(LOG_LEVEL_DEBUG, __VA_ARGS__);                                               \
    } while (0)

// A programming error: says what and where, then aborts; also in release. Never for outside input.
#define check(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            log_check_failed(#condition, __FILE__, __LINE__);                                      \
    } while (0)
_Noreturn void log_check_failed(const char *condition, const char *file, int line);
