// SPDX-License-Identifier: BSD-3-Clause
// archive_format: the records of a zip archive (PKWARE's APPNOTE), read from bytes; archive*.c's
// own. Pure functions of what they are given; *ret_why is set with every -EBADMSG.
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/text.h"

#define ARCHIVE_CENTRAL_BYTES 46 // of the fixed part
#define ARCHIVE_LOCAL_BYTES 30
// The end record with the longest comment, the zip64 locator, and a zip64 record with some room for
// what later versions of the format may add.
#define ARCHIVE_TAIL_BYTES_MAX (65535 + 22 + 20 + 4096)

// Where the directory is. Offsets in the archive count from `shift`: something may stand before an
// archive (a program that extracts it).
struct archive_end {
    uint64_t directory_offset; // in the file
    uint64_t directory_bytes;
    uint64_t count; // of members; where there is no zip64 record its lowest 16 bits
    bool is_zip64;
    uint64_t shift;
};

// What a central header says, nothing of it checked, shift not added.
struct archive_entry {
    uint16_t flags;
    uint16_t method;
    uint32_t crc32;
    uint64_t packed_bytes;
    uint64_t size_bytes;
    uint64_t header_offset;
    uint32_t disk;
    struct text name; // points into the bytes given
};

#define ARCHIVE_FLAG_ENCRYPTED 0x0001
#define ARCHIVE_FLAG_DESCRIPTOR 0x0008 // sizes and CRC stand after the data, not before it
#define ARCHIVE_FLAG_PATCH 0x0020
#define ARCHIVE_FLAG_STRONG 0x0040
#define ARCHIVE_FLAG_UTF8 0x0800
#define ARCHIVE_FLAG_MASKED 0x2000

// `tail`: the file's last bytes, all of it or ARCHIVE_TAIL_BYTES_MAX.
int archive_parse_end(struct text tail, uint64_t file_bytes, struct archive_end *ret_end,
                      const char **ret_why);
// The bytes of the central header that begins here, with name, extra fields and comment; 0: there
// is none. `bytes` holds at least ARCHIVE_CENTRAL_BYTES.
size_t archive_central_bytes(struct text bytes);
// `bytes` is that whole header. -EBADMSG: its zip64 field lacks what it must have.
int archive_parse_central(struct text bytes, struct archive_entry *ret_entry, const char **ret_why);
// The same of the local header: its bytes with name and extra fields; 0: there is none.
size_t archive_local_bytes(struct text bytes);
// Whether the whole local header `bytes` says what the central one said.
int archive_check_local(struct text bytes, const struct archive_entry *central,
                        const char **ret_why);

// A member's name as UTF-8, in `scratch` where it has to be converted: up to a NUL (as Python reads
// it, so that no name hides behind another; *ret_is_cut), code page 437 where not marked as UTF-8.
struct text archive_name(const struct archive_entry *e, struct buffer *scratch, bool *ret_is_cut);
// Absolute, empty, a folder's, or with a `..`.
int archive_check_name(struct text name, const char **ret_why);
