// SPDX-License-Identifier: BSD-3-Clause
// session.c: INIT and its replay, the workers' receive loop (see session.h).
//
// Invariants
//  1. libfuse negotiates the same capabilities in every life: the INIT request is the saved one, and
//     the init handler is given the saved answer's.
//  2. The descriptor libfuse reads is a dup of the supervisor's: the same open file, no clone.
//  3. A request's `unique` is in the state's work table while a thread runs it.
//  4. Unanswered requests are sent again before the first is received in this life.
#include "fs/session.h"

#include <errno.h>
#include <linux/fuse.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/buffer.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/queue.h"
#include "fs/desk.h"

// Newer than some distributions' headers; values are the kernel's ABI (include/uapi/linux/fuse.h).
#define NOTIFY_RESEND 7
#define NOTIFY_INC_EPOCH 8
#define INIT_EXT (1ULL << 30)
#define HAS_RESEND (1ULL << 39)
#define UNIQUE_RESEND (1ULL << 63)
struct backing_map {
    int32_t fd;
    uint32_t flags;
    uint64_t padding;
};
#define IOC_BACKING_OPEN _IOW(229, 1, struct backing_map)
#define IOC_BACKING_CLOSE _IOW(229, 2, uint32_t)
#define DEATHS_MAX 2

struct session {
    struct fuse_session *fuse;
    struct state *state;
    int fuse_fd;
    struct session_kernel kernel;
    size_t max_write_bytes; // as agreed in INIT
    bool is_written;     // users may write
    struct desk desk;    // where workers receive
    atomic_bool stopping;
    atomic_uint running; // workers
    sem_t ended;         // posted by session_stop and by a worker that ends
};

static _Thread_local struct {
    uint64_t unique;
    bool is_resent;
} current;

void session_request_set(uint64_t unique, bool is_resent)
{
    current.unique = unique;
    current.is_resent = is_resent;
}

uint64_t session_request_unique(void)
{
    return current.unique;
}

bool session_request_is_resent(void)
{
    return current.is_resent;
}

static _Thread_local struct {
    char *data;
    size_t room_bytes;
} scratch;

static void scratch_free(void)
{
    free(scratch.data);
    scratch.data = NULL;
    scratch.room_bytes = 0;
}

char *session_scratch(size_t size_bytes)
{
    if (scratch.room_bytes < size_bytes) {
        scratch_free();
        scratch.data = memory_grow(NULL, size_bytes, 1);
        scratch.room_bytes = size_bytes;
    }
    return scratch.data;
}

const struct session_kernel *session_kernel(const struct session *s)
{
    return &s->kernel;
}

struct fuse_session *session_fuse(struct session *s)
{
    return s->fuse;
}

static int notify(int fuse_fd, int32_t code)
{
    struct fuse_out_header out = {.len = sizeof out, .error = code, .unique = 0};
    return write(fuse_fd, &out, sizeof out) < 0 ? -errno : 0;
}

int session_increment_epoch(struct session *s)
{
    if (!s->kernel.can_epoch)
        return -EOPNOTSUPP;
    metric_add(METRIC_EPOCH_NOTICES, 1);
    return notify(s->fuse_fd, NOTIFY_INC_EPOCH);
}

int session_backing_open(struct session *s, int fd)
{
    struct backing_map map = {.fd = fd};
    int id = ioctl(s->fuse_fd, IOC_BACKING_OPEN, &map);
    return id < 0 ? -errno : id > 0 ? id : -EPERM;
}

void session_backing_close(struct session *s, int32_t backing_id)
{
    uint32_t id = (uint32_t)backing_id;
    if (ioctl(s->fuse_fd, IOC_BACKING_CLOSE, &id) < 0)
        log_debug("backing id %u could not be closed: %s", id, strerror(errno));
}

// ---- INIT -----------------------------------------------------------------------------------

static int init_receive(int fuse_fd, char *buffer, size_t room_bytes, size_t *ret_bytes)
{
    ssize_t n;
    do
        n = read(fuse_fd, buffer, room_bytes);
    while (n < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOENT));
    if (n < 0)
        return -errno;
    const struct fuse_in_header *in = (const struct fuse_in_header *)buffer;
    if ((size_t)n < sizeof *in + 16 || in->opcode != FUSE_INIT || n > STATE_INIT_MAX)
        return -EPROTO;
    *ret_bytes = (size_t)n;
    return 0;
}

