// SPDX-License-Identifier: BSD-3-Clause
// space: one source as a part of the mount: a Butler repository, a bucket, later a home tree; and the
// root of a configured mount, whose entries are the others. The verbs are FUSE's own, each running an
// op (op.h): 0 when it replied, -EINPROGRESS to be run again when op->source has brought what it waits
// for, -errno.
// Verbs may be called by any worker or librarian at any time, several at once.
#pragma once
#include "base/doc.h"
#include "fs/fs.h"
#include "meta/ledger.h"

// The object behind a file, as the cache has it; texts are in the buffers. found_object_release().
struct found_object {
    struct object object;
    bool is_member;        // the file is a member of it
    struct buffer key, version, validator, checksum;
};
void found_object_release(struct found_object *f);

struct space_ops {
    const char *kind;
    void (*free)(struct space *s);
    int (*lookup)(struct op *op);     // op->node, op->name
    int (*getattr)(struct op *op);    // op->node
    int (*readlink)(struct op *op);
    int (*open)(struct op *op);       // op->flags
    int (*read)(struct op *op);       // op->fh, offset, size
    int (*release)(struct op *op);    // op->fh
    int (*opendir)(struct op *op);
    int (*readdir)(struct op *op);    // op->fh, offset, size, is_plus
    int (*releasedir)(struct op *op);
    int (*getxattr)(struct op *op);   // op->name, size; "user." names only (see has_acls)
    int (*listxattr)(struct op *op);  // op->size
    // What changes something (op->change): NULL: EROFS. Of homes they never answer -EINPROGRESS.
    int (*setattr)(struct op *op);
    int (*create)(struct op *op);     // op->name, flags
    int (*tmpfile)(struct op *op);    // op->flags
    int (*mknod)(struct op *op);
    int (*mkdir)(struct op *op);
    int (*symlink)(struct op *op);
    int (*link)(struct op *op);       // op->node, to change.to_node under change.to_name
    int (*unlink)(struct op *op);
    int (*rmdir)(struct op *op);
    int (*rename)(struct op *op);     // op->flags: RENAME_*
    int (*write)(struct op *op);      // op->fh, offset, size
    int (*fsync)(struct op *op);      // op->fh
    int (*fsyncdir)(struct op *op);   // op->fh
    int (*fallocate)(struct op *op);  // op->fh, offset, size, flags: FALLOC_FL_*
    int (*copy)(struct op *op);       // op->fh, offset to change.to_fh, to_offset; size
    int (*seek)(struct op *op);       // op->fh, offset, flags: SEEK_DATA, SEEK_HOLE
    int (*setxattr)(struct op *op);   // op->name, flags: XATTR_*
    int (*removexattr)(struct op *op);
    int (*lock)(struct op *op);       // op->fh, lock: where the kernel doesn't keep locks itself (locks=backing)
    int (*flush)(struct op *op);      // op->fh, lock.owner: a descriptor is closed
    int (*statfs)(struct op *op);     // NULL: the mount has no size
    int (*tree)(struct op *op, uint64_t *ret_tree); // the folder's number, as one with a limit of its own
    // Whether that limit is a user's business: the folder at `path` below the space's root is his, a group's of his, or in
    // one that is, or open to all for writing. `groups`: all of his.
    bool (*tree_is_for)(struct space *s, struct text path, uid_t uid, const gid_t *groups, int group_count);
    // What the ledger asks of who changes things (meta/ledger.h).
    int (*ledger_look)(struct space *s, const struct ledger_change *c, struct ledger_file *ret_file,
                       struct ledger_charge *ret_charge);
    int (*ledger_walk)(struct space *s, struct ledger_count *count);
    int (*ledger_sync)(struct space *s);
    bool has_acls;                    // system.posix_acl_* are asked of it
    void (*enter)(void);              // before each verb, on its thread
    void (*forget)(struct space *s, uint64_t node); // the kernel forgot (some of) its look-ups
    int (*start)(struct space *s);    // once everything is open that it stands on; NULL: nothing to start
    // Makes the folder of this user or group, by an administrator's order. -EEXIST, -ENOENT, -EPERM, -ETIMEDOUT.
    int (*provision)(struct space *s, struct text name);
    // Users' verbs about the folder op->node (control.h, `run_at`).
    int (*explain)(struct op *op, const struct doc *request, struct doc *reply);
    // -EOPNOTSUPP: it is a local file.
    int (*object)(struct op *op, const struct file_node *n, struct found_object *ret_found);
    // What an entry of that name in op->node would be, if the caller made it; NULL: nothing can be made there by others.
    // -EACCES, -EEXIST, -EINVAL: he can't.
    int (*new_object)(struct op *op, struct text name, struct found_object *ret_found);
    int (*find)(struct op *op, const struct doc *request, struct doc *reply);
    // The space's root as an entry of a configured mount.
    void (*root_attr)(struct space *s, struct fs_attr *ret_attr);
    uint64_t (*fresh)(struct space *s); // for op->fresh
    // How long the kernel may keep names and attributes, where the space must say less than the mount.
    double (*timeout_s)(struct space *s);
    void (*status)(struct space *s, struct doc *map);
    void (*refresh)(struct space *s);
    void (*hurry)(struct space *s); // now and then, as long as requests are parked: who has waited enough
    // After a take-over: what the process must hold for a handle of an earlier life.
    void (*adopt)(struct space *s, uint64_t fh, const struct handle *h);
};

struct space {
    const struct space_ops *ops;
    uint16_t number;
    struct fs *fs;
    const struct space_options *options; // NULL: the root of a configured mount
    double timeout_s;                    // set by fs_settle
};

// Opens a Butler space. -errno with *ret_why.
int space_open_butler(struct fs *fs, uint16_t number, const struct space_options *options,
                      struct catalogue *catalogue, struct space **ret_space, char **ret_why);
// The same of home folders and of group spaces, a tree below options->source.
int space_open_home(struct fs *fs, uint16_t number, const struct space_options *options,
                    struct space **ret_space, char **ret_why);
int space_check_home(const struct space_options *s, char **ret_why);
// The same of an S3 space.
int space_open_s3(struct fs *fs, uint16_t number, const struct space_options *options,
                  struct catalogue *catalogue, struct space **ret_space, char **ret_why);
// Whether it can be listed, with these credentials: -errno with one line that has the server's reason.
int space_check_s3(struct fetchers *fetchers, const struct options *o, const struct space_options *s,
                   char **ret_why);
// Of a repository's datastores that aren't local.
int space_check_datastores(struct fetchers *fetchers, const struct options *o, const struct space_options *s,
                           const struct repository_config *config, char **ret_why);
struct space *space_new_root(struct fs *fs);
