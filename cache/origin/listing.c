// SPDX-License-Identifier: BSD-3-Clause
// listing: S3's XML, read by expat as it comes.
// 1. Nothing of a page is given before all of it is there and well-formed: an entry is given once, whatever had to be
//    asked again.
// 2. Memory is bounded by what is kept (entries, lengths), not by what a server sends; a document type (entities, so
//    bombs) is refused before anything of it is expanded.
// 3. Only elements that are known count, at the place where they belong; others are passed over.
#include "cache/origin/listing_internal.h"

#include <errno.h>

#include "base/clock.h"
#include "base/log.h"
#include "cache/fetcher_url.h"
#include "cache/origin/internal.h"

void listing_refuse(struct listing *l, int error, const char *why)
{
    if (!l->error) {
        l->error = error;
        l->bad = why;
    }
    if (l->parser)
        XML_StopParser(l->parser, XML_FALSE);
}

// ---- keeping

static uint32_t listing_keep(struct listing *l, struct text t)
{
    uint32_t at = (uint32_t)l->texts.size_bytes; // bounded by LISTING_BYTES_MAX
    buffer_append_text(&l->texts, t);
    return at;
}

static void listing_push(struct listing *l, const struct listed *entry)
{
    if (l->count == l->room) {
        l->room = l->room ? l->room * 2 : 64;
        l->entries = memory_grow(l->entries, l->room, sizeof(*l->entries));
    }
    l->entries[l->count++] = *entry;
}

void listing_add(struct listing *l, const struct origin_entry *e)
{
    struct listed entry = {
        .key = listing_keep(l, e->key),
        .key_bytes = (uint32_t)e->key.size_bytes,
        .validator = listing_keep(l, e->validator),
        .validator_bytes = (uint32_t)e->validator.size_bytes,
        .class = listing_keep(l, e->storage_class),
        .class_bytes = (uint32_t)e->storage_class.size_bytes,
        .size_bytes = e->size_bytes,
        .mtime_unix_ns = e->mtime_unix_ns,
        .is_prefix = e->is_prefix,
    };
    listing_push(l, &entry);
}

void listing_set_token(struct listing *l, struct text token)
{
    buffer_clear(&l->token);
    buffer_append_text(&l->token, token);
}

// ---- values

static int64_t value_number(struct text t)
{
    int64_t number = 0;
    if (t.size_bytes == 0 || t.size_bytes > 18)
        return -1;
    for (size_t i = 0; i < t.size_bytes; i++) {
        if (t.data[i] < '0' || t.data[i] > '9')
            return -1;
        number = number * 10 + (t.data[i] - '0');
    }
    return number;
}

// "2024-11-11T03:04:05.000Z", the fraction of up to nine digits or none.
static int64_t value_time(struct text t)
{
    int64_t unix_ns;
    return clock_parse_iso(t, &unix_ns) < 0 ? ORIGIN_TIME_UNKNOWN : unix_ns;
}

// Whether keys are quoted some servers only say at the end: they are kept as they came.
static void listing_take_key(struct listing *l, struct text value)
{
    l->entry.key = listing_keep(l, value);
    l->entry.key_bytes = (uint32_t)value.size_bytes;
}

