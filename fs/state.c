// SPDX-License-Identifier: BSD-3-Clause
// state.c: the tables of state.h in a memfd.
//
// Invariants
//  1. A slot's `kind` is stored last when it is made and first when it is freed, so that a death
//     leaves a slot either whole or free.
//  2. A slot's sequence grows when it is freed: an id given out before never means a later thing.
//  3. Indexes (process memory) hold exactly the slots that are in use and not stale.
//  4. A node's `opens` equals the number of handles that name it: repaired from them at start.
//  5. Nothing in the file is a pointer, and every index read from it is checked against its table.
#include "fs/state_internal.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/buffer.h"
#include "base/hash.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/table.h"

#define STATE_MAGIC 0x3153465245544c42ULL // "BLTERFS1"
#define STATE_VERSION 3
#define GIB (1ULL << 30)

_Static_assert(sizeof(struct named_node) == 320, "state.h's layout is a format");
_Static_assert(sizeof(struct file_node) == 104, "state.h's layout is a format");
_Static_assert(sizeof(struct handle) == 64, "state.h's layout is a format");
_Static_assert(sizeof(struct home_node) == 192, "state_home.h's layout is a format");

static const struct {
    uint64_t offset, length;
    uint32_t slot_bytes;
} layout[TABLE_KINDS] = {
    [TABLE_NAMED] = {1 * GIB, 8 * GIB, sizeof(struct named_node)},
    [TABLE_FILE] = {9 * GIB, 8 * GIB, sizeof(struct file_node)},
    [TABLE_HANDLE] = {17 * GIB, 1 * GIB, sizeof(struct handle)},
    [TABLE_HOME] = {18 * GIB, 16 * GIB, sizeof(struct home_node)},
};
#define STATE_BYTES (34 * GIB)

// ---- ids ------------------------------------------------------------------------------------

uint64_t state_id(int kind, uint32_t index, uint32_t sequence)
{
    return (uint64_t)(sequence & ID_SEQUENCE_MASK) << ID_SEQUENCE_SHIFT |
           (kind == TABLE_FILE ? ID_FILE_BIT : kind == TABLE_HOME ? ID_HOME_BIT : 0) | index;
}

void *state_slot_at(const struct state *s, int kind, uint32_t index)
{
    return s->map + layout[kind].offset + (uint64_t)index * layout[kind].slot_bytes;
}

static struct named_node *named_at(const struct state *s, uint64_t id)
{
    uint32_t index = id & ID_INDEX_MASK;
    if (id & (ID_FILE_BIT | ID_HOME_BIT) || index == 0 || index >= s->header->high[TABLE_NAMED])
        return NULL;
    struct named_node *n = state_slot_at(s, TABLE_NAMED, index);
    if (n->kind == NODE_FREE || (n->sequence & ID_SEQUENCE_MASK) != id >> ID_SEQUENCE_SHIFT)
        return NULL;
    return n;
}

static struct file_node *file_at(const struct state *s, uint64_t id)
{
    uint32_t index = id & ID_INDEX_MASK;
    if (!(id & ID_FILE_BIT) || index == 0 || index >= s->header->high[TABLE_FILE])
        return NULL;
    struct file_node *n = state_slot_at(s, TABLE_FILE, index);
    if (n->kind != NODE_FILE || (n->sequence & ID_SEQUENCE_MASK) != id >> ID_SEQUENCE_SHIFT)
        return NULL;
    return n;
}

struct handle *state_handle_at(const struct state *s, uint64_t fh)
{
    uint32_t index = fh & 0xffffffff;
    if (index == 0 || index >= s->header->high[TABLE_HANDLE])
        return NULL;
    struct handle *h = state_slot_at(s, TABLE_HANDLE, index);
    return h->kind != HANDLE_FREE && h->sequence == fh >> 32 ? h : NULL;
}

// ---- slots ----------------------------------------------------------------------------------

void state_slot_free(struct state *s, int kind, uint32_t index)
{
    struct free_list *f = &s->free[kind];
    if (f->count == f->room) {
        f->room = f->room ? 2 * f->room : 64;
        f->slots = memory_grow(f->slots, f->room, sizeof *f->slots);
    }
    f->slots[f->count++] = index;
}

