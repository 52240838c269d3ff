// SPDX-License-Identifier: BSD-3-Clause
// options_table: the table of options and how one value becomes a field; options*.c's own.
#pragma once
#include "base/buffer.h"
#include "fs/options.h"

enum option_type {
    OPTION_FLAG,     // sets `bit` of mount_flags, or clears it
    OPTION_SWITCH,   // allow_other and its opposite
    OPTION_IGNORED,  // others hand it over; it isn't for us
    OPTION_REFUSED,  // known, and why not
    OPTION_SIZE,
    OPTION_TIME,
    OPTION_INSTANT,  // Unix time in ns, after 1970; 0 where it isn't given
    OPTION_COUNT,
    OPTION_USER,
    OPTION_GROUP,
    OPTION_UMASK,
    OPTION_MODE,     // octal, of a folder that is made
    OPTION_PATH,     // of a file or folder; made absolute
    OPTION_PATHS,    // several, with ':' between them; they add up
    OPTION_RANGES,   // of numbers of users or groups, kept as text
    OPTION_USERS,    // several users by name or number, with ':' between them; kept as numbers
    OPTION_URI,      // a path that is made absolute, or a URI
    OPTION_TEXT,
    OPTION_CHOICE,   // a bool by one of two words: "false word|true word"
    OPTION_WORD,     // one of several words, by its number: an unsigned
    OPTION_KIND,     // of space
    OPTION_LEVEL,    // of the log
};

struct option_row {
    const char *name;
    enum option_type type;
    bool of_space;          // a space may set it for itself
    bool in_file;           // may stand under `options:` (and, of_space, in a space)
    unsigned kinds;         // of_space: OF_KIND() of those that it means something to; 0: all
    const char *value;      // what --help shows after '='; NULL: takes none
    const char *standard;   // the default, as one would write it; NULL: none
    const char *min, *max;  // bounds, as one would write them
    const char *words;      // OPTION_CHOICE, OPTION_WORD, OPTION_KIND: "a|b"
    bool is_secret;         // never shown, and no argument of a process
    unsigned long bit;      // OPTION_FLAG
    bool on;                // OPTION_FLAG, OPTION_SWITCH: what it sets
    const char *environment; // gives the default where the option isn't given
    size_t offset;          // of the field in struct options, or struct space_options if of_space
    const char *help;       // OPTION_REFUSED: the reason
};

#define OF_KIND(kind) (1U << (kind))

extern const struct option_row option_table[]; // ends with a NULL name

const struct option_row *option_find(struct text name); // NULL: unknown
const char *option_suggest(struct text name);       // the nearest name, or NULL

// Gives `value` (NULL: none) to its field: in *o, or in *s if it is of a space. Relative paths are
// below `base`. -EINVAL with one line naming option, value, reason and what is allowed.
int option_set(const struct option_row *option, const char *value, const char *base, struct options *o,
               struct space_options *s, char **ret_why);
// All defaults of the table.
void options_set_standards(struct options *o, struct space_options *s);
// The field as option_set would take it, appended; false: there is nothing to say. Of OPTION_PATHS the
// i-th, asked for with i = 0, 1, ... until false.
bool option_get(const struct option_row *option, const struct options *o, const struct space_options *s,
                size_t i, struct buffer *to);

void space_release(struct space_options *s);
void space_copy_standards(const struct space_options *from, struct space_options *to);
bool option_is_of_kind(const struct option_row *option, enum space_kind kind);
// The reason why it can't be said of that space; NULL: of all that there are. free() it.
char *option_is_not_of(const struct option_row *option, const struct space_options *s);
// Adds a space of this name (NULL: the root); its values are those of `standard`. -EINVAL.
int options_add_space(struct options *o, struct text name, const struct space_options *standard,
                      struct space_options **ret_space, char **ret_why);
// Gives a space its source: decides the kind by its words where it wasn't said, looks up a label,
// makes a local path absolute below `base` and free of symlinks. Reads the repository index.
size_t space_prefix_bytes(const char *source); // of "home:/export/home": the kind in front of a path
int space_settle(struct space_options *s, const struct options *o, const char *source,
                 const char *base, char **ret_why);

// Reads `options:` into *o and *standard. Nothing else in the document is looked at, except
// that unknown keys at the top are refused. `file` is for messages and as base of relative paths.
struct doc;
int options_config_apply(const struct doc *config, const char *file, struct options *o,
                         struct space_options *standard, char **ret_why);
// Then the spaces, each starting from *standard.
int options_config_spaces(const struct doc *config, const char *file, struct options *o,
                          const struct space_options *standard, char **ret_why);

// Splits an -o list: calls each(name, value or NULL, context) until one answers other than 0.
// A backslash before ',', '\\' or '"' makes it plain; a value in double quotes may hold commas.
typedef int option_each(const char *name, const char *value, void *context, char **ret_why);
int option_list_split(const char *list, option_each *each, void *context, char **ret_why);

void options_write_help(struct buffer *to);
