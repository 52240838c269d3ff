// SPDX-License-Identifier: BSD-3-Clause
// options_value: one option's words to its field and back.
// 1. A refused value leaves its field as it was.
// 2. What option_get says, option_set takes, and it makes the same field of it.
#include <grp.h>
#include <inttypes.h>
#include <limits.h>
#include <pwd.h>
#include <string.h>
#include <sys/mount.h>

#include "base/clock.h"
#include "fs/options_table.h"
#include "fs/path.h"
#include "fs/ranges.h"
#include "fs/why.h"
#include "meta/timespan.h"

static void *field_of(const struct option_row *option, struct options *o, struct space_options *s)
{
    return (option->of_space ? (char *)s : (char *)o) + option->offset;
}

static int refuse_value(const struct option_row *option, const char *value, char **ret_why)
{
    BUFFER_CLEANUP allowed = {};
    if (option->words)
        buffer_format(&allowed, "one of %s", option->words);
    else if (option->type == OPTION_TIME)
        buffer_format(&allowed, "a time from %s to %s, such as 500ms, 2s, 5min", option->min, option->max);
    else if (option->type == OPTION_INSTANT)
        buffer_format(&allowed, "a time after 1970 in UTC, such as 2026-11-01T12:00:00Z, or a date");
    else if (option->type == OPTION_SIZE)
        buffer_format(&allowed, "a size from %s to %s, such as 512M, 8G", option->min, option->max);
    else if (option->type == OPTION_COUNT)
        buffer_format(&allowed, "a number from %s to %s", option->min, option->max);
    else if (option->type == OPTION_UMASK)
        buffer_format(&allowed, "octal digits from 0 to 777");
    else if (option->type == OPTION_USER || option->type == OPTION_GROUP)
        buffer_format(&allowed, "a number or the name of a %s that this machine knows",
                      option->type == OPTION_USER ? "user" : "group");
    else if (option->type == OPTION_MODE)
        buffer_format(&allowed, "octal digits from 0 to 7777");
    else if (option->type == OPTION_RANGES)
        buffer_format(&allowed, "numbers and ranges of them, such as 1000-59999:70000");
    else if (option->type == OPTION_USERS)
        buffer_format(&allowed, "numbers or names of users that this machine knows, such as root:backup");
    else
        buffer_format(&allowed, "%s", option->value ? option->value : "no value");
    if (!value)
        return why(ret_why, -EINVAL, "option %s needs a value; allowed: %s", option->name, allowed.data);
    return why(ret_why, -EINVAL, "option %s=%s: not allowed; allowed: %s", option->name,
               option->is_secret ? "..." : value, allowed.data);
}

static int parse_number(const char *text, int base, uint64_t max, uint64_t *ret_number)
{
    char *end = NULL;
    errno = 0;
    if (text[0] < '0' || text[0] > '9')
        return -EINVAL;
    unsigned long long n = strtoull(text, &end, base);
    if (errno || *end || n > max)
        return -EINVAL;
    *ret_number = n;
    return 0;
}

static int parse_count(const char *text, int64_t *ret_count)
{
    uint64_t n;
    int r = parse_number(text, 10, INT32_MAX, &n);
    if (r >= 0)
        *ret_count = (int64_t)n;
    return r;
}

static int set_bounded(const struct option_row *option, const char *value,
                       int (*parse)(const char *, int64_t *), int64_t *ret_number)
{
    int64_t n, min, max;
    if (parse(value, &n) < 0 || parse(option->min, &min) < 0 || parse(option->max, &max) < 0)
        return -EINVAL;
    if (n < min || n > max)
        return -EINVAL;
    *ret_number = n;
    return 0;
}

// The index of `word` in "a|b|c", or -EINVAL.
static int word_index(const char *words, const char *word)
{
    size_t n = strlen(word);
    for (int i = 0;; i++) {
        size_t size = strcspn(words, "|");
        if (n == size && strncmp(words, word, n) == 0)
            return i;
        if (words[size] == '\0')
            return -EINVAL;
        words += size + 1;
    }
}

static int set_instant(const char *value, int64_t *unix_ns)
{
    int64_t tai_ns;
    if (timespan_parse_instant(text_of(value), &tai_ns) < 0 || tai_to_unix_ns(tai_ns) <= 0)
        return -EINVAL;
    *unix_ns = tai_to_unix_ns(tai_ns);
    return 0;
}

