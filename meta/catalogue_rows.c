// SPDX-License-Identifier: BSD-3-Clause
// catalogue_rows: reading rows, and keeping single answers.
// 1. Blocks of a section don't overlap: a key can only be in the last block whose first key is <=
//    it.
// 2. A block that is not well-formed makes its whole generation distrusted: it counts as absent,
//    and the next who asks has it made anew. Never is "not in this block" answered from a bad one.
// 3. A partial generation has one block a row, and one small record a folder.
#include "meta/catalogue_block.h"
#include "meta/catalogue_store.h"

#include "base/log.h"

#define ANSWER_MAGIC 0x6266

// A folder's answer; `kind` is an enum row_kind.
struct folder_record {
    uint16_t magic;
    uint8_t version, length_bytes;
    uint32_t kind;
};

// Reading blocks.

struct block_at {
    uint64_t generation;
    MDB_cursor *cursor;
    struct text first; // key of the block
    struct text record;
};

static int block_current(struct block_at *at, int rc, MDB_val *key, MDB_val *data)
{
    if (rc)
        return rc;
    if (!rows_key_is(key, at->generation, SECTION_ROWS, &at->first))
        return MDB_NOTFOUND;
    at->record = text_of_val(data);
    return 0;
}

// The last block whose first key is <= `key`, else the first block that is there.
static int block_floor(struct block_at *at, struct text key)
{
    struct rows_key bytes;
    struct text first;
    MDB_val k = rows_key(&bytes, at->generation, SECTION_ROWS, key), data;
    int rc = mdb_cursor_get(at->cursor, &k, &data, MDB_SET_RANGE);
    if (rc && rc != MDB_NOTFOUND)
        return rc;
    bool is_here = !rc && rows_key_is(&k, at->generation, SECTION_ROWS, &first);
    if (is_here && text_equal(first, key))
        return block_current(at, 0, &k, &data);
    int back = mdb_cursor_get(at->cursor, &k, &data, rc ? MDB_LAST : MDB_PREV);
    if (!back && rows_key_is(&k, at->generation, SECTION_ROWS, &first))
        return block_current(at, 0, &k, &data);
    if (!is_here)
        return MDB_NOTFOUND;
    rc = mdb_cursor_get(at->cursor, &k, &data, back ? MDB_FIRST : MDB_NEXT);
    return block_current(at, rc, &k, &data);
}

static int block_after(struct block_at *at)
{
    MDB_val k, data;
    int rc = mdb_cursor_get(at->cursor, &k, &data, MDB_NEXT);
    return block_current(at, rc, &k, &data);
}

// One row. 0 with the row's bytes; MDB_NOTFOUND; -EBADMSG.
static int find_block_row(struct read_slot *s, uint64_t generation, struct text key,
                          struct block_row *ret_row)
{
    struct block_at at = {.generation = generation, .cursor = s->rows};
    struct block_reader reader;
    int rc = block_floor(&at, key);
    if (rc)
        return rc;
    if (text_compare(at.first, key) > 0)
        return MDB_NOTFOUND;
    int r = block_open(&reader, at.record);
    if (r == 0)
        r = block_seek(&reader, key, ret_row);
    if (r < 0)
        return r;
    return r == 1 && text_equal(key_text(&reader.key), key) ? 0 : MDB_NOTFOUND;
}

// The whole set, else the partial one, if it is good for `fresh`.
static int set_current(struct catalogue *c, struct read_slot *s, const struct set_id *id,
                       uint64_t fresh, struct set_state *ret_state)
{
    int rc = set_read(c, s->store, s->txn, id, true, ret_state);
    if (rc == MDB_NOTFOUND || (!rc && ret_state->epoch < fresh))
        rc = set_read(c, s->store, s->txn, id, false, ret_state);
    return !rc && ret_state->epoch < fresh ? MDB_NOTFOUND : rc;
}

int catalogue_find_row(struct catalogue *c, const struct set_id *id, uint64_t fresh,
                       const struct key *k, enum row_kind *ret_kind, struct row *ret_row,
                       struct buffer *scratch)
{
    struct read_slot *s;
    struct set_state state;
    struct block_row b;
    int r = read_begin(c, &s);
    if (r < 0)
        return r;
    int rc = set_current(c, s, id, fresh, &state);
    if (!rc) {
        rc = find_block_row(s, state.generation, key_text(k), &b);
        if (!rc && !b.is_hidden)
            rc = row_copy(key_text(k), &b, ret_row, scratch);
        if (!rc)
            *ret_kind = b.is_ambiguous ? ROW_AMBIGUOUS : b.is_hidden ? ROW_HIDDEN : ROW_VISIBLE;
        if (rc == MDB_NOTFOUND && state.is_whole) {
            *ret_kind = ROW_HIDDEN;
            rc = 0;
        }
    }
    read_end(s);
    if (rc == -EBADMSG) {
        pin_distrust(c, state.generation);
        return -ENOENT;
    }
    return store_errno(rc);
}

