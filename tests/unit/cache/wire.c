// SPDX-License-Identifier: BSD-3-Clause
// Web servers that are honest, and those that lie, stall, break off, redirect and are asked too much.
#include "tests/unit/cache/liar.h"

#include "base/metric.h"

#define SIZE 300000

static struct fetchers_options quick(void)
{
    struct fetchers_options o = FETCHERS_OPTIONS_STANDARD;
    o.retry_ns = 5 * NS_PER_MS;
    o.retry_max_ns = 40 * NS_PER_MS;
    o.stall_ns = 200 * NS_PER_MS;
    o.dead_ns = 800 * NS_PER_MS;
    return o;
}

struct world {
    struct fetchers *fetchers;
    struct liar *liar;
    struct origin *origin;
};

static struct world world_of(bool (*answer)(struct liar *l, int fd, const char *head, uint32_t number))
{
    struct fetchers_options o = quick();
    struct world w = {.fetchers = fetchers_of(&o), .liar = liar_begin(answer)};
    w.origin = opened(w.fetchers, w.liar->url, NULL);
    return w;
}

static void world_end(struct world *w)
{
    origin_unref(w->origin);
    fetchers_free(w->fetchers);
    liar_end(w->liar);
}
#define WORLD_CLEANUP cleanup(world_end) struct world

static void assert_bytes(const struct asked *k, uint64_t offset, uint64_t size_bytes)
{
    assert_int_equal(k->bytes.size_bytes, size_bytes);
    for (uint64_t i = 0; i < size_bytes; i++)
        assert_int_equal((unsigned char)k->bytes.data[i], (unsigned char)liar_byte(offset + i));
}

static struct asked *get(uint64_t offset, uint64_t size_bytes)
{
    struct asked *k = asked_new(ORIGIN_GET, "some/key");
    k->request.offset = offset;
    k->request.size_bytes = size_bytes;
    return k;
}

// ---- honest ones

static bool honest(struct liar *l, int fd, const char *head, uint32_t number)
{
    return liar_object(fd, head, SIZE, "\"one\"", UINT64_MAX);
}

static void a_range_is_asked_for_and_comes(void **state)
{
    WORLD_CLEANUP w = world_of(honest);
    ASKED_CLEANUP *k = get(1000, 200000);
    assert_int_equal(asked_of(w.origin, k), 0);
    assert_bytes(k, 1000, 200000);
    assert_int_equal(k->begin_size_bytes, SIZE);
    assert_string_equal(k->validator, "\"one\"");
    assert_int_equal(k->answer.mtime_unix_ns, 784111777 * NS_PER_S);
    assert_true(liar_has_field(w.liar->heads[0], "GET /some/key HTTP/1.1\r\n"));
    assert_true(liar_has_field(w.liar->heads[0], "Range: bytes=1000-200999\r\n"));
    assert_false(liar_has_field(w.liar->heads[0], "Authorization"));
    assert_false(liar_has_field(w.liar->heads[0], "Accept-Encoding"));
}

static void connections_are_used_again(void **state)
{
    WORLD_CLEANUP w = world_of(honest);
    for (int i = 0; i < 20; i++) {
        ASKED_CLEANUP *k = get(0, 100);
        assert_int_equal(asked_of(w.origin, k), 0);
    }
    assert_int_equal(w.liar->requests, 20);
    assert_int_equal(w.liar->connections, 1);
}

static void a_head_says_what_there_is_to_know(void **state)
{
    WORLD_CLEANUP w = world_of(honest);
    ASKED_CLEANUP *k = asked_new(ORIGIN_HEAD, "some/key");
    assert_int_equal(asked_of(w.origin, k), 0);
    assert_int_equal(k->answer.size_bytes, SIZE);
    assert_true(liar_has_field(w.liar->heads[0], "HEAD "));
}

static void odd_keys_are_quoted_once(void **state)
{
    WORLD_CLEANUP w = world_of(honest);
    ASKED_CLEANUP *k = asked_new(ORIGIN_HEAD, "a b/../%41/\xc3\xa9?#\n");
    assert_int_equal(asked_of(w.origin, k), 0);
    assert_true(liar_has_field(w.liar->heads[0], "HEAD /a%20b/../%2541/%C3%A9%3F%23%0A HTTP/1.1"));
}

