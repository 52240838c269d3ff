// SPDX-License-Identifier: BSD-3-Clause
// place_file: datasets as files, and as folders of a composite's components.
// 1. A name is read strictly as far as it says a key; the row found under that key is written as a
//    name again and compared: what lists one way is found only that way.
// 2. A composite's folder is entered by its name alone; what is in it is its row's word, so that one
//    that has become a single file meanwhile has no components.
#include "meta/catalogue_block.h"
#include "meta/name.h"
#include "meta/place.h"

void place_write_file(const struct dataset_type *t, const struct row *row, struct buffer *to)
{
    struct value values[LEVELS_MAX];
    BUFFER_CLEANUP range = {0};
    uint32_t n = place_required(t, row->values, row->value_count, values);
    if (row->has_range)
        name_write_range(&row->range, row->has_twin ? &row->uuid : NULL, &range);
    name_write_file(t->name, values, n, buffer_text(&range), row_suffix(row), to);
}

static void component_entry(const struct row *row, uint32_t i, struct text name,
                            struct entry *ret_entry)
{
    *ret_entry = (struct entry){
        .kind = ENTRY_FILE,
        .name = name,
        .uuid = row->uuid,
        .component = row->files[i].component,
        .size_bytes = row->files[i].size_bytes,
        .mtime_unix_ns = row->mtime_unix_ns,
    };
}

void place_file_entry(const struct row *row, struct text name, struct entry *ret_entry)
{
    component_entry(row, 0, name, ret_entry);
    if (row_is_composite(row))
        *ret_entry = (struct entry){.kind = ENTRY_FOLDER, .name = name};
}

// The row whose key `p` now has all levels of. 0, -ENOENT, -ENOTUNIQ, -EINPROGRESS.
static int find_row(const struct place *p, struct row *ret_row, struct buffer *scratch,
                    struct want *want)
{
    struct set_id id = place_set_id(p), part;
    enum row_kind kind;
    BUFFER_CLEANUP record = {0};
    uint64_t good = library_good_epoch(p->repository, &id, p->fresh, NULL);
    int r = catalogue_find_row(p->repository->catalogue, &id, good, &p->key, &kind, ret_row, scratch);
    if (r == -ENOENT)
        library_verify_ahead(p->repository, &id, p->fresh);
    if (r == -ENOENT && p->depth && place_part_id(p, p->depth - 1, &part))
        r = catalogue_find_row(p->repository->catalogue, &part, p->fresh, &p->key, &kind, ret_row, scratch);
    if (r < 0 && r != -ENOENT)
        return r;
    if (r < 0) {
        place_want_point(p, WANT_ROW, want);
        want->at = id.at;
        if (!answers_get(&p->repository->answers, want, &kind, &record)) {
            place_want_texts(p, want);
            return -EINPROGRESS;
        }
        if (kind == ROW_VISIBLE && row_unpack(buffer_text(&record), &kind, ret_row, scratch) < 0)
            return -EIO;
    }
    return kind == ROW_VISIBLE ? 0 : kind == ROW_AMBIGUOUS ? -ENOTUNIQ : -ENOENT;
}

// Shortened names: looked for among the names of the folder.

struct file_search {
    const struct place *place;
    struct text name;
    struct buffer written;
    struct row *row;
    struct buffer *store;
};

static int search_file(const struct row *row, const struct key *k, size_t *skip_bytes,
                       void *context)
{
    struct file_search *s = context;
    buffer_clear(&s->written);
    place_write_file(s->place->type, row, &s->written);
    if (!text_equal(buffer_text(&s->written), s->name))
        return ROW_GO_ON;
    struct block_row b;
    BUFFER_CLEANUP extra = {0};
    row_to_block(k, row, ROW_VISIBLE, &b, &extra);
    int r = row_copy(key_text(k), &b, s->row, s->store);
    return r < 0 ? r : ROW_STOP_AFTER;
}

static int search(const struct place *p, struct text name, struct row *ret_row,
                  struct buffer *scratch, struct want *want)
{
    struct file_search s = {.place = p, .name = name, .row = ret_row, .store = scratch};
    int r = place_search(p, search_file, &s, want);
    buffer_release(&s.written);
    return r;
}

// Files.

