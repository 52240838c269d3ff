// SPDX-License-Identifier: BSD-3-Clause
// s3: a bucket, or a prefix of one, as a space (private to fs/space/s3). Read, and written to where options say so.
#pragma once
#include "cache/origin/origin.h"
#include "fs/space/space.h"

struct s3_space {
    struct space space;
    struct origin *origin;
    struct bucket *bucket;
    uid_t uid;
    gid_t gid;
    mode_t file_mode, folder_mode; // permission bits
    uint64_t ino_seed;
    struct cache_neighbours neighbours; // objects by their place in a folder
    struct lock writings_lock;
    struct writing *writings;           // files that are being written; under that lock
};

static inline struct s3_space *s3_space_of(struct op *op)
{
    return (struct s3_space *)op->space;
}

// The folder of `node`. Fills op->bucket_want where it must wait. bucket_place_release().
int s3_space_place(struct op *op, uint64_t node, struct bucket_place *ret_place);
// For what is to be made: the place of `folder`, the raw name that `name` stands for there, and what has it already. -ENOENT:
// nothing has; the place is to be released then, too. -ESTALE: the folder is gone.
int s3_space_new_entry(struct op *op, uint64_t folder, struct text name, struct bucket_place *ret_place,
                       struct buffer *raw, struct bucket_entry *ret_entry, struct buffer *scratch);
// What a file node stands for now: its folder and entry, whose texts are in `scratch`.
// -ESTALE: it is not there any more.
int s3_space_entry(struct op *op, const struct file_node *n, struct bucket_place *ret_place,
             struct bucket_entry *ret_entry, struct buffer *scratch);
// The entry as an object of the cache; its key is put into *key.
void s3_space_object(const struct s3_space *s, const struct bucket_place *p, const struct bucket_entry *e,
               struct buffer *key, struct object *ret_object);

void s3_space_folder_attr(const struct s3_space *s, uint64_t ino, struct fs_attr *ret_attr);
void s3_space_attr(const struct s3_space *s, const struct bucket_place *p, const struct bucket_entry *e,
             uint64_t parent_ino, struct fs_attr *ret_attr);
void s3_space_file_attr(const struct s3_space *s, const struct file_node *n, struct fs_attr *ret_attr);
// Finds or makes the node of an entry of folder `parent`, counting one look-up; *attr becomes the node's.
uint64_t s3_space_node(struct op *op, uint64_t parent, const struct bucket_place *p, const struct bucket_entry *e,
                 struct fs_attr *attr);
// An object's file is known by its key, wherever it is: by this.
void s3_space_object_id(const struct bucket_place *p, const struct bucket_entry *e, uint8_t ret_id[16]);
// No name leads to the entry's node any more. The kernel takes a node along when it renames it, but this one is its old
// key's: the new name is looked up again when it is opened.
void s3_space_leave_node(const struct s3_space *s, const struct bucket_place *p, const struct bucket_entry *e);

// Tells the cache where in its folder an object was opened, so that the next ones can be fetched ahead.
void s3_space_tell_place(struct op *op, struct bucket_place *p, const struct bucket_entry *e, struct cached *cached);
int s3_space_neighbour(void *context, uint64_t series, int64_t position,
                       void (*give)(void *give_context, const struct object *object), void *give_context);

int s3_space_open(struct op *op);
int s3_space_read(struct op *op);
int s3_space_find_object(struct op *op, const struct file_node *n, struct found_object *ret_found);
int s3_space_opendir(struct op *op);
int s3_space_readdir(struct op *op);
int s3_space_releasedir(struct op *op);
void s3_space_adopt(struct space *s, uint64_t fh, const struct handle *h);
int s3_space_getxattr(struct op *op);
int s3_space_listxattr(struct op *op);

// ---- of a space that is written to

// write.c. A file whose last close is being worked on, of that name or (raw.data NULL) any in the folder, is waited for:
// -EINPROGRESS; 0: there is none.
int s3_space_wait_for_release(struct op *op, const struct bucket_place *p, struct text raw);
// Nothing comes of what is being written under that name. false: nothing is.
bool s3_space_give_up_writing(struct s3_space *s, const struct bucket_place *p, struct text raw);
// The name is about to be another's. -EBUSY: it is being written; who still has open what is whole writes to it no more.
int s3_space_end_writing(struct s3_space *s, const struct bucket_place *p, struct text raw);
bool s3_space_is_writer_of(struct s3_space *s, uint64_t node);
// The node of a file that is being written under that name, one look-up counted; 0: there is none.
uint64_t s3_space_lookup_writing(struct op *op, const struct bucket_place *p, struct text raw, struct file_node *ret_node);
// What was opened (by the op's handle, if it has one) to be written anew is empty now. -EOPNOTSUPP: nobody has it open so.
int s3_space_truncate(struct op *op);
int s3_space_create(struct op *op);
int s3_space_open_to_write(struct op *op);
int s3_space_write(struct op *op);
int s3_space_flush(struct op *op);
int s3_space_fsync(struct op *op);
int s3_space_release(struct op *op);
// change.c
int s3_space_unlink(struct op *op);
int s3_space_mkdir(struct op *op);
int s3_space_rmdir(struct op *op);
int s3_space_rename(struct op *op);
int s3_space_setattr(struct op *op);
int s3_space_new_object(struct op *op, struct text name, struct found_object *ret_found);
int s3_space_refuse(struct op *op); // EOPNOTSUPP
int s3_space_forbid(struct op *op); // EPERM
