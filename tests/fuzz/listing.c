// SPDX-License-Identifier: BSD-3-Clause
// Any bytes as a page of keys and as an error's body. The first byte says in which pieces the page comes: what it comes
// to must be the same as in one piece, and no key may stand outside of the prefix. Its highest bit: it is of versions; then
// no key is given twice, nor the one that the page before has settled, and its token is one that can be asked with.
// Found when planted: elements that are nested deeper than there is room for (7 s); a key that the page before had settled
// (at once, by its seeds).
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/buffer.h"
#include "base/log.h"
#include "cache/origin/listing.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SETTLED "s0002pk" // what there was of the key "pk" has been given

struct kept {
    struct buffer *all;
    bool is_of_versions;
    struct buffer last;
};

static int keep(struct origin_request *r, const struct origin_entry *e)
{
    struct kept *k = r->context;
    struct buffer *all = k->all;
    if (k->is_of_versions && !e->is_prefix) {
        check(text_compare(e->key, buffer_text(&k->last)) > 0 && !text_equal(e->key, TEXT("pk")));
        buffer_clear(&k->last);
        buffer_append_text(&k->last, e->key);
    }
    check(k->is_of_versions || (!e->is_absent && !e->version.size_bytes));
    check(text_begins(e->key, TEXT("p")) && e->key.size_bytes <= ORIGIN_KEY_BYTES_MAX);
    check(e->is_prefix || e->size_bytes >= 0);
    buffer_append_text(all, e->key);
    buffer_append_text(all, e->validator);
    buffer_append_text(all, e->storage_class);
    buffer_append_text(all, e->version);
    buffer_format(all, " %lld %lld %d %d\n", (long long)e->size_bytes, (long long)e->mtime_unix_ns, e->is_prefix,
                  e->is_absent);
    return 0;
}

// What it comes to, in words.
static void read_page(const uint8_t *data, size_t size, size_t piece, bool is_of_versions, struct buffer *all)
{
    const char *why = NULL;
    int error = 0;
    struct listing *l = listing_new(TEXT("p"), is_of_versions ? TEXT(SETTLED) : TEXT("token"));
    if (is_of_versions)
        listing_set_past(l, INT64_C(1731294245000000000)); // 2024-11-11T03:04:05Z
    for (size_t at = 0; at < size && !error; at += piece)
        error = listing_feed(l, data + at, piece < size - at ? piece : size - at, &why);
    if (!error)
        error = listing_end(l, &why);
    check((error == 0) == (why == NULL));
    check(error == 0 || error == -EBADMSG || error == -E2BIG || (error == -EOPNOTSUPP && is_of_versions));
    if (!error) {
        struct kept k = {.all = all, .is_of_versions = is_of_versions};
        struct origin_request r = {.each = keep, .context = &k};
        struct listing_past past;
        check(listing_give(l, &r) == 0);
        buffer_release(&k.last);
        if (is_of_versions && listing_token(l).size_bytes)
            check(listing_read_past(listing_token(l), &past) && past.key.size_bytes);
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
    bool is_of_versions = data[0] & 0x80;
    read_page(data + 1, size - 1, size, is_of_versions, &whole);
    read_page(data + 1, size - 1, (size_t)data[0] % 64 + 1, is_of_versions, &pieces);
    check(text_equal(buffer_text(&whole), buffer_text(&pieces)));
    listing_read_error((struct text){(const char *)data + 1, size - 1}, &e);
    check(strlen(e.code) < sizeof(e.code) && strlen(e.message) < sizeof(e.message));
    return 0;
}
