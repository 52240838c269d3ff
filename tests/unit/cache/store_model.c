// SPDX-License-Identifier: BSD-3-Clause
// Random histories of a store beside a plain reference that says which blocks must be there and what
// is in them: writes in pieces, broken off or not; reads; new versions; drops; evictions; flipped
// bytes; torn maps and lost data; orderly ends; and lives that end by SIGKILL in the middle of any
// effect on the disk (a write half done). The reference is shared memory, so it survives the life
// that is killed.
//
// What was there before a killed life's last operation must be there afterwards; the object of that
// operation may be there in part, or not at all, but never with a wrong byte.
// BUTLERFS_MODEL_SEED=N, BUTLERFS_MODEL_STEPS=N: other and longer histories.
#include "tests/unit/cache/stores.h"

#include <sys/mman.h>

#define OBJECTS 12
#define BLOCKS_MAX 80
#define LIVES 60

struct model_object {
    bool exists;
    bool is_pinned;
    int version;
    uint64_t size_bytes;
    bool has[BLOCKS_MAX];
};

struct model {
    struct model_object objects[OBJECTS];
    int busy;       // the object of the operation under way; NONE, or ANY of them
    uint64_t steps; // done
    uint64_t random;
};

enum { NONE = -1, ANY = OBJECTS };

static struct model *model;
static int steps_a_life = 150;

static uint32_t below(uint32_t n)
{
    model->random ^= model->random << 13;
    model->random ^= model->random >> 7;
    model->random ^= model->random << 17;
    return (uint32_t)(model->random >> 20) % n;
}

static struct artifact *artifact_now(struct artifact *a, int number)
{
    const struct model_object *o = &model->objects[number];
    return artifact_of(a, number, o->version, o->size_bytes);
}

static uint32_t blocks_of(const struct model_object *o)
{
    return store_block_count(o->size_bytes);
}

static struct stored *find(struct block_store *b, int number)
{
    struct artifact a;
    struct stored *s = NULL;
    artifact_now(&a, number);
    int r = block_store_find(b, a.version.identity, &s);
    check(r == 0 || r == -ENOENT);
    return s;
}

// Reads and compares with what the bytes must be.
static ssize_t read_right(struct stored *s, uint64_t offset, size_t n)
{
    static char scratch[BLOCK], is[BLOCKS_MAX * BLOCK], should[BLOCKS_MAX * BLOCK];
    ssize_t r = stored_read(s, is, n, offset, scratch);
    if (r > 0) {
        fill(stored_version(s), offset, should, (size_t)r);
        check(memcmp(is, should, (size_t)r) == 0);
    }
    return r;
}

// ---- what is there is as the model says; a model that may be wrong (`is_loose`) learns

static void compare_object(struct block_store *b, int number, bool is_loose)
{
    struct model_object *o = &model->objects[number];
    struct stored *s = find(b, number);
    if (!s) {
        check(is_loose || !o->exists);
        o->exists = false;
        return;
    }
    check(is_loose || o->exists);
    const struct stored_version *v = stored_version(s);
    o->exists = true;
    o->version = atoi(v->validator.data + 1);
    o->size_bytes = v->size_bytes;
    o->is_pinned = stored_is_pinned(s);
    for (uint32_t i = 0; i < blocks_of(o); i++) {
        bool is_there = stored_has(s, i);
        check(is_loose || is_there == o->has[i]);
        uint32_t bytes = store_block_bytes(o->size_bytes, i);
        ssize_t r = read_right(s, (uint64_t)i * BLOCK, bytes);
        if (is_there && is_loose && r == -EBADMSG)
            is_there = false; // it was found, which is all that is asked
        else
            check(is_there ? r == (ssize_t)bytes : r == -ENODATA);
        o->has[i] = is_there;
    }
    stored_unref(s);
}

static void compare_all(struct block_store *b, int loose)
{
    for (int i = 0; i < OBJECTS; i++)
        compare_object(b, i, i == loose || loose == ANY);
}

