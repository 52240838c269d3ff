// SPDX-License-Identifier: BSD-3-Clause
// verb_home.c: see verb_home.h.
#include "fs/verb_home.h"

#include <errno.h>

#include "fs/space/space.h"
#include "fs/status.h"

static int refuse(struct doc *reply, int error, const char *text)
{
    doc_put_text(reply, "error", text);
    return error;
}

static bool is_meant(const struct space *s, struct text name)
{
    if (!s->ops->provision || !s->options->provision)
        return false;
    return name.size_bytes == 0 || (s->options->name && text_equal(name, text_of(s->options->name)));
}

// -ENOENT: none; -EINVAL: several.
static int find_space(const struct fs *fs, struct text name, struct space **ret_space)
{
    struct space *found = NULL;
    for (uint16_t i = 0; i < fs->space_count; i++) {
        if (!is_meant(fs->spaces[i], name))
            continue;
        if (found)
            return -EINVAL;
        found = fs->spaces[i];
    }
    *ret_space = found;
    return found ? 0 : -ENOENT;
}

int verb_home_create(const struct doc *request, struct doc *reply, void *context)
{
    struct status_context *c = context;
    struct space *s = NULL;
    int r = find_space(c->fs, doc_text(doc_get(request, "space"), TEXT("")), &s);
    if (r == -ENOENT)
        return refuse(reply, r, "there is no such space that makes folders (option provision)");
    if (r < 0)
        return refuse(reply, r, "several spaces make folders: say which");
    r = s->ops->provision(s, doc_text(doc_get(request, "name"), TEXT("")));
    switch (r) {
    case -EEXIST:
        return refuse(reply, r, "it is there already");
    case -ENOENT:
        return refuse(reply, r, s->options->kind == SPACE_GROUP ? "no such group" : "no such user");
    case -EPERM:
        return refuse(reply, r, "the option provision doesn't allow that number");
    case -EINVAL:
        return refuse(reply, r, "that is no name of a user or group");
    default:
        return r;
    }
}
