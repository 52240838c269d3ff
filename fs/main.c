// SPDX-License-Identifier: BSD-3-Clause
// main: the command `butlerfs SOURCE MOUNTPOINT`, also as mount.butlerfs, and (`--daemon` first) the
// daemon itself. The command checks all that can be checked, mounts, hands the descriptors to
// butlerfs-supervisor and waits until the mount answers.
// 1. It ends with 0 and a mount that answers, or with another status, one line on stderr, and nothing
//    mounted.
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "config.h"
#include "fs/control.h"
#include "fs/daemon.h"
#include "fs/mount.h"
#include "fs/path.h"
#include "fs/why.h"

// The statuses of mount(8), which passes them on: 1 wrong use or no permission, 32 it failed.
#define EXIT_WRONG_USE 1
#define EXIT_NOT_MOUNTED 32

// What the supervisor is started with.
struct launch {
    int fuse_fd, control_fd, ready_fd;
    dev_t dev;
    char control_path[128];
    char supervisor[4096], program[4096];
};

static int complain(int status, const char *line)
{
    fprintf(stderr, "butlerfs: %s\n", line);
    return status;
}

// mount(8)'s -N: as if called there.
static int enter_namespace(const char *name, char **ret_why)
{
    BUFFER_CLEANUP path = {};
    bool is_pid = name[0] && strspn(name, "0123456789") == strlen(name);
    buffer_format(&path, is_pid ? "/proc/%s/ns/mnt" : "%s", name);
    cleanup(cleanup_close) int fd = open(path.data, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || setns(fd, CLONE_NEWNS) < 0)
        return why(ret_why, -errno, "-N %s: that mount namespace can't be entered: %m", name);
    return 0;
}

static int check_mountpoint(const struct options *o, char **ret_why)
{
    struct stat st;
    if (stat(o->mountpoint, &st) < 0) {
        if (errno == ENOTCONN)
            return 0; // what a dead daemon left: mount_make takes it away
        const char *advice = errno == ENOENT ? ": make it first (mkdir)" : "";
        return why(ret_why, -errno, "mount point %s: %m%s", o->mountpoint, advice);
    }
    if (!S_ISDIR(st.st_mode))
        return why(ret_why, -ENOTDIR, "mount point %s: not a folder", o->mountpoint);
    return 0;
}

// A daemon that sees its own mount could come to wait for itself.
static int check_apart(const struct options *o, const char *what, const char *path, char **ret_why)
{
    if (path_is_uri(path)) {
        if (strncasecmp(path, "file:", 5) != 0)
            return 0;
        path += strncmp(path + 5, "//", 2) == 0 ? 7 : 5;
    }
    if (mount_holds(o->mountpoint, path))
        return why(ret_why, -EINVAL, "mount point %s: the %s %s lies inside it", o->mountpoint, what, path);
    if (mount_holds(path, o->mountpoint))
        return why(ret_why, -EINVAL, "mount point %s: it lies inside the %s %s", o->mountpoint, what, path);
    return 0;
}

// Most daemons don't see their own mount (mount_hide); for the others its sources must lie apart.
static int check_places(const struct options *o, char **ret_why)
{
    if (mount_can_hide())
        return 0;
    int r = check_apart(o, "cache folder", o->cache_dir, ret_why);
    if (r >= 0 && o->ledger_dir)
        r = check_apart(o, "ledger's folder", o->ledger_dir, ret_why);
    for (uint32_t i = 0; r >= 0 && i < o->space_count; i++) {
        const struct space_options *s = &o->spaces[i];
        r = check_apart(o, "source", s->source, ret_why);
        for (size_t j = 0; r >= 0 && s->artifact_roots && s->artifact_roots[j]; j++)
            r = check_apart(o, "artifact root", s->artifact_roots[j], ret_why);
    }
    return r;
}

// Of a default folder, all but itself (the catalogue's or the ledger's to make). Without them the catalogue is
// kept in memory, which is logged, and the ledger refuses.
static void make_parents(const char *folder)
{
    cleanup(cleanup_free) char *path = memory_copy(folder, strlen(folder));
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(path, geteuid() == 0 ? 0755 : 0700);
        *slash = '/';
    }
}

// The supervisor stands beside us (a build folder) or where it was installed.
static int find_programs(struct launch *l, char **ret_why)
{
    ssize_t n = readlink("/proc/self/exe", l->program, sizeof l->program - 1);
    if (n < 0)
        return why(ret_why, -errno, "/proc/self/exe: %m");
    l->program[n] = '\0';
    const char *slash = strrchr(l->program, '/');
    int size = snprintf(l->supervisor, sizeof l->supervisor, "%.*s/butlerfs-supervisor",
                        (int)(slash - l->program), l->program);
    if (size < (int)sizeof l->supervisor && access(l->supervisor, X_OK) == 0)
        return 0;
    snprintf(l->supervisor, sizeof l->supervisor, "%s", SUPERVISOR_PATH);
    if (access(l->supervisor, X_OK) < 0)
        return why(ret_why, -errno, "%s: %m: butlerfs is not installed completely", l->supervisor);
    return 0;
}

static void listen_for_control(struct launch *l)
{
    cleanup(cleanup_free) char *reason = NULL;
    control_socket_path(l->dev, geteuid(), l->control_path, sizeof l->control_path);
    if (control_listen(l->control_path, &l->control_fd, &reason) >= 0)
        return;
    fprintf(stderr, "butlerfs: no control socket, butlerfsctl has the mount itself to ask: %s\n", reason);
    l->control_fd = control_listen_nowhere();
}

