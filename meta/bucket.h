// SPDX-License-Identifier: BSD-3-Clause
// bucket: a bucket, or a prefix of one, as folders and files of the tree; meta's door for S3 spaces.
// What is known of it is listings, kept in the catalogue, each true for `list_ns` after it was asked for.
//
// Nothing here waits for a network. What isn't known is *wanted*, as with repository.h: the call
// answers -EINPROGRESS and fills a `struct bucket_want`; bucket_ask() it with a waiter and, when the
// waiter is called, make the same call again with the same `fresh`. Equal wants are one job.
//
//   bucket_root(bucket, fresh, &place)      fresh: bucket_fresh() when the request arrived
//   bucket_enter(&place, name, &want)       per part of the path
//   bucket_lookup | bucket_list_open + bucket_list
//   bucket_place_release(&place)
//
// Of a bucket at a time: a folder that had nothing in it then is not shown, as far as asking for a bounded number of versions of
// each (PAST_LOOKS in bucket_past.c) can say; one that is shown after all is empty.
//
// A key's parts are folders. An object `a` beside objects `a/...` is the file `a%` beside the folder
// `a`; an empty part is `%`; a key that ends in `/` and has no bytes is its folder's marker, no file.
#pragma once
#include "base/doc.h"
#include "meta/catalogue.h"
#include "meta/repository.h"

struct origin;
struct bucket;

struct bucket_options {
    struct origin *origin;       // a reference is taken
    const char *prefix;          // all keys begin with it: "", or it ends in '/'
    struct catalogue *catalogue; // shared
    int64_t list_ns;             // how long what was listed counts as true
    int64_t limit_ns;            // the most a librarian waits for one answer
    uint32_t librarian_count;
    int64_t at_unix_ns;          // what there was then, by the versions that the server keeps; 0: what there is
};

// Starts the librarians; asks nothing.
int bucket_open(const struct bucket_options *o, struct bucket **ret_bucket, char **ret_why);
void bucket_close(struct bucket *b); // no request may be in work
// Asks for the first key (at_unix_ns as in the options), and waits: a mount of what can't be listed is refused. *ret_why is one
// line with the server's own reason.
int bucket_check(struct origin *origin, const char *prefix, int64_t at_unix_ns, int64_t limit_ns, char **ret_why);
// What is as old as this is fresh enough for a request that arrives now; clock_steady_unix_ns, as all times of asking.
uint64_t bucket_fresh(const struct bucket *b);
// What was listed until now is old.
void bucket_refresh(struct bucket *b);
// The same of one folder: an object in it turned out to be another than was listed.
void bucket_doubt(struct bucket *b, struct text prefix);
void bucket_status(struct bucket *b, struct doc *map);

enum bucket_want_kind {
    BUCKET_FOLDER, // a whole listing
    BUCKET_NAME,   // one name of it
    BUCKET_HEAD,   // what only a HEAD tells of an object
    // Changes (bucket_change). Done once the waiter is called with 0.
    BUCKET_DELETE,        // an object
    BUCKET_MAKE_FOLDER,
    BUCKET_REMOVE_FOLDER, // -ENOTEMPTY
    BUCKET_RENAME,        // an object: copied, then deleted, not in one step
};

struct bucket_want {
    enum bucket_want_kind kind;
    uint64_t fresh;
    struct buffer prefix; // the folder's
    struct buffer name;   // BUCKET_NAME, BUCKET_HEAD and changes: unescaped
    struct buffer to;     // BUCKET_RENAME: the key it is to have; BUCKET_HEAD: which version
    bool may_replace;     // BUCKET_RENAME: what has that key may go; else -EEXIST
    bool is_slow;         // likewise: the server may copy for minutes
};
void bucket_want_release(struct bucket_want *w);
// Takes what it needs of `w`.
void bucket_ask(struct bucket *b, const struct bucket_want *w, struct waiter *waiter);
bool bucket_cancel(struct bucket *b, struct waiter *waiter);

