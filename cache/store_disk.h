// SPDX-License-Identifier: BSD-3-Clause
// store_disk: the store's files and their names. All that the store does to a disk is done here, so
// that tests can let any of it fail. The store's own; others use store.h. Any thread.
//
//   FOLDER/lock                  held by the process whose store it is
//   FOLDER/blocks.1/summary      what was stored, left at an orderly end (1: the format's version)
//   FOLDER/blocks.1/new/         files that are not an object's yet; emptied at start
//   FOLDER/blocks.1/ab/cd….data  the bytes of the object of identity abcd… (32 hex digits)
//   FOLDER/blocks.1/ab/cd….map   which of them are there (store_map.h)
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

#define STORE_FORMAT 1

enum store_effect {
    STORE_EFFECT_OPEN = 1,
    STORE_EFFECT_READ = 2,
    STORE_EFFECT_WRITE = 4,
    STORE_EFFECT_NAME = 8, // create, rename, unlink
    STORE_EFFECT_SYNC = 16,
};

// A fault for tests: the effect at which the countdown arrives at 0 fails with `error`, or, if that
// is 0, ends the process there (a write half done). Below 0 nothing happens.
struct store_faults {
    atomic_int countdown;
    unsigned effects;  // those that count
    int error;         // -errno
    bool is_lasting;   // all after it fail too
};

struct store_disk {
    int lock_fd;
    int root_fd;
    int blocks_fd;
    int new_fd;
    atomic_uint_fast64_t new_serial;
    atomic_bool is_without_passing; // RWF_DONTCACHE isn't known here
    atomic_bool is_without_direct;  // nor O_DIRECT
    struct store_faults *faults;
};

enum store_file { STORE_DATA, STORE_MAP };

// Makes what isn't there, takes the lock. -EBUSY: another process has it.
int store_disk_open(const char *folder, struct store_faults *faults, struct store_disk *ret_disk,
                    const char **ret_why);
void store_disk_close(struct store_disk *d);
// Deletes what other versions of the format left; may take long.
void store_disk_remove_older(struct store_disk *d);

#define STORE_NAME_BYTES 40 // "ab/" + 30 + ".data" and a NUL
void store_disk_name(const uint8_t identity[16], enum store_file file,
                     char ret_name[STORE_NAME_BYTES]);
// The identity of a name as it stands in the folder `high` (its first byte). -EINVAL: not ours.
int store_disk_identity(unsigned high, const char *name, uint8_t ret_identity[16],
                        enum store_file *ret_file);

// Descriptors, which the caller closes.
int store_disk_open_file(struct store_disk *d, const uint8_t identity[16], enum store_file file,
                         int flags);
int store_disk_create(struct store_disk *d, const uint8_t identity[16], enum store_file file);
// Both names, the map's first: data without a map is nothing. Names that aren't there are no error.
int store_disk_remove(struct store_disk *d, const uint8_t identity[16]);
// A pair of files under new/, and how it becomes an object's. After an error of adopt the object is
// gone, or as it was.
struct store_new {
    uint64_t serial;
    int data_fd;
    int map_fd;
};
int store_disk_new(struct store_disk *d, struct store_new *ret_new);
int store_disk_adopt(struct store_disk *d, const struct store_new *n, const uint8_t identity[16]);
void store_disk_discard(struct store_disk *d, const struct store_new *n); // the names

// All of it: -EIO where a file ends before (read).
int store_disk_read(struct store_disk *d, int fd, void *buffer, size_t size_bytes, uint64_t offset);
// As much as there is.
ssize_t store_disk_read_some(struct store_disk *d, int fd, void *buffer, size_t size_bytes,
                             uint64_t offset);
// As store_disk_read; pages that weren't in memory before aren't afterwards, where the kernel can.
int store_disk_pass(struct store_disk *d, int fd, void *buffer, size_t size_bytes, uint64_t offset);
int store_disk_sync(struct store_disk *d, int fd);
int store_disk_write(struct store_disk *d, int fd, const void *data, size_t size_bytes,
                     uint64_t offset);
// Pieces one after the other.
int store_disk_write_pieces(struct store_disk *d, int fd, const struct iovec *pieces, uint32_t count,
                            uint64_t offset);
// Another descriptor of that file, for writing past the page cache, which the caller closes.
int store_disk_open_direct(struct store_disk *d, int fd);
int store_disk_resize(struct store_disk *d, int fd, uint64_t size_bytes);
int store_disk_free_bytes(struct store_disk *d, uint64_t *ret_bytes);
int store_disk_rename(struct store_disk *d, const char *from, const char *to); // below blocks
