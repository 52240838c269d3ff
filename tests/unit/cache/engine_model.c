// SPDX-License-Identifier: BSD-3-Clause
// Random lives of a cache against a plain reference: which seed an object has now, which one a handle was opened with.
// A read gives that seed's bytes; -ESTALE, but only of a handle whose object was replaced or evicted meanwhile; an
// error of the origin, but only while there is one. Never anything else.
//   BUTLERFS_MODEL_SEED, BUTLERFS_MODEL_STEPS: another, or a longer, life.
#include "tests/unit/cache/world.h"

#include <sys/wait.h>

#define OBJECTS 6
#define HANDLES 8

struct model {
    struct world *world;
    uint64_t random;
    uint64_t puts; // the origin's validators count them
    struct {
        char key[24];
        uint64_t seed, put;
        size_t size_bytes;
    } objects[OBJECTS];
    struct {
        struct cached *handle; // NULL: free
        int object;
        uint64_t seed;
        size_t size_bytes;
        bool may_be_stale;
    } handles[HANDLES];
    bool may_fail;
};

static uint64_t any(struct model *m, uint64_t below)
{
    m->random ^= m->random << 13, m->random ^= m->random >> 7, m->random ^= m->random << 17;
    return m->random % below;
}

static void object_put(struct model *m, int i)
{
    static const size_t sizes[] = {0, 1, 5000, BLOCK, BLOCK + 1, 3 * MIB + 77, 12 * MIB};
    m->objects[i].seed = ++m->puts;
    m->objects[i].put = m->puts;
    m->objects[i].size_bytes = sizes[any(m, sizeof(sizes) / sizeof(*sizes))];
    world_put(m->world, m->objects[i].key, m->objects[i].seed, m->objects[i].size_bytes);
    for (int k = 0; k < HANDLES; k++)
        m->handles[k].may_be_stale |= m->handles[k].object == i;
}

static void model_begin(struct model *m, struct world *w, uint64_t seed)
{
    *m = (struct model){.world = w, .random = seed * 2 + 1};
    for (int i = 0; i < OBJECTS; i++) {
        snprintf(m->objects[i].key, sizeof(m->objects[i].key), "object%d", i);
        object_put(m, i);
    }
}

static void handle_open(struct model *m, int k)
{
    int i = (int)any(m, OBJECTS);
    char validator[32];
    struct object object = object_of(m->world, m->objects[i].key);
    object.fresh_for_ns = 0;
    if (any(m, 2)) { // as a listing has it
        snprintf(validator, sizeof(validator), "\"%llu\"", (unsigned long long)m->objects[i].put);
        object.validator = text_of(validator);
        object.size_bytes = (int64_t)m->objects[i].size_bytes;
        object.seen_unix_ns = clock_steady_unix_ns();
        object.fresh_for_ns = FOR_EVER;
    }
    struct cached *h = NULL;
    int r = open_object(m->world, &object, &h);
    if (r < 0) {
        assert_true(m->may_fail);
        return;
    }
    struct cache_attr a;
    cached_attr(h, &a);
    assert_int_equal(a.size_bytes, m->objects[i].size_bytes);
    m->handles[k].handle = h;
    m->handles[k].object = i;
    m->handles[k].seed = m->objects[i].seed;
    m->handles[k].size_bytes = m->objects[i].size_bytes;
    m->handles[k].may_be_stale = false;
}

static void handle_close(struct model *m, int k)
{
    if (m->handles[k].handle)
        cached_close(m->handles[k].handle);
    m->handles[k].handle = NULL;
}

static void handle_read(struct model *m, int k)
{
    size_t size = m->handles[k].size_bytes, most = any(m, 2) ? 4096 : MIB;
    int64_t offset = (int64_t)any(m, size + 10);
    size_t n = 1 + any(m, most);
    size_t expected = (size_t)offset >= size ? 0 : size - (size_t)offset < n ? size - (size_t)offset : n;
    unsigned char *bytes = memory_new(n);
    ssize_t r = read_at(m->world, m->handles[k].handle, offset, bytes, n);
    if (r == -ESTALE) {
        assert_true(m->handles[k].may_be_stale);
    } else if (r < 0) {
        if (!m->may_fail)
            fail_msg("a read failed: %s", strerror((int)-r));
    } else {
        assert_int_equal(r, expected);
        for (size_t i = 0; i < expected; i++)
            if (bytes[i] != byte_of(m->handles[k].seed, (uint64_t)offset + i))
                fail_msg("byte %zu of %s is wrong", (size_t)offset + i,
                         m->objects[m->handles[k].object].key);
    }
    free(bytes);
}

static void object_evict(struct model *m, int i)
{
    struct object object = object_of(m->world, m->objects[i].key);
    int r = cache_evict(m->world->cache, &object);
    assert_true(r == 0 || r == -ENOENT);
    for (int k = 0; k < HANDLES; k++)
        m->handles[k].may_be_stale |= m->handles[k].object == i;
}

static void object_warm(struct model *m, int k)
{
    struct cache_want want = {0};
    int r;
    while ((r = cached_warm(m->handles[k].handle, false, &want)) == -EINPROGRESS)
        if ((r = wait_for(m->world, &want)) < 0)
            break;
    cache_want_release(&want);
    assert_true(r == 0 || r == -ENOSPC || m->may_fail ||
                (r == -ESTALE && m->handles[k].may_be_stale));
}

