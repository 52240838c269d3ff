// SPDX-License-Identifier: BSD-3-Clause
// origins.c: see origins.h.
#include "fs/origins.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "cache/fetcher.h"
#include "fs/kept.h"

int space_origin_open(struct fetchers *fetchers, const struct options *o, const struct space_options *s,
                      const char *uri, struct origin **ret_origin, char **ret_key, char **ret_why)
{
    struct origin_options options = {
        .environment = (const char *const *)environ,
        .endpoint = s->endpoint,
        .region = s->region,
        .profile = s->profile,
        .access_key_id = s->access_key,
        .secret_access_key = s->secret_key,
        .session_token = s->session_token,
        .is_anonymous = s->anonymous,
        .style = s->addressing == ADDRESSING_PATH      ? ORIGIN_STYLE_PATH
                 : s->addressing == ADDRESSING_VIRTUAL ? ORIGIN_STYLE_HOST
                                                       : ORIGIN_STYLE_AUTO,
        .ca_bundle = s->ca_bundle,
        .connections = o->connections,
        .pays_requests = s->pays_requests,
        .storage_class = s->storage_class,
        .encryption = s->encryption,
        .encryption_key = s->encryption_key,
    };
    return origin_open(fetchers, uri, &options, ret_origin, ret_key, ret_why);
}

#define REMOTE_BYTES_MAX (KEPT_BYTES_MAX / 2)
#define REMOTE_LIMIT_NS (10 * NS_PER_S)
#define REMOTE_KNOWN_LIMIT_NS NS_PER_S // a later life must not be late because an origin is

static int remote_ask(const struct space_reader *r, const char *uri, int64_t limit_ns, struct buffer *to, char **ret_why)
{
    cleanup(cleanup_origin_unref) struct origin *origin = NULL;
    cleanup(cleanup_free) char *key = NULL;
    int64_t most_ns = r->options->timeout_ns < limit_ns ? r->options->timeout_ns : limit_ns;
    int e = space_origin_open(r->fetchers, r->options, r->space, uri, &origin, &key, ret_why);
    if (e < 0)
        return e;
    return origin_read_whole(origin, text_of(key), REMOTE_BYTES_MAX, clock_ns() + most_ns, to, ret_why);
}

static void kept_folder(const struct options *o, struct buffer *to)
{
    buffer_format(to, "%s/kept", o->cache_dir);
}

// Of an earlier life of this mount.
static bool has_kept(const struct options *o, const char *uri, struct buffer *to, int64_t *ret_unix_ns)
{
    BUFFER_CLEANUP folder = {0};
    if (o->life <= 1)
        return false;
    kept_folder(o, &folder);
    int e = kept_read(folder.data, text_of(uri), to, ret_unix_ns);
    if (e < 0 && e != -ENOENT)
        log_warn("%s: what was kept of it in %s can't be used: %s", uri, folder.data, strerror(-e));
    return e == 0;
}

static int remote_read(void *context, const char *uri, struct buffer *to, char **ret_why)
{
    struct space_reader *r = context;
    BUFFER_CLEANUP kept = {0}, text = {0};
    char since[CLOCK_ISO_BYTES];
    int64_t unix_ns = 0;
    bool is_kept = has_kept(r->options, uri, &kept, &unix_ns);
    int e = remote_ask(r, uri, is_kept ? REMOTE_KNOWN_LIMIT_NS : REMOTE_LIMIT_NS, &text, ret_why);
    if (e == 0) {
        buffer_clear(&r->uri);
        buffer_append_string(&r->uri, uri);
        buffer_clear(&r->text);
        buffer_append_text(&r->text, buffer_text(&text));
    } else if (is_kept) {
        clock_format_iso(unix_ns, since);
        log_warn("%s can't be read at the moment (%s): going on with what it was at %s", uri,
                 *ret_why ? *ret_why : strerror(-e), since);
        free(*ret_why);
        *ret_why = NULL;
    }
    if (e == 0 || is_kept)
        buffer_append_text(to, buffer_text(e == 0 ? &text : &kept));
    return is_kept ? 0 : e;
}

void space_reader_init(struct space_reader *r, struct fetchers *fetchers, const struct options *o,
                       const struct space_options *s)
{
    *r = (struct space_reader){{remote_read, r}, fetchers, o, s, {0}, {0}};
}

void space_reader_release(struct space_reader *r)
{
    buffer_release(&r->uri);
    buffer_release(&r->text);
}

void space_reader_keep(const struct space_reader *r)
{
    BUFFER_CLEANUP folder = {0};
    if (r->uri.size_bytes == 0)
        return;
    kept_folder(r->options, &folder);
    int e = kept_write(folder.data, buffer_text(&r->uri), buffer_text(&r->text));
    if (e < 0)
        log_warn("%.*s can't be kept in %s: %s; should it be away when this daemon dies, the mount ends", (int)r->uri.size_bytes,
                 r->uri.data, folder.data, strerror(-e));
}

int space_fetchers_new(const struct options *o, uint32_t threads, struct fetchers **ret_fetchers)
{
    struct fetchers_options options = FETCHERS_OPTIONS_STANDARD;
    options.threads = threads;
    options.connections = o->connections;
    return fetchers_new(&options, ret_fetchers);
}

struct database_login space_login(const struct space_options *s, struct buffer *file)
{
    const char *named = s->db_auth ? s->db_auth : getenv("LSST_DB_AUTH"), *home = getenv("HOME");
    const char *below_home = !named ? "/.lsst/db-auth.yaml"
                             : !s->db_auth && text_begins(text_of(named), TEXT("~/")) ? named + 1 : NULL;
    if (!below_home)
        buffer_append_string(file, named);
    else if (home && home[0] == '/')
        buffer_format(file, "%s%s", home, below_home);
    return (struct database_login){s->db_auth ? NULL : getenv("LSST_DB_AUTH_CREDENTIALS"), file->data};
}
