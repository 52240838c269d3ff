// SPDX-License-Identifier: BSD-3-Clause
// credentials_xml: what STS answers: one set of keys in elements of known names, wherever they stand.
#include <errno.h>
#include <expat.h>

#include "base/doc.h"
#include "cache/origin/credentials_files.h"
#include "cache/origin/internal.h"

#define XML_DEPTH_MAX 16
#define XML_VALUE_BYTES_MAX ((size_t)16 << 10)

struct xml_reading {
    XML_Parser parser;
    struct doc *found;    // name: value, as the JSON that others give
    struct buffer value;
    uint32_t depth;
};

static void XMLCALL on_start(void *context, const char *name, const char **attributes)
{
    struct xml_reading *r = context;
    buffer_clear(&r->value);
    if (++r->depth > XML_DEPTH_MAX)
        XML_StopParser(r->parser, XML_FALSE);
}

static void XMLCALL on_end(void *context, const char *name)
{
    static const char *const names[] = {"AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration"};
    struct xml_reading *r = context;
    r->depth--;
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        if (strcmp(names[i], name) == 0)
            doc_put(r->found, name, doc_new_text(buffer_text(&r->value)));
    }
    buffer_clear(&r->value);
}

static void XMLCALL on_text(void *context, const char *data, int size_bytes)
{
    struct xml_reading *r = context;
    if (r->value.size_bytes + (size_t)size_bytes > XML_VALUE_BYTES_MAX)
        XML_StopParser(r->parser, XML_FALSE);
    else
        buffer_append(&r->value, data, (size_t)size_bytes);
}

static void XMLCALL on_doctype(void *context, const char *name, const char *system, const char *public, int internal)
{
    struct xml_reading *r = context;
    XML_StopParser(r->parser, XML_FALSE);
}

int credentials_read_xml(struct text xml, struct credential_set **ret_set, char **ret_why)
{
    cleanup(cleanup_doc_free) struct doc *found = doc_new(DOC_MAP);
    struct xml_reading r = {.parser = XML_ParserCreate(NULL), .found = found};
    if (!r.parser)
        return origin_fail(-ENOMEM, ret_why, "no memory");
    if (xml.size_bytes > INI_BYTES_MAX) {
        XML_ParserFree(r.parser);
        return origin_fail(-EINVAL, ret_why, "it is too long");
    }
    XML_SetUserData(r.parser, &r);
    XML_SetElementHandler(r.parser, on_start, on_end);
    XML_SetCharacterDataHandler(r.parser, on_text);
    XML_SetStartDoctypeDeclHandler(r.parser, on_doctype);
    enum XML_Status status = XML_Parse(r.parser, xml.data, (int)xml.size_bytes, 1);
    XML_ParserFree(r.parser);
    buffer_release(&r.value);
    if (status != XML_STATUS_OK)
        return origin_fail(-EINVAL, ret_why, "it is no XML that can be read");
    BUFFER_CLEANUP json = {0};
    doc_write_json(found, false, &json);
    int error = credentials_read_json(buffer_text(&json), ret_set, ret_why);
    explicit_bzero(json.data, json.size_bytes);
    return error;
}
