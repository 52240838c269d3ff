// SPDX-License-Identifier: BSD-3-Clause
// reading.c
// 1. Every range of a plan lies inside the object and was not planned before by the same stream.
// 2. What is planned and not yet read is at most a window for each stream.
// 3. Nothing is planned for a stream that has not gone on for a block: random reads cost what they ask.
#include "cache/reading.h"

#include <string.h>

#define BLOCK INT64_C(131072)
#define SLACK (INT64_C(1) << 20)     // the kernel sends the parts of one read-ahead in any order
#define EAGER (INT64_C(256) << 10)   // who begins with so much at the beginning will go on
#define PART_LEAST (INT64_C(2) << 20)
#define STRIDED_AFTER 2              // equal distances

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

// ---- which stream a read belongs to

static bool is_repeated(const struct reading_stream *s, int64_t begin, int64_t end)
{
    switch (s->kind) {
    case READING_FORWARD:
        return end <= s->end && begin >= most(s->start, s->end - 4 * SLACK);
    case READING_BACKWARD:
        return begin >= s->begin && end <= least(s->start, s->begin + 4 * SLACK);
    default:
        return begin >= s->begin && end <= s->end;
    }
}

// Until its window is open a stream is believed only as long as its reads touch: among random reads some
// fall beside one another.
static int64_t slack_of(const struct reading_stream *s)
{
    return s->window ? SLACK : 0;
}

static bool goes_forward(const struct reading_stream *s, int64_t begin, int64_t end)
{
    if (end <= s->end)
        return false;
    int64_t slack = slack_of(s);
    if (s->kind == READING_FORWARD)
        return begin >= s->end - slack && begin <= s->end + slack;
    return s->kind == READING_ONCE && begin <= s->end && begin > s->begin;
}

static bool goes_backward(const struct reading_stream *s, int64_t begin, int64_t end)
{
    if (begin >= s->begin || s->kind == READING_FORWARD || s->kind == READING_STRIDED)
        return false;
    int64_t slack = slack_of(s);
    if (s->kind == READING_BACKWARD)
        return end >= s->begin - slack && end <= s->begin + slack;
    return end >= s->begin && end < s->end;
}

static struct reading_stream *stream_of(struct reading *r, int64_t begin, int64_t end)
{
    for (int i = 0; i < READING_STREAMS; i++) {
        struct reading_stream *s = &r->streams[i];
        if (s->used && (goes_forward(s, begin, end) || goes_backward(s, begin, end)))
            return s;
    }
    return NULL;
}

static struct reading_stream *strided_of(struct reading *r, int64_t begin)
{
    for (int i = 0; i < READING_STREAMS; i++) {
        struct reading_stream *s = &r->streams[i];
        if (s->used && s->kind == READING_STRIDED && begin - s->begin == s->stride)
            return s;
    }
    return NULL;
}

// A free one, else of those that lead nowhere the one used longest ago, else of all.
static struct reading_stream *stream_replace(struct reading *r, bool *ret_abandoned)
{
    struct reading_stream *best = &r->streams[0];
    for (int i = 0; i < READING_STREAMS; i++) {
        struct reading_stream *s = &r->streams[i];
        if (!s->used)
            return s;
        bool is_idle = s->kind == READING_ONCE, best_is_idle = best->kind == READING_ONCE;
        if (is_idle != best_is_idle ? is_idle : s->used < best->used)
            best = s;
    }
    *ret_abandoned |= best->window > 0;
    return best;
}

// ---- what it makes of it

static void delta_note(struct reading *r, int64_t begin)
{
    if (r->count > 1) {
        int64_t delta = begin - r->last_begin;
        r->same_deltas = delta == r->last_delta ? r->same_deltas + 1 : 1;
        r->last_delta = delta;
    }
    r->last_begin = begin;
}

static bool is_strided_now(const struct reading *r, int64_t size)
{
    int64_t distance = r->last_delta < 0 ? -r->last_delta : r->last_delta;
    return r->same_deltas >= STRIDED_AFTER && distance > size;
}

static void stream_continue(struct reading_stream *s, int64_t begin, int64_t end)
{
    if (end > s->end && s->kind != READING_BACKWARD) {
        s->kind = READING_FORWARD;
        s->end = end;
    } else if (s->kind == READING_ONCE) {
        s->kind = READING_BACKWARD;
        s->start = s->end;
        s->ahead = s->begin;
    }
    s->begin = begin;
}

static bool window_may_open(const struct reading_stream *s)
{
    switch (s->kind) {
    case READING_FORWARD:
        return s->end - s->start > BLOCK;
    case READING_BACKWARD:
        return s->start - s->begin > BLOCK;
    default:
        return s->kind == READING_STRIDED;
    }
}

static void window_adjust(struct reading_stream *s, bool had_to_wait,
                          const struct reading_limits *limits)
{
    if (!window_may_open(s))
        return;
    if (!s->window)
        s->window = limits->first_window;
    else if (had_to_wait)
        s->window *= 4;
    // Who has gone on for long will go on: larger parts, fewer requests.
    if (s->kind == READING_FORWARD)
        s->window = most(s->window, (s->end - s->start) / 4);
    s->window = least(s->window, limits->window);
}

