// SPDX-License-Identifier: BSD-3-Clause
// Any bytes as a database's URL, and as a list of logins for one that is good.
// Found when planted: a user that is cut off one byte too late; a NUL that ends a password early.
#include <stdint.h>
#include <stdlib.h>

#include "base/log.h"
#include "meta/database_url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_part(const char *part, size_t size)
{
    check(!part || strlen(part) <= size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct text input = {(const char *)data, size};
    struct database_url u, copy;
    struct doc *list = NULL;
    char *why = NULL;
    int r = database_url_parse(input, &u, &why);
    check((r < 0) == (why != NULL));
    if (r == 0) {
        BUFFER_CLEANUP line = {0};
        check_part(u.user, size);
        check_part(u.password, size);
        check_part(u.host, size);
        check_part(u.database, size);
        database_url_describe(&u, &line);
        database_url_copy(&u, &copy);
        check(copy.option_count == u.option_count);
        database_url_release(&copy);
        database_url_release(&u);
    }
    free(why);
    why = NULL;
    if (doc_parse_yaml(input, &list, NULL) < 0)
        return 0;
    check(database_url_parse(TEXT("postgresql://h.example:5/d"), &u, &why) == 0);
    r = database_login_match(list, &u, &why);
    check((r < 0) == (why != NULL));
    free(why);
    database_url_release(&u);
    doc_free(list);
    return 0;
}