// An id of UINT32_MAX means "none" to the kernel.
static int set_id(const struct option_row *option, const char *value, struct space_options *s)
{
    uint64_t n;
    bool is_number = parse_number(value, 10, UINT32_MAX - 1, &n) == 0;
    if (option->type == OPTION_USER) {
        struct passwd *user = is_number ? NULL : getpwnam(value);
        if (!is_number && !user)
            return -EINVAL;
        s->uid = is_number ? (uid_t)n : user->pw_uid;
        s->has_uid = true;
        return 0;
    }
    struct group *group = is_number ? NULL : getgrnam(value);
    if (!is_number && !group)
        return -EINVAL;
    s->gid = is_number ? (gid_t)n : group->gr_gid;
    s->has_gid = true;
    return 0;
}

static void add_path(char ***paths, const char *base, const char *path)
{
    size_t count = 0;
    while (*paths && (*paths)[count])
        count++;
    *paths = memory_grow(*paths, count + 2, sizeof **paths);
    (*paths)[count] = path_is_uri(path) ? memory_copy(path, strlen(path)) : path_absolute(base, path);
    (*paths)[count + 1] = NULL;
}

// Ends the path at the ':' behind it, which is none of a URI's own ("s3://", a port). The next one, or NULL.
static char *cut_path(char *path)
{
    char *colon = strchr(path, ':');
    if (colon && path_is_uri(path) && strncmp(colon, "://", 3) == 0) {
        colon = strchr(colon + 3, ':');
        while (colon && colon[1] >= '0' && colon[1] <= '9')
            colon = strchr(colon + 1, ':');
    }
    if (!colon)
        return NULL;
    *colon = '\0';
    return colon + 1;
}

// What can be said of paths is whether they are there at all.
static int set_path(const struct option_row *option, const char *value, const char *base, void *field)
{
    if (value[0] == '\0')
        return -EINVAL;
    if (option->type == OPTION_PATHS) {
        cleanup(cleanup_free) char *copy = memory_copy(value, strlen(value));
        for (char *path = copy, *next; path; path = next) {
            next = cut_path(path);
            if (path[0])
                add_path(field, base, path);
        }
        return 0;
    }
    char **text = field;
    bool is_plain = option->type == OPTION_TEXT || (option->type == OPTION_URI && path_is_uri(value));
    char *made = is_plain ? memory_copy(value, strlen(value)) : path_absolute(base, value);
    free(*text);
    *text = made;
    return 0;
}

// Names become numbers once, here: a later life of the daemon may not be able to ask who they are.
static int set_users(const char *value, char **text)
{
    cleanup(cleanup_free) char *copy = memory_copy(value, strlen(value));
    BUFFER_CLEANUP numbers = {};
    char *rest = copy;
    for (char *word; (word = strsep(&rest, ":"));) {
        uint64_t n = 0;
        const struct passwd *user = NULL;
        if (parse_number(word, 10, UINT32_MAX - 1, &n) < 0 && !(user = getpwnam(word)))
            return -EINVAL;
        buffer_format(&numbers, "%s%u", numbers.size_bytes ? ":" : "", user ? user->pw_uid : (uid_t)n);
    }
    free(*text);
    *text = buffer_steal(&numbers);
    return 0;
}

static int set_words(const struct option_row *option, const char *value, void *field,
                     struct space_options *s)
{
    if (option->type == OPTION_LEVEL)
        return log_level_parse(value, field);
    int index = word_index(option->words, value);
    if (index < 0)
        return index;
    if (option->type == OPTION_CHOICE) {
        *(bool *)field = index == 1;
        return 0;
    }
    if (option->type == OPTION_WORD) {
        *(unsigned *)field = (unsigned)index;
        return 0;
    }
    s->kind = (enum space_kind)index; // the words stand in its order
    s->has_kind = true;
    return 0;
}

static int set_value(const struct option_row *option, const char *value, const char *base,
                     struct options *o, struct space_options *s)
{
    void *field = field_of(option, o, s);
    int64_t count = 0;
    uint64_t mask = 0;
    int r;
    switch (option->type) {
    case OPTION_SIZE:
        return set_bounded(option, value, clock_parse_size, field);
    case OPTION_TIME:
        return set_bounded(option, value, clock_parse_duration, field);
    case OPTION_INSTANT:
        return set_instant(value, field);
    case OPTION_COUNT:
        r = set_bounded(option, value, parse_count, &count);
        if (r >= 0)
            *(uint32_t *)field = (uint32_t)count;
        return r;
    case OPTION_UMASK:
        r = parse_number(value, 8, 0777, &mask);
        if (r >= 0) {
            s->umask = (mode_t)mask;
            s->has_umask = true;
        }
        return r;
    case OPTION_MODE:
        r = parse_number(value, 8, 07777, &mask);
        if (r >= 0) {
            s->home_mode = (mode_t)mask;
            s->has_home_mode = true;
        }
        return r;
    case OPTION_USER:
    case OPTION_GROUP:
        return set_id(option, value, s);
    case OPTION_RANGES:
        if (ranges_parse(value, NULL) < 0)
            return -EINVAL;
        free(*(char **)field);
        *(char **)field = memory_copy(value, strlen(value));
        return 0;
    case OPTION_USERS:
        return set_users(value, field);
    case OPTION_CHOICE:
    case OPTION_WORD:
    case OPTION_KIND:
    case OPTION_LEVEL:
        return set_words(option, value, field, s);
    default:
        return set_path(option, value, base, field);
    }
}

