// SPDX-License-Identifier: BSD-3-Clause
// fetcher_url: the little of URLs that asking servers needs.
#include "cache/fetcher_url.h"

#include <errno.h>

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

// Where the first of those bytes is, or the text's end.
static size_t find_byte(struct text t, const char *bytes)
{
    size_t i = 0;
    while (i < t.size_bytes && !(t.data[i] && strchr(bytes, t.data[i])))
        i++;
    return i;
}

static int url_scheme(struct text *rest, struct url *u)
{
    size_t end = find_byte(*rest, ":");
    if (end == 0 || !is_letter(rest->data[0]) || rest->size_bytes < end + 3 ||
        memcmp(rest->data + end, "://", 3) != 0)
        return -EINVAL;
    for (size_t i = 0; i < end; i++) {
        char c = rest->data[i];
        if (!is_letter(c) && !is_digit(c) && c != '+' && c != '-' && c != '.')
            return -EINVAL;
    }
    u->scheme = text_slice(*rest, 0, end);
    *rest = text_slice(*rest, end + 3, rest->size_bytes);
    return 0;
}

static bool is_port(struct text t)
{
    unsigned number = 0;
    for (size_t i = 0; i < t.size_bytes && i < 6; i++) {
        if (!is_digit(t.data[i]))
            return false;
        number = number * 10 + (unsigned)(t.data[i] - '0');
    }
    return t.size_bytes >= 1 && t.size_bytes <= 5 && number <= 65535;
}

static int url_host(struct text authority, struct url *u)
{
    size_t end = text_begins(authority, TEXT("[")) ? find_byte(authority, "]") + 1 : find_byte(authority, ":");
    if (end > authority.size_bytes)
        return -EINVAL;
    u->host = text_slice(authority, 0, end);
    struct text port = text_slice(authority, end, authority.size_bytes);
    if (port.size_bytes == 0)
        return 0;
    if (port.data[0] != ':')
        return -EINVAL;
    u->port = text_slice(port, 1, port.size_bytes);
    if (is_port(u->port))
        return 0;
    u->host = authority;
    u->port = TEXT("");
    u->has_odd_port = true;
    return 0;
}

int url_parse(struct text given, struct url *ret_url)
{
    struct url u = {0};
    struct text rest = given;
    if (url_scheme(&rest, &u) < 0)
        return -EINVAL;
    size_t end = find_byte(rest, "/?#");
    struct text authority = text_slice(rest, 0, end);
    for (size_t i = 0; i < authority.size_bytes; i++) {
        if ((unsigned char)authority.data[i] <= ' ' || authority.data[i] == 0x7f)
            return -EINVAL;
    }
    u.path = text_slice(rest, end, rest.size_bytes);
    for (size_t at = authority.size_bytes; at-- > 0;) {
        if (authority.data[at] == '@') {
            u.user = text_slice(authority, 0, at);
            authority = text_slice(authority, at + 1, authority.size_bytes);
            break;
        }
    }
    if (url_host(authority, &u) < 0)
        return -EINVAL;
    *ret_url = u;
    return 0;
}

static struct text url_port_of(struct text scheme)
{
    if (scheme.size_bytes == 4 && strncasecmp(scheme.data, "http", 4) == 0)
        return TEXT("80");
    if (scheme.size_bytes == 5 && strncasecmp(scheme.data, "https", 5) == 0)
        return TEXT("443");
    return TEXT("");
}

static void append_lower(struct buffer *to, struct text t)
{
    for (size_t i = 0; i < t.size_bytes; i++)
        buffer_append_byte(to, lower(t.data[i]));
}

int url_endpoint(struct text given, struct buffer *to)
{
    struct url u;
    if (url_parse(given, &u) < 0 || u.host.size_bytes == 0 || u.has_odd_port)
        return -EINVAL;
    struct text port = url_port_of(u.scheme);
    if (port.size_bytes == 0)
        return -EINVAL;
    append_lower(to, u.scheme);
    buffer_append_string(to, "://");
    append_lower(to, u.host);
    buffer_append_byte(to, ':');
    buffer_append_text(to, u.port.size_bytes ? u.port : port);
    return 0;
}

void url_append_host(const struct url *u, struct buffer *to)
{
    append_lower(to, u->host);
    if (u->port.size_bytes && !text_equal(u->port, url_port_of(u->scheme))) {
        buffer_append_byte(to, ':');
        buffer_append_text(to, u->port);
    }
}

void url_quote(struct text bytes, bool keep_slashes, struct buffer *to)
{
    static const char hex[] = "0123456789ABCDEF";
    buffer_reserve(to, bytes.size_bytes);
    for (size_t i = 0; i < bytes.size_bytes; i++) {
        unsigned char c = (unsigned char)bytes.data[i];
        if (is_letter((char)c) || is_digit((char)c) || c == '-' || c == '.' || c == '_' || c == '~' ||
            (keep_slashes && c == '/')) {
            buffer_append_byte(to, (char)c);
        } else {
            buffer_append_byte(to, '%');
            buffer_append_byte(to, hex[c >> 4]);
            buffer_append_byte(to, hex[c & 15]);
        }
    }
}

static int hex_value(char c)
{
    if (is_digit(c))
        return c - '0';
    c = lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

void url_unquote(struct text quoted, struct buffer *to)
{
    for (size_t i = 0; i < quoted.size_bytes; i++) {
        if (quoted.data[i] == '%' && i + 2 < quoted.size_bytes) {
            int high = hex_value(quoted.data[i + 1]), low = hex_value(quoted.data[i + 2]);
            if (high >= 0 && low >= 0) {
                buffer_append_byte(to, (char)(high << 4 | low));
                i += 2;
                continue;
            }
        }
        buffer_append_byte(to, quoted.data[i]);
    }
}
