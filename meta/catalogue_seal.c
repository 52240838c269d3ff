// SPDX-License-Identifier: BSD-3-Clause
// catalogue_seal: LMDB believes the pages it reads, so a file that somebody or something changed while
// no mount used it must not be given to it. A mount that ends in order leaves a seal: size and times
// of the file as they were after the last write. The first life of the next mount compares them, and
// starts empty where they differ or there is no seal. Later lives of a mount go on with what the one
// before them wrote.
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/log.h"
#include "meta/catalogue_store.h"

#define SEAL_MAGIC 0x314c414553465442ULL // "BTFSEAL1"

struct seal {
    uint64_t magic;
    int64_t size_bytes, mtime_ns, ctime_ns;
    uint64_t ino;
};

static void path_of(struct buffer *to, const char *folder, const char *name)
{
    buffer_clear(to);
    buffer_format(to, "%s/%s", folder, name);
}

static int64_t ns_of(struct timespec t)
{
    return t.tv_sec * NS_PER_S + t.tv_nsec;
}

// What is there now; false: no file.
static bool seal_make(const char *folder, struct seal *ret_seal)
{
    BUFFER_CLEANUP path = {0};
    struct stat st;
    path_of(&path, folder, "data.mdb");
    if (lstat(path.data, &st) < 0)
        return false;
    *ret_seal = (struct seal){SEAL_MAGIC, st.st_size, ns_of(st.st_mtim), ns_of(st.st_ctim), st.st_ino};
    return true;
}

void catalogue_seal(struct catalogue *c)
{
    BUFFER_CLEANUP path = {0};
    struct seal seal;
    pthread_mutex_lock(&c->writer); // for ever: nothing is written after the seal
    if (atomic_load(&c->is_in_memory) || !seal_make(c->folder, &seal))
        return;
    path_of(&path, c->folder, "seal");
    cleanup(cleanup_close) int fd =
        open(path.data, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 || write(fd, &seal, sizeof seal) != (ssize_t)sizeof seal)
        log_debug("catalogue %s: not sealed: %m", c->folder);
}

static bool seal_holds(const char *folder, const struct seal *now)
{
    BUFFER_CLEANUP path = {0};
    struct seal was = {0};
    path_of(&path, folder, "seal");
    cleanup(cleanup_close) int fd = open(path.data, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    return fd >= 0 && read(fd, &was, sizeof was) == (ssize_t)sizeof was &&
           memcmp(&was, now, sizeof was) == 0;
}

bool catalogue_check_seal(const char *folder)
{
    BUFFER_CLEANUP path = {0};
    struct seal now;
    path_of(&path, folder, "owner");
    cleanup(cleanup_close) int owner = open(path.data, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (owner < 0 || flock(owner, LOCK_EX | LOCK_NB) < 0)
        return true; // nothing there, or somebody's: catalogue_open will say so
    bool is_good = !seal_make(folder, &now) || seal_holds(folder, &now);
    if (!is_good)
        store_remove_files(folder);
    path_of(&path, folder, "seal");
    unlink(path.data);
    return is_good;
}
