// SPDX-License-Identifier: BSD-3-Clause
// explain_members: which of the collections that are searched have a data ID, and which of them wins. A
// librarian asks them one by one, as find-first would stop at the first; the answer is kept in memory.
#include "base/log.h"
#include "meta/account.h"
#include "meta/name.h"

struct told {
    const struct place *place;
    struct account *account;
    struct winner *winner;
    bool has_range; // the path names one
    struct key_range range;
    uint32_t searched, count; // collections; records that were about the path
    int64_t winner_collection;
    struct doc *members, *ranges;
    struct buffer ranges_said;
};

static const struct collection *collection_of(const struct told *t, const struct member_record *m)
{
    return snapshot_collection_by_id(t->place->snapshot, m->collection_id);
}

// The path is about the dataset that has this name; at a time there is but one name.
static bool is_about(const struct told *t, const struct member_record *m)
{
    if (t->place->is_timed)
        return true;
    if (m->has_range != t->has_range)
        return false;
    return !m->has_range || (timespan_equal(&m->range, &t->range.span) &&
                             (t->range.kind != KEY_RANGE_TWIN || memcmp(m->uuid.bytes, t->range.of, 16) == 0));
}

static void write_range(const struct timespan *range, struct buffer *to)
{
    char begin[TIMESPAN_TEXT_BYTES], end[TIMESPAN_TEXT_BYTES];
    if (timespan_is_empty(range)) {
        buffer_append_string(to, "never");
        return;
    }
    timespan_format_instant(range->begin_tai_ns, begin);
    timespan_format_instant(range->end_tai_ns, end);
    buffer_format(to, "%s to %s", range->begin_tai_ns <= TIMESPAN_FIRST ? "ever" : begin,
                  range->end_tai_ns >= TIMESPAN_LAST ? "ever" : end);
}

static void put_member(struct told *t, const struct member_record *m, const char *state, struct doc *list)
{
    const struct collection *c = collection_of(t, m);
    const struct collection *run = snapshot_collection_by_id(t->place->snapshot, m->run_id);
    BUFFER_CLEANUP said = {0}, range = {0};
    struct doc *map = doc_new(DOC_MAP);
    char id[UUID_TEXT_BYTES];
    uuid_format(&m->uuid, id);
    doc_put(map, "collection", doc_new_text(c->name));
    doc_put_text(map, "collection_type", collection_kind_name(c->kind));
    doc_put_text(map, "uuid", id);
    if (run)
        doc_put(map, "run", doc_new_text(run->name));
    if (m->has_range) {
        write_range(&m->range, &range);
        doc_put(map, "valid", doc_new_text(buffer_text(&range)));
    }
    buffer_format(&said, "%s%s", state, m->file_count ? "" : ", not stored");
    doc_put(map, "state", doc_new_text(buffer_text(&said)));
    doc_append(list, map);
}

static void say_winner(struct told *t, const struct member_record *m)
{
    const struct collection *c = collection_of(t, m);
    char id[UUID_TEXT_BYTES];
    BUFFER_CLEANUP range = {0};
    uuid_format(&m->uuid, id);
    if (m->has_range) {
        write_range(&m->range, &range);
        account_say(t->account, "It is certified in the CALIBRATION collection \"%.*s\", valid from %s (TAI, the end not included).",
                    T_(c->name), range.data);
    }
    if (t->searched > 1)
        account_say(t->account, "Of the %u collections that are searched, \"%.*s\" (%s) is the first that has %s: it wins.",
                    t->searched, T_(c->name), collection_kind_name(c->kind),
                    t->place->is_timed ? "one that is valid then" : m->has_range ? "this data ID with this range" : "this data ID");
    if (!m->file_count)
        account_say(t->account, "Its dataset %s is known to the registry but not stored%s.", id,
                    t->searched > 1 ? ", and hides those behind it" : "");
}

static void say_other(struct told *t, const struct member_record *m, bool is_rival)
{
    const struct collection *c = collection_of(t, m);
    char id[UUID_TEXT_BYTES];
    uuid_format(&m->uuid, id);
    account_say(t->account, "%s: \"%.*s\" (%s) has dataset %s of this data ID%s.", is_rival ? "As good" : "Shadowed",
                T_(c->name), collection_kind_name(c->kind), id, m->file_count ? "" : ", which isn't stored");
}