// ---- plans

static void plan_add(struct reading_plan *plan, int64_t begin, int64_t end)
{
    if (begin < end && plan->count < READING_RANGES)
        plan->ranges[plan->count++] = (struct reading_range){begin, end};
}

// Parts are worth their round trip: the window is planned on when a part of it is free again.
static void plan_forward(struct reading_stream *s, int64_t part, int64_t object,
                         struct reading_plan *plan)
{
    s->ahead = most(s->ahead, s->end);
    int64_t target = least(s->end + s->window, object);
    if (target - s->ahead < part && target < object)
        return;
    plan_add(plan, s->ahead, target);
    plan->goes_on = true;
    s->ahead = most(s->ahead, target);
}

static void plan_backward(struct reading_stream *s, int64_t part, struct reading_plan *plan)
{
    s->ahead = least(s->ahead, s->begin);
    int64_t target = most(s->begin - s->window, 0);
    if (s->ahead - target < part && target > 0)
        return;
    for (int64_t end = s->ahead; end > target && plan->count < READING_RANGES; end -= part) {
        plan_add(plan, most(end - part, target), end);
        s->ahead = most(end - part, target);
    }
}

static void plan_strided(struct reading_stream *s, int64_t object, struct reading_plan *plan)
{
    int64_t size = s->end - s->begin;
    int64_t steps = least(s->window / most(size, BLOCK), READING_RANGES);
    bool is_down = s->stride < 0;
    if (is_down ? s->ahead > s->begin : s->ahead < s->begin)
        s->ahead = s->begin;
    while ((s->ahead - s->begin) / s->stride < steps) {
        int64_t next = s->ahead + s->stride;
        if (next < 0 || next >= object)
            return;
        plan_add(plan, next, least(next + size, object));
        s->ahead = next;
    }
}

static void stream_plan(struct reading_stream *s, const struct reading_limits *limits,
                        struct reading_plan *plan)
{
    if (!s->window)
        return;
    // Part by part a window moves on; with one part in it the reader would wait for each.
    plan->part = least(most(s->window / 4, PART_LEAST), limits->part);
    switch (s->kind) {
    case READING_FORWARD:
        plan_forward(s, plan->part, limits->object_bytes, plan);
        break;
    case READING_BACKWARD:
        plan_backward(s, plan->part, plan);
        break;
    case READING_STRIDED:
        plan_strided(s, limits->object_bytes, plan);
        break;
    case READING_ONCE:
        break;
    }
}

// A read that continues no stream. It is remembered, as it may be the beginning of one, also where it is a
// step of a strided one: interleaved streams begin like that.
static struct reading_stream *stream_begin(struct reading *r, int64_t begin, int64_t end,
                                           struct reading_plan *plan)
{
    struct reading_stream *strided = strided_of(r, begin);
    if (strided)
        strided->used = r->count;
    struct reading_stream *s = stream_replace(r, &plan->is_abandoned);
    *s = (struct reading_stream){
        .kind = begin == 0 && end >= EAGER ? READING_FORWARD : READING_ONCE,
        .used = r->count, .start = begin, .begin = begin, .end = end, .ahead = end};
    if (strided) {
        strided->begin = begin;
        strided->end = end;
        return strided;
    }
    if (!is_strided_now(r, end - begin))
        return s;
    s = stream_replace(r, &plan->is_abandoned);
    *s = (struct reading_stream){.kind = READING_STRIDED, .start = begin, .begin = begin,
                                 .end = end, .ahead = begin, .stride = r->last_delta};
    return s;
}

void reading_note(struct reading *r, int64_t begin, int64_t end, bool had_to_wait,
                  const struct reading_limits *limits, struct reading_plan *ret_plan)
{
    *ret_plan = (struct reading_plan){.part = limits->part};
    for (int i = 0; i < READING_STREAMS; i++)
        if (r->streams[i].used && is_repeated(&r->streams[i], begin, end))
            return;
    r->count++;
    r->extent = most(r->extent, end);
    delta_note(r, begin);
    struct reading_stream *s = stream_of(r, begin, end);
    if (s)
        stream_continue(s, begin, end);
    else
        s = stream_begin(r, begin, end, ret_plan);
    s->used = r->count;
    window_adjust(s, had_to_wait, limits);
    stream_plan(s, limits, ret_plan);
}

bool reading_continues(struct reading *r, int64_t begin, int64_t end)
{
    return stream_of(r, begin, end) != NULL;
}

static bool stream_wants(const struct reading_stream *s, int64_t begin, int64_t end)
{
    switch (s->kind) {
    case READING_FORWARD:
        return begin < s->ahead && end > s->end;
    case READING_BACKWARD:
        return begin < s->begin && end > s->ahead;
    case READING_STRIDED:
        return s->stride > 0 ? begin < s->ahead + (s->end - s->begin) && end > s->begin
                             : begin < s->end && end > s->ahead;
    case READING_ONCE:
        break;
    }
    return false;
}

bool reading_wants(const struct reading *r, int64_t begin, int64_t end)
{
    for (int i = 0; i < READING_STREAMS; i++)
        if (r->streams[i].used && r->streams[i].window && stream_wants(&r->streams[i], begin, end))
            return true;
    return false;
}
