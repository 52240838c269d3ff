// SPDX-License-Identifier: BSD-3-Clause
// Counting again while everything changes: a made-up file system of folders and inodes, whose threads create, lengthen,
// give away, move, unlink, keep open and rename folders, each change told to the ledger, beside one walk after the other.
#include "tests/unit/meta/ledger_world.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "base/metric.h"

#define FOLDERS 24
#define INODES 600
#define USERS 5
#define THREADS 4
#define STAFF 2001
#define COUNTS 25

struct inode {
    pthread_mutex_t lock; // one change at a time
    struct ledger_charge charge;
    int folder; // -1: an orphan
};

static struct {
    pthread_mutex_t lock; // what follows, and the charges as the walk sees them; taken last
    int at[FOLDERS];      // which folder stands at a place
    struct inode inodes[INODES + 1];
    atomic_bool is_over;
    atomic_int refused;
    struct ledger *l;
} world;

// ---- the walk ----------------------------------------------------------------------------------------------

static struct ledger_file file_of(const struct inode *i)
{
    return (struct ledger_file){1, 1 + (uint64_t)(i - world.inodes)};
}

static int look_at(void *inode, struct ledger_file *ret_file, struct ledger_charge *ret_charge)
{
    struct inode *i = inode;
    pthread_mutex_lock(&world.lock);
    *ret_file = file_of(i);
    *ret_charge = i->charge;
    int r = i->charge.files ? 0 : -ENOENT;
    pthread_mutex_unlock(&world.lock);
    return r;
}

static struct ledger_file file_of_folder(int folder)
{
    return (struct ledger_file){2, 1 + (uint64_t)folder};
}

static int walk_folder(struct ledger_count *count, int folder)
{
    int found[INODES], n = 0;
    pthread_mutex_lock(&world.lock);
    for (int i = 1; i <= INODES; i++)
        if (world.inodes[i].charge.files && world.inodes[i].folder == folder)
            found[n++] = i;
    pthread_mutex_unlock(&world.lock);
    usleep(100);
    for (int k = 0; k < n; k++) {
        int r = ledger_count_see(count, look_at, &world.inodes[found[k]]);
        if (r < 0 && r != -ENOENT)
            return r;
    }
    return 0;
}

static int walk_moved(struct ledger_count *count)
{
    struct ledger_moved m;
    int r = 0;
    while (r == 0 && ledger_count_moved(count, 0, &m)) {
        if (m.is_folder)
            r = walk_folder(count, (int)m.file.inode - 1);
        else
            r = ledger_count_see(count, look_at, &world.inodes[m.file.inode - 1]);
        r = r == -ENOENT ? 0 : r;
    }
    return r;
}

static int walk(struct ledger_count *count, void *context)
{
    (void)context;
    ledger_count_see(count, look_at, &world.inodes[0]);
    int r = walk_moved(count);
    for (int place = 0; place < FOLDERS && r == 0; place++) {
        pthread_mutex_lock(&world.lock);
        int folder = world.at[place];
        pthread_mutex_unlock(&world.lock);
        if (ledger_count_enter(count, file_of_folder(folder)))
            r = walk_folder(count, folder);
    }
    return r < 0 ? r : walk_moved(count);
}

// ---- changes -----------------------------------------------------------------------------------------------

static void become(struct inode *i, struct ledger_charge charge, int folder)
{
    pthread_mutex_lock(&world.lock);
    i->charge = charge;
    i->folder = folder;
    pthread_mutex_unlock(&world.lock);
}

// Under the inode's lock.
static void change_one(struct inode *i, struct ledger_charge after, int folder, unsigned *seed)
{
    struct ledger_file file = file_of(i);
    struct ledger_change c = {.before = i->charge, .after = after};
    uint32_t slot;
    if (i->charge.files)
        c.file = file;
    if (ledger_begin(world.l, &c, 0, &slot) < 0) {
        atomic_fetch_add(&world.refused, 1);
        return;
    }
    if (after.bytes > 3 && rand_r(seed) % 4 == 0)
        after.bytes -= 3; // less than was reserved
    become(i, after, folder);
    if (rand_r(seed) % 8 == 0)
        usleep(50);
    ledger_settle(world.l, slot, file, &after);
}

// Another name at the same cost.
static void move_one(struct inode *i, int folder)
{
    struct ledger_moved moved = {.file = file_of(i)};
    uint32_t token = ledger_move_begin(world.l);
    become(i, i->charge, folder);
    ledger_move_end(world.l, token, &moved, 1);
}

