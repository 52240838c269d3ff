// SPDX-License-Identifier: BSD-3-Clause
// Any text as a butler.yaml: refused with one line, or every path in it is absolute and canonical, and
// there is a datastore.
// Found when planted: a `..` that stayed at the top of a path; a relative database.
#include <stdint.h>

#include "base/log.h"
#include "meta/config.h"
#include "meta/uri.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_path(const char *path)
{
    BUFFER_CLEANUP again = {0};
    check(path && path[0] == '/');
    buffer_append_string(&again, path);
    path_normalise(&again);
    check(strcmp(again.data, path) == 0);
    check(!strstr(path, "/../") && !strstr(path, "//"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct repository_config *c = NULL;
    char *why = NULL;
    int r = repository_config_parse("/repo/butler.yaml", (struct text){(const char *)data, size}, &c, &why);
    if (r < 0) {
        check(!c && why && *why && !strchr(why, '\n'));
        free(why);
        return 0;
    }
    if (c->root[0] == '/')
        check_path(c->root);
    if (c->database == DATABASE_SQLITE)
        check_path(c->database_path);
    check(c->database_url && c->datastore_count > 0);
    for (uint32_t i = 0; i < c->datastore_count; i++) {
        const struct datastore_config *d = &c->datastores[i];
        check(d->is_local == (d->root[0] == '/'));
        if (d->is_local)
            check_path(d->root);
        else
            check(uri_is_remote((struct text){d->root, strlen(d->root)}));
        check(c->datastores[i].name && c->datastores[i].records_table);
    }
    repository_config_free(c);
    return 0;
}