static void tell_range(struct told *t, const struct member_record *m)
{
    if (!m->has_range)
        return;
    put_member(t, m, "valid at another time", t->ranges);
    if (doc_count(t->ranges) <= 8) {
        buffer_append_string(&t->ranges_said, t->ranges_said.size_bytes ? ", " : "");
        write_range(&m->range, &t->ranges_said);
    }
}

// The implied level's value, if the row stands under another than the path says.
static void note_day_obs(const struct place *p, const struct member_record *m, struct winner *w)
{
    BUFFER_CLEANUP store = {0};
    struct text bytes = key_text(&m->key);
    size_t offset = 0;
    buffer_reserve(&store, bytes.size_bytes);
    for (uint32_t i = 0; i < p->type->level_count; i++) {
        struct value v;
        bool is_cut;
        if (key_read(bytes, &offset, &v, &is_cut, &store) < 0)
            return;
        if (!p->type->levels[i].is_implied || v.kind != VALUE_INTEGER || value_equal(&v, &p->values[i]))
            continue;
        w->is_elsewhere = true;
        w->day_obs = v;
    }
}

static void tell_member(struct told *t, const struct member_record *m)
{
    if (!is_about(t, m)) {
        tell_range(t, m);
        return;
    }
    bool is_first = t->count++ == 0;
    bool is_rival = !is_first && m->collection_id == t->winner_collection;
    put_member(t, m, is_first ? "wins" : is_rival ? "wins as well" : "shadowed", t->members);
    if (!is_first) {
        say_other(t, m, is_rival);
        return;
    }
    say_winner(t, m);
    t->winner_collection = m->collection_id;
    t->winner->uuid = m->uuid;
    t->winner->is_stored = m->file_count > 0;
    note_day_obs(t->place, m, t->winner);
}

static int get_records(const struct place *p, struct buffer *records, struct want *want)
{
    enum row_kind kind;
    place_want_point(p, WANT_MEMBERS, want);
    want->at = p->is_timed ? p->at : TIMESPAN_NONE;
    if (answers_get(&p->repository->answers, want, &kind, records))
        return 0;
    place_want_texts(p, want);
    return -EINPROGRESS;
}

static void told_begin(struct told *t)
{
    const struct place *p = t->place;
    const struct collection **members;
    int size = key_values_size(key_text(&p->key), p->depth);
    t->has_range = size >= 0 && key_read_range(key_text(&p->key), (size_t)size, &t->range) == 0;
    t->searched = set_members(p->snapshot, p->collection, p->type, &members);
    free(members);
    t->members = doc_new(DOC_LIST);
    t->ranges = doc_new(DOC_LIST);
}

static void told_end(struct told *t)
{
    if (t->ranges_said.size_bytes)
        account_say(t->account, "Of this data ID there are datasets that are valid otherwise: %s%s.", t->ranges_said.data,
                    doc_count(t->ranges) > 8 ? ", ..." : "");
    doc_put(t->account->facts, "members", t->members);
    if (doc_count(t->ranges) > 0)
        doc_put(t->account->facts, "other_ranges", t->ranges);
    else
        doc_free(t->ranges);
    buffer_release(&t->ranges_said);
}

int explain_members(const struct place *p, struct account *a, struct winner *ret_winner, struct want *want)
{
    BUFFER_CLEANUP records = {0};
    struct told t = {.place = p, .account = a, .winner = ret_winner};
    int r = get_records(p, &records, want);
    if (r < 0)
        return r;
    told_begin(&t);
    for (size_t at = 0; at + sizeof(struct member_record) <= records.size_bytes;
         at += sizeof(struct member_record)) {
        struct member_record m;
        memcpy(&m, records.data + at, sizeof(m));
        if (collection_of(&t, &m)) // else newer than this snapshot
            tell_member(&t, &m);
    }
    told_end(&t);
    return t.count > 0;
}
