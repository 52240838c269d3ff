// SPDX-License-Identifier: BSD-3-Clause
// repository: opening one, and what can be said of it as a whole.
// 1. Opening asks what doesn't grow with the number of datasets: configuration, attributes, the
//    mark, and the snapshot, so that a registry that can't be read is refused here and not by the
//    first `ls`.
#include <inttypes.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "meta/open.h"

const struct repository_config *repository_config(const struct repository *r)
{
    return r->config;
}

uint64_t repository_epoch(const struct repository *r)
{
    return atomic_load(&r->epoch);
}

int64_t repository_epoch_unix_ns(const struct repository *r)
{
    struct lock *lock = (struct lock *)&r->lock;
    lock_scope(lock);
    return r->since_unix_ns;
}

static uint32_t catalogue_number(struct repository *r)
{
    BUFFER_CLEANUP identity = {0};
    buffer_format(&identity, "%s\n", r->config->yaml_path ? r->config->yaml_path : "");
    if (r->config->database == DATABASE_SQLITE)
        buffer_append_string(&identity, r->config->database_path);
    else
        database_url_describe(&r->config->database_parts, &identity);
    if (r->config->namespace_)
        buffer_format(&identity, "\n%s", r->config->namespace_);
    return catalogue_repository(r->catalogue, buffer_text(&identity));
}

static struct repository *repository_new(const struct repository_options *o,
                                         struct repository_config *config, registry_opener *opener)
{
    struct repository *r = new_struct(struct repository);
    r->config = config;
    r->catalogue = o->catalogue;
    r->archives = o->archives;
    r->refresh_ns = o->refresh_ns;
    r->limit_ns = o->limit_ns;
    r->stale_ns = o->stale_ns;
    r->large_rows = LARGE_ROWS;
    r->verified = memory_new(VERIFIED_KEPT * sizeof(*r->verified));
    r->opener = opener;
    r->changed = o->changed;
    r->remote_size = o->remote_size;
    r->context = o->context;
    uint32_t workers = o->librarian_count ? o->librarian_count : 1;
    r->librarian_count = workers < LIBRARIANS_MAX ? workers + 1 : LIBRARIANS_MAX;
    pthread_mutex_init(&r->noting, NULL);
    lock_init(&r->lock, LOCK_RANK_REPOSITORY, "repository");
    lock_init(&r->library, LOCK_RANK_LIBRARY, "library");
    lock_init(&r->series_lock, LOCK_RANK_LEAF, "series");
    lock_init(&r->verified_lock, LOCK_RANK_LEAF, "verified");
    condition_init(&r->ended);
    condition_init(&r->poll);
    jobs_init(&r->jobs, &r->library, library_job_free);
    answers_init(&r->answers);
    return r;
}

static void repository_free(struct repository *r)
{
    snapshot_unref(r->snapshot);
    answers_release(&r->answers);
    jobs_release(&r->jobs);
    pthread_cond_destroy(&r->ended);
    pthread_cond_destroy(&r->poll);
    lock_release_memory(&r->library);
    lock_release_memory(&r->series_lock);
    lock_release_memory(&r->verified_lock);
    free(r->verified);
    lock_release_memory(&r->lock);
    pthread_mutex_destroy(&r->noting);
    free(r->last_error);
    repository_config_free(r->config);
    free(r);
}

static char *why_not(const struct repository *r, const char *what, int error)
{
    struct buffer why = {0};
    buffer_format(&why, "%s: %s: %s", r->config->source, what, strerror(-error));
    return buffer_steal(&why);
}

#define KNOWN_LOOK_NS NS_PER_S // a second life must not be late because the registry is

// What a librarian will find out when the registry answers again. Until then what the earlier life
// knew last is as good as it was for that one.
static int first_look_later(struct repository *r, int error)
{
    bool changed;
    log_warn("%s: the registry can't be asked at the moment (%s): going on", r->config->source,
             strerror(-error));
    registry_close(r->librarians[0].registry);
    r->librarians[0].registry = NULL;
    r->number = catalogue_number(r);
    atomic_store(&r->epoch, catalogue_last_epoch(r->catalogue, r->number, &r->since_unix_ns));
    if (repository_epoch(r) == 0)
        library_note_mark(r, 0, &changed);
    return 0;
}

// Invariant 1. The connection stays librarian/0's.
static int first_look(struct repository *r, int64_t limit_ns, char **ret_why)
{
    struct registry *registry;
    struct snapshot *s;
    uint64_t mark;
    bool changed;
    int e = r->opener(r->config, limit_ns, &registry, ret_why);
    if (e < 0)
        return e == -EUSERS ? -ETIMEDOUT : e;
    r->librarians[0].registry = registry;
    atomic_store(&r->asks_folders, registry->ops->folder != NULL);
    e = registry_mark(registry, &mark);
    if (e < 0) {
        *ret_why = why_not(r, "its registry can't be read", e);
        return e;
    }
    r->number = catalogue_number(r);
    uint64_t epoch = library_note_mark(r, mark, &changed), digest;
    if (registry_digest(registry, NULL, NULL, NULL, 0, &digest) < 0)
        digest = 0;
    e = registry_snapshot(registry, &s, ret_why);
    if (e < 0 && !*ret_why)
        *ret_why = why_not(r, "its collections can't be read", e);
    if (e < 0)
        return e;
    s->epoch = epoch;
    s->digest = digest;
    library_set_snapshot(r, s);
    return 0;
}

