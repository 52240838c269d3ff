// SPDX-License-Identifier: BSD-3-Clause
// Where credentials come from, and what is read of the files and documents they stand in.
#include "cache/origin/credentials.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "cache/origin/credentials_files.h"
#include "tests/unit/cache/origin.h"

// ---- ini

static void assert_ini(const char *ini, const char *section, const char *group, const char *name, const char *expected)
{
    BUFFER_CLEANUP value = {0};
    bool is_there = ini_get(text_of(ini), section, group, name, &value);
    assert_int_equal(is_there, expected != NULL);
    if (expected)
        assert_string_equal(value.data, expected);
}

static void values_are_found_in_their_section(void **state)
{
    static const char ini[] = "# a comment\nregion = no\n[default]\nregion=us-west-1\n\n[profile  a b]\r\nregion = eu-west-2 \r\n"
                              "; region = no\ns3 =\n  addressing_style = path\n  region = inner\nempty =\nregion = last\n"
                              "key=with=equals\n[other]\ns3 = flat\n  addressing_style = virtual";
    assert_ini(ini, "default", NULL, "region", "us-west-1");
    assert_ini(ini, "profile a b", NULL, "region", "last");
    assert_ini(ini, "profile a b", "s3", "addressing_style", "path");
    assert_ini(ini, "profile a b", "s3", "region", "inner");
    assert_ini(ini, "profile a b", NULL, "addressing_style", NULL);
    assert_ini(ini, "profile a b", NULL, "empty", NULL);
    assert_ini(ini, "profile a b", NULL, "key", "with=equals");
    assert_ini(ini, "other", "s3", "addressing_style", NULL);
    assert_ini(ini, "missing", NULL, "region", NULL);
    assert_true(ini_has_section(text_of(ini), "profile a b"));
    assert_false(ini_has_section(text_of(ini), "profile a"));
}

static void odd_files_hold_nothing(void **state)
{
    static const char *const odd[] = {"", "[", "[]", "=", "[a\nk=v", "[a]\n=v\n", "\n\n\n", "[a]k=v"};
    for (size_t i = 0; i < sizeof(odd) / sizeof(*odd); i++)
        assert_ini(odd[i], "a", NULL, "k", NULL);
}

// ---- documents

static void a_set_is_read_from_json(void **state)
{
    cleanup(cleanup_credential_set_unref) struct credential_set *set = NULL;
    assert_int_equal(credentials_read_json(TEXT("{\"Version\": 1, \"AccessKeyId\": \"id\", \"SecretAccessKey\": \"sec\","
                                                " \"SessionToken\": \"tok\", \"Expiration\": \"2024-11-11T03:04:05Z\"}"),
                                           &set, NULL),
                     0);
    assert_string_equal(set->key_id, "id");
    assert_string_equal(set->secret, "sec");
    assert_string_equal(set->token, "tok");
    assert_int_equal(set->expires_unix_ns, 1731294245 * NS_PER_S);
    static const char *const none[] = {"", "[]", "{}", "{\"AccessKeyId\": \"id\"}", "{\"AccessKeyId\": 1}",
                                       "{\"AccessKeyId\": \"i\\nd\", \"SecretAccessKey\": \"s\"}"};
    for (size_t i = 0; i < sizeof(none) / sizeof(*none); i++) {
        char *why = NULL;
        struct credential_set *no;
        assert_int_equal(credentials_read_json(text_of(none[i]), &no, &why), -EINVAL);
        assert_non_null(why);
        free(why);
    }
}

static void a_set_is_read_from_stss_xml(void **state)
{
    cleanup(cleanup_credential_set_unref) struct credential_set *set = NULL;
    assert_int_equal(
        credentials_read_xml(TEXT("<R xmlns=\"x\"><A><Credentials><AccessKeyId>id</AccessKeyId><SecretAccessKey>sec"
                                  "</SecretAccessKey><SessionToken>tok</SessionToken><Expiration>2024-11-11T03:04:05Z"
                                  "</Expiration></Credentials></A></R>"),
                             &set, NULL),
        0);
    assert_string_equal(set->secret, "sec");
    assert_int_equal(set->expires_unix_ns, 1731294245 * NS_PER_S);
    struct credential_set *no;
    assert_int_equal(credentials_read_xml(TEXT("<R>"), &no, NULL), -EINVAL);
    assert_int_equal(credentials_read_xml(TEXT("<!DOCTYPE a><R/>"), &no, NULL), -EINVAL);
}

