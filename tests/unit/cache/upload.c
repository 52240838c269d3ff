// SPDX-License-Identifier: BSD-3-Clause
// Uploads, at a server that answers what the test wants: what is reported as failed isn't there, what isn't ours stays.
#include "cache/upload.h"

#include <errno.h>
#include <openssl/evp.h>
#include <time.h>
#include <zlib.h>

#include "base/metric.h"
#include "cache/fetcher_health.h"
#include "cache/upload_record.h"
#include "tests/unit/cache/liar.h"

#define PART_ETAG "\"0123456789abcdef0123456789abcdef\""
#define LARGE (ORIGIN_PART_BYTES_MIN + 1000)

// What the server does. Set before the first request, but for `is_held`.
struct server {
    _Atomic bool is_held;        // an answer to PUT waits
    int put_status;              // of the first PUT; 0: 200
    const char *put_code;        // and its reason
    uint32_t conflicts;          // so many of PUT and FINISH before that are refused, as somebody else changes the object
    int finish_status, head_status, forget_status;
    const char *etag;            // of what it takes
    const char *there;           // ETag of what HEAD finds; NULL: nothing
    uint64_t there_bytes;
    bool keeps_checksums;
    int begin_status;            // of the first BEGIN; 0: 200
    int64_t uploads_unix_s[3];   // when those began that a listing has, "u0" and so on
    const char *has_parts;       // which of them has; NULL: none
    uint32_t puts, begins;
};

struct world {
    struct fetchers *fetchers;
    struct liar *liar;
    struct origin *origin;
    struct uploads *uploads;
    struct server server;
    char folder[32];
};

static void say(int fd, int status, const char *fields, const char *body)
{
    liar_print(fd, "HTTP/1.1 %d It\r\n%sContent-Length: %zu\r\n\r\n%s", status, fields, strlen(body), body);
}

static void read_body(int fd, const char *head)
{
    const char *field = strcasestr(head, "Content-Length: ");
    uint64_t left = field ? strtoull(field + 16, NULL, 10) : 0;
    char bytes[65536];
    if (strcasestr(head, "Expect: 100-continue"))
        liar_print(fd, "HTTP/1.1 100 Continue\r\n\r\n");
    while (left > 0) {
        ssize_t n = recv(fd, bytes, left < sizeof(bytes) ? left : sizeof(bytes), 0);
        if (n <= 0)
            return;
        left -= (uint64_t)n;
    }
}

static bool is_a(const char *head, const char *method, const char *query)
{
    return strncmp(head, method, strlen(method)) == 0 && head[strlen(method)] == ' ' && strstr(head, query);
}

static void say_uploads(int fd, const struct server *s)
{
    BUFFER_CLEANUP list = {0};
    buffer_append_string(&list, "<ListMultipartUploadsResult>");
    for (int i = 0; i < 3; i++) {
        char when[40];
        time_t at = (time_t)s->uploads_unix_s[i];
        struct tm tm;
        strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S.000Z", gmtime_r(&at, &tm));
        buffer_format(&list, "<Upload><Key>key</Key><UploadId>u%d</UploadId><Initiated>%s</Initiated></Upload>", i, when);
    }
    buffer_append_string(&list, "</ListMultipartUploadsResult>");
    say(fd, 200, "", list.data);
}

static void wait_while_held(struct liar *l)
{
    const struct server *s = l->context;
    while (atomic_load(&s->is_held) && !atomic_load(&l->is_ending))
        usleep(1000);
}

