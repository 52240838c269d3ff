// SPDX-License-Identifier: BSD-3-Clause
// fetcher_turn: one fetch on the thread that has it: its attempts, what they came to, and its end.
// 1. A fetch on the wire has transfers[0], and transfers[1] only as long as neither has brought a byte since that
//    one was sent: so both were asked for the same bytes, and whichever brings the first goes on alone.
// 2. What the user's judge says decides; how the endpoint did is told to its health, once for each attempt.
// 3. After fetch_finish, fetch_sleep, fetch_await and fetch_again the fetch is not this thread's any more.
#include "cache/fetcher_internal.h"

#include <errno.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "cache/fetcher_head.h"

static uint32_t thread_random(struct fetcher_thread *t)
{
    t->random ^= t->random << 13;
    t->random ^= t->random >> 17;
    t->random ^= t->random << 5;
    return t->random;
}

// ---- leaving the thread

// Under the lock: neither its thread nor its endpoint's slots know it any more.
static void fetch_leave(struct fetcher_thread *t, struct fetch *f)
{
    if (f->is_owned)
        fetch_list_remove(&t->owned, f);
    f->is_owned = false;
    thread_forget(f);
    endpoint_land(f);
}

static void fetch_end(struct fetcher_thread *t, struct fetch *f)
{
    lock_scope(&t->all->lock);
    fetch_leave(t, f);
    f->state = FETCH_DONE;
    endpoint_dispatch(f->endpoint);
}

static void fetch_drop_transfers(struct fetch *f);

static void fetch_finish(struct fetcher_thread *t, struct fetch *f, int error)
{
    fetch_drop_transfers(f);
    f->error = error;
    fetch_end(t, f);
    f->ops->done(f);
    fetchers_let_go(t->all);
}

// Under the lock, when it has left.
static void fetch_move(struct fetch *f)
{
    endpoint_dispatch(f->endpoint);
    if (f->elsewhere)
        f->endpoint = f->elsewhere;
    f->elsewhere = NULL;
}

// Under the lock.
static void fetch_park(struct fetcher_thread *t, struct fetch *f, enum fetch_state state)
{
    fetch_leave(t, f);
    fetch_move(f);
    f->state = state;
    fetch_list_append(&t->all->parked, f);
    fetchers_keep_time(t->all);
    if (f->is_cancelled || f->is_given_up || t->all->is_ending)
        fetch_cancel_held(f);
}

static void fetch_sleep(struct fetcher_thread *t, struct fetch *f, int64_t until_ns)
{
    lock_scope(&t->all->lock);
    f->not_before_ns = until_ns;
    fetch_park(t, f, FETCH_SLEEPING);
}

// false: it was woken meanwhile.
static bool fetch_await(struct fetcher_thread *t, struct fetch *f)
{
    lock_scope(&t->all->lock);
    if (f->is_woken) {
        f->is_woken = false;
        return false;
    }
    fetch_park(t, f, FETCH_AWAITING);
    return true;
}

static void fetch_again(struct fetcher_thread *t, struct fetch *f)
{
    lock_scope(&t->all->lock);
    fetch_leave(t, f);
    fetch_move(f);
    f->is_cancelled = f->is_cancelled || f->is_given_up;
    if (f->is_cancelled)
        thread_end(f);
    else
        endpoint_queue(f, true);
}

// ---- attempts

static void fetch_attempt(struct fetcher_thread *t, struct fetch *f)
{
    for (;;) {
        int error = transfer_start(t, f, &f->transfers[0]);
        if (!error)
            return;
        if (error != -EINPROGRESS) {
            fetch_finish(t, f, error);
            return;
        }
        if (fetch_await(t, f))
            return;
    }
}

static bool endpoint_take_race(struct endpoint *e)
{
    lock_scope(&e->all->lock);
    if (!endpoint_may_race(e))
        return false;
    e->racing++;
    return true;
}

static void endpoint_give_race(struct endpoint *e)
{
    lock_scope(&e->all->lock);
    e->racing--;
}

static void fetch_race(struct fetcher_thread *t, struct fetch *f)
{
    if (!endpoint_take_race(f->endpoint))
        return;
    int error = transfer_start(t, f, &f->transfers[1]);
    if (error) {
        f->transfers[1] = NULL;
        endpoint_give_race(f->endpoint);
        return;
    }
    metric_add(METRIC_FETCH_RACES, 1);
}

// It is no longer one of the fetch's; the other, if there is one, is the first.
static void fetch_take_out(struct fetch *f, struct transfer *x)
{
    if (f->transfers[1])
        endpoint_give_race(f->endpoint);
    if (f->transfers[0] == x)
        f->transfers[0] = f->transfers[1];
    f->transfers[1] = NULL;
}

static void fetch_drop_transfers(struct fetch *f)
{
    while (f->transfers[0]) {
        struct transfer *x = f->transfers[0];
        fetch_take_out(f, x);
        transfer_drop(x);
    }
}

