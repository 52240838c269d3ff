// SPDX-License-Identifier: BSD-3-Clause
// fetcher_head: filling a struct fetch_head, for the fetchers and the tests; others read it through fetcher.h.
#pragma once
#include "base/clock.h"
#include "cache/fetcher.h"

// One line as it came, with or without its end. A status line starts anew. Fields that are malformed are left
// out. -E2BIG: more than an answer's head may have; -EPROTO: no status.
int fetch_head_line(struct fetch_head *h, struct text line);
// *position starts at 0. false: that was all.
bool fetch_head_next(const struct fetch_head *h, size_t *position, struct text *ret_name,
                     struct text *ret_value);
// Unix seconds of an HTTP date (RFC 9110's IMF-fixdate); INT64_MIN: it is none.
int64_t http_date(struct text date);
// How long from now on; at most a day. 0: it isn't said.
int64_t fetch_head_retry_after_ns(const struct fetch_head *h, int64_t unix_ns);
