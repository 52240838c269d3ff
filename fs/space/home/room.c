// SPDX-License-Identifier: BSD-3-Clause
// room.c: what ext2, ext3 and ext4 keep for root (mke2fs -m, 5 % of the disk) isn't for users. The daemon writes as root, to
// whom the file system below would give it: so it is refused here. The others keep nothing.
//
// 1. What users write comes out of a grant: at most half of what was free for them when the file system was last asked. So
//    it is asked once in GRANT_BYTES_MAX, and oftener as the disk fills; past the mark goes only what others have taken of
//    it since, outside this mount or as root.
// 2. What has its blocks already needs no room, on a full disk either.
#include <errno.h>
#include <linux/magic.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "fs/space/home/home.h"

#define GRANT_BYTES_MAX ((int64_t)64 << 20)

void home_room_start(struct home *h)
{
    struct statfs st;
    h->keeps_room = fstatfs(h->root_fd, &st) == 0 && st.f_type == EXT4_SUPER_MAGIC; // of all three
}

// Moves the descriptor's position, which nobody has a use for (file.c).
static bool has_hole(int fd, int64_t from, int64_t end)
{
    off_t hole = lseek(fd, from, SEEK_HOLE);
    return hole < 0 || hole < end;
}

static int ask(struct home *h, int64_t needed)
{
    struct statfs st;
    if (fstatfs(h->root_fd, &st) < 0)
        return -errno;
    int64_t free_bytes = (int64_t)st.f_bavail * st.f_bsize;
    if (free_bytes < needed)
        return -ENOSPC;
    int64_t grant = free_bytes / 2 < GRANT_BYTES_MAX ? free_bytes / 2 : GRANT_BYTES_MAX;
    atomic_store_explicit(&h->granted_bytes, grant - needed, memory_order_relaxed);
    return 0;
}

int home_room(const struct op *op, int fd, const struct stat *st, int64_t from, int64_t size)
{
    struct home *h = home_of(op);
    int64_t unit = st->st_blksize, end = from + size;
    int64_t has_blocks = (st->st_size + unit - 1) / unit * unit; // up to there, but for holes
    bool is_sparse = (int64_t)st->st_blocks * 512 < st->st_size;
    if (!h->keeps_room || fuse_req_ctx(op->req)->uid == 0 || (end <= has_blocks && !is_sparse))
        return 0;
    int64_t needed = is_sparse || from > has_blocks ? size : end - has_blocks;
    int64_t granted = atomic_fetch_sub_explicit(&h->granted_bytes, needed, memory_order_relaxed);
    if (granted >= needed)
        return 0;
    int r = ask(h, needed);
    return r == -ENOSPC && end <= has_blocks && !has_hole(fd, from, end < st->st_size ? end : st->st_size) ? 0 : r;
}