static void act(struct inode *i, unsigned *seed)
{
    int folder = rand_r(seed) % FOLDERS, what = rand_r(seed) % 6;
    struct ledger_charge after = i->charge;
    pthread_mutex_lock(&i->lock);
    after = i->charge;
    if (!after.files)
        change_one(i, cost(1 + (uid_t)rand_r(seed) % USERS, STAFF, 0, rand_r(seed) % 100), folder, seed);
    else if (after.is_orphan || what == 0)
        change_one(i, nothing_of(after.owner.uid, STAFF, 0), -1, seed);
    else if (what == 1) {
        after.is_orphan = true;
        change_one(i, after, -1, seed);
    } else if (what == 2)
        move_one(i, folder);
    else if (what == 3) {
        after.owner.uid = 1 + (uid_t)rand_r(seed) % USERS;
        change_one(i, after, i->folder, seed);
    } else {
        after.bytes += rand_r(seed) % 200;
        change_one(i, after, i->folder, seed);
    }
    pthread_mutex_unlock(&i->lock);
}

static void move_folders(unsigned *seed)
{
    int a = rand_r(seed) % FOLDERS, b = rand_r(seed) % FOLDERS;
    uint32_t token = ledger_move_begin(world.l);
    pthread_mutex_lock(&world.lock);
    int was = world.at[a];
    world.at[a] = world.at[b];
    world.at[b] = was;
    struct ledger_moved moved[] = {{.file = file_of_folder(world.at[a]), .is_folder = true},
                                   {.file = file_of_folder(world.at[b]), .is_folder = true}};
    pthread_mutex_unlock(&world.lock);
    ledger_move_end(world.l, token, moved, 2);
}

static void *live(void *argument)
{
    unsigned seed = (unsigned)(uintptr_t)argument;
    for (int round = 0; !atomic_load(&world.is_over); round++) {
        act(&world.inodes[1 + rand_r(&seed) % INODES], &seed);
        if (seed % 30 == 0)
            move_folders(&seed); // all the time: a count ends all the same
        if (round % 64 == 0)
            usleep(100);
    }
    return NULL;
}

// ---- tests -------------------------------------------------------------------------------------------------

static void tell(const struct ledger_difference *d, void *context)
{
    fprintf(stderr, "kind %d id %llu: %lld bytes, counted %lld; %lld files, counted %lld\n", d->kind,
            (unsigned long long)d->id, (long long)d->used_bytes, (long long)d->counted_bytes, (long long)d->used_files,
            (long long)d->counted_files);
    ++*(int *)context;
}

static void assert_world_is_exact(void)
{
    int64_t bytes[USERS + 1] = {0}, files[USERS + 1] = {0};
    for (int i = 1; i <= INODES; i++) {
        bytes[world.inodes[i].charge.owner.uid] += world.inodes[i].charge.bytes;
        files[world.inodes[i].charge.owner.uid] += world.inodes[i].charge.files;
    }
    for (uint64_t u = 1; u <= USERS; u++) {
        assert_int_equal(used_bytes(world.l, LEDGER_USER, u), bytes[u]);
        assert_int_equal(used_files(world.l, LEDGER_USER, u), files[u]);
    }
}

static void world_open(void)
{
    struct ledger_options o = {.walk = walk, .checkpoint_ns = 20 * NS_PER_MS};
    memset(&world, 0, sizeof(world));
    pthread_mutex_init(&world.lock, NULL);
    for (int i = 0; i <= INODES; i++)
        pthread_mutex_init(&world.inodes[i].lock, NULL);
    for (int i = 0; i < FOLDERS; i++)
        world.at[i] = i;
    world.l = ledger_at(NULL, &o);
    limit(world.l, LEDGER_USER, 1, (struct ledger_limits){.hard_bytes = 9000});
    unsigned seed = 1;
    change_one(&world.inodes[0], cost(0, 0, 0, 0), 0, &seed); // that nobody touches
}

static int counted(bool repair, int *differences)
{
    int r;
    while ((r = ledger_check(world.l, repair, tell, differences)) == -EBUSY)
        usleep(1000);
    return r;
}

