// SPDX-License-Identifier: BSD-3-Clause
#include "tests/unit/meta/bytes.h"

#include <errno.h>

#include "base/hash.h"
#include "meta/name.h"

static const enum name_place places[] = {NAME_VALUE, NAME_LAST_VALUE, NAME_COLLECTION, NAME_S3};
#define PLACES (sizeof(places) / sizeof(places[0]))

static void assert_escaped(enum name_place place, struct text raw, const char *wanted)
{
    BUFFER_CLEANUP b = {0}, back = {0};
    name_escape(place, raw, &b);
    assert_string_equal(b.data, wanted);
    assert_int_equal(name_unescape(place, buffer_text(&b), &back), 0);
    assert_true(text_equal(buffer_text(&back), raw));
}

static void assert_refused(enum name_place place, struct text escaped)
{
    BUFFER_CLEANUP b = {0};
    buffer_append_string(&b, "before");
    assert_int_equal(name_unescape(place, escaped, &b), -EINVAL);
    assert_string_equal(b.data, "before");
}

static void slash_percent_nul_control_bytes_and_del_are_escaped_everywhere(void **state)
{
    for (size_t i = 0; i < PLACES; i++)
        assert_escaped(places[i], TEXT("a/b%c\0d\ne\x1f\x7f "), "a%2Fb%25c%00d%0Ae%1F%7F ");
}

static void utf8_and_other_high_bytes_pass_through(void **state)
{
    for (size_t i = 0; i < PLACES; i++)
        assert_escaped(places[i], TEXT("\xc3\xa9\xe2\x80\xa8\xff\x80"),
                       "\xc3\xa9\xe2\x80\xa8\xff\x80");
}

static void the_empty_value_is_a_lone_percent(void **state)
{
    for (size_t i = 0; i < PLACES; i++) {
        assert_escaped(places[i], TEXT(""), "%");
        assert_refused(places[i], TEXT(""));
    }
}

static void every_byte_of_dot_and_dot_dot_is_escaped(void **state)
{
    for (size_t i = 0; i < PLACES; i++) {
        assert_escaped(places[i], TEXT("."), "%2E");
        assert_escaped(places[i], TEXT(".."), "%2E%2E");
    }
}

static void a_leading_dot_is_escaped_except_in_an_s3_space(void **state)
{
    assert_escaped(NAME_VALUE, TEXT(".zarray"), "%2Ezarray");
    assert_escaped(NAME_VALUE, TEXT("..."), "%2E..");
    assert_escaped(NAME_COLLECTION, TEXT(".a.b"), "%2Ea.b");
    assert_escaped(NAME_S3, TEXT(".zarray"), ".zarray");
    assert_escaped(NAME_S3, TEXT("..."), "...");
}

static void the_last_value_escapes_dots_and_at_signs(void **state)
{
    assert_escaped(NAME_LAST_VALUE, TEXT("a.b@c"), "a%2Eb%40c");
    assert_escaped(NAME_VALUE, TEXT("a.b@c"), "a.b@c");
}

static void a_collections_part_escapes_equals_and_a_leading_at(void **state)
{
    assert_escaped(NAME_COLLECTION, TEXT("@a@b=c"), "%40a@b%3Dc");
    assert_escaped(NAME_VALUE, TEXT("@a@b=c"), "@a@b=c");
}

static void a_tilde_before_what_looks_like_a_hash_is_escaped(void **state)
{
    assert_escaped(NAME_VALUE, TEXT("a~0123456789abcdef"), "a%7E0123456789abcdef");
    assert_escaped(NAME_VALUE, TEXT("~0123456789abcdef.x"), "%7E0123456789abcdef.x");
    assert_escaped(NAME_S3, TEXT("~0123456789ABCDEF@"), "%7E0123456789ABCDEF@");
    assert_escaped(NAME_VALUE, TEXT("~0123456789abcdef0"), "~0123456789abcdef0");
    assert_escaped(NAME_VALUE, TEXT("~0123456789abcde"), "~0123456789abcde");
    assert_escaped(NAME_VALUE, TEXT("SDSSr_65mm~empty"), "SDSSr_65mm~empty");
}

