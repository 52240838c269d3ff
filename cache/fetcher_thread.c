// SPDX-License-Identifier: BSD-3-Clause
// fetcher_thread: a thread that waits for its sockets, its inbox and its clock at once.
// 1. Only the thread itself touches its curl handles and its `owned` fetches; others tell it (thread_tell).
// 2. It sleeps without an end only when it has nothing and, if it keeps the time, when nobody waits.
// 3. curl tells which socket to wait for and when to be called: no handle is looked at without reason.
#include "cache/fetcher_internal.h"

#include <curl/curl.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/queue.h"

// ---- messages

void thread_signal(struct fetcher_thread *t)
{
    check(lock_is_held(&t->all->lock));
    if (t->is_signalled)
        return;
    t->is_signalled = true;
    if (t->is_started && pthread_equal(t->thread, pthread_self()))
        return; // it looks before it sleeps
    uint64_t one = 1;
    ssize_t ignored = write(t->event_fd, &one, sizeof(one));
    (void)ignored; // can only be full, and then it is signalled
}

void thread_tell(struct fetch *f)
{
    struct fetcher_thread *t = &f->all->threads[f->thread];
    if (!f->is_in_inbox) {
        f->is_in_inbox = true;
        f->next_message = NULL;
        *t->inbox_last = f;
        t->inbox_last = &f->next_message;
    }
    thread_signal(t);
}

void thread_end(struct fetch *f)
{
    f->state = FETCH_FLYING;
    f->thread = 0;
    f->is_ended = true;
    f->all->threads[0].load++;
    thread_tell(f);
}

void thread_forget(struct fetch *f)
{
    struct fetcher_thread *t = &f->all->threads[f->thread];
    t->load--;
    f->thread = -1;
    if (!f->is_in_inbox)
        return;
    struct fetch **place = &t->inbox;
    while (*place != f)
        place = &(*place)->next_message;
    *place = f->next_message;
    if (t->inbox_last == &f->next_message)
        t->inbox_last = place;
    f->is_in_inbox = false;
}

void thread_cancel_all(struct fetcher_thread *t)
{
    t->is_cancelling = true;
    thread_signal(t);
}

void fetchers_keep_time(struct fetchers *all)
{
    if (!all->is_time_kept)
        thread_signal(&all->threads[0]);
}

static struct fetch *thread_next_message(struct fetcher_thread *t, struct fetch_news *ret_news)
{
    lock_scope(&t->all->lock);
    struct fetch *f = t->inbox;
    if (!f)
        return NULL;
    t->inbox = f->next_message;
    if (!t->inbox)
        t->inbox_last = &t->inbox;
    f->is_in_inbox = false;
    *ret_news = (struct fetch_news){f->is_cancelled, f->is_woken, f->is_new, f->is_ended};
    f->is_woken = f->is_new = false;
    return f;
}

static void thread_cancel_owned(struct fetcher_thread *t)
{
    struct fetch *f;
    while ((f = t->owned.first))
        fetch_hear(t, f, (struct fetch_news){.is_cancelled = true});
}

static bool thread_take_cancelling(struct fetcher_thread *t)
{
    lock_scope(&t->all->lock);
    bool is_cancelling = t->is_cancelling;
    t->is_cancelling = false;
    return is_cancelling;
}

static void thread_receive(struct fetcher_thread *t)
{
    struct fetch_news news;
    struct fetch *f;
    while ((f = thread_next_message(t, &news)))
        fetch_hear(t, f, news);
    if (thread_take_cancelling(t))
        thread_cancel_owned(t);
}

// ---- curl's wishes

static int thread_on_socket(CURL *easy, curl_socket_t socket, int what, void *context, void *known)
{
    struct fetcher_thread *t = context;
    if (what == CURL_POLL_REMOVE) {
        epoll_ctl(t->epoll_fd, EPOLL_CTL_DEL, socket, NULL); // it may be closed already: no matter
        return 0;
    }
    struct epoll_event event = {.data.fd = socket};
    if (what & CURL_POLL_IN)
        event.events |= EPOLLIN;
    if (what & CURL_POLL_OUT)
        event.events |= EPOLLOUT;
    if (epoll_ctl(t->epoll_fd, EPOLL_CTL_ADD, socket, &event) < 0 && errno == EEXIST)
        epoll_ctl(t->epoll_fd, EPOLL_CTL_MOD, socket, &event);
    return 0;
}

static int thread_on_timer(CURLM *multi, long after_ms, void *context)
{
    struct fetcher_thread *t = context;
    t->curl_ns = after_ms < 0 ? INT64_MAX : clock_ns() + after_ms * NS_PER_MS;
    return 0;
}

static void thread_on_event(struct fetcher_thread *t, const struct epoll_event *e)
{
    if (e->data.fd == t->event_fd) {
        uint64_t count;
        ssize_t ignored = read(t->event_fd, &count, sizeof(count));
        (void)ignored;
        return;
    }
    int what = 0, running;
    if (e->events & EPOLLIN)
        what |= CURL_CSELECT_IN;
    if (e->events & EPOLLOUT)
        what |= CURL_CSELECT_OUT;
    if (e->events & (EPOLLERR | EPOLLHUP))
        what |= CURL_CSELECT_ERR;
    curl_multi_socket_action(t->multi, e->data.fd, what, &running);
}

// ---- its clock

