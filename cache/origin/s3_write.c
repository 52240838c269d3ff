// SPDX-License-Identifier: BSD-3-Clause
// s3_write: what changes a bucket: how it is asked, and what the answers mean.
// 1. Nothing is taken for written that the server hasn't checked: bodies go with their CRC-32, which a server that knows
//    it compares and gives back; with an MD5 (Content-MD5, which every server compares) where it doesn't, and
//    as long as that isn't known.
// 2. A 200 may hold an error: then it is judged as one.
#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <strings.h>

#include "base/log.h"
#include "cache/fetcher_url.h"
#include "cache/origin/listing.h"
#include "cache/origin/s3.h"
#include "cache/origin/s3_restore.h"

#define UPLOAD_ID_BYTES 2048
#define CRC32_TEXT_BYTES 9 // base64 of four bytes

static void crc32_text(uint32_t crc32, char ret_text[CRC32_TEXT_BYTES])
{
    uint8_t bytes[4] = {(uint8_t)(crc32 >> 24), (uint8_t)(crc32 >> 16), (uint8_t)(crc32 >> 8), (uint8_t)crc32};
    EVP_EncodeBlock((unsigned char *)ret_text, bytes, sizeof(bytes));
}

// ---- asking

// In order of the names, as a signature wants them.
void s3_write_query(const struct origin_request *r, struct buffer *query)
{
    char number[16];
    switch (r->verb) {
    case ORIGIN_BEGIN:
        buffer_append_string(query, "uploads=");
        break;
    case ORIGIN_PART:
        snprintf(number, sizeof(number), "%u", r->part);
        s3_append_parameter(query, "partNumber", text_of(number));
        __attribute__((fallthrough));
    case ORIGIN_FINISH:
    case ORIGIN_FORGET:
        s3_append_parameter(query, "uploadId", r->upload);
        break;
    case ORIGIN_PARTS:
        s3_append_parameter(query, "max-parts", TEXT("1"));
        s3_append_parameter(query, "uploadId", r->upload);
        break;
    case ORIGIN_UPLOADS:
        s3_append_parameter(query, "encoding-type", TEXT("url"));
        s3_append_parameter(query, "prefix", r->key);
        buffer_append_string(query, "&uploads=");
        break;
    case ORIGIN_RESTORE:
        buffer_append_string(query, "restore=");
        break;
    default:
        break;
    }
}

static void add_field(struct buffer *fields, const char *name, struct text value)
{
    if (value.size_bytes == 0)
        return;
    buffer_append_string(fields, name);
    buffer_append_byte(fields, ':');
    buffer_append_text(fields, value);
    buffer_append_byte(fields, 0);
}

static void add_md5(struct buffer *fields, struct text body)
{
    uint8_t hash[EVP_MAX_MD_SIZE];
    char text[2 * EVP_MAX_MD_SIZE];
    unsigned size = 0;
    int ok = EVP_Digest(body.data, body.size_bytes, hash, &size, EVP_md5(), NULL);
    check(ok);
    EVP_EncodeBlock((unsigned char *)text, hash, (int)size);
    add_field(fields, "content-md5", text_of(text));
}

static void add_crc32(struct buffer *fields, uint32_t crc32)
{
    char text[CRC32_TEXT_BYTES];
    crc32_text(crc32, text);
    add_field(fields, "x-amz-checksum-crc32", text_of(text));
}

static void add_condition(const struct s3_origin *s3, const struct origin_request *r, struct buffer *fields)
{
    if (r->is_new && !s3->has_no_conditions)
        add_field(fields, "if-none-match", TEXT("*"));
}

// What each object is made with.
static void add_making(const struct s3_origin *s3, struct buffer *fields)
{
    add_field(fields, "x-amz-storage-class", text_of(s3->storage_class));
    add_field(fields, "x-amz-server-side-encryption", text_of(s3->encryption));
    add_field(fields, "x-amz-server-side-encryption-aws-kms-key-id", text_of(s3->encryption_key));
}

static void ask_put(struct s3_origin *s3, struct s3_state *state, const struct origin_request *r, struct fetch_message *m,
                    struct buffer *fields)
{
    enum s3_checksums checksums = s3->checksums;
    state->has_sent_crc32 = checksums != S3_CHECKSUMS_NOT_KNOWN;
    state->has_sent_md5 = checksums != S3_CHECKSUMS_KNOWN;
    m->method = FETCH_METHOD_PUT;
    m->payload = r->body.data ? r->body : TEXT("");
    add_field(fields, "content-type", TEXT("application/octet-stream"));
    add_making(s3, fields);
    add_condition(s3, r, fields);
    if (state->has_sent_crc32)
        add_crc32(fields, r->crc32);
    if (state->has_sent_md5)
        add_md5(fields, m->payload);
}

