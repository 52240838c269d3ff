// SPDX-License-Identifier: BSD-3-Clause
// credentials: who an origin is to its server: a key id, a secret, perhaps a token, for a while. Origins' own.
//
//   kind         from                                             renewed
//   given        options, an endpoint's URL, environment          never
//   file         ~/.aws/credentials, ~/.aws/config                when they are refused, if the file says otherwise then
//   process      credential_process of a profile                  before they expire, and when they are refused
//   container    AWS_CONTAINER_CREDENTIALS_*                      likewise
//   instance     the instance's own endpoint (IMDSv2)             likewise
//   web identity AWS_WEB_IDENTITY_TOKEN_FILE, AWS_ROLE_ARN        likewise
//
// What has to be fetched a thread ("credentials") fetches, one for each `struct credentials` of such a kind, which begins
// with the first need and waits otherwise. Any function from any thread; none of those for requests waits.
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/text.h"
#include "cache/fetcher.h"
#include "cache/origin/origin.h"

struct credentials;

// One set of keys; never changed, counted by references.
struct credential_set {
    _Atomic uint32_t references;
    char *key_id;
    char *secret;
    char *token;             // "" for none
    int64_t expires_unix_ns; // INT64_MAX: nobody says
};
struct credential_set *credential_set_new(const char *key_id, const char *secret, const char *token,
                                          int64_t expires_unix_ns);
struct credential_set *credential_set_ref(struct credential_set *set);
void credential_set_unref(struct credential_set *set); // its memory is wiped
define_cleanup(struct credential_set *, credential_set_unref);

// What a profile of the AWS files says beside keys; NULL: nothing. Owned.
struct profile_settings {
    char *region;
    char *endpoint;
    char *ca_bundle;
    char *addressing_style; // of its section s3
};
void profile_settings_release(struct profile_settings *settings);

// Decides where from and reads what is in files; asks nobody. The first of: options (anonymous, keys), keys in the
// endpoint's URL, a profile that was named (options or URI), AWS_ACCESS_KEY_ID, AWS_WEB_IDENTITY_TOKEN_FILE, AWS_PROFILE
// or the profile "default", AWS_CONTAINER_CREDENTIALS_*, the instance. Settings are the profile's (both files), also
// where the keys come from elsewhere.
// -ENOENT: a profile that was named isn't there; -EINVAL: half of a pair of keys, a profile that can't be used.
struct credentials_wish {
    const struct origin_options *options;
    const char *profile;     // of the URI, or NULL
    const char *key_id;      // of the endpoint's URL, or NULL
    const char *secret;
};
int credentials_open(struct fetchers *fetchers, const struct credentials_wish *wish,
                     struct credentials **ret_credentials, struct profile_settings *ret_settings, char **ret_why);
void credentials_close(struct credentials *c); // its thread ends soon; doesn't wait for it (fetchers_free does)
define_cleanup(struct credentials *, credentials_close);

struct credentials_waiter {
    struct fetch *fetch;                          // woken when there is something new
    struct credentials_waiter *next, **previous;  // the credentials'; previous NULL: doesn't wait
};

// 0: *ret_set is the caller's. -EINPROGRESS: w->fetch will be woken; then again. -EACCES: there are none, *ret_why (may
// be NULL): allocated. Anonymous ones are a set with an empty key id.
int credentials_get(struct credentials *c, struct credentials_waiter *w, struct credential_set **ret_set,
                    char **ret_why);
void credentials_cancel(struct credentials *c, struct credentials_waiter *w);
// The server refused this set. true: others may come (they are being fetched, or have come meanwhile): again.
bool credentials_refused(struct credentials *c, const struct credential_set *set);
void credentials_status(struct credentials *c, struct doc *map); // kind, end of the key id, until when
