// SPDX-License-Identifier: BSD-3-Clause
// Many threads on few objects, for the thread sanitizer to watch: writers, readers, one who replaces
// and drops, one who evicts, one who damages, one who has objects checked and reads what the kernel
// would. Whoever reads finds right bytes or none. Found when planted: a bit that was set without the
// lock, a sealed file that was written.
#include "tests/unit/cache/stores.h"

#include <pthread.h>

#define OBJECTS 6
#define BLOCKS 70 // more than are repaired at once

static struct block_store *store;
static atomic_bool is_over;
static atomic_int version_of[OBJECTS];
static atomic_uint_fast64_t right_reads, whole_files;

struct worker {
    pthread_t thread;
    uint64_t random;
    char *buffer, *should, *scratch;
};

static uint32_t below(struct worker *w, uint32_t n)
{
    w->random = w->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(w->random >> 33) % n;
}

static struct stored *any_object(struct worker *w)
{
    struct artifact a;
    struct stored *s = NULL;
    int number = (int)below(w, OBJECTS);
    artifact_of(&a, number, atomic_load(&version_of[number]), BLOCKS * BLOCK - 100 * number);
    int r = block_store_create(store, &a.version, &s);
    check(r == 0 || r == -ENOSPC);
    return s;
}

static void write_blocks(struct worker *w, struct stored *s, uint32_t first, uint32_t left)
{
    struct stored_writer writer;
    stored_write_begin(s, first, &writer);
    for (uint64_t at = (uint64_t)first * BLOCK; left > 0 && at < stored_version(s)->size_bytes;
         left--) {
        size_t n = store_block_bytes(stored_version(s)->size_bytes, (uint32_t)(at / BLOCK));
        fill(stored_version(s), at, w->buffer, n);
        int r = stored_write(&writer, w->buffer, n / 2);
        r = r < 0 ? r : stored_write(&writer, w->buffer + n / 2, n - n / 2);
        check(r >= 0 || r == -ENOSPC || r == -EBUSY || r == -ESTALE || r == -EROFS);
        at += n;
    }
    stored_write_end(&writer);
}

static void write_some(struct worker *w)
{
    struct stored *s = any_object(w);
    if (s)
        write_blocks(w, s, below(w, BLOCKS), 1 + below(w, 20));
    stored_unref(s);
}

static void read_some(struct worker *w)
{
    struct stored *s = any_object(w);
    if (!s)
        return;
    stored_touch(s);
    for (int i = 0; i < 10; i++) {
        uint64_t from = below(w, (uint32_t)stored_version(s)->size_bytes);
        size_t n = 1 + below(w, 3 * BLOCK);
        ssize_t r = stored_read(s, w->buffer, n, from, w->scratch);
        check(r > 0 || r == -ENODATA || r == -EBADMSG);
        if (r > 0) {
            fill(stored_version(s), from, w->should, (size_t)r);
            check(memcmp(w->buffer, w->should, (size_t)r) == 0);
            atomic_fetch_add(&right_reads, 1);
        }
    }
    stored_unref(s);
}

static void check_some(struct worker *w)
{
    struct stored *s = any_object(w);
    if (!s)
        return;
    write_blocks(w, s, 0, BLOCKS);
    struct check_waiter c = {.waiter = {.done = check_done}, .result = 1};
    stored_check(s, &c.waiter);
    if (below(w, 4) != 0 || !stored_check_cancel(s, &c.waiter))
        while (atomic_load(&c.result) == 1)
            usleep(100);
    int fd = -1;
    if (stored_passthrough_fd(s, &fd) == 0) {
        for (uint64_t at = 0; at < stored_version(s)->size_bytes; at += BLOCK) {
            ssize_t n = pread(fd, w->buffer, BLOCK, (off_t)at);
            check(n > 0);
            fill(stored_version(s), at, w->should, (size_t)n);
            check(memcmp(w->buffer, w->should, (size_t)n) == 0);
        }
        atomic_fetch_add(&whole_files, 1);
        close(fd);
    }
    stored_unref(s);
}

