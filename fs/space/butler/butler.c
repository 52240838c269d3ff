// SPDX-License-Identifier: BSD-3-Clause
// butler.c: the space itself: opening it, names and attributes. Which datasets there are is meta's to
// say; here its answers become nodes and replies.
#include "fs/space/butler/butler.h"

#include <errno.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/metric.h"

struct walk {
    struct place *place;
    struct want *want;
};

static int walk_enter(struct text name, void *context)
{
    struct walk *w = context;
    return place_enter(w->place, name, w->want);
}

int butler_place(struct op *op, uint64_t node, struct place *ret_place)
{
    struct butler *b = butler_of(op);
    butler_asks(op);
    int r = place_root(b->repository, op->fresh, ret_place, &op->want);
    if (r < 0)
        return r;
    struct walk w = {ret_place, &op->want};
    r = state_path(op->fs->state, node, op->space->number, walk_enter, &w);
    if (r < 0)
        place_release(ret_place);
    return r;
}

int butler_dataset(struct op *op, const struct file_node *n, struct dataset **ret_dataset)
{
    struct butler *b = butler_of(op);
    struct uuid uuid;
    memcpy(uuid.bytes, n->uuid, sizeof uuid.bytes);
    butler_asks(op);
    int r = repository_dataset(b->repository, op->fresh, &uuid, ret_dataset, &op->want);
    return r == -ENOENT ? -ESTALE : r;
}

void butler_keep_for(struct op *op, int64_t left_ns)
{
    if (left_ns == INT64_MAX || (op->has_left && op->left_ns <= left_ns))
        return;
    op->has_left = true;
    op->left_ns = left_ns;
}

// ---- attributes -----------------------------------------------------------------------------

uint64_t butler_component(struct text name)
{
    return name.size_bytes ? hash64(name.data, name.size_bytes) : 0;
}

static uint64_t file_ino(const struct butler *b, const uint8_t uuid[16], uint64_t component)
{
    return state_ino_of_hash(hash64_seed(uuid, 16, b->ino_seed + component));
}

int64_t butler_readme_bytes(const struct butler *b)
{
    cleanup(buffer_release) struct buffer text = {0};
    repository_readme(b->repository, &text);
    return (int64_t)text.size_bytes;
}

void butler_folder_attr(const struct butler *b, uint64_t ino, struct fs_attr *ret_attr)
{
    *ret_attr = (struct fs_attr){
        .mode = S_IFDIR | b->folder_mode,
        .uid = b->uid,
        .gid = b->gid,
        .ino = ino,
        .mtime_unix_ns = repository_epoch_unix_ns(b->repository),
    };
}

void butler_file_attr(const struct butler *b, const struct file_node *n, struct fs_attr *ret_attr)
{
    *ret_attr = (struct fs_attr){
        .mode = S_IFREG | b->file_mode,
        .uid = b->uid,
        .gid = b->gid,
        .ino = file_ino(b, n->uuid, n->component),
        .size_bytes = n->size_bytes,
        .mtime_unix_ns = n->mtime_unix_ns,
    };
}

void butler_attr(const struct butler *b, const struct entry *e, uint64_t parent_ino, int64_t text_bytes,
                 struct fs_attr *ret_attr)
{
    butler_folder_attr(b, state_ino(parent_ino, e->name), ret_attr);
    if (e->kind == ENTRY_FOLDER)
        return;
    ret_attr->size_bytes = text_bytes;
    ret_attr->mode = e->kind == ENTRY_LINK ? S_IFLNK | 0777 : S_IFREG | b->file_mode;
    if (e->kind != ENTRY_FILE)
        return;
    ret_attr->ino = file_ino(b, e->uuid.bytes, butler_component(e->component));
    ret_attr->size_bytes = e->size_bytes;
    ret_attr->mtime_unix_ns = e->mtime_unix_ns;
}

// The kernel keeps a link's target for as long as it knows the node: one whose target becomes another
// must become another node, though its name stays. So the node's own name has the version after a `/`,
// which no name in a folder has.
static void node_name(const struct entry *e, struct buffer *to)
{
    buffer_append_text(to, e->name);
    if (e->version)
        buffer_format(to, "/%016llx", (unsigned long long)e->version);
}

static struct text entry_name(const struct named_node *n)
{
    const char *slash = memchr(n->name, '/', n->name_bytes);
    return (struct text){n->name, slash ? (size_t)(slash - n->name) : n->name_bytes};
}

