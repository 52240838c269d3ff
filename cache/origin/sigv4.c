// SPDX-License-Identifier: BSD-3-Clause
// sigv4: signature = HMAC(key, algorithm, time, scope, SHA256(canonical request)), all in hex.
#include "cache/origin/sigv4.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <time.h>

#include "base/log.h"
#include "cache/fetcher_url.h"

#define TIME_BYTES 17 // "20130524T000000Z"
#define DATE_BYTES 8

static void sha256(struct text data, uint8_t ret_hash[32])
{
    unsigned size;
    check(EVP_Digest(data.data, data.size_bytes, ret_hash, &size, EVP_sha256(), NULL) == 1 && size == 32);
}

static void hmac(const void *key, size_t key_bytes, struct text data, uint8_t ret_code[32])
{
    unsigned size;
    check(HMAC(EVP_sha256(), key, (int)key_bytes, (const unsigned char *)data.data, data.size_bytes, ret_code, &size));
    check(size == 32);
}

static void append_hex(struct buffer *to, const uint8_t hash[32])
{
    static const char digits[] = "0123456789abcdef";
    char hex[64];
    for (int i = 0; i < 32; i++) {
        hex[2 * i] = digits[hash[i] >> 4];
        hex[2 * i + 1] = digits[hash[i] & 15];
    }
    buffer_append(to, hex, sizeof(hex));
}

static void format_time(int64_t unix_s, char ret_time[TIME_BYTES])
{
    struct tm tm;
    time_t t = unix_s;
    gmtime_r(&t, &tm);
    strftime(ret_time, TIME_BYTES, "%Y%m%dT%H%M%SZ", &tm);
}

void sigv4_derive(struct text secret, int64_t unix_s, struct text region, struct text service,
                  uint8_t ret_key[SIGV4_KEY_BYTES])
{
    char time[TIME_BYTES];
    uint8_t key[32];
    BUFFER_CLEANUP first = {0};
    format_time(unix_s, time);
    buffer_append_string(&first, "AWS4");
    buffer_append_text(&first, secret);
    hmac(first.data, first.size_bytes, (struct text){time, DATE_BYTES}, key);
    hmac(key, 32, region, key);
    hmac(key, 32, service, key);
    hmac(key, 32, TEXT("aws4_request"), ret_key);
    explicit_bzero(first.data, first.size_bytes);
    explicit_bzero(key, sizeof(key));
}

static void append_scope(struct buffer *to, const struct sigv4_scope *s, const char *time)
{
    buffer_append(to, time, DATE_BYTES);
    buffer_append_byte(to, '/');
    buffer_append_text(to, s->region);
    buffer_append_byte(to, '/');
    buffer_append_text(to, s->service);
    buffer_append_string(to, "/aws4_request");
}

static void append_signature(struct buffer *to, const struct sigv4_scope *s, const char *time,
                             const struct buffer *canonical)
{
    uint8_t hash[32];
    BUFFER_CLEANUP text = {0};
    sha256(buffer_text(canonical), hash);
    buffer_format(&text, "AWS4-HMAC-SHA256\n%s\n", time);
    append_scope(&text, s, time);
    buffer_append_byte(&text, '\n');
    append_hex(&text, hash);
    hmac(s->key, sizeof(s->key), buffer_text(&text), hash);
    append_hex(to, hash);
}

static void append_pair(struct buffer *to, const char *name, struct text value)
{
    buffer_append_string(to, name);
    buffer_append_byte(to, ':');
    buffer_append_text(to, value);
    buffer_append_byte(to, '\n');
}

// ---- the fields that are signed, in order of their names

struct signed_fields {
    struct buffer texts;                     // "name:value\0" each
    const char *in_order[SIGV4_FIELDS_MAX];
    size_t count;
};

static void add_field(struct signed_fields *f, const char *name, struct text value)
{
    buffer_append_string(&f->texts, name);
    buffer_append_byte(&f->texts, ':');
    buffer_append_text(&f->texts, value);
    buffer_append_byte(&f->texts, 0);
}

// By names only: one that begins another comes first.
static int compare_fields(const void *a, const void *b)
{
    const char *x = *(const char *const *)a, *y = *(const char *const *)b;
    struct text x_name = {x, (size_t)(strchr(x, ':') - x)}, y_name = {y, (size_t)(strchr(y, ':') - y)};
    return text_compare(x_name, y_name);
}