static void commands_are_split_as_a_shell_would(void **state)
{
    char **words;
    assert_int_equal(command_split(" /bin/x  'a b' \"c \\\"d\" e\\ f ''", &words), 0);
    static const char *const expected[] = {"/bin/x", "a b", "c \"d", "e f", ""};
    for (size_t i = 0; i < 5; i++)
        assert_string_equal(words[i], expected[i]);
    assert_null(words[5]);
    command_free(words);
    assert_int_equal(command_split("", &words), -EINVAL);
    assert_int_equal(command_split("a 'b", &words), -EINVAL);
}

// ---- the order

struct world {
    struct fetchers *fetchers;
    char folder[40];
    char home[64];
};

static void write_file(const struct world *w, const char *name, const char *content)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", w->folder, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(content, f);
    fclose(f);
}

static int world_begin(void **state)
{
    struct world *w = new_struct(struct world);
    w->fetchers = some_fetchers();
    strcpy(w->folder, "/tmp/butlerfs-credentials-XXXXXX");
    assert_non_null(mkdtemp(w->folder));
    snprintf(w->home, sizeof(w->home), "HOME=%s", w->folder);
    char aws[80];
    snprintf(aws, sizeof(aws), "%s/.aws", w->folder);
    assert_int_equal(mkdir(aws, 0700), 0);
    write_file(w, ".aws/credentials", "[default]\naws_access_key_id=of-default\naws_secret_access_key=s\n"
                                      "[named]\naws_access_key_id=of-named\naws_secret_access_key=s\naws_session_token=t\n");
    write_file(w, ".aws/config", "[default]\nregion=eu-west-1\n[profile named]\nregion=eu-west-2\nendpoint_url=http://h:1\n"
                                 "[profile useless]\nregion=x\n[profile asked]\n"
                                 "credential_process=/bin/sh -c 'cat \"$KEYS\"'\n");
    *state = w;
    return 0;
}

static int world_end(void **state)
{
    struct world *w = *state;
    char command[80];
    fetchers_free(w->fetchers);
    snprintf(command, sizeof(command), "rm -r %s", w->folder);
    assert_int_equal(system(command), 0);
    free(w);
    return 0;
}

// The id of the key that is chosen (to be freed), "" for anonymous; or NULL with the error.
static char *chosen(struct world *w, const struct credentials_wish *wish, int *ret_error)
{
    struct profile_settings settings = {0};
    cleanup(cleanup_credentials_close) struct credentials *c = NULL;
    cleanup(cleanup_credential_set_unref) struct credential_set *set = NULL;
    cleanup(cleanup_free) char *why = NULL;
    *ret_error = credentials_open(w->fetchers, wish, &c, &settings, &why);
    profile_settings_release(&settings);
    if (*ret_error)
        return NULL;
    do
        *ret_error = credentials_get(c, NULL, &set, NULL);
    while (*ret_error == -EINPROGRESS && usleep(1000) == 0);
    return *ret_error ? NULL : memory_copy(set->key_id, strlen(set->key_id));
}

static void assert_chosen(struct world *w, const struct origin_options *options, const char *profile,
                          const char *expected, int error)
{
    int got;
    cleanup(cleanup_free) char *id = chosen(w, &(struct credentials_wish){.options = options, .profile = profile}, &got);
    assert_int_equal(got, error);
    if (expected)
        assert_string_equal(id, expected);
    else
        assert_null(id);
}