uint64_t butler_node(struct op *op, uint64_t parent, const struct entry *e, struct fs_attr *attr)
{
    static const enum node_kind kinds[] = {
        [ENTRY_FOLDER] = NODE_FOLDER, [ENTRY_LINK] = NODE_LINK, [ENTRY_README] = NODE_README};
    struct state *state = op->fs->state;
    if (e->kind != ENTRY_FILE) {
        cleanup(buffer_release) struct buffer name = {0};
        node_name(e, &name);
        return state_named(state, parent, buffer_text(&name), kinds[e->kind], op->space->number);
    }
    struct file_key key = {.component = butler_component(e->component), .space = op->space->number};
    memcpy(key.uuid, e->uuid.bytes, sizeof key.uuid);
    struct file_node copy;
    uint64_t node = state_file(state, &key, parent, e->size_bytes, e->mtime_unix_ns, &copy);
    if (node)
        attr->size_bytes = copy.size_bytes;
    return node;
}

// ---- verbs ----------------------------------------------------------------------------------

static uint64_t folder_ino(struct op *op, uint64_t node)
{
    struct named_node n;
    return state_get_named(op->fs->state, node, &n) ? n.ino : 0;
}

// README.txt has a text of its own, a link its target; nothing else has one here.
static int64_t text_bytes_of(const struct butler *b, const struct entry *e, const struct buffer *target)
{
    return e->kind == ENTRY_README ? butler_readme_bytes(b) : (int64_t)target->size_bytes;
}

static int entry_find(struct op *op, uint64_t parent, struct text name, struct entry *ret_entry,
                      struct buffer *scratch, struct buffer *target)
{
    struct place place;
    int r = butler_place(op, parent, &place);
    if (r < 0)
        return r;
    butler_keep_for(op, place_left_ns(&place, NULL));
    r = place_lookup(&place, name, ret_entry, scratch, target, &op->want);
    butler_keep_for(op, place_left_ns(&place, NULL)); // whichever of both it was found by
    if (r == 0 && ret_entry->left_ns)
        butler_keep_for(op, ret_entry->left_ns);
    place_release(&place);
    return r;
}

static int butler_lookup(struct op *op)
{
    struct butler *b = butler_of(op);
    cleanup(buffer_release) struct buffer scratch = {0};
    cleanup(buffer_release) struct buffer target = {0};
    struct entry e;
    struct fs_attr attr;
    int r = entry_find(op, op->node, op->name, &e, &scratch, &target);
    if (r == -ENOENT)
        return fs_reply_negative(op);
    if (r < 0)
        return r;
    butler_attr(b, &e, folder_ino(op, op->node), text_bytes_of(b, &e, &target), &attr);
    uint64_t node = butler_node(op, op->node, &e, &attr);
    return fs_reply_entry(op, node, &attr);
}

static int named_attr(struct op *op, const struct named_node *n)
{
    struct butler *b = butler_of(op);
    struct fs_attr attr;
    if (n->kind == NODE_FOLDER) {
        butler_folder_attr(b, n->ino, &attr);
        return fs_reply_attr(op, &attr);
    }
    cleanup(buffer_release) struct buffer scratch = {0};
    cleanup(buffer_release) struct buffer target = {0};
    struct entry e;
    int r = entry_find(op, n->parent, entry_name(n), &e, &scratch, &target);
    if (r < 0)
        return r == -ENOENT ? -ESTALE : r;
    butler_attr(b, &e, folder_ino(op, n->parent), text_bytes_of(b, &e, &target), &attr);
    return fs_reply_attr(op, &attr);
}

static int butler_getattr(struct op *op)
{
    struct named_node named;
    struct file_node file;
    struct fs_attr attr;
    if (state_get_named(op->fs->state, op->node, &named))
        return named_attr(op, &named);
    if (!state_get_file(op->fs->state, op->node, &file))
        return -ESTALE;
    butler_file_attr(butler_of(op), &file, &attr);
    return fs_reply_attr(op, &attr);
}

static int butler_readlink(struct op *op)
{
    struct named_node n;
    if (!state_get_named(op->fs->state, op->node, &n) || n.kind != NODE_LINK)
        return -EINVAL;
    cleanup(buffer_release) struct buffer scratch = {0};
    cleanup(buffer_release) struct buffer target = {0};
    struct entry e;
    int r = entry_find(op, n.parent, entry_name(&n), &e, &scratch, &target);
    if (r < 0)
        return r == -ENOENT ? -ESTALE : r;
    fuse_reply_readlink(op->req, buffer_text(&target).data);
    return 0;
}

static void butler_root_attr(struct space *s, struct fs_attr *ret_attr)
{
    struct butler *b = (struct butler *)s;
    butler_folder_attr(b, 0, ret_attr);
}

static uint64_t butler_fresh(struct space *s)
{
    return repository_epoch(((struct butler *)s)->repository);
}

static void butler_status(struct space *s, struct doc *map)
{
    repository_status(((struct butler *)s)->repository, map);
}

static void butler_refresh(struct space *s)
{
    repository_refresh(((struct butler *)s)->repository);
}

static void butler_hurry(struct space *s)
{
    repository_hurry(((struct butler *)s)->repository);
}

