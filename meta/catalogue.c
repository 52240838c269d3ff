// SPDX-License-Identifier: BSD-3-Clause
// catalogue: its life, and what it knows of repositories and datasets.
// 1. A generation number is never used for two things, in any life of the catalogue: the count goes
//    on from the clock or from what is there, whichever is more.
// 2. The file `owner` counts lives that ended before they were long enough to be trusted. LMDB's
//    pages have no checksums: a damaged one may end the process each time it is read. So after 20
//    such lives the catalogue starts empty, which is before a supervisor gives up.
// 3. What is known of repositories is kept in memory too and written again to a new environment, so
//    that their numbers and epochs outlive it.
#include "meta/catalogue_store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"

#define FLUSH_BYTES (2 << 20)
#define OWNER_WAIT_NS (2 * NS_PER_S) // one that is dying gives its lock back in no time
#define SHORT_LIVES_MAX 20

enum { MAGIC_DATASET = 0x6264, MAGIC_REPOSITORY = 0x6270 };

struct repository_record {
    struct record_head head;
    uint32_t number, zero;
    uint64_t mark, epoch;
    int64_t since;
};

struct dataset_head {
    struct record_head head;
    uint64_t epoch;
};

// Invariant 1. LMDB orders both databases by generation.
static void generation_start(struct catalogue *c)
{
    uint64_t next = (uint64_t)(clock_unix_ns() / NS_PER_S) << 20, last;
    struct read_slot *s;
    if (read_begin(c, &s) == 0) {
        MDB_cursor *dead;
        MDB_val key, data;
        if (mdb_cursor_get(s->rows, &key, &data, MDB_LAST) == 0 &&
            rows_key_generation(&key, &last) && last >= next)
            next = last + 1;
        if (mdb_cursor_open(s->txn, s->store->dead, &dead) == 0) {
            if (mdb_cursor_get(dead, &key, &data, MDB_LAST) == 0 && key.mv_size == 8) {
                last = 0;
                for (int i = 0; i < 8; i++)
                    last = last << 8 | ((uint8_t *)key.mv_data)[i];
                if (last >= next)
                    next = last + 1;
            }
            mdb_cursor_close(dead);
        }
        read_end(s);
    }
    atomic_store(&c->next_generation, next);
}

// Repositories.

static MDB_val repository_key(uint8_t key[17], const uint8_t identity[16])
{
    key[0] = 'r';
    memcpy(key + 1, identity, 16);
    return (MDB_val){17, key};
}

static int repository_write(struct write *w, const struct known_repository *k)
{
    uint8_t bytes[17];
    struct repository_record record = {.head = record_head(MAGIC_REPOSITORY, sizeof(record)),
                                       .number = k->number,
                                       .mark = k->mark,
                                       .epoch = k->epoch,
                                       .since = k->since};
    MDB_val key = repository_key(bytes, k->identity), data = {sizeof(record), &record};
    return mdb_put(w->txn, w->store->meta, &key, &data, 0);
}

int repositories_write(struct write *w)
{
    lock_scope(&w->c->lock);
    int rc = 0;
    for (size_t i = 0; i < w->c->repository_count && !rc; i++)
        rc = repository_write(w, &w->c->repositories[i]);
    return rc;
}

// All that the environment knows, into memory.
static int repositories_read(struct catalogue *c)
{
    struct read_slot *s;
    int r = read_begin(c, &s);
    if (r < 0)
        return r;
    MDB_cursor *cursor;
    MDB_val key, data;
    int rc = mdb_cursor_open(s->txn, s->store->meta, &cursor);
    while (!rc && (rc = mdb_cursor_get(cursor, &key, &data, MDB_NEXT)) == 0) {
        struct repository_record record;
        if (key.mv_size != 17 ||
            !record_read(&data, MAGIC_REPOSITORY, &record, sizeof(record), false))
            continue;
        c->repositories =
            memory_grow(c->repositories, c->repository_count + 1, sizeof(*c->repositories));
        struct known_repository *k = &c->repositories[c->repository_count++];
        *k = (struct known_repository){.number = record.number,
                                       .mark = record.mark,
                                       .epoch = record.epoch,
                                       .since = record.since};
        memcpy(k->identity, (uint8_t *)key.mv_data + 1, 16);
    }
    if (rc == MDB_NOTFOUND)
        mdb_cursor_close(cursor);
    read_end(s);
    return rc == MDB_NOTFOUND ? 0 : store_errno(rc);
}

static int nothing_body(struct write *w, void *context)
{
    return 0; // what is unsaved goes with every transaction
}

