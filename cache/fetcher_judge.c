// SPDX-License-Identifier: BSD-3-Clause
// fetcher_judge: what an answer means whoever gives it: who asks knows more and judges the rest.
#include <errno.h>

#include "cache/fetcher.h"

// A wire that failed may be better a moment later, but for what is set wrong.
static enum fetch_verdict judge_wire(struct fetch *f, const struct fetch_outcome *o)
{
    const char *name = endpoint_name(f->endpoint).data;
    bool is_final = o->is_own || o->error == -EPROTO || o->error == -ENOMEM;
    if (!o->is_own || f->why.size_bytes == 0)
        fetch_fail(f, 0, "%s: %s", name, o->why ? o->why : "given up");
    if (o->is_own)
        f->error = o->error;
    else
        f->error = is_final ? -EREMOTEIO : -ETIMEDOUT;
    return is_final ? FETCH_END : FETCH_RETRY;
}

enum fetch_verdict fetch_judge(struct fetch *f, const struct fetch_outcome *o)
{
    if (o->error)
        return judge_wire(f, o);
    int status = o->head->status;
    if (status / 100 == 2) {
        f->error = 0;
        return FETCH_END;
    }
    if (!f->error)
        fetch_fail(f, -EREMOTEIO, "%s answers %d", endpoint_name(f->endpoint).data, status);
    switch (status) {
    case 429:
    case 503:
        return FETCH_SLOWER;
    case 408:
    case 500:
    case 502:
    case 504:
        return FETCH_RETRY;
    default:
        return FETCH_END;
    }
}