static void listing_take_value(struct listing *l, enum listing_place place)
{
    struct text value = buffer_text(&l->value);
    struct listed *e = &l->entry;
    switch (place) {
    case PLACE_KEY:
    case PLACE_PREFIX:
        listing_take_key(l, value);
        break;
    case PLACE_SIZE:
        e->size_bytes = value_number(value);
        break;
    case PLACE_TIME:
        e->mtime_unix_ns = value_time(value);
        break;
    case PLACE_ETAG:
        e->validator = (uint32_t)l->texts.size_bytes;
        etag_append(&l->texts, value);
        e->validator_bytes = (uint32_t)l->texts.size_bytes - e->validator;
        break;
    case PLACE_UPLOAD:
        e->validator = listing_keep(l, value);
        e->validator_bytes = (uint32_t)value.size_bytes;
        e->size_bytes = 0;
        break;
    case PLACE_CLASS:
        e->class = listing_keep(l, value);
        e->class_bytes = (uint32_t)value.size_bytes;
        break;
    case PLACE_VERSION:
        e->version = listing_keep(l, value);
        e->version_bytes = (uint32_t)value.size_bytes;
        break;
    case PLACE_LATEST:
        e->is_latest = text_equal(value, TEXT("true"));
        break;
    case PLACE_NEXT_KEY:
        buffer_clear(&l->next_key);
        buffer_append_text(&l->next_key, value);
        break;
    case PLACE_NEXT_VERSION:
        buffer_clear(&l->next_version);
        buffer_append_text(&l->next_version, value);
        break;
    case PLACE_TRUNCATED:
        l->is_truncated = text_equal(value, TEXT("true"));
        break;
    case PLACE_TOKEN:
        listing_set_token(l, value);
        break;
    case PLACE_ENCODING:
        l->is_quoted = text_equal(value, TEXT("url"));
        break;
    default:
        break;
    }
}

static void listing_take_entry(struct listing *l, bool is_prefix)
{
    if (l->entry.key_bytes == 0 || (!is_prefix && l->entry.size_bytes < 0))
        listing_refuse(l, -EBADMSG, "an entry has no key or no size");
    else if (l->count >= LISTING_ENTRIES_MAX)
        listing_refuse(l, -E2BIG, "more entries than were asked for");
    else
        listing_push(l, &l->entry);
}

// ---- what expat calls

struct listing_name {
    enum listing_place in;
    const char *name;
    enum listing_place place;
    bool is_of_versions; // counts in their listings only
};

static const struct listing_name listing_names[] = {
    {PLACE_OTHER, "Contents", PLACE_CONTENTS},
    {PLACE_OTHER, "CommonPrefixes", PLACE_PREFIXES},
    {PLACE_OTHER, "IsTruncated", PLACE_TRUNCATED},
    {PLACE_OTHER, "NextContinuationToken", PLACE_TOKEN},
    {PLACE_OTHER, "EncodingType", PLACE_ENCODING},
    {PLACE_OTHER, "Upload", PLACE_CONTENTS}, // of ListMultipartUploadsResult, whose further pages aren't asked for
    {PLACE_CONTENTS, "UploadId", PLACE_UPLOAD},
    {PLACE_CONTENTS, "Initiated", PLACE_TIME},
    {PLACE_CONTENTS, "Key", PLACE_KEY},
    {PLACE_CONTENTS, "Size", PLACE_SIZE},
    {PLACE_CONTENTS, "LastModified", PLACE_TIME},
    {PLACE_CONTENTS, "ETag", PLACE_ETAG},
    {PLACE_CONTENTS, "StorageClass", PLACE_CLASS},
    {PLACE_PREFIXES, "Prefix", PLACE_PREFIX},
    {PLACE_OTHER, "Version", PLACE_CONTENTS, true},
    {PLACE_OTHER, "DeleteMarker", PLACE_MARKER, true},
    {PLACE_OTHER, "NextKeyMarker", PLACE_NEXT_KEY, true},
    {PLACE_OTHER, "NextVersionIdMarker", PLACE_NEXT_VERSION, true},
    {PLACE_CONTENTS, "VersionId", PLACE_VERSION, true},
    {PLACE_CONTENTS, "IsLatest", PLACE_LATEST, true},
    {PLACE_MARKER, "Key", PLACE_KEY, true},
    {PLACE_MARKER, "LastModified", PLACE_TIME, true},
    {PLACE_MARKER, "IsLatest", PLACE_LATEST, true},
};

