// SPDX-License-Identifier: BSD-3-Clause
// Changes and limits: what is charged to whom, what is refused, what is told.
#include "tests/unit/meta/ledger_world.h"

#include <pthread.h>

#include "base/clock.h"
#include "base/metric.h"

#define ALICE 1001
#define BOB 1002
#define STAFF 2001
#define GUESTS 2002
#define TREE 77

static void a_change_is_charged_to_user_group_and_tree(void **state)
{
    struct ledger *l = ledger_at(NULL, NULL);
    limit(l, LEDGER_TREE, TREE, (struct ledger_limits){.hard_bytes = 1000});
    assert_int_equal(change(l, 5, nothing_of(ALICE, STAFF, TREE), cost(ALICE, STAFF, TREE, 0)), 0);
    assert_int_equal(change(l, 5, cost(ALICE, STAFF, TREE, 0), cost(ALICE, STAFF, TREE, 700)), 0);
    assert_int_equal(used_bytes(l, LEDGER_USER, ALICE), 700);
    assert_int_equal(used_bytes(l, LEDGER_GROUP, STAFF), 700);
    assert_int_equal(used_bytes(l, LEDGER_TREE, TREE), 700);
    assert_int_equal(used_files(l, LEDGER_USER, ALICE), 1);
    assert_int_equal(change(l, 5, cost(ALICE, STAFF, TREE, 700), nothing_of(ALICE, STAFF, TREE)), 0);
    assert_int_equal(used_bytes(l, LEDGER_USER, ALICE) + used_bytes(l, LEDGER_GROUP, STAFF), 0);
    assert_int_equal(used_files(l, LEDGER_TREE, TREE), 0);
    ledger_close(l);
}

static void a_hard_limit_is_met_to_the_byte_and_to_the_file(void **state)
{
    struct ledger *l = ledger_at(NULL, NULL);
    limit(l, LEDGER_USER, ALICE, (struct ledger_limits){.hard_bytes = 100, .hard_files = 2});
    assert_int_equal(change(l, 5, nothing_of(ALICE, STAFF, 0), cost(ALICE, STAFF, 0, 100)), 0);
    assert_int_equal(change(l, 5, cost(ALICE, STAFF, 0, 100), cost(ALICE, STAFF, 0, 101)), -EDQUOT);
    assert_int_equal(change(l, 6, nothing_of(ALICE, STAFF, 0), cost(ALICE, STAFF, 0, 0)), 0);
    assert_int_equal(change(l, 7, nothing_of(ALICE, STAFF, 0), cost(ALICE, STAFF, 0, 0)), -EDQUOT);
    assert_int_equal(used_bytes(l, LEDGER_USER, ALICE), 100);
    assert_int_equal(used_files(l, LEDGER_USER, ALICE), 2);
    ledger_close(l);
}

static void who_is_refused_by_one_limit_is_charged_nowhere(void **state)
{
    struct ledger *l = ledger_at(NULL, NULL);
    limit(l, LEDGER_GROUP, STAFF, (struct ledger_limits){.hard_bytes = 10});
    assert_int_equal(change(l, 5, nothing_of(ALICE, STAFF, 0), cost(ALICE, STAFF, 0, 11)), -EDQUOT);
    assert_int_equal(used_bytes(l, LEDGER_USER, ALICE), 0);
    assert_int_equal(used_files(l, LEDGER_USER, ALICE), 0);
    assert_int_equal(used_files(l, LEDGER_GROUP, STAFF), 0);
    ledger_close(l);
}

static void less_is_allowed_over_any_limit(void **state)
{
    struct ledger *l = ledger_at(NULL, NULL);
    assert_int_equal(change(l, 5, nothing_of(ALICE, STAFF, 0), cost(ALICE, STAFF, 0, 500)), 0);
    limit(l, LEDGER_USER, ALICE, (struct ledger_limits){.hard_bytes = 10, .hard_files = 1});
    assert_int_equal(change(l, 5, cost(ALICE, STAFF, 0, 500), cost(ALICE, STAFF, 0, 400)), 0);
    assert_int_equal(change(l, 5, cost(ALICE, STAFF, 0, 400), cost(ALICE, STAFF, 0, 401)), -EDQUOT);
    assert_int_equal(change(l, 5, cost(ALICE, STAFF, 0, 400), nothing_of(ALICE, STAFF, 0)), 0);
    assert_int_equal(used_bytes(l, LEDGER_USER, ALICE), 0);
    ledger_close(l);
}