int repository_open_with(const struct repository_options *o, struct repository_config *config,
                         registry_opener *opener, struct repository **ret_repository,
                         char **ret_why)
{
    struct repository *r = repository_new(o, config, opener);
    *ret_why = NULL;
    int64_t limit_ns = o->is_known && r->limit_ns > KNOWN_LOOK_NS ? KNOWN_LOOK_NS : r->limit_ns;
    int e = first_look(r, limit_ns, ret_why);
    if (o->is_known && (e == -ETIMEDOUT || e == -EIO || e == -EACCES)) {
        free(*ret_why);
        *ret_why = NULL;
        e = first_look_later(r, e);
    }
    if (e == 0) {
        e = library_start(r);
        if (e < 0)
            *ret_why = why_not(r, "can't start its threads", e);
    } else {
        registry_close(r->librarians[0].registry);
    }
    if (e < 0) {
        repository_free(r);
        return e;
    }
    *ret_repository = r;
    return 0;
}

int repository_open(const struct repository_options *o, struct repository **ret_repository,
                    char **ret_why)
{
    struct repository_config *config;
    int r = repository_config_read(o->source, &o->index, &config, ret_why);
    if (r == 0)
        config->database_login = o->login;
    return r < 0 ? r : repository_open_with(o, config, registry_open, ret_repository, ret_why);
}

void repository_close(struct repository *r)
{
    if (!r)
        return;
    library_stop(r);
    repository_free(r);
}

static struct doc *snapshot_status(struct repository *r)
{
    struct snapshot *s = library_snapshot(r, 0);
    struct doc *map = doc_new(DOC_MAP);
    if (s) {
        doc_put_integer(map, "epoch", (int64_t)snapshot_epoch(s));
        doc_put_integer(map, "collections", s->collection_count);
        doc_put_integer(map, "dataset_types", s->type_count);
    }
    snapshot_unref(s);
    return map;
}

void repository_status(struct repository *r, struct doc *map)
{
    char since[CLOCK_ISO_BYTES];
    int64_t running = 0, waiting = 0;
    {
        lock_scope(&r->library);
        waiting = r->jobs.short_jobs.count + r->jobs.long_jobs.count;
        running = (int64_t)r->jobs.by_hash.count - waiting;
    }
    clock_format_iso(repository_epoch_unix_ns(r), since);
    doc_put_text(map, "repository", r->config->source);
    doc_put_text(map, "root", r->config->root);
    doc_put_integer(map, "epoch", (int64_t)repository_epoch(r));
    doc_put_text(map, "epoch_since", since);
    doc_put(map, "refresh_s", doc_new_real((double)r->refresh_ns / NS_PER_S));
    doc_put_integer(map, "librarians", r->librarian_count - 1);
    doc_put_integer(map, "jobs_running", running);
    doc_put_integer(map, "jobs_waiting", waiting);
    doc_put(map, "snapshot", snapshot_status(r));
    lock_scope(&r->lock);
    doc_put_bool(map, "registry_answers", r->trouble == 0);
    doc_put_text(map, "last_error", r->last_error);
    if (r->trouble)
        doc_put_integer(map, "silent_for_s", (clock_ns() - r->trouble_since_ns) / NS_PER_S);
}

void repository_readme(const struct repository *r, struct buffer *to)
{
    static const char text[] =
        "\n"
        "A Rubin data Butler repository as files, by butlerfs, read-only: the datasets of each\n"
        "collection under their data IDs. What is put into it appears a moment later.\n"
        "\n"
        "  collections/<collection>/<dataset type>/<key=value>/.../<file>\n"
        "      Names are split at `/`. A chain shows of each data ID what the Butler client\n"
        "      would find first; its members, in order, are in @members/; the\n"
        "      newest of dated runs is @latest.\n"
        "  by-uuid/<uuid>\n"
        "      A link to the dataset of that id. Not listed; just open it.\n"
        "  calibs-at/<instant>/<collection>/...\n"
        "      As collections/, with the calibrations that are valid at that time, which is\n"
        "      2024-11-11T03:04:05 (UTC), 20241111T030442TAI or visit,INSTRUMENT,ID.\n"
        "\n"
        "A file's name says its dataset type and data ID, so a copy of it still does; its\n"
        "extended attributes say more: getfattr -d FILE. In names `%2F` is a `/` in a value,\n"
        "`%` with other digits another byte that a name can't hold. Listing a folder with a\n"
        "million datasets takes longer than opening one file by its path.\n";
    buffer_format(to, "%s\n", r->config->source);
    buffer_append_string(to, text);
}
