// SPDX-License-Identifier: BSD-3-Clause
// credentials: one set is there, or is being fetched, or there is none and a reason.
// 1. A set that is good for a while is given out while its successor is fetched: nobody waits for a renewal but those
//    whose set has run out.
// 2. What brought nothing better is not tried again for a while: after a failure CREDENTIALS_PAUSE_NS, the reason is given
//    instead; after a set that soon expires a quarter of what is left of it; after one that was asked for because its
//    predecessor was refused, as it may well be the same.
// 3. The same answer is the same set: who remembers that it was refused finds it again.
// 4. Secrets' memory is wiped when the last reference goes.
#include "cache/origin/credentials.h"

#include <errno.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/queue.h"
#include "cache/origin/credentials_internal.h"

#define CREDENTIALS_PAUSE_NS (5 * NS_PER_S)
#define CREDENTIALS_EARLY_NS (300 * NS_PER_S) // before they expire new ones are fetched
#define CREDENTIALS_LAST_NS (15 * NS_PER_S)   // before they expire they are no longer used

// ---- one set

static char *copy(const char *s)
{
    return memory_copy(s, strlen(s));
}

struct credential_set *credential_set_new(const char *key_id, const char *secret, const char *token,
                                          int64_t expires_unix_ns)
{
    struct credential_set *set = new_struct(struct credential_set);
    atomic_init(&set->references, 1);
    set->key_id = copy(key_id);
    set->secret = copy(secret);
    set->token = copy(token);
    set->expires_unix_ns = expires_unix_ns;
    return set;
}

struct credential_set *credential_set_ref(struct credential_set *set)
{
    atomic_fetch_add_explicit(&set->references, 1, memory_order_relaxed);
    return set;
}

static void wipe(char *s)
{
    explicit_bzero(s, strlen(s));
    free(s);
}

void credential_set_unref(struct credential_set *set)
{
    if (!set || atomic_fetch_sub_explicit(&set->references, 1, memory_order_acq_rel) > 1)
        return;
    wipe(set->key_id);
    wipe(set->secret);
    wipe(set->token);
    free(set);
}

void profile_settings_release(struct profile_settings *s)
{
    free(s->region);
    free(s->endpoint);
    free(s->ca_bundle);
    free(s->addressing_style);
    *s = (struct profile_settings){0};
}

// ---- those who wait: all under the lock

static void waiter_add(struct credentials *c, struct credentials_waiter *w)
{
    if (w->previous)
        return;
    w->next = c->waiters;
    w->previous = &c->waiters;
    if (w->next)
        w->next->previous = &w->next;
    c->waiters = w;
}

static void waiter_remove(struct credentials_waiter *w)
{
    if (!w->previous)
        return;
    *w->previous = w->next;
    if (w->next)
        w->next->previous = w->previous;
    w->previous = NULL;
}

void credentials_cancel(struct credentials *c, struct credentials_waiter *w)
{
    lock_scope(&c->lock);
    waiter_remove(w);
}

// ---- the thread

static bool is_fetched(enum credentials_kind kind)
{
    return kind >= CREDENTIALS_PROCESS;
}

static int64_t left_ns(const struct credential_set *set)
{
    return set->expires_unix_ns == INT64_MAX ? INT64_MAX : set->expires_unix_ns - clock_unix_ns();
}

static bool is_same(const struct credential_set *a, const struct credential_set *b)
{
    return strcmp(a->key_id, b->key_id) == 0 && strcmp(a->secret, b->secret) == 0 && strcmp(a->token, b->token) == 0;
}

// See 2. Under the lock.
static int64_t pause_ns(const struct credentials *c)
{
    int64_t left = c->set ? left_ns(c->set) : 0;
    if (!c->why && !c->is_refused && left >= CREDENTIALS_EARLY_NS)
        return 0;
    return !c->why && left < CREDENTIALS_EARLY_NS && left / 4 > CREDENTIALS_PAUSE_NS ? left / 4 : CREDENTIALS_PAUSE_NS;
}

// Under the lock.
static void credentials_take(struct credentials *c, struct credential_set *set, char *why)
{
    free(c->why);
    c->why = why;
    if (set && c->set && is_same(c->set, set) && c->set->expires_unix_ns == set->expires_unix_ns) {
        credential_set_unref(set);
    } else if (set) {
        credential_set_unref(c->set);
        c->set = set;
    }
    c->again_ns = clock_ns() + pause_ns(c);
    if (set)
        c->is_refused = false;
    c->is_wanted = false;
    while (c->waiters) {
        struct fetch *f = c->waiters->fetch;
        waiter_remove(c->waiters);
        fetch_wake(f); // the fetchers' lock comes after this one
    }
}

static bool credentials_wait_wanted(struct credentials *c)
{
    lock_scope(&c->lock);
    while (!c->is_wanted && !atomic_load(&c->is_ending))
        condition_wait(&c->changed, &c->lock, INT64_MAX);
    return !atomic_load(&c->is_ending);
}

static void credentials_unref(struct credentials *c);

