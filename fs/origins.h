// SPDX-License-Identifier: BSD-3-Clause
// origins: what a space's options say, as the cache's origins take it.
#pragma once
#include "cache/origin/origin.h"
#include "fs/options.h"
#include "meta/config.h"

// The origin that `uri` is in, with the space's credentials; *ret_key (may be NULL): the rest of it. The
// environment variables that count are this process's: the supervisor hands them on to every life.
// May read files. -errno with *ret_why.
int space_origin_open(struct fetchers *fetchers, const struct options *o, const struct space_options *s,
                      const char *uri, struct origin **ret_origin, char **ret_key, char **ret_why);
// Reads small files of a space's origins, for meta (struct remote_reader). In a later life it gives what was kept of one that
// can't be read: a mount isn't lost because its butler.yaml is away for a while.
struct space_reader {
    struct remote_reader reader;
    struct fetchers *fetchers;
    const struct options *options;
    const struct space_options *space;
    struct buffer uri, text; // what was read last of an origin
};
void space_reader_init(struct space_reader *r, struct fetchers *fetchers, const struct options *o,
                       const struct space_options *s);
void space_reader_release(struct space_reader *r);
// What was read has proved good: it is kept for later lives (kept.h).
void space_reader_keep(const struct space_reader *r);
// Where a space's logins at databases are, as the Butler client has it: what LSST_DB_AUTH_CREDENTIALS says,
// else the file that LSST_DB_AUTH names, else ~/.lsst/db-auth.yaml; the option comes before all of them.
// `file` holds its name and must stay; the caller releases it.
struct database_login space_login(const struct space_options *s, struct buffer *file);
// The threads that talk to them.
int space_fetchers_new(const struct options *o, uint32_t threads, struct fetchers **ret_fetchers);
