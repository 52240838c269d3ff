// SPDX-License-Identifier: BSD-3-Clause
// quota: limits and usage of homes and group spaces: set, report, check, repair, export, import. Names are looked up
// here, where the operator's own name service is; the daemon is told numbers.
#include "tools/quota.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <unistd.h>

#include "fs/why.h"
#include "tools/ask.h"
#include "tools/print.h"

#define ANSWER_CLEANUP cleanup(cleanup_doc_free) struct doc

static struct doc *new_request(const char *verb)
{
    struct doc *request = doc_new(DOC_MAP);
    doc_put_text(request, "verb", verb);
    return request;
}

// ---- whom ---------------------------------------------------------------------------------------

static bool is_number(const char *word)
{
    return word[0] && strspn(word, "0123456789") == strlen(word);
}

static int put_user_or_group(struct doc *request, bool is_user, const char *name, char **ret_why)
{
    if (is_number(name) || strcmp(name, "default") == 0) {
        doc_put_text(request, "id", name);
        return 0;
    }
    const struct passwd *user = is_user ? getpwnam(name) : NULL;
    const struct group *group = is_user ? NULL : getgrnam(name);
    if (!user && !group)
        return why(ret_why, -ENOENT, "%s: no such %s", name, is_user ? "user" : "group");
    doc_put_integer(request, "id", user ? (int64_t)user->pw_uid : (int64_t)group->gr_gid);
    return 0;
}

// Of a folder's path the daemon knows the number.
static int put_tree(struct doc *request, const char *path, char **ret_why)
{
    ANSWER_CLEANUP *question = new_request("quota-tree"), *answer = NULL;
    cleanup(cleanup_free) char *real = realpath(path, NULL);
    if (is_number(path)) {
        doc_put_text(request, "id", path);
        return 0;
    }
    cleanup(cleanup_close) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || !real)
        return why(ret_why, -errno, "%s: %m", path);
    int r = ask_open(fd, question, &answer, ret_why);
    if (r < 0)
        return r;
    struct text error = doc_text(doc_get(answer, "error"), TEXT("refused"));
    if (!doc_bool(doc_get(answer, "ok"), false))
        return why(ret_why, -EPERM, "%s: %.*s", path, (int)error.size_bytes, error.data);
    doc_put(request, "id", doc_new_text(doc_text(doc_get(answer, "tree"), TEXT(""))));
    doc_put_text(request, "path", real);
    return 0;
}

// ---- set ----------------------------------------------------------------------------------------

// "--soft-bytes 40G" or "--soft-bytes=40G" as "soft_bytes". 1: it was one; words[*i] may move on.
static int take_limit(char **words, int count, int *i, struct doc *request)
{
    static const struct {
        const char *option, *key;
    } all[] = {{"--soft-bytes", "soft_bytes"}, {"--hard-bytes", "hard_bytes"}, {"--soft-files", "soft_files"},
               {"--hard-files", "hard_files"}, {"--grace", "grace"}};
    for (size_t k = 0; k < sizeof all / sizeof *all; k++) {
        size_t n = strlen(all[k].option);
        const char *value = NULL;
        if (strncmp(words[*i], all[k].option, n) == 0 && words[*i][n] == '=')
            value = words[*i] + n + 1;
        else if (strcmp(words[*i], all[k].option) == 0 && *i + 1 < count)
            value = words[++*i];
        if (value) {
            doc_put_text(request, all[k].key, value);
            return 1;
        }
    }
    return 0;
}

static int set(char **words, int count, char **ret_why)
{
    ANSWER_CLEANUP *request = new_request("quota-set"), *answer = NULL;
    int plain = 0, limits = 0, clears = 0;
    for (int i = 0; i < count; i++) {
        if (take_limit(words, count, &i, request))
            limits++;
        else if (strcmp(words[i], "--clear") == 0)
            clears++;
        else if (words[i][0] == '-')
            return -EINVAL;
        else
            words[plain++] = words[i];
    }
    if (plain != 3 || (limits > 0) == (clears > 0))
        return -EINVAL;
    doc_put_text(request, "kind", words[1]);
    doc_put_bool(request, "is_cleared", clears > 0);
    int r = -EINVAL;
    if (strcmp(words[1], "tree") == 0)
        r = put_tree(request, words[2], ret_why);
    else if (strcmp(words[1], "user") == 0 || strcmp(words[1], "group") == 0)
        r = put_user_or_group(request, words[1][0] == 'u', words[2], ret_why);
    return r < 0 ? r : ask_mount(words[0], request, &answer, ret_why);
}

// ---- report -------------------------------------------------------------------------------------

