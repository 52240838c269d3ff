// SPDX-License-Identifier: BSD-3-Clause
// The connection to PostgreSQL, and what its errors are to us.
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "meta/config.h"
#include "meta/registry/postgres_internal.h"

#define LOOK_UP_MS 50 // between two looks whether anybody still waits
#define OPTIONS_MORE 16 // beside those of the URL's query
#define STATE_CANCELLED "57014" // by statement_timeout, or by somebody

// ---------------------------------------------------------------------------------------------
// Errors.

// By SQLSTATE, of which mostly the class tells.
static int errno_of_state(const char *state)
{
    static const struct {
        const char *begins;
        int error;
    } known[] = {
        {STATE_CANCELLED, -ETIMEDOUT},
        {"57P", -ETIMEDOUT},   // it is shut down, starting up, or was told to let go of us
        {"53", -ETIMEDOUT},    // too many connections, no memory, no disk
        {"55", -ETIMEDOUT},    // locked
        {"08", -ETIMEDOUT},    // the connection; pgbouncer's, too
        {"40", -ETIMEDOUT},    // what a replica was replaying was in our way
        {"25P03", -ETIMEDOUT}, // idle for too long in a transaction
        {"25P02", -EIO},
        {"28", -EACCES},       // who are you?
        {"42501", -EACCES},    // not granted
        {"3D", -EACCES},       // no such database; or none for this user
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strncmp(state, known[i].begins, strlen(known[i].begins)) == 0)
            return known[i].error;
    return -EIO;
}

// The SQLSTATE in a message of a connection ("...: FATAL:  28P01: ..."), as verbose ones have it.
static bool state_of_message(const char *message, char ret_state[6])
{
    for (const char *at = message; (at = strstr(at, ":  ")); at++) {
        const char *state = at + 3;
        size_t length = strspn(state, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ");
        if (length == 5 && state[5] == ':') {
            memcpy(ret_state, state, 5);
            ret_state[5] = 0;
            return true;
        }
    }
    return false;
}

// In one line, without the places in the server's source.
static void add_words(const char *message, struct buffer *to)
{
    for (const char *line = message; line && *line;) {
        size_t length = strcspn(line, "\n");
        if (length && !memmem(line, length, "LOCATION:", 9)) {
            buffer_append_string(to, to->size_bytes ? "; " : "");
            buffer_append(to, line, length);
        }
        line += length + (line[length] == '\n');
    }
    buffer_make_line(to);
}

int postgres_error(struct postgres *p, const PGresult *result)
{
    BUFFER_CLEANUP words = {0};
    char of_message[6];
    const char *state = result ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;
    const char *message = result ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) : NULL;
    if (!message)
        message = p->connection ? PQerrorMessage(p->connection) : "out of memory";
    if (!state && state_of_message(message, of_message))
        state = of_message;
    p->is_cancelled = state && strcmp(state, STATE_CANCELLED) == 0;
    add_words(message, &words);
    if (state && result)
        buffer_format(&words, " (%s)", state);
    sql_log_trouble(&p->sql, words.size_bytes ? words.data : "the connection is gone");
    // What has no state comes from this side or the connection: refused, reset, no route, no such host.
    if (!state && p->connection && PQconnectionNeedsPassword(p->connection))
        return -EACCES;
    return state ? errno_of_state(state) : -ETIMEDOUT;
}

bool postgres_is_lost(const struct postgres *p)
{
    return !p->connection || PQstatus(p->connection) != CONNECTION_OK;
}

// The limit is over. A server that said something in the latter half of it isn't away: the verb was long.
static int waited_enough(struct postgres *p, int64_t now)
{
    bool is_silent = now - p->heard_ns >= p->sql.registry.limit_ns / 2;
    p->sql.registry.is_away = is_silent;
    sql_log_trouble(&p->sql, is_silent ? "nothing, within the limit" : "not all, within the limit");
    return -ETIMEDOUT;
}

int postgres_wait(struct postgres *p, short events)
{
    const struct registry *r0 = &p->sql.registry;
    struct pollfd fd = {.fd = PQsocket(p->connection), .events = events};
    for (;;) {
        int64_t now = clock_ns(), left = p->deadline_ns - now;
        if (r0->gives_up && atomic_load(r0->gives_up))
            return -ETIMEDOUT; // who said so knows what the database is
        if (left <= 0)
            return waited_enough(p, now);
        int64_t wait_ms = left / NS_PER_MS + 1;
        int r = poll(&fd, 1, wait_ms > LOOK_UP_MS ? LOOK_UP_MS : (int)wait_ms);
        if (r > 0 && fd.revents & POLLIN)
            p->heard_ns = clock_ns();
        if (r > 0)
            return 0;
        if (r < 0 && errno != EINTR)
            return -errno;
    }
}

// ---------------------------------------------------------------------------------------------
// Connecting.

struct settings {
    const char **keys, **values;
    size_t count;
};

static void add_setting(struct settings *s, const char *key, const char *value)
{
    if (!value)
        return;
    s->keys[s->count] = key;
    s->values[s->count++] = value;
}

