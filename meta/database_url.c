// SPDX-License-Identifier: BSD-3-Clause
#include "meta/database_url.h"

#include <stdlib.h>
#include <string.h>

#include "meta/uri.h"

static int refuse(char **ret_why, const char *what)
{
    *ret_why = memory_copy(what, strlen(what));
    return -EINVAL;
}

// The text, decoded; a NUL in it is refused.
static int unquoted(struct text quoted, char **ret_text, char **ret_why)
{
    BUFFER_CLEANUP plain = {0};
    uri_unquote(quoted, &plain);
    if (plain.size_bytes && memchr(plain.data, 0, plain.size_bytes))
        return refuse(ret_why, "holds a NUL byte");
    *ret_text = buffer_steal(&plain);
    return 0;
}

static const char *find(struct text t, char c)
{
    return t.size_bytes ? memchr(t.data, c, t.size_bytes) : NULL;
}

// Cuts what stands before `c` off; all of it, where there is none.
static struct text cut(struct text *rest, char c)
{
    const char *at = find(*rest, c);
    size_t before = at ? (size_t)(at - rest->data) : rest->size_bytes;
    struct text part = text_slice(*rest, 0, before);
    *rest = text_slice(*rest, at ? before + 1 : before, rest->size_bytes);
    return part;
}

static int read_user(struct text t, struct database_url *u, char **ret_why)
{
    bool has_password = find(t, ':');
    struct text user = cut(&t, ':');
    int r = user.size_bytes ? unquoted(user, &u->user, ret_why) : 0;
    return r == 0 && has_password ? unquoted(t, &u->password, ret_why) : r;
}

// host, host:port, [address]:port, or :port.
static int read_host(struct text t, struct database_url *u, char **ret_why)
{
    struct text host;
    if (text_begins(t, TEXT("["))) {
        t = text_slice(t, 1, t.size_bytes);
        if (!find(t, ']'))
            return refuse(ret_why, "has a [ and no ]");
        host = cut(&t, ']');
        if (t.size_bytes && t.data[0] != ':')
            return refuse(ret_why, "has something other than a port after its ]");
        t = text_slice(t, t.size_bytes ? 1 : 0, t.size_bytes);
    } else {
        host = cut(&t, ':');
    }
    for (size_t i = 0; i < t.size_bytes; i++)
        if (t.data[i] < '0' || t.data[i] > '9')
            return refuse(ret_why, "has a port that is no number");
    if (find(host, 0))
        return refuse(ret_why, "holds a NUL byte");
    if (host.size_bytes)
        u->host = memory_copy(host.data, host.size_bytes);
    if (t.size_bytes)
        u->port = memory_copy(t.data, t.size_bytes);
    return 0;
}

// "key=value&...". In a form a + is a blank.
static int read_query(struct text t, struct database_url *u, char **ret_why)
{
    while (t.size_bytes) {
        struct text item = cut(&t, '&');
        if (item.size_bytes == 0)
            continue;
        struct text key = cut(&item, '=');
        cleanup(cleanup_free) char *spaced = memory_copy(item.data, item.size_bytes);
        for (size_t i = 0; i < item.size_bytes; i++)
            if (spaced[i] == '+')
                spaced[i] = ' ';
        struct database_option o = {0};
        int r = unquoted(key, &o.key, ret_why);
        if (r == 0)
            r = unquoted((struct text){spaced, item.size_bytes}, &o.value, ret_why);
        if (r < 0) {
            free(o.key);
            return r;
        }
        u->options = memory_grow(u->options, u->option_count + 1, sizeof *u->options);
        u->options[u->option_count++] = o;
    }
    return 0;
}