static bool empty(struct liar *l, int fd, const char *head, uint32_t number)
{
    return liar_object(fd, head, 0, "\"none\"", UINT64_MAX);
}

static void an_empty_object_is_there_though_it_has_no_range(void **state)
{
    WORLD_CLEANUP w = world_of(empty);
    ASKED_CLEANUP *k = get(0, 131072);
    assert_int_equal(asked_of(w.origin, k), 0);
    assert_int_equal(k->begins, 1);
    assert_int_equal(k->begin_size_bytes, 0);
    assert_string_equal(k->validator, "\"none\"");
    ASKED_CLEANUP *behind = get(5, 10);
    assert_int_equal(asked_of(w.origin, behind), -ERANGE);
}

static void another_version_is_estale(void **state)
{
    WORLD_CLEANUP w = world_of(honest);
    ASKED_CLEANUP *k = get(0, 100);
    k->request.if_match = TEXT("\"two\"");
    assert_int_equal(asked_of(w.origin, k), -ESTALE);
    assert_int_equal(k->bytes.size_bytes, 0);
}

static bool leaves_out_quotes(struct liar *l, int fd, const char *head, uint32_t number)
{
    return liar_object(fd, "GET / HTTP/1.1\r\nRange: bytes=0-99\r\n\r\n", SIZE, "one", UINT64_MAX);
}

static void an_etag_without_quotes_is_the_one_with_them(void **state)
{
    WORLD_CLEANUP w = world_of(leaves_out_quotes);
    ASKED_CLEANUP *k = get(0, 100);
    k->request.if_match = TEXT("\"one\"");
    assert_int_equal(asked_of(w.origin, k), 0);
    assert_string_equal(k->validator, "\"one\"");
    assert_bytes(k, 0, 100);
}

static bool ignores_conditions(struct liar *l, int fd, const char *head, uint32_t number)
{
    return liar_object(fd, "GET / HTTP/1.1\r\nRange: bytes=0-99\r\n\r\n", SIZE, "\"two\"", UINT64_MAX);
}

static void a_server_that_ignores_if_match_is_found_out(void **state)
{
    WORLD_CLEANUP w = world_of(ignores_conditions);
    ASKED_CLEANUP *k = get(0, 100);
    k->request.if_match = TEXT("\"one\"");
    assert_int_equal(asked_of(w.origin, k), -ESTALE);
    assert_int_equal(k->bytes.size_bytes, 0);
    ASKED_CLEANUP *other = get(100, 100); // and that it gives another range
    assert_int_equal(asked_of(w.origin, other), -EREMOTEIO);
    assert_int_equal(other->bytes.size_bytes, 0);
}

static bool unchanged(struct liar *l, int fd, const char *head, uint32_t number)
{
    liar_print(fd, "HTTP/1.1 304 Not Modified\r\nETag: \"one\"\r\n\r\n");
    return true;
}

static void what_was_not_changed_is_not_sent(void **state)
{
    WORLD_CLEANUP w = world_of(unchanged);
    ASKED_CLEANUP *k = get(0, 100);
    k->request.if_none_match = TEXT("\"one\"");
    assert_int_equal(asked_of(w.origin, k), 0);
    assert_true(k->answer.is_unchanged);
    assert_true(liar_has_field(w.liar->heads[0], "If-None-Match: \"one\"\r\n"));
}

static bool without_ranges(struct liar *l, int fd, const char *head, uint32_t number)
{
    return liar_object(fd, "GET / HTTP/1.1\r\n\r\n", SIZE, "\"one\"", UINT64_MAX);
}

static void a_server_without_ranges_is_read_as_far_as_needed(void **state)
{
    WORLD_CLEANUP w = world_of(without_ranges);
    ASKED_CLEANUP *k = get(100000, 50000);
    assert_int_equal(asked_of(w.origin, k), 0);
    assert_bytes(k, 100000, 50000);
    assert_int_equal(k->begin_size_bytes, SIZE);
}

static bool statuses(struct liar *l, int fd, const char *head, uint32_t number)
{
    static const int all[] = {404, 410, 401, 403, 412, 418, 501};
    liar_print(fd, "HTTP/1.1 %d Status\r\nContent-Length: 0\r\n\r\n", all[number % 7]);
    return true;
}