static void room_that_a_change_frees_is_free_when_it_is_settled(void **state)
{
    struct ledger *l = ledger_at(NULL, NULL);
    uint32_t slot;
    limit(l, LEDGER_USER, ALICE, (struct ledger_limits){.hard_bytes = 100});
    assert_int_equal(change(l, 5, nothing_of(ALICE, STAFF, 0), cost(ALICE, STAFF, 0, 100)), 0);
    struct ledger_change c = {.file = {1, 5}, .before = cost(ALICE, STAFF, 0, 100), .after = nothing_of(ALICE, STAFF, 0)};
    assert_int_equal(ledger_begin(l, &c, 0, &slot), 0);
    assert_int_equal(change(l, 6, nothing_of(ALICE, STAFF, 0), cost(ALICE, STAFF, 0, 1)), -EDQUOT);
    ledger_settle(l, slot, c.file, &c.after);
    assert_int_equal(change(l, 6, nothing_of(ALICE, STAFF, 0), cost(ALICE, STAFF, 0, 1)), 0);
    ledger_close(l);
}

static void what_was_reserved_and_not_used_is_given_back(void **state)
{
    struct ledger *l = ledger_at(NULL, NULL);
    uint32_t slot;
    limit(l, LEDGER_USER, ALICE, (struct ledger_limits){.hard_bytes = 100});
    assert_int_equal(change(l, 5, nothing_of(ALICE, STAFF, 0), cost(ALICE, STAFF, 0, 0)), 0);
    struct ledger_change c = {.file = {1, 5}, .before = cost(ALICE, STAFF, 0, 0), .after = cost(ALICE, STAFF, 0, 100)};
    assert_int_equal(ledger_begin(l, &c, 0, &slot), 0);
    assert_int_equal(used_bytes(l, LEDGER_USER, ALICE), 100);
    struct ledger_charge present = cost(ALICE, STAFF, 0, 60); // a short write
    ledger_settle(l, slot, c.file, &present);
    assert_int_equal(used_bytes(l, LEDGER_USER, ALICE), 60);
    ledger_close(l);
}

static void another_owner_takes_all_and_the_one_before_has_nothing(void **state)
{
    struct ledger *l = ledger_at(NULL, NULL);
    limit(l, LEDGER_USER, BOB, (struct ledger_limits){.hard_bytes = 50});
    assert_int_equal(change(l, 5, nothing_of(ALICE, STAFF, 0), cost(ALICE, STAFF, 0, 51)), 0);
    assert_int_equal(change(l, 5, cost(ALICE, STAFF, 0, 51), cost(BOB, STAFF, 0, 51)), -EDQUOT);
    assert_int_equal(used_bytes(l, LEDGER_USER, ALICE), 51);
    assert_int_equal(change(l, 5, cost(ALICE, STAFF, 0, 51), cost(ALICE, STAFF, 0, 50)), 0);
    assert_int_equal(change(l, 5, cost(ALICE, STAFF, 0, 50), cost(BOB, GUESTS, 0, 50)), 0);
    assert_int_equal(used_bytes(l, LEDGER_USER, ALICE) + used_files(l, LEDGER_USER, ALICE), 0);
    assert_int_equal(used_bytes(l, LEDGER_USER, BOB), 50);
    assert_int_equal(used_bytes(l, LEDGER_GROUP, STAFF), 0);
    assert_int_equal(used_files(l, LEDGER_GROUP, GUESTS), 1);
    ledger_close(l);
}