// In a whole set a folder is there if a visible row, or one that is ambiguous, is below it.
static int find_folder_whole(struct read_slot *s, uint64_t generation, struct text prefix,
                             enum row_kind *ret_kind)
{
    struct block_at at = {.generation = generation, .cursor = s->rows};
    struct block_reader reader;
    struct block_row row;
    *ret_kind = ROW_REFUSED;
    int rc = block_floor(&at, prefix);
    if (rc)
        return rc == MDB_NOTFOUND ? 0 : rc;
    int r = block_open(&reader, at.record);
    if (r == 0)
        r = block_seek(&reader, prefix, &row);
    if (r == 0 && (rc = block_after(&at)) == 0) {
        *ret_kind = text_begins(at.first, prefix) ? ROW_ENTERED : ROW_REFUSED;
        return 0;
    }
    if (r == 1)
        *ret_kind = text_begins(key_text(&reader.key), prefix) ? ROW_ENTERED : ROW_REFUSED;
    return r < 0 ? r : rc == MDB_NOTFOUND ? 0 : rc;
}

static int find_folder_answer(struct read_slot *s, uint64_t generation, struct text prefix,
                              enum row_kind *ret_kind)
{
    struct rows_key bytes;
    struct folder_record record;
    MDB_val k = rows_key(&bytes, generation, SECTION_FOLDERS, prefix), data;
    int rc = mdb_get(s->txn, s->store->rows, &k, &data);
    if (rc)
        return rc;
    if (data.mv_size != sizeof(record))
        return MDB_NOTFOUND;
    memcpy(&record, data.mv_data, sizeof(record));
    if (record.magic != ANSWER_MAGIC || record.version != 1 ||
        record.length_bytes != sizeof(record) ||
        (record.kind != ROW_ENTERED && record.kind != ROW_REFUSED))
        return MDB_NOTFOUND;
    *ret_kind = record.kind;
    return 0;
}

int catalogue_find_folder(struct catalogue *c, const struct set_id *id, uint64_t fresh,
                          const struct key *prefix, enum row_kind *ret_kind)
{
    struct read_slot *s;
    struct set_state state;
    int r = read_begin(c, &s);
    if (r < 0)
        return r;
    int rc = set_current(c, s, id, fresh, &state);
    if (!rc)
        rc = state.is_whole ? find_folder_whole(s, state.generation, key_text(prefix), ret_kind)
                            : find_folder_answer(s, state.generation, key_text(prefix), ret_kind);
    read_end(s);
    if (rc == -EBADMSG) {
        pin_distrust(c, state.generation);
        return -ENOENT;
    }
    return store_errno(rc);
}

// Scanning.

struct scan {
    struct block_at at;
    struct block_reader reader;
    struct block_row row;
    struct text prefix;
};

// All of these: 1 with a row, 0 at the end, or -errno.

static int scan_in_next_block(struct scan *scan)
{
    int rc = block_after(&scan->at);
    if (!rc)
        rc = block_open(&scan->reader, scan->at.record);
    if (rc)
        return rc == MDB_NOTFOUND ? 0 : store_errno(rc);
    return block_next(&scan->reader, &scan->row);
}

static int scan_next(struct scan *scan)
{
    int got = block_next(&scan->reader, &scan->row);
    return got == 0 ? scan_in_next_block(scan) : got;
}

// The first row whose key is >= target.
static int scan_from(struct scan *scan, struct text target)
{
    int rc = block_floor(&scan->at, target);
    if (!rc)
        rc = block_open(&scan->reader, scan->at.record);
    if (rc)
        return rc == MDB_NOTFOUND ? 0 : store_errno(rc);
    int got = block_seek(&scan->reader, target, &scan->row);
    return got == 0 ? scan_in_next_block(scan) : got;
}

// The smallest bytes that are greater than all that begin with the first `size_bytes` of k; false:
// there are none.
static bool key_successor(struct key *k, size_t size_bytes)
{
    k->size_bytes = (uint16_t)(size_bytes < k->size_bytes ? size_bytes : k->size_bytes);
    while (k->size_bytes && k->bytes[k->size_bytes - 1] == 0xff)
        k->size_bytes--;
    if (k->size_bytes)
        k->bytes[k->size_bytes - 1]++;
    return k->size_bytes > 0;
}

// Jumps behind all rows that share `skip_bytes`: mostly they end in this block.
static int scan_skip(struct scan *scan, size_t skip_bytes)
{
    struct key target;
    key_set(&target, key_text(&scan->reader.key));
    if (!key_successor(&target, skip_bytes))
        return 0;
    int got = block_seek(&scan->reader, key_text(&target), &scan->row);
    return got == 0 ? scan_from(scan, key_text(&target)) : got;
}

