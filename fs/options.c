// SPDX-License-Identifier: BSD-3-Clause
// options: what was said on the command line, in the -o list, in the file of `config=` and in the
// environment, as one struct.
// 1. What is nearer to the command wins: table < environment < file's `options:` < -o < a space's own.
// 2. The daemon gets everything resolved (options_daemon.c) and looks at nothing but its arguments.
#include "fs/options.h"

#include <getopt.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

#include "base/doc.h"
#include "base/clock.h"
#include "base/hash.h"
#include "config.h"
#include "fs/options_daemon.h"
#include "fs/options_table.h"
#include "fs/path.h"
#include "fs/why.h"

// The command line, not yet understood.
struct command {
    struct setting {
        char *name, *value; // value NULL: none
    } *settings;
    size_t setting_count;
    bool is_helper;   // as mount.butlerfs
    bool is_sloppy;   // -s: unknown options are none of our business
    const char *source, *mountpoint;
    char *base;       // relative paths are below it
};

static void command_release(struct command *c)
{
    for (size_t i = 0; i < c->setting_count; i++) {
        free(c->settings[i].name);
        free(c->settings[i].value);
    }
    free(c->settings);
    free(c->base);
}

static int add_setting(const char *name, const char *value, void *context, char **ret_why)
{
    struct command *c = context;
    c->settings = memory_grow(c->settings, c->setting_count + 1, sizeof *c->settings);
    c->settings[c->setting_count++] = (struct setting){
        memory_copy(name, strlen(name)), value ? memory_copy(value, strlen(value)) : NULL};
    return 0;
}

// Takes one item off *rest, its escapes undone; the '=' that ends the name becomes a NUL.
static int take_item(const char **rest, struct buffer *item, bool *ret_has_value, char **ret_why)
{
    const char *p = *rest;
    bool is_quoted = false;
    *ret_has_value = false;
    for (; *p && (*p != ',' || is_quoted); p++) {
        if (*p == '\\' && p[1] && strchr(",\\\"", p[1]))
            buffer_append_byte(item, *++p);
        else if (*p == '=' && !*ret_has_value) {
            buffer_append_byte(item, '\0');
            *ret_has_value = true;
            is_quoted = p[1] == '"';
            p += is_quoted;
        } else if (*p == '"' && is_quoted && (p[1] == ',' || p[1] == '\0'))
            is_quoted = false;
        else
            buffer_append_byte(item, *p);
    }
    if (is_quoted)
        return why(ret_why, -EINVAL, "-o %s: a quote is not closed", *rest);
    *rest = *p == ',' ? p + 1 : p;
    return 0;
}

int option_list_split(const char *list, option_each *each, void *context, char **ret_why)
{
    int r = 0;
    while (r == 0 && *list) {
        BUFFER_CLEANUP item = {};
        bool has_value;
        r = take_item(&list, &item, &has_value, ret_why);
        if (r == 0 && item.size_bytes > 0)
            r = each(item.data, has_value ? item.data + strlen(item.data) + 1 : NULL, context, ret_why);
    }
    return r;
}

static int show(bool is_version)
{
    BUFFER_CLEANUP text = {};
    if (is_version)
        buffer_append_string(&text, "butlerfs " BUTLERFS_VERSION "\n");
    else
        options_write_help(&text);
    fputs(text.data, stdout);
    return fflush(stdout) == 0 ? 1 : -errno;
}

// One letter of the command line. 1: it was answered.
static int take_flag(int letter, struct command *c, struct options *o, char **argv, char **ret_why)
{
    switch (letter) {
    case 'o':
        return option_list_split(optarg, add_setting, c, ret_why);
    case 'f':
        *(c->is_helper ? &o->fake : &o->foreground) = true;
        return 0;
    case 'F':
        o->foreground = true;
        return 0;
    case 's':
        c->is_sloppy = true;
        return 0;
    case 'N':
        free(o->mount_namespace);
        o->mount_namespace = memory_copy(optarg, strlen(optarg));
        return 0;
    case 'n':
    case 'v':
    case 't':
        return 0;
    case 'h':
    case 'V':
        return show(letter == 'V');
    case ':':
        return why(ret_why, -EINVAL, "%s needs a value; butlerfs --help says more", argv[optind - 1]);
    default:
        if (optopt)
            return why(ret_why, -EINVAL, "unknown flag -%c; butlerfs --help lists them", optopt);
        return why(ret_why, -EINVAL, "unknown flag %s; butlerfs --help lists them", argv[optind - 1]);
    }
}

