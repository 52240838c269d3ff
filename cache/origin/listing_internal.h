// SPDX-License-Identifier: BSD-3-Clause
// listing_internal: what listing.c and listing_versions.c share; others use listing.h.
#pragma once
#include <expat.h>

#include "cache/origin/listing.h"

#define LISTING_VALUE_BYTES_MAX ((size_t)8 << 10) // a key of 1024 bytes, each as %XX, and a token
#define LISTING_TOKEN_BYTES_MAX 4096

struct listed {
    uint32_t key, key_bytes;     // in `texts`
    uint32_t validator, validator_bytes;
    uint32_t class, class_bytes;
    uint32_t version, version_bytes;
    int64_t size_bytes;
    int64_t mtime_unix_ns;
    bool is_prefix;
    bool is_marker, is_latest;   // of versions: it was deleted; it is the newest of its key
    bool is_absent;              // there was no such object then
};

enum listing_place { // in which element
    PLACE_OTHER,
    PLACE_CONTENTS,
    PLACE_MARKER,
    PLACE_PREFIXES,
    PLACE_KEY,
    PLACE_SIZE,
    PLACE_TIME,
    PLACE_ETAG,
    PLACE_UPLOAD,
    PLACE_CLASS,
    PLACE_PREFIX,
    PLACE_TRUNCATED,
    PLACE_TOKEN,
    PLACE_ENCODING,
    PLACE_VERSION,
    PLACE_LATEST,
    PLACE_NEXT_KEY,
    PLACE_NEXT_VERSION,
};

struct listing {
    XML_Parser parser;
    struct buffer prefix, asked_token;
    size_t fed_bytes;
    const char *bad;             // static; what is wrong with it
    int error;
    // Where the parser is.
    enum listing_place path[LISTING_DEPTH_MAX];
    uint32_t depth;
    bool has_root;
    struct buffer value;         // text of the innermost element
    struct listed entry;         // being read
    // What was found.
    bool is_quoted, is_truncated, is_of_uploads;
    struct buffer token;
    // Of versions.
    bool is_of_versions;
    int64_t at_unix_ns;
    struct buffer next_key, next_version; // where the server says that it goes on
    struct buffer texts;
    struct listed *entries;
    size_t count, room;
};

void listing_refuse(struct listing *l, int error, const char *why);
// Of versions, all read: what there was at that time takes their place, and the token is set. May refuse.
void listing_choose(struct listing *l);
