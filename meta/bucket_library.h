// SPDX-License-Identifier: BSD-3-Clause
// bucket_library: the librarians of one bucket; bucket*.c's own. Jobs are of jobs.h: equal wants join. A librarian asks the origin for one page of a listing after the other.
//
//   folders        a folder's listing, by delimiter: as many pages as it has
//   names          the first page of the folder; where that isn't all of it, what begins with the name;
//                  at the third such name the whole folder. Where pages are slow, two names come first
//   a walk         when the third folder below one was opened one after the other: all that is below it,
//                  without delimiter, page by page, as long as somebody follows; in several parts at once
//                  where the folder's own listing says where it may be parted
#pragma once
#include <pthread.h>
#include <stdatomic.h>

#include "base/lock.h"
#include "base/table.h"
#include "cache/origin/origin.h"
#include "meta/bucket_order.h"
#include "meta/answers.h"
#include "meta/bucket.h"
#include "meta/jobs.h"
#include "meta/said.h"

#define BUCKET_LIBRARIANS_MIN 8 // of which two are for names, so that six may list millions of keys before others wait
#define BUCKET_LIBRARIANS_MAX 64

// What is remembered of a folder's use; forgotten now and then.
struct bucket_note {
    uint64_t hash;          // of the prefix
    uint32_t opened_below;  // folders right below it that had to be listed
    uint32_t names;         // names asked for one by one
    bool is_large;          // its first page was not all of it
    bool is_loading;        // somebody lists it
    uint64_t doubted_ns;    // what was listed before is not to be believed
    uint64_t changed_ns;    // when this mount changed something in it last
};

// A listing of all that is below a prefix, under way: in parts, several at once.
#define BUCKET_WALK_LANES 4
struct bucket_walk_part { // keys from `begin` to before `end`; empty: no bound
    bool is_open;
    struct buffer begin, end;
    struct buffer reached;  // the last key seen; what is before it is stored
};
struct bucket_walk {
    struct buffer prefix;
    struct bucket_walk_part parts[BUCKET_WALK_LANES];
    struct buffer next;     // where the part begins that is next
    bool has_next;
    uint64_t wanted_ns;     // when somebody last opened a folder in it (monotonic)
    uint64_t pages, allowed_pages;
};

// One way through a folder: where it was last.
struct bucket_series {
    uint64_t id;          // 0: free
    uint64_t used;
    struct buffer prefix;
    uint64_t generation;
    int64_t position;     // of the object that the cursor is behind
    struct row_cursor cursor;
    int64_t step;         // to there from the one before
    uint32_t jumps;       // one after the other: who makes them isn't going through the folder
};
#define BUCKET_SERIES_KEPT 64

// A folder something was taken away from, until it is sure to stay (bucket_change.c). It is its librarian's, who looks after it
// once who asked for the change was answered.
struct bucket_keep {
    struct bucket_keep *next;  // in `keeps`
    struct buffer prefix;      // empty: there is nothing to be done
    bool is_wanted;            // something was taken away since it was looked at
    uint64_t settled;          // when the last look that is over began, by `keep_clock`
};

struct bucket_job {
    struct job job;         // first
    struct bucket_want want;
    bool is_walk;           // of want.prefix
};

struct bucket {
    struct origin *origin;
    char *prefix;
    struct catalogue *catalogue;
    uint32_t number; // in the catalogue
    int64_t list_ns, limit_ns;
    int64_t at_unix_ns; // bucket_options'
    atomic_uint_fast64_t refreshed_ns;
    atomic_bool is_closing;
    struct answers answers; // what the catalogue could not keep
    struct answers changes; // what this mount has changed: goes before what was listed
    atomic_uint_fast64_t change_count;
    atomic_bool has_no_start;   // the server lists from the beginning whatever key it is to begin behind
    atomic_bool has_no_order;   // nor does it list keys in any order
    atomic_bool has_no_markers; // the server doesn't keep objects that end in '/'

    struct lock library;    // below, LOCK_RANK_LIBRARY
    pthread_cond_t moved;   // a listing or a walk got on
    struct jobs jobs;       // struct bucket_job
    atomic_uint_fast64_t page_pace_ns, name_pace_ns; // what a page, a name takes; 0: not known
    uint32_t pace_looks;
    struct table notes;     // struct bucket_note by hash of the prefix
    struct bucket_walk *walk;
    struct bucket_keep *keeps;
    uint64_t keep_clock;
    int trouble;            // -errno; 0: the origin answers, were it with a refusal
    char *last_error;
    struct said said;       // of an error

    struct lock series_lock; // LOCK_RANK_LEAF
    struct bucket_series series[BUCKET_SERIES_KEPT];
    uint64_t series_used;

    pthread_t librarians[BUCKET_LIBRARIANS_MAX];
    uint32_t librarian_count;
};

