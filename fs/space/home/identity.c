// SPDX-License-Identifier: BSD-3-Clause
// identity.c: see identity.h. Raw system calls: glibc's wrappers would change every thread.
//
// Invariant: outside identity_take … identity_leave a thread's file ids are root's, and its rights full.
#include "fs/space/home/identity.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "fs/privilege.h"

static _Thread_local bool is_prepared;

void identity_prepare(void)
{
    if (is_prepared)
        return;
    is_prepared = true;
    int r = privilege_raise_thread();
    if (r < 0)
        log_error("this thread can't serve homes: its rights: %s", strerror(-r));
    if (unshare(CLONE_FS) < 0) // the umask is the process's otherwise
        log_error("this thread has no umask of its own: %s", strerror(errno));
    umask(0);
}

static bool set_id(long number, unsigned id)
{
    syscall(number, id);
    return (unsigned)syscall(number, -1) == id; // it doesn't say whether it worked
}

// Changing the user id takes rights away, back to root gives them again.
static int take_ids(uid_t uid, gid_t gid)
{
    if (set_id(SYS_setfsgid, gid) && set_id(SYS_setfsuid, uid) && (uid == 0 || privilege_raise_thread() == 0))
        return 0;
    identity_leave();
    return -EPERM;
}

int identity_take(uid_t uid, gid_t gid, mode_t mask)
{
    umask(mask);
    return take_ids(uid, gid);
}

void identity_leave(void)
{
    syscall(SYS_setfsuid, 0);
    syscall(SYS_setfsgid, 0);
    umask(0);
}

static int drop_one(int capability)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
    if (syscall(SYS_capget, &header, data) < 0)
        return -errno;
    data[CAP_TO_INDEX(capability)].effective &= ~CAP_TO_MASK(capability);
    return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

int identity_take_all(uid_t uid, gid_t gid, const gid_t *groups, int group_count)
{
    if (syscall(SYS_setgroups, (size_t)group_count, groups) < 0)
        return -errno;
    int r = take_ids(uid, gid);
    if (r == 0 && uid != 0)
        r = drop_one(CAP_FSETID);
    if (r < 0)
        identity_leave_all();
    return r;
}

void identity_leave_all(void)
{
    identity_leave();
    syscall(SYS_setgroups, (size_t)0, NULL);
    privilege_raise_thread();
}