// Adds a validity range, and what else the name of an entry says, to the key.
static int push_range(struct place *p, struct text name)
{
    struct timespan span;
    struct uuid twin;
    struct text suffix;
    bool has_twin;
    if (p->type->calibs_table.size_bytes == 0 || p->is_timed)
        return -ENOENT; // none of its files' names has one
    int r = name_read_range(name, &span, &twin, &has_twin, &suffix);
    if (r < 0)
        return r;
    struct key_range range = key_range_named(&span, has_twin ? &twin : NULL, suffix);
    key_append_range(&p->key, &range);
    return 0;
}

// Reads the name and goes to its key: then the place has all levels, and the range if there is one.
// -ENOENT, -E2BIG.
static int push_file(struct place *p, struct text name)
{
    struct text suffix;
    const struct dataset_type *t = p->type;
    struct value values[LEVELS_MAX], last;
    uint32_t known = place_required(t, p->values, p->depth, values);
    enum value_kind kind = t->level_count ? place_level(p)->kind : VALUE_INTEGER;
    BUFFER_CLEANUP store = {0};
    int r = name_read_file(name, t->name, values, t->level_count ? known + 1 : 0, kind, &last,
                           &suffix, &store);
    if (r == 0 && t->level_count)
        place_push(p, &last);
    return r == 0 && suffix.data[0] == '@' ? push_range(p, suffix) : r;
}

int place_look_up_file(struct place *p, struct text name, struct entry *ret_entry,
                       struct buffer *scratch, struct want *want)
{
    struct row row;
    BUFFER_CLEANUP written = {0};
    int r = push_file(p, name);
    if (r == 0)
        r = find_row(p, &row, scratch, want);
    else if (r == -E2BIG)
        r = search(p, name, &row, scratch, want);
    if (r < 0)
        return r;
    place_write_file(p->type, &row, &written); // invariant 1
    if (!text_equal(buffer_text(&written), name))
        return -ENOENT;
    place_file_entry(&row, name, ret_entry);
    return 0;
}

// Components.

static int enter_shortened(struct place *p, struct text name, struct want *want)
{
    struct row row;
    BUFFER_CLEANUP scratch = {0};
    int r = search(p, name, &row, &scratch, want);
    if (r == 0 && p->type->level_count)
        place_push(p, &row.values[p->depth]);
    if (r < 0 || !row.has_range)
        return r;
    struct key_range range =
        key_range_named(&row.range, row.has_twin ? &row.uuid : NULL, row_suffix(&row));
    key_append_range(&p->key, &range);
    return 0;
}

int place_go_to_file(struct place *p, struct text name, struct want *want)
{
    int r = push_file(p, name);
    return r == -E2BIG ? enter_shortened(p, name, want) : r;
}

int place_enter_file(struct place *p, struct text name, struct want *want)
{
    if (!text_ends(name, TEXT(".components")))
        return text_begins(name, p->type->name) && memchr(name.data, '.', name.size_bytes)
                   ? -ENOTDIR
                   : -ENOENT;
    int r = place_go_to_file(p, name, want);
    if (r < 0)
        return r;
    p->is_components = true;
    p->branch = NULL;
    return 0;
}

static int find_composite(const struct place *p, struct row *ret_row, struct buffer *scratch,
                          struct want *want)
{
    int r = find_row(p, ret_row, scratch, want);
    return r == 0 && !row_is_composite(ret_row) ? -ENOENT : r;
}

int place_look_up_component(const struct place *p, struct text name, struct entry *ret_entry,
                            struct buffer *scratch, struct want *want)
{
    struct row row;
    BUFFER_CLEANUP written = {0};
    int r = find_composite(p, &row, scratch, want);
    for (uint32_t i = 0; r == 0 && i < row.file_count; i++) {
        buffer_clear(&written);
        name_write_component(row.files[i].component, row.files[i].suffix, &written);
        if (!text_equal(buffer_text(&written), name))
            continue;
        component_entry(&row, i, name, ret_entry);
        return 0;
    }
    return r < 0 ? r : -ENOENT;
}

int place_list_components(const struct place *p, uint64_t cookie, place_each *each, void *context,
                          struct want *want)
{
    struct row row;
    BUFFER_CLEANUP scratch = {0};
    BUFFER_CLEANUP written = {0};
    int r = find_composite(p, &row, &scratch, want);
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    for (uint64_t i = cookie; r == 0 && i < row.file_count; i++) {
        struct entry e;
        buffer_clear(&written);
        name_write_component(row.files[i].component, row.files[i].suffix, &written);
        component_entry(&row, (uint32_t)i, buffer_text(&written), &e);
        r = each(&e, i + 1, context);
    }
    return r;
}
