// SPDX-License-Identifier: BSD-3-Clause
// store: the block cache on disk. It keeps blocks of versions of objects, each with its checksum,
// within bounds, and gives them back as they were or not at all. It knows no network: what is
// missing or was found bad is fetched by its user (the engine) and written again.
//
//              create             the last block is marked       the whole checksum is right
//   (nothing) ────────▶ PARTIAL ───────────────────────▶ FULL ──────────────────────────────▶ COMPLETE
//                          ▲ ▲                             │ a block was bad    a block was bad  │
//                          │ └─────────────────────────────┘                                    │
//                          └────────────────── in a new file, with the blocks that are good ────┘
//   any of them ──▶ DYING ──▶ (nothing)     replaced, dropped, of another whole checksum; its files
//                                           have no name any more, who has it open goes on with them
//
// Any function from any thread, unless it says otherwise. "Disk": may read, write or name files in
// the cache's folder, so it takes as long as that disk takes (microseconds as a rule). None of them
// waits for another thread's disk work for long, or for a network. Callbacks are called with no lock
// held. **Every error means the same to the engine: go on from the origin, without the store**; what
// there is to log was logged (once, not for each block).
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "base/text.h"

#define CACHE_BLOCK_BYTES ((size_t)128 << 10)
#define STORED_SIZE_MAX ((uint64_t)1 << 46)
#define STORED_ORIGIN_BYTES_MAX 512
#define STORED_KEY_BYTES_MAX 2048
#define STORED_VALIDATOR_BYTES_MAX 512
#define STORED_CHECKSUM_BYTES_MAX 160

struct block_store;
struct stored;
struct store_faults; // for tests: store_disk.h

// ---- the store

struct block_store_options {
    const char *folder;         // made if it isn't there (its parent must be); the store's alone
    uint64_t limit_bytes;       // of disk, as the file system counts it
    uint32_t limit_objects;     // two files each
    uint64_t reserve_bytes;     // left free on the file system for others
    uint64_t pin_limit_bytes;   // sizes of pinned objects in sum
    uint64_t scrub_bytes_per_s; // of the slow check of everything; 0: none
    struct store_faults *faults; // NULL but in tests
};

// Takes the folder for this process and starts the store's threads (store-keeper, store-checker). It
// can be used at once; what an earlier life left is counted meanwhile. Disk.
// -EBUSY: another process has it. Else as open(2), mkdir(2). *ret_why: allocated, for the log.
int block_store_open(const struct block_store_options *options, struct block_store **ret_store,
                     char **ret_why);
// A store that holds nothing and refuses everything (no folder could be had): for an engine that
// need not know.
struct block_store *block_store_open_none(void);
// With no handle, writer or waiter of it left. Leaves a summary for the next life.
void block_store_close(struct block_store *b);
define_cleanup(struct block_store *, block_store_close);

// ---- one version of an object

// What a version is. Same identity, validator and size: the same bytes.
struct stored_version {
    uint8_t identity[16];   // of the object: hash128(origin's identity, key)
    struct text origin;     // for people; no credentials in it
    struct text key;
    struct text validator;  // ETag, version id, or whatever tells versions apart
    uint64_t size_bytes;    // known: a version of unknown size is not stored
    int64_t mtime_ns;       // the origin's
    struct text checksum;   // of the whole, or empty: "blake2b:", "sha256:", "sha1:", "crc32:",
                            // "crc32c:" or "crc64nvme:" and hex or base64. Others are as if empty
};

enum stored_state {
    STORED_PARTIAL,
    STORED_FULL,     // every block is there; the whole checksum is still being looked at
    STORED_COMPLETE,
    STORED_DYING,
};

// What there is of an object, of whatever version. The caller owns the handle (stored_unref); all
// that have one of the same version have the same. Disk, unless somebody has it open.
// -ENOENT: nothing.
int block_store_find(struct block_store *b, const uint8_t identity[16], struct stored **ret_stored);
// The handle of that version: as it is, or new and empty. Another version of the object is replaced:
// whoever has it open keeps it, nobody finds it any more. Copies what it needs of `version`. Disk.
// -ENOSPC: no room, too large, too many, or the disk is not to be used now.
int block_store_create(struct block_store *b, const struct stored_version *version,
                       struct stored **ret_stored);
