// SPDX-License-Identifier: BSD-3-Clause
// explain: what a path is, or why it isn't there, told twice: as facts for programs and as sentences
// for people. A door beside repository.h, with its rules: nothing waits, -EINPROGRESS with *want; the
// call is then made again with an empty account.
#pragma once
#include "meta/repository.h"

struct account {
    struct doc *facts;     // a map; its keys are butlerfsctl(8)'s
    struct doc *sentences; // a list
};

// Bytes that are no text are for who prints it.
void account_say(struct account *a, const char *format, ...) __attribute__((format(printf, 2, 3)));

// The dataset that was found, for whoever knows about artifacts.
struct explained {
    bool is_dataset;
    struct uuid uuid;
    bool is_component;       // it is one file of a composite
    struct buffer component; // buffer_release
};

// Of what `name` in the folder is (empty: of the folder); `p` may be another place afterwards. 0 also
// where there is nothing: then the account says why. Who asks could open the folder, so no more is told
// than he could find out there.
int place_explain(struct place *p, struct text name, struct account *a, struct explained *ret_explained,
                  struct want *want);