// ---- operations

static void op_create(struct block_store *b, int number)
{
    struct model_object *o = &model->objects[number];
    bool is_new = !o->exists || below(3) == 0;
    struct artifact a;
    uint64_t size = below(4) == 0 ? below(3) : below((BLOCKS_MAX - 1) * BLOCK);
    int version = is_new ? o->version + 1 : o->version;
    artifact_of(&a, number, version, is_new ? size : o->size_bytes);
    struct stored *s = NULL;
    int r = block_store_create(b, &a.version, &s);
    check(r == 0);
    if (is_new) {
        *o = (struct model_object){.exists = true, .version = version, .size_bytes = size};
    } else {
        check(stored_blocks_present(s) <= blocks_of(o));
    }
    stored_unref(s);
}

static void wait_for_repair(struct stored *s)
{
    for (;; usleep(200)) {
        lock_scope(&s->lock);
        if (!s->wants_rebuild && !s->is_rebuilding && !s->is_queued)
            return;
    }
}

static void op_write(struct block_store *b, int number)
{
    struct model_object *o = &model->objects[number];
    struct stored *s = find(b, number);
    if (!s || blocks_of(o) == 0) {
        stored_unref(s);
        return;
    }
    static char bytes[BLOCKS_MAX * BLOCK];
    uint32_t first = below(blocks_of(o)), count = 1 + below(blocks_of(o) - first);
    uint64_t from = (uint64_t)first * BLOCK, to = from + (uint64_t)count * BLOCK;
    to = to < o->size_bytes ? to : o->size_bytes;
    if (below(3) == 0)
        to = from + below((uint32_t)(to - from) + 1); // broken off
    fill(stored_version(s), from, bytes, (size_t)(to - from));
    struct stored_writer w;
    stored_write_begin(s, first, &w);
    int r = 0, marked = 0, fresh = 0;
    for (uint64_t at = from; at < to && r >= 0;) {
        size_t n = 1 + below(below(2) ? 3 * BLOCK : 5000);
        n = n < to - at ? n : (size_t)(to - at);
        r = stored_write(&w, bytes + (at - from), n);
        marked += r > 0 ? r : 0;
        at += n;
    }
    stored_write_end(&w);
    if (r == -EBUSY) { // a repair that takes longer: nothing was written
        check(marked == 0);
        wait_for_repair(s);
    } else {
        check(r >= 0);
        for (uint32_t i = first; i < blocks_of(o); i++)
            if ((uint64_t)i * BLOCK + store_block_bytes(o->size_bytes, i) <= to && !o->has[i]) {
                o->has[i] = true;
                fresh++;
            }
        check(fresh == marked);
    }
    stored_unref(s);
}

static void op_read(struct block_store *b, int number)
{
    struct model_object *o = &model->objects[number];
    struct stored *s = find(b, number);
    if (s && o->size_bytes) {
        uint64_t from = below((uint32_t)o->size_bytes);
        size_t n = 1 + below(below(2) ? 8 * BLOCK : 5000);
        uint64_t to = from + n < o->size_bytes ? from + n : o->size_bytes;
        bool is_there = true;
        for (uint64_t i = from / BLOCK; i * BLOCK < to; i++)
            is_there = is_there && o->has[i];
        stored_touch(s);
        ssize_t r = read_right(s, from, n);
        check(r == (is_there ? (ssize_t)(to - from) : -ENODATA));
    }
    stored_unref(s);
}

static void op_drop(struct block_store *b, int number)
{
    struct artifact a;
    int r = block_store_drop(b, artifact_now(&a, number)->version.identity);
    check(r == (model->objects[number].exists ? 0 : -ENOENT));
    model->objects[number].exists = false;
}

