// SPDX-License-Identifier: BSD-3-Clause
// control: see control.h. One table of verbs, two ways to it.
// 1. An answer is always one JSON map with "ok"; a request that can't be understood has one too.
// 2. The socket is served by one thread, one connection at a time: only administrators reach it, and
//    who sends nothing is dropped after READ_LIMIT.
#include "fs/control.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/queue.h"

#define REQUEST_MAX 65536
#define READ_LIMIT (2 * NS_PER_S)
#define WRITE_LIMIT_S 5

struct control {
    const struct control_verb *verbs;
    void *context;
    uid_t owner;
    int listen_fd, stop_fd;
    pthread_t thread;
};

static void put_error(struct doc *reply, int error, const char *text)
{
    doc_put_bool(reply, "ok", false);
    doc_put_integer(reply, "errno", -error);
    if (!doc_get(reply, "error"))
        doc_put_text(reply, "error", text);
}

static const struct control_verb *find_verb(const struct control_verb *verbs, struct text name)
{
    for (; verbs->name; verbs++)
        if (text_equal(name, text_of(verbs->name)))
            return verbs;
    return NULL;
}

static int run_verb(const struct control_verb *verb, const struct control_caller *caller, void *context,
                    const struct doc *request, struct doc *reply)
{
    const char *error = NULL;
    int r = -EOPNOTSUPP;
    if (verb->who == CONTROL_ADMIN && caller->uid != 0 && caller->uid != caller->owner) {
        r = -EPERM;
        error = "only root, or who mounted it, may do that";
    } else if (verb->run_for) {
        r = verb->run_for(caller, request, reply, context);
    } else if (verb->run) {
        r = verb->run(request, reply, context);
    } else if (caller->op) {
        r = verb->run_at(caller->op, request, reply);
    } else {
        error = "that is asked of a path, through the mount";
    }
    if (r == -EINPROGRESS)
        return r;
    if (r < 0)
        put_error(reply, r, error ? error : strerror(-r));
    else
        doc_put_bool(reply, "ok", true);
    return 0;
}

static int answer(const struct control_verb *verbs, void *context, const struct control_caller *caller,
                  struct text request, struct doc *reply)
{
    cleanup(cleanup_doc_free) struct doc *parsed = NULL;
    cleanup(cleanup_free) char *reason = NULL;
    int r = doc_parse_json(request, &parsed, &reason);
    if (r < 0) {
        put_error(reply, r, reason ? reason : strerror(-r));
        return 0;
    }
    const struct doc *name = doc_get(parsed, "verb");
    if (doc_kind(parsed) != DOC_MAP || doc_kind(name) != DOC_STRING) {
        put_error(reply, -EINVAL, "a request is a map with a \"verb\"");
        return 0;
    }
    const struct control_verb *verb = find_verb(verbs, doc_text(name, TEXT("")));
    if (!verb) {
        put_error(reply, -EOPNOTSUPP, "no such verb");
        return 0;
    }
    return run_verb(verb, caller, context, parsed, reply);
}

int control_answer(const struct control_verb *verbs, void *context, const struct control_caller *caller,
                   struct text request, struct buffer *reply)
{
    cleanup(cleanup_doc_free) struct doc *map = doc_new(DOC_MAP);
    int r = answer(verbs, context, caller, request, map);
    if (r == 0)
        doc_write_json(map, false, reply);
    return r;
}

// One line, or all there is until the other side says no more. -errno.
static int read_request(int fd, struct buffer *request)
{
    int64_t deadline_ns = clock_ns() + READ_LIMIT;
    while (request->size_bytes <= REQUEST_MAX) {
        int64_t left_ms = (deadline_ns - clock_ns()) / NS_PER_MS;
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (left_ms <= 0 || poll(&p, 1, (int)left_ms) <= 0)
            return -ETIMEDOUT;
        char piece[4096];
        ssize_t n = recv(fd, piece, sizeof piece, MSG_DONTWAIT);
        if (n < 0)
            return -errno;
        const char *end = memchr(piece, '\n', (size_t)n);
        buffer_append(request, piece, end ? (size_t)(end - piece) : (size_t)n);
        if (end || n == 0)
            return 0;
    }
    return -E2BIG;
}

static void write_all(int fd, struct text reply)
{
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &(struct timeval){.tv_sec = WRITE_LIMIT_S}, sizeof(struct timeval));
    while (reply.size_bytes > 0) {
        ssize_t n = send(fd, reply.data, reply.size_bytes, MSG_NOSIGNAL);
        if (n <= 0)
            return; // it went away
        reply = text_slice(reply, (size_t)n, reply.size_bytes);
    }
}

static void serve_one(struct control *c, int fd)
{
    BUFFER_CLEANUP request = {}, reply = {};
    struct ucred who;
    socklen_t size = sizeof who;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) < 0)
        return;
    int r = read_request(fd, &request);
    if (r < 0 && r != -E2BIG)
        return; // it never asked
    if (r < 0)
        buffer_append_string(&reply, "{\"ok\":false,\"error\":\"a request has at most 64 KiB\"}");
    else
        control_answer(c->verbs, c->context, &(struct control_caller){who.uid, c->owner, NULL},
                       buffer_text(&request), &reply);
    buffer_append_byte(&reply, '\n');
    write_all(fd, buffer_text(&reply));
}

static void *run(void *argument)
{
    struct control *c = argument;
    for (;;) {
        struct pollfd p[] = {{.fd = c->stop_fd, .events = POLLIN}, {.fd = c->listen_fd, .events = POLLIN}};
        int n = poll(p, 2, -1);
        if (p[0].revents)
            return NULL;
        if (n <= 0 || !p[1].revents)
            continue;
        cleanup(cleanup_close) int fd = accept4(c->listen_fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            serve_one(c, fd);
        else if (errno != EINTR && errno != ECONNABORTED && errno != EAGAIN) {
            log_error("the control socket is lost: %m");
            return NULL;
        }
    }
}

int control_start(int listen_fd, uid_t owner, const struct control_verb *verbs, void *context,
                  struct control **ret_control)
{
    struct control *c = new_struct(struct control);
    *c = (struct control){.verbs = verbs, .context = context, .owner = owner, .listen_fd = listen_fd};
    c->stop_fd = eventfd(0, EFD_CLOEXEC);
    int r = c->stop_fd < 0 ? -errno : thread_start(&c->thread, "control", run, c);
    if (r < 0) {
        cleanup_close(&c->stop_fd);
        free(c);
        return r;
    }
    *ret_control = c;
    return 0;
}

// An answer in work is waited for; verbs have limits of their own.
void control_stop(struct control *c)
{
    uint64_t one = 1;
    check(write(c->stop_fd, &one, sizeof one) == sizeof one);
    pthread_join(c->thread, NULL);
    close(c->stop_fd);
    free(c);
}
