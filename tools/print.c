// SPDX-License-Identifier: BSD-3-Clause
// print: see print.h. What a daemon of another version doesn't say is left out, never invented.
#include "tools/print.h"

#include <inttypes.h>
#include <stdio.h>

void print_bytes(int64_t bytes, struct buffer *to)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double n = (double)bytes;
    int unit = 0;
    while (n >= 1024 && unit < 6) {
        n /= 1024;
        unit++;
    }
    buffer_format(to, unit == 0 ? "%.0f %s" : "%.1f %s", n, units[unit]);
}

void print_seconds(double seconds, struct buffer *to)
{
    int64_t s = (int64_t)seconds;
    if (seconds < 10)
        buffer_format(to, "%.1f s", seconds < 0 ? 0 : seconds);
    else if (s < 120)
        buffer_format(to, "%" PRIi64 " s", s);
    else if (s < 7200)
        buffer_format(to, "%" PRIi64 " min", s / 60);
    else if (s < 172800)
        buffer_format(to, "%" PRIi64 " h %" PRIi64 " min", s / 3600, s % 3600 / 60);
    else
        buffer_format(to, "%" PRIi64 " d %" PRIi64 " h", s / 86400, s % 86400 / 3600);
}

void print_count(int64_t count, struct buffer *to)
{
    char digits[32];
    int n = snprintf(digits, sizeof digits, "%" PRIi64, count);
    for (int i = 0; i < n; i++) {
        buffer_append_byte(to, digits[i]);
        int left = n - 1 - i;
        if (left > 0 && left % 3 == 0 && digits[i] != '-')
            buffer_append_byte(to, ',');
    }
}

static void put_line(struct text t, struct buffer *to)
{
    for (size_t i = 0; i < t.size_bytes; i++)
        buffer_append_byte(to, (unsigned char)t.data[i] < 0x20 || t.data[i] == 0x7f ? '?' : t.data[i]);
}

static void put_text(const struct doc *map, const char *path, struct buffer *to)
{
    put_line(doc_text(doc_path(map, path), TEXT("?")), to);
}

static void put_number(const struct doc *map, const char *path, const char *unit, struct buffer *to)
{
    print_count(doc_integer(doc_path(map, path), 0), to);
    buffer_append_string(to, unit);
}

static void put_head(const struct doc *s, struct buffer *to)
{
    buffer_append_string(to, "butlerfs ");
    put_text(s, "version", to);
    buffer_append_string(to, " at ");
    put_text(s, "mountpoint", to);
    buffer_append_string(to, "\n  source     ");
    put_text(s, "source", to);
    buffer_append_string(to, "\n  daemon     pid ");
    put_text(s, "pid", to);
    buffer_append_string(to, ", life ");
    put_text(s, "life", to);
    buffer_append_string(to, ", up ");
    print_seconds((double)doc_integer(doc_get(s, "uptime_seconds"), 0), to);
    buffer_append_string(to, "; supervisor pid ");
    put_text(s, "supervisor_pid", to);
    buffer_append_string(to, "; log level ");
    put_text(s, "log_level", to);
    buffer_append_string(to, "\n  kernel     Linux ");
    put_text(s, "kernel.release", to);
    buffer_append_string(to, ", FUSE ");
    put_text(s, "kernel.fuse_protocol", to);
    buffer_append_byte(to, '\n');
}

static void put_mode(const struct doc *s, const char *path, const char *yes, const char *no,
                     struct buffer *to)
{
    const struct doc *mode = doc_path(s, path);
    if (mode)
        buffer_format(to, "             %s\n", doc_bool(mode, false) ? yes : no);
}

static void put_modes(const struct doc *s, struct buffer *to)
{
    struct text passthrough = doc_text(doc_path(s, "modes.passthrough"), TEXT("?"));
    buffer_append_string(to, "  modes      passthrough ");
    buffer_append_text(to, passthrough);
    if (text_equal(passthrough, TEXT("on")))
        buffer_append_string(to, ": the kernel reads local artifacts by itself");
    else {
        buffer_append_string(to, ": ");
        put_text(s, "modes.passthrough_why", to);
    }
    buffer_append_byte(to, '\n');
    put_mode(s, "modes.takeover", "take-over: a daemon that dies is followed by another, without an error",
             "no take-over: the daemon's death ends the mount (needs Linux 6.9)", to);
    put_mode(s, "modes.epoch_notice", "names kept by the kernel until they change",
             "names kept by the kernel for `refresh` only (more needs Linux 6.16)", to);
    put_mode(s, "modes.ids", "artifacts opened with each caller's own rights",
             "artifacts opened with the rights of who mounted", to);
}