// A group's limit is met by what is new to the group, not by a change of the user alone.
static void another_user_in_the_same_full_group_is_no_change_for_the_group(void **state)
{
    struct ledger *l = ledger_at(NULL, NULL);
    assert_int_equal(change(l, 5, nothing_of(ALICE, STAFF, 0), cost(ALICE, STAFF, 0, 51)), 0);
    limit(l, LEDGER_GROUP, STAFF, (struct ledger_limits){.hard_bytes = 51, .hard_files = 1});
    assert_int_equal(change(l, 5, cost(ALICE, STAFF, 0, 51), cost(BOB, STAFF, 0, 51)), 0);
    assert_int_equal(used_bytes(l, LEDGER_USER, BOB), 51);
    ledger_close(l);
}

static void over_the_soft_limit_is_allowed_for_the_time_of_grace(void **state)
{
    struct ledger *l = ledger_at(NULL, NULL);
    struct ledger_usage u;
    limit(l, LEDGER_USER, ALICE, (struct ledger_limits){.soft_bytes = 10, .hard_bytes = 100, .grace_ns = 50 * NS_PER_MS});
    int64_t met = metric_get(METRIC_QUOTA_SOFT_MET), denied = metric_get(METRIC_QUOTA_DENIED);
    assert_int_equal(change(l, 5, nothing_of(ALICE, STAFF, 0), cost(ALICE, STAFF, 0, 10)), 0);
    assert_int_equal(metric_get(METRIC_QUOTA_SOFT_MET), met);
    assert_int_equal(change(l, 5, cost(ALICE, STAFF, 0, 10), cost(ALICE, STAFF, 0, 20)), 0);
    assert_int_equal(metric_get(METRIC_QUOTA_SOFT_MET), met + 1);
    assert_int_equal(ledger_usage(l, LEDGER_USER, ALICE, &u), 0);
    assert_true(u.bytes_over_unix_ns > 0 && u.files_over_unix_ns == 0);
    usleep(60000);
    assert_int_equal(change(l, 5, cost(ALICE, STAFF, 0, 20), cost(ALICE, STAFF, 0, 21)), -EDQUOT);
    assert_int_equal(metric_get(METRIC_QUOTA_DENIED), denied + 1);
    assert_int_equal(change(l, 5, cost(ALICE, STAFF, 0, 20), cost(ALICE, STAFF, 0, 10)), 0); // below: the time begins anew
    assert_int_equal(change(l, 5, cost(ALICE, STAFF, 0, 10), cost(ALICE, STAFF, 0, 20)), 0);
    ledger_close(l);
}

static void who_has_no_limits_of_his_own_has_the_defaults(void **state)
{
    struct ledger *l = ledger_at(NULL, NULL);
    limit(l, LEDGER_USER, LEDGER_DEFAULT, (struct ledger_limits){.hard_bytes = 10});
    limit(l, LEDGER_USER, BOB, (struct ledger_limits){.hard_bytes = 20});
    assert_int_equal(change(l, 5, nothing_of(ALICE, STAFF, 0), cost(ALICE, STAFF, 0, 11)), -EDQUOT);
    assert_int_equal(change(l, 6, nothing_of(BOB, STAFF, 0), cost(BOB, STAFF, 0, 20)), 0);
    assert_int_equal(ledger_limit(l, LEDGER_USER, BOB, NULL, (struct text){0}), 0);
    assert_int_equal(change(l, 6, cost(BOB, STAFF, 0, 20), cost(BOB, STAFF, 0, 21)), -EDQUOT);
    assert_int_equal(ledger_limit(l, LEDGER_USER, LEDGER_DEFAULT, NULL, (struct text){0}), 0);
    assert_int_equal(change(l, 6, cost(BOB, STAFF, 0, 20), cost(BOB, STAFF, 0, 21)), 0);
    ledger_close(l);
}

static void who_is_exempt_is_counted_and_not_limited(void **state)
{
    struct ledger_options o = {.exempt = (uid_t[]){3001}, .exempt_count = 1};
    struct ledger *l = ledger_at(NULL, &o);
    uint32_t slot;
    limit(l, LEDGER_USER, ALICE, (struct ledger_limits){.hard_bytes = 10});
    assert_true(ledger_is_exempt(l, 0) && ledger_is_exempt(l, 3001) && !ledger_is_exempt(l, ALICE));
    struct ledger_change c = {.before = nothing_of(ALICE, STAFF, 0), .after = cost(ALICE, STAFF, 0, 11)};
    assert_int_equal(ledger_begin(l, &c, LEDGER_EXEMPT, &slot), 0);
    ledger_settle(l, slot, (struct ledger_file){1, 5}, &c.after);
    assert_int_equal(used_bytes(l, LEDGER_USER, ALICE), 11);
    ledger_close(l);
}

