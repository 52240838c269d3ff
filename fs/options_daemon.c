// SPDX-License-Identifier: BSD-3-Clause
// options_daemon: see options_daemon.h.
// 1. Nothing but the arguments, and the secrets in the environment, is looked at: no file, no link.
// 2. A newer daemon understands an older one's arguments: an option that isn't known any more is
//    skipped, one that is new has the table's default.
#include "fs/options_daemon.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/options_table.h"
#include "fs/why.h"

struct arguments {
    char **words; // NULL-terminated
    size_t count;
};

static void add_word(struct arguments *a, const char *word)
{
    a->words = memory_grow(a->words, a->count + 2, sizeof *a->words);
    a->words[a->count++] = memory_copy(word, strlen(word));
    a->words[a->count] = NULL;
}

// A secret of the i-th space stands in the environment, under this name.
static void secret_name(const struct option_row *option, uint32_t space, struct buffer *to)
{
    buffer_format(to, "BUTLERFS_SECRET_%u_%s", space, option->name);
}

static void put_secret(const struct option_row *option, const struct options *o,
                       const struct space_options *s)
{
    BUFFER_CLEANUP name = {}, value = {};
    secret_name(option, (uint32_t)(s - o->spaces), &name);
    if (option_get(option, o, s, 0, &value))
        setenv(name.data, value.data ? value.data : "", 1);
    else
        unsetenv(name.data);
}

static int take_secrets(struct options *o, char **ret_why)
{
    for (uint32_t i = 0; i < o->space_count; i++)
        for (const struct option_row *option = option_table; option->name; option++) {
            BUFFER_CLEANUP name = {};
            if (!option->is_secret)
                continue;
            secret_name(option, i, &name);
            const char *value = getenv(name.data);
            int r = value ? option_set(option, value, "/", o, &o->spaces[i], ret_why) : 0;
            if (r < 0)
                return r;
        }
    return 0;
}

static void add_set(struct arguments *a, const struct option_row *option, const struct options *o,
                    const struct space_options *s)
{
    if (option->is_secret) {
        put_secret(option, o, s);
        return;
    }
    for (size_t i = 0;; i++) {
        BUFFER_CLEANUP value = {};
        if (!option_get(option, o, s, i, &value))
            return;
        BUFFER_CLEANUP word = {};
        buffer_append_string(&word, option->name);
        if (option->value)
            buffer_format(&word, "=%s", value.data ? value.data : "");
        add_word(a, "--set");
        add_word(a, word.data);
    }
}

char **options_daemon_arguments(const struct options *o)
{
    struct arguments a = {};
    add_word(&a, "--daemon");
    if (o->foreground)
        add_word(&a, "--foreground");
    for (const struct option_row *option = option_table; option->name; option++)
        if (!option->of_space)
            add_set(&a, option, o, NULL);
    for (uint32_t i = 0; i < o->space_count; i++) {
        const struct space_options *s = &o->spaces[i];
        BUFFER_CLEANUP source = {};
        buffer_format(&source, "source=%s", s->source);
        add_word(&a, "--space");
        add_word(&a, s->name ? s->name : "");
        add_word(&a, "--set");
        add_word(&a, source.data);
        for (const struct option_row *option = option_table; option->name; option++)
            if (option->of_space)
                add_set(&a, option, o, s);
    }
    add_word(&a, "--");
    add_word(&a, o->source);
    add_word(&a, o->mountpoint);
    return a.words;
}

void options_arguments_free(char **arguments)
{
    for (size_t i = 0; arguments && arguments[i]; i++)
        free(arguments[i]);
    free(arguments);
}

static int take_set(const char *word, struct options *o, struct space_options *s, char **ret_why)
{
    size_t n = strcspn(word, "=");
    const char *value = word[n] ? word + n + 1 : NULL;
    struct text name = {word, n};
    if (text_equal(name, TEXT("source")) && s && value) {
        free(s->source);
        s->source = memory_copy(value, strlen(value));
        return 0;
    }
    const struct option_row *option = option_find(name);
    if (!option || option->type == OPTION_REFUSED || (option->of_space && !s))
        return 0; // of another version
    return option_set(option, value, "/", o, s, ret_why);
}

static int take_space(const char *name, const struct space_options *standard, struct options *o,
                      struct space_options **s, char **ret_why)
{
    return options_add_space(o, name[0] ? text_of(name) : (struct text){}, standard, s, ret_why);
}

static int take_words(int argc, char **argv, struct options *o, const struct space_options *standard,
                      char **ret_why)
{
    struct space_options *s = NULL;
    int i = 2, r = 0;
    for (; i < argc && strcmp(argv[i], "--") != 0 && r >= 0; i++) {
        if (strncmp(argv[i], "--life=", 7) == 0)
            o->life = (uint32_t)strtoul(argv[i] + 7, NULL, 10);
        else if (strncmp(argv[i], "--last-signal=", 14) == 0)
            o->last_signal = (int)strtol(argv[i] + 14, NULL, 10);
        else if (strcmp(argv[i], "--foreground") == 0)
            o->foreground = true;
        else if (strcmp(argv[i], "--set") == 0 && i + 1 < argc)
            r = take_set(argv[++i], o, s, ret_why);
        else if (strcmp(argv[i], "--space") == 0 && i + 1 < argc)
            r = take_space(argv[++i], standard, o, &s, ret_why);
    }
    if (r >= 0)
        r = take_secrets(o, ret_why);
    if (r < 0)
        return r;
    if (argc - i != 3 || o->space_count == 0)
        return why(ret_why, -EINVAL, "--daemon is for the supervisor, not for people");
    o->source = memory_copy(argv[i + 1], strlen(argv[i + 1]));
    o->mountpoint = memory_copy(argv[i + 2], strlen(argv[i + 2]));
    return 0;
}

int options_parse_daemon(int argc, char **argv, struct options **ret_options, char **ret_why)
{
    struct options *o = new_struct(struct options);
    struct space_options standard = {};
    options_set_standards(o, &standard);
    o->is_daemon = true;
    o->life = 1;
    int r = take_words(argc, argv, o, &standard, ret_why);
    for (uint32_t i = 0; r >= 0 && i < o->space_count; i++)
        if (!o->spaces[i].source)
            r = why(ret_why, -EINVAL, "--daemon: a space without a source");
    space_release(&standard);
    if (r < 0) {
        options_free(o);
        return r;
    }
    *ret_options = o;
    return 0;
}
