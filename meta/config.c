// SPDX-License-Identifier: BSD-3-Clause
// butler.yaml, read as the client reads it. Where the client would go by its own current folder or
// its environment (relative roots, $VAR) the answer would depend on who asks: that is refused with a
// line that says what to write instead. Texts from the file are outside input: a NUL in one is
// refused, so that what was checked is what is opened.
#include "meta/config.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buffer.h"
#include "base/doc.h"
#include "meta/uri.h"

#define ROOT_TAG "<butlerRoot>"
#define DATASTORES_MAX 64
#define CHAIN_DEPTH_MAX 8

static int refuse(int error, char **ret_why, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static int refuse(int error, char **ret_why, const char *format, ...)
{
    BUFFER_CLEANUP why = {0};
    va_list args;
    va_start(args, format);
    buffer_vformat(&why, format, args);
    va_end(args);
    for (size_t i = 0; i < why.size_bytes; i++) // it must stay one line, whatever a file holds
        if ((unsigned char)why.data[i] < ' ')
            why.data[i] = '?';
    *ret_why = buffer_steal(&why);
    return error;
}

static bool has_nul(struct text t)
{
    return t.size_bytes && memchr(t.data, 0, t.size_bytes);
}

static bool class_is(struct text class, const char *name)
{
    const char *dot = class.size_bytes ? memrchr(class.data, '.', class.size_bytes) : NULL;
    size_t from = dot ? (size_t)(dot - class.data) + 1 : 0;
    return text_equal(text_slice(class, from, class.size_bytes), text_of(name));
}

// ---------------------------------------------------------------------------------------------
// From what the user gave to the path of a butler.yaml.

// The label's URI, allocated; NULL: it isn't one. An index that can't be read is no error yet, as
// the source may be a plain path: *ret_trouble then holds why.
static int find_label(const char *source, const struct repository_index *index, char **ret_uri,
                      char **ret_trouble, char **ret_why)
{
    *ret_uri = NULL;
    if (!index || (!index->uri && !index->text))
        return 0;
    if (index->uri && index->text)
        return refuse(-EINVAL, ret_why,
                      "both a repository index (%s) and a list of repositories are given: give one",
                      index->uri);
    __attribute__((__cleanup__(cleanup_doc_free))) struct doc *map = NULL;
    if (index->text) {
        doc_parse_yaml(text_of(index->text), &map, ret_trouble);
    } else {
        BUFFER_CLEANUP path = {0};
        if (uri_to_path(text_of(index->uri), &path) == 0)
            doc_read_yaml(path.data, &map, ret_trouble);
        else if (asprintf(ret_trouble, "%s is not a local file", index->uri) < 0)
            abort();
    }
    struct text uri = doc_text(doc_get(map, source), TEXT(""));
    if (uri.size_bytes && !has_nul(uri))
        *ret_uri = memory_copy(uri.data, uri.size_bytes);
    return 0;
}

static int refuse_missing(const char *source, const char *path, const struct repository_index *index,
                          const char *trouble, int error, char **ret_why)
{
    bool may_be_label = !strchr(source, '/');
    if (error != -ENOENT && error != -ENOTDIR)
        return refuse(error, ret_why, "%s: %s can't be reached: %s", source, path,
                      strerror(-error));
    if (!may_be_label)
        return refuse(error, ret_why, "%s: there is no such folder or file", source);
    if (trouble)
        return refuse(error, ret_why,
                      "%s: there is no such folder, and the repository index can't be read: %s",
                      source, trouble);
    return refuse(error, ret_why, "%s: there is no such folder, and %s", source,
                  index && (index->uri || index->text)
                      ? "the repository index has no such label"
                      : "no repository index is given in which it could be a label");
}

// `given`: the source, or the URI its label stands for.
static int find_yaml(struct repository_config *c, const char *given,
                     const struct repository_index *index, const char *trouble, char **ret_why)
{
    BUFFER_CLEANUP path = {0};
    struct stat st;
    int r = uri_to_path(text_of(given), &path);
    if (r == -EOPNOTSUPP)
        return refuse(r, ret_why, "%s: remote repositories (%s) are not supported yet: give the folder or butler.yaml of a local one",
                      c->source, given);
    if (r < 0 || path.size_bytes == 0)
        return refuse(-EINVAL, ret_why, "%s: that is not a path or a file: URI", c->source);
    path_normalise(&path);
    if (stat(path.data, &st) < 0)
        return refuse_missing(c->source, path.data, index, trouble, -errno, ret_why);
    if (S_ISDIR(st.st_mode)) {
        buffer_append_string(&path, path.size_bytes > 1 ? "/butler.yaml" : "butler.yaml");
        if (stat(path.data, &st) < 0)
            return refuse(-errno, ret_why, errno == ENOENT
                              ? "%s: %s is not there: this folder is not a Butler repository"
                              : "%s: %s can't be reached: %m",
                          c->source, path.data);
    }
    if (!S_ISREG(st.st_mode))
        return refuse(-EINVAL, ret_why, "%s: %s is not a regular file", c->source, path.data);
    c->owner = st.st_uid;
    c->group = st.st_gid;
    c->mode = st.st_mode & 0777;
    c->yaml_path = buffer_steal(&path);
    return 0;
}

// ---------------------------------------------------------------------------------------------
// What is in it.

// A scalar's text, or the default where the key is missing or null.
static int get_text(const struct repository_config *c, const struct doc *map, const char *key,
                    struct text otherwise, struct text *ret_text, char **ret_why)
{
    const struct doc *d = doc_get(map, key);
    if (d && doc_kind(d) != DOC_NULL && !doc_is_scalar(d))
        return refuse(-EINVAL, ret_why, "%s: `%s` in %s is not a plain value", c->source, key,
                      c->yaml_path);
    struct text t = doc_kind(d) == DOC_NULL ? otherwise : doc_text(d, otherwise);
    if (has_nul(t))
        return refuse(-EINVAL, ret_why, "%s: `%s` in %s holds a NUL byte", c->source, key,
                      c->yaml_path);
    *ret_text = t;
    return 0;
}

// A part of the configuration; NULL where it is missing. The client allows its name twice, as
// included files begin with it.
static int get_part(const struct repository_config *c, const struct doc *map, const char *key,
                    const struct doc **ret_part, char **ret_why)
{
    const struct doc *part = doc_get(map, key);
    if (doc_kind(part) == DOC_MAP && doc_get(part, key))
        part = doc_get(part, key);
    if (part && doc_kind(part) != DOC_NULL && doc_kind(part) != DOC_MAP)
        return refuse(-EINVAL, ret_why,
                      "%s: `%s` in %s is not a map: included files are not supported, write its keys there",
                      c->source, key, c->yaml_path);
    if (doc_get(part, "includeConfigs"))
        return refuse(-EOPNOTSUPP, ret_why,
                      "%s: `includeConfigs` in `%s` of %s is not supported: write the included keys there",
                      c->source, key, c->yaml_path);
    *ret_part = part;
    return 0;
}

static void replace_root(const struct repository_config *c, struct text t, struct buffer *to)
{
    const size_t tag_bytes = sizeof ROOT_TAG - 1;
    for (;;) {
        const char *tag = t.size_bytes ? memmem(t.data, t.size_bytes, ROOT_TAG, tag_bytes) : NULL;
        if (!tag)
            break;
        size_t before = (size_t)(tag - t.data);
        buffer_append(to, t.data, before);
        buffer_append_string(to, c->root);
        t = text_slice(t, before + tag_bytes, t.size_bytes);
    }
    buffer_append_text(to, t);
}

// A root as an absolute path. `what`: the key it stands under.
static int local_root(const struct repository_config *c, struct text root, const char *what,
                      char **ret_path, char **ret_why)
{
    BUFFER_CLEANUP path = {0};
    if (!text_begins(root, TEXT("/")) && !uri_has_scheme(root))
        return refuse(-EINVAL, ret_why,
                      "%s: `%s: %.*s` in %s is relative to nothing: write an absolute path or " ROOT_TAG "/...",
                      c->source, what, (int)root.size_bytes, root.data, c->yaml_path);
    int r = uri_to_path(root, &path);
    if (r == -EOPNOTSUPP)
        return refuse(r, ret_why,
                      "%s: `%s: %.*s` in %s is remote: only local folders are supported yet",
                      c->source, what, (int)root.size_bytes, root.data, c->yaml_path);
    if (r < 0)
        return refuse(r, ret_why, "%s: `%s: %.*s` in %s is not a path or a file: URI", c->source,
                      what, (int)root.size_bytes, root.data, c->yaml_path);
    path_normalise(&path);
    *ret_path = buffer_steal(&path);
    return 0;
}

static int read_root(struct repository_config *c, const struct doc *yaml, char **ret_why)
{
    struct text root;
    int r = get_text(c, yaml, "root", TEXT(""), &root, ret_why);
    if (r < 0)
        return r;
    if (root.size_bytes)
        return local_root(c, root, "root", &c->root, ret_why);
    size_t folder_bytes = (size_t)(strrchr(c->yaml_path, '/') - c->yaml_path);
    c->root = folder_bytes ? memory_copy(c->yaml_path, folder_bytes) : memory_copy("/", 1);
    return 0;
}

static int refuse_sqlite_url(const struct repository_config *c, const char *what, char **ret_why)
{
    return refuse(-EINVAL, ret_why,
                  "%s: `registry.db: %s` in %s %s: write sqlite:///" ROOT_TAG "/gen3.sqlite3 or sqlite:////absolute/path",
                  c->source, c->database_url, c->yaml_path, what);
}

static int read_sqlite_url(struct repository_config *c, struct text rest, char **ret_why)
{
    const char *query = rest.size_bytes ? memchr(rest.data, '?', rest.size_bytes) : NULL;
    size_t end = query ? (size_t)(query - rest.data) : rest.size_bytes;
    BUFFER_CLEANUP path = {0};
    if (end > 0 && rest.data[0] != '/')
        return refuse_sqlite_url(c, "names a host", ret_why);
    if (end > 1)
        uri_unquote(text_slice(rest, 1, end), &path);
    if (path.size_bytes == 0 || text_equal(buffer_text(&path), TEXT(":memory:")))
        return refuse_sqlite_url(c, "is a database in memory", ret_why);
    if (path.data[0] != '/')
        return refuse_sqlite_url(c, "is relative to nothing", ret_why);
    if (has_nul(buffer_text(&path)))
        return refuse_sqlite_url(c, "holds a NUL byte", ret_why);
    path_normalise(&path);
    c->database = DATABASE_SQLITE;
    c->database_path = buffer_steal(&path);
    return 0;
}

static int read_registry(struct repository_config *c, const struct doc *yaml, char **ret_why)
{
    const struct doc *part = NULL;
    struct text db, namespace_;
    BUFFER_CLEANUP url = {0};
    int r = get_part(c, yaml, "registry", &part, ret_why);
    if (r == 0)
        r = get_text(c, part, "db", TEXT("sqlite:///" ROOT_TAG "/gen3.sqlite3"), &db, ret_why);
    if (r == 0)
        r = get_text(c, part, "namespace", TEXT(""), &namespace_, ret_why);
    if (r < 0)
        return r;
    replace_root(c, db, &url);
    c->database_url = buffer_steal(&url);
    if (namespace_.size_bytes)
        c->namespace_ = memory_copy(namespace_.data, namespace_.size_bytes);
    struct text rest = text_of(c->database_url);
    const char *colon = strstr(rest.data, "://");
    size_t scheme_bytes = colon ? strcspn(rest.data, "+:") : 0;
    struct text dialect = text_slice(rest, 0, scheme_bytes);
    if (text_equal(dialect, TEXT("sqlite")))
        return read_sqlite_url(c, text_of(colon + 3), ret_why);
    if (text_equal(dialect, TEXT("postgresql"))) {
        c->database = DATABASE_POSTGRESQL;
        return 0;
    }
    // Not the URL itself: it may hold a password.
    return refuse(-EINVAL, ret_why,
                  "%s: `registry.db` in %s is not a sqlite:// or postgresql:// URL",
                  c->source, c->yaml_path);
}

static int add_file_datastore(struct repository_config *c, const struct doc *part, char **ret_why)
{
    struct text root, table, name;
    BUFFER_CLEANUP expanded = {0};
    const struct doc *records = doc_get(part, "records");
    int r = get_text(c, part, "root", TEXT(ROOT_TAG "/datastore"), &root, ret_why);
    if (r == 0)
        r = get_text(c, records, "table", TEXT("file_datastore_records"), &table, ret_why);
    if (r == 0)
        r = get_text(c, part, "name", TEXT(""), &name, ret_why);
    if (r < 0)
        return r;
    if (c->datastore_count == DATASTORES_MAX)
        return refuse(-E2BIG, ret_why, "%s: %s has more than %d datastores", c->source,
                      c->yaml_path, DATASTORES_MAX);
    replace_root(c, root, &expanded);
    struct datastore_config d = {.is_local = true};
    r = local_root(c, buffer_text(&expanded), "datastore.root", &d.root, ret_why);
    if (r < 0)
        return r;
    d.records_table = memory_copy(table.data, table.size_bytes);
    BUFFER_CLEANUP full = {0};
    if (name.size_bytes) {
        buffer_append_text(&full, name);
    } else {
        buffer_append_string(&full, "FileDatastore@");
        buffer_append_text(&full, root);
    }
    d.name = buffer_steal(&full);
    c->datastores = memory_grow(c->datastores, c->datastore_count + 1, sizeof *c->datastores);
    c->datastores[c->datastore_count++] = d;
    return 0;
}

// `part`: the map of one datastore; NULL: all defaults.
static int read_datastore(struct repository_config *c, const struct doc *part, unsigned depth,
                          char **ret_why)
{
    struct text class;
    int r = get_text(c, part, "cls", TEXT("FileDatastore"), &class, ret_why);
    if (r < 0)
        return r;
    if (class_is(class, "FileDatastore"))
        return add_file_datastore(c, part, ret_why);
    if (class_is(class, "InMemoryDatastore"))
        return 0; // only the process that put them there has its datasets
    if (!class_is(class, "ChainedDatastore"))
        return refuse(-EOPNOTSUPP, ret_why,
                      "%s: `datastore.cls: %.*s` in %s is not known: FileDatastore and ChainedDatastore are",
                      c->source, (int)class.size_bytes, class.data, c->yaml_path);
    if (depth == CHAIN_DEPTH_MAX)
        return refuse(-E2BIG, ret_why, "%s: %s has chained datastores more than %d deep", c->source,
                      c->yaml_path, CHAIN_DEPTH_MAX);
    const struct doc *list = doc_get(part, "datastores");
    if (doc_kind(list) != DOC_LIST)
        return refuse(-EINVAL, ret_why, "%s: the ChainedDatastore in %s has no list `datastores`",
                      c->source, c->yaml_path);
    for (size_t i = 0; r == 0 && i < doc_count(list); i++) {
        const struct doc *item = doc_item(list, i), *child = NULL;
        r = get_part(c, item, "datastore", &child, ret_why);
        if (r == 0 && doc_kind(child ? child : item) != DOC_MAP)
            r = refuse(-EINVAL, ret_why, "%s: an entry of `datastores` in %s is not a map",
                       c->source, c->yaml_path);
        if (r == 0)
            r = read_datastore(c, child ? child : item, depth + 1, ret_why);
    }
    return r;
}

static int read_datastores(struct repository_config *c, const struct doc *yaml, char **ret_why)
{
    const struct doc *part = NULL;
    int r = get_part(c, yaml, "datastore", &part, ret_why);
    if (r == 0)
        r = read_datastore(c, part, 0, ret_why);
    if (r == 0 && c->datastore_count == 0)
        r = refuse(-EOPNOTSUPP, ret_why,
                   "%s: %s has no datastore with files: there is nothing to show", c->source,
                   c->yaml_path);
    return r;
}

static int check_class(const struct repository_config *c, const struct doc *yaml, char **ret_why)
{
    struct text class;
    int r = get_text(c, yaml, "cls", TEXT("DirectButler"), &class, ret_why);
    if (r < 0 || class_is(class, "DirectButler"))
        return r;
    if (class_is(class, "RemoteButler"))
        return refuse(-EOPNOTSUPP, ret_why,
                      "%s: %s is for a Butler server (RemoteButler), which is not supported yet: give the repository's own butler.yaml",
                      c->source, c->yaml_path);
    return refuse(-EOPNOTSUPP, ret_why, "%s: `cls: %.*s` in %s is not a known kind of Butler",
                  c->source, (int)class.size_bytes, class.data, c->yaml_path);
}

static int read_yaml(struct repository_config *c, const struct doc *yaml, char **ret_why)
{
    if (doc_kind(yaml) != DOC_MAP)
        return refuse(-EINVAL, ret_why, "%s: %s is not a Butler configuration: it isn't a map",
                      c->source, c->yaml_path);
    if (doc_get(yaml, "includeConfigs"))
        return refuse(-EOPNOTSUPP, ret_why,
                      "%s: `includeConfigs` in %s is not supported: write the included keys there",
                      c->source, c->yaml_path);
    int r = check_class(c, yaml, ret_why);
    if (r == 0)
        r = read_root(c, yaml, ret_why);
    if (r == 0)
        r = read_registry(c, yaml, ret_why);
    if (r == 0)
        r = read_datastores(c, yaml, ret_why);
    return r;
}

static void cleanup_config(struct repository_config **c)
{
    repository_config_free(*c);
}

int repository_config_parse(const char *yaml_path, struct text yaml,
                            struct repository_config **ret_config, char **ret_why)
{
    cleanup(cleanup_config) struct repository_config *c = new_struct(struct repository_config);
    __attribute__((__cleanup__(cleanup_doc_free))) struct doc *doc = NULL;
    cleanup(cleanup_free) char *why = NULL;
    c->source = memory_copy(yaml_path, strlen(yaml_path));
    c->yaml_path = memory_copy(yaml_path, strlen(yaml_path));
    int r = doc_parse_yaml(yaml, &doc, &why);
    if (r < 0)
        return refuse(r, ret_why, "%s can't be read: %s", yaml_path, why ? why : strerror(-r));
    r = read_yaml(c, doc, ret_why);
    if (r == 0)
        *ret_config = take(c);
    return r;
}

int repository_config_read(const char *source, const struct repository_index *index,
                           struct repository_config **ret_config, char **ret_why)
{
    cleanup(cleanup_config) struct repository_config *c = new_struct(struct repository_config);
    cleanup(cleanup_free) char *uri = NULL, *trouble = NULL, *why = NULL;
    __attribute__((__cleanup__(cleanup_doc_free))) struct doc *yaml = NULL;
    if (!*source)
        return refuse(-EINVAL, ret_why, "the repository is named by an empty text: give a folder, a butler.yaml or a label");
    c->source = memory_copy(source, strlen(source));
    int r = find_label(source, index, &uri, &trouble, ret_why);
    if (r == 0)
        r = find_yaml(c, uri ? uri : source, index, trouble, ret_why);
    if (r < 0)
        return r;
    r = doc_read_yaml(c->yaml_path, &yaml, &why);
    if (r < 0)
        return refuse(r, ret_why, "%s: its configuration can't be read: %s", source,
                      why ? why : strerror(-r));
    r = read_yaml(c, yaml, ret_why);
    if (r == 0)
        *ret_config = take(c);
    return r;
}

void repository_config_free(struct repository_config *c)
{
    if (!c)
        return;
    for (uint32_t i = 0; i < c->datastore_count; i++) {
        free(c->datastores[i].name);
        free(c->datastores[i].root);
        free(c->datastores[i].records_table);
    }
    free(c->datastores);
    free(c->source);
    free(c->yaml_path);
    free(c->root);
    free(c->database_path);
    free(c->database_url);
    free(c->namespace_);
    free(c);
}