static void who_is_exempt_has_the_default_s_limits_neither_as_owner_nor_in_df(void **state)
{
    struct ledger_options o = {.exempt = (uid_t[]){BOB}, .exempt_count = 1};
    struct ledger *l = ledger_at(NULL, &o);
    struct ledger_room room;
    limit(l, LEDGER_USER, LEDGER_DEFAULT, (struct ledger_limits){.hard_bytes = 10});
    limit(l, LEDGER_GROUP, STAFF, (struct ledger_limits){.hard_bytes = 1000});
    ledger_room(l, &(struct ledger_owner){0, STAFF, 0}, &room); // a group's folder
    assert_int_equal(room.limit_bytes, 1000);
    assert_int_equal(change(l, 5, nothing_of(0, STAFF, 0), cost(0, STAFF, 0, 11)), 0);
    assert_int_equal(change(l, 6, nothing_of(BOB, STAFF, 0), cost(BOB, STAFF, 0, 11)), 0);
    ledger_room(l, &(struct ledger_owner){BOB, STAFF, 0}, &room);
    assert_int_equal(room.limit_bytes, 1000);
    ledger_room(l, &(struct ledger_owner){ALICE, STAFF, 0}, &room);
    assert_int_equal(room.limit_bytes, 10);
    limit(l, LEDGER_USER, 0, (struct ledger_limits){.hard_bytes = 20}); // said of himself it holds
    assert_int_equal(change(l, 5, cost(0, STAFF, 0, 11), cost(0, STAFF, 0, 21)), -EDQUOT);
    ledger_close(l);
}

static int grow(struct ledger *l, unsigned flags, int64_t from, int64_t to)
{
    struct ledger_change c = {.file = {1, 5}, .before = cost(ALICE, STAFF, TREE, from), .after = cost(ALICE, STAFF, TREE, to)};
    uint32_t slot;
    int r = ledger_begin(l, &c, flags, &slot);
    if (r == 0)
        ledger_settle(l, slot, c.file, &c.after);
    return r;
}

static void the_reserve_is_beyond_limits_of_users_and_groups_for_who_may_use_it(void **state)
{
    struct ledger_options o = {.reserve_bytes = 50, .reserve_files = 1};
    struct ledger *l = ledger_at(NULL, &o);
    limit(l, LEDGER_USER, ALICE, (struct ledger_limits){.hard_bytes = 100, .hard_files = 1});
    limit(l, LEDGER_GROUP, STAFF, (struct ledger_limits){.hard_bytes = 110});
    assert_int_equal(change(l, 5, nothing_of(ALICE, STAFF, TREE), cost(ALICE, STAFF, TREE, 0)), 0);
    assert_int_equal(grow(l, 0, 0, 101), -EDQUOT);
    assert_int_equal(grow(l, LEDGER_RESERVE, 0, 150), 0);
    assert_int_equal(grow(l, LEDGER_RESERVE, 150, 151), -EDQUOT);
    assert_int_equal(grow(l, 0, 150, 120), 0); // less is always allowed
    assert_int_equal(grow(l, 0, 120, 121), -EDQUOT);
    struct ledger_change second = {.before = nothing_of(ALICE, STAFF, TREE), .after = cost(ALICE, STAFF, TREE, 0)};
    uint32_t slot;
    assert_int_equal(ledger_begin(l, &second, 0, &slot), -EDQUOT);
    assert_int_equal(ledger_begin(l, &second, LEDGER_RESERVE, &slot), 0);
    ledger_settle(l, slot, (struct ledger_file){1, 6}, &second.after);
    limit(l, LEDGER_TREE, TREE, (struct ledger_limits){.hard_bytes = 120});
    assert_int_equal(grow(l, LEDGER_RESERVE, 120, 121), -EDQUOT);
    ledger_close(l);
}

