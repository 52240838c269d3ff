// SPDX-License-Identifier: BSD-3-Clause
// view: butlerfs's own views in the folders of collections' names: @members/, a chain's own members as
// links, and @latest, a link to the newest of the dated runs below.
// 1. No part of a collection's name and no dataset type begins with `@` in the tree: nothing collides.
// 2. @members/ is in a chain's folder and nowhere else; the members are numbered in the chain's order, as
//    wide as the last number and three digits at least, so that sorting by name is that order.
// 3. @latest is in a folder where a child part is a collection and ends in a time like 20240101T000000Z,
//    that time being all of the part or following something that is no letter and no digit. The greatest
//    time wins, of equal ones the last name.
// 4. Both are listed where they are. Who follows links (find -L, grep -R) sees datasets again through
//    them; where a chain is below the name of its own member, in a circle, which such programs notice.
#include <stdio.h>

#include "base/hash.h"
#include "meta/name.h"
#include "meta/place.h"

#define VIEW_MEMBERS "@members"
#define VIEW_LATEST "@latest"

static bool has_members(const struct place *p)
{
    const struct collection *c = place_collection(p);
    return c && c->kind == COLLECTION_CHAINED;
}

// Dated runs.

#define STAMP_BYTES 16 // 20240101T000000Z

static int two_digits(const char *at)
{
    return at[0] < '0' || at[0] > '9' || at[1] < '0' || at[1] > '9' ? -1
                                                                    : (at[0] - '0') * 10 + (at[1] - '0');
}

static bool is_between(int n, int low, int high)
{
    return n >= low && n <= high;
}

static bool is_alphanumeric(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// The time that a part ends in; false: none.
static bool part_stamp(struct text part, struct text *ret_stamp)
{
    if (part.size_bytes < STAMP_BYTES)
        return false;
    size_t from = part.size_bytes - STAMP_BYTES;
    const char *s = part.data + from;
    if ((from && is_alphanumeric(s[-1])) || s[8] != 'T' || s[15] != 'Z')
        return false;
    if (two_digits(s) < 0 || two_digits(s + 2) < 0 || !is_between(two_digits(s + 4), 1, 12) ||
        !is_between(two_digits(s + 6), 1, 31) || !is_between(two_digits(s + 9), 0, 23) ||
        !is_between(two_digits(s + 11), 0, 59) || !is_between(two_digits(s + 13), 0, 60))
        return false;
    *ret_stamp = text_slice(part, from, part.size_bytes);
    return true;
}

static const struct branch *latest(const struct place *p)
{
    const struct branch *found = NULL;
    struct text best = {0}, stamp;
    for (uint32_t i = 0; i < p->branch->child_count; i++) {
        const struct branch *b = &p->snapshot->branches[p->branch->children[i]];
        if (b->collection == INDEX_NONE || !part_stamp(b->part, &stamp))
            continue;
        int order = found ? text_compare(stamp, best) : 1;
        if (order < 0 || (order == 0 && text_compare(b->part, found->part) < 0))
            continue;
        found = b;
        best = stamp;
    }
    return found;
}

static int find_latest(const struct place *p, struct entry *ret_entry, struct buffer *target)
{
    const struct branch *b = latest(p);
    if (!b)
        return -ENOENT;
    *ret_entry = (struct entry){.kind = ENTRY_LINK,
                                .name = TEXT(VIEW_LATEST),
                                .version = hash64(b->name.data, b->name.size_bytes),
                                .size_bytes = (int64_t)b->name.size_bytes};
    if (target)
        buffer_append_text(target, b->name);
    return 0;
}

// The folder of names.

int place_look_up_view(const struct place *p, struct text name, struct entry *ret_entry,
                       struct buffer *target)
{
    if (text_equal(name, TEXT(VIEW_LATEST)))
        return find_latest(p, ret_entry, target);
    if (!text_equal(name, TEXT(VIEW_MEMBERS)) || !has_members(p))
        return -ENOENT;
    *ret_entry = (struct entry){.kind = ENTRY_FOLDER, .name = name};
    return 0;
}

int place_enter_view(struct place *p, struct text name)
{
    if (text_equal(name, TEXT(VIEW_LATEST)))
        return latest(p) ? -ENOTDIR : -ENOENT;
    if (!text_equal(name, TEXT(VIEW_MEMBERS)) || !has_members(p))
        return -ENOENT;
    p->kind = PLACE_MEMBERS;
    return 0;
}

bool place_view_entry(const struct place *p, uint64_t number, struct entry *ret_entry)
{
    static const char *const names[PLACE_VIEW_COUNT] = {VIEW_LATEST, VIEW_MEMBERS};
    return place_look_up_view(p, text_of(names[number]), ret_entry, NULL) == 0;
}

// @members/.

static const struct collection *member(const struct place *p, uint64_t i)
{
    const struct collection *c = place_collection(p);
    return i < c->child_count ? &p->snapshot->collections[c->children[i]] : NULL;
}

static void write_member(const struct place *p, uint64_t i, struct buffer *to)
{
    uint32_t last = place_collection(p)->child_count - 1;
    int width = last < 1000 ? 3 : snprintf(NULL, 0, "%u", last);
    size_t from = to->size_bytes;
    buffer_format(to, "%0*llu-", width, (unsigned long long)i);
    name_escape(NAME_VALUE, member(p, i)->name, to);
    name_shorten(to, from, (struct text){0});
}

// From the link's folder, <collection>/@members, up to collections/ and down to the member.
static void write_target(const struct place *p, const struct collection *m, struct buffer *to)
{
    const struct branch *b = p->branch;
    for (; b->parent != INDEX_NONE; b = &p->snapshot->branches[b->parent])
        buffer_append_string(to, "../");
    buffer_append_string(to, "../");
    place_write_branch(p->snapshot, &p->snapshot->branches[m->branch], to);
    buffer_truncate(to, to->size_bytes - 1); // the slash
}

static void member_entry(const struct place *p, uint64_t i, struct text name, struct entry *ret_entry,
                         struct buffer *target)
{
    BUFFER_CLEANUP own = {0};
    struct buffer *to = target ? target : &own;
    size_t from = to->size_bytes;
    write_target(p, member(p, i), to);
    *ret_entry = (struct entry){
        .kind = ENTRY_LINK, .name = name, .size_bytes = (int64_t)(to->size_bytes - from)};
}

int place_look_up_member(const struct place *p, struct text name, struct entry *ret_entry,
                         struct buffer *target)
{
    BUFFER_CLEANUP written = {0};
    uint64_t i = 0;
    for (size_t at = 0; at < name.size_bytes && name.data[at] != '-'; at++) {
        if (name.data[at] < '0' || name.data[at] > '9' || i > UINT32_MAX)
            return -ENOENT;
        i = i * 10 + (uint64_t)(name.data[at] - '0');
    }
    if (!member(p, i))
        return -ENOENT;
    write_member(p, i, &written);
    if (!text_equal(buffer_text(&written), name))
        return -ENOENT;
    member_entry(p, i, name, ret_entry, target);
    return 0;
}

int place_list_members(const struct place *p, uint64_t cookie, place_each *each, void *context)
{
    BUFFER_CLEANUP written = {0};
    int r = 0;
    for (uint64_t i = cookie; r == 0 && member(p, i); i++) {
        struct entry e;
        buffer_clear(&written);
        write_member(p, i, &written);
        member_entry(p, i, buffer_text(&written), &e, NULL);
        r = each(&e, i + 1, context);
    }
    return r;
}
