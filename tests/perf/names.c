// SPDX-License-Identifier: BSD-3-Clause
// names: walks all of a repository's tree through meta's door, without a mount: twice by listing
// (the first time with an empty catalogue), then looking every name up. `perf-names REPO [print]`
// prints the paths instead (files with their size and uuid), NUL-terminated.
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "meta/name.h"
#include "tests/unit/meta/asking.h"

struct tree {
    struct repository *r;
    struct buffer path;
    struct buffer *files_found; // paths, NUL-terminated; NULL: not wanted
    bool prints, looks_up;
    int64_t entries, files;
};

struct children {
    struct buffer names; // kind, size, name, ...
    uint64_t last;
    uint32_t room;
};

static int note(const struct entry *e, uint64_t cookie, void *context)
{
    struct children *c = context;
    if (c->room == 0)
        return 1;
    c->room--;
    check(cookie > c->last);
    c->last = cookie;
    buffer_append(&c->names, e, sizeof(*e));
    buffer_append_text(&c->names, e->name);
    return 0;
}

static void look_up(struct place *p, const struct entry *e, struct tree *t)
{
    struct entry found;
    BUFFER_CLEANUP scratch = {0};
    int r = asking(t->r, place_lookup(p, e->name, &found, &scratch, NULL, &want_));
    if (r < 0 || found.kind != e->kind || found.size_bytes != e->size_bytes)
        printf("not found: %d %.*s\n", r, (int)e->name.size_bytes, e->name.data);
}

static void print(struct tree *t, const struct entry *e)
{
    char uuid[UUID_TEXT_BYTES] = "-";
    if (e->kind == ENTRY_FILE)
        uuid_format(&e->uuid, uuid);
    printf("%s %lld ", uuid, e->kind == ENTRY_FILE ? (long long)e->size_bytes : -1LL);
    fwrite(t->path.data, 1, t->path.size_bytes, stdout);
    putchar(0);
}

static void walk(struct tree *t, struct place *p);

static void child(struct tree *t, struct place *p, struct entry *e)
{
    size_t from = t->path.size_bytes;
    buffer_append_byte(&t->path, '/');
    buffer_append_text(&t->path, e->name);
    t->entries++;
    t->files += e->kind == ENTRY_FILE;
    if (t->prints)
        print(t, e);
    if (t->files_found && e->kind == ENTRY_FILE)
        buffer_append(t->files_found, t->path.data + 1, t->path.size_bytes);
    if (t->looks_up)
        look_up(p, e, t);
    if (e->kind == ENTRY_FOLDER) {
        struct place again;
        BUFFER_CLEANUP path = {0};
        buffer_append_text(&path, text_slice(buffer_text(&t->path), 1, t->path.size_bytes));
        check(place_at(t->r, path.data, &again) == 0);
        walk(t, &again);
        place_release(&again);
    }
    buffer_truncate(&t->path, from);
}

static void walk(struct tree *t, struct place *p)
{
    struct listing l;
    struct children c = {0};
    int r = asking(t->r, place_list_open(p, &l, &want_));
    if (r < 0) {
        printf("%s: %s\n", t->path.data ? t->path.data : "/", strerror(-r));
        return;
    }
    do {
        c.room = 500;
        buffer_clear(&c.names);
        r = asking(t->r, place_list(p, &l, c.last, note, &c, &want_));
        check(r >= 0);
        for (size_t at = 0; at < c.names.size_bytes;) {
            struct entry e;
            memcpy(&e, c.names.data + at, sizeof(e));
            at += sizeof(e);
            e.name.data = c.names.data + at;
            at += e.name.size_bytes;
            child(t, p, &e);
        }
    } while (r == 1);
    listing_close(t->r, &l);
    buffer_release(&c.names);
}

static void walk_all(struct repository *r, const char *what, bool prints, bool looks_up,
                     struct buffer *files_found)
{
    struct tree t = {.r = r, .prints = prints, .looks_up = looks_up, .files_found = files_found};
    struct place root;
    int64_t begin = clock_ns();
    check(place_at(r, "", &root) == 0);
    walk(&t, &root);
    place_release(&root);
    buffer_release(&t.path);
    double s = (double)(clock_ns() - begin) / NS_PER_S;
    if (!prints)
        printf("%-12s %8lld entries, %8lld files in %7.3f s: %8.0f /s\n", what,
               (long long)t.entries, (long long)t.files, s, (double)t.entries / s);
}

// One path from the root on, each part looked up as the kernel does it.
static int look_up_path(struct repository *r, const char *path)
{
    struct place p;
    struct entry e;
    uint64_t fresh = repository_epoch(r);
    BUFFER_CLEANUP scratch = {0};
    int error = asking(r, place_root(r, fresh, &p, &want_));
    while (error == 0) {
        size_t size = strcspn(path, "/");
        struct text name = {path, size};
        error = asking(r, place_lookup(&p, name, &e, &scratch, NULL, &want_));
        if (error < 0 || !path[size])
            break;
        path += size + 1;
        error = asking(r, place_enter(&p, name, &want_));
    }
    place_release(&p);
    return error;
}

#define PATHS_MAX 5000

static void look_up_paths(struct repository *r, const struct buffer *files, int64_t count)
{
    int64_t begin = clock_ns(), step = count / PATHS_MAX + 1, n = 0, i = 0;
    for (const char *at = files->data; at < files->data + files->size_bytes; at += strlen(at) + 1) {
        if (i++ % step)
            continue;
        int e = look_up_path(r, at);
        if (e < 0)
            printf("not found by path: %s: %s\n", at, strerror(-e));
        n++;
    }
    double s = (double)(clock_ns() - begin) / NS_PER_S;
    printf("%-12s %8lld paths in %7.3f s: %8.0f /s\n", "point by point", (long long)n, s,
           (double)n / s);
}

static struct repository *open_new(const char *source, const char *folder,
                                   struct catalogue **ret_catalogue)
{
    struct repository_options o = {
        .source = source, .refresh_ns = NS_PER_S, .limit_ns = 30 * NS_PER_S, .librarian_count = 2};
    struct repository *r;
    char *why;
    check(catalogue_open(folder, 8LL << 30, &o.catalogue, &why) == 0);
    if (repository_open(&o, &r, &why) < 0) {
        fprintf(stderr, "%s\n", why);
        exit(1);
    }
    *ret_catalogue = o.catalogue;
    return r;
}

static void print_memory(void)
{
    char line[256];
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof(line), f))
        if (strncmp(line, "RssAnon", 7) == 0)
            printf("%s", line);
    if (f)
        fclose(f);
}

int main(int argc, char **argv)
{
    char folder[] = "/tmp/names-XXXXXX", command[64];
    struct catalogue *c;
    struct buffer files = {0};
    if (argc < 2 || !mkdtemp(folder))
        return 2;
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    int64_t begin = clock_ns(), count = 0;
    struct repository *r = open_new(argv[1], folder, &c);
    if (argc > 2) {
        walk_all(r, "", true, false, NULL);
    } else {
        printf("open in %.1f ms\n", (double)(clock_ns() - begin) / NS_PER_MS);
        walk_all(r, "cold", false, false, NULL);
        walk_all(r, "warm", false, false, NULL);
        print_memory();
        walk_all(r, "looked up", false, true, &files);
        repository_close(r);
        catalogue_close(c);
        check(system(command) == 0);
        r = open_new(argv[1], folder, &c);
        for (size_t i = 0; i < files.size_bytes; i++)
            count += files.data[i] == 0;
        look_up_paths(r, &files, count);
    }
    repository_close(r);
    catalogue_close(c);
    buffer_release(&files);
    return system(command);
}