static void try_the_reserve_after_the_grace(int64_t hard_bytes)
{
    struct ledger_options o = {.reserve_bytes = 50};
    struct ledger *l = ledger_at(NULL, &o);
    limit(l, LEDGER_USER, ALICE, (struct ledger_limits){.soft_bytes = 100, .hard_bytes = hard_bytes, .grace_ns = 1});
    assert_int_equal(change(l, 5, nothing_of(ALICE, STAFF, TREE), cost(ALICE, STAFF, TREE, 101)), 0);
    usleep(1000);
    assert_int_equal(grow(l, 0, 101, 102), -EDQUOT);
    assert_int_equal(grow(l, LEDGER_RESERVE, 101, 150), 0);
    assert_int_equal(grow(l, LEDGER_RESERVE, 150, 151), -EDQUOT);
    ledger_close(l);
}

static void the_reserve_is_beyond_the_soft_limit_after_the_grace_with_a_hard_one_or_without(void **state)
{
    try_the_reserve_after_the_grace(0);
    try_the_reserve_after_the_grace(1000);
}

static void df_shows_the_limit_that_leaves_least(void **state)
{
    struct ledger *l = ledger_at(NULL, NULL);
    struct ledger_room room;
    ledger_room(l, &(struct ledger_owner){ALICE, STAFF, TREE}, &room);
    assert_true(room.limit_bytes == 0 && room.limit_files == 0);
    limit(l, LEDGER_USER, ALICE, (struct ledger_limits){.hard_bytes = 100, .hard_files = 5});
    limit(l, LEDGER_GROUP, STAFF, (struct ledger_limits){.soft_bytes = 150, .hard_bytes = 200, .hard_files = 4});
    assert_int_equal(change(l, 5, nothing_of(ALICE, STAFF, 0), cost(ALICE, STAFF, 0, 20)), 0);
    assert_int_equal(change(l, 6, nothing_of(BOB, STAFF, 0), cost(BOB, STAFF, 0, 90)), 0);
    ledger_room(l, &(struct ledger_owner){ALICE, STAFF, 0}, &room);
    assert_int_equal(room.limit_bytes, 100); // leaves 80, the group's 90
    assert_int_equal(room.used_bytes, 20);
    assert_int_equal(room.limit_files, 4); // leaves 2
    assert_int_equal(room.used_files, 2);
    ledger_close(l);
}

static void a_change_of_absurd_size_is_refused(void **state)
{
    struct ledger *l = ledger_at(NULL, NULL);
    assert_int_equal(change(l, 5, nothing_of(ALICE, STAFF, 0), cost(ALICE, STAFF, 0, INT64_MAX)), -EFBIG);
    assert_int_equal(change(l, 5, nothing_of(ALICE, STAFF, 0), cost(ALICE, STAFF, 0, -1)), -EINVAL);
    ledger_close(l);
}

static void lengths_without_a_disk_never_take_a_sum_to_where_it_is_no_number(void **state)
{
    (void)state;
    struct ledger *l = ledger_at(world_folder, NULL);
    int r = 0;
    uint64_t inode = 1;
    for (; inode < 100 && r == 0; inode++) // each is a quarter of what a user may have in sum
        r = change(l, inode, nothing_of(ALICE, STAFF, 0), cost(ALICE, STAFF, 0, INT64_C(1) << 52));
    assert_int_equal(r, -EFBIG);
    assert_int_equal(inode, 6);
    assert_int_equal(used_bytes(l, LEDGER_USER, ALICE), INT64_C(1) << 54);
    assert_int_equal(change(l, 1, cost(ALICE, STAFF, 0, INT64_C(1) << 52), cost(ALICE, STAFF, 0, 0)), 0);
    assert_int_equal(change(l, 9, nothing_of(BOB, STAFF, 0), cost(BOB, STAFF, 0, 1)), 0);
    ledger_close(l);
    l = ledger_at(world_folder, NULL); // and it starts again
    assert_int_equal(used_bytes(l, LEDGER_USER, ALICE), 3 * (INT64_C(1) << 52));
    ledger_close(l);
}

