// SPDX-License-Identifier: BSD-3-Clause
// Most of this needs root: other users' files, and becoming them. Without it, that is skipped.
#include "tests/unit/base/harness.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <grp.h>
#include <linux/capability.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "cache/identity.h"
#include "cache/object.h"

#define ALICE 61001
#define BOB 61002
#define DAEMON 61003
#define TEAM 62001

static char folder[64];

// ---- a folder of artifacts ------------------------------------------------------------------

#define in_folder(name) path_in_folder((char[128]){0}, name)

static const char *path_in_folder(char *to, const char *name)
{
    snprintf(to, 128, "%s/%s", folder, name);
    return to;
}

static void make(const char *name, uid_t uid, gid_t gid, mode_t mode)
{
    const char *path = in_folder(name);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, name, strlen(name)), strlen(name));
    close(fd);
    assert_true(geteuid() != 0 || chown(path, uid, gid) == 0);
    assert_int_equal(chmod(path, mode), 0);
}

static void make_folder(const char *name, uid_t uid, mode_t mode)
{
    assert_int_equal(mkdir(in_folder(name), 0755), 0);
    assert_true(geteuid() != 0 || chown(in_folder(name), uid, 0) == 0);
    assert_int_equal(chmod(in_folder(name), mode), 0);
}

static void make_link(const char *name, const char *target)
{
    assert_int_equal(symlink(target, in_folder(name)), 0);
}

static int set_up(void **state)
{
    strcpy(folder, "/tmp/butlerfs-object-XXXXXX");
    if (!mkdtemp(folder) || chmod(folder, 0755) < 0)
        return -1;
    make("open.fits", 0, 0, 0444);
    make("alice.fits", ALICE, 0, 0400);
    make("bob.fits", BOB, 0, 0400);
    make("team.fits", 0, TEAM, 0440);
    make_folder("alice", ALICE, 0700);
    make("alice/open.fits", 0, 0, 0444);
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    return remove(path);
}

