// SPDX-License-Identifier: BSD-3-Clause
// path: local paths made absolute and free of symlinks, as far as they exist, without ever touching
// what lies at or below one given folder (the mount: whoever serves it must not wait for itself).
// Any thread. Results are allocated; the caller frees them.
#pragma once
#include <stdbool.h>

// `path` below `base` (absolute) unless it is absolute itself; "." and empty parts taken out, ".."
// by the text alone. Touches nothing.
char *path_absolute(const char *base, const char *path);
// As path_absolute, then symlinks are followed part by part. What doesn't exist or can't be looked at
// is taken as it is written. A part that would be at or below `stop` (resolved; NULL: none) is
// taken as it is written too.
char *path_resolve(const char *base, const char *path, const char *stop);
// Whether `path` is `folder` or lies below it; both absolute and clean. By the text alone.
bool path_is_within(const char *path, const char *folder);
// "scheme://..." or "file:..."
bool path_is_uri(const char *source);
