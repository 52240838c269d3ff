// SPDX-License-Identifier: BSD-3-Clause
// Any bytes as what a disk may hold where the store left its records. The first byte says which: the
// header of a map (whose hash is made right, so that the rest is looked at), a whole map beside a
// data file in a store that is then opened and read, or a summary. Found when planted: texts that
// are longer than their header, a queue in a summary's record that there isn't.
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/buffer.h"
#include "base/log.h"
#include "cache/store_state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define DATA_BYTES ((size_t)3 * CACHE_BLOCK_BYTES + 100)

static char folder[64];
static uint8_t identity[16] = {0xab};

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
    return remove(path);
}

static void remove_folder(void)
{
    nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

// The hash that belongs to the header, where the bytes say how long it is.
static void make_hash_right(uint8_t *bytes, size_t size)
{
    uint32_t header_bytes;
    if (size < 16)
        return;
    memcpy(&header_bytes, bytes + 12, sizeof(header_bytes));
    if (header_bytes < 16 || header_bytes > size)
        return;
    uint64_t hash = hash64(bytes, header_bytes - 8);
    memcpy(bytes + header_bytes - 8, &hash, sizeof(hash));
}

static void fuzz_header(uint8_t *bytes, size_t size)
{
    struct store_map m, again;
    int r = store_map_decode(bytes, size, &m);
    check(r == 0 || r == -EBADMSG);
    if (r < 0)
        return;
    check(store_map_check(&m.version) == 0);
    uint8_t written[STORE_MAP_ROOM];
    size_t n = store_map_encode(&m, written);
    check(n == m.header_bytes);
    r = store_map_decode(written, n, &again);
    check(r == 0 && again.flags == m.flags && text_equal(again.version.key, m.version.key) &&
          text_equal(again.version.checksum, m.version.checksum) &&
          store_block_count(again.version.size_bytes) <= STORED_SIZE_MAX / CACHE_BLOCK_BYTES);
}

static void write_file(const char *name, const void *data, size_t size, size_t length)
{
    char path[160];
    snprintf(path, sizeof(path), "%s/blocks.%d/%s", folder, STORE_FORMAT, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    check(fd >= 0);
    ssize_t n = write(fd, data, size);
    check(n == (ssize_t)size);
    int r = length > size ? ftruncate(fd, (off_t)length) : 0;
    check(r == 0);
    close(fd);
}

static struct block_store *opened(void)
{
    struct block_store *b;
    char *why;
    struct block_store_options o = {.folder = folder, .limit_bytes = 1 << 20, .limit_objects = 5};
    int r = block_store_open(&o, &b, &why);
    check(r == 0);
    return b;
}

// All bytes of the data file are 0; a block of them is only given out under the mark of such a block.
static void fuzz_map(const uint8_t *bytes, size_t size)
{
    static char buffer[DATA_BYTES], scratch[CACHE_BLOCK_BYTES];
    char name[STORE_NAME_BYTES];
    store_disk_name(identity, STORE_MAP, name);
    write_file(name, bytes, size, 0);
    store_disk_name(identity, STORE_DATA, name);
    write_file(name, "", 0, DATA_BYTES);
    struct block_store *b = opened();
    struct stored *s;
    if (block_store_find(b, identity, &s) == 0) {
        for (uint32_t i = 0; i < stored_block_count(s); i++) {
            memset(buffer, 1, sizeof(buffer));
            ssize_t n = stored_read(s, buffer, 1000, (uint64_t)i * CACHE_BLOCK_BYTES, scratch);
            check(n < 0 || buffer[0] == 0);
            check(n >= 0 || !stored_has(s, i));
        }
        stored_unref(s);
    }
    block_store_close(b);
}

static void fuzz_summary(uint8_t *bytes, size_t size)
{
    if (size >= 24) { // magic, version, count, and the hash of what follows
        uint64_t hash = hash64(bytes + 24, size - 24);
        uint32_t count = (uint32_t)((size - 24) / 40);
        memcpy(bytes + 12, &count, sizeof(count));
        memcpy(bytes + 16, &hash, sizeof(hash));
    }
    write_file("summary", bytes, size, 0);
    struct block_store *b = opened();
    struct block_store_status status;
    do {
        block_store_status(b, &status);
    } while (!status.is_counted);
    block_store_close(b);
}

static void make_folder(void)
{
    snprintf(folder, sizeof(folder), "/tmp/butlerfs-fuzz-XXXXXX");
    check(mkdtemp(folder));
    atexit(remove_folder);
    log_level_set(LOG_LEVEL_ERROR);
    struct block_store *b = opened();
    block_store_close(b);
    char path[160];
    snprintf(path, sizeof(path), "%s/blocks.%d/ab", folder, STORE_FORMAT);
    int r = mkdir(path, 0700);
    check(r == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!folder[0])
        make_folder();
    if (size < 1 || size > 16384)
        return 0;
    uint8_t *bytes = (uint8_t *)memory_copy((const char *)data + 1, size - 1);
    cleanup(cleanup_free) void *freed = bytes;
    if (data[0] % 3 != 2)
        make_hash_right(bytes, size - 1);
    switch (data[0] % 3) {
    case 0:
        fuzz_header(bytes, size - 1);
        break;
    case 1:
        fuzz_map(bytes, size - 1);
        break;
    default:
        fuzz_summary(bytes, size - 1);
    }
    return 0;
}
