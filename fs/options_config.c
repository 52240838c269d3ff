// SPDX-License-Identifier: BSD-3-Clause
// options_config: the YAML file of `config=`.
//
//     spaces:
//       dp1:     {source: /repo/dp1}
//       embargo: {kind: butler, source: /repo/embargo, uid: rubin, umask: 0027}
//     options:
//       refresh: 5s
//       cache_dir: /var/cache/butlerfs/rubin
//
// 1. A key that isn't known is refused: a setting that silently does nothing is worse than none.
// 2. So is one that means nothing to its space's kind.
// 3. Relative paths are below the file's own folder.
#include <stdio.h>
#include <string.h>

#include "base/doc.h"
#include "fs/options_table.h"
#include "fs/path.h"
#include "fs/why.h"

struct config {
    const char *file;
    char *folder;
    struct options *o;
    struct space_options *s; // whose fields are being set
    struct text space;       // its name; no data: `options`
};

// " line N" if exactly one line of the file begins with this key; a document doesn't remember where
// its keys stood.
static void append_line(const char *file, struct text key, struct buffer *to)
{
    FILE *f = fopen(file, "re");
    if (!f)
        return;
    cleanup(cleanup_free) char *line = NULL;
    size_t room = 0;
    unsigned number = 0, found = 0;
    for (ssize_t n; (n = getline(&line, &room, f)) >= 0;) {
        number++;
        struct text rest = {line + strspn(line, " \t{\"'"), 0};
        rest.size_bytes = (size_t)n - (size_t)(rest.data - line);
        if (!text_begins(rest, key) || rest.size_bytes == key.size_bytes ||
            !strchr(":\"' ", rest.data[key.size_bytes]))
            continue;
        if (found) {
            found = 0;
            break;
        }
        found = number;
    }
    fclose(f);
    if (found)
        buffer_format(to, " line %u", found);
}

static int refuse_key(const struct config *c, struct text key, const char *reason, char **ret_why)
{
    BUFFER_CLEANUP place = {};
    buffer_append_string(&place, c->file);
    append_line(c->file, key, &place);
    if (c->space.data)
        buffer_format(&place, ": space %.*s", (int)c->space.size_bytes, c->space.data);
    const char *nearest = option_suggest(key);
    if (reason)
        return why(ret_why, -EINVAL, "%s: %.*s: %s", place.data, (int)key.size_bytes, key.data, reason);
    return why(ret_why, -EINVAL, "%s: unknown key \"%.*s\"%s%s%s", place.data, (int)key.size_bytes,
               key.data, nearest ? "; did you mean \"" : "", nearest ? nearest : "", nearest ? "\"?" : "");
}

static int set_scalar(const struct config *c, const struct option_row *option, struct text key,
                      const struct doc *value, char **ret_why)
{
    struct text text = doc_text(value, TEXT(""));
    if (!doc_is_scalar(value) || doc_kind(value) == DOC_NULL || memchr(text.data, '\0', text.size_bytes))
        return refuse_key(c, key, "a plain value is needed", ret_why);
    cleanup(cleanup_free) char *copy = memory_copy(text.data, text.size_bytes);
    cleanup(cleanup_free) char *reason = NULL;
    int r = option_set(option, copy, c->folder, c->o, c->s, &reason);
    return r < 0 ? refuse_key(c, key, reason, ret_why) : 0;
}

static int set_switch(const struct config *c, const struct option_row *option, struct text key,
                      const struct doc *value, char **ret_why)
{
    if (doc_kind(value) != DOC_BOOL)
        return refuse_key(c, key, "true or false is needed", ret_why);
    *(bool *)((char *)c->o + option->offset) = doc_bool(value, false) == option->on;
    return 0;
}

// Whether a space is written to, in the word of mount(8), which in an -o list stands always and so says nothing there.
static int set_rw(const struct config *c, struct text key, const struct doc *value, char **ret_why)
{
    if (doc_kind(value) != DOC_BOOL)
        return refuse_key(c, key, "true or false is needed", ret_why);
    if (!doc_bool(value, false))
        c->s->write = WRITE_OFF;
    else if (c->s->write == WRITE_OFF)
        c->s->write = WRITE_NEW;
    return 0;
}

