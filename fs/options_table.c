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

#define OF_BUCKETS .kinds = OF_KIND(SPACE_S3)
#define OF_HOMES .kinds = OF_KIND(SPACE_HOME) | OF_KIND(SPACE_GROUP)

const struct option_row option_table[] = {
    // Ours.
    {.name = "config", .type = OPTION_PATH, .value = "FILE",
     .offset = offsetof(struct options, config_file),
     .help = "a mount of several named spaces, described in this YAML file; SOURCE is then only its name"},
    {.name = "space", .type = OPTION_KIND, .value = "KIND", .words = "butler|s3|home|group", .of_space = true,
     .offset = offsetof(struct space_options, kind),
     .help = "what SOURCE is, where its words don't say so"},
    {.name = "refresh", .type = OPTION_TIME, .value = "TIME", .standard = "1s", .min = "10ms", .max = "1d",
     SPACE_FIELD(refresh_ns), .help = "a change of the source is seen after at most this time"},
    {.name = "stale", .type = OPTION_TIME, .value = "TIME", .standard = "30s", .min = "0", .max = "1h",
     SPACE_FIELD(stale_ns), .help = "how long a listing that has changed may be shown while it is read again"},
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
     .help = "more places where artifacts may lie: folders, with open_as=owner, and s3:// or http(s):// URLs"},
    {.name = "provision", .type = OPTION_RANGES, .value = "ID[-ID][:...]", OF_HOMES, SPACE_FIELD(provision),
     .help = "of a home or group space: whose folders appear when they are first looked for, by the numbers of "
             "the users or groups they are named after (default: nobody's)"},
    {.name = "skeleton", .type = OPTION_PATH, .value = "DIR", .standard = "/etc/skel", OF_HOMES, SPACE_FIELD(skeleton),
     .help = "what a new home is filled from"},
    {.name = "home_mode", .type = OPTION_MODE, .value = "OCTAL", OF_HOMES, SPACE_FIELD(home_mode),
     .help = "the mode of such a folder (default: 0700, of a group's 2770)"},
    {.name = "list_time", .type = OPTION_TIME, .value = "TIME", .standard = "1min", .min = "0", .max = "7d",
     OF_BUCKETS, SPACE_FIELD(list_time_ns), .help = "how long what a bucket listed counts as true"},
    {.name = "version_at", .type = OPTION_INSTANT, .value = "INSTANT", OF_BUCKETS, SPACE_FIELD(version_at_unix_ns),
     .help = "show a bucket as it was at that time, by the versions that its server keeps; read-only"},
    {.name = "url_time", .type = OPTION_TIME, .value = "TIME", .standard = "7d", .min = "0", .max = "7d",
     SPACE_FIELD(url_time_ns), .help = "how long a URL of butlerfsctl may be good for; 0: none is given"},
    {.name = "endpoint", .type = OPTION_TEXT, .value = "URL", SPACE_FIELD(endpoint),
     .help = "where s3:// is served (default: as the profile, the environment or AWS has it)"},
    {.name = "region", .type = OPTION_TEXT, .value = "NAME", SPACE_FIELD(region), .help = "its region"},
    {.name = "profile", .type = OPTION_TEXT, .value = "NAME", SPACE_FIELD(profile),
     .help = "the profile of AWS's files to go by"},
    {.name = "access_key", .type = OPTION_TEXT, .value = "ID", SPACE_FIELD(access_key),
     .help = "credentials; better kept in AWS's files or the environment"},
    {.name = "secret_key", .type = OPTION_TEXT, .value = "SECRET", .is_secret = true, SPACE_FIELD(secret_key),
     .help = "the secret that belongs to access_key"},
    {.name = "session_token", .type = OPTION_TEXT, .value = "TOKEN", .is_secret = true,
     SPACE_FIELD(session_token), .help = "and the token, where they are temporary"},
    {.name = "anonymous", .type = OPTION_CHOICE, .value = "SWITCH", .words = "off|on", .standard = "off",
     SPACE_FIELD(anonymous), .help = "ask without credentials"},
    {.name = "addressing", .type = OPTION_WORD, .value = "STYLE", .words = "auto|path|virtual",
     .standard = "auto", SPACE_FIELD(addressing),
     .help = "where a bucket's name stands in a URL: in the path or the host"},
    {.name = "write", .type = OPTION_WORD, .value = "WHAT", .words = "off|new|replace", .standard = "off",
     OF_BUCKETS, SPACE_FIELD(write), .help = "of an S3 space: nothing, new objects (and deleting), or also other bytes for those there are"},
    {.name = "rename", .type = OPTION_CHOICE, .value = "HOW", .words = "off|copy", .standard = "off",
     OF_BUCKETS, SPACE_FIELD(renames),
     .help = "of an S3 space that is written to: refuse (EXDEV: mv copies by itself), or have the server copy and then "
             "delete, which isn't one step"},
    {.name = "storage_class", .type = OPTION_TEXT, .value = "NAME", OF_BUCKETS, SPACE_FIELD(storage_class),
     .help = "of the objects that are written (default: the bucket's)"},
    {.name = "sse", .type = OPTION_TEXT, .value = "NAME", OF_BUCKETS, SPACE_FIELD(encryption),
     .help = "how the server encrypts them: AES256, aws:kms, ... (default: as the bucket says)"},
    {.name = "sse_key", .type = OPTION_TEXT, .value = "ID", OF_BUCKETS, SPACE_FIELD(encryption_key),
     .help = "by which of its keys"},
    {.name = "requester_pays", .type = OPTION_CHOICE, .value = "SWITCH", .words = "off|on", .standard = "off",
     SPACE_FIELD(pays_requests), .help = "pay for requests to buckets whose owners don't"},
    {.name = "recall", .type = OPTION_WORD, .value = "WHEN", .words = "off|explicit|read", .standard = "read",
     SPACE_FIELD(recall), .help = "nearline objects are brought back, which costs: never, by butlerfsctl recall, or also when read"},
    {.name = "recall_days", .type = OPTION_COUNT, .value = "N", .standard = "3", .min = "1", .max = "365",
     SPACE_FIELD(recall_days), .help = "how long such a copy is kept"},
    {.name = "recall_tier", .type = OPTION_WORD, .value = "TIER", .words = "standard|bulk|expedited",
     .standard = "standard", SPACE_FIELD(recall_tier), .help = "how fast, and how dearly, they are brought back"},
    {.name = "ca_bundle", .type = OPTION_PATH, .value = "FILE", SPACE_FIELD(ca_bundle),
     .help = "certificates to trust, in place of the system's"},
    {.name = "db_auth", .type = OPTION_PATH, .value = "FILE", SPACE_FIELD(db_auth),
     .help = "logins at databases (default: as the environment has it, else ~/.lsst/db-auth.yaml)"},
    {.name = "cache_dir", .type = OPTION_PATH, .value = "DIR", MOUNT_FIELD(cache_dir),
     .help = "where what is known of the sources is kept, one mount each (default: one's own below "
             "/var/cache/butlerfs for root, else below $XDG_CACHE_HOME or ~/.cache)"},
    {.name = "catalogue_size", .type = OPTION_SIZE, .value = "BYTES", .standard = "8G", .min = "64M", .max = "16T",
     MOUNT_FIELD(catalogue_size_bytes), .help = "the most that the names known may take in cache_dir"},
    {.name = "cache_size", .type = OPTION_SIZE, .value = "BYTES", .standard = "32G", .min = "0", .max = "1024T",
     MOUNT_FIELD(cache_size_bytes), .help = "the most that bytes of objects may take in cache_dir; 0: none"},
    {.name = "cache_files", .type = OPTION_COUNT, .value = "N", .standard = "1000000", .min = "1",
     .max = "100000000", MOUNT_FIELD(cache_files), .help = "the most objects that may be kept there"},
    {.name = "cache_reserve", .type = OPTION_SIZE, .value = "BYTES", .standard = "1G", .min = "0",
     .max = "1024T", MOUNT_FIELD(cache_reserve_bytes), .help = "left free on the disk of cache_dir"},
    {.name = "cache_pinned", .type = OPTION_SIZE, .value = "BYTES", .standard = "16G", .min = "0",
     .max = "1024T", MOUNT_FIELD(cache_pinned_bytes), .help = "the most that may be pinned"},
    {.name = "cache_scrub", .type = OPTION_SIZE, .value = "BYTES", .standard = "8M", .min = "0", .max = "16G",
     MOUNT_FIELD(cache_scrub_bytes), .help = "of the slow check of what is kept, a second; 0: none"},
    {.name = "quota", .type = OPTION_CHOICE, .value = "SWITCH", .words = "off|on", .standard = "on",
     MOUNT_FIELD(quota), .help = "count what is used of home and group spaces, and hold limits"},
    {.name = "ledger_dir", .type = OPTION_PATH, .value = "DIR", MOUNT_FIELD(ledger_dir),
     .help = "where limits and usage are kept for good, one mount each (default: one of these trees' own below "
             "/var/lib/butlerfs)"},
    {.name = "quota_checkpoint", .type = OPTION_TIME, .value = "TIME", .standard = "10s", .min = "10ms", .max = "1h",
     MOUNT_FIELD(quota_checkpoint_ns), .help = "how often usage is written down against a power cut"},
    {.name = "quota_exempt", .type = OPTION_USERS, .value = "USER[:USER]", MOUNT_FIELD(quota_exempt),
     .help = "accounts that may go beyond any limit, besides root"},
    {.name = "quota_reserve", .type = OPTION_SIZE, .value = "BYTES", .standard = "0", .min = "0", .max = "1T",
     MOUNT_FIELD(quota_reserve_bytes),
     .help = "room beyond hard limits for what begins with a dot in homes, so that who is over may log in"},
    {.name = "locks", .type = OPTION_CHOICE, .value = "WHERE", .words = "kernel|backing", .standard = "kernel",
     MOUNT_FIELD(locks_below),
     .help = "kernel: locks are seen by all who use this mount; backing: also by others who have the tree, on other machines"},
    {.name = "memory", .type = OPTION_SIZE, .value = "BYTES", .standard = "64M", .min = "4M", .max = "1T",
     MOUNT_FIELD(memory_bytes), .help = "for bytes of objects on their way to readers"},
    {.name = "upload_memory", .type = OPTION_SIZE, .value = "BYTES", .standard = "256M", .min = "16M", .max = "1T",
     MOUNT_FIELD(upload_memory_bytes), .help = "for bytes of objects on their way to buckets, and 5 MiB for each that is open"},
    {.name = "upload_part", .type = OPTION_SIZE, .value = "BYTES", .standard = "16M", .min = "5M", .max = "5G",
     MOUNT_FIELD(upload_part_bytes), .help = "of an object that is sent in parts, of which it may have 10,000"},
    {.name = "readahead", .type = OPTION_SIZE, .value = "BYTES", .standard = "64M", .min = "0", .max = "16G",
     MOUNT_FIELD(readahead_bytes), .help = "the most that is fetched ahead of one reader"},
    {.name = "folder_ahead", .type = OPTION_SIZE, .value = "BYTES", .standard = "256M", .min = "0",
     .max = "16G", MOUNT_FIELD(folder_ahead_bytes),
     .help = "the most that is fetched of files not opened yet, where files are read in order"},
    {.name = "connections", .type = OPTION_COUNT, .value = "N", .standard = "64", .min = "1", .max = "4096",
     MOUNT_FIELD(connections), .help = "the most connections to one endpoint"},
    {.name = "fetchers", .type = OPTION_COUNT, .value = "N", .standard = "2", .min = "1", .max = "64",
     MOUNT_FIELD(fetcher_count), .help = "threads that talk to endpoints"},
    {.name = "recall_limit", .type = OPTION_COUNT, .value = "N", .standard = "16", .min = "1", .max = "1024",
     MOUNT_FIELD(recall_limit), .help = "the most nearline objects that are brought back at once because they were read"},
    {.name = "recall_wait", .type = OPTION_TIME, .value = "TIME", .standard = "30s", .min = "0", .max = "7d",
     MOUNT_FIELD(recall_wait_ns), .help = "how long who reads a nearline object waits for it; then EAGAIN"},
    {.name = "repository_index", .type = OPTION_URI, .value = "URI", .environment = "DAF_BUTLER_REPOSITORY_INDEX",
     MOUNT_FIELD(repository_index), .help = "file that says which repository a label is"},
    {.name = "repositories", .type = OPTION_TEXT, .value = "JSON", .environment = "DAF_BUTLER_REPOSITORIES",
     MOUNT_FIELD(repositories), .help = "the same as text: {\"label\": \"URI\"}"},
    {.name = "timeout", .type = OPTION_TIME, .value = "TIME", .standard = "30s", .min = "100ms", .max = "1h",
     MOUNT_FIELD(timeout_ns), .help = "the limit of any wait; then ETIMEDOUT"},
    {.name = "cache_time", .type = OPTION_TIME, .value = "TIME", .standard = "1h", .min = "0", .max = "7d",
     MOUNT_FIELD(cache_time_ns),
     .help = "how long the kernel keeps names where it can be told of changes"},
    {.name = "workers", .type = OPTION_COUNT, .value = "N", .standard = "8", .min = "4", .max = "128",
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
    REFUSED("remount", "only a command's -o may say it, to change ro, nosuid and the like of a mount that stands"),
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