// A byte of a block that is there changes on disk: the block is found bad, once.
static void op_flip(struct block_store *b, int number)
{
    struct model_object *o = &model->objects[number];
    struct stored *s = find(b, number);
    uint32_t block = s && blocks_of(o) ? below(blocks_of(o)) : 0;
    if (s && blocks_of(o) && o->has[block]) {
        struct artifact a;
        uint64_t at = (uint64_t)block * BLOCK;
        int fd = open(file_of(artifact_now(&a, number), STORE_DATA), O_RDWR | O_CLOEXEC);
        check(fd >= 0);
        uint8_t byte;
        at += below(store_block_bytes(o->size_bytes, block));
        check(pread(fd, &byte, 1, (off_t)at) == 1);
        byte ^= (uint8_t)(1 << below(8));
        check(pwrite(fd, &byte, 1, (off_t)at) == 1);
        close(fd);
        check(read_right(s, at, 1) == -EBADMSG);
        check(!stored_has(s, block));
        o->has[block] = false;
    }
    stored_unref(s);
}

// What the kernel would read by itself.
static void op_passthrough(struct block_store *b, int number)
{
    struct model_object *o = &model->objects[number];
    struct stored *s = find(b, number);
    if (!s)
        return;
    bool is_whole = true;
    for (uint32_t i = 0; i < blocks_of(o); i++)
        is_whole = is_whole && o->has[i];
    struct check_waiter c = {.waiter = {.done = check_done}, .result = 1};
    stored_check(s, &c.waiter);
    while (atomic_load(&c.result) == 1)
        usleep(200);
    check(atomic_load(&c.result) == (is_whole ? 0 : -ENODATA));
    int fd = -1, r = stored_passthrough_fd(s, &fd);
    check(r == (is_whole ? 0 : -ENODATA));
    if (is_whole) {
        static char is[BLOCKS_MAX * BLOCK + 1], should[BLOCKS_MAX * BLOCK];
        ssize_t n = pread(fd, is, sizeof(is), 0);
        check(n == (ssize_t)o->size_bytes);
        fill(stored_version(s), 0, should, (size_t)n);
        check(memcmp(is, should, (size_t)n) == 0);
        close(fd);
    }
    stored_unref(s);
}

static void op_pin(struct block_store *b, int number)
{
    struct stored *s = find(b, number);
    bool is_pinned = below(2);
    if (s && stored_pin(s, is_pinned) == 0)
        model->objects[number].is_pinned = is_pinned;
    stored_unref(s);
}

static void op_evict(struct block_store *b, int number)
{
    (void)number;
    model->busy = ANY;
    int gone = 0;
    bool is_evicted = store_evict_one(b);
    for (int i = 0; i < OBJECTS; i++) {
        struct model_object *o = &model->objects[i];
        struct stored *s = find(b, i);
        if (!s && o->exists) {
            check(!o->is_pinned);
            o->exists = false;
            gone++;
        }
        stored_unref(s);
    }
    check(gone == is_evicted);
}

static void (*const operations[])(struct block_store *b, int number) = {
    op_create, op_create, op_write, op_write,       op_write, op_write,
    op_read,   op_read,   op_drop,  op_flip,        op_flip,  op_passthrough,
    op_pin,
};

static void compare_blocks(struct block_store *b, int number)
{
    const struct model_object *o = &model->objects[number];
    struct stored *s = find(b, number);
    check((s != NULL) == o->exists);
    for (uint32_t i = 0; s && i < blocks_of(o); i++)
        check(stored_has(s, i) == o->has[i]);
    stored_unref(s);
}

static void step(struct block_store *b, bool may_evict)
{
    int number = (int)below(OBJECTS);
    uint32_t which = below(sizeof(operations) / sizeof(*operations));
    compare_blocks(b, number);
    model->busy = number;
    if (may_evict && below(40) == 0)
        op_evict(b, number);
    else
        operations[which](b, number);
    compare_blocks(b, number);
    model->busy = NONE;
    model->steps++;
}

// ---- lives

