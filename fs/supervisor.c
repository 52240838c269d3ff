// SPDX-License-Identifier: BSD-3-Clause
// supervisor: see supervisor.h. Arguments: --NAME=VALUE ... -- DAEMON --daemon ...; unknown names
// are skipped, as an older one may have started this one, or a newer one have been.
#include "fs/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include "fs/daemon.h"

#define MS 1000000LL
#define START_LIMIT_MS 30000
#define UPGRADE_LIMIT (5000 * MS)
#define STOP_LIMIT (10000 * MS)
#define CRASH_WINDOW (60000 * MS)
// A start that fails by itself is STRIKE strikes, one that takes too long STRIKE_LATE, one that is
// killed from outside a single one: five of the first kind in a row are the end, two of the second
// (users wait meanwhile), or twenty of the third (an operator with kill -9 in a loop, or memory
// that runs out again and again).
#define STRIKE 4
#define STRIKE_LATE 10
#define STRIKES_MAX 20

static void move_to(struct supervisor *s, enum phase next, int64_t limit_ns)
{
    static const bool is_legal[PHASE_COUNT][PHASE_COUNT] = {
        [PHASE_STARTING] = {[PHASE_SERVING] = 1, [PHASE_PAUSING] = 1, [PHASE_STOPPING] = 1, [PHASE_ENDED] = 1},
        [PHASE_SERVING] = {[PHASE_UPGRADING] = 1, [PHASE_PAUSING] = 1, [PHASE_STOPPING] = 1, [PHASE_ENDED] = 1},
        [PHASE_UPGRADING] = {[PHASE_PAUSING] = 1, [PHASE_STOPPING] = 1, [PHASE_ENDED] = 1},
        [PHASE_PAUSING] = {[PHASE_STARTING] = 1, [PHASE_STOPPING] = 1, [PHASE_ENDED] = 1},
        [PHASE_STOPPING] = {[PHASE_ENDED] = 1},
    };
    if (!is_legal[s->phase][next])
        abort();
    s->phase = next;
    s->deadline_ns = limit_ns == INT64_MAX ? INT64_MAX : now_ns() + limit_ns;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void end(struct supervisor *s, int status)
{
    s->exit_status = status;
    move_to(s, PHASE_ENDED, INT64_MAX);
}

static void give_up(struct supervisor *s, const char *reason)
{
    say(s, LOG_CRIT, "giving up: %s; users get ENOTCONN until it is mounted again", reason);
    supervisor_abort(s);
    end(s, 1);
}

// The first life wasn't to be: it is as if nothing had been mounted.
static void fail_first(struct supervisor *s)
{
    supervisor_abort(s);
    int r = supervisor_unmount(s);
    if (r < 0)
        dprintf(STDERR_FILENO, "butlerfs: %s: stays mounted, dead: %s\n", s->mountpoint, strerror(-r));
    end(s, 1);
}

static void notify_systemd(void)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    if (!path || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof to.sun_path)
        return;
    memcpy(to.sun_path, path, strlen(path));
    if (path[0] == '@')
        to.sun_path[0] = '\0';
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    sendto(fd, "READY=1", 7, MSG_NOSIGNAL, (struct sockaddr *)&to,
           (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path)));
    close(fd);
}

// The mount answers for the first time: the command may go.
static void announce(struct supervisor *s)
{
    supervisor_pass_errors(s, true);
    s->was_ready = true;
    supervisor_release_errors(s);
    supervisor_raise_read_ahead(s);
    notify_systemd();
    if (s->is_foreground)
        return;
    if (write(s->ready_fd, "R", 1) < 0)
        syslog(LOG_WARNING, "%s: who mounted it didn't wait", s->mountpoint);
    close_fd(&s->ready_fd);
    setsid();
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd < 3; fd++)
        dup2(null, fd);
    close_fd(&null);
}

static void on_ready(struct supervisor *s, bool can_take_over)
{
    if (s->phase != PHASE_STARTING)
        return;
    s->can_take_over = can_take_over;
    s->strikes = 0;
    move_to(s, PHASE_SERVING, INT64_MAX);
    if (!s->was_ready)
        announce(s);
    else
        say(s, LOG_NOTICE, "life %u answers (pid %d)", s->life, s->daemon);
}

static void begin_upgrade(struct supervisor *s)
{
    kill(s->daemon, SIGTERM);
    move_to(s, PHASE_UPGRADING, UPGRADE_LIMIT);
}

static void upgrade(struct supervisor *s)
{
    s->wants_upgrade = s->phase == PHASE_STARTING || s->phase == PHASE_PAUSING;
    if (s->phase != PHASE_SERVING)
        return;
    if (!s->can_take_over) {
        say(s, LOG_WARNING, "not upgraded: this kernel can't hand the mount over to another daemon");
        return;
    }
    if (!supervisor_can_run((char *[]){s->daemon_argv[0], (char *)"--version", NULL})) {
        say(s, LOG_ERR, "not upgraded: %s doesn't run", s->daemon_argv[0]);
        return;
    }
    supervisor_execute_again(s);
    begin_upgrade(s);
}

