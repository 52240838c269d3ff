// SPDX-License-Identifier: BSD-3-Clause
// library: the librarians of one repository: threads with a registry connection each, who fetch
// what is wanted into the catalogue. meta's own; the door is repository.h.
//
// librarian/0 only asks for the registry's mark every `refresh` and tidies; librarian/1.. run jobs,
// and one of them is always left for the short ones. Invariants stand in library.c.
#pragma once
#include <pthread.h>
#include <stdatomic.h>

#include "base/lock.h"
#include "base/table.h"
#include "meta/answers.h"
#include "meta/jobs.h"
#include "meta/repository.h"
#include "meta/said.h"

#define LIBRARIANS_MAX 64
#define MARKS_KEPT 8
#define EPOCHS_KEPT 128
#define VERIFIED_KEPT 256
#define LARGE_ROWS 20000 // of a set: less is read as quickly as it is compared

typedef int registry_opener(const struct repository_config *config, int64_t limit_ns,
                            struct registry **ret_registry, char **ret_why);

struct librarian {
    struct repository *repository;
    atomic_bool gives_up; // who waits for the registry need not
    struct registry *registry; // its thread's; NULL: to be opened
    bool is_away, is_refused;  // it could not be, as the database is away, or refuses the login
    int64_t refused_until_ns;  // the login was: not tried again until then
    unsigned refusals;         // in a row
    unsigned number;
    pthread_t thread;
};

struct library_job {
    struct job job;   // first
    struct want want; // with texts of its own
};

// Something that one librarian at a time does: loading a set, or the snapshot (zero ids).
struct errand {
    struct errand *next;
    int64_t collection_id, type_id;
};

struct mark_seen {
    uint64_t mark, epoch;
};

struct epoch_begin {
    uint64_t epoch;
    int64_t ns;
};

// A set that may be found to be what it was (library_verify.c).
struct verified {
    struct set_id id;
    uint64_t set_epoch;  // its own, in the catalogue
    uint64_t epoch;      // the newest at which it was read or compared
    uint64_t digest;     // what it is compared by
    int64_t checked_ns, read_ns; // when it was compared or read, and read, last
    int64_t cost_ns;     // of comparing
    bool is_changed;     // or can't be compared
    uint64_t used;
};

// Folders of a set that were asked for one by one (library_part.c).
#define WALKS_KEPT 16
struct walk {
    int64_t collection_id, type_id;
    int64_t since_ns; // a window of `stale`
    uint32_t count;   // in it
};

// Where someone is among the rows of a set (row_series.h).
#define ROW_SERIES_KEPT 64
struct row_series {
    uint64_t id;
    uint64_t generation, fresh;
    struct set_id set;
    struct key key;        // of the row that was opened last
    uint16_t folder_bytes; // of it: what all rows of the folder share
    uint32_t outer_count;  // of a movie: values before the last one; else 0
    int64_t position;
    uint64_t used;
};

struct repository {
    struct repository_config *config;
    struct catalogue *catalogue;
    struct archives *archives; // the daemon's; NULL: members' sizes are not asked
    uint32_t number; // in the catalogue
    int64_t refresh_ns, limit_ns, stale_ns;
    uint64_t large_rows; // LARGE_ROWS, but in tests
    registry_opener *opener;
    void (*changed)(void *context);
    int64_t (*remote_size)(void *context, uint32_t datastore, struct text recorded_path);
    void *context;

    atomic_uint_fast64_t epoch;
    atomic_uint_fast64_t forced_epoch; // somebody wants nothing older, whatever `stale` says
    atomic_bool is_away;      // the database is: only librarian/0 goes on asking
    unsigned away_looks;      // of librarian/0, since then
    atomic_bool asks_folders; // its registry finds a folder's rows by indexes
    atomic_uint parts_read;   // one after the other, of (collection, type) below; any librarian
    atomic_uint parts_before_all;
    atomic_int_fast64_t parts_of[2];
    atomic_bool is_closing;
    pthread_mutex_t noting; // one mark is made an epoch at a time; held over a catalogue write

    struct lock lock;          // below, LOCK_RANK_REPOSITORY
    struct snapshot *snapshot; // the newest that was read; may be older than `epoch`
    int64_t since_unix_ns;
    struct mark_seen marks[MARKS_KEPT];
    unsigned mark_count;
    struct epoch_begin began[EPOCHS_KEPT]; // when epochs began, as far as this life saw it
    uint32_t began_count;
    int trouble; // -errno of the database; 0: it answers
    int64_t trouble_since_ns;
    char *last_error;
    struct said said, said_of_snapshot; // failures

