// SPDX-License-Identifier: BSD-3-Clause
// daemon.c: start, serve, end. The order of starting matters: the state first (it says whether this is
// a first life), then the sources, then the session, whose workers answer what the kernel resends.
#include "fs/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/queue.h"
#include "cache/fetcher.h"
#include "fs/control.h"
#include "fs/fs.h"
#include "fs/mount.h"
#include "fs/origins.h"
#include "fs/parking.h"
#include "fs/privilege.h"
#include "fs/quota.h"
#include "fs/space/space.h"
#include "fs/state_home.h"
#include "fs/status.h"
#include "fs/why.h"
#include "meta/catalogue.h"

struct daemon {
    const struct options *options;
    struct fs fs;
    struct catalogue *catalogue;
    struct control *control;
    struct status_context status;
    pthread_t signals;
};

// ---- checking before the mount ----------------------------------------------------------------

static int butler_check(struct fetchers *fetchers, const struct options *o, const struct space_options *s,
                        char **ret_why)
{
    struct space_reader reader;
    struct repository_index index = {o->repository_index, o->repositories, &reader.reader};
    struct repository_config *config = NULL;
    struct registry *registry = NULL;
    BUFFER_CLEANUP login_file = {0};
    space_reader_init(&reader, fetchers, o, s);
    int r = repository_config_read(s->source, &index, &config, ret_why);
    if (r == 0)
        config->database_login = space_login(s, &login_file);
    if (r == 0)
        r = space_check_datastores(fetchers, o, s, config, ret_why);
    if (r == 0)
        r = registry_open(config, o->timeout_ns < 5 * NS_PER_S ? o->timeout_ns : 5 * NS_PER_S, &registry,
                          ret_why);
    if (registry)
        registry_close(registry);
    repository_config_free(config);
    space_reader_release(&reader);
    return r;
}

static int source_check(struct fetchers *fetchers, const struct options *o, const struct space_options *s,
                        char **ret_why)
{
    switch (s->kind) {
    case SPACE_S3:
        return space_check_s3(fetchers, o, s, ret_why);
    case SPACE_HOME:
    case SPACE_GROUP:
        return space_check_home(s, ret_why);
    default:
        return butler_check(fetchers, o, s, ret_why);
    }
}

int daemon_check(const struct options *o, char **ret_why)
{
    cleanup(cleanup_fetchers_free) struct fetchers *fetchers = NULL; // gone again before anything is forked
    if (o->log_level < LOG_LEVEL_DEBUG)
        log_level_set(LOG_LEVEL_ERROR); // one line says it, and it is the caller's
    int r = space_fetchers_new(o, 1, &fetchers);
    if (r < 0)
        return why(ret_why, r, "threads can't be started: %s", strerror(-r));
    for (uint32_t i = 0; r >= 0 && i < o->space_count; i++)
        r = source_check(fetchers, o, &o->spaces[i], ret_why);
    return r;
}

// ---- starting -------------------------------------------------------------------------------

// In the first life the person who mounts is waiting for this line, later nobody is.
static int start_failed(const struct options *o, char *why)
{
    if (o->life <= 1)
        fprintf(stderr, "butlerfs: %s\n", why);
    else
        log_error("%s", why);
    free(why);
    return DAEMON_EXIT_FAILED;
}

// A file that is being written takes one of our descriptors; who writes must not see our limit (EMFILE). Root
// may go as far as the kernel does.
static void limits_raise(void)
{
    struct rlimit l;
    unsigned long long most = 0;
    FILE *f = geteuid() == 0 ? fopen("/proc/sys/fs/nr_open", "re") : NULL;
    if (f && fscanf(f, "%llu", &most) == 1)
        setrlimit(RLIMIT_NOFILE, &(struct rlimit){most, most});
    if (f)
        fclose(f);
    if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < l.rlim_max) {
        l.rlim_cur = l.rlim_max;
        setrlimit(RLIMIT_NOFILE, &l);
    }
}

static void fs_prepare(struct daemon *d)
{
    const struct options *o = d->options;
    struct fs *fs = &d->fs;
    fs->options = o;
    fs->start_ns = clock_unix_ns();
    fs->can_change_ids = privilege_can_change_ids();
    fs->archives = archives_new(&ARCHIVES_LIMITS_STANDARD);
    lock_init(&fs->handles_lock, LOCK_RANK_HANDLE, "handles");
    if (!o->passthrough)
        fs->passthrough_why = "it was turned off (passthrough=off)";
    else if (!privilege_can_passthrough())
        fs->passthrough_why = "it needs CAP_SYS_ADMIN outside any container";
    else
        fs->can_passthrough = true;
}