static bool answer(struct liar *l, int fd, const char *head, uint32_t number)
{
    struct server *s = l->context;
    char fields[300], error[100];
    read_body(fd, head);
    if (is_a(head, "GET", "uploads=")) {
        say_uploads(fd, s);
    } else if (is_a(head, "GET", "max-parts=")) {
        bool has_parts = s->has_parts && strstr(head, s->has_parts);
        say(fd, 200, "", has_parts ? "<ListPartsResult><Part><PartNumber>1</PartNumber></Part></ListPartsResult>"
                                   : "<ListPartsResult/>");
    } else if (is_a(head, "POST", "?uploads=") && s->begins++ == 0 && s->begin_status) {
        say(fd, s->begin_status, "", "");
    } else if (is_a(head, "POST", "?uploads=")) {
        say(fd, 200, s->keeps_checksums ? "x-amz-checksum-algorithm: CRC32\r\nx-amz-checksum-type: FULL_OBJECT\r\n" : "",
            "<R><UploadId>u</UploadId></R>");
    } else if (is_a(head, "PUT", "partNumber=")) {
        const char *crc = strstr(head, "x-amz-checksum-crc32:");
        wait_while_held(l);
        snprintf(fields, sizeof(fields), "ETag: " PART_ETAG "\r\n%.*s", crc ? 31 : 0, crc ? crc : "");
        say(fd, 200, fields, "");
    } else if (s->conflicts > 0 && (is_a(head, "PUT", "") || is_a(head, "POST", "uploadId="))) {
        s->conflicts--;
        say(fd, 409, "", "<Error><Code>ConditionalRequestConflict</Code></Error>");
    } else if (is_a(head, "POST", "uploadId=")) {
        if (s->finish_status)
            say(fd, s->finish_status, "", "<Error><Code>NoSuchUpload</Code></Error>");
        else
            say(fd, 200, "", "<R><ETag>&quot;end&quot;</ETag></R>");
    } else if (is_a(head, "PUT", "")) {
        bool is_first = s->puts++ == 0;
        wait_while_held(l);
        snprintf(fields, sizeof(fields), "ETag: %s\r\n", s->etag);
        snprintf(error, sizeof(error), "<Error><Code>%s</Code></Error>", s->put_code ? s->put_code : "");
        say(fd, is_first && s->put_status ? s->put_status : 200, fields, is_first && s->put_code ? error : "");
    } else if (is_a(head, "HEAD", "")) {
        if (s->head_status || !s->there)
            say(fd, s->head_status ? s->head_status : 404, "", "");
        else
            liar_print(fd, "HTTP/1.1 200 OK\r\nETag: %s\r\nContent-Length: %llu\r\n\r\n", s->there,
                       (unsigned long long)s->there_bytes);
    } else if (is_a(head, "DELETE", "uploadId=")) {
        if (s->forget_status)
            say(fd, s->forget_status, "", "<Error><Code>AccessDenied</Code></Error>");
        else
            say(fd, 404, "", "<Error><Code>NoSuchUpload</Code></Error>");
    } else {
        say(fd, 204, "", "");
    }
    return true;
}

static int world_begin(void **state)
{
    struct world *w = new_struct(struct world);
    struct fetchers_options o = FETCHERS_OPTIONS_STANDARD;
    o.retry_ns = 5 * NS_PER_MS;
    o.retry_max_ns = 20 * NS_PER_MS;
    w->fetchers = fetchers_of(&o);
    w->server.etag = "\"one\"";
    w->liar = liar_begin(answer);
    w->liar->context = &w->server;
    w->origin = opened(w->fetchers, "s3://bucket/",
                       &(struct origin_options){.endpoint = w->liar->url, .access_key_id = "ID", .secret_access_key = "SECRET"});
    snprintf(w->folder, sizeof(w->folder), "/tmp/upload-XXXXXX");
    assert_non_null(mkdtemp(w->folder));
    w->uploads = uploads_new(&(struct uploads_options){.folder = w->folder, .memory_bytes = 64 << 20});
    *state = w;
    return 0;
}

static int world_end(void **state)
{
    struct world *w = *state;
    uploads_free(w->uploads);
    origin_unref(w->origin);
    fetchers_free(w->fetchers);
    liar_end(w->liar);
    int left = rmdir(w->folder); // no record is
    free(w);
    return left;
}

// ---- what is done with it

static struct upload *written(struct world *w, size_t size_bytes)
{
    struct upload *u = upload_open(w->uploads, w->origin, TEXT("key"), false);
    cleanup(cleanup_free) char *data = memory_new(size_bytes);
    assert_int_equal(upload_write(u, 0, data, size_bytes), 0);
    upload_finish(u);
    return u;
}

static int ended(struct upload *u, struct upload_result *ret_result)
{
    int r;
    while ((r = upload_result(u, ret_result)) == -EINPROGRESS)
        usleep(1000);
    return r;
}

