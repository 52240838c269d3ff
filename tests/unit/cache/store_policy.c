// SPDX-License-Identifier: BSD-3-Clause
// Eviction: against a plain implementation of the same rules, which must name the same victims, and
// on traces against FIFO and LRU. The traces are of a pseudo-random generator with a fixed seed, so
// the miss ratios are always the same; they are printed.
#include "tests/unit/base/harness.h"

#include "base/buffer.h"
#include "base/hash.h"
#include "base/log.h"
#include "cache/store_index.h"

static uint64_t random_state;

static uint64_t random_next(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static uint32_t random_below(uint32_t n)
{
    return (uint32_t)(random_next() >> 11) % n;
}

static void identify(uint32_t object, uint8_t ret_identity[16])
{
    hash128(&object, sizeof(object), ret_identity);
}

// ---- the same rules, plainly: lists are arrays, the oldest first

#define PLAIN_MAX 4096

struct plain_object {
    uint32_t object;
    uint64_t bytes;
    int hits;
    bool is_open;
};

struct plain_list {
    struct plain_object items[PLAIN_MAX];
    int count;
};

struct plain {
    struct plain_list small, rest, pinned;
    uint32_t ghosts[PLAIN_MAX];
    int ghost_count;
    uint64_t small_bytes;
};

static struct plain_object take_at(struct plain_list *l, int i)
{
    struct plain_object o = l->items[i];
    memmove(&l->items[i], &l->items[i + 1], (size_t)(l->count - i - 1) * sizeof(o));
    l->count--;
    return o;
}

static void put_last(struct plain_list *l, struct plain_object o)
{
    check(l->count < PLAIN_MAX);
    l->items[l->count++] = o;
}

static uint64_t sum_of(const struct plain_list *l)
{
    uint64_t sum = 0;
    for (int i = 0; i < l->count; i++)
        sum += l->items[i].bytes;
    return sum;
}

static bool is_all_open(const struct plain_list *l)
{
    for (int i = 0; i < l->count; i++)
        if (!l->items[i].is_open)
            return false;
    return true;
}

static struct plain_object *plain_find(struct plain *p, uint32_t object, struct plain_list **in)
{
    struct plain_list *lists[] = {&p->small, &p->rest, &p->pinned};
    for (int l = 0; l < 3; l++)
        for (int i = 0; i < lists[l]->count; i++)
            if (lists[l]->items[i].object == object) {
                if (in)
                    *in = lists[l];
                return &lists[l]->items[i];
            }
    return NULL;
}

static void plain_add(struct plain *p, uint32_t object, uint64_t bytes)
{
    struct plain_object o = {.object = object, .bytes = bytes};
    for (int i = 0; i < p->ghost_count; i++)
        if (p->ghosts[i] == object) {
            p->ghosts[i] = UINT32_MAX; // its place in the line stays
            put_last(&p->rest, o);
            return;
        }
    put_last(&p->small, o);
}

static void plain_remember(struct plain *p, uint32_t object)
{
    int limit = p->rest.count < 64 ? 64 : p->rest.count;
    while (p->ghost_count >= limit) {
        memmove(p->ghosts, p->ghosts + 1, (size_t)(p->ghost_count - 1) * sizeof(*p->ghosts));
        p->ghost_count--;
    }
    p->ghosts[p->ghost_count++] = object;
}

static uint32_t plain_victim(struct plain *p)
{
    for (;;) {
        bool has_small = !is_all_open(&p->small), has_rest = !is_all_open(&p->rest);
        if (!has_small && !has_rest)
            return UINT32_MAX;
        bool is_small = has_small && (sum_of(&p->small) > p->small_bytes || !has_rest);
        struct plain_list *l = is_small ? &p->small : &p->rest;
        struct plain_object o = take_at(l, 0);
        if (o.is_open) {
            put_last(l, o);
        } else if (is_small && o.hits > 0) {
            o.hits = 0;
            put_last(&p->rest, o);
        } else if (is_small) {
            plain_remember(p, o.object);
            return o.object;
        } else if (o.hits > 0) {
            o.hits--;
            put_last(l, o);
        } else {
            return o.object;
        }
    }
}

static void plain_remove(struct plain *p, uint32_t object)
{
    struct plain_list *l = NULL;
    struct plain_object *o = plain_find(p, object, &l);
    if (o)
        take_at(l, (int)(o - l->items));
}

static void it_names_the_victims_that_the_plain_rules_name(void **state)
{
    static struct plain p;
    struct store_index ix;
    for (int seed = 1; seed <= 20; seed++) {
        random_state = (uint64_t)seed * 77777;
        p = (struct plain){.small_bytes = 100};
        store_index_init(&ix, 1000, 0);
        int victims = 0;
        for (int step = 0; step < 3000; step++) {
            uint32_t object = random_below(60) * random_below(8);
            uint8_t identity[16];
            identify(object, identity);
            uint32_t slot = store_index_find(&ix, identity);
            struct plain_list *l = NULL;
            struct plain_object *o = plain_find(&p, object, &l);
            assert_int_equal(slot != 0, o != NULL);
            if (!slot) {
                uint64_t bytes = random_below(50);
                slot = store_index_add(&ix, identity, 1, 0);
                store_index_resize(&ix, slot, bytes);
                plain_add(&p, object, bytes);
            } else if (random_below(20) == 0) {
                store_index_entry(&ix, slot)->flags ^= STORE_ENTRY_OPEN;
                o->is_open = !o->is_open;
            } else if (random_below(30) == 0) {
                store_policy_pin(&ix, slot, true);
                put_last(&p.pinned, take_at(l, (int)(o - l->items)));
            } else if (l == &p.pinned) {
                store_policy_pin(&ix, slot, false);
                put_last(&p.rest, take_at(l, (int)(o - l->items)));
            } else {
                store_policy_touch(&ix, slot, 0);
                o->hits = o->hits < STORE_HITS_MAX ? o->hits + 1 : o->hits;
            }
            while (store_index_bytes(&ix) - ix.queues[STORE_QUEUE_PINNED].disk_bytes > 1000) {
                uint32_t victim = store_policy_victim(&ix), other = plain_victim(&p);
                assert_int_equal(victim != 0, other != UINT32_MAX);
                if (!victim)
                    break;
                identify(other, identity);
                assert_memory_equal(store_index_entry(&ix, victim)->identity, identity, 16);
                store_index_remove(&ix, victim);
                plain_remove(&p, other);
                victims++;
            }
            assert_int_equal(ix.count, p.small.count + p.rest.count + p.pinned.count);
            assert_int_equal(ix.queues[STORE_QUEUE_SMALL].disk_bytes, sum_of(&p.small));
        }
        assert_true(victims > 300);
        store_index_release(&ix);
    }
}

// ---- traces

struct trace {
    uint32_t *objects;
    int count;
    uint32_t shared; // objects below it are those that many use
    uint32_t (*size)(uint32_t object);
};

static uint32_t same_size(uint32_t object)
{
    return 1;
}

static uint32_t many_sizes(uint32_t object) // 1 to 256, small ones more often
{
    return 1u << hash64(&object, sizeof(object)) % 9;
}

struct misses {
    double all, shared;
};

static struct misses misses_of(const struct trace *t, const uint8_t *is_hit)
{
    double all = 0, shared = 0, shared_count = 0;
    for (int i = 0; i < t->count; i++) {
        all += !is_hit[i];
        shared += t->objects[i] < t->shared && !is_hit[i];
        shared_count += t->objects[i] < t->shared;
    }
    return (struct misses){all / t->count, shared_count > 0 ? shared / shared_count : 0};
}

static struct misses run_policy(const struct trace *t, uint64_t limit)
{
    struct store_index ix;
    store_index_init(&ix, limit, 0);
    uint8_t *is_hit = memory_new((size_t)t->count), identity[16];
    for (int i = 0; i < t->count; i++) {
        identify(t->objects[i], identity);
        uint32_t slot = store_index_find(&ix, identity), victim;
        is_hit[i] = slot != 0;
        if (slot) {
            store_policy_touch(&ix, slot, 0);
            continue;
        }
        uint32_t size = t->size(t->objects[i]);
        while (store_index_bytes(&ix) + size > limit && (victim = store_policy_victim(&ix)))
            store_index_remove(&ix, victim);
        slot = store_index_add(&ix, identity, 1, 0);
        store_index_resize(&ix, slot, size);
    }
    struct misses m = misses_of(t, is_hit);
    free(is_hit);
    store_index_release(&ix);
    return m;
}

// FIFO, or LRU: the oldest goes; objects know when they came, or were used last.
static struct misses run_oldest(const struct trace *t, uint64_t limit, bool is_lru)
{
    enum { NUMBERS = 1 << 20 };
    int *when = memory_new(NUMBERS * sizeof(int)); // 0: not there
    uint32_t *order = memory_grow(NULL, (size_t)t->count, sizeof(*order));
    uint8_t *is_hit = memory_new((size_t)t->count);
    uint64_t used = 0;
    for (int i = 0, oldest = 0; i < t->count; i++) {
        uint32_t o = t->objects[i];
        check(o < NUMBERS);
        order[i] = o;
        is_hit[i] = when[o] != 0;
        if (!is_hit[i])
            used += t->size(o);
        if (!is_hit[i] || is_lru)
            when[o] = i + 1;
        for (; used > limit && oldest <= i; oldest++)
            if (when[order[oldest]] == oldest + 1) {
                used -= t->size(order[oldest]);
                when[order[oldest]] = 0;
            }
    }
    struct misses m = misses_of(t, is_hit);
    free(when);
    free(order);
    free(is_hit);
    return m;
}

static void compare(const char *name, const struct trace *t, uint64_t limit, struct misses *ours,
                    struct misses *fifo, struct misses *lru)
{
    *ours = run_policy(t, limit);
    *fifo = run_oldest(t, limit, false);
    *lru = run_oldest(t, limit, true);
    print_message("%-28s misses: S3-FIFO %.3f, FIFO %.3f, LRU %.3f; of what is shared: %.3f, %.3f, "
                  "%.3f\n",
                  name, ours->all, fifo->all, lru->all, ours->shared, fifo->shared, lru->shared);
}

// Rank r with a chance of 1 / r.
static double *zipf_table(uint32_t n)
{
    double *sums = memory_grow(NULL, n, sizeof(*sums)), sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sums[i] = sum += 1.0 / (i + 1);
    for (uint32_t i = 0; i < n; i++)
        sums[i] /= sum;
    return sums;
}

static uint32_t zipf(const double *sums, uint32_t n)
{
    double x = (double)(random_next() >> 11) / (double)(UINT64_C(1) << 53);
    uint32_t low = 0, high = n - 1;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (sums[middle] < x)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

#define ACCESSES 200000
#define SHARED 10000

static struct trace trace_new(uint32_t (*size)(uint32_t))
{
    random_state = 4711;
    return (struct trace){.objects = memory_grow(NULL, ACCESSES, sizeof(uint32_t)),
                          .count = ACCESSES,
                          .shared = SHARED,
                          .size = size};
}

static void objects_of_unequal_favour_are_kept_better_than_by_lru(void **state)
{
    struct misses ours, fifo, lru;
    double *sums = zipf_table(SHARED);
    for (int sized = 0; sized < 2; sized++) {
        struct trace t = trace_new(sized ? many_sizes : same_size);
        for (int i = 0; i < ACCESSES; i++)
            t.objects[i] = zipf(sums, SHARED);
        compare(sized ? "Zipf, many sizes" : "Zipf", &t, sized ? SHARED * 57 / 10 : SHARED / 10,
                &ours, &fifo, &lru);
        assert_true(ours.all < lru.all && lru.all < fifo.all);
        free(t.objects);
    }
    free(sums);
}

static void one_who_reads_everything_does_not_push_out_what_is_shared(void **state)
{
    struct misses ours, fifo, lru, quiet, quiet_lru;
    double *sums = zipf_table(SHARED);
    struct trace t = trace_new(same_size);
    t.count = ACCESSES * 3 / 10;
    for (int i = 0; i < t.count; i++)
        t.objects[i] = zipf(sums, SHARED);
    compare("shared alone", &t, SHARED / 4, &quiet, &fifo, &quiet_lru);
    // The same, and for each three accesses seven of a scan that never comes back.
    uint32_t next = SHARED;
    random_state = 4711;
    t.count = ACCESSES;
    for (int i = 0; i < ACCESSES; i++)
        t.objects[i] = i % 10 < 7 ? next++ : zipf(sums, SHARED);
    compare("shared, and a scan", &t, SHARED / 4, &ours, &fifo, &lru);
    assert_true(ours.shared < 0.75 * lru.shared);
    // It costs the others less than half of what it costs them under LRU.
    assert_true(ours.shared - quiet.shared < 0.5 * (lru.shared - quiet_lru.shared));
    free(t.objects);
    free(sums);
}

static void a_loop_that_does_not_fit_does_not_push_out_what_is_shared(void **state)
{
    struct misses ours, fifo, lru;
    double *sums = zipf_table(SHARED);
    struct trace t = trace_new(same_size);
    // A pipeline goes round 5000 of its own files while others use theirs; there is room for 2500.
    for (int i = 0, n = 0; i < ACCESSES; i++)
        t.objects[i] = i % 2 ? SHARED + (uint32_t)(n++ % 5000) : zipf(sums, SHARED);
    compare("shared, and a loop", &t, SHARED / 4, &ours, &fifo, &lru);
    assert_true(ours.shared < 0.9 * lru.shared);
    assert_true(ours.all < lru.all);
    free(t.objects);
    free(sums);
}

static void what_comes_back_soon_after_it_went_is_kept(void **state)
{
    struct store_index ix;
    store_index_init(&ix, 100, 0);
    uint8_t identity[16];
    for (uint32_t i = 0; i < 20; i++) {
        identify(i, identity);
        store_index_resize(&ix, store_index_add(&ix, identity, 1, 0), 10);
    }
    identify(0, identity);
    uint32_t victim = store_policy_victim(&ix);
    assert_memory_equal(store_index_entry(&ix, victim)->identity, identity, 16);
    store_index_remove(&ix, victim);
    uint32_t slot = store_index_add(&ix, identity, 1, 0);
    assert_int_equal(store_index_entry(&ix, slot)->queue, STORE_QUEUE_MAIN);
    store_index_release(&ix);
}

static void uses_close_together_are_one(void **state)
{
    struct store_index ix;
    store_index_init(&ix, 100, 10);
    uint8_t identity[16];
    identify(1, identity);
    uint32_t slot = store_index_add(&ix, identity, 1, 1000);
    assert_false(store_policy_touch(&ix, slot, 1000));
    assert_false(store_policy_touch(&ix, slot, 1009));
    assert_true(store_policy_touch(&ix, slot, 1010));
    assert_false(store_policy_touch(&ix, slot, 1015));
    assert_true(store_policy_touch(&ix, slot, 900)); // the clock was set back
    assert_int_equal(store_index_entry(&ix, slot)->hits, 2);
    store_index_release(&ix);
}

static void when_all_are_open_there_is_no_victim(void **state)
{
    struct store_index ix;
    store_index_init(&ix, 100, 0);
    uint8_t identity[16];
    assert_int_equal(store_policy_victim(&ix), 0);
    for (uint32_t i = 0; i < 10; i++) {
        identify(i, identity);
        uint32_t slot = store_index_add(&ix, identity, 1, 0);
        store_index_entry(&ix, slot)->flags |= STORE_ENTRY_OPEN;
        store_index_resize(&ix, slot, 50);
        if (i % 2)
            store_policy_move(&ix, slot, STORE_QUEUE_MAIN);
    }
    assert_int_equal(store_policy_victim(&ix), 0);
    store_index_entry(&ix, 5)->flags &= (uint8_t)~STORE_ENTRY_OPEN;
    assert_int_equal(store_policy_victim(&ix), 5);
    store_index_release(&ix);
}

static void sorting_puts_the_longest_unused_first(void **state)
{
    struct store_index ix;
    store_index_init(&ix, 0, 0);
    uint8_t identity[16];
    for (uint32_t i = 0; i < 100; i++) {
        identify(i, identity);
        uint32_t slot = store_index_add(&ix, identity, 1, i * 37 % 100);
        store_policy_move(&ix, slot, STORE_QUEUE_MAIN);
    }
    store_policy_sort(&ix);
    for (uint32_t i = 0; i < 100; i++) {
        uint32_t victim = store_policy_victim(&ix);
        assert_int_equal(store_index_entry(&ix, victim)->used_s, i);
        store_index_remove(&ix, victim);
    }
    assert_int_equal(ix.count, 0);
    store_index_release(&ix);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_names_the_victims_that_the_plain_rules_name),
        cmocka_unit_test(objects_of_unequal_favour_are_kept_better_than_by_lru),
        cmocka_unit_test(one_who_reads_everything_does_not_push_out_what_is_shared),
        cmocka_unit_test(a_loop_that_does_not_fit_does_not_push_out_what_is_shared),
        cmocka_unit_test(what_comes_back_soon_after_it_went_is_kept),
        cmocka_unit_test(uses_close_together_are_one),
        cmocka_unit_test(when_all_are_open_there_is_no_victim),
        cmocka_unit_test(sorting_puts_the_longest_unused_first),
    };
    return run_group(tests);
}