static void more_changes_in_work_than_slots_are_refused(void **state)
{
    struct ledger_options o = {.slots = 2};
    struct ledger *l = ledger_at(NULL, &o);
    uint32_t slots[3];
    struct ledger_change c = {.before = nothing_of(ALICE, STAFF, 0), .after = cost(ALICE, STAFF, 0, 1)};
    assert_int_equal(ledger_begin(l, &c, 0, &slots[0]), 0);
    assert_int_equal(ledger_begin(l, &c, 0, &slots[1]), 0);
    assert_int_equal(ledger_begin(l, &c, 0, &slots[2]), -ENOBUFS);
    for (int i = 0; i < 2; i++)
        ledger_settle(l, slots[i], (struct ledger_file){0}, &c.before);
    assert_int_equal(used_bytes(l, LEDGER_USER, ALICE), 0);
    ledger_close(l);
}

static void wrong_limits_are_refused(void **state)
{
    struct ledger *l = ledger_at(NULL, NULL);
    struct ledger_limits above = {.soft_bytes = 11, .hard_bytes = 10}, below = {.hard_files = -1}, good = {.hard_bytes = 1};
    assert_int_equal(ledger_limit(l, LEDGER_USER, ALICE, &above, (struct text){0}), -EINVAL);
    assert_int_equal(ledger_limit(l, LEDGER_USER, ALICE, &below, (struct text){0}), -EINVAL);
    assert_int_equal(ledger_limit(l, LEDGER_TREE, 0, &good, (struct text){0}), -EINVAL);
    ledger_close(l);
}

static void trees_come_and_go(void **state)
{
    struct ledger *l = ledger_at(NULL, NULL);
    uint64_t before = ledger_trees(l);
    struct ledger_limits limits = {.hard_bytes = 10};
    assert_false(ledger_has_tree(l, TREE));
    assert_int_equal(ledger_limit(l, LEDGER_TREE, TREE, &limits, TEXT("/home/alice")), 0);
    assert_true(ledger_has_tree(l, TREE));
    assert_true(ledger_trees(l) != before);
    before = ledger_trees(l);
    assert_int_equal(ledger_limit(l, LEDGER_TREE, TREE, NULL, (struct text){0}), 0);
    assert_false(ledger_has_tree(l, TREE));
    assert_true(ledger_trees(l) != before);
    ledger_close(l);
}

struct listed {
    int count, trees, defaults;
    int64_t bytes;
};

static void list(const struct ledger_usage *u, void *context)
{
    struct listed *listed = context;
    listed->count++;
    listed->defaults += u->id == LEDGER_DEFAULT;
    if (u->kind == LEDGER_USER)
        listed->bytes += u->used_bytes;
    if (u->kind == LEDGER_TREE) {
        listed->trees++;
        assert_true(text_equal(u->path, u->id == TREE ? TEXT("/a") : TEXT("/bb")));
    }
}

static void a_report_has_all_with_usage_or_limits(void **state)
{
    struct ledger *l = ledger_at(NULL, NULL);
    struct listed listed = {0};
    struct ledger_limits limits = {.hard_bytes = 10000};
    assert_int_equal(ledger_limit(l, LEDGER_TREE, TREE, &limits, TEXT("/a")), 0);
    assert_int_equal(ledger_limit(l, LEDGER_TREE, TREE + 1, &limits, TEXT("/bb")), 0);
    limit(l, LEDGER_GROUP, LEDGER_DEFAULT, limits);
    for (uid_t uid = 1; uid <= 3000; uid++) // the table of owners grows on the way
        assert_int_equal(change(l, uid, nothing_of(uid, STAFF, 0), cost(uid, STAFF, 0, uid % 3)), 0);
    ledger_report(l, list, &listed);
    assert_int_equal(listed.count, 3000 + 1 + 2 + 1);
    assert_int_equal(listed.trees, 2);
    assert_int_equal(listed.defaults, 1);
    assert_int_equal(listed.bytes, 3000);
    ledger_close(l);
}

// ---- threads -----------------------------------------------------------------------------------------------

#define WRITERS 8
#define ROUNDS 4000

struct writer {
    struct ledger *l;
    int number;
    int64_t bytes; // at the end
    int64_t worst; // the most that was seen used
};