static void what_is_not_in_its_escaped_form_is_refused(void **state)
{
    assert_refused(NAME_VALUE, TEXT("a%2fb")); // lower-case hex
    assert_refused(NAME_VALUE, TEXT("%41"));   // not needed
    assert_refused(NAME_VALUE, TEXT("a%2Eb")); // not needed here
    assert_refused(NAME_VALUE, TEXT("."));     // missing
    assert_refused(NAME_VALUE, TEXT("a\nb"));  // missing
    assert_refused(NAME_VALUE, TEXT("a%"));    // cut off
    assert_refused(NAME_VALUE, TEXT("a%2"));   // cut off
    assert_refused(NAME_VALUE, TEXT("%%25"));  // nothing and something
    assert_refused(NAME_LAST_VALUE, TEXT("a.b"));
    assert_refused(NAME_COLLECTION, TEXT("a=b"));
    assert_refused(NAME_VALUE, TEXT("~0123456789abcdef"));
    assert_refused(NAME_VALUE, TEXT("a\0"));
}

static void any_bytes_survive_escape_and_back(void **state)
{
    struct chance c = {1};
    for (int i = 0; i < 20000; i++) {
        BUFFER_CLEANUP raw = {0}, name = {0}, back = {0};
        enum name_place place = places[chance_below(&c, PLACES)];
        chance_text(&c, 12, &raw);
        name_escape(place, buffer_text(&raw), &name);
        assert_int_equal(name_unescape(place, buffer_text(&name), &back), 0);
        assert_true(text_equal(buffer_text(&back), buffer_text(&raw)));
        assert_int_equal(strcspn(name.data, "/\n\x7f"), name.size_bytes);
        assert_true(strcmp(name.data, ".") != 0 && strcmp(name.data, "..") != 0);
        assert_false(name_is_shortened(buffer_text(&name)));
    }
}

static void what_is_read_is_what_would_be_written(void **state)
{
    struct chance c = {2};
    int read = 0;
    for (int i = 0; i < 50000; i++) {
        BUFFER_CLEANUP name = {0}, raw = {0}, again = {0};
        enum name_place place = places[chance_below(&c, PLACES)];
        chance_text(&c, 5, &name);
        if (name_unescape(place, buffer_text(&name), &raw) < 0)
            continue;
        read++;
        name_escape(place, buffer_text(&raw), &again);
        assert_true(text_equal(buffer_text(&again), buffer_text(&name)));
    }
    assert_true(read > 5000);
}

static void assert_part(const char *parent, const char *raw, const char *wanted)
{
    BUFFER_CLEANUP b = {0}, back = {0};
    name_write_part(text_of(parent), text_of(raw), &b);
    assert_string_equal(b.data, wanted);
    assert_int_equal(name_read_part(text_of(parent), buffer_text(&b), &back), 0);
    assert_string_equal(buffer_text(&back).data, raw);
}

static void a_part_that_could_be_its_parents_dataset_has_that_byte_escaped(void **state)
{
    assert_part("a", "a.b", "a%2Eb");
    assert_part("raw", "raw_2024.fits", "raw%5F2024.fits");
    assert_part("raw", "raw@x", "raw%40x");
    assert_part("raw", "raw", "raw");
    assert_part("raw", "raws_1", "raws_1");
    assert_part("raw", "a_raw.x", "a_raw.x");
    assert_part("", "a.b", "a.b");
    assert_part("", "_x", "_x");
    assert_part("@a", "@a.b", "%40a%2Eb");
}

static void a_part_is_refused_below_a_parent_that_would_write_it_otherwise(void **state)
{
    BUFFER_CLEANUP b = {0};
    assert_int_equal(name_read_part(TEXT("a"), TEXT("a.b"), &b), -EINVAL);
    assert_int_equal(name_read_part(TEXT("b"), TEXT("a%2Eb"), &b), -EINVAL);
    assert_int_equal(b.size_bytes, 0);
}

// All texts of up to three pieces; each in its written form, to be sorted.
#define PIECES 14
#define NAMES_MAX (1 + PIECES + PIECES * PIECES + PIECES * PIECES * PIECES)

static int compare_names(const void *a, const void *b)
{
    return text_compare(buffer_text(a), buffer_text(b));
}

