// SPDX-License-Identifier: BSD-3-Clause
// why: the one clear line that goes with an error on its way up to whoever tells the user.
#pragma once
#include <stdarg.h>

#include "base/buffer.h"

// Answers `error`, with *ret_why the formatted line (the caller of the caller frees it).
static inline int __attribute__((format(printf, 3, 4)))
why(char **ret_why, int error, const char *format, ...)
{
    struct buffer line = {};
    va_list args;
    va_start(args, format);
    buffer_vformat(&line, format, args);
    va_end(args);
    *ret_why = buffer_steal(&line);
    return error;
}
