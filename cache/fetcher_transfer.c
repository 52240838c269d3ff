// SPDX-License-Identifier: BSD-3-Clause
// fetcher_transfer: one attempt on the wire.
// 1. curl decides nothing of its own: no redirects, no retries, no proxies or credentials from anywhere, no decoding.
// 2. A handle is used again and again, so that what curl keeps with it (TLS sessions) lives on.
// 3. A transfer whose fetch is NULL was dropped: its callbacks end it, and it is collected when curl isn't running.
#include <curl/curl.h>
#include <errno.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "cache/fetcher_head.h"
#include "cache/fetcher_internal.h"
#include "config.h"

#define SMALL_BUFFER_BYTES ((uint64_t)16 << 10)
#define CONNECTION_IDLE_S 60L // kept for the next request; servers close them after 5 s to some minutes

// ---- what curl calls

static bool transfer_is_good(const struct transfer *x)
{
    return x->head.status / 100 == 2;
}

// A busy server answers late to whatever distance: the best counts, and is forgotten slowly, by a few percent with each answer.
static void endpoint_note_latency(struct endpoint *e, int64_t took_ns)
{
    int64_t before = atomic_load(&e->latency_ns);
    if (before && took_ns > before + before / 64)
        took_ns = before + before / 64;
    atomic_store(&e->latency_ns, took_ns);
}

static size_t transfer_on_field(char *data, size_t size, size_t count, void *context)
{
    struct transfer *x = context;
    if (!x->fetch)
        return 0;
    x->progress_ns = clock_ns();
    if (x->is_answered)
        return count; // of a trailer
    if (x->head.status == 0)
        endpoint_note_latency(x->fetch->endpoint, x->progress_ns - x->started_ns);
    return fetch_head_line(&x->head, (struct text){data, count}) < 0 ? 0 : count;
}

// Its head is complete: the first byte of the body has come, or there is none.
static int transfer_begin(struct transfer *x)
{
    x->is_answered = true;
    if (x->has_begun || !transfer_is_good(x))
        return 0;
    x->has_begun = true;
    fetch_won(x->thread, x);
    x->own_error = x->fetch->ops->begin(x->fetch, &x->head);
    return x->own_error;
}

static size_t transfer_give(struct transfer *x, const char *data, size_t size_bytes)
{
    int taken = x->fetch->ops->sink(x->fetch, data, size_bytes);
    if (taken == FETCH_PAUSE) {
        x->is_paused = true;
        return CURL_WRITEFUNC_PAUSE;
    }
    if (taken < 0) {
        x->own_error = taken;
        return 0;
    }
    x->given_bytes += size_bytes;
    metric_add(METRIC_FETCHED_BYTES, (int64_t)size_bytes);
    return size_bytes;
}

static size_t transfer_on_body(char *data, size_t size, size_t count, void *context)
{
    struct transfer *x = context;
    if (!x->fetch)
        return 0;
    x->progress_ns = clock_ns();
    if (!x->is_answered && transfer_begin(x) < 0)
        return 0;
    if (transfer_is_good(x)) {
        if (x->fetch->transfers[1])
            fetch_won(x->thread, x);
        return transfer_give(x, data, count);
    }
    size_t room = FETCH_BODY_BYTES_MAX - x->body.size_bytes;
    buffer_append(&x->body, data, count < room ? count : room);
    return count <= room ? count : 0; // enough is known
}

// The payload is the user's only until `done`: who was dropped sends nothing more.
static size_t transfer_on_payload(char *to, size_t size, size_t count, void *context)
{
    struct transfer *x = context;
    if (!x->fetch)
        return CURL_READFUNC_ABORT;
    uint64_t left = x->message.payload.size_bytes - x->sent_bytes;
    size_t taken = size * count < left ? size * count : (size_t)left;
    if (taken)
        memcpy(to, x->message.payload.data + x->sent_bytes, taken);
    x->sent_bytes += taken;
    x->progress_ns = clock_ns();
    metric_add(METRIC_SENT_BYTES, (int64_t)taken);
    return taken;
}

// From the start again: a kept connection turned out to be closed.
static int transfer_on_seek(void *context, curl_off_t offset, int origin)
{
    struct transfer *x = context;
    if (!x->fetch || origin != SEEK_SET || offset < 0 || (uint64_t)offset > x->message.payload.size_bytes)
        return CURL_SEEKFUNC_FAIL;
    x->sent_bytes = (uint64_t)offset;
    x->fetch->is_repeated = true;
    return CURL_SEEKFUNC_OK;
}

// ---- sending

