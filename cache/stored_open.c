// SPDX-License-Identifier: BSD-3-Clause
// stored_open: how versions of objects come to be open, and end.
// 1. A version is open at most once: whoever finds it open gets that handle. Opening, making and
//    unlinking happen at the object's door, one at a time.
// 2. What is on disk under an object's names is looked at before it is believed: a map that isn't
//    one of ours, of that object, with a data file of its size, is deleted with its data.
// 3. A dying handle has no names, no entry and can't be found; it is freed by its last user.
#include <fcntl.h>
#include <sys/stat.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "cache/store_state.h"

#define MARKS_AT_ONCE 8192
#define NOTED_EVERY_S 3600 // a use, on disk

struct lock *store_door(struct block_store *b, const uint8_t identity[16])
{
    return &b->doors[identity[15] % STORE_DOORS];
}

// ---- the table of handles, under the store's lock

static uint64_t handle_hash(const uint8_t identity[16])
{
    uint64_t hash;
    memcpy(&hash, identity, sizeof(hash));
    return hash;
}

static bool is_of_identity(uint64_t value, const void *key, void *context)
{
    const struct stored *s = (const struct stored *)(uintptr_t)value;
    return memcmp(s->version.identity, key, sizeof(s->version.identity)) == 0;
}

static struct stored *find_handle(struct block_store *b, const uint8_t identity[16])
{
    return (struct stored *)(uintptr_t)table_find(&b->handles, handle_hash(identity),
                                                  is_of_identity, identity, NULL);
}

bool stored_is_listed(struct block_store *b, const uint8_t identity[16])
{
    return find_handle(b, identity) != NULL;
}

static struct stored *ref_handle(struct block_store *b, const uint8_t identity[16])
{
    lock_scope(&b->lock);
    struct stored *s = find_handle(b, identity);
    if (s)
        s->refs++;
    return s;
}

static void unlist(struct block_store *b, struct stored *s)
{
    bool is_removed = table_remove(&b->handles, handle_hash(s->version.identity), (uintptr_t)s);
    check(is_removed);
}

// The entry of a handle that was just loaded or made: the one there is, if it is of such an object.
static uint32_t slot_of(struct block_store *b, const struct stored *s)
{
    uint32_t slot = store_index_find(&b->index, s->version.identity);
    if (slot && store_index_entry(&b->index, slot)->block_count == s->block_count)
        return slot;
    if (slot)
        store_forget(b, slot);
    metric_add(METRIC_STORE_OBJECTS, 1);
    return store_index_add(&b->index, s->version.identity, s->block_count,
                           (uint32_t)(clock_unix_ns() / NS_PER_S));
}

static void list_handle(struct block_store *b, struct stored *s)
{
    lock_scope(&b->lock);
    s->slot = slot_of(b, s);
    store_index_entry(&b->index, s->slot)->flags |= STORE_ENTRY_OPEN;
    store_policy_pin(&b->index, s->slot, s->is_pinned);
    store_count_bytes(b, s->slot, s->disk_bytes);
    table_add(&b->handles, handle_hash(s->version.identity), (uintptr_t)s);
    b->handle_count++;
}

// ---- headers and stamps

int stored_write_header(struct stored *s, int map_fd)
{
    struct store_map m = {.version = s->version, .stamp = s->stamp};
    if (s->is_sealed)
        m.flags |= STORE_MAP_SEALED;
    if (s->is_sealed && !store_bits_all(&s->present))
        m.flags |= STORE_MAP_HOLED;
    if (s->is_pinned)
        m.flags |= STORE_MAP_PINNED;
    uint8_t bytes[STORE_MAP_ROOM];
    size_t n = store_map_encode(&m, bytes);
    return store_disk_write(&s->store->disk, map_fd, bytes, n, 0);
}

int stored_stamp(const struct stored *s, struct store_stamp *ret_stamp)
{
    struct stat st;
    if (fstat(s->data_fd, &st) < 0)
        return -errno;
    *ret_stamp = (struct store_stamp){
        .size_bytes = (uint64_t)st.st_size,
        .mtime_ns = st.st_mtim.tv_sec * NS_PER_S + st.st_mtim.tv_nsec,
        .ctime_ns = st.st_ctim.tv_sec * NS_PER_S + st.st_ctim.tv_nsec,
    };
    return 0;
}

bool store_stamp_equal(const struct store_stamp *a, const struct store_stamp *b)
{
    return a->size_bytes == b->size_bytes && a->mtime_ns == b->mtime_ns &&
           a->ctime_ns == b->ctime_ns;
}

