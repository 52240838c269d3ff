// SPDX-License-Identifier: BSD-3-Clause
// ledger_world: folders for ledgers, and a ledger's changes in one call each.
#pragma once
#include "tests/unit/base/harness.h"

#include <errno.h>
#include <ftw.h>
#include <sys/stat.h>

#include "base/log.h"
#include "meta/ledger.h"

static char world_folder[64];

static inline int world_remove_one(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
    (void)st, (void)kind, (void)walk;
    return remove(path);
}

static inline int world_begin(void **state)
{
    (void)state;
    snprintf(world_folder, sizeof(world_folder), "/tmp/ledger-XXXXXX");
    log_level_set(LOG_LEVEL_ERROR);
    return mkdtemp(world_folder) ? 0 : -1;
}

static inline int world_end(void **state)
{
    (void)state;
    return nftw(world_folder, world_remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

#define each_in_its_world(test) cmocka_unit_test_setup_teardown(test, world_begin, world_end)

static inline struct ledger *ledger_at(const char *folder, const struct ledger_options *with)
{
    struct ledger_options o = with ? *with : (struct ledger_options){0};
    struct ledger *l = NULL;
    char *why = NULL;
    o.folder = folder;
    int r = ledger_open(&o, &l, &why);
    if (r < 0)
        fprintf(stderr, "%s\n", why ? why : strerror(-r));
    assert_int_equal(r, 0);
    free(why);
    return l;
}

static inline struct ledger_charge cost(uid_t uid, gid_t gid, uint64_t tree, int64_t bytes)
{
    return (struct ledger_charge){{uid, gid, tree}, bytes, 1, false};
}

static inline struct ledger_charge nothing_of(uid_t uid, gid_t gid, uint64_t tree)
{
    return (struct ledger_charge){{uid, gid, tree}, 0, 0, false};
}

// From one cost to another, all at once. 0 or -EDQUOT.
static inline int change(struct ledger *l, uint64_t inode, struct ledger_charge before, struct ledger_charge after)
{
    struct ledger_change c = {.file = {1, before.files ? inode : 0}, .before = before, .after = after};
    uint32_t slot;
    int r = ledger_begin(l, &c, 0, &slot);
    if (r == 0)
        ledger_settle(l, slot, (struct ledger_file){1, inode}, &after);
    return r;
}

static inline int64_t used_bytes(struct ledger *l, enum ledger_kind kind, uint64_t id)
{
    struct ledger_usage u;
    return ledger_usage(l, kind, id, &u) == 0 ? u.used_bytes : 0;
}

static inline int64_t used_files(struct ledger *l, enum ledger_kind kind, uint64_t id)
{
    struct ledger_usage u;
    return ledger_usage(l, kind, id, &u) == 0 ? u.used_files : 0;
}

static inline void limit(struct ledger *l, enum ledger_kind kind, uint64_t id, struct ledger_limits limits)
{
    assert_int_equal(ledger_limit(l, kind, id, &limits, (struct text){0}), 0);
}