static struct transfer *transfer_new(struct fetcher_thread *t)
{
    struct transfer *x = t->spare;
    if (x) {
        t->spare = x->next;
    } else {
        x = new_struct(struct transfer);
        x->thread = t;
        x->error_text = memory_new(CURL_ERROR_SIZE);
        x->easy = curl_easy_init();
        check(x->easy);
    }
    x->next = NULL;
    x->given_bytes = x->sent_bytes = 0;
    x->own_error = 0;
    x->has_begun = x->is_paused = x->is_answered = false;
    x->head.status = 0;
    x->error_text[0] = 0;
    buffer_clear(&x->head.fields);
    buffer_clear(&x->body);
    buffer_clear(&x->message.url);
    buffer_clear(&x->message.fields);
    buffer_clear(&x->message.body);
    x->message.payload = (struct text){0};
    x->message.method = FETCH_METHOD_GET;
    x->message.expected_bytes = UINT64_MAX;
    return x;
}

static void transfer_put_back(struct transfer *x)
{
    curl_slist_free_all(x->fields);
    x->fields = NULL;
    x->fetch = NULL;
    x->next = x->thread->spare;
    x->thread->spare = x;
}

#define UPLOAD_BUFFER_BYTES (256L << 10)

static void transfer_set_payload(struct transfer *x)
{
    curl_easy_setopt(x->easy, CURLOPT_UPLOAD, 1L);
    if (x->message.method == FETCH_METHOD_POST)
        curl_easy_setopt(x->easy, CURLOPT_CUSTOMREQUEST, "POST");
    curl_easy_setopt(x->easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)x->message.payload.size_bytes);
    curl_easy_setopt(x->easy, CURLOPT_READFUNCTION, transfer_on_payload);
    curl_easy_setopt(x->easy, CURLOPT_READDATA, x);
    curl_easy_setopt(x->easy, CURLOPT_SEEKFUNCTION, transfer_on_seek);
    curl_easy_setopt(x->easy, CURLOPT_SEEKDATA, x);
    if (x->message.payload.size_bytes > UPLOAD_BUFFER_BYTES)
        curl_easy_setopt(x->easy, CURLOPT_UPLOAD_BUFFERSIZE, UPLOAD_BUFFER_BYTES);
}

static void transfer_set_method(struct transfer *x)
{
    if (x->message.payload.data) {
        transfer_set_payload(x);
        return;
    }
    switch (x->message.method) {
    case FETCH_METHOD_GET:
        curl_easy_setopt(x->easy, CURLOPT_HTTPGET, 1L);
        return;
    case FETCH_METHOD_HEAD:
        curl_easy_setopt(x->easy, CURLOPT_NOBODY, 1L);
        return;
    case FETCH_METHOD_DELETE:
        curl_easy_setopt(x->easy, CURLOPT_HTTPGET, 1L);
        curl_easy_setopt(x->easy, CURLOPT_CUSTOMREQUEST, "DELETE");
        return;
    case FETCH_METHOD_PUT:
    case FETCH_METHOD_POST:
        curl_easy_setopt(x->easy, CURLOPT_POST, 1L);
        curl_easy_setopt(x->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)x->message.body.size_bytes);
        curl_easy_setopt(x->easy, CURLOPT_POSTFIELDS, x->message.body.data ? x->message.body.data : "");
        if (x->message.method == FETCH_METHOD_PUT)
            curl_easy_setopt(x->easy, CURLOPT_CUSTOMREQUEST, "PUT");
        return;
    }
}

static void transfer_set_fields(struct transfer *x)
{
    struct curl_slist *list = curl_slist_append(NULL, "Expect:");
    const struct buffer *fields = &x->message.fields;
    for (size_t at = 0; at < fields->size_bytes; at += strlen(fields->data + at) + 1)
        list = curl_slist_append(list, fields->data + at);
    x->fields = list;
    curl_easy_setopt(x->easy, CURLOPT_HTTPHEADER, list);
}

// Asking for a large buffer costs, also where it is hardly used.
static long transfer_buffer_bytes(const struct transfer *x, const struct fetchers_options *o)
{
    uint64_t expected = x->message.expected_bytes;
    uint64_t wanted = expected < SMALL_BUFFER_BYTES ? SMALL_BUFFER_BYTES : expected;
    return (long)(wanted < o->buffer_bytes ? wanted : o->buffer_bytes);
}

