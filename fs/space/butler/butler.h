// SPDX-License-Identifier: BSD-3-Clause
// butler: a Butler repository as a space (private to fs/space/butler).
#pragma once
#include "cache/object.h"
#include "fs/origins.h"
#include "fs/space/space.h"
#include "meta/row_series.h"

// A place where artifacts may lie that isn't local: a datastore's root, or one of artifact_roots.
struct remote_root {
    const char *uri;       // without a trailing slash
    struct origin *origin;
    char *key;             // what all keys below it begin with; no trailing slash
};

struct butler {
    struct space space;
    struct space_reader reader;
    struct remote_root *remote_roots;
    size_t remote_root_count;
    struct repository *repository;
    struct buffer login_file;      // of its registry, if that is in PostgreSQL
    uid_t uid;
    gid_t gid;
    mode_t file_mode, folder_mode; // permission bits
    uint64_t ino_seed;
    struct object_access access;
    const char **roots;            // of access: datastores' and artifact_roots
    // Who may write rows: the registry's owner. Root is the one reader to whom no door is closed, so
    // what a row leads him to outside the roots must be open to who may have written it (unless that
    // is root himself).
    bool writer_is_trusted;
    struct caller writer;
    struct cache_neighbours neighbours; // artifacts in the order of a folder or a movie
    _Atomic uint64_t refused_log_ns; // when a refused artifact was last logged
};

static inline struct butler *butler_of(struct op *op)
{
    return (struct butler *)op->space;
}

// What op->want is filled with is for this space's librarians.
static inline void butler_asks(struct op *op)
{
    op->source = &op_librarians;
    op->repository = butler_of(op)->repository;
}

// What the folder `node` means now. Fills op->want where it must wait.
int butler_place(struct op *op, uint64_t node, struct place *ret_place);
// What is answered is true for that long only (INT64_MAX: until the registry changes): the kernel is told.
void butler_keep_for(struct op *op, int64_t left_ns);
// The dataset a file node stands for; dataset_free(). -EINPROGRESS; -ESTALE: it is not there any more.
int butler_dataset(struct op *op, const struct file_node *n, struct dataset **ret_dataset);
// How a component is named in a file node; 0: the whole dataset.
uint64_t butler_component(struct text name);
int64_t butler_readme_bytes(const struct butler *b);
// The attributes of an entry; `text_bytes`: of a link's target or a README.
void butler_attr(const struct butler *b, const struct entry *e, uint64_t parent_ino, int64_t text_bytes,
                 struct fs_attr *ret_attr);
void butler_folder_attr(const struct butler *b, uint64_t ino, struct fs_attr *ret_attr);
void butler_file_attr(const struct butler *b, const struct file_node *n, struct fs_attr *ret_attr);
// Finds or makes the node of an entry of folder `parent`, counting one look-up; *attr's size becomes
// the node's.
uint64_t butler_node(struct op *op, uint64_t parent, const struct entry *e, struct fs_attr *attr);

// Who asks. `is_granted`: he had this very file open before (the caller checks that it is), so that only
// the daemon's own rights count.
struct asking {
    struct caller caller;
    bool is_granted;
    bool passes_nearline; // -EREMCHG of what would have to be recalled: another replica may be at hand
};
// One file of a dataset. 0 with *ret_opened; -EINPROGRESS; -errno: this replica can't be had, why is
// appended to *why.
struct opened;
int butler_replica_try(struct op *op, const struct dataset_file *file, const struct asking *asking,
                       struct opened *ret_opened, struct buffer *why);
int butler_explain(struct op *op, const struct doc *request, struct doc *reply);
// The object behind a dataset's file, if it isn't local: its key is put into *key, its checksum's text
// into *checksum. -EOPNOTSUPP: it is local; -EACCES: outside all roots; -EXDEV, -EINVAL; *ret_why static.
int butler_object(const struct butler *b, const struct dataset_file *file, struct buffer *key,
                  struct buffer *checksum, struct object *ret_object, struct buffer *member,
                  const char **ret_why);
int butler_find_object(struct op *op, const struct file_node *n, struct found_object *ret_found);
// For meta: asks an artifact's size of its origin, and waits. Librarians only.
int64_t butler_remote_size(void *context, uint32_t datastore, struct text recorded_path);
// Tells the cache where a remote artifact was opened, so that the next ones can be fetched ahead.
void butler_tell_place(struct op *op, const struct file_node *n, const struct opened *opened);
int butler_neighbour(void *context, uint64_t series, int64_t position,
                     void (*give)(void *give_context, const struct object *object), void *give_context);
int butler_open_roots(struct butler *b, char **ret_why);
void butler_close_roots(struct butler *b);
int butler_find(struct op *op, const struct doc *request, struct doc *reply);

int butler_open_file(struct op *op);
int butler_read(struct op *op);
int butler_release(struct op *op);
void butler_adopt(struct space *s, uint64_t fh, const struct handle *h);
int butler_opendir(struct op *op);
int butler_readdir(struct op *op);
int butler_releasedir(struct op *op);
int butler_getxattr(struct op *op);
int butler_listxattr(struct op *op);
