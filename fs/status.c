// SPDX-License-Identifier: BSD-3-Clause
// status.c: what is told about a running mount, and what may be ordered.
#include "fs/status.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/utsname.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "cache/fetcher.h"
#include "config.h"
#include "fs/daemon.h"
#include "fs/recall.h"
#include "fs/space/space.h"
#include "fs/verb_cache.h"
#include "fs/verb_home.h"
#include "fs/verb_object.h"
#include "fs/verb_quota.h"

static void put_modes(const struct fs *fs, struct doc *reply)
{
    struct doc *m = doc_new(DOC_MAP);
    const struct session_kernel *k = session_kernel(fs->session);
    bool is_on = atomic_load(&fs->is_passthrough);
    doc_put_bool(m, "privileged", geteuid() == 0);
    doc_put_text(m, "passthrough", is_on ? "on" : "off");
    doc_put_text(m, "passthrough_why", is_on ? NULL : fs->passthrough_why);
    doc_put_bool(m, "takeover", k->can_resend);
    doc_put_bool(m, "epoch_notice", k->can_epoch);
    doc_put_bool(m, "ids", fs->can_change_ids);
    doc_put_bool(m, "allow_other", fs->options->allow_other);
    doc_put(reply, "modes", m);
}

static void put_kernel(const struct fs *fs, struct doc *reply)
{
    struct utsname u;
    char protocol[32];
    const struct session_kernel *k = session_kernel(fs->session);
    struct doc *m = doc_new(DOC_MAP);
    uname(&u);
    snprintf(protocol, sizeof protocol, "%u.%u", k->major, k->minor);
    doc_put_text(m, "release", u.release);
    doc_put_text(m, "fuse_protocol", protocol);
    doc_put(reply, "kernel", m);
}

static void put_spaces(const struct fs *fs, struct doc *reply)
{
    struct doc *list = doc_new(DOC_LIST);
    for (uint16_t i = 0; i < fs->space_count; i++) {
        struct space *s = fs->spaces[i];
        if (!s->options)
            continue;
        struct doc *m = doc_new(DOC_MAP);
        doc_put_text(m, "name", s->options->name ? s->options->name : "");
        doc_put_text(m, "kind", s->ops->kind);
        doc_put_text(m, "source", s->options->source);
        if (s->ops->status)
            s->ops->status(s, m);
        doc_append(list, m);
    }
    doc_put(reply, "spaces", list);
}

static void put_catalogue(struct catalogue *c, struct doc *reply)
{
    int64_t used = 0, max = 0;
    struct doc *m = doc_new(DOC_MAP);
    catalogue_usage(c, &used, &max);
    doc_put_text(m, "folder", catalogue_folder(c));
    doc_put_bool(m, "in_memory", catalogue_in_memory(c));
    doc_put_integer(m, "used_bytes", used);
    doc_put_integer(m, "max_bytes", max);
    doc_put(reply, "catalogue", m);
}

static void put_bytes(struct fs *fs, struct doc *reply)
{
    struct doc *cache = doc_new(DOC_MAP), *network = doc_new(DOC_MAP), *uploads = doc_new(DOC_MAP);
    cache_status(fs->cache, cache);
    fetchers_status(fs->fetchers, network);
    doc_put(reply, "cache", cache);
    doc_put(reply, "network", network);
    if (options_can_change(fs->options)) {
        uploads_status(fs->uploads, uploads);
        doc_put(reply, "uploads", uploads);
    } else {
        doc_free(uploads);
    }
}

static void put_counters(struct doc *reply)
{
    struct doc *m = doc_new(DOC_MAP);
    for (int i = 0; i < METRIC_COUNT; i++)
        doc_put_integer(m, metric_name((enum metric)i), metric_get((enum metric)i));
    doc_put(reply, "counters", m);
}

static int verb_status(const struct doc *request, struct doc *reply, void *context)
{
    struct status_context *c = context;
    const struct options *o = c->fs->options;
    (void)request;
    doc_put_text(reply, "version", BUTLERFS_VERSION);
    doc_put_integer(reply, "pid", getpid());
    doc_put_integer(reply, "supervisor_pid", getppid());
    doc_put_integer(reply, "life", o->life);
    doc_put_integer(reply, "lives", o->life);
    doc_put_text(reply, "mountpoint", o->mountpoint);
    doc_put_text(reply, "source", o->source);
    doc_put_integer(reply, "uptime_seconds", (clock_unix_ns() - c->fs->start_ns) / NS_PER_S);
    doc_put_text(reply, "log_level", log_level_name(log_level_get()));
    put_modes(c->fs, reply);
    put_kernel(c->fs, reply);
    put_spaces(c->fs, reply);
    put_catalogue(c->catalogue, reply);
    put_bytes(c->fs, reply);
    put_counters(reply);
    return 0;
}

