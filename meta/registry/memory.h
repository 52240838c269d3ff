// SPDX-License-Identifier: BSD-3-Clause
// memory: a registry for tests, from a description in C: no database, no files. A `struct
// memory_world` is what a database would be: several connections may be opened to it, by any
// thread, and a test may replace what is in it or let it fail. The description is borrowed.
//
//   static const struct memory_description before = {
//       .types = (const struct memory_type[]){{"calexp", "instrument detector visit"}, {}},
//       .collections = (const struct memory_collection[]){{"run", COLLECTION_RUN}, {}},
//       .records = (const struct memory_record[]){{"visit", "instrument=Cam,id=7,day_obs=20240101"}, {}},
//       .datasets = (const struct memory_dataset[]){
//           {"calexp", "run", "instrument=Cam,detector=3,visit=7", .path = "a.fits"}, {}},
//   };
#pragma once
#include "base/lock.h"
#include "meta/registry/registry.h"

struct memory_type {
    const char *name;
    const char *columns; // required dimensions as a tags table has them, a space between; "": none
    bool is_calibration;
};

struct memory_collection {
    const char *name;
    enum collection_kind kind;
    const char *const *members; // of a chain; NULL at the end
};

// A row of a dimension's table: its required dimensions by their names, its own key as "id" or
// "name", what it implies, when it was ("begin", "end"). A value can't hold a comma.
struct memory_record {
    const char *element;
    const char *values;
};

// In a CALIBRATION collection, valid in the range.
struct memory_certified {
    const char *collection;
    struct timespan range;
};

struct memory_dataset {
    const char *type;
    const char *run;
    const char *data_id;          // "instrument=Cam,visit=7": the required values
    const char *const *tagged;    // further collections it is in; NULL at the end
    const char *path;             // in datastore 0; NULL: not stored
    const char *second_path;      // in datastore 1
    int64_t size_bytes;
    int64_t ingest_tai_ns;
    const char *const *components; // "wcs=w.fits": its files, in datastore 0; NULL at the end
    const struct memory_certified *certified; // ends with one without a collection
};

// Each list ends with an entry that is all zero. Ids are positions from 1; a dataset's uuid is
// memory_uuid of its position from 0. The universe is a small one like the client's version 8.
struct memory_description {
    const struct memory_type *types;
    const struct memory_collection *collections;
    const struct memory_record *records;
    const struct memory_dataset *datasets;
};

struct memory_world {
    struct lock lock;
    const struct memory_description *description; // under lock
    uint64_t changes;                             // under lock
    int error;                                    // under lock: of failing verbs
    uint32_t verbs_before_failure;                // under lock
    uint32_t failures;                            // under lock: how many verbs still fail
    uint64_t verbs;                               // under lock: how many were called
    bool has_digest;                              // of sets how many rows they have: a file that changes goes unnoticed
};

void memory_world_init(struct memory_world *w, const struct memory_description *d);
void memory_world_release(struct memory_world *w); // no connection may be left
// What another connection commits.
void memory_world_change(struct memory_world *w, const struct memory_description *d);
// After `verbs_before` more verbs, `count` of them answer `error`.
void memory_world_fail(struct memory_world *w, int error, uint32_t verbs_before, uint32_t count);
struct registry *memory_world_connect(struct memory_world *w);
struct uuid memory_uuid(uint32_t position);