static void a_status_is_an_errno(void **state)
{
    static const int errors[] = {-ENOENT, -ENOENT, -EACCES, -EACCES, -ESTALE, -EREMOTEIO, -EREMOTEIO};
    WORLD_CLEANUP w = world_of(statuses);
    for (int i = 0; i < 7; i++) {
        ASKED_CLEANUP *k = get(0, 10);
        assert_int_equal(asked_of(w.origin, k), errors[i]);
        assert_non_null(strstr(k->why, w.liar->url));
    }
    assert_int_equal(w.liar->requests, 7); // none of them twice
}

// ---- those that break off

static bool breaks_off(struct liar *l, int fd, const char *head, uint32_t number)
{
    bool goes_on = liar_object(fd, head, SIZE, "\"one\"", number < 4 ? 50000 : UINT64_MAX);
    return goes_on ? true : (number % 2 ? liar_reset(fd) : false);
}

static void what_breaks_off_goes_on_where_it_was(void **state)
{
    WORLD_CLEANUP w = world_of(breaks_off);
    ASKED_CLEANUP *k = get(1000, SIZE - 1000);
    assert_int_equal(asked_of(w.origin, k), 0);
    assert_bytes(k, 1000, SIZE - 1000);
    assert_int_equal(k->begins, 1);
    assert_true(w.liar->requests >= 4 && w.liar->requests <= 6);
    assert_true(liar_has_field(w.liar->heads[1], "If-Match: \"one\"\r\n"));
    assert_false(liar_has_field(w.liar->heads[1], "Range: bytes=1000-"));
}

static bool is_replaced_midway(struct liar *l, int fd, const char *head, uint32_t number)
{
    if (number == 0)
        return liar_object(fd, head, SIZE, "\"one\"", 50000);
    return liar_object(fd, l->context ? "GET / HTTP/1.1\r\nRange: bytes=50000-\r\n\r\n" : head, SIZE, "\"two\"", UINT64_MAX);
}

static void an_object_that_is_replaced_midway_is_estale_and_never_a_mixture(void **state)
{
    for (int lies = 0; lies < 2; lies++) {
        WORLD_CLEANUP w = world_of(is_replaced_midway);
        w.liar->context = lies ? w.liar : NULL; // ignores If-Match
        ASKED_CLEANUP *k = get(0, SIZE);
        assert_int_equal(asked_of(w.origin, k), -ESTALE);
        assert_true(k->bytes.size_bytes <= 50000);
    }
}

static bool gives_too_little(struct liar *l, int fd, const char *head, uint32_t number)
{
    uint64_t first, last;
    liar_range(head, SIZE, &first, &last);
    uint64_t count = last - first + 1 < 70000 ? last - first + 1 : 70000;
    liar_print(fd, "HTTP/1.1 206 P\r\nETag: \"one\"\r\nContent-Length: %llu\r\nContent-Range: bytes %llu-%llu/%d\r\n\r\n",
               (unsigned long long)count, (unsigned long long)first, (unsigned long long)(first + count - 1), SIZE);
    liar_say_bytes(fd, first, count);
    return true;
}

static void a_shorter_range_than_asked_for_is_completed(void **state)
{
    WORLD_CLEANUP w = world_of(gives_too_little);
    ASKED_CLEANUP *k = get(0, SIZE);
    assert_int_equal(asked_of(w.origin, k), 0);
    assert_bytes(k, 0, SIZE);
}

static bool gives_too_much(struct liar *l, int fd, const char *head, uint32_t number)
{
    liar_print(fd, "HTTP/1.1 206 P\r\nETag: \"one\"\r\nContent-Length: 200000\r\nContent-Range: bytes 0-99/%d\r\n\r\n", SIZE);
    liar_say_bytes(fd, 0, 200000);
    return true;
}

static void more_than_asked_for_is_cut_off(void **state)
{
    WORLD_CLEANUP w = world_of(gives_too_much);
    ASKED_CLEANUP *k = get(0, 100);
    assert_int_equal(asked_of(w.origin, k), 0);
    assert_bytes(k, 0, 100);
}

