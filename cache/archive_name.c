// SPDX-License-Identifier: BSD-3-Clause
// archive_name: members' names. They are compared, never used as paths.
#include <errno.h>

#include "cache/archive_format.h"

// Code page 437's upper half in Unicode: what a name is written in that isn't marked as UTF-8. All
// below U+FFFF, none in the surrogates.
static const uint16_t page437[128] = {
    0x00c7, 0x00fc, 0x00e9, 0x00e2, 0x00e4, 0x00e0, 0x00e5, 0x00e7, 0x00ea, 0x00eb, 0x00e8, 0x00ef,
    0x00ee, 0x00ec, 0x00c4, 0x00c5, 0x00c9, 0x00e6, 0x00c6, 0x00f4, 0x00f6, 0x00f2, 0x00fb, 0x00f9,
    0x00ff, 0x00d6, 0x00dc, 0x00a2, 0x00a3, 0x00a5, 0x20a7, 0x0192, 0x00e1, 0x00ed, 0x00f3, 0x00fa,
    0x00f1, 0x00d1, 0x00aa, 0x00ba, 0x00bf, 0x2310, 0x00ac, 0x00bd, 0x00bc, 0x00a1, 0x00ab, 0x00bb,
    0x2591, 0x2592, 0x2593, 0x2502, 0x2524, 0x2561, 0x2562, 0x2556, 0x2555, 0x2563, 0x2551, 0x2557,
    0x255d, 0x255c, 0x255b, 0x2510, 0x2514, 0x2534, 0x252c, 0x251c, 0x2500, 0x253c, 0x255e, 0x255f,
    0x255a, 0x2554, 0x2569, 0x2566, 0x2560, 0x2550, 0x256c, 0x2567, 0x2568, 0x2564, 0x2565, 0x2559,
    0x2558, 0x2552, 0x2553, 0x256b, 0x256a, 0x2518, 0x250c, 0x2588, 0x2584, 0x258c, 0x2590, 0x2580,
    0x03b1, 0x00df, 0x0393, 0x03c0, 0x03a3, 0x03c3, 0x00b5, 0x03c4, 0x03a6, 0x0398, 0x03a9, 0x03b4,
    0x221e, 0x03c6, 0x03b5, 0x2229, 0x2261, 0x00b1, 0x2265, 0x2264, 0x2320, 0x2321, 0x00f7, 0x2248,
    0x00b0, 0x2219, 0x00b7, 0x221a, 0x207f, 0x00b2, 0x25a0, 0x00a0,
};

static void append_437(struct buffer *to, unsigned char byte)
{
    unsigned c = byte < 0x80 ? byte : page437[byte - 0x80];
    if (c < 0x80) {
        buffer_append_byte(to, (char)c);
        return;
    }
    if (c >= 0x800) {
        buffer_append_byte(to, (char)(0xe0 | c >> 12));
        buffer_append_byte(to, (char)(0x80 | (c >> 6 & 0x3f)));
    } else {
        buffer_append_byte(to, (char)(0xc0 | c >> 6));
    }
    buffer_append_byte(to, (char)(0x80 | (c & 0x3f)));
}

struct text archive_name(const struct archive_entry *e, struct buffer *scratch, bool *ret_is_cut)
{
    struct text name = e->name;
    const char *nul = name.size_bytes ? memchr(name.data, 0, name.size_bytes) : NULL;
    bool is_ascii = true;
    if (nul)
        name.size_bytes = (size_t)(nul - name.data);
    *ret_is_cut = nul;
    for (size_t i = 0; i < name.size_bytes && is_ascii; i++)
        is_ascii = (unsigned char)name.data[i] < 0x80;
    if (is_ascii || (e->flags & ARCHIVE_FLAG_UTF8))
        return name;
    buffer_clear(scratch);
    for (size_t i = 0; i < name.size_bytes; i++)
        append_437(scratch, (unsigned char)name.data[i]);
    return buffer_text(scratch);
}

static int refuse(const char *why, const char **ret_why)
{
    *ret_why = why;
    return -EBADMSG;
}

int archive_check_name(struct text name, const char **ret_why)
{
    if (name.size_bytes == 0)
        return refuse("its name is empty", ret_why);
    if (name.data[0] == '/')
        return refuse("its name is absolute", ret_why);
    if (text_ends(name, TEXT("/")))
        return refuse("it is a folder", ret_why);
    for (size_t from = 0, at = 0; at <= name.size_bytes; at++)
        if (at == name.size_bytes || name.data[at] == '/') {
            if (text_equal(text_slice(name, from, at), TEXT("..")))
                return refuse("its name leads out of the archive (..)", ret_why);
            from = at + 1;
        }
    return 0;
}
