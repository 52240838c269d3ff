// SPDX-License-Identifier: BSD-3-Clause
// verb_cache.c: see verb_cache.h.
#include "fs/verb_cache.h"

#include <errno.h>

#include "base/log.h"
#include "base/queue.h"
#include "cache/store.h"
#include "fs/status.h"

int verb_cache_stats(const struct doc *request, struct doc *reply, void *context)
{
    struct status_context *c = context;
    (void)request;
    cache_status(c->fs->cache, reply);
    return 0;
}

static void put_object(const struct stored_info *info, void *context)
{
    struct doc *list = context, *m = doc_new(DOC_MAP);
    doc_put(m, "origin", doc_new_text(info->version->origin));
    doc_put(m, "key", doc_new_text(info->version->key));
    doc_put_integer(m, "size_bytes", (int64_t)info->version->size_bytes);
    doc_put_integer(m, "disk_bytes", (int64_t)info->disk_bytes);
    doc_put_integer(m, "blocks", info->block_count);
    doc_put_integer(m, "blocks_present", info->blocks_present);
    doc_put_bool(m, "is_complete", info->is_complete);
    doc_put_bool(m, "is_pinned", info->is_pinned);
    doc_put_bool(m, "is_open", info->is_open);
    doc_append(list, m);
}

#define LIST_MAX 1000

int verb_cache_list(const struct doc *request, struct doc *reply, void *context)
{
    struct status_context *c = context;
    struct doc *list = doc_new(DOC_LIST);
    uint64_t cursor = (uint64_t)doc_integer(doc_get(request, "cursor"), 0);
    uint32_t given = block_store_list(cache_store(c->fs->cache), &cursor, LIST_MAX, put_object, list);
    doc_put(reply, "objects", list);
    doc_put_integer(reply, "next", given ? (int64_t)cursor : 0);
    return 0;
}

// ---- verifying: a thread of its own, one at a time

static bool note_progress(const struct block_store_verified *sums, void *context)
{
    struct cache_check *v = context;
    lock_scope(&v->lock);
    v->sums = *sums;
    return true;
}

static void *verify_run(void *argument)
{
    struct cache_check *v = argument;
    struct block_store_verified sums = {0};
    int r = block_store_verify(v->store, note_progress, v, &sums);
    lock_scope(&v->lock);
    v->result = r;
    if (r == 0)
        v->sums = sums;
    v->is_running = false;
    return NULL;
}

// Under its lock.
static int verify_begin(struct cache_check *v, struct block_store *store)
{
    pthread_t thread;
    v->store = store;
    v->sums = (struct block_store_verified){0};
    v->result = 0;
    int r = thread_start(&thread, "verify", verify_run, v);
    if (r < 0)
        return r;
    pthread_detach(thread);
    v->is_running = true;
    return 0;
}

int verb_cache_verify(const struct doc *request, struct doc *reply, void *context)
{
    struct status_context *c = context;
    struct cache_check *v = &c->check;
    lock_scope(&v->lock);
    if (!v->is_running && doc_bool(doc_get(request, "begin"), false)) {
        int r = verify_begin(v, cache_store(c->fs->cache));
        if (r < 0)
            return r;
    }
    doc_put_bool(reply, "is_running", v->is_running);
    doc_put_integer(reply, "objects", (int64_t)v->sums.objects);
    doc_put_integer(reply, "bytes", (int64_t)v->sums.bytes);
    doc_put_integer(reply, "bad_blocks", (int64_t)v->sums.bad_blocks);
    return v->result;
}
