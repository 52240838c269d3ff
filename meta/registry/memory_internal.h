// SPDX-License-Identifier: BSD-3-Clause
// What the files of the registry in memory share.
#pragma once
#include "meta/registry/memory.h"

struct memory {
    struct registry registry;
    struct memory_world *world;
};

// What every verb begins with: the state it works on, or the failure that was asked for.
int memory_look(struct registry *r, const struct memory_description **ret_description,
                uint64_t *ret_mark);
// Of "key=value,key=value", of a data ID or of a record; false: it has no such key.
bool memory_find_value(const char *list, struct text key, struct text *ret_value);
bool memory_value(const char *list, struct text key, enum value_kind kind, struct value *ret_value);
bool memory_is_in(const struct memory_dataset *d, const char *collection);
const struct memory_type *memory_type_of(const struct memory_description *d, int64_t id);
const char *memory_collection_name(const struct memory_description *d, int64_t id); // NULL
int64_t memory_collection_id(const struct memory_description *d, const char *collection); // 0
// The record of an element whose required values are those of the data ID; `start` continues.
const struct memory_record *memory_find_record(const struct memory_description *d,
                                               const struct snapshot *s, const struct element *e,
                                               const char *data_id,
                                               const struct memory_record *start);

int memory_digest(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                  const int64_t *collections, uint32_t count, uint64_t *ret_digest);
int memory_page(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                int64_t collection_id, struct buffer *cursor, uint32_t limit, registry_each *each,
                void *context, bool *ret_end, uint64_t *ret_mark);
int memory_row(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
               const struct registry_search *search, registry_each *each, void *context);
int memory_enter(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                 const int64_t *collections, uint32_t count, const struct value *values,
                 uint32_t depth);
int memory_dataset(struct registry *r, const struct snapshot *s, const struct uuid *uuid,
                   registry_each *each, void *context);
int memory_implied(struct registry *r, const struct snapshot *s, const struct dataset_type *t,
                   const struct value *values,
                   int (*each)(const struct element *e, const struct value *v, void *context),
                   void *context);
int memory_timespan(struct registry *r, const struct snapshot *s, const struct element *e,
                    const struct value *values, struct timespan *ret_span);
int memory_record(struct registry *r, const struct snapshot *s, const struct element *e,
                  const struct value *values, const struct text *columns, uint32_t count,
                  struct field *ret_fields, struct buffer *store);
