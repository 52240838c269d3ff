// SPDX-License-Identifier: BSD-3-Clause
// ledger_text: see ledger_text.h.
// 1. What ledger_usage_doc writes, the parsers read, and it is the same.
// 2. Ids of users and groups are numbers, those of trees text: they have 64 bits without a sign.
#include "meta/ledger_text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"

static const char *const kind_names[] = {"user", "group", "tree"};

int ledger_kind_parse(struct text word, enum ledger_kind *ret_kind)
{
    for (int i = 0; i < LEDGER_KINDS; i++)
        if (text_equal(word, text_of(kind_names[i]))) {
            *ret_kind = (enum ledger_kind)i;
            return 0;
        }
    return -EINVAL;
}

const char *ledger_kind_name(enum ledger_kind kind)
{
    return kind_names[kind];
}

// ---- numbers -----------------------------------------------------------------------------------------------

// Digits of a number below 2^64.
static int parse_digits(struct text t, uint64_t *ret_number)
{
    uint64_t n = 0;
    if (t.size_bytes == 0)
        return -EINVAL;
    for (size_t i = 0; i < t.size_bytes; i++)
        if (t.data[i] < '0' || t.data[i] > '9' || __builtin_mul_overflow(n, 10, &n) ||
            __builtin_add_overflow(n, (uint64_t)(t.data[i] - '0'), &n))
            return -EINVAL;
    *ret_number = n;
    return 0;
}

int ledger_id_parse(const struct doc *id, enum ledger_kind kind, uint64_t *ret_id)
{
    uint64_t n;
    struct text t = doc_text(id, TEXT(""));
    if (text_equal(t, TEXT("default")) && kind != LEDGER_TREE) {
        *ret_id = LEDGER_DEFAULT;
        return 0;
    }
    int r = parse_digits(t, &n);
    // -1 is no user: chown takes it for "leave as it is".
    if (r < 0 || n == LEDGER_DEFAULT || (kind == LEDGER_TREE && n == 0) || (kind != LEDGER_TREE && n >= UINT32_MAX))
        return -EINVAL;
    *ret_id = n;
    return 0;
}

// "100000", "200k", "1.5M" is too clever.
static int parse_files(const char *text, int64_t *ret_files)
{
    static const struct {
        char letter;
        int64_t factor;
    } units[] = {{'k', 1000}, {'K', 1000}, {'M', 1000000}, {'G', 1000000000}};
    struct text t = text_of(text);
    int64_t factor = 1;
    uint64_t n;
    for (size_t i = 0; i < 4 && t.size_bytes; i++)
        if (t.data[t.size_bytes - 1] == units[i].letter) {
            factor = units[i].factor;
            t.size_bytes--;
            break;
        }
    if (parse_digits(t, &n) < 0 || n > INT64_MAX || __builtin_mul_overflow((int64_t)n, factor, ret_files))
        return -EINVAL;
    return 0;
}

// ---- limits ------------------------------------------------------------------------------------------------

static const struct field {
    const char *key;
    size_t offset;
    int (*parse)(const char *text, int64_t *ret_value);
    const char *example;
} fields[] = {
    {"soft_bytes", offsetof(struct ledger_limits, soft_bytes), clock_parse_size, "40G, 1.5T"},
    {"hard_bytes", offsetof(struct ledger_limits, hard_bytes), clock_parse_size, "40G, 1.5T"},
    {"soft_files", offsetof(struct ledger_limits, soft_files), parse_files, "100000, 200k"},
    {"hard_files", offsetof(struct ledger_limits, hard_files), parse_files, "100000, 200k"},
    {"grace", offsetof(struct ledger_limits, grace_ns), clock_parse_duration, "7d, 12h"},
};
#define FIELDS (sizeof(fields) / sizeof(fields[0]))
#define LIMIT_MAX (1LL << 60)

static int refuse(char **ret_why, const struct field *f, struct text value, const char *reason)
{
    struct buffer why = {0};
    buffer_format(&why, "%s %.*s: %s", f->key, value.size_bytes > 100 ? 100 : (int)value.size_bytes, value.data, reason);
    if (ret_why)
        *ret_why = buffer_steal(&why);
    buffer_release(&why);
    return -EINVAL;
}

