// SPDX-License-Identifier: BSD-3-Clause
// ledger_store: see ledger_store.h.
// 1. One process has it (flock on `owner`, gone with the process), one thread at a time: LMDB's own locks aren't used.
// 2. Every commit is synced. A record is magic, version, length and numbers, and is checked: one that isn't well-formed
//    makes opening fail, as no limit may get lost without a word.
#include "meta/ledger_store.h"

#include <fcntl.h>
#include <lmdb.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/log.h"
#include "meta/catalogue_store.h"
#include "meta/ledger_map.h"

#define SIZE_MAX_BYTES (4LL << 30)
#define KEY_BYTES 9
#define MAGIC_LIMITS 0x4c6c
#define MAGIC_CHECKPOINT 0x4c63
#define MAGIC_STATE 0x4c73

struct ledger_store {
    MDB_env *env;
    MDB_dbi limits, usage, state;
    int folder_fd, owner_fd;
};

struct limits_record {
    struct record_head head;
    struct ledger_limits limits; // the path follows
};

struct checkpoint_record {
    struct record_head head;
    int64_t used_bytes, used_files;
    int64_t over_unix_ns[2];
    uint64_t is_marked;
};

struct state_record {
    struct record_head head;
    uint64_t is_uncounted;
    uint8_t identity[16];
};

// ---- records -----------------------------------------------------------------------------------------------

static void id_write(uint8_t key[KEY_BYTES], enum ledger_kind kind, uint64_t id)
{
    key[0] = (uint8_t)kind;
    record_put_number(key + 1, id, 8);
}

static int id_read(struct text key, struct ledger_id *ret_id)
{
    const uint8_t *k = (const uint8_t *)key.data;
    if (key.size_bytes != KEY_BYTES || k[0] >= LEDGER_KINDS)
        return -EBADMSG;
    ret_id->kind = k[0];
    ret_id->id = 0;
    for (int i = 1; i < KEY_BYTES; i++)
        ret_id->id = ret_id->id << 8 | k[i];
    return 0;
}

static bool amounts_are_in(const int64_t *a, size_t count, int64_t min)
{
    for (size_t i = 0; i < count; i++)
        if (a[i] < min || a[i] > MAP_AMOUNT_MAX)
            return false;
    return true;
}

int ledger_limits_decode(struct text key, struct text record, struct ledger_id *ret_id,
                         struct ledger_limits *ret_limits, struct text *ret_path)
{
    struct limits_record r;
    MDB_val v = val_of(record);
    if (!record_read(&v, MAGIC_LIMITS, &r, sizeof(r), true) || r.head.length_bytes != record.size_bytes ||
        record.size_bytes - sizeof(r) > LEDGER_PATH_MAX ||
        !amounts_are_in((const int64_t *)&r.limits, sizeof(r.limits) / sizeof(int64_t), 0))
        return -EBADMSG;
    int e = id_read(key, ret_id);
    if (e < 0)
        return e;
    *ret_limits = r.limits;
    *ret_path = text_slice(record, sizeof(r), record.size_bytes);
    return 0;
}

int ledger_checkpoint_decode(struct text key, struct text record, struct ledger_checkpoint *ret_checkpoint)
{
    struct checkpoint_record r;
    struct ledger_id id;
    MDB_val v = val_of(record);
    if (!record_read(&v, MAGIC_CHECKPOINT, &r, sizeof(r), false) || r.is_marked > 1 ||
        !amounts_are_in(r.over_unix_ns, 2, 0))
        return -EBADMSG;
    int e = id_read(key, &id);
    if (e < 0 || id.id == LEDGER_DEFAULT)
        return -EBADMSG;
    if (!amounts_are_in((const int64_t[]){r.used_bytes, r.used_files}, 2, -MAP_AMOUNT_MAX)) {
        r.used_bytes = r.used_files = 0; // it can't be true: to be counted again
        r.is_marked = 1;
    }
    *ret_checkpoint = (struct ledger_checkpoint){id.kind, id.id, r.used_bytes, r.used_files,
                                                 {r.over_unix_ns[0], r.over_unix_ns[1]}, r.is_marked};
    return 0;
}

// ---- opening -----------------------------------------------------------------------------------------------

static int why_store(char **ret_why, const char *folder, const char *what, int r)
{
    struct buffer why = {0};
    buffer_format(&why, "ledger %s: %s: %s", folder, what, strerror(-r));
    *ret_why = buffer_steal(&why);
    return r;
}

static int folder_open(struct ledger_store *s, const char *folder, char **ret_why)
{
    if (mkdir(folder, 0700) < 0 && errno != EEXIST)
        return why_store(ret_why, folder, "can't be made", -errno);
    s->folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->folder_fd < 0)
        return why_store(ret_why, folder, "can't be used", -errno);
    s->owner_fd = openat(s->folder_fd, "owner", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (s->owner_fd < 0)
        return why_store(ret_why, folder, "can't be written", -errno);
    if (flock(s->owner_fd, LOCK_EX | LOCK_NB) < 0)
        return why_store(ret_why, folder, "another butlerfs has it", errno == EWOULDBLOCK ? -EBUSY : -errno);
    return 0;
}