static void what_is_said_more_plainly_goes_first(void **state)
{
    struct world *w = *state;
    const char *none[] = {"AWS_EC2_METADATA_DISABLED=true", NULL};
    const char *home[] = {w->home, "AWS_EC2_METADATA_DISABLED=true", NULL};
    const char *keys[] = {w->home, "AWS_ACCESS_KEY_ID=of-environment", "AWS_SECRET_ACCESS_KEY=s", NULL};
    const char *named[] = {w->home, "AWS_PROFILE=named", NULL};
    const char *missing[] = {w->home, "AWS_PROFILE=missing", NULL};
    assert_chosen(w, &(struct origin_options){.environment = none}, NULL, NULL, -EACCES);
    assert_chosen(w, &(struct origin_options){0}, NULL, NULL, -EACCES);
    assert_chosen(w, &(struct origin_options){.environment = home}, NULL, "of-default", 0);
    assert_chosen(w, &(struct origin_options){.environment = named}, NULL, "of-named", 0);
    assert_chosen(w, &(struct origin_options){.environment = missing}, NULL, NULL, -ENOENT);
    assert_chosen(w, &(struct origin_options){.environment = keys}, NULL, "of-environment", 0);
    assert_chosen(w, &(struct origin_options){.environment = keys}, "named", "of-named", 0);
    assert_chosen(w, &(struct origin_options){.environment = keys, .profile = "named"}, NULL, "of-named", 0);
    assert_chosen(w, &(struct origin_options){.environment = keys}, "missing", NULL, -ENOENT);
    assert_chosen(w, &(struct origin_options){.environment = keys}, "useless", NULL, -EINVAL);
    assert_chosen(w, &(struct origin_options){.environment = keys, .access_key_id = "of-options", .secret_access_key = "s"},
                  "named", "of-options", 0);
    assert_chosen(w, &(struct origin_options){.environment = keys, .access_key_id = "half"}, NULL, NULL, -EINVAL);
    assert_chosen(w, &(struct origin_options){.environment = keys, .is_anonymous = true}, NULL, "", 0);
}

static void a_profile_says_region_and_endpoint_too(void **state)
{
    struct world *w = *state;
    const char *home[] = {w->home, NULL};
    const struct origin_options options = {.environment = home};
    struct profile_settings settings = {0};
    cleanup(cleanup_credentials_close) struct credentials *c = NULL;
    const struct credentials_wish wish = {.options = &options, .profile = "named"};
    assert_int_equal(credentials_open(w->fetchers, &wish, &c, &settings, NULL), 0);
    assert_string_equal(settings.region, "eu-west-2");
    assert_string_equal(settings.endpoint, "http://h:1");
    profile_settings_release(&settings);
}

static void a_program_gives_keys_and_is_asked_again_when_they_are_refused(void **state)
{
    struct world *w = *state;
    char keys[80];
    snprintf(keys, sizeof(keys), "KEYS=%s/keys", w->folder);
    const char *environment[] = {w->home, keys, "PATH=/bin:/usr/bin", NULL};
    const struct origin_options options = {.environment = environment};
    const struct credentials_wish wish = {.options = &options, .profile = "asked"};
    struct profile_settings settings = {0};
    cleanup(cleanup_credentials_close) struct credentials *c = NULL;
    struct credential_set *set = NULL, *next = NULL;
    assert_int_equal(credentials_open(w->fetchers, &wish, &c, &settings, NULL), 0);
    profile_settings_release(&settings);
    write_file(w, "keys", "{\"Version\":1,\"AccessKeyId\":\"first\",\"SecretAccessKey\":\"s\"}");
    int error;
    while ((error = credentials_get(c, NULL, &set, NULL)) == -EINPROGRESS)
        usleep(1000);
    assert_int_equal(error, 0);
    assert_string_equal(set->key_id, "first");
    write_file(w, "keys", "{\"Version\":1,\"AccessKeyId\":\"second\",\"SecretAccessKey\":\"s\"}");
    assert_true(credentials_refused(c, set));
    while ((error = credentials_get(c, NULL, &next, NULL)) == -EINPROGRESS)
        usleep(1000);
    assert_string_equal(next->key_id, "second");
    assert_true(credentials_refused(c, set)); // others have come meanwhile
    credential_set_unref(set);
    credential_set_unref(next);
}

