// SPDX-License-Identifier: BSD-3-Clause
// leap: reads tzdata's leap-seconds.list. The file is the administrator's, but a wrong difference
// would shift every time in the registry unseen, so it is checked like any input:
// 1. The first row is 1972-01-01, 10 s; each later row is later and differs by one second.
// 2. A file that ends before the built-in table does is older than this program and is not used.
#include "base/leap.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"

#define NTP_TO_UNIX_S INT64_C(2208988800) // 1900-01-01 to 1970-01-01
#define UNIX_1972_S INT64_C(63072000)
#define NTP_LAST_S INT64_C(99999999999) // the year 5068: a bound against overflow, not a prophecy
#define LEAP_FILE_BYTES 65536

static const struct leap_row leap_rows[] = {
    {63072000, 10},   {78796800, 11},   {94694400, 12},   {126230400, 13},  {157766400, 14},
    {189302400, 15},  {220924800, 16},  {252460800, 17},  {283996800, 18},  {315532800, 19},
    {362793600, 20},  {394329600, 21},  {425865600, 22},  {489024000, 23},  {567993600, 24},
    {631152000, 25},  {662688000, 26},  {709948800, 27},  {741484800, 28},  {773020800, 29},
    {820454400, 30},  {867715200, 31},  {915148800, 32},  {1136073600, 33}, {1230768000, 34},
    {1341100800, 35}, {1435708800, 36}, {1483228800, 37},
};

void leap_builtin(struct leap_table *ret_table)
{
    ret_table->count = sizeof(leap_rows) / sizeof(*leap_rows);
    memcpy(ret_table->rows, leap_rows, sizeof(leap_rows));
}

static void leap_skip_blanks(struct text *t)
{
    while (t->size_bytes && (*t->data == ' ' || *t->data == '\t' || *t->data == '\r'))
        *t = text_slice(*t, 1, t->size_bytes);
}

// An unsigned number of at most `most`, followed by a blank or the end.
static int leap_number(struct text *t, int64_t most, int64_t *ret_number)
{
    int64_t number = 0;
    size_t digits = 0;
    for (; digits < t->size_bytes; digits++) {
        char c = t->data[digits];
        if (c < '0' || c > '9')
            break;
        number = number * 10 + (c - '0');
        if (number > most)
            return -EINVAL;
    }
    if (!digits)
        return -EINVAL;
    *t = text_slice(*t, digits, t->size_bytes);
    if (t->size_bytes && *t->data != ' ' && *t->data != '\t' && *t->data != '\r')
        return -EINVAL;
    leap_skip_blanks(t);
    *ret_number = number;
    return 0;
}

static bool leap_follows(const struct leap_table *t, struct leap_row row)
{
    if (t->count == 0)
        return row.unix_s == UNIX_1972_S && row.offset_s == 10;
    struct leap_row last = t->rows[t->count - 1];
    int32_t change = row.offset_s - last.offset_s;
    return row.unix_s > last.unix_s && (change == 1 || change == -1);
}

static int leap_parse_line(struct text line, struct leap_table *t)
{
    const char *comment = line.size_bytes ? memchr(line.data, '#', line.size_bytes) : NULL;
    if (comment)
        line = text_slice(line, 0, (size_t)(comment - line.data));
    leap_skip_blanks(&line);
    if (!line.size_bytes)
        return 0;
    int64_t ntp_s, offset_s;
    if (leap_number(&line, NTP_LAST_S, &ntp_s) < 0 || leap_number(&line, 1000, &offset_s) < 0 ||
        line.size_bytes)
        return -EINVAL;
    struct leap_row row = {ntp_s - NTP_TO_UNIX_S, (int32_t)offset_s};
    if (t->count == LEAP_ROWS_MAX || !leap_follows(t, row))
        return -EINVAL;
    t->rows[t->count++] = row;
    return 0;
}

int leap_parse(struct text list, struct leap_table *ret_table)
{
    struct leap_table table = {.count = 0};
    while (list.size_bytes) {
        const char *end = memchr(list.data, '\n', list.size_bytes);
        size_t length = end ? (size_t)(end - list.data) : list.size_bytes;
        if (leap_parse_line(text_slice(list, 0, length), &table) < 0)
            return -EINVAL;
        list = text_slice(list, end ? length + 1 : length, list.size_bytes);
    }
    if (!table.count)
        return -EINVAL;
    *ret_table = table;
    return 0;
}

// The whole file into `to`: its size, -errno, or -E2BIG when it doesn't fit.
static ssize_t leap_read_file(const char *path, char *to, size_t room)
{
    cleanup(cleanup_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return -errno;
    size_t size = 0;
    while (size < room) {
        ssize_t n = read(fd, to + size, room - size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return (ssize_t)size;
        size += (size_t)n;
    }
    return -E2BIG;
}

void leap_load(const char *path, struct leap_table *ret_table)
{
    leap_builtin(ret_table);
    cleanup(cleanup_free) char *content = malloc(LEAP_FILE_BYTES);
    ssize_t size = content ? leap_read_file(path, content, LEAP_FILE_BYTES) : -ENOMEM;
    if (size == -ENOENT)
        return; // a system without tzdata: what the built-in table is for
    struct leap_table read;
    int error = size < 0 ? (int)size : leap_parse((struct text){content, (size_t)size}, &read);
    if (error < 0) {
        errno = -error;
        log_warn("leap seconds: %s cannot be used, the built-in table is: %m", path);
        return;
    }
    const struct leap_row *newest = &read.rows[read.count - 1];
    if (newest->unix_s >= ret_table->rows[ret_table->count - 1].unix_s)
        *ret_table = read;
}
