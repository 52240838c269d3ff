// SPDX-License-Identifier: BSD-3-Clause
// world: a small repository in an in-memory registry that can be changed, fail and be held up,
// opened anew for each test; and requests to it as the file system makes them.
#pragma once
#include "tests/unit/base/harness.h"

#include <stdatomic.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/metric.h"
#include "meta/catalogue_store.h"
#include "meta/name.h"
#include "meta/open.h"
#include "meta/registry/memory.h"
#include "tests/unit/meta/asking.h"

#define CALEXP "collections/u/base/calexp/instrument=Cam/"
#define TAI_2024 1710504037000000000

// clang-format off
static const struct memory_type types[] = {
    {"calexp", "instrument detector visit"}, // 1
    {"raw", "instrument detector exposure"},
    {"cfg", ""},
    {"coadd", "band skymap tract patch"},
    {"note", "instrument group"},
    {"deleted", "instrument"},
    {}};

static const char *const chain_members[] = {"u/top", "empty", "u/base", NULL};
static const char *const outer_members[] = {"chain", "other", NULL};
static const char *const parts_members[] = {"u/parts", "u/base", NULL};
static const struct memory_collection collections[] = {
    {"u/base", COLLECTION_RUN},
    {"u/top", COLLECTION_RUN},
    {"tagged", COLLECTION_TAGGED},
    {"chain", COLLECTION_CHAINED, chain_members},
    {"empty", COLLECTION_RUN},
    {"u", COLLECTION_RUN},
    {"u/raw", COLLECTION_RUN},
    {"other", COLLECTION_RUN},
    {"outer", COLLECTION_CHAINED, outer_members},
    {"calib", COLLECTION_CALIBRATION},
    {"u/parts", COLLECTION_RUN},
    {"picked", COLLECTION_TAGGED},
    {"parts", COLLECTION_CHAINED, parts_members},
    {}};

static const struct memory_record records[] = {
    {"instrument", "name=Cam"},
    {"detector", "instrument=Cam,id=1"},
    {"detector", "instrument=Cam,id=2"},
    {"visit", "instrument=Cam,id=10,day_obs=20240101,physical_filter=r_1"},
    {"visit", "instrument=Cam,id=11,day_obs=20240101,physical_filter=r_1"},
    {"visit", "instrument=Cam,id=20,day_obs=20240102,physical_filter=r_1"},
    {"exposure", "instrument=Cam,id=10,day_obs=20240101,group=x,physical_filter=r_1"},
    {"physical_filter", "instrument=Cam,name=r_1,band=r"},
    {"skymap", "name=sky"},
    {"tract", "skymap=sky,id=3"},
    {"patch", "skymap=sky,tract=3,id=4"},
    {"group", "instrument=Cam,name=a/b"},
    {}};