// It ends, but has something to finish. Who asks twice for a stop doesn't wait.
static void on_busy(struct supervisor *s)
{
    if (s->phase == PHASE_UPGRADING && s->deadline_ns != INT64_MAX)
        s->deadline_ns = now_ns() + UPGRADE_LIMIT;
    else if (s->phase == PHASE_STOPPING && s->deadline_ns > now_ns() && s->deadline_ns != INT64_MAX)
        s->deadline_ns = now_ns() + STOP_LIMIT;
}

static void on_channel(struct supervisor *s)
{
    char word[64];
    ssize_t n = recv(s->channel_fd, word, sizeof word - 1, MSG_DONTWAIT);
    if (n <= 0) {
        if (n == 0 || errno != EAGAIN)
            close_fd(&s->channel_fd); // its death is heard of elsewhere
        return;
    }
    word[n] = '\0';
    if (strcmp(word, DAEMON_SAYS_READY) == 0 || strcmp(word, DAEMON_SAYS_READY_ONCE) == 0)
        on_ready(s, strcmp(word, DAEMON_SAYS_READY) == 0);
    else if (strcmp(word, DAEMON_SAYS_UPGRADE) == 0)
        upgrade(s);
    else if (strcmp(word, DAEMON_SAYS_BUSY) == 0)
        on_busy(s);
    if (s->wants_upgrade && s->phase == PHASE_SERVING)
        upgrade(s);
}

static bool is_crash(int status)
{
    if (WIFEXITED(status))
        return WEXITSTATUS(status) != DAEMON_EXIT_AGAIN;
    switch (WTERMSIG(status)) {
    case SIGKILL:
    case SIGTERM:
    case SIGINT:
    case SIGHUP:
    case SIGQUIT:
        return false;
    default:
        return true;
    }
}