static void drain(struct world *w)
{
    while (uploads_drain(w->uploads))
        continue;
}

static void has(struct world *w, const char *etag, uint64_t size_bytes)
{
    w->server.there = etag;
    w->server.there_bytes = size_bytes;
}

// Written in parts to its end, and all that follows: how it ended.
static int in_parts(struct world *w, struct upload_result *ret_result)
{
    struct upload *u = written(w, LARGE);
    int r = ended(u, ret_result);
    upload_close(u);
    drain(w);
    return r;
}

// The server has it, and doesn't answer as long as it is held.
static void failed_while_it_is_sent(struct world *w)
{
    w->server.is_held = true;
    struct upload *u = written(w, 10);
    while (liar_requests(w->liar) < 1)
        usleep(1000);
    upload_fail(u, -ETIMEDOUT, "it took too long");
    upload_close(u);
}

static void fails_while_it_is_sent(struct world *w)
{
    failed_while_it_is_sent(w);
    w->server.is_held = false;
    drain(w);
}

// "PUT HEAD DELETE ": the methods, in order; "FORGET " of an upload.
static const char *methods(struct world *w)
{
    static char all[400];
    all[0] = 0;
    lock_scope(&w->liar->lock);
    for (uint32_t i = 0; i < w->liar->requests; i++) {
        const char *head = w->liar->heads[i];
        const char *name = is_a(head, "DELETE", "uploadId=") ? "FORGET " : head;
        snprintf(all + strlen(all), sizeof(all) - strlen(all), "%.*s ", (int)strcspn(name, " "), name);
    }
    return all;
}

// ---- what a server answers

#define CONFLICTS (HEALTH_FAILURES_MAX + 1)

static struct upload *new_one(struct world *w, size_t size_bytes)
{
    struct upload *u = upload_open(w->uploads, w->origin, TEXT("key"), true);
    cleanup(cleanup_free) char *data = memory_new(size_bytes);
    assert_int_equal(upload_write(u, 0, data, size_bytes), 0);
    upload_finish(u);
    return u;
}

static int ends(struct world *w, struct upload *u)
{
    struct upload_result result;
    int r = ended(u, &result);
    upload_close(u);
    drain(w);
    return r;
}

static void a_conflict_is_asked_again_and_is_no_trouble_of_the_server(void **state)
{
    struct world *w = *state;
    int64_t closures = metric_get(METRIC_ENDPOINT_CLOSURES);
    w->server.conflicts = CONFLICTS;
    assert_int_equal(ends(w, new_one(w, 10)), 0);
    assert_int_equal(w->server.conflicts, 0);
    w->server.conflicts = CONFLICTS;
    has(w, "\"end\"", LARGE);
    assert_int_equal(ends(w, new_one(w, LARGE)), 0);
    assert_int_equal(w->server.conflicts, 0);
    assert_int_equal(metric_get(METRIC_ENDPOINT_CLOSURES), closures);
}

static void who_loses_after_a_conflict_is_told_that_there_is_an_object(void **state)
{
    struct world *w = *state;
    w->server.conflicts = 1;
    w->server.put_status = 412;
    assert_int_equal(ends(w, new_one(w, 10)), -EEXIST);
    assert_string_equal(methods(w), "PUT PUT ");
}

static void a_server_without_room_is_edquot_or_enospc_at_once(void **state)
{
    static const struct {
        int status;
        const char *code;
        int error;
    } all[] = {
        {403, "QuotaExceeded", -EDQUOT},
        {400, "XMinioAdminBucketQuotaExceeded", -EDQUOT},
        {507, "XMinioStorageFull", -ENOSPC},
        {507, "", -ENOSPC},
        {403, "AccessDenied", -EACCES},
    };
    struct world *w = *state;
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
        w->server.puts = 0;
        w->server.put_status = all[i].status;
        w->server.put_code = all[i].code;
        assert_int_equal(ends(w, new_one(w, 10)), all[i].error);
        assert_int_equal(w->server.puts, 1);
    }
}

// ---- failed means that it isn't there

