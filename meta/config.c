// SPDX-License-Identifier: BSD-3-Clause
// butler.yaml, read as the client reads it. Where the client would go by its own current folder or
// its environment (relative roots, $VAR) the answer would depend on who asks: that is refused with a
// line that says what to write instead. Texts from the file are outside input: a NUL in one is
// refused, so that what was checked is what is opened.
#include "meta/config_locate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/doc.h"
#include "meta/config_include.h"
#include "meta/uri.h"

#define ROOT_TAG "<butlerRoot>"
#define DATASTORES_MAX 64
#define CHAIN_DEPTH_MAX 8

static bool class_is(struct text class, const char *name)
{
    const char *dot = class.size_bytes ? memrchr(class.data, '.', class.size_bytes) : NULL;
    size_t from = dot ? (size_t)(dot - class.data) + 1 : 0;
    return text_equal(text_slice(class, from, class.size_bytes), text_of(name));
}

// ---------------------------------------------------------------------------------------------
// What is in it.

// A scalar's text, or the default where the key is missing or null.
static int get_text(const struct repository_config *c, const struct doc *map, const char *key,
                    struct text otherwise, struct text *ret_text, char **ret_why)
{
    const struct doc *d = doc_get(map, key);
    if (d && doc_kind(d) != DOC_NULL && !doc_is_scalar(d))
        return config_refuse(-EINVAL, ret_why, "%s: `%s` in %s is not a plain value", c->source, key,
                      c->yaml_path);
    struct text t = doc_kind(d) == DOC_NULL ? otherwise : doc_text(d, otherwise);
    if (config_has_nul(t))
        return config_refuse(-EINVAL, ret_why, "%s: `%s` in %s holds a NUL byte", c->source, key,
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
        return config_refuse(-EINVAL, ret_why,
                      "%s: `%s` in %s is not a map",
                      c->source, key, c->yaml_path);
    if (doc_kind(doc_get(part, "includeConfigs")) != DOC_NULL)
        return config_refuse(-EOPNOTSUPP, ret_why,
                      "%s: `includeConfigs` in this `%s` of %s is not followed, nor by the client: write the included keys there",
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

// A root as an absolute path or remote URI. `what`: the key it stands under.
static int settle_root(const struct repository_config *c, struct text root, const char *what,
                      char **ret_path, char **ret_why)
{
    BUFFER_CLEANUP path = {0};
    if (!text_begins(root, TEXT("/")) && !uri_has_scheme(root))
        return config_refuse(-EINVAL, ret_why,
                      "%s: `%s: %.*s` in %s is relative to nothing: write an absolute path or " ROOT_TAG "/...",
                      c->source, what, (int)root.size_bytes, root.data, c->yaml_path);
    if (uri_is_remote(root)) {
        while (root.data[root.size_bytes - 1] == '/')
            root.size_bytes--;
        *ret_path = memory_copy(root.data, root.size_bytes);
        return 0;
    }
    int r = uri_to_path(root, &path);
    if (r == -EOPNOTSUPP)
        return config_refuse(r, ret_why,
                      "%s: `%s: %.*s` in %s: local folders, s3, http(s) and dav(s) are supported",
                      c->source, what, (int)root.size_bytes, root.data, c->yaml_path);
    if (r < 0)
        return config_refuse(r, ret_why, "%s: `%s: %.*s` in %s is not a path or a file: URI", c->source,
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
        return settle_root(c, root, "root", &c->root, ret_why);
    size_t folder_bytes = (size_t)(strrchr(c->yaml_path, '/') - c->yaml_path);
    c->root = folder_bytes ? memory_copy(c->yaml_path, folder_bytes) : memory_copy("/", 1);
    return 0;
}

static int refuse_sqlite_url(const struct repository_config *c, const char *what, char **ret_why)
{
    return config_refuse(-EINVAL, ret_why,
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
    if (config_has_nul(buffer_text(&path)))
        return refuse_sqlite_url(c, "holds a NUL byte", ret_why);
    path_normalise(&path);
    c->database = DATABASE_SQLITE;
    c->database_path = buffer_steal(&path);
    return 0;
}

// What the URL leaves out may stand beside it.
static int fill_database(struct repository_config *c, const struct doc *part, char **ret_why)
{
    struct database_url *u = &c->database_parts;
    struct {
        const char *key;
        char **to;
    } keys[] = {{"username", &u->user},
                {"password", &u->password},
                {"host", &u->host},
                {"port", &u->port},
                {"database", &u->database}};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        struct text t;
        int r = get_text(c, part, keys[i].key, TEXT(""), &t, ret_why);
        if (r < 0)
            return r;
        if (t.size_bytes && !*keys[i].to)
            *keys[i].to = memory_copy(t.data, t.size_bytes);
    }
    return 0;
}

static int read_postgres_url(struct repository_config *c, const struct doc *part, char **ret_why)
{
    cleanup(cleanup_free) char *what = NULL;
    c->database = DATABASE_POSTGRESQL;
    int r = database_url_parse(text_of(c->database_url), &c->database_parts, &what);
    if (r < 0) // not the URL itself: it may hold a password
        return config_refuse(r, ret_why,
                      "%s: `registry.db` in %s %s: write postgresql://[user@]host[:port]/database",
                      c->source, c->yaml_path, what);
    return fill_database(c, part, ret_why);
}

int repository_database(const struct repository_config *c, struct database_url *ret_url, char **ret_why)
{
    struct database_url u;
    database_url_copy(&c->database_parts, &u);
    int r = database_login_find(&c->database_login, &u, ret_why);
    if (r < 0)
        database_url_release(&u);
    else
        *ret_url = u;
    return r;
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
    if (text_equal(dialect, TEXT("postgresql")))
        return read_postgres_url(c, part, ret_why);
    // Not the URL itself: it may hold a password.
    return config_refuse(-EINVAL, ret_why,
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
        return config_refuse(-E2BIG, ret_why, "%s: %s has more than %d datastores", c->source,
                      c->yaml_path, DATASTORES_MAX);
    replace_root(c, root, &expanded);
    struct datastore_config d = {0};
    r = settle_root(c, buffer_text(&expanded), "datastore.root", &d.root, ret_why);
    if (r < 0)
        return r;
    d.is_local = d.root[0] == '/';
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
        return config_refuse(-EOPNOTSUPP, ret_why,
                      "%s: `datastore.cls: %.*s` in %s is not known: FileDatastore and ChainedDatastore are",
                      c->source, (int)class.size_bytes, class.data, c->yaml_path);
    if (depth == CHAIN_DEPTH_MAX)
        return config_refuse(-E2BIG, ret_why, "%s: %s has chained datastores more than %d deep", c->source,
                      c->yaml_path, CHAIN_DEPTH_MAX);
    const struct doc *list = doc_get(part, "datastores");
    if (doc_kind(list) != DOC_LIST)
        return config_refuse(-EINVAL, ret_why, "%s: the ChainedDatastore in %s has no list `datastores`",
                      c->source, c->yaml_path);
    for (size_t i = 0; r == 0 && i < doc_count(list); i++) {
        const struct doc *item = doc_item(list, i), *child = NULL;
        r = get_part(c, item, "datastore", &child, ret_why);
        if (r == 0 && doc_kind(child ? child : item) != DOC_MAP)
            r = config_refuse(-EINVAL, ret_why, "%s: an entry of `datastores` in %s is not a map",
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
        r = config_refuse(-EOPNOTSUPP, ret_why,
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
        return config_refuse(-EOPNOTSUPP, ret_why,
                      "%s: %s is for a Butler server (RemoteButler), which is not supported yet: give the repository's own butler.yaml",
                      c->source, c->yaml_path);
    return config_refuse(-EOPNOTSUPP, ret_why, "%s: `cls: %.*s` in %s is not a known kind of Butler",
                  c->source, (int)class.size_bytes, class.data, c->yaml_path);
}

static int read_yaml(struct repository_config *c, const struct doc *yaml, char **ret_why)
{
    if (doc_kind(yaml) != DOC_MAP)
        return config_refuse(-EINVAL, ret_why, "%s: %s is not a Butler configuration: it isn't a map",
                      c->source, c->yaml_path);
    if (doc_kind(doc_get(yaml, "includeConfigs")) != DOC_NULL)
        return config_refuse(-EOPNOTSUPP, ret_why,
                      "%s: `includeConfigs` in %s is not followed: write the included keys there",
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
        return config_refuse(r, ret_why, "%s can't be read: %s", yaml_path, why ? why : strerror(-r));
    r = read_yaml(c, doc, ret_why);
    if (r == 0)
        *ret_config = take(c);
    return r;
}

static int read_doc(const char *location, const struct repository_index *index, struct doc **ret_yaml,
                    char **ret_why)
{
    BUFFER_CLEANUP text = {0};
    if (location[0] == '/')
        return doc_read_yaml(location, ret_yaml, ret_why);
    int r = index->remote->read(index->remote->context, location, &text, ret_why);
    return r < 0 ? r : doc_parse_yaml(buffer_text(&text), ret_yaml, ret_why);
}

int repository_config_read(const char *source, const struct repository_index *index,
                           struct repository_config **ret_config, char **ret_why)
{
    cleanup(cleanup_config) struct repository_config *c = new_struct(struct repository_config);
    cleanup(cleanup_free) char *why = NULL;
    __attribute__((__cleanup__(cleanup_doc_free))) struct doc *yaml = NULL;
    int r = config_locate(c, source, index, ret_why);
    if (r < 0)
        return r;
    r = read_doc(c->yaml_path, index, &yaml, &why);
    if (r < 0)
        return config_refuse(r, ret_why, "%s: its configuration can't be read: %s", source,
                      why ? why : strerror(-r));
    c->said = memory_new(SAID_KINDS * sizeof *c->said);
    r = config_include(yaml, source, c->yaml_path, c->owner, ret_why);
    if (r == 0)
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
    database_url_release(&c->database_parts);
    free(c->namespace_);
    free(c->said);
    free(c);
}
