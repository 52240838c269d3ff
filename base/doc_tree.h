// SPDX-License-Identifier: BSD-3-Clause
// doc_tree: the inside of a doc, for doc*.c, json.c and yaml.c only; others use doc.h.
#pragma once
#include "base/doc.h"
#include "base/table.h"

#define DOC_DEPTH_MAX 64               // lists and maps within each other
#define DOC_BYTES_MAX ((size_t)64 << 20) // of input; of what YAML aliases repeat, the same again
#define DOC_NODES_MAX 4000000

struct doc_scalar {
    union {
        int64_t integer; // DOC_INTEGER
        double real;     // DOC_REAL
        bool boolean;    // DOC_BOOL
    };
    char *spelling; // owned, NUL after it; NULL for a null that was built
    size_t spelling_bytes;
};

struct doc_key {
    char *data; // owned
    size_t size_bytes;
};

struct doc_branch {
    struct doc **items;
    struct doc_key *keys; // of a map, else NULL
    size_t count;
    size_t room;
    struct table *index; // of a map with more than a few keys: hash of a key -> its number + 1
};

struct doc {
    enum doc_kind kind;
    char *tag; // owned; NULL: none of its own
    union {
        struct doc_scalar scalar;
        struct doc_branch branch; // DOC_LIST, DOC_MAP
    };
};

// A scalar of that kind and spelling, its value zero.
struct doc *doc_new_scalar(enum doc_kind kind, struct text spelling);
// A scalar of the kind that YAML 1.1 gives to this spelling where it is not quoted (doc_scalar.c).
struct doc *doc_new_plain(struct text spelling);
struct text doc_spelling(const struct doc *scalar);

// As doc_get and doc_put, for keys that are counted. Swap gives back the value that stood there
// (NULL: none) instead of freeing it.
struct doc *doc_find(const struct doc *map, struct text key);
struct doc *doc_swap(struct doc *map, struct text key, struct doc *value);

// Of a key from outside: seeded by the process, so that nobody can choose keys that collide.
uint64_t doc_hash(struct text key);

// Sets *ret_why when there is a ret_why; returns `error`.
int doc_fail(int error, char **ret_why, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
