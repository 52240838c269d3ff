// SPDX-License-Identifier: BSD-3-Clause
// remote.c: artifacts at other origins. They are read with butlerfs's own credentials, so the mode bits of
// the space say who may, and only what lies below a datastore's root or one of artifact_roots is read: a
// registry row must not make us fetch from anywhere else.
#include <errno.h>

#include "base/clock.h"
#include "cache/cache.h"
#include "fs/space/butler/butler.h"
#include "meta/artifact.h"
#include "meta/uri.h"

// ---- roots ----------------------------------------------------------------------------------

static int root_add(struct butler *b, const char *uri, char **ret_why)
{
    struct remote_root root = {.uri = uri};
    const struct options *o = b->space.fs->options;
    int r = space_origin_open(b->space.fs->fetchers, o, b->space.options, uri, &root.origin, &root.key, ret_why);
    if (r < 0)
        return r;
    size_t n = strlen(root.key);
    while (n > 0 && root.key[n - 1] == '/')
        root.key[--n] = '\0';
    b->remote_roots = memory_grow(b->remote_roots, b->remote_root_count + 1, sizeof *b->remote_roots);
    b->remote_roots[b->remote_root_count++] = root;
    return 0;
}

int butler_open_roots(struct butler *b, char **ret_why)
{
    const struct repository_config *c = repository_config(b->repository);
    char **more = b->space.options->artifact_roots;
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < c->datastore_count; i++)
        if (!c->datastores[i].is_local)
            r = root_add(b, c->datastores[i].root, ret_why);
    for (size_t i = 0; r == 0 && more && more[i]; i++)
        if (uri_is_remote(text_of(more[i])))
            r = root_add(b, more[i], ret_why);
    return r;
}

void butler_close_roots(struct butler *b)
{
    for (size_t i = 0; i < b->remote_root_count; i++) {
        origin_unref(b->remote_roots[i].origin);
        free(b->remote_roots[i].key);
    }
    free(b->remote_roots);
}

#define CHECK_LIMIT_NS (10 * NS_PER_S)

static int why_not(const char *root, int error, const char *reason, char **ret_why)
{
    struct buffer line = {0};
    buffer_format(&line, "datastore root %s: %s", root, reason ? reason : strerror(-error));
    *ret_why = buffer_steal(&line);
    return error;
}

// Whether it answers us: its first key, where it can be listed. An empty one is fine.
static int root_check(struct fetchers *fetchers, const struct options *o, const struct space_options *s,
                      const char *uri, char **ret_why)
{
    cleanup(cleanup_origin_unref) struct origin *origin = NULL;
    cleanup(cleanup_free) char *key = NULL, *reason = NULL;
    int64_t limit_ns = o->timeout_ns < CHECK_LIMIT_NS ? o->timeout_ns : CHECK_LIMIT_NS;
    int r = space_origin_open(fetchers, o, s, uri, &origin, &key, &reason);
    if (r == 0 && origin_can_list(origin))
        r = bucket_check(origin, key, 0, limit_ns, &reason);
    return r < 0 ? why_not(uri, r, reason, ret_why) : 0;
}

int space_check_datastores(struct fetchers *fetchers, const struct options *o, const struct space_options *s,
                           const struct repository_config *config, char **ret_why)
{
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < config->datastore_count; i++)
        if (!config->datastores[i].is_local)
            r = root_check(fetchers, o, s, config->datastores[i].root, ret_why);
    return r;
}

// ---- objects --------------------------------------------------------------------------------

// What follows `root` and a '/' in `uri`; empty: it isn't below it.
static struct text below(struct text uri, const char *root)
{
    size_t n = strlen(root);
    while (n > 0 && root[n - 1] == '/')
        n--;
    if (uri.size_bytes <= n + 1 || memcmp(uri.data, root, n) != 0 || uri.data[n] != '/')
        return (struct text){0};
    return text_slice(uri, n + 1, uri.size_bytes);
}

static bool goes_up(struct text path)
{
    for (size_t at = 0; at < path.size_bytes;) {
        struct text rest = text_slice(path, at, path.size_bytes);
        const char *slash = memchr(rest.data, '/', rest.size_bytes);
        size_t n = slash ? (size_t)(slash - rest.data) : rest.size_bytes;
        if (text_equal(text_slice(rest, 0, n), TEXT("..")))
            return true;
        at += n + 1;
    }
    return false;
}