static int parse(struct text url, struct database_url *u, char **ret_why)
{
    const char *scheme_end = url.size_bytes ? memmem(url.data, url.size_bytes, "://", 3) : NULL;
    struct text scheme = text_slice(url, 0, scheme_end ? (size_t)(scheme_end - url.data) : 0);
    if (!text_equal(cut(&scheme, '+'), TEXT("postgresql")))
        return refuse(ret_why, "is not a postgresql:// URL");
    struct text rest = text_slice(url, (size_t)(scheme_end - url.data) + 3, url.size_bytes);
    const char *query = find(rest, '?');
    size_t end = query ? (size_t)(query - rest.data) : rest.size_bytes;
    struct text place = text_slice(rest, 0, end);
    // A password may hold an @ and a /, as SQLAlchemy takes it; the last @ ends it.
    const char *at = place.size_bytes ? memrchr(place.data, '@', place.size_bytes) : NULL;
    int r = 0;
    if (at) {
        r = read_user(text_slice(place, 0, (size_t)(at - place.data)), u, ret_why);
        place = text_slice(place, (size_t)(at - place.data) + 1, place.size_bytes);
    }
    struct text host = cut(&place, '/');
    if (r == 0)
        r = read_host(host, u, ret_why);
    if (r == 0 && place.size_bytes)
        r = unquoted(place, &u->database, ret_why);
    return r == 0 && query ? read_query(text_slice(rest, end + 1, rest.size_bytes), u, ret_why) : r;
}

int database_url_parse(struct text url, struct database_url *ret_url, char **ret_why)
{
    struct database_url u = {0};
    int r = parse(url, &u, ret_why);
    if (r < 0)
        database_url_release(&u);
    else
        *ret_url = u;
    return r;
}

static char *copy(const char *text)
{
    return text ? memory_copy(text, strlen(text)) : NULL;
}

void database_url_copy(const struct database_url *from, struct database_url *ret_url)
{
    *ret_url = (struct database_url){copy(from->user), copy(from->password), copy(from->host),
                                     copy(from->port), copy(from->database), NULL, 0};
    if (from->option_count)
        ret_url->options = memory_new(from->option_count * sizeof *from->options);
    for (size_t i = 0; i < from->option_count; i++)
        ret_url->options[ret_url->option_count++] =
            (struct database_option){copy(from->options[i].key), copy(from->options[i].value)};
}

void database_url_release(struct database_url *u)
{
    free(u->user);
    free(u->password);
    free(u->host);
    free(u->port);
    free(u->database);
    for (size_t i = 0; i < u->option_count; i++) {
        free(u->options[i].key);
        free(u->options[i].value);
    }
    free(u->options);
    *u = (struct database_url){0};
}

static bool is_among(const char *key, const char *const *all)
{
    while (*all && strcmp(*all, key) != 0)
        all++;
    return *all;
}

const char *database_url_overreach(const struct database_url *u)
{
    // What is harmless is listed: libpq learns new words.
    static const char *const harmless[] = {
        "application_name", "client_encoding", "connect_timeout", "dbname", "fallback_application_name", "keepalives",
        "keepalives_count", "keepalives_idle", "keepalives_interval", "load_balance_hosts", "options", "password", "service",
        "target_session_attrs", "tcp_user_timeout", "user", NULL,
    };
    // Which server it is, and how it shows that it is the one. libpq takes of a service what isn't said besides: its
    // password would go to this one.
    static const char *const of_server[] = {
        "channel_binding", "gssencmode", "host", "krbsrvname", "port", "require_auth", "ssl_max_protocol_version",
        "ssl_min_protocol_version", "sslcertmode", "sslcompression", "sslmode", "sslnegotiation", "sslsni", NULL,
    };
    bool has_service = false, has_server = u->host || u->port;
    for (size_t i = 0; i < u->option_count; i++) {
        const char *key = u->options[i].key;
        bool is_of_server = is_among(key, of_server);
        if (!is_of_server && !is_among(key, harmless))
            return key;
        has_server = has_server || is_of_server;
        has_service = has_service || strcmp(key, "service") == 0;
    }
    return has_service && has_server ? "service" : NULL;
}

static const char *option_of(const struct database_url *u, const char *key)
{
    for (size_t i = 0; i < u->option_count; i++)
        if (strcmp(u->options[i].key, key) == 0)
            return u->options[i].value;
    return NULL;
}

void database_url_describe(const struct database_url *u, struct buffer *to)
{
    const char *service = option_of(u, "service"), *host = u->host ? u->host : option_of(u, "host");
    buffer_append_string(to, "postgresql://");
    if (host)
        buffer_append_string(to, host);
    else if (service)
        buffer_format(to, "(service %s)", service);
    if (u->port)
        buffer_format(to, ":%s", u->port);
    if (u->database)
        buffer_format(to, "/%s", u->database);
}
