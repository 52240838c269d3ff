// SPDX-License-Identifier: BSD-3-Clause
// URLs of PostgreSQL databases, and who may log in there. What the Butler client says of each was asked of
// SQLAlchemy's make_url and of lsst.utils.db_auth.
#include "tests/unit/base/harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "meta/database_url.h"

static struct database_url parsed(const char *text)
{
    struct database_url u;
    char *why = NULL;
    assert_int_equal(database_url_parse(text_of(text), &u, &why), 0);
    assert_null(why);
    return u;
}

static void assert_text(const char *has, const char *wanted)
{
    if (!wanted)
        assert_null(has);
    else
        assert_non_null(has);
    if (wanted)
        assert_string_equal(has, wanted);
}

static void assert_parts(const char *text, const char *user, const char *password, const char *host,
                         const char *port, const char *database)
{
    struct database_url u = parsed(text);
    assert_text(u.user, user);
    assert_text(u.password, password);
    assert_text(u.host, host);
    assert_text(u.port, port);
    assert_text(u.database, database);
    database_url_release(&u);
}

static void each_part_may_be_left_out(void **state)
{
    assert_parts("postgresql://", NULL, NULL, NULL, NULL, NULL);
    assert_parts("postgresql:///d", NULL, NULL, NULL, NULL, "d");
    assert_parts("postgresql://h", NULL, NULL, "h", NULL, NULL);
    assert_parts("postgresql+psycopg2://me@h.example:5432/lsst", "me", NULL, "h.example", "5432", "lsst");
    assert_parts("postgresql://me:pw@/d", "me", "pw", NULL, NULL, "d");
    assert_parts("postgresql://me:@h/d", "me", "", "h", NULL, "d");
    assert_parts("postgresql://h/d?sslmode=require", NULL, NULL, "h", NULL, "d");
}

static void user_password_and_database_are_decoded_and_an_address_may_stand_in_brackets(void **state)
{
    assert_parts("postgresql://u%40x:p%2F%3A%25@[::1]:6543/d%20b", "u@x", "p/:%", "::1", "6543", "d b");
    assert_parts("postgresql://u:p:q@h/d", "u", "p:q", "h", NULL, "d");
}

static void a_query_holds_what_libpq_is_told(void **state)
{
    struct database_url u = parsed("postgresql://h/d?sslmode=verify-full&sslrootcert=%2Fetc%2Fca.pem&application_name=a+b");
    assert_int_equal(u.option_count, 3);
    assert_string_equal(u.options[0].key, "sslmode");
    assert_string_equal(u.options[0].value, "verify-full");
    assert_string_equal(u.options[1].value, "/etc/ca.pem");
    assert_string_equal(u.options[2].value, "a b");
    struct database_url copy;
    database_url_copy(&u, &copy);
    database_url_release(&u);
    assert_string_equal(copy.options[2].key, "application_name");
    assert_string_equal(copy.database, "d");
    database_url_release(&copy);
}

static void options_that_name_files_or_another_host_are_told_from_harmless_ones(void **state)
{
    static const struct {
        const char *url, *overreach;
    } all[] = {
        {"postgresql://h/d", NULL},
        {"postgresql://h/d?sslmode=verify-full&application_name=a&options=-cgeqo%3Doff", NULL},
        {"postgresql://?service=s&application_name=a", NULL},
        {"postgresql://me@/d?service=s", NULL},
        {"postgresql://h/d?service=s", "service"},
        {"postgresql://:5433/d?service=s", "service"},
        {"postgresql://?service=s&host=h", "service"},
        {"postgresql://?port=5433&service=s", "service"},
        {"postgresql://?service=s&sslmode=disable", "service"},
        {"postgresql://?service=s&require_auth=password", "service"},
        {"postgresql://h/d?sslmode=require&hostaddr=10.0.0.1", "hostaddr"},
        {"postgresql://h/d?passfile=/root/.pgpass", "passfile"},
        {"postgresql://h/d?sslrootcert=/etc/ca.pem", "sslrootcert"},
        {"postgresql://h/d?sslkeylogfile=/etc/shadow", "sslkeylogfile"},
        {"postgresql://h/d?something=new", "something"},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct database_url u = parsed(all[i].url);
        const char *found = database_url_overreach(&u);
        if (all[i].overreach)
            assert_string_equal(found, all[i].overreach);
        else
            assert_null(found);
        database_url_release(&u);
    }
}