static void kernel_read(struct session *s, struct text init)
{
    struct {
        uint32_t major, minor, max_readahead, flags, flags2;
    } in = {0};
    size_t have = init.size_bytes - sizeof(struct fuse_in_header);
    memcpy(&in, init.data + sizeof(struct fuse_in_header), have < sizeof in ? have : sizeof in);
    s->kernel.major = in.major;
    s->kernel.minor = in.minor;
    s->kernel.flags = in.flags;
    if (in.flags & INIT_EXT)
        s->kernel.flags |= (uint64_t)in.flags2 << 32;
    s->kernel.can_resend = s->kernel.flags & HAS_RESEND;
}

// libfuse answers INIT on one end of a socket pair; the answer is read at the other, and goes to the
// kernel in the first life only.
static int init_answer(struct session *s, struct text init, int ours, bool is_first)
{
    char copy[STATE_INIT_MAX], answer[STATE_INIT_MAX];
    memcpy(copy, init.data, init.size_bytes);
    struct fuse_buf buf = {.mem = copy, .size = init.size_bytes};
    fuse_session_process_buf(s->fuse, &buf);
    ssize_t n = recv(ours, answer, sizeof answer, MSG_DONTWAIT);
    if (n < (ssize_t)sizeof(struct fuse_out_header))
        return -EPROTO;
    int32_t error = ((const struct fuse_out_header *)answer)->error;
    struct fuse_init_out out = {0};
    size_t have = (size_t)n - sizeof(struct fuse_out_header);
    memcpy(&out, answer + sizeof(struct fuse_out_header), have < sizeof out ? have : sizeof out);
    s->max_write_bytes = out.max_write;
    if (is_first && write(s->fuse_fd, answer, (size_t)n) < 0)
        return -errno;
    return error;
}

static int session_init(struct session *s)
{
    char received[FUSE_MIN_READ_BUFFER];
    struct text init;
    bool is_first = !state_saved_init(s->state, &init);
    if (is_first) {
        init.data = received;
        int r = init_receive(s->fuse_fd, received, sizeof received, &init.size_bytes);
        if (r < 0)
            return r;
    }
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    char path[32];
    snprintf(path, sizeof path, "/dev/fd/%d", pair[0]);
    kernel_read(s, init);
    int r = fuse_session_mount(s->fuse, path) ? -EIO : init_answer(s, init, pair[1], is_first);
    close(pair[1]);
    if (r == 0 && dup3(s->fuse_fd, pair[0], O_CLOEXEC) < 0)
        r = -errno;
    if (r == 0 && is_first)
        state_save_init(s->state, init);
    return r;
}

int session_open(int fuse_fd, struct state *state, const struct fuse_lowlevel_ops *ops, void *context,
                 struct session **ret_session)
{
    struct session *s = new_struct(struct session);
    char *argv[] = {(char *)"butlerfs", NULL};
    struct fuse_args args = FUSE_ARGS_INIT(1, argv);
    s->state = state;
    s->fuse_fd = fuse_fd;
    sem_init(&s->ended, 0, 0);
    s->fuse = fuse_session_new(&args, ops, sizeof *ops, context);
    fuse_opt_free_args(&args);
    int r = s->fuse ? session_init(s) : -EIO;
    if (r < 0) {
        log_error("the FUSE connection could not be set up: %s", strerror(-r));
        free(s);
        return r;
    }
    s->kernel.can_epoch = notify(fuse_fd, NOTIFY_INC_EPOCH) == 0;
    *ret_session = s;
    return 0;
}

// ---- receiving ------------------------------------------------------------------------------

static void poison_reply(struct session *s, const struct fuse_in_header *in)
{
    struct fuse_out_header out = {.len = sizeof out, .error = -EIO, .unique = in->unique};
    log_error("request (opcode %u, node %llu) was in work at %d crashes: answered EIO", in->opcode,
              (unsigned long long)in->nodeid, DEATHS_MAX);
    metric_add(METRIC_REQUESTS_POISONED, 1);
    if (write(s->fuse_fd, &out, sizeof out) < 0)
        log_debug("answering it failed: %s", strerror(errno));
}

