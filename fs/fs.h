// SPDX-License-Identifier: BSD-3-Clause
// fs: what serves one mount's requests: the handlers of libfuse's low-level API, and what they share.
// A handler makes an op, finds the node's space and lets it answer; errors become FUSE replies in op.c
// alone. Read-only archive spaces leave the writing verbs NULL: EROFS.
#pragma once
#include <fuse_lowlevel.h>
#include <stdatomic.h>

#include "base/lock.h"
#include "fs/op.h"
#include "fs/options.h"
#include "fs/session.h"
#include "fs/state.h"
#include "cache/archive.h"
#include "cache/cache.h"
#include "cache/upload.h"
#include "meta/bucket.h"
#include "meta/repository.h"

struct space;
struct writing;

// What the process (not the state) holds of an open handle.
struct local_handle {
    uint64_t fh;             // whose this is; 0: nobody's
    int fd;                  // of a file open in cached mode; -1
    uint64_t inode;          // of a home's file below
    struct archive_reader *reader; // where that is an archive and the file a member of it; NULL
    struct cached *cached;   // of an object at another origin; NULL
    struct writing *writing; // of an S3 space's file that is being written; NULL
    bool has_listing;
    union {
        struct listing listing;              // of a folder of a Butler space
        struct bucket_listing bucket_listing; // of an S3 space
    };
    uint16_t space;
};

struct fs {
    const struct options *options;
    struct state *state;
    struct session *_Atomic session; // NULL until INIT was answered
    struct park *park;
    struct archives *archives;   // zip archives that were used last
    struct fetchers *fetchers;   // of all spaces
    struct cache *cache;         // of objects at other origins
    struct parking *parking;     // files without a name, over a death (parking.h); NULL: they don't outlive it
    struct uploads *uploads;     // of objects that are written
    struct ledger *ledger;       // of home and group spaces; NULL: nothing is counted
    struct space **spaces;       // by number; [0] is the mount's root
    uint16_t space_count;
    int64_t start_ns;
    bool can_passthrough;        // by privilege and option; the kernel's word is in is_passthrough
    const char *passthrough_why; // when it is off: a static string
    atomic_bool is_passthrough;
    bool can_change_ids;
    double timeout_s;            // how long the kernel may keep names and attributes
    // user verbs, answered by ioctl
    const struct control_verb *verbs;
    void *verbs_context;
    struct lock handles_lock;    // LOCK_RANK_HANDLE
    struct local_handle **handles; // chunks, by handle index
    uint32_t handle_chunks;
};

extern const struct fuse_lowlevel_ops fs_ops;

// After the session is open (INIT answered): time-outs by what the kernel can do.
void fs_settle(struct fs *fs);

// The process's part of a handle: copies under the lock. false: nothing is held for fh.
bool fs_local_get(struct fs *fs, uint64_t fh, struct local_handle *ret_copy);
void fs_local_put(struct fs *fs, uint64_t fh, const struct local_handle *local);
// Puts it unless an open file is held for fh already; false leaves *local the caller's.
bool fs_local_put_first(struct fs *fs, uint64_t fh, const struct local_handle *local);
// To be called before the state's handle is closed: then fh may be another's, whose part takes the place of this one.
bool fs_local_take(struct fs *fs, uint64_t fh, struct local_handle *ret_was);

// Replies shared by the spaces.
struct fs_attr {
    mode_t mode;
    uid_t uid;
    gid_t gid;
    uint64_t ino;
    int64_t size_bytes;
    int64_t mtime_unix_ns;
};
void fs_stat(const struct fs_attr *a, struct stat *ret_stat);
int fs_reply_entry(struct op *op, uint64_t node, const struct fs_attr *a);
// -ENOENT: the caller was interrupted: the kernel will not release it; its look-up is taken back.
int fs_reply_create(struct op *op, uint64_t node, const struct fs_attr *a, const struct fuse_file_info *fi);
int fs_reply_negative(struct op *op); // ENOENT that the kernel may remember
int fs_reply_attr(struct op *op, const struct fs_attr *a);
// To GETATTR or STATX. `birth` NULL: not known.
int fs_reply_stat(struct op *op, const struct stat *st, const struct timespec *birth);

// A folder being given to the kernel.
struct dirent_buffer {
    struct op *op;
    char *data;
    size_t size_bytes, room_bytes;
};
// false: no room. node 0: the name only.
bool fs_dirent(struct dirent_buffer *b, const char *name, uint64_t cookie, const struct fs_attr *a,
               uint64_t (*node)(void *context, struct fs_attr *a), void *context);