static size_t all_names(void (*write)(struct text raw, struct buffer *to), struct buffer *names)
{
    static const char pieces[PIECES][4] = {"%",  ".", "@", "=",  "~",        "_", "/",
                                           "\n", "a", "b", "2E", "\xc3\xa9", "-", "raw"};
    size_t count = 0;
    for (int i = 0; i < (PIECES + 1) * (PIECES + 1) * (PIECES + 1); i++) {
        int picks[3] = {i % (PIECES + 1), i / (PIECES + 1) % (PIECES + 1),
                        i / (PIECES + 1) / (PIECES + 1)};
        if ((picks[0] == 0 && (picks[1] || picks[2])) || (picks[1] == 0 && picks[2]))
            continue; // the same text stands elsewhere
        BUFFER_CLEANUP raw = {0};
        for (int j = 0; j < 3 && picks[j]; j++)
            buffer_append_string(&raw, pieces[picks[j] - 1]);
        names[count] = (struct buffer){0};
        write(buffer_text(&raw), &names[count++]);
    }
    return count;
}

static void write_last(struct text raw, struct buffer *to)
{
    struct value v = value_text(raw);
    name_write_file(TEXT("raw"), &v, 1, TEXT(""), TEXT(".fits"), to);
}

static void write_level(struct text raw, struct buffer *to)
{
    struct value v = value_text(raw);
    name_write_level(TEXT("a"), &v, to);
}

static void write_part(struct text raw, struct buffer *to)
{
    name_write_part(TEXT("raw"), raw, to);
}

static void no_two_things_in_a_folder_have_one_name(void **state)
{
    struct buffer *names = memory_grow(NULL, 3 * NAMES_MAX + 1, sizeof(*names));
    size_t count = all_names(write_last, names);
    assert_int_equal(count, NAMES_MAX);
    count += all_names(write_level, names + count);
    count += all_names(write_part, names + count);
    names[count] = (struct buffer){0};
    name_write_file(TEXT("raw"), NULL, 0, TEXT(""), TEXT(".fits"), &names[count++]);
    qsort(names, count, sizeof(*names), compare_names);
    for (size_t i = 1; i < count; i++)
        if (compare_names(&names[i - 1], &names[i]) == 0)
            fail_msg("two things are called %s", names[i].data);
    for (size_t i = 0; i < count; i++)
        buffer_release(&names[i]);
    free(names);
}

static void shorten(struct text long_name, struct text suffix, struct buffer *b)
{
    buffer_append_string(b, "before/");
    buffer_append_text(b, long_name);
    name_shorten(b, 7, suffix);
    assert_memory_equal(b->data, "before/", 7);
}

static void a_name_of_255_bytes_stays_as_it_is(void **state)
{
    char name[256];
    memset(name, 'n', sizeof(name));
    BUFFER_CLEANUP b = {0};
    shorten((struct text){name, 255}, TEXT(""), &b);
    assert_int_equal(b.size_bytes, 7 + 255);
    assert_false(name_is_shortened((struct text){name, 255}));
}

static void a_longer_name_ends_with_the_hash_of_the_whole_and_its_suffix(void **state)
{
    char name[300], wanted[300];
    memset(name, 'n', sizeof(name));
    memcpy(name + 292, ".fits.fz", 8);
    BUFFER_CLEANUP b = {0};
    shorten((struct text){name, 300}, TEXT(".fits.fz"), &b);
    snprintf(wanted, sizeof(wanted), "%.*s~%016llx.fits.fz", 230, name,
             (unsigned long long)hash64(name, 300));
    assert_string_equal(b.data + 7, wanted);
    assert_int_equal(b.size_bytes, 7 + 255);
    assert_true(name_is_shortened(text_of(wanted)));
}

