// SPDX-License-Identifier: BSD-3-Clause
// s3.c: the space itself: opening it, names and attributes. What there is in the bucket is meta's to
// say; here its answers become nodes and replies.
//
// What a listing said counts as true for list_time: half of it in the catalogue, half of it in the
// kernel, so that nothing shown is older.
#include "fs/space/s3/s3.h"

#include <errno.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "fs/opened.h"
#include "fs/origins.h"

// ---- places ---------------------------------------------------------------------------------

struct path_walk {
    struct bucket_place *place;
    struct bucket_want *want;
};

static int walk_enter(struct text name, void *context)
{
    struct path_walk *w = context;
    return bucket_enter(w->place, name, w->want);
}

int s3_space_place(struct op *op, uint64_t node, struct bucket_place *ret_place)
{
    struct s3_space *s = s3_space_of(op);
    op->source = &op_bucket;
    op->bucket = s->bucket;
    uint64_t asked = (uint64_t)(clock_steady_unix_ns() - (clock_ns() - op->arrived_ns));
    bucket_root(s->bucket, op->fresh, asked, ret_place);
    struct path_walk w = {ret_place, &op->bucket_want};
    int r = state_path(op->fs->state, node, op->space->number, walk_enter, &w);
    if (r < 0)
        bucket_place_release(ret_place);
    return r;
}

int s3_space_entry(struct op *op, const struct file_node *n, struct bucket_place *ret_place,
             struct bucket_entry *ret_entry, struct buffer *scratch)
{
    struct named_node name;
    if (n->is_stale || !state_get_named(op->fs->state, n->name, &name))
        return -ESTALE;
    int r = s3_space_place(op, name.parent, ret_place);
    if (r < 0)
        return r == -ENOENT ? -ESTALE : r;
    r = bucket_lookup(ret_place, (struct text){name.name, name.name_bytes}, ret_entry, scratch,
                      &op->bucket_want);
    if (r == 0 && ret_entry->is_folder)
        r = -ENOENT;
    if (r < 0)
        bucket_place_release(ret_place);
    return r == -ENOENT ? -ESTALE : r;
}

void s3_space_object(const struct s3_space *s, const struct bucket_place *p, const struct bucket_entry *e,
               struct buffer *key, struct object *ret_object)
{
    buffer_clear(key);
    buffer_append_text(key, buffer_text(&p->prefix));
    buffer_append_text(key, e->raw);
    *ret_object = (struct object){
        .origin = s->origin,
        .key = buffer_text(key),
        .version = e->version,
        .size_bytes = e->size_bytes,
        .validator = text_of(e->etag),
        .seen_unix_ns = e->seen_unix_ns,
        .mtime_unix_ns = e->mtime_unix_ns,
        .fresh_for_ns = e->version.size_bytes ? INT64_MAX : s->space.options->list_time_ns, // versions don't change
    };
}

// ---- attributes -----------------------------------------------------------------------------

void s3_space_folder_attr(const struct s3_space *s, uint64_t ino, struct fs_attr *ret_attr)
{
    *ret_attr = (struct fs_attr){
        .mode = S_IFDIR | s->folder_mode,
        .uid = s->uid,
        .gid = s->gid,
        .ino = ino,
        .mtime_unix_ns = s->space.fs->start_ns,
    };
}

static void file_attr(const struct s3_space *s, const uint8_t id[16], int64_t size_bytes, int64_t mtime_unix_ns,
                      struct fs_attr *ret_attr)
{
    *ret_attr = (struct fs_attr){
        .mode = S_IFREG | s->file_mode,
        .uid = s->uid,
        .gid = s->gid,
        .ino = state_ino_of_hash(hash64_seed(id, 16, s->ino_seed)),
        .size_bytes = size_bytes,
        .mtime_unix_ns = mtime_unix_ns,
    };
}

void s3_space_file_attr(const struct s3_space *s, const struct file_node *n, struct fs_attr *ret_attr)
{
    file_attr(s, n->uuid, n->size_bytes, n->mtime_unix_ns, ret_attr);
}

