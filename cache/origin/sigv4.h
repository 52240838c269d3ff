// SPDX-License-Identifier: BSD-3-Clause
// sigv4: AWS's signature, version 4, of requests. Origins' own. Pure but for the secret it is given.
//
// Why not libcurl's (CURLOPT_AWS_SIGV4): in 7.88, which Debian 12 has, it signs the path and the query as they are
// given, without the canonical form (sorted, quoted anew: fixed from 8.0 on, and again in 8.4 and 8.7), can't sign a URL
// instead of a request, and derives its time from a clock that can't be put right.
#pragma once
#include "base/buffer.h"

#define SIGV4_KEY_BYTES 32
#define SIGV4_FIELDS_MAX 24 // with its own

struct sigv4_scope { // who signs, for where, for the day
    struct text key_id;
    struct text token;       // of temporary credentials; else empty
    struct text region;
    struct text service;     // "s3"
    uint8_t key[SIGV4_KEY_BYTES]; // sigv4_derive
};

struct sigv4_request {
    const char *method;
    struct text host;        // as the Host field has it
    struct text path;        // quoted, as it is sent
    struct text query;       // quoted, in order of the quoted names, "a=b&c="; as it is sent, or empty
    struct text payload;     // hex of its SHA-256, or UNSIGNED-PAYLOAD
    struct text fields;      // further ones to sign: "name:value\0" each, lower case, in any order
    int64_t unix_s;
};

#define SIGV4_NO_PAYLOAD TEXT("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
#define SIGV4_UNSIGNED_PAYLOAD TEXT("UNSIGNED-PAYLOAD")

// The key for a day (of unix_s) from the secret: the same all day, so it may be kept.
void sigv4_derive(struct text secret, int64_t unix_s, struct text region, struct text service,
                  uint8_t ret_key[SIGV4_KEY_BYTES]);
// Appends the fields "Authorization", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token" as
// "Name: value\0" each.
void sigv4_sign(const struct sigv4_scope *scope, const struct sigv4_request *request, struct buffer *fields);
// Appends the query of a URL that is good for so long; the request's fields and payload must be empty, and its own query
// of names that come behind "X-Amz-" in order.
void sigv4_presign(const struct sigv4_scope *scope, const struct sigv4_request *request, int64_t expires_s,
                   struct buffer *query);
