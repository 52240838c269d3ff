// SPDX-License-Identifier: BSD-3-Clause
// stores: what the store's tests share: a folder, a store in it, objects whose bytes follow from
// their name and version.
#pragma once
#include "tests/unit/base/harness.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/metric.h"
#include "cache/store_state.h"

#define MIB ((uint64_t)1 << 20)
#define BLOCK CACHE_BLOCK_BYTES

static char store_folder[64];
static struct store_faults store_faults;

static inline int remove_one(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
    return remove(path);
}

static inline int folder_new(void **state)
{
    strcpy(store_folder, "/tmp/butlerfs-store-XXXXXX");
    store_faults = (struct store_faults){.countdown = -1};
    return mkdtemp(store_folder) ? 0 : -1;
}

static inline int folder_end(void **state)
{
    umount2(store_folder, MNT_DETACH); // of a test that mounted and failed
    return nftw(store_folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

#define test_in_folder(t) cmocka_unit_test_setup_teardown(t, folder_new, folder_end)

// ---- a store

static inline struct block_store_options usual_options(void)
{
    return (struct block_store_options){
        .folder = store_folder,
        .limit_bytes = 64 * MIB,
        .limit_objects = 1000,
        .pin_limit_bytes = 32 * MIB,
        .faults = &store_faults,
    };
}

static inline struct block_store *opened_with(const struct block_store_options *o)
{
    struct block_store *b = NULL;
    char *why = NULL;
    int r = block_store_open(o, &b, &why);
    if (r < 0)
        print_error("%s\n", why);
    assert_int_equal(r, 0);
    b->index.window_s = 0; // each use counts
    return b;
}

static inline struct block_store *opened(void)
{
    struct block_store_options o = usual_options();
    return opened_with(&o);
}

static inline void wait_until_counted(struct block_store *b)
{
    struct block_store_status s;
    for (int i = 0; i < 5000; i++) {
        block_store_status(b, &s);
        if (s.is_counted)
            return;
        usleep(1000);
    }
    fail_msg("not counted after 5 s");
}

static inline struct block_store_status status_of(struct block_store *b)
{
    struct block_store_status s;
    block_store_status(b, &s);
    return s;
}

// ---- objects

struct artifact {
    char key[32];
    char validator[16];
    struct stored_version version;
};

static inline struct artifact *artifact_of(struct artifact *a, int number, int version,
                                           uint64_t size_bytes)
{
    snprintf(a->key, sizeof(a->key), "folder/%d", number);
    snprintf(a->validator, sizeof(a->validator), "v%d", version);
    a->version = (struct stored_version){
        .origin = TEXT("s3://bucket"),
        .key = text_of(a->key),
        .validator = text_of(a->validator),
        .size_bytes = size_bytes,
        .mtime_ns = number,
    };
    hash128(a->key, strlen(a->key), a->version.identity);
    return a;
}

#define artifact(number, version, size) artifact_of(&(struct artifact){0}, number, version, size)

static inline void fill(const struct stored_version *v, uint64_t offset, void *to, size_t n)
{
    uint64_t seed = hash64(v->key.data, v->key.size_bytes) +
                    hash64(v->validator.data, v->validator.size_bytes);
    for (size_t i = 0; i < n;) {
        uint64_t at = offset + i, from = at % 8;
        uint64_t word = (seed + at / 8) * UINT64_C(0x9e3779b97f4a7c15);
        word ^= word >> 29;
        size_t count = 8 - from < n - i ? 8 - from : n - i;
        memcpy((char *)to + i, (char *)&word + from, count);
        i += count;
    }
}

static inline struct stored *created(struct block_store *b, const struct artifact *a)
{
    struct stored *s = NULL;
    assert_int_equal(block_store_create(b, &a->version, &s), 0);
    return s;
}

// Blocks [first, first + count) arrive in pieces. Returns how many were marked, or the error.
static inline int put_blocks(struct stored *s, uint32_t first, uint32_t count, size_t piece)
{
    const struct stored_version *v = stored_version(s);
    uint64_t from = (uint64_t)first * BLOCK, to = from + (uint64_t)count * BLOCK;
    to = to < v->size_bytes ? to : v->size_bytes;
    char *bytes = memory_new(piece);
    struct stored_writer w;
    stored_write_begin(s, first, &w);
    int marked = 0, r = 0;
    for (uint64_t at = from; at < to && r >= 0; at += piece) {
        size_t n = to - at < piece ? (size_t)(to - at) : piece;
        fill(v, at, bytes, n);
        r = stored_write(&w, bytes, n);
        marked += r > 0 ? r : 0;
    }
    stored_write_end(&w);
    free(bytes);
    return r < 0 ? r : marked;
}

// The same, given as whole blocks in one go.
static inline int put_run(struct stored *s, uint32_t first, uint32_t count)
{
    const struct stored_version *v = stored_version(s);
    struct iovec blocks[STORED_RUN_BLOCKS];
    uint64_t hashes[STORED_RUN_BLOCKS];
    struct stored_writer w;
    stored_write_begin(s, first, &w);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t at = (uint64_t)(first + i) * BLOCK, left = v->size_bytes - at;
        blocks[i] = (struct iovec){memory_aligned(BLOCK, 4096), left < BLOCK ? (size_t)left : BLOCK};
        fill(v, at, blocks[i].iov_base, blocks[i].iov_len);
        hashes[i] = hash64(blocks[i].iov_base, blocks[i].iov_len);
    }
    int r = stored_write_blocks(&w, blocks, hashes, count, true);
    stored_write_end(&w);
    for (uint32_t i = 0; i < count; i++)
        free(blocks[i].iov_base);
    return r;
}

static inline void put_all(struct stored *s)
{
    int n = put_blocks(s, 0, stored_block_count(s), 50000);
    assert_int_equal(n, (int)stored_block_count(s));
}

// Reads a range; what is read must be right. Returns stored_read's answer.
static inline ssize_t get(struct stored *s, uint64_t offset, size_t n)
{
    static _Thread_local char scratch[BLOCK];
    char *is = memory_new(n + 1), *should = memory_new(n + 1);
    ssize_t r = stored_read(s, is, n, offset, scratch);
    if (r > 0) {
        fill(stored_version(s), offset, should, (size_t)r);
        assert_memory_equal(is, should, (size_t)r);
    }
    free(is);
    free(should);
    return r;
}

static inline void assert_whole(struct stored *s)
{
    uint64_t size = stored_version(s)->size_bytes;
    assert_int_equal(get(s, 0, (size_t)size + 1), size);
}

// ---- files on disk

static inline char *file_of(const struct artifact *a, enum store_file file)
{
    static char path[160];
    char name[STORE_NAME_BYTES];
    store_disk_name(a->version.identity, file, name);
    snprintf(path, sizeof(path), "%s/blocks.%d/%s", store_folder, STORE_FORMAT, name);
    return path;
}

static inline void flip_byte(const struct artifact *a, enum store_file file, off_t at)
{
    int fd = open(file_of(a, file), O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    uint8_t byte;
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

static inline bool is_on_disk(const struct artifact *a)
{
    return access(file_of(a, STORE_MAP), F_OK) == 0 || access(file_of(a, STORE_DATA), F_OK) == 0;
}

// ---- checks

struct check_waiter {
    struct stored_waiter waiter;
    atomic_int result; // 1: not called
};

static void check_done(struct stored_waiter *w, int error)
{
    struct check_waiter *c = (struct check_waiter *)w;
    check(atomic_exchange(&c->result, error) == 1); // once
}

static inline int checked(struct stored *s)
{
    struct check_waiter c = {.waiter = {.done = check_done}, .result = 1};
    stored_check(s, &c.waiter);
    for (int i = 0; i < 20000 && atomic_load(&c.result) == 1; i++)
        usleep(500);
    assert_int_not_equal(atomic_load(&c.result), 1);
    return atomic_load(&c.result);
}
