// SPDX-License-Identifier: BSD-3-Clause
// ranges: numbers of users or groups, as an administrator writes them: "1000-59999:70000".
#pragma once
#include <stddef.h>
#include <stdint.h>

struct range {
    uint32_t first, last;
};

#define RANGES_MAX 64

// How many; -EINVAL. ret_ranges may be NULL.
int ranges_parse(const char *text, struct range ret_ranges[RANGES_MAX]);
