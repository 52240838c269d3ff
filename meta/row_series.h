// SPDX-License-Identifier: BSD-3-Clause
// row_series: datasets one after the other, for who goes through them (cache.h's series): in the order of
// their folder, and as a movie: the same last value (one detector) in folder after folder (visit after visit).
// Only what the catalogue has whole is known; nothing here waits. Any thread, with no lock held.
#pragma once
#include "meta/repository.h"

enum row_order { ROW_ORDER_FOLDER, ROW_ORDER_MOVIE };

// Where dataset `d`, opened in (or, of a composite, as) the folder `p`, is. `who` goes through them: part
// of the id. Positions count from where that series was first met; far away they begin anew.
// -ENOENT: the set isn't known as a whole, or the dataset has no place in this order.
int row_series_note(const struct place *p, const struct dataset *d, enum row_order order, uint64_t who,
                    uint64_t *ret_id, int64_t *ret_position);
// What is at a position after the last one that was noted; dataset_free(). -ENOENT: there is nothing more;
// -ENODATA: nothing at this one, or not known; -EINPROGRESS: its record is on its way from the registry.
int row_series_at(struct repository *r, uint64_t id, int64_t position, struct dataset **ret_dataset);