static void a_name_is_not_cut_inside_a_character_or_an_escape(void **state)
{
    static const struct {
        const char *piece;
        size_t at, kept; // where it stands and what is left before the `~` at 238 at most
    } cases[] = {
        {"\xc3\xa9", 237, 237},
        {"\xc3\xa9", 236, 238},
        {"\xe2\x80\xa8", 236, 236},
        {"\xe2\x80\xa8", 237, 237},
        {"\xf0\x9f\x94\xad", 235, 235},
        {"\xf0\x9f\x94\xad", 234, 238},
        {"%2F", 237, 237},
        {"%2F", 236, 236},
        {"%2F", 235, 238},
        {"%_x", 237, 238},
        {"\xc3\xc3", 237, 238},
        {"\x80\x80\x80\x80", 236, 238},
        {"\xe2\x80z", 237, 238},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char name[300];
        memset(name, 'n', sizeof(name));
        memcpy(name + cases[i].at, cases[i].piece, strlen(cases[i].piece));
        BUFFER_CLEANUP b = {0};
        shorten((struct text){name, 300}, TEXT(""), &b);
        assert_int_equal(b.size_bytes, 7 + cases[i].kept + 17);
        assert_memory_equal(b.data + 7, name, cases[i].kept);
        assert_true(name_is_shortened(text_slice(buffer_text(&b), 7, b.size_bytes)));
    }
}

static void a_suffix_that_leaves_no_room_is_written_data(void **state)
{
    char name[600];
    memset(name, 'n', sizeof(name));
    name[300] = '.';
    BUFFER_CLEANUP b = {0};
    shorten((struct text){name, 600}, (struct text){name + 300, 300}, &b);
    assert_int_equal(b.size_bytes, 7 + 255);
    assert_true(text_ends(buffer_text(&b), TEXT(".data")));
}

static void long_names_that_differ_at_their_end_stay_apart(void **state)
{
    char value[400];
    memset(value, 'v', sizeof(value));
    struct value a = value_text((struct text){value, 399}),
                 b = value_text((struct text){value, 400});
    BUFFER_CLEANUP one = {0}, other = {0};
    name_write_level(TEXT("group"), &a, &one);
    name_write_level(TEXT("group"), &b, &other);
    assert_int_equal(one.size_bytes, 255);
    assert_false(text_equal(buffer_text(&one), buffer_text(&other)));
}

static void a_shortened_name_cannot_be_read_back_and_says_so(void **state)
{
    char text[400];
    memset(text, 'v', sizeof(text));
    struct value v[2] = {value_text((struct text){text, 400}), value_integer(7)};
    BUFFER_CLEANUP level = {0}, file = {0}, part = {0}, store = {0};
    struct value read;
    struct text suffix;
    name_write_level(TEXT("group"), v, &level);
    assert_int_equal(name_read_level(buffer_text(&level), TEXT("group"), VALUE_TEXT, &read, &store),
                     -E2BIG);
    assert_int_equal(name_read_level(buffer_text(&level), TEXT("visit"), VALUE_TEXT, &read, &store),
                     -ENOENT);
    name_write_file(TEXT("bias"), v, 2, TEXT("@20240101T000000--"), TEXT(".fits"), &file);
    assert_true(text_ends(buffer_text(&file), TEXT("@20240101T000000--.fits")));
    assert_int_equal(file.size_bytes, 255);
    assert_int_equal(name_read_file(buffer_text(&file), TEXT("bias"), v, 2, VALUE_INTEGER, &read,
                                    &suffix, &store),
                     -E2BIG);
    assert_int_equal(name_read_file(buffer_text(&file), TEXT("dark"), v, 2, VALUE_INTEGER, &read,
                                    &suffix, &store),
                     -ENOENT);
    name_write_part(TEXT(""), v[0].text, &part);
    assert_int_equal(name_read_part(TEXT(""), buffer_text(&part), &store), -E2BIG);
    assert_int_equal(store.size_bytes, 0);
}

static void assert_suffix(struct text path, const char *wanted)
{
    assert_text_is(name_suffix(path), text_of(wanted), __LINE__);
}

static void a_suffix_is_the_last_one_with_the_known_ones_before_it(void **state)
{
    assert_suffix(TEXT("a/b/x.fits"), ".fits");
    assert_suffix(TEXT("x.fits.fz"), ".fits.fz");
    assert_suffix(TEXT("x.tar.gz"), ".tar.gz");
    assert_suffix(TEXT("gaia.v1.2.fits"), ".fits");
    assert_suffix(TEXT("x.fits.weird"), ".fits.weird");
    assert_suffix(TEXT("x.sqlite3.votable.parquet"), ".sqlite3.votable.parquet");
    assert_suffix(TEXT("x.FITS.gz"), ".gz");
    assert_suffix(TEXT("x.2"), ".2");
    assert_suffix(TEXT("x..fits"), ".fits");
}

