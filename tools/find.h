// SPDX-License-Identifier: BSD-3-Clause
// find: butlerfsctl's `find`: asks for page after page and prints the paths as they come.
#pragma once

// 0; -EINVAL: wrong use; another -errno with the line.
int find_run(char **arguments, int count, char **ret_why);
