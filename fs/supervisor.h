// SPDX-License-Identifier: BSD-3-Clause
// supervisor: the program that stays. It holds what must outlive a daemon (the descriptor of
// /dev/fuse, the memory of state.h, the control socket), starts the daemon, starts it again when it
// dies or is upgraded, and ends when the mount is gone. libc only; it parses nothing but its own
// arguments and talks to nobody but its daemon, in three words (daemon.h).
//
//               ready                 SIGHUP, "upgrade"
//   STARTING ─────────▶ SERVING ───────────────────────▶ UPGRADING
//      ▲  │ died            │ died                           │ died
//      │  ▼                 ▼                                │
//      └─ PAUSING ◀─────────┴────────────────────────────────┘
//   any of them ── SIGTERM, SIGINT ──▶ STOPPING (unmounted; the daemon finishes) ──▶ ENDED
//   any of them ── the mount is gone, or giving up ──▶ ENDED
//
// 1. Nobody who uses the mount hangs for ever: giving up aborts the connection (users get
//    ENOTCONN; the dead mount stays, so that nothing is written below it by mistake).
// 2. A first life that doesn't get ready leaves nothing mounted.
// 3. The supervisor's own death is not the daemon's: it reads the end of its channel, logs it and goes
//    on serving, without a net: its own next death is then the end of the mount (the kernel aborts the
//    connection with the last descriptor).
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum phase {
    PHASE_STARTING,  // a daemon runs, not yet ready; deadline: then it is killed
    PHASE_SERVING,   // a daemon answers the mount; no deadline
    PHASE_UPGRADING, // it was asked to end, to be followed by another; deadline: then it is killed
    PHASE_PAUSING,   // no daemon; deadline: then one is started
    PHASE_STOPPING,  // unmounted; deadline: then the daemon is killed
    PHASE_ENDED,
    PHASE_COUNT
};

#define CRASHES_MAX 30 // within CRASH_WINDOW

struct supervisor {
    // From the command.
    const char *program;     // of its own, by name: an upgrade executes what stands there then
    const char *mountpoint;
    const char *control_path;
    unsigned major_, minor_; // of the mount
    bool is_foreground;
    bool is_privileged;      // mounted by mount(2), not by fusermount3
    int oom_score;           // what the daemon gets back: that of who started us
    int start_limit_ms;      // a start that takes longer is ended; tests have less patience
    char **daemon_argv;      // path, "--daemon", ...; NULL-terminated
    int fuse_fd, state_fd, control_fd;
    int parking_fds[2];      // a SOCK_SEQPACKET pair that only daemons use (parking.h); -1: there is none
    int ready_fd;            // to the waiting command: a byte when the mount answers; -1 after that
    // Own.
    enum phase phase;
    int64_t deadline_ns;     // of the phase; INT64_MAX: none
    int exit_status;         // PHASE_ENDED
    int signal_fd;
    bool was_ready;          // any life was
    bool can_take_over;      // a death can be followed by another life
    bool wants_upgrade;
    bool was_killed;         // by the supervisor, as it was too late
    unsigned strikes;        // of starts that failed in a row; see supervisor.c
    int64_t crash_ns[CRASHES_MAX]; // a ring
    unsigned crash_count;
    // The daemon's.
    pid_t daemon;            // 0: none
    uint32_t life;
    int last_signal;
    int pid_fd, channel_fd;
    int error_fd;            // what it says on stderr; -1 in the foreground (then it has ours)
    char error_line[512];
    unsigned error_bytes;
    char held[8192];         // whole lines of a first life
    unsigned held_bytes;
};

// supervisor_process.c: starting, asking, listening.
int supervisor_start_daemon(struct supervisor *s); // -errno
int supervisor_watch_daemon(struct supervisor *s); // opens pid_fd of s->daemon
// Executes this program again, by name; returns only if that wasn't possible.
void supervisor_execute_again(struct supervisor *s);
// Whether the program at `argv[0]` runs at all (exit status 0 within 2 s).
bool supervisor_can_run(char *const *argv);
// Passes on what the daemon said on stderr; with `all` also a line without an end.
void supervisor_pass_errors(struct supervisor *s, bool all);
// To the user if the first life failed, to the log if it didn't.
void supervisor_release_errors(struct supervisor *s);
// One line to stderr, or to the system's log once the command has gone.
void say(const struct supervisor *s, int priority, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
int64_t now_ns(void);

// supervisor_mount.c
// Takes the mount away (lazily if it is in use). -errno; 0 also if it isn't there.
int supervisor_unmount(struct supervisor *s);
// Makes the kernel answer everybody ENOTCONN.
void supervisor_abort(struct supervisor *s);
// Waits for a child that can't be trusted to end; killed after `limit_ms`. Its status or -ETIMEDOUT.
int supervisor_wait_child(pid_t child, int limit_ms);
// After INIT: lets the kernel read further ahead than it does by itself.
void supervisor_raise_read_ahead(const struct supervisor *s);
