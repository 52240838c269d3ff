// SPDX-License-Identifier: BSD-3-Clause
// memory: an origin for tests: objects in memory, with what goes wrong at will. Like all plain origins it is served by
// a fetcher's thread; a GET is given in pieces, so that others have their turn between them.
// 1. Everything but `origin` is under the lock, which is not held while a request's callbacks run: bytes are copied.
#include <errno.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "cache/origin/internal.h"
#include "cache/origin/listing.h"

#define MEMORY_STRIDE 7919 // a prime
#define MEMORY_PIECE_BYTES ((size_t)16 << 10)
#define MEMORY_HELD_NS (2 * NS_PER_MS) // between two looks whether it is still held

struct memory_object {
    char *key;
    size_t key_bytes;
    char *data;
    size_t size_bytes;
    int64_t mtime_unix_ns;
    char validator[24];
    enum origin_nearline nearline;
};

struct memory_origin {
    struct origin origin;
    struct lock lock;
    struct memory_object *objects; // in order of their keys
    size_t count, room;
    uint64_t puts;
    struct origin_memory_fault fault;
    int64_t delay_ns;
    bool is_held;
    bool has_no_order; // listings
    bool starts_anew; // whatever key a listing is to begin behind
    uint64_t held_behind; // bytes
    struct origin_memory_count counted;
};

// What one request has come to.
struct memory_state {
    bool has_begun;
    int64_t begins_ns;
    struct origin_memory_fault fault; // times 0: none
    struct memory_object object;      // a copy of what is needed but the data
};

static struct memory_origin *memory_of(struct origin *o)
{
    return (struct memory_origin *)o;
}

static struct text key_of(const struct memory_object *object)
{
    return (struct text){object->key, object->key_bytes};
}