static int tear_down(void **state)
{
    return nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

#define needs_root()                                                                               \
    do {                                                                                           \
        if (geteuid() != 0) {                                                                      \
            print_message("skipped: needs root, to be other users\n");                             \
            skip();                                                                                \
        }                                                                                          \
    } while (0)

// ---- opening --------------------------------------------------------------------------------

static const char *why;

static int open_with(const struct object_access *access, const char *path, uid_t uid, gid_t gid,
                     pid_t pid)
{
    struct caller caller = {uid, gid, pid};
    struct stat st;
    int fd = -1;
    why = NULL;
    int r = object_open_local(path, access, &caller, &fd, &st, &why);
    if (r < 0) {
        assert_int_equal(fd, -1);
        assert_non_null(why);
        return r;
    }
    struct stat real;
    assert_int_equal(fstat(fd, &real), 0);
    assert_int_equal(real.st_ino, st.st_ino);
    assert_int_equal(real.st_size, st.st_size);
    return fd;
}

static int open_as(const char *path, uid_t uid, gid_t gid, pid_t pid)
{
    return open_with(&(struct object_access){.can_change_ids = true}, path, uid, gid, pid);
}

static void assert_opens(const char *path, uid_t uid, gid_t gid, pid_t pid)
{
    int fd = open_as(path, uid, gid, pid);
    if (fd < 0)
        fail_msg("%s: %s (%s)", path, strerror(-fd), why);
    close(fd);
}

static void a_file_the_caller_may_read_is_opened(void **state)
{
    needs_root();
    assert_opens(in_folder("open.fits"), ALICE, ALICE, 0);
    assert_opens(in_folder("alice.fits"), ALICE, ALICE, 0);
    assert_opens(in_folder("alice/open.fits"), ALICE, ALICE, 0);
}

static void a_file_closed_to_the_caller_stays_closed_to_him(void **state)
{
    needs_root();
    assert_int_equal(open_as(in_folder("alice.fits"), BOB, BOB, 0), -EACCES);
    assert_int_equal(open_as(in_folder("team.fits"), BOB, BOB, 0), -EACCES);
}

static void a_folder_closed_to_the_caller_closes_what_is_in_it(void **state)
{
    needs_root();
    assert_int_equal(open_as(in_folder("alice/open.fits"), BOB, BOB, 0), -EACCES);
    assert_int_equal(open_as(in_folder("alice/none"), BOB, BOB, 0), -EACCES);
}

static void the_callers_own_group_counts(void **state)
{
    needs_root();
    assert_opens(in_folder("team.fits"), ALICE, TEAM, 0);
}

static void root_may_read_everything(void **state)
{
    needs_root();
    assert_opens(in_folder("alice.fits"), 0, 0, 0);
    assert_opens(in_folder("alice/open.fits"), 0, 0, getpid());
}

static void an_id_that_is_none_is_refused(void **state)
{
    needs_root();
    assert_int_equal(open_as(in_folder("open.fits"), (uid_t)-1, ALICE, 0), -EACCES);
    assert_int_equal(open_as(in_folder("open.fits"), ALICE, (gid_t)-1, 0), -EACCES);
}

// A process of `uid` with one supplementary group (0: none), until the descriptor is closed.
static pid_t start_process(uid_t uid, gid_t group, int *ret_fd)
{
    int pipes[2][2];
    char byte = 0;
    assert_int_equal(pipe2(pipes[0], O_CLOEXEC), 0);
    assert_int_equal(pipe2(pipes[1], O_CLOEXEC), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(pipes[0][1]);
        if (setgroups(group != 0, &group) < 0 || setresgid(uid, uid, uid) < 0 ||
            setresuid(uid, uid, uid) < 0 || write(pipes[1][1], &byte, 1) != 1)
            _exit(1);
        _exit(read(pipes[0][0], &byte, 1) != 0);
    }
    close(pipes[0][0]);
    close(pipes[1][1]);
    assert_int_equal(read(pipes[1][0], &byte, 1), 1);
    close(pipes[1][0]);
    *ret_fd = pipes[0][1];
    return pid;
}

static void end_process(pid_t pid, int fd)
{
    close(fd);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void the_calling_processes_supplementary_groups_count(void **state)
{
    needs_root();
    int fd;
    pid_t pid = start_process(ALICE, TEAM, &fd);
    assert_opens(in_folder("team.fits"), ALICE, ALICE, pid);
    end_process(pid, fd);
    pid = start_process(ALICE, 0, &fd);
    assert_int_equal(open_as(in_folder("team.fits"), ALICE, ALICE, pid), -EACCES);
    end_process(pid, fd);
}

static void another_users_process_lends_nobody_its_groups(void **state)
{
    needs_root();
    int fd;
    pid_t pid = start_process(ALICE, TEAM, &fd);
    assert_int_equal(open_as(in_folder("team.fits"), BOB, BOB, pid), -EACCES);
    assert_non_null(strstr(why, "not known"));
    assert_int_equal(open_as(in_folder("team.fits"), ALICE, BOB, pid), -EACCES);
    assert_int_equal(open_as(in_folder("team.fits"), BOB, ALICE, pid), -EACCES);
    end_process(pid, fd);
    assert_int_equal(open_as(in_folder("team.fits"), ALICE, ALICE, pid), -EACCES);
}

static void the_daemons_groups_are_not_the_callers(void **state)
{
    needs_root();
    pid_t pid = fork();
    if (pid == 0) {
        gid_t team = TEAM;
        bool good =
            setgroups(1, &team) == 0 && open_as(in_folder("team.fits"), ALICE, ALICE, 0) == -EACCES;
        gid_t groups[2];
        _exit(!(good && getgroups(2, groups) == 1 && groups[0] == TEAM));
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

// ---- what is no artifact --------------------------------------------------------------------

static void assert_refused_to_all(const char *path, const char *reason)
{
    alarm(10); // waiting is a failure
    uid_t uids[] = {geteuid(), ALICE};
    for (int i = 0; i < (geteuid() == 0 ? 2 : 1); i++) {
        struct object_access access = {.can_change_ids = geteuid() == 0, .own_uid = geteuid()};
        int r = open_with(&access, path, uids[i], uids[i], 0);
        if (r != -EACCES || !strstr(why, reason))
            fail_msg("%s: %d (%s)", path, r, why ? why : "open");
    }
    alarm(0);
}

static void a_fifo_is_refused_without_waiting_for_its_writer(void **state)
{
    assert_int_equal(mkfifo(in_folder("fifo"), 0644), 0);
    assert_refused_to_all(in_folder("fifo"), "regular");
}

static void a_device_a_folder_and_a_socket_are_refused(void **state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", in_folder("socket"));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    close(fd);
    assert_int_equal(chmod(in_folder("socket"), 0666), 0);
    assert_refused_to_all(in_folder("socket"), "regular");
    assert_refused_to_all("/dev/null", "regular");
    assert_refused_to_all(folder, "regular");
    assert_refused_to_all("/", "regular");
}

static void files_of_proc_and_sys_are_refused_wherever_a_link_leads(void **state)
{
    assert_refused_to_all("/proc/version", "no files");
    assert_refused_to_all("/proc/self/status", "no files");
    assert_refused_to_all("/sys/kernel/mm/transparent_hugepage/enabled", "no files");
    make_link("version", "/proc/version");
    assert_refused_to_all(in_folder("version"), "no files");
}

static void the_daemons_environment_can_not_be_read(void **state)
{
    assert_refused_to_all("/proc/self/environ", "no files");
    assert_refused_to_all("/proc/thread-self/mem", "no files");
    make_link("environ", "/proc/self/environ");
    assert_refused_to_all(in_folder("environ"), "no files");
}

static void the_daemons_open_files_can_not_be_reached_through_proc(void **state)
{
    char path[64];
    int fd = open(in_folder("open.fits"), O_RDONLY | O_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    assert_refused_to_all(path, "");
    make_link("descriptor", path);
    assert_refused_to_all(in_folder("descriptor"), "");
    assert_refused_to_all("/proc/self/root/etc/passwd", "");
    close(fd);
}

static void symbolic_links_are_followed_as_the_caller(void **state)
{
    needs_root();
    make_link("link.fits", "alice/open.fits");
    assert_opens(in_folder("link.fits"), ALICE, ALICE, 0);
    assert_int_equal(open_as(in_folder("link.fits"), BOB, BOB, 0), -EACCES);
}

static void links_that_go_round_are_refused(void **state)
{
    make_link("round", "round");
    assert_refused_to_all(in_folder("round"), "round");
}

static void what_is_not_there_is_gone(void **state)
{
    struct object_access access = {.own_uid = geteuid()};
    char long_path[300] = "/";
    memset(long_path + 1, 'x', sizeof(long_path) - 2);
    make_link("dangling", "nowhere");
    const char *paths[] = {in_folder("none"), in_folder("open.fits/x"), in_folder("dangling"),
                           long_path};
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
        assert_int_equal(open_with(&access, paths[i], geteuid(), getegid(), 0), -ENOENT);
}

static void a_path_that_is_not_absolute_is_refused(void **state)
{
    struct object_access access = {.own_uid = geteuid()};
    assert_int_equal(open_with(&access, "open.fits", geteuid(), getegid(), 0), -EACCES);
    assert_int_equal(open_with(&access, "", geteuid(), getegid(), 0), -EACCES);
}

// ---- what the thread is afterwards ----------------------------------------------------------

struct whole_identity {
    uid_t uids[4];
    gid_t gids[4];
    int group_count;
    gid_t groups[64];
    struct __user_cap_data_struct capabilities[2];
};

static struct whole_identity who_am_i(void)
{
    struct whole_identity me = {0};
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    getresuid(&me.uids[0], &me.uids[1], &me.uids[2]);
    getresgid(&me.gids[0], &me.gids[1], &me.gids[2]);
    me.uids[3] = (uid_t)syscall(SYS_setfsuid, -1);
    me.gids[3] = (gid_t)syscall(SYS_setfsgid, -1);
    me.group_count = getgroups(64, me.groups);
    syscall(SYS_capget, &header, me.capabilities);
    return me;
}

static bool set_capabilities(uint32_t effective, uint32_t permitted)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{effective, permitted, 0}};
    return syscall(SYS_capset, &header, data) == 0;
}

#define BIT(capability) (1U << (capability))
#define CHANGE_IDS (BIT(CAP_SETUID) | BIT(CAP_SETGID))

// All that may happen to a caller; the thread is the same after each.
static bool stays_the_same(void)
{
    static const char *const names[] = {"open.fits", "alice.fits", "bob.fits",
                                        "none",      "alice",      "alice/open.fits"};
    static const uid_t uids[] = {0, ALICE, BOB, DAEMON, (uid_t)-1};
    struct whole_identity before = who_am_i();
    for (size_t i = 0; i < 6 * 5 * 2; i++) {
        uid_t uid = uids[i / 6 % 5];
        int fd = open_as(in_folder(names[i % 6]), uid, uid, i < 30 ? 0 : getpid());
        if (fd >= 0)
            close(fd);
        struct whole_identity after = who_am_i();
        if (memcmp(&before, &after, sizeof(before)) != 0)
            return false;
    }
    return true;
}

// In a process of its own, whose rights are then its own affair.
#define in_child(condition)                                                                        \
    do {                                                                                           \
        pid_t child_ = fork();                                                                     \
        assert_true(child_ >= 0);                                                                  \
        if (child_ == 0)                                                                           \
            _exit(!(condition));                                                                   \
        int status_;                                                                               \
        assert_int_equal(waitpid(child_, &status_, 0), child_);                                    \
        assert_int_equal(status_, 0);                                                              \
    } while (0)

static void the_thread_is_afterwards_what_it_was(void **state)
{
    needs_root();
    gid_t groups[] = {5, 7, TEAM};
    assert_true(stays_the_same());
    in_child(setgroups(3, groups) == 0 && setresgid(9, 9, 9) == 0 && stays_the_same());
}

static void the_thread_keeps_its_reduced_capabilities(void **state)
{
    needs_root();
    uint32_t kept = CHANGE_IDS | BIT(CAP_DAC_READ_SEARCH) | BIT(CAP_SYS_ADMIN);
    in_child(set_capabilities(kept, kept) && stays_the_same());
}

static void a_capability_that_was_lowered_is_not_raised_by_coming_back(void **state)
{
    needs_root();
    in_child(set_capabilities(CHANGE_IDS, CHANGE_IDS | BIT(CAP_DAC_OVERRIDE)) && stays_the_same());
}

// A daemon that isn't root but has capabilities: setfsuid takes none of them away.
static bool become_daemon(uint32_t capabilities)
{
    return prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0 && setgroups(0, NULL) == 0 &&
           setresgid(DAEMON, DAEMON, DAEMON) == 0 && setresuid(DAEMON, DAEMON, DAEMON) == 0 &&
           set_capabilities(capabilities, capabilities);
}

static void the_daemons_capabilities_open_nothing_to_the_caller(void **state)
{
    needs_root();
    uint32_t all = CHANGE_IDS | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_DAC_READ_SEARCH);
    in_child(become_daemon(all) && open_as(in_folder("alice.fits"), BOB, BOB, 0) == -EACCES &&
             open_as(in_folder("alice.fits"), ALICE, ALICE, 0) >= 0 && stays_the_same());
}

static void nor_to_a_caller_who_is_the_daemons_user(void **state)
{
    needs_root();
    uint32_t all = CHANGE_IDS | BIT(CAP_DAC_READ_SEARCH);
    struct object_access fixed = {.own_uid = DAEMON};
    in_child(become_daemon(all) &&
             open_as(in_folder("alice.fits"), DAEMON, DAEMON, getpid()) == -EACCES &&
             open_with(&fixed, in_folder("alice.fits"), DAEMON, DAEMON, 0) == -EACCES);
}

static void a_thread_that_can_not_come_back_ends_the_process(void **state)
{
    needs_root();
    struct caller alice = {ALICE, ALICE, 0};
    bool known;
    assert_aborts({
        struct identity was;
        // Back to a user it never was, without the right to.
        if (identity_assume(&alice, true, &was, &known) == 0 && set_capabilities(0, 0)) {
            was.fsuid = BOB;
            identity_restore(&was);
        }
    });
}

struct opener {
    uid_t uid;
    int wrong;
};

static void *open_often(void *context)
{
    struct opener *o = context;
    for (int i = 0; i < 500; i++) {
        const char *own_path = in_folder(o->uid == ALICE ? "alice.fits" : "bob.fits");
        const char *other_path = in_folder(o->uid == ALICE ? "bob.fits" : "alice.fits");
        struct caller caller = {o->uid, o->uid, 0};
        struct object_access access = {.can_change_ids = true};
        struct stat st;
        const char *reason;
        int fd;
        if (object_open_local(own_path, &access, &caller, &fd, &st, &reason) == 0)
            close(fd);
        else
            o->wrong++;
        o->wrong += object_open_local(other_path, &access, &caller, &fd, &st, &reason) != -EACCES;
    }
    return NULL;
}

static void threads_act_for_different_callers_at_once(void **state)
{
    needs_root();
    struct opener openers[4] = {{ALICE, 0}, {BOB, 0}, {ALICE, 0}, {BOB, 0}};
    pthread_t threads[4];
    struct whole_identity before = who_am_i();
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, open_often, &openers[i]), 0);
    for (int i = 0; i < 4; i++) {
        struct whole_identity meanwhile = who_am_i();
        assert_memory_equal(&before, &meanwhile, sizeof(before));
        pthread_join(threads[i], NULL);
        assert_int_equal(openers[i].wrong, 0);
    }
}

