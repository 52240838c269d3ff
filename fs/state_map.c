// SPDX-License-Identifier: BSD-3-Clause
// state_map.c: the tables of state.h in a memfd: where each thing is, and what is repaired when a new life begins.
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

struct named_node *state_named_at(const struct state *s, uint64_t id)
{
    uint32_t index = id & ID_INDEX_MASK;
    if (id & (ID_FILE_BIT | ID_HOME_BIT) || index == 0 || index >= s->header->high[TABLE_NAMED])
        return NULL;
    struct named_node *n = state_slot_at(s, TABLE_NAMED, index);
    if (n->kind == NODE_FREE || (n->sequence & ID_SEQUENCE_MASK) != id >> ID_SEQUENCE_SHIFT)
        return NULL;
    return n;
}

struct file_node *state_file_at(const struct state *s, uint64_t id)
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
            state_named_index(s, state_id(TABLE_NAMED, i, n->sequence), n);
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
        if (!n->is_stale)
            state_file_index(s, state_id(TABLE_FILE, i, n->sequence), n);
    }
}

static void repair_handles(struct state *s)
{
    for (uint32_t i = 1; i < s->header->high[TABLE_HANDLE]; i++) {
        struct handle *h = state_slot_at(s, TABLE_HANDLE, i);
        struct file_node *n = h->kind == HANDLE_FILE ? state_file_at(s, h->node) : NULL;
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
