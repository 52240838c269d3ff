// SPDX-License-Identifier: BSD-3-Clause
#include "tests/unit/base/harness.h"

#include <errno.h>
#include <pthread.h>
#include <regex.h>
#include <sys/mman.h>

#include "base/log.h"

static int real_stderr;
static int captured; // a memfd that stands for stderr

static int begin_capture(void **state)
{
    real_stderr = dup(STDERR_FILENO);
    captured = memfd_create("stderr", MFD_CLOEXEC);
    fcntl(captured, F_SETFL, O_APPEND);
    dup2(captured, STDERR_FILENO);
    return 0;
}

static int end_capture(void **state)
{
    dup2(real_stderr, STDERR_FILENO);
    close(real_stderr);
    close(captured);
    log_level_set(LOG_LEVEL_INFO);
    log_open(LOG_TO_STDERR, "butlerfs");
    log_request_set(0);
    return 0;
}

static char *written(void)
{
    static char content[1 << 20];
    ssize_t n = pread(captured, content, sizeof(content) - 1, 0);
    assert_true(n >= 0);
    content[n] = 0;
    return content;
}

static void assert_written(const char *pattern)
{
    regex_t compiled;
    assert_int_equal(regcomp(&compiled, pattern, REG_EXTENDED | REG_NOSUB), 0);
    int result = regexec(&compiled, written(), 0, NULL, 0);
    regfree(&compiled);
    if (result)
        fail_msg("`%s` does not match `%s`", written(), pattern);
}

static void a_line_has_time_program_level_and_request(void **state)
{
    log_request_set(42);
    log_warn("message %d", 7);
    assert_written("^20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z "
                   "butlerfs\\[[0-9]+\\] warn r=42: message 7\n$");
}

static void a_line_of_no_request_names_none(void **state)
{
    log_open(LOG_TO_STDERR, "butlerfs-supervisor");
    log_error("message");
    assert_written("Z butlerfs-supervisor\\[[0-9]+\\] error: message\n$");
}

static void lines_above_the_level_are_not_written(void **state)
{
    log_debug("quiet");
    assert_string_equal(written(), "");
    log_level_set(LOG_LEVEL_DEBUG);
    log_debug("loud");
    assert_written(" debug: loud\n$");
    log_level_set(LOG_LEVEL_ERROR);
    log_warn("quiet");
    assert_null(strstr(written(), "quiet"));
}

static void a_message_cannot_forge_a_line(void **state)
{
    log_info("%s", "a\nb\tc\033[2J\177d\xc2\x85" "e\xc3\xa9");
    assert_written("info: a\\?b\\?c\\?\\[2J\\?d\\?\\?e\xc3\xa9\n$");
    assert_ptr_equal(strchr(written(), '\n')[1] ? NULL : written(), written());
}

static void a_long_message_is_cut_to_one_line_of_4096_bytes(void **state)
{
    char message[10000];
    memset(message, 'x', sizeof(message) - 1);
    message[sizeof(message) - 1] = 0;
    log_info("%s", message);
    assert_true(strlen(written()) <= 4096);
    assert_written("xxx\\.\\.\\.\n$");
}

static void errno_is_kept_and_may_be_written(void **state)
{
    errno = ENOENT;
    log_info("%m");
    assert_int_equal(errno, ENOENT);
    assert_written("No such file or directory\n$");
}

static void a_line_for_the_system_is_not_written_to_stderr(void **state)
{
    log_open(LOG_TO_SYSTEM, "butlerfs-test");
    log_info("a line of butlerfs's unit test");
    assert_string_equal(written(), "");
}

static void levels_have_names_that_are_read_back(void **state)
{
    for (int i = LOG_LEVEL_ERROR; i <= LOG_LEVEL_DEBUG; i++) {
        enum log_level level;
        assert_int_equal(log_level_parse(log_level_name(i), &level), 0);
        assert_int_equal(level, i);
    }
    enum log_level level;
    assert_int_equal(log_level_parse("loud", &level), -EINVAL);
    assert_int_equal(log_level_parse("", &level), -EINVAL);
}

static void *write_lines(void *argument)
{
    log_request_set((uint64_t)(uintptr_t)argument);
    for (int i = 0; i < 500; i++)
        log_info("from %d", (int)(uintptr_t)argument);
    return NULL;
}

static void lines_of_threads_do_not_mix(void **state)
{
    pthread_t threads[4];
    for (uintptr_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_lines, (void *)(i + 1)), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    int lines = 0;
    for (char *line = strtok(written(), "\n"); line; line = strtok(NULL, "\n"), lines++) {
        int request, from, length;
        const char *tail = strstr(line, "info r=");
        assert_non_null(tail);
        assert_int_equal(sscanf(tail, "info r=%d: from %d%n", &request, &from, &length), 2);
        assert_int_equal(request, from);
        assert_int_equal(tail[length], 0);
    }
    assert_int_equal(lines, 2000);
}

static void a_failed_check_aborts(void **state)
{
    check(1 + 1 == 2);
    assert_aborts(check(1 + 1 == 3));
}

#define captured_test(f) cmocka_unit_test_setup_teardown(f, begin_capture, end_capture)

int main(void)
{
    const struct CMUnitTest tests[] = {
        captured_test(a_line_has_time_program_level_and_request),
        captured_test(a_line_of_no_request_names_none),
        captured_test(lines_above_the_level_are_not_written),
        captured_test(a_message_cannot_forge_a_line),
        captured_test(a_long_message_is_cut_to_one_line_of_4096_bytes),
        captured_test(errno_is_kept_and_may_be_written),
        captured_test(a_line_for_the_system_is_not_written_to_stderr),
        captured_test(levels_have_names_that_are_read_back),
        captured_test(lines_of_threads_do_not_mix),
        captured_test(a_failed_check_aborts),
    };
    return run_group(tests);
}
