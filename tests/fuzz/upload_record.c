// SPDX-License-Identifier: BSD-3-Clause
// Any bytes as a record of an upload on disk. The first byte says how: as they are, or with a head that is right as far as it
// is compared, so that its lengths are looked at. Found when planted: lengths that are summed up in 32 bits (1 s), a time near
// the end of all.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "cache/upload_record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[64];

static void remove_folder(void)
{
    rmdir(folder);
}

struct expected {
    const struct upload_record *record; // NULL: none
    uint32_t count;
};

static void compare(void *context, uint64_t number, const struct upload_record *r)
{
    struct expected *e = context;
    e->count++;
    check(e->record && number == 7 && text_equal(r->identity, e->record->identity) && text_equal(r->key, e->record->key) &&
          text_equal(r->upload, e->record->upload) && r->begun_unix_ns == e->record->begun_unix_ns);
}

// What isn't a record is removed, what is one stays and is given.
static void find(struct text data, const struct upload_record *record)
{
    char path[100];
    snprintf(path, sizeof(path), "%s/0000000000000007", folder);
    {
        cleanup(cleanup_close) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        ssize_t n = write(fd, data.data, data.size_bytes);
        check(n == (ssize_t)data.size_bytes);
    }
    struct expected e = {record, 0};
    int r = upload_records(folder, compare, &e);
    check(r == 0 && e.count == (record != NULL) && access(path, F_OK) == (record ? 0 : -1));
    if (!record)
        return;
    r = upload_record_write(folder, 7, record);
    check(r == 0);
    r = upload_records(folder, compare, &e);
    check(r == 0 && e.count == 2);
    upload_record_remove(folder, 7);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct upload_record record;
    if (!folder[0]) {
        snprintf(folder, sizeof(folder), "/tmp/butlerfs-fuzz-XXXXXX");
        check(mkdtemp(folder));
        atexit(remove_folder);
    }
    if (size < 1 || size > 20000)
        return 0;
    cleanup(cleanup_free) char *bytes = memory_copy((const char *)data + 1, size - 1);
    struct text text = {bytes, size - 1};
    if (data[0] & 1 && text.size_bytes >= 16) {
        uint32_t head[4] = {0x75667562, 0x316f6c70, 1, (uint32_t)text.size_bytes};
        memcpy(bytes, head, sizeof(head));
    }
    int r = upload_record_read(text, &record);
    check(r == 0 || r == -EBADMSG);
    if (r == 0)
        check(record.begun_unix_ns >= 0 && record.begun_unix_ns + INT64_C(660000000000) > 0 &&
              record.identity.size_bytes + record.key.size_bytes + record.upload.size_bytes + 40 == text.size_bytes);
    find(text, r == 0 ? &record : NULL);
    return 0;
}
