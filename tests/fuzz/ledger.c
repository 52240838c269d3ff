// SPDX-License-Identifier: BSD-3-Clause
// Any bytes as what a disk, an administrator or a program may give a ledger. The first byte says which: a map of usage
// (its header made right, so that the rest is looked at), which is then opened and used; records of the store; limits
// in JSON. Found when planted: a change in work
// whose handle is longer than there is room (1 s), a step to be done again of an entry that isn't there.
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/hash.h"
#include "base/log.h"
#include "meta/ledger_map.h"
#include "meta/ledger_store.h"
#include "meta/ledger_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SLOTS 4

static char folder[64];
static int folder_fd;
static char *pattern; // a map that is right, for the input to change
static size_t pattern_bytes;

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
    (void)st, (void)kind, (void)walk;
    return remove(path);
}

static void remove_folder(void)
{
    nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void make_pattern(void)
{
    struct ledger_map m;
    snprintf(folder, sizeof(folder), "/tmp/butlerfs-fuzz-XXXXXX");
    check(mkdtemp(folder));
    atexit(remove_folder);
    folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = map_create(&m, folder_fd, SLOTS, 1);
    check(r == 0);
    map_entry(&m, LEDGER_USER, 1)->sums.used_bytes = 5;
    map_entry(&m, LEDGER_TREE, 1ULL << 63);
    pattern_bytes = m.length_bytes;
    pattern = memory_copy((const char *)m.header, pattern_bytes);
    map_close(&m);
}

static void use(struct ledger_map *m)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < m->slot_count; i++)
        if (m->slots[i].state == SLOT_BUSY)
            sum += m->slots[i].handle_bytes + m->slots[i].name_bytes + m->slots[i].before.is_orphan;
    check(sum <= (uint64_t)m->slot_count * (LEDGER_HANDLE_MAX + LEDGER_NAME_MAX + 1));
    int r = map_reserve(m, 1);
    check(r == 0);
    struct map_entry *e = map_entry(m, LEDGER_GROUP, 77);
    struct map_step *step = map_step(m);
    step->count = 1;
    step->slot = 0;
    step->slot_state = SLOT_FREE;
    step->entries[0].entry = (uint32_t)(e - m->entries);
    step->entries[0].sums = (struct map_sums){.used_bytes = 9};
    map_carry_out(m);
    check(map_find(m, LEDGER_GROUP, 77)->sums.used_bytes == 9);
}

// Four bytes a change: where (in units of four), and what is put there.
static void fuzz_map(const uint8_t *data, size_t size)
{
    char *bytes = memory_copy(pattern, pattern_bytes);
    struct map_header *h = (struct map_header *)bytes;
    struct ledger_map m;
    for (; size >= 8; data += 8, size -= 8) {
        uint32_t at, what;
        memcpy(&at, data, sizeof(at));
        memcpy(&what, data + 4, sizeof(what));
        memcpy(bytes + at % (pattern_bytes / 4) * 4, &what, sizeof(what));
    }
    map_boot_now(h->boot);
    h->magic = MAP_MAGIC;
    h->version = MAP_VERSION;
    h->header_bytes = sizeof(*h);
    h->hash = hash64(h, offsetof(struct map_header, hash));
    int fd = openat(folder_fd, "usage", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    check(fd >= 0);
    ssize_t n = write(fd, bytes, pattern_bytes);
    check(n == (ssize_t)pattern_bytes);
    close(fd);
    free(bytes);
    int r = map_open(&m, folder_fd);
    check(r == 0 || r == -EBADMSG);
    if (r == 0) {
        use(&m);
        map_close(&m);
    }
}

static void fuzz_records(const uint8_t *data, size_t size)
{
    struct ledger_id id;
    struct ledger_limits limits;
    struct ledger_checkpoint checkpoint;
    struct text path;
    size_t key = size < 9 ? size : 9;
    struct text k = {(const char *)data, key}, v = {(const char *)data + key, size - key};
    if (ledger_limits_decode(k, v, &id, &limits, &path) == 0)
        check(id.kind < LEDGER_KINDS && limits.hard_bytes >= 0 && path.size_bytes <= v.size_bytes);
    if (ledger_checkpoint_decode(k, v, &checkpoint) == 0)
        check(checkpoint.kind < LEDGER_KINDS && checkpoint.id != LEDGER_DEFAULT);
}

static void fuzz_text(const uint8_t *data, size_t size)
{
    cleanup(cleanup_doc_free) struct doc *d = NULL;
    cleanup(cleanup_free) char *why = NULL;
    struct ledger_limits limits = {0}, again = {0};
    enum ledger_kind kind = LEDGER_USER;
    uint64_t id = 1;
    if (doc_parse_json((struct text){(const char *)data, size}, &d, NULL) < 0)
        return;
    ledger_kind_parse(doc_text(doc_get(d, "kind"), TEXT("")), &kind);
    ledger_id_parse(doc_get(d, "id"), kind, &id);
    if (ledger_limits_parse(d, &limits, &why) < 0)
        return;
    struct ledger_usage u = {.kind = kind, .id = id, .limits = limits, .has_own = true};
    cleanup(cleanup_doc_free) struct doc *written = ledger_usage_doc(&u, 0);
    int r = ledger_limits_parse(written, &again, NULL);
    check(r == 0 && memcmp(&limits, &again, sizeof(limits)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!pattern)
        make_pattern();
    if (size < 1 || size > 8192)
        return 0;
    switch (data[0] % 3) {
    case 0:
        fuzz_map(data + 1, size - 1);
        break;
    case 1:
        fuzz_records(data + 1, size - 1);
        break;
    default:
        fuzz_text(data + 1, size - 1);
    }
    return 0;
}
