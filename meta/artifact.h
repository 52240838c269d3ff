// SPDX-License-Identifier: BSD-3-Clause
// artifact: from a record's `path` to where the bytes are (butler.md section 6, "Resolving `path`").
// What a record says is outside input: a relative path that leaves its root is refused; `$VAR` and
// `~` are literal. Pure; any thread.
#pragma once
#include "base/buffer.h"
#include "meta/config.h"

enum artifact_scheme { ARTIFACT_FILE, ARTIFACT_OTHER };

struct artifact {
    enum artifact_scheme scheme;
    struct buffer path;   // ARTIFACT_FILE: absolute path, unquoted; else the URI
    struct buffer member; // zip member's name; empty: the whole artifact
    bool is_absolute;     // the record held an absolute URI: no root applies
};

// -EXDEV: leaves the datastore's root. -EINVAL: not a path or URI (NUL inside, malformed quoting).
int artifact_resolve(const struct datastore_config *datastore, struct text recorded,
                     struct artifact *ret_artifact);
void artifact_release(struct artifact *a);
