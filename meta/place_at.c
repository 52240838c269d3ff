// SPDX-License-Identifier: BSD-3-Clause
// place_at: calibs-at/<instant>: what time a folder's name says.
// 1. Every spelling is a folder of its own, with the same in it: nothing is rewritten.
// 2. The timespans of visits and exposures are the registry's, and as new as the request wants them.
#include "base/hash.h"
#include "base/log.h"
#include "meta/name.h"
#include "meta/place.h"

#define MOMENT_PARTS 3 // "visit,Cam,2024111100123"

// The element whose rows have timespans that `name` is the name of; NULL.
static const struct element *timed_element(const struct snapshot *s, struct text name)
{
    if (!text_equal(name, TEXT("visit")) && !text_equal(name, TEXT("exposure")))
        return NULL;
    const struct element *e = snapshot_element_by_name(s, name);
    bool is_usual = e && e->has_table && e->required_count == 2 && e->kind == VALUE_INTEGER &&
                    s->elements[e->required[0]].kind == VALUE_TEXT;
    return is_usual ? e : NULL;
}

static int read_record(const struct snapshot *s, struct text name, struct moment *m,
                       struct buffer *store)
{
    const char *first = memchr(name.data, ',', name.size_bytes);
    const char *last = memrchr(name.data, ',', name.size_bytes);
    if (!first || first == last)
        return -ENOENT;
    size_t a = (size_t)(first - name.data), b = (size_t)(last - name.data);
    struct text instrument = text_slice(name, a + 1, b);
    m->element = timed_element(s, text_slice(name, 0, a));
    size_t from = store->size_bytes;
    if (!m->element || name_unescape(NAME_VALUE, instrument, store) < 0 ||
        name_read_integer(text_slice(name, b + 1, name.size_bytes), &m->values[1]) < 0)
        return -ENOENT;
    m->values[0] = value_text(text_slice(buffer_text(store), from, store->size_bytes));
    return 0;
}

int moment_read(const struct snapshot *s, struct text name, struct moment *ret_moment,
                struct buffer *store)
{
    *ret_moment = (struct moment){0};
    if (name.size_bytes == 0)
        return -ENOENT;
    if (timespan_parse_instant(name, &ret_moment->tai_ns) == 0)
        return 0;
    return read_record(s, name, ret_moment, store);
}

// The same for every spelling of one visit.
static struct uuid moment_id(const struct moment *m)
{
    struct uuid id;
    BUFFER_CLEANUP bytes = {0};
    buffer_append_text(&bytes, m->element->name);
    buffer_append_byte(&bytes, 0);
    buffer_append_text(&bytes, m->values[0].text);
    buffer_append(&bytes, &m->values[1].integer, sizeof(m->values[1].integer));
    hash128(bytes.data, bytes.size_bytes, id.bytes);
    return id;
}

int place_time(const struct place *p, struct text name, struct timespan *ret_span,
               struct want *want)
{
    struct moment m;
    BUFFER_CLEANUP store = {0}, record = {0};
    int r = moment_read(p->snapshot, name, &m, &store);
    if (r < 0)
        return r;
    if (!m.element) {
        *ret_span = timespan_of_instant(m.tai_ns);
        return 0;
    }
    struct uuid id = moment_id(&m);
    r = dataset_record_of(p->repository, p->fresh, &id, DATASET_TIMESPAN, 1, &record, want);
    if (r == -EINPROGRESS)
        buffer_append_text(&want->texts, name);
    if (r < 0)
        return r;
    if (record.size_bytes != sizeof(*ret_span))
        return -ENOENT;
    memcpy(ret_span, record.data, sizeof(*ret_span));
    return 0;
}
