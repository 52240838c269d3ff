// SPDX-License-Identifier: BSD-3-Clause
// store_disk: every effect of the store on its disk.
// 1. A map is unlinked before its data and made after it: whatever moment a life ends at, a map that
//    is there has the data file it was made for, or none.
// 2. What is under new/ belongs to nobody; a start deletes it.
// 3. Another version of the format has another folder: nothing of it is read.
#include "cache/store_disk.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"

#define BLOCKS_PREFIX "blocks."
#define FOLDER_MODE 0700
#define FILE_MODE 0600
#ifndef RWF_DONTCACHE
#define RWF_DONTCACHE 0x80 // Linux 6.14
#endif

// ---- faults

// 0, the error that this effect is to have, or 1: the process is to end in it.
static int fault(struct store_disk *d, enum store_effect effect)
{
    struct store_faults *f = d->faults;
    if (!f || !(f->effects & effect))
        return 0;
    int left = atomic_load(&f->countdown);
    do {
        if (left < 0 && !(f->is_lasting && left == -1))
            return 0;
        if (left < 0)
            return f->error;
    } while (!atomic_compare_exchange_weak(&f->countdown, &left, left - 1));
    if (left > 0)
        return 0;
    return f->error ? f->error : 1;
}

static _Noreturn void die(void)
{
    raise(SIGKILL);
    abort();
}

static int fault_or_die(struct store_disk *d, enum store_effect effect)
{
    int r = fault(d, effect);
    if (r > 0)
        die();
    return r;
}

// ---- the folder