static bool never_ends_its_head(struct liar *l, int fd, const char *head, uint32_t number)
{
    liar_print(fd, "HTTP/1.1 200 OK\r\n");
    for (int i = 0; i < 3000; i++)
        liar_print(fd, "X-Field-%d: %0100d\r\n", i, i);
    return false;
}

static bool is_no_http(struct liar *l, int fd, const char *head, uint32_t number)
{
    liar_print(fd, "SSH-2.0-OpenSSH_9\r\n");
    return false;
}

static void what_is_no_answer_ends_soon(void **state)
{
    bool (*const liars[])(struct liar *, int, const char *, uint32_t) = {never_ends_its_head, is_no_http};
    for (int i = 0; i < 2; i++) {
        WORLD_CLEANUP w = world_of(liars[i]);
        ASKED_CLEANUP *k = get(0, 100);
        assert_int_equal(asked_of(w.origin, k), -EREMOTEIO);
        assert_true(w.liar->requests < 4);
    }
}

// ---- those that stall

static bool stalls_first(struct liar *l, int fd, const char *head, uint32_t number)
{
    if (number == 0 && !l->context)
        return liar_stall(l, fd);
    if (number == 0) {
        liar_object(fd, head, SIZE, "\"one\"", 50000);
        return liar_stall(l, fd);
    }
    return liar_object(fd, head, SIZE, "\"one\"", UINT64_MAX);
}

static void a_stalled_request_is_raced_by_another_before_its_first_byte_and_midway(void **state)
{
    for (int midway = 0; midway < 2; midway++) {
        WORLD_CLEANUP w = world_of(stalls_first);
        int64_t races = metric_get(METRIC_FETCH_RACES), start_ns = clock_ns();
        w.liar->context = midway ? w.liar : NULL;
        ASKED_CLEANUP *k = get(0, SIZE);
        assert_int_equal(asked_of(w.origin, k), 0);
        assert_bytes(k, 0, SIZE);
        assert_int_equal(metric_get(METRIC_FETCH_RACES) - races, 1);
        assert_int_equal(w.liar->requests, 2);
        assert_true(clock_ns() - start_ns < 30 * NS_PER_S);
    }
}

static bool stalls_always(struct liar *l, int fd, const char *head, uint32_t number)
{
    return liar_stall(l, fd);
}

static void a_server_that_says_nothing_ends_in_etimedout(void **state)
{
    WORLD_CLEANUP w = world_of(stalls_always);
    ASKED_CLEANUP *k = get(0, 100);
    k->request.deadline_ns = clock_ns() + 1500 * NS_PER_MS;
    assert_int_equal(asked_of(w.origin, k), -ETIMEDOUT);
    assert_true(k->answer.is_unanswered);
    assert_non_null(strstr(k->why, w.liar->url));
}

static bool wakes_up(struct liar *l, int fd, const char *head, uint32_t number)
{
    if (number < 2) {
        liar_object(fd, head, SIZE, "\"one\"", number == 0 ? 1000 : 0);
        usleep(number == 0 ? 500000 : 100000);
        if (number == 0)
            liar_say_bytes(fd, 1000, SIZE - 1000);
        return false;
    }
    return liar_object(fd, head, SIZE, "\"one\"", UINT64_MAX);
}

static void whichever_of_two_brings_bytes_first_goes_on_and_no_byte_comes_twice(void **state)
{
    WORLD_CLEANUP w = world_of(wakes_up);
    ASKED_CLEANUP *k = get(0, SIZE);
    assert_int_equal(asked_of(w.origin, k), 0);
    assert_bytes(k, 0, SIZE);
}

static void a_paused_request_is_not_taken_for_a_stalled_one(void **state)
{
    WORLD_CLEANUP w = world_of(honest);
    int64_t races = metric_get(METRIC_FETCH_RACES);
    ASKED_CLEANUP *k = get(0, SIZE);
    k->pauses = true;
    origin_start(w.origin, &k->request);
    asked_wait_paused(k);
    usleep(600000);
    origin_unpause(&k->request);
    asked_wait(k, 1);
    assert_int_equal(k->answer.error, 0);
    assert_bytes(k, 0, SIZE);
    assert_int_equal(metric_get(METRIC_FETCH_RACES), races);
    assert_int_equal(w.liar->requests, 1);
}

