// SPDX-License-Identifier: BSD-3-Clause
// store_scan: what an earlier life left, counted on the keeper's thread while the store is in use.
// 1. A summary is believed once: it is deleted before anything is changed. A life that doesn't end in
//    order leaves none, and all files are looked at.
// 2. What came to be known meanwhile (an object that was opened) is known better: it stays as it is.
// 3. Pairs of files that aren't a map and its data are deleted, at the object's door. What has a name
//    that the store doesn't give is left alone.
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "cache/store_state.h"

#define SUMMARY "summary"
#define SUMMARY_NEW "summary.new"
#define SUMMARY_MAGIC UINT64_C(0x6d75736d66620201) // "\001\002bfmsum"
#define SUMMARY_VERSION 1

struct summary_header {
    uint64_t magic;
    uint32_t version;
    uint32_t count;
    uint64_t hash; // of the records
};

struct summary_record {
    uint8_t identity[16];
    uint64_t disk_bytes;
    uint32_t block_count;
    uint32_t used_s;
    uint8_t queue;
    uint8_t hits;
    uint8_t zero[6];
};

_Static_assert(sizeof(struct summary_header) == 24 && sizeof(struct summary_record) == 40,
               "no gaps");

// ---- entries

// Unless it is known already. The store's lock is held.
static void add_entry(struct block_store *b, const struct summary_record *r)
{
    if (store_index_find(&b->index, r->identity))
        return;
    uint32_t slot = store_index_add(&b->index, r->identity, r->block_count, r->used_s);
    metric_add(METRIC_STORE_OBJECTS, 1);
    store_index_entry(&b->index, slot)->hits = r->hits;
    store_count_bytes(b, slot, r->disk_bytes);
    if (r->queue != STORE_QUEUE_SMALL)
        store_policy_move(&b->index, slot, r->queue);
}

// ---- the summary

static bool is_record(const struct summary_record *r)
{
    static const uint8_t zero[6];
    return r->queue < STORE_QUEUE_COUNT && r->hits <= STORE_HITS_MAX &&
           memcmp(r->zero, zero, sizeof(zero)) == 0 && r->disk_bytes < STORED_SIZE_MAX * 2;
}

static bool read_summary(struct block_store *b, int fd, struct buffer *to)
{
    struct summary_header h;
    struct stat st;
    if (store_disk_read(&b->disk, fd, &h, sizeof(h), 0) < 0 || fstat(fd, &st) < 0 ||
        h.magic != SUMMARY_MAGIC || h.version != SUMMARY_VERSION ||
        (uint64_t)st.st_size != sizeof(h) + (uint64_t)h.count * sizeof(struct summary_record))
        return false;
    size_t bytes = h.count * sizeof(struct summary_record);
    buffer_reserve(to, bytes);
    if (store_disk_read(&b->disk, fd, to->data, bytes, sizeof(h)) < 0)
        return false;
    to->size_bytes = bytes;
    return hash64(to->data, bytes) == h.hash;
}

