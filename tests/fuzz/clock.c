// SPDX-License-Identifier: BSD-3-Clause
// Any bytes read as a list of leap seconds, as a duration and as a size; any 8 bytes as a time,
// which must come back from TAI.
// Found planted: a number of the list without its bound (signed overflow; 1 s).
#include <stdint.h>
#include <stdlib.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/leap.h"
#include "base/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_list(struct text list)
{
    struct leap_table table;
    if (leap_parse(list, &table) < 0)
        return;
    check(table.count > 0 && table.count <= LEAP_ROWS_MAX);
    for (int i = 1; i < table.count; i++)
        check(table.rows[i].unix_s > table.rows[i - 1].unix_s);
}

static void try_time(int64_t unix_ns)
{
    char iso[CLOCK_ISO_BYTES];
    clock_format_iso(unix_ns, iso);
    int64_t tai_ns = tai_from_unix_ns(unix_ns);
    check(tai_ns == INT64_MAX || tai_to_unix_ns(tai_ns) == unix_ns);
    check(tai_to_unix_ns(unix_ns) <= unix_ns);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_list((struct text){(const char *)data, size});
    cleanup(cleanup_free) char *text = memory_copy(data, size);
    int64_t value = -1;
    check(clock_parse_duration(text, &value) < 0 ? value == -1 : value >= 0);
    value = -1;
    check(clock_parse_size(text, &value) < 0 ? value == -1 : value >= 0);
    if (size >= sizeof(value)) {
        memcpy(&value, data, sizeof(value));
        try_time(value);
    }
    return 0;
}