static void a_paused_request_is_given_its_bytes_again_by_itself(void **state)
{
    WORLD_CLEANUP w = world_of(honest);
    ASKED_CLEANUP *k = get(0, SIZE);
    k->pauses = true;
    assert_int_equal(asked_of(w.origin, k), 0);
    assert_true(k->is_paused);
    assert_bytes(k, 0, SIZE);
}

static void who_has_enough_ends_a_request_without_an_error(void **state)
{
    WORLD_CLEANUP w = world_of(honest);
    ASKED_CLEANUP *k = get(0, SIZE);
    k->sink_error = ORIGIN_ENOUGH;
    assert_int_equal(asked_of(w.origin, k), 0);
    assert_int_equal(k->bytes.size_bytes, 0);
    assert_int_equal(w.liar->requests, 1);
}

// ---- those in trouble

static bool storms(struct liar *l, int fd, const char *head, uint32_t number)
{
    if (number < 3) {
        liar_print(fd, "HTTP/1.1 503 Slow Down\r\nContent-Length: 4\r\n\r\nslow");
        return true;
    }
    return liar_object(fd, head, SIZE, "\"one\"", UINT64_MAX);
}

static void a_server_that_is_asked_too_much_is_asked_again_later(void **state)
{
    WORLD_CLEANUP w = world_of(storms);
    ASKED_CLEANUP *k = get(0, 100);
    assert_int_equal(asked_of(w.origin, k), 0);
    assert_int_equal(w.liar->requests, 4);
}

static bool is_always_in_trouble(struct liar *l, int fd, const char *head, uint32_t number)
{
    liar_print(fd, "HTTP/1.1 %d Trouble\r\nContent-Length: 0\r\n\r\n", number % 2 ? 503 : 500);
    return true;
}

static void trouble_without_an_end_is_eremoteio_after_some_tries(void **state)
{
    WORLD_CLEANUP w = world_of(is_always_in_trouble);
    ASKED_CLEANUP *k = get(0, 100);
    assert_int_equal(asked_of(w.origin, k), -EREMOTEIO);
    assert_false(k->answer.is_unanswered);
    assert_int_equal(w.liar->requests, FETCHERS_OPTIONS_STANDARD.retries + 1);
}

static bool asks_for_patience(struct liar *l, int fd, const char *head, uint32_t number)
{
    if (number == 0) {
        liar_print(fd, "HTTP/1.1 503 Later\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n");
        return true;
    }
    return liar_object(fd, head, SIZE, "\"one\"", UINT64_MAX);
}

static void retry_after_is_honoured(void **state)
{
    WORLD_CLEANUP w = world_of(asks_for_patience);
    int64_t start_ns = clock_ns();
    ASKED_CLEANUP *k = get(0, 100);
    assert_int_equal(asked_of(w.origin, k), 0);
    assert_true(clock_ns() - start_ns >= 900 * NS_PER_MS);
}