static int verb_log_level(const struct doc *request, struct doc *reply, void *context)
{
    enum log_level level;
    struct text name = doc_text(doc_get(request, "level"), TEXT(""));
    char *string = memory_copy(name.data, name.size_bytes);
    int r = log_level_parse(string, &level);
    free(string);
    (void)context;
    if (r < 0) {
        doc_put_text(reply, "error", "no such log level: error, warn, info or debug");
        return r;
    }
    log_level_set(level);
    log_info("log level is now %s", log_level_name(level));
    doc_put_text(reply, "level", log_level_name(level));
    return 0;
}

static int verb_upgrade(const struct doc *request, struct doc *reply, void *context)
{
    struct status_context *c = context;
    (void)request;
    if (!session_kernel(c->fs->session)->can_resend) {
        doc_put_text(reply, "error",
                     "this kernel can't resend requests (Linux 6.9 or later does): unmount and mount again");
        return -EOPNOTSUPP;
    }
    if (send(c->supervisor_fd, DAEMON_SAYS_UPGRADE, strlen(DAEMON_SAYS_UPGRADE), MSG_NOSIGNAL) < 0) {
        doc_put_text(reply, "error", "the supervisor does not answer");
        return -errno;
    }
    doc_put_integer(reply, "pid", getpid());
    doc_put_text(reply, "version", BUTLERFS_VERSION);
    return 0;
}

static int verb_refresh(const struct doc *request, struct doc *reply, void *context)
{
    struct status_context *c = context;
    (void)request, (void)reply;
    for (uint16_t i = 0; i < c->fs->space_count; i++)
        if (c->fs->spaces[i]->ops->refresh)
            c->fs->spaces[i]->ops->refresh(c->fs->spaces[i]);
    return 0;
}

static int verb_explain(struct op *op, const struct doc *request, struct doc *reply)
{
    return op->space->ops->explain ? op->space->ops->explain(op, request, reply) : -EOPNOTSUPP;
}

static int verb_find(struct op *op, const struct doc *request, struct doc *reply)
{
    return op->space->ops->find ? op->space->ops->find(op, request, reply) : -EOPNOTSUPP;
}

const struct control_verb status_verbs[] = {
    {"status", CONTROL_ANYONE, "what is mounted, in which modes, how fresh and how full", verb_status, NULL},
    {"log-level", CONTROL_ADMIN, "changes the log level of the running daemon", verb_log_level, NULL},
    {"upgrade", CONTROL_ADMIN, "starts the installed version in place of the running one", verb_upgrade, NULL},
    {"refresh", CONTROL_ANYONE, "asks the registries at once whether they changed", verb_refresh, NULL},
    {"explain", CONTROL_ANYONE, "what an entry of a folder is, or why it isn't there", NULL, verb_explain},
    {"url", CONTROL_ANYONE, "a URL by which anybody can read the object behind a file, or make one", NULL, verb_url},
    {"warm", CONTROL_ANYONE, "brings a file into the cache", NULL, verb_warm},
    {"recall", CONTROL_ANYONE, "asks for a file that is nearline, or tells how far that is", NULL, verb_recall},
    {"evict", CONTROL_ADMIN, "forgets what is kept of a file", NULL, verb_evict},
    {"cache-stats", CONTROL_ADMIN, "what is kept of objects, and what is on its way", verb_cache_stats, NULL},
    {"cache-list", CONTROL_ADMIN, "the objects that are kept", verb_cache_list, NULL},
    {"cache-verify", CONTROL_ADMIN, "checks all that is kept", verb_cache_verify, NULL},
    {"home-create", CONTROL_ADMIN, "makes a home or a group's folder", verb_home_create},
    {"quota-set", CONTROL_ADMIN, "limits of a user, a group or a tree", verb_quota_set},
    {"quota-report", CONTROL_ANYONE, "limits and usage", .run_for = verb_quota_report},
    {"quota-check", CONTROL_ADMIN, "counts usage again", verb_quota_check},
    {"quota-tree", CONTROL_ADMIN, "a folder's number as a tree", NULL, verb_quota_tree},
    {"find", CONTROL_ANYONE, "datasets of a collection by an expression, a page of paths", NULL, verb_find},
    {NULL, CONTROL_ADMIN, NULL, NULL, NULL},
};
