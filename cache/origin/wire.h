// SPDX-License-Identifier: BSD-3-Clause
// wire: what the kinds that speak HTTP take from wire.c.
#pragma once
#include "cache/origin/internal.h"

// Fills the method, and the fields Range, If-Match and If-None-Match.
void wire_ask(struct origin_flight *flight, struct fetch_message *m);
// What a status means everywhere; `reason`: the server's own, or NULL.
enum fetch_verdict wire_judge_status(struct origin_flight *flight, const struct fetch_outcome *o,
                                     const char *reason);
// Follows a redirect of what was asked at `from`: flight->redirect is where to, on that way (`options`).
enum fetch_verdict wire_redirect(struct origin_flight *flight, const struct fetch_outcome *o,
                                 const struct endpoint_options *options, struct text from);
