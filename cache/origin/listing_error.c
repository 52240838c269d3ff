// SPDX-License-Identifier: BSD-3-Clause
// listing_error: single values out of a server's XML, as far as they are there: the reason of an error, what an upload is
// called.
#include <ctype.h>
#include <expat.h>

#include "cache/origin/listing.h"

#define ERROR_DEPTH_MAX 8

struct error_reading {
    XML_Parser parser;
    const struct listing_value *values;
    size_t count;
    uint32_t depth;
    char *place;      // of the element that is being read, or NULL
    size_t room_bytes;
};

static void XMLCALL error_on_start(void *context, const char *name, const char **attributes)
{
    struct error_reading *r = context;
    r->place = NULL;
    if (++r->depth > ERROR_DEPTH_MAX)
        XML_StopParser(r->parser, XML_FALSE);
    for (size_t i = 0; i < r->count; i++) {
        const struct listing_value *v = &r->values[i];
        if (strcmp(v->name, name) == 0 && !v->place[0]) {
            r->place = v->place;
            r->room_bytes = v->room_bytes;
        }
    }
}

static void XMLCALL error_on_end(void *context, const char *name)
{
    struct error_reading *r = context;
    r->depth--;
    r->place = NULL;
}

static void XMLCALL error_on_text(void *context, const char *data, int size_bytes)
{
    struct error_reading *r = context;
    if (!r->place)
        return;
    size_t at = strlen(r->place);
    for (int i = 0; i < size_bytes && at + 1 < r->room_bytes; i++)
        r->place[at++] = (unsigned char)data[i] < ' ' || data[i] == 0x7f ? '?' : data[i];
    r->place[at] = 0;
}

static void XMLCALL error_on_doctype(void *context, const char *name, const char *system, const char *public,
                                     int has_internal)
{
    struct error_reading *r = context;
    XML_StopParser(r->parser, XML_FALSE);
}

void listing_read_values(struct text body, const struct listing_value *values, size_t count)
{
    struct error_reading r = {.parser = XML_ParserCreate(NULL), .values = values, .count = count};
    if (!r.parser)
        return;
    while (body.size_bytes && isspace((unsigned char)body.data[0])) // sent to keep the connection alive
        body = text_slice(body, 1, body.size_bytes);
    XML_SetUserData(r.parser, &r);
    XML_SetElementHandler(r.parser, error_on_start, error_on_end);
    XML_SetCharacterDataHandler(r.parser, error_on_text);
    XML_SetStartDoctypeDeclHandler(r.parser, error_on_doctype);
    XML_Parse(r.parser, body.data, (int)body.size_bytes, 1); // what came before it was wrong is good enough
    XML_ParserFree(r.parser);
}

void listing_read_error(struct text body, struct listing_error *ret_error)
{
    struct listing_error *e = ret_error;
    *e = (struct listing_error){0};
    const struct listing_value values[] = {
        {"Code", e->code, sizeof(e->code)},
        {"Message", e->message, sizeof(e->message)},
        {"Region", e->region, sizeof(e->region)},
        {"Endpoint", e->endpoint, sizeof(e->endpoint)},
    };
    listing_read_values(body, values, sizeof(values) / sizeof(*values));
}
