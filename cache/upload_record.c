// SPDX-License-Identifier: BSD-3-Clause
// upload_record.c: see upload_record.h. A record is written beside its place and renamed: it is there whole, or not.
#include "cache/upload_record.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/log.h"

#define RECORD_MAGIC UINT64_C(0x316f6c7075667562) // "bufuplo1"
#define RECORD_VERSION 1
#define RECORD_BYTES_MAX 16384
#define BEGUN_MAX_NS (INT64_MAX / 2) // so that times near it can be reckoned with

struct record_head {
    uint64_t magic;
    uint32_t version;
    uint32_t length; // of all of it
    int64_t begun_unix_ns;
    uint32_t identity_bytes, key_bytes, upload_bytes, reserved;
};

static int path_of(const char *folder, uint64_t number, const char *suffix, char ret_path[PATH_MAX])
{
    int n = snprintf(ret_path, PATH_MAX, "%s/%016" PRIx64 "%s", folder, number, suffix);
    return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

static int write_file(const char *path, const struct buffer *data)
{
    cleanup(cleanup_close) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    ssize_t n = write(fd, data->data, data->size_bytes);
    return n == (ssize_t)data->size_bytes ? 0 : n < 0 ? -errno : -ENOSPC;
}

int upload_record_write(const char *folder, uint64_t number, const struct upload_record *r)
{
    char path[PATH_MAX], beside[PATH_MAX];
    BUFFER_CLEANUP data = {0};
    struct record_head head = {
        .magic = RECORD_MAGIC,
        .version = RECORD_VERSION,
        .begun_unix_ns = r->begun_unix_ns,
        .identity_bytes = (uint32_t)r->identity.size_bytes,
        .key_bytes = (uint32_t)r->key.size_bytes,
        .upload_bytes = (uint32_t)r->upload.size_bytes,
    };
    head.length = (uint32_t)(sizeof(head) + r->identity.size_bytes + r->key.size_bytes + r->upload.size_bytes);
    buffer_append(&data, &head, sizeof(head));
    buffer_append_text(&data, r->identity);
    buffer_append_text(&data, r->key);
    buffer_append_text(&data, r->upload);
    int error = path_of(folder, number, "", path);
    if (!error)
        error = path_of(folder, number, ".new", beside);
    if (!error)
        error = write_file(beside, &data);
    if (!error && rename(beside, path) < 0)
        error = -errno;
    return error;
}

void upload_record_remove(const char *folder, uint64_t number)
{
    char path[PATH_MAX];
    if (path_of(folder, number, "", path) == 0)
        unlink(path);
}

int upload_record_read(struct text data, struct upload_record *ret_record)
{
    struct record_head head;
    if (data.size_bytes < sizeof(head) || data.size_bytes > RECORD_BYTES_MAX)
        return -EBADMSG;
    memcpy(&head, data.data, sizeof(head));
    uint64_t texts = (uint64_t)head.identity_bytes + head.key_bytes + head.upload_bytes;
    if (head.magic != RECORD_MAGIC || head.version != RECORD_VERSION || head.length != data.size_bytes ||
        texts != data.size_bytes - sizeof(head) || head.begun_unix_ns < 0 || head.begun_unix_ns > BEGUN_MAX_NS)
        return -EBADMSG;
    size_t identity_end = sizeof(head) + head.identity_bytes, key_end = identity_end + head.key_bytes;
    *ret_record = (struct upload_record){
        .identity = text_slice(data, sizeof(head), identity_end),
        .key = text_slice(data, identity_end, key_end),
        .upload = text_slice(data, key_end, data.size_bytes),
        .begun_unix_ns = head.begun_unix_ns,
    };
    return 0;
}

static int read_file(int folder_fd, const char *name, char data[RECORD_BYTES_MAX + 1], struct text *ret_data)
{
    cleanup(cleanup_close) int fd = openat(folder_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    ssize_t n = fd < 0 ? -1 : read(fd, data, RECORD_BYTES_MAX + 1);
    if (n < 0)
        return -errno;
    *ret_data = (struct text){data, (size_t)n};
    return 0;
}

int upload_records(const char *folder, void (*each)(void *context, uint64_t number, const struct upload_record *r),
                   void *context)
{
    DIR *dir = opendir(folder);
    if (!dir)
        return -errno;
    for (struct dirent *d; (d = readdir(dir));) {
        char data[RECORD_BYTES_MAX + 1], *end;
        struct upload_record r;
        struct text text;
        if (d->d_name[0] == '.')
            continue;
        uint64_t number = strtoull(d->d_name, &end, 16);
        bool is_named = !*end;
        int error = is_named ? read_file(dirfd(dir), d->d_name, data, &text) : 0;
        if (error) // it may be whole, and readable for another life
            log_warn("%s/%s can't be read: %s; what was sent of its object stays at the origin", folder, d->d_name,
                     strerror(-error));
        else if (!is_named || upload_record_read(text, &r) < 0)
            unlinkat(dirfd(dir), d->d_name, 0); // half a record: of an upload that was not begun
        else
            each(context, number, &r);
    }
    closedir(dir);
    return 0;
}
