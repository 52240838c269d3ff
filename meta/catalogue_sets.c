// SPDX-License-Identifier: BSD-3-Clause
// catalogue_sets: which generation of rows a set has, and what all records begin with.
// 1. Every record begins with magic, version and length; one that doesn't, or of another length,
//    counts as absent.
// 2. A set has a whole generation, a partial one, or both, each a record of its own: so single
//    answers of a newer epoch don't take the whole away from who waits for it.
// 3. Every generation with rows is named by exactly one record or stands in `dead`.
// 4. A record is never replaced by an older one, unless it is distrusted.
// 5. Epochs are counts, or times of asking (buckets). One from the future is of a life whose clock was ahead, and how old it is
//    isn't known: it counts as absent.
#include "meta/catalogue_store.h"

#include "base/clock.h"
#include "base/log.h"

enum { MAGIC_SET = 0x6273, MAGIC_HEADER = 0x6267 };

struct set_record {
    struct record_head head;
    uint64_t generation, epoch, row_count;
};

struct header_record {
    struct record_head head;
    uint8_t set[SET_KEY_BYTES];
};

struct record_head record_head(uint16_t magic, size_t length_bytes)
{
    return (struct record_head){
        .magic = magic, .version = 1, .length_bytes = (uint32_t)length_bytes};
}

bool record_read(const MDB_val *v, uint16_t magic, void *record, size_t size_bytes, bool may_go_on)
{
    struct record_head head;
    if (v->mv_size < size_bytes || (!may_go_on && v->mv_size != size_bytes))
        return false;
    memcpy(&head, v->mv_data, sizeof(head));
    if (head.magic != magic || head.version != 1 || head.zero || head.length_bytes != v->mv_size)
        return false;
    memcpy(record, v->mv_data, size_bytes);
    return true;
}

void record_put_number(uint8_t *to, uint64_t value, size_t size_bytes)
{
    for (size_t i = 0; i < size_bytes; i++)
        to[i] = (uint8_t)(value >> (8 * (size_bytes - 1 - i)));
}

// Sets.

static MDB_val set_key(uint8_t key[SET_KEY_BYTES], const struct set_id *id, bool is_whole)
{
    record_put_number(key, id->repository, 4);
    record_put_number(key + 4, (uint64_t)id->collection_id, 8);
    record_put_number(key + 12, (uint64_t)id->type_id, 8);
    record_put_number(key + 20, (uint64_t)id->at.begin_tai_ns, 8);
    record_put_number(key + 28, (uint64_t)id->at.end_tai_ns, 8);
    record_put_number(key + 36, id->part, 8);
    key[44] = is_whole;
    return (MDB_val){SET_KEY_BYTES, key};
}

int set_read(struct catalogue *c, struct store *s, MDB_txn *txn, const struct set_id *id,
             bool is_whole, struct set_state *ret_state)
{
    uint8_t bytes[SET_KEY_BYTES];
    MDB_val key = set_key(bytes, id, is_whole), data;
    struct set_record record;
    int rc = mdb_get(txn, s->sets, &key, &data);
    if (rc)
        return rc;
    if (!record_read(&data, MAGIC_SET, &record, sizeof(record), false) ||
        record.epoch > (uint64_t)clock_steady_unix_ns())
        return MDB_NOTFOUND;
    *ret_state = (struct set_state){.generation = record.generation,
                                    .epoch = record.epoch,
                                    .is_whole = is_whole,
                                    .row_count = record.row_count};
    return pin_is_distrusted(c, record.generation) ? MDB_NOTFOUND : 0;
}

bool set_generation(const MDB_val *record, uint64_t *ret_generation)
{
    struct set_record set;
    if (!record_read(record, MAGIC_SET, &set, sizeof(set), false))
        return false;
    *ret_generation = set.generation;
    return true;
}

