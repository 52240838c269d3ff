// SPDX-License-Identifier: BSD-3-Clause
// store_later: what the keeper does for others, as it may take long.
// 1. The last descriptor of a large file without a name is closed here: that is when a file system
//    frees it, and forgets its pages.
// 2. A complete file was written to memory; the kernel brings it to the disk by itself, within half a
//    minute, and who reads through the kernel would not hear of it if that failed. So the file is
//    asked after once it should be there (fdatasync: as a rule there is nothing left to do). If it
//    isn't, it is dropped. Its descriptor is kept till then, as only a file that was open hears of
//    errors; if there are too many, the oldest are asked early. A file that goes isn't asked after:
//    the descriptor would keep its blocks.
// 3. A life that ends doesn't ask: the next one checks before the first passthrough.
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"
#include "cache/store_state.h"

#define LARGE_BYTES ((uint64_t)16 << 20)
#define ASKED_MAX 256

struct store_task {
    STAILQ_ENTRY(store_task) link;
    int fd;
    int64_t due_ns;
    uint8_t identity[16];
};

// Takes the descriptor.
static struct store_task *task_new(int fd)
{
    struct store_task *t = new_struct(struct store_task);
    t->fd = fd;
    return t;
}

static void task_free(struct store_task *t)
{
    close(t->fd);
    free(t);
}

void store_close_later(struct block_store *b, int fd, uint64_t size_bytes)
{
    if (size_bytes < LARGE_BYTES) {
        close(fd);
        return;
    }
    struct store_task *t = task_new(fd);
    lock_scope(&b->lock);
    STAILQ_INSERT_TAIL(&b->closing, t, link);
    pthread_cond_signal(&b->wake);
}

void store_ask_later(struct stored *s)
{
    struct block_store *b = s->store;
    int fd = fcntl(s->data_fd, F_DUPFD_CLOEXEC, 3);
    if (fd < 0)
        return;
    struct store_task *t = task_new(fd);
    memcpy(t->identity, s->version.identity, sizeof(t->identity));
    store_ask_no_more(b, t->identity); // after an older file of it
    lock_scope(&b->lock);
    t->due_ns = clock_ns() + b->ask_after_ns;
    STAILQ_INSERT_TAIL(&b->asked, t, link);
    b->asked_count++;
    pthread_cond_signal(&b->wake);
}

void store_ask_no_more(struct block_store *b, const uint8_t identity[16])
{
    STAILQ_HEAD(, store_task) kept = STAILQ_HEAD_INITIALIZER(kept);
    struct store_task *t, *found = NULL;
    {
        lock_scope(&b->lock);
        while ((t = STAILQ_FIRST(&b->asked))) {
            STAILQ_REMOVE_HEAD(&b->asked, link);
            if (!found && memcmp(t->identity, identity, sizeof(t->identity)) == 0)
                found = t;
            else
                STAILQ_INSERT_TAIL(&kept, t, link);
        }
        STAILQ_CONCAT(&b->asked, &kept);
        b->asked_count -= found != NULL;
    }
    if (found)
        task_free(found);
}

// It is the same file still.
static bool is_file_of(const struct stored *s, int fd)
{
    struct stat own, asked;
    return fstat(s->data_fd, &own) == 0 && fstat(fd, &asked) == 0 && own.st_ino == asked.st_ino;
}

static void ask(struct block_store *b, const struct store_task *t)
{
    int r = store_disk_sync(&b->disk, t->fd);
    if (r == 0)
        return;
    store_trouble(b, r, "bringing a file to the disk");
    cleanup(cleanup_stored_unref) struct stored *s = NULL;
    if (block_store_find(b, t->identity, &s) == 0 && is_file_of(s, t->fd))
        stored_drop(s);
}

static struct store_task *next_task(struct block_store *b, bool *ret_is_asked)
{
    lock_scope(&b->lock);
    struct store_task *t = STAILQ_FIRST(&b->closing);
    *ret_is_asked = !t;
    if (t) {
        STAILQ_REMOVE_HEAD(&b->closing, link);
        return t;
    }
    t = STAILQ_FIRST(&b->asked);
    if (!t || (t->due_ns > clock_ns() && b->asked_count <= ASKED_MAX))
        return NULL;
    STAILQ_REMOVE_HEAD(&b->asked, link);
    b->asked_count--;
    return t;
}

void store_do_later(struct block_store *b)
{
    bool is_asked;
    for (struct store_task *t; (t = next_task(b, &is_asked)); task_free(t))
        if (is_asked && !atomic_load(&b->is_closing))
            ask(b, t);
}

int64_t store_later_ns(struct block_store *b)
{
    const struct store_task *t = STAILQ_FIRST(&b->asked);
    return !STAILQ_EMPTY(&b->closing) || b->asked_count > ASKED_MAX ? 0 : t ? t->due_ns : INT64_MAX;
}

void store_forget_later(struct block_store *b)
{
    STAILQ_CONCAT(&b->closing, &b->asked);
    for (struct store_task *t; (t = STAILQ_FIRST(&b->closing)); task_free(t))
        STAILQ_REMOVE_HEAD(&b->closing, link);
}
