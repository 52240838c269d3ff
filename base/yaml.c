// SPDX-License-Identifier: BSD-3-Clause
// yaml: reads YAML through libyaml, which no other file includes, event by event, so that bounds
// are kept while the tree grows and not after it has.
// 1. What is open (lists and maps) lies on a stack of DOC_DEPTH_MAX; nothing here recurses deeper.
// 2. An alias is a copy of what its anchor stood for; the nodes and bytes of copies are counted, so
//    that a few lines that repeat each other do not become a tree that fills the memory.
// 3. A node lives until the end of the reading, as an anchor may name it: a value whose key is
//    given another one moves to `replaced`, a scalar that became a key does too.
// 4. The time is linear in the input: %TAG lines, which libyaml compares each with each, are
//    counted beforehand. For that the input must be UTF-8 (libyaml would also guess UTF-16).
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <yaml.h>

#include "base/doc_tree.h"
#include "base/log.h"

#define YAML_TAG "tag:yaml.org,2002:"
#define YAML_DIRECTIVES_MAX 1000

struct yaml_open {
    struct doc *node; // in the tree below `root`
    struct doc *key;  // of a map: whose value comes next; in `replaced`
};

struct yaml_anchor {
    char *name; // owned
    struct doc *node;
};

struct yaml_reader {
    yaml_parser_t parser;
    struct yaml_open stack[DOC_DEPTH_MAX];
    int depth;
    struct doc *root;     // NULL: nothing read yet
    struct doc *replaced; // a list
    size_t nodes;
    size_t copied_bytes;
    struct yaml_anchor *anchors;
    size_t anchor_count;
    size_t anchor_room;
    struct table anchor_index; // hash of a name -> its number + 1
    size_t line;               // of the event in work, from 1
    char **ret_why;
};

static void yaml_reader_release(struct yaml_reader *r)
{
    for (size_t i = 0; i < r->anchor_count; i++)
        free(r->anchors[i].name);
    free(r->anchors);
    table_release(&r->anchor_index);
    doc_free(r->root);
    doc_free(r->replaced);
    yaml_parser_delete(&r->parser);
}

static int yaml_fail(struct yaml_reader *r, int error, const char *what)
{
    return doc_fail(error, r->ret_why, "line %zu: %s", r->line, what);
}

static int yaml_count(struct yaml_reader *r)
{
    return ++r->nodes > DOC_NODES_MAX ? yaml_fail(r, -E2BIG, "too many values") : 0;
}

// --- the tree

// Takes the node in any case.
static int yaml_add(struct yaml_reader *r, struct doc *node)
{
    if (r->depth == 0) {
        check(!r->root);
        r->root = node;
        return 0;
    }
    struct yaml_open *open = &r->stack[r->depth - 1];
    if (doc_kind(open->node) == DOC_LIST) {
        doc_append(open->node, node);
        return 0;
    }
    if (!open->key) {
        doc_append(r->replaced, node);
        if (!doc_is_scalar(node))
            return yaml_fail(r, -EINVAL, "a key that is a list or a map");
        open->key = node;
        return 0;
    }
    struct doc *before = doc_swap(open->node, doc_spelling(open->key), node);
    if (before)
        doc_append(r->replaced, before);
    open->key = NULL;
    return 0;
}

static int yaml_enter(struct yaml_reader *r, struct doc *node)
{
    int error = yaml_add(r, node);
    if (error < 0)
        return error;
    if (r->depth == DOC_DEPTH_MAX)
        return yaml_fail(r, -E2BIG, "lists and maps within each other too deep");
    r->stack[r->depth++] = (struct yaml_open){.node = node};
    return 0;
}

// A tag of the document's own ("!include") stays with the node; YAML's own are done with.
static void yaml_set_tag(struct doc *node, const char *tag)
{
    if (tag && tag[0] == '!' && tag[1])
        node->tag = memory_copy(tag, strlen(tag));
}

// --- anchors

static bool yaml_anchor_same(uint64_t number, const void *name, void *context)
{
    const struct yaml_reader *r = context;
    return strcmp(r->anchors[number - 1].name, name) == 0;
}

static struct yaml_anchor *yaml_anchor_find(struct yaml_reader *r, const char *name)
{
    uint64_t number =
        table_find(&r->anchor_index, doc_hash(text_of(name)), yaml_anchor_same, name, r);
    return number ? &r->anchors[number - 1] : NULL;
}

// The last node with a name is the one that is meant from there on.
static void yaml_anchor_set(struct yaml_reader *r, const yaml_char_t *anchor, struct doc *node)
{
    if (!anchor)
        return;
    const char *name = (const char *)anchor;
    struct yaml_anchor *known = yaml_anchor_find(r, name);
    if (known) {
        known->node = node;
        return;
    }
    if (r->anchor_count == r->anchor_room) {
        r->anchor_room = r->anchor_room ? r->anchor_room * 2 : 16;
        r->anchors = memory_grow(r->anchors, r->anchor_room, sizeof(*r->anchors));
    }
    r->anchors[r->anchor_count++] = (struct yaml_anchor){memory_copy(name, strlen(name)), node};
    table_add(&r->anchor_index, doc_hash(text_of(name)), r->anchor_count);
}

