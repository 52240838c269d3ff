// SPDX-License-Identifier: BSD-3-Clause
// slow_proxy: a TCP proxy for benchmarks that adds a delay to what clients send and counts what passes,
// so that a server on loopback looks like one that is far away, and amplification can be told.
//
//   slow_proxy LISTEN-PORT SERVER-PORT DELAY-MS COUNTS-FILE
//
// Two threads a connection. Bytes of the server go by splice(2), so that the proxy costs little beside
// what it stands between. Counts are four 64-bit numbers in a file that others may map: connections,
// requests (a packet that begins with a method's name: clients send a header in one piece), bytes down,
// bytes up.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS, REQUESTS, BYTES_DOWN, BYTES_UP, COUNTS };

static _Atomic uint64_t *counts;
static int server_port;
static long delay_ms;

struct pair {
    int client, server;
    atomic_int threads;
};

static void pair_leave(struct pair *p)
{
    shutdown(p->client, SHUT_RDWR);
    shutdown(p->server, SHUT_RDWR);
    if (atomic_fetch_sub(&p->threads, 1) == 1) {
        close(p->client);
        close(p->server);
        free(p);
    }
}

static bool begins_request(const char *data, ssize_t size_bytes)
{
    static const char *const methods[] = {"GET ", "HEAD ", "PUT ", "POST ", "DELETE "};
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        size_t length = strlen(methods[i]);
        if ((size_t)size_bytes > length && memcmp(data, methods[i], length) == 0)
            return true;
    }
    return false;
}

static bool write_all(int fd, const char *data, size_t size_bytes)
{
    while (size_bytes > 0) {
        ssize_t n = write(fd, data, size_bytes);
        if (n <= 0)
            return false;
        data += n;
        size_bytes -= (size_t)n;
    }
    return true;
}

static void *go_up(void *context)
{
    struct pair *p = context;
    static _Thread_local char data[1 << 16];
    for (;;) {
        ssize_t n = read(p->client, data, sizeof data);
        if (n <= 0)
            break;
        if (begins_request(data, n))
            atomic_fetch_add(&counts[REQUESTS], 1);
        atomic_fetch_add(&counts[BYTES_UP], (uint64_t)n);
        if (delay_ms) {
            struct timespec t = {delay_ms / 1000, delay_ms % 1000 * 1000000};
            nanosleep(&t, NULL);
        }
        if (!write_all(p->server, data, (size_t)n))
            break;
    }
    pair_leave(p);
    return NULL;
}

static void *go_down(void *context)
{
    struct pair *p = context;
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) == 0) {
        fcntl(ends[1], F_SETPIPE_SZ, 1 << 20);
        for (;;) {
            ssize_t n = splice(p->server, NULL, ends[1], NULL, 1 << 20, SPLICE_F_MOVE);
            if (n <= 0)
                break;
            atomic_fetch_add(&counts[BYTES_DOWN], (uint64_t)n);
            while (n > 0) {
                ssize_t m = splice(ends[0], NULL, p->client, NULL, (size_t)n, SPLICE_F_MOVE);
                if (m <= 0)
                    break;
                n -= m;
            }
            if (n > 0)
                break;
        }
        close(ends[0]);
        close(ends[1]);
    }
    pair_leave(p);
    return NULL;
}

static struct sockaddr_in loopback(int port)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void pair_start(int client)
{
    struct sockaddr_in to = loopback(server_port);
    int one = 1, server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct pair *p = malloc(sizeof *p);
    if (!p || server < 0 || connect(server, (struct sockaddr *)&to, sizeof to) < 0) {
        free(p);
        close(client);
        if (server >= 0)
            close(server);
        return;
    }
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    *p = (struct pair){.client = client, .server = server};
    atomic_store(&p->threads, 2);
    atomic_fetch_add(&counts[CONNECTIONS], 1);
    void *(*const ways[])(void *) = {go_up, go_down};
    for (int i = 0; i < 2; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, ways[i], p) == 0)
            pthread_detach(thread);
        else
            pair_leave(p);
    }
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: slow_proxy LISTEN-PORT SERVER-PORT DELAY-MS COUNTS-FILE\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    struct sockaddr_in at = loopback(atoi(argv[1]));
    server_port = atoi(argv[2]);
    delay_ms = atol(argv[3]);
    int one = 1, fd = open(argv[4], O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (fd < 0 || ftruncate(fd, COUNTS * sizeof *counts) < 0 ||
        bind(listener, (struct sockaddr *)&at, sizeof at) < 0 || listen(listener, 1024) < 0) {
        perror("slow_proxy");
        return 1;
    }
    counts = mmap(NULL, COUNTS * sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (counts == MAP_FAILED) {
        perror("slow_proxy");
        return 1;
    }
    for (;;) {
        int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (client >= 0)
            pair_start(client);
        else if (errno != EINTR && errno != ECONNABORTED)
            usleep(10000);
    }
}
