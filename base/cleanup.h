// SPDX-License-Identifier: BSD-3-Clause
// cleanup: release by scope. `cleanup(f)` names a function that takes a pointer to the variable.
// `take(x)` hands a resource on and leaves the variable empty, so that the scope releases nothing.
#pragma once
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define cleanup(f) __attribute__((__cleanup__(f)))

static inline void cleanup_free(void *p)
{
    free(*(void **)p);
}

static inline void cleanup_close(int *fd)
{
    if (*fd >= 0) {
        int saved = errno;
        close(*fd);
        errno = saved;
    }
}

#define take(x)                                                                                    \
    ({                                                                                             \
        __typeof__(x) taken_ = (x);                                                                \
        (x) = NULL;                                                                                \
        taken_;                                                                                    \
    })

static inline int take_fd(int *fd)
{
    int taken = *fd;
    *fd = -1;
    return taken;
}

#define define_cleanup(type, function)                                                             \
    static inline void cleanup_##function(type *p)                                                 \
    {                                                                                              \
        if (*p)                                                                                    \
            function(*p);                                                                          \
    }                                                                                              \
    struct cleanup_##function##_needs_semicolon
