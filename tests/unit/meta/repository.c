// SPDX-License-Identifier: BSD-3-Clause
// The repository over an in-memory registry: what a request sees, and what is asked for it.
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

static void pass(void)
{
    pthread_mutex_lock(&gate.mutex);
    gate.waiting++;
    pthread_cond_broadcast(&gate.moved);
    while (gate.closed)
        pthread_cond_wait(&gate.moved, &gate.mutex);
    gate.waiting--;
    pthread_mutex_unlock(&gate.mutex);
}

static void gate_set(int closed)
{
    pthread_mutex_lock(&gate.mutex);
    gate.closed = closed;
    pthread_cond_broadcast(&gate.moved);
    pthread_mutex_unlock(&gate.mutex);
}

static void gate_await(int waiting)
{
    pthread_mutex_lock(&gate.mutex);
    while (gate.waiting < waiting)
        pthread_cond_wait(&gate.moved, &gate.mutex);
    pthread_mutex_unlock(&gate.mutex);
}

#define BEHIND(r) (((struct gated *)(r))->behind)

static void gated_close(struct registry *r)
{
    registry_close(BEHIND(r));
    free(r);
}

static int gated_mark(struct registry *r, uint64_t *ret_mark)
{
    return BEHIND(r)->ops->mark(BEHIND(r), ret_mark); // the poll isn't held up
}

static int gated_snapshot(struct registry *r, struct snapshot *s, char **ret_why)
{
    return BEHIND(r)->ops->snapshot(BEHIND(r), s, ret_why);
}

static int gated_present(struct registry *r, const struct dataset_type *t, int64_t collection_id)
{
    return BEHIND(r)->ops->present(BEHIND(r), t, collection_id);
}

static int gated_page(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                      int64_t collection_id, struct buffer *cursor, uint32_t limit,
                      registry_each *each, void *context, bool *ret_end, uint64_t *ret_mark)
{
    pass();
    return BEHIND(r)->ops->page(BEHIND(r), s, t, collection_id, cursor, limit, each, context,
                                ret_end, ret_mark);
}

static int gated_row(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                     const int64_t *ids, uint32_t count, const struct value *values,
                     registry_each *each, void *context)
{
    pass();
    return BEHIND(r)->ops->row(BEHIND(r), s, t, ids, count, values, each, context);
}

static int gated_enter(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                       const int64_t *ids, uint32_t count, const struct value *values,
                       uint32_t depth)
{
    return BEHIND(r)->ops->enter(BEHIND(r), s, t, ids, count, values, depth);
}

static int gated_dataset(struct registry *r, const struct snapshot *s, const struct uuid *uuid,
                         registry_each *each, void *context)
{
    return BEHIND(r)->ops->dataset(BEHIND(r), s, uuid, each, context);
}

static int gated_implied(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                         const struct value *values,
                         int (*each)(const struct element *e, const struct value *v, void *context),
                         void *context)
{
    return BEHIND(r)->ops->implied(BEHIND(r), s, t, values, each, context);
}

static const struct registry_ops gated_ops = {
    .name = "gated",
    .close = gated_close,
    .mark = gated_mark,
    .snapshot = gated_snapshot,
    .present = gated_present,
    .page = gated_page,
    .row = gated_row,
    .enter = gated_enter,
    .dataset = gated_dataset,
    .implied = gated_implied,
};

static int open_gated(const struct repository_config *config, int64_t limit_ns,
                      struct registry **ret_registry, char **ret_why)
{
    struct gated *g = new_struct(struct gated);
    g->registry.ops = &gated_ops;
    g->behind = memory_world_connect(&world);
    *ret_registry = &g->registry;
    return 0;
}

// What each test stands on.

static char folder[64];
static struct catalogue *catalogue;
static struct repository *repo;
static atomic_int changes;

static void count_change(void *context)
{
    atomic_fetch_add(&changes, 1);
}

static struct repository_config *new_config(void)
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

static void open_repository(int64_t refresh_ns)
{
    struct repository_options o = {.source = "memory",
                                   .catalogue = catalogue,
                                   .refresh_ns = refresh_ns,
                                   .limit_ns = NS_PER_S,
                                   .librarian_count = 2,
                                   .is_known = true,
                                   .changed = count_change};
    char *why;
    assert_int_equal(repository_open_with(&o, new_config(), open_gated, &repo, &why), 0);
}

static void open_catalogue(int64_t size_bytes)
{
    char *why, path[128];
    snprintf(path, sizeof(path), "%s/catalogue", folder);
    assert_int_equal(catalogue_open(path, size_bytes, &catalogue, &why), 0);
}

static int set_up_slow(void **state)
{
    snprintf(folder, sizeof(folder), "/tmp/repository-XXXXXX");
    assert_non_null(mkdtemp(folder));
    memory_world_init(&world, &before);
    open_catalogue(1 << 26);
    open_repository(3600 * NS_PER_S); // refreshed by hand
    atomic_store(&changes, 0);
    return 0;
}

static int tear_down(void **state)
{
    char command[128];
    repository_close(repo);
    catalogue_close(catalogue);
    memory_world_release(&world);
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    return system(command);
}

