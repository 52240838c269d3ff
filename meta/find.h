// SPDX-License-Identifier: BSD-3-Clause
// find: the datasets of a type in a collection that an expression is true of, page by page. A door beside
// repository.h, with its rules. Works on the whole set, as a listing does: from folder to folder, past
// those of which the levels alone say no; what the levels don't say is looked up in the dimension tables.
#pragma once
#include "meta/repository.h"

// What a page holds; zero-initialised is empty.
struct find_page {
    bool has_more;
    struct key last;     // to go on after
    struct buffer bytes; // the record; find_page_release
    size_t at;
};

// In a collection's folder. `after`: the last page's `last`; NULL: from the start. -EINPROGRESS;
// -EINVAL with *ret_why, allocated: no such type, a bad expression.
int place_find(const struct place *p, struct text type, struct text expression, const struct key *after,
               struct find_page *ret_page, char **ret_why, struct want *want);
// The next path, below the collection's folder; false: that were all.
bool find_page_next(struct find_page *page, struct text *ret_path);
void find_page_release(struct find_page *page);
