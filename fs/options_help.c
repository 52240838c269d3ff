// SPDX-License-Identifier: BSD-3-Clause
// options_help: the table as text of 80 columns.
#include <string.h>

#include "fs/options_table.h"

#define COLUMNS 80
#define INDENT 28

static const char head[] =
    "Usage: butlerfs SOURCE MOUNTPOINT [-f] [-o OPTION[=VALUE],...]\n"
    "\n"
    "Shows a Butler repository, a bucket or a tree of homes as a folder. SOURCE is a\n"
    "folder, a URI or a label of the repository index, s3://BUCKET or home:FOLDER;\n"
    "butlerfs goes to the background once MOUNTPOINT\n"
    "answers. `umount MOUNTPOINT` ends it, `butlerfsctl status MOUNTPOINT` says how\n"
    "it does. Also as `mount -t butlerfs SOURCE MOUNTPOINT`, in fstab and autofs.\n"
    "\n"
    "  -f, --foreground          stay, and log to stderr\n"
    "  -o OPTION[=VALUE],...     see below; a comma inside a value is written \\,\n"
    "  -h, --help                this text\n"
    "  -V, --version             the version\n"
    "  -n -s -v -N NS -t TYPE    as mount(8) gives them to its helpers;\n"
    "                            as mount.butlerfs -f means: do all but the mount\n"
    "\n"
    "Options (those with * may be different for each space of a config file):\n";

static const char tail[] =
    "  ro, nosuid, nodev, noexec, noatime, ... as in mount(8); nosuid and nodev are\n"
    "                            the default, and a mount of archives is always ro\n"
    "  _netdev, nofail, noauto, user, x-*, ... are left to mount(8) and systemd\n"
    "\n"
    "Times are 500ms, 2s, 5min, 1h, 1d; sizes 512M, 8G, 1T.\n";

// Words of `text` from column `at` on, wrapped at INDENT.
static void write_wrapped(struct buffer *to, const char *text, size_t at)
{
    bool is_first = true;
    while (*text) {
        size_t word = strcspn(text, " ");
        if (!is_first && at + 1 + word > COLUMNS) {
            buffer_format(to, "\n%*s", INDENT, "");
            at = INDENT;
        } else if (!is_first) {
            buffer_append_byte(to, ' ');
            at++;
        }
        buffer_append(to, text, word);
        at += word;
        text += word;
        text += strspn(text, " ");
        is_first = false;
    }
    buffer_append_byte(to, '\n');
}

static void write_option(struct buffer *to, const struct option_row *option)
{
    BUFFER_CLEANUP left = {};
    buffer_format(&left, "  %s%s%s%s", option->name, option->value ? "=" : "",
                  option->value ? option->value : "", option->of_space && option->in_file ? " *" : "");
    buffer_format(to, "%-*s", INDENT, left.data);
    if (left.size_bytes >= INDENT)
        buffer_format(to, "\n%*s", INDENT, "");
    BUFFER_CLEANUP text = {};
    buffer_append_string(&text, option->help);
    if (option->words)
        buffer_format(&text, "; %s", option->words);
    if (option->standard)
        buffer_format(&text, " (default: %s", option->standard);
    if (option->min)
        buffer_format(&text, ", %s to %s", option->min, option->max);
    if (option->standard)
        buffer_append_byte(&text, ')');
    if (option->environment)
        buffer_format(&text, " (default: $%s)", option->environment);
    write_wrapped(to, text.data, INDENT);
}

void options_write_help(struct buffer *to)
{
    buffer_append_string(to, head);
    for (const struct option_row *option = option_table; option->name; option++)
        if (option->help && option->type != OPTION_REFUSED)
            write_option(to, option);
    buffer_append_string(to, tail);
}