static uint64_t verbs(void)
{
    lock_scope(&world.lock);
    return world.verbs;
}

static void await_change(uint64_t epoch)
{
    repository_refresh(repo);
    while (repository_epoch(repo) == epoch)
        usleep(1000);
}

static void change(const struct memory_description *d)
{
    uint64_t epoch = repository_epoch(repo);
    memory_world_change(&world, d);
    await_change(epoch);
}

// Looks a path up as the kernel does: part by part, each in its folder.
static int look_up(const char *path, struct entry *ret_entry, struct buffer *target)
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

static int64_t size_of(const char *path)
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

static int note(const struct entry *e, uint64_t cookie, void *context)
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

static char *list_with_room(const char *path, int room)
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
static char *list(const char *path)
{
    return list_with_room(path, -1);
}

static void assert_lists(const char *path, const char *names)
{
    assert_string_equal(list(path), names);
    assert_string_equal(list_with_room(path, 1), names);
}

// The tests.

static void the_root_has_three_entries(void **state)
{
    assert_lists("", "README.txt/collections/by-uuid/");
    assert_lists("by-uuid", "");
    BUFFER_CLEANUP text = {0};
    repository_readme(repo, &text);
    assert_non_null(strstr(text.data, "collections/"));
}

static bool has(const char *path, const char *name)
{
    char *names = list(path), wanted[64];
    snprintf(wanted, sizeof(wanted), "/%s/", name);
    BUFFER_CLEANUP with = {0};
    buffer_format(&with, "/%s", names);
    return strstr(with.data, wanted) != NULL;
}

static void collections_and_dataset_types_share_folders(void **state)
{
    assert_true(has("collections", "u"));
    assert_true(has("collections", "chain"));
    assert_true(has("collections", "empty"));
    // u is a collection with raws, and u/raw is one too: one folder that is both.
    assert_true(has("collections/u", "raw"));
    assert_true(has("collections/u", "base"));
    assert_null(strstr(strstr(list("collections/u"), "raw") + 1, "raw"));
    assert_true(has("collections/u/raw", "coadd"));
    assert_true(has("collections/u/raw", "instrument=Cam"));
    assert_int_equal(
        size_of("collections/u/raw/instrument=Cam/day_obs=20240101/exposure=10/raw_Cam_10_1.fits"),
        0);
    assert_int_equal(size_of("collections/u/raw/cfg"), -ENOENT);
}

static void levels_and_files_are_listed_in_order(void **state)
{
    assert_lists("collections/u/base/calexp", "instrument=Cam/");
    assert_lists("collections/u/base/calexp/instrument=Cam", "day_obs=20240101/day_obs=20240102/");
    assert_lists("collections/u/base/calexp/instrument=Cam/day_obs=20240101", "visit=10/");
    assert_lists("collections/u/base/calexp/instrument=Cam/day_obs=20240101/visit=10",
                 "calexp_Cam_10_1.fits/calexp_Cam_10_2.fits.fz/");
    assert_lists("collections/u/base/cfg", "cfg.py/");
    assert_lists("collections/u/raw/coadd/skymap=sky/tract=3/patch=4", "coadd_sky_3_4_r.fits/");
    assert_lists("collections/tagged/calexp/instrument=Cam/day_obs=20240101/visit=10",
                 "calexp_Cam_10_1.fits/");
}

static void a_type_whose_datasets_are_all_unstored_is_an_empty_folder(void **state)
{
    assert_int_equal(size_of("collections/u/base/deleted"), 0);
    assert_true(has("collections/u/base", "deleted"));
    assert_lists("collections/u/base/deleted", "");
    assert_int_equal(size_of("collections/u/base/deleted/deleted_Cam.data"), -ENOENT);
}

static void a_chain_shows_the_first_and_an_unstored_winner_hides(void **state)
{
    assert_int_equal(size_of("collections/chain/calexp/instrument=Cam/day_obs=20240101/visit=10/"
                             "calexp_Cam_10_1.fits"),
                     400);
    assert_int_equal(size_of("collections/chain/calexp/instrument=Cam/day_obs=20240101/visit=10/"
                             "calexp_Cam_10_2.fits.fz"),
                     -ENOENT);
    assert_int_equal(size_of("collections/chain/calexp/instrument=Cam/day_obs=20240102/visit=20/"
                             "calexp_Cam_20_1.fits"),
                     300);
    for (int i = 0; i < 2; i++) { // first by points, then from the sets
        assert_lists("collections/chain/calexp/instrument=Cam/day_obs=20240101/visit=10",
                     "calexp_Cam_10_1.fits/");
        assert_lists("collections/outer/calexp/instrument=Cam",
                     "day_obs=20240101/day_obs=20240102/");
        assert_int_equal(size_of("collections/outer/calexp/instrument=Cam/day_obs=20240101/"
                                 "visit=11/calexp_Cam_11_1.fits"),
                         600);
        assert_int_equal(size_of("collections/chain/calexp/instrument=Cam/day_obs=20240101/"
                                 "visit=10/calexp_Cam_10_2.fits.fz"),
                         -ENOENT);
    }
}

