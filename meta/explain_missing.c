// SPDX-License-Identifier: BSD-3-Clause
// explain_missing: why a name isn't in a folder: another name for the same thing, another level, no such
// value, a dataset that isn't stored.
// 1. What is there instead is told from what is at hand: nothing large is read for it.
#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "meta/account.h"
#include "meta/name.h"

// Names that are there: those that begin most like the one that isn't.

#define KNOWN_MAX 8
#define SCANNED_MAX 4096

struct known {
    struct text wanted;
    struct buffer names[KNOWN_MAX];
    size_t alike[KNOWN_MAX]; // bytes, descending
    uint32_t count, scanned;
};

static void known_release(struct known *k)
{
    for (uint32_t i = 0; i < KNOWN_MAX; i++)
        buffer_release(&k->names[i]);
}

static size_t bytes_alike(struct text a, struct text b)
{
    size_t n = 0;
    while (n < a.size_bytes && n < b.size_bytes && a.data[n] == b.data[n])
        n++;
    return n;
}

static int note_known(const struct entry *e, uint64_t cookie, void *context)
{
    struct known *k = context;
    (void)cookie;
    size_t alike = bytes_alike(e->name, k->wanted);
    uint32_t at = k->count < KNOWN_MAX ? k->count : KNOWN_MAX;
    while (at > 0 && alike > k->alike[at - 1])
        at--;
    k->count++;
    if (at < KNOWN_MAX) {
        struct buffer last = k->names[KNOWN_MAX - 1];
        memmove(&k->names[at + 1], &k->names[at], (KNOWN_MAX - 1 - at) * sizeof(k->names[0]));
        memmove(&k->alike[at + 1], &k->alike[at], (KNOWN_MAX - 1 - at) * sizeof(k->alike[0]));
        k->names[at] = last;
        buffer_clear(&k->names[at]);
        buffer_append_text(&k->names[at], e->name);
        k->alike[at] = alike;
    }
    return ++k->scanned >= SCANNED_MAX;
}

static void put_known(const struct known *k, bool is_all, struct account *a)
{
    struct doc *list = doc_new(DOC_LIST);
    BUFFER_CLEANUP said = {0};
    uint32_t n = k->count < KNOWN_MAX ? k->count : KNOWN_MAX;
    for (uint32_t i = 0; i < n; i++) {
        doc_append(list, doc_new_text(buffer_text(&k->names[i])));
        buffer_format(&said, "%s%.*s", i ? ", " : "", T_(buffer_text(&k->names[i])));
    }
    doc_put(a->facts, "known", list);
    if (n == 0)
        account_say(a, "The folder is empty.");
    else if (k->count > n || !is_all)
        account_say(a, "There are others, among them %s.", said.data);
    else
        account_say(a, "There is %s.", said.data);
}

// 0, or -EINPROGRESS for what is quickly had.
static int explain_known(struct place *p, struct text wanted, struct account *a, struct want *want)
{
    cleanup(known_release) struct known k = {.wanted = wanted};
    struct listing l = {0};
    int r = place_list_open(p, &l, want);
    if (r == -EINPROGRESS && want->kind == WANT_SET) {
        want_release(want);
        *want = (struct want){0};
        account_say(a, "Listing its folder shows what there is.");
        return 0;
    }
    if (r < 0)
        return r;
    r = place_list(p, &l, 0, note_known, &k, want);
    listing_close(p->repository, &l);
    if (r >= 0)
        put_known(&k, r == 0, a);
    return r < 0 ? r : 0;
}

// Escapes.

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

// As a URL's would be read: what somebody may have meant.
static void unescape_freely(struct text t, struct buffer *to)
{
    if (text_equal(t, TEXT("%")))
        return;
    for (size_t i = 0; i < t.size_bytes; i++) {
        int high = i + 2 < t.size_bytes && t.data[i] == '%' ? hex_digit(t.data[i + 1]) : -1;
        int low = high >= 0 ? hex_digit(t.data[i + 2]) : -1;
        buffer_append_byte(to, low >= 0 ? (char)(high * 16 + low) : t.data[i]);
        i += low >= 0 ? 2 : 0;
    }
}

static struct text level_value(const struct place *p, struct text name)
{
    struct text key = place_level_name(p);
    bool is_of = text_begins(name, key) && name.size_bytes > key.size_bytes && name.data[key.size_bytes] == '=';
    return is_of ? text_slice(name, key.size_bytes + 1, name.size_bytes) : (struct text){0};
}