static void a_file_without_a_suffix_has_data(void **state)
{
    assert_suffix(TEXT("x"), ".data");
    assert_suffix(TEXT("a.fits/x"), ".data");
    assert_suffix(TEXT("x."), ".data");
    assert_suffix(TEXT("x.fits~"), ".data");
    assert_suffix(TEXT("x.fit\0s"), ".data");
    assert_suffix(TEXT("x.\xc3\xa9"), ".data");
    assert_suffix(TEXT(".fits"), ".data");
    assert_suffix(TEXT(""), ".data");
    assert_suffix(TEXT("x.fits/"), ".data");
}

static void a_name_that_begins_with_a_dot_keeps_its_real_suffixes(void **state)
{
    assert_suffix(TEXT("d/.fits.gz"), ".gz");
    assert_suffix(TEXT(".x.fits.gz"), ".fits.gz");
}

static void a_level_is_key_equals_value(void **state)
{
    BUFFER_CLEANUP b = {0}, store = {0};
    struct value integer = value_integer(-2024111100123), text = value_text(TEXT("N/A")), read;
    name_write_level(TEXT("visit"), &integer, &b);
    assert_string_equal(b.data, "visit=-2024111100123");
    assert_int_equal(name_read_level(buffer_text(&b), TEXT("visit"), VALUE_INTEGER, &read, &store),
                     0);
    assert_true(value_equal(&integer, &read));
    buffer_clear(&b);
    name_write_level(TEXT("band"), &text, &b);
    assert_string_equal(b.data, "band=N%2FA");
    assert_int_equal(name_read_level(buffer_text(&b), TEXT("band"), VALUE_TEXT, &read, &store), 0);
    assert_true(value_equal(&text, &read));
}

static void an_empty_text_is_a_level_of_its_own(void **state)
{
    BUFFER_CLEANUP store = {0};
    struct value read = value_integer(1);
    assert_int_equal(name_read_level(TEXT("band=%"), TEXT("band"), VALUE_TEXT, &read, &store), 0);
    assert_int_equal(read.kind, VALUE_TEXT);
    assert_int_equal(read.text.size_bytes, 0);
    assert_int_equal(name_read_level(TEXT("band="), TEXT("band"), VALUE_TEXT, &read, &store),
                     -ENOENT);
}

static void an_integer_has_one_spelling(void **state)
{
    static const char *const wrong[] = {"visit=",
                                        "visit=-",
                                        "visit=-0",
                                        "visit=007",
                                        "visit=-07",
                                        "visit=+7",
                                        "visit=7 ",
                                        "visit= 7",
                                        "visit=7a",
                                        "visit=0x7",
                                        "visit=9223372036854775808",
                                        "visit=-9223372036854775809",
                                        "visit=%37",
                                        "visit=99999999999999999999",
                                        "visits=7",
                                        "visit",
                                        "vis=7",
                                        "=7",
                                        ""};
    BUFFER_CLEANUP store = {0};
    struct value read;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_int_equal(
            name_read_level(text_of(wrong[i]), TEXT("visit"), VALUE_INTEGER, &read, &store),
            -ENOENT);
    assert_int_equal(
        name_read_level(TEXT("visit=7\0"), TEXT("visit"), VALUE_INTEGER, &read, &store), -ENOENT);
}

static void the_outermost_integers_can_be_written_and_read(void **state)
{
    static const int64_t integers[] = {0, 1, -1, INT64_MAX, INT64_MIN};
    BUFFER_CLEANUP store = {0};
    for (size_t i = 0; i < sizeof(integers) / sizeof(integers[0]); i++) {
        BUFFER_CLEANUP b = {0};
        struct value v = value_integer(integers[i]), read;
        name_write_level(TEXT("k"), &v, &b);
        assert_int_equal(name_read_level(buffer_text(&b), TEXT("k"), VALUE_INTEGER, &read, &store),
                         0);
        assert_true(value_equal(&v, &read));
    }
}