static void a_server_that_is_down_is_tried_by_few_and_found_again(void **state)
{
    struct fetchers_options o = quick();
    struct fetchers *fetchers = fetchers_of(&o);
    struct liar *l = liar_begin(honest);
    struct origin *origin = opened(fetchers, l->url, NULL);
    uint16_t port = l->port;
    liar_end(l);
    int64_t fetches = metric_get(METRIC_FETCHES), closures = metric_get(METRIC_ENDPOINT_CLOSURES);
    struct asked *all[50];
    for (int i = 0; i < 50; i++) {
        all[i] = get(0, 100);
        origin_start(origin, &all[i]->request);
    }
    usleep(1500000);
    assert_true(metric_get(METRIC_ENDPOINT_CLOSURES) > closures);
    assert_true(metric_get(METRIC_FETCHES) - fetches < 50 + 20); // each once, and then one by one
    // It is back, at the same port.
    struct liar *back = new_struct(struct liar);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
    int one = 1;
    back->answer = honest;
    lock_init(&back->lock, LOCK_RANK_LEAF, "liar");
    back->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(back->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    assert_int_equal(bind(back->listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(back->listener, 128), 0);
    for (int i = 0; i < LIAR_CONNECTIONS_MAX; i++)
        back->fds[i] = -1;
    assert_int_equal(pthread_create(&back->thread, NULL, liar_accept, back), 0);
    for (int i = 0; i < 50; i++) {
        asked_wait(all[i], 1);
        assert_int_equal(all[i]->answer.error, 0);
        asked_free(all[i]);
    }
    origin_unref(origin);
    fetchers_free(fetchers);
    liar_end(back);
}

static void one_bad_endpoint_does_not_starve_another(void **state)
{
    struct fetchers_options o = quick();
    struct fetchers *fetchers = fetchers_of(&o);
    struct liar *bad = liar_begin(stalls_always), *good = liar_begin(honest);
    struct origin *from_bad = opened(fetchers, bad->url, NULL), *from_good = opened(fetchers, good->url, NULL);
    struct asked *all[100];
    for (int i = 0; i < 100; i++) {
        all[i] = get(0, 100);
        all[i]->request.deadline_ns = clock_ns() + 20 * NS_PER_S;
        origin_start(from_bad, &all[i]->request);
    }
    for (int i = 0; i < 20; i++) {
        ASKED_CLEANUP *k = get(0, SIZE);
        k->request.deadline_ns = clock_ns() + 15 * NS_PER_S;
        assert_int_equal(asked_of(from_good, k), 0);
    }
    for (int i = 0; i < 100; i++) {
        lock_acquire(&all[i]->lock);
        if (!all[i]->dones)
            origin_cancel(&all[i]->request);
        lock_release(&all[i]->lock);
        asked_wait(all[i], 1);
        asked_free(all[i]);
    }
    origin_unref(from_bad);
    origin_unref(from_good);
    fetchers_free(fetchers);
    liar_end(bad);
    liar_end(good);
}

// ---- those that redirect

static bool redirects(struct liar *l, int fd, const char *head, uint32_t number)
{
    if (liar_has_field(head, "GET /elsewhere"))
        return liar_object(fd, head, SIZE, "\"one\"", UINT64_MAX);
    const char *to = l->context ? l->context : "/elsewhere";
    liar_print(fd, "HTTP/1.1 307 There\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n", to);
    return true;
}

static void redirects_are_followed_and_the_token_stays(void **state)
{
    struct fetchers_options o = quick();
    struct fetchers *fetchers = fetchers_of(&o);
    struct liar *first = liar_begin(redirects), *second = liar_begin(honest);
    char to[80];
    snprintf(to, sizeof(to), "%s/there?signed=1", second->url);
    first->context = to;
    struct origin *origin = opened(fetchers, first->url, &(struct origin_options){.bearer_token = "secret"});
    ASKED_CLEANUP *k = get(0, SIZE);
    assert_int_equal(asked_of(origin, k), 0);
    assert_bytes(k, 0, SIZE);
    assert_true(liar_has_field(first->heads[0], "Authorization: Bearer secret\r\n"));
    assert_false(liar_has_field(second->heads[0], "secret"));
    assert_true(liar_has_field(second->heads[0], "GET /there?signed=1 HTTP"));
    assert_true(liar_has_field(second->heads[0], "Range: bytes=0-299999\r\n"));
    origin_unref(origin);
    fetchers_free(fetchers);
    liar_end(first);
    liar_end(second);
}

static void redirects_on_the_same_server_keep_the_token(void **state)
{
    WORLD_CLEANUP w = world_of(redirects);
    origin_unref(w.origin);
    w.origin = opened(w.fetchers, w.liar->url, &(struct origin_options){.bearer_token = "secret"});
    ASKED_CLEANUP *k = get(0, 100);
    assert_int_equal(asked_of(w.origin, k), 0);
    assert_true(liar_has_field(w.liar->heads[1], "GET /elsewhere HTTP"));
    assert_true(liar_has_field(w.liar->heads[1], "secret"));
}

static void redirects_that_lead_nowhere_end(void **state)
{
    static const char *const nowhere[] = {"/round", "ftp://x/y", "file:///etc/passwd", "//x/y", "", "relative",
                                    "http://u:p@127.0.0.1/x"};
    for (size_t i = 0; i < sizeof(nowhere) / sizeof(*nowhere); i++) {
        WORLD_CLEANUP w = world_of(redirects);
        w.liar->context = (void *)nowhere[i];
        ASKED_CLEANUP *k = get(0, 100);
        assert_int_equal(asked_of(w.origin, k), -EREMOTEIO);
        assert_true(w.liar->requests < 8);
    }
}

// ---- proxies

static void a_proxy_is_taken_from_the_options_only(void **state)
{
    WORLD_CLEANUP w = world_of(honest);
    struct origin *o = opened(w.fetchers, "http://nowhere.invalid/", &(struct origin_options){.proxy = w.liar->url});
    ASKED_CLEANUP *k = get(0, 100);
    assert_int_equal(asked_of(o, k), 0);
    assert_true(liar_has_field(w.liar->heads[0], "GET http://nowhere.invalid/some/key HTTP/1.1\r\n"));
    origin_unref(o);
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    setenv("all_proxy", "http://127.0.0.1:1", 1);
    ASKED_CLEANUP *direct = get(0, 100);
    assert_int_equal(asked_of(w.origin, direct), 0);
    unsetenv("http_proxy");
    unsetenv("all_proxy");
}

// ---- cancelling

static void what_is_cancelled_midway_ends_at_once(void **state)
{
    WORLD_CLEANUP w = world_of(stalls_first);
    w.liar->context = w.liar;
    ASKED_CLEANUP *k = get(0, SIZE);
    origin_start(w.origin, &k->request);
    for (;;) {
        lock_acquire(&k->lock);
        bool has_some = k->bytes.size_bytes > 0;
        lock_release(&k->lock);
        if (has_some)
            break;
        usleep(1000);
    }
    origin_cancel(&k->request);
    asked_wait(k, 1);
    assert_int_equal(k->answer.error, -ECANCELED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_range_is_asked_for_and_comes),
        cmocka_unit_test(connections_are_used_again),
        cmocka_unit_test(a_head_says_what_there_is_to_know),
        cmocka_unit_test(odd_keys_are_quoted_once),
        cmocka_unit_test(an_empty_object_is_there_though_it_has_no_range),
        cmocka_unit_test(another_version_is_estale),
        cmocka_unit_test(an_etag_without_quotes_is_the_one_with_them),
        cmocka_unit_test(a_server_that_ignores_if_match_is_found_out),
        cmocka_unit_test(what_was_not_changed_is_not_sent),
        cmocka_unit_test(a_server_without_ranges_is_read_as_far_as_needed),
        cmocka_unit_test(a_status_is_an_errno),
        cmocka_unit_test(what_breaks_off_goes_on_where_it_was),
        cmocka_unit_test(an_object_that_is_replaced_midway_is_estale_and_never_a_mixture),
        cmocka_unit_test(a_shorter_range_than_asked_for_is_completed),
        cmocka_unit_test(more_than_asked_for_is_cut_off),
        cmocka_unit_test(what_is_no_answer_ends_soon),
        cmocka_unit_test(a_stalled_request_is_raced_by_another_before_its_first_byte_and_midway),
        cmocka_unit_test(a_server_that_says_nothing_ends_in_etimedout),
        cmocka_unit_test(whichever_of_two_brings_bytes_first_goes_on_and_no_byte_comes_twice),
        cmocka_unit_test(a_paused_request_is_not_taken_for_a_stalled_one),
        cmocka_unit_test(a_paused_request_is_given_its_bytes_again_by_itself),
        cmocka_unit_test(who_has_enough_ends_a_request_without_an_error),
        cmocka_unit_test(a_server_that_is_asked_too_much_is_asked_again_later),
        cmocka_unit_test(trouble_without_an_end_is_eremoteio_after_some_tries),
        cmocka_unit_test(retry_after_is_honoured),
        cmocka_unit_test(a_server_that_is_down_is_tried_by_few_and_found_again),
        cmocka_unit_test(one_bad_endpoint_does_not_starve_another),
        cmocka_unit_test(redirects_are_followed_and_the_token_stays),
        cmocka_unit_test(redirects_on_the_same_server_keep_the_token),
        cmocka_unit_test(redirects_that_lead_nowhere_end),
        cmocka_unit_test(a_proxy_is_taken_from_the_options_only),
        cmocka_unit_test(what_is_cancelled_midway_ends_at_once),
    };
    return run_group(tests);
}