static void a_program_named_by_a_file_that_others_can_write_is_not_run(void **state)
{
    struct world *w = *state;
    const char *environment[] = {w->home, "KEYS=/nowhere", "PATH=/bin:/usr/bin", NULL};
    const struct origin_options options = {.environment = environment};
    const struct credentials_wish wish = {.options = &options, .profile = "asked"};
    struct profile_settings settings = {0};
    struct credentials *c = NULL;
    char path[80];
    snprintf(path, sizeof(path), "%s/.aws/config", w->folder);
    assert_int_equal(chmod(path, 0666), 0);
    cleanup(cleanup_free) char *why = NULL;
    assert_int_equal(credentials_open(w->fetchers, &wish, &c, &settings, &why), -EINVAL);
    profile_settings_release(&settings);
    assert_non_null(strstr(why, "credential_process that may be run"));
}

static void a_program_that_fails_is_not_asked_again_at_once(void **state)
{
    struct world *w = *state;
    const char *environment[] = {w->home, "KEYS=/nowhere", "PATH=/bin:/usr/bin", NULL};
    const struct origin_options options = {.environment = environment};
    const struct credentials_wish wish = {.options = &options, .profile = "asked"};
    struct profile_settings settings = {0};
    cleanup(cleanup_credentials_close) struct credentials *c = NULL;
    struct credential_set *set;
    assert_int_equal(credentials_open(w->fetchers, &wish, &c, &settings, NULL), 0);
    profile_settings_release(&settings);
    int error;
    char *why = NULL;
    while ((error = credentials_get(c, NULL, &set, &why)) == -EINPROGRESS)
        usleep(1000);
    assert_int_equal(error, -EACCES);
    assert_non_null(strstr(why, "/bin/sh fails"));
    free(why);
    assert_int_equal(credentials_get(c, NULL, &set, NULL), -EACCES); // not -EINPROGRESS
}

// Of a program that gives `keys` and counts how often it was asked.
static struct credentials *counted(struct world *w)
{
    char keys[80], count[80];
    snprintf(keys, sizeof(keys), "KEYS=%s/keys", w->folder);
    snprintf(count, sizeof(count), "COUNT=%s/count", w->folder);
    write_file(w, "count", "");
    write_file(w, ".aws/config",
               "[profile asked]\ncredential_process=/bin/sh -c 'echo >>\"$COUNT\"; cat \"$KEYS\"'\n");
    const char *environment[] = {w->home, keys, count, "PATH=/bin:/usr/bin", NULL};
    const struct origin_options options = {.environment = environment};
    struct profile_settings settings = {0};
    struct credentials *c = NULL;
    assert_int_equal(credentials_open(w->fetchers, &(struct credentials_wish){.options = &options, .profile = "asked"},
                                      &c, &settings, NULL),
                     0);
    profile_settings_release(&settings);
    return c;
}

static int64_t times_asked(struct world *w)
{
    char path[80];
    struct stat st;
    snprintf(path, sizeof(path), "%s/count", w->folder);
    assert_int_equal(stat(path, &st), 0);
    return st.st_size;
}

static void keys_expire_in(struct world *w, const char *id, int64_t seconds)
{
    char text[256], when[CLOCK_ISO_BYTES];
    clock_format_iso(clock_unix_ns() + seconds * NS_PER_S, when);
    snprintf(text, sizeof(text), "{\"Version\":1,\"AccessKeyId\":\"%s\",\"SecretAccessKey\":\"s\",\"Expiration\":\"%s\"}",
             id, when);
    write_file(w, "keys", text);
}

static struct credential_set *got(struct credentials *c)
{
    struct credential_set *set = NULL;
    int error;
    while ((error = credentials_get(c, NULL, &set, NULL)) == -EINPROGRESS)
        usleep(1000);
    assert_int_equal(error, 0);
    return set;
}

static void who_gives_keys_that_soon_expire_is_not_asked_again_and_again(void **state)
{
    struct world *w = *state;
    cleanup(cleanup_credentials_close) struct credentials *c = counted(w);
    keys_expire_in(w, "first", 200);
    for (int i = 0; i < 50; i++, usleep(2000))
        credential_set_unref(got(c));
    assert_in_range(times_asked(w), 1, 2);
}