static void a_chain_with_one_member_of_a_type_uses_its_set(void **state)
{
    assert_lists("collections/chain/cfg", "cfg.py/");
    struct set_state s;
    struct set_id chain = set_id_of(repo, 4, 3), member = set_id_of(repo, 1, 3);
    assert_int_equal(catalogue_set(catalogue, &chain, &s), -ENOENT);
    assert_int_equal(catalogue_set(catalogue, &member, &s), 0);
}

static void a_deep_path_is_found_without_reading_a_set(void **state)
{
    int64_t loads = metric_get(METRIC_SET_LOADS);
    const char *path = "collections/u/base/calexp/instrument=Cam/day_obs=20240101/visit=10/"
                       "calexp_Cam_10_2.fits.fz";
    char part[256];
    for (const char *at = strchr(path, '/'); at; at = strchr(at + 1, '/')) {
        snprintf(part, sizeof(part), "%.*s", (int)(at - path), path);
        assert_true(size_of(part) >= 0);
    }
    assert_int_equal(size_of(path), 200);
    assert_int_equal(metric_get(METRIC_SET_LOADS), loads);
}

static void an_answer_is_asked_once(void **state)
{
    static const char *const paths[] = {
        "collections/u/base/calexp/instrument=Cam/day_obs=20240101/visit=10/calexp_Cam_10_1.fits",
        "collections/u/base/calexp/instrument=Cam/day_obs=20240101/visit=10/calexp_Cam_10_9.fits",
        "collections/u/base/calexp/instrument=Cam/day_obs=20240101/visit=10",
        "collections/u/base/calexp/instrument=Cam/day_obs=20991231",
        "collections/u/base/calexp",
        "by-uuid/00000000-0000-4000-8000-000000000000",
        "by-uuid/00000000-0000-4000-8000-0000000fffff",
    };
    int64_t first[7];
    for (int i = 0; i < 7; i++)
        first[i] = size_of(paths[i]);
    uint64_t asked = verbs();
    for (int i = 0; i < 7; i++)
        assert_int_equal(size_of(paths[i]), first[i]);
    assert_int_equal(verbs(), asked);
    // A new life of the process knows them too (but for presence, which snapshots hold).
    repository_close(repo);
    open_repository(3600 * NS_PER_S);
    asked = verbs();
    assert_int_equal(size_of(paths[0]), first[0]);
    assert_int_equal(size_of(paths[5]), first[5]);
    assert_int_equal(verbs(), asked);
}

static void a_wrong_day_above_a_visit_is_not_there(void **state)
{
#define CALEXP "collections/u/base/calexp/instrument=Cam/"
    for (int i = 0; i < 2; i++) {
        assert_int_equal(size_of(CALEXP "day_obs=20240102/visit=10/calexp_Cam_10_1.fits"), -ENOENT);
        assert_int_equal(size_of(CALEXP "day_obs=20240102/visit=10"), -ENOENT);
        assert_int_equal(size_of(CALEXP "day_obs=20240101/visit=10/calexp_Cam_10_1.fits"), 100);
        list("collections/u/base/calexp"); // and the same from the whole set
    }
}

static void only_the_canonical_name_is_found(void **state)
{
    static const char *const names[] = {"calexp_Cam_10_01.fits",
                                        "calexp_Cam_10_1.fit",
                                        "calexp_Cam_10_1",
                                        "calexp_Cam_10_1.fits.fz",
                                        "calexp_Cam_10_1@x.fits",
                                        "calexp_Cam_11_1.fits",
                                        "calexp_Cam_10_%31.fits",
                                        "Calexp_Cam_10_1.fits",
                                        "calexp_Cam_10_+1.fits",
                                        "calexp_Cam_10_1.fits~",
                                        "",
                                        "calexp_Cam_10_1.fits/"};
    for (int pass_number = 0; pass_number < 2; pass_number++) {
        struct place p;
        BUFFER_CLEANUP scratch = {0};
        struct entry e;
        assert_int_equal(place_at(repo, CALEXP "day_obs=20240101/visit=10", &p), 0);
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
            assert_int_equal(
                asking(repo, place_lookup(&p, text_of(names[i]), &e, &scratch, NULL, &want_)),
                -ENOENT);
        place_release(&p);
        list("collections/u/base/calexp");
    }
    assert_int_equal(size_of("collections/u/base/calexp/instrument=Cam/day_obs=020240101"),
                     -ENOENT);
    assert_int_equal(size_of("collections/u/base/calexp/detector=1"), -ENOENT);
}

static void a_file_is_no_folder(void **state)
{
    struct place p;
    assert_int_equal(place_at(repo, CALEXP "day_obs=20240101/visit=10/calexp_Cam_10_1.fits", &p),
                     -ENOTDIR);
    assert_int_equal(place_at(repo, "README.txt", &p), -ENOTDIR);
    assert_int_equal(place_at(repo, "by-uuid/00000000-0000-4000-8000-000000000000", &p), -ENOTDIR);
    assert_int_equal(place_at(repo, "nothing", &p), -ENOENT);
    assert_int_equal(place_at(repo, "collections/nothing", &p), -ENOENT);
    assert_int_equal(place_at(repo, CALEXP "day_obs=20240101/visit=10/detector=1", &p), -ENOENT);
}

