// SPDX-License-Identifier: BSD-3-Clause
// http: web servers and WebDAV, for reading: HEAD and GET of ranges. There are no listings.
// 1. A redirect is followed, also to another host (dCache sends one to where the bytes are), but the token stays.
#include <errno.h>

#include "cache/origin/wire.h"

struct http_origin {
    struct origin origin;
    char *base;          // "https://host[:port]"
    char *bearer_token;  // or NULL
    struct endpoint_options way;
    char *ca_bundle, *proxy; // the way's
};

static struct http_origin *http_of(struct origin *o)
{
    return (struct http_origin *)o;
}

static void http_url(struct origin_flight *flight, struct buffer *to)
{
    if (flight->redirect.size_bytes) {
        buffer_append_text(to, buffer_text(&flight->redirect));
        return;
    }
    buffer_append_string(to, http_of(flight->origin)->base);
    buffer_append_byte(to, '/');
    url_quote(flight->request->key, true, to);
}

static int http_ask(struct origin_flight *flight, struct fetch_message *m)
{
    struct http_origin *h = http_of(flight->origin);
    wire_ask(flight, m);
    http_url(flight, &m->url);
    if (h->bearer_token && flight->fetch.endpoint == h->origin.endpoint) {
        buffer_format(&m->fields, "Authorization: Bearer %s", h->bearer_token);
        buffer_append_byte(&m->fields, 0);
    }
    return 0;
}

static enum fetch_verdict http_judge(struct origin_flight *flight, const struct fetch_outcome *o)
{
    switch (o->head->status) {
    case 301:
    case 302:
    case 303:
    case 307:
    case 308: {
        BUFFER_CLEANUP from = {0};
        http_url(flight, &from);
        return wire_redirect(flight, o, &http_of(flight->origin)->way, buffer_text(&from));
    }
    default:
        break;
    }
    enum fetch_verdict verdict = wire_judge_status(flight, o, NULL);
    if (verdict == FETCH_RETRY || verdict == FETCH_SLOWER) {
        buffer_clear(&flight->redirect); // where it leads may have changed
        flight->fetch.elsewhere = flight->origin->endpoint;
    }
    return verdict;
}

static void http_close(struct origin *o)
{
    struct http_origin *h = http_of(o);
    if (h->bearer_token)
        explicit_bzero(h->bearer_token, strlen(h->bearer_token));
    free(h->bearer_token);
    free(h->base);
    free(h->ca_bundle);
    free(h->proxy);
    origin_release(o);
    free(h);
}

static const struct origin_ops http_ops = {
    .can_list = false,
    .is_local = false,
    .close = http_close,
    .ask = http_ask,
    .judge = http_judge,
};

static char *copy_or_null(const char *s)
{
    return s ? memory_copy(s, strlen(s)) : NULL;
}


static bool is_secure(struct text scheme)
{
    return scheme.data[scheme.size_bytes - 1] == 's' || scheme.data[scheme.size_bytes - 1] == 'S';
}

int http_open(struct fetchers *fetchers, const struct url *url, const struct origin_options *options,
              struct origin **ret_origin, struct buffer *key, char **ret_why)
{
    if (url->host.size_bytes == 0)
        return origin_fail(-EINVAL, ret_why, "the URI names no host");
    if (url->user.size_bytes)
        return origin_fail(-EINVAL, ret_why, "a name and password in a URI are not taken: give a token");
    if (url->path.size_bytes && memchr(url->path.data, '?', url->path.size_bytes))
        return origin_fail(-EINVAL, ret_why, "a URI with a query is no root of objects");
    struct url plain = *url;
    plain.scheme = is_secure(url->scheme) ? TEXT("https") : TEXT("http");
    BUFFER_CLEANUP base = {0};
    buffer_format(&base, "%s://", plain.scheme.data);
    url_append_host(&plain, &base);
    if (base.size_bytes > 500)
        return origin_fail(-EINVAL, ret_why, "the host's name is too long");
    struct http_origin *h = new_struct(struct http_origin);
    h->ca_bundle = copy_or_null(options->ca_bundle);
    h->proxy = copy_or_null(options->proxy);
    h->way = (struct endpoint_options){
        .ca_bundle = h->ca_bundle, .proxy = h->proxy, .connections = options->connections};
    h->bearer_token = copy_or_null(options->bearer_token);
    h->base = memory_copy(base.data, base.size_bytes);
    struct endpoint *e = NULL;
    int error = endpoint_get(fetchers, h->base, &h->way, &e);
    origin_init(&h->origin, &http_ops, e, memory_copy(base.data, base.size_bytes));
    if (error) {
        http_close(&h->origin);
        return origin_fail(error, ret_why, "%.*s is no host that can be asked", (int)url->host.size_bytes,
                           url->host.data);
    }
    struct text path = url->path;
    while (text_begins(path, TEXT("/")))
        path = text_slice(path, 1, path.size_bytes);
    url_unquote(path, key);
    *ret_origin = &h->origin;
    return 0;
}
