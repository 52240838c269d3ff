// SPDX-License-Identifier: BSD-3-Clause
// credentials_open: where credentials come from, in the order of AWS's own clients and of the Butler's (butler.md).
#include <errno.h>
#include <stdio.h>

#include "base/log.h"
#include "cache/origin/credentials_files.h"
#include "cache/origin/credentials_internal.h"

static char *copy(const char *s)
{
    return s ? memory_copy(s, strlen(s)) : NULL;
}

static struct credentials *credentials_new(struct fetchers *fetchers)
{
    struct credentials *c = new_struct(struct credentials);
    c->fetchers = fetchers;
    atomic_init(&c->references, 1);
    atomic_init(&c->is_ending, false);
    lock_init(&c->lock, LOCK_RANK_ORIGIN, "credentials");
    condition_init(&c->changed);
    return c;
}

// ---- the files

struct aws_files {
    struct buffer credentials, config;
    const char *profile;     // whose sections count
    char *config_section;    // "profile NAME", or "default"
    bool may_command;        // neither can have been written by somebody else
};

static void aws_files_release(struct aws_files *f)
{
    buffer_release(&f->credentials);
    buffer_release(&f->config);
    free(f->config_section);
}

static char *aws_path(const char *const *environment, const char *variable, const char *below_home)
{
    const char *path = environment_get(environment, variable), *home = environment_get(environment, "HOME");
    BUFFER_CLEANUP full = {0};
    if (path && path[0] == '~' && path[1] == '/' && home)
        buffer_format(&full, "%s%s", home, path + 1);
    else if (path)
        buffer_append_string(&full, path);
    else if (home)
        buffer_format(&full, "%s/%s", home, below_home);
    else
        return NULL;
    return buffer_steal(&full);
}

static void aws_file_read(struct aws_files *f, const char *path, struct buffer *to)
{
    bool is_own = true;
    int error = path ? file_read(path, to, &is_own) : 0;
    f->may_command &= is_own;
    if (error && error != -ENOENT)
        log_warn("%s can't be read: %s", path, strerror(-error));
}

static void aws_files_read(const struct credentials *c, struct aws_files *ret_files)
{
    *ret_files = (struct aws_files){.profile = c->profile, .may_command = true};
    aws_file_read(ret_files, c->credentials_path, &ret_files->credentials);
    aws_file_read(ret_files, c->config_path, &ret_files->config);
    BUFFER_CLEANUP section = {0};
    buffer_format(&section, "%s%s", strcmp(c->profile, "default") == 0 ? "" : "profile ", c->profile);
    ret_files->config_section = buffer_steal(&section);
}

static bool aws_files_have_profile(const struct aws_files *f)
{
    return ini_has_section(buffer_text(&f->credentials), f->profile) ||
           ini_has_section(buffer_text(&f->config), f->config_section);
}

// NULL: neither file has it. The credentials file goes first.
static char *aws_files_get(const struct aws_files *f, const char *group, const char *name)
{
    BUFFER_CLEANUP value = {0};
    if (!ini_get(buffer_text(&f->credentials), f->profile, group, name, &value) &&
        !ini_get(buffer_text(&f->config), f->config_section, group, name, &value))
        return NULL;
    return buffer_steal(&value);
}

static struct credential_set *aws_files_set(const struct aws_files *f)
{
    cleanup(cleanup_free) char *key_id = aws_files_get(f, NULL, "aws_access_key_id");
    cleanup(cleanup_free) char *secret = aws_files_get(f, NULL, "aws_secret_access_key");
    cleanup(cleanup_free) char *token = aws_files_get(f, NULL, "aws_session_token");
    if (!key_id || !secret)
        return NULL;
    struct credential_set *set = credential_set_new(key_id, secret, token ? token : "", INT64_MAX);
    explicit_bzero(secret, strlen(secret));
    return set;
}

int credentials_read_files(const struct credentials *c, struct credential_set **ret_set, char **ret_why)
{
    cleanup(aws_files_release) struct aws_files files;
    aws_files_read(c, &files);
    struct credential_set *set = aws_files_set(&files);
    if (!set)
        return origin_fail(-ENOENT, ret_why, "profile %s has no keys", c->profile);
    *ret_set = set;
    return 0;
}