static void a_count_is_exact_while_everything_changes(void **state)
{
    pthread_t threads[THREADS];
    int differences = 0;
    world_open();
    for (uintptr_t t = 0; t < THREADS; t++)
        assert_int_equal(pthread_create(&threads[t], NULL, live, (void *)(t + 1)), 0);
    for (int i = 0; i < COUNTS; i++) {
        assert_int_equal(counted(i % 3 == 2, &differences), 0);
    }
    atomic_store(&world.is_over, true);
    for (int t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
    assert_true(atomic_load(&world.refused) > 0);
    assert_int_equal(differences, 0);
    assert_world_is_exact();
    ledger_close(world.l);
}

static void a_tree_that_is_limited_is_counted_first(void **state)
{
    struct ledger_limits limits = {.hard_bytes = 1000};
    struct ledger_usage u = {.is_recounting = true};
    world_open();
    int differences = 0;
    assert_int_equal(counted(false, &differences), 0);
    become(&world.inodes[7], cost(2, STAFF, 99, 400), 3);
    assert_int_equal(ledger_limit(world.l, LEDGER_TREE, 99, &limits, TEXT("/x")), 0);
    for (int i = 0; i < 2000 && u.is_recounting; i++) {
        usleep(2000);
        assert_int_equal(ledger_usage(world.l, LEDGER_TREE, 99, &u), 0);
    }
    assert_int_equal(u.used_bytes, 400);
    assert_int_equal(u.used_files, 1);
    ledger_close(world.l);
}

// Inode 9 is unlinked, and before that is settled another one with its number is made.
static int walk_with_reuse(struct ledger_count *count, void *context)
{
    _Atomic(struct ledger *) *l = context;
    struct ledger_change gone = {.file = file_of(&world.inodes[9]), .before = cost(1, STAFF, 0, 100),
                                 .after = nothing_of(1, STAFF, 0)};
    struct ledger_change made = {.before = nothing_of(2, STAFF, 0), .after = cost(2, STAFF, 0, 30)};
    uint32_t slots[2];
    if (!*l || world.inodes[9].charge.owner.uid == 2)
        return ledger_count_see(count, look_at, &world.inodes[9]);
    ledger_count_see(count, look_at, &world.inodes[9]);
    assert_int_equal(ledger_begin(*l, &gone, 0, &slots[0]), 0);
    assert_int_equal(ledger_begin(*l, &made, 0, &slots[1]), 0);
    become(&world.inodes[9], made.after, 0);
    ledger_settle(*l, slots[1], gone.file, &made.after);
    ledger_settle(*l, slots[0], gone.file, &gone.after);
    return ledger_count_see(count, look_at, &world.inodes[9]);
}

static void a_number_that_is_used_again_at_once_is_another_inode(void **state)
{
    _Atomic(struct ledger *) l = NULL; // the first count may begin before it is there
    struct ledger_options o = {.walk = walk_with_reuse, .context = (void *)&l};
    int differences = 0;
    memset(&world, 0, sizeof(world));
    pthread_mutex_init(&world.lock, NULL);
    world.l = ledger_at(NULL, &o);
    become(&world.inodes[9], cost(1, STAFF, 0, 100), 0);
    assert_int_equal(change(world.l, 10, nothing_of(1, STAFF, 0), cost(1, STAFF, 0, 100)), 0);
    l = world.l;
    assert_int_equal(counted(false, &differences), 0);
    assert_int_equal(differences, 0);
    assert_int_equal(used_bytes(l, LEDGER_USER, 1), 0);
    assert_int_equal(used_bytes(l, LEDGER_USER, 2), 30);
    ledger_close(l);
}

static int walk_that_fails(struct ledger_count *count, void *context)
{
    (void)count, (void)context;
    return -EIO;
}

static void a_walk_that_fails_changes_nothing(void **state)
{
    struct ledger_options o = {.walk = walk_that_fails};
    struct ledger *l = ledger_at(NULL, &o);
    assert_int_equal(change(l, 5, nothing_of(1, STAFF, 0), cost(1, STAFF, 0, 9)), 0);
    int r;
    while ((r = ledger_check(l, true, NULL, NULL)) == -EBUSY)
        usleep(1000);
    assert_int_equal(r, -EIO);
    assert_int_equal(used_bytes(l, LEDGER_USER, 1), 9);
    ledger_close(l);
}

static int walk_until_cancelled(struct ledger_count *count, void *context)
{
    (void)context;
    while (!ledger_count_is_cancelled(count))
        usleep(1000);
    return -ECANCELED;
}

static void closing_ends_a_count(void **state)
{
    struct ledger_options o = {.walk = walk_until_cancelled};
    struct ledger *l = ledger_at(NULL, &o);
    usleep(20000);
    ledger_close(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        each_in_its_world(a_count_is_exact_while_everything_changes),
        each_in_its_world(a_tree_that_is_limited_is_counted_first),
        each_in_its_world(a_number_that_is_used_again_at_once_is_another_inode),
        each_in_its_world(a_walk_that_fails_changes_nothing),
        each_in_its_world(closing_ends_a_count),
    };
    return run_group(tests);
}