static int set_key(const struct config *c, struct text key, const struct doc *value, char **ret_why)
{
    if (c->space.data && text_equal(key, TEXT("rw")))
        return set_rw(c, key, value, ret_why);
    const struct option_row *option = option_find(key);
    if (c->space.data && text_equal(key, TEXT("kind")))
        option = option_find(TEXT("space"));
    else if (option && !option->in_file)
        return refuse_key(c, key, "it belongs to the -o list, not into the file", ret_why);
    else if (option && c->space.data && !option->of_space)
        return refuse_key(c, key, "it is of the whole mount: put it under options:", ret_why);
    if (!option)
        return refuse_key(c, key, NULL, ret_why);
    if (option->type == OPTION_SWITCH)
        return set_switch(c, option, key, value, ret_why);
    if (option->type != OPTION_PATHS || doc_kind(value) != DOC_LIST)
        return set_scalar(c, option, key, value, ret_why);
    for (size_t i = 0; i < doc_count(value); i++) {
        int r = set_scalar(c, option, key, doc_item(value, i), ret_why);
        if (r < 0)
            return r;
    }
    return 0;
}

static char *folder_of(const char *file)
{
    const char *slash = strrchr(file, '/');
    return slash > file ? memory_copy(file, (size_t)(slash - file)) : memory_copy("/", 1);
}

static int apply_keys(struct config *c, const struct doc *map, char **ret_why)
{
    int r = 0;
    c->folder = folder_of(c->file);
    for (size_t i = 0; r >= 0 && i < doc_count(map); i++) {
        struct text key = doc_key(map, i);
        if (!c->space.data || !text_equal(key, TEXT("source")))
            r = set_key(c, key, doc_item(map, i), ret_why);
    }
    free(c->folder);
    return r;
}

int options_config_apply(const struct doc *config, const char *file, struct options *o,
                         struct space_options *standard, char **ret_why)
{
    struct config c = {.file = file, .o = o, .s = standard};
    if (doc_kind(config) != DOC_MAP)
        return why(ret_why, -EINVAL, "%s: a map with `spaces:` and `options:` is needed", file);
    for (size_t i = 0; i < doc_count(config); i++) {
        struct text key = doc_key(config, i);
        if (!text_equal(key, TEXT("spaces")) && !text_equal(key, TEXT("options")))
            return refuse_key(&c, key, "only spaces: and options: may stand here", ret_why);
        enum doc_kind kind = doc_kind(doc_item(config, i));
        if (kind != DOC_MAP && kind != DOC_NULL)
            return refuse_key(&c, key, "a map is needed", ret_why);
    }
    return apply_keys(&c, doc_get(config, "options"), ret_why);
}

static int check_kinds(const struct config *c, const struct doc *map, char **ret_why)
{
    for (size_t i = 0; i < doc_count(map); i++) {
        struct text key = doc_key(map, i);
        const struct option_row *option = option_find(text_equal(key, TEXT("rw")) ? TEXT("write") : key);
        bool is_needless = text_equal(key, TEXT("rw")) && doc_bool(doc_item(map, i), false) == space_can_write(c->s);
        if (!option || is_needless || option_is_of_kind(option, c->s->kind))
            continue;
        cleanup(cleanup_free) char *reason = option_is_not_of(option, c->s);
        return refuse_key(c, key, reason, ret_why);
    }
    return 0;
}

static int add_space(const struct doc *map, const struct config *outer, struct text name,
                     const struct space_options *standard, char **ret_why)
{
    struct config c = *outer;
    c.space = name;
    if (doc_kind(map) != DOC_MAP)
        return refuse_key(outer, name, "a map with at least `source:` is needed", ret_why);
    cleanup(cleanup_free) char *reason = NULL;
    int r = options_add_space(c.o, name, standard, &c.s, &reason);
    if (r < 0)
        return why(ret_why, r, "%s: %s", c.file, reason);
    r = apply_keys(&c, map, ret_why);
    if (r < 0)
        return r;
    struct text source = doc_text(doc_get(map, "source"), TEXT(""));
    if (source.size_bytes == 0 || memchr(source.data, '\0', source.size_bytes))
        return refuse_key(outer, name, "it has no source:", ret_why);
    cleanup(cleanup_free) char *copy = memory_copy(source.data, source.size_bytes);
    cleanup(cleanup_free) char *folder = folder_of(c.file);
    r = space_settle(c.s, c.o, copy, folder, &reason);
    return r < 0 ? why(ret_why, r, "%s: space %s: %s", c.file, c.s->name, reason) : check_kinds(&c, map, ret_why);
}

int options_config_spaces(const struct doc *config, const char *file, struct options *o,
                          const struct space_options *standard, char **ret_why)
{
    const struct doc *spaces = doc_get(config, "spaces");
    struct config c = {.file = file, .o = o};
    if (doc_count(spaces) == 0)
        return refuse_key(&c, TEXT("spaces"), "there is none in it", ret_why);
    for (size_t i = 0; i < doc_count(spaces); i++) {
        int r = add_space(doc_item(spaces, i), &c, doc_key(spaces, i), standard, ret_why);
        if (r < 0)
            return r;
    }
    return 0;
}
