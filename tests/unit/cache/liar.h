// SPDX-License-Identifier: BSD-3-Clause
// liar: a small HTTP server in the test's own process that answers whatever the test wants, byte for byte.
#pragma once
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>

#include "tests/unit/cache/origin.h"

#define LIAR_CONNECTIONS_MAX 256
#define LIAR_LOG_MAX 4096

struct liar {
    int listener;
    uint16_t port;
    pthread_t thread;
    // Answers one request (its head as it came) by writing to `fd`; the number counts all requests, from 0 on.
    // false: the connection is closed (reset, if `resets`).
    bool (*answer)(struct liar *l, int fd, const char *head, uint32_t number);
    void *context;
    char url[40];
    struct lock lock;
    // Under the lock.
    char *heads[LIAR_LOG_MAX];
    uint32_t requests, connections;
    pthread_t threads[LIAR_CONNECTIONS_MAX];
    int fds[LIAR_CONNECTIONS_MAX];
    _Atomic bool is_ending;
};

struct liar_connection {
    struct liar *liar;
    int fd;
};

static inline void liar_say(int fd, const void *data, size_t size_bytes)
{
    const char *at = data;
    while (size_bytes > 0) {
        ssize_t sent = send(fd, at, size_bytes, MSG_NOSIGNAL);
        if (sent <= 0)
            return;
        at += sent;
        size_bytes -= (size_t)sent;
    }
}

static inline void liar_print(int fd, const char *format, ...) __attribute__((format(printf, 2, 3)));
static inline void liar_print(int fd, const char *format, ...)
{
    BUFFER_CLEANUP b = {0};
    va_list args;
    va_start(args, format);
    buffer_vformat(&b, format, args);
    va_end(args);
    liar_say(fd, b.data, b.size_bytes);
}

// Ends the connection without the politeness of a FIN.
static inline bool liar_reset(int fd)
{
    struct linger now = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    return false;
}

// Says nothing until the client goes away or the server ends.
static inline bool liar_stall(struct liar *l, int fd)
{
    char c;
    while (!atomic_load(&l->is_ending)) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, 20) > 0 && recv(fd, &c, 1, MSG_PEEK) <= 0)
            break;
    }
    return false;
}

static inline bool liar_read_head(int fd, struct buffer *head)
{
    char c;
    while (head->size_bytes < 65536) {
        if (recv(fd, &c, 1, 0) <= 0)
            return false;
        buffer_append_byte(head, c);
        if (text_ends(buffer_text(head), TEXT("\r\n\r\n")))
            return true;
    }
    return false;
}

static inline void *liar_serve(void *argument)
{
    struct liar_connection c = *(struct liar_connection *)argument;
    free(argument);
    struct liar *l = c.liar;
    for (bool goes_on = true; goes_on;) {
        BUFFER_CLEANUP head = {0};
        if (!liar_read_head(c.fd, &head))
            break;
        lock_acquire(&l->lock);
        uint32_t number = l->requests++;
        if (number < LIAR_LOG_MAX)
            l->heads[number] = memory_copy(head.data, head.size_bytes);
        lock_release(&l->lock);
        goes_on = l->answer(l, c.fd, head.data, number);
    }
    lock_acquire(&l->lock);
    for (int i = 0; i < LIAR_CONNECTIONS_MAX; i++) {
        if (l->fds[i] == c.fd)
            l->fds[i] = -1;
    }
    close(c.fd);
    lock_release(&l->lock);
    return NULL;
}

static inline void *liar_accept(void *argument)
{
    struct liar *l = argument;
    for (;;) {
        int fd = accept(l->listener, NULL, NULL);
        if (fd < 0)
            return NULL;
        struct liar_connection *c = new_struct(struct liar_connection);
        *c = (struct liar_connection){l, fd};
        lock_acquire(&l->lock);
        assert_true(l->connections < LIAR_CONNECTIONS_MAX);
        l->fds[l->connections] = fd;
        pthread_create(&l->threads[l->connections++], NULL, liar_serve, c);
        lock_release(&l->lock);
    }
}

