// SPDX-License-Identifier: BSD-3-Clause
// Deaths: of the process at any instruction, of the machine, of the files. The inode of these tests is a file of the
// test's folder; the ledger's map is small, so that every state in which a death could leave it can be tried.
#include "tests/unit/meta/ledger_world.h"

#include <sys/mman.h>
#include <sys/ptrace.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/metric.h"
#include "meta/ledger_map.h"
#include "meta/ledger_store.h"

#define ALICE 1001
#define BOB 1002
#define STAFF 2001
#define GUESTS 2002

static _Thread_local char path_[256];

static const char *path_of(const char *name)
{
    snprintf(path_, sizeof(path_), "%s/%s", world_folder, name);
    return path_;
}

// ---- files as they are -------------------------------------------------------------------------------------

static struct ledger_charge charge_of(const struct stat *st)
{
    return cost(st->st_uid, st->st_gid, 0, S_ISREG(st->st_mode) ? st->st_size : 0);
}

static int look(const struct ledger_change *c, struct ledger_file *ret_file, struct ledger_charge *ret_charge, void *context)
{
    struct stat st;
    char name[LEDGER_NAME_MAX + 1];
    (void)context;
    snprintf(name, sizeof(name), "%.*s", (int)c->name.size_bytes, c->name.data);
    if (stat(path_of(name), &st) < 0)
        return -errno;
    *ret_file = (struct ledger_file){st.st_dev, st.st_ino};
    *ret_charge = charge_of(&st);
    return 0;
}

static int look_at(void *inode, struct ledger_file *ret_file, struct ledger_charge *ret_charge)
{
    struct ledger_change c = {.name = text_of(inode)};
    return look(&c, ret_file, ret_charge, NULL);
}

static int walk(struct ledger_count *count, void *context)
{
    static const char *const names[] = {"a", "b", "c"};
    (void)context;
    for (size_t i = 0; i < 3; i++) {
        int r = ledger_count_see(count, look_at, (void *)(uintptr_t)names[i]);
        if (r < 0 && r != -ENOENT)
            return r;
    }
    return 0;
}

static const struct ledger_options small = {.slots = 4, .look = look, .walk = walk, .is_takeover = true,
                                            .checkpoint_ns = 3600 * NS_PER_S};

// The inode of a name, looked at and changed, with its change told.
static struct ledger_charge now_of(const char *name, struct ledger_file *ret_file)
{
    struct ledger_charge charge = nothing_of(getuid(), getgid(), 0);
    struct ledger_change c = {.name = text_of(name)};
    *ret_file = (struct ledger_file){0};
    look(&c, ret_file, &charge, NULL);
    return charge;
}

static int told(struct ledger *l, const char *name, struct ledger_charge after, void (*act)(const char *name))
{
    struct ledger_change c = {.name = text_of(name), .after = after};
    struct ledger_file file;
    uint32_t slot;
    c.before = now_of(name, &c.file);
    int r = ledger_begin(l, &c, 0, &slot);
    if (r < 0)
        return r;
    act(name);
    struct ledger_charge present = now_of(name, &file);
    ledger_settle(l, slot, file.inode ? file : c.file, &present);
    return 0;
}