// The first whose key is not less.
static size_t memory_place(const struct memory_origin *m, struct text key)
{
    size_t low = 0, high = m->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (text_compare(key_of(&m->objects[middle]), key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct memory_object *memory_find(struct memory_origin *m, struct text key)
{
    size_t at = memory_place(m, key);
    return at < m->count && text_equal(key_of(&m->objects[at]), key) ? &m->objects[at] : NULL;
}

// ---- a request's turns

static int memory_fail(struct origin_flight *flight, int error, const char *why)
{
    fetch_fail(&flight->fetch, error, "%s: %s", flight->origin->identity, why);
    return error;
}

// Under the lock: what goes wrong with the next one.
static struct origin_memory_fault memory_take_fault(struct memory_origin *m)
{
    struct origin_memory_fault *f = &m->fault;
    if (f->times == 0)
        return (struct origin_memory_fault){0};
    if (f->countdown > 0) {
        f->countdown--;
        return (struct origin_memory_fault){0};
    }
    f->times--;
    struct origin_memory_fault taken = *f;
    taken.times = 1;
    return taken;
}

static void memory_count(struct memory_origin *m, enum origin_verb verb)
{
    switch (verb) {
    case ORIGIN_GET:
        m->counted.gets++;
        break;
    case ORIGIN_HEAD:
        m->counted.heads++;
        break;
    case ORIGIN_LIST:
        m->counted.lists++;
        break;
    case ORIGIN_RESTORE:
        m->counted.restores++;
        break;
    default: // memory isn't written to
        break;
    }
}

static struct memory_state *memory_enter(struct memory_origin *m, struct origin_flight *flight)
{
    struct memory_state *s = new_struct(struct memory_state);
    lock_scope(&m->lock);
    memory_count(m, flight->request->verb);
    m->counted.starts += flight->request->start_after.size_bytes > 0;
    s->fault = memory_take_fault(m);
    s->begins_ns = clock_ns() + (s->fault.delay_ns ? s->fault.delay_ns : m->delay_ns);
    flight->state = s;
    flight->state_free = free;
    return s;
}

static bool memory_is_held(struct memory_origin *m, bool has_begun, uint64_t given_bytes)
{
    lock_scope(&m->lock);
    return m->is_held && (m->held_behind ? given_bytes >= m->held_behind : !has_begun);
}

// The object's attributes, and that it is the one that is asked for.
static int memory_begin(struct memory_origin *m, struct origin_flight *flight, struct memory_state *s)
{
    struct origin_request *r = flight->request;
    {
        lock_scope(&m->lock);
        const struct memory_object *object = memory_find(m, r->key);
        if (!object)
            return memory_fail(flight, -ENOENT, "there is no such object");
        s->object = *object;
    }
    flight->answer.size_bytes = (int64_t)s->object.size_bytes;
    flight->answer.mtime_unix_ns = s->object.mtime_unix_ns;
    flight->answer.nearline = s->object.nearline;
    answer_set(flight, &flight->answer.validator, text_of(s->object.validator));
    s->has_begun = true;
    if (r->verb == ORIGIN_GET &&
        (s->object.nearline == ORIGIN_NEARLINE_AWAY || s->object.nearline == ORIGIN_NEARLINE_COMING)) {
        flight->answer.is_archived = true;
        return memory_fail(flight, -EREMOTEIO, "the object must be restored first");
    }
    if (r->if_none_match.size_bytes && text_equal(r->if_none_match, flight->answer.validator)) {
        flight->answer.is_unchanged = true;
        return 0;
    }
    if (r->verb == ORIGIN_GET && r->offset > 0 && r->offset >= s->object.size_bytes)
        return memory_fail(flight, -ERANGE, "the object ends before that");
    return flight_begin(flight);
}

// Copies the next bytes; -ESTALE: it was replaced meanwhile.
static int memory_copy_piece(struct memory_origin *m, struct origin_flight *flight, const struct memory_state *s,
                             char *piece, size_t size_bytes)
{
    lock_scope(&m->lock);
    const struct memory_object *object = memory_find(m, flight->request->key);
    if (!object || strcmp(object->validator, s->object.validator) != 0)
        return -ESTALE;
    memcpy(piece, object->data + flight->request->offset + flight->given_bytes, size_bytes);
    m->counted.bytes += size_bytes;
    return 0;
}

static void memory_was_not_taken(struct memory_origin *m, size_t size_bytes)
{
    lock_scope(&m->lock);
    m->counted.bytes -= size_bytes;
}

static int memory_give(struct memory_origin *m, struct origin_flight *flight, struct memory_state *s)
{
    struct origin_request *r = flight->request;
    char piece[MEMORY_PIECE_BYTES];
    uint64_t left = s->object.size_bytes - r->offset;
    if (left > r->size_bytes)
        left = r->size_bytes;
    left -= flight->given_bytes;
    bool fails = s->fault.times && s->fault.error;
    if (fails && left > s->fault.after_bytes - flight->given_bytes)
        left = s->fault.after_bytes - flight->given_bytes;
    size_t size = left < sizeof(piece) ? (size_t)left : sizeof(piece);
    if (size == 0)
        return fails ? memory_fail(flight, s->fault.error, s->fault.why ? s->fault.why : "made to fail") : 0;
    if (memory_copy_piece(m, flight, s, piece, size) < 0)
        return memory_fail(flight, -ESTALE, "the object was replaced");
    if (s->fault.times && s->fault.flips_a_byte && flight->given_bytes == 0)
        piece[0] ^= 1;
    int taken = flight_sink(flight, piece, size);
    if (taken != 0)
        memory_was_not_taken(m, size);
    return taken == FETCH_PAUSE ? FETCH_RUN_LATER : (taken < 0 ? taken : FETCH_RUN_AGAIN);
}

// The entry's prefix, up to the first delimiter behind the one asked for; empty: it is a key.
static struct text memory_common(struct text key, struct text prefix, struct text delimiter)
{
    if (delimiter.size_bytes == 0)
        return TEXT("");
    const char *end = memmem(key.data + prefix.size_bytes, key.size_bytes - prefix.size_bytes, delimiter.data,
                             delimiter.size_bytes);
    return end ? text_slice(key, 0, (size_t)(end - key.data) + delimiter.size_bytes) : TEXT("");
}

// Pages are asked for by the last entry of the one before, which is what the token is.
static void memory_list(struct memory_origin *m, struct origin_flight *flight)
{
    struct origin_request *r = flight->request;
    uint32_t max = r->max ? r->max : ORIGIN_LIST_MAX;
    lock_scope(&m->lock);
    struct text last = r->token.size_bytes ? r->token : m->starts_anew ? TEXT("") : r->start_after;
    for (size_t i = memory_place(m, r->key); i < m->count; i++) {
        const struct memory_object *object = &m->objects[i];
        struct text key = key_of(object);
        if (!text_begins(key, r->key))
            break;
        struct text common = memory_common(key, r->key, r->delimiter);
        struct text name = common.size_bytes ? common : key;
        if (last.size_bytes && text_compare(name, last) <= 0)
            continue;
        if (listing_count(flight->listing) == max) {
            listing_set_token(flight->listing, last);
            break;
        }
        struct origin_entry entry = {.key = name,
                                     .is_prefix = common.size_bytes > 0,
                                     .size_bytes = (int64_t)object->size_bytes,
                                     .mtime_unix_ns = object->mtime_unix_ns,
                                     .validator = text_of(object->validator),
                                     .storage_class = TEXT("")};
        listing_add(flight->listing, &entry);
        last = name;
    }
}

// The i-th of a listing without order.
static const struct memory_object *memory_shuffled(const struct memory_origin *m, size_t i)
{
    return &m->objects[i * MEMORY_STRIDE % m->count];
}

static bool memory_came_before(const struct memory_origin *m, const struct origin_request *r, size_t i, struct text common)
{
    while (i-- > 0) {
        struct text key = key_of(memory_shuffled(m, i));
        if (text_begins(key, common) && text_equal(memory_common(key, r->key, r->delimiter), common))
            return true;
    }
    return false;
}

// The same without any order; the token is a number.
static void memory_list_shuffled(struct memory_origin *m, struct origin_flight *flight)
{
    struct origin_request *r = flight->request;
    uint32_t max = r->max ? r->max : ORIGIN_LIST_MAX;
    char token[24] = "";
    lock_scope(&m->lock);
    check(m->count % MEMORY_STRIDE);
    if (r->token.size_bytes)
        memcpy(token, r->token.data, r->token.size_bytes);
    for (size_t i = strtoull(token, NULL, 10); i < m->count; i++) {
        const struct memory_object *object = memory_shuffled(m, i);
        struct text key = key_of(object);
        struct text common = text_begins(key, r->key) ? memory_common(key, r->key, r->delimiter) : TEXT("");
        if (!text_begins(key, r->key) || (common.size_bytes && memory_came_before(m, r, i, common)))
            continue;
        if (listing_count(flight->listing) == max) {
            snprintf(token, sizeof(token), "%zu", i);
            listing_set_token(flight->listing, text_of(token));
            break;
        }
        listing_add(flight->listing, &(struct origin_entry){.key = common.size_bytes ? common : key,
                                                            .is_prefix = common.size_bytes > 0,
                                                            .size_bytes = (int64_t)object->size_bytes,
                                                            .mtime_unix_ns = object->mtime_unix_ns,
                                                            .validator = text_of(object->validator),
                                                            .storage_class = TEXT("")});
    }
}

static int memory_answer_list(struct memory_origin *m, struct origin_flight *flight)
{
    flight->listing = listing_new(flight->request->key, flight->request->token);
    if (m->has_no_order && m->count)
        memory_list_shuffled(m, flight);
    else
        memory_list(m, flight);
    answer_set(flight, &flight->answer.token, listing_token(flight->listing));
    return 0;
}

static int memory_restore(struct memory_origin *m, struct origin_flight *flight)
{
    lock_scope(&m->lock);
    struct memory_object *object = memory_find(m, flight->request->key);
    if (!object)
        return memory_fail(flight, -ENOENT, "there is no such object");
    if (object->nearline == ORIGIN_NEARLINE_AWAY)
        object->nearline = ORIGIN_NEARLINE_COMING;
    flight->answer.nearline = object->nearline;
    return 0;
}

static int memory_run(struct origin_flight *flight)
{
    struct memory_origin *m = memory_of(flight->origin);
    struct memory_state *s = flight->state ? flight->state : memory_enter(m, flight);
    bool is_held = memory_is_held(m, s->has_begun, flight->given_bytes);
    int64_t now_ns = clock_ns();
    if (is_held || now_ns < s->begins_ns) {
        flight->fetch.wake_ns = is_held ? now_ns + MEMORY_HELD_NS : s->begins_ns;
        return FETCH_RUN_LATER;
    }
    bool fails = s->fault.times && s->fault.error;
    if (fails && (flight->request->verb != ORIGIN_GET || s->fault.after_bytes == 0))
        return memory_fail(flight, s->fault.error, s->fault.why ? s->fault.why : "made to fail");
    if (flight->request->verb == ORIGIN_LIST)
        return memory_answer_list(m, flight);
    if (flight->request->verb == ORIGIN_RESTORE)
        return memory_restore(m, flight);
    if (!s->has_begun) {
        int error = memory_begin(m, flight, s);
        if (error || flight->request->verb == ORIGIN_HEAD || flight->answer.is_unchanged)
            return error;
    }
    return memory_give(m, flight, s);
}

// ---- its life

static void object_release(struct memory_object *object)
{
    free(object->key);
    free(object->data);
}

static void memory_close(struct origin *o)
{
    struct memory_origin *m = memory_of(o);
    for (size_t i = 0; i < m->count; i++)
        object_release(&m->objects[i]);
    free(m->objects);
    lock_release_memory(&m->lock);
    origin_release(o);
    free(m);
}

static const struct origin_ops memory_ops = {
    .can_list = true,
    .can_restore = true,
    .is_local = false, // it stands for one that isn't
    .close = memory_close,
    .run = memory_run,
};

int memory_open(struct fetchers *fetchers, const struct url *url, const struct origin_options *options,
                struct origin **ret_origin, struct buffer *key, char **ret_why)
{
    struct endpoint *e;
    BUFFER_CLEANUP name = {0};
    buffer_format(&name, "memory://%.*s", (int)url->host.size_bytes, url->host.data);
    struct endpoint_options how = {.is_plain = true, .connections = options ? options->connections : 0};
    int error = endpoint_get(fetchers, name.data, &how, &e);
    if (error)
        return origin_fail(error, ret_why, "too many endpoints");
    struct memory_origin *m = new_struct(struct memory_origin);
    lock_init(&m->lock, LOCK_RANK_LEAF, "memory origin");
    origin_init(&m->origin, &memory_ops, e, buffer_steal(&name));
    struct text path = url->path;
    while (text_begins(path, TEXT("/")))
        path = text_slice(path, 1, path.size_bytes);
    url_unquote(path, key);
    *ret_origin = &m->origin;
    return 0;
}

// ---- the tests' hands

static struct memory_origin *memory_checked(struct origin *o)
{
    check(o->ops == &memory_ops);
    return memory_of(o);
}

// Under the lock.
static void memory_drop(struct memory_origin *m, size_t at)
{
    object_release(&m->objects[at]);
    m->count--;
    memmove(&m->objects[at], &m->objects[at + 1], (m->count - at) * sizeof(*m->objects));
}

void origin_memory_put(struct origin *o, struct text key, struct text data, int64_t mtime_unix_ns)
{
    struct memory_origin *m = memory_checked(o);
    struct memory_object object = {
        .key = memory_copy(key.data, key.size_bytes),
        .key_bytes = key.size_bytes,
        .data = memory_copy(data.data, data.size_bytes),
        .size_bytes = data.size_bytes,
        .mtime_unix_ns = mtime_unix_ns,
    };
    lock_scope(&m->lock);
    snprintf(object.validator, sizeof(object.validator), "\"%llu\"", (unsigned long long)++m->puts);
    size_t at = memory_place(m, key);
    if (at < m->count && text_equal(key_of(&m->objects[at]), key))
        memory_drop(m, at);
    if (m->count == m->room) {
        m->room = m->room ? 2 * m->room : 64;
        m->objects = memory_grow(m->objects, m->room, sizeof(*m->objects));
    }
    memmove(&m->objects[at + 1], &m->objects[at], (m->count - at) * sizeof(*m->objects));
    m->objects[at] = object;
    m->count++;
}

void origin_memory_remove(struct origin *o, struct text key)
{
    struct memory_origin *m = memory_checked(o);
    lock_scope(&m->lock);
    struct memory_object *object = memory_find(m, key);
    if (object)
        memory_drop(m, (size_t)(object - m->objects));
}

void origin_memory_nearline(struct origin *o, struct text key, enum origin_nearline nearline)
{
    struct memory_origin *m = memory_checked(o);
    lock_scope(&m->lock);
    struct memory_object *object = memory_find(m, key);
    if (object)
        object->nearline = nearline;
}

void origin_memory_fault(struct origin *o, const struct origin_memory_fault *fault)
{
    struct memory_origin *m = memory_checked(o);
    lock_scope(&m->lock);
    m->fault = *fault;
}

void origin_memory_delay(struct origin *o, int64_t delay_ns)
{
    struct memory_origin *m = memory_checked(o);
    lock_scope(&m->lock);
    m->delay_ns = delay_ns;
}

void origin_memory_shuffle(struct origin *o, bool does)
{
    struct memory_origin *m = memory_checked(o);
    lock_scope(&m->lock);
    m->has_no_order = does;
}

void origin_memory_start_anew(struct origin *o, bool does)
{
    struct memory_origin *m = memory_checked(o);
    lock_scope(&m->lock);
    m->starts_anew = does;
}

void origin_memory_hold(struct origin *o, bool is_held)
{
    struct memory_origin *m = memory_checked(o);
    lock_scope(&m->lock);
    m->is_held = is_held;
    m->held_behind = 0;
}

void origin_memory_hold_behind(struct origin *o, uint64_t bytes)
{
    struct memory_origin *m = memory_checked(o);
    lock_scope(&m->lock);
    m->is_held = true;
    m->held_behind = bytes;
}

void origin_memory_count(struct origin *o, struct origin_memory_count *ret_count)
{
    struct memory_origin *m = memory_checked(o);
    lock_scope(&m->lock);
    *ret_count = m->counted;
}
