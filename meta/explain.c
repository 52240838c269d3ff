// SPDX-License-Identifier: BSD-3-Clause
// explain: what is there. Why something isn't is explain_missing.c's.
// 1. Facts are put as they are found; a call that ends in -EINPROGRESS leaves an account that is thrown
//    away.
// 2. A sentence says one thing, with the names as the tree has them or as the registry does, in quotes.
#include "meta/explain.h"

#include <stdarg.h>

#include "base/clock.h"
#include "base/log.h"
#include "meta/account.h"
#include "meta/name.h"

void account_say(struct account *a, const char *format, ...)
{
    BUFFER_CLEANUP line = {0};
    va_list args;
    va_start(args, format);
    buffer_vformat(&line, format, args);
    va_end(args);
    doc_append(a->sentences, doc_new_text(buffer_text(&line)));
}

void account_put(struct account *a, const char *key, struct text value)
{
    doc_put(a->facts, key, doc_new_text(value));
}

// Collections.

static void put_collection(const struct collection *c, struct account *a)
{
    account_put(a, "collection", c->name);
    account_put(a, "collection_type", text_of(collection_kind_name(c->kind)));
    if (c->doc.size_bytes)
        account_put(a, "doc", c->doc);
}

#define MEMBERS_SAID 20

static void explain_chain(const struct place *p, const struct collection *c, struct account *a)
{
    struct doc *list = doc_new(DOC_LIST);
    BUFFER_CLEANUP names = {0};
    for (uint32_t i = 0; i < c->child_count; i++) {
        const struct collection *m = &p->snapshot->collections[c->children[i]];
        doc_append(list, doc_new_text(m->name));
        if (i < MEMBERS_SAID)
            buffer_format(&names, "%s\"%.*s\" (%s)", i ? ", " : "", T_(m->name), collection_kind_name(m->kind));
    }
    doc_put(a->facts, "chain", list);
    if (c->child_count == 0)
        account_say(a, "It has no members, so there is nothing in it.");
    else
        account_say(a, "Of each data ID it shows the dataset of the first of its members that has one: %s%s.",
                    buffer_text(&names).data, c->child_count > MEMBERS_SAID ? ", ..." : "");
}

static void explain_names(const struct place *p, struct account *a)
{
    const struct collection *c = place_collection(p);
    if (!c) {
        account_say(a, "It is a part of collections' names; no collection has just this name.");
        return;
    }
    put_collection(c, a);
    account_say(a, "It is the %s collection \"%.*s\".", collection_kind_name(c->kind), T_(c->name));
    if (c->doc.size_bytes)
        account_say(a, "Its documentation says: %.*s", T_(c->doc));
    if (c->kind == COLLECTION_CHAINED)
        explain_chain(p, c, a);
}

// Dataset types and data IDs.

static struct doc *value_doc(const struct value *v)
{
    return v->kind == VALUE_INTEGER ? doc_new_integer(v->integer) : doc_new_text(v->text);
}

static void value_format(const struct value *v, struct buffer *to)
{
    if (v->kind == VALUE_INTEGER)
        buffer_format(to, "%lld", (long long)v->integer);
    else
        buffer_append_text(to, v->text);
}

// Below calibs-at/: what time that is.
static void explain_time(const struct place *p, struct account *a)
{
    char begin[TIMESPAN_TEXT_BYTES], end[TIMESPAN_TEXT_BYTES];
    BUFFER_CLEANUP said = {0};
    if (timespan_is_none(&p->at))
        return;
    timespan_format_instant(p->at.begin_tai_ns, begin);
    timespan_format_instant(p->at.end_tai_ns, end);
    buffer_format(&said, p->at.end_tai_ns - p->at.begin_tai_ns > 1 ? "%s to %s" : "%s", begin, end);
    account_put(a, "at", buffer_text(&said));
    account_say(a, p->is_timed ? "Calibrations are those that are valid at %s (TAI)."
                               : "The time, %s (TAI), doesn't matter here: nothing that has a validity range may be in it.",
                said.data);
}

void explain_where(const struct place *p, struct account *a)
{
    struct doc *id = doc_new(DOC_MAP);
    BUFFER_CLEANUP said = {0};
    put_collection(p->collection, a);
    account_put(a, "dataset_type", p->type->name);
    for (uint32_t i = 0; i < p->depth; i++) {
        struct text name = p->snapshot->elements[p->type->levels[i].element].name;
        cleanup(cleanup_free) char *key = memory_copy(name.data, name.size_bytes);
        doc_put(id, key, value_doc(&p->values[i]));
        buffer_format(&said, "%s%s=", i ? ", " : " with ", key);
        value_format(&p->values[i], &said);
    }
    doc_put(a->facts, "data_id", id);
    explain_time(p, a);
    account_say(a, "It is about datasets of type \"%.*s\" (%.*s)%s in the %s collection \"%.*s\".",
                T_(p->type->name), T_(p->type->storage_class), buffer_text(&said).data,
                collection_kind_name(p->collection->kind), T_(p->collection->name));
}

static struct doc *data_id_doc(const struct buffer *json, struct buffer *said)
{
    struct doc *id;
    if (doc_parse_json(buffer_text(json), &id, NULL) < 0)
        return doc_new(DOC_MAP);
    for (size_t i = 0; i < doc_count(id); i++) {
        struct text value = doc_text(doc_item(id, i), TEXT("")), key = doc_key(id, i);
        buffer_format(said, "%s%.*s=%.*s", i ? ", " : "", T_(key), T_(value));
    }
    return id;
}