static void long_values_are_found_by_their_shortened_name(void **state)
{
    char names[1024], *slash;
    snprintf(names, sizeof(names), "%s", list("collections/u/raw/note/instrument=Cam"));
    assert_true(strncmp(names, "note_Cam_a%2Fb.json/note_Cam_ggg", 32) == 0);
    char path[1024];
    slash = strchr(names, '/');
    slash[1 + strcspn(slash + 1, "/")] = 0;
    assert_int_equal(strlen(slash + 1), 255);
    snprintf(path, sizeof(path), "collections/u/raw/note/instrument=Cam/%s", slash + 1);
    assert_int_equal(size_of(path), 901);
    path[strlen(path) - 6] ^= 1; // a digit of the hash
    assert_int_equal(size_of(path), -ENOENT);
    assert_int_equal(size_of("collections/u/raw/note/instrument=Cam/note_Cam_a%2Fb.json"), 900);
}

static void calibration_collections_are_empty_folders_for_now(void **state)
{
    assert_int_equal(size_of("collections/calib"), 0);
    assert_lists("collections/calib", "");
}

static void a_uuid_leads_to_the_file_in_its_run(void **state)
{
    struct entry e;
    BUFFER_CLEANUP target = {0};
    char uuid[UUID_TEXT_BYTES], path[64];
    static const struct {
        uint32_t position;
        const char *target;
    } cases[] = {
        {1, "../collections/u/base/calexp/instrument=Cam/day_obs=20240101/visit=10/"
            "calexp_Cam_10_2.fits.fz"},
        {7, "../collections/u/base/cfg/cfg.py"},
        {8, "../collections/u/raw/coadd/skymap=sky/tract=3/patch=4/coadd_sky_3_4_r.fits"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct uuid u = memory_uuid(cases[i].position);
        uuid_format(&u, uuid);
        snprintf(path, sizeof(path), "by-uuid/%s", uuid);
        buffer_clear(&target);
        assert_int_equal(look_up(path, &e, &target), 0);
        assert_int_equal(e.kind, ENTRY_LINK);
        assert_string_equal(target.data, cases[i].target);
        assert_int_equal(e.size_bytes, target.size_bytes);
        assert_true(size_of(target.data + 3) > 0);
    }
    struct uuid unstored = memory_uuid(4);
    uuid_format(&unstored, uuid);
    snprintf(path, sizeof(path), "by-uuid/%s", uuid);
    assert_int_equal(size_of(path), -ENOENT);
    assert_int_equal(size_of("by-uuid/00000000000040008000000000000001"), -ENOENT);
    assert_int_equal(size_of("by-uuid/x"), -ENOENT);
}

static void a_dataset_is_known_by_its_id(void **state)
{
    struct uuid u = memory_uuid(5);
    struct dataset *d;
    BUFFER_CLEANUP json = {0};
    assert_int_equal(asking(repo, repository_dataset(repo, repository_epoch(repo), &u, &d, &want_)),
                     0);
    assert_true(text_equal(d->type, TEXT("calexp")));
    assert_true(text_equal(d->run, TEXT("u/top")));
    assert_int_equal(d->file_count, 2);
    assert_true(text_equal(d->files[1].path, TEXT("f.fits")));
    assert_int_equal(d->files[1].datastore, 1);
    assert_int_equal(d->value_count, 4);
    dataset_free(d);
    assert_int_equal(
        asking(repo, repository_data_id(repo, repository_epoch(repo), &u, &json, &want_)), 0);
    cleanup(cleanup_doc_free) struct doc *doc = NULL;
    char *why;
    assert_int_equal(doc_parse_json(buffer_text(&json), &doc, &why), 0);
    assert_int_equal(doc_integer(doc_get(doc, "visit"), 0), 11);
    assert_int_equal(doc_integer(doc_get(doc, "day_obs"), 0), 20240101);
    assert_true(text_equal(doc_text(doc_get(doc, "physical_filter"), TEXT("")), TEXT("r_1")));
    assert_true(text_equal(doc_text(doc_get(doc, "band"), TEXT("")), TEXT("r")));
    for (size_t i = 1; i < doc_count(doc); i++)
        assert_true(text_compare(doc_key(doc, i - 1), doc_key(doc, i)) < 0);
    struct uuid none = memory_uuid(1000);
    assert_int_equal(
        asking(repo, repository_dataset(repo, repository_epoch(repo), &none, &d, &want_)), -ENOENT);
    assert_int_equal(
        asking(repo, repository_data_id(repo, repository_epoch(repo), &none, &json, &want_)),
        -ENOENT);
}

static void a_size_that_is_not_recorded_is_asked_of_the_disk(void **state)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/raw.fits", folder);
    FILE *f = fopen(path, "w");
    fputs("123456", f);
    fclose(f);
    assert_int_equal(
        size_of("collections/u/raw/instrument=Cam/day_obs=20240101/exposure=10/raw_Cam_10_1.fits"),
        6);
}

