// SPDX-License-Identifier: BSD-3-Clause
// ledger: the dispatcher. What every kind of ledger may rely on is checked here, once.
#include "meta/ledger.h"

#include <errno.h>

#include "base/log.h"
#include "meta/ledger_local.h"

#define AMOUNT_MAX (1LL << 61) // of a limit

static bool charge_is_good(const struct ledger_charge *c)
{
    return c->bytes >= 0 && c->bytes <= LEDGER_BYTES_MAX && (c->files == 1 || (c->files == 0 && c->bytes == 0));
}

int ledger_begin(struct ledger *l, const struct ledger_change *c, unsigned flags, uint32_t *ret_slot)
{
    check(c->handle.size_bytes <= LEDGER_HANDLE_MAX && c->name.size_bytes <= LEDGER_NAME_MAX);
    check(c->before.files == 0 || c->file.inode != 0);
    if (c->after.bytes > LEDGER_BYTES_MAX)
        return -EFBIG;
    if (!charge_is_good(&c->before) || !charge_is_good(&c->after))
        return -EINVAL;
    return l->ops->begin(l, c, flags, ret_slot);
}

void ledger_settle(struct ledger *l, uint32_t slot, struct ledger_file file, const struct ledger_charge *present)
{
    check(charge_is_good(present) && (present->files == 0 || file.inode != 0));
    l->ops->settle(l, slot, file, present);
}

uint32_t ledger_move_begin(struct ledger *l)
{
    return l->ops->move_begin(l);
}

bool ledger_is_counted(struct ledger *l)
{
    return l->ops->is_counted(l);
}

void ledger_move_end(struct ledger *l, uint32_t token, const struct ledger_moved *moved, size_t count)
{
    l->ops->move_end(l, token, moved, count);
}

void ledger_room(struct ledger *l, const struct ledger_owner *owner, struct ledger_room *ret_room)
{
    l->ops->room(l, owner, ret_room);
}

bool ledger_is_exempt(const struct ledger *l, uid_t caller)
{
    for (size_t i = 0; i < l->exempt_count; i++)
        if (l->exempt[i] == caller)
            return true;
    return caller == 0;
}

bool ledger_has_tree(struct ledger *l, uint64_t tree)
{
    struct ledger_usage u;
    return tree != 0 && tree != LEDGER_DEFAULT && l->ops->usage(l, LEDGER_TREE, tree, &u) == 0;
}

uint64_t ledger_trees(struct ledger *l)
{
    return l->ops->trees(l);
}

int ledger_limit(struct ledger *l, enum ledger_kind kind, uint64_t id, const struct ledger_limits *limits,
                 struct text path)
{
    check(kind < LEDGER_KINDS && (kind == LEDGER_TREE || path.size_bytes == 0));
    if (limits) {
        const int64_t all[] = {limits->soft_bytes, limits->hard_bytes, limits->soft_files, limits->hard_files,
                               limits->grace_ns};
        for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
            if (all[i] < 0 || all[i] > AMOUNT_MAX)
                return -EINVAL;
        if ((limits->hard_bytes && limits->soft_bytes > limits->hard_bytes) ||
            (limits->hard_files && limits->soft_files > limits->hard_files))
            return -EINVAL;
    }
    if (kind == LEDGER_TREE && (id == 0 || id == LEDGER_DEFAULT))
        return -EINVAL; // that is no folder
    return l->ops->limit(l, kind, id, limits, path);
}

int ledger_usage(struct ledger *l, enum ledger_kind kind, uint64_t id, struct ledger_usage *ret_usage)
{
    check(kind < LEDGER_KINDS);
    return l->ops->usage(l, kind, id, ret_usage);
}

void ledger_report(struct ledger *l, ledger_usage_each *each, void *context)
{
    l->ops->report(l, each, context);
}

int ledger_check(struct ledger *l, bool repair, ledger_difference_each *each, void *context)
{
    return l->ops->count_again(l, repair, each, context);
}

int ledger_open(const struct ledger_options *o, struct ledger **ret_ledger, char **ret_why)
{
    struct ledger_local *l;
    *ret_why = NULL;
    int r = local_open(o, &l, ret_why);
    if (r == 0)
        *ret_ledger = &l->base;
    return r;
}

void ledger_close(struct ledger *l)
{
    if (l)
        l->ops->close(l);
}
