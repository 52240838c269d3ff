// SPDX-License-Identifier: BSD-3-Clause
// artifact: from a record's `path` to where the bytes are, as the Butler client resolves it. What a
// record says is outside input: a relative path that leaves its root is refused; `$VAR` and `~` are
// literal. Pure; any thread.
#pragma once
#include "base/buffer.h"
#include "meta/config.h"

enum artifact_scheme { ARTIFACT_FILE, ARTIFACT_OTHER };

struct artifact {
    enum artifact_scheme scheme;
    struct buffer path;   // ARTIFACT_FILE: absolute path, unquoted; else the URI
    struct buffer member; // zip member's name; empty: the whole artifact
    bool is_absolute;     // the record held an absolute URI or path: no root applies
};

// -EXDEV: leaves the datastore's root. -EINVAL: names no file (empty, a folder's `/` at its end, a
// NUL, an empty member, a relative file: URI). A `%` without two hex digits is a character, as to
// the client.
int artifact_resolve(const struct datastore_config *datastore, struct text recorded,
                     struct artifact *ret_artifact);
void artifact_release(struct artifact *a);