static void put_name(const struct doc *o, struct buffer *to)
{
    struct text kind = doc_text(doc_get(o, "kind"), TEXT("?")), id = doc_text(doc_get(o, "id"), TEXT("?"));
    int64_t number = doc_integer(doc_get(o, "id"), -1);
    const struct passwd *user = text_equal(kind, TEXT("user")) && number >= 0 ? getpwuid((uid_t)number) : NULL;
    const struct group *group = text_equal(kind, TEXT("group")) && number >= 0 ? getgrgid((gid_t)number) : NULL;
    if (user || group)
        buffer_append_string(to, user ? user->pw_name : group->gr_name);
    else
        buffer_append_text(to, doc_text(doc_get(o, "path"), id));
}

static void put_amount(int64_t n, bool is_bytes, bool is_limit, struct buffer *to)
{
    BUFFER_CLEANUP text = {};
    if (is_limit && n == 0)
        buffer_append_string(&text, "-");
    else if (is_bytes)
        print_bytes(n, &text);
    else
        print_count(n, &text);
    buffer_format(to, " %11s", text.data);
}

static void put_state(const struct doc *o, const char *what, const char *left, struct buffer *to)
{
    const struct doc *seconds = doc_get(o, left);
    if (doc_kind(seconds) != DOC_INTEGER)
        return;
    buffer_format(to, "  %s over its soft limit, ", what);
    if (doc_integer(seconds, 0) == 0)
        buffer_append_string(to, "and its time is over");
    else {
        print_seconds((double)doc_integer(seconds, 0), to);
        buffer_append_string(to, " left");
    }
}

static void print_owner(const struct doc *o, struct buffer *to)
{
    BUFFER_CLEANUP name = {};
    struct text kind = doc_text(doc_get(o, "kind"), TEXT("?"));
    put_name(o, &name);
    for (size_t i = 0; i < name.size_bytes; i++)
        if ((unsigned char)name.data[i] < 0x20 || name.data[i] == 0x7f)
            name.data[i] = '?';
    buffer_format(to, "%-5.*s %-16s", (int)kind.size_bytes, kind.data, name.data);
    put_amount(doc_integer(doc_get(o, "used_bytes"), 0), true, false, to);
    put_amount(doc_integer(doc_get(o, "soft_bytes"), 0), true, true, to);
    put_amount(doc_integer(doc_get(o, "hard_bytes"), 0), true, true, to);
    put_amount(doc_integer(doc_get(o, "used_files"), 0), false, false, to);
    put_amount(doc_integer(doc_get(o, "soft_files"), 0), false, true, to);
    put_amount(doc_integer(doc_get(o, "hard_files"), 0), false, true, to);
    put_state(o, "bytes", "bytes_grace_left", to);
    put_state(o, "files", "files_grace_left", to);
    if (doc_bool(doc_get(o, "is_recounting"), false))
        buffer_append_string(to, "  being counted");
    buffer_append_byte(to, '\n');
}

void quota_print(const struct doc *answer, struct buffer *to)
{
    const struct doc *owners = doc_get(answer, "owners");
    buffer_format(to, "%-5s %-16s %11s %11s %11s %11s %11s %11s\n", "", "", "bytes", "soft", "hard", "files", "soft",
                  "hard");
    for (size_t i = 0; i < doc_count(owners); i++)
        print_owner(doc_item(owners, i), to);
}

static int say(struct buffer *text)
{
    fwrite(text->data, 1, text->size_bytes, stdout);
    return fflush(stdout) == 0 ? 0 : -errno;
}

static int report(char **words, int count, char **ret_why)
{
    ANSWER_CLEANUP *request = new_request("quota-report"), *answer = NULL;
    BUFFER_CLEANUP text = {};
    bool is_json = count == 2 && strcmp(words[1], "--json") == 0;
    if (count != 1 + is_json || words[0][0] == '-')
        return -EINVAL;
    int r = ask_mount(words[0], request, &answer, ret_why);
    if (r < 0)
        return r;
    if (is_json) {
        doc_write_json(answer, true, &text);
        buffer_append_byte(&text, '\n');
    } else
        quota_print(answer, &text);
    return say(&text);
}

// ---- check and repair ---------------------------------------------------------------------------

static void print_difference(const struct doc *d)
{
    BUFFER_CLEANUP name = {};
    struct text kind = doc_text(doc_get(d, "kind"), TEXT("?"));
    put_name(d, &name);
    printf("%.*s %s: %" PRId64 " bytes and %" PRId64 " files, counted are %" PRId64 " and %" PRId64 "\n",
           (int)kind.size_bytes, kind.data, name.data, doc_integer(doc_get(d, "used_bytes"), 0),
           doc_integer(doc_get(d, "used_files"), 0), doc_integer(doc_get(d, "counted_bytes"), 0),
           doc_integer(doc_get(d, "counted_files"), 0));
}

