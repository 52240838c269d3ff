// SPDX-License-Identifier: BSD-3-Clause
// ledger_map: see ledger_map.h.
// 1. A file that is opened was written by this boot, is as long as it says and every entry is found where it stands;
//    else it isn't used at all.
// 2. The file has no holes: a full disk is told when it is made or grows, not by SIGBUS when it is written.
// 3. It is made and grown beside itself and renamed: there is the old one or the new one.
#include "meta/ledger_map.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/log.h"

#define MAP_NAME "usage"
#define MAP_NAME_NEW "usage.new"

void map_boot_now(char ret_boot[MAP_BOOT_BYTES])
{
    memset(ret_boot, 0, MAP_BOOT_BYTES);
    cleanup(cleanup_close) int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, ret_boot, MAP_BOOT_BYTES - 1);
    if (got < 0)
        ret_boot[0] = 0;
    ret_boot[strcspn(ret_boot, "\n")] = 0;
}

static uint64_t header_hash(const struct map_header *h)
{
    return hash64(h, offsetof(struct map_header, hash));
}

static size_t slots_bytes(uint32_t slot_count)
{
    size_t bytes = slot_count * sizeof(struct map_slot);
    return (bytes + 127) & ~(size_t)127; // entries begin at a cache line
}

static size_t length_of(uint32_t slot_count, uint32_t entry_room)
{
    return MAP_HEADER_BYTES + slots_bytes(slot_count) + entry_room * sizeof(struct map_entry);
}

static uint64_t hash_of(uint32_t kind, uint64_t id)
{
    uint64_t x = id * 0x9e3779b97f4a7c15ULL + kind * 0xff51afd7ed558ccdULL;
    return x ^ (x >> 29);
}

// ---- checking ----------------------------------------------------------------------------------------------

static bool amounts_are_good(const int64_t *amounts, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (amounts[i] < -MAP_AMOUNT_MAX || amounts[i] > MAP_AMOUNT_MAX)
            return false;
    return true;
}

static bool sums_are_good(const struct map_sums *s)
{
    return amounts_are_good((const int64_t[]){s->used_bytes, s->used_files, s->orphan_bytes, s->orphan_files}, 4);
}

static bool charge_is_good(const struct ledger_charge *c)
{
    unsigned char is_orphan;
    memcpy(&is_orphan, &c->is_orphan, 1); // a bool that isn't one may not be read as one
    return c->bytes >= 0 && c->bytes <= MAP_AMOUNT_MAX && c->files >= 0 && c->files <= 1 && is_orphan <= 1;
}

static bool slot_is_good(const struct map_slot *s)
{
    return s->state == SLOT_FREE || (s->state == SLOT_BUSY && s->handle_bytes <= LEDGER_HANDLE_MAX &&
                                     s->name_bytes <= LEDGER_NAME_MAX && charge_is_good(&s->before) &&
                                     charge_is_good(&s->after));
}

static bool entry_is_good(const struct map_entry *e)
{
    return e->kind >= 1 && e->kind <= LEDGER_KINDS && e->id != LEDGER_DEFAULT && sums_are_good(&e->sums) &&
           amounts_are_good((const int64_t *)&e->limits, sizeof(e->limits) / sizeof(int64_t)) &&
           amounts_are_good(e->over_unix_ns, 2) && amounts_are_good(&e->warned_unix_ns, 1);
}

static bool step_is_good(const struct map_step *s, uint32_t slot_count, uint32_t entry_room)
{
    if (s->count > MAP_STEP_ENTRIES || (s->slot != UINT32_MAX && s->slot >= slot_count) || s->slot_state > SLOT_BUSY)
        return false;
    for (uint32_t i = 0; i < s->count; i++)
        if (s->entries[i].entry >= entry_room || !sums_are_good(&s->entries[i].sums))
            return false;
    return true;
}

static void map_point(struct ledger_map *m, void *bytes)
{
    m->header = bytes;
    m->slot_count = m->header->slot_count;
    m->entry_room = m->header->entry_room;
    m->length_bytes = m->header->length_bytes;
    m->slots = (struct map_slot *)((char *)bytes + MAP_HEADER_BYTES);
    m->entries = (struct map_entry *)((char *)bytes + MAP_HEADER_BYTES + slots_bytes(m->slot_count));
}

