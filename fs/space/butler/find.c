// SPDX-License-Identifier: BSD-3-Clause
// find.c: datasets by an expression, a page at a time (meta/find.h). The request has `type`, `where` and,
// to go on, `after`: what the page before called `next`. The answer has `paths`, below the folder that is
// asked; bytes that are no UTF-8, which JSON can't hold, are {"hex": "..."}.
#include "meta/find.h"

#include <errno.h>

#include "base/log.h"
#include "fs/space/butler/butler.h"

static void write_hex(const void *data, size_t size_bytes, struct buffer *to)
{
    for (size_t i = 0; i < size_bytes; i++)
        buffer_format(to, "%02x", ((const uint8_t *)data)[i]);
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int read_key(struct text hex, struct key *ret_key)
{
    ret_key->size_bytes = 0;
    if (hex.size_bytes % 2 || hex.size_bytes > 2 * sizeof ret_key->bytes)
        return -EINVAL;
    for (size_t i = 0; i < hex.size_bytes; i += 2) {
        int high = hex_digit(hex.data[i]), low = hex_digit(hex.data[i + 1]);
        if (high < 0 || low < 0)
            return -EINVAL;
        ret_key->bytes[ret_key->size_bytes++] = (uint8_t)(high * 16 + low);
    }
    return 0;
}

static bool is_ascii(struct text t)
{
    for (size_t i = 0; i < t.size_bytes; i++)
        if ((unsigned char)t.data[i] >= 0x80)
            return false;
    return true;
}

// What JSON gives back as it was.
static bool is_utf8(struct text t)
{
    BUFFER_CLEANUP json = {0};
    cleanup(cleanup_doc_free) struct doc *there = doc_new_text(t), *back = NULL;
    doc_write_json(there, false, &json);
    return doc_parse_json(buffer_text(&json), &back, NULL) == 0 && text_equal(doc_text(back, TEXT("")), t);
}

static void put_page(struct find_page *page, struct doc *reply)
{
    struct doc *paths = doc_new(DOC_LIST);
    BUFFER_CLEANUP hex = {0};
    struct text path;
    while (find_page_next(page, &path)) {
        if (is_ascii(path) || is_utf8(path)) {
            doc_append(paths, doc_new_text(path));
            continue;
        }
        struct doc *raw = doc_new(DOC_MAP);
        buffer_clear(&hex);
        write_hex(path.data, path.size_bytes, &hex);
        doc_put(raw, "hex", doc_new_text(buffer_text(&hex)));
        doc_append(paths, raw);
    }
    doc_put(reply, "paths", paths);
    if (!page->has_more)
        return;
    buffer_clear(&hex);
    write_hex(page->last.bytes, page->last.size_bytes, &hex);
    doc_put(reply, "next", doc_new_text(buffer_text(&hex)));
}

int butler_find(struct op *op, const struct doc *request, struct doc *reply)
{
    struct place place;
    struct find_page page = {0};
    struct key after;
    cleanup(cleanup_free) char *why = NULL;
    const struct doc *next = doc_get(request, "after");
    if (next && read_key(doc_text(next, TEXT("?")), &after) < 0)
        return -EINVAL;
    int r = butler_place(op, op->node, &place);
    if (r < 0)
        return r;
    r = place_find(&place, doc_text(doc_get(request, "type"), TEXT("")), doc_text(doc_get(request, "where"), TEXT("")),
                   next ? &after : NULL, &page, &why, &op->want);
    place_release(&place);
    if (why)
        doc_put_text(reply, "error", why);
    if (r == 0)
        put_page(&page, reply);
    find_page_release(&page);
    return r;
}