// false: there is none that can be used. It is gone then as well.
static bool take_summary(struct block_store *b)
{
    cleanup(cleanup_close) int fd =
        openat(b->disk.blocks_fd, SUMMARY, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return false;
    BUFFER_CLEANUP records = {0};
    bool is_good = read_summary(b, fd, &records);
    if (unlinkat(b->disk.blocks_fd, SUMMARY, 0) < 0 || !is_good)
        return false;
    for (size_t at = 0; at < records.size_bytes; at += sizeof(struct summary_record)) {
        struct summary_record r;
        memcpy(&r, records.data + at, sizeof(r));
        if (!is_record(&r))
            continue; // the object is found again when it is opened
        lock_scope(&b->lock);
        add_entry(b, &r);
    }
    return true;
}

// Records of one queue, the oldest first.
static void append_queue(const struct store_index *ix, enum store_queue queue, struct buffer *to)
{
    for (uint32_t slot = ix->queues[queue].oldest; slot;) {
        const struct store_entry *e = store_index_entry(ix, slot);
        struct summary_record r = {
            .disk_bytes = e->disk_bytes,
            .block_count = e->block_count,
            .used_s = e->used_s,
            .queue = e->queue,
            .hits = e->hits,
        };
        memcpy(r.identity, e->identity, sizeof(r.identity));
        buffer_append(to, &r, sizeof(r));
        slot = e->newer;
    }
}

void store_leave_summary(struct block_store *b)
{
    BUFFER_CLEANUP records = {0};
    {
        lock_scope(&b->lock);
        if (!b->is_counted)
            return;
        for (int q = 0; q < STORE_QUEUE_COUNT; q++)
            append_queue(&b->index, q, &records);
    }
    struct summary_header h = {
        .magic = SUMMARY_MAGIC,
        .version = SUMMARY_VERSION,
        .count = (uint32_t)(records.size_bytes / sizeof(struct summary_record)),
        .hash = hash64(records.data, records.size_bytes),
    };
    cleanup(cleanup_close) int fd = openat(b->disk.blocks_fd, SUMMARY_NEW,
                                           O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC,
                                           0600);
    if (fd < 0)
        return;
    if (store_disk_write(&b->disk, fd, &h, sizeof(h), 0) < 0 ||
        store_disk_write(&b->disk, fd, records.data, records.size_bytes, sizeof(h)) < 0 ||
        store_disk_rename(&b->disk, SUMMARY_NEW, SUMMARY) < 0)
        unlinkat(b->disk.blocks_fd, SUMMARY_NEW, 0); // the next life looks at all files
}

// ---- looking at all files

struct sums {
    uint64_t deleted; // objects
    uint64_t foreign; // names
};

// The pair of files as it is on disk. At the door. -EBADMSG: not an object's. -ENOENT: gone.
static int look_at(struct block_store *b, const uint8_t identity[16],
                   struct summary_record *ret_record)
{
    char name[STORE_NAME_BYTES];
    store_disk_name(identity, STORE_DATA, name);
    struct stat data_stat, map_stat;
    bool has_data = fstatat(b->disk.blocks_fd, name, &data_stat, AT_SYMLINK_NOFOLLOW) == 0;
    cleanup(cleanup_close) int map = store_disk_open_file(&b->disk, identity, STORE_MAP, O_RDONLY);
    if (map == -ENOENT || map == -ELOOP)
        return has_data || map == -ELOOP ? -EBADMSG : -ENOENT;
    if (map < 0)
        return map;
    uint8_t bytes[STORE_MAP_ROOM];
    struct store_map m;
    ssize_t n = store_disk_read_some(&b->disk, map, bytes, sizeof(bytes), 0);
    if (n < 0)
        return (int)n;
    if (store_map_decode(bytes, (size_t)n, &m) < 0 ||
        memcmp(m.version.identity, identity, 16) != 0 || !has_data ||
        fstat(map, &map_stat) < 0 || !S_ISREG(data_stat.st_mode) ||
        (uint64_t)data_stat.st_size != m.version.size_bytes)
        return -EBADMSG;
    *ret_record = (struct summary_record){
        .disk_bytes = ((uint64_t)data_stat.st_blocks + (uint64_t)map_stat.st_blocks) * 512,
        .block_count = store_block_count(m.version.size_bytes),
        .used_s = (uint32_t)map_stat.st_mtim.tv_sec,
        .queue = m.flags & STORE_MAP_PINNED ? STORE_QUEUE_PINNED : STORE_QUEUE_MAIN,
    };
    memcpy(ret_record->identity, identity, sizeof(ret_record->identity));
    return 0;
}

static bool is_known(struct block_store *b, const uint8_t identity[16])
{
    lock_scope(&b->lock);
    return store_index_find(&b->index, identity) != 0;
}

static void count_object(struct block_store *b, const uint8_t identity[16], struct sums *sums)
{
    if (is_known(b, identity))
        return;
    lock_scope(store_door(b, identity));
    if (is_known(b, identity))
        return;
    struct summary_record record;
    int r = look_at(b, identity, &record);
    if (r == 0) {
        lock_scope(&b->lock);
        add_entry(b, &record);
    } else if (r == -EBADMSG && store_disk_remove(&b->disk, identity) == 0) {
        sums->deleted++;
    }
}

static void scan_folder(struct block_store *b, unsigned high, struct sums *sums)
{
    char name[8];
    snprintf(name, sizeof(name), "%02x", high);
    int fd = openat(b->disk.blocks_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    if (!folder) {
        if (fd >= 0)
            close(fd);
        return;
    }
    for (struct dirent *e; !atomic_load(&b->is_closing) && (e = readdir(folder));) {
        uint8_t identity[16];
        enum store_file file;
        if (store_disk_identity(high, e->d_name, identity, &file) == 0)
            count_object(b, identity, sums); // the second of its names finds it known, or gone
        else if (e->d_name[0] != '.')
            sums->foreign++;
    }
    closedir(folder);
}

static void scan(struct block_store *b)
{
    struct sums sums = {0};
    for (unsigned high = 0; high < 256 && !atomic_load(&b->is_closing); high++)
        scan_folder(b, high, &sums);
    if (sums.deleted)
        log_warn("cache %s: %llu objects whose files were not well-formed: deleted", b->folder,
                 (unsigned long long)sums.deleted);
    if (sums.foreign)
        log_warn("cache %s: %llu files that are not the cache's: left alone", b->folder,
                 (unsigned long long)sums.foreign);
    lock_scope(&b->lock);
    store_policy_sort(&b->index);
}

void store_count(struct block_store *b)
{
    store_disk_remove_older(&b->disk);
    if (!take_summary(b))
        scan(b);
    lock_scope(&b->lock);
    b->is_counted = !atomic_load(&b->is_closing);
}
