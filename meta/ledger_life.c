// SPDX-License-Identifier: BSD-3-Clause
// ledger_life: opening and closing. What is believed at the start:
//     the map, if it is of this boot and well-formed: all usage, exactly; changes in work at the death are settled by
//         looking at their inodes
//     else the store: usage as of the checkpoints; owners with a mark are counted again
// 1. Limits are always the store's.
// 2. Where nothing was counted yet (a new ledger, other trees than the last time, a change that can't be looked at),
//    all is counted, and that is known in the store until it is done.
#include <errno.h>

#include "base/hash.h"
#include "base/log.h"
#include "base/metric.h"
#include "meta/ledger_local.h"

#define SLOTS_STANDARD 1024
#define CHECKPOINT_STANDARD_NS (10 * NS_PER_S)
#define IDLE_STANDARD_NS (120 * NS_PER_S)

struct opening {
    struct ledger_local *l;
    bool is_believed;    // the map
    struct buffer *notes; // what is to be logged
    int r;
};

static void note(struct opening *o, const char *line)
{
    buffer_format(o->notes, "%s%s", o->notes->size_bytes ? "; " : "quota: ", line);
}

void local_set_uncounted(struct ledger_local *l, bool is_uncounted)
{
    pthread_mutex_lock(&l->writer);
    struct ledger_state state = l->state;
    state.is_uncounted = is_uncounted;
    int r = l->store && l->state.is_uncounted != is_uncounted ? ledger_store_set_state(l->store, &state) : 0;
    if (r == 0)
        l->state = state;
    pthread_mutex_unlock(&l->writer);
    lock_scope(&l->lock);
    l->is_uncounted = is_uncounted || r < 0;
}

// ---- usage -------------------------------------------------------------------------------------------------

static void count_one(const struct ledger_checkpoint *c, void *context)
{
    (void)c;
    ++*(uint32_t *)context;
}

static void take_checkpoint(const struct ledger_checkpoint *c, void *context)
{
    struct map_entry *e = map_entry(context, c->kind, c->id);
    e->sums.used_bytes = c->used_bytes;
    e->sums.used_files = c->used_files;
    memcpy(e->over_unix_ns, c->over_unix_ns, sizeof(e->over_unix_ns));
    e->flags = c->is_marked ? ENTRY_MARKED | ENTRY_RECOUNT : 0;
}

static int map_from_store(struct opening *o, int folder_fd)
{
    struct ledger_local *l = o->l;
    uint32_t count = 0;
    int r = l->store ? ledger_store_checkpoints(l->store, count_one, &count) : 0;
    if (r == 0)
        r = map_create(&l->map, folder_fd, l->options.slots, count);
    if (r == 0 && l->store)
        r = ledger_store_checkpoints(l->store, take_checkpoint, &l->map);
    return r;
}

static int usage_load(struct opening *o)
{
    struct ledger_local *l = o->l;
    if (!l->store)
        return map_from_store(o, -1);
    int folder_fd = ledger_store_folder(l->store);
    int r = map_open(&l->map, folder_fd);
    o->is_believed = r == 0;
    if (r == -EBADMSG)
        note(o, "the map of usage is damaged: what was written since the last checkpoints is counted again");
    return r == -ENOENT || r == -ESTALE || r == -EBADMSG ? map_from_store(o, folder_fd) : r;
}

// ---- limits ------------------------------------------------------------------------------------------------

static void take_limits(enum ledger_kind kind, uint64_t id, const struct ledger_limits *limits, struct text path,
                        void *context)
{
    struct opening *o = context;
    struct ledger_local *l = o->l;
    if (id == LEDGER_DEFAULT) {
        l->defaults[kind] = *limits;
        l->has_defaults[kind] = true;
        return;
    }
    if (o->r == 0)
        o->r = map_reserve(&l->map, 1);
    if (o->r < 0)
        return;
    struct map_entry *e = map_entry(&l->map, kind, id);
    // The process died when the store had the limit and the map didn't yet.
    if (kind == LEDGER_TREE && o->is_believed && !(e->flags & ENTRY_HAS_OWN))
        e->flags |= ENTRY_RECOUNT;
    e->flags |= ENTRY_HAS_OWN;
    e->limits = *limits;
    e->written_tick = 1; // stays
    if (kind == LEDGER_TREE)
        local_set_path(l, id, path);
}