static const char *const in_tagged[] = {"tagged", NULL};
static const char *const in_tagged_parts[] = {"picked", NULL};
static const char *const parts[] = {"image=i.fits.fz", "v.1@a/b=x", "wcs=w.fits", NULL};
static const char *const one_part[] = {"wcs=one.txt", NULL};
#define LONG_50 "gggggggggggggggggggggggggggggggggggggggggggggggggg"
#define LONG LONG_50 LONG_50 LONG_50 LONG_50 LONG_50 LONG_50
#define CAM "instrument=Cam,"
static const struct memory_dataset datasets[] = {
    {"calexp", "u/base", CAM "detector=1,visit=10", in_tagged, "a.fits", NULL, 100, TAI_2024},
    {"calexp", "u/base", CAM "detector=2,visit=10", NULL, "b.fits.fz", NULL, 200},
    {"calexp", "u/base", CAM "detector=1,visit=20", NULL, "c.fits", NULL, 300},
    {"calexp", "u/top", CAM "detector=1,visit=10", NULL, "d.fits", NULL, 400},
    {"calexp", "u/top", CAM "detector=2,visit=10", NULL, NULL, NULL, 500},
    {"calexp", "u/top", CAM "detector=1,visit=11", NULL, "e.fits", "f.fits", 600},
    {"raw", "u", CAM "detector=1,exposure=10", NULL, "raw.fits", NULL, SIZE_UNKNOWN},
    {"cfg", "u/base", "", NULL, "what/config.py", NULL, 700},
    {"coadd", "u/raw", "band=r,skymap=sky,tract=3,patch=4", NULL, "x.fits", NULL, 800},
    {"note", "u/raw", CAM "group=a/b", NULL, "n.json", NULL, 900},
    {"note", "u/raw", CAM "group=" LONG, NULL, "m.json", NULL, 901},
    {"deleted", "u/base", "instrument=Cam", NULL, NULL, NULL, 0},
    {"calexp", "u/parts", CAM "detector=1,visit=10", in_tagged_parts, NULL, NULL, 7, 0, parts},
    {"calexp", "u/parts", CAM "detector=2,visit=10", NULL, NULL, "whole.fits", 8, 0, one_part},
    {"note", "u/parts", CAM "group=" LONG, NULL, NULL, NULL, 9, 0, one_part},
    {"cfg", "u/parts", "", NULL, NULL, NULL, 10, 0, one_part},
    {}};
static const struct memory_description before = {types, collections, records, datasets};

// One more dataset, one less: u/top's winner.
static const struct memory_dataset datasets_after[] = {
    {"calexp", "u/base", CAM "detector=1,visit=10", in_tagged, "a.fits", NULL, 100, TAI_2024},
    {"calexp", "u/base", CAM "detector=2,visit=10", NULL, "b.fits.fz", NULL, 200},
    {"calexp", "u/base", CAM "detector=1,visit=20", NULL, "c.fits", NULL, 300},
    {"calexp", "u/base", CAM "detector=2,visit=20", NULL, "g.fits", NULL, 301},
    {}};
// clang-format on
static const struct memory_description after = {types, collections, records, datasets_after};

// The world, and a registry in front of it that can be held up.

static struct memory_world world;

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t moved;
    int closed;  // verbs wait
    int waiting; // verbs that do
} gate = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0};

struct gated {
    struct registry registry;
    struct registry *behind;
};

static inline void pass(void)
{
    pthread_mutex_lock(&gate.mutex);
    gate.waiting++;
    pthread_cond_broadcast(&gate.moved);
    while (gate.closed)
        pthread_cond_wait(&gate.moved, &gate.mutex);
    gate.waiting--;
    pthread_mutex_unlock(&gate.mutex);
}

static inline void gate_set(int closed)
{
    pthread_mutex_lock(&gate.mutex);
    gate.closed = closed;
    pthread_cond_broadcast(&gate.moved);
    pthread_mutex_unlock(&gate.mutex);
}

static inline void gate_await(int waiting)
{
    pthread_mutex_lock(&gate.mutex);
    while (gate.waiting < waiting)
        pthread_cond_wait(&gate.moved, &gate.mutex);
    pthread_mutex_unlock(&gate.mutex);
}

#define BEHIND(r) (((struct gated *)(r))->behind)

static inline void gated_close(struct registry *r)
{
    registry_close(BEHIND(r));
    free(r);
}

static inline int gated_mark(struct registry *r, uint64_t *ret_mark)
{
    return BEHIND(r)->ops->mark(BEHIND(r), ret_mark); // the poll isn't held up
}

static inline int gated_snapshot(struct registry *r, struct snapshot *s, char **ret_why)
{
    return BEHIND(r)->ops->snapshot(BEHIND(r), s, ret_why);
}

static inline int gated_digest(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                               const int64_t *ids, uint32_t count, uint64_t *ret_digest)
{
    return BEHIND(r)->ops->digest(BEHIND(r), s, t, ids, count, ret_digest);
}