static void a_change_is_seen_after_the_refresh_and_told_once(void **state)
{
    const char *winner =
        "collections/chain/calexp/instrument=Cam/day_obs=20240101/visit=10/calexp_Cam_10_1.fits";
    assert_int_equal(size_of(winner), 400);
    assert_lists("collections/chain/calexp/instrument=Cam/day_obs=20240102/visit=20",
                 "calexp_Cam_20_1.fits/");
    change(&after);
    assert_int_equal(atomic_load(&changes), 1);
    assert_int_equal(size_of(winner), 100);
    assert_lists("collections/chain/calexp/instrument=Cam/day_obs=20240102/visit=20",
                 "calexp_Cam_20_1.fits/calexp_Cam_20_2.fits/");
    assert_lists("collections/u/top", "");
    change(&before);
    assert_int_equal(size_of(winner), 400);
}

static void a_change_that_a_librarian_meets_first_counts_too(void **state)
{
    memory_world_change(&world, &after);
    uint64_t epoch = repository_epoch(repo);
    list("collections/u/base/calexp/instrument=Cam"); // reads a set, whose mark is new
    assert_int_equal(repository_epoch(repo), epoch + 1);
    assert_int_equal(atomic_load(&changes), 1);
    repository_refresh(repo);
    usleep(50000);
    assert_int_equal(repository_epoch(repo), epoch + 1);
}

static void a_listing_keeps_its_generation_while_the_repository_changes(void **state)
{
    struct place p;
    struct listing l, again;
    struct listed got = {.room = 1};
    const char *path = "collections/u/base/calexp/instrument=Cam/day_obs=20240101/visit=10";
    assert_int_equal(place_at(repo, path, &p), 0);
    assert_int_equal(asking(repo, place_list_open(&p, &l, &want_)), 0);
    assert_int_equal(asking(repo, place_list(&p, &l, 0, note, &got, &want_)), 1);
    place_release(&p);
    change(
        &(struct memory_description){types, collections, records, (struct memory_dataset[]){{}}});
    change(&before); // new generations
    list(path);
    catalogue->opened_ns -= 3600 * NS_PER_S;
    while (catalogue_tidy(catalogue, 1000) == 1)
        ;
    // Another life goes on with what was kept: generation and cookie.
    listing_reopen(repo, &again, l.generation);
    got.room = -1;
    assert_int_equal(place_at(repo, path, &p), 0);
    assert_int_equal(asking(repo, place_list(&p, &again, got.last, note, &got, &want_)), 0);
    assert_string_equal(got.names.data, "calexp_Cam_10_1.fits/calexp_Cam_10_2.fits.fz/");
    listing_close(repo, &again);
    listing_close(repo, &l);
    place_release(&p);
    buffer_release(&got.names);
}

static void a_listing_whose_generation_is_gone_goes_on_by_count(void **state)
{
    struct place p;
    struct listing l;
    struct listed got = {.room = 1};
    const char *path = "collections/u/base/calexp/instrument=Cam/day_obs=20240101/visit=10";
    assert_int_equal(place_at(repo, path, &p), 0);
    assert_int_equal(asking(repo, place_list_open(&p, &l, &want_)), 0);
    assert_int_equal(asking(repo, place_list(&p, &l, 0, note, &got, &want_)), 1);
    assert_int_equal(catalogue_give_up_disk(catalogue, ENOSPC), 0);
    got.room = -1;
    assert_int_equal(asking(repo, place_list(&p, &l, got.last, note, &got, &want_)), 0);
    assert_string_equal(got.names.data, "calexp_Cam_10_1.fits/calexp_Cam_10_2.fits.fz/");
    listing_close(repo, &l);
    place_release(&p);
    buffer_release(&got.names);
}

static void a_request_is_content_with_what_was_true_when_it_came(void **state)
{
    struct place p;
    struct entry e;
    BUFFER_CLEANUP scratch = {0};
    assert_int_equal(place_at(repo, CALEXP "day_obs=20240101/visit=10", &p), 0);
    struct text name = TEXT("calexp_Cam_10_1.fits");
    assert_int_equal(asking(repo, place_lookup(&p, name, &e, &scratch, NULL, &want_)), 0);
    change(&after);
    uint64_t asked = verbs();
    assert_int_equal(asking(repo, place_lookup(&p, name, &e, &scratch, NULL, &want_)), 0);
    assert_int_equal(verbs(), asked);
    place_release(&p);
}

static void a_silent_database_is_an_error_for_who_asks_and_nobody_else(void **state)
{
    const char *known = CALEXP "day_obs=20240101/visit=10/calexp_Cam_10_1.fits";
    const char *unknown = CALEXP "day_obs=20240101/visit=10/calexp_Cam_10_2.fits.fz";
    assert_int_equal(size_of(known), 100);
    memory_world_fail(&world, -ETIMEDOUT, 0, 1000000);
    assert_int_equal(size_of(unknown), -ETIMEDOUT);
    assert_int_equal(size_of(known), 100);
    cleanup(cleanup_doc_free) struct doc *map = doc_new(DOC_MAP);
    repository_status(repo, map);
    assert_false(doc_bool(doc_get(map, "registry_answers"), true));
    memory_world_fail(&world, 0, 0, 0);
    assert_int_equal(size_of(unknown), 200);
    cleanup(cleanup_doc_free) struct doc *again = doc_new(DOC_MAP);
    repository_status(repo, again);
    assert_true(doc_bool(doc_get(again, "registry_answers"), false));
}

