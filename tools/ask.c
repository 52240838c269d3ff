// SPDX-License-Identifier: BSD-3-Clause
// ask: see ask.h.
#include "tools/ask.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "fs/control.h"
#include "fs/mount_table.h"
#include "fs/path.h"
#include "fs/why.h"

#define MOUNT_LIMIT (10 * NS_PER_S) // an upgrade's pause fits in
#define SOCKET_LIMIT (5 * NS_PER_S)
#define TRIES 5

static const struct mount_entry *find_entry(const struct mount_table *t, const char *cwd,
                                            const char *path, char **ret_path)
{
    char *absolute = path_absolute(cwd, path);
    const struct mount_entry *e = mount_table_holding(t, absolute);
    *ret_path = absolute;
    if (e && strcmp(e->type, MOUNT_TYPE) == 0)
        return e;
    // Perhaps by a link; looking for it stops where a mount begins.
    for (uint32_t i = 0; i < t->count; i++) {
        const struct mount_entry *candidate = &t->entries[i];
        if (strcmp(candidate->type, MOUNT_TYPE) != 0)
            continue;
        char *resolved = path_resolve(cwd, path, candidate->mountpoint);
        if (path_is_within(resolved, candidate->mountpoint) && mount_table_holding(t, resolved) == candidate) {
            free(absolute);
            *ret_path = resolved;
            return candidate;
        }
        free(resolved);
    }
    return e;
}

int target_find(const char *path, struct target *ret_target, char **ret_why)
{
    cleanup(mount_table_release) struct mount_table t = {};
    cleanup(cleanup_free) char *cwd = getcwd(NULL, 0);
    cleanup(cleanup_free) char *absolute = NULL;
    int r = mount_table_read(&t);
    if (r < 0)
        return why(ret_why, r, "/proc/self/mountinfo: %s", strerror(-r));
    const struct mount_entry *e = find_entry(&t, cwd ? cwd : "/", path, &absolute);
    if (!e || strcmp(e->type, MOUNT_TYPE) != 0)
        return why(ret_why, -ENOENT, "%s: no butlerfs is mounted there%s%s%s", path,
                   e ? " (it is on the " : "", e ? e->type : "", e ? " mount)" : "");
    *ret_target = (struct target){
        .path = take(absolute),
        .mountpoint = memory_copy(e->mountpoint, strlen(e->mountpoint)),
        .source = memory_copy(e->source, strlen(e->source)),
        .dev = e->dev,
        .owner = e->owner,
    };
    return 0;
}

void target_release(struct target *t)
{
    free(t->path);
    free(t->mountpoint);
    free(t->source);
    *t = (struct target){};
}

// ---- the two ways; they run in a child and may hang --------------------------------------------

// In a child: it may add to the request.
typedef int way(const struct target *t, struct doc *request, struct buffer *answer);

