// SPDX-License-Identifier: BSD-3-Clause
// find_page: asking for a page of what was found, and reading it. A page is known by the hash of its
// expression, which is checked before anybody is asked.
#include <stdio.h>

#include "base/hash.h"
#include "base/log.h"
#include "meta/find.h"
#include "meta/place.h"
#include "meta/where.h"

static int enter_type(struct place *p, struct text type, char **ret_why, struct want *want)
{
    const struct collection *c = place_collection(p);
    BUFFER_CLEANUP name = {0}, types = {0};
    const struct dataset_type *t = snapshot_type_by_name(p->snapshot, type);
    uint32_t count = 0;
    if (!c || p->kind != PLACE_COLLECTIONS) {
        if (asprintf(ret_why, "this is no collection's folder") < 0)
            *ret_why = NULL;
        return -EINVAL;
    }
    if (t && t->is_readable && snapshot_may_hold(p->snapshot, c, t)) {
        place_write_type(t, &name);
        return place_enter(p, buffer_text(&name), want);
    }
    const uint32_t *all = snapshot_types(p->snapshot, c, &count);
    for (uint32_t i = 0; i < count && i < 50; i++) {
        struct text other = p->snapshot->types[all[i]].name;
        buffer_format(&types, "%s%.*s", i ? ", " : "", (int)other.size_bytes, other.data);
    }
    if (asprintf(ret_why, "this collection has no dataset type \"%.*s\"; it has %s%s", (int)type.size_bytes, type.data,
                 count ? types.data : "none", count > 50 ? ", ..." : "") < 0)
        *ret_why = NULL;
    return -EINVAL;
}

static int want_page(const struct place *p, struct text expression, const struct key *after, struct want *want)
{
    struct set_id id = place_set_id(p);
    *want = (struct want){.kind = WANT_FIND,
                          .fresh = p->fresh,
                          .collection_id = id.collection_id,
                          .type_id = id.type_id,
                          .at = id.at,
                          .depth = after != NULL};
    if (after)
        want->key = *after;
    hash128(expression.data ? expression.data : "", expression.size_bytes, want->uuid.bytes);
    return -EINPROGRESS;
}

static bool set_is_there(const struct place *p)
{
    struct set_id id = place_set_id(p);
    struct set_state state;
    return catalogue_set(p->repository->catalogue, &id, &state) == 0 &&
           state.epoch >= library_good_epoch(p->repository, &id, p->fresh, NULL);
}

static int find_in(struct place *p, struct text type, struct text expression, const struct key *after,
                   struct find_page *ret_page, char **ret_why, struct want *want)
{
    struct where *w;
    enum row_kind kind;
    int r = enter_type(p, type, ret_why, want);
    if (r == 0)
        r = where_parse(p->snapshot, p->type, expression, &w, ret_why);
    if (r < 0)
        return r;
    where_free(w);
    want_page(p, expression, after, want);
    size_t head = sizeof(ret_page->has_more) + sizeof(ret_page->last);
    if (!answers_get(&p->repository->answers, want, &kind, &ret_page->bytes)) {
        if (!set_is_there(p))
            return place_want_set(p, want);
        buffer_append_text(&want->texts, expression);
        return -EINPROGRESS;
    }
    check(ret_page->bytes.size_bytes >= head);
    memcpy(&ret_page->has_more, ret_page->bytes.data, sizeof(ret_page->has_more));
    memcpy(&ret_page->last, ret_page->bytes.data + sizeof(ret_page->has_more), sizeof(ret_page->last));
    ret_page->at = head;
    return 0;
}

int place_find(const struct place *p, struct text type, struct text expression, const struct key *after,
               struct find_page *ret_page, char **ret_why, struct want *want)
{
    struct place at;
    place_copy(p, &at);
    int r = find_in(&at, type, expression, after, ret_page, ret_why, want);
    buffer_release(&at.texts);
    return r;
}

bool find_page_next(struct find_page *page, struct text *ret_path)
{
    uint32_t size;
    if (page->at + sizeof(size) > page->bytes.size_bytes)
        return false;
    memcpy(&size, page->bytes.data + page->at, sizeof(size));
    page->at += sizeof(size);
    check(size <= page->bytes.size_bytes - page->at);
    *ret_path = text_slice(buffer_text(&page->bytes), page->at, page->at + size);
    page->at += size;
    return true;
}

void find_page_release(struct find_page *page)
{
    buffer_release(&page->bytes);
}
