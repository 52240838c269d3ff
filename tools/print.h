// SPDX-License-Identifier: BSD-3-Clause
// print: the answers to "status" (a screenful of 80 columns) and "explain", for people.
#pragma once
#include "base/doc.h"

// What `explain` answered: its sentences, one a line.
void print_explanation(const struct doc *answer, struct buffer *to);
void print_status(const struct doc *status, struct buffer *to);
// "1.5 GiB", "3 d 4 h", "1,234,567"; appended.
void print_bytes(int64_t bytes, struct buffer *to);
void print_seconds(double seconds, struct buffer *to);
void print_count(int64_t count, struct buffer *to);