// The one name of what `name` may have meant; empty: it can't be told.
static void write_canonical(const struct place *p, struct text name, struct buffer *to)
{
    BUFFER_CLEANUP raw = {0};
    struct text value = place_has_set(p) && !place_is_last(p) ? level_value(p, name) : (struct text){0};
    if (value.data && place_level(p)->kind == VALUE_INTEGER) {
        cleanup(cleanup_free) char *digits = memory_copy(value.data, value.size_bytes);
        char *end;
        errno = 0;
        struct value v = value_integer(strtoll(digits, &end, 10));
        if (errno == 0 && end != digits && *end == 0)
            name_write_level(place_level_name(p), &v, to);
    } else if (value.data) {
        unescape_freely(value, &raw);
        struct value v = value_text(buffer_text(&raw));
        name_write_level(place_level_name(p), &v, to);
    } else if (p->branch) {
        unescape_freely(name, &raw);
        name_write_part(p->branch->part, buffer_text(&raw), to);
    }
}

// 1: it is there under another name, which was said.
static int explain_spelling(struct place *p, struct text name, struct account *a, struct want *want)
{
    struct entry e;
    BUFFER_CLEANUP canonical = {0}, scratch = {0};
    write_canonical(p, name, &canonical);
    if (canonical.size_bytes == 0 || text_equal(buffer_text(&canonical), name))
        return 0;
    int r = place_lookup(p, buffer_text(&canonical), &e, &scratch, NULL, want);
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    account_put(a, "reason", TEXT("another spelling"));
    account_put(a, "canonical", buffer_text(&canonical));
    account_say(a, "A thing has one name, in its shortest escaped form: this one is called %s.", canonical.data);
    return 1;
}

// Data IDs.

static int explain_level(struct place *p, struct text name, struct account *a, struct want *want)
{
    struct text key = place_level_name(p);
    struct text value = level_value(p, name);
    if (!value.data) {
        account_put(a, "reason", TEXT("another level"));
        account_put(a, "expected", key);
        account_say(a, "The folders here are called %.*s=..., as that is the next dimension of \"%.*s\".", T_(key),
                    T_(p->type->name));
    } else {
        account_put(a, "reason", TEXT("no such value"));
        account_say(a, "There is no %.*s among the stored datasets of this folder%s.", T_(name),
                    place_level(p)->kind == VALUE_INTEGER && (value.data[0] < '0' || value.data[0] > '9') && value.data[0] != '-'
                        ? "; its values are whole numbers" : "");
    }
    return explain_known(p, name, a, want);
}

static void say_file_names(const struct place *p, struct account *a)
{
    BUFFER_CLEANUP pattern = {0};
    buffer_append_text(&pattern, p->type->name);
    for (uint32_t i = 0; i < p->type->level_count; i++)
        if (!p->type->levels[i].is_implied)
            buffer_format(&pattern, "_<%.*s>", T_(p->snapshot->elements[p->type->levels[i].element].name));
    account_put(a, "reason", TEXT("not a file's name"));
    account_put(a, "expected", buffer_text(&pattern));
    account_say(a, "The files here are called %s<suffix>, with the values of the folders above.", pattern.data);
}

static int explain_file_there(struct place *p, const struct winner *w, struct account *a)
{
    if (!w->is_stored) {
        account_put(a, "reason", TEXT("not stored"));
    } else if (w->is_elsewhere) {
        account_put(a, "reason", TEXT("another day_obs"));
        account_say(a, "Its dataset is below day_obs=%lld.", (long long)w->day_obs.integer);
    } else {
        account_put(a, "reason", TEXT("another suffix"));
        account_say(a, "Its dataset is here, under a name that ends otherwise: the suffix is that of the stored file.");
    }
    return 0;
}

static int explain_file_name(struct place *folder, struct text name, struct account *a, struct want *want)
{
    struct place p; // the name's data ID; `folder` stays
    struct winner w = {0};
    place_copy(folder, &p);
    int r = place_go_to_file(&p, name, want);
    if (r == -ENOENT)
        say_file_names(folder, a);
    if (r == 0) {
        explain_where(&p, a);
        r = explain_members(&p, a, &w, want);
        if (r == 0)
            account_put(a, "reason", TEXT("no dataset"));
        if (r == 0)
            account_say(a, "None of the collections that are searched has a dataset of this data ID.");
        if (r > 0)
            r = explain_dataset(&p, &w.uuid, a, want) ?: explain_file_there(&p, &w, a);
    }
    buffer_release(&p.texts);
    if (r < 0 && r != -ENOENT)
        return r;
    return explain_known(folder, name, a, want);
}

// Names of collections and types.

