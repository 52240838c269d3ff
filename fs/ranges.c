// SPDX-License-Identifier: BSD-3-Clause
// ranges.c: see ranges.h.
#include "fs/ranges.h"

#include <errno.h>

// Digits of a number below UINT32_MAX, which is nobody.
static int parse_id(const char **text, uint32_t *ret_id)
{
    uint64_t n = 0;
    const char *at = *text;
    while (*at >= '0' && *at <= '9') {
        n = n * 10 + (uint64_t)(*at++ - '0');
        if (n >= UINT32_MAX)
            return -EINVAL;
    }
    if (at == *text)
        return -EINVAL;
    *text = at;
    *ret_id = (uint32_t)n;
    return 0;
}

int ranges_parse(const char *text, struct range ret_ranges[RANGES_MAX])
{
    for (int count = 0; count < RANGES_MAX; text++) {
        struct range r;
        if (parse_id(&text, &r.first) < 0)
            return -EINVAL;
        r.last = r.first;
        if (*text == '-' && (text++, parse_id(&text, &r.last) < 0))
            return -EINVAL;
        if (r.first > r.last)
            return -EINVAL;
        if (ret_ranges)
            ret_ranges[count] = r;
        count++;
        if (*text == '\0')
            return count;
        if (*text != ':')
            return -EINVAL;
    }
    return -EINVAL;
}
