// SPDX-License-Identifier: BSD-3-Clause
// objects: url, evict and cache; warm and recall have files of their own.
#include "tools/objects.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "fs/why.h"
#include "tools/ask.h"
#include "tools/print.h"

#define ANSWER_CLEANUP cleanup(cleanup_doc_free) struct doc
#define URL_TRIES 20 // credentials are being fetched

// Opens the path, asks about it, and takes an answer that isn't "ok" for the error it is.
static int ask_path(const char *path, const struct doc *request, struct doc **ret_answer, char **ret_why)
{
    ANSWER_CLEANUP *answer = NULL;
    cleanup(cleanup_free) char *reason = NULL;
    cleanup(cleanup_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return why(ret_why, -errno, "%s: %m", path);
    int r = ask_open(fd, request, &answer, &reason);
    if (r < 0)
        return why(ret_why, r, "%s: %s", path, reason);
    if (!doc_bool(doc_get(answer, "ok"), false)) {
        struct text error = doc_text(doc_get(answer, "error"), TEXT("refused"));
        int number = (int)-doc_integer(doc_get(answer, "errno"), EPERM);
        return why(ret_why, number < 0 ? number : -EPERM, "%s: %.*s", path, (int)error.size_bytes, error.data);
    }
    *ret_answer = take(answer);
    return 0;
}

// A line for one of several paths.
static void complain(const char *line)
{
    fprintf(stderr, "butlerfsctl: %s\n", line);
}

// The folder that a path is in (allocated), and its name there.
static char *folder_of(const char *path, const char **ret_name)
{
    const char *slash = strrchr(path, '/');
    *ret_name = slash ? slash + 1 : path;
    return slash ? memory_copy(path, (size_t)(slash - path) + 1) : memory_copy(".", 1);
}

// expires_ns 0: as the mount has it. `puts`: of a PUT.
static int url_of(const char *path, int64_t expires_ns, bool puts)
{
    ANSWER_CLEANUP *request = doc_new(DOC_MAP), *answer = NULL;
    cleanup(cleanup_free) char *reason = NULL, *folder = NULL;
    const char *name;
    doc_put_text(request, "verb", "url");
    if (puts) {
        folder = folder_of(path, &name);
        doc_put_text(request, "put", name);
    }
    if (expires_ns)
        doc_put_integer(request, "expires_s", expires_ns / NS_PER_S);
    int r = -EAGAIN;
    for (int i = 0; i < URL_TRIES && r == -EAGAIN; i++) {
        if (i > 0)
            usleep(250000);
        free(take(reason));
        r = ask_path(puts ? folder : path, request, &answer, &reason);
    }
    if (r < 0) {
        complain(reason);
        return r;
    }
    struct text url = doc_text(doc_get(answer, "url"), TEXT(""));
    printf("%.*s\n", (int)url.size_bytes, url.data);
    if (doc_bool(doc_get(answer, "is_archive"), false))
        fprintf(stderr, "butlerfsctl: %s is a member of the archive that this URL is of\n", path);
    return 0;
}

int url_run(char **words, int count, char **ret_why)
{
    int64_t expires_ns = 0;
    int paths = 0, r = 0;
    bool puts = false;
    for (int i = 0; i < count; i++) {
        const char *value = NULL;
        if (strcmp(words[i], "--put") == 0)
            puts = true;
        else if (strncmp(words[i], "--expires=", 10) == 0)
            value = words[i] + 10;
        else if (strcmp(words[i], "--expires") == 0 && i + 1 < count)
            value = words[++i];
        else if (words[i][0] == '-' && words[i][1])
            return -EINVAL;
        else
            words[paths++] = words[i];
        if (value && (clock_parse_duration(value, &expires_ns) < 0 || expires_ns < NS_PER_S ||
                      expires_ns > 7 * 86400 * NS_PER_S))
            return why(ret_why, -EINVAL, "--expires %s: a time from 1s to 7d, such as 1h", value);
    }
    if (paths == 0)
        return -EINVAL;
    for (int i = 0; i < paths; i++) {
        int e = url_of(words[i], expires_ns, puts);
        r = e < 0 ? -EIO : r;
    }
    return r < 0 ? why(ret_why, r, "not all URLs could be made") : 0;
}

int evict_run(char **words, int count, char **ret_why)
{
    ANSWER_CLEANUP *request = doc_new(DOC_MAP);
    int r = 0;
    doc_put_text(request, "verb", "evict");
    if (count == 0 || words[0][0] == '-')
        return -EINVAL;
    for (int i = 0; i < count; i++) {
        ANSWER_CLEANUP *answer = NULL;
        cleanup(cleanup_free) char *reason = NULL;
        int e = ask_path(words[i], request, &answer, &reason);
        if (e < 0)
            complain(reason);
        r = e < 0 ? -EIO : r;
    }
    return r < 0 ? why(ret_why, r, "not all could be evicted") : 0;
}

// ---- cache

static int cache_stats(const char *path, bool is_json, char **ret_why)
{
    ANSWER_CLEANUP *request = doc_new(DOC_MAP), *answer = NULL;
    BUFFER_CLEANUP text = {};
    (void)is_json;
    doc_put_text(request, "verb", "cache-stats");
    int r = ask_mount(path, request, &answer, ret_why);
    if (r < 0)
        return r;
    doc_write_json(answer, true, &text);
    printf("%s\n", text.data);
    return 0;
}

static void print_object(const struct doc *o, bool is_json)
{
    BUFFER_CLEANUP line = {};
    if (is_json) {
        doc_write_json(o, false, &line);
    } else {
        struct text origin = doc_text(doc_get(o, "origin"), TEXT("")), key = doc_text(doc_get(o, "key"), TEXT(""));
        int64_t blocks = doc_integer(doc_get(o, "blocks"), 0);
        buffer_format(&line, "%3" PRIi64 "%%%s%s ", blocks ? doc_integer(doc_get(o, "blocks_present"), 0) * 100 / blocks : 100,
                      doc_bool(doc_get(o, "is_pinned"), false) ? " pinned" : "",
                      doc_bool(doc_get(o, "is_open"), false) ? " open" : "");
        print_bytes(doc_integer(doc_get(o, "size_bytes"), 0), &line);
        buffer_append_byte(&line, ' ');
        buffer_append_text(&line, origin);
        buffer_append_byte(&line, '/');
        buffer_append_text(&line, key);
    }
    fwrite(line.data, 1, line.size_bytes, stdout);
    putchar('\n');
}

static int cache_ls(const char *path, bool is_json, char **ret_why)
{
    int64_t cursor = 0;
    do {
        ANSWER_CLEANUP *request = doc_new(DOC_MAP), *answer = NULL;
        doc_put_text(request, "verb", "cache-list");
        doc_put_integer(request, "cursor", cursor);
        int r = ask_mount(path, request, &answer, ret_why);
        if (r < 0)
            return r;
        const struct doc *list = doc_get(answer, "objects");
        for (size_t i = 0; i < doc_count(list); i++)
            print_object(doc_item(list, i), is_json);
        cursor = doc_integer(doc_get(answer, "next"), 0);
    } while (cursor);
    return 0;
}

static int cache_verify(const char *path, bool is_json, char **ret_why)
{
    bool is_running = true, is_terminal = isatty(STDERR_FILENO);
    (void)is_json;
    for (int i = 0; is_running; i++) {
        ANSWER_CLEANUP *request = doc_new(DOC_MAP), *answer = NULL;
        BUFFER_CLEANUP bytes = {};
        doc_put_text(request, "verb", "cache-verify");
        doc_put_bool(request, "begin", i == 0);
        int r = ask_mount(path, request, &answer, ret_why);
        if (r < 0)
            return r;
        is_running = doc_bool(doc_get(answer, "is_running"), false);
        print_bytes(doc_integer(doc_get(answer, "bytes"), 0), &bytes);
        if (is_terminal || !is_running)
            fprintf(is_running ? stderr : stdout, "%s%" PRIi64 " objects, %s, %" PRIi64 " bad blocks%s",
                    is_terminal && is_running ? "\r" : "", doc_integer(doc_get(answer, "objects"), 0), bytes.data,
                    doc_integer(doc_get(answer, "bad_blocks"), 0), is_running ? "" : "\n");
        if (is_running)
            usleep(200000);
    }
    return 0;
}

int cache_run(char **words, int count, char **ret_why)
{
    static const struct {
        const char *name;
        int (*run)(const char *path, bool is_json, char **ret_why);
    } all[] = {{"ls", cache_ls}, {"verify", cache_verify}, {"stats", cache_stats}};
    bool is_json = count == 3 && strcmp(words[2], "--json") == 0;
    if (count != 2 + is_json || words[1][0] == '-')
        return -EINVAL;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (strcmp(words[0], all[i].name) == 0)
            return all[i].run(words[1], is_json, ret_why);
    return -EINVAL;
}