void s3_space_object_id(const struct bucket_place *p, const struct bucket_entry *e, uint8_t ret_id[16])
{
    BUFFER_CLEANUP key = {0};
    buffer_append_text(&key, buffer_text(&p->prefix));
    buffer_append_text(&key, e->raw);
    hash128(key.data ? key.data : "", key.size_bytes, ret_id);
}

void s3_space_attr(const struct s3_space *s, const struct bucket_place *p, const struct bucket_entry *e,
             uint64_t parent_ino, struct fs_attr *ret_attr)
{
    uint8_t id[16];
    if (e->is_folder) {
        s3_space_folder_attr(s, state_ino(parent_ino, e->name), ret_attr);
        return;
    }
    s3_space_object_id(p, e, id);
    file_attr(s, id, e->size_bytes, e->mtime_unix_ns, ret_attr);
}

void s3_space_leave_node(const struct s3_space *s, const struct bucket_place *p, const struct bucket_entry *e)
{
    struct file_key id = {.space = s->space.number};
    s3_space_object_id(p, e, id.uuid);
    state_set_stale_key(s->space.fs->state, &id);
}

uint64_t s3_space_node(struct op *op, uint64_t parent, const struct bucket_place *p, const struct bucket_entry *e,
                 struct fs_attr *attr)
{
    if (e->is_folder)
        return state_named(op->fs->state, parent, e->name, NODE_FOLDER, op->space->number);
    struct file_key id = {.space = op->space->number};
    struct file_node n;
    struct object object;
    BUFFER_CLEANUP key = {0};
    s3_space_object(s3_space_of(op), p, e, &key, &object);
    hash128(key.data, key.size_bytes, id.uuid);
    struct object_name name = {
        .parent = parent,
        .name = e->name,
        .artifact = object_artifact(&object, object.validator, e->size_bytes),
        .size_bytes = e->size_bytes,
        .mtime_unix_ns = e->mtime_unix_ns,
    };
    uint64_t node = state_object(op->fs->state, &id, &name, &n);
    if (node)
        attr->size_bytes = n.size_bytes;
    return node;
}

// ---- verbs ----------------------------------------------------------------------------------

static uint64_t folder_ino(struct op *op, uint64_t node)
{
    struct named_node n;
    return state_get_named(op->fs->state, node, &n) ? n.ino : 0;
}

static int wait_for_name(struct op *op, const struct bucket_place *p)
{
    BUFFER_CLEANUP raw = {0};
    if (op->space->options->write == WRITE_OFF || bucket_new_name(p, op->name, &raw) < 0)
        return 0;
    return s3_space_wait_for_release(op, p, buffer_text(&raw));
}

static int lookup_writing(struct op *op, const struct bucket_place *p)
{
    BUFFER_CLEANUP raw = {0};
    struct file_node n;
    struct fs_attr attr;
    uint64_t node = 0;
    if (op->space->options->write != WRITE_OFF && bucket_new_name(p, op->name, &raw) == 0)
        node = s3_space_lookup_writing(op, p, buffer_text(&raw), &n);
    if (!node)
        return fs_reply_negative(op);
    s3_space_file_attr(s3_space_of(op), &n, &attr);
    op->is_passing = true;
    return fs_reply_entry(op, node, &attr);
}

static int s3_space_lookup(struct op *op)
{
    struct bucket_place place;
    struct bucket_entry e;
    struct fs_attr attr;
    BUFFER_CLEANUP scratch = {0};
    int r = s3_space_place(op, op->node, &place);
    if (r < 0)
        return r == -ENOENT ? -ESTALE : r;
    uint64_t node = 0;
    r = wait_for_name(op, &place);
    if (r == 0)
        r = bucket_lookup(&place, op->name, &e, &scratch, &op->bucket_want);
    if (r == 0) {
        s3_space_attr(s3_space_of(op), &place, &e, folder_ino(op, op->node), &attr);
        node = s3_space_node(op, op->node, &place, &e, &attr);
    }
    r = r == -ENOENT ? lookup_writing(op, &place) : r < 0 ? r : fs_reply_entry(op, node, &attr);
    bucket_place_release(&place);
    return r;
}

