// SPDX-License-Identifier: BSD-3-Clause
// Who may log in at a database, as lsst.utils.db_auth has it: a list of {url, username, password}, of which
// the first counts whose url matches. The url is dialect://[user@]host[:port][/database], host and
// database with * and ?; what it leaves out matches everything.
// 1. A file that others can read is an error, not left out: its passwords are known to others.
// 2. A user that the connection names is kept; the password is taken in any case.
// 3. No match is no error: libpq has its own ways (PGPASSWORD, ~/.pgpass, certificates).
// 4. Nothing that was read of it is ever written to a message.
#include <fcntl.h>
#include <fnmatch.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "meta/database_url.h"

static int refuse(int error, char **ret_why, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static int refuse(int error, char **ret_why, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (vasprintf(ret_why, format, args) < 0)
        abort();
    va_end(args);
    return error;
}

static bool glob_matches(const char *pattern, const char *text)
{
    return fnmatch(pattern, text, FNM_NOESCAPE) == 0;
}

static bool is_same(const char *wanted, const char *has)
{
    return !wanted || (has && strcmp(wanted, has) == 0);
}

// Whether the entry's url is that of the connection. 1, 0, -EINVAL.
static int entry_matches(const struct doc *entry, size_t number, const struct database_url *u,
                         char **ret_why)
{
    struct text url = doc_text(doc_get(entry, "url"), TEXT(""));
    struct database_url pattern;
    cleanup(cleanup_free) char *why = NULL;
    if (url.size_bytes == 0)
        return refuse(-EINVAL, ret_why, "its entry %zu has no `url`", number + 1);
    if (!text_begins(url, TEXT("postgresql://")))
        return memmem(url.data, url.size_bytes, "://", 3)
                   ? 0
                   : refuse(-EINVAL, ret_why, "the `url` of its entry %zu names no dialect", number + 1);
    if (database_url_parse(url, &pattern, &why) < 0)
        return refuse(-EINVAL, ret_why, "the `url` of its entry %zu %s", number + 1, why);
    int r = pattern.host ? 1
                         : refuse(-EINVAL, ret_why, "the `url` of its entry %zu names no host", number + 1);
    // The client looks host names up in lower case, in the pattern and in the connection's URL.
    for (char *c = pattern.host; r > 0 && *c; c++)
        *c = (char)(*c >= 'A' && *c <= 'Z' ? *c + 'a' - 'A' : *c);
    if (r > 0)
        r = (!pattern.database || glob_matches(pattern.database, u->database)) &&
            is_same(pattern.user, u->user) && glob_matches(pattern.host, u->host) &&
            is_same(pattern.port, u->port);
    database_url_release(&pattern);
    return r;
}

static int take_text(const struct doc *entry, size_t number, const char *key, char **to, char **ret_why)
{
    struct text t = doc_text(doc_get(entry, key), TEXT(""));
    if (!doc_get(entry, key))
        return 0;
    if (t.size_bytes && memchr(t.data, 0, t.size_bytes))
        return refuse(-EINVAL, ret_why, "`%s` of its entry %zu holds a NUL byte", key, number + 1);
    free(*to);
    *to = memory_copy(t.data, t.size_bytes);
    return 0;
}

int database_login_match(const struct doc *list, struct database_url *u, char **ret_why)
{
    if (doc_kind(list) != DOC_LIST)
        return refuse(-EINVAL, ret_why, "it isn't a list of logins");
    for (size_t i = 0; i < doc_count(list); i++) {
        const struct doc *entry = doc_item(list, i);
        int r = entry_matches(entry, i, u, ret_why);
        if (r == 0)
            continue;
        if (r > 0 && !doc_get(entry, "password"))
            r = refuse(-EINVAL, ret_why, "its entry %zu has no `password`", i + 1);
        if (r > 0 && !u->user)
            r = take_text(entry, i, "username", &u->user, ret_why);
        return r < 0 ? r : take_text(entry, i, "password", &u->password, ret_why);
    }
    return 0;
}

static void cleanup_file(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

static int read_file(const char *path, struct doc **ret_list, char **ret_why)
{
    struct stat st;
    cleanup(cleanup_free) char *why = NULL;
    cleanup(cleanup_file) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT)
        return 0;
    if (fd < 0 || fstat(fd, &st) < 0)
        return refuse(-errno, ret_why, "%s can't be read: %m", path);
    if (!S_ISREG(st.st_mode))
        return 0; // what the client takes for missing
    if (st.st_mode & 077)
        return refuse(-EPERM, ret_why, "%s holds passwords and others may read it (mode %o): chmod 600 it",
                      path, st.st_mode & 0777);
    int r = doc_read_yaml_file(fd, path, ret_list, &why);
    return r < 0 ? refuse(r, ret_why, "%s can't be read: %s", path, why ? why : strerror(-r)) : 0;
}

int database_login_find(const struct database_login *login, struct database_url *u, char **ret_why)
{
    __attribute__((__cleanup__(cleanup_doc_free))) struct doc *list = NULL;
    cleanup(cleanup_free) char *why = NULL;
    bool has_text = login->text && *login->text;
    const char *where = has_text ? "the list of logins (LSST_DB_AUTH_CREDENTIALS)" : login->file;
    int r = 0;
    if (!u->host || !u->database)
        return 0; // the client doesn't ask then, either
    if (has_text)
        r = doc_parse_json(text_of(login->text), &list, NULL); // the parser's words may hold a secret
    else if (login->file && *login->file)
        r = read_file(login->file, &list, ret_why);
    if (r < 0)
        return has_text ? refuse(r, ret_why, "%s is no JSON", where) : r;
    if (!list)
        return 0;
    r = database_login_match(list, u, &why);
    return r < 0 ? refuse(r, ret_why, "%s: %s", where, why) : 0;
}