static void what_failed_is_not_sent_again_and_somebody_elses_object_stays(void **state)
{
    struct world *w = *state;
    w->server.put_status = 503;
    has(w, "\"another's\"", 10);
    fails_while_it_is_sent(w);
    assert_string_equal(methods(w), "PUT HEAD ");
}

static void what_was_taken_after_it_failed_is_deleted_if_it_still_is_that(void **state)
{
    struct world *w = *state;
    has(w, "\"one\"", 10);
    fails_while_it_is_sent(w);
    assert_string_equal(methods(w), "PUT HEAD DELETE ");
    assert_true(liar_has_field(w->liar->heads[2], "if-match:\"one\"\r\n"));
}

static void what_was_replaced_since_it_failed_is_not_deleted(void **state)
{
    struct world *w = *state;
    has(w, "\"two\"", 10);
    fails_while_it_is_sent(w);
    assert_string_equal(methods(w), "PUT HEAD ");
}

static void a_new_object_of_the_name_waits_until_the_failed_one_is_gone(void **state)
{
    struct world *w = *state;
    struct upload_result result;
    has(w, "\"one\"", 10);
    failed_while_it_is_sent(w);
    struct upload *u = written(w, 10);
    w->server.is_held = false;
    assert_int_equal(ended(u, &result), 0);
    upload_close(u);
    assert_string_equal(methods(w), "PUT HEAD DELETE PUT ");
}

// ---- ours is what is shown to be

static void an_object_of_the_same_size_is_not_taken_for_what_was_written(void **state)
{
    struct world *w = *state;
    struct upload_result result;
    w->server.finish_status = 404;
    has(w, "\"old\"", LARGE);
    assert_int_equal(in_parts(w, &result), -EIO);
    assert_null(strstr(methods(w), "DELETE "));
}

static void an_object_of_those_parts_is_what_was_written(void **state)
{
    struct world *w = *state;
    struct upload_result result;
    uint8_t parts[32], hash[EVP_MAX_MD_SIZE];
    char etag[64] = "\"";
    for (size_t i = 0; i < sizeof(parts); i++)
        parts[i] = (uint8_t[]){0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef}[i % 8];
    assert_true(EVP_Digest(parts, sizeof(parts), hash, NULL, EVP_md5(), NULL));
    for (size_t i = 0; i < 16; i++)
        snprintf(etag + 1 + 2 * i, 3, "%02x", hash[i]);
    strcat(etag, "-2\"");
    w->server.finish_status = 404;
    has(w, etag, LARGE);
    assert_int_equal(in_parts(w, &result), 0);
    assert_string_equal(result.validator, etag);
}

static void what_the_server_said_is_whole_is_so_whatever_is_heard_of_it_later(void **state)
{
    struct world *w = *state;
    struct upload_result result;
    w->server.head_status = 400;
    assert_int_equal(in_parts(w, &result), 0);
    assert_string_equal(result.validator, "\"end\"");
}

static void bytes_that_were_synced_early_are_summed_once(void **state)
{
    struct world *w = *state;
    struct upload_result result;
    w->server.keeps_checksums = true;
    struct upload *u = written(w, 10);
    cleanup(cleanup_free) char *zeros = memory_new(LARGE);
    assert_int_equal(ended(u, &result), 0);
    assert_int_equal(upload_write(u, 10, zeros, LARGE - 10), 0);
    upload_finish(u);
    assert_int_equal(ended(u, &result), 0);
    upload_close(u);
    uint32_t sum = (uint32_t)crc32_z(0, (const unsigned char *)zeros, LARGE);
    uint8_t bytes[4] = {(uint8_t)(sum >> 24), (uint8_t)(sum >> 16), (uint8_t)(sum >> 8), (uint8_t)sum};
    char field[64] = "x-amz-checksum-crc32:";
    EVP_EncodeBlock((unsigned char *)field + strlen(field), bytes, sizeof(bytes));
    const char *finish = NULL;
    for (uint32_t i = 0; i < w->liar->requests; i++)
        if (is_a(w->liar->heads[i], "POST", "uploadId="))
            finish = w->liar->heads[i];
    assert_non_null(finish);
    assert_true(liar_has_field(finish, field));
}

// ---- memory

