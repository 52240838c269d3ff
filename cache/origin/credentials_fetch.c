// SPDX-License-Identifier: BSD-3-Clause
// credentials_fetch: sets of keys from programs and servers that give them, by a thread that may wait.
// 1. Whom to ask was decided when the credentials were opened; nothing that answers says where to go on.
#include <errno.h>

#include "base/clock.h"
#include "cache/origin/credentials_files.h"
#include "cache/origin/credentials_internal.h"

#define FETCH_LIMIT_NS (5 * NS_PER_S)
#define INSTANCE_LIMIT_NS (2 * NS_PER_S) // where there is no instance's endpoint nothing answers
#define PROCESS_LIMIT_NS (60 * NS_PER_S)

static void append_field(struct buffer *fields, const char *name, struct text value)
{
    buffer_format(fields, "%s: ", name);
    buffer_append_text(fields, value);
    buffer_append_byte(fields, 0);
}

static struct text first_line(const struct buffer *b)
{
    struct text t = buffer_text(b);
    while (t.size_bytes && (t.data[t.size_bytes - 1] == '\n' || t.data[t.size_bytes - 1] == '\r'))
        t.size_bytes--;
    return t;
}

static bool is_token(struct text t)
{
    for (size_t i = 0; i < t.size_bytes; i++) {
        if ((unsigned char)t.data[i] <= ' ' || (unsigned char)t.data[i] >= 0x7f)
            return false;
    }
    return t.size_bytes > 0;
}

static int fetch_process(struct credentials *c, struct credential_set **ret_set, char **ret_why)
{
    BUFFER_CLEANUP output = {0};
    const struct process_question q = {.command = c->command,
                                       .environment = c->environment,
                                       .limit_ns = PROCESS_LIMIT_NS,
                                       .gives_up = &c->is_ending};
    int error = process_wait(&q, &output, ret_why);
    if (error)
        return error;
    cleanup(cleanup_free) char *why = NULL;
    error = credentials_read_json(buffer_text(&output), ret_set, &why);
    if (output.size_bytes)
        explicit_bzero(output.data, output.size_bytes);
    return error ? origin_fail(error, ret_why, "what credential_process of profile %s gives: %s", c->profile, why) : 0;
}

static int ask_for_set(struct credentials *c, const char *url, const struct buffer *fields, int64_t limit_ns,
                       struct credential_set **ret_set, char **ret_why)
{
    BUFFER_CLEANUP answer = {0};
    struct http_question q = {.url = url, .fields = buffer_text(fields), .limit_ns = limit_ns};
    int error = http_wait(c->fetchers, &q, &answer, ret_why);
    if (error)
        return error;
    cleanup(cleanup_free) char *why = NULL;
    error = c->kind == CREDENTIALS_WEB_IDENTITY ? credentials_read_xml(buffer_text(&answer), ret_set, &why)
                                                : credentials_read_json(buffer_text(&answer), ret_set, &why);
    if (answer.size_bytes)
        explicit_bzero(answer.data, answer.size_bytes);
    return error ? origin_fail(error, ret_why, "what gives credentials answers something else: %s", why) : 0;
}

static int read_token(const char *path, struct buffer *to, char **ret_why)
{
    bool is_own;
    int error = file_read(path, to, &is_own);
    if (error)
        return origin_fail(error, ret_why, "%s: %s", path, strerror(-error));
    buffer_truncate(to, first_line(to).size_bytes);
    return is_token(buffer_text(to)) ? 0 : origin_fail(-EINVAL, ret_why, "%s holds no token", path);
}

static int fetch_container(struct credentials *c, struct credential_set **ret_set, char **ret_why)
{
    BUFFER_CLEANUP token = {0};
    BUFFER_CLEANUP fields = {0};
    if (c->token_path) {
        int error = read_token(c->token_path, &token, ret_why);
        if (error)
            return error;
    } else if (c->token) {
        buffer_append_string(&token, c->token);
    }
    if (token.size_bytes)
        append_field(&fields, "Authorization", buffer_text(&token));
    return ask_for_set(c, c->url, &fields, FETCH_LIMIT_NS, ret_set, ret_why);
}

// IMDSv2: a token for a while, the role's name by it, the role's keys by it.
static int fetch_instance(struct credentials *c, struct credential_set **ret_set, char **ret_why)
{
    static const char roles[] = "/latest/meta-data/iam/security-credentials/";
    BUFFER_CLEANUP url = {0};
    BUFFER_CLEANUP token = {0};
    BUFFER_CLEANUP role = {0};
    BUFFER_CLEANUP fields = {0};
    buffer_format(&url, "%s/latest/api/token", c->url);
    append_field(&fields, "X-aws-ec2-metadata-token-ttl-seconds", TEXT("21600"));
    struct http_question q = {
        .url = url.data, .is_put = true, .fields = buffer_text(&fields), .limit_ns = INSTANCE_LIMIT_NS};
    int error = http_wait(c->fetchers, &q, &token, ret_why);
    if (error)
        return error;
    if (!is_token(buffer_text(&token)))
        return origin_fail(-EINVAL, ret_why, "the instance's endpoint gives no token");
    buffer_clear(&fields);
    append_field(&fields, "X-aws-ec2-metadata-token", buffer_text(&token));
    buffer_clear(&url);
    buffer_format(&url, "%s%s", c->url, roles);
    q = (struct http_question){.url = url.data, .fields = buffer_text(&fields), .limit_ns = INSTANCE_LIMIT_NS};
    error = http_wait(c->fetchers, &q, &role, ret_why);
    if (error)
        return error;
    buffer_truncate(&role, first_line(&role).size_bytes);
    if (!is_token(buffer_text(&role)))
        return origin_fail(-ENOENT, ret_why, "the instance has no role");
    url_quote(buffer_text(&role), false, &url);
    return ask_for_set(c, url.data, &fields, INSTANCE_LIMIT_NS, ret_set, ret_why);
}

static int fetch_web_identity(struct credentials *c, struct credential_set **ret_set, char **ret_why)
{
    BUFFER_CLEANUP token = {0};
    BUFFER_CLEANUP url = {0};
    struct buffer no_fields = {0};
    int error = read_token(c->token_path, &token, ret_why);
    if (error)
        return error;
    buffer_format(&url, "%s/?Action=AssumeRoleWithWebIdentity&RoleArn=", c->url);
    url_quote(text_of(c->role), false, &url);
    buffer_append_string(&url, "&RoleSessionName=");
    url_quote(text_of(c->session), false, &url);
    buffer_append_string(&url, "&Version=2011-06-15&WebIdentityToken=");
    url_quote(buffer_text(&token), false, &url);
    return ask_for_set(c, url.data, &no_fields, FETCH_LIMIT_NS, ret_set, ret_why);
}

int credentials_fetch(struct credentials *c, struct credential_set **ret_set, char **ret_why)
{
    switch (c->kind) {
    case CREDENTIALS_PROCESS:
        return fetch_process(c, ret_set, ret_why);
    case CREDENTIALS_CONTAINER:
        return fetch_container(c, ret_set, ret_why);
    case CREDENTIALS_INSTANCE:
        return fetch_instance(c, ret_set, ret_why);
    case CREDENTIALS_WEB_IDENTITY:
        return fetch_web_identity(c, ret_set, ret_why);
    default:
        return origin_fail(-EACCES, ret_why, "nobody gives any");
    }
}
