// SPDX-License-Identifier: BSD-3-Clause
// library_size: how large a file is whose record doesn't say: what the disk says, its origin, or the
// directory of the archive that it is a member of, which is read once for all its members.
// 1. A file is only looked at (stat); an archive is only read below its datastore's root, wherever
//    symlinks lead: this is done with the daemon's own rights.
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "cache/archive.h"
#include "cache/object.h"
#include "meta/artifact.h"
#include "meta/library.h"

static int64_t size_of_file(const char *path)
{
    struct stat st;
    int r = object_stat_local(path, &st);
    return r == 0 ? st.st_size : r;
}

static int64_t size_of_member(const struct repository *r, const struct datastore_config *store,
                              const struct artifact *a)
{
    const char *roots[] = {store->root, NULL}, *why;
    const struct object_access access = {
        .as_owner = true, .roots = roots, .own_uid = geteuid()};
    const struct caller self = {geteuid(), getegid(), gettid()};
    cleanup(cleanup_close) int fd = -1;
    cleanup(cleanup_archive_unref) struct archive *archive = NULL;
    struct archive_member member;
    struct stat st;
    if (!r->archives)
        return -EOPNOTSUPP;
    int e = object_open_local(a->path.data, &access, &self, &fd, &st, &why);
    if (e == 0)
        e = archives_get(r->archives, fd, clock_ns() + r->limit_ns, &archive, &why);
    if (e == 0)
        e = archive_find(archive, fd, buffer_text(&a->member), &member, &why);
    if (e == 0 && member.size_bytes > INT64_MAX)
        e = -EFBIG;
    return e == 0 ? (int64_t)member.size_bytes : e;
}

int64_t library_size(const struct repository *r, const struct registry_file *f)
{
    struct artifact a;
    if (f->datastore >= r->config->datastore_count)
        return 0;
    const struct datastore_config *store = &r->config->datastores[f->datastore];
    if (artifact_resolve(store, f->path, &a) < 0)
        return 0;
    int64_t size = -EOPNOTSUPP;
    if (a.scheme != ARTIFACT_FILE && a.member.size_bytes == 0 && r->remote_size)
        size = r->remote_size(r->context, f->datastore, f->path);
    else if (a.scheme == ARTIFACT_FILE)
        size = a.member.size_bytes ? size_of_member(r, store, &a) : size_of_file(a.path.data);
    artifact_release(&a);
    return size == -ENOENT || size == -ENOTDIR ? 0 : size < 0 ? SIZE_UNKNOWN : size;
}
