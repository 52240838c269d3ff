// SPDX-License-Identifier: BSD-3-Clause
// progress.c
// 1. The rate is that of the last seconds: what was there already comes at once and says nothing of what is to come.
#include "tools/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "tools/print.h"

#define TERMINAL_EVERY_NS (NS_PER_S / 5)
#define PLAIN_EVERY_NS (10 * NS_PER_S)
#define BAR_MAX 30
#define OVER_NS (5.0 * NS_PER_S) // the rate forgets what is older

void progress_begin(struct progress *p)
{
    p->is_terminal = isatty(STDERR_FILENO);
    p->begun_ns = clock_ns();
    p->shown_ns = p->is_terminal ? 0 : p->begun_ns;
}

static void note_rate(struct progress *p, int64_t bytes, int64_t now)
{
    if (!p->shown_ns) {
        p->shown_bytes = bytes;
        return;
    }
    double took = (double)(now - p->shown_ns);
    double weight = took < OVER_NS ? took / OVER_NS : 1;
    double fresh = took > 0 ? (double)(bytes - p->shown_bytes) * NS_PER_S / took : 0;
    p->rate = p->rate > 0 ? p->rate + weight * (fresh - p->rate) : fresh;
    p->shown_bytes = bytes;
}

// How much of it is done, 0 to 1; below 0: unknown.
static double share_of(const struct progress *p, const struct progress_state *s)
{
    double share = -1;
    if (p->all_bytes > 0)
        share = (double)s->bytes / (double)p->all_bytes;
    else if (p->all_files > 0)
        share = (double)(s->files + s->failed) / (double)p->all_files;
    return share > 1 ? 1 : share;
}

static void append_bar(double share, int width, struct buffer *to)
{
    int full = (int)(share * width);
    buffer_append_byte(to, '[');
    for (int i = 0; i < width; i++)
        buffer_append_byte(to, i < full ? '#' : '-');
    buffer_format(to, "] %3d %%  ", (int)(share * 100));
}

static void append_left(const struct progress *p, const struct progress_state *s, struct buffer *to)
{
    if (p->all_bytes <= s->bytes || p->rate < 1)
        return;
    buffer_append_string(to, ", ");
    print_seconds((double)(p->all_bytes - s->bytes) / p->rate, to);
    buffer_append_string(to, " left");
}

static void append_state(const struct progress *p, const struct progress_state *s, double rate, struct buffer *to)
{
    buffer_format(to, "%" PRIu64, s->files);
    if (p->all_files)
        buffer_format(to, "/%" PRIu64, p->all_files);
    buffer_format(to, " %s, ", p->what);
    print_bytes(s->bytes, to);
    if (p->all_bytes) {
        buffer_append_string(to, " of ");
        print_bytes(p->all_bytes, to);
    }
    buffer_append_string(to, ", ");
    print_bytes((int64_t)rate, to);
    buffer_append_string(to, "/s");
}

static int columns(void)
{
    struct winsize w;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 0 ? w.ws_col : 80;
}

void progress_show(struct progress *p, const struct progress_state *s)
{
    int64_t now = clock_ns();
    if (p->is_quiet || (p->shown_ns && now - p->shown_ns < (p->is_terminal ? TERMINAL_EVERY_NS : PLAIN_EVERY_NS)))
        return;
    BUFFER_CLEANUP line = {}, state = {};
    double share = share_of(p, s);
    note_rate(p, s->bytes, now);
    p->shown_ns = now;
    append_state(p, s, p->rate, &state);
    append_left(p, s, &state);
    if (s->failed)
        buffer_format(&state, ", %" PRIu64 " failed", s->failed);
    int room = columns() - (int)state.size_bytes - (int)sizeof("[] 100 %  ");
    if (p->is_terminal && share >= 0 && room > 2)
        append_bar(share, room < BAR_MAX ? room : BAR_MAX, &line);
    else if (share >= 0)
        buffer_format(&line, "%d %%  ", (int)(share * 100));
    buffer_append_text(&line, buffer_text(&state));
    progress_clear(p);
    fprintf(stderr, "%.*s%s", p->is_terminal ? columns() - 1 : (int)line.size_bytes, line.data, p->is_terminal ? "" : "\n");
}

void progress_clear(const struct progress *p)
{
    if (p->is_terminal && !p->is_quiet)
        fputs("\r\33[K", stderr);
}

void progress_end(struct progress *p, const struct progress_state *s)
{
    if (p->is_quiet)
        return;
    BUFFER_CLEANUP line = {};
    double seconds = (double)(clock_ns() - p->begun_ns) / NS_PER_S;
    append_state(p, s, (double)s->bytes / (seconds > 0.001 ? seconds : 0.001), &line);
    progress_clear(p);
    fprintf(stderr, "%s, %" PRIu64 " failed\n", line.data, s->failed);
}
