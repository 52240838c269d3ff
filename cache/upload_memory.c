// SPDX-License-Identifier: BSD-3-Clause
// upload_memory.c: the bytes of uploads that aren't sent yet.
//  1. Most objects are small: an upload begins with a little, and doubles it. Of the second part on it has room for all of a
//     part at once, where memory allows it.
//  2. What is large is mapped apart: it grows in place, and goes back to the system when it is given back, where an allocator
//     would keep it and have more than was agreed.
//  3. Rooms of whole parts are kept for the next ones: fresh memory costs more than what is copied into it. They count as used
//     when there isn't enough; a few stay when nothing is under way, and none when nobody writes.
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/log.h"
#include "cache/upload_internal.h"

#define FIRST_ROOM_BYTES ((size_t)64 << 10)
#define MAPPED_BYTES ((size_t)1 << 20) // from here on
#define KEPT_IDLE 4

static char *map(char *old, size_t old_bytes, size_t size_bytes)
{
    void *p = old ? mremap(old, old_bytes, size_bytes, MREMAP_MAYMOVE)
                  : mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check(p != MAP_FAILED);
    madvise(p, size_bytes, MADV_HUGEPAGE); // where there are none it is as good
    return p;
}

void upload_memory_free(char *data, size_t room_bytes)
{
    if (data && room_bytes >= MAPPED_BYTES)
        munmap(data, room_bytes);
    else
        free(data);
}

static bool is_too_much(const struct uploads *all)
{
    return all->used_bytes + all->kept_count * all->part_bytes > all->memory_bytes;
}

// What is kept is a chain through its own first bytes.
static char *take_kept(struct uploads *all)
{
    char *data = all->kept;
    if (data) {
        memcpy(&all->kept, data, sizeof(all->kept));
        all->kept_count--;
    }
    return data;
}

static void keep(struct uploads *all, char *data)
{
    memcpy(data, &all->kept, sizeof(all->kept));
    all->kept = data;
    all->kept_count++;
}

void upload_memory_tidy(struct uploads *all)
{
    uint32_t most = all->open_count == 0 ? 0 : all->requests == 0 ? KEPT_IDLE : UINT32_MAX;
    while (all->kept && (all->kept_count > most || is_too_much(all)))
        upload_memory_free(take_kept(all), (size_t)all->part_bytes);
}

void upload_memory_give_back(struct uploads *all, char *data, size_t room_bytes)
{
    all->used_bytes -= room_bytes;
    if (room_bytes == all->part_bytes)
        keep(all, data);
    else
        upload_memory_free(data, room_bytes);
    upload_memory_tidy(all);
}

static char *grown(char *old, size_t old_bytes, size_t size_bytes)
{
    if (size_bytes < MAPPED_BYTES)
        return memory_grow(old, size_bytes, 1);
    if (old_bytes >= MAPPED_BYTES)
        return map(old, old_bytes, size_bytes);
    char *data = map(NULL, 0, size_bytes);
    if (old)
        memcpy(data, old, old_bytes);
    free(old);
    return data;
}

// Under the lock of all.
static size_t room_for(const struct upload *u, size_t wanted_bytes)
{
    const struct uploads *all = u->all;
    size_t most = (size_t)all->part_bytes, room = u->room_bytes ? u->room_bytes * 2 : FIRST_ROOM_BYTES;
    if (u->size_bytes >= most && all->used_bytes - u->room_bytes + most <= all->memory_bytes)
        return most;
    while (room < wanted_bytes)
        room *= 2;
    return room < most ? room : most;
}

void upload_memory_grow(struct upload *u, size_t wanted_bytes)
{
    struct uploads *all = u->all;
    size_t had = u->room_bytes;
    char *data = NULL;
    {
        lock_scope(&all->lock);
        u->room_bytes = room_for(u, wanted_bytes);
        all->used_bytes += u->room_bytes - had;
        if (u->room_bytes == all->part_bytes)
            data = take_kept(all);
        upload_memory_tidy(all);
    }
    if (!data) {
        u->filling = grown(u->filling, had, u->room_bytes);
        return;
    }
    if (u->filled_bytes)
        memcpy(data, u->filling, u->filled_bytes);
    upload_memory_free(u->filling, had);
    u->filling = data;
}

// Who has sent a part and begins another one waits until there is memory for all of it: what would fill a little at a time could
// take no room that is kept.
bool upload_memory_has_room(const struct upload *u)
{
    const struct uploads *all = u->all;
    bool begins_another = u->part_count > 0 && u->room_bytes == 0 && 2 * all->part_bytes <= all->memory_bytes;
    if (all->used_bytes + (begins_another ? all->part_bytes : 0) <= all->memory_bytes)
        return true;
    // Who has nothing under way can't make room by waiting; he holds less than the smallest part.
    return !u->flying && !u->queued;
}