static void a_second_life_goes_on_while_the_registry_is_silent(void **state)
{
    const char *known = CALEXP "day_obs=20240101/visit=10/calexp_Cam_10_1.fits";
    struct uuid u = memory_uuid(5);
    struct dataset *d;
    assert_int_equal(size_of(known), 100);
    assert_int_equal(asking(repo, repository_dataset(repo, repository_epoch(repo), &u, &d, &want_)),
                     0);
    dataset_free(d);
    uint64_t epoch = repository_epoch(repo);
    repository_close(repo);
    memory_world_fail(&world, -ETIMEDOUT, 0, 1000000);
    open_repository(3600 * NS_PER_S);
    assert_int_equal(repository_epoch(repo), epoch);
    assert_int_equal(asking(repo, repository_dataset(repo, epoch, &u, &d, &want_)), 0);
    dataset_free(d);
    assert_int_equal(size_of(known), -ETIMEDOUT); // snapshots aren't kept
    memory_world_fail(&world, 0, 0, 0);
    atomic_store(&changes, 0);
    uint64_t asked = verbs();
    assert_int_equal(size_of(known), 100);
    assert_int_equal(verbs(), asked + 2); // the mark and the snapshot; the row is still known
    assert_int_equal(repository_epoch(repo), epoch);
    change(&after);
    assert_int_equal(atomic_load(&changes), 1);
}

static void a_lost_connection_is_opened_again(void **state)
{
    memory_world_fail(&world, -EIO, 0, 1);
    assert_int_equal(size_of(CALEXP "day_obs=20240101/visit=10/calexp_Cam_10_1.fits"), -EIO);
    assert_int_equal(size_of(CALEXP "day_obs=20240101/visit=10/calexp_Cam_10_1.fits"), 100);
}

// A want for a file, as place_lookup makes it.
static void make_want(const char *path, struct want *want)
{
    struct place p;
    struct entry e;
    BUFFER_CLEANUP scratch = {0};
    char parent[256];
    const char *slash = strrchr(path, '/');
    snprintf(parent, sizeof(parent), "%.*s", (int)(slash - path), path);
    assert_int_equal(place_at(repo, parent, &p), 0);
    assert_int_equal(place_lookup(&p, text_of(slash + 1), &e, &scratch, NULL, want), -EINPROGRESS);
    place_release(&p);
}

static atomic_int calls;

static void count_call(struct waiter *w, int error)
{
    atomic_fetch_add(&calls, 1);
}

static void equal_wants_are_one_query(void **state)
{
    struct want want = {0};
    struct waiter waiters[5] = {0};
    make_want(CALEXP "day_obs=20240101/visit=10/calexp_Cam_10_1.fits", &want);
    uint64_t asked = verbs();
    atomic_store(&calls, 0);
    gate_set(1);
    for (int i = 0; i < 5; i++) {
        waiters[i].ready = count_call;
        repository_ask(repo, &want, &waiters[i]);
        if (i == 0)
            gate_await(1); // the others join a running job
    }
    gate_set(0);
    while (atomic_load(&calls) < 5)
        usleep(100);
    assert_int_equal(verbs(), asked + 1);
    want_release(&want);
}

static void a_waiter_that_was_cancelled_is_never_called(void **state)
{
    struct want want = {0};
    struct waiter waiters[3] = {
        {.ready = count_call}, {.ready = count_call}, {.ready = count_call}};
    make_want(CALEXP "day_obs=20240101/visit=10/calexp_Cam_10_1.fits", &want);
    atomic_store(&calls, 0);
    gate_set(1);
    for (int i = 0; i < 3; i++)
        repository_ask(repo, &want, &waiters[i]);
    gate_await(1);
    assert_true(repository_cancel(repo, &waiters[1]));
    assert_false(repository_cancel(repo, &waiters[1]));
    gate_set(0);
    while (atomic_load(&calls) < 2)
        usleep(100);
    usleep(10000);
    assert_int_equal(atomic_load(&calls), 2);
    assert_false(repository_cancel(repo, &waiters[0]));
    want_release(&want);
}

static void a_long_job_leaves_a_librarian_for_the_short_ones(void **state)
{
    struct waiter waiters[3] = {
        {.ready = count_call}, {.ready = count_call}, {.ready = count_call}};
    atomic_store(&calls, 0);
    gate_set(1);
    for (int i = 0; i < 3; i++) {
        struct want set = {.kind = WANT_SET, .collection_id = i + 1, .type_id = 1};
        repository_ask(repo, &set, &waiters[i]);
    }
    gate_await(1);
    assert_int_equal(size_of(CALEXP "day_obs=20240101/visit=10"), 0); // `enter` isn't gated
    gate_set(0);
    while (atomic_load(&calls) < 3)
        usleep(100);
}

// Fills it with a set that is pinned, so that emptying gives no room; 0 or what stopped it.
static int fill(int64_t number)
{
    struct set_id id = {99, number, 1};
    struct set_state s;
    struct catalogue_load *l = catalogue_load_new(catalogue);
    for (int64_t i = 0; i < 1000; i++) {
        struct key k = {0};
        struct row row = {.file_count = 1};
        struct value v = value_integer(i);
        key_append(&k, &v, 1);
        assert_int_equal(catalogue_load_row(l, &k, ROW_VISIBLE, &row), 0);
    }
    int r = catalogue_load_finish(l, &id, 1, &s);
    catalogue_load_free(l);
    if (r == 0)
        catalogue_pin(catalogue, s.generation);
    return r;
}

