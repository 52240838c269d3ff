// SPDX-License-Identifier: BSD-3-Clause
// daemon: the process that serves a mount; one struct wires the rooms. Started by the supervisor,
// which holds the descriptors that outlive it (see supervisor.c for the protocol).
#pragma once
#include "fs/options.h"

// The descriptors a daemon is started with, by number.
enum daemon_fd {
    DAEMON_FD_FUSE = 3,       // /dev/fuse, mounted
    DAEMON_FD_STATE = 4,      // memfd of state.h
    DAEMON_FD_CONTROL = 5,    // listening control socket
    DAEMON_FD_SUPERVISOR = 6, // SOCK_SEQPACKET to the supervisor
    DAEMON_FD_PARKING_IN = 7, // a SOCK_SEQPACKET pair of its own (parking.h); older supervisors have none
    DAEMON_FD_PARKING_OUT = 8,
};

// Exit statuses the supervisor understands.
#define DAEMON_EXIT_UNMOUNTED 0 // the mount is gone: the end
#define DAEMON_EXIT_AGAIN 75    // start me again (upgrade)
#define DAEMON_EXIT_FAILED 1    // could not start; said why on stderr

// Messages daemon -> supervisor (one packet, ASCII).
#define DAEMON_SAYS_READY "ready takeover" // the mount answers; a death can be taken over
#define DAEMON_SAYS_READY_ONCE "ready once" // the mount answers; the kernel can't resend: no second life
#define DAEMON_SAYS_BUSY "busy"            // told to end: still sending what was closed, and it gets on
#define DAEMON_SAYS_UPGRADE "upgrade"      // re-execute yourself, stop me (SIGTERM), start the new one

// Serves until the mount is gone or SIGTERM (finish what is being answered, exit AGAIN).
// The return value is the exit status.
int daemon_run(const struct options *o);

// Whether the sources can be read, without mounting: 0 or -errno with one clear line.
int daemon_check(const struct options *o, char **ret_why);
