// SPDX-License-Identifier: BSD-3-Clause
// butler: a Butler repository as a space (private to fs/space/butler).
#pragma once
#include "cache/object.h"
#include "fs/space/space.h"

struct butler {
    struct space space;
    struct repository *repository;
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
    _Atomic uint64_t refused_log_ns; // when a refused artifact was last logged
};

static inline struct butler *butler_of(struct op *op)
{
    return (struct butler *)op->space;
}

// What the folder `node` means now. Fills op->want and op->repository where it must wait.
int butler_place(struct op *op, uint64_t node, struct place *ret_place);
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

int butler_open_file(struct op *op);
int butler_read(struct op *op);
int butler_release(struct op *op);
void butler_adopt(struct space *s, uint64_t fh, const struct handle *h);
int butler_opendir(struct op *op);
int butler_readdir(struct op *op);
int butler_releasedir(struct op *op);
int butler_getxattr(struct op *op);
int butler_listxattr(struct op *op);