static enum listing_place listing_place(const struct listing *l, const char *name)
{
    enum listing_place in = l->path[l->depth - 1];
    if (in == PLACE_OTHER && l->depth != 1)
        return PLACE_OTHER; // below something that isn't known
    for (size_t i = 0; i < sizeof(listing_names) / sizeof(*listing_names); i++) {
        const struct listing_name *n = &listing_names[i];
        if (n->in == in && strcmp(n->name, name) == 0 && (l->is_of_versions || !n->is_of_versions))
            return n->place;
    }
    return PLACE_OTHER;
}

static bool is_entry(enum listing_place place)
{
    return place == PLACE_CONTENTS || place == PLACE_MARKER || place == PLACE_PREFIXES;
}

static void XMLCALL listing_on_start(void *context, const char *name, const char **attributes)
{
    struct listing *l = context;
    buffer_clear(&l->value);
    if (l->depth == LISTING_DEPTH_MAX) {
        listing_refuse(l, -EBADMSG, "its elements are nested too deep");
        return;
    }
    if (l->depth == 0) {
        l->is_of_uploads = strcmp(name, "ListMultipartUploadsResult") == 0;
        bool is_versions = strcmp(name, "ListVersionsResult") == 0;
        if (!is_versions && !l->is_of_uploads && strcmp(name, "ListBucketResult") != 0)
            listing_refuse(l, -EBADMSG, "it is no listing");
        else if (is_versions != l->is_of_versions)
            listing_refuse(l, is_versions ? -EBADMSG : -EOPNOTSUPP, "it isn't the kind of listing that was asked for");
        l->has_root = true;
        l->path[l->depth++] = PLACE_OTHER;
        return;
    }
    enum listing_place place = listing_place(l, name);
    if (is_entry(place))
        l->entry = (struct listed){.size_bytes = place == PLACE_MARKER ? 0 : -1,
                                   .mtime_unix_ns = ORIGIN_TIME_UNKNOWN,
                                   .is_prefix = place == PLACE_PREFIXES,
                                   .is_marker = place == PLACE_MARKER};
    l->path[l->depth++] = place;
}

static void XMLCALL listing_on_end(void *context, const char *name)
{
    struct listing *l = context;
    enum listing_place place = l->path[--l->depth];
    if (is_entry(place))
        listing_take_entry(l, place == PLACE_PREFIXES);
    else
        listing_take_value(l, place);
    buffer_clear(&l->value);
}

static void XMLCALL listing_on_text(void *context, const char *data, int size_bytes)
{
    struct listing *l = context;
    if (l->depth == 0 || l->path[l->depth - 1] < PLACE_KEY)
        return;
    if (l->value.size_bytes + (size_t)size_bytes > LISTING_VALUE_BYTES_MAX)
        listing_refuse(l, -E2BIG, "a value is too long");
    else
        buffer_append(&l->value, data, (size_t)size_bytes);
}

static void XMLCALL listing_on_doctype(void *context, const char *name, const char *system, const char *public,
                                       int has_internal)
{
    listing_refuse(context, -EBADMSG, "it has a document type");
}

// ---- the door

struct listing *listing_new(struct text prefix, struct text token)
{
    struct listing *l = new_struct(struct listing);
    l->parser = XML_ParserCreate(NULL);
    check(l->parser);
    XML_SetUserData(l->parser, l);
    XML_SetElementHandler(l->parser, listing_on_start, listing_on_end);
    XML_SetCharacterDataHandler(l->parser, listing_on_text);
    XML_SetStartDoctypeDeclHandler(l->parser, listing_on_doctype);
    buffer_append_text(&l->prefix, prefix);
    buffer_append_text(&l->asked_token, token);
    return l;
}

void listing_set_past(struct listing *l, int64_t at_unix_ns)
{
    l->is_of_versions = true;
    l->at_unix_ns = at_unix_ns;
}

void listing_free(struct listing *l)
{
    if (!l)
        return;
    XML_ParserFree(l->parser);
    buffer_release(&l->prefix);
    buffer_release(&l->asked_token);
    buffer_release(&l->value);
    buffer_release(&l->token);
    buffer_release(&l->texts);
    buffer_release(&l->next_key);
    buffer_release(&l->next_version);
    free(l->entries);
    free(l);
}

