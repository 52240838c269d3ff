// SPDX-License-Identifier: BSD-3-Clause
// Any bytes read as JSON: no crash, no leak; and what was understood, written and read again, is
// written the same. (Keys that differ only in bytes that are no UTF-8 become one when written:
// where something was replaced, the comparison begins with what was read again.)
// Found planted: a look-over that read one byte too far, and one control character that was written
// as it is (4 s each).
#include <stdint.h>
#include <stdlib.h>

#include "base/doc.h"
#include "base/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void rewrite(struct text json, bool pretty, struct buffer *to)
{
    struct doc *d = NULL;
    check(doc_parse_json(json, &d, NULL) == 0);
    doc_write_json(d, pretty, to);
    doc_free(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bool pretty = size % 2;
    struct doc *d = NULL;
    char *why = NULL;
    int error = doc_parse_json((struct text){(const char *)data, size}, &d, &why);
    check((error < 0) == (why != NULL) && (error == 0) == (d != NULL));
    free(why);
    if (error < 0)
        return 0;
    BUFFER_CLEANUP first = {0};
    doc_write_json(d, pretty, &first);
    doc_free(d);
    BUFFER_CLEANUP second = {0};
    rewrite(buffer_text(&first), pretty, &second);
    if (!strstr(first.data, "\xef\xbf\xbd"))
        check(text_equal(buffer_text(&first), buffer_text(&second)));
    BUFFER_CLEANUP third = {0};
    rewrite(buffer_text(&second), pretty, &third);
    check(text_equal(buffer_text(&second), buffer_text(&third)));
    return 0;
}
