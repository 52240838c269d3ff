// SPDX-License-Identifier: BSD-3-Clause
// privilege: see privilege.h. Only what is kept is listed; everything else goes, for good.
#include "fs/privilege.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "base/cleanup.h"

static const struct {
    cap_value_t capability;
    const char *reason;
    bool is_for_writing; // of home and group spaces only, and only in the threads that serve them
} kept[] = {
    {CAP_SYS_ADMIN, "FUSE_DEV_IOC_BACKING_OPEN: the kernel reads a local artifact by itself"},
    {CAP_SETUID, "an artifact is opened with the caller's user id (setfsuid)"},
    {CAP_SETGID, "and with the caller's groups (setfsgid, setgroups)"},
    // A repository may be readable by its owner only; what is shown of it is decided by modes that
    // the kernel checks. Not CAP_DAC_OVERRIDE: nothing is ever written into a repository, not even
    // SQLite's -wal and -shm files, which its owner could then no longer replace.
    {CAP_DAC_READ_SEARCH, "registries, and artifacts with open_as=owner, in folders closed to root by mode"},
    // What a home's user may do was decided by the kernel (default_permissions) before we are asked.
    {CAP_DAC_OVERRIDE, "an entry is made in a folder with its maker's user id", true},
    {CAP_FOWNER, "modes and times are set for a file's owner", true},
    {CAP_CHOWN, "an owner is changed for root, a group for a file's owner", true},
    {CAP_FSETID, "a set-group-id bit that the caller may give stays", true},
    {CAP_MKNOD, "devices are made for root, as on other file systems (nodev: nobody opens them)", true},
};

static bool is_kept(cap_value_t capability, bool for_writing)
{
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        if (kept[i].capability == capability && (for_writing || !kept[i].is_for_writing))
            return true;
    return false;
}

static void cleanup_cap(cap_t *c)
{
    if (*c)
        cap_free(*c);
}

// The bounding set can only be narrowed with CAP_SETPCAP, which who isn't root doesn't have; then
// no_new_privs alone does it.
static void drop_bounding(bool for_writing)
{
    for (cap_value_t c = 0; cap_get_bound(c) >= 0; c++)
        if (!is_kept(c, for_writing))
            cap_drop_bound(c);
}

static int keep(cap_t now, cap_t next, size_t i)
{
    const cap_value_t *c = &kept[i].capability;
    cap_flag_value_t has = CAP_CLEAR;
    cap_get_flag(now, *c, CAP_PERMITTED, &has);
    if (has != CAP_SET)
        return 0;
    if (cap_set_flag(next, CAP_PERMITTED, 1, c, CAP_SET) < 0)
        return -errno;
    bool is_at_once = !kept[i].is_for_writing;
    return is_at_once && cap_set_flag(next, CAP_EFFECTIVE, 1, c, CAP_SET) < 0 ? -errno : 0;
}

int privilege_raise_thread(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
    if (syscall(SYS_capget, &header, data) < 0)
        return -errno;
    for (int i = 0; i < _LINUX_CAPABILITY_U32S_3; i++)
        data[i].effective = data[i].permitted;
    return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

int privilege_reduce(bool for_writing)
{
    cleanup(cleanup_cap) cap_t now = cap_get_proc(), next = cap_init();
    if (!now || !next)
        return -errno;
    drop_bounding(for_writing);
    cap_reset_ambient();
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        int r = for_writing || !kept[i].is_for_writing ? keep(now, next, i) : 0;
        if (r < 0)
            return r;
    }
    if (cap_set_proc(next) < 0)
        return -errno;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    // 1, not 0: with 0 a kernel whose core_pattern is a pipe dumps all the same.
    return setrlimit(RLIMIT_CORE, &(struct rlimit){1, 1}) < 0 && errno != EPERM ? -errno : 0;
}

static bool has_effective(cap_value_t capability)
{
    cleanup(cleanup_cap) cap_t now = cap_get_proc();
    cap_flag_value_t has = CAP_CLEAR;
    return now && cap_get_flag(now, capability, CAP_EFFECTIVE, &has) == 0 && has == CAP_SET;
}

// The initial namespaces have fixed inode numbers (linux/proc_ns.h).
static bool is_initial_user_namespace(void)
{
    char link[64];
    ssize_t n = readlink("/proc/self/ns/user", link, sizeof link - 1);
    if (n < 0)
        return true; // a kernel without user namespaces
    link[n] = '\0';
    return strcmp(link, "user:[4026531837]") == 0;
}

bool privilege_can_passthrough(void)
{
    return is_initial_user_namespace() && has_effective(CAP_SYS_ADMIN);
}

// A user namespace of one user's own maps one id: there is nobody to change to.
static bool maps_many_ids(void)
{
    FILE *f = fopen("/proc/self/uid_map", "re");
    uint64_t count = 0;
    unsigned long inside, outside, length;
    if (!f)
        return true;
    while (fscanf(f, "%lu %lu %lu", &inside, &outside, &length) == 3)
        count += length;
    fclose(f);
    return count > 1;
}

bool privilege_can_change_ids(void)
{
    return has_effective(CAP_SETUID) && has_effective(CAP_SETGID) && maps_many_ids();
}
