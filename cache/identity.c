// SPDX-License-Identifier: BSD-3-Clause
// identity: acting as somebody else by raw system calls, which are per thread (libc's wrappers of
// setgroups change all threads).
// 1. Nothing is believed that can be asked: each id is read back after it was set, as setfsuid and
//    setfsgid never say that they failed.
// 2. setfsuid drops capabilities only when it leaves 0, and raises what is permitted when it comes
//    back; so the effective ones are set by ourselves, both ways.
// 3. A thread that can't become what it was must not go on: it would act for the wrong one.
#include "cache/identity.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <sys/syscall.h>

#include "base/buffer.h"
#include "base/log.h"

#define STATUS_BYTES_MAX (1 << 20) // 65536 groups of ten digits and a blank

// Those that let a thread past a file's mode, owner or attributes (fs set of capabilities(7)).
#define BIT(capability) (UINT64_C(1) << (capability))
#define FILE_CAPABILITIES                                                                          \
    (BIT(CAP_CHOWN) | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_DAC_READ_SEARCH) | BIT(CAP_FOWNER) |         \
     BIT(CAP_FSETID) | BIT(CAP_LINUX_IMMUTABLE) | BIT(CAP_MKNOD) | BIT(CAP_MAC_OVERRIDE))

struct groups {
    gid_t *list; // sorted, as the kernel keeps and shows them
    size_t count;
};

static void groups_release(struct groups *g)
{
    free(g->list);
}

static uid_t get_fsuid(void)
{
    return (uid_t)syscall(SYS_setfsuid, (uid_t)-1);
}

static gid_t get_fsgid(void)
{
    return (gid_t)syscall(SYS_setfsgid, (gid_t)-1);
}

static bool set_fsuid(uid_t uid)
{
    if (uid == (uid_t)-1) // would only ask
        return false;
    syscall(SYS_setfsuid, uid);
    return get_fsuid() == uid;
}

static bool set_fsgid(gid_t gid)
{
    if (gid == (gid_t)-1)
        return false;
    syscall(SYS_setfsgid, gid);
    return get_fsgid() == gid;
}

static bool set_groups(const gid_t *list, size_t count)
{
    return syscall(SYS_setgroups, count, list) == 0;
}

static bool get_capabilities(struct __user_cap_data_struct data[2])
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    return syscall(SYS_capget, &header, data) == 0;
}

static uint64_t effective_of(const struct __user_cap_data_struct data[2])
{
    return (uint64_t)data[1].effective << 32 | data[0].effective;
}

static bool set_effective(uint64_t effective)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    if (!get_capabilities(data))
        return false;
    if (effective_of(data) == effective)
        return true;
    data[0].effective = (uint32_t)effective;
    data[1].effective = (uint32_t)(effective >> 32);
    return syscall(SYS_capset, &header, data) == 0;
}

// The four numbers of "Uid:" or "Gid:": the last is the file system's.
static bool fourth_is(const char *status, const char *field, unsigned long wanted)
{
    const char *at = strstr(status, field);
    if (!at)
        return false;
    at += strlen(field);
    for (int i = 0; i < 3; i++)
        at += strspn(at, "\t "), at += strspn(at, "0123456789");
    char *end;
    return strtoul(at, &end, 10) == wanted && *end == '\n';
}

static bool parse_groups(const char *status, struct groups *ret_groups)
{
    static const char field[] = "\nGroups:";
    const char *at = strstr(status, field);
    if (!at)
        return false;
    at += sizeof(field) - 1;
    size_t room = 1;
    for (const char *c = at; *c && *c != '\n'; c++)
        room += *c == ' ';
    struct groups g = {.list = memory_grow(NULL, room, sizeof(gid_t))};
    for (char *end;; at = end) {
        at += strspn(at, "\t ");
        if (*at == '\n')
            break;
        unsigned long gid = strtoul(at, &end, 10);
        if (end == at || g.count == room) { // not what the kernel writes
            free(g.list);
            return false;
        }
        g.list[g.count++] = (gid_t)gid;
    }
    *ret_groups = g;
    return true;
}

