// SPDX-License-Identifier: BSD-3-Clause
// options_space: the spaces of a mount, each beginning with what was said for all of them.
// 1. After space_settle a source means the same in any process, folder and environment.
// 2. Nothing is guessed by looking at what a source holds (tree.md): its words decide, or `space`.
#include <string.h>
#include <strings.h>

#include "fs/options_table.h"
#include "fs/path.h"
#include "fs/why.h"
#include "meta/config.h"

static char **copy_paths(char **paths)
{
    size_t count = 0;
    while (paths && paths[count])
        count++;
    if (count == 0)
        return NULL;
    char **copy = memory_new((count + 1) * sizeof *copy);
    for (size_t i = 0; i < count; i++)
        copy[i] = memory_copy(paths[i], strlen(paths[i]));
    return copy;
}

#define TEXTS 13

static void texts_of(struct space_options *s, char **ret_texts[TEXTS])
{
    char **all[TEXTS] = {&s->endpoint,   &s->region,        &s->profile,  &s->access_key,
                         &s->secret_key, &s->session_token, &s->ca_bundle, &s->db_auth,
                         &s->provision,  &s->skeleton,      &s->storage_class, &s->encryption,
                         &s->encryption_key};
    memcpy(ret_texts, all, sizeof all);
}

void space_copy_standards(const struct space_options *from, struct space_options *to)
{
    *to = *from;
    to->name = NULL;
    to->source = NULL;
    to->artifact_roots = copy_paths(from->artifact_roots);
    char **texts[TEXTS];
    texts_of(to, texts);
    for (int i = 0; i < TEXTS; i++)
        *texts[i] = *texts[i] ? memory_copy(*texts[i], strlen(*texts[i])) : NULL;
}

void space_release(struct space_options *s)
{
    for (size_t i = 0; s->artifact_roots && s->artifact_roots[i]; i++)
        free(s->artifact_roots[i]);
    free(s->artifact_roots);
    char **texts[TEXTS];
    texts_of(s, texts);
    for (int i = 0; i < TEXTS; i++)
        free(*texts[i]);
    free(s->source);
    free(s->name);
}

static int check_name(const struct options *o, struct text name, char **ret_why)
{
    const char *wrong = NULL;
    if (name.size_bytes == 0)
        wrong = "it is empty";
    else if (name.size_bytes > 255)
        wrong = "it is longer than 255 bytes";
    else if (memchr(name.data, '/', name.size_bytes) || memchr(name.data, '\0', name.size_bytes))
        wrong = "a folder's name holds no '/'";
    else if (text_equal(name, TEXT(".")) || text_equal(name, TEXT("..")))
        wrong = "that is no folder of one's own";
    for (uint32_t i = 0; !wrong && i < o->space_count; i++)
        if (text_equal(name, text_of(o->spaces[i].name)))
            wrong = "it stands twice";
    if (!wrong)
        return 0;
    return why(ret_why, -EINVAL, "space \"%.*s\": not a name for a space: %s",
               (int)(name.size_bytes < 255 ? name.size_bytes : 255), name.data, wrong);
}

int options_add_space(struct options *o, struct text name, const struct space_options *standard,
                      struct space_options **ret_space, char **ret_why)
{
    if (name.data) {
        int r = check_name(o, name, ret_why);
        if (r < 0)
            return r;
    }
    o->spaces = memory_grow(o->spaces, o->space_count + 1, sizeof *o->spaces);
    struct space_options *s = &o->spaces[o->space_count++];
    space_copy_standards(standard, s);
    s->name = name.data ? memory_copy(name.data, name.size_bytes) : NULL;
    o->is_configured = name.data != NULL;
    *ret_space = s;
    return 0;
}

static bool scheme_is(const char *source, const char *scheme)
{
    size_t n = strlen(scheme);
    return strncasecmp(source, scheme, n) == 0 && source[n] == ':';
}

bool space_can_write(const struct space_options *s)
{
    return s->kind == SPACE_HOME || s->kind == SPACE_GROUP;
}

static const char *kind_name(enum space_kind kind)
{
    static const char *const names[] = {"a Butler", "an S3", "a home", "a group"};
    return names[kind];
}

bool option_is_of_kind(const struct option_row *option, enum space_kind kind)
{
    return option->kinds == 0 || option->kinds & OF_KIND(kind);
}