static int parse_field(const struct field *f, const struct doc *value, struct ledger_limits *limits, char **ret_why)
{
    struct text t = doc_text(value, TEXT("nothing"));
    int64_t n = 0;
    if (!text_equal(t, TEXT("none"))) {
        cleanup(cleanup_free) char *string = memory_copy(t.data, t.size_bytes);
        BUFFER_CLEANUP reason = {0};
        buffer_format(&reason, "not a limit; such as %s, or none", f->example);
        if (!doc_is_scalar(value) || memchr(t.data, 0, t.size_bytes) || f->parse(string, &n) < 0 || n > LIMIT_MAX)
            return refuse(ret_why, f, t, reason.data);
    }
    memcpy((char *)limits + f->offset, &n, sizeof(n));
    return 0;
}

int ledger_limits_parse(const struct doc *from, struct ledger_limits *limits, char **ret_why)
{
    struct ledger_limits l = *limits;
    for (size_t i = 0; i < FIELDS; i++) {
        const struct doc *value = doc_get(from, fields[i].key);
        int r = value ? parse_field(&fields[i], value, &l, ret_why) : 0;
        if (r < 0)
            return r;
    }
    if (l.hard_bytes && l.soft_bytes > l.hard_bytes)
        return refuse(ret_why, &fields[0], TEXT("is above hard_bytes"), "it would never be met");
    if (l.hard_files && l.soft_files > l.hard_files)
        return refuse(ret_why, &fields[2], TEXT("is above hard_files"), "it would never be met");
    *limits = l;
    return 0;
}

// ---- usage -------------------------------------------------------------------------------------------------

static void put_id(struct doc *map, enum ledger_kind kind, uint64_t id)
{
    char digits[24];
    snprintf(digits, sizeof(digits), "%" PRIu64, id);
    doc_put_text(map, "kind", kind_names[kind]);
    if (id == LEDGER_DEFAULT)
        doc_put_text(map, "id", "default");
    else if (kind == LEDGER_TREE)
        doc_put_text(map, "id", digits);
    else
        doc_put_integer(map, "id", (int64_t)id);
}

// How long it may be over its soft limit yet, in seconds; null: it isn't.
static void put_left(struct doc *map, const char *key, int64_t over_unix_ns, int64_t grace_ns, int64_t now_unix_ns)
{
    int64_t left_ns = grace_ns - (now_unix_ns - over_unix_ns);
    if (over_unix_ns)
        doc_put_integer(map, key, left_ns > 0 ? left_ns / NS_PER_S : 0);
    else
        doc_put_text(map, key, NULL);
}

static void put_grace(struct doc *map, int64_t grace_ns)
{
    char text[32];
    if (grace_ns % NS_PER_S == 0)
        doc_put_integer(map, "grace", grace_ns / NS_PER_S);
    else {
        snprintf(text, sizeof(text), "%" PRIi64 "ns", grace_ns);
        doc_put_text(map, "grace", text);
    }
}

struct doc *ledger_usage_doc(const struct ledger_usage *u, int64_t now_unix_ns)
{
    struct doc *map = doc_new(DOC_MAP);
    put_id(map, u->kind, u->id);
    if (u->path.size_bytes)
        doc_put(map, "path", doc_new_text(u->path));
    if (u->id != LEDGER_DEFAULT) {
        doc_put_integer(map, "used_bytes", u->used_bytes);
        doc_put_integer(map, "used_files", u->used_files);
        put_left(map, "bytes_grace_left", u->bytes_over_unix_ns, u->grace_ns, now_unix_ns);
        put_left(map, "files_grace_left", u->files_over_unix_ns, u->grace_ns, now_unix_ns);
        doc_put_bool(map, "is_recounting", u->is_recounting);
    }
    doc_put_bool(map, "has_own_limits", u->has_own);
    doc_put_integer(map, "soft_bytes", u->limits.soft_bytes);
    doc_put_integer(map, "hard_bytes", u->limits.hard_bytes);
    doc_put_integer(map, "soft_files", u->limits.soft_files);
    doc_put_integer(map, "hard_files", u->limits.hard_files);
    put_grace(map, u->limits.grace_ns);
    return map;
}

struct doc *ledger_difference_doc(const struct ledger_difference *d)
{
    struct doc *map = doc_new(DOC_MAP);
    put_id(map, d->kind, d->id);
    doc_put_integer(map, "used_bytes", d->used_bytes);
    doc_put_integer(map, "used_files", d->used_files);
    doc_put_integer(map, "counted_bytes", d->counted_bytes);
    doc_put_integer(map, "counted_files", d->counted_files);
    return map;
}