static void make(const char *name)
{
    close(open(path_of(name), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
}

static void lengthen(const char *name)
{
    int r = truncate(path_of(name), 5000);
    assert_int_equal(r, 0);
}

static void drop(const char *name)
{
    unlink(path_of(name));
}

static int64_t bytes_on_disk(void)
{
    struct ledger_file file;
    return now_of("a", &file).bytes + now_of("b", &file).bytes + now_of("c", &file).bytes;
}

static int64_t files_on_disk(void)
{
    struct ledger_file file;
    return now_of("a", &file).files + now_of("b", &file).files + now_of("c", &file).files;
}

static void assert_exact(struct ledger *l)
{
    assert_int_equal(used_bytes(l, LEDGER_USER, getuid()), bytes_on_disk());
    assert_int_equal(used_files(l, LEDGER_USER, getuid()), files_on_disk());
    assert_int_equal(used_bytes(l, LEDGER_GROUP, getgid()), bytes_on_disk());
    assert_int_equal(used_files(l, LEDGER_GROUP, getgid()), files_on_disk());
}

// ---- at any instruction ------------------------------------------------------------------------------------

static void copy_file(const char *from, const char *to, size_t *ret_size)
{
    struct stat st;
    int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(in >= 0 && out >= 0);
    assert_int_equal(fstat(in, &st), 0);
    void *bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, in, 0);
    assert_true(bytes != MAP_FAILED);
    assert_int_equal(write(out, bytes, (size_t)st.st_size), st.st_size);
    munmap(bytes, (size_t)st.st_size);
    close(in);
    close(out);
    *ret_size = (size_t)st.st_size;
}

// What the child does, step by step: each act begins when it stops itself.
static void live(const char *folder)
{
    struct ledger *l = ledger_at(folder, &small);
    uid_t u = getuid();
    gid_t g = getgid();
    told(l, "a", cost(u, g, 0, 0), make); // marks its owners
    raise(SIGSTOP);
    told(l, "b", cost(u, g, 0, 0), make);
    told(l, "b", cost(u, g, 0, 5000), lengthen);
    told(l, "a", nothing_of(u, g, 0), drop);
    raise(SIGSTOP);
    _exit(0);
}

// The state of the map at this instruction, opened as the next life would, beside a copy of the store.
static void assert_next_life_is_exact(const char *map)
{
    char next[128], name[160];
    size_t size;
    snprintf(next, sizeof(next), "%s/next", world_folder);
    mkdir(next, 0700);
    snprintf(name, sizeof(name), "%s/usage", next);
    copy_file(map, name, &size);
    snprintf(name, sizeof(name), "%s/data.mdb", next);
    char store[160];
    snprintf(store, sizeof(store), "%s/ledger/data.mdb", world_folder);
    copy_file(store, name, &size);
    struct ledger *l = ledger_at(next, &small);
    assert_exact(l);
    ledger_close(l);
}

static void a_death_at_any_instruction_is_settled_exactly(void **state)
{
    char folder[128], map[160];
    int states = 0, steps = 0, status;
    uint64_t last = 0;
    snprintf(folder, sizeof(folder), "%s/ledger", world_folder);
    snprintf(map, sizeof(map), "%s/usage", folder);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
            _exit(77);
        live(folder);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        skip(); // tracing isn't allowed here
    assert_int_equal(WSTOPSIG(status), SIGSTOP);
    int fd = open(map, O_RDONLY | O_CLOEXEC);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    const void *bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    assert_true(bytes != MAP_FAILED);
    do {
        uint64_t hash = hash64(bytes, (size_t)st.st_size) ^ (uint64_t)bytes_on_disk() << 1 ^
                        (uint64_t)files_on_disk() << 40;
        if (hash != last) {
            assert_next_life_is_exact(map);
            states++;
        }
        last = hash;
        steps++;
        assert_int_equal(ptrace(PTRACE_SINGLESTEP, child, NULL, NULL), 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSTOPPED(status));
    } while (WSTOPSIG(status) == SIGTRAP);
    assert_true(states > 40 && steps > 3000);
    munmap((void *)bytes, (size_t)st.st_size);
    close(fd);
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
}

// ---- deaths of processes -----------------------------------------------------------------------------------

#define LIVES 20

static void work_until_killed(const char *folder, unsigned seed, int ready_fd)
{
    static const char *const names[] = {"a", "b", "c"};
    struct ledger *l = ledger_at(folder, &small);
    close(ready_fd);
    uid_t u = getuid();
    gid_t g = getgid();
    for (;;) {
        const char *name = names[rand_r(&seed) % 3];
        struct ledger_file file;
        if (!now_of(name, &file).files)
            told(l, name, cost(u, g, 0, 0), make);
        else if (rand_r(&seed) % 2)
            told(l, name, nothing_of(u, g, 0), drop);
        else
            told(l, name, cost(u, g, 0, 5000), lengthen);
    }
}

static void killed_again_and_again_usage_is_exact(void **state)
{
    char folder[128];
    snprintf(folder, sizeof(folder), "%s/ledger", world_folder);
    int64_t late = metric_get(METRIC_LEDGER_SETTLED_LATE);
    for (int life = 0; life < LIVES; life++) {
        int ready[2];
        char none;
        assert_int_equal(pipe(ready), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            close(ready[0]);
            work_until_killed(folder, (unsigned)life, ready[1]);
        }
        close(ready[1]);
        assert_int_equal(read(ready[0], &none, 1), 0);
        close(ready[0]);
        usleep(5000 + (unsigned)life * 531 % 3000);
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, NULL, 0), child);
        struct ledger *l = ledger_at(folder, &small);
        assert_exact(l);
        ledger_close(l);
    }
    assert_true(metric_get(METRIC_LEDGER_SETTLED_LATE) > late);
}