static void *write_at_the_limit(void *argument)
{
    struct writer *w = argument;
    struct ledger_charge has = cost(1 + w->number % 3, STAFF, TREE, 0);
    uint64_t inode = 100 + (uint64_t)w->number;
    if (change(w->l, inode, nothing_of(has.owner.uid, STAFF, TREE), has) != 0)
        return NULL;
    for (int i = 0; i < ROUNDS; i++) {
        struct ledger_charge wants = has;
        wants.bytes = i % 5 == 4 ? has.bytes / 2 : has.bytes + 1 + (i * 7 + w->number) % 97;
        if (change(w->l, inode, has, wants) == 0)
            has = wants;
        int64_t used = used_bytes(w->l, LEDGER_GROUP, STAFF);
        w->worst = used > w->worst ? used : w->worst;
    }
    w->bytes = has.bytes;
    return NULL;
}

static void many_writers_at_the_limit_never_pass_it_and_the_sum_is_exact(void **state)
{
    struct ledger *l = ledger_at(NULL, NULL);
    struct writer writers[WRITERS];
    pthread_t threads[WRITERS];
    int64_t denied = metric_get(METRIC_QUOTA_DENIED), sum = 0;
    limit(l, LEDGER_GROUP, STAFF, (struct ledger_limits){.hard_bytes = 1000});
    limit(l, LEDGER_TREE, TREE, (struct ledger_limits){.hard_bytes = 900});
    for (int i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){.l = l, .number = i};
        assert_int_equal(pthread_create(&threads[i], NULL, write_at_the_limit, &writers[i]), 0);
    }
    for (int i = 0; i < WRITERS; i++) {
        pthread_join(threads[i], NULL);
        assert_true(writers[i].worst <= 900);
        sum += writers[i].bytes;
    }
    assert_true(metric_get(METRIC_QUOTA_DENIED) > denied); // they were at the limit
    assert_int_equal(used_bytes(l, LEDGER_GROUP, STAFF), sum);
    assert_int_equal(used_bytes(l, LEDGER_TREE, TREE), sum);
    assert_int_equal(used_bytes(l, LEDGER_USER, 1) + used_bytes(l, LEDGER_USER, 2) + used_bytes(l, LEDGER_USER, 3), sum);
    assert_int_equal(used_files(l, LEDGER_GROUP, STAFF), WRITERS);
    ledger_close(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        each_in_its_world(a_change_is_charged_to_user_group_and_tree),
        each_in_its_world(a_hard_limit_is_met_to_the_byte_and_to_the_file),
        each_in_its_world(who_is_refused_by_one_limit_is_charged_nowhere),
        each_in_its_world(less_is_allowed_over_any_limit),
        each_in_its_world(room_that_a_change_frees_is_free_when_it_is_settled),
        each_in_its_world(what_was_reserved_and_not_used_is_given_back),
        each_in_its_world(another_owner_takes_all_and_the_one_before_has_nothing),
        each_in_its_world(another_user_in_the_same_full_group_is_no_change_for_the_group),
        each_in_its_world(over_the_soft_limit_is_allowed_for_the_time_of_grace),
        each_in_its_world(who_has_no_limits_of_his_own_has_the_defaults),
        each_in_its_world(who_is_exempt_is_counted_and_not_limited),
        each_in_its_world(who_is_exempt_has_the_default_s_limits_neither_as_owner_nor_in_df),
        each_in_its_world(the_reserve_is_beyond_limits_of_users_and_groups_for_who_may_use_it),
        each_in_its_world(the_reserve_is_beyond_the_soft_limit_after_the_grace_with_a_hard_one_or_without),
        each_in_its_world(df_shows_the_limit_that_leaves_least),
        each_in_its_world(a_change_of_absurd_size_is_refused),
        each_in_its_world(lengths_without_a_disk_never_take_a_sum_to_where_it_is_no_number),
        each_in_its_world(more_changes_in_work_than_slots_are_refused),
        each_in_its_world(wrong_limits_are_refused),
        each_in_its_world(trees_come_and_go),
        each_in_its_world(a_report_has_all_with_usage_or_limits),
        each_in_its_world(many_writers_at_the_limit_never_pass_it_and_the_sum_is_exact),
    };
    return run_group(tests);
}