// ---- handles

static void copy_texts(struct stored *s, const struct stored_version *v)
{
    BUFFER_CLEANUP all = {0};
    struct text from[] = {v->origin, v->key, v->validator, v->checksum};
    struct text *to[] = {&s->version.origin, &s->version.key, &s->version.validator,
                         &s->version.checksum};
    for (int i = 0; i < 4; i++)
        buffer_append_text(&all, from[i]);
    s->texts = buffer_steal(&all);
    size_t at = 0;
    for (int i = 0; i < 4; at += from[i].size_bytes, i++)
        *to[i] = (struct text){s->texts + at, from[i].size_bytes};
}

// Takes the descriptors.
static struct stored *stored_new(struct block_store *b, const struct store_map *m, int data_fd,
                                 int map_fd)
{
    struct stored *s = new_struct(struct stored);
    s->store = b;
    s->version = m->version;
    copy_texts(s, &m->version);
    s->block_count = store_block_count(m->version.size_bytes);
    s->header_bytes = m->header_bytes;
    s->data_fd = data_fd;
    s->map_fd = map_fd;
    s->refs = 1;
    lock_init(&s->lock, LOCK_RANK_STORED, "stored");
    s->is_sealed = m->flags & STORE_MAP_SEALED;
    s->is_pinned = m->flags & STORE_MAP_PINNED;
    s->stamp = m->stamp;
    store_bits_init(&s->present, s->block_count, false);
    store_bits_init(&s->proven, s->block_count, false);
    if (!s->is_sealed)
        s->digest = store_digest_new(s->version.checksum);
    LIST_INIT(&s->claims);
    return s;
}

static void stored_free(struct stored *s)
{
    check(LIST_EMPTY(&s->claims) && !s->waiters && !s->is_queued);
    store_close_later(s->store, s->data_fd, s->state == STORED_DYING ? s->disk_bytes : 0);
    close(s->map_fd);
    store_bits_release(&s->present);
    store_bits_release(&s->proven);
    store_digest_free(s->digest);
    lock_release_memory(&s->lock);
    free(s->texts);
    free(s);
}

struct stored *stored_ref(struct stored *s)
{
    lock_scope(&s->store->lock);
    check(s->refs > 0);
    s->refs++;
    return s;
}

// Its use is noted on disk, for a life that has no summary to go by.
static void note_use(struct stored *s)
{
    if (s->is_touched && clock_unix_ns() / NS_PER_S - s->map_mtime_s > NOTED_EVERY_S)
        futimens(s->map_fd, NULL);
}

void stored_unref(struct stored *s)
{
    if (!s)
        return;
    struct block_store *b = s->store;
    lock_acquire(&b->lock);
    check(s->refs > 0);
    bool is_last = --s->refs == 0;
    if (is_last && s->slot)
        unlist(b, s);
    lock_release(&b->lock);
    if (!is_last)
        return;
    note_use(s);
    store_close_account(s);
    stored_free(s);
}

// ---- finding

static int load_marks(struct stored *s)
{
    uint64_t *marks = memory_grow(NULL, MARKS_AT_ONCE, sizeof(*marks));
    cleanup(cleanup_free) void *freed = marks;
    for (uint32_t from = 0; from < s->block_count; from += MARKS_AT_ONCE) {
        uint32_t n = s->block_count - from;
        n = n < MARKS_AT_ONCE ? n : MARKS_AT_ONCE;
        ssize_t got = store_disk_read_some(&s->store->disk, s->map_fd, marks, n * sizeof(*marks),
                                           store_mark_offset(s->header_bytes, from));
        if (got < 0)
            return (int)got;
        uint32_t count = (uint32_t)got / sizeof(*marks);
        for (uint32_t i = 0; i < count; i++)
            if (marks[i])
                store_bits_put(&s->present, from + i, true);
        if (count < n && (size_t)got % sizeof(*marks) == 0)
            break; // the rest was never written
        // A mark that was torn must not become one when the file grows over its end.
        if (count < n)
            return store_disk_resize(&s->store->disk, s->map_fd,
                                     store_mark_offset(s->header_bytes, from + count));
    }
    return 0;
}