static int object_find(const struct butler *b, struct text uri, struct buffer *key,
                       struct object *ret_object, const char **ret_why)
{
    for (size_t i = 0; i < b->remote_root_count; i++) {
        const struct remote_root *root = &b->remote_roots[i];
        struct text rest = below(uri, root->uri);
        if (rest.size_bytes == 0)
            continue;
        buffer_append_string(key, root->key);
        if (key->size_bytes)
            buffer_append_byte(key, '/');
        size_t from = key->size_bytes;
        uri_unquote(rest, key);
        if (goes_up(text_slice(buffer_text(key), from, key->size_bytes)))
            break;
        *ret_object = (struct object){.origin = root->origin, .key = buffer_text(key)};
        return 0;
    }
    *ret_why = "it is outside the datastores' roots and artifact_roots";
    return -EACCES;
}

int butler_object(const struct butler *b, const struct dataset_file *file, struct buffer *key,
                  struct buffer *checksum, struct object *ret_object, struct buffer *member,
                  const char **ret_why)
{
    const struct datastore_config *store = &repository_config(b->repository)->datastores[file->datastore];
    struct artifact artifact = {0};
    *ret_why = "its path is malformed";
    int r = artifact_resolve(store, file->path, &artifact);
    if (r == 0 && artifact.scheme == ARTIFACT_FILE)
        r = -EOPNOTSUPP;
    if (r == 0)
        r = object_find(b, buffer_text(&artifact.path), key, ret_object, ret_why);
    if (r == 0) {
        // A member's size and checksum are not its archive's.
        bool is_whole = artifact.member.size_bytes == 0;
        ret_object->size_bytes = is_whole ? file->size_bytes : OBJECT_SIZE_UNKNOWN;
        ret_object->fresh_for_ns = INT64_MAX;
        if (is_whole && file->checksum.size_bytes) {
            buffer_append_string(checksum, "blake2b:");
            buffer_append_text(checksum, file->checksum);
            ret_object->checksum = buffer_text(checksum);
        }
        buffer_append_text(member, buffer_text(&artifact.member));
    }
    artifact_release(&artifact);
    return r;
}

static void note_size(struct origin_request *r, const struct origin_answer *answer)
{
    if (answer->error == 0)
        *(int64_t *)r->context = answer->size_bytes;
}

int64_t butler_remote_size(void *context, uint32_t datastore, struct text recorded_path)
{
    const struct butler *b = context;
    const struct dataset_file file = {.datastore = datastore, .path = recorded_path};
    const char *why;
    struct object object;
    BUFFER_CLEANUP key = {0}, checksum = {0}, member = {0};
    int64_t size = -EREMOTEIO;
    int r = butler_object(b, &file, &key, &checksum, &object, &member, &why);
    if (r < 0)
        return r;
    struct origin_request request = {
        .verb = ORIGIN_HEAD,
        .priority = ORIGIN_READER_WAITS,
        .key = object.key,
        .deadline_ns = clock_ns() + b->space.fs->options->timeout_ns,
        .done = note_size,
        .context = &size,
    };
    r = origin_wait(object.origin, &request, NULL);
    return r < 0 ? r : size;
}

// The first of its files that isn't local.
int butler_find_object(struct op *op, const struct file_node *n, struct found_object *ret_found)
{
    struct dataset *d;
    int r = butler_dataset(op, n, &d);
    if (r < 0)
        return r;
    r = -EOPNOTSUPP;
    for (uint32_t i = 0; r == -EOPNOTSUPP && i < d->file_count; i++) {
        const char *why;
        BUFFER_CLEANUP member = {0};
        struct found_object f = {0};
        if (butler_component(d->files[i].component) != n->component)
            continue;
        r = butler_object(butler_of(op), &d->files[i], &f.key, &f.checksum, &f.object, &member, &why);
        f.is_member = member.size_bytes > 0;
        if (r == 0)
            *ret_found = f;
        else
            found_object_release(&f);
    }
    dataset_free(d);
    return r;
}