static int limits_load(struct opening *o)
{
    struct ledger_local *l = o->l;
    for (uint32_t i = 0; i < l->map.entry_room; i++)
        l->map.entries[i].written_tick = l->map.entries[i].changed_tick = 0;
    int r = l->store ? ledger_store_limits(l->store, take_limits, o) : 0;
    for (uint32_t i = 0; i < l->map.entry_room; i++) {
        struct map_entry *e = &l->map.entries[i];
        if (e->kind && !e->written_tick)
            e->flags &= ~(uint32_t)ENTRY_HAS_OWN;
        e->written_tick = 0;
        if (e->kind)
            local_note_over(l, e);
    }
    return r < 0 ? r : o->r;
}

// ---- what was in work --------------------------------------------------------------------------------------

static void slots_prepare(struct ledger_local *l)
{
    l->slot_count = l->map.slot_count;
    l->free_slots = memory_new(l->slot_count * sizeof(*l->free_slots));
    l->serials = memory_new(l->slot_count * sizeof(*l->serials));
    for (uint32_t i = l->slot_count; i-- > 0;)
        if (l->map.slots[i].state == SLOT_FREE)
            l->free_slots[l->free_count++] = i;
}

// false: it can't be told; then it is settled as if nothing had happened.
static bool settle_late(struct ledger_local *l, uint32_t slot)
{
    struct map_slot was = l->map.slots[slot];
    struct ledger_change change;
    struct ledger_charge present = {.owner = was.before.owner};
    struct ledger_file file = was.file;
    local_slot_change(&was, &change);
    int r = l->options.look ? l->options.look(&change, &file, &present, l->options.context) : -EOPNOTSUPP;
    if (r < 0)
        present = was.before;
    if (r == -ENOENT)
        present = (struct ledger_charge){.owner = was.before.owner};
    ledger_settle(&l->base, slot, file, &present);
    metric_add(METRIC_LEDGER_SETTLED_LATE, 1);
    return r == 0 || r == -ENOENT;
}

static bool settle_all_late(struct opening *o)
{
    struct ledger_local *l = o->l;
    bool are_told = true;
    uint32_t count = 0;
    for (uint32_t i = 0; i < l->slot_count; i++)
        if (l->map.slots[i].state == SLOT_BUSY) {
            are_told = settle_late(l, i) && are_told;
            count++;
        }
    if (count) {
        buffer_format(o->notes, "%s%u changes that were in work are settled", o->notes->size_bytes ? "; " : "quota: ",
                      count);
    }
    return are_told;
}

// The mount is a new one: who had them open is gone, and so are they.
static void orphans_drop(struct ledger_local *l)
{
    struct map_step *s = map_step(&l->map);
    for (uint32_t i = 0; i < l->map.entry_room; i++) {
        const struct map_sums *was = &l->map.entries[i].sums;
        if (!l->map.entries[i].kind || (!was->orphan_bytes && !was->orphan_files))
            continue;
        s->count = 1;
        s->slot = UINT32_MAX;
        s->entries[0].entry = i;
        s->entries[0].sums =
            (struct map_sums){was->used_bytes - was->orphan_bytes, was->used_files - was->orphan_files, 0, 0};
        map_carry_out(&l->map);
        local_note_over(l, &l->map.entries[i]);
    }
}

// ---- opening -----------------------------------------------------------------------------------------------

static int state_load(struct opening *o, const struct ledger_options *options)
{
    struct ledger_local *l = o->l;
    uint8_t identity[16];
    hash128(options->identity.data ? options->identity.data : "", options->identity.size_bytes, identity);
    int r = l->store ? ledger_store_state(l->store, &l->state) : -ENOENT;
    if (r < 0 && r != -ENOENT)
        return r;
    bool is_new = r == -ENOENT || memcmp(identity, l->state.identity, sizeof(identity)) != 0;
    memcpy(l->state.identity, identity, sizeof(identity));
    l->is_uncounted = l->state.is_uncounted = l->state.is_uncounted || (is_new && options->walk);
    return l->store && is_new ? ledger_store_set_state(l->store, &l->state) : 0;
}