// ---- deaths of machines ------------------------------------------------------------------------------------

static char ledger_folder[128];

static const char *folder_of_ledger(void)
{
    snprintf(ledger_folder, sizeof(ledger_folder), "%s/ledger", world_folder);
    return ledger_folder;
}

// A life that ends without order, after `act`.
static void life(void (*act)(struct ledger *l))
{
    folder_of_ledger();
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        act(ledger_at(ledger_folder, &small));
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static int map_fd(void)
{
    int fd = open(path_of("ledger/usage"), O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

// The map as another boot would find it: of this one's before, and with anything in it.
static void cut_power(void)
{
    struct map_header h;
    struct map_entry garbage = {.kind = 1, .id = 4711, .sums = {.used_bytes = 1 << 30}};
    int fd = map_fd();
    assert_int_equal(pread(fd, &h, sizeof(h), 0), sizeof(h));
    h.boot[0] ^= 1;
    h.hash = hash64(&h, offsetof(struct map_header, hash));
    assert_int_equal(pwrite(fd, &h, sizeof(h), 0), sizeof(h));
    assert_int_equal(pwrite(fd, &garbage, sizeof(garbage), MAP_HEADER_BYTES + 8192), sizeof(garbage));
    close(fd);
}

static void wait_until_counted(struct ledger *l, uid_t uid)
{
    struct ledger_usage u = {.is_recounting = true};
    for (int i = 0; i < 2000 && u.is_recounting; i++) {
        usleep(5000);
        int r = ledger_usage(l, LEDGER_USER, uid, &u);
        assert_true(r == 0 || r == -ENOENT); // nothing is known of him yet
    }
    assert_false(u.is_recounting);
}

static void make_three(struct ledger *l)
{
    told(l, "a", cost(getuid(), getgid(), 0, 0), make);
    told(l, "b", cost(getuid(), getgid(), 0, 0), make);
    told(l, "b", cost(getuid(), getgid(), 0, 5000), lengthen);
    told(l, "c", cost(getuid(), getgid(), 0, 0), make);
}

static void drop_b(struct ledger *l)
{
    told(l, "b", nothing_of(getuid(), getgid(), 0), drop);
}

static void after_a_power_cut_owners_that_wrote_are_counted_again(void **state)
{
    life(make_three);
    ledger_close(ledger_at(folder_of_ledger(), &small)); // in order
    life(drop_b);
    cut_power();
    struct ledger *l = ledger_at(folder_of_ledger(), &small);
    wait_until_counted(l, getuid());
    assert_int_equal(bytes_on_disk(), 0);
    assert_exact(l);
    assert_int_equal(used_bytes(l, LEDGER_USER, 4711), 0);
    ledger_close(l);
}

static void after_a_power_cut_owners_that_did_not_write_are_as_written_down(void **state)
{
    life(make_three);
    struct ledger *l = ledger_at(folder_of_ledger(), &small);
    wait_until_counted(l, getuid()); // a new ledger counts all
    ledger_close(l);
    cut_power();
    int64_t recounts = metric_get(METRIC_LEDGER_RECOUNTS);
    l = ledger_at(folder_of_ledger(), &small);
    struct ledger_usage u;
    assert_int_equal(ledger_usage(l, LEDGER_USER, getuid(), &u), 0);
    assert_false(u.is_recounting);
    assert_exact(l);
    assert_int_equal(metric_get(METRIC_LEDGER_RECOUNTS), recounts);
    ledger_close(l);
}

// An owner that stays marked for as long as it changes, and a while longer.
static void an_idle_owner_needs_no_recount_after_a_power_cut(void **state)
{
    struct ledger_options o = small;
    o.checkpoint_ns = 5 * NS_PER_MS;
    o.idle_ns = 20 * NS_PER_MS;
    struct ledger *l = ledger_at(folder_of_ledger(), &o);
    int64_t marks = metric_get(METRIC_LEDGER_MARKS);
    told(l, "a", cost(getuid(), getgid(), 0, 0), make);
    assert_true(metric_get(METRIC_LEDGER_MARKS) > marks);
    marks = metric_get(METRIC_LEDGER_MARKS);
    told(l, "a", cost(getuid(), getgid(), 0, 5000), lengthen);
    assert_int_equal(metric_get(METRIC_LEDGER_MARKS), marks); // it has one
    wait_until_counted(l, getuid());
    for (int i = 0; i < 1000 && metric_get(METRIC_LEDGER_MARKS) == marks; i++) {
        usleep(20000);
        told(l, "b", i % 2 ? nothing_of(getuid(), getgid(), 0) : cost(getuid(), getgid(), 0, 0), i % 2 ? drop : make);
        usleep(60000);
    }
    assert_true(metric_get(METRIC_LEDGER_MARKS) > marks); // it lost the mark when it was idle, and got another
    ledger_close(l);
}

static void a_damaged_map_is_not_believed(void **state)
{
    static const struct {
        off_t at;
        unsigned char byte;
    } damages[] = {{0, 0xff}, {9, 0xff}, {20, 0xff}, {70, 0xff}, {100, 0xff}, {4096, 0x03}};
    for (size_t i = 0; i < sizeof(damages) / sizeof(damages[0]); i++) {
        life(make_three);
        life(drop_b);
        int fd = map_fd();
        assert_int_equal(pwrite(fd, &damages[i].byte, 1, damages[i].at), 1);
        close(fd);
        struct ledger *l = ledger_at(folder_of_ledger(), &small);
        wait_until_counted(l, getuid());
        assert_exact(l);
        ledger_close(l);
    }
}

static void usage_that_can_not_be_is_counted_again(void **state)
{
    struct ledger_checkpoint absurd = {.kind = LEDGER_USER, .id = getuid(), .used_bytes = INT64_MAX, .used_files = INT64_MIN};
    struct ledger_store *store;
    char *why = NULL;
    life(make_three);
    ledger_close(ledger_at(folder_of_ledger(), &small));
    cut_power();
    assert_int_equal(ledger_store_open(folder_of_ledger(), &store, &why), 0);
    assert_int_equal(ledger_store_write(store, &absurd, 1), 0);
    ledger_store_close(store);
    struct ledger *l = ledger_at(folder_of_ledger(), &small);
    wait_until_counted(l, getuid());
    assert_exact(l);
    ledger_close(l);
}

static void a_map_that_lost_its_end_is_not_believed(void **state)
{
    life(make_three);
    assert_int_equal(truncate(path_of("ledger/usage"), 5000), 0);
    struct ledger *l = ledger_at(folder_of_ledger(), &small);
    wait_until_counted(l, getuid());
    assert_exact(l);
    ledger_close(l);
}

// ---- lives -------------------------------------------------------------------------------------------------

static void files_that_were_there_before_the_ledger_are_counted(void **state)
{
    make("a");
    make("b");
    lengthen("b");
    struct ledger *l = ledger_at(folder_of_ledger(), &small);
    for (int i = 0; i < 2000 && used_files(l, LEDGER_USER, getuid()) < 2; i++)
        usleep(5000);
    assert_exact(l);
    ledger_close(l);
}

static void other_trees_than_the_last_time_are_counted(void **state)
{
    struct ledger_options o = small;
    o.identity = TEXT("/home");
    struct ledger *l = ledger_at(folder_of_ledger(), &o);
    ledger_close(l);
    make("a");
    l = ledger_at(folder_of_ledger(), &o);
    ledger_close(l);
    o.identity = TEXT("/home,/group");
    l = ledger_at(folder_of_ledger(), &o);
    for (int i = 0; i < 2000 && used_files(l, LEDGER_USER, getuid()) < 1; i++)
        usleep(5000);
    assert_exact(l);
    ledger_close(l);
}

static void make_orphan(struct ledger *l)
{
    struct ledger_charge orphan = cost(ALICE, STAFF, 0, 300);
    orphan.is_orphan = true;
    assert_int_equal(change(l, 5, nothing_of(ALICE, STAFF, 0), cost(ALICE, STAFF, 0, 300)), 0);
    assert_int_equal(change(l, 5, cost(ALICE, STAFF, 0, 300), orphan), 0);
}

static void orphans_are_charged_as_long_as_the_mount_lives(void **state)
{
    struct ledger_options o = small;
    o.walk = NULL;
    life(make_orphan);
    struct ledger *l = ledger_at(folder_of_ledger(), &o);
    assert_int_equal(used_bytes(l, LEDGER_USER, ALICE), 300);
    ledger_close(l);
    o.is_takeover = false;
    l = ledger_at(folder_of_ledger(), &o);
    assert_int_equal(used_bytes(l, LEDGER_USER, ALICE), 0);
    assert_int_equal(used_files(l, LEDGER_GROUP, STAFF), 0);
    ledger_close(l);
}

// An aborted mount: nobody told of their closing, and the next life is another boot's.
static void orphans_left_at_an_end_in_order_are_counted_away_after_a_reboot(void **state)
{
    struct ledger *l = ledger_at(folder_of_ledger(), &small);
    make_three(l);
    wait_until_counted(l, getuid());
    make_orphan(l);
    ledger_close(l);
    cut_power();
    struct ledger_options o = small;
    o.is_takeover = false;
    l = ledger_at(folder_of_ledger(), &o);
    for (int i = 0; i < 2000 && used_bytes(l, LEDGER_USER, ALICE); i++)
        usleep(5000);
    assert_int_equal(used_bytes(l, LEDGER_USER, ALICE), 0);
    assert_int_equal(used_files(l, LEDGER_GROUP, STAFF), 0);
    assert_exact(l);
    ledger_close(l);
}

static void set_limits(struct ledger *l)
{
    struct ledger_limits tree = {.hard_files = 9};
    limit(l, LEDGER_USER, ALICE, (struct ledger_limits){1, 2, 3, 4, 5});
    limit(l, LEDGER_GROUP, LEDGER_DEFAULT, (struct ledger_limits){.hard_bytes = 7});
    assert_int_equal(ledger_limit(l, LEDGER_TREE, 9, &tree, TEXT("/home/alice/data")), 0);
    limit(l, LEDGER_USER, BOB, (struct ledger_limits){.hard_bytes = 7});
    assert_int_equal(ledger_limit(l, LEDGER_USER, BOB, NULL, (struct text){0}), 0);
}

static void assert_limits(void)
{
    struct ledger_usage u;
    struct ledger *l = ledger_at(folder_of_ledger(), &small);
    assert_int_equal(ledger_usage(l, LEDGER_USER, ALICE, &u), 0);
    assert_true(u.limits.soft_bytes == 1 && u.limits.hard_bytes == 2 && u.limits.soft_files == 3 &&
                u.limits.hard_files == 4 && u.limits.grace_ns == 5);
    assert_int_equal(ledger_usage(l, LEDGER_GROUP, LEDGER_DEFAULT, &u), 0);
    assert_int_equal(u.limits.hard_bytes, 7);
    assert_true(ledger_has_tree(l, 9));
    assert_int_equal(ledger_usage(l, LEDGER_USER, BOB, &u), -ENOENT);
    ledger_close(l);
}

static void limits_survive_deaths_of_process_and_machine(void **state)
{
    life(set_limits);
    assert_limits();
    cut_power();
    assert_limits();
    assert_int_equal(unlink(path_of("ledger/usage")), 0);
    assert_limits();
}

static void a_ledger_has_one_process(void **state)
{
    struct ledger *l = ledger_at(folder_of_ledger(), &small), *second = NULL;
    struct ledger_options o = small;
    char *why = NULL;
    o.folder = ledger_folder;
    assert_int_equal(ledger_open(&o, &second, &why), -EBUSY);
    assert_non_null(strstr(why, "another butlerfs has it"));
    free(why);
    ledger_close(l);
}

static void tell(const struct ledger_difference *d, void *context)
{
    struct ledger_difference *sum = context;
    if (d->kind != LEDGER_USER)
        return;
    sum->used_bytes += d->used_bytes;
    sum->counted_bytes += d->counted_bytes;
    sum->counted_files += d->counted_files;
}

static void a_check_tells_what_changed_behind_its_back_and_a_repair_takes_it(void **state)
{
    struct ledger_difference sum = {0};
    struct ledger *l = ledger_at(folder_of_ledger(), &small);
    make_three(l);
    while (ledger_check(l, false, tell, &sum) == -EBUSY) // its own
        usleep(1000);
    assert_int_equal(sum.used_bytes + sum.counted_files, 0);
    drop("b");
    assert_int_equal(ledger_check(l, false, tell, &sum), 0);
    assert_int_equal(sum.used_bytes, 5000);
    assert_int_equal(sum.counted_bytes, 0);
    assert_int_equal(sum.counted_files, 2);
    assert_int_equal(used_bytes(l, LEDGER_USER, getuid()), 5000);
    assert_int_equal(ledger_check(l, true, NULL, NULL), 0);
    assert_exact(l);
    ledger_close(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        each_in_its_world(after_a_power_cut_owners_that_wrote_are_counted_again),
        each_in_its_world(after_a_power_cut_owners_that_did_not_write_are_as_written_down),
        each_in_its_world(an_idle_owner_needs_no_recount_after_a_power_cut),
        each_in_its_world(a_damaged_map_is_not_believed),
        each_in_its_world(usage_that_can_not_be_is_counted_again),
        each_in_its_world(a_map_that_lost_its_end_is_not_believed),
        each_in_its_world(files_that_were_there_before_the_ledger_are_counted),
        each_in_its_world(other_trees_than_the_last_time_are_counted),
        each_in_its_world(orphans_are_charged_as_long_as_the_mount_lives),
        each_in_its_world(orphans_left_at_an_end_in_order_are_counted_away_after_a_reboot),
        each_in_its_world(limits_survive_deaths_of_process_and_machine),
        each_in_its_world(a_ledger_has_one_process),
        each_in_its_world(a_check_tells_what_changed_behind_its_back_and_a_repair_takes_it),
        each_in_its_world(a_death_at_any_instruction_is_settled_exactly),
        each_in_its_world(killed_again_and_again_usage_is_exact),
    };
    return run_group(tests);
}