    struct lock library;   // below, LOCK_RANK_LIBRARY
    pthread_cond_t ended;  // an errand ended
    pthread_cond_t poll;   // `refresh` was asked for, or it is closing
    struct jobs jobs;      // struct library_job
    struct errand *errands;
    bool refresh_wanted, is_forced; // to look now; by somebody who wants nothing old

    struct answers answers; // its own lock
    struct lock verified_lock; // over the next four, LOCK_RANK_LEAF
    struct verified *verified;
    uint32_t verified_count;
    uint64_t verified_used;
    struct walk walks[WALKS_KEPT];
    struct lock series_lock; // over the next two, LOCK_RANK_LEAF
    struct row_series series[ROW_SERIES_KEPT];
    uint64_t series_used;
    atomic_uint asked_ahead; // records that are asked for with nobody waiting
    struct librarian librarians[LIBRARIANS_MAX];
    unsigned librarian_count; // with librarian/0
};

void library_job_free(struct job *j);
// Starts and stops the threads; librarians[0].registry is open.
int library_start(struct repository *r);
void library_stop(struct repository *r);

// The newest snapshot, with a reference, if it is of `fresh` or later; NULL.
struct snapshot *library_snapshot(struct repository *r, uint64_t fresh);
void library_set_snapshot(struct repository *r, struct snapshot *s); // takes the reference

// The epoch that a registry's mark belongs to; one never seen begins a new one. Librarians.
uint64_t library_note_mark(struct repository *r, uint64_t mark, bool *ret_changed);

// The librarian's connection, opened if need be. -errno.
int librarian_registry(struct librarian *l, struct registry **ret_registry);
// A snapshot of `fresh` or later, read if need be; with a reference.
int librarian_snapshot(struct librarian *l, uint64_t fresh, struct snapshot **ret_snapshot);
// Waits until nobody else is at it; end it always.
void errand_begin(struct repository *r, struct errand *e);
void errand_end(struct repository *r, struct errand *e);

// What a job about (collection, type) begins with.
struct subject {
    struct snapshot *snapshot;
    const struct collection *collection;
    const struct dataset_type *type;
    struct registry *registry;
    uint64_t epoch;
    uint64_t snapshot_epoch; // before anything was asked: it may be renewed meanwhile
};

void subject_release(struct subject *s);
// -ENOENT: there is no such collection or type.
int subject_find(struct librarian *l, const struct want *w, struct subject *s);

// The jobs, by kind, in library_jobs.c, library_points.c and library_sets.c. 0: done, ask again.
int job_run(struct librarian *l, const struct want *w);
int job_set(struct librarian *l, const struct want *w);
int job_part(struct librarian *l, const struct want *w); // in library_part.c
// Asks with nobody waiting, unless too much is asked so already.
void library_ask_ahead(struct repository *r, const struct want *want);
// Whether many folders of the set were asked for lately, as by who walks through it.
bool library_is_walked(struct repository *r, const struct set_id *id);
int job_verify(struct librarian *l, const struct want *w); // in library_verify.c
int job_find(struct librarian *l, const struct want *w); // in find.c
int job_row(struct librarian *l, const struct want *w);
int job_members(struct librarian *l, const struct want *w);
int job_folder(struct librarian *l, const struct want *w);

// What of an older epoch still counts (library_verify.c).
void library_note_epoch(struct repository *r, uint64_t epoch); // a new one; under r->lock
// The oldest epoch of which listings may still be shown to who came at `fresh`; `fresh` itself: none before it.
uint64_t library_oldest(struct repository *r, uint64_t fresh);
// For how long what is of `epoch`, of this set, may be remembered; INT64_MAX: until the registry changes.
int64_t library_old_left(struct repository *r, const struct set_id *id, uint64_t epoch, uint64_t fresh);
// A whole set that may still be shown to who came at `fresh`; false: there is none.
struct old_set {
    struct set_id id;
    uint64_t set_epoch;   // its own
    uint64_t known_epoch; // the newest at which it was the same
};
bool library_old_set(struct repository *r, const struct set_id *id, uint64_t fresh, struct old_set *ret_set);
bool library_is_compared(struct repository *r, const struct set_id *id); // instead of being read, when it is old
// A set was read; its digest (0: it has none) and what it took to have it.
void library_note_read(struct repository *r, const struct set_id *id, const struct set_state *state, uint64_t digest,
                       int64_t cost_ns);
