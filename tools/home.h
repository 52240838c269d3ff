// SPDX-License-Identifier: BSD-3-Clause
// home: butlerfsctl's verb `home`. As objects.h.
#pragma once
int home_run(char **words, int count, char **ret_why);
