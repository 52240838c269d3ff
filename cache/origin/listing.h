// SPDX-License-Identifier: BSD-3-Clause
// listing: one page of keys, as S3's ListObjectsV2 gives it: read as a stream, kept until it is whole, then given. Or of
// their versions (ListObjectVersions), of which what there was at a time is given (listing_versions.c).
// Origins' own. One thread at a time. What a server may say is bounded: bytes, depth, entries, lengths.
#pragma once
#include "cache/origin/origin.h"

#define LISTING_BYTES_MAX ((size_t)16 << 20) // of XML
#define LISTING_DEPTH_MAX 16
#define LISTING_ENTRIES_MAX 10000            // a server may give more than was asked for; not many more

struct listing;

// What was asked for: what doesn't fit is refused. Texts are copied.
struct listing *listing_new(struct text prefix, struct text token);
// It is of versions: what counts is this time. Before the first byte.
void listing_set_past(struct listing *l, int64_t at_unix_ns);
void listing_free(struct listing *l); // NULL is fine
define_cleanup(struct listing *, listing_free);
// More of it, in pieces of any size. -EBADMSG, -E2BIG: it can't be taken; -EOPNOTSUPP: it isn't of versions, though
// they were asked for. *ret_why: static.
int listing_feed(struct listing *l, const void *data, size_t size_bytes, const char **ret_why);
// That was all of it. Then what it says may be asked for.
int listing_end(struct listing *l, const char **ret_why);
struct text listing_token(const struct listing *l); // of the next page; empty: none
size_t listing_count(const struct listing *l);
// Calls r->each for every entry; below 0: what that returned.
int listing_give(const struct listing *l, struct origin_request *r);
// As it would be given; for those that make listings otherwise (memory).
void listing_add(struct listing *l, const struct origin_entry *entry);
void listing_set_token(struct listing *l, struct text token);

// The token of such a page, taken apart: where the server is to go on. false: it is none.
struct listing_past {
    bool is_settled; // what there was of that key then has been given
    struct text key, version;
};
bool listing_read_past(struct text token, struct listing_past *ret_past);

// The text of the first element of each name, into its place, which is empty before; empty if it isn't said or not XML.
// Bounded; bytes that aren't printable become `?`.
struct listing_value {
    const char *name;
    char *place;
    size_t room_bytes;
};
void listing_read_values(struct text body, const struct listing_value *values, size_t count);
// An error's body: <Error><Code>…</Code><Message>…</Message>…: the first of each, empty if it isn't said or not
// XML. Bounded; bytes that aren't printable become `?`.
struct listing_error {
    char code[64];
    char message[256];
    char region[64];
    char endpoint[256];
};
void listing_read_error(struct text body, struct listing_error *ret_error);
