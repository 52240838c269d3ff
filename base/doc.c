// SPDX-License-Identifier: BSD-3-Clause
// doc: the tree. What it is read from is the business of yaml.c and json.c.
// 1. A node has one parent and is freed with it.
// 2. Reading changes nothing (spellings and indices are made when a node is), so that a finished
//    tree may be read by many threads.
// 3. The keys of a map differ and keep the order in which they first came.
#include "base/doc.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/random.h>

#include "base/doc_tree.h"
#include "base/hash.h"
#include "base/log.h"

#define DOC_INDEX_FROM 16 // keys; below it comparing them all is as fast

static uint64_t doc_seed; // written once, by doc_seed_once
static pthread_once_t doc_seed_once = PTHREAD_ONCE_INIT;

static void doc_seed_load(void)
{
    int error = getentropy(&doc_seed, sizeof(doc_seed));
    check(error == 0); // there since Linux 3.17; never interrupted for 8 bytes
}

uint64_t doc_hash(struct text key)
{
    pthread_once(&doc_seed_once, doc_seed_load);
    return hash64_seed(key.size_bytes ? key.data : "", key.size_bytes, doc_seed);
}

int doc_fail(int error, char **ret_why, const char *format, ...)
{
    if (ret_why) {
        BUFFER_CLEANUP why = {0};
        va_list args;
        va_start(args, format);
        errno = -error; // for %m
        buffer_vformat(&why, format, args);
        va_end(args);
        *ret_why = buffer_steal(&why);
    }
    return error;
}

static bool doc_is_branch(const struct doc *d)
{
    return d && (d->kind == DOC_LIST || d->kind == DOC_MAP);
}

static void doc_free_branch(struct doc_branch *b)
{
    for (size_t i = 0; i < b->count; i++) {
        doc_free(b->items[i]);
        if (b->keys)
            free(b->keys[i].data);
    }
    free(b->items);
    free(b->keys);
    if (b->index)
        table_release(b->index);
    free(b->index);
}

void doc_free(struct doc *d)
{
    if (!d)
        return;
    if (doc_is_branch(d))
        doc_free_branch(&d->branch);
    else
        free(d->scalar.spelling);
    free(d->tag);
    free(d);
}

enum doc_kind doc_kind(const struct doc *d)
{
    return d ? d->kind : DOC_NULL;
}

struct text doc_tag(const struct doc *d)
{
    return d && d->tag ? text_of(d->tag) : TEXT("");
}

// --- reading

static bool doc_key_same(uint64_t number, const void *key, void *context)
{
    const struct doc_branch *b = context; // only read
    const struct doc_key *k = &b->keys[number - 1];
    return text_equal((struct text){k->data, k->size_bytes}, *(const struct text *)key);
}

// The place of a key: below b->count when it is there.
static size_t doc_place(const struct doc_branch *b, struct text key)
{
    if (b->index) {
        uint64_t number = table_find(b->index, doc_hash(key), doc_key_same, &key, (void *)b);
        return number ? number - 1 : b->count;
    }
    size_t i = 0;
    while (i < b->count && !doc_key_same(i + 1, &key, (void *)b))
        i++;
    return i;
}

struct doc *doc_find(const struct doc *map, struct text key)
{
    if (!map || map->kind != DOC_MAP)
        return NULL;
    size_t i = doc_place(&map->branch, key);
    return i < map->branch.count ? map->branch.items[i] : NULL;
}

const struct doc *doc_get(const struct doc *map, const char *key)
{
    return doc_find(map, text_of(key));
}

const struct doc *doc_path(const struct doc *map, const char *dotted)
{
    for (;;) {
        const char *dot = strchrnul(dotted, '.');
        map = doc_find(map, (struct text){dotted, (size_t)(dot - dotted)});
        if (!*dot || !map)
            return map;
        dotted = dot + 1;
    }
}

size_t doc_count(const struct doc *d)
{
    return doc_is_branch(d) ? d->branch.count : 0;
}

const struct doc *doc_item(const struct doc *d, size_t i)
{
    return i < doc_count(d) ? d->branch.items[i] : NULL;
}

struct text doc_key(const struct doc *map, size_t i)
{
    if (doc_kind(map) != DOC_MAP || i >= map->branch.count)
        return TEXT("");
    return (struct text){map->branch.keys[i].data, map->branch.keys[i].size_bytes};
}

bool doc_is_scalar(const struct doc *d)
{
    return d && !doc_is_branch(d);
}

struct text doc_spelling(const struct doc *scalar)
{
    check(doc_is_scalar(scalar));
    const struct doc_scalar *s = &scalar->scalar;
    return s->spelling ? (struct text){s->spelling, s->spelling_bytes} : TEXT("");
}

struct text doc_text(const struct doc *d, struct text otherwise)
{
    return doc_is_scalar(d) && d->kind != DOC_NULL ? doc_spelling(d) : otherwise;
}

int64_t doc_integer(const struct doc *d, int64_t otherwise)
{
    return doc_kind(d) == DOC_INTEGER ? d->scalar.integer : otherwise;
}

bool doc_bool(const struct doc *d, bool otherwise)
{
    return doc_kind(d) == DOC_BOOL ? d->scalar.boolean : otherwise;
}