static int make_folder(int at, const char *name)
{
    if (mkdirat(at, name, FOLDER_MODE) < 0 && errno != EEXIST)
        return -errno;
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static int take_lock(int root_fd, const char **ret_why)
{
    cleanup(cleanup_close) int fd =
        openat(root_fd, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, FILE_MODE);
    if (fd < 0) {
        *ret_why = "can't make its lock";
        return -errno;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        *ret_why = "in use by another process";
        return errno == EWOULDBLOCK ? -EBUSY : -errno;
    }
    return take_fd(&fd);
}

// Deletes a folder and all in it, a level at a time. It never follows a link.
static void remove_tree(int at, const char *name)
{
    if (unlinkat(at, name, 0) == 0)
        return;
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    if (!folder) {
        if (fd >= 0)
            close(fd);
        return;
    }
    for (struct dirent *e; (e = readdir(folder));)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            remove_tree(dirfd(folder), e->d_name);
    closedir(folder);
    unlinkat(at, name, AT_REMOVEDIR);
}

int store_disk_open(const char *folder, struct store_faults *faults, struct store_disk *ret_disk,
                    const char **ret_why)
{
    *ret_why = "can't be made or opened";
    cleanup(cleanup_close) int root = make_folder(AT_FDCWD, folder);
    if (root < 0)
        return root;
    cleanup(cleanup_close) int lock = take_lock(root, ret_why);
    if (lock < 0)
        return lock;
    *ret_why = "its folder of blocks can't be made or opened";
    char name[32];
    snprintf(name, sizeof(name), BLOCKS_PREFIX "%d", STORE_FORMAT);
    cleanup(cleanup_close) int blocks = make_folder(root, name);
    if (blocks < 0)
        return blocks;
    remove_tree(blocks, "new");
    cleanup(cleanup_close) int new_fd = make_folder(blocks, "new");
    if (new_fd < 0)
        return new_fd;
    ret_disk->lock_fd = take_fd(&lock);
    ret_disk->root_fd = take_fd(&root);
    ret_disk->blocks_fd = take_fd(&blocks);
    ret_disk->new_fd = take_fd(&new_fd);
    atomic_init(&ret_disk->new_serial, 0);
    atomic_init(&ret_disk->is_without_passing, false);
    atomic_init(&ret_disk->is_without_direct, false);
    ret_disk->faults = faults;
    return 0;
}

void store_disk_close(struct store_disk *d)
{
    close(d->new_fd);
    close(d->blocks_fd);
    close(d->root_fd);
    close(d->lock_fd);
}

void store_disk_remove_older(struct store_disk *d)
{
    char own[32];
    snprintf(own, sizeof(own), BLOCKS_PREFIX "%d", STORE_FORMAT);
    int fd = openat(d->root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    if (!folder) {
        if (fd >= 0)
            close(fd);
        return;
    }
    for (struct dirent *e; (e = readdir(folder));) {
        const char *number = e->d_name + strlen(BLOCKS_PREFIX);
        if (strncmp(e->d_name, BLOCKS_PREFIX, strlen(BLOCKS_PREFIX)) == 0 &&
            isdigit((unsigned char)*number) && strcmp(e->d_name, own) != 0) {
            log_info("cache: %s is of another version of the format: deleted", e->d_name);
            remove_tree(d->root_fd, e->d_name);
        }
    }
    closedir(folder);
}

// ---- names

static const char *const suffixes[] = {[STORE_DATA] = ".data", [STORE_MAP] = ".map"};

void store_disk_name(const uint8_t identity[16], enum store_file file,
                     char ret_name[STORE_NAME_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    char *to = ret_name;
    for (int i = 0; i < 16; i++) {
        *to++ = digits[identity[i] >> 4];
        *to++ = digits[identity[i] & 15];
        if (i == 0)
            *to++ = '/';
    }
    strcpy(to, suffixes[file]);
}

static int digit_of(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int store_disk_identity(unsigned high, const char *name, uint8_t ret_identity[16],
                        enum store_file *ret_file)
{
    uint8_t identity[16] = {(uint8_t)high};
    for (int i = 1; i < 16; i++, name += 2) {
        int a = digit_of(name[0]), b = a < 0 ? -1 : digit_of(name[1]);
        if (b < 0)
            return -EINVAL;
        identity[i] = (uint8_t)(a << 4 | b);
    }
    enum store_file file = strcmp(name, suffixes[STORE_MAP]) == 0 ? STORE_MAP : STORE_DATA;
    if (strcmp(name, suffixes[file]) != 0)
        return -EINVAL;
    memcpy(ret_identity, identity, sizeof(identity));
    *ret_file = file;
    return 0;
}

// ---- files

int store_disk_open_file(struct store_disk *d, const uint8_t identity[16], enum store_file file,
                         int flags)
{
    int r = fault_or_die(d, STORE_EFFECT_OPEN);
    if (r < 0)
        return r;
    char name[STORE_NAME_BYTES];
    store_disk_name(identity, file, name);
    int fd = openat(d->blocks_fd, name, flags | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int store_disk_create(struct store_disk *d, const uint8_t identity[16], enum store_file file)
{
    int r = fault_or_die(d, STORE_EFFECT_NAME);
    if (r < 0)
        return r;
    char name[STORE_NAME_BYTES], folder[] = "ab";
    store_disk_name(identity, file, name);
    memcpy(folder, name, 2);
    for (bool is_again = false;; is_again = true) {
        int fd = openat(d->blocks_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, FILE_MODE);
        if (fd >= 0)
            return fd;
        if (errno != ENOENT || is_again)
            return -errno;
        if (mkdirat(d->blocks_fd, folder, FOLDER_MODE) < 0 && errno != EEXIST)
            return -errno;
    }
}

static int remove_name(struct store_disk *d, int at, const char *name)
{
    int r = fault_or_die(d, STORE_EFFECT_NAME);
    if (r < 0)
        return r;
    return unlinkat(at, name, 0) == 0 || errno == ENOENT ? 0 : -errno;
}

int store_disk_remove(struct store_disk *d, const uint8_t identity[16])
{
    char name[STORE_NAME_BYTES];
    store_disk_name(identity, STORE_MAP, name);
    int r = remove_name(d, d->blocks_fd, name);
    if (r < 0)
        return r;
    store_disk_name(identity, STORE_DATA, name);
    return remove_name(d, d->blocks_fd, name);
}

static void name_new(uint64_t serial, enum store_file file, char ret_name[STORE_NAME_BYTES])
{
    snprintf(ret_name, STORE_NAME_BYTES, "%llu%s", (unsigned long long)serial, suffixes[file]);
}

static int create_new(struct store_disk *d, uint64_t serial, enum store_file file)
{
    int r = fault_or_die(d, STORE_EFFECT_NAME);
    if (r < 0)
        return r;
    char name[STORE_NAME_BYTES];
    name_new(serial, file, name);
    int fd = openat(d->new_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, FILE_MODE);
    return fd < 0 ? -errno : fd;
}

int store_disk_new(struct store_disk *d, struct store_new *ret_new)
{
    struct store_new n = {.serial = atomic_fetch_add(&d->new_serial, 1)};
    cleanup(cleanup_close) int data = create_new(d, n.serial, STORE_DATA);
    if (data < 0)
        return data;
    n.map_fd = create_new(d, n.serial, STORE_MAP);
    if (n.map_fd < 0) {
        store_disk_discard(d, &n);
        return n.map_fd;
    }
    n.data_fd = take_fd(&data);
    *ret_new = n;
    return 0;
}

void store_disk_discard(struct store_disk *d, const struct store_new *n)
{
    char name[STORE_NAME_BYTES];
    name_new(n->serial, STORE_MAP, name);
    unlinkat(d->new_fd, name, 0);
    name_new(n->serial, STORE_DATA, name);
    unlinkat(d->new_fd, name, 0);
}

int store_disk_adopt(struct store_disk *d, const struct store_new *n, const uint8_t identity[16])
{
    static const enum store_file order[] = {STORE_DATA, STORE_MAP};
    char from[STORE_NAME_BYTES], to[STORE_NAME_BYTES];
    store_disk_name(identity, STORE_MAP, to);
    int r = remove_name(d, d->blocks_fd, to);
    for (int i = 0; i < 2 && r == 0; i++) {
        r = fault_or_die(d, STORE_EFFECT_NAME);
        name_new(n->serial, order[i], from);
        store_disk_name(identity, order[i], to);
        if (r == 0 && renameat(d->new_fd, from, d->blocks_fd, to) < 0)
            r = -errno;
    }
    return r;
}

int store_disk_rename(struct store_disk *d, const char *from, const char *to)
{
    int r = fault_or_die(d, STORE_EFFECT_NAME);
    if (r < 0)
        return r;
    return renameat(d->blocks_fd, from, d->blocks_fd, to) < 0 ? -errno : 0;
}

// ---- bytes

ssize_t store_disk_read_some(struct store_disk *d, int fd, void *buffer, size_t size_bytes,
                             uint64_t offset)
{
    int r = fault_or_die(d, STORE_EFFECT_READ);
    if (r < 0)
        return r;
    size_t done = 0;
    while (done < size_bytes) {
        ssize_t n = pread(fd, (char *)buffer + done, size_bytes - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

int store_disk_read(struct store_disk *d, int fd, void *buffer, size_t size_bytes, uint64_t offset)
{
    ssize_t n = store_disk_read_some(d, fd, buffer, size_bytes, offset);
    return n < 0 ? (int)n : (size_t)n < size_bytes ? -EIO : 0;
}

int store_disk_pass(struct store_disk *d, int fd, void *buffer, size_t size_bytes, uint64_t offset)
{
    if (atomic_load(&d->is_without_passing))
        return store_disk_read(d, fd, buffer, size_bytes, offset);
    int r = fault_or_die(d, STORE_EFFECT_READ);
    size_t done = 0;
    while (r == 0 && done < size_bytes) {
        struct iovec to = {(char *)buffer + done, size_bytes - done};
        ssize_t n = preadv2(fd, &to, 1, (off_t)(offset + done), RWF_DONTCACHE);
        if (n < 0 && errno == EOPNOTSUPP) {
            atomic_store(&d->is_without_passing, true);
            return store_disk_read(d, fd, buffer, size_bytes, offset);
        }
        if (n < 0 && errno != EINTR)
            r = -errno;
        else if (n == 0)
            r = -EIO;
        else if (n > 0)
            done += (size_t)n;
    }
    return r;
}

int store_disk_sync(struct store_disk *d, int fd)
{
    int r = fault_or_die(d, STORE_EFFECT_SYNC);
    if (r < 0)
        return r;
    return fdatasync(fd) < 0 ? -errno : 0;
}

int store_disk_write(struct store_disk *d, int fd, const void *data, size_t size_bytes,
                     uint64_t offset)
{
    int r = fault(d, STORE_EFFECT_WRITE);
    if (r < 0)
        return r;
    bool is_fatal = r > 0;
    size_t done = 0, wanted = is_fatal ? size_bytes / 2 : size_bytes;
    while (done < wanted) {
        ssize_t n = pwrite(fd, (const char *)data + done, wanted - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        done += (size_t)n;
    }
    if (is_fatal)
        die();
    return 0;
}

#define PIECES_MAX 16

int store_disk_write_pieces(struct store_disk *d, int fd, const struct iovec *pieces, uint32_t count,
                            uint64_t offset)
{
    check(count <= PIECES_MAX);
    int r = fault(d, STORE_EFFECT_WRITE);
    if (r < 0)
        return r;
    bool is_fatal = r > 0;
    struct iovec left[PIECES_MAX], *at = left;
    memcpy(left, pieces, count * sizeof(*pieces));
    for (uint32_t wanted = is_fatal ? count / 2 : count; wanted;) {
        ssize_t n = pwritev(fd, at, (int)wanted, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        offset += (uint64_t)n;
        for (; wanted && (size_t)n >= at->iov_len; at++, wanted--)
            n -= (ssize_t)at->iov_len;
        if (wanted) {
            at->iov_base = (char *)at->iov_base + n;
            at->iov_len -= (size_t)n;
        }
    }
    if (is_fatal)
        die();
    return 0;
}

int store_disk_open_direct(struct store_disk *d, int fd)
{
    char name[40];
    int r = fault_or_die(d, STORE_EFFECT_OPEN);
    if (r < 0)
        return r;
    snprintf(name, sizeof(name), "/proc/self/fd/%d", fd); // whatever the names are by now: this file
    int direct = open(name, O_WRONLY | O_DIRECT | O_CLOEXEC);
    return direct < 0 ? -errno : direct;
}

int store_disk_resize(struct store_disk *d, int fd, uint64_t size_bytes)
{
    int r = fault_or_die(d, STORE_EFFECT_WRITE);
    if (r < 0)
        return r;
    return ftruncate(fd, (off_t)size_bytes) < 0 ? -errno : 0;
}

int store_disk_free_bytes(struct store_disk *d, uint64_t *ret_bytes)
{
    struct statvfs s;
    if (fstatvfs(d->blocks_fd, &s) < 0)
        return -errno;
    *ret_bytes = (uint64_t)s.f_bavail * s.f_frsize;
    return 0;
}