static int64_t figure(struct world *w, const char *name)
{
    cleanup(cleanup_doc_free) struct doc *map = doc_new(DOC_MAP);
    uploads_status(w->uploads, map);
    return doc_integer(doc_get(map, name), -1);
}

// `count` parts while the server answers none; then it takes them all.
static struct upload *parts_sent(struct world *w, uint32_t count)
{
    struct upload *u = upload_open(w->uploads, w->origin, TEXT("key"), false);
    cleanup(cleanup_free) char *zeros = memory_new(ORIGIN_PART_BYTES_MIN);
    w->server.is_held = true;
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(upload_write(u, (uint64_t)i * ORIGIN_PART_BYTES_MIN, zeros, ORIGIN_PART_BYTES_MIN), 0);
    assert_int_equal(figure(w, "used_bytes"), (int64_t)count * ORIGIN_PART_BYTES_MIN);
    w->server.is_held = false;
    while (figure(w, "requests") > 0)
        usleep(1000);
    return u;
}

static void a_few_rooms_of_parts_are_kept_for_the_next_ones_while_somebody_writes(void **state)
{
    struct world *w = *state;
    struct upload_result result;
    struct upload *u = parts_sent(w, 6);
    assert_int_equal(figure(w, "kept_bytes"), 4 * (int64_t)ORIGIN_PART_BYTES_MIN);
    assert_int_equal(upload_write(u, 6 * (uint64_t)ORIGIN_PART_BYTES_MIN, "x", 1), 0);
    assert_int_equal(figure(w, "kept_bytes"), 3 * (int64_t)ORIGIN_PART_BYTES_MIN);
    upload_finish(u);
    assert_int_equal(ended(u, &result), 0);
    upload_close(u);
    drain(w);
    assert_int_equal(figure(w, "kept_bytes"), 0);
    assert_int_equal(figure(w, "used_bytes"), 0);
}

#define OTHERS 12

static void what_is_kept_goes_when_others_need_the_memory(void **state)
{
    struct world *w = *state;
    struct upload_result result;
    struct upload *others[OTHERS], *u = parts_sent(w, 6);
    cleanup(cleanup_free) char *zeros = memory_new(ORIGIN_PART_BYTES_MIN);
    for (size_t i = 0; i < OTHERS; i++) {
        others[i] = upload_open(w->uploads, w->origin, TEXT("key"), false);
        assert_int_equal(upload_write(others[i], 0, zeros, ORIGIN_PART_BYTES_MIN - 1), 0);
        assert_true(figure(w, "used_bytes") + figure(w, "kept_bytes") <= figure(w, "memory_bytes"));
    }
    assert_int_equal(figure(w, "kept_bytes"), 0);
    for (size_t i = 0; i < OTHERS; i++) {
        upload_finish(others[i]);
        assert_int_equal(ended(others[i], &result), 0);
        upload_close(others[i]);
    }
    upload_finish(u);
    assert_int_equal(ended(u, &result), 0);
    upload_close(u);
}

// ---- what was begun and never heard of

// The names of those that were forgotten, in their order: they are forgotten at once.
static const char *forgotten(struct world *w)
{
    static char all[100];
    all[0] = 0;
    lock_scope(&w->liar->lock);
    for (char name[] = "uploadId=u0 "; name[10] <= '9'; name[10]++)
        for (uint32_t i = 0; i < w->liar->requests; i++)
            if (is_a(w->liar->heads[i], "DELETE", name))
                snprintf(all + strlen(all), sizeof(all) - strlen(all), "u%c", name[10]);
    return all;
}

// A life begins that finds a record of an upload without a name, and uploads of its key.
static void recover(struct world *w, int64_t begun_unix_s, const int64_t uploads_unix_s[3])
{
    struct upload_record record = {origin_identity(w->origin), TEXT("key"), TEXT(""), begun_unix_s * NS_PER_S};
    assert_int_equal(upload_record_write(w->folder, 1, &record), 0);
    memcpy(w->server.uploads_unix_s, uploads_unix_s, sizeof(w->server.uploads_unix_s));
    uploads_recover(w->uploads, w->origin);
    drain(w);
}

