// SPDX-License-Identifier: BSD-3-Clause
// s3_open: which endpoint, which region, which style, whose keys: what options, environment and files say.
#include <errno.h>

#include "base/log.h"
#include "cache/origin/credentials_files.h"
#include "cache/origin/s3.h"

static char *copy(const char *s)
{
    return s ? memory_copy(s, strlen(s)) : NULL;
}

static char *copy_text(struct text t)
{
    return memory_copy(t.data, t.size_bytes);
}

static const char *first_of(const char *a, const char *b)
{
    return a ? a : b;
}

// ---- what the URI and the environment say

// Ceph's tenants have a colon, so `tenant:bucket` is a bucket's name too.
static bool is_bucket(struct text t)
{
    if (t.size_bytes == 0 || t.size_bytes > 255)
        return false;
    for (size_t i = 0; i < t.size_bytes; i++) {
        char c = t.data[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              (c && strchr("._-:", c))))
            return false;
    }
    return !text_equal(t, TEXT(".")) && !text_equal(t, TEXT(".."));
}

// May it be part of a host's name that a certificate for *.host covers?
static bool is_label(struct text t)
{
    for (size_t i = 0; i < t.size_bytes; i++) {
        char c = t.data[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'))
            return false;
    }
    return t.size_bytes >= 3 && t.size_bytes <= 63 && t.data[0] != '-' && t.data[t.size_bytes - 1] != '-';
}

// NULL: AWS's own. As the Butler client: a profile's variable goes before S3_ENDPOINT_URL.
static const char *endpoint_of_environment(const struct origin_options *options, const char *profile)
{
    const char *const *environment = options->environment;
    const char *endpoint = options->endpoint;
    if (!endpoint && profile) {
        BUFFER_CLEANUP name = {0};
        buffer_format(&name, "LSST_RESOURCES_S3_PROFILE_%s", profile);
        endpoint = environment_get(environment, name.data);
    }
    endpoint = first_of(endpoint, environment_get(environment, "S3_ENDPOINT_URL"));
    endpoint = first_of(endpoint, environment_get(environment, "AWS_ENDPOINT_URL_S3"));
    return first_of(endpoint, environment_get(environment, "AWS_ENDPOINT_URL"));
}

// Takes "key:secret@" out of an endpoint's URL.
struct endpoint_keys {
    char *url;     // without them
    char *key_id;  // NULL: none
    char *secret;
};

static void endpoint_keys_release(struct endpoint_keys *k)
{
    free(k->url);
    free(k->key_id);
    if (k->secret)
        explicit_bzero(k->secret, strlen(k->secret));
    free(k->secret);
}

static int endpoint_keys_take(const char *endpoint, struct endpoint_keys *ret_keys, char **ret_why)
{
    struct url u;
    BUFFER_CLEANUP plain = {0};
    BUFFER_CLEANUP part = {0};
    if (url_parse(text_of(endpoint), &u) < 0 || url_endpoint(text_of(endpoint), &plain) < 0)
        return origin_fail(-EINVAL, ret_why, "the S3 endpoint is no URL of the form https://host[:port]");
    buffer_clear(&plain);
    buffer_append_text(&plain, u.scheme);
    buffer_append_string(&plain, "://");
    buffer_append(&plain, u.host.data, (size_t)(text_of(endpoint).data + strlen(endpoint) - u.host.data));
    ret_keys->url = buffer_steal(&plain);
    if (u.user.size_bytes == 0)
        return 0;
    const char *colon = memchr(u.user.data, ':', u.user.size_bytes);
    if (!colon)
        return origin_fail(-EINVAL, ret_why, "the S3 endpoint names a key without a secret (key:secret@)");
    size_t at = (size_t)(colon - u.user.data);
    url_unquote(text_slice(u.user, 0, at), &part);
    ret_keys->key_id = buffer_steal(&part);
    url_unquote(text_slice(u.user, at + 1, u.user.size_bytes), &part);
    ret_keys->secret = buffer_steal(&part);
    return 0;
}

// ---- places

// "https://host", "/gateway" of an endpoint's URL.
static void place_fill(const struct s3_origin *s3, const char *region, struct s3_place *ret_place)
{
    BUFFER_CLEANUP url = {0};
    BUFFER_CLEANUP host = {0};
    BUFFER_CLEANUP path = {0};
    struct url u;
    if (s3->endpoint_url)
        buffer_append_string(&url, s3->endpoint_url);
    else
        buffer_format(&url, "https://s3.%s.amazonaws.com%s", region, strncmp(region, "cn-", 3) == 0 ? ".cn" : "");
    check(url_parse(buffer_text(&url), &u) == 0); // s3_open has looked at it
    if (s3->has_host_style)
        buffer_format(&host, "%s.", s3->bucket);
    url_append_host(&u, &host);
    while (text_ends(u.path, TEXT("/")))
        u.path.size_bytes--;
    buffer_append_text(&path, u.path);
    if (!s3->has_host_style) {
        buffer_append_byte(&path, '/');
        url_quote(text_of(s3->bucket), false, &path);
    }
    BUFFER_CLEANUP base = {0};
    buffer_format(&base, "%.*s://%s", (int)u.scheme.size_bytes, u.scheme.data, host.data);
    ret_place->base = buffer_steal(&base);
    ret_place->host = buffer_steal(&host);
    ret_place->path = buffer_steal(&path);
    strcpy(ret_place->region, region);
}

int s3_move(struct s3_origin *s3, const char *region, struct s3_place **ret_place)
{
    check(strlen(region) < S3_REGION_BYTES);
    lock_scope(&s3->lock);
    struct s3_place **at = &s3->place;
    while (*at && strcmp((*at)->region, region) != 0)
        at = &(*at)->next;
    struct s3_place *place = *at;
    if (place) {
        *at = place->next;
    } else {
        if (s3->place_count >= S3_PLACES_MAX)
            return -EMFILE;
        place = new_struct(struct s3_place);
        place_fill(s3, region, place);
        int error = endpoint_get(s3->fetchers, place->base, &s3->way, &place->endpoint);
        if (error) {
            free(place->base);
            free(place->host);
            free(place->path);
            free(place);
            return error;
        }
        s3->place_count++;
    }
    place->next = s3->place;
    s3->place = place;
    atomic_store_explicit(&s3->origin.endpoint, place->endpoint, memory_order_release);
    *ret_place = place;
    return 0;
}

// ---- opening

static bool wants_host_style(const struct s3_origin *s3, const struct origin_options *options,
                             const struct profile_settings *settings)
{
    struct text bucket = text_of(s3->bucket);
    if (options->style == ORIGIN_STYLE_PATH || !is_label(bucket))
        return false;
    if (options->style == ORIGIN_STYLE_HOST)
        return true;
    if (settings->addressing_style && strcmp(settings->addressing_style, "auto") != 0)
        return strcmp(settings->addressing_style, "virtual") == 0;
    return !s3->endpoint_url;
}

static char *s3_identity(const struct s3_origin *s3)
{
    BUFFER_CLEANUP identity = {0};
    struct url u;
    buffer_append_string(&identity, "s3://");
    if (s3->endpoint_url && url_parse(text_of(s3->endpoint_url), &u) == 0) {
        url_append_host(&u, &identity);
        buffer_append_text(&identity, u.path);
        while (text_ends(buffer_text(&identity), TEXT("/")))
            buffer_truncate(&identity, identity.size_bytes - 1);
    } else {
        buffer_append_string(&identity, "s3.amazonaws.com");
    }
    buffer_format(&identity, "/%s", s3->bucket);
    return buffer_steal(&identity);
}

static const char *s3_region(const struct origin_options *options, const struct profile_settings *settings)
{
    const char *region = first_of(options->region, environment_get(options->environment, "AWS_REGION"));
    region = first_of(region, environment_get(options->environment, "AWS_DEFAULT_REGION"));
    region = first_of(region, settings->region);
    return region ? region : "us-east-1";
}

static int s3_settle(struct s3_origin *s3, const struct origin_options *options,
                     const struct profile_settings *settings, char **ret_why)
{
    const char *region = s3_region(options, settings);
    BUFFER_CLEANUP name = {0};
    struct s3_place *place;
    if (!s3->endpoint_url && settings->endpoint) {
        if (url_endpoint(text_of(settings->endpoint), &name) < 0)
            return origin_fail(-EINVAL, ret_why, "endpoint_url of the profile is no URL of a server");
        s3->endpoint_url = copy(settings->endpoint);
    }
    if (strlen(region) >= S3_REGION_BYTES || strspn(region, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(region))
        return origin_fail(-EINVAL, ret_why, "%.64s is no region", region);
    s3->has_host_style = wants_host_style(s3, options, settings);
    const char *bundle = first_of(options->ca_bundle, environment_get(options->environment, "AWS_CA_BUNDLE"));
    s3->ca_bundle = copy(first_of(bundle, settings->ca_bundle));
    s3->proxy = copy(options->proxy);
    s3->way = (struct endpoint_options){
        .ca_bundle = s3->ca_bundle, .proxy = s3->proxy, .connections = options->connections};
    origin_init(&s3->origin, &s3_ops, NULL, s3_identity(s3));
    if (strlen(s3->origin.identity) > 512)
        return origin_fail(-EINVAL, ret_why, "the endpoint's URL is too long");
    int error = s3_move(s3, region, &place);
    return error ? origin_fail(error, ret_why, "the S3 endpoint can't be used: too many, or no URL of a server") : 0;
}

int s3_open(struct fetchers *fetchers, const struct url *url, const struct origin_options *options,
            struct origin **ret_origin, struct buffer *key, char **ret_why)
{
    cleanup(cleanup_free) char *profile = url->user.size_bytes ? copy_text(url->user) : NULL;
    cleanup(endpoint_keys_release) struct endpoint_keys keys = {0};
    cleanup(profile_settings_release) struct profile_settings settings = {0};
    if (!is_bucket(url->host) || url->port.size_bytes)
        return origin_fail(-EINVAL, ret_why, "%.*s is no name of a bucket", (int)url->host.size_bytes, url->host.data);
    const char *named = profile ? profile : options->profile;
    const char *endpoint = endpoint_of_environment(options, named);
    int error = endpoint ? endpoint_keys_take(endpoint, &keys, ret_why) : 0;
    if (error)
        return error;
    const struct credentials_wish wish = {
        .options = options, .profile = profile, .key_id = keys.key_id, .secret = keys.secret};
    struct credentials *credentials;
    error = credentials_open(fetchers, &wish, &credentials, &settings, ret_why);
    if (error)
        return error;
    struct s3_origin *s3 = new_struct(struct s3_origin);
    lock_init(&s3->lock, LOCK_RANK_ORIGIN, "s3 origin");
    s3->fetchers = fetchers;
    s3->credentials = credentials;
    s3->bucket = copy_text(url->host);
    s3->endpoint_url = copy(keys.url);
    s3->pays_requests = options->pays_requests;
    s3->storage_class = copy(options->storage_class);
    s3->encryption = copy(options->encryption);
    s3->encryption_key = copy(options->encryption_key);
    error = s3_settle(s3, options, &settings, ret_why);
    if (error) {
        s3_ops.close(&s3->origin);
        return error;
    }
    struct text path = url->path;
    while (text_begins(path, TEXT("/")))
        path = text_slice(path, 1, path.size_bytes);
    url_unquote(path, key);
    *ret_origin = &s3->origin;
    return 0;
}
