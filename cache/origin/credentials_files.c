// SPDX-License-Identifier: BSD-3-Clause
// credentials_files: what stands where. Nothing here is trusted: these files are written by many programs.
#include "cache/origin/credentials_files.h"

#include <errno.h>

#include "base/clock.h"
#include "base/doc.h"
#include "cache/origin/internal.h"

// ---- ini

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static struct text trim(struct text t)
{
    while (t.size_bytes && is_blank(t.data[0]))
        t = text_slice(t, 1, t.size_bytes);
    while (t.size_bytes && is_blank(t.data[t.size_bytes - 1]))
        t.size_bytes--;
    return t;
}

static bool next_line(struct text *rest, struct text *ret_line)
{
    if (rest->size_bytes == 0)
        return false;
    const char *end = memchr(rest->data, '\n', rest->size_bytes);
    size_t size = end ? (size_t)(end - rest->data) : rest->size_bytes;
    *ret_line = text_slice(*rest, 0, size);
    *rest = text_slice(*rest, end ? size + 1 : size, rest->size_bytes);
    return true;
}

static bool is_comment(struct text line)
{
    return line.size_bytes == 0 || line.data[0] == '#' || line.data[0] == ';';
}

// "[profile a]": what is between the brackets, inner spaces as one.
static bool is_section(struct text line, const char *section)
{
    const char *end = memchr(line.data, ']', line.size_bytes);
    if (!end)
        return false;
    struct text name = trim(text_slice(line, 1, (size_t)(end - line.data)));
    const char *wanted = section;
    for (size_t i = 0; i < name.size_bytes; i++) {
        if (i > 0 && is_blank(name.data[i]) && is_blank(name.data[i - 1]))
            continue;
        char c = is_blank(name.data[i]) ? ' ' : name.data[i];
        if (*wanted == 0 || *wanted != c)
            return false;
        wanted++;
    }
    return *wanted == 0;
}

static bool split_pair(struct text line, struct text *ret_name, struct text *ret_value)
{
    const char *equals = line.size_bytes ? memchr(line.data, '=', line.size_bytes) : NULL;
    if (!equals)
        return false;
    size_t at = (size_t)(equals - line.data);
    *ret_name = trim(text_slice(line, 0, at));
    *ret_value = trim(text_slice(line, at + 1, line.size_bytes));
    return true;
}

static bool is_named(struct text name, const char *wanted)
{
    return name.size_bytes == strlen(wanted) && strncasecmp(name.data, wanted, name.size_bytes) == 0;
}

bool ini_get(struct text ini, const char *section, const char *group, const char *wanted, struct buffer *to)
{
    bool in_section = false, in_group = false, is_found = false;
    struct text line, name, value, found = TEXT("");
    while (next_line(&ini, &line)) {
        bool is_inner = line.size_bytes && is_blank(line.data[0]);
        struct text content = trim(line);
        if (is_comment(content))
            continue;
        if (!is_inner && content.data[0] == '[') {
            in_section = is_section(content, section);
            in_group = false;
            continue;
        }
        if (!in_section || !split_pair(content, &name, &value))
            continue;
        if (!is_inner)
            in_group = group && is_named(name, group) && value.size_bytes == 0;
        if (is_inner == (group != NULL) && (!group || in_group) && is_named(name, wanted)) {
            found = value;
            is_found = true;
        }
    }
    if (is_found)
        buffer_append_text(to, found);
    return is_found && found.size_bytes > 0;
}

bool ini_has_section(struct text ini, const char *section)
{
    struct text line;
    while (next_line(&ini, &line)) {
        if (line.size_bytes && line.data[0] == '[' && is_section(trim(line), section))
            return true;
    }
    return false;
}

// ---- environment

const char *environment_get(const char *const *environment, const char *name)
{
    size_t size = strlen(name);
    for (const char *const *e = environment; e && *e; e++) {
        if (strncmp(*e, name, size) == 0 && (*e)[size] == '=' && (*e)[size + 1])
            return *e + size + 1;
    }
    return NULL;
}