void bucket_job_free(struct job *j);
int bucket_library_start(struct bucket *b);
void bucket_library_stop(struct bucket *b);

// Under `library`. The note is valid as long as the lock is held.
struct bucket_note *bucket_note(struct bucket *b, struct text prefix);
// What must be at least as new as this in the folder.
uint64_t bucket_fresh_in(struct bucket *b, struct text prefix, uint64_t fresh);
// A folder that is not known was opened: begins a walk where it is the third one of a row.
void bucket_note_open(struct bucket *b, struct text prefix);
// It was known: who follows a walk keeps it going.
void bucket_note_known(struct bucket *b, struct text prefix);
// What a walk stored is looked for at once where one is on its way: true if it may be there now.
bool bucket_walk_wait(struct bucket *b, struct text prefix, int64_t limit_ns);

// The server lists keys in no order: what was listed until now, relying on it, is old.
void bucket_note_disorder(struct bucket *b);

// Lists a folder although nobody waits for it.
void bucket_list_later(struct bucket *b, struct text prefix);

// The jobs, in bucket_list.c, bucket_walk.c and bucket_head.c. 0: done, ask again.
int bucket_job_folder(struct bucket *b, const struct bucket_want *w);
int bucket_job_name(struct bucket *b, const struct bucket_want *w);
int bucket_job_head(struct bucket *b, const struct bucket_want *w);
int bucket_job_walk(struct bucket *b, struct text prefix);
void bucket_head_id(struct text key, struct text version, struct uuid *ret_id); // under which a HEAD's answer is kept
// What the origin answered to what was asked about that key or prefix: for the log, and for status. Takes `why`.
void bucket_note_error(struct bucket *b, struct text key, int error, char *why);
// bucket_change.c. What `ret_keep` has is done by bucket_keep_end, after the answer.
int bucket_job_change(struct bucket *b, const struct bucket_want *w, struct bucket_keep *ret_keep);
void bucket_keep_end(struct bucket *b, struct bucket_keep *keep);
// What is asked of the origin from now on has the folders below `prefix` that are being kept.
void bucket_keeps_wait(struct bucket *b, struct text prefix);
static inline bool bucket_want_changes(const struct bucket_want *w)
{
    return w->kind >= BUCKET_DELETE;
}
// What this mount did to it since `answer->fresh`, and when: 1: it is there; 0: it isn't; -ENOENT: nothing.
int bucket_find_change(struct bucket *b, const struct want *answer, struct row *ret_row, struct buffer *scratch,
                       int64_t *ret_when_unix_ns);
uint64_t bucket_changed_ns(struct bucket *b, struct text prefix); // 0: never
struct text bucket_parent(const struct bucket *b, struct text prefix); // data NULL: it is the root

// Shared by bucket_list.c and bucket_walk.c.
struct bucket_page_entry;
int bucket_entry_add(struct catalogue_load *l, const struct bucket_entry *e);
void bucket_object_entry(const struct bucket_page_entry *p, struct text raw,
                         struct bucket_entry *ret_entry);

// A page of a listing, as it came. Blocks.
struct bucket_page {
    struct buffer entries;     // bucket_page_next
    struct buffer token;       // of the next one; empty: that was all
    bool is_unordered;
    struct buffer last;        // the greatest key, of those that are not there (any more, or yet), too; empty: none
};
struct bucket_page_entry {
    bool is_prefix;
    struct text key, etag, storage_class, version;
    int64_t size_bytes, mtime_unix_ns;
};
// *token: of this page; empty: the first.
int bucket_page_get(struct bucket *b, struct text prefix, bool by_folder, uint32_t max, struct text token,
                    struct bucket_page *ret_page);
// The same for who doesn't wait, without delimiter: `a->is_flying`, under `library`, says whether it still is on its way;
// then `moved`. Until then ask, page and texts stay where they are; origin_cancel may end it.
struct bucket_page_ask {
    struct origin_request request;
    struct bucket_page *page;
    struct text prefix;
    struct key_order keys, prefixes;
    struct bucket *bucket;
    bool is_flying;
    int error;
};
void bucket_page_start(struct bucket *b, struct text prefix, struct text token, struct text start_after,
                       struct bucket_page *page, struct bucket_page_ask *ret_ask);
bool bucket_page_next(const struct bucket_page *p, size_t *at, struct bucket_page_entry *ret_entry);
void bucket_page_release(struct bucket_page *p);
// bucket_past.c. Whether there was anything below `prefix` (which ends in '/') at the bucket's time; taken as so where that can't
// be said within a bound, or may not be asked.
int bucket_past_has(struct bucket *b, struct text prefix, bool *ret_has);
// Takes the prefixes out of a page by folder below which there was nothing. Without effect where the bucket has no time.
int bucket_past_sift(struct bucket *b, struct bucket_page *page);
uint64_t bucket_epoch_of_answer(const struct bucket *b, uint64_t now_ns);
