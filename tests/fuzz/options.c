// SPDX-License-Identifier: BSD-3-Clause
// Any bytes as an -o list (after a first byte 'o') or as the file of `config=`: refused with one line, or
// understood; and then the daemon's arguments, read and written again, are the same.
// Found when planted: the copy of artifact_roots left out of a space; an escape at the list's end.
#include <stdint.h>
#include <stdlib.h>

#include "base/doc.h"
#include "base/log.h"
#include "fs/options_table.h"

#define NOWHERE "/nowhere/c.yaml"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct target {
    struct options *o;
    struct space_options standard;
};

static int set_one(const char *name, const char *value, void *context, char **ret_why)
{
    struct target *t = context;
    const struct option_row *option = option_find(text_of(name));
    if (!option) {
        const char *nearest = option_suggest(text_of(name));
        check(!nearest || option_find(text_of(nearest)));
        return 0;
    }
    // Names of users go to the machine's directory of them: not ours to fuzz.
    if (option->type == OPTION_USER || option->type == OPTION_GROUP || option->environment)
        return 0;
    return option_set(option, value, "/base", t->o, &t->standard, ret_why);
}

static int read_list(struct target *t, struct text text, char **ret_why)
{
    struct space_options *s;
    cleanup(cleanup_free) char *list = memory_copy(text.data, text.size_bytes);
    int r = option_list_split(list, set_one, t, ret_why);
    if (r >= 0)
        r = options_add_space(t->o, (struct text){0}, &t->standard, &s, ret_why);
    if (r >= 0)
        r = space_settle(s, t->o, "/repo", "/base", ret_why);
    return r;
}

static int read_file(struct target *t, struct text text, char **ret_why)
{
    cleanup(cleanup_doc_free) struct doc *d = NULL;
    int r = doc_parse_yaml(text, &d, ret_why);
    if (r >= 0)
        r = options_config_apply(d, NOWHERE, t->o, &t->standard, ret_why);
    if (r >= 0 && !t->o->repository_index && !t->o->repositories)
        r = options_config_spaces(d, NOWHERE, t->o, &t->standard, ret_why);
    return r;
}

static void check_again(struct options *o)
{
    struct options *again = NULL;
    char *reason = NULL, *argv[4096] = {(char[]){"butlerfs"}};
    char **first = options_daemon_arguments(o);
    int argc = 1;
    for (; first[argc - 1] && argc < 4095; argc++)
        argv[argc] = first[argc - 1];
    if (argc == 4095 || o->space_count == 0) {
        options_arguments_free(first);
        return;
    }
    check(options_parse(argc, argv, &again, &reason) == 0);
    char **second = options_daemon_arguments(again);
    size_t i = 0;
    for (; first[i] && second[i]; i++)
        check(strcmp(first[i], second[i]) == 0);
    check(!first[i] && !second[i]);
    options_free(again);
    options_arguments_free(first);
    options_arguments_free(second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct target t = {.o = new_struct(struct options)};
    char *reason = NULL;
    bool is_list = size > 0 && data[0] == 'o';
    struct text text = {(const char *)data + is_list, size - is_list};
    options_set_standards(t.o, &t.standard);
    t.o->source = memory_copy("source", 6);
    t.o->mountpoint = memory_copy("/mnt", 4);
    int r = is_list ? read_list(&t, text, &reason) : read_file(&t, text, &reason);
    check((r < 0) == (reason != NULL));
    if (r >= 0)
        check_again(t.o);
    free(reason);
    space_release(&t.standard);
    options_free(t.o);
    return 0;
}