static void a_catalogue_that_cannot_be_written_keeps_nobody_waiting(void **state)
{
    repository_close(repo);
    catalogue_close(catalogue);
    open_catalogue(1 << 20);
    open_repository(3600 * NS_PER_S);
    for (int64_t i = 0, r = 0; r == 0; i++)
        r = fill(i);
    struct set_id id = {99, 0, 1};
    int r = 0;
    for (int64_t i = 0; r == 0; i++) {
        struct key k = {0};
        struct value v = value_integer(i);
        key_append(&k, &v, 1);
        r = catalogue_put_answer(catalogue, &id, 2, &k, ROW_HIDDEN, NULL);
    }
    assert_int_equal(r, -ENOSPC);
    assert_int_equal(size_of(CALEXP "day_obs=20240101/visit=10/calexp_Cam_10_1.fits"), 100);
    assert_int_equal(size_of(CALEXP "day_obs=20240101/visit=10/calexp_Cam_10_7.fits"), -ENOENT);
    assert_int_equal(size_of(CALEXP "day_obs=20240101/visit=10"), 0);
    assert_int_equal(size_of(CALEXP "day_obs=20240107"), -ENOENT);
    assert_true(size_of("by-uuid/00000000-0000-4000-8000-000000000001") > 0);
    struct uuid u = memory_uuid(5);
    BUFFER_CLEANUP json = {0};
    assert_int_equal(
        asking(repo, repository_data_id(repo, repository_epoch(repo), &u, &json, &want_)), 0);
    struct place p;
    struct listing at;
    assert_int_equal(place_at(repo, "collections/u/base/calexp", &p), 0);
    assert_int_equal(asking(repo, place_list_open(&p, &at, &want_)), -ENOSPC);
    place_release(&p);
}

static void a_set_is_read_again_if_the_registry_changes_between_pages(void **state)
{
    // 45,000 datasets are three pages; the change comes while the second is held up.
    enum { COUNT = 45000 };
    struct memory_dataset *many = memory_new((COUNT + 1) * sizeof(*many));
    char(*ids)[48] = memory_new(COUNT * sizeof(*ids));
    for (int i = 0; i < COUNT; i++) {
        snprintf(ids[i], sizeof(ids[i]), "instrument=Cam,group=%d", i);
        many[i] = (struct memory_dataset){"note", "u/raw", ids[i], NULL, "x.json", NULL, i};
    }
    struct memory_description d = {types, collections, records, many};
    change(&d);
    struct want set = {.kind = WANT_SET, .collection_id = 7, .type_id = 5};
    struct waiter waiter = {.ready = count_call};
    int64_t loads = metric_get(METRIC_SET_LOADS);
    atomic_store(&calls, 0);
    gate_set(1);
    repository_ask(repo, &set, &waiter);
    gate_await(1);
    gate_set(0);
    usleep(200);
    memory_world_change(&world, &d);
    while (atomic_load(&calls) < 1)
        usleep(100);
    assert_in_range(metric_get(METRIC_SET_LOADS), loads + 1, loads + 3);
    struct set_state s;
    struct set_id id = set_id_of(repo, 7, 5);
    assert_int_equal(catalogue_set(catalogue, &id, &s), 0);
    assert_int_equal(s.row_count, COUNT);
    change(&before);
    free(many);
    free(ids);
}

// Many threads looking and listing while the repository changes all the time: nothing is lost that
// is in both states, nothing is shown that is in neither.

static atomic_bool is_over;

static void expect(const char *path, int64_t a, int64_t b)
{
    int64_t got = size_of(path);
    if (got != a && got != b)
        log_error("%s: %lld", path, (long long)got);
    check(got == a || got == b);
}

static void check_stable_paths(void)
{
#define DAY1 "calexp/instrument=Cam/day_obs=20240101/visit=10/"
#define DAY2 "calexp/instrument=Cam/day_obs=20240102/visit=20/"
    expect("collections/u/base/" DAY1 "calexp_Cam_10_1.fits", 100, 100);
    expect("collections/u/base/" DAY2 "calexp_Cam_20_1.fits", 300, 300);
    expect("collections/chain/" DAY2 "calexp_Cam_20_1.fits", 300, 300);
    expect("collections/chain/" DAY1 "calexp_Cam_10_1.fits", 400, 100);
    expect("collections/u/base/" DAY2 "calexp_Cam_20_2.fits", 301, -ENOENT);
    expect("collections/u/base/" DAY2 "calexp_Cam_20_3.fits", -ENOENT, -ENOENT);
    check(size_of("by-uuid/00000000-0000-4000-8000-000000000001") > 0);
}

struct seen {
    int files, stable;
    uint64_t last;
};

static int see(const struct entry *e, uint64_t cookie, void *context)
{
    struct seen *s = context;
    check(cookie > s->last);
    s->last = cookie;
    s->files++;
    s->stable += text_equal(e->name, TEXT("calexp_Cam_20_1.fits"));
    return 0;
}