static void transfer_set_way(struct transfer *x, const struct endpoint *e, const struct fetchers_options *o)
{
    CURL *easy = x->easy;
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1); // HTTP/2's one connection is slower
    curl_easy_setopt(easy, CURLOPT_PROXY, e->proxy ? e->proxy : "");      // empty: not the environment's either
    curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    if (e->ca_bundle)
        curl_easy_setopt(easy, CURLOPT_CAINFO, e->ca_bundle);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)(o->connect_ns / NS_PER_MS));
    curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, CONNECTION_IDLE_S);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_DNS_SHUFFLE_ADDRESSES, 1L);
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L); // dropping one that still looks up its name waits for nobody
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, transfer_buffer_bytes(x, o));
}

static void transfer_set(struct transfer *x)
{
    CURL *easy = x->easy;
    curl_easy_reset(easy);
    transfer_set_way(x, x->fetch->endpoint, &x->thread->all->options);
    curl_easy_setopt(easy, CURLOPT_URL, x->message.url.data);
    curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L); // `..` may stand in a key
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "butlerfs/" BUTLERFS_VERSION);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, x->error_text);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, x);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, transfer_on_field);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, x);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, transfer_on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, x);
    transfer_set_method(x);
    transfer_set_fields(x);
}

int transfer_start(struct fetcher_thread *t, struct fetch *f, struct transfer **ret_transfer)
{
    struct transfer *x = transfer_new(t);
    int error = f->ops->prepare(f, &x->message);
    if (error) {
        transfer_put_back(x);
        return error;
    }
    check(x->message.url.size_bytes);
    x->fetch = f;
    x->started_ns = x->progress_ns = clock_ns();
    transfer_set(x);
    if (curl_multi_add_handle(t->multi, x->easy) != CURLM_OK) {
        transfer_put_back(x);
        fetch_fail(f, -ENOMEM, "curl refuses the request");
        return -ENOMEM;
    }
    metric_add(METRIC_FETCHES, 1);
    *ret_transfer = x;
    return 0;
}

void transfer_unpause(struct transfer *x)
{
    x->is_paused = false;
    x->progress_ns = clock_ns();
    curl_easy_pause(x->easy, CURLPAUSE_CONT); // may call transfer_on_body
}

// ---- its end

void transfer_drop(struct transfer *x)
{
    x->fetch = NULL;
    x->next = x->thread->dropped;
    x->thread->dropped = x;
}

void transfers_collect(struct fetcher_thread *t)
{
    while (t->dropped) {
        struct transfer *x = t->dropped;
        t->dropped = x->next;
        curl_multi_remove_handle(t->multi, x->easy);
        transfer_put_back(x);
    }
}

static int curl_errno(CURLcode code)
{
    switch (code) {
    case CURLE_OK:
        return 0;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
        return -EHOSTUNREACH;
    case CURLE_COULDNT_CONNECT:
        return -ECONNREFUSED;
    case CURLE_OPERATION_TIMEDOUT:
        return -ETIMEDOUT;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_WRITE_ERROR: // of a head that was refused
        return -EPROTO;
    case CURLE_OUT_OF_MEMORY:
        return -ENOMEM;
    default:
        return -ECONNRESET;
    }
}

static struct fetch_outcome transfer_outcome(struct transfer *x, CURLcode code)
{
    struct fetch_outcome o = {
        .head = &x->head, .body = buffer_text(&x->body), .given_bytes = x->given_bytes};
    if (!code && !x->is_answered)
        transfer_begin(x); // there was no body
    if (code == CURLE_WRITE_ERROR && !x->own_error && x->is_answered && !transfer_is_good(x))
        code = CURLE_OK; // more of an error's body than is wanted
    o.is_own = x->own_error != 0;
    o.error = o.is_own ? x->own_error : curl_errno(code);
    if (o.error && !o.is_own)
        o.why = x->error_text[0] ? x->error_text : curl_easy_strerror(code);
    return o;
}

void transfers_landed(struct fetcher_thread *t)
{
    int left;
    CURLMsg *m;
    while ((m = curl_multi_info_read(t->multi, &left))) {
        struct transfer *x = NULL;
        CURLcode code = m->data.result;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &x);
        if (!x->fetch)
            continue; // it will be collected
        struct fetch_outcome outcome = transfer_outcome(x, code);
        curl_multi_remove_handle(t->multi, x->easy);
        fetch_landed(t, x, &outcome);
        transfer_put_back(x);
    }
}

void transfers_free(struct fetcher_thread *t)
{
    transfers_collect(t);
    while (t->spare) {
        struct transfer *x = t->spare;
        t->spare = x->next;
        curl_easy_cleanup(x->easy);
        buffer_release(&x->message.url);
        buffer_release(&x->message.fields);
        buffer_release(&x->message.body);
        buffer_release(&x->head.fields);
        buffer_release(&x->body);
        free(x->error_text);
        free(x);
    }
}
