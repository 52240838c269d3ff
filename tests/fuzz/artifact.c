// SPDX-License-Identifier: BSD-3-Clause
// Any bytes as a record's path: refused, or a place with no NUL, and below the root unless the
// record named an absolute one. Found when planted: `..` looked for before the second decoding
// only; what was decoded not normalised.
#include <stdint.h>

#include "base/log.h"
#include "meta/artifact.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_below(const struct artifact *a, const char *root)
{
    BUFFER_CLEANUP framed = {0};
    buffer_format(&framed, "%s/", a->path.data);
    check(text_begins(buffer_text(&framed), text_of(root)) && framed.size_bytes > strlen(root) + 1);
    const char *below = framed.data + strlen(root) - 1;
    check(!strstr(below, "/../") && !strstr(below, "/./") && !strstr(below, "//"));
}

static void fuzz(char *root, bool is_local, struct text recorded)
{
    struct datastore_config datastore = {.root = root, .is_local = is_local};
    struct artifact a = {0};
    if (artifact_resolve(&datastore, recorded, &a) < 0) {
        check(!a.path.data && !a.member.data);
        return;
    }
    check(strlen(a.path.data) == a.path.size_bytes);
    check(!a.member.data || strlen(a.member.data) == a.member.size_bytes);
    check(a.scheme != ARTIFACT_FILE || a.path.data[0] == '/');
    check(a.scheme == ARTIFACT_FILE || !is_local || a.is_absolute);
    if (!a.is_absolute)
        check_below(&a, root);
    artifact_release(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char local[] = "/repo/", remote[] = "s3://bucket/prefix/";
    fuzz(local, true, (struct text){(const char *)data, size});
    fuzz(remote, false, (struct text){(const char *)data, size});
    return 0;
}