struct bucket_place {
    struct bucket *bucket;
    uint64_t fresh;
    uint64_t asked_unix_ns; // the request's arrival: what this mount had changed by then is in its listings
    struct buffer prefix; // of the keys in this folder
};
void bucket_root(struct bucket *b, uint64_t fresh, uint64_t asked_unix_ns, struct bucket_place *ret_place);
// Goes down by what the name means; whether it is there is not asked. -ENOENT: no folder's name.
// -EINPROGRESS: a shortened one.
int bucket_enter(struct bucket_place *p, struct text name, struct bucket_want *want);
void bucket_place_release(struct bucket_place *p);

#define BUCKET_ETAG_BYTES 128

struct bucket_entry {
    bool is_folder;
    struct text name;          // in the tree
    struct text raw;           // its part of the key
    int64_t size_bytes;
    int64_t mtime_unix_ns;
    char etag[BUCKET_ETAG_BYTES]; // as the server writes it; empty: it gave none
    struct text storage_class;
    struct text version;       // the id of an object's version that was; empty: the present one
    int64_t seen_unix_ns;      // when at the latest the origin said so; of a look-up
};
// Texts of *ret_entry are `name`'s or in `scratch`.
int bucket_lookup(struct bucket_place *p, struct text name, struct bucket_entry *ret_entry,
                  struct buffer *scratch, struct bucket_want *want);

// A listing in progress; see struct listing in repository.h.
struct bucket_listing {
    uint64_t generation;
    uint64_t hint_cookie;
    uint64_t hint_folder; // hash of the folder given last
    struct row_cursor hint;
};
// *ret_epoch: when it was asked for.
int bucket_list_open(struct bucket_place *p, struct bucket_listing *ret_listing, uint64_t *ret_epoch,
                     struct bucket_want *want);
void bucket_listing_reopen(struct bucket *b, struct bucket_listing *l, uint64_t generation);
void bucket_listing_close(struct bucket *b, struct bucket_listing *l);
typedef int bucket_each(const struct bucket_entry *e, uint64_t cookie, void *context);
int bucket_list(struct bucket_place *p, struct bucket_listing *l, uint64_t cookie, bucket_each *each,
                void *context, struct bucket_want *want);

// Objects in the order of their folder's listing, for who goes through it (cache.h's series). `id` is the
// caller's name for this way through the folder; the last few are remembered.
// Where an object stands, from 0. -ENOENT: not known without asking, the folder is too large to count, or `id` has jumped
// about in it (then he is looked at again after some more).
int bucket_position(struct bucket_place *p, struct text raw, uint64_t id, int64_t *ret_position);
// Calls `give` with the object at that position, before it returns 0. -ENOENT. Asks nothing of the origin.
int bucket_at(struct bucket *b, uint64_t id, int64_t position,
              void (*give)(void *context, const struct bucket_place *p, const struct bucket_entry *e), void *context);

// What a HEAD of an object said, as a map: etag, version_id, storage_class, content_type, metadata
// (a map). The caller frees it.
int bucket_head(struct bucket_place *p, const struct bucket_entry *e, struct doc **ret_map,
                struct bucket_want *want);

// ---- changes, by this mount

// The part of a key that a new name in this folder stands for. -EINVAL: not a name that listing would write;
// -ENAMETOOLONG: the key would be longer than S3 has them.
int bucket_new_name(const struct bucket_place *p, struct text name, struct buffer *ret_raw);
// Fills *want and answers -EINPROGRESS. `to`: the key, of BUCKET_RENAME.
int bucket_change(const struct bucket_place *p, enum bucket_want_kind kind, struct text raw, struct text to,
                  struct bucket_want *want);
// An object was put there: from now on it is what is said, without asking, as long as a listing would be believed.
void bucket_was_put(struct bucket *b, struct text prefix, const struct bucket_entry *e);