// ---- without the right to change ids --------------------------------------------------------

static void a_daemon_that_can_not_change_ids_serves_its_own_user_only(void **state)
{
    struct object_access access = {.own_uid = geteuid()};
    int fd = open_with(&access, in_folder("open.fits"), geteuid(), getegid(), 0);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(open_with(&access, in_folder("open.fits"), geteuid() + 1, getegid(), 0),
                     -EACCES);
}

static void a_right_to_change_ids_that_is_not_there_is_noticed(void **state)
{
    needs_root();
    in_child(set_capabilities(0, 0) && open_as(in_folder("open.fits"), ALICE, ALICE, 0) == -EACCES);
}

// ---- as owner -------------------------------------------------------------------------------

static int open_as_owner(const char *name, const char *root, const char *other_root)
{
    const char *roots[] = {root, other_root, NULL};
    struct object_access access = {.as_owner = true, .roots = roots};
    return open_with(&access, in_folder(name), 65000, 65000, 0);
}

static void assert_owner_opens(const char *name, const char *root, const char *other_root)
{
    int fd = open_as_owner(name, root, other_root);
    if (fd < 0)
        fail_msg("%s: %s (%s)", name, strerror(-fd), why);
    close(fd);
}

static void as_owner_anyone_reads_what_is_below_a_root(void **state)
{
    assert_owner_opens("alice.fits", folder, NULL);
    assert_owner_opens("alice/open.fits", folder, NULL);
    assert_owner_opens("alice/open.fits", "/none", in_folder("alice"));
    assert_owner_opens("alice/../open.fits", folder, NULL);
    assert_owner_opens("open.fits", "/", NULL);
}