// -EBADMSG: not what belongs there.
static int read_map(struct block_store *b, const uint8_t identity[16], int map_fd,
                    uint8_t bytes[STORE_MAP_ROOM], struct store_map *ret_map)
{
    ssize_t n = store_disk_read_some(&b->disk, map_fd, bytes, STORE_MAP_HEADER_MAX, 0);
    if (n < 0)
        return (int)n;
    int r = store_map_decode(bytes, (size_t)n, ret_map);
    if (r < 0)
        return r;
    bool is_its = memcmp(ret_map->version.identity, identity, 16) == 0;
    return is_its ? 0 : -EBADMSG;
}

static int load(struct block_store *b, const uint8_t identity[16], struct stored **ret_stored)
{
    cleanup(cleanup_close) int map = store_disk_open_file(&b->disk, identity, STORE_MAP, O_RDWR);
    if (map == -EROFS)
        map = store_disk_open_file(&b->disk, identity, STORE_MAP, O_RDONLY);
    if (map < 0)
        return map;
    uint8_t bytes[STORE_MAP_ROOM];
    struct store_map m;
    int r = read_map(b, identity, map, bytes, &m);
    if (r < 0)
        return r;
    int flags = m.flags & STORE_MAP_SEALED ? O_RDONLY : O_RDWR;
    cleanup(cleanup_close) int data = store_disk_open_file(&b->disk, identity, STORE_DATA, flags);
    if (data == -EROFS)
        data = store_disk_open_file(&b->disk, identity, STORE_DATA, O_RDONLY);
    if (data < 0)
        return data == -ENOENT ? -EBADMSG : data;
    struct stat data_stat, map_stat;
    if (fstat(data, &data_stat) < 0 || fstat(map, &map_stat) < 0)
        return -errno;
    if (!S_ISREG(data_stat.st_mode) || (uint64_t)data_stat.st_size != m.version.size_bytes)
        return -EBADMSG;
    struct stored *s = stored_new(b, &m, take_fd(&data), take_fd(&map));
    s->disk_bytes = ((uint64_t)data_stat.st_blocks + (uint64_t)map_stat.st_blocks) * 512;
    s->map_mtime_s = map_stat.st_mtim.tv_sec;
    if ((m.flags & STORE_MAP_SEALED) && !(m.flags & STORE_MAP_HOLED))
        store_bits_fill(&s->present, true);
    else
        r = load_marks(s);
    if (r < 0)
        stored_free(s);
    else
        *ret_stored = s;
    return r;
}

// What a handle that was just loaded is. Nobody else has it yet.
static void settle_state(struct block_store *b, struct stored *s)
{
    lock_scope(&s->lock);
    s->state = STORED_PARTIAL;
    if (!store_bits_all(&s->present))
        return;
    s->state = s->is_sealed ? STORED_COMPLETE : STORED_FULL;
    if (s->state == STORED_FULL && !s->digest)
        stored_seal(s);
    else if (s->state == STORED_FULL)
        stored_queue_check(s);
    lock_scope(&b->lock);
    struct store_entry *e = store_index_entry(&b->index, s->slot);
    if (s->state == STORED_COMPLETE && e->flags & STORE_ENTRY_CHECKED)
        store_bits_fill(&s->proven, true);
}

// Files that can't be used are deleted, with an entry that a summary may have for them.
static void discard(struct block_store *b, const uint8_t identity[16], bool is_broken)
{
    if (is_broken)
        store_disk_remove(&b->disk, identity);
    lock_scope(&b->lock);
    uint32_t slot = store_index_find(&b->index, identity);
    if (slot)
        store_forget(b, slot);
    if (is_broken && store_complaint_due(&b->files, 60 * NS_PER_S))
        log_warn("cache: files of %s that are not well-formed: deleted", b->folder);
}

int stored_find_at_door(struct block_store *b, const uint8_t identity[16],
                        struct stored **ret_stored)
{
    struct stored *s = ref_handle(b, identity);
    if (!s) {
        int r = load(b, identity, &s);
        if (r == -EBADMSG || r == -ENOENT)
            discard(b, identity, r == -EBADMSG);
        if (r < 0)
            return r == -EBADMSG ? -ENOENT : r;
        list_handle(b, s);
        settle_state(b, s);
    }
    *ret_stored = s;
    return 0;
}

int block_store_find(struct block_store *b, const uint8_t identity[16], struct stored **ret_stored)
{
    if (!b->folder)
        return -ENOENT;
    struct stored *s = ref_handle(b, identity);
    if (!s) {
        lock_scope(store_door(b, identity));
        int r = stored_find_at_door(b, identity, &s);
        if (r < 0)
            return r;
    }
    *ret_stored = s;
    return 0;
}