static int header_check(const struct map_header *h, size_t size_bytes)
{
    char boot[MAP_BOOT_BYTES];
    if (size_bytes < MAP_HEADER_BYTES || h->magic != MAP_MAGIC || h->version != MAP_VERSION ||
        h->header_bytes != sizeof(*h) || h->hash != header_hash(h))
        return -EBADMSG;
    map_boot_now(boot);
    if (!boot[0] || memcmp(boot, h->boot, sizeof(boot)) != 0)
        return -ESTALE;
    bool is_power = h->entry_room && (h->entry_room & (h->entry_room - 1)) == 0;
    if (!is_power || h->entry_room > MAP_ENTRIES_MAX || h->slot_count == 0 || h->slot_count > MAP_SLOTS_MAX ||
        h->length_bytes != size_bytes || length_of(h->slot_count, h->entry_room) != size_bytes)
        return -EBADMSG;
    return 0;
}

int map_check(const void *bytes, size_t size_bytes)
{
    struct ledger_map m = {0};
    int r = size_bytes < MAP_HEADER_BYTES ? -EBADMSG : header_check(bytes, size_bytes);
    if (r < 0)
        return r;
    map_point(&m, (void *)bytes);
    uint32_t is_valid = atomic_load(&m.header->redo_is_valid);
    if (is_valid > 1 || (is_valid && !step_is_good(&m.header->redo, m.slot_count, m.entry_room)))
        return -EBADMSG;
    for (uint32_t i = 0; i < m.slot_count; i++)
        if (!slot_is_good(&m.slots[i]))
            return -EBADMSG;
    uint32_t count = 0;
    for (uint32_t i = 0; i < m.entry_room; i++)
        count += m.entries[i].kind != 0;
    if (count > m.entry_room / 4 * 3) // or a look-up would not end
        return -EBADMSG;
    for (uint32_t i = 0; i < m.entry_room; i++) {
        const struct map_entry *e = &m.entries[i];
        if (e->kind && (!entry_is_good(e) || map_find(&m, (enum ledger_kind)(e->kind - 1), e->id) != e))
            return -EBADMSG;
    }
    return 0;
}

// ---- entries and steps -------------------------------------------------------------------------------------

static struct map_entry *map_place(const struct ledger_map *m, enum ledger_kind kind, uint64_t id)
{
    uint32_t mask = m->entry_room - 1;
    for (uint32_t i = (uint32_t)hash_of(kind + 1U, id) & mask;; i = (i + 1) & mask) {
        struct map_entry *e = &m->entries[i];
        if (e->kind == 0 || (e->id == id && e->kind == kind + 1U))
            return e;
    }
}

struct map_entry *map_find(const struct ledger_map *m, enum ledger_kind kind, uint64_t id)
{
    struct map_entry *e = map_place(m, kind, id);
    return e->kind ? e : NULL;
}

struct map_entry *map_entry(struct ledger_map *m, enum ledger_kind kind, uint64_t id)
{
    struct map_entry *e = map_place(m, kind, id);
    if (e->kind)
        return e;
    check(m->entry_count < m->entry_room / 4 * 3);
    *e = (struct map_entry){.id = id};
    atomic_signal_fence(memory_order_seq_cst); // it is there when all of it is
    *(volatile uint32_t *)&e->kind = kind + 1U;
    m->entry_count++;
    return e;
}

static void redo(struct ledger_map *m)
{
    const struct map_step *s = &m->header->redo;
    for (uint32_t i = 0; i < s->count; i++)
        m->entries[s->entries[i].entry].sums = s->entries[i].sums;
    if (s->slot != UINT32_MAX)
        m->slots[s->slot].state = s->slot_state;
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(&m->header->redo_is_valid, 0, memory_order_release);
}

struct map_step *map_step(struct ledger_map *m)
{
    return &m->header->redo;
}

void map_carry_out(struct ledger_map *m)
{
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(&m->header->redo_is_valid, 1, memory_order_release);
    atomic_signal_fence(memory_order_seq_cst);
    redo(m);
}

// ---- the file ----------------------------------------------------------------------------------------------