static void as_owner_nothing_outside_the_roots_is_opened(void **state)
{
    assert_int_equal(open_as_owner("open.fits", in_folder("alice"), NULL), -EACCES);
    assert_int_equal(open_as_owner("open.fits", in_folder("ali"), NULL), -EACCES);
    assert_int_equal(open_as_owner("alice.fits", in_folder("alice"), NULL), -EACCES);
    assert_int_equal(open_as_owner("alice/../open.fits", in_folder("alice"), NULL), -EACCES);
    assert_int_equal(open_as_owner("open.fits", NULL, NULL), -EACCES);
    assert_int_equal(open_as_owner("open.fits", in_folder("open.fits"), NULL), -EACCES);
    assert_int_equal(open_as_owner("none", folder, NULL), -ENOENT);
    assert_int_equal(open_as_owner("alice", folder, NULL), -EACCES);
}

static void as_owner_a_link_counts_by_where_it_leads(void **state)
{
    make_link("alice/out.fits", "../open.fits");
    make_link("in.fits", "alice/open.fits");
    make_link("root", "alice");
    assert_int_equal(open_as_owner("alice/out.fits", in_folder("alice"), NULL), -EACCES);
    assert_owner_opens("alice/out.fits", folder, NULL);
    assert_owner_opens("in.fits", in_folder("alice"), NULL);
    assert_owner_opens("alice/open.fits", in_folder("root"), NULL);
    assert_owner_opens("root/open.fits", in_folder("alice"), NULL);
}

