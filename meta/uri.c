// SPDX-License-Identifier: BSD-3-Clause
#include "meta/uri.h"

#include <stdlib.h>
#include <string.h>

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

void uri_unquote(struct text quoted, struct buffer *to)
{
    for (size_t i = 0; i < quoted.size_bytes; i++) {
        char byte = quoted.data[i];
        if (byte == '%' && quoted.size_bytes - i > 2) {
            int high = hex_digit(quoted.data[i + 1]), low = hex_digit(quoted.data[i + 2]);
            if (high >= 0 && low >= 0) {
                byte = (char)(high * 16 + low);
                i += 2;
            }
        }
        buffer_append_byte(to, byte);
    }
}

// RFC 3986's scheme and "://"; or "file:" alone, which the client takes too.
bool uri_has_scheme(struct text t)
{
    size_t i = 0;
    while (i < t.size_bytes && ((t.data[i] >= 'a' && t.data[i] <= 'z') ||
                                (t.data[i] >= 'A' && t.data[i] <= 'Z') ||
                                (i > 0 && ((t.data[i] >= '0' && t.data[i] <= '9') ||
                                           t.data[i] == '+' || t.data[i] == '-' ||
                                           t.data[i] == '.'))))
        i++;
    return i > 0 && (text_begins(text_slice(t, i, t.size_bytes), TEXT("://")) ||
                     text_begins(t, TEXT("file:")));
}

bool uri_is_remote(struct text t)
{
    static const char *const kinds[] = {"s3://", "http://", "https://", "dav://", "davs://"};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        size_t n = strlen(kinds[i]);
        if (t.size_bytes > n && strncasecmp(t.data, kinds[i], n) == 0)
            return true;
    }
    return false;
}

static int file_uri_to_path(struct text uri, struct buffer *to)
{
    struct text rest = text_slice(uri, 5, uri.size_bytes);
    if (text_begins(rest, TEXT("//"))) {
        rest = text_slice(rest, 2, rest.size_bytes);
        if (text_begins(rest, TEXT("localhost/")))
            rest = text_slice(rest, 9, rest.size_bytes);
    }
    const char *fragment = rest.size_bytes ? memchr(rest.data, '#', rest.size_bytes) : NULL;
    if (fragment)
        rest.size_bytes = (size_t)(fragment - rest.data);
    if (!text_begins(rest, TEXT("/")))
        return -EINVAL;
    uri_unquote(rest, to);
    return 0;
}

int uri_to_path(struct text given, struct buffer *to)
{
    size_t from = to->size_bytes;
    if (text_begins(given, TEXT("file:"))) {
        int r = file_uri_to_path(given, to);
        if (r < 0)
            return r;
    } else if (uri_has_scheme(given)) {
        return -EOPNOTSUPP;
    } else {
        if (!text_begins(given, TEXT("/"))) {
            cleanup(cleanup_free) char *here = getcwd(NULL, 0);
            if (!here)
                return -errno;
            buffer_append_string(to, here);
            buffer_append_byte(to, '/');
        }
        buffer_append_text(to, given);
    }
    if (memchr(to->data + from, 0, to->size_bytes - from)) {
        buffer_truncate(to, from);
        return -EINVAL;
    }
    return 0;
}

void path_normalise(struct buffer *path)
{
    char *data = path->data;
    size_t size = path->size_bytes, out = 0, i = 0;
    while (i < size) {
        while (i < size && data[i] == '/')
            i++;
        size_t from = i;
        while (i < size && data[i] != '/')
            i++;
        struct text part = {data + from, i - from};
        if (part.size_bytes == 0 || text_equal(part, TEXT(".")))
            continue;
        if (text_equal(part, TEXT(".."))) {
            while (out > 0 && data[--out] != '/')
                ;
            continue;
        }
        data[out++] = '/'; // never beyond what was read: each part had its slash
        memmove(data + out, part.data, part.size_bytes);
        out += part.size_bytes;
    }
    if (out == 0)
        data[out++] = '/';
    buffer_truncate(path, out);
}