static void of_a_record_without_a_name_only_what_began_in_its_time_is_forgotten(void **state)
{
    struct world *w = *state;
    int64_t now_s = clock_unix_ns() / NS_PER_S, begun_s = now_s - 3000;
    recover(w, begun_s, (int64_t[]){begun_s + 1, begun_s + 1000, now_s + 5});
    assert_string_equal(forgotten(w), "u0");
}

static void what_has_parts_is_not_the_one_whose_name_was_never_heard(void **state)
{
    struct world *w = *state;
    int64_t begun_s = clock_unix_ns() / NS_PER_S - 3000;
    w->server.has_parts = "u1";
    recover(w, begun_s, (int64_t[]){begun_s + 1, begun_s + 1, begun_s + 1});
    assert_string_equal(forgotten(w), "u0u2");
}

static void count_record(void *context, uint64_t number, const struct upload_record *record)
{
    (void)number, (void)record;
    ++*(int *)context;
}

static void a_record_stays_until_all_that_it_stands_for_is_gone(void **state)
{
    struct world *w = *state;
    int64_t begun_s = clock_unix_ns() / NS_PER_S - 3000;
    int records = 0;
    w->server.has_parts = "u1";
    w->server.forget_status = 403;
    recover(w, begun_s, (int64_t[]){begun_s + 1, begun_s + 1, begun_s + 5000});
    assert_int_equal(upload_records(w->folder, count_record, &records), 0);
    assert_int_equal(records, 1);
    w->server.forget_status = 0;
    uploads_recover(w->uploads, w->origin);
    drain(w);
    records = 0;
    assert_int_equal(upload_records(w->folder, count_record, &records), 0);
    assert_int_equal(records, 0);
}

static void what_this_life_begins_is_not_taken_for_an_earlier_ones(void **state)
{
    struct world *w = *state;
    int64_t now_s = clock_unix_ns() / NS_PER_S;
    recover(w, now_s - 1, (int64_t[]){now_s + 1, now_s + 2, now_s + 3});
    assert_string_equal(forgotten(w), "");
}

static void an_upload_that_was_begun_twice_leaves_nothing(void **state)
{
    struct world *w = *state;
    struct upload_result result;
    int64_t now_s = clock_unix_ns() / NS_PER_S;
    w->server.begin_status = 503;
    memcpy(w->server.uploads_unix_s, (int64_t[]){now_s - 1000, now_s, now_s + 1000}, sizeof(int64_t[3]));
    has(w, "\"end\"", LARGE);
    assert_int_equal(in_parts(w, &result), 0);
    assert_string_equal(forgotten(w), "u1");
}

#define of_a_server(test) cmocka_unit_test_setup_teardown(test, world_begin, world_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        of_a_server(a_conflict_is_asked_again_and_is_no_trouble_of_the_server),
        of_a_server(who_loses_after_a_conflict_is_told_that_there_is_an_object),
        of_a_server(a_server_without_room_is_edquot_or_enospc_at_once),
        of_a_server(what_failed_is_not_sent_again_and_somebody_elses_object_stays),
        of_a_server(what_was_taken_after_it_failed_is_deleted_if_it_still_is_that),
        of_a_server(what_was_replaced_since_it_failed_is_not_deleted),
        of_a_server(a_new_object_of_the_name_waits_until_the_failed_one_is_gone),
        of_a_server(an_object_of_the_same_size_is_not_taken_for_what_was_written),
        of_a_server(an_object_of_those_parts_is_what_was_written),
        of_a_server(what_the_server_said_is_whole_is_so_whatever_is_heard_of_it_later),
        of_a_server(of_a_record_without_a_name_only_what_began_in_its_time_is_forgotten),
        of_a_server(what_has_parts_is_not_the_one_whose_name_was_never_heard),
        of_a_server(a_record_stays_until_all_that_it_stands_for_is_gone),
        of_a_server(what_this_life_begins_is_not_taken_for_an_earlier_ones),
        of_a_server(an_upload_that_was_begun_twice_leaves_nothing),
        of_a_server(bytes_that_were_synced_early_are_summed_once),
        of_a_server(a_few_rooms_of_parts_are_kept_for_the_next_ones_while_somebody_writes),
        of_a_server(what_is_kept_goes_when_others_need_the_memory),
    };
    return run_group(tests);
}
