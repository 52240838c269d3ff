// SPDX-License-Identifier: BSD-3-Clause
// Any bytes as a page of keys and as an error's body. The first byte says in which pieces the page comes: what it comes
// to must be the same as in one piece, and no key may stand outside of the prefix.
// Found when planted: elements that are nested deeper than there is room for (7 s).
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/buffer.h"
#include "base/log.h"
#include "cache/origin/listing.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int keep(struct origin_request *r, const struct origin_entry *e)
{
    struct buffer *all = r->context;
    check(text_begins(e->key, TEXT("p")) && e->key.size_bytes <= ORIGIN_KEY_BYTES_MAX);
    check(e->is_prefix || e->size_bytes >= 0);
    buffer_append_text(all, e->key);
    buffer_append_text(all, e->validator);
    buffer_append_text(all, e->storage_class);
    buffer_format(all, " %lld %lld %d\n", (long long)e->size_bytes, (long long)e->mtime_unix_ns, e->is_prefix);
    return 0;
}

// What it comes to, in words.
static void read_page(const uint8_t *data, size_t size, size_t piece, struct buffer *all)
{
    const char *why = NULL;
    int error = 0;
    struct listing *l = listing_new(TEXT("p"), TEXT("token"));
    for (size_t at = 0; at < size && !error; at += piece)
        error = listing_feed(l, data + at, piece < size - at ? piece : size - at, &why);
    if (!error)
        error = listing_end(l, &why);
    check((error == 0) == (why == NULL));
    check(error == 0 || error == -EBADMSG || error == -E2BIG);
    if (!error) {
        struct origin_request r = {.each = keep, .context = all};
        check(listing_give(l, &r) == 0);
        buffer_append_text(all, listing_token(l));
    } else {
        buffer_append_string(all, "refused");
    }
    listing_free(l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    BUFFER_CLEANUP whole = {0};
    BUFFER_CLEANUP pieces = {0};
    struct listing_error e;
    read_page(data + 1, size - 1, size, &whole);
    read_page(data + 1, size - 1, (size_t)data[0] % 64 + 1, &pieces);
    check(text_equal(buffer_text(&whole), buffer_text(&pieces)));
    listing_read_error((struct text){(const char *)data + 1, size - 1}, &e);
    check(strlen(e.code) < sizeof(e.code) && strlen(e.message) < sizeof(e.message));
    return 0;
}
