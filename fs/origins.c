// SPDX-License-Identifier: BSD-3-Clause
// origins.c: see origins.h.
#include "fs/origins.h"

#include <stdlib.h>

#include "base/clock.h"
#include "cache/fetcher.h"

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

#define REMOTE_BYTES_MAX (1u << 20)
#define REMOTE_LIMIT_NS (10 * NS_PER_S)

static int remote_read(void *context, const char *uri, struct buffer *to, char **ret_why)
{
    const struct space_reader *r = context;
    cleanup(cleanup_origin_unref) struct origin *origin = NULL;
    cleanup(cleanup_free) char *key = NULL;
    int64_t limit_ns = r->options->timeout_ns < REMOTE_LIMIT_NS ? r->options->timeout_ns : REMOTE_LIMIT_NS;
    int e = space_origin_open(r->fetchers, r->options, r->space, uri, &origin, &key, ret_why);
    if (e < 0)
        return e;
    return origin_read_whole(origin, text_of(key), REMOTE_BYTES_MAX, clock_ns() + limit_ns, to, ret_why);
}

void space_reader_init(struct space_reader *r, struct fetchers *fetchers, const struct options *o,
                       const struct space_options *s)
{
    *r = (struct space_reader){{remote_read, r}, fetchers, o, s};
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