static void describe(const struct supervisor *s, int status, char *to, size_t room)
{
    if (s->was_killed)
        snprintf(to, room, "was killed as it took too long");
    else if (WIFSIGNALED(status))
        snprintf(to, room, "ended by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        snprintf(to, room, "ended with status %d", WEXITSTATUS(status));
}

static void on_failed_start(struct supervisor *s, int status, const char *how)
{
    static const int64_t pauses[STRIKES_MAX / STRIKE] = {0, 0, 50 * MS, 200 * MS, 1000 * MS};
    if (!s->was_ready) {
        supervisor_release_errors(s);
        // What it said on stderr is the line; only silence needs another.
        if (s->was_killed || WIFSIGNALED(status) || WEXITSTATUS(status) != DAEMON_EXIT_FAILED)
            say(s, LOG_ERR, "%s: the daemon %s before the mount answered", s->mountpoint, how);
        fail_first(s);
        return;
    }
    bool is_from_outside = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    s->strikes += s->was_killed ? STRIKE_LATE : is_from_outside ? 1 : STRIKE;
    say(s, LOG_ERR, "%s, life %u, %s before it was ready", s->daemon_argv[0], s->life, how);
    if (s->strikes >= STRIKES_MAX)
        give_up(s, "the daemon doesn't get ready any more");
    else
        move_to(s, PHASE_PAUSING, pauses[s->strikes / STRIKE]);
}

static void on_lost_daemon(struct supervisor *s, int status, const char *how)
{
    bool wants_again = WIFEXITED(status) && WEXITSTATUS(status) == DAEMON_EXIT_AGAIN;
    say(s, wants_again ? LOG_NOTICE : LOG_ERR, "life %u %s", s->life, how);
    if (!s->can_take_over) {
        give_up(s, "this kernel can't hand the mount over to another daemon");
        return;
    }
    if (is_crash(status)) {
        int64_t *slot = &s->crash_ns[s->crash_count++ % CRASHES_MAX];
        int64_t oldest = *slot;
        *slot = now_ns();
        if (s->crash_count > CRASHES_MAX && *slot - oldest < CRASH_WINDOW) {
            give_up(s, "the daemon crashes again and again");
            return;
        }
    }
    move_to(s, PHASE_PAUSING, 0);
}

static void on_death(struct supervisor *s)
{
    int status = 0;
    char how[96];
    if (waitpid(s->daemon, &status, WNOHANG) != s->daemon)
        return;
    if (s->channel_fd >= 0)
        on_channel(s); // what it said last
    supervisor_pass_errors(s, true);
    describe(s, status, how, sizeof how);
    s->daemon = 0;
    // An exit that nobody asked for is a crash, too: sanitizers and failed checks may end so.
    bool is_asked = WIFEXITED(status) &&
                    (WEXITSTATUS(status) == DAEMON_EXIT_UNMOUNTED || WEXITSTATUS(status) == DAEMON_EXIT_AGAIN);
    s->last_signal = WIFSIGNALED(status) ? WTERMSIG(status) : is_asked ? 0 : SIGABRT;
    close_fd(&s->pid_fd);
    close_fd(&s->channel_fd);
    close_fd(&s->error_fd);
    bool is_unmounted = WIFEXITED(status) && WEXITSTATUS(status) == DAEMON_EXIT_UNMOUNTED;
    if (s->phase == PHASE_STOPPING)
        end(s, s->was_ready ? 0 : 1);
    else if (is_unmounted && s->was_ready)
        end(s, 0);
    else if (s->phase == PHASE_UPGRADING)
        move_to(s, PHASE_PAUSING, 0);
    else if (s->phase == PHASE_STARTING)
        on_failed_start(s, status, how);
    else
        on_lost_daemon(s, status, how);
}

static void stop(struct supervisor *s)
{
    if (s->phase == PHASE_STOPPING) { // asked twice: at once
        s->deadline_ns = now_ns();
        return;
    }
    int r = supervisor_unmount(s);
    if (r < 0)
        say(s, LOG_ERR, "can't be unmounted: %s; users get ENOTCONN", strerror(-r));
    if (s->daemon == 0) {
        end(s, 0);
        return;
    }
    move_to(s, PHASE_STOPPING, r < 0 ? 0 : STOP_LIMIT);
}

static void on_signal(struct supervisor *s)
{
    struct signalfd_siginfo info;
    if (read(s->signal_fd, &info, sizeof info) != sizeof info)
        return;
    if (info.ssi_signo == SIGHUP)
        upgrade(s);
    else
        stop(s);
}

static void start(struct supervisor *s)
{
    move_to(s, PHASE_STARTING, s->start_limit_ms * MS);
    int r = supervisor_start_daemon(s);
    if (r >= 0)
        return;
    say(s, LOG_ERR, "a process for the daemon: %s", strerror(-r));
    if (s->daemon > 0) {
        kill(s->daemon, SIGKILL);
        waitpid(s->daemon, NULL, 0);
        s->daemon = 0;
    }
    close_fd(&s->channel_fd);
    close_fd(&s->error_fd);
    on_failed_start(s, DAEMON_EXIT_FAILED << 8, "could not be started");
}

static void on_deadline(struct supervisor *s)
{
    switch (s->phase) {
    case PHASE_PAUSING:
        start(s);
        break;
    case PHASE_STARTING:
    case PHASE_UPGRADING:
    case PHASE_STOPPING:
        s->was_killed = true;
        kill(s->daemon, SIGKILL);
        s->deadline_ns = INT64_MAX; // its death comes
        break;
    default:
        s->deadline_ns = INT64_MAX;
    }
}

static int poll_limit_ms(const struct supervisor *s)
{
    if (s->deadline_ns == INT64_MAX)
        return -1;
    int64_t left = s->deadline_ns - now_ns();
    return left <= 0 ? 0 : (int)((left + MS - 1) / MS);
}

static void run(struct supervisor *s)
{
    while (s->phase != PHASE_ENDED) {
        struct pollfd p[] = {
            {.fd = s->signal_fd, .events = POLLIN},
            {.fd = s->channel_fd, .events = POLLIN},
            {.fd = s->error_fd, .events = POLLIN},
            {.fd = s->pid_fd, .events = POLLIN},
        };
        int n = poll(p, 4, poll_limit_ms(s));
        if (n < 0)
            usleep(10000); // short of memory: it passes
        if (n > 0 && p[0].revents)
            on_signal(s);
        else if (n > 0 && p[1].revents)
            on_channel(s);
        else if (n > 0 && p[2].revents)
            supervisor_pass_errors(s, false);
        else if (n > 0 && p[3].revents)
            on_death(s);
        else if (n == 0 && s->deadline_ns != INT64_MAX && now_ns() >= s->deadline_ns)
            on_deadline(s);
    }
}

static const char *word_of(int argc, char **argv, const char *name)
{
    size_t n = strlen(name);
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strncmp(argv[i], "--", 2) == 0 && strncmp(argv[i] + 2, name, n) == 0 && argv[i][n + 2] == '=')
            return argv[i] + n + 3;
    return NULL;
}

static int number_of(int argc, char **argv, const char *name, int otherwise)
{
    const char *word = word_of(argc, argv, name);
    return word ? atoi(word) : otherwise;
}