// A file without holes of this length, mapped; it has no name yet that anybody looks for.
static int bytes_new(int folder_fd, size_t length_bytes, void **ret_bytes)
{
    cleanup(cleanup_close) int fd = -1;
    if (folder_fd < 0)
        fd = memfd_create("ledger", MFD_CLOEXEC);
    else {
        unlinkat(folder_fd, MAP_NAME_NEW, 0);
        fd = openat(folder_fd, MAP_NAME_NEW, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    }
    if (fd < 0)
        return -errno;
    int e = posix_fallocate(fd, 0, (off_t)length_bytes);
    if (e)
        return -e;
    void *bytes = mmap(NULL, length_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (bytes == MAP_FAILED)
        return -errno;
    *ret_bytes = bytes;
    return 0;
}

static int make(struct ledger_map *ret_map, int folder_fd, uint32_t slot_count, uint32_t entry_room)
{
    void *bytes = NULL;
    size_t length_bytes = length_of(slot_count, entry_room);
    int r = bytes_new(folder_fd, length_bytes, &bytes);
    if (r < 0)
        return r;
    struct map_header *h = bytes;
    *h = (struct map_header){.magic = MAP_MAGIC, .version = MAP_VERSION, .header_bytes = sizeof(*h),
                             .length_bytes = length_bytes, .slot_count = slot_count, .entry_room = entry_room};
    map_boot_now(h->boot);
    h->hash = header_hash(h);
    *ret_map = (struct ledger_map){.folder_fd = folder_fd};
    map_point(ret_map, bytes);
    return 0;
}

static int put_in_place(struct ledger_map *m)
{
    if (m->folder_fd >= 0 && renameat(m->folder_fd, MAP_NAME_NEW, m->folder_fd, MAP_NAME) < 0)
        return -errno;
    return 0;
}

static uint32_t room_for(uint32_t entries)
{
    uint32_t room = MAP_ENTRIES_MIN;
    while (room / 2 < entries && room < MAP_ENTRIES_MAX)
        room *= 2;
    return room;
}

int map_create(struct ledger_map *m, int folder_fd, uint32_t slot_count, uint32_t entries)
{
    int r = make(m, folder_fd, slot_count, room_for(entries));
    if (r < 0)
        return r;
    r = put_in_place(m);
    if (r < 0)
        map_close(m);
    return r;
}

int map_reserve(struct ledger_map *m, uint32_t more)
{
    struct ledger_map larger;
    if (m->entry_count + more <= m->entry_room / 4 * 3)
        return 0;
    if (m->entry_room >= MAP_ENTRIES_MAX)
        return -ENOSPC;
    int r = make(&larger, m->folder_fd, m->slot_count, m->entry_room * 2);
    if (r < 0)
        return r;
    memcpy(larger.slots, m->slots, m->slot_count * sizeof(*m->slots));
    for (uint32_t i = 0; i < m->entry_room; i++)
        if (m->entries[i].kind)
            *map_entry(&larger, (enum ledger_kind)(m->entries[i].kind - 1), m->entries[i].id) = m->entries[i];
    r = put_in_place(&larger);
    if (r < 0) {
        map_close(&larger);
        return r;
    }
    munmap(m->header, m->length_bytes);
    *m = larger;
    return 0;
}

int map_open(struct ledger_map *m, int folder_fd)
{
    struct stat st;
    cleanup(cleanup_close) int fd = openat(folder_fd, MAP_NAME, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode) || st.st_size < MAP_HEADER_BYTES ||
        st.st_size > (off_t)length_of(MAP_SLOTS_MAX, MAP_ENTRIES_MAX))
        return -EBADMSG;
    int e = posix_fallocate(fd, 0, st.st_size);
    if (e)
        return -e;
    void *bytes = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (bytes == MAP_FAILED)
        return -errno;
    int r = map_check(bytes, (size_t)st.st_size);
    if (r < 0) {
        munmap(bytes, (size_t)st.st_size);
        return r;
    }
    *m = (struct ledger_map){.folder_fd = folder_fd};
    map_point(m, bytes);
    if (atomic_load(&m->header->redo_is_valid))
        redo(m);
    for (uint32_t i = 0; i < m->entry_room; i++)
        m->entry_count += m->entries[i].kind != 0;
    return 0;
}

void map_close(struct ledger_map *m)
{
    if (m->header)
        munmap(m->header, m->length_bytes);
    *m = (struct ledger_map){.folder_fd = -1};
}