static int spaces_open(struct daemon *d, char **ret_why)
{
    const struct options *o = d->options;
    struct fs *fs = &d->fs;
    uint16_t first = o->is_configured;
    fs->spaces = memory_new((o->space_count + first) * sizeof *fs->spaces);
    if (first)
        fs->spaces[fs->space_count++] = space_new_root(fs);
    for (uint32_t i = 0; i < o->space_count; i++) {
        const struct space_options *s = &o->spaces[i];
        struct space **space = &fs->spaces[fs->space_count];
        uint16_t number = (uint16_t)(first + i);
        int r = space_can_write(s)    ? space_open_home(fs, number, s, space, ret_why)
                : s->kind == SPACE_S3 ? space_open_s3(fs, number, s, d->catalogue, space, ret_why)
                                      : space_open_butler(fs, number, s, d->catalogue, space, ret_why);
        if (r < 0)
            return r;
        fs->space_count++;
    }
    state_root(fs->state, 0, STATE_ROOT);
    return 0;
}

// Where bytes come from and where they are kept: before the spaces, which use both.
static int bytes_open(struct daemon *d, char **ret_why)
{
    const struct options *o = d->options;
    struct buffer folder = {0};
    struct cache_options c = CACHE_OPTIONS_STANDARD;
    int r = space_fetchers_new(o, o->fetcher_count, &d->fs.fetchers);
    if (r < 0)
        return why(ret_why, r, "the fetchers' threads can't be started: %s", strerror(-r));
    buffer_format(&folder, "%s/objects", o->cache_dir);
    c.folder = o->cache_size_bytes ? folder.data : NULL;
    c.limit_bytes = (uint64_t)o->cache_size_bytes;
    c.limit_objects = o->cache_files;
    c.reserve_bytes = (uint64_t)o->cache_reserve_bytes;
    c.pin_limit_bytes = (uint64_t)o->cache_pinned_bytes;
    c.scrub_bytes_per_s = (uint64_t)o->cache_scrub_bytes;
    c.memory_bytes = (uint64_t)o->memory_bytes;
    c.window_bytes = (uint64_t)o->readahead_bytes;
    c.folder_bytes = (uint64_t)o->folder_ahead_bytes;
    c.flights = o->connections;
    c.limit_ns = o->timeout_ns;
    c.recalls = o->recall_limit;
    c.recall_wait_ns = o->recall_wait_ns;
    d->fs.cache = cache_new(&c);
    buffer_clear(&folder);
    buffer_format(&folder, "%s/uploads", o->cache_dir);
    d->fs.uploads = uploads_new(&(struct uploads_options){.folder = folder.data,
                                                          .memory_bytes = (uint64_t)o->upload_memory_bytes,
                                                          .part_bytes = (uint64_t)o->upload_part_bytes});
    buffer_release(&folder);
    return 0;
}

static int sources_open(struct daemon *d, char **ret_why)
{
    const struct options *o = d->options;
    char *line = NULL;
    if (o->life <= 1 && !catalogue_check_seal(o->cache_dir))
        log_info("catalogue %s: changed since, or not left in order: starting empty", o->cache_dir);
    int r = catalogue_open(o->cache_dir, o->catalogue_size_bytes, &d->catalogue, &line);
    if (r < 0) {
        *ret_why = line;
        return r;
    }
    if (line)
        log_warn("%s", line);
    free(line);
    r = bytes_open(d, ret_why);
    if (r >= 0)
        r = spaces_open(d, ret_why);
    if (r >= 0)
        r = quota_open(&d->fs, ret_why);
    for (uint16_t i = 0; r >= 0 && i < d->fs.space_count; i++)
        if (d->fs.spaces[i]->ops->start) {
            r = d->fs.spaces[i]->ops->start(d->fs.spaces[i]);
            if (r < 0)
                return why(ret_why, r, "%s: %s", d->fs.spaces[i]->options->source, strerror(-r));
        }
    return r;
}

static void handle_adopt(uint64_t fh, const struct handle *h, void *context)
{
    struct fs *fs = context;
    uint16_t number = state_space(fs->state, h->node);
    if (number < fs->space_count && fs->spaces[number]->ops->adopt)
        fs->spaces[number]->ops->adopt(fs->spaces[number], fh, h);
}

static int idle_backing_close(struct file_node *n, void *context)
{
    struct fs *fs = context;
    if (n->backing_id)
        session_backing_close(fs->session, n->backing_id);
    n->backing_id = 0;
    return 0;
}

static bool is_open_home(uint64_t node, void *context)
{
    struct home_node n;
    return state_get_home(((struct fs *)context)->state, node, &n) && n.opens > 0;
}

static int idle_home_close(struct home_node *n, void *context)
{
    struct fs *fs = context;
    if (n->backing_id)
        session_backing_close(fs->session, n->backing_id);
    n->backing_id = 0;
    return 0;
}

// What the last life left: its requests in work are suspects if it crashed, its handles are ours.
static void life_continue(struct daemon *d)
{
    int signal = d->options->last_signal;
    bool was_crash = signal && signal != SIGKILL && signal != SIGTERM && signal != SIGINT;
    state_suspect(d->fs.state, was_crash);
    state_each_idle_file(d->fs.state, idle_backing_close, &d->fs);
    state_each_idle_home(d->fs.state, idle_home_close, &d->fs);
    parking_sort_out(d->fs.parking, is_open_home, &d->fs);
    state_each_handle(d->fs.state, handle_adopt, &d->fs);
}