static int databases_open(struct ledger_store *s)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(s->env, NULL, 0, &txn);
    if (rc)
        return rc;
    rc = mdb_dbi_open(txn, "limits", MDB_CREATE, &s->limits);
    if (!rc)
        rc = mdb_dbi_open(txn, "usage", MDB_CREATE, &s->usage);
    if (!rc)
        rc = mdb_dbi_open(txn, "state", MDB_CREATE, &s->state);
    if (rc) {
        mdb_txn_abort(txn);
        return rc;
    }
    return mdb_txn_commit(txn);
}

static int env_open(struct ledger_store *s, const char *folder)
{
    size_t page_bytes;
    int rc = mdb_env_create(&s->env);
    if (rc)
        return store_errno(rc);
    mdb_env_set_maxdbs(s->env, 4);
    mdb_env_set_mapsize(s->env, (size_t)SIZE_MAX_BYTES);
    rc = mdb_env_open(s->env, folder, MDB_NOLOCK | MDB_NOTLS, 0600);
    if (rc)
        return store_errno(rc);
    rc = store_check_length(s->env, &page_bytes);
    return rc == MDB_CORRUPTED ? -EBADMSG : store_errno(rc ? rc : databases_open(s));
}

int ledger_store_open(const char *folder, struct ledger_store **ret_store, char **ret_why)
{
    struct ledger_store *s = new_struct(struct ledger_store);
    s->folder_fd = s->owner_fd = -1;
    int r = folder_open(s, folder, ret_why);
    if (r == 0) {
        r = env_open(s, folder);
        if (r < 0)
            why_store(ret_why, folder, "its limits can't be read", r);
    }
    if (r < 0) {
        ledger_store_close(s);
        return r;
    }
    *ret_store = s;
    return 0;
}

void ledger_store_close(struct ledger_store *s)
{
    if (!s)
        return;
    if (s->env)
        mdb_env_close(s->env);
    cleanup_close(&s->owner_fd);
    cleanup_close(&s->folder_fd);
    free(s);
}

int ledger_store_folder(const struct ledger_store *s)
{
    return s->folder_fd;
}

// ---- reading -----------------------------------------------------------------------------------------------

typedef int record_each(struct text key, struct text record, void *context);

static int read_all(struct ledger_store *s, MDB_dbi dbi, record_each *each, void *context)
{
    MDB_txn *txn;
    MDB_cursor *cursor;
    MDB_val key, value;
    int rc = mdb_txn_begin(s->env, NULL, MDB_RDONLY, &txn);
    if (rc)
        return store_errno(rc);
    rc = mdb_cursor_open(txn, dbi, &cursor);
    if (!rc) {
        while (!(rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT))) {
            rc = each(text_of_val(&key), text_of_val(&value), context);
            if (rc)
                break;
        }
        mdb_cursor_close(cursor);
    }
    mdb_txn_abort(txn);
    return rc == MDB_NOTFOUND ? 0 : store_errno(rc);
}

struct checkpoints_to {
    ledger_checkpoint_each *each;
    void *context;
};

static int give_checkpoint(struct text key, struct text record, void *context)
{
    struct checkpoints_to *to = context;
    struct ledger_checkpoint c;
    int r = ledger_checkpoint_decode(key, record, &c);
    if (r == 0)
        to->each(&c, to->context);
    return r;
}

int ledger_store_checkpoints(struct ledger_store *s, ledger_checkpoint_each *each, void *context)
{
    return read_all(s, s->usage, give_checkpoint, &(struct checkpoints_to){each, context});
}

struct limits_to {
    ledger_limits_each *each;
    void *context;
};

static int give_limits(struct text key, struct text record, void *context)
{
    struct limits_to *to = context;
    struct ledger_id id;
    struct ledger_limits limits;
    struct text path;
    int r = ledger_limits_decode(key, record, &id, &limits, &path);
    if (r == 0)
        to->each(id.kind, id.id, &limits, path, to->context);
    return r;
}

int ledger_store_limits(struct ledger_store *s, ledger_limits_each *each, void *context)
{
    return read_all(s, s->limits, give_limits, &(struct limits_to){each, context});
}

struct found_state {
    struct ledger_state state;
    bool is_there;
};

static int take_state(struct text key, struct text record, void *context)
{
    struct state_record r;
    struct found_state *found = context;
    MDB_val v = val_of(record);
    if (!record_read(&v, MAGIC_STATE, &r, sizeof(r), false))
        return -EBADMSG;
    found->is_there = true;
    found->state.is_uncounted = r.is_uncounted != 0;
    memcpy(found->state.identity, r.identity, sizeof(r.identity));
    return 0;
}