static void as_owner_proc_is_refused_even_below_the_root_of_all(void **state)
{
    const char *roots[] = {"/", NULL};
    struct object_access access = {.as_owner = true, .roots = roots};
    assert_int_equal(open_with(&access, "/proc/self/environ", 0, 0, 0), -EACCES);
    assert_int_equal(open_with(&access, "/dev/null", 0, 0, 0), -EACCES);
}

static void *swap_often(void *context)
{
    const atomic_bool *stop = context;
    static char link[128], file[128], name[128]; // what fails is handed back
    path_in_folder(link, "alice/link");
    path_in_folder(file, "alice/file");
    path_in_folder(name, "alice/name.fits");
    while (!atomic_load(stop)) {
        unlink(link);
        unlink(file);
        if (symlink("../open.fits", link) < 0 || rename(link, name) < 0)
            return link;
        int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        close(fd);
        if (fd < 0 || rename(file, name) < 0)
            return file;
    }
    return NULL;
}

static void as_owner_a_path_that_changes_meanwhile_leads_nowhere_else(void **state)
{
    atomic_bool stop = false;
    pthread_t thread;
    struct stat outside, st;
    void *failed;
    int opened = 0;
    assert_int_equal(stat(in_folder("open.fits"), &outside), 0);
    assert_int_equal(pthread_create(&thread, NULL, swap_often, &stop), 0);
    alarm(60);
    for (int i = 0; i < 5000 || opened == 0; i++) { // the other thread may begin late
        int fd = open_as_owner("alice/name.fits", in_folder("alice"), NULL);
        if (fd < 0)
            continue;
        opened++;
        assert_int_equal(fstat(fd, &st), 0);
        assert_int_not_equal(st.st_ino, outside.st_ino);
        close(fd);
    }
    alarm(0);
    atomic_store(&stop, true);
    pthread_join(thread, &failed);
    assert_null(failed);
}