static int explain_part(struct place *p, struct text name, struct account *a, struct want *want)
{
    const struct collection *c = place_collection(p);
    const struct dataset_type *t = snapshot_type_by_name(p->snapshot, name);
    account_put(a, "reason", TEXT("no such name"));
    if (c)
        account_say(a, "No collection's name goes on with \"%.*s\" after \"%.*s\", and that collection has no dataset type of this name.",
                    T_(name), T_(c->name));
    else
        account_say(a, "No collection's name goes on with \"%.*s\" here.", T_(name));
    if (c && t && !t->is_readable)
        account_say(a, "The dataset type \"%.*s\" exists, but its table or a dimension of it isn't understood.", T_(name));
    else if (c && t)
        account_say(a, "The dataset type \"%.*s\" exists, but the %s collection \"%.*s\" has no dataset of it.", T_(name),
                    collection_kind_name(c->kind), T_(c->name));
    return explain_known(p, name, a, want);
}

static int explain_collections(struct place *p, struct text name, struct account *a, struct want *want)
{
    if (p->branch && text_begins(name, TEXT("@"))) {
        account_say(a, "Of the views that begin with @ there is @members in a CHAINED collection's folder, and @latest "
                       "where names of collections right below end in a time like 20240101T000000Z.");
        return 0;
    }
    int r = explain_spelling(p, name, a, want);
    if (r != 0)
        return r < 0 ? r : 0;
    if (p->is_components) {
        account_say(a, "The dataset has no such component.");
        return explain_known(p, name, a, want);
    }
    bool is_level = place_has_set(p) && !place_is_last(p) && (!p->branch || memchr(name.data, '=', name.size_bytes));
    if (is_level)
        return explain_level(p, name, a, want);
    if (place_has_set(p) && place_is_last(p) && (!p->branch || text_begins(name, p->type->name)))
        return explain_file_name(p, name, a, want);
    return explain_part(p, name, a, want);
}

static int explain_id(struct place *p, struct text name, struct account *a, struct want *want)
{
    struct uuid uuid;
    if (name.size_bytes != UUID_TEXT_BYTES - 1 || uuid_parse(name, true, &uuid) < 0) {
        account_say(a, "The names here are the ids of datasets, like 6ba7b810-9dad-11d1-80b4-00c04fd430c8, in lower case.");
        return 0;
    }
    int r = explain_dataset(p, &uuid, a, want);
    if (r == 0 || r == -ENOENT)
        account_put(a, "reason", r == 0 ? TEXT("not stored") : TEXT("no dataset"));
    if (r == 0)
        account_say(a, "It is not stored, so it has no file.");
    if (r == -ENOENT)
        account_say(a, "The registry knows no dataset of this id.");
    return r == -ENOENT ? 0 : r;
}

int explain_ambiguous(struct place *p, struct text name, struct account *a, struct want *want)
{
    struct winner w = {0};
    account_put(a, "missing", name);
    account_put(a, "reason", TEXT("not unique"));
    account_say(a, "Several datasets are valid at this time, so there is no telling which is meant (ENOTUNIQ).");
    int r = place_go_to_file(p, name, want);
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    explain_where(p, a);
    r = explain_members(p, a, &w, want);
    return r < 0 ? r : 0;
}

static int explain_instant(struct place *p, struct text name, struct account *a)
{
    struct moment m;
    BUFFER_CLEANUP store = {0};
    if (moment_read(p->snapshot, name, &m, &store) < 0)
        account_say(a, "The folders here are instants in UTC, or in TAI with that at the end (2024-11-11T03:04:05.5, "
                       "20241111T030405TAI), or visit,INSTRUMENT,ID or exposure,INSTRUMENT,ID.");
    else
        account_say(a, "There is no such visit or exposure, or its time is not known.");
    return 0;
}

int explain_missing(struct place *p, struct text name, struct account *a, struct want *want)
{
    account_put(a, "missing", name);
    account_say(a, "There is no \"%.*s\" here.", T_(name));
    if (name.size_bytes > NAME_BYTES_MAX) {
        account_say(a, "Names have at most 255 bytes: longer ones are cut and end in ~ and 16 hex digits.");
        return 0;
    }
    switch (p->kind) {
    case PLACE_COLLECTIONS:
        return explain_collections(p, name, a, want);
    case PLACE_BY_UUID:
        return explain_id(p, name, a, want);
    case PLACE_CALIBS_AT:
        return explain_instant(p, name, a);
    case PLACE_ROOT:
    case PLACE_MEMBERS:
        break;
    }
    return explain_known(p, name, a, want);
}