static void put_counters(const struct doc *s, struct buffer *to)
{
    buffer_append_string(to, "  requests   ");
    put_number(s, "counters.requests", ", ", to);
    put_number(s, "counters.waiters", " waiting, ", to);
    put_number(s, "counters.requests_timed_out", " timed out, ", to);
    put_number(s, "counters.requests_resent", " sent again\n  opened     ", to);
    put_number(s, "counters.open_passthrough", " by passthrough, ", to);
    put_number(s, "counters.open_cached", " through the daemon, ", to);
    put_number(s, "counters.open_failed", " failed\n  open now   ", to);
    put_number(s, "counters.open_files", " files, ", to);
    put_number(s, "counters.open_folders", " folders; ", to);
    put_number(s, "counters.nodes", " names known to the kernel\n", to);
}

static void put_catalogue(const struct doc *s, struct buffer *to)
{
    buffer_append_string(to, "  catalogue  ");
    print_bytes(doc_integer(doc_path(s, "catalogue.used_bytes"), 0), to);
    buffer_append_string(to, " of ");
    print_bytes(doc_integer(doc_path(s, "catalogue.max_bytes"), 0), to);
    if (doc_bool(doc_path(s, "catalogue.in_memory"), false))
        buffer_append_string(to, " in memory: not kept, as this can't be written: ");
    else
        buffer_append_string(to, " in ");
    put_text(s, "catalogue.folder", to);
    buffer_append_byte(to, '\n');
}

static void put_bucket(const struct doc *space, struct buffer *to)
{
    if (doc_get(space, "version_at")) {
        buffer_append_string(to, "as it was at ");
        put_text(space, "version_at", to);
        buffer_append_string(to, "; ");
    }
    buffer_format(to, "listings are true for %g s", (double)doc_integer(doc_get(space, "list_time_ms"), 0) / 1e3);
    if (!doc_bool(doc_get(space, "answers"), true)) {
        buffer_append_string(to, "; it does not answer: ");
        put_text(space, "last_error", to);
    }
    buffer_append_byte(to, '\n');
}

static void put_space(const struct doc *space, struct buffer *to)
{
    struct text name = doc_text(doc_get(space, "name"), TEXT(""));
    buffer_append_string(to, "  ");
    buffer_append_string(to, name.size_bytes ? "/" : "(root)");
    if (name.size_bytes)
        put_text(space, "name", to);
    buffer_append_string(to, "  ");
    put_text(space, "kind", to);
    buffer_append_byte(to, ' ');
    put_text(space, "source", to);
    buffer_append_string(to, "\n             ");
    if (text_equal(doc_text(doc_get(space, "kind"), TEXT("")), TEXT("s3"))) {
        put_bucket(space, to);
        return;
    }
    if (doc_kind(doc_get(space, "snapshot")) == DOC_MAP) {
        put_number(space, "snapshot.collections", " collections, ", to);
        put_number(space, "snapshot.dataset_types", " dataset types; ", to);
    }
    buffer_append_string(to, "epoch ");
    put_number(space, "epoch", " since ", to);
    put_text(space, "epoch_since", to);
    buffer_format(to, "; asked every %g s\n", doc_real(doc_get(space, "refresh_s"), 0));
    if (doc_bool(doc_get(space, "registry_answers"), true))
        return;
    buffer_append_string(to, "             the registry does not answer: ");
    put_text(space, "last_error", to);
    buffer_append_string(to, ", for ");
    put_number(space, "silent_for_s", " s\n", to);
}

static void put_recalls(const struct doc *s, struct buffer *to)
{
    int64_t recalls = doc_integer(doc_path(s, "counters.recalls"), 0);
    if (recalls == 0)
        return;
    buffer_append_string(to, "  recalls    ");
    print_count(recalls, to);
    buffer_append_string(to, " nearline objects are being brought back, ");
    put_number(s, "cache.recalls.for_readers", " of ", to);
    put_number(s, "cache.recalls.for_readers_limit", " because they were read\n", to);
}

void print_explanation(const struct doc *answer, struct buffer *to)
{
    const struct doc *sentences = doc_get(answer, "sentences");
    put_text(answer, "path", to);
    buffer_append_byte(to, '\n');
    for (size_t i = 0; i < doc_count(sentences); i++) {
        buffer_append_string(to, "  ");
        put_line(doc_text(doc_item(sentences, i), TEXT("?")), to);
        buffer_append_byte(to, '\n');
    }
}

void print_status(const struct doc *status, struct buffer *to)
{
    const struct doc *spaces = doc_get(status, "spaces");
    put_head(status, to);
    put_modes(status, to);
    put_counters(status, to);
    put_catalogue(status, to);
    put_recalls(status, to);
    buffer_append_string(to, "spaces\n");
    for (size_t i = 0; i < doc_count(spaces); i++)
        put_space(doc_item(spaces, i), to);
}