static int yaml_count_copy(struct yaml_reader *r, size_t bytes)
{
    r->copied_bytes += bytes;
    if (r->copied_bytes > DOC_BYTES_MAX)
        return yaml_fail(r, -E2BIG, "aliases repeat too much");
    return yaml_count(r);
}

static int yaml_copy(struct yaml_reader *r, const struct doc *from, int depth,
                     struct doc **ret_copy);

// Every level is one level of the tree to come: bounded like it.
static int yaml_copy_branch(struct yaml_reader *r, const struct doc *from, int depth,
                            struct doc *to)
{
    if (depth == DOC_DEPTH_MAX)
        return yaml_fail(r, -E2BIG, "lists and maps within each other too deep");
    for (size_t i = 0; i < doc_count(from); i++) {
        struct doc *item = NULL;
        struct text key = doc_key(from, i);
        r->copied_bytes += key.size_bytes;
        int error = yaml_copy(r, doc_item(from, i), depth + 1, &item);
        if (error < 0)
            return error;
        if (doc_kind(to) == DOC_MAP)
            doc_swap(to, key, item);
        else
            doc_append(to, item);
    }
    return 0;
}

static int yaml_copy(struct yaml_reader *r, const struct doc *from, int depth,
                     struct doc **ret_copy)
{
    struct text spelling = doc_is_scalar(from) ? doc_spelling(from) : TEXT("");
    int error = yaml_count_copy(r, spelling.size_bytes);
    if (error < 0)
        return error;
    if (doc_is_scalar(from)) {
        *ret_copy = doc_new_scalar(doc_kind(from), spelling);
        (*ret_copy)->scalar.integer = from->scalar.integer; // whichever of the union it is
        yaml_set_tag(*ret_copy, from->tag);
        return 0;
    }
    cleanup(cleanup_doc_free) struct doc *to = doc_new(doc_kind(from));
    yaml_set_tag(to, from->tag);
    error = yaml_copy_branch(r, from, depth, to);
    if (error < 0)
        return error;
    *ret_copy = take(to);
    return 0;
}

static int yaml_on_alias(struct yaml_reader *r, const yaml_event_t *event)
{
    const struct yaml_anchor *anchor =
        yaml_anchor_find(r, (const char *)event->data.alias.anchor);
    if (!anchor)
        return yaml_fail(r, -EINVAL, "an alias without an anchor before it");
    for (int i = 0; i < r->depth; i++)
        if (r->stack[i].node == anchor->node)
            return yaml_fail(r, -EINVAL, "an alias within what it stands for");
    struct doc *copy = NULL;
    int error = yaml_copy(r, anchor->node, r->depth, &copy);
    return error < 0 ? error : yaml_add(r, copy);
}

// --- events

static struct doc *yaml_scalar(const yaml_event_t *event)
{
    const char *tag = (const char *)event->data.scalar.tag;
    struct text spelling = {(const char *)event->data.scalar.value, event->data.scalar.length};
    bool is_plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (tag && (strcmp(tag, YAML_TAG "str") == 0 || strcmp(tag, "!") == 0))
        is_plain = false;
    else if (tag && (strcmp(tag, YAML_TAG "int") == 0 || strcmp(tag, YAML_TAG "float") == 0 ||
                     strcmp(tag, YAML_TAG "bool") == 0 || strcmp(tag, YAML_TAG "null") == 0))
        is_plain = true;
    return is_plain ? doc_new_plain(spelling) : doc_new_text(spelling);
}

// The anchor is known before what it stands for is complete: an alias in between is an error, and
// not one to an older anchor of that name.
static int yaml_on_node(struct yaml_reader *r, const yaml_event_t *event)
{
    int error = yaml_count(r);
    if (error < 0)
        return error;
    struct doc *node;
    if (event->type == YAML_SCALAR_EVENT) {
        node = yaml_scalar(event);
        yaml_set_tag(node, (const char *)event->data.scalar.tag);
        yaml_anchor_set(r, event->data.scalar.anchor, node);
        return yaml_add(r, node);
    }
    bool is_list = event->type == YAML_SEQUENCE_START_EVENT;
    node = doc_new(is_list ? DOC_LIST : DOC_MAP);
    yaml_set_tag(node, (const char *)(is_list ? event->data.sequence_start.tag
                                              : event->data.mapping_start.tag));
    yaml_anchor_set(r, is_list ? event->data.sequence_start.anchor
                               : event->data.mapping_start.anchor, node);
    return yaml_enter(r, node);
}

