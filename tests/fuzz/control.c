// SPDX-License-Identifier: BSD-3-Clause
// Any bytes as a request: one JSON map with "ok" in answer, and an "error" unless it is ok; nothing
// that is an administrator's done for others. Found when planted: the caller compared with itself.
#include <stdint.h>

#include "base/log.h"
#include "fs/control.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int run_echo(const struct doc *request, struct doc *reply, void *context)
{
    struct text word = doc_text(doc_get(request, "word"), TEXT(""));
    (void)context;
    doc_put(reply, "word", doc_new_text(word));
    return word.size_bytes % 2 ? -EINVAL : 0;
}

static int run_order(const struct doc *request, struct doc *reply, void *context)
{
    (void)request, (void)reply;
    check(*(uid_t *)context == 0);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct control_verb verbs[] = {
        {"echo", CONTROL_ANYONE, "", run_echo, NULL},
        {"order", CONTROL_ADMIN, "", run_order, NULL},
        {NULL, CONTROL_ADMIN, NULL, NULL, NULL},
    };
    uid_t caller = size % 2 ? 0 : 1000;
    BUFFER_CLEANUP reply = {0};
    cleanup(cleanup_doc_free) struct doc *answer = NULL;
    struct control_caller asking = {caller, 0, NULL};
    control_answer(verbs, &caller, &asking, (struct text){(const char *)data, size}, &reply);
    check(!memchr(reply.data, '\n', reply.size_bytes));
    check(doc_parse_json(buffer_text(&reply), &answer, NULL) == 0);
    check(doc_kind(doc_get(answer, "ok")) == DOC_BOOL);
    check(doc_bool(doc_get(answer, "ok"), false) != (doc_kind(doc_get(answer, "error")) == DOC_STRING));
    return 0;
}