struct stored *stored_ref(struct stored *s);
void stored_unref(struct stored *s);
define_cleanup(struct stored *, stored_unref);

// Valid as long as the handle.
const struct stored_version *stored_version(const struct stored *s);
enum stored_state stored_state(struct stored *s);
// Somebody opened the object: what eviction goes by. One call an open of a user, not one a read.
void stored_touch(struct stored *s);
// Never evicted while pinned; survives restarts. Disk. -EDQUOT: more than may be pinned. -ESTALE: it
// is dying.
int stored_pin(struct stored *s, bool is_pinned);
bool stored_is_pinned(struct stored *s);
// It is dying because the whole isn't what its checksum says.
bool stored_is_wrong(struct stored *s);
// Forgets it, pinned or not: it is dying. Disk.
void stored_drop(struct stored *s);
int block_store_drop(struct block_store *b, const uint8_t identity[16]); // -ENOENT

// ---- which blocks are there

// An answer may be outdated when it arrives: blocks come by writers and go when they are found bad.
uint32_t stored_block_count(const struct stored *s);   // ceil(size / CACHE_BLOCK_BYTES)
uint32_t stored_blocks_present(struct stored *s);
bool stored_has(struct stored *s, uint32_t block);
// The first block in [from, to) that is missing (is there); `to`: none.
uint32_t stored_next_missing(struct stored *s, uint32_t from, uint32_t to);
uint32_t stored_next_present(struct stored *s, uint32_t from, uint32_t to);

// ---- writing: bytes as they arrive

struct stored_claim {
    LIST_ENTRY(stored_claim) link;
    uint32_t block, count;
};

// Bytes in order from the beginning of a block on, in pieces of any size. The owner's memory (a
// flight's), not moved between begin and end, used by one thread at a time; fields are the store's.
// It holds a reference. Different writers of one object may run at once. Of two that come to the
// same block one writes it and the other passes over it: no harm, but a waste.
struct stored_writer {
    struct stored *stored;
    struct stored_claim claim;
    int error;             // sticky
    bool is_skipping;      // this block is there already, or another's
    uint32_t block;        // being written
    uint32_t filled_bytes; // of it
    uint32_t reserved_bytes;
    struct hash_stream hash;
    int direct_fd;         // of the file of that serial; -1: none
    uint32_t direct_serial;
};

void stored_write_begin(struct stored *s, uint32_t first_block, struct stored_writer *ret_writer);
// Disk. Returns how many blocks came to be there by it (marked: data before mark), >= 0. The
// last block of an object is whole when its last byte is; what follows is refused (-EINVAL).
// -ENOSPC: no room (eviction was tried); -EIO and others: the disk. Then the rest of this writer's
// bytes is not kept, each further call says the same at once and costs nothing.
// Completing an object may begin the look at its whole checksum, on the store's own thread.
int stored_write(struct stored_writer *w, const void *data, size_t size_bytes);
// The same of whole blocks, each in its own memory, from the beginning of one on. Where many are given at once that were
// `was_given` to readers already and begin at a page in memory, they go to the disk past the page cache, which costs less.
// `hashes`: hash64 of each, made when they came: then they were in the processor's cache.
#define STORED_RUN_BLOCKS 8
int stored_write_blocks(struct stored_writer *w, const struct iovec *blocks, const uint64_t *hashes, uint32_t count,
                        bool was_given);
// A block that isn't whole is as if it had never been begun.
void stored_write_end(struct stored_writer *w);

// ---- reading: checked blocks