// The generation that the record names, trusted or not, is named no more.
static int set_bury(struct write *w, const MDB_val *key)
{
    MDB_val found = *key, data;
    uint64_t generation;
    int rc = mdb_get(w->txn, w->store->sets, &found, &data);
    if (rc)
        return rc == MDB_NOTFOUND ? 0 : rc;
    if (!set_generation(&data, &generation))
        return 0;
    return dead_add(w, generation);
}

int set_write(struct write *w, const struct set_id *id, const struct set_state *state)
{
    uint8_t bytes[SET_KEY_BYTES];
    struct set_state old;
    int rc = set_read(w->c, w->store, w->txn, id, state->is_whole, &old);
    if (rc && rc != MDB_NOTFOUND)
        return rc;
    if (!rc && old.epoch > state->epoch)
        return dead_add(w, state->generation);
    struct set_record record = {.head = record_head(MAGIC_SET, sizeof(record)),
                                .generation = state->generation,
                                .epoch = state->epoch,
                                .row_count = state->row_count};
    MDB_val key = set_key(bytes, id, state->is_whole), data = {sizeof(record), &record};
    rc = set_bury(w, &key);
    if (!rc)
        rc = dead_remove(w, state->generation);
    return rc ? rc : mdb_put(w->txn, w->store->sets, &key, &data, 0);
}

// How many times one (collection, type) is kept resolved at.
#define TIMES_MAX 64
#define SET_KEY_BEFORE_TIMES 20

// Buries the set of the oldest time if there are too many, so that a walk through time doesn't fill
// the catalogue.
int set_limit_times(struct write *w, const struct set_id *id)
{
    uint8_t bytes[SET_KEY_BYTES], oldest_bytes[SET_KEY_BYTES] = {0};
    uint64_t generation, oldest = UINT64_MAX;
    unsigned count = 0;
    MDB_cursor *cursor;
    MDB_val key = set_key(bytes, &(struct set_id){.repository = id->repository,
                                                  .collection_id = id->collection_id,
                                                  .type_id = id->type_id}, false), data;
    uint8_t prefix[SET_KEY_BEFORE_TIMES];
    memcpy(prefix, bytes, sizeof(prefix));
    int rc = mdb_cursor_open(w->txn, w->store->sets, &cursor);
    if (rc)
        return rc;
    rc = mdb_cursor_get(cursor, &key, &data, MDB_SET_RANGE);
    for (; !rc && key.mv_size == SET_KEY_BYTES && memcmp(key.mv_data, prefix, sizeof(prefix)) == 0;
         rc = mdb_cursor_get(cursor, &key, &data, MDB_NEXT)) {
        static const uint8_t none[16];
        if (memcmp((uint8_t *)key.mv_data + sizeof(prefix), none, sizeof(none)) == 0 ||
            !set_generation(&data, &generation))
            continue;
        count++;
        if (generation > oldest)
            continue;
        oldest = generation;
        memcpy(oldest_bytes, key.mv_data, SET_KEY_BYTES);
    }
    mdb_cursor_close(cursor);
    if ((rc && rc != MDB_NOTFOUND) || count <= TIMES_MAX)
        return rc == MDB_NOTFOUND ? 0 : rc;
    key = (MDB_val){SET_KEY_BYTES, oldest_bytes};
    rc = set_bury(w, &key);
    return rc ? rc : mdb_del(w->txn, w->store->sets, &key, NULL);
}

// The answers of a set that is whole now and as new are of no use any more.
int set_forget_answers(struct write *w, const struct set_id *id, uint64_t epoch)
{
    uint8_t bytes[SET_KEY_BYTES];
    struct set_state partial;
    int rc = set_read(w->c, w->store, w->txn, id, false, &partial);
    if (rc || partial.epoch > epoch)
        return rc == MDB_NOTFOUND ? 0 : rc;
    MDB_val key = set_key(bytes, id, false);
    rc = mdb_del(w->txn, w->store->sets, &key, NULL);
    return rc ? rc : dead_add(w, partial.generation);
}