char *option_is_not_of(const struct option_row *option, const struct space_options *s)
{
    struct buffer line = {0};
    buffer_format(&line, "it is of %s spaces only", option->kinds & OF_KIND(SPACE_S3) ? "S3" : "home and group");
    if (s)
        buffer_format(&line, ", and %s is %s space", s->name ? s->name : s->source, kind_name(s->kind));
    else
        buffer_append_string(&line, ", and there is none");
    return buffer_steal(&line);
}

bool options_can_write(const struct options *o)
{
    for (uint32_t i = 0; i < o->space_count; i++)
        if (space_can_write(&o->spaces[i]))
            return true;
    return false;
}

bool options_writes_objects(const struct options *o)
{
    for (uint32_t i = 0; i < o->space_count; i++)
        if (o->spaces[i].kind == SPACE_S3 && o->spaces[i].write != WRITE_OFF)
            return true;
    return false;
}

bool options_can_change(const struct options *o)
{
    return options_can_write(o) || options_writes_objects(o);
}

size_t space_prefix_bytes(const char *source)
{
    return scheme_is(source, "home") || scheme_is(source, "group") ? strcspn(source, ":") + 1 : 0;
}

static const char *settle_prefix(struct space_options *s, const char *source)
{
    size_t prefix_bytes = space_prefix_bytes(source);
    if (s->has_kind ? !space_can_write(s) : prefix_bytes == 0)
        return source;
    if (!s->has_kind)
        s->kind = scheme_is(source, "home") ? SPACE_HOME : SPACE_GROUP;
    s->has_kind = true;
    return source + prefix_bytes;
}

static int settle_kind(struct space_options *s, const char *source, char **ret_why)
{
    if (space_can_write(s))
        return path_is_uri(source) ? why(ret_why, -EINVAL, "source %s: a %s space is a folder of this machine",
                                         source, s->kind == SPACE_HOME ? "home" : "group")
                                   : 0;
    if (!s->has_kind) {
        bool is_butler = !path_is_uri(source) || scheme_is(source, "file") ||
                         text_ends(text_of(source), TEXT("butler.yaml"));
        if (!is_butler && !scheme_is(source, "s3"))
            return why(ret_why, -EINVAL,
                       "source %s: its words don't say what it is: name its butler.yaml, or say space=butler",
                       source);
        s->kind = is_butler ? SPACE_BUTLER : SPACE_S3;
        s->has_kind = true;
    }
    if (s->kind == SPACE_S3 && !scheme_is(source, "s3"))
        return why(ret_why, -EINVAL, "source %s: an S3 space is s3://BUCKET or s3://BUCKET/PREFIX", source);
    return 0;
}

// A label becomes the folder (or file) it stands for.
static int settle_label(struct space_options *s, const struct repository_index *index,
                        const char *source, char **ret_why)
{
    cleanup(cleanup_free) char *found = NULL;
    int r = repository_locate(source, index, &found, ret_why);
    if (r < 0)
        return r;
    struct text path = text_of(found);
    if (path_is_uri(found)) {
        s->source = take(found);
        return 0;
    }
    if (text_ends(path, TEXT("/butler.yaml")) && path.size_bytes > strlen("/butler.yaml"))
        found[path.size_bytes - strlen("/butler.yaml")] = '\0';
    s->source = path_resolve("/", found, NULL);
    return 0;
}

int space_settle(struct space_options *s, const struct options *o, const char *source,
                 const char *base, char **ret_why)
{
    source = settle_prefix(s, source);
    if (source[0] == '\0')
        return why(ret_why, -EINVAL, "the source is empty");
    int r = settle_kind(s, source, ret_why);
    if (r < 0)
        return r;
    free(s->source);
    s->source = NULL;
    if (path_is_uri(source)) {
        s->source = memory_copy(source, strlen(source));
        return 0;
    }
    struct repository_index index = {.uri = o->repository_index, .text = o->repositories};
    bool is_relative = strncmp(source, "./", 2) == 0 || strncmp(source, "../", 3) == 0 ||
                       strcmp(source, ".") == 0 || strcmp(source, "..") == 0;
    if (!is_relative && !space_can_write(s) && (index.uri || index.text))
        return settle_label(s, &index, source, ret_why);
    s->source = path_resolve(base, source, NULL);
    return 0;
}