// 0: the table is full.
uint32_t state_slot_take(struct state *s, int kind)
{
    struct free_list *f = &s->free[kind];
    if (f->count)
        return f->slots[--f->count];
    uint32_t index = s->header->high[kind];
    if ((uint64_t)(index + 1) * layout[kind].slot_bytes > layout[kind].length)
        return 0;
    s->header->high[kind] = index + 1;
    return index;
}

// ---- keys -----------------------------------------------------------------------------------

struct named_key {
    uint64_t parent;
    struct text name;
};

static uint64_t hash_named(uint64_t parent, struct text name)
{
    return hash64_seed(name.data, name.size_bytes, parent);
}

static uint64_t hash_file(const struct file_key *k)
{
    return hash64_seed(k->uuid, sizeof k->uuid, k->component + k->space);
}

static bool same_named(uint64_t id, const void *key, void *context)
{
    const struct named_key *k = key;
    const struct named_node *n = named_at(context, id);
    return n && n->parent == k->parent &&
           text_equal((struct text){n->name, n->name_bytes}, k->name);
}

static bool same_file(uint64_t id, const void *key, void *context)
{
    const struct file_key *k = key;
    const struct file_node *n = file_at(context, id);
    return n && n->component == k->component && n->space == k->space &&
           memcmp(n->uuid, k->uuid, sizeof k->uuid) == 0;
}

static struct file_key key_of(const struct file_node *n)
{
    struct file_key k = {.component = n->component, .space = n->space};
    memcpy(k.uuid, n->uuid, sizeof k.uuid);
    return k;
}

// ---- opening and repair -----------------------------------------------------------------------

static void repair_named(struct state *s)
{
    for (uint32_t i = STATE_ROOT + 1; i < s->header->high[TABLE_NAMED]; i++) {
        struct named_node *n = state_slot_at(s, TABLE_NAMED, i);
        if (n->kind == NODE_FREE || n->kind > NODE_NAME || n->name_bytes > STATE_NAME_MAX) {
            n->kind = NODE_FREE;
            state_slot_free(s, TABLE_NAMED, i);
            continue;
        }
        if (!n->is_stale)
            table_add(&s->named, hash_named(n->parent, (struct text){n->name, n->name_bytes}),
                      state_id(TABLE_NAMED, i, n->sequence));
        metric_add(METRIC_NODES, 1);
    }
}

static void repair_files(struct state *s)
{
    for (uint32_t i = 1; i < s->header->high[TABLE_FILE]; i++) {
        struct file_node *n = state_slot_at(s, TABLE_FILE, i);
        if (n->kind != NODE_FILE) {
            n->kind = NODE_FREE;
            state_slot_free(s, TABLE_FILE, i);
            continue;
        }
        n->opens = 0; // counted again from the handles
        metric_add(METRIC_NODES, 1);
        if (n->is_stale)
            continue;
        struct file_key k = key_of(n);
        table_add(&s->files, hash_file(&k), state_id(TABLE_FILE, i, n->sequence));
    }
}

static void repair_handles(struct state *s)
{
    for (uint32_t i = 1; i < s->header->high[TABLE_HANDLE]; i++) {
        struct handle *h = state_slot_at(s, TABLE_HANDLE, i);
        struct file_node *n = h->kind == HANDLE_FILE ? file_at(s, h->node) : NULL;
        bool is_home = h->kind == HANDLE_HOME && state_home_repair_open(s, h);
        if (h->kind == HANDLE_FREE || h->kind > HANDLE_HOME || (h->kind == HANDLE_FILE && !n) ||
            (h->kind == HANDLE_HOME && !is_home)) {
            h->kind = HANDLE_FREE;
            state_slot_free(s, TABLE_HANDLE, i);
            continue;
        }
        if (n) {
            n->opens++;
            n->mode = h->mode;
        }
        metric_add(h->kind == HANDLE_FOLDER ? METRIC_OPEN_FOLDERS : METRIC_OPEN_FILES, 1);
    }
    for (uint32_t i = 1; i < s->header->high[TABLE_FILE]; i++) {
        struct file_node *n = state_slot_at(s, TABLE_FILE, i);
        if (n->kind == NODE_FILE && n->opens == 0)
            n->mode = OPEN_NONE;
    }
}

