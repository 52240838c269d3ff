// SPDX-License-Identifier: BSD-3-Clause
// listing_versions: of a page of versions, what there was at a time.
// 1. A key's versions come the newest first; what there was is the first that isn't younger than the time: an object, or
//    that it had been deleted.
// 2. Servers give deletions among the versions, as S3 does, or all in front of them or behind: of each kind the first is
//    looked for, and the younger of both counts. Times may be given to the second: of one second, the one that is the
//    latest, else the one that stands first, is the younger.
// 3. A page may end amid a key's versions. The token says whether what there was of it has been given: nothing is given
//    twice, and nothing is forgotten. Then the others of that key are passed over; by servers that begin with the key that
//    is named and not behind it, the long way.
#include "cache/origin/listing_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"

#define VERSION_BYTES_MAX 1024
#define TOKEN_HEAD_BYTES 5 // whether it is settled, and how long the key is, in four hex digits

// ---- tokens

static void past_write(const struct listing_past *p, struct buffer *to)
{
    buffer_format(to, "%c%04zx", p->is_settled ? 's' : 'u', p->key.size_bytes);
    buffer_append_text(to, p->key);
    buffer_append_text(to, p->version);
}

bool listing_read_past(struct text token, struct listing_past *ret_past)
{
    char digits[TOKEN_HEAD_BYTES] = {0}, *end;
    if (token.size_bytes < TOKEN_HEAD_BYTES || (token.data[0] != 's' && token.data[0] != 'u'))
        return false;
    memcpy(digits, token.data + 1, sizeof(digits) - 1);
    size_t key_bytes = strtoul(digits, &end, 16);
    if (*end || key_bytes > token.size_bytes - TOKEN_HEAD_BYTES)
        return false;
    *ret_past = (struct listing_past){
        .is_settled = token.data[0] == 's',
        .key = text_slice(token, TOKEN_HEAD_BYTES, TOKEN_HEAD_BYTES + key_bytes),
        .version = text_slice(token, TOKEN_HEAD_BYTES + key_bytes, token.size_bytes),
    };
    return true;
}

// ---- choosing

static struct text key_of(const struct listing *l, const struct listed *e)
{
    return (struct text){l->texts.data + e->key, e->key_bytes};
}

// Keys before prefixes; versions of a key stay as they came.
static int compare_listed(const void *a, const void *b, void *context)
{
    const struct listed *x = *(const struct listed *const *)a, *y = *(const struct listed *const *)b;
    if (x->is_prefix != y->is_prefix)
        return x->is_prefix ? 1 : -1;
    int order = text_compare(key_of(context, x), key_of(context, y));
    return order ? order : x < y ? -1 : x > y;
}

static bool is_younger(const struct listed *a, const struct listed *b)
{
    bool is_to_the_second = a->mtime_unix_ns % NS_PER_S == 0 || b->mtime_unix_ns % NS_PER_S == 0;
    bool is_one_second = a->mtime_unix_ns / NS_PER_S == b->mtime_unix_ns / NS_PER_S;
    if (a->mtime_unix_ns != b->mtime_unix_ns && !(is_to_the_second && is_one_second))
        return a->mtime_unix_ns > b->mtime_unix_ns;
    return a->is_latest != b->is_latest ? a->is_latest : a < b;
}

// What there was, of one key's versions; NULL: nothing yet, by these.
static const struct listed *there_was(const struct listing *l, struct listed **versions, size_t count)
{
    const struct listed *object = NULL, *marker = NULL;
    for (size_t i = 0; i < count; i++) {
        const struct listed **place = versions[i]->is_marker ? &marker : &object;
        if (!*place && versions[i]->mtime_unix_ns <= l->at_unix_ns)
            *place = versions[i];
    }
    return !object || (marker && is_younger(marker, object)) ? marker : object;
}

static struct listed as_chosen(const struct listing *l, const struct listed *e)
{
    struct listed chosen = *e;
    struct text version = {l->texts.data + e->version, e->version_bytes};
    // The object without a version of its own, as long as there is no newer one, is asked for like any: where buckets
    // have no versions, servers don't know it by "null".
    if (e->is_latest && text_equal(version, TEXT("null")))
        chosen.version_bytes = 0;
    return chosen;
}

static struct listed as_absent(const struct listed *e)
{
    return (struct listed){.key = e->key, .key_bytes = e->key_bytes, .mtime_unix_ns = ORIGIN_TIME_UNKNOWN, .is_absent = true};
}

static const char *wrong_with(const struct listing *l)
{
    for (size_t i = 0; i < l->count; i++) {
        const struct listed *e = &l->entries[i];
        if (e->version_bytes > VERSION_BYTES_MAX)
            return "the id of a version is too long";
        if (!e->is_prefix && e->mtime_unix_ns == ORIGIN_TIME_UNKNOWN)
            return "a version has no time";
    }
    return NULL;
}

// Puts what is to be given into `to`; *ret_past: the way on.
static size_t choose(const struct listing *l, const struct listing_past *asked, struct listed **sorted,
                     struct listed *to, struct listing_past *ret_past)
{
    struct text next = l->is_truncated ? buffer_text(&l->next_key) : TEXT("");
    bool was_settled = asked->is_settled && text_equal(asked->key, next);
    size_t given = 0;
    *ret_past = (struct listing_past){.is_settled = was_settled, .key = next, .version = buffer_text(&l->next_version)};
    for (size_t i = 0, n; i < l->count; i += n) {
        struct text key = key_of(l, sorted[i]);
        for (n = 1; i + n < l->count && sorted[i + n]->is_prefix == sorted[i]->is_prefix &&
                    text_equal(key_of(l, sorted[i + n]), key);)
            n++;
        if (sorted[i]->is_prefix) {
            to[given++] = *sorted[i];
            continue;
        }
        if (asked->is_settled && text_equal(asked->key, key))
            continue;
        const struct listed *was = there_was(l, &sorted[i], n);
        bool is_last = l->is_truncated && text_equal(key, next);
        ret_past->is_settled |= is_last && was;
        if (is_last && !was)
            continue; // more of it comes
        bool is_absent = !was || was->is_marker;
        to[given++] = is_absent ? as_absent(sorted[i]) : as_chosen(l, was);
    }
    if (ret_past->is_settled && !was_settled)
        ret_past->version = TEXT("");
    return given;
}

void listing_choose(struct listing *l)
{
    struct listing_past asked = {0}, past;
    const char *wrong = wrong_with(l);
    if (l->asked_token.size_bytes && !listing_read_past(buffer_text(&l->asked_token), &asked))
        wrong = "it was asked for by what is no token";
    if (l->next_key.size_bytes > ORIGIN_KEY_BYTES_MAX || l->next_version.size_bytes > VERSION_BYTES_MAX)
        wrong = "where it goes on is too long";
    if (wrong) {
        listing_refuse(l, -EBADMSG, wrong);
        return;
    }
    struct listed **sorted = memory_new((l->count + 1) * sizeof(*sorted));
    struct listed *chosen = memory_new((l->count + 1) * sizeof(*chosen));
    for (size_t i = 0; i < l->count; i++)
        sorted[i] = &l->entries[i];
    qsort_r(sorted, l->count, sizeof(*sorted), compare_listed, l);
    l->count = l->room = choose(l, &asked, sorted, chosen, &past);
    buffer_clear(&l->token); // of another kind of listing
    if (l->is_truncated && past.key.size_bytes) {
        BUFFER_CLEANUP token = {0};
        past_write(&past, &token);
        listing_set_token(l, buffer_text(&token));
    }
    free(sorted);
    free(l->entries);
    l->entries = chosen;
}
