// SPDX-License-Identifier: BSD-3-Clause
// quota.c: see quota.h. The ledger's questions go to the space that a change or a folder is of.
#include "fs/quota.h"

#include <errno.h>
#include <stdio.h>

#include "fs/space/space.h"
#include "fs/why.h"
#include "meta/ledger.h"

#define RESERVE_FILES 1000

static bool counts(const struct space *s)
{
    return s->ops->ledger_walk != NULL;
}

static int look(const struct ledger_change *c, struct ledger_file *ret_file, struct ledger_charge *ret_charge,
                void *context)
{
    struct fs *fs = context;
    struct space *s = c->space < fs->space_count ? fs->spaces[c->space] : NULL;
    return s && counts(s) ? s->ops->ledger_look(s, c, ret_file, ret_charge) : -ENXIO;
}

static int walk(struct ledger_count *count, void *context)
{
    struct fs *fs = context;
    int r = 0;
    for (uint16_t i = 0; i < fs->space_count && r == 0; i++)
        if (counts(fs->spaces[i]))
            r = fs->spaces[i]->ops->ledger_walk(fs->spaces[i], count);
    return r;
}

static int sync_all(void *context)
{
    struct fs *fs = context;
    int r = 0;
    for (uint16_t i = 0; i < fs->space_count && r == 0; i++)
        if (counts(fs->spaces[i]))
            r = fs->spaces[i]->ops->ledger_sync(fs->spaces[i]);
    return r;
}

// What is counted: other trees than the last time are another whole.
static bool name_all(const struct fs *fs, struct buffer *ret_identity)
{
    bool any = false;
    for (uint16_t i = 0; i < fs->space_count; i++) {
        const struct space *s = fs->spaces[i];
        if (!counts(s))
            continue;
        any = true;
        buffer_format(ret_identity, "%u %s\n", s->number, s->options->source);
    }
    return any;
}

// "1001:1002", as options have resolved it.
static uid_t *read_exempt(const char *text, size_t *ret_count)
{
    size_t count = 0;
    uid_t *all = memory_new((strlen(text) + 1) * sizeof *all);
    for (const char *at = text; *at; at += *at == ':') {
        char *end;
        all[count++] = (uid_t)strtoul(at, &end, 10);
        at = end;
    }
    *ret_count = count;
    return all;
}

int quota_open(struct fs *fs, char **ret_why)
{
    const struct options *o = fs->options;
    BUFFER_CLEANUP identity = {};
    cleanup(cleanup_free) char *line = NULL;
    if (!o->quota || !name_all(fs, &identity))
        return 0;
    size_t exempt_count = 0;
    cleanup(cleanup_free) uid_t *exempt = read_exempt(o->quota_exempt ? o->quota_exempt : "", &exempt_count);
    struct ledger_options l = {.folder = o->ledger_dir, .is_takeover = o->life > 1, .identity = buffer_text(&identity),
                               .checkpoint_ns = o->quota_checkpoint_ns,
                               .reserve_bytes = o->quota_reserve_bytes,
                               .reserve_files = o->quota_reserve_bytes ? RESERVE_FILES : 0, .exempt = exempt,
                               .exempt_count = exempt_count, .look = look, .sync = sync_all, .walk = walk, .context = fs};
    int r = ledger_open(&l, &fs->ledger, &line);
    if (r < 0)
        return why(ret_why, r, "%s", line ? line : strerror(-r));
    if (line)
        log_info("%s", line);
    return 0;
}

void quota_close(struct fs *fs)
{
    ledger_close(fs->ledger);
    fs->ledger = NULL;
}