double doc_real(const struct doc *d, double otherwise)
{
    if (doc_kind(d) == DOC_INTEGER)
        return (double)d->scalar.integer;
    return doc_kind(d) == DOC_REAL ? d->scalar.real : otherwise;
}

// --- building

struct doc *doc_new(enum doc_kind kind)
{
    check(kind == DOC_NULL || kind == DOC_LIST || kind == DOC_MAP); // others have a value
    struct doc *d = new_struct(struct doc);
    d->kind = kind;
    return d;
}

struct doc *doc_new_scalar(enum doc_kind kind, struct text spelling)
{
    struct doc *d = new_struct(struct doc);
    d->kind = kind;
    d->scalar.spelling = memory_copy(spelling.data, spelling.size_bytes);
    d->scalar.spelling_bytes = spelling.size_bytes;
    return d;
}

struct doc *doc_new_text(struct text t)
{
    return doc_new_scalar(DOC_STRING, t);
}

struct doc *doc_new_integer(int64_t value)
{
    char spelling[24];
    snprintf(spelling, sizeof(spelling), "%lld", (long long)value);
    struct doc *d = doc_new_scalar(DOC_INTEGER, text_of(spelling));
    d->scalar.integer = value;
    return d;
}

struct doc *doc_new_bool(bool value)
{
    struct doc *d = doc_new_scalar(DOC_BOOL, value ? TEXT("true") : TEXT("false"));
    d->scalar.boolean = value;
    return d;
}

struct doc *doc_new_real(double value)
{
    char spelling[40];
    for (int digits = 15; digits <= 17; digits++) { // the fewest that give the same number back
        snprintf(spelling, sizeof(spelling), "%.*g", digits, value);
        if (strtod(spelling, NULL) == value)
            break;
    }
    if (isfinite(value) && !strpbrk(spelling, ".e"))
        strcat(spelling, ".0"); // still a real when it is read again
    struct doc *d = doc_new_scalar(DOC_REAL, text_of(spelling));
    d->scalar.real = value;
    return d;
}

static void doc_widen(struct doc *d)
{
    struct doc_branch *b = &d->branch;
    if (b->count < b->room)
        return;
    b->room = b->room ? b->room * 2 : 4;
    b->items = memory_grow(b->items, b->room, sizeof(*b->items));
    if (d->kind == DOC_MAP)
        b->keys = memory_grow(b->keys, b->room, sizeof(*b->keys));
}

static void doc_index_key(struct doc_branch *b, size_t i)
{
    struct text key = {b->keys[i].data, b->keys[i].size_bytes};
    table_add(b->index, doc_hash(key), i + 1);
}

struct doc *doc_swap(struct doc *map, struct text key, struct doc *value)
{
    check(doc_kind(map) == DOC_MAP && value);
    struct doc_branch *b = &map->branch;
    size_t i = doc_place(b, key);
    if (i < b->count) {
        struct doc *before = b->items[i];
        b->items[i] = value;
        return before;
    }
    doc_widen(map);
    b->items[i] = value;
    b->keys[i] = (struct doc_key){memory_copy(key.data, key.size_bytes), key.size_bytes};
    b->count++;
    if (b->index) {
        doc_index_key(b, i);
    } else if (b->count > DOC_INDEX_FROM) {
        b->index = new_struct(struct table);
        for (size_t n = 0; n < b->count; n++)
            doc_index_key(b, n);
    }
    return NULL;
}

void doc_put(struct doc *map, const char *key, struct doc *value)
{
    doc_free(doc_swap(map, text_of(key), value));
}

void doc_put_text(struct doc *map, const char *key, const char *value)
{
    doc_put(map, key, value ? doc_new_text(text_of(value)) : doc_new(DOC_NULL));
}

void doc_put_integer(struct doc *map, const char *key, int64_t value)
{
    doc_put(map, key, doc_new_integer(value));
}

void doc_put_bool(struct doc *map, const char *key, bool value)
{
    doc_put(map, key, doc_new_bool(value));
}

void doc_append(struct doc *list, struct doc *value)
{
    check(doc_kind(list) == DOC_LIST && value);
    doc_widen(list);
    list->branch.items[list->branch.count++] = value;
}

// --- changing

struct doc *doc_child(struct doc *d, size_t i)
{
    check(doc_is_branch(d) && i < d->branch.count);
    return d->branch.items[i];
}

void doc_replace(struct doc *d, size_t i, struct doc *value)
{
    check(doc_is_branch(d) && i < d->branch.count);
    doc_free(d->branch.items[i]);
    d->branch.items[i] = value;
}

// No deeper than a document that was read.
void doc_fill(struct doc *to, struct doc *from)
{
    check(to->kind == DOC_MAP && from->kind == DOC_MAP);
    for (size_t i = 0; i < from->branch.count; i++) {
        struct text key = doc_key(from, i);
        struct doc *value = take(from->branch.items[i]), *there = doc_find(to, key);
        if (!there)
            doc_swap(to, key, value);
        else if (there->kind == DOC_MAP && value->kind == DOC_MAP)
            doc_fill(there, value);
        else
            doc_free(value);
    }
    doc_free(from);
}
