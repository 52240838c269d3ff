// SPDX-License-Identifier: BSD-3-Clause
// The mark: which state of the database is this?
//
// With a rollback journal (what the client makes) every commit raises the file change counter in the
// header. While a read transaction runs no page can change, so the header read then, through SQLite's
// own handle, is of the state that the transaction sees. The mark is a hash of the whole header (so
// that a restored copy with the same count still differs) and of the file's device and inode: the
// same in every process.
//
// In WAL mode the header is only written by checkpoints. What a state is there is the wal-index header
// (how many frames of which log), in the shared memory that SQLite has mapped. It may move on while
// a transaction runs; so it is read before the transaction begins and after, and only if it is the
// same does it name the transaction's state. An empty log looks like any other empty log: so such
// a mark has a number of this process in it and means nothing to another.
#include <pthread.h>
#include <string.h>
#include <sys/random.h>

#include "base/hash.h"
#include "base/log.h"
#include "meta/registry/sqlite_internal.h"

#define HEADER_BYTES 100
#define HEADER_READ_VERSION_AT 19 // 1: rollback journal, 2: WAL
#define WAL_REGION_BYTES (32 * 1024)

static uint64_t process_number; // written once
static pthread_once_t process_number_once = PTHREAD_ONCE_INIT;

static void draw_process_number(void)
{
    check(getentropy(&process_number, sizeof process_number) == 0);
}

static sqlite3_file *file_of(struct sqlite *q)
{
    sqlite3_file *file = NULL;
    if (sqlite3_file_control(q->db, "main", SQLITE_FCNTL_FILE_POINTER, &file) != SQLITE_OK)
        return NULL;
    return file && file->pMethods ? file : NULL;
}

void sqlite_wal_header(struct sqlite *q, struct wal_header *ret_header)
{
    ret_header->is_known = false;
    // Only after a transaction was run in this mode: then SQLite has mapped it, and asking for it
    // again opens nothing.
    sqlite3_file *file = q->is_wal ? file_of(q) : NULL;
    void volatile *region = NULL;
    if (!file || file->pMethods->iVersion < 2 ||
        file->pMethods->xShmMap(file, 0, WAL_REGION_BYTES, 0, &region) != SQLITE_OK || !region)
        return;
    // Two copies stand one after the other; a writer writes the second first.
    uint8_t second[WAL_HEADER_BYTES];
    memcpy(ret_header->bytes, (const void *)region, WAL_HEADER_BYTES);
    file->pMethods->xShmBarrier(file);
    memcpy(second, (const uint8_t *)region + WAL_HEADER_BYTES, WAL_HEADER_BYTES);
    ret_header->is_known = memcmp(ret_header->bytes, second, WAL_HEADER_BYTES) == 0;
}

static int read_wal_mark(struct sqlite *q, const struct wal_header *before, uint64_t *ret_mark)
{
    struct wal_header after;
    bool was_wal = q->is_wal;
    q->is_wal = true;
    sqlite_wal_header(q, &after);
    if (!was_wal || (before->is_known && after.is_known &&
                     memcmp(before->bytes, after.bytes, WAL_HEADER_BYTES) != 0))
        return -EAGAIN;
    *ret_mark = 0;
    if (!before->is_known || !after.is_known)
        return 0;
    struct {
        uint64_t device, inode, process;
        uint8_t header[WAL_HEADER_BYTES];
    } state = {.device = q->device, .inode = q->inode};
    pthread_once(&process_number_once, draw_process_number);
    state.process = process_number;
    memcpy(state.header, after.bytes, WAL_HEADER_BYTES);
    uint64_t mark = hash64(&state, sizeof state);
    *ret_mark = mark ? mark : 1;
    return 0;
}

int sqlite_read_mark(struct sqlite *q, const struct wal_header *before, uint64_t *ret_mark)
{
    struct {
        uint64_t device, inode;
        uint8_t header[HEADER_BYTES + 4]; // no padding: it is hashed
    } state = {.device = q->device, .inode = q->inode};
    if (!q->version) {
        int rc = sqlite3_prepare_v3(q->db, "PRAGMA data_version", -1, SQLITE_PREPARE_PERSISTENT,
                                    &q->version, NULL);
        if (rc != SQLITE_OK)
            return sqlite_error(q, rc);
    }
    int r = sqlite_step(q, q->version); // takes the read lock, if it isn't held
    sqlite3_reset(q->version);
    if (r < 0)
        return r;
    sqlite3_file *file = file_of(q);
    if (!file || file->pMethods->xRead(file, state.header, HEADER_BYTES, 0) != SQLITE_OK) {
        *ret_mark = 0;
        return 0;
    }
    if (state.header[HEADER_READ_VERSION_AT] == 2)
        return read_wal_mark(q, before, ret_mark);
    q->is_wal = false;
    uint64_t mark = hash64(&state, sizeof state);
    *ret_mark = mark ? mark : 1;
    return 0;
}

int sqlite_mark(struct registry *r, uint64_t *ret_mark)
{
    struct sqlite *q = sqlite_of_registry(r);
    uint64_t mark;
    int result = sqlite_enter_verb(&q->sql);
    if (result == 0)
        result = sqlite_begin_marked(q, &mark);
    if (result < 0)
        return result;
    sqlite_end(&q->sql);
    *ret_mark = mark;
    return 0;
}
