// SPDX-License-Identifier: BSD-3-Clause
// state.c: what the kernel knows of names, files and objects; the invariants are in state_map.c.
#include "fs/state_internal.h"

#include <errno.h>
#include <stdatomic.h>

#include "base/buffer.h"
#include "base/hash.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/table.h"

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
    const struct named_node *n = state_named_at(context, id);
    return n && n->parent == k->parent &&
           text_equal((struct text){n->name, n->name_bytes}, k->name);
}

static bool same_file(uint64_t id, const void *key, void *context)
{
    const struct file_key *k = key;
    const struct file_node *n = state_file_at(context, id);
    return n && n->component == k->component && n->space == k->space &&
           memcmp(n->uuid, k->uuid, sizeof k->uuid) == 0;
}

static struct file_key key_of(const struct file_node *n)
{
    struct file_key k = {.component = n->component, .space = n->space};
    memcpy(k.uuid, n->uuid, sizeof k.uuid);
    return k;
}

void state_named_index(struct state *s, uint64_t id, const struct named_node *n)
{
    table_add(&s->named, hash_named(n->parent, (struct text){n->name, n->name_bytes}), id);
}

void state_file_index(struct state *s, uint64_t id, const struct file_node *n)
{
    struct file_key key = key_of(n);
    table_add(&s->files, hash_file(&key), id);
}

void state_file_unindex(struct state *s, uint64_t id, const struct file_node *n)
{
    struct file_key key = key_of(n);
    table_remove(&s->files, hash_file(&key), id);
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
    const struct named_node *up = state_named_at(s, parent);
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
    struct named_node *n = state_named_at(s, id);
    if (kind != NODE_NAME) // a folder of that name stays one
        n->kind = (uint8_t)kind;
    n->lookups++;
    return id;
}

static void named_drop(struct state *s, uint64_t id, uint64_t references)
{
    struct named_node *n = state_named_at(s, id);
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
        named_unindex(s, id, state_named_at(s, id));
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

void state_file_free(struct state *s, uint64_t id, struct file_node *n)
{
    if (!n->is_stale)
        state_file_unindex(s, id, n);
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
    struct file_node *n = state_file_at(s, id);
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
    if (!n->is_stale)
        state_file_unindex(s, id, n);
    n->is_stale = 1;
}

// Its name's node: of the folder it is in now, which may have been forgotten and found again.
static void object_rename(struct state *s, struct file_node *n, const struct object_name *name)
{
    const struct named_node *had = n->name ? state_named_at(s, n->name) : NULL;
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
    struct file_node *n = id ? state_file_at(s, id) : NULL;
    if (n && n->opens > 0 && n->artifact != name->artifact) {
        file_set_stale(s, id, n);
        n = NULL;
    }
    if (!n) {
        id = file_make(s, key);
        n = id ? state_file_at(s, id) : NULL;
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
    struct file_node *n = state_file_at(s, node);
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
    struct file_node *n = id ? state_file_at(s, id) : NULL;
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
    struct file_node *n = state_file_at(s, node);
    if (n)
        file_set_stale(s, node, n);
}

void state_set_stale_key(struct state *s, const struct file_key *key)
{
    lock_scope(&s->lock);
    uint64_t id = table_find(&s->files, hash_file(key), same_file, key, s);
    if (id)
        file_set_stale(s, id, state_file_at(s, id));
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
    struct file_node *file = state_file_at(s, node);
    if (!file) {
        named_drop(s, node, lookups);
        return;
    }
    file->lookups -= lookups < file->lookups ? lookups : file->lookups;
    if (file->lookups == 0 && file->opens == 0) // else its last release comes first; it leaks with the mount at worst
        state_file_free(s, node, file);
}

enum node_kind state_kind(struct state *s, uint64_t node)
{
    lock_scope(&s->lock);
    const struct named_node *n = state_named_at(s, node);
    if (!n && state_home_at(s, node))
        return NODE_HOME;
    return n ? (enum node_kind)n->kind : state_file_at(s, node) ? NODE_FILE : NODE_FREE;
}

bool state_get_named(struct state *s, uint64_t node, struct named_node *ret_copy)
{
    lock_scope(&s->lock);
    const struct named_node *n = state_named_at(s, node);
    if (n)
        *ret_copy = *n;
    return n;
}

bool state_get_file(struct state *s, uint64_t node, struct file_node *ret_copy)
{
    lock_scope(&s->lock);
    const struct file_node *n = state_file_at(s, node);
    if (n)
        *ret_copy = *n;
    return n;
}

uint16_t state_space(struct state *s, uint64_t node)
{
    lock_scope(&s->lock);
    const struct named_node *n = state_named_at(s, node);
    const struct file_node *f = n ? NULL : state_file_at(s, node);
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
    const struct named_node *n = state_named_at(s, node);
    int r = n ? 0 : -ESTALE;
    while (r == 0 && node != STATE_ROOT && n->space == space) {
        const struct named_node *up = state_named_at(s, n->parent);
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
    struct named_node *n = state_named_at(s, node);
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