static void what_is_no_such_url_is_refused_without_its_password(void **state)
{
    static const char *const wrong[][2] = {
        {"postgres://u:secret@h/d", "not a postgresql:// URL"}, {"postgresql", "not a postgresql:// URL"},
        {"postgresql://u:secret@h:12x/d", "no number"},         {"postgresql://u:secret@[::1/d", "no ]"},
        {"postgresql://u:secret%00@h/d", "NUL"},                {"postgresql://[::1]x/d", "after its ]"},
        {"postgresql://h/d?a=%00", "NUL"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct database_url u;
        char *why = NULL;
        assert_int_equal(database_url_parse(text_of(wrong[i][0]), &u, &why), -EINVAL);
        assert_non_null(strstr(why, wrong[i][1]));
        assert_null(strstr(why, "secret"));
        free(why);
    }
}

static void people_are_told_of_a_database_without_its_login(void **state)
{
    BUFFER_CLEANUP line = {0};
    struct database_url u = parsed("postgresql://me:secret@h:5/d?service=x");
    database_url_describe(&u, &line);
    assert_string_equal(line.data, "postgresql://h:5/d");
    database_url_release(&u);
    buffer_clear(&line);
    u = parsed("postgresql://?service=dp1");
    database_url_describe(&u, &line);
    assert_string_equal(line.data, "postgresql://(service dp1)");
    database_url_release(&u);
}

// ---------------------------------------------------------------------------------------------

// "user password" after looking `url` up in a list.
static void assert_login(const char *list, const char *url, const char *wanted)
{
    BUFFER_CLEANUP got = {0};
    struct database_url u = parsed(url);
    char *why = NULL;
    struct database_login login = {.text = list};
    assert_int_equal(database_login_find(&login, &u, &why), 0);
    buffer_format(&got, "%s %s", u.user ? u.user : "-", u.password ? u.password : "-");
    assert_string_equal(got.data, wanted);
    database_url_release(&u);
}

#define ENTRY(url, user, password) \
    "{\"url\": \"" url "\", \"username\": \"" user "\", \"password\": \"" password "\"}"

static void the_first_entry_that_matches_counts(void **state)
{
    const char *list = "[" ENTRY("sqlite://h/d", "s", "0") "," ENTRY("postgresql://other.example", "o", "1") ","
                       ENTRY("postgresql://*.example:5433", "p", "2") "," ENTRY("postgresql://*.example/dp[0-9]", "g", "3") ","
                       ENTRY("postgresql://him@*.example", "him", "4") "," ENTRY("postgresql://*.example", "a", "5") "]";
    assert_login(list, "postgresql+psycopg2://h.example/dp1", "g 3");
    assert_login(list, "postgresql://h.example:5433/dp1", "p 2");
    assert_login(list, "postgresql://h.example:5432/dp1", "g 3"); // the entry names no port
    assert_login(list, "postgresql://h.example/dp12", "a 5");
    assert_login(list, "postgresql://h.example/dp10", "a 5");
    assert_login(list, "postgresql://him@h.example/dp10", "him 4");
    assert_login(list, "postgresql://me@h.example/dp10", "me 5");
    assert_login(list, "postgresql://me:mine@h.example/dp10", "me 5"); // the client's way
    assert_login(list, "postgresql://h.elsewhere/dp10", "- -");
    assert_login(list, "postgresql://me:mine@h.elsewhere/dp10", "me mine");
    assert_login(list, "postgresql://h.example", "- -"); // no database: it isn't looked up
    assert_login(list, "postgresql:///dp10", "- -");
}

static void assert_refused(const struct database_login *login, int error, const char *words)
{
    struct database_url u = parsed("postgresql://h/d");
    char *why = NULL;
    assert_int_equal(database_login_find(login, &u, &why), error);
    assert_non_null(why);
    assert_non_null(strstr(why, words));
    assert_null(strstr(why, "secret"));
    assert_null(u.password);
    free(why);
    database_url_release(&u);
}

static void a_list_that_is_none_is_refused_without_its_passwords(void **state)
{
    static const char *const wrong[][2] = {
        {"{\"url\": \"secret\"}", "isn't a list"},
        {"[{\"password\": \"secret\"}]", "its entry 1 has no `url`"},
        {"[{\"url\": \"h\", \"password\": \"secret\"}]", "names no dialect"},
        {"[{\"url\": \"postgresql:///d\", \"password\": \"secret\"}]", "names no host"},
        {"[{\"url\": \"postgresql://h/d\"}]", "has no `password`"},
        {"[secret", "is no JSON"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_refused(&(struct database_login){.text = wrong[i][0]}, -EINVAL, wrong[i][1]);
}

static void a_file_that_others_may_read_is_refused_and_one_that_is_not_there_is_none(void **state)
{
    char path[] = "/tmp/butlerfs-login-XXXXXX";
    int fd = mkstemp(path);
    FILE *f = fdopen(fd, "w");
    fprintf(f, "- url: postgresql://h\n  username: u\n  password: secret\n");
    fclose(f);
    struct database_login login = {.file = path};
    struct database_url u = parsed("postgresql://h/d");
    char *why = NULL;
    assert_int_equal(database_login_find(&login, &u, &why), 0);
    assert_string_equal(u.password, "secret");
    database_url_release(&u);
    assert_int_equal(chmod(path, 0640), 0);
    assert_refused(&login, -EPERM, "others may read it (mode 640)");
    assert_int_equal(unlink(path), 0);
    u = parsed("postgresql://h/d");
    assert_int_equal(database_login_find(&login, &u, &why), 0);
    assert_null(u.password);
    database_url_release(&u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_part_may_be_left_out),
        cmocka_unit_test(user_password_and_database_are_decoded_and_an_address_may_stand_in_brackets),
        cmocka_unit_test(a_query_holds_what_libpq_is_told),
        cmocka_unit_test(options_that_name_files_or_another_host_are_told_from_harmless_ones),
        cmocka_unit_test(what_is_no_such_url_is_refused_without_its_password),
        cmocka_unit_test(people_are_told_of_a_database_without_its_login),
        cmocka_unit_test(the_first_entry_that_matches_counts),
        cmocka_unit_test(a_list_that_is_none_is_refused_without_its_passwords),
        cmocka_unit_test(a_file_that_others_may_read_is_refused_and_one_that_is_not_there_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