// Nobody has anything open: maps are torn as a power loss may tear them.
static void tear_a_map(void)
{
    int number = (int)below(OBJECTS);
    struct artifact a;
    struct stat st;
    const char *path = file_of(artifact_now(&a, number), STORE_MAP);
    if (!model->objects[number].exists || stat(path, &st) < 0)
        return;
    int r = truncate(path, (off_t)below((uint32_t)st.st_size + 1));
    check(r == 0);
    model->busy = number;
}

// Or data was lost that marks say is there.
static void lose_data(void)
{
    int number = (int)below(OBJECTS);
    struct artifact a;
    const struct model_object *o = &model->objects[number];
    cleanup(cleanup_close) int fd =
        open(file_of(artifact_now(&a, number), STORE_DATA), O_RDWR | O_CLOEXEC);
    if (fd < 0 || o->size_bytes == 0)
        return;
    uint64_t from = below((uint32_t)o->size_bytes), n = 1 + below(5 * BLOCK);
    int r = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)n);
    check(r == 0);
    model->busy = number;
}

static struct block_store *store_of_life(void)
{
    struct block_store_options o = usual_options();
    o.limit_bytes = 1024 * MIB;
    o.pin_limit_bytes = 1024 * MIB;
    return opened_with(&o);
}

static void live(uint32_t fatal_effect)
{
    struct block_store *b = store_of_life();
    wait_until_counted(b); // so that the countdown is of the history's effects only
    store_faults.effects =
        STORE_EFFECT_OPEN | STORE_EFFECT_READ | STORE_EFFECT_WRITE | STORE_EFFECT_NAME;
    atomic_store(&store_faults.countdown, fatal_effect ? (int)fatal_effect : -1);
    for (int i = 0; i < steps_a_life; i++)
        step(b, true);
    atomic_store(&store_faults.countdown, -1);
    block_store_close(b);
}

// A life in a process of its own. Whether it was killed.
static bool live_apart(uint32_t fatal_effect)
{
    fflush(NULL);
    pid_t child = fork();
    check(child >= 0);
    if (child == 0) {
        live(fatal_effect);
        _exit(0);
    }
    int status;
    pid_t r = waitpid(child, &status, 0);
    check(r == child);
    bool is_killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    assert_true(is_killed || (WIFEXITED(status) && WEXITSTATUS(status) == 0));
    return is_killed;
}

static void whatever_happens_no_byte_is_wrong_and_nothing_is_lost(void **state)
{
    const char *seed = getenv("BUTLERFS_MODEL_SEED"), *steps = getenv("BUTLERFS_MODEL_STEPS");
    model = mmap(NULL, sizeof(*model), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(model != MAP_FAILED);
    model->random = 88172645463325252u + (seed ? strtoull(seed, NULL, 10) * 2654435761u : 0);
    model->busy = NONE;
    steps_a_life = steps ? atoi(steps) : steps_a_life;
    log_level_set(LOG_LEVEL_ERROR);
    int killed = 0;
    for (int life = 0; life < LIVES; life++) {
        killed += live_apart(below(4) == 0 ? 0 : 1 + below(1200));
        if (model->busy == NONE && below(2) == 0)
            below(2) ? tear_a_map() : lose_data();
        int loose = model->busy;
        struct block_store *b = store_of_life();
        if (below(2))
            wait_until_counted(b);
        compare_all(b, loose);
        wait_until_counted(b); // a summary may name what was lost; who looks for it finds out
        compare_all(b, NONE);
        for (int i = 0; i < OBJECTS; i++) // counted as it is
            assert_int_equal(store_index_find(&b->index, artifact(i, 0, 0)->version.identity) != 0,
                             model->objects[i].exists);
        block_store_close(b);
        model->busy = NONE;
    }
    print_message("%llu steps, %d of %d lives killed\n", (unsigned long long)model->steps, killed,
                  LIVES);
    assert_true(killed > LIVES / 4 && killed < LIVES);
    munmap(model, sizeof(*model));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_in_folder(whatever_happens_no_byte_is_wrong_and_nothing_is_lost),
    };
    return run_group(tests);
}
