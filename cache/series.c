// SPDX-License-Identifier: BSD-3-Clause
// series.c
// 1. A position is planned once as long as the step stays the same.
// 2. Nothing is planned before it is known how much of a file is wanted.
#include "cache/series.h"

#define DEPTH_FIRST 2
#define DEPTH_MAX 64

static void step_learn(struct series *s, int64_t position)
{
    int64_t step = position - s->position;
    bool is_same = s->count > 1 && step == s->step;
    s->same_steps = is_same ? s->same_steps + 1 : 1;
    if (!is_same) {
        s->step = step;
        s->depth = 0;
    }
}

static void extent_learn(struct series *s, int64_t extent, int64_t size)
{
    if (extent <= 0)
        return;
    s->is_whole = extent >= size - size / 10;
    s->extent = extent;
}

static bool is_steady(const struct series *s)
{
    return s->same_steps >= (s->step == 1 || s->step == -1 ? 1 : 2);
}

static uint32_t depth_for(const struct series *s, int64_t limit_bytes)
{
    int64_t files = limit_bytes / s->extent;
    uint32_t depth = s->depth ? s->depth * 2 : DEPTH_FIRST;
    if (depth > DEPTH_MAX)
        depth = DEPTH_MAX;
    return files < depth ? (uint32_t)files : depth;
}

void series_note(struct series *s, int64_t position, int64_t extent, int64_t size,
                 int64_t limit_bytes, struct series_plan *ret_plan)
{
    *ret_plan = (struct series_plan){0};
    extent_learn(s, extent, size);
    if (s->count && position == s->position)
        return;
    if (s->count)
        step_learn(s, position);
    s->count++;
    s->position = position;
    if (s->count < 2 || !is_steady(s) || !s->extent)
        return;
    int64_t ahead = s->depth ? (s->ahead - position) / s->step : 0; // files already planned
    if (ahead < 0)
        ahead = 0;
    s->depth = depth_for(s, limit_bytes);
    if (s->depth <= ahead)
        return;
    *ret_plan = (struct series_plan){
        .first = position + s->step * (ahead + 1),
        .step = s->step,
        .count = s->depth - (uint32_t)ahead,
        .extent = s->is_whole ? INT64_MAX : s->extent,
    };
    s->ahead = position + s->step * (int64_t)s->depth;
}

void series_not_yet(struct series *s, int64_t position, int64_t step)
{
    bool is_earlier = step > 0 ? position <= s->ahead : position >= s->ahead;
    if (step == s->step && is_earlier)
        s->ahead = position - step;
}
