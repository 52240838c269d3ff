// SPDX-License-Identifier: BSD-3-Clause
// artifact: what lsst.resources makes of a record's path, found by reading it and by asking it.
// 1. Quoted is what holds `://`, begins with `file:` or has an escape with upper-case digits
//    anywhere. A quoted text ends at its first `#` (then the fragment) or `?`; one that isn't, at
//    the last `#` of its last part.
// 2. A relative path is decoded once more, and normalised, when it is joined to its root: quoted
//    ones twice, others once, so that `%2f` separates folders in both.
// 3. That a path stays below its root is checked when nothing is left to decode.
#include "meta/artifact.h"

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void decode(struct text quoted, struct buffer *to)
{
    for (size_t i = 0; i < quoted.size_bytes; i++) {
        char c = quoted.data[i];
        if (c == '%' && quoted.size_bytes - i >= 3) {
            int high = hex_digit(quoted.data[i + 1]), low = hex_digit(quoted.data[i + 2]);
            if (high >= 0 && low >= 0) {
                c = (char)(high << 4 | low);
                i += 2;
            }
        }
        buffer_append_byte(to, c);
    }
}

static void quote(struct text raw, struct buffer *to)
{
    for (size_t i = 0; i < raw.size_bytes; i++) {
        char c = raw.data[i];
        if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
            (c != 0 && strchr("/-._~", c)))
            buffer_append_byte(to, c);
        else
            buffer_format(to, "%%%02X", (unsigned char)c);
    }
}

static size_t find_byte(struct text t, char c)
{
    const char *at = t.size_bytes ? memchr(t.data, c, t.size_bytes) : NULL;
    return at ? (size_t)(at - t.data) : t.size_bytes;
}

// After the last `c`; 0: there is none.
static size_t after_last(struct text t, char c)
{
    size_t at = t.size_bytes;
    while (at > 0 && t.data[at - 1] != c)
        at--;
    return at;
}

static bool is_upper_hex(char c)
{
    return hex_digit(c) >= 0 && c < 'a';
}

static bool is_quoted(struct text t)
{
    if (text_begins(t, TEXT("file:")))
        return true;
    for (size_t i = 0; i + 3 <= t.size_bytes; i++) {
        if (memcmp(t.data + i, "://", 3) == 0 ||
            (t.data[i] == '%' && is_upper_hex(t.data[i + 1]) && is_upper_hex(t.data[i + 2])))
            return true;
    }
    return false;
}

// URI parsers drop these wherever they stand.
static void drop_breaks(struct text t, struct buffer *to)
{
    for (size_t i = 0; i < t.size_bytes; i++)
        if (t.data[i] != '\t' && t.data[i] != '\r' && t.data[i] != '\n')
            buffer_append_byte(to, t.data[i]);
}

// And control bytes and blanks at the beginning.
static struct text skip_blanks(struct text t)
{
    size_t begin = 0;
    while (begin < t.size_bytes && (unsigned char)t.data[begin] <= ' ' && t.data[begin] != 0)
        begin++;
    return text_slice(t, begin, t.size_bytes);
}

// How long a URI's scheme is; 0: it has none.
static size_t scheme_size(struct text uri)
{
    for (size_t i = 0; i < uri.size_bytes; i++) {
        char c = uri.data[i];
        bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (c == ':')
            return i;
        if (!is_letter && (i == 0 || !((c >= '0' && c <= '9') || strchr("+-.", c) || c == 0)))
            return 0;
    }
    return 0;
}

// Without the `//host` it may begin with.
static struct text skip_host(struct text path)
{
    if (!text_begins(path, TEXT("//")))
        return path;
    struct text rest = text_slice(path, 2, path.size_bytes);
    return text_slice(rest, find_byte(rest, '/'), rest.size_bytes);
}

// Drops `//`, `.` and, where a folder stands before it, `..`; leading `..` stay.
static void normalise(struct text path, struct buffer *to)
{
    size_t from = to->size_bytes; // no `..` goes back behind this
    for (size_t at = 0; at < path.size_bytes;) {
        struct text rest = text_slice(path, at, path.size_bytes);
        struct text part = text_slice(rest, 0, find_byte(rest, '/'));
        at += part.size_bytes + 1;
        if (part.size_bytes == 0 || text_equal(part, TEXT(".")))
            continue;
        struct text done = text_slice(buffer_text(to), from, to->size_bytes);
        size_t last = after_last(done, '/');
        struct text last_part = text_slice(done, last, done.size_bytes);
        if (text_equal(part, TEXT("..")) && done.size_bytes > 0 &&
            !text_equal(last_part, TEXT(".."))) {
            buffer_truncate(to, from + (last > 0 ? last - 1 : 0));
            continue;
        }
        if (done.size_bytes > 0)
            buffer_append_byte(to, '/');
        buffer_append_text(to, part);
    }
}

static int check_file_path(struct text path)
{
    if (path.size_bytes == 0 || path.data[path.size_bytes - 1] == '/' ||
        find_byte(path, 0) < path.size_bytes)
        return -EINVAL;
    return 0;
}

// A path that begins with `/`: no root applies.
static int resolve_absolute(struct text path, struct artifact *a)
{
    int r = check_file_path(path);
    if (r < 0)
        return r;
    a->scheme = ARTIFACT_FILE;
    a->is_absolute = true;
    buffer_append_text(&a->path, path);
    return 0;
}