static int open_place(const struct target *t)
{
    int fd = open(t->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 || (errno != ENOTDIR && errno != ENOENT))
        return fd;
    return open(t->mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

// Each page is of an answer made anew: if that one's length is another, from the start.
static int read_pages(int fd, struct text request, struct buffer *answer)
{
    buffer_clear(answer);
    uint32_t total = 0;
    do {
        struct control_ioctl page = {.size_bytes = (uint32_t)request.size_bytes,
                                     .offset_bytes = (uint32_t)answer->size_bytes};
        memcpy(page.text, request.data, request.size_bytes);
        if (ioctl(fd, CONTROL_IOCTL, &page) < 0)
            return -errno;
        if (page.size_bytes > sizeof page.text || (answer->size_bytes > 0 && page.total_bytes != total))
            return -EAGAIN;
        total = page.total_bytes;
        buffer_append(answer, page.text, page.size_bytes);
        if (page.size_bytes == 0)
            break;
    } while (answer->size_bytes < total);
    return answer->size_bytes == total ? 0 : -EAGAIN;
}

static int ask_folder(int fd, const struct doc *request, struct buffer *answer)
{
    BUFFER_CLEANUP line = {};
    doc_write_json(request, false, &line);
    if (line.size_bytes > CONTROL_IOCTL_BYTES)
        return -E2BIG;
    int r = -EAGAIN;
    for (int i = 0; i < TRIES && r == -EAGAIN; i++)
        r = read_pages(fd, buffer_text(&line), answer);
    return r;
}

static int by_mount(const struct target *t, struct doc *request, struct buffer *answer)
{
    cleanup(cleanup_close) int fd = open_place(t);
    return fd < 0 ? -errno : ask_folder(fd, request, answer);
}

// Through the nearest folder that is there: the request gets the `name` in it and what is `below` that.
static int by_nearest(const struct target *t, struct doc *request, struct buffer *answer)
{
    cleanup(cleanup_free) char *path = memory_copy(t->path, strlen(t->path));
    size_t end = strlen(path), name = end, below = end;
    for (;;) {
        cleanup(cleanup_close) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd >= 0) {
            doc_put(request, "name", doc_new_text((struct text){t->path + name, below - name}));
            doc_put_text(request, "below", t->path + below + (t->path[below] == '/'));
            return ask_folder(fd, request, answer);
        }
        char *slash = strrchr(path, '/');
        if ((errno != ENOENT && errno != ENOTDIR && errno != ENAMETOOLONG && errno != ENOTUNIQ) || !slash || end <= strlen(t->mountpoint))
            return -errno;
        below = end;
        end = (size_t)(slash - path);
        name = end + 1;
        path[end ? end : 1] = 0;
    }
}

static int by_socket(const struct target *t, struct doc *request, struct buffer *answer)
{
    BUFFER_CLEANUP line = {};
    doc_write_json(request, false, &line);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    control_socket_path(t->dev, t->owner, address.sun_path, sizeof address.sun_path);
    cleanup(cleanup_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        return -errno;
    if (send(fd, line.data, line.size_bytes, MSG_NOSIGNAL) != (ssize_t)line.size_bytes ||
        shutdown(fd, SHUT_WR) < 0)
        return -errno;
    for (;;) {
        char piece[4096];
        ssize_t n = recv(fd, piece, sizeof piece, 0);
        if (n < 0)
            return -errno;
        if (n == 0)
            return answer->size_bytes ? 0 : -ENODATA;
        buffer_append(answer, piece, (size_t)n);
    }
}

// ---- a way in a child -----------------------------------------------------------------------

static _Noreturn void run_child(way *how, const struct target *t, struct doc *request, int to)
{
    BUFFER_CLEANUP answer = {};
    int32_t r = how(t, request, &answer);
    struct text rest = buffer_text(&answer);
    bool is_sent = write(to, &r, sizeof r) == sizeof r;
    while (r >= 0 && is_sent && rest.size_bytes > 0) {
        ssize_t n = write(to, rest.data, rest.size_bytes);
        is_sent = n > 0;
        rest = text_slice(rest, is_sent ? (size_t)n : 0, rest.size_bytes);
    }
    _exit(0);
}

// Everything up to the end, or the deadline.
static int read_child(int from, int64_t deadline_ns, struct buffer *all)
{
    for (;;) {
        int64_t left_ms = (deadline_ns - clock_ns()) / NS_PER_MS;
        struct pollfd p = {.fd = from, .events = POLLIN};
        char piece[4096];
        if (left_ms <= 0 || poll(&p, 1, (int)left_ms) <= 0)
            return -ETIMEDOUT;
        ssize_t n = read(from, piece, sizeof piece);
        if (n <= 0)
            return n < 0 ? -errno : 0;
        buffer_append(all, piece, (size_t)n);
    }
}

static int try_way(way *how, const struct target *t, struct doc *request, int64_t limit_ns,
                   struct buffer *answer)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    cleanup(cleanup_close) int from = ends[0], to = ends[1];
    pid_t child = fork();
    if (child < 0)
        return -errno;
    if (child == 0)
        run_child(how, t, request, to);
    close(take_fd(&to));
    BUFFER_CLEANUP all = {};
    int r = read_child(from, clock_ns() + limit_ns, &all);
    if (r < 0)
        kill(child, SIGKILL); // if it hangs in the kernel nobody waits for it
    else
        waitpid(child, NULL, 0);
    int32_t result = -EIO;
    if (r >= 0 && all.size_bytes >= sizeof result)
        memcpy(&result, all.data, sizeof result);
    if (r < 0 || result < 0)
        return r < 0 ? r : result;
    buffer_append(answer, all.data + sizeof result, all.size_bytes - sizeof result);
    return 0;
}

static int explain(const struct target *t, int error, char **ret_why)
{
    const char *place = t->mountpoint;
    if (error == -ENOTCONN || error == -ECONNABORTED)
        return why(ret_why, error, "%s: the mount of %s is dead: its daemon ended and could not be started again "
                   "(the system's log says why); `umount %s` and mount it again", place, t->source, place);
    if (error == -ETIMEDOUT)
        return why(ret_why, error, "%s: the daemon of %s (mount %u:%u) does not answer within %lld s", place,
                   t->source, major(t->dev), minor(t->dev), (long long)(MOUNT_LIMIT / NS_PER_S));
    if (error == -EACCES)
        return why(ret_why, error, "%s: not yours to enter: only root and who mounted it may", place);
    return why(ret_why, error, "%s: the daemon of %s can't be asked: %s", place, t->source, strerror(-error));
}

int ask_open(int fd, const struct doc *request, struct doc **ret_answer, char **ret_why)
{
    BUFFER_CLEANUP line = {}, answer = {};
    cleanup(cleanup_free) char *reason = NULL;
    doc_write_json(request, false, &line);
    if (line.size_bytes > CONTROL_IOCTL_BYTES)
        return why(ret_why, -E2BIG, "the request is too long");
    int r = -EAGAIN;
    for (int i = 0; i < TRIES && r == -EAGAIN; i++)
        r = read_pages(fd, buffer_text(&line), &answer);
    if (r == -ENOTTY)
        return why(ret_why, r, "it is not in a mount of butlerfs");
    if (r < 0)
        return why(ret_why, r, "%s", strerror(-r));
    r = doc_parse_json(buffer_text(&answer), ret_answer, &reason);
    return r < 0 ? why(ret_why, r, "an answer that is no JSON: %s", reason ? reason : "") : 0;
}

static int read_answer(const struct target *t, const struct buffer *answer, struct doc **ret_answer, char **ret_why)
{
    cleanup(cleanup_free) char *reason = NULL;
    int r = doc_parse_json(buffer_text(answer), ret_answer, &reason);
    if (r < 0)
        return why(ret_why, r, "%s: an answer that is no JSON: %s", t->mountpoint, reason ? reason : "");
    return 0;
}

int ask(const struct target *t, struct doc *request, struct doc **ret_answer, char **ret_why)
{
    BUFFER_CLEANUP answer = {};
    // The socket first, where it can be reached: asking through the mount is a folder opened, which
    // would be counted in the answer.
    int r = try_way(by_socket, t, request, SOCKET_LIMIT, &answer);
    if (r < 0) {
        buffer_clear(&answer);
        r = try_way(by_mount, t, request, MOUNT_LIMIT, &answer);
    }
    return r < 0 ? explain(t, r, ret_why) : read_answer(t, &answer, ret_answer, ret_why);
}

int ask_about(const struct target *t, struct doc *request, struct doc **ret_answer, char **ret_why)
{
    BUFFER_CLEANUP answer = {};
    int r = try_way(by_nearest, t, request, MOUNT_LIMIT, &answer);
    if (r == -EACCES)
        return why(ret_why, r, "%s: not yours to see", t->path);
    return r < 0 ? explain(t, r, ret_why) : read_answer(t, &answer, ret_answer, ret_why);
}

int ask_opened(int fd, const struct doc *request, struct doc **ret_answer)
{
    BUFFER_CLEANUP answer = {};
    int r = ask_folder(fd, request, &answer);
    return r < 0 ? r : doc_parse_json(buffer_text(&answer), ret_answer, NULL);
}

int ask_mount(const char *path, struct doc *request, struct doc **ret_answer, char **ret_why)
{
    cleanup(cleanup_doc_free) struct doc *answer = NULL;
    cleanup(target_release) struct target t = {};
    int r = target_find(path, &t, ret_why);
    if (r >= 0)
        r = ask(&t, request, &answer, ret_why);
    if (r < 0)
        return r;
    if (!doc_bool(doc_get(answer, "ok"), false)) {
        struct text error = doc_text(doc_get(answer, "error"), TEXT("refused"));
        return why(ret_why, -EPERM, "%s: %.*s", t.mountpoint, (int)error.size_bytes, error.data);
    }
    *ret_answer = take(answer);
    return 0;
}