static int scan_start(struct scan *scan, const struct row_cursor *cursor)
{
    struct key target;
    bool from_start = !cursor->is_begun || text_compare(key_text(&cursor->key), scan->prefix) < 0;
    key_set(&target, from_start ? scan->prefix : key_text(&cursor->key));
    int got = scan_from(scan, key_text(&target));
    if (got == 1 && !from_start && !cursor->is_seek &&
        text_equal(key_text(&scan->reader.key), key_text(&target)))
        got = scan_next(scan);
    return got;
}

// Where to go on later. After a skip the place is the successor's, whether a row has it or not.
static void cursor_set(struct row_cursor *cursor, const struct key *k, int answer,
                       size_t skip_bytes)
{
    cursor->is_begun = true;
    key_set(&cursor->key, key_text(k));
    cursor->is_seek = answer == ROW_STOP_BEFORE;
    if (answer != ROW_STOP_BEFORE && skip_bytes)
        cursor->is_seek = key_successor(&cursor->key, skip_bytes);
}

static int scan_run(struct scan *scan, struct row_cursor *cursor, row_each *each, void *context)
{
    BUFFER_CLEANUP scratch = {0};
    struct row row;
    size_t skip = 0;
    int got = cursor->is_end ? 0 : scan_start(scan, cursor);
    while (got == 1 && text_begins(key_text(&scan->reader.key), scan->prefix)) {
        if (scan->row.is_hidden) {
            got = scan_next(scan);
            continue;
        }
        buffer_clear(&scratch);
        int r = row_from_block(key_text(&scan->reader.key), &scan->row, &row, &scratch);
        if (r < 0)
            return r;
        skip = 0;
        r = each(&row, &scan->reader.key, &skip, context);
        if (r) {
            if (r > 0)
                cursor_set(cursor, &scan->reader.key, r, skip);
            return r > 0 ? 1 : r;
        }
        got = skip ? scan_skip(scan, skip) : scan_next(scan);
    }
    cursor->is_end = got >= 0;
    return got < 0 ? got : 0;
}

int catalogue_scan(struct catalogue *c, uint64_t generation, const struct key *prefix,
                   struct row_cursor *cursor, row_each *each, void *context)
{
    struct read_slot *s;
    int r = read_begin(c, &s);
    if (r < 0)
        return r;
    struct scan scan = {.at = {.generation = generation, .cursor = s->rows},
                        .prefix = key_text(prefix)};
    r = scan_run(&scan, cursor, each, context);
    read_end(s);
    if (r == -EBADMSG)
        pin_distrust(c, generation);
    return r;
}

// Answers.

struct answer_put {
    const struct set_id *id;
    uint64_t epoch;
    const struct key *key;
    enum row_kind kind;
    struct text record; // a block, or a folder's record
};

static int put_answer_body(struct write *w, void *context)
{
    const struct answer_put *put = context;
    struct set_state state;
    int rc = set_read(w->c, w->store, w->txn, put->id, true, &state);
    if (!rc && state.epoch >= put->epoch)
        return 0; // it is in there
    if (!rc || rc == MDB_NOTFOUND)
        rc = set_read(w->c, w->store, w->txn, put->id, false, &state);
    if ((rc && rc != MDB_NOTFOUND) || (!rc && state.epoch > put->epoch))
        return rc;
    if (rc == MDB_NOTFOUND || state.epoch < put->epoch) {
        state = (struct set_state){.generation = atomic_fetch_add(&w->c->next_generation, 1),
                                   .epoch = put->epoch};
        rc = header_write(w, state.generation, put->id) ?: set_write(w, put->id, &state);
        if (rc)
            return rc;
    }
    bool is_row = put->kind == ROW_VISIBLE || put->kind == ROW_HIDDEN;
    struct rows_key bytes;
    MDB_val key = rows_key(&bytes, state.generation, is_row ? SECTION_ROWS : SECTION_FOLDERS,
                           key_text(put->key));
    MDB_val data = val_of(put->record);
    return mdb_put(w->txn, w->store->rows, &key, &data, 0);
}

int catalogue_put_answer(struct catalogue *c, const struct set_id *id, uint64_t epoch,
                         const struct key *k, enum row_kind kind, const struct row *row)
{
    struct folder_record folder = {
        .magic = ANSWER_MAGIC, .version = 1, .length_bytes = sizeof(folder), .kind = kind};
    struct answer_put put = {.id = id,
                             .epoch = epoch,
                             .key = k,
                             .kind = kind,
                             .record = {(const char *)&folder, sizeof(folder)}};
    if (kind == ROW_ENTERED || kind == ROW_REFUSED)
        return catalogue_write(c, put_answer_body, &put);
    BUFFER_CLEANUP record = {0};
    int r = row_pack(k, kind, row, &record);
    if (r < 0)
        return r;
    put.record = buffer_text(&record);
    return catalogue_write(c, put_answer_body, &put);
}