static inline int gated_page(struct registry *r, const struct snapshot *s,
                             const struct dataset_type *t, int64_t collection_id,
                             struct buffer *cursor, uint32_t limit, registry_each *each,
                             void *context, bool *ret_end, uint64_t *ret_mark)
{
    pass();
    return BEHIND(r)->ops->page(BEHIND(r), s, t, collection_id, cursor, limit, each, context,
                                ret_end, ret_mark);
}

static inline int gated_row(struct registry *r, const struct snapshot *s,
                            const struct dataset_type *t, const struct registry_search *search,
                            registry_each *each, void *context)
{
    pass();
    return BEHIND(r)->ops->row(BEHIND(r), s, t, search, each, context);
}

static inline int gated_enter(struct registry *r, const struct snapshot *s,
                              const struct dataset_type *t, const int64_t *ids, uint32_t count,
                              const struct value *values, uint32_t depth)
{
    return BEHIND(r)->ops->enter(BEHIND(r), s, t, ids, count, values, depth);
}

static inline int gated_dataset(struct registry *r, const struct snapshot *s,
                                const struct uuid *uuid, registry_each *each, void *context)
{
    return BEHIND(r)->ops->dataset(BEHIND(r), s, uuid, each, context);
}

static inline int gated_implied(struct registry *r, const struct snapshot *s,
                                const struct dataset_type *t, const struct value *values,
                                int (*each)(const struct element *e, const struct value *v,
                                            void *context),
                                void *context)
{
    return BEHIND(r)->ops->implied(BEHIND(r), s, t, values, each, context);
}

static inline int gated_timespan(struct registry *r, const struct snapshot *s,
                                 const struct element *e, const struct value *values,
                                 struct timespan *ret_span)
{
    return BEHIND(r)->ops->timespan(BEHIND(r), s, e, values, ret_span);
}

static inline int gated_record(struct registry *r, const struct snapshot *s, const struct element *e,
                               const struct value *values, const struct text *columns, uint32_t count,
                               struct field *ret_fields, struct buffer *store)
{
    return BEHIND(r)->ops->record(BEHIND(r), s, e, values, columns, count, ret_fields, store);
}

static const struct registry_ops gated_ops = {
    .name = "gated",
    .close = gated_close,
    .mark = gated_mark,
    .snapshot = gated_snapshot,
    .digest = gated_digest,
    .page = gated_page,
    .row = gated_row,
    .enter = gated_enter,
    .dataset = gated_dataset,
    .implied = gated_implied,
    .timespan = gated_timespan,
    .record = gated_record,
};

static const struct registry_ops *in_front = &gated_ops; // of the world: what registries that are opened now do

static inline int open_gated(const struct repository_config *config, int64_t limit_ns,
                             struct registry **ret_registry, char **ret_why)
{
    struct gated *g = new_struct(struct gated);
    g->registry.ops = in_front;
    g->behind = memory_world_connect(&world);
    *ret_registry = &g->registry;
    return 0;
}

// What each test stands on.

static char folder[64];
static struct catalogue *catalogue;
static struct repository *repo;
static atomic_int changes;

static inline void count_change(void *context)
{
    atomic_fetch_add(&changes, 1);
}

static inline struct repository_config *new_config(void)
{
    struct repository_config *c = new_struct(struct repository_config);
    c->source = strdup("memory");
    c->yaml_path = strdup("/memory/butler.yaml");
    c->root = strdup(folder);
    c->database_path = strdup("/memory/gen3.sqlite3");
    c->datastore_count = 2;
    c->datastores = memory_new(2 * sizeof(*c->datastores));
    for (int i = 0; i < 2; i++)
        c->datastores[i] =
            (struct datastore_config){strdup("store"), strdup(folder), true, strdup("records")};
    return c;
}

static int64_t stale_ns; // of what is opened next

