// SPDX-License-Identifier: BSD-3-Clause
// Two ways to include a file, both the client's:
//
//   key: !include FILE        the value is what FILE holds; also of a list or a map of files
//   includeConfigs: FILE      in a map: what FILE (or each of a list) holds lies under the map's own keys
//
// 1. FILE is relative to the file that says !include; of includeConfigs, to the configuration that the
//    client opened, which is the butler.yaml or a file that includeConfigs led to.
// 2. What only writers need (templates, formatters, ...) isn't followed: it may well be somewhere else.
// 3. Whoever wrote the butler.yaml makes the daemon, which may be root, open these files. So one must
//    be readable by all or belong to the owner of the butler.yaml.
// 4. Files are bounded in size, in number and in depth, which ends a circle too.
// The client also looks in its current folder and its environment; the answer would depend on who asks.
#include "meta/config_include.h"

#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "meta/uri.h"

#define INCLUDE_KEY "includeConfigs"
#define FILES_MAX 64
#define DEPTH_MAX 8
#define FILE_BYTES_MAX (4 << 20)

struct including {
    const char *source;
    uid_t owner;
    unsigned files;
    unsigned depth;
    char **ret_why;
};

static int refuse(struct including *n, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static int refuse(struct including *n, int error, const char *format, ...)
{
    BUFFER_CLEANUP why = {0};
    va_list args;
    buffer_format(&why, "%s: ", n->source);
    va_start(args, format);
    buffer_vformat(&why, format, args);
    va_end(args);
    buffer_make_line(&why);
    *n->ret_why = buffer_steal(&why);
    return error;
}

static int expand(struct including *n, struct doc *d, const char *path);
static int follow(struct including *n, struct doc *map, const char *path);

// ---------------------------------------------------------------------------------------------
// One file.

// The path of the file that `name` is in the eyes of the file `from`.
static int find_path(struct including *n, const struct doc *name, const char *from,
                     struct buffer *ret_path)
{
    struct text t = doc_text(name, TEXT(""));
    if (doc_kind(name) != DOC_STRING || memchr(t.data, 0, t.size_bytes))
        return refuse(n, -EINVAL, "what %s includes is not the name of a file", from);
    if (memchr(t.data, '$', t.size_bytes))
        return refuse(n, -EINVAL, "%s includes %s: variables are not known here, write the path",
                      from, t.data);
    if (!uri_has_scheme(t) && (t.size_bytes == 0 || t.data[0] != '/'))
        buffer_append(ret_path, from, (size_t)(strrchr(from, '/') - from) + 1);
    if (ret_path->size_bytes) {
        buffer_append_text(ret_path, t);
    } else {
        int r = uri_to_path(t, ret_path);
        if (r < 0)
            return refuse(n, r, "%s includes %s, which is not a local file", from, t.data);
    }
    path_normalise(ret_path);
    return 0;
}

static int read_file(struct including *n, const char *path, const char *from, struct doc **ret_doc)
{
    struct stat st;
    cleanup(cleanup_free) char *why = NULL;
    if (++n->files > FILES_MAX || n->depth > DEPTH_MAX)
        return refuse(n, -E2BIG, "%s includes %s: too many files (%d), or too deep within each other",
                      from, path, FILES_MAX);
    cleanup(cleanup_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &st) < 0)
        return refuse(n, -errno, "%s includes %s: %m", from, path);
    if (!(st.st_mode & S_IROTH) && st.st_uid != n->owner)
        return refuse(n, -EACCES,
                      "%s includes %s, which is another's and not readable by all: chmod o+r it, or give it the owner of butler.yaml",
                      from, path);
    if (st.st_size > FILE_BYTES_MAX)
        return refuse(n, -E2BIG, "%s includes %s, which is too large", from, path);
    int r = doc_read_yaml_file(fd, path, ret_doc, &why);
    return r < 0 ? refuse(n, r, "what %s includes can't be read: %s", from, why) : 0;
}

// A file with what it includes by !include.
static int read_expanded(struct including *n, const struct doc *name, const char *from,
                         struct buffer *path, struct doc **ret_doc)
{
    cleanup(cleanup_doc_free) struct doc *doc = NULL;
    int r = find_path(n, name, from, path);
    if (r < 0)
        return r;
    n->depth++;
    r = read_file(n, path->data, from, &doc);
    if (r == 0)
        r = expand(n, doc, path->data);
    n->depth--;
    if (r == 0)
        *ret_doc = take(doc);
    return r;
}

