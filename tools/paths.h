// SPDX-License-Identifier: BSD-3-Clause
// paths: the files that somebody names: on the command line, below folders, in a list on standard input.
#pragma once
#include <stdbool.h>
#include <sys/stat.h>

struct paths {
    int delimiter;  // of the list: '\n' or 0
    void *context;
    void (*file)(const char *path, const struct stat *st, void *context); // st NULL: it can't be had
    void (*trouble)(const char *path, int error, void *context); // a folder that can't be read
    void (*listed)(const char *name, void *context); // each name of a list, before its files; NULL
    bool (*is_over)(void *context); // no more; NULL: never
};

// Calls `file` for each; of folders for all files below. No words, or "-": a list on standard input.
void paths_each(const struct paths *p, char **words, int count);
void paths_below(const struct paths *p, const char *path); // of one name