// ---- making

static int create_files(struct block_store *b, const struct stored_version *v,
                        struct stored **ret_stored)
{
    int r = store_disk_remove(&b->disk, v->identity);
    if (r < 0)
        return r;
    cleanup(cleanup_close) int data = store_disk_create(&b->disk, v->identity, STORE_DATA);
    if (data < 0)
        return data;
    r = store_disk_resize(&b->disk, data, v->size_bytes);
    cleanup(cleanup_close) int map = r < 0 ? r : store_disk_create(&b->disk, v->identity, STORE_MAP);
    uint8_t bytes[STORE_MAP_ROOM];
    struct store_map m = {.version = *v};
    m.header_bytes = (uint32_t)store_map_encode(&m, bytes);
    if (map >= 0)
        r = store_disk_write(&b->disk, map, bytes, m.header_bytes, 0);
    else
        r = map;
    if (r < 0) {
        store_disk_remove(&b->disk, v->identity);
        return r;
    }
    struct stored *s = stored_new(b, &m, take_fd(&data), take_fd(&map));
    s->is_new = true;
    s->is_written = true;
    s->map_mtime_s = clock_unix_ns() / NS_PER_S;
    s->disk_bytes = STORE_MAP_ROOM;
    *ret_stored = s;
    return 0;
}

static bool is_version(const struct stored *s, const struct stored_version *v)
{
    return s->version.size_bytes == v->size_bytes &&
           text_equal(s->version.validator, v->validator);
}

static int create_at_door(struct block_store *b, const struct stored_version *v,
                          struct stored **ret_stored)
{
    cleanup(cleanup_stored_unref) struct stored *old = NULL;
    int r = stored_find_at_door(b, v->identity, &old);
    if (r < 0 && r != -ENOENT)
        return r;
    if (old && is_version(old, v)) {
        *ret_stored = take(old);
        return 0;
    }
    if (old)
        stored_die_at_door(old);
    struct stored *s = NULL;
    r = create_files(b, v, &s);
    if (r < 0)
        return r;
    list_handle(b, s);
    settle_state(b, s);
    *ret_stored = s;
    return 0;
}

static int find_version(struct block_store *b, const struct stored_version *v,
                        struct stored **ret_stored)
{
    cleanup(cleanup_stored_unref) struct stored *s = NULL;
    int r = block_store_find(b, v->identity, &s);
    if (r == 0 && !is_version(s, v))
        r = -ENOENT;
    if (r == 0)
        *ret_stored = take(s);
    return r;
}

static int create_once(struct block_store *b, const struct stored_version *v,
                       struct stored **ret_stored)
{
    lock_scope(store_door(b, v->identity));
    return create_at_door(b, v, ret_stored);
}

int block_store_create(struct block_store *b, const struct stored_version *version,
                       struct stored **ret_stored)
{
    int r = store_map_check(version);
    if (r < 0 || find_version(b, version, ret_stored) == 0)
        return r;
    r = store_reserve_object(b);
    if (r < 0)
        return r;
    r = create_once(b, version, ret_stored);
    if (r < 0 && store_make_room(b, r))
        r = create_once(b, version, ret_stored);
    if (r < 0) {
        metric_add(METRIC_STORE_REFUSED, 1);
        store_trouble(b, r, "making a file");
    } else {
        store_write_worked(b);
    }
    return r;
}

// ---- the end of a version

void stored_die_at_door(struct stored *s)
{
    struct block_store *b = s->store;
    {
        lock_scope(&s->lock);
        if (s->state == STORED_DYING)
            return;
        s->state = STORED_DYING;
        lock_scope(&b->lock);
        unlist(b, s);
        store_forget(b, s->slot);
        s->slot = 0;
        b->dying_bytes += s->disk_bytes;
    }
    store_ask_no_more(b, s->version.identity);
    int r = store_disk_remove(&b->disk, s->version.identity);
    if (r < 0)
        store_trouble(b, r, "deleting a file");
}

void stored_drop(struct stored *s)
{
    lock_scope(store_door(s->store, s->version.identity));
    stored_die_at_door(s);
}

int block_store_drop(struct block_store *b, const uint8_t identity[16])
{
    cleanup(cleanup_stored_unref) struct stored *s = NULL;
    int r = block_store_find(b, identity, &s);
    if (r == 0)
        stored_drop(s);
    return r;
}
