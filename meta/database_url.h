// SPDX-License-Identifier: BSD-3-Clause
// database_url: what `registry.db` says of a PostgreSQL database, read as SQLAlchemy reads it, and who
// may log in there, as the Butler client finds out (lsst.utils.db_auth). Pure but for the reading
// of the credentials' file. Any thread.
#pragma once
#include "base/buffer.h"
#include "base/doc.h"

struct database_option {
    char *key, *value; // as libpq knows them
};

// NULL: not said.
struct database_url {
    char *user, *password, *host, *port, *database;
    struct database_option *options; // of the URL's query, in order
    size_t option_count;
};

// "postgresql[+driver]://[user[:password]@][host][:port][/database][?key=value&...]", user, password,
// database and the query percent-encoded. -EINVAL with *ret_why: what is wrong with it, without the
// password; allocated.
int database_url_parse(struct text url, struct database_url *ret_url, char **ret_why);
void database_url_copy(const struct database_url *from, struct database_url *ret_url);
void database_url_release(struct database_url *u);
// The first option of the query that a repository's writer has no business to say to a daemon with more rights than
// his: one that names a file, or another host than the one whose login was looked up; "service" beside a word of a
// server (a host, a port, TLS), as its password is meant for its own. NULL: there is none.
const char *database_url_overreach(const struct database_url *u);
// Host, port and database as people say them, appended; no user, no password.
void database_url_describe(const struct database_url *u, struct buffer *to);

// Where credentials are: the text of a JSON list, else a file (NULL or empty: not given; then nothing
// is looked up and libpq has its own ways).
struct database_login {
    const char *text; // LSST_DB_AUTH_CREDENTIALS
    const char *file; // LSST_DB_AUTH; a missing one is no error
};

// Sets the password, and a user where there is none, from the first entry that matches. -EPERM
// (others can read the file), -EINVAL, or why the file can't be read, with *ret_why.
int database_login_find(const struct database_login *login, struct database_url *u, char **ret_why);
// The same of a list that was read; the URL has a host and a database.
int database_login_match(const struct doc *list, struct database_url *u, char **ret_why);
