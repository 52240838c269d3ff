// SPDX-License-Identifier: BSD-3-Clause
// status: the verbs of the control socket and ioctl: status, log-level, upgrade, refresh.
#pragma once
#include "fs/control.h"
#include "fs/fs.h"
#include "meta/catalogue.h"

struct status_context {
    struct fs *fs;
    struct catalogue *catalogue;
    int supervisor_fd;
};

extern const struct control_verb status_verbs[]; // context: struct status_context
