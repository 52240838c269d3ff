// SPDX-License-Identifier: BSD-3-Clause
// supervisor_process: the daemon as a process, and this program executed again.
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "fs/daemon.h"
#include "fs/supervisor.h"

#define AGAIN_WORDS 20

int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

void say(const struct supervisor *s, int priority, const char *format, ...)
{
    char line[512];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (s->is_foreground || !s->was_ready)
        dprintf(STDERR_FILENO, "butlerfs: %s\n", line);
    else
        syslog(priority, "%s: %s", s->mountpoint, line);
}

// What a first life says is kept until it is known whether it is the reason of a failure (then it is
// what the user sees) or not (then it is the log's).
static void hold_line(struct supervisor *s)
{
    if (s->held_bytes + s->error_bytes + 1 > sizeof s->held)
        return;
    memcpy(s->held + s->held_bytes, s->error_line, s->error_bytes);
    s->held_bytes += s->error_bytes;
    s->held[s->held_bytes++] = '\n';
}

void supervisor_release_errors(struct supervisor *s)
{
    if (!s->was_ready && write(STDERR_FILENO, s->held, s->held_bytes) < 0)
        syslog(LOG_ERR, "%s: nobody listens: %.*s", s->mountpoint, (int)s->held_bytes, s->held);
    for (unsigned i = 0; s->was_ready && i < s->held_bytes;) {
        const char *end = memchr(s->held + i, '\n', s->held_bytes - i);
        int size = (int)(end - s->held) - (int)i;
        syslog(LOG_NOTICE, "%s: daemon: %.*s", s->mountpoint, size, s->held + i);
        i += (unsigned)size + 1;
    }
    s->held_bytes = 0;
}

static void pass_line(struct supervisor *s)
{
    if (s->error_bytes == 0)
        return;
    if (s->was_ready)
        syslog(LOG_ERR, "%s: daemon: %.*s", s->mountpoint, (int)s->error_bytes, s->error_line);
    else
        hold_line(s);
    s->error_bytes = 0;
}

void supervisor_pass_errors(struct supervisor *s, bool all)
{
    char text[4096];
    ssize_t n;
    while (s->error_fd >= 0 && (n = read(s->error_fd, text, sizeof text)) != -1) {
        if (n == 0) {
            close(s->error_fd);
            s->error_fd = -1;
        }
        for (ssize_t i = 0; i < n; i++) {
            if (text[i] == '\n' || s->error_bytes == sizeof s->error_line)
                pass_line(s);
            if (text[i] != '\n')
                s->error_line[s->error_bytes++] = text[i];
        }
    }
    if (all)
        pass_line(s);
}

// Puts the descriptors where daemon.h says, whatever numbers they had, and nothing else.
#define PLACES (DAEMON_FD_PARKING_OUT - DAEMON_FD_FUSE + 1)

static void place_descriptors(const int from[PLACES])
{
    int high[PLACES];
    for (int i = 0; i < PLACES; i++)
        high[i] = fcntl(from[i], F_DUPFD, 64);
    for (int i = 0; i < PLACES; i++) {
        int to = DAEMON_FD_FUSE + i;
        if (high[i] < 0 && to >= DAEMON_FD_PARKING_IN)
            close(to); // there is none
        else if (high[i] < 0 || dup2(high[i], to) < 0)
            _exit(DAEMON_EXIT_FAILED);
    }
    syscall(SYS_close_range, DAEMON_FD_PARKING_OUT + 1, ~0U, 0);
}

static void restore_oom_score(const struct supervisor *s)
{
    char score[16];
    int size = snprintf(score, sizeof score, "%d", s->oom_score);
    int fd = s->oom_score > -500 ? open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC) : -1;
    if (fd >= 0 && write(fd, score, (size_t)size) < 0)
        syslog(LOG_WARNING, "/proc/self/oom_score_adj: %m");
    if (fd >= 0)
        close(fd);
}

static _Noreturn void become_daemon(struct supervisor *s, int channel, int errors)
{
    char life[32], signal_[32];
    size_t count = 0;
    sigset_t none;
    while (s->daemon_argv[count])
        count++;
    snprintf(life, sizeof life, "--life=%u", s->life);
    snprintf(signal_, sizeof signal_, "--last-signal=%d", s->last_signal);
    char **argv = calloc(count + 3, sizeof *argv);
    if (!argv || count < 2)
        _exit(DAEMON_EXIT_FAILED);
    memcpy(argv, s->daemon_argv, 2 * sizeof *argv); // path, --daemon
    argv[2] = life;
    argv[3] = signal_;
    memcpy(argv + 4, s->daemon_argv + 2, (count - 2) * sizeof *argv);
    setsid(); // a ^C is the supervisor's
    restore_oom_score(s);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    if (errors >= 0) {
        dup2(errors, STDERR_FILENO);
        dup2(open("/dev/null", O_RDWR | O_CLOEXEC), STDOUT_FILENO);
    }
    dup2(open("/dev/null", O_RDWR | O_CLOEXEC), STDIN_FILENO);
    place_descriptors((int[PLACES]){s->fuse_fd, s->state_fd, s->control_fd, channel, s->parking_fds[0], s->parking_fds[1]});
    execv(argv[0], argv);
    dprintf(STDERR_FILENO, "butlerfs: %s: %m\n", argv[0]);
    _exit(DAEMON_EXIT_FAILED);
}