static char **environment_copy(const char *const *environment)
{
    size_t count = 0;
    while (environment && environment[count])
        count++;
    char **all = memory_new((count + 1) * sizeof(*all));
    for (size_t i = 0; i < count; i++)
        all[i] = copy(environment[i]);
    return all;
}

// ---- the kinds: each sets c->kind and what belongs to it, and returns whether it is there

static void be_given(struct credentials *c, const char *key_id, const char *secret, const char *token)
{
    c->kind = CREDENTIALS_GIVEN;
    c->set = credential_set_new(key_id, secret, token ? token : "", INT64_MAX);
}

static bool be_web_identity(struct credentials *c, const char *const *environment, const char *token_path,
                            const char *role, const char *region)
{
    if (!token_path || !role)
        return false;
    const char *endpoint = environment_get(environment, "AWS_ENDPOINT_URL_STS");
    const char *session = environment_get(environment, "AWS_ROLE_SESSION_NAME");
    BUFFER_CLEANUP url = {0};
    if (endpoint)
        buffer_append_string(&url, endpoint);
    else if (region)
        buffer_format(&url, "https://sts.%s.amazonaws.com", region);
    else
        buffer_append_string(&url, "https://sts.amazonaws.com");
    c->kind = CREDENTIALS_WEB_IDENTITY;
    c->url = buffer_steal(&url);
    c->token_path = copy(token_path);
    c->role = copy(role);
    c->session = copy(session ? session : "butlerfs");
    return true;
}

static bool be_profile(struct credentials *c, const char *const *environment, const struct aws_files *files)
{
    c->set = aws_files_set(files);
    if (c->set) {
        c->kind = CREDENTIALS_FILE;
        return true;
    }
    c->command = aws_files_get(files, NULL, "credential_process");
    if (c->command && !files->may_command) {
        // A user's file must not have root run what it says (sudo may keep the user's HOME).
        log_error("credential_process of profile %s is not run: its AWS files belong to another user, or others can "
                  "write to them; have them owned by who runs butlerfs and writable by him only",
                  c->profile);
        free(c->command);
        c->command = NULL;
    }
    if (c->command) {
        c->kind = CREDENTIALS_PROCESS;
        c->environment = environment_copy(environment);
        return true;
    }
    cleanup(cleanup_free) char *token_path = aws_files_get(files, NULL, "web_identity_token_file");
    cleanup(cleanup_free) char *role = aws_files_get(files, NULL, "role_arn");
    cleanup(cleanup_free) char *region = aws_files_get(files, NULL, "region");
    return be_web_identity(c, environment, token_path, role, region);
}

// Keys go to this machine only, or over TLS: the full URL may come from who knows where.
static bool may_give_keys(const char *url)
{
    static const char *const hosts[] = {"127.0.0.1", "localhost", "[::1]", "169.254.170.2", "169.254.170.23",
                                        "[fd00:ec2::23]"};
    struct url u;
    if (url_parse(text_of(url), &u) < 0)
        return false;
    if (text_equal(u.scheme, TEXT("https")))
        return true;
    for (size_t i = 0; i < sizeof(hosts) / sizeof(*hosts); i++) {
        if (text_equal(u.host, text_of(hosts[i])))
            return true;
    }
    return false;
}

