// SPDX-License-Identifier: BSD-3-Clause
// config_locate: from what the user gave (a path, a URI, a label) to the path of a butler.yaml.
#include "meta/config_locate.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/doc.h"
#include "meta/uri.h"

int config_refuse(int error, char **ret_why, const char *format, ...)
{
    BUFFER_CLEANUP why = {0};
    va_list args;
    va_start(args, format);
    buffer_vformat(&why, format, args);
    va_end(args);
    buffer_make_line(&why);
    *ret_why = buffer_steal(&why);
    return error;
}

bool config_has_nul(struct text t)
{
    return t.size_bytes && memchr(t.data, 0, t.size_bytes);
}

// The label's URI, allocated; NULL: it isn't one. An index that can't be read is no error yet, as
// the source may be a plain path: *ret_trouble then holds why.
static int find_label(const char *source, const struct repository_index *index, char **ret_uri,
                      char **ret_trouble, char **ret_why)
{
    *ret_uri = NULL;
    if (!index || (!index->uri && !index->text))
        return 0;
    if (index->uri && index->text)
        return config_refuse(-EINVAL, ret_why,
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
    if (uri.size_bytes && !config_has_nul(uri))
        *ret_uri = memory_copy(uri.data, uri.size_bytes);
    return 0;
}

static int refuse_missing(const char *source, const char *path, const struct repository_index *index,
                          const char *trouble, int error, char **ret_why)
{
    bool may_be_label = !strchr(source, '/');
    if (error != -ENOENT && error != -ENOTDIR)
        return config_refuse(error, ret_why, "%s: %s can't be reached: %s", source, path,
                      strerror(-error));
    if (!may_be_label)
        return config_refuse(error, ret_why, "%s: there is no such folder or file", source);
    if (trouble)
        return config_refuse(error, ret_why,
                      "%s: there is no such folder, and the repository index can't be read: %s",
                      source, trouble);
    return config_refuse(error, ret_why, "%s: there is no such folder, and %s", source,
                  index && (index->uri || index->text)
                      ? "the repository index has no such label"
                      : "no repository index is given in which it could be a label");
}

// A URI says what it is: a butler.yaml, or the folder that holds one.
static int find_remote_yaml(struct repository_config *c, const char *given,
                            const struct repository_index *index, char **ret_why)
{
    struct text uri = text_of(given);
    struct buffer path = {0};
    if (!uri_is_remote(uri) || !index || !index->remote)
        return config_refuse(-EOPNOTSUPP, ret_why,
                      "%s: remote repositories (%s) are read from s3, http(s) and dav(s) only", c->source,
                      given);
    buffer_append_text(&path, uri);
    if (!text_ends(uri, TEXT(".yaml")))
        buffer_append_string(&path, uri.data[uri.size_bytes - 1] == '/' ? "butler.yaml" : "/butler.yaml");
    c->owner = geteuid();
    c->group = getegid();
    c->mode = 0444;
    c->yaml_path = buffer_steal(&path);
    return 0;
}

// `given`: the source, or the URI its label stands for.
static int find_yaml(struct repository_config *c, const char *given,
                     const struct repository_index *index, const char *trouble, char **ret_why)
{
    BUFFER_CLEANUP path = {0};
    struct stat st;
    int r = uri_to_path(text_of(given), &path);
    if (r == -EOPNOTSUPP)
        return find_remote_yaml(c, given, index, ret_why);
    if (r < 0 || path.size_bytes == 0)
        return config_refuse(-EINVAL, ret_why, "%s: that is not a path or a file: URI", c->source);
    path_normalise(&path);
    if (stat(path.data, &st) < 0)
        return refuse_missing(c->source, path.data, index, trouble, -errno, ret_why);
    if (S_ISDIR(st.st_mode)) {
        buffer_append_string(&path, path.size_bytes > 1 ? "/butler.yaml" : "butler.yaml");
        if (stat(path.data, &st) < 0)
            return config_refuse(-errno, ret_why, errno == ENOENT
                              ? "%s: %s is not there: this folder is not a Butler repository"
                              : "%s: %s can't be reached: %m",
                          c->source, path.data);
    }
    if (!S_ISREG(st.st_mode))
        return config_refuse(-EINVAL, ret_why, "%s: %s is not a regular file", c->source, path.data);
    c->owner = st.st_uid;
    c->group = st.st_gid;
    c->mode = st.st_mode & 0777;
    c->yaml_path = buffer_steal(&path);
    return 0;
}

int config_locate(struct repository_config *c, const char *source, const struct repository_index *index,
                  char **ret_why)
{
    cleanup(cleanup_free) char *uri = NULL, *trouble = NULL;
    if (!*source)
        return config_refuse(-EINVAL, ret_why, "the repository is named by an empty text: give a folder, a butler.yaml or a label");
    c->source = memory_copy(source, strlen(source));
    int r = find_label(source, index, &uri, &trouble, ret_why);
    return r < 0 ? r : find_yaml(c, uri ? uri : source, index, trouble, ret_why);
}

int repository_locate(const char *source, const struct repository_index *index, char **ret_location,
                      char **ret_why)
{
    static const struct remote_reader none; // not read here
    struct repository_index found = {0};
    struct repository_config *c = new_struct(struct repository_config);
    if (index)
        found = *index;
    if (!found.remote)
        found.remote = &none;
    int r = config_locate(c, source, &found, ret_why);
    if (r == 0)
        *ret_location = take(c->yaml_path);
    repository_config_free(c);
    return r;
}