static void list_stable(const char *path)
{
    struct place p;
    struct listing l;
    struct seen s = {0};
    if (place_at(repo, path, &p) < 0)
        check(!"the folder is there in every state");
    check(asking(repo, place_list_open(&p, &l, &want_)) == 0);
    check(asking(repo, (s = (struct seen){0}, place_list(&p, &l, 0, see, &s, &want_))) == 0);
    check(s.stable == 1 && s.files <= 2);
    listing_close(repo, &l);
    place_release(&p);
}

static void *look_all_the_time(void *argument)
{
    while (!atomic_load(&is_over)) {
        check_stable_paths();
        list_stable("collections/u/base/calexp/instrument=Cam/day_obs=20240102/visit=20");
        list_stable("collections/chain/calexp/instrument=Cam/day_obs=20240102/visit=20");
        repository_refresh(repo);
    }
    return NULL;
}

static void *ask_and_cancel(void *argument)
{
    struct want want = {.kind = WANT_SET, .collection_id = 4, .type_id = 1};
    while (!atomic_load(&is_over)) {
        struct asking a = {.waiter.ready = asking_ready,
                           .mutex = PTHREAD_MUTEX_INITIALIZER,
                           .called = PTHREAD_COND_INITIALIZER};
        want.fresh = repository_epoch(repo);
        repository_ask(repo, &want, &a.waiter);
        usleep(50);
        if (repository_cancel(repo, &a.waiter))
            continue;
        pthread_mutex_lock(&a.mutex);
        while (!a.is_called)
            pthread_cond_wait(&a.called, &a.mutex);
        pthread_mutex_unlock(&a.mutex);
    }
    return NULL;
}

static void *tidy_all_the_time(void *argument)
{
    int64_t used, max;
    while (!atomic_load(&is_over)) {
        catalogue_tidy(catalogue, 10);
        catalogue_usage(catalogue, &used, &max);
        cleanup(cleanup_doc_free) struct doc *map = doc_new(DOC_MAP);
        repository_status(repo, map);
    }
    return NULL;
}

#define LOOKERS 4

static void many_threads_see_one_state_or_the_other(void **state)
{
    pthread_t threads[LOOKERS + 2];
    repository_close(repo);
    catalogue->opened_ns -= 3600 * NS_PER_S;
    open_repository(NS_PER_MS);
    atomic_store(&is_over, false);
    for (int i = 0; i < LOOKERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, look_all_the_time, NULL), 0);
    assert_int_equal(pthread_create(&threads[LOOKERS], NULL, ask_and_cancel, NULL), 0);
    assert_int_equal(pthread_create(&threads[LOOKERS + 1], NULL, tidy_all_the_time, NULL), 0);
    for (int i = 0; i < 150; i++) {
        memory_world_change(&world, i % 2 ? &before : &after);
        if (i % 10 == 9)
            memory_world_fail(&world, 0, 0, 0);
        usleep(10000);
    }
    atomic_store(&is_over, true);
    for (int i = 0; i < LOOKERS + 2; i++)
        pthread_join(threads[i], NULL);
    assert_true(atomic_load(&changes) > 10);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up_slow, tear_down)
    const struct CMUnitTest tests[] = {
        T(the_root_has_three_entries),
        T(collections_and_dataset_types_share_folders),
        T(levels_and_files_are_listed_in_order),
        T(a_type_whose_datasets_are_all_unstored_is_an_empty_folder),
        T(a_chain_shows_the_first_and_an_unstored_winner_hides),
        T(a_chain_with_one_member_of_a_type_uses_its_set),
        T(a_deep_path_is_found_without_reading_a_set),
        T(an_answer_is_asked_once),
        T(a_wrong_day_above_a_visit_is_not_there),
        T(only_the_canonical_name_is_found),
        T(a_file_is_no_folder),
        T(long_values_are_found_by_their_shortened_name),
        T(calibration_collections_are_empty_folders_for_now),
        T(a_uuid_leads_to_the_file_in_its_run),
        T(a_dataset_is_known_by_its_id),
        T(a_size_that_is_not_recorded_is_asked_of_the_disk),
        T(a_change_is_seen_after_the_refresh_and_told_once),
        T(a_change_that_a_librarian_meets_first_counts_too),
        T(a_listing_keeps_its_generation_while_the_repository_changes),
        T(a_listing_whose_generation_is_gone_goes_on_by_count),
        T(a_request_is_content_with_what_was_true_when_it_came),
        T(a_silent_database_is_an_error_for_who_asks_and_nobody_else),
        T(a_second_life_goes_on_while_the_registry_is_silent),
        T(a_lost_connection_is_opened_again),
        T(equal_wants_are_one_query),
        T(a_waiter_that_was_cancelled_is_never_called),
        T(a_long_job_leaves_a_librarian_for_the_short_ones),
        T(a_catalogue_that_cannot_be_written_keeps_nobody_waiting),
        T(a_set_is_read_again_if_the_registry_changes_between_pages),
        T(many_threads_see_one_state_or_the_other),
    };
    return run_group(tests);
}