static bool be_container(struct credentials *c, const char *const *environment)
{
    const char *relative = environment_get(environment, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    const char *full = environment_get(environment, "AWS_CONTAINER_CREDENTIALS_FULL_URI");
    BUFFER_CLEANUP url = {0};
    if (relative && relative[0] == '/')
        buffer_format(&url, "http://169.254.170.2%s", relative);
    else if (full && may_give_keys(full))
        buffer_append_string(&url, full);
    else
        return false;
    c->kind = CREDENTIALS_CONTAINER;
    c->url = buffer_steal(&url);
    c->token = copy(environment_get(environment, "AWS_CONTAINER_AUTHORIZATION_TOKEN"));
    c->token_path = copy(environment_get(environment, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"));
    return true;
}

static bool be_instance(struct credentials *c, const char *const *environment)
{
    const char *is_off = environment_get(environment, "AWS_EC2_METADATA_DISABLED");
    const char *endpoint = environment_get(environment, "AWS_EC2_METADATA_SERVICE_ENDPOINT");
    if (!environment || (is_off && strcasecmp(is_off, "true") == 0))
        return false;
    c->kind = CREDENTIALS_INSTANCE;
    c->url = copy(endpoint ? endpoint : "http://169.254.169.254");
    size_t size = strlen(c->url);
    while (size && c->url[size - 1] == '/')
        c->url[--size] = 0;
    return true;
}

// ---- their order

static int be_pair(struct credentials *c, const char *key_id, const char *secret, const char *token, char **ret_why)
{
    if (!key_id || !secret)
        return origin_fail(-EINVAL, ret_why, "a key id without a secret, or the other way round");
    be_given(c, key_id, secret, token);
    return 0;
}

static int choose_named(struct credentials *c, const char *const *environment, const struct aws_files *files,
                        char **ret_why)
{
    if (!aws_files_have_profile(files))
        return origin_fail(-ENOENT, ret_why, "there is no profile %s in the AWS files", c->profile);
    if (!be_profile(c, environment, files))
        return origin_fail(-EINVAL, ret_why, "profile %s has neither keys nor a credential_process that may be run", c->profile);
    return 0;
}

static int choose(struct credentials *c, const struct credentials_wish *w, const struct aws_files *files,
                  char **ret_why)
{
    const struct origin_options *o = w->options;
    const char *const *environment = o->environment;
    const char *key_id = environment_get(environment, "AWS_ACCESS_KEY_ID");
    const char *secret = environment_get(environment, "AWS_SECRET_ACCESS_KEY");
    if (o->is_anonymous) {
        c->kind = CREDENTIALS_ANONYMOUS;
        c->set = credential_set_new("", "", "", INT64_MAX);
        return 0;
    }
    if (o->access_key_id || o->secret_access_key)
        return be_pair(c, o->access_key_id, o->secret_access_key, o->session_token, ret_why);
    if (w->key_id || w->secret)
        return be_pair(c, w->key_id, w->secret, NULL, ret_why);
    if (w->profile || o->profile)
        return choose_named(c, environment, files, ret_why);
    if (key_id || secret)
        return be_pair(c, key_id, secret, environment_get(environment, "AWS_SESSION_TOKEN"), ret_why);
    const char *region = environment_get(environment, "AWS_REGION");
    if (be_web_identity(c, environment, environment_get(environment, "AWS_WEB_IDENTITY_TOKEN_FILE"),
                        environment_get(environment, "AWS_ROLE_ARN"),
                        region ? region : environment_get(environment, "AWS_DEFAULT_REGION")))
        return 0;
    if (environment_get(environment, "AWS_PROFILE") && !aws_files_have_profile(files))
        return origin_fail(-ENOENT, ret_why, "there is no profile %s in the AWS files", c->profile);
    if (!be_profile(c, environment, files) && !be_container(c, environment) && !be_instance(c, environment))
        c->kind = CREDENTIALS_NONE;
    return 0;
}

int credentials_open(struct fetchers *fetchers, const struct credentials_wish *w, struct credentials **ret_credentials,
                     struct profile_settings *ret_settings, char **ret_why)
{
    const char *const *environment = w->options->environment;
    const char *profile = w->profile ? w->profile : w->options->profile;
    if (!profile)
        profile = environment_get(environment, "AWS_PROFILE");
    cleanup(cleanup_credentials_close) struct credentials *c = credentials_new(fetchers);
    c->profile = copy(profile ? profile : "default");
    c->credentials_path = aws_path(environment, "AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials");
    c->config_path = aws_path(environment, "AWS_CONFIG_FILE", ".aws/config");
    cleanup(aws_files_release) struct aws_files files;
    aws_files_read(c, &files);
    int error = choose(c, w, &files, ret_why);
    if (error)
        return error;
    *ret_settings = (struct profile_settings){
        .region = aws_files_get(&files, NULL, "region"),
        .endpoint = aws_files_get(&files, NULL, "endpoint_url"),
        .ca_bundle = aws_files_get(&files, NULL, "ca_bundle"),
        .addressing_style = aws_files_get(&files, "s3", "addressing_style"),
    };
    *ret_credentials = take(c);
    return 0;
}