int supervisor_watch_daemon(struct supervisor *s)
{
    s->pid_fd = (int)syscall(SYS_pidfd_open, s->daemon, 0);
    return s->pid_fd < 0 ? -errno : 0;
}

int supervisor_start_daemon(struct supervisor *s)
{
    int channel[2], errors[2] = {-1, -1};
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel) < 0)
        return -errno;
    if (!s->is_foreground && pipe2(errors, O_CLOEXEC) < 0)
        errors[0] = errors[1] = -1;
    s->life++;
    pid_t child = fork();
    if (child == 0)
        become_daemon(s, channel[1], errors[1]);
    int r = child < 0 ? -errno : 0;
    close(channel[1]);
    if (errors[1] >= 0) {
        close(errors[1]);
        fcntl(errors[0], F_SETFL, O_NONBLOCK);
    }
    s->daemon = child < 0 ? 0 : child;
    s->channel_fd = channel[0];
    s->error_fd = errors[0];
    s->error_bytes = 0;
    s->was_killed = false;
    return r < 0 ? r : supervisor_watch_daemon(s);
}

bool supervisor_can_run(char *const *argv)
{
    pid_t child = fork();
    if (child == 0) {
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        for (int fd = 0; fd < 3; fd++)
            dup2(open("/dev/null", O_RDWR | O_CLOEXEC), fd);
        execv(argv[0], argv);
        _exit(127);
    }
    return child > 0 && supervisor_wait_child(child, 2000) == 0;
}

static void keep_over_exec(struct supervisor *s, bool is_kept)
{
    const int fds[] = {s->fuse_fd,  s->state_fd,       s->control_fd,    s->channel_fd,
                       s->error_fd, s->parking_fds[0], s->parking_fds[1]};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0)
            fcntl(fds[i], F_SETFD, is_kept ? 0 : FD_CLOEXEC);
}

// The words after the program's name, up to the trial's or the new life's own: everything that a new
// supervisor needs to go on. Returns their number.
static size_t make_words(const struct supervisor *s, char *words[AGAIN_WORDS])
{
    const struct {
        const char *name;
        int value;
    } numbers[] = {
        {"fuse-fd", s->fuse_fd},       {"state-fd", s->state_fd},        {"control-fd", s->control_fd},
        {"channel-fd", s->channel_fd}, {"error-fd", s->error_fd},        {"daemon-pid", s->daemon},
        {"life", (int)s->life},        {"foreground", s->is_foreground}, {"privileged", s->is_privileged},
        {"major", (int)s->major_},     {"minor", (int)s->minor_},        {"oom-score", s->oom_score},
        {"start-limit-ms", s->start_limit_ms}, {"parking-in-fd", s->parking_fds[0]},
        {"parking-out-fd", s->parking_fds[1]},
    };
    size_t n = 0;
    bool is_good = asprintf(&words[n++], "--mountpoint=%s", s->mountpoint) >= 0 &&
                   asprintf(&words[n++], "--control-path=%s", s->control_path) >= 0;
    for (size_t i = 0; is_good && i < sizeof numbers / sizeof *numbers; i++)
        is_good = asprintf(&words[n++], "--%s=%d", numbers[i].name, numbers[i].value) >= 0;
    if (!is_good)
        words[n - 1] = NULL; // not to be known what it is
    return is_good ? n : 0;
}

void supervisor_execute_again(struct supervisor *s)
{
    char *words[AGAIN_WORDS] = {};
    size_t n = make_words(s, words), count = 0;
    while (s->daemon_argv[count])
        count++;
    char **argv = calloc(n + count + 4, sizeof *argv);
    if (argv && n > 0) {
        argv[0] = (char *)s->program;
        memcpy(argv + 1, words, n * sizeof *argv);
        argv[n + 1] = (char *)"--check"; // a trial
        argv[n + 2] = (char *)"--";
        memcpy(argv + n + 3, s->daemon_argv, count * sizeof *argv);
        if (supervisor_can_run(argv)) {
            argv[n + 1] = (char *)"--again";
            keep_over_exec(s, true);
            execv(s->program, argv);
            keep_over_exec(s, false);
        }
    }
    say(s, LOG_ERR, "%s doesn't run: going on as the old one", s->program);
    for (size_t i = 0; i < AGAIN_WORDS; i++)
        free(words[i]);
    free(argv);
}