uint32_t catalogue_repository(struct catalogue *c, struct text identity)
{
    uint8_t hash[16];
    hash128(identity.data, identity.size_bytes, hash);
    uint32_t number = 0;
    {
        lock_scope(&c->lock);
        for (size_t i = 0; i < c->repository_count; i++) {
            if (memcmp(c->repositories[i].identity, hash, 16) == 0)
                return c->repositories[i].number;
            if (c->repositories[i].number > number)
                number = c->repositories[i].number;
        }
        c->repositories =
            memory_grow(c->repositories, c->repository_count + 1, sizeof(*c->repositories));
        struct known_repository *k = &c->repositories[c->repository_count++];
        *k = (struct known_repository){.number = ++number};
        memcpy(k->identity, hash, 16);
    }
    atomic_store(&c->repositories_unsaved, true);
    catalogue_write(c, nothing_body, NULL);
    return number;
}

uint64_t catalogue_epoch(struct catalogue *c, uint32_t repository, uint64_t mark,
                         int64_t *ret_since)
{
    uint64_t epoch = 0;
    {
        lock_scope(&c->lock);
        for (size_t i = 0; i < c->repository_count; i++) {
            struct known_repository *k = &c->repositories[i];
            if (k->number != repository)
                continue;
            if (k->epoch && mark && k->mark == mark) {
                *ret_since = k->since;
                return k->epoch;
            }
            k->mark = mark;
            k->since = clock_unix_ns();
            epoch = ++k->epoch;
            *ret_since = k->since;
        }
        check(epoch); // a number that catalogue_repository gave
    }
    atomic_store(&c->repositories_unsaved, true);
    catalogue_write(c, nothing_body, NULL);
    return epoch;
}

uint64_t catalogue_last_epoch(struct catalogue *c, uint32_t repository, int64_t *ret_since)
{
    lock_scope(&c->lock);
    for (size_t i = 0; i < c->repository_count; i++)
        if (c->repositories[i].number == repository && c->repositories[i].epoch) {
            *ret_since = c->repositories[i].since;
            return c->repositories[i].epoch;
        }
    return 0;
}

// Datasets.

static MDB_val dataset_key(uint8_t key[21], uint32_t repository, const struct uuid *uuid,
                           enum dataset_record which)
{
    record_put_number(key, repository, 4);
    memcpy(key + 4, uuid->bytes, 16);
    key[20] = (uint8_t)which;
    return (MDB_val){21, key};
}

struct dataset_put {
    MDB_val key;
    struct dataset_head head;
    struct text record;
};

static int put_dataset_body(struct write *w, void *context)
{
    struct dataset_put *put = context;
    MDB_val data = {sizeof(put->head) + put->record.size_bytes, NULL};
    int rc = mdb_put(w->txn, w->store->datasets, &put->key, &data, MDB_RESERVE);
    if (rc)
        return rc;
    memcpy(data.mv_data, &put->head, sizeof(put->head));
    if (put->record.size_bytes)
        memcpy((char *)data.mv_data + sizeof(put->head), put->record.data, put->record.size_bytes);
    return 0;
}

int catalogue_put_dataset(struct catalogue *c, uint32_t repository, const struct uuid *uuid,
                          enum dataset_record which, uint64_t epoch, struct text record)
{
    uint8_t key[21];
    struct dataset_put put = {.key = dataset_key(key, repository, uuid, which), .record = record};
    put.head.head = record_head(MAGIC_DATASET, sizeof(put.head) + record.size_bytes);
    put.head.epoch = epoch;
    return catalogue_write(c, put_dataset_body, &put);
}

int catalogue_dataset(struct catalogue *c, uint32_t repository, const struct uuid *uuid,
                      enum dataset_record which, uint64_t *ret_epoch, struct buffer *ret_record)
{
    struct read_slot *s;
    struct dataset_head head;
    uint8_t bytes[21];
    int r = read_begin(c, &s);
    if (r < 0)
        return r;
    MDB_val key = dataset_key(bytes, repository, uuid, which), data;
    int rc = mdb_get(s->txn, s->store->datasets, &key, &data);
    if (!rc && !record_read(&data, MAGIC_DATASET, &head, sizeof(head), true))
        rc = MDB_NOTFOUND;
    if (!rc) {
        *ret_epoch = head.epoch;
        buffer_append_text(ret_record, text_slice(text_of_val(&data), sizeof(head), data.mv_size));
    }
    read_end(s);
    return store_errno(rc);
}

// Life.

static int owner_lock(const char *folder, int *ret_fd)
{
    BUFFER_CLEANUP path = {0};
    buffer_format(&path, "%s/owner", folder);
    cleanup(cleanup_close) int fd =
        open(path.data, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    int64_t deadline = clock_ns() + OWNER_WAIT_NS;
    while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK)
            return -errno;
        if (clock_ns() > deadline)
            return -EBUSY;
        usleep(10000);
    }
    *ret_fd = take_fd(&fd);
    return 0;
}

