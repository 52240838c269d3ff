// SPDX-License-Identifier: BSD-3-Clause
// harness: what base's unit tests share. cmocka wants its four headers before its own.
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

// The statement ends the process by abort(): tried in a child whose stderr nobody sees.
#define assert_aborts(statement)                                                                   \
    do {                                                                                           \
        pid_t child_ = fork();                                                                     \
        assert_true(child_ >= 0);                                                                  \
        if (child_ == 0) {                                                                         \
            dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDERR_FILENO);                          \
            statement;                                                                             \
            _exit(0);                                                                              \
        }                                                                                          \
        int status_;                                                                               \
        assert_int_equal(waitpid(child_, &status_, 0), child_);                                    \
        assert_true(WIFSIGNALED(status_) && WTERMSIG(status_) == SIGABRT);                         \
    } while (0)

#define run_group(tests) cmocka_run_group_tests_name(__BASE_FILE__, tests, NULL, NULL)
