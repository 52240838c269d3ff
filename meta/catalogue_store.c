// SPDX-License-Identifier: BSD-3-Clause
// catalogue_store: opening the LMDB environment, and what to do when it can't be used as it is.
// 1. A file that this boot of this machine didn't write is removed before LMDB sees it: without
//    syncs it may hold anything after a reboot. `format` says which boot and which format.
// 2. LMDB's map is the most the file may grow to; the catalogue is emptied at 7/8 of it, so that
//    emptying, which writes too, finds room.
// 3. In memory-backed storage the files are unlinked at once: nothing is left behind by a death.
#include "meta/catalogue_store.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/log.h"

#define FORMAT "butlerfs catalogue 3"
#define SIZE_MIN_BYTES (1 << 20)
#define LOCK_FILE_BYTES (16 << 10) // for more readers than there are slots
#define MEMORY_MAX_BYTES (1LL << 30)

int store_errno(int rc)
{
    if (rc == MDB_NOTFOUND)
        return -ENOENT;
    if (rc > 0)
        return -rc;
    if (rc >= MDB_KEYEXIST && rc <= MDB_LAST_ERRCODE)
        return -EIO;
    return rc; // 0 or our own
}

static char *why_file(const char *folder, const char *what, int rc)
{
    struct buffer why = {0};
    buffer_format(&why, "catalogue %s: %s: %s", folder, what,
                  mdb_strerror(rc < 0 && rc > -4096 ? -rc : rc));
    return buffer_steal(&why);
}

static void format_now(struct buffer *to)
{
    char boot[64] = "";
    cleanup(cleanup_close) int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t got = read(fd, boot, sizeof(boot) - 1);
        boot[got > 0 ? got : 0] = 0;
    }
    boot[strcspn(boot, "\n")] = 0;
    buffer_format(to, FORMAT " boot %s lmdb %d\n", boot, MDB_VERSION_MAJOR);
}

static void path_in(struct buffer *b, const char *folder, const char *name)
{
    buffer_clear(b);
    buffer_format(b, "%s/%s", folder, name);
}

void store_remove_files(const char *folder)
{
    static const char *const names[] = {"data.mdb", "lock.mdb"};
    BUFFER_CLEANUP path = {0};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        path_in(&path, folder, names[i]);
        unlink(path.data);
    }
}

// Invariant 1.
static int format_check(const char *folder)
{
    BUFFER_CLEANUP now = {0}, path = {0};
    format_now(&now);
    path_in(&path, folder, "format");
    char was[256];
    cleanup(cleanup_close) int fd =
        open(path.data, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    ssize_t got = pread(fd, was, sizeof(was), 0);
    if (got == (ssize_t)now.size_bytes && memcmp(was, now.data, now.size_bytes) == 0)
        return 0;
    store_remove_files(folder);
    if (ftruncate(fd, 0) < 0 || pwrite(fd, now.data, now.size_bytes, 0) != (ssize_t)now.size_bytes)
        return errno ? -errno : -EIO;
    return 0;
}

static int open_databases(struct store *s)
{
    static const struct {
        const char *name;
        size_t offset;
    } all[] = {
        {"meta", offsetof(struct store, meta)}, {"sets", offsetof(struct store, sets)},
        {"rows", offsetof(struct store, rows)}, {"datasets", offsetof(struct store, datasets)},
        {"dead", offsetof(struct store, dead)},
    };
    MDB_txn *txn;
    int rc = mdb_txn_begin(s->env, NULL, 0, &txn);
    if (rc)
        return rc;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]) && !rc; i++)
        rc = mdb_dbi_open(txn, all[i].name, MDB_CREATE, (MDB_dbi *)((char *)s + all[i].offset));
    if (rc) {
        mdb_txn_abort(txn);
        return rc;
    }
    return mdb_txn_commit(txn);
}

int store_check_length(MDB_env *env, size_t *ret_page_bytes)
{
    MDB_envinfo info;
    MDB_stat stat;
    struct stat st;
    int fd;
    mdb_env_info(env, &info);
    mdb_env_stat(env, &stat);
    *ret_page_bytes = stat.ms_psize;
    if (mdb_env_get_fd(env, &fd) || fstat(fd, &st) < 0)
        return EIO;
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    return (uint64_t)st.st_size / stat.ms_psize > info.me_last_pgno || info.me_last_pgno <= 1
               ? 0
               : MDB_CORRUPTED;
}