static int s3_space_getattr(struct op *op)
{
    struct named_node named;
    struct file_node file;
    struct fs_attr attr;
    if (state_get_named(op->fs->state, op->node, &named))
        s3_space_folder_attr(s3_space_of(op), named.ino, &attr);
    else if (state_get_file(op->fs->state, op->node, &file))
        s3_space_file_attr(s3_space_of(op), &file, &attr);
    else
        return -ESTALE;
    return fs_reply_attr(op, &attr);
}

static void s3_space_root_attr(struct space *s, struct fs_attr *ret_attr)
{
    s3_space_folder_attr((struct s3_space *)s, 0, ret_attr);
}

static uint64_t s3_space_fresh(struct space *s)
{
    return bucket_fresh(((struct s3_space *)s)->bucket);
}

static double s3_space_timeout_s(struct space *s)
{
    return (double)s->options->list_time_ns / 2e9;
}

static void s3_space_status(struct space *s, struct doc *map)
{
    doc_put_integer(map, "list_time_ms", s->options->list_time_ns / NS_PER_MS);
    if (s->options->version_at_unix_ns) {
        char at[CLOCK_ISO_BYTES];
        clock_format_iso(s->options->version_at_unix_ns, at);
        doc_put_text(map, "version_at", at);
    }
    bucket_status(((struct s3_space *)s)->bucket, map);
}

static void s3_space_refresh(struct space *s)
{
    bucket_refresh(((struct s3_space *)s)->bucket);
    if (s->fs->session)
        session_increment_epoch(s->fs->session);
}

static void s3_space_free(struct space *space)
{
    struct s3_space *s = (struct s3_space *)space;
    if (s->neighbours.at)
        cache_forget(space->fs->cache, &s->neighbours);
    if (s->bucket)
        bucket_close(s->bucket);
    if (s->origin)
        origin_unref(s->origin);
    lock_release_memory(&s->writings_lock);
    free(s);
}

static int s3_space_start(struct space *space)
{
    struct s3_space *s = (struct s3_space *)space;
    if (space->options->write == WRITE_OFF)
        return 0;
    if (space->fs->options->life > 1) // what an earlier life has changed isn't in what it had listed
        bucket_refresh(s->bucket);
    uploads_recover(space->fs->uploads, s->origin);
    return 0;
}

// What both kinds of spaces do.
#define READING_OPS                                                                                \
    .kind = "s3", .free = s3_space_free, .lookup = s3_space_lookup, .getattr = s3_space_getattr,   \
    .open = s3_space_open, .read = s3_space_read, .opendir = s3_space_opendir,                     \
    .readdir = s3_space_readdir, .releasedir = s3_space_releasedir,                                \
    .getxattr = s3_space_getxattr, .listxattr = s3_space_listxattr,                                \
    .object = s3_space_find_object, .root_attr = s3_space_root_attr, .fresh = s3_space_fresh,      \
    .timeout_s = s3_space_timeout_s, .status = s3_space_status, .refresh = s3_space_refresh,       \
    .adopt = s3_space_adopt, .start = s3_space_start

static const struct space_ops s3_space_ops = {READING_OPS, .release = opened_drop};

static const struct space_ops s3_space_writing_ops = {
    READING_OPS,
    .release = s3_space_release,
    .create = s3_space_create,
    .write = s3_space_write,
    .flush = s3_space_flush,
    .fsync = s3_space_fsync,
    .setattr = s3_space_setattr,
    .unlink = s3_space_unlink,
    .mkdir = s3_space_mkdir,
    .rmdir = s3_space_rmdir,
    .rename = s3_space_rename,
    .new_object = s3_space_new_object,
    .mknod = s3_space_forbid,
    .symlink = s3_space_forbid,
    .link = s3_space_forbid,
    .tmpfile = s3_space_refuse,
    .fallocate = s3_space_refuse,
    .setxattr = s3_space_refuse,
    .removexattr = s3_space_refuse,
};