static int yaml_on_event(struct yaml_reader *r, const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        return r->root ? yaml_fail(r, -EINVAL, "a second document") : 0;
    case YAML_SCALAR_EVENT:
    case YAML_SEQUENCE_START_EVENT:
    case YAML_MAPPING_START_EVENT:
        return yaml_on_node(r, event);
    case YAML_ALIAS_EVENT:
        return yaml_on_alias(r, event);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        check(r->depth > 0);
        r->depth--;
        return 0;
    default:
        return 0;
    }
}

static int yaml_parser_failed(struct yaml_reader *r)
{
    const yaml_parser_t *p = &r->parser;
    const char *what = p->problem ? p->problem : "not YAML";
    if (p->error == YAML_MEMORY_ERROR)
        return doc_fail(-E2BIG, r->ret_why, "too large for the YAML parser");
    if (p->error == YAML_READER_ERROR)
        return doc_fail(-EINVAL, r->ret_why, "byte %zu: %s", p->problem_offset, what);
    return doc_fail(-EINVAL, r->ret_why, "line %zu: %s", p->problem_mark.line + 1, what);
}

static int yaml_read(struct yaml_reader *r)
{
    for (bool at_end = false; !at_end;) {
        yaml_event_t event;
        if (!yaml_parser_parse(&r->parser, &event))
            return yaml_parser_failed(r);
        r->line = event.start_mark.line + 1;
        at_end = event.type == YAML_STREAM_END_EVENT;
        int error = yaml_on_event(r, &event);
        yaml_event_delete(&event);
        if (error < 0)
            return error;
    }
    return 0;
}

// Lines that begin with `%`; perhaps a few more, as the last byte of a rarer line break can be that
// of another character too.
static size_t yaml_count_directives(struct text input)
{
    static const char breaks[] = "\n\r\x85\xa8\xa9"; // LF, CR, and the ends of NEL, LS and PS
    size_t count = 0;
    for (size_t i = 0; i < input.size_bytes; i++)
        if (input.data[i] == '%')
            count += i == 0 || memchr(breaks, input.data[i - 1], sizeof(breaks) - 1);
    return count;
}

int doc_parse_yaml(struct text input, struct doc **ret_doc, char **ret_why)
{
    if (input.size_bytes > DOC_BYTES_MAX)
        return doc_fail(-E2BIG, ret_why, "more than %zu bytes", DOC_BYTES_MAX);
    if (yaml_count_directives(input) > YAML_DIRECTIVES_MAX)
        return doc_fail(-E2BIG, ret_why, "more than %d directives", YAML_DIRECTIVES_MAX);
    cleanup(yaml_reader_release) struct yaml_reader r = {
        .ret_why = ret_why,
        .replaced = doc_new(DOC_LIST),
    };
    int made = yaml_parser_initialize(&r.parser);
    check(made);
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.parser, (const yaml_char_t *)(input.data ? input.data : ""),
                                 input.size_bytes);
    int error = yaml_read(&r);
    if (error < 0)
        return error;
    *ret_doc = r.root ? take(r.root) : doc_new(DOC_NULL);
    return 0;
}

static int yaml_read_file(int fd, const char *path, struct buffer *to, char **ret_why)
{
    struct stat is;
    if (fstat(fd, &is) < 0)
        return doc_fail(-errno, ret_why, "%s: %m", path);
    if (!S_ISREG(is.st_mode))
        return doc_fail(-EINVAL, ret_why, "%s: not a regular file", path);
    char piece[16384];
    for (ssize_t n; (n = read(fd, piece, sizeof(piece))) != 0;) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return doc_fail(-errno, ret_why, "%s: %m", path);
        buffer_append(to, piece, (size_t)n);
        if (to->size_bytes > DOC_BYTES_MAX) // not st_size: it may grow
            return doc_fail(-E2BIG, ret_why, "%s: more than %zu bytes", path, DOC_BYTES_MAX);
    }
    return 0;
}

int doc_read_yaml_file(int fd, const char *name, struct doc **ret_doc, char **ret_why)
{
    BUFFER_CLEANUP content = {0};
    int error = yaml_read_file(fd, name, &content, ret_why);
    if (error < 0)
        return error;
    cleanup(cleanup_free) char *why = NULL;
    error = doc_parse_yaml(buffer_text(&content), ret_doc, &why);
    return error < 0 ? doc_fail(error, ret_why, "%s: %s", name, why) : 0;
}

int doc_read_yaml(const char *path, struct doc **ret_doc, char **ret_why)
{
    // Non-blocking, so that a pipe of that name can't hold us up before it is refused.
    cleanup(cleanup_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return doc_fail(-errno, ret_why, "%s: %m", path);
    return doc_read_yaml_file(fd, path, ret_doc, ret_why);
}