static void credentials_fetch_wanted(struct credentials *c)
{
    struct credential_set *set = NULL;
    char *why = NULL;
    int error = credentials_fetch(c, &set, &why);
    if (error && error != -ECANCELED)
        log_warn("credentials can't be had: %s", why);
    lock_scope(&c->lock);
    credentials_take(c, set, why);
}

static void *credentials_run(void *argument)
{
    struct credentials *c = argument;
    struct fetchers *fetchers = c->fetchers;
    while (credentials_wait_wanted(c))
        credentials_fetch_wanted(c);
    credentials_unref(c);
    fetchers_let_go(fetchers);
    return NULL;
}

// Under the lock. The thread is nobody's to wait for but the fetchers': credentials may be closed by a fetcher's own
// thread, for which it may be waiting.
static bool credentials_start_thread(struct credentials *c)
{
    pthread_t thread;
    atomic_fetch_add(&c->references, 1);
    fetchers_hold(c->fetchers);
    if (thread_start(&thread, "credentials", credentials_run, c) < 0) {
        atomic_fetch_sub(&c->references, 1);
        fetchers_let_go(c->fetchers);
        return false;
    }
    pthread_detach(thread);
    return true;
}

// Under the lock. false: it can't be.
static bool credentials_want(struct credentials *c)
{
    c->has_thread = c->has_thread || credentials_start_thread(c);
    c->is_wanted = c->has_thread;
    pthread_cond_broadcast(&c->changed);
    return c->has_thread;
}

// ---- asking for them

int credentials_get(struct credentials *c, struct credentials_waiter *w, struct credential_set **ret_set,
                    char **ret_why)
{
    lock_scope(&c->lock);
    struct credential_set *set = c->is_refused ? NULL : c->set;
    int64_t left = set ? left_ns(set) : 0;
    bool is_pausing = clock_ns() < c->again_ns;
    if (is_fetched(c->kind) && left < CREDENTIALS_EARLY_NS && !c->is_wanted && !is_pausing && !credentials_want(c))
        return origin_fail(-EACCES, ret_why, "there is no thread to fetch credentials");
    // The last seconds are for those who can't wait for others.
    if (set && (left > (c->is_wanted ? CREDENTIALS_LAST_NS : 0) || !is_fetched(c->kind))) {
        *ret_set = credential_set_ref(set);
        return 0;
    }
    if (c->is_wanted) {
        if (w)
            waiter_add(c, w);
        return -EINPROGRESS;
    }
    const char *none = set ? "those that are given have expired" : "none were found";
    return origin_fail(-EACCES, ret_why, "no credentials: %s", c->why ? c->why : none);
}

bool credentials_refused(struct credentials *c, const struct credential_set *set)
{
    lock_scope(&c->lock);
    if (c->set != set)
        return true; // there are others already
    if (c->kind == CREDENTIALS_FILE) {
        struct credential_set *now = NULL;
        if (credentials_read_files(c, &now, NULL) < 0)
            return false;
        bool is_other = !is_same(now, set);
        if (is_other)
            credentials_take(c, now, NULL);
        else
            credential_set_unref(now);
        return is_other;
    }
    if (!is_fetched(c->kind) || clock_ns() < c->again_ns)
        return false;
    c->is_refused = true; // so that others are waited for
    return c->is_wanted || credentials_want(c);
}

// ---- its end

static void credentials_unref(struct credentials *c)
{
    if (atomic_fetch_sub_explicit(&c->references, 1, memory_order_acq_rel) > 1)
        return;
    credential_set_unref(c->set);
    if (c->token)
        wipe(c->token);
    for (char **e = c->environment; e && *e; e++)
        wipe(*e);
    free(c->environment);
    char *texts[] = {c->profile, c->credentials_path, c->config_path, c->command, c->url,
                     c->token_path, c->role, c->session, c->why};
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
        free(texts[i]);
    pthread_cond_destroy(&c->changed);
    lock_release_memory(&c->lock);
    free(c);
}

void credentials_close(struct credentials *c)
{
    if (!c)
        return;
    lock_acquire(&c->lock);
    atomic_store(&c->is_ending, true);
    pthread_cond_broadcast(&c->changed);
    lock_release(&c->lock);
    credentials_unref(c);
}

void credentials_status(struct credentials *c, struct doc *map)
{
    static const char *const names[] = {"none",    "anonymous", "given",    "file",
                                        "process", "container", "instance", "web identity"};
    doc_put_text(map, "credentials", names[c->kind]);
    lock_scope(&c->lock);
    if (c->set && c->set->key_id[0]) {
        size_t size = strlen(c->set->key_id);
        doc_put_text(map, "key_id_ends", c->set->key_id + (size > 4 ? size - 4 : size));
    }
    if (c->set && c->set->expires_unix_ns != INT64_MAX) {
        char when[CLOCK_ISO_BYTES];
        clock_format_iso(c->set->expires_unix_ns, when);
        doc_put_text(map, "expires", when);
    }
    if (c->why)
        doc_put_text(map, "credentials_trouble", c->why);
}