static void a_file_is_named_after_its_type_and_all_its_values(void **state)
{
    BUFFER_CLEANUP b = {0};
    struct value v[3] = {value_text(TEXT("LSSTComCam")), value_integer(2024111100123),
                         value_integer(94)};
    name_write_file(TEXT("visit_image"), v, 3, TEXT(""), TEXT(".fits"), &b);
    assert_string_equal(b.data, "visit_image_LSSTComCam_2024111100123_94.fits");
    buffer_clear(&b);
    name_write_file(TEXT("bias"), v, 1, TEXT("@20240101T000000--"), TEXT(".fits"), &b);
    assert_string_equal(b.data, "bias_LSSTComCam@20240101T000000--.fits");
    buffer_clear(&b);
    name_write_file(TEXT("packages"), NULL, 0, TEXT(""), TEXT(".pickle"), &b);
    assert_string_equal(b.data, "packages.pickle");
}

static int read_file(const char *name, const char *type, const struct value *v, size_t count,
                     enum value_kind kind, struct value *ret_last, struct text *ret_suffix,
                     struct buffer *store)
{
    return name_read_file(text_of(name), text_of(type), v, count, kind, ret_last, ret_suffix,
                          store);
}

static void the_last_value_is_read_and_what_follows_it_handed_back(void **state)
{
    BUFFER_CLEANUP store = {0};
    struct value v[1] = {value_text(TEXT("a_b"))}, last;
    struct text suffix;
    assert_int_equal(
        read_file("bias_a_b_94@2024--.fits", "bias", v, 2, VALUE_INTEGER, &last, &suffix, &store),
        0);
    assert_int_equal(last.integer, 94);
    assert_text(suffix, "@2024--.fits");
    assert_int_equal(read_file("t_x%2Ey.fits.fz", "t", NULL, 1, VALUE_TEXT, &last, &suffix, &store),
                     0);
    assert_text(last.text, "x.y");
    assert_text(suffix, ".fits.fz");
    assert_int_equal(read_file("t.components", "t", NULL, 0, VALUE_TEXT, &last, &suffix, &store),
                     0);
    assert_text(suffix, ".components");
}

