// SPDX-License-Identifier: BSD-3-Clause
// kept.c: see kept.h. A text is a file, named by the hash of its name, written beside its place and renamed: it is there whole,
// or as it was.
#include "fs/kept.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/hash.h"

#define KEPT_MAGIC UINT64_C(0x317470656b667562) // "bufkept1"
#define KEPT_VERSION 1

struct kept_head {
    uint64_t magic;
    uint32_t version;
    uint32_t name_bytes;
    uint64_t length; // of all of it
    int64_t unix_ns;
    uint64_t hash;   // of what follows (the name, the text), seeded with the time
};

static int path_of(const char *folder, struct text name, const char *suffix, char ret_path[PATH_MAX])
{
    int n = snprintf(ret_path, PATH_MAX, "%s/%016" PRIx64 "%s", folder, hash64(name.data, name.size_bytes), suffix);
    return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

static int write_file(const char *path, const struct buffer *data)
{
    unlink(path); // what an earlier life left half done, whoever may read that
    cleanup(cleanup_close) int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    ssize_t n = write(fd, data->data, data->size_bytes);
    return n == (ssize_t)data->size_bytes ? 0 : n < 0 ? -errno : -ENOSPC;
}

int kept_write(const char *folder, struct text name, struct text text)
{
    char path[PATH_MAX], beside[PATH_MAX];
    BUFFER_CLEANUP data = {0};
    struct kept_head head = {
        .magic = KEPT_MAGIC,
        .version = KEPT_VERSION,
        .name_bytes = (uint32_t)name.size_bytes,
        .length = sizeof head + name.size_bytes + text.size_bytes,
        .unix_ns = clock_unix_ns(),
    };
    if (head.length > KEPT_BYTES_MAX)
        return -EFBIG;
    buffer_append(&data, &head, sizeof head);
    buffer_append_text(&data, name);
    buffer_append_text(&data, text);
    head.hash = hash64_seed(data.data + sizeof head, data.size_bytes - sizeof head, (uint64_t)head.unix_ns);
    memcpy(data.data, &head, sizeof head);
    if (mkdir(folder, 0700) < 0 && errno != EEXIST)
        return -errno;
    int error = path_of(folder, name, "", path);
    if (!error)
        error = path_of(folder, name, ".new", beside);
    if (!error)
        error = write_file(beside, &data);
    if (!error && rename(beside, path) < 0)
        error = -errno;
    return error;
}

// Ours alone to read and to write, and of a size that can be.
static int check_file(int fd, size_t *ret_size_bytes)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || st.st_mode & 077)
        return -EPERM;
    if (st.st_size < (off_t)sizeof(struct kept_head) || st.st_size > (off_t)KEPT_BYTES_MAX)
        return -EBADMSG;
    *ret_size_bytes = (size_t)st.st_size;
    return 0;
}

static int check_data(struct text data, struct text name, struct kept_head *ret_head)
{
    struct kept_head head;
    memcpy(&head, data.data, sizeof head);
    struct text rest = text_slice(data, sizeof head, data.size_bytes);
    bool is_whole = head.magic == KEPT_MAGIC && head.version == KEPT_VERSION && head.length == data.size_bytes &&
                    head.name_bytes <= rest.size_bytes &&
                    head.hash == hash64_seed(rest.data, rest.size_bytes, (uint64_t)head.unix_ns);
    if (!is_whole || !text_equal(text_slice(rest, 0, head.name_bytes), name))
        return -EBADMSG;
    *ret_head = head;
    return 0;
}

int kept_read(const char *folder, struct text name, struct buffer *to, int64_t *ret_unix_ns)
{
    char path[PATH_MAX];
    size_t size_bytes = 0;
    struct kept_head head;
    int error = path_of(folder, name, "", path);
    if (error)
        return error;
    cleanup(cleanup_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    error = fd < 0 ? -errno : check_file(fd, &size_bytes);
    if (error)
        return error;
    cleanup(cleanup_free) char *data = memory_new(size_bytes);
    ssize_t n = read(fd, data, size_bytes);
    if (n != (ssize_t)size_bytes)
        return n < 0 ? -errno : -EBADMSG;
    struct text all = {data, size_bytes};
    error = check_data(all, name, &head);
    if (error)
        return error;
    buffer_append_text(to, text_slice(all, sizeof head + head.name_bytes, size_bytes));
    *ret_unix_ns = head.unix_ns;
    return 0;
}