static void butler_free(struct space *s)
{
    struct butler *b = (struct butler *)s;
    if (b->neighbours.at)
        cache_forget(s->fs->cache, &b->neighbours);
    if (b->repository)
        repository_close(b->repository);
    butler_close_roots(b);
    space_reader_release(&b->reader);
    buffer_release(&b->login_file);
    free(b->roots);
    free(b);
}

static const struct space_ops butler_ops = {
    .kind = "butler",
    .free = butler_free,
    .lookup = butler_lookup,
    .getattr = butler_getattr,
    .readlink = butler_readlink,
    .open = butler_open_file,
    .read = butler_read,
    .release = butler_release,
    .opendir = butler_opendir,
    .readdir = butler_readdir,
    .releasedir = butler_releasedir,
    .getxattr = butler_getxattr,
    .listxattr = butler_listxattr,
    .explain = butler_explain,
    .object = butler_find_object,
    .find = butler_find,
    .root_attr = butler_root_attr,
    .fresh = butler_fresh,
    .status = butler_status,
    .refresh = butler_refresh,
    .hurry = butler_hurry,
    .adopt = butler_adopt,
};

// ---- opening --------------------------------------------------------------------------------

// A registry changed: every entry the kernel holds is to be looked up again.
static void butler_changed(void *context)
{
    struct butler *b = context;
    struct session *session = b->space.fs->session;
    if (session)
        session_increment_epoch(session);
}

// Files are readable as butler.yaml is, folders passable where they are readable (tree.md).
static void butler_set_owner(struct butler *b)
{
    const struct repository_config *c = repository_config(b->repository);
    const struct space_options *o = b->space.options;
    b->uid = o->has_uid ? o->uid : c->owner;
    b->gid = o->has_gid ? o->gid : c->group;
    b->file_mode = o->has_umask ? 0444 & ~o->umask : c->mode & 0444;
    b->folder_mode = b->file_mode | (b->file_mode & 0444) >> 2;
    if (o->has_umask)
        b->folder_mode = 0555 & ~o->umask;
}

static void butler_set_access(struct butler *b)
{
    const struct repository_config *c = repository_config(b->repository);
    const struct space_options *o = b->space.options;
    size_t more = 0, count = 0;
    while (o->artifact_roots && o->artifact_roots[more])
        more++;
    b->roots = memory_new((c->datastore_count + more + 1) * sizeof *b->roots);
    for (uint32_t i = 0; i < c->datastore_count; i++)
        if (c->datastores[i].is_local)
            b->roots[count++] = c->datastores[i].root;
    for (size_t i = 0; i < more; i++)
        if (o->artifact_roots[i][0] == '/')
            b->roots[count++] = o->artifact_roots[i];
    b->access = (struct object_access){
        .as_owner = o->open_as_owner,
        .roots = b->roots,
        .can_change_ids = b->space.fs->can_change_ids,
        .own_uid = geteuid(),
    };
}

#define NOBODY 65534

static void butler_set_writer(struct butler *b)
{
    struct stat st;
    const char *path = repository_config(b->repository)->database_path;
    b->writer = (struct caller){NOBODY, NOBODY, 0};
    if (!path || stat(path, &st) < 0)
        return;
    b->writer_is_trusted = st.st_uid == 0 && !(st.st_mode & (S_IWGRP | S_IWOTH));
    b->writer = (struct caller){st.st_uid ? st.st_uid : NOBODY, st.st_gid, 0};
}

int space_open_butler(struct fs *fs, uint16_t number, const struct space_options *options,
                      struct catalogue *catalogue, struct space **ret_space, char **ret_why)
{
    struct butler *b = new_struct(struct butler);
    b->space = (struct space){&butler_ops, number, fs, options};
    space_reader_init(&b->reader, fs->fetchers, fs->options, options);
    struct repository_options o = {
        .source = options->source,
        .index = {fs->options->repository_index, fs->options->repositories, &b->reader.reader},
        .login = space_login(options, &b->login_file),
        .catalogue = catalogue,
        .archives = fs->archives,
        .refresh_ns = options->refresh_ns,
        .stale_ns = options->stale_ns,
        .limit_ns = fs->options->timeout_ns,
        .librarian_count = fs->options->librarian_count,
        .is_known = fs->options->life > 1,
        .remote_size = butler_remote_size,
        .changed = butler_changed,
        .context = b,
    };
    int r = repository_open(&o, &b->repository, ret_why);
    if (r == 0)
        r = butler_open_roots(b, ret_why);
    if (r < 0) {
        butler_free(&b->space);
        return r;
    }
    space_reader_keep(&b->reader);
    const char *name = options->name ? options->name : "";
    b->ino_seed = hash64(name, strlen(name));
    b->neighbours = (struct cache_neighbours){butler_neighbour, b};
    butler_set_owner(b);
    butler_set_access(b);
    butler_set_writer(b);
    *ret_space = &b->space;
    return 0;
}
