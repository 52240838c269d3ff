// SPDX-License-Identifier: BSD-3-Clause
// config: where a Butler repository's registry and datastores are, read as the Butler client reads
// it (butler.md section 1): repository index labels, a folder's butler.yaml, `root`, <butlerRoot>,
// defaults. Environment variables are never read here: what counts comes as an option.
#pragma once
#include <stdint.h>
#include <sys/types.h>

#include "base/text.h"

enum database_kind { DATABASE_SQLITE, DATABASE_POSTGRESQL };

struct datastore_config {
    char *name;          // as in dataset_location, unexpanded
    char *root;          // absolute path (local), or a URI
    bool is_local;
    char *records_table;
};

struct repository_config {
    char *source;        // as the user gave it
    char *yaml_path;     // absolute path of its butler.yaml
    char *root;          // <butlerRoot>: absolute path, no trailing slash
    enum database_kind database;
    char *database_path; // SQLite: absolute path of the file
    char *database_url;  // as configured, <butlerRoot> replaced
    char *namespace_;    // PostgreSQL schema, or NULL
    struct datastore_config *datastores; // leaves, in order; in-memory ones are left out
    uint32_t datastore_count;
    uid_t owner;         // of butler.yaml
    gid_t group;
    mode_t mode;         // its permission bits
};

// Where labels are looked up; either may be NULL, both is an error (as the client has it).
struct repository_index {
    const char *uri;   // DAF_BUTLER_REPOSITORY_INDEX: a path or file: URI of a YAML or JSON map
    const char *text;  // DAF_BUTLER_REPOSITORIES: the map itself
};

// -errno with *ret_why: one clear line (what, which, why, what to do), allocated.
int repository_config_read(const char *source, const struct repository_index *index,
                           struct repository_config **ret_config, char **ret_why);
// The same of a butler.yaml's text, for tests: nothing is opened; owner, group and mode are 0.
int repository_config_parse(const char *yaml_path, struct text yaml,
                            struct repository_config **ret_config, char **ret_why);
void repository_config_free(struct repository_config *c); // NULL is fine