// ---- opening --------------------------------------------------------------------------------

// A prefix is a folder, whether it was written with its '/' or not.
static int origin_of(struct fetchers *fetchers, const struct options *o, const struct space_options *s,
                     struct origin **ret_origin, char **ret_prefix, char **ret_why)
{
    char *key = NULL;
    int r = space_origin_open(fetchers, o, s, s->source, ret_origin, &key, ret_why);
    if (r < 0)
        return r;
    struct buffer prefix = {0};
    buffer_append_string(&prefix, key);
    if (prefix.size_bytes && prefix.data[prefix.size_bytes - 1] != '/')
        buffer_append_byte(&prefix, '/');
    free(key);
    *ret_prefix = buffer_steal(&prefix);
    return 0;
}

#define CHECK_LIMIT_NS (10 * NS_PER_S)

int space_check_s3(struct fetchers *fetchers, const struct options *o, const struct space_options *s,
                   char **ret_why)
{
    cleanup(cleanup_origin_unref) struct origin *origin = NULL;
    cleanup(cleanup_free) char *prefix = NULL, *reason = NULL;
    int r = origin_of(fetchers, o, s, &origin, &prefix, ret_why);
    if (r < 0)
        return r;
    r = bucket_check(origin, prefix, s->version_at_unix_ns,
                     o->timeout_ns < CHECK_LIMIT_NS ? o->timeout_ns : CHECK_LIMIT_NS, &reason);
    if (r < 0) {
        struct buffer line = {0};
        buffer_format(&line, "%s: %s can't be listed: %s", s->source, s->version_at_unix_ns ? "its versions" : "it",
                      reason ? reason : strerror(-r));
        *ret_why = buffer_steal(&line);
    }
    return r;
}

static void set_owner(struct s3_space *s, const struct space_options *o)
{
    s->uid = o->has_uid ? o->uid : geteuid();
    s->gid = o->has_gid ? o->gid : getegid();
    bool is_written = o->write != WRITE_OFF;
    mode_t umask = o->has_umask ? o->umask : is_written ? 022 : 0;
    s->file_mode = (is_written ? 0666 : 0444) & ~umask;
    s->folder_mode = (is_written ? 0777 : 0555) & ~umask;
}

int space_open_s3(struct fs *fs, uint16_t number, const struct space_options *options,
                  struct catalogue *catalogue, struct space **ret_space, char **ret_why)
{
    struct s3_space *s = new_struct(struct s3_space);
    cleanup(cleanup_free) char *prefix = NULL;
    lock_init(&s->writings_lock, LOCK_RANK_HANDLE, "writings");
    const struct space_ops *ops = options->write == WRITE_OFF ? &s3_space_ops : &s3_space_writing_ops;
    s->space = (struct space){.ops = ops, .number = number, .fs = fs, .options = options};
    int r = origin_of(fs->fetchers, fs->options, options, &s->origin, &prefix, ret_why);
    if (r == 0) {
        struct bucket_options o = {
            .origin = s->origin,
            .prefix = prefix,
            .catalogue = catalogue,
            .list_ns = options->list_time_ns / 2,
            .limit_ns = fs->options->timeout_ns,
            .librarian_count = fs->options->librarian_count,
            .at_unix_ns = options->version_at_unix_ns,
        };
        r = bucket_open(&o, &s->bucket, ret_why);
    }
    if (r < 0) {
        s3_space_free(&s->space);
        return r;
    }
    const char *name = options->name ? options->name : "";
    s->ino_seed = hash64(name, strlen(name));
    set_owner(s, options);
    s->neighbours = (struct cache_neighbours){s3_space_neighbour, s};
    *ret_space = &s->space;
    return 0;
}