int explain_dataset(const struct place *p, const struct uuid *uuid, struct account *a, struct want *want)
{
    struct dataset *d;
    BUFFER_CLEANUP json = {0}, said = {0};
    char id[UUID_TEXT_BYTES], date[CLOCK_ISO_BYTES] = "at a time that isn't known";
    int r = repository_data_id(p->repository, p->fresh, uuid, &json, want);
    if (r == 0)
        r = repository_dataset(p->repository, p->fresh, uuid, &d, want);
    if (r < 0)
        return r;
    uuid_format(uuid, id);
    account_put(a, "uuid", text_of(id));
    account_put(a, "dataset_type", d->type);
    account_put(a, "storage_class", d->storage_class);
    account_put(a, "run", d->run);
    doc_put(a->facts, "data_id", data_id_doc(&json, &said));
    if (d->ingest_tai_ns != INT64_MIN) {
        clock_format_iso(tai_to_unix_ns(d->ingest_tai_ns), date);
        account_put(a, "ingest_date", text_of(date));
    }
    account_say(a, "It is dataset %s of type \"%.*s\" (%.*s), made in the RUN collection \"%.*s\", ingested %s.",
                id, T_(d->type), T_(d->storage_class), T_(d->run), date);
    if (said.size_bytes)
        account_say(a, "Its data ID, with what it implies: %s.", said.data);
    dataset_free(d);
    return 0;
}

// A dataset at the key that `p` has now; `e` a file of it, or NULL.
static int explain_key(const struct place *p, const struct entry *e, struct account *a, struct explained *x,
                       struct want *want)
{
    struct winner w = {0};
    int r = explain_members(p, a, &w, want);
    if (r < 0)
        return r;
    x->uuid = e ? e->uuid : w.uuid;
    x->is_dataset = e || r > 0;
    x->is_component = e && e->component.size_bytes;
    if (x->is_component)
        buffer_append_text(&x->component, e->component);
    return x->is_dataset ? explain_dataset(p, &x->uuid, a, want) : 0;
}

// What there is.

static int explain_folder(const struct place *p, struct account *a, struct explained *x, struct want *want)
{
    account_put(a, "kind", TEXT("folder"));
    switch (p->kind) {
    case PLACE_ROOT:
        account_say(a, "It is the root of the Butler repository %s.", repository_config(p->repository)->source);
        return 0;
    case PLACE_BY_UUID:
        account_say(a, "It has a link for every stored dataset, by its id; they are not listed.");
        return 0;
    case PLACE_CALIBS_AT:
        account_say(a, "Its folders are instants (20240101T000000Z), visits (visit,INSTRUMENT,ID) and exposures; they are "
                       "not listed. Below them the collections are as calibrations are valid then.");
        return 0;
    case PLACE_MEMBERS:
        explain_names(p, a);
        account_say(a, "This folder has its members as links, in order.");
        return 0;
    case PLACE_COLLECTIONS:
        if (p->type && p->is_components) {
            account_say(a, "It is the folder of a dataset that is made of several files.");
            explain_where(p, a);
            return explain_key(p, NULL, a, x, want);
        }
        if (p->branch)
            explain_names(p, a);
        if (p->type)
            explain_where(p, a);
        return 0;
    }
    return 0;
}

static int explain_file(struct place *p, struct text name, const struct entry *e, struct account *a,
                        struct explained *x, struct want *want)
{
    account_put(a, "kind", TEXT("file"));
    if (e->component.size_bytes) {
        account_put(a, "component", e->component);
        account_say(a, "It is the component \"%.*s\" of a dataset that is made of several files.",
                    T_(e->component));
    }
    int r = p->is_components ? 0 : place_go_to_file(p, name, want);
    if (r < 0)
        return r;
    explain_where(p, a);
    return explain_key(p, e, a, x, want);
}

static int explain_link(const struct place *p, const struct entry *e, const struct buffer *target,
                        struct account *a, struct explained *x, struct want *want)
{
    account_put(a, "kind", TEXT("link"));
    account_put(a, "target", buffer_text(target));
    account_say(a, "It is a link to %s.", buffer_text(target).data);
    if (p->kind != PLACE_BY_UUID)
        return 0;
    x->is_dataset = true;
    x->uuid = e->uuid;
    return explain_dataset(p, &e->uuid, a, want);
}

int place_explain(struct place *p, struct text name, struct account *a, struct explained *ret_explained,
                  struct want *want)
{
    struct entry e = {.kind = ENTRY_FOLDER};
    BUFFER_CLEANUP scratch = {0}, target = {0};
    int r = name.size_bytes ? place_lookup(p, name, &e, &scratch, &target, want) : 0;
    if (r < 0 && r != -ENOENT && r != -ENOTUNIQ)
        return r;
    doc_put_bool(a->facts, "exists", r == 0);
    if (r < 0)
        return r == -ENOENT ? explain_missing(p, name, a, want) : explain_ambiguous(p, name, a, want);
    switch (e.kind) {
    case ENTRY_FOLDER:
        r = name.size_bytes ? place_enter(p, name, want) : 0;
        return r < 0 ? r : explain_folder(p, a, ret_explained, want);
    case ENTRY_FILE:
        return explain_file(p, name, &e, a, ret_explained, want);
    case ENTRY_LINK:
        return explain_link(p, &e, &target, a, ret_explained, want);
    case ENTRY_README:
        account_put(a, "kind", TEXT("file"));
        account_say(a, "It says what this mount is.");
        return 0;
    }
    return 0;
}
