// SPDX-License-Identifier: BSD-3-Clause
// credentials_internal: what credentials*.c share; others use credentials.h.
#pragma once
#include "base/lock.h"
#include "cache/origin/credentials.h"
#include "cache/origin/internal.h"

enum credentials_kind {
    CREDENTIALS_NONE,      // looked for and not found; asked of the instance first, if that is allowed
    CREDENTIALS_ANONYMOUS,
    CREDENTIALS_GIVEN,
    CREDENTIALS_FILE,
    CREDENTIALS_PROCESS,
    CREDENTIALS_CONTAINER,
    CREDENTIALS_INSTANCE,
    CREDENTIALS_WEB_IDENTITY,
};

struct credentials {
    // Does not change.
    enum credentials_kind kind;
    struct fetchers *fetchers;
    char *profile;           // FILE, PROCESS
    char *credentials_path;  // of the file that is read again; or NULL
    char *config_path;
    char *command;           // PROCESS
    char **environment;      // PROCESS: the child's
    char *url;               // CONTAINER, INSTANCE, WEB_IDENTITY: whom to ask
    char *token;             // CONTAINER: what to show, or NULL
    char *token_path;        // CONTAINER, WEB_IDENTITY: likewise, read each time; or NULL
    char *role;              // WEB_IDENTITY
    char *session;
    _Atomic uint32_t references;          // its owner's and its thread's
    _Atomic bool is_ending;               // the owner has closed it
    // Under the lock.
    struct lock lock;
    pthread_cond_t changed;
    struct credential_set *set;           // or NULL
    bool is_refused;                      // by the server, and others are asked for
    char *why;                            // there are none now
    int64_t again_ns;                     // nobody is asked before
    bool is_wanted;                       // by the thread: fetch them
    bool has_thread;
    struct credentials_waiter *waiters;
};

// Fetches a set: by the credentials' own thread, may wait. -errno with *ret_why.
int credentials_fetch(struct credentials *c, struct credential_set **ret_set, char **ret_why);
// What the files say for the profile now. -ENOENT: no keys there.
int credentials_read_files(const struct credentials *c, struct credential_set **ret_set, char **ret_why);
// A whole file of at most INI_BYTES_MAX bytes, appended. -errno.
// *ret_is_own: nobody but root and the process's user can have written it.
int file_read(const char *path, struct buffer *to, bool *ret_is_own);

// One small request and its answer, waited for: by threads that may. 0: the answer was 2xx. -errno with *ret_why.
struct http_question {
    const char *url;
    bool is_put;
    struct text fields;      // "Name: value\0" repeated
    int64_t limit_ns;
};
int http_wait(struct fetchers *fetchers, const struct http_question *q, struct buffer *to, char **ret_why);
// Runs a command and collects what it writes, until its end, the limit, or *gives_up. -errno with *ret_why.
struct process_question {
    const char *command;
    char *const *environment;
    int64_t limit_ns;
    const _Atomic bool *gives_up;
};
int process_wait(const struct process_question *q, struct buffer *to, char **ret_why);