static bool take_arguments(struct supervisor *s, int argc, char **argv)
{
    int i = 1;
    while (i < argc && strcmp(argv[i], "--") != 0)
        i++;
    s->program = argv[0];
    s->mountpoint = word_of(argc, argv, "mountpoint");
    s->control_path = word_of(argc, argv, "control-path");
    s->fuse_fd = number_of(argc, argv, "fuse-fd", -1);
    s->control_fd = number_of(argc, argv, "control-fd", -1);
    s->state_fd = number_of(argc, argv, "state-fd", -1);
    s->ready_fd = number_of(argc, argv, "ready-fd", -1);
    s->channel_fd = number_of(argc, argv, "channel-fd", -1);
    s->error_fd = number_of(argc, argv, "error-fd", -1);
    s->parking_fds[0] = number_of(argc, argv, "parking-in-fd", -1);
    s->parking_fds[1] = number_of(argc, argv, "parking-out-fd", -1);
    s->daemon = number_of(argc, argv, "daemon-pid", 0);
    s->life = (uint32_t)number_of(argc, argv, "life", 0);
    s->is_foreground = number_of(argc, argv, "foreground", 0);
    s->is_privileged = number_of(argc, argv, "privileged", 0);
    s->oom_score = number_of(argc, argv, "oom-score", 0);
    s->start_limit_ms = number_of(argc, argv, "start-limit-ms", START_LIMIT_MS);
    s->was_ready = s->daemon > 0;
    s->major_ = (unsigned)number_of(argc, argv, "major", 0);
    s->minor_ = (unsigned)number_of(argc, argv, "minor", 0);
    if (argc - i < 3 || !s->mountpoint || !s->control_path || s->fuse_fd < 0 || s->control_fd < 0)
        return false;
    s->daemon_argv = argv + i + 1;
    return true;
}

// Memory is short sometimes: then rather the daemon than who starts it again. Only root may.
static void lower_oom_score(struct supervisor *s)
{
    char score[16] = {};
    int fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    if (!s->was_ready && read(fd, score, sizeof score - 1) > 0)
        s->oom_score = atoi(score);
    if (s->oom_score > -500 && pwrite(fd, "-500", 4, 0) < 0)
        s->oom_score = -500; // it stays as it is, for both
    close(fd);
}

// Without one, open files without a name don't outlive the daemon where the kernel doesn't hold them.
static void open_parking(struct supervisor *s)
{
    int room = 4 << 20, pair[2];
    if (s->parking_fds[0] >= 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return;
    if (setsockopt(pair[0], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room) < 0) // else what the system allows
        setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    memcpy(s->parking_fds, pair, sizeof pair);
}

// Signals are read, never handled; a pipe without a reader is an error, not the end.
static void prepare_process(struct supervisor *s)
{
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGTERM);
    sigaddset(&mask, SIGINT);
    sigaddset(&mask, SIGHUP);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    signal(SIGPIPE, SIG_IGN);
    s->signal_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    if (chdir("/") < 0)
        abort();
    openlog("butlerfs-supervisor", LOG_PID, LOG_DAEMON);
    lower_oom_score(s);
    open_parking(s);
    const int fds[] = {s->fuse_fd,    s->control_fd, s->state_fd,       s->ready_fd,
                       s->channel_fd, s->error_fd,   s->parking_fds[0], s->parking_fds[1]};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0)
            fcntl(fds[i], F_SETFD, FD_CLOEXEC);
}

// Executed again for an upgrade: the daemon goes on, and is the first to be replaced.
static void resume(struct supervisor *s)
{
    s->can_take_over = true;
    s->phase = PHASE_SERVING;
    s->deadline_ns = INT64_MAX;
    if (s->error_fd >= 0)
        fcntl(s->error_fd, F_SETFL, O_NONBLOCK);
    if (supervisor_watch_daemon(s) < 0) { // dead already, and reaped by nobody but us
        say(s, LOG_WARNING, "the daemon ended meanwhile");
        s->daemon = 0;
        move_to(s, PHASE_PAUSING, 0);
        return;
    }
    begin_upgrade(s);
}

int main(int argc, char **argv)
{
    static struct supervisor s = {.pid_fd = -1, .phase = PHASE_PAUSING};
    bool is_fit = take_arguments(&s, argc, argv);
    if (!is_fit)
        fprintf(stderr, "butlerfs-supervisor is started by butlerfs, not by people\n");
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--check") == 0)
            return is_fit ? 0 : 1;
    if (!is_fit)
        return 2;
    prepare_process(&s);
    if (s.daemon > 0) {
        resume(&s);
    } else {
        s.state_fd = memfd_create("butlerfs-state", MFD_CLOEXEC);
        if (s.state_fd < 0) {
            fprintf(stderr, "butlerfs: memory for the state: %s\n", strerror(errno));
            fail_first(&s);
        } else
            start(&s);
    }
    run(&s);
    unlink(s.control_path);
    closelog();
    return s.exit_status;
}
