// SPDX-License-Identifier: BSD-3-Clause
// recall.c: see recall.h.
// 1. Only reads and the verb ask for a recall: no open, no listing, no attribute, nothing that is fetched ahead.
// 2. A read asks at most READ_RECALLS times, so that an origin that contradicts itself holds nobody up.
#include "fs/recall.h"

#include <errno.h>
#include <fcntl.h>

#include "base/clock.h"
#include "fs/space/space.h"
#include "fs/verb_object.h"

#define READ_RECALLS 4
#define DAYS_MAX 365

int recall_for_reader(struct op *op, struct cached *cached)
{
    const struct space_options *o = op->space->options;
    const struct options *all = op->fs->options;
    const struct recall_terms terms = {
        .days = o->recall_days,
        .tier = (enum origin_tier)o->recall_tier,
        .is_for_reader = true,
        .only_joins = o->recall != SPACE_RECALL_READ,
    };
    if (op->recalls++ == READ_RECALLS)
        return -EREMOTEIO;
    int r = cached_recall(cached, &terms, op->flags & O_NONBLOCK ? NULL : &op->cache_want);
    switch (r) {
    case -EINPROGRESS:
        op->source = &op_cache;
        op->takes_errors = true;
        op->deadline_ns = clock_ns() + all->recall_wait_ns + all->timeout_ns;
        return r;
    case -EBUSY:
        return -EAGAIN;
    case -ENODATA:
        return -EREMOTEIO;
    case -ENOENT:
        return -ESTALE;
    default:
        return r;
    }
}

int recall_add_locality(struct op *op, const struct object *object, struct xattrs *x)
{
    static const char *const words[] = {[CACHE_ONLINE] = "online", [CACHE_CACHED] = "cached",
                                        [CACHE_AWAY] = "nearline", [CACHE_COMING] = "recalling"};
    enum cache_locality where = CACHE_ONLINE;
    cleanup(cleanup_free) char *why = NULL;
    if (!xattr_is_wanted(x, "locality"))
        return 0;
    int r = op->source_error;
    if (!r && x->wanted.size_bytes) // else its name will do
        r = cache_locality(op->fs->cache, object, &where, &op->cache_want, &why);
    if (r == -EINPROGRESS) {
        op->source = &op_cache;
        op->takes_errors = true;
    }
    if (r < 0 && r != -ENOENT)
        return r;
    xattr_add(x, "locality", r == -ENOENT ? TEXT("lost") : text_of(words[where]));
    return 0;
}

// ---- the verb

static int refuse(struct doc *reply, int error, const char *text)
{
    doc_put_text(reply, "error", text);
    return error;
}

// A longer time costs more than the administrator has said.
static int check_days(const struct op *op, int64_t days, struct doc *reply)
{
    BUFFER_CLEANUP text = {0};
    uint32_t most = op->space->options->recall_days;
    if (days < 0 || days > DAYS_MAX)
        return refuse(reply, -EINVAL, "a copy is kept for 1 to 365 days");
    if (days <= most || verb_is_from_administrator(op))
        return 0;
    buffer_format(&text, "only root, or who mounted it, may ask for more than %u days (recall_days)", most);
    return refuse(reply, -EPERM, text.data);
}

static void put_report(const struct recall_report *report, struct doc *reply)
{
    static const char *const words[] = {[RECALL_ASKING] = "asking", [RECALL_UNDER_WAY] = "recalling",
                                        [RECALL_READY] = "ready", [RECALL_FAILED] = "failed"};
    char until[CLOCK_ISO_BYTES];
    doc_put_text(reply, "state", words[report->state]);
    doc_put_bool(reply, "is_cached", report->is_cached);
    if (report->until_unix_ns == ORIGIN_TIME_UNKNOWN)
        return;
    clock_format_iso(report->until_unix_ns, until);
    doc_put_text(reply, "until", until);
}

int verb_recall(struct op *op, const struct doc *request, struct doc *reply)
{
    cleanup(found_object_release) struct found_object found = {0};
    struct recall_report report = {.state = RECALL_READY, .is_cached = true, .until_unix_ns = ORIGIN_TIME_UNKNOWN};
    const struct space_options *o = op->space->options;
    int64_t days = doc_integer(doc_get(request, "days"), 0);
    struct file_node n;
    if (!state_get_file(op->fs->state, op->node, &n))
        return refuse(reply, -EISDIR, "that is no file");
    int r = op->space->ops->object ? op->space->ops->object(op, &n, &found) : -EOPNOTSUPP;
    if (r == -EOPNOTSUPP) { // a local file
        put_report(&report, reply);
        return 0;
    }
    if (r == 0 && o->recall == SPACE_RECALL_OFF)
        r = refuse(reply, -EPERM, "nothing is recalled here (recall=off)");
    if (r == 0)
        r = check_days(op, days, reply);
    if (r < 0)
        return r;
    const struct recall_terms terms = {
        .days = days ? (uint32_t)days : o->recall_days,
        .tier = (enum origin_tier)o->recall_tier,
        .is_longer = days > 0,
    };
    r = cache_recall(op->fs->cache, &found.object, &terms, &report);
    if (r == -EBUSY) { // in a moment
        doc_put_text(reply, "state", "asking");
        return 0;
    }
    if (report.state == RECALL_FAILED)
        return refuse(reply, report.error, report.why);
    put_report(&report, reply);
    return r;
}
