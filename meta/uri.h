// SPDX-License-Identifier: BSD-3-Clause
// uri: the little of URIs that finding a repository needs. Pure but for the current folder, which a
// relative path given by the user is relative to. Any thread.
#pragma once
#include "base/buffer.h"

// Whether it begins as a URI does ("s3://", "file:"), and is not a path.
bool uri_has_scheme(struct text t);
// Whether it is of a kind whose objects can be had over a network: s3, http(s), dav(s).
bool uri_is_remote(struct text t);
// Appends the text with %XX decoded; what isn't one stays as it is (Python's unquote).
void uri_unquote(struct text quoted, struct buffer *to);
// The absolute local path of a path or a file: URI, appended. -EOPNOTSUPP: the URI is of another
// kind; -EINVAL: malformed, another host, or a NUL in it.
int uri_to_path(struct text given, struct buffer *to);
// Makes an absolute path's spelling canonical without asking the file system, as Python's
// os.path.abspath has it: no `.`, `..`, `//`, no trailing slash.
void path_normalise(struct buffer *path);
