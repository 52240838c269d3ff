// SPDX-License-Identifier: BSD-3-Clause
// explain.c: what a path of a Butler space is, or why it isn't there or can't be read. Names and datasets
// are meta's to tell (meta/explain.h); here each replica of a dataset is tried as the caller would open it.
// 1. What is told of an artifact's address has no query and no user in it: these may be a signature, a
//    password.
#include "meta/explain.h"

#include <errno.h>

#include "base/log.h"
#include "fs/opened.h"
#include "fs/space/butler/butler.h"
#include "meta/artifact.h"
#include "meta/uri.h"

static void write_address(struct text recorded, struct buffer *to)
{
    const char *query = uri_has_scheme(recorded) ? memchr(recorded.data, '?', recorded.size_bytes) : NULL;
    size_t end = query ? (size_t)(query - recorded.data) : recorded.size_bytes, from = 0;
    const char *scheme = memmem(recorded.data, end, "://", 3);
    if (uri_has_scheme(recorded) && scheme) {
        size_t host = (size_t)(scheme - recorded.data) + 3;
        const char *slash = memchr(recorded.data + host, '/', end - host);
        size_t host_end = slash ? (size_t)(slash - recorded.data) : end;
        const char *at = memrchr(recorded.data + host, '@', host_end - host);
        buffer_append(to, recorded.data, host);
        from = at ? (size_t)(at - recorded.data) + 1 : host;
    }
    buffer_append(to, recorded.data + from, end - from);
}

static void put_address(struct doc *map, const char *key, struct text address)
{
    BUFFER_CLEANUP shown = {0};
    write_address(address, &shown);
    doc_put(map, key, doc_new_text(buffer_text(&shown)));
}

static void put_artifact(struct op *op, const struct dataset_file *f, struct doc *map, struct account *a)
{
    const struct datastore_config *store = &repository_config(butler_of(op)->repository)->datastores[f->datastore];
    struct artifact artifact = {0};
    BUFFER_CLEANUP shown = {0};
    put_address(map, "datastore", text_of(store->root));
    put_address(map, "recorded_path", f->path);
    if (artifact_resolve(store, f->path, &artifact) < 0) {
        write_address(f->path, &shown);
        account_say(a, "Its recorded path is %s.", buffer_text(&shown).data);
    } else {
        write_address(buffer_text(&artifact.path), &shown);
        doc_put(map, "artifact", doc_new_text(buffer_text(&shown)));
        if (artifact.member.size_bytes)
            doc_put(map, "member", doc_new_text(buffer_text(&artifact.member)));
        account_say(a, artifact.member.size_bytes ? "Its bytes are the member %2$s of the archive %1$s."
                                                  : "Its bytes are in %s.",
                    buffer_text(&shown).data, buffer_text(&artifact.member).data);
    }
    artifact_release(&artifact);
}

// -EINPROGRESS: a remote one has to be asked for.
static int try_replica(struct op *op, const struct dataset_file *f, struct doc *map, struct account *a)
{
    const struct fuse_ctx *ctx = fuse_req_ctx(op->req);
    struct asking asking = {.caller = {ctx->uid, ctx->gid, ctx->pid}, .passes_nearline = true};
    struct opened opened = {.fd = -1};
    BUFFER_CLEANUP why = {0};
    int r = butler_replica_try(op, f, &asking, &opened, &why);
    if (r == -EINPROGRESS)
        return r;
    doc_put_bool(map, "can_read", r == 0);
    if (r < 0) {
        doc_put(map, "why", doc_new_text(buffer_text(&why)));
        doc_put_text(map, "errno", strerrorname_np(r == -EREMCHG ? EAGAIN : -r));
        account_say(a, "It can't be read: %s.", buffer_text(&why).data);
        return 0;
    }
    doc_put_integer(map, "size_bytes", opened.size_bytes);
    account_say(a, "It can be read; its size is %lld bytes.", (long long)opened.size_bytes);
    if (f->size_bytes != SIZE_UNKNOWN && f->size_bytes != opened.size_bytes)
        account_say(a, "Its recorded size is another: %lld bytes.", (long long)f->size_bytes);
    opened_release(&opened);
    return 0;
}

static int explain_replica(struct op *op, const struct dataset_file *f, struct account *a, struct doc *list)
{
    struct doc *map = doc_new(DOC_MAP);
    if (f->component.size_bytes) {
        doc_put(map, "component", doc_new_text(f->component));
        account_say(a, "Component \"%.*s\":", (int)f->component.size_bytes, f->component.data);
    }
    put_artifact(op, f, map, a);
    if (f->size_bytes != SIZE_UNKNOWN)
        doc_put_integer(map, "recorded_size_bytes", f->size_bytes);
    if (f->checksum.size_bytes)
        doc_put(map, "checksum", doc_new_text(f->checksum));
    if (f->storage_class.size_bytes)
        doc_put(map, "storage_class", doc_new_text(f->storage_class));
    doc_append(list, map);
    return try_replica(op, f, map, a);
}

static int explain_files(struct op *op, const struct explained *x, struct account *a)
{
    struct dataset *d;
    int r = repository_dataset(butler_of(op)->repository, op->fresh, &x->uuid, &d, &op->want);
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    struct doc *list = doc_new(DOC_LIST);
    for (uint32_t i = 0; r == 0 && i < d->file_count; i++)
        if (!x->is_component || text_equal(d->files[i].component, buffer_text(&x->component)))
            r = explain_replica(op, &d->files[i], a, list);
    doc_put(a->facts, "files", list);
    dataset_free(d);
    return r;
}

static int explain_name(struct op *op, struct text name, struct account *a)
{
    struct place place;
    struct explained x = {0};
    int r = butler_place(op, op->node, &place);
    if (r < 0)
        return r;
    r = place_explain(&place, name, a, &x, &op->want);
    place_release(&place);
    if (r == 0 && x.is_dataset)
        r = explain_files(op, &x, a);
    buffer_release(&x.component);
    return r;
}

int butler_explain(struct op *op, const struct doc *request, struct doc *reply)
{
    struct account a = {.facts = reply, .sentences = doc_new(DOC_LIST)};
    struct text below = doc_text(doc_get(request, "below"), TEXT(""));
    int r = explain_name(op, doc_text(doc_get(request, "name"), TEXT("")), &a);
    if (r == 0 && below.size_bytes && doc_bool(doc_get(reply, "exists"), false))
        account_say(&a, text_equal(doc_text(doc_get(reply, "kind"), TEXT("")), TEXT("folder"))
                            ? "It was not there a moment ago: ask again."
                            : "It is no folder: nothing is below it.");
    doc_put(reply, "sentences", a.sentences);
    return r;
}
