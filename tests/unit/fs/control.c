// SPDX-License-Identifier: BSD-3-Clause
#include "tests/unit/base/harness.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "fs/control.h"

#define OWNER 1234

static int run_echo(const struct doc *request, struct doc *reply, void *context)
{
    struct text said = doc_text(doc_get(request, "word"), TEXT("nothing"));
    doc_put(reply, "word", doc_new_text(said));
    *(int *)context += 1;
    return 0;
}

static int run_fail(const struct doc *request, struct doc *reply, void *context)
{
    (void)request, (void)reply, (void)context;
    return -EROFS;
}

static int run_explain(const struct doc *request, struct doc *reply, void *context)
{
    (void)request, (void)context;
    doc_put_text(reply, "error", "the moon is in the way");
    return -EBUSY;
}

static int run_at(struct op *op, const struct doc *request, struct doc *reply)
{
    doc_put_bool(reply, "was_at", op != NULL);
    return doc_get(request, "wait") ? -EINPROGRESS : 0;
}

static const struct control_verb verbs[] = {
    {"echo", CONTROL_ANYONE, "", run_echo, NULL},
    {"order", CONTROL_ADMIN, "", run_echo, NULL},
    {"fail", CONTROL_ANYONE, "", run_fail, NULL},
    {"explain", CONTROL_ANYONE, "", run_explain, NULL},
    {"at", CONTROL_ANYONE, "", NULL, run_at},
    {NULL, CONTROL_ADMIN, NULL, NULL, NULL},
};

static struct doc *answer_to(uid_t caller, struct text request)
{
    int count = 0;
    BUFFER_CLEANUP reply = {};
    struct doc *d = NULL;
    assert_int_equal(control_answer(verbs, &count, &(struct control_caller){caller, OWNER, NULL}, request, &reply), 0);
    assert_int_equal(doc_parse_json(buffer_text(&reply), &d, NULL), 0);
    assert_int_equal(doc_kind(d), DOC_MAP);
    assert_int_equal(doc_kind(doc_get(d, "ok")), DOC_BOOL);
    return d;
}

static void a_verb_about_a_path_is_asked_through_the_mount_and_may_have_to_wait(void **state)
{
    cleanup(cleanup_doc_free) struct doc *d = answer_to(0, TEXT("{\"verb\": \"at\"}"));
    assert_false(doc_bool(doc_get(d, "ok"), true));
    assert_int_equal(doc_integer(doc_get(d, "errno"), 0), EOPNOTSUPP);
    struct control_caller caller = {1, OWNER, (struct op *)&d}; // nobody looks inside
    BUFFER_CLEANUP reply = {};
    assert_int_equal(control_answer(verbs, NULL, &caller, TEXT("{\"verb\": \"at\", \"wait\": 1}"), &reply),
                     -EINPROGRESS);
    assert_int_equal(reply.size_bytes, 0);
    assert_int_equal(control_answer(verbs, NULL, &caller, TEXT("{\"verb\": \"at\"}"), &reply), 0);
    assert_string_equal(reply.data, "{\"was_at\":true,\"ok\":true}");
}

static void assert_refused(uid_t caller, const char *request, const char *word)
{
    cleanup(cleanup_doc_free) struct doc *d = answer_to(caller, text_of(request));
    assert_false(doc_bool(doc_get(d, "ok"), true));
    struct text error = doc_text(doc_get(d, "error"), TEXT(""));
    cleanup(cleanup_free) char *line = memory_copy(error.data, error.size_bytes);
    if (!strstr(line, word))
        fail_msg("\"%s\" is not in: %s", word, line);
}

static void assert_done(uid_t caller, const char *request)
{
    cleanup(cleanup_doc_free) struct doc *d = answer_to(caller, text_of(request));
    assert_true(doc_bool(doc_get(d, "ok"), false));
}

static void a_verb_is_found_and_its_answer_says_ok(void **state)
{
    (void)state;
    cleanup(cleanup_doc_free) struct doc *d = answer_to(1, TEXT("{\"verb\": \"echo\", \"word\": \"x\"}"));
    assert_true(doc_bool(doc_get(d, "ok"), false));
    assert_true(text_equal(doc_text(doc_get(d, "word"), TEXT("")), TEXT("x")));
}

static void what_is_no_request_is_answered_too(void **state)
{
    (void)state;
    assert_refused(0, "", "");
    assert_refused(0, "{", "");
    assert_refused(0, "[1]", "verb");
    assert_refused(0, "{}", "verb");
    assert_refused(0, "{\"verb\": 1}", "verb");
    assert_refused(0, "{\"verb\": \"dance\"}", "no such verb");
}

static void only_root_and_who_mounted_may_give_orders(void **state)
{
    (void)state;
    assert_done(0, "{\"verb\": \"order\"}");
    assert_done(OWNER, "{\"verb\": \"order\"}");
    assert_refused(OWNER + 1, "{\"verb\": \"order\"}", "root");
    assert_done(OWNER + 1, "{\"verb\": \"echo\"}");
}

static void a_verb_that_fails_has_its_own_words_or_the_errnos(void **state)
{
    (void)state;
    assert_refused(0, "{\"verb\": \"fail\"}", "Read-only");
    assert_refused(0, "{\"verb\": \"explain\"}", "moon");
}