static void *writer(void *worker)
{
    while (!atomic_load(&is_over))
        write_some(worker);
    return NULL;
}

static void *reader(void *worker)
{
    while (!atomic_load(&is_over))
        read_some(worker);
    return NULL;
}

static void *checker(void *worker)
{
    while (!atomic_load(&is_over))
        check_some(worker);
    return NULL;
}

static void *changer(void *worker)
{
    struct worker *w = worker;
    while (!atomic_load(&is_over)) {
        usleep(20000);
        int number = (int)below(w, OBJECTS);
        struct stored *s;
        switch (below(w, 5)) {
        case 0:
            atomic_fetch_add(&version_of[number], 1);
            break;
        case 1:
            block_store_drop(store, artifact(number, 0, 0)->version.identity);
            break;
        case 2:
            store_evict_one(store);
            break;
        case 3:
            if ((s = any_object(w))) {
                stored_pin(s, below(w, 2));
                stored_unref(s);
            }
            break;
        default:
            block_store_verify(store, NULL, NULL, &(struct block_store_verified){0});
        }
    }
    return NULL;
}

// Wrong marks, so that blocks are found bad; the data stays right, as the other threads compare what
// they read from passthrough files.
static void *damager(void *worker)
{
    struct worker *w = worker;
    while (!atomic_load(&is_over)) {
        usleep(20000);
        struct stored *s = any_object(w);
        if (!s)
            continue;
        uint64_t mark = 12345;
        uint32_t block = below(w, BLOCKS);
        if (stored_has(s, block)) {
            ssize_t n = pwrite(s->map_fd, &mark, 8,
                               (off_t)store_mark_offset(s->header_bytes, block));
            check(n == 8);
        }
        stored_unref(s);
    }
    return NULL;
}

static void all_at_once_read_right_bytes_or_none(void **state)
{
    static void *(*const roles[])(void *) = {writer, writer, writer,  reader,  reader,
                                             reader, checker, changer, damager};
    enum { COUNT = sizeof(roles) / sizeof(*roles) };
    struct worker workers[COUNT];
    struct block_store_options o = usual_options();
    o.limit_bytes = 100 * MIB;
    log_level_set(LOG_LEVEL_ERROR);
    store = opened_with(&o);
    for (int i = 0; i < COUNT; i++) {
        workers[i] = (struct worker){.random = (uint64_t)i + 1};
        workers[i].buffer = memory_new(3 * BLOCK);
        workers[i].should = memory_new(3 * BLOCK);
        workers[i].scratch = memory_new(BLOCK);
        assert_int_equal(thread_start(&workers[i].thread, "worker", roles[i], &workers[i]), 0);
    }
    // As long as it takes for everything to have happened, on a machine that has other work.
    for (int i = 0; i < 600 && (i < 10 || right_reads < 300 || whole_files < 2); i++)
        usleep(100000);
    atomic_store(&is_over, true);
    for (int i = 0; i < COUNT; i++) {
        pthread_join(workers[i].thread, NULL);
        free(workers[i].buffer);
        free(workers[i].should);
        free(workers[i].scratch);
    }
    for (int i = 0; i < 10000 && status_of(store).open_objects; i++)
        usleep(1000); // the checker's last
    print_message("%llu right reads, %llu whole files\n", (unsigned long long)right_reads,
                  (unsigned long long)whole_files);
    assert_true(atomic_load(&right_reads) >= 300 && atomic_load(&whole_files) >= 2);
    assert_int_equal(status_of(store).dying_bytes, 0);
    assert_true(status_of(store).used_bytes <= 100 * MIB);
    block_store_close(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_in_folder(all_at_once_read_right_bytes_or_none),
    };
    return run_group(tests);
}