static void keys_in_their_last_seconds_are_used_and_expired_ones_are_not(void **state)
{
    struct world *w = *state;
    cleanup(cleanup_credentials_close) struct credentials *c = counted(w);
    keys_expire_in(w, "first", 12);
    for (int i = 0; i < 20; i++, usleep(2000))
        credential_set_unref(got(c));
    assert_in_range(times_asked(w), 1, 2);
    cleanup(cleanup_credentials_close) struct credentials *late = counted(w);
    keys_expire_in(w, "first", -1);
    struct credential_set *set;
    cleanup(cleanup_free) char *why = NULL;
    while (credentials_get(late, NULL, &set, NULL) == -EINPROGRESS)
        usleep(1000);
    assert_int_equal(credentials_get(late, NULL, &set, &why), -EACCES);
    assert_non_null(strstr(why, "have expired"));
    assert_in_range(times_asked(w), 1, 2);
}

static void the_same_keys_after_a_refusal_are_known_to_be_the_same(void **state)
{
    struct world *w = *state;
    cleanup(cleanup_credentials_close) struct credentials *c = counted(w);
    keys_expire_in(w, "first", 7200);
    cleanup(cleanup_credential_set_unref) struct credential_set *first = got(c);
    assert_true(credentials_refused(c, first));
    cleanup(cleanup_credential_set_unref) struct credential_set *second = got(c);
    assert_ptr_equal(first, second);
    assert_false(credentials_refused(c, second)); // not asked again at once
    assert_int_equal(times_asked(w), 2);
}

static void keys_in_a_file_that_changed_are_taken_when_the_old_ones_are_refused(void **state)
{
    struct world *w = *state;
    const char *home[] = {w->home, NULL};
    const struct origin_options options = {.environment = home};
    const struct credentials_wish wish = {.options = &options};
    struct profile_settings settings = {0};
    cleanup(cleanup_credentials_close) struct credentials *c = NULL;
    cleanup(cleanup_credential_set_unref) struct credential_set *set = NULL;
    cleanup(cleanup_credential_set_unref) struct credential_set *next = NULL;
    assert_int_equal(credentials_open(w->fetchers, &wish, &c, &settings, NULL), 0);
    profile_settings_release(&settings);
    assert_int_equal(credentials_get(c, NULL, &set, NULL), 0);
    assert_false(credentials_refused(c, set));
    write_file(w, ".aws/credentials", "[default]\naws_access_key_id=of-default\naws_secret_access_key=other\n");
    assert_true(credentials_refused(c, set));
    assert_int_equal(credentials_get(c, NULL, &next, NULL), 0);
    assert_string_equal(next->secret, "other");
}

static void keys_are_only_asked_of_this_machine_or_over_tls(void **state)
{
    struct world *w = *state;
    const char *far[] = {"AWS_CONTAINER_CREDENTIALS_FULL_URI=http://example.com/keys", "AWS_EC2_METADATA_DISABLED=true", NULL};
    assert_chosen(w, &(struct origin_options){.environment = far}, NULL, NULL, -EACCES);
}

#define world_test(f) cmocka_unit_test_setup_teardown(f, world_begin, world_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_found_in_their_section),
        cmocka_unit_test(odd_files_hold_nothing),
        cmocka_unit_test(a_set_is_read_from_json),
        cmocka_unit_test(a_set_is_read_from_stss_xml),
        cmocka_unit_test(commands_are_split_as_a_shell_would),
        world_test(what_is_said_more_plainly_goes_first),
        world_test(a_profile_says_region_and_endpoint_too),
        world_test(a_program_gives_keys_and_is_asked_again_when_they_are_refused),
        world_test(a_program_named_by_a_file_that_others_can_write_is_not_run),
        world_test(a_program_that_fails_is_not_asked_again_at_once),
        world_test(who_gives_keys_that_soon_expire_is_not_asked_again_and_again),
        world_test(keys_in_their_last_seconds_are_used_and_expired_ones_are_not),
        world_test(the_same_keys_after_a_refusal_are_known_to_be_the_same),
        world_test(keys_in_a_file_that_changed_are_taken_when_the_old_ones_are_refused),
        world_test(keys_are_only_asked_of_this_machine_or_over_tls),
    };
    return run_group(tests);
}