// ---- the descriptor -------------------------------------------------------------------------

static void the_descriptor_is_read_only_blocking_and_closed_on_exec(void **state)
{
    struct object_access access = {.own_uid = geteuid()};
    char bytes[32];
    int fd = open_with(&access, in_folder("open.fits"), geteuid(), getegid(), 0);
    assert_int_equal(fcntl(fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_RDONLY);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    assert_int_equal(read(fd, bytes, sizeof(bytes)), 9);
    assert_memory_equal(bytes, "open.fits", 9);
    close(fd);
}

static void its_owners_reading_leaves_no_trace_in_the_access_time(void **state)
{
    needs_root();
    int fd = open_as(in_folder("alice.fits"), ALICE, ALICE, 0);
    assert_true(fcntl(fd, F_GETFL) & O_NOATIME);
    close(fd);
    fd = open_as(in_folder("open.fits"), ALICE, ALICE, 0);
    assert_false(fcntl(fd, F_GETFL) & O_NOATIME);
    close(fd);
}

static void a_leased_file_is_not_waited_for(void **state)
{
    // Its holder is told by a signal, and does nothing about it.
    assert_true(signal(SIGIO, SIG_IGN) != SIG_ERR);
    int fd = open(in_folder("alice.fits"), O_RDWR | O_CLOEXEC);
    if (fd < 0 || fcntl(fd, F_SETLEASE, F_WRLCK) < 0) {
        print_message("skipped: no lease to be had here (%s)\n", strerror(errno));
        skip();
    }
    struct object_access access = {.own_uid = geteuid()};
    alarm(10);
    assert_int_equal(open_with(&access, in_folder("alice.fits"), geteuid(), getegid(), 0), -EAGAIN);
    alarm(0);
    close(fd);
}

static int descriptors(void)
{
    int count = 0;
    DIR *d = opendir("/proc/self/fd");
    while (readdir(d))
        count++;
    closedir(d);
    return count;
}

static void nothing_is_left_open_whatever_the_answer(void **state)
{
    int before = descriptors();
    struct object_access access = {.own_uid = geteuid()};
    static const char *const names[] = {"open.fits", "none", "alice", "alice/open.fits"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct stat st;
        int fd = open_with(&access, in_folder(names[i]), geteuid(), getegid(), 0);
        if (fd >= 0)
            close(fd);
        fd = open_as_owner(names[i], folder, NULL);
        if (fd >= 0)
            close(fd);
        fd = open_as_owner(names[i], "/none", in_folder("alice"));
        if (fd >= 0)
            close(fd);
        object_stat_local(in_folder(names[i]), &st);
    }
    assert_int_equal(descriptors(), before);
}

static void a_files_size_is_asked_with_the_daemons_rights(void **state)
{
    struct stat st;
    assert_int_equal(object_stat_local(in_folder("alice/open.fits"), &st), 0);
    assert_int_equal(st.st_size, 15);
    assert_int_equal(object_stat_local(in_folder("none"), &st), -ENOENT);
    assert_int_equal(object_stat_local(folder, &st), -EACCES);
    assert_int_equal(object_stat_local("/proc/version", &st), -EACCES);
    assert_int_equal(object_stat_local("open.fits", &st), -EACCES);
}

#define each(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        each(a_file_the_caller_may_read_is_opened),
        each(a_file_closed_to_the_caller_stays_closed_to_him),
        each(a_folder_closed_to_the_caller_closes_what_is_in_it),
        each(the_callers_own_group_counts),
        each(root_may_read_everything),
        each(an_id_that_is_none_is_refused),
        each(the_calling_processes_supplementary_groups_count),
        each(another_users_process_lends_nobody_its_groups),
        each(the_daemons_groups_are_not_the_callers),
        each(a_fifo_is_refused_without_waiting_for_its_writer),
        each(a_device_a_folder_and_a_socket_are_refused),
        each(files_of_proc_and_sys_are_refused_wherever_a_link_leads),
        each(the_daemons_environment_can_not_be_read),
        each(the_daemons_open_files_can_not_be_reached_through_proc),
        each(symbolic_links_are_followed_as_the_caller),
        each(links_that_go_round_are_refused),
        each(what_is_not_there_is_gone),
        each(a_path_that_is_not_absolute_is_refused),
        each(the_thread_is_afterwards_what_it_was),
        each(the_thread_keeps_its_reduced_capabilities),
        each(a_capability_that_was_lowered_is_not_raised_by_coming_back),
        each(the_daemons_capabilities_open_nothing_to_the_caller),
        each(nor_to_a_caller_who_is_the_daemons_user),
        each(a_thread_that_can_not_come_back_ends_the_process),
        each(threads_act_for_different_callers_at_once),
        each(a_daemon_that_can_not_change_ids_serves_its_own_user_only),
        each(a_right_to_change_ids_that_is_not_there_is_noticed),
        each(as_owner_anyone_reads_what_is_below_a_root),
        each(as_owner_nothing_outside_the_roots_is_opened),
        each(as_owner_a_link_counts_by_where_it_leads),
        each(as_owner_proc_is_refused_even_below_the_root_of_all),
        each(as_owner_a_path_that_changes_meanwhile_leads_nowhere_else),
        each(the_descriptor_is_read_only_blocking_and_closed_on_exec),
        each(its_owners_reading_leaves_no_trace_in_the_access_time),
        each(a_leased_file_is_not_waited_for),
        each(nothing_is_left_open_whatever_the_answer),
        each(a_files_size_is_asked_with_the_daemons_rights),
    };
    return run_group(tests);
}