int option_set(const struct option_row *option, const char *value, const char *base, struct options *o,
               struct space_options *s, char **ret_why)
{
    if (option->type == OPTION_IGNORED)
        return 0;
    if (option->type == OPTION_REFUSED)
        return why(ret_why, -EINVAL, "option %s: %s", option->name, option->help);
    if (option->type == OPTION_FLAG || option->type == OPTION_SWITCH) {
        if (value)
            return why(ret_why, -EINVAL, "option %s=%s: it takes no value", option->name, value);
        if (option->type == OPTION_SWITCH)
            *(bool *)field_of(option, o, s) = option->on;
        else if (option->on)
            o->mount_flags |= option->bit;
        else
            o->mount_flags &= ~option->bit;
        return 0;
    }
    if (!value || set_value(option, value, base, o, s) < 0)
        return refuse_value(option, value, ret_why);
    return 0;
}

void options_set_standards(struct options *o, struct space_options *s)
{
    for (const struct option_row *option = option_table; option->name; option++) {
        cleanup(cleanup_free) char *wrong = NULL;
        if (option->standard)
            check(option_set(option, option->standard, "/", o, s, &wrong) == 0);
    }
    o->mount_flags = MS_NOSUID | MS_NODEV;
    o->allow_other = geteuid() == 0;
}

static bool get_text(const struct option_row *option, const void *field, size_t i, struct buffer *to)
{
    const char *text = NULL;
    if (option->type == OPTION_PATHS) {
        char **paths = *(char ***)field;
        text = paths ? paths[i] : NULL;
    } else if (i == 0)
        text = *(char **)field;
    if (text)
        buffer_append_string(to, text);
    return text != NULL;
}

static void get_word(const struct option_row *option, int index, struct buffer *to)
{
    const char *words = option->words;
    for (; index > 0; index--)
        words = strchr(words, '|') + 1;
    buffer_append(to, words, strcspn(words, "|"));
}

static bool get_instant(int64_t unix_ns, struct buffer *to)
{
    char text[CLOCK_ISO_BYTES];
    clock_format_iso(unix_ns, text);
    if (unix_ns)
        buffer_append_string(to, text);
    return unix_ns != 0;
}

bool option_get(const struct option_row *option, const struct options *o, const struct space_options *s,
                size_t i, struct buffer *to)
{
    const void *field = field_of(option, (struct options *)o, (struct space_options *)s);
    if (option->type >= OPTION_PATH && option->type <= OPTION_TEXT)
        return get_text(option, field, i, to);
    if (i > 0)
        return false;
    switch (option->type) {
    case OPTION_FLAG:
        return ((o->mount_flags & option->bit) != 0) == option->on;
    case OPTION_SWITCH:
        return *(const bool *)field == option->on;
    case OPTION_SIZE:
        return buffer_format(to, "%" PRIi64, *(const int64_t *)field), true;
    case OPTION_TIME:
        return buffer_format(to, "%" PRIi64 "ns", *(const int64_t *)field), true;
    case OPTION_INSTANT:
        return get_instant(*(const int64_t *)field, to);
    case OPTION_COUNT:
        return buffer_format(to, "%" PRIu32, *(const uint32_t *)field), true;
    case OPTION_USER:
        return buffer_format(to, "%u", s->uid), s->has_uid;
    case OPTION_GROUP:
        return buffer_format(to, "%u", s->gid), s->has_gid;
    case OPTION_UMASK:
        return buffer_format(to, "%o", s->umask), s->has_umask;
    case OPTION_MODE:
        return buffer_format(to, "%o", s->home_mode), s->has_home_mode;
    case OPTION_CHOICE:
        return get_word(option, *(const bool *)field, to), true;
    case OPTION_WORD:
        return get_word(option, (int)*(const unsigned *)field, to), true;
    case OPTION_KIND:
        return get_word(option, (int)s->kind, to), true;
    case OPTION_LEVEL:
        return buffer_append_string(to, log_level_name(*(const enum log_level *)field)), true;
    default:
        return false;
    }
}