static void the_sockets_path_is_by_owner_and_device(void **state)
{
    (void)state;
    char path[128];
    control_socket_path(41, 0, path, sizeof path);
    assert_string_equal(path, "/run/butlerfs/0:41");
    control_socket_path(41, 4000000001, path, sizeof path);
    assert_string_equal(path, "/tmp/butlerfs-4000000001/0:41");
}

// ---- the socket -------------------------------------------------------------------------------

struct served {
    char folder[64];
    char path[96];
    int listen_fd, count;
    struct control *control;
};

static int serve(void **state)
{
    struct served *s = calloc(1, sizeof *s);
    char *reason = NULL;
    strcpy(s->folder, "/tmp/butlerfs-control-XXXXXX");
    assert_non_null(mkdtemp(s->folder));
    snprintf(s->path, sizeof s->path, "%s/0:41", s->folder);
    assert_int_equal(control_listen(s->path, &s->listen_fd, &reason), 0);
    assert_int_equal(control_start(s->listen_fd, geteuid(), verbs, &s->count, &s->control), 0);
    *state = s;
    return 0;
}

static int serve_no_more(void **state)
{
    struct served *s = *state;
    control_stop(s->control);
    close(s->listen_fd);
    unlink(s->path);
    int r = rmdir(s->folder);
    free(s);
    return r;
}

static int reach(const struct served *s)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, s->path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void read_all(int fd, struct buffer *answer)
{
    char piece[256];
    for (ssize_t n; (n = read(fd, piece, sizeof piece)) > 0;)
        buffer_append(answer, piece, (size_t)n);
    close(fd);
}

static void assert_answered(int fd, const char *expected)
{
    BUFFER_CLEANUP answer = {};
    read_all(fd, &answer);
    assert_non_null(answer.data);
    if (!strstr(answer.data, expected))
        fail_msg("\"%s\" is not in: %s", expected, answer.data);
    assert_int_equal(answer.data[answer.size_bytes - 1], '\n');
}

static void a_line_is_answered_by_a_line_whether_it_comes_in_pieces_or_not(void **state)
{
    int fd = reach(*state);
    const char *line = "{\"verb\":\"echo\",\"word\":\"slow\"}\n";
    for (const char *p = line; *p; p++)
        assert_int_equal(write(fd, p, 1), 1);
    assert_answered(fd, "slow");
    fd = reach(*state);
    assert_true(write(fd, line, strlen(line) - 1) > 0);
    shutdown(fd, SHUT_WR);
    assert_answered(fd, "slow");
}

static void who_says_nothing_or_goes_away_does_not_stop_the_others(void **state)
{
    int silent = reach(*state), gone = reach(*state), fd = reach(*state);
    close(gone);
    assert_true(write(fd, "{\"verb\":\"echo\"}\n", 16) > 0);
    assert_answered(fd, "\"ok\":true");
    BUFFER_CLEANUP nothing = {};
    read_all(silent, &nothing);
    assert_int_equal(nothing.size_bytes, 0);
}

static void a_request_without_end_is_refused(void **state)
{
    int fd = reach(*state);
    char piece[4096];
    memset(piece, ' ', sizeof piece);
    for (int i = 0; i < 17; i++)
        if (send(fd, piece, sizeof piece, MSG_NOSIGNAL) < 0)
            break;
    BUFFER_CLEANUP answer = {};
    read_all(fd, &answer);
    // The rest that it never read may take the answer with it.
    assert_true(answer.size_bytes == 0 || strstr(answer.data, "64 KiB"));
}

static void the_socket_is_the_administrators(void **state)
{
    struct served *s = *state;
    struct stat st;
    assert_int_equal(stat(s->path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void a_folder_that_others_can_write_is_refused(void **state)
{
    struct served *s = *state;
    char *reason = NULL;
    char other[128];
    int fd = -1;
    snprintf(other, sizeof other, "%s/1:1", s->folder);
    assert_int_equal(chmod(s->folder, 0777), 0);
    assert_int_equal(control_listen(other, &fd, &reason), -EPERM);
    assert_non_null(strstr(reason, s->folder));
    free(reason);
}

static void a_socket_that_nobody_reaches_can_be_served(void **state)
{
    (void)state;
    struct control *c = NULL;
    int fd = control_listen_nowhere();
    assert_true(fd >= 0);
    assert_int_equal(control_start(fd, 0, verbs, NULL, &c), 0);
    control_stop(c);
    close(fd);
}

#define when_served(f) cmocka_unit_test_setup_teardown(f, serve, serve_no_more)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_verb_is_found_and_its_answer_says_ok),
        cmocka_unit_test(what_is_no_request_is_answered_too),
        cmocka_unit_test(only_root_and_who_mounted_may_give_orders),
        cmocka_unit_test(a_verb_that_fails_has_its_own_words_or_the_errnos),
        cmocka_unit_test(a_verb_about_a_path_is_asked_through_the_mount_and_may_have_to_wait),
        cmocka_unit_test(the_sockets_path_is_by_owner_and_device),
        when_served(a_line_is_answered_by_a_line_whether_it_comes_in_pieces_or_not),
        when_served(who_says_nothing_or_goes_away_does_not_stop_the_others),
        when_served(a_request_without_end_is_refused),
        when_served(the_socket_is_the_administrators),
        when_served(a_folder_that_others_can_write_is_refused),
        cmocka_unit_test(a_socket_that_nobody_reaches_can_be_served),
    };
    return run_group(tests);
}
