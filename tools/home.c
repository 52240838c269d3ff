// SPDX-License-Identifier: BSD-3-Clause
// home: homes and group folders made by order.
#include "tools/home.h"

#include <errno.h>
#include <string.h>

#include "tools/ask.h"

int home_run(char **words, int count, char **ret_why)
{
    cleanup(cleanup_doc_free) struct doc *request = doc_new(DOC_MAP), *answer = NULL;
    if (count < 3 || count > 4 || strcmp(words[0], "create") != 0 || words[1][0] == '-' || words[2][0] == '-')
        return -EINVAL;
    doc_put_text(request, "verb", "home-create");
    doc_put_text(request, "name", words[2]);
    if (count == 4)
        doc_put_text(request, "space", words[3]);
    return ask_mount(words[1], request, &answer, ret_why);
}