void fetch_won(struct fetcher_thread *t, struct transfer *x)
{
    struct fetch *f = x->fetch;
    if (!f->transfers[1])
        return;
    struct transfer *other = f->transfers[f->transfers[0] == x];
    fetch_take_out(f, other);
    transfer_drop(other);
}

// ---- how an attempt ended

static void endpoint_closes(struct endpoint *e)
{
    metric_add(METRIC_ENDPOINT_CLOSURES, 1);
    log_warn("%s fails and is left in peace for a moment: %s", e->name, e->trouble ? e->trouble : "");
}

static void endpoint_learn(struct fetcher_thread *t, struct fetch *f, const struct fetch_outcome *o,
                           enum fetch_verdict verdict, int64_t retry_after_ns)
{
    struct endpoint *e = f->endpoint;
    int64_t now_ns = clock_ns();
    bool has_failed = verdict == FETCH_RETRY || (o->error && !o->is_own);
    lock_scope(&t->all->lock);
    if (has_failed || verdict == FETCH_SLOWER) {
        e->failed++;
        endpoint_trouble(e, f->why.size_bytes ? f->why.data : (o->why ? o->why : "trouble"));
    } else {
        e->answered++;
    }
    if (verdict == FETCH_SLOWER)
        health_slower(&e->health, now_ns, retry_after_ns);
    // One that broke off after it gave bytes says little of the server.
    if (has_failed || (verdict == FETCH_SLOWER && f->is_try)) {
        if (o->given_bytes == 0 && health_failed(&e->health, f->is_try, now_ns, thread_random(t)))
            endpoint_closes(e);
    } else if (verdict != FETCH_SLOWER) {
        health_succeeded(&e->health);
    }
}

// `was_sent`: the server may have done it.
static void fetch_retry(struct fetcher_thread *t, struct fetch *f, const struct fetch_outcome *o, bool was_sent,
                        int64_t retry_after_ns)
{
    const struct fetchers_options *options = &t->all->options;
    f->failures = o->given_bytes ? 1 : f->failures + 1;
    f->is_repeated = f->is_repeated || was_sent;
    if (!o->error || o->is_own)
        f->answers++;
    int64_t pause = health_pause_ns(f->failures, options->retry_ns, options->retry_max_ns, thread_random(t));
    if (pause < retry_after_ns)
        pause = retry_after_ns;
    int64_t until_ns = clock_ns() + pause;
    if (f->answers > options->retries || until_ns >= f->deadline_ns) {
        fetch_finish(t, f, f->error ? f->error : -EREMOTEIO);
        return;
    }
    metric_add(METRIC_FETCH_RETRIES, 1);
    fetch_sleep(t, f, until_ns);
}

static void fetch_judged(struct fetcher_thread *t, struct fetch *f, const struct fetch_outcome *o)
{
    if (o->head->status)
        f->is_unanswered = false;
    f->error = 0;
    enum fetch_verdict verdict = f->ops->judge(f, o);
    int64_t retry_after_ns = o->error ? 0 : fetch_head_retry_after_ns(o->head, clock_unix_ns());
    endpoint_learn(t, f, o, verdict, retry_after_ns);
    if (f->error)
        metric_add(METRIC_FETCH_FAILURES, 1);
    switch (verdict) {
    case FETCH_END:
        fetch_finish(t, f, f->error);
        break;
    case FETCH_RETRY:
    case FETCH_SLOWER:
    case FETCH_LATER:
        fetch_retry(t, f, o, verdict != FETCH_LATER, retry_after_ns);
        break;
    case FETCH_AGAIN:
        if (++f->detours > FETCH_DETOURS_MAX)
            fetch_finish(t, f, f->error ? f->error : -EREMOTEIO);
        else
            fetch_again(t, f);
        break;
    }
}

void fetch_landed(struct fetcher_thread *t, struct transfer *x, const struct fetch_outcome *o)
{
    struct fetch *f = x->fetch;
    fetch_take_out(f, x);
    bool is_good = !o->error && o->head->status / 100 == 2;
    if (f->transfers[0] && !is_good && !o->is_own)
        return; // the other may still come to something
    fetch_drop_transfers(f);
    fetch_judged(t, f, o);
}

// ---- time

static void fetch_is_late(struct fetcher_thread *t, struct fetch *f)
{
    BUFFER_CLEANUP before = {0};
    buffer_append_text(&before, buffer_text(&f->why));
    fetch_fail(f, -ETIMEDOUT, "%s: no answer within the limit%s%s", f->endpoint->name,
               before.size_bytes ? "; before: " : "", before.size_bytes ? before.data : "");
    fetch_finish(t, f, -ETIMEDOUT);
}