void library_forget_verified(struct repository *r);
// The epoch that a whole set may be of to count for `fresh`: an older one, where it is known to have not changed since.
// *ret_left_ns (NULL: not wanted): for how long it does, as far as that is bounded; else INT64_MAX.
uint64_t library_good_epoch(struct repository *r, const struct set_id *id, uint64_t fresh, int64_t *ret_left_ns);
// As catalogue_pin_set, by that epoch; ret_state->epoch is the set's own.
int library_pin_set(struct repository *r, const struct set_id *id, uint64_t fresh, struct set_state *ret_state);
// Has it compared, if that is due, with nobody waiting.
void library_verify_ahead(struct repository *r, const struct set_id *id, uint64_t fresh);
// Compares it, if that is due. *ret_left_ns: for how long it counts; 0: it doesn't. One librarian at a time (errand_begin).
int library_verify(struct librarian *l, struct snapshot *s, const struct collection *c, const struct dataset_type *t,
                   uint64_t fresh, int64_t *ret_left_ns);
// Whether what is wanted is being asked for, and has been for as long as who waits for a listing would (PATIENCE_NS).
bool library_is_slow(struct repository *r, const struct want *w);

// Which collection's set holds the rows of (collection, type): itself, or of a chain with just one
// member that may hold it, that one. NULL: nothing may hold it. *ret_is_timed (NULL: not wanted): a
// CALIBRATION collection is among those that may.
const struct collection *set_collection(struct snapshot *s, const struct collection *c,
                                        const struct dataset_type *t, bool *ret_is_timed);
// All members of the search path that may hold it, in order; the caller frees.
uint32_t set_members(struct snapshot *s, const struct collection *c, const struct dataset_type *t,
                     const struct collection ***ret_members);

static inline struct set_id set_id_of(const struct repository *r, int64_t collection_id,
                                      int64_t type_id)
{
    return (struct set_id){
        .repository = r->number, .collection_id = collection_id, .type_id = type_id};
}

// A registry's row as the catalogue keeps it (library_rows.c); texts point into `in`, `store` or
// are static. -EBADMSG. Asks the file's size of the disk where it isn't recorded.
int library_row(const struct repository *r, const struct dataset_type *t,
                const struct registry_row *in, struct row *ret_row, struct key *ret_key,
                enum row_kind *ret_kind, struct buffer *store);
// What a file's record doesn't say (library_size.c): 0 where the artifact is gone; SIZE_UNKNOWN.
int64_t library_size(const struct repository *r, const struct registry_file *f);
// The suffix that a recorded path has in names; as above.
struct text library_suffix(const struct repository *r, uint32_t datastore, struct text path,
                           struct buffer *store);
// Which of a dataset's files count: those of the first datastore that has any. 0: not stored.
uint32_t library_files(const struct registry_file *files, uint32_t count);

// A want's values: of the first w->depth levels of `t`; texts in *store (reserved by it).
int want_values(const struct want *w, const struct snapshot *s, const struct dataset_type *t,
                struct value *ret_values, struct buffer *store);
void want_copy(struct want *to, const struct want *from);

// Datasets as records (dataset.c). An empty record: there is no such dataset.
void dataset_write(const struct snapshot *s, const struct dataset_type *t, const struct text run,
                   const struct registry_row *row, struct buffer *to);
int dataset_read(struct text record, struct dataset **ret_dataset); // -EBADMSG, -ENOENT
// What is known by an id: 1: from the catalogue, 2: from the recent answers, where `from` says at the
// earliest. -EINPROGRESS with *want.
int dataset_record_of(struct repository *r, uint64_t fresh, const struct uuid *uuid,
                      enum dataset_record which, int from, struct buffer *record,
                      struct want *want);
// What a folder of calibs-at/ is called: an instant, or a visit or an exposure (place_at.c). Texts
// are in *store. -ENOENT.
struct moment {
    int64_t tai_ns;                // an instant
    const struct element *element; // else this one's row
    struct value values[2];
};
int moment_read(const struct snapshot *s, struct text name, struct moment *ret_moment,
                struct buffer *store);
// A data ID as JSON, keys sorted: the dataset's required values, and implied ones as they are
// added. `d` must outlive it.
struct data_id;
struct data_id *data_id_new(const struct dataset *d);
void data_id_add(struct data_id *id, struct text name, const struct value *v);
void data_id_write(struct data_id *id, struct buffer *to);
void data_id_free(struct data_id *id);
