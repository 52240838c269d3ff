// SPDX-License-Identifier: BSD-3-Clause
// Limits and usage in words.
#include "tests/unit/base/harness.h"

#include <errno.h>

#include "base/clock.h"
#include "meta/ledger_text.h"

#define DAY_NS (86400 * NS_PER_S)

// The limits that JSON makes of {1, 2, 3, 4, 5}; -EINVAL leaves them.
static int parsed(const char *json, struct ledger_limits *limits)
{
    cleanup(cleanup_doc_free) struct doc *d = NULL;
    cleanup(cleanup_free) char *why = NULL;
    *limits = (struct ledger_limits){1, 2, 3, 4, 5};
    assert_int_equal(doc_parse_json(text_of(json), &d, NULL), 0);
    int r = ledger_limits_parse(d, limits, &why);
    assert_true((r < 0) == (why != NULL));
    return r;
}

static void limits_are_said_as_people_write_them(void **state)
{
    struct ledger_limits l;
    assert_int_equal(parsed("{\"soft_bytes\": \"40G\", \"hard_bytes\": \"1.5T\", \"soft_files\": \"200k\", "
                            "\"hard_files\": 1000000, \"grace\": \"7d\"}", &l), 0);
    assert_true(l.soft_bytes == 40LL << 30 && l.hard_bytes == 3LL << 39);
    assert_true(l.soft_files == 200000 && l.hard_files == 1000000 && l.grace_ns == 7 * DAY_NS);
}

static void what_is_not_said_stays(void **state)
{
    struct ledger_limits l;
    assert_int_equal(parsed("{\"hard_bytes\": \"1K\"}", &l), 0);
    assert_true(l.soft_bytes == 1 && l.hard_bytes == 1024 && l.soft_files == 3 && l.hard_files == 4 && l.grace_ns == 5);
}

static void none_and_nought_are_no_limit(void **state)
{
    struct ledger_limits l;
    assert_int_equal(parsed("{\"soft_bytes\": \"none\", \"hard_bytes\": 0}", &l), 0);
    assert_true(l.soft_bytes == 0 && l.hard_bytes == 0);
}

static void what_is_no_limit_is_refused_and_changes_nothing(void **state)
{
    static const char *const wrong[] = {
        "{\"hard_bytes\": \"40 G\"}", "{\"hard_bytes\": \"-1\"}", "{\"hard_bytes\": -1}", "{\"hard_bytes\": \"\"}",
        "{\"hard_bytes\": \"1P1\"}", "{\"hard_bytes\": \"8388608P\"}", "{\"hard_bytes\": []}", "{\"hard_bytes\": {}}",
        "{\"hard_bytes\": null, \"soft_bytes\": \"x\"}", "{\"hard_files\": \"1.5k\"}", "{\"hard_files\": \"99999999999999999999\"}",
        "{\"hard_files\": \"9223372036854775807k\"}", "{\"grace\": \"soon\"}", "{\"hard_bytes\": \"1\\u0000G\"}",
        "{\"soft_bytes\": 3}", "{\"soft_files\": 5}", "{\"hard_bytes\": true}"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct ledger_limits l;
        assert_int_equal(parsed(wrong[i], &l), -EINVAL);
        assert_true(l.soft_bytes == 1 && l.hard_bytes == 2 && l.soft_files == 3 && l.hard_files == 4 && l.grace_ns == 5);
    }
}

static int id_of(const char *json, enum ledger_kind kind, uint64_t *ret_id)
{
    cleanup(cleanup_doc_free) struct doc *d = NULL;
    assert_int_equal(doc_parse_json(text_of(json), &d, NULL), 0);
    return ledger_id_parse(d, kind, ret_id);
}

static void ids_are_numbers_or_the_default(void **state)
{
    uint64_t id = 7;
    assert_int_equal(id_of("1001", LEDGER_USER, &id), 0);
    assert_int_equal(id, 1001);
    assert_int_equal(id_of("\"0\"", LEDGER_GROUP, &id), 0);
    assert_int_equal(id, 0);
    assert_int_equal(id_of("\"default\"", LEDGER_USER, &id), 0);
    assert_true(id == LEDGER_DEFAULT);
    assert_int_equal(id_of("\"18446744073709551614\"", LEDGER_TREE, &id), 0);
    assert_true(id == UINT64_MAX - 1);
    static const char *const wrong[] = {"\"alice\"", "-1", "4294967295", "\"\"", "1.5", "null", "[1]"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_int_equal(id_of(wrong[i], LEDGER_USER, &id), -EINVAL);
    assert_int_equal(id_of("0", LEDGER_TREE, &id), -EINVAL);
    assert_int_equal(id_of("\"default\"", LEDGER_TREE, &id), -EINVAL);
    assert_int_equal(id_of("\"18446744073709551615\"", LEDGER_TREE, &id), -EINVAL);
}

static void what_is_told_is_read_as_the_same(void **state)
{
    struct ledger_usage u = {.kind = LEDGER_TREE, .id = UINT64_MAX - 1, .used_bytes = 12, .used_files = 3, .has_own = true,
                             .limits = {1, 2, 3, 4, 1500 * NS_PER_MS}, .path = TEXT("/x")};
    struct ledger_limits l = {0};
    enum ledger_kind kind = LEDGER_USER;
    uint64_t id = 0;
    cleanup(cleanup_doc_free) struct doc *d = ledger_usage_doc(&u, 0);
    assert_int_equal(ledger_limits_parse(d, &l, NULL), 0);
    assert_memory_equal(&l, &u.limits, sizeof(l));
    assert_int_equal(ledger_kind_parse(doc_text(doc_get(d, "kind"), TEXT("")), &kind), 0);
    assert_int_equal(kind, LEDGER_TREE);
    assert_int_equal(ledger_id_parse(doc_get(d, "id"), kind, &id), 0);
    assert_true(id == u.id);
    assert_int_equal(doc_integer(doc_get(d, "used_bytes"), 0), 12);
    assert_true(text_equal(doc_text(doc_get(d, "path"), TEXT("")), TEXT("/x")));
}

static void what_is_left_of_the_time_of_grace_is_told(void **state)
{
    struct ledger_usage u = {.kind = LEDGER_USER, .id = 1, .grace_ns = 10 * NS_PER_S, .bytes_over_unix_ns = 100 * NS_PER_S};
    cleanup(cleanup_doc_free) struct doc *d = ledger_usage_doc(&u, 104 * NS_PER_S);
    assert_int_equal(doc_integer(doc_get(d, "bytes_grace_left"), -1), 6);
    assert_int_equal(doc_kind(doc_get(d, "files_grace_left")), DOC_NULL);
    cleanup(cleanup_doc_free) struct doc *late = ledger_usage_doc(&u, 200 * NS_PER_S);
    assert_int_equal(doc_integer(doc_get(late, "bytes_grace_left"), -1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limits_are_said_as_people_write_them),
        cmocka_unit_test(what_is_not_said_stays),
        cmocka_unit_test(none_and_nought_are_no_limit),
        cmocka_unit_test(what_is_no_limit_is_refused_and_changes_nothing),
        cmocka_unit_test(ids_are_numbers_or_the_default),
        cmocka_unit_test(what_is_told_is_read_as_the_same),
        cmocka_unit_test(what_is_left_of_the_time_of_grace_is_told),
    };
    return run_group(tests);
}
