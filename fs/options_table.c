// SPDX-License-Identifier: BSD-3-Clause
// options_table: what may be said to butlerfs. An option stands here once, and nowhere else.
#include "fs/options_table.h"

#include <stddef.h>
#include <strings.h>
#include <sys/mount.h>

#ifndef MS_NOSYMFOLLOW
#define MS_NOSYMFOLLOW 256
#endif

#define FLAG(word, opposite, ms)                                                                   \
    {.name = word, .type = OPTION_FLAG, .bit = ms, .on = true},                                    \
    {                                                                                              \
        .name = opposite, .type = OPTION_FLAG, .bit = ms, .on = false                              \
    }
#define IGNORED(word)                                                                              \
    {                                                                                              \
        .name = word, .type = OPTION_IGNORED                                                       \
    }
#define REFUSED(word, reason)                                                                      \
    {                                                                                              \
        .name = word, .type = OPTION_REFUSED, .help = reason                                       \
    }
#define MOUNT_FIELD(field) .in_file = true, .offset = offsetof(struct options, field)
#define SPACE_FIELD(field)                                                                         \
    .in_file = true, .of_space = true, .offset = offsetof(struct space_options, field)

const struct option_row option_table[] = {
    // Ours.
    {.name = "config", .type = OPTION_PATH, .value = "FILE",
     .offset = offsetof(struct options, config_file),
     .help = "a mount of several named spaces, described in this YAML file; SOURCE is then only its name"},
    {.name = "space", .type = OPTION_KIND, .value = "KIND", .words = "butler|s3", .of_space = true,
     .offset = offsetof(struct space_options, kind),
     .help = "what SOURCE is, where its words don't say so"},
    {.name = "refresh", .type = OPTION_TIME, .value = "TIME", .standard = "1s", .min = "10ms", .max = "1d",
     SPACE_FIELD(refresh_ns), .help = "a change of the source is seen after at most this time"},
    {.name = "uid", .type = OPTION_USER, .value = "USER", SPACE_FIELD(uid),
     .help = "owner of all files, a name or number (default: butler.yaml's)"},
    {.name = "gid", .type = OPTION_GROUP, .value = "GROUP", SPACE_FIELD(gid),
     .help = "group of all files, a name or number (default: butler.yaml's)"},
    {.name = "umask", .type = OPTION_UMASK, .value = "OCTAL", SPACE_FIELD(umask),
     .help = "permission bits that no file has (default: as butler.yaml's own mode)"},
    {.name = "open_as", .type = OPTION_CHOICE, .value = "WHO", .words = "caller|owner", .standard = "caller",
     SPACE_FIELD(open_as_owner),
     .help = "whose rights open an artifact: the caller's, or butlerfs's own, then only below the "
             "datastore's roots and artifact_roots"},
    {.name = "artifact_roots", .type = OPTION_PATHS, .value = "DIR[:DIR]", SPACE_FIELD(artifact_roots),
     .help = "more folders where artifacts may lie, with open_as=owner"},
    {.name = "cache_dir", .type = OPTION_PATH, .value = "DIR", MOUNT_FIELD(cache_dir),
     .help = "where what is known of the sources is kept, one mount each (default: one's own below "
             "/var/cache/butlerfs for root, else below $XDG_CACHE_HOME or ~/.cache)"},
    {.name = "catalogue_size", .type = OPTION_SIZE, .value = "BYTES", .standard = "8G", .min = "64M", .max = "16T",
     MOUNT_FIELD(catalogue_size_bytes), .help = "the most that the names known may take in cache_dir"},
    {.name = "repository_index", .type = OPTION_URI, .value = "URI", .environment = "DAF_BUTLER_REPOSITORY_INDEX",
     MOUNT_FIELD(repository_index), .help = "file that says which repository a label is"},
    {.name = "repositories", .type = OPTION_TEXT, .value = "JSON", .environment = "DAF_BUTLER_REPOSITORIES",
     MOUNT_FIELD(repositories), .help = "the same as text: {\"label\": \"URI\"}"},
    {.name = "timeout", .type = OPTION_TIME, .value = "TIME", .standard = "30s", .min = "100ms", .max = "1h",
     MOUNT_FIELD(timeout_ns), .help = "the limit of any wait; then ETIMEDOUT"},
    {.name = "cache_time", .type = OPTION_TIME, .value = "TIME", .standard = "1h", .min = "0", .max = "7d",
     MOUNT_FIELD(cache_time_ns),
     .help = "how long the kernel keeps names where it can be told of changes"},
    {.name = "workers", .type = OPTION_COUNT, .value = "N", .standard = "8", .min = "4", .max = "256",
     MOUNT_FIELD(worker_count), .help = "threads that answer the kernel"},
    {.name = "librarians", .type = OPTION_COUNT, .value = "N", .standard = "2", .min = "1", .max = "64",
     MOUNT_FIELD(librarian_count), .help = "threads and connections per registry"},
    {.name = "passthrough", .type = OPTION_CHOICE, .value = "SWITCH", .words = "off|on", .standard = "on",
     MOUNT_FIELD(passthrough), .help = "let the kernel read local artifacts by itself where it can"},
    {.name = "stack", .type = OPTION_CHOICE, .value = "WHERE", .words = "under|over", .standard = "over",
     MOUNT_FIELD(stack_over),
     .help = "over: overlayfs may be mounted over this mount; under: artifacts on an overlayfs are "
             "read by the kernel itself"},
    {.name = "log_level", .type = OPTION_LEVEL, .value = "LEVEL", .standard = "info",
     .words = "error|warn|info|debug", MOUNT_FIELD(log_level), .help = "what is logged"},
    // Of mounts in general.
    {.name = "allow_other", .type = OPTION_SWITCH, .on = true, MOUNT_FIELD(allow_other),
     .help = "others than who mounts may look in (default for root)"},
    {.name = "noallow_other", .type = OPTION_SWITCH, .on = false, MOUNT_FIELD(allow_other),
     .help = "they may not"},
    FLAG("ro", "rw", MS_RDONLY),
    FLAG("nosuid", "suid", MS_NOSUID),
    FLAG("nodev", "dev", MS_NODEV),
    FLAG("noexec", "exec", MS_NOEXEC),
    FLAG("noatime", "atime", MS_NOATIME),
    FLAG("nodiratime", "diratime", MS_NODIRATIME),
    FLAG("relatime", "norelatime", MS_RELATIME),
    FLAG("strictatime", "nostrictatime", MS_STRICTATIME),
    FLAG("sync", "async", MS_SYNCHRONOUS),
    FLAG("nosymfollow", "symfollow", MS_NOSYMFOLLOW),
    {.name = "dirsync", .type = OPTION_FLAG, .bit = MS_DIRSYNC, .on = true},
    // What mount(8), fstab and autofs say among themselves.
    IGNORED("defaults"), IGNORED("_netdev"), IGNORED("nofail"), IGNORED("auto"), IGNORED("noauto"),
    IGNORED("user"), IGNORED("nouser"), IGNORED("users"), IGNORED("nousers"), IGNORED("owner"),
    IGNORED("noowner"), IGNORED("group"), IGNORED("nogroup"), IGNORED("comment"), IGNORED("uhelper"),
    IGNORED("helper"), IGNORED("mand"), IGNORED("nomand"), IGNORED("lazytime"), IGNORED("nolazytime"),
    IGNORED("iversion"), IGNORED("noiversion"), IGNORED("silent"), IGNORED("loud"),
    IGNORED("default_permissions"), IGNORED("nonempty"), IGNORED("fstype"),
    REFUSED("remount", "a mount's options can't be changed while it stands: unmount and mount again"),
    REFUSED("allow_root", "there is no such half: say allow_other"),
    REFUSED("auto_unmount", "there is no need: a daemon that ends is started again or leaves ENOTCONN"),
    REFUSED("fd", "a descriptor that is mounted already is not taken yet"),
    {.name = NULL},
};