// ---------------------------------------------------------------------------------------------
// !include

static bool is_for_writers(struct text key)
{
    static const char *const keys[] = {
        "templates",   "formatters",     "composites",     "cached",
        "constraints", "storageClasses", "repo_transfer_formats", "managers",
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (text_equal(key, text_of(keys[i])))
            return true;
    return false;
}

static bool is_include(const struct doc *d)
{
    return text_equal(doc_tag(d), TEXT("!include"));
}

// What stands in place of a node that says !include.
static int included(struct including *n, const struct doc *d, const char *path, struct doc **ret_doc)
{
    if (doc_kind(d) != DOC_LIST && doc_kind(d) != DOC_MAP) {
        BUFFER_CLEANUP at = {0};
        return read_expanded(n, d, path, &at, ret_doc);
    }
    cleanup(cleanup_doc_free) struct doc *branch = doc_new(doc_kind(d));
    for (size_t i = 0; i < doc_count(d); i++) {
        struct doc *item = NULL;
        BUFFER_CLEANUP at = {0};
        int r = read_expanded(n, doc_item(d, i), path, &at, &item);
        if (r < 0)
            return r;
        if (doc_kind(d) == DOC_LIST)
            doc_append(branch, item);
        else
            doc_put(branch, doc_key(d, i).data, item);
    }
    *ret_doc = take(branch);
    return 0;
}

// In the tree `d`, which is of the file `path`. No deeper than a document may be.
static int expand(struct including *n, struct doc *d, const char *path)
{
    for (size_t i = 0; i < doc_count(d); i++) {
        struct doc *item = doc_child(d, i), *instead = NULL;
        if (doc_kind(d) == DOC_MAP && is_for_writers(doc_key(d, i)))
            continue;
        int r = is_include(item) ? included(n, item, path, &instead) : expand(n, item, path);
        if (r < 0)
            return r;
        if (instead)
            doc_replace(d, i, instead);
    }
    return 0;
}

// ---------------------------------------------------------------------------------------------
// includeConfigs

// Where the keys are that are read; the client finds none in lists either.
static bool is_followed(struct text key)
{
    return text_equal(key, TEXT("registry")) || text_equal(key, TEXT("datastore")) ||
           text_equal(key, TEXT("records"));
}

static int add_file(struct including *n, const struct doc *name, const char *path, struct doc *to)
{
    cleanup(cleanup_doc_free) struct doc *doc = NULL;
    BUFFER_CLEANUP at = {0};
    int r = read_expanded(n, name, path, &at, &doc);
    if (r < 0 || doc_kind(doc) == DOC_NULL)
        return r;
    if (doc_kind(doc) != DOC_MAP)
        return refuse(n, -EINVAL, "%s includes %s, which is not a map", path, at.data);
    n->depth++;
    r = follow(n, doc, at.data);
    n->depth--;
    if (r == 0)
        doc_fill(to, take(doc));
    return r;
}

// Of a list the last one wins.
static int lay_under(struct including *n, struct doc *map, const struct doc *names, const char *path)
{
    bool is_list = doc_kind(names) == DOC_LIST;
    int r = is_list ? 0 : add_file(n, names, path, map);
    for (size_t i = doc_count(names); r == 0 && is_list && i > 0; i--)
        r = add_file(n, doc_item(names, i - 1), path, map);
    return r;
}

// Key by key, in the order of the file: what an earlier key's files hold is the map's own to a later
// one. What they add has been followed with them.
static int follow(struct including *n, struct doc *map, const char *path)
{
    int r = 0;
    for (size_t i = 0, count = doc_count(map); r == 0 && i < count; i++) {
        struct doc *item = doc_child(map, i);
        struct text key = doc_key(map, i);
        if (text_equal(key, TEXT(INCLUDE_KEY)) && doc_kind(item) != DOC_NULL) {
            r = lay_under(n, map, item, path);
            doc_put_text(map, INCLUDE_KEY, NULL); // it is done with
        } else if (is_followed(key) && doc_kind(item) == DOC_MAP) {
            r = follow(n, item, path);
        }
    }
    return r;
}

int config_include(struct doc *doc, const char *source, const char *yaml_path, uid_t owner,
                   char **ret_why)
{
    struct including n = {.source = source, .owner = owner, .ret_why = ret_why};
    int r = expand(&n, doc, yaml_path);
    if (r == 0 && doc_kind(doc) == DOC_MAP)
        r = follow(&n, doc, yaml_path);
    return r;
}