static bool read_status(pid_t pid, struct buffer *to)
{
    char path[40];
    snprintf(path, sizeof(path), "/proc/%d/status", pid);
    cleanup(cleanup_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    for (;;) {
        buffer_reserve(to, 4096);
        ssize_t n = read(fd, to->data + to->size_bytes, 4096);
        if (n <= 0)
            return n == 0;
        to->size_bytes += (size_t)n;
        to->data[to->size_bytes] = 0;
        if (to->size_bytes > STATUS_BYTES_MAX)
            return false;
    }
}

// What /proc says of the thread counts only if it is (still) the caller by its ids.
static bool groups_of(const struct caller *caller, struct groups *ret_groups)
{
    BUFFER_CLEANUP status = {0};
    return caller->pid > 0 && read_status(caller->pid, &status) &&
           fourth_is(status.data, "\nUid:", caller->uid) &&
           fourth_is(status.data, "\nGid:", caller->gid) && parse_groups(status.data, ret_groups);
}

static bool own_groups(struct groups *ret_groups)
{
    int count = getgroups(0, NULL);
    if (count < 0)
        return false;
    gid_t *list = memory_grow(NULL, (size_t)count, sizeof(gid_t));
    // No other thread can change this one's.
    if (getgroups(count, list) != count) {
        free(list);
        return false;
    }
    *ret_groups = (struct groups){list, (size_t)count};
    return true;
}

static bool groups_equal(const gid_t *a, size_t a_count, const gid_t *b, size_t b_count)
{
    return a_count == b_count && (a_count == 0 || memcmp(a, b, a_count * sizeof(*a)) == 0);
}

static bool change_ids_to(const struct caller *caller, const struct groups *groups,
                          const struct identity *was)
{
    if (!groups_equal(groups->list, groups->count, was->groups, was->group_count) &&
        !set_groups(groups->list, groups->count))
        return false;
    if (caller->gid != was->fsgid && !set_fsgid(caller->gid))
        return false;
    return caller->uid == was->fsuid || set_fsuid(caller->uid);
}

static bool drop_file_capabilities(void)
{
    struct __user_cap_data_struct data[2];
    return get_capabilities(data) && set_effective(effective_of(data) & ~FILE_CAPABILITIES);
}

static bool remember(struct identity *ret_was)
{
    struct __user_cap_data_struct data[2];
    struct groups own;
    if (!get_capabilities(data) || !own_groups(&own))
        return false;
    *ret_was = (struct identity){get_fsuid(), get_fsgid(), own.list, own.count, effective_of(data)};
    return true;
}

int identity_assume(const struct caller *caller, bool change_ids, struct identity *ret_was,
                    bool *ret_groups_known)
{
    cleanup(groups_release) struct groups groups = {0};
    struct identity was;
    bool known = !change_ids || groups_of(caller, &groups);
    if (!remember(&was))
        return -EACCES;
    if ((change_ids && !change_ids_to(caller, &groups, &was)) ||
        (caller->uid != 0 && !drop_file_capabilities())) {
        identity_restore(&was);
        return -EACCES;
    }
    *ret_was = was;
    *ret_groups_known = known;
    return 0;
}

void identity_restore(struct identity *was)
{
    cleanup(groups_release) struct groups now = {0};
    check(get_fsuid() == was->fsuid || set_fsuid(was->fsuid));
    check(get_fsgid() == was->fsgid || set_fsgid(was->fsgid));
    check(set_effective(was->effective));
    check(own_groups(&now));
    check(groups_equal(now.list, now.count, was->groups, was->group_count) ||
          set_groups(was->groups, was->group_count));
    free(was->groups);
    *was = (struct identity){0};
}