int ledger_store_state(struct ledger_store *s, struct ledger_state *ret_state)
{
    struct found_state found = {0};
    int r = read_all(s, s->state, take_state, &found);
    if (r < 0)
        return r;
    *ret_state = found.state;
    return found.is_there ? 0 : -ENOENT;
}

// ---- writing -----------------------------------------------------------------------------------------------

typedef int write_body_rc(struct ledger_store *s, MDB_txn *txn, const void *context);

static int in_transaction(struct ledger_store *s, write_body_rc *body, const void *context)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(s->env, NULL, 0, &txn);
    if (rc)
        return store_errno(rc);
    rc = body(s, txn, context);
    if (rc) {
        mdb_txn_abort(txn);
        return store_errno(rc);
    }
    return store_errno(mdb_txn_commit(txn));
}

static int put_checkpoint(struct ledger_store *s, MDB_txn *txn, const struct ledger_checkpoint *c)
{
    uint8_t key[KEY_BYTES];
    struct checkpoint_record r = {record_head(MAGIC_CHECKPOINT, sizeof(r)), c->used_bytes, c->used_files,
                                  {c->over_unix_ns[0], c->over_unix_ns[1]}, c->is_marked};
    id_write(key, c->kind, c->id);
    return mdb_put(txn, s->usage, &(MDB_val){KEY_BYTES, key}, &(MDB_val){sizeof(r), &r}, 0);
}

struct checkpoints {
    const struct ledger_checkpoint *all;
    size_t count;
};

static int write_checkpoints(struct ledger_store *s, MDB_txn *txn, const void *context)
{
    const struct checkpoints *c = context;
    int rc = 0;
    for (size_t i = 0; i < c->count && !rc; i++)
        rc = put_checkpoint(s, txn, &c->all[i]);
    return rc;
}

int ledger_store_write(struct ledger_store *s, const struct ledger_checkpoint *all, size_t count)
{
    return count ? in_transaction(s, write_checkpoints, &(struct checkpoints){all, count}) : 0;
}

struct ids {
    const struct ledger_id *all;
    size_t count;
};

static int mark(struct ledger_store *s, MDB_txn *txn, const void *context)
{
    const struct ids *ids = context;
    int rc = 0;
    for (size_t i = 0; i < ids->count && !rc; i++) {
        uint8_t key[KEY_BYTES];
        struct ledger_checkpoint c = {.kind = ids->all[i].kind, .id = ids->all[i].id};
        id_write(key, c.kind, c.id);
        MDB_val k = {KEY_BYTES, key}, v;
        rc = mdb_get(txn, s->usage, &k, &v);
        if (!rc && ledger_checkpoint_decode(text_of_val(&k), text_of_val(&v), &c) < 0)
            return EBADMSG;
        if (rc && rc != MDB_NOTFOUND)
            return rc;
        c.is_marked = true;
        rc = put_checkpoint(s, txn, &c);
    }
    return rc;
}

int ledger_store_mark(struct ledger_store *s, const struct ledger_id *all, size_t count)
{
    return in_transaction(s, mark, &(struct ids){all, count});
}

static int write_state(struct ledger_store *s, MDB_txn *txn, const void *context)
{
    const struct ledger_state *state = context;
    struct state_record r = {.head = record_head(MAGIC_STATE, sizeof(r)), .is_uncounted = state->is_uncounted};
    memcpy(r.identity, state->identity, sizeof(r.identity));
    return mdb_put(txn, s->state, &(MDB_val){1, (char[]){0}}, &(MDB_val){sizeof(r), &r}, 0);
}

int ledger_store_set_state(struct ledger_store *s, const struct ledger_state *state)
{
    return in_transaction(s, write_state, state);
}

struct new_limits {
    struct ledger_id id;
    const struct ledger_limits *limits;
    struct text path;
};

static int write_limits(struct ledger_store *s, MDB_txn *txn, const void *context)
{
    const struct new_limits *n = context;
    uint8_t key[KEY_BYTES];
    id_write(key, n->id.kind, n->id.id);
    if (!n->limits) {
        int rc = mdb_del(txn, s->limits, &(MDB_val){KEY_BYTES, key}, NULL);
        return rc == MDB_NOTFOUND ? 0 : rc;
    }
    BUFFER_CLEANUP record = {0};
    struct limits_record r = {.limits = *n->limits};
    r.head = record_head(MAGIC_LIMITS, sizeof(r) + n->path.size_bytes);
    buffer_append(&record, &r, sizeof(r));
    buffer_append_text(&record, n->path);
    MDB_val v = val_of(buffer_text(&record));
    return mdb_put(txn, s->limits, &(MDB_val){KEY_BYTES, key}, &v, 0);
}

int ledger_store_limit(struct ledger_store *s, enum ledger_kind kind, uint64_t id, const struct ledger_limits *limits,
                       struct text path)
{
    if (path.size_bytes > LEDGER_PATH_MAX)
        return -ENAMETOOLONG;
    return in_transaction(s, write_limits, &(struct new_limits){{kind, id}, limits, path});
}