static void ask_part(const struct origin_request *r, struct fetch_message *m, struct buffer *fields)
{
    m->method = FETCH_METHOD_PUT;
    m->payload = r->body;
    if (r->has_checksums)
        add_crc32(fields, r->crc32);
    else
        add_md5(fields, r->body);
}

static void append_escaped(struct buffer *to, const char *s)
{
    for (; *s; s++) {
        if (*s == '"')
            buffer_append_string(to, "&quot;");
        else if (*s == '&')
            buffer_append_string(to, "&amp;");
        else if (*s == '<')
            buffer_append_string(to, "&lt;");
        else
            buffer_append_byte(to, *s);
    }
}

static void ask_finish(const struct s3_origin *s3, const struct origin_request *r, struct fetch_message *m, struct buffer *fields)
{
    char crc32[CRC32_TEXT_BYTES];
    m->method = FETCH_METHOD_POST;
    add_field(fields, "content-type", TEXT("application/xml"));
    add_condition(s3, r, fields);
    if (r->has_checksums) {
        add_crc32(fields, r->crc32);
        add_field(fields, "x-amz-checksum-type", TEXT("FULL_OBJECT"));
    }
    buffer_append_string(&m->body, "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for (uint32_t i = 0; i < r->part; i++) {
        buffer_format(&m->body, "<Part><PartNumber>%u</PartNumber><ETag>", i + 1);
        append_escaped(&m->body, r->parts[i].validator);
        buffer_append_string(&m->body, "</ETag>");
        crc32_text(r->parts[i].crc32, crc32);
        if (r->has_checksums)
            buffer_format(&m->body, "<ChecksumCRC32>%s</ChecksumCRC32>", crc32);
        buffer_append_string(&m->body, "</Part>");
    }
    buffer_append_string(&m->body, "</CompleteMultipartUpload>");
    m->payload = buffer_text(&m->body);
}

static void ask_copy(struct s3_origin *s3, const struct origin_request *r, struct fetch_message *m, struct buffer *fields)
{
    BUFFER_CLEANUP source = {0};
    buffer_format(&source, "/%s/", s3->bucket);
    url_quote(r->source, true, &source);
    m->method = FETCH_METHOD_PUT;
    m->payload = TEXT("");
    add_field(fields, "x-amz-copy-source", buffer_text(&source));
    add_field(fields, "x-amz-copy-source-if-match", r->source_match);
    add_making(s3, fields);
}

static void ask_restore(const struct origin_request *r, struct fetch_message *m, struct buffer *fields)
{
    m->method = FETCH_METHOD_POST;
    s3_restore_body(r->days, r->tier, &m->body);
    m->payload = buffer_text(&m->body);
    add_field(fields, "content-type", TEXT("application/xml"));
    add_md5(fields, m->payload);
}

void s3_write_ask(struct s3_origin *s3, struct origin_flight *flight, struct fetch_message *m, struct buffer *fields)
{
    const struct origin_request *r = flight->request;
    m->expected_bytes = 0;
    switch (r->verb) {
    case ORIGIN_PUT:
        ask_put(s3, flight->state, r, m, fields);
        break;
    case ORIGIN_PART:
        ask_part(r, m, fields);
        break;
    case ORIGIN_BEGIN:
        m->method = FETCH_METHOD_POST;
        add_field(fields, "content-type", TEXT("application/octet-stream"));
        add_field(fields, "x-amz-checksum-algorithm", TEXT("CRC32"));
        add_field(fields, "x-amz-checksum-type", TEXT("FULL_OBJECT"));
        add_making(s3, fields);
        break;
    case ORIGIN_FINISH:
        ask_finish(s3, r, m, fields);
        break;
    case ORIGIN_COPY:
        ask_copy(s3, r, m, fields);
        break;
    case ORIGIN_RESTORE:
        ask_restore(r, m, fields);
        break;
    case ORIGIN_DELETE:
        if (!s3->has_no_conditional_deletes)
            add_field(fields, "if-match", r->if_match);
        __attribute__((fallthrough));
    case ORIGIN_FORGET:
        m->method = FETCH_METHOD_DELETE;
        break;
    default:
        break;
    }
}

// ---- what the answers mean

static enum fetch_verdict refuse(struct origin_flight *flight, const char *why)
{
    fetch_fail(&flight->fetch, -EREMOTEIO, "%s %s", endpoint_name(flight->fetch.endpoint).data, why);
    return FETCH_END;
}