static void lives_write(struct catalogue *c, uint32_t lives)
{
    // Nothing is lost if it can't be written.
    if (c->owner_fd >= 0 && pwrite(c->owner_fd, &lives, sizeof(lives), 0) == (ssize_t)sizeof(lives))
        c->life_is_counted = lives != 0;
}

void catalogue_trust(struct catalogue *c)
{
    if (c->life_is_counted)
        lives_write(c, 0);
}

// Invariant 2.
static void lives_count(struct catalogue *c, char **ret_why)
{
    uint32_t lives = 0;
    if (pread(c->owner_fd, &lives, sizeof(lives), 0) != (ssize_t)sizeof(lives))
        lives = 0;
    if (lives >= SHORT_LIVES_MAX) {
        struct buffer why = {0};
        buffer_format(&why, "catalogue %s: %u processes died soon after opening it, starting empty",
                      c->folder, lives);
        *ret_why = buffer_steal(&why);
        store_remove_files(c->folder);
        lives = 0;
    }
    lives_write(c, lives + 1);
}

static int open_store(struct catalogue *c, struct store **ret_store, char **ret_why)
{
    BUFFER_CLEANUP why = {0};
    cleanup(cleanup_free) char *why_not = NULL;
    int r = mkdir(c->folder, 0700) < 0 && errno != EEXIST ? -errno : 0;
    if (r == 0)
        r = owner_lock(c->folder, &c->owner_fd);
    if (r == -EBUSY) {
        buffer_format(&why,
                      "catalogue %s: in use by another process; give each mount its own cache_dir",
                      c->folder);
        *ret_why = buffer_steal(&why);
        return r;
    }
    if (r == 0)
        lives_count(c, ret_why);
    if (r == 0)
        r = store_open(c->folder, c->size_max_bytes, ret_store, ret_why);
    if (r == 0)
        return 0; // *ret_why may say what was thrown away
    free(*ret_why);
    *ret_why = NULL;
    int moved = store_open_in_memory(c->size_max_bytes, ret_store, &why_not);
    buffer_format(&why, "catalogue %s: can't be used (%s), %s", c->folder, strerror(-r),
                  moved < 0 ? why_not : "kept in memory");
    *ret_why = buffer_steal(&why);
    c->was_moved = true;
    return moved;
}

int catalogue_open(const char *folder, int64_t size_max_bytes, struct catalogue **ret_catalogue,
                   char **ret_why)
{
    struct store *store;
    struct catalogue *c = aligned_alloc(_Alignof(struct catalogue), sizeof(struct catalogue));
    check(c);
    memset(c, 0, sizeof(*c));
    *c = (struct catalogue){.folder = memory_copy(folder, strlen(folder)),
                            .size_max_bytes = size_max_bytes,
                            .flush_bytes = FLUSH_BYTES,
                            .owner_fd = -1,
                            .opened_ns = clock_ns()};
    *ret_why = NULL;
    int r = open_store(c, &store, ret_why);
    if (r < 0) {
        cleanup_close(&c->owner_fd);
        free(c->folder);
        free(c);
        return r;
    }
    pthread_mutex_init(&c->writer, NULL);
    lock_init(&c->lock, LOCK_RANK_CATALOGUE, "catalogue");
    if (size_max_bytes / 32 < FLUSH_BYTES)
        c->flush_bytes = (size_t)(size_max_bytes / 32);
    atomic_store(&c->is_in_memory, store->is_in_memory);
    atomic_store(&c->store, store);
    generation_start(c);
    r = repositories_read(c);
    if (r < 0) {
        catalogue_close(c);
        return r;
    }
    *ret_catalogue = c;
    return 0;
}

void catalogue_close(struct catalogue *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < READ_SLOTS; i++) {
        struct read_slot *s = &c->slots[i];
        check(!atomic_load(&s->is_busy));
        if (s->txn) {
            mdb_cursor_close(s->rows);
            mdb_txn_abort(s->txn);
        }
    }
    store_close(atomic_load(&c->store));
    size_t position = 0;
    uint64_t p;
    while ((p = table_next(&c->pins, &position)))
        free((struct pin *)(uintptr_t)p);
    table_release(&c->pins);
    lock_release_memory(&c->lock);
    pthread_mutex_destroy(&c->writer);
    catalogue_trust(c);
    cleanup_close(&c->owner_fd);
    free(c->repositories);
    free(c->folder);
    free(c);
}

const char *catalogue_folder(const struct catalogue *c)
{
    return c->folder;
}

bool catalogue_in_memory(const struct catalogue *c)
{
    return atomic_load(&c->is_in_memory);
}