// `used_bytes`: of memory in the file; each slot below a table's mark was written once, so the marks
// can't promise more.
static bool header_is_sound(const struct state_header *h, uint64_t used_bytes)
{
    uint64_t promised_bytes = 0;
    if (h->magic != STATE_MAGIC || h->version != STATE_VERSION || h->length != sizeof *h ||
        h->init_bytes > STATE_INIT_MAX)
        return false;
    for (int kind = 0; kind < TABLE_KINDS; kind++)
        if (h->high[kind] == 0 ||
            (uint64_t)h->high[kind] * layout[kind].slot_bytes > layout[kind].length)
            return false;
        else
            promised_bytes += (uint64_t)(h->high[kind] - 1) * layout[kind].slot_bytes;
    return promised_bytes <= used_bytes + 4096 * TABLE_KINDS;
}

static void header_make(struct state_header *h)
{
    h->version = STATE_VERSION;
    h->length = sizeof *h;
    h->high[TABLE_NAMED] = 2; // 0: no node, 1: the root
    h->high[TABLE_FILE] = 1;
    h->high[TABLE_HANDLE] = 1;
    h->high[TABLE_HOME] = 1;
    h->magic = STATE_MAGIC;
}

int state_open(int fd, struct state **ret_state, const char **ret_why)
{
    struct stat st;
    if (fstat(fd, &st) < 0) {
        *ret_why = "the hand-over memory can't be read";
        return -errno;
    }
    bool is_new = st.st_size == 0;
    if (is_new ? ftruncate(fd, STATE_BYTES) < 0 : (uint64_t)st.st_size != STATE_BYTES) {
        *ret_why = "the hand-over memory has the wrong size (another version of butlerfs made it)";
        return is_new ? -errno : -EBADMSG;
    }
    uint8_t *map =
        mmap(NULL, STATE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (map == MAP_FAILED) {
        *ret_why = "the hand-over memory can't be mapped";
        return -errno;
    }
    struct state_header *h = (struct state_header *)map;
    if (is_new || h->magic == 0)
        header_make(h);
    if (!header_is_sound(h, (uint64_t)st.st_blocks * 512)) {
        munmap(map, STATE_BYTES);
        *ret_why = "the hand-over memory was made by another version of butlerfs: unmount and mount again";
        return -EBADMSG;
    }
    struct state *s = new_struct(struct state);
    s->map = map;
    s->header = h;
    lock_init(&s->lock, LOCK_RANK_NODE, "nodes");
    repair_named(s);
    repair_files(s);
    state_home_repair(s);
    repair_handles(s);
    state_changes_keep(s);
    *ret_state = s;
    return 0;
}

void state_close(struct state *s)
{
    munmap(s->map, STATE_BYTES);
    for (int kind = 0; kind < TABLE_KINDS; kind++)
        free(s->free[kind].slots);
    table_release(&s->named);
    table_release(&s->files);
    table_release(&s->homes);
    lock_release_memory(&s->lock);
    free(s);
}

void state_save_init(struct state *s, struct text request)
{
    check(request.size_bytes <= STATE_INIT_MAX);
    memcpy(s->header->init, request.data, request.size_bytes);
    atomic_signal_fence(memory_order_seq_cst);
    s->header->init_bytes = (uint32_t)request.size_bytes;
}

bool state_saved_init(const struct state *s, struct text *ret_request)
{
    if (s->header->init_bytes == 0)
        return false;
    *ret_request = (struct text){(const char *)s->header->init, s->header->init_bytes};
    return true;
}

void state_save_want(struct state *s, uint64_t want)
{
    s->header->want = want;
}

uint64_t state_saved_want(const struct state *s)
{
    return s->header->want;
}

// ---- nodes ----------------------------------------------------------------------------------

uint64_t state_ino_of_hash(uint64_t hash)
{
    return hash > STATE_ROOT ? hash : hash + 2;
}

uint64_t state_ino(uint64_t parent_ino, struct text name)
{
    return state_ino_of_hash(hash64_seed(name.data, name.size_bytes, parent_ino));
}

static uint64_t named_make(struct state *s, uint64_t parent, struct text name, enum node_kind kind,
                           uint16_t space)
{
    uint32_t index = state_slot_take(s, TABLE_NAMED);
    const struct named_node *up = named_at(s, parent);
    if (index == 0)
        return 0;
    struct named_node *n = state_slot_at(s, TABLE_NAMED, index);
    n->is_stale = 0;
    n->space = space;
    n->lookups = 1;
    n->parent = parent;
    n->ino = state_ino(up ? up->ino : 0, name);
    n->cached_epoch = 0;
    n->name_bytes = (uint16_t)name.size_bytes;
    memcpy(n->name, name.data, name.size_bytes);
    n->name[name.size_bytes] = 0;
    atomic_signal_fence(memory_order_seq_cst); // invariant 1: a kill sees stores in program order
    n->kind = (uint8_t)kind;
    uint64_t id = state_id(TABLE_NAMED, index, n->sequence);
    table_add(&s->named, hash_named(parent, name), id);
    metric_add(METRIC_NODES, 1);
    return id;
}

static void named_unindex(struct state *s, uint64_t id, struct named_node *n)
{
    if (!n->is_stale)
        table_remove(&s->named, hash_named(n->parent, (struct text){n->name, n->name_bytes}), id);
    n->is_stale = 1;
}

static void named_free(struct state *s, uint64_t id, struct named_node *n)
{
    named_unindex(s, id, n);
    n->kind = NODE_FREE;
    atomic_signal_fence(memory_order_seq_cst);
    n->sequence++;
    state_slot_free(s, TABLE_NAMED, id & ID_INDEX_MASK);
    metric_add(METRIC_NODES, -1);
}

// Under the lock: finds or makes it, and counts one reference.
static uint64_t named_hold(struct state *s, uint64_t parent, struct text name, enum node_kind kind,
                           uint16_t space)
{
    struct named_key key = {parent, name};
    uint64_t id = table_find(&s->named, hash_named(parent, name), same_named, &key, s);
    if (!id)
        return named_make(s, parent, name, kind, space);
    struct named_node *n = named_at(s, id);
    if (kind != NODE_NAME) // a folder of that name stays one
        n->kind = (uint8_t)kind;
    n->lookups++;
    return id;
}

static void named_drop(struct state *s, uint64_t id, uint64_t references)
{
    struct named_node *n = named_at(s, id);
    if (!n || id == STATE_ROOT)
        return;
    n->lookups -= references < n->lookups ? references : n->lookups;
    if (n->lookups == 0)
        named_free(s, id, n);
}

uint64_t state_named(struct state *s, uint64_t parent, struct text name, enum node_kind kind,
                     uint16_t space)
{
    check(name.size_bytes <= STATE_NAME_MAX);
    lock_scope(&s->lock);
    return named_hold(s, parent, name, kind, space);
}

void state_leave_named(struct state *s, uint64_t parent, struct text name)
{
    struct named_key key = {parent, name};
    lock_scope(&s->lock);
    uint64_t id = table_find(&s->named, hash_named(parent, name), same_named, &key, s);
    if (id)
        named_unindex(s, id, named_at(s, id));
}

static uint64_t file_make(struct state *s, const struct file_key *key)
{
    uint32_t index = state_slot_take(s, TABLE_FILE);
    if (index == 0)
        return 0;
    struct file_node *n = state_slot_at(s, TABLE_FILE, index);
    uint32_t sequence = n->sequence;
    *n = (struct file_node){.sequence = sequence, .space = key->space, .component = key->component};
    memcpy(n->uuid, key->uuid, sizeof n->uuid);
    atomic_signal_fence(memory_order_seq_cst);
    n->kind = NODE_FILE;
    uint64_t id = state_id(TABLE_FILE, index, sequence);
    table_add(&s->files, hash_file(key), id);
    metric_add(METRIC_NODES, 1);
    return id;
}

static void file_free(struct state *s, uint64_t id, struct file_node *n)
{
    struct file_key key = key_of(n);
    if (!n->is_stale)
        table_remove(&s->files, hash_file(&key), id);
    uint64_t name = n->name;
    n->kind = NODE_FREE;
    atomic_signal_fence(memory_order_seq_cst);
    n->sequence++;
    state_slot_free(s, TABLE_FILE, id & ID_INDEX_MASK);
    metric_add(METRIC_NODES, -1);
    if (name)
        named_drop(s, name, 1);
}

uint64_t state_file(struct state *s, const struct file_key *key, uint64_t parent,
                    int64_t size_bytes, int64_t mtime_unix_ns, struct file_node *ret_copy)
{
    lock_scope(&s->lock);
    uint64_t id = table_find(&s->files, hash_file(key), same_file, key, s);
    if (!id)
        id = file_make(s, key);
    if (!id)
        return 0;
    struct file_node *n = file_at(s, id);
    // While it is open, and after it was, its store's own size is known better than the registry's.
    if (n->opens == 0 && n->artifact == 0)
        n->size_bytes = size_bytes;
    n->mtime_unix_ns = mtime_unix_ns;
    n->parent = parent;
    n->lookups++;
    *ret_copy = *n;
    return id;
}

static void file_set_stale(struct state *s, uint64_t id, struct file_node *n)
{
    struct file_key key = key_of(n);
    if (!n->is_stale)
        table_remove(&s->files, hash_file(&key), id);
    n->is_stale = 1;
}

// Its name's node: of the folder it is in now, which may have been forgotten and found again.
static void object_rename(struct state *s, struct file_node *n, const struct object_name *name)
{
    const struct named_node *had = n->name ? named_at(s, n->name) : NULL;
    if (had && had->parent == name->parent)
        return;
    uint64_t was = n->name;
    n->name = named_hold(s, name->parent, name->name, NODE_NAME, n->space);
    if (was)
        named_drop(s, was, 1);
}

uint64_t state_object(struct state *s, const struct file_key *key, const struct object_name *name,
                      struct file_node *ret_copy)
{
    check(name->name.size_bytes <= STATE_NAME_MAX);
    lock_scope(&s->lock);
    uint64_t id = table_find(&s->files, hash_file(key), same_file, key, s);
    struct file_node *n = id ? file_at(s, id) : NULL;
    if (n && n->opens > 0 && n->artifact != name->artifact) {
        file_set_stale(s, id, n);
        n = NULL;
    }
    if (!n) {
        id = file_make(s, key);
        n = id ? file_at(s, id) : NULL;
    }
    if (!n)
        return 0;
    object_rename(s, n, name);
    n->artifact = name->artifact;
    n->size_bytes = name->size_bytes;
    n->mtime_unix_ns = name->mtime_unix_ns;
    n->parent = name->parent;
    n->lookups++;
    *ret_copy = *n;
    return id;
}

void state_wrote(struct state *s, uint64_t node, int64_t size_bytes, int64_t mtime_unix_ns, uint64_t artifact)
{
    lock_scope(&s->lock);
    struct file_node *n = file_at(s, node);
    if (!n)
        return;
    n->size_bytes = size_bytes;
    n->mtime_unix_ns = mtime_unix_ns;
    if (artifact)
        n->artifact = artifact;
}

uint64_t state_replaced(struct state *s, const struct file_key *key, int64_t size_bytes, int64_t mtime_unix_ns,
                        uint64_t artifact)
{
    lock_scope(&s->lock);
    uint64_t id = table_find(&s->files, hash_file(key), same_file, key, s);
    struct file_node *n = id ? file_at(s, id) : NULL;
    if (!n || n->artifact == artifact)
        return 0;
    if (n->opens > 0) {
        file_set_stale(s, id, n);
    } else {
        n->artifact = artifact;
        n->size_bytes = size_bytes;
        n->mtime_unix_ns = mtime_unix_ns;
    }
    return id;
}

void state_set_stale(struct state *s, uint64_t node)
{
    lock_scope(&s->lock);
    struct file_node *n = file_at(s, node);
    if (n)
        file_set_stale(s, node, n);
}

void state_set_stale_key(struct state *s, const struct file_key *key)
{
    lock_scope(&s->lock);
    uint64_t id = table_find(&s->files, hash_file(key), same_file, key, s);
    if (id)
        file_set_stale(s, id, file_at(s, id));
}

void state_root(struct state *s, uint16_t space, uint64_t ino)
{
    lock_scope(&s->lock);
    struct named_node *n = state_slot_at(s, TABLE_NAMED, STATE_ROOT);
    n->space = space;
    n->ino = ino;
    n->lookups = 1;
    n->kind = NODE_FOLDER;
}

void state_forget(struct state *s, uint64_t node, uint64_t lookups)
{
    lock_scope(&s->lock);
    if (node & ID_HOME_BIT) {
        state_home_forget(s, node, lookups);
        return;
    }
    struct file_node *file = file_at(s, node);
    if (!file) {
        named_drop(s, node, lookups);
        return;
    }
    file->lookups -= lookups < file->lookups ? lookups : file->lookups;
    if (file->lookups == 0 && file->opens == 0) // else its last release comes first; it leaks with the mount at worst
        file_free(s, node, file);
}

enum node_kind state_kind(struct state *s, uint64_t node)
{
    lock_scope(&s->lock);
    const struct named_node *n = named_at(s, node);
    if (!n && state_home_at(s, node))
        return NODE_HOME;
    return n ? (enum node_kind)n->kind : file_at(s, node) ? NODE_FILE : NODE_FREE;
}

bool state_get_named(struct state *s, uint64_t node, struct named_node *ret_copy)
{
    lock_scope(&s->lock);
    const struct named_node *n = named_at(s, node);
    if (n)
        *ret_copy = *n;
    return n;
}

bool state_get_file(struct state *s, uint64_t node, struct file_node *ret_copy)
{
    lock_scope(&s->lock);
    const struct file_node *n = file_at(s, node);
    if (n)
        *ret_copy = *n;
    return n;
}

uint16_t state_space(struct state *s, uint64_t node)
{
    lock_scope(&s->lock);
    const struct named_node *n = named_at(s, node);
    const struct file_node *f = n ? NULL : file_at(s, node);
    const struct home_node *h = n || f ? NULL : state_home_at(s, node);
    return n ? n->space : f ? f->space : h ? h->space : UINT16_MAX;
}

#define DEPTH_MAX 4096

int state_path(struct state *s, uint64_t node, uint16_t space,
               int (*each)(struct text name, void *context), void *context)
{
    cleanup(buffer_release) struct buffer names = {0};
    size_t starts[DEPTH_MAX];
    size_t depth = 0;
    lock_acquire(&s->lock);
    const struct named_node *n = named_at(s, node);
    int r = n ? 0 : -ESTALE;
    while (r == 0 && node != STATE_ROOT && n->space == space) {
        const struct named_node *up = named_at(s, n->parent);
        if (!up) {
            r = -ESTALE;
        } else if (depth == DEPTH_MAX) {
            r = -ENAMETOOLONG;
        } else if (up->space == space) {
            starts[depth++] = names.size_bytes;
            buffer_append(&names, n->name, n->name_bytes);
        }
        node = n->parent;
        n = up;
    }
    lock_release(&s->lock);
    size_t end = names.size_bytes;
    for (size_t i = depth; r == 0 && i-- > 0;) {
        size_t to = i + 1 < depth ? starts[i + 1] : end;
        r = each((struct text){names.data + starts[i], to - starts[i]}, context);
    }
    return r;
}

void state_set_cached_epoch(struct state *s, uint64_t node, uint64_t epoch)
{
    lock_scope(&s->lock);
    struct named_node *n = named_at(s, node);
    if (n)
        n->cached_epoch = epoch;
}

void state_each_idle_file(struct state *s, state_update *each, void *context)
{
    lock_scope(&s->lock);
    for (uint32_t i = 1; i < s->header->high[TABLE_FILE]; i++) {
        struct file_node *n = state_slot_at(s, TABLE_FILE, i);
        if (n->kind == NODE_FILE && n->opens == 0)
            each(n, context);
    }
}

// ---- handles --------------------------------------------------------------------------------

static int file_open(struct state *s, struct handle *h, struct file_node *n, state_update *opening,
                     void *context)
{
    bool was_stale = n->is_stale;
    int r = opening(n, context);
    if (n->is_stale && !was_stale) {
        struct file_key key = key_of(n);
        table_remove(&s->files, hash_file(&key), h->node);
    }
    if (r < 0)
        return r;
    h->mode = n->mode;
    n->opens++;
    return 0;
}

int state_open_handle(struct state *s, enum handle_kind kind, uint64_t node, uint64_t unique,
                      state_update *opening, void *context, uint64_t *ret_fh)
{
    lock_scope(&s->lock);
    struct file_node *n = kind == HANDLE_FILE ? file_at(s, node) : NULL;
    if (kind == HANDLE_FILE && !n)
        return -ESTALE;
    uint32_t index = state_slot_take(s, TABLE_HANDLE);
    if (index == 0)
        return -ENFILE;
    struct handle *h = state_slot_at(s, TABLE_HANDLE, index);
    *h = (struct handle){.sequence = h->sequence, .node = node, .unique = unique};
    int r = n ? file_open(s, h, n, opening, context) : 0;
    if (r < 0) {
        state_slot_free(s, TABLE_HANDLE, index);
        return r;
    }
    atomic_signal_fence(memory_order_seq_cst);
    h->kind = (uint8_t)kind;
    metric_add(kind == HANDLE_FILE ? METRIC_OPEN_FILES : METRIC_OPEN_FOLDERS, 1);
    *ret_fh = (uint64_t)h->sequence << 32 | index;
    return 0;
}

uint64_t state_find_handle(struct state *s, uint64_t unique)
{
    lock_scope(&s->lock);
    for (uint32_t i = 1; i < s->header->high[TABLE_HANDLE]; i++) {
        const struct handle *h = state_slot_at(s, TABLE_HANDLE, i);
        if (h->kind != HANDLE_FREE && h->unique == unique)
            return (uint64_t)h->sequence << 32 | i;
    }
    return 0;
}

bool state_get_handle(struct state *s, uint64_t fh, struct handle *ret_copy)
{
    lock_scope(&s->lock);
    const struct handle *h = state_handle_at(s, fh);
    if (h)
        *ret_copy = *h;
    return h;
}

void state_set_listing(struct state *s, uint64_t fh, uint64_t generation, uint64_t epoch)
{
    lock_scope(&s->lock);
    struct handle *h = state_handle_at(s, fh);
    if (h) {
        h->epoch = epoch;
        h->generation = generation;
    }
}

void state_set_flags(struct state *s, uint64_t fh, uint32_t flags)
{
    lock_scope(&s->lock);
    struct handle *h = state_handle_at(s, fh);
    if (h)
        h->flags = flags;
}

bool state_close_handle(struct state *s, uint64_t fh, struct handle *ret_was, state_update *last,
                        void *context)
{
    lock_scope(&s->lock);
    struct handle *h = state_handle_at(s, fh);
    if (!h)
        return false;
    *ret_was = *h;
    metric_add(h->kind == HANDLE_FILE ? METRIC_OPEN_FILES : METRIC_OPEN_FOLDERS, -1);
    struct file_node *n = h->kind == HANDLE_FILE ? file_at(s, h->node) : NULL;
    h->kind = HANDLE_FREE;
    atomic_signal_fence(memory_order_seq_cst);
    h->sequence++;
    state_slot_free(s, TABLE_HANDLE, fh & 0xffffffff);
    if (n && n->opens && --n->opens == 0) {
        last(n, context);
        if (n->lookups == 0) // its FORGET came first
            file_free(s, ret_was->node, n);
    }
    return true;
}

uint32_t state_handle_index(uint64_t fh)
{
    return fh & 0xffffffff;
}

void state_each_handle(struct state *s,
                       void (*each)(uint64_t fh, const struct handle *h, void *context),
                       void *context)
{
    lock_acquire(&s->lock);
    uint32_t high = s->header->high[TABLE_HANDLE];
    lock_release(&s->lock);
    for (uint32_t i = 1; i < high; i++) {
        struct handle copy = *(struct handle *)state_slot_at(s, TABLE_HANDLE, i);
        if (copy.kind != HANDLE_FREE)
            each((uint64_t)copy.sequence << 32 | i, &copy, context);
    }
}