static void execute_supervisor(const struct options *o, const struct launch *l)
{
    char *words[32];
    char numbers[8][48];
    size_t n = 0, count = 0;
    const struct {
        const char *name;
        int value;
    } table[] = {
        {"fuse-fd", l->fuse_fd},       {"control-fd", l->control_fd},       {"ready-fd", l->ready_fd},
        {"major", (int)major(l->dev)}, {"minor", (int)minor(l->dev)},       {"foreground", o->foreground},
        {"privileged", geteuid() == 0},
    };
    BUFFER_CLEANUP mountpoint = {}, control_path = {};
    buffer_format(&mountpoint, "--mountpoint=%s", o->mountpoint);
    buffer_format(&control_path, "--control-path=%s", l->control_path);
    words[n++] = (char *)l->supervisor;
    words[n++] = mountpoint.data;
    words[n++] = control_path.data;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        snprintf(numbers[i], sizeof numbers[i], "--%s=%d", table[i].name, table[i].value);
        words[n++] = numbers[i];
    }
    words[n++] = (char *)"--";
    words[n++] = (char *)l->program;
    char **rest = options_daemon_arguments(o);
    while (rest[count])
        count++;
    char **argv = memory_new((n + count + 1) * sizeof *argv);
    memcpy(argv, words, n * sizeof *argv);
    memcpy(argv + n, rest, count * sizeof *argv);
    fcntl(l->fuse_fd, F_SETFD, 0);
    fcntl(l->control_fd, F_SETFD, 0);
    if (l->ready_fd >= 0)
        fcntl(l->ready_fd, F_SETFD, 0);
    execv(l->supervisor, argv);
    fprintf(stderr, "butlerfs: %s: %m\n", l->supervisor);
    free(argv);
    options_arguments_free(rest);
}

// Whatever became of the supervisor, nothing of ours stays.
static int clean_up(const struct options *o, const struct launch *l)
{
    dev_t dev = 0;
    if (mount_find(o->mountpoint, &dev, NULL, NULL) >= 0 && dev == l->dev)
        mount_remove(o->mountpoint);
    if (l->control_path[0])
        unlink(l->control_path);
    return EXIT_NOT_MOUNTED;
}

static int supervise(const struct options *o, struct launch *l)
{
    int ready[2] = {-1, -1}, status = 0;
    char byte = 0;
    l->ready_fd = -1;
    if (o->foreground) {
        execute_supervisor(o, l);
        return clean_up(o, l);
    }
    if (pipe2(ready, O_CLOEXEC) < 0)
        return complain(clean_up(o, l), strerror(errno));
    pid_t child = fork();
    if (child == 0) {
        l->ready_fd = ready[1];
        execute_supervisor(o, l);
        _exit(EXIT_NOT_MOUNTED);
    }
    close(ready[1]);
    close(l->fuse_fd);
    close(l->control_fd);
    ssize_t n;
    do
        n = read(ready[0], &byte, 1);
    while (n < 0 && errno == EINTR);
    if (n == 1)
        return 0;
    if (child > 0 && waitpid(child, &status, 0) == child && !WIFSIGNALED(status))
        return clean_up(o, l); // it has said why
    return complain(clean_up(o, l), "the supervisor ended before the mount answered");
}

static int mount_and_serve(const struct options *o, char **ret_why)
{
    struct launch l = {.fuse_fd = -1, .control_fd = -1};
    int r = find_programs(&l, ret_why);
    if (r < 0)
        return r;
    if (o->has_own_cache_dir)
        make_parents(o->cache_dir);
    if (o->has_own_ledger_dir)
        make_parents(o->ledger_dir);
    r = mount_make(o, &l.fuse_fd, ret_why);
    if (r < 0)
        return r;
    r = mount_find(o->mountpoint, &l.dev, NULL, NULL);
    if (r < 0) {
        mount_remove(o->mountpoint);
        return why(ret_why, r, "%s: mounted, and not to be found in /proc/self/mountinfo: %s",
                   o->mountpoint, strerror(-r));
    }
    listen_for_control(&l);
    return supervise(o, &l);
}

// A status to exit with, or -errno with the reason.
static int run_command(const struct options *o, char **ret_why)
{
    int r = o->mount_namespace ? enter_namespace(o->mount_namespace, ret_why) : 0;
    if (r >= 0 && o->is_remount)
        return o->fake ? 0 : mount_remount(o, ret_why);
    if (r >= 0)
        r = check_mountpoint(o, ret_why);
    if (r >= 0)
        r = check_places(o, ret_why);
    if (r >= 0)
        r = daemon_check(o, ret_why);
    if (r < 0 || o->fake)
        return r;
    return mount_and_serve(o, ret_why);
}

// 0, 1 and 2 exist, so that no descriptor of ours becomes one of them.
static void open_standard(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

int main(int argc, char **argv)
{
    struct options *o = NULL;
    cleanup(cleanup_free) char *reason = NULL;
    open_standard();
    int r = options_parse(argc, argv, &o, &reason);
    if (r > 0)
        return 0; // --help, --version
    if (r < 0)
        return complain(EXIT_WRONG_USE, reason);
    if (o->is_daemon)
        return daemon_run(o);
    r = run_command(o, &reason);
    options_free(o);
    return r < 0 ? complain(EXIT_NOT_MOUNTED, reason) : r;
}
