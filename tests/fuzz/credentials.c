// SPDX-License-Identifier: BSD-3-Clause
// Any bytes as AWS's files, as the documents that hold keys, and as a command.
// Found when planted: a backslash at the end that takes the NUL with it (1 s).
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/log.h"
#include "cache/origin/credentials_files.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_ini(struct text ini)
{
    static const char *const sections[] = {"default", "profile a", "a"};
    static const char *const names[] = {"aws_access_key_id", "region", "k"};
    for (int i = 0; i < 3; i++) {
        for (int grouped = 0; grouped < 2; grouped++) {
            BUFFER_CLEANUP value = {0};
            bool is_there = ini_get(ini, sections[i], grouped ? "s3" : NULL, names[i], &value);
            check(is_there == (value.size_bytes > 0) && value.size_bytes <= ini.size_bytes);
            check(!is_there || ini_has_section(ini, sections[i]));
            check(!memchr(value.size_bytes ? value.data : "", '\n', value.size_bytes));
        }
    }
}

static void read_set(int (*read)(struct text, struct credential_set **, char **), struct text document)
{
    struct credential_set *set = NULL;
    char *why = NULL;
    int error = read(document, &set, &why);
    check((error == 0) == (set != NULL) && (error < 0) == (why != NULL));
    if (set)
        check(set->key_id[0] && set->secret[0]);
    credential_set_unref(set);
    free(why);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct text input = {(const char *)data, size};
    char **words;
    read_ini(input);
    read_set(credentials_read_json, input);
    read_set(credentials_read_xml, input);
    char *command = memory_copy(data, size);
    if (command_split(command, &words) == 0) {
        check(words[0]);
        command_free(words);
    }
    free(command);
    return 0;
}