int catalogue_set(struct catalogue *c, const struct set_id *id, struct set_state *ret_state)
{
    struct read_slot *s;
    struct set_state state;
    int r = read_begin(c, &s);
    if (r < 0)
        return r;
    r = store_errno(set_read(c, s->store, s->txn, id, true, &state));
    read_end(s);
    if (r == 0)
        *ret_state = state;
    return r;
}

// Generations.

static int dead_put(struct write *w, uint64_t generation, bool is_dead)
{
    uint8_t bytes[8];
    record_put_number(bytes, generation, 8);
    MDB_val key = {8, bytes}, data = {1, bytes};
    if (is_dead)
        return mdb_put(w->txn, w->store->dead, &key, &data, 0);
    int rc = mdb_del(w->txn, w->store->dead, &key, NULL);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

int dead_add(struct write *w, uint64_t generation)
{
    return dead_put(w, generation, true);
}

int dead_remove(struct write *w, uint64_t generation)
{
    return dead_put(w, generation, false);
}

int dead_has(struct write *w, uint64_t generation)
{
    uint8_t bytes[8];
    record_put_number(bytes, generation, 8);
    MDB_val key = {8, bytes}, data;
    return mdb_get(w->txn, w->store->dead, &key, &data);
}

MDB_val rows_key(struct rows_key *k, uint64_t generation, enum section section, struct text key)
{
    check(key.size_bytes <= KEY_BYTES_MAX);
    record_put_number(k->bytes, generation, 8);
    k->bytes[8] = (uint8_t)section;
    if (key.size_bytes)
        memcpy(k->bytes + ROWS_KEY_PREFIX, key.data, key.size_bytes);
    k->size_bytes = ROWS_KEY_PREFIX + key.size_bytes;
    return (MDB_val){k->size_bytes, k->bytes};
}

bool rows_key_generation(const MDB_val *v, uint64_t *ret_generation)
{
    const uint8_t *bytes = v->mv_data;
    if (v->mv_size < ROWS_KEY_PREFIX)
        return false;
    *ret_generation = 0;
    for (int i = 0; i < 8; i++)
        *ret_generation = *ret_generation << 8 | bytes[i];
    return true;
}

bool rows_key_is(const MDB_val *v, uint64_t generation, enum section section, struct text *ret_key)
{
    uint64_t g;
    if (!rows_key_generation(v, &g) || g != generation || ((uint8_t *)v->mv_data)[8] != section)
        return false;
    if (v->mv_size - ROWS_KEY_PREFIX > KEY_BYTES_MAX)
        return false;
    *ret_key = text_slice(text_of_val(v), ROWS_KEY_PREFIX, v->mv_size);
    return true;
}

int header_write(struct write *w, uint64_t generation, const struct set_id *id)
{
    struct rows_key bytes;
    struct header_record record = {.head = record_head(MAGIC_HEADER, sizeof(record))};
    set_key(record.set, id, true);
    MDB_val key = rows_key(&bytes, generation, SECTION_HEADER, (struct text){0});
    MDB_val data = {sizeof(record), &record};
    return mdb_put(w->txn, w->store->rows, &key, &data, 0);
}

bool catalogue_has_generation(struct catalogue *c, const struct set_id *id, uint64_t generation)
{
    struct read_slot *s;
    struct rows_key bytes;
    struct header_record record;
    uint8_t set[SET_KEY_BYTES];
    if (read_begin(c, &s) < 0)
        return false;
    MDB_val key = rows_key(&bytes, generation, SECTION_HEADER, (struct text){0}), data;
    set_key(set, id, true);
    bool has = mdb_get(s->txn, s->store->rows, &key, &data) == 0 &&
               record_read(&data, MAGIC_HEADER, &record, sizeof(record), false) &&
               memcmp(record.set, set, sizeof(set)) == 0;
    read_end(s);
    return has && !pin_is_distrusted(c, generation);
}
