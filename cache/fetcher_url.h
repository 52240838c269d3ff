// SPDX-License-Identifier: BSD-3-Clause
// fetcher_url: URLs of servers, taken apart, and bytes made fit for one. Pure; any thread.
#pragma once
#include "base/buffer.h"

struct url {
    struct text scheme;    // as given
    struct text user;      // before the @, percent-encoded as it was; empty: none
    struct text host;      // an IPv6 one with its brackets
    struct text port;      // empty: none said
    bool has_odd_port;     // what follows the colon is no port, and is part of `host`: only in the name of a bucket
    struct text path;      // from the first / on, with what follows; may be empty
};

// scheme://[user@]host[:port][/path], of any scheme; the path may hold any bytes. -EINVAL: not of this form.
int url_parse(struct text given, struct url *ret_url);
// Appends "scheme://host:port" in lower case, with http's or https's own port where none is given. -EINVAL: of
// another scheme or malformed.
int url_endpoint(struct text url, struct buffer *to);
// Appends "host[:port]" in lower case, the port only if it isn't the scheme's own: what a Host field says.
void url_append_host(const struct url *u, struct buffer *to);
// Appends bytes with all but A-Z a-z 0-9 - . _ ~ as %XX (RFC 3986), and / kept if asked for.
void url_quote(struct text bytes, bool keep_slashes, struct buffer *to);
// The other way round; what isn't a %XX stays as it is.
void url_unquote(struct text quoted, struct buffer *to);
