// SPDX-License-Identifier: BSD-3-Clause
// options: the command line, `-o` list, configuration file and the environment variables that count,
// as one struct. Each option stands once, in the table in options.c (name, type, default, bounds,
// unit, help), from which --help is made and against which the manual page is checked.
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/log.h"

enum space_kind { SPACE_BUTLER, SPACE_S3, SPACE_HOME, SPACE_GROUP };

// One source shown in the mount. The ids and masks a space doesn't set are the mount's.
struct space_options {
    char *name;        // folder at the root of a configured mount; NULL: the space is the root
    enum space_kind kind;
    bool has_kind;     // it was said, not taken from the source's words
    char *source;      // as given; a local path is absolute and free of symlinks; a label is looked up
    int64_t refresh_ns, stale_ns;
    bool has_uid, has_gid, has_umask;
    uid_t uid;
    gid_t gid;
    mode_t umask;
    bool open_as_owner;
    char **artifact_roots; // NULL-terminated list of absolute paths; may be NULL
    // Of what is at s3:// and http(s):// (NULL: as environment and AWS's files have it)
    int64_t list_time_ns;  // how long a bucket's listing counts as true
    int64_t version_at_unix_ns; // a bucket as it was then; 0: as it is
    int64_t url_time_ns;   // how long a presigned URL may be good for; 0: none is given
    char *endpoint;
    char *region;
    char *profile;
    char *access_key, *secret_key, *session_token;
    char *ca_bundle;
    char *db_auth;         // logins at databases; NULL: as the environment has it
    bool anonymous;
    unsigned addressing;   // enum addressing
    unsigned write;        // enum space_write
    bool renames;
    char *storage_class, *encryption, *encryption_key;
    bool pays_requests;
    // What becomes of nearline objects
    unsigned recall;       // enum space_recall
    unsigned recall_tier;  // enum origin_tier
    uint32_t recall_days;
    // Of home and group spaces: what appears when it is looked for
    char *provision;       // whose: numbers, ranges.h; NULL: nobody's
    char *skeleton;        // what a new home is filled from
    bool has_home_mode;
    mode_t home_mode;
};

enum space_write { WRITE_OFF, WRITE_NEW, WRITE_REPLACE }; // of an S3 space
enum space_recall { SPACE_RECALL_OFF, SPACE_RECALL_EXPLICIT, SPACE_RECALL_READ };
enum addressing { ADDRESSING_AUTO, ADDRESSING_PATH, ADDRESSING_VIRTUAL };

struct options {
    char *source;      // for /proc/mounts (fsname): as it was said, with a path made absolute: umount(8), findmnt(8) and mount -a compare
    char *mountpoint;  // absolute, resolved
    bool foreground;
    bool fake;             // mount(8)'s -f: everything but the mount
    char *mount_namespace; // mount(8)'s -N: a file of /proc/PID/ns, or NULL
    bool is_daemon;    // started by the supervisor
    uint32_t life;     // which life of the daemon this is, from 1 (supervisor's word)
    int last_signal;   // that ended the last life; 0
    // mount
    bool is_remount;           // only the flags of a mount that stands are to change
    unsigned long mount_flags; // MS_*; with is_remount: those that were said
    unsigned long cleared_flags; // with is_remount: those that are to go
    bool allow_other;
    // ours
    char *config_file;
    char *cache_dir;          // absolute; default: see butlerfs(8)
    bool has_own_cache_dir;   // the default: the folders above it may have to be made
    int64_t catalogue_size_bytes;
    // bytes of objects: on disk, in memory, on the network
    int64_t cache_size_bytes, cache_reserve_bytes, cache_pinned_bytes, cache_scrub_bytes;
    uint32_t cache_files;
    // quotas of home and group spaces
    bool quota;
    char *ledger_dir;         // absolute; default: see butlerfs(8); NULL: no space writes
    bool has_own_ledger_dir;  // the default: the folders above it may have to be made
    int64_t quota_checkpoint_ns;
    int64_t quota_reserve_bytes;
    char *quota_exempt;       // "1001:1002", or NULL
    bool locks_below;         // locks are taken on the file system below, not kept by the kernel
    int64_t memory_bytes, readahead_bytes, folder_ahead_bytes;
    int64_t upload_memory_bytes, upload_part_bytes;
    uint32_t connections, fetcher_count;
    int64_t recall_wait_ns;   // how long a reader waits for what is nearline
    uint32_t recall_limit;    // so many are brought back at once because they were read
    char *repository_index;   // or NULL
    char *repositories;       // or NULL
    int64_t timeout_ns;       // the limit of any wait
    int64_t cache_time_ns;    // entry and attribute time-outs where the kernel can be told of changes
    uint32_t worker_count;
    uint32_t librarian_count; // per Butler space
    bool passthrough;         // wanted
    bool stack_over;          // overlayfs may be mounted over us (default); false: artifacts may be on overlayfs
    enum log_level log_level;
    struct space_options *spaces;
    uint32_t space_count;     // a bare mount has one, with no name
    bool is_configured;       // spaces are folders
};

// 0; -EINVAL etc. with *ret_why, one clear line; 1: --help or --version was answered on stdout.
// Reads the configuration file. Frees nothing on the way out: the process ends.
int options_parse(int argc, char **argv, struct options **ret_options, char **ret_why);
void options_free(struct options *o);
bool space_can_write(const struct space_options *s); // home and group
bool options_can_write(const struct options *o);     // any of its spaces
bool options_writes_objects(const struct options *o); // any of its S3 spaces
bool options_can_change(const struct options *o);    // any of both
// What the daemon is to be started with, after its own path: "--daemon" and everything that was
// resolved here, so that each of its lives begins with the same words whatever became of
// files and symlinks. NULL-terminated; options_arguments_free. Secrets, which `ps` would show, go into
// this process's environment, which the supervisor and every life of the daemon inherit.
char **options_daemon_arguments(const struct options *o);
void options_arguments_free(char **arguments);