// Reads [offset, offset + size_bytes), less where the object ends; every block it touches is read as
// a whole and its checksum compared before a byte is given out. `scratch`: CACHE_BLOCK_BYTES of the
// caller's, for blocks of which only a part is wanted. The buffer may have been written to also when
// it fails. Disk.
// >= 0: bytes. -ENODATA: a block is missing. -EBADMSG: one was bad (or couldn't be read); counted,
// logged, and missing from now on: fetch it. Repair of a complete object makes a new file; a large
// one's is made in the background, and what is written until then is refused (-EBUSY, as any error).
ssize_t stored_read(struct stored *s, void *buffer, size_t size_bytes, uint64_t offset,
                    void *scratch);

// ---- passthrough

// The file with exactly the object's bytes, if it is complete and was checked in this life and has
// the size and times that were recorded then: a descriptor for reading, which the caller closes. The
// file is never changed again; when it is to go it is unlinked. Disk (an fstat and a dup).
// -ENODATA: not complete. -EINPROGRESS: it must be checked first. -EMFILE.
int stored_passthrough_fd(struct stored *s, int *ret_fd);
// How many bytes a check would have to read: 0 when the descriptor can be had.
uint64_t stored_unchecked_bytes(struct stored *s);

struct stored_waiter {
    void (*done)(struct stored_waiter *w, int error);
    struct stored_waiter *next; // the store's
};

// Checks all that must be before passthrough, on store-checker; everybody's checks of one object are
// one. `w` is called exactly once, by that thread, or (at once, before this returns) by the caller's
// when there is nothing to do. It may call anything, also stored_unref.
// 0: complete and checked. -ENODATA: not all blocks are there. -EBADMSG: bad blocks were found (they
// are missing now). -EILSEQ: the whole isn't what its checksum says: it is dying, and so would be
// what the same origin gives again. -ESTALE: it is dying for another reason.
void stored_check(struct stored *s, struct stored_waiter *w);
// The checksum of a complete object that had none, learnt since: the next check compares it. false: there is one already, or
// this one can't be compared.
bool stored_expect(struct stored *s, struct text checksum);
// true: it will not be called.
bool stored_check_cancel(struct stored *s, struct stored_waiter *w);

// ---- the operator's hand

struct stored_info { // valid during the call
    const struct stored_version *version;
    uint32_t block_count;
    uint32_t blocks_present;
    uint64_t disk_bytes;
    bool is_complete;
    bool is_pinned;
    bool is_open;
};

// Gives up to `max` objects to `each`, in no order; *cursor starts at 0. What comes or goes meanwhile
// may be missed, nothing is given twice. Returns how many; 0: that was all. Disk.
uint32_t block_store_list(struct block_store *b, uint64_t *cursor, uint32_t max,
                          void (*each)(const struct stored_info *info, void *context),
                          void *context);

struct block_store_verified {
    uint64_t objects;
    uint64_t blocks;
    uint64_t bytes;
    uint64_t bad_blocks; // missing now
};

// Reads and checks everything now, as fast as the disk gives it, in the calling thread, which may
// take hours. `progress` is called after each object with the sums so far; false ends it
// (-ECANCELED).
int block_store_verify(struct block_store *b,
                       bool (*progress)(const struct block_store_verified *sums, void *context),
                       void *context, struct block_store_verified *ret_sums);

struct block_store_status {
    const char *folder;          // NULL: none (block_store_open_none)
    uint64_t limit_bytes;
    uint64_t used_bytes;         // on disk, as far as counted
    uint64_t dying_bytes;        // of it: no name any more, still open
    uint64_t pinned_bytes;       // sizes
    uint64_t pin_limit_bytes;
    uint64_t free_bytes;         // of the file system, when last looked at
    uint64_t reserve_bytes;
    uint32_t limit_objects;
    uint32_t objects;
    uint32_t open_objects;       // handles
    bool is_counted;             // what earlier lives left is counted
    int trouble;                 // -errno for which nothing is written now; 0: none
    uint64_t scrubbed_bytes;     // of the present round
    int64_t scrubbed_unix_ns;    // end of the last whole round; 0: none yet
};

void block_store_status(struct block_store *b, struct block_store_status *ret_status);
