// SPDX-License-Identifier: BSD-3-Clause
// file: this machine's files as objects, read by a fetcher's thread with the daemon's own rights: for slow file systems
// that are worth caching, and beside others in a chain. Whether a caller may read them is decided by who asks
// (object.h opens a local artifact as its caller, and needs no origin).
// 1. What is read is one version: the file is looked at again when all of it was given.
// 2. A read that hangs hangs its thread, as everywhere with such file systems.
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/log.h"
#include "cache/object.h"
#include "cache/origin/internal.h"

#define FILE_PIECE_BYTES ((size_t)128 << 10)

struct file_state {
    int fd;
    char validator[96];
    char piece[FILE_PIECE_BYTES];
};

static void file_state_free(void *state)
{
    struct file_state *s = state;
    close(s->fd);
    free(s);
}

static int file_fail(struct origin_flight *flight, int error, const char *why)
{
    fetch_fail(&flight->fetch, error, "/%.*s: %s", (int)flight->request->key.size_bytes, flight->request->key.data,
               why);
    return error;
}

static void file_validator(const struct stat *st, char ret_validator[96])
{
    snprintf(ret_validator, 96, "\"%llx-%llx-%llx.%lx-%llx.%lx\"", (unsigned long long)st->st_ino,
             (unsigned long long)st->st_size, (unsigned long long)st->st_mtim.tv_sec,
             (unsigned long)st->st_mtim.tv_nsec, (unsigned long long)st->st_ctim.tv_sec,
             (unsigned long)st->st_ctim.tv_nsec);
}

static int file_open_it(struct origin_flight *flight, struct stat *ret_stat, int *ret_fd)
{
    static const char *const roots[] = {"/", NULL};
    const struct object_access access = {.as_owner = true, .roots = roots};
    struct text key = flight->request->key;
    BUFFER_CLEANUP path = {0};
    const char *why = "it can't be opened";
    if (key.size_bytes && memchr(key.data, 0, key.size_bytes))
        return file_fail(flight, -ENOENT, "a name with a NUL");
    buffer_append_byte(&path, '/');
    buffer_append_text(&path, key);
    int error = object_open_local(path.data, &access, NULL, ret_fd, ret_stat, &why);
    return error < 0 ? file_fail(flight, error, why) : 0;
}

static int file_begin(struct origin_flight *flight)
{
    struct origin_request *r = flight->request;
    struct stat st;
    int fd;
    int error = file_open_it(flight, &st, &fd);
    if (error)
        return error;
    struct file_state *s = memory_grow(NULL, 1, sizeof(*s));
    s->fd = fd;
    flight->state = s;
    flight->state_free = file_state_free;
    file_validator(&st, s->validator);
    flight->answer.size_bytes = st.st_size;
    flight->answer.mtime_unix_ns = st.st_mtim.tv_sec * NS_PER_S + st.st_mtim.tv_nsec;
    answer_set(flight, &flight->answer.validator, text_of(s->validator));
    if (r->if_none_match.size_bytes && text_equal(r->if_none_match, flight->answer.validator)) {
        flight->answer.is_unchanged = true;
        return 0;
    }
    if (r->verb == ORIGIN_GET && r->offset > 0 && r->offset >= (uint64_t)st.st_size)
        return file_fail(flight, -ERANGE, "it ends before that");
    return flight_begin(flight);
}

static int file_end(struct origin_flight *flight, const struct file_state *s)
{
    struct stat st;
    char validator[96];
    if (fstat(s->fd, &st) < 0)
        return file_fail(flight, -EREMOTEIO, "it can't be looked at again");
    file_validator(&st, validator);
    return strcmp(validator, s->validator) == 0 ? 0 : file_fail(flight, -ESTALE, "it was changed");
}

static int file_give(struct origin_flight *flight)
{
    struct origin_request *r = flight->request;
    struct file_state *s = flight->state;
    uint64_t left = (uint64_t)flight->answer.size_bytes - r->offset;
    if (left > r->size_bytes)
        left = r->size_bytes;
    left -= flight->given_bytes;
    if (left == 0)
        return file_end(flight, s);
    ssize_t got = pread(s->fd, s->piece, left < sizeof(s->piece) ? (size_t)left : sizeof(s->piece),
                        (off_t)(r->offset + flight->given_bytes));
    if (got < 0 && errno == EINTR)
        return FETCH_RUN_AGAIN;
    if (got < 0)
        return file_fail(flight, -EREMOTEIO, strerror(errno));
    if (got == 0)
        return file_fail(flight, -ESTALE, "it became shorter");
    int taken = flight_sink(flight, s->piece, (size_t)got);
    return taken == FETCH_PAUSE ? FETCH_RUN_LATER : (taken < 0 ? taken : FETCH_RUN_AGAIN);
}

static int file_run(struct origin_flight *flight)
{
    if (flight->request->verb == ORIGIN_LIST)
        return file_fail(flight, -EOPNOTSUPP, "files are not listed as objects");
    if (!flight->state) {
        int error = file_begin(flight);
        if (error || flight->request->verb == ORIGIN_HEAD || flight->answer.is_unchanged)
            return error;
    }
    return file_give(flight);
}

static void file_close(struct origin *o)
{
    origin_release(o);
    free(o);
}

static const struct origin_ops file_ops = {
    .can_list = false,
    .is_local = true,
    .close = file_close,
    .run = file_run,
};

int file_open(struct fetchers *fetchers, const struct url *url, const struct origin_options *options,
              struct origin **ret_origin, struct buffer *key, char **ret_why)
{
    if (url->host.size_bytes && !text_equal(url->host, TEXT("localhost")))
        return origin_fail(-EINVAL, ret_why, "a file: URI has no host, but file:///path");
    struct endpoint *e;
    struct endpoint_options how = {.is_plain = true, .connections = options ? options->connections : 0};
    int error = endpoint_get(fetchers, "file://", &how, &e);
    if (error)
        return origin_fail(error, ret_why, "too many endpoints");
    struct origin *o = new_struct(struct origin);
    origin_init(o, &file_ops, e, memory_copy("file://", strlen("file://")));
    struct text path = url->path;
    while (text_begins(path, TEXT("/")))
        path = text_slice(path, 1, path.size_bytes);
    // A path that was given as one is no URI: nothing in it is quoted.
    if (url->host.data)
        url_unquote(path, key);
    else
        buffer_append_text(key, path);
    *ret_origin = o;
    return 0;
}