static void thread_tick(struct fetcher_thread *t, int64_t now_ns)
{
    if (now_ns - t->tick_ns < FETCHER_TICK_NS)
        return;
    t->tick_ns = now_ns;
    for (struct fetch *f = t->owned.first, *next; f; f = next) {
        next = f->next;
        fetch_tick(t, f, now_ns);
    }
    if (t->number == 0)
        fetchers_look_at_time(t->all, now_ns);
}

static void thread_run_plain(struct fetcher_thread *t, int64_t now_ns)
{
    for (struct fetch *f = t->owned.first, *next; f; f = next) {
        next = f->next;
        if (f->endpoint->is_plain && (!f->is_later || f->wake_ns <= now_ns))
            fetch_run(t, f);
    }
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

// When it must be awake again.
static int64_t thread_due_ns(struct fetcher_thread *t, int64_t now_ns)
{
    int64_t due = t->curl_ns;
    bool has_clock = t->owned.first;
    for (struct fetch *f = t->owned.first; f; f = f->next) {
        if (f->endpoint->is_plain)
            due = earlier(due, f->is_later ? f->wake_ns : now_ns);
    }
    lock_scope(&t->all->lock);
    t->is_signalled = false;
    // Told while it was awake it isn't signalled again: it must not fall asleep over it.
    if (t->inbox || t->is_cancelling || t->dropped || (t->is_ending && !t->owned.first))
        return now_ns;
    if (t->number == 0) {
        t->all->is_time_kept = t->all->queued > 0 || t->all->parked.count > 0;
        has_clock = has_clock || t->all->is_time_kept;
    }
    return has_clock ? earlier(due, t->tick_ns + FETCHER_TICK_NS) : due;
}

static void thread_wait(struct fetcher_thread *t)
{
    struct epoll_event events[64];
    int64_t now_ns = clock_ns(), due_ns = thread_due_ns(t, now_ns);
    int timeout_ms = -1;
    if (due_ns <= now_ns)
        timeout_ms = 0;
    else if (due_ns != INT64_MAX)
        timeout_ms = (int)earlier((due_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS, 60000);
    int count = epoll_wait(t->epoll_fd, events, sizeof(events) / sizeof(*events), timeout_ms);
    for (int i = 0; i < count; i++)
        thread_on_event(t, &events[i]);
}

static bool thread_is_over(struct fetcher_thread *t)
{
    lock_scope(&t->all->lock);
    return t->is_ending && !t->inbox && !t->owned.first;
}

static void *thread_run(void *argument)
{
    struct fetcher_thread *t = argument;
    while (!thread_is_over(t)) {
        thread_wait(t);
        int64_t now_ns = clock_ns();
        if (t->curl_ns <= now_ns) {
            int running;
            t->curl_ns = INT64_MAX;
            curl_multi_socket_action(t->multi, CURL_SOCKET_TIMEOUT, 0, &running);
        }
        transfers_landed(t);
        thread_receive(t);
        thread_run_plain(t, now_ns);
        thread_tick(t, now_ns);
        transfers_collect(t);
    }
    return NULL;
}

// ---- its life

// A process ends while its fetchers go on: OpenSSL, which signs for them, is not to be taken down at exit.
static void curl_begin(void)
{
    OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, NULL);
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

static int thread_open_multi(struct fetcher_thread *t)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT; // curl's own is thread-safe only from 7.84 on, with luck
    pthread_once(&once, curl_begin);
    t->multi = curl_multi_init();
    if (!t->multi)
        return -ENOMEM;
    curl_multi_setopt(t->multi, CURLMOPT_SOCKETFUNCTION, thread_on_socket);
    curl_multi_setopt(t->multi, CURLMOPT_SOCKETDATA, t);
    curl_multi_setopt(t->multi, CURLMOPT_TIMERFUNCTION, thread_on_timer);
    curl_multi_setopt(t->multi, CURLMOPT_TIMERDATA, t);
    curl_multi_setopt(t->multi, CURLMOPT_MAXCONNECTS, (long)t->all->options.connections * 2 + 16);
    return 0;
}

int thread_open(struct fetcher_thread *t, struct fetchers *all, int32_t number)
{
    uint32_t random = (uint32_t)clock_ns() ^ (uint32_t)number << 24;
    *t = (struct fetcher_thread){
        .all = all, .number = number, .epoll_fd = -1, .event_fd = -1, .curl_ns = INT64_MAX,
        .random = random ? random : 1};
    t->inbox_last = &t->inbox;
    t->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    t->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (t->epoll_fd < 0 || t->event_fd < 0)
        return -errno;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = t->event_fd};
    if (epoll_ctl(t->epoll_fd, EPOLL_CTL_ADD, t->event_fd, &event) < 0)
        return -errno;
    int error = thread_open_multi(t);
    if (error)
        return error;
    char name[16];
    snprintf(name, sizeof(name), "fetcher/%d", (int)number);
    lock_scope(&all->lock); // so that `thread` is there before anybody compares with it
    error = thread_start(&t->thread, name, thread_run, t);
    t->is_started = error == 0;
    return error;
}

static void thread_tell_end(struct fetcher_thread *t)
{
    lock_scope(&t->all->lock);
    t->is_ending = true;
    thread_signal(t);
}

void thread_close(struct fetcher_thread *t)
{
    if (!t->all)
        return;
    if (t->is_started) {
        thread_tell_end(t);
        pthread_join(t->thread, NULL);
    }
    transfers_free(t);
    if (t->multi)
        curl_multi_cleanup(t->multi);
    if (t->event_fd >= 0)
        close(t->event_fd);
    if (t->epoll_fd >= 0)
        close(t->epoll_fd);
}
