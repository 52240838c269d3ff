// SPDX-License-Identifier: BSD-3-Clause
// library: the librarians of one repository: threads with a registry connection each, who fetch
// what is wanted into the catalogue. meta's own; the door is repository.h.
//
//   want ──ask──▶ queued ──▶ running ──▶ done: the waiters are called, "ask again"
//                   ▲ equal wants join, in either state
//
// librarian/0 only asks for the registry's mark every `refresh` and tidies; librarian/1.. run jobs,
// and one of them is always left for the short ones. Invariants stand in library.c.
#pragma once
#include <pthread.h>
#include <stdatomic.h>

#include "base/lock.h"
#include "base/table.h"
#include "meta/answers.h"
#include "meta/repository.h"

#define LIBRARIANS_MAX 64
#define MARKS_KEPT 8

typedef int registry_opener(const struct repository_config *config, int64_t limit_ns,
                            struct registry **ret_registry, char **ret_why);

struct librarian {
    struct repository *repository;
    struct registry *registry; // its thread's; NULL: to be opened
    unsigned number;
    pthread_t thread;
};

struct job {
    struct job *next; // in its queue
    struct want want; // with texts of its own
    uint64_t hash;
    struct waiter *first; // all under `library`
    bool is_running;
};

struct job_queue {
    struct job *first;
    struct job **last;
    uint32_t count;
};

// Something that one librarian at a time does: loading a set, or the snapshot (zero ids).
struct errand {
    struct errand *next;
    int64_t collection_id, type_id;
};

struct mark_seen {
    uint64_t mark, epoch;
};

struct repository {
    struct repository_config *config;
    struct catalogue *catalogue;
    uint32_t number; // in the catalogue
    int64_t refresh_ns, limit_ns;
    registry_opener *opener;
    void (*changed)(void *context);
    void *context;

    atomic_uint_fast64_t epoch;
    atomic_bool is_closing;
    pthread_mutex_t noting; // one mark is made an epoch at a time; held over a catalogue write

    struct lock lock;          // below, LOCK_RANK_REPOSITORY
    struct snapshot *snapshot; // the newest that was read; may be older than `epoch`
    int64_t since_unix_ns;
    struct mark_seen marks[MARKS_KEPT];
    unsigned mark_count;
    int trouble; // -errno of the database; 0: it answers
    int64_t trouble_since_ns;
    char *last_error;
    int64_t said_ns;            // when a failure was logged last

    struct lock library;   // below, LOCK_RANK_LIBRARY
    pthread_cond_t wanted; // there is a job, or it is closing
    pthread_cond_t ended;  // an errand ended
    pthread_cond_t poll;   // `refresh` was asked for, or it is closing
    struct job_queue short_jobs, long_jobs;
    uint32_t long_running;
    struct table jobs; // struct job by hash, queued and running
    struct errand *errands;
    bool refresh_wanted;

    struct answers answers; // its own lock
    struct librarian librarians[LIBRARIANS_MAX];
    unsigned librarian_count; // with librarian/0
};

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

// The jobs, by kind, in library_jobs.c and library_sets.c. 0: done, ask again.
int job_run(struct librarian *l, const struct want *w);
int job_set(struct librarian *l, const struct want *w);

// Which collection's set holds the rows of (collection, type): itself, or of a chain with just one
// member that may hold it, that one. NULL: nothing may hold it (CALIBRATION members are left out).
const struct collection *set_collection(struct snapshot *s, const struct collection *c,
                                        const struct dataset_type *t);
// All members of the search path that may hold it, in order; the caller frees.
uint32_t set_members(struct snapshot *s, const struct collection *c, const struct dataset_type *t,
                     const struct collection ***ret_members);

static inline struct set_id set_id_of(const struct repository *r, int64_t collection_id,
                                      int64_t type_id)
{
    return (struct set_id){r->number, collection_id, type_id};
}

// A registry's row as the catalogue keeps it (library_rows.c); texts point into `in`, `store` or
// are static. -EBADMSG. Asks the file's size of the disk where it isn't recorded.
int library_row(const struct repository *r, const struct dataset_type *t,
                const struct registry_row *in, struct row *ret_row, struct key *ret_key,
                enum row_kind *ret_kind, struct buffer *store);
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
// A data ID as JSON, keys sorted: the dataset's required values, and implied ones as they are
// added. `d` must outlive it.
struct data_id;
struct data_id *data_id_new(const struct dataset *d);
void data_id_add(struct data_id *id, struct text name, const struct value *v);
void data_id_write(struct data_id *id, struct buffer *to);
void data_id_free(struct data_id *id);