const struct option_row *option_find(struct text name)
{
    if (text_begins(name, TEXT("x-")) || text_begins(name, TEXT("X-"))) {
        static const struct option_row for_others = IGNORED("x-");
        return &for_others;
    }
    for (const struct option_row *option = option_table; option->name; option++)
        if (text_equal(name, text_of(option->name)))
            return option;
    return NULL;
}

// How many letters must be put, taken out, changed or swapped with a neighbour.
static unsigned word_distance(struct text a, struct text b)
{
    unsigned row[3][32] = {};
    for (unsigned j = 0; j <= b.size_bytes; j++)
        row[0][j] = j;
    for (unsigned i = 1; i <= a.size_bytes; i++) {
        unsigned *now = row[i % 3], *last = row[(i + 2) % 3], *before = row[(i + 1) % 3];
        now[0] = i;
        for (unsigned j = 1; j <= b.size_bytes; j++) {
            unsigned best = last[j - 1] + (a.data[i - 1] != b.data[j - 1]);
            if (last[j] + 1 < best)
                best = last[j] + 1;
            if (now[j - 1] + 1 < best)
                best = now[j - 1] + 1;
            if (i > 1 && j > 1 && a.data[i - 1] == b.data[j - 2] && a.data[i - 2] == b.data[j - 1] &&
                before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            now[j] = best;
        }
    }
    return row[a.size_bytes % 3][b.size_bytes];
}

const char *option_suggest(struct text name)
{
    const char *nearest = NULL;
    unsigned distance = name.size_bytes < 5 ? 2 : 3; // must be below
    if (name.size_bytes > 30)
        return NULL;
    for (const struct option_row *option = option_table; option->name; option++) {
        struct text candidate = text_of(option->name);
        unsigned d = word_distance(name, candidate);
        if (d < distance) {
            distance = d;
            nearest = option->name;
        }
    }
    return nearest;
}
