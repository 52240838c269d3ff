// SPDX-License-Identifier: BSD-3-Clause
// repository: a Butler repository as folders and files of the tree; meta's door for Butler spaces.
//
// Nothing here blocks on a database. What isn't known is *wanted*: the call answers -EINPROGRESS
// and fills a `struct want`; the caller hands it to repository_ask() with a waiter and, when the
// waiter is called, makes the same call again, with the same `fresh` epoch. Equal wants in flight
// are one query. A waiter is called exactly once (by a librarian's thread, with no lock held) or, if
// repository_cancel answers true, never.
//
// Freshness: `fresh` is repository_epoch() at the moment the request arrived: what was true then or
// later is good enough for it, whatever changes meanwhile. That bounds every request's work.
//
// Calling sequence for a request in a folder:
//   place_root(repository, fresh, &place, &want)          -EINPROGRESS: ask, again
//   place_enter(&place, name, &want) per part of the path
//   place_lookup | place_list_open + place_list
//   place_release(&place)
#pragma once
#include <stdint.h>

#include "base/doc.h"
#include "meta/catalogue.h"
#include "meta/config.h"
#include "meta/key.h"
#include "meta/registry/registry.h"
#include "meta/snapshot.h"

struct repository;

struct repository_options {
    const char *source;
    struct repository_index index;
    struct database_login login; // for registries in PostgreSQL; its texts must outlive the repository
    struct catalogue *catalogue; // shared by all repositories of a daemon
    struct archives *archives;   // likewise (cache/archive.h); NULL: members' sizes are not asked
    int64_t refresh_ns;          // how often the registry is asked whether it changed
    int64_t stale_ns;            // how long a listing may be shown that has changed, while it is read again; 0: not at all
    int64_t limit_ns;            // the most a librarian waits for the database
    uint32_t librarian_count;    // threads and connections
    // An earlier life of this daemon read it: a registry that doesn't answer at this moment is
    // waited for by the requests, not a reason to refuse.
    bool is_known;
    // The size of an artifact that isn't local and whose record doesn't say; -errno. Called by librarians;
    // may wait. NULL: it stays unknown.
    int64_t (*remote_size)(void *context, uint32_t datastore, struct text recorded_path);
    // Called by a librarian, with no lock held, after the epoch moved on.
    void (*changed)(void *context);
    void *context;
};

// Opens and checks it (a few statements; time does not depend on its size). -errno with *ret_why.
int repository_open(const struct repository_options *o, struct repository **ret_repository,
                    char **ret_why);
void repository_close(struct repository *r); // no request may be in work
const struct repository_config *repository_config(const struct repository *r);
uint64_t repository_epoch(const struct repository *r);
int64_t repository_epoch_unix_ns(const struct repository *r); // when this epoch was first seen
// Puts epoch, age, counts, last error.
void repository_status(struct repository *r, struct doc *map);
void repository_refresh(struct repository *r); // check for changes now, as if `refresh` had passed

enum want_kind {
    WANT_SNAPSHOT,
    WANT_TYPES,    // which dataset types a collection has
    WANT_SET,      // a whole key set
    WANT_VERIFY,   // whether one that is old has changed
    WANT_PART,     // what is in one folder
    WANT_ROW,      // one data ID
    WANT_FOLDER,   // one `key=value` folder
    WANT_DATASET,  // a dataset by its id
    WANT_DATA_ID,  // its implied values
    WANT_TIMESPAN, // of a visit or exposure: `texts` is its name in calibs-at/, `uuid` a hash of it
    WANT_MEMBERS,  // which of a chain's members have a data ID
    WANT_FIND,     // a page of paths: `texts` is an expression, `uuid` a hash of it; depth 1: after `key`
};

struct want {
    enum want_kind kind;
    uint64_t fresh;
    int64_t collection_id;
    int64_t type_id;  // WANT_TYPES: 0: all that the collection may hold
    struct uuid uuid;
    struct timespan at; // WANT_SET, WANT_ROW: what is found then; TIMESPAN_NONE: by its name
    bool has_old;     // of a listing: one that is old will do after a while (repository_hurry)
    uint32_t depth;   // levels in key
    struct key key;   // WANT_ROW (all levels, maybe a range), WANT_FOLDER, WANT_PART
    // Full values of the texts that are cut in it: 4 bytes of size, bytes. want_release frees.
    struct buffer texts;
};
void want_release(struct want *w);

struct waiter {
    struct waiter *next;                          // the library's
    void (*ready)(struct waiter *w, int error);   // 0: ask again; -errno: it could not be had
    void *job;                                    // the library's
    int64_t patience_ns;                          // until when it waits; then ready(-EAGAIN). 0: for as long as it takes
};

// Takes what it needs of `w` (which stays the caller's to release).
void repository_ask(struct repository *r, const struct want *w, struct waiter *waiter);
// What a waiter for a listing's want has as its patience, where the want has an old one.
#define PATIENCE_NS (200 * INT64_C(1000000))
// Ends the waiting of those whose patience is over; to be called now and then. Calls waiters.
void repository_hurry(struct repository *r);
// true: the waiter was taken out and will not be called. The query goes on for others.
bool repository_cancel(struct repository *r, struct waiter *waiter);

