// SPDX-License-Identifier: BSD-3-Clause
// bucket_row: see bucket_row.h.
// 1. An ETag that is an MD5 in quotes (nearly all are) is kept as the 16 bytes of the row's uuid; any
//    other one as its file's component.
// 2. The storage class is the file's suffix: blocks write what is as in the row before only once.
// 3. The id of a version is the component of a second file.
#include "meta/bucket_row.h"

#include "base/hash.h"
#include "meta/name.h"

#define ROW_VALUES 2
#define MD5_ETAG_BYTES 34 // with its quotes

struct set_id bucket_set(uint32_t repository, struct text prefix)
{
    struct set_id id = {.repository = repository};
    uint8_t hash[16];
    hash128(prefix.data, prefix.size_bytes, hash);
    memcpy(&id.collection_id, hash, 8);
    memcpy(&id.type_id, hash + 8, 8);
    return id;
}

void bucket_row_key(struct text raw, bool is_object, struct key *ret_key)
{
    struct value values[ROW_VALUES] = {value_text(raw), value_integer(is_object)};
    ret_key->size_bytes = 0;
    for (int i = 0; i < ROW_VALUES; i++)
        key_append(ret_key, &values[i], ROW_VALUES);
}

static int hex_value(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool md5_read(const char *etag, struct uuid *ret_uuid)
{
    if (strlen(etag) != MD5_ETAG_BYTES || etag[0] != '"' || etag[MD5_ETAG_BYTES - 1] != '"')
        return false;
    bool has_any = false;
    for (int i = 0; i < 16; i++) {
        int high = hex_value(etag[1 + 2 * i]), low = hex_value(etag[2 + 2 * i]);
        if (high < 0 || low < 0)
            return false;
        ret_uuid->bytes[i] = (uint8_t)(high << 4 | low);
        has_any |= ret_uuid->bytes[i] != 0;
    }
    return has_any; // all zeros mean that there is none
}

static void md5_write(const struct uuid *uuid, char ret_etag[BUCKET_ETAG_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    static const struct uuid none;
    ret_etag[0] = 0;
    if (memcmp(uuid, &none, sizeof none) == 0)
        return;
    char *at = ret_etag;
    *at++ = '"';
    for (int i = 0; i < 16; i++) {
        *at++ = digits[uuid->bytes[i] >> 4];
        *at++ = digits[uuid->bytes[i] & 15];
    }
    *at++ = '"';
    *at = 0;
}

int bucket_row_of(const struct bucket_entry *e, struct row *ret_row)
{
    *ret_row = (struct row){.mtime_unix_ns = e->mtime_unix_ns, .value_count = ROW_VALUES, .file_count = 1};
    ret_row->values[0] = value_text(e->raw);
    ret_row->values[1] = value_integer(!e->is_folder);
    ret_row->files[0] = (struct row_file){.suffix = e->storage_class, .size_bytes = e->size_bytes};
    if (!md5_read(e->etag, &ret_row->uuid))
        ret_row->files[0].component = text_of(e->etag);
    if (e->version.size_bytes)
        ret_row->files[ret_row->file_count++] = (struct row_file){.component = e->version};
    return 0;
}

int bucket_row_entry(const struct row *row, struct bucket_entry *ret_entry)
{
    if (row->value_count != ROW_VALUES || row->values[0].kind != VALUE_TEXT ||
        row->values[1].kind != VALUE_INTEGER || row->file_count < 1 || row->file_count > 2)
        return -EBADMSG;
    const struct row_file *f = &row->files[0];
    *ret_entry = (struct bucket_entry){
        .is_folder = row->values[1].integer == 0,
        .raw = row->values[0].text,
        .size_bytes = f->size_bytes,
        .mtime_unix_ns = row->mtime_unix_ns,
        .storage_class = f->suffix,
    };
    if (row->file_count == 2)
        ret_entry->version = row->files[1].component;
    if (f->component.size_bytes >= BUCKET_ETAG_BYTES)
        return -EBADMSG;
    if (f->component.size_bytes)
        memcpy(ret_entry->etag, f->component.data, f->component.size_bytes);
    else
        md5_write(&row->uuid, ret_entry->etag);
    return 0;
}

void bucket_write_name(struct text raw, bool is_object, bool is_beside, struct buffer *to)
{
    size_t from = to->size_bytes;
    name_escape(NAME_S3, raw, to);
    if (is_beside)
        buffer_append_byte(to, '%');
    if (to->size_bytes - from <= NAME_BYTES_MAX)
        return;
    struct text suffix = {0}, whole = text_slice(buffer_text(to), from, to->size_bytes);
    if (is_object && !is_beside)
        suffix = name_suffix(whole);
    if (!text_ends(whole, suffix)) // a made-up one
        suffix = (struct text){0};
    name_shorten(to, from, suffix);
}

int bucket_read_name(struct text name, struct buffer *ret_raw, bool *ret_is_beside)
{
    *ret_is_beside = false;
    if (name.size_bytes == 0 || name.size_bytes > NAME_BYTES_MAX)
        return -EINVAL;
    if (name_is_shortened(name))
        return -E2BIG;
    int r = name_unescape(NAME_S3, name, ret_raw);
    if (r == 0 || name.size_bytes < 2 || name.data[name.size_bytes - 1] != '%')
        return r;
    *ret_is_beside = true;
    return name_unescape(NAME_S3, text_slice(name, 0, name.size_bytes - 1), ret_raw);
}
