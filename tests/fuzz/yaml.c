// SPDX-License-Identifier: BSD-3-Clause
// Any bytes read as YAML: no crash, no leak, no bound passed; and what was understood can be written
// as JSON and is then understood as JSON too (but for keys and numbers that JSON's reader refuses).
// Found planted: an anchored value that was freed when its key came again (use after free; 2 s).
#include <stdint.h>
#include <stdlib.h>

#include "base/doc.h"
#include "base/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct doc *d = NULL;
    char *why = NULL;
    int error = doc_parse_yaml((struct text){(const char *)data, size}, &d, &why);
    check((error < 0) == (why != NULL) && (error == 0) == (d != NULL));
    free(why);
    if (error < 0)
        return 0;
    BUFFER_CLEANUP written = {0};
    doc_write_json(d, size % 2, &written);
    doc_free(d);
    struct doc *again = NULL;
    why = NULL;
    error = doc_parse_json(buffer_text(&written), &again, &why);
    check(error == 0 || strstr(why, "a NUL") || strstr(why, "64 bits"));
    doc_free(again);
    free(why);
    return 0;
}
