// SPDX-License-Identifier: BSD-3-Clause
// paths: see paths.h.
#include "tools/paths.h"

#include <errno.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/cleanup.h"

static bool is_over(const struct paths *p)
{
    return p->is_over && p->is_over(p->context);
}

void paths_below(const struct paths *p, const char *path)
{
    struct stat st;
    bool is_there = stat(path, &st) == 0;
    if (!is_there || !S_ISDIR(st.st_mode)) {
        p->file(path, is_there ? &st : NULL, p->context);
        return;
    }
    cleanup(cleanup_free) char *copy = memory_copy(path, strlen(path));
    char *roots[] = {copy, NULL};
    FTS *tree = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    for (FTSENT *e; tree && !is_over(p) && (e = fts_read(tree));)
        if (e->fts_info == FTS_F)
            p->file(e->fts_path, e->fts_statp, p->context);
        else if (e->fts_info == FTS_DNR || e->fts_info == FTS_ERR || e->fts_info == FTS_NS)
            p->trouble(e->fts_path, e->fts_errno, p->context);
    if (tree)
        fts_close(tree);
}

static void each_of_list(const struct paths *p)
{
    cleanup(cleanup_free) char *line = NULL;
    size_t room = 0;
    for (ssize_t n; !is_over(p) && (n = getdelim(&line, &room, p->delimiter, stdin)) > 0;) {
        if (line[n - 1] == p->delimiter)
            line[n - 1] = 0;
        if (!line[0])
            continue;
        if (p->listed)
            p->listed(line, p->context);
        paths_below(p, line);
    }
}

void paths_each(const struct paths *p, char **words, int count)
{
    if (count == 0)
        each_of_list(p);
    for (int i = 0; i < count && !is_over(p); i++)
        if (strcmp(words[i], "-") == 0)
            each_of_list(p);
        else
            paths_below(p, words[i]);
}