static struct ledger_local *local_new(const struct ledger_options *o)
{
    struct ledger_local *l = new_struct(struct ledger_local);
    l->base = (struct ledger){.ops = &local_ops, .exempt_count = o->exempt_count};
    if (o->exempt_count)
        l->base.exempt = (uid_t *)(void *)memory_copy(o->exempt, o->exempt_count * sizeof(*o->exempt));
    l->options = *o;
    l->options.folder = NULL;
    l->options.identity = (struct text){0};
    l->options.slots = o->slots ? o->slots : SLOTS_STANDARD;
    l->options.checkpoint_ns = o->checkpoint_ns ? o->checkpoint_ns : CHECKPOINT_STANDARD_NS;
    l->options.idle_ns = o->idle_ns ? o->idle_ns : IDLE_STANDARD_NS;
    l->map.folder_fd = -1;
    pthread_mutex_init(&l->writer, NULL);
    lock_init(&l->lock, LOCK_RANK_LEDGER, "ledger");
    condition_init(&l->wake);
    return l;
}

static void local_free(struct ledger_local *l)
{
    size_t at = 0;
    uint64_t value;
    while ((value = table_next(&l->paths, &at))) {
        struct tree_path *p = (void *)(uintptr_t)value;
        free((char *)p->path.data);
        free(p);
    }
    table_release(&l->paths);
    map_close(&l->map);
    ledger_store_close(l->store);
    free(l->free_slots);
    free(l->serials);
    free(l->base.exempt);
    pthread_cond_destroy(&l->wake);
    lock_release_memory(&l->lock);
    pthread_mutex_destroy(&l->writer);
    free(l);
}

static int load(struct opening *o, const struct ledger_options *options)
{
    int r = state_load(o, options);
    if (r == 0)
        r = usage_load(o);
    if (r == 0)
        r = limits_load(o);
    if (r < 0)
        return r;
    slots_prepare(o->l);
    bool are_told = settle_all_late(o);
    if (!options->is_takeover)
        orphans_drop(o->l);
    if (!are_told) {
        note(o, "some could not be looked at: all is counted again");
        local_set_uncounted(o->l, true);
    }
    return keeper_start(o->l);
}

int local_open(const struct ledger_options *options, struct ledger_local **ret_ledger, char **ret_why)
{
    BUFFER_CLEANUP notes = {0};
    struct opening o = {.l = local_new(options), .notes = &notes};
    int r = options->folder ? ledger_store_open(options->folder, &o.l->store, ret_why) : 0;
    if (r == 0) {
        r = load(&o, options);
        if (r < 0)
            buffer_format(&notes, "%sledger %s: %s", notes.size_bytes ? "; " : "",
                          options->folder ? options->folder : "in memory", strerror(-r));
        if (notes.size_bytes)
            *ret_why = buffer_steal(&notes);
    }
    if (r < 0) {
        local_free(o.l);
        return r;
    }
    *ret_ledger = o.l;
    return 0;
}

static void local_close(struct ledger *base)
{
    struct ledger_local *l = local_of(base);
    keeper_stop(l);
    lock_acquire(&l->lock);
    bool is_quiet = l->free_count == l->slot_count;
    lock_release(&l->lock);
    if (!is_quiet)
        return; // somebody still uses it: it is left as by a death, and settled when it is opened again
    bool is_synced = !l->options.sync || l->options.sync(l->options.context) == 0;
    int r = keeper_checkpoint(l, is_synced);
    if (r < 0)
        log_error("quota: the ledger can't be written: %s", strerror(-r));
    local_free(l);
}

static uint64_t local_trees(struct ledger *base)
{
    return atomic_load(&local_of(base)->trees);
}

const struct ledger_ops local_ops = {
    .close = local_close,
    .begin = local_begin,
    .settle = local_settle,
    .move_begin = local_move_begin,
    .is_counted = local_is_counted,
    .move_end = local_move_end,
    .room = local_room,
    .usage = local_usage,
    .report = local_report,
    .trees = local_trees,
    .limit = local_limit,
    .count_again = local_check,
};
