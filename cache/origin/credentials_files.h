// SPDX-License-Identifier: BSD-3-Clause
// credentials_files: AWS's files and documents, and the environment, read. Pure. Origins' own.
#pragma once
#include "base/buffer.h"
#include "base/text.h"
#include "cache/origin/credentials.h"

#define INI_BYTES_MAX ((size_t)1 << 20)

// The value of `name` in [section] (`group` not NULL: in the indented lines below "group ="), as botocore reads it: the
// last one that is there. false: there is none. Appends.
bool ini_get(struct text ini, const char *section, const char *group, const char *name, struct buffer *to);
bool ini_has_section(struct text ini, const char *section);

// The value of NAME=value in an environment; NULL: not there, or empty.
const char *environment_get(const char *const *environment, const char *name);

// {"AccessKeyId", "SecretAccessKey", "Token" or "SessionToken", "Expiration"}. -EINVAL with *ret_why (allocated).
int credentials_read_json(struct text json, struct credential_set **ret_set, char **ret_why);
// The same in STS's XML.
int credentials_read_xml(struct text xml, struct credential_set **ret_set, char **ret_why);
// Splits a command as a shell would, with quotes and backslashes but nothing else: NULL-terminated, each and the array
// allocated. -EINVAL: a quote isn't closed, or it is empty.
int command_split(const char *command, char ***ret_words);
void command_free(char **words);