static int listing_parse(struct listing *l, const void *data, size_t size_bytes, bool is_last, const char **ret_why)
{
    if (!l->error && (size_bytes > LISTING_BYTES_MAX || l->fed_bytes + size_bytes > LISTING_BYTES_MAX))
        listing_refuse(l, -E2BIG, "it is too long");
    l->fed_bytes += size_bytes;
    if (!l->error && XML_Parse(l->parser, data, (int)size_bytes, is_last) != XML_STATUS_OK)
        listing_refuse(l, -EBADMSG, "it is not well-formed XML");
    if (l->error)
        *ret_why = l->bad;
    return l->error;
}

int listing_feed(struct listing *l, const void *data, size_t size_bytes, const char **ret_why)
{
    return listing_parse(l, data, size_bytes, false, ret_why);
}

// A quoted key in place: it doesn't get longer. `+` is a space, as in a form.
static size_t key_unquote(char *raw, size_t size_bytes)
{
    BUFFER_CLEANUP key = {0};
    for (size_t i = 0; i < size_bytes; i++) {
        if (raw[i] == '+')
            raw[i] = ' ';
    }
    url_unquote((struct text){raw, size_bytes}, &key);
    if (key.size_bytes)
        memcpy(raw, key.data, key.size_bytes);
    return key.size_bytes;
}

static void listing_check_keys(struct listing *l)
{
    for (size_t i = 0; i < l->count && !l->error; i++) {
        struct listed *e = &l->entries[i];
        if (l->is_quoted)
            e->key_bytes = (uint32_t)key_unquote(l->texts.data + e->key, e->key_bytes);
        struct text key = {l->texts.data + e->key, e->key_bytes};
        if (key.size_bytes > ORIGIN_KEY_BYTES_MAX)
            listing_refuse(l, -EBADMSG, "a key is too long");
        else if (!text_begins(key, buffer_text(&l->prefix)))
            listing_refuse(l, -EBADMSG, "a key is not below the prefix that was asked for");
    }
    if (l->is_quoted && l->next_key.size_bytes)
        buffer_truncate(&l->next_key, key_unquote(l->next_key.data, l->next_key.size_bytes));
}

int listing_end(struct listing *l, const char **ret_why)
{
    if (listing_parse(l, "", 0, true, ret_why) < 0)
        return l->error;
    listing_check_keys(l);
    if (l->is_of_versions && !l->error)
        listing_choose(l);
    if (!l->is_truncated || l->is_of_uploads)
        buffer_clear(&l->token);
    else if (l->token.size_bytes == 0 || l->token.size_bytes > LISTING_TOKEN_BYTES_MAX)
        listing_refuse(l, -EBADMSG, "there is more of it, but no way is given to ask for that");
    else if (text_equal(buffer_text(&l->token), buffer_text(&l->asked_token)))
        listing_refuse(l, -EBADMSG, "its next page is itself");
    if (l->error)
        *ret_why = l->bad;
    return l->error;
}

struct text listing_token(const struct listing *l)
{
    return buffer_text(&l->token);
}

size_t listing_count(const struct listing *l)
{
    return l->count;
}

int listing_give(const struct listing *l, struct origin_request *r)
{
    for (size_t i = 0; i < l->count; i++) {
        const struct listed *e = &l->entries[i];
        const char *texts = l->texts.data;
        struct origin_entry entry = {
            .key = {texts + e->key, e->key_bytes},
            .is_prefix = e->is_prefix,
            .size_bytes = e->size_bytes,
            .mtime_unix_ns = e->mtime_unix_ns,
            .validator = {texts + e->validator, e->validator_bytes},
            .storage_class = {texts + e->class, e->class_bytes},
            .version = {texts + e->version, e->version_bytes},
            .is_absent = e->is_absent,
        };
        int error = r->each(r, &entry);
        if (error < 0)
            return error;
    }
    return 0;
}