static PGconn *connect_start(const struct database_url *u)
{
    struct settings s = {memory_new((u->option_count + OPTIONS_MORE) * sizeof(char *)),
                         memory_new((u->option_count + OPTIONS_MORE) * sizeof(char *)), 0};
    add_setting(&s, "fallback_application_name", "butlerfs");
    // Who forgets idle connections sees these as busy. The URL's own come after.
    add_setting(&s, "keepalives_idle", "60");
    add_setting(&s, "keepalives_interval", "5");
    add_setting(&s, "keepalives_count", "3");
    for (size_t i = 0; i < u->option_count; i++)
        add_setting(&s, u->options[i].key, u->options[i].value);
    add_setting(&s, "host", u->host);
    add_setting(&s, "port", u->port);
    add_setting(&s, "user", u->user);
    add_setting(&s, "password", u->password);
    add_setting(&s, "dbname", u->database);
    add_setting(&s, "client_encoding", "UTF8");
    PGconn *connection = PQconnectStartParams(s.keys, s.values, 0);
    free(s.keys);
    free(s.values);
    return connection;
}

static void log_notice(void *context, const PGresult *result)
{
    const struct postgres *p = context;
    log_debug("%s: %s", p->sql.name, PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY));
}

// A server that has no room for one more connection isn't away to those who have theirs.
static int refused(struct postgres *p)
{
    char state[6];
    int r = postgres_error(p, NULL);
    bool is_full = p->connection && state_of_message(PQerrorMessage(p->connection), state) && strncmp(state, "53", 2) == 0;
    p->sql.registry.is_away = r == -ETIMEDOUT && !is_full;
    return r;
}

// The whole of it, up to the pipeline.
static int connect_fully(struct postgres *p, const struct database_url *u)
{
    PostgresPollingStatusType status = PGRES_POLLING_WRITING;
    p->connection = connect_start(u);
    if (!p->connection || PQstatus(p->connection) == CONNECTION_BAD)
        return refused(p);
    PQsetNoticeReceiver(p->connection, log_notice, p);
    PQsetErrorVerbosity(p->connection, PQERRORS_VERBOSE); // or there is no SQLSTATE until it stands
    while (status != PGRES_POLLING_OK) {
        int r = postgres_wait(p, status == PGRES_POLLING_READING ? POLLIN : POLLOUT);
        if (r < 0)
            return r;
        status = PQconnectPoll(p->connection);
        if (status == PGRES_POLLING_FAILED)
            return refused(p);
    }
    PQsetErrorVerbosity(p->connection, PQERRORS_DEFAULT);
    if (PQsetnonblocking(p->connection, 1) < 0 || !PQenterPipelineMode(p->connection))
        return refused(p);
    return 0;
}

void postgres_disconnect(struct postgres *p)
{
    for (size_t i = 0; i < ROWS_MAX; i++)
        PQclear(take(p->rows[i].result));
    if (p->connection)
        PQfinish(take(p->connection));
    p->is_begun = p->is_broken = p->is_marked = false;
    p->syncs_due = 0;
}

static int refuse_login(struct postgres *p, int error, const char *reason, char **ret_why)
{
    if (asprintf(ret_why, "%s: no login for the registry %s: %s", p->sql.source, p->sql.name, reason) < 0)
        abort();
    return error == -EPERM ? -EACCES : error;
}

static int refuse_option(struct postgres *p, const char *option, char **ret_why)
{
    const char *how = strcmp(option, "service") == 0
                          ? " and a host, a port or TLS besides: a repository may not send a service's password elsewhere;"
                            " let it say the service alone"
                          : ": a repository may not say that to a daemon of root;"
                            " say it in the daemon's environment (PG* variables) or in a service file";
    if (asprintf(ret_why, "%s: the URL of the registry %s says `%s`%s", p->sql.source, p->sql.name, option, how) < 0)
        abort();
    return -EACCES;
}

static const char *advice_for(int error)
{
    return error == -EACCES ? "see the login (db_auth, ~/.pgpass) and what it is granted"
                            : "see whether the server runs and can be reached from here";
}

int postgres_connect(struct postgres *p, char **ret_why)
{
    struct database_url u;
    cleanup(cleanup_free) char *reason = NULL;
    postgres_disconnect(p);
    p->sql.registry.is_away = false;
    p->sql.registry.is_refused = true; // until it is known
    int r = repository_database(p->config, &u, &reason); // logins change: read each time
    if (r < 0)
        return refuse_login(p, r, reason, ret_why);
    const char *option = geteuid() == 0 ? database_url_overreach(&u) : NULL;
    r = option ? refuse_option(p, option, ret_why) : connect_fully(p, &u);
    database_url_release(&u);
    if (option)
        return r;
    if (r < 0 && asprintf(ret_why, "%s: the registry %s can't be reached: %s: %s", p->sql.source,
                          p->sql.name, p->sql.words.size_bytes ? p->sql.words.data : strerror(-r),
                          advice_for(r)) < 0)
        abort();
    p->is_fresh = true;
    p->is_reached = r == 0;
    if (r == 0)
        r = sql_check_schema(&p->sql, ret_why);
    if (r < 0)
        postgres_disconnect(p);
    p->sql.registry.is_refused = r == -EACCES;
    return r;
}