static inline void open_repository(int64_t refresh_ns)
{
    struct repository_options o = {.source = "memory",
                                   .catalogue = catalogue,
                                   .refresh_ns = refresh_ns,
                                   .stale_ns = stale_ns,
                                   .limit_ns = NS_PER_S,
                                   .librarian_count = 2,
                                   .is_known = true,
                                   .changed = count_change};
    char *why;
    assert_int_equal(repository_open_with(&o, new_config(), open_gated, &repo, &why), 0);
}

static inline void open_catalogue(int64_t size_bytes)
{
    char *why, path[128];
    snprintf(path, sizeof(path), "%s/catalogue", folder);
    assert_int_equal(catalogue_open(path, size_bytes, &catalogue, &why), 0);
}

static inline int set_up(void **state)
{
    snprintf(folder, sizeof(folder), "/tmp/repository-XXXXXX");
    assert_non_null(mkdtemp(folder));
    memory_world_init(&world, &before);
    open_catalogue(1 << 26);
    open_repository(3600 * NS_PER_S); // refreshed by hand
    atomic_store(&changes, 0);
    return 0;
}

static inline int tear_down(void **state)
{
    char command[128];
    repository_close(repo);
    catalogue_close(catalogue);
    memory_world_release(&world);
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    return system(command);
}

static inline uint64_t verbs(void)
{
    lock_scope(&world.lock);
    return world.verbs;
}

static inline void await_change(uint64_t epoch)
{
    repository_refresh(repo);
    while (repository_epoch(repo) == epoch)
        usleep(1000);
}

static inline void change(const struct memory_description *d)
{
    uint64_t epoch = repository_epoch(repo);
    memory_world_change(&world, d);
    await_change(epoch);
}

// Looks a path up as the kernel does: part by part, each in its folder.
static inline int look_up(const char *path, struct entry *ret_entry, struct buffer *target)
{
    BUFFER_CLEANUP scratch = {0};
    char parent[1024];
    const char *slash = strrchr(path, '/');
    struct place p;
    snprintf(parent, sizeof(parent), "%.*s", (int)(slash ? slash - path : 0), path);
    int r = place_at(repo, parent, &p);
    if (r < 0)
        return r;
    struct text name = text_of(slash ? slash + 1 : path);
    r = asking(repo, place_lookup(&p, name, ret_entry, &scratch, target, &want_));
    place_release(&p);
    return r;
}

static inline int64_t size_of(const char *path)
{
    struct entry e;
    int r = look_up(path, &e, NULL);
    return r < 0 ? r : e.kind == ENTRY_FOLDER ? 0 : e.size_bytes;
}

struct listed {
    struct buffer names; // each with a `/` after it
    uint64_t last;
    int room;
};

static inline int note(const struct entry *e, uint64_t cookie, void *context)
{
    struct listed *l = context;
    assert_true(cookie > l->last && cookie < UINT64_C(1) << 63);
    if (l->room-- == 0)
        return 1;
    l->last = cookie;
    buffer_append_text(&l->names, e->name);
    buffer_append_byte(&l->names, '/');
    return 0;
}

static inline char *list_with_room(const char *path, int room)
{
    static char names[4096];
    struct listed l = {0};
    struct listing at;
    struct place p;
    int r = place_at(repo, path, &p);
    if (r < 0)
        return strcpy(names, strerror(-r));
    assert_int_equal(asking(repo, place_list_open(&p, &at, &want_)), 0);
    do {
        l.room = room;
        r = asking(repo, place_list(&p, &at, l.last, note, &l, &want_));
        assert_true(r >= 0);
    } while (r == 1);
    listing_close(repo, &at);
    place_release(&p);
    snprintf(names, sizeof(names), "%s", l.names.data ? l.names.data : "");
    buffer_release(&l.names);
    return names;
}

// In the order of the listing; names of the tree's own part come by their hash, so look for each.
static inline char *list(const char *path)
{
    return list_with_room(path, -1);
}

static inline void assert_lists(const char *path, const char *names)
{
    assert_string_equal(list(path), names);
    assert_string_equal(list_with_room(path, 1), names);
}