// 0: it gave back what was sent, or was given an MD5 to compare.
static enum fetch_verdict check_taken(struct origin_flight *flight, const struct fetch_head *h)
{
    struct s3_origin *s3 = s3_of(flight->origin);
    const struct s3_state *state = flight->state;
    const struct origin_request *r = flight->request;
    struct text said = fetch_head_get(h, "x-amz-checksum-crc32");
    char crc32[CRC32_TEXT_BYTES];
    crc32_text(r->crc32, crc32);
    bool was_sent = r->verb == ORIGIN_PART ? r->has_checksums : state->has_sent_crc32;
    if (said.size_bytes && was_sent && !text_equal(said, text_of(crc32)))
        return refuse(flight, "has received other bytes than were sent");
    if (r->verb == ORIGIN_PART)
        return said.size_bytes || !r->has_checksums ? FETCH_END : refuse(flight, "doesn't say what it has received");
    if (s3->checksums == S3_CHECKSUMS_UNKNOWN)
        s3->checksums = said.size_bytes ? S3_CHECKSUMS_KNOWN : S3_CHECKSUMS_NOT_KNOWN;
    if (said.size_bytes == 0 && !state->has_sent_md5) {
        s3->checksums = S3_CHECKSUMS_NOT_KNOWN; // another server behind the same name: once more, with an MD5
        return FETCH_AGAIN;
    }
    return FETCH_END;
}

static enum fetch_verdict take_upload(struct origin_flight *flight, const struct fetch_head *h)
{
    char id[UPLOAD_ID_BYTES] = "";
    const struct listing_value values[] = {{"UploadId", id, sizeof(id)}};
    listing_read_values(buffer_text(&flight->body), values, 1);
    if (!id[0] || strlen(id) == sizeof(id) - 1)
        return refuse(flight, "begins an upload and doesn't say which");
    answer_set(flight, &flight->answer.token, text_of(id));
    flight->answer.keeps_checksums = text_equal(fetch_head_get(h, "x-amz-checksum-algorithm"), TEXT("CRC32")) &&
                                     text_equal(fetch_head_get(h, "x-amz-checksum-type"), TEXT("FULL_OBJECT"));
    return FETCH_END;
}

static enum fetch_verdict take_part_number(struct origin_flight *flight)
{
    char number[16] = "";
    const struct listing_value values[] = {{"PartNumber", number, sizeof(number)}};
    listing_read_values(buffer_text(&flight->body), values, 1);
    answer_set(flight, &flight->answer.token, text_of(number));
    return FETCH_END;
}

static bool take_etag(struct origin_flight *flight)
{
    char etag[128] = "";
    BUFFER_CLEANUP quoted = {0};
    const struct listing_value values[] = {{"ETag", etag, sizeof(etag)}};
    listing_read_values(buffer_text(&flight->body), values, 1);
    etag_append(&quoted, text_of(etag));
    if (quoted.size_bytes)
        answer_set(flight, &flight->answer.validator, buffer_text(&quoted));
    return quoted.size_bytes > 0;
}

// An answer that began before the work was done can only be a 200, with white space before what is said at the end. One that
// doesn't say what it has made, being empty or cut off, says nothing.
static enum fetch_verdict judge_hidden(struct origin_flight *flight, const struct fetch_head *h)
{
    struct listing_error e;
    listing_read_error(buffer_text(&flight->body), &e);
    if (!e.code[0]) {
        if (take_etag(flight))
            return FETCH_END;
        refuse(flight, "answers 200 and doesn't say that it is done");
        return FETCH_RETRY;
    }
    struct fetch_head failed = {.status = strcmp(e.code, "NoSuchUpload") == 0 || strcmp(e.code, "NoSuchKey") == 0 ? 404
                                          : strcmp(e.code, "PreconditionFailed") == 0                            ? 412
                                          : strcmp(e.code, "AccessDenied") == 0                                  ? 403
                                          : strcmp(e.code, "InternalError") == 0                                 ? 500
                                                                                                                 : 400,
                                .fields = h->fields};
    struct fetch_outcome outcome = {.head = &failed, .body = buffer_text(&flight->body)};
    return s3_judge(flight, &outcome);
}

enum fetch_verdict s3_wrote(struct origin_flight *flight, const struct fetch_head *h)
{
    switch (flight->request->verb) {
    case ORIGIN_PUT:
    case ORIGIN_PART:
        return check_taken(flight, h);
    case ORIGIN_BEGIN:
        return take_upload(flight, h);
    case ORIGIN_PARTS:
        return take_part_number(flight);
    case ORIGIN_FINISH:
    case ORIGIN_COPY:
        return judge_hidden(flight, h);
    case ORIGIN_RESTORE: // 202: it was begun. 200: there is a copy already, kept for longer now
        flight->answer.nearline = h->status == 202 ? ORIGIN_NEARLINE_COMING : ORIGIN_NEARLINE_RESTORED;
        return FETCH_END;
    default:
        return FETCH_END;
    }
}