// ---- signals --------------------------------------------------------------------------------

// SIGTERM: stop reading, finish what is being answered, and let the next life go on.
static void *signals_run(void *argument)
{
    struct daemon *d = argument;
    sigset_t set;
    int signal;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    while (sigwait(&set, &signal) != 0)
        continue;
    log_info("told to stop: finishing %lld requests", (long long)metric_get(METRIC_WAITERS));
    session_stop(d->fs.session);
    return NULL;
}

static void signals_block(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

// ---- serving --------------------------------------------------------------------------------

static void say_ready(struct daemon *d)
{
    bool can_go_on = session_kernel(d->fs.session)->can_resend;
    const char *word = can_go_on ? DAEMON_SAYS_READY : DAEMON_SAYS_READY_ONCE;
    if (send(DAEMON_FD_SUPERVISOR, word, strlen(word), MSG_NOSIGNAL) < 0)
        log_warn("the supervisor does not listen: %s", strerror(errno));
}

// What was closed is written before this life ends, as long as it gets on; the supervisor waits.
static void uploads_end(struct daemon *d)
{
    while (uploads_drain(d->fs.uploads))
        send(DAEMON_FD_SUPERVISOR, DAEMON_SAYS_BUSY, strlen(DAEMON_SAYS_BUSY), MSG_NOSIGNAL | MSG_DONTWAIT);
}

static int serve(struct daemon *d)
{
    bool is_unmounted = false;
    fs_settle(&d->fs);
    life_continue(d);
    d->fs.verbs = status_verbs;
    d->fs.verbs_context = &d->status;
    d->status = (struct status_context){
        .fs = &d->fs, .catalogue = d->catalogue, .supervisor_fd = DAEMON_FD_SUPERVISOR};
    lock_init(&d->status.check.lock, LOCK_RANK_LEAF, "cache check");
    lock_init(&d->status.quota_check.lock, LOCK_RANK_LEAF, "quota check");
    int r = control_start(DAEMON_FD_CONTROL, geteuid(), status_verbs, &d->status, &d->control);
    if (r < 0)
        log_warn("no control socket: %s", strerror(-r));
    if (thread_start(&d->signals, "signals", signals_run, d) < 0)
        return DAEMON_EXIT_FAILED;
    pthread_detach(d->signals);
    log_info("%s is served at %s, life %u", d->options->source, d->options->mountpoint,
             d->options->life);
    say_ready(d);
    r = session_serve(d->fs.session, d->options->worker_count, options_can_change(d->options), &is_unmounted);
    if (r < 0)
        return DAEMON_EXIT_FAILED;
    uploads_end(d);
    if (is_unmounted) {
        catalogue_seal(d->catalogue);
        quota_close(&d->fs);
    }
    log_info(is_unmounted ? "unmounted" : "stopped for the next life");
    return is_unmounted ? DAEMON_EXIT_UNMOUNTED : DAEMON_EXIT_AGAIN;
}

static int daemon_start(struct daemon *d, char **ret_why)
{
    const char *why = NULL;
    int r = state_open(DAEMON_FD_STATE, &d->fs.state, &why);
    if (r < 0) {
        *ret_why = memory_copy(why, strlen(why));
        return r;
    }
    r = sources_open(d, ret_why);
    if (r < 0)
        return r;
    d->fs.park = park_new(&d->fs);
    d->fs.parking = parking_new(DAEMON_FD_PARKING_IN, DAEMON_FD_PARKING_OUT);
    struct session *session = NULL;
    r = session_open(DAEMON_FD_FUSE, d->fs.state, &fs_ops, &d->fs, &session);
    d->fs.session = session;
    if (r < 0) {
        const char *text = "the mount could not be set up with the kernel";
        *ret_why = memory_copy(text, strlen(text));
    }
    return r;
}

static void descriptors_seal(void)
{
    for (int fd = DAEMON_FD_FUSE; fd <= DAEMON_FD_PARKING_OUT; fd++)
        fcntl(fd, F_SETFD, FD_CLOEXEC);
}

int daemon_run(const struct options *o)
{
    static struct daemon daemon; // threads may outlive this frame until the process ends
    struct daemon *d = &daemon;
    char *why = NULL;
    d->options = o;
    log_level_set(o->log_level);
    if (!o->foreground)
        log_open(LOG_TO_SYSTEM, "butlerfs");
    signals_block();
    descriptors_seal();
    limits_raise();
    int r = mount_hide(o->mountpoint);
    if (r < 0)
        log_debug("no mount namespace of its own: %s", strerror(-r));
    r = privilege_reduce(options_can_write(o));
    if (r < 0)
        log_warn("privileges could not be reduced: %s", strerror(-r));
    fs_prepare(d);
    r = daemon_start(d, &why);
    if (r < 0)
        return start_failed(o, why);
    // Parked requests are not answered here: the kernel sends them again to the next life, and after
    // an unmount nobody waits. So nothing is torn down that a thread may still look at.
    return serve(d);
}
