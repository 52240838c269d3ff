// SPDX-License-Identifier: BSD-3-Clause
// quota: butlerfsctl's verb `quota`. As objects.h.
#pragma once
#include "base/doc.h"

int quota_run(char **words, int count, char **ret_why);
// What `quota report` shows people, of the daemon's answer.
void quota_print(const struct doc *answer, struct buffer *to);
