// SPDX-License-Identifier: BSD-3-Clause
// credentials_ask: one question to a server or a program, waited for. Answers are small and bounded.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/log.h"
#include "cache/origin/credentials_files.h"
#include "cache/origin/credentials_internal.h"

#define ANSWER_BYTES_MAX ((size_t)64 << 10)
#define PROCESS_LOOK_MS 100 // between two looks whether it is still wanted

// ---- servers

struct question {
    struct fetch fetch; // the first
    const struct http_question *asked;
    struct buffer *to;
    struct lock lock;
    pthread_cond_t ended;
    bool is_ended;      // under lock
};

static int question_prepare(struct fetch *f, struct fetch_message *m)
{
    struct question *q = (struct question *)f;
    buffer_append_string(&m->url, q->asked->url);
    buffer_append_text(&m->fields, q->asked->fields);
    m->method = q->asked->is_put ? FETCH_METHOD_PUT : FETCH_METHOD_GET;
    return 0;
}

static int question_begin(struct fetch *f, const struct fetch_head *h)
{
    buffer_clear(((struct question *)f)->to);
    return 0;
}

static int question_sink(struct fetch *f, const void *data, size_t size_bytes)
{
    struct question *q = (struct question *)f;
    if (size_bytes > ANSWER_BYTES_MAX - q->to->size_bytes) {
        fetch_fail(f, -E2BIG, "the answer is too long");
        return -E2BIG;
    }
    buffer_append(q->to, data, size_bytes);
    return 0;
}

static void question_done(struct fetch *f)
{
    struct question *q = (struct question *)f;
    lock_scope(&q->lock);
    q->is_ended = true;
    pthread_cond_broadcast(&q->ended);
}

static const struct fetch_ops question_ops = {
    .prepare = question_prepare,
    .begin = question_begin,
    .sink = question_sink,
    .judge = fetch_judge,
    .done = question_done,
};

static void question_wait(struct question *q)
{
    lock_scope(&q->lock);
    while (!q->is_ended)
        condition_wait(&q->ended, &q->lock, INT64_MAX); // the fetch has a deadline
}

int http_wait(struct fetchers *fetchers, const struct http_question *asked, struct buffer *to, char **ret_why)
{
    struct question q = {.asked = asked, .to = to};
    struct endpoint_options how = {.connections = 2};
    if (endpoint_get(fetchers, asked->url, &how, &q.fetch.endpoint) < 0)
        return origin_fail(-EINVAL, ret_why, "what gives credentials is no URL of a server");
    lock_init(&q.lock, LOCK_RANK_LEAF, "question");
    condition_init(&q.ended);
    q.fetch.ops = &question_ops;
    q.fetch.deadline_ns = clock_ns() + asked->limit_ns;
    fetch_start(&q.fetch);
    question_wait(&q);
    int error = q.fetch.error;
    if (error)
        origin_fail(error, ret_why, "%s", q.fetch.why.size_bytes ? q.fetch.why.data : "no answer");
    fetch_release(&q.fetch);
    pthread_cond_destroy(&q.ended);
    lock_release_memory(&q.lock);
    return error;
}

// ---- files

int file_read(const char *path, struct buffer *to, bool *ret_is_own)
{
    cleanup(cleanup_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode))
        return -EINVAL;
    *ret_is_own = (st.st_uid == 0 || st.st_uid == geteuid()) && !(st.st_mode & (S_IWGRP | S_IWOTH));
    char piece[4096];
    size_t sum = 0;
    for (;;) {
        ssize_t got = read(fd, piece, sizeof(piece));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? -errno : 0;
        sum += (size_t)got;
        if (sum > INI_BYTES_MAX)
            return -EFBIG;
        buffer_append(to, piece, (size_t)got);
    }
}

// ---- programs

static int spawn(char *const *words, char *const *environment, int output, pid_t *ret_pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    sigemptyset(&none);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
    int error = posix_spawnp(ret_pid, words[0], &actions, &attributes, words, environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return -error;
}

static int look_at_time(const struct process_question *q, int64_t deadline_ns)
{
    if (atomic_load(q->gives_up))
        return -ECANCELED;
    return clock_ns() < deadline_ns ? 0 : -ETIMEDOUT;
}

// Reads until its end, the deadline or too much.
static int collect(int fd, const struct process_question *q, int64_t deadline_ns, struct buffer *to)
{
    int error;
    while (!(error = look_at_time(q, deadline_ns))) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, PROCESS_LOOK_MS) <= 0)
            continue;
        char piece[4096];
        ssize_t got = read(fd, piece, sizeof(piece));
        if (got < 0 && errno != EINTR)
            return -errno;
        if (got == 0)
            return 0;
        if (got > 0 && (size_t)got > ANSWER_BYTES_MAX - to->size_bytes)
            return -E2BIG;
        if (got > 0)
            buffer_append(to, piece, (size_t)got);
    }
    return error;
}

// Waits for its end, which should be near: it has closed its output, or was killed. The first error of all.
static int reap(pid_t pid, const struct process_question *q, int error, int64_t deadline_ns, int *ret_status)
{
    pid_t ended;
    while ((ended = waitpid(pid, ret_status, WNOHANG)) == 0 || (ended < 0 && errno == EINTR)) {
        if (!error && (error = look_at_time(q, deadline_ns)))
            kill(-pid, SIGKILL);
        usleep(5000);
    }
    return error;
}

static int process_result(const char *program, int error, int status, char **ret_why)
{
    if (error)
        return origin_fail(error, ret_why, "credential_process %s: %s", program,
                           error == -ETIMEDOUT ? "it doesn't end" : strerror(-error));
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return origin_fail(-EACCES, ret_why, "credential_process %s fails", program);
    return 0;
}

static int process_run(char *const *words, const struct process_question *q, struct buffer *to, char **ret_why)
{
    static char *const none[] = {NULL};
    int ends[2], status = 0;
    pid_t pid;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return origin_fail(-errno, ret_why, "no pipe for credential_process: %s", strerror(errno));
    cleanup(cleanup_close) int reader = ends[0];
    int error = spawn(words, q->environment ? q->environment : none, ends[1], &pid);
    close(ends[1]);
    if (error)
        return process_result(words[0], error, 0, ret_why);
    int64_t deadline_ns = clock_ns() + q->limit_ns;
    error = collect(reader, q, deadline_ns, to);
    if (error)
        kill(-pid, SIGKILL);
    error = reap(pid, q, error, deadline_ns, &status);
    return process_result(words[0], error, status, ret_why);
}

int process_wait(const struct process_question *q, struct buffer *to, char **ret_why)
{
    char **words;
    if (command_split(q->command, &words) < 0)
        return origin_fail(-EINVAL, ret_why, "credential_process is no command");
    int error = process_run(words, q, to, ret_why);
    command_free(words);
    return error;
}