// ---- documents

// INT64_MAX: nobody can say.
static int64_t read_expiration(const char *text)
{
    int64_t unix_ns;
    return clock_parse_iso(text_of(text), &unix_ns) < 0 ? INT64_MAX : unix_ns;
}

// What can't stand in a field of HTTP is no key.
static bool is_key_text(const char *s)
{
    for (; *s; s++) {
        if ((unsigned char)*s <= ' ' || (unsigned char)*s >= 0x7f)
            return false;
    }
    return true;
}

static int read_set(const char *key_id, const char *secret, const char *token, const char *expires,
                    struct credential_set **ret_set, char **ret_why)
{
    if (!key_id[0] || !secret[0])
        return origin_fail(-EINVAL, ret_why, "it holds no key");
    if (!is_key_text(key_id) || !is_key_text(token))
        return origin_fail(-EINVAL, ret_why, "it holds a key with odd bytes in it");
    *ret_set = credential_set_new(key_id, secret, token, expires[0] ? read_expiration(expires) : INT64_MAX);
    return 0;
}

static char *doc_copy(const struct doc *map, const char *name)
{
    struct text t = doc_text(doc_get(map, name), TEXT(""));
    return memory_copy(t.data, t.size_bytes); // ends at a NUL in it, if it has one
}

int credentials_read_json(struct text json, struct credential_set **ret_set, char **ret_why)
{
    cleanup(cleanup_doc_free) struct doc *map = NULL;
    if (doc_parse_json(json, &map, NULL) < 0 || doc_kind(map) != DOC_MAP)
        return origin_fail(-EINVAL, ret_why, "it is not a JSON map");
    cleanup(cleanup_free) char *key_id = doc_copy(map, "AccessKeyId");
    cleanup(cleanup_free) char *secret = doc_copy(map, "SecretAccessKey");
    cleanup(cleanup_free) char *token = doc_copy(map, doc_get(map, "Token") ? "Token" : "SessionToken");
    cleanup(cleanup_free) char *expires = doc_copy(map, "Expiration");
    int error = read_set(key_id, secret, token, expires, ret_set, ret_why);
    explicit_bzero(secret, strlen(secret));
    return error;
}

// ---- commands

struct splitter {
    char **words;
    size_t count;
    struct buffer word;
    bool has_word;
};

static void splitter_end_word(struct splitter *s)
{
    if (!s->has_word)
        return;
    s->words = memory_grow(s->words, s->count + 2, sizeof(*s->words));
    s->words[s->count++] = buffer_steal(&s->word);
    s->words[s->count] = NULL;
    s->has_word = false;
}

// What stands between quotes; returns where it ends, or NULL.
static const char *splitter_quoted(struct splitter *s, const char *at, char quote)
{
    for (; *at && *at != quote; at++) {
        if (quote == '"' && *at == '\\' && (at[1] == '"' || at[1] == '\\'))
            at++;
        buffer_append_byte(&s->word, *at);
    }
    return *at ? at : NULL;
}

int command_split(const char *command, char ***ret_words)
{
    struct splitter s = {0};
    const char *at = command;
    for (; at && *at; at++) {
        if (is_blank(*at) || *at == '\n') {
            splitter_end_word(&s);
            continue;
        }
        s.has_word = true;
        if (*at == '\'' || *at == '"')
            at = splitter_quoted(&s, at + 1, *at);
        else if (*at == '\\' && at[1])
            buffer_append_byte(&s.word, *++at);
        else
            buffer_append_byte(&s.word, *at);
        if (!at)
            break;
    }
    splitter_end_word(&s);
    if (!at || s.count == 0) {
        command_free(s.words);
        return -EINVAL;
    }
    *ret_words = s.words;
    return 0;
}

void command_free(char **words)
{
    for (char **w = words; w && *w; w++)
        free(*w);
    free(words);
}