static void a_file_of_something_else_is_not_there(void **state)
{
    BUFFER_CLEANUP store = {0};
    struct value v[1] = {value_text(TEXT("a"))}, last;
    struct text suffix;
    static const char *const wrong[] = {
        "bias_a_94",       "bias_b_94.fits", "bias_94.fits", "dark_a_94.fits", "bias_a_.fits",
        "bias_a_094.fits", "bias_a.fits",    "bias_a_94%.f", "bias",           "",
        "bias_a_94_1.fits"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_int_equal(read_file(wrong[i], "bias", v, 2, VALUE_INTEGER, &last, &suffix, &store),
                         -ENOENT);
    assert_int_equal(read_file("tx.fits", "t", NULL, 0, VALUE_TEXT, &last, &suffix, &store),
                     -ENOENT);
    assert_int_equal(read_file("t", "t", NULL, 0, VALUE_TEXT, &last, &suffix, &store), -ENOENT);
    assert_int_equal(store.size_bytes, 0);
}

static void any_values_in_a_files_name_can_be_read_back(void **state)
{
    struct chance c = {3};
    for (int i = 0; i < 20000; i++) {
        BUFFER_CLEANUP name = {0}, store = {0};
        struct buffer texts[3] = {{0}};
        struct value v[3], last;
        struct text suffix;
        size_t count = 1 + chance_below(&c, 3);
        for (size_t j = 0; j < count; j++) {
            chance_text(&c, 5, &texts[j]);
            bool is_integer = chance_below(&c, 3) == 0;
            v[j] = is_integer ? value_integer((int64_t)chance_next(&c) >> chance_below(&c, 64))
                              : value_text(buffer_text(&texts[j]));
        }
        name_write_file(TEXT("type_1"), v, count, TEXT("@--"), TEXT(".fits"), &name);
        int r = name_read_file(buffer_text(&name), TEXT("type_1"), v, count, v[count - 1].kind,
                               &last, &suffix, &store);
        assert_int_equal(r, 0);
        assert_true(value_equal(&v[count - 1], &last));
        assert_text(suffix, "@--.fits");
        for (size_t j = 0; j < 3; j++)
            buffer_release(&texts[j]);
    }
}

static void a_uuid_is_written_with_hyphens_and_read_with_or_without(void **state)
{
    static const char written[] = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
    struct uuid u, other;
    char text[UUID_TEXT_BYTES];
    assert_int_equal(uuid_parse(text_of(written), true, &u), 0);
    uuid_format(&u, text);
    assert_string_equal(text, written);
    assert_int_equal(uuid_parse(TEXT("6ba7b8109dad11d180b400c04fd430c8"), true, &other), 0);
    assert_memory_equal(&u, &other, sizeof(u));
    assert_int_equal(uuid_parse(TEXT("6BA7B8109dad11d180b400c04fd430C8"), false, &other), 0);
    assert_memory_equal(&u, &other, sizeof(u));
}

static void what_is_not_a_uuid_is_refused(void **state)
{
    static const char *const wrong[] = {"",
                                        "6ba7b810-9dad-11d1-80b4-00c04fd430c",
                                        "6ba7b810-9dad-11d1-80b4-00c04fd430c88",
                                        "6ba7b8109-dad-11d1-80b4-00c04fd430c8",
                                        "6ba7b810-9dad-11d1-80b4-00c04fd430cg",
                                        "6ba7b8109dad11d180b400c04fd430c-",
                                        "{6ba7b8109dad11d180b400c04fd430}"};
    struct uuid u;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_int_equal(uuid_parse(text_of(wrong[i]), false, &u), -EINVAL);
    assert_int_equal(uuid_parse(TEXT("6BA7b810-9dad-11d1-80b4-00c04fd430c8"), true, &u), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slash_percent_nul_control_bytes_and_del_are_escaped_everywhere),
        cmocka_unit_test(utf8_and_other_high_bytes_pass_through),
        cmocka_unit_test(the_empty_value_is_a_lone_percent),
        cmocka_unit_test(every_byte_of_dot_and_dot_dot_is_escaped),
        cmocka_unit_test(a_leading_dot_is_escaped_except_in_an_s3_space),
        cmocka_unit_test(the_last_value_escapes_dots_and_at_signs),
        cmocka_unit_test(a_collections_part_escapes_equals_and_a_leading_at),
        cmocka_unit_test(a_tilde_before_what_looks_like_a_hash_is_escaped),
        cmocka_unit_test(what_is_not_in_its_escaped_form_is_refused),
        cmocka_unit_test(any_bytes_survive_escape_and_back),
        cmocka_unit_test(what_is_read_is_what_would_be_written),
        cmocka_unit_test(a_part_that_could_be_its_parents_dataset_has_that_byte_escaped),
        cmocka_unit_test(a_part_is_refused_below_a_parent_that_would_write_it_otherwise),
        cmocka_unit_test(no_two_things_in_a_folder_have_one_name),
        cmocka_unit_test(a_name_of_255_bytes_stays_as_it_is),
        cmocka_unit_test(a_longer_name_ends_with_the_hash_of_the_whole_and_its_suffix),
        cmocka_unit_test(a_name_is_not_cut_inside_a_character_or_an_escape),
        cmocka_unit_test(a_suffix_that_leaves_no_room_is_written_data),
        cmocka_unit_test(long_names_that_differ_at_their_end_stay_apart),
        cmocka_unit_test(a_shortened_name_cannot_be_read_back_and_says_so),
        cmocka_unit_test(a_suffix_is_the_last_one_with_the_known_ones_before_it),
        cmocka_unit_test(a_file_without_a_suffix_has_data),
        cmocka_unit_test(a_name_that_begins_with_a_dot_keeps_its_real_suffixes),
        cmocka_unit_test(a_level_is_key_equals_value),
        cmocka_unit_test(an_empty_text_is_a_level_of_its_own),
        cmocka_unit_test(an_integer_has_one_spelling),
        cmocka_unit_test(the_outermost_integers_can_be_written_and_read),
        cmocka_unit_test(a_file_is_named_after_its_type_and_all_its_values),
        cmocka_unit_test(the_last_value_is_read_and_what_follows_it_handed_back),
        cmocka_unit_test(a_file_of_something_else_is_not_there),
        cmocka_unit_test(any_values_in_a_files_name_can_be_read_back),
        cmocka_unit_test(a_uuid_is_written_with_hyphens_and_read_with_or_without),
        cmocka_unit_test(what_is_not_a_uuid_is_refused),
    };
    return run_group(tests);
}