// LMDB maps its lock file and writes to it: on a full disk a hole in it would end the process.
static int reserve_lock_file(const char *folder)
{
    BUFFER_CLEANUP path = {0};
    path_in(&path, folder, "lock.mdb");
    cleanup(cleanup_close) int fd =
        open(path.data, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return errno;
    int e = posix_fallocate(fd, 0, LOCK_FILE_BYTES);
    return e == EOPNOTSUPP || e == EINVAL ? 0 : e;
}

static int env_open(struct store *s, const char *folder, int64_t size_max_bytes)
{
    size_t map = (size_t)size_max_bytes;
    int e = reserve_lock_file(folder);
    if (e)
        return e;
    for (;;) { // a limit on address space is no reason to have no catalogue
        int rc = mdb_env_create(&s->env);
        if (rc)
            return rc;
        mdb_env_set_maxdbs(s->env, 8);
        mdb_env_set_maxreaders(s->env, READ_SLOTS + 16);
        mdb_env_set_mapsize(s->env, map);
        rc = mdb_env_open(s->env, folder, MDB_NOSYNC | MDB_NOTLS, 0600);
        if (!rc)
            return 0;
        mdb_env_close(s->env);
        s->env = NULL;
        if (rc != ENOMEM || map < 8 * SIZE_MIN_BYTES)
            return rc;
        map /= 2;
    }
}

static int try_open(const char *folder, int64_t size_max_bytes, struct store **ret_store)
{
    struct store *s = new_struct(struct store);
    int64_t size = size_max_bytes < SIZE_MIN_BYTES ? SIZE_MIN_BYTES : size_max_bytes;
    int rc = env_open(s, folder, size & ~0xffffLL);
    if (!rc)
        rc = store_check_length(s->env, &s->page_bytes);
    int dead = 0;
    if (!rc)
        rc = mdb_reader_check(s->env, &dead);
    if (!rc)
        rc = open_databases(s);
    if (rc) {
        store_close(s);
        return rc;
    }
    *ret_store = s;
    return 0;
}

int store_open(const char *folder, int64_t size_max_bytes, struct store **ret_store, char **ret_why)
{
    int r = format_check(folder);
    if (r < 0) {
        *ret_why = why_file(folder, "can't be used", r);
        return r;
    }
    int rc = try_open(folder, size_max_bytes, ret_store);
    if (rc == 0)
        return 0;
    bool is_damaged = rc < -4096 || rc == EINVAL;
    free(*ret_why);
    *ret_why = why_file(folder, is_damaged ? "damaged, starting empty" : "can't be used", rc);
    if (!is_damaged)
        return store_errno(rc);
    store_remove_files(folder);
    return store_errno(try_open(folder, size_max_bytes, ret_store));
}

int store_open_in_memory(int64_t size_max_bytes, struct store **ret_store, char **ret_why)
{
    static const char *const places[] = {"/dev/shm", "/run", "/tmp", "/var/tmp"};
    int r = -ENOENT;
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        BUFFER_CLEANUP folder = {0};
        buffer_format(&folder, "%s/butlerfs-XXXXXX", places[i]);
        if (!mkdtemp(folder.data)) {
            r = -errno;
            continue;
        }
        struct statvfs v;
        int64_t size = size_max_bytes < MEMORY_MAX_BYTES ? size_max_bytes : MEMORY_MAX_BYTES;
        if (statvfs(folder.data, &v) == 0 && (int64_t)(v.f_bavail * v.f_frsize / 2) < size)
            size = (int64_t)(v.f_bavail * v.f_frsize / 2);
        int rc = try_open(folder.data, size, ret_store);
        store_remove_files(folder.data);
        rmdir(folder.data);
        if (rc == 0) {
            (*ret_store)->is_in_memory = true;
            return 0;
        }
        r = store_errno(rc);
    }
    *ret_why = why_file("in memory", "can't be made", r);
    return r;
}

void store_close(struct store *s)
{
    if (!s)
        return;
    if (s->env)
        mdb_env_close(s->env);
    free(s);
}

int64_t store_room_bytes(struct store *s)
{
    MDB_envinfo info;
    mdb_env_info(s->env, &info);
    return (int64_t)(info.me_mapsize / 8 * 7);
}

// Pages in use: all up to the last but those on LMDB's list of free ones (its database 0: records
// of page numbers, the first of which is their count).
int store_in_use_bytes(struct store *s, MDB_txn *txn, int64_t *ret_bytes)
{
    MDB_envinfo info;
    mdb_env_info(s->env, &info);
    size_t free_pages = 0;
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(txn, 0, &cursor);
    if (rc)
        return rc;
    MDB_val key, data;
    while ((rc = mdb_cursor_get(cursor, &key, &data, MDB_NEXT)) == 0)
        free_pages += data.mv_size >= sizeof(size_t) ? *(size_t *)data.mv_data : 0;
    mdb_cursor_close(cursor);
    if (rc != MDB_NOTFOUND)
        return rc;
    *ret_bytes = (int64_t)((info.me_last_pgno + 1 - free_pages) * s->page_bytes);
    return 0;
}
