// SPDX-License-Identifier: BSD-3-Clause
// options: the command line, `-o` list, configuration file and the environment variables that count,
// as one struct. Each option stands once, in the table in options.c (name, type, default, bounds,
// unit, help), from which --help is made and against which the manual page is checked.
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/log.h"

enum space_kind { SPACE_BUTLER, SPACE_S3 };

// One source shown in the mount. The ids and masks a space doesn't set are the mount's.
struct space_options {
    char *name;        // folder at the root of a configured mount; NULL: the space is the root
    enum space_kind kind;
    bool has_kind;     // it was said, not taken from the source's words
    char *source;      // as given; a local path is absolute and free of symlinks; a label is looked up
    int64_t refresh_ns;
    bool has_uid, has_gid, has_umask;
    uid_t uid;
    gid_t gid;
    mode_t umask;
    bool open_as_owner;
    char **artifact_roots; // NULL-terminated list of absolute paths; may be NULL
};

struct options {
    char *source;      // for /proc/mounts (fsname)
    char *mountpoint;  // absolute, resolved
    bool foreground;
    bool fake;             // mount(8)'s -f: everything but the mount
    char *mount_namespace; // mount(8)'s -N: a file of /proc/PID/ns, or NULL
    bool is_daemon;    // started by the supervisor
    uint32_t life;     // which life of the daemon this is, from 1 (supervisor's word)
    int last_signal;   // that ended the last life; 0
    // mount
    unsigned long mount_flags; // MS_*
    bool allow_other;
    // ours
    char *config_file;
    char *cache_dir;          // absolute; default: see butlerfs(8)
    bool has_own_cache_dir;   // the default: the folders above it may have to be made
    int64_t catalogue_size_bytes;
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
// What the daemon is to be started with, after its own path: "--daemon" and everything that was
// resolved here, so that each of its lives begins with the same words whatever became of
// environment, files and symlinks. NULL-terminated; options_arguments_free.
char **options_daemon_arguments(const struct options *o);
void options_arguments_free(char **arguments);