static void fetch_is_dead(struct fetcher_thread *t, struct fetch *f, struct transfer *x)
{
    struct fetch_head none = {0};
    BUFFER_CLEANUP why = {0};
    buffer_format(&why, "not a byte for %lld s", (long long)(t->all->options.dead_ns / NS_PER_S));
    struct fetch_outcome outcome = {
        .error = -ETIMEDOUT, .why = why.data, .head = &none, .given_bytes = x->given_bytes};
    fetch_take_out(f, x);
    transfer_drop(x);
    if (!f->transfers[0])
        fetch_judged(t, f, &outcome);
}

// A server that says nothing until the deadline has failed, too.
static void endpoint_learn_silence(struct fetcher_thread *t, struct fetch *f)
{
    struct endpoint *e = f->endpoint;
    lock_scope(&t->all->lock);
    e->failed++;
    endpoint_trouble(e, "no answer within the limit");
    if (health_failed(&e->health, f->is_try, clock_ns(), thread_random(t)))
        endpoint_closes(e);
}

// What was asked of it is with the server, who may take his time.
static bool is_being_done(const struct fetch *f, const struct transfer *x)
{
    return f->is_patient && x->sent_bytes == x->message.payload.size_bytes;
}

void fetch_tick(struct fetcher_thread *t, struct fetch *f, int64_t now_ns)
{
    struct transfer *x = f->transfers[0];
    bool is_stalled = x && !x->is_paused && now_ns - x->progress_ns > t->all->options.stall_ns;
    if (now_ns >= f->deadline_ns) {
        if (is_stalled)
            endpoint_learn_silence(t, f);
        fetch_is_late(t, f);
    } else if (is_stalled && is_being_done(f, x)) {
        return;
    } else if (is_stalled && now_ns - x->progress_ns > t->all->options.dead_ns) {
        fetch_is_dead(t, f, x);
    } else if (x && x->is_paused && now_ns - x->progress_ns > FETCH_PAUSE_NS) {
        transfer_unpause(x);
    } else if (is_stalled && !f->transfers[1] && !f->is_patient) {
        fetch_race(t, f);
    }
}

// Under the lock. The why of one that never had its turn is its endpoint's trouble.
static void fetch_expire(struct fetch *f)
{
    struct endpoint *e = f->endpoint;
    BUFFER_CLEANUP before = {0};
    buffer_append_text(&before, buffer_text(&f->why));
    const char *trouble = before.size_bytes ? before.data : e->trouble;
    fetch_fail(f, -ETIMEDOUT, "%s: no answer within the limit%s%s", e->name, trouble ? "; before: " : "",
               trouble ? trouble : "");
    thread_end(f);
}

static void expire_queue(struct endpoint *e, struct fetch_list *l, int64_t now_ns)
{
    for (struct fetch *f = l->first, *next; f; f = next) {
        next = f->next;
        if (now_ns >= f->deadline_ns) {
            endpoint_unqueue(f);
            fetch_expire(f);
        }
    }
}

static void look_at_parked(struct fetchers *all, int64_t now_ns)
{
    for (struct fetch *f = all->parked.first, *next; f; f = next) {
        next = f->next;
        bool is_late = now_ns >= f->deadline_ns;
        bool is_due = f->state == FETCH_SLEEPING && now_ns >= f->not_before_ns;
        if (!is_late && !is_due)
            continue;
        fetch_list_remove(&all->parked, f);
        if (is_late)
            fetch_expire(f);
        else
            endpoint_queue(f, true);
    }
}

void fetchers_look_at_time(struct fetchers *all, int64_t now_ns)
{
    lock_scope(&all->lock);
    look_at_parked(all, now_ns);
    for (struct endpoint *e = all->endpoints; e; e = e->next) {
        for (int p = 0; p < FETCH_PRIORITIES; p++)
            expire_queue(e, &e->queued[p], now_ns);
        endpoint_dispatch(e);
    }
}

// ---- plain ones

void fetch_run(struct fetcher_thread *t, struct fetch *f)
{
    f->is_later = false;
    f->wake_ns = INT64_MAX;
    int result = f->ops->run(f);
    if (result == FETCH_RUN_AGAIN)
        return;
    if (result == FETCH_RUN_LATER) {
        f->is_later = true;
        return;
    }
    f->is_unanswered = false;
    fetch_finish(t, f, result);
}

// ---- what it is told

void fetch_hear(struct fetcher_thread *t, struct fetch *f, struct fetch_news news)
{
    if (news.is_cancelled) {
        fetch_fail(f, -ECANCELED, "cancelled");
        fetch_finish(t, f, -ECANCELED);
        return;
    }
    if (news.is_ended) {
        fetch_finish(t, f, f->error);
        return;
    }
    if (news.is_new) {
        fetch_list_append(&t->owned, f);
        f->is_owned = true;
        f->is_later = false;
        if (!f->endpoint->is_plain)
            fetch_attempt(t, f);
        return;
    }
    if (news.is_woken) {
        f->is_later = false;
        if (f->transfers[0] && f->transfers[0]->is_paused)
            transfer_unpause(f->transfers[0]);
    }
}