enum place_kind {
    PLACE_ROOT,        // README.txt, collections, by-uuid, calibs-at
    PLACE_COLLECTIONS, // collections/ and everything below: name parts, dataset types, data IDs
    PLACE_MEMBERS,     // a chain's @members/; `branch` is the chain's
    PLACE_BY_UUID,
    PLACE_CALIBS_AT,   // below it: PLACE_COLLECTIONS, at a time
};

// What a folder means in one snapshot. It may be several things at once: a part of collections'
// names, and a dataset type's (or a data ID's) folder in a collection.
struct place {
    struct repository *repository;
    struct snapshot *snapshot; // a reference
    uint64_t fresh;
    enum place_kind kind;
    const struct branch *branch;         // PLACE_COLLECTIONS: as a part of names; NULL
    const struct collection *collection; // with type: of which collection; NULL
    const struct dataset_type *type;     // NULL: no data IDs here
    const struct collection *holder;     // with type: whose set has its rows (the collection,
                                         // or its only member that may hold the type)
    struct timespan at;                  // below calibs-at/: the time; else TIMESPAN_NONE
    bool is_timed;                       // with type: that matters, as ranges hold it
    uint32_t depth;                      // levels entered
    bool may_be_old;                     // the caller's: a listing that is old will do
    bool is_components;                  // all of them, and the folder of a composite's files
    struct key key;                      // their values
    uint32_t cut;                        // a bit for each whose text is cut in the key
    struct value values[LEVELS_MAX];     // their values, texts in `texts`
    struct buffer texts;
};

enum entry_kind { ENTRY_FOLDER, ENTRY_FILE, ENTRY_LINK, ENTRY_README };

struct entry {
    enum entry_kind kind;
    struct text name;
    struct uuid uuid;         // ENTRY_FILE
    struct text component;    // ENTRY_FILE: of a composite; empty
    uint64_t version;         // ENTRY_LINK: of a target that may be another one day; 0: it never is
    int64_t size_bytes;       // ENTRY_FILE: as recorded; SIZE_UNKNOWN. ENTRY_LINK: its target's
    int64_t mtime_unix_ns;    // ENTRY_FILE
    int64_t left_ns;          // for how long it may be remembered, if it is old; 0: it isn't
};

int place_root(struct repository *r, uint64_t fresh, struct place *ret_place, struct want *want);
// Goes down one part by what names mean; existence of data IDs is not asked (place_lookup does).
// -ENOENT, -ENOTDIR (a file's name), -EINPROGRESS.
int place_enter(struct place *p, struct text name, struct want *want);
void place_release(struct place *p);

// The entry `name` of the folder: point queries where the set isn't at hand. ret_entry->name is
// `name`; other texts are in `scratch`. ENTRY_LINK: its target is appended to *target (NULL: not
// wanted). -ENOENT, -ENOTUNIQ (calibs-at/), -EINPROGRESS.
int place_lookup(struct place *p, struct text name, struct entry *ret_entry, struct buffer *scratch,
                 struct buffer *target, struct want *want);

// A listing in progress. `generation` is pinned by place_list_open and is what must be kept to go
// on after a take-over (then: listing_reopen); the rest is a hint that makes going on fast.
struct listing {
    uint64_t generation;   // of the key set; 0: there is none in this folder
    uint64_t epoch;        // that it is true at; 0: not known (after a take-over)
    uint64_t hint_cookie;  // the cookie that hint is for; 0: none
    struct row_cursor hint;
};
int place_list_open(struct place *p, struct listing *ret_listing, struct want *want);
void listing_reopen(struct repository *r, struct listing *l, uint64_t generation);
void listing_close(struct repository *r, struct listing *l);
// Entries after `cookie` (0: from the start), each with the cookie that continues after it.
// Entries' cookies are > 0 and < 2^63. `each` answers 0 to go on, 1 if it had no room for this
// one; it may not call meta. 0: the end; 1: no room. If the listing's generation is gone (another
// life's catalogue), it goes on by count in the present one. Only the hint in *l changes.
typedef int place_each(const struct entry *e, uint64_t cookie, void *context);
int place_list(struct place *p, struct listing *l, uint64_t cookie, place_each *each, void *context,
               struct want *want);

// For how long what was found in the folder (`l` NULL), or listed, may be remembered, ns; INT64_MAX: until the epoch
// moves on.
int64_t place_left_ns(const struct place *p, const struct listing *l);

// What is known of a dataset by its id.
struct dataset_file {
    uint32_t datastore;
    struct text component, path, storage_class, checksum;
    int64_t size_bytes;
};
struct dataset {
    struct uuid uuid;
    struct text type, storage_class, run;
    int64_t ingest_tai_ns;
    struct value values[LEVELS_MAX];
    struct text level_names[LEVELS_MAX]; // the levels' dimensions
    bool level_is_implied[LEVELS_MAX];
    uint32_t value_count;
    struct dataset_file *files;
    uint32_t file_count;
    struct buffer store;
};
// -ENOENT, -EINPROGRESS. *ret_dataset: dataset_free.
int repository_dataset(struct repository *r, uint64_t fresh, const struct uuid *uuid,
                       struct dataset **ret_dataset, struct want *want);
void dataset_free(struct dataset *d);
// Its data ID as JSON, required and implied values, keys sorted; appended.
int repository_data_id(struct repository *r, uint64_t fresh, const struct uuid *uuid,
                       struct buffer *to, struct want *want);
// README.txt of the space.
void repository_readme(const struct repository *r, struct buffer *to);
