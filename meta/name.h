// SPDX-License-Identifier: BSD-3-Clause
// name: how things are written in the tree, and read back (tree.md, "Names", "Dataset types, data
// IDs, files"). Pure functions of bytes; any thread. Every writer appends to a buffer; every reader
// is strict: a name that is not the one that would be written is refused, so that each thing has
// exactly one name.
#pragma once
#include "base/buffer.h"
#include "meta/timespan.h"
#include "meta/value.h"

#define NAME_BYTES_MAX 255

enum name_place {
    NAME_VALUE,      // a data-ID value in a `key=value` folder or a file name, but the last
    NAME_LAST_VALUE, // the last value of a file's name: `.` and `@` are escaped too
    NAME_COLLECTION, // one part of a collection's name (see name_write_part)
    NAME_S3,         // a part of an object's key: a leading dot stays
};

// What is escaped depends on the value alone, not on what stands around it in a name: a `~` before
// 16 hex digits (of either case) is escaped at a value's end, wherever the value then stands.
// Appends `raw` escaped for `place`. Never cuts; see name_shorten.
void name_escape(enum name_place place, struct text raw, struct buffer *to);
// The bytes that `escaped` stands for, appended. -EINVAL: not the canonical escaped form of
// anything in that place (lower-case hex, an escape that was not needed, one that is missing);
// nothing is appended then.
int name_unescape(enum name_place place, struct text escaped, struct buffer *to);

// One part of a collection's name, below the part `parent` (unescaped; empty at the top): escapes
// as NAME_COLLECTION, `=`, a leading `@`, and the `.`, `_` or `@` that follows where `raw` begins
// with the parent part. Cut to 255 bytes. Reading: -EINVAL as above, also for more than 255 bytes;
// -E2BIG: a shortened name, which can't be read.
void name_write_part(struct text parent, struct text raw, struct buffer *to);
int name_read_part(struct text parent, struct text escaped, struct buffer *to);

// Cuts the name that begins at `from` in `b` to 255 bytes, if it is longer: `~`, the XXH3-64 of the
// whole escaped name in 16 hex digits, then `suffix` (which the name ends with; may be empty; may
// point into `b`). Not inside a character or an escape. Nobody's suffix is over NAME_SUFFIX_MAX
// bytes; what is, is written ".data".
#define NAME_SUFFIX_MAX 160
void name_shorten(struct buffer *b, size_t from, struct text suffix);
// Whether `name` has the form and the length that name_shorten writes: it can't be read back.
bool name_is_shortened(struct text name);

// The suffix of an artifact's (or zip member's) name by tree.md's rule, ".fits.fz", ".data".
// `path` may hold folders and is unquoted. The result is a slice of `path` or static. A dot that
// begins the file's name begins no suffix.
struct text name_suffix(struct text path);

// `key=value` folder, cut to 255 bytes. `key` is a dimension's name (written as it is).
void name_write_level(struct text key, const struct value *v, struct buffer *to);
// Reads `name` as a level of `key`; an integer must be in its shortest decimal form. The text of a
// text value is appended to *store and points into it only until store grows: so reserve first or
// copy. -ENOENT: not that key, or not canonical. -E2BIG: a shortened name, which can't be read.
int name_read_level(struct text name, struct text key, enum value_kind kind,
                    struct value *ret_value, struct buffer *store);

// An integer in its shortest decimal form. -ENOENT.
int name_read_integer(struct text t, struct value *ret_value);

// `<type>_<value>_..._<last><infix><suffix>`: the file's name. `values`: the required values only.
// `infix`: "" or "@<begin>--<end>" (validity range) etc., already in its final form. Cut to 255
// bytes, infix and suffix kept.
void name_write_file(struct text type, const struct value *values, size_t count, struct text infix,
                     struct text suffix, struct buffer *to);
// The last value of a file's name, given the type and the values before it (count - 1 of them).
// *ret_suffix: what follows the value (slice of name; begins with `.` or `@`). With count 0 there
// is no value to read and only the type is compared. Errors as name_read_level.
int name_read_file(struct text name, struct text type, const struct value *values, size_t count,
                   enum value_kind last_kind, struct value *ret_last, struct text *ret_suffix,
                   struct buffer *store);

// `@<begin>--<end>`, the validity range in a file's name: TAI, ISO 8601 basic, an open end empty;
// `@empty` for the empty one; with `~<uuid>` where several datasets have one data ID and range.
// Reading: from the `@` of `name` up to the first `.`, where *ret_suffix begins. -ENOENT: no range,
// or not as it is written.
void name_write_range(const struct timespan *range, const struct uuid *twin, struct buffer *to);
int name_read_range(struct text name, struct timespan *ret_range, struct uuid *ret_twin,
                    bool *ret_has_twin, struct text *ret_suffix);

// `<component><suffix>`: a file in the folder of a composite, whose suffix is ".components".
void name_write_component(struct text component, struct text suffix, struct buffer *to);

void uuid_format(const struct uuid *u, char ret_text[UUID_TEXT_BYTES]);
// With hyphens in the usual places, or 32 digits without; lower case only where `strict`. -EINVAL.
// (The one name of a thing is what uuid_format writes: compare, or refuse what isn't 36 bytes.)
int uuid_parse(struct text t, bool strict, struct uuid *ret_uuid);
