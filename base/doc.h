// SPDX-License-Identifier: BSD-3-Clause
// doc: a document read from YAML or JSON, or built to be written as JSON: one tree for both.
// Strings are counted bytes (NUL and bytes that are not UTF-8 survive). A tree is owned by its
// root: doc_free(root) frees all. Look-ups on NULL answer NULL, so that they can be chained.
// Parsing is for input from outside: depth (64), size (64 MiB) and count (4 million nodes; YAML
// aliases counted as often as they are expanded) are bounded, unknown YAML tags are accepted and
// ignored, a key that stands twice keeps the last value. Not thread-safe while it is changed.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/text.h"

enum doc_kind { DOC_NULL, DOC_BOOL, DOC_INTEGER, DOC_REAL, DOC_STRING, DOC_LIST, DOC_MAP };

struct doc;

// 0, -EINVAL or -E2BIG (a bound), with *ret_why "line 3: ...", allocated, the caller frees; ret_why
// may be NULL. YAML: UTF-8, one document (none: null), keys are scalars. JSON: what RFC 8259 allows,
// but a key may not hold a NUL and a whole number must fit 64 bits; NaN and Infinity, which Python
// writes, are read.
int doc_parse_yaml(struct text input, struct doc **ret_doc, char **ret_why);
int doc_parse_json(struct text input, struct doc **ret_doc, char **ret_why);
// Reads a whole file (regular, at most 64 MiB) by name; errors of open(2) as -errno with *ret_why.
int doc_read_yaml(const char *path, struct doc **ret_doc, char **ret_why);
// The same of a file that is open; `name` is for *ret_why.
int doc_read_yaml_file(int fd, const char *name, struct doc **ret_doc, char **ret_why);
void doc_free(struct doc *d);
define_cleanup(struct doc *, doc_free);

enum doc_kind doc_kind(const struct doc *d);                 // DOC_NULL for NULL
const struct doc *doc_get(const struct doc *map, const char *key);        // NULL: not there
const struct doc *doc_path(const struct doc *map, const char *dotted);    // "registry.db"
size_t doc_count(const struct doc *d);                       // of a list or map, else 0
const struct doc *doc_item(const struct doc *d, size_t i);   // of a list or map (its value)
struct text doc_key(const struct doc *map, size_t i);
// Scalars: with the default when the node is missing or of another kind. A YAML scalar that is not
// quoted becomes null, bool, integer or real by YAML 1.1's core rules; doc_text gives back the
// original spelling for those too (not for null, which is no text: the default). YAML 1.1's numbers
// with colons (12:30:00) stay strings. A whole number that does not fit 64 bits is a real.
struct text doc_text(const struct doc *d, struct text otherwise);
bool doc_is_scalar(const struct doc *d);
int64_t doc_integer(const struct doc *d, int64_t otherwise);
bool doc_bool(const struct doc *d, bool otherwise);
double doc_real(const struct doc *d, double otherwise);      // of an integer too

// A YAML node's own tag ("!include"); empty: it has none, or one of YAML's.
struct text doc_tag(const struct doc *d);

// Building.
struct doc *doc_new(enum doc_kind kind);                     // DOC_MAP, DOC_LIST
struct doc *doc_new_text(struct text t);
struct doc *doc_new_integer(int64_t value);
struct doc *doc_new_bool(bool value);
struct doc *doc_new_real(double value);
// Takes the value; a value that stood under the key is freed.
void doc_put(struct doc *map, const char *key, struct doc *value);
void doc_put_text(struct doc *map, const char *key, const char *value);   // NULL: null
void doc_put_integer(struct doc *map, const char *key, int64_t value);
void doc_put_bool(struct doc *map, const char *key, bool value);
void doc_append(struct doc *list, struct doc *value);                     // takes the value

// Changing a list or map: its i-th item; another in its place (takes the value, frees the one before).
struct doc *doc_child(struct doc *d, size_t i);
void doc_replace(struct doc *d, size_t i, struct doc *value);
// Adds to a map what another holds and it doesn't, maps within maps; takes `from`.
void doc_fill(struct doc *to, struct doc *from);

// Bytes that are not valid UTF-8 are written as U+FFFD, a real that is no number as null. Keys in
// the order they were put. Pretty: two spaces a level, no newline at the end.
void doc_write_json(const struct doc *d, bool pretty, struct buffer *to);
