// SPDX-License-Identifier: BSD-3-Clause
// config: where a Butler repository's registry and datastores are, read as the Butler client reads
// it (butler.md section 1): repository index labels, a folder's butler.yaml, `root`, <butlerRoot>,
// defaults. Environment variables are never read here: what counts comes as an option.
#pragma once
#include <stdint.h>
#include <sys/types.h>

#include "base/buffer.h"
#include "meta/database_url.h"
#include "meta/said.h"

enum database_kind { DATABASE_SQLITE, DATABASE_POSTGRESQL };

struct datastore_config {
    char *name;          // as in dataset_location, unexpanded
    char *root;          // absolute path (local), or a URI of s3, http(s) or dav(s); no trailing slash
    bool is_local;
    char *records_table;
};

struct repository_config {
    char *source;        // as the user gave it
    char *yaml_path;     // absolute path of its butler.yaml, or a URI
    char *root;          // <butlerRoot>: absolute path or URI, no trailing slash
    enum database_kind database;
    char *database_path; // SQLite: absolute path of the file
    char *database_url;  // as configured, <butlerRoot> replaced
    struct database_url database_parts; // PostgreSQL: the same in parts, and what `registry` says besides
    struct database_login database_login; // PostgreSQL: where its logins are; the caller's to set, borrowed
    char *namespace_;    // PostgreSQL schema, or NULL
    struct datastore_config *datastores; // leaves, in order; in-memory ones are left out
    uint32_t datastore_count;
    struct said *said;   // SAID_KINDS, of the database's trouble, by all connections to it; may be NULL; allocated
    uid_t owner;         // of butler.yaml; a remote one is this process's, and for everybody to read
    gid_t group;
    mode_t mode;         // its permission bits
};

// Reads a small remote file for us; may wait. -errno with *ret_why.
struct remote_reader {
    int (*read)(void *context, const char *uri, struct buffer *to, char **ret_why);
    void *context;
};

// Where labels are looked up; either may be NULL, both is an error (as the client has it).
struct repository_index {
    const char *uri;   // DAF_BUTLER_REPOSITORY_INDEX: a path or file: URI of a YAML or JSON map
    const char *text;  // DAF_BUTLER_REPOSITORIES: the map itself
    const struct remote_reader *remote; // NULL: remote repositories are refused
};

// Where its butler.yaml is, without reading it: an absolute path or a URI, allocated.
int repository_locate(const char *source, const struct repository_index *index, char **ret_location,
                      char **ret_why);

// -errno with *ret_why: one clear line (what, which, why, what to do), allocated.
int repository_config_read(const char *source, const struct repository_index *index,
                           struct repository_config **ret_config, char **ret_why);
// The same of a butler.yaml's text, for tests: nothing is opened; owner, group and mode are 0.
int repository_config_parse(const char *yaml_path, struct text yaml,
                            struct repository_config **ret_config, char **ret_why);
void repository_config_free(struct repository_config *c); // NULL is fine

// PostgreSQL: where and as whom to connect now, logins looked up. Errors as database_login_find. The
// caller releases it.
int repository_database(const struct repository_config *c, struct database_url *ret_url, char **ret_why);
