// SPDX-License-Identifier: BSD-3-Clause
// objects: butlerfsctl's verbs about objects: url, warm, recall, evict, cache. Each takes the words behind the verb.
// 0, or -errno with the line (NULL: it was said, a line each); -EINVAL: wrong use, its line may be NULL.
#pragma once
int url_run(char **words, int count, char **ret_why);
int warm_run(char **words, int count, char **ret_why);
int recall_run(char **words, int count, char **ret_why);
int evict_run(char **words, int count, char **ret_why);
int cache_run(char **words, int count, char **ret_why);