static int count_again(const char *path, bool is_repair, char **ret_why)
{
    for (int i = 0;; i++) {
        ANSWER_CLEANUP *request = new_request("quota-check"), *answer = NULL;
        doc_put_bool(request, "begin", i == 0);
        doc_put_bool(request, "repair", is_repair);
        int r = ask_mount(path, request, &answer, ret_why);
        if (r < 0)
            return r;
        if (doc_bool(doc_get(answer, "is_running"), false)) {
            usleep(i < 20 ? 20000 : 500000);
            continue;
        }
        const struct doc *list = doc_get(answer, "differences");
        for (size_t k = 0; k < doc_count(list); k++)
            print_difference(doc_item(list, k));
        printf(doc_count(list) == 0 ? "all is as it is counted\n" : is_repair ? "repaired\n" : "");
        fflush(stdout);
        if (doc_count(list) && !is_repair)
            return why(ret_why, -EIO, "%s: usage is not what is counted; quota repair takes what is counted", path);
        return 0;
    }
}

// ---- export and import --------------------------------------------------------------------------

// Limits alone: what an import sets.
static int export_limits(const char *path, char **ret_why)
{
    static const char *const keys[] = {"kind", "id", "path", "soft_bytes", "hard_bytes", "soft_files", "hard_files", "grace"};
    ANSWER_CLEANUP *request = new_request("quota-report"), *answer = NULL, *out = doc_new(DOC_MAP);
    BUFFER_CLEANUP text = {};
    int r = ask_mount(path, request, &answer, ret_why);
    if (r < 0)
        return r;
    struct doc *limits = doc_new(DOC_LIST);
    const struct doc *owners = doc_get(answer, "owners");
    for (size_t i = 0; i < doc_count(owners); i++) {
        const struct doc *o = doc_item(owners, i);
        if (!doc_bool(doc_get(o, "has_own_limits"), false))
            continue;
        struct doc *one = doc_new(DOC_MAP);
        for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
            const struct doc *value = doc_get(o, keys[k]);
            if (doc_kind(value) == DOC_INTEGER)
                doc_put_integer(one, keys[k], doc_integer(value, 0));
            else if (value)
                doc_put(one, keys[k], doc_new_text(doc_text(value, TEXT(""))));
        }
        doc_append(limits, one);
    }
    doc_put(out, "limits", limits);
    doc_write_json(out, true, &text);
    buffer_append_byte(&text, '\n');
    return say(&text);
}

static int read_all(const char *file, struct doc **ret_doc, char **ret_why)
{
    cleanup(cleanup_close) int opened = strcmp(file, "-") == 0 ? -1 : open(file, O_RDONLY | O_CLOEXEC);
    int fd = strcmp(file, "-") == 0 ? STDIN_FILENO : opened;
    cleanup(cleanup_free) char *reason = NULL;
    BUFFER_CLEANUP text = {};
    char piece[65536];
    ssize_t n = 0;
    while (fd >= 0 && (n = read(fd, piece, sizeof piece)) > 0)
        buffer_append(&text, piece, (size_t)n);
    if (fd < 0 || n < 0)
        return why(ret_why, -errno, "%s: %m", file);
    int r = doc_parse_json(buffer_text(&text), ret_doc, &reason);
    return r < 0 ? why(ret_why, -EIO, "%s: %s", file, reason) : 0;
}

static int import_limits(const char *path, const char *file, char **ret_why)
{
    ANSWER_CLEANUP *in = NULL;
    int r = read_all(file, &in, ret_why);
    const struct doc *limits = doc_get(in, "limits");
    if (r == 0 && doc_kind(limits) != DOC_LIST)
        return why(ret_why, -EIO, "%s: not what quota export writes", file);
    for (size_t i = 0; r == 0 && i < doc_count(limits); i++) {
        ANSWER_CLEANUP *request = new_request("quota-set"), *answer = NULL;
        const struct doc *one = doc_item(limits, i);
        for (size_t k = 0; k < doc_count(one); k++) {
            struct text key = doc_key(one, k);
            cleanup(cleanup_free) char *name = memory_copy(key.data, key.size_bytes);
            if (strcmp(name, "verb") != 0)
                doc_put(request, name, doc_new_text(doc_text(doc_item(one, k), TEXT("none"))));
        }
        cleanup(cleanup_free) char *reason = NULL;
        r = ask_mount(path, request, &answer, &reason);
        if (r < 0)
            return why(ret_why, -EIO, "%s: the %zu. of its limits: %s; those before it are set", file, i + 1, reason);
    }
    if (r == 0)
        printf("%zu limits set\n", doc_count(limits));
    return r;
}

int quota_run(char **words, int count, char **ret_why)
{
    if (count < 2)
        return -EINVAL;
    const char *what = words[0];
    if (strcmp(what, "set") == 0)
        return set(words + 1, count - 1, ret_why);
    if (strcmp(what, "report") == 0)
        return report(words + 1, count - 1, ret_why);
    if ((strcmp(what, "check") == 0 || strcmp(what, "repair") == 0) && count == 2)
        return count_again(words[1], what[0] == 'r', ret_why);
    if (strcmp(what, "export") == 0 && count == 2)
        return export_limits(words[1], ret_why);
    if (strcmp(what, "import") == 0 && count == 3)
        return import_limits(words[1], words[2], ret_why);
    return -EINVAL;
}
