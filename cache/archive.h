// SPDX-License-Identifier: BSD-3-Clause
// archive: the members of zip archives as files that can be read anywhere.
//   archives_get(fd) -> archive_find(name) -> archive_reader_open(fd, member) -> reads -> close
// An archive is an index of a central directory and holds no descriptor: every call is given one of
// the same file, opened with the rights of whom it is for. It is never changed and counted by
// references. `struct archives` keeps opened archives and what open members need to be inflated,
// both within bounds; there is one of it. What is kept for a member may be dropped at any time
// between two reads and costs time only.
//
// Nothing that stands in an archive is trusted. What is wrong with one member refuses that member:
// -EBADMSG with *ret_why, a static sentence for the log and for explain. All functions may be
// called by any thread and read from the file; those with a deadline (monotonic, INT64_MAX: none)
// end with -ETIMEDOUT when it passes. Errors of reading are those of pread(2).
#pragma once
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/text.h"

#define ARCHIVE_MEMBERS_MAX 1000000
#define ARCHIVE_DIRECTORY_BYTES_MAX ((uint64_t)256 << 20)

enum archive_method {
    ARCHIVE_STORED = 0, // the values are those of the format
    ARCHIVE_DEFLATED = 8,
};

// Which file, and which state of it.
struct archive_identity {
    dev_t dev;
    ino_t ino;
    int64_t size_bytes;
    struct timespec mtime;
    struct timespec ctime;
};

// Plain values, true as long as the file is the same. A stored member is what lies in the archive
// from data_offset on: whoever wants to may serve it from there.
struct archive_member {
    enum archive_method method;
    uint64_t data_offset;
    uint64_t packed_bytes; // of its data in the archive
    uint64_t size_bytes;
    uint32_t crc32;
};

struct archive;
struct archives;
struct archive_reader;

// ---- one archive

// Reads and checks the central directory; `fd` is only used during the call. Takes about 50 bytes
// of memory a member, whatever their names. -EBADMSG: it is not a zip archive that can be read;
// -EFBIG: more members or a larger directory than the bounds above.
int archive_open(int fd, struct archive **ret_archive, const char **ret_why);
struct archive *archive_ref(struct archive *a);
void archive_unref(struct archive *a);
define_cleanup(struct archive *, archive_unref);
const struct archive_identity *archive_identity(const struct archive *a);
size_t archive_member_count(const struct archive *a); // refused ones and folders counted
size_t archive_memory_bytes(const struct archive *a);

// The member of that name (UTF-8; a name that the archive doesn't mark as UTF-8 is code page 437,
// as the format and Python's zipfile have it). -ENOENT: there is none; -EBADMSG: it is refused;
// -ESTALE: `fd` is not the file that was indexed, or it was changed since: archives_get again.
int archive_find(const struct archive *a, int fd, struct text name,
                 struct archive_member *ret_member, const char **ret_why);

// ---- all of them

struct archives_limits {
    size_t count;        // of archives kept
    size_t index_bytes;  // of their indices, those in use not counted
    size_t stream_bytes; // of members being inflated, those in use counted, but never dropped
};
#define ARCHIVES_LIMITS_STANDARD                                                                   \
    ((struct archives_limits){.count = 256, .index_bytes = 128 << 20, .stream_bytes = 128 << 20})

struct archives *archives_new(const struct archives_limits *limits);
void archives_free(struct archives *all); // with no reader left
// The archive in `fd`, opened or kept from before; the caller unrefs it. As archive_open; -ESTALE:
// it was changed meanwhile, again. What is no archive is remembered as such, too. One that another
// thread is opening is waited for.
int archives_get(struct archives *all, int fd, int64_t deadline_ns, struct archive **ret_archive,
                 const char **ret_why);

// ---- one open member

// `fd` stays the caller's and must stay open until the reader is closed. Costs little until the
// first read.
struct archive_reader *archive_reader_open(struct archives *all, int fd,
                                           const struct archive_member *member);
void archive_reader_close(struct archive_reader *r); // with no read in work
define_cleanup(struct archive_reader *, archive_reader_close);
// Reads as pread(2): as much as there is of what was asked; 0 at and after the member's end. Reads
// at the same time are fine: stored members have no order, deflated ones wait for each other and
// are best read forward or near where the last read was; a jump inflates at most a 64th of the
// member (or 1 MiB) once what lies before was inflated before, else all that lies before it: until
// the deadline, and the next call goes on from there. -EBADMSG: the data isn't what the directory
// says it is (size, CRC-32), then and ever after. The CRC is compared when all of it has been
// inflated, or all of a stored member been read, in pieces that are not too many and don't overlap;
// the read that completes it gives the error and no bytes.
ssize_t archive_reader_read(struct archive_reader *r, void *buffer, size_t size_bytes,
                            uint64_t offset, int64_t deadline_ns, const char **ret_why);