static inline struct liar *liar_begin(bool (*answer)(struct liar *l, int fd, const char *head, uint32_t number))
{
    struct liar *l = new_struct(struct liar);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    l->answer = answer;
    lock_init(&l->lock, LOCK_RANK_LEAF, "liar");
    l->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(l->listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(l->listener, 128), 0);
    assert_int_equal(getsockname(l->listener, (struct sockaddr *)&address, &size), 0);
    l->port = ntohs(address.sin_port);
    snprintf(l->url, sizeof(l->url), "http://127.0.0.1:%d", l->port);
    for (int i = 0; i < LIAR_CONNECTIONS_MAX; i++)
        l->fds[i] = -1;
    assert_int_equal(pthread_create(&l->thread, NULL, liar_accept, l), 0);
    return l;
}

static inline void liar_end(struct liar *l)
{
    atomic_store(&l->is_ending, true);
    shutdown(l->listener, SHUT_RDWR);
    pthread_join(l->thread, NULL);
    lock_acquire(&l->lock);
    for (uint32_t i = 0; i < l->connections; i++) {
        if (l->fds[i] >= 0)
            shutdown(l->fds[i], SHUT_RDWR);
    }
    lock_release(&l->lock);
    for (uint32_t i = 0; i < l->connections; i++)
        pthread_join(l->threads[i], NULL);
    close(l->listener);
    for (uint32_t i = 0; i < l->requests && i < LIAR_LOG_MAX; i++)
        free(l->heads[i]);
    lock_release_memory(&l->lock);
    free(l);
}
define_cleanup(struct liar *, liar_end);

static inline uint32_t liar_requests(struct liar *l)
{
    lock_scope(&l->lock);
    return l->requests;
}

// What the object's byte at that place is.
static inline char liar_byte(uint64_t at)
{
    return (char)(at * 7 + at / 251);
}

static inline void liar_say_bytes(int fd, uint64_t from, uint64_t size_bytes)
{
    cleanup(cleanup_free) char *data = memory_new(size_bytes);
    for (uint64_t i = 0; i < size_bytes; i++)
        data[i] = liar_byte(from + i);
    liar_say(fd, data, size_bytes);
}

// "Range: bytes=A-B" or "A-" of a request; all of it without one.
static inline void liar_range(const char *head, uint64_t size_bytes, uint64_t *ret_first, uint64_t *ret_last)
{
    const char *range = strstr(head, "Range: bytes=");
    unsigned long long first = 0, last = size_bytes - 1;
    if (range)
        sscanf(range, "Range: bytes=%llu-%llu", &first, &last);
    *ret_first = first;
    *ret_last = last < size_bytes ? last : size_bytes - 1;
}

static inline bool liar_has_field(const char *head, const char *field)
{
    return strstr(head, field) != NULL;
}

// The honest answer for an object of that size and ETag; `give` bytes of the body only (UINT64_MAX: all).
static inline bool liar_object(int fd, const char *head, uint64_t size_bytes, const char *etag, uint64_t give)
{
    uint64_t first, last;
    liar_range(head, size_bytes, &first, &last);
    bool is_range = strstr(head, "Range: ") != NULL, is_head = strncmp(head, "HEAD ", 5) == 0;
    const char *wanted = strstr(head, "If-Match: ");
    if (wanted && strncmp(wanted + 10, etag, strlen(etag)) != 0) {
        liar_print(fd, "HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\n\r\n");
        return true;
    }
    if (is_range && first >= size_bytes) {
        liar_print(fd, "HTTP/1.1 416 Range\r\nContent-Range: bytes */%llu\r\nContent-Length: 0\r\n\r\n",
                   (unsigned long long)size_bytes);
        return true;
    }
    uint64_t count = size_bytes ? last - first + 1 : 0;
    BUFFER_CLEANUP answer = {0};
    buffer_format(&answer, "HTTP/1.1 %s\r\nContent-Length: %llu\r\nETag: %s\r\n", is_range ? "206 Partial" : "200 OK",
                  (unsigned long long)count, etag);
    buffer_append_string(&answer, "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
    if (is_range)
        buffer_format(&answer, "Content-Range: bytes %llu-%llu/%llu\r\n", (unsigned long long)first,
                      (unsigned long long)last, (unsigned long long)size_bytes);
    buffer_append_string(&answer, "\r\n");
    liar_say(fd, answer.data, answer.size_bytes);
    if (is_head)
        return true;
    liar_say_bytes(fd, first, give < count ? give : count);
    return give >= count;
}