static int take_command(int argc, char **argv, struct command *c, struct options *o, char **ret_why)
{
    static const struct option words[] = {
        {"foreground", no_argument, NULL, 'F'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {},
    };
    const char *slash = strrchr(argv[0], '/');
    c->is_helper = strncmp(slash ? slash + 1 : argv[0], "mount.", 6) == 0;
    optind = 0; // as new, also for a second call in a test
    opterr = 0;
    for (int letter; (letter = getopt_long(argc, argv, ":o:fnsvhVN:t:", words, NULL)) != -1;) {
        int r = take_flag(letter, c, o, argv, ret_why);
        if (r != 0)
            return r;
    }
    if (argc - optind > 2)
        return why(ret_why, -EINVAL,
                   "one word too many: %s; usage: butlerfs SOURCE MOUNTPOINT [-f] [-o ...]; "
                   "butlerfs --help says more", argv[optind + 2]);
    if (argc - optind < 2)
        return why(ret_why, -EINVAL,
                   "%s missing; usage: butlerfs SOURCE MOUNTPOINT [-f] [-o ...]; butlerfs --help says more",
                   argc == optind ? "SOURCE and MOUNTPOINT are" : "MOUNTPOINT is");
    c->source = argv[optind];
    c->mountpoint = argv[optind + 1];
    return 0;
}

// autofs leaves a ':' in front, and `mount -t fuse` wants the type in front of a '#', which maps and
// fstab may have escaped.
static const char *source_begin(const char *source)
{
    if (source[0] == ':')
        source++;
    for (const char *const *type = (const char *const[]){"butlerfs", "butler", NULL}; *type; type++) {
        size_t n = strlen(*type);
        if (strncmp(source, *type, n) != 0)
            continue;
        if (source[n] == '#')
            return source + n + 1;
        if (source[n] == '\\' && source[n + 1] == '#')
            return source + n + 2;
    }
    return source;
}

static int apply_settings(const struct command *c, struct options *o, struct space_options *standard,
                          char **ret_why)
{
    for (size_t i = 0; i < c->setting_count; i++) {
        const struct setting *setting = &c->settings[i];
        const struct option_row *option = option_find(text_of(setting->name));
        if (!option && c->is_sloppy)
            continue;
        if (!option) {
            const char *nearest = option_suggest(text_of(setting->name));
            return why(ret_why, -EINVAL, "unknown option %s%s%s; butlerfs --help lists them",
                       setting->name, nearest ? ": did you mean " : "", nearest ? nearest : "");
        }
        int r = option_set(option, setting->value, c->base, o, standard, ret_why);
        if (r < 0)
            return r;
    }
    return 0;
}

// Environment variables give the defaults of options that say the same; both of a pair or none, so
// that an option given isn't joined by a variable that contradicts it.
static void apply_environment(struct options *o)
{
    if (o->repository_index || o->repositories)
        return;
    for (const struct option_row *option = option_table; option->name; option++) {
        const char *value = option->environment ? getenv(option->environment) : NULL;
        cleanup(cleanup_free) char *wrong = NULL;
        if (value && value[0])
            check(option_set(option, value, "/", o, NULL, &wrong) == 0); // any text will do
    }
}

static const char *home_folder(void)
{
    const char *home = getenv("HOME");
    if (home && home[0] == '/')
        return home;
    struct passwd *user = getpwuid(geteuid());
    return user ? user->pw_dir : "/";
}

static void set_cache_dir(struct options *o)
{
    BUFFER_CLEANUP key = {};
    buffer_format(&key, "%s\n%s", o->source, o->mountpoint);
    uint64_t hash = hash64(key.data, key.size_bytes);
    struct buffer path = {};
    const char *base = getenv("XDG_CACHE_HOME");
    if (geteuid() == 0)
        buffer_append_string(&path, "/var/cache");
    else if (base && base[0] == '/')
        buffer_append_string(&path, base);
    else
        buffer_format(&path, "%s/.cache", home_folder());
    buffer_format(&path, "/butlerfs/%016" PRIx64, hash);
    o->cache_dir = buffer_steal(&path);
    o->has_own_cache_dir = true;
}

// By the trees it counts, not by where they are mounted: limits stay when a mount point changes.
static void set_ledger_dir(struct options *o)
{
    BUFFER_CLEANUP key = {};
    struct buffer path = {};
    const char *base = getenv("XDG_STATE_HOME");
    for (uint32_t i = 0; i < o->space_count; i++)
        if (space_can_write(&o->spaces[i]))
            buffer_format(&key, "%s\n", o->spaces[i].source);
    if (geteuid() == 0)
        buffer_append_string(&path, "/var/lib");
    else if (base && base[0] == '/')
        buffer_append_string(&path, base);
    else
        buffer_format(&path, "%s/.local/state", home_folder());
    buffer_format(&path, "/butlerfs/%016" PRIx64, hash64(key.data, key.size_bytes));
    o->ledger_dir = buffer_steal(&path);
    o->has_own_ledger_dir = true;
}

// The last `config=` of the list names the file.
static int read_config(const struct command *c, struct options *o, struct doc **ret_config,
                       char **ret_why)
{
    const char *file = NULL;
    for (size_t i = 0; i < c->setting_count; i++)
        if (strcmp(c->settings[i].name, "config") == 0)
            file = c->settings[i].value;
    if (!file || !file[0])
        return 0;
    o->config_file = path_absolute(c->base, file);
    cleanup(cleanup_free) char *reason = NULL;
    int r = doc_read_yaml(o->config_file, ret_config, &reason);
    if (r >= 0)
        return 0;
    // Whoever read it may have named it already.
    bool is_named = reason && strstr(reason, o->config_file);
    return why(ret_why, r, "%s%s%s", is_named ? "" : o->config_file, is_named ? "" : ": ",
               reason ? reason : strerror(-r));
}

static int make_spaces(const struct command *c, const struct doc *config, const char *source,
                       const struct space_options *standard, struct options *o, char **ret_why)
{
    if (doc_get(config, "spaces")) {
        if (standard->has_kind)
            return why(ret_why, -EINVAL, "option space: each space of %s says its own kind", o->config_file);
        o->source = memory_copy(source, strlen(source));
        return options_config_spaces(config, o->config_file, o, standard, ret_why);
    }
    struct space_options *s;
    int r = options_add_space(o, (struct text){}, standard, &s, ret_why);
    if (r >= 0)
        r = space_settle(s, o, source, c->base, ret_why);
    if (r < 0)
        return r;
    if (space_can_write(s)) {
        struct buffer said = {};
        buffer_format(&said, "%.*s%s", (int)space_prefix_bytes(source), source, s->source);
        o->source = buffer_steal(&said);
        return 0;
    }
    bool is_path = !path_is_uri(source) && (source[0] == '/' || source[0] == '.');
    bool is_label = !path_is_uri(source) && (o->repository_index || o->repositories);
    if (is_path || !(is_label || path_is_uri(source)))
        o->source = path_absolute(c->base, source);
    else
        o->source = memory_copy(source, strlen(source));
    return 0;
}

// The kernel asks for all locks of a mount, or for none; archives have no file to take them on.
static int check_locks(const struct options *o, char **ret_why)
{
    for (uint32_t i = 0; o->locks_below && i < o->space_count; i++)
        if (!space_can_write(&o->spaces[i]))
            return why(ret_why, -EINVAL, "locks=backing: %s is an archive, which has no locks: mount homes and group spaces "
                       "apart from archives", o->spaces[i].source);
    return 0;
}

// What is said for all spaces means something to one of them at least.
static int check_kinds(const struct options *o, struct text name, const char *file, char **ret_why)
{
    const struct option_row *option = option_find(name);
    for (uint32_t i = 0; option && i < o->space_count; i++)
        if (option_is_of_kind(option, o->spaces[i].kind))
            return 0;
    if (!option)
        return 0;
    cleanup(cleanup_free) char *reason = option_is_not_of(option, o->is_configured ? NULL : &o->spaces[0]);
    return why(ret_why, -EINVAL, "%s%soption %s: %s", file ? file : "", file ? ": " : "", option->name, reason);
}

static int check_all_kinds(const struct command *c, const struct doc *config, const struct options *o, char **ret_why)
{
    const struct doc *options = doc_get(config, "options");
    int r = 0;
    for (size_t i = 0; r == 0 && i < c->setting_count; i++)
        r = check_kinds(o, text_of(c->settings[i].name), NULL, ret_why);
    for (size_t i = 0; r == 0 && i < doc_count(options); i++)
        r = check_kinds(o, doc_key(options, i), o->config_file, ret_why);
    return r;
}

// A bucket at a time is looked at, and only what is over is sure.
static int check_past(const struct options *o, char **ret_why)
{
    for (uint32_t i = 0; i < o->space_count; i++) {
        const struct space_options *s = &o->spaces[i];
        char text[CLOCK_ISO_BYTES];
        if (!s->version_at_unix_ns || s->kind != SPACE_S3)
            continue;
        clock_format_iso(s->version_at_unix_ns, text);
        const char *wrong = s->write != WRITE_OFF                      ? "can't be written to as it was (option write)"
                            : s->version_at_unix_ns > clock_unix_ns()  ? "isn't known at a time that is still to come"
                                                                       : NULL;
        if (wrong)
            return why(ret_why, -EINVAL, "option version_at=%s: %s %s", text, s->source, wrong);
    }
    return 0;
}

static int understand(struct command *c, struct options *o, struct space_options *standard,
                      char **ret_why)
{
    cleanup(cleanup_doc_free) struct doc *config = NULL;
    const char *source = source_begin(c->source);
    int r = read_config(c, o, &config, ret_why);
    if (r >= 0 && config)
        r = options_config_apply(config, o->config_file, o, standard, ret_why);
    if (r >= 0)
        r = apply_settings(c, o, standard, ret_why);
    if (r < 0)
        return r;
    apply_environment(o);
    if (c->mountpoint[0] == '\0')
        return why(ret_why, -EINVAL, "the mount point is empty");
    o->mountpoint = path_resolve(c->base, c->mountpoint, NULL);
    r = make_spaces(c, config, source, standard, o, ret_why);
    if (r == 0)
        r = check_locks(o, ret_why);
    if (r == 0)
        r = check_all_kinds(c, config, o, ret_why);
    if (r == 0)
        r = check_past(o, ret_why);
    if (r < 0)
        return r;
    // Archives can't be written, whatever `rw` mount(8) puts in front of every list.
    if (!options_can_change(o))
        o->mount_flags |= MS_RDONLY;
    if (!o->cache_dir)
        set_cache_dir(o);
    cleanup(cleanup_free) char *cache_dir = o->cache_dir;
    o->cache_dir = path_resolve("/", cache_dir, NULL);
    if (!o->ledger_dir && options_can_write(o))
        set_ledger_dir(o);
    return 0;
}

static bool says_remount(const struct command *c)
{
    for (size_t i = 0; i < c->setting_count; i++)
        if (strcmp(c->settings[i].name, "remount") == 0)
            return true;
    return false;
}

// mount(8) says all of fstab's options again, and what it finds in /proc/mounts: only flags can change, the last word of each
// counts, and what isn't said stays.
static int understand_remount(const struct command *c, struct options *o)
{
    o->is_remount = true;
    o->mount_flags = 0;
    for (size_t i = 0; i < c->setting_count; i++) {
        const struct option_row *option = option_find(text_of(c->settings[i].name));
        if (!option || option->type != OPTION_FLAG)
            continue;
        o->mount_flags &= ~option->bit;
        o->cleared_flags &= ~option->bit;
        *(option->on ? &o->mount_flags : &o->cleared_flags) |= option->bit;
    }
    o->source = memory_copy(c->source, strlen(c->source));
    o->mountpoint = path_resolve(c->base, c->mountpoint, NULL);
    return 0;
}

int options_parse(int argc, char **argv, struct options **ret_options, char **ret_why)
{
    if (argc > 1 && strcmp(argv[1], "--daemon") == 0)
        return options_parse_daemon(argc, argv, ret_options, ret_why);
    struct options *o = new_struct(struct options);
    struct space_options standard = {};
    cleanup(command_release) struct command c = {.base = getcwd(NULL, 0)};
    if (!c.base)
        c.base = memory_copy("/", 1);
    options_set_standards(o, &standard);
    int r = argc < 1 ? -EINVAL : take_command(argc, argv, &c, o, ret_why);
    if (r == 0)
        r = says_remount(&c) ? understand_remount(&c, o) : understand(&c, o, &standard, ret_why);
    space_release(&standard);
    if (r != 0) {
        options_free(o);
        return r;
    }
    *ret_options = o;
    return 0;
}

void options_free(struct options *o)
{
    if (!o)
        return;
    for (uint32_t i = 0; i < o->space_count; i++)
        space_release(&o->spaces[i]);
    free(o->spaces);
    free(o->source);
    free(o->mountpoint);
    free(o->mount_namespace);
    free(o->config_file);
    free(o->cache_dir);
    free(o->ledger_dir);
    free(o->quota_exempt);
    free(o->repository_index);
    free(o->repositories);
    free(o);
}