static void collect_fields(const struct sigv4_scope *s, const struct sigv4_request *r, const char *time,
                           struct signed_fields *ret_fields)
{
    struct signed_fields *f = ret_fields;
    add_field(f, "host", r->host);
    add_field(f, "x-amz-content-sha256", r->payload);
    add_field(f, "x-amz-date", text_of(time));
    if (s->token.size_bytes)
        add_field(f, "x-amz-security-token", s->token);
    buffer_append_text(&f->texts, r->fields);
    for (size_t at = 0; at < f->texts.size_bytes; at += strlen(f->texts.data + at) + 1) {
        check(f->count < SIGV4_FIELDS_MAX);
        f->in_order[f->count++] = f->texts.data + at;
    }
    qsort(f->in_order, f->count, sizeof(*f->in_order), compare_fields);
}

// "host;x-amz-date" and the like.
static void append_signed_names(struct buffer *to, const struct signed_fields *f)
{
    for (size_t i = 0; i < f->count; i++) {
        if (i > 0)
            buffer_append_byte(to, ';');
        buffer_append(to, f->in_order[i], (size_t)(strchr(f->in_order[i], ':') - f->in_order[i]));
    }
}

static void append_canonical(struct buffer *to, const struct sigv4_request *r, const struct signed_fields *f)
{
    buffer_format(to, "%s\n", r->method);
    buffer_append_text(to, r->path);
    buffer_append_byte(to, '\n');
    buffer_append_text(to, r->query);
    buffer_append_byte(to, '\n');
    for (size_t i = 0; i < f->count; i++)
        buffer_format(to, "%s\n", f->in_order[i]);
    buffer_append_byte(to, '\n');
    append_signed_names(to, f);
    buffer_append_byte(to, '\n');
    buffer_append_text(to, r->payload);
}

void sigv4_sign(const struct sigv4_scope *s, const struct sigv4_request *r, struct buffer *fields)
{
    char time[TIME_BYTES];
    BUFFER_CLEANUP canonical = {0};
    struct signed_fields names = {0};
    format_time(r->unix_s, time);
    collect_fields(s, r, time, &names);
    append_canonical(&canonical, r, &names);
    buffer_format(fields, "x-amz-date: %s", time);
    buffer_append_byte(fields, 0);
    buffer_append_string(fields, "x-amz-content-sha256: ");
    buffer_append_text(fields, r->payload);
    buffer_append_byte(fields, 0);
    if (s->token.size_bytes) {
        buffer_append_string(fields, "x-amz-security-token: ");
        buffer_append_text(fields, s->token);
        buffer_append_byte(fields, 0);
    }
    buffer_append_string(fields, "Authorization: AWS4-HMAC-SHA256 Credential=");
    buffer_append_text(fields, s->key_id);
    buffer_append_byte(fields, '/');
    append_scope(fields, s, time);
    buffer_append_string(fields, ", SignedHeaders=");
    append_signed_names(fields, &names);
    buffer_append_string(fields, ", Signature=");
    append_signature(fields, s, time, &canonical);
    buffer_append_byte(fields, 0);
    buffer_release(&names.texts);
}

void sigv4_presign(const struct sigv4_scope *s, const struct sigv4_request *r, int64_t expires_s, struct buffer *query)
{
    char time[TIME_BYTES];
    BUFFER_CLEANUP scope = {0};
    BUFFER_CLEANUP canonical = {0};
    size_t start = query->size_bytes;
    format_time(r->unix_s, time);
    buffer_append_text(&scope, s->key_id);
    buffer_append_byte(&scope, '/');
    append_scope(&scope, s, time);
    buffer_append_string(query, "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=");
    url_quote(buffer_text(&scope), false, query);
    buffer_format(query, "&X-Amz-Date=%s&X-Amz-Expires=%lld", time, (long long)expires_s);
    if (s->token.size_bytes) {
        buffer_append_string(query, "&X-Amz-Security-Token=");
        url_quote(s->token, false, query);
    }
    buffer_append_string(query, "&X-Amz-SignedHeaders=host");
    if (r->query.size_bytes)
        buffer_append_byte(query, '&');
    buffer_append_text(query, r->query);
    buffer_format(&canonical, "%s\n", r->method);
    buffer_append_text(&canonical, r->path);
    buffer_append_byte(&canonical, '\n');
    buffer_append(&canonical, query->data + start, query->size_bytes - start);
    buffer_append_byte(&canonical, '\n');
    append_pair(&canonical, "host", r->host);
    buffer_append_string(&canonical, "\nhost\nUNSIGNED-PAYLOAD");
    buffer_append_string(query, "&X-Amz-Signature=");
    append_signature(query, s, time, &canonical);
}