static void trouble_begin(struct model *m)
{
    m->may_fail = true; // from now on: it may hit what is read ahead, or nothing for long
    origin_memory_fault(m->world->origin,
                        &(struct origin_memory_fault){.times = 1 + (uint32_t)any(m, 3),
                                                      .countdown = (uint32_t)any(m, 4),
                                                      .error = any(m, 2) ? -EREMOTEIO : -ETIMEDOUT,
                                                      .after_bytes = any(m, 2) ? any(m, MIB) : 0});
}

static void life_ends(struct model *m)
{
    for (int k = 0; k < HANDLES; k++)
        handle_close(m, k);
    world_restart(m->world);
}

static void model_step(struct model *m)
{
    int k = (int)any(m, HANDLES);
    uint64_t what = any(m, 1000);
    if (what < 5) {
        life_ends(m);
    } else if (what < 20) {
        object_put(m, (int)any(m, OBJECTS));
    } else if (what < 30) {
        object_evict(m, (int)any(m, OBJECTS));
    } else if (what < 35) {
        trouble_begin(m);
    } else if (!m->handles[k].handle) {
        handle_open(m, k);
    } else if (what < 50) {
        object_warm(m, k);
    } else if (what < 150) {
        handle_close(m, k);
    } else {
        handle_read(m, k);
    }
}

static uint64_t number_of(const char *variable, uint64_t otherwise)
{
    const char *text = getenv(variable);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

static void live(struct world *w, uint64_t seed)
{
    struct model m;
    model_begin(&m, w, seed);
    uint64_t steps = number_of("BUTLERFS_MODEL_STEPS", 1500);
    for (uint64_t i = 0; i < steps; i++)
        model_step(&m);
    for (int k = 0; k < HANDLES; k++)
        handle_close(&m, k);
}

static void every_read_is_of_its_handles_version(void **state)
{
    live(*state, number_of("BUTLERFS_MODEL_SEED", 1));
}

static void also_with_little_room_on_the_disk(void **state)
{
    struct world *w = *state;
    w->options.limit_bytes = 8 * MIB;
    w->options.limit_objects = 3;
    w->options.idle_objects = 2;
    w->options.memory_bytes = 4 * MIB;
    world_restart(w);
    live(w, number_of("BUTLERFS_MODEL_SEED", 2));
}

static void also_without_a_disk(void **state)
{
    struct world *w = *state;
    w->options.folder = NULL;
    w->options.memory_bytes = 4 * MIB;
    world_restart(w);
    live(w, number_of("BUTLERFS_MODEL_SEED", 3));
}

// ---- lives that are cut short

// Reads at random until it is killed, and says so after a while; the objects are the same in each life. Starts its own world: threads
// don't survive a fork.
static _Noreturn void live_until_killed(const char *folder, uint64_t seed, int says)
{
    void *state;
    if (world_new(&state) != 0)
        _exit(1);
    struct world *w = state;
    cache_free(w->cache);
    rmdir(w->folder);
    strcpy(w->folder, folder);
    world_start(w);
    struct model m;
    model_begin(&m, w, 77);
    m.random = seed;
    for (int step = 0;; step++) {
        if (step == 50 && write(says, "", 1) != 1)
            _exit(1);
        int k = (int)any(&m, HANDLES);
        if (!m.handles[k].handle)
            handle_open(&m, k);
        else if (any(&m, 10) == 0)
            handle_close(&m, k);
        else
            handle_read(&m, k);
    }
}

static void a_kill_at_any_moment_leaves_no_wrong_byte(void **state)
{
    char folder[] = "/tmp/butlerfs-killed-XXXXXX";
    assert_non_null(mkdtemp(folder));
    for (uint64_t life = 1; life <= 8; life++) {
        int pipe_ends[2];
        char byte;
        assert_int_equal(pipe2(pipe_ends, O_CLOEXEC), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0)
            live_until_killed(folder, life * 7919, pipe_ends[1]);
        assert_int_equal(read(pipe_ends[0], &byte, 1), 1);
        usleep((useconds_t)(life * 5000));
        kill(child, SIGKILL);
        close(pipe_ends[0]);
        close(pipe_ends[1]);
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    }
    void *last;
    assert_int_equal(world_new(&last), 0);
    struct world *w = last;
    cache_free(w->cache);
    rmdir(w->folder);
    strcpy(w->folder, folder);
    world_start(w);
    struct model m;
    model_begin(&m, w, 77);
    size_t all = 0;
    for (int i = 0; i < OBJECTS; i++) {
        struct cached *h = opened(w, m.objects[i].key);
        read_through(w, h, m.objects[i].seed, m.objects[i].size_bytes, 300 * KIB);
        all += m.objects[i].size_bytes;
        cached_close(h);
    }
    assert_true(counted(w).bytes < all); // the killed ones' blocks were of use
    world_end(&last);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_kill_at_any_moment_leaves_no_wrong_byte), // first: it forks
        test_in_world(every_read_is_of_its_handles_version),
        test_in_world(also_with_little_room_on_the_disk),
        test_in_world(also_without_a_disk),
    };
    return run_group(tests);
}