static void request_run(struct session *s, struct fuse_buf *buf)
{
    const struct fuse_in_header *in = buf->mem;
    bool is_resent = in->unique & UNIQUE_RESEND;
    uint64_t unique = in->unique & ~UNIQUE_RESEND;
    log_request_set(unique);
    metric_add(METRIC_REQUESTS, 1);
    if (is_resent) {
        metric_add(METRIC_REQUESTS_RESENT, 1);
        if (state_deaths(s->state, unique) >= DEATHS_MAX) {
            poison_reply(s, in);
            return;
        }
    }
    session_request_set(unique, is_resent);
    state_work_begin(s->state, unique);
    fuse_session_process_buf(s->fuse, buf);
    state_work_end(s->state);
}

// What a worker receives into. What is written begins at a page, in one huge page if there are any: the kernel copies
// it here page by page, and from here into the file. A kernel that copies a request into memory that isn't there yet
// can be interrupted by our being killed, and then answers it EIO: so where users write, all of it is there. libfuse
// takes as much as it agreed on.
#define HEADER_ROOM (64u << 10)
#define HUGE_PAGE_BYTES ((size_t)2 << 20)
#define WRITE_HEADER_BYTES (sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in))

struct receiving {
    char *memory; // NULL: libfuse's, as large as it likes
    struct fuse_buf buf;
};

static void receiving_init(struct receiving *r, const struct session *s)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), size = page + s->max_write_bytes + HEADER_ROOM;
    size = (size + HUGE_PAGE_BYTES - 1) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
    r->memory = memory_aligned(size, HUGE_PAGE_BYTES);
    madvise(r->memory, size, MADV_HUGEPAGE); // as a wish
    memset(r->memory, 0, page + s->max_write_bytes + HEADER_ROOM);
    r->buf.mem = r->memory + page - WRITE_HEADER_BYTES;
}

static void receiving_release(struct receiving *r)
{
    free(r->memory ? r->memory : r->buf.mem);
}

static void *worker_run(void *argument)
{
    struct session *s = argument;
    struct receiving r = {0};
    if (s->is_written)
        receiving_init(&r, s);
    sigset_t wake;
    sigemptyset(&wake);
    sigaddset(&wake, SIGUSR1);
    pthread_sigmask(SIG_UNBLOCK, &wake, NULL);
    while (!atomic_load(&s->stopping) && !fuse_session_exited(s->fuse)) {
        desk_enter(&s->desk);
        int n = fuse_session_receive_buf(s->fuse, &r.buf);
        desk_leave(&s->desk);
        if (n == -EINTR || n == -EAGAIN)
            continue;
        if (n <= 0)
            break;
        request_run(s, &r.buf);
    }
    receiving_release(&r);
    scratch_free();
    atomic_fetch_sub(&s->running, 1);
    sem_post(&s->ended);
    return NULL;
}

static void wake_nothing(int signal)
{
    (void)signal;
}

int session_serve(struct session *s, uint32_t workers, bool is_written, bool *ret_unmounted)
{
    s->is_written = is_written;
    desk_init(&s->desk);
    struct sigaction action = {.sa_handler = wake_nothing}; // no SA_RESTART: read(2) must return
    sigaction(SIGUSR1, &action, NULL);
    cleanup(cleanup_free) pthread_t *threads = memory_new(workers * sizeof *threads);
    uint32_t started = 0;
    // Before anybody receives: what a worker of ours has in work would be sent again, too, and done twice.
    if (s->kernel.can_resend)
        notify(s->fuse_fd, NOTIFY_RESEND);
    for (; started < workers; started++) {
        char name[24];
        snprintf(name, sizeof name, "worker/%u", started);
        atomic_fetch_add(&s->running, 1);
        if (thread_start(&threads[started], name, worker_run, s) < 0) {
            atomic_fetch_sub(&s->running, 1);
            break;
        }
    }
    if (started == 0)
        return -EAGAIN;
    while (sem_wait(&s->ended) < 0 && errno == EINTR)
        continue;
    desk_close(&s->desk);
    // One has ended or all are to: the others block in read(2), and a signal may come just before it.
    while (atomic_load(&s->running)) {
        for (uint32_t i = 0; i < started; i++)
            pthread_kill(threads[i], SIGUSR1);
        usleep(2000);
    }
    for (uint32_t i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    desk_release(&s->desk);
    *ret_unmounted = fuse_session_exited(s->fuse) && !atomic_load(&s->stopping);
    return 0;
}

void session_stop(struct session *s)
{
    atomic_store(&s->stopping, true);
    sem_post(&s->ended);
}