static int resolve_relative(const struct datastore_config *datastore, struct text path,
                            struct artifact *a)
{
    BUFFER_CLEANUP once = {0}, twice = {0}, inside = {0};
    if (check_file_path(path) < 0)
        return -EINVAL;
    normalise(path, &once);
    decode(buffer_text(&once), &twice);
    struct text decoded = buffer_text(&twice);
    if (check_file_path(decoded) < 0)
        return -EINVAL;
    normalise(decoded, &inside);
    struct text below = buffer_text(&inside);
    if (decoded.data[0] == '/' || text_equal(below, TEXT("..")) || text_begins(below, TEXT("../")))
        return -EXDEV;
    if (below.size_bytes == 0)
        return -EINVAL;
    buffer_append_string(&a->path, datastore->root);
    while (a->path.size_bytes > 0 && a->path.data[a->path.size_bytes - 1] == '/')
        buffer_truncate(&a->path, a->path.size_bytes - 1);
    buffer_append_byte(&a->path, '/');
    if (datastore->is_local)
        buffer_append_text(&a->path, below);
    else
        quote(below, &a->path);
    a->scheme = datastore->is_local ? ARTIFACT_FILE : ARTIFACT_OTHER;
    return 0;
}

static int resolve_plain(const struct datastore_config *datastore, struct text path,
                         struct artifact *a)
{
    if (path.size_bytes == 0 || path.data[0] != '/')
        return resolve_relative(datastore, path, a);
    BUFFER_CLEANUP inside = {0}, absolute = {0};
    if (check_file_path(path) < 0)
        return -EINVAL;
    normalise(path, &inside);
    struct text below = buffer_text(&inside);
    while (text_begins(below, TEXT("../"))) // there is nothing above `/`
        below = text_slice(below, 3, below.size_bytes);
    if (below.size_bytes == 0 || text_equal(below, TEXT("..")))
        return -EINVAL;
    buffer_append_byte(&absolute, '/');
    buffer_append_text(&absolute, below);
    return resolve_absolute(buffer_text(&absolute), a);
}

// Without fragment and query: `uri` up to its `#`.
static int resolve_quoted(const struct datastore_config *datastore, struct text uri,
                          struct artifact *a)
{
    size_t scheme = scheme_size(uri);
    bool is_file = scheme == 4 && strncasecmp(uri.data, "file", 4) == 0;
    if (scheme > 0 && !is_file) {
        if (find_byte(uri, 0) < uri.size_bytes)
            return -EINVAL;
        a->scheme = ARTIFACT_OTHER;
        a->is_absolute = true;
        buffer_append_text(&a->path, uri);
        return 0;
    }
    BUFFER_CLEANUP decoded = {0};
    struct text path = text_slice(uri, 0, find_byte(uri, '?'));
    path = skip_host(is_file ? text_slice(path, scheme + 1, path.size_bytes) : path);
    if (is_file) {
        if (path.size_bytes == 0 || path.data[0] != '/')
            return -EINVAL;
        decode(path, &decoded);
        return resolve_absolute(buffer_text(&decoded), a);
    }
    // Python's parser: `;parameters` of the last part, where there is no scheme.
    size_t last = after_last(path, '/');
    struct text last_part = text_slice(path, last, path.size_bytes);
    decode(text_slice(path, 0, last + find_byte(last_part, ';')), &decoded);
    return resolve_plain(datastore, buffer_text(&decoded), a);
}

// A fragment that isn't about a zip says nothing.
static int read_fragment(struct text fragment, struct buffer *to_member)
{
    static const struct text key = {"zip-path=", 9};
    BUFFER_CLEANUP cleaned = {0}, decoded = {0};
    drop_breaks(fragment, &cleaned);
    decode(buffer_text(&cleaned), &decoded);
    struct text t = buffer_text(&decoded);
    if (!text_begins(t, key))
        return 0;
    if (t.size_bytes == key.size_bytes || find_byte(t, 0) < t.size_bytes)
        return -EINVAL;
    buffer_append_text(to_member, text_slice(t, key.size_bytes, t.size_bytes));
    return 0;
}

int artifact_resolve(const struct datastore_config *datastore, struct text recorded,
                     struct artifact *ret_artifact)
{
    struct artifact a = {0};
    BUFFER_CLEANUP cleaned = {0};
    bool quoted = is_quoted(recorded);
    struct text uri = recorded;
    size_t hash;
    if (quoted) {
        drop_breaks(skip_blanks(recorded), &cleaned);
        uri = buffer_text(&cleaned);
        hash = find_byte(uri, '#');
    } else {
        size_t last = after_last(uri, '/');
        size_t after = after_last(text_slice(uri, last, uri.size_bytes), '#');
        hash = after > 0 ? last + after - 1 : uri.size_bytes;
    }
    struct text path = text_slice(uri, 0, hash);
    int r = quoted ? resolve_quoted(datastore, path, &a) : resolve_plain(datastore, path, &a);
    if (r == 0 && hash < uri.size_bytes)
        r = read_fragment(text_slice(uri, hash + 1, uri.size_bytes), &a.member);
    if (r < 0) {
        artifact_release(&a);
        return r;
    }
    *ret_artifact = a;
    return 0;
}

void artifact_release(struct artifact *a)
{
    buffer_release(&a->path);
    buffer_release(&a->member);
    *a = (struct artifact){0};
}
