// SPDX-License-Identifier: BSD-3-Clause
// The hand-over record: a state whose header and tables hold anything must be refused or repaired, and
// then be usable, never be believed.
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fs/state.h"
#include "fs/state_home.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int open_any(struct file_node *n, void *context)
{
    (void)context;
    n->mode = OPEN_CACHED;
    return 0;
}

static int close_any(struct file_node *n, void *context)
{
    (void)n, (void)context;
    return 0;
}

static int open_home(struct home_node *n, void *context)
{
    (void)context;
    n->mode = OPEN_CACHED;
    return 0;
}

static int path_any(struct text name, void *context)
{
    *(size_t *)context += name.size_bytes;
    return 0;
}

static void see(uint64_t fh, const struct handle *h, void *context)
{
    struct state *s = context;
    struct handle was;
    (void)h;
    state_close_handle(s, fh, &was, close_any, NULL);
}

static void use(struct state *s)
{
    struct file_key key = {.component = 3};
    struct file_node copy;
    uint64_t fh;
    size_t total = 0;
    uint64_t a = state_named(s, STATE_ROOT, TEXT("a"), NODE_FOLDER, 0);
    uint64_t f = state_file(s, &key, a, 1, 1, &copy);
    struct object_name name = {a, TEXT("o"), 1, 1, 1};
    uint64_t o = state_object(s, &key, &name, &copy);
    for (uint64_t id = 1; id < 8; id++)
        state_path(s, id, 0, path_any, &total);
    if (f && state_open_handle(s, HANDLE_FILE, f, 7, open_any, NULL, &fh) == 0)
        state_find_handle(s, 7);
    struct home_handle handle = {.size_bytes = 4};
    uint64_t h = state_home(s, 0, &handle, 1, 0100000, (struct home_where){0});
    struct handle was;
    if (h && state_open_home(s, h, 9, 0, open_home, NULL, &fh) == 0)
        state_close_home(s, fh, &was, open_home, NULL);
    state_each_idle_home(s, open_home, NULL);
    state_forget(s, h, 1);
    struct change change;
    state_change_find(s, 7, &change);
    state_each_idle_file(s, close_any, NULL);
    state_each_handle(s, see, s);
    state_forget(s, a, 1);
    state_forget(s, f, 1);
    state_forget(s, o, 1);
}

// The first bytes say where the rest is laid over a fresh state: header, named, files, handles or homes.
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint64_t places[] = {0, 1ULL << 30, 9ULL << 30, 17ULL << 30, 18ULL << 30};
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    struct state *s = NULL;
    const char *why = NULL;
    if (size < 8 || fd < 0 || state_open(fd, &s, &why) < 0) {
        close(fd);
        return 0;
    }
    state_close(s);
    uint32_t high = 1 + data[1] % 16;
    for (int kind = 0; kind < 4; kind++)
        if (pwrite(fd, &high, sizeof high, 28 + 4 * kind) < 0)
            break;
    if (pwrite(fd, data + 4, size - 4, (off_t)(places[data[0] % 5] + data[2])) >= 0 &&
        state_open(fd, &s, &why) == 0) {
        use(s);
        state_close(s);
    }
    close(fd);
    return 0;
}
